/* link.c - inserting into the graph.
 *
 * Algorithm 1, arranged so that several threads insert at once and readers never wait:
 *
 *  1. Search every layer from the top with the node's own code as the question; select
 *     neighbours (algorithm 4) into the node's own rows.  Nobody can reach the node yet.
 *  2. Link back, layer 0 first: each chosen neighbour gets a link to the node,
 *     under the lock of that neighbour's row.  A full row is selected anew.
 *  3. If the node is taller than the entry point it becomes the entry point.
 *
 * So a node that can be reached has complete rows on every layer.  Two nodes inserted at the
 * same moment do not see each other; later nodes tie them together.
 */
#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "hnsw/hnsw_i.h"

#define SELECT_BATCH 8u
#define SELECT_AHEAD 3u /* candidates whose codes are on their way */

/* A candidate is given up for a chosen one only if it is nearer to that by this factor
 * (of squared distances).  A little above 1 keeps longer and denser links: measured, 1.2 saves a
 * quarter to a half of the distances at recall .95; 1.4 is worse again. */
#define SELECT_SLACK 1.2f

/* The part of a row that a new selection leaves free. */
#define SELECT_SPARE 8u

/* Negative inner products are no distances: a factor would mean nothing. */
static float select_slack(const struct index *ix)
{
	return ix->p.metric == VX_IP ? 1.0f : SELECT_SLACK;
}

/* An exponentially distributed height that depends on seed and slot only. */
static uint32_t draw_level(const struct index *ix, uint32_t slot)
{
	uint8_t key[4] = {
		(uint8_t)slot, (uint8_t)(slot >> 8), (uint8_t)(slot >> 16), (uint8_t)(slot >> 24)};
	uint64_t r = hash_xxh3(key, sizeof key, ix->p.seed);
	double x = ((double)(r >> 11) + 1.0) * 0x1p-53; /* (0, 1] */
	double level = -log(x) * hnsw_of(ix)->level_mult;

	return level >= HNSW_LEVEL_MAX ? HNSW_LEVEL_MAX : (uint32_t)level;
}

/* Asks for the whole code of a slot that will be looked at soon. */
static void fetch(const struct codes *c, uint32_t slot)
{
	if (c->width == 0)
		return;
	codes_prefetch(c, slot);
	if (c->quant == QUANT_SQ8)
		codes_prefetch_tail(c, slot);
}

/* Algorithm 4 without extension or keeping of pruned ones: of n candidates, nearest first,
 * at most m such that each is nearer to the base than to any chosen before, with the slack of
 * Subramanya et al., "DiskANN", 2019 (alpha).  Fills 'chosen' with the candidates' indexes. */
uint32_t hnsw_select(struct index *ix, struct scratch *sc, const struct cand *cands, uint32_t n,
	uint32_t kept, uint32_t m, uint32_t *chosen)
{
	const float slack = select_slack(ix);
	uint32_t slots[HNSW_ROW_MAX], count = 0;
	float dist[SELECT_BATCH];

	for (uint32_t i = 0; i < n && i < SELECT_AHEAD; i++)
		fetch(&ix->codes, cands[i].slot);
	for (uint32_t i = 0; i < n && count < m; i++) {
		bool good = true, keep = i < kept;
		if (i + SELECT_AHEAD < n)
			fetch(&ix->codes, cands[i + SELECT_AHEAD].slot);
		if (!keep && count > 0 && !probe_from_code(&ix->codes, cands[i].slot, &sc->pair))
			continue;
		for (uint32_t j = 0; !keep && j < count && good; j += SELECT_BATCH) {
			uint32_t b = VX_MIN(count - j, SELECT_BATCH);
			probe_distances(
				&ix->codes, &sc->pair, slots + j, b, sc->rows, sc->dots, dist);
			for (uint32_t x = 0; x < b; x++)
				good &= !(dist[x] * slack < cands[i].d);
		}
		if (good) {
			slots[count] = cands[i].slot;
			chosen[count++] = i;
		}
	}
	return count;
}

/* Names of what a row links to: slots on layer 0, upper numbers above. */
static uint32_t slot_of(const struct hnsw *h, uint32_t level, uint32_t id)
{
	return level == 0 ? id : upper_at(h, id)->slot;
}

/* A full row and one more link: select anew, to a little less than is full, so that the next few
 * need only be appended.  But most newcomers would be given up for a link that the row
 * already has; they are turned away by their distances alone.  sc->probe is the
 * newcomer's.  The row's lock is held. */
