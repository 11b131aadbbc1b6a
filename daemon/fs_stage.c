/* fs_stage.c - staging files: what programs write before they rename it to its real name.
 *
 * In vec/ they are small and live in memory; in inbox/ they may be long and live in an unlinked file of
 * the data directory.  Either way they are nobody's data yet: a restart forgets them.  Programs close a
 * staging file before they rename it (sed -i, rsync, mv), so it stays after the last close, until it is
 * renamed or unlinked, or has been left alone for a while.
 *
 * Bounds: STAGE_FILES_MAX files; memory STAGE_BYTES_MAX over all of vec/; on disk, a part of the free
 * space that the log and the store can do without.
 */
#include "daemon/fs_i.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"

#define STAGE_FILES_MAX   4096u
#define STAGE_BYTES_MAX   (64u << 20)
#define STAGE_AGE_S       600u         /* vec/ */
#define SPOOL_AGE_S       86400u       /* inbox/ */
#define SPOOL_CHECK_BYTES (8u << 20)   /* look at the free space every so many bytes */
#define SPOOL_SPARE_BYTES (256u << 20) /* and leave this much */

struct content {
	struct vx_mutex lock;
	int fd; /* -1: in memory */
	struct buf mem;
	uint64_t size;      /* on disk */
	uint64_t unchecked; /* bytes written since the free space was looked at */
	uint64_t charged;   /* to fs.stage_bytes or fs.spool_bytes */
};

