/* test_churn.c - space, memory and recall of a collection of which half is deleted and put again, ten times.
 *
 * With generated vectors in seconds; with files, as "make churn" does:
 *	CHURN_BASE=sift.base.bvecs CHURN_QUERY=sift.query.bvecs CHURN_CYCLES=10 test_churn
 * The oracle is an exact search; the yardstick a second collection that is made of the same records at
 * once. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "dbtest.h"

#define K           10u
#define SHORT_N     12000u
#define SHORT_DIM   64u /* few enough dimensions would leave the precision of walks to luck */
#define SHORT_ASKED 1000u
#define CLUSTERS    150u

struct set {
	uint32_t n, dim;
	float *v;
};

static uint64_t rng;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static float normal(void)
{
	double a = ((double)(rnd() >> 11) + 1) * 0x1p-53, b = (double)(rnd() >> 11) * 0x1p-53;

	return (float)(sqrt(-2 * log(a)) * cos(6.283185307179586 * b));
}

static float *floats(size_t n, size_t dim)
{
	float *v = malloc(n * dim * sizeof *v);

	assert_non_null(v);
	return v;
}

/* Overlapping clusters: neither trivial nor hopeless for a graph. */
static void generate(struct set *base, struct set *query)
{
	float *centre = floats(CLUSTERS, SHORT_DIM);

	*base = (struct set){.n = SHORT_N, .dim = SHORT_DIM, .v = floats(SHORT_N, SHORT_DIM)};
	*query = (struct set){
		.n = SHORT_ASKED, .dim = SHORT_DIM, .v = floats(SHORT_ASKED, SHORT_DIM)};
	for (uint32_t i = 0; i < CLUSTERS * SHORT_DIM; i++)
		centre[i] = 2 * normal();
	for (int s = 0; s < 2; s++) {
		struct set *to = s ? query : base;
		for (uint32_t i = 0; i < to->n; i++) {
			const float *c = centre + rnd() % CLUSTERS * SHORT_DIM;
			for (uint32_t d = 0; d < SHORT_DIM; d++)
				to->v[i * SHORT_DIM + d] = c[d] + normal();
		}
	}
	free(centre);
}

/* .fvecs or .bvecs. */
static struct set load(const char *path, uint32_t max)
{
	bool bytes = strstr(path, ".bvecs") != NULL;
	struct set s = {.n = 0};
	uint8_t head[4];
	FILE *f = fopen(path, "rb");

	if (!f)
		fail_msg("%s: cannot open", path);
	while (s.n < max && fread(head, 1, 4, f) == 4) {
		uint32_t dim = get_le32(head);
		uint8_t row[4 * 4096];
		assert_true(dim > 0 && dim <= 4096 && (!s.dim || s.dim == dim));
		if (s.n % 65536 == 0)
			s.v = realloc(s.v, ((size_t)s.n + 65536) * dim * sizeof *s.v);
		assert_non_null(s.v);
		assert_int_equal(fread(row, bytes ? 1 : 4, dim, f), dim);
		for (uint32_t d = 0; d < dim; d++) {
			float *to = &s.v[(size_t)s.n * dim + d];
			if (bytes)
				*to = row[d];
			else
				memcpy(to, row + 4 * (size_t)d, 4);
		}
		s.dim = dim;
		s.n++;
	}
	fclose(f);
	return s;
}

static void commit(struct batch *b)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = batch_commit(b, NULL, &err);

	if (rc)
		fail_msg("commit: %s", vx_err_msg(&err, rc));
}

/* Puts the records with pick[i] (NULL: all), or deletes them. */
static void change(struct coll *c, const struct set *s, const uint8_t *pick, bool put)
{
	struct batch *b;

	assert_ok(batch_new(c, &b));
	for (uint32_t i = 0; i < s->n; i++) {
		char id[16];
		size_t len = (size_t)snprintf(id, sizeof id, "r%u", i);
		if (pick && !pick[i])
			continue;
		if (put) {
			struct vx_record r = {.id = id,
				.id_len = len,
				.vec = s->v + (size_t)i * s->dim,
				.dim = s->dim};
			assert_ok(batch_put(b, &r, NULL));
		} else {
			assert_ok(batch_delete(b, id, len, NULL));
		}
		if (batch_full(b))
			commit(b);
	}
	commit(b);
	batch_free(b);
}

struct figures {
	double recall, p50_us;
	struct coll_index_info info;
};

static int cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The exact k-th distances. */
static float *truth(struct coll *c, const struct set *query)
{
	float *bound = floats(query->n, 1);
	struct coll_answer a = {.k = 0};

	for (uint32_t i = 0; i < query->n; i++) {
		struct coll_query q = {.vec = query->v + (size_t)i * query->dim,
			.dim = query->dim,
			.k = K,
			.exact = true};
		assert_ok(coll_search(c, &q, &a, NULL));
		assert_int_equal(a.n_hits, K);
		bound[i] = a.hits[K - 1].distance * (1 + 1e-6f);
	}
	coll_answer_release(&a);
	return bound;
}

static struct figures measure(
	struct coll *c, const struct set *query, const float *bound, uint32_t ef)
{
	struct coll_answer a = {.k = 0};
	double *us = calloc(query->n, sizeof *us);
	struct figures f = {.recall = 0};
	uint64_t found = 0;

