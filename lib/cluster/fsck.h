/* fsck.h - a whole data directory that nobody serves: identity, log, catalog, shards, and what each says of the others.
 *
 *	struct verify v = {.found = print, .repair = true};
 *	node_verify("DATA", &v, &err)
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

#endif
