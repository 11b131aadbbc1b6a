/* One record of text: what is taken, what is refused and with which words. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codec.h"

static struct codec_arena *arena;

static int make_arena(void **state)
{
	(void)state;
	arena = codec_arena_new();
	return arena ? 0 : -1;
}

static int drop_arena(void **state)
{
	(void)state;
	codec_arena_free(arena);
	return 0;
}

/* Parses from an exact-size copy, so that a read past the end is caught by the sanitizer. */
static int parse(
	const char *s, const struct codec_opts *o, struct vx_record *ret, struct vx_err *err)
{
	size_t n = strlen(s);
	char *copy = malloc(n ? n : 1);

	assert_non_null(copy);
	memcpy(copy, s, n);
	int rc = codec_parse_record(arena, copy, n, o, ret, err);
	free(copy);
	return rc;
}

static void canonical(const char *in, const char *want)
{
	struct vx_record r;
	struct vx_err err = VX_ERR_INIT;
	struct buf b = BUF_INIT;

	if (parse(in, NULL, &r, &err))
		fail_msg("%s: %s", in, err.msg);
	assert_int_equal(codec_print_record(&b, &r), 0);
	assert_int_equal(buf_cstr(&b), 0);
	if (strcmp((char *)b.data, want) != 0)
		fail_msg("%s becomes %s", in, (char *)b.data);
	buf_release(&b);
}

static void records_have_a_canonical_rendering(void **state)
{
	(void)state;
	canonical("[1, 2.50 ,-3e0]", "{\"vector\":[1,2.5,-3]}\n");
	canonical("{\"vector\":[0.1],\"id\":\"a\"}", "{\"id\":\"a\",\"vector\":[0.1]}\n");
	canonical(" { \"id\" : 17 , \"vector\" : [ 1 , 2 ] } \r\n",
		"{\"id\":\"17\",\"vector\":[1,2]}\n");
	canonical("{\"id\":-5,\"vector\":[1]}", "{\"id\":\"-5\",\"vector\":[1]}\n");
	canonical("{\"text\":\"a\\u00e9\\n\\\"\\\\\\/\\ud83d\\ude00\",\"vector\":[1]}",
		"{\"vector\":[1],\"text\":\"a\xc3\xa9\\n\\\"\\\\/\xf0\x9f\x98\x80\"}\n");
	canonical("{\"vector\":[1],\"meta\":{ \"b\" : 1.10, \"a\" : [ \"x y\\\" z\" , null ] }}",
		"{\"vector\":[1],\"meta\":{\"b\":1.10,\"a\":[\"x y\\\" z\",null]}}\n");
	canonical("{\"vector\":\"AACAPwAAAEAAAEDA\"}", "{\"vector\":[1,2,-3]}\n");
	canonical("{\"vector\":\"AACAPw==\"}", "{\"vector\":[1]}\n");
	canonical("{\"vector\":\"AACAPw\"}", "{\"vector\":[1]}\n");
	canonical("{\"id\":\"a\",\"vector\":[1],\"meta\":null,\"text\":null}",
		"{\"id\":\"a\",\"vector\":[1]}\n");
	canonical("{\"vector\":[1],\"text\":\"\"}", "{\"vector\":[1],\"text\":\"\"}\n");
	canonical("{\"\\u0069d\":\"k\",\"vector\":[1]}", "{\"id\":\"k\",\"vector\":[1]}\n");
	canonical("{\"vector\":[1],\"meta\":{}}", "{\"vector\":[1],\"meta\":{}}\n");
}

static void refused(const char *in, const struct codec_opts *o, int want, const char *reason)
{
	struct vx_record r;
	struct vx_err err = VX_ERR_INIT;
	int rc = parse(in, o, &r, &err);

	if (rc != want || err.code != rc || !strstr(err.msg, reason))
		fail_msg("%s: %d '%s', not '%s'", in, rc, err.msg, reason);
	if (!vx_utf8_valid(err.msg, strlen(err.msg)))
		fail_msg("the reason is not UTF-8");
}

