/* codes.c - rows of codes: storage, encoding, distances.
 *
 * Encoding: normalise (cosine), centre, rotate, scale by 127 / max |component|, round, split.
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
#include "index/codes_i.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static const char *const quant_names[QUANTS] = {"none", "sq8", "sq4", "sq1"};

const char *quant_name(enum quant q)
{
	return quant_names[q];
}

int quant_find(const char *name)
{
	for (int i = 0; i < QUANTS && name; i++) {
		if (strcmp(name, quant_names[i]) == 0)
			return i;
	}
	return name ? -EINVAL : QUANT_SQ8;
}

static uint64_t splitmix(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static int make_rotation(struct codes *c)
{
	uint64_t s = c->rot_seed;

	c->signs = malloc(2 * (size_t)c->width * sizeof *c->signs);
	c->centre = calloc(c->dim, sizeof *c->centre);
	if (!c->signs || !c->centre)
		return -ENOMEM;
	for (size_t i = 0; i < 2 * (size_t)c->width; i++)
		c->signs[i] = splitmix(&s) >> 63 ? 1.0f : -1.0f;
	return 0;
}

int codes_init(struct codes *c, const struct index_params *p, enum quant quant, uint32_t extra,
	const struct index_host *host)
{
	memset(c, 0, sizeof *c);
	c->metric = p->metric;
	c->dim = p->dim;
	c->quant = quant;
	c->width = quant != QUANT_NONE ? VX_ALIGN_UP(p->dim, 64u) : 0;
	c->half = quant == QUANT_SQ1 ? c->width / 8 : c->width / 2;
	c->tail = quant == QUANT_SQ8 ? c->half : 0;
	c->norm = quant == QUANT_SQ8 ? sizeof(uint16_t) : 0;
	c->extra = extra;
	c->rot_seed = 0x766563667343u; /* fixed: codes of one dimension are alike everywhere */
	c->k = simd_active();
	c->host = *host;

	size_t n = CODES_CHUNK_SLOTS;
	c->extra_off = n * c->half;
	c->tail_off = c->extra_off + n * extra;
	c->aux_off = c->tail_off + n * c->tail;
	c->norm_off = c->aux_off + n * sizeof(struct code_aux);
	c->flags_off = c->norm_off + n * c->norm;
	c->chunk_bytes = VX_ALIGN_UP(c->flags_off + n, HUGE_BYTES);

	if (c->width > 0 && make_rotation(c) < 0) {
		codes_release(c);
		return -ENOMEM;
	}
	void *m = mmap(NULL, CODES_CHUNKS_MAX * sizeof *c->dir, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED) {
		codes_release(c);
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
	if (c->dir) {
		codes_drop(c);
		munmap(c->dir, CODES_CHUNKS_MAX * sizeof *c->dir);
	}
	free(c->signs);
	free(c->centre);
	c->dir = NULL;
	c->signs = c->centre = NULL;
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
	settle_parts(c, from, to, 0, c->half, true);
	settle_parts(c, from, to, c->tail_off, c->tail, true);
}

void codes_settle_extra(struct codes *c, uint32_t from, uint32_t to)
{
	settle_parts(c, from, to, c->extra_off, c->extra, true);
}

void codes_expect(struct codes *c, uint32_t n)
{
	settle_parts(c, 0, n, 0, c->half, false);
	settle_parts(c, 0, n, c->tail_off, c->tail, false);
	settle_parts(c, 0, n, c->extra_off, c->extra, false);
}

/* --- encoding ------------------------------------------------------------- */
static float length_of(const struct codes *c, const float *v)
{
	float bb;

	c->k->dot_norm_f32(v, v, c->dim, &bb);
	return sqrtf(bb);
}

static float unit_factor(const struct codes *c, const float *v)
{
	float len = length_of(c, v);

	return len > 0 && len <= FLT_MAX ? 1.0f / len : 0.0f;
}

