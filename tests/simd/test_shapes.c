/* The many-row and block shapes of every table: each value keeps the promise of the one-to-one
 * kernel, for every count, at guard pages, with strides, and nothing else is written. */
#include "tests/simd/common.h"

#define CANARY 0x5a5a5a5a

/* Rows anywhere: each at an odd place, the last one at the guard page. */
struct pile {
	float *f32[COUNT_MAX];
	uint16_t *f16[COUNT_MAX];
	float *wide[COUNT_MAX]; /* f16, widened */
	uint8_t *bytes, *bytes_end;
};

static void pile_init(struct pile *p, size_t n, size_t count, struct fixture *f, int kind)
{
	size_t row = (n + 3) * (sizeof(float) + sizeof(uint16_t) + sizeof(float));

	p->bytes = malloc(COUNT_MAX * row + 64);
	assert_true(p->bytes != NULL);
	uint8_t *at = p->bytes;
	for (size_t i = 0; i < count; i++) {
		bool last = i + 1 == count;
		p->wide[i] = (float *)(void *)at;
		at += (n + 1) * sizeof(float);
		p->f32[i] = last ? place_floats(f, 0, n, 0) : (float *)(void *)at;
		at += (n + 1) * sizeof(float);
		p->f16[i] = last ? place_halves(f, 1, n, 0) : (uint16_t *)(void *)at;
		at += (n + 2) / 2 * 2 * sizeof(uint16_t);
		fill_floats(p->f32[i], n, kind);
		/* Halves of values that halves can hold. */
		fill_floats(p->wide[i], n, 0);
		table_at(0)->f32_to_f16(p->wide[i], n, p->f16[i]);
		table_at(0)->f16_to_f32(p->f16[i], n, p->wide[i]);
	}
}

static void check_many(struct fixture *f, size_t n, size_t count, int kind)
{
	float *q = place_floats(f, 2, n, 0), got[4][COUNT_MAX + 1];
	struct truth want[4][COUNT_MAX];
	static const char *const what[] = {
		"l2_f32_many", "dot_f32_many", "l2_f16_many", "dot_f16_many"};
	struct pile p;

	pile_init(&p, n, count, f, kind);
	fill_floats(q, n, kind);
	for (size_t i = 0; i < count; i++) {
		want[0][i] = true_l2(q, p.f32[i], n);
		want[1][i] = true_dot(q, p.f32[i], n);
		want[2][i] = true_l2(q, p.wide[i], n);
		want[3][i] = true_dot(q, p.wide[i], n);
	}
	FOR_TABLES(k)
	{
		for (size_t t = 0; t < 4; t++)
			got[t][count] = (float)CANARY;
		k->l2_f32_many(q, n, (const float *const *)p.f32, count, got[0]);
		k->dot_f32_many(q, n, (const float *const *)p.f32, count, got[1]);
		k->l2_f16_many(q, n, (const uint16_t *const *)p.f16, count, got[2]);
		k->dot_f16_many(q, n, (const uint16_t *const *)p.f16, count, got[3]);
		for (size_t t = 0; t < 4; t++) {
			for (size_t i = 0; i < count; i++)
				check_sum(what[t], k, n, got[t][i], want[t][i]);
			assert_true(got[t][count] == (float)CANARY);
		}
	}
	free(p.bytes);
}

static void many_float_rows_are_each_within_the_bound(void **state)
{
	for (size_t i = 0; i < LENGTHS; i++)
		check_many(*state, length_at(i), i % 13, (int)(i % FLOAT_KINDS));
}

static void every_count_of_float_rows_is_right(void **state)
{
	static const size_t lengths[] = {0, 1, 16, 31, 64, 100};

	for (size_t count = 0; count <= COUNT_MAX; count++) {
		for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
			check_many(*state, lengths[i], count, 0);
	}
}

