/* check.c - is the graph whole, and making it so.
 *
 * Selecting a row anew can drop the last link to a node; with the usual m that is rare, but it
 * happens, above all among duplicates and under parallel inserts.  hnsw_repair walks layer 0
 * from the entry point and ties each node it did not meet to the nearest one it did: v gets a
 * link to x, and if v's row was full, the link w that makes room moves to x's row.  So whatever was
 * reachable remains so (v -> x -> w) and the reachable set only grows.
 *
 * hnsw_check first lets the repair look at what was linked since it last ran; anything that is
 * wrong after that is damage.  So does hnsw_loaded, after a checkpoint was read: a slot that nothing leads
 * to would be missing from answers for good.
 */
#include <stdlib.h>
#include <string.h>

#include "hnsw/hnsw_i.h"

#define ATTACH_EF    32u
#define ATTACH_TRIES 4u
#define WALK_AHEAD   8u
#define REPAIR_SHARE 16u /* of a loaded graph: with more to tie it is quicker built */
#define REPAIR_FEW   64u

struct walk {
	uint8_t *seen; /* one byte per slot */
	uint32_t *queue;
	uint32_t nslots, head, tail;
};

static int walk_init(struct walk *w, uint32_t nslots)
{
	memset(w, 0, sizeof *w);
	w->nslots = nslots;
	w->seen = calloc(nslots ? nslots : 1, 1);
	w->queue = malloc((nslots ? nslots : 1) * sizeof *w->queue);
	if (w->seen && w->queue)
		return 0;
	free(w->seen);
	free(w->queue);
	return -ENOMEM;
}

static void walk_release(struct walk *w)
{
	free(w->seen);
	free(w->queue);
}

/* Marks everything that can be reached from 'slot'. */
static void walk_from(struct walk *w, const struct index *ix, uint32_t slot)
{
	const uint32_t m0 = hnsw_of(ix)->m0;

	if (slot >= w->nslots || w->seen[slot])
		return;
	w->seen[slot] = 1;
	w->queue[w->tail++] = slot;
	while (w->head < w->tail) {
		if (w->head + WALK_AHEAD < w->tail) {
			const uint32_t *row = base_row(ix, w->queue[w->head + WALK_AHEAD]);
			for (uint32_t i = 0; i < m0; i += 16)
				__builtin_prefetch(row + i, 0, 3);
		}
		const uint32_t *row = base_row(ix, w->queue[w->head++]);
		for (uint32_t i = 0, link; i < m0 && (link = link_get(row, i)) != 0; i++) {
			if (link - 1 >= w->nslots || w->seen[link - 1])
				continue;
			w->seen[link - 1] = 1;
			w->queue[w->tail++] = link - 1;
		}
	}
}

static bool row_has(const uint32_t *row, uint32_t cap, uint32_t slot)
{
	for (uint32_t i = 0, link; i < cap && (link = link_get(row, i)) != 0; i++) {
		if (link == slot + 1)
			return true;
	}
	return false;
}

/* Puts 'slot' into a row; the last link makes room.  The row's lock is held. */
static void row_put(uint32_t *row, uint32_t cap, uint32_t slot)
{
	if (!row_has(row, cap, slot))
		link_set(row, VX_MIN(row_count(row, cap), cap - 1), slot + 1);
}

/* v -> x, without losing anything v led to. */
static bool tie(struct index *ix, uint32_t v, uint32_t x)
{
	const uint32_t m0 = hnsw_of(ix)->m0;
	uint32_t *row = base_row(ix, v);

	for (uint32_t i = 0; i < ATTACH_TRIES; i++) {
		vx_lock(row_lock(ix, v));
		uint32_t n = row_count(row, m0);
		uint32_t out = n == m0 ? link_get(row, m0 - 1) : 0;
		if (!out)
			row_put(row, m0, x);
		vx_unlock(row_lock(ix, v));
		if (!out || out == x + 1)
			return true;

		vx_lock(row_lock(ix, x));
		row_put(base_row(ix, x), m0, out - 1);
		vx_unlock(row_lock(ix, x));

		vx_lock(row_lock(ix, v));
		bool same = link_get(row, m0 - 1) == out;
		if (same)
			link_set(row, m0 - 1, x + 1);
		vx_unlock(row_lock(ix, v));
		if (same)
			return true;
	}
	return false;
}

