/* test_core.c - what a core refuses at its start, and what it takes and refuses in every state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../wal/fakedisk.h"
#include "nodes.h"

/* --- what a log may say at the start ---------------------------------------------------- */

/* Entry 1 with 'n' voters and three commands, as a log holds them. */
struct log_case {
	struct wal_group_state st;
	struct wal_entry e[4];
	uint8_t data[4][64];
};

static size_t encode_voters(uint8_t *at, unsigned n)
{
	struct raft_configuration c;
	struct raft_buffer b;
	char address[REPL_ADDRESS_MAX];
	raft_configuration_init(&c);
	for (unsigned i = 1; i <= n; i++) {
		repl_address_of(i, address);
		assert_int_equal(raft_configuration_add(&c, i, address, RAFT_VOTER), 0);
	}
	assert_int_equal(raft_configuration_encode(&c, &b), 0);
	assert_true(b.len <= 64);
	size_t len = b.len;
	repl_conf_clear_padding(b.base, len);
	memcpy(at, b.base, len);
	raft_free(b.base);
	raft_configuration_close(&c);
	return len;
}

static void log_case_init(struct log_case *l)
{
	memset(l, 0, sizeof *l);
	for (unsigned i = 0; i < 4; i++)
		l->e[i] = (struct wal_entry){.index = i + 1,
			.term = i < 2 ? 1 : 2,
			.etype = i == 0 ? RAFT_CHANGE : RAFT_COMMAND,
			.data = l->data[i],
			.len = i == 0 ? encode_voters(l->data[0], 3) : 16};
	l->st = (struct wal_group_state){
		.exists = true, .term = 2, .entries = l->e, .n_entries = 4};
}

static struct node *env_only(struct nodes *c)
{
	return &c->node[0];
}

/* What open says of it; a group that opens is freed again. */
static int try_open(struct nodes *c, const struct log_case *l)
{
	struct wal_group_state st = l->st;
	struct repl_core_opts o = {.group = NODES_GROUP, .node_id = 1};
	struct repl_core_group *g = NULL;
	struct vx_err err = VX_ERR_INIT;
	/* Open takes what it likes, so it gets a copy. */
	st.entries = calloc(st.n_entries + 1, sizeof *st.entries);
	assert_non_null(st.entries);
	for (size_t i = 0; i < st.n_entries; i++) {
		st.entries[i] = l->st.entries[i];
		st.entries[i].data = malloc(st.entries[i].len + 1);
		assert_non_null(st.entries[i].data);
		memcpy(st.entries[i].data, l->st.entries[i].data, st.entries[i].len);
	}
	if (st.manifest) {
		st.manifest = malloc(st.manifest_len + 1);
		assert_non_null(st.manifest);
		memcpy(st.manifest, l->st.manifest, st.manifest_len);
	}
	int rc = repl_core_open(&env_only(c)->env, &o, &st, &g, &err);
	if (rc != 0) {
		assert_null(g);
		wal_group_state_release(&st);
		return rc;
	}
	repl_core_free(g);
	return 0;
}

/* A log that libraft would trip over is refused: gaps, terms that go back, strange entries. */
static void raft_log_that_does_not_fit_is_refused(void **state)
{
	(void)state;
	struct nodes *c = nodes_new(1, 1, 0);
	struct log_case l;
	log_case_init(&l);
	assert_int_equal(try_open(c, &l), 0);
	l.st.n_entries = 0;
	assert_int_equal(try_open(c, &l), 0);

	for (unsigned what = 0; what < 10; what++) {
		log_case_init(&l);
		switch (what) {
		case 0:
			for (unsigned i = 0; i < 4; i++)
				l.e[i].index = i;
			break;
		case 1:
			for (unsigned i = 0; i < 4; i++)
				l.e[i].index = i + 2; /* and no mark */
			break;
		case 2:
			l.e[2].index = 4;
			break;
		case 3:
			l.e[3].term = 1;
			break;
		case 4:
			l.e[3].term = 3; /* beyond ours */
			break;
		case 5:
			l.e[0].term = 0;
			break;
		case 6:
			l.e[1].etype = 0;
			break;
		case 7:
			l.e[1].etype = RAFT_CHANGE + 1;
			break;
		case 8:
			l.e[0].etype = RAFT_COMMAND;
			break;
		case 9:
			l.st.mark_index = 4;
			l.st.mark_term = 2;
			l.st.manifest = l.data[1];
			l.st.manifest_len = 64;
			break;
		}
		assert_int_equal(try_open(c, &l), -EUCLEAN);
	}
	nodes_free(c);
}

