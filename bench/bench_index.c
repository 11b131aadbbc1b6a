/* bench_index.c - the library's search and build beside hnswlib and faiss.
 *
 *	bench-index [-d DIR] [-t THREADS] [-r ROUNDS] [-s] [SET...]
 *
 * For each data set every system is built with THREADS threads, one after the other.  Then one
 * thread, pinned to a core, asks all questions at rising ef until each system's recall@10
 * passes .99; the ef that reaches .95 is interpolated between the two around it.  The ROUNDS are
 * interleaved: in each, every system is timed once at every ef; the table shows medians.
 * Memory is what the process grew by during the build (peers keep the vectors, vecfs
 * does not: its figure plus the raw vectors' is in brackets).
 */
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <malloc.h>
#include <time.h>
#include <unistd.h>

#include "simd/simd.h"
#include "system.h"

#define K           10u
#define SYSTEMS_MAX 8u
#define ROUNDS_MAX  31u
#define POINTS_MAX  24u

static const unsigned efs[] = {10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160,
	200, 256, 320, 400, 512, 800};

struct point {
	unsigned ef;
	double recall;
	double qps[ROUNDS_MAX];
	double median;
};

struct subject {
	const struct system_ops *ops;
	void *sys;
	double build_s, build_cpu_s, mem_mb;
	unsigned npoints; /* points[0] is the default ef */
	struct point points[POINTS_MAX];
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* CPU time of the whole process: what a build costs on a machine that others use too. */
static double cpu_now(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static double resident_mb(void)
{
	unsigned long size, rss = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f) {
		if (fscanf(f, "%lu %lu", &size, &rss) != 2)
			rss = 0;
		fclose(f);
	}
	return (double)rss * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

/* The last core, away from interrupts; 'all' undoes it. */
static void pin(bool one)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;

	CPU_ZERO(&set);
	for (long i = one ? n - 1 : 0; i < n; i++)
		CPU_SET((size_t)i, &set);
	(void)sched_setaffinity(0, sizeof set, &set);
}

/* Asks every question once; returns questions per second. */
static double run(const struct dataset *d, struct subject *s, unsigned ef, double *ret_recall)
{
	int64_t *got = malloc((size_t)d->nquery * K * sizeof *got);
	size_t hits = 0;

	if (!got)
		abort();
	double t = now();
	for (uint32_t i = 0; i < d->nquery; i++)
		s->ops->search(s->sys, d->query + (size_t)i * d->dim, K, ef, got + (size_t)i * K);
	t = now() - t;
	for (uint32_t i = 0; i < d->nquery; i++) {
		for (unsigned a = 0; a < K; a++) {
			for (unsigned b = 0; b < K; b++)
				hits += got[(size_t)i * K + a] ==
					d->truth[(size_t)i * d->truth_k + b];
		}
	}
	free(got);
	if (ret_recall)
		*ret_recall = (double)hits / ((double)d->nquery * K);
	return (double)d->nquery / t;
}

static void find_points(const struct dataset *d, struct subject *s)
{
	struct point *p = &s->points[0];

	p->ef = s->ops->default_ef(s->sys);
	run(d, s, 0, &p->recall);
	s->npoints = 1;
	for (size_t i = 0; i < sizeof efs / sizeof *efs; i++) {
		p = &s->points[s->npoints++];
		p->ef = efs[i];
		run(d, s, p->ef, &p->recall);
		if (p->recall >= 0.995)
			break;
	}
}

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void take_medians(struct subject *s, unsigned rounds)
{
	for (unsigned i = 0; i < s->npoints; i++) {
		struct point *p = &s->points[i];
		qsort(p->qps, rounds, sizeof *p->qps, cmp_double);
		p->median = p->qps[rounds / 2];
	}
}

/* Questions per second at a recall, between the two points around it; 0: not reached. */
static double at_recall(const struct subject *s, double recall)
{
	for (unsigned i = 1; i < s->npoints; i++) {
		const struct point *b = &s->points[i], *a = b - 1;
		if (b->recall < recall)
			continue;
		if (i == 1 || b->recall <= a->recall)
			return b->median;
		double f = (recall - a->recall) / (b->recall - a->recall);
		/* Time per question is nearly linear in ef, so interpolate that. */
		return 1 / ((1 - f) / a->median + f / b->median);
	}
	return 0;
}

static void print_qps(double qps, double base)
{
	if (qps <= 0)
		printf(" %8s %6s", "-", "-");
	else if (base <= 0)
		printf(" %8.0f %6s", qps, "-");
	else
		printf(" %8.0f %5.2fx", qps, qps / base);
}

static void print_table(const struct dataset *d, struct subject *s, unsigned n, unsigned threads)
{
	const struct subject *base = NULL;
	double raw = (double)d->nbase * d->dim * 4 / 1e6;

	for (unsigned i = 0; i < n; i++) {
		if (strcmp(s[i].ops->name, "hnswlib") == 0)
			base = &s[i];
	}
	printf("\n%s: %u x %u, %s, raw float32 %.0f MB, %u build threads, kernels %s\n", d->name,
		d->nbase, d->dim, d->cosine ? "cosine" : "l2", raw, threads, simd_active()->name);
	printf("%-8s %7s %6s %7s %6s %14s | %4s %6s %8s | %8s %6s %8s %6s\n", "system", "build s",
		"x", "CPU s", "x", "MB", "ef", "recall", "QPS", "QPS .95", "x", "QPS .99", "x");
	for (unsigned i = 0; i < n; i++) {
		char mem[64];
		if (s[i].ops == &system_vecfs)
			snprintf(mem, sizeof mem, "%.0f (%.0f)", s[i].mem_mb, s[i].mem_mb + raw);
		else
			snprintf(mem, sizeof mem, "%.0f", s[i].mem_mb);
		printf("%-8s %7.2f %5.2fx %7.2f %5.2fx %14s | %4u %6.4f %8.0f |", s[i].ops->name,
			s[i].build_s, base ? s[i].build_s / base->build_s : NAN, s[i].build_cpu_s,
			base ? s[i].build_cpu_s / base->build_cpu_s : NAN, mem, s[i].points[0].ef,
			s[i].points[0].recall, s[i].points[0].median);
		print_qps(at_recall(&s[i], 0.95), base ? at_recall(base, 0.95) : 0);
		print_qps(at_recall(&s[i], 0.99), base ? at_recall(base, 0.99) : 0);
		printf("\n");
	}
	fflush(stdout);
}

static int bench_set(const struct dataset *d, unsigned threads, unsigned rounds, bool alone)
{
	struct subject s[SYSTEMS_MAX] = {0};
	unsigned n = 0;

	s[n++].ops = &system_vecfs;
	for (unsigned i = 0; !alone && system_peers[i] && n < SYSTEMS_MAX; i++)
		s[n++].ops = system_peers[i];
	for (unsigned i = 0; i < n; i++) {
		malloc_trim(0);
		double mem = resident_mb(), t = now(), cpu = cpu_now();
		s[i].sys = s[i].ops->build(d, threads);
		if (!s[i].sys) {
			fprintf(stderr, "bench: %s: build failed\n", s[i].ops->name);
			return 1;
		}
		s[i].build_s = now() - t;
		s[i].build_cpu_s = cpu_now() - cpu;
		s[i].mem_mb = resident_mb() - mem;
	}
	pin(true);
	for (unsigned i = 0; i < n; i++)
		find_points(d, &s[i]);
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned p = 0; p < POINTS_MAX; p++) {
			for (unsigned i = 0; i < n; i++) {
				if (p < s[i].npoints)
					s[i].points[p].qps[r] = run(
						d, &s[i], p ? s[i].points[p].ef : 0, NULL);
			}
		}
	}
	pin(false);
	for (unsigned i = 0; i < n; i++)
		take_medians(&s[i], rounds);
	print_table(d, s, n, threads);
	for (unsigned i = 0; i < n; i++)
		s[i].ops->free(s[i].sys);
	return 0;
}

