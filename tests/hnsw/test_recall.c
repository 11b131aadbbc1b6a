/* The promise of a recall is kept on questions that the index has never seen. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../index/fixture.h"
#include "index/recall.h"

#define QUESTIONS 250u
#define K_MOST    100u

/* Sanitizers look for other faults than these tests of arithmetic do: for them every fourth pair of shape
 * and metric, which is each of either, and a sample of the small cases. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PAIRS_STEP 4u
#define SMALL_STEP 7u
#else
#define PAIRS_STEP 1u
#define SMALL_STEP 1u
#endif

enum shape { CLUSTERED, UNIFORM, EMBEDDED, SHAPES };
static const char *const shape_names[] = {"clustered", "uniform", "embedded"};
static const enum vx_metric metrics[] = {VX_COSINE, VX_L2, VX_IP};
static const double promises[] = {0.8, 0.9, 0.95, 0.99, 0.999};

static double uniform(void)
{
	return (double)(test_random() >> 11) * 0x1p-53;
}

/* Sentences, as it were: few hidden directions, many numbers, lengths of their own. */
static void embed(float *v, uint32_t n, uint32_t dim, const float *basis, uint32_t hidden)
{
	for (uint32_t i = 0; i < n; i++) {
		float length = (float)(0.5 + uniform());
		memset(v + (size_t)i * dim, 0, dim * sizeof *v);
		for (uint32_t h = 0; h < hidden; h++) {
			float x = (float)(uniform() + uniform() + uniform() - 1.5) * length;
			for (uint32_t j = 0; j < dim; j++)
				v[(size_t)i * dim + j] += x * basis[(size_t)h * dim + j];
		}
	}
}

static void make(struct points *p, enum shape shape, uint32_t n)
{
	const uint32_t dim = shape == EMBEDDED ? 96 : shape == UNIFORM ? 24 : 32, hidden = 20;

	points_init(p, n, dim, QUESTIONS);
	if (shape == UNIFORM) {
		for (size_t i = 0; i < (size_t)n * dim; i++)
			p->vec[i] = (float)uniform();
		for (size_t i = 0; i < (size_t)QUESTIONS * dim; i++)
			p->query[i] = (float)uniform();
	} else if (shape == EMBEDDED) {
		float *basis = malloc((size_t)hidden * dim * sizeof *basis);
		for (size_t i = 0; i < (size_t)hidden * dim; i++)
			basis[i] = (float)(uniform() - 0.5);
		embed(p->vec, n, dim, basis, hidden);
		embed(p->query, QUESTIONS, dim, basis, hidden);
		free(basis);
	}
}

/* What questions found: the mean and its standard error. */
struct found {
	double recall, error;
	uint32_t ef; /* 0: by scanning */
};

/* Distances of the k-th true neighbours, a little beyond: rounding tells nobody apart. */
static double *true_bounds(const struct points *p, enum vx_metric m, uint32_t k, uint32_t n,
	bool (*visible)(void *, uint32_t))
{
	double *b = calloc(p->nquery, sizeof *b);
	struct index_hit hits[K_MOST];

	for (uint32_t i = 0; i < p->nquery; i++) {
		uint32_t got = points_exact(
			p, m, p->query + (size_t)i * p->dim, k, n, visible, NULL, hits);
		assert_int_equal(got, k);
		b[i] = (double)hits[k - 1].distance;
		b[i] += fabs(b[i]) * 1e-5 + 1e-6;
	}
	return b;
}

static struct found ask(const struct points *p, struct index *ix, const double *bounds, uint32_t k,
	double recall, uint32_t ef)
{
	struct index_hit hits[K_MOST];
	struct index_search_stat st = {0};
	double sum = 0, squares = 0;

	for (uint32_t i = 0; i < p->nquery; i++) {
		struct index_query q = {.vec = p->query + (size_t)i * p->dim,
			.k = k,
			.ef = ef,
			.recall = (float)recall,
			.nslots = UINT32_MAX};
		uint32_t n, f = 0;
		assert_int_equal(index_search(ix, &q, hits, &n, &st), 0);
		assert_int_equal(n, k);
		for (uint32_t j = 0; j < n; j++)
			f += (double)hits[j].distance <= bounds[i];
		sum += (double)f / k;
		squares += ((double)f / k) * ((double)f / k);
	}
	double mean = sum / p->nquery, var = squares / p->nquery - mean * mean;
	return (struct found){
		.recall = mean, .error = sqrt(VX_MAX(var, 0.0) / p->nquery), .ef = st.ef};
}

