/* store_i.h - what the files of lib/store share; nobody else includes it.
 *
 * Lock order: shard->mu (table of slices, pins, LRU), then slice->mu (index state, scans, the run
 * being applied), then slice->read_mu (pool of read connections), then slice->view_mu (a leaf: the
 * view is copied under it).  None is held across SQLite, the disk or a callback.
 */
#ifndef VECFS_STORE_STORE_I_H
#define VECFS_STORE_STORE_I_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/lock.h"
#include "store/claim.h"
#include "store/store.h"

#define STORE_FORMAT        1
#define STORE_PATH_MAX      4096u
#define OPEN_SLICES_MAX     256u
#define SQLITE_CACHE_KIB    1024u
#define READERS_MAX         8u   /* read connections of one slice */
#define RUN_ENTRIES_MAX     256u /* entries of one transaction */
#define RUN_BYTES_MAX       (8u << 20)
#define STAGE_BYTES_MAX     (2u << 20) /* vectors gathered before they are written */
#define RECENT_KEEP         4096u
#define SCAN_PAGE_ROWS      256u
#define SCAN_PAGE_BYTES     (1u << 20)
#define SAVE_ON_CLOSE_SLOTS 1024u /* smaller indexes are quicker to make than to load */
#define BUSY_TIMEOUT_MS     10000
#define WAL_COPY_BYTES      (256u << 10) /* a longer one is copied back at the mark */
#define SYNC_ALL_SLICES     16u          /* as many are synced with one call */
#define WAL_KEEP_BYTES      (4u << 20)   /* a longer SQLite log is truncated at the mark */
#define WAL_FULL_BYTES      (64u << 20)  /* no SQLite log grows far beyond, marks or none */
#define WAL_AGAIN_BYTES     (16u << 20)  /* so much later when somebody was in the way */
#define SLICE_CLAIM         "mark"       /* what meta.db had at the last mark: claim.h */
#define SLICE_CHECKPOINT    "graph.ckpt"
#define SHARD_ROSTER        "slices"
#define COMPACT_PERCENT     25u
#define TXN_MARKER          "txn" /* in the slice's directory: some transaction is not settled */
#define GENERATION_MAX      999999999u

/* --- segments (seg.c) --------------------------------------------------------- */
#define SEG_SLOTS     65536u
#define SEG_SHIFT     16
#define SEG_ROW_SIZE  64u
#define SEG_CELL_SIZE 256u
#define SEG_ID_INLINE 39u
#define SEG_OFF_ROWS  4096u
#define SEG_OFF_CELLS (SEG_OFF_ROWS + SEG_SLOTS * SEG_ROW_SIZE)
#define SEG_OFF_VECS  (SEG_OFF_CELLS + SEG_SLOTS * SEG_CELL_SIZE)
#define SEG_TOP       256u
#define SEG_LEAF      128u /* SEG_TOP * SEG_LEAF * SEG_SLOTS == VX_SLOTS_MAX */

struct seg {
	/* immutable once published */
	uint32_t no, cid, dim;
	const uint8_t *map;
	size_t map_len;
	/* Index that killed a slot, 0: none.  Made by the applier before the first mark (release),
	 * loaded by searchers (acquire).  The marks themselves are relaxed: the lock of the view
	 * orders those that a view must see. */
	_Atomic(_Atomic uint64_t *) dead;
	/* Vectors whose checksum was right; relaxed, as a bit only saves work. */
	_Atomic uint64_t verified[SEG_SLOTS / 64];
	atomic_bool complained;
	/* applier only */
	int fd;                      /* -1: not open for writing */
	uint64_t rows_end, vecs_end; /* allocated */
};

struct slot_row {
	uint64_t rowid, born;
	uint32_t vec_sum;
	uint8_t id_len;
	const char *id; /* borrowed from the mapping */
};

uint64_t seg_file_size(uint32_t dim);
/* Puts the header anew before an existing file of at least the right length. */
VX_MUST_CHECK
int seg_header_repair(struct disk *d, const char *gen_dir, uint32_t cid, uint32_t generation,
	uint32_t no, uint32_t dim);
/* 'fresh': the file's contents mean nothing and are made anew. */
VX_MUST_CHECK
int seg_open(struct disk *d, const char *gen_dir, uint32_t cid, uint32_t generation, uint32_t no,
	uint32_t dim, bool fresh, struct seg **ret, struct vx_err *err);
