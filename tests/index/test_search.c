/* What every search must do, whatever the metric, the codes and the kind. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "index/index_i.h"

static struct points small, wide; /* 5,000 x 64 and 2,000 x 200 */
static const enum vx_metric metrics[] = {VX_COSINE, VX_L2, VX_IP};
static const char *const quants[] = {"sq8", "none", "sq4", "sq1"};

static int setup(void **state)
{
	(void)state;
	test_seed(4711);
	points_init(&small, 5000, 64, 100);
	points_init(&wide, 2000, 200, 50);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	points_release(&small);
	points_release(&wide);
	return 0;
}

/* Default settings promise .95 of questions like the data; 50 of them err by a hundredth, and this asks for no
 * more than that nothing is broken (tests/hnsw/test_recall.c holds the promise itself). */
#define FLOOR 0.925

static void check_recall(struct points *p, struct index *ix, enum vx_metric m, const char *quant,
	bool (*visible)(void *, uint32_t), double floor)
{
	double r = points_recall(p, ix, m, 10, 0, visible, NULL);

	print_message("%u x %u %s %s: recall@10 %.4f\n", p->n, p->dim, vx_metric_name(m), quant, r);
	assert_true(r >= floor);
}

static void recall_holds(struct points *p, uint32_t threads)
{
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		for (size_t q = 0; q < VX_ARRAY_SIZE(quants); q++) {
			struct index *ix = points_index(p, metrics[m], NULL, quants[q]);
			points_append(p, ix, 0, p->n);
			points_link(ix, threads);
			check_recall(p, ix, metrics[m], quants[q], NULL, FLOOR);
			index_free(ix);
		}
	}
}

static void recall_holds_for_every_metric_and_code(void **state)
{
	(void)state;
	recall_holds(&small, 1);
	recall_holds(&wide, 1);
}

static void recall_holds_after_parallel_inserts(void **state)
{
	(void)state;
	recall_holds(&small, 3);
	recall_holds(&wide, 3);
}

static bool not_third(void *ctx, uint32_t slot)
{
	(void)ctx;
	return slot % 3 != 0;
}

static bool one_in_thousand(void *ctx, uint32_t slot)
{
	(void)ctx;
	return slot % 1000 == 17;
}

static bool half(void *ctx, uint32_t slot)
{
	(void)ctx;
	return slot % 2;
}

static bool one_in_ten(void *ctx, uint32_t slot)
{
	(void)ctx;
	return slot % 10 == 3;
}

static void recall_holds_after_deletes(void **state)
{
	(void)state;
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		for (size_t q = 0; q < VX_ARRAY_SIZE(quants); q++) {
			struct index *ix = points_index(&small, metrics[m], NULL, quants[q]);
			points_append(&small, ix, 0, small.n);
			/* Half die before they are linked, half after. */
			for (uint32_t s = 0; s < small.n / 2; s += 3)
				index_forget(ix, s);
			points_link(ix, 2);
			for (uint32_t s = 0; s < small.n; s += 3)
				index_forget(ix, s);
			check_recall(&small, ix, metrics[m], quants[q], not_third, FLOOR);
			index_free(ix);
		}
	}
}

static void recall_holds_under_filters(void **state)
{
	(void)state;
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		struct index *ix = points_index(&small, metrics[m], NULL, NULL);
		points_append(&small, ix, 0, small.n);
		points_link(ix, 1);
		check_recall(&small, ix, metrics[m], "one in ten", one_in_ten, 0.95);
		check_recall(&small, ix, metrics[m], "half", half, 0.95);
		index_free(ix);
	}
}

static void flat_kind_finds_what_exact_search_finds(void **state)
{
	(void)state;
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		for (size_t q = 0; q < VX_ARRAY_SIZE(quants); q++) {
			struct index *ix = points_index(&small, metrics[m], "flat", quants[q]);
			points_append(&small, ix, 0, small.n);
			points_link(ix, 1);
			check_recall(&small, ix, metrics[m], quants[q], NULL, 0.999);
			check_recall(&small, ix, metrics[m], quants[q], one_in_ten, 0.999);
			index_free(ix);
		}
	}
}

