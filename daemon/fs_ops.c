/* fs_ops.c - the requests of the kernel, each turned into what its kind of file does.
 *
 * Every refusal goes through fs_refuse: the errno to the caller, the reason to the error log.  A lookup
 * that finds nothing is no refusal.
 */
#include "daemon/fs_i.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/errlog.h"

#define LOCK_WAIT_NS 300000u /* of a short search and some waking */

/* --- refusing ------------------------------------------------------------------------------------ */
/* Damage is EIO to programs; everything else passes as it is. */
static int to_errno(int rc)
{
	return rc == -EUCLEAN ? EIO : -rc;
}

/* What whoever met the damage did not say. */
static bool say_why(struct fs *fs, const struct loc *l, struct vx_err *ret)
{
	int rc;
	struct coll *c = l->cid ? db_coll_by_cid(fs->db, l->cid, &rc, NULL) : NULL;

	rc = c ? coll_why_damaged(c, ret) : 0;
	coll_put(c);
	return rc != 0;
}

static void log_refusal(struct fs *fs, const struct loc *l, const char *name, uint64_t line, int rc,
	const struct vx_err *err)
{
	char path[1200];

	fs_path(fs, l, name, path, sizeof path - 24);
	if (line) {
		size_t n = strlen(path);
		snprintf(path + n, sizeof path - n, ":%llu", (unsigned long long)line);
	}
	struct vx_err why = VX_ERR_INIT;
	if (rc == -EUCLEAN && (!err || !err->msg[0]) && say_why(fs, l, &why))
		err = &why;
	errlog_add(path, to_errno(rc), "%s", vx_err_msg(err, rc));
	log_debug("fs", "%s: %s: %s", path, vx_errno_name(rc), vx_err_msg(err, rc));
}

void fs_refuse(struct fs *fs, fuse_req_t req, const struct loc *l, const char *name, uint64_t line,
	int rc, const struct vx_err *err)
{
	log_refusal(fs, l, name, line, rc, err);
	fuse_reply_err(req, to_errno(rc));
}

void fs_log_bad(struct handle *h, uint64_t line, int rc, const struct vx_err *err)
{
	log_refusal(h->fs, &h->loc, NULL, line, rc, err);
}

bool fs_interrupted(void *req)
{
	return fuse_req_interrupted(req);
}

