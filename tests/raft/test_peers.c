/* test_peers.c - marks, installs, messages and members of cores that run, and what they do when the env, the
 * host or a peer refuses or is strange.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../wal/fakedisk.h"
#include "nodes.h"

/* --- memory ------------------------------------------------------------------------------------- */

#define USED 0xa5 /* what memory holds that was somebody else's before */

static void *used_malloc(void *data, size_t n)
{
	void *p = malloc(n);
	(void)data;
	if (p)
		memset(p, USED, n);
	return p;
}

static void used_free(void *data, void *p)
{
	(void)data;
	free(p);
}

static void *used_calloc(void *data, size_t n, size_t size)
{
	(void)data;
	return calloc(n, size);
}

static void *used_realloc(void *data, void *p, size_t n)
{
	(void)data;
	return realloc(p, n);
}

static void *used_aligned_alloc(void *data, size_t align, size_t n)
{
	(void)data;
	return aligned_alloc(align, n);
}

static void used_aligned_free(void *data, size_t align, void *p)
{
	(void)align;
	used_free(data, p);
}

/* libraft sets nothing in a barrier, nor in what fills a configuration up to whole words: neither the log nor the
 * other nodes get what was in memory before. */
static void raft_entries_hold_nothing_of_the_heap(void **state)
{
	(void)state;
	static struct raft_heap used = {.malloc = used_malloc,
		.free = used_free,
		.calloc = used_calloc,
		.realloc = used_realloc,
		.aligned_alloc = used_aligned_alloc,
		.aligned_free = used_aligned_free};
	unsigned barriers = 0, changes = 0;
	raft_heap_set(&used);
	struct nodes *c = nodes_with_leader(4, 3, 0);
	assert_int_equal(nodes_change(c, 0, REPL_ADD, 4), 0);
	assert_int_equal(nodes_change(c, 0, REPL_STANDBY, 4), 0);
	nodes_run(c, 1000);
	for (unsigned i = 0; i < 4; i++) {
		const struct wal_group_state *st = &c->node[i].log;
		for (size_t k = 0; k < st->n_entries; k++) {
			const struct wal_entry *e = &st->entries[k];
			barriers += e->etype == RAFT_BARRIER && e->len > 0;
			changes += e->etype == RAFT_CHANGE;
			if (e->etype != RAFT_COMMAND && e->len > 0)
				assert_null(memchr(e->data, USED, e->len));
		}
	}
	assert_true(barriers >= 4 && changes >= 8);
	nodes_free(c);
	raft_heap_set_default();
}

/* --- marks -------------------------------------------------------------------------------------- */

/* Whatever refuses a mark -- the host, the worker's queue -- its status is told, nothing changes, and the next one
 * succeeds. */
static void raft_refused_mark_changes_nothing(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(1, 1, 0);
	struct node *n = &c->node[0];
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	uint64_t mark = n->core->mark_index;
	static const int statuses[] = {-EAGAIN, -EIO, -ENOSPC, -ENOMEM, -EUCLEAN, -EMSGSIZE};
	for (unsigned i = 0; i < VX_ARRAY_SIZE(statuses); i++) {
		n->mark_status = statuses[i];
		assert_int_equal(nodes_mark(c, 0), statuses[i]);
		assert_int_equal(n->core->mark_index, mark);
	}
	n->mark_status = 0;
	n->work_status = -ENOMEM;
	assert_int_equal(nodes_mark(c, 0), -ETIMEDOUT);
	assert_int_equal(n->core->mark_index, mark);
	assert_int_equal(nodes_mark(c, 0), 0);
	assert_true(n->core->mark_index > mark);
	assert_int_equal(nodes_mark(c, 0), 0); /* nothing new */
	nodes_check(c);
	nodes_free(c);
}

