/* slice.c - opening a slice: its state, segments, dead slots and unproven batches; its view.
 *
 * What meta.db says is the truth.  Segments are mapped up to its next_slot; whatever lies beyond
 * is what an unfinished apply left.  Batches above the mark are compared with the bytes of the
 * segments, since a power cut may have kept SQLite's pages and lost ours; those that differ are
 * remembered until the log brings their entries again (replay.c).  The index is not made here but
 * at first need (search.c), so that a slice which only answers by id never has one.
 */
#include "store/store_i.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"

struct view slice_view(struct slice *sl)
{
	vx_lock(&sl->view_mu);
	struct view v = sl->view;
	vx_unlock(&sl->view_mu);
	return v;
}

void slice_set_dirty(struct slice *sl, uint32_t lo, uint32_t hi)
{
	vx_lock(&sl->view_mu);
	sl->dirty = true;
	if (lo <= hi) {
		sl->dirty_hi = sl->dirty_lo <= sl->dirty_hi ? VX_MAX(sl->dirty_hi, hi) : hi;
		sl->dirty_lo = VX_MIN(sl->dirty_lo, lo);
	}
	vx_unlock(&sl->view_mu);
}

struct seg *slice_seg(const struct slice *sl, uint32_t no)
{
	if (no >= SEG_TOP * SEG_LEAF)
		return NULL;
	struct seg *_Atomic *leaf = atomic_load_explicit(
		&sl->top[no / SEG_LEAF], memory_order_acquire);
	return leaf ? atomic_load_explicit(&leaf[no % SEG_LEAF], memory_order_acquire) : NULL;
}

int slice_seg_add(struct slice *sl, uint32_t no, bool fresh, struct seg **ret, struct vx_err *err)
{
	struct seg *g;
	struct seg *_Atomic *leaf = atomic_load_explicit(
		&sl->top[no / SEG_LEAF], memory_order_relaxed);

	if (!leaf) {
		leaf = calloc(SEG_LEAF, sizeof *leaf);
		if (!leaf)
			return vx_err_set(err, -ENOMEM, "no memory for segments");
		atomic_store_explicit(&sl->top[no / SEG_LEAF], leaf, memory_order_release);
	}
	int rc = seg_open(sl->shard->disk, sl->gen_dir, sl->cid, (uint32_t)sl->st.generation, no,
		sl->schema.dim, fresh, &g, err);
	if (rc)
		return rc;
	atomic_store_explicit(&leaf[no % SEG_LEAF], g, memory_order_release);
	*ret = g;
	return 0;
}

int slice_seg_make(struct slice *sl, uint32_t no, struct seg **ret, struct vx_err *err)
{
	if (no >= SEG_TOP * SEG_LEAF)
		return vx_err_set(err, -EIO, "the slice has no slots left");
	struct seg *g = slice_seg(sl, no);
	if (!g) {
		int rc = slice_seg_add(sl, no, true, &g, err);
		if (rc)
			return rc;
		vx_lock(&sl->view_mu);
		sl->dirty_dir = true;
		vx_unlock(&sl->view_mu);
		/* Only the last segment is written; the one before is done. */
		struct seg *prev = no ? slice_seg(sl, no - 1) : NULL;
		if (prev)
			seg_unwritable(sl->shard->disk, prev);
	}
	int rc = seg_writable(sl->shard->disk, sl->gen_dir, g);
	if (rc)
		return vx_err_set(err, rc, "segment %u: cannot open for writing", no);
	*ret = g;
	return 0;
}

/* --- unproven batches ---------------------------------------------------------------------- */

uint64_t slot_rows_sum(const uint8_t *rows, uint32_t n, uint32_t first_slot)
{
	return hash_xxh3(rows, (size_t)n * SEG_ROW_SIZE, first_slot);
}

int slice_batch_check(struct slice *sl, uint32_t first_slot, uint32_t n, uint64_t sum)
{
	struct seg *g = slice_seg(sl, slot_seg(first_slot));

	if (!g || n == 0 || slot_at(first_slot) + n > SEG_SLOTS)
		return -EUCLEAN;
	if (slot_rows_sum(seg_row_bytes(g, slot_at(first_slot)), n, first_slot) != sum)
		return -EUCLEAN;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *row = seg_row_bytes(g, slot_at(first_slot) + i);
		const void *v = g->map + SEG_OFF_VECS +
				(size_t)(slot_at(first_slot) + i) * g->dim * sizeof(float);
		struct slot_row r;
		if (get_le32(row + 16) != vec_sum(v, g->dim, first_slot + i))
			return -EUCLEAN;
		if (row[20] > SEG_ID_INLINE && seg_row(g, slot_at(first_slot) + i, &r))
			return -EUCLEAN;
	}
	return 0;
}

