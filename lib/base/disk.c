#include "base/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int neg(int rc)
{
	return rc < 0 ? -errno : rc;
}

static int real_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	(void)d;
	return neg(open(path, oflags | O_CLOEXEC, mode));
}

static int real_close(struct disk *d, int fd)
{
	(void)d;
	return neg(close(fd));
}

static ssize_t real_pread(struct disk *d, int fd, void *p, size_t n, uint64_t off)
{
	(void)d;
	ssize_t r = pread(fd, p, n, (off_t)off);
	return r < 0 ? -errno : r;
}

static ssize_t real_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	(void)d;
	ssize_t r = pwrite(fd, p, n, (off_t)off);
	return r < 0 ? -errno : r;
}

static int real_fdatasync(struct disk *d, int fd)
{
	(void)d;
	return neg(fdatasync(fd));
}

static int real_truncate(struct disk *d, int fd, uint64_t size)
{
	(void)d;
	return neg(ftruncate(fd, (off_t)size));
}

static int real_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	(void)d;
	return -posix_fallocate(fd, (off_t)off, (off_t)len);
}

static int real_size(struct disk *d, int fd, uint64_t *ret_size)
{
	struct stat st;

	(void)d;
	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

static int real_rename(struct disk *d, const char *from, const char *to)
{
	(void)d;
	return neg(rename(from, to));
}

static int real_unlink(struct disk *d, const char *path)
{
	(void)d;
	return neg(unlink(path));
}

static int real_mkdir(struct disk *d, const char *path, mode_t mode)
{
	(void)d;
	return neg(mkdir(path, mode));
}

static int real_sync_dir(struct disk *d, const char *path)
{
	(void)d;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = neg(fsync(fd));
	close(fd);
	return rc;
}

static int real_list(
	struct disk *d, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
	int rc = 0;
	struct dirent *e;

	(void)d;
	DIR *dir = opendir(path);
	if (!dir)
		return -errno;
	while (rc == 0 && (errno = 0, e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			rc = each(arg, e->d_name);
	}
	if (rc == 0 && errno)
		rc = -errno;
	closedir(dir);
	return rc;
}

static const struct disk_ops real_ops = {
	.open = real_open,
	.close = real_close,
	.pread = real_pread,
	.pwrite = real_pwrite,
	.fdatasync = real_fdatasync,
	.truncate = real_truncate,
	.allocate = real_allocate,
	.size = real_size,
	.rename = real_rename,
	.unlink = real_unlink,
	.mkdir = real_mkdir,
	.sync_dir = real_sync_dir,
	.list = real_list,
};

static struct disk real = {.ops = &real_ops};

struct disk *disk_real(void)
{
	return &real;
}

int disk_pread(struct disk *d, int fd, void *p, size_t n, uint64_t off)
{
	uint8_t *b = p;

	while (n > 0) {
		ssize_t r = d->ops->pread(d, fd, b, n, off);
		if (r == -EINTR)
			continue;
		if (r < 0)
			return (int)r;
		if (r == 0)
			return -EUCLEAN;
		b += r;
		off += (uint64_t)r;
		n -= (size_t)r;
	}
	return 0;
}

int disk_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	const uint8_t *b = p;

	while (n > 0) {
		ssize_t r = d->ops->pwrite(d, fd, b, n, off);
		if (r == -EINTR)
			continue;
		if (r < 0)
			return (int)r;
		if (r == 0)
			return -EIO;
		b += r;
		off += (uint64_t)r;
		n -= (size_t)r;
	}
	return 0;
}

int disk_write_file(struct disk *d, const char *dir, const char *name, const void *p, size_t n)
{
	char tmp[4096], path[4096];

	if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path ||
		(size_t)snprintf(tmp, sizeof tmp, "%s/%s.tmp", dir, name) >= sizeof tmp)
		return -ENAMETOOLONG;
	int fd = d->ops->open(d, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		return fd;
	int rc = disk_pwrite(d, fd, p, n, 0);
	if (rc == 0)
		rc = d->ops->fdatasync(d, fd);
	int rc2 = d->ops->close(d, fd);
	if (rc == 0)
		rc = rc2;
	if (rc == 0)
		rc = d->ops->rename(d, tmp, path);
	if (rc == 0)
		rc = d->ops->sync_dir(d, dir);
	if (rc)
		(void)d->ops->unlink(d, tmp);
	return rc;
}
