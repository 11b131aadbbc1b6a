/* repl_core.c - one group: its life, its steps, its queue of proposals.
 *
 * Every step function has the same shape: call into libraft once (a tick, a message, a
 * finished log request), then settle.  Settling runs what libraft must not see from inside
 * its own calls -- callbacks of sends, watermarks, the news that the role changed -- and
 * then starts at most one thing: the barrier of a new leader (rule 3), or else the next batch
 * of proposals, or else a barrier that makes libraft take a due mark.  One append of ours is
 * in flight at a time (rule 7); what is proposed meanwhile gathers and goes as one.
 *
 * A proposal is answered exactly once: 'committed' from inside apply of its entry, or
 * 'failed' when the leadership that appended it is over (-ETIMEDOUT: the entry may survive
 * under the next leader), or before libraft has seen it (-EROFS, -ENOSPC, -EMSGSIZE).
 */
#include "raft/repl_core_i.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

#define DEFAULT_MARK_BYTES       (16u << 20)
#define DEFAULT_MARK_INTERVAL_MS 30000u
#define INSTALL_TIMEOUT_MS       (10u * 60 * 1000) /* files travel out of band */

/* --- terms of entries ------------------------------------------------------------- */

int repl_span_append(struct repl_core_group *g, uint64_t index, uint64_t term)
{
	if (g->n_spans > 0 && g->spans[g->n_spans - 1].term == term)
		return 0;
	if (g->n_spans == g->cap_spans) {
		size_t cap = 2 * g->cap_spans;
		struct repl_span *s = realloc(g->spans, cap * sizeof *s);
		if (!s)
			return -ENOMEM;
		g->spans = s;
		g->cap_spans = cap;
	}
	g->spans[g->n_spans++] = (struct repl_span){index, term};
	return 0;
}

void repl_span_truncate(struct repl_core_group *g, uint64_t index)
{
	while (g->n_spans > 0 && g->spans[g->n_spans - 1].first >= index)
		g->n_spans--;
}

void repl_span_reset(struct repl_core_group *g, uint64_t index, uint64_t term)
{
	g->n_spans = 0;
	if (index > 0)
		g->spans[g->n_spans++] = (struct repl_span){index, term};
}

/* Forgets spans that end before 'index'. */
void repl_span_trim(struct repl_core_group *g, uint64_t index)
{
	size_t drop = 0;
	while (drop + 1 < g->n_spans && g->spans[drop + 1].first <= index)
		drop++;
	if (drop == 0)
		return;
	g->n_spans -= drop;
	memmove(g->spans, g->spans + drop, g->n_spans * sizeof *g->spans);
}

uint64_t repl_core_term_of(const struct repl_core_group *g, uint64_t index)
{
	if (index > g->last_index)
		return 0;
	for (size_t i = g->n_spans; i-- > 0;) {
		if (g->spans[i].first <= index)
			return g->spans[i].term;
	}
	return 0;
}

/* --- bootstrap ---------------------------------------------------------------------- */

void repl_address_of(uint64_t id, char ret[REPL_ADDRESS_MAX])
{
	snprintf(ret, REPL_ADDRESS_MAX, "%" PRIu64, id);
}

int repl_core_bootstrap(struct wal *w, uint32_t group, const uint64_t *ids, unsigned n)
{
	struct raft_configuration c;
	struct raft_buffer b = {NULL, 0};
	char address[REPL_ADDRESS_MAX];
	int rc = 0;
	if (n == 0 || n > REPL_VOTERS_MAX)
		return -EINVAL;
	raft_configuration_init(&c);
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		repl_address_of(ids[i], address);
		rc = repl_errno_from_raft(raft_configuration_add(&c, ids[i], address, RAFT_VOTER));
	}
	if (rc == 0)
		rc = repl_errno_from_raft(raft_configuration_encode(&c, &b));
	if (rc == 0)
		repl_conf_clear_padding(b.base, b.len);
	raft_configuration_close(&c);
	if (rc != 0)
		return rc;
	struct wal_rec hard = {.group = group, .type = WAL_HARDSTATE, .term = 1};
	struct wal_rec entry = {
		.group = group,
		.type = WAL_ENTRY,
		.etype = RAFT_CHANGE,
		.index = 1,
		.term = 1,
		.data = b.base,
		.len = b.len,
	};
	rc = wal_stage(w, &hard);
	if (rc == 0)
		rc = wal_stage(w, &entry);
	raft_free(b.base);
	return rc;
}

