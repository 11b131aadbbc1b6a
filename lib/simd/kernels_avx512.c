/* kernels_avx512.c - 512-bit kernels; the integer dot products are VNNI's vpdpbusd.
 *
 * Tails use masked loads, which never touch what the mask leaves out.  Many rows are taken
 * eight at a time (four, when no more than four are left), so that a piece of the question is
 * loaded once for all and their reductions become one transposed reduction; where the rows end
 * within a group the last one is computed again and not stored: cheaper than a loop of
 * single ones.
 *
 * The file is compiled twice: as it is, and from kernels_avx512_popcnt.c with VPOPCNTDQ, which
 * counts bits in one instruction where a table of nibbles takes seven.
 */
#define SIMD_BYTES 64
#include "simd/simd_i.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "simd/simd_float.h"

static SIMD_INLINE __mmask64 tail64(size_t n)
{
	return ((__mmask64)1 << n) - 1; /* n < 64 */
}

/* --- reductions ------------------------------------------------------------- */
/* 128-bit lane i holds four parts of the i-th sum. */
static SIMD_INLINE __m512i lanes4(__m512i a, __m512i b, __m512i c, __m512i d)
{
	__m512i ab = _mm512_add_epi32(
		_mm512_shuffle_i64x2(a, b, 0x44), _mm512_shuffle_i64x2(a, b, 0xee));
	__m512i cd = _mm512_add_epi32(
		_mm512_shuffle_i64x2(c, d, 0x44), _mm512_shuffle_i64x2(c, d, 0xee));

	return _mm512_add_epi32(
		_mm512_shuffle_i64x2(ab, cd, 0x88), _mm512_shuffle_i64x2(ab, cd, 0xdd));
}

static SIMD_INLINE __m128i sums4(const __m512i *s)
{
	const __m512i pick = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
	__m512i x = lanes4(s[0], s[1], s[2], s[3]);

	x = _mm512_add_epi32(x, _mm512_shuffle_epi32(x, _MM_PERM_BADC));
	x = _mm512_add_epi32(x, _mm512_shuffle_epi32(x, _MM_PERM_CDAB));
	return _mm512_castsi512_si128(_mm512_permutexvar_epi32(pick, x));
}

static SIMD_INLINE __m256i sums8(const __m512i *s)
{
	const __m512i pick = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13);
	__m512i x = lanes4(s[0], s[1], s[2], s[3]), y = lanes4(s[4], s[5], s[6], s[7]);
	__m512i z = _mm512_add_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));

	z = _mm512_add_epi32(z, _mm512_shuffle_epi32(z, _MM_PERM_BADC));
	return _mm512_castsi512_si256(_mm512_permutexvar_epi32(pick, z));
}

/* The first nret of the R (4 or 8) sums. */
static SIMD_INLINE void store_sums(const __m512i *s, const size_t R, int32_t *ret, size_t nret)
{
	__mmask8 m = (__mmask8)(nret >= R ? 0xff : (1u << nret) - 1);

	if (R == 8)
		_mm256_mask_storeu_epi32(ret, m, sums8(s));
	else
		_mm_mask_storeu_epi32(ret, m, sums4(s));
}

static SIMD_INLINE void fetch(const uint8_t *const *later, size_t j, size_t at)
{
	if (later)
		__builtin_prefetch(later[j] + at, 0, 3);
}

/* --- 8-bit codes ---------------------------------------------------------------- */
static int32_t dot_u8i8(const uint8_t *row, const int8_t *q, size_t n)
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

static SIMD_INLINE void u8_tile(const size_t R, const void *question, size_t n,
	const uint8_t *const *rows, const uint8_t *const *later, int32_t *ret, size_t nret)
{
	const int8_t *q = question;
	__m512i s[8];
	size_t i = 0;

	SIMD_UNROLL
	for (size_t j = 0; j < R; j++)
		s[j] = _mm512_setzero_si512();
	for (; i + 64 <= n; i += 64) {
		__m512i x = _mm512_loadu_si512(q + i);
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++) {
			fetch(later, j, i);
			s[j] = _mm512_dpbusd_epi32(s[j], _mm512_loadu_si512(rows[j] + i), x);
		}
	}
	if (i < n) {
		__mmask64 m = tail64(n - i);
		__m512i x = _mm512_maskz_loadu_epi8(m, q + i);
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++) {
			fetch(later, j, i);
			s[j] = _mm512_dpbusd_epi32(
				s[j], _mm512_maskz_loadu_epi8(m, rows[j] + i), x);
		}
	}
	store_sums(s, R, ret, nret);
}

