/* codes.c - rows of codes: storage, encoding, distances.
 *
 * Encoding: normalise (cosine), rotate, scale by 127 / max |component|, round.
 * The rotation is random signs followed by a fast Hadamard transform over the longest power of two
 * at the front, then, unless that covered everything, signs and the same over the
 * longest power of two at the back.  It is orthogonal, costs n log n and grows the vector to the
 * next multiple of 64 only.  Its purpose is the scale: data whose components
 * are ordered by variance would spend the 8 bits on the first few.
 *
 * A chunk's mapping starts on a 2 MiB boundary.  Small indexes touch a few 4 KiB
 * pages; as soon as a 2 MiB range has filled up it is collapsed into a huge page (where the
 * kernel can: else the advice alone remains), so nothing is wasted on growth.
 */
#include "index/codes.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static uint64_t splitmix(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static int make_signs(struct codes *c)
{
	uint64_t s = c->rot_seed;

	c->signs = malloc(2 * (size_t)c->width * sizeof *c->signs);
	if (!c->signs)
		return -ENOMEM;
	for (size_t i = 0; i < 2 * (size_t)c->width; i++)
		c->signs[i] = splitmix(&s) >> 63 ? 1.0f : -1.0f;
	return 0;
}

int codes_init(struct codes *c, const struct index_params *p, bool sq8, uint32_t extra,
	const struct index_host *host)
{
	memset(c, 0, sizeof *c);
	c->metric = p->metric;
	c->dim = p->dim;
	c->width = sq8 ? VX_ALIGN_UP(p->dim, 64u) : 0;
	c->extra = extra;
	c->rot_seed = 0x766563667343u; /* fixed: codes of one dimension are alike everywhere */
	c->k = simd_active();
	c->host = *host;

	size_t n = CODES_CHUNK_SLOTS;
	c->extra_off = n * c->width;
	c->aux_off = c->extra_off + n * extra;
	c->flags_off = c->aux_off + n * sizeof(struct code_aux);
	c->chunk_bytes = VX_ALIGN_UP(c->flags_off + n, HUGE_BYTES);

	if (sq8 && make_signs(c) < 0)
		return -ENOMEM;
	void *m = mmap(NULL, CODES_CHUNKS_MAX * sizeof *c->dir, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED) {
		free(c->signs);
		c->signs = NULL;
		return -ENOMEM;
	}
	c->dir = m;
	return 0;
}

void codes_drop(struct codes *c)
{
	for (uint32_t i = 0; i < c->nchunks; i++) {
		munmap(c->dir[i], c->chunk_bytes);
		c->dir[i] = NULL;
	}
	c->nchunks = 0;
}

void codes_release(struct codes *c)
{
	if (!c->dir)
		return;
	codes_drop(c);
	munmap(c->dir, CODES_CHUNKS_MAX * sizeof *c->dir);
	free(c->signs);
	c->dir = NULL;
}

/* Maps a chunk on a 2 MiB boundary by cutting a mapping that is longer by one such. */
static uint8_t *map_chunk(size_t bytes)
{
	uint8_t *m = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED)
		return NULL;
	uint8_t *a = (uint8_t *)VX_ALIGN_UP((uintptr_t)m, HUGE_BYTES);
	if (a > m)
		munmap(m, (size_t)(a - m));
	size_t rest = (size_t)(m + HUGE_BYTES - a);
	if (rest)
		munmap(a + bytes, rest);
	return a;
}

int codes_reserve(struct codes *c, uint32_t n)
{
	if (n > VX_SLOTS_MAX)
		return -ENOMEM;
	uint32_t need = (uint32_t)(((uint64_t)n + CODES_CHUNK_SLOTS - 1) / CODES_CHUNK_SLOTS);

	while (c->nchunks < need) {
		uint8_t *m = map_chunk(c->chunk_bytes);
		if (!m)
			return -ENOMEM;
		c->dir[c->nchunks++] = m;
	}
	return 0;
}

/* The 2 MiB ranges of [base, base + to * size) that end within the part from 'from' on.  'filled':
 * their pages exist already. */