/* Two samples err: the index's, by a bound of one-sided 95 %, and the questions here, of which
 * there are more.  Four of the latter's standard errors, and at least two misses, are beyond
 * what both do to each other in a thousand runs. */
static double slack(const struct found *f, uint32_t k)
{
	return 4 * f->error + 2.0 / (QUESTIONS * k);
}

static const char *const coarse[] = {"sq4", "sq1"};

static bool not_third(void *ctx, uint32_t slot)
{
	(void)ctx;
	return slot % 3 != 0;
}

/* What codes of few bits promise is kept, too: linked by one thread and by several, and when a third has
 * died.  Where they cannot tell the neighbours apart all is scanned. */
static void check_coarse(enum shape shape, enum vx_metric m, const char *quant)
{
	struct vx_err err = VX_ERR_INIT;
	struct points p;

	make(&p, shape, 6000);
	struct index *ix = points_index(&p, m, NULL, quant);
	points_append(&p, ix, 0, p.n / 2);
	points_link(ix, 1);
	points_append(&p, ix, p.n / 2, p.n);
	points_link(ix, 3);
	for (int died = 0; died < 2; died++) {
		bool (*alive)(void *, uint32_t) = died ? not_third : NULL;
		for (uint32_t s = 0; died && s < p.n; s += 3)
			index_forget(ix, s);
		assert_true(index_link(ix, 1) == 0);
		double *bounds = true_bounds(&p, m, 10, p.n, alive);
		for (size_t r = 1; r < 4; r++) {
			struct found f = ask(&p, ix, bounds, 10, promises[r], 0);
			print_message("%s %s %s %s %.3f: found %.4f +- %.4f with ef %u\n",
				shape_names[shape], vx_metric_name(m), quant,
				died ? "after deaths" : "inserted", promises[r], f.recall, f.error,
				f.ef);
			assert_true(f.recall >= promises[r] - slack(&f, 10));
		}
		free(bounds);
	}
	assert_int_equal(index_check(ix, &err), 0);
	index_free(ix);
	points_release(&p);
}

static void coarse_codes_keep_their_promises(void **state)
{
	(void)state;
	for (uint32_t c = 0; c < SHAPES * VX_ARRAY_SIZE(metrics); c += PAIRS_STEP) {
		for (size_t q = 0; q < VX_ARRAY_SIZE(coarse); q++)
			check_coarse((enum shape)(c / 3), metrics[c % 3], coarse[q]);
	}
}

/* Few records are not measured, and in few dimensions a bit for each says next to nothing: what
 * reranking sees of the error must be enough to go on until the answer is right. */
static void coarse_codes_of_few_records_or_dimensions_find_all(void **state)
{
	static const uint32_t dims[] = {1, 2, 3, 8, 20}, counts[] = {40, 600, 1900, 5000};

	(void)state;
	for (uint32_t c = 0; c < 5 * 4 * 3 * 2; c += SMALL_STEP) {
		uint32_t dim = dims[c % 5], n = counts[c / 5 % 4];
		enum vx_metric m = metrics[c / 20 % 3];
		struct points p;
		points_init(&p, n, dim, 60);
		struct index *ix = points_index(&p, m, NULL, coarse[c / 60]);
		points_append(&p, ix, 0, n);
		points_link(ix, 1);
		double *bounds = true_bounds(&p, m, 10, n, NULL);
		struct found f = ask(&p, ix, bounds, 10, 0.95, 0);
		if (f.recall < 0.95 - 4 * f.error - 0.005)
			fail_msg("%u x %u %s %s: %.4f +- %.4f with ef %u", n, dim,
				vx_metric_name(m), coarse[c / 60], f.recall, f.error, f.ef);
		free(bounds);
		index_free(ix);
		points_release(&p);
	}
}

