/* make.c - sets that are made: files, threads, queries, truths.
 *
 * A set is a function of (kind, dimension, seed, row), in blocks of 4,096 rows with a random stream each; so
 * threads may take the blocks in any order, and a set of a million is the beginning of a set of ten
 * million.  Each block is written where it belongs as soon as it is made, and its rows are compared
 * with all queries on the way, so that the true neighbours are known in the end without a second
 * pass and nothing but the block is ever in memory.  The queries are rows of a stream of their own.
 * What a row looks like is in make_kinds.c.
 */
#include "bench.h"

#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "codec/codec.h"
#include "make.h"
#include "simd/simd.h"

#define BLOCK        4096u
#define TRUTH_K      100u
#define QUERY_STREAM UINT64_MAX
#define NPY_HEAD     128u
#define LOCK_GROUP   64u

float rng_gauss(struct rng *r)
{
	float u, v, s;

	if (r->have) {
		r->have = false;
		return r->spare;
	}
	/* Marsaglia's polar method. */
	do {
		u = 2 * rng_unit(r) - 1;
		v = 2 * rng_unit(r) - 1;
		s = u * u + v * v;
	} while (s >= 1 || s == 0);
	s = sqrtf(-2 * logf(s) / s);
	r->spare = v * s;
	r->have = true;
	return u * s;
}

struct rng make_stream(uint64_t seed, uint64_t what)
{
	struct rng r = {.s = seed * 0xd1342543de82ef95u + 0x2545f4914f6cdd1du};

	r.s ^= rng_u64(&(struct rng){.s = what ^ 0x5851f42d4c957f2du});
	(void)rng_u64(&r);
	return r;
}

/* --- files -------------------------------------------------------------------------------------- */
struct out {
	const char *name;
	int fd;
	enum codec_format format;
	uint32_t dim;
	size_t head, row; /* bytes */
};

static int out_open(
	struct out *o, const char *name, size_t n, uint32_t dim, bool bytes, struct vx_err *err)
{
	char head[NPY_HEAD + 1];
	uint8_t two[8];
	ssize_t want = 0, got = 0;

	*o = (struct out){.name = name, .format = codec_format_of(name), .dim = dim};
	if (o->format == CODEC_BVECS && !bytes)
		return vx_err_set(
			err, -EINVAL, "%s: this kind has no bytes; .fvecs, .fbin or .npy", name);
	if (o->format != CODEC_BVECS && o->format != CODEC_FVECS && o->format != CODEC_FBIN &&
		o->format != CODEC_NPY)
		return vx_err_set(err, -EINVAL,
			"%s: the suffix is none of .bvecs, .fvecs, .fbin, "
			".npy",
			name);
	o->fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (o->fd < 0)
		return vx_err_set(err, -errno, "%s: %s", name, strerror(errno));
	o->row = o->format == CODEC_BVECS ? 4 + (size_t)dim : dim * sizeof(float);
	if (o->format == CODEC_FVECS)
		o->row += 4;
	if (o->format == CODEC_FBIN) {
		put_le32(two, (uint32_t)n);
		put_le32(two + 4, dim);
		want = 8;
		got = pwrite(o->fd, two, 8, 0);
	} else if (o->format == CODEC_NPY) {
		int len = snprintf(head + 10, sizeof head - 10,
			"{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %u), }", n, dim);
		memcpy(head, "\x93NUMPY\x01\x00", 8);
		put_le16(head + 8, NPY_HEAD - 10);
		memset(head + 10 + len, ' ', NPY_HEAD - 10 - (size_t)len);
		head[NPY_HEAD - 1] = '\n';
		want = NPY_HEAD;
		got = pwrite(o->fd, head, NPY_HEAD, 0);
	}
	o->head = (size_t)want;
	return got == want ? 0 : vx_err_set(err, -EIO, "%s: it cannot be written", name);
}