static void settle(uint8_t *base, uint32_t from, uint32_t to, size_t size, bool filled)
{
	uintptr_t lo = (uintptr_t)base + (size_t)from * size;
	uintptr_t hi = ((uintptr_t)base + (size_t)to * size) & ~(HUGE_BYTES - 1);
	uintptr_t first = VX_ALIGN_UP((uintptr_t)base, HUGE_BYTES);

	lo &= ~(HUGE_BYTES - 1);
	lo = VX_MAX(lo, first);
	for (; lo < hi; lo += HUGE_BYTES) {
		(void)madvise((void *)lo, HUGE_BYTES, MADV_HUGEPAGE);
		if (filled)
			(void)madvise((void *)lo, HUGE_BYTES, MADV_COLLAPSE);
	}
}

static void settle_parts(
	struct codes *c, uint32_t from, uint32_t to, size_t off, size_t size, bool filled)
{
	while (from < to && size > 0) {
		uint32_t in = from % CODES_CHUNK_SLOTS;
		uint32_t n = VX_MIN(to - from, CODES_CHUNK_SLOTS - in);
		settle(codes_chunk(c, from) + off, in, in + n, size, filled);
		from += n;
	}
}

void codes_settle(struct codes *c, uint32_t from, uint32_t to)
{
	settle_parts(c, from, to, 0, c->width, true);
}

void codes_settle_extra(struct codes *c, uint32_t from, uint32_t to)
{
	settle_parts(c, from, to, c->extra_off, c->extra, true);
}

void codes_expect(struct codes *c, uint32_t n)
{
	settle_parts(c, 0, n, 0, c->width, false);
	settle_parts(c, 0, n, c->extra_off, c->extra, false);
}

/* --- encoding ------------------------------------------------------------- */
static float length_of(const struct codes *c, const float *v)
{
	float bb;

	c->k->dot_norm_f32(v, v, c->dim, &bb);
	return sqrtf(bb);
}

/* tmp = the vector, normalised under cosine, padded and rotated; returns max |component|. */
static float transform(const struct codes *c, const float *vec, float *tmp)
{
	float f = 1.0f;

	if (c->metric == VX_COSINE) {
		float len = length_of(c, vec);
		f = len > 0 && len <= FLT_MAX ? 1.0f / len : 0.0f;
	}
	for (uint32_t i = 0; i < c->dim; i++)
		tmp[i] = vec[i] * f;
	memset(tmp + c->dim, 0, (c->width - c->dim) * sizeof *tmp);

	size_t p = (size_t)1 << (31 - __builtin_clz(c->width));
	c->k->hadamard_f32(tmp, c->signs, p);
	if (p < c->width)
		c->k->hadamard_f32(tmp + c->width - p, c->signs + c->width, p);
	return c->k->max_abs_f32(tmp, c->width);
}

/* The aux entry of a code with this scale and sum of squared components. */
static struct code_aux make_aux(const struct codes *c, float scale, int64_t sq)
{
	float norm2 = scale * scale * (float)sq;
	struct code_aux a = {.scale = scale};

	if (!(norm2 <= FLT_MAX))
		norm2 = FLT_MAX / 4;
	if (c->metric == VX_L2)
		a.add = norm2;
	else if (c->metric == VX_COSINE)
		a.add = norm2 / 2;
	return a;
}

static int64_t quantise(const struct codes *c, const float *tmp, float max, int8_t *ret,
	float *ret_scale, int32_t *sum)
{
	float scale = max / 127.0f;
	float inv = max > FLT_MIN * 256 && max <= FLT_MAX ? 127.0f / max : 0.0f;

	*ret_scale = inv > 0 ? scale : 0.0f;
	return c->k->quantise_f32(tmp, c->width, inv, ret, sum);
}

void codes_encode(struct codes *c, uint32_t slot, const float *vec, float *tmp)
{
	struct code_aux aux = {.scale = 0};

	if (c->width == 0) {
		if (c->metric == VX_COSINE) {
			float len = length_of(c, vec);
			aux.scale = len > 0 && len <= FLT_MAX ? 1.0f / len : 0.0f;
		}
	} else {
		uint8_t *row = codes_row(c, slot);
		float max = transform(c, vec, tmp), scale;
		int32_t sum;
		int64_t sq = quantise(c, tmp, max, (int8_t *)row, &scale, &sum);
		for (uint32_t i = 0; i < c->width; i++)
			row[i] ^= 0x80u;
		aux = make_aux(c, scale, sq);
	}
	*codes_aux(c, slot) = aux;
}