static void reselect_row(struct index *ix, struct scratch *sc, uint32_t *row, uint32_t cap,
	uint32_t level, uint32_t slot, uint32_t new_id)
{
	const struct hnsw *h = hnsw_of(ix);
	const float slack = select_slack(ix);
	uint32_t ids[HNSW_ROW_MAX + 1], chosen[HNSW_ROW_MAX], order[HNSW_ROW_MAX + 1], n = 0;
	float d_new;

	if (!probe_from_code(&ix->codes, slot, &sc->pair))
		return;
	for (uint32_t i = 0; i < cap; i++) {
		ids[i] = link_get(row, i) - 1;
		sc->ids[i] = slot_of(h, level, ids[i]);
	}
	ids[cap] = new_id;
	sc->ids[cap] = slot_of(h, level, new_id);
	probe_distances(&ix->codes, &sc->pair, sc->ids + cap, 1, sc->rows, sc->dots, &d_new);
	/* Near links come first in a row: often one of the first few decides. */
	for (uint32_t i = 0, m; i < cap; i += m) {
		float to_new[SELECT_BATCH];
		m = VX_MIN(cap - i, SELECT_BATCH);
		probe_distances(
			&ix->codes, &sc->pair, sc->ids + i, m, sc->rows, sc->dots, sc->dist + i);
		probe_distances(&ix->codes, &sc->probe, sc->ids + i, m, sc->rows, sc->dots, to_new);
		for (uint32_t j = 0; j < m; j++) {
			if (sc->dist[i + j] < d_new && to_new[j] * slack < d_new)
				return;
		}
	}
	sc->dist[cap] = d_new;
	/* Sorted by insertion: the row is nearly sorted, having been selected before. */
	for (uint32_t i = 0; i <= cap; i++) {
		uint32_t j = n++;
		for (; j > 0 && sc->work[j - 1].d > sc->dist[i]; j--) {
			sc->work[j] = sc->work[j - 1];
			order[j] = order[j - 1];
		}
		sc->work[j] = (struct cand){.d = sc->dist[i], .slot = sc->ids[i]};
		order[j] = ids[i];
	}
	n = hnsw_select(ix, sc, sc->work, n, 0, cap - cap / SELECT_SPARE, chosen);
	for (uint32_t i = 0; i < cap; i++)
		link_set(row, i, i < n ? order[chosen[i]] + 1 : 0);
}

/* Adds the link 'new_id' to the row of 'id'. */
static void link_back(
	struct index *ix, struct scratch *sc, uint32_t level, uint32_t id, uint32_t new_id)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t slot = slot_of(h, level, id), cap = level == 0 ? h->m0 : h->m;
	uint32_t *row = level == 0 ? base_row(ix, id) : upper_row(h, upper_at(h, id), level);
	struct vx_mutex *lock = row_lock(ix, slot);

	vx_lock(lock);
	uint32_t n = 0, link;
	bool has = false;
	for (; n < cap && (link = link_get(row, n)) != 0; n++)
		has |= link == new_id + 1; /* the repair was quicker */
	if (n < cap && !has)
		link_set(row, n, new_id + 1);
	else if (!has)
		reselect_row(ix, sc, row, cap, level, slot, new_id);
	vx_unlock(lock);
}

