/* fs_i.h - what the files of the mount share.
 *
 * A request names an inode.  Most inode numbers say by themselves what they stand for (a fixed file of
 * collection 17, record 4711 of it), so a listing of a million records costs no memory; only what has a
 * name of its own (near/ID, q/NAME, staging files) or must be told apart at each lookup (append, delete,
 * query) has a node in a table.  Either way a request first turns the number into a 'struct loc', and an
 * open file is a 'struct handle' with a table of functions for its kind.
 *
 *	fs_main.c	session, threads			fs_text.c	small files rendered at open
 *	fs_ops.c	the requests				fs_vec.c	vec/
 *	fs_node.c	inode numbers, the table		fs_stage.c	bytes of staging files
 *	fs_tree.c	kinds, lookup, attributes		fs_inbox.c	inbox/: the requests
 *	fs_dir.c	listings				fs_ingest.c	a stream of records into batches
 *	fs_stream.c	append, delete				fs_keep.c	done/ failed/ q/ on disk
 *	fs_ask.c	questions to answers			fs_query.c	query, near/, q/
 *	fs_scan.c	ids, export.jsonl		fs_names.c	what names say
 *	fs_flight.c	batches on their way		fs_snap.c	snapshots/		fs_again.c	requests that come again
 *
 * Locks, in their order: handle.lock (LOCK_FRONT), content.lock (LOCK_SESSION), the database's, then
 * fs.lock (LOCK_LEAF).  The first two only serialise operations on one open file or one staging file, so
 * they may be held while that file's own records are committed; none is held across fuse_reply_*.
 */
#ifndef VECFS_DAEMON_FS_I_H
#define VECFS_DAEMON_FS_I_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "base/record.h"
#include "cluster/db.h"
#include "codec/question.h"
#include "daemon/carry.h"
#include "daemon/fs.h"

enum fs_kind {
	K_NONE = 0,
	K_ROOT,
	K_DOT, /* .vecfs/ */
	K_VERSION,
	K_CPU,
	K_NODE_STATS,
	K_ERROR_LOG,
	K_SOCKET,
	K_NODE_CONFIG,
	K_NODE_OPTION, /* .vecfs/config/NAME; idx */
	K_COLL,
	K_SCHEMA,
	K_CONFIG,
	K_OPTION, /* config/NAME; idx */
	K_STATS,
	K_VEC,
	K_INBOX,
	K_DONE,
	K_FAILED,
	K_QDIR,
	K_NEARDIR,
	K_IDS,
	K_EXPORT,
	K_INDEX,
	K_INDEX_STATE,
	K_INDEX_PROGRESS,
	K_INDEX_CTL,
	K_SNAPS,
	/* One committed record, by its handle. */
	K_JSON,
	K_F32,
	/* With a node in the table. */
	K_APPEND,
	K_DELETE,
	K_QUERY,
	K_NEW,      /* vec/ID.json or .f32 that is being written for the first time */
	K_STAGED,   /* another name in vec/ */
	K_IN,       /* inbox/NAME that is being written, or only staged */
	K_RECEIPT,  /* done/NAME */
	K_REJECT,   /* failed/NAME */
	K_QUESTION, /* q/NAME */
	K_NEAR,     /* near/ID */
	K_SNAP,     /* snapshots/NAME/ */
	K_SNAP_FILE,
	N_KINDS
};

struct fs;
struct node;
struct handle;

/* How a question is to be answered where the question itself does not say: from the file's name. */
struct ask_opts {
	uint32_t k, ef; /* 0: not said */
	float recall;   /* 0: not said */
	bool exact;
	enum answer_format format;
};

/* --- the tree ------------------------------------------------------------------------------ */
/* What an inode number stands for.  'node' is pinned until loc_put. */
struct loc {
	enum fs_kind kind;
	uint32_t cid;
	uint32_t idx;    /* K_OPTION, K_NODE_OPTION */
	uint64_t handle; /* K_JSON, K_F32 */
	struct node *node;
};