int content_new(struct fs *fs, bool on_disk, struct content **ret, struct vx_err *err)
{
	struct content *ct = calloc(1, sizeof *ct);

	if (!ct)
		return -ENOMEM;
	ct->fd = -1;
	if (on_disk) {
		ct->fd = openat(fs->data_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (ct->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
			char name[] = "spool.tmp";
			ct->fd = openat(
				fs->data_fd, name, O_CREAT | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
			if (ct->fd >= 0)
				unlinkat(fs->data_fd, name, 0);
		}
		if (ct->fd < 0) {
			int rc = -errno;
			free(ct);
			return vx_err_set(err, rc, "no staging file in the data directory: %s",
				strerror(-rc));
		}
	}
	vx_mutex_init(&ct->lock, LOCK_SESSION);
	atomic_fetch_add(&fs->stage_count, 1);
	*ret = ct;
	return 0;
}

static void charge(struct fs *fs, struct content *ct, uint64_t now)
{
	_Atomic uint64_t *sum = ct->fd >= 0 ? &fs->spool_bytes : &fs->stage_bytes;

	atomic_fetch_add(sum, now - ct->charged);
	ct->charged = now;
}

void content_free(struct fs *fs, struct content *ct)
{
	if (!ct)
		return;
	charge(fs, ct, 0);
	if (ct->fd >= 0)
		close(ct->fd);
	buf_release(&ct->mem);
	vx_mutex_release(&ct->lock);
	atomic_fetch_sub(&fs->stage_count, 1);
	free(ct);
}

VX_NO_TSA void content_lock(struct content *ct)
{
	vx_lock(&ct->lock);
}

VX_NO_TSA void content_unlock(struct content *ct)
{
	vx_unlock(&ct->lock);
}

uint64_t content_size(const struct content *ct)
{
	return ct->fd >= 0 ? ct->size : ct->mem.len;
}

static int check_space(struct fs *fs, struct content *ct, size_t n, struct vx_err *err)
{
	struct statvfs sv;

	ct->unchecked += n;
	if (ct->size && ct->unchecked < SPOOL_CHECK_BYTES)
		return 0;
	ct->unchecked = 0;
	if (statvfs(db_data_dir(fs->db), &sv) == 0 &&
		(uint64_t)sv.f_bavail * sv.f_frsize < SPOOL_SPARE_BYTES + (uint64_t)n)
		return vx_err_set(err, -ENOSPC,
			"the data directory's disk is nearly full: nothing more can be staged");
	return 0;
}

static int write_disk(struct fs *fs, struct content *ct, const char *p, size_t n, uint64_t off,
	struct vx_err *err)
{
	int rc = check_space(fs, ct, n, err);

	while (rc == 0 && n) {
		ssize_t w = pwrite(ct->fd, p, n, (off_t)off);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return vx_err_set(err, w < 0 ? -errno : -EIO, "staging file: %s",
				strerror(w < 0 ? errno : EIO));
		p += w;
		off += (uint64_t)w;
		n -= (size_t)w;
	}
	if (rc == 0)
		ct->size = VX_MAX(ct->size, off);
	return rc;
}

static int write_mem(struct fs *fs, struct content *ct, const void *p, size_t n, uint64_t off,
	struct vx_err *err)
{
	size_t end = (size_t)off + n;

	if (end > ct->mem.len) {
		if (atomic_load(&fs->stage_bytes) + (end - ct->mem.len) > STAGE_BYTES_MAX)
			return vx_err_set(err, -ENOSPC,
				"staging files hold %u bytes together at most", STAGE_BYTES_MAX);
		int rc = buf_reserve(&ct->mem, end - ct->mem.len);
		if (rc)
			return rc;
		if (off > ct->mem.len)
			memset(ct->mem.data + ct->mem.len, 0, (size_t)off - ct->mem.len);
		ct->mem.len = end;
	}
	if (n)
		memcpy(ct->mem.data + off, p, n);
	return 0;
}

int content_write(struct fs *fs, struct content *ct, const void *p, size_t n, uint64_t off,
	uint64_t max, struct vx_err *err)
{
	if (off > max || n > max - off)
		return vx_err_set(err, -EMSGSIZE, "a staging file here has at most %llu bytes",
			(unsigned long long)max);
	int rc = ct->fd >= 0 ? write_disk(fs, ct, p, n, off, err)
			     : write_mem(fs, ct, p, n, off, err);
	charge(fs, ct, content_size(ct));
	return rc;
}

int content_truncate(struct fs *fs, struct content *ct, uint64_t size, struct vx_err *err)
{
	if (size > content_size(ct))
		return vx_err_set(err, -EINVAL, "a staging file cannot be made longer");
	if (ct->fd >= 0) {
		if (ftruncate(ct->fd, (off_t)size) < 0)
			return vx_err_set(err, -errno, "staging file: %s", strerror(errno));
		ct->size = size;
	} else {
		ct->mem.len = (size_t)size;
	}
	charge(fs, ct, size);
	return 0;
}

int content_read(struct content *ct, size_t n, uint64_t off, struct buf *out)
{
	uint64_t size = content_size(ct);

	if (off >= size)
		return 0;
	n = (size_t)VX_MIN((uint64_t)n, size - off);
	if (ct->fd < 0)
		return buf_append(out, ct->mem.data + off, n);
	int rc = buf_reserve(out, n);
	while (rc == 0 && n) {
		ssize_t r = pread(ct->fd, out->data + out->len, n, (off_t)off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : 0;
		out->len += (size_t)r;
		off += (uint64_t)r;
		n -= (size_t)r;
	}
	return rc;
}

int stage_new(struct fs *fs, enum fs_kind kind, uint32_t cid, const char *name, struct node **ret,
	struct vx_err *err)
{
	uint64_t now = clock_mono_ns();
	uint64_t age = (uint64_t)(kind == K_IN ? SPOOL_AGE_S : STAGE_AGE_S) * 1000000000u;
	struct node_spec spec = {
		.kind = kind, .cid = cid, .name = name, .by_name = true, .keep = true};

	if (strlen(name) > 255)
		return vx_err_set(err, -ENAMETOOLONG, "a name has at most 255 bytes");
	if (now > age)
		node_sweep(fs, kind, 0, now - age);
	if (atomic_load(&fs->stage_count) >= STAGE_FILES_MAX)
		return vx_err_set(
			err, -ENOSPC, "there are %u staging files already", STAGE_FILES_MAX);
	int rc = content_new(fs, kind == K_IN, &spec.content, err);
	if (rc)
		return rc;
	rc = node_new(fs, &spec, ret);
	if (rc)
		content_free(fs, spec.content);
	return rc;
}

/* --- an open staging file of vec/ ---------------------------------------------------------------------- */
static int staged_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	int rc = 0;

	(void)req;
	if (h->flags & O_TRUNC) {
		content_lock(h->loc.node->content);
		rc = content_truncate(h->fs, h->loc.node->content, 0, err);
		atomic_store(&h->loc.node->size, 0);
		content_unlock(h->loc.node->content);
	}
	return rc;
}

static int staged_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off,
	struct slice *ret, struct vx_err *err)
{
	struct buf *out = fs_scratch();

	(void)req;
	(void)err;
	content_lock(h->loc.node->content);
	int rc = content_read(h->loc.node->content, size, off, out);
	content_unlock(h->loc.node->content);
	*ret = (struct slice){out->data, out->len};
	return rc;
}

static int staged_write(struct handle *h, fuse_req_t req, const char *p, size_t n, uint64_t off,
	size_t *ret_n, struct vx_err *err)
{
	struct node *nd = h->loc.node;

	(void)req;
	(void)ret_n;
	content_lock(nd->content);
	if (h->flags & O_APPEND)
		off = content_size(nd->content);
	int rc = content_write(h->fs, nd->content, p, n, off, vec_record_max(h->c), err);
	atomic_store(&nd->size, content_size(nd->content));
	atomic_store(&nd->mtime_ns, clock_real_ns());
	content_unlock(nd->content);
	return rc;
}

static int staged_truncate(struct handle *h, uint64_t size, struct vx_err *err)
{
	struct node *nd = h->loc.node;

	content_lock(nd->content);
	int rc = content_truncate(h->fs, nd->content, size, err);
	atomic_store(&nd->size, content_size(nd->content));
	content_unlock(nd->content);
	return rc;
}

const struct file_ops staged_ops = {
	.handle_size = sizeof(struct handle),
	.open = staged_open,
	.read = staged_read,
	.write = staged_write,
	.truncate = staged_truncate,
};
