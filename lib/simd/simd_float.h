/* simd_float.h - the float kernels, written once in the compilers' vector types.
 *
 * A kernel file defines SIMD_BYTES, the width of its registers, and includes this: the
 * functions are compiled there with that file's instruction set.  Where an instruction set has what
 * C cannot say (masked loads, conversion of halves) there is an #if; all else
 * is arithmetic on 'vf', a register of VL floats.
 *
 * One function, tile(), does all sums but the simplest: Q questions against R rows, with the
 * Q x R sums in registers, so that each load is used several times.  With Q = 1 it is the
 * many-row kernel (and fetches the same piece of the rows to come as it walks the present
 * ones, so that misses are spread evenly); with Q = TILE_Q it is the heart of a matrix product, of
 * which block() is the loop over the caches.  The shape, the operation and the type of the rows are
 * constants after inlining.
 *
 * Distances are summed as squares of differences, not as norms minus a product: the
 * subtraction costs little where FMA units are the limit and nothing is cancelled.
 */
#ifndef VECFS_SIMD_SIMD_FLOAT_H
#define VECFS_SIMD_SIMD_FLOAT_H

#include <string.h>

#include "simd/simd_i.h"

#ifndef SIMD_BYTES
#define SIMD_BYTES 16
#endif

#if defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define VL (SIMD_BYTES / sizeof(float))

typedef float vf __attribute__((vector_size(SIMD_BYTES)));
typedef float vf_unaligned __attribute__((vector_size(SIMD_BYTES), aligned(4), may_alias));
typedef float vf4 __attribute__((vector_size(16)));
typedef float vf4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

enum elem { ELEM_F32, ELEM_F16 };
enum op { OP_DOT, OP_L2 };

/* The largest tile whose sums, questions, row and difference fit into the registers: 32 of
 * them, or 16. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_Q 6u
#else
#define TILE_Q 2u
#endif
#define TILE_R 4u

/* --- loads ------------------------------------------------------------------ */
static SIMD_INLINE vf vf_load(const float *p)
{
	return *(const vf_unaligned *)p;
}

static SIMD_INLINE void vf_store(float *p, vf v)
{
	*(vf_unaligned *)p = v;
}

/* The first k < VL floats at p, and zeros. */
static SIMD_INLINE vf vf_load_part(const float *p, size_t k)
{
#if defined(__AVX512F__)
	return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << k) - 1), p);
#elif defined(__AVX2__)
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return (vf)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)k), lane));
#else
	vf v = {0};

	for (size_t i = 0; i < VL - 1; i++) {
		if (i < k)
			v[i] = p[i];
	}
	return v;
#endif
}

static SIMD_INLINE vf vf_load_f16(const uint16_t *p)
{
#if defined(__AVX512F__)
	return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
#elif defined(__AVX2__)
	return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
#elif defined(__aarch64__)
	return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
	/* As simd_c_f16_to_f32(), four at a time. */
	typedef uint32_t vu __attribute__((vector_size(SIMD_BYTES)));
#if defined(__SSE4_1__)
	vu h = (vu)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
#else
	typedef uint16_t vh __attribute__((vector_size(SIMD_BYTES / 2)));
	vh t;
	memcpy(&t, p, sizeof t);
	vu h = __builtin_convertvector(t, vu);
#endif
	vu u = (vu)((vf)((h & 0x7fff) << 13) * 0x1p112f);
	vu special = (vu)((h & 0x7c00) == 0x7c00);
	return (vf)(u | (special & 0x7f800000u) | (h & 0x8000) << 16);
#endif
}

static SIMD_INLINE vf vf_load_f16_part(const uint16_t *p, size_t k)
{
	uint16_t t[VL] = {0};

	for (size_t i = 0; i < VL - 1; i++) {
		if (i < k)
			t[i] = p[i];
	}
	return vf_load_f16(t);
}

static SIMD_INLINE vf row_load(enum elem e, const void *row, size_t i)
{
	return e == ELEM_F16 ? vf_load_f16((const uint16_t *)row + i)
			     : vf_load((const float *)row + i);
}

