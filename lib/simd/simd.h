/* simd.h - distance kernels behind one table.
 *
 *	const struct simd_kernels *k = simd_active();
 *	float d = k->l2_f32(a, b, dim);
 *
 * The table is chosen once, from the CPU's flags: scalar, sse4 (SSE4.1), avx2 (with
 * FMA), avx512 (F, BW, DQ, VL and VNNI) or neon.  The environment variable VECFS_SIMD names a
 * ceiling ("avx2": nothing above it; "neon" on x86: the NEON code through SIMDe, for
 * tests); an unknown name or one that this CPU lacks leaves the best below it.
 *
 * The scalar table is the specification:
 *  - the integer kernels return exactly its values for every input,
 *  - the float kernels may sum in another order: they differ from the true sum by at
 *    most (n + 2) * (2^-24 * sum |term_i| + 2^-126), as long as no partial sum overflows.
 *
 * No kernel reads past its operands' last element or needs their alignment
 * (codes run fastest when 64-byte aligned); n may be 0.  No state, no locks: any thread.
 */
#ifndef VECFS_SIMD_SIMD_H
#define VECFS_SIMD_SIMD_H

#include "base/base.h"

/* Terms of an integer dot product: VX_DIM_MAX rounded up to whole code lines. */
#define SIMD_CODE_MAX 65536u

struct simd_kernels {
	const char *name;

	/* sum (a_i - b_i)^2 */
	float (*l2_f32)(const float *a, const float *b, size_t n);
	/* sum a_i * b_i */
	float (*dot_f32)(const float *a, const float *b, size_t n);
	/* Both sums in one pass: sum a_i * b_i, and sum b_i^2 in *ret_bb. */
	float (*dot_norm_f32)(const float *a, const float *b, size_t n, float *ret_bb);

	/* sum row_i * q_i; n <= SIMD_CODE_MAX, so that no int32 overflows. */
	int32_t (*dot_u8i8)(const uint8_t *row, const int8_t *q, size_t n);
	/* The same for 'count' rows; fetches the lines of later rows ahead. */
	void (*dot_u8i8_many)(
		const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret);

	/* ret_i = row_i - 128 (a stored code as the question's side); returns its sum. */
	int32_t (*flip_u8)(const uint8_t *row, int8_t *ret, size_t n);

	/* ret_i = round to nearest of v_i * inv, clamped to -127..127 (0 for NaN).  Returns sum
	 * ret_i^2, and sum ret_i in *ret_sum.  Halves may round either way: a code is not
	 * compared across machines. */
	int64_t (*quantise_f32)(const float *v, size_t n, float inv, int8_t *ret, int32_t *ret_sum);
	/* max |v_i|; 0 for n == 0.  NaNs are ignored or returned. */
	float (*max_abs_f32)(const float *v, size_t n);

	/* v_i *= sign_i, then the fast Walsh-Hadamard transform in place, times 1 / sqrt(n).  n
	 * is a power of two. */
	void (*hadamard_f32)(float *v, const float *sign, size_t n);
};

/* The table in use; never NULL. */
const struct simd_kernels *simd_active(void);

/* The table 'name' if it is compiled in and this CPU can run it, else NULL: for tests and the
 * bench.  simd_best() is what 'ceiling' (NULL: none) selects on this CPU. */
const struct simd_kernels *simd_by_name(const char *name);
const struct simd_kernels *simd_best(const char *ceiling);

#endif