struct content; /* the bytes of a staging file */

struct node {
	/* immutable */
	uint64_t ino;
	enum fs_kind kind;
	uint32_t cid;
	struct ask_opts ask; /* K_QUERY, K_NEAR, K_QUESTION */
	size_t stem_len; /* of 'name', without the options or the suffix that 'ask' was read from */
	/* guarded by fs.lock */
	char *name;
	struct node *next_ino, *next_key;
	uint64_t nlookup;    /* references of the kernel */
	uint32_t pins;       /* requests and open files */
	uint32_t opens;      /* open files */
	bool by_name;        /* in the table of names: lookups find it */
	bool keep;           /* exists without references: staging files */
	uint64_t touched_ns; /* last close or change, clock_mono_ns */
	uint64_t gone_ns;    /* lingers until then; 0: it does not */
	struct node *prev_gone, *next_gone;
	/* shared */
	_Atomic uint64_t size; /* as shown by stat */
	_Atomic uint64_t mtime_ns;
	_Atomic uint32_t mode;   /* K_STAGED, K_IN: what chmod said, 0 nothing */
	struct content *content; /* K_STAGED, K_IN that stages; set at creation */
	uint32_t carried;        /* its slot; CARRY_NONE. Immutable */
};

struct tree {
	struct carry *carry; /* borrowed; NULL: nothing outlives us */
	struct node **by_ino, **by_key;
	size_t n_slots, n_nodes;
	uint64_t next_ino;
	struct node *gone_first, *gone_last; /* that linger, the next to go first */
	size_t n_gone;
};

struct worker;

struct dir;

struct fs {
	/* immutable once started */
	struct db *db;
	struct carry *carry; /* NULL: nobody supervises us */
	bool resends;        /* the kernel repeats requests */
	_Atomic bool keeps;  /* ending, and another worker takes over */
	/* By slot; written by whoever opens and closes that file (release), read by whoever uses it (acquire). */
	struct handle *_Atomic *open_files;
	struct dir *_Atomic *open_dirs;
	struct fs_opts o;
	char *socket, *mountpoint;
	int data_fd;          /* the data directory */
	int stop_fd, done_fd; /* eventfds */
	int epfd;             /* where workers wait: stop_fd and /dev/fuse */
	struct fuse_session *se;
	time_t started;
	/* atomic */
	_Atomic bool stopping;
	_Atomic unsigned idle;        /* workers that wait for a request */
	_Atomic uintptr_t asker;      /* the open file that a raw question was last written to */
	_Atomic uint64_t crowded_ns;  /* when that was last another one than before */
	_Atomic uint64_t stage_bytes; /* memory held by staging files of vec/ */
	_Atomic uint64_t spool_bytes; /* disk held by staging files of inbox/ */
	_Atomic uint32_t stage_count;
	_Atomic uint32_t keep_writes; /* paces the pruning in fs_keep.c */
	/* guarded by lock (LOCK_LEAF) */
	struct vx_mutex lock;
	struct tree tree;
	struct worker *workers;
	struct fuse_buf first; /* read before there were workers; the memory is libfuse's */
	unsigned n_workers, max_workers;
	struct handle *handles; /* open files */
};

/* fs_main.c: scratch of the calling worker, for what a reply points to; its length is 0. */
struct buf *fs_scratch(void);
/* Another request is likely within microseconds: the calling worker does not sleep at once. */
void fs_expect_more(void);
/* Not to this worker: the one whose search it has waited for goes on looking. */
void fs_expect_nothing(void);
/* What is being served may last: other requests wake other workers meanwhile. */
void fs_takes_long(void);

