/* fsck.h - a whole data directory: identity, log, catalog, shards, snapshots, and what each says of the others.
 *
 *	struct verify v = {.found = print, .repair = true};
 *	node_verify("DATA", &v, &err)				nobody serves it
 *	node_verify_served(db, &v, stop, ctx, &err)		beside the daemon, within it
 *
 * Findings and what is repaired: store/verify.h.  The log is read by the daemon's own recovery over a disk that
 * drops what it writes, so the verdict is that of the next start; what it would apply again is what
 * tells damage from the remains of a crash.
 */
#ifndef VECFS_CLUSTER_FSCK_H
#define VECFS_CLUSTER_FSCK_H

#include "base/err.h"
#include "store/verify.h"

/* Sets mark, last and the three questions of 'v' itself.  Holds DATA/lock meanwhile.
 * -EBUSY: a daemon has it; -ENOENT, -ENOTDIR: no data directory; -EIO, -ENOMEM, -ENOSPC. */
VX_MUST_CHECK
int node_verify(const char *dir, struct verify *v, struct vx_err *err);

/* Whether a directory looks like DATA. */
bool node_is_data(const char *dir);

/* Polled where it takes long; may be NULL. */
typedef bool fsck_stop_fn(void *ctx);
struct db;
/* All of the directory of a node that is open, while it is written to.  Nothing is repaired.  Sets the questions of 'v'
 * itself.  -EINTR: 'stop' said so; -ENOMEM, -EMFILE, -EBUSY. */
VX_MUST_CHECK
int node_verify_served(
	struct db *db, struct verify *v, fsck_stop_fn *stop, void *stop_ctx, struct vx_err *err);
/* Whether 'dir' is the node's directory. */
bool node_serves(struct db *db, const char *dir);

/* Damage to the log stops the shards that it concerns: db_open succeeds, their records are -EUCLEAN and all else goes on.
 * Such a shard ('what': its number; or "catalog", without which there is no db_open) takes part again, as its
 * store is, and what only the log had of it is given up.  Offline.  -ENOENT: nothing is stopped there; -EBUSY as
 * above; -EINVAL. */
VX_MUST_CHECK
int node_accept_loss(const char *dir, const char *what, struct vx_err *err);

#endif
