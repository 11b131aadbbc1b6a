/* test_guard.c - each rule of the guard against the message order that needs it.
 *
 * Three nodes on a quiet network; the tests arrange links, timers and disks by hand, and
 * forge a message only where the order of real ones would take pages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/sim.h"

static struct sim *quiet(void)
{
	struct sim_params p = {
		.seed = 42,
		.n = 3,
		.trailing = 4,
		.mark_bytes = 1u << 20,
		.net_min_ms = 5,
		.net_max_ms = 5,
		.disk_min_ms = 1,
		.disk_max_ms = 1,
	};
	return sim_new(&p);
}

static bool ready(struct sim *h, void *arg)
{
	return sim_leader(h) == *(int *)arg;
}

/* Node 'node' leads with its barrier committed. */
static void lead(struct sim *h, unsigned node)
{
	int want = (int)node;
	assert_true(sim_elect(h, node, 30000));
	assert_true(sim_run_until(h, ready, &want, 2000));
}

static void stand_still(struct sim *h, unsigned node)
{
	assert_int_equal(raft_state(sim_raft(h, node)), RAFT_FOLLOWER);
	sim_raft(h, node)->follower_state.randomized_election_timeout = 1000000;
}

static void end(struct sim *h)
{
	sim_heal(h);
	sim_run(h, 100);
	sim_free(h);
}

/* Node 0 led, was cut off with 'n' entries nobody else has, and stepped down. */
static struct sim *with_stale_tail(unsigned n)
{
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	sim_isolate(h, 0, true);
	sim_propose_many(h, 0, n, 16);
	while (raft_state(sim_raft(h, 0)) != RAFT_FOLLOWER)
		sim_run(h, 50);
	stand_still(h, 0);
	return h;
}

/* Rule 1.  A follower with leftovers answers the first, empty heartbeat of a new leader;
 * the answer is late and meets entries it has never seen. */
static void raft_false_acknowledgement_is_clamped(void **state)
{
	(void)state;
	struct sim *h = with_stale_tail(5);
	sim_cut(h, 1, 0, false);
	sim_latency(h, 0, 1, 300);
	assert_true(sim_elect(h, 1, 30000));
	sim_cut(h, 0, 1, false);
	sim_run(h, 6); /* the heartbeat arrives at node 0 and nothing after it */
	sim_cut(h, 1, 0, true);
	int one = 1;
	assert_true(sim_run_until(h, ready, &one, 200));
	sim_isolate(h, 2, true);
	sim_cut(h, 0, 2, true);
	uint64_t x = sim_propose_many(h, 1, 2, 16);
	sim_run(h, 400); /* the answer of node 0 is in */
	assert_false(sim_acked(h, x));
	assert_false(sim_acked(h, x + 1));
	/* The leader dies; the others carry on without x. */
	sim_crash(h, 1);
	sim_latency(h, 0, 1, 0);
	sim_heal(h);
	lead(h, 2);
	uint64_t v = sim_propose(h, 2, 16);
	sim_run(h, 500);
	assert_true(sim_acked(h, v));
	sim_check_acked(h);
	end(h);
}

static struct raft_message append_message(
	uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit)
{
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_APPEND_ENTRIES;
	m.append_entries.term = term;
	m.append_entries.prev_log_index = prev;
	m.append_entries.prev_log_term = prev_term;
	m.append_entries.leader_commit = commit;
	return m;
}

/* Rule 2.  A leader's commit index beyond what the message checks must not commit leftovers. */
static void raft_leader_commit_is_clamped(void **state)
{
	(void)state;
	struct sim *h = with_stale_tail(5);
	struct raft *r = sim_raft(h, 0);
	uint64_t commit = r->commit_index, last = raft_last_index(r);
	assert_true(last >= commit + 5);
	struct raft_message m = append_message(
		r->current_term + 1, commit, repl_core_term_of(sim_core(h, 0), commit), commit + 4);
	sim_inject(h, 1, 0, &m);
	assert_int_equal(r->commit_index, commit);
	end(h);
}

static struct raft_message result_message(uint64_t term, uint64_t last)
{
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_APPEND_ENTRIES_RESULT;
	m.append_entries_result.term = term;
	m.append_entries_result.last_log_index = last;
	return m;
}

