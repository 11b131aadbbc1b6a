/* kernels_avx2.c - 256-bit kernels.
 *
 * The integer dot product widens to 16 bits and uses vpmaddwd, which cannot saturate;
 * vpmaddubsw would, at 255 * 127 * 2.
 */
#include "simd/simd_i.h"

#if defined(__x86_64__)
#include <immintrin.h>

static inline float reduce_ps(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	s = _mm_add_ss(s, _mm_shuffle_ps(s, s, 1));
	return _mm_cvtss_f32(s);
}

static inline int32_t reduce_epi32(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
	return _mm_cvtsi128_si32(s);
}

static float l2_f32(const float *a, const float *b, size_t n)
{
	__m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		__m256 d0 = _mm256_sub_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
		__m256 d1 = _mm256_sub_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
		__m256 d2 = _mm256_sub_ps(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16));
		__m256 d3 = _mm256_sub_ps(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24));
		s0 = _mm256_fmadd_ps(d0, d0, s0);
		s1 = _mm256_fmadd_ps(d1, d1, s1);
		s2 = _mm256_fmadd_ps(d2, d2, s2);
		s3 = _mm256_fmadd_ps(d3, d3, s3);
	}
	for (; i + 8 <= n; i += 8) {
		__m256 d = _mm256_sub_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
		s0 = _mm256_fmadd_ps(d, d, s0);
	}
	float s = reduce_ps(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
	for (; i < n; i++)
		s += (a[i] - b[i]) * (a[i] - b[i]);
	return s;
}

static float dot_f32(const float *a, const float *b, size_t n)
{
	__m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
		s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
		s2 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), s2);
		s3 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), s3);
	}
	for (; i + 8 <= n; i += 8)
		s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
	float s = reduce_ps(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
	for (; i < n; i++)
		s += a[i] * b[i];
	return s;
}

static float dot_norm_f32(const float *a, const float *b, size_t n, float *ret_bb)
{
	__m256 s0 = _mm256_setzero_ps(), s1 = s0, t0 = s0, t1 = s0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m256 b0 = _mm256_loadu_ps(b + i), b1 = _mm256_loadu_ps(b + i + 8);
		s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), b0, s0);
		s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), b1, s1);
		t0 = _mm256_fmadd_ps(b0, b0, t0);
		t1 = _mm256_fmadd_ps(b1, b1, t1);
	}
	float s = reduce_ps(_mm256_add_ps(s0, s1)), bb = reduce_ps(_mm256_add_ps(t0, t1));
	for (; i < n; i++) {
		s += a[i] * b[i];
		bb += b[i] * b[i];
	}
	*ret_bb = bb;
	return s;
}

static inline __m256i wide_u8(const uint8_t *p)
{
	return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
}

static inline __m256i wide_i8(const int8_t *p)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}

static inline int32_t dot_rest(const uint8_t *row, const int8_t *q, size_t i, size_t n)
{
	int32_t s = 0;

	for (; i < n; i++)
		s += (int32_t)row[i] * q[i];
	return s;
}

static int32_t dot_u8i8(const uint8_t *row, const int8_t *q, size_t n)
{
	__m256i s0 = _mm256_setzero_si256(), s1 = s0;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(wide_u8(row + i), wide_i8(q + i)));
		s1 = _mm256_add_epi32(
			s1, _mm256_madd_epi16(wide_u8(row + i + 16), wide_i8(q + i + 16)));
	}
	if (i + 16 <= n) {
		s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(wide_u8(row + i), wide_i8(q + i)));
		i += 16;
	}
	return reduce_epi32(_mm256_add_epi32(s0, s1)) + dot_rest(row, q, i, n);
}

static inline void dot4(const int8_t *q, size_t n, const uint8_t *const *r, int32_t *ret)
{
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m256i x = wide_i8(q + i);
		a = _mm256_add_epi32(a, _mm256_madd_epi16(wide_u8(r[0] + i), x));
		b = _mm256_add_epi32(b, _mm256_madd_epi16(wide_u8(r[1] + i), x));
		c = _mm256_add_epi32(c, _mm256_madd_epi16(wide_u8(r[2] + i), x));
		d = _mm256_add_epi32(d, _mm256_madd_epi16(wide_u8(r[3] + i), x));
	}
	ret[0] = reduce_epi32(a) + dot_rest(r[0], q, i, n);
	ret[1] = reduce_epi32(b) + dot_rest(r[1], q, i, n);
	ret[2] = reduce_epi32(c) + dot_rest(r[2], q, i, n);
	ret[3] = reduce_epi32(d) + dot_rest(r[3], q, i, n);
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
		ret[i] = dot_u8i8(rows[i], q, n);
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

const struct simd_kernels simd_avx2 = {
	.name = "avx2",
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