static void refusals_say_why(void **state)
{
	const struct codec_opts dim4 = {.dim = 4, .id_optional = true};
	const struct codec_opts need_id = {0};

	(void)state;
	refused("[1,2,3]", &dim4, -EINVAL,
		"the vector has 3 numbers; this collection has dimension 4");
	refused("[1]", &need_id, -EINVAL, "no id");
	refused("{\"id\":null,\"vector\":[1]}", &need_id, -EINVAL, "no id");
	refused("", NULL, -EINVAL, "empty");
	refused("12", NULL, -EINVAL, "starts with neither");
	refused("[]", NULL, -EINVAL, "the vector is empty");
	refused("{}", NULL, -EINVAL, "no vector");
	refused("{\"vector\":null}", NULL, -EINVAL, "no vector");
	refused("[1,NaN]", NULL, -EINVAL, "element 2");
	refused("[1,null]", NULL, -EINVAL, "null");
	refused("[1e39]", NULL, -EINVAL, "not finite in float32");
	refused("[1,]", NULL, -EINVAL, "number 2 of the vector is missing");
	refused("[1 2]", NULL, -EINVAL, "not valid JSON");
	refused("[1", NULL, -EINVAL, "not closed");
	refused("[1]]", NULL, -EINVAL, "follows the end");
	refused("[01]", NULL, -EINVAL, "element 1");
	refused("[[1]]", NULL, -EINVAL, "element 1");
	refused("[\xc3\xa9]", NULL, -EINVAL, "element 1");
	refused("{\"vector\":[1],\"colour\":1}", NULL, -EINVAL, "unknown key \"colour\"");
	refused("{\"vector\":[1],\"vector\":[2]}", NULL, -EINVAL, "twice");
	refused("{\"vector\":[1],\"meta\":[1]}", NULL, -EINVAL, "object");
	refused("{\"vector\":[1],\"meta\":{\"a\":1,\"a\":2}}", NULL, -EINVAL, "duplicate");
	refused("{\"vector\":[1],\"meta\":{\"a\":tru}}", NULL, -EINVAL, "meta");
	refused("{\"vector\":[1],\"meta\":{\"a\":[1}}", NULL, -EINVAL, "brackets");
	refused("{\"vector\":[1],\"text\":5}", NULL, -EINVAL, "text");
	refused("{\"vector\":[1],\"text\":\"\\u0000\"}", NULL, -EINVAL, "text");
	refused("{\"vector\":[1],\"text\":\"\\ud800\"}", NULL, -EINVAL, "text");
	refused("{\"vector\":[1],\"text\":\"\xff\"}", NULL, -EINVAL, "UTF-8");
	refused("{\"vector\":[1],\"text\":\"a\nb\"}", NULL, -EINVAL, "control");
	refused("{\"vector\":[1],\"id\":1.5}", NULL, -EINVAL, "string or an integer");
	refused("{\"vector\":[1],\"id\":\"\"}", NULL, -EINVAL, "empty");
	refused("{\"vector\":[1],\"id\":\"a\\tb\"}", NULL, -EINVAL, "control");
	refused("{\"vector\":[1],\"id\":true}", NULL, -EINVAL, "id");
	refused("{\"vector\":\"abc!\"}", NULL, -EINVAL, "base64");
	refused("{\"vector\":\"AAAA\"}", NULL, -EINVAL, "whole number of float32");
	refused("{\"vector\":\"AADAfw==\"}", NULL, -EINVAL, "finite");
	refused("{\"vector\":[1]", NULL, -EINVAL, "not closed");
	refused("{\"vector\"", NULL, -EINVAL, "':'");
	refused("{\"vector\":", NULL, -EINVAL, "missing");
	refused("{", NULL, -EINVAL, "key");
	refused("{\"vector\":[1],}", NULL, -EINVAL, "key");
	refused("{\"vector\":[1],\"id\":\"x", NULL, -EINVAL, "not closed");
	refused("{\"vector\":[1],\"id\":\"x\\", NULL, -EINVAL, "not closed");
}

