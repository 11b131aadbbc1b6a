/* Looking for the next request: it ends by itself, and how long it lasts follows the asker.
 *
 * The clock and the scheduler are the test's: a look costs a microsecond.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint64_t now_ns = 1000000;

static uint64_t test_clock(void)
{
	return now_ns;
}

static int test_yield(void)
{
	now_ns += 1000;
	return 0;
}

/* Compiled in, over the two above. */
#include <sched.h>

#include "base/clock.h"
#define clock_mono_ns test_clock
#define sched_yield   test_yield
#include "daemon/spin.c"

/* How often a thread looks before it sleeps. */
static unsigned looks(struct spin *s)
{
	unsigned n = 0;

	while (n < 10000 && spin_more(s))
		n++;
	return n;
}

static void rounds(struct spin *s, unsigned n, uint64_t gap_ns)
{
	while (n-- > 0) {
		spin_served(s);
		now_ns += gap_ns;
		spin_came(s);
	}
}

static void nothing_is_looked_for_before_a_question_and_after_the_next(void **state)
{
	struct spin s = {0};

	(void)state;
	assert_int_equal(looks(&s), 0);
	spin_served(&s);
	spin_came(&s);
	assert_int_equal(looks(&s), 0);
	spin_came(&s); /* a request that nobody expected teaches nothing */
	assert_int_equal(s.gap_ns, 0);
}

static void looking_ends_by_itself(void **state)
{
	struct spin s = {0};
	unsigned n;

	(void)state;
	spin_served(&s);
	n = looks(&s);
	assert_in_range(n, 1, 1000);
	assert_int_equal(looks(&s), 0);
}

static void who_comes_back_late_is_waited_for_less_and_is_forgiven(void **state)
{
	struct spin s = {0};
	unsigned quick, late;

	(void)state;
	rounds(&s, 20, 5000);
	spin_served(&s);
	quick = looks(&s);
	rounds(&s, 20, 700000);
	spin_served(&s);
	late = looks(&s);
	assert_in_range(late, 1, quick / 2);
	/* However long a pause was, it is no more than a long one. */
	rounds(&s, 1, UINT64_C(3600) * 1000000000);
	rounds(&s, 20, 5000);
	spin_served(&s);
	assert_int_equal(looks(&s), quick);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_looked_for_before_a_question_and_after_the_next),
		cmocka_unit_test(looking_ends_by_itself),
		cmocka_unit_test(who_comes_back_late_is_waited_for_less_and_is_forgiven),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
