/* simd_i.h - the tables, and what they share. */
#ifndef VECFS_SIMD_SIMD_I_H
#define VECFS_SIMD_SIMD_I_H

#include <math.h>
#include <string.h>

#include "simd/simd.h"

#define SIMD_INLINE inline __attribute__((always_inline))
/* Before a loop with a small constant count over registers. */
#if defined(__clang__)
#define SIMD_UNROLL _Pragma("unroll")
#else
#define SIMD_UNROLL _Pragma("GCC unroll 16")
#endif

extern const struct simd_kernels simd_scalar;
extern const struct simd_kernels simd_sse4;
extern const struct simd_kernels simd_avx2;
extern const struct simd_kernels simd_avx512_vnni;
extern const struct simd_kernels simd_avx512;
extern const struct simd_kernels simd_neon;

/* How many rows ahead the many-row kernels fetch, in bytes of code: enough lines in flight
 * to hide the memory behind short rows, few enough not to evict them behind long ones. */
#define SIMD_AHEAD_BYTES 1536u
#define SIMD_LINE        64u

static inline size_t simd_rows_ahead(size_t n)
{
	size_t ahead = SIMD_AHEAD_BYTES / (n ? n : 1);
	return ahead < 2 ? 2 : ahead > 12 ? 12 : ahead;
}

/* Kernels that take rows in groups: short rows eight at a time, each group's lines fetched in
 * one go; longer ones four at a time, and the same piece of the rows to come is fetched as the present
 * ones are walked, so that the misses are spread evenly.  Measured: the best of each kind on rows of
 * 128..1024 bytes, 5 to 30 per call. */
#define SIMD_SHORT_ROW 256u

static inline size_t simd_groups_ahead(size_t bytes, size_t group)
{
	size_t want = group == 8 ? 2 * SIMD_AHEAD_BYTES : SIMD_AHEAD_BYTES;
	size_t ahead = VX_ALIGN_UP(want / (bytes + 1) + 1, group);
	return ahead < 16 ? ahead : 16;
}

static inline void simd_prefetch_row(const void *row, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += SIMD_LINE)
		__builtin_prefetch((const char *)row + i, 0, 3);
}

/* The many-row form of a kernel that takes its rows one by one. */
#define SIMD_MANY(name, one, row_bytes, qtype)                                                     \
	static void name(                                                                          \
		const qtype *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret)  \
	{                                                                                          \
		size_t bytes = row_bytes, ahead = simd_rows_ahead(bytes);                          \
		for (size_t j = 0; j < ahead && j < count; j++)                                    \
			simd_prefetch_row(rows[j], bytes);                                         \
		for (size_t i = 0; i < count; i++) {                                               \
			if (i + ahead < count)                                                     \
				simd_prefetch_row(rows[i + ahead], bytes);                         \
			ret[i] = one(rows[i], q, n);                                               \
		}                                                                                  \
	}

/* And its block form. */
#define SIMD_BLOCK_U8I8(name, one)                                                                 \
	static void name(                                                                          \
		const struct simd_block *b, const int8_t *qs, const uint8_t *rows, int32_t *ret)   \
	{                                                                                          \
		for (size_t j = 0; j < b->nrows; j++) {                                            \
			for (size_t i = 0; i < b->nq; i++)                                         \
				ret[i * b->ret_stride + j] = one(                                  \
					rows + j * b->row_stride, qs + i * b->q_stride, b->n);     \
		}                                                                                  \
	}

/* What a table takes from its own file. */
#define SIMD_CODE_MEMBERS                                                                          \
	.dot_u8i8 = dot_u8i8, .dot_u8i8_many = dot_u8i8_many, .dot_u8i8_block = dot_u8i8_block,    \
	.dot_u4i8 = dot_u4i8, .dot_u4i8_many = dot_u4i8_many, .pack_signs = pack_signs,            \
	.pack_planes = pack_planes, .hamming = hamming, .hamming_many = hamming_many,              \
	.dot_u1u4 = dot_u1u4, .dot_u1u4_many = dot_u1u4_many

/* The parts that plain C states well enough for the compiler to vectorise are written once
 * here and compiled in each kernel file with that file's instruction set. */
