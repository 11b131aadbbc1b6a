/* remap.c - the graph of a new generation, from that of the old one.
 *
 * A compaction leaves the dead slots out and renumbers the others.  Their links are carried over:
 * a row without dead neighbours is the old one in new numbers.  A row that has some keeps the living ones and
 * takes more (algorithm 4) from those that can be reached through the dead ones, as FreshDiskANN (Singh et al.,
 * 2021) consolidates deletes.  Upper layers go the same way.
 * What cannot be reached after that is tied in by the repair (check.c).  It takes a small part of the time
 * of a graph built anew and is a little worse, more so with each generation (tests/cluster/test_churn), so the
 * store does not carry links over many times on end (store/compact.c).
 *
 * The order of the new numbers is that in which the old graph is walked from its entry point: breadth
 * first within blocks, so that the neighbours of a node, which a search looks at
 * together, lie in few pages.
 *
 * The old graph may be searched and linked into meanwhile: its rows are read as searches read them, and what
 * is not among the slots that were asked for is left out.
 */
#include <stdlib.h>
#include <string.h>

#include "hnsw/hnsw_i.h"

#define CAND_MAX     384u /* candidates for one row */
#define THROUGH_MAX  96u  /* dead nodes looked through for one row */
#define THROUGH_TAKE 8u   /* living ones behind one of them */
#define CAND_ENOUGH  160u
#define SELECT_MAX   48u /* the nearest of them are chosen from */
#define PAUSE_EVERY  256u

/* --- order ---------------------------------------------------------------- */
struct walk {
	const struct index *ix;
	uint32_t bound; /* slots at or above are not looked at */
	uint8_t *seen;
	uint32_t *queue;
	uint32_t tail;
};

static void walk_from(struct walk *w, uint32_t slot)
{
	const uint32_t m0 = hnsw_of(w->ix)->m0;
	uint32_t head = w->tail;

	w->seen[slot] = 1;
	w->queue[w->tail++] = slot;
	while (head < w->tail) {
		const uint32_t *row = base_row(w->ix, w->queue[head++]);
		for (uint32_t i = 0, link; i < m0 && (link = link_get(row, i)) != 0; i++) {
			if (link - 1 >= w->bound || w->seen[link - 1])
				continue;
			w->seen[link - 1] = 1;
			w->queue[w->tail++] = link - 1;
		}
	}
}

int hnsw_order(
	struct index *ix, uint32_t linked, const uint8_t *keep, uint32_t *order, uint32_t *ret_n)
{
	uint32_t entry = ix_load(&hnsw_of(ix)->entry), n = 0;
	struct walk w = {.ix = ix, .bound = linked};

	w.seen = calloc(VX_MAX(linked, 1u), 1);
	w.queue = malloc(VX_MAX(linked, 1u) * sizeof *w.queue);
	int rc = w.seen && w.queue ? 0 : -ENOMEM;
	if (rc == 0 && entry) {
		uint32_t top = upper_at(hnsw_of(ix), entry - 1)->slot;
		if (top < linked)
			walk_from(&w, top);
	}
	for (uint32_t s = 0; s < linked && rc == 0; s++) {
		if (!w.seen[s])
			walk_from(&w, s);
	}
	for (uint32_t i = 0; i < w.tail && rc == 0; i++) {
		uint32_t s = w.queue[i];
		if (keep[s] && (codes_flags_get(&ix->codes, s) & CODES_LINKED))
			order[n++] = s;
	}
	free(w.seen);
	free(w.queue);
	if (rc == 0)
		*ret_n = n;
	return rc;
}

/* --- links ---------------------------------------------------------------- */
/* One layer on its way from 'from' to 'to'. */
struct carry {
	struct index *from, *to;
	struct scratch *sc; /* of 'to' */
	uint32_t level, cap;
	const uint32_t *inv; /* old number -> new one + 1, 0: it is left out */
	uint32_t n_old;
	uint32_t *stamp; /* n_old: when a number was last looked at */
	uint32_t now;
	uint32_t n; /* candidates, in sc->ids (new numbers) */
	uint32_t dead[THROUGH_MAX], n_dead;
};

