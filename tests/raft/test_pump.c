/* test_pump.c - the real pump: threads, a libuv loop, the log writer, a real directory.
 *
 * The host of these tests keeps what it applied as a list of values per group; its "store" is a
 * file per group, written by mark, so that a killed process can be compared with what it had
 * acknowledged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "raft/repl.h"
#include "tests/wal/fakedisk.h"

#define GROUPS_MAX 5u
#define FIRST      3u

struct store {
	uint64_t applied;
	uint64_t *values; /* by order of application */
	size_t n, cap;
	unsigned watermarks;
};

struct host {
	char dir[200];
	struct vx_mutex lock;
	struct vx_cond cond;
	struct store store[GROUPS_MAX];
	unsigned marks, bad;
	int mark_status; /* what mark answers */
	bool hold_marks; /* mark blocks */
	int ack_fd;      /* -1, or where committed values are told */
	bool keep_values;
};

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- the host ------------------------------------------------------------------- */

static void advance(struct host *h, struct store *s, uint64_t index)
{
	if (index != s->applied + 1)
		h->bad++;
	s->applied = index;
}

static void host_apply(
	void *arg, uint32_t group, uint64_t index, uint64_t term, const void *data, size_t len)
{
	struct host *h = arg;
	struct store *s = &h->store[group - FIRST];
	vx_lock(&h->lock);
	advance(h, s, index);
	if (term == 0 || len < 8)
		h->bad++;
	if (h->keep_values) {
		if (s->n == s->cap) {
			s->cap = s->cap ? 2 * s->cap : 256;
			s->values = must(realloc(s->values, s->cap * sizeof *s->values));
		}
		s->values[s->n++] = get_le64(data);
	}
	vx_unlock(&h->lock);
}

static void host_watermark(void *arg, uint32_t group, uint64_t index)
{
	struct host *h = arg;
	vx_lock(&h->lock);
	advance(h, &h->store[group - FIRST], index);
	h->store[group - FIRST].watermarks++;
	vx_unlock(&h->lock);
}

static void host_role(void *arg, uint32_t group, bool is_leader, uint64_t term)
{
	(void)arg;
	(void)group;
	(void)is_leader;
	(void)term;
}

static void store_path(const struct host *h, uint32_t group, char *ret, size_t n)
{
	snprintf(ret, n, "%s/store-%u", h->dir, group);
}

/* File: index, number of values, values. */
static int store_save(struct host *h, uint32_t group, uint64_t index)
{
	struct store *s = &h->store[group - FIRST];
	struct buf b = BUF_INIT;
	char name[32];
	snprintf(name, sizeof name, "store-%u", group);
	vx_lock(&h->lock);
	int rc = s->applied < index ? -EAGAIN : buf_put_le64(&b, s->applied);
	if (rc == 0)
		rc = buf_put_le64(&b, s->n);
	for (size_t i = 0; rc == 0 && i < s->n; i++)
		rc = buf_put_le64(&b, s->values[i]);
	vx_unlock(&h->lock);
	if (rc == 0)
		rc = disk_write_file(disk_real(), h->dir, name, b.data, b.len);
	buf_release(&b);
	return rc;
}

static int host_mark(void *arg, uint32_t group, uint64_t index, struct buf *manifest)
{
	struct host *h = arg;
	vx_lock(&h->lock);
	while (h->hold_marks)
		vx_cond_wait(&h->cond, &h->lock);
	int rc = h->mark_status;
	vx_unlock(&h->lock);
	if (rc == 0 && h->keep_values)
		rc = store_save(h, group, index);
	if (rc == 0)
		rc = buf_put_le64(manifest, index);
	vx_lock(&h->lock);
	if (rc == 0)
		h->marks++;
	vx_unlock(&h->lock);
	return rc;
}

static int host_restore(void *arg, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	struct host *h = arg;
	(void)group;
	(void)index;
	(void)manifest;
	(void)len;
	h->bad++; /* own marks never get here */
	return 0;
}

static const struct repl_host_ops host_ops = {
	.apply = host_apply,
	.watermark = host_watermark,
	.role = host_role,
	.mark = host_mark,
	.restore = host_restore,
};

