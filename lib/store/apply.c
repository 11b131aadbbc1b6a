/* apply.c - committed entries become rows, vectors, codes and a new view.
 *
 * Requests are taken in runs: consecutive entries of one slice (data, and steps of transactions: txn.c) share one SQLite transaction.
 *
 *	1. BEGIN; per record: find or insert its row, give it a slot, stage vector and slot row
 *	2. staged vectors and rows are written to the segments, codes go to the index
 *	3. batches, recent, state; COMMIT                    (point of no return)
 *	4. dead marks in memory; the new view is published; shard->applied
 *
 * Anything that fails before COMMIT returns is rolled back and the same entries come again.  What
 * was written to segments and index by then stays: slots are given out by the entries and the
 * committed state alone, so the next attempt gives the same vectors to the same slots.  The index
 * is therefore told only what it does not have.
 */
#include "store/apply_i.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

int run_fail(struct run *r, int rc)
{
	return metadb_err(&r->sl->wdb, rc, r->err);
}

/* --- staging ------------------------------------------------------------------------------- */

/* Those in one segment: the next one is made only when this one is done with. */
static int flush_long_ids(struct run *r, struct seg *g)
{
	const struct long_id *ids = (const void *)r->longs.data;
	int rc = 0;

	for (size_t i = 0; i < r->longs.len / sizeof *ids && rc == 0; i++)
		if (slot_seg(ids[i].slot) == g->no)
			rc = seg_write_cell(
				r->s->disk, g, slot_at(ids[i].slot), ids[i].id, ids[i].len);
	return rc;
}

int run_flush(struct run *r)
{
	struct slice *sl = r->sl;
	uint32_t dim = sl->schema.dim;
	uint32_t n_all = (uint32_t)r->st.next_slot - r->staged_from;
	const float *vecs = (const float *)(const void *)r->s->stage_vecs.data;
	int rc = 0;

	for (uint32_t done = 0; done < n_all && rc == 0;) {
		uint32_t slot = r->staged_from + done;
		uint32_t n = VX_MIN(n_all - done, SEG_SLOTS - slot_at(slot));
		struct seg *g;
		rc = slice_seg_make(sl, slot_seg(slot), &g, r->err);
		if (rc)
			return rc;
		rc = seg_write(r->s->disk, g, slot_at(slot), n, vecs + (size_t)done * dim,
			r->s->stage_rows.data + (size_t)done * SEG_ROW_SIZE);
		if (rc == 0)
			rc = flush_long_ids(r, g);
		done += n;
	}
	if (rc)
		return vx_err_set(r->err, rc, "collection %u: cannot write vectors", sl->cid);

	uint32_t have = index_appended(r->ix);
	assert(have >= r->staged_from);
	if (have < r->st.next_slot) {
		rc = index_append(r->ix, have, (uint32_t)r->st.next_slot - have,
			vecs + (size_t)(have - r->staged_from) * dim);
		if (rc)
			return vx_err_set(r->err, rc, "collection %u: cannot index", sl->cid);
	}
	r->staged_from = (uint32_t)r->st.next_slot;
	r->s->stage_vecs.len = r->s->stage_rows.len = 0;
	r->longs.len = 0;
	return 0;
}

/* Gives the record the next slot. */
static int stage(
	struct run *r, uint64_t index, const struct vx_record *rec, uint32_t ord, uint64_t rowid)
{
	uint32_t slot = (uint32_t)r->st.next_slot;
	size_t vsize = (size_t)rec->dim * sizeof(float);
	uint8_t placed[PLACED_SIZE];
	struct buf *vecs = &r->s->stage_vecs, *rows = &r->s->stage_rows;

	int rc = buf_append(vecs, rec->vec, vsize);
	if (rc == 0)
		rc = buf_reserve(rows, SEG_ROW_SIZE);
	put_le32(placed, ord);
	put_le64(placed + 4, rowid);
	if (rc == 0)
		rc = buf_append(&r->placed, placed, sizeof placed);
	if (rc == 0 && rec->id_len > SEG_ID_INLINE) {
		struct long_id l = {.slot = slot, .id = rec->id, .len = rec->id_len};
		rc = buf_append(&r->longs, &l, sizeof l);
	}
	if (rc)
		return vx_err_set(r->err, rc, "no memory for vectors");
	slot_row_encode(rows->data + rows->len, r->sl->cid, slot, rowid, index,
		vec_sum(rec->vec, rec->dim, slot), rec->id, rec->id_len);
	rows->len += SEG_ROW_SIZE;
	r->st.next_slot++;
	return 0;
}