static inline int32_t simd_c_join_u4(
	const uint8_t *head, const uint8_t *tail, size_t n, int8_t *ret)
{
	int32_t sum = 0;

	for (size_t i = 0; i < n; i += 128) {
		size_t h = (n - i < 128 ? n - i : 128) / 2;
		int8_t *r = ret + i;
		for (size_t j = 0; j < h; j++) {
			uint8_t a = head[i / 2 + j], b = tail[i / 2 + j];
			int8_t x = (int8_t)((a << 4 | (b & 15)) ^ 0x80);
			int8_t y = (int8_t)(((a & 0xf0) | b >> 4) ^ 0x80);
			r[j] = x;
			r[h + j] = y;
			sum += x + y;
		}
	}
	return sum;
}

static inline int64_t simd_c_quantise_f32(
	const float *v, size_t n, float inv, int8_t *ret, int32_t *ret_sum)
{
	int32_t sum = 0, sq = 0;

	for (size_t i = 0; i < n; i++) {
		float x = v[i] * inv;
		/* Comparisons that are false for NaN, so that it becomes 0 and no cast is
		 * undefined. */
		x = x > -127.0f ? x : (x <= -127.0f ? -127.0f : 0.0f);
		x = x < 127.0f ? x : 127.0f;
		/* Adding 1.5 * 2^23 leaves the rounded integer in the low bits: a rounding
		 * without a library call, to the nearest even. */
		float r = x + 12582912.0f;
		r -= 12582912.0f;
		int32_t c = (int32_t)r;
		ret[i] = (int8_t)c;
		sum += c;
		sq += c * c;
	}
	*ret_sum = sum;
	return sq;
}

/* The same for 0..15. */
static inline int64_t simd_c_quantise_u4_f32(
	const float *v, size_t n, float lo, float inv, uint8_t *ret, int32_t *ret_sum)
{
	int32_t sum = 0, sq = 0;

	for (size_t i = 0; i < n; i++) {
		float x = (v[i] - lo) * inv;
		x = x > 0.0f ? x : 0.0f;
		x = x < 15.0f ? x : 15.0f;
		float r = x + 12582912.0f;
		r -= 12582912.0f;
		int32_t c = (int32_t)r;
		ret[i] = (uint8_t)c;
		sum += c;
		sq += c * c;
	}
	*ret_sum = sum;
	return sq;
}

static inline void simd_c_pack_u4(const uint8_t *codes, size_t n, uint8_t *ret)
{
	size_t i = 0;

	for (; n - i > 64; i = n - i > 128 ? i + 128 : n, ret += 64) {
		size_t high = n - i > 128 ? 64 : n - i - 64;
		memcpy(ret, codes + i, 64);
		for (size_t j = 0; j < high; j++)
			ret[j] = (uint8_t)(ret[j] | codes[i + 64 + j] << 4);
	}
	if (i < n) {
		memset(ret, 0, 32);
		memcpy(ret, codes + i, n - i < 32 ? n - i : 32);
		for (size_t j = 32; i + j < n; j++)
			ret[j - 32] = (uint8_t)(ret[j - 32] | codes[i + j] << 4);
	}
}

/* Bits [from, n) of pack_signs and pack_planes, 'from' a multiple of 8, and the zeros. */
static inline void simd_c_pack_signs(
	const float *v, size_t from, size_t n, uint8_t *ret, size_t bytes)
{
	memset(ret + from / 8, 0, bytes - from / 8);
	for (size_t i = from; i < n; i++)
		ret[i / 8] = (uint8_t)(ret[i / 8] | (v[i] > 0.0f) << (i & 7));
}

static inline void simd_c_pack_planes(
	const uint8_t *codes, size_t from, size_t n, uint8_t *ret, size_t bytes)
{
	for (size_t p = 0; p < SIMD_PLANES; p++) {
		uint8_t *plane = ret + p * bytes;
		memset(plane + from / 8, 0, bytes - from / 8);
		for (size_t i = from; i < n; i++)
			plane[i / 8] = (uint8_t)(plane[i / 8] | (codes[i] >> p & 1) << (i & 7));
	}
}

/* Halves without instructions for them.  A half's exponent and mantissa, moved into a float's
 * place, make a float that is too small by 2^112 exactly, for subnormals too; only the largest
 * exponent needs to be put right. */
