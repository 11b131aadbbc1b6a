/* replay.c - entries that the slice has applied already, seen again after a start.
 *
 * The log is applied again from the mark on.  The slice's own applied index says what its tables
 * have; its vectors may have been lost by a power cut all the same, since nothing but the mark
 * syncs them.  Opening the slice compared the batches above the mark with the segments; here the
 * bad ones are written anew from the entries, which gives the same bytes: slots, rowids and the
 * order of the records are in 'batches'.
 */
#include "store/store_i.h"

#include <stdlib.h>

#include "base/log.h"

/* Counts of an entry applied earlier, from a bound ST_RECENT_FIND statement. */
int slice_recall(struct slice *sl, sqlite3_stmt *st, struct apply_result *ret, bool *ret_found)
{
	int rc = metadb_step(&sl->wdb, st);
	*ret_found = rc == 1;
	if (rc == 1) {
		ret->inserted = (uint32_t)sqlite3_column_int64(st, 0);
		ret->updated = (uint32_t)sqlite3_column_int64(st, 1);
		ret->deleted = (uint32_t)sqlite3_column_int64(st, 2);
		ret->missing = (uint32_t)sqlite3_column_int64(st, 3);
		ret->conflicts = (uint32_t)sqlite3_column_int64(st, 4);
		rc = 0;
	}
	sqlite3_reset(st);
	return rc;
}

/* A position among the storing records of an entry; ordinals only grow. */
struct cursor {
	struct entry_reader rd;
	struct entry_rec e;
	int64_t ord;
};

static int seek(struct cursor *c, uint32_t ord)
{
	while (c->ord < (int64_t)ord) {
		if (entry_next(&c->rd, &c->e) != 1)
			return -EUCLEAN;
		c->ord += c->e.op != REC_DELETE;
	}
	return c->ord == (int64_t)ord ? 0 : -EUCLEAN;
}

static int rewrite_batch(
	struct slice *sl, uint64_t index, sqlite3_stmt *st, struct cursor *c, struct vx_err *err)
{
	uint32_t first = (uint32_t)sqlite3_column_int64(st, 0);
	uint32_t n = (uint32_t)sqlite3_column_int64(st, 1);
	uint64_t sum = (uint64_t)sqlite3_column_int64(st, 2);
	uint32_t ord = (uint32_t)sqlite3_column_int64(st, 3);
	uint64_t rowid = (uint64_t)sqlite3_column_int64(st, 4);
	const uint8_t *map = sqlite3_column_blob(st, 5);
	uint32_t dim = sl->schema.dim;
	struct buf vecs = BUF_INIT, rows = BUF_INIT;
	struct seg *g;
	int rc;

	if (n == 0 || (uint64_t)first + n > sl->st.next_slot || slot_at(first) + n > SEG_SLOTS ||
		(map && sqlite3_column_bytes(st, 5) != (int)(n * 12)))
		return vx_err_set(err, -EUCLEAN, "meta.db: a batch makes no sense");
	if (slice_batch_check(sl, first, n, sum) == 0)
		return 0;
	rc = slice_seg_make(sl, slot_seg(first), &g, err);
	for (uint32_t i = 0; i < n && rc == 0; i++) {
		const struct vx_record *rec = &c->e.rec;
		rc = seek(c, map ? get_le32(map + i * 12) : ord + i);
		if (rc == 0 && rec->dim != dim)
			rc = -EUCLEAN;
		if (rc == 0)
			rc = buf_append(&vecs, rec->vec, (size_t)dim * sizeof(float));
		if (rc == 0)
			rc = buf_reserve(&rows, SEG_ROW_SIZE);
		if (rc)
			break;
		slot_row_encode(rows.data + rows.len, sl->cid, first + i,
			map ? get_le64(map + i * 12 + 4) : rowid + i, index,
			vec_sum(rec->vec, dim, first + i), rec->id, rec->id_len);
		rows.len += SEG_ROW_SIZE;
		if (rec->id_len > SEG_ID_INLINE)
			rc = seg_write_cell(
				sl->shard->disk, g, slot_at(first) + i, rec->id, rec->id_len);
	}
	if (rc == 0 && slot_rows_sum(rows.data, n, first) != sum)
		rc = -EUCLEAN;
	if (rc == 0)
		rc = seg_write(sl->shard->disk, g, slot_at(first), n,
			(const float *)(const void *)vecs.data, rows.data);
	if (rc == 0)
		log_debug("store", "collection %u: %u vectors of entry %llu written anew", sl->cid,
			n, (unsigned long long)index);
	else
		vx_err_set(
			err, rc, "entry %llu cannot repair its vectors", (unsigned long long)index);
	buf_release(&vecs);
	buf_release(&rows);
	return rc;
}

static int repair(
	struct slice *sl, uint64_t index, const struct entry_reader *rd, struct vx_err *err)
{
	struct cursor c = {.rd = *rd, .ord = -1};
	sqlite3_stmt *st;

	int rc = metadb_get(&sl->wdb, ST_BATCH_FIND, &st);
	if (rc)
		return metadb_err(&sl->wdb, rc, err);
	sqlite3_bind_int64(st, 1, (int64_t)index);
	while ((rc = metadb_step(&sl->wdb, st)) == 1) {
		rc = rewrite_batch(sl, index, st, &c, err);
		if (rc)
			goto out;
	}
	if (rc)
		metadb_err(&sl->wdb, rc, err);
out:
	sqlite3_reset(st);
	return rc;
}

void slice_beyond_repair(struct slice *sl)
{
	if (sl->n_bad_batches == 0)
		return;
	log_error("store",
		"collection %u: vectors of %u entries are damaged, and the log has them no more: "
		"their records answer EIO",
		sl->cid, sl->n_bad_batches);
	sl->n_bad_batches = 0;
	vx_lock(&sl->view_mu);
	sl->repairing = false;
	vx_unlock(&sl->view_mu);
}

int slice_replay(
	struct slice *sl, struct apply_req *req, struct entry_reader *rd, struct vx_err *err)
{
	sqlite3_stmt *st;
	bool found;
	uint32_t i = 0;

	/* What it wrote is the log's no more once the mark passes it: sync it again. */
	slice_set_dirty(sl, 0, sl->st.next_slot ? slot_seg(sl->st.next_slot - 1) : 0);
	while (i < sl->n_bad_batches && sl->bad_batches[i] != req->index)
		i++;
	if (i < sl->n_bad_batches) {
		int rc = repair(sl, req->index, rd, err);
		if (rc)
			return rc;
		sl->n_bad_batches--;
		memmove(&sl->bad_batches[i], &sl->bad_batches[i + 1],
			(sl->n_bad_batches - i) * sizeof *sl->bad_batches);
		if (sl->n_bad_batches == 0)
			log_info("store", "collection %u: all vectors are back", sl->cid);
		vx_lock(&sl->view_mu);
		sl->repairing = sl->n_bad_batches > 0;
		vx_unlock(&sl->view_mu);
	}
	if (rd->h.origin || rd->h.seq) {
		int rc = metadb_get(&sl->wdb, ST_RECENT_FIND_IDX, &st);
		if (rc)
			return metadb_err(&sl->wdb, rc, err);
		sqlite3_bind_int64(st, 1, (int64_t)rd->h.origin);
		sqlite3_bind_int64(st, 2, (int64_t)rd->h.seq);
		sqlite3_bind_int64(st, 3, (int64_t)req->index);
		rc = slice_recall(sl, st, &req->result, &found);
		if (rc)
			return metadb_err(&sl->wdb, rc, err);
	}
	return 0;
}
