/* codes_coarse.c - codes of four bits and of one, and links by full vectors.
 *
 * "sq4" is a row like a head of "sq8" that has to stand alone: a component h of 0..15 is read as v = 16 h
 * - 120.5.  Spreading the sixteen steps over the greatest component would make them too wide for the many
 * small ones, so some narrower ones are tried too and the best kept: that whose code points
 * most nearly in the direction of the vector.
 *
 * "sq1" is the signs of the components: v = +1 or -1.  Gao and Long, "RaBitQ: quantizing high-dimensional
 * vectors with a theoretical error bound for approximate nearest neighbor search", SIGMOD 2024.
 *
 * Both store the scale s = |x|^2 / (v . x), with which s (v . q) estimates x . q without bias, over
 * random rotations; and N = 2 s (v . x) - |x|^2 as the squared length: that is |x|^2 but for the
 * rounding of s, which it makes up for near x, where it counts.  Then
 *
 *	|x - q|^2  =~  N + |q|^2 - 2 s (v . q)
 *
 * A question is taken in eight bits against "sq4".  Against "sq1" it is taken in four, as bit planes; their error is
 * small beside that of one bit.  With q = t (u - 7.5), u in 0..15, b the bits and W their number,
 *
 *	v . q  =  t (2 (b . u) - 15 |b| - (sum u - 7.5 W))
 *
 * where |b| is counted anew each time: the row is at hand then, and its place in memory would not be.
 *
 * One bit is enough to find what is near but not to tell apart what leads in different directions.
 * So links are chosen with full vectors: searches walk a graph as good as any.
 */
#include <math.h>

#include "index/codes_i.h"

#define STEPS      16u
#define HALF_STEPS 7.53125f /* 120.5 / 16 */

/* The nearest that has so few bits. */
static uint16_t round_scale(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof bits);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The aux for x = max y, from |y|^2 and v . y.  'per_unit': units of length in one of scale^2. */
static struct code_aux make_aux(double max, double xx, double vx, double per_unit)
{
	struct code_aux aux = {0};
	double s = max * xx / vx;

	if (!(vx > 0 && s > (double)FLT_MIN && s < (double)FLT_MAX / 2))
		return aux;
	aux.scale = round_scale((float)s);
	s = (double)decode_scale(aux.scale) / max;
	double norm = (2 * s * vx - xx) / (s * s) * per_unit + 0.5;
	aux.head = (uint16_t)VX_MAX(0.0, VX_MIN(norm, (double)UINT16_MAX));
	return aux;
}

/* --- four bits ------------------------------------------------------------ */
#define PIECE     256u /* components quantised at a time */
#define NARROWEST 6u   /* steps, in 1/16 of the widest ones */

/* v . x / steps of 16, and |v|^2 likewise, for steps of width 'step'. */
static void try_step(
	const struct codes *c, const float *x, float step, double *ret_vx, double *ret_vv)
{
	uint8_t h[PIECE];
	double vx = 0, vv = 0;
	int32_t sum;

	for (uint32_t i = 0; i < c->width; i += PIECE) {
		uint32_t n = VX_MIN(PIECE, c->width - i);
		int64_t sq = c->k->quantise_u4_f32(
			x + i, n, -HALF_STEPS * step, 1.0f / step, h, &sum);
		float dot = 0;
		for (uint32_t j = 0; j < n; j++)
			dot += ((float)h[j] - HALF_STEPS) * x[i + j];
		vx += (double)dot;
		vv += (double)sq - 2 * (double)HALF_STEPS * sum +
		      (double)HALF_STEPS * (double)HALF_STEPS * n;
	}
	*ret_vx = vx;
	*ret_vv = vv;
}

static void nibbles_encode(struct codes *c, uint32_t slot, const float *x, float max)
{
	const float widest = 1.0f / (HALF_STEPS - 0.5f), xx = c->k->dot_f32(x, x, c->width);
	float best_step = widest;
	double vx, vv, best = -1, best_vx = 0;
	uint8_t h[PIECE];
	int32_t sum;

	for (uint32_t i = STEPS; i >= NARROWEST; i--) {
		float step = widest * (float)i / STEPS;
		try_step(c, x, step, &vx, &vv);
		double cos2 = vx > 0 ? vx * vx / vv : 0;
		if (cos2 > best) {
			best = cos2;
			best_step = step;
			best_vx = vx;
		}
	}
	for (uint32_t i = 0; i < c->width; i += PIECE) {
		uint32_t n = VX_MIN(PIECE, c->width - i);
		(void)c->k->quantise_u4_f32(
			x + i, n, -HALF_STEPS * best_step, 1.0f / best_step, h, &sum);
		c->k->pack_u4(h, n, codes_head(c, slot) + i / 2);
	}
	*codes_aux(c, slot) = make_aux((double)max, (double)xx, best_vx * STEPS, 4.0 / c->width);
}

