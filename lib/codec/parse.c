/* parse.c - one record of text: JSON, a line of TSV, a vector as people type it. */
#include "codec/codec_i.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct codec_opts no_opts = {.id_optional = true};

int parse_check_dim(uint32_t dim, const struct codec_opts *opts, struct vx_err *err)
{
	if (opts->dim == 0 || dim == opts->dim)
		return 0;
	return vx_err_set(err, -EINVAL, "the vector has %u number%s; %s has dimension %u", dim,
		dim == 1 ? "" : "s", dim_of(opts), opts->dim);
}

static int too_long_vector(struct vx_err *err)
{
	return vx_err_set(err, -EINVAL, "the vector has more than %u numbers", VX_DIM_MAX);
}

/* Says what stands where number 'at' (from 1) should be. */
static int bad_element(
	const char *p, const char *end, uint32_t at, enum number_result why, struct vx_err *err)
{
	size_t n = 0;

	while (n < 24 && p + n < end && !strchr(", \t\n\r]", p[n]))
		n++;
	/* Cut between characters, not inside one. */
	while (n > 0 && !vx_utf8_valid(p, n))
		n--;
	if (why == NUMBER_NOMEM)
		return vx_err_set(err, -ENOMEM, "out of memory");
	if (why == NUMBER_INFINITE)
		return vx_err_set(err, -EINVAL,
			"number %u of the vector (%.*s) is not finite in float32", at, (int)n, p);
	if (n == 0)
		return vx_err_set(err, -EINVAL, "number %u of the vector is missing", at);
	return vx_err_set(
		err, -EINVAL, "element %u of the vector is not a number: %.*s", at, (int)n, p);
}

int parse_array(struct codec_arena *a, struct json_scan *s, uint32_t *ret_dim)
{
	const char *p = jscan_ws(s->p + 1, s->end), *end = s->end;
	uint32_t n = 0;

	if (p < end && *p == ']')
		return vx_err_set(s->err, -EINVAL, "the vector is empty");
	for (;;) {
		if (n == a->vec_cap || n == VX_DIM_MAX) {
			if (n == VX_DIM_MAX)
				return too_long_vector(s->err);
			int rc = arena_vec_reserve(a, n + 1);
			if (rc)
				return vx_err_set(s->err, rc, "out of memory");
		}
		const char *first = p;
		enum number_result nr = number_scan(p, end, false, &p, &a->vec[n]);
		if (nr)
			return bad_element(first, end, n + 1, nr, s->err);
		n++;
		if (p < end && *p != ',')
			p = jscan_ws(p, end);
		if (p == end || *p != ',')
			break;
		p++;
		if (p < end && (unsigned char)*p <= ' ')
			p = jscan_ws(p, end);
	}
	s->p = p;
	if (p == end || *p != ']')
		return jscan_bad(s, p == end ? "the vector is not closed"
					     : "',' or ']' is missing in the vector");
	s->p++;
	*ret_dim = n;
	return 0;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes in place of a buffer the size of the text; -EINVAL. */
static int base64_decode(struct buf *b, size_t *ret_n)
{
	size_t n = b->len, out = 0;
	uint32_t acc = 0;
	int bits = 0;

	if (n % 4 == 0) {
		for (int i = 0; i < 2 && n > 0 && b->data[n - 1] == '='; i++)
			n--;
	}
	if (n % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int d = base64_digit((char)b->data[i]);
		if (d < 0)
			return -EINVAL;
		acc = acc << 6 | (uint32_t)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			b->data[out++] = (uint8_t)(acc >> bits);
		}
	}
	if (acc & ((1u << bits) - 1))
		return -EINVAL;
	*ret_n = out;
	return 0;
}

static int parse_base64(
	struct codec_arena *a, const struct json_value *v, uint32_t *ret_dim, struct vx_err *err)
{
	size_t bytes;