/* --- entries --------------------------------------------------------------------------------------- */
static int fill_entry(struct fs *fs, const struct loc *l, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof *e);
	int rc = fs_attr(fs, l, &e->attr);
	if (rc)
		return rc;
	e->ino = e->attr.st_ino;
	e->generation = 1;
	e->entry_timeout = fs_entry_timeout(l);
	e->attr_timeout = fs_attr_timeout(l);
	return 0;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	/* Requests are copied in: splicing costs more than it saves below megabytes. */
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_SPLICE_MOVE | FUSE_CAP_READDIRPLUS |
				  FUSE_CAP_READDIRPLUS_AUTO);
	conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS);
	conn->time_gran = 1;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct fuse_entry_param e;
	struct loc dir, l;

	int rc = loc_get(fs, parent, &dir);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	rc = fs_lookup(fs, &dir, name, &l, &err);
	if (rc == 0) {
		rc = fill_entry(fs, &l, &e);
		if (rc == -ESTALE)
			rc = -ENOENT; /* deleted between the two */
		if (rc == 0) {
			loc_ref(fs, &l);
			if (fuse_reply_entry(req, &e) < 0)
				loc_forget(fs, e.ino, 1);
		}
		loc_put(fs, &l);
	}
	if (rc == -ENOENT)
		fuse_reply_err(req, ENOENT);
	else if (rc)
		fs_refuse(fs, req, &dir, name, 0, rc, &err);
	loc_put(fs, &dir);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	loc_forget(fuse_req_userdata(req), ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *f)
{
	for (size_t i = 0; i < n; i++)
		loc_forget(fuse_req_userdata(req), f[i].ino, f[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct loc l;
	struct stat st;

	(void)fi;
	int rc = loc_get(fs, ino, &l);
	if (rc == 0) {
		rc = fs_attr(fs, &l, &st);
		loc_put(fs, &l); /* its kind stays */
	}
	if (rc)
		fuse_reply_err(req, to_errno(rc));
	else
		fuse_reply_attr(req, &st, fs_attr_timeout(&l));
}

/* A size set by name.  Files that take whole messages have no length to cut: 0 is what every opening with
 * '>' asks for, and means nothing before something is written. */
static int truncate_by_name(struct fs *fs, struct loc *l, uint64_t size, struct vx_err *err)
{
	if (l->node && l->node->content) {
		content_lock(l->node->content);
		int rc = content_truncate(fs, l->node->content, size, err);
		if (rc == 0)
			atomic_store(&l->node->size, size);
		content_unlock(l->node->content);
		return rc;
	}
	if (!(fs_kinds[l->kind].mode & 0222))
		return vx_err_set(err, -EACCES, "this file is read-only");
	if (l->kind == K_IN && size == atomic_load(&l->node->size))
		return 0;
	if (size)
		return vx_err_set(err, -EINVAL, "this file cannot be cut to a length by name");
	if (l->kind == K_ERROR_LOG)
		errlog_clear();
	return 0;
}

static int set_mode_owner(
	struct fs *fs, struct loc *l, const struct stat *want, int to_set, struct vx_err *err)
{
	struct stat st;
	bool staging = l->kind == K_STAGED || l->kind == K_IN;
	bool data = l->kind == K_JSON || l->kind == K_F32 || l->kind == K_NEW ||
		    l->kind == K_QUESTION;

	/* A record has no mode of its own to keep, but cp -p, rsync -a and tar would call one that is in a
	 * failure: ignored, as its times are. */
	if (data)
		return 0;
	int rc = fs_attr(fs, l, &st);
	if (rc)
		return rc;
	if (to_set & FUSE_SET_ATTR_MODE) {
		if (staging)
			atomic_store(&l->node->mode, (uint32_t)(want->st_mode & 0777) | S_IFREG);
		else if ((want->st_mode & 07777) != (st.st_mode & 07777))
			return vx_err_set(err, -EPERM, "the mode of this file is fixed");
	}
	if (staging)
		return 0;
	if (((to_set & FUSE_SET_ATTR_UID) && want->st_uid != st.st_uid) ||
		((to_set & FUSE_SET_ATTR_GID) && want->st_gid != st.st_gid))
		return vx_err_set(err, -EPERM, "the owner of this file is fixed");
	return 0;
}

static void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct stat st;
	struct loc l;

	struct handle *h = NULL;
	int rc = loc_get(fs, ino, &l);
	if (rc == 0 && fi && !(h = handle_of(fs, fi->fh))) {
		loc_put(fs, &l);
		rc = -EIO;
	}
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	if (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		rc = set_mode_owner(fs, &l, attr, to_set, &err);
	if (rc == 0 && (to_set & FUSE_SET_ATTR_SIZE)) {
		if (h && h->ops->truncate) {
			vx_lock(&h->lock);
			rc = h->ops->truncate(h, (uint64_t)attr->st_size, &err);
			handle_done(h, rc, 0);
			vx_unlock(&h->lock);
		} else {
			rc = truncate_by_name(fs, &l, (uint64_t)attr->st_size, &err);
		}
	}
	/* Times of records are those of their commits: accepted and ignored. */
	if (rc == 0 && (to_set & FUSE_SET_ATTR_MTIME) && l.node && l.node->content)
		atomic_store(&l.node->mtime_ns, (uint64_t)attr->st_mtim.tv_sec * 1000000000u +
							(uint64_t)attr->st_mtim.tv_nsec);
	if (l.node)
		node_carry(fs, l.node);
	if (rc == 0)
		rc = fs_attr(fs, &l, &st);
	if (rc)
		fs_refuse(fs, req, &l, NULL, 0, rc, &err);
	else
		fuse_reply_attr(req, &st, 0);
	loc_put(fs, &l);
}

/* --- open files --------------------------------------------------------------------------------------- */
static void handle_list(struct handle *h)
{
	struct fs *fs = h->fs;

	vx_lock(&fs->lock);
	h->prev = NULL;
	h->next = fs->handles;
	if (h->next)
		h->next->prev = h;
	fs->handles = h;
	vx_unlock(&fs->lock);
}

static void handle_unlist(struct handle *h)
{
	struct fs *fs = h->fs;

	vx_lock(&fs->lock);
	if (h->prev)
		h->prev->next = h->next;
	else
		fs->handles = h->next;
	if (h->next)
		h->next->prev = h->prev;
	vx_unlock(&fs->lock);
}

static void handle_close(struct handle *h)
{
	handle_carry_free(h);
	handle_unlist(h);
	if (h->ops->close)
		h->ops->close(h);
	if (h->loc.node)
		node_close(h->fs, h->loc.node);
	loc_put(h->fs, &h->loc);
	if (h->c)
		coll_put(h->c);
	vx_mutex_release(&h->lock);
	free(h->name);
	free(h);
}

void fs_close_handles(struct fs *fs)
{
	while (fs->handles)
		handle_close(fs->handles);
	for (uint32_t i = 0; fs->open_dirs && i < CARRY_HANDLES; i++)
		dir_free(fs, fs->open_dirs[i]);
	free(fs->open_files);
	free(fs->open_dirs);
}

static int check_access(const struct loc *l, int flags, struct vx_err *err)
{
	int how = flags & O_ACCMODE;
	mode_t mode = fs_kinds[l->kind].mode;

	/* The kernel checks this too, but not for root. */
	if (how != O_RDONLY && !(mode & 0222))
		return vx_err_set(err, -EACCES, "this file is read-only");
	if (how != O_WRONLY && !(mode & 0444))
		return vx_err_set(err, -EACCES, "this file is write-only");
	return 0;
}

/* An open file that nothing was done with yet.  Borrows 'l'; the handle takes a pin of its own. */
static int handle_new(
	struct fs *fs, const struct loc *l, int flags, struct handle **ret, struct vx_err *err)
{
	const struct file_ops *ops = fs_kinds[l->kind].ops;
	struct handle *h = ops ? calloc(1, ops->handle_size) : NULL;
	int rc = 0;

	if (!h)
		return -ENOMEM;
	h->ops = ops;
	h->fs = fs;
	h->loc = *l;
	h->flags = flags;
	vx_mutex_init(&h->lock, LOCK_FRONT);
	if (l->cid)
		rc = fs_coll(fs, l->cid, &h->c, err);
	if (rc) {
		vx_mutex_release(&h->lock);
		free(h);
		return rc;
	}
	if (l->node) {
		node_pin(fs, l->node);
		node_open(fs, l->node);
	}
	handle_list(h);
	*ret = h;
	return 0;
}

static int handle_open(struct fs *fs, fuse_req_t req, const struct loc *l, int flags,
	struct handle **ret, struct vx_err *err)
{
	struct handle *h;
	int rc = check_access(l, flags, err);

	if (rc == 0)
		rc = handle_new(fs, l, flags, &h, err);
	if (rc)
		return rc;
	if (h->ops->open)
		rc = h->ops->open(h, req, err);
	if (rc == 0 && l->node)
		node_carry(fs, l->node);
	if (rc == 0)
		rc = handle_carry_new(h, loc_ino(l));
	if (rc) {
		handle_close(h);
		return rc;
	}
	*ret = h;
	return 0;
}

int handle_restore(struct fs *fs, const struct carry_file *f, struct bytes_reader *rd,
	struct handle **ret, struct vx_err *err)
{
	struct handle *h;
	struct loc l;
	int rc = loc_get(fs, f->ino, &l);

	if (rc)
		return rc;
	rc = fs_kinds[l.kind].dir ? -EUCLEAN : handle_new(fs, &l, (int)f->flags, &h, err);
	loc_put(fs, &l);
	if (rc)
		return rc;
	h->unique = f->unique;
	h->slot = f->slot;
	if (h->ops->load)
		rc = h->ops->load(h, rd, err);
	if (rc == 0 && rd->bad)
		rc = -EUCLEAN;
	if (rc) {
		handle_close(h); /* it has no id yet: what is carried stays */
		return rc;
	}
	h->id = f->id;
	*ret = h;
	return 0;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct handle *h;
	struct loc l;

	int rc = loc_get(fs, ino, &l);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	h = handle_again(fs);
	if (!h)
		rc = fs_kinds[l.kind].dir ? -EISDIR : handle_open(fs, req, &l, fi->flags, &h, &err);
	if (rc == 0) {
		fi->fh = handle_fh(h);
		fi->direct_io = 1;
		if (fuse_reply_open(req, fi) == -ENOENT)
			handle_close(h); /* the caller is gone: no release will come */
	} else if (rc == -ESTALE) {
		fuse_reply_err(req, ESTALE); /* the kernel looks the name up again */
	} else {
		fs_refuse(fs, req, &l, NULL, 0, rc, &err);
	}
	loc_put(fs, &l);
}

/* The node of a file that is being created. */
static int create_node(
	struct fs *fs, const struct loc *dir, const char *name, struct loc *ret, struct vx_err *err)
{
	char id[3 * VX_ID_MAX + 1];
	size_t len;
	int is, rc;
	struct node_spec spec = {.cid = dir->cid, .name = name, .by_name = true};

	ret->cid = dir->cid;
	switch (dir->kind) {
	case K_VEC:
		is = fs_record_name(name, id, &len, err);
		if (is < 0)
			return is;
		ret->kind = is ? K_NEW : K_STAGED;
		if (!is)
			return stage_new(fs, K_STAGED, dir->cid, name, &ret->node, err);
		break;
	case K_INBOX:
		ret->kind = K_IN;
		if (inbox_stages(name))
			return stage_new(fs, K_IN, dir->cid, name, &ret->node, err);
		rc = inbox_check_name(name, err);
		if (rc)
			return rc;
		break;
	case K_QDIR:
		ret->kind = K_QUESTION;
		rc = question_check_name(name, &spec.stem_len, &spec.ask.format, err);
		if (rc)
			return rc;
		break;
	case K_NEARDIR:
		return vx_err_set(err, -ENOENT, "no record of this id");
	default:
		return vx_err_set(err, -EPERM, "files cannot be made here");
	}
	spec.kind = ret->kind;
	return node_new(fs, &spec, &ret->node);
}

static void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct fuse_entry_param e;
	struct loc dir, l = {.kind = K_NONE};
	struct handle *h = NULL;

	int rc = loc_get(fs, parent, &dir);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	rc = create_node(fs, &dir, name, &l, &err);
	if (rc == 0)
		h = handle_again(fs);
	if (rc == 0 && l.node->content)
		atomic_store(&l.node->mode, (uint32_t)(mode & 0777) | S_IFREG);
	if (rc == 0 && !h)
		rc = handle_open(fs, req, &l, fi->flags | O_CREAT, &h, &err);
	if (rc == 0)
		rc = fill_entry(fs, &l, &e);
	if (rc == 0) {
		fi->fh = handle_fh(h);
		fi->direct_io = 1;
		loc_ref(fs, &l);
		if (fuse_reply_create(req, &e, fi) < 0) {
			loc_forget(fs, e.ino, 1);
			handle_close(h);
		}
	} else {
		if (h)
			handle_close(h);
		fs_refuse(fs, req, &dir, name, 0, rc, &err);
	}
	loc_put(fs, &l);
	loc_put(fs, &dir);
}

/* The reply lets the caller go on, and close: what is sent must not lie in the handle. */
static int own_slice(struct slice *s)
{
	struct buf *b = fs_scratch();

	if (s->n == 0 || s->p == b->data)
		return 0;
	int rc = buf_append(b, s->p, s->n);
	s->p = b->data;
	return rc;
}

/* Of an open file of a collection that was dropped meanwhile: no name was looked for that could be missing. */
static int stale_if_dropped(const struct handle *h, int rc)
{
	return rc == -ENOENT && h->c && coll_gone(h->c) ? -ESTALE : rc;
}

/* Where a search goes on after the reply to a write it is short, and to be woken after it takes longer than to
 * wait: returns true when it has waited. */
static bool handle_lock(struct handle *h) VX_ACQUIRES(h->lock) VX_NO_TSA
{
	if (!h->ops->settle) {
		vx_lock(&h->lock);
		return false;
	}
	if (vx_trylock(&h->lock))
		return false;
	uint64_t end = clock_mono_ns() + LOCK_WAIT_NS;
	do {
		sched_yield();
		if (vx_trylock(&h->lock))
			return true;
	} while (clock_mono_ns() < end);
	vx_lock(&h->lock);
	return true;
}

static void op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct handle *h = handle_of(fs, fi->fh);
	struct vx_err err = VX_ERR_INIT;
	struct slice s = {NULL, 0};
	int rc = -EACCES;
	uint64_t line;

	(void)ino;
	if (!h) {
		fuse_reply_err(req, EIO);
		return;
	}
	bool followed = handle_lock(h);
	h->err_line = 0;
	if (h->ops->read)
		rc = stale_if_dropped(h, h->ops->read(h, req, size, (uint64_t)off, &s, &err));
	if (rc == 0)
		rc = own_slice(&s);
	if (followed)
		fs_expect_nothing();
	handle_changed(h);
	line = h->err_line;
	vx_unlock(&h->lock);
	if (rc)
		fs_refuse(h->fs, req, &h->loc, h->name, line, rc, &err);
	else
		fuse_reply_buf(req, s.p, s.n);
}