static inline void simd_c_f16_to_f32(const uint16_t *v, size_t n, float *ret)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t h = v[i], u = (h & 0x7fff) << 13;
		float f;
		memcpy(&f, &u, sizeof f);
		f *= 0x1p112f;
		memcpy(&u, &f, sizeof u);
		u |= (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
		u |= (h & 0x8000) << 16;
		memcpy(ret + i, &u, sizeof u);
	}
}

/* Below 2^-14 the sum with 1/2 has the ulp of a subnormal half, so that the addition rounds; above, an
 * addition to the bits does, and carries into the exponent as it should. */
static inline void simd_c_f32_to_f16(const float *v, size_t n, uint16_t *ret)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t u, small, normal;
		memcpy(&u, v + i, sizeof u);
		uint32_t sign = u >> 16 & 0x8000;
		u &= 0x7fffffff;
		float f;
		memcpy(&f, &u, sizeof f);
		f += 0.5f;
		memcpy(&small, &f, sizeof small);
		small -= 0x3f000000u;
		normal = (u - (112u << 23) + 0xfff + (u >> 13 & 1)) >> 13;
		uint32_t h = u < (113u << 23) ? small : normal;
		h = u >= (143u << 23) ? 0x7c00 : h;
		h = u > 0x7f800000u ? 0x7e00 : h;
		ret[i] = (uint16_t)(sign | h);
	}
}

static inline float simd_c_max_abs_f32(const float *v, size_t n)
{
	float m[16] = {0};
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		for (size_t j = 0; j < 16; j++) {
			float a = fabsf(v[i + j]);
			m[j] = a > m[j] ? a : m[j];
		}
	}
	for (; i < n; i++) {
		float a = fabsf(v[i]);
		m[0] = a > m[0] ? a : m[0];
	}
	for (size_t j = 1; j < 16; j++)
		m[0] = m[j] > m[0] ? m[j] : m[0];
	return m[0];
}

/* One stage for blocks of at least 16: the inner loops have no dependency. */
static inline void simd_c_butterfly(float *restrict a, float *restrict b, size_t h)
{
	for (size_t j = 0; j < h; j++) {
		float x = a[j], y = b[j];
		a[j] = x + y;
		b[j] = x - y;
	}
}

/* 1 / sqrt(n) of a power of two, without the wait for a root and a division. */
static inline float simd_c_hadamard_norm(size_t n)
{
	unsigned log = (unsigned)__builtin_ctzll((unsigned long long)n);
	uint32_t power = (127 - log / 2) << 23;
	float f;

	memcpy(&f, &power, sizeof f);
	return log & 1 ? f * 0.70710678f : f;
}

static inline void simd_c_hadamard_f32(float *v, const float *sign, size_t n)
{
	const float norm = simd_c_hadamard_norm(n);

	for (size_t i = 0; i < n; i++)
		v[i] *= sign[i] * norm;
	size_t h = 1;
	if (n >= 16) {
		/* The four shortest stages on 16 values at a time, kept in registers. */
		for (size_t i = 0; i < n; i += 16) {
			float t[16], u[16];
			for (size_t j = 0; j < 8; j++) {
				t[j] = v[i + j] + v[i + j + 8];
				t[j + 8] = v[i + j] - v[i + j + 8];
			}
			for (size_t g = 0; g < 16; g += 8) {
				for (size_t j = 0; j < 4; j++) {
					u[g + j] = t[g + j] + t[g + j + 4];
					u[g + j + 4] = t[g + j] - t[g + j + 4];
				}
			}
			for (size_t g = 0; g < 16; g += 4) {
				for (size_t j = 0; j < 2; j++) {
					t[g + j] = u[g + j] + u[g + j + 2];
					t[g + j + 2] = u[g + j] - u[g + j + 2];
				}
			}
			for (size_t g = 0; g < 16; g += 2) {
				v[i + g] = t[g] + t[g + 1];
				v[i + g + 1] = t[g] - t[g + 1];
			}
		}
		h = 16;
	}
	for (; h < n; h *= 2) {
		for (size_t i = 0; i < n; i += 2 * h)
			simd_c_butterfly(v + i, v + i + h, h);
	}
}

#endif