void seg_close(struct disk *d, struct seg *g);
VX_MUST_CHECK
int seg_writable(struct disk *d, const char *gen_dir, struct seg *g);
void seg_unwritable(struct disk *d, struct seg *g);
/* Writes n vectors and encoded rows at slot 'at' of the segment. */
VX_MUST_CHECK
int seg_write(struct disk *d, struct seg *g, uint32_t at, uint32_t n, const float *vecs,
	const uint8_t *rows);
VX_MUST_CHECK
int seg_write_cell(struct disk *d, struct seg *g, uint32_t at, const char *id, size_t len);
/* The dead marks, made when there are none.  NULL: no memory. */
_Atomic uint64_t *seg_dead_make(struct seg *g);
/* The vector at 'at', verified; NULL when damaged. */
const float *seg_vector(struct seg *g, uint32_t at);
const uint8_t *seg_row_bytes(const struct seg *g, uint32_t at);
/* 0 or -EUCLEAN. */
VX_MUST_CHECK
int seg_row(const struct seg *g, uint32_t at, struct slot_row *ret);
uint32_t vec_sum(const float *v, uint32_t dim, uint32_t slot);
void slot_row_encode(uint8_t *p, uint32_t cid, uint32_t slot, uint64_t rowid, uint64_t born,
	uint32_t vsum, const char *id, size_t id_len);

/* --- SQLite (metadb.c) -------------------------------------------------------------- */
enum metadb_stmt {
	ST_BEGIN,
	ST_BEGIN_READ,
	ST_COMMIT,
	ST_ROLLBACK,
	ST_STATE_GET,
	ST_STATE_SET,
	ST_REC_INSERT,
	ST_REC_FIND,
	ST_REC_UPDATE,
	ST_REC_DELETE,
	ST_REC_GET,
	ST_REC_GET_ROWID,
	ST_REC_LIST,
	ST_REC_SCAN,
	ST_DEAD_ADD,
	ST_DEAD_ALL,
	ST_BATCH_ADD,
	ST_BATCH_FIND,
	ST_BATCH_ALL,
	ST_BATCH_PRUNE,
	ST_RECENT_ADD,
	ST_RECENT_FIND,
	ST_RECENT_FIND_IDX,
	ST_RECENT_PRUNE,
	ST_CARRY_PAGE,
	ST_CARRY_PUT,
	ST_CARRY_RECENT,
	ST_HIST_ADD,
	ST_HIST_ANY,
	ST_HIST_CLEAR,
	ST_VERIFY_REC,
	ST_VERIFY_RECENT,
	ST_VERIFY_UNDEAD,
	ST_PART_ADD,
	ST_PART_COUNT,
	ST_PART_GET,
	ST_PART_DROP,
	ST_PART_DROP_ONE,
	ST_PART_OLD,
	ST_PART_TXNS,
	ST_TXN_GET,
	ST_TXN_PUT,
	ST_TXN_END,
	ST_TXN_PENDING,
	ST_TXN_PRUNE,
	ST_TXN_ANY,
	ST_MAX,
};

struct metadb {
	sqlite3 *c;
	sqlite3_stmt *st[ST_MAX]; /* prepared at first use */
};

/* The row of 'state'. */
struct metadb_state {
	uint64_t generation, applied, next_slot, next_rowid, next_recent, count;
};

VX_MUST_CHECK
int metadb_create(const char *path, uint32_t cid, const void *schema, size_t schema_len,
	const struct metadb_state *st, struct vx_err *err);
VX_MUST_CHECK
int metadb_open(struct metadb *db, const char *path, unsigned cache_kib, struct vx_err *err);
/* The length of SQLite's log; 0 when it has none. */
uint64_t metadb_wal_bytes(struct metadb *db);
void metadb_close(struct metadb *db);
/* Copies what 'from' has committed into the new file 'to', without what only the log and open scans need. */
VX_MUST_CHECK
int metadb_copy(struct metadb *from, const char *to, struct vx_err *err);
/* Opens such a copy; nothing is written. */
VX_MUST_CHECK
int metadb_open_copy(struct metadb *db, const char *path, unsigned cache_kib, struct vx_err *err);
/* Reads every page and compares rows with indexes.  -EUCLEAN with what is wrong, -ENOMEM, -EIO. */
VX_MUST_CHECK
int metadb_check(struct metadb *db, struct vx_err *err);
/* 'cid' 0: any.  -ENODATA: the directory was never finished. */
VX_MUST_CHECK
int metadb_load_state(struct metadb *db, uint32_t cid, struct slice_schema *ret_schema,
	struct metadb_state *ret, struct vx_err *err);