/* The same of a mark aside from libraft, which nobody waits for. */
static void raft_refused_mark_aside_changes_nothing(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(3, 3, 0);
	struct node *n = &c->node[0];
	struct repl_core_group *g = n->core;
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	for (unsigned k = 0; k < 3; k++) {
		n->work_status = k == 0 ? -ENOMEM : 0;
		n->mark_status = k == 1 ? -EIO : 0;
		repl_core_mark_aside(g);
		if (k == 2) { /* a change begins while the store works */
			struct nodes_told t = {
				.change = {.kind = REPL_ADD, .id = 9, .done = nodes_told_change},
				.change_status = 1};
			n->hold_log = true;
			repl_core_change(g, &t.change);
			nodes_finish_works(n);
			n->hold_log = false;
			nodes_run(c, 500);
			assert_int_equal(t.change_status, 0);
		}
		nodes_run(c, 500);
		assert_int_equal(g->mark_index, 0);
		assert_false(g->mark_busy);
	}
	repl_core_mark_aside(g);
	nodes_run(c, 500);
	assert_true(g->mark_index > 0);
	uint64_t mark = g->mark_index;
	repl_core_mark_aside(g); /* nothing new */
	repl_core_force_mark(g);
	nodes_run(c, 500);
	assert_int_equal(g->mark_index, mark);
	nodes_check(c);
	nodes_free(c);
}

/* Who asks while an attempt is under way, for more than it covers, is answered by the next one. */
static void raft_mark_answers_who_it_covers(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(1, 1, 0);
	struct node *n = &c->node[0];
	struct nodes_told one, two;
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	n->hold_works = true;
	nodes_ask_mark(n->core, &one);
	nodes_run(c, 300);
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	nodes_ask_mark(n->core, &two);
	nodes_finish_works(n);
	nodes_finish_log(n);
	assert_int_equal(one.mark_status, 0);
	assert_int_equal(two.mark_status, 1);
	n->hold_works = false;
	nodes_run(c, 1000);
	assert_int_equal(two.mark_status, 0);
	/* And at the end of the group nobody is left without an answer. */
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	n->hold_works = true;
	nodes_ask_mark(n->core, &one);
	nodes_run(c, 300);
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	nodes_ask_mark(n->core, &two);
	nodes_stop(c, 0);
	assert_int_not_equal(one.mark_status, 1);
	assert_int_not_equal(two.mark_status, 1);
	nodes_check(c);
	nodes_free(c);
}

/* --- installs ------------------------------------------------------------------------------------- */

/* Node 2 is behind the mark of its leader. */
static struct nodes *with_one_behind(void)
{
	struct nodes *c = nodes_with_leader(3, 3, 0);
	c->cut[2] = true;
	for (unsigned i = 0; i < 8; i++) {
		nodes_propose(c, 0, 400);
		nodes_run(c, 50);
	}
	assert_int_equal(nodes_mark(c, 0), 0);
	assert_true(c->node[0].core->mark_index > 8);
	return c;
}

/* A snapshot that cannot be fetched, or for which there is no worker, is fetched when that is over. */
static void raft_install_that_is_not_fetched_is_repeated(void **state)
{
	(void)state;
	struct nodes *c = with_one_behind();
	struct node *n = &c->node[2];
	static const int statuses[] = {-EAGAIN, -EHOSTUNREACH, -EIO, -EUCLEAN};
	c->cut[2] = false;
	for (unsigned i = 0; i < VX_ARRAY_SIZE(statuses); i++) {
		n->fetch_status = statuses[i];
		nodes_run(c, 3000);
		assert_int_equal(n->core->mark_index, 0);
		assert_null(n->core->fetch);
	}
	n->fetch_status = 0;
	n->work_status = -ENOMEM;
	nodes_run(c, 6000);
	assert_int_equal(n->work_status, 0);
	assert_true(n->core->mark_index > 0);
	nodes_check(c);
	nodes_free(c);
}

