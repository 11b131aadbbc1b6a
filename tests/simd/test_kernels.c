/* Every table of kernels against the scalar one or the true sums, on inputs chosen to hurt: the
 * one-to-one kernels, quantising, the transform, and the choice of the table. */
#include "tests/simd/common.h"

static void check_floats_at(const struct simd_kernels *k, const float *a, const float *b, size_t n)
{
	struct truth l2 = true_l2(a, b, n), dot = true_dot(a, b, n), bb = true_dot(b, b, n);
	float norm;

	check_sum("l2", k, n, k->l2_f32(a, b, n), l2);
	check_sum("dot", k, n, k->dot_f32(a, b, n), dot);
	check_sum("dot_norm", k, n, k->dot_norm_f32(a, b, n, &norm), dot);
	check_sum("norm", k, n, norm, bb);
}

static void float_sums_stay_within_the_stated_bound(void **state)
{
	for (size_t i = 0; i < LENGTHS; i++) {
		size_t n = length_at(i);
		for (size_t shift = 0; shift < MISALIGN_MAX; shift++) {
			float *a = place_floats(*state, 0, n, shift);
			float *b = place_floats(*state, 1, n, (shift * 3) % MISALIGN_MAX);
			fill_floats(a, n, (int)shift % FLOAT_KINDS);
			fill_floats(b, n, (int)shift % FLOAT_KINDS);
			FOR_TABLES(k)
			{
				check_floats_at(k, a, b, n);
			}
		}
	}
}

