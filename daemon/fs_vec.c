/* fs_vec.c - vec/ID.json and vec/ID.f32: one record as a file.
 *
 * Reading renders the record when the file is opened.  Writing gathers bytes until the record is complete
 * and commits it inside that write, because a shell does not look at what close says:
 *
 *	fresh	(created, or opened with '>') nothing of the old record counts; the record is complete when
 *		its JSON closes, or at byte dim * 4.  The old record stays until then.
 *	edited	(opened without truncation) the bytes start as the record's own text; what they became is
 *		parsed at the last flush, or refused in the write that appended what cannot be.
 *
 * After a refusal the gathered bytes are gone, so that closing does not complain a second time.
 *
 * The name decides the id, whatever "id" the text has: 'cp a.json b.json' copies a record.
 */
#include "daemon/fs_i.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct record_handle {
	struct handle h;
	/* immutable */
	bool f32;
	char id[3 * VX_ID_MAX + 1];
	size_t id_len;
	struct buf text; /* what the record was when it was opened */
	/* guarded by h.lock */
	struct buf in;    /* what is being written */
	bool fresh;       /* 'in' started empty */
	bool started;     /* 'in' is in use */
	bool dirty;       /* 'in' has what is not committed */
	size_t committed; /* bytes of 'in' that are */
	int refused;      /* why 'in' was thrown away last; 0: it was not, or something new began */
	struct codec_arena *arena;
	struct batch *batch;
};

uint64_t vec_record_max(const struct coll *c)
{
	uint32_t dim = coll_dim(c);

	/* A number has at most 24 bytes and a separator; text may be written with six-byte escapes. */
	return (uint64_t)(dim ? dim : VX_DIM_MAX) * 32 + 6 * (VX_META_MAX + VX_TEXT_MAX) + 4096;
}

/* --- rendering --------------------------------------------------------------------------------------- */
static int render_record(const struct coll_rec *r, bool f32, struct buf *out)
{
	if (f32)
		return buf_append(out, r->rec.vec, (size_t)r->rec.dim * sizeof(float));
	return codec_print_record(out, &r->rec);
}

static int record_text(struct record_handle *rh, struct buf *out, struct vx_err *err)
{
	struct coll_rec r = {0};
	int rc = coll_get(rh->h.c, rh->id, rh->id_len, rh->f32 ? COLL_VEC : COLL_ALL, &r, err);

	if (rc == 0)
		rc = render_record(&r, rh->f32, out);
	else if (rc == -EUCLEAN && err && !err->code)
		vx_err_set(err, rc, "the record is damaged on disk");
	coll_rec_release(&r);
	return rc;
}

static int record_stat(struct fs *fs, struct coll *c, const struct loc *l, struct stat *ret)
{
	struct buf *b = fs_scratch();
	struct coll_rec r = {0};
	char id[3 * VX_ID_MAX + 1];
	size_t len;
	int rc, is = l->kind == K_F32 ? 2 : 1;

	(void)fs;
	if (l->kind == K_NEW) {
		is = fs_record_name(l->node->name, id, &len, NULL);
		if (is <= 0)
			return is ? is : -ESTALE;
		rc = coll_get(c, id, len, is == 2 ? 0 : COLL_ALL, &r, NULL);
		if (rc == -ENOENT)
			return 0; /* not committed yet: the node's own size */
	} else {
		rc = coll_get_handle(c, l->handle, is == 2 ? 0 : COLL_ALL, &r, NULL);
	}
	/* The vector is damaged: the name stays one, to be listed, replaced or removed; reading it fails. */
	bool damaged = rc == -EUCLEAN && is == 1;
	if (damaged) {
		coll_rec_release(&r);
		r = (struct coll_rec){0};
		rc = l->kind == K_NEW ? coll_get(c, id, len, 0, &r, NULL)
				      : coll_get_handle(c, l->handle, 0, &r, NULL);
	}
	if (rc)
		return rc == -ENOENT ? -ESTALE : rc;
	if (damaged)
		ret->st_size =
			1; /* not 0: tar and others would not even try, and call it backed up */
	else if (is == 2)
		ret->st_size = (off_t)coll_dim(c) * (off_t)sizeof(float);
	else
		rc = render_record(&r, false, b);
	if (is == 1 && !damaged)
		ret->st_size = (off_t)b->len;
	ret->st_mtim.tv_sec = (time_t)(r.mtime_ns / 1000000000u);
	ret->st_mtim.tv_nsec = (long)(r.mtime_ns % 1000000000u);
	ret->st_atim = ret->st_ctim = ret->st_mtim;
	coll_rec_release(&r);
	return rc;
}

