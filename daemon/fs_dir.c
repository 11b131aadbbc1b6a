/* fs_dir.c - listings.
 *
 * A directory of records is read page by page: the offset after an entry is the record's handle, which
 * the database takes as its cursor, so a listing of any size holds nothing between two pages and goes on
 * rightly while records come and go.  Every other directory is small; its names are gathered when it is
 * opened.
 */
#include "daemon/fs_i.h"

#include <stdlib.h>
#include <string.h>

/* Offsets of the first two entries of vec/: no handle is that big. */
#define OFF_DOT    ((off_t)1 << 62 | 1)
#define OFF_DOTDOT ((off_t)1 << 62 | 2)
/* What libfuse says for "look it up". */
#define INO_UNKNOWN 0xffffffffu

struct dir {
	struct loc loc;
	struct coll *c;   /* pinned; NULL above collections */
	struct buf names; /* NUL-ended, each after one byte 'd' or 'f' */
	uint64_t id;      /* carried over; 0: it is not */
};

void dir_free(struct fs *fs, struct dir *d)
{
	if (!d)
		return;
	if (d->id && !fs->keeps) {
		fs->open_dirs[carry_slot_of(d->id)] = NULL;
		carry_file_free(fs->carry, d->id);
	}
	if (d->c)
		coll_put(d->c);
	buf_release(&d->names);
	free(d);
}

/* In a supervised daemon: NULL for one that could not be taken over. */
static struct dir *dir_of(struct fs *fs, uint64_t fh)
{
	if (!fs->carry)
		return (struct dir *)(uintptr_t)fh;
	struct dir *d = fs->open_dirs[carry_slot_of(fh)];
	return d && d->id == fh ? d : NULL;
}

static uint64_t dir_fh(const struct dir *d)
{
	return d->id ? d->id : (uintptr_t)d;
}

static int add_name(struct dir *d, bool is_dir, const char *name)
{
	int rc = buf_append(&d->names, is_dir ? "d" : "f", 1);

	return rc ? rc : buf_append(&d->names, name, strlen(name) + 1);
}

static int add_coll(void *arg, const char *name, uint32_t cid)
{
	(void)cid;
	return add_name(arg, true, name);
}

static int add_option(void *arg, const char *name)
{
	return add_name(arg, false, name);
}

static int add_all(struct dir *d, const struct buf *names)
{
	int rc = 0;

	for (size_t i = 0; i < names->len && !rc;) {
		const char *s = (const char *)names->data + i;
		rc = add_name(d, d->loc.kind == K_SNAPS, s);
		i += strlen(s) + 1;
	}
	return rc;
}

static int gather(struct fs *fs, struct dir *d)
{
	struct buf names = BUF_INIT;
	int rc = add_name(d, true, ".");

	if (!rc)
		rc = add_name(d, true, "..");
	for (int k = K_DOT; k < N_KINDS && !rc; k++) {
		if (fs_kinds[k].name && fs_kinds[k].parent == d->loc.kind)
			rc = add_name(d, fs_kinds[k].dir, fs_kinds[k].name);
	}
	if (rc)
		return rc;
	switch (d->loc.kind) {
	case K_ROOT:
		rc = db_list(fs->db, add_coll, d);
		break;
	case K_CONFIG:
	case K_NODE_CONFIG:
		rc = text_each_option(fs, d->loc.kind, add_option, d);
		break;
	case K_INBOX:
		rc = node_names(fs, K_IN, d->loc.cid, &names);
		break;
	case K_DONE:
	case K_FAILED:
	case K_QDIR:
		rc = keep_names(fs, keep_of(d->loc.kind), d->loc.cid, &names);
		break;
	case K_SNAPS:
	case K_SNAP:
		rc = snap_names(fs, &d->loc, &names);
		break;
	default:
		break;
	}
	if (!rc)
		rc = add_all(d, &names);
	buf_release(&names);
	return rc;
}

void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct dir *d = dir_again(fs);

	if (d) {
		fi->fh = dir_fh(d);
		fuse_reply_open(req, fi);
		return;
	}
	d = calloc(1, sizeof *d);
	int rc = d ? loc_get(fs, ino, &d->loc) : -ENOMEM;

	if (rc == 0 && !fs_kinds[d->loc.kind].dir)
		rc = -ENOTDIR;
	if (rc == 0 && d->loc.cid)
		rc = fs_coll(fs, d->loc.cid, &d->c, NULL);
	if (rc == 0 && d->loc.kind != K_VEC)
		rc = gather(fs, d);
	if (rc == 0 && fs->carry)
		rc = dir_carry_new(fs, d, ino, &d->names, &d->id);
	if (rc) {
		dir_free(fs, d);
		fuse_reply_err(req, -rc);
		return;
	}
	fi->fh = dir_fh(d);
	if (fuse_reply_open(req, fi) == -ENOENT)
		dir_free(fs, d);
}

