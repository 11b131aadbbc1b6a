/* kernels_neon.c - NEON kernels, written in SIMDe's names: native on ARM, and on x86
 * translated, so that the same code is tested there.
 */
#define SIMD_BYTES 16
#include "simd/simd_i.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <simde/arm/neon.h>
#pragma GCC diagnostic pop

#include "simd/simd_float.h"

/* Eight products of widened values, added in pairs' place to four sums. */
static SIMD_INLINE simde_int32x4_t mac8(simde_int32x4_t s, simde_uint8x8_t r, simde_int8x8_t x)
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

/* Sixteen products of nibbles with a question's bytes, added to eight sums. */
static SIMD_INLINE simde_int16x8_t mac16(simde_int16x8_t s, simde_uint8x16_t r, const int8_t *q)
{
	simde_int8x16_t a = simde_vreinterpretq_s8_u8(r), x = simde_vld1q_s8(q);

	s = simde_vmlal_s8(s, simde_vget_low_s8(a), simde_vget_low_s8(x));
	return simde_vmlal_s8(s, simde_vget_high_s8(a), simde_vget_high_s8(x));
}

static int32_t dot_u4i8(const uint8_t *row, const int8_t *q, size_t n)
{
	simde_int32x4_t s = simde_vdupq_n_s32(0);

	for (size_t i = 0; i < n; i += 128, row += 64) {
		/* Components 'half' apart share a byte. */
		size_t half = n - i >= 128 ? 64 : 32;
		simde_int16x8_t t = simde_vdupq_n_s16(0);
		/* Each of the eight sums takes at most 16 products of at most 15 * 128. */
		for (size_t j = 0; j < half; j += 16) {
			simde_uint8x16_t r = simde_vld1q_u8(row + j);
			t = mac16(t, simde_vandq_u8(r, simde_vdupq_n_u8(15)), q + i + j);
			t = mac16(t, simde_vshrq_n_u8(r, 4), q + i + half + j);
		}
		s = simde_vpadalq_s16(s, t);
	}
	return simde_vaddvq_s32(s);
}

static SIMD_INLINE simde_uint8x16_t load16_part(const uint8_t *p, size_t k)
{
	uint8_t t[16] = {0};

	if (k >= 16)
		return simde_vld1q_u8(p);
	memcpy(t, p, k);
	return simde_vld1q_u8(t);
}

static SIMD_INLINE simde_uint32x4_t add_bytes(simde_uint32x4_t s, simde_uint8x16_t c)
{
	return simde_vpadalq_u16(s, simde_vpaddlq_u8(c));
}

static int32_t hamming(const uint8_t *row, const uint8_t *q, size_t bytes)
{
	simde_uint32x4_t s = simde_vdupq_n_u32(0);

	for (size_t i = 0; i < bytes; i += 16) {
		simde_uint8x16_t x = load16_part(row + i, bytes - i);
		x = simde_veorq_u8(x, load16_part(q + i, bytes - i));
		s = add_bytes(s, simde_vcntq_u8(x));
	}
	return (int32_t)simde_vaddvq_u32(s);
}

static int32_t dot_u1u4(const uint8_t *row, const uint8_t *planes, size_t bytes)
{
	simde_uint32x4_t s = simde_vdupq_n_u32(0);

	for (size_t i = 0; i < bytes; i += 16) {
		simde_uint8x16_t r = load16_part(row + i, bytes - i), c = simde_vdupq_n_u8(0);
		/* From the heaviest plane down; a byte holds up to 8 * 15. */
		for (size_t p = SIMD_PLANES; p-- > 0;) {
			simde_uint8x16_t x = load16_part(planes + p * bytes + i, bytes - i);
			c = simde_vaddq_u8(c, c);
			c = simde_vaddq_u8(c, simde_vcntq_u8(simde_vandq_u8(r, x)));
		}
		s = add_bytes(s, c);
	}
	return (int32_t)simde_vaddvq_u32(s);
}

static void pack_signs(const float *v, size_t n, uint8_t *ret, size_t bytes)
{
	simd_c_pack_signs(v, 0, n, ret, bytes);
}

static void pack_planes(const uint8_t *codes, size_t n, uint8_t *ret, size_t bytes)
{
	simd_c_pack_planes(codes, 0, n, ret, bytes);
}

SIMD_MANY(dot_u8i8_many, dot_u8i8, n, int8_t)
SIMD_BLOCK_U8I8(dot_u8i8_block, dot_u8i8)
SIMD_MANY(dot_u4i8_many, dot_u4i8, n / 2, int8_t)
SIMD_MANY(hamming_many, hamming, n, uint8_t)
SIMD_MANY(dot_u1u4_many, dot_u1u4, n, uint8_t)

const struct simd_kernels simd_neon = {
	.name = "neon",
	SIMD_FLOAT_MEMBERS,
	SIMD_CODE_MEMBERS,
};