	assert_non_null(us);
	for (int pass = 0; pass < 2; pass++) {
		found = 0;
		for (uint32_t i = 0; i < query->n; i++) {
			struct coll_query q = {.vec = query->v + (size_t)i * query->dim,
				.dim = query->dim,
				.k = K,
				.ef = ef};
			uint64_t t0 = clock_mono_ns();
			assert_ok(coll_search(c, &q, &a, NULL));
			us[i] = (double)(clock_mono_ns() - t0) / 1e3;
			for (uint32_t j = 0; j < a.n_hits; j++)
				found += a.hits[j].distance <= bound[i];
		}
	}
	qsort(us, query->n, sizeof *us, cmp);
	f.recall = (double)found / K / query->n;
	f.p50_us = us[query->n / 2];
	assert_ok(coll_index_info(c, &f.info));
	coll_answer_release(&a);
	free(us);
	return f;
}

static double since_s(uint64_t t0)
{
	return (double)(clock_mono_ns() - t0) / 1e9;
}

static void print(const char *what, const struct figures *f)
{
	print_message("%-10s recall %.4f  p50 %.1f us  memory %.1f MiB  disk %.1f MiB  slots %llu  "
		      "dead %llu\n",
		what, f->recall, f->p50_us, (double)f->info.memory_bytes / 1048576,
		(double)f->info.disk_bytes / 1048576, (unsigned long long)f->info.slots,
		(unsigned long long)f->info.dead);
}

static void churned_collection_is_like_a_fresh_one(void **state)
{
	(void)state;
	const char *file = getenv("CHURN_BASE"), *asked = getenv("CHURN_QUERY");
	const char *many = getenv("CHURN_CYCLES"), *efs = getenv("CHURN_EF");
	uint32_t cycles = many ? (uint32_t)atoi(many) : 10, ef = efs ? (uint32_t)atoi(efs) : 32;
	char *dir = dt_mkdir();
	struct set base, query;

	rng = dt_seed() | 1;
	if (file && asked) {
		base = load(file, UINT32_MAX);
		query = load(asked, 2000);
	} else {
		generate(&base, &query);
	}
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_create(db, "churn", base.dim, VX_L2, 1);
	uint8_t *pick = calloc(base.n, 1);
	assert_non_null(pick);
	change(c, &base, NULL, true);
	assert_ok(coll_index_wait(c, 0, NULL, NULL));
	float *bound = truth(c, &query);
	struct figures f = measure(c, &query, bound, ef);
	print("built", &f);
	for (uint32_t n = 1; n <= cycles; n++) {
		char what[16];
		for (uint32_t i = 0; i < base.n; i++)
			pick[i] = rnd() % 2;
		change(c, &base, pick, false);
		uint64_t t0 = clock_mono_ns();
		assert_ok(coll_index_wait(c, 0, NULL, NULL));
		double shrunk = since_s(t0);
		f = measure(c, &query, bound, ef);
		assert_true(f.info.slots < base.n * 2 / 3);
		t0 = clock_mono_ns();
		change(c, &base, pick, true);
		assert_ok(coll_index_wait(c, 0, NULL, NULL));
		print_message("compacted in %.2f s, put again in %.2f s\n", shrunk, since_s(t0));
		f = measure(c, &query, bound, ef);
		snprintf(what, sizeof what, "cycle %u", n);
		print(what, &f);
	}
	assert_ok(coll_compact(c, NULL));
	assert_ok(coll_index_wait(c, 0, NULL, NULL));
	assert_ok(coll_index_save(c, NULL));
	f = measure(c, &query, bound, ef);
	print("compacted", &f);
	assert_int_equal(f.info.records, base.n);
	assert_int_equal(f.info.slots, base.n);
	assert_int_equal(f.info.compact_failed, 0);
	assert_ok(coll_index_check(c, NULL));

	struct coll *d = dt_create(db, "fresh", base.dim, VX_L2, 1);
	uint64_t t0 = clock_mono_ns();
	change(d, &base, NULL, true);
	assert_ok(coll_index_wait(d, 0, NULL, NULL));
	print_message("built anew in %.2f s\n", since_s(t0));
	assert_ok(coll_index_save(d, NULL));
	struct figures g = measure(d, &query, bound, ef);
	print("fresh", &g);
	/* Few questions, so that the sample's luck counts: three of its standard deviations. */
	double luck = 3 * sqrt(g.recall * (1 - g.recall) / K / query.n);
	assert_true(f.recall > g.recall - 0.005 - (file ? 0 : luck));
	assert_true((double)f.info.memory_bytes < 1.2 * (double)g.info.memory_bytes);
	assert_true((double)f.info.disk_bytes < 1.2 * (double)g.info.disk_bytes);
	assert_ok(coll_compact(d, NULL));
	assert_ok(coll_index_wait(d, 0, NULL, NULL));
	g = measure(d, &query, bound, ef);
	print("reordered", &g);
	coll_put(d);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
	free(pick);
	free(bound);
	free(base.v);
	free(query.v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(churned_collection_is_like_a_fresh_one),
	};
	if (getenv("VECFS_LOG"))
		(void)!log_configure(getenv("VECFS_LOG"));
	return cmocka_run_group_tests_name("churn", tests, NULL, NULL);
}
