/* test_pump.c - the real pump: threads, a libuv loop, the log writer, a real directory. */
#include "pump.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/wal/fakedisk.h"

/* --- tests --------------------------------------------------------------------------------- */

#define PER_WRITER 400u

static void *write_many(void *arg)
{
	struct writer *w = arg;
	for (unsigned i = 0; i < PER_WRITER; i++) {
		if (i >= 40)
			pump_await(&w->count, i - 39);
		uint64_t value = (uint64_t)w->number << 32 | i;
		pump_propose(w->r, &w->count, FIRST + i % w->groups, value, 8 + i % 3000);
	}
	pump_await(&w->count, PER_WRITER);
	return NULL;
}

static void never(struct repl_proposal *p, int status)
{
	(void)p;
	(void)status;
	fail();
}

/* While nothing runs a proposal is handed back, and nobody is called: the caller may hold a lock that its
 * callback takes. */
static void repl_proposal_without_a_reactor_is_handed_back(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	struct vx_err err = VX_ERR_INIT;
	struct repl *r;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 1);
	assert_int_equal(repl_open(&o, &pump_host_ops, &h, &r, &err), 0);
	struct repl_proposal p = {.data = pump_must(repl_alloc(8)), .len = 8, .failed = never};
	assert_int_equal(repl_propose(r, FIRST, &p), -ETIMEDOUT);
	assert_null(p.data);
	repl_stop(r);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* Threads write into all groups: each group applies without a gap, and what one thread wrote
 * to one group is applied in its order. */
