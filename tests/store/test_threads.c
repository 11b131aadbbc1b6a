/* Readers, writer, index workers and marks at once; and thousands of slices in little memory. */
#include "fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define RUN_MS 1500u

struct shared {
	struct fix f;
	atomic_bool stop;
	atomic_int wrong;
	_Atomic uint64_t reads, compactions;
};

/* cmocka's checks belong to the main thread. */
#define WANT(sh, cond)                                                                             \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond);                 \
			atomic_fetch_add(&(sh)->wrong, 1);                                         \
			atomic_store(&(sh)->stop, true);                                           \
		}                                                                                  \
	} while (0)

/* Every id is replaced again and again and none is ever absent: a search for all of them must find
 * each exactly once, in one of its versions. */
static void *searcher(void *arg)
{
	struct shared *sh = arg;
	int rc;

	while (!atomic_load(&sh->stop)) {
		struct slice *sl = shard_slice_get(sh->f.s, CID, &rc, NULL);
		WANT(sh, sl != NULL);
		if (!sl)
			break;
		float q[DIM] = {3};
		struct slice_hit hits[N_IDS + 20];
		uint64_t rowids = 0;
		uint32_t n = 0;
		struct index_query iq = {.vec = q, .k = N_IDS + 20};
		rc = slice_search(sl, &iq, hits, &n, NULL);
		WANT(sh, rc == 0);
		WANT(sh, n == N_IDS);
		for (uint32_t i = 0; i < n; i++) {
			const char *id;
			size_t len;
			WANT(sh, hits[i].rowid >= 1 && hits[i].rowid <= N_IDS);
			rowids |= (uint64_t)1 << (hits[i].rowid & 63);
			WANT(sh, slice_slot_id(sl, hits[i].slot, &id, &len) == 0);
		}
		WANT(sh, __builtin_popcountll(rowids) == (int)N_IDS);
		slice_put(sl);
		atomic_fetch_add(&sh->reads, 1);
	}
	return NULL;
}

static void *getter(void *arg)
{
	struct shared *sh = arg;
	unsigned i = 0;
	int rc;

	while (!atomic_load(&sh->stop)) {
		struct slice *sl = shard_slice_get(sh->f.s, CID, &rc, NULL);
		struct slice_rec r = {.mem = BUF_INIT};
		char id[VX_ID_MAX];
		size_t len = fix_id(i++ % N_IDS, id);
		rc = slice_get(sl, id, len, SLICE_VEC, &r, NULL);
		WANT(sh, rc == 0);
		for (uint32_t d = 1; rc == 0 && d < DIM; d++)
			WANT(sh, r.rec.vec[d] == r.rec.vec[0]);
		slice_rec_release(&r);
		slice_put(sl);
	}
	return NULL;
}

static void *scanner(void *arg)
{
	struct shared *sh = arg;
	int rc;

	while (!atomic_load(&sh->stop)) {
		struct slice *sl = shard_slice_get(sh->f.s, CID, &rc, NULL);
		struct slice_scan *sc;
		const struct slice_rec *p;
		uint64_t after = 0;
		uint32_t n = 0;
		rc = slice_scan_open(sl, SLICE_VEC, &sc);
		WANT(sh, rc == 0);
		while ((rc = slice_scan_next(sc, after, &p, NULL)) == 0) {
			after = p->rowid;
			n++;
		}
		WANT(sh, rc == -ENOENT);
		WANT(sh, n == N_IDS);
		slice_scan_close(sc);
		slice_put(sl);
	}
	return NULL;
}

static void *worker(void *arg)
{
	struct shared *sh = arg;
	unsigned i = 0;
	int rc;

	while (!atomic_load(&sh->stop)) {
		struct slice *sl = shard_slice_get(sh->f.s, CID, &rc, NULL);
		rc = slice_index_step(sl, 8);
		WANT(sh, rc >= 0);
		if (++i % 50 == 0) {
			rc = slice_index_save(sl, 100, NULL);
			WANT(sh, rc == 0);
			struct slice_stats st;
			slice_stat(sl, &st);
			rc = shard_mark(sh->f.s, shard_applied(sh->f.s), NULL);
			WANT(sh, rc == 0);
		}
		slice_put(sl);
	}
	return NULL;
}

static void *compactor(void *arg)
{
	struct shared *sh = arg;
	int rc;

	while (!atomic_load(&sh->stop)) {
		struct slice *sl = shard_slice_get(sh->f.s, CID, &rc, NULL);
		rc = slice_compact(sl, NULL);
		WANT(sh, rc == 0);
		slice_put(sl);
		atomic_fetch_add(&sh->compactions, 1);
	}
	return NULL;
}