/* Rows first..first+n-1 of 'v', packed into 'space' on the way. */
static int out_rows(const struct out *o, size_t first, size_t n, const float *v, uint8_t *space)
{
	uint8_t *p = space;

	for (size_t i = 0; i < n; i++, v += o->dim) {
		if (o->format == CODEC_BVECS || o->format == CODEC_FVECS) {
			put_le32(p, o->dim);
			p += 4;
		}
		if (o->format == CODEC_BVECS) {
			for (uint32_t j = 0; j < o->dim; j++)
				*p++ = (uint8_t)v[j];
		} else {
			memcpy(p, v, o->dim * sizeof(float));
			p += o->dim * sizeof(float);
		}
	}
	off_t at = (off_t)(o->head + first * o->row);
	for (size_t done = 0; done < n * o->row;) {
		ssize_t w = pwrite(o->fd, space + done, n * o->row - done, at + (off_t)done);
		if (w < 0 && errno != EINTR)
			return -errno;
		done += w > 0 ? (size_t)w : 0;
	}
	return 0;
}

static int out_close(struct out *o, struct vx_err *err)
{
	if (close(o->fd) < 0)
		return vx_err_set(err, -errno, "%s: %s", o->name, strerror(errno));
	return 0;
}

/* --- blocks ----------------------------------------------------------------------------------------- */
struct making {
	const struct make_opts *o;
	const struct make_kind *kind;
	void *model;
	uint32_t dim;
	struct out out;
	float *queries;

	/* the nearest so far, guarded by 'lock' */
	pthread_mutex_t lock;
	struct nearest *near; /* queries x TRUTH_K; NULL: not wanted */
	uint32_t *have;

	atomic_size_t next, done;
	atomic_int rc;
};

/* A block against all queries.  What is far is left out before the lock is taken: the bound only
 * shrinks, so an old one lets too much through at worst. */
static void compare(struct making *m, size_t first, size_t n, const float *rows)
{
	const struct simd_kernels *k = simd_active();
	struct nearest mine[TRUTH_K];

	for (size_t q = 0; q < m->o->queries; q++) {
		const float *v = m->queries + q * m->dim;
		uint32_t have = 0;
		pthread_mutex_lock(&m->lock);
		float far = m->have[q] == TRUTH_K ? m->near[q * TRUTH_K + TRUTH_K - 1].d : INFINITY;
		pthread_mutex_unlock(&m->lock);
		for (size_t i = 0; i < n; i++) {
			float d = k->l2_f32(v, rows + i * m->dim, m->dim);
			if (d <= far) {
				nearest_add(mine, &have, TRUTH_K, d, (uint32_t)(first + i));
				if (have == TRUTH_K)
					far = VX_MIN(far, mine[TRUTH_K - 1].d);
			}
		}
		if (!have)
			continue;
		pthread_mutex_lock(&m->lock);
		for (uint32_t i = 0; i < have; i++)
			nearest_add(m->near + q * TRUTH_K, &m->have[q], TRUTH_K, mine[i].d,
				mine[i].row);
		pthread_mutex_unlock(&m->lock);
	}
}

static void *make_blocks(void *arg)
{
	struct making *m = arg;
	float *rows = malloc((size_t)BLOCK * m->dim * sizeof *rows);
	uint8_t *space = malloc(BLOCK * m->out.row);

	if (!rows || !space)
		atomic_store(&m->rc, -ENOMEM);
	while (atomic_load(&m->rc) == 0) {
		size_t block = atomic_fetch_add(&m->next, 1), first = block * BLOCK;
		if (first >= m->o->n)
			break;
		size_t n = VX_MIN((size_t)BLOCK, m->o->n - first);
		struct rng r = make_stream(m->o->seed, block);
		for (size_t i = 0; i < n; i++)
			m->kind->row(m->model, &r, rows + i * m->dim);
		int rc = out_rows(&m->out, first, n, rows, space);
		if (rc)
			atomic_store(&m->rc, rc);
		if (m->near)
			compare(m, first, n, rows);
		cli_progress("vectors", atomic_fetch_add(&m->done, n) + n, m->o->n);
	}
	free(rows);
	free(space);
	return NULL;
}

