/* json.c - cutting JSON text into values without building a tree.
 *
 * A record is one object of four known members, most of whose bytes are the numbers of its vector.  So
 * the outer object is walked here: keys are compared in place, a vector's numbers are scanned where
 * they stand (parse.c), and every other value is cut out as a slice of the text.  What a slice holds is
 * jansson's business: meta objects, unknown members and strings with escapes are checked and decoded
 * by it, so that there is one opinion on what JSON is.  The fuzz target fuzz_codec_record holds this
 * walk against jansson on the whole text.
 */
#include "codec/codec_i.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int jscan_bad(struct json_scan *s, const char *what)
{
	return vx_err_set(s->err, -EINVAL, "not valid JSON at byte %zu: %s",
		(size_t)(s->p - s->start) + 1, what);
}

/* Bytes of a string that need a second look. */
static inline bool plain(char c)
{
	return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

static int cut_string(struct json_scan *s, struct json_value *ret)
{
	const char *p = s->p + 1;
	bool escapes = false;

	for (;;) {
		while (p < s->end && plain(*p))
			p++;
		if (p == s->end) {
			s->p = p;
			return jscan_bad(s, "a string is not closed");
		}
		if (*p == '"')
			break;
		if (*p != '\\') {
			s->p = p;
			return jscan_bad(s, "a control character in a string");
		}
		escapes = true;
		p += s->end - p > 1 ? 2 : 1;
	}
	p++;
	*ret = (struct json_value){
		.kind = JK_STRING, .p = s->p, .n = (size_t)(p - s->p), .has_escapes = escapes};
	if (!vx_utf8_valid(s->p, ret->n))
		return jscan_bad(s, "a string is not valid UTF-8");
	s->p = p;
	return 0;
}

/* The extent of an object or array: brackets that match, strings skipped. */
static int cut_nested(struct json_scan *s, struct json_value *ret)
{
	const char *first = s->p;
	bool object[CODEC_JSON_DEPTH_MAX];
	size_t depth = 0;
	struct json_value ignored;

	while (s->p < s->end) {
		char c = *s->p;
		if (c == '"') {
			int rc = cut_string(s, &ignored);
			if (rc)
				return rc;
			continue;
		}
		if (c == '{' || c == '[') {
			if (depth == CODEC_JSON_DEPTH_MAX)
				return jscan_bad(s, "values are nested too deeply");
			object[depth++] = c == '{';
		} else if (c == '}' || c == ']') {
			if (object[depth - 1] != (c == '}'))
				return jscan_bad(s, "brackets do not match");
			depth--;
		} else if ((unsigned char)c < 0x20 && jscan_ws(s->p, s->p + 1) == s->p) {
			/* jansson takes a NUL after a number for nothing at all. */
			return jscan_bad(s, "a control character between values");
		}
		s->p++;
		if (depth == 0) {
			ret->kind = *first == '{' ? JK_OBJECT : JK_ARRAY;
			ret->p = first;
			ret->n = (size_t)(s->p - first);
			ret->has_escapes = false;
			return 0;
		}
	}
	return jscan_bad(s, "the text ends inside a value");
}

static bool literal(struct json_scan *s, const char *word, enum json_kind k, struct json_value *ret)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return false;
	*ret = (struct json_value){.kind = k, .p = s->p, .n = n};
	s->p += n;
	return true;
}

int jscan_cut(struct json_scan *s, bool lazy_array, struct json_value *ret)
{
	if (s->p == s->end)
		return jscan_bad(s, "a value is missing");
	switch (*s->p) {
	case '"':
		return cut_string(s, ret);
	case '[':
		if (lazy_array) {
			*ret = (struct json_value){.kind = JK_ARRAY, .p = s->p, .n = 1};
			return 0;
		}
		return cut_nested(s, ret);
	case '{':
		return cut_nested(s, ret);
	default:
		break;
	}
	if (literal(s, "null", JK_NULL, ret) || literal(s, "true", JK_TRUE, ret) ||
		literal(s, "false", JK_FALSE, ret))
		return 0;
	const char *next;
	float ignored;
	enum number_result nr = number_scan(s->p, s->end, false, &next, &ignored);
	if (nr == NUMBER_NOMEM)
		return vx_err_set(s->err, -ENOMEM, "out of memory");
	if (nr == NUMBER_SYNTAX)
		return jscan_bad(s, "no value starts here");
	*ret = (struct json_value){.kind = JK_NUMBER, .p = s->p, .n = (size_t)(next - s->p)};
	s->p = next;
	return 0;
}