static const struct {
	const char *name;
	bool cosine;
} sets[] = {{"sift-200k", false}, {"mnist-784", false}, {"embed-768-20k", true}};

static bool wanted(const char *name, char **argv, int argc)
{
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return true;
	}
	return argc == 0;
}

int main(int argc, char **argv)
{
	const char *dir = getenv("VECFS_BENCH_DATA");
	unsigned threads = 2, rounds = 5, done = 0;
	bool alone = false;
	int opt, rc = 0;

	while ((opt = getopt(argc, argv, "d:t:r:s")) != -1) {
		if (opt == 'd')
			dir = optarg;
		else if (opt == 't' && atoi(optarg) > 0)
			threads = (unsigned)atoi(optarg);
		else if (opt == 'r' && atoi(optarg) > 0 && (unsigned)atoi(optarg) <= ROUNDS_MAX)
			rounds = (unsigned)atoi(optarg);
		else if (opt == 's')
			alone = true;
		else {
			fprintf(stderr, "usage: bench-index [-d DIR] [-t THREADS] [-r ROUNDS] [-s] "
					"[SET...]\n");
			return 2;
		}
	}
	if (!dir || access(dir, R_OK) != 0) {
		printf("SKIP: no data; name its directory by -d or VECFS_BENCH_DATA\n");
		return 0;
	}
	if (!system_peers[0] && !alone)
		printf("note: no peers; install libhnswlib-dev and libfaiss-dev to compare\n");
	for (size_t i = 0; i < sizeof sets / sizeof *sets && rc == 0; i++) {
		struct dataset d;
		if (!wanted(sets[i].name, argv + optind, argc - optind))
			continue;
		if (dataset_load(dir, sets[i].name, sets[i].cosine, &d) < 0)
			continue;
		rc = bench_set(&d, threads, rounds, alone);
		dataset_release(&d);
		done++;
	}
	if (done == 0)
		printf("SKIP: none of the data sets is in %s\n", dir);
	return rc;
}