VX_MUST_CHECK
int metadb_get(struct metadb *db, enum metadb_stmt which, sqlite3_stmt **ret);
/* Steps a statement that returns no row, and resets it. */
VX_MUST_CHECK
int metadb_run(struct metadb *db, enum metadb_stmt which);
/* Steps: 1 row, 0 done, or a negative errno. */
VX_MUST_CHECK
int metadb_step(struct metadb *db, sqlite3_stmt *st);
/* The index of the last entry applied, as it is now. */
VX_MUST_CHECK
int metadb_applied(struct metadb *db, uint64_t *ret, struct vx_err *err);
/* SQLite's code as a negative errno. */
int metadb_errno(sqlite3 *c, int sqlite_rc);
int metadb_err(struct metadb *db, int rc, struct vx_err *err);

/* --- slices -------------------------------------------------------------------------- */
struct view {
	uint32_t generation, nslots;
	uint64_t applied, next_rowid, count;
};

/* A slot that lost its record, by the entry 'index'. */
struct kill {
	uint32_t slot;
	uint64_t index;
};

enum slice_phase { SLICE_CLOSED, SLICE_OPENING, SLICE_OPEN, SLICE_CLOSING };
enum index_phase { INDEX_NONE, INDEX_MAKING, INDEX_READY };

struct slice {
	/* immutable */
	struct shard *shard;
	uint32_t cid;
	char *dir;
	char *gone; /* once dropped: what the directory was renamed to, for the last pin to remove */
	uint32_t generation; /* a compaction makes another 'struct slice' */
	bool building;       /* before that is published: its directory has its name yet to come */

	/* guarded by shard->mu */
	struct slice *hash_next;
	TAILQ_ENTRY(slice) lru; /* while open */
	enum slice_phase phase;
	unsigned pins;
	bool dropped;
	bool superseded;    /* out of the table; the last pin removes its generation */
	struct slice *heir; /* pinned: what took its place */
	bool incomplete;    /* never finished: a create makes it anew */
	int bad;            /* 0, or why it is quarantined */
	char bad_msg[256];

	/* while open: written by the opener, then constant or as stated */
	struct slice_schema schema;
	char *gen_dir;
	struct seg *_Atomic *_Atomic top[SEG_TOP]; /* release by the applier, acquire */
	_Atomic uint32_t dead_slots;               /* counted before the view is published */
	atomic_bool txn_tables; /* meta.db has those of txn.c: release by the applier, acquire */
	atomic_bool txn_marker; /* its directory has TXN_MARKER; relaxed */
	atomic_bool free_due;   /* much of meta.db is free pages; relaxed */

	/* applier only (and the opener) */
	struct metadb wdb;
	struct metadb_state st; /* committed */
	uint64_t wal_limit;     /* of slice_bound_wal; 0: WAL_FULL_BYTES */
	uint64_t *bad_batches;  /* indexes whose bytes in the segments are wrong */
	uint32_t n_bad_batches;
	bool hist_used;
	/* Dead slots the index is not told of yet, 4 bytes each: a search that holds an older view
	 * may still want them (see publish()). */
	struct buf forget_next, forget_soon;

	/* guarded by view_mu */
	struct vx_mutex view_mu;
	struct view view;
	bool dirty, dirty_dir;
	uint32_t dirty_lo, dirty_hi; /* segments, lo <= hi when any; lo > hi: none */
	uint64_t prune_to;           /* batches up to here are marked */
	bool repairing;              /* bad batches are left */
	bool log_kills;              /* a compaction wants to know */
	bool kills_lost;             /* no memory for it */
	struct buf kill_log;         /* struct kill */
	unsigned epoch;              /* new searches count in searching[epoch & 1] */
	unsigned searching[2];

