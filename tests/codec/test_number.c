/* Numbers in and out: to the bit, and shortest. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "codec/codec_i.h"

static uint64_t rng;

static uint64_t next(void)
{
	uint64_t z = rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static int seed(void **state)
{
	const char *s = getenv("SEED");

	(void)state;
	rng = s ? strtoull(s, NULL, 0) : (uint64_t)time(NULL);
	printf("SEED=%llu\n", (unsigned long long)rng);
	return 0;
}

static float of_bits(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof f);
	return f;
}

static bool same(float a, float b)
{
	return !memcmp(&a, &b, sizeof a);
}

static void check_scan_before(const char *s, size_t n, const char *rest)
{
	static char text[1 << 10];
	const char *end;
	float got = 0, want = (float)strtod(s, NULL);

	assert_true(n + strlen(rest) < sizeof text);
	memcpy(text, s, n);
	strcpy(text + n, rest);
	enum number_result r = number_scan(text, text + n + strlen(rest), false, &end, &got);
	if (!isfinite(want)) {
		if (r != NUMBER_INFINITE)
			fail_msg("%s: %d, not infinite", text, (int)r);
	} else if (r != NUMBER_OK || end != text + n || !same(got, want)) {
		fail_msg("%s: result %d, %a, strtod says %a", text, (int)r, (double)got,
			(double)want);
	}
}

/* Scanning 's' gives what strtod gives, or says it is infinite when that is: at the end of a text as well as
 * before whatever may follow, which the scanner looks at eight bytes at a time. */
static void check_scan(const char *s)
{
	static const char *const rests[] = {"", ",", "]", " 1", ",12345678,12345678,12345678",
		",.5,-1,2,3,4,5,6,7,8,9,10,11,12,13", "]}\n{\"id\":\"12345678901234567890\"}",
		" \xff\xfe\x80\x90\xb0\xb9:;</\x01 \xba\xaf\xff\xff\xff\xff\xff\xff\xff"};

	for (size_t i = 0; i < VX_ARRAY_SIZE(rests); i++)
		check_scan_before(s, strlen(s), rests[i]);
}

static void check_print(uint32_t bits)
{
	float v = of_bits(bits);
	char s[32], best[32];

	if (!isfinite(v))
		return;
	size_t n = codec_print_float(s, v);
	assert_true(n >= 1 && n <= 24);
	s[n] = 0;
	if (!same(strtof(s, NULL), v) || !same((float)strtod(s, NULL), v))
		fail_msg("%08x prints as %s, which reads back as another", bits, s);
	/* No shorter digit string reads back: count significant digits of both. */
	int want = 1, have = 0, zeros = 0;
	for (; want < 9; want++) {
		snprintf(best, sizeof best, "%.*e", want - 1, (double)v);
		if (same(strtof(best, NULL), v))
			break;
	}
	for (const char *p = s; *p && *p != 'e'; p++) {
		if (*p < '0' || *p > '9' || (*p == '0' && have == 0))
			continue;
		have++;
		zeros = *p == '0' ? zeros + 1 : 0;
	}
	if (bits << 1 && bits << 1 != 0x15ae43fdu << 1 && have - zeros > want)
		fail_msg("%08x prints as %s, but %s would do", bits, s, best);
}

static void numbers_read_as_strtod_reads_them(void **state)
{
	static const char *const cases[] = {"0", "-0", "0.0", "-0.0", "0e5", "-0e-99999", "1",
		"0.1", "1e-7", "3.4028234663852886e38", "3.4028235677973366e38",
		"3.4028235677973367e38", "1e39", "-1e39", "1e400", "1e-400", "1.4e-45", "7e-46",
		"7.1e-46", "1.17549435e-38", "1.1754943e-38", "16777217", "16777216.0000001",
		"9007199254740993", "18446744073709551615", "18446744073709551616",
		"123456789012345678901234567890",
		"0.000000000000000000000000000000000000012345678901234567",
		"1.00000017881393432617187499", "1.00000017881393432617187500",
		"1.00000017881393432617187501", "1.000000178813934326171875e0",
		"0.1000000000000000055511151231257827", "99999999999999999999e-20", "1E+2",
		"1e00000002", "7.038531e-26", "7.0385307e-26", "1e22", "1e23", "123456e-27"};

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(cases); i++)
		check_scan(cases[i]);
}

/* Random digits, and decimals that lie at or next to the middle between two floats. */
static void random_numbers_read_as_strtod_reads_them(void **state)
{
	char s[128];

	(void)state;
	for (int i = 0; i < 300000; i++) {
		float a = of_bits((uint32_t)next() & 0x7fffffffu);
		switch (i % 4) {
		case 0:
			snprintf(s, sizeof s, "%s%llu.%0*llue%d", next() & 1 ? "-" : "",
				(unsigned long long)(next() >> (next() % 64)),
				(int)(1 + next() % 18), (unsigned long long)(next() % 1000000),
				(int)(next() % 100) - 50);
			break;
		case 1:
			if (!isfinite(a))
				continue;
			snprintf(s, sizeof s, "%.*e", (int)(next() % 25), (double)a);
			break;
		case 2: {
			float b = nextafterf(a, INFINITY);
			if (!isfinite(b))
				continue;
			double mid = ((double)a + (double)b) / 2;
			snprintf(s, sizeof s, "%.*e", 14 + (int)(next() % 40), mid);
			break;
		}
		default:
			snprintf(s, sizeof s, "0.%0*llu", (int)(1 + next() % 20),
				(unsigned long long)(next() >> (next() % 60)));
		}
		check_scan(s);
	}
}

