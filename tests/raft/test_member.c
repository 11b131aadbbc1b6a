/* test_member.c - members come and go, snapshots travel: rules 8, 16, 17 and 18, and installs.
 *
 * A quiet network, as in test_guard.c; the faults are placed by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/sim_i.h"

static struct sim *quiet(unsigned n, unsigned extra)
{
	struct sim_params p = {
		.seed = 7,
		.n = n,
		.extra = extra,
		.trailing = 4,
		.mark_bytes = 1u << 20,
		.net_min_ms = 5,
		.net_max_ms = 5,
		.disk_min_ms = 1,
		.disk_max_ms = 1,
		.abort = true,
	};
	return sim_new(&p);
}

static bool ready(struct sim *s, void *arg)
{
	return sim_leader(s) == *(int *)arg;
}

static void lead(struct sim *s, unsigned node)
{
	int want = (int)node;
	assert_true(sim_elect(s, node, 30000));
	assert_true(sim_run_until(s, ready, &want, 2000));
	sim_run(s, 300);
}

static void end(struct sim *s)
{
	sim_heal(s);
	sim_run(s, 100);
	sim_free(s);
}

struct ask {
	struct repl_change_req req;
	bool over;
	int status;
};

static void on_done(struct repl_change_req *req, int status)
{
	struct ask *a = VX_CONTAINER_OF(req, struct ask, req);
	a->over = true;
	a->status = status;
}

static void ask(
	struct sim *s, unsigned node, struct ask *a, enum repl_change_kind kind, uint64_t id)
{
	*a = (struct ask){.req = {.kind = kind, .id = id, .done = on_done}};
	repl_core_change(sim_core(s, node), &a->req);
}

static int change(struct sim *s, unsigned node, enum repl_change_kind kind, uint64_t id)
{
	struct ask a;
	ask(s, node, &a, kind, id);
	for (unsigned i = 0; i < 100 && !a.over; i++)
		sim_run(s, 50);
	assert_true(a.over);
	return a.status;
}

static enum repl_change_kind role_of(struct sim *s, unsigned node, uint64_t id)
{
	struct repl_server sv[REPL_VOTERS_MAX];
	bool committed;
	unsigned n = repl_core_servers(sim_core(s, node), sv, VX_ARRAY_SIZE(sv), &committed);
	for (unsigned i = 0; i < n; i++) {
		if (sv[i].id == id)
			return sv[i].role;
	}
	return REPL_REMOVE;
}

/* Rule 8.  A machine joins as a spare, learns as a standby, then votes, and is removed. */
static void raft_members_change_one_step_at_a_time(void **state)
{
	(void)state;
	struct sim *s = quiet(3, 1);
	lead(s, 0);
	assert_true(sim_start(s, 3));
	assert_int_equal(change(s, 0, REPL_VOTER, 4), -ENOENT);
	assert_int_equal(change(s, 0, REPL_ADD, 4), 0);
	assert_int_equal(role_of(s, 0, 4), REPL_SPARE);
	assert_int_equal(change(s, 0, REPL_ADD, 4), -EEXIST);
	assert_int_equal(change(s, 0, REPL_VOTER, 4), -EINVAL);
	assert_int_equal(change(s, 0, REPL_STANDBY, 4), 0);
	uint64_t v = sim_propose(s, 0, 16);
	sim_run(s, 500);
	assert_true(sim_acked(s, v));
	assert_int_equal(sim_applied(s, 3), sim_applied(s, 0));
	assert_int_equal(change(s, 0, REPL_VOTER, 4), 0);
	assert_int_equal(role_of(s, 0, 4), REPL_VOTER);
	/* It counts: with it two of the four others are not enough, three are. */
	sim_isolate(s, 1, true);
	v = sim_propose(s, 0, 16);
	sim_run(s, 200);
	assert_true(sim_acked(s, v));
	sim_isolate(s, 1, false);
	assert_int_equal(change(s, 0, REPL_REMOVE, 4), 0);
	assert_int_equal(role_of(s, 0, 4), REPL_REMOVE);
	end(s);
}

/* Rule 8.  Not by a follower, not the leader itself, not two at once. */
static void raft_members_change_is_refused(void **state)
{
	(void)state;
	struct sim *s = quiet(3, 0);
	struct ask one, two;
	lead(s, 0);
	assert_int_equal(change(s, 1, REPL_ADD, 9), -EROFS);
	assert_int_equal(change(s, 0, REPL_REMOVE, 1), -EINVAL);
	assert_int_equal(change(s, 0, REPL_STANDBY, 1), -EINVAL);
	ask(s, 0, &one, REPL_ADD, 9);
	ask(s, 0, &two, REPL_ADD, 10);
	assert_false(one.over);
	assert_true(two.over);
	assert_int_equal(two.status, -EBUSY);
	sim_run(s, 500);
	assert_true(one.over);
	assert_int_equal(one.status, 0);
	/* A leadership that ends leaves the outcome open. */
	sim_isolate(s, 0, true);
	ask(s, 0, &one, REPL_REMOVE, 9);
	sim_run(s, 5000);
	assert_true(one.over);
	assert_int_equal(one.status, -ETIMEDOUT);
	end(s);
}

