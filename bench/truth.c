/* truth.c - exact neighbours, and recall against them.
 *
 * Threads take the questions 64 at a time; for each such group the base is walked in blocks that
 * fit the second-level cache, so that it is fetched from memory once per group.  A file of truths is believed in
 * its form only as far as it can be checked, and in its contents only after a sample of questions has been
 * answered exactly: the wrong metric or another base would otherwise look like a bad index.
 */
#include "bench.h"

#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "simd/simd.h"

#define GROUP        64u
#define BLOCK_BYTES  (256u << 10)
#define SAMPLE       16u
#define TRUTH_K_MAX  10000u
#define SAMPLE_WANTS 0.98 /* of a sample's true neighbours must be in the file */

void nearest_add(struct nearest *a, uint32_t *n, uint32_t k, float d, uint32_t row)
{
	uint32_t i = *n;

	if (i == k) {
		if (!(d < a[k - 1].d || (d == a[k - 1].d && row < a[k - 1].row)))
			return;
		i--;
	} else {
		++*n;
	}
	for (; i > 0 && (d < a[i - 1].d || (d == a[i - 1].d && row < a[i - 1].row)); i--)
		a[i] = a[i - 1];
	a[i] = (struct nearest){d, row};
}

static float norm(const struct simd_kernels *k, const float *v, uint32_t dim)
{
	return sqrtf(k->dot_f32(v, v, dim));
}

float set_distance(const struct set *s, size_t query, uint32_t row)
{
	const struct simd_kernels *k = simd_active();
	const float *q = s->query + query * s->dim, *v = s->base + (size_t)row * s->dim;

	if (s->metric == VX_L2)
		return k->l2_f32(q, v, s->dim);
	float dot = k->dot_f32(q, v, s->dim);
	if (s->metric == VX_IP)
		return -dot;
	float len = norm(k, q, s->dim) * norm(k, v, s->dim);
	return len > 0 ? 1 - dot / len : 1;
}

struct scan {
	const struct set *s;
	size_t n, nq;
	const uint32_t *which; /* question numbers; NULL: 0, 1, ... */
	uint32_t k;
	float *inv; /* 1 / length of each row, under cosine */
	uint32_t *ret;
	atomic_size_t next;
	atomic_bool failed;
};

static void scan_group(struct scan *sc, const struct simd_kernels *kn, size_t first, size_t count,
	struct nearest *near, uint32_t *have)
{
	const struct set *s = sc->s;
	size_t step = VX_MAX(BLOCK_BYTES / (s->dim * sizeof(float)), (size_t)1);

	memset(have, 0, GROUP * sizeof *have);
	for (size_t b = 0; b < sc->n; b += step) {
		size_t end = VX_MIN(b + step, sc->n);

		for (size_t i = 0; i < count; i++) {
			size_t qi = sc->which ? sc->which[first + i] : first + i;
			const float *q = s->query + qi * s->dim;
			struct nearest *a = near + i * sc->k;
			float far = have[i] == sc->k ? a[sc->k - 1].d : INFINITY;

			for (size_t r = b; r < end; r++) {
				const float *v = s->base + r * s->dim;
				float d = s->metric == VX_L2 ? kn->l2_f32(q, v, s->dim)
							     : -kn->dot_f32(q, v, s->dim);
				if (sc->inv)
					d *= sc->inv[r];
				if (d < far) {
					nearest_add(a, &have[i], sc->k, d, (uint32_t)r);
					far = have[i] == sc->k ? a[sc->k - 1].d : INFINITY;
				}
			}
		}
	}
	for (size_t i = 0; i < count; i++) {
		for (uint32_t j = 0; j < sc->k; j++)
			sc->ret[(first + i) * sc->k + j] = j < have[i] ? near[i * sc->k + j].row
								       : BENCH_NO_ROW;
	}
}

static void *scan_thread(void *arg)
{
	struct scan *sc = arg;
	const struct simd_kernels *kn = simd_active();
	struct nearest *near = calloc(GROUP * (size_t)sc->k, sizeof *near);
	uint32_t have[GROUP];

	if (!near) {
		atomic_store(&sc->failed, true);
		return NULL;
	}
	for (size_t at; (at = atomic_fetch_add(&sc->next, GROUP)) < sc->nq;)
		scan_group(sc, kn, at, VX_MIN(GROUP, sc->nq - at), near, have);
	free(near);
	return NULL;
}