/* A fetch that ends after the group did, or while it closes, changes nothing. */
static void raft_install_fetched_too_late_changes_nothing(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 3; how++) {
		struct nodes *c = with_one_behind();
		struct node *n = &c->node[2];
		n->hold_works = true;
		c->cut[2] = false;
		for (unsigned i = 0; i < 600 && n->n_works == 0; i++)
			nodes_run(c, 10);
		assert_non_null(n->core->fetch);
		uint64_t last = n->core->last_index;
		if (how == 0) { /* a second one arrives meanwhile */
			nodes_run(c, 4000);
			assert_int_equal(n->n_works, 1);
		} else if (how == 1) {
			n->fetch_status = -EIO;
			repl_core_fatal(n->core, -EIO, "in a test");
			nodes_finish_works(n);
			assert_int_equal(n->core->last_index, last);
		} else {
			nodes_stop(c, 2);
			assert_int_equal(n->log.mark_index, 0);
		}
		nodes_check(c);
		nodes_free(c);
	}
}

/* The store does not become what was fetched: libraft gives the group up, and the next start mends it. */
static void raft_install_that_is_not_restored_is_recovered(void **state)
{
	(void)state;
	struct nodes *c = with_one_behind();
	struct node *n = &c->node[2];
	n->restore_status = -EIO;
	c->cut[2] = false;
	for (unsigned i = 0; i < 600 && n->log.mark_index == 0; i++)
		nodes_run(c, 10);
	assert_true(n->log.mark_index > 0);
	nodes_stop(c, 2);
	n->restore_status = 0;
	n->recover_status = -EUCLEAN;
	assert_int_equal(nodes_start(c, 2), -EUCLEAN);
	n->recover_status = 0;
	assert_int_equal(nodes_start(c, 2), 0);
	nodes_check(c);
	nodes_free(c);
}

static struct raft_message install_message(const struct repl_core_group *g, void *data, size_t len)
{
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_INSTALL_SNAPSHOT;
	m.install_snapshot.term = g->raft.current_term;
	m.install_snapshot.last_index = 100;
	m.install_snapshot.last_term = g->raft.current_term;
	m.install_snapshot.data = (struct raft_buffer){.base = data, .len = len};
	return m;
}

/* A snapshot that is not one of ours is dropped; an old leader's is answered without a fetch. */
static void raft_strange_install_is_dropped(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(3, 3, 0);
	struct repl_core_group *g = c->node[1].core;
	uint8_t data[REPL_BLOB_HEAD_BYTES] = {0};
	uint64_t last = g->last_index;
	struct raft_message m = install_message(g, data, REPL_BLOB_HEAD_BYTES - 1);
	nodes_inject(c, 0, 1, &m);
	m.install_snapshot.data.len = 0;
	nodes_inject(c, 0, 1, &m);
	m.install_snapshot.data.len = REPL_BLOB_HEAD_BYTES; /* of index 0 */
	nodes_inject(c, 0, 1, &m);
	assert_null(g->fetch);
	put_le64(data, 100);
	m.install_snapshot.term = g->raft.current_term - 1;
	nodes_inject(c, 0, 1, &m);
	assert_null(g->fetch);
	assert_int_equal(g->last_index, last);
	nodes_check(c);
	nodes_free(c);
}

/* A mark whose manifest has no head of ours does not start; without a recover there is nothing to ask. */
static void raft_manifest_without_a_head_is_refused(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(1, 1, 0);
	struct node *n = &c->node[0];
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	assert_int_equal(nodes_mark(c, 0), 0);
	nodes_stop(c, 0);
	struct repl_manifest m;
	struct buf b = BUF_INIT, old = {.data = n->log.manifest, .len = n->log.manifest_len};
	assert_int_equal(repl_manifest_decode(old.data, old.len, &m), 0);
	m.host_len = REPL_BLOB_HEAD_BYTES - 1;
	assert_int_equal(repl_manifest_encode(&m, &b), 0);
	raft_configuration_close(&m.conf);
	n->log.manifest = b.data;
	n->log.manifest_len = b.len;
	assert_int_equal(nodes_start(c, 0), -EUCLEAN);
	n->host_ops.recover = NULL;
	/* Then libraft restores it, and is told that it is malformed. */
	assert_int_not_equal(nodes_start(c, 0), 0);
	m.host_len = 0;
	b.len = 0;
	raft_configuration_init(&m.conf);
	assert_int_equal(repl_manifest_encode(&m, &b), 0);
	n->log.manifest = b.data;
	n->log.manifest_len = b.len;
	assert_int_not_equal(nodes_start(c, 0), 0);
	n->log.manifest = old.data;
	n->log.manifest_len = old.len;
	assert_int_equal(nodes_start(c, 0), 0);
	buf_release(&b);
	nodes_check(c);
	nodes_free(c);
}

