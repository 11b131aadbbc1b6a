/* simd.h - distance kernels behind one table.
 *
 *	const struct simd_kernels *k = simd_active();
 *	float d = k->l2_f32(a, b, dim);
 *
 * The table is chosen once, from the CPU's flags: scalar, sse4 (SSE4.1), avx2 (with FMA and F16C),
 * avx512-vnni (F, BW, DQ, VL and VNNI), avx512 (VPOPCNTDQ as well) or neon.  The environment
 * variable VECFS_SIMD names a ceiling ("avx2": nothing above it; "neon" on x86: the NEON code
 * through SIMDe, for tests); an unknown name or one that this CPU lacks leaves the best below it.
 *
 * The scalar table is the specification:
 *  - the integer kernels return exactly its values for every input,
 *  - the float sums may be taken in another order: they differ from the true sum by at most
 *    (n + 2) * (2^-24 * sum |term_i| + 2^-126), as long as no partial sum overflows.  A term of
 *    an L2 distance is the square of the float nearest to a_i - b_i; a half is widened exactly.
 *    A NaN or an infinity among the terms makes the sum one.
 *
 * Three shapes of each distance:
 *  - one to one,
 *  - "_many": one question against 'count' rows anywhere (an array of pointers): the lines of
 *    later rows are fetched while earlier ones are computed,
 *  - "_block": many questions against consecutive rows, in registers and caches like the matrix
 *    product that it is.
 *
 * No kernel reads or writes past its operands' last element or needs their alignment (codes run
 * fastest when 64-byte aligned); n and counts may be 0.  No state, no locks: any thread.
 */
#ifndef VECFS_SIMD_SIMD_H
#define VECFS_SIMD_SIMD_H

#include "base/base.h"

/* Terms of an integer dot product: VX_DIM_MAX rounded up to whole code lines. */
#define SIMD_CODE_MAX 65536u

/* 4-bit codes: bytes of a row of n components, and the components that the padding makes it.
 * A row is a sequence of 64-byte pieces of 128 components: byte j of a piece holds
 * component j in its low nibble and component 64 + j in its high one.  When 64 or fewer components
 * remain for the last piece it has 32 bytes: byte j holds components j and 32 + j. */
#define SIMD_U4_TERMS(n) VX_ALIGN_UP((size_t)(n), (size_t)64)
#define SIMD_U4_BYTES(n) (SIMD_U4_TERMS(n) / 2)

/* 1-bit codes: bit (i & 7) of byte i >> 3 belongs to component i. */
#define SIMD_U1_BYTES(n) (((size_t)(n) + 7) / 8)
/* Bit planes of a question of 4-bit codes. */
#define SIMD_PLANES 4u

/* The shape of a _block call.  Strides count elements of their own array; question i starts at
 * qs + i * q_stride, row j at rows + j * row_stride, and their value goes to
 * ret[i * ret_stride + j].  Nothing else of 'ret' is written.  q_stride >= n,
 * row_stride >= n and ret_stride >= nrows, except where only one lies there. */
struct simd_block {
	size_t n; /* terms */
	size_t nq, q_stride;
	size_t nrows, row_stride;
	size_t ret_stride;
};

struct simd_kernels {
	const char *name;

	/* --- float32 ------------------------------------------------------ */
	/* sum (a_i - b_i)^2 */
	float (*l2_f32)(const float *a, const float *b, size_t n);
	/* sum a_i * b_i */
	float (*dot_f32)(const float *a, const float *b, size_t n);
	/* Both sums in one pass: sum a_i * b_i, and sum b_i^2 in *ret_bb. */
	float (*dot_norm_f32)(const float *a, const float *b, size_t n, float *ret_bb);
	void (*l2_f32_many)(
		const float *q, size_t n, const float *const *rows, size_t count, float *ret);
	void (*dot_f32_many)(
		const float *q, size_t n, const float *const *rows, size_t count, float *ret);
	void (*l2_f32_block)(
		const struct simd_block *b, const float *qs, const float *rows, float *ret);
	void (*dot_f32_block)(
		const struct simd_block *b, const float *qs, const float *rows, float *ret);

	/* --- IEEE half rows (bit patterns), float32 questions --------------- */
	/* Round to nearest even; subnormals are kept, overflow is infinity, NaN is a NaN. */
	void (*f32_to_f16)(const float *v, size_t n, uint16_t *ret);
	/* Exact. */
	void (*f16_to_f32)(const uint16_t *v, size_t n, float *ret);
	float (*l2_f16)(const float *q, const uint16_t *row, size_t n);
	float (*dot_f16)(const float *q, const uint16_t *row, size_t n);
	void (*l2_f16_many)(
		const float *q, size_t n, const uint16_t *const *rows, size_t count, float *ret);
	void (*dot_f16_many)(
		const float *q, size_t n, const uint16_t *const *rows, size_t count, float *ret);
	void (*l2_f16_block)(
		const struct simd_block *b, const float *qs, const uint16_t *rows, float *ret);
	void (*dot_f16_block)(
		const struct simd_block *b, const float *qs, const uint16_t *rows, float *ret);

