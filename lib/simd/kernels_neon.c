/* kernels_neon.c - NEON kernels, written in SIMDe's names: native on ARM, and on x86
 * translated, so that the same code is tested there.
 */
#include "simd/simd_i.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <simde/arm/neon.h>
#pragma GCC diagnostic pop

static float l2_f32(const float *a, const float *b, size_t n)
{
	simde_float32x4_t s0 = simde_vdupq_n_f32(0), s1 = s0;
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		simde_float32x4_t d0 = simde_vsubq_f32(
			simde_vld1q_f32(a + i), simde_vld1q_f32(b + i));
		simde_float32x4_t d1 = simde_vsubq_f32(
			simde_vld1q_f32(a + i + 4), simde_vld1q_f32(b + i + 4));
		s0 = simde_vmlaq_f32(s0, d0, d0);
		s1 = simde_vmlaq_f32(s1, d1, d1);
	}
	float s = simde_vaddvq_f32(simde_vaddq_f32(s0, s1));
	for (; i < n; i++)
		s += (a[i] - b[i]) * (a[i] - b[i]);
	return s;
}

static float dot_f32(const float *a, const float *b, size_t n)
{
	simde_float32x4_t s0 = simde_vdupq_n_f32(0), s1 = s0;
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		s0 = simde_vmlaq_f32(s0, simde_vld1q_f32(a + i), simde_vld1q_f32(b + i));
		s1 = simde_vmlaq_f32(s1, simde_vld1q_f32(a + i + 4), simde_vld1q_f32(b + i + 4));
	}
	float s = simde_vaddvq_f32(simde_vaddq_f32(s0, s1));
	for (; i < n; i++)
		s += a[i] * b[i];
	return s;
}

static float dot_norm_f32(const float *a, const float *b, size_t n, float *ret_bb)
{
	simde_float32x4_t s0 = simde_vdupq_n_f32(0), t0 = s0;
	size_t i = 0;

	for (; i + 4 <= n; i += 4) {
		simde_float32x4_t x = simde_vld1q_f32(b + i);
		s0 = simde_vmlaq_f32(s0, simde_vld1q_f32(a + i), x);
		t0 = simde_vmlaq_f32(t0, x, x);
	}
	float s = simde_vaddvq_f32(s0), bb = simde_vaddvq_f32(t0);
	for (; i < n; i++) {
		s += a[i] * b[i];
		bb += b[i] * b[i];
	}
	*ret_bb = bb;
	return s;
}

/* Eight products of widened values, added in pairs' place to four sums. */
static inline simde_int32x4_t mac8(simde_int32x4_t s, simde_uint8x8_t r, simde_int8x8_t x)
{
	simde_int16x8_t a = simde_vreinterpretq_s16_u16(simde_vmovl_u8(r));
	simde_int16x8_t b = simde_vmovl_s8(x);

	s = simde_vmlal_s16(s, simde_vget_low_s16(a), simde_vget_low_s16(b));
	return simde_vmlal_s16(s, simde_vget_high_s16(a), simde_vget_high_s16(b));
}

static int32_t dot_u8i8(const uint8_t *row, const int8_t *q, size_t n)
{
	simde_int32x4_t s0 = simde_vdupq_n_s32(0), s1 = s0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		simde_uint8x16_t r = simde_vld1q_u8(row + i);
		simde_int8x16_t x = simde_vld1q_s8(q + i);
		s0 = mac8(s0, simde_vget_low_u8(r), simde_vget_low_s8(x));
		s1 = mac8(s1, simde_vget_high_u8(r), simde_vget_high_s8(x));
	}
	int32_t s = simde_vaddvq_s32(simde_vaddq_s32(s0, s1));
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

const struct simd_kernels simd_neon = {
	.name = "neon",
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