static void host_init(struct host *h, const char *dir)
{
	memset(h, 0, sizeof *h);
	snprintf(h->dir, sizeof h->dir, "%s", dir);
	vx_mutex_init(&h->lock, LOCK_SHARD);
	vx_cond_init(&h->cond);
	h->ack_fd = -1;
	h->keep_values = true;
}

static void host_release(struct host *h)
{
	for (unsigned i = 0; i < GROUPS_MAX; i++)
		free(h->store[i].values);
	vx_cond_release(&h->cond);
	vx_mutex_release(&h->lock);
}

/* --- set-up ----------------------------------------------------------------------- */

static void make_dir(char *ret, size_t n)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(ret, n, "%s/vecfs-raft-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(ret));
	char wal[240];
	snprintf(wal, sizeof wal, "%s/wal", ret);
	assert_int_equal(disk_real()->ops->mkdir(disk_real(), wal, 0700), 0);
}

static void remove_tree(const char *dir)
{
	DIR *d = opendir(dir);
	char path[600];
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		if (unlink(path) != 0)
			remove_tree(path);
	}
	closedir(d);
	rmdir(dir);
}

static struct repl_opts make_opts(char *wal_dir, size_t n, const char *dir, unsigned groups)
{
	snprintf(wal_dir, n, "%s/wal", dir);
	return (struct repl_opts){
		.disk = disk_real(),
		.wal_dir = wal_dir,
		.wal = {.segment_size_bytes = 4u << 20, .node_id = 5},
		.node_id = 5,
		.first_group = FIRST,
		.n_groups = groups,
		.mark_bytes = 1u << 20,
		.mark_interval_ms = 300,
	};
}

static struct repl *start(struct host *h, const struct repl_opts *o)
{
	struct repl *r;
	struct vx_err err = VX_ERR_INIT;
	int rc = repl_open(o, &host_ops, h, &r, &err);
	if (rc != 0)
		fail_msg("open: %s", vx_err_msg(&err, rc));
	/* What the store holds is there before the first apply. */
	for (unsigned i = 0; i < o->n_groups; i++) {
		struct repl_group_status st;
		assert_int_equal(repl_group_stat(r, FIRST + i, &st), 0);
		h->store[i].applied = st.mark_index;
	}
	rc = repl_start(r, &err);
	if (rc != 0)
		fail_msg("start: %s", vx_err_msg(&err, rc));
	assert_int_equal(repl_ready(r, 20000), 0);
	return r;
}

/* --- proposals ------------------------------------------------------------------------ */

struct count {
	struct host *h;
	unsigned committed, failed;
	int status;
};

struct item {
	struct repl_proposal p;
	struct count *count;
	uint64_t value;
};

static void on_committed(struct repl_proposal *p)
{
	struct item *it = VX_CONTAINER_OF(p, struct item, p);
	struct host *h = it->count->h;
	if (h->ack_fd >= 0 && write(h->ack_fd, &it->value, 8) != 8)
		_exit(3);
	vx_lock(&h->lock);
	it->count->committed++;
	vx_cond_broadcast(&h->cond);
	vx_unlock(&h->lock);
	free(it);
}

static void on_failed(struct repl_proposal *p, int status)
{
	struct item *it = VX_CONTAINER_OF(p, struct item, p);
	struct host *h = it->count->h;
	vx_lock(&h->lock);
	it->count->failed++;
	it->count->status = status;
	vx_cond_broadcast(&h->cond);
	vx_unlock(&h->lock);
	free(it);
}

static void propose(struct repl *r, struct count *c, uint32_t group, uint64_t value, size_t len)
{
	struct item *it = must(calloc(1, sizeof *it));
	it->count = c;
	it->value = value;
	it->p.data = must(repl_alloc(len ? len : 8));
	memset(it->p.data, (int)value, len);
	if (len >= 8)
		put_le64(it->p.data, value);
	it->p.len = len;
	it->p.committed = on_committed;
	it->p.failed = on_failed;
	int rc = repl_propose(r, group, &it->p);
	if (rc != 0)
		on_failed(&it->p, rc);
}