/* fs_node.c */
VX_MUST_CHECK
int tree_init(struct tree *t);
void tree_release(struct fs *fs);
/* -ESTALE: no such inode (any more). */
VX_MUST_CHECK
int loc_get(struct fs *fs, fuse_ino_t ino, struct loc *ret);
void loc_put(struct fs *fs, struct loc *l);
uint64_t loc_ino(const struct loc *l);
/* Whether a record's number says it all (K_JSON, K_F32). */
bool loc_record_fits(const struct loc *l);
/* Counts a reference of the kernel (before the reply) and takes one back. */
void loc_ref(struct fs *fs, const struct loc *l);
void loc_forget(struct fs *fs, fuse_ino_t ino, uint64_t n);
struct node_spec {
	enum fs_kind kind;
	uint32_t cid;
	const char *name; /* copied */
	bool by_name;     /* later lookups find it, and a node of this name is found instead */
	bool keep;
	size_t stem_len; /* 0: all of the name */
	struct ask_opts ask;
	struct content *content; /* taken on 0 */
};
/* A new node, pinned. */
VX_MUST_CHECK
int node_new(struct fs *fs, const struct node_spec *spec, struct node **ret);
/* Pinned, or NULL. */
struct node *node_find(struct fs *fs, enum fs_kind kind, uint32_t cid, const char *name);
void node_pin(struct fs *fs, struct node *n);
void node_unpin(struct fs *fs, struct node *n);
/* Open files of a node: node_close returns how many are left. */
void node_open(struct fs *fs, struct node *n);
uint32_t node_close(struct fs *fs, struct node *n);
/* Carries its size, times and mode over. */
void node_carry(struct fs *fs, struct node *n);
VX_MUST_CHECK
int node_restore(struct fs *fs, uint32_t slot, const struct carry_node *c);
/* After all is restored: frees nodes that nobody refers to. */
void node_sweep_unused(struct fs *fs);
/* Takes the name away; references stay valid. */
void node_unlink(struct fs *fs, struct node *n);
VX_MUST_CHECK
int node_rename(struct fs *fs, struct node *n, const char *name);
/* The name is done with, but lookups find it for LINGER_S more seconds (of the last LINGER_MAX names);
 * listings do not show it.  Nothing for a node whose name was taken away. */
#define LINGER_S   5u
#define LINGER_MAX 1024u
void node_linger(struct fs *fs, struct node *n);
/* It is written again: it lingers no more. */
void node_revive(struct fs *fs, struct node *n);
bool node_lingers(struct fs *fs, struct node *n);
/* Copies the names of the collection's nodes of a kind, NUL-ended one after another. */
VX_MUST_CHECK
int node_names(struct fs *fs, enum fs_kind kind, uint32_t cid, struct buf *out);
/* Unlinks kept nodes without open files that were last touched before 'before_ns'; of one kind or all
 * (K_NONE), of collection 'cid' or all (0). */
void node_sweep(struct fs *fs, enum fs_kind kind, uint32_t cid, uint64_t before_ns);

/* fs_tree.c */
struct file_ops;
struct kind_info {
	const char *name; /* in its parent; NULL: found otherwise */
	enum fs_kind parent;
	bool dir;
	mode_t mode; /* of files: which of read and write there is, 0666 0444 0222 */
	const struct file_ops *ops;
};
extern const struct kind_info fs_kinds[N_KINDS];

/* The child 'name' of 'dir'.  -ENOENT, or a refusal with its reason (a name that cannot be). */
VX_MUST_CHECK
int fs_lookup(struct fs *fs, const struct loc *dir, const char *name, struct loc *ret,
	struct vx_err *err);
VX_MUST_CHECK
int fs_attr(struct fs *fs, const struct loc *l, struct stat *ret);
/* How long the kernel may keep name and attributes. */
double fs_entry_timeout(const struct loc *l);
double fs_attr_timeout(const struct loc *l);
/* "docs/vec/a.json"; 'name' of a child or NULL. */
void fs_path(struct fs *fs, const struct loc *l, const char *name, char *ret, size_t size);
/* Splits the name of a record's file: 1 .json, 2 .f32, 0 neither (a staging file), or a refusal.
 * 'id' holds at least 3 * VX_ID_MAX bytes. */
VX_MUST_CHECK
int fs_record_name(const char *name, char *id, size_t *ret_len, struct vx_err *err);
VX_MUST_CHECK
int fs_coll(struct fs *fs, uint32_t cid, struct coll **ret, struct vx_err *err);