/* Q questions against four rows. */
#define U8_TILE_Q 6u
static SIMD_INLINE void u8_block_tile(const size_t Q, const int8_t *q, size_t q_stride,
	const uint8_t *const *rows, size_t n, int32_t *ret, size_t ret_stride, size_t nret)
{
	__m512i s[U8_TILE_Q][4];
	size_t k = 0;

	SIMD_UNROLL
	for (size_t i = 0; i < Q; i++) {
		SIMD_UNROLL
		for (size_t j = 0; j < 4; j++)
			s[i][j] = _mm512_setzero_si512();
	}
	for (; k < n; k += 64) {
		__mmask64 m = n - k < 64 ? tail64(n - k) : ~(__mmask64)0;
		__m512i x[U8_TILE_Q];
		SIMD_UNROLL
		for (size_t i = 0; i < Q; i++)
			x[i] = _mm512_maskz_loadu_epi8(m, q + i * q_stride + k);
		SIMD_UNROLL
		for (size_t j = 0; j < 4; j++) {
			__m512i r = _mm512_maskz_loadu_epi8(m, rows[j] + k);
			SIMD_UNROLL
			for (size_t i = 0; i < Q; i++)
				s[i][j] = _mm512_dpbusd_epi32(s[i][j], r, x[i]);
		}
	}
	SIMD_UNROLL
	for (size_t i = 0; i < Q; i++)
		store_sums(s[i], 4, ret + i * ret_stride, nret);
}

static void dot_u8i8_block(
	const struct simd_block *b, const int8_t *qs, const uint8_t *rows, int32_t *ret)
{
	size_t r_step = VX_ALIGN_UP(BLOCK_ROWS_BYTES / (b->n + 1) + 1, 4);
	const uint8_t *r[4];

	for (size_t r0 = 0; r0 < b->nrows; r0 += r_step) {
		size_t r1 = VX_MIN(b->nrows, r0 + r_step);
		for (size_t i = 0; i < b->nq; i += U8_TILE_Q) {
			const int8_t *q = qs + i * b->q_stride;
			for (size_t j = r0; j < r1; j += 4) {
				int32_t *to = ret + i * b->ret_stride + j;
				for (size_t t = 0; t < 4; t++)
					r[t] = rows + VX_MIN(j + t, r1 - 1) * b->row_stride;
#define U8_TILE(Q) u8_block_tile(Q, q, b->q_stride, r, b->n, to, b->ret_stride, r1 - j)
				switch (VX_MIN(U8_TILE_Q, b->nq - i)) {
				case 6:
					U8_TILE(6);
					break;
				case 5:
					U8_TILE(5);
					break;
				case 4:
					U8_TILE(4);
					break;
				case 3:
					U8_TILE(3);
					break;
				case 2:
					U8_TILE(2);
					break;
				default:
					U8_TILE(1);
				}
#undef U8_TILE
			}
		}
	}
}

/* --- 4-bit codes ---------------------------------------------------------------- */
/* The 64 components of a last piece of 32 bytes. */
static SIMD_INLINE __m512i u4_half(const uint8_t *p)
{
	__m256i r = _mm256_loadu_si256((const __m256i *)p);
	__m512i w = _mm512_inserti64x4(_mm512_castsi256_si512(r), _mm256_srli_epi16(r, 4), 1);

	return _mm512_and_si512(w, _mm512_set1_epi8(15));
}