static void await(struct count *c, unsigned n)
{
	vx_lock(&c->h->lock);
	while (c->committed + c->failed < n)
		vx_cond_wait(&c->h->cond, &c->h->lock);
	vx_unlock(&c->h->lock);
}

static struct count snapshot(struct count *c)
{
	vx_lock(&c->h->lock);
	struct count copy = *c;
	vx_unlock(&c->h->lock);
	return copy;
}

/* --- tests --------------------------------------------------------------------------------- */

struct writer {
	struct repl *r;
	struct count count;
	unsigned number, groups;
};

#define PER_WRITER 400u

static void *write_many(void *arg)
{
	struct writer *w = arg;
	for (unsigned i = 0; i < PER_WRITER; i++) {
		if (i >= 40)
			await(&w->count, i - 39);
		uint64_t value = (uint64_t)w->number << 32 | i;
		propose(w->r, &w->count, FIRST + i % w->groups, value, 8 + i % 3000);
	}
	await(&w->count, PER_WRITER);
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
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 1);
	assert_int_equal(repl_open(&o, &host_ops, &h, &r, &err), 0);
	struct repl_proposal p = {.data = must(repl_alloc(8)), .len = 8, .failed = never};
	assert_int_equal(repl_propose(r, FIRST, &p), -ETIMEDOUT);
	assert_null(p.data);
	repl_stop(r);
	host_release(&h);
	remove_tree(dir);
}

/* Threads write into all groups: each group applies without a gap, and what one thread wrote
 * to one group is applied in its order. */
static void write_from_threads(unsigned groups)
{
	char dir[128], wal_dir[200];
	struct host h;
	struct writer w[8];
	pthread_t t[8];
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, groups);
	struct repl *r = start(&h, &o);
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
	host_release(&h);
	remove_tree(dir);
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
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 2);
	o.mark_bytes = 64u << 20;
	o.mark_interval_ms = 3600 * 1000;
	struct repl *r = start(&h, &o);
	struct count c = {.h = &h};
	for (unsigned i = 0; i < 50; i++)
		propose(r, &c, FIRST, i, 100);
	await(&c, 50);
	assert_int_equal(repl_mark(r, FIRST), 0);
	struct repl_group_status st;
	assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	assert_true(st.mark_index >= 50);
	assert_int_equal(st.unmarked_bytes, 0);
	assert_int_equal(repl_mark(r, FIRST), 0); /* nothing new: done at once */
	for (unsigned i = 50; i < 80; i++)
		propose(r, &c, FIRST, i, 100);
	await(&c, 80);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	host_release(&h);

	host_init(&h, dir);
	r = start(&h, &o);
	assert_int_equal(h.store[0].n, 30);
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(h.store[0].values[i], 50 + i);
	assert_int_equal(h.store[1].n, 0);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	host_release(&h);
	remove_tree(dir);
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
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	h.keep_values = false;
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 1);
	o.mark_bytes = 4u << 20;
	struct repl *r = start(&h, &o);
	struct count c = {.h = &h};
	size_t before = rss_bytes(), most = 0;
	uint64_t most_unmarked = 0;
	for (unsigned i = 0; i < N; i++) {
		struct repl_group_status st;
		if (i >= 8)
			await(&c, i - 7);
		propose(r, &c, FIRST, i, 1u << 20);
		most = VX_MAX(most, rss_bytes());
		assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
		most_unmarked = VX_MAX(most_unmarked, st.unmarked_bytes);
	}
	await(&c, N);
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
	host_release(&h);
	remove_tree(dir);
}

/* A store that cannot mark makes proposals wait at the bound; nothing is lost when it can. */
static void repl_slow_store_makes_proposals_wait(void **state)
{
	(void)state;
	enum { N = 64 };
	char dir[128], wal_dir[200];
	struct host h;
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	h.hold_marks = true;
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 1);
	struct repl *r = start(&h, &o);
	struct count c = {.h = &h};
	for (unsigned i = 0; i < N; i++)
		propose(r, &c, FIRST, i, 512u << 10);
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
	await(&c, N);
	assert_int_equal(c.committed, N);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	host_release(&h);
	remove_tree(dir);
}

