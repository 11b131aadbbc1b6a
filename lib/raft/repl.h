/* repl.h - replicated groups: libraft behind our log, our network and a guard.
 *
 * One 'struct repl' owns every Raft group of a node.  The core (repl_core.h, the
 * adapter's own header) is a set of step functions over a 'struct repl_env' -- clock, randomness,
 * timers, log, network, background work -- so that tests run N nodes in one
 * process on virtual time through the same code.  This header is the real pump:
 * a libuv loop on its own thread (the reactor) with the log writer behind it.
 *
 *	repl_open(&opts, &host_ops, host, &r, &err)    groups are loaded, not running
 *	repl_start(r)                                  the loop thread runs
 *	repl_propose(r, group, &p)                     any thread
 *	repl_stop(r)
 *
 * A proposal that commits reaches host->apply on every node; whoever waits is
 * answered from there (rule 13 of the guard), never from here.  A proposal that
 * did not commit gets its 'failed' callback on the loop thread.
 *
 * A group that damage to the log concerns is stopped (repl_group_stopped); the others go on.
 *
 * Errors on the way: -EROFS no leader or no quorum, -ETIMEDOUT leadership lost:
 * outcome unknown, -ENOSPC, -EIO log broken (the process then aborts: rule 6).
 */
#ifndef VECFS_RAFT_REPL_H
#define VECFS_RAFT_REPL_H

#include "base/base.h"
#include "base/err.h"
#include "wal/wal.h"

/* What the host (lib/cluster) does.  Unless said otherwise: on the loop thread,
 * must not block, must not call repl_* back. */
struct repl_host_ops {
	/* Entry 'index' is committed; called in order, once per index after start or
	 * the mark.  'data' is borrowed: copy and enqueue. */
	void (*apply)(void *host, uint32_t group, uint64_t index, uint64_t term, const void *data,
		size_t len);
	/* 'index' is committed and was a barrier or configuration entry. */
	void (*watermark)(void *host, uint32_t group, uint64_t index);
	/* Leadership or term changed. */
	void (*role)(void *host, uint32_t group, bool is_leader, uint64_t term);
	/* On a background thread: return only when the store has applied 'index' and is
	 * durable by itself up to it (fdatasync, SQLite checkpoint).  A small manifest
	 * for the log goes into 'manifest' (may stay empty).  0 or a negative errno;
	 * -EAGAIN: try again later. */
	int (*mark)(void *host, uint32_t group, uint64_t index, struct buf *manifest);
	/* An installed snapshot: the log has recorded it, so the store becomes what fetch
	 * left beside it and 'manifest' names; repeating it changes nothing.  Own marks never
	 * get here (rule 11).  Unused while a shard has one voter. */
	int (*restore)(
		void *host, uint32_t group, uint64_t index, const void *manifest, size_t len);
	/* Optional; on a background thread: brings the snapshot that node 'from' described by
	 * 'manifest' here, beside the store and without touching it.  Returns 0 once all of it is
	 * verified and durable: nothing counts before (the log of the group is discarded next).  What
	 * is brought may be of a later index than 'index', since entries are applied idempotently.
	 * NULL: manifests are all there is to a snapshot. */
	int (*fetch)(void *host, uint32_t group, uint64_t from, uint64_t index,
		const void *manifest, size_t len);
	/* Optional; at start, before anything is applied: the log holds nothing up to 'index', so
	 * the store must be durable up to there.  After an install that was cut short between the
	 * log's record and restore it is not: then the store becomes what fetch left.  0, or
	 * -EUCLEAN: there is neither, and the group does not start. */
	int (*recover)(
		void *host, uint32_t group, uint64_t index, const void *manifest, size_t len);
};

struct repl_opts {
	struct disk *disk;
	const char *wal_dir;
	struct wal_opts wal;
	uint64_t node_id;     /* > 0; this node is the single voter of a new group */
	uint32_t first_group; /* groups first..first+n_groups-1 exist; new ones bootstrap */
	uint32_t n_groups;
	uint64_t mark_bytes;       /* mark a group once this much log gathered since; 0: 16 MiB */
	uint64_t mark_interval_ms; /* or this long while anything is unmarked; 0: 30,000 */
};

struct repl;

/* Opens the log, loads every group, bootstraps new ones (this node sole voter). */
VX_MUST_CHECK
int repl_open(const struct repl_opts *opts, const struct repl_host_ops *ops, void *host,
	struct repl **ret, struct vx_err *err);

/* Starts loop and log writer.  Entries after each mark are applied again first;
 * repl_ready() waits until every group has a leader and its replay was handed to apply. */
VX_MUST_CHECK
int repl_start(struct repl *r, struct vx_err *err);
VX_MUST_CHECK
int repl_ready(struct repl *r, uint64_t timeout_ms);

/* Before the end, thread-safe: an append that the log has no room for, now or from now on, is not waited for.
 * All groups are closed because of it; proposals and marks under way fail with -ETIMEDOUT.  NULL is fine. */
void repl_give_up(struct repl *r);

/* Stops loop and log writer and frees all.  Proposals under way fail with -ETIMEDOUT.
 * The host marks before, if it wants a quick start next time (repl_mark). */
void repl_stop(struct repl *r);

struct repl_proposal {
	void *data; /* raft_malloc'd ('repl_alloc'); taken in any case */
	size_t len; /* 1..VX_ENTRY_BYTES_MAX */
	/* Not committed (as far as known); on the loop thread.  Not called on success. */
	void (*failed)(struct repl_proposal *p, int status);
	/* Optional, on the loop thread: the entry is committed and apply() was called. */
	void (*committed)(struct repl_proposal *p);
	struct repl_proposal *next; /* repl's */
};

/* Memory for proposals: freed by libraft. */
void *repl_alloc(size_t n);

/* Thread-safe; calls nothing back, so that locks may be held.  'p' stays with repl until exactly one of
 * its callbacks ran on the loop thread.  Per group, proposals are applied in submission order; what waits
 * is coalesced into one append.  -ETIMEDOUT: nothing runs any more; 'p' is the caller's again, without
 * its data, and no callback will run. */
VX_MUST_CHECK
int repl_propose(struct repl *r, uint32_t group, struct repl_proposal *p);

/* Thread-safe, blocks: marks the group at its last applied index now. */
VX_MUST_CHECK
int repl_mark(struct repl *r, uint32_t group);

struct repl_group_status {
	bool is_leader;
	uint64_t term, last_index, commit_index, applied_index, mark_index;
	uint64_t unmarked_bytes;
};
/* Thread-safe. */
int repl_group_stat(struct repl *r, uint32_t group, struct repl_group_status *ret);

/* Why damage to the log keeps the group from taking part (wal_stopped); NULL: it does.  Proposals to a
 * stopped group and marks of it fail with -EUCLEAN; nothing of it is applied.  Which ones may be
 * stopped is for opts.wal to say.  Thread-safe; the text lives as long as 'r'. */
const char *repl_group_stopped(struct repl *r, uint32_t group);

/* Offline: a stopped group takes part again, with this node as its only voter, at an index beyond all that the
 * log ever had of it and beyond 'applied', the last one that its store has.  The store, which
 * must be synced, is from then on what it is; what the log had above it is given up.  'opts' as of
 * repl_open.  -ENOENT: the group is not stopped. */
VX_MUST_CHECK
int repl_accept_loss(
	const struct repl_opts *opts, uint32_t group, uint64_t applied, struct vx_err *err);
void repl_wal_stat(struct repl *r, struct wal_stats *ret);

#endif
