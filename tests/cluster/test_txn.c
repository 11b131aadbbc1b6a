/* Whole files: transactions over shards, of which readers see nothing or all, whoever dies on the way. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "dbtest.h"

enum { DIM = 8, KEYS = 300, SHARDS = 3 };

static void fill(struct batch *b, uint64_t version, unsigned from, unsigned n)
{
	struct vx_err err = VX_ERR_INIT;

	for (unsigned k = from; k < from + n; k++) {
		char id[32], meta[48];
		float vec[DIM];
		struct vx_record r = {.id = id, .vec = vec, .dim = DIM, .meta = meta};

		r.id_len = (size_t)snprintf(id, sizeof id, "r%u", k);
		r.meta_len = (size_t)snprintf(
			meta, sizeof meta, "{\"v\":%llu}", (unsigned long long)version);
		dt_vec(k, version, DIM, vec);
		assert_ok(batch_put(b, &r, &err));
	}
}

struct flight {
	atomic_uint left;
	atomic_int status;
};

static void landed(void *arg, int status, const struct batch_result *res)
{
	struct flight *f = arg;

	(void)res;
	if (status)
		atomic_store(&f->status, status);
	atomic_fetch_sub(&f->left, 1);
}

/* Plans and hides version 'v' of all keys, in batches of 'step'. */
static struct txn *hide(struct coll *c, uint64_t v, unsigned step)
{
	struct vx_err err = VX_ERR_INIT;
	struct flight f = {.left = 0};
	struct batch *b;
	struct txn *t;

	assert_ok(txn_new(c, &t));
	assert_ok(batch_new(c, &b));
	for (unsigned k = 0; k < KEYS; k += step) {
		fill(b, v, k, VX_MIN(step, KEYS - k));
		assert_ok(txn_plan(t, b, &err));
		batch_reset(b);
	}
	batch_free(b);
	assert_ok(txn_begin(t, &err));
	for (unsigned k = 0; k < KEYS; k += step) {
		assert_ok(batch_new(c, &b));
		fill(b, v, k, VX_MIN(step, KEYS - k));
		batch_hide(b, t);
		atomic_fetch_add(&f.left, 1);
		assert_ok(batch_submit(b, landed, &f, &err));
	}
	while (atomic_load(&f.left))
		usleep(200);
	assert_ok(atomic_load(&f.status));
	return t;
}

static void put_whole(struct coll *c, uint64_t v, unsigned step)
{
	struct vx_err err = VX_ERR_INIT;
	struct batch_result res;
	struct txn *t = hide(c, v, step);

	assert_ok(txn_commit(t, &res, &err));
	assert_int_equal(res.inserted + res.updated, KEYS);
	txn_free(t);
}

/* The version that all keys have; 0: there are none.  Fails when they differ. */
static uint64_t version_of_all(struct coll *c)
{
	uint64_t v = dt_version(c, 0, DIM);

	for (unsigned k = 1; k < KEYS; k++)
		assert_int_equal(dt_version(c, k, DIM), v);
	assert_int_equal(coll_count(c), v ? KEYS : 0);
	return v;
}

/* Nothing before the commit, all afterwards; what is dropped was never there. */
static void a_whole_file_is_nothing_or_all(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	struct batch_result res;
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, SHARDS);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, SHARDS);

	struct txn *t = hide(c, 1, 7);
	assert_int_equal(version_of_all(c), 0);
	txn_free(t);
	assert_int_equal(version_of_all(c), 0);
	t = hide(c, 2, 50);
	assert_ok(dt_put(c, 5, 9, DIM, &err)); /* the commit comes after it */
	assert_ok(txn_commit(t, &res, &err));
	assert_int_equal(res.inserted, KEYS - 1);
	assert_int_equal(res.updated, 1);
	txn_free(t);
	assert_int_equal(version_of_all(c), 2);
	put_whole(c, 3, KEYS);
	assert_int_equal(version_of_all(c), 3);
	coll_put(c);
	db_close(db);
	db = dt_open(dir, SHARDS);
	c = dt_coll(db, "docs");
	assert_int_equal(version_of_all(c), 3);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