static int make_queries(struct making *m, struct vx_err *err)
{
	struct rng r = make_stream(m->o->seed, QUERY_STREAM);
	struct out out;

	for (size_t i = 0; i < m->o->queries; i++)
		m->kind->row(m->model, &r, m->queries + i * m->dim);
	int rc = out_open(&out, m->o->query, m->o->queries, m->dim, m->kind->bytes, err);
	if (rc)
		return rc;
	uint8_t *space = malloc(m->o->queries * out.row);
	rc = space ? out_rows(&out, 0, m->o->queries, m->queries, space) : -ENOMEM;
	free(space);
	int rc2 = out_close(&out, err);
	return rc ? vx_err_set(err, rc, "%s: %s", m->o->query, strerror(-rc)) : rc2;
}

static int make_base(struct making *m, struct vx_err *err)
{
	pthread_t t[THREADS_MAX];
	unsigned started = 0, want = VX_MIN(m->o->threads, THREADS_MAX);

	int rc = out_open(&m->out, m->o->base, m->o->n, m->dim, m->kind->bytes, err);
	if (rc)
		return rc;
	while (started + 1 < want && pthread_create(&t[started], NULL, make_blocks, m) == 0)
		started++;
	make_blocks(m);
	for (unsigned i = 0; i < started; i++)
		pthread_join(t[i], NULL);
	cli_progress_end();
	rc = atomic_load(&m->rc);
	int rc2 = out_close(&m->out, err);
	return rc ? vx_err_set(err, rc, "%s: %s", m->o->base, strerror(-rc)) : rc2;
}

static int write_truth(const struct making *m, struct vx_err *err)
{
	uint32_t k = (uint32_t)VX_MIN((size_t)TRUTH_K, m->o->n);
	uint32_t *rows = calloc(m->o->queries * k, sizeof *rows);

	if (!rows)
		return -ENOMEM;
	for (size_t q = 0; q < m->o->queries; q++) {
		for (uint32_t i = 0; i < k; i++)
			rows[q * k + i] = m->near[q * TRUTH_K + i].row;
	}
	int rc = truth_write(m->o->truth, rows, m->o->queries, k, err);
	free(rows);
	return rc;
}

int make_set(const struct make_opts *o, struct vx_err *err)
{
	struct making m = {.o = o, .lock = PTHREAD_MUTEX_INITIALIZER};
	int rc;

	m.kind = make_kind_find(o->kind);
	if (!m.kind)
		return vx_err_set(
			err, -EINVAL, "--kind: '%s' is none of sift, embed, mnist", o->kind);
	m.dim = o->dim ? o->dim : m.kind->dim;
	if (m.kind->fixed_dim && m.dim != m.kind->dim)
		return vx_err_set(
			err, -EINVAL, "--dim: kind %s has %u dimensions", o->kind, m.kind->dim);
	m.model = m.kind->new_model(o->seed, m.dim);
	m.queries = malloc(o->queries * m.dim * sizeof *m.queries);
	if (o->truth) {
		m.near = calloc(o->queries * TRUTH_K, sizeof *m.near);
		m.have = calloc(o->queries, sizeof *m.have);
	}
	if (!m.model || !m.queries || (o->truth && (!m.near || !m.have)))
		rc = vx_err_set(err, -ENOMEM, "out of memory");
	else
		rc = make_queries(&m, err);
	if (rc == 0)
		rc = make_base(&m, err);
	if (rc == 0 && o->truth)
		rc = write_truth(&m, err);
	free(m.model);
	free(m.queries);
	free(m.near);
	free(m.have);
	return rc;
}
