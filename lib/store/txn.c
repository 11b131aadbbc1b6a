/* txn.c - transactions: many entries, over many shards, that are there all at once or never.
 *
 *	part 1..n    data entries with a transaction's number: checked and kept aside in 'parts', whole, as they
 *	             came.  They are no records: they have no slots, no rowids, and nobody reads them.
 *	DECIDE       in the deciding shard.  All its parts are there, and none is too old: their records are
 *	             applied now, in order, in one SQLite transaction and one view.      (point of no return)
 *	             Else the parts are dropped, and the outcome is "aborted".
 *	COMMIT       in each other shard, once the decision is known: the same for its parts.
 *	END          in the deciding shard: nobody will ask again.
 *	ABORT        drops the parts; in the deciding shard it is a decision, and the first decision stays.
 *
 * The outcome stays in 'txns', so that an entry which comes late or twice finds it.  That
 * 'parts' is in meta.db makes the rest simple: applied index, parts and records change together, marks may
 * let go of the log, a compaction carries them, and dropping is DELETE.
 *
 * The records are applied as of the entry that decides: its index is their version and its time their mtime,
 * so whoever wrote an id between the parts and the decision is overwritten, as the log has it.
 *
 * No entry holds the vectors that a decision writes: the log could not bring them back after a power
 * cut.  So the segments are synced before COMMIT, and there are no rows in 'batches'; then either
 * SQLite's part survives, and the vectors do, or it does not, and the parts are still there
 * when the decision comes again.
 *
 * Parts of the deciding shard expire by the time that leaders write into entries, when an entry of some
 * transaction is applied to the slice; parts of other shards never do so by themselves, because the decision may have been
 * made: lib/cluster/txn.c asks.  A file "txn" in the slice's directory says that there is something to
 * ask about, so that a start need not open every slice.
 */
#include "store/apply_i.h"
#include "store/read_i.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#define NS_PER_S UINT64_C(1000000000)
/* Outcomes are remembered for so many lives of a part. */
#define OUTCOME_LIVES  10u
#define FREE_BYTES_MIN (32u << 20) /* fewer are not worth a compaction */
#define DB_PAGE        4096u

enum outcome { OUT_NONE = 0, OUT_COMMITTED = 1, OUT_ABORTED = 2 };

static const char tables_sql[] =
	"CREATE TABLE IF NOT EXISTS parts(txn INTEGER, part INTEGER, idx INTEGER NOT NULL,"
	" time INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(txn, part));"
	"CREATE INDEX IF NOT EXISTS parts_time ON parts(time);"
	"CREATE INDEX IF NOT EXISTS parts_idx ON parts(idx);"
	"CREATE TABLE IF NOT EXISTS txns(txn INTEGER PRIMARY KEY, outcome INTEGER NOT NULL,"
	" idx INTEGER NOT NULL, time INTEGER NOT NULL, pending BLOB);";

int txn_tables(struct metadb *db)
{
	if (sqlite3_exec(db->c, tables_sql, NULL, NULL, NULL) == SQLITE_OK)
		return 0;
	return metadb_errno(db->c, sqlite3_extended_errcode(db->c));
}

/* Freed pages of parts are many and hold nothing that was deleted: not worth overwriting. */
static void free_fast(struct metadb *db, bool fast)
{
	(void)sqlite3_exec(db->c, fast ? "PRAGMA secure_delete=FAST" : "PRAGMA secure_delete=ON",
		NULL, NULL, NULL);
}

static int begin(struct run *r)
{
	if (r->touched_txn)
		return 0;
	r->touched_txn = true;
	int rc = atomic_load_explicit(&r->sl->txn_tables, memory_order_relaxed)
			 ? 0
			 : txn_tables(&r->sl->wdb);
	if (rc)
		return run_fail(r, rc);
	free_fast(&r->sl->wdb, true);
	return 0;
}

/* Runs a statement of which the first two values are these. */
static int run2(struct run *r, enum metadb_stmt which, uint64_t a, uint64_t b)
{
	sqlite3_stmt *st;

	int rc = metadb_get(&r->sl->wdb, which, &st);
	if (rc == 0) {
		sqlite3_bind_int64(st, 1, (int64_t)a);
		if (sqlite3_bind_parameter_count(st) > 1)
			sqlite3_bind_int64(st, 2, (int64_t)b);
		rc = metadb_run(&r->sl->wdb, which);
	}
	return rc ? run_fail(r, rc) : 0;
}

