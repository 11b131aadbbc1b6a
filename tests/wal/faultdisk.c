/* faultdisk.c - see faultdisk.h. */
#include "faultdisk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDLES_MAX 64
#define BLOCK       4096u

static struct {
	struct disk d;
	struct disk *under;
	const struct disk_ops *real_ops;
	enum fault_direct direct;
	bool is_direct[HANDLES_MAX];
	unsigned direct_writes;
	enum fault_op op;
	unsigned left;
	int err;
	bool fired;
	char name[HANDLES_MAX][64];
	char bad[64];
	uint64_t bad_off;
	unsigned bad_left; /* reads that fail; 0: all of them */
} k;

static bool fails(enum fault_op op)
{
	if (op != k.op || k.left == 0 || --k.left)
		return false;
	k.fired = true;
	return true;
}

static const char *below(char ret[64], const char *path)
{
	const char *slash = strrchr(path, '/');

	(void)snprintf(ret, 64, "wal/%s", slash ? slash + 1 : path);
	return ret;
}

static int f_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	char p[64];

	(void)d;
	if (fails(FAULT_OPEN))
		return k.err;
	if (oflags & O_DIRECT && k.direct == DIRECT_NO_OPEN)
		return -EINVAL;
	if (oflags & O_DIRECT && k.direct == DIRECT_NOT_SUPPORTED)
		return -EOPNOTSUPP;
	int fd = k.under->ops->open(k.under, below(p, path), oflags & ~O_DIRECT, mode);
	if (fd >= 0) {
		k.is_direct[fd] = oflags & O_DIRECT;
		strcpy(k.name[fd], p);
	}
	return fd;
}

static int f_close(struct disk *d, int fd)
{
	(void)d;
	return k.under->ops->close(k.under, fd);
}

static ssize_t f_pread(struct disk *d, int fd, void *p, size_t n, uint64_t off)
{
	(void)d;
	if (fails(FAULT_PREAD)) {
		if (k.err)
			return k.err;
		n = VX_MAX(n / 2, (size_t)1);
	}
	if (strcmp(k.name[fd], k.bad) == 0 && off <= k.bad_off && k.bad_off - off < n) {
		if (k.bad_left && --k.bad_left == 0)
			k.bad[0] = 0;
		return -EIO;
	}
	return k.under->ops->pread(k.under, fd, p, n, off);
}

static ssize_t f_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	(void)d;
	if (fails(FAULT_PWRITE)) {
		if (k.err)
			return k.err;
		n /= 2;
	} else if (k.is_direct[fd]) {
		if (k.direct == DIRECT_NO_WRITE)
			return -EINVAL;
		if ((uintptr_t)p % BLOCK || n % BLOCK || off % BLOCK)
			abort();
		k.direct_writes++;
	}
	return k.under->ops->pwrite(k.under, fd, p, n, off);
}

static int f_fdatasync(struct disk *d, int fd)
{
	(void)d;
	return fails(FAULT_FDATASYNC) ? k.err : k.under->ops->fdatasync(k.under, fd);
}

static int f_truncate(struct disk *d, int fd, uint64_t size)
{
	(void)d;
	return k.under->ops->truncate(k.under, fd, size);
}

static int f_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	(void)d;
	return fails(FAULT_ALLOCATE) ? k.err : k.under->ops->allocate(k.under, fd, off, len);
}

static int f_size(struct disk *d, int fd, uint64_t *ret_size)
{
	(void)d;
	return fails(FAULT_SIZE) ? k.err : k.under->ops->size(k.under, fd, ret_size);
}

static int f_rename(struct disk *d, const char *from, const char *to)
{
	char a[64], b[64];

	(void)d;
	if (fails(FAULT_RENAME))
		return k.err;
	return k.under->ops->rename(k.under, below(a, from), below(b, to));
}

static int f_unlink(struct disk *d, const char *path)
{
	char p[64];

	(void)d;
	return fails(FAULT_UNLINK) ? k.err : k.under->ops->unlink(k.under, below(p, path));
}

static int f_mkdir(struct disk *d, const char *path, mode_t mode)
{
	(void)d;
	return k.under->ops->mkdir(k.under, path, mode);
}

static int f_sync_dir(struct disk *d, const char *path)
{
	(void)d;
	(void)path;
	return fails(FAULT_SYNC_DIR) ? k.err : k.under->ops->sync_dir(k.under, "wal");
}

static int f_list(
	struct disk *d, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
	(void)d;
	(void)path;
	return fails(FAULT_LIST) ? k.err : k.under->ops->list(k.under, "wal", each, arg);
}

static const struct disk_ops fault_ops = {
	.open = f_open,
	.close = f_close,
	.pread = f_pread,
	.pwrite = f_pwrite,
	.fdatasync = f_fdatasync,
	.truncate = f_truncate,
	.allocate = f_allocate,
	.size = f_size,
	.rename = f_rename,
	.unlink = f_unlink,
	.mkdir = f_mkdir,
	.sync_dir = f_sync_dir,
	.list = f_list,
};

struct disk *faultdisk(struct disk *under)
{
	k.d.ops = &fault_ops;
	k.under = under;
	k.direct_writes = 0;
	k.bad[0] = '\0';
	faultdisk_arm(FAULT_OPS, 0, 0);
	return &k.d;
}

void faultdisk_arm(enum fault_op op, unsigned n, int err)
{
	k.op = op;
	k.left = n;
	k.err = err;
	k.fired = false;
}

void faultdisk_bad(const char *name, uint64_t off)
{
	k.bad[0] = '\0';
	if (name)
		(void)below(k.bad, name);
	k.bad_off = off;
	k.bad_left = 0;
}

void faultdisk_heals(unsigned n)
{
	k.bad_left = n;
}

bool faultdisk_fired(void)
{
	return k.fired;
}

void faultdisk_real(enum fault_direct direct)
{
	k.direct = direct;
	if (disk_real()->ops != &fault_ops)
		k.real_ops = disk_real()->ops;
	disk_real()->ops = &fault_ops;
}

void faultdisk_unreal(void)
{
	if (k.real_ops)
		disk_real()->ops = k.real_ops;
}

unsigned faultdisk_direct_writes(void)
{
	return k.direct_writes;
}
