/* The log on a disk that fails: each kind of call, each time it is made, with each error.
 *
 * The rule: what a flush acknowledged is there after a clean start, with or without a loss of power in between; of the
 * rest a first part may be; a log that says -EIO for a write is broken and acknowledges nothing any more, and one
 * that says anything else is as it was and goes on.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fakedisk.h"
#include "faultdisk.h"
#include "model.h"
#include "wal/wal_i.h"

#define DIR_NAME    "wal"
#define STEPS       14u
#define PENDING_MAX 128u

static const struct wal_opts small = {.segment_size_bytes = WAL_SEG_MIN + 4 * WAL_BLOCK,
	.spare_segments = 2,
	.node_id = 7,
	.backend = WAL_PWRITE};

struct run {
	struct disk *d;
	struct model acked, ahead;
	struct model_rec pending[PENDING_MAX];
	unsigned n_pending;
};

static struct disk *must_disk(struct disk *d)
{
	assert_non_null(d);
	return d;
}

static struct wal *must_open(struct disk *d)
{
	return log_must_open(d, DIR_NAME, &small);
}

/* A fault while reading is told, breaks nothing, and is over. */
static void load(struct wal *w, struct loaded *ret)
{
	struct vx_err err = VX_ERR_INIT;

	if (model_load(w, ret, &err)) {
		assert_true(faultdisk_fired());
		assert_non_null(strstr(err.msg, "record of group"));
		assert_int_equal(model_load(w, ret, NULL), 0);
	}
}

static void must_hold(struct wal *w, const struct model *m)
{
	struct loaded l;

	load(w, &l);
	const char *why = model_differs(m, &l);
	if (why)
		fail_msg("the log differs from the model: %s", why);
	loaded_release(&l);
}

static bool is_broken(const struct wal *w)
{
	struct wal_stats st;

	wal_stat(w, &st);
	return st.broken;
}

/* True: the log is broken, and stays so.  False: the call may be tried again. */
static bool check_broken(struct wal *w, int rc)
{
	if (!is_broken(w))
		return false;
	assert_int_equal(rc, -EIO);
	assert_int_equal(wal_flush(w), -EIO);
	assert_int_equal(wal_upkeep(w), -EIO);
	struct wal_group_state st;
	assert_int_equal(wal_group_load(w, 1, &st, NULL), -EIO);
	return true;
}

static void run_free(struct run *r)
{
	fakedisk_free(r->d);
	model_release(&r->acked);
	model_release(&r->ahead);
	free(r);
}

static void acknowledge(struct run *r)
{
	model_copy(&r->acked, &r->ahead);
	r->n_pending = 0;
}

static void stage(struct run *r, struct wal *w, struct model_rec x)
{
	assert_int_equal(model_stage(w, &x), 0);
	model_apply(&r->ahead, &x);
	assert_true(r->n_pending < PENDING_MAX);
	r->pending[r->n_pending++] = x;
}

/* Nothing is wanted any more of what was flushed before. */
static void stage_marks(struct run *r, struct wal *w)
{
	for (uint32_t g = 1; g <= MODEL_GROUPS; g++) {
		const struct model_group *m = &r->ahead.g[g - 1];
		struct model_rec x = {.rec = {.group = g, .type = WAL_MARK}, .seed = g};
		x.rec.index = m->mark + m->n;
		x.rec.len = g;
		if (m->exists)
			stage(r, w, x);
	}
}

/* False: the log is broken.  A fault comes once, so what is not broken succeeds the second time. */
static bool steps(struct run *r, struct wal *w, uint64_t *rng, unsigned n)
{
	model_copy(&r->ahead, &r->acked);
	r->n_pending = 0;
	for (unsigned s = 0; s < n; s++) {
		size_t max_len = s % 5 ? 300 : 7000;
		for (unsigned i = 0; i < 1 + s % 4; i++)
			stage(r, w, model_random(&r->ahead, rng, max_len));
		if (s % 6 == 5 || n == 1)
			stage_marks(r, w);
		int rc = wal_flush(w);
		if (rc) {
			if (check_broken(w, rc))
				return false;
			assert_int_equal(wal_flush(w), 0);
		}
		acknowledge(r);
		if (s % 3 == 0) {
			rc = wal_upkeep(w);
			if (rc && check_broken(w, rc))
				return false;
			if (rc)
				assert_int_equal(wal_upkeep(w), 0);
		}
		if (s % 6 == 0) {
			must_hold(w, &r->acked);
			assert_false(is_broken(w));
		}
	}
	return true;
}

