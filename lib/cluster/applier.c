/* applier.c - between the reactor and the stores: one queue per group, a few workers.
 *
 * The reactor hands over committed entries (copied) and watermarks; a worker takes a group that has
 * some, applies a run of them -- one at a time per group, in order -- publishes 'applied' and answers
 * the tickets.  A committed entry is never skipped: when the disk is full its group stalls and is
 * retried, when the disk fails the process stops so that nothing is acknowledged after it.
 *
 * Marking (repl's background thread) waits here until the index is applied, then makes the store
 * durable.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/timeslice.h"
#include "cluster/db_i.h"

#define RUN_MAX        64         /* entries applied in one call */
#define STALL_RETRY_NS 250000000u /* how often a full disk is tried again */

struct apply_item {
	struct apply_item *next;
	uint64_t index, term;
	size_t len;      /* 0: a watermark */
	uint64_t data[]; /* the entry, aligned to 8 */
};

static struct apply_group *group_of(struct db *db, uint32_t group)
{
	return &db->groups[group - META_GROUP];
}

/* --- reactor side ------------------------------------------------------------------ */
static void enqueue(struct db *db, uint32_t group, struct apply_item *it)
{
	struct apply_group *g = group_of(db, group);

	it->next = NULL;
	vx_lock(&db->apply_lock);
	*g->tail = it;
	g->tail = &it->next;
	if (!g->running && !g->queued) {
		g->queued = true;
		g->run_next = NULL;
		*db->run_tail = g;
		db->run_tail = &g->run_next;
		vx_cond_signal(&db->apply_cond);
	}
	vx_unlock(&db->apply_lock);
}

/* A committed entry may not be refused, so memory that is short now is waited for. */
static struct apply_item *new_item(size_t len)
{
	struct apply_item *it;

	while ((it = malloc(sizeof *it + len)) == NULL) {
		log_warn("apply", "out of memory for a committed entry of %zu bytes; waiting", len);
		usleep(100000);
	}
	it->len = len;
	return it;
}

static void host_apply(
	void *host, uint32_t group, uint64_t index, uint64_t term, const void *data, size_t len)
{
	struct apply_item *it = new_item(len);

	it->index = index;
	it->term = term;
	memcpy(it->data, data, len);
	enqueue(host, group, it);
}

static void host_watermark(void *host, uint32_t group, uint64_t index)
{
	struct apply_item *it = new_item(0);

	it->index = index;
	it->term = 0;
	enqueue(host, group, it);
}

static void host_role(void *host, uint32_t group, bool is_leader, uint64_t term)
{
	(void)host;
	log_debug("cluster", "group %u: %s in term %llu", group,
		is_leader ? "leader" : "not leader", (unsigned long long)term);
}

static int host_mark(void *host, uint32_t group, uint64_t index, struct buf *manifest)
{
	struct db *db = host;
	struct apply_group *g = group_of(db, group);
	struct vx_err err = VX_ERR_INIT;

	(void)manifest;
	vx_lock(&db->apply_lock);
	while (g->applied < index && !db->apply_stop && !g->stalled)
		vx_cond_wait(&db->applied_cond, &db->apply_lock);
	bool there = g->applied >= index;
	vx_unlock(&db->apply_lock);
	if (!there)
		return -EAGAIN;
	int rc = g->shard ? shard_mark(g->shard, index, &err) : catalog_mark(db);
	if (rc)
		log_error("store", "group %u: cannot mark index %llu: %s", group,
			(unsigned long long)index, vx_err_msg(&err, rc));
	return rc;
}

static int host_restore(
	void *host, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	(void)host;
	(void)manifest;
	(void)len;
	log_error("store",
		"group %u: a snapshot of another node (index %llu) cannot be installed "
		"by a group with one voter",
		group, (unsigned long long)index);
	return -EOPNOTSUPP;
}

const struct repl_host_ops db_host_ops = {
	.apply = host_apply,
	.watermark = host_watermark,
	.role = host_role,
	.mark = host_mark,
	.restore = host_restore,
};

/* --- worker side ------------------------------------------------------------------------ */
static void die(const char *what, uint32_t group, uint64_t index, int rc, struct vx_err *err)
{
	log_error("apply",
		"%s of group %u at index %llu failed: %s; stopping so that nothing is "
		"acknowledged after it",
		what, group, (unsigned long long)index, vx_err_msg(err, rc));
	abort();
}

