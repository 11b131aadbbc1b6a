/* test_crash.c - what was acknowledged survives kill -9.
 *
 * A child writes (puts, overwrites, deletes, small and big batches, from several threads), asks meanwhile, and
 * records in shared memory what it tried and what was acknowledged; the parent kills it at a random moment, opens
 * the database itself and compares.  CRASH_CYCLES sets how often.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dbtest.h"

enum { THREADS = 4, KEYS = 100, DIM = 10 };

/* Version v of a key: present, or deleted when v % 5 == 0 (version 0: never written). */
static bool is_delete(uint64_t v)
{
	return v % 5 == 0;
}

struct ledger {
	_Atomic uint64_t acked[THREADS * KEYS], tried[THREADS * KEYS];
	_Atomic uint64_t acks;
	atomic_bool go;
};

struct hand {
	struct ledger *l;
	struct coll *c;
	unsigned n;
	uint64_t rnd;
};

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x * 2685821657736338717u >> 20;
}

/* One batch of 'n' consecutive keys, each moved to its next version. */
static bool move_on(struct hand *h, unsigned first, unsigned n)
{
	struct ledger *l = h->l;
	struct vx_err err = VX_ERR_INIT;
	struct batch *b;
	int rc;

	if (batch_new(h->c, &b))
		return false;
	for (unsigned i = 0; i < n; i++) {
		unsigned k = h->n * KEYS + (first + i) % KEYS;
		uint64_t v = atomic_load(&l->tried[k]) + 1;
		char id[32], meta[48];
		float vec[DIM];
		struct vx_record r = {.id = id, .vec = vec, .dim = DIM, .meta = meta};

		r.id_len = (size_t)snprintf(id, sizeof id, "r%u", k);
		r.meta_len = (size_t)snprintf(
			meta, sizeof meta, "{\"v\":%llu}", (unsigned long long)v);
		dt_vec(k, v, DIM, vec);
		atomic_store(&l->tried[k], v);
		rc = is_delete(v) ? batch_delete(b, id, r.id_len, &err) : batch_put(b, &r, &err);
		if (rc)
			return false;
	}
	rc = batch_commit(b, NULL, &err);
	batch_free(b);
	if (rc)
		return false;
	for (unsigned i = 0; i < n; i++) {
		unsigned k = h->n * KEYS + (first + i) % KEYS;

		atomic_store(&l->acked[k], atomic_load(&l->tried[k]));
	}
	atomic_fetch_add(&l->acks, 1);
	return true;
}

static void *load(void *arg)
{
	struct hand *h = arg;

	for (;;) {
		unsigned first = (unsigned)(next(&h->rnd) % KEYS);
		unsigned n = next(&h->rnd) % 4 ? 1 : 1 + (unsigned)(next(&h->rnd) % (KEYS / 2));

		if (!move_on(h, first, n))
			_exit(7);
	}
	return NULL;
}

/* Whether some version of key k between the two, inclusive, has these numbers. */
static bool is_version(unsigned k, uint64_t from, uint64_t to, const float *vec)
{
	float want[DIM];

	for (uint64_t v = from; v <= to; v++) {
		if (is_delete(v))
			continue;
		dt_vec(k, v, DIM, want);
		if (memcmp(want, vec, sizeof want) == 0)
			return true;
	}
	return false;
}

/* Every hit is a record as it was at some moment of the question; what nobody touched is found first. */
static void *ask(void *arg)
{
	struct hand *h = arg;
	struct ledger *l = h->l;
	struct coll_answer a = {.k = 0};
	static uint64_t acked[THREADS * KEYS];

	for (;;) {
		unsigned k = (unsigned)(next(&h->rnd) % (THREADS * KEYS));
		float vec[DIM];

		for (unsigned i = 0; i < THREADS * KEYS; i++)
			acked[i] = atomic_load(&l->acked[i]);
		dt_vec(k, acked[k], DIM, vec);
		struct coll_query q = {.vec = vec, .dim = DIM, .k = 3, .with = COLL_VEC};
		if (coll_search(h->c, &q, &a, NULL))
			_exit(8);
		for (uint32_t i = 0; i < a.n_hits; i++) {
			const struct vx_record *r = &a.hits[i].rec;
			unsigned id = 0;

			for (size_t j = 1; j < r->id_len; j++) /* "r" and the key's number */
				id = 10 * id + (unsigned)(r->id[j] - '0');
			if (id >= THREADS * KEYS ||
				!is_version(id, acked[id], atomic_load(&l->tried[id]), r->vec))
				_exit(9);
			if (i == 0 && atomic_load(&l->tried[k]) == acked[k] &&
				!is_delete(acked[k]) && id != k)
				_exit(10);
		}
	}
	return NULL;
}

