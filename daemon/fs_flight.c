/* fs_flight.c - batches of one file that are on their way into the collection.
 *
 * While a batch goes through the log and the store, the next ones are read and parsed: up to FLIGHT_MAX of
 * them are in flight, submitted in the order of the file.  The owner hands over a full batch and gets an
 * empty one; it waits only when FLIGHT_MAX are out, and at the end for all of them.
 *
 * What is counted was acknowledged.  A failure is kept, the first one, and returned by whatever the owner
 * calls next; nothing is submitted after it, but batches that were out already may still land, so the counts
 * are final only after flight_wait.
 *
 * Callbacks run on the threads of the database and do nothing but count.
 *
 * In a supervised daemon batches have names, and how many of the first ones have landed is carried over with
 * what they came to.  The next worker cuts the same batches out of the same bytes: those that count as landed
 * are only counted, however long ago that was; the few behind them are sent once more under their names,
 * and the database knows which it has.
 */
#include "daemon/fs_i.h"

#include <assert.h>
#include <string.h>

static struct flight_slot *slot_of(struct flight *f, uint64_t number)
{
	for (unsigned i = 0; i < FLIGHT_MAX; i++)
		if (f->slots[i].busy && f->slots[i].landed && f->slots[i].number == number)
			return &f->slots[i];
	return NULL;
}

/* Carries over what has landed without a gap, and frees its places. */
static void advance(struct flight *f)
{
	struct flight_slot *s;

	while (!f->rc && (s = slot_of(f, f->done.batches))) {
		f->done.batches++;
		f->done.accepted += s->records;
		f->done.inserted += s->res.inserted;
		f->done.updated += s->res.updated;
		f->done.duplicates += s->res.duplicates;
		f->done.shard = s->res.shard;
		f->done.index = s->res.index;
		carry_progress_set(f->progress, &f->done);
		s->busy = s->landed = false;
	}
}

static void landed(void *arg, int status, const struct batch_result *res)
{
	struct flight_slot *s = arg;
	struct flight *f = s->f;

	vx_lock(&f->lock);
	if (status == 0 && f->txn) {
		f->hidden += s->records;
	} else if (status == 0) {
		f->sum.accepted += s->records;
		f->sum.inserted += res->inserted;
		f->sum.updated += res->updated;
		f->sum.duplicates += res->duplicates;
		if (res->shard != f->sum.shard || res->index > f->sum.index) {
			f->sum.shard = res->shard;
			f->sum.index = res->index;
		}
	} else if (!f->rc) {
		f->rc = status;
	}
	if (f->progress && status == 0) {
		s->res = *res;
		s->landed = true;
		advance(f);
	} else {
		s->busy = false;
	}
	f->n--;
	/* Within the lock: once it is released the owner may be gone with it. */
	vx_cond_signal(&f->cond);
	vx_unlock(&f->lock);
}

void flight_init(struct flight *f, struct coll *c)
{
	memset(f, 0, sizeof *f);
	f->c = c;
	vx_mutex_init(&f->lock, LOCK_LEAF);
	vx_cond_init(&f->cond);
	for (unsigned i = 0; i < FLIGHT_MAX; i++)
		f->slots[i].f = f;
}

void flight_names(struct flight *f, uint64_t origin, uint64_t unique, uint64_t next,
	struct carry_progress *progress)
{
	f->origin = origin;
	f->unique = unique;
	f->next = next;
	f->progress = progress;
	carry_progress_get(progress, &f->done);
	f->sum = (struct flight_sum){.accepted = f->done.accepted,
		.inserted = f->done.inserted,
		.updated = f->done.updated,
		.duplicates = f->done.duplicates,
		.shard = f->done.shard,
		.index = f->done.index};
}

void flight_release(struct flight *f)
{
	(void)!flight_wait(f, NULL);
	vx_cond_release(&f->cond);
	vx_mutex_release(&f->lock);
}

static int failure(int rc, struct vx_err *err)
{
	switch (rc) {
	case 0:
		return 0;
	case -ETIMEDOUT:
		return vx_err_set(err, rc,
			"leadership was lost while it was being written: the outcome is unknown");
	case -EROFS:
		return vx_err_set(err, rc, "there is no quorum, so nothing can be written now");
	case -ENOENT:
		return vx_err_set(err, rc, "the collection was dropped");
	case -ECANCELED:
		return vx_err_set(err, rc, "it took too long and was given up");
	case -EUCLEAN:
		return vx_err_set(err, rc, "the collection is damaged; see the daemon's log");
	default:
		return vx_err_set(err, rc, "%s", strerror(-rc));
	}
}

int flight_failed(struct flight *f, struct vx_err *err)
{
	vx_lock(&f->lock);
	int rc = f->rc;
	vx_unlock(&f->lock);
	return failure(rc, err);
}

int flight_wait(struct flight *f, struct vx_err *err)
{
	vx_lock(&f->lock);
	while (f->n)
		vx_cond_wait(&f->cond, &f->lock);
	int rc = f->rc;
	vx_unlock(&f->lock);
	return failure(rc, err);
}

/* A place for one more; NULL after a failure. */
static struct flight_slot *take_slot(struct flight *f)
{
	struct flight_slot *s = NULL;

	vx_lock(&f->lock);
	for (;;) {
		for (unsigned i = 0; !f->rc && !s && i < FLIGHT_MAX; i++) {
			if (!f->slots[i].busy)
				s = &f->slots[i];
		}
		if (s || f->rc)
			break;
		vx_cond_wait(&f->cond, &f->lock);
	}
	if (s) {
		s->busy = true;
		f->n++;
	}
	vx_unlock(&f->lock);
	return s;
}

int flight_submit(struct flight *f, struct batch **b, struct vx_err *err)
{
	struct batch *next = NULL;
	struct flight_slot *s = NULL;

	if (f->progress && f->next < f->done.batches) { /* it landed in a worker before us */
		f->next++;
		batch_reset(*b);
		return flight_failed(f, err);
	}
	int rc = batch_new(f->c, &next);

	if (rc)
		vx_err_set(err, rc, "no memory for a batch");
	else if (!(s = take_slot(f)))
		rc = flight_failed(f, err);
	if (rc == 0) {
		s->records = batch_count(*b);
		s->number = f->next++;
		if (f->origin && s->number < 1u << AGAIN_PARTS_BITS)
			batch_name(*b, f->origin, again_number(f->unique, s->number));
		if (f->txn)
			batch_hide(*b, f->txn);
		rc = batch_submit(*b, landed, s, err);
	}
	if (rc == 0) {
		*b = next;
		return 0;
	}
	batch_free(next);
	batch_reset(*b);
	vx_lock(&f->lock);
	if (!f->rc)
		f->rc = rc;
	if (s) {
		s->busy = false;
		f->n--;
	}
	vx_unlock(&f->lock);
	return rc;
}

void flight_sum(struct flight *f, struct flight_sum *ret)
{
	vx_lock(&f->lock);
	*ret = f->sum;
	vx_unlock(&f->lock);
}

int flight_commit(struct flight *f, struct vx_err *err)
{
	struct batch_result res;

	int rc = txn_commit(f->txn, &res, err);
	vx_lock(&f->lock);
	if (rc == 0) {
		f->sum.accepted = f->hidden;
		f->sum.inserted = res.inserted;
		f->sum.updated = res.updated;
		f->sum.duplicates = res.duplicates;
		f->sum.shard = res.shard;
		f->sum.index = res.index;
	}
	vx_unlock(&f->lock);
	return rc;
}
