/* mark.c - the one durable point of the store, and its figures.
 *
 * Data first: the segments that were written since the last mark, then their directories, then
 * SQLite.  Its frames are durable once its own log is synced; only a log that has grown is also
 * copied back (a checkpoint).  With many slices to sync, as thousands of small collections make
 * them, one syncfs serves all; where that is not to be trusted, each file is synced.  A slice's
 * dirty flag is taken before
 * its files are synced and put back when that fails; the applier sets it after COMMIT and before
 * it raises shard->applied, so a mark never overlooks an entry it vouches for.
 *
 * Everything goes through files and connections of the mark's own, so that closed slices are not
 * opened for it and the applier is not held up: a checkpoint of kind PASSIVE waits for nobody.  Only a
 * log of SQLite that grew large nevertheless is copied back by the applier itself.
 */
#include "store/store_i.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unsynced.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* The kernel tells once of pages that it could not write, and takes them for written from then on: a
 * second sync would succeed and the mark let go of the log that alone still has them. */
static int sync_failed(struct shard *s, int rc, const char *what)
{
	vx_lock(&s->mu);
	if (!s->sync_failed) {
		s->sync_failed = rc;
		log_error("store",
			"%s: cannot sync: %s; shard %u is not marked again before the next start, "
			"its log is kept",
			what, strerror(-rc), s->id);
	}
	vx_unlock(&s->mu);
	unsynced_note(s->dir);
	return rc;
}

int shard_sync_dir(struct shard *s, const char *path)
{
	int rc = s->disk->ops->sync_dir(s->disk, path);
	/* It may be the opening that failed, which has lost nothing. */
	return rc == -EIO || rc == -ENOSPC || rc == -EDQUOT ? sync_failed(s, rc, path) : rc;
}

static int sync_file(struct shard *s, struct disk *d, const char *path)
{
	int fd = d->ops->open(d, path, O_RDWR, 0);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	int rc = d->ops->fdatasync(d, fd);
	(void)d->ops->close(d, fd);
	return rc ? sync_failed(s, rc, path) : 0;
}

int shard_sync_file(struct shard *s, const char *path)
{
	return sync_file(s, s->disk, path);
}

/* Copies SQLite's log back, synced. */
static int checkpoint(
	struct slice *sl, const char *path, const char *wal, uint64_t *applied, struct vx_err *err)
{
	struct metadb db;
	int log = 0, copied = 0;

	int rc = metadb_open(&db, path, 256, err);
	if (rc)
		return rc;
	int sq = sqlite3_wal_checkpoint_v2(db.c, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &copied);
	if (sq && (sq & 0xff) != SQLITE_BUSY) {
		int code = sqlite3_extended_errcode(db.c);
		rc = metadb_err(&db, metadb_errno(db.c, code), err);
		if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC)
			(void)sync_failed(sl->shard, rc, path);
	}
	bool whole = sq == 0 && log == copied;
	struct stat st;
	if (rc == 0 && whole && stat(wal, &st) == 0 && st.st_size > WAL_KEEP_BYTES) {
		/* Give the space back if nobody is in the way this very moment. */
		sqlite3_busy_timeout(db.c, 0);
		(void)sqlite3_wal_checkpoint_v2(
			db.c, NULL, SQLITE_CHECKPOINT_TRUNCATE, &log, &copied);
	}
	/* What was copied back may be newer than the mark, and a log that lost its end would cover it with
	 * what is older: all of it is claimed, once the log is synced that far. */
	uint64_t now = 0;
	if (rc == 0)
		rc = metadb_applied(&db, &now, err);
	metadb_close(&db);
	/* SQLite holds no lock through its log, so that closing a descriptor of it is harmless. */
	if (rc == 0 && (!whole || now > *applied))
		rc = sync_file(sl->shard, disk_real(), wal);
	if (rc == 0)
		*applied = VX_MAX(*applied, now);
	return rc;
}

