/* The log writer's thread: order, group commit, a full disk, a broken one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fakedisk.h"
#include "model.h"
#include "wal/wal_i.h"
#include "wal/wal_writer.h"

#define SUBMITTERS 6u
#define EACH       400u
#define BURST_MAX  4000u

static const struct wal_opts small = {
	.segment_size_bytes = WAL_SEG_MIN + 28 * WAL_BLOCK, .spare_segments = 1, .node_id = 1};

/* One request with one record; 'order' is its turn among all answers of its 'log'. */
struct call {
	struct wal_req req; /* first */
	struct wal_rec rec;
	struct answers *log;
	void (*hook)(struct call *c); /* on the writer's thread, before the answer counts */
	int status;
	unsigned order, answered;
};

struct answers {
	sem_t done;
	unsigned n; /* writer's thread; the others read it after 'done' */
	struct disk *disk;
	struct wal_writer *ww;
};

static void on_done(struct wal_req *req, int status)
{
	struct call *c = (struct call *)req;
	struct answers *a = c->log;

	c->status = status;
	c->order = a->n++;
	c->answered++;
	if (c->hook)
		c->hook(c);
	(void)sem_post(&a->done);
}

static void answers_init(struct answers *a)
{
	*a = (struct answers){0};
	assert_int_equal(sem_init(&a->done, 0, 0), 0);
}

static void wait_for(struct answers *a, unsigned n)
{
	while (n) {
		if (sem_wait(&a->done) == 0)
			n--;
	}
}

static void call_init(struct call *c, struct answers *a, struct wal_rec rec)
{
	*c = (struct call){.rec = rec, .log = a};
	c->req.recs = &c->rec;
	c->req.n = 1;
	c->req.done = on_done;
}

static const uint8_t zeros[8192];

static struct wal_rec entry(uint32_t group, uint64_t index, size_t len)
{
	return (struct wal_rec){.group = group,
		.type = WAL_ENTRY,
		.index = index,
		.term = 1,
		.data = zeros,
		.len = len};
}

static struct wal_writer *start(struct disk *d, const char *dir, const struct wal_opts *o)
{
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;
	struct wal_writer *ww = NULL;
	int rc = wal_open(d, dir, o, &w, &err);

	if (rc)
		fail_msg("wal_open: %s", vx_err_msg(&err, rc));
	assert_int_equal(wal_writer_start(w, &ww), 0);
	return ww;
}

static size_t entries_of(struct disk *d, const char *dir, const struct wal_opts *o, uint32_t group)
{
	struct wal_group_state st;
	struct wal *w = NULL;

	assert_int_equal(wal_open(d, dir, o, &w, NULL), 0);
	assert_int_equal(wal_group_load(w, group, &st, NULL), 0);
	size_t n = st.n_entries;
	wal_group_state_release(&st);
	wal_close(w);
	return n;
}

/* --- order and durability ------------------------------------------------------- */
struct submitter {
	pthread_t thread;
	struct wal_writer *ww;
	struct call *calls;
	uint32_t group;
};

static void *submit_all(void *arg)
{
	struct submitter *s = arg;

	for (unsigned i = 0; i < EACH; i++) {
		struct wal_stats st;
		uint32_t pin;
		wal_writer_submit(s->ww, &s->calls[i].req);
		if (i % 50 == 0)
			wal_writer_stat(s->ww, &st, &pin);
	}
	return NULL;
}

/* Every request of every thread is answered once, in the order of its thread, and is there
 * after a restart; and far fewer syncs than requests were made. */
