/* engine_library.c - lib/index in a process of its own: default settings, vectors in mapped pages.
 *
 * Everything is as in the daemon but for what the daemon does around it: the slots are asked for
 * through a host's callback, the searches ask whether a slot is alive.
 */
#include "bench.h"

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "index/index.h"

#define APPEND_BATCH 1000u
#define LINK_BATCH   1024u

struct library {
	struct set s;
	struct index *ix;
	size_t n; /* rows in it */
	uint32_t *answers;
	double *times;
	char quant[16];
};

static const float *vector(void *ctx, uint32_t slot)
{
	const struct library *l = ctx;

	return l->s.base + (size_t)slot * l->s.dim;
}

static bool visible(void *ctx, uint32_t slot)
{
	const struct library *l = ctx;

	return slot < l->n;
}

static void *linker(void *ix)
{
	while (index_link(ix, LINK_BATCH) > 0)
		;
	return NULL;
}

static uint64_t anonymous_bytes(void)
{
	unsigned long long kb = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "RssAnon: %llu kB", &kb) == 1)
			break;
	}
	if (f)
		fclose(f);
	return kb << 10;
}

static double cpu_s(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static double thread_cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The last core, away from interrupts; 'one' false undoes it. */
static void pin(bool one)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;

	CPU_ZERO(&set);
	for (long i = one ? n - 1 : 0; i < n; i++)
		CPU_SET((size_t)i, &set);
	(void)sched_setaffinity(0, sizeof set, &set);
}

