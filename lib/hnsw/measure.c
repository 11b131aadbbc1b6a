/* measure.c - the graph measures its own recall.
 *
 * How large ef must be for a recall depends on the data and its amount: no constant serves both
 * digits and sentences.  So as the graph grows a linking thread takes a sample of questions
 * (truth.c) and asks each through the whole way of a search, codes and reranking
 * included, at rising ef until it finds everything.  A question that has found all its neighbours on
 * one rung is taken to find them on those above, so the dear ones are climbed by the hard questions
 * alone.  What follows from the counts is recall.c's.
 *
 * When: in the middle of a build each time the graph has quadrupled, with a small sample; when the
 * tail has run empty, with a large one after that, after growth by a third, when a third of the slots
 * have died, and when what was added lately finds its neighbours less well than promised
 * (drifted).  It runs beside linking and searching and takes no lock.
 *
 * The effort is bounded in distances: a large sample costs about one part in fifty of the build.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hnsw/measure_i.h"

#define MEASURE_MIN   2000u /* linked slots below which all is scanned */
#define MEASURE_LARGE 512u
#define MEASURE_SMALL 64u
#define MEASURE_SPARE 96u /* a large one in a small graph */
#define MEASURE_SHARE 64u /* one question for so many slots */
#define MEASURE_LEAST 48u /* questions, whatever they cost */

/* Distances that may be spent on walks, per slot of the graph. */
#define WALK_BUDGET     100u

#define GROWTH_IN_BUILD 3u /* measured anew when as many times more have come */

#define DRIFT_MIN       1024u /* new slots before they are looked at */
#define DRIFT_QUESTIONS 32u
#define DRIFT_EF        6u /* truth is what so many times the ef finds */

/* --- climbing ------------------------------------------------------------- */
/* Hits that are true neighbours.  Equal distances count. */
static uint32_t count_found(const struct index_hit *hits, uint32_t n, float bound, uint32_t k)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < n && found < k; i++)
		found += hits[i].distance <= bound;
	return found;
}

static int ask(struct index *ix, const struct question *q, uint32_t linked, uint32_t k, uint32_t ef,
	struct index_hit *hits, uint32_t *ret_n, uint64_t *spent)
{
	struct index_search_stat st;
	struct index_query iq = {
		.vec = q->vec, .k = k, .ef = ef, .nslots = linked, .skip = q->slot + 1};
	if (q->thin)
		iq.visible = sample_visible;
	int rc = index_search(ix, &iq, hits, ret_n, &st);

	if (rc == 0)
		*spent += st.distances;
	return rc;
}

static void count_miss(struct recall_curve *c, uint32_t rung, uint32_t missed)
{
	c->misses[rung] += missed;
	c->squares[rung] += missed * missed;
}

/* How many rungs are walked: above, a search scans. */
static uint32_t rungs_below(enum recall_k k, uint32_t linked)
{
	uint32_t n = 0;

	while (n < RECALL_RUNGS && !index_ef_scans(recall_ef(k, n), linked))
		n++;
	return n;
}

/* Asks one question rung by rung.  'ten': and its nearest alone. */
static int climb(struct index *ix, const struct question *q, uint32_t linked, enum recall_k at,
	struct recall_measure *m, uint64_t *spent)
{
	struct recall_curve *c = &m->curve[at], *one = at == RECALL_10 ? &m->curve[RECALL_1] : NULL;
	uint32_t k = recall_neighbours(at), n;
	float bound = question_bound(ix, q, k), nearest = question_bound(ix, q, 1);
	struct index_hit hits[100];

	for (uint32_t i = 0; i < c->rungs; i++) {
		int rc = ask(ix, q, linked, k, recall_ef(at, i), hits, &n, spent);
		if (rc < 0)
			return rc;
		uint32_t missed = k - count_found(hits, n, bound, k);
		count_miss(c, i, missed);
		if (one)
			count_miss(one, i, n == 0 || hits[0].distance > nearest);
		if (missed == 0)
			break;
	}
	c->n++;
	if (one)
		one->n++;
	return 0;
}

static int climb_all(struct sample *s, struct index *ix, struct recall_measure *m)
{
	uint64_t budget = (uint64_t)s->linked * WALK_BUDGET, spent = 0;
	int rc = 0;

	for (int k = 0; k < RECALL_KS; k++)
		m->curve[k].rungs = rungs_below((enum recall_k)k, s->linked);
	for (uint32_t i = 0; i < s->n && rc == 0; i++) {
		const struct question *q = &s->q[i];
		if (ix_pause(ix))
			return -EINTR;
		if (i >= MEASURE_LEAST && spent > budget)
			break;
		if (q->thin) {
			rc = climb(ix, q, s->linked, RECALL_FILTERED, m, &spent);
			continue;
		}
		rc = climb(ix, q, s->linked, RECALL_10, m, &spent);
		if (rc == 0 && q->k == 100)
			rc = climb(ix, q, s->linked, RECALL_100, m, &spent);
		m->code_misses += 10 - q->by_codes;
		m->rerank_misses += 10 - q->by_rerank;
	}
	return rc;
}

