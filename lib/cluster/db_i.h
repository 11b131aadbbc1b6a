/* db_i.h - what the files of lib/cluster share.  Private to this directory.
 *
 * Groups: META_GROUP replicates the catalog; group SHARD_GROUP0 + s is shard s.
 *
 *	home.c      data directory: lock, node.json, space
 *	catalog.c   the meta group's state machine, and the collection table in memory
 *	propose.c   tickets: one proposal, from its sequence number to its result
 *	applier.c   queues and workers between the reactor and the stores
 *	coll.c      create, drop, options, schema
 *	batch.c     writing
 *	txn.c       whole files
 *	read.c      get, list, scan
 *	search.c    questions
 *	indexer.c   background index work
 *	compactor.c background compaction
 *	quota.c     memory.max, quota.max
 *	fsck.c fsck_served.c   verifying a directory, and the node that serves it
 *	manifest.c snapshot.c snapin.c restore.c   snapshots
 *	db.c        opening and closing, statistics
 */
#ifndef VECFS_CLUSTER_DB_I_H
#define VECFS_CLUSTER_DB_I_H

#include <stdatomic.h>

#include "base/lock.h"
#include "cluster/db.h"
#include "raft/repl.h"
#include "store/store.h"

#define META_GROUP         1u
#define SHARD_GROUP0       2u
#define SHARDS_MAX         256u

#define HANDLE_SHARD_SHIFT 48
#define HANDLE_ROWID_MASK  ((UINT64_C(1) << HANDLE_SHARD_SHIFT) - 1)

#define INFLIGHT_BYTES_MAX (48u << 20) /* proposed and not answered: bounds memory */
#define CONFIG_VALUE_MAX   1024u

/* --- collections ---------------------------------------------------------------- */
/* Buckets first..last (inclusive) of a collection live in 'shard'. */
struct placement {
	uint16_t first, last;
	uint32_t shard;
};

enum coll_opt {
	CO_DIM,
	CO_METRIC,
	CO_INDEX,
	CO_QUANT,
	CO_M,
	CO_EF_CONSTRUCTION,
	CO_SPREAD,
	CO_EF_SEARCH,
	CO_RECALL,
	CO_K,
	CO_ON_ERROR,
	CO_EMBEDDER,
	CO_MEMORY_MAX,
	CO_QUOTA_MAX,
	CO_INBOX_MAX,
	CO_N
};

struct coll {
	/* Immutable. */
	struct db *db;
	uint32_t cid;
	char name[VX_NAME_MAX + 1];
	uint64_t ctime_ns;
	struct placement *places;
	uint32_t n_places;

	/* Read by anyone, changed by the meta group's apply worker; each stands alone, so relaxed
	 * order is enough except where said. */
	_Atomic uint32_t dim; /* 0 until fixed; release, paired with acquire in coll_dim() */
	_Atomic uint32_t metric;
	_Atomic uint32_t ef_search, k_default;
	_Atomic float recall;
	_Atomic uint32_t links;                 /* per node */
	_Atomic uint64_t memory_max, quota_max; /* 0: none */
	_Atomic uint32_t epoch;
	atomic_bool sealed; /* has had records: fixed options stay; release, as 'dim' */
	atomic_bool gone;

	/* Guarded by db->coll_lock. */
	char *opt[CO_N]; /* NULL: default */
	uint32_t refs;
	uint32_t writers;     /* batches under way */
	bool dropping;        /* new batches are refused */
	bool slices_ready;    /* every placement's slice exists */
	bool creating_slices; /* somebody is seeing to that */
	struct coll *next;    /* table, sorted by name */

	/* Guarded by db->space_lock: what is held, by the last look and what was let in since. */
	uint64_t used_ns, used_disk, used_memory;
};

/* --- tickets --------------------------------------------------------------------- */
/* One proposal under way.  Completed exactly once: by the apply worker, or by the reactor when it
 * did not commit. */
