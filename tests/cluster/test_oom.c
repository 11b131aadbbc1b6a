/* test_oom.c - a database whose memory runs out at the n-th allocation of a script, for every n.
 *
 * A child opens a new database, puts, overwrites, deletes and asks, closes, opens it again and reads; our own
 * allocations and those of SQLite go through one counter, and one of them fails (not libuv's, which
 * aborts when there is no room for its table of descriptors, nor libraft's, which leaks).  The child
 * may be refused things; it may not die, hang or leak (under ASan).  The parent then opens what is left
 * and compares it with what was acknowledged.
 *
 * OOM_ALL=1 takes every n, OOM_AT=n that one, otherwise a sample that SEED decides.  (Threads allocate in another
 * order each time: n says about where.)
 */
#include <malloc.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dbtest.h"
#include "../wal/oom.h"

enum { KEYS = 24, DIM = 8, SAMPLE = 60, CHILD_SECONDS = 600 };

/* Version 0: absent. */
struct ledger {
	uint64_t acked[KEYS], tried[KEYS];
	uint64_t calls;
	bool fired, created;
	char stage[32];
};

/* --- the libraries' allocations ------------------------------------------------------------ */
static void *sq_malloc(int n)
{
	return oom_malloc((size_t)n);
}

static void *sq_realloc(void *p, int n)
{
	return oom_realloc(p, (size_t)n);
}

static int sq_size(void *p)
{
	return p ? (int)malloc_usable_size(p) : 0;
}

static int sq_roundup(int n)
{
	return (n + 7) & ~7;
}

static int sq_init(void *arg)
{
	(void)arg;
	return SQLITE_OK;
}

static void sq_shutdown(void *arg)
{
	(void)arg;
}

static void take_over(void)
{
	static sqlite3_mem_methods mem = {.xMalloc = sq_malloc,
		.xFree = oom_free,
		.xRealloc = sq_realloc,
		.xSize = sq_size,
		.xRoundup = sq_roundup,
		.xInit = sq_init,
		.xShutdown = sq_shutdown};

	(void)sqlite3_shutdown();
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &mem), SQLITE_OK);
}

/* --- the script ------------------------------------------------------------------------------- */
static void stage(struct ledger *l, const char *name)
{
	snprintf(l->stage, sizeof l->stage, "%s", name);
}

static struct db *try_open(const char *dir)
{
	struct db_opts o = {.data_dir = dir,
		.shards = dt_shards(),
		.create = true,
		.wal_segment_bytes = 16u << 20,
		.mark_interval_ms = 20};
	struct vx_err err = VX_ERR_INIT;
	struct db *db = NULL;

	return db_open(&o, &db, &err) ? NULL : db;
}

static void put(struct ledger *l, struct coll *c, uint64_t key, uint64_t version)
{
	struct vx_err err = VX_ERR_INIT;

	l->tried[key] = version;
	int rc = version ? dt_put(c, key, version, DIM, &err) : dt_del(c, key, &err);
	if (rc == 0 || rc == -ENOENT)
		l->acked[key] = version;
}

static void ask(struct coll *c, uint64_t key, uint64_t version)
{
	struct coll_answer a = {.k = 0};
	struct vx_err err = VX_ERR_INIT;
	float vec[DIM];

	dt_vec(key, version, DIM, vec);
	struct coll_query q = {.vec = vec, .dim = DIM, .k = 3, .with = COLL_META};
	/* A refusal is an answer; a wrong record is not. */
	if (coll_search(c, &q, &a, &err) == 0 && a.n_hits > 0 && a.hits[0].distance == 0)
		assert_int_equal(dt_key(&a.hits[0].rec), key);
	coll_answer_release(&a);
}

static void read_all(struct coll *c)
{
	const struct coll_rec *r;
	struct coll_scan *sc;
	struct vx_err err = VX_ERR_INIT;

	if (coll_scan_open(c, COLL_ALL, &sc, &err))
		return;
	while (coll_scan_next(sc, &r, &err) == 0)
		assert_true(dt_key(&r->rec) < KEYS);
	coll_scan_close(sc);
}