/* A failing mark is reported to who asked, changes nothing, and is repeated. */
static void repl_failed_mark_is_reported_and_repeated(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	h.mark_status = -EAGAIN;
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 1);
	struct repl *r = start(&h, &o);
	struct count c = {.h = &h};
	propose(r, &c, FIRST, 1, 100);
	await(&c, 1);
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
	host_release(&h);
	remove_tree(dir);
}

/* What cannot be proposed fails with its reason; what waits at a stop times out. */
static void repl_refusals_name_their_reason(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 1);
	struct repl *r = start(&h, &o);
	struct count c = {.h = &h};
	propose(r, &c, FIRST + 1, 1, 100);
	await(&c, 1);
	assert_int_equal(c.status, -ENOENT);
	propose(r, &c, FIRST, 1, 0);
	await(&c, 2);
	assert_int_equal(c.status, -EMSGSIZE);
	propose(r, &c, FIRST, 1, VX_ENTRY_BYTES_MAX + 1);
	await(&c, 3);
	assert_int_equal(c.status, -EMSGSIZE);
	assert_int_equal(repl_mark(r, FIRST + 1), -ENOENT);
	c = (struct count){.h = &h};
	for (unsigned i = 0; i < 500; i++)
		propose(r, &c, FIRST, i, 4096);
	repl_stop(r);
	assert_int_equal(c.committed + c.failed, 500);
	if (c.failed > 0)
		assert_int_equal(c.status, -ETIMEDOUT);
	host_release(&h);
	remove_tree(dir);
}

/* --- a full disk ----------------------------------------------------------------- */

/* The real disk, except that no file grows while 'full'. */
struct small_disk {
	struct disk d; /* first */
	struct disk_ops ops;
	atomic_bool full;
};

static ssize_t small_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	struct small_disk *s = (struct small_disk *)d;
	uint64_t size = 0;
	if (atomic_load(&s->full) && d->ops->size(d, fd, &size) == 0 && off + n > size)
		return -ENOSPC;
	return disk_real()->ops->pwrite(disk_real(), fd, p, n, off);
}

static int small_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	struct small_disk *s = (struct small_disk *)d;
	if (atomic_load(&s->full))
		return -ENOSPC;
	return disk_real()->ops->allocate(disk_real(), fd, off, len);
}

static int small_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	struct small_disk *s = (struct small_disk *)d;
	if (atomic_load(&s->full) && (oflags & O_CREAT))
		return -ENOSPC;
	return disk_real()->ops->open(disk_real(), path, oflags, mode);
}

/* While the disk is full proposals fail with -ENOSPC and nothing else happens: the leader stays.
 * Once the store can be marked the log finds room in itself if the segment has any left for the
 * marks; otherwise as soon as the disk has some. */
static void repl_full_disk_refuses_and_recovers(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	struct small_disk disk = {.ops = *disk_real()->ops};
	disk.d.ops = &disk.ops;
	disk.ops.pwrite = small_pwrite;
	disk.ops.allocate = small_allocate;
	disk.ops.open = small_open;
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	h.hold_marks = true;
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 2);
	o.disk = &disk.d;
	o.wal.backend = WAL_PWRITE;
	o.mark_bytes = 64u << 20;
	struct repl *r = start(&h, &o);
	struct count c = {.h = &h}, held = {.h = &h};
	atomic_store(&disk.full, true);
	unsigned n = 0;
	/* Some append meets the full log and stays; from then on there is an answer. */
	while (snapshot(&c).failed == 0 && n < 100) {
		propose(r, n % 2 ? &held : &c, FIRST, n, 1u << 20);
		n++;
		usleep(50 * 1000);
	}
	assert_true(snapshot(&c).failed > 0);
	assert_int_equal(snapshot(&c).status, -ENOSPC);
	struct repl_group_status st;
	assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	assert_true(st.is_leader);
	uint64_t term = st.term;
	vx_lock(&h.lock);
	h.hold_marks = false;
	vx_cond_broadcast(&h.cond);
	vx_unlock(&h.lock);
	struct count again = {.h = &h};
	for (unsigned i = 0; i < 200 && snapshot(&again).committed == 0; i++) {
		propose(r, &again, FIRST + i % 2, 1000 + i, 1000);
		await(&again, i + 1);
		usleep(50 * 1000);
		if (i == 40)
			atomic_store(&disk.full, false);
	}
	print_message("room came from the %s\n", atomic_load(&disk.full) ? "log" : "disk");
	assert_true(again.committed > 0);
	assert_int_equal(repl_group_stat(r, FIRST, &st), 0);
	assert_true(st.is_leader);
	assert_int_equal(st.term, term);
	await(&c, (n + 1) / 2);
	await(&held, n / 2);
	unsigned committed = c.committed + held.committed + again.committed;
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	assert_int_equal(h.store[0].n + h.store[1].n, committed);
	host_release(&h);
	remove_tree(dir);
}

