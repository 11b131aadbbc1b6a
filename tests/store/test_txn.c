/* Transactions of a slice: whatever happens on the way, readers see nothing of one or all of it, as of its
 * decision.  The fixture's shard (3) is the deciding one of ids that begin with 3. */
#include "fixture.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

#define DECIDER   3u
#define PARTS_MAX 6u
#define NS        UINT64_C(1000000000)

/* --- a process that ends at its n-th write, of ours or of SQLite's ------------------------- */
static struct {
	int calls, at;
	int error; /* 0: SIGKILL */
	bool unsynced;
} trap;

static int spring(void)
{
	if (!trap.at || ++trap.calls != trap.at)
		return 0;
	if (!trap.error)
		kill(getpid(), SIGKILL);
	return trap.error;
}

static int t_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->open(disk_real(), path, oflags, mode);
}

static ssize_t t_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	(void)d;
	int rc = spring();
	if (rc && n > 1) /* some of it got through */
		(void)!disk_real()->ops->pwrite(disk_real(), fd, p, n / 2, off);
	trap.unsynced = true;
	return rc ? rc : disk_real()->ops->pwrite(disk_real(), fd, p, n, off);
}

static int t_fdatasync(struct disk *d, int fd)
{
	(void)d;
	int rc = spring();
	trap.unsynced = false;
	return rc ? rc : disk_real()->ops->fdatasync(disk_real(), fd);
}

static int t_unlink(struct disk *d, const char *path)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->unlink(disk_real(), path);
}

static int t_sync_dir(struct disk *d, const char *path)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->sync_dir(disk_real(), path);
}

static struct disk *trap_disk(void)
{
	static struct disk_ops ops;
	static struct disk d = {.ops = &ops};

	ops = *disk_real()->ops;
	ops.open = t_open;
	ops.pwrite = t_pwrite;
	ops.fdatasync = t_fdatasync;
	ops.unlink = t_unlink;
	ops.sync_dir = t_sync_dir;
	memset(&trap, 0, sizeof trap);
	return &d;
}

static ssize_t sq_write(int fd, const void *p, size_t n)
{
	(void)spring();
	return write(fd, p, n);
}

static ssize_t sq_pwrite(int fd, const void *p, size_t n, off_t off)
{
	(void)spring();
	return pwrite(fd, p, n, off);
}

/* From here on SQLite's writes of this process count as well. */
static void trap_sqlite(void)
{
	sqlite3_vfs *v = sqlite3_vfs_find("unix");
	assert_non_null(v);
	(void)v->xSetSystemCall(v, "write", (sqlite3_syscall_ptr)sq_write);
	(void)v->xSetSystemCall(v, "pwrite", (sqlite3_syscall_ptr)sq_pwrite);
	(void)v->xSetSystemCall(v, "pwrite64", (sqlite3_syscall_ptr)sq_pwrite);
}

/* --- transactions and their model ---------------------------------------------------------- */
struct tx {
	uint64_t id;
	uint32_t parts;
	struct model_rec m[N_IDS]; /* what it will put */
};

static struct logged *log_next(struct fix *f)
{
	f->log = realloc(f->log, (f->n_log + 1) * sizeof *f->log);
	assert_non_null(f->log);
	struct logged *l = &f->log[f->n_log++];
	*l = (struct logged){.index = f->n_log * 3, .data = BUF_INIT};
	return l;
}

static struct tx tx_new(struct fix *f, uint32_t decider)
{
	return (struct tx){
		.id = (uint64_t)decider << TXN_SHARD_SHIFT | (fix_rnd(f) >> 10 & 0xffffffff) | 1};
}

/* The next part, with random upserts; not applied. */
static struct logged *tx_part(struct fix *f, struct tx *t, uint64_t time)
{
	struct entry_header h = {.kind = ENTRY_DATA,
		.cid = CID,
		.time_ns = time,
		.origin = 5,
		.seq = ++f->seq,
		.txn = t->id,
		.part = ++t->parts};
	uint32_t n = 1 + (uint32_t)(fix_rnd(f) % 20);
	struct logged *l = log_next(f);