static void write_from_threads(unsigned groups)
{
	char dir[128], wal_dir[200];
	struct host h;
	struct writer w[8];
	pthread_t t[8];
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, groups);
	struct repl *r = pump_start(&h, &o);
	for (unsigned i = 0; i < 8; i++) {
		w[i] = (struct writer){.r = r, .count = {.h = &h}, .number = i, .groups = groups};
		assert_int_equal(pthread_create(&t[i], NULL, write_many, &w[i]), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(w[i].count.committed, PER_WRITER);
	}
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	size_t total = 0;
	for (unsigned g = 0; g < groups; g++) {
		int64_t last[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
		total += h.store[g].n;
		for (size_t i = 0; i < h.store[g].n; i++) {
			uint64_t v = h.store[g].values[i];
			assert_true((int64_t)(v & 0xffffffff) > last[v >> 32]);
			last[v >> 32] = (int64_t)(v & 0xffffffff);
		}
	}
	assert_int_equal(total, 8 * PER_WRITER);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

static void repl_one_group_is_fifo_for_each_thread(void **state)
{
	(void)state;
	write_from_threads(1);
}

static void repl_five_groups_are_fifo_for_each_thread(void **state)
{
	(void)state;
	write_from_threads(5);
}

/* After a stop, exactly the entries above the mark are applied again, in order. */
static void repl_restart_replays_above_the_mark(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 2);
	o.mark_bytes = 64u << 20;
	o.mark_interval_ms = 3600 * 1000;
	struct repl *r = pump_start(&h, &o);
	struct count c = {.h = &h};
	for (unsigned i = 0; i < 50; i++)
		pump_propose(r, &c, FIRST, i, 100);
	pump_await(&c, 50);
	assert_int_equal(repl_mark(r, FIRST), 0);
	struct repl_group_status st;
	assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	assert_true(st.mark_index >= 50);
	assert_int_equal(st.unmarked_bytes, 0);
	assert_int_equal(repl_mark(r, FIRST), 0); /* nothing new: done at once */
	for (unsigned i = 50; i < 80; i++)
		pump_propose(r, &c, FIRST, i, 100);
	pump_await(&c, 80);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	pump_host_release(&h);

	pump_host_init(&h, dir);
	r = pump_start(&h, &o);
	assert_int_equal(h.store[0].n, 30);
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(h.store[0].values[i], 50 + i);
	assert_int_equal(h.store[1].n, 0);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

static size_t rss_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long size = 0, resident = 0;
	if (!f || fscanf(f, "%lu %lu", &size, &resident) != 2)
		abort();
	fclose(f);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* A bulk ingest of 256 MiB in 1 MiB entries: neither memory nor log grow with it. */
static void repl_marks_bound_log_and_memory(void **state)
{
	(void)state;
	enum { N = 256 };
	char dir[128], wal_dir[200];
	struct host h;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	h.keep_values = false;
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 1);
	o.mark_bytes = 4u << 20;
	struct repl *r = pump_start(&h, &o);
	struct count c = {.h = &h};
	size_t before = rss_bytes(), most = 0;
	uint64_t most_unmarked = 0;
	for (unsigned i = 0; i < N; i++) {
		struct repl_group_status st;
		if (i >= 8)
			pump_await(&c, i - 7);
		pump_propose(r, &c, FIRST, i, 1u << 20);
		most = VX_MAX(most, rss_bytes());
		assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
		most_unmarked = VX_MAX(most_unmarked, st.unmarked_bytes);
	}
	pump_await(&c, N);
	assert_int_equal(c.committed, N);
	assert_int_equal(repl_mark(r, FIRST), 0);
	struct wal_stats ws;
	repl_wal_stat(r, &ws);
	print_message("most unmarked %.1f MiB, most memory +%.1f MiB, log %.1f MiB, %u marks\n",
		(double)most_unmarked / (1 << 20), ((double)most - (double)before) / (1 << 20),
		(double)ws.size_bytes / (1 << 20), h.marks);
	assert_true(h.marks >= 4);
	assert_true(most_unmarked <= (4 * 4 + 16 + 1) * (1u << 20));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(most < before + (96u << 20));
#endif
	assert_true(ws.size_bytes < (120u << 20));
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* A store that cannot mark makes proposals wait at the bound; nothing is lost when it can. */
static void repl_slow_store_makes_proposals_wait(void **state)
{
	(void)state;
	enum { N = 64 };
	char dir[128], wal_dir[200];
	struct host h;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	h.hold_marks = true;
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 1);
	struct repl *r = pump_start(&h, &o);
	struct count c = {.h = &h};
	for (unsigned i = 0; i < N; i++)
		pump_propose(r, &c, FIRST, i, 512u << 10);
	usleep(500 * 1000);
	struct repl_group_status st;
	assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	assert_true(st.unmarked_bytes >= 4u << 20);
	assert_true(st.unmarked_bytes <= (4 + 16 + 1) * (1u << 20));
	vx_lock(&h.lock);
	assert_true(c.committed < N);
	h.hold_marks = false;
	vx_cond_broadcast(&h.cond);
	vx_unlock(&h.lock);
	pump_await(&c, N);
	assert_int_equal(c.committed, N);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* A failing mark is reported to who asked, changes nothing, and is repeated. */
static void repl_failed_mark_is_reported_and_repeated(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	h.mark_status = -EAGAIN;
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 1);
	struct repl *r = pump_start(&h, &o);
	struct count c = {.h = &h};
	pump_propose(r, &c, FIRST, 1, 100);
	pump_await(&c, 1);
	assert_int_equal(repl_mark(r, FIRST), -EAGAIN);
	struct repl_group_status st;
	assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	assert_int_equal(st.mark_index, 0);
	vx_lock(&h.lock);
	h.mark_status = 0;
	vx_unlock(&h.lock);
	for (unsigned i = 0; i < 200; i++) {
		usleep(20 * 1000);
		assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
		if (st.mark_index > 0)
			break;
	}
	assert_true(st.mark_index > 0);
	repl_stop(r);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* What cannot be proposed fails with its reason; what waits at a stop times out. */
static void repl_refusals_name_their_reason(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 1);
	struct repl *r = pump_start(&h, &o);
	struct count c = {.h = &h};
	pump_propose(r, &c, FIRST + 1, 1, 100);
	pump_await(&c, 1);
	assert_int_equal(c.status, -ENOENT);
	pump_propose(r, &c, FIRST, 1, 0);
	pump_await(&c, 2);
	assert_int_equal(c.status, -EMSGSIZE);
	pump_propose(r, &c, FIRST, 1, VX_ENTRY_BYTES_MAX + 1);
	pump_await(&c, 3);
	assert_int_equal(c.status, -EMSGSIZE);
	assert_int_equal(repl_mark(r, FIRST + 1), -ENOENT);
	c = (struct count){.h = &h};
	for (unsigned i = 0; i < 500; i++)
		pump_propose(r, &c, FIRST, i, 4096);
	repl_stop(r);
	assert_int_equal(c.committed + c.failed, 500);
	if (c.failed > 0)
		assert_int_equal(c.status, -ETIMEDOUT);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* --- a full disk ----------------------------------------------------------------- */

/* While the disk is full proposals fail with -ENOSPC and nothing else happens: the leader stays.
 * Once the store can be marked the log finds room in itself if the segment has any left for the
 * marks; otherwise as soon as the disk has some. */
static void repl_full_disk_refuses_and_recovers(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	struct small_disk disk;
	small_disk_init(&disk);
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	h.hold_marks = true;
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 2);
	o.disk = &disk.d;
	o.wal.backend = WAL_PWRITE;
	o.mark_bytes = 64u << 20;
	struct repl *r = pump_start(&h, &o);
	struct count c = {.h = &h}, held = {.h = &h};
	atomic_store(&disk.full, true);
	unsigned n = 0;
	/* Some append meets the full log and stays; from then on there is an answer. */
	while (pump_counted(&c).failed == 0 && n < 100) {
		pump_propose(r, n % 2 ? &held : &c, FIRST, n, 1u << 20);
		n++;
		usleep(50 * 1000);
	}
	assert_true(pump_counted(&c).failed > 0);
	assert_int_equal(pump_counted(&c).status, -ENOSPC);
	struct repl_group_status st;
	assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	assert_true(st.is_leader);
	uint64_t term = st.term;
	vx_lock(&h.lock);
	h.hold_marks = false;
	vx_cond_broadcast(&h.cond);
	vx_unlock(&h.lock);
	struct count again = {.h = &h};
	for (unsigned i = 0; i < 200 && pump_counted(&again).committed == 0; i++) {
		pump_propose(r, &again, FIRST + i % 2, 1000 + i, 1000);
		pump_await(&again, i + 1);
		usleep(50 * 1000);
		if (i == 40)
			atomic_store(&disk.full, false);
	}
	print_message("room came from the %s\n", atomic_load(&disk.full) ? "log" : "disk");
	assert_true(again.committed > 0);
	assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	assert_true(st.is_leader);
	assert_int_equal(st.term, term);
	pump_await(&c, (n + 1) / 2);
	pump_await(&held, n / 2);
	unsigned committed = c.committed + held.committed + again.committed;
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	assert_int_equal(h.store[0].n + h.store[1].n, committed);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* The end does not wait for room: writers and marks are let go, and what was not acknowledged may be missing at
 * the next start, which finds a log that can be read. */
static void repl_full_log_does_not_hold_up_the_end(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	struct small_disk disk;
	small_disk_init(&disk);
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 2);
	o.disk = &disk.d;
	o.wal.backend = WAL_PWRITE;
	o.mark_bytes = 64u << 20;
	h.hold_marks = true;
	struct repl *r = pump_start(&h, &o);
	struct count c = {.h = &h}, held = {.h = &h}, late = {.h = &h};
	atomic_store(&disk.full, true);
	unsigned n = 0;
	while (pump_counted(&c).failed == 0 && n < 100) {
		pump_propose(r, n % 2 ? &held : &c, FIRST, n, 1u << 20);
		n++;
		usleep(50 * 1000);
	}
	assert_int_equal(pump_counted(&c).status, -ENOSPC);
	assert_true(pump_counted(&c).failed + pump_counted(&held).failed +
			    pump_counted(&c).committed + pump_counted(&held).committed <
		    n);
	vx_lock(&h.lock);
	h.hold_marks = false;
	vx_cond_broadcast(&h.cond);
	vx_unlock(&h.lock);
	repl_give_up(r);
	/* These would wait for ever. */
	pump_await(&c, (n + 1) / 2);
	pump_await(&held, n / 2);
	pump_propose(r, &late, FIRST, 5000, 100);
	pump_await(&late, 1);
	assert_int_equal(pump_counted(&late).failed, 1);
	assert_int_equal(pump_counted(&late).status, -ETIMEDOUT);
	assert_int_equal(repl_mark(r, FIRST), -ETIMEDOUT);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	pump_host_release(&h);
	atomic_store(&disk.full, false);
	pump_host_init(&h, dir);
	r = pump_start(&h, &o);
	struct count again = {.h = &h};
	pump_propose(r, &again, FIRST, 6000, 1000);
	pump_await(&again, 1);
	assert_int_equal(pump_counted(&again).committed, 1);
	repl_stop(r);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* --- starts that fail ---------------------------------------------------------------- */

/* Options that make no sense are refused; nothing is fine to stop. */
static void repl_open_checks_its_options(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	struct vx_err err = VX_ERR_INIT;
	struct repl *r = NULL;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	const struct repl_opts good = pump_opts(wal_dir, sizeof wal_dir, dir, 1);
	struct repl_opts o = good;
	o.node_id = 0;
	assert_int_equal(repl_open(&o, &pump_host_ops, &h, &r, &err), -EINVAL);
	o = good;
	o.n_groups = 0;
	assert_int_equal(repl_open(&o, &pump_host_ops, &h, &r, &err), -EINVAL);
	o.n_groups = WAL_GROUPS_MAX + 1;
	assert_int_equal(repl_open(&o, &pump_host_ops, &h, &r, &err), -EINVAL);
	assert_null(r);
	repl_stop(NULL);
	repl_give_up(NULL);
	/* Opened and not started: it answers, and stops. */
	o = good;
	o.mark_bytes = 0;
	assert_int_equal(repl_open(&o, &pump_host_ops, &h, &r, &err), 0);
	struct repl_group_status st;
	struct wal_stats ws;
	assert_int_equal(repl_group_stat(r, FIRST + 1, &st), -ENOENT);
	assert_int_equal(repl_group_stat(r, FIRST - 1, &st), -ENOENT);
	repl_wal_stat(r, &ws);
	assert_true(ws.size_bytes > 0);
	assert_int_equal(repl_mark(r, FIRST), -ETIMEDOUT);
	assert_int_equal(repl_ready(r, 1), -ETIMEDOUT);
	repl_give_up(r);
	repl_stop(r);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* Whatever call of the disk fails while new groups are opened: the error is told, and the next open succeeds. */
static void repl_open_on_a_failing_disk_is_refused(void **state)
{
	(void)state;
	struct host h;
	pump_host_init(&h, "unused");
	h.keep_values = false;
	unsigned failed = 0;
	for (uint64_t at = 1; at == failed + 1; at++) {
		struct disk *d = pump_must(fakedisk_new());
		struct vx_err err = VX_ERR_INIT;
		struct repl *r = NULL;
		struct repl_opts o = {
			.disk = d,
			.wal_dir = "wal",
			.wal = {.segment_size_bytes = 1u << 18,
				.backend = WAL_PWRITE,
				.node_id = 5},
			.node_id = 5,
			.first_group = FIRST,
			.n_groups = 2,
		};
		uint64_t before = fakedisk_calls(d);
		fakedisk_fail_after(d, at, -EIO);
		int rc = repl_open(&o, &pump_host_ops, &h, &r, &err);
		bool reached = fakedisk_calls(d) - before >= at;
		fakedisk_fail_after(d, 0, 0);
		assert_true(rc == 0 || (reached && rc == -EIO));
		failed += reached;
		repl_stop(rc == 0 ? r : NULL);
		r = NULL;
		assert_int_equal(repl_open(&o, &pump_host_ops, &h, &r, &err), 0);
		repl_stop(r);
		fakedisk_free(d);
	}
	assert_true(failed > 3);
	pump_host_release(&h);
}

/* A group whose log makes no sense is refused at the open. */
static void repl_open_refuses_a_strange_log(void **state)
{
	(void)state;
	struct host h;
	struct vx_err err = VX_ERR_INIT;
	struct repl *r = NULL;
	struct wal *w;
	struct disk *d = pump_must(fakedisk_new());
	pump_host_init(&h, "unused");
	struct repl_opts o = {
		.disk = d,
		.wal_dir = "wal",
		.wal = {.segment_size_bytes = 1u << 18, .backend = WAL_PWRITE, .node_id = 5},
		.node_id = 5,
		.first_group = FIRST,
		.n_groups = 2,
	};
	assert_int_equal(wal_open(d, "wal", &o.wal, &w, &err), 0);
	struct wal_rec hard = {.group = FIRST + 1, .type = WAL_HARDSTATE, .term = 1};
	struct wal_rec entry = {.group = FIRST + 1,
		.type = WAL_ENTRY,
		.etype = 1,
		.index = 1,
		.term = 1,
		.data = "12345678",
		.len = 8};
	assert_int_equal(wal_stage(w, &hard), 0);
	assert_int_equal(wal_stage(w, &entry), 0); /* a command where the configuration should be */
	assert_int_equal(wal_flush(w), 0);
	wal_close(w);
	assert_int_equal(repl_open(&o, &pump_host_ops, &h, &r, &err), -EUCLEAN);
	assert_null(r);
	fakedisk_free(d);
	pump_host_release(&h);
}

static int host_recover(void *arg, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	(void)arg;
	(void)index;
	(void)manifest;
	(void)len;
	return group == FIRST + 1 ? -EUCLEAN : 0;
}

/* Of three groups the second does not start: repl_start says why, all end, and nothing is taken any more. */
static void repl_start_that_fails_ends_all_groups(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	struct vx_err err = VX_ERR_INIT;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 3);
	struct repl *r = pump_start(&h, &o);
	struct count c = {.h = &h};
	for (unsigned i = 0; i < 3; i++)
		pump_propose(r, &c, FIRST + i, 1, 100);
	pump_await(&c, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(repl_mark(r, FIRST + i), 0);
	repl_stop(r);
	struct repl_host_ops ops = pump_host_ops;
	ops.recover = host_recover;
	assert_int_equal(repl_open(&o, &ops, &h, &r, &err), 0);
	assert_int_equal(repl_start(r, &err), -EUCLEAN);
	struct repl_proposal p = {.data = pump_must(repl_alloc(8)), .len = 8, .failed = never};
	assert_int_equal(repl_propose(r, FIRST, &p), -ETIMEDOUT);
	assert_int_equal(repl_mark(r, FIRST), -ETIMEDOUT);
	repl_stop(r);
	pump_host_release(&h);
	pump_host_init(&h, dir);
	r = pump_start(&h, &o); /* nothing was lost by that */
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

/* Without descriptors there is no loop; once there are some, the same groups start. */
static void repl_start_without_descriptors_may_be_repeated(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	struct vx_err err = VX_ERR_INIT;
	struct repl *r;
	struct rlimit was, none;
	pump_make_dir(dir, sizeof dir);
	pump_host_init(&h, dir);
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, dir, 1);
	assert_int_equal(repl_open(&o, &pump_host_ops, &h, &r, &err), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = was;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int rc = repl_start(r, &err);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_int_equal(rc, -ENOMEM);
	assert_int_equal(repl_start(r, &err), 0);
	assert_int_equal(repl_ready(r, 20000), 0);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	pump_host_release(&h);
	pump_remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repl_one_group_is_fifo_for_each_thread),
		cmocka_unit_test(repl_five_groups_are_fifo_for_each_thread),
		cmocka_unit_test(repl_restart_replays_above_the_mark),
		cmocka_unit_test(repl_marks_bound_log_and_memory),
		cmocka_unit_test(repl_slow_store_makes_proposals_wait),
		cmocka_unit_test(repl_failed_mark_is_reported_and_repeated),
		cmocka_unit_test(repl_refusals_name_their_reason),
		cmocka_unit_test(repl_full_disk_refuses_and_recovers),
		cmocka_unit_test(repl_proposal_without_a_reactor_is_handed_back),
		cmocka_unit_test(repl_full_log_does_not_hold_up_the_end),
		cmocka_unit_test(repl_open_checks_its_options),
		cmocka_unit_test(repl_open_on_a_failing_disk_is_refused),
		cmocka_unit_test(repl_open_refuses_a_strange_log),
		cmocka_unit_test(repl_start_that_fails_ends_all_groups),
		cmocka_unit_test(repl_start_without_descriptors_may_be_repeated),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