static void accept_prefix(struct run *r, struct wal *w)
{
	struct loaded l;

	load(w, &l);
	const char *why = model_differs(&r->acked, &l);
	for (unsigned i = 0; i < r->n_pending && why; i++) {
		model_apply(&r->acked, &r->pending[i]);
		why = model_differs(&r->acked, &l);
	}
	if (why)
		fail_msg("neither what was acknowledged nor a first part of the rest: %s", why);
	loaded_release(&l);
	r->n_pending = 0;
}

/* What an earlier life may have left, and what is not the log's. */
static void leftovers(struct disk *d)
{
	static const uint8_t some[WAL_BLOCK];
	static const char *const names[] = {"spare-0000000050.tmp", "spare-0000000053.tmp",
		"spare-0000000051.seg", "notes", "spare-0000000000.seg", "spare-4294967295.seg",
		"spare-9999999999.tmp", "spare-0000000052.bak", "spare-52.tmp", "spare-",
		"0000000000.wal", "4294967295.wal", "0000000002.wal~"};

	for (unsigned i = 0; i < VX_ARRAY_SIZE(names); i++) {
		char path[64];
		(void)snprintf(path, sizeof path, DIR_NAME "/%s", names[i]);
		assert_int_equal(fakedisk_put(d, path, some, sizeof some), 0);
	}
}

/* A start, work, another start, work.  True when no fault came. */
static bool one_run(struct run *r, struct disk *top, enum fault_op op, unsigned n, int err)
{
	uint64_t rng = 77;
	bool well = true;

	faultdisk_arm(op, n, err);
	for (unsigned life = 0; life < 2 && well; life++) {
		struct wal *w = NULL;
		struct vx_err e = VX_ERR_INIT;
		int rc = wal_open(top, DIR_NAME, &small, &w, &e);
		if (rc) {
			if (!faultdisk_fired())
				fail_msg("wal_open: %s", vx_err_msg(&e, rc));
			assert_null(w);
			assert_true(e.msg[0] != '\0');
			well = false;
		} else {
			must_hold(w, &r->acked);
			well = steps(r, w, &rng, STEPS);
		}
		wal_close(w);
		assert_int_equal(fakedisk_open_handles(r->d), 0);
		leftovers(r->d);
	}
	bool fired = faultdisk_fired();
	assert_true(well || fired);
	/* What did not get to the disk is never passed over. */
	if (err == -EIO && (op == FAULT_PWRITE || op == FAULT_FDATASYNC || op == FAULT_RENAME ||
				   op == FAULT_UNLINK || op == FAULT_SYNC_DIR))
		assert_true(!well || !fired);
	faultdisk_arm(op, 0, 0);
	return !fired;
}

static unsigned sweep(struct disk *(*top)(struct disk *under), enum fault_op op, int err)
{
	struct run *r = calloc(1, sizeof *r);
	bool end = false;
	unsigned n;

	assert_non_null(r);
	for (n = 1; !end; n++) {
		r->d = must_disk(fakedisk_new());
		end = one_run(r, top(r->d), op, n, err);
		if (n % 2)
			fakedisk_crash(r->d, n);
		struct wal *w = must_open(r->d);
		accept_prefix(r, w);
		uint64_t rng = n;
		assert_true(steps(r, w, &rng, 2));
		wal_close(w);
		fakedisk_crash(r->d, n + 1);
		w = must_open(r->d);
		must_hold(w, &r->acked);
		wal_close(w);
		fakedisk_free(r->d);
		model_release(&r->acked);
		model_release(&r->ahead);
	}
	free(r);
	return n - 1;
}

static const int errors[] = {-EIO, -ENOSPC, -EDQUOT, -EMFILE, -EINVAL, -EFBIG};
static const char *const op_names[FAULT_OPS] = {"open", "pread", "pwrite", "fdatasync", "allocate",
	"size", "rename", "unlink", "sync_dir", "list"};

