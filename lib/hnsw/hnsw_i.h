/* hnsw_i.h - the graph: layout and what its files share.
 *
 * Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
 * Hierarchical Navigable Small World graphs", 2016; algorithm numbers refer to it.
 *
 * Layer 0: each slot has a row of 2m links in the codes' chunk.  Upper layers: a node of
 * height >= 1 has an upper node too, known by a dense number u of its own; links of the
 * upper layers are such numbers.  A link is stored as number + 1 and 0 ends a row, so
 * a fresh, zeroed page is a page of empty rows.
 *
 * Threads: a row is written under its slot's lock (a stripe of 'row_locks') and read without:
 * each word is stored with release and loaded with acquire order, so whoever finds a link also
 * finds the code, the rows and the upper node behind it.  A reader may see a row half
 * rewritten: a mixture of old and new links, all of them valid.
 *
 * Invariants: a row's links are distinct, never the slot itself, and nothing follows
 * a 0.  A node is named by no row before its own rows on all layers are complete.
 */
#ifndef VECFS_HNSW_HNSW_I_H
#define VECFS_HNSW_HNSW_I_H

#include "hnsw/hnsw.h"
#include "index/index_i.h"

#define HNSW_LEVEL_MAX 15u
#define HNSW_ROW_MAX   (2 * INDEX_M_MAX)

/* Upper nodes stand in a directory of doubling tables, so that none moves. */
#define UPPER_FIRST 64u
#define UPPER_DIRS  26u

struct upper {
	uint32_t slot;
	uint32_t level;   /* 1..HNSW_LEVEL_MAX */
	uint32_t links[]; /* level rows of m; the row of layer l at (l - 1) * m */
};

struct arena_block;

struct hnsw {
	/* immutable */
	uint32_t m, m0, efc;
	double level_mult;

	uint32_t entry;  /* atomic: u + 1 of the entry point, 0: the graph is empty */
	uint32_t nupper; /* atomic; writers hold 'grow' */
	struct upper **dir[UPPER_DIRS];

	/* guarded by grow */
	struct vx_mutex grow;
	struct arena_block *arena;
	uint64_t upper_bytes;

	/* upkeep: repair, by one thread at a time */
	uint32_t upkeep;  /* atomic: 1 while somebody is at it */
	uint32_t audited; /* atomic: linked slots when every one was last seen reachable */

	/* measuring, by one thread at a time */
	struct recall recall;
	uint32_t measuring;     /* atomic: 1 while somebody is at it */
	uint32_t measured;      /* atomic: linked slots at the last measurement, 0: none */
	uint32_t measured_dead; /* atomic: dead ones then */
	uint32_t coarse;        /* atomic: it was one of few questions */
	uint32_t looked;        /* atomic: linked slots when drift was last looked for */
};

static inline struct hnsw *hnsw_of(const struct index *ix)
{
	return ix->impl;
}

static inline struct upper *upper_at(const struct hnsw *h, uint32_t u)
{
	uint32_t c = 31u - (uint32_t)__builtin_clz(u / UPPER_FIRST + 1);

	return h->dir[c][u - UPPER_FIRST * ((1u << c) - 1)];
}

static inline uint32_t *upper_row(const struct hnsw *h, struct upper *n, uint32_t level)
{
	return n->links + (size_t)(level - 1) * h->m;
}

static inline uint32_t *base_row(const struct index *ix, uint32_t slot)
{
	return (uint32_t *)codes_extra(&ix->codes, slot);
}

static inline uint32_t link_get(const uint32_t *row, uint32_t i)
{
	return __atomic_load_n(row + i, __ATOMIC_ACQUIRE);
}

static inline void link_set(uint32_t *row, uint32_t i, uint32_t link)
{
	__atomic_store_n(row + i, link, __ATOMIC_RELEASE);
}

static inline uint32_t row_count(const uint32_t *row, uint32_t cap)
{
	uint32_t n = 0;

	while (n < cap && link_get(row, n) != 0)
		n++;
	return n;
}

