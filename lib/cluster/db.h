/* db.h - the database of this node: what the mount, the socket and the tools' protocol call.
 *
 * Opens a data directory (lock, node.json, log, catalog, shards), runs the reactor, the apply workers
 * and the index workers, and routes: a write goes through Raft to its shards and returns when it is
 * committed and searchable; a question is scattered over the slices of its collection and merged.
 *
 *	db_open(&opts, &db, &err)
 *	c = db_coll(db, "docs", &rc, &err)          pin a collection
 *	batch_new(c, &b); batch_put(b, &rec, &err); batch_commit(b, &res, &err)
 *	coll_search(c, &q, 1, &ans, &err)
 *	coll_put(c); db_close(db)
 *
 * Threads: everything here is thread-safe unless said otherwise; a batch, scan or answer has one owner.
 * Writers block (never on the reactor or an apply worker).  Errors are those of the mount (INTERFACE,
 * vecfs(7)); 'err' has the reason.
 */
#ifndef VECFS_CLUSTER_DB_H
#define VECFS_CLUSTER_DB_H

#include "base/base.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/record.h"

struct db;
struct coll;

struct db_opts {
	const char *data_dir;
	uint32_t shards;            /* of a new data directory (kept in node.json); 0: 1 */
	uint32_t index_threads;     /* 0: one per core */
	uint64_t wal_segment_bytes; /* 0: 64 MiB */
	uint32_t tail_max;          /* slots not indexed yet before writers wait; 0: 8,192 */
	uint32_t mark_interval_ms; /* how long applied entries wait for a mark at most; 0: 30,000 */
	uint32_t compact_percent;  /* slots dead before a compaction; 0: 25, above 100: never */
	uint64_t memory_max;       /* of the node; 0: four fifths of what the machine allows */
	uint64_t quota_max;        /* disk; 0: none */
	const char *wal_backend;   /* "auto", "io_uring", "pwrite"; NULL auto */
	bool create;               /* make the directory when missing */
};

/* -EBUSY: another daemon has it; -EROFS, -EACCES: not writable; -EUCLEAN: damage, with the file. */
VX_MUST_CHECK
int db_open(const struct db_opts *opts, struct db **ret, struct vx_err *err);
/* Finishes what was accepted, marks every shard, saves index checkpoints, unlocks. */
void db_close(struct db *db);

/* Before the end: what waits for room on a full disk waits no longer.  Its writers hear -ETIMEDOUT, and the
 * next start applies what the log has of it.  Only db_close may follow sensibly.  NULL is fine. */
void db_give_up(struct db *db);

/* Changes the limits of the node. */
void db_limits(struct db *db, uint64_t memory_max, uint64_t quota_max);

/* Flat "key value" lines: the node's counters (.vecfs/stats). */
VX_MUST_CHECK
int db_stats(struct db *db, struct buf *out);
const char *db_data_dir(const struct db *db);
uint32_t db_shards(const struct db *db);
/* Changes at every create, drop and rename: validators for listings. */
uint64_t db_catalog_version(const struct db *db);

/* --- collections ------------------------------------------------------------------ */
struct coll_schema {
	uint32_t dim; /* 0: fixed by the first record */
	enum vx_metric metric;
	char index[16], quant[16];   /* "" : default */
	uint32_t m, ef_construction; /* 0: default */
	uint32_t spread;             /* shards it is spread over; 0: 1 */
	char recall[32];             /* at creation alone; "": default */
};

/* -EEXIST, -EINVAL (name), -EROFS. */
VX_MUST_CHECK
int db_create(
	struct db *db, const char *name, const struct coll_schema *schema, struct vx_err *err);
/* -ENOENT; -ENOTEMPTY when it has records and not 'force'. */
VX_MUST_CHECK
int db_drop(struct db *db, const char *name, bool force, struct vx_err *err);
/* Sorted by name; 'each' non-zero stops. */
int db_list(struct db *db, int (*each)(void *arg, const char *name, uint32_t cid), void *arg);

/* Pins a collection by name or number.  NULL with *ret_rc -ENOENT, -EUCLEAN (quarantined). */
struct coll *db_coll(struct db *db, const char *name, int *ret_rc, struct vx_err *err);
struct coll *db_coll_by_cid(struct db *db, uint32_t cid, int *ret_rc, struct vx_err *err);
void coll_put(struct coll *c);

