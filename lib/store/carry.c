/* carry.c - slots and records on their way into a new generation.
 *
 * Vectors and slot rows are copied from segment to segment; a row's checksum is the slot's, so rows are
 * encoded anew.  Records are copied page by page, and no read transaction is held between pages, so what is read
 * may be newer than the view that the copy is of.  That does no harm: a record in a slot that was not carried is
 * passed over, and every record that changes after the view belongs to a slot that comes, or to a
 * kill that is noted, in a later delta; the last delta is taken while nothing is applied.
 *
 * In a delta records that are gone are removed before others are put, so that an id which was deleted and
 * inserted again does not stand there twice.
 */
#include "store/compact_i.h"

#include <stdlib.h>

#include "store/read_i.h"

#define CARRY_PAGE_ROWS   1024u
#define SETTLE_EVERY      16u /* pages */
#define CARRY_BATCH       256u
#define CARRY_STAGE_BYTES (1u << 20)

struct long_id {
	uint32_t slot;
	const char *id; /* in the old segment */
	size_t len;
};

/* --- slots ------------------------------------------------------------------------------- */

int carry_flush(struct compaction *c)
{
	struct slice *n = c->n;
	struct disk *d = n->shard->disk;
	const uint32_t dim = n->schema.dim, total = (uint32_t)n->st.next_slot - c->staged_from;
	const float *vecs = (const float *)(const void *)c->vecs.data;
	struct seg *g;
	int rc = 0;

	for (uint32_t done = 0; done < total && rc == 0;) {
		uint32_t slot = c->staged_from + done;
		uint32_t m = VX_MIN(total - done, SEG_SLOTS - slot_at(slot));
		rc = slice_seg_make(n, slot_seg(slot), &g, c->err);
		if (rc)
			return rc;
		rc = seg_write(d, g, slot_at(slot), m, vecs + (size_t)done * dim,
			c->rows.data + (size_t)done * SEG_ROW_SIZE);
		const struct long_id *ids = (const void *)c->longs.data;
		for (size_t i = 0; i < c->longs.len / sizeof *ids && rc == 0; i++) {
			if (slot_seg(ids[i].slot) == slot_seg(slot))
				rc = seg_write_cell(
					d, g, slot_at(ids[i].slot), ids[i].id, ids[i].len);
		}
		done += m;
	}
	if (rc)
		return vx_err_set(c->err, rc, "cannot write the new segments");
	c->staged_from = (uint32_t)n->st.next_slot;
	c->vecs.len = c->rows.len = c->longs.len = 0;
	return 0;
}

static int map_reserve(struct compaction *c, uint32_t slots)
{
	if (slots <= c->map_cap)
		return 0;
	uint32_t cap = VX_MAX(slots, c->map_cap + c->map_cap / 2);
	uint32_t *m = realloc(c->map, (size_t)cap * sizeof *m);
	if (!m)
		return vx_err_set(c->err, -ENOMEM, "no memory for %u slots", cap);
	memset(m + c->map_cap, 0, (size_t)(cap - c->map_cap) * sizeof *m);
	c->map = m;
	c->map_cap = cap;
	return 0;
}

int carry_slot(struct compaction *c, uint32_t old)
{
	struct slice *n = c->n;
	struct seg *g = slice_seg(c->o, slot_seg(old));
	const uint32_t dim = n->schema.dim, slot = (uint32_t)n->st.next_slot;
	const float *v = g ? seg_vector(g, slot_at(old)) : NULL;
	struct slot_row row;

	if (!v || seg_row(g, slot_at(old), &row))
		return vx_err_set(c->err, -EUCLEAN,
			"a record is damaged; delete it or write it anew (slot %u)", old);
	int rc = map_reserve(c, old + 1);
	if (rc)
		return rc;
	rc = buf_append(&c->vecs, v, (size_t)dim * sizeof *v);
	if (rc == 0)
		rc = buf_reserve(&c->rows, SEG_ROW_SIZE);
	if (rc == 0 && row.id_len > SEG_ID_INLINE) {
		struct long_id l = {.slot = slot, .id = row.id, .len = row.id_len};
		rc = buf_append(&c->longs, &l, sizeof l);
	}
	if (rc)
		return vx_err_set(c->err, rc, "no memory for vectors");
	slot_row_encode(c->rows.data + c->rows.len, n->cid, slot, row.rowid, row.born,
		vec_sum(v, dim, slot), row.id, row.id_len);
	c->rows.len += SEG_ROW_SIZE;
	c->map[old] = slot + 1;
	n->st.next_slot++;
	return c->vecs.len >= CARRY_STAGE_BYTES ? carry_flush(c) : 0;
}

