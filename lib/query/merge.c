#include "query/merge.h"

#include <string.h>

uint32_t merge_topk(const float *const *distances, const uint32_t *counts, uint32_t n_lists,
	uint32_t k, uint32_t *heads, struct merge_hit *ret)
{
	uint32_t n = 0;

	memset(heads, 0, n_lists * sizeof *heads);
	for (; n < k; n++) {
		uint32_t best = n_lists;

		for (uint32_t i = 0; i < n_lists; i++) {
			if (heads[i] < counts[i] &&
				(best == n_lists ||
					distances[i][heads[i]] < distances[best][heads[best]]))
				best = i;
		}
		if (best == n_lists)
			break;
		ret[n].distance = distances[best][heads[best]];
		ret[n].list = best;
		ret[n].index = heads[best]++;
	}
	return n;
}