static void every_call_may_fail(struct disk *(*top)(struct disk *under), unsigned n_errors)
{
	for (enum fault_op op = 0; op < FAULT_OPS; op++) {
		unsigned n = 0;
		for (unsigned e = 0; e < n_errors; e++)
			n += sweep(top, op, errors[e]);
		/* Files of the fakedisk are read whole or not at all. */
		if (op == FAULT_PREAD || op == FAULT_PWRITE) {
			n += sweep(top, op, -EINTR);
			n += sweep(top, op, 0);
		}
		print_message("%s: %u runs\n", op_names[op], n);
		assert_true(n > n_errors);
	}
}

static void nothing_acknowledged_is_lost_by_any_error(void **state)
{
	(void)state;
	every_call_may_fail(faultdisk, VX_ARRAY_SIZE(errors));
}

/* A quota that is used up is a full disk, wherever the making of a spare meets it: nothing breaks, and with room the
 * spare is made. */
static void no_room_breaks_nothing(void **state)
{
	(void)state;
	static const enum fault_op ops[] = {
		FAULT_OPEN, FAULT_ALLOCATE, FAULT_PWRITE, FAULT_FDATASYNC, FAULT_RENAME};
	struct disk *d = must_disk(fakedisk_new());
	struct wal *w = must_open(faultdisk(d));

	for (unsigned i = 0; i < VX_ARRAY_SIZE(ops); i++) {
		for (unsigned quota = 0; quota < 2; quota++) {
			unsigned n = w->n_spares + 1;
			uint64_t used = fakedisk_used(d);
			faultdisk_arm(ops[i], 1, quota ? -EDQUOT : -ENOSPC);
			assert_int_equal(wal_spares_ensure(w, n), -ENOSPC);
			assert_true(faultdisk_fired());
			assert_false(is_broken(w));
			assert_int_equal(fakedisk_used(d), used);
			assert_int_equal(wal_spares_ensure(w, n), 0);
			assert_int_equal(w->n_spares, n);
		}
	}
	wal_close(w);
	assert_int_equal(fakedisk_open_handles(d), 0);
	fakedisk_free(d);
}

/* --- O_DIRECT ------------------------------------------------------------------------ */
static enum fault_direct direct;

static struct disk *as_real(struct disk *under)
{
	(void)faultdisk(under);
	faultdisk_real(direct);
	return disk_real();
}

static int unreal(void **state)
{
	(void)state;
	faultdisk_unreal();
	return 0;
}

/* The same where files are opened past the page cache: errors on the way to know that it works. */
static void direct_writes_lose_nothing(void **state)
{
	(void)state;
	direct = DIRECT_WORKS;
	static const enum fault_op ops[] = {FAULT_OPEN, FAULT_PWRITE, FAULT_FDATASYNC};
	for (unsigned i = 0; i < VX_ARRAY_SIZE(ops); i++) {
		(void)sweep(as_real, ops[i], -EIO);
		(void)sweep(as_real, ops[i], -EINVAL);
		(void)sweep(as_real, ops[i], -EMFILE);
	}
	assert_true(faultdisk_direct_writes() > 10);
}

/* The same where a direct write is refused: the file cannot be opened the other way, say. */
static void falling_back_loses_nothing(void **state)
{
	(void)state;
	for (direct = DIRECT_NO_OPEN; direct <= DIRECT_NO_WRITE; direct++) {
		(void)sweep(as_real, FAULT_OPEN, -EIO);
		(void)sweep(as_real, FAULT_OPEN, -EMFILE);
		(void)sweep(as_real, FAULT_PWRITE, -EIO);
	}
}

/* Where direct writes are refused, at the open or at the write, the log does without, from the first
 * segment on or in the midst of an old log, and nobody notices. */
