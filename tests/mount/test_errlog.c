#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "daemon/errlog.h"

static size_t count_lines(const struct buf *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->len; i++)
		n += b->data[i] == '\n';
	return n;
}

/* A line has the time, the errno's name, the place and the reason. */
static void errlog_line_has_its_parts(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	errlog_clear();
	errlog_add("docs/vec/a.json:3", -EINVAL, "dimension %d", 7);
	assert_int_equal(errlog_render(&b), 0);
	assert_int_equal(buf_cstr(&b), 0);
	assert_non_null(strstr((char *)b.data, "Z EINVAL docs/vec/a.json:3: dimension 7\n"));
	buf_release(&b);
}

/* Line breaks and control characters do not make more lines. */
static void errlog_one_call_is_one_line(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	errlog_clear();
	errlog_add("a\nb\x1b[31m", EPERM, "%s", "first\nsecond\r\n");
	assert_int_equal(errlog_render(&b), 0);
	assert_int_equal(count_lines(&b), 1);
	buf_release(&b);
}

/* The newest ERRLOG_LINES lines stay, oldest first. */
static void errlog_keeps_the_newest(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	errlog_clear();
	for (unsigned i = 0; i < ERRLOG_LINES + 17; i++)
		errlog_add("x", EIO, "number %u.", i);
	assert_int_equal(errlog_render(&b), 0);
	assert_int_equal(count_lines(&b), ERRLOG_LINES);
	assert_int_equal(buf_cstr(&b), 0);
	assert_null(strstr((char *)b.data, "number 16."));
	char *first = strstr((char *)b.data, "number 17.");
	char *last = strstr((char *)b.data, "number 1016.");
	assert_non_null(first);
	assert_non_null(last);
	assert_true(first < last);
	buf_release(&b);
}

/* Clearing forgets, and what comes later shows. */
static void errlog_clear_forgets(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	errlog_add("x", EIO, "before");
	errlog_clear();
	assert_int_equal(errlog_render(&b), 0);
	assert_int_equal(b.len, 0);
	errlog_add("x", EIO, "after");
	assert_int_equal(errlog_render(&b), 0);
	assert_int_equal(count_lines(&b), 1);
	buf_release(&b);
}

static void *hammer(void *arg)
{
	for (int i = 0; i < 3000; i++) {
		struct buf b = BUF_INIT;
		if (i % 500 == 0)
			errlog_clear();
		if (i % 100 == 0)
			assert_int_equal(errlog_render(&b), 0);
		buf_release(&b);
		errlog_add((const char *)arg, EIO, "%d", i);
	}
	return NULL;
}

/* Adding, clearing and rendering at once (for the thread sanitizer). */
static void errlog_from_many_threads(void **state)
{
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, hammer, (void *)"t"), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errlog_line_has_its_parts),
		cmocka_unit_test(errlog_one_call_is_one_line),
		cmocka_unit_test(errlog_keeps_the_newest),
		cmocka_unit_test(errlog_clear_forgets),
		cmocka_unit_test(errlog_from_many_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
