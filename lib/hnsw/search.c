/* search.c - walking the graph.
 *
 * Layer 0 is where the time goes.  The pool is one sorted array of nodes; 'cur' is its first node that
 * was not expanded.  One hop: read the row of that node, keep the neighbours that were not visited
 * (written without a branch: the store always happens, the count moves only for new ones), fetch
 * the codes of the node that will probably be next, compute all distances by one kernel
 * call, insert the few that are near enough, and fetch their rows.  So the memory is a hop ahead of the
 * arithmetic.  Nothing is allocated.  It ends when every node within reach is expanded.
 *
 * Nodes that may not be returned (deleted, filtered out, beyond the view) are walked like others
 * but leave the pool as soon as they are expanded, and it ends when enough that may be are in
 * front.  Whether a node is visible is asked only when it is expanded.  Places in the pool
 * are counted over the share of visible ones, first in a sample and then among those met so far, or
 * it would have dropped what later moves up.  When the invisible ones outnumber a budget the
 * walk gives up: scanning is then cheaper.
 */
#include <math.h>

#include "hnsw/hnsw_i.h"

#define STOP_EVERY_HOPS 64u
#define HIDDEN_PER_EF   16u
#define POOL_MAX        65536u

/* A node may be newer than the scratch: it is then merely visited twice. */
static inline void mark_visited(struct scratch *sc, uint32_t slot)
{
	if (slot < sc->nslots)
		sc->visited[slot] = sc->epoch;
}

uint32_t hnsw_descend(struct index *ix, struct scratch *sc, uint32_t u, uint32_t from, uint32_t to,
	float *ret_d, struct index_search_stat *st)
{
	const struct hnsw *h = hnsw_of(ix);
	struct upper *cur = upper_at(h, u);
	uint32_t us[INDEX_M_MAX];
	float best = *ret_d;

	/* Whatever was seen before, on this layer or above, is no nearer than 'best'. */
	scratch_forget(sc);
	for (uint32_t level = from; level > to; level--) {
		bool moved = true;
		while (moved) {
			const uint32_t *row = upper_row(h, cur, level);
			uint32_t n = 0, link;

			moved = false;
			for (uint32_t i = 0; i < h->m && (link = link_get(row, i)) != 0; i++) {
				uint32_t slot = upper_at(h, link - 1)->slot;
				if (slot < sc->nslots && sc->visited[slot] == sc->epoch)
					continue;
				mark_visited(sc, slot);
				us[n] = link - 1;
				sc->ids[n++] = slot;
			}
			probe_distances(
				&ix->codes, &sc->probe, sc->ids, n, sc->rows, sc->dots, sc->dist);
			st->hops++;
			st->distances += n;
			for (uint32_t i = 0; i < n; i++) {
				if (sc->dist[i] < best) {
					best = sc->dist[i];
					u = us[i];
					moved = true;
				}
			}
			cur = upper_at(h, u);
		}
	}
	*ret_d = best;
	return u;
}

/* Inserts a node that is not expanded; returns where.  The pool has room for n + 1. */
static inline uint32_t pool_insert(struct cand *pool, uint32_t n, float d, uint32_t id)
{
	uint32_t lo = 0, len = n;

	while (len > 0) {
		uint32_t half = len / 2;
		bool right = pool[lo + half].d <= d;
		lo = right ? lo + half + 1 : lo;
		len = right ? len - half - 1 : half;
	}
	__builtin_memmove(pool + lo + 1, pool + lo, (n - lo) * sizeof *pool);
	pool[lo].d = d;
	pool[lo].slot = id;
	return lo;
}

