/* The coprocess embedder against programs that behave and programs that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "embed/embed.h"

static int run(const char *spec, const char *const *texts, size_t n, float **ret, uint32_t *ret_dim,
	struct vx_err *err)
{
	struct embedder *e = NULL;
	size_t *lens = calloc(n, sizeof *lens);

	assert_non_null(lens);
	for (size_t i = 0; i < n; i++)
		lens[i] = strlen(texts[i]);
	int rc = embed_open(spec, &e, err);
	if (!rc)
		rc = embed_texts(e, texts, lens, n, ret, ret_dim, err);
	embed_close(e);
	free(lens);
	return rc;
}

static void answers_come_in_order(void **state)
{
	const char *texts[3] = {"a", "bbb", "cc\nc"};
	float *v;
	uint32_t dim;

	(void)state;
	/* A newline inside a text is a space to the program: still one line. */
	assert_int_equal(
		run("cmd:while read l; do echo \"[${#l}, 7]\"; done", texts, 3, &v, &dim, NULL), 0);
	assert_int_equal(dim, 2);
	assert_true(v[0] == 1 && v[2] == 3 && v[4] == 4 && v[5] == 7);
	free(v);
}

/* More in flight than two pipes hold: neither side may block the other. */
static void large_batches_do_not_deadlock(void **state)
{
	enum { N = 3000 };
	static const char *texts[N];
	char *text = malloc(1001);
	float *v;
	uint32_t dim;

	(void)state;
	assert_non_null(text);
	memset(text, 'x', 1000);
	text[1000] = 0;
	for (size_t i = 0; i < N; i++)
		texts[i] = text;
	assert_int_equal(run("cmd:sed -u 's/.*/[0.25, 1e3]/'", texts, N, &v, &dim, NULL), 0);
	assert_int_equal(dim, 2);
	assert_true(v[2 * N - 2] == 0.25f && v[2 * N - 1] == 1000);
	free(v);
	free(text);
}

static void failures_are_told(void **state)
{
	static const struct {
		const char *spec, *reason;
	} cases[] = {
		{"cmd:read l; echo '[1]'; exit 3", "status 3 after 1 of 2"},
		{"cmd:kill -9 $$", "signal 9"},
		{"cmd:/nonexistent/program 2>/dev/null", "status 127"},
		{"cmd:read l; echo garbage; cat >/dev/null", "is no vector"},
		{"cmd:read l; echo '[1]'; echo '[1,2]'; cat >/dev/null", "gave 2 numbers"},
		{"cmd:read l; printf '[1]\\n[1]\\n[1]\\n'; cat >/dev/null",
			"more answers than texts"},
		{"cmd:read l; echo '[NaN]'; cat >/dev/null", "is no vector"},
		{"cmd:read l; exec <&-; echo '[1]'; exit 0", "status 0 after 1 of 2"},
	};
	const char *texts[2] = {"one", "two"};
	float *v = NULL;
	uint32_t dim;

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(cases); i++) {
		struct vx_err err = VX_ERR_INIT;
		int rc = run(cases[i].spec, texts, 2, &v, &dim, &err);
		if (rc != -EIO || !strstr(err.msg, cases[i].reason))
			fail_msg("%s: %d %s", cases[i].spec, rc, err.msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_come_in_order),
		cmocka_unit_test(large_batches_do_not_deadlock),
		cmocka_unit_test(failures_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