	/* guarded by mu */
	struct vx_mutex mu;
	struct vx_cond cond;
	enum index_phase index_phase;
	struct index *index; /* constant while INDEX_READY */
	unsigned scans;
	bool run_active, run_hist;
	bool swapping; /* no run begins */
	bool replaced; /* superseded, for the applier */
	bool compacting, compact_asked;
	int compact_rc;            /* of the last attempt */
	uint64_t compact_retry_ns; /* a failed one is not tried again before */
	char compact_msg[160];
	bool saving;
	uint32_t saved_linked, saved_appended; /* of the last checkpoint */

	/* Progress for the eye; relaxed. */
	_Atomic uint32_t compact_done, compact_total, compactions;
	_Atomic uint64_t reclaimed_bytes;

	/* guarded by read_mu */
	struct vx_mutex read_mu;
	struct vx_cond read_cond;
	struct metadb *idle[READERS_MAX];
	unsigned n_idle, n_readers;
};

TAILQ_HEAD(slice_lru, slice);

#define SHARD_HASH 1024u

struct shard {
	/* immutable */
	struct disk *disk;
	char *dir;
	uint32_t id;
	char *stopped; /* see shard_stop; constant once there are other threads */
	unsigned open_max, cache_kib;
	void (*index_event)(void *ctx, uint32_t cid);
	bool (*pause)(void *ctx);
	void *ctx;
	uint32_t compact_percent;
	int (*compact_room)(void *ctx, uint64_t disk, uint64_t memory);
	int sync_fd; /* for syncfs; -1: none */

	/* guarded by mu */
	struct vx_mutex mu;
	struct vx_cond cond; /* a slice's phase changed */
	struct slice *hash[SHARD_HASH];
	struct slice_lru lru; /* open slices, most recently used first */
	unsigned n_open;
	bool dirty_dir;
	bool dirty_parent; /* the name of 'dir' itself may not be on disk */
	bool fresh;        /* the directory was made by this open */
	int sync_failed;   /* why no mark can be vouched for any more; 0: none */
	bool replayed;     /* an unfinished slice is a damaged one */

	_Atomic uint64_t applied; /* release by the applier, acquire */

	/* applier only */
	struct buf stage_vecs, stage_rows;
};

/* shard.c */
struct slice *shard_find(struct shard *s, uint32_t cid); /* under s->mu */
/* Pins and opens.  'for_apply' waits for nothing else; see shard_slice_get. */
struct slice *slice_pin(struct shard *s, uint32_t cid, int *ret_rc, struct vx_err *err);
void slice_quarantine(struct slice *sl, int rc, const char *why);
VX_MUST_CHECK
int shard_create_slice(struct shard *s, const struct slice_schema *sc, const void *blob,
	size_t blob_len, uint64_t index, struct vx_err *err);
VX_MUST_CHECK
int shard_drop_slice(struct shard *s, uint32_t cid, struct vx_err *err);

/* "c-17" -> 17.  Returns 1 for a slice, 2 for a dropped one ("c-17.dropped", or with a number after it), 0 for
 * anything else. */
int slice_name_parse(const char *name, uint32_t *ret_cid);
/* Out of the table and kept by pins alone: the last one ends it. */
struct slice *slice_new(struct shard *s, uint32_t cid);
void slice_free(struct slice *sl);

/* gen.c */
VX_MUST_CHECK
int slice_gen_path(const struct slice *sl, char *ret); /* STORE_PATH_MAX bytes */
VX_MUST_CHECK
int slice_db_path(const struct slice *sl, char *ret);
/* At the start: which generation is the slice; removes what is left over of others. */
VX_MUST_CHECK
int gen_find(struct slice *sl);
/* The same without removing anything. */
VX_MUST_CHECK
int gen_peek(struct slice *sl);
/* The files of this one's generation. */
void gen_remove(struct slice *sl);

/* apply.c */
/* The applier begins with a slice: waits while a compaction puts the new generation in place.  false: this
 * one is the old generation by now. */
VX_MUST_CHECK
bool slice_enter(struct slice *sl);
void slice_leave(struct slice *sl);

/* txn.c */
/* Makes the tables of transactions in meta.db.  SQLite's failure as a negative errno. */
VX_MUST_CHECK
int txn_tables(struct metadb *db);
/* While a slice is opened: whether it has transactions to settle. */
VX_MUST_CHECK
int txn_open(struct slice *sl, struct vx_err *err);

