/* test_stopped.c - damage in the middle of the log stops the shards that it concerns, and nothing else.
 *
 * A child writes to one collection in each of four shards and is killed, so that the log alone vouches for what it was
 * told.  Then one flush is wiped out that lies before others.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "cluster/db_i.h"
#include "cluster/fsck.h"
#include "dbtest.h"
#include "wal/wal_view.h"

#define DIM     8
#define SHARDS  4u
#define RECORDS 20u

static const char *const names[SHARDS] = {"a", "b", "c", "d"};

static struct db *open_it(const char *dir)
{
	struct db_opts o = {
		.data_dir = dir, .shards = SHARDS, .create = true, .mark_interval_ms = 3600 * 1000};
	struct vx_err err = VX_ERR_INIT;
	struct db *db = NULL;
	int rc = db_open(&o, &db, &err);

	if (rc)
		fail_msg("db_open: %s", vx_err_msg(&err, rc));
	return db;
}

static uint32_t shard_of(struct db *db, const char *name)
{
	struct coll *c = dt_coll(db, name);
	uint32_t s = coll_shard_of(c, "r1", 2);

	coll_put(c);
	return s;
}

/* Puts records from..to of each collection, one after the other; false: the first that failed with EUCLEAN. */
static void put_all(struct db *db, uint64_t from, uint64_t to, uint64_t version, unsigned without)
{
	struct vx_err err = VX_ERR_INIT;

	for (uint64_t i = from; i <= to; i++) {
		for (unsigned n = 0; n < SHARDS; n++) {
			struct coll *c = dt_coll(db, names[n]);
			int rc = dt_put(c, i, version, DIM, &err);
			if (n == without)
				assert_int_equal(rc, -EUCLEAN);
			else
				assert_ok(rc);
			coll_put(c);
		}
	}
}

static void must_have(struct db *db, unsigned n, uint64_t from, uint64_t to, uint64_t version)
{
	struct coll *c = dt_coll(db, names[n]);

	for (uint64_t i = from; i <= to; i++)
		assert_int_equal(dt_version(c, i, DIM), version);
	assert_true(coll_count(c) >= to - from + 1);
	coll_put(c);
}

static int in_child(const char *dir, void (*work)(struct db *db))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		work(open_it(dir));
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	return WTERMSIG(status);
}

static void first_run(struct db *db)
{
	for (unsigned n = 0; n < SHARDS; n++)
		coll_put(dt_create(db, names[n], DIM, VX_L2, 1));
	put_all(db, 1, RECORDS, 1, SHARDS);
}

/* --- a flush of one group ------------------------------------------------------------------------ */
struct find {
	uint32_t group;
	bool other; /* the frame at hand has another group's records */
	uint64_t offset;
	bool mine;
	char file[32], hit_file[32];
	uint64_t hits[4096];
	unsigned n;
};

static void frame_over(struct find *f)
{
	if (f->mine && !f->other && f->n < VX_ARRAY_SIZE(f->hits)) {
		f->hits[f->n++] = f->offset;
		memcpy(f->hit_file, f->file, sizeof f->file);
	}
	f->mine = false;
	f->other = false;
}

static int on_frame(void *ctx, const struct wal_view_frame *v)
{
	struct find *f = ctx;

	frame_over(f);
	f->offset = v->offset;
	snprintf(f->file, sizeof f->file, "%s", v->file);
	return 0;
}

static int on_record(void *ctx, const struct wal_view_record *r)
{
	struct find *f = ctx;

	if (r->group == f->group && r->type == WAL_ENTRY && r->len > 0)
		f->mine = true;
	else
		f->other = true;
	return 0;
}

