/* disk.h - the disk as a table of functions.
 *
 * lib/wal and the vector files of lib/store touch the disk only through this,
 * so that a simulator can own it: tear a tail, fail the n-th write, fill up.
 * 'disk_real()' is the kernel.  Handles are small ints (file descriptors on the
 * real disk); every function returns 0 or a count, or a negative errno.
 * disk_pread and disk_pwrite below loop until the whole length is done.
 */
#ifndef VECFS_BASE_DISK_H
#define VECFS_BASE_DISK_H

#include <sys/types.h>

#include "base/base.h"

struct disk;

struct disk_ops {
	/* 'oflags' as for open(2); returns a handle. */
	int (*open)(struct disk *d, const char *path, int oflags, mode_t mode);
	int (*close)(struct disk *d, int fd);
	ssize_t (*pread)(struct disk *d, int fd, void *p, size_t n, uint64_t off);
	ssize_t (*pwrite)(struct disk *d, int fd, const void *p, size_t n, uint64_t off);
	int (*fdatasync)(struct disk *d, int fd);
	int (*truncate)(struct disk *d, int fd, uint64_t size);
	int (*allocate)(struct disk *d, int fd, uint64_t off, uint64_t len); /* posix_fallocate */
	int (*size)(struct disk *d, int fd, uint64_t *ret_size);
	int (*rename)(struct disk *d, const char *from, const char *to);
	int (*unlink)(struct disk *d, const char *path);
	int (*mkdir)(struct disk *d, const char *path, mode_t mode);
	int (*sync_dir)(struct disk *d, const char *path); /* fsync of a directory */
	/* Calls 'each' with every name but "." and ".."; stops at its first non-zero. */
	int (*list)(struct disk *d, const char *path, int (*each)(void *arg, const char *name),
		void *arg);
};

struct disk {
	const struct disk_ops *ops;
};

struct disk *disk_real(void);

/* Whole-length forms.  disk_pread: -EUCLEAN at an early end of file. */
VX_MUST_CHECK
int disk_pread(struct disk *d, int fd, void *p, size_t n, uint64_t off);
VX_MUST_CHECK
int disk_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off);

/* Writes a small file atomically: temporary, fdatasync, rename, fsync of the directory. */
VX_MUST_CHECK
int disk_write_file(struct disk *d, const char *dir, const char *name, const void *p, size_t n);

#endif
