/* sim.h - N nodes in one process, on virtual time.
 *
 * Every node is the real core of lib/raft (one or two groups) over the real log and its real writer's
 * batches on a disk in memory (tests/wal/fakedisk.h), with a store that goes by the rules of the real
 * one: a queue of committed entries, an apply worker that answers, marks, snapshots that are fetched,
 * restored, recovered.  The simulator is their clock, network, threads and operator, all of it one
 * heap of events drawn from one seed.  Checkers run all the time and end the process with the seed
 * when something is wrong (sim_check.c):
 *
 *	- a term of a group has one leader, and a node gives one vote in a term;
 *	- whoever becomes leader has everything that anyone has applied;
 *	- an entry (index, term) has the same bytes and the same predecessor on every node;
 *	- what is applied at an index is the same on every node, in order, without a gap, and the
 *	  state after it is;
 *	- a node tells a leader of no entry that is not durable in its log;
 *	- a mark is what the store has confirmed, and at start the store is at the mark;
 *	- an answer comes after apply, and once;
 *	- what was acknowledged is in that sequence, once (at the end);
 *	- what a log held before a bit of it flipped is either read back or refused.
 *
 * Node numbers are places 0..n-1 for a machine.  Raft ids begin as number + 1; a machine that is wiped gets
 * an id that was never used.
 */
#ifndef VECFS_TESTS_SIM_SIM_H
#define VECFS_TESTS_SIM_SIM_H

#include "raft/repl_core_i.h"

#define SIM_NODES_MAX  7
#define SIM_GROUPS_MAX 2
#define SIM_GROUP      1u /* the first */
#define SIM_EXIT       3  /* status of a process in which a checker found something */

struct sim_params {
	uint64_t seed;
	unsigned n;      /* voters in the beginning */
	unsigned extra;  /* machines that may join; n + extra <= SIM_NODES_MAX */
	unsigned groups; /* 0: 1 */
	unsigned trailing;
	uint64_t mark_bytes;
	uint64_t segment_bytes; /* 0: 256 KiB */
	uint64_t net_min_ms, net_max_ms;
	uint64_t disk_min_ms, disk_max_ms; /* of a flush */
	uint64_t apply_max_ms;             /* between commit and apply */
	unsigned drop_permille, dup_permille, delay_permille;
	unsigned slow_disk_permille;
	bool store_keeps; /* a crash may leave more in the store than its last mark */
	unsigned timers;  /* election timeouts take only this many different values; 0: any */
	bool trace;       /* print every event */
	bool abort;       /* a finding calls abort() instead of _Exit(SIM_EXIT) */
};

struct sim;

struct sim *sim_new(const struct sim_params *p);
void sim_free(struct sim *s);

/* Of everything that has happened, in order. */
uint64_t sim_hash(const struct sim *s);

/* Starts the process of a node.  False: its log is damaged, and it stays down for good. */
bool sim_start(struct sim *s, unsigned node);
/* Power goes: what was not flushed is gone, of the flush under way any part may survive. */
void sim_crash(struct sim *s, unsigned node);
/* The process is killed; what it had written the kernel still has. */
void sim_kill(struct sim *s, unsigned node);
bool sim_is_up(const struct sim *s, unsigned node);

uint64_t sim_now(const struct sim *s);
uint64_t sim_random(struct sim *s);
void sim_run(struct sim *s, uint64_t ms);
/* Runs until pred(s, arg) or 'ms' have passed; returns the last answer. */
bool sim_run_until(struct sim *s, bool (*pred)(struct sim *s, void *arg), void *arg, uint64_t ms);

/* One direction of a link. */
void sim_cut(struct sim *s, unsigned from, unsigned to, bool cut);
void sim_isolate(struct sim *s, unsigned node, bool cut);
void sim_heal(struct sim *s);
/* Messages from 'from' to 'to' take this long; 0: as the parameters say. */
void sim_latency(struct sim *s, unsigned from, unsigned to, uint64_t ms);
/* The next flushes of a node take this long; 0: as the parameters say. */
void sim_disk_latency(struct sim *s, unsigned node, uint64_t ms);

/* The next flush of a node fails with -EIO at its n-th changing call. */
void sim_break_log(struct sim *s, unsigned node, unsigned n);
/* The disk of a node has 'bytes' left, or as many as ever again with UINT64_MAX. */
void sim_disk_room(struct sim *s, unsigned node, uint64_t bytes);
/* Flips a bit of a log that lies still, where it was acknowledged before its last frame.  The node is
 * down; false: there is nothing to flip. */
bool sim_flip(struct sim *s, unsigned node);
/* The process stands still for so long. */
void sim_pause(struct sim *s, unsigned node, uint64_t ms);
/* Its clock is ahead by so much more. */
void sim_jump(struct sim *s, unsigned node, uint64_t ms);

struct repl_core_group *sim_core(struct sim *s, unsigned node);
struct raft *sim_raft(struct sim *s, unsigned node);
int sim_leader(struct sim *s); /* the up and ready leader of the highest term, or -1 */
/* Fixes whose election timer runs out first; the others have given up their leader. */
void sim_favour(struct sim *s, unsigned node);
bool sim_elect(struct sim *s, unsigned node, uint64_t ms);

/* Proposes a value of 'len' >= 8 bytes on a node; returns the value. */
uint64_t sim_propose(struct sim *s, unsigned node, size_t len);
/* 'n' of them at once, so that they go into one append; returns the first value. */
uint64_t sim_propose_many(struct sim *s, unsigned node, unsigned n, size_t len);
bool sim_acked(const struct sim *s, uint64_t value);
bool sim_failed(const struct sim *s, uint64_t value);
unsigned sim_n_acked(const struct sim *s);
uint64_t sim_applied(const struct sim *s, unsigned node);
unsigned sim_installs(const struct sim *s);
unsigned sim_marks(const struct sim *s);
unsigned sim_received(const struct sim *s, unsigned node, unsigned type);

/* Sends a forged message of 'from' to 'to' at once. */
void sim_inject(struct sim *s, unsigned from, unsigned to, const struct raft_message *m);
/* Sees every message that leaves a node; may be NULL. */
void sim_tap(struct sim *s,
	void (*tap)(void *arg, unsigned from, unsigned to, const struct raft_message *m),
	void *arg);

/* Every acknowledged value stands, once, in the sequence that was applied (of which every node
 * has shown a part, the same to all). */
void sim_check_acked(struct sim *s);
/* The logs on the disks of all members agree where they overlap (crashes them). */
void sim_check_logs(struct sim *s);

/* Ends the process with the seed and the reason. */
_Noreturn void sim_die(struct sim *s, const char *fmt, ...) VX_PRINTF(2, 3);

/* --- scenario.c ---------------------------------------------------------------- */
struct sim_totals {
	uint64_t acked, failed, installs, marks, crashes, kills, breaks, flips, refused, fulls,
		pauses, jumps, changes, leaders, messages, hash;
};

/* One seed from beginning to end: a mixture of faults of its own, clients, an operator, healing, the
 * last checks.  Adds to 't'. */
void sim_scenario(uint64_t seed, bool trace, bool abort_on_finding, struct sim_totals *t);

#endif
