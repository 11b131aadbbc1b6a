/* nodes.c - see nodes.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nodes.h"

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static void *copy_of(const void *p, size_t n)
{
	void *q = must(malloc(n ? n : 1));
	if (n)
		memcpy(q, p, n);
	return q;
}

static struct node *node_of(struct repl_env *env)
{
	return (struct node *)env;
}

/* --- the env -------------------------------------------------------------------- */

static uint64_t env_now_ms(struct repl_env *env)
{
	return node_of(env)->all->now;
}

static uint64_t env_random(struct repl_env *env)
{
	return (node_of(env)->id - 1) * 300;
}

static void env_log_submit(struct repl_env *env, struct repl_log_op *op)
{
	struct node *n = node_of(env);
	op->next = NULL;
	*n->ops_tail = op;
	n->ops_tail = &op->next;
}

static void env_send(struct repl_env *env, uint32_t group, uint64_t to, const char *address,
	const void *p, size_t len)
{
	struct node *n = node_of(env);
	struct nodes *c = n->all;
	assert_int_equal(group, NODES_GROUP);
	assert_non_null(address);
	if (to == 0 || to > c->n)
		return;
	struct nodes_msg *m = must(malloc(sizeof *m + len));
	*m = (struct nodes_msg){.from = (unsigned)n->id - 1, .to = (unsigned)to - 1, .len = len};
	memcpy(m->bytes, p, len);
	*c->tail = m;
	c->tail = &m->next;
}

static int env_work(struct repl_env *env, struct repl_work *w)
{
	struct node *n = node_of(env);
	struct nodes *c = n->all;
	int rc = n->work_status;
	n->work_status = 0;
	if (++c->work_calls == c->work_fails_at)
		rc = c->work_fails_with;
	if (rc != 0)
		return rc;
	assert_true(n->n_works < VX_ARRAY_SIZE(n->works));
	n->works[n->n_works++] = w;
	return 0;
}

static void env_fatal(struct repl_env *env, uint32_t group, int status, const char *what)
{
	(void)group;
	(void)what;
	node_of(env)->fatal_status = status;
}

static const struct repl_env_ops env_ops = {
	.now_ms = env_now_ms,
	.random = env_random,
	.log_submit = env_log_submit,
	.send = env_send,
	.work = env_work,
	.fatal = env_fatal,
};

/* --- the host ---------------------------------------------------------------------- */

static void hand_over(struct node *n, uint64_t index, uint64_t value)
{
	struct nodes *c = n->all;
	assert_true(index < NODES_INDEX_MAX);
	if (n->loose)
		return;
	assert_int_equal(index, n->handed + 1);
	n->handed = index;
	if (c->at[index] == 0)
		c->at[index] = value;
	assert_int_equal(c->at[index], value);
	n->applied = VX_MAX(n->applied, index);
}

static void host_apply(
	void *host, uint32_t group, uint64_t index, uint64_t term, const void *data, size_t len)
{
	(void)group;
	assert_true(len >= 8 && term > 0);
	hand_over(host, index, get_le64(data));
}

static void host_watermark(void *host, uint32_t group, uint64_t index)
{
	(void)group;
	hand_over(host, index, UINT64_MAX);
}

static void host_role(void *host, uint32_t group, bool is_leader, uint64_t term)
{
	struct node *n = host;
	(void)group;
	(void)is_leader;
	(void)term;
	n->roles++;
}

static int host_mark(void *host, uint32_t group, uint64_t index, struct buf *manifest)
{
	struct node *n = host;
	(void)group;
	(void)manifest;
	if (n->mark_status == 0)
		assert_true(n->applied >= index);
	return n->mark_status;
}

static int host_fetch(
	void *host, uint32_t group, uint64_t from, uint64_t index, const void *manifest, size_t len)
{
	struct node *n = host;
	(void)group;
	(void)from;
	(void)manifest;
	(void)len;
	if (n->fetch_status == 0)
		n->staged = VX_MAX(n->staged, index);
	return n->fetch_status;
}