/* --- messages ---------------------------------------------------------------------------------------- */

static void deliver(
	struct repl_core_group *g, uint32_t group, uint64_t from, uint64_t to, uint64_t carrier)
{
	struct repl_msg_head head = {.group = group, .from = from, .to = to};
	struct raft_message m;
	struct buf b = BUF_INIT;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.request_vote.term = g->raft.current_term + 3;
	m.request_vote.candidate_id = 2;
	m.request_vote.disrupt_leader = true;
	assert_int_equal(repl_msg_encode(&head, &m, &b), 0);
	repl_core_deliver(g, carrier, b.data, b.len);
	buf_release(&b);
}

/* A message of another group, for another node, of somebody else, of nobody or of oneself moves nothing. */
static void raft_foreign_message_is_dropped(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(3, 3, 0);
	struct repl_core_group *g = c->node[0].core;
	uint64_t term = g->raft.current_term;
	deliver(g, NODES_GROUP + 1, 2, 1, 2);
	deliver(g, NODES_GROUP, 2, 3, 2);
	deliver(g, NODES_GROUP, 2, 1, 3);
	deliver(g, NODES_GROUP, 0, 1, 0);
	deliver(g, NODES_GROUP, 1, 1, 1);
	repl_core_deliver(g, 2, "not a message", 13);
	assert_int_equal(g->raft.current_term, term);
	deliver(g, NODES_GROUP, 2, 1, 2); /* and one that is ours does */
	assert_true(g->raft.current_term > term);
	nodes_check(c);
	nodes_free(c);
}

/* A group that was opened and not started takes no steps. */
static void raft_group_that_was_not_started_is_still(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(2, 1, 0);
	struct node *n = &c->node[1];
	nodes_stop(c, 1);
	struct repl_core_opts o = {.group = NODES_GROUP, .node_id = 2, .trailing = 3};
	struct wal_group_state st = {0};
	struct vx_err err = VX_ERR_INIT;
	struct repl_core_group *g;
	n->fatal_status = 0;
	assert_int_equal(repl_core_open(&n->env, &o, &st, &g, &err), 0);
	repl_core_tick(g);
	deliver(g, NODES_GROUP, 1, 2, 1);
	assert_int_equal(g->raft.current_term, 0);
	assert_false(repl_core_is_started(g));
	repl_core_step(g);
	assert_int_equal(n->fatal_status, 0);
	assert_int_equal(repl_conf_put_right(g), 0); /* knows none */
	assert_int_equal(g->io.random(&g->io, 7, 7), 7);
	repl_core_free(g);
	nodes_check(c);
	nodes_free(c);
}

/* Rule 18.  Who knows no configuration yet votes as libraft sees fit. */
static void raft_non_member_is_asked_for_its_vote(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(2, 1, 0);
	struct repl_core_group *g = c->node[1].core;
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.request_vote.term = 9;
	m.request_vote.candidate_id = 1;
	nodes_inject(c, 0, 1, &m);
	assert_int_equal(g->raft.configuration.n, 0);
	assert_int_equal(g->raft.voted_for, 0);
	assert_int_equal(nodes_put_of(g), RAFT_CANCELED); /* no buffers: not one of ours */
	nodes_check(c);
	nodes_free(c);
}

/* --- the guard ------------------------------------------------------------------------------------------ */