bool repl_core_is_bootstrapped(const struct wal_group_state *st)
{
	return st->exists && (st->mark_index > 0 || st->n_entries > 0);
}

/* --- life ------------------------------------------------------------------------------ */

/* What survived must be a mark or entry 1, then entries without a gap, none of a term
 * beyond ours: libraft asserts as much. */
static int check_state(const struct wal_group_state *st, uint32_t group, struct vx_err *err)
{
	uint64_t next = st->n_entries > 0 ? st->entries[0].index : 0;
	uint64_t term = 0;
	if (st->n_entries > 0 && (next == 0 || next > st->mark_index + 1))
		return vx_err_set(err, -EUCLEAN,
			"group %u: log starts at %" PRIu64 ", mark is %" PRIu64, group, next,
			st->mark_index);
	for (size_t i = 0; i < st->n_entries; i++, next++) {
		const struct wal_entry *e = &st->entries[i];
		if (e->index != next || e->term < term || e->term > st->term || e->term == 0 ||
			e->etype < RAFT_COMMAND || e->etype > RAFT_CHANGE)
			return vx_err_set(err, -EUCLEAN,
				"group %u: entry %" PRIu64 " (term %" PRIu64
				", type %u) does not fit",
				group, e->index, e->term, e->etype);
		term = e->term;
	}
	if (st->mark_index == 0 && st->n_entries > 0 && st->entries[0].etype != RAFT_CHANGE)
		return vx_err_set(err, -EUCLEAN, "group %u: entry 1 is not a configuration", group);
	return 0;
}

static int take_state(struct repl_core_group *g, struct wal_group_state *st, struct vx_err *err)
{
	int rc = check_state(st, g->opts.group, err);
	if (rc != 0)
		return rc;
	if (st->mark_index > 0) {
		struct repl_manifest m;
		rc = repl_manifest_decode(st->manifest, st->manifest_len, &m);
		if (rc != 0)
			return vx_err_set(err, rc, "group %u: unreadable manifest of mark %" PRIu64,
				g->opts.group, st->mark_index);
		rc = repl_conf_base(g, m.conf_index, &m.conf);
		raft_configuration_close(&m.conf);
		if (rc == 0)
			rc = buf_append(&g->mark_record, st->manifest, st->manifest_len);
		if (rc == 0)
			rc = repl_span_append(g, st->mark_index, st->mark_term);
	}
	g->mark_index = st->mark_index;
	g->mark_term = st->mark_term;
	g->last_index = st->mark_index;
	for (size_t i = 0; rc == 0 && i < st->n_entries; i++) {
		const struct wal_entry *e = &st->entries[i];
		if (e->index <= st->mark_index)
			continue;
		rc = repl_span_append(g, e->index, e->term);
		if (rc == 0 && e->etype == RAFT_CHANGE)
			rc = repl_conf_entry(g, e->index, e->data, e->len);
		if (rc == -EUCLEAN)
			vx_err_set(err, rc, "group %u: entry %" PRIu64 " is no configuration",
				g->opts.group, e->index);
		g->last_index = e->index;
	}
	return rc;
}

int repl_core_open(struct repl_env *env, const struct repl_core_opts *opts,
	struct wal_group_state *st, struct repl_core_group **ret, struct vx_err *err)
{
	struct repl_core_group *g = calloc(1, sizeof *g);
	if (!g)
		return -ENOMEM;
	g->env = env;
	g->opts = *opts;
	if (g->opts.mark_bytes == 0)
		g->opts.mark_bytes = DEFAULT_MARK_BYTES;
	if (g->opts.mark_interval_ms == 0)
		g->opts.mark_interval_ms = DEFAULT_MARK_INTERVAL_MS;
	if (g->opts.trailing == 0)
		g->opts.trailing = 1; /* zero means "install" to snapshot_put */
	repl_address_of(opts->node_id, g->address);
	g->wait_tail = &g->wait_head;
	repl_io_init(g);
	repl_fsm_init(g);

