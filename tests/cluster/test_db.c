/* test_db.c - the database as one program uses it: what is written is there, once, and found. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dbtest.h"

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

static void reopen(struct fixture *f)
{
	db_close(f->db);
	f->db = dt_open(f->dir, dt_shards());
}

/* The record nearest to a stored vector is that record, as soon as its write has returned. */
static void a_record_is_found_by_the_first_search_after_its_write(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 0, VX_COSINE, dt_shards());
	struct coll_answer a = {.k = 0};
	float v[8];

	for (uint64_t i = 1; i <= 200; i++) {
		struct vx_err err = VX_ERR_INIT;
		char id[32];

		assert_ok(dt_put(c, i, 1, 8, &err));
		dt_vec(i, 1, 8, v);
		struct coll_query q = {.vec = v, .dim = 8, .k = 1, .with = COLL_META | COLL_VEC};
		assert_ok(coll_search(c, &q, &a, &err));
		assert_int_equal(a.n_hits, 1);
		snprintf(id, sizeof id, "r%llu", (unsigned long long)i);
		assert_int_equal(a.hits[0].rec.id_len, strlen(id));
		assert_memory_equal(a.hits[0].rec.id, id, strlen(id));
		assert_true(fabsf(a.hits[0].distance) < 1e-5f);
		assert_memory_equal(a.hits[0].rec.vec, v, sizeof v);
		assert_int_equal(a.hits[0].rec.meta_len, strlen("{\"v\":1}"));
	}
	assert_int_equal(coll_count(c), 200);
	assert_int_equal(coll_dim(c), 8);
	coll_answer_release(&a);
	coll_put(c);
}

static void overwritten_and_deleted_versions_never_come_back(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 6, VX_L2, dt_shards());
	struct coll_answer a = {.k = 0};
	struct vx_err err = VX_ERR_INIT;

	for (uint64_t i = 1; i <= 60; i++)
		for (uint64_t v = 1; v <= 3; v++)
			assert_ok(dt_put(c, i, v, 6, &err));
	for (uint64_t i = 1; i <= 60; i += 3)
		assert_ok(dt_del(c, i, &err));
	for (int round = 0; round < 2; round++) {
		assert_int_equal(coll_count(c), 40);
		for (uint64_t i = 1; i <= 60; i++) {
			float q1[6];

			assert_int_equal(dt_version(c, i, 6), i % 3 == 1 ? 0 : 3);
			dt_vec(i, 2, 6, q1); /* a version that is gone */
			struct coll_query q = {.vec = q1, .dim = 6, .k = 100};
			assert_ok(coll_search(c, &q, &a, &err));
			assert_int_equal(a.n_hits, 40);
			for (uint32_t h = 0; h < a.n_hits; h++) {
				unsigned long long key = dt_key(&a.hits[h].rec);

				assert_int_not_equal(key % 3, 1);
				assert_true(h == 0 || a.hits[h].distance >= a.hits[h - 1].distance);
			}
		}
		coll_put(c);
		reopen(f);
		c = dt_coll(f->db, "docs");
	}
	coll_answer_release(&a);
	coll_put(c);
}

/* With the collection spread over all shards the merged answer equals a scan by hand. */
static void spread_answers_equal_a_scan(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "wide", 5, VX_L2, dt_shards());
	struct coll_answer a = {.k = 0};
	struct vx_err err = VX_ERR_INIT;
	enum { N = 300, K = 12 };

	for (uint64_t i = 1; i <= N; i++)
		assert_ok(dt_put(c, i, 1, 5, &err));
	for (uint64_t t = 1; t <= 20; t++) {
		float q1[5], v[5], best[K];
		uint32_t n = 0;

		dt_vec(t, 99, 5, q1);
		for (uint64_t i = 1; i <= N; i++) {
			double d = 0;

			dt_vec(i, 1, 5, v);
			for (int j = 0; j < 5; j++)
				d += (double)(v[j] - q1[j]) * (double)(v[j] - q1[j]);
			float x = (float)sqrt(d);
			uint32_t at = n < K ? n++ : K;
			if (at == K && x >= best[K - 1])
				continue;
			if (at == K)
				at = K - 1;
			for (; at > 0 && best[at - 1] > x; at--)
				best[at] = best[at - 1];
			best[at] = x;
		}
		struct coll_query q = {.vec = q1, .dim = 5, .k = K, .exact = t % 2};
		assert_ok(coll_search(c, &q, &a, &err));
		assert_int_equal(a.n_hits, K);
		for (uint32_t h = 0; h < K; h++)
			assert_true(fabsf(a.hits[h].distance - best[h]) < 1e-4f);
	}
	coll_answer_release(&a);
	coll_put(c);
}