/* The version in 'slot' ends with this entry. */
static int kill_slot(struct run *r, uint64_t index, uint64_t rowid, uint32_t slot)
{
	struct metadb *db = &r->sl->wdb;
	struct kill k = {.slot = slot, .index = index};
	sqlite3_stmt *st;

	int rc = buf_append(&r->kills, &k, sizeof k);
	if (rc)
		return vx_err_set(r->err, rc, "no memory");
	if (r->hist) {
		rc = metadb_get(db, ST_HIST_ADD, &st);
		if (rc)
			return run_fail(r, rc);
		sqlite3_bind_int64(st, 1, (int64_t)rowid);
		sqlite3_bind_int64(st, 2, (int64_t)index);
		rc = metadb_run(db, ST_HIST_ADD);
		if (rc)
			return run_fail(r, rc);
	}
	rc = metadb_get(db, ST_DEAD_ADD, &st);
	if (rc == 0) {
		sqlite3_bind_int64(st, 1, slot);
		sqlite3_bind_int64(st, 2, (int64_t)index);
		rc = metadb_run(db, ST_DEAD_ADD);
	}
	return rc ? run_fail(r, rc) : 0;
}

/* --- records --------------------------------------------------------------------------------- */

struct found {
	bool exists;
	uint64_t rowid, born;
	uint32_t slot;
};

static int find(struct run *r, const struct vx_record *rec, struct found *ret)
{
	sqlite3_stmt *st;

	int rc = metadb_get(&r->sl->wdb, ST_REC_FIND, &st);
	if (rc)
		return run_fail(r, rc);
	sqlite3_bind_blob(st, 1, rec->id, (int)rec->id_len, SQLITE_STATIC);
	rc = metadb_step(&r->sl->wdb, st);
	*ret = (struct found){.exists = rc == 1};
	if (rc == 1) {
		ret->rowid = (uint64_t)sqlite3_column_int64(st, 0);
		ret->slot = (uint32_t)sqlite3_column_int64(st, 1);
		ret->born = (uint64_t)sqlite3_column_int64(st, 2);
		rc = 0;
	} else if (rc < 0) {
		rc = run_fail(r, rc);
	}
	sqlite3_reset(st);
	return rc;
}

static void bind_rest(sqlite3_stmt *st, int at, const struct vx_record *rec)
{
	sqlite3_bind_text(st, at, rec->meta, (int)rec->meta_len, SQLITE_STATIC);
	sqlite3_bind_text(st, at + 1, rec->text, (int)rec->text_len, SQLITE_STATIC);
}

/* Inserts the row unless the id has one. */
static int insert(struct run *r, uint64_t index, uint64_t mtime, const struct vx_record *rec,
	bool *ret_inserted)
{
	struct metadb *db = &r->sl->wdb;
	sqlite3_stmt *st;

	int rc = metadb_get(db, ST_REC_INSERT, &st);
	if (rc)
		return run_fail(r, rc);
	sqlite3_bind_int64(st, 1, (int64_t)r->st.next_rowid);
	sqlite3_bind_blob(st, 2, rec->id, (int)rec->id_len, SQLITE_STATIC);
	sqlite3_bind_int64(st, 3, (int64_t)r->st.next_slot);
	sqlite3_bind_int64(st, 4, (int64_t)index);
	sqlite3_bind_int64(st, 5, (int64_t)mtime);
	bind_rest(st, 6, rec);
	rc = metadb_run(db, ST_REC_INSERT);
	if (rc)
		return run_fail(r, rc);
	*ret_inserted = sqlite3_changes(db->c) == 1;
	return 0;
}

static int update(struct run *r, uint64_t index, uint64_t mtime, const struct vx_record *rec,
	const struct found *f)
{
	sqlite3_stmt *st;

	int rc = kill_slot(r, index, f->rowid, f->slot);
	if (rc)
		return rc;
	rc = metadb_get(&r->sl->wdb, ST_REC_UPDATE, &st);
	if (rc == 0) {
		sqlite3_bind_int64(st, 1, (int64_t)f->rowid);
		sqlite3_bind_int64(st, 2, (int64_t)r->st.next_slot);
		sqlite3_bind_int64(st, 3, (int64_t)index);
		sqlite3_bind_int64(st, 4, (int64_t)mtime);
		bind_rest(st, 5, rec);
		rc = metadb_run(&r->sl->wdb, ST_REC_UPDATE);
	}
	return rc ? run_fail(r, rc) : 0;
}

