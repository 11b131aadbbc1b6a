/* recall.c - what a measurement promises.
 *
 * A sample errs, so an ef is not chosen by the recall that was seen but by a bound on it.  Misses
 * come in clusters: the neighbours of one question lie together and are lost together.  So they are
 * counted as a Poisson variable stretched by D = variance / mean of the misses per question:
 * m misses are worth m / D independent events, whose expectation is, at z standard errors, at most
 *
 *	u = m/D + z sqrt(m/D + z^2/4) + z^2/2		(the score interval)
 *
 * and the share of misses at most D u / (n k).  That holds for no misses at all too: 500
 * questions without a miss show .9995 and no more.  D is carried from rung to rung, as few misses
 * cannot tell it.
 *
 * High promises would need thousands of questions to be shown so.  But misses fall steeply with ef,
 * by far more than half when it doubles: what was seen on one rung, without any margin, is a safe
 * bound for the rung of twice its ef, provided that the ladder does fall there (a broken graph or
 * coarse codes make it level out, and then nothing but counting helps).
 *
 * The shares of a ladder are made to fall with ef, and between two rungs the logarithm of the share
 * is taken to be linear in the logarithm of ef.  Since the measurement the structure may have
 * grown; ef then grows with the logarithm of that.  For a number of neighbours between those of two
 * ladders, ef / k is interpolated; beyond 100 that ratio is kept, although it falls slowly.
 */
#include "index/recall.h"

#include <math.h>
#include <string.h>

/* One-sided 95 %. */
#define RECALL_Z 1.645

/* Growth of ef per doubling of the structure. */
#define GROWTH_PER_DOUBLING 0.25f

/* Without a measurement: so few slots are scanned at once, among more the breadth is a guess on
 * the safe side for data of an ordinary kind. */
#define UNMEASURED_SCAN 4096u
#define UNMEASURED_EF   96.0f /* for .95 */

/* Clusters of misses on the rung below count as this many of those here. */
#define D_WEIGHT  4.0

#define SHARE_ONE ((double)UINT32_MAX)

static const uint32_t first_ef[RECALL_KS] = {10, 10, 100, 10};
static const uint32_t neighbours[RECALL_KS] = {1, 10, 100, 10};

uint32_t recall_ef(enum recall_k k, uint32_t rung)
{
	return (uint32_t)(first_ef[k] * exp2(rung / 2.0) + 0.5);
}

uint32_t recall_neighbours(enum recall_k k)
{
	return neighbours[k];
}

double recall_bound(uint32_t n, uint32_t k, uint32_t misses, uint32_t squares, double z, double *d)
{
	if (n == 0)
		return 1.0;
	double mean = (double)misses / n;
	if (misses > 0) {
		double var = VX_MAX((double)squares / n - mean * mean, 0.0);
		/* Few misses say little about how they come: less than what was known before. */
		double seen = VX_MAX(var / mean, 1.0 - mean / k), events = misses / seen;
		*d = (events * seen + D_WEIGHT * *d) / (events + D_WEIGHT);
	}
	double m = misses / *d;
	double u = m + z * sqrt(m + z * z / 4) + z * z / 2;
	return VX_MIN(*d * u / ((double)n * k), 1.0);
}

void recall_init(struct recall *r)
{
	vx_mutex_init(&r->lock, LOCK_NODE);
	recall_reset(r);
}

void recall_release(struct recall *r)
{
	vx_mutex_release(&r->lock);
}

void recall_reset(struct recall *r)
{
	static const struct recall_measure none;

	recall_set(r, &none);
}