/* The caller has its answer and may be closing the file: op_release waits for this. */
static void settle(struct handle *h)
{
	vx_lock(&h->lock);
	h->ops->settle(h);
	vx_unlock(&h->lock);
	atomic_fetch_sub_explicit(&h->settling, 1, memory_order_release);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *p, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct handle *h = handle_of(fs, fi->fh);
	struct vx_err err = VX_ERR_INIT;
	size_t n = size;
	int rc = -EACCES;
	uint64_t line, value;

	(void)ino;
	if (again_known(fs, &rc, &value)) {
		if (rc)
			fuse_reply_err(req, to_errno(rc));
		else
			fuse_reply_write(req, (size_t)value);
		return;
	}
	rc = -EACCES;
	if (!h) {
		fuse_reply_err(req, EIO);
		return;
	}
	vx_lock(&h->lock);
	h->err_line = 0;
	if (h->ops->write)
		rc = stale_if_dropped(h, h->ops->write(h, req, p, size, (uint64_t)off, &n, &err));
	handle_done(h, rc, n);
	line = h->err_line;
	bool owes = h->owes;
	h->owes = false;
	if (owes)
		atomic_fetch_add_explicit(&h->settling, 1, memory_order_relaxed);
	vx_unlock(&h->lock);
	if (rc)
		fs_refuse(h->fs, req, &h->loc, h->name, line, rc, &err);
	else
		fuse_reply_write(req, n);
	if (owes)
		settle(h);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct handle *h = handle_of(fs, fi->fh);
	struct vx_err err = VX_ERR_INIT;
	int rc = 0;
	uint64_t line, value;

	(void)ino;
	if (again_known(fs, &rc, &value)) {
		fuse_reply_err(req, to_errno(rc));
		return;
	}
	rc = 0;
	if (!h) {
		fuse_reply_err(req, EIO);
		return;
	}
	(void)handle_lock(h);
	h->err_line = 0;
	if (h->ops->flush) {
		rc = stale_if_dropped(h, h->ops->flush(h, req, &err));
		handle_done(h, rc, 0);
	}
	line = h->err_line;
	vx_unlock(&h->lock);
	if (rc)
		fs_refuse(h->fs, req, &h->loc, h->name, line, rc, &err);
	else
		fuse_reply_err(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	op_flush(req, ino, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct handle *h = handle_of(fs, fi->fh);

	(void)ino;
	while (h && atomic_load_explicit(&h->settling, memory_order_acquire))
		sched_yield();
	if (h)
		handle_close(h);
	else /* it was closed before us, or could not be taken over */
		carry_file_free(fs->carry, fi->fh);
	fuse_reply_err(req, 0);
}

/* --- names ------------------------------------------------------------------------------------------ */
/* What is there when the request comes again is what it made the first time. */
static int create_coll(struct fs *fs, const char *name, struct vx_err *err)
{
	const struct coll_schema schema = {0};
	bool again = again_begun(fs, NULL);
	int rc = 0;
	struct coll *c = db_coll(fs->db, name, &rc, NULL);

	if (c)
		coll_put(c);
	if (c || rc == -EUCLEAN)
		return again && c ? 0 : vx_err_set(err, -EEXIST, "collection '%s' exists", name);
	again_intend(fs, 0);
	return db_create(fs->db, name, &schema, err);
}

/* A request that a killed worker began comes again: what it made is not in the way. */
static int take_snapshot(
	struct fs *fs, fuse_req_t req, const struct loc *dir, const char *name, struct vx_err *err)
{
	bool again = again_begun(fs, NULL);

	again_intend(fs, 0);
	return snap_mkdir(fs, dir, name, req, again, err);
}

static int drop_snapshot(struct fs *fs, const struct loc *dir, const char *name, struct vx_err *err)
{
	bool again = again_begun(fs, NULL);

	again_intend(fs, 0);
	return snap_rmdir(fs, dir, name, again, err);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct fuse_entry_param e;
	struct loc dir, l;

	(void)mode;
	int rc = loc_get(fs, parent, &dir);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	if (dir.kind != K_ROOT && dir.kind != K_SNAPS)
		rc = vx_err_set(&err, -EPERM,
			"collections are made at the top, snapshots in snapshots/, and nothing "
			"else "
			"is");
	if (rc == 0)
		rc = vx_name_check(name, &err);
	if (rc == 0)
		rc = dir.kind == K_ROOT ? create_coll(fs, name, &err)
					: take_snapshot(fs, req, &dir, name, &err);
	if (rc == 0)
		rc = fs_lookup(fs, &dir, name, &l, &err);
	if (rc == 0) {
		rc = fill_entry(fs, &l, &e);
		if (rc == 0)
			loc_ref(fs, &l);
		loc_put(fs, &l);
	}
	if (rc)
		fs_refuse(fs, req, &dir, name, 0, rc, &err);
	else if (fuse_reply_entry(req, &e) < 0)
		loc_forget(fs, e.ino, 1);
	loc_put(fs, &dir);
}

static int drop(struct fs *fs, const char *name, struct vx_err *err)
{
	int rc = 0;
	struct coll *c = db_coll(fs->db, name, &rc, err);

	if (!c)
		return rc == -ENOENT && again_begun(fs, NULL) ? 0 : rc;
	uint32_t cid = coll_cid(c);
	coll_put(c);
	again_intend(fs, cid);
	rc = db_drop(fs->db, name, false, err);
	if (rc)
		return rc;
	node_sweep(fs, K_NONE, cid, UINT64_MAX);
	keep_drop(fs, cid);
	return 0;
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct loc dir;

	int rc = loc_get(fs, parent, &dir);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	if (dir.kind == K_SNAPS)
		rc = drop_snapshot(fs, &dir, name, &err);
	else if (dir.kind != K_ROOT || name[0] == '.')
		rc = vx_err_set(&err, -EPERM, "this directory belongs to its collection");
	else
		rc = drop(fs, name, &err);
	if (rc)
		fs_refuse(fs, req, &dir, name, 0, rc, &err);
	else
		fuse_reply_err(req, 0);
	loc_put(fs, &dir);
}

static int unlink_in(struct fs *fs, const struct loc *dir, const char *name, struct vx_err *err)
{
	struct node *n;
	char stem[256];
	size_t len = strlen(name);

	switch (dir->kind) {
	case K_VEC:
		return vec_unlink(fs, dir, name, err);
	case K_INBOX:
		n = node_find(fs, K_IN, dir->cid, name);
		if (!n)
			return -ENOENT;
		again_intend(fs, 0);
		node_unlink(fs, n);
		node_unpin(fs, n);
		return 0;
	case K_QDIR:
		if (len > 255)
			return -ENAMETOOLONG;
		answer_format_of(name, &len);
		memcpy(stem, name, len);
		stem[len] = 0;
		again_intend(fs, 0);
		return keep_unlink(fs, KEEP_Q, dir->cid, stem);
	case K_DONE:
	case K_FAILED:
		again_intend(fs, 0);
		return keep_unlink(fs, keep_of(dir->kind), dir->cid, name);
	default:
		return vx_err_set(err, -EPERM, "this file belongs to the tree");
	}
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct loc dir;

	int rc = loc_get(fs, parent, &dir);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	bool again = again_begun(fs, NULL);
	rc = unlink_in(fs, &dir, name, &err);
	if (rc == -ENOENT && again)
		rc = 0; /* what is missing we removed ourselves */
	if (rc)
		fs_refuse(fs, req, &dir, name, 0, rc, &err);
	else
		fuse_reply_err(req, 0);
	loc_put(fs, &dir);
}

/* What a rename refuses because of the data is EBADMSG.  EINVAL has two meanings of its own there: mv takes
 * it from renameat2 for "no such flag" and tries again without, and from rename for a directory that would
 * become a part of itself. */
static int rename_errno(int rc)
{
	return rc == -EINVAL ? -EBADMSG : rc;
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	const char *newname, unsigned flags)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct loc dir;
	uint64_t line = 0;

	uint64_t value;

	int rc = 0;
	if (again_known(fs, &rc, &value)) {
		fuse_reply_err(req, to_errno(rc));
		return;
	}
	rc = loc_get(fs, parent, &dir);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	bool again = again_begun(fs, NULL);
	if (flags & ~1u) /* all but RENAME_NOREPLACE */
		rc = vx_err_set(&err, -EINVAL, "files cannot be exchanged");
	else if (parent != newparent)
		rc = vx_err_set(&err, -EXDEV, "files move within their directory alone");
	else if (dir.kind == K_VEC)
		rc = rename_errno(vec_rename(fs, &dir, name, newname, flags & 1, &err));
	else if (dir.kind == K_INBOX)
		rc = rename_errno(inbox_rename(fs, &dir, name, newname, req, &line, &err));
	else if (dir.kind == K_QDIR)
		rc = rename_errno(question_rename(fs, &dir, name, newname, flags & 1, &err));
	else
		rc = vx_err_set(&err, -EPERM, "nothing can be renamed here");
	if (rc == -ENOENT && again)
		rc = 0; /* it has its new name already */
	again_done(fs, rc, 0);
	if (rc == -EEXIST && flags & 1)
		fuse_reply_err(req, EEXIST); /* the answer to "is it there?": mv goes on from it */
	else if (rc)
		fs_refuse(fs, req, &dir, line || dir.kind == K_INBOX ? newname : name, line, rc,
			&err);
	else
		fuse_reply_err(req, 0);
	loc_put(fs, &dir);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs *fs = fuse_req_userdata(req);
	struct vx_err err = VX_ERR_INIT;
	struct loc dir;

	(void)mode;
	(void)rdev;
	int rc = loc_get(fs, parent, &dir);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	rc = vx_err_set(&err, -EPERM, "only regular files, made by opening them");
	fs_refuse(fs, req, &dir, name, 0, rc, &err);
	loc_put(fs, &dir);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	(void)link;
	op_mknod(req, parent, name, 0, 0);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	(void)ino;
	op_mknod(req, newparent, newname, 0, 0);
}

/* The space of the data directory. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fuse_req_userdata(req);
	struct statvfs sv;

	(void)ino;
	if (statvfs(db_data_dir(fs->db), &sv) < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	sv.f_namemax = 255;
	fuse_reply_statfs(req, &sv);
}

const struct fuse_lowlevel_ops fs_ll_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.fsync = op_fsync,
	.release = op_release,
	.opendir = fs_op_opendir,
	.readdir = fs_op_readdir,
	.releasedir = fs_op_releasedir,
	.mkdir = op_mkdir,
	.rmdir = op_rmdir,
	.unlink = op_unlink,
	.rename = op_rename,
	.mknod = op_mknod,
	.symlink = op_symlink,
	.link = op_link,
	.statfs = op_statfs,
};
