/* Holds the scanner of numbers against strtod: every byte of the input becomes one of those that numbers are made of.
 * What the scanner takes is what a plain reading of the grammar takes, and the value is (float)strtod() of it, to the bit,
 * whatever follows and however much room is behind (numbers are read in eights where there is enough of it). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec_i.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static size_t digits(const char *s)
{
	return strspn(s, "0123456789");
}

/* How many bytes of a string are a number; 0: none, or one that breaks off in its exponent or fraction. */
static size_t grammar(const char *s, bool loose)
{
	const char *p = s + (*s == '-' || (loose && *s == '+'));
	size_t n = digits(p), frac = 0;

	if (!loose && (n == 0 || (n > 1 && *p == '0')))
		return 0;
	p += n;
	if (*p == '.') {
		frac = digits(p + 1);
		if (!loose && frac == 0)
			return 0;
		p += 1 + frac;
	}
	if (n + frac == 0)
		return 0;
	if (*p == 'e' || *p == 'E') {
		p++;
		p += *p == '-' || *p == '+';
		if (digits(p) == 0)
			return 0;
		p += digits(p);
	}
	return (size_t)(p - s);
}

static void try(const char *text, size_t n, size_t behind, bool loose)
{
	char *room = malloc(n + behind + 1), *token = malloc(n + 1);
	const char *next = NULL;
	float f = 0;

	must(room && token);
	memcpy(room, text, n);
	memset(room + n, ' ', behind);
	size_t want = grammar(text, loose);
	/* A copy without the last byte, so that a read past the end is seen. */
	char *exact = malloc(n + behind ? n + behind : 1);
	must(exact != NULL);
	memcpy(exact, room, n + behind);
	enum number_result rc = number_scan(exact, exact + n + behind, loose, &next, &f);
	must((rc == NUMBER_SYNTAX) == (want == 0));
	if (rc != NUMBER_SYNTAX) {
		must((size_t)(next - exact) == want);
		memcpy(token, text, want);
		token[want] = 0;
		float g = (float)strtod(token, NULL);
		must((rc == NUMBER_INFINITE) == !isfinite(g));
		if (rc == NUMBER_OK)
			must(memcmp(&f, &g, sizeof f) == 0);
	}
	free(exact);
	free(room);
	free(token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char of[] = "0123456789012345678901.eE+-, ]9.";
	char text[1024];
	size_t n = 0;

	if (size > 900)
		return 0;
	/* A byte above 127 is a run, so that long numbers are near. */
	for (size_t i = 0; i < size && n + 64 < sizeof text; i++) {
		size_t run = data[i] & 0x80 ? 1 + (data[i] >> 5 & 3) * 7u : 1;
		memset(text + n, of[data[i] % 32], run);
		n += run;
	}
	text[n] = 0;
	if (n == 0)
		return 0;
	for (int loose = 0; loose < 2; loose++) {
		try(text, n, 0, loose);
		try(text, n, 32, loose);
	}
	return 0;
}