/* --- opening -------------------------------------------------------------------------------------------- */
static int open_id(struct record_handle *rh, struct vx_err *err)
{
	struct handle *h = &rh->h;
	struct coll_rec r = {0};
	int rc;

	if (h->loc.kind == K_NEW) {
		rc = fs_record_name(h->loc.node->name, rh->id, &rh->id_len, err);
		if (rc <= 0)
			return rc ? rc : -ESTALE;
		rh->f32 = rc == 2;
		return 0;
	}
	rh->f32 = h->loc.kind == K_F32;
	rc = coll_get_handle(h->c, h->loc.handle, 0, &r, err);
	if (rc == 0 && r.rec.id_len > VX_ID_MAX)
		rc = -EUCLEAN;
	if (rc == 0) {
		rh->id_len = r.rec.id_len;
		memcpy(rh->id, r.rec.id, rh->id_len);
		h->name = malloc(3 * VX_ID_MAX + 8);
		if (h->name) {
			size_t n = vx_id_encode(rh->id, rh->id_len, h->name);
			memcpy(h->name + n, rh->f32 ? ".f32" : ".json", rh->f32 ? 5 : 6);
		} else {
			rc = -ENOMEM;
		}
	}
	coll_rec_release(&r);
	return rc == -ENOENT ? -ESTALE : rc;
}

static int record_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct record_handle *rh = (struct record_handle *)h;
	int rc = open_id(rh, err);

	(void)req;
	if (rc)
		return rc;
	rh->fresh = h->flags & O_TRUNC;
	rc = rh->fresh ? -ENOENT : record_text(rh, &rh->text, err);
	/* A record that somebody is writing is not there yet: a reader sees all of it or nothing. */
	if (rc == -ENOENT && h->loc.kind == K_NEW && !(h->flags & O_CREAT) &&
		(h->flags & O_ACCMODE) == O_RDONLY)
		return -ENOENT;
	if (rc == -ENOENT && ((h->flags & O_CREAT) || rh->fresh || h->loc.kind == K_NEW)) {
		rh->fresh = true;
		rc = 0;
	}
	if (rc == -ENOENT)
		return -ESTALE;
	return rc;
}

static int record_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off,
	struct slice *ret, struct vx_err *err)
{
	struct record_handle *rh = (struct record_handle *)h;
	const struct buf *b = rh->started ? &rh->in : &rh->text;

	(void)req;
	(void)err;
	*ret = slice_of(b->data, b->len, size, off);
	return 0;
}

/* --- writing ---------------------------------------------------------------------------------------------- */
static int commit(struct record_handle *rh, struct vx_err *err)
{
	const struct codec_opts opts = {.dim = coll_dim(rh->h.c), .id_optional = true};
	struct batch_result res;
	struct vx_record rec = {0};
	struct buf aligned = BUF_INIT;
	int rc = 0;

	if (!rh->arena && !(rh->arena = codec_arena_new()))
		return -ENOMEM;
	if (!rh->batch && (rc = batch_new(rh->h.c, &rh->batch)))
		return rc;
	if (rh->f32) {
		/* malloc aligns; 'in' itself may have been moved by buf_consume. */
		rc = buf_append(&aligned, rh->in.data, rh->in.len);
		rec.vec = (const float *)(const void *)aligned.data;
		rec.dim = (uint32_t)(rh->in.len / sizeof(float));
	} else {
		rc = codec_parse_record(
			rh->arena, (const char *)rh->in.data, rh->in.len, &opts, &rec, err);
	}
	if (rc == 0) {
		rec.id = rh->id;
		rec.id_len = rh->id_len;
		rc = batch_put(rh->batch, &rec, err);
	}
	again_name(rh->h.fs, rh->batch);
	if (rc == 0)
		rc = batch_commit(rh->batch, &res, err);
	buf_release(&aligned);
	return rc;
}