static int count_one(void *arg, uint64_t handle, uint64_t mtime_ns, const char *id, size_t len)
{
	uint64_t *last = arg;

	(void)mtime_ns;
	assert_true(len > 1 && id[0] == 'r');
	assert_true(handle > last[0]);
	last[0] = handle;
	last[1]++;
	return 0;
}

static void scans_and_pages_show_every_record_once(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 4, VX_IP, dt_shards());
	struct vx_err err = VX_ERR_INIT;
	struct coll_scan *sc;
	const struct coll_rec *r;
	uint64_t seen[501] = {0}, last[2] = {0, 0};

	for (uint64_t i = 1; i <= 500; i++)
		assert_ok(dt_put(c, i, 1, 4, &err));
	assert_ok(coll_scan_open(c, COLL_ALL, &sc, &err));
	int rc, n = 0;
	while ((rc = coll_scan_next(sc, &r, &err)) == 0) {
		unsigned long long key = dt_key(&r->rec);

		assert_in_range(key, 1, 500);
		seen[key]++;
		if (++n == 10) /* what is written now is not of this scan's world */
			for (uint64_t i = 1; i <= 50; i++)
				assert_ok(i % 2 ? dt_put(c, 1000 + i, 1, 4, &err)
						: dt_del(c, i, &err));
	}
	assert_int_equal(rc, -ENOENT);
	coll_scan_close(sc);
	for (int i = 1; i <= 500; i++)
		assert_int_equal(seen[i], 1);
	/* pages of 7 from cursor to cursor */
	for (uint64_t before = UINT64_MAX; last[1] != before;) {
		before = last[1];
		assert_ok(coll_list(c, last[0], 7, count_one, last));
	}
	assert_int_equal(last[1], 500 + 25 - 25);
	coll_put(c);
}

static int put_one(struct coll *c, const struct vx_record *r, struct vx_err *err)
{
	struct batch *b;

	assert_ok(batch_new(c, &b));
	int rc = batch_put(b, r, err);
	assert_int_equal(batch_count(b), rc == 0);
	if (rc == 0)
		rc = batch_commit(b, NULL, err);
	batch_free(b);
	return rc;
}

static void bad_records_are_refused_with_the_reason(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 3, VX_COSINE, 1);
	static const float good[3] = {1, 2, 3}, zero[3] = {0, 0, 0}, nan3[3] = {1, NAN, 0};
	char id[300];
	struct {
		struct vx_record r;
		int rc;
		const char *reason;
	} bad[] = {
		{{.id = "a", .id_len = 1, .vec = good, .dim = 2}, -EINVAL, "dimension 3"},
		{{.id = "a", .id_len = 1, .vec = zero, .dim = 3}, -EINVAL, "zeros"},
		{{.id = "a", .id_len = 1, .vec = nan3, .dim = 3}, -EINVAL, "NaN"},
		{{.id = "", .id_len = 0, .vec = good, .dim = 3}, -EINVAL, "empty"},
		{{.id = "\xff", .id_len = 1, .vec = good, .dim = 3}, -EINVAL, "UTF-8"},
		{{.id = "a\nb", .id_len = 3, .vec = good, .dim = 3}, -EINVAL, "control"},
		{{.id = id, .id_len = 241, .vec = good, .dim = 3}, -ENAMETOOLONG, "240"},
	};

	memset(id, 'x', sizeof id);
	for (size_t i = 0; i < VX_ARRAY_SIZE(bad); i++) {
		struct vx_err err = VX_ERR_INIT;

		assert_int_equal(put_one(c, &bad[i].r, &err), bad[i].rc);
		if (!strstr(err.msg, bad[i].reason))
			fail_msg("'%s' does not say '%s'", err.msg, bad[i].reason);
	}
	assert_int_equal(coll_count(c), 0);
	coll_put(c);
}

static void a_duplicate_in_a_batch_counts_and_the_last_wins(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 2, VX_L2, dt_shards());
	struct batch *b;
	struct batch_result res;
	struct coll_rec r = {.handle = 0};

	assert_ok(batch_new(c, &b));
	for (int i = 0; i < 5; i++) {
		float v[2] = {(float)i, 1};
		struct vx_record rec = {
			.id = i % 2 ? "odd" : "even", .id_len = i % 2 ? 3 : 4, .vec = v, .dim = 2};

		assert_ok(batch_put(b, &rec, NULL));
	}
	assert_ok(batch_commit(b, &res, NULL));
	assert_int_equal(batch_count(b), 0);
	assert_int_equal(res.duplicates, 3);
	assert_int_equal(res.inserted, 2);
	assert_int_equal(res.updated, 0);
	assert_int_equal(coll_count(c), 2);
	assert_ok(coll_get(c, "even", 4, COLL_VEC, &r, NULL));
	assert_true(r.rec.vec[0] == 4);
	assert_ok(coll_get(c, "odd", 3, COLL_VEC, &r, NULL));
	assert_true(r.rec.vec[0] == 3);
	coll_rec_release(&r);
	batch_free(b);
	coll_put(c);
}

