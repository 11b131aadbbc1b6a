/* repl_core_i.h - what the files of the core share.  Private to lib/raft and its tests. */
#ifndef VECFS_RAFT_REPL_CORE_I_H
#define VECFS_RAFT_REPL_CORE_I_H

#include <raft.h>

#include "raft/repl_core.h"
#include "raft/repl_msg.h"

#define REPL_STALL_MARKS   4u   /* proposals wait above this many mark_bytes unmarked */
#define REPL_MARK_RETRY_MS 200u /* after a failed mark */
#define REPL_ADDRESS_MAX   24u  /* a node id in decimal */

/* How long what cannot fail waits for memory. */
#define REPL_MEMORY_TRIES   1000u
#define REPL_MEMORY_WAIT_US 1000u

/* Entries from 'first' on have 'term', up to the next span. */
struct repl_span {
	uint64_t first, term;
};

/* A callback owed to libraft, run after the call that caused it has returned. */
struct repl_defer {
	void (*run)(struct repl_core_group *g, struct repl_defer *d); /* frees 'd' */
	struct repl_defer *next;
};

/* A message that waits for a term or vote to become durable. */
struct repl_gated {
	uint64_t need; /* hard state number */
	uint64_t to;
	struct buf bytes;
	struct repl_gated *next;
	char address[];
};

/* What the guard remembers.  Volatile: a restart forgets it, which is safe because an
 * empty memory clamps to zero. */
struct repl_guard {
	/* Follower: rule 1. */
	uint64_t verified_term;  /* the term the next field belongs to */
	uint64_t verified_index; /* highest prev + n that this term's leader matched here */
	uint64_t ae_top;         /* prev + n of the AppendEntries being received */
	bool ae_open;
	bool ae_answered; /* a result went out while it was received */
	bool ae_appended; /* it started an append */
	bool ae_stale;    /* rule 19: it is of an older term */
	/* Leader: rule 3. */
	uint64_t own_term; /* the term the next field belongs to */
	bool own_durable;
};

struct repl_core_group {
	/* Immutable after open. */
	struct repl_env *env;
	struct repl_core_opts opts;
	char address[REPL_ADDRESS_MAX];

	/* libraft's. */
	struct raft raft;
	struct raft_io io;
	struct raft_fsm fsm;
	raft_io_tick_cb tick_cb;
	raft_io_recv_cb recv_cb;
	raft_io_close_cb close_io_cb;

	/* Life. */
	bool started, loading, closing, closed, dead;
	bool stepping;                 /* inside a step function */
	struct wal_group_state loaded; /* between open and start */
	void (*close_cb)(void *arg);
	void *close_arg;

	/* The log as we sent it to the writer. */
	uint64_t last_index;
	struct repl_span *spans; /* ascending; spans[0].first is the mark or 1 */
	size_t n_spans, cap_spans;
	struct repl_log_op *held; /* ended after the group died: for libraft to hear at close */
	unsigned ops;             /* log requests under way */
	unsigned pending;         /* of these, appends and installs: rule 4 */
	unsigned works;           /* background work under way */
	bool installing;

	/* Messages. */
	uint64_t hs_submitted, hs_durable; /* hard states, numbered */
	uint64_t hs_term;                  /* of the last one submitted */
	struct repl_gated *gated_head, **gated_tail;
	struct repl_defer *defer_head, **defer_tail;

	struct repl_guard guard;

	/* Role as last told to the host. */
	bool is_leader;
	uint64_t role_term;
	bool barrier_wanted, barrier_busy, ready;
	struct raft_barrier barrier;

	/* Proposals. */
	bool full;
	struct repl_proposal *wait_head, **wait_tail;
	struct repl_proposal *batch_head; /* proposed, not yet applied */
	uint64_t batch_next;              /* index of batch_head */
	uint64_t batch_term;
	bool apply_busy; /* libraft holds 'apply' */
	struct raft_apply apply;

	/* Membership and installs. */
	struct repl_conf *confs; /* of the mark and of the log after it, ascending */
	size_t n_confs, cap_confs;
	bool conf_wrong;          /* libraft's is to be put right: rule 17 */
	void *change;             /* the change under way: rule 8 */
	struct repl_fetch *fetch; /* the snapshot being fetched */

	/* Apply. */
	uint64_t posted; /* highest index the host has heard of */

	/* Marks. */
	uint64_t last_command; /* highest command applied */
	uint64_t unmarked_bytes;
	bool mark_busy;    /* between fsm snapshot and finalize */
	bool mark_armed;   /* libraft's threshold is down */
	bool mark_force;   /* whatever the bytes and the time say */
	bool mark_over;    /* an attempt ended: answer the waiting */
	int mark_status;   /* of the last attempt; written by the work */
	uint64_t mark_try; /* its index */
	uint64_t mark_try_bytes;
	uint64_t mark_term_try;
	uint64_t mark_retry_at_ms, mark_poke_at_ms, mark_last_ms;
	struct buf mark_manifest; /* the host's, of the attempt */
	struct repl_mark_req *mark_waiting;
	/* The durable mark. */
	uint64_t mark_index, mark_term;
	struct buf mark_record; /* data of its record */
};

