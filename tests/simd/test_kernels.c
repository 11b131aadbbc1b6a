/* Every table of kernels against the scalar one, on inputs chosen to hurt: every short length,
 * the lengths of real embeddings, misaligned operands, operands that end where the next
 * page cannot be read, and the extremes of each type. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "simd/simd.h"

static const char *const names[] = {"scalar", "neon", "sse4", "avx2", "avx512"};
static uint64_t rng;

static uint64_t next_random(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static float random_float(void)
{
	return (float)((double)(next_random() >> 11) * 0x1p-52 - 1.0);
}

static const size_t long_lengths[] = {96, 100, 128, 200, 256, 384, 512, 768, 784, 960, 1024, 1536};
#define SHORT_MAX    67u
#define LENGTHS      (SHORT_MAX + 1 + sizeof long_lengths / sizeof *long_lengths)
#define LENGTH_MAX   1536u
#define AREA_PAGES   4u
#define MISALIGN_MAX 5u

static size_t length_at(size_t i)
{
	return i <= SHORT_MAX ? i : long_lengths[i - SHORT_MAX - 1];
}

/* Memory that ends at a page which cannot be touched. */
struct area {
	uint8_t *map, *end;
	size_t size;
};

static void area_init(struct area *a)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	a->size = (AREA_PAGES + 1) * page;
	a->map = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(a->map != MAP_FAILED);
	a->end = a->map + AREA_PAGES * page;
	assert_int_equal(mprotect(a->end, page, PROT_NONE), 0);
}

static void area_release(struct area *a)
{
	munmap(a->map, a->size);
}

struct fixture {
	struct area a, b, c;
};

static int setup(void **state)
{
	const char *seed = getenv("SEED");
	struct fixture *f = calloc(1, sizeof *f);

	rng = seed ? strtoull(seed, NULL, 0) : 20240611;
	print_message("SEED=%llu\n", (unsigned long long)rng);
	area_init(&f->a);
	area_init(&f->b);
	area_init(&f->c);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	area_release(&f->a);
	area_release(&f->b);
	area_release(&f->c);
	free(f);
	return 0;
}

/* The true sums, and the bound that the header promises for n terms. */
static void check_float(const char *what, const struct simd_kernels *k, size_t n, float got,
	double want, double magnitude)
{
	double bound = ((double)n + 2) * (0x1p-24 * magnitude + 0x1p-126);

	if (!(fabs((double)got - want) <= bound))
		fail_msg("%s %s n=%zu: %.9g, want %.9g +- %.3g", k->name, what, n, (double)got,
			want, bound);
}

static void check_floats_at(const struct simd_kernels *k, const float *a, const float *b, size_t n)
{
	double l2 = 0, dot = 0, dot_mag = 0, bb = 0;
	float norm;

	for (size_t i = 0; i < n; i++) {
		/* The kernels subtract in float: that rounding is part of each term. */
		double d = (double)(a[i] - b[i]);
		l2 += d * d;
		dot += (double)a[i] * b[i];
		dot_mag += fabs((double)a[i] * b[i]);
		bb += (double)b[i] * b[i];
	}
	check_float("l2", k, n, k->l2_f32(a, b, n), l2, l2);
	check_float("dot", k, n, k->dot_f32(a, b, n), dot, dot_mag);
	check_float("dot_norm", k, n, k->dot_norm_f32(a, b, n, &norm), dot, dot_mag);
	check_float("norm", k, n, norm, bb, bb);
}

/* Floats that end at the guard page, moved down by 'shift' elements. */
static float *place_floats(struct area *a, size_t n, size_t shift)
{
	return (float *)(void *)a->end - n - shift;
}

static void float_sums_stay_within_the_stated_bound(void **state)
{
	struct fixture *f = *state;

	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		const struct simd_kernels *k = simd_by_name(names[v]);
		for (size_t i = 0; k && i < LENGTHS; i++) {
			size_t n = length_at(i);
			for (size_t shift = 0; shift < MISALIGN_MAX; shift++) {
				float *a = place_floats(&f->a, n, shift);
				float *b = place_floats(&f->b, n, (shift * 3) % MISALIGN_MAX);
				for (size_t j = 0; j < n; j++) {
					a[j] = random_float() * (j % 7 == 0 ? 1e6f : 1.0f);
					b[j] = random_float() * (j % 5 == 0 ? 1e-6f : 1.0f);
				}
				check_floats_at(k, a, b, n);
			}
		}
	}
}

