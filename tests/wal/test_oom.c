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
#include <unistd.h>

#include "base/log.h"
#include "fakedisk.h"
#include "model.h"
#include "oom.h"
#include "wal/wal_i.h"
#include "wal/wal_view.h"
#include "wal/wal_writer.h"

#define STEPS       40u
#define PENDING_MAX 512u

static const struct wal_opts small = {
	.segment_size_bytes = WAL_SEG_MIN + 4 * WAL_BLOCK, .spare_segments = 2, .node_id = 7};

static const struct wal_opts stopping = {.segment_size_bytes = WAL_SEG_MIN + 4 * WAL_BLOCK,
	.spare_segments = 1,
	.node_id = 7,
	.stop_first = 2,
	.n_stop = 3};

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

/* --- the writer --------------------------------------------------------------------- */
#define CALLS 40u

struct call {
	struct wal_req req; /* first */
	struct wal_rec rec;
	int status;
	unsigned answered;
};

static unsigned order;

static void on_done(struct wal_req *req, int status)
{
	struct call *c = (struct call *)req;

	c->status = status;
	c->answered = ++order;
}

/* Memory that is short once refuses no request, unless it breaks the log; each is answered once, in its turn, and
 * what was answered 0 is there. */
static void the_writer_tries_again_what_it_had_no_memory_for(void **state)
{
	(void)state;
	bool fired = true;
	uint64_t n;

	for (n = 1; fired; n++) {
		struct disk *d = fakedisk_new();
		struct call c[CALLS] = {0};
		struct wal_writer *ww = NULL;
		struct wal *w = NULL;
		bool refused = false;
		assert_non_null(d);
		assert_int_equal(wal_open(d, "wal", &small, &w, NULL), 0);
		for (unsigned i = 0; i < CALLS; i++) {
			c[i].rec = (struct wal_rec){.group = 1 + i,
				.type = i % 3 ? WAL_HARDSTATE : WAL_ENTRY,
				.index = i % 3 ? 0 : 1,
				.term = 1 + i};
			c[i].req = (struct wal_req){.recs = &c[i].rec,
				.n = 1,
				.in_order = i % 2,
				.done = on_done,
				.next = i + 1 < CALLS ? &c[i + 1].req : NULL};
		}
		order = 0;
		oom_arm(n);
		wal_writer_run(w, &refused, &c[0].req);
		fired = oom_fired();
		oom_arm(1);
		assert_int_equal(wal_writer_start(w, &ww), -ENOMEM);
		assert_null(ww);
		oom_arm(0);
		struct wal_stats st;
		wal_stat(w, &st);
		wal_close(w);
		assert_int_equal(wal_open(d, "wal", &small, &w, NULL), 0);
		for (unsigned i = 0; i < CALLS; i++) {
			struct wal_group_state g;
			assert_int_equal(c[i].answered, i + 1);
			assert_int_equal(c[i].status, st.broken && c[i].status ? -EIO : 0);
			assert_int_equal(wal_group_load(w, 1 + i, &g, NULL), 0);
			assert_true(g.exists || c[i].status);
			wal_group_state_release(&g);
		}
		wal_close(w);
		fakedisk_free(d);
	}
	assert_true(n > CALLS);
}

