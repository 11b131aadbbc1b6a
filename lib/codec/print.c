/* print.c - records to text.
 *
 * codec_print_float writes the shortest decimal that reads back as the same float32, by the method of
 * Raffaele Giulietti ("The Schubfach way to render doubles", 2020), here for 24-bit significands: the
 * interval of reals that round to v is scaled by a power of ten so that it contains two, sometimes
 * twenty, consecutive integers' worth of candidates; 64-bit products with sticky low bits decide exactly
 * which of them lie inside.  Small integers, which make up whole data sets, take a shorter way.
 */
#include "codec/codec_i.h"

#include <string.h>

#define G_MIN (-31)

/* Entry k - G_MIN: 10^k as a 64-bit significand, rounded up. */
static const uint64_t g_table[] = {
	0x81ceb32c4b43fcf5,
	0xa2425ff75e14fc32,
	0xcad2f7f5359a3b3f,
	0xfd87b5f28300ca0e,
	0x9e74d1b791e07e49,
	0xc612062576589ddb,
	0xf79687aed3eec552,
	0x9abe14cd44753b53,
	0xc16d9a0095928a28,
	0xf1c90080baf72cb2,
	0x971da05074da7bef,
	0xbce5086492111aeb,
	0xec1e4a7db69561a6,
	0x9392ee8e921d5d08,
	0xb877aa3236a4b44a,
	0xe69594bec44de15c,
	0x901d7cf73ab0acda,
	0xb424dc35095cd810,
	0xe12e13424bb40e14,
	0x8cbccc096f5088cc,
	0xafebff0bcb24aaff,
	0xdbe6fecebdedd5bf,
	0x89705f4136b4a598,
	0xabcc77118461cefd,
	0xd6bf94d5e57a42bd,
	0x8637bd05af6c69b6,
	0xa7c5ac471b478424,
	0xd1b71758e219652c,
	0x83126e978d4fdf3c,
	0xa3d70a3d70a3d70b,
	0xcccccccccccccccd,
	0x8000000000000001,
	0xa000000000000001,
	0xc800000000000001,
	0xfa00000000000001,
	0x9c40000000000001,
	0xc350000000000001,
	0xf424000000000001,
	0x9896800000000001,
	0xbebc200000000001,
	0xee6b280000000001,
	0x9502f90000000001,
	0xba43b74000000001,
	0xe8d4a51000000001,
	0x9184e72a00000001,
	0xb5e620f480000001,
	0xe35fa931a0000001,
	0x8e1bc9bf04000001,
	0xb1a2bc2ec5000001,
	0xde0b6b3a76400001,
	0x8ac7230489e80001,
	0xad78ebc5ac620001,
	0xd8d726b7177a8001,
	0x878678326eac9001,
	0xa968163f0a57b401,
	0xd3c21bcecceda101,
	0x84595161401484a1,
	0xa56fa5b99019a5c9,
	0xcecb8f27f4200f3b,
	0x813f3978f8940985,
	0xa18f07d736b90be6,
	0xc9f2c9cd04674edf,
	0xfc6f7c4045812297,
	0x9dc5ada82b70b59e,
	0xc5371912364ce306,
	0xf684df56c3e01bc7,
	0x9a130b963a6c115d,
	0xc097ce7bc90715b4,
	0xf0bdc21abb48db21,
	0x96769950b50d88f5,
	0xbc143fa4e250eb32,
	0xeb194f8e1ae525fe,
	0x92efd1b8d0cf37bf,
	0xb7abc627050305ae,
	0xe596b7b0c643c71a,
	0x8f7e32ce7bea5c70,
	0xb35dbf821ae4f38c,
};

static const char two_digits[] =
	"00010203040506070809101112131415161718192021222324252627282930313233343536"
	"37383940414243444546474849505152535455565758596061626364656667686970717273"
	"7475767778798081828384858687888990919293949596979899";

/* floor(log2(10^k)), floor(log10(2^e)), floor(log10(3/4 * 2^e)) for the exponents of float32. */
static inline int log2_pow10(int k)
{
	return (k * 1741647) >> 19;
}
static inline int log10_pow2(int e)
{
	return (e * 1262611) >> 22;
}
static inline int log10_three_quarters_pow2(int e)
{
	return (e * 1262611 - 524031) >> 22;
}

