/* indexer.c - background workers that move slots from the tails into the graphs.
 *
 * The store reports (shard, cid) pairs that have got work; workers go round them, a slice of work at a
 * time, so that one bulk load does not starve a small collection.  Writers of a collection wait here
 * while its tail is above the bound: that keeps searches fast and the way from file to finished index
 * one pipeline.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/timeslice.h"
#include "cluster/db_i.h"
#include "store/verify.h"

#define STEP_SLOTS       256u /* linked per turn */
#define TAIL_MAX_DEFAULT 8192u
#define SAVE_SLOTS_MIN   20000u /* a checkpoint pays after this many new slots */
/* Questions and applying go first.  With a larger share of the cores the kernel owes the workers time ever
 * again, and whoever wakes waits for a tick. */
#define WORKER_NICE  15
#define WAIT_POLL_NS 100000000u /* how often a waiter's 'stop' is asked */

void indexer_event(void *ctx, uint32_t cid)
{
	struct shard_ctx *sc = ctx;
	struct db *db = sc->db;
	bool there = false;

	vx_lock(&db->index_lock);
	for (size_t i = 0; i < db->n_jobs && !there; i++)
		there = db->jobs[i].shard == sc->shard && db->jobs[i].cid == cid;
	if (!there && db->n_jobs == db->cap_jobs) {
		size_t cap = db->cap_jobs ? 2 * db->cap_jobs : 16;
		struct index_job *j = realloc(db->jobs, cap * sizeof *j);

		if (j) {
			db->jobs = j;
			db->cap_jobs = cap;
		}
	}
	/* Without memory the event is lost; the next write of that slice brings it again. */
	if (!there && db->n_jobs < db->cap_jobs)
		db->jobs[db->n_jobs++] = (struct index_job){sc->shard, cid};
	vx_cond_broadcast(&db->index_cond);
	vx_cond_broadcast(&db->tail_cond);
	vx_unlock(&db->index_lock);
}

bool indexer_pause(void *ctx)
{
	struct shard_ctx *sc = ctx;

	return atomic_load_explicit(&sc->db->index_hurry, memory_order_relaxed);
}

/* Does one step of a job.  Returns false when the job has nothing (left) for this worker. */
static bool step(struct db *db, struct index_job job)
{
	struct vx_err err = VX_ERR_INIT;
	int rc;
	struct slice *sl = shard_slice_get(db->shards[job.shard], job.cid, &rc, &err);

	if (!sl)
		return false;
	int done = slice_index_step(sl, STEP_SLOTS);
	if (done < 0)
		log_error("index", "shard %u, slice c-%u: indexing failed: %s", job.shard, job.cid,
			strerror(-done));
	if (done == 0) {
		struct slice_stats st;

		slice_stat(sl, &st);
		if (st.tail == 0) {
			rc = slice_index_save(sl, VX_MAX(SAVE_SLOTS_MIN, st.nslots / 4), &err);
			if (rc)
				log_warn("index",
					"shard %u, slice c-%u: no checkpoint was written: %s",
					job.shard, job.cid, vx_err_msg(&err, rc));
		}
	}
	uint64_t need = slice_compact_need(sl);
	if (need > atomic_load_explicit(&db->compact_need, memory_order_relaxed))
		atomic_store_explicit(&db->compact_need, need, memory_order_relaxed);
	if (slice_compact_due(sl))
		compactor_post(db, job.shard, job.cid);
	slice_put(sl);
	return done > 0;
}

static void forget(struct db *db, struct index_job job)
{
	for (size_t i = 0; i < db->n_jobs; i++) {
		if (db->jobs[i].shard == job.shard && db->jobs[i].cid == job.cid) {
			db->jobs[i] = db->jobs[--db->n_jobs];
			return;
		}
	}
}

static void *worker(void *arg)
{
	struct db *db = arg;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), WORKER_NICE);
	timeslice_set(TIMESLICE_BULK_US);
	vx_lock(&db->index_lock);
	while (!db->index_stop) {
		if (db->n_jobs == 0) {
			vx_cond_wait(&db->index_cond, &db->index_lock);
			continue;
		}
		struct index_job job = db->jobs[db->next_job++ % db->n_jobs];

		/* Taken off before the look, so that an event during the step puts it back. */
		forget(db, job);
		vx_unlock(&db->index_lock);
		bool more = step(db, job);
		if (more) {
			struct shard_ctx sc = {.db = db, .shard = job.shard};

			indexer_event(&sc, job.cid);
		}
		vx_lock(&db->index_lock);
		vx_cond_broadcast(&db->tail_cond);
	}
	vx_unlock(&db->index_lock);
	return NULL;
}

int indexer_start(struct db *db)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned want = db->opts.index_threads ? db->opts.index_threads
					       : (unsigned)VX_MAX(cores, 1L);

	db->index_threads = calloc(want, sizeof *db->index_threads);
	if (!db->index_threads)
		return -ENOMEM;
	for (; db->n_index_threads < want; db->n_index_threads++) {
		int rc = pthread_create(&db->index_threads[db->n_index_threads], NULL, worker, db);
		if (rc)
			return -rc;
		pthread_setname_np(db->index_threads[db->n_index_threads], "vecfs-index");
	}
	return 0;
}

