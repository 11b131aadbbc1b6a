/* wal_view.c - reading a log without believing that it is whole.
 *
 * One segment is in memory at a time.  Where no valid frame begins although the segment goes on, the search for the
 * next one is by blocks, as frames begin at blocks: a header with its checksum, in the segment's own seed, and a
 * number above the last one.  The remains of a torn frame are told from damage by what follows: in a segment that
 * has a successor, that header's prev_end; in the last one, any later frame.
 *
 * Of a log that is served: segments go from the oldest one on, and give up their name before their bytes.  So a
 * segment that is not below the oldest one after it was read was read as it is; any other is as if it had not been listed.
 * Names are listed after the current segment was asked for, so all from the oldest one after that to the current one are
 * among them.
 */
#include "wal/wal_view.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "wal/wal_i.h"

#define SEGMENTS_MAX 100000u

struct view {
	struct disk *disk;
	const char *dir;
	const struct wal_view_ops *ops;
	void *ctx;
	struct vx_err *err;
	struct buf seqs; /* 4 each */
	struct buf img;
	char file[32];
	uint64_t last_number; /* of the last frame that was read */
	/* Of a log that is served; NULL: nobody writes it. */
	wal_view_stat *stat;
	struct wal_stats at; /* as of the beginning */
	/* What the segment before ended with, for its successor's header to confirm. */
	bool has_prev;
	char prev_file[32];
	uint64_t prev_end;
};

static int damage(struct view *v, const char *file, uint64_t offset, bool torn, const char *why)
{
	struct wal_view_damage d = {.file = file, .offset = offset, .why = why, .torn = torn};

	return v->ops->damage ? v->ops->damage(v->ctx, &d) : 0;
}

/* Whether the writer has given it up: its file is another one, or none. */
static bool given_back(struct view *v, uint32_t seq)
{
	struct wal_stats now = {.oldest = 0};

	if (!v->stat)
		return false;
	v->stat(v->ctx, &now);
	return seq < now.oldest;
}

static int each_name(void *arg, const char *name)
{
	struct view *v = arg;
	uint64_t n = 0;

	for (int i = 0; i < 10; i++) {
		if (!isdigit((unsigned char)name[i]))
			return 0;
		n = n * 10 + (unsigned)(name[i] - '0');
	}
	if (strcmp(name + 10, ".wal") != 0 || n == 0 || n >= UINT32_MAX ||
		v->seqs.len / 4 >= SEGMENTS_MAX)
		return 0;
	return buf_put_le32(&v->seqs, (uint32_t)n);
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = get_le32(a), y = get_le32(b);

	return (x > y) - (x < y);
}

static int read_file(struct view *v, uint32_t seq)
{
	char path[WAL_PATH_MAX];
	struct disk *d = v->disk;
	uint64_t size = 0, done = 0;
	int n = snprintf(path, sizeof path, "%s/%s", v->dir, v->file);

	if ((size_t)n >= sizeof path)
		return -ENAMETOOLONG;
	int fd = d->ops->open(d, path, O_RDONLY, 0);
	if (fd < 0)
		return vx_err_set(v->err, fd, "%s: %s", path, strerror(-fd));
	int rc = d->ops->size(d, fd, &size);
	size = VX_MIN(size, (uint64_t)WAL_SEG_MAX);
	if (v->stat && seq == v->at.current)
		size = VX_MIN(size, v->at.end_bytes);
	v->img.len = 0;
	if (rc == 0)
		rc = buf_reserve(&v->img, (size_t)size + 1);
	/* A file that a bad sector ends is read up to there. */
	while (rc == 0 && done < size) {
		ssize_t got = d->ops->pread(
			d, fd, v->img.data + done, VX_MIN((size_t)(size - done), 1u << 20), done);
		if (got == -EINTR)
			continue;
		if (got <= 0)
			break;
		done += (uint64_t)got;
	}
	(void)d->ops->close(d, fd);
	if (rc)
		return vx_err_set(v->err, rc, "%s: %s", path, strerror(-rc));
	v->img.len = (size_t)done;
	return done < size && !given_back(v, seq)
		       ? damage(v, v->file, done, false, "cannot be read from here on")
		       : 0;
}

/* --- frames ------------------------------------------------------------------------------------ */

static int show_record(
	struct view *v, uint64_t off, uint64_t frame, const struct wal_rhdr *h, bool payload_ok)
{
	struct wal_view_record r = {
		.file = v->file,
		.offset = off,
		.frame = frame,
		.group = h->group,
		.type = h->type,
		.etype = h->etype,
		.index = h->index,
		.term = h->term,
		.vote = h->vote,
		.data = v->img.data + off + WAL_REC_HDR,
		.len = h->len,
		.payload_ok = payload_ok,
	};
	int rc = v->ops->record ? v->ops->record(v->ctx, &r) : 0;