static void sizes_are_bounded(void **state)
{
	struct vx_record r;
	struct buf b = BUF_INIT;
	char *big = malloc(VX_TEXT_MAX + 2);

	(void)state;
	assert_non_null(big);
	memset(big, 'x', VX_TEXT_MAX + 1);
	big[VX_TEXT_MAX + 1] = 0;
	assert_int_equal(buf_printf(&b, "{\"vector\":[1],\"text\":\"%s\"}", big), 0);
	assert_int_equal(
		codec_parse_record(arena, (char *)b.data, b.len, NULL, &r, NULL), -EMSGSIZE);
	b.len = 0;
	assert_int_equal(buf_printf(&b, "{\"vector\":[1],\"text\":\"%s\"}", big + 1), 0);
	assert_int_equal(codec_parse_record(arena, (char *)b.data, b.len, NULL, &r, NULL), 0);
	assert_int_equal(r.text_len, VX_TEXT_MAX);
	b.len = 0;
	assert_int_equal(buf_printf(&b, "{\"vector\":[1],\"meta\":{\"a\":\"%s\"}}", big + 1), 0);
	assert_int_equal(
		codec_parse_record(arena, (char *)b.data, b.len, NULL, &r, NULL), -EMSGSIZE);
	b.len = 0;
	assert_int_equal(buf_printf(&b, "{\"vector\":[1],\"id\":\"%.241s\"}", big), 0);
	assert_int_equal(
		codec_parse_record(arena, (char *)b.data, b.len, NULL, &r, NULL), -ENAMETOOLONG);
	b.len = 0;
	assert_int_equal(buf_printf(&b, "[0"), 0);
	for (uint32_t i = 1; i < VX_DIM_MAX; i++)
		assert_int_equal(buf_append(&b, ",0", 2), 0);
	assert_int_equal(buf_append(&b, "]", 1), 0);
	assert_int_equal(codec_parse_record(arena, (char *)b.data, b.len, NULL, &r, NULL), 0);
	assert_int_equal(r.dim, VX_DIM_MAX);
	b.len--;
	assert_int_equal(buf_append(&b, ",0]", 3), 0);
	assert_int_equal(codec_parse_record(arena, (char *)b.data, b.len, NULL, &r, NULL), -EINVAL);
	b.len = 0;
	assert_int_equal(buf_printf(&b, "{\"vector\":[1],\"meta\":"), 0);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(buf_append(&b, "{\"a\":", 5), 0);
	assert_int_equal(codec_parse_record(arena, (char *)b.data, b.len, NULL, &r, NULL), -EINVAL);
	buf_release(&b);
	free(big);
}

static void records_without_vector_are_taken_on_request(void **state)
{
	const struct codec_opts any = {.want_any_object = true, .id_optional = true};
	struct vx_record r;
	struct vx_err err = VX_ERR_INIT;

	(void)state;
	assert_int_equal(
		parse("{\"query\":1,\"rank\":1,\"id\":\"a\",\"x\":{\"y\":[]}}", &any, &r, &err), 0);
	assert_int_equal(r.id_len, 1);
	assert_null(r.vec);
	refused("{\"x\":{\"y\":[}}", &any, -EINVAL, "brackets");
	refused("{\"x\":{\"y\":[nope]}}", &any, -EINVAL, "\"x\" is not valid JSON");
}

/* Completeness of every prefix agrees with whether it parses. */
static void completeness_is_known_at_every_byte(void **state)
{
	static const char text[] =
		"{\"id\":\"a]}\\\"{\",\"vector\":[1,2],\"meta\":{\"a\":[{}]}} \n";
	size_t n = strlen(text);

	(void)state;
	for (size_t i = 0; i <= n; i++) {
		char *copy = malloc(i ? i : 1);
		assert_non_null(copy);
		memcpy(copy, text, i);
		assert_int_equal(codec_json_complete(copy, i), i + 2 >= n);
		free(copy);
	}
}

static void typed_vectors_are_understood(void **state)
{
	static const char *const good[] = {
		"1 2 3", "1,2,3", " [1, 2, 3] \n", "1.\t+2 ,3e0", "[1 2 3]"};
	static const char *const bad[] = {"", "[]", "1,,2", "1 2,", ",1", "[1", "1]", "1 x",
		"1 nan", "0x10", "1 1e99", "1;2", "1-2"};
	const float want[] = {1, 2, 3};
	const float *v;
	uint32_t dim;

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(good); i++) {
		assert_int_equal(
			codec_parse_vector(arena, good[i], strlen(good[i]), &v, &dim, NULL), 0);
		assert_int_equal(dim, 3);
		assert_memory_equal(v, want, sizeof want);
	}
	for (size_t i = 0; i < VX_ARRAY_SIZE(bad); i++) {
		struct vx_err err = VX_ERR_INIT;
		if (codec_parse_vector(arena, bad[i], strlen(bad[i]), &v, &dim, &err) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		assert_true(err.msg[0] != 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_have_a_canonical_rendering),
		cmocka_unit_test(refusals_say_why),
		cmocka_unit_test(sizes_are_bounded),
		cmocka_unit_test(records_without_vector_are_taken_on_request),
		cmocka_unit_test(completeness_is_known_at_every_byte),
		cmocka_unit_test(typed_vectors_are_understood),
	};

	return cmocka_run_group_tests(tests, make_arena, drop_arena);
}
