/* kernels_sse4.c - 128-bit kernels for CPUs with SSE4.1 and no more. */
#include "simd/simd_i.h"

#if defined(__x86_64__)
#include <smmintrin.h>

static inline float reduce_ps(__m128 s)
{
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	s = _mm_add_ss(s, _mm_shuffle_ps(s, s, 1));
	return _mm_cvtss_f32(s);
}

static inline int32_t reduce_epi32(__m128i s)
{
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
	return _mm_cvtsi128_si32(s);
}

static float l2_f32(const float *a, const float *b, size_t n)
{
	__m128 s0 = _mm_setzero_ps(), s1 = s0;
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		__m128 d0 = _mm_sub_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i));
		__m128 d1 = _mm_sub_ps(_mm_loadu_ps(a + i + 4), _mm_loadu_ps(b + i + 4));
		s0 = _mm_add_ps(s0, _mm_mul_ps(d0, d0));
		s1 = _mm_add_ps(s1, _mm_mul_ps(d1, d1));
	}
	float s = reduce_ps(_mm_add_ps(s0, s1));
	for (; i < n; i++)
		s += (a[i] - b[i]) * (a[i] - b[i]);
	return s;
}

static float dot_f32(const float *a, const float *b, size_t n)
{
	__m128 s0 = _mm_setzero_ps(), s1 = s0;
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		s0 = _mm_add_ps(s0, _mm_mul_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i)));
		s1 = _mm_add_ps(s1, _mm_mul_ps(_mm_loadu_ps(a + i + 4), _mm_loadu_ps(b + i + 4)));
	}
	float s = reduce_ps(_mm_add_ps(s0, s1));
	for (; i < n; i++)
		s += a[i] * b[i];
	return s;
}

static float dot_norm_f32(const float *a, const float *b, size_t n, float *ret_bb)
{
	__m128 s0 = _mm_setzero_ps(), t0 = s0;
	size_t i = 0;

	for (; i + 4 <= n; i += 4) {
		__m128 x = _mm_loadu_ps(b + i);
		s0 = _mm_add_ps(s0, _mm_mul_ps(_mm_loadu_ps(a + i), x));
		t0 = _mm_add_ps(t0, _mm_mul_ps(x, x));
	}
	float s = reduce_ps(s0), bb = reduce_ps(t0);
	for (; i < n; i++) {
		s += a[i] * b[i];
		bb += b[i] * b[i];
	}
	*ret_bb = bb;
	return s;
}

static int32_t dot_u8i8(const uint8_t *row, const int8_t *q, size_t n)
{
	__m128i s0 = _mm_setzero_si128(), s1 = s0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m128i r = _mm_loadu_si128((const __m128i *)(row + i));
		__m128i x = _mm_loadu_si128((const __m128i *)(q + i));
		s0 = _mm_add_epi32(s0, _mm_madd_epi16(_mm_cvtepu8_epi16(r), _mm_cvtepi8_epi16(x)));
		s1 = _mm_add_epi32(s1, _mm_madd_epi16(_mm_cvtepu8_epi16(_mm_srli_si128(r, 8)),
					       _mm_cvtepi8_epi16(_mm_srli_si128(x, 8))));
	}
	int32_t s = reduce_epi32(_mm_add_epi32(s0, s1));
	for (; i < n; i++)
		s += (int32_t)row[i] * q[i];
	return s;
}

static void dot_u8i8_many(
	const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	size_t ahead = simd_rows_ahead(n);

	for (size_t j = 0; j < ahead && j < count; j++)
		simd_prefetch_row(rows[j], n);
	for (size_t i = 0; i < count; i++) {
		if (i + ahead < count)
			simd_prefetch_row(rows[i + ahead], n);
		ret[i] = dot_u8i8(rows[i], q, n);
	}
}
static int32_t flip_u8(const uint8_t *row, int8_t *ret, size_t n)
{
	return simd_c_flip_u8(row, ret, n);
}

static int64_t quantise_f32(const float *v, size_t n, float inv, int8_t *ret, int32_t *ret_sum)
{
	return simd_c_quantise_f32(v, n, inv, ret, ret_sum);
}

static float max_abs_f32(const float *v, size_t n)
{
	return simd_c_max_abs_f32(v, n);
}

static void hadamard_f32(float *v, const float *sign, size_t n)
{
	simd_c_hadamard_f32(v, sign, n);
}

const struct simd_kernels simd_sse4 = {
	.name = "sse4",
	.l2_f32 = l2_f32,
	.dot_f32 = dot_f32,
	.dot_norm_f32 = dot_norm_f32,
	.dot_u8i8 = dot_u8i8,
	.dot_u8i8_many = dot_u8i8_many,
	.flip_u8 = flip_u8,
	.quantise_f32 = quantise_f32,
	.max_abs_f32 = max_abs_f32,
	.hadamard_f32 = hadamard_f32,
};
#endif
