/* repl.c - the pump: a libuv loop around the groups, the log writer behind it.
 *
 * The loop thread (the reactor) owns every group.  Others reach it through three lists
 * under one lock -- proposals by group, requests to mark, finished log requests -- and one
 * uv_async.  A turn of the loop takes the lists, queues the proposals first and then lets
 * the finished log requests in, so that whatever waited goes into the very next append.
 *
 *	repl_propose -> inbox -> repl_core -> raft_apply -> log writer
 *	    -> done list -> repl_core -> commit -> host->apply -> p->committed
 *
 * A timer ticks all groups (REPL_TICK_MS), and looks after the log: a group that pins too
 * much of it is marked by force, and while there is no room every group refuses proposals
 * with -ENOSPC.
 *
 * A full disk.  libraft must not hear of it: a leader whose append fails truncates its log
 * and steps down.  So a request that the log refuses with -ENOSPC is parked and submitted
 * again every tick, oldest first; meanwhile proposals fail with -ENOSPC before raft_apply, and
 * all groups are marked aside from libraft (repl_core_mark_aside), since marks are what gives
 * log back and the writer lets small records through.  Nothing that was
 * parked has been acknowledged, and one append per group is under way (rule 7), so the order
 * of a group's entries is kept.
 *
 * Any other failure of the log ends the process (rule 6).
 */
#include "raft/repl.h"

#include <assert.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <raft.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "raft/repl_core.h"
#include "wal/wal_writer.h"

#define PIN_MARKS       8u /* a group is marked by force once it pins this many mark_bytes */
#define MARK_BYTES_DFLT (16u << 20)

struct pump_group {
	char *stopped; /* immutable after open; NULL: it takes part */
	/* Loop thread. */
	struct repl_core_group *core;
	bool closed;                 /* also of a stopped one, which has no core */
	struct repl_proposal *taken; /* the inbox of this turn */
	struct pump_group *taken_next;
	/* Guarded by repl.lock. */
	struct repl_proposal *inbox, **inbox_tail;
	bool dirty;
	struct pump_group *dirty_next;
	/* Guarded by repl.stat_lock. */
	struct repl_group_status stat;
	bool ready;
};

struct pump_mark {
	struct repl_mark_req req;
	struct repl *r;
	uint32_t group;
	int status;
	bool over; /* guarded by repl.lock */
	struct pump_mark *next;
};

struct pump_work {
	uv_work_t uv;
	struct repl_work *w;
};

struct repl {
	struct repl_env env; /* first: the callbacks get it */
	/* Immutable after open. */
	uint32_t first, n;
	uint64_t mark_bytes;
	struct pump_group *groups;

	/* Life; the caller's thread. */
	struct wal *wal; /* until the writer has it */
	struct wal_writer *writer;
	pthread_t thread;
	bool running;

	struct vx_mutex lock; /* LOCK_QUEUE */
	struct vx_cond cond;
	struct pump_group *dirty;
	struct repl_proposal *orphans; /* for no group of ours */
	struct pump_mark *marks;
	struct repl_log_op *done, **done_tail;
	bool stopping;   /* no more work is taken */
	bool giving_up;  /* what the log has no room for is not waited for */
	bool awake;      /* 'wake' may be sent to */
	bool start_over; /* the loop thread has tried to start the groups */
	int start_status;
	struct vx_err start_err;

	struct vx_mutex stat_lock; /* LOCK_LEAF */
	struct vx_cond stat_cond;

	/* Loop thread. */
	uv_loop_t loop;
	uv_async_t wake;
	uv_timer_t timer;
	uint64_t random_state;
	bool closing;                              /* the groups are closed, or on the way */
	bool ending;                               /* and then the loop */
	struct pump_mark *marked;                  /* to be woken at the end of the turn */
	struct repl_log_op *parked, **parked_tail; /* staged, refused by a full disk */
	struct repl_log_op retry;                  /* the empty request */
	bool retry_busy;
	unsigned spareless_ticks;
	bool full;
};

/* --- the env ----------------------------------------------------------------------- */

static uint64_t env_now_ms(struct repl_env *env)
{
	(void)env;
	return clock_mono_ns() / 1000000u;
}

