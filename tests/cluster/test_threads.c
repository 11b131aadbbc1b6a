/* test_threads.c - writers, readers, questions and the index at once (run it under TSan, too). */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dbtest.h"

enum { WRITERS = 4, READERS = 2, KEYS = 64, ROUNDS = 60, DIM = 12 };

struct shared {
	struct coll *c;
	atomic_bool stop;
	/* Each key has one writer.  'acked' <= what a reader finds <= 'tried'. */
	_Atomic uint64_t acked[WRITERS * KEYS], tried[WRITERS * KEYS];
	atomic_uint failures;
};

struct writer {
	struct shared *s;
	unsigned n;
};

static void *write_some(void *arg)
{
	struct writer *w = arg;
	struct shared *s = w->s;
	struct vx_err err = VX_ERR_INIT;

	for (uint64_t v = 1; v <= ROUNDS; v++) {
		for (unsigned k = w->n * KEYS; k < (w->n + 1) * KEYS; k += 1 + (unsigned)v % 3) {
			atomic_store(&s->tried[k], v);
			if (dt_put(s->c, k, v, DIM, &err)) {
				atomic_fetch_add(&s->failures, 1);
				return NULL;
			}
			atomic_store(&s->acked[k], v);
		}
	}
	return NULL;
}

/* Whatever a question returns is a version that was acknowledged by then or was being written. */
static void *ask_some(void *arg)
{
	struct shared *s = arg;
	struct coll_answer a = {.k = 0};
	struct vx_err err = VX_ERR_INIT;
	unsigned r = 7;

	while (!atomic_load(&s->stop)) {
		unsigned k = (r = r * 1103515245u + 12345u) % (WRITERS * KEYS);
		uint64_t low = atomic_load(&s->acked[k]);
		float v[DIM];

		if (low == 0)
			continue;
		dt_vec(k, low, DIM, v);
		struct coll_query q = {
			.vec = v, .dim = DIM, .k = 5, .with = COLL_VEC, .exact = r & 1};
		if (coll_search(s->c, &q, &a, &err)) {
			atomic_fetch_add(&s->failures, 1);
			break;
		}
		uint64_t high = atomic_load(&s->tried[k]);
		bool found = false;
		for (uint32_t i = 0; i < a.n_hits; i++)
			found |= dt_key(&a.hits[i].rec) == k;
		if (!found && high == low) { /* not overwritten meanwhile: must be the nearest */
			print_error(
				"key %u version %llu was not found\n", k, (unsigned long long)low);
			atomic_fetch_add(&s->failures, 1);
		}
	}
	coll_answer_release(&a);
	return NULL;
}

static void *scan_some(void *arg)
{
	struct shared *s = arg;
	struct vx_err err = VX_ERR_INIT;

	while (!atomic_load(&s->stop)) {
		struct coll_scan *sc;
		const struct coll_rec *r;
		int n = 0, rc;

		if (coll_scan_open(s->c, COLL_ALL, &sc, &err)) {
			atomic_fetch_add(&s->failures, 1);
			break;
		}
		while ((rc = coll_scan_next(sc, &r, &err)) == 0)
			n++;
		if (rc != -ENOENT || n > WRITERS * KEYS)
			atomic_fetch_add(&s->failures, 1);
		coll_scan_close(sc);
	}
	return NULL;
}

static void readers_see_acknowledged_versions_while_writers_write(void **state)
{
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, dt_shards());
	struct shared *s = calloc(1, sizeof *s);
	struct writer w[WRITERS];
	pthread_t wt[WRITERS], rt[READERS + 1];

	(void)state;
	s->c = dt_create(db, "docs", 0, VX_L2, dt_shards());
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){s, i};
		pthread_create(&wt[i], NULL, write_some, &w[i]);
	}
	for (unsigned i = 0; i < READERS; i++)
		pthread_create(&rt[i], NULL, ask_some, s);
	/* The collection has no records for a moment: a scan of nothing is a scan. */
	pthread_create(&rt[READERS], NULL, scan_some, s);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(wt[i], NULL);
	atomic_store(&s->stop, true);
	for (unsigned i = 0; i <= READERS; i++)
		pthread_join(rt[i], NULL);
	struct coll_answer a = {.k = 0};
	for (unsigned k = 0; k < WRITERS * KEYS; k++) { /* and now that nothing moves any more */
		for (int exact = 0; exact < 2; exact++) {
			float v[DIM];

			dt_vec(k, atomic_load(&s->acked[k]), DIM, v);
			struct coll_query q = {.vec = v, .dim = DIM, .k = 1, .exact = exact};
			assert_ok(coll_search(s->c, &q, &a, NULL));
			assert_int_equal(a.n_hits, 1);
			if (dt_key(&a.hits[0].rec) != k)
				fail_msg("key %u: nearest is %.*s at %g (%s)", k,
					(int)a.hits[0].rec.id_len, a.hits[0].rec.id,
					(double)a.hits[0].distance, exact ? "exact" : "graph");
		}
	}
	coll_answer_release(&a);
	assert_int_equal(atomic_load(&s->failures), 0);
	for (unsigned k = 0; k < WRITERS * KEYS; k++)
		assert_int_equal(dt_version(s->c, k, DIM), atomic_load(&s->acked[k]));
	coll_put(s->c);
	db_close(db);
	dt_rm(dir);
	free(s);
}

