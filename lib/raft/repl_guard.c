/* repl_guard.c - what stands between libraft 0.15 and the Raft paper.
 *
 * libraft 0.15 loses acknowledged entries, elects two leaders in one term and aborts the
 * process under message orders that a real network produces.  Each function here closes
 * one hole from the outside, by looking at what goes into and comes out of the library.
 * Every rule has a regression test in tests/raft (test_guard.c, test_member.c) that fails without
 * it (only the part of rule 14 about installs is a precaution: 0.15.0 guards itself there), and a patch
 * in tests/sim/mutations that takes it away, which the simulator has to notice; none may be dropped
 * because some other test passes without it.
 *
 * Rule 13 (callers are answered from apply) and half of rule 8 (pre-vote is on) are matters of
 * use: repl_core.c sets raft_set_pre_vote, and never completes a proposal from raft_apply's
 * callback.  Rule 12 (barriers and configuration entries never reach apply) is
 * repl_post_watermarks() in repl_core.c.
 */
#include "raft/repl_core_i.h"

#include "base/log.h"

/* --- rule 1: acknowledge only what this term's leader has checked ------------------- */

/* Starts to watch an AppendEntries.  A follower may name in a successful result only
 * entries that a message of this term's leader reached with its consistency check; libraft
 * names the end of its log, which may be leftovers of an older term that the leader never
 * saw.  The leader counts them, and an entry is acknowledged that no majority holds. */
void repl_guard_open_append(struct repl_core_group *g, const struct raft_append_entries *ae)
{
	struct repl_guard *gd = &g->guard;
	gd->ae_open = false;
	gd->ae_stale = ae->term < g->raft.current_term;
	if (gd->ae_stale)
		return; /* libraft refuses it */
	if (gd->verified_term != ae->term) {
		gd->verified_term = ae->term;
		gd->verified_index = 0;
	}
	gd->ae_top = ae->prev_log_index + ae->n_entries;
	gd->ae_open = true;
	gd->ae_answered = false;
	gd->ae_appended = false;
}

/* Ends the watch: entries that went to the log unanswered have passed the check, their
 * result comes when they are durable. */
void repl_guard_close_append(struct repl_core_group *g)
{
	struct repl_guard *gd = &g->guard;
	if (gd->ae_open && gd->ae_appended && !gd->ae_answered)
		gd->verified_index = VX_MAX(gd->verified_index, gd->ae_top);
	gd->ae_open = gd->ae_stale = false;
}

/* A snapshot of this term's leader verifies everything below it, provided that what we
 * hold at its last index is not something else. */
void repl_guard_note_install(struct repl_core_group *g, const struct raft_install_snapshot *is)
{
	struct repl_guard *gd = &g->guard;
	if (is->term < g->raft.current_term)
		return;
	if (gd->verified_term != is->term) {
		gd->verified_term = is->term;
		gd->verified_index = 0;
	}
	uint64_t local = repl_core_term_of(g, is->last_index);
	bool below_mark = is->last_index <= g->mark_index;
	if (below_mark || local == 0 || local == is->last_term)
		gd->verified_index = VX_MAX(gd->verified_index, is->last_index);
}

/* The clamp itself.  False: the result belongs to a term in which nothing was verified and
 * must not leave at all. */
bool repl_guard_clamp_result(struct repl_core_group *g, struct raft_append_entries_result *res)
{
	struct repl_guard *gd = &g->guard;
	if (gd->ae_open)
		gd->ae_answered = true;
	if (res->rejected != 0)
		return true;
	if (gd->ae_open)
		gd->verified_index = VX_MAX(gd->verified_index, gd->ae_top);
	if (res->term != gd->verified_term)
		return false;
	res->last_log_index = VX_MIN(res->last_log_index, gd->verified_index);
	return true;
}

/* --- rule 2: commit only what the message itself has checked --------------------------- */

/* libraft raises its commit index to min(leader_commit, end of its own log), although the
 * paper says min(leader_commit, index of the last new entry): beyond prev + n our log may
 * differ from the leader's. */
void repl_guard_clamp_leader_commit(struct raft_append_entries *ae)
{
	uint64_t top = ae->prev_log_index + ae->n_entries;
	ae->leader_commit = VX_MIN(ae->leader_commit, top);
}

/* --- rule 3: never commit an old term's entry by counting ------------------------------- */

/* A leader appends entries of its own term. */
void repl_guard_note_own_append(struct repl_core_group *g, uint64_t term)
{
	struct repl_guard *gd = &g->guard;
	if (raft_state(&g->raft) != RAFT_LEADER || term != g->raft.current_term)
		return;
	if (gd->own_term == term)
		return;
	gd->own_term = term;
	gd->own_durable = false;
}