static SIMD_INLINE vf row_load_part(enum elem e, const void *row, size_t i, size_t k)
{
	return e == ELEM_F16 ? vf_load_f16_part((const uint16_t *)row + i, k)
			     : vf_load_part((const float *)row + i, k);
}

static SIMD_INLINE size_t elem_bytes(enum elem e)
{
	return e == ELEM_F16 ? sizeof(uint16_t) : sizeof(float);
}

/* --- sums ------------------------------------------------------------------- */
static SIMD_INLINE vf step(enum op op, vf s, vf q, vf r)
{
	if (op == OP_L2) {
		vf d = q - r;
		return s + d * d;
	}
	return s + q * r;
}

/* The sums of four registers in the lanes of one. */
static SIMD_INLINE vf4 reduce4(vf a, vf b, vf c, vf d)
{
#if SIMD_BYTES == 64
	/* Halves, then quarters, of two registers side by side: 128-bit lane i is the i-th. */
	__m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4((__m512)a, (__m512)b, 0x44),
		_mm512_shuffle_f32x4((__m512)a, (__m512)b, 0xee));
	__m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4((__m512)c, (__m512)d, 0x44),
		_mm512_shuffle_f32x4((__m512)c, (__m512)d, 0xee));
	__m512 s = _mm512_add_ps(
		_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));

	s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
	s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
	const __m512i pick = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
	return (vf4)_mm512_castps512_ps128(_mm512_permutexvar_ps(pick, s));
#else
#if SIMD_BYTES == 32
	vf4 w = __builtin_shufflevector(a, a, 0, 1, 2, 3) +
		__builtin_shufflevector(a, a, 4, 5, 6, 7);
	vf4 x = __builtin_shufflevector(b, b, 0, 1, 2, 3) +
		__builtin_shufflevector(b, b, 4, 5, 6, 7);
	vf4 y = __builtin_shufflevector(c, c, 0, 1, 2, 3) +
		__builtin_shufflevector(c, c, 4, 5, 6, 7);
	vf4 z = __builtin_shufflevector(d, d, 0, 1, 2, 3) +
		__builtin_shufflevector(d, d, 4, 5, 6, 7);
#else
	vf4 w = a, x = b, y = c, z = d;
#endif
	vf4 wx = __builtin_shufflevector(w, x, 0, 4, 1, 5) +
		 __builtin_shufflevector(w, x, 2, 6, 3, 7);
	vf4 yz = __builtin_shufflevector(y, z, 0, 4, 1, 5) +
		 __builtin_shufflevector(y, z, 2, 6, 3, 7);
	return __builtin_shufflevector(wx, yz, 0, 1, 4, 5) +
	       __builtin_shufflevector(wx, yz, 2, 3, 6, 7);
#endif
}

static SIMD_INLINE float vf_sum(vf v)
{
#if SIMD_BYTES == 64
	return _mm512_reduce_add_ps((__m512)v);
#else
#if SIMD_BYTES == 32
	vf4 w = __builtin_shufflevector(v, v, 0, 1, 2, 3) +
		__builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
	vf4 w = v;
#endif
	w += __builtin_shufflevector(w, w, 2, 3, 0, 1);
	return w[0] + w[1];
#endif
}

static SIMD_INLINE float one(enum elem e, enum op op, const float *q, const void *row, size_t n)
{
	vf s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
	size_t i = 0;

	for (; i + 4 * VL <= n; i += 4 * VL) {
		s0 = step(op, s0, vf_load(q + i), row_load(e, row, i));
		s1 = step(op, s1, vf_load(q + i + VL), row_load(e, row, i + VL));
		s2 = step(op, s2, vf_load(q + i + 2 * VL), row_load(e, row, i + 2 * VL));
		s3 = step(op, s3, vf_load(q + i + 3 * VL), row_load(e, row, i + 3 * VL));
	}
	for (; i + VL <= n; i += VL)
		s0 = step(op, s0, vf_load(q + i), row_load(e, row, i));
	if (i < n)
		s1 = step(op, s1, vf_load_part(q + i, n - i), row_load_part(e, row, i, n - i));
	return vf_sum((s0 + s1) + (s2 + s3));
}