	/* Room for one span always, so that a reset cannot fail. */
	g->spans = calloc(8, sizeof *g->spans);
	if (!g->spans) {
		free(g);
		return -ENOMEM;
	}
	g->cap_spans = 8;
	int rc = take_state(g, st, err);
	if (rc != 0)
		goto out_free;
	rc = repl_errno_from_raft(raft_init(&g->raft, &g->io, &g->fsm, opts->node_id, g->address));
	if (rc != 0) {
		vx_err_set(err, rc, "group %u: %s", opts->group, g->io.errmsg);
		goto out_free;
	}
	g->raft.data = g;
	raft_set_election_timeout(&g->raft, REPL_ELECTION_MS);
	raft_set_heartbeat_timeout(&g->raft, REPL_TICK_MS);
	raft_set_install_snapshot_timeout(
		&g->raft, opts->install_timeout_ms ? opts->install_timeout_ms : INSTALL_TIMEOUT_MS);
	raft_set_snapshot_threshold(&g->raft, UINT_MAX);
	raft_set_snapshot_trailing(&g->raft, g->opts.trailing);
	raft_set_pre_vote(&g->raft, true); /* rule 8 */
	g->loaded = *st;
	memset(st, 0, sizeof *st);
	*ret = g;
	return 0;
out_free:
	repl_io_release(g);
	repl_conf_release(g);
	free(g->spans);
	free(g);
	return rc;
}

int repl_core_start(struct repl_core_group *g, struct vx_err *err)
{
	assert(!g->started);
	int rc = repl_install_recover(g);
	if (rc != 0)
		return vx_err_set(err, rc, "group %u: the store is not at mark %" PRIu64 ": %s",
			g->opts.group, g->mark_index, vx_errno_name(rc));
	g->started = true;
	g->stepping = true;
	g->loading = true;
	/* 'loading' covers the restore of our own mark; a sole voter's replay, which
	 * also happens inside, does not ask. */
	int rv = raft_start(&g->raft);
	g->loading = false;
	g->stepping = false;
	wal_group_state_release(&g->loaded);
	memset(&g->loaded, 0, sizeof g->loaded);
	if (rv != 0) {
		g->started = false;
		return vx_err_set(err, repl_errno_from_raft(rv), "group %u does not start: %s",
			g->opts.group, raft_errmsg(&g->raft));
	}
	/* Both may be done again, and there is no way back to a group that was not started. */
	unsigned tries = 0;
	while ((!repl_guard_begin_term(g) || !repl_guard_put_configuration_right(g)) &&
		++tries < REPL_MEMORY_TRIES)
		usleep(REPL_MEMORY_WAIT_US);
	if (tries == REPL_MEMORY_TRIES) {
		repl_core_fatal(g, -ENOMEM, "no memory for a term");
		return vx_err_set(err, -ENOMEM, "group %u: no memory", g->opts.group);
	}
	repl_core_step(g);
	return 0;
}

void repl_core_fatal(struct repl_core_group *g, int status, const char *what)
{
	if (g->dead)
		return;
	g->dead = true;
	g->env->ops->fatal(g->env, g->opts.group, status, what);
}

static void fail(struct repl_proposal *p, int status)
{
	if (p->data)
		raft_free(p->data);
	p->data = NULL;
	p->failed(p, status);
}

static void fail_list(struct repl_proposal *p, int status)
{
	while (p) {
		struct repl_proposal *next = p->next;
		fail(p, status);
		p = next;
	}
}

static void fail_batch(struct repl_core_group *g, int status)
{
	struct repl_proposal *p = g->batch_head;
	g->batch_head = NULL;
	fail_list(p, status);
}

static void fail_waiting(struct repl_core_group *g, int status)
{
	struct repl_proposal *p = g->wait_head;
	g->wait_head = NULL;
	g->wait_tail = &g->wait_head;
	fail_list(p, status);
}

static void fail_marks(struct repl_core_group *g, int status)
{
	while (g->mark_waiting) {
		struct repl_mark_req *req = g->mark_waiting;
		g->mark_waiting = req->next;
		req->done(req, status);
	}
}

static void raft_closed(struct raft *raft)
{
	struct repl_core_group *g = raft->data;
	g->closed = true;
}

