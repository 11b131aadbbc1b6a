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
 * says; then it commits them as one transaction: all of them are there afterwards, or none, whatever happens on
 * the way (lib/cluster/txn.c).  The staging file stays when the rename failed.
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
	/* Of a file that was taken over: what to go on from, until the first request does. */
	struct buf carried;
	uint64_t unique;    /* what its batches are called after; 0: no batch was made */
	uint64_t journaled; /* bytes in the journal that count */
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
		off = stage_end(h->fs, nd->content);
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

/* What fs_ingest.c is told of the file. */
static struct ingest_opts opts_of(struct inbox_handle *ih)
{
	struct handle *h = &ih->h;
	const char *name = h->loc.node->name;

	return (struct ingest_opts){.format = codec_format_of(name),
		.name = name,
		.skip = on_error_skip(h->c),
		.log_to = h,
		.unique = ih->unique,
		.progress = h->id ? carry_file_progress(h->fs->carry, h->slot) : NULL};
}

/* Goes on where the worker before us was: the bytes since the file settled are read again. */
static int resume(struct inbox_handle *ih, struct vx_err *err)
{
	struct handle *h = &ih->h;
	struct bytes_reader rd = {ih->carried.data, ih->carried.len, false};
	struct buf journal = BUF_INIT;

	if (ih->carried.len == 0)
		return 0;
	const struct ingest_opts o = opts_of(ih);
	int rc = ingest_new(h->fs, h->c, &o, &ih->in, err);
	if (rc == 0)
		rc = carry_journal_get(h->fs->carry, h->slot, (size_t)ih->journaled, &journal);
	if (rc == 0)
		rc = ingest_load(ih->in, &rd, &journal, err);
	buf_release(&journal);
	buf_release(&ih->carried);
	if (rc == -EUCLEAN)
		vx_err_set(err, rc, "what a worker before had read of the file is lost");
	return rc;
}

/* Keeps what was fed for the next worker, or settles. */
static int keep_journal(struct inbox_handle *ih, const char *p, size_t n, struct vx_err *err)
{
	struct handle *h = &ih->h;

	if (!h->id)
		return 0;
	int rc = ingest_settle(ih->in, false, err);
	if (rc)
		return rc;
	if (ingest_unsettled(ih->in) == 0) {
		ih->journaled = 0;
		return 0;
	}
	rc = carry_journal_put(h->fs->carry, h->slot, p, n, ih->journaled);
	if (rc)
		return vx_err_set(err, rc, "no room for what was written: %s", strerror(-rc));
	ih->journaled += n;
	return 0;
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
	rc = resume(ih, err);
	if (rc)
		return stream_failed(ih, rc, err);
	if (!ih->in) {
		if (!ih->unique)
			ih->unique = again_unique(h->fs);
		const struct ingest_opts o = opts_of(ih);
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
	if (rc == 0)
		rc = keep_journal(ih, p, n, err);
	atomic_store(&nd->size, ingest_bytes(ih->in));
	return rc ? stream_failed(ih, rc, err) : 0;
}

static int inbox_flush(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct inbox_handle *ih = (struct inbox_handle *)h;

	(void)req;
	if (!ih->unflushed || ih->failed)
		return 0;
	int rc = resume(ih, err);
	ih->unflushed = false;
	if (rc == 0)
		rc = ingest_finish(ih->in, err);
	if (rc == 0 && h->id) {
		rc = ingest_settle(ih->in, true, err);
		ih->journaled = 0;
	}
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
		int rc = resume(ih, err);
		if (rc)
			return rc;
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

static int inbox_save(struct handle *h, struct buf *out)
{
	struct inbox_handle *ih = (struct inbox_handle *)h;
	int rc = buf_put_u8(out, ih->unflushed);

	if (rc == 0)
		rc = buf_put_le32(out, (uint32_t)-ih->failed);
	if (rc == 0)
		rc = buf_put_le64(out, ih->unique);
	if (rc == 0)
		rc = buf_put_le64(out, ih->journaled);
	if (rc == 0 && ih->carried.len)
		return buf_append(out, ih->carried.data, ih->carried.len);
	return rc || !ih->in || ih->failed ? rc : ingest_save(ih->in, out);
}

static int inbox_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	struct inbox_handle *ih = (struct inbox_handle *)h;

	(void)err;
	ih->unflushed = rd_u8(rd);
	ih->failed = -(int)rd_le32(rd);
	ih->unique = rd_le64(rd);
	ih->journaled = rd_le64(rd);
	if (rd->bad)
		return -EUCLEAN;
	return rd->left ? buf_append(&ih->carried, rd->p, rd->left) : 0;
}

static void inbox_close(struct handle *h)
{
	struct inbox_handle *ih = (struct inbox_handle *)h;

	buf_release(&ih->carried);
	ingest_free(ih->in);
	/* A reader is refused while the file streams in, which changes nothing for its writer. */
	if (!h->loc.node->content && !ih->failed && (h->flags & O_ACCMODE) != O_RDONLY)
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
	.save = inbox_save,
	.load = inbox_load,
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

/* One pass over the file: 'dry' plans the transaction, else its parts are sent and it is committed. */
static int pass_content(struct fs *fs, struct coll *c, struct content *ct, const char *to,
	struct txn *t, bool dry, fuse_req_t req, uint64_t *ret_line, struct vx_err *err)
{
	const struct ingest_opts o = {
		.format = codec_format_of(to), .name = to, .dry = dry, .txn = t};
	struct ingest *in;

	int rc = ingest_new(fs, c, &o, &in, err);
	if (rc)
		return rc;
	rc = dry ? 0 : txn_begin(t, err);
	if (rc == 0)
		rc = run_content(ct, in, req, err);
	if (rc) {
		*ret_line = ingest_bad_line(in);
		ingest_abort(in, rc, err);
	}
	ingest_free(in);
	return rc;
}

static int commit_content(struct fs *fs, struct coll *c, struct content *ct, const char *to,
	fuse_req_t req, uint64_t *ret_line, struct vx_err *err)
{
	struct txn *t;

	int rc = txn_new(c, &t);
	if (rc)
		return rc;
	/* A rename that comes again was decided before, or is decided now. */
	if (again_unique(fs))
		txn_name(t, carry_epoch(fs->carry), again_number(again_unique(fs), 0));
	rc = pass_content(fs, c, ct, to, t, true, req, ret_line, err);
	if (rc == 0)
		rc = pass_content(fs, c, ct, to, t, false, req, ret_line, err);
	txn_free(t);
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
	again_intend(fs, 0);
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
