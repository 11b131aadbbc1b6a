/* Walks measure with half codes where these are precise enough, and only there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../index/fixture.h"
#include "hnsw/hnsw_i.h"

#define K 10u

static struct index *built(struct points *p, enum vx_metric m, const char *quant)
{
	struct index *ix = points_index(p, m, NULL, quant);

	points_append(p, ix, 0, p->n);
	points_link(ix, 2);
	return ix;
}

/* A few close heaps, far from each other: the codes' error goes by the distance between heaps. */
static void heaps(struct points *p)
{
	for (uint32_t s = 0; s < p->n + p->nquery; s++) {
		float *v = s < p->n ? p->vec + (size_t)s * p->dim
				    : p->query + (size_t)(s - p->n) * p->dim;
		for (uint32_t i = 0; i < p->dim; i++)
			v[i] = (float)((s % 4 >> i % 2) & 1) * 1000.0f +
			       (float)(test_random() % 10000) / 1000.0f;
	}
}

static void data_of_many_dimensions_is_walked_by_heads(void **state)
{
	static const enum vx_metric metrics[] = {VX_L2, VX_COSINE};
	struct points p;

	(void)state;
	test_seed(5);
	points_init(&p, 6000, 192, 100);
	for (size_t m = 0; m < VX_ARRAY_SIZE(metrics); m++) {
		struct index *ix = built(&p, metrics[m], "sq8");
		assert_int_equal(ix->by_heads, 1);
		double whole, heads = points_recall(&p, ix, metrics[m], K, 120, NULL, NULL);
		ix->by_heads = 0;
		whole = points_recall(&p, ix, metrics[m], K, 120, NULL, NULL);
		/* Of a thousand neighbours; a walk of its own finds some others. */
		assert_true(heads >= whole - 0.02);
		index_free(ix);
	}
	points_release(&p);
}

/* And where they would not do, they do harm: the choice is not idle. */
static void close_heaps_are_walked_by_whole_codes(void **state)
{
	struct points p;

	(void)state;
	test_seed(6);
	points_init(&p, 6000, 16, 100);
	heaps(&p);
	struct index *ix = built(&p, VX_L2, "sq8");
	assert_int_equal(ix->by_heads, 0);
	double whole = points_recall(&p, ix, VX_L2, K, 40, NULL, NULL);
	ix->by_heads = 1;
	double heads = points_recall(&p, ix, VX_L2, K, 40, NULL, NULL);
	print_message("whole codes %.3f, heads %.3f\n", whole, heads);
	assert_true(whole > heads + 0.05);
	index_free(ix);
	points_release(&p);
}

/* What has no halves is never walked by them. */
static void other_codes_have_no_heads(void **state)
{
	static const char *const quants[] = {"none", "sq4", "sq1"};
	struct points p;

	(void)state;
	test_seed(7);
	points_init(&p, 3000, 64, 1);
	for (size_t i = 0; i < VX_ARRAY_SIZE(quants); i++) {
		struct index *ix = built(&p, VX_L2, quants[i]);
		assert_int_equal(ix->by_heads, 0);
		index_free(ix);
	}
	points_release(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_of_many_dimensions_is_walked_by_heads),
		cmocka_unit_test(close_heaps_are_walked_by_whole_codes),
		cmocka_unit_test(other_codes_have_no_heads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
