/* kernels_avx2.c - 256-bit kernels.
 *
 * The 8-bit dot product widens to 16 bits and uses vpmaddwd, which cannot saturate;
 * vpmaddubsw would, at 255 * 127 * 2.  4-bit codes leave it room: a sum of eight of its results
 * stays below 2^15.  Bits are counted by looking nibbles up.
 */
#define SIMD_BYTES 32
#include "simd/simd_i.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "simd/simd_float.h"

static SIMD_INLINE __m256i load32(const void *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

static SIMD_INLINE int32_t reduce_epi32(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
	return _mm_cvtsi128_si32(s);
}

static SIMD_INLINE __m128i reduce4_epi32(const __m256i *s)
{
	__m256i ab = _mm256_hadd_epi32(s[0], s[1]), cd = _mm256_hadd_epi32(s[2], s[3]);
	__m256i t = _mm256_hadd_epi32(ab, cd);

	return _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
}

/* --- 8-bit codes ---------------------------------------------------------------- */
static SIMD_INLINE __m256i wide_u8(const uint8_t *p)
{
	return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
}

static SIMD_INLINE __m256i wide_i8(const int8_t *p)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}

static SIMD_INLINE int32_t dot_rest(const uint8_t *row, const int8_t *q, size_t i, size_t n)
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

/* Q (1 or 2) questions against four rows, of which the first 'nret' are stored. */
static SIMD_INLINE void u8_tile(const size_t Q, const int8_t *q, size_t q_stride,
	const uint8_t *const *r, size_t n, int32_t *ret, size_t ret_stride, size_t nret)
{
	__m256i s[2][4];
	size_t i = 0;

	SIMD_UNROLL
	for (size_t t = 0; t < Q; t++) {
		SIMD_UNROLL
		for (size_t j = 0; j < 4; j++)
			s[t][j] = _mm256_setzero_si256();
	}
	for (; i + 16 <= n; i += 16) {
		__m256i x[2];
		SIMD_UNROLL
		for (size_t t = 0; t < Q; t++)
			x[t] = wide_i8(q + t * q_stride + i);
		SIMD_UNROLL
		for (size_t j = 0; j < 4; j++) {
			__m256i w = wide_u8(r[j] + i);
			SIMD_UNROLL
			for (size_t t = 0; t < Q; t++)
				s[t][j] = _mm256_add_epi32(s[t][j], _mm256_madd_epi16(w, x[t]));
		}
	}
	SIMD_UNROLL
	for (size_t t = 0; t < Q; t++) {
		int32_t sum[4];
		_mm_storeu_si128((__m128i *)sum, reduce4_epi32(s[t]));
		for (size_t j = 0; j < 4 && j < nret; j++)
			ret[t * ret_stride + j] = sum[j] + dot_rest(r[j], q + t * q_stride, i, n);
	}
}

static void dot_u8i8_many(
	const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	size_t ahead = simd_rows_ahead(n), i = 0;
	const uint8_t *group[4];

	for (size_t j = 0; j < ahead && j < count; j++)
		simd_prefetch_row(rows[j], n);
	for (; i + 4 <= count; i += 4) {
		for (size_t j = i + ahead; j < i + ahead + 4 && j < count; j++)
			simd_prefetch_row(rows[j], n);
		u8_tile(1, q, 0, rows + i, n, ret + i, 0, 4);
	}
	if (i == count)
		return;
	/* The last row again in place of those that are missing: quicker than one by one. */
	for (size_t j = 0; j < 4; j++)
		group[j] = rows[VX_MIN(i + j, count - 1)];
	u8_tile(1, q, 0, group, n, ret + i, 0, count - i);
}

static void dot_u8i8_block(
	const struct simd_block *b, const int8_t *qs, const uint8_t *rows, int32_t *ret)
{
	const uint8_t *r[4];

	for (size_t j = 0; j < b->nrows; j += 4) {
		for (size_t t = 0; t < 4; t++)
			r[t] = rows + VX_MIN(j + t, b->nrows - 1) * b->row_stride;
		for (size_t i = 0; i < b->nq; i += 2) {
			const int8_t *q = qs + i * b->q_stride;
			int32_t *to = ret + i * b->ret_stride + j;
			if (i + 1 < b->nq)
				u8_tile(2, q, b->q_stride, r, b->n, to, b->ret_stride,
					b->nrows - j);
			else
				u8_tile(1, q, 0, r, b->n, to, 0, b->nrows - j);
		}
	}
}

/* --- 4-bit codes ---------------------------------------------------------------- */
static SIMD_INLINE __m256i low_nibbles(__m256i x)
{
	return _mm256_and_si256(x, _mm256_set1_epi8(15));
}

static SIMD_INLINE __m256i high_nibbles(__m256i x)
{
	return low_nibbles(_mm256_srli_epi16(x, 4));
}

