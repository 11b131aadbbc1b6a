/* simd_i.h - the tables, and what they share. */
#ifndef VECFS_SIMD_SIMD_I_H
#define VECFS_SIMD_SIMD_I_H

#include <math.h>

#include "simd/simd.h"

extern const struct simd_kernels simd_scalar;
extern const struct simd_kernels simd_sse4;
extern const struct simd_kernels simd_avx2;
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

static inline void simd_prefetch_row(const uint8_t *row, size_t n)
{
	for (size_t i = 0; i < n; i += SIMD_LINE)
		__builtin_prefetch(row + i, 0, 3);
}

/* The parts that plain C states well enough for the compiler to vectorise are written once
 * here and compiled in each kernel file with that file's instruction set. */
static inline int32_t simd_c_flip_u8(const uint8_t *row, int8_t *ret, size_t n)
{
	int32_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		ret[i] = (int8_t)(row[i] ^ 0x80u);
		sum += row[i];
	}
	return sum - 128 * (int32_t)n;
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

static inline void simd_c_hadamard_f32(float *v, const float *sign, size_t n)
{
	const float norm = 1.0f / sqrtf((float)n);

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
