/* test_stopped.c - the real pump beside a group that damage to the log has stopped, and how it begins anew.
 *
 * Of three groups the second is stopped.  It answers everything, and once; nobody waits for it; the others notice
 * nothing, whatever else happens to the pump.
 */
#include "pump.h"

#include <pthread.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/wal/fakedisk.h"

#define GROUPS     3u
#define STOPPED    (FIRST + 1)
#define PER_WRITER 300u
#define LEAP       1000000u

struct bench {
	char dir[128], wal_dir[200];
	struct host h;
	struct repl_opts o;
};

/* 'n' entries were written to each group, and marked if 'mark'. */
static void bench_init(struct bench *b, unsigned n, bool mark)
{
	pump_make_dir(b->dir, sizeof b->dir);
	pump_host_init(&b->h, b->dir);
	b->o = pump_opts(b->wal_dir, sizeof b->wal_dir, b->dir, GROUPS);
	b->o.wal.stop_first = FIRST;
	b->o.wal.n_stop = GROUPS;
	b->o.mark_bytes = 64u << 20;
	b->o.mark_interval_ms = 3600 * 1000;
	struct repl *r = pump_start(&b->h, &b->o);
	struct count c = {.h = &b->h};
	for (unsigned i = 0; i < GROUPS * n; i++)
		pump_propose(r, &c, FIRST + i % GROUPS, i, 100);
	pump_await(&c, GROUPS * n);
	assert_int_equal(c.committed, GROUPS * n);
	for (unsigned i = 0; mark && i < GROUPS; i++)
		assert_int_equal(repl_mark(r, FIRST + i), 0);
	for (unsigned i = 0; i < GROUPS; i++)
		assert_null(repl_group_stopped(r, FIRST + i));
	repl_stop(r);
	pump_host_release(&b->h);
	pump_host_init(&b->h, b->dir);
}

static void bench_release(struct bench *b)
{
	assert_int_equal(b->h.bad, 0);
	pump_host_release(&b->h);
	pump_remove_tree(b->dir);
}

static void *write_to_all(void *arg)
{
	struct writer *w = arg;
	for (unsigned i = 0; i < PER_WRITER; i++) {
		if (i >= 40)
			pump_await(&w->count, i - 39);
		pump_propose(w->r, &w->count, FIRST + i % GROUPS, i, 8 + i % 3000);
	}
	pump_await(&w->count, PER_WRITER);
	return NULL;
}

