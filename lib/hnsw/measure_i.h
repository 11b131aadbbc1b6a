/* measure_i.h - the questions of a measurement and their true neighbours. */
#ifndef VECFS_HNSW_MEASURE_I_H
#define VECFS_HNSW_MEASURE_I_H

#include "hnsw/hnsw_i.h"

/* A stored record, asked for as if it were not there. */
struct question {
	uint32_t slot, k;
	const float *vec;
	struct probe probe;
	struct cand *kept; /* the nearest by codes, then exactly */
	uint32_t n, cap;   /* room for twice as many */
	struct topk near;  /* over 'kept', while the codes are scanned */
	bool thin;         /* asked among few: see sample_visible */
	bool sure;         /* no other slot can belong to the k nearest */
	/* Of its k true neighbours those that the codes alone have, and with reranking. */
	uint32_t by_codes, by_rerank;
};

struct sample {
	struct question *q;
	struct cand *kept;
	int8_t *codes;
	uint32_t n, linked;
	bool heads; /* scanned by the codes' heads first */
};

/* Up to 'n' linked slots, spread evenly over all in every prefix; those beyond slot 'recent' come in
 * turn with the others when it is not 0.  -ENOMEM. */
VX_MUST_CHECK
int sample_init(struct sample *s, struct index *ix, uint32_t n, uint32_t recent);
void sample_release(struct sample *s);

/* The true neighbours of all; drops the questions that have fewer than k, and when codes cannot
 * vouch for most, all but a few.  -EINTR: the index's host wants an end. */
VX_MUST_CHECK
int sample_truth(struct sample *s, struct index *ix, struct scratch *sc);

/* The one slot in eight that thin questions are for: a filter, as it were. */
bool sample_visible(void *ctx, uint32_t slot);

/* The distance of the k-th neighbour, as a search returns it. */
float question_bound(const struct index *ix, const struct question *q, uint32_t k);

#endif