static struct index *build(struct points *p, enum vx_metric m)
{
	struct index *ix = points_index(p, m, NULL, NULL);

	points_append(p, ix, 0, p->n);
	points_link(ix, 2);
	return ix;
}

/* The least ef of a fine ladder that reaches the recall on these questions; 0: none. */
static uint32_t least_ef(
	const struct points *p, struct index *ix, const double *bounds, double recall)
{
	for (double ef = 10; ef < p->n / 16.0; ef *= 1.1) {
		struct found f = ask(p, ix, bounds, 10, 0, (uint32_t)ef);
		if (f.recall >= recall)
			return (uint32_t)ef;
	}
	return 0;
}

static void promises_are_kept_and_cost_little(void **state)
{
	(void)state;
	for (uint32_t c = 0; c < SHAPES * VX_ARRAY_SIZE(metrics); c += PAIRS_STEP) {
		enum vx_metric m = metrics[c % 3];
		struct points p;
		uint32_t before = 0;

		make(&p, (enum shape)(c / 3), 6000);
		struct index *ix = build(&p, m);
		double *bounds = true_bounds(&p, m, 10, p.n, NULL);
		for (size_t r = 0; r < VX_ARRAY_SIZE(promises); r++) {
			struct found f = ask(&p, ix, bounds, 10, promises[r], 0);
			uint32_t least = least_ef(&p, ix, bounds, promises[r]);
			print_message("%s %s %.3f: found %.4f +- %.4f with ef %u, least %u\n",
				shape_names[c / 3], vx_metric_name(m), promises[r], f.recall,
				f.error, f.ef, least);
			assert_true(f.recall >= promises[r] - slack(&f, 10));
			/* Rising, and a scan is the most there is. */
			assert_true(f.ef == 0 || f.ef >= before);
			before = f.ef ? f.ef : UINT32_MAX;
			/* For inner products a third of the questions has a filter: a small
			 * sample of the rest, on a graph that levels out. */
			if (promises[r] <= 0.95 && least && least < p.n / 64 && m != VX_IP)
				assert_true(f.ef > 0 && f.ef <= 8 * least + 20);
		}
		free(bounds);
		index_free(ix);
		points_release(&p);
	}
}

static void other_numbers_of_neighbours_are_promised_the_same(void **state)
{
	static const uint32_t ks[] = {1, 3, 30, 100};

	(void)state;
	for (uint32_t c = 0; c < SHAPES; c++) {
		struct points p;
		make(&p, (enum shape)c, 12000);
		struct index *ix = build(&p, VX_L2);
		for (size_t i = 0; i < VX_ARRAY_SIZE(ks); i++) {
			double *bounds = true_bounds(&p, VX_L2, ks[i], p.n, NULL);
			for (size_t r = 0; r < VX_ARRAY_SIZE(promises); r++) {
				struct found f = ask(&p, ix, bounds, ks[i], promises[r], 0);
				print_message("%s k %u %.3f: found %.4f +- %.4f with ef %u\n",
					shape_names[c], ks[i], promises[r], f.recall, f.error,
					f.ef);
				assert_true(f.recall >= promises[r] - slack(&f, ks[i]));
			}
			free(bounds);
		}
		index_free(ix);
		points_release(&p);
	}
}

static struct index_recall known(const struct index *ix)
{
	struct index_recall r;

	index_recall(ix, 0, 10, &r);
	return r;
}

static void calibration_is_measured_and_honest(void **state)
{
	struct points p;

	(void)state;
	make(&p, CLUSTERED, 8000);
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);
	assert_int_equal(known(ix).samples, 0);
	assert_true(isnan(known(ix).measured));
	points_append(&p, ix, 0, 1000);
	points_link(ix, 1);
	assert_int_equal(known(ix).samples, 0); /* so few are scanned */
	assert_true(known(ix).scan);
	points_append(&p, ix, 1000, p.n);
	points_link(ix, 1);
	struct index_recall r = known(ix);
	assert_int_equal(r.measured_slots, p.n);
	assert_true(r.samples >= 90);
	assert_true(r.measured >= 0.95 && r.measured <= 1);
	assert_true(r.codes >= 0.9 && r.codes < r.reranked && r.reranked >= 0.999);
	index_free(ix);
	points_release(&p);
}