/* fs_dir.c */
VX_MUST_CHECK
int dir_restore(
	struct fs *fs, const struct carry_file *f, struct bytes_reader *rd, struct dir **ret);
void dir_free(struct fs *fs, struct dir *d);
void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* --- open files ---------------------------------------------------------------------------- */
struct slice {
	const void *p;
	size_t n;
};

struct handle {
	/* immutable */
	const struct file_ops *ops;
	struct fs *fs;
	struct coll *c; /* pinned; NULL in .vecfs/ */
	struct loc loc; /* with its node pinned */
	char *name;     /* of a record's file, for messages; NULL: from the tree */
	int flags;      /* of open(2) */
	struct vx_mutex lock;
	uint64_t id, unique; /* carried over: for the kernel, of the request that opened it; 0 */
	uint32_t slot;
	_Atomic unsigned settling; /* workers that come back to it after a reply */
	/* guarded by lock */
	uint64_t err_line; /* of the refusal that is being returned; 0: none */
	bool changed;      /* its state did, by a read */
	bool owes;         /* the write that is being served left something to 'settle' */
	bool uncarried;    /* its state is too much, which was logged */
	/* guarded by fs.lock */
	struct handle *prev, *next; /* among fs.handles */
};

/* Closes what is still open when the mount is gone: nothing else will, and pinned collections would
 * outlive the database.  No worker runs any more. */
void fs_close_handles(struct fs *fs);

/* Every function runs with handle.lock held, but 'open', 'close' (alone) and 'size' (no handle).  0 or a
 * negative errno with the reason in 'err'; fs_ops.c logs it.  A NULL function refuses. */
struct file_ops {
	size_t handle_size; /* of the structure that starts with struct handle */
	int (*open)(struct handle *h, fuse_req_t req, struct vx_err *err);
	/* At most 'size' bytes from 'off': the whole of fs_scratch(), or elsewhere (it is copied). */
	int (*read)(struct handle *h, fuse_req_t req, size_t size, uint64_t off, struct slice *ret,
		struct vx_err *err);
	/* *ret_n is 'n' on entry; fewer is a short write. */
	int (*write)(struct handle *h, fuse_req_t req, const char *p, size_t n, uint64_t off,
		size_t *ret_n, struct vx_err *err);
	/* What a write leaves until after its reply, by h->owes: short, and whoever else comes first does it
	 * himself. */
	void (*settle)(struct handle *h);
	int (*flush)(struct handle *h, fuse_req_t req, struct vx_err *err);
	int (*truncate)(struct handle *h, uint64_t size, struct vx_err *err);
	void (*close)(struct handle *h);
	/* What the next worker needs to go on, appended to 'out'; and 'load' in the place of 'open' there.
	 * NULL: nothing but the inode and the flags. */
	int (*save)(struct handle *h, struct buf *out);
	int (*load)(struct handle *h, struct bytes_reader *rd, struct vx_err *err);
	/* st_size and st_mtim of what is not open. */
	int (*stat)(struct fs *fs, struct coll *c, const struct loc *l, struct stat *ret);
};

extern const struct file_ops text_ops, record_ops, staged_ops, inbox_ops, kept_ops, stream_ops,
	query_ops, near_ops, question_ops, scan_ops, snap_ops;

/* fs_again.c: see there.  All but the first three are about the request that the calling thread serves, and do
 * nothing where nobody supervises us. */
