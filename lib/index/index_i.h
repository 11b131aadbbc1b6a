/* index_i.h - what the kinds of index share.
 *
 * index.c owns the codes, the count of slots and the answer (tail, rerank, exact); a kind owns
 * the structure over the linked slots.
 *
 * Threads: 'appended' is stored with release order after the codes it covers and read
 * with acquire; so is 'linked'.  'link_gate' is held shared by linking and exclusively by
 * save, load and check, which want the structure at rest; searches never take it.
 */
#ifndef VECFS_INDEX_INDEX_I_H
#define VECFS_INDEX_INDEX_I_H

#include <pthread.h>

#include "base/lock.h"
#include "index/codes.h"
#include "index/index.h"
#include "index/recall.h"
#include "index/topk.h"

struct ckpt_writer;
struct ckpt_reader;
struct scratch;

struct index_ops {
	const char *name;
	/* Fills ix->impl and says how many bytes a slot's row of links takes. */
	int (*init)(struct index *ix, uint32_t *ret_extra);
	void (*release)(struct index *ix);
	/* Links one slot.  'sc' is the caller's scratch.  Never fails: what cannot be had
	 * (memory for an upper layer) is done without.  false: the slot was skipped. */
	bool (*insert)(struct index *ix, struct scratch *sc, uint32_t slot);
	/* A slot died; NULL: flags are enough. */
	void (*remove)(struct index *ix, uint32_t slot);
	/* After linking: upkeep (repair) that is due; gate held shared.
	 * 'idle': the tail is empty. */
	void (*settle)(struct index *ix, struct scratch *sc, bool idle);
	/* The same without the gate: may take long, by any thread beside everything else. */
	void (*measure)(struct index *ix, struct scratch *sc, bool idle);
	/* Candidates among linked slots below 'limit' that are visible, nearest first, up to 'want'
	 * in sc->pool; *ret_n of them.  *ret_complete: there are no others.  -EINTR.  NULL: the codes
	 * of all slots are scanned. */
	int (*search)(struct index *ix, const struct index_query *q, struct scratch *sc,
		uint32_t limit, uint32_t ef, uint32_t *ret_n, bool *ret_complete,
		struct index_search_stat *st);
	/* How to answer with a recall; NULL: rerank_max(k) by scanning. */
	void (*plan)(const struct index *ix, double recall, uint32_t k, bool filtered,
		struct recall_plan *ret);
	void (*recall)(const struct index *ix, struct recall_measure *ret);
	/* The linked slots below 'linked' with keep[slot], in an order good for walks.  NULL with 'remap'. */
	int (*order)(struct index *ix, uint32_t linked, const uint8_t *keep, uint32_t *order,
		uint32_t *ret_n);
	/* Structure and CODES_LINKED of the n slots 'order' of 'from' in the fresh index 'to', which has their
	 * codes; inv[old slot] is the new one + 1, or 0.  NULL: the structure is built again. */
	int (*remap)(struct index *from, struct index *to, const uint32_t *order, uint32_t n,
		const uint32_t *inv, uint32_t n_inv);
	/* The kind's part of a checkpoint. */
	int (*save)(struct index *ix, struct ckpt_writer *w, uint32_t nslots);
	int (*load)(struct index *ix, struct ckpt_reader *r, uint32_t nslots, struct vx_err *err);
	/* All of it is loaded: what the structure does not lead to would be missing.  -EUCLEAN, -ENOMEM; NULL: nothing
	 * can be. */
	int (*loaded)(struct index *ix, struct vx_err *err);
	void (*reset)(struct index *ix);
	int (*check)(struct index *ix, struct vx_err *err);
	void (*stat)(const struct index *ix, struct index_stats *st);
};

extern const struct index_ops flat_ops;
extern const struct index_ops hnsw_ops; /* lib/hnsw */

struct index {
	/* immutable */
	const struct index_ops *ops;
	struct index_params p; /* defaults filled in */
	struct index_host host;
	void *impl;

	struct codes codes;
	uint32_t trained;  /* atomic; 0: slots have no codes yet, every search is exact */
	uint32_t by_heads; /* atomic; 1: walks measure with the codes' heads alone */
	uint32_t appended; /* atomic; writer: the appending thread */
	uint32_t next;     /* atomic; first slot no linker has taken */
	uint32_t linked;   /* atomic; writers hold 'advance' */
	uint32_t dead;     /* atomic */
	struct vx_mutex advance;
	pthread_rwlock_t link_gate;
};

