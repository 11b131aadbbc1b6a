/* Questions and answers as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/question.h"

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

static int parse(const char *s, struct question *q, struct vx_err *err)
{
	size_t n = strlen(s);
	char *copy = malloc(n ? n : 1);

	assert_non_null(copy);
	memcpy(copy, s, n);
	int rc = question_parse(arena, copy, n, q, err);
	free(copy);
	return rc;
}

static void vectors_as_typed_are_questions(void **state)
{
	static const char *const forms[] = {
		"[1, 2]", "1 2", "1,2\n", "{\"vector\":[1,2]}", "{\"vector\":\"AACAPwAAAEA=\"}"};
	struct question q;

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(forms); i++) {
		assert_int_equal(parse(forms[i], &q, NULL), 0);
		assert_int_equal(q.dim, 2);
		assert_true(q.vec[0] == 1 && q.vec[1] == 2);
		assert_int_equal(q.k, 0);
		assert_int_equal(q.exact, -1);
		assert_null(q.name);
	}
}

static void all_keys_are_understood(void **state)
{
	struct question q;

	(void)state;
	assert_int_equal(
		parse("{\"id\":\"caf\\u00e9\",\"k\":7,\"ef\":64,\"exact\":true,\"with\":[\"meta\","
		      " \"vector\",\"text\"],\"timeout_ms\":250,\"format\":\"jsonl\",\"query\":12}",
			&q, NULL),
		0);
	assert_int_equal(q.id_len, 5);
	assert_memory_equal(q.id, "caf\xc3\xa9", 5);
	assert_int_equal(q.k, 7);
	assert_int_equal(q.ef, 64);
	assert_int_equal(q.exact, 1);
	assert_int_equal(q.with, WITH_META | WITH_VECTOR | WITH_TEXT);
	assert_int_equal(q.timeout_ms, 250);
	assert_int_equal(q.format, ANSWER_JSONL);
	assert_memory_equal(q.name, "12", 2);
	assert_null(q.vec);
	assert_int_equal(
		parse("{\"text\":\"how \\\"so\\\"\",\"exact\":false,\"with\":\"meta\"}", &q, NULL),
		0);
	assert_int_equal(q.text_len, 8);
	assert_memory_equal(q.text, "how \"so\"", 8);
	assert_int_equal(q.exact, 0);
	assert_int_equal(q.with, WITH_META);
	assert_true(q.recall == 0);
	assert_int_equal(parse("{\"id\":1,\"recall\":0.99}", &q, NULL), 0);
	assert_true(q.recall == 0.99f);
	assert_int_equal(parse("{\"id\":1,\"recall\":\"exact\"}", &q, NULL), 0);
	assert_true(q.recall == VX_RECALL_EXACT);
	assert_int_equal(parse("{\"id\":42,\"with\":[]}", &q, NULL), 0);
	assert_memory_equal(q.id, "42", 2);
}

static void refusals_say_why(void **state)
{
	static const struct {
		const char *s;
		int rc;
		const char *reason;
	} cases[] = {
		{"", -EINVAL, "empty"},
		{" \n", -EINVAL, "empty"},
		{"{}", -EINVAL, "asks for nothing"},
		{"{\"k\":3}", -EINVAL, "asks for nothing"},
		{"{\"vector\":[1],\"id\":\"a\"}", -EINVAL, "more than one"},
		{"{\"vector\":[1],\"filter\":\"a=1\"}", -EOPNOTSUPP, "filter"},
		{"{\"vector\":[1],\"consistency\":\"any\"}", -EOPNOTSUPP, "consistency"},
		{"{\"vector\":[1],\"recall\":0}", -EINVAL, "less than 0.5"},
		{"{\"vector\":[1],\"recall\":0.49}", -EINVAL, "less than 0.5"},
		{"{\"vector\":[1],\"recall\":-1}", -EINVAL, "less than 0.5"},
		{"{\"vector\":[1],\"recall\":1}", -EINVAL, "called exact"},
		{"{\"vector\":[1],\"recall\":0.9995}", -EINVAL, "called exact"},
		{"{\"vector\":[1],\"recall\":1.5}", -EINVAL, "more than all"},
		{"{\"vector\":[1],\"recall\":95}", -EINVAL, "more than all"},
		{"{\"vector\":[1],\"recall\":\"x\"}", -EINVAL, "'x' is neither"},
		{"{\"vector\":[1],\"recall\":\"\"}", -EINVAL, "neither"},
		{"{\"vector\":[1],\"recall\":true}", -EINVAL, "\"recall\""},
		{"{\"vector\":[1],\"recall\":0.9,\"ef\":20}", -EINVAL, "\"ef\" and \"recall\""},
		{"{\"vector\":[1],\"recall\":0.9,\"exact\":true}", -EINVAL, "less"},
		{"{\"vector\":[1],\"kk\":1}", -EINVAL, "\"kk\""},
		{"{\"vector\":[1],\"k\":0}", -EINVAL, "\"k\""},
		{"{\"vector\":[1],\"k\":-1}", -EINVAL, "\"k\""},
		{"{\"vector\":[1],\"k\":1.5}", -EINVAL, "\"k\""},
		{"{\"vector\":[1],\"k\":\"1\"}", -EINVAL, "\"k\""},
		{"{\"vector\":[1],\"k\":100001}", -EINVAL, "100000"},
		{"{\"vector\":[1],\"k\":99999999999999999999999}", -EINVAL, "100000"},
		{"{\"vector\":[1],\"k\":1,\"k\":2}", -EINVAL, "twice"},
		{"{\"vector\":null}", -EINVAL, "null"},
		{"{\"vector\":[1],\"exact\":1}", -EINVAL, "exact"},
		{"{\"vector\":[1],\"format\":\"xml\"}", -EINVAL, "format"},
		{"{\"vector\":[1],\"with\":[\"all\"]}", -EINVAL, "with"},
		{"{\"vector\":[1],\"with\":[\"meta\"", -EINVAL, "with"},
		{"{\"vector\":[1],\"with\":[", -EINVAL, "JSON"},
		{"{\"vector\":[1],\"with\":", -EINVAL, "missing"},
		{"{\"text\":\"\"}", -EINVAL, "empty"},
		{"{\"id\":\"\"}", -EINVAL, "empty"},
		{"{\"id\":null}", -EINVAL, "empty"},
		{"[1] [2]", -EINVAL, "follows"},
		{"what?", -EINVAL, "not a number"},
		{"nan", -EINVAL, "not a number"},
	};

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(cases); i++) {
		struct vx_err err = VX_ERR_INIT;
		struct question q;
		int rc = parse(cases[i].s, &q, &err);
		if (rc != cases[i].rc || !strstr(err.msg, cases[i].reason))
			fail_msg("%s: %d %s", cases[i].s, rc, err.msg);
	}
}

static void kinds_of_questions_are_told_apart(void **state)
{
	static const float raw[2] = {0.5f, 2};
	static const char lines[] = "{\"id\":\"a\"}\n{\"id\":\"b\"}\n";
	static const char pretty[] = "{\n\"id\":\"a\"\n}\n";

	(void)state;
	assert_int_equal(question_kind_of(raw, 8, 2), QUESTION_RAW);
	assert_int_equal(question_kind_of(raw, 8, 0), QUESTION_TEXT);
	assert_int_equal(question_kind_of(raw, 8, 3), QUESTION_TEXT);
	assert_int_equal(question_kind_of("[0.1,.2]", 8, 2), QUESTION_TEXT);
	assert_int_equal(question_kind_of("\0\0\0\0", 4, 1), QUESTION_RAW);
	assert_int_equal(question_kind_of(lines, strlen(lines), 2), QUESTION_LINES);
	assert_int_equal(question_kind_of(lines, 11, 2), QUESTION_TEXT);
	assert_int_equal(question_kind_of("[1]\n[2]", 7, 2), QUESTION_LINES);
	/* "12 " is complete JSON and yet a part of a vector. */
	assert_int_equal(question_kind_of("12 \n13 \n", 8, 2), QUESTION_TEXT);
	assert_int_equal(question_kind_of(pretty, strlen(pretty), 2), QUESTION_TEXT);
	assert_int_equal(question_kind_of("", 0, 2), QUESTION_TEXT);
}

