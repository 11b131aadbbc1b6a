/* scratch.c - the working memory of searches and inserts.
 *
 * One pool for the whole process: thousands of small collections share the few
 * scratches that searching threads need at once.  'visited' works across indexes because each
 * use takes a new epoch; the array is cleared when the byte wraps, every 255 uses.
 *
 * A search touches much of 'visited', and between two searches it stays in the cache of its core.  So each core has
 * a place of its own for the scratch that was used there last; the list is for when that is taken.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "index/index_i.h"

#define SCRATCH_KEPT_MAX 16u
#define CORES            64u

/* Of the cores; on lines of their own. */
static struct {
	_Alignas(64) _Atomic(struct scratch *) sc;
} warm[CORES];

static struct {
	pthread_mutex_t lock; /* a leaf: nothing is called while it is held */
	struct scratch *free;
	uint32_t kept;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void scratch_free(struct scratch *sc)
{
	free(sc->visited);
	free(sc->pool);
	free(sc->work);
	free(sc->probe.q8);
	free(sc->probe.qf);
	free(sc->pair.q8);
	free(sc->pair.qf);
	free(sc->ids);
	free(sc->rows);
	free(sc->dots);
	free(sc->dist);
	free(sc);
}

static void *alloc_lines(size_t n)
{
	return aligned_alloc(64, VX_ALIGN_UP(n ? n : 1, (size_t)64));
}

static struct scratch *scratch_new(void)
{
	struct scratch *sc = calloc(1, sizeof *sc);

	if (!sc)
		return NULL;
	sc->ids = alloc_lines(SCRATCH_BATCH * sizeof *sc->ids);
	sc->rows = alloc_lines(SCRATCH_BATCH * sizeof *sc->rows);
	sc->dots = alloc_lines(SCRATCH_BATCH * sizeof *sc->dots);
	sc->dist = alloc_lines(SCRATCH_BATCH * sizeof *sc->dist);
	if (!sc->ids || !sc->rows || !sc->dots || !sc->dist) {
		scratch_free(sc);
		return NULL;
	}
	return sc;
}

static int grow_probes(struct scratch *sc, const struct codes *c)
{
	size_t floats = codes_tmp_floats(c);

	if (floats <= sc->floats && c->width <= sc->width)
		return 0;
	int8_t *a = alloc_lines(c->width), *b = alloc_lines(c->width);
	float *f = alloc_lines(floats * sizeof *f), *g = alloc_lines(floats * sizeof *g);
	if (!a || !b || !f || !g) {
		free(a);
		free(b);
		free(f);
		free(g);
		return -ENOMEM;
	}
	free(sc->probe.q8);
	free(sc->probe.qf);
	free(sc->pair.q8);
	free(sc->pair.qf);
	sc->probe.q8 = a;
	sc->pair.q8 = b;
	sc->probe.qf = f;
	sc->pair.qf = g;
	sc->floats = floats;
	sc->width = c->width;
	return 0;
}

static int grow_visited(struct scratch *sc, uint32_t nslots)
{
	if (nslots <= sc->nslots)
		return 0;
	/* A little more than asked, so that a growing index does not reallocate at each search. */
	uint64_t want = VX_MIN((uint64_t)nslots + nslots / 4 + 1024, (uint64_t)VX_SLOTS_MAX);
	uint8_t *v = calloc(want, 1);
	if (!v)
		return -ENOMEM;
	free(sc->visited);
	sc->visited = v;
	sc->nslots = (uint32_t)want;
	sc->epoch = 0;
	return 0;
}

int scratch_pool(struct scratch *sc, uint32_t cap)
{
	if (cap <= sc->pool_cap)
		return 0;
	cap = VX_ALIGN_UP(cap + 1, 64u);
	struct cand *a = alloc_lines(cap * sizeof *a), *b = alloc_lines(cap * sizeof *b);
	if (!a || !b) {
		free(a);
		free(b);
		return -ENOMEM;
	}
	if (sc->pool_cap)
		memcpy(a, sc->pool, sc->pool_cap * sizeof *a);
	free(sc->pool);
	free(sc->work);
	sc->pool = a;
	sc->work = b;
	sc->pool_cap = cap - 1;
	return 0;
}

static _Atomic(struct scratch *) *here(void)
{
	int cpu = sched_getcpu();

	return &warm[cpu < 0 ? 0 : (unsigned)cpu % CORES].sc;
}

static struct scratch *from_list(void)
{
	pthread_mutex_lock(&pool.lock);
	struct scratch *sc = pool.free;
	if (sc) {
		pool.free = sc->next;
		pool.kept--;
	}
	pthread_mutex_unlock(&pool.lock);
	return sc;
}

struct scratch *scratch_get(const struct codes *c, uint32_t nslots, uint32_t cap)
{
	struct scratch *sc = atomic_exchange_explicit(here(), NULL, memory_order_acquire);

	if (!sc)
		sc = from_list();
	if (!sc)
		sc = scratch_new();
	if (!sc)
		return NULL;
	if (grow_probes(sc, c) < 0 || grow_visited(sc, nslots) < 0 || scratch_pool(sc, cap) < 0) {
		scratch_put(sc);
		return NULL;
	}
	return sc;
}

void scratch_put(struct scratch *sc)
{
	/* What was there meanwhile goes to the list. */
	sc = atomic_exchange_explicit(here(), sc, memory_order_acq_rel);
	if (!sc)
		return;
	pthread_mutex_lock(&pool.lock);
	bool keep = pool.kept < SCRATCH_KEPT_MAX;
	if (keep) {
		sc->next = pool.free;
		pool.free = sc;
		pool.kept++;
	}
	pthread_mutex_unlock(&pool.lock);
	if (!keep)
		scratch_free(sc);
}

void scratch_forget(struct scratch *sc)
{
	if (++sc->epoch == 0) {
		memset(sc->visited, 0, sc->nslots);
		sc->epoch = 1;
	}
}
