/* kernels_sse4.c - 128-bit kernels for CPUs with SSE4.1 and no more: the 256-bit ones, halved. */
#define SIMD_BYTES 16
#include "simd/simd_i.h"

#if defined(__x86_64__)
#include <smmintrin.h>

#include "simd/simd_float.h"

static SIMD_INLINE __m128i load16(const void *p)
{
	return _mm_loadu_si128((const __m128i *)p);
}

static SIMD_INLINE int32_t reduce_epi32(__m128i s)
{
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
	return _mm_cvtsi128_si32(s);
}

static int32_t dot_u8i8(const uint8_t *row, const int8_t *q, size_t n)
{
	__m128i s0 = _mm_setzero_si128(), s1 = s0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m128i r = load16(row + i), x = load16(q + i);
		s0 = _mm_add_epi32(s0, _mm_madd_epi16(_mm_cvtepu8_epi16(r), _mm_cvtepi8_epi16(x)));
		s1 = _mm_add_epi32(s1, _mm_madd_epi16(_mm_cvtepu8_epi16(_mm_srli_si128(r, 8)),
					       _mm_cvtepi8_epi16(_mm_srli_si128(x, 8))));
	}
	int32_t s = reduce_epi32(_mm_add_epi32(s0, s1));
	for (; i < n; i++)
		s += (int32_t)row[i] * q[i];
	return s;
}

static SIMD_INLINE __m128i low_nibbles(__m128i x)
{
	return _mm_and_si128(x, _mm_set1_epi8(15));
}

static SIMD_INLINE __m128i high_nibbles(__m128i x)
{
	return low_nibbles(_mm_srli_epi16(x, 4));
}

static int32_t dot_u4i8(const uint8_t *row, const int8_t *q, size_t n)
{
	__m128i s = _mm_setzero_si128();

	for (size_t i = 0; i < n; i += 128, row += 64) {
		/* Components 'half' apart share a byte. */
		size_t half = n - i >= 128 ? 64 : 32;
		__m128i t = _mm_setzero_si128();
		/* At most 8 sums of two products of at most 15 * 128. */
		for (size_t j = 0; j < half; j += 16) {
			__m128i x = load16(row + j);
			t = _mm_add_epi16(t, _mm_maddubs_epi16(low_nibbles(x), load16(q + i + j)));
			t = _mm_add_epi16(
				t, _mm_maddubs_epi16(high_nibbles(x), load16(q + i + half + j)));
		}
		s = _mm_add_epi32(s, _mm_madd_epi16(t, _mm_set1_epi16(1)));
	}
	return reduce_epi32(s);
}

static SIMD_INLINE __m128i load16_part(const uint8_t *p, size_t k)
{
	uint8_t t[16] = {0};

	if (k >= 16)
		return load16(p);
	memcpy(t, p, k);
	return load16(t);
}

/* Bits of each byte. */
static SIMD_INLINE __m128i count_bytes(__m128i x)
{
	const __m128i table = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);

	return _mm_add_epi8(
		_mm_shuffle_epi8(table, low_nibbles(x)), _mm_shuffle_epi8(table, high_nibbles(x)));
}

static int32_t hamming(const uint8_t *row, const uint8_t *q, size_t bytes)
{
	const __m128i zero = _mm_setzero_si128();
	__m128i s = zero;

	for (size_t i = 0; i < bytes; i += 16) {
		__m128i x = load16_part(row + i, bytes - i);
		x = _mm_xor_si128(x, load16_part(q + i, bytes - i));
		s = _mm_add_epi64(s, _mm_sad_epu8(count_bytes(x), zero));
	}
	return reduce_epi32(s);
}

static int32_t dot_u1u4(const uint8_t *row, const uint8_t *planes, size_t bytes)
{
	const __m128i zero = _mm_setzero_si128();
	__m128i s = zero;

	for (size_t i = 0; i < bytes; i += 16) {
		__m128i r = load16_part(row + i, bytes - i), c = zero;
		/* From the heaviest plane down; a byte holds up to 8 * 15. */
		for (size_t p = SIMD_PLANES; p-- > 0;) {
			__m128i x = load16_part(planes + p * bytes + i, bytes - i);
			c = _mm_add_epi8(c, c);
			c = _mm_add_epi8(c, count_bytes(_mm_and_si128(r, x)));
		}
		s = _mm_add_epi64(s, _mm_sad_epu8(c, zero));
	}
	return reduce_epi32(s);
}

static void pack_signs(const float *v, size_t n, uint8_t *ret, size_t bytes)
{
	const __m128 zero = _mm_setzero_ps();
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		int lo = _mm_movemask_ps(_mm_cmpgt_ps(_mm_loadu_ps(v + i), zero));
		int hi = _mm_movemask_ps(_mm_cmpgt_ps(_mm_loadu_ps(v + i + 4), zero));
		ret[i / 8] = (uint8_t)(lo | hi << 4);
	}
	simd_c_pack_signs(v, i, n, ret, bytes);
}

static void pack_planes(const uint8_t *codes, size_t n, uint8_t *ret, size_t bytes)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m128i x = load16(codes + i);
		/* Bit p of each byte to its top; what comes in from the byte below stays lower. */
		for (size_t p = 0; p < SIMD_PLANES; p++) {
			int m = _mm_movemask_epi8(_mm_sll_epi16(x, _mm_cvtsi32_si128(7 - (int)p)));
			uint16_t m16 = (uint16_t)m;
			memcpy(ret + p * bytes + i / 8, &m16, sizeof m16);
		}
	}
	simd_c_pack_planes(codes, i, n, ret, bytes);
}

SIMD_MANY(dot_u8i8_many, dot_u8i8, n, int8_t)
SIMD_BLOCK_U8I8(dot_u8i8_block, dot_u8i8)
SIMD_MANY(dot_u4i8_many, dot_u4i8, n / 2, int8_t)
SIMD_MANY(hamming_many, hamming, n, uint8_t)
SIMD_MANY(dot_u1u4_many, dot_u1u4, n, uint8_t)

const struct simd_kernels simd_sse4 = {
	.name = "sse4",
	SIMD_FLOAT_MEMBERS,
	SIMD_CODE_MEMBERS,
};
#endif