void repl_core_close(struct repl_core_group *g, void (*cb)(void *arg), void *arg)
{
	assert(!g->closing);
	g->closing = true;
	g->close_cb = cb;
	g->close_arg = arg;
	g->stepping = true;
	raft_close(&g->raft, raft_closed);
	repl_io_release_held(g);
	fail_batch(g, -ETIMEDOUT);
	fail_waiting(g, -ETIMEDOUT);
	g->stepping = false;
	repl_core_step(g);
}

void repl_core_free(struct repl_core_group *g)
{
	if (!g)
		return;
	if (!g->closed) {
		/* Never started: nothing can be under way, so closing ends at once. */
		assert(!g->started);
		g->closing = true;
		raft_close(&g->raft, raft_closed);
		assert(g->close_io_cb);
		g->close_io_cb(&g->io);
	}
	wal_group_state_release(&g->loaded);
	repl_io_release(g);
	buf_release(&g->mark_manifest);
	repl_conf_release(g);
	free(g->spans);
	free(g);
}

/* --- settling ------------------------------------------------------------------------------ */

void repl_core_defer(struct repl_core_group *g, struct repl_defer *d)
{
	d->next = NULL;
	*g->defer_tail = d;
	g->defer_tail = &d->next;
}

static bool run_deferred(struct repl_core_group *g)
{
	bool any = false;
	while (g->defer_head) {
		struct repl_defer *d = g->defer_head;
		g->defer_head = d->next;
		if (!g->defer_head)
			g->defer_tail = &g->defer_head;
		d->run(g, d);
		any = true;
	}
	return any;
}

/* Rule 12: whatever was applied without reaching apply() was a barrier or a configuration;
 * the host hears its index, or waits for "applied >= i" would hang. */
void repl_post_watermarks(struct repl_core_group *g, uint64_t upto)
{
	while (g->posted < upto && !g->dead) {
		g->posted++;
		g->env->host_ops->watermark(g->env->host, g->opts.group, g->posted);
	}
}

/* Notices what the last call into libraft did to our role. */
static void note_role(struct repl_core_group *g)
{
	bool leader = raft_state(&g->raft) == RAFT_LEADER;
	uint64_t term = g->raft.current_term;
	if (leader == g->is_leader && term == g->role_term)
		return;
	/* Something differs: a leader before is none now, or of another term. */
	if (g->is_leader)
		fail_batch(g, -ETIMEDOUT);
	g->is_leader = leader;
	g->role_term = term;
	g->ready = false;
	g->barrier_wanted = leader;
	if (g->env->host_ops->role)
		g->env->host_ops->role(g->env->host, g->opts.group, leader, term);
}

static void barrier_done(struct raft_barrier *req, int status)
{
	struct repl_core_group *g = req->data;
	g->barrier_busy = false;
	if (status == 0)
		g->ready = true;
}

static void start_barrier(struct repl_core_group *g)
{
	g->barrier.data = g;
	g->barrier_busy = true;
	int rv = raft_barrier(&g->raft, &g->barrier, barrier_done);
	if (rv != 0)
		g->barrier_busy = false; /* out of memory: the next tick tries again */
	else
		g->barrier_wanted = false;
}

static void apply_done(struct raft_apply *req, int status, void *result)
{
	struct repl_core_group *g = req->data;
	(void)result;
	g->apply_busy = false;
	/* Rule 13: success is answered from apply, entry by entry. */
	if (status != 0)
		fail_batch(g, repl_errno_from_raft(status));
}

/* Takes as many waiting proposals as fit one append, at least one.  Returns their number. */
static unsigned gather(struct repl_core_group *g, struct raft_buffer *bufs)
{
	size_t bytes = 0;
	unsigned n = 0;
	struct repl_proposal *p = g->wait_head, *last;
	assert(p);
	do {
		bufs[n].base = p->data;
		bufs[n].len = p->len;
		bytes += p->len;
		n++;
		last = p;
		p = p->next;
	} while (p && n < REPL_BATCH_MAX && bytes + p->len <= REPL_BATCH_BYTES_MAX);
	g->batch_head = g->wait_head;
	g->wait_head = p;
	if (!p)
		g->wait_tail = &g->wait_head;
	last->next = NULL;
	return n;
}

/* True when the proposals must wait for a mark: libraft keeps everything above it in memory. */
static bool stalled(const struct repl_core_group *g)
{
	return g->unmarked_bytes >= REPL_STALL_MARKS * g->opts.mark_bytes;
}