/* Ties a node that was not reached to its nearest neighbour that was. */
static void attach(struct index *ix, struct scratch *sc, const struct walk *w, uint32_t x)
{
	struct hnsw *h = hnsw_of(ix);
	struct index_search_stat st = {0};
	struct upper *top = upper_at(h, ix_load(&h->entry) - 1);
	uint32_t n = 0;
	bool gave_up;

	if (!probe_from_slot(&ix->codes, x, &sc->probe))
		return;
	sc->ids[0] = top->slot;
	probe_distances(&ix->codes, &sc->probe, sc->ids, 1, sc->rows, sc->dots, sc->dist);
	scratch_forget(sc);
	(void)hnsw_search_base(ix, sc, top->slot, sc->dist[0], VX_MIN(ATTACH_EF, sc->pool_cap),
		NULL, 0, &n, &gave_up, &st);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t v = sc->pool[i].slot;
		if (v != x && v < w->nslots && w->seen[v] && tie(ix, v, x))
			return;
	}
}

int hnsw_repair(struct index *ix, struct scratch *sc)
{
	struct hnsw *h = hnsw_of(ix);
	uint32_t entry = ix_load(&h->entry), linked = ix_load(&ix->linked);
	struct walk w;

	if (entry == 0)
		return 0;
	int rc = walk_init(&w, VX_MIN(ix_load(&ix->appended), sc->nslots));
	if (rc < 0)
		return rc;
	walk_from(&w, ix, upper_at(h, entry - 1)->slot);
	for (uint32_t s = 0; s < linked && s < w.nslots; s++) {
		if (w.seen[s] || !(codes_flags_get(&ix->codes, s) & CODES_LINKED))
			continue;
		attach(ix, sc, &w, s);
		walk_from(&w, ix, s);
	}
	walk_release(&w);
	ix_store(&h->audited, linked);
	return 0;
}

/* --- checking ------------------------------------------------------------- */
static int check_row(const struct index *ix, const uint32_t *row, uint32_t cap, uint32_t self,
	uint32_t bound, const char *what, struct vx_err *err)
{
	uint32_t n = row_count(row, cap);

	for (uint32_t i = n; i < cap; i++) {
		if (link_get(row, i) != 0)
			return vx_err_set(err, -EUCLEAN, "%s %u: links follow the end of its row",
				what, self);
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t id = link_get(row, i) - 1;
		if (id >= bound)
			return vx_err_set(err, -EUCLEAN, "%s %u: link to %u, of only %u", what,
				self, id, bound);
		if (id == self)
			return vx_err_set(err, -EUCLEAN, "%s %u: links to itself", what, self);
		for (uint32_t j = 0; j < i; j++) {
			if (link_get(row, j) == id + 1)
				return vx_err_set(
					err, -EUCLEAN, "%s %u: two links to %u", what, self, id);
		}
	}
	(void)ix;
	return 0;
}

static int check_base(const struct index *ix, struct vx_err *err)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t linked = ix_load(&ix->linked);

	for (uint32_t s = 0; s < linked; s++) {
		const uint32_t *row = base_row(ix, s);
		int rc = check_row(ix, row, h->m0, s, linked, "slot", err);
		if (rc < 0)
			return rc;
		uint32_t n = row_count(row, h->m0);
		if (n > 0 && !(codes_flags_get(&ix->codes, s) & CODES_LINKED))
			return vx_err_set(err, -EUCLEAN, "slot %u: has links but is not linked", s);
		for (uint32_t i = 0; i < n; i++) {
			uint32_t to = link_get(row, i) - 1;
			if (!(codes_flags_get(&ix->codes, to) & CODES_LINKED))
				return vx_err_set(err, -EUCLEAN,
					"slot %u: link to %u, which is not linked", s, to);
		}
	}
	return 0;
}