/* Q <= TILE_Q questions (q + i * q_stride) against R rows (1 or a multiple of 4, at most
 * 8); 'later' are rows to fetch on the way.  The first 'nret' of the R values of question i go to
 * ret + i * ret_stride. */
static SIMD_INLINE void tile(enum elem e, enum op op, const size_t Q, const size_t R,
	const float *q, size_t q_stride, const void *const *rows, const char *const *later,
	size_t n, float *ret, size_t ret_stride, size_t nret)
{
	vf s[TILE_Q][8];
	size_t k = 0;

	SIMD_UNROLL
	for (size_t i = 0; i < Q; i++) {
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++)
			s[i][j] = (vf){0};
	}
	for (; k + VL <= n; k += VL) {
		vf x[TILE_Q];
		SIMD_UNROLL
		for (size_t i = 0; i < Q; i++)
			x[i] = vf_load(q + i * q_stride + k);
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++) {
			vf r = row_load(e, rows[j], k);
			if (later)
				__builtin_prefetch(later[j] + k * elem_bytes(e), 0, 3);
			SIMD_UNROLL
			for (size_t i = 0; i < Q; i++)
				s[i][j] = step(op, s[i][j], x[i], r);
		}
	}
	if (k < n) {
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++) {
			vf r = row_load_part(e, rows[j], k, n - k);
			SIMD_UNROLL
			for (size_t i = 0; i < Q; i++)
				s[i][j] = step(
					op, s[i][j], vf_load_part(q + i * q_stride + k, n - k), r);
		}
	}
	SIMD_UNROLL
	for (size_t i = 0; i < Q; i++) {
		SIMD_UNROLL
		for (size_t j = 0; j < R; j += 4) {
			vf4 t = reduce4(s[i][j], s[i][j + 1], s[i][j + 2], s[i][j + 3]);
			if (nret >= j + 4)
				*(vf4_unaligned *)(ret + i * ret_stride + j) = t;
			else if (nret > j)
				memcpy(ret + i * ret_stride + j, &t, (nret - j) * sizeof *ret);
		}
	}
}

/* --- one question, rows anywhere ------------------------------------------------ */
#define MANY_R 8u

/* All whole groups of R rows; returns how many rows that were. */
static SIMD_INLINE size_t many_groups(enum elem e, enum op op, const size_t R, const float *q,
	size_t n, const void *const *rows, size_t count, float *ret)
{
	size_t bytes = n * elem_bytes(e), ahead = simd_groups_ahead(bytes, R), i = 0;
	const char *later[4];

	for (size_t j = 0; j < ahead && j < count; j++)
		simd_prefetch_row(rows[j], bytes);
	for (; i + ahead < count && i + R <= count; i += R) {
		if (R == 4) {
			for (size_t j = 0; j < 4; j++)
				later[j] = rows[VX_MIN(i + ahead + j, count - 1)];
			tile(e, op, 1, R, q, 0, rows + i, later, n, ret + i, 0, R);
		} else {
			for (size_t j = i + ahead; j < i + ahead + R && j < count; j++)
				simd_prefetch_row(rows[j], bytes);
			tile(e, op, 1, R, q, 0, rows + i, NULL, n, ret + i, 0, R);
		}
	}
	for (; i + R <= count; i += R)
		tile(e, op, 1, R, q, 0, rows + i, NULL, n, ret + i, 0, R);
	return i;
}

static SIMD_INLINE void many(enum elem e, enum op op, const float *q, size_t n,
	const void *const *rows, size_t count, float *ret)
{
	const void *group[MANY_R];
	size_t i = n * elem_bytes(e) <= SIMD_SHORT_ROW
			   ? many_groups(e, op, 8, q, n, rows, count, ret)
			   : many_groups(e, op, 4, q, n, rows, count, ret);

	if (i == count)
		return;
	/* Past the end: the last row again, whose lines are here anyway. */
	for (size_t j = 0; j < MANY_R; j++)
		group[j] = rows[VX_MIN(i + j, count - 1)];
	if (count - i > 4)
		tile(e, op, 1, 8, q, 0, group, NULL, n, ret + i, 0, count - i);
	else
		tile(e, op, 1, 4, q, 0, group, NULL, n, ret + i, 0, count - i);
}