void again_begin(struct fs *fs, const void *request, size_t n);
void again_end(struct fs *fs);   /* its answer was sent */
void again_leave(struct fs *fs); /* the thread ends */
/* It was done before; this is its answer: 0 or a negative errno, and what belongs to it. */
bool again_known(struct fs *fs, int *ret_status, uint64_t *ret_value);
/* Since again_intend, with 'value', it may have been done.  'ret_value' may be NULL. */
bool again_begun(struct fs *fs, uint64_t *ret_value);
void again_intend(struct fs *fs, uint64_t value);
void again_done(struct fs *fs, int status, uint64_t value);
/* Names a batch that is about to be committed. */
void again_name(struct fs *fs, struct batch *b);
/* The number of a part of request 'unique'; the kernel's numbers are even. */
#define AGAIN_PARTS_BITS 20
static inline uint64_t again_number(uint64_t unique, uint64_t part)
{
	return unique << (AGAIN_PARTS_BITS - 1) | part;
}
uint64_t again_unique(struct fs *fs);
struct carry_progress *again_progress(struct fs *fs);

/* With h->lock held.  The request is done and the file's state is what it is now. */
void handle_done(struct handle *h, int status, uint64_t value);
/* Carries the state over if a read changed it. */
void handle_changed(struct handle *h);
VX_MUST_CHECK
int handle_carry_new(struct handle *h, uint64_t ino);
void handle_carry_free(struct handle *h);
/* From what the kernel has; NULL: an open file that could not be taken over. */
struct handle *handle_of(struct fs *fs, uint64_t fh);
uint64_t handle_fh(const struct handle *h);
struct handle *handle_again(struct fs *fs);
struct dir *dir_again(struct fs *fs);
VX_MUST_CHECK
int dir_carry_new(
	struct fs *fs, struct dir *d, uint64_t ino, const struct buf *names, uint64_t *ret_id);
/* Makes anew what the worker before us had. */
VX_MUST_CHECK
int fs_take_over(struct fs *fs, struct vx_err *err);

/* fs_ops.c */
VX_MUST_CHECK
int handle_restore(struct fs *fs, const struct carry_file *f, struct bytes_reader *rd,
	struct handle **ret, struct vx_err *err);
extern const struct fuse_lowlevel_ops fs_ll_ops;
/* Answers a refusal: the errno, and its line in the error log. */
void fs_refuse(struct fs *fs, fuse_req_t req, const struct loc *l, const char *name, uint64_t line,
	int rc, const struct vx_err *err);
/* A line in the error log without a reply (skipped records). */
void fs_log_bad(struct handle *h, uint64_t line, int rc, const struct vx_err *err);
bool fs_interrupted(void *req); /* a 'stop' of coll_query */

/* fs_text.c */
VX_MUST_CHECK
int text_lookup_option(struct fs *fs, const struct loc *dir, const char *name, uint32_t *ret_idx);
/* Calls 'each' with the names of the options of config/ or .vecfs/config/. */
int text_each_option(
	struct fs *fs, enum fs_kind dir, int (*each)(void *arg, const char *name), void *arg);
const char *text_option_name(struct fs *fs, const struct loc *l, char *ret, size_t size);

/* fs_vec.c */
VX_MUST_CHECK
int vec_unlink(struct fs *fs, const struct loc *dir, const char *name, struct vx_err *err);
VX_MUST_CHECK
int vec_rename(struct fs *fs, const struct loc *dir, const char *from, const char *to,
	bool noreplace, struct vx_err *err);
/* The most bytes the text of one record can have. */
uint64_t vec_record_max(const struct coll *c);

/* fs_stage.c */
VX_MUST_CHECK
int content_new(struct fs *fs, bool on_disk, struct content **ret, struct vx_err *err);
void content_free(struct fs *fs, struct content *ct);
/* Where its bytes are carried over: a slot, and whether they are in a file of that number; and back. */
uint32_t content_slot(const struct content *ct, bool *ret_on_disk);
VX_MUST_CHECK
int content_restore(
	struct fs *fs, uint32_t slot, bool on_disk, uint64_t size, struct content **ret);
/* Files that nobody will ask for. */
void content_clear(struct fs *fs);
void content_lock(struct content *ct);
void content_unlock(struct content *ct);
/* All with the content locked. */
uint64_t content_size(const struct content *ct);
VX_MUST_CHECK
int content_write(struct fs *fs, struct content *ct, const void *p, size_t n, uint64_t off,
	uint64_t max, struct vx_err *err);