void indexer_stop(struct db *db)
{
	vx_lock(&db->index_lock);
	db->index_stop = true;
	atomic_store_explicit(&db->index_hurry, true, memory_order_relaxed);
	vx_cond_broadcast(&db->index_cond);
	vx_cond_broadcast(&db->tail_cond);
	vx_unlock(&db->index_lock);
	for (unsigned i = 0; i < db->n_index_threads; i++)
		pthread_join(db->index_threads[i], NULL);
	free(db->index_threads);
	db->index_threads = NULL;
	db->n_index_threads = 0;
}

/* Also sees to it that workers know of what it finds: after a start a slice's index is made when somebody first
 * asks for it.  An index that cannot be made is an error, or its tail would be waited for in vain. */
static int coll_tail(struct coll *c, uint64_t *ret_tail, bool *ret_compacting)
{
	bool compacting = false;
	uint64_t tail = 0;

	for (uint32_t i = 0; i < c->n_places; i++) {
		struct slice_stats st;
		int rc;
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, NULL);

		if (!sl)
			continue;
		slice_stat(sl, &st);
		rc = st.tail > 0 ? slice_index_step(sl, 0) : 0;
		slice_put(sl);
		if (rc < 0)
			return rc;
		compacting |= st.compacting || st.compact_due;
		if (st.compact_due)
			compactor_post(c->db, c->places[i].shard, c->cid);
		tail += st.tail;
		if (st.tail > 0) {
			struct shard_ctx sc = {.db = c->db, .shard = c->places[i].shard};

			indexer_event(&sc, c->cid);
		}
	}
	*ret_tail = tail;
	*ret_compacting = compacting;
	return 0;
}

/* Waits until the tail is at most 'bound', and with bound 0 until nothing is compacted; 'deadline_ns' 0 is
 * never. */
static int wait_tail(struct coll *c, uint64_t bound, uint64_t deadline_ns, bool (*stop)(void *ctx),
	void *stop_ctx)
{
	struct db *db = c->db;
	bool compacting;
	uint64_t tail = 0;
	int rc;

	while ((rc = coll_tail(c, &tail, &compacting)) == 0 && !coll_gone(c) &&
		(tail > bound || (bound == 0 && compacting))) {
		uint64_t now = clock_mono_ns();

		if (deadline_ns && now >= deadline_ns)
			return -ETIMEDOUT;
		if (stop && stop(stop_ctx))
			return -EINTR;
		vx_lock(&db->index_lock);
		bool stopping = db->index_stop;
		if (!stopping) /* bounded: progress may have come between the look and this wait */
			(void)vx_cond_wait_until(
				&db->tail_cond, &db->index_lock, now + WAIT_POLL_NS);
		vx_unlock(&db->index_lock);
		if (stopping)
			return -ESHUTDOWN;
	}
	return rc;
}

void indexer_throttle(struct coll *c)
{
	uint32_t bound = c->db->opts.tail_max ? c->db->opts.tail_max : TAIL_MAX_DEFAULT;

	(void)!wait_tail(c, bound, 0, NULL, NULL);
}

int coll_index_wait(struct coll *c, uint64_t deadline_ns, bool (*stop)(void *ctx), void *stop_ctx)
{
	return wait_tail(c, 0, deadline_ns, stop, stop_ctx);
}

int coll_index_info(struct coll *c, struct coll_index_info *ret)
{
	bool unloaded = false, compacting = false;

	memset(ret, 0, sizeof *ret);
	for (uint32_t i = 0; i < c->n_places; i++) {
		struct slice_stats st;
		int rc;
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, NULL);

		if (!sl && rc)
			return rc;
		if (!sl)
			continue;
		slice_stat(sl, &st);
		ret->records += st.count;
		ret->slots += st.nslots;
		ret->dead += st.dead_slots;
		if (st.index_loaded)
			ret->tail += st.tail;
		else
			unloaded = unloaded || st.nslots > 0;
		ret->memory_bytes += st.memory_bytes;
		ret->disk_bytes += st.disk_bytes;
		compacting |= st.compacting;
		ret->compactions += st.compactions;
		ret->reclaimed_bytes += st.reclaimed_bytes;
		if (st.compacting) {
			ret->compact_done += st.compact_done;
			ret->compact_total += st.compact_total;
		}
		struct vx_err why = VX_ERR_INIT;
		rc = slice_compact_failed(sl, &why);
		if (rc && !ret->compact_failed) {
			ret->compact_failed = rc;
			snprintf(ret->compact_error, sizeof ret->compact_error, "%s",
				vx_err_msg(&why, rc));
		}
		ret->kind = st.index.kind;
		ret->quant = st.index.quant;
		slice_put(sl);
	}
	if (!ret->kind) {
		ret->kind = "hnsw";
		ret->quant = "sq8";
	}
	ret->state = ret->tail    ? "indexing"
		     : compacting ? "compacting"
		     : unloaded   ? "unloaded"
				  : "ready";
	return 0;
}

int coll_index_check(struct coll *c, struct vx_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++) {
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, err);

		if (!sl)
			continue;
		rc = slice_index_check(sl, err);
		slice_put(sl);
	}
	return rc;
}

int coll_verify(struct coll *c, struct verify *v, struct vx_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++) {
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, err);

		if (!sl)
			continue;
		rc = slice_verify(sl, v, err);
		slice_put(sl);
	}
	return rc;
}

int coll_index_save(struct coll *c, struct vx_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++) {
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, err);

		if (!sl)
			continue;
		rc = slice_index_save(sl, 0, err);
		slice_put(sl);
	}
	return rc;
}