/* k visible slots are returned whenever the view has them, however few they are. */
static void k_answers_whenever_they_exist(void **state)
{
	struct index_hit hits[64];
	uint32_t n;

	(void)state;
	struct index *ix = points_index(&small, VX_L2, NULL, NULL);
	points_append(&small, ix, 0, small.n);
	points_link(ix, 1);
	for (uint32_t i = 0; i < 20; i++) {
		struct index_query q = {.vec = small.query + (size_t)i * small.dim,
			.k = 20,
			.ef = 1,
			.nslots = small.n,
			.visible = one_in_thousand};
		assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
		assert_int_equal(n, 5);
		for (uint32_t j = 0; j < n; j++)
			assert_true(one_in_thousand(NULL, hits[j].slot));
	}
	index_free(ix);
}

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* A huge k is answered in full, in order, and not in quadratic time. */
static void huge_k_is_answered_in_order(void **state)
{
	struct points p;
	uint32_t n;

	(void)state;
	points_init(&p, 30000, 8, 1);
	struct index_hit *hits = calloc(VX_K_MAX, sizeof *hits);
	double *want = calloc(p.n, sizeof *want);
	for (uint32_t i = 0; i < p.n; i++)
		want[i] = points_distance(&p, VX_L2, p.query, i);
	qsort(want, p.n, sizeof *want, cmp_double);
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);
	points_append(&p, ix, 0, p.n);
	for (int pass = 0; pass < 2; pass++) {
		struct index_query q = {.vec = p.query, .nslots = p.n, .exact = pass == 1};
		static const uint32_t ks[] = {513, 1000, 12000, 29999, VX_K_MAX};
		for (size_t i = 0; i < VX_ARRAY_SIZE(ks); i++) {
			q.k = ks[i];
			assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
			assert_int_equal(n, VX_MIN(ks[i], p.n));
			uint32_t off = 0;
			for (uint32_t j = 0; j < n; j++) {
				assert_true(j == 0 || hits[j - 1].distance <= hits[j].distance);
				off += fabs((double)hits[j].distance - want[j]) > 1e-4;
			}
			/* By codes a few at the edge may be confused; exactly, none. */
			assert_true(off <= (pass ? 0 : n / 20));
		}
	}
	free(hits);
	free(want);
	index_free(ix);
	points_release(&p);
}

/* A vector is the first answer to itself from the moment it is appended. */
static void tail_is_always_found(void **state)
{
	(void)state;
	for (size_t m = 0; m < VX_ARRAY_SIZE(quants); m++) {
		struct index *ix = points_index(&small, VX_L2, NULL, quants[m]);
		uint32_t n, appended = 600; /* more than wait for the codes' centre */
		points_append(&small, ix, 0, appended);
		for (uint32_t step = 0; step < 40; step++) {
			struct index_hit hits[3];
			points_append(&small, ix, appended, appended + 100);
			appended += 100;
			for (uint32_t s = appended - 100; s < appended; s += 9) {
				struct index_query q = {.vec = small.vec + (size_t)s * small.dim,
					.k = 3,
					.ef = 3,
					.nslots = appended};
				assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
				assert_int_equal(n, 3);
				assert_int_equal(hits[0].slot, s);
			}
			/* Fewer are linked than appended: the tail grows and moves. */
			assert_true(index_link(ix, 70) == 70);
		}
		assert_int_equal(index_linked(ix), 40 * 70);
		index_free(ix);
	}
}

static void slots_beyond_the_view_are_not_returned(void **state)
{
	struct index_hit hits[10];
	uint32_t n;

	(void)state;
	struct index *ix = points_index(&small, VX_L2, NULL, NULL);
	points_append(&small, ix, 0, 4000);
	points_link(ix, 1);
	points_append(&small, ix, 4000, small.n);
	for (uint32_t view = 0; view <= small.n; view += 500) {
		struct index_query q = {.vec = small.vec + (size_t)(view % small.n) * small.dim,
			.k = 10,
			.nslots = view};
		assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
		assert_int_equal(n, VX_MIN(view, 10u));
		for (uint32_t i = 0; i < n; i++)
			assert_true(hits[i].slot < view);
	}
	index_free(ix);
}

