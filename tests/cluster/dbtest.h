/* dbtest.h - what the tests of lib/cluster share: a private data directory, records made from numbers. */
#ifndef VECFS_TESTS_CLUSTER_DBTEST_H
#define VECFS_TESTS_CLUSTER_DBTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cluster/db.h"

/* Makes a directory under TMPDIR; dt_rm removes it with all it holds. */
char *dt_mkdir(void);
void dt_rm(char *dir);

struct db *dt_open(const char *dir, uint32_t shards);
struct coll *dt_coll(struct db *db, const char *name);
struct coll *dt_create(
	struct db *db, const char *name, uint32_t dim, enum vx_metric m, uint32_t spread);

/* A vector that is a function of (key, version): coordinates in [-1, 1). */
void dt_vec(uint64_t key, uint64_t version, uint32_t dim, float *ret);

/* Puts id "r<key>" with dt_vec(key, version) and meta {"v":version}; returns the status. */
int dt_put(struct coll *c, uint64_t key, uint64_t version, uint32_t dim, struct vx_err *err);
int dt_del(struct coll *c, uint64_t key, struct vx_err *err);

/* The version stored under key; 0 absent.  Fails the test when the vector is not that version's. */
uint64_t dt_version(struct coll *c, uint64_t key, uint32_t dim);

/* The key in a record's id (which has no NUL after it). */
uint64_t dt_key(const struct vx_record *r);

/* Shards the suite runs with: VECFS_TEST_SHARDS, default 1. */
uint32_t dt_shards(void);
uint64_t dt_seed(void); /* SEED, or random; printed */

#define assert_ok(expr)                                                                            \
	do {                                                                                       \
		int rc_ok_ = (expr);                                                               \
		if (rc_ok_)                                                                        \
			fail_msg("%s: %d %s", #expr, rc_ok_, vx_errno_name(rc_ok_));               \
	} while (0)

#endif