static int scan(struct scan *sc, unsigned threads)
{
	const struct simd_kernels *kn = simd_active();
	pthread_t t[THREADS_MAX];
	unsigned started = 0;

	if (sc->s->metric == VX_COSINE) {
		sc->inv = malloc(sc->n * sizeof *sc->inv);
		if (!sc->inv)
			return -ENOMEM;
		for (size_t i = 0; i < sc->n; i++) {
			float len = norm(kn, sc->s->base + i * sc->s->dim, sc->s->dim);
			sc->inv[i] = len > 0 ? 1 / len : 0;
		}
	}
	threads = VX_MIN(threads, THREADS_MAX);
	while (started + 1 < threads && pthread_create(&t[started], NULL, scan_thread, sc) == 0)
		started++;
	scan_thread(sc);
	for (unsigned i = 0; i < started; i++)
		pthread_join(t[i], NULL);
	free(sc->inv);
	return atomic_load(&sc->failed) ? -ENOMEM : 0;
}

int truth_compute(const struct set *s, size_t n, uint32_t k, unsigned threads, uint32_t *ret)
{
	struct scan sc = {.s = s, .n = n, .nq = s->nq, .k = k, .ret = ret};

	return scan(&sc, threads);
}

/* Rows of int32: a count, then that many row numbers. */
static int parse_truth(const struct set *s, const uint8_t *p, size_t n, struct vx_err *err)
{
	size_t at = 0;

	for (size_t row = 0; row < s->nq; row++) {
		if (n - at < 4)
			return vx_err_set(err, -EINVAL,
				"it has %zu rows for %zu questions, or is cut", row, s->nq);
		uint32_t k = get_le32(p + at);
		if (k < BENCH_K || k > TRUTH_K_MAX)
			return vx_err_set(err, -EINVAL,
				"row %zu has %u neighbours; %u to %u are wanted", row, k, BENCH_K,
				TRUTH_K_MAX);
		if ((n - at - 4) / 4 < k)
			return vx_err_set(err, -EINVAL, "it is cut in row %zu", row);
		for (uint32_t j = 0; j < k; j++) {
			uint32_t id = get_le32(p + at + 4 + 4 * (size_t)j);
			if (id >= s->n)
				return vx_err_set(err, -EINVAL,
					"row %zu names vector %u, and the base has %zu", row, id,
					s->n);
			if (j < BENCH_K)
				s->truth[row * BENCH_K + j] = id;
		}
		at += 4 + 4 * (size_t)k;
	}
	return 0;
}

/* Whether a sample of the questions has the neighbours that the file says. */
static int verify(const struct set *s, unsigned threads, struct vx_err *err)
{
	uint32_t which[SAMPLE], exact[SAMPLE * BENCH_K];
	size_t n = VX_MIN(s->nq, (size_t)SAMPLE), good = 0;
	struct scan sc = {.s = s, .n = s->n, .nq = n, .which = which, .k = BENCH_K, .ret = exact};

	for (size_t i = 0; i < n; i++)
		which[i] = (uint32_t)(i * s->nq / n);
	/* A group of few questions would keep one thread busy alone. */
	int rc = scan(&sc, threads);
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++) {
		float far = set_distance(s, which[i], exact[i * BENCH_K + BENCH_K - 1]);
		for (uint32_t j = 0; j < BENCH_K; j++) {
			float d = set_distance(s, which[i], s->truth[which[i] * BENCH_K + j]);
			good += d <= far + 1e-4F * fabsf(far);
		}
	}
	if ((double)good < SAMPLE_WANTS * (double)(n * BENCH_K))
		return vx_err_set(err, -EINVAL,
			"it is not of this base, these queries and metric %s: of %zu sampled "
			"neighbours %zu are true",
			vx_metric_name(s->metric), n * BENCH_K, good);
	return 0;
}