/* Rule 3, figure 8 of the paper.  Node 0 leads again and another node has its old entry;
 * node 2 holds a newer one at the same index.  The old entry must not commit by counting,
 * neither while the new leader's barrier is not durable nor later, for it can still be
 * overwritten -- and then is. */
static void raft_old_term_entry_is_not_committed_by_counting(void **state)
{
	(void)state;
	struct sim *h = with_stale_tail(1);
	uint64_t old = raft_last_index(sim_raft(h, 0));
	/* Node 2 leads a term of its own; its barrier stays with it. */
	assert_true(sim_elect(h, 2, 30000));
	sim_isolate(h, 2, true);
	while (raft_state(sim_raft(h, 2)) != RAFT_FOLLOWER)
		sim_run(h, 50);
	stand_still(h, 2);
	/* Node 0 leads again with node 1, its disk is slow. */
	sim_cut(h, 0, 1, false);
	sim_cut(h, 1, 0, false);
	sim_disk_latency(h, 0, 1);
	sim_disk_latency(h, 1, 5000); /* node 1 stores nothing for now */
	sim_disk_latency(h, 1, 1);
	assert_true(sim_elect(h, 0, 30000));
	sim_disk_latency(h, 0, 400);
	sim_cut(h, 1, 0, true);
	sim_cut(h, 0, 1, true);
	struct raft *r = sim_raft(h, 0);
	assert_true(r->commit_index < old);
	struct raft_message m = result_message(r->current_term, old);
	sim_inject(h, 1, 0, &m); /* the barrier is not durable */
	assert_true(r->commit_index < old);
	sim_run(h, 500); /* now it is */
	assert_int_equal(raft_state(r), RAFT_LEADER);
	assert_true(sim_core(h, 0)->guard.own_durable);
	sim_inject(h, 1, 0, &m);
	assert_true(r->commit_index < old);
	/* Node 2 wins with node 1 and overwrites. */
	sim_crash(h, 0);
	sim_isolate(h, 2, false);
	lead(h, 2);
	uint64_t v = sim_propose(h, 2, 16);
	sim_run(h, 500);
	assert_true(sim_acked(h, v));
	sim_disk_latency(h, 0, 0);
	sim_start(h, 0);
	sim_run(h, 1000);
	sim_check_acked(h);
	end(h);
}

/* Rule 4.  The leader dies while a follower's append is under way. */
static void raft_follower_does_not_campaign_while_it_appends(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	sim_disk_latency(h, 1, 4000);
	sim_disk_latency(h, 2, 1);
	sim_propose(h, 0, 16);
	sim_run(h, 20);
	assert_true(sim_core(h, 1)->pending > 0);
	sim_crash(h, 0);
	sim_isolate(h, 2, true);
	sim_favour(h, 1);
	stand_still(h, 2);
	for (unsigned i = 0; i < 30; i++) {
		sim_run(h, 100);
		assert_int_equal(raft_state(sim_raft(h, 1)), RAFT_FOLLOWER);
	}
	sim_disk_latency(h, 1, 1);
	sim_run(h, 1500); /* the append completes; no assertion of libraft's trips */
	sim_heal(h);
	assert_true(sim_elect(h, 1, 30000));
	end(h);
}

struct votes {
	uint64_t term;
	unsigned granted_to[SIM_NODES_MAX];
};

static void count_votes(void *arg, unsigned from, unsigned to, const struct raft_message *m)
{
	struct votes *v = arg;
	(void)from;
	if (m->type == RAFT_IO_REQUEST_VOTE_RESULT && m->request_vote_result.vote_granted &&
		m->request_vote_result.term == v->term)
		v->granted_to[to]++;
}

static struct raft_message vote_message(
	uint64_t term, uint64_t candidate, uint64_t last, uint64_t last_term)
{
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.request_vote.term = term;
	m.request_vote.candidate_id = candidate;
	m.request_vote.last_log_index = last;
	m.request_vote.last_log_term = last_term;
	m.request_vote.disrupt_leader = true;
	return m;
}

static void transfer_over(struct raft_transfer *t)
{
	(void)t;
}

/* Rule 5.  A leader that transfers leadership to node 2 votes for node 1 in the next term;
 * then node 2 asks for the same term. */
