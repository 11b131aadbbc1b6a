#include "fixture.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t rng = 1;

uint64_t test_seed(uint64_t dflt)
{
	const char *s = getenv("SEED");

	rng = s ? strtoull(s, NULL, 0) : dflt;
	print_message("SEED=%llu\n", (unsigned long long)rng);
	return rng;
}

uint64_t test_random(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* Roughly normal: the sum of four uniform values. */
static float normal(void)
{
	float s = 0;

	for (int i = 0; i < 4; i++)
		s += (float)((double)(test_random() >> 11) * 0x1p-53 - 0.5);
	return s * 1.7f;
}

#define CLUSTERS 40u

static void fill(float *v, uint32_t n, uint32_t dim, const float *centres)
{
	for (uint32_t i = 0; i < n; i++) {
		const float *c = centres + (size_t)(test_random() % CLUSTERS) * dim;
		for (uint32_t j = 0; j < dim; j++)
			v[(size_t)i * dim + j] = (c[j] + 0.6f * normal()) /
						 sqrtf(1.0f + (float)j / 4);
	}
}

void points_init(struct points *p, uint32_t n, uint32_t dim, uint32_t nquery)
{
	float *centres = malloc((size_t)CLUSTERS * dim * sizeof *centres);

	memset(p, 0, sizeof *p);
	p->n = n;
	p->dim = dim;
	p->nquery = nquery;
	p->vec = malloc((size_t)n * dim * sizeof *p->vec);
	p->query = malloc((size_t)nquery * dim * sizeof *p->query);
	for (uint32_t i = 0; i < CLUSTERS * dim; i++)
		centres[i] = normal();
	fill(p->vec, n, dim, centres);
	fill(p->query, nquery, dim, centres);
	free(centres);
}

void points_release(struct points *p)
{
	free(p->vec);
	free(p->query);
}

static const float *host_vector(void *ctx, uint32_t slot)
{
	struct points *p = ctx;

	assert_true(slot < p->n);
	return p->damaged && p->damaged[slot] ? NULL : p->vec + (size_t)slot * p->dim;
}

struct index_host points_host(struct points *p)
{
	return (struct index_host){.vector = host_vector, .ctx = p};
}

struct index *points_index(
	struct points *p, enum vx_metric metric, const char *kind, const char *quant)
{
	struct index_params params = {
		.kind = kind, .metric = metric, .dim = p->dim, .quant = quant, .seed = 7};
	struct index_host host = points_host(p);
	struct index *ix;

	assert_int_equal(index_new(&params, &host, &ix), 0);
	return ix;
}

void points_append(struct points *p, struct index *ix, uint32_t from, uint32_t to)
{
	while (from < to) {
		uint32_t n = VX_MIN(to - from, 100u);
		assert_int_equal(index_append(ix, from, n, p->vec + (size_t)from * p->dim), 0);
		from += n;
	}
}

static void *linker(void *arg)
{
	int rc;

	while ((rc = index_link(arg, 200)) > 0) {
	}
	return (void *)(intptr_t)rc;
}

void points_link(struct index *ix, uint32_t threads)
{
	pthread_t t[8];
	void *rc;

	for (uint32_t i = 0; i < threads; i++)
		assert_int_equal(pthread_create(&t[i], NULL, linker, ix), 0);
	for (uint32_t i = 0; i < threads; i++) {
		pthread_join(t[i], &rc);
		assert_null(rc);
	}
	assert_int_equal(index_linked(ix), index_appended(ix));
}

double points_distance(const struct points *p, enum vx_metric metric, const float *q, uint32_t slot)
{
	const float *v = p->vec + (size_t)slot * p->dim;
	double dot = 0, qq = 0, vv = 0, l2 = 0;

	for (uint32_t i = 0; i < p->dim; i++) {
		dot += (double)q[i] * v[i];
		qq += (double)q[i] * q[i];
		vv += (double)v[i] * v[i];
		l2 += ((double)q[i] - v[i]) * ((double)q[i] - v[i]);
	}
	if (metric == VX_L2)
		return sqrt(l2);
	if (metric == VX_IP)
		return -dot;
	return qq > 0 && vv > 0 ? 1 - dot / sqrt(qq * vv) : 1;
}

uint32_t points_exact(const struct points *p, enum vx_metric metric, const float *q, uint32_t k,
	uint32_t nslots, bool (*visible)(void *ctx, uint32_t slot), void *ctx,
	struct index_hit *ret)
{
	uint32_t n = 0;

	for (uint32_t s = 0; s < nslots; s++) {
		if ((visible && !visible(ctx, s)) || (p->damaged && p->damaged[s]))
			continue;
		float d = (float)points_distance(p, metric, q, s);
		uint32_t at = n;
		while (at > 0 && ret[at - 1].distance > d)
			at--;
		if (at == k)
			continue;
		n += n < k;
		memmove(ret + at + 1, ret + at, (n - at - 1) * sizeof *ret);
		ret[at] = (struct index_hit){.slot = s, .distance = d};
	}
	return n;
}

double points_recall(const struct points *p, struct index *ix, enum vx_metric metric, uint32_t k,
	uint32_t ef, bool (*visible)(void *ctx, uint32_t slot), void *ctx)
{
	struct index_hit want[64], got[64];
	uint32_t n, found = 0, total = 0;

	assert_true(k <= 64);
	for (uint32_t i = 0; i < p->nquery; i++) {
		struct index_query q = {.vec = p->query + (size_t)i * p->dim,
			.k = k,
			.ef = ef,
			.nslots = p->n,
			.visible = visible,
			.visible_ctx = ctx};
		uint32_t m = points_exact(p, metric, q.vec, k, p->n, visible, ctx, want);
		assert_int_equal(index_search(ix, &q, got, &n, NULL), 0);
		assert_int_equal(n, m);
		for (uint32_t a = 0; a < n; a++) {
			assert_true(!visible || visible(ctx, got[a].slot));
			for (uint32_t b = 0; b < m; b++)
				found += got[a].slot == want[b].slot;
		}
		total += m;
	}
	return (double)found / total;
}