static void distances_are_the_metrics_own(void **state)
{
	struct index_hit hits[10];
	uint32_t n;

	(void)state;
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		struct index *ix = points_index(&wide, metrics[m], NULL, NULL);
		points_append(&wide, ix, 0, wide.n);
		points_link(ix, 1);
		for (uint32_t i = 0; i < wide.nquery; i++) {
			struct index_query q = {.vec = wide.query + (size_t)i * wide.dim,
				.k = 10,
				.nslots = wide.n};
			assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
			for (uint32_t j = 0; j < n; j++) {
				double d = points_distance(&wide, metrics[m], q.vec, hits[j].slot);
				assert_true(
					fabs(d - (double)hits[j].distance) <= 1e-5 * (1 + fabs(d)));
			}
		}
		index_free(ix);
	}
}

static void exact_search_equals_the_oracle(void **state)
{
	struct index_hit want[10], got[10];
	uint32_t n;

	(void)state;
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		struct index *ix = points_index(&wide, metrics[m], NULL, NULL);
		points_append(&wide, ix, 0, wide.n);
		for (uint32_t i = 0; i < wide.nquery; i++) {
			struct index_query q = {.vec = wide.query + (size_t)i * wide.dim,
				.k = 10,
				.nslots = wide.n,
				.exact = true,
				.visible = not_third};
			points_exact(&wide, metrics[m], q.vec, 10, wide.n, not_third, NULL, want);
			assert_int_equal(index_search(ix, &q, got, &n, NULL), 0);
			assert_int_equal(n, 10);
			for (uint32_t j = 0; j < n; j++)
				assert_true(fabsf(got[j].distance - want[j].distance) <=
					    1e-5f * (1 + fabsf(want[j].distance)));
		}
		index_free(ix);
	}
}

static void ties_are_ordered_by_slot(void **state)
{
	struct points p;
	struct index_hit hits[30];
	uint32_t n;

	(void)state;
	points_init(&p, 30, 16, 1);
	for (uint32_t i = 1; i < p.n; i++)
		memcpy(p.vec + (size_t)i * p.dim, p.vec, p.dim * sizeof(float));
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		for (int linked = 0; linked < 2; linked++) {
			struct index *ix = points_index(&p, metrics[m], NULL, NULL);
			points_append(&p, ix, 0, p.n);
			if (linked)
				points_link(ix, 1);
			struct index_query q = {.vec = p.query, .k = 30, .nslots = p.n};
			assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
			assert_int_equal(n, 30);
			for (uint32_t i = 0; i < n; i++)
				assert_int_equal(hits[i].slot, i);
			index_free(ix);
		}
	}
	points_release(&p);
}

/* Damaged slots are left out; the others of the answer move up. */
static void unreadable_vectors_are_left_out(void **state)
{
	bool *damaged = calloc(small.n, sizeof *damaged);

	(void)state;
	for (uint32_t s = 0; s < small.n; s += 50)
		damaged[s] = true;
	for (size_t k = 0; k < VX_ARRAY_SIZE(quants); k++) {
		struct index *ix = points_index(&small, VX_L2, NULL, quants[k]);
		points_append(&small, ix, 0, small.n);
		small.damaged = damaged;
		points_link(ix, 1);
		check_recall(&small, ix, VX_L2, quants[k], NULL, FLOOR);
		small.damaged = NULL;
		index_free(ix);
	}
	free(damaged);
}

/* An answer to which an unreadable vector may belong says so, and no other does. */
static void an_answer_says_how_many_it_could_not_read(void **state)
{
	bool *damaged = calloc(small.n, sizeof *damaged);

	(void)state;
	for (uint32_t s = 0; s < small.n; s += 50)
		damaged[s] = true;
	for (size_t k = 0; k < VX_ARRAY_SIZE(quants); k++) {
		struct index *ix = points_index(&small, VX_L2, NULL, quants[k]);
		points_append(&small, ix, 0, small.n);
		points_link(ix, 1);
		for (uint32_t s = 0; s < small.n; s += 50) {
			struct index_hit hits[1];
			struct index_search_stat st;
			uint32_t n;
			struct index_query q = {.vec = small.vec + (size_t)s * small.dim,
				.k = 1,
				.ef = 64,
				.nslots = small.n,
				.exact = s % 100 == 0};
			assert_int_equal(index_search(ix, &q, hits, &n, &st), 0);
			assert_int_equal(st.damaged, 0);
			assert_int_equal(hits[0].slot, s);
			small.damaged = damaged;
			assert_int_equal(index_search(ix, &q, hits, &n, &st), 0);
			assert_true(st.damaged > 0);
			assert_int_equal(n, 1);
			assert_int_not_equal(hits[0].slot, s);
			small.damaged = NULL;
		}
		index_free(ix);
	}
	free(damaged);
}