	a->name.len = 0;
	int rc = jscan_string(v, "vector", &a->name, err);
	if (rc)
		return rc;
	if (base64_decode(&a->name, &bytes))
		return vx_err_set(err, -EINVAL,
			"\"vector\" is a string but not base64 of little-endian float32");
	if (bytes == 0)
		return vx_err_set(err, -EINVAL, "the vector is empty");
	if (bytes % 4)
		return vx_err_set(err, -EINVAL,
			"\"vector\" decodes to %zu bytes, not a whole number of float32", bytes);
	if (bytes / 4 > VX_DIM_MAX)
		return too_long_vector(err);
	rc = arena_vec_reserve(a, bytes / 4);
	if (rc)
		return vx_err_set(err, rc, "out of memory");
	if (!rows_decode(ELEMENT_F32, a->name.data, (uint32_t)(bytes / 4), a->vec))
		return vx_err_set(err, -EINVAL, "the vector has a number that is not finite");
	*ret_dim = (uint32_t)(bytes / 4);
	return 0;
}

int parse_vector_value(struct codec_arena *a, struct json_scan *s, uint32_t *ret_dim)
{
	struct json_value v;
	int rc = jscan_cut(s, true, &v);

	if (rc)
		return rc;
	switch (v.kind) {
	case JK_ARRAY:
		return parse_array(a, s, ret_dim);
	case JK_STRING:
		return parse_base64(a, &v, ret_dim, s->err);
	case JK_NULL:
		*ret_dim = 0;
		return 0;
	default:
		return vx_err_set(s->err, -EINVAL,
			"\"vector\" must be an array of numbers or a base64 string");
	}
}

int parse_id_value(struct json_scan *s, const char *name, struct buf *out)
{
	struct json_value v;
	int rc = jscan_cut(s, false, &v);

	if (rc)
		return rc;
	out->len = 0;
	if (v.kind == JK_STRING) {
		rc = jscan_string(&v, name, out, s->err);
		if (!rc && out->len == 0)
			rc = vx_err_set(s->err, -EINVAL, "the %s is empty", name);
		return rc;
	}
	if (v.kind == JK_NULL)
		return 0;
	bool integer = v.kind == JK_NUMBER;
	for (size_t i = 0; integer && i < v.n; i++)
		integer = v.p[i] == '-' || (v.p[i] >= '0' && v.p[i] <= '9');
	if (!integer)
		return vx_err_set(s->err, -EINVAL, "\"%s\" must be a string or an integer", name);
	rc = buf_append(out, v.p, v.n);
	return rc ? vx_err_set(s->err, rc, "out of memory") : 0;
}

static int meta_value(const struct json_value *v, struct buf *out, struct vx_err *err)
{
	if (v->kind == JK_NULL)
		return 0;
	if (v->kind != JK_OBJECT)
		return vx_err_set(err, -EINVAL, "\"meta\" must be an object");
	int rc = jscan_validate(v, "meta", err);
	if (rc)
		return rc;
	rc = jscan_compact(v, out);
	if (rc)
		return vx_err_set(err, rc, "out of memory");
	if (out->len > VX_META_MAX)
		return vx_err_set(err, -EMSGSIZE, "\"meta\" has %zu bytes; at most %u are allowed",
			out->len, VX_META_MAX);
	return 0;
}

static int check_text(size_t n, struct vx_err *err)
{
	if (n > VX_TEXT_MAX)
		return vx_err_set(err, -EMSGSIZE, "\"text\" has %zu bytes; at most %u are allowed",
			n, VX_TEXT_MAX);
	return 0;
}

struct record_walk {
	struct codec_arena *a;
	const struct codec_opts *opts;
	unsigned seen;
	uint32_t dim;
	bool has_text;
};

static bool key_is(const char *key, size_t n, const char *name)
{
	return strlen(name) == n && !memcmp(key, name, n);
}