/* Wipes out one of the flushes that have entries of 'group' alone, not one of the last. */
static void wipe(const char *dir, uint32_t group)
{
	static const uint8_t zeros[4096];
	const struct wal_view_ops ops = {.frame = on_frame, .record = on_record};
	struct find f = {.group = group};
	char path[512];

	assert_true((size_t)snprintf(path, sizeof path, "%s/wal", dir) < sizeof path);
	assert_ok(wal_view(disk_real(), path, &ops, &f, NULL));
	assert_true(f.n > 4);
	assert_true(
		(size_t)snprintf(path, sizeof path, "%s/wal/%s", dir, f.hit_file) < sizeof path);
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, zeros, sizeof zeros, (off_t)f.hits[f.n / 2]), sizeof zeros);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static unsigned index_of(struct db *db, uint32_t shard)
{
	for (unsigned n = 0; n < SHARDS; n++)
		if (shard_of(db, names[n]) == shard)
			return n;
	fail_msg("no collection in shard %u", shard);
	return 0;
}

static void second_run(struct db *db)
{
	put_all(db, 1, RECORDS, 3, SHARDS);
}

static int look(void *arg, const char *name, uint32_t cid)
{
	(void)name;
	(void)cid;
	++*(unsigned *)arg;
	return 0;
}

static void the_others_go_on(void **state)
{
	struct vx_err err = VX_ERR_INIT;

	(void)state;
	for (uint32_t shard = 0; shard < SHARDS; shard++) {
		char *dir = dt_mkdir();
		char what[8];
		unsigned listed = 0;

		in_child(dir, first_run);
		wipe(dir, SHARD_GROUP0 + shard);
		struct db *db = open_it(dir);
		unsigned bad = index_of(db, shard);
		for (unsigned n = 0; n < SHARDS; n++)
			if (n != bad)
				must_have(db, n, 1, RECORDS, 1);
		/* What cannot be known is not answered, and nothing takes it for gone. */
		struct coll *c = dt_coll(db, names[bad]);
		int rc = dt_del(c, 1, &err);
		assert_int_equal(rc, -EUCLEAN);
		err.msg[0] = 0;
		struct coll_index_info info;
		assert_int_equal(coll_index_info(c, &info), -EUCLEAN);
		coll_put(c);
		assert_int_equal(db_drop(db, names[bad], false, &err), -EUCLEAN);
		/* The rest of a day's work. */
		put_all(db, 1, RECORDS / 2, 2, bad);
		for (unsigned i = 0; i < 2 * SHARDS; i++) {
			char name[16];
			snprintf(name, sizeof name, "new%u", i);
			c = dt_create(db, name, DIM, VX_L2, 1 + i % SHARDS);
			for (uint64_t k = 1; k <= 20; k++) {
				assert_int_not_equal(coll_shard_of(c, "r1", 2), shard);
				assert_ok(dt_put(c, k, 1, DIM, &err));
			}
			assert_int_equal(coll_count(c), 20);
			coll_put(c);
		}
		assert_ok(db_list(db, look, &listed));
		assert_int_equal(listed, SHARDS + 2 * SHARDS);
		struct buf b = BUF_INIT;
		assert_ok(db_stats(db, &b));
		assert_ok(buf_cstr(&b));
		snprintf(what, sizeof what, "%u", shard);
		char line[64];
		snprintf(line, sizeof line, "group_%u role=stopped\n", SHARD_GROUP0 + shard);
		assert_non_null(strstr((char *)b.data, line));
		buf_release(&b);
		db_close(db);

		/* The verdict is the same the next time, and the time after. */
		for (int i = 0; i < 2; i++) {
			db = open_it(dir);
			for (unsigned n = 0; n < SHARDS; n++)
				if (n != bad)
					must_have(db, n, 1, RECORDS / 2, 2);
			put_all(db, 1, 1, 2, bad);
			db_close(db);
		}

		/* Whoever accepts the loss has what the store has.  Nobody else has lost anything. */
		assert_int_equal(node_accept_loss(dir, "9", &err), -EINVAL);
		assert_int_equal(node_accept_loss(dir, "one", &err), -EINVAL);
		assert_int_equal(node_accept_loss(dir, "catalog", &err), -ENOENT);
		assert_int_equal(node_accept_loss(dir, shard ? "0" : "1", &err), -ENOENT);
		err.msg[0] = 0;
		rc = node_accept_loss(dir, what, &err);
		if (rc)
			fail_msg("node_accept_loss: %s", vx_err_msg(&err, rc));
		assert_int_equal(node_accept_loss(dir, what, &err), -ENOENT);
		db = open_it(dir);
		/* The process died, not the machine: the store had applied all of it. */
		must_have(db, bad, 1, RECORDS, 1);
		put_all(db, 1, RECORDS, 2, SHARDS);
		db_close(db);
		in_child(dir, second_run);
		db = open_it(dir);
		for (unsigned n = 0; n < SHARDS; n++)
			must_have(db, n, 1, RECORDS, 3);
		assert_ok(db_drop(db, names[bad], true, &err));
		db_close(db);
		db = open_it(dir);
		db_close(db);
		dt_rm(dir);
	}
}