static int count_names(void *arg, const char *name, uint32_t cid)
{
	(void)name;
	(void)cid;
	++*(int *)arg;
	return 0;
}

static void dropped_collections_stay_dropped_and_names_can_be_used_again(void **state)
{
	struct fixture *f = *state;
	struct vx_err err = VX_ERR_INIT;
	uint32_t cid = 0;
	int n = 0, rc;

	for (int round = 0; round < 3; round++) {
		struct coll *c = dt_create(f->db, "docs", 0, VX_COSINE, dt_shards());

		assert_true(coll_cid(c) > cid); /* never used again */
		cid = coll_cid(c);
		assert_int_equal(db_create(f->db, "docs", NULL, &err), -EEXIST);
		assert_ok(dt_put(c, 1, 1, 4 + (uint32_t)round, &err));
		assert_int_equal(db_drop(f->db, "docs", false, &err), -ENOTEMPTY);
		assert_ok(dt_put(c, 2, 1, 4 + (uint32_t)round, &err)); /* refused drop, no harm */
		if (round == 1) {
			assert_ok(dt_del(c, 1, &err));
			assert_ok(dt_del(c, 2, &err));
		}
		assert_ok(db_drop(f->db, "docs", round != 1, &err));
		assert_true(coll_gone(c));
		assert_int_equal(dt_put(c, 3, 1, 4 + (uint32_t)round, &err), -ENOENT);
		coll_put(c);
		reopen(f);
		assert_null(db_coll(f->db, "docs", &rc, NULL));
		assert_int_equal(rc, -ENOENT);
	}
	assert_int_equal(db_drop(f->db, "docs", true, &err), -ENOENT);
	assert_ok(db_list(f->db, count_names, &n));
	assert_int_equal(n, 0);
}

static void options_are_checked_kept_and_fixed_once_there_is_data(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 0, VX_COSINE, 1);
	struct vx_err err = VX_ERR_INIT;
	struct buf b = BUF_INIT;

	assert_int_equal(coll_config_set(c, "nonsense", "1", &err), -EINVAL);
	assert_int_equal(coll_config_set(c, "metric", "manhattan", &err), -EINVAL);
	assert_int_equal(coll_config_set(c, "ef_search", "many", &err), -EINVAL);
	assert_ok(coll_config_set(c, "metric", "l2", &err));
	assert_ok(coll_config_set(c, "ef_search", "77", &err));
	assert_ok(coll_schema_set_json(c, "{\"dim\": 4, \"m\": 8}", 18, &err));
	assert_int_equal(coll_schema_set_json(c, "{\"dimm\": 4}", 11, &err), -EINVAL);
	assert_ok(dt_put(c, 1, 1, 4, &err));
	assert_int_equal(coll_config_set(c, "metric", "ip", &err), -EPERM);
	assert_ok(coll_config_set(c, "ef_search", "78", &err));
	coll_put(c);
	reopen(f);
	c = dt_coll(f->db, "docs");
	assert_int_equal(coll_metric(c), VX_L2);
	assert_ok(coll_config_get(c, "ef_search", &b));
	assert_int_equal(b.len, 2);
	assert_memory_equal(b.data, "78", 2);
	buf_release(&b);
	assert_int_equal(dt_version(c, 1, 4), 1);
	coll_put(c);
}

/* A start loads no index; until one is asked for, its records do not count as work to be done. */
static void an_index_that_nobody_asked_for_is_unloaded_not_indexing(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 4, VX_L2, 1);
	struct coll_index_info info;
	struct vx_err err = VX_ERR_INIT;

	for (uint64_t i = 0; i < 50; i++)
		assert_ok(dt_put(c, i, 1, 4, &err));
	assert_ok(coll_index_wait(c, 0, NULL, NULL));
	assert_ok(coll_index_info(c, &info));
	assert_string_equal(info.state, "ready");
	coll_put(c);
	reopen(f);
	c = dt_coll(f->db, "docs");
	assert_ok(coll_index_info(c, &info));
	assert_string_equal(info.state, "unloaded");
	assert_int_equal(info.records, 50);
	assert_int_equal(info.tail, 0);
	assert_ok(coll_index_wait(c, 0, NULL, NULL));
	assert_ok(coll_index_info(c, &info));
	assert_string_equal(info.state, "ready");
	coll_put(c);
}