/* Rule 8 as a table: what may be asked of a server, by its role. */
static void raft_changes_by_role(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(4, 3, 0);
	struct repl_core_group *g = c->node[0].core;
	assert_int_equal(nodes_refused_change(g, REPL_ADD, 0), -EINVAL);
	assert_int_equal(nodes_refused_change(g, REPL_VOTER, 1), -EINVAL);
	for (enum repl_change_kind k = REPL_SPARE; k <= REPL_REMOVE; k++)
		assert_int_equal(nodes_refused_change(g, k, 4), -ENOENT);
	assert_int_equal(nodes_refused_change(g, REPL_VOTER, 2), -EEXIST);
	assert_int_equal(nodes_change(c, 0, REPL_ADD, 4), 0);
	assert_int_equal(nodes_refused_change(g, REPL_ADD, 4), -EEXIST);
	assert_int_equal(nodes_refused_change(g, REPL_SPARE, 4), -EEXIST);
	assert_int_equal(nodes_refused_change(g, REPL_VOTER, 4), -EINVAL);
	assert_int_equal(nodes_change(c, 0, REPL_STANDBY, 4), 0);
	assert_int_equal(nodes_refused_change(g, REPL_STANDBY, 4), -EEXIST);
	assert_int_equal(nodes_change(c, 0, REPL_SPARE, 4), 0);
	assert_int_equal(nodes_change(c, 0, REPL_STANDBY, 4), 0);
	nodes_run(c, 1000);
	assert_int_equal(nodes_change(c, 0, REPL_VOTER, 4), 0);
	struct repl_server sv[2];
	bool committed;
	assert_int_equal(repl_core_servers(g, sv, 2, &committed), 4);
	assert_true(committed);
	assert_int_equal(nodes_change(c, 0, REPL_STANDBY, 4), 0);
	assert_int_equal(
		nodes_refused_change(g, (enum repl_change_kind)(REPL_REMOVE + 1), 4), -EINVAL);
	nodes_check(c);
	nodes_free(c);
}

/* Rule 8.  A group has no room for more servers than a message may name. */
static void raft_members_are_bounded(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(1, 1, 0);
	for (uint64_t id = 2; id <= REPL_VOTERS_MAX; id++)
		assert_int_equal(nodes_change(c, 0, REPL_ADD, id), 0);
	assert_int_equal(nodes_refused_change(c->node[0].core, REPL_ADD, 1000), -EINVAL);
	nodes_check(c);
	nodes_free(c);
}

/* Rule 15.  A leader that has something else where we know a committed entry is not listened to. */
static void raft_other_committed_entry_is_not_taken(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(3, 3, 0);
	nodes_propose(c, 0, 16);
	nodes_run(c, 500);
	struct repl_core_group *g = c->node[1].core;
	uint64_t last = g->last_index, word = 0;
	struct raft_entry e[2] = {
		{.term = g->raft.current_term + 1, .type = RAFT_BARRIER, .buf = {&word, 8}},
		{.term = g->raft.current_term + 1, .type = RAFT_BARRIER, .buf = {&word, 8}}};
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_APPEND_ENTRIES;
	m.append_entries.term = g->raft.current_term + 1;
	m.append_entries.prev_log_index = last - 1;
	m.append_entries.prev_log_term = g->raft.current_term;
	m.append_entries.entries = e;
	m.append_entries.n_entries = 2;
	uint64_t term = g->raft.current_term;
	nodes_inject(c, 2, 1, &m);
	assert_int_equal(g->last_index, last);
	assert_int_equal(g->raft.current_term, term);
	nodes_check(c);
	nodes_free(c);
}

/* Rule 1, the clamp by itself: nothing verified in a term means nothing said in it. */
static void raft_result_of_an_unverified_term_stays(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(3, 3, 0);
	struct repl_core_group *g = c->node[1].core;
	struct raft_append_entries_result res = {
		.term = g->guard.verified_term + 1, .last_log_index = 5};
	assert_false(repl_guard_clamp_result(g, &res));
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_APPEND_ENTRIES_RESULT;
	m.append_entries_result = res;
	assert_int_equal(repl_guard_send(g, &m), REPL_DROP);
	res.term = g->guard.verified_term;
	res.last_log_index = UINT64_MAX;
	assert_true(repl_guard_clamp_result(g, &res));
	assert_int_equal(res.last_log_index, g->guard.verified_index);
	/* A snapshot verifies what is below it unless we hold something else there. */
	uint64_t top = g->guard.verified_index;
	struct raft_install_snapshot is = {.term = g->raft.current_term,
		.last_index = g->last_index,
		.last_term = g->raft.current_term + 1};
	repl_guard_note_install(g, &is);
	assert_int_equal(g->guard.verified_index, top);
	nodes_check(c);
	nodes_free(c);
}

