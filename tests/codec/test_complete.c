/* Beginnings of JSON: each is complete, may become a value, or never can. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "codec/codec.h"

static uint64_t rng;

static uint32_t below(uint32_t n)
{
	uint64_t z = rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)((z ^ z >> 31) % n);
}

static int seed(void **state)
{
	const char *s = getenv("SEED");

	(void)state;
	rng = s ? strtoull(s, NULL, 0) : (uint64_t)time(NULL);
	printf("SEED=%llu\n", (unsigned long long)rng);
	return 0;
}

/* From an exact-size copy, so that a read past the end is caught by the sanitizer. */
static int ask(const char *p, size_t n)
{
	char *copy = malloc(n ? n : 1);

	assert_non_null(copy);
	memcpy(copy, p, n);
	int rc = codec_json_complete(copy, n);
	free(copy);
	return rc;
}

static void expect(const char *s, int want)
{
	int got = ask(s, strlen(s));

	if (got != want)
		fail_msg("'%s': %d, not %d", s, got, want);
}

static void hopeless_beginnings_are_refused(void **state)
{
	static const char *const bad[] = {"{broken", "{}x", "[}", "{]", "[\"a\nb", "nan", "nul ",
		"NaN", "Infinity", "x", "]", "}", ",", ":", "{,", "{1", "{null", "{\"a\",",
		"{\"a\"}", "{\"a\":}", "{\"a\":,", "{\"a\":1,}", "{\"a\":1 \"b\"",
		"{\"a\":1:", "[,", "[1,]", "[1 2", "[1,,", "[1:", "[01", "[-]", "[-a", "[+1", "[.5",
		"[1.]", "[1.e", "[1e]", "[1e+]", "[1e+-", "[0x", "[\"\\x", "[\"\\u12g", "[\"\t",
		"'a'", "[tru]", "[nulL", "1 2", "0.1, ", "01", "--", "-a", "[\"\x80", "[\"\xc0",
		"[\"\xc1\x81", "[\"\xe0\x80", "[\"\xed\xa0", "[\"\xf0\x8f", "[\"\xf4\x90",
		"[\"\xf5", "[\"\xc3(", "\xef\xbb\xbf[", "[] []", "{} {"};

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(bad); i++)
		expect(bad[i], -EINVAL);
	assert_int_equal(ask("", 1), -EINVAL); /* a NUL */
	assert_int_equal(ask("[1\0", 3), -EINVAL);
	assert_int_equal(ask("[\"\\\0", 4), -EINVAL);
	assert_int_equal(ask("[]\0", 3), -EINVAL);
}

static void hopeful_beginnings_wait(void **state)
{
	static const char *const more[] = {"", " \r\n\t", "{", "[", "{\"", "{\"a", "{\"a\"",
		"{\"a\" :", "{\"a\":n", "[1", "[1,", "[-", "[1.", "[1e", "[1e-", "[0", "\"", "\"\\",
		"\"\\u", "\"\\u00", "tru", "[\"\xc3", "[\"\xf0\x9f\x98", "-", "1."};

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(more); i++)
		expect(more[i], 0);
}

static void a_bare_number_is_complete_with_white_space_behind_it(void **state)
{
	(void)state;
	expect("12", 0);
	expect("12\n", 1);
	expect("-0.5e+7 ", 1);
	expect("0", 0);
	expect("0 ", 1);
	expect("true", 1);
	expect("null\n", 1);
	expect("\"a\"", 1);
}

static void values_nest_to_the_limit(void **state)
{
	char text[2 * 513];

	(void)state;
	memset(text, '[', 513);
	memset(text + 513, ']', 513);
	assert_int_equal(ask(text, 512), 0);
	assert_int_equal(ask(text + 1, 2 * 512), 1);
	assert_int_equal(ask(text, 513), -EINVAL);
	/* A bit used once for an object is an array's the next time. */
	expect("[{\"a\":{}},[[[]]],{\"a\":[{}]}]", 1);
	expect("[{\"a\":{}},[[[}", -EINVAL);
}