static SIMD_INLINE void u4_tile(const size_t R, const void *question, size_t n,
	const uint8_t *const *rows, const uint8_t *const *later, int32_t *ret, size_t nret)
{
	const __m512i low = _mm512_set1_epi8(15);
	const int8_t *q = question;
	__m512i s[8];
	size_t i = 0;

	SIMD_UNROLL
	for (size_t j = 0; j < R; j++)
		s[j] = _mm512_setzero_si512();
	for (; i + 128 <= n; i += 128) {
		__m512i x = _mm512_loadu_si512(q + i), y = _mm512_loadu_si512(q + i + 64);
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++) {
			fetch(later, j, i / 2);
			__m512i r = _mm512_loadu_si512(rows[j] + i / 2);
			s[j] = _mm512_dpbusd_epi32(s[j], _mm512_and_si512(r, low), x);
			r = _mm512_and_si512(_mm512_srli_epi16(r, 4), low);
			s[j] = _mm512_dpbusd_epi32(s[j], r, y);
		}
	}
	if (i < n) {
		__m512i x = _mm512_loadu_si512(q + i);
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++) {
			fetch(later, j, i / 2);
			s[j] = _mm512_dpbusd_epi32(s[j], u4_half(rows[j] + i / 2), x);
		}
	}
	store_sums(s, R, ret, nret);
}

static int32_t dot_u4i8(const uint8_t *row, const int8_t *q, size_t n)
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i s = _mm512_setzero_si512(), t = s;
	size_t i = 0;

	for (; i + 128 <= n; i += 128) {
		__m512i r = _mm512_loadu_si512(row + i / 2);
		s = _mm512_dpbusd_epi32(s, _mm512_and_si512(r, low), _mm512_loadu_si512(q + i));
		r = _mm512_and_si512(_mm512_srli_epi16(r, 4), low);
		t = _mm512_dpbusd_epi32(t, r, _mm512_loadu_si512(q + i + 64));
	}
	if (i < n)
		s = _mm512_dpbusd_epi32(s, u4_half(row + i / 2), _mm512_loadu_si512(q + i));
	return _mm512_reduce_add_epi32(_mm512_add_epi32(s, t));
}

/* --- 1-bit codes ---------------------------------------------------------------- */
/* Bits of each byte. */
static SIMD_INLINE __m512i count_bytes(__m512i x)
{
	const __m512i low = _mm512_set1_epi8(15);
	const __m512i table = _mm512_broadcast_i32x4(
		_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));

	return _mm512_add_epi8(_mm512_shuffle_epi8(table, _mm512_and_si512(x, low)),
		_mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x, 4), low)));
}

/* Bits of each 64-bit word. */
static SIMD_INLINE __m512i count_words(__m512i x)
{
#if defined(__AVX512VPOPCNTDQ__)
	return _mm512_popcnt_epi64(x);
#else
	return _mm512_sad_epu8(count_bytes(x), _mm512_setzero_si512());
#endif
}

/* 8 d + 4 c + 2 b + a of the counts with four planes, for each 64-bit word. */
static SIMD_INLINE __m512i count_planes(__m512i r, const __m512i *p)
{
#if defined(__AVX512VPOPCNTDQ__)
	__m512i s = _mm512_slli_epi64(_mm512_popcnt_epi64(_mm512_and_si512(r, p[3])), 1);
	s = _mm512_add_epi64(s, _mm512_popcnt_epi64(_mm512_and_si512(r, p[2])));
	s = _mm512_slli_epi64(s, 1);
	s = _mm512_add_epi64(s, _mm512_popcnt_epi64(_mm512_and_si512(r, p[1])));
	s = _mm512_slli_epi64(s, 1);
	return _mm512_add_epi64(s, _mm512_popcnt_epi64(_mm512_and_si512(r, p[0])));
#else
	/* A byte holds up to 8 * 15. */
	__m512i s = count_bytes(_mm512_and_si512(r, p[3]));
	s = _mm512_add_epi8(_mm512_add_epi8(s, s), count_bytes(_mm512_and_si512(r, p[2])));
	s = _mm512_add_epi8(_mm512_add_epi8(s, s), count_bytes(_mm512_and_si512(r, p[1])));
	s = _mm512_add_epi8(_mm512_add_epi8(s, s), count_bytes(_mm512_and_si512(r, p[0])));
	return _mm512_sad_epu8(s, _mm512_setzero_si512());
#endif
}

static SIMD_INLINE __mmask64 piece_mask(size_t bytes, size_t i)
{
	return bytes - i < 64 ? tail64(bytes - i) : ~(__mmask64)0;
}