/* An append that ended with an entry of 'last_term' is durable here. */
void repl_guard_note_durable(struct repl_core_group *g, uint64_t last_term)
{
	if (last_term == g->guard.own_term)
		g->guard.own_durable = true;
}

/* Whether a leader must not see a successful result.  libraft 0.15 tests for commit at its
 * last stored index, of whatever term that is: figure 8 of the paper, where an old term's entry
 * that a majority holds can still be overwritten.  So a new leader appends a barrier at once,
 * and until that is durable here -- when the last stored index is of its own term -- results are
 * dropped; the next heartbeat brings a better one. */
bool repl_guard_hold_result(
	const struct repl_core_group *g, const struct raft_append_entries_result *res)
{
	const struct repl_guard *gd = &g->guard;
	if (res->rejected != 0 || raft_state((struct raft *)&g->raft) != RAFT_LEADER ||
		res->term != g->raft.current_term)
		return false;
	return gd->own_term != g->raft.current_term || !gd->own_durable;
}

/* --- rule 4: no elections while the log is busy ------------------------------------------- */

/* A follower that becomes a candidate with an append or an install under way trips an
 * assertion of libraft when that completes, and may campaign with entries it does not hold
 * durably.  So its clock stands still meanwhile. */
bool repl_guard_may_tick(const struct repl_core_group *g)
{
	int state = raft_state((struct raft *)&g->raft);
	return state == RAFT_LEADER || g->pending == 0;
}

/* --- rule 5: one vote per term ------------------------------------------------------------- */

/* While a leadership transfer is under way libraft grants its target a vote even if this
 * term's vote went to somebody else: two leaders in one term. */
bool repl_guard_refuse_vote(const struct repl_core_group *g, const struct raft_request_vote *rv)
{
	return !rv->pre_vote && rv->term == g->raft.current_term && g->raft.voted_for != 0 &&
	       g->raft.voted_for != rv->candidate_id;
}

/* --- rule 6: a broken log is the end ----------------------------------------------------------- */

/* True when the status of a log request means that this node must not go on: the kernel may
 * have dropped the dirty pages, so neither a retry nor a later success proves anything, and
 * everything acknowledged on this node's behalf is in doubt. */
bool repl_guard_log_failed(struct repl_core_group *g, int status)
{
	if (status == 0)
		return false;
	repl_core_fatal(g, status, "the log failed");
	return true;
}

/* --- rule 7: one append batch in flight --------------------------------------------------------- */

/* libraft tests for commit at its last stored index alone, so of two batches in flight
 * the first is not committed before the second is replicated. */
bool repl_guard_may_propose(const struct repl_core_group *g)
{
	return !g->apply_busy && !g->batch_head && !g->barrier_busy;
}

/* --- rule 8: membership changes one at a time ----------------------------------------------------- */

static const struct raft_server *server_of(const struct repl_core_group *g, uint64_t id)
{
	for (unsigned i = 0; i < g->raft.configuration.n; i++) {
		if (g->raft.configuration.servers[i].id == id)
			return &g->raft.configuration.servers[i];
	}
	return NULL;
}

/* 0 when a leader may start the change.  Two majorities of configurations that differ in one voter
 * intersect; of two changes under way they need not.  A leader that has committed nothing in its own
 * term may not know that another leader's change is still to be committed or lost, so it must be ready.
 * A server votes only after it has caught up as a standby.  A leader does not change itself: libraft
 * would count it, or trip over it, until the change is committed. */
int repl_guard_may_change(const struct repl_core_group *g, enum repl_change_kind kind, uint64_t id)
{
	const struct raft_server *s = server_of(g, id);
	if (!repl_core_is_ready(g))
		return -EROFS;
	if (g->change || g->raft.configuration_uncommitted_index != 0)
		return -EBUSY;
	if (id == 0 || id == g->opts.node_id)
		return -EINVAL;
	if (kind == REPL_ADD)
		return s ? -EEXIST : g->raft.configuration.n < REPL_VOTERS_MAX ? 0 : -EINVAL;
	if (!s)
		return -ENOENT;
	switch (kind) {
	case REPL_SPARE:
		return s->role == RAFT_SPARE ? -EEXIST : 0;
	case REPL_STANDBY:
		return s->role == RAFT_STANDBY ? -EEXIST : 0;
	case REPL_VOTER:
		return s->role == RAFT_VOTER ? -EEXIST : s->role == RAFT_STANDBY ? 0 : -EINVAL;
	default:
		return 0;
	}
}

/* --- rules 9, 10: what a snapshot of libraft's may claim ----------------------------------------- */

