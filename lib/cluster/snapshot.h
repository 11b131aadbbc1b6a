/* snapshot.h - snapshots of collections: take, list, remove, restore, and moving them between machines.
 *
 *	DATA/snapshots/docs/nightly/	manifest s000.meta.db s000.000000.vec ...
 *	DATA/snapshots/docs/.x.new-1f	one in the making; removed at the next start
 *
 * A snapshot belongs to a collection's name, not to its number: it outlives a drop, and a restore
 * that replaces a collection keeps the snapshots of it.  It is there once its directory has its name, which it
 * gets by one rename after everything in it has been verified and synced.  Its files are never written again.
 *
 * Restoring makes a collection of new number through the log, like any other writer, under a hidden name; one
 * entry of the catalog gives it the name asked for when all of it is in.
 *
 * Threads: all of it by anyone; an upload has one owner.
 */
#ifndef VECFS_CLUSTER_SNAPSHOT_H
#define VECFS_CLUSTER_SNAPSHOT_H

#include "cluster/db.h"

struct snap_info {
	const char *coll, *name; /* borrowed during the call, or from the caller */
	uint64_t time_ns;
	uint64_t records, bytes, files;
};
struct snap_entry {
	const char *name;
	uint64_t size, sum; /* XXH3 */
};

/* Polled where something takes long; may be NULL. */
typedef bool snap_stop_fn(void *ctx);

/* -EEXIST, -EINVAL (name), -EAGAIN (being repaired), -EUCLEAN (a record is damaged), -ENOSPC, -EINTR. */
VX_MUST_CHECK
int snapshot_take(
	struct coll *c, const char *name, snap_stop_fn *stop, void *ctx, struct vx_err *err);
/* By name; of one collection, or of all (NULL).  'each' non-zero stops and is returned. */
int snapshot_list(struct db *db, const char *coll,
	int (*each)(void *arg, const struct snap_info *s), void *arg);
/* -ENOENT. */
VX_MUST_CHECK
int snapshot_remove(struct db *db, const char *coll, const char *name, struct vx_err *err);
/* Its names alone, NUL-ended one after another: a listing need not read manifests. */
VX_MUST_CHECK
int snapshot_names(struct db *db, const char *coll, struct buf *out);
/* Its files, the manifest first (with sum 0). */
VX_MUST_CHECK
int snapshot_files(struct db *db, const char *coll, const char *name,
	int (*each)(void *arg, const struct snap_entry *f), void *arg, struct vx_err *err);
/* A descriptor for reading; -ENOENT when there is no such snapshot or it has no such file.  file NULL: the
 * directory. */
int snapshot_open(struct db *db, const char *coll, const char *name, const char *file);
/* Reads and compares every file; -EUCLEAN names the first bad one. */
VX_MUST_CHECK
int snapshot_verify(struct db *db, const char *coll, const char *name, snap_stop_fn *stop,
	void *ctx, struct vx_err *err);

/* Makes collection 'as' of it.  -EEXIST: it is there, and not 'force'; -EUCLEAN: the snapshot is damaged, and
 * nothing was changed; otherwise as batch_commit. */
VX_MUST_CHECK
int snapshot_restore(struct db *db, const char *coll, const char *name, const char *as, bool force,
	snap_stop_fn *stop, void *ctx, struct vx_err *err);

/* --- receiving ------------------------------------------------------------------------------- */
/* Files come in the order of the manifest, each whole: its bytes, or a link to an equal one in a snapshot of
 * the same collection name.  Nothing is visible before snapshot_in_finish. */
struct snap_in;
/* 'name' NULL: that of the manifest. */
VX_MUST_CHECK
int snapshot_in_begin(struct db *db, const char *coll, const char *name, const void *manifest,
	size_t len, struct snap_in **ret, struct vx_err *err);
/* What is coming; borrowed while 'in' lives. */
void snapshot_in_info(const struct snap_in *in, struct snap_info *ret);
/* The next bytes of the file under way. */
VX_MUST_CHECK
int snapshot_in_write(struct snap_in *in, const void *p, size_t n, struct vx_err *err);
/* The next file is that of any snapshot here with the same size and checksum.  -ENOENT: there is none. */
VX_MUST_CHECK
int snapshot_in_link(struct snap_in *in, struct vx_err *err);
/* -EUCLEAN: not all of it came. */
VX_MUST_CHECK
int snapshot_in_finish(struct snap_in *in, struct vx_err *err);
/* Frees; what was not finished is removed. */
void snapshot_in_free(struct snap_in *in);

#endif