static SIMD_INLINE void hamming_tile(const size_t R, const void *question, size_t bytes,
	const uint8_t *const *rows, const uint8_t *const *later, int32_t *ret, size_t nret)
{
	const uint8_t *q = question;
	__m512i s[8];

	SIMD_UNROLL
	for (size_t j = 0; j < R; j++)
		s[j] = _mm512_setzero_si512();
	for (size_t i = 0; i < bytes; i += 64) {
		__mmask64 m = piece_mask(bytes, i);
		__m512i x = _mm512_maskz_loadu_epi8(m, q + i);
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++) {
			fetch(later, j, i);
			__m512i r = _mm512_maskz_loadu_epi8(m, rows[j] + i);
			s[j] = _mm512_add_epi64(s[j], count_words(_mm512_xor_si512(r, x)));
		}
	}
	store_sums(s, R, ret, nret);
}

static int32_t hamming(const uint8_t *row, const uint8_t *q, size_t bytes)
{
	__m512i s = _mm512_setzero_si512();

	for (size_t i = 0; i < bytes; i += 64) {
		__mmask64 m = piece_mask(bytes, i);
		__m512i r = _mm512_maskz_loadu_epi8(m, row + i);
		r = _mm512_xor_si512(r, _mm512_maskz_loadu_epi8(m, q + i));
		s = _mm512_add_epi64(s, count_words(r));
	}
	return (int32_t)_mm512_reduce_add_epi64(s);
}

static SIMD_INLINE void planes_tile(const size_t R, const void *planes, size_t bytes,
	const uint8_t *const *rows, const uint8_t *const *later, int32_t *ret, size_t nret)
{
	const uint8_t *q = planes;
	__m512i s[8];

	SIMD_UNROLL
	for (size_t j = 0; j < R; j++)
		s[j] = _mm512_setzero_si512();
	for (size_t i = 0; i < bytes; i += 64) {
		__mmask64 m = piece_mask(bytes, i);
		__m512i p[SIMD_PLANES];
		SIMD_UNROLL
		for (size_t t = 0; t < SIMD_PLANES; t++)
			p[t] = _mm512_maskz_loadu_epi8(m, q + t * bytes + i);
		SIMD_UNROLL
		for (size_t j = 0; j < R; j++) {
			fetch(later, j, i);
			__m512i r = _mm512_maskz_loadu_epi8(m, rows[j] + i);
			s[j] = _mm512_add_epi64(s[j], count_planes(r, p));
		}
	}
	store_sums(s, R, ret, nret);
}

/* Rows of 16 bytes: the four planes are one register, a row is repeated four times. */
static SIMD_INLINE void planes_tile_16(const size_t R, const void *planes,
	const uint8_t *const *rows, const uint8_t *const *later, int32_t *ret, size_t nret)
{
	const __m512i weight = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
	const __m512i p = _mm512_loadu_si512(planes);
	__m512i s[8];

	SIMD_UNROLL
	for (size_t j = 0; j < R; j++) {
		fetch(later, j, 0);
		__m512i r = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)rows[j]));
		s[j] = _mm512_sllv_epi64(count_words(_mm512_and_si512(r, p)), weight);
	}
	store_sums(s, R, ret, nret);
}

static int32_t dot_u1u4(const uint8_t *row, const uint8_t *planes, size_t bytes)
{
	__m512i s = _mm512_setzero_si512();

	for (size_t i = 0; i < bytes; i += 64) {
		__mmask64 m = piece_mask(bytes, i);
		__m512i p[SIMD_PLANES];
		SIMD_UNROLL
		for (size_t t = 0; t < SIMD_PLANES; t++)
			p[t] = _mm512_maskz_loadu_epi8(m, planes + t * bytes + i);
		s = _mm512_add_epi64(s, count_planes(_mm512_maskz_loadu_epi8(m, row + i), p));
	}
	return (int32_t)_mm512_reduce_add_epi64(s);
}

/* --- one question, rows anywhere ------------------------------------------------ */
enum tile_kind { TILE_U8, TILE_U4, TILE_HAMMING, TILE_PLANES, TILE_PLANES_16 };

/* R rows against q; 'later', where not NULL, are as many rows to fetch on the way. */
static SIMD_INLINE void tile_rows(enum tile_kind kind, const size_t R, const void *q, size_t n,
	const uint8_t *const *rows, const uint8_t *const *later, int32_t *ret, size_t nret)
{
	switch (kind) {
	case TILE_U8:
		u8_tile(R, q, n, rows, later, ret, nret);
		break;
	case TILE_U4:
		u4_tile(R, q, n, rows, later, ret, nret);
		break;
	case TILE_HAMMING:
		hamming_tile(R, q, n, rows, later, ret, nret);
		break;
	case TILE_PLANES:
		planes_tile(R, q, n, rows, later, ret, nret);
		break;
	case TILE_PLANES_16:
		planes_tile_16(R, q, rows, later, ret, nret);
	}
}

