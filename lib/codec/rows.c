/* rows.c - the formats made of binary rows: fvecs, bvecs, fbin, npy.
 *
 * A stream is a sequence of units: at most one header, then rows.  unit_want() says how many bytes the
 * unit at hand needs, as far as the bytes seen so far tell; whole units are decoded where they lie in the
 * caller's buffer, only one that is torn between two feeds is put together in r->pending.  Rows may lie
 * at any alignment, so elements are decoded by bytes into the arena's vector.
 */
#include "codec/codec_i.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

size_t element_size(enum element el)
{
	static const uint8_t size[] = {[ELEMENT_F32] = 4,
		[ELEMENT_F16] = 2,
		[ELEMENT_F64] = 8,
		[ELEMENT_U8] = 1,
		[ELEMENT_I8] = 1};

	return size[el];
}

static inline float float_of(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof f);
	return f;
}

static bool decode_f32(const uint8_t *p, uint32_t n, float *ret)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t u = get_le32(p + 4 * (size_t)i);
		bad |= (u & 0x7f800000u) == 0x7f800000u;
		ret[i] = float_of(u);
	}
	return !bad;
}

/* A half's exponent and fraction, moved to a float's place, are too small by 2^112; the product is exact,
 * for subnormal halves too. */
static bool decode_f16(const uint8_t *p, uint32_t n, float *ret)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t h = get_le16(p + 2 * (size_t)i);
		bad |= (h & 0x7c00u) == 0x7c00u;
		float f = float_of((h & 0x7fffu) << 13) * 0x1p112f;
		ret[i] = h & 0x8000u ? -f : f;
	}
	return !bad;
}

static bool decode_f64(const uint8_t *p, uint32_t n, float *ret)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t u = get_le64(p + 8 * (size_t)i);
		double d;
		memcpy(&d, &u, sizeof d);
		/* The first double that rounds to infinity: halfway past the largest float. */
		bad |= !(d < 0x1.ffffffp127 && d > -0x1.ffffffp127);
		ret[i] = (float)d;
	}
	return !bad;
}

bool rows_decode(enum element el, const uint8_t *p, uint32_t n, float *ret)
{
	switch (el) {
	case ELEMENT_F32:
		return decode_f32(p, n, ret);
	case ELEMENT_F16:
		return decode_f16(p, n, ret);
	case ELEMENT_F64:
		return decode_f64(p, n, ret);
	case ELEMENT_U8:
		for (uint32_t i = 0; i < n; i++)
			ret[i] = p[i];
		return true;
	case ELEMENT_I8:
		for (uint32_t i = 0; i < n; i++)
			ret[i] = (int8_t)p[i];
		return true;
	}
	return false;
}

/* Checks the dimension once it is known from a header or the first row. */
static int set_dim(struct codec_reader *r, uint32_t dim, const char *what, struct vx_err *err)
{
	if (dim == 0 || dim > VX_DIM_MAX)
		return vx_err_set(err, -EINVAL, "%s has dimension %" PRId32 "; 1 to %u are allowed",
			what, (int32_t)dim, VX_DIM_MAX);
	if (r->opts.dim && dim != r->opts.dim)
		return vx_err_set(err, -EINVAL, "%s has dimension %u; %s has dimension %u", what,
			dim, dim_of(&r->opts), r->opts.dim);
	int rc = arena_vec_reserve(r->arena, dim);
	if (rc)
		return vx_err_set(err, rc, "out of memory");
	r->row_dim = r->opts.dim = dim;
	return 0;
}

/* Bytes the unit at 'p' needs; exact as soon as 'n' reaches it. */
static int unit_want(
	struct codec_reader *r, const uint8_t *p, size_t n, size_t *ret_want, struct vx_err *err)
{
	size_t size;
	int rc;

	if (!r->header_done && r->format == CODEC_NPY) {
		rc = npy_header_size(p, n, &size, err);
		if (rc)
			return rc;
		*ret_want = size ? size : n < 8 ? 8 : p[6] == 1 ? 10 : 12;
		return 0;
	}
	if (!r->header_done && r->format == CODEC_FBIN) {
		*ret_want = 8;
		return 0;
	}
	if (r->format == CODEC_FBIN || r->format == CODEC_NPY) {
		if (r->count == r->rows)
			return vx_err_set(err, -EINVAL,
				"the header promises %" PRIu64 " rows, but more bytes follow",
				r->rows);
		*ret_want = r->row_dim * element_size(r->element);
		return 0;
	}
	*ret_want = 4;
	if (n < 4)
		return 0;
	uint32_t dim = get_le32(p);
	if (dim != r->row_dim || dim == 0) {
		char what[32];
		snprintf(what, sizeof what, "row %" PRIu64, r->count + 1);
		if (r->row_dim)
			return vx_err_set(err, -EINVAL,
				"%s has dimension %" PRId32 "; the rows before it have %u", what,
				(int32_t)dim, r->row_dim);
		rc = set_dim(r, dim, what, err);
		if (rc)
			return rc;
	}
	*ret_want = 4 + dim * element_size(r->element);
	return 0;
}

