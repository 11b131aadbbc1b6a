/* snap.c - one slice as files that stand by themselves.
 *
 *	1. meta.db is copied by SQLite's backup in one read transaction: the state after one entry, whatever
 *	   is applied meanwhile.  Its 'state' row says which, and how many slots that entry left.
 *	2. Segments below that slot: a full one is never written again in its generation and is linked; the
 *	   last one is copied up to the slot.  An entry writes its slots before its COMMIT, so all of them are there.
 *
 * The pin holds the generation: a compaction that finishes meanwhile leaves these files to us, and what is
 * copied is the old generation at the index at which it was replaced or before.
 *
 * What only the log and open scans need (batches, recent, hist) is left out of the copy, and its journal is put
 * back to a rollback journal, so that it can be opened where nothing may be written.
 *
 * A reader trusts nothing: each record's slot row must have its rowid, index and id and the right checksum,
 * and its vector that of the row.
 */
#include "store/snap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>

#include "base/hash.h"
#include "store/pagesum.h"
#include "store/store_i.h"

#define COPY_BYTES     (256u << 10)
#define HOLE_BYTES     4096u
#define SNAP_SEGS_MAX  (VX_SLOTS_MAX / SEG_SLOTS)
#define READ_CACHE_KIB 1024u

static int snap_path(char *ret, const char *dir, const char *prefix, const char *rest)
{
	int n = snprintf(ret, STORE_PATH_MAX, "%s/%s.%s", dir, prefix, rest);

	return n < 0 || (unsigned)n >= STORE_PATH_MAX ? -ENAMETOOLONG : 0;
}

static int seg_path(char *ret, const char *dir, const char *prefix, uint32_t no)
{
	char name[16];

	snprintf(name, sizeof name, "%06u.vec", no);
	return snap_path(ret, dir, prefix, name);
}

/* --- segments -------------------------------------------------------------------------------- */

static bool all_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Holes stay holes. */
static int write_sparse(int fd, const uint8_t *p, size_t n, uint64_t off)
{
	for (size_t at = 0; at < n;) {
		size_t m = VX_MIN(n - at, (size_t)HOLE_BYTES);
		if (!all_zero(p + at, m)) {
			int rc = disk_pwrite(disk_real(), fd, p + at, m, off + at);
			if (rc)
				return rc;
		}
		at += m;
	}
	return 0;
}

static int copy_range(int from, int to, uint64_t off, uint64_t len, uint8_t *scratch)
{
	int rc = 0;

	for (uint64_t at = 0; at < len && rc == 0;) {
		size_t n = (size_t)VX_MIN(len - at, (uint64_t)COPY_BYTES);
		rc = disk_pread(disk_real(), from, scratch, n, off + at);
		if (rc == 0)
			rc = write_sparse(to, scratch, n, off + at);
		at += n;
	}
	return rc;
}

/* The first 'n' slots of a segment. */
static int copy_segment(int from, int to, uint32_t n, uint32_t dim)
{
	uint64_t vecs = (uint64_t)n * dim * sizeof(float), size = SEG_OFF_VECS + vecs;
	uint8_t *scratch = malloc(COPY_BYTES);

	if (!scratch)
		return -ENOMEM;
	int rc = ftruncate(to, (off_t)size) < 0 ? -errno : 0;
	if (rc == 0)
		rc = copy_range(from, to, 0, SEG_OFF_ROWS + (uint64_t)n * SEG_ROW_SIZE, scratch);
	if (rc == 0)
		rc = copy_range(from, to, SEG_OFF_CELLS, (uint64_t)n * SEG_CELL_SIZE, scratch);
	if (rc == 0)
		rc = copy_range(from, to, SEG_OFF_VECS, vecs, scratch);
	free(scratch);
	return rc;
}

static int snap_segment(struct slice *sl, const char *dir, const char *prefix, uint32_t no,
	uint32_t slots, struct vx_err *err)
{
	char from[STORE_PATH_MAX], to[STORE_PATH_MAX], gen[STORE_PATH_MAX], name[32];

	snprintf(name, sizeof name, "%06u.vec", no);
	int rc = slice_gen_path(sl, gen);
	if (rc == 0)
		rc = store_path(from, gen, name);
	if (rc == 0)
		rc = seg_path(to, dir, prefix, no);
	if (rc)
		return rc;
	if (slots == SEG_SLOTS && link(from, to) == 0)
		return 0;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return vx_err_set(err, -errno, "%s: cannot open", from);
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (out < 0) {
		rc = vx_err_set(err, -errno, "%s: cannot create", to);
		close(in);
		return rc;
	}
	/* A clone shares the blocks until one of the two is written, which is never. */
	if (slots != SEG_SLOTS || ioctl(out, FICLONE, in) < 0)
		rc = copy_segment(in, out, slots, sl->schema.dim);
	if (close(out) < 0 && rc == 0)
		rc = -errno;
	close(in);
	return rc ? vx_err_set(err, rc, "%s: cannot copy", from) : 0;
}

