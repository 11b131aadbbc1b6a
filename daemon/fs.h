/* fs.h - the mount: a database as a directory tree.
 *
 *	fs_start(db, "/mnt/vec", &opts, &fs, &err)	mounts and serves, on threads of its own
 *	poll(fs_done_fd(fs)) or fs_loop(fs)		until somebody unmounts it
 *	fs_stop(fs)					unmounts, joins, frees
 *
 * What the files mean is vecfs(7).  Every refusal answers an errno and leaves one line in the error log
 * (errlog.h).
 *
 * Threads: fs_start creates threads, so fork before it.  Everything is callable from any thread; fs_stop
 * once, and by no thread that serves.
 */
#ifndef VECFS_DAEMON_FS_H
#define VECFS_DAEMON_FS_H

#include <sys/types.h>

#include "base/base.h"
#include "base/bytes.h"
#include "base/err.h"

struct db;
struct fs;

struct fs_opts {
	unsigned threads; /* most requests served at once; 0: 64 */
	uid_t uid;        /* owner of everything shown */
	gid_t gid;
	mode_t dir_mode;    /* 0: 0755 */
	mode_t file_mode;   /* 0: 0644; read-only and write-only files show their part of it */
	bool allow_other;   /* other users may enter (subject to the modes) */
	bool debug;         /* libfuse prints every request */
	const char *socket; /* shown in .vecfs/socket; NULL: none */
	/* The daemon's options, for .vecfs/config/NAME.  All may be NULL: the directory is then empty.
	 * config_each calls 'each' with every name until it returns non-zero; config_get appends the
	 * value without newline (-ENOENT); config_set is -EPERM where an option is fixed at start. */
	int (*config_each)(void *ctx, int (*each)(void *arg, const char *name), void *arg);
	int (*config_get)(void *ctx, const char *name, struct buf *out);
	int (*config_set)(void *ctx, const char *name, const char *value, struct vx_err *err);
	void *config_ctx;
	/* From a supervisor: the mounted descriptor and the region of open files, both taken. */
	bool handed;
	int fuse_fd, carry_fd;
};

/* Mounts 'db' (borrowed until fs_stop) on the directory 'mountpoint' and serves it.  A dead mount that a
 * killed daemon left there is cleared first.
 * -ENOENT, -ENOTDIR (mountpoint), -EBUSY (another vecfs is mounted there), -EINVAL (the data directory
 * inside the mount or the other way round), -ENODEV (no /dev/fuse), -EPERM, -ENOMEM. */
VX_MUST_CHECK
int fs_start(struct db *db, const char *mountpoint, const struct fs_opts *opts, struct fs **ret,
	struct vx_err *err);

/* Readable (poll) once the mount is gone: unmounted by hand. */
int fs_done_fd(const struct fs *fs);

/* Blocks until the mount is gone.  Call fs_stop afterwards. */
void fs_loop(struct fs *fs);

/* Whether the kernel hands requests again to the next worker. */
bool fs_resends(const struct fs *fs);

/* Finishes the requests that were accepted, unmounts, joins the threads, frees.  NULL is fine.  Of a mount
 * that was handed over everything stays for the next worker if it 'goes_on', and the mount is the
 * supervisor's to remove. */
void fs_stop(struct fs *fs, bool goes_on);

#endif