static void child(const char *dir, struct ledger *l, uint64_t seed)
{
	struct db *db = dt_open(dir, dt_shards());
	struct coll *c = dt_coll(db, "docs");
	struct hand h[THREADS + 1];
	pthread_t t[THREADS + 1];

	for (unsigned i = 0; i <= THREADS; i++) {
		h[i] = (struct hand){l, c, i, (seed + i + 1) * 0x9E3779B97F4A7C15u};
		pthread_create(&t[i], NULL, i < THREADS ? load : ask, &h[i]);
	}
	atomic_store(&l->go, true);
	for (;;)
		pause();
}

/* Each key is at the acknowledged version or at the one that was under way; what is found is acknowledged
 * from now on.  And it is found by a question, too. */
static void compare(struct db *db, struct ledger *l)
{
	struct coll *c = dt_coll(db, "docs");
	struct coll_answer a = {.k = 0};
	uint64_t present = 0;

	for (unsigned k = 0; k < THREADS * KEYS; k++) {
		uint64_t acked = atomic_load(&l->acked[k]), tried = atomic_load(&l->tried[k]);
		uint64_t found = dt_version(c, k, DIM);
		bool ok = found ? found >= acked && found <= tried && !is_delete(found)
				: is_delete(acked) || is_delete(tried);

		if (!ok)
			fail_msg("key %u: found %llu, acknowledged %llu, tried %llu", k,
				(unsigned long long)found, (unsigned long long)acked,
				(unsigned long long)tried);
		if (!found)
			found = is_delete(tried) ? tried : acked;
		else
			present++;
		atomic_store(&l->acked[k], found);
		atomic_store(&l->tried[k], found);
	}
	assert_int_equal(coll_count(c), present);
	for (unsigned k = 0; k < THREADS * KEYS; k += 7) {
		uint64_t v = atomic_load(&l->acked[k]);
		struct vx_err err = VX_ERR_INIT;
		float vec[DIM];
		char id[32];

		if (is_delete(v))
			continue;
		dt_vec(k, v, DIM, vec);
		struct coll_query q = {.vec = vec, .dim = DIM, .k = 1};
		assert_ok(coll_search(c, &q, &a, &err));
		assert_int_equal(a.n_hits, 1);
		assert_int_equal(a.hits[0].rec.id_len, snprintf(id, sizeof id, "r%u", k));
		assert_memory_equal(a.hits[0].rec.id, id, a.hits[0].rec.id_len);
	}
	coll_answer_release(&a);
	coll_put(c);
}

static void acknowledged_writes_survive_kill(void **state)
{
	const char *env = getenv("CRASH_CYCLES");
	int cycles = env ? atoi(env) : 12;
	char *dir = dt_mkdir();
	uint64_t rnd = dt_seed() | 1;
	struct ledger *l = mmap(
		NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(l != MAP_FAILED);
	struct db *db = dt_open(dir, dt_shards());
	coll_put(dt_create(db, "docs", DIM, VX_L2, dt_shards()));
	db_close(db);
	for (int i = 0; i < cycles; i++) {
		atomic_store(&l->go, false);
		fflush(NULL);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			child(dir, l, next(&rnd) + (uint64_t)i);
			_exit(1);
		}
		while (!atomic_load(&l->go) && waitpid(pid, NULL, WNOHANG) == 0)
			usleep(1000);
		usleep((useconds_t)(next(&rnd) % 150000));
		kill(pid, SIGKILL);
		int st = 0;
		pid_t got = waitpid(pid, &st, 0);
		if (got == pid && !WIFSIGNALED(st))
			fail_msg("cycle %d: the writer ended by itself with status %d", i,
				WEXITSTATUS(st));
		db = dt_open(dir, dt_shards());
		compare(db, l);
		db_close(db);
	}
	print_message("%d cycles, %llu batches acknowledged, none lost\n", cycles,
		(unsigned long long)atomic_load(&l->acks));
	assert_true(atomic_load(&l->acks) > 0);
	munmap(l, sizeof *l);
	dt_rm(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(acknowledged_writes_survive_kill)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