struct racer {
	struct coll *c;
	uint32_t dim;
	int rc;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	r->rc = dt_put(r->c, r->dim, 1, r->dim, NULL);
	return NULL;
}

static void one_of_several_first_writers_fixes_the_dimension(void **state)
{
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, dt_shards());
	enum { N = 6 };

	(void)state;
	for (int round = 0; round < 5; round++) {
		char name[16];
		struct racer r[N];
		pthread_t t[N];
		uint32_t won = 0;

		snprintf(name, sizeof name, "race%d", round);
		struct coll *c = dt_create(db, name, 0, VX_L2, dt_shards());
		for (int i = 0; i < N; i++) {
			r[i] = (struct racer){c, 3 + (uint32_t)i, 1};
			pthread_create(&t[i], NULL, race, &r[i]);
		}
		for (int i = 0; i < N; i++)
			pthread_join(t[i], NULL);
		for (int i = 0; i < N; i++) {
			if (r[i].rc == 0) {
				assert_int_equal(won, 0);
				won = r[i].dim;
			} else {
				assert_int_equal(r[i].rc, -EINVAL);
			}
		}
		assert_int_equal(won, coll_dim(c));
		assert_int_equal(coll_count(c), 1);
		coll_put(c);
	}
	db_close(db);
	dt_rm(dir);
}

struct pending {
	pthread_mutex_t m;
	pthread_cond_t c;
	unsigned left;
	uint64_t inserted;
	int status;
};

static void on_done(void *arg, int status, const struct batch_result *res)
{
	struct pending *p = arg;

	pthread_mutex_lock(&p->m);
	if (status)
		p->status = status;
	p->inserted += res->inserted;
	if (--p->left == 0)
		pthread_cond_signal(&p->c);
	pthread_mutex_unlock(&p->m);
}

struct order { /* in which answers are handed out */
	pthread_t me;
	size_t n;
	const struct coll_answer *answers;
	const int *rcs;
};

/* In order, on the caller's thread, and the answer is there. */
static void on_answered(void *ctx, size_t i)
{
	struct order *o = ctx;

	assert_true(pthread_equal(o->me, pthread_self()));
	assert_int_equal(i, o->n++);
	assert_ok(o->rcs[i]);
	assert_true(o->answers[i].n_hits > 0);
}

static void submitted_batches_are_answered_once_each(void **state)
{
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, dt_shards());
	struct coll *c = dt_create(db, "docs", DIM, VX_COSINE, dt_shards());
	struct pending p = {.m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER};
	enum { BATCHES = 50, EACH = 40 };

	(void)state;
	p.left = BATCHES;
	for (uint64_t i = 0; i < BATCHES; i++) {
		struct batch *b;
		struct vx_err err = VX_ERR_INIT;

		assert_ok(batch_new(c, &b));
		for (uint64_t j = 0; j < EACH; j++) {
			char id[32];
			float v[DIM];
			struct vx_record r = {.id = id, .vec = v, .dim = DIM};

			r.id_len = (size_t)snprintf(
				id, sizeof id, "r%llu", (unsigned long long)(i * EACH + j));
			dt_vec(i * EACH + j, 1, DIM, v);
			assert_ok(batch_put(b, &r, &err));
		}
		assert_ok(batch_submit(b, on_done, &p, &err));
	}
	pthread_mutex_lock(&p.m);
	while (p.left)
		pthread_cond_wait(&p.c, &p.m);
	pthread_mutex_unlock(&p.m);
	assert_int_equal(p.status, 0);
	assert_int_equal(p.inserted, BATCHES * EACH);
	assert_int_equal(coll_count(c), BATCHES * EACH);
	/* Many questions at once get the answers that single ones get. */
	enum { N = 64 };
	struct coll_query qs[N];
	struct coll_answer as[N], one = {.k = 0};
	float vecs[N][DIM];
	int rcs[N];
	memset(as, 0, sizeof as);
	for (unsigned i = 0; i < N; i++) {
		dt_vec(i, 77, DIM, vecs[i]);
		qs[i] = (struct coll_query){.vec = vecs[i], .dim = DIM, .k = 7, .exact = true};
	}
	struct order order = {.me = pthread_self(), .answers = as, .rcs = rcs};
	assert_ok(coll_search_each(c, qs, N, as, rcs, on_answered, &order));
	assert_int_equal(order.n, N);
	for (unsigned i = 0; i < N; i++) {
		assert_ok(rcs[i]);
		assert_ok(coll_search(c, &qs[i], &one, NULL));
		assert_int_equal(as[i].n_hits, one.n_hits);
		for (uint32_t h = 0; h < one.n_hits; h++)
			assert_int_equal(as[i].hits[h].handle, one.hits[h].handle);
		coll_answer_release(&as[i]);
	}
	coll_answer_release(&one);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_see_acknowledged_versions_while_writers_write),
		cmocka_unit_test(one_of_several_first_writers_fixes_the_dimension),
		cmocka_unit_test(submitted_batches_are_answered_once_each),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
