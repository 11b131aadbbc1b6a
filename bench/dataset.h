/* dataset.h - base vectors, questions and exact answers for a bench. */
#ifndef VECFS_BENCH_DATASET_H
#define VECFS_BENCH_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dataset {
	char name[64];
	bool cosine;
	uint32_t dim, nbase, nquery;
	uint32_t truth_k; /* answers per question */
	float *base, *query;
	int32_t *truth;
};

/* Reads DIR/NAME.base.{bvecs,npy}[.zst], .query and .gt.ivecs; .zst goes through zstd(1).
 * 0, or -errno with a line on stderr; -ENOENT when the set is not there. */
int dataset_load(const char *dir, const char *name, bool cosine, struct dataset *ret);
void dataset_release(struct dataset *d);

#endif
