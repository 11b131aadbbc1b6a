/* hash.c - the built-in embedder: text to a vector without a model.
 *
 * A text becomes a weighted bag of features: its stemmed words, pairs of neighbouring words (common
 * words skipped), and the character 3- to 5-grams of each word between boundary marks, which let
 * "compress" meet "compression" and forgive typing errors.  Each feature is a pseudo-random sparse vector
 * of signs drawn from the hash of its bytes (feature hashing: Weinberger et al. 2009; sparse random
 * projections: Achlioptas 2003); the text's vector is their weighted sum, of length 1.  So the cosine of two
 * texts estimates the weighted overlap of their features, with noise of about 1/sqrt(dim).
 *
 * Repeated features count log2(1 + n).  They are counted in a table of fixed size on the stack: when it is
 * three quarters full it is emptied into the vector, which merely damps less in very long texts.
 *
 * The vectors are part of the format: stored ones meet those of later questions.
 */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "embed/embed_i.h"

#define TABLE_SIZE   4096u
#define WORD_MAX     64u /* bytes of a word; the rest of a longer one is a word of its own */
#define SEED         0x76656366u
#define PAIR_WEIGHT  0.35f
#define GRAMS_WEIGHT 0.7f

struct feature {
	uint64_t hash; /* 0: free */
	uint32_t count;
	float weight;
};

struct state {
	float *vec;
	uint32_t dim;
	size_t used;
	struct feature table[TABLE_SIZE];
	uint64_t previous; /* hash of the last word that tells something */
	float previous_weight;
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static void emit(struct state *s, const struct feature *f)
{
	/* Log2 of small counts by table lookups would save nothing: features are few. */
	float w = f->weight * log2f(1.0f + (float)f->count) * 0.5f;
	uint64_t h = f->hash;

	for (int i = 0; i < 4; i++) {
		h = mix(h + 0x9e3779b97f4a7c15u);
		uint32_t at = (uint32_t)((h >> 32) * s->dim >> 32);
		s->vec[at] += h & 1 ? w : -w;
	}
}

static void drain(struct state *s)
{
	for (size_t i = 0; i < TABLE_SIZE; i++) {
		if (s->table[i].hash)
			emit(s, &s->table[i]);
	}
	memset(s->table, 0, sizeof s->table);
	s->used = 0;
}

static void add(struct state *s, uint64_t hash, float weight)
{
	if (s->used >= TABLE_SIZE / 4 * 3)
		drain(s);
	hash = hash ? hash : 1;
	size_t i = hash % TABLE_SIZE;
	while (s->table[i].hash && s->table[i].hash != hash)
		i = (i + 1) % TABLE_SIZE;
	struct feature *f = &s->table[i];
	if (!f->hash) {
		f->hash = hash;
		f->weight = weight;
		s->used++;
	}
	f->count++;
}

/* Whether a character of UTF-8 starts at 'p'. */
static bool starts_char(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80;
}

/* The 3- to 5-grams of characters of "<word>". */
static void add_grams(struct state *s, const char *w, size_t n, float weight)
{
	char m[WORD_MAX + 2];
	size_t at[WORD_MAX + 3], chars = 0;

	m[0] = '<';
	memcpy(m + 1, w, n);
	m[n + 1] = '>';
	for (size_t i = 0; i < n + 2; i++) {
		if (starts_char(m[i]))
			at[chars++] = i;
	}
	at[chars] = n + 2;
	if (chars < 5)
		return; /* a word of two letters is its own gram */
	size_t grams = 3 * chars - 9;
	float each = weight * GRAMS_WEIGHT / sqrtf((float)grams);
	for (size_t len = 3; len <= 5; len++) {
		for (size_t i = 0; i + len <= chars; i++)
			add(s, hash_xxh3(m + at[i], at[i + len] - at[i], SEED + len), each);
	}
}

static void add_word(struct state *s, char *w, size_t n)
{
	float weight = word_weight(w, n);
	bool stop = weight < 0.1f;

	n = word_stem(w, n);
	uint64_t h = hash_xxh3(w, n, SEED);
	add(s, h, weight);
	if (stop)
		return;
	add_grams(s, w, n, weight);
	if (s->previous)
		add(s, mix(s->previous) ^ h, PAIR_WEIGHT * sqrtf(weight * s->previous_weight));
	s->previous = h;
	s->previous_weight = weight;
}

/* U+00C0 ... U+00FF without their accents. */
static const char *const latin1[64] = {"a", "a", "a", "a", "a", "a", "ae", "c", "e", "e", "e", "e",
	"i", "i", "i", "i", "d", "n", "o", "o", "o", "o", "o", NULL, "o", "u", "u", "u", "u", "y",
	"th", "ss", "a", "a", "a", "a", "a", "a", "ae", "c", "e", "e", "e", "e", "i", "i", "i", "i",
	"d", "n", "o", "o", "o", "o", "o", NULL, "o", "u", "u", "u", "u", "y", "th", "y"};

/* The folded form of the character at 'p': up to 4 bytes, 0 for what separates words. */
static size_t fold(const uint8_t *p, size_t left, char ret[4], size_t *ret_used)
{
	uint8_t c = p[0];

	*ret_used = 1;
	if (c < 0x80) {
		if (c >= 'A' && c <= 'Z')
			c = (uint8_t)(c + 32);
		ret[0] = (char)c;
		return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
	}
	size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	if (c < 0xc2 || c > 0xf4 || need > left)
		return 0;
	for (size_t i = 1; i < need; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	*ret_used = need;
	if (c == 0xc3) {
		const char *plain = latin1[p[1] & 0x3f];
		if (!plain)
			return 0;
		memcpy(ret, plain, strlen(plain));
		return strlen(plain);
	}
	/* U+0080-00BF and general punctuation (U+2000-206F, U+3000-303F) separate. */
	if (c == 0xc2 || (c == 0xe2 && (p[1] == 0x80 || p[1] == 0x81)) ||
		(c == 0xe3 && p[1] == 0x80))
		return 0;
	memcpy(ret, p, need);
	return need;
}

static void add_text(struct state *s, const char *text, size_t len)
{
	char word[WORD_MAX], one[4];
	size_t n = 0, used;

	for (size_t i = 0; i < len; i += used) {
		const uint8_t *p = (const uint8_t *)text + i;
		/* It's and don't are words of their own without the apostrophe. */
		size_t k = fold(p, len - i, one, &used);
		if (n && (k == 0 || n + k > WORD_MAX)) {
			add_word(s, word, n);
			n = 0;
		}
		memcpy(word + n, one, k);
		n += k;
	}
	if (n)
		add_word(s, word, n);
}

void embed_hash(const char *text, size_t len, uint32_t dim, float *ret)
{
	struct state s;
	double sum = 0;

	memset(&s, 0, sizeof s);
	memset(ret, 0, dim * sizeof(float));
	s.vec = ret;
	s.dim = dim;
	add_text(&s, text, len);
	drain(&s);
	for (uint32_t i = 0; i < dim; i++)
		sum += (double)ret[i] * ret[i];
	if (sum < 1e-12) {
		/* No words, or signs that cancel: the bytes themselves, so that every text has a
		 * direction. */
		memset(ret, 0, dim * sizeof(float));
		uint64_t h = mix(hash_xxh3(text, len, SEED));
		ret[(h >> 32) * dim >> 32] = h & 1 ? 1.0f : -1.0f;
		return;
	}
	float scale = (float)(1.0 / sqrt(sum));
	for (uint32_t i = 0; i < dim; i++)
		ret[i] *= scale;
}
