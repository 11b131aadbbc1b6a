/* store.h - the on-disk state machine of one shard: slices of collections.
 *
 *	shard_open(dir, id, &opts, &s, &err)        DATA/shard-003
 *	shard_apply(s, reqs, n)                     apply worker: committed entries, in order
 *	slice = shard_slice_get(s, cid)             anyone: pin a slice for reading
 *	slice_get / slice_search / slice_scan ...
 *	slice_put(slice)
 *	shard_mark(s, index)                        durable by itself up to 'index'
 *	shard_close(s)
 *
 * A slice directory holds meta.db (SQLite: applied index, id -> rowid, meta, text, batches,
 * generation, dead slots) and g-NNNN/ with segments of vectors and the index checkpoint;
 * docs/format.md has every byte.  The log is the truth until applied.
 *
 * Recovery.  After a start the log replays every entry above the mark through shard_apply().  A
 * slice that has applied an entry already (its own applied index says so) only verifies that the
 * entry's vectors are what the batch row promised and rewrites them from the entry when they are
 * not; so replay is idempotent, and nothing but the mark needs an fsync.
 *
 * Threads: shard_apply, by one apply worker at a time per shard; shard_mark by one background
 * thread, concurrently with apply; all slice_* readers by anyone, at any time, without blocking
 * apply for longer than a pointer swap.  index work: slice_index_step by any number of workers.
 * Errors: -ENOSPC and -EIO of apply leave the entry unapplied (retry -ENOSPC); a damaged slice is
 * quarantined: it answers -EUCLEAN, every other slice goes on.
 */
#ifndef VECFS_STORE_STORE_H
#define VECFS_STORE_STORE_H

#include "base/base.h"
#include "base/bytes.h"
#include "base/disk.h"
#include "base/err.h"
#include "index/index.h"
#include "store/entry.h"

struct shard;
struct slice;

struct shard_opts {
	struct disk *disk;         /* vector segments, checkpoints; SQLite uses the kernel */
	unsigned open_slices_max;  /* SQLite connections kept open (LRU); 0: 256 */
	unsigned sqlite_cache_kib; /* page cache per slice; 0: 1,024 */
	/* Called (any thread) when a slice has got index work or its tail became empty. */
	void (*index_event)(void *ctx, uint32_t cid);
	/* Called by index workers between small pieces of work; true: the shard is about to be closed,
	 * leave the rest for later.  NULL: never. */
	bool (*pause)(void *ctx);
	void *ctx;
	uint32_t
		compact_percent; /* of slots dead before a compaction is due; 0: 25, above 100: never */
	/* Asked before a compaction takes so many bytes more; negative errno: not now.  NULL: always. */
	int (*compact_room)(void *ctx, uint64_t disk, uint64_t memory);
};

/* Opens or creates 'dir'.  Slices open lazily; a damaged one does not fail this. */
VX_MUST_CHECK
int shard_open(const char *dir, uint32_t shard_id, const struct shard_opts *opts,
	struct shard **ret, struct vx_err *err);
/* Its directory was not there and was made: it holds nothing. */
bool shard_fresh(const struct shard *s);
/* Before anybody asks for a slice: its log is damaged, and it has none (shard_slices) or all of them are
 * -EUCLEAN, with 'why'.  Nothing of the shard is opened or changed any more.  -ENOMEM. */
VX_MUST_CHECK
int shard_stop(struct shard *s, const char *why);
const char *shard_stopped(const struct shard *s); /* why; NULL: it is not */
/* No reader may be left.  Saves index checkpoints of slices whose index changed when 'save'. */
void shard_close(struct shard *s, bool save);

/* --- applying ------------------------------------------------------------------ */
enum rec_result {
	REC_INSERTED = 1,
	REC_UPDATED,
	REC_DELETED,
	REC_MISSING,
	REC_EXISTS,
	REC_CONFLICT
};

struct apply_result {
	/* 0; -ENOENT no such slice (dropped); -EUCLEAN quarantined or bad entry; of transactions: -ECANCELED it is
	 * aborted, -EALREADY it is committed. */
	int status;
	uint32_t inserted, updated, deleted, missing,
		conflicts; /* conflicts: EXISTS and CONFLICT */
	bool repeat; /* (origin, seq) was applied before: counts are those of the first time */
};
struct apply_req {
	uint64_t index, term;
	const void *data; /* an entry; borrowed; 8-aligned */
	size_t len;
	struct apply_result result;
	uint8_t *rec_results; /* optional, enum rec_result, count of the entry; may be NULL;
			       * not filled for a repeat or an entry applied before a restart */
};
/* Applies entries of ascending index: one SQLite transaction per touched slice and call (or run of
 * requests), then publishes the new views.  Deterministic.  Returns 0 (each result.status says
 * how it went), or -ENOSPC, -EIO, -ENOMEM: then *ret_done requests were applied whole and the rest not. */
