/* nodes.h - a handful of cores driven by hand, for what the simulator cannot ask for.
 *
 * The simulator (tests/sim) has the real log and real faults; here the log, the network, the
 * threads and the host are the test's own, a few lines each, so that any call can be refused with any
 * status and any state be held.  Time moves in steps of NODES_STEP_MS; node 0 is the first to campaign.
 *
 * What is checked all the time: nodes apply the same value at an index, in order, without a gap.
 */
#ifndef VECFS_TESTS_RAFT_NODES_H
#define VECFS_TESTS_RAFT_NODES_H

#include "raft/repl_core_i.h"

#define NODES_MAX        4u
#define NODES_GROUP      1u
#define NODES_STEP_MS    10u
#define NODES_INDEX_MAX  4096u
#define NODES_VALUES_MAX 1024u

struct nodes;

struct node {
	struct repl_env env; /* first */
	struct nodes *all;
	uint64_t id;
	struct repl_host_ops host_ops;
	struct repl_core_group *core; /* NULL: down */
	/* Under way. */
	struct repl_log_op *ops, **ops_tail;
	struct repl_work *works[16];
	unsigned n_works;
	/* Of the process. */
	int fatal_status;
	uint64_t handed; /* the last index handed over */
	unsigned roles;
	/* What survives it. */
	struct wal_group_state log;
	uint64_t applied, staged;
	/* Faults. */
	bool hold_log, hold_works, loose; /* loose: reads anything as committed */
	int log_status, work_status;      /* of the next one, once */
	int mark_status, fetch_status, restore_status, recover_status; /* until changed */
};

struct nodes_msg {
	unsigned from, to;
	size_t len;
	struct nodes_msg *next;
	uint8_t bytes[];
};

enum nodes_fate { NODES_UNKNOWN, NODES_ACKED, NODES_FAILED };

struct nodes {
	unsigned n, voters;
	uint64_t now;
	uint64_t mark_bytes;
	struct node node[NODES_MAX];
	struct nodes_msg *head, **tail;
	bool cut[NODES_MAX];          /* nothing from it or to it */
	uint64_t at[NODES_INDEX_MAX]; /* value by index; 0: nobody yet; UINT64_MAX: a watermark */
	uint64_t values;
	uint8_t fate[NODES_VALUES_MAX];
	int status[NODES_VALUES_MAX];
	unsigned log_calls, work_calls;       /* so far, over all nodes */
	unsigned log_fails_at, work_fails_at; /* 0: none */
	int log_fails_with, work_fails_with;
};

/* 'n' nodes, all down; the first 'voters' of them have the configuration in their log. */
struct nodes *nodes_new(unsigned n, unsigned voters, uint64_t mark_bytes);
void nodes_free(struct nodes *c);

int nodes_start(struct nodes *c, unsigned i); /* what open or start says */
void nodes_start_all(struct nodes *c);
void nodes_stop(struct nodes *c, unsigned i); /* as if killed: what is under way is lost */
void nodes_run(struct nodes *c, uint64_t ms);
int nodes_leader(const struct nodes *c); /* ready, or -1 */
/* Runs until somebody is, and returns it. */
unsigned nodes_elect(struct nodes *c);
uint64_t nodes_propose(struct nodes *c, unsigned i, size_t len); /* the value */
bool nodes_acked(const struct nodes *c, uint64_t value);
/* Runs until the change is over. */
int nodes_change(struct nodes *c, unsigned i, enum repl_change_kind kind, uint64_t id);
int nodes_mark(struct nodes *c, unsigned i); /* the same */
void nodes_inject(struct nodes *c, unsigned from, unsigned to, const struct raft_message *m);
/* Completes what waits, without a step of time. */
void nodes_finish_log(struct node *n);
void nodes_finish_works(struct node *n);
/* The cluster heals: whoever is down starts, what is acknowledged stands, a new value is
 * acknowledged and everybody has it. */
void nodes_check(struct nodes *c);

/* What a mark and a change were answered. */
struct nodes_told {
	struct repl_mark_req mark;
	struct repl_change_req change;
	int mark_status, change_status; /* 1: not yet */
};
void nodes_told_mark(struct repl_mark_req *req, int status);
void nodes_told_change(struct repl_change_req *req, int status);
void nodes_ask_mark(struct repl_core_group *g, struct nodes_told *t);
/* The status of a change that is answered at once. */
int nodes_refused_change(struct repl_core_group *g, enum repl_change_kind kind, uint64_t id);
/* What a snapshot of nothing is answered. */
int nodes_put_of(struct repl_core_group *g);
/* New nodes, started, that have elected somebody. */
struct nodes *nodes_with_leader(unsigned n, unsigned voters, uint64_t mark_bytes);

#endif
