/* sim_store.c - the host of a simulated replica: queue, apply worker, marks, snapshots, answers.
 *
 * The order of things is that of lib/cluster (applier.c, propose.c): the core hands over committed
 * entries and watermarks, a worker applies them later, one after another, and answers the proposal that
 * made them; an entry that the store has already is only looked at.  The store is reduced to what
 * the rules are about: an index and a chain over all that was applied, what of it is durable, and
 * a fetched snapshot beside it.
 */
#include "sim_i.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>

#define RUN_MAX 64u

static struct sim_replica *replica_of(void *host, uint32_t group)
{
	struct sim_replica *r = host;
	assert(group == SIM_GROUP + r->g);
	return r;
}

/* --- tickets ------------------------------------------------------------------------ */

static void set_fate(struct sim *s, uint64_t value, enum sim_fate fate)
{
	if (s->fate[value] != SIM_UNKNOWN)
		sim_die(s, "value %llu was answered twice", (unsigned long long)value);
	s->fate[value] = (uint8_t)fate;
	if (fate == SIM_ACKED)
		s->t.acked++;
	else
		s->t.failed++;
}

static void unhold(struct sim_ticket *t)
{
	if (--t->holds == 0)
		free(t);
}

static struct sim_ticket *take_ticket(struct sim_node *n, uint64_t value)
{
	for (struct sim_ticket **at = &n->s->tickets; *at; at = &(*at)->next) {
		struct sim_ticket *t = *at;
		if (t->node == n && t->incarnation == n->incarnation && t->value == value) {
			*at = t->next;
			return t;
		}
	}
	return NULL;
}

static void on_committed(struct repl_proposal *p)
{
	unhold(VX_CONTAINER_OF(p, struct sim_ticket, p));
}

static void on_failed(struct repl_proposal *p, int status)
{
	struct sim_ticket *t = VX_CONTAINER_OF(p, struct sim_ticket, p);
	struct sim *s = t->node->s;
	sim_trace(s, t->node->number, TR_FAIL, t->value, (uint64_t)-status, 0, 0);
	if (status != -EROFS && status != -ETIMEDOUT && status != -ENOSPC)
		sim_die(s, "value %llu fails with %s", (unsigned long long)t->value,
			vx_errno_name(status));
	/* Not in the table any more: applied after all. */
	if (take_ticket(t->node, t->value) == t) {
		set_fate(s, t->value, status == -ETIMEDOUT ? SIM_FAILED : SIM_REFUSED);
		t->holds--;
	}
	unhold(t);
}

void sim_tickets_end(struct sim_node *n)
{
	struct sim_ticket **at = &n->s->tickets;
	while (*at) {
		struct sim_ticket *t = *at;
		if (t->node != n) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		set_fate(n->s, t->value, SIM_FAILED);
		unhold(t);
	}
}

static void new_ticket(struct sim *s, unsigned node, unsigned g, size_t len)
{
	struct sim_node *n = &s->nodes[node];
	uint64_t value = s->next_value++;
	assert(n->up && len >= 8);
	if (value >= s->n_fate) {
		size_t cap = 2 * value + 256;
		s->fate = sim_must(realloc(s->fate, cap));
		memset(s->fate + s->n_fate, 0, cap - s->n_fate);
		s->n_fate = cap;
	}
	struct sim_ticket *t = sim_must(calloc(1, sizeof *t));
	t->node = n;
	t->incarnation = n->incarnation;
	t->value = value;
	t->holds = 2;
	t->p.data = sim_must(repl_alloc(len));
	t->p.len = len;
	t->p.committed = on_committed;
	t->p.failed = on_failed;
	memset(t->p.data, (int)value, len);
	put_le64(t->p.data, value);
	t->next = s->tickets;
	s->tickets = t;
	repl_core_enqueue(n->r[g].core, &t->p);
}

uint64_t sim_propose_to(struct sim *s, unsigned node, unsigned g, unsigned n, size_t len)
{
	uint64_t first = s->next_value;
	sim_trace(s, node, TR_PROPOSE, g, first, first + n - 1, 0);
	for (unsigned i = 0; i < n; i++)
		new_ticket(s, node, g, len);
	repl_core_step(s->nodes[node].r[g].core);
	return first;
}