/* --- random documents ------------------------------------------------------- */
static json_t *random_value(unsigned depth)
{
	static const char *const words[] = {
		"", "a]}", "\"\\\n", "\xc3\xa9\xe2\x82\xac", "\xf0\x9f\x98\x80", "{["};

	switch (below(depth < 4 ? 8 : 6)) {
	case 0:
		return json_null();
	case 1:
		return json_boolean(below(2));
	case 2:
		return json_integer((json_int_t)below(2000) - 1000);
	case 3:
		return json_real(((double)below(1u << 30) - 1e6) * 1e-20);
	case 4:
	case 5:
		return json_string(words[below(VX_ARRAY_SIZE(words))]);
	case 6: {
		json_t *a = json_array();
		for (uint32_t n = below(5); n; n--)
			assert_int_equal(json_array_append_new(a, random_value(depth + 1)), 0);
		return a;
	}
	default: {
		json_t *o = json_object();
		for (uint32_t n = below(5); n; n--) {
			char key[16];
			snprintf(key, sizeof key, "k\\%u", below(100));
			assert_int_equal(json_object_set_new(o, key, random_value(depth + 1)), 0);
		}
		return o;
	}
	}
}

static char *random_text(void)
{
	size_t how = JSON_ENCODE_ANY | (below(2) ? JSON_INDENT(2) : JSON_COMPACT) |
		     (below(2) ? JSON_ENSURE_ASCII : 0);
	json_t *j = random_value(0);
	char *text = json_dumps(j, how);

	assert_non_null(text);
	json_decref(j);
	return text;
}

static bool jansson_takes(const char *p, size_t n)
{
	json_t *j = json_loadb(p, n, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
	bool ok = j != NULL;

	json_decref(j);
	return ok;
}

static void beginnings_of_valid_documents_wait(void **state)
{
	(void)state;
	for (int round = 0; round < 2000; round++) {
		char *text = random_text();
		size_t n = strlen(text);
		bool bare = strchr("-0123456789", text[0]) != NULL;
		for (size_t i = 0; i < n; i++) {
			if (ask(text, i) != 0)
				fail_msg("%.*s of %s: %d", (int)i, text, text, ask(text, i));
		}
		assert_int_equal(ask(text, n), !bare);
		text[n] = '\n'; /* in place of the NUL */
		assert_int_equal(ask(text, n + 1), 1);
		free(text);
	}
}

/* What is refused stays refused, whatever comes: the rest of the text, or of another one. */
static void what_is_refused_has_no_valid_continuation(void **state)
{
	static const char dirt[] = "{}[]\",:\\ 0e.-n\n\x80\xc3xu";
	unsigned refused = 0, accepted = 0;

	(void)state;
	for (int round = 0; round < 4000; round++) {
		char *text = random_text(), *other = random_text();
		size_t n = strlen(text), m = strlen(other), at = 0;
		text[below((uint32_t)n)] = dirt[below(sizeof dirt - 1)];
		while (at < n && ask(text, at) >= 0)
			at++;
		bool bad = ask(text, at) < 0;
		bad ? refused++ : accepted++;
		char *all = malloc(n + m + 1);
		assert_non_null(all);
		memcpy(all, text, n);
		for (size_t i = at; bad && i <= n; i++) {
			assert_int_equal(ask(text, i), -EINVAL);
			if (jansson_takes(text, i))
				fail_msg("%.*s is JSON", (int)i, text);
		}
		for (size_t from = 0; bad && from < m; from++) {
			memcpy(all + at, other + from, m - from);
			if (jansson_takes(all, at + m - from))
				fail_msg("%.*s|%s is JSON", (int)at, all, other + from);
		}
		if (!bad && ask(text, n) == 0 && jansson_takes(text, n))
			assert_non_null(memchr("-0123456789", text[n - 1], 11));
		free(all);
		free(text);
		free(other);
	}
	assert_true(refused > 500 && accepted > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hopeless_beginnings_are_refused),
		cmocka_unit_test(hopeful_beginnings_wait),
		cmocka_unit_test(a_bare_number_is_complete_with_white_space_behind_it),
		cmocka_unit_test(values_nest_to_the_limit),
		cmocka_unit_test(beginnings_of_valid_documents_wait),
		cmocka_unit_test(what_is_refused_has_no_valid_continuation),
	};

	return cmocka_run_group_tests(tests, seed, NULL);
}