VX_MUST_CHECK
int shard_apply(
	struct shard *s, struct apply_req *reqs, size_t n, size_t *ret_done, struct vx_err *err);

/* Every entry up to this index has been applied (also those that are no slice's business). */
uint64_t shard_applied(const struct shard *s);
/* The applier's: every entry up to 'index' is applied or no business of the store (barriers; the
 * mark that the log had at the start). */
void shard_watermark(struct shard *s, uint64_t index);

/* The applier's, once: every entry that the log had at the start is applied.  A slice without a
 * finished meta.db is damaged from now on; until then it waits for its entry. */
void shard_replayed(struct shard *s);

/* Syncs dirty segments, new directories, then SQLite's part of every dirty slice.  On 0
 * the shard's state at some index >= 'index' survives a power cut.  -EAGAIN when 'index' is not applied yet. */
VX_MUST_CHECK
int shard_mark(struct shard *s, uint64_t index, struct vx_err *err);

/* --- slices ----------------------------------------------------------------------- */
/* Pins; NULL and -ENOENT / -EUCLEAN (quarantined, reason in err) / -EMFILE ... */
struct slice *shard_slice_get(struct shard *s, uint32_t cid, int *ret_rc, struct vx_err *err);
void slice_put(struct slice *sl);
/* Calls 'each' with the cid of every slice on disk. */
int shard_slices(struct shard *s, int (*each)(void *arg, uint32_t cid), void *arg);

const struct slice_schema *slice_schema(const struct slice *sl);

struct slice_stats {
	uint64_t count;   /* records */
	uint64_t applied; /* index of the view */
	uint32_t nslots;  /* slots used */
	uint32_t dead_slots;
	uint32_t tail;         /* slots not linked yet; all of them while the index is not loaded */
	bool index_loaded;     /* false: nobody has asked since the start */
	uint64_t disk_bytes;   /* vectors + meta.db */
	uint64_t memory_bytes; /* anonymous: index, tables */
	uint32_t generation;
	/* Compaction: dead slots are due to be left out, or are being left out now; how far (in slots);
	 * since the slice was opened: how often, and the bytes of disk that came back. */
	bool compact_due, compacting;
	uint32_t compact_done, compact_total, compactions;
	uint64_t reclaimed_bytes;
	struct index_stats index;
};
void slice_stat(struct slice *sl, struct slice_stats *ret);

/* --- transactions (entry.h has their entries) ---------------------------------------------------- */
/* Parts wait so long for a decision, by the leaders' time.  Deterministic: part of the format. */
#define TXN_LIFE_S 600u

/* One that is not settled. */
struct slice_txn {
	uint64_t txn;
	uint64_t time_ns; /* of the first part, or of the decision */
	bool committed;   /* decided here; 'others' may have to be told, then TXN_END */
	uint32_t parts;   /* hidden ones, when not committed */
	uint32_t n_others;
	struct txn_participant others[TXN_PARTICIPANTS_MAX];
};
/* Fills 'ret' with struct slice_txn. */
VX_MUST_CHECK
int slice_txns(struct slice *sl, struct buf *ret, struct vx_err *err);
/* The cids (4 bytes each) of the slices that may have such; none of them is opened for it. */
VX_MUST_CHECK
int shard_txn_slices(struct shard *s, struct buf *ret_cids);

/* --- reading records ------------------------------------------------------------------ */
#define SLICE_META 1u
#define SLICE_TEXT 2u
#define SLICE_VEC  4u

struct slice_rec {
	uint64_t rowid;
	uint64_t version; /* index that wrote it */
	uint64_t mtime_ns;
	uint32_t slot;
	struct vx_record
		rec; /* points into 'mem' or the mapped segment (vec; lives as long as the pin) */
	struct buf mem;
};
void slice_rec_release(struct slice_rec *r);

/* -ENOENT, -EUCLEAN (checksum of the vector's block). */
VX_MUST_CHECK
int slice_get(struct slice *sl, const char *id, size_t id_len, unsigned what, struct slice_rec *ret,
	struct vx_err *err);
VX_MUST_CHECK
int slice_get_rowid(
	struct slice *sl, uint64_t rowid, unsigned what, struct slice_rec *ret, struct vx_err *err);
/* Rowid, version, mtime alone, and whether the canonical length is cached. */
struct slice_rec_stat {
	uint64_t rowid, version, mtime_ns;
};
VX_MUST_CHECK
int slice_stat_rec(struct slice *sl, const char *id, size_t id_len, struct slice_rec_stat *ret);

/* A scan sees one view, whatever is written meanwhile (rows replaced or deleted while scans are open
 * are kept aside).  It pages by rowid and holds no SQLite transaction between calls. */
