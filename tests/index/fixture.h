/* fixture.h - generated vectors and the exact answers, for tests of indexes. */
#ifndef VECFS_TESTS_INDEX_FIXTURE_H
#define VECFS_TESTS_INDEX_FIXTURE_H

#include "index/index.h"

struct points {
	uint32_t n, dim, nquery;
	float *vec, *query;
	/* Slots whose vector the host refuses ("damaged"); NULL: none. */
	const bool *damaged;
};

/* Prints and returns SEED from the environment or 'dflt'. */
uint64_t test_seed(uint64_t dflt);
uint64_t test_random(void);

/* Clusters in which a few directions carry most of the variance, as embeddings do. */
void points_init(struct points *p, uint32_t n, uint32_t dim, uint32_t nquery);
void points_release(struct points *p);
struct index_host points_host(struct points *p);

/* A fresh index; append: all points; link: with that many threads. */
struct index *points_index(
	struct points *p, enum vx_metric metric, const char *kind, const char *quant);
void points_append(struct points *p, struct index *ix, uint32_t from, uint32_t to);
void points_link(struct index *ix, uint32_t threads);

/* The true distance in the metric, in double. */
double points_distance(
	const struct points *p, enum vx_metric metric, const float *q, uint32_t slot);

/* The k nearest of [0, nslots) that 'visible' lets through; returns how many. */
uint32_t points_exact(const struct points *p, enum vx_metric metric, const float *q, uint32_t k,
	uint32_t nslots, bool (*visible)(void *ctx, uint32_t slot), void *ctx,
	struct index_hit *ret);

/* Mean recall@k over all questions. */
double points_recall(const struct points *p, struct index *ix, enum vx_metric metric, uint32_t k,
	uint32_t ef, bool (*visible)(void *ctx, uint32_t slot), void *ctx);

#endif