void hnsw_search_upper(struct index *ix, struct scratch *sc, uint32_t u, float d, uint32_t level,
	uint32_t ef, uint32_t *ret_n)
{
	const struct hnsw *h = hnsw_of(ix);
	struct cand *pool = sc->pool;
	uint32_t us[INDEX_M_MAX], n = 1, cur = 0;

	scratch_forget(sc);
	pool[0] = (struct cand){.d = d, .slot = u};
	mark_visited(sc, upper_at(h, u)->slot);
	while (cur < n) {
		if (pool[cur].slot & HNSW_SEEN) {
			cur++;
			continue;
		}
		const uint32_t *row = upper_row(h, upper_at(h, pool[cur].slot), level);
		uint32_t m = 0, link, lowest = ++cur;
		pool[cur - 1].slot |= HNSW_SEEN;
		for (uint32_t i = 0; i < h->m && (link = link_get(row, i)) != 0; i++) {
			uint32_t slot = upper_at(h, link - 1)->slot;
			if (slot >= sc->nslots || sc->visited[slot] == sc->epoch)
				continue;
			sc->visited[slot] = sc->epoch;
			us[m] = link - 1;
			sc->ids[m++] = slot;
		}
		probe_distances(&ix->codes, &sc->probe, sc->ids, m, sc->rows, sc->dots, sc->dist);
		for (uint32_t i = 0; i < m; i++) {
			if (n == ef && !(sc->dist[i] < pool[n - 1].d))
				continue;
			uint32_t at = pool_insert(pool, n == ef ? n - 1 : n, sc->dist[i], us[i]);
			n += n < ef;
			lowest = VX_MIN(lowest, at);
		}
		cur = lowest;
	}
	for (uint32_t i = 0; i < n; i++)
		pool[i].slot &= ~HNSW_SEEN;
	*ret_n = n;
}

/* The unvisited neighbours of a slot, now marked, in sc->ids. */
static inline uint32_t gather(
	const struct index *ix, struct scratch *sc, uint32_t slot, uint32_t m0)
{
	const uint32_t *row = base_row(ix, slot);
	uint8_t *visited = sc->visited, epoch = sc->epoch;
	uint32_t *ids = sc->ids, m = 0, nslots = sc->nslots, link;

	for (uint32_t i = 0; i < m0 && (link = link_get(row, i)) != 0; i++) {
		uint32_t id = link - 1;
		if (VX_UNLIKELY(id >= nslots))
			continue; /* appended since this scratch was taken */
		ids[m] = id;
		m += visited[id] != epoch;
		visited[id] = epoch;
	}
	return m;
}

/* Fetches the codes of the slot that is likely to be expanded next. */
static inline void fetch_next(
	const struct index *ix, const struct scratch *sc, uint32_t slot, uint32_t m0)
{
	const uint32_t *row = base_row(ix, slot);
	const uint8_t *visited = sc->visited, epoch = sc->epoch;
	uint32_t link;

	for (uint32_t i = 0; i < m0 && (link = link_get(row, i)) != 0; i++) {
		uint32_t id = link - 1;
		if (id < sc->nslots && visited[id] != epoch)
			codes_prefetch(&ix->codes, id);
	}
}

/* How far a walk goes. */
struct reach {
	uint32_t k;     /* 'slack' is measured from the k-th nearest found */
	uint32_t least; /* as many of the nearest are expanded in any case */
	uint32_t cap;   /* as many are kept */
	uint32_t keep;  /* of them so many whether worth expanding or not */
	float slack;    /* of squared distances; 0: 'least' alone counts */
};

/* An effort of 'ef' for k neighbours.  A candidate is worth expanding while it is not farther than
 * the k-th nearest found by a factor: Al-Jazzazi et al., "Distance adaptive beam search for
 * provably accurate graph-based nearest neighbor search", 2025.  Easy questions end early and hard ones
 * go on: the same mean recall for fewer distances, the more so the higher it is.  The factor grows by the logarithm of ef such that both
 * reach about the same recall.  Inner products have no factors. */
#define SLACK_PER_DOUBLING 0.055f

static struct reach reach_of(const struct index *ix, const struct scratch *sc, uint32_t ef)
{
	struct reach r = {.k = ef, .least = ef, .cap = ef, .keep = sc->keep};

	r.cap = VX_MAX(r.cap, VX_MIN(r.keep, sc->pool_cap));
	r.keep = VX_MIN(r.keep, r.cap);

