/* make_kinds.c - what the rows of a made set look like.
 *
 * All kinds are a tree of clusters with sizes by a power law; a row takes a path to a leaf, and inside
 * the leaf it varies along few directions of the leaf's own, with falling strength, plus a little
 * noise in all.  So near neighbours share a leaf, leaves are unlike each other in size, and the number of directions
 * that matter locally is far below the dimension, as in data from nature.
 */
#include "make.h"

#include <math.h>
#include <stdlib.h>

#define LEVELS_MAX 3u

struct shape {
	unsigned branch[LEVELS_MAX]; /* children per node */
	float spread[LEVELS_MAX];    /* of a node around its parent */
	float skew;                  /* of the sizes: the i-th child has weight 1 / (i + 1)^skew */
	unsigned bases, rank;        /* local subspaces, and directions in each */
	float local, fall; /* strength of the first direction; of the i-th 1 / (i + 1)^fall */
	float noise;
	unsigned smooth, smooth_local; /* passes over neighbouring components, of the tree's and the
					* leaves' directions */
	float mean;                    /* of each component */
	float decay, decay_local;      /* the i-th component falls with (i + 1)^decay, likewise */
	float power;                   /* of the components in the end; sift alone */
};

struct model {
	struct shape s;
	uint32_t dim, leaves;
	float *cumulated; /* of the leaves' weights */
	uint32_t *basis;  /* of each leaf */
	float *scale;     /* of each leaf */
	float *centres;   /* leaves x dim */
	float *subspaces; /* bases x rank x dim */
};

/* White noise, smoothed: neighbouring components go together, as bins of a histogram do. */
static void direction(
	struct rng *r, uint32_t dim, unsigned smooth, float decay, float *ret, float *tmp)
{
	double len = 0;

	for (uint32_t i = 0; i < dim; i++)
		ret[i] = rng_gauss(r) * powf((float)(i + 1), -decay);
	for (unsigned pass = 0; pass < smooth; pass++) {
		memcpy(tmp, ret, dim * sizeof *ret);
		for (uint32_t i = 0; i < dim; i++)
			ret[i] = 0.25F * tmp[(i + dim - 1) % dim] + 0.5F * tmp[i] +
				 0.25F * tmp[(i + 1) % dim];
	}
	for (uint32_t i = 0; i < dim; i++)
		len += (double)ret[i] * ret[i];
	for (uint32_t i = 0; i < dim; i++)
		ret[i] *= (float)(1 / sqrt(len));
}

static void fill_tree(struct model *m, struct rng *r, float *tmp)
{
	const struct shape *s = &m->s;
	float *dir = tmp + m->dim;
	double sum = 0;

	for (uint32_t leaf = 0; leaf < m->leaves; leaf++)
		for (uint32_t i = 0; i < m->dim; i++)
			m->centres[(size_t)leaf * m->dim + i] = s->mean;
	uint32_t below = m->leaves;
	for (unsigned l = 0; l < LEVELS_MAX; l++) {
		below /= s->branch[l];
		for (uint32_t node = 0; node < m->leaves / below; node++) {
			direction(r, m->dim, s->smooth, s->decay, dir, tmp);
			float strength = s->spread[l] * (0.5F + rng_unit(r));
			for (uint32_t leaf = node * below; leaf < (node + 1) * below; leaf++) {
				float *c = m->centres + (size_t)leaf * m->dim;
				for (uint32_t i = 0; i < m->dim; i++)
					c[i] += strength * dir[i];
			}
		}
	}
	for (uint32_t leaf = 0; leaf < m->leaves; leaf++) {
		double w = 1;
		uint32_t rest = leaf;
		for (unsigned l = LEVELS_MAX; l-- > 0; rest /= s->branch[l])
			w *= pow(1 + rest % s->branch[l], -s->skew);
		sum += w;
		m->cumulated[leaf] = (float)sum;
		m->basis[leaf] = (uint32_t)(rng_u64(r) % s->bases);
		m->scale[leaf] = 0.75F + 0.5F * rng_unit(r);
	}
}

static struct model *new_tree(uint64_t seed, uint32_t dim, const struct shape *s)
{
	size_t leaves = (size_t)s->branch[0] * s->branch[1] * s->branch[2];
	size_t sub = (size_t)s->bases * s->rank * dim;
	struct rng r = make_stream(seed, UINT64_MAX - 1);
	struct model *m = malloc(sizeof *m + (leaves * (3 + dim) + sub) * sizeof(float));
	float *tmp = malloc(2 * (size_t)dim * sizeof *tmp);