int dir_restore(
	struct fs *fs, const struct carry_file *f, struct bytes_reader *rd, struct dir **ret)
{
	struct dir *d = calloc(1, sizeof *d);
	int rc = d ? loc_get(fs, f->ino, &d->loc) : -ENOMEM;

	if (rc == 0 && (!fs_kinds[d->loc.kind].dir || (rd->left && rd->p[rd->left - 1])))
		rc = -EUCLEAN;
	if (rc == 0 && d->loc.cid)
		rc = fs_coll(fs, d->loc.cid, &d->c, NULL);
	if (rc == 0)
		rc = buf_append(&d->names, rd->p, rd->left);
	if (rc) {
		dir_free(fs, d); /* without its id: what is carried stays */
		return rc;
	}
	d->id = f->id;
	*ret = d;
	return 0;
}

/* --- one page ---------------------------------------------------------------------------------- */
struct page {
	fuse_req_t req;
	char *p;
	size_t size, used;
	const struct dir *d;
};

/* False when the page is full. */
static bool page_add(struct page *pg, const char *name, bool is_dir, uint64_t ino, off_t next)
{
	struct stat st = {.st_ino = ino, .st_mode = is_dir ? S_IFDIR : S_IFREG};
	size_t n = fuse_add_direntry(
		pg->req, pg->p + pg->used, pg->size - pg->used, name, &st, next);

	if (n > pg->size - pg->used)
		return false;
	pg->used += n;
	return true;
}

static int page_record(void *arg, uint64_t handle, uint64_t mtime_ns, const char *id, size_t len)
{
	struct page *pg = arg;
	struct loc l = {.kind = K_JSON, .cid = pg->d->loc.cid, .handle = handle};
	char name[3 * VX_ID_MAX + 8];

	(void)mtime_ns;
	if (len > VX_ID_MAX)
		return 0; /* cannot be: ids are checked when they come in */
	size_t n = vx_id_encode(id, len, name);
	memcpy(name + n, ".json", 6);
	return !page_add(pg, name, false, loc_ino(&l), (off_t)handle);
}

static int page_vec(struct fs *fs, struct page *pg, off_t off)
{
	const struct loc up = {.kind = K_COLL, .cid = pg->d->loc.cid};

	(void)fs;
	if (off == 0 && !page_add(pg, ".", true, loc_ino(&pg->d->loc), OFF_DOT))
		return 0;
	if (off == 0)
		off = OFF_DOT;
	if (off == OFF_DOT && !page_add(pg, "..", true, loc_ino(&up), OFF_DOTDOT))
		return 0;
	if (off == OFF_DOT || off == OFF_DOTDOT)
		off = 0;
	/* An entry takes at least 24 bytes of head and 8 of name. */
	return coll_list(pg->d->c, (uint64_t)off, (uint32_t)(pg->size / 32 + 1), page_record, pg);
}

static void page_names(struct page *pg, off_t off)
{
	const struct buf *b = &pg->d->names;

	for (size_t i = (size_t)VX_MAX(off, 0); i < b->len;) {
		const char *s = (const char *)b->data + i;
		i += strlen(s) + 1;
		/* Numbers are for those who look at d_ino alone; stat has the true one. */
		if (!page_add(pg, s + 1, *s == 'd', INO_UNKNOWN, (off_t)i))
			break;
	}
}

void fs_op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct dir *d = dir_of(fs, fi->fh);
	struct buf *b = fs_scratch();
	int rc = buf_reserve(b, size);

	if (!d) {
		fuse_reply_err(req, EIO);
		return;
	}
	struct page pg = {.req = req, .p = (char *)b->data, .size = size, .d = d};

	(void)ino;
	if (rc == 0 && d->loc.kind == K_VEC)
		rc = page_vec(fs, &pg, off);
	else if (rc == 0)
		page_names(&pg, off);
	if (rc < 0)
		fs_refuse(fs, req, &d->loc, NULL, 0, rc, NULL);
	else
		fuse_reply_buf(req, pg.p, pg.used);
}

void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);

	(void)ino;
	dir_free(fs, dir_of(fs, fi->fh));
	fuse_reply_err(req, 0);
}
