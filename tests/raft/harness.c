/* harness.c - the simulated cluster.  See harness.h.
 *
 * One event heap, ordered by time and then by the order of scheduling, drives everything;
 * every random choice comes from one generator, so that a seed repeats a run exactly.  A node
 * that crashes gets a new incarnation number, and events of an older one are void.
 *
 * The log writer of a node is a queue: when its flush event comes, all that waits then is
 * staged, flushed with the real log code, and handed back in order.  A crash may tear the
 * flush under way: the harness then stages and flushes with the disk told to lose part of
 * the write.
 */
#include "harness.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "harness_disk.h"

enum h_kind { EV_TICK, EV_FLUSH, EV_DELIVER, EV_WORK };

struct h_message {
	unsigned from, to;
	size_t len;
	uint8_t bytes[];
};

struct h_event {
	uint64_t at, order;
	enum h_kind kind;
	unsigned node;
	unsigned incarnation;
	void *arg; /* EV_DELIVER: the message; EV_WORK: the work */
};

struct h_node {
	struct repl_env env; /* first */
	struct harness *h;
	unsigned number;
	bool up, doomed; /* doomed: fatal was called; crashes after the step */
	unsigned incarnation;
	struct disk *disk;
	struct wal *wal;
	struct repl_core_group *core;
	/* Log writer. */
	struct repl_log_op *queue, **queue_tail;
	bool flush_scheduled;
	uint64_t disk_ms;
	bool break_log;
	uint64_t store_marked; /* last index host_mark confirmed */
	/* State machine: what it applied is the harness's sequence up to here. */
	uint64_t applied;
	unsigned received[8];
};

/* What is known of one index: the first node to apply it decides. */
struct h_slot {
	bool known;
	uint64_t term, value; /* value 0: a watermark */
	uint64_t chain;
};

/* What is known of one (index, term) entry. */
struct h_entry {
	uint64_t index, term, hash, prev_term;
};

struct h_proposal {
	struct repl_proposal p;
	struct harness *h;
	const struct h_node *node;
	uint64_t value;
};

struct harness {
	struct h_params p;
	uint64_t rng, now, order;
	struct h_event *heap;
	size_t n_heap, cap_heap;
	struct h_node nodes[H_NODES_MAX];
	bool cut[H_NODES_MAX][H_NODES_MAX];
	uint64_t latency[H_NODES_MAX][H_NODES_MAX];
	struct h_slot *slots;
	size_t n_slots;
	struct h_entry *entries; /* open addressing */
	size_t n_entries, cap_entries;
	uint64_t leader_of[4096]; /* node id by term */
	uint8_t *fate;            /* by value: 0 unknown, 1 acked, 2 failed */
	size_t n_fate;
	uint64_t next_value;
	unsigned n_acked, installs, marks;
	void (*tap)(void *arg, unsigned from, unsigned to, const struct raft_message *m);
	void *tap_arg;
};

void h_die(struct harness *h, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "SEED=%" PRIu64 " t=%" PRIu64 " ms: ", h->p.seed, h->now);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	for (unsigned i = 0; i < h->p.n; i++) {
		struct h_node *n = &h->nodes[i];
		if (!n->core)
			continue;
		const struct repl_core_group *g = n->core;
		const struct raft *r = &g->raft;
		fprintf(stderr,
			"  node %u: state %u term %llu vote %llu last %" PRIu64
			" stored %llu commit %llu "
			"applied %llu mark %" PRIu64
			" pending %u ops %u works %u installing %d ready %d "
			"verified %" PRIu64 "/%" PRIu64 " own %" PRIu64 "/%d\n",
			i, r->state, r->current_term, r->voted_for, g->last_index, r->last_stored,
			r->commit_index, r->last_applied, g->mark_index, g->pending, g->ops,
			g->works, g->installing, g->ready, g->guard.verified_index,
			g->guard.verified_term, g->guard.own_term, g->guard.own_durable);
	}
	abort();
}