static int host_restore(
	void *host, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	struct node *n = host;
	(void)group;
	(void)manifest;
	(void)len;
	if (n->restore_status != 0)
		return n->restore_status;
	assert_true(n->staged >= index);
	n->applied = VX_MAX(n->applied, index);
	n->handed = index;
	return 0;
}

static int host_recover(
	void *host, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	struct node *n = host;
	(void)group;
	(void)manifest;
	(void)len;
	if (n->recover_status != 0)
		return n->recover_status;
	assert_true(n->applied >= index || n->staged >= index);
	n->applied = VX_MAX(n->applied, index);
	return 0;
}

/* --- a log in memory -------------------------------------------------------------- */

static void cut_entries(struct wal_group_state *st, uint64_t from)
{
	while (st->n_entries > 0 && st->entries[st->n_entries - 1].index >= from)
		free(st->entries[--st->n_entries].data);
}

static void set_mark(struct wal_group_state *st, const struct wal_rec *r)
{
	free(st->manifest);
	st->manifest = copy_of(r->data, r->len);
	st->manifest_len = r->len;
	st->mark_index = r->index;
	st->mark_term = r->term;
}

static void store_record(struct wal_group_state *st, const struct wal_rec *r)
{
	st->exists = true;
	switch (r->type) {
	case WAL_HARDSTATE:
		st->term = r->term;
		st->vote = r->vote;
		break;
	case WAL_ENTRY:
		st->entries = must(realloc(st->entries, (st->n_entries + 1) * sizeof *st->entries));
		st->entries[st->n_entries++] = (struct wal_entry){.index = r->index,
			.term = r->term,
			.etype = r->etype,
			.data = copy_of(r->data, r->len),
			.len = r->len};
		break;
	case WAL_TRUNCATE:
		cut_entries(st, r->index);
		break;
	case WAL_MARK:
		set_mark(st, r);
		break;
	case WAL_RESET:
		cut_entries(st, 0);
		set_mark(st, r);
		break;
	default:
		abort();
	}
}

static struct wal_group_state log_copy(const struct wal_group_state *st)
{
	struct wal_group_state c = *st;
	if (c.manifest)
		c.manifest = copy_of(st->manifest, st->manifest_len);
	c.entries = must(calloc(st->n_entries + 1, sizeof *c.entries));
	for (size_t i = 0; i < st->n_entries; i++) {
		c.entries[i] = st->entries[i];
		c.entries[i].data = copy_of(st->entries[i].data, st->entries[i].len);
	}
	return c;
}

void nodes_finish_log(struct node *n)
{
	struct nodes *c = n->all;
	while (n->ops) {
		struct repl_log_op *op = n->ops;
		n->ops = op->next;
		if (!n->ops)
			n->ops_tail = &n->ops;
		int rc = n->log_status;
		n->log_status = 0;
		if (++c->log_calls == c->log_fails_at)
			rc = c->log_fails_with;
		if (n->fatal_status != 0)
			rc = -EIO; /* a log that broke stays so */
		for (unsigned i = 0; rc == 0 && i < op->req.n; i++)
			store_record(&n->log, &op->req.recs[i]);
		repl_core_log_done(op, rc);
	}
}

void nodes_finish_works(struct node *n)
{
	while (n->n_works > 0) {
		struct repl_work *w = n->works[0];
		memmove(n->works, n->works + 1, --n->n_works * sizeof *n->works);
		w->fn(w);
		repl_core_work_done(w);
	}
}

/* --- life ------------------------------------------------------------------------------ */

