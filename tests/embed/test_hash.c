/* The built-in embedder: deterministic, of unit length, and good enough to find paragraphs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "embed/embed.h"

#define PARAGRAPHS_MAX 64
#define DIM            384u

static float dot(const float *a, const float *b, uint32_t dim)
{
	float s = 0;

	for (uint32_t i = 0; i < dim; i++)
		s += a[i] * b[i];
	return s;
}

static float similarity(const char *a, const char *b)
{
	static float x[DIM], y[DIM];

	embed_hash(a, strlen(a), DIM, x);
	embed_hash(b, strlen(b), DIM, y);
	return dot(x, y, DIM);
}

struct labelled {
	char *label, *text;
};

static size_t load(const char *name, struct labelled *ret)
{
	const char *dir = getenv("VECFS_TEST_DATA");
	char path[512], *line = NULL;
	size_t n = 0, cap = 0;

	snprintf(path, sizeof path, "%s/%s", dir ? dir : "tests/data", name);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (getline(&line, &cap, f) > 0) {
		char *tab = strchr(line, '\t');
		assert_non_null(tab);
		assert_true(n < PARAGRAPHS_MAX);
		*tab = 0;
		tab[strcspn(tab + 1, "\n") + 1] = 0;
		ret[n].label = strdup(line);
		ret[n++].text = strdup(tab + 1);
	}
	free(line);
	fclose(f);
	return n;
}

static void unload(struct labelled *l, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(l[i].label);
		free(l[i].text);
	}
}

/* How many paragraphs are nearer to the question than the right one. */
static size_t rank_of(
	const struct labelled *paras, size_t n, const struct labelled *q, uint32_t dim)
{
	static float qv[4096], pv[4096];
	float right = -2;
	size_t nearer = 0;

	embed_hash(q->text, strlen(q->text), dim, qv);
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(paras[i].label, q->label)) {
			embed_hash(paras[i].text, strlen(paras[i].text), dim, pv);
			right = dot(qv, pv, dim);
		}
	}
	assert_true(right > -2);
	for (size_t i = 0; i < n; i++) {
		embed_hash(paras[i].text, strlen(paras[i].text), dim, pv);
		nearer += dot(qv, pv, dim) > right;
	}
	return nearer;
}

static void hits(uint32_t dim, size_t *ret_at_1, size_t *ret_at_3, size_t *ret_n)
{
	struct labelled paras[PARAGRAPHS_MAX], questions[PARAGRAPHS_MAX];
	size_t n = load("paragraphs.tsv", paras), m = load("questions.tsv", questions);

	*ret_at_1 = *ret_at_3 = 0;
	*ret_n = m;
	for (size_t i = 0; i < m; i++) {
		size_t r = rank_of(paras, n, &questions[i], dim);
		*ret_at_1 += r == 0;
		*ret_at_3 += r < 3;
		if (r >= 3)
			printf("dim %u: rank %zu for: %s\n", dim, r + 1, questions[i].text);
	}
	printf("dim %u: %zu paragraphs, %zu questions, hit@1 %zu, hit@3 %zu\n", dim, n, m,
		*ret_at_1, *ret_at_3);
	unload(paras, n);
	unload(questions, m);
}

static void questions_in_words_find_their_paragraph(void **state)
{
	size_t at_1, at_3, n;

	(void)state;
	hits(DIM, &at_1, &at_3, &n);
	assert_true(n >= 15);
	assert_true(at_3 * 10 >= n * 8);
	assert_true(at_1 * 10 >= n * 6);
	hits(1024, &at_1, &at_3, &n);
	assert_true(at_3 * 10 >= n * 8);
}