static uint64_t env_random(struct repl_env *env)
{
	struct repl *r = (struct repl *)env;
	uint64_t z = r->random_state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* With r->lock held, so that the handle cannot be closed meanwhile. */
static void wake(struct repl *r)
{
	if (r->awake)
		uv_async_send(&r->wake);
}

/* On the writer's thread. */
static void log_done(struct wal_req *req, int status)
{
	struct repl_log_op *op = VX_CONTAINER_OF(req, struct repl_log_op, req);
	struct repl *r = op->impl;
	op->status = status;
	op->next = NULL;
	vx_lock(&r->lock);
	bool first = r->done == NULL;
	*r->done_tail = op;
	r->done_tail = &op->next;
	if (first)
		wake(r);
	vx_unlock(&r->lock);
}

static void env_log_submit(struct repl_env *env, struct repl_log_op *op)
{
	struct repl *r = (struct repl *)env;
	op->impl = r;
	op->req.done = log_done;
	wal_writer_submit(r->writer, &op->req);
}

/* Groups of this pump have one voter: there is nobody to send to. */
static void env_send(struct repl_env *env, uint32_t group, uint64_t to, const char *address,
	const void *p, size_t n)
{
	(void)env;
	(void)p;
	log_debug("raft", "group %u: no carrier for %zu bytes to node %llu (%s)", group, n,
		(unsigned long long)to, address);
}

static void maybe_end(struct repl *r);

/* Sanitizers bring an allocator of their own; glibc's has then never been used, and being set up by several
 * threads at once it faults. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REPL_SANITIZED 1
#elif defined(__has_feature)
#define REPL_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define REPL_SANITIZED 0
#endif

static void work_fn(uv_work_t *uv)
{
	struct pump_work *pw = VX_CONTAINER_OF(uv, struct pump_work, uv);
	pw->w->fn(pw->w);
	/* Entries come from one thread and die on another, a mark's worth at a time; left to
	 * itself glibc keeps several marks' worth of holes.  This gives back what the last mark
	 * freed. */
#if defined(__GLIBC__) && !REPL_SANITIZED
	malloc_trim(0);
#endif
}

static void publish(struct repl *r, struct pump_group *pg)
{
	struct repl_group_status st;
	repl_core_stat(pg->core, &st);
	bool ready = repl_core_is_ready(pg->core);
	vx_lock(&r->stat_lock);
	bool news = ready != pg->ready;
	pg->stat = st;
	pg->ready = ready;
	if (news)
		vx_cond_broadcast(&r->stat_cond);
	vx_unlock(&r->stat_lock);
}

/* Ends a turn: what it did becomes visible. */
static void publish_all(struct repl *r)
{
	for (uint32_t i = 0; i < r->n; i++) {
		if (r->groups[i].core && !r->groups[i].closed)
			publish(r, &r->groups[i]);
	}
	if (!r->marked)
		return;
	vx_lock(&r->lock);
	while (r->marked) {
		struct pump_mark *m = r->marked;
		r->marked = m->next;
		m->over = true;
	}
	vx_cond_broadcast(&r->cond);
	vx_unlock(&r->lock);
}

static void after_work(uv_work_t *uv, int status)
{
	struct pump_work *pw = VX_CONTAINER_OF(uv, struct pump_work, uv);
	struct repl *r = uv->loop->data;
	struct repl_work *w = pw->w;
	assert(status == 0); /* nobody cancels */
	free(pw);
	repl_core_work_done(w);
	publish_all(r);
	maybe_end(r);
}

static int env_work(struct repl_env *env, struct repl_work *w)
{
	struct repl *r = (struct repl *)env;
	struct pump_work *pw = calloc(1, sizeof *pw);
	if (!pw)
		return -ENOMEM;
	pw->w = w;
	if (uv_queue_work(&r->loop, &pw->uv, work_fn, after_work) != 0) {
		free(pw);
		return -ENOMEM;
	}
	return 0;
}

static void env_fatal(struct repl_env *env, uint32_t group, int status, const char *what)
{
	(void)env;
	log_error("raft", "group %u: %s (%s); this process must not go on", group, what,
		vx_errno_name(status));
	abort();
}

static const struct repl_env_ops env_ops = {
	.now_ms = env_now_ms,
	.random = env_random,
	.log_submit = env_log_submit,
	.send = env_send,
	.work = env_work,
	.fatal = env_fatal,
};

