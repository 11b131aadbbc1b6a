/* The ring of io_uring as the log uses it, with a kernel that does what it likes.
 *
 * The functions of liburing that are not inline are this file's: a ring in memory whose requests are done on the real
 * file, or cut short, refused, interrupted, answered in the other order.  The rule: a flush answers 0 only when its
 * bytes are all in the file and the sync behind them was asked for and said 0; else the log is broken.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model.h"
#include "wal/wal_i.h"

#define ENTRIES 4u

/* What the kernel does with the ring; one flush at a time, from 'after' more of them on. */
struct plan {
	int init_rc[2];       /* of the probe, of the ring itself */
	unsigned room;        /* entries of the queue; 0: ENTRIES */
	int submit_rc;        /* instead of submitting */
	bool submit_part;     /* 'submit_rc' of the requests are taken */
	bool submit_twice;    /* the submission is done and says -EINTR */
	unsigned wait_eintr;  /* so often a wait is interrupted */
	int wait_rc;          /* of the first wait that is not */
	int write_res;        /* the write fails so, and does nothing */
	unsigned write_short; /* so many bytes are missing */
	int sync_res;
	bool sync_anyway; /* also behind a write that was not whole */
	bool sync_first;  /* the answers come the other way round */
	unsigned after;
};

static struct plan plan;

static struct {
	unsigned sq_head, sq_tail, cq_head, cq_tail;
	struct io_uring_sqe sqes[ENTRIES];
	struct io_uring_cqe cqes[ENTRIES];
	unsigned done; /* answers that nobody has waited for yet */
	unsigned inits, exits;
	uint64_t synced; /* syncs that said 0 */
} k;

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	int rc = plan.init_rc[k.inits > 0];

	(void)entries;
	(void)flags;
	if (rc)
		return rc;
	k.inits++;
	memset(ring, 0, sizeof *ring);
	k.sq_head = k.cq_head = k.cq_tail = k.done = 0;
	ring->sq.khead = &k.sq_head;
	ring->sq.ktail = &k.sq_tail;
	ring->sq.sqes = k.sqes;
	ring->sq.ring_entries = ENTRIES;
	ring->sq.ring_mask = ENTRIES - 1;
	ring->cq.khead = &k.cq_head;
	ring->cq.ktail = &k.cq_tail;
	ring->cq.cqes = k.cqes;
	ring->cq.ring_entries = ENTRIES;
	ring->cq.ring_mask = ENTRIES - 1;
	return 0;
}

void io_uring_queue_exit(struct io_uring *ring)
{
	(void)ring;
	k.exits++;
}

static int do_write(const struct io_uring_sqe *s)
{
	size_t n = s->len;

	if (plan.after == 0 && plan.write_res)
		return plan.write_res;
	if (plan.after == 0)
		n -= plan.write_short;
	/* Of whole sectors, as the file may be open for direct writes. */
	assert_int_equal(pwrite(s->fd, (const void *)(uintptr_t)s->addr, n, (off_t)s->off), n);
	return (int)n;
}

static void complete(unsigned at, uint64_t data, int res)
{
	k.cqes[(k.cq_tail + at) % ENTRIES] = (struct io_uring_cqe){.user_data = data, .res = res};
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
	unsigned n = ring->sq.sqe_tail - k.sq_head;
	const struct io_uring_sqe *w = &k.sqes[k.sq_head % ENTRIES];
	const struct io_uring_sqe *f = &k.sqes[(k.sq_head + 1) % ENTRIES];

	assert_int_equal(wait_nr, 2);
	assert_int_equal(n, 2);
	/* The sync is behind the write, and the link makes it wait. */
	assert_int_equal(w->opcode, IORING_OP_WRITE);
	assert_true(w->flags & IOSQE_IO_LINK);
	assert_int_equal(f->opcode, IORING_OP_FSYNC);
	assert_int_equal(f->fsync_flags, IORING_FSYNC_DATASYNC);
	assert_int_equal(f->fd, w->fd);
	if (plan.after == 0 && plan.submit_rc && !plan.submit_part)
		return plan.submit_rc;
	if (plan.after == 0 && plan.submit_part) {
		k.sq_head += (unsigned)plan.submit_rc;
		k.done = (unsigned)plan.submit_rc;
		if (k.done)
			complete(0, w->user_data, do_write(w));
		return plan.submit_rc;
	}
	k.sq_head += 2;
	int res = do_write(w);
	int sync = plan.after == 0 ? plan.sync_res : 0;
	if ((unsigned)res != w->len && !(plan.after == 0 && plan.sync_anyway))
		sync = -ECANCELED;
	if (sync == 0) {
		assert_int_equal(fdatasync(f->fd), 0);
		k.synced++;
	}
	complete(plan.sync_first, w->user_data, res);
	complete(!plan.sync_first, f->user_data, sync);
	k.done = 2;
	return plan.after == 0 && plan.submit_twice ? -EINTR : 2;
}