static void check_u8_many(struct fixture *f, size_t n, size_t count, int kind)
{
	const uint8_t *rows[COUNT_MAX];
	int32_t got[COUNT_MAX + 1], want[COUNT_MAX];
	uint8_t *pile = malloc(COUNT_MAX * (n + 1) + 1);
	int8_t *q = (int8_t *)place_bytes(f, 1, n, 0);

	assert_true(pile != NULL);
	fill_i8(q, n, kind);
	for (size_t i = 0; i < count; i++) {
		uint8_t *row = i + 1 == count ? place_bytes(f, 0, n, 0) : pile + i * (n + 1);
		fill_u8(row, n, kind);
		rows[i] = row;
		want[i] = table_at(0)->dot_u8i8(row, q, n);
	}
	FOR_TABLES(k)
	{
		got[count] = CANARY;
		k->dot_u8i8_many(q, n, rows, count, got);
		for (size_t i = 0; i < count; i++)
			assert_int_equal(got[i], want[i]);
		assert_int_equal(got[count], CANARY);
	}
	free(pile);
}

static void many_8_bit_rows_equal_single_rows(void **state)
{
	for (size_t i = 0; i < LENGTHS * CODE_KINDS; i++)
		check_u8_many(*state, length_at(i / CODE_KINDS), i % (COUNT_MAX + 1),
			(int)(i % CODE_KINDS));
	for (size_t count = 0; count <= COUNT_MAX; count++) {
		check_u8_many(*state, 64, count, 0);
		check_u8_many(*state, 128, count, 0);
		check_u8_many(*state, 77, count, 0);
	}
}

/* --- blocks ---------------------------------------------------------------------- */
/* All questions and rows lie with strides of their own and end at guard pages, when they fit there. */
static void *operand(struct fixture *f, int area, size_t bytes, void **heap)
{
	*heap = NULL;
	if (bytes <= AREA_BYTES)
		return place_bytes(f, area, bytes, 0);
	*heap = malloc(bytes);
	assert_true(*heap != NULL);
	return *heap;
}

static size_t extent(size_t count, size_t stride, size_t n)
{
	return count ? (count - 1) * stride + n : 0;
}

static void check_float_block(struct fixture *f, struct simd_block b, int kind)
{
	size_t nq_floats = extent(b.nq, b.q_stride, b.n);
	size_t nrow_floats = extent(b.nrows, b.row_stride, b.n);
	size_t nret = b.nq * b.ret_stride;
	void *heap[3];
	float *qs = operand(f, 0, nq_floats * sizeof *qs, &heap[0]);
	float *rows = operand(f, 1, nrow_floats * sizeof *rows, &heap[1]);
	uint16_t *halves = operand(f, 2, nrow_floats * sizeof *halves, &heap[2]);
	float *wide = malloc(nrow_floats * sizeof *wide + 1), *got = malloc(nret * sizeof *got + 1);

	assert_true(wide != NULL);
	assert_true(got != NULL);
	fill_floats(qs, nq_floats, kind);
	fill_floats(rows, nrow_floats, kind);
	fill_floats(wide, nrow_floats, 0);
	table_at(0)->f32_to_f16(wide, nrow_floats, halves);
	table_at(0)->f16_to_f32(halves, nrow_floats, wide);
	FOR_TABLES(k)
	{
		for (int t = 0; t < 4; t++) {
			const float *r = t < 2 ? rows : wide;
			memset(got, 0x5a, nret * sizeof *got);
			if (t == 0)
				k->l2_f32_block(&b, qs, rows, got);
			else if (t == 1)
				k->dot_f32_block(&b, qs, rows, got);
			else if (t == 2)
				k->l2_f16_block(&b, qs, halves, got);
			else
				k->dot_f16_block(&b, qs, halves, got);
			for (size_t i = 0; i < b.nq; i++) {
				const float *q = qs + i * b.q_stride;
				for (size_t j = 0; j < b.nrows; j++) {
					const float *row = r + j * b.row_stride;
					check_sum(t % 2 ? "dot_block" : "l2_block", k, b.n,
						got[i * b.ret_stride + j],
						t % 2 ? true_dot(q, row, b.n)
						      : true_l2(q, row, b.n));
				}
				for (size_t j = b.nrows; j < b.ret_stride; j++) {
					uint32_t u;
					memcpy(&u, got + i * b.ret_stride + j, sizeof u);
					assert_int_equal(u, CANARY);
				}
			}
		}
	}
	for (int i = 0; i < 3; i++)
		free(heap[i]);
	free(wide);
	free(got);
}