	assert_int_equal(entry_begin(&l->data, &h), 0);
	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = (uint32_t)(fix_rnd(f) % N_IDS);
		struct model_rec *m = &t->m[i];
		char id[VX_ID_MAX];
		struct entry_rec e = {.op = REC_UPSERT};

		*m = (struct model_rec){.exists = true};
		for (uint32_t d = 0; d < DIM; d++)
			m->vec[d] = (float)(fix_rnd(f) % 2000) / 100 - 10;
		snprintf(m->meta, sizeof m->meta, "{\"t\":%u}", (unsigned)(fix_rnd(f) % 9999));
		e.rec = (struct vx_record){.id = id,
			.id_len = fix_id(i, id),
			.vec = m->vec,
			.dim = DIM,
			.meta = m->meta,
			.meta_len = strlen(m->meta)};
		assert_int_equal(entry_add(&l->data, &e), 0);
	}
	entry_finish(&l->data, 0, &h, n);
	return l;
}

static struct logged *tx_step(
	struct fix *f, const struct tx *t, uint8_t op, uint32_t others, uint64_t time)
{
	struct entry_header h = {.kind = ENTRY_TXN,
		.cid = CID,
		.time_ns = time,
		.origin = 6,
		.seq = ++f->seq,
		.txn = t->id};
	struct txn_step s = {.op = op, .parts = t->parts, .n = others};
	struct logged *l = log_next(f);

	for (uint32_t i = 0; i < others; i++)
		s.others[i] = (struct txn_participant){.shard = 4 + i, .parts = 2 + i};
	assert_int_equal(entry_begin(&l->data, &h), 0);
	assert_int_equal(txn_step_encode(&s, &l->data), 0);
	entry_finish(&l->data, 0, &h, 0);
	return l;
}

static void model_commit(struct fix *f, const struct tx *t, uint64_t index)
{
	for (uint32_t i = 0; i < N_IDS; i++) {
		if (!t->m[i].exists)
			continue;
		f->m[i] = t->m[i];
		f->m[i].version = index;
	}
}

static int apply(struct fix *f, const struct logged *l)
{
	struct apply_result res;

	assert_int_equal(fix_apply(f, l, &res, NULL), 0);
	return res.status;
}

static void apply_random(struct fix *f)
{
	uint8_t expect[64], got[64];
	struct apply_result res;
	uint32_t n;
	struct logged *l = fix_random_entry(f, 12, expect, &n);

	assert_int_equal(fix_apply(f, l, &res, got), 0);
	assert_memory_equal(expect, got, n);
}

static struct slice *pin(struct fix *f)
{
	int rc;
	struct slice *sl = shard_slice_get(f->s, CID, &rc, NULL);

	assert_non_null(sl);
	return sl;
}

/* How many transactions are not settled, and whether the directory says so. */
static size_t unsettled(struct fix *f, struct slice_txn *ret_first)
{
	struct buf list = BUF_INIT, cids = BUF_INIT;
	struct slice *sl = pin(f);

	assert_int_equal(slice_txns(sl, &list, NULL), 0);
	slice_put(sl);
	size_t n = list.len / sizeof(struct slice_txn);
	if (n && ret_first)
		memcpy(ret_first, list.data, sizeof *ret_first);
	assert_int_equal(shard_txn_slices(f->s, &cids), 0);
	assert_int_equal(cids.len, n ? 4 : 0);
	buf_release(&list);
	buf_release(&cids);
	return n;
}

static void reopen(struct fix *f, bool replay)
{
	fix_close(f, fix_rnd(f) % 2);
	fix_open(f);
	if (replay)
		fix_replay(f);
}

static void compact(struct fix *f)
{
	struct vx_err err = VX_ERR_INIT;
	struct slice *sl = pin(f);

	if (slice_compact(sl, &err))
		fail_msg("compaction: %s", err.msg);
	slice_put(sl);
}

/* --- the tests ----------------------------------------------------------------------------- */

/* Parts are seen by nobody; the decision publishes all of them, the last one of an id, over whatever others
 * wrote meanwhile; and between any two entries there may be a mark, a restart, a replay or a compaction. */
