/* test_core.c - what a core refuses, in every state, and what it does when the env or the host refuses. */
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

struct told {
	struct repl_mark_req mark;
	struct repl_change_req change;
	int mark_status, change_status; /* 1: not yet */
};

static void told_mark(struct repl_mark_req *req, int status)
{
	VX_CONTAINER_OF(req, struct told, mark)->mark_status = status;
}

static void told_change(struct repl_change_req *req, int status)
{
	VX_CONTAINER_OF(req, struct told, change)->change_status = status;
}

static void ask_mark(struct repl_core_group *g, struct told *t)
{
	*t = (struct told){.mark = {.done = told_mark}, .mark_status = 1};
	repl_core_mark(g, &t->mark);
}

static int refused_change(struct repl_core_group *g, enum repl_change_kind kind, uint64_t id)
{
	struct told t = {
		.change = {.kind = kind, .id = id, .done = told_change}, .change_status = 1};
	repl_core_change(g, &t.change);
	assert_int_not_equal(t.change_status, 1);
	return t.change_status;
}

static struct nodes *with_leader(unsigned n, unsigned voters, uint64_t mark_bytes)
{
	struct nodes *c = nodes_new(n, voters, mark_bytes);
	nodes_start_all(c);
	assert_int_equal(nodes_elect(c), 0);
	nodes_run(c, 300);
	return c;
}

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

static int put_of(struct repl_core_group *g)
{
	struct raft_io_snapshot_put req;
	struct raft_snapshot s = {.index = 1};
	return g->io.snapshot_put(&g->io, 1, &req, &s, NULL);
}