	if (sc->adapt == 0 || ix->p.metric == VX_IP)
		return r;
	r.k = sc->adapt;
	r.least = VX_MAX(r.k, ef / 4);
	r.cap = VX_MIN(VX_MAX(VX_MAX(8 * ef, r.least), r.keep), sc->pool_cap);
	float doublings = log2f((float)VX_MAX(ef, r.k) / (float)r.k);
	r.slack = 1.0f + SLACK_PER_DOUBLING * doublings;
	return r;
}

/* A bound for what is worth expanding or keeping.  'hops' so far met 'hidden' that do not count: others
 * in the pool will not either. */
static inline float bound_of(
	const struct reach *r, const struct cand *pool, uint32_t n, uint32_t hops, uint32_t hidden)
{
	uint32_t k = r->k, least = r->least;

	if (VX_UNLIKELY(hidden > 0)) {
		k = (uint32_t)((uint64_t)k * (hops + 1) / (hops - hidden + 1));
		least = (uint32_t)((uint64_t)least * (hops + 1) / (hops - hidden + 1));
	}
	if (n < least)
		return INFINITY;
	float bound = pool[least - 1].d;
	if (r->slack > 0) {
		float d = pool[k - 1].d;
		d = d > 0 ? d * r->slack : d;
		bound = VX_MAX(bound, d);
	}
	return bound;
}

/* What enters the pool: what is worth expanding, and the nearest that are to be kept. */
static inline float keep_bound(
	const struct reach *r, const struct cand *pool, uint32_t n, float bound)
{
	if (VX_LIKELY(r->keep == 0))
		return bound;
	return n < r->keep ? INFINITY : VX_MAX(bound, pool[r->keep - 1].d);
}

/* Those of pool[from..n-1], which were not expanded, that may be returned; the pool's new length. */
static uint32_t keep_visible(const struct index *ix, const struct index_query *q, uint32_t limit,
	struct cand *pool, uint32_t from, uint32_t n)
{
	uint32_t kept = from;

	for (uint32_t i = from; i < n; i++) {
		uint32_t slot = pool[i].slot & ~HNSW_SEEN;
		if (!q || (slot < limit && ix_visible(ix, q, slot)))
			pool[kept++] = pool[i];
	}
	return kept;
}

/* A pool's capacity at the start of a question: as if over the share of visible slots. */
static uint32_t first_cap(const struct index *ix, const struct scratch *sc,
	const struct index_query *q, uint32_t cap, uint32_t limit)
{
	uint32_t seen = ix_visible_sample(ix, q, limit);
	uint64_t want = (uint64_t)cap * (IX_SAMPLES + 1) / (seen + 1);
	return (uint32_t)VX_MAX(cap, VX_MIN(want, (uint64_t)sc->pool_cap));
}

int hnsw_search_base(struct index *ix, struct scratch *sc, uint32_t slot, float d, uint32_t ef,
	const struct index_query *q, uint32_t limit, uint32_t *ret_n, bool *ret_gave_up,
	struct index_search_stat *st)
{
	const uint32_t m0 = hnsw_of(ix)->m0;
	const struct reach r = reach_of(ix, sc, ef);
	struct cand *pool = sc->pool;
	uint32_t n = 1, cur = 0, hops = 0, hidden = 0, next = UINT32_MAX;
	uint32_t cap = q ? first_cap(ix, sc, q, r.cap, limit) : r.cap;
	uint32_t hidden_max = VX_MAX(HIDDEN_PER_EF * ef, limit / 128);

	const bool dead = __atomic_load_n(&ix->dead, __ATOMIC_RELAXED) > 0;