uint32_t coll_cid(const struct coll *c);
const char *coll_name(const struct coll *c);
uint64_t coll_ctime_ns(const struct coll *c);
/* Whether it was dropped since it was pinned. */
bool coll_gone(const struct coll *c);
uint32_t coll_dim(const struct coll *c); /* 0: not fixed yet */
enum vx_metric coll_metric(const struct coll *c);
void coll_schema(const struct coll *c, struct coll_schema *ret);
/* {"dim":3,"metric":"cosine",...} and a newline (schema.json). */
VX_MUST_CHECK
int coll_schema_json(const struct coll *c, struct buf *out);
/* Writing schema.json: parses and applies; keys fixed once data exists: -EPERM, unknown: -EINVAL. */
VX_MUST_CHECK
int coll_schema_set_json(struct coll *c, const char *p, size_t n, struct vx_err *err);
/* "key value" lines (stats). */
VX_MUST_CHECK
int coll_stats(struct coll *c, struct buf *out);
uint64_t coll_count(struct coll *c);

/* One option per name: recall ef_search on_error embedder index quant m ef_construction metric dim ...
 * (the table is coll_options in collopt.c).  Values are text without newline. */
struct coll_option {
	const char *name;
	const char *def, *min, *max; /* NULL: none */
	bool fixed;                  /* cannot change once the collection has data: -EPERM */
	const char *help;
};
extern const struct coll_option coll_options[];
extern const size_t n_coll_options;
VX_MUST_CHECK
int coll_config_get(struct coll *c, const char *key, struct buf *out); /* -ENOENT unknown key */
VX_MUST_CHECK
int coll_config_set(struct coll *c, const char *key, const char *value, struct vx_err *err);

/* --- writing ------------------------------------------------------------------------ */
struct batch; /* records of one collection, gathered by one owner */

struct batch_result {
	uint32_t inserted, updated, deleted, missing, conflicts;
	uint32_t duplicates; /* ids that came twice in the batch: the last won */
	uint32_t shard;      /* (shard, index) of the last commit: for "after" */
	uint64_t index;
};

VX_MUST_CHECK
int batch_new(struct coll *c, struct batch **ret);
void batch_free(struct batch *b); /* not after submit */
void batch_reset(struct batch *b);
/* Checks against the schema and copies.  -EINVAL (dimension, NaN, id, zero vector under cosine),
 * -ENAMETOOLONG, -EMSGSIZE; a refused record leaves the batch as it was.  The first record of a
 * collection without dimension fixes it (through the catalog, at commit). */
VX_MUST_CHECK
int batch_put(struct batch *b, const struct vx_record *rec, struct vx_err *err);
/* As batch_put, but refused at commit (counted in conflicts) when the id exists. */
VX_MUST_CHECK
int batch_insert(struct batch *b, const struct vx_record *rec, struct vx_err *err);
VX_MUST_CHECK
int batch_delete(struct batch *b, const char *id, size_t len, struct vx_err *err);
/* A batch whose owner may have to repeat it -- a request that comes again because nobody knows how far it
 * got -- has a name of its own, origin not 0: a batch of the same name that was applied before, in this run
 * or an earlier one, is not applied again but answered with the result of the first time.  Names are remembered
 * for some thousand later batches of the collection.  Only one of a name may be under way; batch_reset
 * and batch_commit forget it. */
void batch_name(struct batch *b, uint64_t origin, uint64_t seq);
size_t batch_count(const struct batch *b);
size_t batch_bytes(const struct batch *b);
/* True once it should be sent (VX_BATCH_BYTES_MAX). */
bool batch_full(const struct batch *b);

/* Whether its records would be let in now, though nothing says that they will be later: 0, -ENOSPC, -EDQUOT. */
VX_MUST_CHECK
int batch_check(const struct batch *b, struct vx_err *err);

/* Commits and waits: durable and searchable on 0.  The batch is empty afterwards, whatever happened.
 * -ENOSPC, -EDQUOT, -EROFS, -ETIMEDOUT (outcome unknown), -ENOENT (dropped meanwhile), -ESTALE. */
VX_MUST_CHECK
int batch_commit(struct batch *b, struct batch_result *ret, struct vx_err *err);
/* Takes 'b'.  'done' runs once on another thread (on this
 * one, when there is nothing to do): it must not block.  Waits only while the collection
 * is over its bound of unindexed slots or too much is in flight.  0 or an error, and then 'done' does
 * not run and 'b' is still the caller's. */
typedef void batch_done_fn(void *arg, int status, const struct batch_result *res);
VX_MUST_CHECK
int batch_submit(struct batch *b, batch_done_fn *done, void *arg, struct vx_err *err);

/* --- whole files ---------------------------------------------------------------------
 * Batches that are there all at once or never.  One owner:
 *
 *	txn_new(c, &t)
 *	txn_plan(t, b, &err); batch_reset(b); ...	each batch, for the first time
 *	txn_begin(t, &err)
 *	batch_hide(b, t); batch_submit(b, ...); ...	the same batches; wait for all of them
 *	txn_commit(t, &res, &err)
 *	txn_free(t)
 *
 * Readers see nothing before the commit, and then, shard by shard, all of it.  Where ids come twice the last one
 * wins; against other writers the commit counts, not the batches. */