static int delete_rec(struct run *r, uint64_t index, const struct found *f)
{
	sqlite3_stmt *st;

	int rc = kill_slot(r, index, f->rowid, f->slot);
	if (rc)
		return rc;
	rc = metadb_get(&r->sl->wdb, ST_REC_DELETE, &st);
	if (rc == 0) {
		sqlite3_bind_int64(st, 1, (int64_t)f->rowid);
		rc = metadb_run(&r->sl->wdb, ST_REC_DELETE);
	}
	return rc ? run_fail(r, rc) : 0;
}

int run_record(struct run *r, uint64_t index, uint64_t mtime, const struct entry_rec *e,
	uint32_t ord, enum rec_result *ret)
{
	const struct vx_record *rec = &e->rec;
	struct found f = {.exists = false};
	bool inserted = false;
	int rc;

	/* The usual case needs no look-up of its own: a new id. */
	if (e->op != REC_DELETE && (!e->has_if_version || e->if_version == 0)) {
		rc = insert(r, index, mtime, rec, &inserted);
		if (rc)
			return rc;
		if (inserted) {
			r->st.count++;
			*ret = REC_INSERTED;
			return stage(r, index, rec, ord, r->st.next_rowid++);
		}
		if (e->op == REC_INSERT) {
			*ret = REC_EXISTS;
			return 0;
		}
	}
	rc = find(r, rec, &f);
	if (rc)
		return rc;
	if (e->has_if_version && (f.exists ? f.born : 0) != e->if_version) {
		*ret = REC_CONFLICT;
		return 0;
	}
	if (e->op == REC_DELETE) {
		*ret = f.exists ? REC_DELETED : REC_MISSING;
		if (!f.exists)
			return 0;
		r->st.count--;
		return delete_rec(r, index, &f);
	}
	if (e->op == REC_INSERT) {
		*ret = REC_EXISTS;
		return 0;
	}
	*ret = REC_UPDATED;
	rc = update(r, index, mtime, rec, &f);
	return rc ? rc : stage(r, index, rec, ord, f.rowid);
}

/* --- entries ------------------------------------------------------------------------------------ */

static int add_batch_row(
	struct run *r, uint64_t index, uint32_t first, uint32_t n, const uint8_t *placed)
{
	struct metadb *db = &r->sl->wdb;
	sqlite3_stmt *st;
	uint32_t ord = get_le32(placed);
	uint64_t rowid = get_le64(placed + 4);
	bool plain = true;

	for (uint32_t i = 1; i < n && plain; i++)
		plain = get_le32(placed + i * PLACED_SIZE) == ord + i &&
			get_le64(placed + i * PLACED_SIZE + 4) == rowid + i;
	int rc = metadb_get(db, ST_BATCH_ADD, &st);
	if (rc)
		return run_fail(r, rc);
	const uint8_t *rows = r->s->stage_rows.data +
			      (size_t)(first - r->staged_from) * SEG_ROW_SIZE;
	sqlite3_bind_int64(st, 1, (int64_t)index);
	sqlite3_bind_int64(st, 2, first);
	sqlite3_bind_int64(st, 3, n);
	sqlite3_bind_int64(st, 4, (int64_t)slot_rows_sum(rows, n, first));
	sqlite3_bind_int64(st, 5, ord);
	sqlite3_bind_int64(st, 6, (int64_t)rowid);
	if (plain)
		sqlite3_bind_null(st, 7);
	else
		sqlite3_bind_blob(st, 7, placed, (int)(n * PLACED_SIZE), SQLITE_STATIC);
	rc = metadb_run(db, ST_BATCH_ADD);
	return rc ? run_fail(r, rc) : 0;
}