/* The centre is learned, and everything encoded, when there are enough slots: those that have become
 * unreadable by then are left out, and the rest is found. */
static void slots_unreadable_before_the_centre_are_left_out(void **state)
{
	bool *damaged = calloc(small.n, sizeof *damaged);
	struct index_hit hits[10];
	uint32_t n;

	(void)state;
	for (uint32_t s = 0; s < 400; s += 7)
		damaged[s] = true;
	struct index *ix = points_index(&small, VX_L2, NULL, NULL);
	points_append(&small, ix, 0, 400);
	assert_int_equal(ix->trained, 0);
	assert_int_equal(index_link(ix, 1000), 0);
	small.damaged = damaged;
	points_append(&small, ix, 400, 1000);
	assert_int_equal(ix->trained, 1);
	points_link(ix, 1);
	for (uint32_t s = 0; s < 1000; s++) {
		struct index_query q = {.vec = small.vec + (size_t)s * small.dim,
			.k = 10,
			.ef = 200,
			.nslots = 1000};
		assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
		assert_int_equal(n, 10);
		for (uint32_t i = 0; i < n; i++)
			assert_false(damaged[hits[i].slot]);
		if (!damaged[s])
			assert_int_equal(hits[0].slot, s);
	}
	small.damaged = NULL;
	index_free(ix);
	free(damaged);
}

static void forgotten_slots_are_never_returned(void **state)
{
	struct index_hit hits[10];
	struct index_stats st;
	uint32_t n;

	(void)state;
	struct index *ix = points_index(&wide, VX_COSINE, NULL, NULL);
	points_append(&wide, ix, 0, wide.n);
	points_link(ix, 1);
	for (uint32_t s = 0; s < 500; s++) {
		index_forget(ix, s);
		index_forget(ix, s);
		struct index_query q = {
			.vec = wide.vec + (size_t)s * wide.dim, .k = 10, .nslots = wide.n};
		assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
		assert_int_equal(n, 10);
		for (uint32_t i = 0; i < n; i++)
			assert_true(hits[i].slot > s);
	}
	index_stat(ix, &st);
	assert_int_equal(st.dead, 500);
	index_free(ix);
}

static bool always(void *ctx)
{
	(void)ctx;
	return true;
}

static void stopped_search_says_so(void **state)
{
	struct index_hit hits[10];
	uint32_t n;

	(void)state;
	struct index *ix = points_index(&small, VX_L2, NULL, NULL);
	points_append(&small, ix, 0, small.n);
	struct index_query q = {.vec = small.query, .k = 10, .nslots = small.n, .stop = always};
	assert_int_equal(index_search(ix, &q, hits, &n, NULL), -EINTR);
	q.exact = true;
	assert_int_equal(index_search(ix, &q, hits, &n, NULL), -EINTR);
	points_link(ix, 1);
	q.exact = false;
	q.ef = 400;
	assert_int_equal(index_search(ix, &q, hits, &n, NULL), -EINTR);
	index_free(ix);
}

/* Values that the store would refuse must still not harm the index. */
static void strange_vectors_do_no_harm(void **state)
{
	struct points p;
	struct index_hit hits[10];
	uint32_t n;

	(void)state;
	points_init(&p, 600, 20, 10);
	for (uint32_t i = 0; i < p.n; i += 6) {
		float *v = p.vec + (size_t)i * p.dim;
		memset(v, 0, p.dim * sizeof *v);
		v[0] = i % 5 == 0 ? 0.0f : i % 5 == 1 ? NAN : i % 5 == 2 ? INFINITY : 3e38f;
		v[1] = i % 5 == 4 ? 1e-44f : 0.0f;
	}
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		for (size_t k = 0; k < VX_ARRAY_SIZE(quants); k++) {
			struct index *ix = points_index(&p, metrics[m], NULL, quants[k]);
			points_append(&p, ix, 0, p.n);
			points_link(ix, 1);
			for (uint32_t i = 0; i < 20; i++) {
				struct index_query q = {
					.vec = i < 10 ? p.query + (size_t)i * p.dim
						      : p.vec + (size_t)(i - 10) * 6 * p.dim,
					.k = 10,
					.nslots = p.n};
				assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
				assert_int_equal(n, 10);
			}
			index_free(ix);
		}
	}
	points_release(&p);
}

