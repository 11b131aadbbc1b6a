/* recall.h - from a promised recall to the breadth of search (ef) that keeps it.
 *
 * A structure measures itself (lib/hnsw/measure.c): it asks a sample of questions at a ladder of
 * breadths and counts how many of the true neighbours are missed on each rung.  Here is what
 * follows from those counts.
 *
 *	recall_bound()		the share of misses that the counts leave possible
 *	recall_set(r, &m)	a measurement becomes the one in force
 *	recall_plan(r, ...)	a promise -> the smallest ef that keeps it, or a scan
 *
 * Threads: recall_plan at any time without locks; recall_set, recall_get and the rest take the lock.
 */
#ifndef VECFS_INDEX_RECALL_H
#define VECFS_INDEX_RECALL_H

#include "base/base.h"
#include "base/lock.h"

/* Rung i searches with 2^(i/2) times the breadth of rung 0. */
#define RECALL_RUNGS 20u

/* One ladder: how many of the k true neighbours of each question were missed. */
struct recall_curve {
	uint32_t n;     /* questions; 0: not measured */
	uint32_t rungs; /* measured, from the lowest */
	uint32_t misses[RECALL_RUNGS];
	uint32_t squares[RECALL_RUNGS]; /* sum over the questions of their misses squared */
};

/* For 1 and 10 neighbours the ladder starts at ef 10, for 100 at 100.  FILTERED: 10 neighbours among
 * few visible slots; measured where that is harder (inner products), else n is 0. */
enum recall_k { RECALL_1, RECALL_10, RECALL_100, RECALL_FILTERED, RECALL_KS };

struct recall_measure {
	uint32_t linked, dead; /* what the structure had then; linked 0: never measured */
	uint32_t coarse;       /* a small sample, taken in the middle of a build */
	/* Scans of all codes for 10 neighbours, over the questions of RECALL_10: misses of the codes
	 * alone, and of their best reranked with full vectors. */
	uint32_t code_misses, rerank_misses;
	struct recall_curve curve[RECALL_KS];
};
#define RECALL_WORDS (sizeof(struct recall_measure) / sizeof(uint32_t))

struct recall {
	/* Per curve and rung: parts of 2^32 that may be missed; UINT32_MAX: nothing is known.  Each
	 * word is atomic; a reader that meets two measurements mixed gets an ef of either kind. */
	uint32_t table[RECALL_KS][RECALL_RUNGS];
	uint32_t linked;     /* atomic */
	uint32_t scan_share; /* atomic: of misses when the codes are scanned and reranked */

	struct vx_mutex lock;
	struct recall_measure m; /* guarded by lock */
};

struct recall_plan {
	uint32_t ef;
	bool scan;  /* every code, reranked: no ef is enough, or that is cheaper */
	bool exact; /* every vector: not even the codes are good enough */
};

void recall_init(struct recall *r);
void recall_release(struct recall *r);
void recall_reset(struct recall *r);

uint32_t recall_ef(enum recall_k k, uint32_t rung);
uint32_t recall_neighbours(enum recall_k k);

/* The largest share of misses that is compatible with the counts: n questions of k
 * neighbours, one-sided, z standard errors.  At most 1.  *d: how many misses come together, as
 * far as is known (1: alone); leaves what is known after these. */
double recall_bound(uint32_t n, uint32_t k, uint32_t misses, uint32_t squares, double z, double *d);

void recall_set(struct recall *r, const struct recall_measure *m);
void recall_get(struct recall *r, struct recall_measure *ret);
/* Whether words read from a file can be a measurement of 'linked' slots. */
bool recall_valid(const struct recall_measure *m, uint32_t linked);

/* How to find k neighbours among 'linked' slots of the structure with this recall (0 < recall < 1).
 * 'filtered': many of the slots may not be returned. */
void recall_plan(const struct recall *r, double recall, uint32_t k, bool filtered, uint32_t linked,
	struct recall_plan *ret);

/* The recall@10 that was measured at 'ef' (no bound: the mean itself); NAN: not measured. */
double recall_measured(const struct recall_measure *m, uint32_t ef);

#endif
