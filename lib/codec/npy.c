/* npy.c - the header of NumPy's array files.
 *
 *   0  6  "\x93NUMPY"
 *   6  2  version: major 1 to 3, minor
 *   8  2 or 4 (major 1, or 2 and 3)  length of the text that follows
 *      .  a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
 *
 * Only what describes a table of numbers in row order is taken; the text is read by a small tokenizer of
 * this one shape, never evaluated.
 */
#include "codec/codec_i.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char magic[6] = "\x93NUMPY";

int npy_header_size(const uint8_t *p, size_t n, size_t *ret_size, struct vx_err *err)
{
	*ret_size = 0;
	if (memcmp(p, magic, VX_MIN(n, sizeof magic)) != 0)
		return vx_err_set(
			err, -EINVAL, "not a npy file: its first bytes are not \\x93NUMPY");
	if (n < 8)
		return 0;
	if (p[6] < 1 || p[6] > 3)
		return vx_err_set(err, -EINVAL, "npy version %u.%u is not known (1.0 to 3.0 are)",
			p[6], p[7]);
	size_t fixed = p[6] == 1 ? 10 : 12;
	if (n < fixed)
		return 0;
	size_t len = p[6] == 1 ? get_le16(p + 8) : get_le32(p + 8);
	if (len > CODEC_NPY_HEADER_MAX)
		return vx_err_set(err, -EINVAL,
			"the npy header has %zu bytes; at most %u are allowed", len,
			CODEC_NPY_HEADER_MAX);
	*ret_size = fixed + len;
	return 0;
}

struct tok {
	const char *p, *end;
};

static void skip(struct tok *t)
{
	while (t->p < t->end && (*t->p == ' ' || *t->p == '\n' || *t->p == '\t' || *t->p == '\r'))
		t->p++;
}

static bool take(struct tok *t, char c)
{
	skip(t);
	if (t->p == t->end || *t->p != c)
		return false;
	t->p++;
	return true;
}

static bool take_word(struct tok *t, const char *word)
{
	size_t n = strlen(word);

	skip(t);
	if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0)
		return false;
	t->p += n;
	return true;
}

static bool take_string(struct tok *t, char *ret, size_t cap)
{
	skip(t);
	if (t->p == t->end || (*t->p != '\'' && *t->p != '"'))
		return false;
	char quote = *t->p++;
	const char *first = t->p, *close = memchr(first, quote, (size_t)(t->end - first));
	if (!close || (size_t)(close - first) >= cap)
		return false;
	memcpy(ret, first, (size_t)(close - first));
	ret[close - first] = 0;
	t->p = close + 1;
	return true;
}

static bool take_uint(struct tok *t, uint64_t *ret)
{
	skip(t);
	const char *first = t->p;
	while (t->p < t->end && *t->p >= '0' && *t->p <= '9')
		t->p++;
	return !number_uint(first, (size_t)(t->p - first), UINT64_MAX, ret);
}

static int parse_shape(struct tok *t, uint64_t shape[2], unsigned *ret_n, struct vx_err *err)
{
	unsigned n = 0;

	if (!take(t, '('))
		return vx_err_set(err, -EINVAL, "the npy header's shape is not a tuple");
	while (!take(t, ')')) {
		uint64_t v;
		if (!take_uint(t, &v))
			return vx_err_set(err, -EINVAL,
				"the npy header's shape is not a tuple of "
				"numbers");
		if (n == 2)
			return vx_err_set(err, -EINVAL,
				"the npy array has more than two dimensions; one row per record is "
				"expected");
		shape[n++] = v;
		if (take(t, ','))
			continue;
		if (!take(t, ')'))
			return vx_err_set(err, -EINVAL, "the npy header's shape is not closed");
		break;
	}
	if (n == 0)
		return vx_err_set(err, -EINVAL, "the npy array is a single number");
	*ret_n = n;
	return 0;
}

