/* propose.c - tickets: from a proposal to its answer.
 *
 * A proposal is named by (origin, sequence) -- of this run, or what its owner calls it because it may come
 * again -- in its group; apply workers find the ticket by that name and complete it with the result of applying, so that an answer means "committed and searchable".  When
 * the reactor knows that an entry did not commit it completes the ticket instead.  Whoever takes the
 * ticket out of the table completes it, so it happens once.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cluster/db_i.h"

#define DRAIN_PATIENCE_NS 5000000000u /* at the end: this long without progress is too long */
#define DRAIN_POLL_NS     50000000u

void propose_init(struct db *db)
{
	vx_mutex_init(&db->ticket_lock, LOCK_ROUTER);
	vx_cond_init(&db->ticket_cond);
	db->next_seq = 1;
}

void propose_release(struct db *db)
{
	vx_cond_release(&db->ticket_cond);
	vx_mutex_release(&db->ticket_lock);
}

/* Names that owners give differ in their upper bits as a rule. */
static struct ticket **bucket_of(struct db *db, uint64_t seq)
{
	return &db->tickets[(seq ^ seq >> 20) % VX_ARRAY_SIZE(db->tickets)];
}

struct ticket *propose_take(struct db *db, uint32_t group, uint64_t origin, uint64_t seq)
{
	struct ticket *t = NULL;

	vx_lock(&db->ticket_lock);
	for (struct ticket **p = bucket_of(db, seq); *p; p = &(*p)->hash_next) {
		if ((*p)->seq == seq && (*p)->origin == origin && (*p)->group == group) {
			t = *p;
			*p = t->hash_next;
			break;
		}
	}
	vx_unlock(&db->ticket_lock);
	return t;
}

/* Two parties hold a ticket: the reactor until it has called back, and the table (or the worker
 * that took it out) until there is a result.  acq_rel: the last to leave sees what the other wrote. */
void propose_done(struct ticket *t)
{
	if (atomic_fetch_sub_explicit(&t->holds, 1, memory_order_acq_rel) == 1)
		t->done(t);
}

/* Reactor thread. */
static void on_committed(struct repl_proposal *p)
{
	propose_done(VX_CONTAINER_OF(p, struct ticket, p));
}

/* Reactor thread. */
static void on_failed(struct repl_proposal *p, int status)
{
	struct ticket *t = VX_CONTAINER_OF(p, struct ticket, p);

	/* Not in the table any more: applied after all, and the worker has the result. */
	if (propose_take(t->db, t->group, t->origin, t->seq) == t) {
		t->status = status;
		propose_done(t);
	}
	propose_done(t);
}

void propose(struct db *db, uint32_t group, struct ticket *t, void *entry, size_t len)
{
	t->db = db;
	t->group = group;
	t->status = 0;
	t->p = (struct repl_proposal){
		.data = entry, .len = len, .failed = on_failed, .committed = on_committed};
	atomic_init(&t->holds, 2);
	vx_lock(&db->ticket_lock);
	if (t->origin == 0) {
		t->origin = db->origin;
		t->seq = db->next_seq++;
	}
	uint64_t now = clock_real_ns();
	if (now <= db->last_time_ns)
		now = db->last_time_ns + 1;
	db->last_time_ns = now;
	struct ticket **b = bucket_of(db, t->seq);
	t->hash_next = *b;
	*b = t;
	entry_stamp(entry, now, t->origin, t->seq);
	/* Inside the lock so that entries reach the log in the order of their sequence; the queue
	 * behind it has a higher rank and never blocks. */
	int rc = repl_propose(db->repl, group, &t->p);
	vx_unlock(&db->ticket_lock);
	if (rc != 0)
		on_failed(&t->p, rc); /* takes the lock */
}

struct wait {
	struct vx_mutex lock;
	struct vx_cond cond;
	bool done;
};

static void wake(struct ticket *t)
{
	struct wait *w = t->arg;

	vx_lock(&w->lock);
	w->done = true;
	vx_cond_signal(&w->cond);
	vx_unlock(&w->lock);
}

int propose_wait(struct db *db, uint32_t group, struct ticket *t, void *entry, size_t len)
{
	struct wait w = {.done = false};

	vx_mutex_init(&w.lock, LOCK_LEAF);
	vx_cond_init(&w.cond);
	t->done = wake;
	t->arg = &w;
	propose(db, group, t, entry, len);
	vx_lock(&w.lock);
	while (!w.done)
		vx_cond_wait(&w.cond, &w.lock);
	vx_unlock(&w.lock);
	vx_cond_release(&w.cond);
	vx_mutex_release(&w.lock);
	return t->status;
}

void inflight_add(struct db *db, size_t bytes)
{
	vx_lock(&db->ticket_lock);
	while (db->inflight_bytes > 0 && db->inflight_bytes + bytes > INFLIGHT_BYTES_MAX)
		vx_cond_wait(&db->ticket_cond, &db->ticket_lock);
	db->inflight_bytes += bytes;
	vx_unlock(&db->ticket_lock);
}

void inflight_drain(struct db *db)
{
	uint64_t since = clock_mono_ns();
	size_t before = SIZE_MAX;

	vx_lock(&db->ticket_lock);
	while (db->inflight_bytes > 0) {
		uint64_t now = clock_mono_ns();
		bool stalled = false;

		if (db->inflight_bytes != before)
			since = now;
		before = db->inflight_bytes;
		for (uint32_t g = 0; g < db->n_groups && !stalled; g++)
			stalled = applier_stalled(db, META_GROUP + g);
		if (stalled || now - since >= DRAIN_PATIENCE_NS)
			break;
		(void)vx_cond_wait_until(&db->ticket_cond, &db->ticket_lock, now + DRAIN_POLL_NS);
	}
	vx_unlock(&db->ticket_lock);
}

void inflight_sub(struct db *db, size_t bytes)
{
	vx_lock(&db->ticket_lock);
	db->inflight_bytes -= bytes;
	vx_cond_broadcast(&db->ticket_cond);
	vx_unlock(&db->ticket_lock);
}