struct nodes *nodes_new(unsigned n, unsigned voters, uint64_t mark_bytes)
{
	struct nodes *c = must(calloc(1, sizeof *c));
	struct raft_configuration conf;
	struct raft_buffer b;
	char address[REPL_ADDRESS_MAX];
	assert_true(n <= NODES_MAX && voters <= n);
	c->n = n;
	c->voters = voters;
	c->mark_bytes = mark_bytes;
	c->tail = &c->head;
	c->values = 1;
	raft_configuration_init(&conf);
	for (unsigned i = 0; i < voters; i++) {
		snprintf(address, sizeof address, "%u", i + 1);
		assert_int_equal(raft_configuration_add(&conf, i + 1, address, RAFT_VOTER), 0);
	}
	assert_int_equal(raft_configuration_encode(&conf, &b), 0);
	repl_conf_clear_padding(b.base, b.len);
	for (unsigned i = 0; i < n; i++) {
		struct node *nd = &c->node[i];
		nd->all = c;
		nd->id = i + 1;
		nd->ops_tail = &nd->ops;
		nd->host_ops = (struct repl_host_ops){
			.apply = host_apply,
			.watermark = host_watermark,
			.role = host_role,
			.mark = host_mark,
			.restore = host_restore,
			.fetch = host_fetch,
			.recover = host_recover,
		};
		nd->env = (struct repl_env){.ops = &env_ops, .host_ops = &nd->host_ops, .host = nd};
		if (i >= voters)
			continue;
		struct wal_rec hard = {.type = WAL_HARDSTATE, .term = 1};
		struct wal_rec entry = {.type = WAL_ENTRY,
			.etype = RAFT_CHANGE,
			.index = 1,
			.term = 1,
			.data = b.base,
			.len = b.len};
		store_record(&nd->log, &hard);
		store_record(&nd->log, &entry);
	}
	raft_free(b.base);
	raft_configuration_close(&conf);
	return c;
}

int nodes_start(struct nodes *c, unsigned i)
{
	struct node *n = &c->node[i];
	struct vx_err err = VX_ERR_INIT;
	struct repl_core_opts o = {
		.group = NODES_GROUP,
		.node_id = n->id,
		.mark_bytes = c->mark_bytes,
		.mark_interval_ms = 3600 * 1000,
		.install_timeout_ms = 1000,
	};
	struct wal_group_state st = log_copy(&n->log);
	assert_null(n->core);
	n->fatal_status = 0;
	n->handed = n->log.mark_index;
	int rc = repl_core_open(&n->env, &o, &st, &n->core, &err);
	wal_group_state_release(&st);
	if (rc != 0)
		return rc;
	rc = repl_core_start(n->core, &err);
	if (rc != 0 && !repl_core_is_started(n->core)) {
		repl_core_free(n->core);
		n->core = NULL;
	}
	return rc;
}

void nodes_start_all(struct nodes *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		if (!c->node[i].core)
			assert_int_equal(nodes_start(c, i), 0);
	}
}

static void noop(void *arg)
{
	*(bool *)arg = true;
}

void nodes_stop(struct nodes *c, unsigned i)
{
	struct node *n = &c->node[i];
	bool closed = false;
	if (!n->core)
		return;
	if (n->fatal_status == 0)
		n->fatal_status = -ECANCELED; /* its log takes nothing any more */
	repl_core_close(n->core, noop, &closed);
	while (n->ops || n->n_works > 0) {
		nodes_finish_log(n);
		nodes_finish_works(n);
	}
	assert_true(closed);
	repl_core_free(n->core);
	n->core = NULL;
	(void)c;
}

void nodes_free(struct nodes *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		nodes_stop(c, i);
		wal_group_state_release(&c->node[i].log);
	}
	while (c->head) {
		struct nodes_msg *m = c->head;
		c->head = m->next;
		free(m);
	}
	free(c);
}

/* --- time --------------------------------------------------------------------------------- */

static void deliver_all(struct nodes *c)
{
	struct nodes_msg *m = c->head;
	c->head = NULL;
	c->tail = &c->head;
	while (m) {
		struct nodes_msg *next = m->next;
		struct node *to = &c->node[m->to];
		if (to->core && to->fatal_status == 0 && !c->cut[m->from] && !c->cut[m->to])
			repl_core_deliver(to->core, m->from + 1, m->bytes, m->len);
		free(m);
		m = next;
	}
}