static void many_submitters_on(struct disk *d, const char *dir, const struct wal_opts *o)
{
	struct answers a;
	struct submitter subs[SUBMITTERS];
	struct call *calls = calloc(SUBMITTERS * EACH, sizeof *calls);
	struct wal_stats st;

	assert_non_null(calls);
	answers_init(&a);
	struct wal_writer *ww = start(d, dir, o);
	for (unsigned t = 0; t < SUBMITTERS; t++) {
		subs[t] = (struct submitter){.ww = ww, .calls = calls + t * EACH, .group = t + 1};
		for (unsigned i = 0; i < EACH; i++)
			call_init(&subs[t].calls[i], &a, entry(t + 1, i + 1, i % 300));
	}
	for (unsigned t = 0; t < SUBMITTERS; t++)
		assert_int_equal(pthread_create(&subs[t].thread, NULL, submit_all, &subs[t]), 0);
	wait_for(&a, SUBMITTERS * EACH);
	for (unsigned t = 0; t < SUBMITTERS; t++)
		assert_int_equal(pthread_join(subs[t].thread, NULL), 0);
	wal_writer_stat(ww, &st, NULL);
	assert_int_equal(st.records, SUBMITTERS * EACH);
	assert_false(st.broken);
	print_message("%u requests, %llu flushes, %s\n", SUBMITTERS * EACH,
		(unsigned long long)st.flushes, st.backend);
	wal_writer_stop(ww);
	for (unsigned t = 0; t < SUBMITTERS; t++) {
		for (unsigned i = 0; i < EACH; i++) {
			const struct call *c = &subs[t].calls[i];
			assert_int_equal(c->answered, 1);
			assert_int_equal(c->status, 0);
			if (i)
				assert_true(c->order > c[-1].order);
		}
		assert_int_equal(entries_of(d, dir, o, t + 1), EACH);
	}
	free(calls);
	(void)sem_destroy(&a.done);
}

static void many_submitters_on_a_fake_disk(void **state)
{
	(void)state;
	struct disk *d = fakedisk_new();

	assert_non_null(d);
	many_submitters_on(d, "wal", &small);
	fakedisk_free(d);
}

static int unlink_each(void *arg, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
	return unlink(path);
}

static bool refused(const char *dir, const struct wal_opts *o)
{
	struct wal *w = NULL;
	int rc = wal_open(disk_real(), dir, o, &w, NULL);

	wal_close(w);
	return rc != 0;
}