/* --- reading ------------------------------------------------------------------------- */
/* A start that finds a file cut short, and a view: -ENOMEM, nothing held, nothing changed for the next try. */
static void starts_and_views_may_be_tried_again(void **state)
{
	(void)state;
	const struct wal_view_ops ops = {.segment = NULL};
	struct disk *d = fakedisk_new();
	struct wal *w = NULL;
	struct model_rec r = {.rec = {.group = 1, .type = WAL_ENTRY, .index = 1, .len = 99}};
	struct model m = {0};
	bool fired = true;
	size_t size;

	assert_non_null(d);
	assert_int_equal(wal_open(d, "wal", &small, &w, NULL), 0);
	assert_int_equal(model_stage(w, &r), 0);
	model_apply(&m, &r);
	assert_int_equal(wal_flush(w), 0);
	wal_close(w);
	for (uint64_t n = 1; fired; n++) {
		/* fakedisk's own memory is not counted. */
		uint8_t *p = fakedisk_bytes(d, "wal/0000000001.wal", &size);
		uint8_t *all = malloc(size);
		assert_non_null(all);
		memcpy(all, p, size);
		size_t cut = WAL_HDR_BYTES + WAL_BLOCK;
		assert_int_equal(fakedisk_put(d, "wal/0000000001.wal", all, cut), 0);
		free(all);
		oom_arm(n);
		int rc = wal_view(d, "wal", &ops, NULL, NULL);
		fired = oom_fired();
		assert_int_equal(rc, fired ? -ENOMEM : 0);
		oom_arm(n);
		rc = wal_open(d, "wal", &small, &w, NULL);
		assert_int_equal(rc, oom_fired() ? -ENOMEM : 0);
		fired |= oom_fired();
		oom_arm(0);
		if (rc == 0)
			wal_close(w);
		assert_int_equal(fakedisk_open_handles(d), 0);
		struct loaded l;
		assert_int_equal(wal_open(d, "wal", &small, &w, NULL), 0);
		assert_int_equal(model_load(w, &l, NULL), 0);
		assert_null(model_differs(&m, &l));
		loaded_release(&l);
		wal_close(w);
	}
	model_release(&m);
	fakedisk_free(d);
}

/* --- stopped groups ------------------------------------------------------------------- */
static void stage_flush(struct wal *w, uint32_t group, uint8_t type, uint64_t index)
{
	struct wal_rec r = {.group = group, .type = type, .index = index, .term = 1};

	assert_int_equal(wal_stage(w, &r), 0);
	assert_int_equal(wal_flush(w), 0);
}

/* Three segments; one flush of group 2 is lost in the first, and in the last what may have been the birth of group 4. */
static struct disk *damaged(void)
{
	struct disk *d = fakedisk_new();
	struct wal *w = NULL;
	uint64_t off[2];
	uint32_t last;
	size_t size;

	assert_non_null(d);
	assert_int_equal(wal_open(d, "wal", &stopping, &w, NULL), 0);
	stage_flush(w, 1, WAL_HARDSTATE, 0);
	stage_flush(w, 3, WAL_HARDSTATE, 0);
	stage_flush(w, 2, WAL_ENTRY, 1);
	stage_flush(w, 2, WAL_ENTRY, 2);
	off[0] = wal_cur(w)->end - WAL_BLOCK;
	stage_flush(w, 2, WAL_ENTRY, 3);
	for (uint64_t i = 1; wal_cur(w)->seq < 3; i++)
		stage_flush(w, 1, WAL_ENTRY, i);
	stage_flush(w, 4, WAL_HARDSTATE, 0);
	off[1] = wal_cur(w)->end - WAL_BLOCK;
	stage_flush(w, 3, WAL_HARDSTATE, 0);
	last = wal_cur(w)->seq;
	wal_close(w);
	memset(fakedisk_bytes(d, "wal/0000000001.wal", &size) + off[0], 0, WAL_BLOCK);
	assert_int_equal(last, 3);
	memset(fakedisk_bytes(d, "wal/0000000003.wal", &size) + off[1], 0, WAL_BLOCK);
	return d;
}

static void stopped_are(struct wal *w, bool two, bool four)
{
	assert_int_equal(wal_stopped(w, 2) != NULL, two);
	assert_int_equal(wal_stopped(w, 4) != NULL, four);
	assert_null(wal_stopped(w, 1));
	assert_null(wal_stopped(w, 3));
}

/* An open that stops groups, and one that finds them stopped: the verdict is the same once there is memory. */
static void groups_are_stopped_whatever_memory_was_short(void **state)
{
	(void)state;
	struct disk *fresh = damaged();

	for (unsigned judged = 0; judged < 2; judged++) {
		bool fired = true;
		uint64_t n;
		struct wal *w = NULL;
		for (n = 1; fired; n++) {
			struct disk *d = fakedisk_clone(fresh);
			struct vx_err err = VX_ERR_INIT;
			assert_non_null(d);
			oom_arm(n);
			int rc = wal_open(d, "wal", &stopping, &w, &err);
			fired = oom_fired();
			oom_arm(0);
			assert_int_equal(rc, fired ? -ENOMEM : 0);
			if (rc == 0)
				wal_close(w);
			assert_int_equal(fakedisk_open_handles(d), 0);
			assert_int_equal(wal_open(d, "wal", &stopping, &w, NULL), 0);
			stopped_are(w, true, true);
			wal_close(w);
			fakedisk_free(d);
		}
		print_message(
			"%llu allocations, each of them refused once\n", (unsigned long long)n - 1);
		assert_true(n > 15);
		assert_int_equal(wal_open(fresh, "wal", &stopping, &w, NULL), 0);
		wal_close(w);
	}
	fakedisk_free(fresh);
}

