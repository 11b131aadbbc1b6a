/* test_replay.c - a seed is a run: the same one every time, and another one for another seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim.h"

/* Twenty seeds, each twice: the hash over every event is the same, and so is all that was counted. */
static void sim_same_seed_is_the_same_run(void **state)
{
	uint64_t before = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct sim_totals a = {0}, b = {0};
		sim_scenario(seed, false, true, &a);
		sim_scenario(seed, false, true, &b);
		assert_int_not_equal(a.hash, 0);
		assert_int_equal(a.hash, b.hash);
		assert_memory_equal(&a, &b, sizeof a);
		assert_int_not_equal(a.hash, before);
		before = a.hash;
	}
}

/* The short batch has met what the simulator is about. */
static void sim_seeds_meet_every_kind_of_fault(void **state)
{
	struct sim_totals t = {0};
	(void)state;
	for (uint64_t seed = 1; seed <= 120; seed++)
		sim_scenario(seed, false, true, &t);
	assert_true(t.acked > 1000);
	assert_true(t.marks > 100);
	assert_true(t.installs > 10);
	assert_true(t.crashes > 10);
	assert_true(t.kills > 10);
	assert_true(t.breaks > 10);
	assert_true(t.flips > 0);
	assert_true(t.refused > 0);
	assert_true(t.fulls > 0);
	assert_true(t.pauses > 10);
	assert_true(t.jumps > 10);
	assert_true(t.changes > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sim_same_seed_is_the_same_run),
		cmocka_unit_test(sim_seeds_meet_every_kind_of_fault),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
