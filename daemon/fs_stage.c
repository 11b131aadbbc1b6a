/* fs_stage.c - staging files: what programs write before they rename it to its real name.
 *
 * In vec/ they are small and live in memory; in inbox/ they may be long and live in an unlinked file of
 * the data directory.  Either way they are nobody's data yet: a restart forgets them.  In a supervised daemon
 * they outlive a worker: the small ones lie in the carried region then, the long ones in DATA/stage/N.  Programs close a
 * staging file before they rename it (sed -i, rsync, mv), so it stays after the last close, until it is
 * renamed or unlinked, or has been left alone for a while.
 *
 * Bounds: STAGE_FILES_MAX files; memory STAGE_BYTES_MAX over all of vec/; on disk, a part of the free
 * space that the log and the store can do without.
 */
#include "daemon/fs_i.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"

#define STAGE_FILES_MAX   4096u
#define STAGE_BYTES_MAX   (64u << 20)
#define STAGE_AGE_S       600u       /* vec/ */
#define SPOOL_AGE_S       86400u     /* inbox/ */
#define SPOOL_CHECK_BYTES (8u << 20) /* look at the free space every so many bytes */
#define STAGE_DIR         "stage"
#define SPOOL_SPARE_BYTES (256u << 20) /* and leave this much */

struct content {
	struct vx_mutex lock;
	int fd;        /* -1: in memory */
	off_t base;    /* where it begins in 'fd' */
	uint32_t slot; /* carried over; CARRY_NONE: it is not */
	bool on_disk;
	struct buf mem;
	uint64_t size;      /* on disk */
	uint64_t unchecked; /* bytes written since the free space was looked at */
	uint64_t charged;   /* to fs.stage_bytes or fs.spool_bytes */
};

static void charge(struct fs *fs, struct content *ct, uint64_t now)
{
	_Atomic uint64_t *sum = ct->on_disk ? &fs->spool_bytes : &fs->stage_bytes;

	atomic_fetch_add(sum, now - ct->charged);
	ct->charged = now;
}

/* --- where the bytes are --------------------------------------------------------------------------- */
/* A file without a name. */
static int open_spool(struct fs *fs)
{
	int fd = openat(fs->data_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		char name[] = "spool.tmp";
		fd = openat(fs->data_fd, name, O_CREAT | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
		if (fd >= 0)
			unlinkat(fs->data_fd, name, 0);
	}
	return fd < 0 ? -errno : fd;
}

static void stage_name(uint32_t slot, char *ret, size_t size)
{
	snprintf(ret, size, STAGE_DIR "/%u", slot);
}

/* A file that the next worker finds. */
static int open_stage(struct fs *fs, uint32_t slot, int flags)
{
	char name[40];

	if (flags && mkdirat(fs->data_fd, STAGE_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	stage_name(slot, name, sizeof name);
	int fd = openat(fs->data_fd, name, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

void content_clear(struct fs *fs)
{
	int fd = openat(fs->data_fd, STAGE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	unlinkat(fs->data_fd, STAGE_DIR, AT_REMOVEDIR);
}

/* Sets where the bytes are: in memory, in a file, in the carried region. */
static int place(struct fs *fs, struct content *ct, bool create)
{
	int fd;

	if (!fs->carry && !ct->on_disk)
		return 0;
	if (!fs->carry)
		fd = open_spool(fs);
	else if (ct->on_disk)
		fd = open_stage(fs, ct->slot, create ? O_CREAT | O_TRUNC : 0);
	else if ((fd = fcntl(carry_fd(fs->carry), F_DUPFD_CLOEXEC, 3)) < 0)
		fd = -errno;
	if (fd < 0)
		return fd;
	ct->fd = fd;
	ct->base = fs->carry && !ct->on_disk ? carry_content_off(ct->slot) : 0;
	return 0;
}

static struct content *content_alloc(struct fs *fs, bool on_disk)
{
	struct content *ct = calloc(1, sizeof *ct);

	if (!ct)
		return NULL;
	ct->fd = -1;
	ct->on_disk = on_disk;
	ct->slot = CARRY_NONE;
	vx_mutex_init(&ct->lock, LOCK_SESSION);
	atomic_fetch_add(&fs->stage_count, 1);
	return ct;
}

int content_new(struct fs *fs, bool on_disk, struct content **ret, struct vx_err *err)
{
	struct content *ct = content_alloc(fs, on_disk);
	int rc = 0;

	if (!ct)
		return -ENOMEM;
	if (fs->carry) {
		ct->slot = carry_content_take(fs->carry);
		rc = ct->slot == CARRY_NONE ? -ENFILE : 0;
	}
	if (rc == 0)
		rc = place(fs, ct, true);
	if (rc) {
		content_free(fs, ct);
		return vx_err_set(
			err, rc, "no staging file in the data directory: %s", strerror(-rc));
	}
	*ret = ct;
	return 0;
}

int content_restore(struct fs *fs, uint32_t slot, bool on_disk, uint64_t size, struct content **ret)
{
	struct content *ct = content_alloc(fs, on_disk);

	if (!ct)
		return -ENOMEM;
	if (slot < CARRY_CONTENTS) {
		ct->slot = slot;
		carry_content_claim(fs->carry, slot);
	}
	int rc = slot < CARRY_CONTENTS ? place(fs, ct, false) : -EUCLEAN;
	if (rc) {
		content_free(fs, ct);
		return rc;
	}
	ct->size = size;
	charge(fs, ct, size);
	*ret = ct;
	return 0;
}

uint32_t content_slot(const struct content *ct, bool *ret_on_disk)
{
	*ret_on_disk = ct->on_disk;
	return ct->slot;
}

void content_free(struct fs *fs, struct content *ct)
{
	char name[40];

	if (!ct)
		return;
	charge(fs, ct, 0);
	if (ct->fd >= 0)
		close(ct->fd);
	if (ct->slot != CARRY_NONE && !fs->keeps) {
		stage_name(ct->slot, name, sizeof name);
		if (ct->on_disk)
			unlinkat(fs->data_fd, name, 0);
		carry_content_free(fs->carry, ct->slot);
	}
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

/* Room for 'n' bytes up to 'end'. */
static int check_space(
	struct fs *fs, struct content *ct, size_t n, uint64_t end, struct vx_err *err)
{
	struct statvfs sv;

	if (!ct->on_disk) {
		if (end > CARRY_CONTENT_MAX ||
			(end > ct->size &&
				atomic_load(&fs->stage_bytes) + (end - ct->size) > STAGE_BYTES_MAX))
			return vx_err_set(err, -ENOSPC,
				"staging files hold %u bytes together at most", STAGE_BYTES_MAX);
		return 0;
	}
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
	int rc = check_space(fs, ct, n, off + n, err);

	while (rc == 0 && n) {
		ssize_t w = pwrite(ct->fd, p, n, ct->base + (off_t)off);
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
		/* What lies behind the end reads as zeros when the file grows over it. */
		if (ct->on_disk ? ftruncate(ct->fd, (off_t)size) < 0
				: fallocate(ct->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  ct->base + (off_t)size,
					  (off_t)(CARRY_CONTENT_MAX - size)) < 0)
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
		ssize_t r = pread(ct->fd, out->data + out->len, n, ct->base + (off_t)off);
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

uint64_t stage_end(struct fs *fs, const struct content *ct)
{
	uint64_t off;

	/* What is appended again goes where it went the first time. */
	if (!again_begun(fs, &off)) {
		off = content_size(ct);
		again_intend(fs, off);
	}
	return off;
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
		off = stage_end(h->fs, nd->content);
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