static int renew(struct wal *w)
{
	struct wal_rec r = {.group = 2, .type = WAL_RESET, .data = "manifest", .len = 8};
	struct wal_rec h = {.group = 2, .type = WAL_HARDSTATE};
	uint64_t term, index;
	int rc = wal_lift(w, 2, &term, &index);

	if (rc)
		return rc;
	r.index = index + 10;
	r.term = h.term = term + 1;
	rc = wal_stage(w, &r);
	if (rc == 0)
		rc = wal_stage(w, &h);
	if (rc == 0)
		rc = wal_flush(w);
	return rc ? rc : wal_forget(w, 2);
}

/* Where a loss is accepted: stopped still, or renewed, and in the end renewed. */
static void a_loss_is_accepted_whatever_memory_was_short(void **state)
{
	(void)state;
	struct disk *fresh = damaged();
	bool fired = true;
	struct wal *w = NULL;

	for (uint64_t n = 1; fired; n++) {
		struct disk *d = fakedisk_clone(fresh);
		struct wal_group_state st;
		assert_non_null(d);
		assert_int_equal(wal_open(d, "wal", &stopping, &w, NULL), 0);
		oom_arm(n);
		int rc = renew(w);
		fired = oom_fired();
		oom_arm(0);
		assert_true(rc == 0 || (fired && expected(rc)));
		wal_close(w);
		assert_int_equal(wal_open(d, "wal", &stopping, &w, NULL), 0);
		stopped_are(w, rc != 0, true);
		if (rc)
			assert_int_equal(renew(w), 0);
		wal_close(w);
		assert_int_equal(wal_open(d, "wal", &stopping, &w, NULL), 0);
		stopped_are(w, false, true);
		assert_int_equal(wal_group_load(w, 2, &st, NULL), 0);
		assert_true(st.mark_index >= 13);
		assert_int_equal(st.manifest_len, 8);
		wal_group_state_release(&st);
		wal_close(w);
		fakedisk_free(d);
	}
	fakedisk_free(fresh);
}

static int each_unlink(void *arg, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
	return unlink(path);
}

/* No memory for the ring: pwrite does. */
static void no_memory_for_the_ring_is_no_error(void **state)
{
	(void)state;
	char dir[256];
	const char *tmp = getenv("TMPDIR");
	bool fired = true;

	(void)snprintf(dir, sizeof dir, "%s/vecfs-wal-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	struct wal *w = NULL;
	for (uint64_t n = 1; fired; n++) {
		struct wal_rec r = {.group = 1, .type = WAL_HARDSTATE, .term = n};
		struct wal_group_state st;
		assert_int_equal(wal_open(disk_real(), dir, &small, &w, NULL), 0);
		assert_int_equal(wal_stage(w, &r), 0);
		oom_arm(n);
		int rc = wal_flush(w);
		fired = oom_fired();
		oom_arm(0);
		assert_int_equal(rc, 0);
		wal_close(w);
		assert_int_equal(wal_open(disk_real(), dir, &small, &w, NULL), 0);
		assert_int_equal(wal_group_load(w, 1, &st, NULL), 0);
		assert_int_equal(st.term, n);
		wal_group_state_release(&st);
		wal_close(w);
	}
	assert_int_equal(disk_real()->ops->list(disk_real(), dir, each_unlink, dir), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_log_survives_want_of_memory_anywhere),
		cmocka_unit_test(the_writer_tries_again_what_it_had_no_memory_for),
		cmocka_unit_test(starts_and_views_may_be_tried_again),
		cmocka_unit_test(groups_are_stopped_whatever_memory_was_short),
		cmocka_unit_test(a_loss_is_accepted_whatever_memory_was_short),
		cmocka_unit_test(no_memory_for_the_ring_is_no_error),
	};

	(void)!log_configure("off");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