/* --- one bit -------------------------------------------------------------- */
static void signs_encode(struct codes *c, uint32_t slot, const float *x, float max)
{
	const float xx = c->k->dot_f32(x, x, c->width);
	double sum = 0;

	for (uint32_t i = 0; i < c->width; i++)
		sum += (double)fabsf(x[i]);
	c->k->pack_signs(x, c->width, codes_head(c, slot), c->half);
	*codes_aux(c, slot) = make_aux((double)max, (double)xx, sum, 65535.0 / c->width);
}

void coarse_encode(struct codes *c, uint32_t slot, float *v, float max)
{
	/* Squares of anything fit then. */
	for (uint32_t i = 0; i < c->width; i++)
		v[i] /= max;
	if (!(max > FLT_MIN * 256 && max <= FLT_MAX)) {
		/* No direction is left of such a vector. */
		memset(codes_head(c, slot), 0, c->half);
		*codes_aux(c, slot) = (struct code_aux){0};
	} else if (c->quant == QUANT_SQ4) {
		nibbles_encode(c, slot, v, max);
	} else {
		signs_encode(c, slot, v, max);
	}
}

void bits_probe(const struct codes *c, struct probe *p, float max)
{
	float step = max > FLT_MIN * 256 && max <= FLT_MAX ? max / 7.5f : 0;
	uint8_t u[PIECE];

	p->unit = unit_of(c);
	p->scale = step * metric_factor(c);
	p->add = step > 0 ? bounded(c->k->dot_f32(p->qf, p->qf, c->width)) : 0;
	if (c->metric == VX_COSINE)
		p->add /= 2;
	if (c->metric == VX_IP)
		p->add = 0;
	/* The question's floats are not needed any more: its codes may lie there. */
	uint8_t *codes = (uint8_t *)p->qf;
	p->sum = 0;
	for (uint32_t i = 0; i < c->width; i += PIECE) {
		uint32_t n = VX_MIN(PIECE, c->width - i);
		int32_t sum;
		(void)c->k->quantise_u4_f32(
			p->qf + i, n, -max, step > 0 ? 1.0f / step : 0, u, &sum);
		memcpy(codes + i, u, n);
		p->sum += sum;
	}
	c->k->pack_planes(codes, c->width, (uint8_t *)p->q8, c->half);
}

void bits_distances(const struct codes *c, const struct probe *p, const uint32_t *slots, uint32_t n,
	const uint8_t **rows, int32_t *dots, float *ret)
{
	static const uint8_t zero[SIMD_U1_BYTES(SIMD_CODE_MAX)];
	const uint8_t *planes = (const uint8_t *)p->q8;
	const float off = (float)p->sum - 7.5f * (float)c->width;
	float scale[BATCH], norm[BATCH], dot[BATCH];
	int32_t ones[BATCH];

	for (uint32_t i = 0; i < n; i++) {
		rows[i] = codes_head(c, slots[i]);
		__builtin_prefetch(codes_aux(c, slots[i]), 0, 3);
	}
	c->k->dot_u1u4_many(planes, c->half, rows, n, dots);
	c->k->hamming_many(zero, c->half, rows, n, ones);
	for (uint32_t i = 0; i < n; i++) {
		struct code_aux a = *codes_aux(c, slots[i]);
		scale[i] = decode_scale(a.scale);
		norm[i] = a.head;
		dot[i] = (float)(2 * dots[i] - 15 * ones[i]) - off;
	}
	finish(p, scale, norm, dot, n, ret);
}

/* --- full vectors --------------------------------------------------------- */
#define AHEAD 4u

bool exact_probe(const struct codes *c, uint32_t slot, struct probe *p)
{
	p->vf = c->host.vector(c->host.ctx, slot);
	if (!p->vf)
		return false;
	p->exact = true;
	if (c->metric == VX_COSINE)
		p->len = sqrtf(c->k->dot_f32(p->vf, p->vf, c->dim));
	return true;
}

static const float *fetch(const struct codes *c, uint32_t slot)
{
	const float *v = c->host.vector(c->host.ctx, slot);

	for (uint32_t i = 0; v && i < c->dim; i += 16)
		__builtin_prefetch(v + i, 0, 3);
	return v;
}

void exact_distances(
	const struct codes *c, const struct probe *p, const uint32_t *slots, uint32_t n, float *ret)
{
	const float *ahead[AHEAD] = {NULL};

	for (uint32_t i = 0; i < VX_MIN(n, AHEAD); i++)
		ahead[i] = fetch(c, slots[i]);
	for (uint32_t i = 0; i < n; i++) {
		const float *v = ahead[i % AHEAD];
		if (i + AHEAD < n)
			ahead[i % AHEAD] = fetch(c, slots[i + AHEAD]);
		ret[i] = v ? exact_distance(c, p->vf, p->len, v) : INFINITY;
	}
}