VX_MUST_CHECK
int content_truncate(struct fs *fs, struct content *ct, uint64_t size, struct vx_err *err);
/* Appends at most 'n' bytes from 'off' to 'out'; none at the end. */
VX_MUST_CHECK
int content_read(struct content *ct, size_t n, uint64_t off, struct buf *out);
/* Where a write of this request appends, with the content locked. */
uint64_t stage_end(struct fs *fs, const struct content *ct);
/* A staging file 'name' in vec/ or inbox/ ('kind' K_STAGED or K_IN): a kept node, pinned. */
VX_MUST_CHECK
int stage_new(struct fs *fs, enum fs_kind kind, uint32_t cid, const char *name, struct node **ret,
	struct vx_err *err);

/* fs_inbox.c */
bool inbox_stages(const char *name);
/* Checks that a file of this name may be created (suffix). */
VX_MUST_CHECK
int inbox_check_name(const char *name, struct vx_err *err);
VX_MUST_CHECK
int inbox_rename(struct fs *fs, const struct loc *dir, const char *from, const char *to,
	fuse_req_t req, uint64_t *ret_line, struct vx_err *err);

/* fs_flight.c: batches of one file that are on their way. */
#define FLIGHT_MAX 4u
struct flight;
struct flight_slot {
	struct flight *f;
	size_t records;
	bool busy;
	bool landed; /* and one that was sent before it has not */
	uint64_t number;
	struct batch_result res;
};
struct flight_sum {
	uint64_t accepted, inserted, updated, duplicates;
	uint32_t shard; /* (shard, index) of the last commit */
	uint64_t index;
};
struct flight {
	struct coll *c;  /* borrowed */
	struct txn *txn; /* batches are hidden parts of it; NULL: they count when they land */
	struct vx_mutex lock;
	struct vx_cond cond; /* a batch landed */
	/* guarded by lock */
	unsigned n;
	int rc; /* the first failure */
	struct flight_slot slots[FLIGHT_MAX];
	struct flight_sum sum; /* of what was acknowledged */
	uint64_t hidden;       /* records in parts of 'txn' */
	/* Of a file whose batches may have to be sent again (flight_names); owner only, but for the last. */
	uint64_t origin, unique;
	uint64_t next;                   /* number of the next batch */
	struct carry_progress *progress; /* of the first batches that have all landed */
	struct carry_sum done;           /* guarded by lock: what it says */
};
void flight_init(struct flight *f, struct coll *c);
void flight_release(struct flight *f); /* waits */
/* From here on batches have names and 'progress' is kept.  Those that it counts already are not sent again:
 * they are counted in the sum, and flight_submit only empties them. */
void flight_names(struct flight *f, uint64_t origin, uint64_t unique, uint64_t next,
	struct carry_progress *progress);
/* Sends *b off, which is an empty batch afterwards, whatever happened.  Waits while FLIGHT_MAX are out.
 * Returns what is wrong with this batch or with one before it; then nothing more is sent. */
VX_MUST_CHECK
int flight_submit(struct flight *f, struct batch **b, struct vx_err *err);
/* Whether something failed that was sent off. */
VX_MUST_CHECK
int flight_failed(struct flight *f, struct vx_err *err);
/* Waits for all that is out. */
VX_MUST_CHECK
int flight_wait(struct flight *f, struct vx_err *err);
void flight_sum(struct flight *f, struct flight_sum *ret);
/* Commits the transaction of all that landed, and counts it. */
VX_MUST_CHECK
int flight_commit(struct flight *f, struct vx_err *err);

/* fs_ingest.c: records of one file on their way into a collection. */
struct ingest;
struct ingest_opts {
	enum codec_format format;
	const char *name; /* the file's, borrowed */
	bool skip;        /* bad records go to failed/, else they end it */
	bool dry;         /* check alone */
	struct txn *
		txn; /* committed as a whole: planned when dry, else hidden, and committed at the end */
	uint64_t unique; /* its batches' names are made of this; 0: they have none */
	struct carry_progress *progress;
	struct handle *log_to; /* skipped records get their line in the error log; NULL: none */
};
VX_MUST_CHECK
int ingest_new(struct fs *fs, struct coll *c, const struct ingest_opts *o, struct ingest **ret,
	struct vx_err *err);