static void raft_one_vote_per_term_during_a_transfer(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	struct raft *r = sim_raft(h, 0);
	struct raft_transfer t = {0};
	sim_isolate(h, 0, true);
	assert_int_equal(raft_transfer(r, &t, 3, transfer_over), 0);
	struct votes v = {.term = r->current_term + 1};
	sim_tap(h, count_votes, &v);
	uint64_t last = raft_last_index(r), last_term = repl_core_term_of(sim_core(h, 0), last);
	struct raft_message one = vote_message(v.term, 2, last, last_term);
	struct raft_message two = vote_message(v.term, 3, last, last_term);
	sim_inject(h, 1, 0, &one);
	assert_non_null(r->transfer);
	sim_inject(h, 2, 0, &two);
	sim_run(h, 50); /* the vote is durable and leaves */
	assert_int_equal(v.granted_to[1], 1);
	assert_int_equal(v.granted_to[2], 0);
	sim_tap(h, NULL, NULL);
	end(h);
}

/* Rule 5.  Nobody transfers leadership, so nobody is told to campaign at once. */
static void raft_timeout_now_is_ignored(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_TIMEOUT_NOW;
	m.timeout_now.term = sim_raft(h, 1)->current_term;
	m.timeout_now.last_log_index = raft_last_index(sim_raft(h, 1));
	m.timeout_now.last_log_term = m.timeout_now.term;
	sim_inject(h, 0, 1, &m);
	assert_int_equal(raft_state(sim_raft(h, 1)), RAFT_FOLLOWER);
	end(h);
}

/* Rule 6.  A follower and then the leader meet an I/O error: they are gone at once, and
 * what they were writing is not acknowledged. */
static void raft_broken_log_ends_the_node(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	sim_isolate(h, 2, true);
	sim_break_log(h, 1, 1);
	uint64_t v = sim_propose(h, 0, 16);
	sim_run(h, 200);
	assert_false(sim_is_up(h, 1));
	assert_false(sim_acked(h, v));
	sim_start(h, 1);
	sim_heal(h);
	sim_run(h, 2000);
	lead(h, 0);
	sim_break_log(h, 0, 1);
	uint64_t w = sim_propose(h, 0, 16);
	sim_run(h, 5);
	assert_false(sim_is_up(h, 0));
	assert_false(sim_acked(h, w));
	assert_true(sim_failed(h, w));
	end(h);
}

/* Rule 7.  What is proposed while an append is under way waits, then goes as one. */
static void raft_one_append_batch_is_in_flight(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	struct raft *r = sim_raft(h, 0);
	uint64_t last = raft_last_index(r);
	uint64_t v = sim_propose(h, 0, 16);
	for (unsigned i = 0; i < 9; i++)
		sim_propose(h, 0, 16);
	assert_int_equal(raft_last_index(r), last + 1);
	while (!sim_acked(h, v))
		sim_run(h, 1);
	assert_int_equal(raft_last_index(r), last + 10);
	sim_run(h, 100);
	assert_true(sim_acked(h, v + 9));
	end(h);
}

/* Rules 9 and 11.  A mark follows the store (the simulator checks every MARK record), and at
 * restart it restores nothing. */
static void raft_own_mark_restores_nothing(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	for (unsigned i = 0; i < 20; i++) {
		sim_propose_many(h, 0, 10, 1 << 14);
		sim_run(h, 100);
	}
	assert_true(sim_core(h, 0)->mark_index > 10);
	assert_true(sim_core(h, 1)->mark_index > 10);
	uint64_t mark = sim_core(h, 1)->mark_index, applied = sim_applied(h, 1);
	sim_crash(h, 1);
	sim_start(h, 1);
	assert_int_equal(sim_applied(h, 1), mark);
	sim_run(h, 2000);
	assert_true(sim_applied(h, 1) >= applied);
	assert_int_equal(sim_installs(h), 0);
	end(h);
}

static void change_over(struct raft_change *c, int status)
{
	(void)c;
	(void)status;
}

/* Rule 10.  No snapshot of a configuration that may yet be rolled back. */
static void raft_no_mark_during_a_configuration_change(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	sim_isolate(h, 0, true);
	struct repl_core_group *g = sim_core(h, 0);
	struct raft_change change;
	assert_int_equal(raft_add(&g->raft, &change, 9, "9", change_over), 0);
	assert_true(g->raft.configuration_uncommitted_index > 0);
	struct raft_buffer *bufs;
	unsigned n;
	assert_int_equal(g->fsm.snapshot(&g->fsm, &bufs, &n), RAFT_BUSY);
	assert_false(g->mark_busy);
	sim_crash(h, 0);
	end(h);
}