static void store_readers_see_one_version_of_each(void **state)
{
	(void)state;
	static struct shared sh;
	static void *(*const body[])(void *) = {
		searcher, searcher, getter, scanner, worker, worker, compactor};
	pthread_t t[VX_ARRAY_SIZE(body)];

	fix_init(&sh.f, NULL);
	assert_int_equal(fix_create(&sh.f, CID), 0);
	for (uint32_t i = 0; i < N_IDS; i++)
		assert_int_equal(
			fix_apply(&sh.f, fix_upsert(&sh.f, CID, i, (float)i), NULL, NULL), 0);
	for (size_t i = 0; i < VX_ARRAY_SIZE(body); i++)
		assert_int_equal(pthread_create(&t[i], NULL, body[i], &sh), 0);
	uint64_t until = clock_mono_ns() + RUN_MS * 1000000ull;
	uint32_t k = 0;
	while (clock_mono_ns() < until && !atomic_load(&sh.stop)) {
		struct logged *l = fix_upsert(&sh.f, CID, k % N_IDS, (float)(k % 1000));
		assert_int_equal(fix_apply(&sh.f, l, NULL, NULL), 0);
		k++;
	}
	atomic_store(&sh.stop, true);
	for (size_t i = 0; i < VX_ARRAY_SIZE(body); i++)
		pthread_join(t[i], NULL);
	print_message("%u upserts, %llu searches, %llu compactions\n", k,
		(unsigned long long)sh.reads, (unsigned long long)sh.compactions);
	assert_int_equal(atomic_load(&sh.wrong), 0);
	assert_true(sh.reads > 0);
	assert_true(sh.compactions > 0);
	fix_compare(&sh.f);
	int rc;
	struct slice *sl = shard_slice_get(sh.f.s, CID, &rc, NULL);
	assert_int_equal(slice_index_check(sl, NULL), 0);
	slice_put(sl);
	fix_release(&sh.f);
}

static uint64_t resident_kib(void)
{
	char line[256];
	unsigned long long kib = 0;
	FILE *fp = fopen("/proc/self/status", "r");

	assert_non_null(fp);
	while (fgets(line, sizeof line, fp)) {
		if (sscanf(line, "RssAnon: %llu", &kib) == 1)
			break;
	}
	fclose(fp);
	return kib;
}

/* Far more slices than may be open at once: all answer, and memory stays small. */
static void store_many_slices_share_few_connections(void **state)
{
	(void)state;
	struct fix f;
	int rc;
	const uint32_t n = getenv("SLICES") ? (uint32_t)atoi(getenv("SLICES")) : 400;

	fix_init(&f, NULL);
	fix_close(&f, false);
	struct shard_opts o = {.disk = f.disk, .open_slices_max = 50};
	char path[512];
	fix_path(&f, "", path);
	assert_int_equal(shard_open(path, 3, &o, &f.s, NULL), 0);
	uint64_t t0 = clock_mono_ns();
	for (uint32_t c = 100; c < 100 + n; c++) {
		assert_int_equal(fix_create(&f, c), 0);
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(
				fix_apply(&f, fix_upsert(&f, c, i, (float)c), NULL, NULL), 0);
	}
	uint64_t t1 = clock_mono_ns();
	fix_mark(&f);
	uint64_t t2 = clock_mono_ns();
	fix_close(&f, true);
	assert_int_equal(shard_open(path, 3, &o, &f.s, NULL), 0);
	uint64_t t3 = clock_mono_ns();
	for (uint32_t c = 100; c < 100 + n; c++) {
		struct slice *sl = shard_slice_get(f.s, c, &rc, NULL);
		assert_non_null(sl);
		float q[DIM] = {0};
		struct slice_hit hits[8];
		uint32_t found;
		struct index_query iq = {.vec = q, .k = 8};
		assert_int_equal(slice_search(sl, &iq, hits, &found, NULL), 0);
		assert_int_equal(found, 3);
		assert_true(slice_slot_vector(sl, 0)[0] == (float)c);
		slice_put(sl);
	}
	uint64_t t4 = clock_mono_ns();
	print_message("%u slices: made and filled in %llu ms, marked in %llu ms, "
		      "opened and searched in %llu ms, %llu KiB anonymous\n",
		n, (unsigned long long)(t1 - t0) / 1000000, (unsigned long long)(t2 - t1) / 1000000,
		(unsigned long long)(t4 - t3) / 1000000, (unsigned long long)resident_kib());
	fix_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(store_readers_see_one_version_of_each),
		cmocka_unit_test(store_many_slices_share_few_connections),
	};
	return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
