/* number.c - decimal text to float32, the inner loop of bulk ingest.
 *
 * The result is (float)strtod(text) to the bit, at a tenth of its price.  The digits become a 64-bit
 * integer w and a power of ten e:
 *
 *   the usual spellings      "12", "-0.0712": eight bytes at a time, whatever the number of digits, so that
 *                            lengths that vary cost no mispredicted branches.  Then as the next case.
 *   w < 2^53 and |e| <= 22   w and 10^|e| are exact doubles, so one multiplication or division
 *                            rounds correctly: that is strtod's result.
 *   up to 19 digits          d = w * 10^e with three roundings is within 2^-51 of the true value, and
 *                            so is strtod's double.  Rounding to float32 is monotone: where both ends of
 *                            an interval of 2^-49 around d round to the same float, so does strtod's
 *                            double.  They differ once in some 2^25 numbers.
 *   everything else          strtod itself, in the C locale: more digits, the edges of the range.
 */
#include "codec/codec_i.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define EXP_MIN (-60)
#define EXP_MAX 40
#define MARGIN  0x1p-49

static const double pow10_exact[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* 10^-60 ... 10^40, each rounded correctly by the compiler. */
static const double pow10_near[] = {1e-60, 1e-59, 1e-58, 1e-57, 1e-56, 1e-55, 1e-54, 1e-53, 1e-52,
	1e-51, 1e-50, 1e-49, 1e-48, 1e-47, 1e-46, 1e-45, 1e-44, 1e-43, 1e-42, 1e-41, 1e-40, 1e-39,
	1e-38, 1e-37, 1e-36, 1e-35, 1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29, 1e-28, 1e-27, 1e-26,
	1e-25, 1e-24, 1e-23, 1e-22, 1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13,
	1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2,
	1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
	1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33,
	1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40};
_Static_assert(VX_ARRAY_SIZE(pow10_near) == EXP_MAX - EXP_MIN + 1, "one entry per exponent");

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void)
{
	c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static enum number_result scan_slow(const char *p, size_t n, float *ret)
{
	char stack[256], *s = stack;

	if (n >= sizeof stack) {
		s = malloc(n + 1);
		if (!s)
			return NUMBER_NOMEM;
	}
	memcpy(s, p, n);
	s[n] = 0;
	pthread_once(&c_locale_once, make_c_locale);
	double d = c_locale ? strtod_l(s, NULL, c_locale) : strtod(s, NULL);
	if (s != stack)
		free(s);
	float f = (float)d;
	if (!isfinite(f))
		return NUMBER_INFINITE;
	*ret = f;
	return NUMBER_OK;
}

static inline bool is_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

/* Eight digits at once: whether all are digits, and their value. */
static inline bool eight_digits(const char *p, uint64_t *ret)
{
	uint64_t v = get_le64(p);

	if (((v & 0xf0f0f0f0f0f0f0f0u) ^ 0x3030303030303030u) |
		(((v + 0x0606060606060606u) & 0xf0f0f0f0f0f0f0f0u) ^ 0x3030303030303030u))
		return false;
	v = (v & 0x0f0f0f0f0f0f0f0fu) * 2561 >> 8;
	v = (v & 0x00ff00ff00ff00ffu) * 6553601 >> 16;
	*ret = (v & 0x0000ffff0000ffffu) * 42949672960001u >> 32;
	return true;
}

static inline const char *scan_digits(const char *p, const char *end, uint64_t *w)
{
	uint64_t eight;

	while (end - p >= 8 && eight_digits(p, &eight)) {
		*w = *w * 100000000u + eight;
		p += 8;
	}
	while (p < end && is_digit(*p))
		*w = *w * 10 + (uint64_t)(*p++ - '0');
	return p;
}

static size_t leading_zeros(const char *p, const char *end)
{
	size_t n = 0;

	for (; p < end && (*p == '0' || *p == '.'); p++)
		n += *p == '0';
	return n;
}

/* 'digits' significant digits in 'w' (valid up to 19), times ten to 'exp10'. */
static inline bool convert(uint64_t w, int exp10, float *ret)
{
	if (w == 0) {
		*ret = 0;
		return true;
	}
	if (w < (uint64_t)1 << 53 && exp10 >= -22 && exp10 <= 22) {
		double d = (double)w;
		d = exp10 < 0 ? d / pow10_exact[-exp10] : d * pow10_exact[exp10];
		if (d < FLT_MIN || d > FLT_MAX)
			return false;
		*ret = (float)d;
		return true;
	}
	if (exp10 < EXP_MIN || exp10 > EXP_MAX)
		return false;
	double d = (double)w * pow10_near[exp10 - EXP_MIN];
	if (d < 2 * (double)FLT_MIN || d > (double)FLT_MAX / 2)
		return false;
	float lo = (float)(d * (1 - MARGIN)), hi = (float)(d * (1 + MARGIN));
	*ret = lo;
	return lo == hi;
}

/* How many of the eight bytes, from the first on, are digits.  A byte that is none may carry into those
 * after it, which are not looked at then. */
static inline unsigned count_digits(uint64_t v)
{
	uint64_t t = v ^ 0x3030303030303030u;
	uint64_t other = ((t + 0x7676767676767676u) | t) & 0x8080808080808080u;

	return other ? (unsigned)__builtin_ctzll(other) / 8 : 8;
}

/* The first 'n' bytes as a number, each a digit. */
static inline uint64_t digits_value(uint64_t v, unsigned n)
{
	v = n ? v << 8 * (8 - n) : 0; /* what is shifted in counts as leading zeros */
	v = (v & 0x0f0f0f0f0f0f0f0fu) * 2561 >> 8;
	v = (v & 0x00ff00ff00ff00ffu) * 6553601 >> 16;
	return (v & 0x0000ffff0000ffffu) * 42949672960001u >> 32;
}

/* What scan_common may read beyond the first byte of a number. */
#define COMMON_BYTES 26

/* Nearly all numbers of vectors: up to seven digits, or one digit, a point and up to fifteen; no exponent.
 * Without a branch per digit.  False: look again, the long way. */
static inline bool scan_common(const char *p, const char **ret_next, float *ret)
{
	static const uint64_t pow10_int[] = {
		1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
	bool neg = *p == '-';

	p += neg;
	uint64_t v = get_le64(p);
	unsigned n = count_digits(v), frac = 0;
	if (n == 0 || n == 8 || (n > 1 && *p == '0'))
		return false;
	uint64_t w = digits_value(v, n);
	p += n;
	if (*p == '.') {
		v = get_le64(++p);
		frac = count_digits(v);
		w = w * pow10_int[frac] + digits_value(v, frac);
		p += frac;
		if (frac == 8) {
			v = get_le64(p);
			unsigned more = count_digits(v);
			if (more == 8 || n > 1)
				return false; /* there may be more of them */
			w = w * pow10_int[more] + digits_value(v, more);
			p += more;
			frac += more;
		}
		if (frac == 0 || w >= (uint64_t)1 << 53)
			return false;
	}
	if (*p == 'e' || *p == 'E' || *p == '.')
		return false;
	/* Both are exact, so the quotient is the nearest double; it is 0 or far from float32's edges. */
	float f = (float)((double)w / pow10_exact[frac]);
	*ret = neg ? -f : f;
	*ret_next = p;
	return true;
}

enum number_result number_scan(
	const char *p, const char *end, bool loose, const char **ret_next, float *ret)
{
	if (VX_LIKELY(end - p >= COMMON_BYTES) && scan_common(p, ret_next, ret))
		return NUMBER_OK;

	const char *token = p;
	bool neg = p < end && *p == '-';
	uint64_t w = 0;

	if (neg || (loose && p < end && *p == '+'))
		p++;
	const char *digits = p;
	if (end - p > 1 && p[1] == '.' && is_digit(*p))
		w = (uint64_t)(*p++ - '0'); /* "0.123": by far the most common */
	else
		p = scan_digits(p, end, &w);
	size_t n_int = (size_t)(p - digits), n_frac = 0;
	if (!loose && (n_int == 0 || (n_int > 1 && *digits == '0')))
		return NUMBER_SYNTAX;
	if (p < end && *p == '.') {
		const char *frac = ++p;
		p = scan_digits(p, end, &w);
		n_frac = (size_t)(p - frac);
		if (!loose && n_frac == 0)
			return NUMBER_SYNTAX;
	}
	size_t n_digits = n_int + n_frac;
	if (n_digits == 0)
		return NUMBER_SYNTAX;
	int64_t exp10 = 0;
	if (p < end && (*p == 'e' || *p == 'E')) {
		bool exp_neg = ++p < end && *p == '-';
		if (p < end && (*p == '-' || *p == '+'))
			p++;
		const char *first = p;
		for (; p < end && is_digit(*p); p++)
			exp10 = exp10 < 100000 ? exp10 * 10 + (*p - '0') : exp10;
		if (p == first)
			return NUMBER_SYNTAX;
		exp10 = exp_neg ? -exp10 : exp10;
	}
	*ret_next = p;
	if (n_digits > 19)
		n_digits -= leading_zeros(digits, p);
	exp10 -= (int64_t)VX_MIN(n_frac, (size_t)1 << 40);
	float f;
	if (n_digits > 19 || exp10 < -1000 || exp10 > 1000 || !convert(w, (int)exp10, &f))
		return scan_slow(token, (size_t)(p - token), ret);
	*ret = neg ? -f : f;
	return NUMBER_OK;
}

int number_uint(const char *p, size_t n, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (n == 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (!is_digit(p[i]))
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(p[i] - '0'), &v))
			return -ERANGE;
	}
	if (v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}
