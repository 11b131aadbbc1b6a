/* sim.c - the simulated cluster: events, nodes, network, faults.  See sim.h.
 *
 * One event heap, ordered by time and then by the order of scheduling, drives everything;
 * every random choice comes from one generator, so that a seed repeats a run exactly.  A process
 * that ends gets a new incarnation number, and events of an older one are void.  A process that stands
 * still has its events when it goes on.
 */
#include "sim_i.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void sim_die(struct sim *s, const char *fmt, ...)
{
	va_list ap;
	fflush(stdout);
	fprintf(stderr, "SEED=%" PRIu64 " at %" PRIu64 " ms: ", s->p.seed, s->now);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	for (unsigned i = 0; i < s->n * s->p.groups; i++) {
		struct sim_node *n = &s->nodes[i / s->p.groups];
		const struct sim_replica *r = &n->r[i % s->p.groups];
		const struct repl_core_group *g = r->core;
		if (!g)
			continue;
		const struct raft *f = &g->raft;
		fprintf(stderr,
			"  node %u id %" PRIu64
			" group %u: state %u term %llu vote %llu last %" PRIu64
			" stored %llu commit %llu applied %llu store %" PRIu64 " mark %" PRIu64
			" pending %u ops %u works %u installing %d ready %d verified %" PRIu64
			"/%" PRIu64 " own %" PRIu64 "/%d conf %llu/%llu\n",
			n->number, n->id, r->g, f->state, f->current_term, f->voted_for,
			g->last_index, f->last_stored, f->commit_index, f->last_applied,
			r->now.index, g->mark_index, g->pending, g->ops, g->works, g->installing,
			g->ready, g->guard.verified_index, g->guard.verified_term,
			g->guard.own_term, g->guard.own_durable, f->configuration_index,
			f->configuration_uncommitted_index);
	}
	if (s->p.abort)
		abort();
	_Exit(SIM_EXIT);
}

