/* dataset.c - readers for bvecs, npy (float32 and float16) and ivecs, plain or zstd. */
#include "dataset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct blob {
	uint8_t *p;
	size_t n;
};

static int read_all(FILE *f, struct blob *b)
{
	size_t cap = 1 << 20;

	b->p = malloc(cap);
	b->n = 0;
	while (b->p) {
		size_t r = fread(b->p + b->n, 1, cap - b->n, f);
		if (r == 0)
			return ferror(f) ? -EIO : 0;
		b->n += r;
		if (b->n == cap) {
			uint8_t *q = realloc(b->p, cap *= 2);
			if (!q)
				free(b->p);
			b->p = q;
		}
	}
	return -ENOMEM;
}

/* DIR/NAME.SUFFIX, or the same with .zst. */
static int read_blob(const char *dir, const char *name, const char *suffix, struct blob *b)
{
	char path[1024], cmd[1100];

	snprintf(path, sizeof path, "%s/%s.%s", dir, name, suffix);
	if (access(path, R_OK) == 0) {
		FILE *f = fopen(path, "rb");
		if (!f)
			return -errno;
		int rc = read_all(f, b);
		fclose(f);
		return rc;
	}
	strncat(path, ".zst", sizeof path - strlen(path) - 1);
	if (access(path, R_OK) != 0)
		return -ENOENT;
	snprintf(cmd, sizeof cmd, "zstd -dcq '%s'", path);
	FILE *f = popen(cmd, "r");
	if (!f)
		return -errno;
	int rc = read_all(f, b);
	return pclose(f) == 0 ? rc : -EIO;
}

static int32_t le32(const uint8_t *p)
{
	return (int32_t)((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
			 (uint32_t)p[3] << 24);
}

static float half(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, frac = h & 1023, bits;
	float f;

	if (exp == 0) {
		f = (float)frac * 0x1p-24f;
		return sign ? -f : f;
	}
	bits = sign | (exp == 31 ? 255u << 23 : (exp + 112) << 23) | frac << 13;
	memcpy(&f, &bits, 4);
	return f;
}

static int parse_bvecs(const struct blob *b, uint32_t *dim, uint32_t *n, float **ret)
{
	if (b->n < 4)
		return -EINVAL;
	*dim = (uint32_t)le32(b->p);
	if (*dim == 0 || *dim > 65536 || b->n % (*dim + 4) != 0)
		return -EINVAL;
	*n = (uint32_t)(b->n / (*dim + 4));
	float *v = malloc((size_t)*n * *dim * sizeof *v);
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < *n; i++) {
		for (size_t j = 0; j < *dim; j++)
			v[i * *dim + j] = b->p[i * (*dim + 4) + 4 + j];
	}
	*ret = v;
	return 0;
}

static int parse_npy(const struct blob *b, uint32_t *dim, uint32_t *n, float **ret)
{
	if (b->n < 12 || memcmp(b->p, "\x93NUMPY\x01", 7) != 0)
		return -EINVAL;
	size_t hl = (size_t)b->p[8] | (size_t)b->p[9] << 8;
	char head[1024] = "";
	if (hl >= sizeof head || 10 + hl > b->n)
		return -EINVAL;
	memcpy(head, b->p + 10, hl);
	bool f2 = strstr(head, "'<f2'") != NULL;
	const char *shape = strstr(head, "'shape': (");
	if (!shape || (!f2 && !strstr(head, "'<f4'")) ||
		sscanf(shape, "'shape': (%u, %u)", n, dim) != 2)
		return -EINVAL;
	size_t count = (size_t)*n * *dim;
	if (count == 0 || b->n - 10 - hl != count * (f2 ? 2 : 4))
		return -EINVAL;
	float *v = malloc(count * sizeof *v);
	if (!v)
		return -ENOMEM;
	const uint8_t *p = b->p + 10 + hl;
	for (size_t i = 0; i < count; i++) {
		if (f2)
			v[i] = half((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
		else
			memcpy(&v[i], p + 4 * i, 4);
	}
	*ret = v;
	return 0;
}

static int load_vectors(const char *dir, const char *name, const char *part, uint32_t *dim,
	uint32_t *n, float **ret)
{
	struct blob b = {0};
	char suffix[64];

	snprintf(suffix, sizeof suffix, "%s.bvecs", part);
	int rc = read_blob(dir, name, suffix, &b);
	if (rc == 0)
		rc = parse_bvecs(&b, dim, n, ret);
	else if (rc == -ENOENT) {
		snprintf(suffix, sizeof suffix, "%s.npy", part);
		rc = read_blob(dir, name, suffix, &b);
		if (rc == 0)
			rc = parse_npy(&b, dim, n, ret);
	}
	free(b.p);
	return rc;
}

static int load_truth(const char *dir, struct dataset *d)
{
	struct blob b = {0};
	int rc = read_blob(dir, d->name, "gt.ivecs", &b);

	if (rc < 0)
		return rc;
	uint32_t k = b.n >= 4 ? (uint32_t)le32(b.p) : 0;
	if (k < 10 || k > 10000 || b.n != (size_t)d->nquery * (k + 1) * 4) {
		free(b.p);
		return -EINVAL;
	}
	d->truth_k = k;
	d->truth = malloc((size_t)d->nquery * k * sizeof *d->truth);
	for (size_t i = 0; d->truth && i < d->nquery; i++) {
		for (size_t j = 0; j < k; j++)
			d->truth[i * k + j] = le32(b.p + (i * (k + 1) + 1 + j) * 4);
	}
	free(b.p);
	return d->truth ? 0 : -ENOMEM;
}

int dataset_load(const char *dir, const char *name, bool cosine, struct dataset *d)
{
	uint32_t qdim = 0;

	memset(d, 0, sizeof *d);
	snprintf(d->name, sizeof d->name, "%s", name);
	d->cosine = cosine;
	int rc = load_vectors(dir, name, "base", &d->dim, &d->nbase, &d->base);
	if (rc == 0)
		rc = load_vectors(dir, name, "query", &qdim, &d->nquery, &d->query);
	if (rc == 0 && qdim != d->dim)
		rc = -EINVAL;
	if (rc == 0)
		rc = load_truth(dir, d);
	if (rc < 0) {
		fprintf(stderr, "bench: %s/%s: %s\n", dir, name, strerror(-rc));
		dataset_release(d);
	}
	return rc;
}

void dataset_release(struct dataset *d)
{
	free(d->base);
	free(d->query);
	free(d->truth);
	memset(d, 0, sizeof *d);
}