/* Nothing depends on it: it is how damage to the log of SQLite is noticed. */
static void claim(struct slice *sl, uint64_t applied)
{
	char path[STORE_PATH_MAX];

	if (applied == 0) /* never opened since it was made */
		return;
	int rc = store_path(path, sl->dir, SLICE_CLAIM);
	if (rc == 0)
		rc = claim_write(disk_real(), path, applied);
	if (rc && rc != -ENOENT)
		log_debug("store", "%s: %s", path, strerror(-rc));
}

/* A mark that runs beside the applier may never find the end of SQLite's log, which then is not begun anew.
 * The applier does.  No error here is one of the entry, which the log has: the next mark meets it too. */
void slice_bound_wal(struct slice *sl)
{
	uint64_t limit = sl->wal_limit ? sl->wal_limit : WAL_FULL_BYTES;
	char path[STORE_PATH_MAX], wal[STORE_PATH_MAX];
	struct vx_err err = VX_ERR_INIT;
	uint64_t applied = 0, size = metadb_wal_bytes(&sl->wdb);

	if (size < limit || slice_db_path(sl, path) ||
		(unsigned)snprintf(wal, sizeof wal, "%s-wal", path) >= sizeof wal)
		return;
	int rc = checkpoint(sl, path, wal, &applied, &err);
	if (rc)
		log_warn("store", "collection %u: cannot copy SQLite's log back: %s", sl->cid,
			vx_err_msg(&err, rc));
	else
		claim(sl, applied);
	size = metadb_wal_bytes(&sl->wdb);
	sl->wal_limit = size < WAL_FULL_BYTES ? 0 : size + WAL_AGAIN_BYTES;
}

/* The file itself is written by its making and by checkpoints alone, and those sync it. */
static int sync_sqlite(
	struct slice *sl, bool made, bool synced, uint64_t applied, struct vx_err *err)
{
	char path[STORE_PATH_MAX], wal[STORE_PATH_MAX];
	struct stat st;

	int rc = slice_db_path(sl, path);
	if (rc || (unsigned)snprintf(wal, sizeof wal, "%s-wal", path) >= sizeof wal)
		return rc ? rc : -ENAMETOOLONG;
	if (stat(wal, &st) < 0 || st.st_size > WAL_COPY_BYTES) {
		rc = checkpoint(sl, path, wal, &applied, err);
		/* A reader in the way keeps the checkpoint from syncing the file, whose first page was not
		 * synced when it was made.  SQLite throws the log of an empty file away. */
		if (rc == 0 && made)
			rc = sync_file(sl->shard, disk_real(), path);
		if (rc == 0)
			claim(sl, applied);
		return rc;
	}
	if (!synced && made)
		rc = sync_file(sl->shard, disk_real(), path);
	if (!synced && rc == 0)
		rc = sync_file(sl->shard, disk_real(), wal);
	if (rc == 0)
		claim(sl, applied);
	return rc ? vx_err_set(err, rc, "%s: cannot sync", wal) : 0;
}

/* What one slice has to sync, taken from it. */
struct mark_item {
	struct slice *sl;
	bool dir;
	uint32_t lo, hi;
	uint64_t applied;
};

static int sync_files(const struct mark_item *m, struct vx_err *err)
{
	struct slice *sl = m->sl;
	struct disk *d = sl->shard->disk;
	uint32_t lo = m->lo, hi = m->hi;
	bool dir = m->dir;
	char gen[STORE_PATH_MAX], path[STORE_PATH_MAX], name[32];

	int rc = slice_gen_path(sl, gen);
	for (uint32_t no = lo; rc == 0 && lo <= hi && no <= hi; no++) {
		snprintf(name, sizeof name, "%06u.vec", no);
		rc = store_path(path, gen, name);
		if (rc == 0)
			rc = sync_file(sl->shard, d, path);
	}
	if (rc == 0 && dir)
		rc = shard_sync_dir(sl->shard, gen);
	if (rc == 0 && dir)
		rc = shard_sync_dir(sl->shard, sl->dir);
	return rc ? vx_err_set(err, rc, "%s: cannot sync", gen) : 0;
}