/* --- the queue and its worker ----------------------------------------------------------- */

static void hand_over(struct sim_replica *r, uint64_t index, uint64_t term, uint64_t value)
{
	struct sim *s = r->node->s;
	if (index != r->posted + 1)
		sim_die(s, "node %u: index %llu is handed over after %llu", r->node->number,
			(unsigned long long)index, (unsigned long long)r->posted);
	r->posted = index;
	sim_check_commit(r, index);
	struct sim_item *it = sim_must(calloc(1, sizeof *it));
	*it = (struct sim_item){.index = index, .term = term, .value = value};
	*r->queue_tail = it;
	r->queue_tail = &it->next;
	if (r->apply_scheduled)
		return;
	r->apply_scheduled = true;
	sim_schedule(s, sim_between(s, 0, s->p.apply_max_ms), SIM_APPLY, r->node->number, r);
}

static void host_apply(
	void *host, uint32_t group, uint64_t index, uint64_t term, const void *data, size_t len)
{
	struct sim_replica *r = replica_of(host, group);
	if (len < 8 || term == 0 || get_le64(data) == 0)
		sim_die(r->node->s, "node %u: entry %llu of term %llu has %zu bytes",
			r->node->number, (unsigned long long)index, (unsigned long long)term, len);
	hand_over(r, index, term, get_le64(data));
}

static void host_watermark(void *host, uint32_t group, uint64_t index)
{
	hand_over(replica_of(host, group), index, 0, 0);
}

static void apply_one(struct sim_replica *r, const struct sim_item *it)
{
	struct sim *s = r->node->s;
	struct sim_state after = sim_check_apply(r, it);
	if (it->value)
		sim_trace(s, r->node->number, TR_APPLY, r->g, it->index, it->term, it->value);
	else
		sim_trace(s, r->node->number, TR_WATERMARK, r->g, it->index, 0, 0);
	if (it->index > r->now.index)
		r->now = after;
	struct sim_ticket *t = it->value ? take_ticket(r->node, it->value) : NULL;
	if (!t)
		return;
	sim_trace(s, r->node->number, TR_ANSWER, r->g, it->value, it->index, 0);
	sim_check_answer(r, it);
	set_fate(s, it->value, SIM_ACKED);
	unhold(t);
}

static void apply_run(struct sim_replica *r, unsigned max)
{
	while (r->queue && max-- > 0) {
		struct sim_item *it = r->queue;
		r->queue = it->next;
		if (!r->queue)
			r->queue_tail = &r->queue;
		apply_one(r, it);
		free(it);
	}
}

void sim_store_apply(struct sim_replica *r)
{
	struct sim *s = r->node->s;
	r->apply_scheduled = false;
	apply_run(r, RUN_MAX);
	if (!r->queue)
		return;
	r->apply_scheduled = true;
	sim_schedule(s, sim_between(s, 0, s->p.apply_max_ms), SIM_APPLY, r->node->number, r);
}

static void drop_queue(struct sim_replica *r)
{
	while (r->queue) {
		struct sim_item *it = r->queue;
		r->queue = it->next;
		free(it);
	}
	r->queue_tail = &r->queue;
	r->apply_scheduled = false;
}

/* --- marks and snapshots ----------------------------------------------------------------- */

static struct sim_state state_at(struct sim_replica *r, uint64_t index)
{
	if (index == 0)
		return (struct sim_state){0};
	return (struct sim_state){index, sim_slot_at(r->node->s, r->g, index)->chain};
}

static int mark(struct sim_replica *r, uint64_t index, struct buf *manifest)
{
	struct sim *s = r->node->s;
	if (r->node->doomed)
		return -EIO;
	if (sim_chance(s, 100))
		return -EAGAIN;
	/* Waits for the worker. */
	if (r->now.index < index)
		apply_run(r, UINT_MAX);
	if (r->now.index < index)
		return -EAGAIN;
	if (r->durable.index < index)
		r->durable = state_at(r, index);
	r->marked = index;
	s->t.marks++;
	int rc = buf_put_le64(manifest, index);
	return rc == 0 ? buf_put_le64(manifest, state_at(r, index).chain) : rc;
}