static uint32_t new_slot(const struct compaction *c, uint64_t old)
{
	return old < c->map_cap ? c->map[old] : 0;
}

/* --- records ------------------------------------------------------------------------------ */

static int new_fail(struct compaction *c, int rc)
{
	metadb_err(&c->n->wdb, rc, c->err);
	/* What is wrong with the file in the making is no damage of the collection. */
	return rc == -EUCLEAN ? -EIO : rc;
}

/* Runs a statement of the new file whose values are bound. */
static int new_run(struct compaction *c, enum metadb_stmt which)
{
	int rc = metadb_run(&c->n->wdb, which);

	return rc ? new_fail(c, rc) : 0;
}

/* Puts the record in the row of 'st' (columns as ST_REC_GET) if its slot was carried. */
static int put_record(struct compaction *c, sqlite3_stmt *st)
{
	uint32_t slot = new_slot(c, (uint64_t)sqlite3_column_int64(st, 2));
	sqlite3_stmt *put;

	if (!slot)
		return 0;
	int rc = metadb_get(&c->n->wdb, ST_CARRY_PUT, &put);
	if (rc)
		return new_fail(c, rc);
	for (int i = 0; i < 7; i++)
		sqlite3_bind_value(put, i + 1, sqlite3_column_value(st, i));
	sqlite3_bind_int64(put, 3, slot - 1);
	rc = new_run(c, ST_CARRY_PUT);
	sqlite3_clear_bindings(put);
	return rc;
}

static int carry_page(struct compaction *c, uint64_t *after, uint32_t *ret_n)
{
	struct metadb *db;
	sqlite3_stmt *st;

	*ret_n = 0;
	int rc = reader_take(c->o, &db, c->err);
	if (rc)
		return rc;
	rc = metadb_get(db, ST_CARRY_PAGE, &st);
	if (rc) {
		reader_fail(c->o, db, rc, c->err);
		goto out;
	}
	sqlite3_bind_int64(st, 1, (int64_t)*after);
	sqlite3_bind_int64(st, 2, CARRY_PAGE_ROWS);
	while ((rc = metadb_step(db, st)) == 1) {
		*after = (uint64_t)sqlite3_column_int64(st, 0);
		++*ret_n;
		rc = put_record(c, st);
		if (rc)
			break;
	}
	if (rc < 0 && c->err->code == 0)
		reader_fail(c->o, db, rc, c->err);
	sqlite3_reset(st);
out:
	reader_give(c->o, db);
	return rc;
}

int carry_records(struct compaction *c)
{
	uint32_t n = CARRY_PAGE_ROWS;
	uint64_t after = 0;
	int rc = 0;

	for (uint32_t page = 0; n > 0 && rc == 0; page++) {
		if (c->o->shard->pause && c->o->shard->pause(c->o->shard->ctx))
			return -EINTR;
		rc = new_run(c, ST_BEGIN);
		if (rc == 0)
			rc = carry_page(c, &after, &n);
		if (rc == 0)
			rc = new_run(c, ST_COMMIT);
		if (rc == 0 && page % SETTLE_EVERY == SETTLE_EVERY - 1)
			rc = carry_settle(c);
	}
	return rc;
}