/* The first slot that the mark does not vouch for. */
static int unproven_from(struct slice *sl, uint64_t *ret, struct vx_err *err)
{
	sqlite3_stmt *st;
	uint64_t first = sl->st.next_slot;

	int rc = metadb_get(&sl->wdb, ST_BATCH_ALL, &st);
	while (rc == 0 && (rc = metadb_step(&sl->wdb, st)) == 1) {
		first = VX_MIN(first, (uint64_t)sqlite3_column_int64(st, 1));
		rc = 0;
	}
	if (rc)
		metadb_err(&sl->wdb, rc, err);
	else
		*ret = first;
	sqlite3_reset(st);
	return rc;
}

static int check_batches(struct slice *sl, struct vx_err *err)
{
	sqlite3_stmt *st;

	int rc = metadb_get(&sl->wdb, ST_BATCH_ALL, &st);
	if (rc)
		return metadb_err(&sl->wdb, rc, err);
	while ((rc = metadb_step(&sl->wdb, st)) == 1) {
		uint64_t idx = (uint64_t)sqlite3_column_int64(st, 0);
		if (slice_batch_check(sl, (uint32_t)sqlite3_column_int64(st, 1),
			    (uint32_t)sqlite3_column_int64(st, 2),
			    (uint64_t)sqlite3_column_int64(st, 3)) == 0)
			continue;
		if (sl->n_bad_batches && sl->bad_batches[sl->n_bad_batches - 1] == idx)
			continue;
		uint64_t *p = realloc(sl->bad_batches, (sl->n_bad_batches + 1) * sizeof *p);
		if (!p) {
			rc = vx_err_set(err, -ENOMEM, "no memory");
			goto out;
		}
		sl->bad_batches = p;
		p[sl->n_bad_batches++] = idx;
	}
	if (rc)
		metadb_err(&sl->wdb, rc, err);
out:
	sqlite3_reset(st);
	if (rc == 0 && sl->n_bad_batches)
		log_warn("store", "collection %u: the vectors of %u entries did not reach the disk",
			sl->cid, sl->n_bad_batches);
	return rc;
}

/* --- open ------------------------------------------------------------------------------------- */

static int open_segs(struct slice *sl, struct vx_err *err)
{
	uint64_t proven;
	struct seg *g;

	int rc = unproven_from(sl, &proven, err);
	for (uint64_t first = 0; rc == 0 && first < sl->st.next_slot; first += SEG_SLOTS) {
		uint32_t no = slot_seg(first);
		rc = slice_seg_add(sl, no, false, &g, err);
		/* The log has all of it: start it anew and wait for the entries. */
		if (rc == -EUCLEAN && first >= proven)
			rc = slice_seg_add(sl, no, true, &g, err);
	}
	return rc;
}

static int load_dead(struct slice *sl, struct vx_err *err)
{
	sqlite3_stmt *st;
	uint32_t count = 0;

	int rc = metadb_get(&sl->wdb, ST_DEAD_ALL, &st);
	if (rc)
		return metadb_err(&sl->wdb, rc, err);
	while ((rc = metadb_step(&sl->wdb, st)) == 1) {
		int64_t slot = sqlite3_column_int64(st, 0);
		uint64_t idx = (uint64_t)sqlite3_column_int64(st, 1);
		if (slot < 0 || (uint64_t)slot >= sl->st.next_slot || idx == 0) {
			rc = vx_err_set(err, -EUCLEAN, "meta.db: a dead slot makes no sense");
			goto out;
		}
		_Atomic uint64_t *dead = seg_dead_make(slice_seg(sl, slot_seg((uint64_t)slot)));
		if (!dead) {
			rc = vx_err_set(err, -ENOMEM, "no memory for dead slots");
			goto out;
		}
		atomic_store_explicit(&dead[slot_at((uint64_t)slot)], idx, memory_order_relaxed);
		count++;
	}
	if (rc)
		metadb_err(&sl->wdb, rc, err);
	atomic_store_explicit(&sl->dead_slots, count, memory_order_relaxed);
out:
	sqlite3_reset(st);
	return rc;
}

static int load_hist(struct slice *sl, struct vx_err *err)
{
	sqlite3_stmt *st;

	int rc = metadb_get(&sl->wdb, ST_HIST_ANY, &st);
	if (rc)
		return metadb_err(&sl->wdb, rc, err);
	rc = metadb_step(&sl->wdb, st);
	sqlite3_reset(st);
	if (rc < 0)
		return metadb_err(&sl->wdb, rc, err);
	sl->hist_used = rc == 1;
	return 0;
}