/* Easy points, then fewer than would count as growth: of the same kind, or of one that is hard. */
static struct index *grown(struct points *p, bool drifts)
{
	const uint32_t n = 6000, more = 1500, dim = 48;

	points_init(p, n + more, dim, QUESTIONS);
	for (size_t i = 0; i < (size_t)(n + more) * dim; i++)
		p->vec[i] = i % dim < 4 ? (float)uniform() : 0;
	for (size_t i = (size_t)n * dim; drifts && i < (size_t)(n + more) * dim; i++)
		p->vec[i] = (float)uniform();
	for (size_t i = 0; i < (size_t)QUESTIONS * dim; i++) {
		bool hard = drifts && i / dim % 2;
		p->query[i] = hard || i % dim < 4 ? (float)uniform() : 0;
	}
	struct index *ix = points_index(p, VX_L2, NULL, NULL);
	points_append(p, ix, 0, n);
	points_link(ix, 1);
	assert_int_equal(known(ix).measured_slots, n);
	for (uint32_t s = n; s < n + more; s += 50) {
		points_append(p, ix, s, s + 50);
		points_link(ix, 1);
	}
	return ix;
}

static void drift_is_noticed_and_measured_again(void **state)
{
	struct points p;

	(void)state;
	struct index *ix = grown(&p, false);
	assert_int_equal(known(ix).measured_slots, 6000);
	uint32_t ef = known(ix).ef;
	index_free(ix);
	points_release(&p);

	ix = grown(&p, true);
	assert_true(known(ix).measured_slots > 6000);
	assert_true(known(ix).scan || known(ix).ef > ef);
	double *bounds = true_bounds(&p, VX_L2, 10, p.n, NULL);
	struct found f = ask(&p, ix, bounds, 10, 0.95, 0);
	print_message("half of the questions drifted: %.4f +- %.4f with ef %u, before %u\n",
		f.recall, f.error, f.ef, ef);
	assert_true(f.recall >= 0.95 - slack(&f, 10));
	free(bounds);
	index_free(ix);
	points_release(&p);
}

static void deaths_and_growth_are_measured_again(void **state)
{
	struct points p;

	(void)state;
	make(&p, CLUSTERED, 6000);
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);
	points_append(&p, ix, 0, 4000);
	points_link(ix, 1);
	assert_int_equal(known(ix).measured_slots, 4000);
	points_append(&p, ix, 4000, 5000);
	points_link(ix, 1);
	assert_int_equal(known(ix).measured_slots, 4000);
	for (uint32_t s = 0; s < 5000; s += 5) {
		index_forget(ix, s);
		index_forget(ix, s + 1);
	}
	assert_int_equal(index_link(ix, 1), 0);
	assert_int_equal(known(ix).measured_slots, 5000);
	points_append(&p, ix, 5000, 6000);
	points_link(ix, 1);
	assert_int_equal(known(ix).measured_slots, 5000);
	index_free(ix);
	points_release(&p);
}

static void restart_keeps_what_was_measured(void **state)
{
	char path[] = "/tmp/vecfs-recall.XXXXXX";
	const struct index_tag tag = {.generation = 1, .applied = 2};
	struct vx_err err = VX_ERR_INIT;
	struct index_tag got;
	struct points p;

	(void)state;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	make(&p, EMBEDDED, 5000);
	struct index *a = build(&p, VX_COSINE), *b = points_index(&p, VX_COSINE, NULL, NULL);
	assert_int_equal(index_save(a, disk_real(), path, tag, &err), 0);
	assert_int_equal(index_load(b, disk_real(), path, &got, &err), 0);
	unlink(path);
	for (size_t r = 0; r < VX_ARRAY_SIZE(promises); r++) {
		for (uint32_t k = 1; k <= 1000; k *= 10) {
			struct index_recall x, y;
			index_recall(a, (float)promises[r], k, &x);
			index_recall(b, (float)promises[r], k, &y);
			assert_memory_equal(&x, &y, sizeof x);
		}
	}
	assert_true(known(b).samples > 0);
	assert_int_equal(index_link(b, 1), 0);
	assert_int_equal(known(b).measured_slots, known(a).measured_slots);
	index_free(a);
	index_free(b);
	points_release(&p);
}

