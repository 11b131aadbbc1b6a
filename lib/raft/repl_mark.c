/* repl_mark.c - libraft's state machine: apply, and marks as its snapshots.
 *
 * A store is durable by itself up to its mark; the log is needed from there on.  To libraft
 * a mark is a snapshot whose data is a small manifest, and taking one is how its log in
 * memory gets shorter.  libraft takes a snapshot when "entries since the last one" reaches a
 * threshold; we want bytes and time, so the threshold is infinite until a mark is due, then
 * one (repl_mark_arm), and libraft takes the snapshot at the end of the next round of
 * applies.  On an idle group the core appends a barrier to cause that round.
 *
 *	fsm_snapshot        loop     notes the index; RAFT_BUSY under a configuration change
 *	fsm_snapshot_async  worker   host->mark(index): returns when the store has got there
 *	io snapshot_put     loop     a MARK record with configuration and manifest
 *	fsm_finalize        loop     the attempt is over; whoever waits is answered
 *
 * A failed attempt changes nothing and is repeated REPL_MARK_RETRY_MS later.
 */
#include "raft/repl_core_i.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>

#include "base/log.h"

#define ENTRY_OVERHEAD 64u /* what libraft keeps beside an entry's data */

static struct repl_core_group *group_of(struct raft_fsm *fsm)
{
	return fsm->data;
}

int repl_blob_make(
	uint64_t index, uint64_t term, const void *host, size_t n, struct raft_buffer *ret)
{
	uint8_t *p = raft_malloc(REPL_BLOB_HEAD_BYTES + n);
	if (!p)
		return -ENOMEM;
	put_le64(p, index);
	put_le64(p + 8, term);
	if (n > 0)
		memcpy(p + REPL_BLOB_HEAD_BYTES, host, n);
	ret->base = p;
	ret->len = REPL_BLOB_HEAD_BYTES + n;
	return 0;
}

/* --- when -------------------------------------------------------------------------- */

bool repl_mark_due(const struct repl_core_group *g)
{
	if (g->mark_busy || g->closing || g->dead)
		return false;
	if (g->mark_waiting)
		return true;
	if (g->unmarked_bytes == 0 && !g->mark_force)
		return false;
	uint64_t now = g->env->ops->now_ms(g->env);
	if (now < g->mark_retry_at_ms)
		return false;
	return g->mark_force || g->unmarked_bytes >= g->opts.mark_bytes ||
	       now - g->mark_last_ms >= g->opts.mark_interval_ms;
}

void repl_mark_arm(struct repl_core_group *g)
{
	raft_set_snapshot_threshold(&g->raft, 1);
	g->mark_armed = true;
}

static void disarm(struct repl_core_group *g)
{
	raft_set_snapshot_threshold(&g->raft, UINT_MAX);
	g->mark_armed = false;
}

/* After an attempt: who waits for an index it covers is told; the rest wait on. */
void repl_mark_answer(struct repl_core_group *g)
{
	if (!g->mark_over)
		return;
	g->mark_over = false;
	bool ok = g->mark_index >= g->mark_try;
	uint64_t now = g->env->ops->now_ms(g->env);
	int status = ok ? 0 : g->mark_status != 0 ? g->mark_status : -ETIMEDOUT;
	if (ok) {
		g->unmarked_bytes -= VX_MIN(g->unmarked_bytes, g->mark_try_bytes);
		g->mark_last_ms = now;
		g->mark_retry_at_ms = 0;
	} else {
		g->mark_retry_at_ms = now + REPL_MARK_RETRY_MS;
		if (status != -EAGAIN && !g->closing)
			log_warn("raft", "group %u: marking at %llu failed: %s", g->opts.group,
				(unsigned long long)g->mark_try, vx_errno_name(status));
	}
	struct repl_mark_req **at = &g->mark_waiting;
	while (*at) {
		struct repl_mark_req *req = *at;
		if (req->target > g->mark_try && !g->closing && !g->dead) {
			at = &req->next;
			continue;
		}
		*at = req->next;
		req->done(req, req->target > g->mark_try ? -ETIMEDOUT : status);
	}
}

/* --- the callbacks of libraft ------------------------------------------------------------- */

/* Takes the proposals that this entry answers off the batch. */
static void batch_applied(struct repl_core_group *g, uint64_t index, uint64_t term)
{
	struct repl_proposal *p = g->batch_head;
	if (!p || index != g->batch_next || term != g->batch_term)
		return;
	g->batch_head = p->next;
	g->batch_next++;
	if (p->committed)
		p->committed(p);
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
	struct repl_core_group *g = group_of(fsm);
	uint64_t index = raft_last_applied(&g->raft) + 1;
	uint64_t term = repl_core_term_of(g, index);
	*result = NULL;
	if (g->dead)
		return RAFT_SHUTDOWN;
	assert(index > g->posted);
	repl_post_watermarks(g, index - 1);
	g->env->host_ops->apply(g->env->host, g->opts.group, index, term, buf->base, buf->len);
	g->posted = index;
	g->last_command = index;
	if (g->unmarked_bytes == 0)
		g->mark_last_ms = g->env->ops->now_ms(g->env);
	g->unmarked_bytes += buf->len + ENTRY_OVERHEAD;
	batch_applied(g, index, term);
	if (!g->mark_armed && repl_mark_due(g))
		repl_mark_arm(g);
	return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
	struct repl_core_group *g = group_of(fsm);
	*bufs = NULL;
	*n_bufs = 0;
	if (g->closing || g->dead || g->mark_busy || repl_guard_snapshot_busy(g))
		return RAFT_BUSY;
	disarm(g);
	g->mark_force = false;
	g->mark_busy = true;
	g->mark_try = raft_last_applied(&g->raft);
	g->mark_term_try = repl_core_term_of(g, g->mark_try);
	g->mark_try_bytes = g->unmarked_bytes;
	g->mark_status = -ETIMEDOUT;
	repl_post_watermarks(g, g->mark_try);
	return 0;
}