static const uint32_t *old_row(const struct carry *c, uint32_t id)
{
	const struct hnsw *h = hnsw_of(c->from);

	return c->level == 0 ? base_row(c->from, id) : upper_row(h, upper_at(h, id), c->level);
}

static uint32_t new_slot(const struct carry *c, uint32_t id)
{
	return c->level == 0 ? id : upper_at(hnsw_of(c->to), id)->slot;
}

/* The row's first living ones, at most 'most', become candidates; the dead ones are noted. */
static void gather(struct carry *c, const uint32_t *row, uint32_t most)
{
	uint32_t end = c->n + most;

	for (uint32_t i = 0, link; i < c->cap && (link = link_get(row, i)) != 0; i++) {
		uint32_t id = link - 1;
		if (c->n >= end)
			return;
		if (id >= c->n_old || c->stamp[id] == c->now)
			continue;
		c->stamp[id] = c->now;
		if (c->inv[id] && c->n < CAND_MAX)
			c->sc->ids[c->n++] = c->inv[id] - 1;
		else if (!c->inv[id] && c->n_dead < THROUGH_MAX)
			c->dead[c->n_dead++] = id;
	}
}

static int cand_cmp(const void *x, const void *y)
{
	const struct cand *a = x, *b = y;

	return a->d != b->d ? (a->d < b->d ? -1 : 1) : (a->slot > b->slot) - (a->slot < b->slot);
}

/* Fills 'row' of the new node 'id': the first 'own' candidates are what is left of the old row and stay, since
 * the far ones among them, which tie heaps together, would not be chosen again from so many near
 * ones. */
static void select_row(struct carry *c, uint32_t id, uint32_t own, uint32_t *row)
{
	struct scratch *sc = c->sc;
	uint32_t slots[CAND_MAX], ids[HNSW_ROW_MAX], chosen[HNSW_ROW_MAX];

	if (!probe_from_code(&c->to->codes, new_slot(c, id), &sc->probe))
		return; /* the repair ties it */
	for (uint32_t i = 0; i < c->n; i++)
		slots[i] = new_slot(c, sc->ids[i]);
	probe_distances(&c->to->codes, &sc->probe, slots, c->n, sc->rows, sc->dots, sc->dist);
	for (uint32_t i = 0; i < c->n; i++)
		sc->work[i] = (struct cand){.d = sc->dist[i], .slot = sc->ids[i]};
	qsort(sc->work + own, c->n - own, sizeof *sc->work, cand_cmp);
	c->n = VX_MIN(c->n, own + SELECT_MAX);
	/* Choosing goes by slots; on an upper layer the numbers are put back afterwards. */
	for (uint32_t i = 0; i < c->n; i++) {
		sc->pool[i].slot = sc->work[i].slot;
		sc->work[i].slot = new_slot(c, sc->work[i].slot);
	}
	uint32_t m = hnsw_select(c->to, sc, sc->work, c->n, own, c->cap, chosen);
	for (uint32_t i = 0; i < m; i++)
		ids[i] = sc->pool[chosen[i]].slot;
	for (uint32_t i = 0; i < m; i++)
		link_set(row, i, ids[i] + 1);
}

static void carry_row(struct carry *c, uint32_t old, uint32_t id, uint32_t *row)
{
	c->n = c->n_dead = 0;
	c->stamp[old] = ++c->now;
	gather(c, old_row(c, old), CAND_MAX);
	if (c->n_dead == 0) {
		for (uint32_t i = 0; i < c->n; i++)
			link_set(row, i, c->sc->ids[i] + 1);
		return;
	}
	uint32_t own = c->n;
	/* Rows stand nearly in the order of nearness.  The list grows meanwhile: a dead one's dead
	 * neighbours are looked through as well, until there are enough. */
	for (uint32_t i = 0; i < c->n_dead && c->n < CAND_ENOUGH; i++)
		gather(c, old_row(c, c->dead[i]), THROUGH_TAKE);
	select_row(c, id, own, row);
}