/* The end does not wait for room: writers and marks are let go, and what was not acknowledged may be missing at
 * the next start, which finds a log that can be read. */
static void repl_full_log_does_not_hold_up_the_end(void **state)
{
	(void)state;
	char dir[128], wal_dir[200];
	struct host h;
	struct small_disk disk = {.ops = *disk_real()->ops};
	disk.d.ops = &disk.ops;
	disk.ops.pwrite = small_pwrite;
	disk.ops.allocate = small_allocate;
	disk.ops.open = small_open;
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 2);
	o.disk = &disk.d;
	o.wal.backend = WAL_PWRITE;
	o.mark_bytes = 64u << 20;
	h.hold_marks = true;
	struct repl *r = start(&h, &o);
	struct count c = {.h = &h}, held = {.h = &h}, late = {.h = &h};
	atomic_store(&disk.full, true);
	unsigned n = 0;
	while (snapshot(&c).failed == 0 && n < 100) {
		propose(r, n % 2 ? &held : &c, FIRST, n, 1u << 20);
		n++;
		usleep(50 * 1000);
	}
	assert_int_equal(snapshot(&c).status, -ENOSPC);
	assert_true(snapshot(&c).failed + snapshot(&held).failed + snapshot(&c).committed +
			    snapshot(&held).committed <
		    n);
	vx_lock(&h.lock);
	h.hold_marks = false;
	vx_cond_broadcast(&h.cond);
	vx_unlock(&h.lock);
	repl_give_up(r);
	/* These would wait for ever. */
	await(&c, (n + 1) / 2);
	await(&held, n / 2);
	propose(r, &late, FIRST, 5000, 100);
	await(&late, 1);
	assert_int_equal(snapshot(&late).failed, 1);
	assert_int_equal(snapshot(&late).status, -ETIMEDOUT);
	assert_int_equal(repl_mark(r, FIRST), -ETIMEDOUT);
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	host_release(&h);
	atomic_store(&disk.full, false);
	host_init(&h, dir);
	r = start(&h, &o);
	struct count again = {.h = &h};
	propose(r, &again, FIRST, 6000, 1000);
	await(&again, 1);
	assert_int_equal(snapshot(&again).committed, 1);
	repl_stop(r);
	host_release(&h);
	remove_tree(dir);
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
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	const struct repl_opts good = make_opts(wal_dir, sizeof wal_dir, dir, 1);
	struct repl_opts o = good;
	o.node_id = 0;
	assert_int_equal(repl_open(&o, &host_ops, &h, &r, &err), -EINVAL);
	o = good;
	o.n_groups = 0;
	assert_int_equal(repl_open(&o, &host_ops, &h, &r, &err), -EINVAL);
	o.n_groups = WAL_GROUPS_MAX + 1;
	assert_int_equal(repl_open(&o, &host_ops, &h, &r, &err), -EINVAL);
	assert_null(r);
	repl_stop(NULL);
	repl_give_up(NULL);
	/* Opened and not started: it answers, and stops. */
	o = good;
	o.mark_bytes = 0;
	assert_int_equal(repl_open(&o, &host_ops, &h, &r, &err), 0);
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
	host_release(&h);
	remove_tree(dir);
}

