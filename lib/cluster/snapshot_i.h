/* snapshot_i.h - what snapshot.c, snapin.c and restore.c share.  Private to this directory. */
#ifndef VECFS_CLUSTER_SNAPSHOT_I_H
#define VECFS_CLUSTER_SNAPSHOT_I_H

#include "cluster/db_i.h"
#include "cluster/manifest.h"
#include "cluster/snapshot.h"

#define SNAP_PATH_MAX 4096u
#define SNAP_DIR      "snapshots"

/* DATA/snapshots/COLL[/NAME[/FILE]]; 'name' and 'file' may be NULL. */
VX_MUST_CHECK
int snap_path_of(const struct db *db, const char *coll, const char *name, const char *file,
	char ret[SNAP_PATH_MAX]);
VX_MUST_CHECK
int snap_load(struct db *db, const char *coll, const char *name, struct manifest *ret,
	struct vx_err *err);
/* A new directory beside the snapshots of a collection, whose name starts with a dot. */
VX_MUST_CHECK
int snap_make_dir(struct db *db, const char *coll, const char *name, char ret[SNAP_PATH_MAX],
	struct vx_err *err);
/* Writes the manifest, syncs everything, and gives the directory its name: from then on it is there.  Its other
 * files are synced already.  -EEXIST. */
VX_MUST_CHECK
int snap_publish(struct db *db, const char *dir, const char *coll, const char *name,
	const void *manifest, size_t len, struct vx_err *err);
/* Removes a directory and the files in it. */
void snap_remove_dir(const char *dir);
/* Checksum and length of what is in a file. */
VX_MUST_CHECK
int snap_sum(const char *path, snap_stop_fn *stop, void *ctx, uint64_t *ret_size, uint64_t *ret_sum,
	struct vx_err *err);
/* fsync of a file. */
VX_MUST_CHECK
int snap_sync(const char *path, struct vx_err *err);
void snap_prefix(uint32_t shard, char ret[MANIFEST_PREFIX]);
/* Reads every record of one slice's files: all of it fits together.  'each' may be NULL. */
VX_MUST_CHECK
int snap_check_slice(const char *dir, const struct manifest_slice *s, snap_stop_fn *stop, void *ctx,
	int (*each)(void *arg, const struct vx_record *rec, struct vx_err *err), void *arg,
	struct vx_err *err);

#endif
