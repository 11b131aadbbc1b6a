/* kernels_scalar.c - the specification that every other table is tested against.
 *
 * Nothing here is clever.  What the other tables share with this one (simd_c_*) is tested
 * against the words of simd.h directly.
 */
#include "simd/simd_i.h"

static float l2_f32(const float *a, const float *b, size_t n)
{
	float s = 0;

	for (size_t i = 0; i < n; i++) {
		float d = a[i] - b[i];
		s += d * d;
	}
	return s;
}

static float dot_f32(const float *a, const float *b, size_t n)
{
	float s = 0;

	for (size_t i = 0; i < n; i++)
		s += a[i] * b[i];
	return s;
}

static float dot_norm_f32(const float *a, const float *b, size_t n, float *ret_bb)
{
	float s = 0, bb = 0;

	for (size_t i = 0; i < n; i++) {
		s += a[i] * b[i];
		bb += b[i] * b[i];
	}
	*ret_bb = bb;
	return s;
}

static int32_t dot_u8i8(const uint8_t *row, const int8_t *q, size_t n)
{
	int32_t s = 0;

	for (size_t i = 0; i < n; i++)
		s += (int32_t)row[i] * q[i];
	return s;
}

static int32_t join_u4(const uint8_t *head, const uint8_t *tail, size_t n, int8_t *ret)
{
	return simd_c_join_u4(head, tail, n, ret);
}

static int64_t quantise_f32(const float *v, size_t n, float inv, int8_t *ret, int32_t *ret_sum)
{
	return simd_c_quantise_f32(v, n, inv, ret, ret_sum);
}

static float max_abs_f32(const float *v, size_t n)
{
	return simd_c_max_abs_f32(v, n);
}

/* --- halves ------------------------------------------------------------------- */
static float half_to_float(uint16_t h)
{
	int exponent = h >> 10 & 0x1f, mantissa = h & 0x3ff;
	float f;

	if (exponent == 0x1f)
		f = mantissa ? NAN : INFINITY;
	else if (exponent == 0)
		f = ldexpf((float)mantissa, -24);
	else
		f = ldexpf((float)(1024 + mantissa), exponent - 25);
	return h & 0x8000 ? -f : f;
}

static uint16_t half_from_float(float f)
{
	uint16_t sign = signbit(f) ? 0x8000 : 0;
	float a = fabsf(f);
	int exponent;

	if (isnan(f))
		return 0x7e00 | sign;
	if (a >= 65520.0f) /* halfway from the largest half to the next power of two */
		return 0x7c00 | sign;
	(void)frexpf(a, &exponent);
	if (a < 0x1p-14f) /* subnormal, or zero */
		exponent = -13;
	/* The value in units of the last place, 2^(exponent - 11): below 2048, rounded to even.  At
	 * 2048 and from subnormal to normal the carry runs into the exponent. */
	float units = rintf(ldexpf(a, 11 - exponent));
	return (uint16_t)(((uint32_t)(exponent + 13) << 10) + (uint32_t)units) | sign;
}

static void f32_to_f16(const float *v, size_t n, uint16_t *ret)
{
	for (size_t i = 0; i < n; i++)
		ret[i] = half_from_float(v[i]);
}

static void f16_to_f32(const uint16_t *v, size_t n, float *ret)
{
	for (size_t i = 0; i < n; i++)
		ret[i] = half_to_float(v[i]);
}

static float l2_f16(const float *q, const uint16_t *row, size_t n)
{
	float s = 0;

	for (size_t i = 0; i < n; i++) {
		float d = q[i] - half_to_float(row[i]);
		s += d * d;
	}
	return s;
}

static float dot_f16(const float *q, const uint16_t *row, size_t n)
{
	float s = 0;

	for (size_t i = 0; i < n; i++)
		s += q[i] * half_to_float(row[i]);
	return s;
}

/* --- 4 bits and 1 bit --------------------------------------------------------- */
static int64_t quantise_u4_f32(
	const float *v, size_t n, float lo, float inv, uint8_t *ret, int32_t *ret_sum)
{
	return simd_c_quantise_u4_f32(v, n, lo, inv, ret, ret_sum);
}

static void pack_u4(const uint8_t *codes, size_t n, uint8_t *ret)
{
	simd_c_pack_u4(codes, n, ret);
}

static int32_t dot_u4i8(const uint8_t *row, const int8_t *q, size_t n)
{
	int32_t s = 0;

	for (size_t i = 0; i < n; i++) {
		size_t piece = i / 128, half = n - piece * 128 < 128 ? 32 : 64, j = i % 128;
		uint8_t byte = row[piece * 64 + j % half];
		s += (j < half ? byte & 15 : byte >> 4) * q[i];
	}
	return s;
}

static void pack_signs(const float *v, size_t n, uint8_t *ret, size_t bytes)
{
	simd_c_pack_signs(v, 0, n, ret, bytes);
}