/* --- many questions, consecutive rows --------------------------------------------- */
/* What stays in the second-level cache while it is gone over again. */
#define BLOCK_ROWS_BYTES  (128u << 10)
#define BLOCK_QUERY_BYTES (256u << 10)

static SIMD_INLINE void block_tile(enum elem e, enum op op, size_t Q, const float *q,
	size_t q_stride, const void *const *rows, size_t n, float *ret, size_t ret_stride,
	size_t nret)
{
	switch (Q) {
#if TILE_Q > 2
	case 6:
		tile(e, op, 6, 4, q, q_stride, rows, NULL, n, ret, ret_stride, nret);
		break;
	case 5:
		tile(e, op, 5, 4, q, q_stride, rows, NULL, n, ret, ret_stride, nret);
		break;
	case 4:
		tile(e, op, 4, 4, q, q_stride, rows, NULL, n, ret, ret_stride, nret);
		break;
	case 3:
		tile(e, op, 3, 4, q, q_stride, rows, NULL, n, ret, ret_stride, nret);
		break;
#endif
	case 2:
		tile(e, op, 2, 4, q, q_stride, rows, NULL, n, ret, ret_stride, nret);
		break;
	default:
		tile(e, op, 1, 4, q, q_stride, rows, NULL, n, ret, ret_stride, nret);
	}
}

static SIMD_INLINE const void *row_at(
	enum elem e, const struct simd_block *b, const void *rows, size_t j)
{
	return (const char *)rows + j * b->row_stride * elem_bytes(e);
}

/* One question: a tile of eight rows keeps the additions from waiting for each other. */
static SIMD_INLINE void block_single(enum elem e, enum op op, const struct simd_block *b,
	const float *q, const void *rows, float *ret)
{
	const void *r[MANY_R];

	for (size_t j = 0; j < b->nrows; j += MANY_R) {
		for (size_t t = 0; t < MANY_R; t++)
			r[t] = row_at(e, b, rows, VX_MIN(j + t, b->nrows - 1));
		tile(e, op, 1, MANY_R, q, 0, r, NULL, b->n, ret + j, 0, b->nrows - j);
	}
}

static SIMD_INLINE void block(enum elem e, enum op op, const struct simd_block *b, const float *qs,
	const void *rows, float *ret)
{
	size_t q_step = VX_ALIGN_UP(BLOCK_QUERY_BYTES / (b->n * sizeof(float) + 1) + 1, TILE_Q);
	size_t r_step = VX_ALIGN_UP(BLOCK_ROWS_BYTES / (b->n * elem_bytes(e) + 1) + 1, TILE_R);
	const void *r[TILE_R];

	if (b->nq == 1) {
		block_single(e, op, b, qs, rows, ret);
		return;
	}
	for (size_t q0 = 0; q0 < b->nq; q0 += q_step) {
		size_t q1 = VX_MIN(b->nq, q0 + q_step);
		for (size_t r0 = 0; r0 < b->nrows; r0 += r_step) {
			size_t r1 = VX_MIN(b->nrows, r0 + r_step);
			for (size_t i = q0; i < q1; i += TILE_Q) {
				for (size_t j = r0; j < r1; j += TILE_R) {
					for (size_t t = 0; t < TILE_R; t++)
						r[t] = row_at(e, b, rows, VX_MIN(j + t, r1 - 1));
					block_tile(e, op, VX_MIN(TILE_Q, q1 - i),
						qs + i * b->q_stride, b->q_stride, r, b->n,
						ret + i * b->ret_stride + j, b->ret_stride, r1 - j);
				}
			}
		}
	}
}

