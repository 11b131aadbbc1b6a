/* test_stop.c - full disks, marks and the end: nothing is skipped, nobody waits for ever.
 *
 * The disk of the process is replaced by one that has no room for the vectors of one shard; its log and
 * its SQLite files have.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cluster/db_i.h"
#include "dbtest.h"

#define DIM 8

/* --- a disk without room for one shard --------------------------------------------- */
static const struct disk_ops *real_ops;
static struct disk_ops full_ops;
static atomic_bool is_full;
static char full_dir[64];      /* part of the path that is full */
static atomic_bool fds[65536]; /* handles below it */
static atomic_uint n_refused;

static int full_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	int fd = real_ops->open(d, path, oflags, mode);

	if (fd >= 0 && fd < (int)VX_ARRAY_SIZE(fds))
		atomic_store(&fds[fd], strstr(path, full_dir) != NULL);
	return fd;
}

static bool refuse(int fd)
{
	if (!atomic_load(&is_full) || !atomic_load(&fds[fd]))
		return false;
	atomic_fetch_add(&n_refused, 1);
	return true;
}

static ssize_t full_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	return refuse(fd) ? -ENOSPC : real_ops->pwrite(d, fd, p, n, off);
}

static int full_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	return refuse(fd) ? -ENOSPC : real_ops->allocate(d, fd, off, len);
}

static int full_setup(void **state)
{
	(void)state;
	real_ops = disk_real()->ops;
	full_ops = *real_ops;
	full_ops.open = full_open;
	full_ops.pwrite = full_pwrite;
	full_ops.allocate = full_allocate;
	disk_real()->ops = &full_ops;
	atomic_store(&is_full, false);
	return 0;
}

static int full_teardown(void **state)
{
	(void)state;
	disk_real()->ops = real_ops;
	return 0;
}

/* --- batches without waiting ----------------------------------------------------------- */
struct answers {
	pthread_mutex_t m;
	pthread_cond_t c;
	unsigned left;
	unsigned ok, unknown, other;
};

static void on_done(void *arg, int status, const struct batch_result *res)
{
	struct answers *a = arg;

	(void)res;
	pthread_mutex_lock(&a->m);
	a->ok += status == 0;
	a->unknown += status == -ETIMEDOUT;
	a->other += status != 0 && status != -ETIMEDOUT;
	a->left--;
	pthread_cond_signal(&a->c);
	pthread_mutex_unlock(&a->m);
}

static void submit(struct coll *c, struct answers *a, uint64_t key, bool del)
{
	struct vx_err err = VX_ERR_INIT;
	struct batch *b;
	char id[32];
	float v[DIM];
	struct vx_record r = {.id = id, .vec = v, .dim = DIM, .meta = "{\"v\":1}", .meta_len = 7};

	r.id_len = (size_t)snprintf(id, sizeof id, "r%llu", (unsigned long long)key);
	dt_vec(key, 1, DIM, v);
	assert_ok(batch_new(c, &b));
	if (del)
		assert_ok(batch_delete(b, id, r.id_len, &err));
	else
		assert_ok(batch_put(b, &r, &err));
	pthread_mutex_lock(&a->m);
	a->left++;
	pthread_mutex_unlock(&a->m);
	assert_ok(batch_submit(b, on_done, a, &err));
}

/* Whether all were answered within the time. */
static bool answered(struct answers *a, unsigned seconds)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	pthread_mutex_lock(&a->m);
	while (a->left && rc == 0)
		rc = pthread_cond_timedwait(&a->c, &a->m, &until);
	bool all = a->left == 0;
	pthread_mutex_unlock(&a->m);
	return all;
}

static void wait_stalled(struct db *db, uint32_t shard)
{
	for (int i = 0; i < 1000; i++) {
		vx_lock(&db->apply_lock);
		bool stalled = db->groups[SHARD_GROUP0 + shard - META_GROUP].stalled;
		vx_unlock(&db->apply_lock);
		if (stalled)
			return;
		usleep(10000);
	}
	fail_msg("the group did not stall");
}

#define ANSWERS_INIT                                                                               \
	{                                                                                          \
		.m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER                      \
	}

/* --- the tests ---------------------------------------------------------------------------- */

/* A batch that was taken is finished by the close. */
static void what_was_submitted_is_committed_by_the_close(void **state)
{
	enum { N = 400 };
	char *dir = dt_mkdir();
	struct answers a = ANSWERS_INIT;
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, 1);

	(void)state;
	for (uint64_t i = 1; i <= N; i++)
		submit(c, &a, i, false);
	coll_put(c);
	db_close(db);
	assert_int_equal(a.left, 0);
	assert_int_equal(a.ok, N);
	db = dt_open(dir, 1);
	c = dt_coll(db, "docs");
	assert_int_equal(coll_count(c), N);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

/* Closing while a group has no room: every writer is answered, and the next start applies all that the
 * log has, in order -- also what would have fitted after what did not. */
static void a_close_without_room_skips_nothing(void **state)
{
	char *dir = dt_mkdir();
	struct answers a = ANSWERS_INIT;
	struct vx_err err = VX_ERR_INIT;

	(void)state;
	snprintf(full_dir, sizeof full_dir, "shard-000");
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, 1);
	assert_ok(dt_put(c, 1, 1, DIM, &err));
	assert_ok(dt_put(c, 2, 1, DIM, &err));
	atomic_store(&is_full, true);
	submit(c, &a, 3, false); /* needs room */
	wait_stalled(db, 0);
	submit(c, &a, 1, true); /* does not */
	submit(c, &a, 2, true);
	usleep(100000); /* committed, behind the one that has no room */
	coll_put(c);
	db_close(db);
	assert_true(answered(&a, 0));
	assert_int_equal(a.unknown, 3);
	atomic_store(&is_full, false);
	db = dt_open(dir, 1);
	c = dt_coll(db, "docs");
	assert_int_equal(dt_version(c, 3, DIM), 1);
	assert_int_equal(dt_version(c, 1, DIM), 0);
	assert_int_equal(dt_version(c, 2, DIM), 0);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