void nodes_run(struct nodes *c, uint64_t ms)
{
	for (uint64_t end = c->now + ms; c->now < end;) {
		c->now += NODES_STEP_MS;
		deliver_all(c);
		for (unsigned i = 0; i < c->n; i++) {
			struct node *n = &c->node[i];
			if (n->core && c->now % REPL_TICK_MS == 0)
				repl_core_tick(n->core);
			if (n->core && !n->hold_log)
				nodes_finish_log(n);
			if (n->core && !n->hold_works)
				nodes_finish_works(n);
			if (n->core && n->fatal_status != 0)
				nodes_stop(c, i);
		}
	}
}

int nodes_leader(const struct nodes *c)
{
	int best = -1;
	uint64_t term = 0;
	for (unsigned i = 0; i < c->n; i++) {
		const struct repl_core_group *g = c->node[i].core;
		if (!g || !repl_core_is_ready(g) || g->raft.current_term <= term)
			continue;
		term = g->raft.current_term;
		best = (int)i;
	}
	return best;
}

unsigned nodes_elect(struct nodes *c)
{
	for (unsigned i = 0; i < 3000 && nodes_leader(c) < 0; i++)
		nodes_run(c, 10);
	int leader = nodes_leader(c);
	assert_true(leader >= 0);
	return (unsigned)leader;
}

/* --- proposals, changes, marks ------------------------------------------------------------- */

struct proposal {
	struct repl_proposal p;
	struct nodes *c;
	uint64_t value;
};

static void on_committed(struct repl_proposal *p)
{
	struct proposal *q = VX_CONTAINER_OF(p, struct proposal, p);
	assert_int_equal(q->c->fate[q->value], NODES_UNKNOWN);
	q->c->fate[q->value] = NODES_ACKED;
	free(q);
}

static void on_failed(struct repl_proposal *p, int status)
{
	struct proposal *q = VX_CONTAINER_OF(p, struct proposal, p);
	assert_int_equal(q->c->fate[q->value], NODES_UNKNOWN);
	assert_true(status < 0);
	q->c->fate[q->value] = NODES_FAILED;
	q->c->status[q->value] = status;
	free(q);
}

uint64_t nodes_propose(struct nodes *c, unsigned i, size_t len)
{
	struct proposal *q = must(calloc(1, sizeof *q));
	uint64_t value = c->values++;
	assert_true(value < NODES_VALUES_MAX);
	*q = (struct proposal){.c = c, .value = value};
	q->p.data = must(raft_malloc(len < 8 ? 8 : len));
	memset(q->p.data, 0, len < 8 ? 8 : len);
	put_le64(q->p.data, value);
	q->p.len = len;
	q->p.committed = on_committed;
	q->p.failed = on_failed;
	repl_core_propose(c->node[i].core, &q->p);
	return value;
}

bool nodes_acked(const struct nodes *c, uint64_t value)
{
	return c->fate[value] == NODES_ACKED;
}

struct change {
	struct repl_change_req req;
	bool over;
	int status;
};

static void change_done(struct repl_change_req *req, int status)
{
	struct change *a = VX_CONTAINER_OF(req, struct change, req);
	a->over = true;
	a->status = status;
}

int nodes_change(struct nodes *c, unsigned i, enum repl_change_kind kind, uint64_t id)
{
	struct change a = {.req = {.kind = kind, .id = id, .done = change_done}};
	repl_core_change(c->node[i].core, &a.req);
	for (unsigned k = 0; k < 2000 && !a.over; k++)
		nodes_run(c, 10);
	assert_true(a.over);
	return a.status;
}

struct mark {
	struct repl_mark_req req;
	bool over;
	int status;
};

static void mark_done(struct repl_mark_req *req, int status)
{
	struct mark *m = VX_CONTAINER_OF(req, struct mark, req);
	m->over = true;
	m->status = status;
}

