/* wal_group.c - what the log knows of each group.
 *
 * Two views.  The durable one (exists .. manifest) changes only in
 * wal_group_apply, which recovery and a finished flush share: what a restart
 * would find is what memory says.  The staged one (st_*) is just enough to check
 * the next record; a dropped frame resets it from the durable one.
 */
#include "wal/wal_i.h"

#include <assert.h>
#include <stdlib.h>

struct wal_group *wal_group_find(const struct wal *w, uint32_t id)
{
	struct wal_group *g = w->buckets[id % WAL_GROUP_BUCKETS];

	while (g && g->id != id)
		g = g->chain;
	return g;
}

struct wal_group *wal_group_get(struct wal *w, uint32_t id)
{
	struct wal_group *g = wal_group_find(w, id);

	if (g)
		return g;
	if (w->n_groups == w->cap_groups) {
		size_t cap = w->cap_groups ? w->cap_groups * 2 : 16;
		struct wal_group **p = realloc(w->groups, cap * sizeof *p);
		if (!p)
			return NULL;
		w->groups = p;
		w->cap_groups = cap;
	}
	g = calloc(1, sizeof *g);
	if (!g)
		return NULL;
	g->id = id;
	g->chain = w->buckets[id % WAL_GROUP_BUCKETS];
	w->buckets[id % WAL_GROUP_BUCKETS] = g;
	w->groups[w->n_groups++] = g;
	return g;
}

/* Makes room for 'n' more positions, first by closing the gap at the front. */
int wal_group_reserve(struct wal_group *g, size_t n)
{
	if (g->head + g->n + n <= g->cap)
		return 0;
	if (g->head >= g->cap / 2 && g->n + n <= g->cap) {
		memmove(g->pos, g->pos + g->head, g->n * sizeof *g->pos);
		g->head = 0;
		return 0;
	}
	size_t cap = VX_MAX((g->head + g->n + n) * 2, (size_t)64);
	struct wal_pos *p = realloc(g->pos, cap * sizeof *p);
	if (!p)
		return -ENOMEM;
	g->pos = p;
	g->cap = cap;
	return 0;
}

static void drop_front(struct wal_group *g, uint64_t upto)
{
	if (upto <= g->base)
		return;
	uint64_t k = upto - g->base;
	if (k >= g->n) {
		g->head = 0;
		g->n = 0;
	} else {
		g->head += (size_t)k;
		g->n -= (size_t)k;
	}
	g->base = upto;
}

int wal_group_apply(struct wal *w, const struct wal_rhdr *h, struct wal_pos at)
{
	struct wal_group *g = wal_group_get(w, h->group);
	int rc;

	if (!g)
		return -ENOMEM;
	switch (h->type) {
	case WAL_ENTRY:
		if (h->index != wal_group_last(g) + 1)
			return -EUCLEAN;
		rc = wal_group_reserve(g, 1);
		if (rc)
			return rc;
		g->pos[g->head + g->n++] = at;
		break;
	case WAL_TRUNCATE:
		if (h->index <= g->mark_index)
			return -EUCLEAN;
		if (h->index > wal_group_last(g))
			break;
		if (h->index > g->base) {
			g->n = (size_t)(h->index - 1 - g->base);
		} else {
			g->base = h->index - 1;
			g->n = 0;
		}
		break;
	case WAL_HARDSTATE:
		g->term = h->term;
		g->vote = h->vote;
		break;
	case WAL_MARK:
	case WAL_RESET:
		if (h->index == UINT64_MAX || (h->type == WAL_MARK && h->index < g->mark_index))
			return -EUCLEAN;
		/* A mark says where the log ends; those of older logs do not. */
		if (h->type == WAL_MARK && h->vote &&
			(h->vote == UINT64_MAX || h->vote != VX_MAX(wal_group_last(g), h->index)))
			return -EUCLEAN;
		if (h->type == WAL_RESET) {
			g->head = g->n = 0;
			g->base = h->index;
		}
		drop_front(g, h->index);
		g->mark_index = h->index;
		g->mark_term = h->term;
		g->manifest = h->len ? at : (struct wal_pos){0, 0};
		g->manifest_seq = 0;
		break;
	case WAL_DROP:
		free(g->pos);
		assert(!g->stopped);
		*g = (struct wal_group){
			.id = g->id,
			.chain = g->chain,
			.turns_given = g->turns_given,
			.turns_done = g->turns_done,
			.st_exists = g->st_exists,
			.st_term = g->st_term,
			.st_vote = g->st_vote,
			.st_mark = g->st_mark,
			.st_last = g->st_last,
			.st_entries = g->st_entries,
		};
		return 0;
	}
	g->exists = true;
	return 0;
}

void wal_group_unstage(struct wal *w)
{
	w->n_live = 0;
	for (size_t i = 0; i < w->n_groups; i++) {
		struct wal_group *g = w->groups[i];
		g->st_exists = g->exists;
		g->st_term = g->term;
		g->st_vote = g->vote;
		g->st_mark = g->mark_index;
		g->st_last = wal_group_last(g);
		g->st_entries = 0;
		w->n_live += g->exists;
	}
}

uint32_t wal_oldest_needed(const struct wal *w)
{
	uint32_t seg = UINT32_MAX;

	for (size_t i = 0; i < w->n_groups; i++) {
		const struct wal_group *g = w->groups[i];
		if (g->n)
			seg = VX_MIN(seg, g->pos[g->head].seg);
	}
	return seg;
}

void wal_groups_free(struct wal *w)
{
	for (size_t i = 0; i < w->n_groups; i++) {
		free(w->groups[i]->pos);
		free(w->groups[i]->stopped);
		free(w->groups[i]);
	}
	free(w->groups);
}