/* A group that died of its log refuses everything with -EROFS, ignores every step, dies once and closes. */
static void raft_dead_group_takes_nothing(void **state)
{
	(void)state;
	struct nodes *c = with_leader(3, 3, 0);
	struct node *n = &c->node[0];
	struct repl_core_group *g = n->core;
	uint64_t before = nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	assert_true(nodes_acked(c, before));
	n->hold_works = true;
	struct told waiting;
	ask_mark(g, &waiting);
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
	struct told t;
	ask_mark(g, &t);
	assert_int_equal(t.mark_status, -EROFS);
	assert_int_equal(refused_change(g, REPL_ADD, 9), -EROFS);
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
	assert_int_equal(put_of(g), RAFT_CANCELED);
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
	struct nodes *c = with_leader(3, 3, 0);
	struct node *n = &c->node[0];
	struct repl_core_group *g = n->core;
	uint64_t before = nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	assert_true(nodes_acked(c, before));
	n->hold_works = true;
	struct told waiting, change = {.change = {.kind = REPL_ADD, .id = 9, .done = told_change},
				     .change_status = 1};
	ask_mark(g, &waiting);
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
	struct told t;
	ask_mark(g, &t);
	assert_int_equal(t.mark_status, -ETIMEDOUT);
	assert_int_equal(refused_change(g, REPL_ADD, 9), -EROFS);
	repl_core_tick(g);
	uint64_t term = g->raft.current_term;
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.request_vote.term = term + 5;
	nodes_inject(c, 1, 0, &m);
	assert_int_equal(g->raft.current_term, term);
	assert_false(repl_core_is_ready(g));
	assert_int_equal(put_of(g), RAFT_CANCELED);
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
	struct nodes *c = with_leader(3, 3, 0);
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
	struct nodes *c = with_leader(1, 1, 0);
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
	struct nodes *c = with_leader(1, 1, 0);
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
	struct nodes *c = with_leader(1, 1, 1u << 30);
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

/* --- marks -------------------------------------------------------------------------------------- */

/* Whatever refuses a mark -- the host, the worker's queue -- its status is told, nothing changes, and the next one
 * succeeds. */
static void raft_refused_mark_changes_nothing(void **state)
{
	(void)state;
	struct nodes *c = with_leader(1, 1, 0);
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
	struct nodes *c = with_leader(3, 3, 0);
	struct node *n = &c->node[0];
	struct repl_core_group *g = n->core;
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	for (unsigned k = 0; k < 3; k++) {
		n->work_status = k == 0 ? -ENOMEM : 0;
		n->mark_status = k == 1 ? -EIO : 0;
		repl_core_mark_aside(g);
		if (k == 2) { /* a change begins while the store works */
			struct told t = {.change = {.kind = REPL_ADD, .id = 9, .done = told_change},
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
	struct nodes *c = with_leader(1, 1, 0);
	struct node *n = &c->node[0];
	struct told one, two;
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	n->hold_works = true;
	ask_mark(n->core, &one);
	nodes_run(c, 300);
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	ask_mark(n->core, &two);
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
	ask_mark(n->core, &one);
	nodes_run(c, 300);
	nodes_propose(c, 0, 16);
	nodes_run(c, 300);
	ask_mark(n->core, &two);
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
	struct nodes *c = with_leader(3, 3, 0);
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
	struct nodes *c = with_leader(3, 3, 0);
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
	struct nodes *c = with_leader(1, 1, 0);
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
	struct nodes *c = with_leader(3, 3, 0);
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
	struct nodes *c = with_leader(2, 1, 0);
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
	struct nodes *c = with_leader(2, 1, 0);
	struct repl_core_group *g = c->node[1].core;
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.request_vote.term = 9;
	m.request_vote.candidate_id = 1;
	nodes_inject(c, 0, 1, &m);
	assert_int_equal(g->raft.configuration.n, 0);
	assert_int_equal(g->raft.voted_for, 0);
	assert_int_equal(put_of(g), RAFT_CANCELED); /* no buffers: not one of ours */
	nodes_check(c);
	nodes_free(c);
}

/* --- the guard ------------------------------------------------------------------------------------------ */

/* Rule 8 as a table: what may be asked of a server, by its role. */
static void raft_changes_by_role(void **state)
{
	(void)state;
	struct nodes *c = with_leader(4, 3, 0);
	struct repl_core_group *g = c->node[0].core;
	assert_int_equal(refused_change(g, REPL_ADD, 0), -EINVAL);
	assert_int_equal(refused_change(g, REPL_VOTER, 1), -EINVAL);
	for (enum repl_change_kind k = REPL_SPARE; k <= REPL_REMOVE; k++)
		assert_int_equal(refused_change(g, k, 4), -ENOENT);
	assert_int_equal(refused_change(g, REPL_VOTER, 2), -EEXIST);
	assert_int_equal(nodes_change(c, 0, REPL_ADD, 4), 0);
	assert_int_equal(refused_change(g, REPL_ADD, 4), -EEXIST);
	assert_int_equal(refused_change(g, REPL_SPARE, 4), -EEXIST);
	assert_int_equal(refused_change(g, REPL_VOTER, 4), -EINVAL);
	assert_int_equal(nodes_change(c, 0, REPL_STANDBY, 4), 0);
	assert_int_equal(refused_change(g, REPL_STANDBY, 4), -EEXIST);
	assert_int_equal(nodes_change(c, 0, REPL_SPARE, 4), 0);
	assert_int_equal(nodes_change(c, 0, REPL_STANDBY, 4), 0);
	nodes_run(c, 1000);
	assert_int_equal(nodes_change(c, 0, REPL_VOTER, 4), 0);
	struct repl_server sv[2];
	bool committed;
	assert_int_equal(repl_core_servers(g, sv, 2, &committed), 4);
	assert_true(committed);
	assert_int_equal(nodes_change(c, 0, REPL_STANDBY, 4), 0);
	assert_int_equal(refused_change(g, (enum repl_change_kind)(REPL_REMOVE + 1), 4), -EINVAL);
	nodes_check(c);
	nodes_free(c);
}

/* Rule 8.  A group has no room for more servers than a message may name. */
static void raft_members_are_bounded(void **state)
{
	(void)state;
	struct nodes *c = with_leader(1, 1, 0);
	for (uint64_t id = 2; id <= REPL_VOTERS_MAX; id++)
		assert_int_equal(nodes_change(c, 0, REPL_ADD, id), 0);
	assert_int_equal(refused_change(c->node[0].core, REPL_ADD, 1000), -EINVAL);
	nodes_check(c);
	nodes_free(c);
}

/* Rule 15.  A leader that has something else where we know a committed entry is not listened to. */
static void raft_other_committed_entry_is_not_taken(void **state)
{
	(void)state;
	struct nodes *c = with_leader(3, 3, 0);
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
	struct nodes *c = with_leader(3, 3, 0);
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
		cmocka_unit_test(raft_non_member_is_asked_for_its_vote),
		cmocka_unit_test(raft_proposals_are_checked),
		cmocka_unit_test(raft_batches_are_bounded),
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