/* --- meta.db --------------------------------------------------------------------------------- */

static int snap_db(struct slice *sl, const char *to, struct snap_slice *ret, struct vx_err *err)
{
	char path[STORE_PATH_MAX];
	struct metadb db;
	struct metadb_state st;
	struct slice_schema schema;

	int rc = slice_db_path(sl, path);
	if (rc)
		return rc;
	rc = metadb_open(&db, path, sl->shard->cache_kib, err);
	if (rc)
		return rc;
	rc = metadb_copy(&db, to, err);
	metadb_close(&db);
	if (rc == 0)
		rc = metadb_open_copy(&db, to, READ_CACHE_KIB, err);
	if (rc)
		return rc;
	rc = metadb_load_state(&db, sl->cid, &schema, &st, err);
	metadb_close(&db);
	if (rc == 0 && st.generation != sl->generation)
		rc = vx_err_set(err, -EUCLEAN, "meta.db is of another generation");
	if (rc == 0)
		*ret = (struct snap_slice){
			.applied = st.applied,
			.count = st.count,
			.slots = st.next_slot,
			.generation = (uint32_t)st.generation,
			.dim = schema.dim,
			.cid = sl->cid,
		};
	return rc;
}

uint64_t slice_snap_need(struct slice *sl)
{
	uint64_t disk = slice_disk_bytes(sl);
	struct view v = slice_view(sl);
	uint64_t full = (uint64_t)slot_seg(v.nslots) * seg_file_size(sl->schema.dim);

	/* Holes make a segment smaller than its length: what is left over is a guess on the safe side. */
	return disk > full ? disk - full : disk;
}

int slice_snap(struct slice *sl, const char *dir, const char *prefix, struct snap_slice *ret,
	struct vx_err *err)
{
	struct shard *s = sl->shard;
	struct snap_slice info;
	char to[STORE_PATH_MAX];

	vx_lock(&sl->view_mu);
	bool repairing = sl->repairing;
	vx_unlock(&sl->view_mu);
	if (repairing)
		return vx_err_set(err, -EAGAIN,
			"collection %u is still being repaired from the log", sl->cid);
	int rc = snap_path(to, dir, prefix, "meta.db");
	if (rc == 0)
		rc = snap_db(sl, to, &info, err);
	for (uint64_t at = 0; rc == 0 && at < info.slots; at += SEG_SLOTS)
		rc = snap_segment(sl, dir, prefix, slot_seg(at),
			(uint32_t)VX_MIN(info.slots - at, (uint64_t)SEG_SLOTS), err);
	vx_lock(&s->mu);
	bool dropped = sl->dropped;
	vx_unlock(&s->mu);
	if (dropped)
		return vx_err_set(err, -ENOENT, "the collection was dropped");
	if (rc == 0)
		*ret = info;
	return rc;
}

/* --- reading --------------------------------------------------------------------------------- */

struct snap_reader {
	struct metadb db;
	sqlite3_stmt *st;
	struct snap_slice info;
	uint64_t seen;
	int *fds; /* of the segments */
	uint32_t n_fds;
	float *vec;
	char long_id[SEG_CELL_SIZE];
};

void snap_reader_close(struct snap_reader *r)
{
	if (!r)
		return;
	sqlite3_finalize(r->st);
	metadb_close(&r->db);
	for (uint32_t i = 0; i < r->n_fds; i++)
		close(r->fds[i]);
	free(r->fds);
	free(r->vec);
	free(r);
}

static int open_segments(
	struct snap_reader *r, const char *dir, const char *prefix, struct vx_err *err)
{
	char path[STORE_PATH_MAX];
	const uint32_t n = (uint32_t)((r->info.slots + SEG_SLOTS - 1) / SEG_SLOTS);

	r->fds = calloc(VX_MAX(n, 1u), sizeof *r->fds);
	r->vec = malloc((size_t)r->info.dim * sizeof(float));
	if (!r->fds || !r->vec)
		return vx_err_set(err, -ENOMEM, "no memory");
	for (; r->n_fds < n; r->n_fds++) {
		int rc = seg_path(path, dir, prefix, r->n_fds);
		if (rc)
			return rc;
		r->fds[r->n_fds] = open(path, O_RDONLY | O_CLOEXEC);
		if (r->fds[r->n_fds] < 0)
			return vx_err_set(
				err, errno == ENOENT ? -EUCLEAN : -errno, "%s: cannot open", path);
	}
	return 0;
}