static int refuse(struct record_handle *rh, int rc)
{
	rh->in.len = 0;
	rh->committed = 0;
	rh->dirty = false;
	rh->fresh = true;
	rh->refused = rc;
	return rc;
}

static int commit_now(struct record_handle *rh, struct vx_err *err)
{
	int rc = commit(rh, err);

	if (rc)
		return refuse(rh, rc);
	rh->dirty = false;
	rh->committed = rh->in.len;
	return 0;
}

static bool all_space(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] != ' ' && p[i] != '\n' && p[i] != '\t' && p[i] != '\r')
			return false;
	}
	return true;
}

static char last_char(const char *p, size_t n)
{
	while (n && all_space((const uint8_t *)p + n - 1, 1))
		n--;
	return n ? p[n - 1] : 0;
}

/* A fresh file of text after 'n' more bytes: is it a record now? */
static int advance_json(struct record_handle *rh, const char *p, size_t n, struct vx_err *err)
{
	if (rh->committed) {
		if (all_space(rh->in.data + rh->committed, rh->in.len - rh->committed))
			return 0;
		return refuse(rh, vx_err_set(err, -EINVAL, "there is text after the record"));
	}
	rh->dirty = !all_space(rh->in.data, rh->in.len);
	char last = last_char(p, n);
	bool first = rh->in.len == n;
	if (!first && last != ']' && last != '}')
		return 0;
	int done = rh->dirty ? codec_json_complete((const char *)rh->in.data, rh->in.len) : 0;
	if (done < 0)
		return refuse(rh, vx_err_set(err, -EINVAL,
					  "a record is one JSON array of numbers or one object"));
	return done ? commit_now(rh, err) : 0;
}

static int advance_f32(struct record_handle *rh, struct vx_err *err)
{
	size_t want = (size_t)coll_dim(rh->h.c) * sizeof(float);

	rh->dirty = true;
	if (want && rh->in.len > want)
		return refuse(
			rh, vx_err_set(err, -EINVAL, "%zu bytes; a vector of dimension %u has %zu",
				    rh->in.len, coll_dim(rh->h.c), want));
	return want && rh->in.len == want ? commit_now(rh, err) : 0;
}

/* The first write or truncation of a file that was not opened with '>'. */
static int start(struct record_handle *rh)
{
	if (rh->started)
		return 0;
	rh->started = true;
	return rh->fresh ? 0 : buf_append(&rh->in, rh->text.data, rh->text.len);
}

static int record_write(struct handle *h, fuse_req_t req, const char *p, size_t n, uint64_t off,
	size_t *ret_n, struct vx_err *err)
{
	struct record_handle *rh = (struct record_handle *)h;
	uint64_t max = vec_record_max(h->c);
	int rc = start(rh);

	(void)req;
	(void)ret_n;
	if (rc)
		return rc;
	if (h->flags & O_APPEND)
		off = rh->in.len;
	if (off + n > max)
		return refuse(rh, vx_err_set(err, -EMSGSIZE, "a record has at most %llu bytes here",
					  (unsigned long long)max));
	/* The kernel cuts a large write in pieces, and the program hears of the last alone, as it goes on. */
	if (off > rh->in.len && rh->refused)
		return vx_err_set(err, rh->refused, "what came before this was refused");
	rh->refused = 0;
	if (off > rh->in.len)
		return refuse(
			rh, vx_err_set(err, -EINVAL, "written with a gap at byte %zu", rh->in.len));
	bool extends = off + n > rh->in.len;
	if (extends && (rc = buf_reserve(&rh->in, (size_t)(off + n) - rh->in.len)))
		return rc;
	memcpy(rh->in.data + off, p, n);
	if (extends)
		rh->in.len = (size_t)(off + n);
	if (off < rh->committed)
		rh->committed = 0; /* rewritten from somewhere before: a record again */
	if (h->loc.node)
		atomic_store(&h->loc.node->size, rh->in.len);
	if (rh->f32 && rh->fresh)
		return advance_f32(rh, err);
	if (rh->fresh)
		return advance_json(rh, p, n, err);
	rh->dirty = true;
	if (!rh->f32 && extends && codec_json_complete((char *)rh->in.data, rh->in.len) < 0)
		return refuse(rh, vx_err_set(err, -EINVAL, "there is text after the record"));
	return 0;
}

