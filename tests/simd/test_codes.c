/* 4-bit and 1-bit codes: packing, and exact sums that are computed here from the codes themselves,
 * not from any table. */
#include "tests/simd/common.h"

#define CANARY 0x5a5a5a5a

static void quantising_to_4_bits_rounds_and_clamps(void **state)
{
	struct fixture *f = *state;

	FOR_TABLES(k)
	{
		for (size_t i = 0; i < LENGTHS; i++) {
			size_t n = length_at(i);
			float *x = place_floats(f, 0, n, 0);
			uint8_t *c = place_bytes(f, 1, n, 0);
			int32_t sum = 0, got_sum = 1;
			int64_t sq = 0;
			fill_floats(x, n, 0);
			if (n > 4) {
				x[0] = NAN;
				x[1] = INFINITY;
				x[2] = -INFINITY;
				x[3] = 1e30f;
				x[4] = -1e30f;
			}
			int64_t got_sq = k->quantise_u4_f32(x, n, -0.9f, 8.0f, c, &got_sum);
			for (size_t j = 0; j < n; j++) {
				double want = isnan(x[j]) ? 0 : ((double)x[j] + (double)0.9f) * 8;
				want = want > 15 ? 15 : want < 0 ? 0 : want;
				assert_true(fabs(c[j] - want) <= 0.5 + 1e-5);
				sum += c[j];
				sq += c[j] * c[j];
			}
			assert_int_equal(got_sum, sum);
			assert_int_equal(got_sq, sq);
		}
	}
}

/* The place that simd.h gives to component i of n (padded to 64). */
static int nibble_at(const uint8_t *row, size_t i, size_t n)
{
	size_t piece = i / 128, j = i % 128, half = n - piece * 128 >= 128 ? 64 : 32;
	uint8_t byte = row[piece * 64 + j % half];

	return j < half ? byte & 15 : byte >> 4;
}

static void fill_u4(uint8_t *c, size_t n, int kind)
{
	fill_u8(c, n, kind);
	for (size_t i = 0; i < n; i++)
		c[i] &= 15;
}

static void packed_nibbles_are_where_the_header_says(void **state)
{
	struct fixture *f = *state;

	FOR_TABLES(k)
	{
		for (size_t i = 0; i < LENGTHS; i++) {
			size_t n = length_at(i), padded = SIMD_U4_TERMS(n);
			uint8_t *c = place_bytes(f, 0, n, 0);
			uint8_t *row = place_bytes(f, 1, SIMD_U4_BYTES(n), 0);
			assert_int_equal(SIMD_U4_BYTES(n) % 32, 0);
			fill_u4(c, n, 0);
			memset(row, 0x5a, SIMD_U4_BYTES(n));
			k->pack_u4(c, n, row);
			for (size_t j = 0; j < padded; j++)
				assert_int_equal(nibble_at(row, j, padded), j < n ? c[j] : 0);
		}
	}
}

/* 'count' packed rows of n 4-bit codes against a question, one by one and together. */
static void check_u4(struct fixture *f, size_t n, size_t count, size_t shift, int kind)
{
	size_t terms = SIMD_U4_TERMS(n), bytes = SIMD_U4_BYTES(n);
	const uint8_t *rows[COUNT_MAX];
	int32_t want[COUNT_MAX] = {0}, got[COUNT_MAX + 1];
	uint8_t *pile = malloc(COUNT_MAX * (bytes + 1) + 1), *codes = malloc(n + 1);
	int8_t *q = (int8_t *)place_bytes(f, 1, terms, shift);

	assert_true(pile != NULL);
	assert_true(codes != NULL);
	memset(q, 0, terms);
	fill_i8(q, n, kind);
	for (size_t i = 0; i < count; i++) {
		uint8_t *row = i + 1 == count ? place_bytes(f, 0, bytes, shift * 3)
					      : pile + i * (bytes + 1);
		fill_u4(codes, n, kind);
		table_at(0)->pack_u4(codes, n, row);
		rows[i] = row;
		for (size_t j = 0; j < n; j++)
			want[i] += codes[j] * q[j];
	}
	FOR_TABLES(k)
	{
		got[count] = CANARY;
		k->dot_u4i8_many(q, terms, rows, count, got);
		for (size_t i = 0; i < count; i++) {
			if (got[i] != want[i])
				fail_msg("%s n=%zu: %d, not %d", k->name, n, got[i], want[i]);
			assert_int_equal(k->dot_u4i8(rows[i], q, terms), want[i]);
		}
		assert_int_equal(got[count], CANARY);
	}
	free(pile);
	free(codes);
}

static void sums_of_4_bit_codes_are_exact(void **state)
{
	for (size_t i = 0; i < LENGTHS; i++) {
		for (int kind = 0; kind < CODE_KINDS; kind++)
			check_u4(*state, length_at(i), 1 + i % 11, i % MISALIGN_MAX, kind);
	}
	for (size_t count = 0; count <= COUNT_MAX; count++) {
		check_u4(*state, 64, count, 0, 0);
		check_u4(*state, 128, count, 1, 0);
		check_u4(*state, 300, count, 0, 0);
	}
	for (size_t n = 64; n <= 1024; n += 64)
		check_u4(*state, n, 9, 0, 1);
}

