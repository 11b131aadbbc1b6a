/* sim_i.h - what the files of the simulator share. */
#ifndef VECFS_TESTS_SIM_SIM_I_H
#define VECFS_TESTS_SIM_SIM_I_H

#include "sim.h"
#include "tests/wal/fakedisk.h"
#include "wal/wal_i.h"

#define SIM_TERMS_MAX 4096u

enum sim_event_kind { SIM_TICK, SIM_FLUSH, SIM_DELIVER, SIM_WORK, SIM_APPLY };

struct sim_event {
	uint64_t at, order;
	enum sim_event_kind kind;
	unsigned node;
	unsigned incarnation;
	void *arg; /* SIM_DELIVER: the message; SIM_WORK: the work; SIM_APPLY: the replica */
};

struct sim_message {
	uint64_t from_id, to_id;
	unsigned from, to;
	size_t len;
	uint8_t bytes[];
};

/* A committed entry on its way to the store; value 0: a watermark. */
struct sim_item {
	uint64_t index, term, value;
	struct sim_item *next;
};

/* A store's state after 'index': a chain over all that was applied. */
struct sim_state {
	uint64_t index, chain;
};

/* One group on one machine. */
struct sim_replica {
	struct repl_env env; /* first */
	struct sim_node *node;
	unsigned g;
	struct repl_core_group *core; /* NULL: down */
	/* Volatile. */
	struct sim_item *queue, **queue_tail;
	bool apply_scheduled;
	uint64_t posted; /* last index that the core has handed over */
	/* The store: what it shows, and what is durable of it. */
	struct sim_state now, durable, staged;
	uint64_t marked; /* last index that host_mark has confirmed */
};

struct sim_node {
	struct sim *s;
	unsigned number;
	uint64_t id;
	bool up, doomed; /* doomed: fatal was called; the process ends after the step */
	bool founder;    /* bootstraps its groups when the log is empty */
	bool damaged;    /* its log was refused: it must be replaced */
	bool absent;     /* a machine that has not joined */
	unsigned incarnation;
	struct disk *disk;
	struct wal *wal;
	struct sim_replica r[SIM_GROUPS_MAX];
	/* Log writer. */
	struct repl_log_op *queue, **queue_tail;
	struct repl_log_op *parked, **parked_tail; /* refused by a full disk */
	bool flush_scheduled, refused, full;
	unsigned break_at;
	uint64_t disk_ms;
	uint64_t last_frame_seg, last_frame_off; /* of the last frame that was acknowledged */
	uint64_t paused_until, jumped_ms;
	unsigned received[8];
};

/* What is known of one index: the first node to apply it decides. */
struct sim_slot {
	bool known;
	uint64_t term, value, chain;
};

/* What is known of one (index, term) entry. */
struct sim_entry {
	uint64_t index, term, hash, prev_term;
};

/* A vote that was given. */
struct sim_vote {
	uint64_t voter, term, candidate;
};

struct sim_group {
	struct sim_slot *slots;
	size_t n_slots;
	uint64_t top;                        /* highest index that anyone has applied */
	uint64_t top_in_term[SIM_TERMS_MAX]; /* the same, by nodes of that term */
	struct sim_entry *entries;           /* open addressing */
	size_t n_entries, cap_entries;
	struct sim_vote *votes;
	size_t n_votes, cap_votes;
	uint64_t leader_of[SIM_TERMS_MAX]; /* node id by term */
};

/* A proposal under way: held by the core until it has called back, and by the table until there is a
 * result, as in lib/cluster/propose.c. */
struct sim_ticket {
	struct repl_proposal p;
	struct sim_node *node;
	unsigned incarnation;
	uint64_t value;
	int holds;
	struct sim_ticket *next; /* in the table */
};

/* REFUSED: for certain not committed; FAILED: nobody knows. */
enum sim_fate { SIM_UNKNOWN, SIM_ACKED, SIM_FAILED, SIM_REFUSED };