/* --- outcomes ------------------------------------------------------------------------------ */

static int outcome_of(struct run *r, uint64_t txn, enum outcome *ret)
{
	sqlite3_stmt *st;

	int rc = metadb_get(&r->sl->wdb, ST_TXN_GET, &st);
	if (rc)
		return run_fail(r, rc);
	sqlite3_bind_int64(st, 1, (int64_t)txn);
	rc = metadb_step(&r->sl->wdb, st);
	*ret = rc == 1 ? (enum outcome)sqlite3_column_int(st, 0) : OUT_NONE;
	sqlite3_reset(st);
	return rc < 0 ? run_fail(r, rc) : 0;
}

static int set_outcome(struct run *r, uint64_t txn, enum outcome out, uint64_t index, uint64_t time,
	const struct txn_step *step)
{
	struct buf pending = BUF_INIT;
	sqlite3_stmt *st;
	int rc = 0;

	for (uint32_t i = 0; step && i < step->n && rc == 0; i++) {
		rc = buf_put_le32(&pending, step->others[i].shard);
		if (rc == 0)
			rc = buf_put_le32(&pending, step->others[i].parts);
	}
	if (rc) {
		buf_release(&pending);
		return vx_err_set(r->err, rc, "no memory");
	}
	rc = metadb_get(&r->sl->wdb, ST_TXN_PUT, &st);
	if (rc == 0) {
		sqlite3_bind_int64(st, 1, (int64_t)txn);
		sqlite3_bind_int64(st, 2, out);
		sqlite3_bind_int64(st, 3, (int64_t)index);
		sqlite3_bind_int64(st, 4, (int64_t)time);
		if (pending.len)
			sqlite3_bind_blob(st, 5, pending.data, (int)pending.len, SQLITE_STATIC);
		else
			sqlite3_bind_null(st, 5);
		rc = metadb_run(&r->sl->wdb, ST_TXN_PUT);
		sqlite3_clear_bindings(st);
	}
	buf_release(&pending);
	return rc ? run_fail(r, rc) : 0;
}

static int drop_parts(struct run *r, uint64_t txn)
{
	return run2(r, ST_PART_DROP, txn, 0);
}

/* What is too old by the time of the entry being applied. */
static int expire(struct run *r, uint64_t index, uint64_t now)
{
	const uint64_t life = TXN_LIFE_S * NS_PER_S;
	struct buf old = BUF_INIT;
	sqlite3_stmt *st;

	if (now <= life)
		return 0;
	int rc = metadb_get(&r->sl->wdb, ST_PART_OLD, &st);
	if (rc)
		return run_fail(r, rc);
	sqlite3_bind_int64(st, 1, (int64_t)(now - life));
	while ((rc = metadb_step(&r->sl->wdb, st)) == 1) {
		rc = buf_put_le64(&old, (uint64_t)sqlite3_column_int64(st, 0));
		if (rc)
			break;
	}
	sqlite3_reset(st);
	if (rc)
		rc = rc == -ENOMEM ? vx_err_set(r->err, rc, "no memory") : run_fail(r, rc);
	for (size_t i = 0; i < old.len && rc == 0; i += 8) {
		uint64_t txn = get_le64(old.data + i);
		if (txn >> TXN_SHARD_SHIFT != r->s->id)
			continue;
		rc = drop_parts(r, txn);
		if (rc == 0)
			rc = set_outcome(r, txn, OUT_ABORTED, index, now, NULL);
		if (rc == 0)
			log_info("store", "collection %u: transaction %016llx has expired",
				r->sl->cid, (unsigned long long)txn);
	}
	buf_release(&old);
	if (rc == 0 && now > life * OUTCOME_LIVES)
		rc = run2(r, ST_TXN_PRUNE, now - life * OUTCOME_LIVES, 0);
	return rc;
}

/* --- parts --------------------------------------------------------------------------------- */

