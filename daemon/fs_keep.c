/* fs_keep.c - small files that outlive a restart: done/, failed/ and q/.
 *
 *	DATA/done/CID/NAME	receipts
 *	DATA/failed/CID/NAME	rejected records, and NAME.err
 *	DATA/q/CID/NAME		named questions
 *
 * They belong to this node alone.  Receipts and rejects expire: KEEP_AGE_S old, beyond KEEP_FILES_MAX
 * files or KEEP_BYTES_MAX bytes of a collection the oldest go first.  Questions do not expire; one more
 * than KEEP_FILES_MAX is refused.  Directories of collections that are gone are removed at start.
 */
#include "daemon/fs_i.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define KEEP_AGE_S     (7u * 86400u)
#define KEEP_FILES_MAX 1000u
#define KEEP_BYTES_MAX (256u << 20)
#define PRUNE_EVERY    64u /* writes */

static const char *const areas[] = {[KEEP_DONE] = "done", [KEEP_FAILED] = "failed", [KEEP_Q] = "q"};

enum keep_area keep_of(enum fs_kind k)
{
	return k == K_DONE || k == K_RECEIPT    ? KEEP_DONE
	       : k == K_QDIR || k == K_QUESTION ? KEEP_Q
						: KEEP_FAILED;
}

/* The directory of a collection, made when 'create'; a descriptor or a negative errno. */
static int open_dir(struct fs *fs, enum keep_area a, uint32_t cid, bool create)
{
	char path[32];

	snprintf(path, sizeof path, "%s/%u", areas[a], cid);
	if (create) {
		if (mkdirat(fs->data_fd, areas[a], 0700) < 0 && errno != EEXIST)
			return -errno;
		if (mkdirat(fs->data_fd, path, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	int fd = openat(fs->data_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w < 0 ? -errno : -EIO;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

/* --- pruning ------------------------------------------------------------------------------------------- */
struct kept {
	char *name;
	time_t mtime;
	uint64_t size;
};

static int by_age(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	return (x->mtime > y->mtime) - (x->mtime < y->mtime);
}

/* Takes 'dir_fd'.  Lists the files of a directory; *ret is freed with free_list. */
static int list_dir(int dir_fd, struct kept **ret, size_t *ret_n)
{
	struct kept *list = NULL;
	size_t n = 0, cap = 0;
	DIR *d = fdopendir(dir_fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		close(dir_fd);
		return -ENOMEM;
	}
	while (!rc && (e = readdir(d))) {
		struct stat st;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
			fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (n == cap) {
			cap = cap ? cap * 2 : 64;
			struct kept *more = realloc(list, cap * sizeof *more);
			if (!more) {
				rc = -ENOMEM;
				break;
			}
			list = more;
		}
		char *name = strdup(e->d_name);
		if (!name)
			rc = -ENOMEM;
		else
			list[n++] = (struct kept){name, st.st_mtime, (uint64_t)st.st_size};
	}
	closedir(d);
	*ret = list;
	*ret_n = n;
	return rc;
}

static void free_list(struct kept *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].name);
	free(list);
}

static void prune_dir(struct fs *fs, enum keep_area a, uint32_t cid)
{
	struct kept *list = NULL;
	size_t n = 0;
	uint64_t bytes = 0;
	time_t now = time(NULL);
	int fd = open_dir(fs, a, cid, false), fd2 = fd < 0 ? -1 : dup(fd);

	if (fd < 0)
		return;
	if (fd2 < 0 || list_dir(fd, &list, &n) < 0) {
		free_list(list, n);
		if (fd2 >= 0)
			close(fd2);
		else
			close(fd);
		return;
	}
	if (n)
		qsort(list, n, sizeof *list, by_age);
	for (size_t i = 0; i < n; i++)
		bytes += list[i].size;
	for (size_t i = 0; i < n; i++) {
		bool half = list[i].name[0] == '.'; /* a write that a crash cut short */
		bool old = now - list[i].mtime > (time_t)KEEP_AGE_S;
		bool many = n - i > KEEP_FILES_MAX || bytes > KEEP_BYTES_MAX;
		if (a == KEEP_Q ? !(half && now - list[i].mtime > 60) : !old && !many)
			continue;
		unlinkat(fd2, list[i].name, 0);
		bytes -= list[i].size;
	}
	free_list(list, n);
	close(fd2);
}

static void remove_dir(struct fs *fs, enum keep_area a, uint32_t cid)
{
	char path[32];
	struct kept *list = NULL;
	size_t n = 0;
	int fd = open_dir(fs, a, cid, false);

	if (fd < 0)
		return;
	int fd2 = dup(fd);
	if (list_dir(fd, &list, &n) == 0) {
		for (size_t i = 0; fd2 >= 0 && i < n; i++)
			unlinkat(fd2, list[i].name, 0);
	}
	free_list(list, n);
	if (fd2 >= 0)
		close(fd2);
	snprintf(path, sizeof path, "%s/%u", areas[a], cid);
	unlinkat(fs->data_fd, path, AT_REMOVEDIR);
}

void keep_drop(struct fs *fs, uint32_t cid)
{
	for (int a = KEEP_DONE; a <= KEEP_Q; a++)
		remove_dir(fs, (enum keep_area)a, cid);
}

void keep_prune(struct fs *fs)
{
	for (int a = KEEP_DONE; a <= KEEP_Q; a++) {
		struct kept *list = NULL;
		size_t n = 0;
		int fd = openat(fs->data_fd, areas[a], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (list_dir(fd, &list, &n) < 0)
			log_warn("fs", "cannot list %s/ of the data directory", areas[a]);
		for (size_t i = 0; i < n; i++) {
			char *end;
			unsigned long cid = strtoul(list[i].name, &end, 10);
			int rc = 0;
			if (*end || cid == 0 || cid > UINT32_MAX)
				continue;
			struct coll *c = db_coll_by_cid(fs->db, (uint32_t)cid, &rc, NULL);
			if (c)
				coll_put(c);
			if (!c && rc == -ENOENT)
				remove_dir(fs, (enum keep_area)a, (uint32_t)cid);
			else
				prune_dir(fs, (enum keep_area)a, (uint32_t)cid);
		}
		free_list(list, n);
	}
}

/* --- one file -------------------------------------------------------------------------------------------- */
static int check_room(struct fs *fs, enum keep_area a, uint32_t cid, const char *name)
{
	struct stat st;
	struct buf names = BUF_INIT;
	size_t n = 0;

	if (a != KEEP_Q || keep_stat(fs, a, cid, name, &st) == 0)
		return 0;
	int rc = keep_names(fs, a, cid, &names);
	for (size_t i = 0; i < names.len; i++)
		n += names.data[i] == 0;
	buf_release(&names);
	return rc ? rc : n >= KEEP_FILES_MAX ? -EDQUOT : 0;
}

int keep_write(
	struct fs *fs, enum keep_area a, uint32_t cid, const char *name, const void *p, size_t n)
{
	char tmp[40];
	uint32_t serial = atomic_fetch_add(&fs->keep_writes, 1);
	int rc = check_room(fs, a, cid, name);

	if (rc)
		return rc;
	int dir = open_dir(fs, a, cid, true);
	if (dir < 0)
		return dir;
	snprintf(tmp, sizeof tmp, ".%u", serial);
	int fd = openat(dir, tmp, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	rc = fd < 0 ? -errno : write_all(fd, p, n);
	/* A question is somebody's input; a receipt says what the database itself still knows. */
	if (rc == 0 && a == KEEP_Q && fdatasync(fd) < 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	if (rc == 0 && renameat(dir, tmp, dir, name) < 0)
		rc = -errno;
	if (rc == 0 && a == KEEP_Q && fsync(dir) < 0)
		rc = -errno;
	if (rc)
		unlinkat(dir, tmp, 0);
	close(dir);
	if (rc == 0 && serial % PRUNE_EVERY == PRUNE_EVERY - 1)
		prune_dir(fs, a, cid);
	return rc;
}

int keep_open(struct fs *fs, enum keep_area a, uint32_t cid, const char *name)
{
	int dir = open_dir(fs, a, cid, false);

	if (dir < 0)
		return dir;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int rc = fd < 0 ? -errno : fd;
	close(dir);
	return rc;
}

int keep_stat(struct fs *fs, enum keep_area a, uint32_t cid, const char *name, struct stat *ret)
{
	int dir = open_dir(fs, a, cid, false), rc;

	if (dir < 0)
		return dir;
	rc = name[0] == '.'                                     ? -ENOENT
	     : fstatat(dir, name, ret, AT_SYMLINK_NOFOLLOW) < 0 ? -errno
								: 0;
	close(dir);
	return rc;
}

int keep_unlink(struct fs *fs, enum keep_area a, uint32_t cid, const char *name)
{
	int dir = open_dir(fs, a, cid, false), rc;

	if (dir < 0)
		return dir;
	rc = unlinkat(dir, name, 0) < 0 ? -errno : 0;
	close(dir);
	return rc;
}

/* Syncs the directory, as every change of a question does: it is somebody's input. */
int keep_rename(struct fs *fs, enum keep_area a, uint32_t cid, const char *from, const char *to,
	bool noreplace)
{
	int dir = open_dir(fs, a, cid, false), rc;

	if (dir < 0)
		return dir;
	rc = renameat2(dir, from, dir, to, noreplace ? RENAME_NOREPLACE : 0) < 0 ? -errno : 0;
	if (rc == 0 && fsync(dir) < 0)
		rc = -errno;
	close(dir);
	return rc;
}

int keep_names(struct fs *fs, enum keep_area a, uint32_t cid, struct buf *out)
{
	struct kept *list = NULL;
	size_t n = 0;
	int fd = open_dir(fs, a, cid, false);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	int rc = list_dir(fd, &list, &n);
	for (size_t i = 0; i < n && !rc; i++) {
		if (list[i].name[0] != '.')
			rc = buf_append(out, list[i].name, strlen(list[i].name) + 1);
	}
	free_list(list, n);
	return rc;
}

/* --- an open receipt or reject ------------------------------------------------------------------------------ */
struct kept_handle {
	struct handle h;
	int fd; /* 0: none yet (a daemon never has its files there) */
};

static int kept_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct kept_handle *kh = (struct kept_handle *)h;
	int fd = keep_open(h->fs, keep_of(h->loc.kind), h->loc.cid, h->loc.node->name);

	(void)req;
	(void)err;
	kh->fd = fd;
	return fd < 0 ? fd : 0;
}

static int kept_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off, struct slice *ret,
	struct vx_err *err)
{
	struct kept_handle *kh = (struct kept_handle *)h;
	struct buf *out = fs_scratch();
	int rc = buf_reserve(out, size);

	(void)req;
	(void)err;
	if (rc)
		return rc;
	ssize_t n = pread(kh->fd, out->data, size, (off_t)off);
	if (n < 0)
		return -errno;
	*ret = (struct slice){out->data, (size_t)n};
	return 0;
}

/* Receipts and rejects are replaced whole: what was open goes on with the one that is there now. */
static int kept_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	(void)rd;
	return kept_open(h, NULL, err);
}

static void kept_close(struct handle *h)
{
	struct kept_handle *kh = (struct kept_handle *)h;

	if (kh->fd > 0)
		close(kh->fd);
}

static int kept_stat(struct fs *fs, struct coll *c, const struct loc *l, struct stat *ret)
{
	struct stat st;
	int rc = keep_stat(fs, keep_of(l->kind), l->cid, l->node->name, &st);

	(void)c;
	if (rc)
		return rc;
	ret->st_size = st.st_size;
	ret->st_mtim = ret->st_atim = ret->st_ctim = st.st_mtim;
	return 0;
}

const struct file_ops kept_ops = {
	.handle_size = sizeof(struct kept_handle),
	.open = kept_open,
	.read = kept_read,
	.close = kept_close,
	.load = kept_load,
	.stat = kept_stat,
};