static void many_submitters_on_real_files(enum wal_backend backend)
{
	char dir[256];
	const char *tmp = getenv("TMPDIR");
	struct wal_opts o = small;
	bool skipped = false;

	(void)snprintf(dir, sizeof dir, "%s/vecfs-wal-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	o.backend = backend;
	o.segment_size_bytes = 1u << 20;
	if (backend == WAL_URING && refused(dir, &o))
		skipped = true;
	else
		many_submitters_on(disk_real(), dir, &o);
	assert_int_equal(disk_real()->ops->list(disk_real(), dir, unlink_each, dir), 0);
	assert_int_equal(rmdir(dir), 0);
	if (skipped) {
		print_message("skipped: the kernel refuses io_uring here\n");
		skip();
	}
}

static void many_submitters_with_pwrite(void **state)
{
	(void)state;
	many_submitters_on_real_files(WAL_PWRITE);
}

static void many_submitters_with_io_uring(void **state)
{
	(void)state;
	many_submitters_on_real_files(WAL_URING);
}

/* What one thread submits is answered in exactly that order, also when it asks for more than
 * one batch can hold, and stop waits for all of it. */
static void answers_come_in_order_and_stop_waits(void **state)
{
	(void)state;
	struct disk *d = fakedisk_new();
	struct answers a;
	struct call *calls = calloc(BURST_MAX, sizeof *calls);
	struct wal_opts o = small;

	assert_non_null(d);
	assert_non_null(calls);
	answers_init(&a);
	o.segment_size_bytes = 1u << 20;
	struct wal_writer *ww = start(d, "wal", &o);
	for (unsigned i = 0; i < BURST_MAX; i++) {
		call_init(&calls[i], &a, entry(1, i + 1, sizeof zeros));
		wal_writer_submit(ww, &calls[i].req);
	}
	wal_writer_stop(ww);
	assert_int_equal(a.n, BURST_MAX);
	for (unsigned i = 0; i < BURST_MAX; i++) {
		assert_int_equal(calls[i].order, i);
		assert_int_equal(calls[i].status, 0);
	}
	assert_int_equal(entries_of(d, "wal", &o, 1), BURST_MAX);
	free(calls);
	fakedisk_free(d);
	(void)sem_destroy(&a.done);
}

/* A request may be submitted again inside its own answer, and one may carry no record. */
static void resubmit(struct call *c)
{
	if (c->rec.index < 100) {
		c->rec.index++;
		wal_writer_submit(c->log->ww, &c->req);
	}
}

static void requests_may_be_resubmitted_in_the_answer(void **state)
{
	(void)state;
	struct disk *d = fakedisk_new();
	struct answers a;
	struct call c, empty;

	assert_non_null(d);
	answers_init(&a);
	a.ww = start(d, "wal", &small);
	call_init(&c, &a, entry(1, 1, 10));
	c.hook = resubmit;
	wal_writer_submit(a.ww, &c.req);
	wait_for(&a, 100);
	assert_int_equal(c.answered, 100);
	call_init(&empty, &a, (struct wal_rec){0});
	empty.req.n = 0;
	wal_writer_submit(a.ww, &empty.req);
	wait_for(&a, 1);
	assert_int_equal(empty.status, 0);
	wal_writer_stop(a.ww);
	assert_int_equal(entries_of(d, "wal", &small, 1), 100);
	fakedisk_free(d);
	(void)sem_destroy(&a.done);
}

/* --- a full disk ---------------------------------------------------------------- */
static void more_room(struct call *c)
{
	fakedisk_limit(c->log->disk, UINT64_MAX);
}

/* Entries that do not fit are refused, and so are those that follow them; a mark beside them
 * is durable; with room again the first refused entry is accepted. */
static void full_disk_refuses_entries_and_takes_marks(void **state)
{
	(void)state;
	struct disk *d = fakedisk_new();
	struct answers a;
	struct call calls[200], mark, last, vote;
	unsigned accepted = 0;

	assert_non_null(d);
	fakedisk_limit(d, 3 * small.segment_size_bytes + 100);
	answers_init(&a);
	a.disk = d;
	struct wal_writer *ww = start(d, "wal", &small);
	for (unsigned i = 0; i < VX_ARRAY_SIZE(calls); i++) {
		call_init(&calls[i], &a, entry(1, i + 1, sizeof zeros));
		wal_writer_submit(ww, &calls[i].req);
	}
	wait_for(&a, VX_ARRAY_SIZE(calls));
	while (accepted < VX_ARRAY_SIZE(calls) && calls[accepted].status == 0)
		accepted++;
	assert_in_range(accepted, 10, VX_ARRAY_SIZE(calls) - 1);
	for (unsigned i = accepted; i < VX_ARRAY_SIZE(calls); i++)
		assert_int_equal(calls[i].status, -ENOSPC);

	/* A mark of half of it, in one go with an entry that has no chance. */
	call_init(&last, &a, entry(1, accepted + 1, sizeof zeros));
	call_init(&mark, &a, (struct wal_rec){.group = 1, .type = WAL_MARK, .index = 1, .term = 1});
	call_init(&vote, &a,
		(struct wal_rec){.group = 2, .type = WAL_HARDSTATE, .term = 3, .vote = 1});
	mark.hook = more_room;
	wal_writer_submit(ww, &last.req);
	wal_writer_submit(ww, &mark.req);
	wal_writer_submit(ww, &vote.req);
	wait_for(&a, 3);
	assert_int_equal(last.status, -ENOSPC);
	assert_int_equal(mark.status, 0);
	assert_int_equal(vote.status, 0);
	assert_true(last.order < mark.order);
	assert_true(mark.order < vote.order);

	call_init(&last, &a, entry(1, accepted + 1, 100));
	wal_writer_submit(ww, &last.req);
	wait_for(&a, 1);
	assert_int_equal(last.status, 0);
	wal_writer_stop(ww);
	assert_int_equal(entries_of(d, "wal", &small, 1), accepted);
	fakedisk_free(d);
	(void)sem_destroy(&a.done);
}

/* Requests that are in order: behind one that was refused none of its group gets through, however small,
 * until it has come again; other groups, and marks, do. */
static void refused_requests_are_not_overtaken(void **state)
{
	(void)state;
	struct disk *d = fakedisk_new();
	struct answers a;
	struct call calls[100], vote, other, later;
	unsigned first = 0;

	assert_non_null(d);
	fakedisk_limit(d, 3 * small.segment_size_bytes + 100);
	answers_init(&a);
	a.disk = d;
	struct wal_writer *ww = start(d, "wal", &small);
	for (unsigned i = 0; i < VX_ARRAY_SIZE(calls); i++) {
		call_init(&calls[i], &a, entry(1, i + 1, sizeof zeros));
		calls[i].req.in_order = true;
		wal_writer_submit(ww, &calls[i].req);
	}
	wait_for(&a, VX_ARRAY_SIZE(calls));
	while (first < VX_ARRAY_SIZE(calls) && calls[first].status == 0)
		first++;
	assert_in_range(first, 10, VX_ARRAY_SIZE(calls) - 3);

	struct wal_rec rec = {.group = 1, .type = WAL_HARDSTATE, .term = 3, .vote = 1};
	call_init(&vote, &a, rec);
	vote.req.in_order = true;
	rec.group = 2;
	call_init(&other, &a, rec);
	other.req.in_order = true;
	wal_writer_submit(ww, &vote.req);
	wal_writer_submit(ww, &other.req);
	wait_for(&a, 2);
	assert_int_equal(vote.status, -ENOSPC);
	assert_int_equal(other.status, 0);

	/* Room again: a newer vote still has to wait until what was refused came again. */
	fakedisk_limit(d, UINT64_MAX);
	rec = (struct wal_rec){.group = 1, .type = WAL_HARDSTATE, .term = 4, .vote = 2};
	call_init(&later, &a, rec);
	later.req.in_order = true;
	wal_writer_submit(ww, &later.req);
	wait_for(&a, 1);
	assert_int_equal(later.status, -ENOSPC);
	for (unsigned i = first; i < VX_ARRAY_SIZE(calls); i++)
		wal_writer_submit(ww, &calls[i].req);
	wal_writer_submit(ww, &vote.req);
	wal_writer_submit(ww, &later.req);
	wait_for(&a, VX_ARRAY_SIZE(calls) - first + 2);
	for (unsigned i = first; i < VX_ARRAY_SIZE(calls); i++)
		assert_int_equal(calls[i].status, 0);
	assert_int_equal(vote.status, 0);
	assert_int_equal(later.status, 0);
	wal_writer_stop(ww);
	assert_int_equal(entries_of(d, "wal", &small, 1), VX_ARRAY_SIZE(calls));
	fakedisk_free(d);
	(void)sem_destroy(&a.done);
}

/* --- the writer's work without its thread ------------------------------------------- */
#define ORDERED_MAX 3000u
#define TURN_GROUPS 3u

struct ordered {
	struct wal_req req; /* first */
	struct wal_rec rec[2];
	struct turns *all;
	uint32_t group;
	unsigned nth; /* of its group, in the order of submission */
	int status;
};

struct turns {
	struct ordered v[ORDERED_MAX];
	unsigned n;
	struct ordered *again[ORDERED_MAX]; /* refused, in the order of the answers */
	unsigned n_again;
	unsigned given[TURN_GROUPS + 1], done[TURN_GROUPS + 1];
	uint64_t next[TURN_GROUPS + 1], durable[TURN_GROUPS + 1];
	unsigned refusals, bad, answered;
};

static void on_turn(struct wal_req *req, int status)
{
	struct ordered *o = (struct ordered *)req;
	struct turns *t = o->all;

	o->status = status;
	t->answered++;
	if (status == -ENOSPC) {
		t->refusals++;
		t->again[t->n_again++] = o;
		return;
	}
	if (req->in_order && req->n) {
		/* Not before all of its group that came before it. */
		assert_int_equal(o->nth, t->done[o->group]);
		t->done[o->group]++;
	}
	if (status) {
		assert_int_equal(status, -EINVAL);
		t->bad++;
		return;
	}
	for (unsigned i = 0; i < req->n; i++) {
		if (req->recs[i].type == WAL_ENTRY)
			t->durable[o->group] = req->recs[i].index;
	}
}

static struct wal_req *random_request(struct turns *t, uint64_t *rng)
{
	struct ordered *o = &t->v[t->n++];
	uint64_t dice = model_rng(rng) % 100;

	assert_true(t->n < ORDERED_MAX);
	*o = (struct ordered){.all = t, .group = 1 + (uint32_t)(model_rng(rng) % TURN_GROUPS)};
	o->req = (struct wal_req){.recs = o->rec, .n = 1, .done = on_turn, .in_order = true};
	if (dice < 60) {
		o->req.n = 1 + (unsigned)(dice % 2);
		for (unsigned i = 0; i < o->req.n; i++)
			o->rec[i] = entry(o->group, ++t->next[o->group], (size_t)(dice * 100));
	} else if (dice < 76) {
		o->rec[0] = (struct wal_rec){.group = o->group, .type = WAL_HARDSTATE, .term = 1};
	} else if (dice < 84) {
		o->rec[0] = (struct wal_rec){.group = o->group, .type = WAL_TRUNCATE};
	} else if (dice < 92) {
		o->req.n = 0;
	} else {
		/* A mark may overtake: it makes room. */
		o->rec[0] = (struct wal_rec){.group = o->group, .type = WAL_MARK};
		o->rec[0].index = t->durable[o->group];
		o->req.in_order = false;
	}
	if (o->req.in_order && o->req.n)
		o->nth = t->given[o->group]++;
	return &o->req;
}

/* Whatever is refused and comes again, and whatever lies between: the requests of a group that are in order are
 * answered for good in their order, so that entries have no gaps; each is answered once a time. */
static void turns_are_kept_through_refusals(void **state)
{
	(void)state;
	struct turns *t = calloc(1, sizeof *t);
	struct disk *d = fakedisk_new();
	struct wal *w = NULL;
	uint64_t rng = 31;
	bool refused = false;

	assert_non_null(t);
	assert_non_null(d);
	assert_int_equal(wal_open(d, "wal", &small, &w, NULL), 0);
	for (unsigned round = 0; round < 300; round++) {
		struct wal_req *list = NULL, **tail = &list;
		unsigned submitted = 0, again = t->n_again, fresh = (unsigned)(model_rng(&rng) % 9);
		struct ordered *refused_once[ORDERED_MAX];
		memcpy(refused_once, t->again, again * sizeof *refused_once);
		t->n_again = 0;
		fakedisk_limit(d, round < 290 ? 3 * small.segment_size_bytes + 100 : UINT64_MAX);
		/* Often room enough for the old ones alone, or only later. */
		for (unsigned i = 0; i < again; i++, submitted++) {
			*tail = &refused_once[i]->req;
			tail = &(*tail)->next;
		}
		for (unsigned i = 0; i < fresh; i++, submitted++) {
			*tail = random_request(t, &rng);
			tail = &(*tail)->next;
		}
		*tail = NULL;
		unsigned before = t->answered;
		wal_writer_run(w, &refused, list);
		assert_int_equal(t->answered, before + submitted);
		assert_int_equal(wal_staged(w), 0);
	}
	assert_int_equal(t->n_again, 0);
	print_message("%u refusals\n", t->refusals);
	assert_true(t->refusals > 100);
	assert_true(t->bad > 10);
	for (uint32_t g = 1; g <= TURN_GROUPS; g++) {
		assert_int_equal(t->done[g], t->given[g]);
		assert_int_equal(t->durable[g], t->next[g]);
	}
	wal_close(w);
	assert_int_equal(wal_open(d, "wal", &small, &w, NULL), 0);
	for (uint32_t g = 1; g <= TURN_GROUPS; g++) {
		struct wal_group_state st;
		assert_int_equal(wal_group_load(w, g, &st, NULL), 0);
		assert_int_equal(st.mark_index + st.n_entries, t->next[g]);
		wal_group_state_release(&st);
	}
	wal_close(w);
	fakedisk_free(d);
	free(t);
}

/* No thread: an error, and the log is still the caller's. */
static void no_thread_is_an_error(void **state)
{
	(void)state;
	struct disk *d = fakedisk_new();
	struct wal_writer *ww = NULL;
	struct wal *w = NULL;
	pthread_attr_t old, huge;

	assert_non_null(d);
	assert_int_equal(wal_open(d, "wal", &small, &w, NULL), 0);
	assert_int_equal(pthread_getattr_default_np(&old), 0);
	assert_int_equal(pthread_attr_init(&huge), 0);
	assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 46), 0);
	assert_int_equal(pthread_setattr_default_np(&huge), 0);
	int rc = wal_writer_start(w, &ww);
	assert_int_equal(pthread_setattr_default_np(&old), 0);
	assert_true(rc == -EAGAIN || rc == -EINVAL); /* the latter from valgrind */
	assert_null(ww);
	wal_writer_stop(ww);
	assert_int_equal(wal_writer_start(w, &ww), 0);
	wal_writer_stop(ww);
	(void)pthread_attr_destroy(&huge);
	(void)pthread_attr_destroy(&old);
	fakedisk_free(d);
}