/* Rule 16.  A sole voter begins a term at each start, before it appends anything. */
static void raft_sole_voter_starts_in_a_new_term(void **state)
{
	(void)state;
	struct sim *s = quiet(1, 0);
	uint64_t term = 0;
	for (unsigned i = 0; i < 3; i++) {
		sim_run(s, 300);
		assert_int_equal(sim_leader(s), 0);
		assert_true(sim_raft(s, 0)->current_term > term);
		term = sim_raft(s, 0)->current_term;
		uint64_t v = sim_propose(s, 0, 16);
		sim_run(s, 100);
		assert_true(sim_acked(s, v));
		assert_int_equal(repl_core_term_of(sim_core(s, 0), sim_applied(s, 0)), term);
		sim_crash(s, 0);
		assert_true(sim_start(s, 0));
	}
	end(s);
}

/* Rule 17.  A configuration that was not committed is not committed after a restart either, and goes
 * with its entry. */
static void raft_uncommitted_configuration_is_rolled_back(void **state)
{
	(void)state;
	struct sim *s = quiet(3, 0);
	struct ask a;
	lead(s, 0);
	sim_isolate(s, 0, true);
	ask(s, 0, &a, REPL_ADD, 9);
	sim_run(s, 50);
	sim_crash(s, 0);
	assert_true(sim_start(s, 0));
	assert_int_equal(sim_raft(s, 0)->configuration.n, 4);
	assert_int_not_equal(sim_raft(s, 0)->configuration_uncommitted_index, 0);
	lead(s, 1);
	uint64_t v = sim_propose(s, 1, 16);
	sim_run(s, 100);
	sim_heal(s);
	sim_run(s, 2000);
	assert_true(sim_acked(s, v));
	assert_int_equal(sim_raft(s, 0)->configuration.n, 3);
	assert_int_equal(sim_raft(s, 0)->configuration_uncommitted_index, 0);
	assert_int_equal(sim_applied(s, 0), sim_applied(s, 1));
	end(s);
}

/* Rule 17.  The same where the configuration before it lies below the mark. */
static void raft_configuration_below_the_mark_is_gone_back_to(void **state)
{
	(void)state;
	struct sim *s = quiet(3, 0);
	struct ask a;
	lead(s, 0);
	for (unsigned i = 0; i < 20; i++) {
		sim_propose_many(s, 0, 10, 1 << 14);
		sim_run(s, 100);
	}
	assert_true(sim_core(s, 0)->mark_index > 10);
	sim_isolate(s, 0, true);
	ask(s, 0, &a, REPL_ADD, 9);
	sim_run(s, 50);
	assert_int_equal(sim_raft(s, 0)->configuration.n, 4);
	while (raft_state(sim_raft(s, 0)) == RAFT_LEADER)
		sim_run(s, 50);
	lead(s, 1);
	sim_propose(s, 1, 16);
	sim_run(s, 100);
	sim_heal(s);
	sim_run(s, 3000);
	assert_int_equal(sim_raft(s, 0)->configuration.n, 3);
	assert_int_equal(sim_applied(s, 0), sim_applied(s, 1));
	end(s);
}

static bool has_leader(struct sim *s, void *arg)
{
	(void)arg;
	return sim_leader(s) >= 0;
}

/* Rule 18.  A sole voter makes a standby a voter and dies when only its own log knows: the standby's
 * vote is needed to commit that. */
static void raft_standby_votes_when_it_is_asked(void **state)
{
	(void)state;
	struct sim *s = quiet(1, 1);
	struct ask a;
	sim_run(s, 300);
	assert_true(sim_start(s, 1));
	assert_int_equal(change(s, 0, REPL_ADD, 2), 0);
	assert_int_equal(change(s, 0, REPL_STANDBY, 2), 0);
	sim_propose(s, 0, 16);
	sim_run(s, 1000);
	assert_int_equal(sim_applied(s, 1), sim_applied(s, 0));
	sim_cut(s, 0, 1, true);
	ask(s, 0, &a, REPL_VOTER, 2);
	sim_run(s, 50);
	assert_int_equal(role_of(s, 0, 2), REPL_VOTER);
	assert_int_equal(role_of(s, 1, 2), REPL_STANDBY);
	sim_crash(s, 0);
	sim_heal(s);
	assert_true(sim_start(s, 0));
	assert_int_equal(raft_state(sim_raft(s, 0)), RAFT_FOLLOWER);
	assert_true(sim_run_until(s, has_leader, NULL, 30000));
	sim_run(s, 1000);
	assert_int_equal(role_of(s, 1, 2), REPL_VOTER);
	end(s);
}