static void start_batch(struct repl_core_group *g)
{
	struct raft_buffer bufs[REPL_BATCH_MAX];
	unsigned n = gather(g, bufs);
	g->apply.data = g;
	g->apply_busy = true;
	g->batch_term = g->raft.current_term;
	g->batch_next = g->last_index + 1;
	int rv = raft_apply(&g->raft, &g->apply, bufs, n, apply_done);
	if (rv != 0) {
		g->apply_busy = false;
		fail_batch(g, repl_errno_from_raft(rv));
		return;
	}
	for (struct repl_proposal *p = g->batch_head; p; p = p->next)
		p->data = NULL; /* libraft's */
}

/* The one thing a leader may start.  True if something changed. */
static bool start_something(struct repl_core_group *g)
{
	if (!g->is_leader) {
		fail_waiting(g, -EROFS);
		fail_marks(g, -EROFS);
		return false;
	}
	if (g->full)
		fail_waiting(g, -ENOSPC);
	if (!repl_guard_may_propose(g))
		return false;
	if (g->barrier_wanted) {
		start_barrier(g);
		return g->barrier_busy;
	}
	if (!g->ready)
		return false;
	if (g->wait_head && !stalled(g)) {
		start_batch(g);
		return true;
	}
	assert(!g->mark_armed || !g->mark_busy);
	if (g->mark_armed && g->env->ops->now_ms(g->env) >= g->mark_poke_at_ms) {
		g->mark_poke_at_ms = g->env->ops->now_ms(g->env) + REPL_MARK_RETRY_MS;
		start_barrier(g);
		return g->barrier_busy;
	}
	return false;
}

static void finish_close(struct repl_core_group *g)
{
	if (g->ops > 0 || g->works > 0)
		return;
	fail_marks(g, -ETIMEDOUT);
	if (g->close_io_cb) {
		raft_io_close_cb cb = g->close_io_cb;
		g->close_io_cb = NULL;
		cb(&g->io);
	}
	assert(g->closed);
	if (g->close_cb) {
		void (*cb)(void *arg) = g->close_cb;
		g->close_cb = NULL;
		cb(g->close_arg); /* may free 'g' */
	}
}

void repl_core_step(struct repl_core_group *g)
{
	assert(!g->stepping);
	g->stepping = true;
	bool again = true;
	while (again && !g->closing && !g->dead) {
		again = run_deferred(g);
		int state = raft_state(&g->raft);
		if (state == RAFT_UNAVAILABLE && g->started) {
			log_error("raft", "group %u: libraft gave up: %s", g->opts.group,
				raft_errmsg(&g->raft));
			repl_core_fatal(g, -EIO, "libraft gave up");
			break;
		}
		repl_post_watermarks(g, raft_last_applied(&g->raft));
		note_role(g);
		repl_mark_answer(g);
		if (!g->mark_armed && repl_mark_due(g))
			repl_mark_arm(g);
		again |= start_something(g);
	}
	if (g->dead) {
		fail_batch(g, -ETIMEDOUT);
		fail_waiting(g, -EROFS);
		fail_marks(g, -EROFS);
	}
	if (g->closing) {
		run_deferred(g);
		fail_waiting(g, -ETIMEDOUT);
	}
	g->stepping = false;
	if (g->closing)
		finish_close(g);
}

/* --- steps -------------------------------------------------------------------------------------- */

void repl_core_tick(struct repl_core_group *g)
{
	if (g->closing || g->dead || !g->started)
		return;
	assert(!g->stepping);
	g->stepping = true;
	if (repl_guard_may_tick(g))
		g->tick_cb(&g->io);
	g->stepping = false;
	repl_core_step(g);
}

/* Rule 5: the answer libraft should have given. */
static void refuse_vote(struct repl_core_group *g, const struct raft_message *m)
{
	struct raft_message answer;
	struct repl_msg_head head = {
		.group = g->opts.group, .from = g->opts.node_id, .to = m->server_id};
	struct buf b = BUF_INIT;
	memset(&answer, 0, sizeof answer);
	answer.type = RAFT_IO_REQUEST_VOTE_RESULT;
	answer.request_vote_result.term = g->raft.current_term;
	answer.request_vote_result.vote_granted = false;
	answer.request_vote_result.pre_vote = raft_tribool_false;
	/* Says nothing that is not durable already or refused anyway: no gate. */
	if (repl_msg_encode(&head, &answer, &b) == 0)
		g->env->ops->send(
			g->env, g->opts.group, m->server_id, m->server_address, b.data, b.len);
	buf_release(&b);
}

