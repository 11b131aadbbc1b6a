/* fs_stream.c - append and delete: one record or id per line, committed inside the write.
 *
 * A write may hold many lines; they go into batches, and the write returns when the last one is committed.
 * A line that is refused must not cost those before it: they are committed and the write is cut short
 * there, so that the program comes back with the bad line first and then gets the error.
 */
#include "daemon/fs_i.h"

#include <stdlib.h>
#include <string.h>

struct stream_handle {
	struct handle h;
	struct buf tail; /* the start of a line */
	uint64_t line;   /* lines done so far */
	struct codec_arena *arena;
	struct batch *batch;
};

static int stream_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct stream_handle *sh = (struct stream_handle *)h;

	(void)req;
	(void)err;
	sh->arena = codec_arena_new();
	return sh->arena ? batch_new(h->c, &sh->batch) : -ENOMEM;
}

/* One line without its newline, into the batch. */
static int take_line(struct stream_handle *sh, const char *p, size_t n, struct vx_err *err)
{
	struct vx_record rec = {0};
	const struct codec_opts opts = {.dim = coll_dim(sh->h.c)};

	if (n && p[n - 1] == '\r')
		n--;
	if (sh->h.loc.kind == K_DELETE)
		return n ? batch_delete(sh->batch, p, n, err) : 0;
	size_t i = 0;
	while (i < n && (p[i] == ' ' || p[i] == '\t'))
		i++;
	if (i == n)
		return 0;
	int rc = codec_parse_record(sh->arena, p, n, &opts, &rec, err);
	return rc ? rc : batch_put(sh->batch, &rec, err);
}

static int commit(struct stream_handle *sh, struct vx_err *err)
{
	struct batch_result res;

	if (batch_count(sh->batch))
		again_name(sh->h.fs, sh->batch);
	return batch_count(sh->batch) ? batch_commit(sh->batch, &res, err) : 0;
}

/* However a line comes, in one write or in many, it is refused for its length before anything else. */
static int check_length(struct stream_handle *sh, size_t n, struct vx_err *err)
{
	uint64_t max = sh->h.loc.kind == K_DELETE ? VX_ID_MAX + 1 : vec_record_max(sh->h.c);

	if (n <= max)
		return 0;
	return vx_err_set(err, sh->h.loc.kind == K_DELETE ? -ENAMETOOLONG : -EMSGSIZE,
		"a line has at most %llu bytes", (unsigned long long)max);
}

/* Keeps the start of a line for the next write. */
static int keep_tail(struct stream_handle *sh, const char *p, size_t n, struct vx_err *err)
{
	int rc = check_length(sh, sh->tail.len + n, err);

	if (rc) {
		sh->tail.len = 0;
		return rc;
	}
	return buf_append(&sh->tail, p, n);
}

static int stream_write(struct handle *h, fuse_req_t req, const char *p, size_t n, uint64_t off,
	size_t *ret_n, struct vx_err *err)
{
	struct stream_handle *sh = (struct stream_handle *)h;
	size_t at = 0;      /* of the next line */
	size_t settled = 0; /* bytes whose records are committed */
	int rc = 0;

	(void)req;
	(void)off;
	batch_reset(sh->batch);
	while (at < n && !rc) {
		const char *nl = memchr(p + at, '\n', n - at);
		size_t len = nl ? (size_t)(nl - (p + at)) : n - at;
		if (!nl || sh->tail.len)
			rc = keep_tail(sh, p + at, len, err);
		else
			rc = check_length(sh, len, err);
		if (rc || !nl)
			break;
		rc = sh->tail.len ? take_line(sh, (const char *)sh->tail.data, sh->tail.len, err)
				  : take_line(sh, p + at, len, err);
		sh->tail.len = 0;
		if (rc)
			break;
		sh->line++;
		at += len + 1;
		if (batch_full(sh->batch)) {
			rc = commit(sh, err);
			if (rc)
				break;
			settled = at;
		}
	}
	if (rc && at == 0) {
		h->err_line = ++sh->line;
		return rc;
	}
	struct vx_err err2 = VX_ERR_INIT;
	int rc2 = commit(sh, &err2);
	if (rc2 && settled == 0) {
		sh->tail.len = 0;
		*err = err2;
		return rc2;
	}
	if (rc2) {
		*ret_n = settled;
		sh->tail.len = 0;
	} else if (rc) {
		*ret_n = at;
	}
	return 0;
}

static int stream_flush(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct stream_handle *sh = (struct stream_handle *)h;
	const char *p = (const char *)sh->tail.data;
	size_t n = sh->tail.len;
	int rc;

	(void)req;
	if (n == 0)
		return 0;
	sh->tail.len = 0;
	h->err_line = sh->line + 1;
	/* Half an id is an id, too: nothing is deleted that may have been cut short. */
	if (h->loc.kind == K_DELETE)
		return vx_err_set(err, -EINVAL, "the last id has no newline; it was not deleted");
	size_t i = 0;
	while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\r'))
		i++;
	if (i == n)
		return 0;
	if (codec_json_complete(p, n) != 1)
		return vx_err_set(err, -EINVAL, "half a record: the last line is not complete");
	rc = take_line(sh, p, n, err);
	sh->line++;
	return rc ? rc : commit(sh, err);
}

static void stream_close(struct handle *h)
{
	struct stream_handle *sh = (struct stream_handle *)h;

	buf_release(&sh->tail);
	codec_arena_free(sh->arena);
	batch_free(sh->batch);
}

static int stream_save(struct handle *h, struct buf *out)
{
	const struct stream_handle *sh = (const struct stream_handle *)h;
	int rc = buf_put_le64(out, sh->line);

	return rc ? rc : put_blob(out, sh->tail.data, sh->tail.len);
}

static int stream_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	struct stream_handle *sh = (struct stream_handle *)h;
	int rc = stream_open(h, NULL, err);

	sh->line = rd_le64(rd);
	return rc ? rc : get_blob(rd, &sh->tail);
}

const struct file_ops stream_ops = {
	.handle_size = sizeof(struct stream_handle),
	.open = stream_open,
	.write = stream_write,
	.flush = stream_flush,
	.close = stream_close,
	.save = stream_save,
	.load = stream_load,
};