	if (rc == 0 && !payload_ok)
		rc = damage(
			v, v->file, off + WAL_REC_HDR, false, "the payload has a wrong checksum");
	return rc;
}

/* The records of a frame whose header is valid and whose length fits; *ret_whole: all of them are.  Nothing is shown
 * when 'show' is false. */
static int records(struct view *v, uint64_t off, const struct wal_fhdr *f, uint64_t seed, bool show,
	bool *ret_whole)
{
	uint64_t at = WAL_FRAME_HDR;
	struct wal_rhdr h;
	uint32_t i;
	int rc = 0;

	*ret_whole = true;
	for (i = 0; i < f->n_records && rc == 0; i++) {
		if (at + WAL_REC_HDR > f->len || !wal_rhdr_get(v->img.data + off + at, seed, &h) ||
			h.tag != f->tag || wal_rec_size(h.len) > f->len - at)
			break;
		bool ok = wal_payload_ok(&h, v->img.data + off + at + WAL_REC_HDR, seed);
		*ret_whole &= ok;
		if (show)
			rc = show_record(v, off + at, f->number, &h, ok);
		at += wal_rec_size(h.len);
	}
	if (rc == 0 && (i < f->n_records || at != f->len)) {
		*ret_whole = false;
		if (show)
			rc = damage(v, v->file, off + at, false,
				"no record with a right checksum is here; the rest of the frame is "
				"lost");
	}
	return rc;
}

/* The header of a frame, which fits before 'limit'. */
static bool frame_at(
	const struct view *v, uint64_t off, uint64_t limit, uint64_t seed, struct wal_fhdr *ret)
{
	return wal_fhdr_get(v->img.data + off, seed, ret) && ret->n_records > 0 &&
	       ret->len >= WAL_FRAME_HDR && ret->len <= limit - off;
}

/* From the block 'off' on: where the next frame with a higher number begins; 'limit': nowhere. */
static uint64_t next_frame(const struct view *v, uint64_t off, uint64_t limit, uint64_t seed)
{
	struct wal_fhdr f;

	for (; off + WAL_FRAME_HDR <= limit; off += WAL_BLOCK) {
		if (wal_fhdr_get(v->img.data + off, seed, &f) && f.number > v->last_number)
			return off;
	}
	return limit;
}

static int show_frame(struct view *v, uint64_t off, const struct wal_fhdr *f)
{
	struct wal_view_frame show = {.file = v->file,
		.offset = off,
		.number = f->number,
		.len = f->len,
		.n_records = f->n_records};

	return v->ops->frame ? v->ops->frame(v->ctx, &show) : 0;
}

/* A frame of ours, *off moves behind it; *ret_torn: it is a torn one that ends the log, and *off stays. */
static int one_frame(struct view *v, const struct wal_fhdr *f, uint64_t seed, uint64_t limit,
	bool last, uint64_t *off, bool *ret_torn)
{
	uint64_t end = *off + VX_ALIGN_UP((uint64_t)f->len, WAL_BLOCK);
	uint64_t next = limit;
	bool whole;
	int rc = records(v, *off, f, seed, false, &whole); /* 0: no caller was asked */

	/* Inside a frame that is whole, blocks may look like frames. */
	if (!whole) {
		next = next_frame(v, *off + WAL_BLOCK, limit, seed);
		if (last && next == limit && f->number == v->last_number + 1) {
			*ret_torn = true;
			return damage(v, v->file, *off, true, "a torn flush");
		}
	}
	if (f->number != v->last_number + 1)
		rc = damage(v, v->file, *off, false, "frames before this one are missing");
	if (rc == 0)
		rc = show_frame(v, *off, f);
	if (rc == 0)
		rc = records(v, *off, f, seed, true, &whole);
	v->last_number = f->number;
	*off = whole ? end : VX_MIN(end, next);
	return rc;
}

/* 'last': there is no later segment. */
static int frames(struct view *v, const struct wal_shdr *h, bool last)
{
	uint64_t seed = wal_seed(h->nonce, h->seq), off = WAL_HDR_BYTES;
	uint64_t limit = VX_MIN((uint64_t)v->img.len, h->segment_size);
	struct wal_fhdr f;
	bool torn = false;
	int rc = 0;

	while (rc == 0 && !torn && off + WAL_FRAME_HDR <= limit) {
		if (frame_at(v, off, limit, seed, &f) && f.number > v->last_number) {
			rc = one_frame(v, &f, seed, limit, last, &off, &torn);
			continue;
		}
		uint64_t next = next_frame(v, off + WAL_BLOCK, limit, seed);
		if (next == limit)
			break;
		rc = damage(v, v->file, off, false, "no frame with a right checksum is here");
		off = next;
	}
	v->prev_end = off;
	if (rc == 0 && v->stat && h->seq == v->at.current && off < v->at.end_bytes)
		rc = damage(v, v->file, off, false, "flushed frames are not here any more");
	return rc;
}

/* --- segments ---------------------------------------------------------------------------------- */