struct ticket {
	struct repl_proposal p;
	struct db *db;
	uint32_t group;
	uint64_t origin, seq;     /* its name; origin 0 before propose(): one of this run's */
	struct ticket *hash_next; /* guarded by db->ticket_lock */
	atomic_int holds;         /* reactor, result */

	int status;
	uint64_t index;
	struct apply_result res; /* shards */
	uint32_t cid;            /* meta: the collection created */
	void (*done)(struct ticket *t);
	void *arg;
};

/* --- applier ------------------------------------------------------------------------- */
struct apply_item; /* one committed entry or watermark, copied */

struct apply_group {
	uint32_t group;
	struct shard *shard; /* NULL: the meta group */

	/* Guarded by db->apply_lock. */
	struct apply_item *head, **tail;
	bool running; /* a worker has it */
	bool queued;  /* it is in the run queue */
	struct apply_group *run_next;
	uint64_t applied; /* every index up to this is applied */
	bool stalled;     /* out of space; being retried */
	bool abandoned;   /* given up at the end: nothing is applied any more */
	uint64_t entries, bytes;
};

/* --- index workers ---------------------------------------------------------------------- */
struct index_job {
	uint32_t shard, cid;
};

/* --- the database --------------------------------------------------------------------------- */
struct catalog;
struct shard_ctx;

struct db {
	/* Immutable after db_open. */
	char *dir;
	struct db_opts opts;
	int lock_fd;
	uint64_t node_id;
	uint64_t origin; /* of this run: names our proposals */
	uint32_t n_shards;
	struct shard **shards;
	struct shard_ctx *shard_ctx[SHARDS_MAX];
	struct repl *repl;
	struct catalog *catalog;
	uint64_t start_ns;

	struct vx_mutex coll_lock; /* LOCK_DB */
	struct vx_cond coll_cond;  /* writers or slice creation finished, tail shrank */
	struct coll *colls;
	_Atomic uint64_t catalog_version;

	struct vx_mutex ticket_lock; /* LOCK_ROUTER */
	struct vx_cond ticket_cond;  /* in flight shrank */
	uint64_t next_seq;
	uint64_t last_time_ns;
	struct ticket *tickets[1024];
	size_t inflight_bytes;

	struct vx_mutex apply_lock;  /* LOCK_QUEUE */
	struct vx_cond apply_cond;   /* work, or stopping */
	struct vx_cond applied_cond; /* some group's 'applied' grew */
	struct vx_cond stall_cond;   /* stalled groups need wait no longer */
	struct apply_group *groups;
	uint32_t n_groups;
	struct apply_group *run_head, **run_tail;
	pthread_t *apply_threads;
	unsigned n_apply_threads;
	bool apply_stop;
	bool give_up; /* nobody waits for room any more */

	struct vx_mutex index_lock; /* LOCK_QUEUE */
	struct vx_cond index_cond;
	struct vx_cond tail_cond; /* some tail shrank */
	struct index_job *jobs;
	size_t n_jobs, cap_jobs, next_job;
	pthread_t *index_threads;
	unsigned n_index_threads;
	bool index_stop;
	_Atomic bool index_hurry; /* the same, for those who hold no lock */

	struct vx_mutex compact_lock; /* LOCK_QUEUE */
	struct vx_cond compact_cond;
	struct buf compact_jobs; /* struct index_job; the first is under way */
	pthread_t compact_thread;
	bool compact_running, compact_stop;
	_Atomic uint64_t compact_need; /* bytes of disk that the next one may want */

	struct vx_mutex txn_lock; /* LOCK_LEAF */
	struct vx_cond txn_cond;
	struct txn *txns; /* under way in this process */
	pthread_t txn_thread;
	bool txn_running, txn_stop;
	bool txn_settled; /* what the last run left */

	struct pool *pool; /* parallel questions */

	struct vx_mutex space_lock; /* LOCK_LEAF */
	uint64_t space_checked_ns;
	bool space_low, space_critical;
	uint64_t memory_ns, quota_ns, used_memory, used_disk; /* as of a collection */

