/* measure.c - the graph measures itself and sets its default ef.
 *
 * How large ef must be for a recall depends on the data and its amount: no constant serves both
 * digits and sentences.  So each time the graph has grown by a third, one linking thread takes a
 * sample of slots that still wait in the tail, questions the graph has never seen, finds their true
 * neighbours among the linked slots by scanning the codes, and looks for the smallest ef on a
 * grid whose mean recall@10 reaches the target.  Where the tail is too short, linked slots serve
 * (each left out of its own answer); they are easier to find things from, so
 * the target is raised.  The cost is about one part in fifty of the build.
 */
#include <stdlib.h>
#include <string.h>

#include "hnsw/hnsw_i.h"

#define MEASURE_K         10u
#define MEASURE_QUESTIONS 128u
#define MEASURE_MIN       2000u /* linked slots below which the constant does */
#define MEASURE_BLOCK     256u

/* Above the .95 that is promised: a sample errs, and the graph grows before the next. */
#define RECALL_TARGET        0.97
#define RECALL_TARGET_LINKED 0.985

static const uint16_t grid[] = {12, 14, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 72, 80, 96, 112,
	128, 160, 200, 256, 320, 400, 512};
#define EF_TOP 512u

struct question {
	uint32_t slot;
	uint32_t n; /* of truth */
	struct probe probe;
	struct cand truth[MEASURE_K];
};

struct sample {
	struct question *q;
	int8_t *codes;
	uint32_t n, linked;
	double target;
};

static void sample_release(struct sample *s)
{
	free(s->q);
	free(s->codes);
}

/* Slots spread over the tail, or over the linked ones. */
static int sample_init(struct sample *s, struct index *ix)
{
	const struct codes *c = &ix->codes;
	uint32_t next = ix_load(&ix->next), end = ix_load(&ix->appended);
	bool fresh = end > next && end - next >= MEASURE_QUESTIONS;

	memset(s, 0, sizeof *s);
	s->linked = ix_load(&ix->linked);
	s->target = fresh ? RECALL_TARGET : RECALL_TARGET_LINKED;
	s->q = calloc(MEASURE_QUESTIONS, sizeof *s->q);
	s->codes = aligned_alloc(64, (size_t)MEASURE_QUESTIONS * VX_MAX(c->width, 64u));
	if (!s->q || !s->codes) {
		sample_release(s);
		return -ENOMEM;
	}
	uint32_t from = fresh ? next : 0, span = fresh ? end - next : s->linked;
	for (uint32_t i = 0; i < MEASURE_QUESTIONS; i++) {
		struct question *q = &s->q[s->n];
		q->slot = from + (uint32_t)((uint64_t)i * span / MEASURE_QUESTIONS);
		q->probe.q8 = s->codes + (size_t)s->n * c->width;
		if (!(codes_flags_get(c, q->slot) & CODES_DEAD) &&
			probe_from_slot(c, q->slot, &q->probe))
			s->n++;
	}
	return 0;
}

/* The true neighbours of all questions, block by block so that each block is read once. */
static void find_truth(struct sample *s, const struct index *ix, struct scratch *sc)
{
	for (uint32_t at = 0; at < s->linked;) {
		uint32_t m = 0;
		for (; at < s->linked && m < MEASURE_BLOCK; at++) {
			if (codes_flags_get(&ix->codes, at) & CODES_LINKED)
				sc->ids[m++] = at;
		}
		for (uint32_t i = 0; i < s->n; i++) {
			struct question *q = &s->q[i];
			probe_distances(
				&ix->codes, &q->probe, sc->ids, m, sc->rows, sc->dots, sc->dist);
			for (uint32_t j = 0; j < m; j++) {
				if (sc->ids[j] == q->slot)
					continue;
				if (q->n < MEASURE_K || sc->dist[j] < q->truth[q->n - 1].d)
					cand_insert(q->truth, &q->n, MEASURE_K,
						(struct cand){
							.d = sc->dist[j], .slot = sc->ids[j]});
			}
		}
	}
}

/* How many of the truth the graph finds with this ef.  Equal distances count as found. */
static uint32_t count_found(
	const struct sample *s, const struct question *q, const struct cand *pool, uint32_t n)
{
	uint32_t found = 0, seen = 0;

	for (uint32_t i = 0; i < n && seen < q->n; i++) {
		if (pool[i].slot == q->slot || pool[i].slot >= s->linked)
			continue;
		seen++;
		found += pool[i].d <= q->truth[q->n - 1].d;
	}
	return found;
}

static double recall_at(struct sample *s, struct index *ix, struct scratch *sc, uint32_t ef)
{
	struct hnsw *h = hnsw_of(ix);
	struct index_search_stat st = {0};
	uint64_t found = 0, total = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		struct question *q = &s->q[i];
		uint32_t entry = ix_load(&h->entry) - 1, n;
		const struct upper *top = upper_at(h, entry);
		struct probe keep = sc->probe;
		bool gave_up;
		float d;

		sc->probe = q->probe;
		sc->ids[0] = top->slot;
		probe_distances(&ix->codes, &sc->probe, sc->ids, 1, sc->rows, sc->dots, &d);
		uint32_t u = hnsw_descend(ix, sc, entry, top->level, 0, &d, &st);
		scratch_forget(sc);
		(void)hnsw_search_base(
			ix, sc, upper_at(h, u)->slot, d, ef, NULL, 0, &n, &gave_up, &st);
		sc->probe = keep;
		found += count_found(s, q, sc->pool, n);
		total += q->n;
	}
	return total ? (double)found / (double)total : 1.0;
}

bool hnsw_measure_due(const struct index *ix)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t linked = ix_load(&ix->linked), measured = ix_load(&h->measured);

	return linked >= MEASURE_MIN && linked - VX_MIN(measured, linked) >= measured / 3 + 1;
}

void hnsw_measure(struct index *ix, struct scratch *sc)
{
	struct hnsw *h = hnsw_of(ix);
	struct sample s;

	if (scratch_pool(sc, EF_TOP) < 0 || sample_init(&s, ix) < 0)
		return; /* the next time will do */
	find_truth(&s, ix, sc);
	/* Recall rises with ef: the first point of the grid that is good enough, by halving. */
	uint32_t lo = 0, hi = VX_ARRAY_SIZE(grid) - 1;
	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;
		if (recall_at(&s, ix, sc, grid[mid]) >= s.target)
			hi = mid;
		else
			lo = mid + 1;
	}
	ix_store(&h->ef_default, grid[lo]);
	ix_store(&h->measured, s.linked);
	sample_release(&s);
}