static int rows(struct view *v, const struct wal_shdr *h)
{
	int rc = 0;

	for (unsigned i = 0; i < h->n_groups && rc == 0 && v->ops->row; i++) {
		struct wal_row r;
		wal_row_get(v->img.data, i, &r);
		struct wal_view_row show = {.group = r.group,
			.term = r.term,
			.vote = r.vote,
			.mark_index = r.mark_index,
			.mark_term = r.mark_term,
			.first = r.first,
			.last = r.last,
			.stopped = r.stopped};
		rc = v->ops->row(v->ctx, &show);
	}
	return rc;
}

static int segment(struct view *v, uint32_t seq, bool last)
{
	const char *why = "shorter than its header";
	struct wal_shdr h = {.seq = 0};

	snprintf(v->file, sizeof v->file, "%010u.wal", seq);
	int rc = read_file(v, seq);
	if ((rc == 0 || rc == -ENOENT) && given_back(v, seq)) {
		v->has_prev = false;
		return 0;
	}
	if (rc == -ENOENT && v->stat) {
		v->has_prev = false;
		return damage(v, v->file, 0, false, "is missing");
	}
	if (rc)
		return rc;
	int bad = v->img.len < WAL_HDR_BYTES ? -EUCLEAN : wal_shdr_get(v->img.data, &h, &why);
	if (!bad && h.seq != seq) {
		bad = -EUCLEAN;
		why = "header of another segment";
	}
	struct wal_view_segment s = {
		.file = v->file, .seq = seq, .size_bytes = v->img.len, .valid = !bad};
	if (!bad) {
		s.node_id = h.node_id;
		s.nonce = h.nonce;
		s.segment_bytes = h.segment_size;
		s.prev_last = h.prev_last;
		s.prev_end = h.prev_end;
		s.n_groups = h.n_groups;
	}
	/* Said of the segment before, so said first. */
	if (!bad && v->has_prev &&
		(h.prev_last > v->last_number ||
			(h.prev_last == v->last_number && h.prev_end > v->prev_end)))
		rc = damage(v, v->prev_file, v->prev_end, false,
			"the next segment says that flushed frames follow here");
	if (rc == 0 && v->ops->segment)
		rc = v->ops->segment(v->ctx, &s);
	if (rc == 0 && bad)
		rc = damage(v, v->file, 0, false, why);
	v->has_prev = false;
	if (rc || bad)
		return rc; /* its seed stands in the header: no frame of it can be told */
	rc = rows(v, &h);
	if (v->last_number < h.prev_last)
		v->last_number = h.prev_last;
	if (rc == 0)
		rc = frames(v, &h, last);
	v->has_prev = true;
	memcpy(v->prev_file, v->file, sizeof v->prev_file);
	return rc;
}

/* 'seq' is not among the names, and should be. */
static int missing(struct view *v, uint32_t seq)
{
	char file[32];

	v->has_prev = false;
	if (given_back(v, seq))
		return 0;
	snprintf(file, sizeof file, "%010u.wal", seq);
	return damage(v, file, 0, false, "is missing");
}

static int view_all(struct view *v)
{
	size_t n = v->seqs.len / 4;
	uint32_t next = 0;
	int rc = 0;

	if (v->stat) {
		v->stat(v->ctx, &v->at);
		next = v->at.oldest;
	}
	rc = v->disk->ops->list(v->disk, v->dir, each_name, v);
	if (rc)
		return vx_err_set(v->err, rc, "%s: %s", v->dir, strerror(-rc));
	n = v->seqs.len / 4;
	if (n)
		qsort(v->seqs.data, n, 4, by_number);
	else if (!v->stat)
		return vx_err_set(v->err, -ENODATA, "%s: has no segment", v->dir);
	for (size_t i = 0; i < n && rc == 0; i++) {
		uint32_t seq = get_le32(v->seqs.data + 4 * i);
		/* What came since; what is on its way out. */
		if (v->stat && (seq > v->at.current || seq < v->at.oldest))
			continue;
		if (next && seq != next)
			rc = missing(v, next);
		if (rc == 0)
			rc = segment(v, seq, i + 1 == n && !v->stat);
		next = seq + 1;
	}
	if (rc == 0 && v->stat && next <= v->at.current)
		rc = missing(v, next);
	return rc;
}

int wal_view(struct disk *disk, const char *dir, const struct wal_view_ops *ops, void *ctx,
	struct vx_err *err)
{
	return wal_view_served(disk, dir, ops, NULL, ctx, err);
}

int wal_view_served(struct disk *disk, const char *dir, const struct wal_view_ops *ops,
	wal_view_stat *stat, void *ctx, struct vx_err *err)
{
	struct view v = {
		.disk = disk, .dir = dir, .ops = ops, .stat = stat, .ctx = ctx, .err = err};
	int rc = view_all(&v);

	buf_release(&v.seqs);
	buf_release(&v.img);
	return rc;
}