/* A configuration entry that cannot be read is found at the start: cut short anywhere, or with
 * any of its bytes set to something else it is refused or says something valid. */
static void raft_configuration_entry_is_checked(void **state)
{
	(void)state;
	struct nodes *c = nodes_new(1, 1, 0);
	struct log_case l;
	log_case_init(&l);
	size_t whole = 9 + 3 * 11; /* the rest is padding */
	for (size_t n = 0; n < whole; n++) {
		l.e[0].len = n;
		assert_int_equal(try_open(c, &l), -EUCLEAN);
	}
	static const uint8_t odd[] = {0, 1, 2, 3, 0x30, 0x31, 0x41, 0x7f, 0xff};
	unsigned refused = 0, taken = 0;
	for (size_t at = 0; at < whole; at++) {
		for (unsigned k = 0; k < sizeof odd; k++) {
			log_case_init(&l);
			l.data[0][at] = odd[k];
			int rc = try_open(c, &l);
			assert_true(rc == 0 || rc == -EUCLEAN);
			if (rc == 0)
				taken++;
			else
				refused++;
		}
	}
	assert_true(refused > 50 && taken > 20);
	nodes_free(c);
}

/* A mark whose manifest knows the configuration stands for the entries below it, which are skipped. */
static void raft_entries_below_the_mark_are_skipped(void **state)
{
	(void)state;
	struct nodes *c = nodes_new(1, 1, 0);
	struct log_case l;
	struct repl_manifest m = {.conf_index = 1, .host = "0123456789abcdef", .host_len = 16};
	struct buf b = BUF_INIT;
	log_case_init(&l);
	raft_configuration_init(&m.conf);
	assert_int_equal(raft_configuration_add(&m.conf, 1, "1", RAFT_VOTER), 0);
	assert_int_equal(repl_manifest_encode(&m, &b), 0);
	l.st.mark_index = 3;
	l.st.mark_term = 2;
	l.st.manifest = b.data;
	l.st.manifest_len = b.len;
	l.st.entries = l.e + 1; /* 2..4: below, at and above the mark */
	l.st.n_entries = 3;
	assert_int_equal(try_open(c, &l), 0);
	assert_true(repl_core_is_bootstrapped(&l.st));
	l.st.mark_index = 0;
	assert_true(repl_core_is_bootstrapped(&l.st));
	l.st.n_entries = 0;
	assert_false(repl_core_is_bootstrapped(&l.st));
	l.st.mark_index = 3;
	l.st.exists = false;
	assert_false(repl_core_is_bootstrapped(&l.st));
	raft_configuration_close(&m.conf);
	buf_release(&b);
	nodes_free(c);
}