/* g * cp / 2^64 with a sticky lowest bit. */
static inline uint32_t round_to_odd(uint64_t g, uint32_t cp)
{
	uint64_t low = (g & 0xffffffffu) * cp;
	uint64_t high = (g >> 32) * cp + (low >> 32);
	uint32_t y0 = (uint32_t)high, y1 = (uint32_t)(high >> 32);

	return y1 | (y0 > 1);
}

/* v = c * 2^q as the shortest digits * 10^*ret_exp. */
static uint32_t shortest(uint32_t fraction, int biased, int *ret_exp)
{
	uint32_t c = biased ? fraction | 1u << 23 : fraction;
	int q = (biased ? biased : 1) - 150;
	bool even = !(c & 1), irregular = fraction == 0 && biased > 1;
	uint32_t cb = 4 * c, cbl = cb - (irregular ? 1 : 2), cbr = cb + 2;
	int k = irregular ? log10_three_quarters_pow2(q) : log10_pow2(q);
	int h = q + log2_pow10(-k) + 1;
	uint64_t g = g_table[-k - G_MIN];
	uint32_t vbl = round_to_odd(g, cbl << h), vb = round_to_odd(g, cb << h);
	uint32_t vbr = round_to_odd(g, cbr << h);
	uint32_t lower = vbl + !even, upper = vbr - !even, s = vb / 4;

	if (s >= 10) {
		uint32_t sp = s / 10;
		bool up_in = lower <= 40 * sp, wp_in = 40 * sp + 40 <= upper;
		if (up_in != wp_in) {
			*ret_exp = k + 1;
			return sp + wp_in;
		}
	}
	*ret_exp = k;
	bool u_in = lower <= 4 * s, w_in = 4 * s + 4 <= upper;
	if (u_in != w_in)
		return s + w_in;
	uint32_t mid = 4 * s + 2;
	return s + (vb > mid || (vb == mid && (s & 1)));
}

static inline unsigned count_digits(uint32_t v)
{
	unsigned n = 1;

	for (; v >= 10000; v /= 10000)
		n += 4;
	return n + (v >= 10) + (v >= 100) + (v >= 1000);
}

/* Exactly 'n' digits of 'v'. */
static inline void put_digits(char *to, uint32_t v, unsigned n)
{
	while (n >= 2) {
		n -= 2;
		memcpy(to + n, two_digits + v % 100 * 2, 2);
		v /= 100;
	}
	if (n)
		*to = (char)('0' + v % 10);
}

/* Plain notation from 1e-6 up to below 1e21, as JavaScript has it; else with an exponent. */
static char *place_digits(char *p, uint32_t digits, int exp10)
{
	unsigned n = count_digits(digits);
	int point = (int)n + exp10; /* digits before the point */

	if (exp10 >= 0 && point <= 21) {
		put_digits(p, digits, n);
		memset(p + n, '0', (size_t)exp10);
		return p + n + exp10;
	}
	if (point > 0 && point <= 21) {
		put_digits(p + 1, digits, n);
		memmove(p, p + 1, (size_t)point);
		p[point] = '.';
		return p + n + 1;
	}
	if (point > -6 && point <= 0) {
		memcpy(p, "0.000000", 8);
		p += 2 - point;
		put_digits(p, digits, n);
		return p + n;
	}
	put_digits(p + 1, digits, n);
	p[0] = p[1];
	p[1] = '.';
	p += n > 1 ? n + 1 : 1;
	*p++ = 'e';
	int e = point - 1;
	if (e < 0)
		*p++ = '-';
	e = e < 0 ? -e : e;
	unsigned en = e >= 10 ? 2 : 1;
	put_digits(p, (uint32_t)e, en);
	return p + en;
}