/* A new upper node, in the directory; NULL: no memory. */
struct upper *upper_new(struct hnsw *h, uint32_t slot, uint32_t level, uint32_t *ret_u);
void hnsw_clear(struct hnsw *h);

/* One lock of the stripes for a node's rows. */
struct vx_mutex *row_lock(const struct index *ix, uint32_t slot);

/* --- search.c -------------------------------------------------------------- */
#define HNSW_SEEN 0x80000000u /* in cand.slot: the node was expanded */

/* Algorithm 2 with ef = 1 from layer 'from' down to above 'to': the nearest upper node.
 * Returns u; *ret_d is its distance. */
uint32_t hnsw_descend(struct index *ix, struct scratch *sc, uint32_t u, uint32_t from, uint32_t to,
	float *ret_d, struct index_search_stat *st);

/* Algorithm 2 on an upper layer; sc->pool then holds *ret_n nodes (u), nearest first. */
void hnsw_search_upper(struct index *ix, struct scratch *sc, uint32_t u, float d, uint32_t level,
	uint32_t ef, uint32_t *ret_n);

/* Algorithm 2 on layer 0; sc->pool then holds *ret_n slots, nearest first.  'q' may be NULL: every
 * node counts.  Otherwise only slots below 'limit' that are visible remain.
 * *ret_gave_up: too many invisible ones on the way. */
int hnsw_search_base(struct index *ix, struct scratch *sc, uint32_t slot, float d, uint32_t ef,
	const struct index_query *q, uint32_t limit, uint32_t *ret_n, bool *ret_gave_up,
	struct index_search_stat *st);

int hnsw_search(struct index *ix, const struct index_query *q, struct scratch *sc, uint32_t limit,
	uint32_t ef, uint32_t *ret_n, bool *ret_complete, struct index_search_stat *st);

/* --- link.c ------------------------------------------------------------------ */
bool hnsw_insert(struct index *ix, struct scratch *sc, uint32_t slot);
/* Algorithm 4: of n candidates, the first 'kept' without asking and the others nearest first, at most m for a
 * row; their indexes go to 'chosen'. */
uint32_t hnsw_select(struct index *ix, struct scratch *sc, const struct cand *cands, uint32_t n,
	uint32_t kept, uint32_t m, uint32_t *chosen);

/* --- remap.c ----------------------------------------------------------------- */
int hnsw_order(
	struct index *ix, uint32_t linked, const uint8_t *keep, uint32_t *order, uint32_t *ret_n);
int hnsw_remap(struct index *from, struct index *to, const uint32_t *order, uint32_t n,
	const uint32_t *inv, uint32_t n_inv);

/* --- check.c ----------------------------------------------------------------- */
int hnsw_check(struct index *ix, struct vx_err *err);
/* Makes every linked slot reachable from the entry point on layer 0.  -ENOMEM. */
int hnsw_repair(struct index *ix, struct scratch *sc);
/* After hnsw_load, by itself.  -EUCLEAN: linked slots cannot be reached, although the graph was audited, or too
 * many of them for the repair.  -ENOMEM. */
int hnsw_loaded(struct index *ix, struct vx_err *err);

/* --- measure.c ---------------------------------------------------------------- */
/* Measures the recall when that is due.  'idle': the tail is empty. */
void hnsw_measure(struct index *ix, struct scratch *sc, bool idle);
/* Makes 'm' what is known, as if it had been measured just now. */
void hnsw_measured(struct hnsw *h, const struct recall_measure *m);

/* --- precision.c ---------------------------------------------------------------- */
/* Decides from the codes of linked slots what walks measure with (ix->by_heads). */
void hnsw_choose_precision(struct index *ix, struct scratch *sc);

/* --- save.c -------------------------------------------------------------------- */
int hnsw_save(struct index *ix, struct ckpt_writer *w, uint32_t nslots);
int hnsw_load(struct index *ix, struct ckpt_reader *r, uint32_t nslots, struct vx_err *err);

#endif
