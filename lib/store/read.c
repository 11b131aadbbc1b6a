/* read.c - records by id and rowid, listings, and the pool of read connections.
 *
 * A connection is taken for one call and never kept across calls, so no SQLite read transaction
 * outlives a call and the log of SQLite can be copied back at any mark.
 */
#include "store/read_i.h"

#include <assert.h>
#include <stdlib.h>

int reader_take(struct slice *sl, struct metadb **ret, struct vx_err *err)
{
	char path[STORE_PATH_MAX];
	struct metadb *db = NULL;

	vx_lock(&sl->read_mu);
	while (sl->n_idle == 0 && sl->n_readers >= READERS_MAX)
		vx_cond_wait(&sl->read_cond, &sl->read_mu);
	if (sl->n_idle)
		db = sl->idle[--sl->n_idle];
	else
		sl->n_readers++;
	vx_unlock(&sl->read_mu);
	if (db) {
		*ret = db;
		return 0;
	}
	int rc = slice_db_path(sl, path);
	db = calloc(1, sizeof *db);
	if (!db)
		rc = -ENOMEM;
	if (rc == 0)
		rc = metadb_open(db, path, sl->shard->cache_kib, err);
	if (rc) {
		free(db);
		vx_lock(&sl->read_mu);
		sl->n_readers--;
		vx_cond_signal(&sl->read_cond);
		vx_unlock(&sl->read_mu);
		return rc;
	}
	*ret = db;
	return 0;
}

void reader_give(struct slice *sl, struct metadb *db)
{
	vx_lock(&sl->read_mu);
	assert(sl->n_idle < READERS_MAX);
	sl->idle[sl->n_idle++] = db;
	vx_cond_signal(&sl->read_cond);
	vx_unlock(&sl->read_mu);
}

int reader_fail(struct slice *sl, struct metadb *db, int rc, struct vx_err *err)
{
	struct vx_err mine = VX_ERR_INIT;

	metadb_err(db, rc, &mine);
	if (rc == -EUCLEAN)
		slice_quarantine(sl, rc, mine.msg);
	if (err)
		*err = mine;
	return rc;
}

void slice_rec_release(struct slice_rec *r)
{
	buf_release(&r->mem);
	*r = (struct slice_rec){.mem = BUF_INIT};
}

int rec_append(struct buf *mem, sqlite3_stmt *st, int col, size_t *ret_len, bool *ret_present)
{
	const void *p = sqlite3_column_blob(st, col);
	size_t n = (size_t)sqlite3_column_bytes(st, col);

	*ret_present = sqlite3_column_type(st, col) != SQLITE_NULL;
	*ret_len = n;
	return buf_append(mem, p, n);
}

/* Columns: rowid, id, slot, born, mtime, meta, text.  Appends to 'mem'; the pointers of the record
 * are offsets until rec_settle(). */
int rec_read(sqlite3_stmt *st, unsigned what, struct buf *mem, struct rec_place *ret)
{
	struct rec_place p = {.at = mem->len};

	p.rowid = (uint64_t)sqlite3_column_int64(st, 0);
	p.slot = (uint32_t)sqlite3_column_int64(st, 2);
	p.version = (uint64_t)sqlite3_column_int64(st, 3);
	p.mtime_ns = (uint64_t)sqlite3_column_int64(st, 4);
	bool id;
	int rc = rec_append(mem, st, 1, &p.id_len, &id);
	if (rc == 0 && (what & SLICE_META))
		rc = rec_append(mem, st, 5, &p.meta_len, &p.has_meta);
	if (rc == 0 && (what & SLICE_TEXT))
		rc = rec_append(mem, st, 6, &p.text_len, &p.has_text);
	if (rc == 0)
		*ret = p;
	return rc;
}

int rec_settle(struct slice *sl, unsigned what, const struct rec_place *p, const uint8_t *mem,
	struct slice_rec *ret, struct vx_err *err)
{
	const char *at = (const char *)mem + p->at;

	ret->rowid = p->rowid;
	ret->version = p->version;
	ret->mtime_ns = p->mtime_ns;
	ret->slot = p->slot;
	ret->rec = (struct vx_record){.id = at, .id_len = p->id_len, .dim = sl->schema.dim};
	if (p->has_meta) {
		ret->rec.meta = at + p->id_len;
		ret->rec.meta_len = p->meta_len;
	}
	if (p->has_text) {
		ret->rec.text = at + p->id_len + p->meta_len;
		ret->rec.text_len = p->text_len;
	}
	if (what & SLICE_VEC) {
		ret->rec.vec = slice_slot_vector(sl, p->slot);
		if (!ret->rec.vec)
			return vx_err_set(err, -EUCLEAN,
				"the vector of \"%.*s\" is damaged on disk", (int)p->id_len, at);
	}
	return 0;
}

