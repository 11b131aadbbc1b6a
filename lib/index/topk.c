/* topk.c - selection among many candidates. */
#include "index/topk.h"

#include <stdlib.h>

static void swap(struct cand *x, struct cand *y)
{
	struct cand t = *x;

	*x = *y;
	*y = t;
}

/* Hoare's selection: the k least of a[lo..hi) come first.  The pivot is the median of three; equal
 * candidates do not exist (slots differ), so a step always makes progress. */
static void select_least(struct cand *a, uint32_t n, uint32_t k)
{
	uint32_t lo = 0, hi = n;

	while (hi - lo > 2) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (cand_less(&a[mid], &a[lo]))
			swap(&a[mid], &a[lo]);
		if (cand_less(&a[hi - 1], &a[lo]))
			swap(&a[hi - 1], &a[lo]);
		if (cand_less(&a[hi - 1], &a[mid]))
			swap(&a[hi - 1], &a[mid]);
		struct cand pivot = a[mid];
		uint32_t i = lo, j = hi - 1;
		for (;;) {
			while (cand_less(&a[i], &pivot))
				i++;
			while (cand_less(&pivot, &a[j]))
				j--;
			if (i >= j)
				break;
			swap(&a[i++], &a[j--]);
		}
		/* a[lo..i) is not above the pivot, a[i..hi) not below. */
		if (k <= i)
			hi = VX_MAX(i, lo + 1) == hi ? hi - 1 : i;
		else
			lo = i;
	}
	if (hi - lo == 2 && cand_less(&a[lo + 1], &a[lo]))
		swap(&a[lo], &a[lo + 1]);
}

void topk_shrink(struct topk *t)
{
	if (t->n <= t->want)
		return;
	select_least(t->a, t->n, t->want);
	t->n = t->want;
	float far = t->a[0].d;
	for (uint32_t i = 1; i < t->n; i++)
		far = VX_MAX(far, t->a[i].d);
	t->bound = far;
}

static int cmp(const void *x, const void *y)
{
	const struct cand *a = x, *b = y;

	return cand_less(a, b) ? -1 : cand_less(b, a);
}

uint32_t topk_finish(struct topk *t)
{
	if (t->want > TOPK_SORTED_MAX) {
		topk_shrink(t);
		qsort(t->a, t->n, sizeof *t->a, cmp);
	}
	return t->n;
}