/* The nodes of the upper layers, in the order of their new slots.  '*ret_inv' is of the old numbers. */
static int carry_nodes(struct index *from, struct index *to, const uint32_t *inv, uint32_t n_inv,
	uint32_t nupper, uint32_t **ret_inv)
{
	const struct hnsw *hf = hnsw_of(from);
	struct hnsw *ht = hnsw_of(to);
	uint32_t *of_slot = calloc(VX_MAX(n_inv, 1u), sizeof *of_slot);
	uint32_t *up = calloc(VX_MAX(nupper, 1u), sizeof *up), top = 0, entry = 0;
	int rc = of_slot && up ? 0 : -ENOMEM;

	for (uint32_t u = 0; u < nupper && rc == 0; u++) {
		uint32_t slot = upper_at(hf, u)->slot;
		if (slot < n_inv && inv[slot])
			of_slot[inv[slot] - 1] = u + 1;
	}
	for (uint32_t s = 0; s < n_inv && rc == 0; s++) {
		uint32_t u = of_slot[s], v;
		if (!u)
			continue;
		uint32_t level = upper_at(hf, u - 1)->level;
		if (!upper_new(ht, s, level, &v)) {
			rc = -ENOMEM;
			break;
		}
		up[u - 1] = v + 1;
		if (level > top) {
			top = level;
			entry = v + 1;
		}
	}
	uint32_t old = ix_load(&hf->entry);
	if (rc == 0 && old && old <= nupper && up[old - 1])
		entry = up[old - 1];
	uint32_t v;
	if (rc == 0 && !entry && upper_new(ht, 0, 1, &v))
		entry = v + 1;
	if (rc == 0 && !entry)
		rc = -ENOMEM;
	free(of_slot);
	if (rc) {
		free(up);
		return rc;
	}
	ix_store(&ht->entry, entry);
	*ret_inv = up;
	return 0;
}

static int carry_base(struct carry *c, const uint32_t *order, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (i % PAUSE_EVERY == 0 && ix_pause(c->from))
			return -EINTR;
		carry_row(c, order[i], i, base_row(c->to, i));
		codes_flags_or(&c->to->codes, i, CODES_LINKED);
	}
	return 0;
}

static int carry_upper(struct carry *c, uint32_t nupper)
{
	const struct hnsw *hf = hnsw_of(c->from), *ht = hnsw_of(c->to);

	for (uint32_t u = 0; u < nupper; u++) {
		if (!c->inv[u])
			continue;
		if (u % PAUSE_EVERY == 0 && ix_pause(c->from))
			return -EINTR;
		struct upper *n = upper_at(ht, c->inv[u] - 1);
		for (uint32_t l = 1; l <= n->level && l <= upper_at(hf, u)->level; l++) {
			c->level = l;
			carry_row(c, u, c->inv[u] - 1, upper_row(ht, n, l));
		}
	}
	return 0;
}

int hnsw_remap(struct index *from, struct index *to, const uint32_t *order, uint32_t n,
	const uint32_t *inv, uint32_t n_inv)
{
	/* Read once: nodes that come later are nobody's neighbours here. */
	uint32_t nupper = ix_load(&hnsw_of(from)->nupper), *up = NULL;
	uint32_t n_stamp = VX_MAX(VX_MAX(n_inv, nupper), 1u);
	struct carry c = {.from = from, .to = to, .inv = inv, .n_old = n_inv};

	if (n == 0)
		return 0;
	c.stamp = calloc(n_stamp, sizeof *c.stamp);
	c.sc = scratch_get(&to->codes, n, VX_MAX(8 * to->p.ef_construction, CAND_MAX));
	int rc = c.stamp && c.sc ? 0 : -ENOMEM;
	if (rc == 0)
		rc = carry_nodes(from, to, inv, n_inv, nupper, &up);
	c.cap = hnsw_of(to)->m0;
	if (rc == 0)
		rc = carry_base(&c, order, n);
	if (rc == 0) {
		memset(c.stamp, 0, n_stamp * sizeof *c.stamp);
		c.now = 0;
		c.inv = up;
		c.n_old = nupper;
		c.cap = hnsw_of(to)->m;
		rc = carry_upper(&c, nupper);
	}
	if (rc == 0) {
		ix_store(&to->linked, n);
		rc = hnsw_repair(to, c.sc);
	}
	scratch_put(c.sc);
	free(c.stamp);
	free(up);
	return rc;
}