/* Rule 12.  Barriers and configurations are reported: every node reaches the leader's last
 * index although the last entry is a barrier. */
static void raft_barriers_are_posted_as_watermarks(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 500);
	uint64_t last = raft_last_index(sim_raft(h, 0));
	assert_int_equal(last, 2); /* the configuration and one barrier */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(sim_applied(h, i), last);
	end(h);
}

/* Rule 14.  A message that would truncate entries whose append is under way is dropped. */
static void raft_no_truncation_under_an_append(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	sim_disk_latency(h, 1, 1000);
	sim_propose_many(h, 0, 3, 16);
	sim_run(h, 10);
	struct raft *r = sim_raft(h, 1);
	uint64_t last = raft_last_index(r), term = r->current_term;
	assert_int_equal(sim_core(h, 1)->pending, 1);
	/* Another leader's entry in place of the first of the three. */
	struct raft_entry *e = raft_calloc(1, sizeof *e);
	uint64_t word = 0;
	*e = (struct raft_entry){
		.term = term + 1, .type = RAFT_BARRIER, .buf = {.base = &word, .len = 8}};
	struct raft_message m = append_message(term + 1, last - 3, term, 0);
	m.append_entries.entries = e;
	m.append_entries.n_entries = 1;
	sim_cut(h, 0, 1, true);
	sim_inject(h, 2, 1, &m);
	assert_int_equal(raft_last_index(r), last);
	sim_run(h, 1100);
	assert_int_equal(sim_core(h, 1)->pending, 0);
	assert_int_equal(r->last_stored, last);
	raft_free(e);
	end(h);
}

/* Node 1 was cut off for long and has begun to install a snapshot, on a slow disk. */
static struct sim *with_install(void)
{
	struct sim *h = quiet();
	lead(h, 0);
	sim_isolate(h, 1, true);
	for (unsigned i = 0; i < 20; i++) {
		sim_propose_many(h, 0, 10, 1 << 14);
		sim_run(h, 100);
	}
	assert_true(sim_core(h, 0)->mark_index > 20);
	sim_disk_latency(h, 1, 700);
	sim_heal(h);
	for (unsigned i = 0; i < 400 && !sim_core(h, 1)->installing; i++)
		sim_run(h, 10);
	assert_true(sim_core(h, 1)->installing);
	return h;
}

/* Rule 14.  While a snapshot is being installed libraft has no entries to apply. */
static void raft_no_append_during_an_install(void **state)
{
	(void)state;
	struct sim *h = with_install();
	struct raft *r = sim_raft(h, 1);
	struct raft_message m = append_message(r->current_term, raft_last_index(r),
		repl_core_term_of(sim_core(h, 1), raft_last_index(r)), raft_last_index(r));
	sim_inject(h, 0, 1, &m);
	assert_true(r->commit_index < raft_last_index(r));
	sim_disk_latency(h, 1, 1);
	sim_run(h, 4000);
	assert_true(sim_installs(h) > 0);
	assert_int_equal(sim_applied(h, 1), sim_applied(h, 0));
	end(h);
}

/* Rule 15.  A repeated first message must not append old entries to a log that begins later. */
static void raft_late_first_message_appends_nothing(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	for (unsigned i = 0; i < 20; i++) {
		sim_propose_many(h, 0, 10, 1 << 14);
		sim_run(h, 100);
	}
	struct raft *r = sim_raft(h, 1);
	uint64_t last = raft_last_index(r);
	assert_true(sim_core(h, 1)->mark_index > 20);
	struct raft_entry *e = raft_calloc(3, sizeof *e);
	uint64_t word = 0;
	for (unsigned i = 0; i < 3; i++)
		e[i] = (struct raft_entry){.term = i == 0 ? 1 : r->current_term,
			.type = RAFT_BARRIER,
			.buf = {.base = &word, .len = 8}};
	struct raft_message m = append_message(r->current_term, 0, 0, 0);
	m.append_entries.entries = e;
	m.append_entries.n_entries = 3;
	sim_inject(h, 0, 1, &m);
	assert_int_equal(raft_last_index(r), last);
	sim_run(h, 300);
	assert_int_equal(raft_last_index(r), last);
	raft_free(e);
	end(h);
}