static int get(struct slice *sl, enum metadb_stmt which, const char *id, size_t id_len,
	uint64_t rowid, unsigned what, struct slice_rec *ret, struct vx_err *err)
{
	struct slice_rec r = {.mem = BUF_INIT};
	struct rec_place place;
	sqlite3_stmt *st;
	struct metadb *db;

	int rc = reader_take(sl, &db, err);
	if (rc)
		return rc;
	rc = metadb_get(db, which, &st);
	if (rc) {
		reader_fail(sl, db, rc, err);
		goto out;
	}
	if (id)
		sqlite3_bind_blob(st, 1, id, (int)id_len, SQLITE_STATIC);
	else
		sqlite3_bind_int64(st, 1, (int64_t)rowid);
	rc = metadb_step(db, st);
	if (rc == 0)
		rc = vx_err_set(err, -ENOENT, "no such record");
	else if (rc < 0)
		reader_fail(sl, db, rc, err);
	else
		rc = rec_read(st, what, &r.mem, &place);
	sqlite3_reset(st);
out:
	reader_give(sl, db);
	if (rc == 0)
		rc = rec_settle(sl, what, &place, r.mem.data, &r, err);
	if (rc)
		slice_rec_release(&r);
	else
		*ret = r;
	return rc;
}

int slice_get(struct slice *sl, const char *id, size_t id_len, unsigned what, struct slice_rec *ret,
	struct vx_err *err)
{
	if (id_len < 1 || id_len > VX_ID_MAX)
		return vx_err_set(err, -ENOENT, "no such record");
	return get(sl, ST_REC_GET, id, id_len, 0, what, ret, err);
}

int slice_get_rowid(
	struct slice *sl, uint64_t rowid, unsigned what, struct slice_rec *ret, struct vx_err *err)
{
	return get(sl, ST_REC_GET_ROWID, NULL, 0, rowid, what, ret, err);
}

int slice_stat_rec(struct slice *sl, const char *id, size_t id_len, struct slice_rec_stat *ret)
{
	sqlite3_stmt *st;
	struct metadb *db;

	if (id_len < 1 || id_len > VX_ID_MAX)
		return -ENOENT;
	int rc = reader_take(sl, &db, NULL);
	if (rc)
		return rc;
	rc = metadb_get(db, ST_REC_FIND, &st);
	if (rc == 0) {
		sqlite3_bind_blob(st, 1, id, (int)id_len, SQLITE_STATIC);
		rc = metadb_step(db, st);
		if (rc == 1) {
			ret->rowid = (uint64_t)sqlite3_column_int64(st, 0);
			ret->version = (uint64_t)sqlite3_column_int64(st, 2);
			ret->mtime_ns = (uint64_t)sqlite3_column_int64(st, 3);
			rc = 0;
		} else if (rc == 0) {
			rc = -ENOENT;
		}
		sqlite3_reset(st);
	}
	if (rc == -EUCLEAN)
		reader_fail(sl, db, rc, NULL);
	reader_give(sl, db);
	return rc;
}

/* --- listings ------------------------------------------------------------------------------- */

struct list_item {
	uint64_t rowid, mtime_ns;
	size_t at, len;
};

static int list_page(
	struct slice *sl, uint64_t after, uint32_t max, struct buf *items, struct buf *ids)
{
	sqlite3_stmt *st;
	struct metadb *db;

	items->len = ids->len = 0;
	int rc = reader_take(sl, &db, NULL);
	if (rc)
		return rc;
	rc = metadb_get(db, ST_REC_LIST, &st);
	if (rc == 0) {
		sqlite3_bind_int64(st, 1, (int64_t)after);
		sqlite3_bind_int64(st, 2, max);
		while ((rc = metadb_step(db, st)) == 1) {
			struct list_item it = {
				.rowid = (uint64_t)sqlite3_column_int64(st, 0),
				.mtime_ns = (uint64_t)sqlite3_column_int64(st, 1),
				.at = ids->len,
			};
			bool present;
			rc = rec_append(ids, st, 2, &it.len, &present);
			if (rc == 0)
				rc = buf_append(items, &it, sizeof it);
			if (rc)
				break;
		}
		sqlite3_reset(st);
	}
	if (rc == -EUCLEAN)
		reader_fail(sl, db, rc, NULL);
	reader_give(sl, db);
	return rc;
}

int slice_list(struct slice *sl, uint64_t after, uint32_t max,
	int (*each)(void *arg, uint64_t rowid, uint64_t mtime_ns, const char *id, size_t len),
	void *arg)
{
	struct buf items = BUF_INIT, ids = BUF_INIT;
	int rc = 0;

	while (max && rc == 0) {
		uint32_t want = VX_MIN(max, SCAN_PAGE_ROWS * 4);
		rc = list_page(sl, after, want, &items, &ids);
		const struct list_item *it = (const void *)items.data;
		uint32_t n = (uint32_t)(items.len / sizeof *it);
		for (uint32_t i = 0; i < n && rc == 0; i++) {
			after = it[i].rowid;
			rc = each(arg, it[i].rowid, it[i].mtime_ns,
				(const char *)ids.data + it[i].at, it[i].len);
		}
		if (n < want)
			break;
		max -= n;
	}
	buf_release(&items);
	buf_release(&ids);
	return rc;
}