int carry_settle(struct compaction *c)
{
	int sq = sqlite3_wal_checkpoint_v2(
		c->n->wdb.c, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

	if (sq == SQLITE_OK)
		return 0;
	return new_fail(c, metadb_errno(c->n->wdb.c, sqlite3_extended_errcode(c->n->wdb.c)));
}

/* --- deltas --------------------------------------------------------------------------------- */

static int rowid_of(struct compaction *c, uint32_t old, uint64_t *ret)
{
	struct seg *g = slice_seg(c->o, slot_seg(old));
	struct slot_row row;

	if (!g || seg_row(g, slot_at(old), &row))
		return vx_err_set(c->err, -EUCLEAN, "the row of slot %u is damaged", old);
	*ret = row.rowid;
	return 0;
}

/* The slot's version ended. */
static int carry_kill(struct compaction *c, const struct kill *k, uint64_t *ret_rowid)
{
	uint32_t slot = new_slot(c, k->slot);
	sqlite3_stmt *st;

	int rc = rowid_of(c, k->slot, ret_rowid);
	if (rc || !slot--)
		return rc;
	_Atomic uint64_t *dead = seg_dead_make(slice_seg(c->n, slot_seg(slot)));
	if (!dead)
		return vx_err_set(c->err, -ENOMEM, "no memory for dead slots");
	atomic_store_explicit(&dead[slot_at(slot)], k->index, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->n->dead_slots, 1, memory_order_relaxed);
	index_forget(c->n->index, slot);
	rc = metadb_get(&c->n->wdb, ST_DEAD_ADD, &st);
	if (rc)
		return new_fail(c, rc);
	sqlite3_bind_int64(st, 1, slot);
	sqlite3_bind_int64(st, 2, (int64_t)k->index);
	return new_run(c, ST_DEAD_ADD);
}

/* Makes the record what it is in the old file by now.  'removing': if it is gone; else if it is there. */
static int carry_record(struct compaction *c, struct metadb *db, uint64_t rowid, bool removing)
{
	sqlite3_stmt *st, *del;

	int rc = metadb_get(db, ST_REC_GET_ROWID, &st);
	if (rc)
		return reader_fail(c->o, db, rc, c->err);
	sqlite3_bind_int64(st, 1, (int64_t)rowid);
	rc = metadb_step(db, st);
	if (rc < 0) {
		reader_fail(c->o, db, rc, c->err);
	} else if (rc == 1) {
		rc = removing ? 0 : put_record(c, st);
	} else if (removing) {
		rc = metadb_get(&c->n->wdb, ST_REC_DELETE, &del);
		if (rc) {
			rc = new_fail(c, rc);
		} else {
			sqlite3_bind_int64(del, 1, (int64_t)rowid);
			rc = new_run(c, ST_REC_DELETE);
		}
	}
	sqlite3_reset(st);
	return rc;
}

/* The slots that came since; the index has them in its tail. */
static int carry_slots(struct compaction *c, uint32_t upto)
{
	int rc = 0;

	while (c->old_slots < upto && rc == 0) {
		uint32_t old = c->old_slots, first = (uint32_t)c->n->st.next_slot;
		uint32_t m = VX_MIN(upto - old, VX_MIN(CARRY_BATCH, SEG_SLOTS - slot_at(old)));
		for (uint32_t i = 0; i < m && rc == 0; i++)
			rc = carry_slot(c, old + i);
		/* Written first: an index that learns looks at all it has. */
		if (rc == 0)
			rc = carry_flush(c);
		if (rc == 0)
			rc = index_append(c->n->index, first, m, slice_slot_vector(c->o, old));
		c->old_slots = old + m;
	}
	return rc;
}

int carry_delta(struct compaction *c, const struct view *v, const struct kill *kills, size_t n)
{
	uint32_t first = c->old_slots;
	struct metadb *db = NULL;
	uint64_t rowid = 0;

	int rc = carry_slots(c, v->nslots);
	if (rc == 0)
		rc = reader_take(c->o, &db, c->err);
	if (rc == 0)
		rc = new_run(c, ST_BEGIN);
	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = carry_kill(c, &kills[i], &rowid);
		if (rc == 0)
			rc = carry_record(c, db, rowid, true);
	}
	for (uint32_t s = first; s < v->nslots && rc == 0; s++) {
		rc = rowid_of(c, s, &rowid);
		if (rc == 0)
			rc = carry_record(c, db, rowid, false);
	}
	if (rc == 0)
		rc = new_run(c, ST_COMMIT);
	if (rc == 0)
		c->applied = v->applied;
	if (db)
		reader_give(c->o, db);
	return rc;
}