/* The entry's slots are all still staged: a run flushes between entries only. */
static int add_batches(struct run *r, uint64_t index, uint32_t first)
{
	uint32_t n_all = (uint32_t)r->st.next_slot - first;
	int rc = 0;

	for (uint32_t done = 0; done < n_all && rc == 0;) {
		uint32_t n = VX_MIN(n_all - done, SEG_SLOTS - slot_at(first + done));
		rc = add_batch_row(r, index, first + done, n, r->placed.data + done * PLACED_SIZE);
		done += n;
	}
	return rc;
}

static int find_recent(
	struct run *r, const struct entry_header *h, struct apply_result *res, bool *ret_found)
{
	sqlite3_stmt *st;

	int rc = metadb_get(&r->sl->wdb, ST_RECENT_FIND, &st);
	if (rc)
		return run_fail(r, rc);
	sqlite3_bind_int64(st, 1, (int64_t)h->origin);
	sqlite3_bind_int64(st, 2, (int64_t)h->seq);
	rc = slice_recall(r->sl, st, res, ret_found);
	return rc ? run_fail(r, rc) : 0;
}

static int add_recent(
	struct run *r, uint64_t index, const struct entry_header *h, const struct apply_result *res)
{
	struct metadb *db = &r->sl->wdb;
	sqlite3_stmt *st;

	int rc = metadb_get(db, ST_RECENT_ADD, &st);
	if (rc)
		return run_fail(r, rc);
	uint64_t n = r->st.next_recent++;
	sqlite3_bind_int64(st, 1, (int64_t)n);
	sqlite3_bind_int64(st, 2, (int64_t)h->origin);
	sqlite3_bind_int64(st, 3, (int64_t)h->seq);
	sqlite3_bind_int64(st, 4, (int64_t)index);
	sqlite3_bind_int64(st, 5, res->inserted);
	sqlite3_bind_int64(st, 6, res->updated);
	sqlite3_bind_int64(st, 7, res->deleted);
	sqlite3_bind_int64(st, 8, res->missing);
	sqlite3_bind_int64(st, 9, res->conflicts);
	rc = metadb_run(db, ST_RECENT_ADD);
	if (rc == 0 && n % RECENT_KEEP == 0 && n > RECENT_KEEP) {
		rc = metadb_get(db, ST_RECENT_PRUNE, &st);
		if (rc == 0) {
			sqlite3_bind_int64(st, 1, (int64_t)(n - RECENT_KEEP));
			rc = metadb_run(db, ST_RECENT_PRUNE);
		}
	}
	return rc ? run_fail(r, rc) : 0;
}

/* Every record must decode and fit the schema before the first one is applied. */
static bool entry_fits(const struct slice *sl, struct entry_reader rd)
{
	struct entry_rec e;
	int rc;

	while ((rc = entry_next(&rd, &e)) == 1) {
		if (e.op != REC_DELETE && e.rec.dim != sl->schema.dim)
			return false;
	}
	return rc == 0;
}

void count_result(struct apply_result *res, enum rec_result how)
{
	switch (how) {
	case REC_INSERTED:
		res->inserted++;
		break;
	case REC_UPDATED:
		res->updated++;
		break;
	case REC_DELETED:
		res->deleted++;
		break;
	case REC_MISSING:
		res->missing++;
		break;
	case REC_EXISTS:
	case REC_CONFLICT:
		res->conflicts++;
		break;
	}
}

static int apply_entry(struct run *r, struct apply_req *req, struct entry_reader rd)
{
	struct entry_rec e;
	uint32_t ord = 0, i = 0;
	bool checked = rd.h.origin || rd.h.seq, found = false;
	int rc;

	req->result = (struct apply_result){.status = 0};
	if (req->index <= r->st.applied)
		return slice_replay(r->sl, req, &rd, r->err);
	slice_beyond_repair(r->sl); /* what the log had it has given by now */
	if (checked) {
		rc = find_recent(r, &rd.h, &req->result, &found);
		if (rc)
			return rc;
	}
	if (found) {
		req->result.repeat = true;
		r->st.applied = req->index;
		return 0;
	}
	if (rd.h.kind == ENTRY_DATA && !entry_fits(r->sl, rd)) {
		req->result.status = -EUCLEAN;
		r->st.applied = req->index;
		return 0;
	}
	if (rd.h.kind == ENTRY_TXN || rd.h.txn) {
		rc = rd.h.kind == ENTRY_TXN ? txn_step(r, req, &rd) : txn_hide(r, req, &rd);
		if (rc == 0 && checked && rd.h.kind == ENTRY_TXN && req->result.status == 0)
			rc = add_recent(r, req->index, &rd.h, &req->result);
		r->st.applied = req->index;
		return rc;
	}
	uint32_t first = (uint32_t)r->st.next_slot;
	r->placed.len = 0;
	while (entry_next(&rd, &e) == 1) {
		enum rec_result how = REC_MISSING;
		if (r->st.next_slot >= VX_SLOTS_MAX)
			return vx_err_set(r->err, -ENOSPC, "the slice has no slots left");
		rc = run_record(r, req->index, rd.h.time_ns, &e, ord, &how);
		if (rc)
			return rc;
		ord += e.op != REC_DELETE;
		count_result(&req->result, how);
		if (req->rec_results)
			req->rec_results[i] = (uint8_t)how;
		i++;
	}
	rc = add_batches(r, req->index, first);
	if (rc == 0 && checked)
		rc = add_recent(r, req->index, &rd.h, &req->result);
	r->st.applied = req->index;
	if (rc == 0 && r->s->stage_vecs.len >= STAGE_BYTES_MAX)
		rc = run_flush(r);
	return rc;
}