uint64_t h_random(struct harness *h)
{
	uint64_t z = h->rng += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static bool chance(struct harness *h, unsigned permille)
{
	return h_random(h) % 1000 < permille;
}

static uint64_t between(struct harness *h, uint64_t lo, uint64_t hi)
{
	return lo + h_random(h) % (hi - lo + 1);
}

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- events ---------------------------------------------------------------------- */

static bool sooner(const struct h_event *a, const struct h_event *b)
{
	return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void schedule(struct harness *h, uint64_t delay, enum h_kind kind, unsigned node, void *arg)
{
	if (h->n_heap == h->cap_heap) {
		h->cap_heap = h->cap_heap ? 2 * h->cap_heap : 256;
		h->heap = must(realloc(h->heap, h->cap_heap * sizeof *h->heap));
	}
	size_t i = h->n_heap++;
	struct h_event ev = {
		h->now + delay, h->order++, kind, node, h->nodes[node].incarnation, arg};
	while (i > 0 && sooner(&ev, &h->heap[(i - 1) / 2])) {
		h->heap[i] = h->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->heap[i] = ev;
}

static struct h_event pop(struct harness *h)
{
	struct h_event top = h->heap[0], last = h->heap[--h->n_heap];
	size_t i = 0;
	for (;;) {
		size_t c = 2 * i + 1;
		if (c >= h->n_heap)
			break;
		if (c + 1 < h->n_heap && sooner(&h->heap[c + 1], &h->heap[c]))
			c++;
		if (!sooner(&h->heap[c], &last))
			break;
		h->heap[i] = h->heap[c];
		i = c;
	}
	h->heap[i] = last;
	return top;
}

/* --- checkers ----------------------------------------------------------------------- */

static struct h_slot *slot(struct harness *h, uint64_t index)
{
	if (index >= h->n_slots) {
		size_t n = VX_MAX(2 * h->n_slots, index + 1024);
		h->slots = must(realloc(h->slots, n * sizeof *h->slots));
		memset(h->slots + h->n_slots, 0, (n - h->n_slots) * sizeof *h->slots);
		h->n_slots = n;
	}
	return &h->slots[index];
}

/* State machine safety: one sequence for all. */
static void check_apply(struct h_node *n, uint64_t index, uint64_t term, uint64_t value)
{
	struct harness *h = n->h;
	if (index != n->applied + 1)
		h_die(h, "node %u applied %" PRIu64 " after %" PRIu64, n->number, index,
			n->applied);
	struct h_slot *s = slot(h, index);
	if (s->known && (s->value != value || (value && s->term != term)))
		h_die(h,
			"node %u applied value %" PRIu64 " (term %" PRIu64 ") at %" PRIu64
			", others %" PRIu64 " (term %" PRIu64 ")",
			n->number, value, term, index, s->value, s->term);
	if (!s->known) {
		uint64_t prev = slot(h, index - 1)->chain;
		s = slot(h, index);
		*s = (struct h_slot){true, term, value, prev * 31 + value + 1};
	}
	n->applied = index;
}

/* Log matching: same (index, term), same entry and same predecessor's term. */
static void check_entry(struct harness *h, const struct wal_rec *r, uint64_t prev_term)
{
	if (2 * h->n_entries >= h->cap_entries) {
		size_t cap = h->cap_entries ? 2 * h->cap_entries : 1024;
		struct h_entry *old = h->entries;
		h->entries = must(calloc(cap, sizeof *h->entries));
		for (size_t i = 0; i < h->cap_entries; i++) {
			if (!old[i].index)
				continue;
			size_t k = (old[i].index * 1000003 + old[i].term) & (cap - 1);
			while (h->entries[k].index)
				k = (k + 1) & (cap - 1);
			h->entries[k] = old[i];
		}
		free(old);
		h->cap_entries = cap;
	}
	uint64_t hash = hash_xxh3(r->data, r->len, r->etype);
	size_t k = (r->index * 1000003 + r->term) & (h->cap_entries - 1);
	for (; h->entries[k].index; k = (k + 1) & (h->cap_entries - 1)) {
		struct h_entry *e = &h->entries[k];
		if (e->index != r->index || e->term != r->term)
			continue;
		if (e->hash != hash)
			h_die(h, "two entries at %" PRIu64 " of term %" PRIu64, r->index, r->term);
		if (prev_term && e->prev_term && e->prev_term != prev_term)
			h_die(h,
				"entry %" PRIu64 " of term %" PRIu64 " follows terms %" PRIu64
				" and %" PRIu64,
				r->index, r->term, e->prev_term, prev_term);
		if (!e->prev_term)
			e->prev_term = prev_term;
		return;
	}
	h->entries[k] = (struct h_entry){r->index, r->term, hash, prev_term};
	h->n_entries++;
}

/* --- host ------------------------------------------------------------------------------ */

static void host_apply(
	void *host, uint32_t group, uint64_t index, uint64_t term, const void *data, size_t len)
{
	struct h_node *n = host;
	assert(group == H_GROUP);
	if (len < 8)
		h_die(n->h, "node %u: entry %" PRIu64 " of %zu bytes", n->number, index, len);
	check_apply(n, index, term, get_le64(data));
}

static void host_watermark(void *host, uint32_t group, uint64_t index)
{
	assert(group == H_GROUP);
	check_apply(host, index, 0, 0);
}

static void host_role(void *host, uint32_t group, bool is_leader, uint64_t term)
{
	struct h_node *n = host;
	struct harness *h = n->h;
	assert(group == H_GROUP);
	if (!is_leader)
		return;
	if (term >= VX_ARRAY_SIZE(h->leader_of))
		h_die(h, "term %" PRIu64 ": elections without end", term);
	if (h->leader_of[term] && h->leader_of[term] != n->number + 1)
		h_die(h, "two leaders in term %" PRIu64 ": nodes %" PRIu64 " and %u", term,
			h->leader_of[term] - 1, n->number);
	h->leader_of[term] = n->number + 1;
}

static int host_mark(void *host, uint32_t group, uint64_t index, struct buf *manifest)
{
	struct h_node *n = host;
	assert(group == H_GROUP);
	if (chance(n->h, 100))
		return -EAGAIN;
	n->h->marks++;
	n->store_marked = index;
	int rc = buf_put_le64(manifest, index);
	return rc == 0 ? buf_put_le64(manifest, slot(n->h, index)->chain) : rc;
}

static int host_restore(
	void *host, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	struct h_node *n = host;
	const uint8_t *m = manifest;
	assert(group == H_GROUP);
	if (len != 16 || get_le64(m) != index || get_le64(m + 8) != slot(n->h, index)->chain)
		h_die(n->h, "node %u: snapshot at %" PRIu64 " is not what was applied", n->number,
			index);
	n->applied = index;
	n->h->installs++;
	return 0;
}

static const struct repl_host_ops host_ops = {
	.apply = host_apply,
	.watermark = host_watermark,
	.role = host_role,
	.mark = host_mark,
	.restore = host_restore,
};

/* --- env --------------------------------------------------------------------------------- */

static struct h_node *node_of(struct repl_env *env)
{
	return (struct h_node *)env;
}

static uint64_t env_now_ms(struct repl_env *env)
{
	return node_of(env)->h->now;
}

static uint64_t env_random(struct repl_env *env)
{
	return h_random(node_of(env)->h);
}

static void schedule_flush(struct h_node *n)
{
	struct harness *h = n->h;
	uint64_t ms = n->disk_ms ? n->disk_ms : between(h, h->p.disk_min_ms, h->p.disk_max_ms);
	if (!n->disk_ms && chance(h, h->p.slow_disk_permille))
		ms += h_random(h) % 300;
	n->flush_scheduled = true;
	schedule(h, ms, EV_FLUSH, n->number, NULL);
}

static void env_log_submit(struct repl_env *env, struct repl_log_op *op)
{
	struct h_node *n = node_of(env);
	uint64_t prev_term = 0;
	for (unsigned i = 0; i < op->req.n; i++) {
		const struct wal_rec *r = &op->req.recs[i];
		if (r->type == WAL_MARK && r->index != n->store_marked)
			h_die(n->h, "node %u marks %" PRIu64 ", its store has %" PRIu64, n->number,
				r->index, n->store_marked);
		if (r->type != WAL_ENTRY)
			continue;
		if (i == 0)
			prev_term = repl_core_term_of(n->core, r->index - 1);
		check_entry(n->h, r, prev_term);
		prev_term = r->term;
	}
	op->next = NULL;
	*n->queue_tail = op;
	n->queue_tail = &op->next;
	if (!n->flush_scheduled)
		schedule_flush(n);
}

static void post(struct harness *h, unsigned from, unsigned to, const void *p, size_t len)
{
	struct h_message *m = must(malloc(sizeof *m + len));
	m->from = from;
	m->to = to;
	m->len = len;
	memcpy(m->bytes, p, len);
	uint64_t ms = h->latency[from][to] ? h->latency[from][to]
					   : between(h, h->p.net_min_ms, h->p.net_max_ms);
	if (chance(h, h->p.delay_permille))
		ms += h_random(h) % 400;
	schedule(h, ms, EV_DELIVER, to, m);
}

static void env_send(struct repl_env *env, uint32_t group, uint64_t to, const char *address,
	const void *p, size_t len)
{
	struct h_node *n = node_of(env);
	struct harness *h = n->h;
	char expected[24];
	assert(group == H_GROUP);
	snprintf(expected, sizeof expected, "%" PRIu64, to);
	if (to == 0 || to > h->p.n || strcmp(address, expected) != 0)
		h_die(h, "node %u sends to %" PRIu64 " (%s)", n->number, to, address);
	unsigned dst = (unsigned)to - 1;
	if (n->doomed)
		return;
	if (h->tap) {
		struct repl_msg_head head;
		struct raft_message m;
		if (repl_msg_decode(p, len, &head, &m) != 0)
			h_die(h, "node %u sent what cannot be read", n->number);
		h->tap(h->tap_arg, n->number, dst, &m);
		repl_msg_release(&m);
	}
	if (h->cut[n->number][dst] || chance(h, h->p.drop_permille))
		return;
	post(h, n->number, dst, p, len);
	if (chance(h, h->p.dup_permille))
		post(h, n->number, dst, p, len);
}

static int env_work(struct repl_env *env, struct repl_work *w)
{
	struct h_node *n = node_of(env);
	schedule(n->h, 1 + h_random(n->h) % 40, EV_WORK, n->number, w);
	return 0;
}

static void env_fatal(struct repl_env *env, uint32_t group, int status, const char *what)
{
	struct h_node *n = node_of(env);
	assert(group == H_GROUP);
	if (status != -EIO || strcmp(what, "the log failed") != 0)
		h_die(n->h, "node %u: %s (%s): %s", n->number, what, vx_errno_name(status),
			raft_errmsg(&n->core->raft));
	n->doomed = true;
}

static const struct repl_env_ops env_ops = {
	.now_ms = env_now_ms,
	.random = env_random,
	.log_submit = env_log_submit,
	.send = env_send,
	.work = env_work,
	.fatal = env_fatal,
};

/* --- nodes ----------------------------------------------------------------------------------- */

static void flush(struct h_node *n)
{
	struct repl_log_op *op = n->queue;
	n->queue = NULL;
	n->queue_tail = &n->queue;
	int rc = n->break_log ? -EIO : 0;
	for (struct repl_log_op *o = op; o && rc == 0; o = o->next) {
		for (unsigned i = 0; i < o->req.n && rc == 0; i++)
			rc = wal_stage(n->wal, &o->req.recs[i]);
	}
	if (rc == 0)
		rc = wal_flush(n->wal);
	if (rc == 0 && wal_upkeep(n->wal) != 0)
		rc = -EIO;
	while (op) {
		struct repl_log_op *next = op->next;
		repl_core_log_done(op, rc);
		op = next;
	}
}

void h_start(struct harness *h, unsigned node)
{
	struct h_node *n = &h->nodes[node];
	struct wal_opts wo = {
		.segment_size_bytes = 1u << 18, .backend = WAL_PWRITE, .node_id = node + 1};
	struct repl_core_opts co = {
		.group = H_GROUP,
		.node_id = node + 1,
		.mark_bytes = h->p.mark_bytes,
		.trailing = h->p.trailing,
		.install_timeout_ms = 1500, /* messages get lost here */
	};
	struct wal_group_state st = {0};
	struct vx_err err = VX_ERR_INIT;
	uint64_t ids[H_NODES_MAX];
	assert(!n->up);
	for (unsigned i = 0; i < h->p.n; i++)
		ids[i] = i + 1;
	if (wal_open(n->disk, "wal", &wo, &n->wal, &err) != 0)
		h_die(h, "node %u: log does not open: %s", node, err.msg);
	if (wal_group_load(n->wal, H_GROUP, &st, &err) != 0)
		h_die(h, "node %u: log does not load: %s", node, err.msg);
	if (!repl_core_is_bootstrapped(&st)) {
		wal_group_state_release(&st);
		if (repl_core_bootstrap(n->wal, H_GROUP, ids, h->p.n) != 0 ||
			wal_flush(n->wal) != 0 || wal_group_load(n->wal, H_GROUP, &st, &err) != 0)
			h_die(h, "node %u: no bootstrap", node);
	}
	n->applied = st.mark_index;
	n->doomed = false;
	n->break_log = false;
	n->queue_tail = &n->queue;
	int rc = repl_core_open(&n->env, &co, &st, &n->core, &err);
	wal_group_state_release(&st);
	if (rc == 0) {
		n->up = true;
		rc = repl_core_start(n->core, &err);
	}
	if (rc != 0)
		h_die(h, "node %u: core does not start: %s", node, err.msg);
	schedule(h, 1 + h_random(h) % REPL_TICK_MS, EV_TICK, node, NULL);
}

static void noop(void *arg)
{
	(void)arg;
}

/* Takes the core apart without letting it reach the disk or the network. */
static void bury(struct h_node *n)
{
	struct harness *h = n->h;
	n->doomed = true;
	repl_core_close(n->core, noop, NULL);
	while (n->queue) {
		struct repl_log_op *op = n->queue;
		n->queue = op->next;
		repl_core_log_done(op, -ECANCELED);
	}
	for (size_t i = 0; i < h->n_heap; i++) {
		struct h_event *ev = &h->heap[i];
		if (ev->kind == EV_WORK && ev->node == n->number &&
			ev->incarnation == n->incarnation && ev->arg) {
			struct repl_work *w = ev->arg;
			ev->arg = NULL;
			w->fn(w);
			repl_core_work_done(w);
		}
	}
	repl_core_free(n->core);
	n->core = NULL;
	n->queue_tail = &n->queue;
	n->flush_scheduled = false;
	n->incarnation++;
	n->up = false;
}

void h_crash(struct harness *h, unsigned node)
{
	struct h_node *n = &h->nodes[node];
	if (!n->up)
		return;
	if (n->queue && chance(h, 500)) {
		/* The flush had begun: any part of it may be on the disk. */
		harness_disk_tear(n->disk, h_random(h));
		int rc = 0;
		for (struct repl_log_op *o = n->queue; o && rc == 0; o = o->next) {
			for (unsigned i = 0; i < o->req.n && rc == 0; i++)
				rc = wal_stage(n->wal, &o->req.recs[i]);
		}
		if (rc == 0)
			rc = wal_flush(n->wal);
	}
	bury(n);
	wal_close(n->wal);
	n->wal = NULL;
	harness_disk_crash(n->disk, h_random(h));
}

bool h_is_up(const struct harness *h, unsigned node)
{
	return h->nodes[node].up;
}

/* --- running ------------------------------------------------------------------------------------ */

static void deliver(struct harness *h, struct h_message *m)
{
	struct h_node *n = &h->nodes[m->to];
	if (n->up && !n->doomed && !h->cut[m->from][m->to]) {
		if (m->len > 5)
			n->received[m->bytes[5] & 7]++;
		repl_core_deliver(n->core, m->from + 1, m->bytes, m->len);
	}
	free(m);
}

static void run_event(struct harness *h, const struct h_event *ev)
{
	struct h_node *n = &h->nodes[ev->node];
	if (ev->kind == EV_DELIVER) {
		deliver(h, ev->arg);
	} else if (n->up && ev->incarnation == n->incarnation) {
		switch (ev->kind) {
		case EV_TICK:
			repl_core_tick(n->core);
			schedule(h, REPL_TICK_MS, EV_TICK, ev->node, NULL);
			break;
		case EV_FLUSH:
			n->flush_scheduled = false;
			flush(n);
			if (n->queue && !n->flush_scheduled)
				schedule_flush(n);
			break;
		case EV_WORK: {
			struct repl_work *w = ev->arg;
			w->fn(w);
			repl_core_work_done(w);
			break;
		}
		case EV_DELIVER:
			break;
		}
	}
	if (n->up && n->doomed)
		h_crash(h, ev->node);
}

static bool step(struct harness *h, uint64_t until)
{
	if (h->n_heap == 0 || h->heap[0].at > until) {
		h->now = until;
		return false;
	}
	struct h_event ev = pop(h);
	h->now = ev.at;
	run_event(h, &ev);
	return true;
}

void h_run(struct harness *h, uint64_t ms)
{
	uint64_t until = h->now + ms;
	while (step(h, until))
		;
}

bool h_run_until(
	struct harness *h, bool (*pred)(struct harness *h, void *arg), void *arg, uint64_t ms)
{
	uint64_t until = h->now + ms;
	while (!pred(h, arg)) {
		if (!step(h, until))
			return pred(h, arg);
	}
	return true;
}

uint64_t h_now(const struct harness *h)
{
	return h->now;
}

struct harness *h_new(const struct h_params *p)
{
	struct harness *h = must(calloc(1, sizeof *h));
	h->p = *p;
	h->rng = p->seed * 0x2545f4914f6cdd1du + 1;
	h->next_value = 1;
	assert(p->n <= H_NODES_MAX);
	for (unsigned i = 0; i < p->n; i++) {
		struct h_node *n = &h->nodes[i];
		n->env = (struct repl_env){.ops = &env_ops, .host_ops = &host_ops, .host = n};
		n->h = h;
		n->number = i;
		n->queue_tail = &n->queue;
		n->disk = must(harness_disk_new());
	}
	for (unsigned i = 0; i < p->n; i++)
		h_start(h, i);
	return h;
}

void h_free(struct harness *h)
{
	for (unsigned i = 0; i < h->p.n; i++) {
		h_crash(h, i);
		harness_disk_free(h->nodes[i].disk);
	}
	for (size_t i = 0; i < h->n_heap; i++) {
		if (h->heap[i].kind == EV_DELIVER)
			free(h->heap[i].arg);
	}
	free(h->heap);
	free(h->slots);
	free(h->entries);
	free(h->fate);
	free(h);
}

/* --- faults and views ------------------------------------------------------------------------------- */

void h_cut(struct harness *h, unsigned from, unsigned to, bool cut)
{
	h->cut[from][to] = cut;
}

void h_isolate(struct harness *h, unsigned node, bool cut)
{
	for (unsigned i = 0; i < h->p.n; i++)
		h->cut[i][node] = h->cut[node][i] = cut && i != node;
}

void h_heal(struct harness *h)
{
	memset(h->cut, 0, sizeof h->cut);
}

void h_latency(struct harness *h, unsigned from, unsigned to, uint64_t ms)
{
	h->latency[from][to] = ms;
}

void h_disk_latency(struct harness *h, unsigned node, uint64_t ms)
{
	h->nodes[node].disk_ms = ms;
}

void h_break_log(struct harness *h, unsigned node)
{
	h->nodes[node].break_log = true;
}

struct repl_core_group *h_core(struct harness *h, unsigned node)
{
	return h->nodes[node].core;
}

struct raft *h_raft(struct harness *h, unsigned node)
{
	return &h->nodes[node].core->raft;
}

int h_leader(struct harness *h)
{
	int best = -1;
	uint64_t best_term = 0;
	for (unsigned i = 0; i < h->p.n; i++) {
		struct h_node *n = &h->nodes[i];
		if (!n->up || n->doomed || !repl_core_is_ready(n->core))
			continue;
		if (n->core->raft.current_term > best_term) {
			best_term = n->core->raft.current_term;
			best = (int)i;
		}
	}
	return best;
}

void h_favour(struct harness *h, unsigned node)
{
	for (unsigned i = 0; i < h->p.n; i++) {
		struct h_node *n = &h->nodes[i];
		struct raft *r = n->up ? &n->core->raft : NULL;
		if (!r)
			continue;
		unsigned ms = i == node ? 1000 : 1000000;
		if (r->state == RAFT_FOLLOWER) {
			r->follower_state.randomized_election_timeout = ms;
			if (i != node)
				r->follower_state.current_leader.id = 0;
		} else if (r->state == RAFT_CANDIDATE) {
			r->candidate_state.randomized_election_timeout = ms;
		}
	}
}

static bool is_leader(struct harness *h, void *arg)
{
	unsigned node = *(unsigned *)arg;
	return h->nodes[node].up && raft_state(h_raft(h, node)) == RAFT_LEADER;
}

bool h_elect(struct harness *h, unsigned node, uint64_t ms)
{
	for (uint64_t end = h->now + ms; h->now < end;) {
		h_favour(h, node);
		if (h_run_until(h, is_leader, &node, 20))
			return true;
	}
	return false;
}

/* --- clients ------------------------------------------------------------------------------------------ */

static void set_fate(struct harness *h, uint64_t value, uint8_t fate)
{
	if (h->fate[value] != 0)
		h_die(h, "value %" PRIu64 " was answered twice", value);
	h->fate[value] = fate;
}

static void on_committed(struct repl_proposal *p)
{
	struct h_proposal *hp = VX_CONTAINER_OF(p, struct h_proposal, p);
	const struct h_node *n = hp->node;
	if (h_value_at(hp->h, n->applied) != hp->value)
		h_die(hp->h, "value %" PRIu64 " is answered before it is applied", hp->value);
	set_fate(hp->h, hp->value, 1);
	hp->h->n_acked++;
	free(hp);
}

static void on_failed(struct repl_proposal *p, int status)
{
	struct h_proposal *hp = VX_CONTAINER_OF(p, struct h_proposal, p);
	assert(status == -EROFS || status == -ETIMEDOUT);
	set_fate(hp->h, hp->value, 2);
	free(hp);
}

static uint64_t enqueue(struct harness *h, struct h_node *n, size_t len)
{
	uint64_t value = h->next_value++;
	assert(n->up);
	if (value >= h->n_fate) {
		size_t cap = 2 * value + 256;
		h->fate = must(realloc(h->fate, cap));
		memset(h->fate + h->n_fate, 0, cap - h->n_fate);
		h->n_fate = cap;
	}
	struct h_proposal *hp = must(calloc(1, sizeof *hp));
	hp->h = h;
	hp->node = n;
	hp->value = value;
	hp->p.data = must(repl_alloc(len));
	hp->p.len = len;
	hp->p.committed = on_committed;
	hp->p.failed = on_failed;
	memset(hp->p.data, (int)value, len);
	put_le64(hp->p.data, value);
	repl_core_enqueue(n->core, &hp->p);
	return value;
}

uint64_t h_propose_many(struct harness *h, unsigned node, unsigned n, size_t len)
{
	uint64_t first = h->next_value;
	for (unsigned i = 0; i < n; i++)
		enqueue(h, &h->nodes[node], len);
	repl_core_step(h->nodes[node].core);
	return first;
}

uint64_t h_propose(struct harness *h, unsigned node, size_t len)
{
	return h_propose_many(h, node, 1, len);
}

bool h_acked(const struct harness *h, uint64_t value)
{
	return h->fate[value] == 1;
}

bool h_failed(const struct harness *h, uint64_t value)
{
	return h->fate[value] == 2;
}

unsigned h_n_acked(const struct harness *h)
{
	return h->n_acked;
}

uint64_t h_applied(const struct harness *h, unsigned node)
{
	return h->nodes[node].applied;
}

uint64_t h_value_at(const struct harness *h, uint64_t index)
{
	return index < h->n_slots && h->slots[index].known ? h->slots[index].value : 0;
}

unsigned h_installs(const struct harness *h)
{
	return h->installs;
}

unsigned h_marks(const struct harness *h)
{
	return h->marks;
}

unsigned h_received(const struct harness *h, unsigned node, unsigned type)
{
	return h->nodes[node].received[type & 7];
}

void h_inject(struct harness *h, unsigned from, unsigned to, const struct raft_message *m)
{
	struct repl_msg_head head = {.group = H_GROUP, .from = from + 1, .to = to + 1};
	struct buf b = BUF_INIT;
	if (repl_msg_encode(&head, m, &b) != 0)
		abort();
	repl_core_deliver(h->nodes[to].core, from + 1, b.data, b.len);
	buf_release(&b);
}

void h_tap(struct harness *h,
	void (*tap)(void *arg, unsigned from, unsigned to, const struct raft_message *m), void *arg)
{
	h->tap = tap;
	h->tap_arg = arg;
}

void h_check_acked(struct harness *h)
{
	uint8_t *in = must(calloc(h->next_value + 1, 1));
	uint64_t low = UINT64_MAX;
	for (unsigned i = 0; i < h->p.n; i++) {
		if (h->nodes[i].up)
			low = VX_MIN(low, h->nodes[i].applied);
	}
	for (uint64_t i = 1; i <= low && i < h->n_slots; i++) {
		if (h->slots[i].value && in[h->slots[i].value]++)
			h_die(h, "value %" PRIu64 " was applied twice", h->slots[i].value);
	}
	for (uint64_t v = 1; v < h->next_value; v++) {
		if (h->fate[v] == 1 && !in[v])
			h_die(h, "value %" PRIu64 " was acknowledged and is lost", v);
	}
	free(in);
}

void h_check_logs(struct harness *h)
{
	struct wal_group_state st[H_NODES_MAX];
	memset(st, 0, sizeof st);
	for (unsigned i = 0; i < h->p.n; i++) {
		struct h_node *n = &h->nodes[i];
		struct wal_opts wo = {
			.segment_size_bytes = 1u << 18, .backend = WAL_PWRITE, .node_id = i + 1};
		struct vx_err err = VX_ERR_INIT;
		h_crash(h, i);
		if (wal_open(n->disk, "wal", &wo, &n->wal, &err) != 0 ||
			wal_group_load(n->wal, H_GROUP, &st[i], &err) != 0)
			h_die(h, "node %u: log is unreadable at the end: %s", i, err.msg);
		wal_close(n->wal);
		n->wal = NULL;
	}
	for (unsigned a = 0; a < h->p.n; a++) {
		for (unsigned b = a + 1; b < h->p.n; b++) {
			size_t j = 0;
			bool apart = false;
			for (size_t i = 0; i < st[a].n_entries; i++) {
				const struct wal_entry *x = &st[a].entries[i];
				while (j < st[b].n_entries && st[b].entries[j].index < x->index)
					j++;
				if (j == st[b].n_entries)
					break;
				const struct wal_entry *y = &st[b].entries[j];
				if (y->index != x->index)
					continue;
				bool same = x->term == y->term && x->len == y->len &&
					    memcmp(x->data, y->data, x->len) == 0;
				if (same && apart)
					h_die(h, "logs of %u and %u differ below %" PRIu64, a, b,
						x->index);
				apart = !same;
			}
		}
	}
	for (unsigned i = 0; i < h->p.n; i++)
		wal_group_state_release(&st[i]);
}