/* A request that cannot be staged fails alone. */
static void a_bad_request_fails_alone(void **state)
{
	(void)state;
	struct disk *d = fakedisk_new();
	struct answers a;
	struct call good, bad, after;

	assert_non_null(d);
	answers_init(&a);
	struct wal_writer *ww = start(d, "wal", &small);
	call_init(&good, &a, entry(1, 1, 10));
	call_init(&bad, &a, (struct wal_rec){.group = 1, .type = WAL_TRUNCATE, .index = 0});
	call_init(&after, &a, entry(1, 2, 10));
	wal_writer_submit(ww, &good.req);
	wal_writer_submit(ww, &bad.req);
	wal_writer_submit(ww, &after.req);
	wait_for(&a, 3);
	assert_int_equal(good.status, 0);
	assert_int_equal(bad.status, -EINVAL);
	assert_int_equal(after.status, 0);
	wal_writer_stop(ww);
	assert_int_equal(entries_of(d, "wal", &small, 1), 2);
	fakedisk_free(d);
	(void)sem_destroy(&a.done);
}

/* --- a broken disk --------------------------------------------------------------- */
static void break_disk(struct call *c)
{
	/* Not the next call alone: the n-th, so that it falls into writes, syncs and spares. */
	fakedisk_fail_after(c->log->disk, 1 + c->rec.index % 5, -EIO);
}