/* Node 1 is far behind, and the snapshot that brings it up to date is in its log writer's queue. */
static struct sim *with_install_in_the_queue(void)
{
	struct sim *s = quiet(3, 0);
	lead(s, 0);
	sim_isolate(s, 1, true);
	for (unsigned i = 0; i < 20; i++) {
		sim_propose_many(s, 0, 10, 1 << 14);
		sim_run(s, 100);
	}
	assert_true(sim_core(s, 0)->mark_index > 20);
	sim_disk_latency(s, 1, 2000);
	sim_heal(s);
	for (unsigned i = 0; i < 4000 && !sim_core(s, 1)->installing; i++)
		sim_run(s, 5);
	assert_true(sim_core(s, 1)->installing);
	assert_non_null(s->nodes[1].queue);
	return s;
}

static void ignore(struct wal_req *req, int status)
{
	(void)req;
	assert_int_equal(status, 0);
}

/* The log says that the snapshot is installed, the store has not become it: the next start does that. */
static void raft_install_cut_short_after_the_log_is_completed(void **state)
{
	(void)state;
	struct sim *s = with_install_in_the_queue();
	struct sim_node *n = &s->nodes[1];
	uint64_t index = sim_core(s, 1)->last_index;
	for (struct repl_log_op *op = n->queue; op; op = op->next) {
		op->req.done = ignore;
		op->req.next = op->next ? &op->next->req : NULL;
	}
	wal_writer_run(n->wal, &n->refused, &n->queue->req);
	sim_crash(s, 1);
	assert_true(sim_applied(s, 1) < index);
	assert_true(sim_start(s, 1));
	assert_true(sim_applied(s, 1) >= index);
	sim_disk_latency(s, 1, 1);
	sim_run(s, 4000);
	assert_int_equal(sim_applied(s, 1), sim_applied(s, 0));
	end(s);
}

/* The log does not say so: nothing has changed. */
static void raft_install_cut_short_before_the_log_changes_nothing(void **state)
{
	(void)state;
	struct sim *s = with_install_in_the_queue();
	uint64_t index = sim_core(s, 1)->last_index;
	uint64_t last = wal_group_last(wal_group_find(s->nodes[1].wal, 1));
	s->nodes[1].doomed = true; /* nothing of the queue gets to the disk */
	sim_crash(s, 1);
	assert_true(sim_start(s, 1));
	assert_true(sim_applied(s, 1) < index);
	assert_int_equal(sim_core(s, 1)->last_index, last);
	sim_disk_latency(s, 1, 1);
	sim_run(s, 8000);
	assert_int_equal(sim_applied(s, 1), sim_applied(s, 0));
	end(s);
}

/* Rule 10.  No mark, aside or not, while a snapshot is being installed: it would go back. */
static void raft_no_mark_during_an_install(void **state)
{
	(void)state;
	struct sim *s = with_install_in_the_queue();
	struct repl_core_group *g = sim_core(s, 1);
	struct raft_buffer *bufs;
	unsigned n;
	assert_int_equal(g->fsm.snapshot(&g->fsm, &bufs, &n), RAFT_BUSY);
	repl_core_mark_aside(g);
	assert_false(g->mark_busy);
	sim_disk_latency(s, 1, 1);
	sim_run(s, 6000);
	assert_true(sim_is_up(s, 1));
	assert_int_equal(sim_applied(s, 1), sim_applied(s, 0));
	end(s);
}

/* A group that died with an append under way, and one that closes with one, come to their end. */
static void raft_close_bears_what_is_under_way(void **state)
{
	(void)state;
	struct sim *s = quiet(3, 1);
	struct ask a;
	lead(s, 0);
	sim_disk_latency(s, 0, 1000);
	sim_propose_many(s, 0, 3, 64);
	ask(s, 0, &a, REPL_ADD, 4);
	sim_run(s, 10);
	assert_true(sim_core(s, 0)->pending > 1);
	sim_crash(s, 0);
	assert_true(a.over);
	assert_int_equal(a.status, -ETIMEDOUT);
	assert_true(sim_start(s, 0));
	sim_disk_latency(s, 0, 1);
	lead(s, 1);
	sim_break_log(s, 1, 1);
	sim_propose_many(s, 1, 3, 64);
	sim_run(s, 10);
	assert_false(sim_is_up(s, 1));
	end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(raft_members_change_one_step_at_a_time),
		cmocka_unit_test(raft_members_change_is_refused),
		cmocka_unit_test(raft_sole_voter_starts_in_a_new_term),
		cmocka_unit_test(raft_uncommitted_configuration_is_rolled_back),
		cmocka_unit_test(raft_configuration_below_the_mark_is_gone_back_to),
		cmocka_unit_test(raft_standby_votes_when_it_is_asked),
		cmocka_unit_test(raft_install_cut_short_after_the_log_is_completed),
		cmocka_unit_test(raft_install_cut_short_before_the_log_changes_nothing),
		cmocka_unit_test(raft_no_mark_during_an_install),
		cmocka_unit_test(raft_close_bears_what_is_under_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
