/* system.h - an index under measurement: vecfs or a peer. */
#ifndef VECFS_BENCH_SYSTEM_H
#define VECFS_BENCH_SYSTEM_H

#include "dataset.h"

#ifdef __cplusplus
extern "C" {
#endif

struct system_ops {
	const char *name;
	/* Builds with that many threads; NULL on failure. */
	void *(*build)(const struct dataset *d, unsigned threads);
	/* ef 0: the system's own default.  'ret' has room for k ids. */
	void (*search)(void *s, const float *q, unsigned k, unsigned ef, int64_t *ret);
	/* What ef 0 stands for. */
	unsigned (*default_ef)(void *s);
	void (*free)(void *s);
};

extern const struct system_ops system_vecfs;
/* Those that were compiled in; ends with NULL. */
extern const struct system_ops *const system_peers[];

#ifdef __cplusplus
}
#endif
#endif
