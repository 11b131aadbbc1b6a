/* reader.c - the push parser: lines of text here, binary rows in rows.c.
 *
 * Complete lines are parsed where they lie in the caller's buffer; only a line that is torn between two
 * feeds is put together in r->pending, which CODEC_LINE_MAX bounds.  Once a feed has failed, every later
 * one fails alike: the position in the stream is lost.
 */
#include "codec/codec_i.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int codec_reader_new(enum codec_format f, const struct codec_opts *opts, codec_record_fn *on_record,
	void *ctx, struct codec_reader **ret)
{
	if (f < CODEC_JSONL || f > CODEC_NPY)
		return -EINVAL;
	struct codec_reader *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	r->arena = codec_arena_new();
	if (!r->arena) {
		free(r);
		return -ENOMEM;
	}
	r->format = f;
	if (opts)
		r->opts = *opts;
	r->on_record = on_record;
	r->ctx = ctx;
	r->element = f == CODEC_BVECS ? ELEMENT_U8 : ELEMENT_F32;
	r->header_done = f != CODEC_FBIN && f != CODEC_NPY;
	r->rows = UINT64_MAX;
	*ret = r;
	return 0;
}

void codec_reader_free(struct codec_reader *r)
{
	if (!r)
		return;
	codec_arena_free(r->arena);
	buf_release(&r->pending);
	free(r);
}

size_t codec_pending(const struct codec_reader *r)
{
	return r->pending.len;
}

uint64_t codec_count(const struct codec_reader *r)
{
	return r->count;
}

int reader_bad(struct codec_reader *r, uint64_t line, const char *raw, size_t raw_len, int rc,
	struct vx_err *err)
{
	if (!r->opts.on_bad) {
		vx_err_prefix(err, "%s %" PRIu64, raw ? "line" : "row", line);
		return rc;
	}
	return r->opts.on_bad(r->ctx, line, raw, raw_len, err);
}

static int take_line(struct codec_reader *r, const char *p, size_t n, struct vx_err *err)
{
	struct vx_record rec;
	const char *end = p + n;

	r->line++;
	if (r->line == 1 && n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		p += 3;
	/* A leading tab is an empty id column in TSV, so only the end is trimmed there. */
	while (end > p && (end[-1] == '\r' || end[-1] == ' '))
		end--;
	if (jscan_ws(p, end) == end)
		return 0;
	r->count++;
	size_t len = (size_t)(end - p);
	int rc = r->format == CODEC_TSV ? parse_tsv_line(r->arena, p, len, &r->opts, &rec, err)
					: codec_parse_record(r->arena, p, len, &r->opts, &rec, err);
	if (rc == -ENOMEM)
		return rc;
	if (rc)
		return reader_bad(r, r->line, p, len, rc, err);
	if (rec.dim && !r->opts.dim)
		r->opts.dim = rec.dim;
	rec.line = r->line;
	return r->on_record(r->ctx, &rec);
}

static int too_long(struct codec_reader *r, struct vx_err *err)
{
	return vx_err_set(err, -EMSGSIZE, "line %" PRIu64 " is longer than %u bytes", r->line + 1,
		CODEC_LINE_MAX);
}

static int lines_feed(struct codec_reader *r, const char *p, size_t n, struct vx_err *err)
{
	struct buf *b = &r->pending;

	while (n) {
		const char *nl = memchr(p, '\n', n);
		size_t len = nl ? (size_t)(nl - p) : n;
		int rc;
		if (len > CODEC_LINE_MAX - VX_MIN(b->len, (size_t)CODEC_LINE_MAX))
			return too_long(r, err);
		if (!nl || b->len) {
			rc = buf_append(b, p, len);
			if (rc)
				return vx_err_set(err, rc, "out of memory");
			if (!nl)
				return 0;
			rc = take_line(r, (const char *)b->data, b->len, err);
			b->len = 0;
		} else {
			rc = take_line(r, p, len, err);
		}
		if (rc)
			return rc;
		p += len + 1;
		n -= len + 1;
	}
	return 0;
}

int codec_feed(struct codec_reader *r, const void *p, size_t n, struct vx_err *err)
{
	struct vx_err local = VX_ERR_INIT;

	if (r->failed)
		return vx_err_set(err, r->failed, "the stream has failed before");
	if (!err)
		err = &local; /* on_bad always gets the reason */
	int rc = codec_format_is_rows(r->format) ? rows_feed(r, p, n, err)
						 : lines_feed(r, p, n, err);
	r->failed = rc;
	return rc;
}

int codec_finish(struct codec_reader *r, struct vx_err *err)
{
	struct vx_err local = VX_ERR_INIT;
	struct buf *b = &r->pending;
	int rc = 0;

	if (r->failed)
		return vx_err_set(err, r->failed, "the stream has failed before");
	if (!err)
		err = &local;
	if (codec_format_is_rows(r->format)) {
		rc = rows_finish(r, err);
	} else if (b->len) {
		const char *text = (const char *)b->data;
		const char *first = jscan_ws(text, text + b->len);
		bool begun = first < text + b->len && (*first == '{' || *first == '[');
		if (r->format == CODEC_JSONL && begun && codec_json_complete(text, b->len) == 0)
			rc = vx_err_set(err, -EINVAL,
				"line %" PRIu64 " is incomplete: the input ends inside a record",
				r->line + 1);
		else
			rc = take_line(r, text, b->len, err);
	}
	b->len = 0;
	r->failed = rc;
	return rc;
}

int codec_reader_save(const struct codec_reader *r, struct buf *out)
{
	int rc = buf_put_le64(out, r->count);

	if (rc == 0)
		rc = buf_put_le64(out, r->line);
	if (rc == 0)
		rc = buf_put_le64(out, r->rows);
	if (rc == 0)
		rc = buf_put_le32(out, r->opts.dim);
	if (rc == 0)
		rc = buf_put_le32(out, r->row_dim);
	if (rc == 0)
		rc = buf_put_le32(out, (uint32_t)-r->failed);
	if (rc == 0)
		rc = buf_put_u8(out, r->header_done);
	if (rc == 0)
		rc = buf_put_u8(out, (uint8_t)r->element);
	if (rc == 0)
		rc = buf_put_le64(out, r->pending.len);
	return rc || r->pending.len == 0 ? rc : buf_append(out, r->pending.data, r->pending.len);
}

int codec_reader_load(struct codec_reader *r, struct bytes_reader *rd)
{
	r->count = rd_le64(rd);
	r->line = rd_le64(rd);
	r->rows = rd_le64(rd);
	r->opts.dim = rd_le32(rd);
	r->row_dim = rd_le32(rd);
	r->failed = -(int)rd_le32(rd);
	r->header_done = rd_u8(rd);
	r->element = (enum element)rd_u8(rd);
	uint64_t n = rd_le64(rd);
	if (rd->bad || n > rd->left || r->row_dim > VX_DIM_MAX)
		return -EUCLEAN;
	r->pending.len = 0;
	/* A reader that knows the dimension does not look at it again: room for a row is made now. */
	int rc = r->row_dim ? arena_vec_reserve(r->arena, r->row_dim) : 0;
	return rc || n == 0 ? rc : buf_append(&r->pending, rd_bytes(rd, (size_t)n), (size_t)n);
}
