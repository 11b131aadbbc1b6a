/* hnsw.c - the graph's life: memory of the upper layers, upkeep, the table of operations.
 *
 * Upper nodes are a sixteenth of all with the default m; they lie in an arena of their
 * own and never move.  Row locks are stripes shared by all graphs of the process: at
 * most one is held by a thread, so they cannot deadlock, and a collection of ten records
 * costs no locks.
 *
 * Upkeep is done by whichever linking thread finds it due, while the others go on linking:
 * measuring the recall (measure.c) as the graph grows, and, when the tail has run empty and the
 * graph has grown by a sixteenth, making every slot reachable (check.c).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hnsw/hnsw_i.h"

#define ROW_LOCKS        1024u
#define ARENA_FIRST_SIZE 1024u
#define ARENA_MAX_SIZE   (256u << 10)

static struct vx_mutex row_locks[ROW_LOCKS];
static pthread_once_t row_locks_once = PTHREAD_ONCE_INIT;

static void init_row_locks(void)
{
	for (uint32_t i = 0; i < ROW_LOCKS; i++)
		vx_mutex_init(&row_locks[i], LOCK_NODE);
}

struct vx_mutex *row_lock(const struct index *ix, uint32_t slot)
{
	uint32_t salt = (uint32_t)((uintptr_t)ix >> 6);

	return &row_locks[(slot * 0x9e3779b1u + salt) >> 22];
}

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	_Alignas(8) uint8_t data[];
};

static void *arena_alloc(struct hnsw *h, size_t n)
{
	struct arena_block *b = h->arena;

	n = VX_ALIGN_UP(n, (size_t)8);
	if (!b || b->size - b->used < n) {
		size_t size = b ? VX_MIN(b->size * 2, ARENA_MAX_SIZE) : ARENA_FIRST_SIZE;
		size = VX_MAX(size, n);
		b = calloc(1, sizeof *b + size);
		if (!b)
			return NULL;
		b->size = size;
		b->next = h->arena;
		h->arena = b;
		h->upper_bytes += sizeof *b + size;
	}
	void *p = b->data + b->used;
	b->used += n;
	return p;
}

struct upper *upper_new(struct hnsw *h, uint32_t slot, uint32_t level, uint32_t *ret_u)
{
	struct upper *n = NULL;

	vx_lock(&h->grow);
	uint32_t u = h->nupper;
	uint32_t c = 31u - (uint32_t)__builtin_clz(u / UPPER_FIRST + 1);
	if (!h->dir[c]) {
		size_t size = (size_t)UPPER_FIRST << c;
		h->dir[c] = calloc(size, sizeof *h->dir[c]);
		if (h->dir[c])
			h->upper_bytes += size * sizeof *h->dir[c];
	}
	if (h->dir[c])
		n = arena_alloc(h, sizeof *n + (size_t)level * h->m * sizeof *n->links);
	if (n) {
		n->slot = slot;
		n->level = level;
		h->dir[c][u - UPPER_FIRST * ((1u << c) - 1)] = n;
		ix_store(&h->nupper, u + 1);
		*ret_u = u;
	}
	vx_unlock(&h->grow);
	return n;
}

void hnsw_clear(struct hnsw *h)
{
	for (uint32_t i = 0; i < UPPER_DIRS; i++) {
		free(h->dir[i]);
		h->dir[i] = NULL;
	}
	while (h->arena) {
		struct arena_block *b = h->arena;
		h->arena = b->next;
		free(b);
	}
	h->entry = 0;
	h->nupper = 0;
	h->upper_bytes = 0;
	h->audited = 0;
	h->measured = h->measured_dead = h->coarse = h->looked = 0;
	recall_reset(&h->recall);
}

static int hnsw_init(struct index *ix, uint32_t *ret_extra)
{
	struct hnsw *h = calloc(1, sizeof *h);

	if (!h)
		return -ENOMEM;
	pthread_once(&row_locks_once, init_row_locks);
	vx_mutex_init(&h->grow, LOCK_NODE);
	h->m = ix->p.m;
	h->m0 = 2 * ix->p.m;
	h->efc = ix->p.ef_construction;
	h->level_mult = 1.0 / log((double)h->m);
	recall_init(&h->recall);
	ix->impl = h;
	*ret_extra = VX_ALIGN_UP(h->m0 * (uint32_t)sizeof(uint32_t), 64u);
	return 0;
}

static void hnsw_release(struct index *ix)
{
	struct hnsw *h = ix->impl;

	if (!h)
		return;
	hnsw_clear(h);
	vx_mutex_release(&h->grow);
	recall_release(&h->recall);
	free(h);
	ix->impl = NULL;
}

static void hnsw_reset(struct index *ix)
{
	hnsw_clear(ix->impl);
}

static bool repair_due(const struct index *ix)
{
	uint32_t linked = ix_load(&ix->linked), audited = ix_load(&hnsw_of(ix)->audited);

	return linked > audited && linked - audited >= audited / 16 + 1;
}

static void hnsw_settle(struct index *ix, struct scratch *sc, bool idle)
{
	struct hnsw *h = hnsw_of(ix);

	if (!idle || !repair_due(ix))
		return;
	/* Partner: the store below; whoever comes meanwhile goes on linking. */
	if (__atomic_exchange_n(&h->upkeep, 1, __ATOMIC_ACQUIRE))
		return;
	if (repair_due(ix))
		(void)hnsw_repair(ix, sc); /* without memory the next time will do */
	__atomic_store_n(&h->upkeep, 0, __ATOMIC_RELEASE);
}

static void hnsw_plan(
	const struct index *ix, double recall, uint32_t k, bool filtered, struct recall_plan *ret)
{
	recall_plan(&hnsw_of(ix)->recall, recall, k, filtered, ix_load(&ix->linked), ret);
}

static void hnsw_recall(const struct index *ix, struct recall_measure *ret)
{
	recall_get(&hnsw_of(ix)->recall, ret);
}

static void hnsw_stat(const struct index *ix, struct index_stats *st)
{
	struct hnsw *h = hnsw_of(ix);
	uint32_t entry = ix_load(&h->entry);

	st->max_level = entry ? upper_at(h, entry - 1)->level : 0;
	struct recall_plan plan;
	hnsw_plan(ix, (double)INDEX_RECALL_DEFAULT, 10, false, &plan);
	st->ef_default = plan.scan || plan.exact ? 0 : plan.ef;
	vx_lock(&h->grow);
	st->link_bytes += h->upper_bytes + sizeof *h;
	vx_unlock(&h->grow);
}

const struct index_ops hnsw_ops = {
	.name = "hnsw",
	.init = hnsw_init,
	.release = hnsw_release,
	.insert = hnsw_insert,
	.settle = hnsw_settle,
	.search = hnsw_search,
	.measure = hnsw_measure,
	.plan = hnsw_plan,
	.recall = hnsw_recall,
	.save = hnsw_save,
	.load = hnsw_load,
	.loaded = hnsw_loaded,
	.reset = hnsw_reset,
	.check = hnsw_check,
	.order = hnsw_order,
	.remap = hnsw_remap,
	.stat = hnsw_stat,
};
