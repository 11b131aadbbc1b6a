/* test_damage.c - what cannot be read is never taken for empty: nothing is dropped because of it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dbtest.h"

#define DIM 8

static void path_of(char *out, size_t cap, const char *dir, const char *name)
{
	assert_true((size_t)snprintf(out, cap, "%s/%s", dir, name) < cap);
}

static int try_open(const char *dir, struct db **ret)
{
	struct db_opts o = {.data_dir = dir, .wal_segment_bytes = 16u << 20};
	struct vx_err err = VX_ERR_INIT;

	*ret = NULL;
	return db_open(&o, ret, &err);
}

/* A database with one collection of 20 records in shard 0, closed. */
static char *make_one(void)
{
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, 1);
	struct vx_err err = VX_ERR_INIT;

	for (uint64_t i = 1; i <= 20; i++)
		assert_ok(dt_put(c, i, 1, DIM, &err));
	coll_put(c);
	db_close(db);
	return dir;
}

static int count_one(void *arg, const char *name, uint32_t cid)
{
	(void)name;
	(void)cid;
	++*(unsigned *)arg;
	return 0;
}

/* Any page of the catalog may be damaged: either the start is refused or all collections are there. */
static void a_damaged_catalog_loses_no_collection(void **state)
{
	enum { N = 150, PAGE = 4096 };
	char *dir = dt_mkdir(), path[512], name[128];
	uint8_t good[PAGE], junk[PAGE];
	struct vx_err err = VX_ERR_INIT;
	unsigned refused = 0;
	struct db *db = dt_open(dir, 1);
	struct stat st;

	(void)state;
	memset(junk, 0x5a, sizeof junk);
	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof name, "c%03u-%050d", i, 0);
		struct coll *c = dt_create(db, name, DIM, VX_L2, 1);
		if (i % 10 == 0)
			assert_ok(dt_put(c, i + 1, 1, DIM, &err));
		coll_put(c);
	}
	db_close(db);
	path_of(path, sizeof path, dir, "catalog.db");
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size >= 8 * PAGE);
	for (off_t at = PAGE; at < st.st_size; at += PAGE) {
		unsigned n = 0;
		int fd = open(path, O_RDWR);

		assert_int_equal(pread(fd, good, PAGE, at), PAGE);
		assert_int_equal(pwrite(fd, junk, PAGE, at), PAGE);
		close(fd);
		int rc = try_open(dir, &db);
		if (rc == 0) {
			(void)db_list(db, count_one, &n);
			db_close(db);
			assert_int_equal(n, N);
		}
		refused += rc == -EUCLEAN;
		fd = open(path, O_RDWR);
		assert_int_equal(pwrite(fd, good, PAGE, at), PAGE);
		close(fd);
	}
	assert_true(refused > 0);
	db = dt_open(dir, 1);
	for (unsigned i = 0; i < N; i += 10) {
		snprintf(name, sizeof name, "c%03u-%050d", i, 0);
		struct coll *c = dt_coll(db, name);
		assert_int_equal(dt_version(c, i + 1, DIM), 1);
		coll_put(c);
	}
	db_close(db);
	dt_rm(dir);
}

/* Slices that no collection owns are dropped at the start; a lost catalog owns none. */
static void a_lost_catalog_drops_nothing(void **state)
{
	char *dir = make_one(), path[512];
	struct stat st;
	struct db *db;

	(void)state;
	path_of(path, sizeof path, dir, "catalog.db");
	assert_int_equal(unlink(path), 0);
	int rc = try_open(dir, &db);
	if (rc == 0)
		db_close(db);
	assert_int_equal(rc, -EUCLEAN);
	path_of(path, sizeof path, dir, "shard-000/c-1/meta.db");
	assert_int_equal(stat(path, &st), 0);
	dt_rm(dir);
}

static void damage_slice(const char *dir, bool lost)
{
	static const char *const files[] = {"meta.db", "meta.db-wal", "meta.db-shm"};
	char path[512], name[64], junk[4096];

	memset(junk, 0x5a, sizeof junk);
	for (unsigned i = 0; i < VX_ARRAY_SIZE(files); i++) {
		snprintf(name, sizeof name, "shard-000/c-1/%s", files[i]);
		path_of(path, sizeof path, dir, name);
		if (i || lost) {
			(void)unlink(path);
		} else {
			int fd = open(path, O_RDWR);
			assert_int_equal(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
			close(fd);
		}
	}
}

static void check_not_empty(bool lost)
{
	char *dir = make_one();
	struct vx_err err = VX_ERR_INIT;
	struct coll_rec r = {.handle = 0};

	damage_slice(dir, lost);
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_coll(db, "docs");
	assert_int_equal(coll_get(c, "r1", 2, COLL_ALL, &r, &err), -EUCLEAN);
	assert_int_equal(dt_put(c, 1, 2, DIM, &err), -EUCLEAN);
	assert_int_equal(db_drop(db, "docs", false, &err), -EUCLEAN);
	assert_false(coll_gone(c));
	/* It is still the operator's to drop. */
	assert_ok(db_drop(db, "docs", true, &err));
	assert_true(coll_gone(c));
	coll_rec_release(&r);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

static void a_damaged_collection_is_not_an_empty_one(void **state)
{
	(void)state;
	check_not_empty(false);
}

static void a_collection_that_lost_its_file_is_not_an_empty_one(void **state)
{
	(void)state;
	check_not_empty(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_damaged_catalog_loses_no_collection),
		cmocka_unit_test(a_lost_catalog_drops_nothing),
		cmocka_unit_test(a_damaged_collection_is_not_an_empty_one),
		cmocka_unit_test(a_collection_that_lost_its_file_is_not_an_empty_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
