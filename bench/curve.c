/* curve.c - recall and time at rising ef.
 *
 * A first pass finds each engine's points: ef rises until recall passes the highest level or gains
 * nothing any more.  The rounds after it are interleaved: at every place of the list each engine is timed once, one
 * after the other, so that what else the machine does falls on all alike.  The points on either side
 * of a level are what the figures come from and are timed in every round; the others serve the
 * drawing and are timed three times.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>

#include "cli/cli.h"

const double bench_levels[LEVELS] = {0.90, 0.95, 0.99, 0.999};

static const unsigned efs[] = {10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160,
	200, 256, 320, 400, 512, 640, 800, 1024, 1280, 1600, 2000};

#define OTHERS_ROUNDS 3u
#define RECALL_ENOUGH 0.9993
#define STALLED       4u /* places without a gain */
#define GAIN_MIN      0.0004
#define SLOW_S        0.05 /* per question: nothing beyond is of interest */

_Static_assert(VX_ARRAY_SIZE(efs) + 1 <= POINTS_MAX, "a point per ef and one for the default");

int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int time_point(struct engine *e, struct point *p, struct vx_err *err)
{
	double s;
	int rc = e->ops->search(e, p->ef, NULL, &s, err);

	if (rc == 0) {
		p->cpu[p->rounds] = e->search_cpu_s / (double)e->set->nq;
		p->distances = e->search_distances;
		p->s[p->rounds++] = s / (double)e->set->nq;
	}
	return rc;
}

/* The answers of the first pass give the recall: engines answer alike every time. */
static int find_point(struct engine *e, unsigned ef, struct vx_err *err)
{
	struct point *p = &e->points[e->npoints];

	*p = (struct point){.ef = ef};
	int rc = time_point(e, p, err);
	if (rc)
		return rc;
	p->recall = set_recall(e->set, e->answers);
	e->npoints++;
	return 0;
}

static bool enough(const struct engine *e)
{
	const struct point *p = &e->points[e->npoints - 1];

	if (e->npoints < 2)
		return false;
	if (p->recall >= RECALL_ENOUGH || p->s[0] > SLOW_S)
		return true;
	return e->npoints > STALLED + 1 && p->recall - (p - STALLED)->recall < GAIN_MIN;
}

static bool matters(const struct engine *e, unsigned i)
{
	const struct point *p = &e->points[i];

	if (i < 2 || i + 1 == e->npoints)
		return true; /* the default, and the ends of the curve */
	for (unsigned l = 0; l < LEVELS; l++) {
		double want = bench_levels[l];
		if ((p->recall >= want && p[-1].recall < want) ||
			(p->recall < want && p[1].recall >= want))
			return true;
	}
	return false;
}

static double median_of(double *v, unsigned n)
{
	qsort(v, n, sizeof *v, cmp_double);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void take_medians(struct engine *e)
{
	for (unsigned i = 0; i < e->npoints; i++) {
		struct point *p = &e->points[i];
		p->median = median_of(p->s, p->rounds);
		p->cpu_median = median_of(p->cpu, p->rounds);
	}
}

int curve_measure(struct engine *const *e, unsigned n, unsigned rounds, struct vx_err *err)
{
	int rc = 0;

	for (unsigned a = 0; a < n && rc == 0; a++) {
		/* Once around for the caches, and for the recall of the defaults. */
		e[a]->npoints = 0;
		rc = find_point(e[a], 0, err);
		e[a]->points[0].rounds = 0;
		if (rc == 0)
			rc = time_point(e[a], &e[a]->points[0], err);
	}
	for (size_t i = 0; i < VX_ARRAY_SIZE(efs) && rc == 0; i++) {
		for (unsigned a = 0; a < n && rc == 0; a++) {
			cli_progress("recall", i, VX_ARRAY_SIZE(efs) * rounds);
			if (!enough(e[a]))
				rc = find_point(e[a], efs[i], err);
		}
	}
	for (unsigned r = 1; r < rounds && rc == 0; r++) {
		for (unsigned i = 0; i < POINTS_MAX && rc == 0; i++) {
			for (unsigned b = 0; b < n && rc == 0; b++) {
				/* Everybody comes first in turn. */
				struct engine *x = e[(b + r) % n];
				if (i < x->npoints && (r < OTHERS_ROUNDS || matters(x, i)))
					rc = time_point(x, &x->points[i], err);
			}
			cli_progress("rounds", r * POINTS_MAX + i, (uint64_t)rounds * POINTS_MAX);
		}
	}
	cli_progress_end();
	for (unsigned a = 0; a < n; a++)
		take_medians(e[a]);
	return rc;
}

static double median_s(const struct point *p)
{
	return p->median;
}

static double median_cpu_s(const struct point *p)
{
	return p->cpu_median;
}

static double distances(const struct point *p)
{
	return p->distances;
}

/* Recall is taken to grow evenly with ef between two points, and so is 'cost'. */
static double at(const struct engine *e, double recall, double (*cost)(const struct point *p))
{
	for (unsigned i = 1; i < e->npoints; i++) {
		const struct point *b = &e->points[i], *a = b - 1;
		if (b->recall < recall)
			continue;
		if (i == 1 || b->recall <= a->recall)
			return cost(b);
		double f = (recall - a->recall) / (b->recall - a->recall);
		return cost(a) + f * (cost(b) - cost(a));
	}
	return 0;
}

double curve_at(const struct engine *e, double recall)
{
	return at(e, recall, median_s);
}

double curve_cpu_at(const struct engine *e, double recall)
{
	return at(e, recall, median_cpu_s);
}

double curve_distances_at(const struct engine *e, double recall)
{
	return at(e, recall, distances);
}

const struct point *curve_best(const struct engine *e)
{
	const struct point *best = NULL;

	for (unsigned i = 1; i < e->npoints; i++) {
		if (!best || e->points[i].recall > best->recall)
			best = &e->points[i];
	}
	return best;
}