/* --- open ------------------------------------------------------------------------------ */

static int bootstrap_new(struct repl *r, uint64_t node_id, struct vx_err *err)
{
	for (uint32_t i = 0; i < r->n; i++) {
		struct wal_group_state st = {0};
		if (wal_stopped(r->wal, r->first + i))
			continue;
		int rc = wal_group_load(r->wal, r->first + i, &st, err);
		if (rc != 0)
			return rc;
		bool exists = repl_core_is_bootstrapped(&st);
		wal_group_state_release(&st);
		if (exists)
			continue;
		rc = repl_core_bootstrap(r->wal, r->first + i, &node_id, 1);
		if (rc != 0)
			return vx_err_set(err, rc, "cannot bootstrap group %u", r->first + i);
	}
	int rc = wal_flush(r->wal);
	return rc == 0 ? 0 : vx_err_set(err, rc, "cannot write the first entries of new groups");
}

/* Nobody waits for it, and what is asked of it fails. */
static int stop_group(struct pump_group *pg, const char *why)
{
	pg->stopped = strdup(why);
	pg->closed = true;
	pg->ready = true;
	return pg->stopped ? 0 : -ENOMEM;
}

static int load_groups(struct repl *r, const struct repl_opts *opts, struct vx_err *err)
{
	for (uint32_t i = 0; i < r->n; i++) {
		const char *why = wal_stopped(r->wal, r->first + i);
		if (why) {
			if (stop_group(&r->groups[i], why))
				return -ENOMEM;
			continue;
		}
		struct wal_group_state st = {0};
		struct repl_core_opts co = {
			.group = r->first + i,
			.node_id = opts->node_id,
			.mark_bytes = r->mark_bytes,
			.mark_interval_ms = opts->mark_interval_ms,
		};
		int rc = wal_group_load(r->wal, co.group, &st, err);
		if (rc == 0)
			rc = repl_core_open(&r->env, &co, &st, &r->groups[i].core, err);
		wal_group_state_release(&st);
		if (rc != 0)
			return rc;
		repl_core_stat(r->groups[i].core, &r->groups[i].stat);
	}
	return 0;
}

static void repl_free(struct repl *r)
{
	for (uint32_t i = 0; r->groups && i < r->n; i++) {
		repl_core_free(r->groups[i].core);
		free(r->groups[i].stopped);
	}
	wal_close(r->wal);
	vx_cond_release(&r->stat_cond);
	vx_cond_release(&r->cond);
	vx_mutex_release(&r->stat_lock);
	vx_mutex_release(&r->lock);
	free(r->groups);
	free(r);
}

int repl_open(const struct repl_opts *opts, const struct repl_host_ops *ops, void *host,
	struct repl **ret, struct vx_err *err)
{
	if (opts->node_id == 0 || opts->n_groups == 0 || opts->n_groups > WAL_GROUPS_MAX)
		return vx_err_set(err, -EINVAL, "bad node id or number of groups");
	struct repl *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	r->env = (struct repl_env){.ops = &env_ops, .host_ops = ops, .host = host};
	r->first = opts->first_group;
	r->n = opts->n_groups;
	r->mark_bytes = opts->mark_bytes ? opts->mark_bytes : MARK_BYTES_DFLT;
	r->done_tail = &r->done;
	r->parked_tail = &r->parked;
	random_bytes(&r->random_state, sizeof r->random_state);
	vx_mutex_init(&r->lock, LOCK_QUEUE);
	vx_cond_init(&r->cond);
	vx_mutex_init(&r->stat_lock, LOCK_LEAF);
	vx_cond_init(&r->stat_cond);
	r->groups = calloc(r->n, sizeof *r->groups);
	int rc = -ENOMEM;
	if (!r->groups)
		goto out_free;
	for (uint32_t i = 0; i < r->n; i++)
		r->groups[i].inbox_tail = &r->groups[i].inbox;

	rc = wal_open(opts->disk, opts->wal_dir, &opts->wal, &r->wal, err);
	if (rc == 0)
		rc = bootstrap_new(r, opts->node_id, err);
	if (rc == 0)
		rc = load_groups(r, opts, err);
	if (rc != 0)
		goto out_free;
	*ret = r;
	return 0;
out_free:
	repl_free(r);
	return rc;
}