static void longest_4_bit_sum_is_exact(void **state)
{
	uint8_t *row = malloc(SIMD_CODE_MAX / 2);
	int8_t *q = malloc(SIMD_CODE_MAX);

	(void)state;
	assert_true(row != NULL);
	assert_true(q != NULL);
	memset(row, 0xff, SIMD_CODE_MAX / 2);
	memset(q, -128, SIMD_CODE_MAX);
	FOR_TABLES(k)
	{
		assert_int_equal(
			k->dot_u4i8(row, q, SIMD_CODE_MAX), (int64_t)SIMD_CODE_MAX * 15 * -128);
	}
	free(row);
	free(q);
}

/* --- bits ----------------------------------------------------------------------- */
static int bit_at(const uint8_t *row, size_t i)
{
	return row[i / 8] >> (i % 8) & 1;
}

static void signs_become_bits(void **state)
{
	struct fixture *f = *state;

	FOR_TABLES(k)
	{
		for (size_t i = 0; i < LENGTHS; i++) {
			size_t n = length_at(i), bytes = SIMD_U1_BYTES(n) + i % 9;
			float *x = place_floats(f, 0, n, i % MISALIGN_MAX);
			uint8_t *row = place_bytes(f, 1, bytes, 0);
			fill_floats(x, n, i % 2 ? 2 : 0);
			if (n > 2)
				x[next_random() % n] = NAN;
			memset(row, 0x5a, bytes);
			k->pack_signs(x, n, row, bytes);
			for (size_t j = 0; j < 8 * bytes; j++)
				assert_int_equal(bit_at(row, j), j < n ? x[j] > 0 : 0);
		}
	}
}

static void codes_become_planes(void **state)
{
	struct fixture *f = *state;

	FOR_TABLES(k)
	{
		for (size_t i = 0; i < LENGTHS; i++) {
			size_t n = length_at(i), bytes = SIMD_U1_BYTES(n) + i % 9;
			uint8_t *c = place_bytes(f, 0, n, i % MISALIGN_MAX);
			uint8_t *planes = place_bytes(f, 1, SIMD_PLANES * bytes, 0);
			fill_u4(c, n, 0);
			memset(planes, 0x5a, SIMD_PLANES * bytes);
			k->pack_planes(c, n, planes, bytes);
			for (size_t p = 0; p < SIMD_PLANES; p++) {
				for (size_t j = 0; j < 8 * bytes; j++)
					assert_int_equal(bit_at(planes + p * bytes, j),
						j < n ? c[j] >> p & 1 : 0);
			}
		}
	}
}

/* 'count' rows of 'bytes' bytes against a row of bits and against four planes. */
static void check_bits(struct fixture *f, size_t bytes, size_t count, size_t shift, int kind)
{
	const uint8_t *rows[COUNT_MAX];
	int32_t ham[COUNT_MAX] = {0}, dot[COUNT_MAX] = {0}, got[COUNT_MAX + 1];
	uint8_t *pile = malloc(COUNT_MAX * (bytes + 1) + 1);
	uint8_t *q = place_bytes(f, 1, bytes, shift);
	uint8_t *planes = place_bytes(f, 2, SIMD_PLANES * bytes, shift);

	assert_true(pile != NULL);
	fill_u8(q, bytes, kind);
	fill_u8(planes, SIMD_PLANES * bytes, kind == 2 ? 1 : kind);
	for (size_t i = 0; i < count; i++) {
		uint8_t *row = i + 1 == count ? place_bytes(f, 0, bytes, (shift * 3) % 7)
					      : pile + i * (bytes + 1);
		fill_u8(row, bytes, kind == 2 ? 1 : kind);
		rows[i] = row;
		for (size_t j = 0; j < 8 * bytes; j++) {
			ham[i] += bit_at(row, j) != bit_at(q, j);
			for (size_t p = 0; p < SIMD_PLANES; p++)
				dot[i] += (bit_at(row, j) & bit_at(planes + p * bytes, j)) << p;
		}
	}
	FOR_TABLES(k)
	{
		got[count] = CANARY;
		k->hamming_many(q, bytes, rows, count, got);
		for (size_t i = 0; i < count; i++) {
			assert_int_equal(got[i], ham[i]);
			assert_int_equal(k->hamming(rows[i], q, bytes), ham[i]);
		}
		assert_int_equal(got[count], CANARY);
		k->dot_u1u4_many(planes, bytes, rows, count, got);
		for (size_t i = 0; i < count; i++) {
			assert_int_equal(got[i], dot[i]);
			assert_int_equal(k->dot_u1u4(rows[i], planes, bytes), dot[i]);
		}
		assert_int_equal(got[count], CANARY);
	}
	free(pile);
}

static void sums_of_bits_are_exact(void **state)
{
	for (size_t i = 0; i < LENGTHS; i++) {
		size_t bytes = length_at(i) <= 384 ? length_at(i) : length_at(i) / 8;
		for (int kind = 0; kind < CODE_KINDS; kind++)
			check_bits(*state, bytes, 1 + i % 11, i % MISALIGN_MAX, kind);
	}
	for (size_t count = 0; count <= COUNT_MAX; count++) {
		check_bits(*state, 16, count, 0, 0);
		check_bits(*state, 96, count, 1, 0);
		check_bits(*state, 5, count, 0, 0);
	}
	check_bits(*state, SIMD_CODE_MAX / 8, 2, 0, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantising_to_4_bits_rounds_and_clamps),
		cmocka_unit_test(packed_nibbles_are_where_the_header_says),
		cmocka_unit_test(sums_of_4_bit_codes_are_exact),
		cmocka_unit_test(longest_4_bit_sum_is_exact),
		cmocka_unit_test(signs_become_bits),
		cmocka_unit_test(codes_become_planes),
		cmocka_unit_test(sums_of_bits_are_exact),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
