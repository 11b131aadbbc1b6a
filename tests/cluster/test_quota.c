/* test_quota.c - memory.max and quota.max: writers hear EDQUOT and why, deletes work and give room back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dbtest.h"

#define DIM 64u

struct fixture {
	char *dir;
	struct db *db;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	f->dir = dt_mkdir();
	f->db = dt_open(f->dir, dt_shards());
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	db_close(f->db);
	dt_rm(f->dir);
	free(f);
	return 0;
}

/* One batch of records from .. to - 1, or their deletion. */
static int change(struct coll *c, uint64_t from, uint64_t to, bool put, struct vx_err *err)
{
	struct batch *b;
	int rc = batch_new(c, &b);

	assert_int_equal(rc, 0);
	for (uint64_t i = from; i < to && rc == 0; i++) {
		char id[32];
		float v[DIM];
		struct vx_record r = {.id = id, .vec = v, .dim = DIM};

		r.id_len = (size_t)snprintf(id, sizeof id, "r%llu", (unsigned long long)i);
		dt_vec(i, 1, DIM, v);
		rc = put ? batch_put(b, &r, err) : batch_delete(b, id, r.id_len, err);
	}
	if (rc == 0)
		rc = batch_commit(b, NULL, err);
	batch_free(b);
	return rc;
}

#define STEP 500u
#define MOST 200000u

/* Puts until it is refused; returns how many went in. */
static uint64_t fill(struct coll *c, uint64_t from, struct vx_err *err)
{
	uint64_t n = from;
	int rc = 0;

	while (n < MOST && (rc = change(c, n, n + STEP, true, err)) == 0)
		n += STEP;
	assert_int_equal(rc, -EDQUOT);
	return n;
}

/* The record is there whatever was refused after it. */
static void is_there(struct coll *c, uint64_t key, bool there)
{
	struct coll_rec r = {.handle = 0};
	char id[32];
	int n = snprintf(id, sizeof id, "r%llu", (unsigned long long)key);
	int rc = coll_get(c, id, (size_t)n, 0, &r, NULL);

	assert_int_equal(rc, there ? 0 : -ENOENT);
	coll_rec_release(&r);
}

static void limit(struct fixture *f, const char *key, const char *value)
{
	struct coll *c = dt_create(f->db, "docs", DIM, VX_L2, dt_shards());
	struct coll *other = dt_create(f->db, "other", DIM, VX_L2, dt_shards());
	struct vx_err err = VX_ERR_INIT;
	struct coll_index_info info;

	assert_ok(coll_config_set(c, key, value, &err));
	uint64_t n = fill(c, 0, &err);
	assert_true(n > STEP);
	assert_non_null(strstr(err.msg, key));
	assert_non_null(strstr(err.msg, "docs"));
	assert_ok(coll_index_info(c, &info));
	uint64_t max = (uint64_t)atoi(value) << 20;
	uint64_t held = key[0] == 'm' ? info.memory_bytes : info.disk_bytes;
	print_message("%s %s: %llu records, %llu bytes\n", key, value, (unsigned long long)n,
		(unsigned long long)held);
	assert_true(held < max + max / 4);
	assert_true(held > max / 3);
	assert_int_equal(info.records, n);
	is_there(c, 0, true);
	assert_ok(change(other, 0, STEP, true, &err));
	/* Deletes pass, and what they free can be written again. */
	assert_ok(change(c, 0, n * 3 / 4, false, &err));
	is_there(c, 0, false);
	assert_ok(coll_compact(c, &err));
	assert_ok(coll_index_wait(c, 0, NULL, NULL));
	uint64_t again = fill(c, n, &err) - n;
	assert_true(again >= n / 4);
	/* Without the limit there is none. */
	assert_ok(coll_config_set(c, key, "0", &err));
	assert_ok(change(c, 1000000, 1000000 + STEP, true, &err));
	coll_put(other);
	coll_put(c);
}

static void quota_max_is_obeyed(void **state)
{
	limit(*state, "quota.max", "12M");
}

static void memory_max_is_obeyed(void **state)
{
	limit(*state, "memory.max", "4M");
}

/* The node's limits concern every collection, and change while it runs. */
static void node_limits_are_obeyed(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", DIM, VX_L2, dt_shards());
	struct vx_err err = VX_ERR_INIT;

	assert_ok(change(c, 0, STEP, true, &err));
	db_limits(f->db, 1, 0);
	assert_int_equal(change(c, STEP, 2 * STEP, true, &err), -EDQUOT);
	assert_non_null(strstr(err.msg, "memory-max"));
	assert_ok(change(c, 0, 10, false, &err));
	db_limits(f->db, 0, 1);
	assert_int_equal(change(c, STEP, 2 * STEP, true, &err), -EDQUOT);
	assert_non_null(strstr(err.msg, "quota-max"));
	db_limits(f->db, 0, 0);
	assert_ok(change(c, STEP, 2 * STEP, true, &err));
	coll_put(c);
}

static void nonsense_is_refused(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", DIM, VX_L2, 1);
	static const char *const bad[] = {"x", "-1", "5X", "1MM", "1.5G", "5 ",
		"9223372036854775808", "99999999999999999999", "M"};
	static const char *const good[] = {"0", "4096", "10k", "10K", "5M", "2g", "1T", ""};
	struct vx_err err = VX_ERR_INIT;

	for (size_t i = 0; i < VX_ARRAY_SIZE(bad); i++) {
		assert_int_equal(coll_config_set(c, "quota.max", bad[i], &err), -EINVAL);
		assert_int_equal(coll_config_set(c, "memory.max", bad[i], &err), -EINVAL);
	}
	for (size_t i = 0; i < VX_ARRAY_SIZE(good); i++)
		assert_ok(coll_config_set(c, "memory.max", good[i], &err));
	coll_put(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(quota_max_is_obeyed, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_max_is_obeyed, setup, teardown),
		cmocka_unit_test_setup_teardown(node_limits_are_obeyed, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense_is_refused, setup, teardown),
	};
	return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