void ingest_free(struct ingest *in);
VX_MUST_CHECK
int ingest_feed(struct ingest *in, const void *p, size_t n, struct vx_err *err);
/* Commits the rest and waits for all of it; on 0 the receipt is in done/ and what was skipped in failed/.
 * So they are on -EINVAL with ingest_none: every record was skipped, which is no success; more may come. */
VX_MUST_CHECK
int ingest_finish(struct ingest *in, struct vx_err *err);
bool ingest_none(const struct ingest *in);
/* After a refusal by either: commits the records before it and keeps what is known in failed/ and, as
 * receipt with an error, in done/. */
void ingest_abort(struct ingest *in, int rc, const struct vx_err *why);
uint64_t ingest_bytes(const struct ingest *in);
/* What another worker needs to go on, but for the bytes since the last settling, which it is fed again: the
 * first ingest_unsettled() of 'journal'. */
VX_MUST_CHECK
int ingest_save(struct ingest *in, struct buf *out);
VX_MUST_CHECK
int ingest_load(
	struct ingest *in, struct bytes_reader *rd, const struct buf *journal, struct vx_err *err);
uint64_t ingest_unsettled(const struct ingest *in);
/* Commits what was gathered, waits, and from here on nothing before counts as unsettled; if enough has
 * gathered for that, or 'now'. */
VX_MUST_CHECK
int ingest_settle(struct ingest *in, bool now, struct vx_err *err);
/* The line or row of the refusal; 0 unknown. */
uint64_t ingest_bad_line(const struct ingest *in);

/* fs_keep.c: files under DATA/done, DATA/failed and DATA/q. */
enum keep_area { KEEP_DONE, KEEP_FAILED, KEEP_Q };
#define KEEP_FILE_MAX (16u << 20) /* bytes of one file under failed/ */
enum keep_area keep_of(enum fs_kind dir_or_file);
VX_MUST_CHECK
int keep_write(
	struct fs *fs, enum keep_area a, uint32_t cid, const char *name, const void *p, size_t n);
/* An open descriptor or a negative errno. */
int keep_open(struct fs *fs, enum keep_area a, uint32_t cid, const char *name);
VX_MUST_CHECK
int keep_stat(struct fs *fs, enum keep_area a, uint32_t cid, const char *name, struct stat *ret);
VX_MUST_CHECK
int keep_unlink(struct fs *fs, enum keep_area a, uint32_t cid, const char *name);
/* -EEXIST with 'noreplace'. */
VX_MUST_CHECK
int keep_rename(struct fs *fs, enum keep_area a, uint32_t cid, const char *from, const char *to,
	bool noreplace);
/* The names, NUL-ended one after another. */
VX_MUST_CHECK
int keep_names(struct fs *fs, enum keep_area a, uint32_t cid, struct buf *out);
void keep_drop(struct fs *fs, uint32_t cid);
/* Forgets what is too old or too much, and what belonged to collections that are gone. */
void keep_prune(struct fs *fs);

/* fs_ask.c: questions to answers. */
struct ask {
	struct ask_opts o;
	struct buf out;         /* the answers, printed */
	uint64_t number;        /* of the next question */
	struct coll_answer ans; /* reused */
	struct codec_arena *arena;
	struct buf vec; /* aligned copy of a raw question */
};
VX_MUST_CHECK
int ask_init(struct ask *a, const struct ask_opts *o);
void ask_release(struct ask *a);
/* Answers exactly one raw vector. */
VX_MUST_CHECK
int ask_raw(struct ask *a, struct coll *c, const void *p, uint32_t dim, fuse_req_t req,
	struct vx_err *err);
VX_MUST_CHECK
int ask_id(struct ask *a, struct coll *c, const char *id, size_t len, fuse_req_t req,
	struct vx_err *err);
