/* codes_i.h - what the files of the codes share: the arithmetic of a distance. */
#ifndef VECFS_INDEX_CODES_I_H
#define VECFS_INDEX_CODES_I_H

#include <float.h>
#include <string.h>

#include "index/codes.h"

/* Many slots are done a few at a time, so that the parts of a distance stay in the nearest cache. */
#define BATCH 64u

static inline float decode_scale(uint16_t s)
{
	uint32_t bits = (uint32_t)s << 16;
	float f;

	memcpy(&f, &bits, sizeof f);
	return f;
}

/* What a unit of squared length counts in this metric, apart from the scale's square. */
static inline float unit_of(const struct codes *c)
{
	float w = (float)c->width / (c->quant == QUANT_SQ1 ? 65535.0f : 4.0f);

	return c->metric == VX_L2 ? w : c->metric == VX_COSINE ? w / 2 : 0;
}

static inline float metric_factor(const struct codes *c)
{
	return c->metric == VX_L2 ? 2.0f : 1.0f;
}

/* At most what can be added up without overflow. */
static inline float bounded(float f)
{
	return f <= FLT_MAX / 4 ? f : FLT_MAX / 4;
}

/* ret_i = add + s_i * (unit * s_i * norm_i - scale * dot_i).  A NaN, of huge components, is as far as
 * can be. */
static inline void finish(const struct probe *p, const float *scale, const float *norm,
	const float *dot, uint32_t n, float *ret)
{
	const float unit = p->unit, f = p->scale, add = p->add;

	for (uint32_t i = 0; i < n; i++) {
		float d = add + scale[i] * (unit * scale[i] * norm[i] - f * dot[i]);
		ret[i] = d < FLT_MAX ? d : FLT_MAX;
	}
}

/* --- codes_coarse.c: what is not "sq8" -------------------------------------------- */
/* A transformed vector whose greatest component is 'max' into a slot ("sq4", "sq1").  Spoils it. */
void coarse_encode(struct codes *c, uint32_t slot, float *v, float max);

/* The probe of the transformed question p->qf. */
void bits_probe(const struct codes *c, struct probe *p, float max);

/* As probe_distances, for at most BATCH slots. */
void bits_distances(const struct codes *c, const struct probe *p, const uint32_t *slots, uint32_t n,
	const uint8_t **rows, int32_t *dots, float *ret);

/* A slot's own vector as the left side of exact distances; false: it cannot be read. */
bool exact_probe(const struct codes *c, uint32_t slot, struct probe *p);
void exact_distances(const struct codes *c, const struct probe *p, const uint32_t *slots,
	uint32_t n, float *ret);

#endif