static int32_t dot_u4i8(const uint8_t *row, const int8_t *q, size_t n)
{
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i s = _mm256_setzero_si256(), t;
	size_t i = 0;

	for (; i + 128 <= n; i += 128) {
		__m256i x = load32(row + i / 2), y = load32(row + i / 2 + 32);
		t = _mm256_maddubs_epi16(low_nibbles(x), load32(q + i));
		t = _mm256_add_epi16(t, _mm256_maddubs_epi16(low_nibbles(y), load32(q + i + 32)));
		t = _mm256_add_epi16(t, _mm256_maddubs_epi16(high_nibbles(x), load32(q + i + 64)));
		t = _mm256_add_epi16(t, _mm256_maddubs_epi16(high_nibbles(y), load32(q + i + 96)));
		s = _mm256_add_epi32(s, _mm256_madd_epi16(t, ones));
	}
	if (i < n) {
		__m256i x = load32(row + i / 2);
		t = _mm256_maddubs_epi16(low_nibbles(x), load32(q + i));
		t = _mm256_add_epi16(t, _mm256_maddubs_epi16(high_nibbles(x), load32(q + i + 32)));
		s = _mm256_add_epi32(s, _mm256_madd_epi16(t, ones));
	}
	return reduce_epi32(s);
}

/* --- 1-bit codes ---------------------------------------------------------------- */
/* Up to 32 bytes, and zeros.  Sixteen are common (128 components), others rare. */
static SIMD_INLINE __m256i load32_part(const uint8_t *p, size_t k)
{
	uint8_t t[32] = {0};

	if (k >= 32)
		return load32(p);
	if (k == 16)
		return _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)p));
	memcpy(t, p, k);
	return load32(t);
}

/* Bits of each byte. */
static SIMD_INLINE __m256i count_bytes(__m256i x)
{
	const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1,
		1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);

	return _mm256_add_epi8(_mm256_shuffle_epi8(table, low_nibbles(x)),
		_mm256_shuffle_epi8(table, high_nibbles(x)));
}

static int32_t hamming(const uint8_t *row, const uint8_t *q, size_t bytes)
{
	const __m256i zero = _mm256_setzero_si256();
	__m256i s = zero;

	for (size_t i = 0; i < bytes; i += 32) {
		__m256i x = load32_part(row + i, bytes - i);
		x = _mm256_xor_si256(x, load32_part(q + i, bytes - i));
		s = _mm256_add_epi64(s, _mm256_sad_epu8(count_bytes(x), zero));
	}
	return reduce_epi32(s);
}

static int32_t dot_u1u4(const uint8_t *row, const uint8_t *planes, size_t bytes)
{
	const __m256i zero = _mm256_setzero_si256();
	__m256i s = zero;

	for (size_t i = 0; i < bytes; i += 32) {
		__m256i r = load32_part(row + i, bytes - i), c = zero;
		/* From the heaviest plane down; a byte holds up to 8 * 15. */
		for (size_t p = SIMD_PLANES; p-- > 0;) {
			__m256i x = load32_part(planes + p * bytes + i, bytes - i);
			c = _mm256_add_epi8(c, c);
			c = _mm256_add_epi8(c, count_bytes(_mm256_and_si256(r, x)));
		}
		s = _mm256_add_epi64(s, _mm256_sad_epu8(c, zero));
	}
	return reduce_epi32(s);
}

static void pack_signs(const float *v, size_t n, uint8_t *ret, size_t bytes)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		ret[i / 8] = (uint8_t)_mm256_movemask_ps(
			_mm256_cmp_ps(_mm256_loadu_ps(v + i), _mm256_setzero_ps(), _CMP_GT_OQ));
	simd_c_pack_signs(v, i, n, ret, bytes);
}

static void pack_planes(const uint8_t *codes, size_t n, uint8_t *ret, size_t bytes)
{
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		__m256i x = load32(codes + i);
		/* Bit p of each byte to its top; what comes in from the byte below stays lower. */
		for (size_t p = 0; p < SIMD_PLANES; p++) {
			int32_t m = _mm256_movemask_epi8(
				_mm256_sll_epi16(x, _mm_cvtsi32_si128(7 - (int)p)));
			memcpy(ret + p * bytes + i / 8, &m, sizeof m);
		}
	}
	simd_c_pack_planes(codes, i, n, ret, bytes);
}

SIMD_MANY(dot_u4i8_many, dot_u4i8, n / 2, int8_t)
SIMD_MANY(hamming_many, hamming, n, uint8_t)
SIMD_MANY(dot_u1u4_many, dot_u1u4, n, uint8_t)

const struct simd_kernels simd_avx2 = {
	.name = "avx2",
	SIMD_FLOAT_MEMBERS,
	SIMD_CODE_MEMBERS,
};
#endif