static void refused_direct_writes_are_done_otherwise(void **state)
{
	(void)state;
	for (direct = DIRECT_NO_OPEN; direct <= DIRECT_NO_WRITE; direct++) {
		struct run *r = calloc(1, sizeof *r);
		assert_non_null(r);
		r->d = must_disk(fakedisk_new());
		assert_true(one_run(r, as_real(r->d), FAULT_OPS, 0, 0));
		assert_int_equal(faultdisk_direct_writes(), 0);
		fakedisk_crash(r->d, 3);
		struct wal *w = must_open(r->d);
		must_hold(w, &r->acked);
		wal_close(w);

		/* It worked once; the disk is another now. */
		uint64_t rng = 5;
		faultdisk_real(DIRECT_WORKS);
		w = log_must_open(disk_real(), DIR_NAME, &small);
		assert_true(w->try_direct);
		assert_true(steps(r, w, &rng, 3));
		assert_int_equal(wal_upkeep(w), 0);
		faultdisk_real(direct);
		/* The open segment is written no more: the spares and the next segment ask anew. */
		wal_close(w);
		w = log_must_open(disk_real(), DIR_NAME, &small);
		w->try_direct = true;
		while (w->segs[0].seq + w->n_segs < 12) {
			assert_true(steps(r, w, &rng, 1));
			assert_int_equal(wal_upkeep(w), 0);
		}
		must_hold(w, &r->acked);

		/* And then not even that: the log is broken, and a start finds all. */
		w->try_direct = true;
		assert_true(w->n_spares > 0);
		bool well = true;
		for (uint32_t seq = wal_cur(w)->seq; well && wal_cur(w)->seq == seq;) {
			faultdisk_arm(FAULT_OPEN, 2, -EMFILE);
			struct model_rec x = {.rec = {.group = 1, .type = WAL_RESET, .len = 3000}};
			x.rec.index = rng % 1000;
			stage(r, w, x);
			int rc = wal_flush(w);
			well = rc == 0;
			if (well)
				acknowledge(r);
			else
				assert_true(check_broken(w, rc));
		}
		assert_false(well);
		assert_true(faultdisk_fired());
		wal_close(w);
		fakedisk_crash(r->d, 8);
		w = must_open(r->d);
		accept_prefix(r, w);
		wal_close(w);
		model_release(&r->acked);
		model_release(&r->ahead);
		fakedisk_free(r->d);
		free(r);
	}
}

/* A last segment that was cut short gets its zeros back, or the start fails and the next one does it. */
static void a_start_that_fails_while_it_repairs_is_begun_again(void **state)
{
	(void)state;
	static const enum fault_op ops[] = {
		FAULT_OPEN, FAULT_PREAD, FAULT_PWRITE, FAULT_FDATASYNC, FAULT_SIZE, FAULT_SYNC_DIR};
	struct run *r = calloc(1, sizeof *r);
	const char *path = DIR_NAME "/0000000001.wal";
	uint64_t rng = 4;
	size_t size;
	unsigned failed = 0;

	assert_non_null(r);
	r->d = must_disk(fakedisk_new());
	struct wal *w = must_open(r->d);
	assert_true(steps(r, w, &rng, 2));
	uint64_t end = wal_cur(w)->end;
	assert_int_equal(w->n_segs, 1);
	wal_close(w);
	uint8_t *p = fakedisk_bytes(r->d, path, &size), *all = malloc(size);
	assert_non_null(all);
	memcpy(all, p, size);
	for (unsigned i = 0; i < VX_ARRAY_SIZE(ops); i++) {
		bool end_of_sweep = false;
		for (unsigned n = 1; !end_of_sweep; n++) {
			assert_int_equal(fakedisk_put(r->d, path, all, (size_t)end), 0);
			faultdisk_arm(ops[i], 0, 0);
			struct disk *top = faultdisk(r->d);
			faultdisk_arm(ops[i], n, -EIO);
			int rc = wal_open(top, DIR_NAME, &small, &w, NULL);
			end_of_sweep = !faultdisk_fired();
			/* What a start asks only to hurry a disk along may fail. */
			assert_true(rc == 0 || (rc == -EIO && !end_of_sweep));
			failed += rc != 0;
			if (rc == 0)
				wal_close(w);
			assert_int_equal(fakedisk_open_handles(r->d), 0);
			fakedisk_crash(r->d, n);
			w = must_open(r->d);
			must_hold(w, &r->acked);
			wal_close(w);
			(void)fakedisk_bytes(r->d, path, &size);
			assert_int_equal(size, small.segment_size_bytes);
		}
	}
	assert_true(failed > 10);
	free(all);
	run_free(r);
}

