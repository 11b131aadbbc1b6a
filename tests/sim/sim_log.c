/* sim_log.c - a node's log writer without its thread.
 *
 * What the pump (lib/raft/repl.c) and the writer's thread do around the log, at the times that the
 * simulation picks: all requests that wait when a flush begins go through wal_writer_run, the
 * real batches; those that a full disk refuses are parked and submitted again at every tick, while
 * proposals are refused and the groups are marked aside from libraft; a group that pins much is
 * marked by force.  After a flush one bounded piece of upkeep is done, as the thread does.
 */
#include "sim_i.h"

#define UPKEEP_BYTES (64u << 10)
#define PIN_MARKS    8u

static void schedule_flush(struct sim_node *n)
{
	struct sim *s = n->s;
	uint64_t ms = n->disk_ms ? n->disk_ms : sim_between(s, s->p.disk_min_ms, s->p.disk_max_ms);
	if (!n->disk_ms && sim_chance(s, s->p.slow_disk_permille))
		ms += sim_random(s) % (sim_chance(s, 50) ? 3000 : 300);
	n->flush_scheduled = true;
	sim_schedule(s, ms, SIM_FLUSH, n->number, NULL);
}

static void append(struct sim_node *n, struct repl_log_op *op)
{
	op->next = NULL;
	*n->queue_tail = op;
	n->queue_tail = &op->next;
	if (!n->flush_scheduled)
		schedule_flush(n);
}

void sim_log_submit(struct repl_env *env, struct repl_log_op *op)
{
	struct sim_replica *r = (struct sim_replica *)env;
	sim_check_log_op(r, op);
	op->impl = r;
	append(r->node, op);
}

/* The writer's answer, kept until its batch is over: the pump's list. */
static void on_done(struct wal_req *req, int status)
{
	struct repl_log_op *op = VX_CONTAINER_OF(req, struct repl_log_op, req);
	op->status = status;
}

/* Takes the whole queue as the writer wants it. */
static struct repl_log_op *take(struct sim_node *n, unsigned *ret_ops, unsigned *ret_recs)
{
	struct repl_log_op *list = n->queue;
	*ret_ops = *ret_recs = 0;
	for (struct repl_log_op *op = list; op; op = op->next) {
		op->req.done = on_done;
		op->req.next = op->next ? &op->next->req : NULL;
		op->status = -EIO;
		++*ret_ops;
		*ret_recs += op->req.n;
	}
	n->queue = NULL;
	n->queue_tail = &n->queue;
	return list;
}

static void set_full(struct sim_node *n, bool full)
{
	if (n->full == full)
		return;
	n->full = full;
	sim_trace(n->s, n->number, TR_FULL, full, 0, 0, 0);
	if (full)
		n->s->t.fulls++;
	for (unsigned g = 0; g < n->s->p.groups; g++)
		repl_core_set_full(n->r[g].core, full);
}

static void finish(struct sim_node *n, struct repl_log_op *op)
{
	if (op->status == -ENOSPC) {
		op->next = NULL;
		*n->parked_tail = op;
		n->parked_tail = &op->next;
		set_full(n, true);
		return;
	}
	repl_core_log_done(op, op->status);
}

void sim_log_flush(struct sim_node *n)
{
	struct sim *s = n->s;
	struct wal_stats before, after;
	struct wal_seg at = *wal_cur(n->wal);
	unsigned ops, recs;
	bool more = false;
	n->flush_scheduled = false;
	struct repl_log_op *list = take(n, &ops, &recs);
	wal_stat(n->wal, &before);
	if (n->break_at && list)
		fakedisk_fail_after(n->disk, n->break_at, -EIO);
	if (list)
		wal_writer_run(n->wal, &n->refused, &list->req);
	wal_stat(n->wal, &after);
	if (after.flushes > before.flushes) {
		n->last_frame_seg = at.seq;
		n->last_frame_off = at.end;
	}
	if (list || ops)
		sim_trace(s, n->number, TR_FLUSH, ops, recs, (uint64_t)(list ? -list->status : 0),
			wal_cur(n->wal)->end);
	if (wal_upkeep_step(n->wal, UPKEEP_BYTES, &more) != 0)
		more = false;
	while (list) {
		struct repl_log_op *next = list->next;
		finish(n, list);
		list = next;
	}
	if (n->doomed)
		return;
	if ((n->queue || more) && !n->flush_scheduled)
		schedule_flush(n);
}

void sim_log_watch(struct sim_node *n)
{
	struct sim *s = n->s;
	struct wal_stats ws;
	wal_stat(n->wal, &ws);
	bool full = n->parked != NULL;
	set_full(n, full);
	for (unsigned g = 0; g < s->p.groups; g++) {
		if (full)
			repl_core_mark_aside(n->r[g].core);
		else if (ws.pin_group == SIM_GROUP + g &&
			 ws.pinned_bytes >= PIN_MARKS * s->p.mark_bytes)
			repl_core_force_mark(n->r[g].core);
	}
	struct repl_log_op *op = n->parked;
	n->parked = NULL;
	n->parked_tail = &n->parked;
	while (op) {
		struct repl_log_op *next = op->next;
		append(n, op);
		op = next;
	}
}

void sim_log_tear(struct sim_node *n)
{
	struct sim *s = n->s;
	unsigned ops, recs;
	if (!n->queue || n->doomed || !sim_chance(s, 500))
		return;
	/* Each call of the flush may be the one in which it ends, and may end short. */
	uint64_t at = sim_between(s, 1, 4);
	fakedisk_fail_after(n->disk, at, sim_chance(s, 700) ? -EIO : 0);
	struct repl_log_op *list = take(n, &ops, &recs);
	wal_writer_run(n->wal, &n->refused, &list->req);
	n->queue = list;
}

void sim_log_cancel(struct sim_node *n)
{
	struct repl_log_op *lists[] = {n->queue, n->parked};
	n->queue = n->parked = NULL;
	n->queue_tail = &n->queue;
	n->parked_tail = &n->parked;
	for (unsigned i = 0; i < VX_ARRAY_SIZE(lists); i++) {
		while (lists[i]) {
			struct repl_log_op *next = lists[i]->next;
			repl_core_log_done(lists[i], -ECANCELED);
			lists[i] = next;
		}
	}
	/* What they caused goes the same way. */
	if (n->queue || n->parked)
		sim_log_cancel(n);
}