static int record_flush(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct record_handle *rh = (struct record_handle *)h;
	size_t n = rh->in.len;

	(void)req;
	if (!rh->dirty)
		return 0;
	if (rh->f32 && (n == 0 || n % sizeof(float) ||
			       (coll_dim(h->c) && n != (size_t)coll_dim(h->c) * sizeof(float))))
		return refuse(rh,
			vx_err_set(err, -EINVAL, "half a record: %zu bytes; dimension %u needs %zu",
				n, coll_dim(h->c), (size_t)coll_dim(h->c) * sizeof(float)));
	if (!rh->f32 && codec_json_complete((char *)rh->in.data, n) != 1)
		return refuse(
			rh, vx_err_set(err, -EINVAL,
				    "half a record: its JSON is not closed after %zu bytes", n));
	return commit_now(rh, err);
}

static int record_truncate(struct handle *h, uint64_t size, struct vx_err *err)
{
	struct record_handle *rh = (struct record_handle *)h;
	int rc = size ? start(rh) : 0;

	if (rc)
		return rc;
	if (size > rh->in.len)
		return vx_err_set(err, -EINVAL, "a record cannot be made longer than its text");
	rh->started = true;
	rh->refused = 0;
	rh->in.len = (size_t)size;
	rh->committed = 0;
	rh->dirty = size > 0;
	rh->fresh = rh->fresh || size == 0;
	if (h->loc.node)
		atomic_store(&h->loc.node->size, size);
	return 0;
}

enum { REC_F32 = 1, REC_FRESH = 2, REC_STARTED = 4, REC_DIRTY = 8 };

static int record_save(struct handle *h, struct buf *out)
{
	const struct record_handle *rh = (const struct record_handle *)h;
	int rc = buf_put_u8(
		out, (uint8_t)((rh->f32 ? REC_F32 : 0) | (rh->fresh ? REC_FRESH : 0) |
			       (rh->started ? REC_STARTED : 0) | (rh->dirty ? REC_DIRTY : 0)));

	if (rc == 0)
		rc = buf_put_le64(out, rh->committed);
	if (rc == 0)
		rc = buf_put_le32(out, (uint32_t)-rh->refused);
	if (rc == 0)
		rc = put_blob(out, rh->id, rh->id_len);
	if (rc == 0)
		rc = put_blob(out, h->name, h->name ? strlen(h->name) : 0);
	if (rc == 0)
		rc = put_blob(out, rh->in.data, rh->in.len);
	return rc ? rc : put_blob(out, rh->text.data, rh->text.len);
}

static int record_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	struct record_handle *rh = (struct record_handle *)h;
	struct buf b = BUF_INIT;
	uint8_t flags = rd_u8(rd);

	(void)err;
	rh->f32 = flags & REC_F32;
	rh->fresh = flags & REC_FRESH;
	rh->started = flags & REC_STARTED;
	rh->dirty = flags & REC_DIRTY;
	rh->committed = (size_t)rd_le64(rd);
	rh->refused = -(int)rd_le32(rd);
	int rc = get_blob(rd, &b);
	if (rc == 0 && b.len >= sizeof rh->id)
		rc = -EUCLEAN;
	if (rc == 0) {
		rh->id_len = b.len;
		memcpy(rh->id, b.data, b.len);
		rc = get_blob(rd, &b);
	}
	if (rc == 0 && b.len && !(h->name = strndup((const char *)b.data, b.len)))
		rc = -ENOMEM;
	buf_release(&b);
	if (rc == 0)
		rc = get_blob(rd, &rh->in);
	if (rc == 0)
		rc = get_blob(rd, &rh->text);
	return rc == 0 && rh->committed > rh->in.len ? -EUCLEAN : rc;
}