/* --- the loop ------------------------------------------------------------------------------ */

static struct pump_group *group_at(struct repl *r, uint32_t group)
{
	if (group < r->first || group - r->first >= r->n)
		return NULL;
	return &r->groups[group - r->first];
}

static void set_full(struct repl *r, bool full)
{
	if (full == r->full)
		return;
	r->full = full;
	if (full)
		log_warn("raft", "no room for the log: proposals are refused");
	else
		log_info("raft", "the log has room again");
	for (uint32_t i = 0; i < r->n; i++) {
		if (!r->groups[i].closed)
			repl_core_set_full(r->groups[i].core, full);
	}
}

static void finish_log_op(struct repl *r, struct repl_log_op *op)
{
	if (op->status == -ENOSPC && !r->closing) {
		op->next = NULL;
		*r->parked_tail = op;
		r->parked_tail = &op->next;
		set_full(r, true);
		return;
	}
	repl_core_log_done(op, op->status);
}

/* Submits what the log refused again, oldest first. */
static void retry_parked(struct repl *r)
{
	struct repl_log_op *op = r->parked;
	r->parked = NULL;
	r->parked_tail = &r->parked;
	while (op) {
		struct repl_log_op *next = op->next;
		env_log_submit(&r->env, op);
		op = next;
	}
}

/* At the end: nobody was told that these are durable. */
static void drop_parked(struct repl *r)
{
	struct repl_log_op *op = r->parked;
	r->parked = NULL;
	r->parked_tail = &r->parked;
	while (op) {
		struct repl_log_op *next = op->next;
		repl_core_log_done(op, -ENOSPC);
		op = next;
	}
}

static void on_handle_closed(uv_handle_t *h)
{
	(void)h;
}

static void on_group_closed(void *arg)
{
	struct pump_group *pg = arg;
	pg->closed = true;
}

static void maybe_end(struct repl *r)
{
	if (!r->closing || !r->ending)
		return;
	for (uint32_t i = 0; i < r->n; i++) {
		if (!r->groups[i].closed)
			return;
	}
	if (uv_is_closing((uv_handle_t *)&r->timer))
		return;
	vx_lock(&r->lock);
	r->awake = false;
	vx_unlock(&r->lock);
	uv_close((uv_handle_t *)&r->timer, on_handle_closed);
	uv_close((uv_handle_t *)&r->wake, on_handle_closed);
}

static void close_groups(struct repl *r)
{
	if (r->closing)
		return;
	r->closing = true;
	for (uint32_t i = 0; i < r->n; i++) {
		struct pump_group *pg = &r->groups[i];
		if (pg->core && repl_core_is_started(pg->core))
			repl_core_close(pg->core, on_group_closed, pg);
		else
			pg->closed = true;
	}
	drop_parked(r);
}

static void take_marks(struct repl *r, struct pump_mark *m)
{
	while (m) {
		struct pump_mark *next = m->next;
		struct pump_group *pg = group_at(r, m->group);
		if (r->closing || !pg || pg->stopped)
			m->req.done(&m->req, !pg ? -ENOENT : pg->stopped ? -EUCLEAN : -ETIMEDOUT);
		else
			repl_core_mark(pg->core, &m->req);
		m = next;
	}
}

static void refuse(struct repl_proposal *p, int status)
{
	while (p) {
		struct repl_proposal *next = p->next;
		raft_free(p->data);
		p->data = NULL;
		p->failed(p, status);
		p = next;
	}
}

static void take_proposals(struct pump_group *dirty)
{
	for (struct pump_group *pg = dirty; pg; pg = pg->taken_next) {
		struct repl_proposal *p = pg->taken;
		pg->taken = NULL;
		if (pg->stopped) {
			refuse(p, -EUCLEAN);
			continue;
		}
		while (p) {
			struct repl_proposal *next = p->next;
			repl_core_enqueue(pg->core, p);
			p = next;
		}
	}
}