static const char *known_address(const struct repl_core_group *g, uint64_t id)
{
	for (unsigned i = 0; i < g->raft.configuration.n; i++) {
		if (g->raft.configuration.servers[i].id == id)
			return g->raft.configuration.servers[i].address;
	}
	return NULL;
}

void repl_core_deliver(struct repl_core_group *g, uint64_t from, const void *p, size_t n)
{
	struct repl_msg_head head;
	struct raft_message m;
	char address[REPL_ADDRESS_MAX];
	if (g->closing || g->dead || !g->started)
		return;
	if (repl_msg_decode(p, n, &head, &m) != 0)
		return;
	if (head.group != g->opts.group || head.to != g->opts.node_id || head.from != from ||
		from == 0 || from == g->opts.node_id)
		goto out_drop;
	/* A copy: handling the message may replace the configuration. */
	const char *known = known_address(g, from);
	if (known)
		snprintf(address, sizeof address, "%s", known);
	else
		repl_address_of(from, address);
	m.server_address = address;

	if (m.type == RAFT_IO_INSTALL_SNAPSHOT && repl_install_begin(g, &m))
		return;
	enum repl_verdict verdict = repl_guard_receive(g, &m);
	if (verdict == REPL_REFUSE_VOTE)
		refuse_vote(g, &m);
	if (verdict != REPL_PASS)
		goto out_drop;
	assert(!g->stepping);
	g->stepping = true;
	int role;
	struct raft_server *lent = m.type == RAFT_IO_REQUEST_VOTE ? repl_guard_lend_vote(g, &role)
								  : NULL;
	g->recv_cb(&g->io, &m); /* takes entries and snapshots */
	if (lent)
		lent->role = role;
	repl_guard_close_append(g);
	if (g->conf_wrong && !repl_guard_put_configuration_right(g))
		repl_core_fatal(g, -ENOMEM, "no memory for a configuration");
	g->stepping = false;
	repl_core_step(g);
	return;
out_drop:
	repl_msg_release(&m);
}

void repl_core_enqueue(struct repl_core_group *g, struct repl_proposal *p)
{
	p->next = NULL;
	if (p->len == 0 || p->len > VX_ENTRY_BYTES_MAX) {
		fail(p, -EMSGSIZE);
		return;
	}
	if (g->closing || g->dead) {
		fail(p, g->dead ? -EROFS : -ETIMEDOUT);
		return;
	}
	*g->wait_tail = p;
	g->wait_tail = &p->next;
}

void repl_core_propose(struct repl_core_group *g, struct repl_proposal *p)
{
	repl_core_enqueue(g, p);
	repl_core_step(g);
}

void repl_core_mark(struct repl_core_group *g, struct repl_mark_req *req)
{
	if (g->last_command <= g->mark_index) {
		req->done(req, 0);
		return;
	}
	if (g->closing || g->dead) {
		req->done(req, g->dead ? -EROFS : -ETIMEDOUT);
		return;
	}
	req->target = g->last_command;
	req->next = g->mark_waiting;
	g->mark_waiting = req;
	g->mark_poke_at_ms = 0;
	repl_core_step(g);
}

void repl_core_force_mark(struct repl_core_group *g)
{
	if (g->posted > g->mark_index)
		g->mark_force = true;
}

void repl_core_set_full(struct repl_core_group *g, bool full)
{
	g->full = full;
}

/* --- looking in ------------------------------------------------------------------------------------ */

bool repl_core_is_ready(const struct repl_core_group *g)
{
	return g->is_leader && g->ready && !g->dead && !g->closing;
}

bool repl_core_is_started(const struct repl_core_group *g)
{
	return g->started;
}

void repl_core_stat(const struct repl_core_group *g, struct repl_group_status *ret)
{
	*ret = (struct repl_group_status){
		.is_leader = g->is_leader && !g->dead,
		.term = g->raft.current_term,
		.last_index = g->last_index,
		.commit_index = g->raft.commit_index,
		.applied_index = g->posted,
		.mark_index = g->mark_index,
		.unmarked_bytes = g->unmarked_bytes,
	};
}