static void every_text_has_unit_length(void **state)
{
	static const char *const texts[] = {"", " ", "a", "!!!", "the of and", "x y z",
		"\xff\xfe broken", "na\xc3\xafve \xe6\xbc\xa2\xe5\xad\x97", "one two three"};
	static const uint32_t dims[] = {1, 2, 3, 16, 384, 1000};
	static float v[1000];

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(texts); i++) {
		for (size_t d = 0; d < VX_ARRAY_SIZE(dims); d++) {
			embed_hash(texts[i], strlen(texts[i]), dims[d], v);
			assert_float_equal(dot(v, v, dims[d]), 1.0f, 1e-4f);
		}
	}
}

static void inflected_words_are_near(void **state)
{
	(void)state;
	assert_true(similarity("deleting records", "delete a record") > 0.7f);
	assert_true(similarity("stopped", "stop") > 0.9f);
	assert_true(similarity("compression", "compressing") > 0.6f);
	assert_true(similarity("Caf\xc3\xa9", "cafe") > 0.99f);
	assert_true(similarity("colection", "collection") > 0.15f);
	assert_true(similarity("volcano", "mortgage") < 0.3f);
}

static void common_words_hardly_count(void **state)
{
	(void)state;
	assert_true(similarity("the whale of the sea", "whale sea") > 0.9f);
	assert_true(similarity("what is the price of it", "what is the name of it") < 0.4f);
}

/* The vectors are a format: stored ones must meet those computed later. */
static void vectors_never_change(void **state)
{
	static const float want[8] = {0.0816494f, -0.63418555f, 0.32717407f, 0.08201087f,
		-0.20197643f, 0.09372035f, 0.13606569f, 0.6397512f};
	float v[8];

	(void)state;
	embed_hash("Deleted files, na\xc3\xafve caf\xc3\xa9s", 28, 8, v);
	for (int i = 0; i < 8; i++)
		assert_float_equal(v[i], want[i], 1e-5f);
}

static void a_long_text_is_no_problem(void **state)
{
	static float v[DIM];
	size_t n = 1u << 20;
	char *t = malloc(n);

	(void)state;
	assert_non_null(t);
	uint64_t x = 1;
	for (size_t i = 0; i < n; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		t[i] = i % 7 == 6 ? ' ' : (char)('a' + (x >> 33) % 26);
	}
	embed_hash(t, n, DIM, v);
	assert_float_equal(dot(v, v, DIM), 1.0f, 1e-3f);
	memset(t, 'a', n);
	embed_hash(t, n, DIM, v);
	assert_float_equal(dot(v, v, DIM), 1.0f, 1e-3f);
	free(t);
}

static void specs_are_checked(void **state)
{
	static const char *const wrong[] = {"", "hashes", "hash:", "hash:dim=0", "hash:dim=70000",
		"hash:dim=3x", "cmd:", "cmd:  ", "url:", "url:ftp://x/", "url:http://x/;what=1",
		"url:http://x/;batch=0", "url:http://x/;key-file=/nonexistent/key"};
	struct embedder *e;
	float *v;
	uint32_t dim;

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(wrong); i++) {
		struct vx_err err = VX_ERR_INIT;
		assert_true(embed_open(wrong[i], &e, &err) < 0);
		assert_true(err.msg[0] != 0);
	}
	assert_int_equal(embed_open("hash:dim=16", &e, NULL), 0);
	assert_int_equal(embed_dim(e), 16);
	const char *texts[2] = {"one", "two"};
	size_t lens[2] = {3, 3};
	assert_int_equal(embed_texts(e, texts, lens, 2, &v, &dim, NULL), 0);
	assert_int_equal(dim, 16);
	float want[16];
	embed_hash("two", 3, 16, want);
	assert_memory_equal(v + 16, want, sizeof want);
	free(v);
	embed_close(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions_in_words_find_their_paragraph),
		cmocka_unit_test(every_text_has_unit_length),
		cmocka_unit_test(inflected_words_are_near),
		cmocka_unit_test(common_words_hardly_count),
		cmocka_unit_test(vectors_never_change),
		cmocka_unit_test(a_long_text_is_no_problem),
		cmocka_unit_test(specs_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
