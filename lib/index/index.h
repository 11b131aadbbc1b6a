/* index.h - the index over one slice: any kind behind one table.
 *
 * An index sees slots: places in the slice's vector files, numbered from 0,
 * appended in order and never reused within a generation.  For each slot it
 * keeps a code; a slot is first in the *tail* (scanned on codes by every
 * search), then linked into the structure.  So a search sees every slot below
 * its view, whether linked or not.
 *
 *	index_new(&params, &host, &ix)
 *	index_append(ix, first, n, vecs)     apply worker: codes; now in the tail
 *	index_link(ix, max)                  index workers, in parallel: tail -> graph
 *	index_search(ix, &query, hits, &n)   anyone: graph + tail + exact rerank
 *
 * Distances are the metric's: cosine distance 1 - cos, *squared* L2 inside the
 * index (hits carry the true distance: L2 = sqrt), negative inner product.
 * Smaller is closer.  Ties are ordered by slot.
 *
 * Threads: index_append and index_load by one thread at a time (the apply
 * worker); index_link by any number; index_search by any number at any time,
 * without locks; index_save excludes index_link while it copies.
 */
#ifndef VECFS_INDEX_INDEX_H
#define VECFS_INDEX_INDEX_H

#include "base/base.h"
#include "base/disk.h"
#include "base/err.h"

/* Where full-precision vectors come from: the store's mapped files. */
struct index_host {
	/* 'dim' floats of a slot < the appended count; valid until the index is freed.
	 * NULL: the block is damaged or unreadable (the slot is then left out). */
	const float *(*vector)(void *ctx, uint32_t slot);
	/* Called by index_link between pieces of work that take a fraction of a millisecond each.  It may
	 * wait a moment, for what matters more; true: come to an end, what is left is for another time.
	 * NULL: never. */
	bool (*pause)(void *ctx);
	/* Whether the slot was dead after the log's entry 'applied', for checkpoints; any thread.  NULL: what
	 * index_forget was told has to do. */
	bool (*dead)(void *ctx, uint32_t slot, uint64_t applied);
	void *ctx;
};

#define INDEX_M_MIN  2u
#define INDEX_M_MAX  128u
#define INDEX_EF_MAX 10000u

/* The recall that a question may be promised: the share of its true nearest neighbours that
 * the answer has, on the average of questions like the stored vectors. */
#define INDEX_RECALL_DEFAULT 0.95f
#define INDEX_RECALL_MIN     0.5f
#define INDEX_RECALL_MAX     0.999f

struct index_params {
	const char *kind; /* "hnsw" (default, NULL) or "flat" */
	enum vx_metric metric;
	uint32_t dim;
	uint32_t m;               /* links per node and layer (2m on layer 0); 0: 16 */
	uint32_t ef_construction; /* 0: 200 */
	const char *quant;        /* "sq8" (default, NULL), "sq4", "sq1" or "none" */
	uint64_t seed;            /* levels */
};

struct index;

/* -EINVAL: unknown kind or quant, dim or m or ef_construction out of range; -ENOMEM.
 * The strings and the host's table are copied; host->ctx is borrowed. */
VX_MUST_CHECK
int index_new(const struct index_params *p, const struct index_host *host, struct index **ret);
void index_free(struct index *ix);

/* Encodes slots first..first+n-1 ('vecs' n x dim, borrowed); first == appended count.
 * -ENOMEM, and then nothing was appended. */
VX_MUST_CHECK
int index_append(struct index *ix, uint32_t first, uint32_t n, const float *vecs);

/* A slot will never be visible again: it need not be linked (tail) and counts as dead
 * for stat.  Searches still ask 'visible'. */
void index_forget(struct index *ix, uint32_t slot);

/* Whether it was forgotten (by this index, or by the one whose checkpoint was loaded); any thread. */
bool index_forgotten(const struct index *ix, uint32_t slot);

/* Links up to 'max' slots of the tail.  Returns how many were linked or skipped, 0
 * when the tail is empty (or others hold what is left of it), or a negative errno. */
VX_MUST_CHECK
int index_link(struct index *ix, uint32_t max);

uint32_t index_appended(const struct index *ix);
/* Every slot below this is linked: the tail is [linked, appended). */
uint32_t index_linked(const struct index *ix);

struct index_hit {
	uint32_t slot;
	float distance;
};

struct index_query {
	const float *vec; /* dim */
	uint32_t k;
	uint32_t ef;     /* 0: what the recall needs */
	float recall;    /* 0: INDEX_RECALL_DEFAULT; ignored when 'ef' is given */
	bool exact;      /* scan everything at full precision */
	uint32_t skip;   /* slot + 1 that is treated as if it were not there; 0: none */
	uint32_t nslots; /* the view: slots at or above are not looked at */
	/* Whether a slot may be returned (alive in the view, passes the filter); NULL: all. */
	bool (*visible)(void *ctx, uint32_t slot);
	void *visible_ctx;
	/* Polled now and then; true stops the search with -EINTR.  NULL: never. */
	bool (*stop)(void *ctx);
	void *stop_ctx;
};

