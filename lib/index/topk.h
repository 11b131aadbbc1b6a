/* topk.h - the nearest few, or many, of a stream of candidates.
 *
 * Few are kept in a sorted array.  Many would make every insertion move half of them: they
 * are gathered unsorted in room for twice as many, cut back by selection each time that
 * is full, and sorted once at the end.  Order: distance, then slot.
 *
 *	topk_init(&t, array, n_sorted, want)	array has topk_room(want) entries
 *	topk_add(&t, cand) ...
 *	n = topk_finish(&t)			array[0..n-1], nearest first
 */
#ifndef VECFS_INDEX_TOPK_H
#define VECFS_INDEX_TOPK_H

#include <math.h>
#include <string.h>

#include "base/base.h"

/* A candidate of a search: distance by codes, or the exact one. */
struct cand {
	float d;
	uint32_t slot;
};

#define TOPK_SORTED_MAX 512u

struct topk {
	struct cand *a;
	uint32_t n, want, cap;
	float bound; /* farther ones cannot belong to the answer */
};

static inline uint32_t topk_room(uint32_t want)
{
	return want <= TOPK_SORTED_MAX ? want : 2 * want;
}

static inline bool cand_less(const struct cand *x, const struct cand *y)
{
	return x->d < y->d || (x->d == y->d && x->slot < y->slot);
}

/* Inserts into a sorted array of at most 'cap' candidates. */
static inline void cand_insert(struct cand *a, uint32_t *n, uint32_t cap, struct cand x)
{
	uint32_t lo = 0, hi = *n;

	if (*n == cap) {
		if (cap == 0 || !cand_less(&x, &a[cap - 1]))
			return;
		hi = --*n;
	}
	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;
		if (cand_less(&a[mid], &x))
			lo = mid + 1;
		else
			hi = mid;
	}
	memmove(a + lo + 1, a + lo, (*n - lo) * sizeof *a);
	a[lo] = x;
	++*n;
}

/* 'n' <= want candidates are in 'a' already, sorted. */
static inline void topk_init(struct topk *t, struct cand *a, uint32_t n, uint32_t want)
{
	t->a = a;
	t->n = n;
	t->want = want;
	t->cap = topk_room(want);
	t->bound = n == want && n > 0 ? a[n - 1].d : INFINITY;
}

/* Keeps the 'want' nearest, in any order (topk.c). */
void topk_shrink(struct topk *t);
uint32_t topk_finish(struct topk *t);

static inline void topk_add(struct topk *t, struct cand x)
{
	if (x.d != x.d)
		x.d = INFINITY; /* selection needs an order */
	if (x.d > t->bound)
		return;
	if (t->want <= TOPK_SORTED_MAX) {
		cand_insert(t->a, &t->n, t->want, x);
		if (t->n == t->want && t->n > 0)
			t->bound = t->a[t->n - 1].d;
		return;
	}
	if (t->n == t->cap)
		topk_shrink(t);
	t->a[t->n++] = x;
}

#endif
