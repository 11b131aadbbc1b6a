/* repl_core.h - one replicated group as a set of step functions.
 *
 * A 'struct repl_core_group' is a libraft instance together with our raft_io, the
 * guard, the queue of proposals and the marking of its store.  It never touches a
 * clock, a disk, a socket or a thread: all of that is a 'struct repl_env', a small
 * vtable.  The pump (repl.c) implements it with libuv and the log writer; the tests
 * implement it with an event heap and a fake disk, N nodes in one process.
 *
 *	repl_core_open(&env, &opts, &state, &g, &err)
 *	repl_core_start(g, &err)                   replays what lies above the mark
 *	repl_core_tick(g) every REPL_TICK_MS, repl_core_deliver(g, from, p, n), ...
 *	repl_core_close(g, cb, arg)                waits for the log and background work
 *	repl_core_free(g)
 *
 * Threads: everything runs on the thread that owns the env, except the 'fn' of a
 * 'struct repl_work', which runs wherever the env likes.  The env must never call a
 * step function from inside one of its own operations, and no host operation and no
 * proposal callback may call a step function: libraft is not re-entrant.
 */
#ifndef VECFS_RAFT_REPL_CORE_H
#define VECFS_RAFT_REPL_CORE_H

#include "raft/repl.h"
#include "wal/wal_writer.h"

#define REPL_TICK_MS         100u        /* heartbeat; the caller ticks this often */
#define REPL_ELECTION_MS     1000u       /* base of the election timeout */
#define REPL_BATCH_BYTES_MAX (16u << 20) /* of one coalesced append */
#define REPL_BATCH_MAX       1024u       /* entries of one coalesced append */
#define REPL_VOTERS_MAX      64u         /* servers of a group */

/* A request to the log.  The env hands it back through repl_core_log_done. */
struct repl_log_op {
	struct wal_req req; /* recs, n; 'done' and 'next' are the env's */
	int status;         /* the env's, like what follows */
	void *impl;
	struct repl_log_op *next;
};

/* Background work.  The env runs fn(w) anywhere, then repl_core_work_done(w). */
struct repl_work {
	void (*fn)(struct repl_work *w);
	void *impl; /* the env's */
};

struct repl_env;
struct repl_env_ops {
	uint64_t (*now_ms)(struct repl_env *env); /* never steps back */
	uint64_t (*random)(struct repl_env *env);
	/* Makes the records durable in FIFO order over all groups and hands 'op' back
	 * later, never from inside.  Status 0 or the error that broke the log; a full
	 * disk is not an error here: the env keeps the request until there is room. */
	void (*log_submit)(struct repl_env *env, struct repl_log_op *op);
	/* Sends a message, best effort: bytes and address are copied. */
	void (*send)(struct repl_env *env, uint32_t group, uint64_t to, const char *address,
		const void *p, size_t n);
	/* 0 or a negative errno, in which case neither function is called. */
	int (*work)(struct repl_env *env, struct repl_work *w);
	/* The group cannot go on: the log broke (rule 6) or libraft gave up.  The real
	 * env ends the process; a simulator ends the node.  If it returns, the group
	 * stays dead and ignores every later step. */
	void (*fatal)(struct repl_env *env, uint32_t group, int status, const char *what);
};

struct repl_env {
	const struct repl_env_ops *ops;
	const struct repl_host_ops *host_ops;
	void *host;
};

struct repl_core_opts {
	uint32_t group;
	uint64_t node_id;
	uint64_t mark_bytes;         /* 0: 16 MiB */
	uint64_t mark_interval_ms;   /* 0: 30,000 */
	unsigned trailing;           /* entries kept in memory below the mark; 0: 1 */
	unsigned install_timeout_ms; /* until a snapshot is sent again; 0: 600,000 */
};

struct repl_core_group;

/* Stages the records of a brand-new group (term 1; entry 1 is the configuration with
 * 'n' voters 'ids') into 'w'.  The caller flushes.  -ENOMEM, -EIO, -EINVAL. */
VX_MUST_CHECK
int repl_core_bootstrap(struct wal *w, uint32_t group, const uint64_t *ids, unsigned n);

/* Whether the log holds a usable beginning of the group: a mark, or entry 1. */
bool repl_core_is_bootstrapped(const struct wal_group_state *st);