static inline uint32_t ix_load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void ix_store(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* Between pieces of work in the background; true: stop. */
static inline bool ix_pause(const struct index *ix)
{
	return ix->host.pause && ix->host.pause(ix->host.ctx);
}

/* How many of the pool get their exact distance at most. */
static inline uint32_t rerank_max(uint32_t k)
{
	return VX_MAX(2 * k, k + 16);
}

/* The pool that a scan of codes starts with, and that a walk leaves to reranking at least.  Coarse
 * codes put the true neighbours less far in front; a scan whose pool turns out to be
 * too short for their error takes a longer one (index.c). */
static inline uint32_t pool_min(const struct codes *c, uint32_t k)
{
	switch (c->quant) {
	case QUANT_SQ4:
		return 4 * k + 60;
	case QUANT_SQ1:
		return 16 * k + 160;
	default:
		return rerank_max(k);
	}
}

/* What a walk of breadth 'ef' keeps in any case, beyond what it expanded: with one bit a vector looked at
 * is better spent than a hop. */
static inline uint32_t pool_keep(const struct codes *c, uint32_t ef)
{
	return c->quant == QUANT_SQ1 ? 2 * VX_MIN(ef, VX_SLOTS_MAX / 2) : 0;
}

#define GRAPH_EF_MAX 8192u
#define GRAPH_SHARE  16u

/* A pool of a large share of all slots is found sooner by looking at them all. */
static inline bool index_ef_scans(uint32_t ef, uint32_t nslots)
{
	return ef > GRAPH_EF_MAX || (uint64_t)ef * GRAPH_SHARE >= nslots;
}

/* Whether a slot may be in the answer of 'q'. */
static inline bool ix_visible(const struct index *ix, const struct index_query *q, uint32_t slot)
{
	/* The flags of a slot are a cache miss: not where nothing is dead. */
	if (__atomic_load_n(&ix->dead, __ATOMIC_RELAXED) > 0 &&
		(__atomic_load_n(codes_flags(&ix->codes, slot), __ATOMIC_RELAXED) & CODES_DEAD))
		return false;
	if (slot + 1 == q->skip)
		return false;
	return !q->visible || q->visible(q->visible_ctx, slot);
}

#define IX_SAMPLES 16u

/* How many of IX_SAMPLES slots below 'limit' are visible: always the same ones, which stay in the
 * cache. */
static inline uint32_t ix_visible_sample(
	const struct index *ix, const struct index_query *q, uint32_t limit)
{
	uint32_t seen = 0;

	for (uint32_t i = 1; i <= IX_SAMPLES; i++)
		seen += ix_visible(ix, q, (uint32_t)((uint64_t)(i * 0x9e3779b1u) * limit >> 32));
	return seen;
}

/* --- scratch: what one search or insert needs, from a pool of the process ----- */
struct scratch {
	uint32_t nslots; /* room in 'visited' */
	uint8_t *visited;
	uint8_t epoch; /* visited[slot] == epoch: seen */

	struct cand *pool;
	uint32_t pool_cap;
	struct cand *work; /* pool_cap; merging, pruning */

	/* How a walk decides that it has seen enough: 0: when the 'ef' nearest found are expanded;
	 * else it answers for this many neighbours, and 'ef' is an effort (hnsw/search.c). */
	uint32_t adapt;
	uint32_t
		keep; /* so many of the nearest met remain, expanded or not; 0: only those that are */

	struct probe probe; /* the question */
	struct probe pair;  /* a second left side: pruning */
	size_t width, floats;
	uint32_t *ids; /* SCRATCH_BATCH */
	const uint8_t **rows;
	int32_t *dots;
	float *dist;

	struct scratch *next; /* free list */
};

#define SCRATCH_BATCH 1024u

/* A scratch with room for slots below 'nslots' and pools of 'cap' candidates.  NULL: no memory. */
struct scratch *scratch_get(const struct codes *c, uint32_t nslots, uint32_t cap);
void scratch_put(struct scratch *sc);
/* Enlarges the pools, keeping what they hold. */
VX_MUST_CHECK
int scratch_pool(struct scratch *sc, uint32_t cap);
/* A new epoch: nothing is visited. */
void scratch_forget(struct scratch *sc);

/* --- scan.c: searching without the structure --------------------------------- */
/* Puts the nearest visible slots of [from, to) by codes into sc->pool, which holds *n
 * sorted candidates already and never more than 'want'.  -EINTR, -ENOMEM. */
VX_MUST_CHECK
int scan_codes(struct index *ix, const struct index_query *q, struct scratch *sc, uint32_t from,
	uint32_t to, uint32_t want, uint32_t *n, struct index_search_stat *st);

/* The k nearest visible slots below q->nslots by full vectors.  -EINTR, -ENOMEM. */
VX_MUST_CHECK
int scan_exact(struct index *ix, const struct index_query *q, struct scratch *sc,
	struct index_hit *hits, uint32_t *ret_n, struct index_search_stat *st);

/* --- checkpoint.c: a stream of checked blocks --------------------------------- */
int ckpt_put(struct ckpt_writer *w, const void *p, size_t n);
int ckpt_get(struct ckpt_reader *r, void *p, size_t n);

/* 'n' little-endian words. */
int ckpt_put_words(struct ckpt_writer *w, const uint32_t *v, size_t n);
int ckpt_get_words(struct ckpt_reader *r, uint32_t *v, size_t n);

#endif