/* Segments of the size that another start asked for are read, and are no spares of this one. */
static void segments_of_another_size_do_not_come_back(void **state)
{
	(void)state;
	struct run *r = calloc(1, sizeof *r);
	struct wal_opts o = small;
	uint64_t rng = 6;

	assert_non_null(r);
	r->d = must_disk(fakedisk_new());
	struct wal *w = must_open(r->d);
	assert_true(steps(r, w, &rng, STEPS));
	wal_close(w);
	o.segment_size_bytes *= 2;
	o.spare_segments = 30;
	for (unsigned i = 0; i < 2; i++) {
		w = log_must_open(r->d, DIR_NAME, &o);
		must_hold(w, &r->acked);
		assert_int_equal(w->n_spares, i ? o.spare_segments : 0);
		uint32_t old = wal_cur(w)->seq;
		while (w->segs[0].seq <= old) {
			assert_true(steps(r, w, &rng, 1));
			assert_int_equal(wal_upkeep(w), 0);
		}
		struct wal_stats st;
		wal_stat(w, &st);
		assert_int_equal(st.size_bytes, (st.spares + st.segments) * o.segment_size_bytes);
		assert_int_equal(fakedisk_used(r->d), st.size_bytes);
		wal_close(w);
	}
	run_free(r);
}

/* --- names, sizes, options -------------------------------------------------------------- */
static bool exists(struct disk *d, const char *name)
{
	char path[128];
	size_t size;

	(void)snprintf(path, sizeof path, DIR_NAME "/%s", name);
	return fakedisk_bytes(d, path, &size);
}

/* A start removes half-made spares and spares of another size, and leaves alone what is not the log's. */
static void only_leftovers_of_the_log_are_removed(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());

	wal_close(must_open(d));
	leftovers(d);
	wal_close(must_open(d));
	assert_false(exists(d, "spare-0000000050.tmp"));
	assert_false(exists(d, "spare-0000000051.seg"));
	assert_true(exists(d, "notes"));
	assert_true(exists(d, "spare-0000000052.bak"));
	assert_true(exists(d, "spare-9999999999.tmp"));
	assert_true(exists(d, "0000000000.wal"));
	fakedisk_free(d);
}

/* More spares than a log can name are not kept; those that are kept come into use. */
static void spares_beyond_the_most_are_removed(void **state)
{
	(void)state;
	struct run *r = calloc(1, sizeof *r);
	uint8_t *zeros = calloc(1, (size_t)small.segment_size_bytes);
	unsigned left = 0;
	uint64_t rng = 9;
	char path[64];

	assert_non_null(r);
	assert_non_null(zeros);
	r->d = must_disk(fakedisk_new());
	for (unsigned i = 1; i <= WAL_SPARES_MAX + 3; i++) {
		(void)snprintf(path, sizeof path, DIR_NAME "/spare-%010u.seg", i);
		assert_int_equal(
			fakedisk_put(r->d, path, zeros, (size_t)small.segment_size_bytes), 0);
	}
	struct wal *w = must_open(r->d);
	for (unsigned i = 1; i <= WAL_SPARES_MAX + 3; i++) {
		(void)snprintf(path, sizeof path, "spare-%010u.seg", i);
		left += exists(r->d, path);
	}
	/* One is the first segment now. */
	assert_int_equal(left, WAL_SPARES_MAX - 1);
	assert_int_equal(w->n_spares, left);
	/* Segments that come free while there are too many are not kept. */
	while (w->n_spares > left - 10) {
		assert_true(steps(r, w, &rng, 1));
		assert_int_equal(wal_upkeep(w), 0);
	}
	assert_true(w->n_segs < 10);
	/* Asking for more at once than can be named is no fault of the log. */
	assert_int_equal(wal_spares_ensure(w, WAL_SPARES_MAX + 1), -ENOSPC);
	assert_false(is_broken(w));
	wal_close(w);
	w = must_open(r->d);
	must_hold(w, &r->acked);
	wal_close(w);
	fakedisk_free(r->d);
	model_release(&r->acked);
	model_release(&r->ahead);
	free(zeros);
	free(r);
}

/* A directory whose name leaves no room for those of the files is refused before anything is done; one
 * character less and all works, spares and recycling too. */