int __io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **cqe_ptr, unsigned submit,
	unsigned wait_nr, sigset_t *sigmask)
{
	(void)submit;
	(void)wait_nr;
	(void)sigmask;
	*cqe_ptr = NULL;
	if (plan.after == 0 && plan.wait_eintr) {
		plan.wait_eintr--;
		return -EINTR;
	}
	if (plan.after == 0 && plan.wait_rc)
		return plan.wait_rc;
	k.cq_tail += k.done;
	k.done = 0;
	if (k.cq_head == k.cq_tail)
		fail_msg("waits for an answer that will never come");
	*cqe_ptr = &ring->cq.cqes[k.cq_head % ENTRIES];
	return 0;
}

/* --- a log on it ------------------------------------------------------------------------- */
static char dir[256];

static const struct wal_opts opts = {
	.segment_size_bytes = WAL_SEG_MIN + 16 * WAL_BLOCK, .node_id = 3};

static int each_unlink(void *arg, const char *name)
{
	char path[512];

	(void)arg;
	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	return unlink(path);
}

static int fresh(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	(void)snprintf(dir, sizeof dir, "%s/vecfs-wal-XXXXXX", tmp ? tmp : "/tmp");
	plan = (struct plan){0};
	memset(&k, 0, sizeof k);
	return mkdtemp(dir) ? 0 : -1;
}

static int gone(void **state)
{
	(void)state;
	return disk_real()->ops->list(disk_real(), dir, each_unlink, NULL) || rmdir(dir);
}

static int open_log(enum wal_backend backend, struct wal **ret)
{
	struct wal_opts o = opts;
	struct vx_err err = VX_ERR_INIT;

	o.backend = backend;
	*ret = NULL;
	return wal_open(disk_real(), dir, &o, ret, &err);
}

static int flush_one(struct wal *w, uint64_t index)
{
	struct model_rec r = {
		.rec = {.group = 1, .type = WAL_ENTRY, .index = index, .len = 6000}, .seed = index};

	if (plan.after)
		plan.after--;
	assert_int_equal(model_stage(w, &r), 0);
	return wal_flush(w);
}

static size_t entries(void)
{
	struct wal_group_state st;
	struct wal *w;

	assert_int_equal(open_log(WAL_PWRITE, &w), 0);
	assert_int_equal(wal_group_load(w, 1, &st, NULL), 0);
	size_t n = st.n_entries;
	wal_group_state_release(&st);
	wal_close(w);
	return n;
}

static const char *backend_of(struct wal *w)
{
	struct wal_stats st;

	wal_stat(w, &st);
	return st.backend;
}

/* The third flush goes as 'p' says; 'ok': it is durable all the same. */
static void third_flush(struct plan p, bool ok)
{
	void *state = NULL;
	struct wal_stats st;
	struct wal *w;

	assert_int_equal(fresh(&state), 0);
	plan = p;
	plan.after = 3;
	assert_int_equal(open_log(WAL_URING, &w), 0);
	assert_int_equal(flush_one(w, 1), 0);
	assert_int_equal(flush_one(w, 2), 0);
	assert_string_equal(backend_of(w), "io_uring");
	assert_int_equal(k.synced, 2);
	if (p.room)
		((struct io_uring *)w->ring)->sq.ring_entries = p.room - 1;
	uint64_t synced = k.synced;
	int rc = flush_one(w, 3);
	wal_stat(w, &st);
	assert_int_equal(rc, ok ? 0 : -EIO);
	assert_int_equal(st.broken, !ok);
	assert_int_equal(k.synced, synced + (ok || p.wait_rc || p.sync_anyway));
	if (!ok)
		assert_int_equal(wal_flush(w), -EIO);
	/* And it goes on, or does not. */
	plan.after = UINT32_MAX;
	struct wal_rec next = {.group = 1, .type = WAL_ENTRY, .index = 4};
	assert_int_equal(wal_check(w, &next), ok ? 0 : -EIO);
	if (ok)
		assert_int_equal(flush_one(w, 4), 0);
	wal_close(w);
	assert_int_equal(k.exits, 2);
	size_t n = entries();
	assert_in_range(n, ok ? 4 : 2, ok ? 4 : 3);
	assert_int_equal(gone(&state), 0);
}

