/* Batches in flight: what the owner is told, in which order they go, and what is counted.
 *
 * The database is a queue here: a batch that is submitted waits in it until a test, or the thread of one,
 * lets it land with a status.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Compiled in: its neighbours are the mount and the database. */
#include "daemon/fs_flight.c"

struct batch {
	size_t count;
};

static struct {
	struct vx_mutex lock;
	struct vx_cond cond;
	struct {
		batch_done_fn *done;
		void *arg;
		size_t count;
	} queue[64];
	unsigned first, last, most; /* 'most' that were out at a time */
	unsigned live;              /* batches that exist */
	int refuse;                 /* of the next submit */
	unsigned land_fails;        /* number of the batch that fails, from 1 */
	bool stop;
} db;

int batch_new(struct coll *c, struct batch **ret)
{
	(void)c;
	*ret = calloc(1, sizeof **ret);
	db.live++;
	return *ret ? 0 : -ENOMEM;
}

void batch_free(struct batch *b)
{
	if (b)
		db.live--;
	free(b);
}

void batch_reset(struct batch *b)
{
	b->count = 0;
}

void batch_name(struct batch *b, uint64_t origin, uint64_t seq)
{
	(void)b;
	(void)origin;
	(void)seq;
}

void batch_hide(struct batch *b, struct txn *t)
{
	(void)b;
	(void)t;
}

int txn_commit(struct txn *t, struct batch_result *ret, struct vx_err *err)
{
	(void)t;
	*ret = (struct batch_result){.index = 0};
	return vx_err_set(err, -ENOSYS, "no transaction here");
}

size_t batch_count(const struct batch *b)
{
	return b->count;
}

int batch_submit(struct batch *b, batch_done_fn *done, void *arg, struct vx_err *err)
{
	if (db.refuse)
		return vx_err_set(err, db.refuse, "refused");
	vx_lock(&db.lock);
	db.queue[db.last].done = done;
	db.queue[db.last].arg = arg;
	db.queue[db.last++].count = b->count;
	db.most = VX_MAX(db.most, db.last - db.first);
	vx_cond_signal(&db.cond);
	vx_unlock(&db.lock);
	batch_free(b);
	return 0;
}

/* The oldest lands. */
static void land(int status)
{
	vx_lock(&db.lock);
	unsigned i = db.first++;
	vx_unlock(&db.lock);
	const struct batch_result res = {
		.inserted = (uint32_t)db.queue[i].count, .shard = 1, .index = i + 1};
	db.queue[i].done(db.queue[i].arg, status, &res);
}

static void *lander(void *arg)
{
	(void)arg;
	for (;;) {
		vx_lock(&db.lock);
		while (db.first == db.last && !db.stop)
			vx_cond_wait(&db.cond, &db.lock);
		bool end = db.first == db.last;
		vx_unlock(&db.lock);
		if (end)
			return NULL;
		land(db.first + 1 == db.land_fails ? -EROFS : 0);
	}
}

static int setup(void **state)
{
	(void)state;
	memset(&db, 0, sizeof db);
	vx_mutex_init(&db.lock, LOCK_QUEUE);
	vx_cond_init(&db.cond);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vx_cond_release(&db.cond);
	vx_mutex_release(&db.lock);
	return db.live != 0;
}

static struct flight_sum sum_of(struct flight *f)
{
	struct flight_sum s;

	flight_sum(f, &s);
	return s;
}

/* Up to FLIGHT_MAX go off without waiting, and count when they land, not before. */
static void counted_is_what_landed(void **state)
{
	struct flight f;
	struct batch *b = NULL;

	(void)state;
	flight_init(&f, NULL);
	assert_int_equal(batch_new(NULL, &b), 0);
	for (unsigned i = 1; i <= FLIGHT_MAX; i++) {
		b->count = i;
		assert_int_equal(flight_submit(&f, &b, NULL), 0);
		assert_int_equal(b->count, 0);
	}
	assert_int_equal(sum_of(&f).accepted, 0);
	land(0);
	land(0);
	assert_int_equal(sum_of(&f).accepted, 3);
	assert_int_equal(sum_of(&f).index, 2);
	land(0);
	land(0);
	assert_int_equal(flight_wait(&f, NULL), 0);
	assert_int_equal(sum_of(&f).accepted, 10);
	assert_int_equal(sum_of(&f).inserted, 10);
	assert_int_equal(sum_of(&f).index, 4);
	batch_free(b);
	flight_release(&f);
}