int txn_hide(struct run *r, struct apply_req *req, const struct entry_reader *rd)
{
	enum outcome out;
	sqlite3_stmt *st;

	int rc = begin(r);
	if (rc == 0)
		rc = expire(r, req->index, rd->h.time_ns);
	if (rc == 0)
		rc = outcome_of(r, rd->h.txn, &out);
	if (rc)
		return rc;
	if (out != OUT_NONE || rd->h.part == 0) {
		req->result.status = -ECANCELED; /* it was given up meanwhile */
		return 0;
	}
	rc = metadb_get(&r->sl->wdb, ST_PART_ADD, &st);
	if (rc)
		return run_fail(r, rc);
	sqlite3_bind_int64(st, 1, (int64_t)rd->h.txn);
	sqlite3_bind_int64(st, 2, rd->h.part);
	sqlite3_bind_int64(st, 3, (int64_t)req->index);
	sqlite3_bind_int64(st, 4, (int64_t)rd->h.time_ns);
	sqlite3_bind_blob(st, 5, req->data, (int)req->len, SQLITE_STATIC);
	rc = metadb_run(&r->sl->wdb, ST_PART_ADD);
	sqlite3_clear_bindings(st);
	return rc ? run_fail(r, rc) : 0;
}

/* Whether exactly the parts 1..n are there. */
static int have_parts(struct run *r, uint64_t txn, uint32_t n, bool *ret)
{
	sqlite3_stmt *st;

	int rc = metadb_get(&r->sl->wdb, ST_PART_COUNT, &st);
	if (rc)
		return run_fail(r, rc);
	sqlite3_bind_int64(st, 1, (int64_t)txn);
	rc = metadb_step(&r->sl->wdb, st);
	if (rc == 1)
		*ret = sqlite3_column_int64(st, 0) == n &&
		       (n == 0 || sqlite3_column_int64(st, 1) == n);
	sqlite3_reset(st);
	return rc < 0 ? run_fail(r, rc) : 0;
}

/* The bytes of a part, aligned. */
static int read_part(struct run *r, uint64_t txn, uint32_t part, struct buf *out)
{
	sqlite3_stmt *st;

	int rc = metadb_get(&r->sl->wdb, ST_PART_GET, &st);
	if (rc)
		return run_fail(r, rc);
	sqlite3_bind_int64(st, 1, (int64_t)txn);
	sqlite3_bind_int64(st, 2, part);
	rc = metadb_step(&r->sl->wdb, st);
	out->len = 0;
	if (rc == 1) {
		const void *p = sqlite3_column_blob(st, 0);
		rc = buf_append(out, p, (size_t)sqlite3_column_bytes(st, 0));
		if (rc)
			vx_err_set(r->err, rc, "no memory for a part");
	} else {
		rc = run_fail(r, rc ? rc : -EUCLEAN);
	}
	sqlite3_reset(st);
	return rc;
}

static int apply_part(struct run *r, const struct apply_req *req, uint64_t time,
	struct entry_reader *rd, struct apply_result *res)
{
	struct entry_rec e;
	uint32_t ord = 0;
	int rc;

	r->placed.len = 0;
	while ((rc = entry_next(rd, &e)) == 1) {
		enum rec_result how = REC_MISSING;
		if (r->st.next_slot >= VX_SLOTS_MAX)
			return vx_err_set(r->err, -ENOSPC, "the slice has no slots left");
		rc = run_record(r, req->index, time, &e, ord, &how);
		if (rc)
			return rc;
		ord += e.op != REC_DELETE;
		count_result(res, how);
	}
	if (rc)
		return vx_err_set(r->err, -EUCLEAN, "meta.db: a part of a transaction is damaged");
	/* Long ids are borrowed from the part. */
	return run_flush(r);
}

/* All parts become records; what they took is free for the next ones at once. */
static int apply_parts(
	struct run *r, struct apply_req *req, uint64_t time, uint64_t txn, uint32_t n)
{
	struct buf data = BUF_INIT;
	struct entry_reader rd;