/* Bootstrap: between one voter and as many as a group may have, each once, on a log that can be written. */
static void raft_bootstrap_checks_its_voters(void **state)
{
	(void)state;
	struct wal_opts wo = {.segment_size_bytes = 1u << 18, .backend = WAL_PWRITE, .node_id = 1};
	struct disk *d = fakedisk_new();
	struct vx_err err = VX_ERR_INIT;
	struct wal_group_state st = {0};
	struct wal *w;
	uint64_t ids[REPL_VOTERS_MAX + 1];
	assert_non_null(d);
	for (unsigned i = 0; i <= REPL_VOTERS_MAX; i++)
		ids[i] = 12345 + i; /* one of them fills whole words */
	assert_int_equal(wal_open(d, "wal", &wo, &w, &err), 0);
	assert_int_equal(repl_core_bootstrap(w, 1, ids, 0), -EINVAL);
	assert_int_equal(repl_core_bootstrap(w, 1, ids, REPL_VOTERS_MAX + 1), -EINVAL);
	const uint64_t twice[] = {7, 8, 7};
	assert_int_equal(repl_core_bootstrap(w, 1, twice, 3), -EINVAL);
	for (unsigned n = 1; n <= 8; n++) {
		assert_int_equal(repl_core_bootstrap(w, n, ids, n), 0);
		assert_int_equal(wal_flush(w), 0);
		assert_int_equal(wal_group_load(w, n, &st, &err), 0);
		assert_true(repl_core_is_bootstrapped(&st));
		wal_group_state_release(&st);
	}
	fakedisk_fail_after(d, 1, -EIO);
	assert_int_equal(repl_core_bootstrap(w, 9, ids, 1), 0);
	assert_int_equal(wal_flush(w), -EIO);
	assert_int_equal(repl_core_bootstrap(w, 10, ids, 1), -EIO);
	wal_close(w);
	fakedisk_free(d);
}

/* --- terms of entries ----------------------------------------------------------------------- */

/* Spans tell the term of every index that a plain array would, through appends, truncations, trims and resets. */
static void raft_spans_are_an_array_of_terms(void **state)
{
	(void)state;
	enum { N = 400 };
	struct nodes *c = nodes_new(1, 1, 0);
	assert_int_equal(nodes_start(c, 0), 0);
	nodes_run(c, 1000);
	struct repl_core_group *g = c->node[0].core;
	uint64_t keep_last = g->last_index, term[N + 1] = {0}, first = 1, last = 0, t = 1, s = 99;
	repl_span_reset(g, 0, 0);
	for (unsigned round = 0; round < 4000; round++) {
		s = s * 6364136223846793005u + 1442695040888963407u;
		unsigned r = (unsigned)(s >> 33) % 100;
		if (r < 90 && last < N) {
			t += r < 40;
			term[++last] = t;
			assert_int_equal(repl_span_append(g, last, t), 0);
		} else if (r < 96 && last > first) {
			uint64_t at = first + 1 + (s >> 40) % (last - first);
			repl_span_truncate(g, at);
			last = at - 1;
		} else if (r < 98 && last > first) {
			first += (s >> 40) % (last - first);
			repl_span_trim(g, first);
		} else if (last == N || r == 98) {
			first = last = r == 98 && last > 0 ? 7 : 0;
			repl_span_reset(g, last, t);
			term[last] = t;
			if (last == 0)
				first = 1;
		}
		g->last_index = last;
		for (uint64_t i = first; i <= last; i++)
			assert_int_equal(repl_core_term_of(g, i), term[i]);
		assert_int_equal(repl_core_term_of(g, last + 1), 0);
	}
	repl_span_truncate(g, 0);
	assert_int_equal(g->n_spans, 0);
	assert_int_equal(repl_core_term_of(g, last), 0);
	g->last_index = keep_last;
	assert_int_equal(repl_span_append(g, 1, g->raft.current_term), 0);
	nodes_free(c);
}

/* --- proposals and marks in every state ------------------------------------------------------- */

static int fate_of(struct nodes *c, uint64_t value)
{
	assert_int_equal(c->fate[value], NODES_FAILED);
	return c->status[value];
}

static void sent(struct raft_io_send *req, int status)
{
	assert_int_equal(status, 0);
	*(bool *)req->data = true;
}