/* A commit that comes again under its name is answered and not applied. */
static void a_commit_that_comes_again_is_not_applied(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	struct batch_result first, again;
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, SHARDS);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, 1);

	struct txn *t = hide(c, 1, 40);
	txn_name(t, 77, 1234);
	assert_ok(txn_commit(t, &first, &err));
	txn_free(t);
	put_whole(c, 2, 40);
	t = hide(c, 1, 40);
	txn_name(t, 77, 1234);
	assert_ok(txn_commit(t, &again, &err));
	txn_free(t);
	assert_int_equal(version_of_all(c), 2);
	assert_int_equal(again.inserted, first.inserted);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

/* A limit, told before anything is sent. */
static void a_file_beyond_the_limit_is_efbig(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, 1);
	struct batch *b;
	struct txn *t;

	assert_ok(coll_config_set(c, "inbox.max", "8K", &err));
	assert_ok(batch_new(c, &b));
	fill(b, 1, 0, 20);
	assert_ok(txn_new(c, &t));
	assert_ok(txn_plan(t, b, &err));
	fill(b, 1, 20, 80);
	assert_int_equal(txn_plan(t, b, &err), -EFBIG);
	txn_free(t);
	batch_free(b);
	assert_int_equal(version_of_all(c), 0);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

/* What is not planned grows batch by batch: the same limit, the same all or nothing, and in the lowest shard
 * there may be nothing at all. */
static void a_stream_is_nothing_or_all(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	struct flight f = {.left = 0};
	struct batch_result res;
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, SHARDS);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, SHARDS);
	struct batch *b;
	struct txn *t;
	bool committed;

	for (unsigned n = 1; n < 12; n++) { /* few records: some shards have none */
		assert_ok(txn_stream(c, &t));
		uint64_t id = txn_id(t);
		for (unsigned k = 0; k < n; k++) {
			assert_ok(batch_new(c, &b));
			fill(b, n, 1000 * n + k, 1);
			assert_ok(txn_grow(t, b, &err));
			batch_hide(b, t);
			atomic_fetch_add(&f.left, 1);
			assert_ok(batch_submit(b, landed, &f, &err));
		}
		while (atomic_load(&f.left))
			usleep(200);
		assert_ok(atomic_load(&f.status));
		uint64_t before = coll_count(c);
		if (n % 2) {
			assert_ok(txn_commit(t, &res, &err));
			assert_int_equal(res.inserted, n);
		}
		assert_ok(txn_ask(c, id, &committed, &err));
		assert_int_equal(committed, n % 2);
		if (n % 2 == 0) { /* asked for, it is decided */
			assert_int_equal(txn_commit(t, &res, &err), -ECANCELED);
		}
		txn_free(t);
		assert_int_equal(coll_count(c), before + (n % 2 ? n : 0));
	}
	assert_ok(coll_config_set(c, "inbox.max", "8K", &err));
	assert_ok(txn_stream(c, &t));
	assert_ok(batch_new(c, &b));
	fill(b, 1, 0, 20);
	assert_ok(txn_grow(t, b, &err));
	fill(b, 1, 20, 80);
	assert_int_equal(txn_grow(t, b, &err), -EFBIG);
	batch_free(b);
	txn_free(t);
	coll_put(c);
	db_close(db);
	db = dt_open(dir, SHARDS);
	c = dt_coll(db, "docs");
	assert_int_equal(coll_count(c), 1 + 3 + 5 + 7 + 9 + 11);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

/* --- kills ------------------------------------------------------------------------------------ */

struct ledger {
	_Atomic uint64_t tried, acked;
	_Atomic uint32_t torn; /* seen by a reader of one shard: a mix of versions */
	atomic_bool go;
};