/* --- runs ------------------------------------------------------------------------------------------ */

static int begin(struct run *r)
{
	struct slice *sl = r->sl;
	sqlite3_stmt *st;

	vx_lock(&sl->mu);
	r->hist = sl->run_hist = sl->scans > 0;
	vx_unlock(&sl->mu);
	vx_lock(&sl->view_mu);
	uint64_t prune_to = sl->prune_to;
	vx_unlock(&sl->view_mu);

	int rc = metadb_run(&sl->wdb, ST_BEGIN);
	if (rc == 0 && !r->hist && sl->hist_used)
		rc = metadb_run(&sl->wdb, ST_HIST_CLEAR);
	if (rc == 0 && prune_to) {
		rc = metadb_get(&sl->wdb, ST_BATCH_PRUNE, &st);
		if (rc == 0) {
			sqlite3_bind_int64(st, 1, (int64_t)prune_to);
			rc = metadb_run(&sl->wdb, ST_BATCH_PRUNE);
		}
	}
	return rc ? run_fail(r, rc) : 0;
}

/* Whatever may fail for want of memory after COMMIT is got before it. */
static int prepare_kills(struct run *r)
{
	const struct kill *k = (const void *)r->kills.data;

	for (size_t i = 0; i < r->kills.len / sizeof *k; i++) {
		if (!seg_dead_make(slice_seg(r->sl, slot_seg(k[i].slot))))
			return vx_err_set(r->err, -ENOMEM, "no memory for dead slots");
	}
	return 0;
}

static int commit(struct run *r)
{
	struct metadb *db = &r->sl->wdb;
	sqlite3_stmt *st;

	int rc = run_flush(r);
	if (rc == 0)
		rc = prepare_kills(r);
	if (rc == 0)
		rc = txn_before_commit(r);
	if (rc)
		return rc;
	rc = metadb_get(db, ST_STATE_SET, &st);
	if (rc == 0) {
		sqlite3_bind_int64(st, 1, (int64_t)r->st.applied);
		sqlite3_bind_int64(st, 2, (int64_t)r->st.next_slot);
		sqlite3_bind_int64(st, 3, (int64_t)r->st.next_rowid);
		sqlite3_bind_int64(st, 4, (int64_t)r->st.next_recent);
		sqlite3_bind_int64(st, 5, (int64_t)r->st.count);
		rc = metadb_run(db, ST_STATE_SET);
	}
	if (rc == 0)
		rc = metadb_run(db, ST_COMMIT);
	return rc ? run_fail(r, rc) : 0;
}

/* The searches of the epoch before the last have ended.  What was killed before the last epoch
 * began is in no view any more; what was killed since waits for one more. */
static void forget(struct run *r)
{
	struct slice *sl = r->sl;
	struct buf done = sl->forget_soon;

	for (size_t i = 0; i < done.len; i += 4)
		index_forget(r->ix, get_le32(done.data + i));
	done.len = 0;
	sl->forget_soon = sl->forget_next;
	sl->forget_next = done;
}