/* Nothing leaves, and libraft hears that it did, later. */
static bool send_goes_nowhere(struct nodes *c, struct repl_core_group *g)
{
	bool over = false;
	struct raft_io_send req = {.data = &over};
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.server_id = 2;
	m.server_address = "2";
	struct nodes_msg **tail = c->tail;
	assert_int_equal(g->io.send(&g->io, &req, &m, sent), 0);
	assert_false(over);
	if (g->closing) {
		repl_core_step(g);
		assert_true(over);
	} else {
		g->defer_tail = &g->defer_head; /* taken back: 'req' ends here */
		free(g->defer_head);
		g->defer_head = NULL;
	}
	return c->tail == tail;
}

/* A group that died of its log refuses everything with -EROFS, ignores every step, dies once and closes. */
static void raft_dead_group_takes_nothing(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(3, 3, 0);
	struct node *n = &c->node[0];
	struct repl_core_group *g = n->core;
	uint64_t before = nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	assert_true(nodes_acked(c, before));
	n->hold_works = true;
	struct nodes_told waiting;
	nodes_ask_mark(g, &waiting);
	assert_int_equal(waiting.mark_status, 1);
	nodes_run(c, 300);
	uint64_t v = nodes_propose(c, 0, 16), later = nodes_propose(c, 0, 16);
	n->log_status = -EIO;
	nodes_finish_log(n);
	assert_int_equal(n->fatal_status, -EIO);
	assert_int_equal(fate_of(c, v), -ETIMEDOUT);
	assert_int_equal(fate_of(c, later), -EROFS);
	assert_int_equal(waiting.mark_status, -EROFS);
	/* From here on. */
	n->fatal_status = -EBADF;
	assert_int_equal(fate_of(c, nodes_propose(c, 0, 16)), -EROFS);
	struct nodes_told t;
	nodes_ask_mark(g, &t);
	assert_int_equal(t.mark_status, -EROFS);
	assert_int_equal(nodes_refused_change(g, REPL_ADD, 9), -EROFS);
	repl_core_tick(g);
	repl_core_mark_aside(g);
	repl_core_force_mark(g);
	repl_core_fatal(g, -EIO, "once more");
	assert_int_equal(n->fatal_status, -EBADF);
	assert_false(repl_core_is_ready(g));
	struct repl_group_status st;
	repl_core_stat(g, &st);
	assert_false(st.is_leader);
	uint64_t term = g->raft.current_term;
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.request_vote.term = term + 5;
	m.request_vote.candidate_id = 2;
	nodes_inject(c, 1, 0, &m);
	assert_int_equal(g->raft.current_term, term);
	struct raft_buffer *bufs, b = {.base = &term, .len = 8};
	unsigned n_bufs;
	void *result;
	assert_int_equal(g->fsm.snapshot(&g->fsm, &bufs, &n_bufs), RAFT_BUSY);
	assert_int_equal(g->fsm.apply(&g->fsm, &b, &result), RAFT_SHUTDOWN);
	assert_int_equal(nodes_put_of(g), RAFT_CANCELED);
	assert_true(send_goes_nowhere(c, g));
	/* What is under way ends; then it closes. */
	nodes_finish_works(n);
	nodes_stop(c, 0);
	nodes_check(c);
	nodes_free(c);
}

static void set_true(void *arg)
{
	*(bool *)arg = true;
}