static void a_transaction_is_seen_as_a_whole_from_its_decision_on(void **state)
{
	(void)state;
	struct fix f;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	for (int round = 0; round < 60; round++) {
		struct tx t = tx_new(&f, fix_rnd(&f) % 2 ? DECIDER : DECIDER - 1);
		bool decides = t.id >> TXN_SHARD_SHIFT == DECIDER;
		uint32_t parts = 1 + (uint32_t)(fix_rnd(&f) % PARTS_MAX);
		uint64_t fate = fix_rnd(&f) % 3;

		while (t.parts < parts) {
			assert_int_equal(apply(&f, tx_part(&f, &t, 2000)), 0);
			apply_random(&f);
			switch (fix_rnd(&f) % 6) {
			case 0:
				fix_mark(&f);
				break;
			case 1:
				reopen(&f, false);
				break;
			case 2:
				reopen(&f, true);
				break;
			case 3:
				compact(&f);
				break;
			}
			fix_compare(&f);
			assert_int_equal(unsettled(&f, NULL), 1);
		}
		if (fate == 0) {
			assert_int_equal(apply(&f, tx_step(&f, &t, TXN_ABORT, 0, 2000)), 0);
		} else {
			struct logged *l = tx_step(
				&f, &t, decides ? TXN_DECIDE : TXN_COMMIT, 0, 2000);
			assert_int_equal(apply(&f, l), 0);
			model_commit(&f, &t, l->index);
		}
		fix_compare(&f);
		if (fix_rnd(&f) % 2)
			reopen(&f, true);
		fix_compare(&f);
		assert_int_equal(unsettled(&f, NULL), 0);
		apply_random(&f);
	}
	compact(&f);
	fix_compare(&f);
	fix_release(&f);
}

/* The first decision stays, whoever asks for another one, and parts that come after it are refused. */
static void the_first_decision_stays(void **state)
{
	(void)state;
	struct fix f;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	struct tx t = tx_new(&f, DECIDER);
	assert_int_equal(apply(&f, tx_part(&f, &t, 1)), 0);
	assert_int_equal(apply(&f, tx_step(&f, &t, TXN_ABORT, 0, 2)), 0);
	assert_int_equal(apply(&f, tx_step(&f, &t, TXN_DECIDE, 0, 3)), -ECANCELED);
	struct tx late = t;
	assert_int_equal(apply(&f, tx_part(&f, &late, 4)), -ECANCELED);
	late.parts = 1;
	assert_int_equal(apply(&f, tx_step(&f, &late, TXN_DECIDE, 0, 5)), -ECANCELED);
	fix_compare(&f);

	t = tx_new(&f, DECIDER);
	assert_int_equal(apply(&f, tx_part(&f, &t, 6)), 0);
	struct logged *l = tx_step(&f, &t, TXN_DECIDE, 0, 7);
	assert_int_equal(apply(&f, l), 0);
	model_commit(&f, &t, l->index);
	assert_int_equal(apply(&f, tx_step(&f, &t, TXN_ABORT, 0, 8)), -EALREADY);
	assert_int_equal(apply(&f, tx_step(&f, &t, TXN_DECIDE, 0, 9)), 0);
	late = t;
	assert_int_equal(apply(&f, tx_part(&f, &late, 10)), -ECANCELED);
	fix_compare(&f);

	/* One part of two: no decision can commit that. */
	t = tx_new(&f, DECIDER);
	assert_int_equal(apply(&f, tx_part(&f, &t, 11)), 0);
	t.parts = 2;
	assert_int_equal(apply(&f, tx_step(&f, &t, TXN_DECIDE, 0, 12)), -ECANCELED);
	fix_compare(&f);
	assert_int_equal(unsettled(&f, NULL), 0);
	reopen(&f, true);
	fix_compare(&f);
	fix_release(&f);
}