void codes_train(struct codes *c, const float *const *vecs, uint32_t n)
{
	uint32_t used = 0;

	if (c->width == 0 || c->metric == VX_IP)
		return;
	memset(c->centre, 0, c->dim * sizeof *c->centre);
	for (uint32_t i = 0; i < n; i++) {
		float f = 1.0f, max = vecs[i] ? c->k->max_abs_f32(vecs[i], c->dim) : INFINITY;
		/* Far outside what vectors are like, one would drown all others. */
		if (!(max < FLT_MAX / (4 * CODES_TRAIN)))
			continue;
		if (c->metric == VX_COSINE)
			f = unit_factor(c, vecs[i]);
		for (uint32_t j = 0; j < c->dim; j++)
			c->centre[j] += vecs[i][j] * f;
		used++;
	}
	for (uint32_t j = 0; j < c->dim; j++)
		c->centre[j] /= (float)VX_MAX(used, 1u);
}

/* tmp = the vector, normalised under cosine, centred, padded and rotated; returns max |component|. */
static float transform(const struct codes *c, const float *vec, float *tmp)
{
	float f = c->metric == VX_COSINE ? unit_factor(c, vec) : 1.0f;

	for (uint32_t i = 0; i < c->dim; i++)
		tmp[i] = vec[i] * f - c->centre[i];
	memset(tmp + c->dim, 0, (c->width - c->dim) * sizeof *tmp);

	size_t p = (size_t)1 << (31 - __builtin_clz(c->width));
	c->k->hadamard_f32(tmp, c->signs, p);
	if (p < c->width)
		c->k->hadamard_f32(tmp + c->width - p, c->signs + c->width, p);
	return c->k->max_abs_f32(tmp, c->width);
}

/* The upper half of a float32 >= 0, rounded up. */
static uint16_t encode_scale(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof bits);
	return (uint16_t)((bits + 0xffff) >> 16);
}

/* The scale for components up to 'max', and what to multiply them by; 0 and 0: no direction is
 * left of such a vector. */
static uint16_t choose_scale(float max, float *ret_inv)
{
	*ret_inv = 0;
	if (!(max > FLT_MIN * 256 && max <= FLT_MAX))
		return 0;
	uint16_t s = encode_scale(max / 127.0f);
	*ret_inv = 1.0f / decode_scale(s);
	return s;
}

/* A squared length in units of width / 4. */
static uint16_t encode_norm(const struct codes *c, int64_t n)
{
	int64_t u = (n * 4 + c->width / 2) / c->width;

	return (uint16_t)VX_MAX((int64_t)0, VX_MIN(u, (int64_t)UINT16_MAX));
}

#define PIECE 128u /* components of a 64-byte piece of a head */

/* Splits up to PIECE codes into nibbles; adds up what the head's length needs. */
static void split(const int8_t *v, uint32_t n, uint8_t *head, uint8_t *tail, int64_t *head_norm)
{
	uint32_t h = n / 2;
	int32_t sum = 0;

	for (uint32_t j = 0; j < h; j++) {
		uint8_t a = (uint8_t)v[j] ^ 0x80u, b = (uint8_t)v[h + j] ^ 0x80u;
		head[j] = (uint8_t)(a >> 4 | (b & 0xf0u));
		tail[j] = (uint8_t)((a & 15u) | b << 4);
	}
	/* |x1|^2 - |x1 - x|^2 = x (2 x1 - x), where x1 = 16 h - 120.5 and x = 16 h + l - 128. */
	for (uint32_t j = 0; j < n; j++) {
		int32_t x = v[j], x1 = 2 * ((x + 128) & 0xf0) - 241;
		sum += x * (x1 - x);
	}
	*head_norm += sum;
}

void codes_encode(struct codes *c, uint32_t slot, const float *vec, float *tmp)
{
	struct code_aux aux = {0};
	int64_t norm = 0, head_norm = 0;
	float inv;

	if (c->width == 0) {
		float f = unit_factor(c, vec);
		memcpy(codes_aux(c, slot), &f, sizeof f);
		return;
	}
	float max = transform(c, vec, tmp);
	if (codes_coarse(c)) {
		coarse_encode(c, slot, tmp, max);
		return;
	}
	uint8_t *head = codes_head(c, slot), *tail = codes_tail(c, slot);
	aux.scale = choose_scale(max, &inv);
	for (uint32_t i = 0; i < c->width; i += PIECE) {
		uint32_t n = VX_MIN(PIECE, c->width - i);
		_Alignas(64) int8_t v[PIECE];
		int32_t sum;
		norm += c->k->quantise_f32(tmp + i, n, inv, v, &sum);
		split(v, n, head + i / 2, tail + i / 2, &head_norm);
	}
	aux.head = encode_norm(c, head_norm);
	*codes_norm(c, slot) = encode_norm(c, norm);
	*codes_aux(c, slot) = aux;
}