	if (!m || !tmp) {
		free(m);
		free(tmp);
		return NULL;
	}
	*m = (struct model){.s = *s, .dim = dim, .leaves = (uint32_t)leaves};
	m->cumulated = (float *)(m + 1);
	m->basis = (uint32_t *)(m->cumulated + leaves);
	m->scale = (float *)(m->basis + leaves);
	m->centres = m->scale + leaves;
	m->subspaces = m->centres + leaves * dim;
	fill_tree(m, &r, tmp);
	for (size_t i = 0; i < (size_t)s->bases * s->rank; i++)
		direction(&r, dim, s->smooth_local, s->decay_local, m->subspaces + i * dim, tmp);
	free(tmp);
	return m;
}

static uint32_t pick_leaf(const struct model *m, struct rng *r)
{
	float x = rng_unit(r) * m->cumulated[m->leaves - 1];
	uint32_t lo = 0, hi = m->leaves - 1;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;
		if (m->cumulated[mid] > x)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void tree_row(const struct model *m, struct rng *r, float *ret)
{
	uint32_t leaf = pick_leaf(m, r);
	uint32_t other = (uint32_t)(rng_u64(r) % m->leaves);
	float part = rng_unit(r), mixed = part * part * part * 0.5F;
	const float *c = m->centres + (size_t)leaf * m->dim;
	const float *c2 = m->centres + (size_t)other * m->dim;
	const float *dir = m->subspaces + (size_t)m->basis[leaf] * m->s.rank * m->dim;
	float strength = m->s.local * m->scale[leaf];

	for (uint32_t i = 0; i < m->dim; i++)
		ret[i] = c[i] + mixed * (c2[i] - c[i]) + m->s.noise * rng_gauss(r);
	for (unsigned k = 0; k < m->s.rank; k++, dir += m->dim) {
		float x = strength * powf((float)(k + 1), -m->s.fall) * rng_gauss(r);
		for (uint32_t i = 0; i < m->dim; i++)
			ret[i] += x * dir[i];
	}
}

/* --- sift -------------------------------------------------------------------------------------- */
/* Histograms of gradients: nothing below zero, much of it zero, length 512, bytes.
 *
 * The shape was chosen by trial so that zeros, the share of variance in the first components, the local
 * intrinsic dimension and hnswlib's recall at given ef ('vec-bench --peers --json') come out near those of
 * real descriptors.
 */
static const struct shape sift_shape = {
	.branch = {16, 16, 16},
	.spread = {3.0F, 1.7F, 1.0F},
	.skew = 0.8F,
	.bases = 512,
	.rank = 48,
	.local = 1.2F,
	.fall = 0.48F,
	.noise = 0.05F,
	.smooth = 8,
	.smooth_local = 2,
	.mean = 0.72F,
	.power = 3.7F,
};

static void *sift_new(uint64_t seed, uint32_t dim)
{
	return new_tree(seed, dim, &sift_shape);
}

static void sift_row(const void *model, struct rng *r, float *ret)
{
	const struct model *m = model;

	tree_row(m, r, ret);
	for (uint32_t i = 0; i < m->dim; i++)
		ret[i] = ret[i] > 0 ? powf(ret[i], m->s.power) : 0;
	for (unsigned pass = 0; pass < 2; pass++) {
		double len = 0;
		for (uint32_t i = 0; i < m->dim; i++) {
			len += (double)ret[i] * ret[i];
		}
		float f = len > 0 ? (float)(1 / sqrt(len)) : 0;
		for (uint32_t i = 0; i < m->dim; i++) {
			ret[i] *= f;
			/* The descriptor's own rule: cut at 0.2, then to length 1 again. */
			if (pass == 0)
				ret[i] = fminf(ret[i], 0.2F);
		}
	}
	for (uint32_t i = 0; i < m->dim; i++)
		ret[i] = fminf(floorf(ret[i] * 512 + 0.5F), 255);
}

/* --- embed --------------------------------------------------------------------------------------- */
/* Embeddings of texts: length 1, variance falling fast, many local directions.  Chosen likewise. */
static const struct shape embed_shape = {
	.branch = {24, 16, 16},
	.spread = {0.8F, 0.35F, 0.2F},
	.skew = 0.8F,
	.bases = 384,
	.rank = 96,
	.local = 0.11F,
	.fall = 0.35F,
	.noise = 0.0045F,
	.decay = 1.1F,
	.decay_local = 0.3F,
};

static void *embed_new(uint64_t seed, uint32_t dim)
{
	return new_tree(seed, dim, &embed_shape);
}

static void embed_row(const void *model, struct rng *r, float *ret)
{
	const struct model *m = model;
	double len = 0;

	tree_row(m, r, ret);
	for (uint32_t i = 0; i < m->dim; i++)
		len += (double)ret[i] * ret[i];
	for (uint32_t i = 0; i < m->dim; i++)
		ret[i] *= (float)(1 / sqrt(len));
}

/* --- mnist ----------------------------------------------------------------------------------------- */
/* Handwriting: 28 x 28 pixels.  A row is one of a few styles of stroke, a line through some points that
 * wobble, slanted, scaled and drawn with a pen of some width. */
#define SIDE   28u
#define STYLES 160u
#define KNOTS  7u

struct pen {
	float x[STYLES][KNOTS], y[STYLES][KNOTS];
};

static void *mnist_new(uint64_t seed, uint32_t dim)
{
	struct rng r = make_stream(seed, UINT64_MAX - 1);
	struct pen *p = malloc(sizeof *p);

	(void)dim;
	for (unsigned s = 0; p && s < STYLES; s++) {
		float x = 9 + 10 * rng_unit(&r), y = 6 + 4 * rng_unit(&r);
		float turn = 6.28F * rng_unit(&r);
		for (unsigned k = 0; k < KNOTS; k++) {
			p->x[s][k] = x;
			p->y[s][k] = y;
			turn += 1.3F * rng_gauss(&r);
			x = fminf(fmaxf(x + 5.5F * cosf(turn), 7), 21);
			y = fminf(fmaxf(y + 5.5F * sinf(turn) + 1.5F, 5), 23);
		}
	}
	return p;
}

/* The squared distance of (px, py) from the segment a-b. */
static float to_segment(float px, float py, const float *x, const float *y, unsigned a)
{
	float dx = x[a + 1] - x[a], dy = y[a + 1] - y[a], len = dx * dx + dy * dy;
	float t = len > 0 ? ((px - x[a]) * dx + (py - y[a]) * dy) / len : 0;

	t = fminf(fmaxf(t, 0), 1);
	dx = px - x[a] - t * dx;
	dy = py - y[a] - t * dy;
	return dx * dx + dy * dy;
}

static void mnist_row(const void *model, struct rng *r, float *ret)
{
	const struct pen *p = model;
	unsigned s = (unsigned)(rng_u64(r) % STYLES);
	float slant = 0.22F * rng_gauss(r), size = 1 + 0.08F * rng_gauss(r);
	float width = 1.3F + 0.8F * rng_unit(r), x[KNOTS], y[KNOTS];

	for (unsigned k = 0; k < KNOTS; k++) {
		float cx = p->x[s][k] - 14 + 1.3F * rng_gauss(r);
		float cy = p->y[s][k] - 14 + 1.3F * rng_gauss(r);
		x[k] = 14 + size * (cx - slant * cy);
		y[k] = 14 + size * cy;
	}
	for (unsigned i = 0; i < SIDE * SIDE; i++) {
		unsigned row = i / SIDE, column = i % SIDE;
		float near = 1e9F;
		for (unsigned k = 0; k + 1 < KNOTS; k++)
			near = fminf(near, to_segment((float)column, (float)row, x, y, k));
		float ink = (width + 0.5F - sqrtf(near)) * 255;
		/* The paper is white but for the edge of the line, and ink is not even. */
		ret[i] = ink <= 0 ? 0 : floorf(fminf(ink, 255 - 12 * rng_unit(r)));
	}
}

static const struct make_kind kinds[] = {
	{"sift", 128, false, true, sift_new, sift_row},
	{"embed", 768, false, false, embed_new, embed_row},
	{"mnist", SIDE *SIDE, true, true, mnist_new, mnist_row},
};

const struct make_kind *make_kind_find(const char *name)
{
	for (size_t i = 0; i < VX_ARRAY_SIZE(kinds); i++) {
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	}
	return NULL;
}