	int rc = run_flush(r); /* what is staged belongs to entries before */
	if (rc == 0 && !r->sync_slots) {
		r->sync_slots = true;
		r->sync_from = (uint32_t)r->st.next_slot;
	}
	for (uint32_t part = 1; part <= n && rc == 0; part++) {
		rc = read_part(r, txn, part, &data);
		if (rc == 0 && entry_open(&rd, data.data, data.len))
			rc = vx_err_set(
				r->err, -EUCLEAN, "meta.db: a part of a transaction is damaged");
		if (rc == 0)
			rc = apply_part(r, req, time, &rd, &req->result);
		if (rc == 0)
			rc = run2(r, ST_PART_DROP_ONE, txn, part);
	}
	buf_release(&data);
	return rc;
}

/* --- steps --------------------------------------------------------------------------------- */

static int decide(struct run *r, struct apply_req *req, const struct entry_header *h,
	const struct txn_step *step)
{
	enum outcome out;
	bool there = false;

	int rc = outcome_of(r, h->txn, &out);
	if (rc)
		return rc;
	if (out != OUT_NONE) {
		req->result.status = out == OUT_COMMITTED ? 0 : -ECANCELED;
		req->result.repeat = true;
		return 0;
	}
	rc = have_parts(r, h->txn, step->parts, &there);
	if (rc == 0 && there)
		rc = apply_parts(r, req, h->time_ns, h->txn, step->parts);
	else if (rc == 0)
		rc = drop_parts(r, h->txn);
	if (rc)
		return rc;
	if (!there)
		req->result.status = -ECANCELED;
	return set_outcome(r, h->txn, there ? OUT_COMMITTED : OUT_ABORTED, req->index, h->time_ns,
		there ? step : NULL);
}

static int commit_here(struct run *r, struct apply_req *req, const struct entry_header *h,
	const struct txn_step *step)
{
	enum outcome out;
	bool there = false;

	int rc = outcome_of(r, h->txn, &out);
	if (rc)
		return rc;
	if (out == OUT_COMMITTED) {
		req->result.repeat = true;
		return 0;
	}
	rc = have_parts(r, h->txn, step->parts, &there);
	if (rc)
		return rc;
	/* It was decided because everybody had everything. */
	if (!there || out == OUT_ABORTED)
		return vx_err_set(r->err, -EUCLEAN,
			"meta.db: parts of transaction %016llx, which was committed, are missing",
			(unsigned long long)h->txn);
	rc = apply_parts(r, req, h->time_ns, h->txn, step->parts);
	return rc ? rc : set_outcome(r, h->txn, OUT_COMMITTED, req->index, h->time_ns, NULL);
}

static int abort_here(struct run *r, struct apply_req *req, const struct entry_header *h)
{
	enum outcome out;

	int rc = outcome_of(r, h->txn, &out);
	if (rc)
		return rc;
	if (out == OUT_COMMITTED) {
		req->result.status = -EALREADY;
		return 0;
	}
	rc = drop_parts(r, h->txn);
	return rc ? rc : set_outcome(r, h->txn, OUT_ABORTED, req->index, h->time_ns, NULL);
}

int txn_step(struct run *r, struct apply_req *req, const struct entry_reader *rd)
{
	struct txn_step step;

	if (txn_step_decode(rd->payload, rd->payload_len, &step) || rd->h.txn == 0) {
		req->result.status = -EUCLEAN;
		return 0;
	}
	int rc = begin(r);
	if (rc == 0)
		rc = expire(r, req->index, rd->h.time_ns);
	if (rc)
		return rc;
	switch (step.op) {
	case TXN_DECIDE:
		return decide(r, req, &rd->h, &step);
	case TXN_COMMIT:
		return commit_here(r, req, &rd->h, &step);
	case TXN_ABORT:
		return abort_here(r, req, &rd->h);
	default:
		return run2(r, ST_TXN_END, rd->h.txn, 0);
	}
}

/* --- around COMMIT ------------------------------------------------------------------------- */

