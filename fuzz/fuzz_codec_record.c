/* Fuzzes the record parser and holds it against jansson on the whole text: both accept or both refuse,
 * and the numbers, id, meta and text are the same.  What is accepted must survive printing and parsing
 * again, byte for byte.  No beginning of a text is called hopeless that jansson takes when something is
 * put behind it. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* jansson's value of an array element; integers come as reals, so that "-0" keeps its sign. */
static bool oracle_vector(const json_t *v, const struct vx_record *r, bool accepted)
{
	size_t n = json_array_size(v);

	if (n == 0 || n > VX_DIM_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		const json_t *e = json_array_get(v, i);
		float f = (float)json_number_value(e);
		if (!json_is_number(e) || !isfinite(f))
			return false;
		if (accepted && i < r->dim)
			must(!memcmp(&f, &r->vec[i], sizeof f));
	}
	if (accepted)
		must(n == r->dim);
	return true;
}

static bool is_integer(const json_t *v)
{
	return json_is_real(v) || json_is_integer(v);
}

/* Whether jansson's tree is a record; compares what can be compared. */
static bool oracle(const json_t *j, const struct vx_record *r, bool accepted, bool *ret_unsure)
{
	const char *key;
	json_t *v;

	if (json_is_array(j))
		return oracle_vector(j, r, accepted);
	if (!json_is_object(j) || !json_object_get(j, "vector"))
		return false;
	json_object_foreach((json_t *)(uintptr_t)j, key, v)
	{
		if (!strcmp(key, "vector")) {
			if (json_is_string(v))
				*ret_unsure = true; /* base64 has its own checks */
			else if (!oracle_vector(v, r, accepted))
				return false;
		} else if (!strcmp(key, "id")) {
			if (is_integer(v)) {
				*ret_unsure = true; /* 1.0 or 1: not told apart here */
				continue;
			}
			if (json_is_null(v))
				continue;
			if (!json_is_string(v) || json_string_length(v) == 0 ||
				vx_id_check(json_string_value(v), json_string_length(v), NULL))
				return false;
			if (accepted)
				must(r->id_len == json_string_length(v) &&
					!memcmp(r->id, json_string_value(v), r->id_len));
		} else if (!strcmp(key, "meta")) {
			if (!json_is_object(v) && !json_is_null(v))
				return false;
			if (accepted && json_is_object(v)) {
				json_t *again = json_loadb(
					r->meta, r->meta_len, JSON_DECODE_INT_AS_REAL, NULL);
				must(again && json_equal(again, v));
				json_decref(again);
			}
		} else if (!strcmp(key, "text")) {
			if (!json_is_string(v) && !json_is_null(v))
				return false;
			if (accepted && json_is_string(v))
				must(r->text_len == json_string_length(v) &&
					!memcmp(r->text, json_string_value(v), r->text_len));
		} else {
			return false;
		}
	}
	return true;
}

/* Integers that jansson cannot hold are refused inside meta alone. */
static bool has_long_digits(const uint8_t *p, size_t n)
{
	size_t run = 0;

	for (size_t i = 0; i < n; i++) {
		run = p[i] >= '0' && p[i] <= '9' ? run + 1 : 0;
		if (run >= 18)
			return true;
	}
	return false;
}

static size_t deepest(const uint8_t *p, size_t n)
{
	size_t depth = 0, most = 0;

	for (size_t i = 0; i < n; i++) {
		depth += p[i] == '[' || p[i] == '{';
		depth -= depth && (p[i] == ']' || p[i] == '}');
		most = VX_MAX(most, depth);
	}
	return most;
}

static void print_and_parse_again(const struct vx_record *r)
{
	struct codec_arena *b = codec_arena_new();
	struct buf once = BUF_INIT, twice = BUF_INIT;
	struct vx_record again;

	must(b != NULL);
	must(codec_print_record(&once, r) == 0);
	must(codec_json_complete((const char *)once.data, once.len) == 1);
	must(codec_parse_record(b, (const char *)once.data, once.len, NULL, &again, NULL) == 0);
	must(codec_print_record(&twice, &again) == 0);
	must(once.len == twice.len && !memcmp(once.data, twice.data, once.len));
	must(again.dim == r->dim && !memcmp(again.vec, r->vec, r->dim * sizeof(float)));
	buf_release(&once);
	buf_release(&twice);
	codec_arena_free(b);
}