static void record_close(struct handle *h)
{
	struct record_handle *rh = (struct record_handle *)h;

	buf_release(&rh->text);
	buf_release(&rh->in);
	codec_arena_free(rh->arena);
	batch_free(rh->batch);
}

const struct file_ops record_ops = {
	.handle_size = sizeof(struct record_handle),
	.open = record_open,
	.read = record_read,
	.write = record_write,
	.flush = record_flush,
	.truncate = record_truncate,
	.close = record_close,
	.save = record_save,
	.load = record_load,
	.stat = record_stat,
};

/* --- unlink and rename ------------------------------------------------------------------------------------- */
static int delete_record(
	struct fs *fs, struct coll *c, const char *id, size_t len, struct vx_err *err)
{
	struct batch_result res = {0};
	struct batch *b;
	int rc = batch_new(c, &b);

	if (rc)
		return rc;
	rc = batch_delete(b, id, len, err);
	again_name(fs, b);
	if (rc == 0)
		rc = batch_commit(b, &res, err);
	batch_free(b);
	return rc == 0 && res.missing ? -ENOENT : rc;
}

static int unlink_staged(struct fs *fs, uint32_t cid, enum fs_kind kind, const char *name)
{
	struct node *n = node_find(fs, kind, cid, name);

	if (!n)
		return -ENOENT;
	again_intend(fs, 0);
	node_unlink(fs, n);
	node_unpin(fs, n);
	return 0;
}

int vec_unlink(struct fs *fs, const struct loc *dir, const char *name, struct vx_err *err)
{
	char id[3 * VX_ID_MAX + 1];
	struct coll *c;
	size_t len;
	int is = fs_record_name(name, id, &len, err);

	if (is < 0)
		return is;
	if (is == 0)
		return unlink_staged(fs, dir->cid, K_STAGED, name);
	int rc = fs_coll(fs, dir->cid, &c, err);
	if (rc)
		return rc;
	rc = delete_record(fs, c, id, len, err);
	coll_put(c);
	/* Its writer may not have closed it yet, as the kernel tells of it: the name goes all the same. */
	int rc2 = rc == 0 || rc == -ENOENT ? unlink_staged(fs, dir->cid, K_NEW, name) : 0;
	if (rc == -ENOENT)
		rc = rc2;
	return rc;
}

/* Parses what was staged and puts it under the id of its final name. */
static int commit_bytes(struct fs *fs, struct coll *c, bool f32, const char *id, size_t len,
	const struct buf *bytes, bool insert, struct vx_err *err)
{
	const struct codec_opts opts = {.dim = coll_dim(c), .id_optional = true};
	struct codec_arena *arena = codec_arena_new();
	struct batch_result res = {0};
	struct vx_record rec = {0};
	struct batch *b = NULL;
	int rc = arena ? batch_new(c, &b) : -ENOMEM;

	if (rc == 0 && f32) {
		if (bytes->len == 0 || bytes->len % sizeof(float))
			rc = vx_err_set(
				err, -EINVAL, "%zu bytes are no vector of float32", bytes->len);
		rec.vec = (const float *)(const void *)bytes->data;
		rec.dim = (uint32_t)(bytes->len / sizeof(float));
	} else if (rc == 0 && bytes->len == 0) {
		rc = vx_err_set(err, -EINVAL, "the file is empty");
	} else if (rc == 0) {
		rc = codec_parse_record(
			arena, (const char *)bytes->data, bytes->len, &opts, &rec, err);
	}
	rec.id = id;
	rec.id_len = len;
	if (rc == 0)
		rc = insert ? batch_insert(b, &rec, err) : batch_put(b, &rec, err);
	if (rc == 0)
		again_name(fs, b);
	if (rc == 0)
		rc = batch_commit(b, &res, err);
	if (rc == 0 && res.conflicts)
		rc = vx_err_set(err, -EEXIST, "the record exists");
	batch_free(b);
	codec_arena_free(arena);
	return rc;
}