bool slice_db_never_written(struct slice *sl, const char *path)
{
	uint8_t head[16] = {0};
	uint8_t any = 0;
	struct disk *d = sl->shard->disk;

	int fd = d->ops->open(d, path, 0, 0);
	if (fd < 0)
		return fd == -ENOENT;
	(void)d->ops->pread(d, fd, head, sizeof head, 0);
	(void)d->ops->close(d, fd);
	for (size_t i = 0; i < sizeof head; i++)
		any |= head[i];
	return any == 0;
}

uint64_t slice_claim(const struct slice *sl)
{
	char path[STORE_PATH_MAX];

	return store_path(path, sl->dir, SLICE_CLAIM) ? 0 : claim_read(disk_real(), path);
}

/* The mark has let go of the log up to what it claims. */
static int check_claim(struct slice *sl, struct vx_err *err)
{
	uint64_t claimed = slice_claim(sl);

	if (sl->st.applied >= claimed)
		return 0;
	return vx_err_set(err, -EUCLEAN,
		"meta.db has lost entries %llu to %llu: its -wal file is damaged or gone",
		(unsigned long long)sl->st.applied + 1, (unsigned long long)claimed);
}

int slice_open(struct slice *sl, struct vx_err *err)
{
	char path[STORE_PATH_MAX];

	int rc = slice_db_path(sl, path);
	if (rc)
		return rc;
	rc = metadb_open(&sl->wdb, path, sl->shard->cache_kib, err);
	if (rc == 0)
		rc = metadb_load_state(&sl->wdb, sl->cid, &sl->schema, &sl->st, err);
	if (rc == 0)
		rc = check_claim(sl, err);
	if (rc == -EUCLEAN || rc == -EIO) {
		/* Looked at only now: closing a second descriptor drops SQLite's locks. */
		metadb_close(&sl->wdb);
		if (sl->generation == 1 && slice_db_never_written(sl, path))
			rc = vx_err_set(err, -ENODATA, "meta.db: was never finished");
	}
	if (rc == 0 && sl->st.generation != sl->generation)
		rc = vx_err_set(err, -EUCLEAN, "meta.db: it is of generation %llu, not %u",
			(unsigned long long)sl->st.generation, sl->generation);
	/* What a compaction made was whole and synced before it had its name. */
	if (rc == -ENODATA && sl->generation > 1)
		rc = vx_err_set(err, -EUCLEAN, "meta.db: is empty");
	if (rc)
		goto out;
	rc = slice_gen_path(sl, path);
	if (rc == 0 && !(sl->gen_dir = strdup(path)))
		rc = vx_err_set(err, -ENOMEM, "no memory");
	if (rc == 0)
		rc = open_segs(sl, err);
	if (rc == 0)
		rc = load_dead(sl, err);
	if (rc == 0)
		rc = check_batches(sl, err);
	if (rc == 0)
		rc = load_hist(sl, err);
	if (rc == 0)
		rc = txn_open(sl, err);
	if (rc)
		goto out;
	vx_lock(&sl->view_mu);
	sl->view = (struct view){
		.generation = (uint32_t)sl->st.generation,
		.nslots = (uint32_t)sl->st.next_slot,
		.applied = sl->st.applied,
		.next_rowid = sl->st.next_rowid,
		.count = sl->st.count,
	};
	sl->repairing = sl->n_bad_batches > 0;
	sl->dirty_dir |= sl->dirty; /* SQLite may have made its log again */
	vx_unlock(&sl->view_mu);
	return 0;
out:
	slice_close(sl);
	return rc;
}

void slice_close(struct slice *sl)
{
	assert(sl->n_idle == sl->n_readers);
	for (unsigned i = 0; i < sl->n_idle; i++) {
		metadb_close(sl->idle[i]);
		free(sl->idle[i]);
	}
	sl->n_idle = sl->n_readers = 0;
	metadb_close(&sl->wdb);
	index_free(sl->index);
	sl->index = NULL;
	sl->index_phase = INDEX_NONE;
	sl->saved_linked = sl->saved_appended = 0;
	for (unsigned i = 0; i < SEG_TOP; i++) {
		struct seg *_Atomic *leaf = atomic_load_explicit(&sl->top[i], memory_order_relaxed);
		for (unsigned j = 0; leaf && j < SEG_LEAF; j++)
			seg_close(sl->shard->disk,
				atomic_load_explicit(&leaf[j], memory_order_relaxed));
		free((void *)leaf);
		atomic_store_explicit(&sl->top[i], NULL, memory_order_relaxed);
	}
	atomic_store_explicit(&sl->dead_slots, 0, memory_order_relaxed);
	free(sl->gen_dir);
	sl->gen_dir = NULL;
	free(sl->bad_batches);
	sl->bad_batches = NULL;
	buf_release(&sl->forget_next);
	buf_release(&sl->forget_soon);
	sl->n_bad_batches = 0;
}