/* Numbers are scanned in eights where enough bytes follow, and one by one near the end of a text.  Blanks
 * behind it bring every number into the first case: nothing may change. */
static void the_same_before_blanks(const char *p, size_t n, int rc, const struct vx_record *r)
{
	struct codec_arena *b = codec_arena_new();
	char *more = malloc(n + 32);
	struct vx_record padded;

	must(b && more);
	memcpy(more, p, n);
	memset(more + n, ' ', 32);
	must(codec_parse_record(b, more, n + 32, NULL, &padded, NULL) == rc);
	if (rc == 0)
		must(padded.dim == r->dim && !memcmp(padded.vec, r->vec, r->dim * sizeof(float)));
	free(more);
	codec_arena_free(b);
}

/* Each of these makes a value of some beginning that needs one more token. */
static const char *const tails[] = {"", " ", "\"", "\"}", "\":0}", "\":0}]", "0", "0]", "0}", ":0}",
	"]", "}", "]}", "}]", "]]", "e", "l", "ll", "rue", "0\"", "00\"", "000\"", "0000\"",
	"\x80\"", "\xbf\xbf\"", "\x80\x80\x80\"", "n\"", "\\\"]"};

/* The answers for all beginnings of a text agree with each other and with jansson. */
static void prefixes(const char *p, size_t n)
{
	char text[256 + 16];
	int last = 0;

	n = VX_MIN(n, (size_t)256); /* the work is quadratic */
	for (size_t i = 0; i <= n; i++) {
		int rc = codec_json_complete(p, i);
		must(rc == 0 || rc == 1 || rc == -EINVAL);
		must(last >= 0 || rc < 0); /* ruled out once, ruled out for ever */
		must(last <= 0 || rc < 0 || strchr(" \t\r\n", p[i - 1]));
		last = rc;
		if (memchr(p, 0, i)) {
			must(rc < 0);
			continue;
		}
		json_t *j = json_loadb(p, i, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
		must(!j || rc == 1 || (rc == 0 && json_is_number(j)));
		json_decref(j);
		for (size_t t = 0; rc < 0 && t < VX_ARRAY_SIZE(tails); t++) {
			size_t len = strlen(tails[t]);
			memcpy(text, p, i);
			memcpy(text + i, tails[t], len);
			j = json_loadb(
				text, i + len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
			must(!j);
		}
		if (rc < 0)
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct codec_arena *a = codec_arena_new();
	char *copy = malloc(size ? size : 1);
	struct vx_record r = {0};
	struct vx_err err = VX_ERR_INIT;
	bool unsure = false;

	must(a && copy);
	memcpy(copy, data, size);
	(void)codec_json_complete(copy, size);
	prefixes(copy, size);
	int rc = codec_parse_record(a, copy, size, NULL, &r, &err);
	must(rc != 0 || codec_json_complete(copy, size) == 1);
	must(rc == 0 || (err.code == rc && err.msg[0] && vx_utf8_valid(err.msg, strlen(err.msg))));
	json_t *j = json_loadb(copy, size, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
	/* jansson takes a NUL after a number for nothing at all. */
	bool good = j && !memchr(copy, 0, size) && oracle(j, &r, rc == 0, &unsure);
	if (rc == 0)
		must(good);
	else if (good && !unsure)
		must(has_long_digits(data, size) || deepest(data, size) > 500 || rc == -EMSGSIZE);
	json_decref(j);
	the_same_before_blanks(copy, size, rc, &r);
	if (rc == 0)
		print_and_parse_again(&r);
	const float *v;
	uint32_t dim;
	(void)!codec_parse_vector(a, copy, size, &v, &dim, &err);
	free(copy);
	codec_arena_free(a);
	return 0;
}