static void float_sums_survive_extremes(void **state)
{
	static const float values[] = {0.0f, -0.0f, 1e17f, -1e17f, 1e-30f, 1e-45f, 1.0f};
	struct fixture *f = *state;

	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		const struct simd_kernels *k = simd_by_name(names[v]);
		for (size_t i = 0; k && i < LENGTHS; i++) {
			size_t n = length_at(i);
			float *a = place_floats(&f->a, n, 0), *b = place_floats(&f->b, n, 0);
			for (size_t j = 0; j < n; j++) {
				a[j] = values[next_random() % 7];
				b[j] = values[next_random() % 7];
			}
			check_floats_at(k, a, b, n);
		}
	}
}

static void fill_codes(uint8_t *row, int8_t *q, size_t n, int mode)
{
	for (size_t j = 0; j < n; j++) {
		uint64_t r = next_random();
		row[j] = mode == 0 ? (uint8_t)r : mode == 1 ? 255 : mode == 2 ? 0 : 255 * (r & 1);
		q[j] = mode == 0   ? (int8_t)(r >> 8)
		       : mode == 1 ? 127
		       : mode == 2 ? -128
				   : (r & 2 ? 127 : -128);
	}
}

static void integer_dot_is_exact(void **state)
{
	struct fixture *f = *state;

	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		const struct simd_kernels *k = simd_by_name(names[v]);
		for (size_t i = 0; k && i < LENGTHS * 4; i++) {
			size_t n = length_at(i / 4);
			for (size_t shift = 0; shift < MISALIGN_MAX; shift++) {
				uint8_t *row = f->a.end - n - shift;
				int8_t *q = (int8_t *)f->b.end - n - (shift * 3) % MISALIGN_MAX;
				fill_codes(row, q, n, (int)(i % 4));
				int32_t want = simd_by_name("scalar")->dot_u8i8(row, q, n);
				int32_t got = k->dot_u8i8(row, q, n);
				if (got != want)
					fail_msg("%s n=%zu: %d, want %d", k->name, n, got, want);
			}
		}
	}
}

/* The longest code of all, at both ends of its range, does not overflow. */
static void longest_integer_dot_is_exact(void **state)
{
	uint8_t *row = malloc(SIMD_CODE_MAX);
	int8_t *q = malloc(SIMD_CODE_MAX);

	(void)state;
	memset(row, 255, SIMD_CODE_MAX);
	for (int sign = 0; sign < 2; sign++) {
		memset(q, sign ? 127 : -128, SIMD_CODE_MAX);
		int64_t want = (int64_t)SIMD_CODE_MAX * 255 * (sign ? 127 : -128);
		for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
			const struct simd_kernels *k = simd_by_name(names[v]);
			if (k)
				assert_int_equal(k->dot_u8i8(row, q, SIMD_CODE_MAX), want);
		}
	}
	free(row);
	free(q);
}

static void many_rows_equal_single_rows(void **state)
{
	enum { ROWS = 37 };
	struct fixture *f = *state;
	const uint8_t *rows[ROWS];
	uint8_t *pile = malloc((size_t)ROWS * LENGTH_MAX);
	int32_t got[ROWS + 1];

	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		const struct simd_kernels *k = simd_by_name(names[v]);
		for (size_t i = 0; k && i < LENGTHS; i++) {
			size_t n = length_at(i), count = i % (ROWS + 1);
			int8_t *q = (int8_t *)f->b.end - n;
			for (size_t j = 0; j < count; j++) {
				/* The last row ends at the guard page. */
				uint8_t *row = j + 1 == count ? f->a.end - n : pile + j * n;
				fill_codes(row, q, n, 0);
				rows[j] = row;
			}
			got[count] = 0x5a5a5a5a;
			k->dot_u8i8_many(q, n, rows, count, got);
			for (size_t j = 0; j < count; j++)
				assert_int_equal(
					got[j], simd_by_name("scalar")->dot_u8i8(rows[j], q, n));
			assert_int_equal(got[count], 0x5a5a5a5a);
		}
	}
	free(pile);
}

static void flipping_a_code_makes_it_a_question(void **state)
{
	struct fixture *f = *state;

	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		const struct simd_kernels *k = simd_by_name(names[v]);
		for (size_t i = 0; k && i < LENGTHS; i++) {
			size_t n = length_at(i);
			uint8_t *row = f->a.end - n;
			int8_t *q = (int8_t *)f->b.end - n;
			int32_t sum = 0;
			fill_codes(row, q, n, 0);
			int32_t got = k->flip_u8(row, q, n);
			for (size_t j = 0; j < n; j++) {
				assert_int_equal(q[j], row[j] - 128);
				sum += q[j];
			}
			assert_int_equal(got, sum);
		}
	}
}