static int record_member(void *ctx, struct json_scan *s, const char *key, size_t n)
{
	static const char *const keys[] = {"id", "vector", "meta", "text"};
	struct record_walk *w = ctx;
	struct json_value v;
	size_t which = 0;
	int rc;

	while (which < VX_ARRAY_SIZE(keys) && !key_is(key, n, keys[which]))
		which++;
	if (which == VX_ARRAY_SIZE(keys)) {
		char shown[64];
		size_t len = VX_MIN(n, sizeof shown - 1);
		while (len > 0 && !vx_utf8_valid(key, len))
			len--;
		memcpy(shown, key, len);
		shown[len] = 0;
		if (!w->opts->want_any_object)
			return vx_err_set(s->err, -EINVAL,
				"unknown key \"%s\"; a record has id, vector, meta and text",
				shown);
		rc = jscan_cut(s, false, &v);
		return rc ? rc : jscan_validate(&v, shown, s->err);
	}
	if (w->seen & 1u << which)
		return vx_err_set(s->err, -EINVAL, "the key \"%s\" appears twice", keys[which]);
	w->seen |= 1u << which;
	if (which == 0)
		return parse_id_value(s, "id", &w->a->id);
	if (which == 1)
		return parse_vector_value(w->a, s, &w->dim);
	rc = jscan_cut(s, false, &v);
	if (rc)
		return rc;
	if (which == 2)
		return meta_value(&v, &w->a->meta, s->err);
	if (v.kind == JK_NULL)
		return 0;
	if (v.kind != JK_STRING)
		return vx_err_set(s->err, -EINVAL, "\"text\" must be a string");
	w->has_text = true;
	rc = jscan_string(&v, "text", &w->a->text, s->err);
	return rc ? rc : check_text(w->a->text.len, s->err);
}

static void arena_reset(struct codec_arena *a)
{
	a->id.len = a->meta.len = a->text.len = 0;
}

/* A string of the arena; an empty one is not absent, so it is never NULL when 'present'. */
static const char *str_or_null(const struct buf *b, bool present)
{
	if (!present)
		return NULL;
	return b->data ? (const char *)b->data : "";
}

static int finish_record(struct codec_arena *a, const struct codec_opts *opts, uint32_t dim,
	bool has_text, struct vx_record *ret, struct vx_err *err)
{
	int rc;

	if (a->id.len) {
		rc = vx_id_check((const char *)a->id.data, a->id.len, err);
		if (rc)
			return rc;
	} else if (!opts->id_optional) {
		return vx_err_set(err, -EINVAL, "the record has no id");
	}
	if (dim == 0 && !opts->want_any_object)
		return vx_err_set(err, -EINVAL, "the record has no vector");
	if (dim) {
		rc = parse_check_dim(dim, opts, err);
		if (rc)
			return rc;
	}
	*ret = (struct vx_record){
		.id = str_or_null(&a->id, a->id.len > 0),
		.id_len = a->id.len,
		.vec = dim ? a->vec : NULL,
		.dim = dim,
		.meta = str_or_null(&a->meta, a->meta.len > 0),
		.meta_len = a->meta.len,
		.text = str_or_null(&a->text, has_text),
		.text_len = a->text.len,
	};
	return 0;
}

int codec_parse_record(struct codec_arena *a, const char *p, size_t n,
	const struct codec_opts *opts, struct vx_record *ret, struct vx_err *err)
{
	struct json_scan s = {.start = p, .p = jscan_ws(p, p + n), .end = p + n, .err = err};
	struct record_walk w = {.a = a, .opts = opts ? opts : &no_opts};
	int rc;

	arena_reset(a);
	if (s.p < s.end && *s.p == '{') {
		rc = jscan_object(&s, &a->key, record_member, &w);
	} else if (s.p < s.end && *s.p == '[') {
		rc = parse_array(a, &s, &w.dim);
		if (!rc)
			rc = jscan_end(&s);
	} else if (s.p == s.end) {
		return vx_err_set(err, -EINVAL, "the record is empty");
	} else {
		return vx_err_set(err, -EINVAL,
			"a record is a JSON array or object; this starts with neither [ nor {");
	}
	if (rc)
		return rc;
	return finish_record(a, w.opts, w.dim, w.has_text, ret, err);
}