static void *map(const char *dir, const char *name, size_t bytes, bool write)
{
	char path[700];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	void *p = mmap(NULL, bytes, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED | MAP_POPULATE,
		fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static const char *load(struct library *l, const char *args)
{
	char metric[16];

	if (sscanf(args, "%511s %zu %zu %u %15s %15s", l->s.dir, &l->s.n, &l->s.nq, &l->s.dim,
		    metric, l->quant) != 6 ||
		vx_metric_parse(metric, &l->s.metric))
		return "bad load";
	l->s.base = map(l->s.dir, "base.f32", l->s.n * l->s.dim * sizeof(float), false);
	l->s.query = map(l->s.dir, "query.f32", l->s.nq * l->s.dim * sizeof(float), false);
	l->answers = map(l->s.dir, "library.answers", l->s.nq * BENCH_K * sizeof *l->answers, true);
	l->times = map(l->s.dir, "library.times", l->s.nq * sizeof *l->times, true);
	return l->s.base && l->s.query && l->answers && l->times ? NULL : "cannot map the data";
}

static const char *build(struct library *l, const char *args, FILE *out)
{
	struct index_params p = {.metric = l->s.metric, .dim = l->s.dim, .quant = l->quant};
	struct index_host host = {.vector = vector, .ctx = l};
	struct index_stats st;
	pthread_t t[THREADS_MAX];
	unsigned threads, started = 0;

	if (sscanf(args, "%zu %u", &l->n, &threads) != 2 || l->n > l->s.n)
		return "bad build";
	index_free(l->ix);
	l->ix = NULL;
	malloc_trim(0);
	uint64_t before = anonymous_bytes(), t0 = clock_mono_ns();
	double cpu0 = cpu_s();
	if (index_new(&p, &host, &l->ix) < 0)
		return "cannot make an index";
	for (size_t i = 0; i < l->n; i += APPEND_BATCH) {
		uint32_t n = (uint32_t)VX_MIN((size_t)APPEND_BATCH, l->n - i);
		if (index_append(l->ix, (uint32_t)i, n, l->s.base + i * l->s.dim) < 0)
			return "out of memory";
	}
	threads = VX_MIN(threads, THREADS_MAX);
	while (started < threads && pthread_create(&t[started], NULL, linker, l->ix) == 0)
		started++;
	for (unsigned i = 0; i < started; i++)
		pthread_join(t[i], NULL);
	double wall = (double)(clock_mono_ns() - t0) / 1e9, cpu = cpu_s() - cpu0;
	if (index_linked(l->ix) < l->n)
		return "not everything was linked";
	malloc_trim(0);
	uint64_t after = anonymous_bytes();
	index_stat(l->ix, &st);
	fprintf(out, "ok %.6f %.6f %llu %llu %u\n", wall, cpu,
		(unsigned long long)(after > before ? after - before : 0),
		(unsigned long long)st.memory_bytes, st.ef_default);
	return NULL;
}

static int search_one(
	struct library *l, size_t i, unsigned ef, uint32_t *ret, struct index_search_stat *st)
{
	struct index_hit hits[BENCH_K];
	struct index_query q = {.vec = l->s.query + i * l->s.dim,
		.k = BENCH_K,
		.ef = ef,
		.nslots = (uint32_t)l->n,
		.visible = visible,
		.visible_ctx = l};
	uint32_t n = 0;
	int rc = index_search(l->ix, &q, hits, &n, st);

	for (uint32_t j = 0; j < BENCH_K; j++)
		ret[j] = rc == 0 && j < n ? hits[j].slot : BENCH_NO_ROW;
	return rc;
}

static const char *search(struct library *l, const char *args, FILE *out)
{
	unsigned ef;
	int each, rc = 0;

	if (!l->ix || sscanf(args, "%u %d", &ef, &each) != 2)
		return "bad search";
	pin(true);
	uint64_t t0 = clock_mono_ns(), t = t0;
	double cpu0 = thread_cpu_s();
	uint64_t distances = 0;
	for (size_t i = 0; i < l->s.nq && rc == 0; i++) {
		struct index_search_stat st = {0};
		rc = search_one(l, i, ef, l->answers + i * BENCH_K, &st);
		distances += st.distances + st.tail;
		if (each) {
			uint64_t now = clock_mono_ns();
			l->times[i] = (double)(now - t) / 1e3;
			t = now;
		}
	}
	double s = (double)(clock_mono_ns() - t0) / 1e9, cpu = thread_cpu_s() - cpu0;
	pin(false);
	if (rc)
		return "a search failed";
	fprintf(out, "ok %.9f %.9f %.1f\n", s, cpu, (double)distances / (double)l->s.nq);
	return NULL;
}

struct worker {
	pthread_t thread;
	struct library *l;
	unsigned ef;
	size_t from;
	uint64_t until_ns, done;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	uint32_t rows[BENCH_K];

	for (size_t i = w->from; clock_mono_ns() < w->until_ns; i++) {
		if (search_one(w->l, i % w->l->s.nq, w->ef, rows, NULL))
			break;
		w->done++;
	}
	return NULL;
}

static const char *parallel(struct library *l, const char *args, FILE *out)
{
	struct worker w[THREADS_MAX];
	unsigned ef, threads, started = 0;
	uint64_t done = 0, t0 = clock_mono_ns();
	double seconds;

	if (!l->ix || sscanf(args, "%u %u %lf", &ef, &threads, &seconds) != 3)
		return "bad parallel";
	threads = VX_MIN(threads, THREADS_MAX);
	for (; started < threads; started++) {
		w[started] = (struct worker){.l = l,
			.ef = ef,
			.from = started * l->s.nq / threads,
			.until_ns = t0 + (uint64_t)(seconds * 1e9)};
		if (pthread_create(&w[started].thread, NULL, work, &w[started]))
			break;
	}
	for (unsigned i = 0; i < started; i++) {
		pthread_join(w[i].thread, NULL);
		done += w[i].done;
	}
	fprintf(out, "ok %.1f\n", (double)done / ((double)(clock_mono_ns() - t0) / 1e9));
	return NULL;
}

int engine_library_main(FILE *in, FILE *out)
{
	static struct library l;
	char line[2048];

	while (fgets(line, sizeof line, in)) {
		const char *why = "unknown command";

		if (strncmp(line, "load ", 5) == 0) {
			why = load(&l, line + 5);
			if (!why)
				fprintf(out, "ok\n");
		} else if (strncmp(line, "build ", 6) == 0) {
			why = build(&l, line + 6, out);
		} else if (strncmp(line, "search ", 7) == 0) {
			why = search(&l, line + 7, out);
		} else if (strncmp(line, "parallel ", 9) == 0) {
			why = parallel(&l, line + 9, out);
		} else if (strncmp(line, "quit", 4) == 0) {
			break;
		}
		if (why)
			fprintf(out, "error %s\n", why);
		fflush(out);
	}
	return 0;
}