static void take_dirty(struct slice *sl, struct mark_item *ret)
{
	vx_lock(&sl->view_mu);
	*ret = (struct mark_item){
		.sl = sl,
		.dir = sl->dirty_dir,
		.lo = sl->dirty_lo,
		.hi = sl->dirty_hi,
		.applied = sl->view.applied,
	};
	sl->dirty = sl->dirty_dir = false;
	sl->dirty_lo = UINT32_MAX;
	sl->dirty_hi = 0;
	vx_unlock(&sl->view_mu);
}

static void settle_dirty(const struct mark_item *m, int rc)
{
	struct slice *sl = m->sl;

	vx_lock(&sl->view_mu);
	if (rc == 0 && !sl->repairing) {
		sl->prune_to = VX_MAX(sl->prune_to, m->applied);
	} else if (rc) {
		sl->dirty = true;
		sl->dirty_dir |= m->dir;
		if (m->lo <= m->hi) {
			sl->dirty_hi = sl->dirty_lo <= sl->dirty_hi ? VX_MAX(sl->dirty_hi, m->hi)
								    : m->hi;
			sl->dirty_lo = VX_MIN(sl->dirty_lo, m->lo);
		}
	}
	vx_unlock(&sl->view_mu);
}

static int mark_slice(const struct mark_item *m, bool synced, struct vx_err *err)
{
	int rc = synced ? 0 : sync_files(m, err);
	if (rc == 0)
		rc = sync_sqlite(m->sl, m->dir, synced, m->applied, err);
	struct shard *s = m->sl->shard;
	vx_lock(&s->mu);
	bool gone = m->sl->dropped;
	vx_unlock(&s->mu);
	if (gone)
		return 0; /* its files went while we synced them */
	if (rc == -EUCLEAN) {
		/* Nothing the log could give back: it is lost to this replica. */
		slice_quarantine(m->sl, rc, "meta.db cannot be marked");
		return 0;
	}
	return rc;
}

/* One sync for everything, on file systems whose syncfs means what it says.  The descriptor is as old
 * as the shard: no error that came since is missed.  An error may be anybody's file; then each of ours is asked. */
static bool sync_all(struct shard *s)
{
	return s->sync_fd >= 0 && syncfs(s->sync_fd) == 0;
}

int shard_sync_fd(struct shard *s)
{
	static const unsigned long trusted[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,
		BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, TMPFS_MAGIC};
	struct statfs st;

	if (s->disk != disk_real())
		return -1;
	int fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (size_t i = 0; i < VX_ARRAY_SIZE(trusted) && fstatfs(fd, &st) == 0; i++)
		if ((unsigned long)st.f_type == trusted[i])
			return fd;
	close(fd);
	return -1;
}

/* The shard's directory is a name in another one. */
static int sync_parent(struct shard *s)
{
	char path[STORE_PATH_MAX];

	snprintf(path, sizeof path, "%s", s->dir);
	char *end = strrchr(path, '/');
	if (!end)
		return shard_sync_dir(s, ".");
	end[end == path] = 0;
	return shard_sync_dir(s, path);
}

int shard_mark(struct shard *s, uint64_t index, struct vx_err *err)
{
	struct buf list = BUF_INIT;

	if (index > shard_applied(s))
		return vx_err_set(
			err, -EAGAIN, "entry %llu is not applied yet", (unsigned long long)index);
	/* Pinned, so that they are neither dropped nor closed under us; not opened. */
	vx_lock(&s->mu);
	int rc = s->sync_failed;
	if (rc)
		vx_err_set(err, rc, "an earlier sync of this shard failed");
	for (unsigned i = 0; i < SHARD_HASH && rc == 0; i++) {
		for (struct slice *sl = s->hash[i]; sl && rc == 0; sl = sl->hash_next) {
			if (sl->bad || sl->incomplete)
				continue;
			vx_lock(&sl->view_mu);
			bool dirty = sl->dirty;
			vx_unlock(&sl->view_mu);
			if (!dirty)
				continue;
			struct mark_item m = {.sl = sl};
			rc = buf_append(&list, &m, sizeof m);
			if (rc == 0)
				sl->pins++;
		}
	}
	bool dir = s->dirty_dir, parent = s->dirty_parent;
	s->dirty_dir = s->dirty_parent = false;
	vx_unlock(&s->mu);

	/* All flags are taken before anything is synced. */
	struct mark_item *items = (void *)list.data;
	size_t n = list.len / sizeof *items;
	for (size_t i = 0; i < n; i++)
		take_dirty(items[i].sl, &items[i]);
	bool synced = rc == 0 && n >= SYNC_ALL_SLICES && sync_all(s);
	for (size_t i = 0; i < n; i++) {
		if (rc == 0)
			rc = mark_slice(&items[i], synced, err);
		settle_dirty(&items[i], rc);
		slice_put(items[i].sl);
	}
	if (rc == 0 && dir)
		rc = roster_write(s);
	if (rc == 0 && dir)
		rc = shard_sync_dir(s, s->dir);
	if (rc == 0 && parent)
		rc = sync_parent(s);
	if (rc) {
		vx_lock(&s->mu);
		s->dirty_dir |= dir;
		s->dirty_parent |= parent;
		vx_unlock(&s->mu);
	}
	buf_release(&list);
	return rc;
}