int codec_parse_vector(struct codec_arena *a, const char *p, size_t n, const float **ret_vec,
	uint32_t *ret_dim, struct vx_err *err)
{
	const char *end = p + n;
	uint32_t dim = 0;
	bool bracket, comma = false;

	p = jscan_ws(p, end);
	while (end > p && jscan_ws(end - 1, end) == end)
		end--;
	bracket = p < end && *p == '[';
	if (bracket) {
		if (end[-1] != ']')
			return vx_err_set(err, -EINVAL, "the vector's ']' is missing");
		p = jscan_ws(p + 1, --end);
	}
	while (p < end) {
		if (dim == VX_DIM_MAX)
			return too_long_vector(err);
		int rc = arena_vec_reserve(a, dim + 1);
		if (rc)
			return vx_err_set(err, rc, "out of memory");
		const char *first = p;
		enum number_result nr = number_scan(p, end, true, &p, &a->vec[dim]);
		if (!nr && p < end && *p != ',' && jscan_ws(p, end) == p)
			nr = NUMBER_SYNTAX;
		if (nr)
			return bad_element(first, end, dim + 1, nr, err);
		dim++;
		p = jscan_ws(p, end);
		comma = p < end && *p == ',';
		p = jscan_ws(p + comma, end);
	}
	if (comma)
		return bad_element(end, end, dim + 1, NUMBER_SYNTAX, err);
	if (dim == 0)
		return vx_err_set(err, -EINVAL, "the vector is empty");
	*ret_vec = a->vec;
	*ret_dim = dim;
	return 0;
}

/* The text column of TSV: \t \n \r \\ stand for what cannot stand in a line. */
static int tsv_text(const char *p, size_t n, struct buf *out, struct vx_err *err)
{
	int rc = buf_reserve(out, n);
	if (rc)
		return vx_err_set(err, rc, "out of memory");
	char *to = (char *)out->data;
	for (size_t i = 0; i < n; i++) {
		char c = p[i];
		if (c == '\\' && i + 1 < n) {
			static const char from[] = "tnr\\", into[] = "\t\n\r\\";
			const char *at = memchr(from, p[i + 1], 4);
			if (at) {
				c = into[at - from];
				i++;
			}
		}
		*to++ = c;
	}
	out->len = (size_t)(to - (char *)out->data);
	if (!vx_utf8_valid((const char *)out->data, out->len))
		return vx_err_set(err, -EINVAL, "the text is not valid UTF-8");
	if (memchr(out->data, 0, out->len))
		return vx_err_set(err, -EINVAL, "the text has a NUL byte");
	return check_text(out->len, err);
}

/* The next column: up to a tab or the end.  Leaves *p behind the tab, or NULL at the end. */
static bool column(const char **p, const char *end, const char **ret, size_t *ret_n)
{
	if (!*p)
		return false;
	const char *tab = memchr(*p, '\t', (size_t)(end - *p));
	*ret = *p;
	*ret_n = (size_t)((tab ? tab : end) - *p);
	*p = tab ? tab + 1 : NULL;
	return true;
}

int parse_tsv_line(struct codec_arena *a, const char *p, size_t n, const struct codec_opts *opts,
	struct vx_record *ret, struct vx_err *err)
{
	const char *end = p + n, *col;
	const float *vec;
	size_t len;
	uint32_t dim = 0;
	bool has_text = false;
	int rc = 0;

	arena_reset(a);
	if (column(&p, end, &col, &len) && len)
		rc = buf_append(&a->id, col, len);
	if (rc)
		return vx_err_set(err, rc, "out of memory");
	if (!column(&p, end, &col, &len))
		return vx_err_set(err, -EINVAL, "no tab: a line is ID <tab> NUMBERS");
	if (len || !opts->want_any_object) {
		rc = codec_parse_vector(a, col, len, &vec, &dim, err);
		if (rc)
			return rc;
	}
	if (column(&p, end, &col, &len) && len) {
		struct json_scan s = {
			.start = col, .p = jscan_ws(col, col + len), .end = col + len, .err = err};
		struct json_value v;
		rc = jscan_cut(&s, false, &v);
		if (!rc)
			rc = jscan_end(&s);
		if (!rc && v.kind != JK_OBJECT && v.kind != JK_NULL)
			rc = vx_err_set(err, -EINVAL,
				"the third column is meta, a JSON object; all numbers of "
				"the vector are in the second, between commas or spaces");
		if (!rc)
			rc = meta_value(&v, &a->meta, err);
		if (rc)
			return rc;
	}
	if (column(&p, end, &col, &len) && len) {
		rc = tsv_text(col, len, &a->text, err);
		if (rc)
			return rc;
		has_text = true;
	}
	if (p)
		return vx_err_set(err, -EINVAL,
			"more than four columns; a tab inside the text is written \\t");
	return finish_record(a, opts, dim, has_text, ret, err);
}