/* Answers every question of the text: one, or JSON Lines.  *ret_line is that of a refusal. */
VX_MUST_CHECK
int ask_text(struct ask *a, struct coll *c, const char *p, size_t n, fuse_req_t req,
	uint64_t *ret_line, struct vx_err *err);
/* Whether a raw vector takes longer than others should wait. */
bool ask_lasts(const struct ask *a);
/* Whether 'n' bytes are one raw vector. */
bool ask_is_raw(const char *p, size_t n, uint32_t dim);
/* Whether 'n' bytes are whole questions: 1, 0 (more may come), or -EINVAL (never). */
int ask_complete(const char *p, size_t n, uint32_t dim);
/* Whether the collection as it is could be asked this; asks nothing. */
VX_MUST_CHECK
int ask_check(struct ask *a, const struct coll *c, const char *p, size_t n, uint64_t *ret_line,
	struct vx_err *err);
/* Takes one option off the end of a name: "ID,k=20" becomes "ID".  1 (*len and 'opts' changed), 0 when
 * there is none, -EINVAL when its value is bad. */
VX_MUST_CHECK
int ask_strip_opt(const char *name, size_t *len, struct ask_opts *opts, struct vx_err *err);

/* fs_snap.c */
VX_MUST_CHECK
int snap_lookup(struct fs *fs, const struct loc *dir, const char *name, struct loc *ret);
/* The names, NUL-ended one after another: of snapshots in snapshots/, of files in one of them. */
VX_MUST_CHECK
int snap_names(struct fs *fs, const struct loc *dir, struct buf *out);
/* 'again': the request was begun by a worker that was killed. */
VX_MUST_CHECK
int snap_mkdir(struct fs *fs, const struct loc *dir, const char *name, fuse_req_t req, bool again,
	struct vx_err *err);
VX_MUST_CHECK
int snap_rmdir(
	struct fs *fs, const struct loc *dir, const char *name, bool again, struct vx_err *err);

/* fs_query.c */
/* A name in the collection's directory: "query", "query.ids", "query,k=5"; -ENOENT when it is none. */
VX_MUST_CHECK
int query_parse_name(const char *name, struct ask_opts *ret, struct vx_err *err);
/* q/FROM becomes q/TO.  A suffix is a form of the answer and no part of the question's name. */
VX_MUST_CHECK
int question_rename(struct fs *fs, const struct loc *dir, const char *from, const char *to,
	bool noreplace, struct vx_err *err);
/* Whether a question may have this name; *ret_len is its length without the form of the answer. */
VX_MUST_CHECK
int question_check_name(
	const char *name, size_t *ret_len, enum answer_format *ret_format, struct vx_err *err);

#define ASK_BYTES_MAX (64u << 20) /* answers that wait to be read */
#define Q_BYTES_MAX   (1u << 20)  /* a named question */
#define Q_NAME_MAX    200u

/* A length and so many bytes, of what is carried over. */
VX_MUST_CHECK
static inline int put_blob(struct buf *out, const void *p, size_t n)
{
	int rc = buf_put_le64(out, n);

	return rc || n == 0 ? rc : buf_append(out, p, n);
}
VX_MUST_CHECK
static inline int get_blob(struct bytes_reader *rd, struct buf *ret)
{
	uint64_t n = rd_le64(rd);
	const void *p = rd->bad || n > rd->left ? NULL : rd_bytes(rd, (size_t)n);

	if (!p) {
		rd->bad = true;
		return -EUCLEAN;
	}
	ret->len = 0;
	return n ? buf_append(ret, p, (size_t)n) : 0;
}

/* The slice of a buffer that a read wants. */
static inline struct slice slice_of(const void *p, uint64_t len, size_t size, uint64_t off)
{
	struct slice s = {NULL, 0};

	if (off < len) {
		s.p = (const char *)p + off;
		s.n = VX_MIN((uint64_t)size, len - off);
	}
	return s;
}

#endif