/* Every number of digits before and behind the point, with the digits at their edges. */
static void numbers_of_all_lengths_read_as_strtod_reads_them(void **state)
{
	static const char edges[] = "019";
	char s[80];

	(void)state;
	for (int before = 1; before <= 20; before++) {
		for (int behind = 0; behind <= 24; behind++) {
			for (int i = 0; i < 40; i++) {
				char *p = s;
				if (i & 1)
					*p++ = '-';
				for (int k = 0; k < before + behind; k++) {
					if (k == before)
						*p++ = '.';
					*p++ = i < 6 ? edges[i / 2] : (char)('0' + next() % 10);
				}
				*p = 0;
				if (before > 1 && s[i & 1] == '0')
					s[i & 1] = '1';
				check_scan(s);
			}
		}
	}
}

static void what_is_no_number_is_refused(void **state)
{
	static const char *const strict[] = {"", "-", "+1", ".5", "5.", "01", "00", "-01", "1e",
		"1e+", "1e-", "e5", "NaN", "Infinity", "-Infinity", "inf", "nan", "x", "--1", "- 1",
		",", "]"};
	static const char *const never[] = {
		"", "-", "+", ".", "-.", "e5", ".e1", "nan", "inf", "0x", "x"};
	const char *end;
	float v;

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(strict); i++) {
		char more[80];

		assert_int_equal(
			number_scan(strict[i], strict[i] + strlen(strict[i]), false, &end, &v),
			NUMBER_SYNTAX);
		snprintf(more, sizeof more, "%s,12345678,12345678,12345678", strict[i]);
		assert_int_equal(
			number_scan(more, more + strlen(more), false, &end, &v), NUMBER_SYNTAX);
	}
	for (size_t i = 0; i < VX_ARRAY_SIZE(never); i++) {
		const char *p = never[i];
		/* "0x" is the number 0 and a rest. */
		if (number_scan(p, p + strlen(p), true, &end, &v) == NUMBER_OK)
			assert_int_not_equal(*end, 0);
	}
}

static void printing_is_short_and_exact(void **state)
{
	static const struct {
		float v;
		const char *s;
	} cases[] = {{0, "0"}, {-0.0f, "-0.0"}, {1, "1"}, {-1, "-1"}, {0.1f, "0.1"}, {3, "3"},
		{1e-7f, "1e-7"}, {1e-6f, "0.000001"}, {1.5e-6f, "0.0000015"}, {255, "255"},
		{16777216, "16777216"}, {1e10f, "10000000000"}, {1e20f, "100000000000000000000"},
		{1e21f, "1e21"}, {1.5e21f, "1.5e21"}, {FLT_MAX, "3.4028235e38"},
		{FLT_MIN, "1.1754944e-38"}, {1.4e-45f, "1e-45"}, {0.5f, "0.5"},
		{123.456f, "123.456"}, {-33.25f, "-33.25"}, {100000.5f, "100000.5"}};
	char s[32];

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(cases); i++) {
		s[codec_print_float(s, cases[i].v)] = 0;
		assert_string_equal(s, cases[i].s);
	}
	check_print(0x15ae43fdu);
	/* All exponents, with the fractions at their edges. */
	for (uint32_t e = 0; e < 255; e++) {
		static const uint32_t f[] = {
			0, 1, 2, 0x3fffff, 0x400000, 0x400001, 0x7ffffe, 0x7fffff};
		for (size_t i = 0; i < VX_ARRAY_SIZE(f); i++) {
			check_print(e << 23 | f[i]);
			check_print(1u << 31 | e << 23 | f[i]);
		}
	}
	const char *all = getenv("CODEC_PRINT_COUNT"); /* 10000000 for the long run */
	long n = all ? strtol(all, NULL, 0) : 200000;
	for (long i = 0; i < n; i++)
		check_print((uint32_t)next());
}

/* Every half: against its definition. */
static void halves_decode(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 65536; h++) {
		uint8_t b[2];
		float got;
		put_le16(b, (uint16_t)h);
		int e = (int)(h >> 10 & 31), f = (int)(h & 1023);
		bool finite = rows_decode(ELEMENT_F16, b, 1, &got);
		assert_int_equal(finite, e != 31);
		if (!finite)
			continue;
		double want = e ? ldexp(1024 + f, e - 25) : ldexp(f, -24);
		assert_true(same(got, (float)(h & 0x8000 ? -want : want)));
	}
}

static void doubles_decode_or_are_not_finite(void **state)
{
	static const struct {
		double d;
		bool ok;
	} cases[] = {{0.1, true}, {-3, true}, {FLT_MAX, true}, {0x1.fffffefffffffp127, true},
		{0x1.ffffffp127, false}, {1e39, false}, {-1e39, false}, {INFINITY, false},
		{NAN, false}, {5e-324, true}};

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(cases); i++) {
		uint64_t u;
		uint8_t b[8];
		float got;
		memcpy(&u, &cases[i].d, 8);
		put_le64(b, u);
		assert_int_equal(rows_decode(ELEMENT_F64, b, 1, &got), cases[i].ok);
		if (cases[i].ok)
			assert_true(same(got, (float)cases[i].d) && isfinite(got));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_read_as_strtod_reads_them),
		cmocka_unit_test(random_numbers_read_as_strtod_reads_them),
		cmocka_unit_test(numbers_of_all_lengths_read_as_strtod_reads_them),
		cmocka_unit_test(what_is_no_number_is_refused),
		cmocka_unit_test(printing_is_short_and_exact),
		cmocka_unit_test(halves_decode),
		cmocka_unit_test(doubles_decode_or_are_not_finite),
	};

	return cmocka_run_group_tests(tests, seed, NULL);
}