int snap_reader_open(
	const char *dir, const char *prefix, struct snap_reader **ret, struct vx_err *err)
{
	char path[STORE_PATH_MAX];
	struct slice_schema schema;
	struct metadb_state st;
	struct snap_reader *r = calloc(1, sizeof *r);

	int rc = r ? snap_path(path, dir, prefix, "meta.db") : -ENOMEM;
	if (rc == 0)
		rc = metadb_open_copy(&r->db, path, READ_CACHE_KIB, err);
	if (rc) {
		free(r);
		return rc;
	}
	/* 0: whatever collection it was. */
	rc = metadb_load_state(&r->db, 0, &schema, &st, err);
	if (rc == -ENODATA)
		rc = vx_err_set(err, -EUCLEAN, "%s: has no state", path);
	if (rc == 0 && (st.next_slot > VX_SLOTS_MAX || schema.dim < 1 || schema.dim > VX_DIM_MAX))
		rc = vx_err_set(err, -EUCLEAN, "%s: its state cannot be", path);
	if (rc == 0) {
		r->info = (struct snap_slice){
			.applied = st.applied,
			.count = st.count,
			.slots = st.next_slot,
			.generation = (uint32_t)st.generation,
			.dim = schema.dim,
			.cid = schema.cid,
		};
		rc = open_segments(r, dir, prefix, err);
	}
	if (rc == 0 && sqlite3_prepare_v2(r->db.c,
			       "SELECT rowid, id, slot, born, meta, text FROM rec ORDER BY rowid",
			       -1, &r->st, NULL))
		rc = metadb_err(&r->db, -EUCLEAN, err);
	if (rc) {
		snap_reader_close(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void snap_reader_stat(const struct snap_reader *r, struct snap_slice *ret)
{
	*ret = r->info;
}

static uint64_t col(struct snap_reader *r, int i)
{
	return (uint64_t)sqlite3_column_int64(r->st, i);
}

/* Reads the vector of 'slot' and compares its row with the record's.  1: it does not fit. */
static int read_slot(struct snap_reader *r, uint32_t slot, const struct vx_record *rec)
{
	uint8_t row[SEG_ROW_SIZE], want[SEG_ROW_SIZE];
	const size_t vsize = (size_t)r->info.dim * sizeof(float);
	struct disk *d = disk_real();
	int fd = r->fds[slot_seg(slot)];
	uint32_t at = slot_at(slot);

	int rc = disk_pread(d, fd, row, sizeof row, SEG_OFF_ROWS + (uint64_t)at * SEG_ROW_SIZE);
	if (rc == 0)
		rc = disk_pread(d, fd, r->vec, vsize, SEG_OFF_VECS + at * (uint64_t)vsize);
	if (rc == 0 && rec->id_len > SEG_ID_INLINE) {
		rc = disk_pread(d, fd, r->long_id, rec->id_len,
			SEG_OFF_CELLS + (uint64_t)at * SEG_CELL_SIZE);
		if (rc == 0 && memcmp(r->long_id, rec->id, rec->id_len) != 0)
			return 1;
	}
	if (rc)
		return rc == -EUCLEAN ? 1 : rc;
	slot_row_encode(want, r->info.cid, slot, col(r, 0), col(r, 3),
		vec_sum(r->vec, r->info.dim, slot), rec->id, rec->id_len);
	return memcmp(row, want, sizeof row) != 0;
}

int snap_reader_next(struct snap_reader *r, struct vx_record *ret, struct vx_err *err)
{
	int rc = metadb_step(&r->db, r->st);

	if (rc < 0)
		return metadb_err(&r->db, rc, err);
	if (rc == 0)
		return r->seen == r->info.count
			       ? -ENOENT
			       : vx_err_set(err, -EUCLEAN, "meta.db has %llu records, not %llu",
					 (unsigned long long)r->seen,
					 (unsigned long long)r->info.count);
	struct vx_record rec = {
		.id = sqlite3_column_blob(r->st, 1),
		.id_len = (size_t)sqlite3_column_bytes(r->st, 1),
		.vec = r->vec,
		.dim = r->info.dim,
		.line = ++r->seen,
	};
	const uint64_t slot = col(r, 2);
	if (rec.id_len < 1 || rec.id_len > VX_ID_MAX || slot >= r->info.slots)
		return vx_err_set(err, -EUCLEAN, "meta.db: the record in row %llu cannot be",
			(unsigned long long)col(r, 0));
	if (sqlite3_column_type(r->st, 4) != SQLITE_NULL) {
		rec.meta = sqlite3_column_blob(r->st, 4);
		rec.meta_len = (size_t)sqlite3_column_bytes(r->st, 4);
	}
	if (sqlite3_column_type(r->st, 5) != SQLITE_NULL) {
		rec.text = sqlite3_column_blob(r->st, 5);
		rec.text_len = (size_t)sqlite3_column_bytes(r->st, 5);
	}
	rc = read_slot(r, (uint32_t)slot, &rec);
	if (rc > 0)
		return vx_err_set(err, -EUCLEAN, "the record '%.*s' is damaged (slot %llu)",
			(int)rec.id_len, rec.id, (unsigned long long)slot);
	if (rc)
		return vx_err_set(err, rc, "cannot read slot %llu", (unsigned long long)slot);
	*ret = rec;
	return 0;
}
