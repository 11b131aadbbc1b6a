/* test_oom.c - the log when memory runs out, at every single allocation of a script.
 *
 * Whatever call is refused its memory says -ENOMEM, or breaks the log, and nothing leaks; a log that is
 * opened again holds what was acknowledged and a first part of the rest.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fakedisk.h"
#include "model.h"
#include "oom.h"
#include "wal/wal_i.h"

#define STEPS       40u
#define PENDING_MAX 512u

static const struct wal_opts small = {
	.segment_size_bytes = WAL_SEG_MIN + 4 * WAL_BLOCK, .spare_segments = 2, .node_id = 7};

struct run {
	struct disk *d;
	struct model acked;
	struct model_rec pending[PENDING_MAX];
	unsigned n_pending;
};

static bool expected(int rc)
{
	return rc == -ENOMEM || rc == -EIO;
}

/* The script.  It stops at the first refusal.  True when it came to its end. */
static bool play(struct run *r, struct wal *w, uint64_t seed, unsigned steps)
{
	struct model m = {0};
	uint64_t rng = seed;
	int rc = 0;

	model_copy(&m, &r->acked);
	r->n_pending = 0;
	for (unsigned s = 0; s < steps && rc == 0; s++) {
		for (unsigned i = 0; i < 1 + s % 5 && rc == 0; i++) {
			struct model_rec x = model_random(&m, &rng, s % 4 ? 300 : 3000);
			rc = model_stage(w, &x);
			if (rc == 0) {
				model_apply(&m, &x);
				r->pending[r->n_pending++] = x;
			}
		}
		if (rc == 0)
			rc = wal_flush(w);
		if (rc == 0) {
			model_copy(&r->acked, &m);
			r->n_pending = 0;
		}
		if (rc == 0 && s % 3 == 0)
			rc = wal_upkeep(w);
		if (rc == 0 && s % 7 == 0) {
			struct loaded l;
			rc = model_load(w, &l, NULL);
			if (rc == 0)
				loaded_release(&l);
		}
	}
	if (rc && !expected(rc))
		fail_msg("the script: %s", strerror(-rc));
	model_release(&m);
	return rc == 0;
}

static void accept(struct run *r, struct wal *w)
{
	struct loaded l;

	assert_int_equal(model_load(w, &l, NULL), 0);
	const char *why = model_differs(&r->acked, &l);
	for (unsigned i = 0; i < r->n_pending && why; i++) {
		model_apply(&r->acked, &r->pending[i]);
		why = model_differs(&r->acked, &l);
	}
	if (why)
		fail_msg("not what was acknowledged: %s", why);
	loaded_release(&l);
	r->n_pending = 0;
}

static void the_log_survives_want_of_memory_anywhere(void **state)
{
	struct run *r = calloc(1, sizeof *r);
	bool end = false;
	uint64_t n;

	(void)state;
	assert_non_null(r);
	for (n = 1; !end; n++) {
		struct wal *w = NULL;
		struct vx_err err = VX_ERR_INIT;
		r->d = fakedisk_new();
		assert_non_null(r->d);
		oom_arm(n);
		int rc = wal_open(r->d, "wal", &small, &w, &err);
		if (rc == 0)
			end = play(r, w, 11, STEPS) && !oom_fired();
		else
			assert_true(expected(rc));
		oom_arm(0);
		/* What was refused its memory may be tried again, unless the log is broken. */
		if (w) {
			rc = wal_flush(w);
			assert_true(rc == 0 || rc == -EIO);
		}
		wal_close(w);
		assert_int_equal(fakedisk_open_handles(r->d), 0);
		assert_int_equal(wal_open(r->d, "wal", &small, &w, &err), 0);
		accept(r, w);
		assert_true(play(r, w, 12, 4));
		wal_close(w);
		/* Opening a log with a history, with as little memory. */
		oom_arm(1 + n % 40);
		rc = wal_open(r->d, "wal", &small, &w, &err);
		bool fired = oom_fired();
		oom_arm(0);
		assert_true(rc == 0 || (fired && rc == -ENOMEM));
		if (rc == 0)
			wal_close(w);
		assert_int_equal(fakedisk_open_handles(r->d), 0);
		assert_int_equal(wal_open(r->d, "wal", &small, &w, &err), 0);
		accept(r, w);
		wal_close(w);
		model_release(&r->acked);
		fakedisk_free(r->d);
	}
	print_message("%llu allocations, each of them refused once\n", (unsigned long long)n - 1);
	assert_true(n > 100);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_log_survives_want_of_memory_anywhere)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