/* The first node of all; false when another was quicker. */
static bool start_graph(struct index *ix, uint32_t slot, uint32_t level)
{
	struct hnsw *h = hnsw_of(ix);
	uint32_t u, none = 0;

	/* The entry point is always an upper node. */
	if (!upper_new(h, slot, VX_MAX(level, 1u), &u))
		return false;
	return __atomic_compare_exchange_n(
		&h->entry, &none, u + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Makes a taller node the entry point. */
static void raise_entry(struct hnsw *h, uint32_t u, uint32_t level)
{
	uint32_t entry = ix_load(&h->entry);

	while (upper_at(h, entry - 1)->level < level &&
		!__atomic_compare_exchange_n(
			&h->entry, &entry, u + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
	}
}

static int cand_cmp(const void *x, const void *y)
{
	const struct cand *a = x, *b = y;

	return a->d != b->d ? (a->d < b->d ? -1 : 1) : (a->slot > b->slot) - (a->slot < b->slot);
}

/* One bit per component finds candidates but does not choose among them: sorts the n of sc->pool, found
 * for 'slot' on a layer, by full vectors. */
static void settle_pool(
	struct index *ix, struct scratch *sc, uint32_t slot, uint32_t level, uint32_t n)
{
	if (ix->codes.quant != QUANT_SQ1 || !probe_from_code(&ix->codes, slot, &sc->pair))
		return;
	for (uint32_t i = 0; i < n; i += SCRATCH_BATCH) {
		uint32_t m = VX_MIN(n - i, SCRATCH_BATCH);
		for (uint32_t j = 0; j < m; j++)
			sc->ids[j] = slot_of(hnsw_of(ix), level, sc->pool[i + j].slot);
		probe_distances(&ix->codes, &sc->pair, sc->ids, m, sc->rows, sc->dots, sc->dist);
		for (uint32_t j = 0; j < m; j++)
			sc->pool[i + j].d = sc->dist[j];
	}
	qsort(sc->pool, n, sizeof *sc->pool, cand_cmp);
}

/* Chooses the node's links on one layer from sc->pool (n found there) into its own row. */
static void choose_row(
	struct index *ix, struct scratch *sc, uint32_t level, uint32_t n, uint32_t *row)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t chosen[HNSW_ROW_MAX];

	n = VX_MIN(n, h->efc);
	for (uint32_t i = 0; i < n; i++) {
		sc->work[i].d = sc->pool[i].d;
		sc->work[i].slot = slot_of(h, level, sc->pool[i].slot);
	}
	uint32_t cap = level == 0 ? h->m0 : h->m;
	uint32_t m = hnsw_select(ix, sc, sc->work, n, 0, cap, chosen);
	for (uint32_t i = 0; i < m; i++)
		link_set(row, i, sc->pool[chosen[i]].slot + 1);
}

bool hnsw_insert(struct index *ix, struct scratch *sc, uint32_t slot)
{
	struct hnsw *h = hnsw_of(ix);
	struct index_search_stat st = {0};
	uint32_t level = draw_level(ix, slot), u = 0, n;
	struct upper *self = NULL;
	bool gave_up;

	if (codes_flags_get(&ix->codes, slot) & CODES_DEAD)
		return false;
	if (!probe_from_slot(&ix->codes, slot, &sc->probe))
		return false;
	sc->probe.full = !ix_load(&ix->by_heads);
	if (ix_load(&h->entry) == 0 && start_graph(ix, slot, level))
		return true;
	uint32_t entry = ix_load(&h->entry);
	if (entry == 0)
		return false; /* no memory for a first node */
	if (level > 0)
		self = upper_new(h, slot, level, &u);
	if (!self)
		level = 0;

	struct upper *top = upper_at(h, entry - 1);
	uint32_t at = entry - 1, l = top->level;
	sc->ids[0] = top->slot;
	probe_distances(&ix->codes, &sc->probe, sc->ids, 1, sc->rows, sc->dots, sc->dist);
	float d = sc->dist[0];
	if (l > level) {
		at = hnsw_descend(ix, sc, at, l, level, &d, &st);
		l = level;
	}
	for (; l > 0; l--) {
		hnsw_search_upper(ix, sc, at, d, l, h->efc, &n);
		settle_pool(ix, sc, slot, l, n);
		choose_row(ix, sc, l, n, upper_row(h, self, l));
		at = sc->pool[0].slot;
		d = sc->pool[0].d;
	}
	scratch_forget(sc);
	sc->visited[slot] = sc->epoch;
	/* Reach for as many neighbours as a row can take: fewer distances than keeping
	 * ef_construction candidates for all, for as good a graph. */
	sc->adapt = h->m0;
	(void)hnsw_search_base(
		ix, sc, upper_at(h, at)->slot, d, h->efc, NULL, 0, &n, &gave_up, &st);
	sc->adapt = 0;
	settle_pool(ix, sc, slot, 0, n);
	uint32_t *row = base_row(ix, slot);
	choose_row(ix, sc, 0, n, row);
	if (ix->codes.quant == QUANT_SQ1 && !probe_from_code(&ix->codes, slot, &sc->probe))
		return true; /* the repair ties it */

	for (uint32_t i = 0, link, next; i < h->m0 && (link = link_get(row, i)) != 0; i++) {
		if (i + 1 < h->m0 && (next = link_get(row, i + 1)) != 0) {
			__builtin_prefetch(base_row(ix, next - 1), 0, 3);
			fetch(&ix->codes, next - 1);
		}
		link_back(ix, sc, 0, link - 1, slot);
	}
	for (l = 1; l <= level; l++) {
		const uint32_t *r = upper_row(h, self, l);
		for (uint32_t i = 0, link; i < h->m && (link = link_get(r, i)) != 0; i++)
			link_back(ix, sc, l, link - 1, u);
	}
	if (self)
		raise_entry(h, u, level);
	return true;
}