struct txn;
VX_MUST_CHECK
int txn_new(struct coll *c, struct txn **ret);
/* What is not committed is dropped.  No batch of it may be under way.  NULL is fine. */
void txn_free(struct txn *t);
/* As batch_name: a commit that comes again under this name, in another transaction of the same records, is not
 * applied again; its result is that of the first time, as far as the deciding shard has it. */
void txn_name(struct txn *t, uint64_t origin, uint64_t seq);
/* -EFBIG: all of it has more bytes than the collection's inbox.max. */
VX_MUST_CHECK
int txn_plan(struct txn *t, const struct batch *b, struct vx_err *err);
/* -EDQUOT, -ENOSPC. */
VX_MUST_CHECK
int txn_begin(struct txn *t, struct vx_err *err);
/* For what arrives once and cannot be planned first: txn_stream in the place of txn_new, plan and begin, and
 * txn_grow right before each batch is hidden.  -EFBIG, -EDQUOT, -ENOSPC; -ECANCELED: it took too long. */
VX_MUST_CHECK
int txn_stream(struct coll *c, struct txn **ret);
VX_MUST_CHECK
int txn_grow(struct txn *t, const struct batch *b, struct vx_err *err);
/* Not 0, and no other transaction's. */
uint64_t txn_id(const struct txn *t);
/* The batch will be a hidden part; its result counts nothing.  't' must live until it is submitted. */
void batch_hide(struct batch *b, struct txn *t);
/* 0: durable and searchable.  -ECANCELED: it took too long, and nothing is there; -ETIMEDOUT: unknown, but
 * all or nothing; -ENOENT, -EUCLEAN as of a batch. */
VX_MUST_CHECK
int txn_commit(struct txn *t, struct batch_result *ret, struct vx_err *err);
/* How the transaction of this id ended, for who lost the answer.  One that was not decided yet never will be: it
 * is given up here.  One that is committed is so in all its shards afterwards.  -EINVAL: none of this
 * collection.  Outcomes are known for some hours. */
VX_MUST_CHECK
int txn_ask(struct coll *c, uint64_t id, bool *ret_committed, struct vx_err *err);

/* --- reading --------------------------------------------------------------------------- */
#define COLL_META 1u
#define COLL_TEXT 2u
#define COLL_VEC  4u
#define COLL_ALL  7u

struct coll_rec {
	uint64_t handle;  /* stable number of the record in its collection: shard << 48 | rowid */
	uint64_t version; /* log index that wrote it */
	uint64_t mtime_ns;
	struct vx_record rec; /* into 'mem' */
	struct buf mem;
};
void coll_rec_release(struct coll_rec *r);
VX_MUST_CHECK
int coll_get(struct coll *c, const char *id, size_t len, unsigned what, struct coll_rec *ret,
	struct vx_err *err);
VX_MUST_CHECK
int coll_get_handle(
	struct coll *c, uint64_t handle, unsigned what, struct coll_rec *ret, struct vx_err *err);
/* handle, version, mtime alone: cheap. */
VX_MUST_CHECK
int coll_lookup(struct coll *c, const char *id, size_t len, struct coll_rec *ret);

/* One snapshot per scan. */
struct coll_scan;
VX_MUST_CHECK
int coll_scan_open(struct coll *c, unsigned what, struct coll_scan **ret, struct vx_err *err);
/* Goes on behind the record of this handle (0: from the start), as if it had been the last one. */
void coll_scan_seek(struct coll_scan *sc, uint64_t handle);
/* Next record; borrowed until the next call.  -ENOENT at the end.  A record whose vector is damaged stops
 * nothing: all others come, and then -EUCLEAN in place of -ENOENT, with how many and the first of them. */
VX_MUST_CHECK
int coll_scan_next(struct coll_scan *sc, const struct coll_rec **ret, struct vx_err *err);
void coll_scan_close(struct coll_scan *sc);

/* A directory page: records after 'cursor' (0: from the start), at most 'max'.  Cursors are handles: stable,
 * and cost nothing to keep.  'each' non-zero stops. */
VX_MUST_CHECK
int coll_list(struct coll *c, uint64_t cursor, uint32_t max,
	int (*each)(void *arg, uint64_t handle, uint64_t mtime_ns, const char *id, size_t len),
	void *arg);