static void integer_dot_is_exact(void **state)
{
	for (size_t i = 0; i < LENGTHS * CODE_KINDS; i++) {
		size_t n = length_at(i / CODE_KINDS);
		for (size_t shift = 0; shift < MISALIGN_MAX; shift++) {
			uint8_t *row = place_bytes(*state, 0, n, shift);
			int8_t *q = (int8_t *)place_bytes(*state, 1, n, (shift * 3) % MISALIGN_MAX);
			int32_t want = 0;
			fill_u8(row, n, (int)(i % CODE_KINDS));
			fill_i8(q, n, (int)(i % CODE_KINDS));
			for (size_t j = 0; j < n; j++)
				want += row[j] * q[j];
			FOR_TABLES(k)
			{
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
	const uint8_t *rows[2] = {row, row};
	int32_t got[2];

	(void)state;
	assert_true(row != NULL);
	assert_true(q != NULL);
	memset(row, 255, SIMD_CODE_MAX);
	for (int sign = 0; sign < 2; sign++) {
		memset(q, sign ? 127 : -128, SIMD_CODE_MAX);
		int64_t want = (int64_t)SIMD_CODE_MAX * 255 * (sign ? 127 : -128);
		FOR_TABLES(k)
		{
			assert_int_equal(k->dot_u8i8(row, q, SIMD_CODE_MAX), want);
			k->dot_u8i8_many(q, SIMD_CODE_MAX, rows, 2, got);
			assert_int_equal(got[0], want);
			assert_int_equal(got[1], want);
		}
	}
	free(row);
	free(q);
}

static void joining_two_halves_of_a_code_makes_it_a_question(void **state)
{
	FOR_TABLES(k)
	{
		for (size_t i = 0; i < LENGTHS; i++) {
			size_t n = VX_ALIGN_UP(length_at(i), (size_t)64);
			uint8_t *head = place_bytes(*state, 0, n / 2, 0);
			uint8_t *tail = place_bytes(*state, 1, n / 2, 0);
			int8_t *q = (int8_t *)place_bytes(*state, 2, n, 0);
			int32_t sum = 0;
			fill_u8(head, n / 2, 0);
			fill_u8(tail, n / 2, 0);
			int32_t got = k->join_u4(head, tail, n, q);
			for (size_t j = 0; j < n; j++) {
				size_t h = VX_MIN(n - j / 128 * 128, (size_t)128) / 2, at = j % 128;
				size_t b = j / 128 * 64 + at % h;
				int shift = at >= h ? 4 : 0;
				assert_int_equal(q[j], 16 * (head[b] >> shift & 15) +
							       (tail[b] >> shift & 15) - 128);
				sum += q[j];
			}
			assert_int_equal(got, sum);
		}
	}
}

static void quantising_rounds_to_nearest_and_clamps(void **state)
{
	FOR_TABLES(k)
	{
		for (size_t i = 0; i < LENGTHS; i++) {
			size_t n = length_at(i);
			float *x = place_floats(*state, 0, n, 0);
			int8_t *q = (int8_t *)place_bytes(*state, 1, n, 0);
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
	FOR_TABLES(k)
	{
		for (size_t i = 0; i < LENGTHS; i++) {
			size_t n = length_at(i);
			float *x = place_floats(*state, 0, n, 0);
			fill_floats(x, n, 0);
			if (n > 0)
				x[next_random() % n] = next_random() & 1 ? 7.5f : -7.5f;
			assert_true(k->max_abs_f32(x, n) == (n > 0 ? 7.5f : 0.0f));
		}
	}
}

/* --- the transform --------------------------------------------------------------- */
/* By its definition, in double: a stage for each bit of the index. */
static void true_hadamard(double *v, size_t n)
{
	for (size_t h = 1; h < n; h *= 2) {
		for (size_t i = 0; i < n; i++) {
			if (i & h)
				continue;
			double a = v[i], b = v[i + h];
			v[i] = a + b;
			v[i + h] = a - b;
		}
	}
	for (size_t i = 0; i < n; i++)
		v[i] /= sqrt((double)n);
}

static void hadamard_stays_within_the_stated_bound(void **state)
{
	enum { N_MAX = 8192 };
	double *want = malloc(N_MAX * sizeof *want);
	float *keep = malloc(N_MAX * sizeof *keep);

	assert_true(want != NULL);
	assert_true(keep != NULL);
	for (size_t n = 1, log = 0; n <= N_MAX; n *= 2, log++) {
		for (int kind = 0; kind < FLOAT_KINDS; kind++) {
			size_t shift = (size_t)kind;
			float *x = place_floats(*state, 0, n, shift);
			float *sign = place_floats(*state, 1, n, (shift * 3) % MISALIGN_MAX);
			double magnitude = 0;
			fill_floats(keep, n, kind);
			for (size_t j = 0; j < n; j++) {
				sign[j] = next_random() & 1 ? 1.0f : -1.0f;
				want[j] = (double)keep[j] * sign[j];
				magnitude += fabs(want[j]);
			}
			true_hadamard(want, n);
			double bound = ((double)log + 4) * 0x1p-24 * magnitude / sqrt((double)n) +
				       2 * (double)n * 0x1p-149;
			FOR_TABLES(k)
			{
				memcpy(x, keep, n * sizeof *x);
				k->hadamard_f32(x, sign, n);
				for (size_t j = 0; j < n; j++) {
					if (!(fabs((double)x[j] - want[j]) <= bound))
						fail_msg("%s n=%zu: %g, not %g +- %g", k->name, n,
							(double)x[j], want[j], bound);
				}
			}
		}
	}
	free(want);
	free(keep);
}

/* --- the choice -------------------------------------------------------------------- */
#if defined(__x86_64__)
/* Whether the kernel lists 'flag' for this CPU: not the probe that is tested here. */
static bool cpuinfo_has(const char *flag)
{
	FILE *in = fopen("/proc/cpuinfo", "r");
	char line[8192], *save, *word;
	bool found = false;

	if (!in)
		return false;
	while (!found && fgets(line, sizeof line, in)) {
		if (strncmp(line, "flags", 5) != 0)
			continue;
		for (word = strtok_r(line, " \t\n", &save); word;
			word = strtok_r(NULL, " \t\n", &save))
			found |= strcmp(word, flag) == 0;
		break;
	}
	fclose(in);
	return found;
}
#endif

/* A forgotten probe once cost a rival a factor of six: the choice itself is tested. */
static void best_kernels_of_this_cpu_are_chosen(void **state)
{
	const char *want = "scalar";

	(void)state;
#if defined(__x86_64__)
	if (cpuinfo_has("sse4_1"))
		want = "sse4";
	if (cpuinfo_has("avx2") && cpuinfo_has("fma") && cpuinfo_has("f16c"))
		want = "avx2";
	if (cpuinfo_has("avx512_vnni") && cpuinfo_has("avx512bw") && cpuinfo_has("avx512vl"))
		want = cpuinfo_has("avx512_vpopcntdq") ? "avx512" : "avx512-vnni";
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
	FOR_TABLES(k)
	{
		assert_string_equal(simd_best(k->name)->name, k->name);
	}
	assert_null(simd_by_name("no such thing"));
}

/* A member that a table forgot would be called as a null pointer. */
static void tables_are_complete(void **state)
{
	(void)state;
	FOR_TABLES(k)
	{
		void *slots[sizeof *k / sizeof(void *)];
		memcpy(slots, k, sizeof *k);
		for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
			assert_true(slots[i] != NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(float_sums_stay_within_the_stated_bound),
		cmocka_unit_test(integer_dot_is_exact),
		cmocka_unit_test(longest_integer_dot_is_exact),
		cmocka_unit_test(joining_two_halves_of_a_code_makes_it_a_question),
		cmocka_unit_test(quantising_rounds_to_nearest_and_clamps),
		cmocka_unit_test(largest_magnitude_is_found_anywhere),
		cmocka_unit_test(hadamard_stays_within_the_stated_bound),
		cmocka_unit_test(best_kernels_of_this_cpu_are_chosen),
		cmocka_unit_test(ceiling_is_never_exceeded),
		cmocka_unit_test(tables_are_complete),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