size_t codec_print_float(char *ret, float v)
{
	char *p = ret;
	uint32_t u;

	memcpy(&u, &v, sizeof u);
	if (u >> 31)
		*p++ = '-';
	u &= 0x7fffffffu;
	float abs;
	memcpy(&abs, &u, sizeof abs);
	if (u >= 0x7f800000u) {
		memcpy(ret, "null", 4); /* no record holds one */
		return 4;
	}
	if (abs < 16777216.0f) {
		uint32_t i = (uint32_t)abs;
		if ((float)i == abs) {
			if (i == 0 && p > ret) {
				/* "-0" would lose its sign in readers that take it for an integer. */
				memcpy(p, "0.0", 3);
				return 4;
			}
			unsigned n = i < 10 ? 1 : count_digits(i);
			put_digits(p, i, n);
			return (size_t)(p - ret) + n;
		}
	}
	int exp10;
	uint32_t digits = shortest(u & 0x7fffffu, (int)(u >> 23), &exp10);
	if (u == 0x15ae43fdu) {
		/* The one float32 whose shortest decimal, 7.038531e-26, a reader that goes through double
		 * rounds twice and away (found by trying them all). */
		digits = 70385307;
		exp10 = -33;
	}
	while (digits % 10 == 0) {
		digits /= 10;
		exp10++;
	}
	return (size_t)(place_digits(p, digits, exp10) - ret);
}

int codec_print_vector(struct buf *out, const float *vec, uint32_t dim)
{
	/* 24 bytes a number and a comma, then the brackets. */
	int rc = buf_reserve(out, (size_t)dim * 25 + 2);
	if (rc)
		return rc;
	char *p = (char *)out->data + out->len;
	*p++ = '[';
	for (uint32_t i = 0; i < dim; i++) {
		if (i)
			*p++ = ',';
		p += codec_print_float(p, vec[i]);
	}
	*p++ = ']';
	out->len = (size_t)(p - (char *)out->data);
	return 0;
}

int codec_print_string(struct buf *out, const char *s, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	size_t special = 0;

	for (size_t i = 0; i < n; i++)
		special += (unsigned char)s[i] < 0x20 || s[i] == '"' || s[i] == '\\';
	int rc = buf_reserve(out, n + 2 + special * 5);
	if (rc)
		return rc;
	char *p = (char *)out->data + out->len;
	*p++ = '"';
	if (!special && n) {
		memcpy(p, s, n);
		p += n;
	}
	for (size_t i = 0; special && i < n; i++) {
		static const char from[] = "\"\\\n\t\r\b\f", into[] = "\"\\ntrbf";
		unsigned char c = (unsigned char)s[i];
		if (c >= 0x20 && c != '"' && c != '\\') {
			*p++ = (char)c;
			continue;
		}
		const char *at = memchr(from, c, sizeof from - 1);
		*p++ = '\\';
		if (at) {
			*p++ = into[at - from];
			continue;
		}
		memcpy(p, "u00", 3);
		p[3] = hex[c >> 4];
		p[4] = hex[c & 15];
		p += 5;
	}
	*p++ = '"';
	out->len = (size_t)(p - (char *)out->data);
	return 0;
}

static int put_key(struct buf *out, bool *first, const char *key)
{
	int rc = buf_append(out, *first ? "{" : ",", 1);

	*first = false;
	if (!rc)
		rc = codec_print_string(out, key, strlen(key));
	if (!rc)
		rc = buf_put_u8(out, ':');
	return rc;
}

int codec_print_record(struct buf *out, const struct vx_record *rec)
{
	bool first = true;
	size_t before = out->len;
	int rc = 0;

	if (rec->id) {
		rc = put_key(out, &first, "id");
		if (!rc)
			rc = codec_print_string(out, rec->id, rec->id_len);
	}
	if (!rc && rec->vec) {
		rc = put_key(out, &first, "vector");
		if (!rc)
			rc = codec_print_vector(out, rec->vec, rec->dim);
	}
	if (!rc && rec->meta) {
		rc = put_key(out, &first, "meta");
		if (!rc)
			rc = buf_append(out, rec->meta, rec->meta_len);
	}
	if (!rc && rec->text) {
		rc = put_key(out, &first, "text");
		if (!rc)
			rc = codec_print_string(out, rec->text, rec->text_len);
	}
	if (!rc)
		rc = buf_append(out, first ? "{}\n" : "}\n", first ? 3 : 2);
	if (rc)
		out->len = before;
	return rc;
}