static void check_u8_block(struct fixture *f, struct simd_block b, int kind)
{
	size_t nq_bytes = extent(b.nq, b.q_stride, b.n);
	size_t nrow_bytes = extent(b.nrows, b.row_stride, b.n);
	size_t nret = b.nq * b.ret_stride;
	void *heap[2];
	int8_t *qs = operand(f, 0, nq_bytes, &heap[0]);
	uint8_t *rows = operand(f, 1, nrow_bytes, &heap[1]);
	int32_t *got = malloc(nret * sizeof *got + 1);

	assert_true(got != NULL);
	fill_i8(qs, nq_bytes, kind);
	fill_u8(rows, nrow_bytes, kind);
	FOR_TABLES(k)
	{
		memset(got, 0x5a, nret * sizeof *got);
		k->dot_u8i8_block(&b, qs, rows, got);
		for (size_t i = 0; i < b.nq; i++) {
			for (size_t j = 0; j < b.ret_stride; j++) {
				int32_t want = CANARY;
				if (j < b.nrows)
					want = table_at(0)->dot_u8i8(
						rows + j * b.row_stride, qs + i * b.q_stride, b.n);
				assert_int_equal(got[i * b.ret_stride + j], want);
			}
		}
	}
	free(heap[0]);
	free(heap[1]);
	free(got);
}

static struct simd_block shape(size_t n, size_t nq, size_t nrows, size_t slack)
{
	return (struct simd_block){.n = n,
		.nq = nq,
		.q_stride = n + slack,
		.nrows = nrows,
		.row_stride = n + 2 * slack,
		.ret_stride = nrows + slack};
}

static void blocks_are_right_for_every_length(void **state)
{
	for (size_t i = 0; i < LENGTHS; i++) {
		struct simd_block b = shape(length_at(i), 1 + i % 7, 1 + i % 6, i % 3);
		check_float_block(*state, b, (int)(i % FLOAT_KINDS));
		check_u8_block(*state, b, (int)(i % CODE_KINDS));
	}
}

static void blocks_are_right_for_every_edge(void **state)
{
	for (size_t nq = 0; nq <= 13; nq++) {
		for (size_t nrows = 0; nrows <= 17; nrows++) {
			check_float_block(*state, shape(19, nq, nrows, nq % 2), 0);
			check_u8_block(*state, shape(67, nq, nrows, nrows % 2), 0);
		}
	}
}

/* More questions and rows than are kept in a cache at a time. */
static void blocks_larger_than_a_cache_are_right(void **state)
{
	check_float_block(*state, shape(768, 95, 50, 1), 0);
	check_u8_block(*state, shape(1025, 14, 139, 1), 3);
}

/* One value that is not finite, anywhere, is never lost. */
static void what_is_not_finite_stays_so(void **state)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};
	struct fixture *f = *state;
	float got[4];

	for (size_t i = 1; i < LENGTHS; i++) {
		size_t n = length_at(i), at = next_random() % n;
		float *a = place_floats(f, 0, n, 0), *b = place_floats(f, 1, n, 0);
		uint16_t *h = place_halves(f, 2, n, 0);
		const float *rows[3] = {b, b, b};
		fill_floats(a, n, 0);
		for (size_t j = 0; j < n; j++)
			b[j] = 1.0f + random_float() / 4; /* never 0, which would make inf a NaN */
		a[at] = bad[i % 3];
		table_at(0)->f32_to_f16(b, n, h);
		FOR_TABLES(k)
		{
			assert_true(!isfinite(k->l2_f32(a, b, n)));
			assert_true(!isfinite(k->dot_f32(a, b, n)));
			assert_true(!isfinite(k->l2_f16(a, h, n)));
			assert_true(!isfinite(k->dot_f16(a, h, n)));
			k->l2_f32_many(a, n, rows, 3, got);
			assert_true(!isfinite(got[0]));
			assert_true(!isfinite(got[2]));
			h[0] = 0x7c00;
			assert_true(!isfinite(k->l2_f16(b, h, n)));
			table_at(0)->f32_to_f16(b, 1, h);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_float_rows_are_each_within_the_bound),
		cmocka_unit_test(every_count_of_float_rows_is_right),
		cmocka_unit_test(many_8_bit_rows_equal_single_rows),
		cmocka_unit_test(blocks_are_right_for_every_length),
		cmocka_unit_test(blocks_are_right_for_every_edge),
		cmocka_unit_test(blocks_larger_than_a_cache_are_right),
		cmocka_unit_test(what_is_not_finite_stays_so),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