/* --- the table's functions ------------------------------------------------------------ */
static float l2_f32(const float *a, const float *b, size_t n)
{
	return one(ELEM_F32, OP_L2, a, b, n);
}

static float dot_f32(const float *a, const float *b, size_t n)
{
	return one(ELEM_F32, OP_DOT, a, b, n);
}

static float dot_norm_f32(const float *a, const float *b, size_t n, float *ret_bb)
{
	vf s0 = {0}, s1 = s0, t0 = s0, t1 = s0;
	size_t i = 0;

	for (; i + 2 * VL <= n; i += 2 * VL) {
		vf b0 = vf_load(b + i), b1 = vf_load(b + i + VL);
		s0 += vf_load(a + i) * b0;
		s1 += vf_load(a + i + VL) * b1;
		t0 += b0 * b0;
		t1 += b1 * b1;
	}
	if (i + VL <= n) {
		vf b0 = vf_load(b + i);
		s0 += vf_load(a + i) * b0;
		t0 += b0 * b0;
		i += VL;
	}
	if (i < n) {
		vf b0 = vf_load_part(b + i, n - i);
		s1 += vf_load_part(a + i, n - i) * b0;
		t1 += b0 * b0;
	}
	*ret_bb = vf_sum(t0 + t1);
	return vf_sum(s0 + s1);
}

static void l2_f32_many(
	const float *q, size_t n, const float *const *rows, size_t count, float *ret)
{
	many(ELEM_F32, OP_L2, q, n, (const void *const *)rows, count, ret);
}

static void dot_f32_many(
	const float *q, size_t n, const float *const *rows, size_t count, float *ret)
{
	many(ELEM_F32, OP_DOT, q, n, (const void *const *)rows, count, ret);
}

static void l2_f32_block(const struct simd_block *b, const float *qs, const float *rows, float *ret)
{
	block(ELEM_F32, OP_L2, b, qs, rows, ret);
}

static void dot_f32_block(
	const struct simd_block *b, const float *qs, const float *rows, float *ret)
{
	block(ELEM_F32, OP_DOT, b, qs, rows, ret);
}

static float l2_f16(const float *q, const uint16_t *row, size_t n)
{
	return one(ELEM_F16, OP_L2, q, row, n);
}

static float dot_f16(const float *q, const uint16_t *row, size_t n)
{
	return one(ELEM_F16, OP_DOT, q, row, n);
}

static void l2_f16_many(
	const float *q, size_t n, const uint16_t *const *rows, size_t count, float *ret)
{
	many(ELEM_F16, OP_L2, q, n, (const void *const *)rows, count, ret);
}

static void dot_f16_many(
	const float *q, size_t n, const uint16_t *const *rows, size_t count, float *ret)
{
	many(ELEM_F16, OP_DOT, q, n, (const void *const *)rows, count, ret);
}

static void l2_f16_block(
	const struct simd_block *b, const float *qs, const uint16_t *rows, float *ret)
{
	block(ELEM_F16, OP_L2, b, qs, rows, ret);
}

static void dot_f16_block(
	const struct simd_block *b, const float *qs, const uint16_t *rows, float *ret)
{
	block(ELEM_F16, OP_DOT, b, qs, rows, ret);
}

static void f16_to_f32(const uint16_t *v, size_t n, float *ret)
{
	size_t i = 0;

	for (; i + VL <= n; i += VL)
		vf_store(ret + i, vf_load_f16(v + i));
	simd_c_f16_to_f32(v + i, n - i, ret + i);
}