/* --- faults, one after another ------------------------------------------------------------------------------ */

/* Elections, entries, marks, an install, a member, a restart; nodes that died are started again. */
static void life(struct nodes *c)
{
	nodes_start_all(c);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 6; i++) {
			nodes_start_all(c);
			nodes_propose(c, nodes_elect(c), 300);
			nodes_run(c, 100);
		}
		nodes_start_all(c);
		c->cut[2] = round == 0;
		(void)nodes_change(c, nodes_elect(c), round < 2 ? REPL_ADD : REPL_REMOVE, 4);
		nodes_start_all(c);
		(void)nodes_change(c, nodes_elect(c), REPL_STANDBY, 4);
		nodes_start_all(c);
		nodes_run(c, 3000);
	}
}

/* The n-th write of a log fails, for every n: that node is gone at once, and nothing that was
 * acknowledged is. */
static void raft_every_write_of_the_log_may_fail(void **state)
{
	(void)state;
	unsigned calls = 1;
	for (unsigned at = 0; at < calls; at++) {
		struct nodes *c = nodes_new(4, 3, 1500);
		c->log_fails_at = at;
		c->log_fails_with = at % 3 == 0 ? -EIO : at % 3 == 1 ? -EINVAL : -ENOSPC;
		life(c);
		calls = at == 0 ? c->log_calls : calls;
		nodes_check(c);
		nodes_free(c);
	}
	assert_true(calls > 50);
}

/* The same of background work that is refused: nobody dies. */
static void raft_every_background_work_may_be_refused(void **state)
{
	(void)state;
	unsigned calls = 1;
	for (unsigned at = 0; at < calls; at++) {
		struct nodes *c = nodes_new(4, 3, 1500);
		c->work_fails_at = at;
		c->work_fails_with = -ENOMEM;
		life(c);
		calls = at == 0 ? c->work_calls : calls;
		nodes_check(c);
		nodes_free(c);
	}
	assert_true(calls > 5);
}

/* A host without the optional operations does: manifests are then all there is to a snapshot. */
static void raft_optional_operations_are_optional(void **state)
{
	(void)state;
	struct nodes *c = nodes_new(3, 3, 1500);
	for (unsigned i = 0; i < 3; i++) {
		c->node[i].host_ops.role = NULL;
		c->node[i].host_ops.fetch = NULL;
		c->node[i].host_ops.recover = NULL;
		c->node[i].staged = UINT64_MAX;
	}
	life(c);
	nodes_check(c);
	nodes_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(raft_entries_hold_nothing_of_the_heap),
		cmocka_unit_test(raft_non_member_is_asked_for_its_vote),
		cmocka_unit_test(raft_refused_mark_changes_nothing),
		cmocka_unit_test(raft_refused_mark_aside_changes_nothing),
		cmocka_unit_test(raft_mark_answers_who_it_covers),
		cmocka_unit_test(raft_install_that_is_not_fetched_is_repeated),
		cmocka_unit_test(raft_install_fetched_too_late_changes_nothing),
		cmocka_unit_test(raft_install_that_is_not_restored_is_recovered),
		cmocka_unit_test(raft_strange_install_is_dropped),
		cmocka_unit_test(raft_manifest_without_a_head_is_refused),
		cmocka_unit_test(raft_foreign_message_is_dropped),
		cmocka_unit_test(raft_group_that_was_not_started_is_still),
		cmocka_unit_test(raft_changes_by_role),
		cmocka_unit_test(raft_members_are_bounded),
		cmocka_unit_test(raft_other_committed_entry_is_not_taken),
		cmocka_unit_test(raft_result_of_an_unverified_term_stays),
		cmocka_unit_test(raft_every_write_of_the_log_may_fail),
		cmocka_unit_test(raft_every_background_work_may_be_refused),
		cmocka_unit_test(raft_optional_operations_are_optional),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
