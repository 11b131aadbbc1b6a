/* question.c - what may be asked, as text. */
#include "codec/question.h"

#include <string.h>

#include "codec/codec_i.h"

#define EF_MAX         1000000u
#define TIMEOUT_MS_MAX (24u * 3600 * 1000)

struct walk {
	struct codec_arena *a;
	struct question *q;
	unsigned seen;
	uint32_t dim;
	bool has_text;
};

enum key {
	K_VECTOR,
	K_ID,
	K_TEXT,
	K_K,
	K_EF,
	K_RECALL,
	K_EXACT,
	K_WITH,
	K_TIMEOUT,
	K_FORMAT,
	K_QUERY,
	K_COUNT
};

static const char *const key_names[K_COUNT] = {"vector", "id", "text", "k", "ef", "recall", "exact",
	"with", "timeout_ms", "format", "query"};
static const char *const later[] = {"filter", "consistency"};

static bool key_is(const char *key, size_t n, const char *name)
{
	return strlen(name) == n && !memcmp(key, name, n);
}

static int take_uint(struct json_scan *s, const char *name, uint32_t max, uint32_t *ret)
{
	struct json_value v;
	uint64_t n;
	int rc = jscan_cut(s, false, &v);

	if (rc)
		return rc;
	if (v.kind == JK_NUMBER)
		rc = number_uint(v.p, v.n, max, &n);
	if (v.kind != JK_NUMBER || rc || n == 0)
		return vx_err_set(
			s->err, -EINVAL, "\"%s\" must be a whole number from 1 to %u", name, max);
	*ret = (uint32_t)n;
	return 0;
}

static int take_word(struct json_scan *s, const char *name, struct json_value *ret)
{
	int rc = jscan_cut(s, false, ret);

	if (rc)
		return rc;
	if (ret->kind != JK_STRING)
		return vx_err_set(s->err, -EINVAL, "\"%s\" must be a string", name);
	return 0;
}

static bool word_is(const struct json_value *v, const char *word)
{
	return v->n == strlen(word) + 2 && !memcmp(v->p + 1, word, v->n - 2);
}

static int take_format(struct json_scan *s, enum answer_format *ret)
{
	static const struct {
		const char *name;
		enum answer_format f;
	} formats[] = {{"tsv", ANSWER_TSV}, {"json", ANSWER_JSON}, {"jsonl", ANSWER_JSONL},
		{"ids", ANSWER_IDS}};
	struct json_value v;
	int rc = take_word(s, "format", &v);

	if (rc)
		return rc;
	for (size_t i = 0; i < VX_ARRAY_SIZE(formats); i++) {
		if (word_is(&v, formats[i].name)) {
			*ret = formats[i].f;
			return 0;
		}
	}
	return vx_err_set(s->err, -EINVAL, "\"format\" must be tsv, json, jsonl or ids");
}

static int with_word(const struct json_value *v, unsigned *with, struct vx_err *err)
{
	if (word_is(v, "meta"))
		*with |= WITH_META;
	else if (word_is(v, "vector"))
		*with |= WITH_VECTOR;
	else if (word_is(v, "text"))
		*with |= WITH_TEXT;
	else
		return vx_err_set(err, -EINVAL, "\"with\" may name meta, vector and text");
	return 0;
}

/* A word or an array of words. */
static int take_with(struct json_scan *s, unsigned *with)
{
	struct json_value v;
	int rc;

	if (s->p == s->end || *s->p != '[') {
		rc = take_word(s, "with", &v);
		return rc ? rc : with_word(&v, with, s->err);
	}
	s->p = jscan_ws(s->p + 1, s->end);
	if (s->p < s->end && *s->p == ']') {
		s->p++;
		return 0;
	}
	for (;;) {
		rc = take_word(s, "with", &v);
		if (!rc)
			rc = with_word(&v, with, s->err);
		if (rc)
			return rc;
		s->p = jscan_ws(s->p, s->end);
		if (s->p == s->end || (*s->p != ',' && *s->p != ']'))
			return jscan_bad(s, "',' or ']' is missing in \"with\"");
		if (*s->p++ == ']')
			return 0;
		s->p = jscan_ws(s->p, s->end);
	}
}