static void every_small_dimension_works(void **state)
{
	struct points p;
	struct index_hit hits[1];
	uint32_t n;

	(void)state;
	for (uint32_t dim = 1; dim <= 70; dim += dim < 10 ? 1 : 7) {
		points_init(&p, 300, dim, 1);
		struct index *ix = points_index(&p, VX_L2, NULL, NULL);
		points_append(&p, ix, 0, p.n);
		points_link(ix, 1);
		for (uint32_t s = 0; s < p.n; s += 10) {
			struct index_query q = {
				.vec = p.vec + (size_t)s * dim, .k = 1, .nslots = p.n};
			assert_int_equal(index_search(ix, &q, hits, &n, NULL), 0);
			assert_int_equal(n, 1);
			assert_true(hits[0].distance == 0.0f);
		}
		index_free(ix);
		points_release(&p);
	}
}

static void bad_parameters_are_refused(void **state)
{
	struct index_host host = points_host(&small);
	const struct index_params good = {.dim = 8, .metric = VX_L2};
	struct index_params p;
	struct index *ix;

	(void)state;
	p = good;
	p.dim = 0;
	assert_int_equal(index_new(&p, &host, &ix), -EINVAL);
	p.dim = VX_DIM_MAX + 1;
	assert_int_equal(index_new(&p, &host, &ix), -EINVAL);
	p = good;
	p.kind = "tree";
	assert_int_equal(index_new(&p, &host, &ix), -EINVAL);
	p = good;
	p.quant = "sq2";
	assert_int_equal(index_new(&p, &host, &ix), -EINVAL);
	p = good;
	p.m = INDEX_M_MAX + 1;
	assert_int_equal(index_new(&p, &host, &ix), -EINVAL);
	assert_int_equal(index_new(&good, &host, &ix), 0);
	assert_int_equal(index_append(ix, 1, 1, small.vec), -EINVAL);
	index_free(ix);
}

/* Thousands of tiny collections must fit: one costs a few pages. */
static void tiny_index_stays_tiny(void **state)
{
	struct index_stats st;

	(void)state;
	struct index *ix = points_index(&small, VX_L2, NULL, NULL);
	points_append(&small, ix, 0, 10);
	points_link(ix, 1);
	index_stat(ix, &st);
	assert_true(st.memory_bytes < 16384);
	assert_string_equal(st.kind, "hnsw");
	assert_string_equal(st.quant, "sq8");
	index_free(ix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recall_holds_for_every_metric_and_code),
		cmocka_unit_test(recall_holds_after_parallel_inserts),
		cmocka_unit_test(recall_holds_after_deletes),
		cmocka_unit_test(recall_holds_under_filters),
		cmocka_unit_test(flat_kind_finds_what_exact_search_finds),
		cmocka_unit_test(k_answers_whenever_they_exist),
		cmocka_unit_test(huge_k_is_answered_in_order),
		cmocka_unit_test(tail_is_always_found),
		cmocka_unit_test(slots_beyond_the_view_are_not_returned),
		cmocka_unit_test(distances_are_the_metrics_own),
		cmocka_unit_test(exact_search_equals_the_oracle),
		cmocka_unit_test(ties_are_ordered_by_slot),
		cmocka_unit_test(unreadable_vectors_are_left_out),
		cmocka_unit_test(an_answer_says_how_many_it_could_not_read),
		cmocka_unit_test(slots_unreadable_before_the_centre_are_left_out),
		cmocka_unit_test(forgotten_slots_are_never_returned),
		cmocka_unit_test(stopped_search_says_so),
		cmocka_unit_test(strange_vectors_do_no_harm),
		cmocka_unit_test(every_small_dimension_works),
		cmocka_unit_test(bad_parameters_are_refused),
		cmocka_unit_test(tiny_index_stays_tiny),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