static void a_path_too_long_is_refused_at_the_start(void **state)
{
	(void)state;
	struct run *r = calloc(1, sizeof *r);
	static char dir[WAL_PATH_MAX + 1];
	size_t longest = WAL_PATH_MAX - sizeof "/0000000001.damaged-99.tmp";
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;
	uint64_t rng = 3;

	assert_non_null(r);
	r->d = must_disk(fakedisk_new());
	struct disk *top = faultdisk(r->d);
	memset(dir, 'd', longest + 1);
	assert_int_equal(wal_open(top, dir, &small, &w, &err), -ENAMETOOLONG);
	assert_null(w);
	assert_int_equal(fakedisk_used(r->d), 0);
	dir[longest] = '\0';
	assert_int_equal(wal_open(top, dir, &small, &w, &err), 0);
	assert_true(steps(r, w, &rng, 20));
	assert_true(w->segs[0].seq > 1);
	wal_close(w);
	assert_int_equal(wal_open(top, dir, &small, &w, &err), 0);
	must_hold(w, &r->acked);
	wal_close(w);
	run_free(r);
}

/* io_uring cannot be had on a disk that is not the kernel's, unless nobody insists. */
static void defaults_are_filled_in(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct wal_opts o = {.backend = WAL_URING};
	struct wal_stats st;

	fakedisk_limit(d, 3 * (uint64_t)WAL_SEG_DEFAULT);
	struct wal *w = log_must_open(d, DIR_NAME, &o);
	wal_stat(w, &st);
	assert_string_equal(st.backend, "pwrite");
	assert_int_equal(st.size_bytes, WAL_SEG_DEFAULT);
	assert_int_equal(wal_upkeep(w), 0);
	wal_stat(w, &st);
	assert_int_equal(st.spares, 1);
	wal_close(w);
	fakedisk_free(d);
}

/* --- while the log is in use ---------------------------------------------------------- */
/* Damage that comes while the log is open is told by the load that meets it, with its place, and is not given out. */
static void damage_after_the_start_is_not_given_out(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct wal *w = must_open(d);
	struct model_rec mark = {.rec = {.group = 1, .type = WAL_MARK, .index = 3, .len = 50}};
	struct model_rec e = {.rec = {.group = 1, .type = WAL_ENTRY, .index = 4, .len = 50}};
	struct wal_group_state st;
	size_t size;

	assert_int_equal(model_stage(w, &mark), 0);
	assert_int_equal(model_stage(w, &e), 0);
	assert_int_equal(wal_flush(w), 0);
	uint8_t *p = fakedisk_bytes(d, DIR_NAME "/0000000001.wal", &size);
	assert_non_null(p);
	/* Between the two lies the HARDSTATE that goes with a mark, which is not read again. */
	size_t entry_at = WAL_FRAME_HDR + wal_rec_size(50) + wal_rec_size(0);
	for (size_t k = 0; k < 2 * wal_rec_size(50); k++) {
		struct vx_err err = VX_ERR_INIT;
		size_t in_rec = k % wal_rec_size(50);
		size_t i = in_rec + (k == in_rec ? WAL_FRAME_HDR : entry_at);
		p[WAL_HDR_BYTES + i] ^= 1;
		int rc = wal_group_load(w, 1, &st, &err);
		p[WAL_HDR_BYTES + i] ^= 1;
		/* What fills a record up to whole words means nothing. */
		if (in_rec >= WAL_REC_HDR + 50) {
			assert_int_equal(rc, 0);
			wal_group_state_release(&st);
			continue;
		}
		assert_int_equal(rc, -EUCLEAN);
		assert_non_null(strstr(err.msg, "damaged since the log was opened"));
	}
	/* A sound record in the place of another is damage too. */
	struct wal_rhdr h = {.type = WAL_ENTRY, .group = 1, .index = 4};
	uint8_t *rec = p + WAL_HDR_BYTES + entry_at, save[256];
	uint64_t seed = wal_seed(w->segs[0].nonce, 1);
	memcpy(save, rec, wal_rec_size(50));
	for (unsigned i = 0; i < 5; i++) {
		h.type = i == 0 ? WAL_HARDSTATE : WAL_ENTRY;
		h.group = i == 1 ? 2 : 1;
		h.index = i == 2 ? 5 : 4;
		/* Longer than what was ever written. */
		h.len = i == 3 ? 2 * WAL_BLOCK : 50;
		wal_rhdr_put(rec, &h);
		wal_rec_seal(rec, 0, seed);
		int rc = wal_group_load(w, 1, &st, NULL);
		assert_int_equal(rc, i == 4 ? 0 : -EUCLEAN);
		if (rc == 0)
			wal_group_state_release(&st);
	}
	memcpy(rec, save, wal_rec_size(50));
	/* No position outside of the log is followed. */
	for (uint32_t seq = 0; seq <= 2; seq += 2) {
		void *data;
		assert_int_equal(
			wal_read_payload(w, (struct wal_pos){seq, WAL_HDR_BYTES}, &h, &data),
			-EUCLEAN);
	}
	wal_close(w);
	fakedisk_free(d);
}