static int take_text(struct walk *w, struct json_scan *s)
{
	struct json_value v;
	int rc = take_word(s, "text", &v);

	if (!rc)
		rc = jscan_string(&v, "text", &w->a->text, s->err);
	if (rc)
		return rc;
	if (w->a->text.len > VX_TEXT_MAX)
		return vx_err_set(s->err, -EMSGSIZE,
			"\"text\" has %zu bytes; at most %u are allowed", w->a->text.len,
			VX_TEXT_MAX);
	if (w->a->text.len == 0)
		return vx_err_set(s->err, -EINVAL, "\"text\" is empty");
	return 0;
}

static int take_exact(struct json_scan *s, int *ret)
{
	struct json_value v;
	int rc = jscan_cut(s, false, &v);

	if (rc)
		return rc;
	if (v.kind != JK_TRUE && v.kind != JK_FALSE)
		return vx_err_set(s->err, -EINVAL, "\"exact\" must be true or false");
	*ret = v.kind == JK_TRUE;
	return 0;
}

static int take_recall(struct json_scan *s, float *ret)
{
	struct json_value v;
	int rc = jscan_cut(s, false, &v);

	if (rc)
		return rc;
	if (v.kind == JK_STRING)
		return vx_recall_parse(v.p + 1, v.n - 2, ret, s->err);
	if (v.kind != JK_NUMBER)
		return vx_err_set(s->err, -EINVAL,
			"\"recall\" must be a number from 0.5 to 0.999, or \"exact\"");
	return vx_recall_parse(v.p, v.n, ret, s->err);
}

static int unknown_key(struct json_scan *s, const char *key, size_t n)
{
	for (size_t i = 0; i < VX_ARRAY_SIZE(later); i++) {
		if (key_is(key, n, later[i]))
			return vx_err_set(
				s->err, -EOPNOTSUPP, "\"%s\" is not supported yet", later[i]);
	}
	n = VX_MIN(n, (size_t)60);
	while (n > 0 && !vx_utf8_valid(key, n))
		n--;
	return vx_err_set(s->err, -EINVAL,
		"unknown key \"%.*s\" in a question; known are vector, id, text, k, ef, recall, "
		"exact, "
		"with, "
		"timeout_ms, format, query",
		(int)n, key);
}

static int member(void *ctx, struct json_scan *s, const char *key, size_t n)
{
	struct walk *w = ctx;
	unsigned k = 0;
	int rc;

	while (k < K_COUNT && !key_is(key, n, key_names[k]))
		k++;
	if (k == K_COUNT)
		return unknown_key(s, key, n);
	if (w->seen & 1u << k)
		return vx_err_set(s->err, -EINVAL, "the key \"%s\" appears twice", key_names[k]);
	w->seen |= 1u << k;
	switch ((enum key)k) {
	case K_VECTOR:
		rc = parse_vector_value(w->a, s, &w->dim);
		if (!rc && w->dim == 0)
			rc = vx_err_set(s->err, -EINVAL, "\"vector\" is null");
		return rc;
	case K_ID:
		rc = parse_id_value(s, "id", &w->a->id);
		return rc ? rc : vx_id_check((const char *)w->a->id.data, w->a->id.len, s->err);
	case K_TEXT:
		return take_text(w, s);
	case K_K:
		return take_uint(s, "k", VX_K_MAX, &w->q->k);
	case K_EF:
		return take_uint(s, "ef", EF_MAX, &w->q->ef);
	case K_RECALL:
		return take_recall(s, &w->q->recall);
	case K_EXACT:
		return take_exact(s, &w->q->exact);
	case K_WITH:
		return take_with(s, &w->q->with);
	case K_TIMEOUT:
		return take_uint(s, "timeout_ms", TIMEOUT_MS_MAX, &w->q->timeout_ms);
	case K_FORMAT:
		return take_format(s, &w->q->format);
	case K_QUERY:
		rc = parse_id_value(s, "query", &w->a->name);
		return rc ? rc : vx_id_check((const char *)w->a->name.data, w->a->name.len, s->err);
	case K_COUNT:
		break;
	}
	return -EINVAL;
}

