/* Halves: conversion both ways is exactly IEEE's, and distances to rows of halves are those to
 * the floats they stand for. */
#include "tests/simd/common.h"

#define HALVES 65536u

static double half_value(uint32_t h)
{
	double m = h & 0x3ff, sign = h & 0x8000 ? -1 : 1;
	int e = h >> 10 & 0x1f;

	return sign * (e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25));
}

static void widening_is_exact_for_every_half(void **state)
{
	uint16_t *h = malloc(HALVES * sizeof *h);
	float *v = malloc(HALVES * sizeof *v);

	(void)state;
	assert_true(h != NULL);
	assert_true(v != NULL);
	for (uint32_t i = 0; i < HALVES; i++)
		h[i] = (uint16_t)i;
	FOR_TABLES(k)
	{
		memset(v, 0x5a, HALVES * sizeof *v);
		k->f16_to_f32(h, HALVES, v);
		for (uint32_t i = 0; i < HALVES; i++) {
			if ((i & 0x7c00) != 0x7c00)
				assert_true((double)v[i] == half_value(i));
			else if (i & 0x3ff)
				assert_true(isnan(v[i]));
			else
				assert_true(isinf(v[i]));
			if (!isnan(v[i]))
				assert_int_equal(signbit(v[i]) != 0, i >> 15);
		}
	}
	free(h);
	free(v);
}

/* For each half its value, the point halfway to the next one, and the floats beside both. */
static void narrowing_rounds_to_nearest_even_everywhere(void **state)
{
	enum { PER = 6, FINITE = 0x7c00 };
	float *v = malloc(PER * FINITE * sizeof *v);
	uint16_t *want = malloc(PER * FINITE * sizeof *want),
		 *got = malloc(PER * FINITE * sizeof *got);

	(void)state;
	assert_true(v != NULL);
	assert_true(want != NULL);
	assert_true(got != NULL);
	for (int negative = 0; negative < 2; negative++) {
		for (uint32_t h = 0; h < FINITE; h++) {
			/* What lies above the largest half rounds as if one more power of two did. */
			float x = (float)half_value(h);
			float next = h + 1 == FINITE ? 65536.0f : (float)half_value(h + 1);
			float mid = (x + next) / 2;
			const float values[PER] = {x, nextafterf(x, next), nextafterf(mid, x), mid,
				nextafterf(mid, next), nextafterf(next, x)};
			for (uint32_t j = 0; j < PER; j++) {
				bool up = j > 3 || (j == 3 && (h & 1));
				v[h * PER + j] = negative ? -values[j] : values[j];
				want[h * PER + j] = (uint16_t)((h + up) | (uint32_t)negative << 15);
			}
		}
		FOR_TABLES(k)
		{
			memset(got, 0x5a, PER * FINITE * sizeof *got);
			k->f32_to_f16(v, PER * FINITE, got);
			for (uint32_t i = 0; i < PER * FINITE; i++) {
				if (got[i] != want[i])
					fail_msg("%s: %.9g becomes %04x, not %04x", k->name,
						(double)v[i], got[i], want[i]);
			}
		}
	}
	free(v);
	free(want);
	free(got);
}

static void narrowing_of_extremes(void **state)
{
	const float v[] = {1e-45f, -1e-45f, 1e-38f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN,
		65536.0f, 1e5f, 0.0f, -0.0f, 0x1p-25f, 0x1.000002p-25f, 65519.99f, 65520.0f};
	const uint16_t want[] = {0, 0x8000, 0, 0x7c00, 0xfc00, 0x7c00, 0xfc00, 0, 0x7c00, 0x7c00, 0,
		0x8000, 0, 1, 0x7bff, 0x7c00};
	uint16_t got[16 + 1];

	(void)state;
	FOR_TABLES(k)
	{
		/* From every place in a register, and alone. */
		for (size_t from = 0; from < 16; from++) {
			got[16] = 0x5a5a;
			k->f32_to_f16(v + from, 16 - from, got + from);
			for (size_t i = from; i < 16; i++) {
				if (isnan(v[i]))
					assert_true((got[i] & 0x7fff) > 0x7c00);
				else
					assert_int_equal(got[i], want[i]);
			}
			assert_int_equal(got[16], 0x5a5a);
		}
	}
}

static void conversions_stay_within_their_operands(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < LENGTHS; i++) {
		size_t n = length_at(i);
		for (size_t shift = 0; shift < MISALIGN_MAX; shift++) {
			float *x = place_floats(f, 0, n, shift), *y = place_floats(f, 1, n, 0);
			uint16_t *h = place_halves(f, 2, n, (shift * 3) % MISALIGN_MAX);
			fill_floats(x, n, 0);
			FOR_TABLES(k)
			{
				k->f32_to_f16(x, n, h);
				k->f16_to_f32(h, n, y);
				for (size_t j = 0; j < n; j++)
					assert_true(fabsf(x[j] - y[j]) <= 0x1p-12f);
			}
		}
	}
}

static void sums_over_halves_stay_within_the_stated_bound(void **state)
{
	struct fixture *f = *state;
	static float wide[LENGTH_MAX];

	for (size_t i = 0; i < LENGTHS; i++) {
		size_t n = length_at(i);
		for (size_t shift = 0; shift < MISALIGN_MAX; shift++) {
			float *q = place_floats(f, 0, n, shift);
			uint16_t *h = place_halves(f, 1, n, (shift * 3) % MISALIGN_MAX);
			fill_floats(q, n, (int)shift % FLOAT_KINDS);
			for (size_t j = 0; j < n; j++) {
				/* Every finite half, subnormals among them. */
				h[j] = (uint16_t)(next_random() >> 20);
				if ((h[j] & 0x7c00) == 0x7c00)
					h[j] ^= 0x4000;
				wide[j] = (float)half_value(h[j]);
			}
			FOR_TABLES(k)
			{
				check_sum("l2_f16", k, n, k->l2_f16(q, h, n), true_l2(q, wide, n));
				check_sum(
					"dot_f16", k, n, k->dot_f16(q, h, n), true_dot(q, wide, n));
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(widening_is_exact_for_every_half),
		cmocka_unit_test(narrowing_rounds_to_nearest_even_everywhere),
		cmocka_unit_test(narrowing_of_extremes),
		cmocka_unit_test(conversions_stay_within_their_operands),
		cmocka_unit_test(sums_over_halves_stay_within_the_stated_bound),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
