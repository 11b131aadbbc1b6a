#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/fs_i.h"

/* The last suffix says the form; what is before it is the id. */
static void names_of_records(void **state)
{
	char id[3 * VX_ID_MAX + 1];
	size_t len;
	struct vx_err err = VX_ERR_INIT;

	(void)state;
	assert_int_equal(fs_record_name("a.json", id, &len, &err), 1);
	assert_memory_equal(id, "a", len);
	assert_int_equal(fs_record_name("a.b.json", id, &len, &err), 1);
	assert_int_equal(len, 3);
	assert_int_equal(fs_record_name("a.json.f32", id, &len, &err), 2);
	assert_memory_equal(id, "a.json", len);
	assert_int_equal(fs_record_name("%2E%2f%25.json", id, &len, &err), 1);
	assert_int_equal(len, 3);
	assert_memory_equal(id, "./%", 3);
	assert_int_equal(fs_record_name(".a.json", id, &len, &err), 0);
	assert_int_equal(fs_record_name("a.jsonl", id, &len, &err), 0);
	assert_int_equal(fs_record_name(".json", id, &len, &err), 0);
	assert_int_equal(fs_record_name("a%.json", id, &len, &err), -EINVAL);
	assert_int_equal(fs_record_name("a%0a.json", id, &len, &err), -EINVAL);
	assert_int_equal(fs_record_name("\xff.json", id, &len, &err), -EINVAL);
}

/* Options are taken off the end, one at a time; a comma that is none stays. */
static void options_in_names(void **state)
{
	struct ask_opts o = {0};
	struct vx_err err = VX_ERR_INIT;
	const char *s = "a,b,k=20,ef=64,exact=1,format=jsonl";
	size_t n = strlen(s);

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(ask_strip_opt(s, &n, &o, &err), 1);
	assert_int_equal(ask_strip_opt(s, &n, &o, &err), 0);
	assert_int_equal(n, 3);
	assert_int_equal(o.k, 20);
	assert_int_equal(o.ef, 64);
	assert_true(o.exact);
	assert_int_equal(o.format, ANSWER_JSONL);
	for (size_t i = 0; i < 6; i++) {
		const char *bad[] = {
			"a,k=0", "a,k=", "a,k=x", "a,k=100001", "a,format=xml", "a,exact=2"};
		n = strlen(bad[i]);
		assert_int_equal(ask_strip_opt(bad[i], &n, &o, &err), -EINVAL);
	}
	n = 4;
	assert_int_equal(ask_strip_opt(",k=1", &n, &o, &err), 0);
}

/* query and its other names. */
static void names_of_query(void **state)
{
	struct ask_opts o;

	(void)state;
	assert_int_equal(query_parse_name("query", &o, NULL), 0);
	assert_int_equal(o.format, ANSWER_DEFAULT);
	assert_int_equal(query_parse_name("query.ids", &o, NULL), 0);
	assert_int_equal(o.format, ANSWER_IDS);
	assert_int_equal(query_parse_name("query.tsv,k=3", &o, NULL), 0);
	assert_int_equal(o.k, 3);
	assert_int_equal(query_parse_name("query.xml", &o, NULL), -ENOENT);
	assert_int_equal(query_parse_name("queryx", &o, NULL), -ENOENT);
	assert_int_equal(query_parse_name("stats", &o, NULL), -ENOENT);
}

/* When a question is whole, and when it never can be. */
static void questions_are_complete(void **state)
{
	static const struct {
		const char *s;
		int want;
	} cases[] = {
		{"", 0},
		{" \n", 0},
		{"[1,2]", 1},
		{"[1,2]\n", 1},
		{"[1,", 0},
		{"{\"id\":\"a\"}", 1},
		{"{\"id\":\"}", 0},
		{"1 2 3", 0},
		{"1 2 3\n", 1},
		{"-.5 1\n", 1},
		{"hello", -EINVAL},
		{"[1]]", -EINVAL},
		{"[1]\n[2]", 1},
		{"[1]\n[2", 0},
		{"[1]\n[2]\n", 1},
	};

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(cases); i++)
		assert_int_equal(ask_complete(cases[i].s, strlen(cases[i].s), 0), cases[i].want);
}

/* Bytes of floats that happen to be printable are still floats; text of that length is text. */
static void raw_questions_that_look_like_text(void **state)
{
	const char floats[12] = "6\xc6\xbf=G4-?WVf?";

	(void)state;
	assert_true(ask_is_raw(floats, 12, 3));
	assert_true(ask_is_raw("abcdefghijkl", 12, 3));
	assert_true(ask_is_raw("[bcdefghijk}", 12, 3));
	assert_false(ask_is_raw("[1.25,3,  4]", 12, 3));
	assert_false(ask_is_raw("1.25 3 456.0", 12, 3));
	assert_false(ask_is_raw("[1.25,3, 100", 12, 3));
	assert_false(ask_is_raw(floats, 12, 4));
}

/* Which names stage in inbox/, and which formats there are. */
static void names_in_inbox(void **state)
{
	(void)state;
	assert_true(inbox_stages(".a.jsonl"));
	assert_true(inbox_stages("a.jsonl.tmp"));
	assert_true(inbox_stages("a.part"));
	assert_true(inbox_stages("a.jsonl~"));
	assert_false(inbox_stages("a.jsonl"));
	assert_int_equal(inbox_check_name("a.npy", NULL), 0);
	assert_int_equal(inbox_check_name("a.xyz", NULL), -EINVAL);
	assert_int_equal(inbox_check_name("jsonl", NULL), -EINVAL);
	char name[230];
	memset(name, 'x', sizeof name);
	memcpy(name + 223, ".jsonl", 7);
	assert_int_equal(inbox_check_name(name, NULL), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_records),
		cmocka_unit_test(options_in_names),
		cmocka_unit_test(names_of_query),
		cmocka_unit_test(questions_are_complete),
		cmocka_unit_test(raw_questions_that_look_like_text),
		cmocka_unit_test(names_in_inbox),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