/* libraft copies its current configuration into a snapshot, committed or not.  And while another
 * node's snapshot is being installed, a mark of what was applied before would go back.  (Rule 9, that
 * the snapshot is as far as the store and not merely as far as the queue, is the contract of
 * host->mark, called from snapshot_async in repl_mark.c.) */
bool repl_guard_snapshot_busy(const struct repl_core_group *g)
{
	return g->raft.configuration_uncommitted_index != 0 || g->installing;
}

/* --- rule 11: our own mark is not a snapshot ------------------------------------------------------- */

/* At start libraft "restores" the mark: the store is there already. */
bool repl_guard_own_mark(const struct repl_core_group *g)
{
	return g->loading;
}

/* --- rule 14: no truncation under an append ----------------------------------------------------------- */

/* libraft adds what a finished append stored to last_stored by comparing terms alone.  If
 * entries are truncated and come back while their first append is still under way, they are
 * counted twice.  And while a snapshot is being installed its log has no entries to apply.
 * So such a message is dropped: the leader sends it again. */
bool repl_guard_may_truncate(const struct repl_core_group *g, const struct raft_append_entries *ae)
{
	if (g->installing)
		return false;
	if (g->pending == 0)
		return true;
	for (unsigned i = 0; i < ae->n_entries; i++) {
		uint64_t index = ae->prev_log_index + 1 + i;
		uint64_t local = repl_core_term_of(g, index);
		if (local == 0)
			break;
		if (local != ae->entries[i].term)
			return false;
	}
	return true;
}

/* --- rule 15: what is committed is not looked at again ------------------------------- */

/* A late or repeated message may carry entries that lie below our mark, which libraft has
 * dropped from its memory.  If the message starts at the very beginning (prev 0) libraft takes
 * them for new ones and appends them to the end of its log.  A leader of this term has every
 * entry that is committed here, so the message may as well begin at our commit index.  False
 * where the terms are known to differ: one of us has lost what was committed, and the message
 * must not reach libraft. */
bool repl_guard_skip_committed(struct repl_core_group *g, struct raft_message *m)
{
	struct raft_append_entries *ae = &m->append_entries;
	uint64_t commit = g->raft.commit_index;
	if (ae->term < g->raft.current_term || ae->prev_log_index >= commit)
		return true;
	uint64_t skip = VX_MIN((uint64_t)ae->n_entries, commit - ae->prev_log_index);
	for (uint64_t i = 0; i < skip; i++) {
		uint64_t local = repl_core_term_of(g, ae->prev_log_index + 1 + i);
		if (local != 0 && local != ae->entries[i].term) {
			log_error("raft",
				"group %u: node %llu has another entry %llu than was "
				"committed here",
				g->opts.group, m->server_id, ae->prev_log_index + 1 + i);
			return false;
		}
	}
	if (skip == ae->n_entries) {
		repl_msg_release(m);
	} else {
		ae->n_entries -= (unsigned)skip;
		memmove(ae->entries, ae->entries + skip, ae->n_entries * sizeof *ae->entries);
	}
	ae->prev_log_index = commit;
	ae->prev_log_term = repl_core_term_of(g, commit);
	return true;
}

/* --- rule 16: a sole voter that starts begins a term ----------------------------------- */

/* libraft makes a sole voter the leader of the term it finds in its log.  But the process before may
 * have led that term too, and have sent entries to standbys that its own log then lost; other entries
 * would get the same index and term, and the standby would keep its own.  So the term is raised, and
 * recorded, before anything is appended.  False: no memory. */
bool repl_guard_begin_term(struct repl_core_group *g)
{
	if (raft_state(&g->raft) != RAFT_LEADER)
		return true;
	uint64_t term = g->raft.current_term + 1;
	if (g->io.set_term(&g->io, term) != 0 || g->io.set_vote(&g->io, g->opts.node_id) != 0)
		return false;
	g->raft.current_term = term;
	g->raft.voted_for = g->opts.node_id;
	return true;
}

/* --- rule 17: the configuration is the last one in the log -------------------------------- */

/* Before a message that truncates: libraft must not go back by itself (see repl_conf.c). */
void repl_guard_keep_configuration(struct repl_core_group *g, const struct raft_append_entries *ae)
{
	for (unsigned i = 0; i < ae->n_entries; i++) {
		uint64_t local = repl_core_term_of(g, ae->prev_log_index + 1 + i);
		if (local == 0)
			return;
		if (local != ae->entries[i].term) {
			g->raft.configuration_uncommitted_index = 0;
			g->conf_wrong = true;
			return;
		}
	}
}

