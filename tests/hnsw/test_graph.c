/* The graph itself: whole after every way of building it, and damage is seen. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../index/fixture.h"
#include "hnsw/hnsw_i.h"

static struct points p;

static int setup(void **state)
{
	(void)state;
	test_seed(31337);
	points_init(&p, 4000, 32, 50);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	points_release(&p);
	return 0;
}

static void check_whole(struct index *ix)
{
	struct vx_err err = VX_ERR_INIT;

	if (index_check(ix, &err) != 0)
		fail_msg("%s", err.msg);
}

static void graph_is_whole_after_parallel_inserts(void **state)
{
	(void)state;
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);
	points_append(&p, ix, 0, p.n);
	points_link(ix, 4);
	check_whole(ix);
	index_free(ix);
}

/* Many equal vectors and very few links: rows fill with equals, and some node loses its last
 * link. */
static void duplicates_stay_reachable(void **state)
{
	struct points d;
	struct index_params params = {.metric = VX_L2, .dim = 8, .m = 2, .ef_construction = 10};
	struct index *ix;

	(void)state;
	points_init(&d, 3000, 8, 1);
	for (uint32_t i = 0; i < d.n; i++) {
		if (i % 3 != 0)
			memcpy(d.vec + (size_t)i * 8, d.vec + (size_t)(i % 5) * 8,
				8 * sizeof(float));
	}
	struct index_host host = points_host(&d);
	assert_int_equal(index_new(&params, &host, &ix), 0);
	points_append(&d, ix, 0, d.n);
	points_link(ix, 3);
	check_whole(ix);
	index_free(ix);
	points_release(&d);
}

static void heights_depend_on_seed_and_slot_only(void **state)
{
	struct index_stats a, b;

	(void)state;
	struct index *x = points_index(&p, VX_L2, NULL, NULL);
	struct index *y = points_index(&p, VX_COSINE, NULL, NULL);
	points_append(&p, x, 0, p.n);
	points_append(&p, y, 0, p.n);
	points_link(x, 1);
	points_link(y, 1);
	index_stat(x, &a);
	index_stat(y, &b);
	assert_int_equal(a.max_level, b.max_level);
	assert_int_equal(hnsw_of(x)->nupper, hnsw_of(y)->nupper);
	/* A sixteenth of the nodes stand above layer 0. */
	assert_in_range(hnsw_of(x)->nupper, p.n / 16 - 80, p.n / 16 + 80);
	index_free(x);
	index_free(y);
}

static struct index *whole_index(void)
{
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);

	points_append(&p, ix, 0, 1000);
	points_link(ix, 1);
	check_whole(ix);
	return ix;
}

static void expect_damage(struct index *ix, const char *words)
{
	struct vx_err err = VX_ERR_INIT;

	assert_int_equal(index_check(ix, &err), -EUCLEAN);
	if (!strstr(err.msg, words))
		fail_msg("expected '%s', got '%s'", words, err.msg);
	index_free(ix);
}

static void planted_damage_is_found(void **state)
{
	struct index *ix;
	uint32_t *row, n;

	(void)state;
	ix = whole_index();
	base_row(ix, 500)[0] = 1000 + 1;
	expect_damage(ix, "slot 500: link to 1000");

	ix = whole_index();
	base_row(ix, 500)[1] = 500 + 1;
	expect_damage(ix, "links to itself");

	ix = whole_index();
	row = base_row(ix, 500);
	row[1] = row[0];
	expect_damage(ix, "two links to");

	ix = whole_index();
	row = base_row(ix, 500);
	n = row_count(row, 32);
	assert_in_range(n, 1, 31);
	row[0] = 0;
	if (n > 1)
		expect_damage(ix, "follow the end");
	else
		index_free(ix);

	ix = whole_index();
	upper_at(hnsw_of(ix), 3)->slot = 1000;
	expect_damage(ix, "upper node 3: slot 1000");

	ix = whole_index();
	upper_at(hnsw_of(ix), 0)->level = 0;
	expect_damage(ix, "upper node 0: height 0");

	ix = whole_index();
	hnsw_of(ix)->entry = 0;
	expect_damage(ix, "no entry point");
}

/* A node that no row names any more cannot be reached; the check says so. */
static void cut_off_node_is_found(void **state)
{
	struct index *ix = whole_index();

	(void)state;
	uint32_t victim = 777;
	if (upper_at(hnsw_of(ix), hnsw_of(ix)->entry - 1)->slot == victim)
		victim++;
	for (uint32_t s = 0; s < 1000; s++) {
		uint32_t *row = base_row(ix, s), n = row_count(row, 32);
		for (uint32_t i = 0; i < n; i++) {
			if (row[i] != victim + 1)
				continue;
			row[i] = row[n - 1];
			row[n - 1] = 0;
			n--;
		}
	}
	expect_damage(ix, "cannot be reached");
}

struct race {
	struct index *ix;
	uint32_t published; /* atomic: slots a searcher may ask for */
	uint32_t done;      /* atomic */
};