/* --- distances ------------------------------------------------------------ */
/* "none" under cosine. */
static float inverse_length(const struct codes *c, uint32_t slot)
{
	float f;

	memcpy(&f, codes_aux(c, slot), sizeof f);
	return f;
}

void probe_from_vec(const struct codes *c, const float *vec, struct probe *p)
{
	p->full = true;
	p->exact = false;
	p->unreadable = NULL;
	if (c->width == 0) {
		float f = c->metric == VX_COSINE ? unit_factor(c, vec) : 1.0f;
		for (uint32_t i = 0; i < c->dim; i++)
			p->qf[i] = vec[i] * f;
		p->vf = p->qf;
		p->scale = 1.0f;
		p->add = 0;
		return;
	}
	float max = transform(c, vec, p->qf);
	if (c->quant == QUANT_SQ1) {
		bits_probe(c, p, max);
		return;
	}
	float scale = max > FLT_MIN * 256 && max <= FLT_MAX ? max / 127.0f : 0;
	int64_t sq = c->k->quantise_f32(
		p->qf, c->width, scale > 0 ? 1.0f / scale : 0, p->q8, &p->sum);
	p->unit = unit_of(c);
	p->scale = scale * metric_factor(c);
	p->add = bounded(scale * scale * (float)sq * 4 / (float)c->width * p->unit);
}

bool probe_from_slot(const struct codes *c, uint32_t slot, struct probe *p)
{
	const float *v = codes_coarse(c) ? c->host.vector(c->host.ctx, slot) : NULL;

	if (!v)
		return c->quant != QUANT_SQ1 && probe_from_code(c, slot, p);
	probe_from_vec(c, v, p);
	return true;
}

/* A head as a question: its components are a little off the middle of what they stand for. */
static int32_t decode_head(const struct codes *c, uint32_t slot, int8_t *q8)
{
	const uint8_t *head = codes_head(c, slot);
	int32_t sum = 0;

	for (uint32_t i = 0; i < c->width; i += PIECE) {
		uint32_t h = VX_MIN(PIECE, c->width - i) / 2;
		int8_t *q = q8 + i;
		for (uint32_t j = 0; j < h; j++) {
			q[j] = (int8_t)(16 * (head[i / 2 + j] & 15) - 120);
			q[h + j] = (int8_t)(16 * (head[i / 2 + j] >> 4) - 120);
		}
		for (uint32_t j = 0; j < 2 * h; j++)
			sum += q[j];
	}
	return sum;
}

bool probe_from_code(const struct codes *c, uint32_t slot, struct probe *p)
{
	float scale = decode_scale(codes_aux(c, slot)->scale);

	p->full = true;
	p->exact = false;
	p->unreadable = NULL;
	if (c->quant == QUANT_SQ1)
		return exact_probe(c, slot, p);
	if (c->width == 0) {
		p->vf = c->host.vector(c->host.ctx, slot);
		p->scale = c->metric == VX_COSINE ? inverse_length(c, slot) : 1.0f;
		p->add = 0;
		return p->vf != NULL;
	}
	p->unit = unit_of(c);
	p->scale = scale * metric_factor(c);
	if (c->quant == QUANT_SQ4) {
		p->sum = decode_head(c, slot, p->q8);
		p->add = bounded(scale * scale * p->unit * codes_aux(c, slot)->head);
		return true;
	}
	p->sum = c->k->join_u4(codes_head(c, slot), codes_tail(c, slot), c->width, p->q8);
	p->add = bounded(scale * scale * p->unit * *codes_norm(c, slot));
	return true;
}