/* --- figures ------------------------------------------------------------------------------------- */

static uint64_t path_bytes(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

static uint64_t file_bytes(const char *dir, const char *name)
{
	char path[STORE_PATH_MAX];

	return store_path(path, dir, name) ? 0 : path_bytes(path);
}

static uint64_t db_bytes(const struct slice *sl)
{
	char path[STORE_PATH_MAX], wal[STORE_PATH_MAX + 8];

	if (slice_db_path(sl, path))
		return 0;
	snprintf(wal, sizeof wal, "%s-wal", path);
	return path_bytes(path) + path_bytes(wal);
}

uint64_t slice_disk_bytes(struct slice *sl)
{
	uint64_t sum = db_bytes(sl) + file_bytes(sl->gen_dir, "graph.ckpt");
	struct view v = slice_view(sl);
	char name[32];

	for (uint32_t no = 0; (uint64_t)no << SEG_SHIFT < v.nslots; no++) {
		snprintf(name, sizeof name, "%06u.vec", no);
		sum += file_bytes(sl->gen_dir, name);
	}
	return sum;
}

void slice_stat(struct slice *sl, struct slice_stats *ret)
{
	struct view v = slice_view(sl);
	struct slice_stats st = {
		.count = v.count,
		.applied = v.applied,
		.nslots = v.nslots,
		.dead_slots = atomic_load_explicit(&sl->dead_slots, memory_order_relaxed),
		.tail = v.nslots,
		.generation = v.generation,
	};

	st.disk_bytes = slice_disk_bytes(sl);
	for (uint32_t no = 0; (uint64_t)no << SEG_SHIFT < v.nslots; no++) {
		struct seg *g = slice_seg(sl, no);
		st.memory_bytes += sizeof *g;
		if (g && atomic_load_explicit(&g->dead, memory_order_relaxed))
			st.memory_bytes += SEG_SLOTS * sizeof(uint64_t);
	}
	vx_lock(&sl->mu);
	struct index *ix = sl->index_phase == INDEX_READY ? sl->index : NULL;
	st.compacting = sl->compacting;
	vx_unlock(&sl->mu);
	st.compact_due = slice_compact_due(sl);
	st.compact_done = atomic_load_explicit(&sl->compact_done, memory_order_relaxed);
	st.compact_total = atomic_load_explicit(&sl->compact_total, memory_order_relaxed);
	st.compactions = atomic_load_explicit(&sl->compactions, memory_order_relaxed);
	st.reclaimed_bytes = atomic_load_explicit(&sl->reclaimed_bytes, memory_order_relaxed);
	st.index_loaded = ix != NULL;
	if (ix) {
		index_stat(ix, &st.index);
		uint32_t linked = index_linked(ix);
		st.tail = v.nslots > linked ? v.nslots - linked : 0;
		st.memory_bytes += st.index.memory_bytes;
	}
	vx_lock(&sl->read_mu);
	st.memory_bytes += sizeof *sl + (uint64_t)(sl->n_readers + 1) * 64 * 1024;
	vx_unlock(&sl->read_mu);
	*ret = st;
}
