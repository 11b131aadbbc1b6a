/* scan.c - searching by looking at everything: the tail, small or filtered sets, exact questions.
 *
 * Slots are taken in batches: the visible ones are gathered, their distances computed by
 * one many-row kernel call, and the few below the worst kept go into the sorted pool.
 */
#include <math.h>

#include "index/index_i.h"

#define SCAN_BATCH 256u

int scan_codes(struct index *ix, const struct index_query *q, struct scratch *sc, uint32_t from,
	uint32_t to, uint32_t want, uint32_t *n, struct index_search_stat *st)
{
	struct topk t;

	if (from >= to)
		return 0;
	int rc = scratch_pool(sc, topk_room(want));
	if (rc < 0)
		return rc;
	topk_init(&t, sc->pool, *n, want);
	sc->probe.full = true; /* rows that lie in a row cost little */
	while (from < to) {
		uint32_t m = 0, end = VX_MIN(to, from + SCAN_BATCH);

		if (q->stop && q->stop(q->stop_ctx))
			return -EINTR;
		st->tail += end - from;
		for (; from < end; from++) {
			if (ix_visible(ix, q, from))
				sc->ids[m++] = from;
		}
		probe_distances(&ix->codes, &sc->probe, sc->ids, m, sc->rows, sc->dots, sc->dist);
		for (uint32_t i = 0; i < m; i++)
			topk_add(&t, (struct cand){.d = sc->dist[i], .slot = sc->ids[i]});
	}
	*n = topk_finish(&t);
	return 0;
}

int scan_exact(struct index *ix, const struct index_query *q, struct scratch *sc,
	struct index_hit *hits, uint32_t *ret_n, struct index_search_stat *st)
{
	const struct codes *c = &ix->codes;
	float qnorm = sqrtf(c->k->dot_f32(q->vec, q->vec, c->dim));
	struct topk t;

	int rc = scratch_pool(sc, topk_room(q->k));
	if (rc < 0)
		return rc;
	topk_init(&t, sc->pool, 0, q->k);
	st->damaged = 0;
	for (uint32_t s = 0; s < q->nslots; s++) {
		if (s % SCAN_BATCH == 0 && q->stop && q->stop(q->stop_ctx))
			return -EINTR;
		if (!ix_visible(ix, q, s))
			continue;
		const float *v = c->host.vector(c->host.ctx, s);
		if (!v) {
			st->damaged++;
			continue;
		}
		st->reranked++;
		topk_add(&t, (struct cand){.d = exact_distance(c, q->vec, qnorm, v), .slot = s});
	}
	uint32_t n = topk_finish(&t);
	for (uint32_t i = 0; i < n; i++)
		hits[i] = (struct index_hit){.slot = sc->pool[i].slot, .distance = sc->pool[i].d};
	*ret_n = n;
	return 0;
}