static int sync_slots(struct run *r)
{
	struct slice *sl = r->sl;
	uint32_t last = (uint32_t)r->st.next_slot;
	char name[32], path[STORE_PATH_MAX];
	int rc = 0;

	if (last == r->sync_from)
		return 0;
	for (uint32_t no = slot_seg(r->sync_from); rc == 0 && no <= slot_seg(last - 1); no++) {
		snprintf(name, sizeof name, "%06u.vec", no);
		rc = store_path(path, sl->gen_dir, name);
		if (rc == 0)
			rc = shard_sync_file(r->s, path);
	}
	if (rc == 0)
		rc = shard_sync_dir(r->s, sl->gen_dir);
	/* A second try would succeed and prove nothing: whatever it is, it is not waited for. */
	return rc ? vx_err_set(r->err, -EIO, "collection %u: cannot sync the vectors: %s", sl->cid,
			    strerror(-rc))
		  : 0;
}

static int marker_path(const struct slice *sl, char *ret)
{
	return store_path(ret, sl->dir, TXN_MARKER);
}

static int set_marker(struct slice *sl, struct vx_err *err)
{
	struct disk *d = sl->shard->disk;
	char path[STORE_PATH_MAX];

	if (atomic_load_explicit(&sl->txn_marker, memory_order_relaxed))
		return 0;
	int rc = marker_path(sl, path);
	int fd = rc ? rc : d->ops->open(d, path, O_RDWR | O_CREAT, 0644);
	if (fd < 0)
		return vx_err_set(err, fd, "%s: cannot make the file", path);
	(void)d->ops->close(d, fd);
	atomic_store_explicit(&sl->txn_marker, true, memory_order_relaxed);
	vx_lock(&sl->view_mu);
	sl->dirty_dir = true;
	vx_unlock(&sl->view_mu);
	return 0;
}

static void clear_marker(struct slice *sl)
{
	char path[STORE_PATH_MAX];

	if (!atomic_load_explicit(&sl->txn_marker, memory_order_relaxed) || marker_path(sl, path))
		return;
	/* If it stays, or comes back after a power cut, the next start asks for nothing. */
	(void)sl->shard->disk->ops->unlink(sl->shard->disk, path);
	atomic_store_explicit(&sl->txn_marker, false, memory_order_relaxed);
}

/* Whether there are parts, or shards that have not committed yet.  1, 0 or a negative errno. */
static int unsettled(struct metadb *db)
{
	sqlite3_stmt *st;

	int rc = metadb_get(db, ST_TXN_ANY, &st);
	if (rc)
		return rc;
	rc = metadb_step(db, st);
	sqlite3_reset(st);
	return rc;
}

static uint64_t pragma_pages(struct metadb *db, const char *sql)
{
	sqlite3_stmt *st;
	uint64_t n = 0;

	if (sqlite3_prepare_v2(db->c, sql, -1, &st, NULL))
		return 0;
	if (sqlite3_step(st) == SQLITE_ROW)
		n = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return n * DB_PAGE;
}

/* Pages of dropped parts are for the next ones; where they are most of the slice a compaction gives them back. */
static void look_at_free_pages(struct slice *sl)
{
	uint64_t slot = SEG_ROW_SIZE + (uint64_t)sl->schema.dim * sizeof(float);
	uint64_t unused = pragma_pages(&sl->wdb, "PRAGMA freelist_count");
	uint64_t all = pragma_pages(&sl->wdb, "PRAGMA page_count") + sl->st.next_slot * slot;

	atomic_store_explicit(
		&sl->free_due, unused >= FREE_BYTES_MIN && unused * 2 >= all, memory_order_relaxed);
}

int txn_before_commit(struct run *r)
{
	if (!r->touched_txn)
		return 0;
	int rc = unsettled(&r->sl->wdb);
	if (rc < 0)
		return run_fail(r, rc);
	if (rc == 1)
		rc = set_marker(r->sl, r->err);
	if (rc == 0 && r->sync_slots)
		rc = sync_slots(r);
	return rc;
}

void txn_committed(struct run *r)
{
	struct slice *sl = r->sl;

	if (!r->touched_txn)
		return;
	atomic_store_explicit(&sl->txn_tables, true, memory_order_release);
	if (unsettled(&sl->wdb) == 0) {
		clear_marker(sl);
		look_at_free_pages(sl);
	}
	if (atomic_load_explicit(&sl->free_due, memory_order_relaxed) && r->s->index_event)
		r->s->index_event(r->s->ctx, sl->cid);
}