static void skipped_slot_is_not_there(void **state)
{
	struct index_hit with[11], without[10], exact[10];
	struct points p;
	uint32_t n, m;

	(void)state;
	make(&p, CLUSTERED, 3000);
	struct index *ix = build(&p, VX_L2);
	for (uint32_t s = 0; s < p.n; s += 17) {
		struct index_query q = {
			.vec = p.vec + (size_t)s * p.dim, .k = 11, .exact = true, .nslots = p.n};
		assert_int_equal(index_search(ix, &q, with, &n, NULL), 0);
		assert_int_equal(with[0].slot, s);
		q.k = 10;
		q.skip = s + 1;
		assert_int_equal(index_search(ix, &q, exact, &m, NULL), 0);
		assert_int_equal(m, 10);
		assert_memory_equal(exact, with + 1, sizeof exact);
		q.exact = false;
		q.ef = 100;
		assert_int_equal(index_search(ix, &q, without, &m, NULL), 0);
		assert_int_equal(m, 10);
		for (uint32_t i = 0; i < m; i++)
			assert_true(without[i].slot != s);
	}
	index_free(ix);
	points_release(&p);
}

/* Of many samples of a known rate of misses, in clusters, the bound covers nearly all. */
static void bound_covers_the_rate(void **state)
{
	static const double rates[] = {0.2, 0.05, 0.01, 0.001};
	const uint32_t n = 400, runs = 2000;
	double known[2000];

	(void)state;
	for (uint32_t run = 0; run < runs; run++)
		known[run] = 1;
	for (size_t r = 0; r < VX_ARRAY_SIZE(rates); r++) {
		uint32_t covered = 0;
		double sum = 0;
		for (uint32_t run = 0; run < runs; run++) {
			uint32_t misses = 0, squares = 0;
			for (uint32_t i = 0; i < n; i++) {
				uint32_t x = 0;
				/* One question in two is hard, and misses come in pairs. */
				for (uint32_t j = 0; i % 2 && j < 5; j++)
					x += uniform() < 2 * rates[r] ? 2 : 0;
				misses += x;
				squares += x * x;
			}
			double b = recall_bound(n, 10, misses, squares, 1.645, &known[run]);
			covered += b >= rates[r];
			sum += b;
		}
		print_message("rate %.3f: covered in %.4f of the runs, bound %.4f on average\n",
			rates[r], (double)covered / runs, sum / runs);
		assert_true(covered >= 0.93 * runs);
		assert_true(sum / runs <= 1.6 * rates[r] + 0.0015);
	}
	double d = 1;
	assert_true(recall_bound(500, 10, 0, 0, 1.645, &d) < 0.0006);
	assert_true(recall_bound(0, 10, 0, 0, 1.645, &d) >= 1);
	assert_true(recall_bound(10, 10, 100, 1000, 1.645, &d) >= 1);
}

static int setup(void **state)
{
	(void)state;
	test_seed(20261121);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(promises_are_kept_and_cost_little),
		cmocka_unit_test(other_numbers_of_neighbours_are_promised_the_same),
		cmocka_unit_test(calibration_is_measured_and_honest),
		cmocka_unit_test(drift_is_noticed_and_measured_again),
		cmocka_unit_test(deaths_and_growth_are_measured_again),
		cmocka_unit_test(restart_keeps_what_was_measured),
		cmocka_unit_test(skipped_slot_is_not_there),
		cmocka_unit_test(bound_covers_the_rate),
		cmocka_unit_test(coarse_codes_keep_their_promises),
		cmocka_unit_test(coarse_codes_of_few_records_or_dimensions_find_all),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