/* --- questions ---------------------------------------------------------------------------- */
struct coll_query {
	const float *vec; /* coll_dim values, or NULL with 'id' */
	uint32_t dim;
	const char *id; /* neighbours of a stored record, which is left out */
	size_t id_len;
	uint32_t k;  /* 1..VX_K_MAX; 0: the collection's default (10) */
	uint32_t ef; /* 0: by the recall */
	float recall; /* VX_RECALL_MIN..MAX or VX_RECALL_EXACT; 0: the collection's ef_search or recall */
	bool exact;
	unsigned with;           /* COLL_*: what each hit carries beside id and distance */
	uint64_t deadline_ns;    /* clock_mono_ns; 0: none */
	bool (*stop)(void *ctx); /* polled; NULL never */
	void *stop_ctx;
};
struct coll_hit {
	float distance;
	uint64_t handle;
	struct vx_record rec; /* id always; meta, text, vec as asked; into the answer's memory */
};
struct coll_answer {
	struct coll_hit *hits; /* nearest first */
	uint32_t n_hits;
	uint32_t k; /* asked */
	bool timed_out;
	uint32_t damaged; /* records that were near enough and cannot be read: they are left out */
	struct buf mem;
};
/* Zero-initialised by the caller the first time; may be reused for many questions, then released. */
void coll_answer_release(struct coll_answer *a);
/* Answers one question on the calling thread.  -EINVAL (dimension, NaN, zero vector under cosine, k),
 * -ENOENT (id), -ENODATA (the collection has no dimension yet: no records), -EINTR, -ETIMEDOUT. */
VX_MUST_CHECK
int coll_search(
	struct coll *c, const struct coll_query *q, struct coll_answer *ret, struct vx_err *err);
/* Many at once, spread over all cores; *ret_rcs[i] per question. */
VX_MUST_CHECK
int coll_search_many(struct coll *c, const struct coll_query *qs, size_t n,
	struct coll_answer *answers, int *ret_rcs, struct vx_err *err);
/* The same; and as soon as the answers 0..i are there 'each' has been called for each of them, in this order and
 * on the caller's thread, while the others are still being searched: what is made of answers costs no core
 * that stands idle. */
typedef void coll_answered_fn(void *ctx, size_t i);
VX_MUST_CHECK
int coll_search_each(struct coll *c, const struct coll_query *qs, size_t n,
	struct coll_answer *answers, int *ret_rcs, coll_answered_fn *each, void *ctx);

/* --- index ----------------------------------------------------------------------------------- */
struct coll_index_info {
	uint64_t records, slots, dead, tail; /* over all slices */
	uint64_t memory_bytes, disk_bytes;
	/* Compactions since the start and the disk space that came back; of those under way, slots
	 * done and to do. */
	uint64_t compactions, reclaimed_bytes, compact_done, compact_total;
	int compact_failed;      /* of the last attempts; 0: none failed */
	char compact_error[160]; /* its reason */
	const char *kind, *quant;
	/* "ready", "indexing", "compacting"; "unloaded": since the start nobody has asked, the first question loads
	 * the index, and what of it is in the tail is not known yet (not counted). */
	const char *state;
};
int coll_index_info(struct coll *c, struct coll_index_info *ret);
/* Why part of the collection is not served: the first slice that is quarantined, or whose shard is stopped.  0: all is. */
int coll_why_damaged(struct coll *c, struct vx_err *err);
/* Returns once the tail is empty and no compaction is due or under way; -ETIMEDOUT, -EINTR ('stop'). */
VX_MUST_CHECK
int coll_index_wait(struct coll *c, uint64_t deadline_ns, bool (*stop)(void *ctx), void *stop_ctx);
/* Asks for a compaction of every slice and returns; coll_index_wait waits for them, coll_index_info says whether
 * they failed. */
VX_MUST_CHECK
int coll_compact(struct coll *c, struct vx_err *err);
VX_MUST_CHECK
int coll_index_check(struct coll *c, struct vx_err *err);
/* Everything of it against everything else, while it is served: store/verify.h.  What is found goes to 'v'. */
struct verify;
VX_MUST_CHECK
int coll_verify(struct coll *c, struct verify *v, struct vx_err *err);
VX_MUST_CHECK
int coll_index_save(struct coll *c, struct vx_err *err);

/* Recall against exact search on 'samples' stored records, each asked for as if it were not there.
 * 'ef', 'recall': of the questions, as in struct coll_query. */
struct coll_recall {
	uint32_t k, samples;
	double recall;
	float promised; /* 0: nothing, the ef was given */
	uint32_t ef;    /* of a search; 0: everything was scanned */
	double p50_us, p99_us, exact_p50_us;
};
VX_MUST_CHECK
int coll_recall(struct coll *c, uint32_t k, uint32_t samples, uint32_t ef, float recall,
	struct coll_recall *ret, struct vx_err *err);

#endif