static int host_mark(void *host, uint32_t group, uint64_t index, struct buf *manifest)
{
	struct sim_replica *r = replica_of(host, group);
	int rc = mark(r, index, manifest);
	sim_trace(r->node->s, r->node->number, TR_MARK, r->g, index, (uint64_t)-rc, 0);
	return rc;
}

static void check_manifest(struct sim_replica *r, uint64_t index, const void *manifest, size_t len)
{
	const uint8_t *m = manifest;
	if (len != 16 || get_le64(m) != index || get_le64(m + 8) != state_at(r, index).chain)
		sim_die(r->node->s, "node %u: snapshot at %llu is not what was applied",
			r->node->number, (unsigned long long)index);
}

static int fetch(struct sim_replica *r, uint64_t from, uint64_t index)
{
	struct sim *s = r->node->s;
	struct sim_node *src = sim_node_of_id(s, from);
	if (r->node->doomed)
		return -EIO;
	if (!src || !src->up || s->cut[src->number][r->node->number] ||
		s->cut[r->node->number][src->number] || sim_chance(s, 100))
		return -EHOSTUNREACH;
	/* What the other has now, which may be more than it promised. */
	if (src->r[r->g].now.index < index)
		return -EAGAIN;
	r->staged = src->r[r->g].now;
	return 0;
}

static int host_fetch(
	void *host, uint32_t group, uint64_t from, uint64_t index, const void *manifest, size_t len)
{
	struct sim_replica *r = replica_of(host, group);
	check_manifest(r, index, manifest, len);
	int rc = fetch(r, from, index);
	sim_trace(r->node->s, r->node->number, TR_FETCH, r->g, index, from, (uint64_t)-rc);
	return rc;
}

static int host_restore(
	void *host, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	struct sim_replica *r = replica_of(host, group);
	struct sim *s = r->node->s;
	check_manifest(r, index, manifest, len);
	apply_run(r, UINT_MAX); /* the queue first: rule 11 */
	if (r->staged.index < index)
		sim_die(s, "node %u is to become snapshot %llu, which it has not fetched",
			r->node->number, (unsigned long long)index);
	if (r->staged.index > r->now.index)
		r->now = r->staged;
	if (r->staged.index > r->durable.index)
		r->durable = r->staged;
	r->posted = index;
	s->t.installs++;
	sim_trace(s, r->node->number, TR_RESTORE, r->g, index, r->now.index, 0);
	return 0;
}

static int host_recover(
	void *host, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	struct sim_replica *r = replica_of(host, group);
	struct sim *s = r->node->s;
	check_manifest(r, index, manifest, len);
	sim_trace(s, r->node->number, TR_RECOVER, r->g, r->now.index, index, r->staged.index);
	if (r->now.index < index && r->staged.index >= index)
		r->now = r->durable = r->staged;
	if (r->now.index < index)
		sim_die(s, "node %u: the log begins at %llu, the store has only %llu",
			r->node->number, (unsigned long long)index,
			(unsigned long long)r->now.index);
	return 0;
}

static void host_role(void *host, uint32_t group, bool is_leader, uint64_t term)
{
	sim_check_role(replica_of(host, group), is_leader, term);
}

const struct repl_host_ops sim_host_ops = {
	.apply = host_apply,
	.watermark = host_watermark,
	.role = host_role,
	.mark = host_mark,
	.restore = host_restore,
	.fetch = host_fetch,
	.recover = host_recover,
};

/* --- the end of a process ------------------------------------------------------------------ */

void sim_store_end(struct sim_replica *r, bool power)
{
	struct sim *s = r->node->s;
	drop_queue(r);
	if (power && !s->p.store_keeps)
		r->now = r->durable;
	else if (power && r->now.index > r->durable.index)
		r->now = state_at(r, sim_between(s, r->durable.index, r->now.index));
}

void sim_store_wipe(struct sim_replica *r)
{
	drop_queue(r);
	r->now = r->durable = r->staged = (struct sim_state){0};
	r->marked = r->posted = 0;
}

void sim_store_release(struct sim_replica *r)
{
	drop_queue(r);
}