/* Giving up sets the writers free while the database is still open. */
static void giving_up_answers_who_waits_for_room(void **state)
{
	char *dir = dt_mkdir();
	struct answers a = ANSWERS_INIT;
	struct vx_err err = VX_ERR_INIT;

	(void)state;
	snprintf(full_dir, sizeof full_dir, "shard-000");
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, 1);
	assert_ok(dt_put(c, 1, 1, DIM, &err));
	atomic_store(&is_full, true);
	submit(c, &a, 3, false);
	wait_stalled(db, 0);
	db_give_up(db);
	assert_true(answered(&a, 20));
	assert_int_equal(a.unknown, 1);
	submit(c, &a, 1, true);
	assert_true(answered(&a, 20));
	assert_int_equal(a.unknown, 2);
	coll_put(c);
	db_close(db);
	atomic_store(&is_full, false);
	dt_rm(dir);
}

/* A group without room holds up no other: the word that there is work is not lost on it. */
static void a_group_without_room_holds_up_no_other(void **state)
{
	enum { ROUNDS = 300 };
	char *dir = dt_mkdir();
	struct answers a = ANSWERS_INIT, b = ANSWERS_INIT;
	struct vx_err err = VX_ERR_INIT;

	(void)state;
	snprintf(full_dir, sizeof full_dir, "shard-000");
	struct db *db = dt_open(dir, 2);
	struct coll *c0 = dt_create(db, "zero", DIM, VX_L2, 1);
	struct coll *c1 = dt_create(db, "one", DIM, VX_L2, 1);
	if (c0->places[0].shard != 0) {
		struct coll *t = c0;
		c0 = c1;
		c1 = t;
	}
	assert_int_equal(c0->places[0].shard, 0);
	assert_int_equal(c1->places[0].shard, 1);
	assert_ok(dt_put(c0, 1, 1, DIM, &err));
	assert_ok(dt_put(c1, 1, 1, DIM, &err));
	atomic_store(&is_full, true);
	submit(c0, &a, 2, false);
	wait_stalled(db, 0);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		uint64_t t0 = clock_mono_ns();

		submit(c1, &b, 10 + i, false);
		assert_true(answered(&b, 20));
		/* A lost word is found again after 250 ms at the soonest, when the full disk is
		 * tried; usually never. */
		assert_true(clock_mono_ns() - t0 < 10000000000u);
	}
	assert_int_equal(b.ok, ROUNDS);
	atomic_store(&is_full, false);
	assert_true(answered(&a, 20));
	assert_int_equal(a.ok, 1);
	coll_put(c0);
	coll_put(c1);
	db_close(db);
	dt_rm(dir);
}

static atomic_bool end_marks;
static atomic_uint n_marks;

static void *mark_meta(void *arg)
{
	struct db *db = arg;

	while (!atomic_load(&end_marks))
		if (repl_mark(db->repl, META_GROUP) == 0)
			atomic_fetch_add(&n_marks, 1);
	return NULL;
}

/* The catalog goes on while it is marked. */
static void collections_are_made_while_the_catalog_is_marked(void **state)
{
	char *dir = dt_mkdir(), name[32];
	struct vx_err err = VX_ERR_INIT;
	pthread_t t;

	(void)state;
	struct db *db = dt_open(dir, 1);
	atomic_store(&end_marks, false);
	assert_int_equal(pthread_create(&t, NULL, mark_meta, db), 0);
	for (unsigned i = 0; i < 300; i++) {
		struct coll_schema s = {.dim = DIM, .metric = VX_L2};

		snprintf(name, sizeof name, "c%u", i);
		assert_ok(db_create(db, name, &s, &err));
	}
	atomic_store(&end_marks, true);
	pthread_join(t, NULL);
	assert_true(atomic_load(&n_marks) > 0);
	db_close(db);
	db = dt_open(dir, 1);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "c%u", i);
		coll_put(dt_coll(db, name));
	}
	db_close(db);
	dt_rm(dir);
}

static char synced[8][256];
static unsigned n_synced;

static int noting_sync_dir(struct disk *d, const char *path)
{
	if (n_synced < 8)
		snprintf(synced[n_synced++], sizeof synced[0], "%s", path);
	return real_ops->sync_dir(d, path);
}

/* The first mark of a data directory counts on its name. */
static void a_new_data_directory_has_a_durable_name(void **state)
{
	char *base = dt_mkdir(), dir[256];
	bool found = false;

	(void)state;
	full_ops.sync_dir = noting_sync_dir;
	snprintf(dir, sizeof dir, "%s/data", base);
	db_close(dt_open(dir, 1));
	for (unsigned i = 0; i < n_synced; i++)
		found |= strcmp(synced[i], base) == 0;
	assert_true(found);
	dt_rm(base);
}

#define FULL(name) cmocka_unit_test_setup_teardown(name, full_setup, full_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_submitted_is_committed_by_the_close),
		FULL(a_close_without_room_skips_nothing),
		FULL(giving_up_answers_who_waits_for_room),
		FULL(a_group_without_room_holds_up_no_other),
		FULL(a_new_data_directory_has_a_durable_name),
		cmocka_unit_test(collections_are_made_while_the_catalog_is_marked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