static void float_distances(
	const struct codes *c, const struct probe *p, const uint32_t *slots, uint32_t n, float *ret)
{
	for (uint32_t i = 0; i < n; i++) {
		const float *v = c->host.vector(c->host.ctx, slots[i]);
		float d;
		if (!v && p->unreadable)
			(*p->unreadable)++;
		if (!v)
			d = INFINITY;
		else if (c->metric == VX_L2)
			d = c->k->l2_f32(p->vf, v, c->dim);
		else if (c->metric == VX_COSINE)
			d = 1.0f - c->k->dot_f32(p->vf, v, c->dim) * p->scale *
					   inverse_length(c, slots[i]);
		else
			d = -c->k->dot_f32(p->vf, v, c->dim);
		ret[i] = d == d ? d : INFINITY;
	}
}

/* Twice the dot product of a vector's head.  Unsigned, because the difference fits although a term alone
 * might not. */
static float head_dot(int32_t dot, int32_t sum)
{
	return (float)(int32_t)(32u * (uint32_t)dot - 241u * (uint32_t)sum) / 2;
}

void codes_block(const struct codes *c, const uint32_t *slots, uint32_t n, struct code_block *ret)
{
	ret->n = n;
	for (uint32_t i = 0; i < n; i++) {
		struct code_aux a = *codes_aux(c, slots[i]);
		ret->rows[i] = codes_head(c, slots[i]);
		ret->scale[i] = decode_scale(a.scale);
		ret->norm[i] = a.head;
	}
}

void probe_block(const struct codes *c, const struct probe *p, const struct code_block *b,
	int32_t *dots, float *ret)
{
	const int32_t sum = p->sum;
	float dot[CODES_BLOCK];

	c->k->dot_u4i8_many(p->q8, c->width, (const uint8_t *const *)b->rows, b->n, dots);
	for (uint32_t i = 0; i < b->n; i++)
		dot[i] = head_dot(dots[i], sum);
	finish(p, b->scale, b->norm, dot, b->n, ret);
}

static void head_distances(const struct codes *c, const struct probe *p, const uint32_t *slots,
	uint32_t n, int32_t *dots, float *ret)
{
	struct code_block b;

	for (uint32_t i = 0; i < n; i++)
		__builtin_prefetch(codes_aux(c, slots[i]), 0, 3);
	for (uint32_t i = 0; i < n; i += b.n) {
		codes_block(c, slots + i, VX_MIN(CODES_BLOCK, n - i), &b);
		probe_block(c, p, &b, dots, ret + i);
	}
}

static void full_distances(const struct codes *c, const struct probe *p, const uint32_t *slots,
	uint32_t n, const uint8_t **rows, int32_t *dots, float *ret)
{
	float scale[BATCH], norm[BATCH], dot[BATCH];
	int32_t low[BATCH];

	for (uint32_t i = 0; i < n; i++) {
		rows[i] = codes_head(c, slots[i]);
		__builtin_prefetch(codes_aux(c, slots[i]), 0, 3);
		__builtin_prefetch(codes_norm(c, slots[i]), 0, 3);
	}
	c->k->dot_u4i8_many(p->q8, c->width, rows, n, dots);
	for (uint32_t i = 0; i < n; i++)
		rows[i] = codes_tail(c, slots[i]);
	c->k->dot_u4i8_many(p->q8, c->width, rows, n, low);
	for (uint32_t i = 0; i < n; i++) {
		scale[i] = decode_scale(codes_aux(c, slots[i])->scale);
		norm[i] = *codes_norm(c, slots[i]);
		dot[i] = (float)(int32_t)(16u * (uint32_t)dots[i] + (uint32_t)low[i] -
					  128u * (uint32_t)p->sum);
	}
	finish(p, scale, norm, dot, n, ret);
}

void probe_distances(const struct codes *c, const struct probe *p, const uint32_t *slots,
	uint32_t n, const uint8_t **rows, int32_t *dots, float *ret)
{
	if (c->width == 0) {
		float_distances(c, p, slots, n, ret);
		return;
	}
	if (p->exact) {
		exact_distances(c, p, slots, n, ret);
		return;
	}
	for (uint32_t i = 0; i < n; i += BATCH) {
		uint32_t m = VX_MIN(BATCH, n - i);
		if (c->quant == QUANT_SQ1)
			bits_distances(c, p, slots + i, m, rows, dots, ret + i);
		else if (p->full && c->tail > 0)
			full_distances(c, p, slots + i, m, rows, dots, ret + i);
		else
			head_distances(c, p, slots + i, m, dots, ret + i);
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