static void pack_planes(const uint8_t *codes, size_t n, uint8_t *ret, size_t bytes)
{
	simd_c_pack_planes(codes, 0, n, ret, bytes);
}

static int32_t hamming(const uint8_t *row, const uint8_t *q, size_t bytes)
{
	int32_t s = 0;

	for (size_t i = 0; i < bytes; i++)
		s += __builtin_popcount(row[i] ^ q[i]);
	return s;
}

static int32_t dot_u1u4(const uint8_t *row, const uint8_t *planes, size_t bytes)
{
	int32_t s = 0;

	for (size_t p = 0; p < SIMD_PLANES; p++) {
		for (size_t i = 0; i < bytes; i++)
			s += __builtin_popcount(row[i] & planes[p * bytes + i]) << p;
	}
	return s;
}

static void hadamard_f32(float *v, const float *sign, size_t n)
{
	simd_c_hadamard_f32(v, sign, n);
}

/* --- the other shapes ------------------------------------------------------------ */
#define MANY(name, one, qtype, rtype, ret_type)                                                    \
	static void name(                                                                          \
		const qtype *q, size_t n, const rtype *const *rows, size_t count, ret_type *ret)   \
	{                                                                                          \
		for (size_t i = 0; i < count; i++)                                                 \
			ret[i] = one;                                                              \
	}

MANY(l2_f32_many, l2_f32(q, rows[i], n), float, float, float)
MANY(dot_f32_many, dot_f32(q, rows[i], n), float, float, float)
MANY(l2_f16_many, l2_f16(q, rows[i], n), float, uint16_t, float)
MANY(dot_f16_many, dot_f16(q, rows[i], n), float, uint16_t, float)
MANY(dot_u8i8_many, dot_u8i8(rows[i], q, n), int8_t, uint8_t, int32_t)
MANY(dot_u4i8_many, dot_u4i8(rows[i], q, n), int8_t, uint8_t, int32_t)
MANY(hamming_many, hamming(rows[i], q, n), uint8_t, uint8_t, int32_t)
MANY(dot_u1u4_many, dot_u1u4(rows[i], q, n), uint8_t, uint8_t, int32_t)

#define BLOCK(name, one, qtype, rtype, ret_type)                                                   \
	static void name(                                                                          \
		const struct simd_block *b, const qtype *qs, const rtype *rows, ret_type *ret)     \
	{                                                                                          \
		for (size_t i = 0; i < b->nq; i++) {                                               \
			for (size_t j = 0; j < b->nrows; j++) {                                    \
				const qtype *q = qs + i * b->q_stride;                             \
				const rtype *row = rows + j * b->row_stride;                       \
				ret[i * b->ret_stride + j] = one;                                  \
			}                                                                          \
		}                                                                                  \
	}

BLOCK(l2_f32_block, l2_f32(q, row, b->n), float, float, float)
BLOCK(dot_f32_block, dot_f32(q, row, b->n), float, float, float)
BLOCK(l2_f16_block, l2_f16(q, row, b->n), float, uint16_t, float)
BLOCK(dot_f16_block, dot_f16(q, row, b->n), float, uint16_t, float)
BLOCK(dot_u8i8_block, dot_u8i8(row, q, b->n), int8_t, uint8_t, int32_t)

const struct simd_kernels simd_scalar = {
	.name = "scalar",
	.l2_f32 = l2_f32,
	.dot_f32 = dot_f32,
	.dot_norm_f32 = dot_norm_f32,
	.l2_f32_many = l2_f32_many,
	.dot_f32_many = dot_f32_many,
	.l2_f32_block = l2_f32_block,
	.dot_f32_block = dot_f32_block,
	.f32_to_f16 = f32_to_f16,
	.f16_to_f32 = f16_to_f32,
	.l2_f16 = l2_f16,
	.dot_f16 = dot_f16,
	.l2_f16_many = l2_f16_many,
	.dot_f16_many = dot_f16_many,
	.l2_f16_block = l2_f16_block,
	.dot_f16_block = dot_f16_block,
	.dot_u8i8 = dot_u8i8,
	.dot_u8i8_many = dot_u8i8_many,
	.dot_u8i8_block = dot_u8i8_block,
	.join_u4 = join_u4,
	.quantise_f32 = quantise_f32,
	.max_abs_f32 = max_abs_f32,
	.quantise_u4_f32 = quantise_u4_f32,
	.pack_u4 = pack_u4,
	.dot_u4i8 = dot_u4i8,
	.dot_u4i8_many = dot_u4i8_many,
	.pack_signs = pack_signs,
	.pack_planes = pack_planes,
	.hamming = hamming,
	.hamming_many = hamming_many,
	.dot_u1u4 = dot_u1u4,
	.dot_u1u4_many = dot_u1u4_many,
	.hadamard_f32 = hadamard_f32,
};