static void put(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static uint32_t get(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* Rungs that double ef. */
#define DOUBLE 2u

/* Whether doubling ef twice, up to this rung, left out less than half of the misses each time. */
static bool falls(const struct recall_curve *c, uint32_t i)
{
	if (i < 2 * DOUBLE || i >= RECALL_RUNGS)
		return false;
	return 2 * c->misses[i] <= c->misses[i - DOUBLE] &&
	       2 * c->misses[i - DOUBLE] <= c->misses[i - 2 * DOUBLE];
}

static void set_table(uint32_t *table, const struct recall_curve *c, enum recall_k k)
{
	/* One neighbour is found or not: its sample is too small for bounds of its own.  It only
	 * may ask for more than ten do. */
	double z = k == RECALL_1 ? 0 : RECALL_Z, worst = 0, asked = (double)c->n * neighbours[k];
	double bound[RECALL_RUNGS], d = 1;

	for (uint32_t i = 0; i < RECALL_RUNGS && i < c->rungs; i++)
		bound[i] = recall_bound(c->n, neighbours[k], c->misses[i], c->squares[i], z, &d);

	for (uint32_t i = RECALL_RUNGS; i-- > 0;) {
		uint32_t share = UINT32_MAX;
		if (i < c->rungs && c->n > 0) {
			double b = bound[i];
			if (falls(c, i))
				b = VX_MIN(b, VX_MAX(c->misses[i - DOUBLE], 1u) / asked);
			worst = VX_MAX(worst, b);
			share = (uint32_t)(worst * (SHARE_ONE - 1));
		}
		put(&table[i], share);
	}
}

void recall_set(struct recall *r, const struct recall_measure *m)
{
	uint64_t asked = 10ull * m->curve[RECALL_10].n;

	vx_lock(&r->lock);
	r->m = *m;
	for (int k = 0; k < RECALL_KS; k++)
		set_table(r->table[k], &m->curve[k], (enum recall_k)k);
	put(&r->scan_share,
		asked ? (uint32_t)((double)m->rerank_misses / (double)asked * SHARE_ONE) : 0);
	put(&r->linked, m->linked);
	vx_unlock(&r->lock);
}

void recall_get(struct recall *r, struct recall_measure *ret)
{
	vx_lock(&r->lock);
	*ret = r->m;
	vx_unlock(&r->lock);
}

bool recall_valid(const struct recall_measure *m, uint32_t linked)
{
	if (m->linked > linked || m->coarse > 1)
		return false;
	for (int k = 0; k < RECALL_KS; k++) {
		const struct recall_curve *c = &m->curve[k];
		uint64_t most = (uint64_t)c->n * neighbours[k];
		if (c->rungs > RECALL_RUNGS || c->n > linked || most > UINT32_MAX)
			return false;
		for (uint32_t i = 0; i < RECALL_RUNGS; i++) {
			if (c->misses[i] > most || c->squares[i] > most * neighbours[k])
				return false;
		}
	}
	uint64_t most = 10ull * m->curve[RECALL_10].n;
	return m->code_misses <= most && m->rerank_misses <= most;
}

/* The ef on a ladder at which at most 'share' is missed; 0: on none of it. */
static float climb(const uint32_t *table, enum recall_k k, uint32_t share)
{
	uint32_t i = 0;

	while (i < RECALL_RUNGS && get(&table[i]) > share)
		i++;
	if (i == RECALL_RUNGS)
		return 0;
	float at = (float)first_ef[k] * exp2f((float)i / 2);
	if (i == 0 || share == 0)
		return at;
	float hi = logf((float)get(&table[i - 1]) + 1), lo = logf((float)get(&table[i]) + 1);
	float f = hi > lo ? (logf((float)share + 1) - lo) / (hi - lo) : 0;
	return at * exp2f(-VX_MIN(f, 1.0f) / 2);
}

/* ef / k is interpolated between the ladders of 10 and 100. */
static float ef_for(const struct recall *r, uint32_t k, uint32_t share)
{
	float ten = k < 100 ? climb(r->table[RECALL_10], RECALL_10, share) : 0;

	if (k <= 10) {
		float one = climb(r->table[RECALL_1], RECALL_1, share);
		return ten > 0 && one > 0 ? VX_MAX(ten, one) : 0;
	}
	float hundred = climb(r->table[RECALL_100], RECALL_100, share);
	if (hundred <= 0 || (k < 100 && ten <= 0))
		return 0;
	if (k >= 100)
		return hundred * (float)k / 100;
	float f = logf((float)k / 10) / logf(10);
	return (float)k * expf(logf(ten / 10) * (1 - f) + logf(hundred / 100) * f);
}

/* How many times the ef a filter takes; 0: no ef is enough. */
static float filter_factor(const struct recall *r, uint32_t share)
{
	if (get(&r->table[RECALL_FILTERED][0]) == UINT32_MAX)
		return 1;
	float ten = climb(r->table[RECALL_10], RECALL_10, share);
	float few = climb(r->table[RECALL_FILTERED], RECALL_FILTERED, share);
	return few > 0 && ten > 0 ? VX_MAX(few / ten, 1.0f) : 0;
}

void recall_plan(const struct recall *r, double recall, uint32_t k, bool filtered, uint32_t linked,
	struct recall_plan *ret)
{
	double miss = VX_MIN(VX_MAX(1.0 - recall, 0.0), 1.0);
	uint32_t share = (uint32_t)(miss * SHARE_ONE), measured = get(&r->linked);
	float ef, most = (float)UINT32_MAX / 2;

	*ret = (struct recall_plan){.ef = k};
	if (measured == 0) {
		ret->scan = linked <= UNMEASURED_SCAN;
		ef = UNMEASURED_EF * powf(0.05f / (float)VX_MAX(miss, 1e-4), 0.7f);
		ef *= (float)VX_MAX(k, 10u) / 10;
	} else {
		ef = ef_for(r, k, share);
		if (filtered)
			ef *= filter_factor(r, share);
		if (ef <= 0) {
			ret->scan = true;
			ret->exact = get(&r->scan_share) > share;
			return;
		}
		if (linked > measured)
			ef *= 1 + GROWTH_PER_DOUBLING * log2f((float)linked / (float)measured);
	}
	ret->ef = VX_MAX(k, (uint32_t)VX_MIN(ef + 0.5f, most));
}

double recall_measured(const struct recall_measure *m, uint32_t ef)
{
	const struct recall_curve *c = &m->curve[RECALL_10];
	double asked = 10.0 * c->n, miss = NAN;

	for (uint32_t i = 0; i < c->rungs && c->n > 0; i++) {
		double at = recall_ef(RECALL_10, i), here = c->misses[i] / asked;
		if (i > 0 && ef < at) {
			double below = recall_ef(RECALL_10, i - 1);
			double f = log(VX_MAX(ef, below) / below) / log(at / below);
			return 1.0 - (miss * (1 - f) + here * f);
		}
		miss = here;
		if (ef <= at)
			break;
	}
	return 1.0 - miss;
}
