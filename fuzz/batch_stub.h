/* batch_stub.h - batches without a database, for the targets that compile a source of the mount in.
 *
 * Include it first: the functions get other names, so the library's own are not linked.  What is committed goes into
 * 'world'; an id that begins with '!' is refused, as a record that does not fit its collection is.
 */
#ifndef VECFS_FUZZ_BATCH_STUB_H
#define VECFS_FUZZ_BATCH_STUB_H

#define batch_new    stub_batch_new
#define batch_free   stub_batch_free
#define batch_reset  stub_batch_reset
#define batch_put    stub_batch_put
#define batch_delete stub_batch_delete
#define batch_count  stub_batch_count
#define batch_full   stub_batch_full
#define batch_check  stub_batch_check
#define batch_commit stub_batch_commit
#define coll_dim     stub_coll_dim
#define coll_cid     stub_coll_cid

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "daemon/fs_i.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STUB_FULL 4u

struct batch {
	uint64_t sums[STUB_FULL];
	size_t n;
};

/* What one run has done. */
static struct {
	uint32_t dim;
	struct buf committed; /* a sum for each record, in order */
} world;

static inline void must(bool ok)
{
	if (!ok)
		abort();
}

int batch_new(struct coll *c, struct batch **ret)
{
	(void)c;
	*ret = calloc(1, sizeof **ret);
	return *ret ? 0 : -ENOMEM;
}

void batch_free(struct batch *b)
{
	free(b);
}

void batch_reset(struct batch *b)
{
	b->n = 0;
}

static inline uint64_t sum_of(const void *p, size_t n, uint64_t seed)
{
	return hash_xxh3(n ? p : "", n, seed + n);
}

static inline int batch_take(
	struct batch *b, const char *id, size_t n, uint64_t sum, struct vx_err *err)
{
	must(b->n < STUB_FULL);
	int rc = id ? vx_id_check(id, n, err) : 0;
	if (rc == 0 && id && id[0] == '!')
		rc = vx_err_set(err, -EINVAL, "an id that is refused");
	if (rc == 0)
		b->sums[b->n++] = sum;
	return rc;
}

int batch_put(struct batch *b, const struct vx_record *r, struct vx_err *err)
{
	uint64_t sum = sum_of(r->id, r->id ? r->id_len : 0, 1);

	if (!r->id || (world.dim && r->dim != world.dim))
		return vx_err_set(err, -EINVAL, "no id, or another dimension");
	sum = sum_of(r->vec, r->dim * sizeof(float), sum);
	sum = sum_of(r->meta, r->meta ? r->meta_len : 0, sum);
	sum = sum_of(r->text, r->text ? r->text_len : 0, sum);
	return batch_take(b, r->id, r->id_len, sum, err);
}

int batch_delete(struct batch *b, const char *id, size_t n, struct vx_err *err)
{
	return batch_take(b, id, n, sum_of(id, n, 2), err);
}

size_t batch_count(const struct batch *b)
{
	return b->n;
}

bool batch_full(const struct batch *b)
{
	return b->n == STUB_FULL;
}

int batch_check(const struct batch *b, struct vx_err *err)
{
	(void)b;
	(void)err;
	return 0;
}

int batch_commit(struct batch *b, struct batch_result *ret, struct vx_err *err)
{
	(void)err;
	memset(ret, 0, sizeof *ret);
	must(buf_append(&world.committed, b->sums, b->n * sizeof b->sums[0]) == 0);
	b->n = 0;
	return 0;
}

uint32_t coll_dim(const struct coll *c)
{
	(void)c;
	return world.dim;
}

uint32_t coll_cid(const struct coll *c)
{
	(void)c;
	return 1;
}

#endif