/* The store's view of a single shard is one version, whenever it is looked at. */
static void *watch(void *arg)
{
	void **a = arg;
	struct coll *c = a[0];
	struct ledger *l = a[1];

	for (;;) {
		struct coll_scan *sc;
		const struct coll_rec *r;
		uint64_t v = 0, n = 0;
		bool torn = false;

		if (coll_scan_open(c, COLL_META, &sc, NULL))
			_exit(8);
		while (coll_scan_next(sc, &r, NULL) == 0) {
			uint64_t got = strtoull(r->rec.meta + 5, NULL, 10);
			torn |= n++ && got != v;
			v = got;
		}
		coll_scan_close(sc);
		if (torn || (n && n != KEYS))
			atomic_fetch_add(&l->torn, 1);
	}
	return NULL;
}

static void child(const char *dir, struct ledger *l, uint32_t spread, unsigned step)
{
	struct db *db = dt_open(dir, SHARDS);
	struct coll *c = dt_coll(db, "docs");
	void *arg[] = {c, l};
	pthread_t watcher;

	if (spread == 1)
		pthread_create(&watcher, NULL, watch, arg);
	atomic_store(&l->go, true);
	for (;;) {
		uint64_t v = atomic_load(&l->tried) + 1;
		struct vx_err err = VX_ERR_INIT;
		struct batch_result res;
		struct txn *t = hide(c, v, step);

		atomic_store(&l->tried, v); /* only from here on it may be decided */
		if (txn_commit(t, &res, &err))
			_exit(7);
		txn_free(t);
		atomic_store(&l->acked, v);
	}
}

static void kill_cycles(uint32_t spread, int cycles)
{
	char *dir = dt_mkdir();
	uint64_t rnd = dt_seed() | 1;
	unsigned decided = 0, undecided = 0;
	struct ledger *l = mmap(
		NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(l != MAP_FAILED);
	struct db *db = dt_open(dir, SHARDS);
	coll_put(dt_create(db, "docs", DIM, VX_L2, spread));
	db_close(db);
	for (int i = 0; i < cycles; i++) {
		atomic_store(&l->go, false);
		fflush(NULL);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			child(dir, l, spread, 1 + (unsigned)(rnd >> 33) % 100);
			_exit(1);
		}
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		while (!atomic_load(&l->go) && waitpid(pid, NULL, WNOHANG) == 0)
			usleep(1000);
		usleep((useconds_t)((rnd >> 33) % 60000));
		kill(pid, SIGKILL);
		int st = 0;
		assert_int_equal(waitpid(pid, &st, 0), pid);
		assert_true(WIFSIGNALED(st));
		db = dt_open(dir, SHARDS);
		struct coll *c = dt_coll(db, "docs");
		uint64_t acked = atomic_load(&l->acked), tried = atomic_load(&l->tried);
		uint64_t v = version_of_all(c);
		if (v != acked && v != tried)
			fail_msg("version %llu, acknowledged %llu, tried %llu",
				(unsigned long long)v, (unsigned long long)acked,
				(unsigned long long)tried);
		decided += v != acked;
		undecided += v == acked;
		atomic_store(&l->acked, v);
		atomic_store(&l->tried, v);
		coll_put(c);
		db_close(db);
	}
	print_message("%d kills: %u were decided and not acknowledged, %u were not; %llu files\n",
		cycles, decided, undecided, (unsigned long long)atomic_load(&l->acked));
	assert_int_equal(atomic_load(&l->torn), 0);
	munmap(l, sizeof *l);
	dt_rm(dir);
}

static int cycles_of(void)
{
	const char *env = getenv("CRASH_CYCLES");

	return env ? atoi(env) : 12;
}

static void killed_over_shards_it_is_nothing_or_all(void **state)
{
	(void)state;
	kill_cycles(SHARDS, cycles_of());
}

static void killed_in_one_shard_no_reader_sees_a_part(void **state)
{
	(void)state;
	kill_cycles(1, cycles_of());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_file_is_nothing_or_all),
		cmocka_unit_test(a_commit_that_comes_again_is_not_applied),
		cmocka_unit_test(a_file_beyond_the_limit_is_efbig),
		cmocka_unit_test(a_stream_is_nothing_or_all),
		cmocka_unit_test(killed_over_shards_it_is_nothing_or_all),
		cmocka_unit_test(killed_in_one_shard_no_reader_sees_a_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
