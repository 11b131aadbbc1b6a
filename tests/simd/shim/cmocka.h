/* cmocka.h - as much of cmocka as the kernel tests use, for where cmocka itself is not: another
 * architecture's programs, run by an emulator.  The checks are the same; the first one that fails
 * ends the program with status 1. */
#ifndef VECFS_TESTS_SIMD_SHIM_CMOCKA_H
#define VECFS_TESTS_SIMD_SHIM_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
	const char *name;
	void (*run)(void **state);
};

#define cmocka_unit_test(f)                                                                        \
	{                                                                                          \
#f, f                                                                              \
	}

#define print_message(...) printf(__VA_ARGS__)
#define fail_msg(...)                                                                              \
	do {                                                                                       \
		fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                    \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fputc('\n', stderr);                                                               \
		exit(1);                                                                           \
	} while (0)
#define assert_true(c)                                                                             \
	do {                                                                                       \
		if (!(c))                                                                          \
			fail_msg("%s", #c);                                                        \
	} while (0)
#define assert_null(p) assert_true((p) == NULL)
#define assert_int_equal(a, b)                                                                     \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_)                                                                      \
			fail_msg("%s is %lld, not %lld", #a, a_, b_);                              \
	} while (0)
#define assert_string_equal(a, b)                                                                  \
	do {                                                                                       \
		const char *a_ = (a), *b_ = (b);                                                   \
		if (strcmp(a_, b_) != 0)                                                           \
			fail_msg("%s is \"%s\", not \"%s\"", #a, a_, b_);                          \
	} while (0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline int shim_run(
	const struct CMUnitTest *tests, size_t n, int (*setup)(void **), int (*teardown)(void **))
{
	void *state = NULL;

	if (setup && setup(&state) != 0)
		return 1;
	for (size_t i = 0; i < n; i++) {
		tests[i].run(&state);
		printf("[       OK ] %s\n", tests[i].name);
	}
	printf("[  PASSED  ] %zu test(s).\n", n);
	return teardown ? teardown(&state) : 0;
}

#define cmocka_run_group_tests(tests, setup, teardown)                                             \
	shim_run(tests, sizeof(tests) / sizeof *(tests), setup, teardown)

#endif
