/* wal_writer.c - the log writer's thread.
 *
 * Happy path: take everything that waits, stage it all, flush once, answer in
 * order.  If the flush meets -ENOSPC (or a record cannot be staged) the frame is
 * dropped and the batch is tried again request by request, after recycling, so
 * that a mark or a vote beside too big an entry still gets through; a request
 * that builds on one that failed fails with it.  Spares are made in pieces while
 * nobody waits, and one piece per batch while somebody does.
 */
#include "wal/wal_writer.h"

#include <assert.h>
#include <stdlib.h>

#include "base/lock.h"
#include "base/log.h"
#include "wal/wal_i.h"

#define BATCH_BYTES_MAX (16u << 20)
#define PIECE_BYTES     (1u << 20)

struct wal_writer {
	struct wal *w; /* owned by the thread */
	pthread_t thread;
	struct vx_mutex lock; /* LOCK_QUEUE: guards head, tail, stop */
	struct vx_cond wake;
	struct wal_req *head, **tail;
	bool stop;
	/* Thread only. */
	bool refused;  /* a request was refused, so that later ones may have a gap */
	int upkeep_rc; /* of the last upkeep: the same trouble is logged once */
};

void wal_writer_submit(struct wal_writer *ww, struct wal_req *req)
{
	req->next = NULL;
	vx_lock(&ww->lock);
	bool was_empty = !ww->head;
	*ww->tail = req;
	ww->tail = &req->next;
	if (was_empty)
		vx_cond_signal(&ww->wake);
	vx_unlock(&ww->lock);
}

/* 0 when it is the request's turn. */
static int take_turn(struct wal *w, struct wal_req *req)
{
	if (!req->in_order || req->n == 0)
		return 0;
	struct wal_group *g = wal_group_get(w, req->recs[0].group);
	if (!g)
		return -ENOMEM;
	if (req->turn == 0)
		req->turn = ++g->turns_given;
	return req->turn == g->turns_done + 1 ? 0 : -ENOSPC;
}

/* The request is answered: whatever the answer is, unless it will come again, the next may follow. */
static void end_turn(struct wal *w, struct wal_req *req, int rc)
{
	if (!req->in_order || req->turn == 0 || rc == -ENOSPC)
		return;
	struct wal_group *g = wal_group_find(w, req->recs[0].group);
	assert(g); /* it gave the turn, and groups stay */
	g->turns_done = req->turn;
	req->turn = 0;
}

static int stage_req(struct wal *w, bool refused, const struct wal_req *req)
{
	for (unsigned i = 0; i < req->n; i++) {
		int rc = wal_check(w, &req->recs[i]);
		if (rc == -EINVAL && refused && req->recs[i].type == WAL_ENTRY)
			return -ENOSPC;
		if (rc == 0 || (rc == -EINVAL && req->recs[i].type == WAL_ENTRY))
			rc = wal_stage(w, &req->recs[i]);
		if (rc)
			return rc;
	}
	return 0;
}

/* Answers 'n' requests from 'req' on; returns the rest.  'next' is read before the
 * callback, which may free or resubmit. */
static struct wal_req *answer(struct wal *w, struct wal_req *req, unsigned n, int status)
{
	while (n--) {
		struct wal_req *next = req->next;
		end_turn(w, req, status);
		req->done(req, status);
		req = next;
	}
	return req;
}

static void one_by_one(struct wal *w, bool *refused, struct wal_req *req, unsigned n)
{
	bool more = true;

	/* Recycling may make the room; making spares would fail again. */
	if (wal_upkeep_step(w, 0, &more))
		more = false;
	while (n--) {
		int rc = take_turn(w, req);
		if (rc == 0)
			rc = stage_req(w, *refused, req);
		if (rc == 0)
			rc = wal_flush(w);
		if (rc) {
			wal_discard(w);
			*refused = true;
		}
		req = answer(w, req, 1, rc);
	}
}

/* As take_turn, for a request that follows those from 'list' on in one flush. */
static int batch_turn(struct wal *w, const struct wal_req *list, struct wal_req *req)
{
	int rc = take_turn(w, req);

	if (rc != -ENOSPC)
		return rc;
	for (; list != req; list = list->next) {
		if (list->in_order && list->n && list->recs[0].group == req->recs[0].group &&
			list->turn == req->turn - 1)
			return 0;
	}
	return rc;
}

void wal_writer_run(struct wal *w, bool *refused, struct wal_req *list)
{
	while (list) {
		struct wal_req *req = list;
		unsigned n = 0;
		int rc = 0;
		while (req && rc == 0 && wal_staged(w) < BATCH_BYTES_MAX) {
			rc = batch_turn(w, list, req);
			if (rc == 0)
				rc = stage_req(w, *refused, req);
			req = req->next;
			n++;
		}
		if (rc == 0)
			rc = wal_flush(w);
		if (rc == 0 || rc == -EIO) {
			list = answer(w, list, n, rc);
		} else {
			wal_discard(w);
			one_by_one(w, refused, list, n);
			list = req;
		}
	}
}

static void *writer_main(void *arg)
{
	struct wal_writer *ww = arg;
	bool more = true;

	for (;;) {
		vx_lock(&ww->lock);
		while (!ww->head && !ww->stop && !more)
			vx_cond_wait(&ww->wake, &ww->lock);
		struct wal_req *list = ww->head;
		bool stop = ww->stop;
		ww->head = NULL;
		ww->tail = &ww->head;
		vx_unlock(&ww->lock);
		if (!list && stop)
			return NULL;
		if (list)
			wal_writer_run(ww->w, &ww->refused, list);
		int rc = wal_upkeep_step(ww->w, PIECE_BYTES, &more);
		/* No room for a spare, say: then not before the next batch. */
		if (rc)
			more = false;
		if (rc && rc != ww->upkeep_rc)
			log_warn("wal", "upkeep: %s", vx_errno_name(rc));
		ww->upkeep_rc = rc;
	}
}

int wal_writer_start(struct wal *w, struct wal_writer **ret)
{
	struct wal_writer *ww = calloc(1, sizeof *ww);

	if (!ww)
		return -ENOMEM;
	ww->w = w;
	ww->tail = &ww->head;
	vx_mutex_init(&ww->lock, LOCK_QUEUE);
	vx_cond_init(&ww->wake);
	int rc = -pthread_create(&ww->thread, NULL, writer_main, ww);
	if (rc) {
		vx_cond_release(&ww->wake);
		vx_mutex_release(&ww->lock);
		free(ww);
		return rc;
	}
	*ret = ww;
	return 0;
}

void wal_writer_stop(struct wal_writer *ww)
{
	if (!ww)
		return;
	vx_lock(&ww->lock);
	ww->stop = true;
	vx_cond_signal(&ww->wake);
	vx_unlock(&ww->lock);
	pthread_join(ww->thread, NULL);
	wal_close(ww->w);
	vx_cond_release(&ww->wake);
	vx_mutex_release(&ww->lock);
	free(ww);
}

void wal_writer_stat(struct wal_writer *ww, struct wal_stats *ret, uint32_t *ret_pin_group)
{
	struct wal_stats st;

	wal_stat(ww->w, &st);
	*ret = st;
	if (ret_pin_group)
		*ret_pin_group = st.pin_group;
}