	uint64_t machine_memory; /* immutable: of the machine or its control group */
	_Atomic uint64_t memory_max, quota_max;

	_Atomic uint64_t n_searches, n_writes, n_gets;
};

/* home.c */
VX_MUST_CHECK
int home_open(struct db *db, struct vx_err *err); /* directory, lock, node.json */
VX_MUST_CHECK
int home_open_existing(struct db *db, struct vx_err *err); /* the same where there is one */
/* Of db->dir; fills node_id and n_shards. */
VX_MUST_CHECK
int home_read_identity(struct db *db, const char *path, struct vx_err *err);
void home_close(struct db *db);
/* -ENOSPC when 'bytes' more of writing would eat into the reserve.  Deletes may use the reserve. */
VX_MUST_CHECK
int home_space_check(struct db *db, size_t bytes, bool is_delete, struct vx_err *err);
/* Whether a compaction may write so much: 0 or -ENOSPC. */
VX_MUST_CHECK
int home_compact_room(struct db *db, uint64_t bytes);
VX_MUST_CHECK
int path_join(char *out, size_t cap, const char *fmt, ...) VX_PRINTF(3, 4);

/* catalog.c */
enum catalog_op {
	CAT_CREATE = 1,
	CAT_DROP = 2,
	CAT_SET_DIM = 3,
	CAT_SET_OPTION = 4,
	CAT_RENAME = 5
};
VX_MUST_CHECK
int catalog_open(struct db *db, struct vx_err *err); /* fills db->colls */
void catalog_close(struct db *db);
/* Meta group's apply worker: applies one entry, fills status and cid. -EIO, -ENOSPC: not applied. */
VX_MUST_CHECK
int catalog_apply(struct db *db, uint64_t index, const void *entry, size_t len, int *ret_status,
	uint32_t *ret_cid);
VX_MUST_CHECK
int catalog_mark(struct db *db);
/* After catalog_open: the index of the last entry that it has. */
uint64_t catalog_applied(const struct db *db);
/* Whether there was no catalog when it was opened. */
bool catalog_fresh(const struct db *db);

/* coll.c */
struct coll *coll_ref(struct coll *c); /* coll_lock held by the caller, or a pin */
VX_MUST_CHECK
int coll_ensure_slices(struct coll *c, struct vx_err *err);
VX_MUST_CHECK
int coll_fix_dim(struct coll *c, uint32_t dim, struct vx_err *err);
const char *coll_opt_get(struct coll *c, enum coll_opt o); /* coll_lock held; default if unset */
uint32_t coll_shard_of(const struct coll *c, const char *id, size_t len);
/* Collections whose names start with a dot are in the making: listings do not show them, and a start
 * drops them. */
#define HIDDEN '.'
/* Creates a collection of any name with the given pairs of catalog.h. */
VX_MUST_CHECK
int coll_create_raw(struct db *db, const char *name, uint32_t spread, const struct buf *pairs,
	uint16_t n_pairs, struct vx_err *err);
/* Gives a hidden collection its name in one step; -EEXIST when there is one and not 'replace', else that one
 * is dropped in the same step. */
VX_MUST_CHECK
int coll_reveal(struct coll *c, const char *name, bool replace, struct vx_err *err);
/* Drops slices on disk that no collection of the catalog owns (left by a crash during a drop). */
void coll_reconcile(struct db *db);
VX_MUST_CHECK
int coll_option_check(enum coll_opt o, const char *value, struct vx_err *err);
int coll_opt_find(const char *name);

/* propose.c */
void propose_init(struct db *db);
void propose_release(struct db *db);
/* Stamps the finished entry (malloc'd; taken) and hands it to Raft.  t->done runs once, later, on
 * another thread (reactor or apply worker). */