/* A decision for other shards too is remembered until they have been told. */
static void others_are_remembered_until_the_end(void **state)
{
	(void)state;
	struct slice_txn first;
	struct fix f;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	struct tx t = tx_new(&f, DECIDER);
	assert_int_equal(apply(&f, tx_part(&f, &t, 1)), 0);
	struct logged *l = tx_step(&f, &t, TXN_DECIDE, 2, 2);
	assert_int_equal(apply(&f, l), 0);
	model_commit(&f, &t, l->index);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(unsettled(&f, &first), 1);
		assert_true(first.committed);
		assert_true(first.txn == t.id);
		assert_int_equal(first.n_others, 2);
		assert_int_equal(first.others[1].shard, 5);
		assert_int_equal(first.others[1].parts, 3);
		if (i == 0) {
			char path[512];
			fix_path(&f, "c-17/txn", path);
			assert_int_equal(unlink(path), 0); /* a power cut may take the name */
			reopen(&f, true);
			slice_put(pin(&f));
			assert_int_equal(access(path, F_OK), 0);
		} else {
			compact(&f);
		}
	}
	assert_int_equal(apply(&f, tx_step(&f, &t, TXN_END, 0, 3)), 0);
	assert_int_equal(unsettled(&f, NULL), 0);
	fix_compare(&f);
	fix_release(&f);
}

/* Parts of the deciding shard expire by the time in entries; those of another shard's transaction wait. */
static void undecided_parts_expire(void **state)
{
	(void)state;
	struct slice_txn first;
	struct fix f;
	const uint64_t t0 = 5 * NS, life = TXN_LIFE_S * NS;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	struct tx ours = tx_new(&f, DECIDER), theirs = tx_new(&f, DECIDER - 1);
	assert_int_equal(apply(&f, tx_part(&f, &ours, t0)), 0);
	assert_int_equal(apply(&f, tx_part(&f, &theirs, t0)), 0);
	struct tx other = tx_new(&f, DECIDER);
	assert_int_equal(apply(&f, tx_part(&f, &other, t0 + life)), 0);
	assert_int_equal(unsettled(&f, NULL), 3);
	assert_int_equal(apply(&f, tx_part(&f, &other, t0 + life + 1)), 0);
	assert_int_equal(unsettled(&f, NULL), 2);
	assert_int_equal(apply(&f, tx_step(&f, &ours, TXN_DECIDE, 0, t0 + life + 2)), -ECANCELED);
	struct logged *l = tx_step(&f, &theirs, TXN_COMMIT, 0, t0 + life + 3);
	assert_int_equal(apply(&f, l), 0);
	model_commit(&f, &theirs, l->index);
	assert_int_equal(unsettled(&f, &first), 1);
	assert_true(first.txn == other.id);
	assert_int_equal(first.parts, 2);
	/* Its own decision comes too late. */
	assert_int_equal(
		apply(&f, tx_step(&f, &other, TXN_DECIDE, 0, t0 + 2 * life + 1)), -ECANCELED);
	assert_int_equal(unsettled(&f, NULL), 0);
	fix_compare(&f);
	reopen(&f, true);
	fix_compare(&f);
	fix_release(&f);
}

/* A shard that is told to commit what it does not have is damaged, and says so. */
static void a_commit_without_its_parts_is_damage(void **state)
{
	(void)state;
	struct fix f;
	int rc;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	struct tx t = tx_new(&f, DECIDER - 1);
	assert_int_equal(apply(&f, tx_part(&f, &t, 1)), 0);
	t.parts = 2;
	assert_int_equal(apply(&f, tx_step(&f, &t, TXN_COMMIT, 0, 2)), -EUCLEAN);
	assert_null(shard_slice_get(f.s, CID, &rc, NULL));
	assert_int_equal(rc, -EUCLEAN);
	fix_release(&f);
}

/* What no entry holds is on disk before it counts. */
static void a_decision_syncs_its_vectors(void **state)
{
	(void)state;
	struct fix f;

	fix_init(&f, trap_disk());
	assert_int_equal(fix_create(&f, CID), 0);
	for (int i = 0; i < 20; i++) {
		struct tx t = tx_new(&f, DECIDER);
		assert_int_equal(apply(&f, tx_part(&f, &t, 1)), 0);
		assert_int_equal(apply(&f, tx_part(&f, &t, 1)), 0);
		apply_random(&f);
		trap.unsynced = true;
		struct logged *l = tx_step(&f, &t, TXN_DECIDE, 0, 2);
		assert_int_equal(apply(&f, l), 0);
		model_commit(&f, &t, l->index);
		assert_false(trap.unsynced);
	}
	fix_compare(&f);
	fix_release(&f);
}