/* A manifest that cannot be read when its segment should go: the segment stays. */
static void a_segment_goes_only_with_its_manifests(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct run *r = calloc(1, sizeof *r);
	struct model_rec idle = {
		.rec = {.group = 8, .type = WAL_MARK, .index = 3, .len = 50}, .seed = 5};
	uint64_t index = 1;
	size_t size;

	assert_non_null(r);
	struct wal *w = must_open(d);
	for (; idle.rec.group >= 7; idle.rec.group--) {
		assert_int_equal(model_stage(w, &idle), 0);
		model_apply(&r->acked, &idle);
	}
	assert_int_equal(wal_flush(w), 0);
	while (w->n_segs < 3) {
		struct model_rec x = {
			.rec = {.group = 1, .type = WAL_ENTRY, .index = index, .len = 3000}};
		assert_int_equal(model_stage(w, &x), 0);
		model_apply(&r->acked, &x);
		x.rec = (struct wal_rec){.group = 1, .type = WAL_MARK, .index = index++};
		assert_int_equal(model_stage(w, &x), 0);
		model_apply(&r->acked, &x);
		assert_int_equal(wal_flush(w), 0);
	}
	uint8_t *p = fakedisk_bytes(d, DIR_NAME "/0000000001.wal", &size);
	assert_non_null(p);
	p[WAL_HDR_BYTES + WAL_FRAME_HDR + WAL_REC_HDR] ^= 1;
	bool more = true;
	assert_int_equal(wal_upkeep_step(w, 0, &more), -EUCLEAN);
	assert_false(more);
	assert_int_equal(w->n_segs, 3);
	assert_true(exists(d, "0000000001.wal"));
	p = fakedisk_bytes(d, DIR_NAME "/0000000001.wal", &size);
	p[WAL_HDR_BYTES + WAL_FRAME_HDR + WAL_REC_HDR] ^= 1;
	assert_int_equal(wal_upkeep(w), 0);
	assert_int_equal(w->n_segs, 1);
	assert_false(exists(d, "0000000001.wal"));
	must_hold(w, &r->acked);
	wal_close(w);
	model_release(&r->acked);
	fakedisk_free(d);
	free(r);
}

/* A flush longer than what a buffer may keep is as any other. */
static void a_very_long_flush_gives_its_memory_back(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct wal_opts o = {.segment_size_bytes = 32u << 20, .node_id = 7};
	struct model m = {0};
	size_t len = WAL_FRAME_KEEP + 5000;

	struct wal *w = log_must_open(d, DIR_NAME, &o);
	for (uint64_t i = 1; i <= 2; i++) {
		struct model_rec x = {
			.rec = {.group = 2, .type = WAL_ENTRY, .index = i, .len = len}, .seed = i};
		assert_int_equal(model_stage(w, &x), 0);
		model_apply(&m, &x);
	}
	assert_int_equal(wal_flush(w), 0);
	assert_int_equal(w->pend.cap, 0);
	assert_int_equal(w->scratch.cap, 0);
	must_hold(w, &m);
	struct model_rec x = {.rec = {.group = 2, .type = WAL_ENTRY, .index = 3, .len = len}};
	assert_int_equal(model_stage(w, &x), 0);
	wal_discard(w);
	assert_int_equal(w->pend.cap, 0);
	wal_close(w);
	w = log_must_open(d, DIR_NAME, &o);
	must_hold(w, &m);
	wal_close(w);
	model_release(&m);
	fakedisk_free(d);
}

