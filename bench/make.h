/* make.h - kinds of sets that can be made. */
#ifndef VECFS_BENCH_MAKE_H
#define VECFS_BENCH_MAKE_H

#include "bench.h"

struct make_kind {
	const char *name;
	uint32_t dim; /* by default */
	bool fixed_dim;
	bool bytes; /* rows are whole numbers 0..255 */
	/* Everything that rows share, in one allocation; NULL: no memory. */
	void *(*new_model)(uint64_t seed, uint32_t dim);
	/* The stream's next row; by many threads at once. */
	void (*row)(const void *model, struct rng *r, float *ret);
};

/* NULL: there is no such kind. */
const struct make_kind *make_kind_find(const char *name);
/* A random stream for (seed, what). */
struct rng make_stream(uint64_t seed, uint64_t what);

#endif
