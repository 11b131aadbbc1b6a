/* fs_mount.h - a mount point: checked and mounted.
 *
 * No threads of its own; log lines and errors as usual.
 */
#ifndef VECFS_DAEMON_FS_MOUNT_H
#define VECFS_DAEMON_FS_MOUNT_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>

#include "base/base.h"
#include "base/err.h"

struct mount_opts {
	bool allow_other, debug;
};

/* Clears a dead mount, and says whether there may be one of 'data_dir' here.  *ret is the absolute path; free
 * it.  -ENOENT, -ENOTDIR, -EBUSY (another vecfs), -EINVAL (one directory inside the other). */
VX_MUST_CHECK
int mount_check(const char *data_dir, const char *mountpoint, char **ret, struct vx_err *err);

/* A session that is not mounted yet; fuse_session_destroy frees it. */
VX_MUST_CHECK
int mount_session_new(const struct mount_opts *o, const struct fuse_lowlevel_ops *ops,
	size_t ops_size, void *userdata, struct fuse_session **ret, struct vx_err *err);
/* Mounts it, or takes the mounted descriptor N with 'where' "/dev/fd/N".  Reads do not block. */
VX_MUST_CHECK
int mount_session(struct fuse_session *se, const char *where, struct vx_err *err);

#endif