/* A disk that fails at any call leaves the entry unapplied; it comes again and nothing is lost. */
static void a_step_that_fails_comes_again(void **state)
{
	(void)state;
	struct fix f;
	int failed = 0;

	fix_init(&f, trap_disk());
	assert_int_equal(fix_create(&f, CID), 0);
	for (int at = 1;; at++) {
		struct tx t = tx_new(&f, DECIDER);
		bool sprung = false;

		for (int i = 0; i < 4; i++) {
			struct apply_result res;
			struct logged *l = i < 3 ? tx_part(&f, &t, 1)
						 : tx_step(&f, &t, TXN_DECIDE, i % 2, 2);
			trap.calls = 0;
			trap.error = -ENOSPC;
			trap.at = at;
			int rc = fix_apply(&f, l, &res, NULL);
			sprung |= trap.calls >= at;
			trap.at = 0;
			failed += rc != 0;
			if (rc) /* a sync that failed ends the daemon: it is not tried again */
				assert_true(rc == -ENOSPC || rc == -EIO);
			if (rc == -EIO)
				reopen(&f, true);
			else if (rc)
				assert_int_equal(apply(&f, l), 0);
			if (i == 3)
				model_commit(&f, &t, l->index);
			fix_compare(&f);
		}
		assert_int_equal(apply(&f, tx_step(&f, &t, TXN_END, 0, 3)), 0);
		apply_random(&f);
		reopen(&f, true);
		fix_compare(&f);
		if (!sprung)
			break;
	}
	assert_true(failed > 4);
	fix_release(&f);
}

/* Killed at any write, of ours or of SQLite's, of any step: after the start and the replay of what the log has
 * by then it is nothing or all; nothing is left behind. */
static void killed_at_every_write_it_is_nothing_or_all(void **state)
{
	(void)state;
	struct fix f;
	unsigned kills = 0;

	fix_init(&f, trap_disk());
	assert_int_equal(fix_create(&f, CID), 0);
	apply_random(&f);
	for (int step = 0; step < 6; step++) { /* 0..2: parts, 3: decision, 4: end; 5: abort */
		for (int at = 1;; at++) {
			struct tx t = tx_new(&f, DECIDER);
			struct logged *l = NULL;
			int status;

			for (int i = 0; i <= VX_MIN(step, 4); i++) {
				l = i < 3    ? tx_part(&f, &t, 1)
				    : i == 3 ? tx_step(&f, &t, step == 5 ? TXN_ABORT : TXN_DECIDE,
						       step != 5, 2)
					     : tx_step(&f, &t, step == 5 ? TXN_ABORT : TXN_END, 0,
						       3);
				if (i == 3 && step != 5)
					model_commit(&f, &t, l->index);
				if (i < VX_MIN(step, 4))
					assert_int_equal(apply(&f, l), 0);
			}
			if (at % 3 == 0)
				fix_mark(&f);
			fix_close(&f, false);
			pid_t pid = fork();
			assert_true(pid >= 0);
			if (pid == 0) {
				fix_open(&f);
				int rc;
				slice_put(shard_slice_get(f.s, CID, &rc, NULL));
				trap_sqlite();
				trap.calls = 0;
				trap.error = 0;
				trap.at = at;
				_exit(apply(&f, l) == 0 ? 0 : 1);
			}
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
			fix_open(&f);
			fix_replay(&f); /* the log has the entry: it was appended first */
			fix_compare(&f);
			struct slice_txn first;
			assert_int_equal(unsettled(&f, &first), step < 4);
			if (step < 3) {
				assert_int_equal(first.parts, step + 1);
				assert_int_equal(apply(&f, tx_step(&f, &t, TXN_ABORT, 0, 4)), 0);
			} else if (step == 3) {
				assert_true(first.committed);
				assert_int_equal(apply(&f, tx_step(&f, &t, TXN_END, 0, 4)), 0);
			}
			assert_int_equal(unsettled(&f, NULL), 0);
			fix_compare(&f);
			kills += WIFSIGNALED(status) != 0;
			if (!WIFSIGNALED(status))
				break;
		}
	}
	print_message("%u kills\n", kills);
	assert_true(kills > 40);
	fix_release(&f);
}