static void on_wake(uv_async_t *h)
{
	struct repl *r = h->data;
	vx_lock(&r->lock);
	struct pump_group *dirty = r->dirty;
	struct repl_proposal *orphans = r->orphans;
	struct pump_mark *marks = r->marks;
	struct repl_log_op *done = r->done;
	bool stopping = r->stopping, giving_up = r->giving_up;
	r->dirty = NULL;
	r->orphans = NULL;
	r->marks = NULL;
	r->done = NULL;
	r->done_tail = &r->done;
	for (struct pump_group *pg = dirty; pg; pg = pg->dirty_next) {
		pg->taken = pg->inbox;
		pg->taken_next = pg->dirty_next;
		pg->inbox = NULL;
		pg->inbox_tail = &pg->inbox;
		pg->dirty = false;
	}
	vx_unlock(&r->lock);

	/* From here on the writers may link the groups anew: walk by 'taken_next'. */
	refuse(orphans, -ENOENT);
	take_proposals(dirty);
	while (done) {
		struct repl_log_op *next = done->next;
		finish_log_op(r, done);
		done = next;
	}
	for (struct pump_group *pg = dirty; pg; pg = pg->taken_next) {
		if (!pg->closed)
			repl_core_step(pg->core);
	}
	take_marks(r, marks);
	r->ending |= stopping;
	if (stopping || (giving_up && r->full))
		close_groups(r);
	publish_all(r);
	maybe_end(r);
}

/* A group that pins much log is marked by force; all are while there is no room. */
static void watch_log(struct repl *r)
{
	struct wal_stats ws;
	uint32_t pin_group = 0;
	wal_writer_stat(r->writer, &ws, &pin_group);
	bool full = r->parked != NULL;
	set_full(r, full);
	struct pump_group *pg = group_at(r, pin_group);
	if (full) {
		for (uint32_t i = 0; i < r->n; i++)
			if (r->groups[i].core)
				repl_core_mark_aside(r->groups[i].core);
	} else if (pg && pg->core && ws.pinned_bytes >= PIN_MARKS * r->mark_bytes) {
		repl_core_force_mark(pg->core);
	}
}

static void on_timer(uv_timer_t *h)
{
	struct repl *r = h->data;
	if (r->closing) {
		maybe_end(r);
		return;
	}
	watch_log(r);
	retry_parked(r);
	for (uint32_t i = 0; i < r->n; i++)
		if (r->groups[i].core)
			repl_core_tick(r->groups[i].core);
	publish_all(r);
}

static int start_groups(struct repl *r)
{
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < r->n; i++)
		rc = r->groups[i].core ? repl_core_start(r->groups[i].core, &r->start_err) : 0;
	publish_all(r);
	return rc;
}

static void *loop_main(void *arg)
{
	struct repl *r = arg;
	int rc = start_groups(r);
	vx_lock(&r->lock);
	r->start_status = rc;
	r->start_over = true;
	if (rc != 0)
		r->stopping = true;
	vx_cond_broadcast(&r->cond);
	vx_unlock(&r->lock);
	if (rc != 0) {
		r->ending = true;
		close_groups(r);
		maybe_end(r);
	}
	uv_run(&r->loop, UV_RUN_DEFAULT);
	return NULL;
}

static int loop_init(struct repl *r)
{
	if (uv_loop_init(&r->loop) != 0)
		return -ENOMEM;
	r->loop.data = r;
	r->wake.data = r;
	r->timer.data = r;
	if (uv_async_init(&r->loop, &r->wake, on_wake) != 0) {
		uv_loop_close(&r->loop);
		return -EMFILE;
	}
	uv_timer_init(&r->loop, &r->timer);
	uv_timer_start(&r->timer, on_timer, REPL_TICK_MS, REPL_TICK_MS);
	r->awake = true;
	return 0;
}

/* Closes a loop whose thread never ran. */
static void loop_abandon(struct repl *r)
{
	r->awake = false;
	uv_close((uv_handle_t *)&r->timer, on_handle_closed);
	uv_close((uv_handle_t *)&r->wake, on_handle_closed);
	uv_run(&r->loop, UV_RUN_DEFAULT);
	uv_loop_close(&r->loop);
}

static void join(struct repl *r)
{
	pthread_join(r->thread, NULL);
	uv_loop_close(&r->loop);
	r->running = false;
	wal_writer_stop(r->writer);
	r->writer = NULL;
}