static void what_is_not_whole_and_synced_breaks_the_log(void **state)
{
	(void)state;
	third_flush((struct plan){.write_short = 512}, false);
	third_flush((struct plan){.write_short = WAL_BLOCK}, false);
	third_flush((struct plan){.write_short = 2 * WAL_BLOCK}, false);
	third_flush((struct plan){.write_short = 512, .sync_first = true}, false);
	third_flush((struct plan){.write_short = 512, .sync_anyway = true}, false);
	third_flush((struct plan){.write_res = -EIO, .sync_anyway = true}, false);
	static const int errs[] = {-EIO, -ENOSPC, -EINVAL, -EAGAIN, -EINTR, -ECANCELED};
	for (unsigned i = 0; i < VX_ARRAY_SIZE(errs); i++) {
		for (unsigned first = 0; first < 2; first++) {
			third_flush(
				(struct plan){.write_res = errs[i], .sync_first = first}, false);
			third_flush((struct plan){.sync_res = errs[i], .sync_first = first}, false);
		}
	}
	/* The requests may or may not be done; nobody knows. */
	third_flush((struct plan){.submit_rc = -EAGAIN}, false);
	third_flush((struct plan){.submit_rc = -EBUSY}, false);
	third_flush((struct plan){.wait_rc = -EAGAIN}, false);
	third_flush((struct plan){.wait_rc = -EBADF}, false);
	/* Only the write is taken, or nothing is: nobody may wait for the sync. */
	third_flush((struct plan){.submit_part = true, .submit_rc = 1}, false);
	third_flush((struct plan){.submit_part = true, .submit_rc = 1, .write_res = -EIO}, false);
	third_flush((struct plan){.submit_part = true, .submit_rc = 0}, false);
	/* No place in the queue for the first request, for the second. */
	third_flush((struct plan){.room = 1}, false);
	third_flush((struct plan){.room = 2}, false);
}

/* A signal does not; nor does the order of the answers. */
static void interrupted_waits_go_on(void **state)
{
	(void)state;
	third_flush((struct plan){.sync_first = true}, true);
	third_flush((struct plan){.submit_twice = true}, true);
	third_flush((struct plan){.wait_eintr = 3}, true);
	third_flush((struct plan){.submit_twice = true, .wait_eintr = 1, .sync_first = true}, true);
}

/* Where the ring cannot be had, at the start or when the thread that writes wants it, the log does with
 * pwrite, unless it was told not to. */
static void no_ring_means_pwrite_or_an_error(void **state)
{
	struct wal *w;

	(void)state;
	plan.init_rc[0] = -ENOSYS;
	assert_int_equal(open_log(WAL_URING, &w), -ENOSYS);
	assert_null(w);
	assert_int_equal(open_log(WAL_AUTO, &w), 0);
	assert_string_equal(backend_of(w), "pwrite");
	assert_int_equal(flush_one(w, 1), 0);
	wal_close(w);
	assert_int_equal(k.exits, 0);

	plan.init_rc[0] = 0;
	plan.init_rc[1] = -ENOMEM;
	assert_int_equal(open_log(WAL_AUTO, &w), 0);
	assert_string_equal(backend_of(w), "io_uring");
	assert_int_equal(flush_one(w, 2), 0);
	assert_string_equal(backend_of(w), "pwrite");
	assert_int_equal(flush_one(w, 3), 0);
	wal_close(w);

	k.inits = 0;
	assert_int_equal(open_log(WAL_URING, &w), 0);
	assert_int_equal(flush_one(w, 4), -EIO);
	assert_int_equal(wal_flush(w), -EIO);
	wal_close(w);
	assert_int_equal(entries(), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_whole_and_synced_breaks_the_log),
		cmocka_unit_test(interrupted_waits_go_on),
		cmocka_unit_test_setup_teardown(no_ring_means_pwrite_or_an_error, fresh, gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
