/* fs_scan.c - ids and export.jsonl: the whole collection as a stream, one snapshot per open.
 *
 * Records are printed as they are read; what was printed is kept until WINDOW bytes are past it, because
 * head and tail step back a little.  Nobody knows the length before the end, so st_size is 0 and programs
 * read until there is no more.  Reading from the start again takes a new snapshot.
 *
 * The snapshot dies with the worker.  The next one goes on behind the last record that was printed, with a snapshot
 * of its own: every record comes once, and those that follow are as they are then.
 */
#include "daemon/fs_i.h"

#include <string.h>

#define WINDOW (4u << 20)

struct scan_handle {
	struct handle h;
	struct coll_scan *scan;
	struct buf out; /* bytes from 'start' on */
	uint64_t start; /* of 'out' in the stream */
	bool end;
	uint64_t last;    /* handle of the record that 'out' ends with */
	uint64_t read_at; /* where the last read began: it may come again */
};

static int scan_start(struct scan_handle *sh, struct vx_err *err)
{
	if (sh->scan)
		coll_scan_close(sh->scan);
	sh->scan = NULL;
	sh->out.len = 0;
	sh->start = 0;
	sh->end = false;
	sh->last = 0;
	return coll_scan_open(sh->h.c, sh->h.loc.kind == K_EXPORT ? COLL_ALL : 0, &sh->scan, err);
}

static int scan_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	(void)req;
	return scan_start((struct scan_handle *)h, err);
}

static int scan_step(struct scan_handle *sh, struct vx_err *err)
{
	const struct coll_rec *r;
	int rc = coll_scan_next(sh->scan, &r, err);

	if (rc == -ENOENT) {
		sh->end = true;
		return 0;
	}
	if (rc)
		return rc;
	sh->last = r->handle;
	if (sh->h.loc.kind == K_EXPORT)
		return codec_print_record(&sh->out, &r->rec);
	rc = buf_append(&sh->out, r->rec.id, r->rec.id_len);
	return rc ? rc : buf_append(&sh->out, "\n", 1);
}

/* Drops what is more than WINDOW behind 'off'. */
static void scan_trim(struct scan_handle *sh, uint64_t off)
{
	uint64_t behind = off > sh->start ? off - sh->start : 0;

	if (behind > 2 * WINDOW) {
		size_t drop = (size_t)VX_MIN(behind - WINDOW, (uint64_t)sh->out.len);
		buf_consume(&sh->out, drop);
		sh->start += drop;
	}
}

static int scan_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off, struct slice *ret,
	struct vx_err *err)
{
	struct scan_handle *sh = (struct scan_handle *)h;
	int rc = 0;
	unsigned steps = 0;

	h->changed = true;
	sh->read_at = off;

	if (off < sh->start) {
		if (off)
			return vx_err_set(err, -EINVAL,
				"this stream is read in order, or again from its start");
		rc = scan_start(sh, err);
	}
	while (!rc && !sh->end && sh->start + sh->out.len < off + size) {
		rc = scan_step(sh, err);
		if (sh->out.len > 3 * WINDOW)
			scan_trim(sh, off);
		if (++steps % 4096 == 0 && fuse_req_interrupted(req))
			rc = -EINTR;
	}
	if (rc)
		return rc;
	scan_trim(sh, off);
	if (off >= sh->start)
		*ret = slice_of(sh->out.data, sh->out.len, size, off - sh->start);
	return 0;
}

/* What is behind the read that comes next, or again; the rest is printed anew. */
static int scan_save(struct handle *h, struct buf *out)
{
	const struct scan_handle *sh = (const struct scan_handle *)h;
	uint64_t skip = sh->read_at > sh->start ? sh->read_at - sh->start : 0;

	skip = VX_MIN(skip, (uint64_t)sh->out.len);
	int rc = buf_put_u8(out, sh->end);
	if (rc == 0)
		rc = buf_put_le64(out, sh->last);
	if (rc == 0)
		rc = buf_put_le64(out, sh->start + skip);
	return rc ? rc : put_blob(out, sh->out.data + skip, sh->out.len - skip);
}

static int scan_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	struct scan_handle *sh = (struct scan_handle *)h;
	int rc = scan_start(sh, err);

	sh->end = rd_u8(rd);
	sh->last = rd_le64(rd);
	sh->read_at = sh->start = rd_le64(rd);
	if (rc == 0)
		rc = get_blob(rd, &sh->out);
	if (rc == 0)
		coll_scan_seek(sh->scan, sh->last);
	return rc;
}

static void scan_close(struct handle *h)
{
	struct scan_handle *sh = (struct scan_handle *)h;

	if (sh->scan)
		coll_scan_close(sh->scan);
	buf_release(&sh->out);
}

const struct file_ops scan_ops = {
	.handle_size = sizeof(struct scan_handle),
	.open = scan_open,
	.read = scan_read,
	.close = scan_close,
	.save = scan_save,
	.load = scan_load,
};
