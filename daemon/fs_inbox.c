/* fs_inbox.c - inbox/: files of records, committed while they are written or when they are renamed.
 *
 * 'cp f.jsonl inbox/' streams: records go out in batches as they arrive, the rest when the file is closed.
 * A bad record is skipped into failed/, or ends the copy with its errno, as the collection's on_error says.
 * The name is listed until the file is closed (or flushed: by a shell that holds it open).  A name whose
 * file was taken lingers: programs that copy set mode and times by name after the close, and would take
 * the batch for failed.
 *
 * A name that starts with '.' or ends in .tmp, .part or ~ stages: nothing is read until the file is renamed
 * to its real name.  The rename first checks every record and commits none if one is bad, whatever on_error
 * says; then it commits.  The staging file stays when the rename failed.
 */
#include "daemon/fs_i.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define CHUNK (1u << 20)

struct inbox_handle {
	struct handle h;
	struct ingest *in; /* streaming; NULL: staging, or nothing written yet */
	bool unflushed;    /* bytes came since the last flush */
	int failed;        /* what ended it */
};

static bool on_error_skip(struct coll *c)
{
	struct buf v = BUF_INIT;
	bool skip = true;

	if (coll_config_get(c, "on_error", &v) == 0)
		skip = v.len != 5 || memcmp(v.data, "abort", 5);
	buf_release(&v);
	return skip;
}

static int inbox_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct node *nd = h->loc.node;
	int rc = 0;

	(void)req;
	if (!nd->content) {
		if ((h->flags & O_ACCMODE) == O_RDONLY)
			return node_lingers(h->fs, nd)
				       ? -ENOENT
				       : vx_err_set(err, -EBUSY, "this file is being ingested");
		if (h->flags & O_TRUNC)
			atomic_store(&nd->size, 0);
		return 0;
	}
	if (h->flags & O_TRUNC) {
		content_lock(nd->content);
		rc = content_truncate(h->fs, nd->content, 0, err);
		atomic_store(&nd->size, 0);
		content_unlock(nd->content);
	}
	return rc;
}

static int inbox_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off,
	struct slice *ret, struct vx_err *err)
{
	struct buf *out = fs_scratch();

	(void)req;
	if (!h->loc.node->content)
		return vx_err_set(
			err, -EINVAL, "what streams into the collection cannot be read back");
	content_lock(h->loc.node->content);
	int rc = content_read(h->loc.node->content, size, off, out);
	content_unlock(h->loc.node->content);
	*ret = (struct slice){out->data, out->len};
	return rc;
}

static int stage_write(struct handle *h, const char *p, size_t n, uint64_t off, struct vx_err *err)
{
	struct node *nd = h->loc.node;

	content_lock(nd->content);
	if (h->flags & O_APPEND)
		off = content_size(nd->content);
	int rc = content_write(h->fs, nd->content, p, n, off, INT64_MAX, err);
	atomic_store(&nd->size, content_size(nd->content));
	atomic_store(&nd->mtime_ns, clock_real_ns());
	content_unlock(nd->content);
	return rc;
}

static int stream_failed(struct inbox_handle *ih, int rc, const struct vx_err *err)
{
	ih->failed = rc;
	ih->unflushed = false;
	node_unlink(ih->h.fs, ih->h.loc.node);
	ih->h.err_line = ingest_bad_line(ih->in);
	ingest_abort(ih->in, rc, err);
	return rc;
}

static int inbox_write(struct handle *h, fuse_req_t req, const char *p, size_t n, uint64_t off,
	size_t *ret_n, struct vx_err *err)
{
	struct inbox_handle *ih = (struct inbox_handle *)h;
	struct node *nd = h->loc.node;
	int rc = 0;

	(void)req;
	(void)ret_n;
	if (nd->content)
		return stage_write(h, p, n, off, err);
	if (ih->failed)
		return vx_err_set(err, ih->failed, "the file was refused before");
	if (!ih->in) {
		const struct ingest_opts o = {.format = codec_format_of(nd->name),
			.name = nd->name,
			.skip = on_error_skip(h->c),
			.log_to = h};
		rc = ingest_new(h->fs, h->c, &o, &ih->in, err);
		if (rc)
			return rc;
	}
	if (!(h->flags & O_APPEND) && off != ingest_bytes(ih->in))
		return stream_failed(ih, -EINVAL,
			(vx_err_set(err, -EINVAL,
				 "written at byte %llu after %llu bytes: files stream in in order",
				 (unsigned long long)off, (unsigned long long)ingest_bytes(ih->in)),
				err));
	node_revive(h->fs, nd);
	ih->unflushed = true;
	rc = ingest_feed(ih->in, p, n, err);
	atomic_store(&nd->size, ingest_bytes(ih->in));
	return rc ? stream_failed(ih, rc, err) : 0;
}