static void questions_that_cannot_be_answered_say_why(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 0, VX_COSINE, 1);
	static const float v3[3] = {1, 0, 0}, z3[3] = {0, 0, 0};
	struct coll_answer a = {.k = 0};
	struct vx_err err = VX_ERR_INIT;
	struct coll_query q = {.vec = v3, .dim = 3, .k = 5};

	assert_int_equal(coll_search(c, &q, &a, &err), -ENODATA);
	assert_ok(dt_put(c, 1, 1, 4, &err));
	assert_int_equal(coll_search(c, &q, &a, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "dimension 4"));
	float v4[4] = {1, INFINITY, 0, 0};
	q = (struct coll_query){.vec = v4, .dim = 4, .k = 5};
	assert_int_equal(coll_search(c, &q, &a, &err), -EINVAL);
	memcpy(v4, z3, sizeof z3);
	v4[3] = 0;
	assert_int_equal(coll_search(c, &q, &a, &err), -EINVAL);
	v4[0] = 1;
	q.k = VX_K_MAX + 1;
	assert_int_equal(coll_search(c, &q, &a, &err), -EINVAL);
	q.k = VX_K_MAX; /* huge but allowed: all there is */
	assert_ok(coll_search(c, &q, &a, &err));
	assert_int_equal(a.n_hits, 1);
	q = (struct coll_query){.id = "r1", .id_len = 2, .k = 3};
	assert_ok(coll_search(c, &q, &a, &err)); /* near: itself left out */
	assert_int_equal(a.n_hits, 0);
	q = (struct coll_query){.id = "nobody", .id_len = 6, .k = 3};
	assert_int_equal(coll_search(c, &q, &a, &err), -ENOENT);
	coll_answer_release(&a);
	coll_put(c);
}

/* Thousands of records in big batches: indexed in the background, found, also after a restart. */
static void bulk_is_indexed_and_recall_is_high(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "bulk", 16, VX_L2, dt_shards());
	struct vx_err err = VX_ERR_INIT;
	struct coll_recall rec;
	struct batch *b;
	uint32_t inserted = 0;

	assert_ok(batch_new(c, &b));
	for (uint64_t i = 1; i <= 20000; i++) {
		char id[32];
		float v[16];
		struct vx_record r = {.id = id, .vec = v, .dim = 16};

		r.id_len = (size_t)snprintf(id, sizeof id, "%llu", (unsigned long long)i);
		dt_vec(i, 1, 16, v);
		assert_ok(batch_put(b, &r, &err));
		if (batch_full(b) || i == 20000) {
			struct batch_result res;

			assert_ok(batch_commit(b, &res, &err));
			inserted += res.inserted;
		}
	}
	batch_free(b);
	assert_int_equal(inserted, 20000);
	for (int round = 0; round < 2; round++) {
		assert_ok(coll_index_wait(c, 0, NULL, NULL));
		assert_ok(coll_index_check(c, &err));
		assert_int_equal(coll_count(c), 20000);
		assert_ok(coll_recall(c, 10, 100, 0, 0, &rec, &err));
		assert_true(rec.recall >= 0.9);
		coll_put(c);
		reopen(f);
		c = dt_coll(f->db, "bulk");
	}
	coll_put(c);
}

/* Vectors closer to each other than rounding can tell are ties, and ties are no misses. */
static void ties_by_rounding_do_not_lower_the_measured_recall(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "near", 3, VX_COSINE, dt_shards());
	struct vx_err err = VX_ERR_INIT;
	struct batch_result res;
	struct coll_recall rec;
	struct batch *b;

	assert_ok(batch_new(c, &b));
	for (int w = 1; w <= 8; w++) {
		for (int i = 300; i <= 1100; i++) {
			char id[32];
			float v[3] = {(float)w, (float)i, 1};
			struct vx_record r = {.id = id, .vec = v, .dim = 3};

			r.id_len = (size_t)snprintf(id, sizeof id, "%d-%d", w, i);
			assert_ok(batch_put(b, &r, &err));
			if (batch_full(b))
				assert_ok(batch_commit(b, &res, &err));
		}
	}
	assert_ok(batch_commit(b, &res, &err));
	batch_free(b);
	assert_ok(coll_index_wait(c, 0, NULL, NULL));
	assert_ok(coll_recall(c, 10, 100, 0, 0, &rec, &err));
	if (rec.recall < 0.91)
		fail_msg("recall %.4f", rec.recall);
	coll_put(c);
}

