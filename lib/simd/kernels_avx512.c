/* kernels_avx512.c - 512-bit kernels; the integer dot product is VNNI's vpdpbusd.
 *
 * Tails use masked loads, which never touch what the mask leaves out.  The many-row kernel takes
 * four rows at a time, so that a piece of the question is loaded once for four
 * and the four reductions become one transposed reduction.
 */
#include "simd/simd_i.h"

#if defined(__x86_64__)
#include <immintrin.h>

static inline __mmask16 tail16(size_t n)
{
	return (__mmask16)((1u << n) - 1);
}

static inline __mmask64 tail64(size_t n)
{
	return ((__mmask64)1 << n) - 1; /* n < 64 */
}

static float l2_f32(const float *a, const float *b, size_t n)
{
	__m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
	size_t i = 0;

	for (; i + 64 <= n; i += 64) {
		__m512 d0 = _mm512_sub_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
		__m512 d1 = _mm512_sub_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16));
		__m512 d2 = _mm512_sub_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32));
		__m512 d3 = _mm512_sub_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48));
		s0 = _mm512_fmadd_ps(d0, d0, s0);
		s1 = _mm512_fmadd_ps(d1, d1, s1);
		s2 = _mm512_fmadd_ps(d2, d2, s2);
		s3 = _mm512_fmadd_ps(d3, d3, s3);
	}
	for (; i + 16 <= n; i += 16) {
		__m512 d = _mm512_sub_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
		s0 = _mm512_fmadd_ps(d, d, s0);
	}
	if (i < n) {
		__mmask16 m = tail16(n - i);
		__m512 d = _mm512_sub_ps(
			_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i));
		s1 = _mm512_fmadd_ps(d, d, s1);
	}
	return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

static float dot_f32(const float *a, const float *b, size_t n)
{
	__m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
	size_t i = 0;

	for (; i + 64 <= n; i += 64) {
		s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
		s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
		s2 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
		s3 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
	}
	for (; i + 16 <= n; i += 16)
		s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
	if (i < n) {
		__mmask16 m = tail16(n - i);
		s1 = _mm512_fmadd_ps(
			_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s1);
	}
	return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

static float dot_norm_f32(const float *a, const float *b, size_t n, float *ret_bb)
{
	__m512 s0 = _mm512_setzero_ps(), s1 = s0, t0 = s0, t1 = s0;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		__m512 b0 = _mm512_loadu_ps(b + i), b1 = _mm512_loadu_ps(b + i + 16);
		s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), b0, s0);
		s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), b1, s1);
		t0 = _mm512_fmadd_ps(b0, b0, t0);
		t1 = _mm512_fmadd_ps(b1, b1, t1);
	}
	for (; i < n; i += 16) {
		__mmask16 m = n - i < 16 ? tail16(n - i) : (__mmask16)0xffff;
		__m512 b0 = _mm512_maskz_loadu_ps(m, b + i);
		s0 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), b0, s0);
		t0 = _mm512_fmadd_ps(b0, b0, t0);
	}
	*ret_bb = _mm512_reduce_add_ps(_mm512_add_ps(t0, t1));
	return _mm512_reduce_add_ps(_mm512_add_ps(s0, s1));
}

static inline int32_t dot1(const uint8_t *row, const int8_t *q, size_t n)
{
	__m512i s0 = _mm512_setzero_si512(), s1 = s0;
	size_t i = 0;

	for (; i + 128 <= n; i += 128) {
		s0 = _mm512_dpbusd_epi32(
			s0, _mm512_loadu_si512(row + i), _mm512_loadu_si512(q + i));
		s1 = _mm512_dpbusd_epi32(
			s1, _mm512_loadu_si512(row + i + 64), _mm512_loadu_si512(q + i + 64));
	}
	if (i + 64 <= n) {
		s0 = _mm512_dpbusd_epi32(
			s0, _mm512_loadu_si512(row + i), _mm512_loadu_si512(q + i));
		i += 64;
	}
	if (i < n) {
		__mmask64 m = tail64(n - i);
		s1 = _mm512_dpbusd_epi32(
			s1, _mm512_maskz_loadu_epi8(m, row + i), _mm512_maskz_loadu_epi8(m, q + i));
	}
	return _mm512_reduce_add_epi32(_mm512_add_epi32(s0, s1));
}

static int32_t dot_u8i8(const uint8_t *row, const int8_t *q, size_t n)
{
	return dot1(row, q, n);
}

static inline __m128i fold(__m512i v)
{
	__m256i h = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
	return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

/* Four sums of four vectors, in the lanes of one. */
static inline __m128i reduce4(__m512i a, __m512i b, __m512i c, __m512i d)
{
	__m128i ab = _mm_hadd_epi32(fold(a), fold(b));
	__m128i cd = _mm_hadd_epi32(fold(c), fold(d));

	return _mm_hadd_epi32(ab, cd);
}

static inline void dot4(const int8_t *q, size_t n, const uint8_t *const *r, int32_t *ret)
{
	__m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
	const uint8_t *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3];
	size_t i = 0;

	for (; i + 64 <= n; i += 64) {
		__m512i x = _mm512_loadu_si512(q + i);
		a = _mm512_dpbusd_epi32(a, _mm512_loadu_si512(r0 + i), x);
		b = _mm512_dpbusd_epi32(b, _mm512_loadu_si512(r1 + i), x);
		c = _mm512_dpbusd_epi32(c, _mm512_loadu_si512(r2 + i), x);
		d = _mm512_dpbusd_epi32(d, _mm512_loadu_si512(r3 + i), x);
	}
	if (i < n) {
		__mmask64 m = tail64(n - i);
		__m512i x = _mm512_maskz_loadu_epi8(m, q + i);
		a = _mm512_dpbusd_epi32(a, _mm512_maskz_loadu_epi8(m, r0 + i), x);
		b = _mm512_dpbusd_epi32(b, _mm512_maskz_loadu_epi8(m, r1 + i), x);
		c = _mm512_dpbusd_epi32(c, _mm512_maskz_loadu_epi8(m, r2 + i), x);
		d = _mm512_dpbusd_epi32(d, _mm512_maskz_loadu_epi8(m, r3 + i), x);
	}
	_mm_storeu_si128((__m128i *)ret, reduce4(a, b, c, d));
}

static void dot_u8i8_many(
	const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	size_t ahead = VX_ALIGN_UP(simd_rows_ahead(n), 4), i = 0;

	for (size_t j = 0; j < ahead && j < count; j++)
		simd_prefetch_row(rows[j], n);
	for (; i + 4 <= count; i += 4) {
		for (size_t j = i + ahead; j < i + ahead + 4 && j < count; j++)
			simd_prefetch_row(rows[j], n);
		dot4(q, n, rows + i, ret + i);
	}
	for (; i < count; i++)
		ret[i] = dot1(rows[i], q, n);
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

const struct simd_kernels simd_avx512 = {
	.name = "avx512",
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