static int take_header(struct codec_reader *r, const uint8_t *p, size_t n, struct vx_err *err)
{
	uint32_t dim;
	int rc;

	if (r->format == CODEC_FBIN) {
		r->rows = get_le32(p);
		dim = get_le32(p + 4);
	} else {
		rc = npy_header_parse(p, n, &r->element, &r->rows, &dim, err);
		if (rc)
			return rc;
	}
	if (dim || r->rows) {
		rc = set_dim(r, dim, "the file", err);
		if (rc)
			return rc;
	}
	r->header_done = true;
	return 0;
}

/* The row's id: from the caller, or its number behind a prefix. */
static int row_id(struct codec_reader *r, uint64_t row, const char **ret, size_t *ret_len,
	bool *ret_bad, struct vx_err *err)
{
	struct buf *b = &r->arena->id;
	int rc;

	*ret_bad = false;
	if (r->opts.row_id) {
		*ret = r->opts.row_id(r->ctx, row, ret_len);
		if (!*ret)
			return vx_err_set(err, -EINVAL, "there is no id for row %" PRIu64, row + 1);
	} else {
		char digits[20], *p = digits + sizeof digits;
		for (uint64_t v = r->opts.first_row + row;; v /= 10) {
			*--p = (char)('0' + v % 10);
			if (v < 10)
				break;
		}
		size_t n = (size_t)(digits + sizeof digits - p);
		b->len = 0;
		rc = r->opts.id_prefix ? buf_append(b, r->opts.id_prefix, strlen(r->opts.id_prefix))
				       : 0;
		if (!rc)
			rc = buf_append(b, p, n);
		if (rc)
			return vx_err_set(err, rc, "out of memory");
		*ret = (const char *)b->data;
		*ret_len = b->len;
		if (!r->opts.id_prefix)
			return 0;
	}
	rc = vx_id_check(*ret, *ret_len, err);
	*ret_bad = rc != 0;
	return rc;
}

static int take_row(struct codec_reader *r, const uint8_t *p, struct vx_err *err)
{
	struct vx_record rec = {.vec = r->arena->vec, .dim = r->row_dim};
	uint64_t row = r->count;
	bool bad;

	if (r->format == CODEC_FVECS || r->format == CODEC_BVECS)
		p += 4;
	bool finite = rows_decode(r->element, p, r->row_dim, r->arena->vec);
	int rc = row_id(r, row, &rec.id, &rec.id_len, &bad, err);
	if (rc && !bad)
		return rc;
	r->count++;
	if (!rc && !finite)
		rc = vx_err_set(
			err, -EINVAL, "the vector has a number that is not finite in float32");
	if (rc)
		return reader_bad(r, row + 1, NULL, 0, rc, err);
	rec.line = row + 1;
	return r->on_record(r->ctx, &rec);
}

static int take_unit(struct codec_reader *r, const uint8_t *p, size_t n, struct vx_err *err)
{
	return r->header_done ? take_row(r, p, err) : take_header(r, p, n, err);
}

/* Completes the unit that an earlier feed left torn. */
static int feed_pending(struct codec_reader *r, const uint8_t **p, size_t *n, struct vx_err *err)
{
	struct buf *b = &r->pending;
	size_t want = 0;

	for (;;) {
		int rc = unit_want(r, b->data, b->len, &want, err);
		if (rc)
			return rc;
		if (b->len >= want) {
			rc = take_unit(r, b->data, want, err);
			b->len = 0;
			return rc;
		}
		size_t add = VX_MIN(want - b->len, *n);
		if (add == 0)
			return 0;
		rc = buf_append(b, *p, add);
		if (rc)
			return vx_err_set(err, rc, "out of memory");
		*p += add;
		*n -= add;
	}
}

int rows_feed(struct codec_reader *r, const uint8_t *p, size_t n, struct vx_err *err)
{
	size_t want = 0;

	if (r->pending.len) {
		int rc = feed_pending(r, &p, &n, err);
		if (rc)
			return rc;
	}
	while (n) {
		int rc = unit_want(r, p, n, &want, err);
		if (rc)
			return rc;
		if (n < want) {
			rc = buf_append(&r->pending, p, n);
			return rc ? vx_err_set(err, rc, "out of memory") : 0;
		}
		rc = take_unit(r, p, want, err);
		if (rc)
			return rc;
		p += want;
		n -= want;
	}
	return 0;
}

int rows_finish(struct codec_reader *r, struct vx_err *err)
{
	size_t want = 0;

	if (!r->header_done)
		return vx_err_set(err, -EINVAL, "the %s header is cut off after %zu bytes",
			codec_format_name(r->format), r->pending.len);
	if (r->pending.len) {
		int rc = unit_want(r, r->pending.data, r->pending.len, &want, err);
		if (rc)
			return rc;
		return vx_err_set(err, -EINVAL,
			"row %" PRIu64 " is cut off: %zu of its %zu bytes are here", r->count + 1,
			r->pending.len, want);
	}
	if (r->rows != UINT64_MAX && r->count < r->rows)
		return vx_err_set(err, -EINVAL,
			"the header promises %" PRIu64 " rows; the input ends after %" PRIu64,
			r->rows, r->count);
	return 0;
}