/* Rule 19.  A follower holds entries that are not on its disk yet when a message of an older term comes, the first one that
 * there was: its answer acknowledges nothing. */
static void raft_refusal_of_an_old_message_acknowledges_nothing(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	struct raft *r = sim_raft(h, 1);
	assert_true(r->current_term > 1);
	sim_isolate(h, 2, true);
	sim_disk_latency(h, 1, 700);
	uint64_t x = sim_propose(h, 0, 16);
	sim_run(h, 30);
	assert_true(sim_core(h, 1)->pending > 0);
	struct raft_message m = append_message(r->current_term - 1, 0, 0, 0);
	sim_inject(h, 0, 1, &m);
	sim_run(h, 100);
	assert_false(sim_acked(h, x));
	sim_disk_latency(h, 1, 1);
	sim_run(h, 1500);
	assert_true(sim_acked(h, x));
	end(h);
}

struct refusals {
	uint64_t term;
	unsigned n;
};

static void note_refusal(void *arg, unsigned from, unsigned to, const struct raft_message *m)
{
	struct refusals *v = arg;
	if (m->type != RAFT_IO_REQUEST_VOTE_RESULT || from != 1 || to != 2 ||
		m->request_vote_result.vote_granted)
		return;
	v->term = m->request_vote_result.term;
	v->n++;
}

/* Rule 20.  A candidate of an older term that asks whether it would be elected hears of the later one. */
static void raft_refused_pre_vote_tells_the_term(void **state)
{
	(void)state;
	struct sim *h = quiet();
	lead(h, 0);
	sim_run(h, 300);
	sim_isolate(h, 0, true);
	lead(h, 1);
	struct raft *r = sim_raft(h, 1);
	struct refusals v = {0};
	sim_tap(h, note_refusal, &v);
	uint64_t term = r->current_term;
	assert_true(term > 2);
	struct raft_message m = vote_message(term - 1, 3, raft_last_index(r) + 5, term);
	m.request_vote.pre_vote = true;
	m.request_vote.disrupt_leader = false;
	sim_inject(h, 2, 1, &m);
	sim_run(h, 20);
	assert_int_equal(v.n, 1);
	assert_int_equal(v.term, term);
	assert_int_equal(r->current_term, term);
	sim_tap(h, NULL, NULL);
	end(h);
}

/* Rule 21.  An install ends after its leader was forgotten; the simulator dies of a message to nobody. */
static void raft_install_ends_without_a_leader(void **state)
{
	(void)state;
	struct sim *h = with_install();
	sim_isolate(h, 1, true);
	stand_still(h, 1);
	sim_raft(h, 1)->follower_state.current_leader.id = 0; /* as a vote that is lent does */
	sim_run(h, 1000);
	assert_false(sim_core(h, 1)->installing);
	sim_heal(h);
	sim_disk_latency(h, 1, 1);
	sim_run(h, 4000);
	assert_int_equal(sim_applied(h, 1), sim_applied(h, 0));
	end(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(raft_false_acknowledgement_is_clamped),
		cmocka_unit_test(raft_leader_commit_is_clamped),
		cmocka_unit_test(raft_old_term_entry_is_not_committed_by_counting),
		cmocka_unit_test(raft_follower_does_not_campaign_while_it_appends),
		cmocka_unit_test(raft_one_vote_per_term_during_a_transfer),
		cmocka_unit_test(raft_timeout_now_is_ignored),
		cmocka_unit_test(raft_broken_log_ends_the_node),
		cmocka_unit_test(raft_one_append_batch_is_in_flight),
		cmocka_unit_test(raft_own_mark_restores_nothing),
		cmocka_unit_test(raft_no_mark_during_a_configuration_change),
		cmocka_unit_test(raft_barriers_are_posted_as_watermarks),
		cmocka_unit_test(raft_no_truncation_under_an_append),
		cmocka_unit_test(raft_no_append_during_an_install),
		cmocka_unit_test(raft_late_first_message_appends_nothing),
		cmocka_unit_test(raft_refusal_of_an_old_message_acknowledges_nothing),
		cmocka_unit_test(raft_refused_pre_vote_tells_the_term),
		cmocka_unit_test(raft_install_ends_without_a_leader),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