	*ret_gave_up = false;
	pool[0] = (struct cand){.d = d, .slot = slot};
	mark_visited(sc, slot);
	while (cur < n) {
		if (pool[cur].slot & HNSW_SEEN) {
			cur++;
			continue;
		}
		float bound = bound_of(&r, pool, n, hops, hidden);
		if (cur >= r.least && pool[cur].d >= bound)
			break;
		if (q && q->stop && hops % STOP_EVERY_HOPS == STOP_EVERY_HOPS - 1 &&
			q->stop(q->stop_ctx))
			return -EINTR;
		hops++;
		slot = pool[cur].slot;
		uint32_t m = gather(ix, sc, slot, m0);
		if (slot != next) {
			for (uint32_t i = 0; i < m; i++)
				codes_prefetch(&ix->codes, sc->ids[i]);
		}
		if (!q || (slot < limit && ix_visible(ix, q, slot))) {
			pool[cur++].slot |= HNSW_SEEN;
		} else {
			n--;
			__builtin_memmove(pool + cur, pool + cur + 1, (n - cur) * sizeof *pool);
			if (++hidden > hidden_max) {
				*ret_gave_up = true;
				break;
			}
			uint64_t want = (uint64_t)r.cap * (hops + 1) / (hops - hidden + 1);
			cap = (uint32_t)VX_MAX(cap, VX_MIN(want, (uint64_t)sc->pool_cap));
		}
		uint32_t ahead = cur;
		while (ahead < n && (pool[ahead].slot & HNSW_SEEN))
			ahead++;
		next = ahead < n ? pool[ahead].slot : UINT32_MAX;
		if (next != UINT32_MAX)
			fetch_next(ix, sc, next, m0);
		probe_distances(&ix->codes, &sc->probe, sc->ids, m, sc->rows, sc->dots, sc->dist);
		st->distances += m;
		uint32_t lowest = cur;
		const float near = keep_bound(&r, pool, n, bound);
		for (uint32_t i = 0; i < m; i++) {
			if (sc->dist[i] >= near || (n == cap && !(sc->dist[i] < pool[n - 1].d)))
				continue;
			__builtin_prefetch(base_row(ix, sc->ids[i]), 0, 3);
			__builtin_prefetch(base_row(ix, sc->ids[i]) + 16, 0, 3);
			if (dead)
				__builtin_prefetch(codes_flags(&ix->codes, sc->ids[i]), 0, 3);
			uint32_t at = pool_insert(
				pool, n == cap ? n - 1 : n, sc->dist[i], sc->ids[i]);
			n += n < cap;
			lowest = VX_MIN(lowest, at);
		}
		cur = lowest;
	}
	st->hops += hops;
	n = cur >= r.keep ? VX_MIN(n, cur)
			  : keep_visible(ix, q, limit, pool, cur, VX_MIN(n, r.keep));
	for (uint32_t i = 0; i < n; i++)
		pool[i].slot &= ~HNSW_SEEN;
	*ret_n = n;
	return 0;
}

/* Algorithm 5. */
int hnsw_search(struct index *ix, const struct index_query *q, struct scratch *sc, uint32_t limit,
	uint32_t ef, uint32_t *ret_n, bool *ret_complete, struct index_search_stat *st)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t entry = ix_load(&h->entry);
	bool gave_up;
	float d;

	*ret_complete = false;
	*ret_n = 0;
	if (entry == 0)
		return 0;
	const struct upper *top = upper_at(h, entry - 1);
	sc->ids[0] = top->slot;
	probe_distances(&ix->codes, &sc->probe, sc->ids, 1, sc->rows, sc->dots, sc->dist);
	d = sc->dist[0];
	uint32_t u = hnsw_descend(ix, sc, entry - 1, top->level, 0, &d, st);
	uint32_t slot = upper_at(h, u)->slot;
	/* Without memory for a larger pool a search is less sure, not wrong. */
	int rc = scratch_pool(sc, VX_MIN(HIDDEN_PER_EF * ef, POOL_MAX));
	(void)rc;
	sc->adapt = q->k;
	scratch_forget(sc);
	if (q->skip)
		mark_visited(sc, q->skip - 1);
	rc = hnsw_search_base(ix, sc, slot, d, ef, q, limit, ret_n, &gave_up, st);
	sc->adapt = 0;
	if (rc < 0)
		return rc;
	if (gave_up)
		*ret_n = 0;
	*ret_complete = *ret_n == limit;
	return 0;
}