/* Takes the contents of 'st' (and empties it) on success.  -EUCLEAN: the mark's manifest
 * is not ours; -ENOMEM. */
VX_MUST_CHECK
int repl_core_open(struct repl_env *env, const struct repl_core_opts *opts,
	struct wal_group_state *st, struct repl_core_group **ret, struct vx_err *err);

/* Starts libraft.  A sole voter becomes leader inside and hands its replay to apply. */
VX_MUST_CHECK
int repl_core_start(struct repl_core_group *g, struct vx_err *err);

void repl_core_tick(struct repl_core_group *g);

/* A message from node 'from'.  Anything malformed, foreign or refused by the guard is
 * dropped; the bytes are borrowed. */
void repl_core_deliver(struct repl_core_group *g, uint64_t from, const void *p, size_t n);

/* See repl_propose.  Callbacks run inside later steps or this one. */
void repl_core_propose(struct repl_core_group *g, struct repl_proposal *p);

/* As repl_core_propose for what one loop turn brought: queue first, step once. */
void repl_core_enqueue(struct repl_core_group *g, struct repl_proposal *p);
void repl_core_step(struct repl_core_group *g);

void repl_core_log_done(struct repl_log_op *op, int status);
void repl_core_work_done(struct repl_work *w);

/* Calls 'done' once the store is marked at what is applied now, or the attempt failed. */
struct repl_mark_req {
	void (*done)(struct repl_mark_req *req, int status);
	uint64_t target; /* the core's, like what follows */
	struct repl_mark_req *next;
};
void repl_core_mark(struct repl_core_group *g, struct repl_mark_req *req);

/* Marks soon, however little is unmarked: the group pins log that others need. */
void repl_core_force_mark(struct repl_core_group *g);

/* Marks without waiting for libraft to apply something, which it cannot while the log is full. */
void repl_core_mark_aside(struct repl_core_group *g);

/* While set, proposals fail with -ENOSPC before libraft sees them; nothing else changes. */
void repl_core_set_full(struct repl_core_group *g, bool full);

/* Fails what waits with -ETIMEDOUT, and calls 'cb' once nothing is under way any more. */
void repl_core_close(struct repl_core_group *g, void (*cb)(void *arg), void *arg);

/* Only before start or after close's callback; NULL is fine. */
void repl_core_free(struct repl_core_group *g);

/* A change of one server of the group, on its leader (rule 8: one at a time, and a server becomes
 * a voter by way of spare and standby). */
enum repl_change_kind {
	REPL_ADD,     /* as a spare: a member that gets no entries */
	REPL_SPARE,   /* back to that */
	REPL_STANDBY, /* gets entries, does not vote */
	REPL_VOTER,   /* from standby, once it has caught up */
	REPL_REMOVE,
};

/* 'done' is called once, from inside this or a later step or repl_core_close.  0: the change is
 * committed.  -EROFS: no leader, or none whose term has committed anything yet; -EBUSY: another change
 * is under way; -EINVAL: not a step that rule 8 allows, or the leader itself; -ENOENT, -EEXIST: the
 * server is not, or already, what it is to become; -ETIMEDOUT: outcome unknown.  Other codes: libraft
 * gave the change up, for example because the server did not catch up. */
struct repl_change_req {
	enum repl_change_kind kind;
	uint64_t id;
	void (*done)(struct repl_change_req *req, int status);
	void *impl; /* the core's */
};
void repl_core_change(struct repl_core_group *g, struct repl_change_req *req);

/* The configuration as this node knows it, committed or not: copies at most 'n' servers and returns how
 * many there are. */
struct repl_server {
	uint64_t id;
	enum repl_change_kind role; /* SPARE, STANDBY or VOTER */
};
unsigned repl_core_servers(
	const struct repl_core_group *g, struct repl_server *ret, unsigned n, bool *ret_committed);

bool repl_core_is_started(const struct repl_core_group *g);

void repl_core_stat(const struct repl_core_group *g, struct repl_group_status *ret);

/* Leader, with an entry of its own term committed (and so everything before it). */
bool repl_core_is_ready(const struct repl_core_group *g);

/* For checkers: term of an entry, 0 where unknown. */
uint64_t repl_core_term_of(const struct repl_core_group *g, uint64_t index);

#endif