static void alone_run(struct db *db)
{
	struct coll *c = dt_create(db, "a", DIM, VX_L2, 1);
	struct vx_err err = VX_ERR_INIT;

	for (uint64_t i = 1; i <= RECORDS; i++)
		assert_ok(dt_put(c, i, 1, DIM, &err));
	coll_put(c);
}

/* Where no shard is left nothing new can be made, and the reason is said. */
static void the_only_shard_may_be_stopped_too(void **state)
{
	char *dir = dt_mkdir();
	struct coll_schema sc = {.metric = VX_L2};
	struct db_opts o = {
		.data_dir = dir, .shards = 1, .create = true, .mark_interval_ms = 3600 * 1000};
	struct vx_err err = VX_ERR_INIT;
	struct db *db;
	int status;

	(void)state;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		assert_ok(db_open(&o, &db, &err));
		alone_run(db);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	wipe(dir, SHARD_GROUP0);
	assert_ok(db_open(&o, &db, &err));
	assert_int_equal(db_create(db, "b", &sc, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "every shard is stopped: 0000000001.wal: offset"));
	db_close(db);
	assert_ok(node_accept_loss(dir, "0", &err));
	assert_ok(db_open(&o, &db, &err));
	assert_ok(db_create(db, "b", &sc, &err));
	struct coll *c = dt_coll(db, "a");
	assert_int_equal(coll_count(c), RECORDS);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

static void catalog_run(struct db *db)
{
	char name[16];
	struct vx_err err = VX_ERR_INIT;

	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "c%u", i);
		struct coll *c = dt_create(db, name, DIM, VX_L2, SHARDS);
		assert_ok(dt_put(c, i, 1, DIM, &err));
		coll_put(c);
	}
}

/* Without the catalog nothing goes; who accepts its loss has the collections that it still has. */
static void the_catalog_is_vital(void **state)
{
	char *dir = dt_mkdir(), name[16];
	struct db_opts o = {.data_dir = dir};
	struct vx_err err = VX_ERR_INIT;
	struct db *db = NULL;

	(void)state;
	in_child(dir, catalog_run);
	wipe(dir, META_GROUP);
	assert_int_equal(db_open(&o, &db, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "suspect: 1"));
	assert_int_equal(node_accept_loss(dir, "0", &err), -EUCLEAN);
	err.msg[0] = 0;
	assert_ok(node_accept_loss(dir, "catalog", &err));
	db = open_it(dir);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "c%u", i);
		struct coll *c = dt_coll(db, name);
		assert_int_equal(dt_version(c, i, DIM), 1);
		coll_put(c);
	}
	coll_put(dt_create(db, "later", DIM, VX_L2, 1));
	db_close(db);
	db = open_it(dir);
	coll_put(dt_coll(db, "later"));
	db_close(db);
	dt_rm(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_others_go_on),
		cmocka_unit_test(the_only_shard_may_be_stopped_too),
		cmocka_unit_test(the_catalog_is_vital),
	};

	(void)!log_configure("off");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