static void script(const char *dir, struct ledger *l)
{
	struct coll_schema s = {.dim = DIM, .metric = VX_L2, .spread = dt_shards()};
	struct vx_err err = VX_ERR_INIT;
	int rc;

	stage(l, "open");
	struct db *db = try_open(dir);
	if (!db)
		return;
	stage(l, "create");
	if (db_create(db, "docs", &s, &err) == 0)
		l->created = true;
	struct coll *c = db_coll(db, "docs", &rc, &err);
	stage(l, "write");
	for (uint64_t k = 0; c && k < KEYS; k++)
		put(l, c, k, 1);
	for (uint64_t k = 0; c && k < KEYS; k += 3)
		put(l, c, k, 2);
	for (uint64_t k = 1; c && k < KEYS; k += 5)
		put(l, c, k, 0);
	stage(l, "ask");
	if (c)
		ask(c, 5, 1);
	if (c)
		read_all(c);
	coll_put(c);
	stage(l, "close");
	db_close(db);
	stage(l, "open again");
	db = try_open(dir);
	if (!db)
		return;
	c = db_coll(db, "docs", &rc, &err);
	stage(l, "read again");
	if (c)
		ask(c, 4, 1);
	if (c)
		put(l, c, 2, 3);
	coll_put(c);
	stage(l, "close again");
	db_close(db);
	stage(l, "end");
}

/* --- one n ------------------------------------------------------------------------------------ */
static void compare(const char *dir, const struct ledger *l, uint64_t n)
{
	int rc;
	struct vx_err err = VX_ERR_INIT;
	struct db *db = dt_open(dir, dt_shards());
	struct coll *c = db_coll(db, "docs", &rc, &err);

	if (!c)
		assert_false(l->created);
	for (uint64_t k = 0; c && k < KEYS; k++) {
		uint64_t v = dt_version(c, k, DIM);
		if (v != l->acked[k] && v != l->tried[k])
			fail_msg("n %llu: key %llu: found %llu, acknowledged %llu, tried %llu",
				(unsigned long long)n, (unsigned long long)k, (unsigned long long)v,
				(unsigned long long)l->acked[k], (unsigned long long)l->tried[k]);
	}
	coll_put(c);
	db_close(db);
}

static void one(struct ledger *l, uint64_t n)
{
	char *dir = dt_mkdir();

	memset(l, 0, sizeof *l);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(CHILD_SECONDS);
		take_over();
		oom_arm(n);
		script(dir, l);
		l->calls = oom_calls();
		l->fired = oom_fired();
		oom_arm(0);
		exit(0); /* with the leak check of ASan */
	}
	int st = 0;
	while (waitpid(pid, &st, 0) < 0)
		;
	if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
		fail_msg("allocation %llu, stage \"%s\": %s %d", (unsigned long long)n, l->stage,
			WIFSIGNALED(st) ? "signal" : "status",
			WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st));
	compare(dir, l, n);
	dt_rm(dir);
}

static void a_refused_allocation_costs_no_more_than_a_refusal(void **state)
{
	struct ledger *l = mmap(
		NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t rnd = dt_seed() | 1, runs = 0, hit = 0;

	(void)state;
	assert_true(l != MAP_FAILED);
	if (getenv("OOM_AT")) {
		one(l, strtoull(getenv("OOM_AT"), NULL, 10));
		return;
	}
	one(l, 0);
	uint64_t calls = l->calls;
	print_message("the script makes %llu allocations\n", (unsigned long long)calls);
	for (uint64_t k = 0; k < KEYS; k++)
		assert_int_equal(l->acked[k], k == 2 ? 3 : k % 5 == 1 ? 0 : k % 3 ? 1 : 2);
	uint64_t step = getenv("OOM_ALL") ? 1 : calls / SAMPLE + 1;
	for (uint64_t n = 1; n < calls + calls / 20; n += step, runs++) {
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		one(l, n + (step > 1 ? (rnd >> 33) % step : 0));
		hit += l->fired || strcmp(l->stage, "end") != 0;
	}
	print_message("%llu runs, %llu with an allocation refused\n", (unsigned long long)runs,
		(unsigned long long)hit);
	assert_true(hit > runs / 2);
	munmap(l, sizeof *l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refused_allocation_costs_no_more_than_a_refusal)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
