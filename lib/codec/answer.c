/* answer.c - what was found, as text. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codec/codec_i.h"

enum answer_format answer_format_of(const char *file_name, size_t *ret_stem_len)
{
	static const struct {
		const char *suffix;
		enum answer_format f;
	} known[] = {{".json", ANSWER_JSON}, {".jsonl", ANSWER_JSONL}, {".tsv", ANSWER_TSV},
		{".ids", ANSWER_IDS}};
	size_t n = strlen(file_name);

	for (size_t i = 0; i < VX_ARRAY_SIZE(known); i++) {
		size_t m = strlen(known[i].suffix);
		if (n > m && !strcmp(file_name + n - m, known[i].suffix)) {
			*ret_stem_len = n - m;
			return known[i].f;
		}
	}
	*ret_stem_len = n;
	return ANSWER_DEFAULT;
}

static int put(struct buf *out, const char *s)
{
	return buf_append(out, s, strlen(s));
}

static int put_number(struct buf *out, float v)
{
	char text[24];

	return buf_append(out, text, codec_print_float(text, v));
}

static int put_uint(struct buf *out, uint64_t v)
{
	char digits[20], *p = digits + sizeof digits;

	for (;; v /= 10) {
		*--p = (char)('0' + v % 10);
		if (v < 10)
			break;
	}
	return buf_append(out, p, (size_t)(digits + sizeof digits - p));
}

static int put_name(struct buf *out, const struct answer *a, bool json)
{
	if (!a->name)
		return put_uint(out, a->number);
	return json ? codec_print_string(out, a->name, a->name_len)
		    : buf_append(out, a->name, a->name_len);
}

static int print_tsv(struct buf *out, const struct answer *a)
{
	for (size_t i = 0; i < a->n_hits; i++) {
		const struct answer_hit *h = &a->hits[i];
		int rc = put_name(out, a, false);
		if (!rc)
			rc = put(out, "\t");
		if (!rc)
			rc = put_uint(out, i + 1);
		if (!rc)
			rc = put(out, "\t");
		if (!rc)
			rc = buf_append(out, h->id, h->id_len);
		if (!rc)
			rc = put(out, "\t");
		if (!rc)
			rc = put_number(out, h->distance);
		if (!rc)
			rc = put(out, "\n");
		if (rc)
			return rc;
	}
	return 0;
}

static int print_ids(struct buf *out, const struct answer *a)
{
	for (size_t i = 0; i < a->n_hits; i++) {
		int rc = buf_append(out, a->hits[i].id, a->hits[i].id_len);
		if (!rc)
			rc = put(out, "\n");
		if (rc)
			return rc;
	}
	return 0;
}

/* "rank":1,"id":"a","distance":0.5[,"vector":..][,"meta":..][,"text":..] */
static int print_hit(struct buf *out, const struct answer_hit *h, size_t rank)
{
	int rc = put(out, "\"rank\":");

	if (!rc)
		rc = put_uint(out, rank);
	if (!rc)
		rc = put(out, ",\"id\":");
	if (!rc)
		rc = codec_print_string(out, h->id, h->id_len);
	if (!rc)
		rc = put(out, ",\"distance\":");
	if (!rc)
		rc = put_number(out, h->distance);
	if (!rc && h->vec) {
		rc = put(out, ",\"vector\":");
		if (!rc)
			rc = codec_print_vector(out, h->vec, h->dim);
	}
	if (!rc && h->meta && h->meta_len) {
		rc = put(out, ",\"meta\":");
		if (!rc)
			rc = buf_append(out, h->meta, h->meta_len);
	}
	if (!rc && h->text) {
		rc = put(out, ",\"text\":");
		if (!rc)
			rc = codec_print_string(out, h->text, h->text_len);
	}
	return rc;
}

/* What an answer lacks is said, never silent. */
static int print_flags(struct buf *out, const struct answer *a)
{
	int rc = 0;

	if (a->n_hits < a->k_asked)
		rc = put(out, ",\"fewer\":true");
	if (!rc && a->timed_out)
		rc = put(out, ",\"timed_out\":true");
	if (!rc && a->damaged) {
		char n[40];
		snprintf(n, sizeof n, ",\"damaged\":%u", a->damaged);
		rc = put(out, n);
	}
	return rc;
}

static int print_jsonl(struct buf *out, const struct answer *a)
{
	for (size_t i = 0; i < a->n_hits; i++) {
		int rc = put(out, "{\"query\":");
		if (!rc)
			rc = put_name(out, a, true);
		if (!rc)
			rc = put(out, ",");
		if (!rc)
			rc = print_hit(out, &a->hits[i], i + 1);
		if (!rc && i + 1 == a->n_hits)
			rc = print_flags(out, a);
		if (!rc)
			rc = put(out, "}\n");
		if (rc)
			return rc;
	}
	return 0;
}

static int print_json(struct buf *out, const struct answer *a)
{
	int rc = put(out, "{\"query\":");

	if (!rc)
		rc = put_name(out, a, true);
	if (!rc)
		rc = put(out, ",\"hits\":[");
	for (size_t i = 0; !rc && i < a->n_hits; i++) {
		rc = put(out, i ? ",{" : "{");
		if (!rc)
			rc = print_hit(out, &a->hits[i], i + 1);
		if (!rc)
			rc = put(out, "}");
	}
	if (!rc)
		rc = put(out, "]");
	if (!rc)
		rc = print_flags(out, a);
	return rc ? rc : put(out, "}\n");
}

int answer_print(struct buf *out, enum answer_format f, const struct answer *a)
{
	size_t before = out->len;
	int rc;

	switch (f) {
	case ANSWER_JSON:
		rc = print_json(out, a);
		break;
	case ANSWER_JSONL:
		rc = print_jsonl(out, a);
		break;
	case ANSWER_IDS:
		rc = print_ids(out, a);
		break;
	default:
		rc = print_tsv(out, a);
		break;
	}
	if (rc)
		out->len = before;
	return rc;
}