/* Entries come and go in flushes of any size: what memory knows of their places stays right. */
static void places_stay_right_through_marks(void **state)
{
	(void)state;
	struct run *r = calloc(1, sizeof *r);
	struct wal_opts o = {.segment_size_bytes = 1u << 20, .node_id = 7};
	uint64_t rng = 1;

	assert_non_null(r);
	r->d = must_disk(fakedisk_new());
	struct wal *w = log_must_open(r->d, DIR_NAME, &o);
	for (unsigned i = 0; i < 60; i++) {
		const struct model_group *g = &r->ahead.g[0];
		struct model_rec x = {.rec = {.group = 1, .type = WAL_ENTRY, .len = 8}};
		unsigned n = 1 + (unsigned)(model_rng(&rng) % 100);
		r->n_pending = 0;
		while (n--) {
			x.rec.index = g->mark + g->n + 1;
			x.seed = x.rec.index;
			stage(r, w, x);
		}
		x.rec = (struct wal_rec){.group = 1, .type = WAL_MARK};
		x.rec.index = g->mark + model_rng(&rng) % (g->n + 1);
		if (i % 2)
			x.rec.index = g->mark + g->n - g->n / 16;
		stage(r, w, x);
		assert_int_equal(wal_flush(w), 0);
		must_hold(w, &r->ahead);
	}
	wal_close(w);
	w = log_must_open(r->d, DIR_NAME, &o);
	must_hold(w, &r->ahead);
	wal_close(w);
	run_free(r);
}

static int stop_at_two(void *arg, uint32_t group)
{
	unsigned *n = arg;

	(void)group;
	return ++*n == 2 ? -ECANCELED : 0;
}

/* The first result of a caller's function that is not 0 is the answer; groups of one hash bucket are told apart; an
 * index that has none behind it is no mark. */
static void groups_are_walked_until_told_to_stop(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct wal *w = must_open(d);
	unsigned n = 0;

	for (uint32_t i = 0; i < 3; i++) {
		struct wal_rec r = {
			.group = 3 + i * WAL_GROUP_BUCKETS, .type = WAL_HARDSTATE, .term = 10 + i};
		assert_int_equal(wal_stage(w, &r), 0);
	}
	assert_int_equal(wal_flush(w), 0);
	for (uint32_t i = 0; i < 3; i++) {
		struct wal_group_state st;
		assert_int_equal(wal_group_load(w, 3 + i * WAL_GROUP_BUCKETS, &st, NULL), 0);
		assert_int_equal(st.term, 10 + i);
		wal_group_state_release(&st);
	}
	assert_int_equal(wal_groups(w, stop_at_two, &n), -ECANCELED);
	assert_int_equal(n, 2);
	struct wal_rec r = {.group = 3, .type = WAL_MARK, .index = UINT64_MAX};
	assert_int_equal(wal_stage(w, &r), -EINVAL);
	r.type = WAL_RESET;
	assert_int_equal(wal_stage(w, &r), -EINVAL);
	r = (struct wal_rec){.group = 3, .type = WAL_ENTRY, .index = 1};
	assert_int_equal(wal_stage(w, &r), 0);
	assert_int_equal(wal_flush(w), 0);
	assert_true(wal_pinned(w, NULL) > 0);
	wal_close(w);
	fakedisk_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_acknowledged_is_lost_by_any_error),
		cmocka_unit_test(no_room_breaks_nothing),
		cmocka_unit_test_teardown(direct_writes_lose_nothing, unreal),
		cmocka_unit_test_teardown(falling_back_loses_nothing, unreal),
		cmocka_unit_test_teardown(refused_direct_writes_are_done_otherwise, unreal),
		cmocka_unit_test(a_start_that_fails_while_it_repairs_is_begun_again),
		cmocka_unit_test(segments_of_another_size_do_not_come_back),
		cmocka_unit_test(only_leftovers_of_the_log_are_removed),
		cmocka_unit_test(spares_beyond_the_most_are_removed),
		cmocka_unit_test(a_path_too_long_is_refused_at_the_start),
		cmocka_unit_test(defaults_are_filled_in),
		cmocka_unit_test(damage_after_the_start_is_not_given_out),
		cmocka_unit_test(a_segment_goes_only_with_its_manifests),
		cmocka_unit_test(a_very_long_flush_gives_its_memory_back),
		cmocka_unit_test(places_stay_right_through_marks),
		cmocka_unit_test(groups_are_walked_until_told_to_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