int carry_recent(struct compaction *c)
{
	struct metadb *db;
	sqlite3_stmt *st, *put;

	int rc = reader_take(c->o, &db, c->err);
	if (rc)
		return rc;
	rc = metadb_get(db, ST_CARRY_RECENT, &st);
	if (rc) {
		reader_fail(c->o, db, rc, c->err);
		goto out;
	}
	rc = new_run(c, ST_BEGIN);
	while (rc == 0 && (rc = metadb_step(db, st)) == 1) {
		rc = metadb_get(&c->n->wdb, ST_RECENT_ADD, &put);
		if (rc) {
			rc = new_fail(c, rc);
			break;
		}
		for (int i = 0; i < 9; i++)
			sqlite3_bind_value(put, i + 1, sqlite3_column_value(st, i));
		rc = new_run(c, ST_RECENT_ADD);
	}
	sqlite3_reset(st);
	if (rc == 0)
		rc = new_run(c, ST_COMMIT);
out:
	reader_give(c->o, db);
	return rc;
}

/* --- transactions --------------------------------------------------------------------------- */

/* Copies what the statement gives, column by column. */
static int copy_rows(struct compaction *c, struct metadb *from, const char *get, const char *put,
	uint64_t arg, uint32_t *ret_n)
{
	sqlite3_stmt *src = NULL, *dst = NULL;
	int rc = 0;

	if (sqlite3_prepare_v2(from->c, get, -1, &src, NULL))
		return reader_fail(c->o, from,
			metadb_errno(from->c, sqlite3_extended_errcode(from->c)), c->err);
	if (sqlite3_prepare_v2(c->n->wdb.c, put, -1, &dst, NULL)) {
		rc = new_fail(c, metadb_errno(c->n->wdb.c, sqlite3_extended_errcode(c->n->wdb.c)));
		goto out;
	}
	if (sqlite3_bind_parameter_count(src))
		sqlite3_bind_int64(src, 1, (int64_t)arg);
	while ((rc = metadb_step(from, src)) == 1) {
		for (int i = 0; i < sqlite3_column_count(src); i++)
			sqlite3_bind_value(dst, i + 1, sqlite3_column_value(src, i));
		int put_rc = metadb_step(&c->n->wdb, dst);
		if (put_rc < 0) {
			rc = new_fail(c, put_rc);
			goto out;
		}
		sqlite3_reset(dst);
		sqlite3_clear_bindings(dst);
		++*ret_n;
	}
	if (rc < 0)
		reader_fail(c->o, from, rc, c->err);
out:
	sqlite3_finalize(src);
	sqlite3_finalize(dst);
	return rc;
}

/* Parts only come and go as wholes: those of a transaction that has none any more are dropped. */
static int drop_settled(struct compaction *c, struct metadb *from)
{
	sqlite3_stmt *st = NULL, *del = NULL, *any = NULL;
	struct metadb *to = &c->n->wdb;
	int rc = 0;

	if (sqlite3_prepare_v2(to->c, "SELECT DISTINCT txn FROM parts", -1, &st, NULL) ||
		sqlite3_prepare_v2(to->c, "DELETE FROM parts WHERE txn = ?1", -1, &del, NULL)) {
		rc = new_fail(c, metadb_errno(to->c, sqlite3_extended_errcode(to->c)));
		goto out;
	}
	if (sqlite3_prepare_v2(
		    from->c, "SELECT 1 FROM parts WHERE txn = ?1 LIMIT 1", -1, &any, NULL)) {
		rc = reader_fail(c->o, from,
			metadb_errno(from->c, sqlite3_extended_errcode(from->c)), c->err);
		goto out;
	}
	struct buf gone = BUF_INIT;
	while ((rc = metadb_step(to, st)) == 1 && rc > 0) {
		sqlite3_bind_int64(any, 1, sqlite3_column_int64(st, 0));
		int there = metadb_step(from, any);
		sqlite3_reset(any);
		rc = there < 0    ? reader_fail(c->o, from, there, c->err)
		     : there == 0 ? buf_put_le64(&gone, (uint64_t)sqlite3_column_int64(st, 0))
				  : 0;
		if (rc)
			break;
	}
	sqlite3_reset(st);
	for (size_t i = 0; i < gone.len && rc == 0; i += 8) {
		sqlite3_bind_int64(del, 1, (int64_t)get_le64(gone.data + i));
		rc = metadb_step(to, del);
		sqlite3_reset(del);
		if (rc)
			new_fail(c, rc);
	}
	buf_release(&gone);
out:
	sqlite3_finalize(st);
	sqlite3_finalize(del);
	sqlite3_finalize(any);
	return rc;
}

