/* fs_snap.c - snapshots/: a directory per snapshot, with its files.
 *
 * mkdir takes one and returns when it is there; rmdir removes it with its files, which are read-only and cannot be
 * removed one by one.  What is read is the file on disk, so tar, rsync and cmp see what vec-snap send sends.
 *
 * The node of a directory is named after the snapshot, that of a file "SNAPSHOT/FILE".
 */
#include "daemon/fs_i.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cluster/snapshot.h"

static int open_named(struct fs *fs, const struct loc *l)
{
	char name[256], *file;
	struct coll *c = NULL;

	vx_lock(&fs->lock);
	snprintf(name, sizeof name, "%s", l->node->name);
	vx_unlock(&fs->lock);
	file = strchr(name, '/');
	if (file)
		*file++ = 0;
	int rc = fs_coll(fs, l->cid, &c, NULL);
	if (rc)
		return rc;
	rc = snapshot_open(fs->db, coll_name(c), name, file);
	coll_put(c);
	return rc;
}

int snap_lookup(struct fs *fs, const struct loc *dir, const char *name, struct loc *ret)
{
	struct loc l = {.kind = dir->kind == K_SNAPS ? K_SNAP : K_SNAP_FILE, .cid = dir->cid};
	char full[256];

	int n = 0;
	if (dir->kind == K_SNAP) {
		vx_lock(&fs->lock);
		n = snprintf(full, sizeof full, "%s/", dir->node->name);
		vx_unlock(&fs->lock);
	}
	if (strchr(name, '/') || n + strlen(name) >= sizeof full)
		return -ENOENT;
	memcpy(full + n, name, strlen(name) + 1);
	int rc = node_new(fs,
		&(struct node_spec){.kind = l.kind, .cid = l.cid, .name = full, .by_name = true},
		&l.node);
	if (rc)
		return rc;
	int fd = open_named(fs, &l);
	if (fd < 0) {
		loc_put(fs, &l);
		return fd;
	}
	close(fd);
	*ret = l;
	return 0;
}

static int add_file(void *arg, const struct snap_entry *e)
{
	return buf_append(arg, e->name, strlen(e->name) + 1);
}

int snap_names(struct fs *fs, const struct loc *dir, struct buf *out)
{
	struct coll *c = NULL;
	char name[256] = "";

	int rc = fs_coll(fs, dir->cid, &c, NULL);
	if (rc)
		return rc;
	if (dir->kind == K_SNAPS) {
		rc = snapshot_names(fs->db, coll_name(c), out);
	} else {
		vx_lock(&fs->lock);
		snprintf(name, sizeof name, "%s", dir->node->name);
		vx_unlock(&fs->lock);
		rc = snapshot_files(fs->db, coll_name(c), name, add_file, out, NULL);
	}
	coll_put(c);
	return rc;
}

int snap_mkdir(struct fs *fs, const struct loc *dir, const char *name, fuse_req_t req, bool again,
	struct vx_err *err)
{
	struct coll *c = NULL;

	int rc = fs_coll(fs, dir->cid, &c, err);
	if (rc)
		return rc;
	fs_takes_long();
	rc = snapshot_take(c, name, fs_interrupted, req, err);
	/* The request came before, and its answer was lost with the worker. */
	if (rc == -EEXIST && again)
		rc = 0;
	coll_put(c);
	return rc;
}

int snap_rmdir(
	struct fs *fs, const struct loc *dir, const char *name, bool again, struct vx_err *err)
{
	struct coll *c = NULL;

	int rc = fs_coll(fs, dir->cid, &c, err);
	if (rc)
		return rc;
	rc = snapshot_remove(fs->db, coll_name(c), name, err);
	if (rc == -ENOENT && again)
		rc = 0;
	coll_put(c);
	return rc;
}

/* --- an open file ---------------------------------------------------------------------------- */
struct snap_handle {
	struct handle h;
	int fd; /* 0: none */
};

static int snap_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	int fd = open_named(h->fs, &h->loc);

	(void)req;
	(void)err;
	if (fd >= 0)
		((struct snap_handle *)h)->fd = fd;
	return VX_MIN(fd, 0);
}

static int snap_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	(void)rd;
	return snap_open(h, NULL, err);
}

static int snap_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off, struct slice *ret,
	struct vx_err *err)
{
	struct buf *out = fs_scratch();
	int rc = buf_reserve(out, size);

	(void)req;
	(void)err;
	if (rc)
		return rc;
	ssize_t n = pread(((struct snap_handle *)h)->fd, out->data, size, (off_t)off);
	if (n < 0)
		return -errno;
	*ret = (struct slice){out->data, (size_t)n};
	return 0;
}

static void snap_close(struct handle *h)
{
	int fd = ((struct snap_handle *)h)->fd;

	if (fd > 0)
		close(fd);
}

static int snap_stat(struct fs *fs, struct coll *c, const struct loc *l, struct stat *ret)
{
	struct stat st;
	int fd = open_named(fs, l);

	(void)c;
	if (fd < 0)
		return fd;
	int rc = fstat(fd, &st) < 0 ? -errno : 0;
	close(fd);
	if (rc)
		return rc;
	ret->st_size = st.st_size;
	ret->st_mtim = ret->st_atim = ret->st_ctim = st.st_mtim;
	return 0;
}

const struct file_ops snap_ops = {
	.handle_size = sizeof(struct snap_handle),
	.open = snap_open,
	.load = snap_load,
	.read = snap_read,
	.close = snap_close,
	.stat = snap_stat,
};