/* After it, and after a start.  False: no memory. */
bool repl_guard_put_configuration_right(struct repl_core_group *g)
{
	return repl_conf_put_right(g) == 0;
}

/* --- rule 18: whoever is asked votes --------------------------------------------------------- */

/* A server may be a voter by an entry that it has not received yet, and its vote be needed to commit
 * that very entry; libraft refuses to vote while it believes to be a standby.  Who may count a vote is
 * the candidate's business (chapter 4.2.2 of Ongaro's thesis), so for the time of the request the
 * server is a voter.  NULL: nothing to take back; else '*ret_role' is. */
struct raft_server *repl_guard_lend_vote(struct repl_core_group *g, int *ret_role)
{
	struct raft_server *self = (struct raft_server *)server_of(g, g->opts.node_id);
	if (!self || self->role == RAFT_VOTER)
		return NULL;
	/* Only a voter's clock forgets a leader of whom nothing was heard. */
	uint64_t now = g->env->ops->now_ms(g->env);
	if (raft_state(&g->raft) == RAFT_FOLLOWER &&
		now - g->raft.election_timer_start >= REPL_ELECTION_MS)
		g->raft.follower_state.current_leader.id = 0;
	*ret_role = self->role;
	self->role = RAFT_VOTER;
	return self;
}

/* --- rule 19: a refusal is one ------------------------------------------------------------------ */

/* libraft refuses a message of an older term by naming its previous index, and takes a refusal that names 0 for success: the
 * answer to the late first message of a node that has come to lead a later term would acknowledge all that is in our
 * memory, durable or not.  A refusal that names another index is old news to whoever leads. */
void repl_guard_refuse_stale(
	const struct repl_core_group *g, struct raft_append_entries_result *res)
{
	if (g->guard.ae_stale && res->rejected == 0)
		res->rejected = 1;
}

/* --- rule 20: who is asked too early says which term it is ------------------------------------- */

/* libraft answers a pre-vote in the candidate's term, also when it refuses because its own is later.  The candidate
 * never hears of that; if only its log is long enough to be elected, nobody ever is. */
void repl_guard_tell_term(const struct repl_core_group *g, struct raft_request_vote_result *res)
{
	if (res->pre_vote == raft_tribool_true && !res->vote_granted)
		res->term = VX_MAX(res->term, g->raft.current_term);
}

/* --- rule 21: no answer to nobody ----------------------------------------------------------------- */

/* An install that ends when the leader is not known any more (rule 18 forgets it) is answered to node 0. */
bool repl_guard_has_receiver(const struct raft_message *m)
{
	return m->server_id != 0 && m->server_address;
}

/* --- the two doors ------------------------------------------------------------------------------------- */

enum repl_verdict repl_guard_receive(struct repl_core_group *g, struct raft_message *m)
{
	switch (m->type) {
	case RAFT_IO_APPEND_ENTRIES:
		if (!g->installing && !repl_guard_skip_committed(g, m))
			return REPL_DROP;
		repl_guard_clamp_leader_commit(&m->append_entries);
		if (!repl_guard_may_truncate(g, &m->append_entries))
			return REPL_DROP;
		repl_guard_keep_configuration(g, &m->append_entries);
		repl_guard_open_append(g, &m->append_entries);
		return REPL_PASS;
	case RAFT_IO_APPEND_ENTRIES_RESULT:
		return repl_guard_hold_result(g, &m->append_entries_result) ? REPL_DROP : REPL_PASS;
	case RAFT_IO_REQUEST_VOTE:
		return repl_guard_refuse_vote(g, &m->request_vote) ? REPL_REFUSE_VOTE : REPL_PASS;
	case RAFT_IO_INSTALL_SNAPSHOT:
		if (g->pending != 0 || g->mark_busy)
			return REPL_DROP; /* rule 14; the leader sends it again */
		repl_guard_note_install(g, &m->install_snapshot);
		return REPL_PASS;
	case RAFT_IO_TIMEOUT_NOW:
		return REPL_DROP; /* rule 5: nobody here transfers leadership */
	default:
		return REPL_PASS;
	}
}

enum repl_verdict repl_guard_send(struct repl_core_group *g, struct raft_message *m)
{
	if (!repl_guard_has_receiver(m))
		return REPL_DROP;
	if (m->type == RAFT_IO_APPEND_ENTRIES_RESULT) {
		repl_guard_refuse_stale(g, &m->append_entries_result);
		if (!repl_guard_clamp_result(g, &m->append_entries_result))
			return REPL_DROP;
	} else if (m->type == RAFT_IO_REQUEST_VOTE_RESULT) {
		repl_guard_tell_term(g, &m->request_vote_result);
	}
	return REPL_PASS;
}