/* From several threads: a third of it fails, each with the reason and once (it frees itself), and the rest commits. */
static void a_stopped_group_answers_and_the_others_commit(void **state)
{
	(void)state;
	struct bench b;
	struct writer w[4];
	pthread_t t[4];
	struct repl_group_status st;
	bench_init(&b, 10, false);
	pump_lose(&b.o, STOPPED);
	struct repl *r = pump_start(&b.h, &b.o); /* and all are ready */
	assert_non_null(repl_group_stopped(r, STOPPED));
	assert_null(repl_group_stopped(r, FIRST));
	assert_null(repl_group_stopped(r, FIRST + 2));
	assert_null(repl_group_stopped(r, FIRST + GROUPS));
	for (unsigned i = 0; i < 4; i++) {
		w[i] = (struct writer){.r = r, .count = {.h = &b.h}, .number = i};
		assert_int_equal(pthread_create(&t[i], NULL, write_to_all, &w[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(w[i].count.committed, PER_WRITER / GROUPS * (GROUPS - 1));
		assert_int_equal(w[i].count.failed, PER_WRITER / GROUPS);
		assert_int_equal(w[i].count.status, -EUCLEAN);
	}
	assert_int_equal(repl_mark(r, STOPPED), -EUCLEAN);
	assert_int_equal(repl_mark(r, FIRST), 0);
	assert_int_equal(repl_mark(r, FIRST + 2), 0);
	assert_int_equal(repl_group_stat(r, STOPPED, &st), 0);
	assert_false(st.is_leader);
	assert_int_equal(st.last_index, 0);
	assert_int_equal(repl_ready(r, 0), 0);
	repl_stop(r);
	assert_int_equal(b.h.store[1].n, 0);
	assert_int_equal(b.h.store[0].n, 10 + 4 * PER_WRITER / GROUPS);
	assert_int_equal(b.h.store[2].n, 10 + 4 * PER_WRITER / GROUPS);
	bench_release(&b);
}

/* The end comes while proposals and marks are under way: each of them is answered. */
static void the_end_answers_what_waits_for_a_stopped_group(void **state)
{
	(void)state;
	struct bench b;
	bench_init(&b, 2, false);
	pump_lose(&b.o, STOPPED);
	for (unsigned round = 0; round < 20; round++) {
		struct count c[GROUPS] = {{.h = &b.h}, {.h = &b.h}, {.h = &b.h}};
		memset(b.h.store, 0, sizeof b.h.store);
		b.h.keep_values = false;
		struct repl *r = pump_start(&b.h, &b.o);
		for (unsigned i = 0; i < 300; i++)
			pump_propose(r, &c[i % GROUPS], FIRST + i % GROUPS, i, 2000);
		if (round % 2)
			repl_give_up(r);
		repl_stop(r);
		for (unsigned i = 0; i < GROUPS; i++)
			assert_int_equal(c[i].committed + c[i].failed, 100);
		assert_int_equal(c[1].failed, 100);
		assert_int_equal(c[1].status, -EUCLEAN);
		for (unsigned i = 0; i < GROUPS; i += 2)
			assert_true(c[i].failed == 0 || c[i].status == -ETIMEDOUT);
	}
	bench_release(&b);
}

/* No room: the others refuse, are marked aside, and recover; the stopped one says what it always says. */
static void a_full_disk_beside_a_stopped_group(void **state)
{
	(void)state;
	struct bench b;
	struct small_disk disk;
	small_disk_init(&disk);
	bench_init(&b, 2, false);
	pump_lose(&b.o, STOPPED);
	b.o.disk = &disk.d;
	b.o.wal.backend = WAL_PWRITE;
	b.h.hold_marks = true;
	struct repl *r = pump_start(&b.h, &b.o);
	struct count c = {.h = &b.h}, held = {.h = &b.h}, no = {.h = &b.h};
	atomic_store(&disk.full, true);
	unsigned n = 0;
	while (pump_counted(&c).failed == 0 && n < 100) {
		pump_propose(r, n % 2 ? &held : &c, FIRST, n, 1u << 20);
		n++;
		usleep(50 * 1000);
	}
	assert_int_equal(pump_counted(&c).status, -ENOSPC);
	pump_propose(r, &no, STOPPED, 1, 100);
	pump_await(&no, 1);
	assert_int_equal(pump_counted(&no).status, -EUCLEAN);
	assert_int_equal(repl_mark(r, STOPPED), -EUCLEAN);
	vx_lock(&b.h.lock);
	b.h.hold_marks = false;
	vx_cond_broadcast(&b.h.cond);
	vx_unlock(&b.h.lock);
	struct count again = {.h = &b.h};
	for (unsigned i = 0; i < 200 && pump_counted(&again).committed == 0; i++) {
		pump_propose(r, &again, FIRST + i % 2 * 2, 1000 + i, 1000);
		pump_await(&again, i + 1);
		usleep(50 * 1000);
		if (i == 40)
			atomic_store(&disk.full, false);
	}
	assert_true(pump_counted(&again).committed > 0);
	pump_await(&c, (n + 1) / 2);
	pump_await(&held, n / 2);
	repl_stop(r);
	bench_release(&b);
}

/* An idle group pins much log: it is marked by force, and the stopped one between them is not asked. */
static void an_idle_group_is_marked_by_force_beside_a_stopped_one(void **state)
{
	(void)state;
	struct bench b;
	struct repl_group_status st = {.mark_index = 0};
	bench_init(&b, 2, false);
	pump_lose(&b.o, STOPPED);
	b.o.mark_bytes = 128u << 10;
	struct repl *r = pump_start(&b.h, &b.o);
	struct count c = {.h = &b.h};
	for (unsigned i = 0; i < 400 && st.mark_index == 0; i++) {
		pump_propose(r, &c, FIRST + 2, i, 64u << 10);
		pump_await(&c, i + 1);
		usleep(1000);
		assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	}
	assert_true(st.mark_index > 0);
	assert_int_equal(pump_counted(&c).failed, 0);
	repl_stop(r);
	bench_release(&b);
}

static int host_recover(void *arg, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	(void)arg;
	(void)index;
	(void)manifest;
	(void)len;
	return group == FIRST + 2 ? -EUCLEAN : 0;
}

/* One group is stopped and another does not start: all ends, and nothing is lost by it. */
static void a_start_that_fails_beside_a_stopped_group(void **state)
{
	(void)state;
	struct bench b;
	struct vx_err err = VX_ERR_INIT;
	struct repl *r;
	bench_init(&b, 2, true);
	pump_lose(&b.o, STOPPED);
	struct repl_host_ops ops = pump_host_ops;
	ops.recover = host_recover;
	assert_int_equal(repl_open(&b.o, &ops, &b.h, &r, &err), 0);
	assert_int_equal(repl_start(r, &err), -EUCLEAN);
	assert_int_equal(repl_mark(r, STOPPED), -ETIMEDOUT);
	struct count c = {.h = &b.h};
	pump_propose(r, &c, STOPPED, 1, 100);
	assert_int_equal(c.status, -ETIMEDOUT);
	repl_stop(r);
	r = pump_start(&b.h, &b.o);
	assert_non_null(repl_group_stopped(r, STOPPED));
	repl_stop(r);
	bench_release(&b);
}

/* All groups of a pump stopped, there is still somebody who says so. */
static void all_groups_may_be_stopped(void **state)
{
	(void)state;
	struct bench b;
	bench_init(&b, 2, false);
	/* Another open between the two gives its verdict.  The vote that is written behind the loss is the first group's. */
	for (uint32_t g = STOPPED; g < FIRST + GROUPS; g++) {
		struct wal *w;
		pump_lose(&b.o, g);
		assert_int_equal(wal_open(b.o.disk, b.o.wal_dir, &b.o.wal, &w, NULL), 0);
		assert_non_null(wal_stopped(w, g));
		wal_close(w);
	}
	struct repl_opts o = b.o;
	o.first_group = STOPPED;
	o.n_groups = GROUPS - 1;
	struct repl *r;
	struct vx_err err = VX_ERR_INIT;
	assert_int_equal(repl_open(&o, &pump_host_ops, &b.h, &r, &err), 0);
	assert_int_equal(repl_start(r, &err), 0);
	assert_int_equal(repl_ready(r, 0), 0);
	struct count c = {.h = &b.h};
	for (unsigned i = 0; i < 10; i++)
		pump_propose(r, &c, STOPPED + i % 2, i, 100);
	pump_await(&c, 10);
	assert_int_equal(c.failed, 10);
	assert_int_equal(c.status, -EUCLEAN);
	usleep(3 * 100 * 1000); /* some ticks of nobody */
	repl_stop(r);
	bench_release(&b);
}

/* --- acceptance ---------------------------------------------------------------------------- */

/* Afterwards it is a leader at the index promised, beyond all that was; what it gets is kept. */
static void an_accepted_group_goes_on(void **state)
{
	(void)state;
	for (unsigned ahead = 0; ahead < 2; ahead++) {
		struct bench b;
		struct vx_err err = VX_ERR_INIT;
		struct repl_group_status was, st;
		bench_init(&b, 5, ahead);
		struct repl *r = pump_start(&b.h, &b.o);
		assert_int_equal(repl_group_stat(r, STOPPED, &was), 0);
		repl_stop(r);
		pump_lose(&b.o, STOPPED);
		/* The store may be ahead of what is left of the log. */
		uint64_t applied = ahead ? was.last_index + 7 : 1;
		assert_int_equal(repl_accept_loss(&b.o, FIRST, applied, &err), -ENOENT);
		assert_non_null(strstr(err.msg, "lost nothing"));
		err.msg[0] = 0;
		assert_int_equal(repl_accept_loss(&b.o, STOPPED, INT64_MAX, &err), -EUCLEAN);
		assert_non_null(strstr(err.msg, "cannot be"));
		err.msg[0] = 0;
		int rc = repl_accept_loss(&b.o, STOPPED, applied, &err);
		if (rc)
			fail_msg("accept: %s", vx_err_msg(&err, rc));
		assert_int_equal(repl_accept_loss(&b.o, STOPPED, applied, &err), -ENOENT);
		pump_host_release(&b.h);
		uint64_t last = 0;
		for (unsigned life = 0; life < 3; life++) {
			pump_host_init(&b.h, b.dir);
			r = pump_start(&b.h, &b.o);
			assert_null(repl_group_stopped(r, STOPPED));
			struct count c = {.h = &b.h};
			for (unsigned i = 0; i < 3 * GROUPS; i++)
				pump_propose(r, &c, FIRST + i % GROUPS, 100 * life + i, 100);
			pump_await(&c, 3 * GROUPS);
			assert_int_equal(c.committed, 3 * GROUPS);
			assert_int_equal(repl_group_stat(r, STOPPED, &st), 0);
			assert_true(st.is_leader);
			assert_true(st.term > was.term);
			assert_true(st.last_index > last);
			last = st.last_index;
			if (life < 2) {
				assert_true(st.mark_index >= applied + LEAP);
				assert_true(st.mark_index >= was.last_index + LEAP);
				/* No more than that: what was seen, and the leap. */
				assert_true(st.mark_index <= was.last_index + LEAP + 7);
				assert_int_equal(b.h.store[1].n, 3 * (life + 1));
			} else {
				assert_int_equal(repl_mark(r, STOPPED), 0);
			}
			repl_stop(r);
			assert_int_equal(b.h.bad, 0);
			if (life < 2)
				pump_host_release(&b.h);
		}
		bench_release(&b);
	}
}

/* A log on a disk in memory whose second group lost something. */
static struct disk *damaged_disk(struct repl_opts *o, struct host *h)
{
	struct repl *r;
	*o = (struct repl_opts){
		.disk = pump_must(fakedisk_new()),
		.wal_dir = "wal",
		.wal = {.segment_size_bytes = 1u << 18,
			.backend = WAL_PWRITE,
			.node_id = 5,
			.stop_first = FIRST,
			.n_stop = GROUPS},
		.node_id = 5,
		.first_group = FIRST,
		.n_groups = GROUPS,
	};
	assert_int_equal(repl_open(o, &pump_host_ops, h, &r, NULL), 0);
	repl_stop(r);
	pump_lose(o, STOPPED);
	return o->disk;
}

/* Stopped, or what was accepted. */
static bool accepted(const struct repl_opts *o)
{
	struct wal_group_state st;
	struct wal *w;
	assert_int_equal(wal_open(o->disk, o->wal_dir, &o->wal, &w, NULL), 0);
	bool yes = !wal_stopped(w, STOPPED);
	if (yes) {
		assert_int_equal(wal_group_load(w, STOPPED, &st, NULL), 0);
		assert_true(st.mark_index >= LEAP);
		assert_true(st.mark_term > 1);
		assert_true(st.term >= st.mark_term);
		assert_true(st.manifest_len > 0);
		assert_int_equal(st.n_entries, 0);
		wal_group_state_release(&st);
	}
	for (uint32_t g = FIRST; g < FIRST + GROUPS; g++)
		assert_true(g == STOPPED || !wal_stopped(w, g));
	wal_close(w);
	return yes;
}

/* Whatever call of the disk fails, and is followed by a loss of power: the group is stopped still, and can be
 * accepted, or is accepted.  The same where the verdict was given before. */
static void acceptance_may_be_cut_short_anywhere(void **state)
{
	(void)state;
	struct host h;
	struct repl_opts o;
	unsigned runs = 0, again = 0;
	pump_host_init(&h, "unused");
	h.keep_values = false;
	struct disk *fresh = damaged_disk(&o, &h);
	for (unsigned judged = 0; judged < 2; judged++) {
		if (judged)
			assert_false(accepted(&o));
		bool reached = true;
		for (uint64_t at = 1; reached; at++) {
			struct vx_err err = VX_ERR_INIT;
			struct repl_opts c = o;
			c.disk = pump_must(fakedisk_clone(fresh));
			uint64_t before = fakedisk_calls(c.disk);
			fakedisk_fail_after(c.disk, at, at % 2 ? -EIO : -ENOSPC);
			int rc = repl_accept_loss(&c, STOPPED, 1, &err);
			reached = fakedisk_calls(c.disk) - before >= at;
			assert_true(rc == 0 || reached);
			assert_int_equal(rc != 0, err.msg[0] != 0);
			assert_int_equal(fakedisk_open_handles(c.disk), 0);
			fakedisk_fail_after(c.disk, 0, 0);
			fakedisk_crash(c.disk, at);
			bool yes = accepted(&c);
			assert_true(yes || rc != 0);
			again += !yes;
			if (!yes)
				assert_int_equal(repl_accept_loss(&c, STOPPED, 1, NULL), 0);
			assert_true(accepted(&c));
			struct repl *r;
			assert_int_equal(repl_open(&c, &pump_host_ops, &h, &r, NULL), 0);
			assert_null(repl_group_stopped(r, STOPPED));
			repl_stop(r);
			assert_true(accepted(&c));
			fakedisk_free(c.disk);
			runs++;
		}
	}
	print_message("%u runs, %u of them accepted again\n", runs, again);
	assert_true(again > 10 && again < runs);
	/* No room at all. */
	struct vx_err err = VX_ERR_INIT;
	fakedisk_limit(fresh, fakedisk_used(fresh));
	int rc = repl_accept_loss(&o, STOPPED, 1, &err);
	assert_true(rc == 0 || rc == -ENOSPC);
	fakedisk_limit(fresh, UINT64_MAX);
	assert_int_equal(accepted(&o), rc == 0);
	fakedisk_free(fresh);
	pump_host_release(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stopped_group_answers_and_the_others_commit),
		cmocka_unit_test(the_end_answers_what_waits_for_a_stopped_group),
		cmocka_unit_test(a_full_disk_beside_a_stopped_group),
		cmocka_unit_test(an_idle_group_is_marked_by_force_beside_a_stopped_one),
		cmocka_unit_test(a_start_that_fails_beside_a_stopped_group),
		cmocka_unit_test(all_groups_may_be_stopped),
		cmocka_unit_test(an_accepted_group_goes_on),
		cmocka_unit_test(acceptance_may_be_cut_short_anywhere),
	};

	(void)!log_configure("off");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