uint64_t sim_random(struct sim *s)
{
	uint64_t z = s->rng += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

bool sim_chance(struct sim *s, unsigned permille)
{
	return sim_random(s) % 1000 < permille;
}

uint64_t sim_between(struct sim *s, uint64_t lo, uint64_t hi)
{
	return lo + sim_random(s) % (hi - lo + 1);
}

void *sim_must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- events ---------------------------------------------------------------------- */

static bool sooner(const struct sim_event *a, const struct sim_event *b)
{
	return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void push(struct sim *s, struct sim_event ev)
{
	if (s->n_heap == s->cap_heap) {
		s->cap_heap = s->cap_heap ? 2 * s->cap_heap : 256;
		s->heap = sim_must(realloc(s->heap, s->cap_heap * sizeof *s->heap));
	}
	size_t i = s->n_heap++;
	while (i > 0 && sooner(&ev, &s->heap[(i - 1) / 2])) {
		s->heap[i] = s->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	s->heap[i] = ev;
}

void sim_schedule(struct sim *s, uint64_t delay, enum sim_event_kind kind, unsigned node, void *arg)
{
	push(s, (struct sim_event){
			s->now + delay, s->order++, kind, node, s->nodes[node].incarnation, arg});
}

static struct sim_event pop(struct sim *s)
{
	struct sim_event top = s->heap[0], last = s->heap[--s->n_heap];
	size_t i = 0;
	for (;;) {
		size_t c = 2 * i + 1;
		if (c >= s->n_heap)
			break;
		if (c + 1 < s->n_heap && sooner(&s->heap[c + 1], &s->heap[c]))
			c++;
		if (!sooner(&s->heap[c], &last))
			break;
		s->heap[i] = s->heap[c];
		i = c;
	}
	s->heap[i] = last;
	return top;
}

/* --- env --------------------------------------------------------------------------------- */

static struct sim_replica *replica_of(struct repl_env *env)
{
	return (struct sim_replica *)env;
}

static uint64_t env_now_ms(struct repl_env *env)
{
	struct sim_node *n = replica_of(env)->node;
	return n->s->now + n->jumped_ms;
}

/* libraft draws its election timeouts from this alone.  Few different values make elections meet. */
static uint64_t env_random(struct repl_env *env)
{
	struct sim *s = replica_of(env)->node->s;
	uint64_t z = sim_random(s);
	return s->p.timers ? z % s->p.timers * 30 : z;
}

struct sim_node *sim_node_of_id(struct sim *s, uint64_t id)
{
	for (unsigned i = 0; i < s->n; i++) {
		if (s->nodes[i].id == id)
			return &s->nodes[i];
	}
	return NULL;
}

static void post(struct sim *s, const struct sim_node *from, const struct sim_node *to,
	const void *p, size_t len)
{
	struct sim_message *m = sim_must(malloc(sizeof *m + len));
	m->from = from->number;
	m->from_id = from->id;
	m->to = to->number;
	m->to_id = to->id;
	m->len = len;
	memcpy(m->bytes, p, len);
	uint64_t fixed = s->latency[m->from][m->to];
	uint64_t ms = fixed ? fixed : sim_between(s, s->p.net_min_ms, s->p.net_max_ms);
	if (sim_chance(s, s->p.delay_permille))
		ms += sim_random(s) % (sim_chance(s, 100) ? 4000 : 400);
	sim_schedule(s, ms, SIM_DELIVER, m->to, m);
}

static void env_send(struct repl_env *env, uint32_t group, uint64_t to, const char *address,
	const void *p, size_t len)
{
	struct sim_replica *r = replica_of(env);
	struct sim_node *n = r->node;
	struct sim *s = n->s;
	const uint8_t *b = p;
	char expected[24];
	assert(group == SIM_GROUP + r->g);
	snprintf(expected, sizeof expected, "%" PRIu64, to);
	if (to == 0 || strcmp(address, expected) != 0)
		sim_die(s, "node %u sends to %" PRIu64 " (%s)", n->number, to, address);
	if (n->doomed)
		return;
	sim_check_send(r, p, len);
	struct sim_node *dst = sim_node_of_id(s, to);
	if (!dst)
		return; /* a machine that is no more */
	s->t.messages++;
	sim_trace(s, n->number, TR_SEND, to, r->g * 16 + b[5], get_le64(b + 32),
		len >= 56 ? get_le64(b + 48) : 0);
	if (s->tap) {
		struct repl_msg_head head;
		struct raft_message m;
		if (repl_msg_decode(p, len, &head, &m) != 0)
			sim_die(s, "node %u sent what cannot be read", n->number);
		s->tap(s->tap_arg, n->number, dst->number, &m);
		repl_msg_release(&m);
	}
	if (s->cut[n->number][dst->number] || sim_chance(s, s->p.drop_permille)) {
		sim_trace(s, n->number, TR_LOSE, to, b[5], 0, 0);
		return;
	}
	post(s, n, dst, p, len);
	if (sim_chance(s, s->p.dup_permille))
		post(s, n, dst, p, len);
}

static int env_work(struct repl_env *env, struct repl_work *w)
{
	struct sim_node *n = replica_of(env)->node;
	sim_schedule(n->s, 1 + sim_random(n->s) % 40, SIM_WORK, n->number, w);
	return 0;
}

static void env_fatal(struct repl_env *env, uint32_t group, int status, const char *what)
{
	struct sim_replica *r = replica_of(env);
	sim_trace(r->node->s, r->node->number, TR_FATAL, group, (uint64_t)-status, 0, 0);
	if (status != -EIO || strcmp(what, "the log failed") != 0)
		sim_die(r->node->s, "node %u: %s (%s): %s", r->node->number, what,
			vx_errno_name(status), raft_errmsg(&r->core->raft));
	r->node->doomed = true;
}

static const struct repl_env_ops env_ops = {
	.now_ms = env_now_ms,
	.random = env_random,
	.log_submit = sim_log_submit,
	.send = env_send,
	.work = env_work,
	.fatal = env_fatal,
};

/* --- nodes ----------------------------------------------------------------------------------- */

struct wal_opts sim_wal_opts(const struct sim *s, const struct sim_node *n)
{
	return (struct wal_opts){
		.segment_size_bytes = s->p.segment_bytes ? s->p.segment_bytes : 1u << 18,
		.backend = WAL_PWRITE,
		.node_id = n->id,
	};
}

static int bootstrap(struct sim_node *n, unsigned g)
{
	uint64_t ids[SIM_NODES_MAX];
	for (unsigned i = 0; i < n->s->p.n; i++)
		ids[i] = i + 1;
	int rc = repl_core_bootstrap(n->wal, SIM_GROUP + g, ids, n->s->p.n);
	return rc == 0 ? wal_flush(n->wal) : rc;
}

static int start_group(struct sim_node *n, unsigned g, struct vx_err *err)
{
	struct sim *s = n->s;
	struct sim_replica *r = &n->r[g];
	struct repl_core_opts co = {
		.group = SIM_GROUP + g,
		.node_id = n->id,
		.mark_bytes = s->p.mark_bytes,
		.mark_interval_ms = 5000,
		.trailing = s->p.trailing,
		.install_timeout_ms = 1500, /* messages get lost here */
	};
	struct wal_group_state st = {0};
	int rc = wal_group_load(n->wal, co.group, &st, err);
	if (rc == 0 && n->founder && !repl_core_is_bootstrapped(&st)) {
		wal_group_state_release(&st);
		rc = bootstrap(n, g);
		if (rc == 0)
			rc = wal_group_load(n->wal, co.group, &st, err);
	}
	if (rc != 0)
		return rc;
	sim_trace(s, n->number, TR_START, n->id, st.term, st.mark_index,
		st.n_entries ? st.entries[st.n_entries - 1].index : st.mark_index);
	r->posted = st.mark_index;
	r->env = (struct repl_env){.ops = &env_ops, .host_ops = &sim_host_ops, .host = r};
	rc = repl_core_open(&r->env, &co, &st, &r->core, err);
	wal_group_state_release(&st);
	return rc;
}

/* Forgets a start that did not succeed. */
static bool start_failed(struct sim_node *n, int rc, const struct vx_err *err)
{
	struct sim *s = n->s;
	for (unsigned g = 0; g < s->p.groups; g++) {
		repl_core_free(n->r[g].core);
		n->r[g].core = NULL;
	}
	wal_close(n->wal);
	n->wal = NULL;
	if (rc == -ENOSPC)
		return false; /* room comes back */
	if (rc != -EUCLEAN || !n->damaged)
		sim_die(s, "node %u does not start: %s", n->number, vx_err_msg(err, rc));
	sim_trace(s, n->number, TR_REFUSED, (uint64_t)-rc, 0, 0, 0);
	return false;
}

bool sim_start(struct sim *s, unsigned node)
{
	struct sim_node *n = &s->nodes[node];
	struct wal_opts wo = sim_wal_opts(s, n);
	struct vx_err err = VX_ERR_INIT;
	assert(!n->up);
	n->doomed = n->refused = n->full = false;
	n->break_at = 0;
	n->queue_tail = &n->queue;
	n->parked_tail = &n->parked;
	int rc = wal_open(n->disk, "wal", &wo, &n->wal, &err);
	for (unsigned g = 0; g < s->p.groups && rc == 0; g++)
		rc = start_group(n, g, &err);
	if (rc != 0)
		return start_failed(n, rc, &err);
	n->up = true;
	for (unsigned g = 0; g < s->p.groups; g++) {
		rc = repl_core_start(n->r[g].core, &err);
		if (rc != 0)
			sim_die(s, "node %u: core does not start: %s", node, err.msg);
	}
	sim_schedule(s, 1 + sim_random(s) % REPL_TICK_MS, SIM_TICK, node, NULL);
	return true;
}

static void noop(void *arg)
{
	(void)arg;
}

/* Work that was under way has no effect any more (the node is doomed), but has to end. */
static void end_works(struct sim_node *n)
{
	struct sim *s = n->s;
	for (size_t i = 0; i < s->n_heap; i++) {
		struct sim_event *ev = &s->heap[i];
		if (ev->kind == SIM_WORK && ev->node == n->number &&
			ev->incarnation == n->incarnation && ev->arg) {
			struct repl_work *w = ev->arg;
			ev->arg = NULL;
			w->fn(w);
			repl_core_work_done(w);
		}
	}
}

/* Takes the cores apart without letting them reach the disk or the network. */
static void end_process(struct sim_node *n, bool power)
{
	struct sim *s = n->s;
	n->doomed = true;
	for (unsigned g = 0; g < s->p.groups; g++)
		repl_core_close(n->r[g].core, noop, NULL);
	sim_log_cancel(n);
	end_works(n);
	for (unsigned g = 0; g < s->p.groups; g++) {
		repl_core_free(n->r[g].core);
		n->r[g].core = NULL;
		sim_store_end(&n->r[g], power);
	}
	sim_tickets_end(n);
	n->flush_scheduled = false;
	n->paused_until = 0;
	n->incarnation++;
	n->up = false;
	/* The end of a process tidies nothing up. */
	fakedisk_fail_after(n->disk, 1, -EIO);
	wal_close(n->wal);
	fakedisk_fail_after(n->disk, 0, 0);
	n->wal = NULL;
}

void sim_crash(struct sim *s, unsigned node)
{
	struct sim_node *n = &s->nodes[node];
	if (n->up) {
		sim_trace(s, node, TR_CRASH, 0, 0, 0, 0);
		s->t.crashes++;
		sim_log_tear(n);
		end_process(n, true);
	}
	fakedisk_crash(n->disk, sim_random(s));
}

void sim_kill(struct sim *s, unsigned node)
{
	struct sim_node *n = &s->nodes[node];
	if (!n->up)
		return;
	sim_trace(s, node, TR_KILL, 0, 0, 0, 0);
	s->t.kills++;
	sim_log_tear(n);
	end_process(n, false);
}

bool sim_is_up(const struct sim *s, unsigned node)
{
	return s->nodes[node].up;
}

void sim_wipe(struct sim *s, unsigned node)
{
	struct sim_node *n = &s->nodes[node];
	if (n->up)
		sim_kill(s, node);
	fakedisk_free(n->disk);
	n->disk = sim_must(fakedisk_new());
	n->id = s->next_id++;
	n->founder = n->damaged = false;
	n->absent = true;
	n->jumped_ms = 0;
	n->last_frame_seg = 0;
	for (unsigned g = 0; g < s->p.groups; g++)
		sim_store_wipe(&n->r[g]);
	sim_trace(s, node, TR_WIPE, n->id, 0, 0, 0);
}

/* --- running ------------------------------------------------------------------------------------ */

static void deliver(struct sim *s, const struct sim_message *m)
{
	struct sim_node *n = &s->nodes[m->to];
	unsigned g = (unsigned)(get_le32(m->bytes + 8) - SIM_GROUP);
	if (!n->up || n->doomed || n->id != m->to_id || s->cut[m->from][m->to])
		return;
	n->received[m->bytes[5] & 7]++;
	sim_trace(s, m->to, TR_DELIVER, m->from_id, g * 16 + m->bytes[5], get_le64(m->bytes + 32),
		m->len >= 56 ? get_le64(m->bytes + 48) : 0);
	repl_core_deliver(n->r[g].core, m->from_id, m->bytes, m->len);
}

static void tick(struct sim_node *n)
{
	sim_log_watch(n);
	for (unsigned g = 0; g < n->s->p.groups && !n->doomed; g++)
		repl_core_tick(n->r[g].core);
	sim_schedule(n->s, REPL_TICK_MS, SIM_TICK, n->number, NULL);
}

static void run_event(struct sim *s, const struct sim_event *ev)
{
	struct sim_node *n = &s->nodes[ev->node];
	bool current = n->up && ev->incarnation == n->incarnation;
	if (n->up && n->paused_until > s->now && (current || ev->kind == SIM_DELIVER)) {
		struct sim_event later = *ev;
		later.at = n->paused_until;
		later.order = s->order++;
		push(s, later);
		return;
	}
	if (ev->kind == SIM_DELIVER) {
		deliver(s, ev->arg);
		free(ev->arg);
	} else if (current) {
		switch (ev->kind) {
		case SIM_TICK:
			tick(n);
			break;
		case SIM_FLUSH:
			sim_log_flush(n);
			break;
		case SIM_APPLY:
			sim_store_apply(ev->arg);
			break;
		case SIM_WORK: {
			struct repl_work *w = ev->arg;
			w->fn(w);
			repl_core_work_done(w);
			break;
		}
		case SIM_DELIVER:
			break;
		}
	}
	/* The process has called abort(); the kernel goes on, or the machine too is gone. */
	if (n->up && n->doomed) {
		if (sim_chance(s, 500))
			sim_crash(s, ev->node);
		else
			sim_kill(s, ev->node);
	}
}

static bool step(struct sim *s, uint64_t until)
{
	if (s->n_heap == 0 || s->heap[0].at > until) {
		s->now = until;
		return false;
	}
	struct sim_event ev = pop(s);
	s->now = ev.at;
	run_event(s, &ev);
	return true;
}

void sim_run(struct sim *s, uint64_t ms)
{
	uint64_t until = s->now + ms;
	while (step(s, until))
		;
}

bool sim_run_until(struct sim *s, bool (*pred)(struct sim *s, void *arg), void *arg, uint64_t ms)
{
	uint64_t until = s->now + ms;
	while (!pred(s, arg)) {
		if (!step(s, until))
			return pred(s, arg);
	}
	return true;
}

struct sim *sim_new(const struct sim_params *p)
{
	struct sim *s = sim_must(calloc(1, sizeof *s));
	s->p = *p;
	if (s->p.groups == 0)
		s->p.groups = 1;
	s->rng = p->seed * 0x2545f4914f6cdd1du + 1;
	s->n = p->n + p->extra;
	s->next_value = 1;
	s->next_id = s->n + 1;
	assert(s->n <= SIM_NODES_MAX && s->p.groups <= SIM_GROUPS_MAX);
	sim_clock_set(s);
	for (unsigned i = 0; i < s->n; i++) {
		struct sim_node *n = &s->nodes[i];
		n->s = s;
		n->number = i;
		n->id = i + 1;
		n->founder = i < p->n;
		n->absent = !n->founder;
		n->disk = sim_must(fakedisk_new());
		for (unsigned g = 0; g < s->p.groups; g++) {
			n->r[g].node = n;
			n->r[g].g = g;
			n->r[g].queue_tail = &n->r[g].queue;
		}
	}
	for (unsigned i = 0; i < p->n; i++)
		(void)sim_start(s, i);
	return s;
}

void sim_free(struct sim *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		sim_crash(s, i);
		fakedisk_free(s->nodes[i].disk);
		for (unsigned g = 0; g < s->p.groups; g++)
			sim_store_release(&s->nodes[i].r[g]);
	}
	for (size_t i = 0; i < s->n_heap; i++) {
		if (s->heap[i].kind == SIM_DELIVER)
			free(s->heap[i].arg);
	}
	sim_check_clear(s);
	sim_clock_set(NULL);
	free(s->heap);
	free(s->fate);
	free(s);
}