/* A group that is closing waits for its log and its work, takes nothing new, and answers what waits. */
static void raft_closing_group_takes_nothing(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(3, 3, 0);
	struct node *n = &c->node[0];
	struct repl_core_group *g = n->core;
	uint64_t before = nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	assert_true(nodes_acked(c, before));
	n->hold_works = true;
	struct nodes_told waiting,
		change = {.change = {.kind = REPL_ADD, .id = 9, .done = nodes_told_change},
			.change_status = 1};
	nodes_ask_mark(g, &waiting);
	nodes_run(c, 300);
	assert_int_equal(n->n_works, 1);
	n->hold_log = true;
	repl_core_change(g, &change.change);
	uint64_t v = nodes_propose(c, 0, 16), later = nodes_propose(c, 0, 16);
	struct raft_buffer *bufs;
	unsigned n_bufs;
	bool closed = false;
	repl_core_close(g, set_true, &closed);
	assert_false(closed);
	assert_int_equal(fate_of(c, v), -ETIMEDOUT);
	assert_int_equal(fate_of(c, later), -ETIMEDOUT);
	assert_int_equal(change.change_status, -ETIMEDOUT);
	assert_int_equal(fate_of(c, nodes_propose(c, 0, 16)), -ETIMEDOUT);
	struct nodes_told t;
	nodes_ask_mark(g, &t);
	assert_int_equal(t.mark_status, -ETIMEDOUT);
	assert_int_equal(nodes_refused_change(g, REPL_ADD, 9), -EROFS);
	repl_core_tick(g);
	uint64_t term = g->raft.current_term;
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.request_vote.term = term + 5;
	nodes_inject(c, 1, 0, &m);
	assert_int_equal(g->raft.current_term, term);
	assert_false(repl_core_is_ready(g));
	assert_int_equal(nodes_put_of(g), RAFT_CANCELED);
	assert_true(send_goes_nowhere(c, g));
	assert_int_equal(g->fsm.snapshot(&g->fsm, &bufs, &n_bufs), RAFT_BUSY);
	assert_false(repl_mark_due(g));
	nodes_finish_log(n);
	assert_false(closed);
	nodes_finish_works(n);
	/* The finished work asks the log once more or not; either way it ends. */
	nodes_finish_log(n);
	assert_true(closed);
	assert_int_not_equal(waiting.mark_status, 1);
	repl_core_step(g); /* a step too many says nothing again */
	repl_core_free(g);
	n->core = NULL;
	repl_core_free(NULL);
	nodes_check(c);
	nodes_free(c);
}

/* A vote that was asked for while its term was being written is not asked for any more once the group closes, though
 * the term gets to the disk. */
static void raft_closing_group_says_nothing(void **state)
{
	(void)state;
	struct nodes *c = nodes_new(3, 3, 0);
	assert_int_equal(nodes_start(c, 0), 0);
	assert_int_equal(nodes_start(c, 1), 0);
	struct node *n = &c->node[0];
	struct repl_core_group *g = n->core;
	n->hold_log = true;
	for (unsigned i = 0; i < 1000 && !g->gated_head; i++)
		nodes_run(c, 10);
	assert_non_null(g->gated_head);
	struct nodes_msg **tail = c->tail;
	bool closed = false;
	repl_core_close(g, set_true, &closed);
	assert_false(closed);
	nodes_finish_log(n);
	assert_true(closed);
	assert_null(g->gated_head);
	assert_ptr_equal(c->tail, tail);
	repl_core_free(g);
	n->core = NULL;
	nodes_check(c);
	nodes_free(c);
}

/* What a dead group still had under way at its end ends with it. */
static void raft_dead_group_closes_with_its_log_under_way(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(3, 3, 0);
	struct node *n = &c->node[0];
	n->hold_log = true;
	uint64_t v = nodes_propose(c, 0, 16);
	assert_true(n->core->ops > 0);
	repl_core_fatal(n->core, -EIO, "in a test");
	nodes_stop(c, 0);
	assert_int_equal(fate_of(c, v), -ETIMEDOUT);
	nodes_check(c);
	nodes_free(c);
}

static void got(struct raft_io_snapshot_get *get, struct raft_snapshot *snapshot, int status)
{
	assert_null(snapshot);
	*(int *)get->data = status;
}

/* Without a mark there is no snapshot to get. */
static void raft_snapshot_of_no_mark_is_not_found(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(1, 1, 0);
	struct repl_core_group *g = c->node[0].core;
	int status = 0;
	struct raft_io_snapshot_get get = {.data = &status};
	assert_int_equal(g->io.snapshot_get(&g->io, &get, got), 0);
	assert_int_equal(status, 0);
	repl_core_step(g);
	assert_int_equal(status, RAFT_NOTFOUND);
	nodes_free(c);
}

