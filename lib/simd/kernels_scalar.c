/* kernels_scalar.c - the specification that every other table is tested against. */
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

static void dot_u8i8_many(
	const int8_t *q, size_t n, const uint8_t *const *rows, size_t count, int32_t *ret)
{
	for (size_t i = 0; i < count; i++)
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

const struct simd_kernels simd_scalar = {
	.name = "scalar",
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