/* After COMMIT: nothing here fails. */
static void publish(struct run *r)
{
	struct slice *sl = r->sl;
	const struct kill *k = (const void *)r->kills.data;
	size_t n = r->kills.len / sizeof *k;
	uint32_t last = (uint32_t)r->st.next_slot;

	for (size_t i = 0; i < n; i++) {
		_Atomic uint64_t *dead = seg_dead_make(slice_seg(sl, slot_seg(k[i].slot)));
		atomic_store_explicit(&dead[slot_at(k[i].slot)], k[i].index, memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&sl->dead_slots, (uint32_t)n, memory_order_relaxed);
	sl->hist_used = r->hist ? sl->hist_used || n : false;
	sl->st = r->st;
	if (last > r->first_slot)
		slice_set_dirty(sl, slot_seg(r->first_slot), slot_seg(last - 1));
	else
		slice_set_dirty(sl, UINT32_MAX, 0);
	/* Without memory for the note the slots are linked for nothing; that is all. */
	for (size_t i = 0; i < n; i++)
		(void)!buf_put_le32(&sl->forget_next, k[i].slot);
	vx_lock(&sl->view_mu);
	sl->view = (struct view){
		.generation = (uint32_t)r->st.generation,
		.nslots = last,
		.applied = r->st.applied,
		.next_rowid = r->st.next_rowid,
		.count = r->st.count,
	};
	sl->prune_to = 0;
	if (sl->log_kills)
		compact_note_kills(sl, k, n);
	bool drained = sl->searching[(sl->epoch + 1) & 1] == 0;
	if (drained)
		sl->epoch++;
	vx_unlock(&sl->view_mu);
	if (drained)
		forget(r);
	/* A collection that is only deleted from has work for the index as well. */
	if ((last > r->first_slot || (n && slice_compact_due(sl))) && r->s->index_event)
		r->s->index_event(r->s->ctx, sl->cid);
}

bool slice_enter(struct slice *sl)
{
	vx_lock(&sl->mu);
	while (sl->swapping)
		vx_cond_wait(&sl->cond, &sl->mu);
	bool here = !sl->replaced;
	sl->run_active = here;
	sl->run_hist = false;
	vx_unlock(&sl->mu);
	return here;
}

void slice_leave(struct slice *sl)
{
	vx_lock(&sl->mu);
	sl->run_active = false;
	vx_cond_broadcast(&sl->cond);
	vx_unlock(&sl->mu);
}

static void end(struct run *r)
{
	txn_end_run(r);
	buf_release(&r->kills);
	buf_release(&r->longs);
	buf_release(&r->placed);
	r->s->stage_vecs.len = r->s->stage_rows.len = 0;
}

/* Entries that the slice has already: nothing is written unless a batch is bad. */
static int replay_run(struct run *r, struct apply_req *reqs, struct entry_reader *rds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		reqs[i].result = (struct apply_result){.status = 0};
		int rc = slice_replay(r->sl, &reqs[i], &rds[i], r->err);
		if (rc)
			return rc;
	}
	return 0;
}

static int data_run(struct run *r, struct apply_req *reqs, struct entry_reader *rds, size_t n)
{
	struct slice *sl = r->sl;

	int rc = begin(r);
	/* Bad batches are repaired before the index reads them. */
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (!r->ix && reqs[i].index > sl->st.applied && !sl->n_bad_batches)
			rc = slice_index_ready(sl, &r->ix, r->err);
		if (rc == 0)
			rc = apply_entry(r, &reqs[i], rds[i]);
	}
	if (rc == 0)
		rc = commit(r);
	if (rc == 0) {
		publish(r);
		txn_committed(r);
		slice_bound_wal(sl);
	} else if (!sqlite3_get_autocommit(sl->wdb.c)) {
		(void)!metadb_run(&sl->wdb, ST_ROLLBACK);
	}
	end(r);
	return rc;
}

static int transient(int rc)
{
	return rc == -EMFILE || rc == -ENFILE || rc == -EBUSY ? -ENOMEM : rc;
}

/* Applies 'n' data entries of one slice.  A damaged slice fails them all and is no error. */
static int slice_run(struct shard *s, struct apply_req *reqs, struct entry_reader *rds, size_t n,
	struct vx_err *err)
{
	struct vx_err mine = VX_ERR_INIT;
	int rc = 0;