/* --- repl_core.c ----------------------------------------------------------- */
void repl_address_of(uint64_t id, char ret[REPL_ADDRESS_MAX]);
void repl_core_defer(struct repl_core_group *g, struct repl_defer *d);
void repl_core_fatal(struct repl_core_group *g, int status, const char *what);
VX_MUST_CHECK
int repl_span_append(struct repl_core_group *g, uint64_t index, uint64_t term);
void repl_span_truncate(struct repl_core_group *g, uint64_t index);
/* The log begins after (index, term): a mark or an installed snapshot. */
void repl_span_reset(struct repl_core_group *g, uint64_t index, uint64_t term);
void repl_span_trim(struct repl_core_group *g, uint64_t index);
void repl_post_watermarks(struct repl_core_group *g, uint64_t upto);

/* --- repl_io.c ---------------------------------------------------------------- */
void repl_io_init(struct repl_core_group *g);
void repl_io_open_gate(struct repl_core_group *g);
void repl_io_release_held(struct repl_core_group *g);
void repl_io_release(struct repl_core_group *g);

/* --- repl_mark.c ----------------------------------------------------------------- */
void repl_fsm_init(struct repl_core_group *g);
bool repl_mark_due(const struct repl_core_group *g);
void repl_mark_arm(struct repl_core_group *g);
void repl_mark_answer(struct repl_core_group *g);
/* The one buffer libraft knows as the snapshot's data. */
VX_MUST_CHECK
int repl_blob_make(
	uint64_t index, uint64_t term, const void *host, size_t n, struct raft_buffer *ret);

#define REPL_BLOB_HEAD_BYTES 16u /* index, term */

/* --- repl_conf.c ------------------------------------------------------------------- */
/* libraft pads an encoded configuration to whole words with whatever was in memory: zeros instead, so that it is the
 * same on all nodes, byte by byte. */
void repl_conf_clear_padding(void *p, size_t n);
/* The configuration entry 'index' is at the end of the log.  -EUCLEAN, -ENOMEM. */
VX_MUST_CHECK
int repl_conf_entry(struct repl_core_group *g, uint64_t index, const void *p, size_t n);
/* The log begins with this one. */
VX_MUST_CHECK
int repl_conf_base(
	struct repl_core_group *g, uint64_t index, const struct raft_configuration *base);
void repl_conf_truncate(struct repl_core_group *g, uint64_t index);
/* Forgets those before the last one up to 'index'. */
void repl_conf_trim(struct repl_core_group *g, uint64_t index);
/* libraft believes what the log says.  -ENOMEM. */
VX_MUST_CHECK
int repl_conf_put_right(struct repl_core_group *g);
void repl_conf_release(struct repl_core_group *g);

/* --- repl_install.c ---------------------------------------------------------------- */
/* True when the message was taken: its snapshot is being fetched, or it was dropped. */
bool repl_install_begin(struct repl_core_group *g, struct raft_message *m);
VX_MUST_CHECK
int repl_install_recover(struct repl_core_group *g);

/* --- repl_guard.c ------------------------------------------------------------------ */
enum repl_verdict { REPL_PASS, REPL_DROP, REPL_REFUSE_VOTE };

void repl_guard_clamp_leader_commit(struct raft_append_entries *ae);
void repl_guard_open_append(struct repl_core_group *g, const struct raft_append_entries *ae);
void repl_guard_close_append(struct repl_core_group *g);
void repl_guard_note_install(struct repl_core_group *g, const struct raft_install_snapshot *is);
bool repl_guard_clamp_result(struct repl_core_group *g, struct raft_append_entries_result *res);
void repl_guard_note_own_append(struct repl_core_group *g, uint64_t term);
void repl_guard_note_durable(struct repl_core_group *g, uint64_t last_term);
bool repl_guard_hold_result(
	const struct repl_core_group *g, const struct raft_append_entries_result *res);
bool repl_guard_may_tick(const struct repl_core_group *g);
bool repl_guard_refuse_vote(const struct repl_core_group *g, const struct raft_request_vote *rv);
bool repl_guard_log_failed(struct repl_core_group *g, int status);
bool repl_guard_may_propose(const struct repl_core_group *g);
int repl_guard_may_change(const struct repl_core_group *g, enum repl_change_kind kind, uint64_t id);
bool repl_guard_snapshot_busy(const struct repl_core_group *g);
bool repl_guard_own_mark(const struct repl_core_group *g);
bool repl_guard_may_truncate(const struct repl_core_group *g, const struct raft_append_entries *ae);
void repl_guard_keep_configuration(struct repl_core_group *g, const struct raft_append_entries *ae);
bool repl_guard_put_configuration_right(struct repl_core_group *g);
struct raft_server *repl_guard_lend_vote(struct repl_core_group *g, int *ret_role);
bool repl_guard_begin_term(struct repl_core_group *g);
bool repl_guard_skip_committed(struct repl_core_group *g, struct raft_message *m);
void repl_guard_refuse_stale(
	const struct repl_core_group *g, struct raft_append_entries_result *res);
void repl_guard_tell_term(const struct repl_core_group *g, struct raft_request_vote_result *res);
bool repl_guard_has_receiver(const struct raft_message *m);

/* All rules about a message that arrives and one that leaves. */
enum repl_verdict repl_guard_receive(struct repl_core_group *g, struct raft_message *m);
enum repl_verdict repl_guard_send(struct repl_core_group *g, struct raft_message *m);

/* --- repl_errno.c -------------------------------------------------------------------- */
int repl_errno_from_raft(int raft_code);
int repl_errno_to_raft(int err);

#endif
