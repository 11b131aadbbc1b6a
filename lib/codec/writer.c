/* writer.c - whole files of records.
 *
 * fbin and npy say the number of rows in front.  When it is not known beforehand, the header is written
 * with what is known and corrected at the end, where the output can be sought back to its start.
 */
#include "codec/codec_i.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLUSH_SIZE (256u << 10)

struct codec_writer {
	enum codec_format format;
	int fd;
	uint64_t count; /* promised; 0: not known */
	off_t start;    /* where the header lies; -1: not seekable */
	uint64_t written;
	uint32_t dim; /* 0 until the first record */
	struct buf out;
};

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static int flush(struct codec_writer *w, struct vx_err *err)
{
	int rc = write_all(w->fd, w->out.data, w->out.len);

	w->out.len = 0;
	return rc ? vx_err_set(err, rc, "cannot write: %s", strerror(-rc)) : 0;
}

static bool has_header(enum codec_format f)
{
	return f == CODEC_FBIN || f == CODEC_NPY;
}

int codec_writer_new(enum codec_format f, int fd, uint64_t count, struct codec_writer **ret)
{
	if (f < CODEC_JSONL || f > CODEC_NPY)
		return -EINVAL;
	off_t start = -1;
	if (has_header(f)) {
		int flags = fcntl(fd, F_GETFL);
		if (flags < 0)
			return -errno;
		/* pwrite() to a descriptor in append mode writes at the end. */
		start = flags & O_APPEND ? -1 : lseek(fd, 0, SEEK_CUR);
		if (start < 0 && count == 0)
			return -ESPIPE;
	}
	struct codec_writer *w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	w->format = f;
	w->fd = fd;
	w->count = count;
	w->start = start;
	*ret = w;
	return 0;
}

void codec_writer_free(struct codec_writer *w)
{
	if (!w)
		return;
	buf_release(&w->out);
	free(w);
}

/* The header's bytes for 'rows' rows; returns their number. */
static size_t print_header(
	const struct codec_writer *w, uint64_t rows, uint8_t ret[NPY_HEADER_SIZE])
{
	if (w->format == CODEC_NPY) {
		npy_header_print(ret, rows, w->dim);
		return NPY_HEADER_SIZE;
	}
	put_le32(ret, (uint32_t)rows);
	put_le32(ret + 4, w->dim);
	return 8;
}

static int put_bytes(struct codec_writer *w, const struct vx_record *rec, struct vx_err *err)
{
	uint8_t *p = w->out.data + w->out.len;

	for (uint32_t i = 0; i < rec->dim; i++) {
		float v = rec->vec[i];
		if (!(v >= 0 && v <= 255) || (float)(uint8_t)v != v) {
			char shown[32];
			size_t n = codec_print_float(shown, v);
			return vx_err_set(err, -EINVAL,
				"number %u of the vector (%.*s) is not a whole number from 0 to "
				"255, "
				"as bvecs needs",
				i + 1, (int)n, shown);
		}
		p[i] = (uint8_t)v;
	}
	w->out.len += rec->dim;
	return 0;
}

/* Room is there: 4 bytes a number. */
static void put_floats(struct codec_writer *w, const struct vx_record *rec)
{
	uint8_t *p = w->out.data + w->out.len;

	for (uint32_t i = 0; i < rec->dim; i++) {
		uint32_t u;
		memcpy(&u, &rec->vec[i], sizeof u);
		put_le32(p + 4 * (size_t)i, u);
	}
	w->out.len += 4 * (size_t)rec->dim;
}

static int put_row(struct codec_writer *w, const struct vx_record *rec, struct vx_err *err)
{
	int rc;

	if (!rec->vec || rec->dim == 0)
		return vx_err_set(err, -EINVAL, "the record has no vector");
	if (w->dim && rec->dim != w->dim)
		return vx_err_set(err, -EINVAL,
			"the vector has %u numbers; the rows written before have %u", rec->dim,
			w->dim);
	rc = buf_reserve(&w->out, NPY_HEADER_SIZE + 4 + 4 * (size_t)rec->dim);
	if (rc)
		return vx_err_set(err, rc, "out of memory");
	w->dim = rec->dim;
	if (has_header(w->format)) {
		if (w->written == 0)
			w->out.len += print_header(w, w->count, w->out.data + w->out.len);
		put_floats(w, rec);
		return 0;
	}
	size_t before = w->out.len;
	put_le32(w->out.data + w->out.len, rec->dim);
	w->out.len += 4;
	if (w->format == CODEC_FVECS) {
		put_floats(w, rec);
		return 0;
	}
	rc = put_bytes(w, rec, err);
	if (rc)
		w->out.len = before;
	return rc;
}