	struct slice *sl = slice_pin(s, rds[0].h.cid, &rc, &mine);
	while (sl && !slice_enter(sl)) {
		slice_put(sl);
		sl = slice_pin(s, rds[0].h.cid, &rc, &mine);
	}
	if (sl) {
		struct run r = {.s = s, .sl = sl, .err = &mine, .st = sl->st};
		r.first_slot = r.staged_from = (uint32_t)sl->st.next_slot;
		if (reqs[n - 1].index <= sl->st.applied)
			rc = replay_run(&r, reqs, rds, n);
		else
			rc = data_run(&r, reqs, rds, n);
		if (rc == -EUCLEAN)
			slice_quarantine(sl, rc, vx_err_msg(&mine, rc));
		slice_leave(sl);
		slice_put(sl);
	}
	if (rc == -EUCLEAN || rc == -ENOENT) {
		for (size_t i = 0; i < n; i++)
			reqs[i].result = (struct apply_result){.status = rc};
		return 0;
	}
	if (rc && err)
		*err = mine;
	return transient(rc);
}

static int apply_create(
	struct shard *s, struct apply_req *req, struct entry_reader *rd, struct vx_err *err)
{
	struct slice_schema sc;

	req->result = (struct apply_result){.status = 0};
	int rc = slice_schema_decode(rd->payload, rd->payload_len, &sc);
	if (rc || sc.cid != rd->h.cid) {
		req->result.status = -EUCLEAN;
		return 0;
	}
	rc = shard_create_slice(s, &sc, rd->payload, rd->payload_len, req->index, err);
	if (rc == -EUCLEAN) {
		req->result.status = rc;
		return 0;
	}
	return transient(rc);
}

static int apply_one(
	struct shard *s, struct apply_req *req, struct entry_reader *rd, struct vx_err *err)
{
	switch (rd->h.kind) {
	case ENTRY_SLICE_CREATE:
		return apply_create(s, req, rd, err);
	case ENTRY_SLICE_DROP:
		req->result = (struct apply_result){.status = 0};
		return shard_drop_slice(s, rd->h.cid, err);
	default: /* another state machine's */
		req->result = (struct apply_result){.status = 0};
		return 0;
	}
}

void shard_watermark(struct shard *s, uint64_t index)
{
	if (index > atomic_load_explicit(&s->applied, memory_order_relaxed))
		atomic_store_explicit(&s->applied, index, memory_order_release);
}

uint64_t shard_applied(const struct shard *s)
{
	return atomic_load_explicit(&s->applied, memory_order_acquire);
}

/* Applied to the records of one slice. */
static bool of_slice(const struct entry_header *h)
{
	return h->kind == ENTRY_DATA || h->kind == ENTRY_TXN;
}

int shard_apply(
	struct shard *s, struct apply_req *reqs, size_t n, size_t *ret_done, struct vx_err *err)
{
	struct entry_reader rds[RUN_ENTRIES_MAX];
	size_t done = 0;
	int rc = 0;

	while (done < n && rc == 0) {
		size_t m = 0, bytes = 0;
		/* The longest run of readable data entries of one slice. */
		while (done + m < n && m < RUN_ENTRIES_MAX && bytes < RUN_BYTES_MAX) {
			struct apply_req *q = &reqs[done + m];
			assert(((uintptr_t)q->data & 7) == 0);
			assert(done + m == 0 || q[-1].index < q->index);
			rc = entry_open(&rds[m], q->data, q->len);
			if (rc || (m && (!of_slice(&rds[m].h) || rds[m].h.cid != rds[0].h.cid)))
				break;
			bytes += q->len;
			m++;
			if (!of_slice(&rds[0].h))
				break;
		}
		if (m == 0 && rc == -EUCLEAN) {
			log_error("store", "shard %u: entry %llu is damaged", s->id,
				(unsigned long long)reqs[done].index);
			reqs[done].result = (struct apply_result){.status = rc};
			m = 1;
			rc = 0;
		} else if (m == 0) {
			rc = vx_err_set(err, -EIO, "entry %llu has a newer format",
				(unsigned long long)reqs[done].index);
			break;
		} else if (of_slice(&rds[0].h)) {
			rc = slice_run(s, &reqs[done], rds, m, err);
		} else {
			rc = apply_one(s, &reqs[done], &rds[0], err);
		}
		if (rc)
			break;
		done += m;
		shard_watermark(s, reqs[done - 1].index);
	}
	*ret_done = done;
	return rc;
}