static int commit_staged(struct fs *fs, struct coll *c, struct node *n, const char *to,
	bool noreplace, struct vx_err *err)
{
	char id[3 * VX_ID_MAX + 1];
	struct buf bytes = BUF_INIT;
	size_t len;
	int is = fs_record_name(to, id, &len, err);

	if (is < 0)
		return is;
	if (is == 0) { /* staging file to staging file */
		struct node *other = noreplace ? node_find(fs, K_STAGED, n->cid, to) : NULL;
		if (other) {
			node_unpin(fs, other);
			return -EEXIST;
		}
		again_intend(fs, 0);
		return node_rename(fs, n, to);
	}
	content_lock(n->content);
	int rc = content_read(n->content, content_size(n->content), 0, &bytes);
	content_unlock(n->content);
	again_intend(fs, 0);
	if (rc == 0)
		rc = commit_bytes(fs, c, is == 2, id, len, &bytes, noreplace, err);
	buf_release(&bytes);
	if (rc == 0)
		node_unlink(fs, n);
	return rc;
}

/* A record takes another id: written under the new one and deleted under the old one in one batch, which is
 * one log entry, so nobody sees both or neither.  Over several shards there is no such entry: EXDEV, and mv
 * copies and unlinks by itself. */
static int rename_record(struct fs *fs, struct coll *c, const char *from, const char *to,
	bool noreplace, struct vx_err *err)
{
	char id[3 * VX_ID_MAX + 1], id2[3 * VX_ID_MAX + 1];
	size_t len, len2;
	struct coll_schema schema;
	struct coll_rec r = {0};
	struct batch_result res = {0};
	struct batch *b = NULL;
	int is = fs_record_name(from, id, &len, err), is2 = fs_record_name(to, id2, &len2, err);

	if (is < 0 || is2 < 0)
		return is < 0 ? is : is2;
	if (is2 == 0)
		return vx_err_set(err, -EPERM,
			"a record cannot become a private staging file: keep its suffix");
	if (is != is2)
		return vx_err_set(err, -EXDEV, "the suffixes differ: copy instead");
	coll_schema(c, &schema);
	if (schema.spread > 1)
		return vx_err_set(
			err, -EXDEV, "the collection is spread over shards: copy instead");
	int rc = coll_get(c, id, len, COLL_ALL, &r, err);
	if (rc == 0 && len == len2 && !memcmp(id, id2, len))
		goto out; /* itself */
	r.rec.id = id2;
	r.rec.id_len = len2;
	if (rc == 0)
		rc = batch_new(c, &b);
	if (rc == 0 && noreplace) {
		struct coll_rec other = {0};
		rc = coll_lookup(c, id2, len2, &other);
		coll_rec_release(&other);
		rc = rc == 0 ? -EEXIST : rc == -ENOENT ? 0 : rc;
	}
	if (rc == 0)
		rc = batch_put(b, &r.rec, err);
	if (rc == 0)
		rc = batch_delete(b, id, len, err);
	if (rc == 0) {
		again_intend(fs, 0);
		again_name(fs, b);
		rc = batch_commit(b, &res, err);
	}
out:
	batch_free(b);
	coll_rec_release(&r);
	return rc;
}

int vec_rename(struct fs *fs, const struct loc *dir, const char *from, const char *to,
	bool noreplace, struct vx_err *err)
{
	struct coll *c;
	int rc = fs_coll(fs, dir->cid, &c, err);

	if (rc)
		return rc;
	char id[3 * VX_ID_MAX + 1];
	size_t len;
	struct node *n = node_find(fs, K_STAGED, dir->cid, from);
	if (n) {
		rc = commit_staged(fs, c, n, to, noreplace, err);
		node_unpin(fs, n);
	} else if (again_begun(fs, NULL) && fs_record_name(from, id, &len, NULL) == 0) {
		rc = -ENOENT; /* a staging file that was taken */
	} else {
		rc = rename_record(fs, c, from, to, noreplace, err);
	}
	coll_put(c);
	return rc;
}