void txn_end_run(struct run *r)
{
	if (r->touched_txn)
		free_fast(&r->sl->wdb, false);
}

/* --- opening ------------------------------------------------------------------------------- */

int txn_open(struct slice *sl, struct vx_err *err)
{
	sqlite3_stmt *st;

	int sq = sqlite3_prepare_v2(
		sl->wdb.c, "SELECT 1 FROM sqlite_master WHERE name = 'txns'", -1, &st, NULL);
	if (sq)
		return metadb_err(&sl->wdb,
			metadb_errno(sl->wdb.c, sqlite3_extended_errcode(sl->wdb.c)), err);
	int rc = metadb_step(&sl->wdb, st);
	if (rc < 0)
		metadb_err(&sl->wdb, rc, err);
	sqlite3_finalize(st);
	if (rc < 0)
		return rc;
	atomic_store_explicit(&sl->txn_tables, rc == 1, memory_order_release);
	if (rc == 1 && (rc = unsettled(&sl->wdb)) < 0)
		return metadb_err(&sl->wdb, rc, err);
	if (rc == 1)
		return set_marker(sl, err);
	clear_marker(sl);
	return 0;
}

/* --- asking -------------------------------------------------------------------------------- */

static int list_hidden(struct metadb *db, struct buf *out)
{
	sqlite3_stmt *st;

	int rc = metadb_get(db, ST_PART_TXNS, &st);
	if (rc)
		return rc;
	while ((rc = metadb_step(db, st)) == 1) {
		struct slice_txn t = {.txn = (uint64_t)sqlite3_column_int64(st, 0),
			.time_ns = (uint64_t)sqlite3_column_int64(st, 1),
			.parts = (uint32_t)sqlite3_column_int64(st, 2)};
		rc = buf_append(out, &t, sizeof t);
		if (rc)
			break;
	}
	sqlite3_reset(st);
	return rc;
}

static int list_pending(struct metadb *db, struct buf *out)
{
	sqlite3_stmt *st;

	int rc = metadb_get(db, ST_TXN_PENDING, &st);
	if (rc)
		return rc;
	while ((rc = metadb_step(db, st)) == 1) {
		struct slice_txn t = {.txn = (uint64_t)sqlite3_column_int64(st, 0),
			.time_ns = (uint64_t)sqlite3_column_int64(st, 1),
			.committed = true};
		const uint8_t *p = sqlite3_column_blob(st, 2);
		uint32_t n = (uint32_t)sqlite3_column_bytes(st, 2) / 8;
		for (t.n_others = 0; t.n_others < n && t.n_others < TXN_PARTICIPANTS_MAX;
			t.n_others++) {
			t.others[t.n_others].shard = get_le32(p + (size_t)t.n_others * 8);
			t.others[t.n_others].parts = get_le32(p + (size_t)t.n_others * 8 + 4);
		}
		rc = buf_append(out, &t, sizeof t);
		if (rc)
			break;
	}
	sqlite3_reset(st);
	return rc;
}

int slice_txns(struct slice *sl, struct buf *ret, struct vx_err *err)
{
	struct metadb *db;

	ret->len = 0;
	if (!atomic_load_explicit(&sl->txn_tables, memory_order_acquire))
		return 0;
	int rc = reader_take(sl, &db, err);
	if (rc)
		return rc;
	rc = list_hidden(db, ret);
	if (rc == 0)
		rc = list_pending(db, ret);
	if (rc < 0)
		reader_fail(sl, db, rc, err);
	reader_give(sl, db);
	return rc;
}

int shard_txn_slices(struct shard *s, struct buf *ret_cids)
{
	int rc = 0;

	ret_cids->len = 0;
	if (s->stopped)
		return 0;
	vx_lock(&s->mu);
	for (unsigned i = 0; i < SHARD_HASH && rc == 0; i++) {
		for (struct slice *sl = s->hash[i]; sl && rc == 0; sl = sl->hash_next) {
			if (atomic_load_explicit(&sl->txn_marker, memory_order_relaxed))
				rc = buf_put_le32(ret_cids, sl->cid);
		}
	}
	vx_unlock(&s->mu);
	return rc;
}