/* After an I/O error everything is answered -EIO, and what was answered 0 before is there. */
static void after_an_error_all_are_refused(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 10; n++) {
		struct disk *d = fakedisk_new();
		struct answers a;
		struct call calls[300];
		struct wal_stats st;
		unsigned ok = 0;

		assert_non_null(d);
		answers_init(&a);
		a.disk = d;
		struct wal_writer *ww = start(d, "wal", &small);
		for (unsigned i = 0; i < VX_ARRAY_SIZE(calls); i++) {
			call_init(&calls[i], &a, entry(1, i + 1, 5000));
			if (i == 5 * n)
				calls[i].hook = break_disk;
			wal_writer_submit(ww, &calls[i].req);
			if (i % 10 == 0)
				wait_for(&a, i ? 10 : 1);
		}
		wait_for(&a, (VX_ARRAY_SIZE(calls) - 1) % 10);
		wal_writer_stat(ww, &st, NULL);
		assert_true(st.broken);
		wal_writer_stop(ww);
		while (ok < VX_ARRAY_SIZE(calls) && calls[ok].status == 0)
			ok++;
		assert_in_range(ok, 5 * n + 1, VX_ARRAY_SIZE(calls) - 1);
		for (unsigned i = ok; i < VX_ARRAY_SIZE(calls); i++)
			assert_int_equal(calls[i].status, -EIO);
		fakedisk_fail_after(d, 0, 0);
		fakedisk_crash(d, n);
		assert_true(entries_of(d, "wal", &small, 1) >= ok);
		fakedisk_free(d);
		(void)sem_destroy(&a.done);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_submitters_on_a_fake_disk),
		cmocka_unit_test(many_submitters_with_pwrite),
		cmocka_unit_test(many_submitters_with_io_uring),
		cmocka_unit_test(answers_come_in_order_and_stop_waits),
		cmocka_unit_test(requests_may_be_resubmitted_in_the_answer),
		cmocka_unit_test(full_disk_refuses_entries_and_takes_marks),
		cmocka_unit_test(refused_requests_are_not_overtaken),
		cmocka_unit_test(turns_are_kept_through_refusals),
		cmocka_unit_test(no_thread_is_an_error),
		cmocka_unit_test(a_bad_request_fails_alone),
		cmocka_unit_test(after_an_error_all_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