static void f32_to_f16(const float *v, size_t n, uint16_t *ret)
{
	size_t i = 0;

#if defined(__AVX512F__)
	for (; i + VL <= n; i += VL)
		_mm256_storeu_si256((__m256i *)(void *)(ret + i),
			_mm512_cvtps_ph((__m512)vf_load(v + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
	for (; i + VL <= n; i += VL)
		_mm_storeu_si128((__m128i *)(void *)(ret + i),
			_mm256_cvtps_ph((__m256)vf_load(v + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
	for (; i + VL <= n; i += VL)
		vst1_u16(ret + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(v + i))));
#endif
	simd_c_f32_to_f16(v + i, n - i, ret + i);
}

/* --- the fast Hadamard transform ---------------------------------------------------------
 * A stage of length h replaces x_j, x_{j+h} by their sum and difference.  Within
 * a register that is one permutation and one multiply-add with +-1; between registers an
 * addition and a subtraction.  The first pass runs all stages that fit into 8 registers,
 * each later one two stages, so that 512 floats are read and written twice and not nine times. */
#if SIMD_BYTES == 64
#define VF_XOR(v, b)                                                                               \
	__builtin_shufflevector(v, v, 0 ^ (b), 1 ^ (b), 2 ^ (b), 3 ^ (b), 4 ^ (b), 5 ^ (b),        \
		6 ^ (b), 7 ^ (b), 8 ^ (b), 9 ^ (b), 10 ^ (b), 11 ^ (b), 12 ^ (b), 13 ^ (b),        \
		14 ^ (b), 15 ^ (b))
#elif SIMD_BYTES == 32
#define VF_XOR(v, b)                                                                               \
	__builtin_shufflevector(                                                                   \
		v, v, 0 ^ (b), 1 ^ (b), 2 ^ (b), 3 ^ (b), 4 ^ (b), 5 ^ (b), 6 ^ (b), 7 ^ (b))
#else
#define VF_XOR(v, b) __builtin_shufflevector(v, v, 0 ^ (b), 1 ^ (b), 2 ^ (b), 3 ^ (b))
#endif

static SIMD_INLINE vf plus_minus(size_t h)
{
	vf s = {0};

	for (size_t i = 0; i < VL; i++)
		s[i] = i & h ? -1.0f : 1.0f;
	return s;
}

/* 'regs' registers at v: 1, 2, 4 or 8. */
static SIMD_INLINE void hadamard_short(float *v, const float *sign, float norm, const size_t regs)
{
	vf x[8];

	SIMD_UNROLL
	for (size_t i = 0; i < regs; i++) {
		vf t = vf_load(v + i * VL) * (vf_load(sign + i * VL) * norm);
		t = VF_XOR(t, 1) + t * plus_minus(1);
		t = VF_XOR(t, 2) + t * plus_minus(2);
#if SIMD_BYTES > 16
		t = VF_XOR(t, 4) + t * plus_minus(4);
#endif
#if SIMD_BYTES > 32
		t = VF_XOR(t, 8) + t * plus_minus(8);
#endif
		x[i] = t;
	}
	SIMD_UNROLL
	for (size_t h = 1; h < regs; h *= 2) {
		SIMD_UNROLL
		for (size_t i = 0; i < regs; i++) {
			if (i & h)
				continue;
			vf a = x[i], b = x[i + h];
			x[i] = a + b;
			x[i + h] = a - b;
		}
	}
	SIMD_UNROLL
	for (size_t i = 0; i < regs; i++)
		vf_store(v + i * VL, x[i]);
}

/* The stages h and 2h on 4h floats. */
static SIMD_INLINE void hadamard_radix4(float *v, size_t h)
{
	for (size_t j = 0; j < h; j += VL) {
		vf a = vf_load(v + j), b = vf_load(v + j + h);
		vf c = vf_load(v + j + 2 * h), d = vf_load(v + j + 3 * h);
		vf ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
		vf_store(v + j, ab + cd);
		vf_store(v + j + h, a_b + c_d);
		vf_store(v + j + 2 * h, ab - cd);
		vf_store(v + j + 3 * h, a_b - c_d);
	}
}

static void hadamard_f32(float *v, const float *sign, size_t n)
{
	const float norm = simd_c_hadamard_norm(n);
	size_t h = 8 * VL;

	if (n < VL) {
		simd_c_hadamard_f32(v, sign, n);
		return;
	}
	if (n < h) {
		if (n == VL)
			hadamard_short(v, sign, norm, 1);
		else if (n == 2 * VL)
			hadamard_short(v, sign, norm, 2);
		else
			hadamard_short(v, sign, norm, 4);
		return;
	}
	for (size_t i = 0; i < n; i += h)
		hadamard_short(v + i, sign + i, norm, 8);
	for (; 4 * h <= n; h *= 4) {
		for (size_t i = 0; i < n; i += 4 * h)
			hadamard_radix4(v + i, h);
	}
	if (h < n) {
		for (size_t j = 0; j < h; j += VL) {
			vf a = vf_load(v + j), b = vf_load(v + j + h);
			vf_store(v + j, a + b);
			vf_store(v + j + h, a - b);
		}
	}
}

/* --- quantising --------------------------------------------------------------------------- */
typedef int32_t vi __attribute__((vector_size(SIMD_BYTES)));
typedef int8_t vbytes __attribute__((vector_size(SIMD_BYTES / 4)));

static SIMD_INLINE vi vi_splat(int32_t x)
{
	return x - (vi){0};
}

static SIMD_INLINE vi vi_max(vi a, vi b)
{
#if SIMD_BYTES == 64
	return (vi)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif SIMD_BYTES == 32
	return (vi)_mm256_max_epi32((__m256i)a, (__m256i)b);
#elif defined(__SSE4_1__)
	return (vi)_mm_max_epi32((__m128i)a, (__m128i)b);
#else
	vi m = a > b;
	return (a & m) | (b & ~m);
#endif
}

/* The same of all lanes; the sums of codes fit. */
static SIMD_INLINE int32_t vi_sum(vi v)
{
#if SIMD_BYTES == 64
	return _mm512_reduce_add_epi32((__m512i)v);
#else
	int32_t s = 0;
	for (size_t i = 0; i < VL; i++)
		s += v[i];
	return s;
#endif
}

static SIMD_INLINE int32_t vi_max_lane(vi v)
{
#if SIMD_BYTES == 64
	return _mm512_reduce_max_epi32((__m512i)v);
#else
	int32_t m = v[0];
	for (size_t i = 1; i < VL; i++)
		m = VX_MAX(m, v[i]);
	return m;
#endif
}

/* x clamped to lo..hi, 0 for NaN. */
static SIMD_INLINE vf clamp(vf x, float lo, float hi)
{
#if SIMD_BYTES == 64
	__m512 v = (__m512)x;
	v = _mm512_maskz_max_ps(_mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), v, _mm512_set1_ps(lo));
	return (vf)_mm512_min_ps(v, _mm512_set1_ps(hi));
#elif SIMD_BYTES == 32
	__m256 v = _mm256_and_ps((__m256)x, _mm256_cmp_ps((__m256)x, (__m256)x, _CMP_ORD_Q));
	v = _mm256_max_ps(v, _mm256_set1_ps(lo));
	return (vf)_mm256_min_ps(v, _mm256_set1_ps(hi));
#else
	vi low = x < lo;
	vi high = x > hi;
	vi number = ((vi)x & 0x7fffffff) <= 0x7f800000;
	return (vf)(((vi)x & number & ~low & ~high) | ((vi)(lo - (vf){0}) & low) |
		    ((vi)(hi - (vf){0}) & high));
#endif
}

/* The nearest integer: an addition leaves it in the low bits. */
static SIMD_INLINE vi to_code(vf x, float lo, float hi)
{
	return (vi)(clamp(x, lo, hi) + 12582912.0f) - vi_splat(0x4b400000); /* 1.5 * 2^23 */
}

static SIMD_INLINE void store_codes(void *p, vi c)
{
#if SIMD_BYTES == 64
	_mm_storeu_si128(p, _mm512_cvtepi32_epi8((__m512i)c));
#elif SIMD_BYTES == 32
	__m128i t = _mm_packs_epi32(
		_mm256_castsi256_si128((__m256i)c), _mm256_extracti128_si256((__m256i)c, 1));
	_mm_storel_epi64(p, _mm_packs_epi16(t, t));
#elif defined(__SSE4_1__)
	__m128i t = _mm_packs_epi32((__m128i)c, (__m128i)c);
	int32_t bytes = _mm_cvtsi128_si32(_mm_packs_epi16(t, t));
	memcpy(p, &bytes, sizeof bytes);
#else
	vbytes t = __builtin_convertvector(c, vbytes);
	memcpy(p, &t, sizeof t);
#endif
}

static int64_t quantise_f32(const float *v, size_t n, float inv, int8_t *ret, int32_t *ret_sum)
{
	vi sum = {0}, sq = {0};
	int32_t rest;
	size_t i = 0;

	for (; i + VL <= n; i += VL) {
		vi c = to_code(vf_load(v + i) * inv, -127.0f, 127.0f);
		store_codes(ret + i, c);
		sum += c;
		sq += c * c;
	}
	int64_t s = simd_c_quantise_f32(v + i, n - i, inv, ret + i, &rest) + vi_sum(sq);
	*ret_sum = rest + vi_sum(sum);
	return s;
}

static int64_t quantise_u4_f32(
	const float *v, size_t n, float lo, float inv, uint8_t *ret, int32_t *ret_sum)
{
	vi sum = {0}, sq = {0};
	int32_t rest;
	size_t i = 0;

	for (; i + VL <= n; i += VL) {
		vi c = to_code((vf_load(v + i) - lo) * inv, 0.0f, 15.0f);
		store_codes(ret + i, c);
		sum += c;
		sq += c * c;
	}
	int64_t s = simd_c_quantise_u4_f32(v + i, n - i, lo, inv, ret + i, &rest) + vi_sum(sq);
	*ret_sum = rest + vi_sum(sum);
	return s;
}

/* Magnitudes are ordered as their bits are. */
static float max_abs_f32(const float *v, size_t n)
{
	const vi magnitude = vi_splat(0x7fffffff);
	vi m0 = {0}, m1 = m0;
	size_t i = 0;

	for (; i + 2 * VL <= n; i += 2 * VL) {
		m0 = vi_max(m0, (vi)vf_load(v + i) & magnitude);
		m1 = vi_max(m1, (vi)vf_load(v + i + VL) & magnitude);
	}
	if (i + VL <= n) {
		m0 = vi_max(m0, (vi)vf_load(v + i) & magnitude);
		i += VL;
	}
	if (i < n)
		m1 = vi_max(m1, (vi)vf_load_part(v + i, n - i) & magnitude);
	int32_t bits = vi_max_lane(vi_max(m0, m1));
	float max;
	memcpy(&max, &bits, sizeof max);
	return max;
}

/* --- codes, as plain C that this file's instruction set vectorises --------------------------- */
static int32_t join_u4(const uint8_t *head, const uint8_t *tail, size_t n, int8_t *ret)
{
	return simd_c_join_u4(head, tail, n, ret);
}

static void pack_u4(const uint8_t *codes, size_t n, uint8_t *ret)
{
	simd_c_pack_u4(codes, n, ret);
}

/* What a table takes from this file. */
#define SIMD_FLOAT_MEMBERS                                                                         \
	.l2_f32 = l2_f32, .dot_f32 = dot_f32, .dot_norm_f32 = dot_norm_f32,                        \
	.l2_f32_many = l2_f32_many, .dot_f32_many = dot_f32_many, .l2_f32_block = l2_f32_block,    \
	.dot_f32_block = dot_f32_block, .f32_to_f16 = f32_to_f16, .f16_to_f32 = f16_to_f32,        \
	.l2_f16 = l2_f16, .dot_f16 = dot_f16, .l2_f16_many = l2_f16_many,                          \
	.dot_f16_many = dot_f16_many, .l2_f16_block = l2_f16_block,                                \
	.dot_f16_block = dot_f16_block, .join_u4 = join_u4, .quantise_f32 = quantise_f32,          \
	.quantise_u4_f32 = quantise_u4_f32, .max_abs_f32 = max_abs_f32, .pack_u4 = pack_u4,        \
	.hadamard_f32 = hadamard_f32

#endif