static void printed(enum answer_format f, const struct answer *a, const char *want)
{
	struct buf b = BUF_INIT;

	assert_int_equal(answer_print(&b, f, a), 0);
	assert_int_equal(buf_cstr(&b), 0);
	assert_string_equal((char *)b.data, want);
	buf_release(&b);
}

static void answers_print_in_every_format(void **state)
{
	static const float v[2] = {1, 0.5f};
	const struct answer_hit hits[] = {
		{.id = "a\"b", .id_len = 3, .distance = 0},
		{.id = "c",
			.id_len = 1,
			.distance = 0.25f,
			.vec = v,
			.dim = 2,
			.meta = "{\"k\":1}",
			.meta_len = 7,
			.text = "x\ny",
			.text_len = 3},
	};
	const struct answer a = {.number = 3, .hits = hits, .n_hits = 2, .k_asked = 2};
	const struct answer few = {.name = "q\"",
		.name_len = 2,
		.hits = hits,
		.n_hits = 1,
		.k_asked = 5,
		.timed_out = true,
		.damaged = 2};
	const struct answer none = {.k_asked = 1};

	(void)state;
	printed(ANSWER_TSV, &a, "3\t1\ta\"b\t0\n3\t2\tc\t0.25\n");
	printed(ANSWER_DEFAULT, &a, "3\t1\ta\"b\t0\n3\t2\tc\t0.25\n");
	printed(ANSWER_IDS, &a, "a\"b\nc\n");
	printed(ANSWER_JSONL, &a,
		"{\"query\":3,\"rank\":1,\"id\":\"a\\\"b\",\"distance\":0}\n"
		"{\"query\":3,\"rank\":2,\"id\":\"c\",\"distance\":0.25,\"vector\":[1,0.5],"
		"\"meta\":{\"k\":1},\"text\":\"x\\ny\"}\n");
	printed(ANSWER_JSON, &few,
		"{\"query\":\"q\\\"\",\"hits\":[{\"rank\":1,\"id\":\"a\\\"b\",\"distance\":0}],"
		"\"fewer\":true,\"timed_out\":true,\"damaged\":2}\n");
	printed(ANSWER_JSON, &none, "{\"query\":0,\"hits\":[],\"fewer\":true}\n");
	printed(ANSWER_TSV, &none, "");
}

static void suffixes_choose_the_format(void **state)
{
	size_t n;

	(void)state;
	assert_int_equal(answer_format_of("a.json", &n), ANSWER_JSON);
	assert_int_equal(n, 1);
	assert_int_equal(answer_format_of("a.b.jsonl", &n), ANSWER_JSONL);
	assert_int_equal(n, 3);
	assert_int_equal(answer_format_of("a.tsv", &n), ANSWER_TSV);
	assert_int_equal(answer_format_of("a.ids", &n), ANSWER_IDS);
	assert_int_equal(answer_format_of("a.txt", &n), ANSWER_DEFAULT);
	assert_int_equal(n, 5);
	assert_int_equal(answer_format_of(".json", &n), ANSWER_DEFAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors_as_typed_are_questions),
		cmocka_unit_test(all_keys_are_understood),
		cmocka_unit_test(refusals_say_why),
		cmocka_unit_test(kinds_of_questions_are_told_apart),
		cmocka_unit_test(answers_print_in_every_format),
		cmocka_unit_test(suffixes_choose_the_format),
	};

	return cmocka_run_group_tests(tests, make_arena, drop_arena);
}
