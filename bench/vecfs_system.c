/* vecfs_system.c - lib/index as the bench sees it: default settings, vectors in memory. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/index.h"
#include "system.h"

#define APPEND_BATCH 1000u
#define LINK_BATCH   1024u
#define K_MAX        1000u
#define THREADS_MAX  64u

struct vecfs {
	const struct dataset *d;
	struct index *ix;
};

static const float *vector(void *ctx, uint32_t slot)
{
	const struct dataset *d = ctx;

	return d->base + (size_t)slot * d->dim;
}

static void *linker(void *ix)
{
	while (index_link(ix, LINK_BATCH) > 0) {
	}
	return NULL;
}

static void *vecfs_build(const struct dataset *d, unsigned threads)
{
	struct index_params p = {.metric = d->cosine ? VX_COSINE : VX_L2, .dim = d->dim};
	struct index_host host = {.vector = vector, .ctx = (void *)(uintptr_t)d};
	struct vecfs *s = calloc(1, sizeof *s);
	pthread_t t[THREADS_MAX];

	if (!s || index_new(&p, &host, &s->ix) < 0) {
		free(s);
		return NULL;
	}
	s->d = d;
	for (uint32_t i = 0; i < d->nbase; i += APPEND_BATCH) {
		uint32_t n = VX_MIN(APPEND_BATCH, d->nbase - i);
		if (index_append(s->ix, i, n, d->base + (size_t)i * d->dim) < 0) {
			index_free(s->ix);
			free(s);
			return NULL;
		}
	}
	threads = VX_MIN(threads, THREADS_MAX);
	unsigned started = 0;
	while (started < threads && pthread_create(&t[started], NULL, linker, s->ix) == 0)
		started++;
	for (unsigned i = 0; i < started; i++)
		pthread_join(t[i], NULL);
	return s;
}

/* The daemon always asks whether a slot is alive: the bench pays for that call too. */
static bool visible(void *ctx, uint32_t slot)
{
	const struct dataset *d = ctx;

	return slot < d->nbase;
}

static void vecfs_search(void *sys, const float *q, unsigned k, unsigned ef, int64_t *ret)
{
	struct vecfs *s = sys;
	struct index_hit hits[K_MAX];
	uint32_t n = 0;
	struct index_query query = {.vec = q,
		.k = VX_MIN(k, K_MAX),
		.ef = ef,
		.nslots = s->d->nbase,
		.visible = visible,
		.visible_ctx = (void *)(uintptr_t)s->d};

	if (index_search(s->ix, &query, hits, &n, NULL) < 0)
		n = 0;
	for (unsigned i = 0; i < k; i++)
		ret[i] = i < n ? (int64_t)hits[i].slot : -1;
}

static unsigned vecfs_default_ef(void *sys)
{
	struct index_stats st;

	index_stat(((struct vecfs *)sys)->ix, &st);
	return st.ef_default;
}

static void vecfs_free(void *sys)
{
	struct vecfs *s = sys;

	index_free(s->ix);
	free(s);
}

const struct system_ops system_vecfs = {
	.name = "vecfs",
	.build = vecfs_build,
	.search = vecfs_search,
	.default_ef = vecfs_default_ef,
	.free = vecfs_free,
};
