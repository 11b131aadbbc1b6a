/* merge.h - k nearest out of several sorted lists. */
#ifndef VECFS_QUERY_MERGE_H
#define VECFS_QUERY_MERGE_H

#include "base/base.h"

struct merge_hit {
	float distance;
	uint32_t list;  /* which list it came from */
	uint32_t index; /* its place in that list */
};

/* 'distances[i]' has counts[i] values, ascending.  Fills 'ret' with the k smallest of all, ascending,
 * ties by list; returns how many.  n_lists is small (shards of a collection): a linear scan of the heads. */
uint32_t merge_topk(const float *const *distances, const uint32_t *counts, uint32_t n_lists,
	uint32_t k, uint32_t *heads, struct merge_hit *ret);

#endif