struct index_search_stat {
	uint32_t ef;        /* taken; 0: everything was scanned */
	uint32_t hops;      /* nodes expanded */
	uint32_t distances; /* code distances computed in the graph */
	uint32_t tail;      /* slots scanned in the tail */
	uint32_t reranked;
	uint32_t
		damaged; /* visible, near enough to be looked at, and left out: they cannot be read */
};

/* Fills hits[0..*ret_n-1], nearest first, at most k ('hits' has room for k).  k visible
 * slots are returned whenever the view has them, whatever ef is.
 * -ENOMEM, -EINTR.  'stat' may be NULL. */
VX_MUST_CHECK
int index_search(struct index *ix, const struct index_query *q, struct index_hit *hits,
	uint32_t *ret_n, struct index_search_stat *stat);

/* Writes a checkpoint (graph and codes, checksummed; docs/format.md) to a new file
 * 'path', synced.  'tag' is the caller's (generation, applied index) pair. */
struct index_tag {
	uint64_t generation;
	uint64_t applied;
	bool dead_known; /* from index_load: all that was dead at 'applied' is forgotten */
};
VX_MUST_CHECK
int index_save(struct index *ix, struct disk *disk, const char *path, struct index_tag tag,
	struct vx_err *err);

/* Whether a file is one that index_save wrote, block by block, without loading it: lengths and checksums.  -EUCLEAN, with the
 * place; -ESTALE: of another version; -ENOENT, -EIO, -ENOMEM. */
VX_MUST_CHECK
int index_file_check(struct disk *disk, const char *path, struct vx_err *err);

/* Loads a checkpoint into a fresh index.  -EUCLEAN (damaged, or a slot is neither in the structure nor in the
 * tail), -ESTALE (other parameters), -ENOENT: the index is then still fresh and usable.  Whether it has the
 * slots that it should have is index_compare's to say. */
VX_MUST_CHECK
int index_load(struct index *ix, struct disk *disk, const char *path, struct index_tag *ret_tag,
	struct vx_err *err);

/* --- an index against the slots that it is of ---------------------------------- */
/* EITHER: it died not long ago, or nobody can say. */
enum index_slot { INDEX_SLOT_ALIVE, INDEX_SLOT_DEAD, INDEX_SLOT_EITHER };

/* Compares every slot of the index with what slot() says of it; there are 'nslots'.  -EUCLEAN: it has slots that are
 * none (orphans), leaves out living ones whose vectors can be read (missing), or has dead ones that it was
 * never told of (resurrected); 'err' has how many and which is the first.  A pass over the flags: no
 * vector is read unless its slot was passed over.  Any thread; what is linked or forgotten meanwhile does no harm. */
VX_MUST_CHECK
int index_compare(const struct index *ix, uint32_t nslots,
	enum index_slot (*slot)(void *ctx, uint32_t slot), void *ctx, struct vx_err *err);

/* --- a new generation -------------------------------------------------------- */
/* Slots below 'nslots' with keep[slot], each once, in the order that they are to be numbered in: first
 * *ret_linked of the structure, neighbours near each other, then those of the tail.  'order' has room for
 * 'nslots'.  -ENOMEM. */
VX_MUST_CHECK
int index_order(struct index *ix, uint32_t nslots, const uint8_t *keep, uint32_t *order,
	uint32_t *ret_n, uint32_t *ret_linked);
/* Makes 'to', fresh and with the same parameters, an index over from's slots order[0..n), numbered
 * from 0; 'linked' and 'nslots' as index_order had them.  The host of 'to' answers for the new
 * numbers already.  'from' goes on as it likes; 'to' has one user.  -ENOMEM, -EINTR (pause of the old
 * host): 'to' is then good for index_free alone. */
VX_MUST_CHECK
int index_remap(struct index *from, struct index *to, const uint32_t *order, uint32_t n,
	uint32_t linked, uint32_t nslots);

/* Validates the structure: link targets, levels, bounds, reachability of every linked
 * slot from the entry point.  -EUCLEAN with the first finding.  Excludes index_link. */
VX_MUST_CHECK
int index_check(struct index *ix, struct vx_err *err);

struct index_stats {
	uint32_t appended, linked, dead;
	uint64_t memory_bytes; /* codes + links + bookkeeping */
	uint64_t code_bytes, link_bytes;
	uint32_t max_level;
	uint32_t ef_default; /* for INDEX_RECALL_DEFAULT and k = 10; 0: all codes are scanned */
	const char *kind, *quant, *simd;
};
void index_stat(const struct index *ix, struct index_stats *ret);

/* What is known of the recall.  Measured on stored records, each left out of the structure for its own
 * question, against exact answers; anew as the index grows, is emptied or drifts. */
struct index_recall {
	uint32_t ef;             /* that a question for k neighbours with this recall gets */
	bool scan, exact;        /* or: all codes, all vectors */
	double measured;         /* recall@10 seen at that ef; NAN: not measured */
	double codes, reranked;  /* of a scan of the codes alone, and with reranking; NAN */
	uint32_t samples;        /* questions; 0: not measured yet */
	uint32_t measured_slots; /* linked then */
};
void index_recall(const struct index *ix, float recall, uint32_t k, struct index_recall *ret);

#endif