static void answer(struct db *db, uint32_t group, const struct apply_item *it, int status,
	uint32_t cid, const struct apply_result *res)
{
	struct entry_reader rd;

	if (entry_open(&rd, it->data, it->len))
		return;
	struct ticket *t = propose_take(db, group, rd.h.origin, rd.h.seq);
	if (!t)
		return;
	t->status = status;
	t->index = it->index;
	t->cid = cid;
	if (res)
		t->res = *res;
	propose_done(t);
}

static bool want_of_room(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -ENOMEM || rc == -EAGAIN;
}

/* Applies items[0..n) (all entries).  Returns how many were; fewer only when out of space or memory. */
static size_t apply_shard(
	struct db *db, struct apply_group *g, struct apply_item **items, size_t n, int *ret_rc)
{
	struct apply_req reqs[RUN_MAX];
	struct vx_err err = VX_ERR_INIT;
	size_t done = 0;

	memset(reqs, 0, n * sizeof reqs[0]);
	for (size_t i = 0; i < n; i++) {
		reqs[i].index = items[i]->index;
		reqs[i].term = items[i]->term;
		reqs[i].data = items[i]->data;
		reqs[i].len = items[i]->len;
	}
	*ret_rc = shard_apply(g->shard, reqs, n, &done, &err);
	if (*ret_rc == 0)
		done = n;
	else if (!want_of_room(*ret_rc))
		die("applying to the store", g->group, items[done]->index, *ret_rc, &err);
	for (size_t i = 0; i < done; i++)
		answer(db, g->group, items[i], reqs[i].result.status, 0, &reqs[i].result);
	return done;
}

static size_t apply_meta(
	struct db *db, struct apply_group *g, struct apply_item **items, size_t n, int *ret_rc)
{
	for (size_t i = 0; i < n; i++) {
		int status = 0;
		uint32_t cid = 0;

		*ret_rc = catalog_apply(
			db, items[i]->index, items[i]->data, items[i]->len, &status, &cid);
		if (want_of_room(*ret_rc))
			return i;
		if (*ret_rc)
			die("applying to the catalog", g->group, items[i]->index, *ret_rc, NULL);
		answer(db, g->group, items[i], status, cid, NULL);
	}
	*ret_rc = 0;
	return n;
}

static void publish(struct db *db, struct apply_group *g, uint64_t index, bool stalled)
{
	vx_lock(&db->apply_lock);
	if (index > g->applied)
		g->applied = index;
	if (stalled && !g->stalled)
		log_error("apply",
			"group %u: no room to apply index %llu; it is retried until "
			"there is",
			g->group, (unsigned long long)g->applied + 1);
	else if (!stalled && g->stalled)
		log_info("apply", "group %u: there is room again", g->group);
	g->stalled = stalled;
	vx_cond_broadcast(&db->applied_cond);
	vx_unlock(&db->apply_lock);
}

/* Waits a while for room.  False: nobody waits any more, and the group is abandoned.  From then on it
 * applies nothing: what came after the entry that found no room may be smaller and fit, and a slice
 * that has applied a later index takes the earlier one for applied at the next start. */
static bool stall(struct db *db, struct apply_group *g)
{
	vx_lock(&db->apply_lock);
	if (!db->apply_stop && !db->give_up)
		(void)vx_cond_wait_until(
			&db->stall_cond, &db->apply_lock, clock_mono_ns() + STALL_RETRY_NS);
	if (db->apply_stop || db->give_up)
		g->abandoned = true;
	bool on = !g->abandoned;
	vx_unlock(&db->apply_lock);
	return on;
}

/* The log has them and the next start applies them; whoever waits cannot be told more than that. */
static void abandon(struct db *db, uint32_t group, struct apply_item *list)
{
	while (list) {
		struct apply_item *it = list;

		list = it->next;
		if (it->len)
			answer(db, group, it, -ETIMEDOUT, 0, NULL);
		free(it);
	}
}