/* On a background thread; the fields it writes are read only after it has ended. */
static int fsm_snapshot_async(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
	struct repl_core_group *g = group_of(fsm);
	struct buf *m = &g->mark_manifest;
	m->len = 0;
	int rc = g->env->host_ops->mark(g->env->host, g->opts.group, g->mark_try, m);
	struct raft_buffer *b = NULL;
	if (rc == 0) {
		b = raft_calloc(1, sizeof *b);
		rc = b ? repl_blob_make(g->mark_try, g->mark_term_try, m->data, m->len, b)
		       : -ENOMEM;
	}
	g->mark_status = rc;
	if (rc != 0) {
		raft_free(b);
		return repl_errno_to_raft(rc);
	}
	*bufs = b;
	*n_bufs = 1;
	return 0;
}

static int fsm_finalize(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
	struct repl_core_group *g = group_of(fsm);
	for (unsigned i = 0; *bufs && i < *n_bufs; i++)
		raft_free((*bufs)[i].base);
	raft_free(*bufs);
	*bufs = NULL;
	*n_bufs = 0;
	g->mark_busy = false;
	g->mark_over = true;
	return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
	struct repl_core_group *g = group_of(fsm);
	if (buf->len < REPL_BLOB_HEAD_BYTES)
		return RAFT_MALFORMED;
	uint64_t index = get_le64(buf->base);
	if (!repl_guard_own_mark(g)) {
		const uint8_t *p = buf->base;
		int rc = g->env->host_ops->restore(g->env->host, g->opts.group, index,
			p + REPL_BLOB_HEAD_BYTES, buf->len - REPL_BLOB_HEAD_BYTES);
		if (rc != 0)
			return repl_errno_to_raft(rc);
		g->unmarked_bytes = 0;
	}
	g->posted = index;
	raft_free(buf->base);
	return 0;
}

/* --- a mark aside from libraft ------------------------------------------------------- */

/* libraft takes a snapshot only when it has applied something.  While a full disk holds up
 * the one append under way it applies nothing, and only a mark can give log back: then the same
 * steps are gone through without it.  Its log in memory is not cut; the next mark of its own
 * does that. */
struct aside {
	struct repl_core_group *g;
	struct raft_io_async_work work;
	struct raft_io_snapshot_put put;
	struct raft_buffer *bufs;
	unsigned n_bufs;
};

static void aside_end(struct aside *a)
{
	fsm_finalize(&a->g->fsm, &a->bufs, &a->n_bufs);
	free(a);
}

static void aside_stored(struct raft_io_snapshot_put *put, int status)
{
	(void)status; /* mark_index tells */
	aside_end(put->data);
}

static int aside_work(struct raft_io_async_work *work)
{
	struct aside *a = work->data;
	return fsm_snapshot_async(&a->g->fsm, &a->bufs, &a->n_bufs);
}

static void aside_worked(struct raft_io_async_work *work, int status)
{
	struct aside *a = work->data;
	struct repl_core_group *g = a->g;
	struct raft_snapshot s = {
		.index = g->mark_try,
		.term = g->mark_term_try,
		.configuration = g->raft.configuration, /* encoded at once */
		.configuration_index = g->raft.configuration_index,
		.bufs = a->bufs,
		.n_bufs = a->n_bufs,
	};
	if (status != 0 || repl_guard_snapshot_busy(g) ||
		g->io.snapshot_put(&g->io, g->opts.trailing, &a->put, &s, aside_stored) != 0)
		aside_end(a);
}

void repl_core_mark_aside(struct repl_core_group *g)
{
	if (g->posted <= g->mark_index || g->env->ops->now_ms(g->env) < g->mark_retry_at_ms)
		return;
	struct aside *a = calloc(1, sizeof *a);
	if (!a)
		return;
	a->g = g;
	a->work.data = a;
	a->work.work = aside_work;
	a->put.data = a;
	if (fsm_snapshot(&g->fsm, &a->bufs, &a->n_bufs) != 0) {
		free(a);
		return;
	}
	if (g->io.async_work(&g->io, &a->work, aside_worked) != 0)
		aside_end(a);
}

void repl_fsm_init(struct repl_core_group *g)
{
	g->fsm = (struct raft_fsm){
		.version = 3,
		.data = g,
		.apply = fsm_apply,
		.snapshot = fsm_snapshot,
		.restore = fsm_restore,
		.snapshot_finalize = fsm_finalize,
		.snapshot_async = fsm_snapshot_async,
	};
}