/* compact.c */
/* The applier's, after COMMIT and under view_mu: what a compaction under way must know. */
void compact_note_kills(struct slice *sl, const struct kill *k, size_t n) VX_REQUIRES(sl->view_mu);

/* mark.c */
uint64_t slice_disk_bytes(struct slice *sl);
/* Applier, after COMMIT: keeps SQLite's log short where marks are rare or never see its end. */
void slice_bound_wal(struct slice *sl);
/* As the mark syncs a directory: an error ends all marks of the shard. */
VX_MUST_CHECK
int shard_sync_dir(struct shard *s, const char *path);
int shard_sync_fd(struct shard *s);
VX_MUST_CHECK
int shard_sync_file(struct shard *s, const char *path);

/* roster.c: the slices that the shard has, so that one whose directory is gone is missed. */
VX_MUST_CHECK
int roster_write(struct shard *s);
/* Calls 'each' with every cid of the roster; a missing or damaged one has none. */
VX_MUST_CHECK
int roster_read(struct shard *s, int (*each)(struct shard *s, uint32_t cid));
/* The same, and says -ENOENT or -EUCLEAN. */
VX_MUST_CHECK
int roster_peek(struct shard *s, int (*each)(struct shard *s, uint32_t cid));

/* slice.c */
VX_MUST_CHECK
int slice_open(struct slice *sl, struct vx_err *err);
void slice_close(struct slice *sl);
/* The index up to which a mark has vouched for meta.db; 0: none has. */
uint64_t slice_claim(const struct slice *sl);
struct view slice_view(struct slice *sl);
struct seg *slice_seg(const struct slice *sl, uint32_t no);
/* Opens a segment, or makes it ('fresh'), and puts it among the slice's. */
VX_MUST_CHECK
int slice_seg_add(struct slice *sl, uint32_t no, bool fresh, struct seg **ret, struct vx_err *err);
/* A file that was made and never written (or is not there) is what a power cut leaves of a create. */
bool slice_db_never_written(struct slice *sl, const char *path);
/* The applier's: makes the segment when there is none. */
VX_MUST_CHECK
int slice_seg_make(struct slice *sl, uint32_t no, struct seg **ret, struct vx_err *err);
VX_MUST_CHECK
int slice_batch_check(struct slice *sl, uint32_t first_slot, uint32_t n, uint64_t sum);
uint64_t slot_rows_sum(const uint8_t *rows, uint32_t n, uint32_t first_slot);
void slice_set_dirty(struct slice *sl, uint32_t lo, uint32_t hi);
VX_MUST_CHECK
int store_path(char *ret, const char *dir, const char *name); /* STORE_PATH_MAX bytes */
void store_remove_tree(struct shard *s, const char *dir);

/* search.c */
VX_MUST_CHECK
int slice_index_ready(struct slice *sl, struct index **ret, struct vx_err *err);
/* The applier's, after a replay and before anybody may search: an index that was made on the way is compared with the
 * slice, and dropped where they differ. */
void slice_index_settle(struct slice *sl);
/* One without slots. */
VX_MUST_CHECK
int slice_fresh_index(struct slice *sl, struct index **ret, struct vx_err *err);
VX_MUST_CHECK
int slice_save_now(struct slice *sl, struct index *ix, struct vx_err *err);
/* Slots [from, to) of the segments; a damaged vector counts as zeros and is never returned. */
VX_MUST_CHECK
int slice_index_append(struct slice *sl, struct index *ix, uint32_t from, uint32_t to);
/* The log has no more to repair with: what is damaged stays so, record by record; the rest is served. */
void slice_beyond_repair(struct slice *sl);

/* replay.c: an entry the slice has applied already. */
VX_MUST_CHECK
int slice_replay(
	struct slice *sl, struct apply_req *req, struct entry_reader *rd, struct vx_err *err);
VX_MUST_CHECK
int slice_recall(struct slice *sl, sqlite3_stmt *st, struct apply_result *ret, bool *ret_found);

static inline uint32_t slot_seg(uint64_t slot)
{
	return (uint32_t)(slot >> SEG_SHIFT);
}
static inline uint32_t slot_at(uint64_t slot)
{
	return (uint32_t)slot & (SEG_SLOTS - 1);
}

#endif
