/* compactor.c - one background thread that compacts slices, one at a time.
 *
 * Index workers find out that a slice is due (a share of its slots is dead, or somebody asked) and post it
 * here.  A thread of its own, because a compaction takes long and the workers' tails are what writers
 * wait for; one, because each needs room for a second copy of its slice.  Its priority is below that of the index
 * workers.  At the end of the process it stops at the next piece of work, and the slice stays as it was.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/timeslice.h"
#include "cluster/db_i.h"

#define COMPACTOR_NICE 19

void compactor_post(struct db *db, uint32_t shard, uint32_t cid)
{
	struct index_job job = {.shard = shard, .cid = cid};
	bool there = false;

	vx_lock(&db->compact_lock);
	const struct index_job *j = (const void *)db->compact_jobs.data;
	for (size_t i = 0; i < db->compact_jobs.len / sizeof *j && !there; i++)
		there = j[i].shard == shard && j[i].cid == cid;
	/* Without memory it is lost; the slice is still due when the next one looks. */
	if (!there && !db->compact_stop && buf_append(&db->compact_jobs, &job, sizeof job) == 0)
		vx_cond_signal(&db->compact_cond);
	vx_unlock(&db->compact_lock);
}

int compactor_room(void *ctx, uint64_t disk, uint64_t memory)
{
	struct shard_ctx *sc = ctx;

	int rc = home_compact_room(sc->db, disk);
	return rc ? rc : quota_compaction(sc->db, memory);
}

static void compact(struct db *db, struct index_job job)
{
	struct vx_err err = VX_ERR_INIT;
	struct shard_ctx sc = {.db = db, .shard = job.shard};
	int rc;
	struct slice *sl = shard_slice_get(db->shards[job.shard], job.cid, &rc, &err);

	if (!sl)
		return;
	if (slice_compact_due(sl)) {
		/* Writers leave it so much room. */
		atomic_store_explicit(
			&db->compact_need, slice_compact_need(sl), memory_order_relaxed);
		rc = slice_compact(sl, &err);
		if (rc && rc != -EINTR && rc != -EALREADY && rc != -ENOENT)
			log_warn("index",
				"shard %u, slice c-%u: dead slots were not left out: %s; tried "
				"again later",
				job.shard, job.cid, vx_err_msg(&err, rc));
	}
	atomic_store_explicit(&db->compact_need, 0, memory_order_relaxed);
	slice_put(sl);
	/* The new generation may have a tail, and whoever waits looks again. */
	if (rc != -EINTR)
		indexer_event(&sc, job.cid);
}

static void *worker(void *arg)
{
	struct db *db = arg;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), COMPACTOR_NICE);
	timeslice_set(TIMESLICE_BULK_US);
	vx_lock(&db->compact_lock);
	while (!db->compact_stop) {
		if (db->compact_jobs.len == 0) {
			vx_cond_wait(&db->compact_cond, &db->compact_lock);
			continue;
		}
		struct index_job job = *(
			const struct index_job *)(const void *)db->compact_jobs.data;
		vx_unlock(&db->compact_lock);
		compact(db, job);
		vx_lock(&db->compact_lock);
		buf_consume(&db->compact_jobs, sizeof job);
	}
	vx_unlock(&db->compact_lock);
	return NULL;
}

int compactor_start(struct db *db)
{
	int rc = pthread_create(&db->compact_thread, NULL, worker, db);

	if (rc)
		return -rc;
	db->compact_running = true;
	pthread_setname_np(db->compact_thread, "vecfs-compact");
	return 0;
}

void compactor_stop(struct db *db)
{
	vx_lock(&db->compact_lock);
	db->compact_stop = true;
	vx_cond_broadcast(&db->compact_cond);
	vx_unlock(&db->compact_lock);
	if (db->compact_running)
		pthread_join(db->compact_thread, NULL);
	db->compact_running = false;
	buf_release(&db->compact_jobs);
}

int coll_compact(struct coll *c, struct vx_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++) {
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, err);

		if (!sl)
			continue;
		slice_compact_ask(sl);
		slice_put(sl);
		compactor_post(c->db, c->places[i].shard, c->cid);
	}
	return rc;
}