/* Entries of no bytes are loaded as such. */
static void raft_empty_entry_is_loaded(void **state)
{
	(void)state;
	struct nodes *c = nodes_new(1, 1, 0);
	struct wal_group_state *st = &c->node[0].log;
	st->entries = realloc(st->entries, 2 * sizeof *st->entries);
	assert_non_null(st->entries);
	st->entries[st->n_entries++] = (struct wal_entry){
		.index = 2, .term = 1, .etype = RAFT_BARRIER, .data = calloc(1, 1)};
	nodes_check(c);
	assert_true(c->node[0].handed > 2);
	nodes_free(c);
}

/* Lengths are checked before libraft sees them, and while the disk is full nothing is taken. */
static void raft_proposals_are_checked(void **state)
{
	(void)state;
	struct nodes *c = nodes_with_leader(1, 1, 0);
	assert_int_equal(fate_of(c, nodes_propose(c, 0, 0)), -EMSGSIZE);
	assert_int_equal(fate_of(c, nodes_propose(c, 0, VX_ENTRY_BYTES_MAX + 1)), -EMSGSIZE);
	repl_core_set_full(c->node[0].core, true);
	assert_int_equal(fate_of(c, nodes_propose(c, 0, 16)), -ENOSPC);
	repl_core_set_full(c->node[0].core, false);
	nodes_check(c);
	nodes_free(c);
}

static void count_commit(struct repl_proposal *p)
{
	(void)p;
}

static void never(struct repl_proposal *p, int status)
{
	(void)p;
	(void)status;
	fail();
}

/* What gathers while an append is under way goes in batches of at most REPL_BATCH_MAX entries and
 * REPL_BATCH_BYTES_MAX bytes, in order; 'committed' is optional. */
static void raft_batches_are_bounded(void **state)
{
	(void)state;
	enum { SMALL = REPL_BATCH_MAX + 100, BIG = 6 };
	struct nodes *c = nodes_with_leader(1, 1, 1u << 30);
	struct repl_core_group *g = c->node[0].core;
	struct repl_proposal *p = calloc(SMALL + BIG, sizeof *p);
	assert_non_null(p);
	c->node[0].loose = true;
	uint64_t first = g->last_index;
	for (unsigned i = 0; i < SMALL + BIG; i++) {
		p[i].len = i < SMALL ? 8 : REPL_BATCH_BYTES_MAX / 4 + 1;
		p[i].data = raft_calloc(1, p[i].len);
		assert_non_null(p[i].data);
		p[i].failed = never;
		p[i].committed = i % 2 ? count_commit : NULL;
		repl_core_enqueue(g, &p[i]);
	}
	repl_core_step(g);
	assert_int_equal(g->last_index, first + REPL_BATCH_MAX);
	nodes_finish_log(&c->node[0]); /* and so on until all is through */
	assert_int_equal(g->last_index, first + SMALL + BIG);
	assert_int_equal(g->posted, g->last_index);
	/* 100 small ones and three big ones, then three big ones. */
	free(p);
	nodes_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(raft_log_that_does_not_fit_is_refused),
		cmocka_unit_test(raft_configuration_entry_is_checked),
		cmocka_unit_test(raft_entries_below_the_mark_are_skipped),
		cmocka_unit_test(raft_bootstrap_checks_its_voters),
		cmocka_unit_test(raft_spans_are_an_array_of_terms),
		cmocka_unit_test(raft_dead_group_takes_nothing),
		cmocka_unit_test(raft_closing_group_takes_nothing),
		cmocka_unit_test(raft_closing_group_says_nothing),
		cmocka_unit_test(raft_dead_group_closes_with_its_log_under_way),
		cmocka_unit_test(raft_snapshot_of_no_mark_is_not_found),
		cmocka_unit_test(raft_empty_entry_is_loaded),
		cmocka_unit_test(raft_proposals_are_checked),
		cmocka_unit_test(raft_batches_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