/* How far the copy of the parts goes: the last index in it. */
static int last_part(struct compaction *c)
{
	sqlite3_stmt *st;

	if (sqlite3_prepare_v2(c->n->wdb.c, "SELECT max(idx) FROM parts", -1, &st, NULL))
		return new_fail(
			c, metadb_errno(c->n->wdb.c, sqlite3_extended_errcode(c->n->wdb.c)));
	int rc = metadb_step(&c->n->wdb, st);
	if (rc == 1)
		c->parts_idx = VX_MAX(c->parts_idx, (uint64_t)sqlite3_column_int64(st, 0));
	sqlite3_finalize(st);
	return rc < 0 ? new_fail(c, rc) : 0;
}

int carry_txns(struct compaction *c, uint32_t *ret_n)
{
	struct metadb *db;
	uint32_t outcomes = 0;

	if (!atomic_load_explicit(&c->o->txn_tables, memory_order_acquire))
		return 0;
	int rc = txn_tables(&c->n->wdb);
	if (rc)
		return new_fail(c, rc);
	rc = reader_take(c->o, &db, c->err);
	if (rc)
		return rc;
	/* One look at the old file: what is written meanwhile comes in the next round. */
	rc = metadb_run(db, ST_BEGIN_READ);
	if (rc)
		reader_fail(c->o, db, rc, c->err);
	if (rc == 0)
		rc = new_run(c, ST_BEGIN);
	if (rc == 0)
		rc = drop_settled(c, db);
	if (rc == 0)
		rc = copy_rows(c, db, "SELECT txn, part, idx, time, data FROM parts WHERE idx > ?1",
			"INSERT OR REPLACE INTO parts(txn, part, idx, time, data)"
			" VALUES(?1, ?2, ?3, ?4, ?5)",
			c->parts_idx, ret_n);
	if (rc == 0)
		rc = last_part(c);
	if (rc == 0 && sqlite3_exec(c->n->wdb.c, "DELETE FROM txns", NULL, NULL, NULL))
		rc = new_fail(c, metadb_errno(c->n->wdb.c, sqlite3_extended_errcode(c->n->wdb.c)));
	if (rc == 0)
		rc = copy_rows(c, db, "SELECT txn, outcome, idx, time, pending FROM txns",
			"INSERT INTO txns(txn, outcome, idx, time, pending)"
			" VALUES(?1, ?2, ?3, ?4, ?5)",
			0, &outcomes);
	if (rc == 0)
		rc = new_run(c, ST_COMMIT);
	if (!sqlite3_get_autocommit(db->c))
		(void)!metadb_run(db, ST_ROLLBACK);
	reader_give(c->o, db);
	return rc;
}

int carry_state(struct compaction *c, const struct metadb_state *st)
{
	struct metadb *db = &c->n->wdb;
	sqlite3_stmt *set;

	int rc = metadb_get(db, ST_STATE_SET, &set);
	if (rc)
		return new_fail(c, rc);
	sqlite3_bind_int64(set, 1, (int64_t)st->applied);
	sqlite3_bind_int64(set, 2, (int64_t)c->n->st.next_slot);
	sqlite3_bind_int64(set, 3, (int64_t)st->next_rowid);
	sqlite3_bind_int64(set, 4, (int64_t)st->next_recent);
	sqlite3_bind_int64(set, 5, (int64_t)st->count);
	return new_run(c, ST_STATE_SET);
}
