/* harness.h - N nodes of one group in one process, on virtual time.
 *
 * Every node is the real core (repl_core.h) over the real log code on a disk in memory;
 * the harness is their clock, network, log writer thread and background thread, all of it one
 * heap of events drawn from one seed.  Checkers run all the time and end the process with the
 * seed when something is wrong:
 *
 *	- a term has one leader;
 *	- an entry (index, term) has the same bytes and the same predecessor on every node;
 *	- what is applied at an index is the same on every node, in order, without a gap;
 *	- an installed snapshot stands for what the others applied;
 *	- a mark is what the store has confirmed;
 *	- an answer comes after apply, and once;
 *	- what was acknowledged is in that sequence (h_check_acked, at the end).
 *
 * Node numbers are 0..n-1; their Raft ids are one higher.
 */
#ifndef VECFS_TESTS_RAFT_HARNESS_H
#define VECFS_TESTS_RAFT_HARNESS_H

#include "raft/repl_core_i.h"

#define H_NODES_MAX 5
#define H_GROUP     1u

struct h_params {
	uint64_t seed;
	unsigned n;
	unsigned trailing;
	uint64_t mark_bytes;
	uint64_t net_min_ms, net_max_ms;
	uint64_t disk_min_ms, disk_max_ms; /* of a flush */
	unsigned drop_permille, dup_permille, delay_permille;
	unsigned slow_disk_permille;
};

struct harness;

struct harness *h_new(const struct h_params *p);
void h_free(struct harness *h);

void h_start(struct harness *h, unsigned node);
/* Power goes: what was not flushed is gone, of the flush under way any part may survive. */
void h_crash(struct harness *h, unsigned node);
bool h_is_up(const struct harness *h, unsigned node);

uint64_t h_now(const struct harness *h);
uint64_t h_random(struct harness *h);
void h_run(struct harness *h, uint64_t ms);
/* Runs until pred(h, arg) or 'ms' have passed; returns the last answer. */
bool h_run_until(
	struct harness *h, bool (*pred)(struct harness *h, void *arg), void *arg, uint64_t ms);

/* One direction of a link. */
void h_cut(struct harness *h, unsigned from, unsigned to, bool cut);
void h_isolate(struct harness *h, unsigned node, bool cut);
void h_heal(struct harness *h);
/* Messages from 'from' to 'to' take this long; 0: as the parameters say. */
void h_latency(struct harness *h, unsigned from, unsigned to, uint64_t ms);
/* The next flushes of a node take this long; 0: as the parameters say. */
void h_disk_latency(struct harness *h, unsigned node, uint64_t ms);

/* The next flush of a node fails with -EIO. */
void h_break_log(struct harness *h, unsigned node);

struct repl_core_group *h_core(struct harness *h, unsigned node);
struct raft *h_raft(struct harness *h, unsigned node);
int h_leader(struct harness *h); /* the up and ready leader of the highest term, or -1 */
/* Fixes whose election timer runs out first; the others have given up their leader. */
void h_favour(struct harness *h, unsigned node);
bool h_elect(struct harness *h, unsigned node, uint64_t ms);

/* Proposes a value of 'len' >= 8 bytes on a node; returns the value. */
uint64_t h_propose(struct harness *h, unsigned node, size_t len);
/* 'n' of them at once, so that they go into one append; returns the first value. */
uint64_t h_propose_many(struct harness *h, unsigned node, unsigned n, size_t len);
bool h_acked(const struct harness *h, uint64_t value);
bool h_failed(const struct harness *h, uint64_t value);
unsigned h_n_acked(const struct harness *h);
uint64_t h_applied(const struct harness *h, unsigned node);
/* The value applied at an index by whoever applied it first; 0: none or a barrier. */
uint64_t h_value_at(const struct harness *h, uint64_t index);
unsigned h_installs(const struct harness *h);
unsigned h_marks(const struct harness *h);
unsigned h_received(const struct harness *h, unsigned node, unsigned type);

/* Sends a forged message of 'from' to 'to' at once. */
void h_inject(struct harness *h, unsigned from, unsigned to, const struct raft_message *m);
/* Sees every message that leaves a node; may be NULL. */
void h_tap(struct harness *h,
	void (*tap)(void *arg, unsigned from, unsigned to, const struct raft_message *m),
	void *arg);

/* Every acknowledged value stands in the sequence all up nodes have applied. */
void h_check_acked(struct harness *h);
/* The logs on the disks of all nodes agree where they overlap (crashes them). */
void h_check_logs(struct harness *h);

/* Ends the process with the seed and the reason. */
_Noreturn void h_die(struct harness *h, const char *fmt, ...) VX_PRINTF(2, 3);

#endif