/* All whole groups of R rows; returns how many rows that were. */
static SIMD_INLINE size_t rows_groups(enum tile_kind kind, const size_t R, const void *q, size_t n,
	size_t bytes, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	size_t ahead = simd_groups_ahead(bytes, R), i = 0;
	const uint8_t *later[4];

	for (size_t j = 0; j < ahead && j < count; j++)
		simd_prefetch_row(rows[j], bytes);
	for (; i + ahead < count && i + R <= count; i += R) {
		if (R == 4) {
			for (size_t j = 0; j < 4; j++)
				later[j] = rows[VX_MIN(i + ahead + j, count - 1)];
			tile_rows(kind, R, q, n, rows + i, later, ret + i, R);
		} else {
			for (size_t j = i + ahead; j < i + ahead + R && j < count; j++)
				simd_prefetch_row(rows[j], bytes);
			tile_rows(kind, R, q, n, rows + i, NULL, ret + i, R);
		}
	}
	for (; i + R <= count; i += R)
		tile_rows(kind, R, q, n, rows + i, NULL, ret + i, R);
	return i;
}

static SIMD_INLINE void rows_many(enum tile_kind kind, const void *q, size_t n, size_t bytes,
	const uint8_t *const *rows, size_t count, int32_t *ret)
{
	const uint8_t *group[8];
	size_t i = bytes <= SIMD_SHORT_ROW ? rows_groups(kind, 8, q, n, bytes, rows, count, ret)
					   : rows_groups(kind, 4, q, n, bytes, rows, count, ret);

	if (i == count)
		return;
	for (size_t j = 0; j < 8; j++)
		group[j] = rows[VX_MIN(i + j, count - 1)];
	if (count - i > 4)
		tile_rows(kind, 8, q, n, group, NULL, ret + i, count - i);
	else
		tile_rows(kind, 4, q, n, group, NULL, ret + i, count - i);
}

static void dot_u8i8_many(
	const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	rows_many(TILE_U8, q, n, n, rows, count, ret);
}

static void dot_u4i8_many(
	const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	rows_many(TILE_U4, q, n, n / 2, rows, count, ret);
}

static void hamming_many(
	const uint8_t *q, size_t bytes, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	rows_many(TILE_HAMMING, q, bytes, bytes, rows, count, ret);
}

static void dot_u1u4_many(
	const uint8_t *planes, size_t bytes, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	if (bytes == 16)
		rows_many(TILE_PLANES_16, planes, bytes, bytes, rows, count, ret);
	else
		rows_many(TILE_PLANES, planes, bytes, bytes, rows, count, ret);
}

/* --- packing ------------------------------------------------------------------- */
static void pack_signs(const float *v, size_t n, uint8_t *ret, size_t bytes)
{
	const __m512 zero = _mm512_setzero_ps();
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__mmask16 m = _mm512_cmp_ps_mask(_mm512_loadu_ps(v + i), zero, _CMP_GT_OQ);
		memcpy(ret + i / 8, &m, sizeof m);
	}
	simd_c_pack_signs(v, i, n, ret, bytes);
}

static void pack_planes(const uint8_t *codes, size_t n, uint8_t *ret, size_t bytes)
{
	size_t i = 0;

	for (; i + 64 <= n; i += 64) {
		__m512i x = _mm512_loadu_si512(codes + i);
		for (size_t p = 0; p < SIMD_PLANES; p++) {
			__mmask64 m = _mm512_test_epi8_mask(x, _mm512_set1_epi8((char)(1 << p)));
			memcpy(ret + p * bytes + i / 8, &m, sizeof m);
		}
	}
	simd_c_pack_planes(codes, i, n, ret, bytes);
}

#if defined(__AVX512VPOPCNTDQ__)
const struct simd_kernels simd_avx512 = {
	.name = "avx512",
#else
const struct simd_kernels simd_avx512_vnni = {
	.name = "avx512-vnni",
#endif
	SIMD_FLOAT_MEMBERS,
	SIMD_CODE_MEMBERS,
};
#endif
