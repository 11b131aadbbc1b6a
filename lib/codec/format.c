/* Names, suffixes and first bytes of the formats. */
#include "codec/codec_i.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	enum codec_format f;
} names[] = {
	{"jsonl", CODEC_JSONL},
	{"tsv", CODEC_TSV},
	{"fvecs", CODEC_FVECS},
	{"bvecs", CODEC_BVECS},
	{"fbin", CODEC_FBIN},
	{"npy", CODEC_NPY},
	{"json", CODEC_JSONL}, /* from here on: aliases */
	{"ndjson", CODEC_JSONL},
};

int codec_format_parse(const char *name, enum codec_format *ret)
{
	for (size_t i = 0; i < VX_ARRAY_SIZE(names); i++) {
		if (!strcasecmp(name, names[i].name)) {
			*ret = names[i].f;
			return 0;
		}
	}
	return -EINVAL;
}

const char *codec_format_name(enum codec_format f)
{
	for (size_t i = 0; i < VX_ARRAY_SIZE(names); i++) {
		if (names[i].f == f)
			return names[i].name;
	}
	return "unknown";
}

enum codec_format codec_format_of(const char *file_name)
{
	const char *slash = strrchr(file_name, '/');
	const char *dot = strrchr(slash ? slash : file_name, '.');
	enum codec_format f;

	return dot && !codec_format_parse(dot + 1, &f) ? f : CODEC_NONE;
}

bool codec_format_is_rows(enum codec_format f)
{
	return f == CODEC_FVECS || f == CODEC_BVECS || f == CODEC_FBIN || f == CODEC_NPY;
}

/* Zero, or of a magnitude that embeddings and image features have. */
static bool plausible_float(const uint8_t *p)
{
	uint32_t u = get_le32(p);
	float f;

	memcpy(&f, &u, sizeof f);
	return f == 0 || (fabsf(f) > 1e-20f && fabsf(f) < 1e20f);
}

/* The binary formats have no magic.  Where a second row is visible, the repeated dimension decides;
 * otherwise the second word does: a small integer is fbin's dimension (as a float it would be a
 * denormal), plausible floats are fvecs, anything else is bytes. */
static enum codec_format sniff_rows(const uint8_t *b, size_t n)
{
	uint32_t d = get_le32(b), second = get_le32(b + 4);
	bool dim_ok = d >= 1 && d <= VX_DIM_MAX;
	bool floats = true;

	if (dim_ok) {
		size_t f_next = 4 + 4 * (size_t)d, b_next = 4 + (size_t)d;
		bool is_f = n >= f_next + 4 && get_le32(b + f_next) == d;
		bool is_b = n >= b_next + 4 && get_le32(b + b_next) == d;
		if (is_f != is_b)
			return is_f ? CODEC_FVECS : CODEC_BVECS;
		/* One row that ends exactly with the stream. */
		if (n < 4096 && (n == f_next) != (n == b_next))
			return n == f_next ? CODEC_FVECS : CODEC_BVECS;
	}
	for (size_t off = 8; off + 4 <= n && off < 64; off += 4)
		floats = floats && plausible_float(b + off);
	if (d >= 1 && second >= 1 && second <= VX_DIM_MAX && (floats || !dim_ok))
		return CODEC_FBIN;
	if (!dim_ok)
		return CODEC_NONE;
	return floats && plausible_float(b + 4) ? CODEC_FVECS : CODEC_BVECS;
}

enum codec_format codec_format_sniff(const void *p, size_t n)
{
	const uint8_t *b = p;
	bool binary = false;

	if (n >= 6 && !memcmp(b, "\x93NUMPY", 6))
		return CODEC_NPY;
	/* A dimension of at most 65,536 puts a NUL byte among the first four. */
	for (size_t i = 0; i < VX_MIN(n, (size_t)8); i++)
		binary = binary || (b[i] < 0x20 && b[i] != '\t' && b[i] != '\n' && b[i] != '\r');
	if (binary)
		return n >= 8 ? sniff_rows(b, n) : CODEC_NONE;
	size_t i = n >= 3 && !memcmp(b, "\xef\xbb\xbf", 3) ? 3 : 0;
	while (i < n && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t'))
		i++;
	if (i == n)
		return CODEC_NONE;
	if (b[i] == '{' || b[i] == '[')
		return CODEC_JSONL;
	return CODEC_TSV;
}