/* Applies everything in 'list' in order, retrying what meets a full disk. */
static void run_group(struct db *db, struct apply_group *g, struct apply_item *list)
{
	while (list) {
		struct apply_item *items[RUN_MAX];
		size_t n = 0, done;
		int rc = 0;

		for (struct apply_item *it = list; it && it->len && n < RUN_MAX; it = it->next)
			items[n++] = it;
		if (n == 0) { /* a watermark */
			done = 1;
			items[0] = list;
			if (g->shard)
				shard_watermark(g->shard, list->index);
		} else if (g->shard) {
			done = apply_shard(db, g, items, n, &rc);
		} else {
			done = apply_meta(db, g, items, n, &rc);
		}
		if (done)
			publish(db, g, items[done - 1]->index, rc != 0);
		else
			publish(db, g, 0, true);
		for (size_t i = 0; i < done; i++) {
			struct apply_item *it = list;

			list = it->next;
			free(it);
		}
		if (rc && !stall(db, g))
			break;
	}
	abandon(db, g->group, list);
}

static void *worker(void *arg)
{
	struct db *db = arg;

	timeslice_set(TIMESLICE_BULK_US);
	vx_lock(&db->apply_lock);
	for (;;) {
		while (!db->run_head && !db->apply_stop)
			vx_cond_wait(&db->apply_cond, &db->apply_lock);
		if (!db->run_head)
			break;
		struct apply_group *g = db->run_head;
		db->run_head = g->run_next;
		if (!db->run_head)
			db->run_tail = &db->run_head;
		g->queued = false;
		g->running = true;
		while (g->head) {
			struct apply_item *list = g->head;
			bool abandoned = g->abandoned;

			g->head = NULL;
			g->tail = &g->head;
			vx_unlock(&db->apply_lock);
			if (abandoned)
				abandon(db, g->group, list);
			else
				run_group(db, g, list);
			vx_lock(&db->apply_lock);
		}
		g->running = false;
		vx_cond_broadcast(&db->applied_cond);
	}
	vx_unlock(&db->apply_lock);
	return NULL;
}

int applier_start(struct db *db)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned want = (unsigned)VX_MIN((long)db->n_shards, VX_MAX(cores, 1L)) + 1;

	db->apply_threads = calloc(want, sizeof *db->apply_threads);
	if (!db->apply_threads)
		return -ENOMEM;
	for (; db->n_apply_threads < want; db->n_apply_threads++) {
		int rc = pthread_create(&db->apply_threads[db->n_apply_threads], NULL, worker, db);
		if (rc)
			return -rc;
		pthread_setname_np(db->apply_threads[db->n_apply_threads], "vecfs-apply");
	}
	return 0;
}

void applier_drain(struct db *db)
{
	vx_lock(&db->apply_lock);
	for (uint32_t i = 0; i < db->n_groups; i++) {
		struct apply_group *g = &db->groups[i];

		while ((g->head || g->running || g->queued) && !g->stalled)
			vx_cond_wait(&db->applied_cond, &db->apply_lock);
	}
	vx_unlock(&db->apply_lock);
}

void applier_pass(struct db *db, uint32_t group)
{
	vx_lock(&db->apply_lock);
	struct apply_group *g = group_of(db, group);

	/* The first step may be of a run that had ended. */
	for (unsigned step = 0; step < 2; step++) {
		uint64_t at = g->applied;
		while (g->running && !g->stalled && g->applied == at)
			vx_cond_wait(&db->applied_cond, &db->apply_lock);
	}
	vx_unlock(&db->apply_lock);
}

bool applier_stalled(struct db *db, uint32_t group)
{
	vx_lock(&db->apply_lock);
	bool stalled = group_of(db, group)->stalled;
	vx_unlock(&db->apply_lock);
	return stalled;
}

void db_give_up(struct db *db)
{
	if (!db)
		return;
	vx_lock(&db->apply_lock);
	db->give_up = true;
	vx_cond_broadcast(&db->stall_cond);
	vx_unlock(&db->apply_lock);
	repl_give_up(db->repl);
}

void applier_stop(struct db *db)
{
	vx_lock(&db->apply_lock);
	db->apply_stop = true;
	vx_cond_broadcast(&db->stall_cond);
	vx_cond_broadcast(&db->apply_cond);
	vx_cond_broadcast(&db->applied_cond);
	vx_unlock(&db->apply_lock);
	for (unsigned i = 0; i < db->n_apply_threads; i++)
		pthread_join(db->apply_threads[i], NULL);
	free(db->apply_threads);
	db->apply_threads = NULL;
	db->n_apply_threads = 0;
}