struct sim {
	struct sim_params p;
	uint64_t rng, now, order, hash;
	struct sim_event *heap;
	size_t n_heap, cap_heap;
	unsigned n; /* machines */
	struct sim_node nodes[SIM_NODES_MAX];
	bool cut[SIM_NODES_MAX][SIM_NODES_MAX];
	uint64_t latency[SIM_NODES_MAX][SIM_NODES_MAX];
	struct sim_group groups[SIM_GROUPS_MAX];
	struct sim_ticket *tickets;
	uint8_t *fate; /* enum sim_fate by value */
	size_t n_fate;
	uint64_t next_value, next_id;
	struct sim_totals t;
	void (*tap)(void *arg, unsigned from, unsigned to, const struct raft_message *m);
	void *tap_arg;
};

/* --- sim.c ------------------------------------------------------------------------ */
void *sim_must(void *p);
bool sim_chance(struct sim *s, unsigned permille);
uint64_t sim_between(struct sim *s, uint64_t lo, uint64_t hi);
void sim_schedule(
	struct sim *s, uint64_t delay, enum sim_event_kind kind, unsigned node, void *arg);
struct sim_node *sim_node_of_id(struct sim *s, uint64_t id);
/* The machine gets an empty disk and a new id, and waits to be added. */
void sim_wipe(struct sim *s, unsigned node);
struct wal_opts sim_wal_opts(const struct sim *s, const struct sim_node *n);

/* --- sim_log.c ---------------------------------------------------------------------- */
void sim_log_submit(struct repl_env *env, struct repl_log_op *op);
void sim_log_flush(struct sim_node *n);
void sim_log_watch(struct sim_node *n); /* every tick */
void sim_log_cancel(struct sim_node *n);
/* The process ends in the middle of a flush: some of its calls may have been made. */
void sim_log_tear(struct sim_node *n);

/* --- sim_store.c -------------------------------------------------------------------- */
extern const struct repl_host_ops sim_host_ops;
void sim_store_apply(struct sim_replica *r);
void sim_store_end(struct sim_replica *r, bool power); /* the process ended */
void sim_store_wipe(struct sim_replica *r);
void sim_store_release(struct sim_replica *r);
void sim_tickets_end(struct sim_node *n); /* nobody is left to answer */
uint64_t sim_propose_to(struct sim *s, unsigned node, unsigned g, unsigned n, size_t len);

/* --- sim_check.c ------------------------------------------------------------------------ */
struct sim_slot *sim_slot_at(struct sim *s, unsigned g, uint64_t index);
/* The state after applying; checks it against everyone's. */
struct sim_state sim_check_apply(struct sim_replica *r, const struct sim_item *it);
void sim_check_log_op(struct sim_replica *r, const struct repl_log_op *op);
void sim_check_send(struct sim_replica *r, const uint8_t *p, size_t n);
void sim_check_commit(struct sim_replica *r, uint64_t index);
void sim_check_role(struct sim_replica *r, bool is_leader, uint64_t term);
void sim_check_answer(struct sim_replica *r, const struct sim_item *it);
void sim_check_clear(struct sim *s);

/* --- sim_trace.c ---------------------------------------------------------------------- */
enum sim_trace_kind {
	TR_START,
	TR_REFUSED,
	TR_CRASH,
	TR_KILL,
	TR_WIPE,
	TR_FATAL,
	TR_SEND,
	TR_LOSE,
	TR_DELIVER,
	TR_FLUSH,
	TR_FULL,
	TR_APPLY,
	TR_WATERMARK,
	TR_ANSWER,
	TR_PROPOSE,
	TR_FAIL,
	TR_ROLE,
	TR_MARK,
	TR_FETCH,
	TR_RESTORE,
	TR_RECOVER,
	TR_CUT,
	TR_HEAL,
	TR_BREAK,
	TR_ROOM,
	TR_FLIP,
	TR_PAUSE,
	TR_JUMP,
	TR_CHANGE,
	TR_CHANGED,
	TR_TRANSFER,
	TR_N
};
void sim_trace(struct sim *s, unsigned node, enum sim_trace_kind kind, uint64_t a, uint64_t b,
	uint64_t c, uint64_t d);

/* --- sim_clock.c ------------------------------------------------------------------------ */
/* Base's clock and generator are the simulation's from now on. */
void sim_clock_set(struct sim *s);

#endif