void propose(struct db *db, uint32_t group, struct ticket *t, void *entry, size_t len);
/* The same, waiting.  Returns the status. */
int propose_wait(struct db *db, uint32_t group, struct ticket *t, void *entry, size_t len);
/* The ticket an applied entry answers, taken out of the table; NULL: none of ours. */
struct ticket *propose_take(struct db *db, uint32_t group, uint64_t origin, uint64_t seq);
void propose_done(struct ticket *t);
/* Waits until less than INFLIGHT_BYTES_MAX is under way, then counts 'bytes' in. */
void inflight_add(struct db *db, size_t bytes);
void inflight_sub(struct db *db, size_t bytes);
/* Waits until nothing is under way, or nothing moves any more. */
void inflight_drain(struct db *db);

/* applier.c */
extern const struct repl_host_ops db_host_ops;
VX_MUST_CHECK
int applier_start(struct db *db);
void applier_stop(struct db *db);
/* Waits until every entry handed over so far is applied, except for groups without room. */
void applier_drain(struct db *db);
/* Waits until what the group's worker is applying now is applied, however much comes behind it. */
void applier_pass(struct db *db, uint32_t group);
/* Whether the group is without room: what it was handed is not all applied. */
bool applier_stalled(struct db *db, uint32_t group);

/* indexer.c */
VX_MUST_CHECK
int indexer_start(struct db *db);
void indexer_stop(struct db *db);
void indexer_event(void *ctx, uint32_t cid); /* shard_opts.index_event; ctx: struct shard_ctx */
bool indexer_pause(void *ctx);               /* shard_opts.pause; the same ctx */
struct shard_ctx {
	struct db *db;
	uint32_t shard;
};
/* Waits while the collection's tail is above the bound. */
void indexer_throttle(struct coll *c);

/* compactor.c */
VX_MUST_CHECK
int compactor_start(struct db *db);
void compactor_stop(struct db *db);
/* A slice is due. */
void compactor_post(struct db *db, uint32_t shard, uint32_t cid);
int compactor_room(void *ctx, uint64_t disk, uint64_t memory); /* shard_opts.compact_room */

/* batch.c */
/* The lowest shard that it has records for; SHARDS_MAX: it is empty. */
uint32_t batch_low_shard(const struct batch *b);

/* txn.c */
VX_MUST_CHECK
int txn_start(struct db *db); /* settles what the last run left */
void txn_stop(struct db *db);
/* The number of the next part in 'shard', from 1, and the transaction's. */
uint32_t txn_next_part(struct txn *t, uint32_t shard, uint64_t *ret_id);
void txn_count_duplicates(struct txn *t, uint32_t n);

/* read.c */
/* Pins the slice of a collection in one of its shards; NULL with *ret_rc == 0 when it does not exist
 * (no record ever got there). */
struct slice *coll_slice(struct coll *c, uint32_t shard, int *ret_rc, struct vx_err *err);

/* snapshot.c */
/* At the start: removes what interrupted takes, receives and removals left. */
void snapshots_sweep(struct db *db);

/* search.c */
struct pool *pool_new(unsigned threads);
void pool_free(struct pool *p);

/* quota.c */
void quota_init(struct db *db);
/* Before 'count' records of 'bytes' are proposed: -EDQUOT, with the limit that is reached. */
VX_MUST_CHECK
int quota_check(struct coll *c, size_t bytes, uint32_t count, struct vx_err *err);
/* The same of records that are proposed later, if at all: they do not count as let in. */
VX_MUST_CHECK
int quota_look(struct coll *c, size_t bytes, uint32_t count, struct vx_err *err);
/* Whether a compaction may take so much more memory: 0 or -ENOMEM. */
VX_MUST_CHECK
int quota_compaction(struct db *db, uint64_t memory);
bool quota_parse(const char *text, uint64_t *ret);

/* vcheck.c */
enum vec_check { VEC_OK = 0, VEC_NONFINITE, VEC_ZERO };
enum vec_check vec_check(const float *v, uint32_t n);

#endif