static int parse_object(struct walk *w, struct json_scan *s, struct question *q)
{
	int rc = jscan_object(s, &w->a->key, member, w);

	if (rc)
		return rc;
	unsigned asked = w->seen & (1u << K_VECTOR | 1u << K_ID | 1u << K_TEXT);
	if (asked == 0)
		return vx_err_set(s->err, -EINVAL,
			"the question asks for nothing: it needs \"vector\", \"id\" or \"text\"");
	if (asked & (asked - 1))
		return vx_err_set(s->err, -EINVAL,
			"the question has more than one of \"vector\", \"id\" and \"text\"");
	if (q->ef && q->recall > 0)
		return vx_err_set(s->err, -EINVAL,
			"the question has \"ef\" and \"recall\": one says how hard to search, the "
			"other "
			"what to reach");
	if (q->exact == 1 && q->recall > 0 && q->recall < VX_RECALL_EXACT)
		return vx_err_set(s->err, -EINVAL,
			"the question is \"exact\" and has a \"recall\" that is less");
	if (asked == 1u << K_VECTOR) {
		q->vec = w->a->vec;
		q->dim = w->dim;
	} else if (asked == 1u << K_ID) {
		q->id = (const char *)w->a->id.data;
		q->id_len = w->a->id.len;
	} else {
		q->text = (const char *)w->a->text.data;
		q->text_len = w->a->text.len;
	}
	if (w->seen & 1u << K_QUERY) {
		q->name = (const char *)w->a->name.data;
		q->name_len = w->a->name.len;
	}
	return 0;
}

int question_parse(
	struct codec_arena *a, const char *p, size_t n, struct question *ret, struct vx_err *err)
{
	struct question q = {.exact = -1};
	struct json_scan s = {.start = p, .p = jscan_ws(p, p + n), .end = p + n, .err = err};
	struct walk w = {.a = a, .q = &q};
	int rc;

	a->id.len = a->text.len = a->name.len = 0;
	if (s.p == s.end)
		return vx_err_set(err, -EINVAL, "the question is empty");
	if (*s.p == '{') {
		rc = parse_object(&w, &s, &q);
	} else if (*s.p == '[') {
		rc = parse_array(a, &s, &q.dim);
		if (!rc)
			rc = jscan_end(&s);
		q.vec = a->vec;
	} else {
		rc = codec_parse_vector(a, p, n, &q.vec, &q.dim, err);
	}
	if (rc)
		return rc;
	*ret = q;
	return 0;
}

/* Characters that text has, and a start that a question has. */
static bool looks_like_text(const char *p, size_t n)
{
	const char *first = jscan_ws(p, p + n);

	if (first == p + n || !strchr("{[+-.0123456789", *first) || *first == 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];
		if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7f)
			return false;
	}
	return vx_utf8_valid(p, n);
}

enum question_kind question_kind_of(const void *p, size_t n, uint32_t dim)
{
	const char *text = p, *end = text + n;

	if (dim && n == (size_t)dim * 4 && !looks_like_text(p, n))
		return QUESTION_RAW;
	text = jscan_ws(text, end);
	const char *nl = text < end ? memchr(text, '\n', (size_t)(end - text)) : NULL;
	/* Bare numbers are one vector however many lines they take. */
	if (nl && (*text == '{' || *text == '[') && jscan_ws(nl, end) != end &&
		codec_json_complete(text, (size_t)(nl - text)) == 1)
		return QUESTION_LINES;
	return QUESTION_TEXT;
}