/* jansson's complaint quotes the text and may cut a character in two. */
static int jansson_said(struct vx_err *err, const char *name, const json_error_t *je)
{
	size_t n = strlen(je->text);

	while (n > 0 && !vx_utf8_valid(je->text, n))
		n--;
	return vx_err_set(err, -EINVAL, "\"%s\" is not valid JSON: %.*s (at its byte %d)", name,
		(int)n, je->text, je->position);
}

int jscan_validate(const struct json_value *v, const char *name, struct vx_err *err)
{
	json_error_t je;
	json_t *j = json_loadb(v->p, v->n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);

	if (!j)
		return jansson_said(err, name, &je);
	json_decref(j);
	return 0;
}

int jscan_string(const struct json_value *v, const char *name, struct buf *out, struct vx_err *err)
{
	if (!v->has_escapes) {
		if (buf_append(out, v->p + 1, v->n - 2))
			return vx_err_set(err, -ENOMEM, "out of memory");
		return 0;
	}
	json_error_t je;
	json_t *j = json_loadb(v->p, v->n, JSON_DECODE_ANY, &je);
	if (!j)
		return jansson_said(err, name, &je);
	int rc = buf_append(out, json_string_value(j), json_string_length(j));
	json_decref(j);
	return rc ? vx_err_set(err, rc, "out of memory") : 0;
}

int jscan_compact(const struct json_value *v, struct buf *out)
{
	int rc = buf_reserve(out, v->n);
	if (rc)
		return rc;
	char *to = (char *)out->data + out->len;
	bool in_string = false;
	for (size_t i = 0; i < v->n; i++) {
		char c = v->p[i];
		if (in_string) {
			*to++ = c;
			if (c == '\\')
				*to++ = v->p[++i]; /* the cut made sure of it */
			else if (c == '"')
				in_string = false;
			continue;
		}
		if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
			continue;
		in_string = c == '"';
		*to++ = c;
	}
	out->len = (size_t)(to - (char *)out->data);
	return 0;
}

int jscan_end(struct json_scan *s)
{
	s->p = jscan_ws(s->p, s->end);
	if (s->p < s->end)
		return jscan_bad(s, "something follows the end of the value");
	return 0;
}

/* The key at s->p as text: in place, or unescaped into 'scratch'. */
static int cut_key(struct json_scan *s, struct buf *scratch, const char **ret, size_t *ret_n)
{
	struct json_value v;

	if (s->p == s->end || *s->p != '"')
		return jscan_bad(s, "a key in quotes is missing");
	int rc = cut_string(s, &v);
	if (rc)
		return rc;
	*ret = v.p + 1;
	*ret_n = v.n - 2;
	if (!v.has_escapes)
		return 0;
	scratch->len = 0;
	rc = jscan_string(&v, "a key", scratch, s->err);
	if (rc)
		return rc;
	*ret = (const char *)scratch->data;
	*ret_n = scratch->len;
	return 0;
}

int jscan_object(struct json_scan *s, struct buf *key_scratch, json_member_fn *each, void *ctx)
{
	const char *key = NULL;
	size_t key_len = 0;

	s->p = jscan_ws(s->p + 1, s->end);
	if (s->p < s->end && *s->p == '}') {
		s->p++;
		return jscan_end(s);
	}
	for (;;) {
		int rc = cut_key(s, key_scratch, &key, &key_len);
		if (rc)
			return rc;
		s->p = jscan_ws(s->p, s->end);
		if (s->p == s->end || *s->p != ':')
			return jscan_bad(s, "':' is missing after a key");
		s->p = jscan_ws(s->p + 1, s->end);
		rc = each(ctx, s, key, key_len);
		if (rc)
			return rc;
		s->p = jscan_ws(s->p, s->end);
		if (s->p == s->end)
			return jscan_bad(s, "the object is not closed");
		if (*s->p == '}') {
			s->p++;
			return jscan_end(s);
		}
		if (*s->p != ',')
			return jscan_bad(s, "',' or '}' is missing after a value");
		s->p = jscan_ws(s->p + 1, s->end);
	}
}