static bool visible_half(void *ctx, uint32_t slot)
{
	(void)ctx;
	return slot % 2 == 0;
}

static void *searcher(void *arg)
{
	struct race *r = arg;
	struct index_hit hits[10];
	uint32_t n, slot = 0;

	while (!__atomic_load_n(&r->done, __ATOMIC_ACQUIRE)) {
		uint32_t view = __atomic_load_n(&r->published, __ATOMIC_ACQUIRE);
		if (view == 0)
			continue;
		slot = (slot * 31 + 7) % view;
		struct index_query q = {.vec = p.vec + (size_t)slot * p.dim,
			.k = 10,
			.nslots = view,
			.visible = slot % 3 == 0 ? visible_half : NULL};
		assert_int_equal(index_search(r->ix, &q, hits, &n, NULL), 0);
		assert_int_equal(n, VX_MIN(q.visible ? (view + 1) / 2 : view, 10u));
		for (uint32_t i = 0; i < n; i++)
			assert_true(hits[i].slot < view);
	}
	return NULL;
}

static void *linker(void *arg)
{
	struct race *r = arg;
	int rc = 1;

	while (rc > 0 || !__atomic_load_n(&r->done, __ATOMIC_ACQUIRE)) {
		rc = index_link(r->ix, 50);
		assert_true(rc >= 0);
	}
	return NULL;
}

/* Appending, linking, deleting and searching at once: every answer is within its view. */
static void searches_run_during_parallel_inserts(void **state)
{
	struct race r = {.ix = points_index(&p, VX_COSINE, NULL, NULL)};
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, i < 2 ? linker : searcher, &r);
	for (uint32_t s = 0; s < p.n; s += 50) {
		points_append(&p, r.ix, s, s + 50);
		/* Only slots that no searcher expects to see die. */
		__atomic_store_n(&r.published, s + 50, __ATOMIC_RELEASE);
	}
	while (index_linked(r.ix) < p.n)
		assert_true(index_link(r.ix, 10) >= 0);
	__atomic_store_n(&r.done, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	check_whole(r.ix);
	assert_true(points_recall(&p, r.ix, VX_COSINE, 10, 0, NULL, NULL) >= 0.95);
	index_free(r.ix);
}

/* Streaming: each record is linked as it comes, and the graph is as good as a bulk build. */
static void graph_linked_one_by_one_is_as_good(void **state)
{
	(void)state;
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);
	for (uint32_t s = 0; s < p.n; s++) {
		points_append(&p, ix, s, s + 1);
		/* The first few hundred wait for the codes' centre. */
		while (index_link(ix, 1) > 0) {
		}
		assert_int_equal(index_linked(ix), s + 1);
	}
	check_whole(ix);
	assert_true(points_recall(&p, ix, VX_L2, 10, 0, NULL, NULL) >= 0.95);
	index_free(ix);
}

/* Recall@10 over the points' own held-out questions, at the default ef. */
static double default_recall(struct points *q, uint32_t *ret_ef)
{
	struct index_stats st;
	struct index *ix = points_index(q, VX_L2, NULL, NULL);

	points_append(q, ix, 0, q->n);
	points_link(ix, 2);
	index_stat(ix, &st);
	*ret_ef = st.ef_default;
	double r = points_recall(q, ix, VX_L2, 10, 0, NULL, NULL);
	index_free(ix);
	return r;
}

/* The default ef follows the data: structureless points in many dimensions need more than
 * clustered ones, and both get the recall that is promised. */
static void default_ef_is_measured(void **state)
{
	struct points easy, hard;
	uint32_t ef_easy, ef_hard;

	(void)state;
	points_init(&easy, 8000, 16, 100);
	points_init(&hard, 8000, 64, 100);
	for (size_t i = 0; i < (size_t)hard.n * hard.dim; i++)
		hard.vec[i] = (float)(test_random() >> 40) * 0x1p-24f;
	for (size_t i = 0; i < (size_t)hard.nquery * hard.dim; i++)
		hard.query[i] = (float)(test_random() >> 40) * 0x1p-24f;
	double r_easy = default_recall(&easy, &ef_easy), r_hard = default_recall(&hard, &ef_hard);
	print_message("easy: ef %u recall %.4f; hard: ef %u recall %.4f\n", ef_easy, r_easy,
		ef_hard, r_hard);
	assert_true(ef_hard > 2 * ef_easy);
	assert_true(r_easy >= 0.95);
	assert_true(r_hard >= 0.93); /* the sample errs by a few hundredths here */
	points_release(&easy);
	points_release(&hard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(graph_is_whole_after_parallel_inserts),
		cmocka_unit_test(duplicates_stay_reachable),
		cmocka_unit_test(heights_depend_on_seed_and_slot_only),
		cmocka_unit_test(planted_damage_is_found),
		cmocka_unit_test(cut_off_node_is_found),
		cmocka_unit_test(searches_run_during_parallel_inserts),
		cmocka_unit_test(default_ef_is_measured),
		cmocka_unit_test(graph_linked_one_by_one_is_as_good),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