static int read_file(const char *file, struct buf *b)
{
	size_t len = strlen(file);
	bool packed = len > 4 && strcmp(file + len - 4, ".zst") == 0;
	FILE *f = NULL;
	int rc = access(file, R_OK) ? -errno : 0;

	if (rc)
		return rc;
	if (packed) {
		/* The shell is handed the name as data, not as text. */
		setenv("VECFS_BENCH_FILE", file, 1);
		f = popen("exec zstd -dcq -- \"$VECFS_BENCH_FILE\"", "re");
	} else {
		f = fopen(file, "re");
	}
	if (!f)
		return -errno;
	for (size_t got = 1; rc == 0 && got;) {
		rc = buf_reserve(b, 1 << 20);
		got = rc ? 0 : fread(b->data + b->len, 1, 1 << 20, f);
		b->len += got;
	}
	if (rc == 0 && ferror(f))
		rc = -EIO;
	if ((packed ? pclose(f) : fclose(f)) != 0 && rc == 0)
		rc = packed ? -EINVAL : -EIO;
	return rc;
}

static int read_truth(struct set *s, const char *file, unsigned threads, struct vx_err *err)
{
	struct vx_err why = VX_ERR_INIT;
	struct buf b = BUF_INIT;
	int rc = read_file(file, &b);

	if (rc == 0)
		rc = parse_truth(s, b.data, b.len, &why);
	buf_release(&b);
	if (rc == 0)
		rc = verify(s, threads, &why);
	return rc ? vx_err_set(err, rc, "%s: %s", file, vx_err_msg(&why, rc)) : 0;
}

int truth_write(const char *file, const uint32_t *truth, size_t nq, uint32_t k, struct vx_err *err)
{
	FILE *f = fopen(file, "we");
	uint8_t le[4];

	if (!f)
		return vx_err_set(err, -errno, "%s: %s", file, strerror(errno));
	for (size_t i = 0; i < nq; i++) {
		put_le32(le, k);
		fwrite(le, 1, 4, f);
		for (uint32_t j = 0; j < k; j++) {
			put_le32(le, truth[i * k + j]);
			fwrite(le, 1, 4, f);
		}
	}
	bool bad = ferror(f);
	if (fclose(f) != 0 || bad)
		return vx_err_set(err, -EIO, "%s: it cannot be written", file);
	return 0;
}

static void fill_far(struct set *s)
{
	for (size_t i = 0; i < s->nq; i++) {
		s->truth_far[i] = -INFINITY;
		for (uint32_t j = 0; j < BENCH_K; j++) {
			uint32_t row = s->truth[i * BENCH_K + j];
			float d = row == BENCH_NO_ROW ? -INFINITY : set_distance(s, i, row);
			s->truth_far[i] = VX_MAX(s->truth_far[i], d);
		}
	}
}

int set_truth(
	struct set *s, const char *file, const char *cache, unsigned threads, struct vx_err *err)
{
	int rc = -ENOENT;

	s->truth = calloc(s->nq, BENCH_K * sizeof *s->truth);
	s->truth_far = calloc(s->nq, sizeof *s->truth_far);
	if (!s->truth || !s->truth_far)
		return -ENOMEM;
	if (file) {
		rc = read_truth(s, file, threads, err);
		if (rc)
			return rc;
	} else if (cache) {
		/* A cache that does not fit is made again. */
		rc = read_truth(s, cache, threads, NULL);
	}
	if (rc) {
		uint64_t t = clock_mono_ns();
		rc = truth_compute(s, s->n, BENCH_K, threads, s->truth);
		if (rc)
			return vx_err_set(err, rc, "exact search: %s", strerror(-rc));
		s->truth_s = (double)(clock_mono_ns() - t) / 1e9;
		if (cache)
			rc = truth_write(cache, s->truth, s->nq, BENCH_K, err);
	}
	fill_far(s);
	return rc;
}

double set_recall(const struct set *s, const uint32_t *answers)
{
	size_t found = 0;

	for (size_t i = 0; i < s->nq; i++) {
		const uint32_t *a = answers + i * BENCH_K, *t = s->truth + i * BENCH_K;
		for (uint32_t j = 0; j < BENCH_K; j++) {
			bool hit = false, again = false;
			if (a[j] >= s->n)
				continue;
			for (uint32_t l = 0; l < j; l++)
				again = again || a[l] == a[j];
			for (uint32_t l = 0; l < BENCH_K && !hit; l++)
				hit = t[l] == a[j];
			if (!hit && !again) {
				float far = s->truth_far[i];
				hit = set_distance(s, i, a[j]) <= far + 1e-6F * fabsf(far);
			}
			found += hit && !again;
		}
	}
	return (double)found / ((double)s->nq * BENCH_K);
}