int repl_start(struct repl *r, struct vx_err *err)
{
	assert(!r->running);
	int rc = loop_init(r);
	if (rc != 0)
		return vx_err_set(err, rc, "cannot make an event loop");
	rc = wal_writer_start(r->wal, &r->writer);
	if (rc != 0) {
		loop_abandon(r);
		return vx_err_set(err, rc, "cannot start the log writer");
	}
	r->wal = NULL;
	if (pthread_create(&r->thread, NULL, loop_main, r) != 0) {
		loop_abandon(r);
		wal_writer_stop(r->writer);
		r->writer = NULL;
		return vx_err_set(err, -EAGAIN, "cannot start the reactor thread");
	}
	r->running = true;
	vx_lock(&r->lock);
	while (!r->start_over)
		vx_cond_wait(&r->cond, &r->lock);
	rc = r->start_status;
	vx_unlock(&r->lock);
	if (rc != 0) {
		join(r);
		return vx_err_set(err, rc, "%s", vx_err_msg(&r->start_err, rc));
	}
	return 0;
}

int repl_ready(struct repl *r, uint64_t timeout_ms)
{
	uint64_t deadline = clock_mono_ns() + timeout_ms * 1000000u;
	int rc = 0;
	vx_lock(&r->stat_lock);
	for (uint32_t i = 0; i < r->n && rc == 0;) {
		if (r->groups[i].ready)
			i++;
		else
			rc = vx_cond_wait_until(&r->stat_cond, &r->stat_lock, deadline);
	}
	vx_unlock(&r->stat_lock);
	return rc;
}

void repl_give_up(struct repl *r)
{
	if (!r)
		return;
	vx_lock(&r->lock);
	r->giving_up = true;
	wake(r);
	vx_unlock(&r->lock);
}

void repl_stop(struct repl *r)
{
	if (!r)
		return;
	if (r->running) {
		vx_lock(&r->lock);
		r->stopping = true;
		wake(r);
		vx_unlock(&r->lock);
		join(r);
	}
	repl_free(r);
}

/* --- from other threads ----------------------------------------------------------------------- */

void *repl_alloc(size_t n)
{
	return raft_malloc(n);
}

int repl_propose(struct repl *r, uint32_t group, struct repl_proposal *p)
{
	struct pump_group *pg = group_at(r, group);
	p->next = NULL;
	vx_lock(&r->lock);
	if (r->stopping || !r->awake) {
		vx_unlock(&r->lock);
		raft_free(p->data);
		p->data = NULL;
		return -ETIMEDOUT;
	}
	if (!pg) {
		p->next = r->orphans;
		r->orphans = p;
		wake(r);
	} else {
		*pg->inbox_tail = p;
		pg->inbox_tail = &p->next;
		if (!pg->dirty) {
			pg->dirty = true;
			pg->dirty_next = r->dirty;
			r->dirty = pg;
			wake(r);
		}
	}
	vx_unlock(&r->lock);
	return 0;
}

/* On the loop thread.  The caller hears of it only after the statistics are published. */
static void mark_done(struct repl_mark_req *req, int status)
{
	struct pump_mark *m = VX_CONTAINER_OF(req, struct pump_mark, req);
	struct repl *r = m->r;
	m->status = status;
	m->next = r->marked;
	r->marked = m;
}

int repl_mark(struct repl *r, uint32_t group)
{
	struct pump_mark m = {.req = {.done = mark_done}, .r = r, .group = group};
	vx_lock(&r->lock);
	if (r->stopping || !r->awake) {
		vx_unlock(&r->lock);
		return -ETIMEDOUT;
	}
	m.next = r->marks;
	r->marks = &m;
	wake(r);
	while (!m.over)
		vx_cond_wait(&r->cond, &r->lock);
	vx_unlock(&r->lock);
	return m.status;
}

int repl_group_stat(struct repl *r, uint32_t group, struct repl_group_status *ret)
{
	struct pump_group *pg = group_at(r, group);
	if (!pg)
		return -ENOENT;
	vx_lock(&r->stat_lock);
	*ret = pg->stat;
	vx_unlock(&r->stat_lock);
	return 0;
}

const char *repl_group_stopped(struct repl *r, uint32_t group)
{
	struct pump_group *pg = group_at(r, group);
	return pg ? pg->stopped : NULL;
}

void repl_wal_stat(struct repl *r, struct wal_stats *ret)
{
	uint32_t pin_group;
	if (r->writer)
		wal_writer_stat(r->writer, ret, &pin_group);
	else
		wal_stat(r->wal, ret);
}