/* Whatever call of the disk fails while new groups are opened: the error is told, and the next open succeeds. */
static void repl_open_on_a_failing_disk_is_refused(void **state)
{
	(void)state;
	struct host h;
	host_init(&h, "unused");
	h.keep_values = false;
	unsigned failed = 0;
	for (uint64_t at = 1; at == failed + 1; at++) {
		struct disk *d = must(fakedisk_new());
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
		int rc = repl_open(&o, &host_ops, &h, &r, &err);
		bool reached = fakedisk_calls(d) - before >= at;
		fakedisk_fail_after(d, 0, 0);
		assert_true(rc == 0 || (reached && rc == -EIO));
		failed += reached;
		repl_stop(rc == 0 ? r : NULL);
		r = NULL;
		assert_int_equal(repl_open(&o, &host_ops, &h, &r, &err), 0);
		repl_stop(r);
		fakedisk_free(d);
	}
	assert_true(failed > 3);
	host_release(&h);
}

/* A group whose log makes no sense is refused at the open. */
static void repl_open_refuses_a_strange_log(void **state)
{
	(void)state;
	struct host h;
	struct vx_err err = VX_ERR_INIT;
	struct repl *r = NULL;
	struct wal *w;
	struct disk *d = must(fakedisk_new());
	host_init(&h, "unused");
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
	assert_int_equal(repl_open(&o, &host_ops, &h, &r, &err), -EUCLEAN);
	assert_null(r);
	fakedisk_free(d);
	host_release(&h);
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
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 3);
	struct repl *r = start(&h, &o);
	struct count c = {.h = &h};
	for (unsigned i = 0; i < 3; i++)
		propose(r, &c, FIRST + i, 1, 100);
	await(&c, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(repl_mark(r, FIRST + i), 0);
	repl_stop(r);
	struct repl_host_ops ops = host_ops;
	ops.recover = host_recover;
	assert_int_equal(repl_open(&o, &ops, &h, &r, &err), 0);
	assert_int_equal(repl_start(r, &err), -EUCLEAN);
	struct repl_proposal p = {.data = must(repl_alloc(8)), .len = 8, .failed = never};
	assert_int_equal(repl_propose(r, FIRST, &p), -ETIMEDOUT);
	assert_int_equal(repl_mark(r, FIRST), -ETIMEDOUT);
	repl_stop(r);
	host_release(&h);
	host_init(&h, dir);
	r = start(&h, &o); /* nothing was lost by that */
	repl_stop(r);
	assert_int_equal(h.bad, 0);
	host_release(&h);
	remove_tree(dir);
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
	make_dir(dir, sizeof dir);
	host_init(&h, dir);
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, dir, 1);
	assert_int_equal(repl_open(&o, &host_ops, &h, &r, &err), 0);
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
	host_release(&h);
	remove_tree(dir);
}

/* --- kill ------------------------------------------------------------------------------------- */

struct killed {
	const char *dir;
	unsigned groups;
	int ack_fd;
	uint64_t first_value;
};

static void *write_for_ever(void *arg)
{
	struct writer *w = arg;
	for (unsigned i = 0;; i++) {
		if (i >= 20)
			await(&w->count, i - 19);
		/* The value names its group: value % groups. */
		uint64_t value = ((uint64_t)w->number + 2 * i) * w->groups + i % w->groups;
		propose(w->r, &w->count, FIRST + i % w->groups, value, 8 + i * 37 % 20000);
	}
	return NULL;
}