/* 60 parts of 10 records with long texts: 40 MB, that are in no log. */
static void big_parts(struct fix *f, struct tx *t)
{
	static char text[65536];

	memset(text, 'x', sizeof text - 1);
	for (int p = 0; p < 60; p++) {
		struct entry_header h = {.kind = ENTRY_DATA,
			.cid = CID,
			.time_ns = 1,
			.txn = t->id,
			.part = ++t->parts};
		struct logged *l = log_next(f);
		float vec[DIM] = {1};
		assert_int_equal(entry_begin(&l->data, &h), 0);
		for (int i = 0; i < 10; i++) {
			struct entry_rec e = {.op = REC_UPSERT,
				.rec = {.id = "big",
					.id_len = 3,
					.vec = vec,
					.dim = DIM,
					.text = text,
					.text_len = sizeof text - 1}};
			assert_int_equal(entry_add(&l->data, &e), 0);
		}
		entry_finish(&l->data, 0, &h, 10);
		assert_int_equal(apply(f, l), 0);
		buf_release(&l->data); /* it is not replayed */
	}
}

/* What undecided parts took comes back, by the next transaction's use or by a compaction. */
static void the_space_of_dropped_parts_comes_back(void **state)
{
	(void)state;
	struct slice_stats st;
	struct fix f;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	apply_random(&f);
	uint64_t full = 0;
	for (int round = 0; round < 3; round++) {
		struct tx t = tx_new(&f, DECIDER);
		big_parts(&f, &t);
		assert_int_equal(apply(&f, tx_step(&f, &t, TXN_ABORT, 0, 2)), 0);
		fix_mark(&f);
		struct slice *sl = pin(&f);
		assert_true(slice_compact_due(sl));
		slice_stat(sl, &st);
		slice_put(sl);
		if (round == 0)
			full = st.disk_bytes;
		assert_true(st.disk_bytes < full + full / 4);
	}
	assert_true(full > 30u << 20);
	compact(&f);
	struct slice *sl = pin(&f);
	slice_stat(sl, &st);
	assert_false(slice_compact_due(sl));
	slice_put(sl);
	assert_true(st.disk_bytes < 2u << 20);
	fix_compare(&f);
	fix_release(&f);
}

/* Marks may be rare, or never find the end of SQLite's log while it is written. */
static void the_log_of_sqlite_is_bounded_without_marks(void **state)
{
	(void)state;
	char path[512];
	struct stat st;
	struct fix f;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	apply_random(&f);
	fix_path(&f, "c-17/meta.db-wal", path);
	for (int round = 0; round < 4; round++) {
		struct tx t = tx_new(&f, DECIDER);
		big_parts(&f, &t);
		assert_int_equal(apply(&f, tx_step(&f, &t, TXN_ABORT, 0, 1)), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_size < 80 << 20);
	}
	/* Somebody who reads keeps it from being begun anew: nobody is refused for that, and it comes back. */
	sqlite3 *reader;
	char db[512];
	fix_path(&f, "c-17/meta.db", db);
	assert_int_equal(sqlite3_open_v2(db, &reader, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM rec", NULL, NULL, NULL),
		SQLITE_OK);
	for (int round = 0; round < 4; round++) {
		struct tx t = tx_new(&f, DECIDER);
		if (round == 3) {
			assert_int_equal(stat(path, &st), 0);
			assert_true(st.st_size > 80 << 20);
			assert_int_equal(sqlite3_close(reader), SQLITE_OK);
		}
		big_parts(&f, &t);
		assert_int_equal(apply(&f, tx_step(&f, &t, TXN_ABORT, 0, 1)), 0);
	}
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 80 << 20);
	fix_compare(&f);
	fix_mark(&f);
	reopen(&f, true);
	fix_compare(&f);
	fix_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_transaction_is_seen_as_a_whole_from_its_decision_on),
		cmocka_unit_test(the_first_decision_stays),
		cmocka_unit_test(others_are_remembered_until_the_end),
		cmocka_unit_test(undecided_parts_expire),
		cmocka_unit_test(a_commit_without_its_parts_is_damage),
		cmocka_unit_test(a_decision_syncs_its_vectors),
		cmocka_unit_test(a_step_that_fails_comes_again),
		cmocka_unit_test(killed_at_every_write_it_is_nothing_or_all),
		cmocka_unit_test(the_space_of_dropped_parts_comes_back),
		cmocka_unit_test(the_log_of_sqlite_is_bounded_without_marks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