/* --- when ----------------------------------------------------------------- */
static bool due(const struct index *ix, bool idle)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t linked = ix_load(&ix->linked), measured = ix_load(&h->measured);
	uint32_t dead = __atomic_load_n(&ix->dead, __ATOMIC_RELAXED);
	uint32_t grown = linked - VX_MIN(measured, linked);

	if (linked < MEASURE_MIN)
		return false;
	if (measured == 0 || grown > (idle ? measured / 3 : GROWTH_IN_BUILD * measured))
		return true;
	if (!idle)
		return false;
	uint32_t died = dead - VX_MIN(ix_load(&h->measured_dead), dead);
	return ix_load(&h->coarse) || died > linked / 3;
}

static bool drift_due(const struct index *ix)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t linked = ix_load(&ix->linked), looked = ix_load(&h->looked);

	return ix_load(&h->measured) > 0 && linked > looked &&
	       linked - looked >= VX_MAX(DRIFT_MIN, linked / 10);
}

/* Whether the slots linked since the last look find fewer of their neighbours than is promised.  What a much larger
 * ef finds stands for the truth: cheap, and enough to see that ef is too small. */
static bool drifted(struct index *ix)
{
	struct hnsw *h = hnsw_of(ix);
	uint32_t from = ix_load(&h->looked), linked = ix_load(&ix->linked), n, m, asked = 0;
	struct index_hit want[10], got[10];
	struct recall_plan plan;
	double sum = 0, squares = 0;
	uint64_t spent = 0;

	ix_store(&h->looked, linked);
	recall_plan(&h->recall, (double)INDEX_RECALL_DEFAULT, 10, false, linked, &plan);
	if (plan.scan)
		return false;
	for (uint32_t i = 0; i < DRIFT_QUESTIONS; i++) {
		struct question q = {
			.slot = from + (uint32_t)((uint64_t)i * (linked - from) / DRIFT_QUESTIONS)};
		q.vec = ix->host.vector(ix->host.ctx, q.slot);
		if (!q.vec || ask(ix, &q, linked, 10, plan.ef * DRIFT_EF, want, &n, &spent) < 0 ||
			ask(ix, &q, linked, 10, plan.ef, got, &m, &spent) < 0 || n == 0)
			continue;
		double r = (double)count_found(got, m, want[n - 1].distance, n) / n;
		sum += r;
		squares += r * r;
		asked++;
	}
	if (asked < DRIFT_QUESTIONS / 2)
		return false;
	double mean = sum / asked, var = VX_MAX(squares / asked - mean * mean, 0.0);
	return mean + 2 * sqrt(var / asked) < (double)INDEX_RECALL_DEFAULT;
}

void hnsw_measured(struct hnsw *h, const struct recall_measure *m)
{
	recall_set(&h->recall, m);
	ix_store(&h->measured_dead, m->dead);
	ix_store(&h->coarse, m->coarse);
	ix_store(&h->looked, m->linked);
	ix_store(&h->measured, m->linked);
}

/* Questions of a large sample. */
static uint32_t large_sample(uint32_t linked)
{
	return VX_MIN(VX_MAX(linked / MEASURE_SHARE, MEASURE_SPARE), MEASURE_LARGE);
}

static void measure(struct index *ix, struct scratch *sc, bool large, uint32_t recent)
{
	struct hnsw *h = hnsw_of(ix);
	uint32_t most = large_sample(ix_load(&ix->linked)), n = large ? most : MEASURE_SMALL;
	struct recall_measure m = {.coarse = n < most};
	struct sample s;

	hnsw_choose_precision(ix, sc);
	m.dead = __atomic_load_n(&ix->dead, __ATOMIC_RELAXED);
	if (sample_init(&s, ix, n, recent) < 0)
		return; /* the next time will do */
	m.linked = s.linked;
	int rc = sample_truth(&s, ix, sc);
	if (rc == 0 && climb_all(&s, ix, &m) == 0)
		hnsw_measured(h, &m);
	sample_release(&s);
}

void hnsw_measure(struct index *ix, struct scratch *sc, bool idle)
{
	struct hnsw *h = hnsw_of(ix);

	if (!due(ix, idle) && !(idle && drift_due(ix)))
		return;
	/* Partner: the store below; whoever comes meanwhile goes on linking. */
	if (__atomic_exchange_n(&h->measuring, 1, __ATOMIC_ACQUIRE))
		return;
	if (due(ix, idle)) {
		measure(ix, sc, idle, 0);
	} else if (idle && drift_due(ix)) {
		uint32_t recent = ix_load(&h->looked);
		if (drifted(ix))
			measure(ix, sc, true, recent);
	}
	__atomic_store_n(&h->measuring, 0, __ATOMIC_RELEASE);
}