struct slice_scan;
VX_MUST_CHECK
int slice_scan_open(struct slice *sl, unsigned what, struct slice_scan **ret);
/* Next record with rowid > 'after' in rowid order; borrowed until the next call.  -ENOENT at the end.  With
 * SLICE_VEC, records whose vectors are damaged are passed over. */
VX_MUST_CHECK
int slice_scan_next(
	struct slice_scan *sc, uint64_t after, const struct slice_rec **ret, struct vx_err *err);
/* How many were passed over so far, and what is wrong with the first (left alone when 0). */
uint64_t slice_scan_damaged(const struct slice_scan *sc, struct vx_err *ret_first);
void slice_scan_close(struct slice_scan *sc);

/* Lists without a snapshot (directory pages): ids of rowid > 'after', at most 'max'; 'each' non-zero stops.
 * Ids are borrowed during the call. */
VX_MUST_CHECK
int slice_list(struct slice *sl, uint64_t after, uint32_t max,
	int (*each)(void *arg, uint64_t rowid, uint64_t mtime_ns, const char *id, size_t len),
	void *arg);

/* --- searching ---------------------------------------------------------------------------- */
struct slice_hit {
	float distance;
	uint32_t slot;
	uint64_t rowid;
	const char *id; /* borrowed while the slice is pinned */
	size_t id_len;
};
/* A view of a slice for some questions in a row; the slice stays pinned by the caller meanwhile.  For one thread;
 * not to be kept for long, since what dies meanwhile stays in the index. */
struct slice_reader {
	struct slice *sl;
	struct index *ix;
	uint64_t applied;
	uint32_t nslots;
	unsigned epoch;
	bool any_dead;
};
/* Opens the current view (and makes the index when there is none): errors as slice_index_ready, and
 * then there is nothing to end. */
VX_MUST_CHECK
int slice_read_begin(struct slice *sl, struct slice_reader *ret, struct vx_err *err);
void slice_read_end(struct slice_reader *r);
/* q->nslots and q->visible are filled in here from the view (with q->visible asked as well when set).
 * Hits belong to that view.  'hits' has room for q->k. */
VX_MUST_CHECK
int slice_read_search(const struct slice_reader *r, const struct index_query *q,
	struct slice_hit *hits, uint32_t *ret_n, struct index_search_stat *stat);
/* All three, for one question. */
VX_MUST_CHECK
int slice_search(struct slice *sl, const struct index_query *q, struct slice_hit *hits,
	uint32_t *ret_n, struct index_search_stat *stat);
/* The id in a slot (no SQLite): borrowed while the slice is pinned.  -EUCLEAN. */
VX_MUST_CHECK
int slice_slot_id(struct slice *sl, uint32_t slot, const char **ret_id, size_t *ret_len);
/* The vector in a slot, NULL when damaged. */
const float *slice_slot_vector(struct slice *sl, uint32_t slot);

/* --- the index in the background --------------------------------------------------------------- */
/* Links up to 'max' slots.  Returns the number done, 0 nothing to do, or a negative errno. */
VX_MUST_CHECK
int slice_index_step(struct slice *sl, uint32_t max);
/* Writes the checkpoint if the index has changed by more than 'min_slots' since the last. */
VX_MUST_CHECK
int slice_index_save(struct slice *sl, uint32_t min_slots, struct vx_err *err);
/* --- compaction ------------------------------------------------------------------------------------ */
/* Whether dead slots are a share worth leaving out (or slice_compact_ask was called). */
bool slice_compact_due(struct slice *sl);
/* Bytes of disk that a compaction would take meanwhile; 0 while none is near. */
uint64_t slice_compact_need(struct slice *sl);
/* Due from now on, whatever is dead. */
void slice_compact_ask(struct slice *sl);
/* Writes a new generation of the slice without its dead slots, the others in an order good for searching,
 * and puts it in place; readers that hold the slice go on with the old one until they let go of it, and the last
 * of them removes it.  The caller's pin is of the old one.  Takes long; one thread per slice, beside
 * everything else; writers of the slice wait for the last step (milliseconds).
 * -EALREADY: another is at it; -EINTR: 'pause' said so; -ENOSPC, -ENOMEM, -EUCLEAN (a damaged record), -EIO: the
 * slice is as it was, and due again after a while. */
VX_MUST_CHECK
int slice_compact(struct slice *sl, struct vx_err *err);
/* Why the last attempt failed; 0: it did not. */
int slice_compact_failed(struct slice *sl, struct vx_err *err);

VX_MUST_CHECK
int slice_index_check(struct slice *sl, struct vx_err *err);
/* What is known of the recall; false when the index is not loaded. */
bool slice_index_recall(struct slice *sl, float recall, uint32_t k, struct index_recall *ret);

#endif