static void quantising_rounds_to_nearest_and_clamps(void **state)
{
	struct fixture *f = *state;

	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		const struct simd_kernels *k = simd_by_name(names[v]);
		for (size_t i = 0; k && i < LENGTHS; i++) {
			size_t n = length_at(i);
			float *x = place_floats(&f->a, n, 0);
			int8_t *q = (int8_t *)f->b.end - n;
			int32_t sum = 0, got_sum = 1;
			int64_t sq = 0;
			for (size_t j = 0; j < n; j++)
				x[j] = random_float() * 3.0f;
			if (n > 3) {
				x[0] = NAN;
				x[1] = INFINITY;
				x[2] = -1e30f;
			}
			int64_t got_sq = k->quantise_f32(x, n, 50.0f, q, &got_sum);
			for (size_t j = 0; j < n; j++) {
				double want = isnan(x[j]) ? 0.0 : (double)(x[j] * 50.0f);
				want = want > 127 ? 127 : want < -127 ? -127 : want;
				assert_true(fabs(q[j] - want) <= 0.5);
				sum += q[j];
				sq += q[j] * q[j];
			}
			assert_int_equal(got_sum, sum);
			assert_int_equal(got_sq, sq);
		}
	}
}

static void largest_magnitude_is_found_anywhere(void **state)
{
	struct fixture *f = *state;

	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		const struct simd_kernels *k = simd_by_name(names[v]);
		for (size_t i = 0; k && i < LENGTHS; i++) {
			size_t n = length_at(i);
			float *x = place_floats(&f->a, n, 0);
			for (size_t j = 0; j < n; j++)
				x[j] = random_float();
			if (n > 0)
				x[next_random() % n] = next_random() & 1 ? 7.5f : -7.5f;
			assert_true(k->max_abs_f32(x, n) == (n > 0 ? 7.5f : 0.0f));
		}
	}
}

/* The transform keeps lengths, and twice the transform without signs is the identity. */
static void hadamard_is_orthogonal(void **state)
{
	struct fixture *f = *state;
	float sign[1024], ones[1024];

	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		const struct simd_kernels *k = simd_by_name(names[v]);
		for (size_t n = 1; k && n <= 1024; n *= 2) {
			float *x = place_floats(&f->a, n, 0), *y = place_floats(&f->b, n, 0);
			for (size_t j = 0; j < n; j++) {
				x[j] = y[j] = random_float();
				ones[j] = 1.0f;
				sign[j] = next_random() & 1 ? 1.0f : -1.0f;
			}
			float before = k->dot_f32(x, x, n);
			k->hadamard_f32(x, sign, n);
			assert_true(fabsf(k->dot_f32(x, x, n) - before) <= 1e-4f * before);
			k->hadamard_f32(x, ones, n);
			for (size_t j = 0; j < n; j++)
				assert_true(fabsf(x[j] - y[j] * sign[j]) < 1e-5f);
		}
	}
}

/* A forgotten probe once cost a rival a factor of six: the choice itself is tested. */
static void best_kernels_of_this_cpu_are_chosen(void **state)
{
	const char *want = "scalar";

	(void)state;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.1"))
		want = "sse4";
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		want = "avx2";
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
		__builtin_cpu_supports("avx512vnni"))
		want = "avx512";
#elif defined(__aarch64__)
	want = "neon";
#endif
	assert_string_equal(simd_best(NULL)->name, want);
	assert_string_equal(simd_active()->name, simd_best(getenv("VECFS_SIMD"))->name);
}

static void ceiling_is_never_exceeded(void **state)
{
	(void)state;
	assert_string_equal(simd_best("scalar")->name, "scalar");
	assert_string_equal(simd_best("no such thing")->name, simd_best(NULL)->name);
	for (size_t v = 0; v < sizeof names / sizeof *names; v++) {
		if (simd_by_name(names[v]))
			assert_string_equal(simd_best(names[v])->name, names[v]);
	}
	assert_null(simd_by_name("no such thing"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(float_sums_stay_within_the_stated_bound),
		cmocka_unit_test(float_sums_survive_extremes),
		cmocka_unit_test(integer_dot_is_exact),
		cmocka_unit_test(longest_integer_dot_is_exact),
		cmocka_unit_test(many_rows_equal_single_rows),
		cmocka_unit_test(flipping_a_code_makes_it_a_question),
		cmocka_unit_test(quantising_rounds_to_nearest_and_clamps),
		cmocka_unit_test(largest_magnitude_is_found_anywhere),
		cmocka_unit_test(hadamard_is_orthogonal),
		cmocka_unit_test(best_kernels_of_this_cpu_are_chosen),
		cmocka_unit_test(ceiling_is_never_exceeded),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