/* --- distances ------------------------------------------------------------ */
static float metric_factor(const struct codes *c)
{
	return c->metric == VX_L2 ? 2.0f : 1.0f;
}

void probe_from_vec(const struct codes *c, const float *vec, struct probe *p)
{
	if (c->width == 0) {
		float f = 1.0f;
		if (c->metric == VX_COSINE) {
			float len = length_of(c, vec);
			f = len > 0 && len <= FLT_MAX ? 1.0f / len : 0.0f;
		}
		for (uint32_t i = 0; i < c->dim; i++)
			p->qf[i] = vec[i] * f;
		p->vf = p->qf;
		p->scale = 1.0f;
		p->add = 0;
		return;
	}
	float max = transform(c, vec, p->qf), scale;
	int32_t sum;
	int64_t sq = quantise(c, p->qf, max, p->q8, &scale, &sum);
	struct code_aux a = make_aux(c, scale, sq);
	p->scale = a.scale * metric_factor(c);
	p->add = a.add;
	p->bias = 128 * sum;
}

bool probe_from_slot(const struct codes *c, uint32_t slot, struct probe *p)
{
	const struct code_aux *a = codes_aux(c, slot);

	if (c->width == 0) {
		p->vf = c->host.vector(c->host.ctx, slot);
		p->scale = c->metric == VX_COSINE ? a->scale : 1.0f;
		p->add = 0;
		return p->vf != NULL;
	}
	p->bias = 128 * c->k->flip_u8(codes_row(c, slot), p->q8, c->width);
	p->scale = a->scale * metric_factor(c);
	p->add = a->add;
	return true;
}

static void float_distances(
	const struct codes *c, const struct probe *p, const uint32_t *slots, uint32_t n, float *ret)
{
	for (uint32_t i = 0; i < n; i++) {
		const float *v = c->host.vector(c->host.ctx, slots[i]);
		float d;
		if (!v)
			d = INFINITY;
		else if (c->metric == VX_L2)
			d = c->k->l2_f32(p->vf, v, c->dim);
		else if (c->metric == VX_COSINE)
			d = 1.0f - c->k->dot_f32(p->vf, v, c->dim) * p->scale *
					   codes_aux(c, slots[i])->scale;
		else
			d = -c->k->dot_f32(p->vf, v, c->dim);
		ret[i] = d == d ? d : INFINITY;
	}
}

void probe_distances(const struct codes *c, const struct probe *p, const uint32_t *slots,
	uint32_t n, const uint8_t **rows, int32_t *dots, float *ret)
{
	if (c->width == 0) {
		float_distances(c, p, slots, n, ret);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		rows[i] = codes_row(c, slots[i]);
		codes_prefetch_aux(c, slots[i]);
	}
	c->k->dot_u8i8_many(p->q8, c->width, rows, n, dots);
	for (uint32_t i = 0; i < n; i++) {
		const struct code_aux *a = codes_aux(c, slots[i]);
		/* Unsigned, because the difference fits although a term alone might not. */
		int32_t dot = (int32_t)((uint32_t)dots[i] - (uint32_t)p->bias);
		ret[i] = p->add + a->add - p->scale * a->scale * (float)dot;
	}
}

float exact_distance(const struct codes *c, const float *q, float qnorm, const float *vec)
{
	float d;

	if (c->metric == VX_L2) {
		d = c->k->l2_f32(q, vec, c->dim);
	} else if (c->metric == VX_COSINE) {
		float bb, dot = c->k->dot_norm_f32(q, vec, c->dim, &bb);
		float len = qnorm * sqrtf(bb);
		d = len > 0 ? 1.0f - dot / len : 1.0f;
		/* Rounding must not make anything closer than itself. */
		d = d < 0 ? 0 : d > 2 ? 2 : d;
	} else {
		d = -c->k->dot_f32(q, vec, c->dim);
	}
	return d == d ? d : INFINITY;
}
