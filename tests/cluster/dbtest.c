#include "dbtest.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

char *dt_mkdir(void)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = NULL;

	assert_true(asprintf(&dir, "%s/vecfs-test-XXXXXX", tmp && *tmp ? tmp : "/tmp") > 0);
	assert_non_null(mkdtemp(dir));
	return dir;
}

static int rm_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void dt_rm(char *dir)
{
	nftw(dir, rm_one, 16, FTW_DEPTH | FTW_PHYS);
	free(dir);
}

uint32_t dt_shards(void)
{
	const char *s = getenv("VECFS_TEST_SHARDS");

	return s ? (uint32_t)atoi(s) : 1;
}

uint64_t dt_seed(void)
{
	const char *s = getenv("SEED");
	uint64_t seed;

	if (s)
		seed = strtoull(s, NULL, 10);
	else
		random_bytes(&seed, sizeof seed);
	print_message("SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

struct db *dt_open(const char *dir, uint32_t shards)
{
	struct db_opts o = {
		.data_dir = dir, .shards = shards, .create = true, .wal_segment_bytes = 16u << 20};
	struct vx_err err = VX_ERR_INIT;
	struct db *db = NULL;
	int rc = db_open(&o, &db, &err);

	if (rc)
		fail_msg("db_open: %s", vx_err_msg(&err, rc));
	return db;
}

struct coll *dt_coll(struct db *db, const char *name)
{
	int rc;
	struct coll *c = db_coll(db, name, &rc, NULL);

	assert_non_null(c);
	return c;
}

struct coll *dt_create(
	struct db *db, const char *name, uint32_t dim, enum vx_metric m, uint32_t spread)
{
	struct coll_schema s = {.dim = dim, .metric = m, .spread = spread};
	struct vx_err err = VX_ERR_INIT;
	int rc = db_create(db, name, &s, &err);

	if (rc)
		fail_msg("db_create: %s", vx_err_msg(&err, rc));
	return dt_coll(db, name);
}

void dt_vec(uint64_t key, uint64_t version, uint32_t dim, float *ret)
{
	uint64_t x = key * 0x9E3779B97F4A7C15u + version * 0xD1B54A32D192ED03u + 1;

	for (uint32_t i = 0; i < dim; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		ret[i] = (float)((double)(x >> 40) / (double)(1u << 23) - 1.0);
	}
}

int dt_put(struct coll *c, uint64_t key, uint64_t version, uint32_t dim, struct vx_err *err)
{
	char id[32], meta[48];
	float v[256];
	struct batch *b;
	int rc = batch_new(c, &b);

	assert_true(dim <= 256);
	if (rc)
		return rc;
	dt_vec(key, version, dim, v);
	struct vx_record r = {.id = id,
		.id_len = (size_t)snprintf(id, sizeof id, "r%llu", (unsigned long long)key),
		.vec = v,
		.dim = dim,
		.meta = meta,
		.meta_len = (size_t)snprintf(
			meta, sizeof meta, "{\"v\":%llu}", (unsigned long long)version)};
	rc = batch_put(b, &r, err);
	if (rc == 0)
		rc = batch_commit(b, NULL, err);
	batch_free(b);
	return rc;
}

int dt_del(struct coll *c, uint64_t key, struct vx_err *err)
{
	char id[32];
	struct batch *b;
	int n = snprintf(id, sizeof id, "r%llu", (unsigned long long)key);
	int rc = batch_new(c, &b);

	if (rc)
		return rc;
	rc = batch_delete(b, id, (size_t)n, err);
	if (rc == 0)
		rc = batch_commit(b, NULL, err);
	batch_free(b);
	return rc;
}

uint64_t dt_version(struct coll *c, uint64_t key, uint32_t dim)
{
	char id[32], text[64];
	float want[256];
	unsigned long long v = 0;
	struct coll_rec r = {.handle = 0};
	struct vx_err err = VX_ERR_INIT;
	int n = snprintf(id, sizeof id, "r%llu", (unsigned long long)key);
	int rc = coll_get(c, id, (size_t)n, COLL_ALL, &r, &err);

	if (rc == -ENOENT) {
		coll_rec_release(&r);
		return 0;
	}
	if (rc)
		fail_msg("get %s: %s", id, vx_err_msg(&err, rc));
	snprintf(text, sizeof text, "%.*s", (int)r.rec.meta_len, r.rec.meta);
	assert_int_equal(sscanf(text, "{\"v\":%llu}", &v), 1);
	dt_vec(key, v, dim, want);
	assert_int_equal(r.rec.dim, dim);
	assert_memory_equal(r.rec.vec, want, dim * sizeof *want);
	coll_rec_release(&r);
	return v;
}

uint64_t dt_key(const struct vx_record *r)
{
	char id[32];

	assert_true(r->id_len > 1 && r->id_len < sizeof id);
	memcpy(id, r->id, r->id_len);
	id[r->id_len] = 0;
	return strtoull(id + 1, NULL, 10);
}