	/* --- 8-bit codes: exact ---------------------------------------------- */
	/* sum row_i * q_i; n <= SIMD_CODE_MAX, so that no int32 overflows. */
	int32_t (*dot_u8i8)(const uint8_t *row, const int8_t *q, size_t n);
	void (*dot_u8i8_many)(
		const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret);
	void (*dot_u8i8_block)(
		const struct simd_block *b, const int8_t *qs, const uint8_t *rows, int32_t *ret);

	/* ret_i = round to nearest of v_i * inv, clamped to -127..127 (0 for NaN).  Returns sum
	 * ret_i^2, and sum ret_i in *ret_sum.  Halves may round either way: a code is not
	 * compared across machines. */
	int64_t (*quantise_f32)(const float *v, size_t n, float inv, int8_t *ret, int32_t *ret_sum);
	/* max |v_i|; 0 for n == 0.  NaNs are ignored or returned. */
	float (*max_abs_f32)(const float *v, size_t n);

	/* --- 4-bit codes: exact ---------------------------------------------- */
	/* ret_i = round to nearest of (v_i - lo) * inv, clamped to 0..15 (0 for NaN), one per
	 * byte.  Returns sum ret_i^2, and sum ret_i in *ret_sum.  Halves may round
	 * either way, and so may what the two float roundings before make a half. */
	int64_t (*quantise_u4_f32)(
		const float *v, size_t n, float lo, float inv, uint8_t *ret, int32_t *ret_sum);
	/* n codes 0..15, one per byte, to a row of SIMD_U4_BYTES(n) whose padding is 0. */
	void (*pack_u4)(const uint8_t *codes, size_t n, uint8_t *ret);
	/* Two rows as the upper and the lower nibbles of one 8-bit code: ret_i = 16 head_i + tail_i - 128,
	 * n a multiple of 64.  Returns their sum. */
	int32_t (*join_u4)(const uint8_t *head, const uint8_t *tail, size_t n, int8_t *ret);
	/* sum row_i * q_i over n components, n a multiple of 64 and at most SIMD_CODE_MAX: a
	 * question of fewer is padded with 0. */
	int32_t (*dot_u4i8)(const uint8_t *row, const int8_t *q, size_t n);
	void (*dot_u4i8_many)(
		const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret);

	/* --- 1-bit codes: exact; rows of 'bytes' bytes, 8 * bytes <= SIMD_CODE_MAX -- */
	/* Bit i = v_i > 0, for i < n; the rest of the 'bytes' >= SIMD_U1_BYTES(n) is 0. */
	void (*pack_signs)(const float *v, size_t n, uint8_t *ret, size_t bytes);
	/* Bit i of plane p (at ret + p * bytes) = bit p of codes[i], for i < n and p <
	 * SIMD_PLANES; the rest is 0. */
	void (*pack_planes)(const uint8_t *codes, size_t n, uint8_t *ret, size_t bytes);
	/* Bits that differ. */
	int32_t (*hamming)(const uint8_t *row, const uint8_t *q, size_t bytes);
	void (*hamming_many)(const uint8_t *q, size_t bytes, const uint8_t *const *rows,
		size_t count, int32_t *ret);
	/* sum over p of 2^p * (bits set in both row and plane p): the dot product of a row of bits
	 * with a question of 4-bit codes (Gao and Long, RaBitQ, SIGMOD 2024, section 3.3). */
	int32_t (*dot_u1u4)(const uint8_t *row, const uint8_t *planes, size_t bytes);
	void (*dot_u1u4_many)(const uint8_t *planes, size_t bytes, const uint8_t *const *rows,
		size_t count, int32_t *ret);

	/* --- rotations ---------------------------------------------------- */
	/* v_i *= sign_i, then the fast Walsh-Hadamard transform in place, times 1 / sqrt(n).  n
	 * is a power of two.  Each component is within (log2 n + 4) * 2^-24 * sum |v_i| /
	 * sqrt(n), and 2 n * 2^-149, of the true one. */
	void (*hadamard_f32)(float *v, const float *sign, size_t n);
};

/* The table in use; never NULL. */
const struct simd_kernels *simd_active(void);

/* The table 'name' if it is compiled in and this CPU can run it, else NULL: for tests and the
 * bench.  simd_best() is what 'ceiling' (NULL: none) selects on this CPU. */
const struct simd_kernels *simd_by_name(const char *name);
const struct simd_kernels *simd_best(const char *ceiling);

#endif