static int inbox_flush(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct inbox_handle *ih = (struct inbox_handle *)h;

	(void)req;
	if (!ih->unflushed || ih->failed)
		return 0;
	ih->unflushed = false;
	int rc = ingest_finish(ih->in, err);
	if (rc && ingest_none(ih->in)) { /* a shell may go on with better lines */
		node_unlink(h->fs, h->loc.node);
		return rc;
	}
	if (rc)
		return stream_failed(ih, rc, err);
	/* The kernel tells of the last close later, and not in time for somebody who looks whether the file
	 * was taken. */
	node_linger(h->fs, h->loc.node);
	return 0;
}

static int inbox_truncate(struct handle *h, uint64_t size, struct vx_err *err)
{
	struct inbox_handle *ih = (struct inbox_handle *)h;
	struct node *nd = h->loc.node;

	if (!nd->content) {
		uint64_t have = ih->in ? ingest_bytes(ih->in) : atomic_load(&nd->size);
		return size == have ? 0
				    : vx_err_set(err, -EINVAL,
					      "what was streamed in cannot be taken back");
	}
	content_lock(nd->content);
	int rc = content_truncate(h->fs, nd->content, size, err);
	atomic_store(&nd->size, content_size(nd->content));
	content_unlock(nd->content);
	return rc;
}

static void inbox_close(struct handle *h)
{
	struct inbox_handle *ih = (struct inbox_handle *)h;

	ingest_free(ih->in);
	if (!h->loc.node->content && !ih->failed)
		node_linger(h->fs, h->loc.node);
}

const struct file_ops inbox_ops = {
	.handle_size = sizeof(struct inbox_handle),
	.open = inbox_open,
	.read = inbox_read,
	.write = inbox_write,
	.flush = inbox_flush,
	.truncate = inbox_truncate,
	.close = inbox_close,
};

/* --- rename: the whole file at once ------------------------------------------------------------------------- */
static int run_content(struct content *ct, struct ingest *in, fuse_req_t req, struct vx_err *err)
{
	struct buf chunk = BUF_INIT;
	uint64_t off = 0, size = content_size(ct);
	int rc = 0;

	(void)req; /* a rename that is being served cannot be interrupted */
	while (!rc && off < size) {
		chunk.len = 0;
		rc = content_read(ct, CHUNK, off, &chunk);
		if (!rc && chunk.len == 0)
			rc = -EIO;
		if (!rc)
			rc = ingest_feed(in, chunk.data, chunk.len, err);
		off += chunk.len;
	}
	buf_release(&chunk);
	return rc ? rc : ingest_finish(in, err);
}

static int commit_content(struct fs *fs, struct coll *c, struct content *ct, const char *to,
	fuse_req_t req, uint64_t *ret_line, struct vx_err *err)
{
	struct ingest_opts o = {.format = codec_format_of(to), .name = to, .dry = true};
	struct ingest *in;
	int rc = 0;

	for (int pass = 0; pass < 2 && !rc; pass++) {
		o.dry = pass == 0;
		rc = ingest_new(fs, c, &o, &in, err);
		if (rc)
			break;
		rc = run_content(ct, in, req, err);
		if (rc)
			*ret_line = ingest_bad_line(in);
		if (rc && !o.dry) /* the disk is full, say, and batches before are in */
			ingest_abort(in, rc, err);
		ingest_free(in);
	}
	return rc;
}

int inbox_rename(struct fs *fs, const struct loc *dir, const char *from, const char *to,
	fuse_req_t req, uint64_t *ret_line, struct vx_err *err)
{
	struct node *n = node_find(fs, K_IN, dir->cid, from);
	struct coll *c = NULL;
	int rc = 0;

	if (!n)
		return -ENOENT;
	if (!n->content && node_lingers(fs, n))
		rc = -ENOENT;
	else if (!n->content)
		rc = vx_err_set(err, -EBUSY, "%s is being ingested under its name", from);
	else if (inbox_stages(to))
		rc = strlen(to) > 255 ? -ENAMETOOLONG : node_rename(fs, n, to);
	else if ((rc = inbox_check_name(to, err)) == 0)
		rc = fs_coll(fs, dir->cid, &c, err);
	if (rc == 0 && c) {
		content_lock(n->content);
		rc = commit_content(fs, c, n->content, to, req, ret_line, err);
		content_unlock(n->content);
		if (rc == 0)
			node_unlink(fs, n);
	}
	if (c)
		coll_put(c);
	node_unpin(fs, n);
	return rc;
}