static int check_upper(const struct index *ix, struct vx_err *err)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t linked = ix_load(&ix->linked);

	for (uint32_t u = 0; u < h->nupper; u++) {
		struct upper *n = upper_at(h, u);
		if (n->slot >= linked)
			return vx_err_set(err, -EUCLEAN, "upper node %u: slot %u, of only %u", u,
				n->slot, linked);
		if (n->level < 1 || n->level > HNSW_LEVEL_MAX)
			return vx_err_set(err, -EUCLEAN, "upper node %u: height %u", u, n->level);
		for (uint32_t l = 1; l <= n->level; l++) {
			const uint32_t *row = upper_row(h, n, l);
			int rc = check_row(ix, row, h->m, u, h->nupper, "upper node", err);
			if (rc < 0)
				return rc;
			for (uint32_t i = 0, link; i < h->m && (link = link_get(row, i)) != 0;
				i++) {
				if (upper_at(h, link - 1)->level < l)
					return vx_err_set(err, -EUCLEAN,
						"upper node %u: layer %u links to a lower node", u,
						l);
			}
		}
	}
	return 0;
}

/* How many linked slots the entry point does not lead to.  Those with vectors that cannot be read are in no
 * answer, and cannot be tied ("none", "sq1"). */
static int count_unreached(const struct index *ix, uint32_t *ret_n, uint32_t *ret_first)
{
	const struct hnsw *h = hnsw_of(ix);
	uint32_t linked = ix_load(&ix->linked), n = 0;
	struct walk w;
	int rc = walk_init(&w, linked);

	if (rc < 0)
		return rc;
	walk_from(&w, ix, upper_at(h, h->entry - 1)->slot);
	for (uint32_t s = 0; s < linked; s++) {
		if (w.seen[s] || !(codes_flags_get(&ix->codes, s) & CODES_LINKED) ||
			!ix->host.vector(ix->host.ctx, s))
			continue;
		if (n++ == 0)
			*ret_first = s;
	}
	walk_release(&w);
	*ret_n = n;
	return 0;
}

static int check_reach(const struct index *ix, struct vx_err *err)
{
	uint32_t n, first;
	int rc = count_unreached(ix, &n, &first);

	if (rc < 0)
		return vx_err_set(err, rc, "no memory to walk the graph");
	return n == 0 ? 0
		      : vx_err_set(err, -EUCLEAN, "slot %u cannot be reached from the entry point",
				first);
}

/* No entry point: no slot is linked. */
static int check_empty(const struct index *ix, struct vx_err *err)
{
	uint32_t linked = ix_load(&ix->linked);

	for (uint32_t s = 0; s < linked; s++) {
		if (codes_flags_get(&ix->codes, s) & CODES_LINKED)
			return vx_err_set(
				err, -EUCLEAN, "slot %u is linked but there is no entry point", s);
	}
	return 0;
}

int hnsw_loaded(struct index *ix, struct vx_err *err)
{
	struct hnsw *h = hnsw_of(ix);
	uint32_t linked = ix_load(&ix->linked), n, first;

	if (h->entry == 0)
		return check_empty(ix, err);
	int rc = count_unreached(ix, &n, &first);
	if (rc < 0)
		return vx_err_set(err, rc, "no memory to walk the graph");
	if (n == 0)
		return 0;
	if (h->audited == linked || n > linked / REPAIR_SHARE + REPAIR_FEW)
		return vx_err_set(err, -EUCLEAN,
			"%u slots cannot be reached from the entry point, the first is %u", n,
			first);
	struct scratch *sc = scratch_get(&ix->codes, ix_load(&ix->appended), ATTACH_EF);
	if (!sc)
		return vx_err_set(err, -ENOMEM, "no memory to walk the graph");
	rc = hnsw_repair(ix, sc);
	scratch_put(sc);
	return rc;
}

int hnsw_check(struct index *ix, struct vx_err *err)
{
	struct hnsw *h = hnsw_of(ix);
	uint32_t linked = ix_load(&ix->linked);
	int rc = 0;

	if (h->entry > h->nupper)
		return vx_err_set(err, -EUCLEAN, "entry point %u, of only %u upper nodes",
			h->entry - 1, h->nupper);
	if (h->entry == 0)
		return check_empty(ix, err);
	rc = check_upper(ix, err);
	if (rc == 0)
		rc = check_base(ix, err);
	if (rc == 0 && ix_load(&h->audited) < linked) {
		struct scratch *sc = scratch_get(&ix->codes, ix_load(&ix->appended), ATTACH_EF);
		if (!sc)
			return vx_err_set(err, -ENOMEM, "no memory to walk the graph");
		rc = hnsw_repair(ix, sc);
		scratch_put(sc);
	}
	return rc < 0 ? rc : check_reach(ix, err);
}