static int parse_descr(const char *descr, enum element *ret, struct vx_err *err)
{
	static const struct {
		const char *name;
		enum element el;
	} known[] = {{"<f4", ELEMENT_F32}, {"<f2", ELEMENT_F16}, {"<f8", ELEMENT_F64},
		{"|u1", ELEMENT_U8}, {"|i1", ELEMENT_I8}, {"<u1", ELEMENT_U8}, {"<i1", ELEMENT_I8}};

	for (size_t i = 0; i < VX_ARRAY_SIZE(known); i++) {
		if (!strcmp(descr, known[i].name)) {
			*ret = known[i].el;
			return 0;
		}
	}
	return vx_err_set(err, -EINVAL,
		"the npy array's element type '%.16s' is not one of <f4 <f2 <f8 |u1 |i1", descr);
}

int npy_header_parse(const uint8_t *p, size_t n, enum element *ret_el, uint64_t *ret_rows,
	uint32_t *ret_dim, struct vx_err *err)
{
	size_t fixed = p[6] == 1 ? 10 : 12;
	struct tok t = {(const char *)p + fixed, (const char *)p + n};
	bool descr_seen = false, shape_seen = false, order_seen = false, fortran = false;
	enum element el = ELEMENT_F32;
	uint64_t shape[2] = {0, 0};
	unsigned n_dims = 0;
	char key[24], descr[24];
	int rc;

	if (!take(&t, '{'))
		return vx_err_set(err, -EINVAL, "the npy header is not a dictionary");
	while (!take(&t, '}')) {
		if (!take_string(&t, key, sizeof key) || !take(&t, ':'))
			return vx_err_set(err, -EINVAL, "the npy header is malformed");
		if (!strcmp(key, "descr") && !descr_seen) {
			descr_seen = true;
			if (!take_string(&t, descr, sizeof descr))
				return vx_err_set(err, -EINVAL,
					"the npy array's elements are not plain numbers");
			rc = parse_descr(descr, &el, err);
		} else if (!strcmp(key, "fortran_order") && !order_seen) {
			order_seen = true;
			fortran = take_word(&t, "True");
			rc = fortran || take_word(&t, "False") ? 0 : -EINVAL;
			if (rc)
				vx_err_set(err, rc, "the npy header's fortran_order is malformed");
		} else if (!strcmp(key, "shape") && !shape_seen) {
			shape_seen = true;
			rc = parse_shape(&t, shape, &n_dims, err);
		} else {
			rc = vx_err_set(
				err, -EINVAL, "the npy header has a surprising key '%s'", key);
		}
		if (rc)
			return rc;
		if (take(&t, ','))
			continue;
		if (!take(&t, '}'))
			return vx_err_set(err, -EINVAL, "the npy header is not closed");
		break;
	}
	if (!descr_seen || !shape_seen || !order_seen)
		return vx_err_set(err, -EINVAL, "the npy header lacks %s",
			!descr_seen   ? "descr"
			: !shape_seen ? "shape"
				      : "fortran_order");
	uint64_t rows = n_dims == 2 ? shape[0] : 1, dim = n_dims == 2 ? shape[1] : shape[0];
	if (fortran && rows > 1 && dim > 1)
		return vx_err_set(err, -EINVAL,
			"the npy array is in Fortran order; save numpy.ascontiguousarray() of it");
	if (dim > VX_DIM_MAX || (dim == 0 && rows != 0))
		return vx_err_set(err, -EINVAL,
			"the npy array's rows have %" PRIu64 " numbers; 1 to %u are allowed", dim,
			VX_DIM_MAX);
	*ret_el = el;
	*ret_rows = rows;
	*ret_dim = (uint32_t)dim;
	return 0;
}

void npy_header_print(uint8_t ret[NPY_HEADER_SIZE], uint64_t rows, uint32_t dim)
{
	char text[NPY_HEADER_SIZE];
	int n = snprintf(text, sizeof text,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRIu64 ", %u), }", rows,
		dim);

	memset(ret, ' ', NPY_HEADER_SIZE);
	memcpy(ret, magic, sizeof magic);
	ret[6] = 1;
	ret[7] = 0;
	put_le16(ret + 8, NPY_HEADER_SIZE - 10);
	memcpy(ret + 10, text, (size_t)n);
	ret[NPY_HEADER_SIZE - 1] = '\n';
}
