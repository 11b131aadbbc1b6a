/* test_sim.c - random faults on three and five nodes, many seeds (see harness.h).
 *
 * Each seed draws its own mixture of losses, delays, slow and broken disks, partitions,
 * crashes and restarts, lets clients write all the while, then heals everything and asks for progress
 * and for every acknowledged value.  SEED=n runs one seed, SEEDS=n that many from 1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "harness.h"

static uint64_t env_number(const char *name, uint64_t dflt)
{
	const char *s = getenv(name);
	return s && *s ? strtoull(s, NULL, 10) : dflt;
}

static struct h_params draw_params(uint64_t seed, unsigned n)
{
	struct h_params p = {.seed = seed, .n = n};
	uint64_t z = (seed + n) * 0x9e3779b97f4a7c15u;
	z ^= z >> 29;
	p.trailing = z & 1 ? 4 : 64;
	p.mark_bytes = z & 2 ? 2000 : 40000;
	p.net_min_ms = 1;
	p.net_max_ms = z & 4 ? 10 : 40;
	p.disk_min_ms = 0;
	p.disk_max_ms = z & 8 ? 4 : 20;
	p.drop_permille = z & 16 ? 15 : 80;
	p.dup_permille = z & 32 ? 15 : 60;
	p.delay_permille = z & 64 ? 30 : 100;
	p.slow_disk_permille = z & 128 ? 20 : 100;
	return p;
}

static void clients(struct harness *h, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (!h_is_up(h, i) || raft_state(h_raft(h, i)) != RAFT_LEADER)
			continue;
		if (h_random(h) % 10 < 4) {
			unsigned k = 1 + (unsigned)(h_random(h) % 4);
			while (k-- > 0)
				h_propose(h, i, 8 + h_random(h) % 300);
		}
	}
}

static void fault(struct harness *h, unsigned n)
{
	unsigned i = (unsigned)(h_random(h) % n), j = (unsigned)(h_random(h) % n), up = 0;
	switch (h_random(h) % 6) {
	case 0:
		for (unsigned k = 0; k < n; k++)
			up += h_is_up(h, k);
		if (up > n / 2 && h_is_up(h, i)) {
			if (h_random(h) % 3 == 0)
				h_break_log(h, i); /* ends it at its next flush */
			else
				h_crash(h, i);
		}
		break;
	case 1:
		for (unsigned k = 0; k < n; k++) {
			if (!h_is_up(h, k))
				h_start(h, k);
		}
		break;
	case 2:
		h_isolate(h, i, true);
		break;
	case 3:
		if (i != j)
			h_cut(h, i, j, true);
		break;
	default:
		h_heal(h);
		break;
	}
}

struct goal {
	unsigned n;
	uint64_t value;
};

static bool has_leader(struct harness *h, void *arg)
{
	(void)arg;
	return h_leader(h) >= 0;
}

static bool everywhere(struct harness *h, void *arg)
{
	struct goal *g = arg;
	uint64_t top = 0;
	if (!h_acked(h, g->value))
		return false;
	for (unsigned i = 0; i < g->n; i++) {
		if (!h_is_up(h, i))
			return false;
		top = VX_MAX(top, h_applied(h, i));
	}
	for (unsigned i = 0; i < g->n; i++) {
		if (h_applied(h, i) < top)
			return false;
	}
	return true;
}

/* After healing: a leader, a new value, and all nodes at the same point. */
static void settle(struct harness *h, unsigned n)
{
	h_heal(h);
	struct goal goal = {n, 0};
	for (unsigned attempt = 0;; attempt++) {
		if (attempt == 20)
			h_die(h, "no progress after healing");
		/* A log that was to break may do so only now. */
		for (unsigned k = 0; k < n; k++) {
			if (!h_is_up(h, k))
				h_start(h, k);
		}
		if (!h_run_until(h, has_leader, NULL, 30000))
			continue;
		goal.value = h_propose(h, (unsigned)h_leader(h), 16);
		if (h_run_until(h, everywhere, &goal, 20000))
			return;
	}
}

struct totals {
	unsigned acked, installs, marks;
};

static void run_seed(uint64_t seed, unsigned n, unsigned ms, struct totals *t)
{
	struct h_params p = draw_params(seed, n);
	struct harness *h = h_new(&p);
	uint64_t end = ms, next_fault = 300;
	while (h_now(h) < end) {
		clients(h, n);
		if (h_now(h) >= next_fault) {
			fault(h, n);
			next_fault = h_now(h) + 50 + h_random(h) % 400;
		}
		h_run(h, 2 + h_random(h) % 30);
	}
	settle(h, n);
	h_check_acked(h);
	t->acked += h_n_acked(h);
	t->installs += h_installs(h);
	t->marks += h_marks(h);
	h_check_logs(h);
	h_free(h);
}

static void run_seeds(unsigned n, unsigned count, unsigned ms)
{
	uint64_t one = env_number("SEED", 0);
	uint64_t first = one ? one : 1;
	uint64_t last = one ? one : env_number("SEEDS", count);
	struct totals t = {0};
	for (uint64_t s = first; s <= last; s++)
		run_seed(s, n, ms, &t);
	print_message("%u nodes, seeds %llu..%llu: %u acknowledged, %u marks, %u installs\n", n,
		(unsigned long long)first, (unsigned long long)last, t.acked, t.marks, t.installs);
	assert_true(t.acked > 0);
	if (!one && count >= 50) {
		/* The runs must have met what they are about. */
		assert_true(t.marks > 0);
		assert_true(t.installs > 0);
	}
}

static void raft_three_nodes_agree_under_random_faults(void **state)
{
	(void)state;
	run_seeds(3, 200, 8000);
}

static void raft_five_nodes_agree_under_random_faults(void **state)
{
	(void)state;
	run_seeds(5, 60, 8000);
}

/* The same seed gives the same run. */
static void raft_simulation_repeats_exactly(void **state)
{
	(void)state;
	struct totals a = {0}, b = {0};
	run_seed(7, 3, 5000, &a);
	run_seed(7, 3, 5000, &b);
	assert_int_equal(a.acked, b.acked);
	assert_int_equal(a.marks, b.marks);
	assert_int_equal(a.installs, b.installs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(raft_three_nodes_agree_under_random_faults),
		cmocka_unit_test(raft_five_nodes_agree_under_random_faults),
		cmocka_unit_test(raft_simulation_repeats_exactly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