int nodes_mark(struct nodes *c, unsigned i)
{
	struct mark m = {.req = {.done = mark_done}};
	repl_core_mark(c->node[i].core, &m.req);
	for (unsigned k = 0; k < 2000 && !m.over; k++)
		nodes_run(c, 10);
	assert_true(m.over);
	return m.status;
}

void nodes_inject(struct nodes *c, unsigned from, unsigned to, const struct raft_message *m)
{
	struct repl_msg_head head = {.group = NODES_GROUP, .from = from + 1, .to = to + 1};
	struct buf b = BUF_INIT;
	int rc = repl_msg_encode(&head, m, &b);
	assert_true(rc == 0 || rc == -ENOMEM); /* then it got lost */
	if (rc == 0)
		repl_core_deliver(c->node[to].core, from + 1, b.data, b.len);
	buf_release(&b);
}

void nodes_check(struct nodes *c)
{
	memset(c->cut, 0, sizeof c->cut);
	c->log_fails_at = c->work_fails_at = 0;
	for (unsigned i = 0; i < c->n; i++) {
		struct node *n = &c->node[i];
		n->hold_log = n->hold_works = false;
		n->log_status = n->work_status = n->mark_status = n->fetch_status = 0;
		n->restore_status = n->recover_status = 0;
		if (n->fatal_status != 0)
			nodes_stop(c, i);
	}
	uint64_t v = 0;
	for (unsigned k = 0; k < 20 && (v == 0 || !nodes_acked(c, v)); k++) {
		nodes_start_all(c);
		v = nodes_propose(c, nodes_elect(c), 16);
		nodes_run(c, 1000);
	}
	assert_true(nodes_acked(c, v));
	nodes_run(c, 5000);
	nodes_start_all(c);
	nodes_run(c, 3000);
	const struct repl_core_group *g = c->node[nodes_elect(c)].core;
	for (unsigned i = 0; i < g->raft.configuration.n; i++) {
		const struct raft_server *sv = &g->raft.configuration.servers[i];
		if (sv->role != RAFT_SPARE && sv->id <= c->n)
			assert_int_equal(c->node[sv->id - 1].handed, g->posted);
	}
	for (uint64_t value = 1; value < c->values; value++) {
		unsigned times = 0;
		for (uint64_t i = 1; i <= g->posted; i++)
			times += c->at[i] == value;
		assert_true(times <= 1);
		if (nodes_acked(c, value))
			assert_int_equal(times, 1);
	}
}

void nodes_told_mark(struct repl_mark_req *req, int status)
{
	VX_CONTAINER_OF(req, struct nodes_told, mark)->mark_status = status;
}

void nodes_told_change(struct repl_change_req *req, int status)
{
	VX_CONTAINER_OF(req, struct nodes_told, change)->change_status = status;
}

void nodes_ask_mark(struct repl_core_group *g, struct nodes_told *t)
{
	*t = (struct nodes_told){.mark = {.done = nodes_told_mark}, .mark_status = 1};
	repl_core_mark(g, &t->mark);
}

int nodes_refused_change(struct repl_core_group *g, enum repl_change_kind kind, uint64_t id)
{
	struct nodes_told t = {
		.change = {.kind = kind, .id = id, .done = nodes_told_change}, .change_status = 1};
	repl_core_change(g, &t.change);
	assert_int_not_equal(t.change_status, 1);
	return t.change_status;
}

struct nodes *nodes_with_leader(unsigned n, unsigned voters, uint64_t mark_bytes)
{
	struct nodes *c = nodes_new(n, voters, mark_bytes);
	nodes_start_all(c);
	assert_int_equal(nodes_elect(c), 0);
	nodes_run(c, 300);
	return c;
}

int nodes_put_of(struct repl_core_group *g)
{
	struct raft_io_snapshot_put req;
	struct raft_snapshot s = {.index = 1};
	return g->io.snapshot_put(&g->io, 1, &req, &s, NULL);
}