/* A failure comes back from the next call, nothing is sent after it, and what lands later still counts. */
static void a_failure_surfaces_later_and_ends_it(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct flight f;
	struct batch *b = NULL;

	(void)state;
	flight_init(&f, NULL);
	assert_int_equal(batch_new(NULL, &b), 0);
	for (unsigned i = 0; i < 3; i++) {
		b->count = 5;
		assert_int_equal(flight_submit(&f, &b, NULL), 0);
	}
	land(0);
	assert_int_equal(flight_failed(&f, &err), 0);
	land(-ETIMEDOUT);
	assert_int_equal(flight_failed(&f, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "outcome is unknown"));
	b->count = 7;
	assert_int_equal(flight_submit(&f, &b, &err), -ETIMEDOUT);
	assert_int_equal(b->count, 0);
	assert_int_equal(db.last, 3);
	land(0);
	assert_int_equal(flight_wait(&f, &err), -ETIMEDOUT);
	assert_int_equal(sum_of(&f).accepted, 10);
	batch_free(b);
	flight_release(&f);
}

/* What the database refuses at once ends it as well, with its own reason, and leaves an empty batch. */
static void a_refused_submit_ends_it(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct flight f;
	struct batch *b = NULL;

	(void)state;
	flight_init(&f, NULL);
	assert_int_equal(batch_new(NULL, &b), 0);
	b->count = 5;
	db.refuse = -ENOSPC;
	assert_int_equal(flight_submit(&f, &b, &err), -ENOSPC);
	assert_string_equal(err.msg, "refused");
	assert_int_equal(b->count, 0);
	db.refuse = 0;
	b->count = 5;
	assert_int_equal(flight_submit(&f, &b, &err), -ENOSPC);
	assert_int_equal(flight_wait(&f, NULL), -ENOSPC);
	assert_int_equal(sum_of(&f).accepted, 0);
	batch_free(b);
	flight_release(&f);
}

/* With another thread that lands them: never more than FLIGHT_MAX are out, and none is lost; the batch that
 * fails is the only one that is not counted. */
static void no_more_than_max_are_out(void **state)
{
	(void)state;
	for (unsigned fails = 0; fails < 2; fails++) {
		struct flight f;
		struct batch *b = NULL;
		pthread_t t;
		unsigned sent = 0;
		int rc = 0;

		db.first = db.last = db.most = 0;
		db.stop = false;
		db.land_fails = fails ? 20 : 0;
		assert_int_equal(pthread_create(&t, NULL, lander, NULL), 0);
		flight_init(&f, NULL);
		assert_int_equal(batch_new(NULL, &b), 0);
		for (unsigned i = 0; i < 60 && rc == 0; i++) {
			b->count = 1;
			rc = flight_submit(&f, &b, NULL);
			sent += rc == 0;
		}
		int end = flight_wait(&f, NULL);
		vx_lock(&db.lock);
		db.stop = true;
		vx_cond_signal(&db.cond);
		vx_unlock(&db.lock);
		pthread_join(t, NULL);
		assert_in_range(db.most, 1, FLIGHT_MAX);
		assert_int_equal(end, fails ? -EROFS : 0);
		assert_in_range(sent, fails ? 20 : 60, fails ? 20 + FLIGHT_MAX : 60);
		assert_int_equal(sum_of(&f).accepted, sent - fails);
		batch_free(b);
		flight_release(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(counted_is_what_landed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_failure_surfaces_later_and_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_refused_submit_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(no_more_than_max_are_out, setup, teardown),
	};

	return cmocka_run_group_tests_name("flight", tests, NULL, NULL);
}
