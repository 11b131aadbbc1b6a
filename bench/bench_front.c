/* bench_front.c - what the way in costs: the same questions through a held descriptor of the mount and
 * through the library call, on the same data directory.
 *
 *	bench-front mount MOUNT/COLL/query.ids QUERIES [ROUNDS]     while the daemon runs
 *	bench-front library DATA COLL QUERIES [ROUNDS]              after it has stopped
 *	bench-front build BASE METRIC [THREADS]                     the index alone: no log, no store
 *
 * QUERIES is fvecs, bvecs, fbin or npy.  Prints "WAY p50_us N p95_us N p99_us N questions N".
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cluster/db.h"
#include "codec/codec.h"
#include "index/index.h"

struct questions {
	float *v;
	size_t n, cap;
	uint32_t dim;
};

static int on_record(void *ctx, const struct vx_record *r)
{
	struct questions *q = ctx;

	if (q->n == q->cap) {
		q->cap = q->cap ? 2 * q->cap : 1024;
		q->v = realloc(q->v, q->cap * r->dim * sizeof *q->v);
		if (!q->v)
			return -ENOMEM;
	}
	q->dim = r->dim;
	memcpy(q->v + q->n++ * r->dim, r->vec, r->dim * sizeof *q->v);
	return 0;
}

static int load(const char *path, struct questions *q)
{
	static char part[1 << 16];
	struct codec_opts o = {.dim = 0};
	struct vx_err err = VX_ERR_INIT;
	struct codec_reader *r;
	FILE *f = fopen(path, "re");
	int rc = f ? codec_reader_new(codec_format_of(path), &o, on_record, q, &r) : -errno;

	if (rc) {
		fprintf(stderr, "bench-front: %s: %s\n", path, strerror(-rc));
		return rc;
	}
	for (size_t n; rc == 0 && (n = fread(part, 1, sizeof part, f)) > 0;)
		rc = codec_feed(r, part, n, &err);
	if (rc == 0)
		rc = codec_finish(r, &err);
	if (rc)
		fprintf(stderr, "bench-front: %s: %s\n", path, vx_err_msg(&err, rc));
	codec_reader_free(r);
	fclose(f);
	return rc;
}

static int cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(const char *way, double *us, size_t n)
{
	qsort(us, n, sizeof *us, cmp);
	printf("%s p50_us %.1f p95_us %.1f p99_us %.1f questions %zu\n", way, us[n / 2],
		us[n * 95 / 100], us[n * 99 / 100], n);
}

static int ask_mount(const char *path, const struct questions *q, size_t rounds, double *us)
{
	size_t bytes = q->dim * sizeof(float), k = 0;
	char answer[65536];
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		perror(path);
		return 1;
	}
	for (size_t r = 0; r < rounds; r++) {
		for (size_t i = 0; i < q->n; i++) {
			uint64_t t0 = clock_mono_ns();
			ssize_t w = write(fd, q->v + i * q->dim, bytes);
			ssize_t got = read(fd, answer, sizeof answer);

			if (w != (ssize_t)bytes || got <= 0) {
				perror(path);
				close(fd);
				return 1;
			}
			us[k++] = (double)(clock_mono_ns() - t0) / 1e3;
		}
	}
	close(fd);
	report("mount", us, k);
	return 0;
}

static int ask_library(
	const char *dir, const char *name, const struct questions *q, size_t rounds, double *us)
{
	struct db_opts o = {.data_dir = dir};
	struct coll_answer a = {.k = 0};
	struct vx_err err = VX_ERR_INIT;
	struct db *db;
	size_t k = 0;
	int rc = db_open(&o, &db, &err);

	if (rc) {
		fprintf(stderr, "bench-front: %s\n", vx_err_msg(&err, rc));
		return 1;
	}
	struct coll *c = db_coll(db, name, &rc, &err);
	if (c)
		rc = coll_index_wait(c, 0, NULL, NULL);
	for (size_t r = 0; rc == 0 && r < rounds; r++) {
		for (size_t i = 0; rc == 0 && i < q->n; i++) {
			struct coll_query cq = {.vec = q->v + i * q->dim, .dim = q->dim, .k = 10};
			uint64_t t0 = clock_mono_ns();

			rc = coll_search(c, &cq, &a, &err);
			us[k++] = (double)(clock_mono_ns() - t0) / 1e3;
		}
	}
	if (rc)
		fprintf(stderr, "bench-front: %s\n", vx_err_msg(&err, rc));
	else
		report("library", us, k);
	coll_answer_release(&a);
	coll_put(c);
	db_close(db);
	return rc != 0;
}

static const float *host_vector(void *ctx, uint32_t slot)
{
	const struct questions *q = ctx;

	return q->v + (size_t)slot * q->dim;
}

static void *link_all(void *arg)
{
	while (index_link(arg, 256) > 0)
		;
	return NULL;
}

/* What the daemon's index workers do, with everything else left out. */
static int build_alone(const char *path, const char *metric, unsigned threads)
{
	struct questions q = {NULL, 0, 0, 0};
	struct index_params p = {.metric = VX_L2};
	struct index_host h = {.vector = host_vector, .ctx = &q};
	struct index *ix;
	pthread_t t[64];

	if (vx_metric_parse(metric, &p.metric) || threads < 1 || threads > 64) {
		fprintf(stderr, "bench-front: bad metric or number of threads\n");
		return 2;
	}
	if (load(path, &q) || q.n == 0)
		return 1;
	p.dim = q.dim;
	uint64_t t0 = clock_mono_ns();
	if (index_new(&p, &h, &ix) || index_append(ix, 0, (uint32_t)q.n, q.v))
		return 1;
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, link_all, ix))
			return 1;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	printf("build %.2f s, %u threads, %zu vectors\n", (double)(clock_mono_ns() - t0) / 1e9,
		threads, q.n);
	index_free(ix);
	free(q.v);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "build") == 0)
		return build_alone(argv[2], argv[3], argc > 4 ? (unsigned)atoi(argv[4]) : 2);

	struct questions q = {NULL, 0, 0, 0};
	bool mount = argc >= 4 && strcmp(argv[1], "mount") == 0;
	bool library = argc >= 5 && strcmp(argv[1], "library") == 0;
	int at = mount ? 3 : 4;

	if (!mount && !library) {
		fprintf(stderr, "usage: bench-front mount FILE QUERIES [ROUNDS]\n"
				"       bench-front library DATA COLL QUERIES [ROUNDS]\n"
				"       bench-front build BASE METRIC [THREADS]\n");
		return 2;
	}
	size_t rounds = argc > at + 1 ? (size_t)atol(argv[at + 1]) : 3;
	if (load(argv[at], &q) || q.n == 0)
		return 1;
	double *us = calloc(rounds * q.n, sizeof *us);
	if (!us)
		return 1;
	int rc = mount ? ask_mount(argv[2], &q, rounds, us)
		       : ask_library(argv[2], argv[3], &q, rounds, us);
	free(us);
	free(q.v);
	return rc;
}