static bool load_store(struct host *h, uint32_t group)
{
	char path[300];
	struct store *s = &h->store[group - FIRST];
	store_path(h, group, path, sizeof path);
	FILE *f = fopen(path, "re");
	if (!f)
		return true;
	uint64_t head[2];
	bool ok = fread(head, 8, 2, f) == 2;
	if (ok) {
		s->n = s->cap = head[1];
		s->values = must(calloc(s->cap + 1, 8));
		ok = fread(s->values, 8, s->n, f) == s->n;
	}
	fclose(f);
	return ok;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Child: writes until it is killed.  What its store held is loaded first; entries between
 * that and the mark are applied again and must not be doubled, so the store is cut back to
 * the mark by the index it was saved with. */
static void child_write(const struct killed *k)
{
	struct host h;
	char wal_dir[200];
	struct writer w[2];
	pthread_t t[2];
	host_init(&h, k->dir);
	h.ack_fd = k->ack_fd;
	for (unsigned g = 0; g < k->groups; g++) {
		if (!load_store(&h, FIRST + g))
			_exit(4);
	}
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, k->dir, k->groups);
	o.mark_bytes = 256u << 10;
	struct repl *r = start(&h, &o);
	for (unsigned i = 0; i < 2; i++) {
		w[i] = (struct writer){
			.r = r, .count = {.h = &h}, .number = i, .groups = k->groups};
		w[i].number = (unsigned)k->first_value + i;
		if (pthread_create(&t[i], NULL, write_for_ever, &w[i]) != 0)
			_exit(5);
	}
	pthread_join(t[0], NULL);
}

/* Child: reads store and log again; every acknowledged value must be in one of them. */
static int child_verify(const struct killed *k, const uint64_t *acked, size_t n_acked)
{
	struct host h;
	char wal_dir[200];
	host_init(&h, k->dir);
	for (unsigned g = 0; g < k->groups; g++) {
		if (!load_store(&h, FIRST + g))
			return 4;
	}
	struct repl_opts o = make_opts(wal_dir, sizeof wal_dir, k->dir, k->groups);
	struct repl *r = start(&h, &o);
	repl_stop(r);
	if (h.bad)
		return 6;
	for (unsigned g = 0; g < k->groups; g++)
		qsort(h.store[g].values, h.store[g].n, 8, compare);
	for (size_t i = 0; i < n_acked; i++) {
		struct store *s = &h.store[acked[i] % k->groups];
		if (!bsearch(&acked[i], s->values, s->n, 8, compare)) {
			fprintf(stderr, "value %llu was acknowledged and is lost\n",
				(unsigned long long)acked[i]);
			return 7;
		}
	}
	host_release(&h);
	return 0;
}

static void kill_and_reopen(unsigned groups, unsigned rounds)
{
	char dir[128];
	const char *env = getenv("SEED");
	unsigned seed = env && *env ? (unsigned)strtoul(env, NULL, 10) : (unsigned)clock_mono_ns();
	uint64_t *acked = NULL;
	size_t n = 0, cap = 0;
	print_message("SEED=%u\n", seed);
	make_dir(dir, sizeof dir);
	for (unsigned round = 0; round < rounds; round++) {
		int fd[2], status;
		assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
		struct killed k = {dir, groups, fd[1], (uint64_t)round * 100000000u};
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(fd[0]);
			child_write(&k);
			_exit(9);
		}
		close(fd[1]);
		/* From the first acknowledgement on the child has a random time to live. */
		uint64_t deadline = 0, v;
		while (read(fd[0], &v, 8) == 8) {
			if (n == cap) {
				cap = cap ? 2 * cap : 1024;
				acked = must(realloc(acked, cap * 8));
			}
			acked[n++] = v;
			uint64_t now = clock_mono_ns();
			if (deadline == 0)
				deadline = now + (rand_r(&seed) % 150) * 1000000ull;
			if (now >= deadline)
				kill(pid, SIGKILL);
		}
		close(fd[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			fail_msg("writer ended by itself: %d", status);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			_exit(child_verify(&k, acked, n));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	print_message("%zu acknowledged in %u lives\n", n, rounds);
	assert_true(n > rounds);
	free(acked);
	remove_tree(dir);
}

static void repl_acknowledged_survives_kill_one_group(void **state)
{
	(void)state;
	kill_and_reopen(1, 12);
}

static void repl_acknowledged_survives_kill_five_groups(void **state)
{
	(void)state;
	kill_and_reopen(5, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First those that fork: nothing of libuv has run in this process yet. */
		cmocka_unit_test(repl_acknowledged_survives_kill_one_group),
		cmocka_unit_test(repl_acknowledged_survives_kill_five_groups),
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