/* Parallel vectors have cosine distance 0, whatever rounding makes of it. */
static void cosine_distance_is_never_negative(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 2, VX_COSINE, dt_shards());
	struct coll_answer a = {.k = 0};

	for (int i = 1; i <= 64; i++) {
		char id[16];
		float v[2] = {(float)i, (float)(i + i % 3)};
		struct vx_record r = {.id = id, .vec = v, .dim = 2};
		struct vx_err err = VX_ERR_INIT;

		r.id_len = (size_t)snprintf(id, sizeof id, "%d", i);
		assert_ok(put_one(c, &r, &err));
	}
	for (int i = 1; i <= 64; i++) {
		float v[2] = {(float)i / 7, (float)i / 7};
		struct coll_query q = {.vec = v, .dim = 2, .k = 64, .exact = i % 2};

		assert_ok(coll_search(c, &q, &a, NULL));
		for (uint32_t h = 0; h < a.n_hits; h++)
			assert_true(a.hits[h].distance >= 0 && a.hits[h].distance <= 2);
	}
	coll_answer_release(&a);
	coll_put(c);
}

/* Puts r1 with version 'v' under a name; *ret has the result. */
static int put_named(
	struct coll *c, uint64_t v, uint64_t origin, uint64_t seq, struct batch_result *ret)
{
	struct vx_err err = VX_ERR_INIT;
	struct batch *b;
	char meta[32];
	float vec[6];

	snprintf(meta, sizeof meta, "{\"v\":%llu}", (unsigned long long)v);
	dt_vec(1, v, 6, vec);
	const struct vx_record r = {.id = "r1",
		.id_len = 2,
		.vec = vec,
		.dim = 6,
		.meta = meta,
		.meta_len = strlen(meta)};
	assert_ok(batch_new(c, &b));
	assert_ok(batch_put(b, &r, &err));
	batch_name(b, origin, seq);
	int rc = batch_commit(b, ret, &err);
	batch_free(b);
	return rc;
}

/* A written, B over it, A repeated: B stays, and the repeat is told what A was told -- by the daemon that
 * took A and by one that was started since. */
static void a_named_batch_is_applied_once_and_answered_as_the_first_time(void **state)
{
	struct fixture *f = *state;
	struct coll *c = dt_create(f->db, "docs", 6, VX_L2, dt_shards());
	struct batch_result res;

	assert_ok(put_named(c, 1, 7, 100, &res));
	assert_int_equal(res.inserted, 1);
	assert_ok(put_named(c, 2, 7, 101, &res));
	assert_int_equal(res.updated, 1);
	for (int pass = 0; pass < 2; pass++) {
		assert_ok(put_named(c, 1, 7, 100, &res));
		assert_int_equal(res.inserted, 1);
		assert_int_equal(res.updated, 0);
		assert_int_equal(dt_version(c, 1, 6), 2);
		coll_put(c);
		reopen(f);
		c = dt_coll(f->db, "docs");
	}
	/* Neither the sequence nor the origin alone makes a repeat. */
	assert_ok(put_named(c, 3, 8, 100, &res));
	assert_int_equal(dt_version(c, 1, 6), 3);
	assert_ok(put_named(c, 4, 7, 102, &res));
	assert_int_equal(dt_version(c, 1, 6), 4);
	assert_int_equal(coll_count(c), 1);
	coll_put(c);
}

static void a_second_opener_is_refused(void **state)
{
	struct fixture *f = *state;
	struct db_opts o = {.data_dir = f->dir, .create = true};
	struct vx_err err = VX_ERR_INIT;
	struct db *db = NULL;

	assert_int_equal(db_open(&o, &db, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "in use"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_record_is_found_by_the_first_search_after_its_write),
		T(overwritten_and_deleted_versions_never_come_back),
		T(spread_answers_equal_a_scan),
		T(scans_and_pages_show_every_record_once),
		T(bad_records_are_refused_with_the_reason),
		T(a_duplicate_in_a_batch_counts_and_the_last_wins),
		T(dropped_collections_stay_dropped_and_names_can_be_used_again),
		T(options_are_checked_kept_and_fixed_once_there_is_data),
		T(an_index_that_nobody_asked_for_is_unloaded_not_indexing),
		T(questions_that_cannot_be_answered_say_why),
		T(bulk_is_indexed_and_recall_is_high),
		T(ties_by_rounding_do_not_lower_the_measured_recall),
		T(cosine_distance_is_never_negative),
		T(a_named_batch_is_applied_once_and_answered_as_the_first_time),
		T(a_second_opener_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