/* What cannot stand in a TSV column is escaped; reading undoes it. */
static int put_tsv_text(struct buf *out, const char *s, size_t n)
{
	for (size_t i = 0, from = 0; i <= n; i++) {
		const char *esc = i == n         ? ""
				  : s[i] == '\t' ? "\\t"
				  : s[i] == '\n' ? "\\n"
				  : s[i] == '\r' ? "\\r"
				  : s[i] == '\\' ? "\\\\"
						 : NULL;
		if (!esc)
			continue;
		int rc = buf_append(out, s + from, i - from);
		if (!rc)
			rc = buf_append(out, esc, strlen(esc));
		if (rc)
			return rc;
		from = i + 1;
	}
	return 0;
}

static int put_tsv(struct buf *out, const struct vx_record *rec)
{
	int rc = buf_append(out, rec->id, rec->id_len);

	if (!rc)
		rc = buf_put_u8(out, '\t');
	if (!rc && rec->dim) {
		size_t at = out->len;
		rc = codec_print_vector(out, rec->vec, rec->dim);
		if (rc)
			return rc;
		/* [1,2,3] without its brackets. */
		memmove(out->data + at, out->data + at + 1, out->len - at - 2);
		out->len -= 2;
	}
	if (!rc && (rec->meta || rec->text))
		rc = buf_put_u8(out, '\t');
	if (!rc && rec->meta)
		rc = buf_append(out, rec->meta, rec->meta_len);
	if (!rc && rec->text)
		rc = buf_put_u8(out, '\t');
	if (!rc && rec->text)
		rc = put_tsv_text(out, rec->text, rec->text_len);
	if (!rc)
		rc = buf_put_u8(out, '\n');
	return rc;
}

int codec_write(struct codec_writer *w, const struct vx_record *rec, struct vx_err *err)
{
	size_t before = w->out.len;
	int rc;

	if (codec_format_is_rows(w->format)) {
		rc = put_row(w, rec, err);
	} else {
		rc = w->format == CODEC_TSV ? put_tsv(&w->out, rec)
					    : codec_print_record(&w->out, rec);
		if (rc) {
			w->out.len = before;
			vx_err_set(err, rc, "out of memory");
		}
	}
	if (rc)
		return rc;
	w->written++;
	return w->out.len >= FLUSH_SIZE ? flush(w, err) : 0;
}

int codec_writer_finish(struct codec_writer *w, struct vx_err *err)
{
	uint8_t header[NPY_HEADER_SIZE];

	if (has_header(w->format) && w->written == 0) {
		size_t n = print_header(w, 0, header);
		if (buf_append(&w->out, header, n))
			return vx_err_set(err, -ENOMEM, "out of memory");
	}
	int rc = flush(w, err);
	if (rc || !has_header(w->format) || w->written == w->count)
		return rc;
	if (w->start < 0)
		return vx_err_set(err, -ESPIPE,
			"%" PRIu64 " rows were promised in the header and %" PRIu64
			" written, and the output cannot be sought back",
			w->count, w->written);
	if (w->format == CODEC_FBIN && w->written > UINT32_MAX)
		return vx_err_set(err, -EFBIG, "fbin cannot count more than %u rows", UINT32_MAX);
	size_t n = print_header(w, w->written, header);
	for (size_t done = 0; done < n;) {
		ssize_t one = pwrite(w->fd, header + done, n - done, w->start + (off_t)done);
		if (one < 0 && errno == EINTR)
			continue;
		if (one < 0) {
			rc = -errno;
			return vx_err_set(err, rc, "cannot write the header: %s", strerror(errno));
		}
		done += (size_t)one;
	}
	return 0;
}
