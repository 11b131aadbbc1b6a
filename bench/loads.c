/* loads.c - what a service sees: the way in, batches, mixes of questions and records.
 *
 * The order matters: what only asks comes first; mixes and ingest add records to the collection and come last.
 * Everything here is a closed loop: the next request goes out when the answer is there.
 */
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "codec/codec.h"

#define BATCH_QUESTIONS 1000u
#define TEXT_QUESTIONS  1000u
#define ANSWER_BYTES    65536u
#define SAMPLES_MAX     (1u << 20)

static const unsigned mix_percent[MIXES] = {95, 70, 50};

void latency_of(double *us, size_t n, struct latency *ret)
{
	double sum = 0;

	memset(ret, 0, sizeof *ret);
	if (n == 0)
		return;
	qsort(us, n, sizeof *us, cmp_double);
	for (size_t i = 0; i < n; i++)
		sum += us[i];
	*ret = (struct latency){.there = true,
		.p50 = us[n / 2],
		.p95 = us[n * 95 / 100],
		.p99 = us[n * 99 / 100],
		.mean = sum / (double)n,
		.count = n};
}

static double median_of(double *v, unsigned n)
{
	qsort(v, n, sizeof *v, cmp_double);
	return v[n / 2];
}

/* --- one question, every way ---------------------------------------------------------------- */
enum spelling { AS_ARRAY, AS_OBJECT };

/* A way through the mount by text: questions written out beforehand. */
struct text_way {
	int fd;
	size_t n;
	struct buf text;
	size_t *at; /* n + 1 */
};

static int text_way_init(struct text_way *w, const struct daemon *d, const struct set *s,
	const char *file, enum spelling how, struct vx_err *err)
{
	char path[800];
	int rc = 0;

	w->n = VX_MIN(s->nq, (size_t)TEXT_QUESTIONS);
	w->at = calloc(w->n + 1, sizeof *w->at);
	if (!w->at)
		return -ENOMEM;
	for (size_t i = 0; rc == 0 && i < w->n; i++) {
		w->at[i] = w->text.len;
		if (how == AS_OBJECT)
			rc = buf_printf(&w->text, "{\"vector\":");
		if (rc == 0)
			rc = codec_print_vector(&w->text, s->query + i * s->dim, s->dim);
		if (rc == 0)
			rc = buf_printf(&w->text, how == AS_OBJECT ? ",\"k\":10}\n" : "\n");
	}
	w->at[w->n] = w->text.len;
	snprintf(path, sizeof path, "%s/%s/%s", d->mnt, d->coll, file);
	w->fd = rc ? -1 : open(path, O_RDWR | O_CLOEXEC);
	if (rc == 0 && w->fd < 0)
		rc = vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	return rc;
}

static void text_way_release(struct text_way *w)
{
	if (w->fd >= 0)
		close(w->fd);
	buf_release(&w->text);
	free(w->at);
}

static int text_way_ask(struct text_way *w, double *us, struct vx_err *err)
{
	static char answer[ANSWER_BYTES];

	for (size_t i = 0; i < w->n; i++) {
		uint64_t t = clock_mono_ns();
		size_t n = w->at[i + 1] - w->at[i];
		if (write(w->fd, w->text.data + w->at[i], n) != (ssize_t)n ||
			read(w->fd, answer, sizeof answer) <= 0)
			return vx_err_set(err, -errno, "a question by text: %s", strerror(errno));
		us[i] = (double)(clock_mono_ns() - t) / 1e3;
	}
	return 0;
}

struct way_rounds {
	double p50[ROUNDS_MAX], p95[ROUNDS_MAX], p99[ROUNDS_MAX], mean[ROUNDS_MAX];
};

static void note_round(struct way_rounds *w, unsigned r, double *us, size_t n)
{
	struct latency l;

	latency_of(us, n, &l);
	w->p50[r] = l.p50;
	w->p95[r] = l.p95;
	w->p99[r] = l.p99;
	w->mean[r] = l.mean;
}

static int measure_ways(struct loads *l, struct engine *const *e, unsigned n, struct daemon *d,
	const struct set *s, unsigned rounds, struct vx_err *err)
{
	struct text_way text[2] = {{.fd = -1}, {.fd = -1}};
	struct floor empty = {.fd = -1, .pid = -1};
	struct way_rounds *w = calloc(WAYS_MAX, sizeof *w);
	double *us = calloc(VX_MAX(s->nq, (size_t)TEXT_QUESTIONS), sizeof *us), all;
	unsigned texts = d->mounted ? 2 : 0;
	int rc = w && us ? 0 : -ENOMEM;

	l->n_ways = 0;
	for (unsigned i = 0; i < n; i++)
		snprintf(l->ways[l->n_ways++].name, sizeof l->ways[0].name, "%s%s", e[i]->name,
			strcmp(e[i]->name, "mount") == 0 ? ", raw to ids" : "");
	if (texts) {
		snprintf(l->ways[l->n_ways++].name, sizeof l->ways[0].name, "mount, text to TSV");
		snprintf(l->ways[l->n_ways++].name, sizeof l->ways[0].name, "mount, JSON to JSON");
		snprintf(l->ways[l->n_ways++].name, sizeof l->ways[0].name,
			"a mount that does nothing");
		if (rc == 0)
			rc = daemon_set_ef(d, 0, err);
		if (rc == 0)
			rc = floor_open(&empty, err);
		if (rc == 0)
			rc = text_way_init(&text[0], d, s, "query", AS_ARRAY, err);
		if (rc == 0)
			rc = text_way_init(&text[1], d, s, "query.json", AS_OBJECT, err);
	}
	for (unsigned r = 0; r < rounds && rc == 0; r++) {
		for (unsigned i = 0; i < n && rc == 0; i++) {
			rc = e[i]->ops->search(e[i], 0, us, &all, err);
			note_round(&w[i], r, us, s->nq);
		}
		for (unsigned i = 0; i < texts && rc == 0; i++) {
			rc = text_way_ask(&text[i], us, err);
			note_round(&w[n + i], r, us, text[i].n);
		}
		if (texts && rc == 0) {
			rc = floor_ask(&empty, s, us, err);
			note_round(&w[n + texts], r, us, s->nq);
		}
	}
	for (unsigned i = 0; i < l->n_ways && rc == 0; i++)
		l->ways[i].l = (struct latency){.there = true,
			.p50 = median_of(w[i].p50, rounds),
			.p95 = median_of(w[i].p95, rounds),
			.p99 = median_of(w[i].p99, rounds),
			.mean = median_of(w[i].mean, rounds),
			.count = s->nq * rounds};
	text_way_release(&text[0]);
	text_way_release(&text[1]);
	if (texts)
		floor_close(&empty);
	free(us);
	free(w);
	return rc;
}

/* --- many clients ------------------------------------------------------------------------------ */
struct client_loop {
	pthread_t thread;
	const struct daemon *d;
	const struct set *s;
	unsigned number;
	uint32_t batch;          /* questions per request */
	unsigned ef;             /* of questions; 0: the default */
	unsigned search_percent; /* 100: questions alone */
	uint64_t until_ns;

	uint64_t questions, puts;
	double cpu_s;
	double *search_us, *put_us; /* SAMPLES_MAX; NULL: not kept */
	size_t n_search, n_put;
	int rc;
	struct vx_err err;
};

static double thread_cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A record that is new, near one that is there. */
static int put_one(struct client_loop *w, struct client_put *put, struct rng *rng, float *vec)
{
	char id[40];
	const float *from = w->s->base + rng_u64(rng) % w->s->n * w->s->dim;

	for (uint32_t i = 0; i < w->s->dim; i++)
		vec[i] = from[i] * (0.98F + 0.04F * rng_unit(rng));
	struct vx_record rec = {.id = id,
		.id_len = (size_t)snprintf(id, sizeof id, "m%u-%u-%llu", w->search_percent,
			w->number, (unsigned long long)w->puts),
		.vec = vec,
		.dim = w->s->dim};
	int rc = client_put_add(put, &rec, &w->err);
	return rc ? rc : client_put_flush(put, &w->err);
}

static int loop_body(struct client_loop *w, struct client *asks, struct client_put *put, float *vec)
{
	struct rng rng = {.s = 77 + w->number};
	struct client_answers a;
	size_t at = w->number * w->s->nq / 8;

	while (clock_mono_ns() < w->until_ns) {
		uint64_t t = clock_mono_ns();
		bool ask = !put || rng_u64(&rng) % 100 < w->search_percent;
		int rc;

		if (ask) {
			at = at + w->batch > w->s->nq ? 0 : at;
			rc = daemon_ask(asks, w->d, w->s, at, w->batch, w->ef, &a, &w->err);
			at += w->batch;
			w->questions += w->batch;
		} else {
			rc = put_one(w, put, &rng, vec);
			w->puts++;
		}
		if (rc)
			return rc;
		double us = (double)(clock_mono_ns() - t) / 1e3;
		if (ask && w->search_us && w->n_search < SAMPLES_MAX)
			w->search_us[w->n_search++] = us;
		if (!ask && w->put_us && w->n_put < SAMPLES_MAX)
			w->put_us[w->n_put++] = us;
	}
	return 0;
}

static void *loop_thread(void *arg)
{
	struct client_loop *w = arg;
	struct client_put_opts o = {.window = 1};
	struct client *asks = NULL, *puts = NULL;
	struct client_put *put = NULL;
	float *vec = calloc(w->s->dim, sizeof *vec);

	w->rc = vec ? client_open(&w->d->place, "vec-bench", &asks, &w->err) : -ENOMEM;
	/* Puts go over a connection of their own, as a stream of batches does. */
	if (w->rc == 0 && w->search_percent < 100) {
		w->rc = client_open(&w->d->place, "vec-bench", &puts, &w->err);
		if (w->rc == 0)
			w->rc = client_put_begin(puts, w->d->coll, &o, &put, &w->err);
	}
	if (w->rc == 0)
		w->rc = loop_body(w, asks, put, vec);
	client_put_end(put);
	client_close(puts);
	client_close(asks);
	free(vec);
	w->cpu_s = thread_cpu_s();
	return NULL;
}

/* Runs 'n' loops; sums into w[0], samples into one array. */
static int run_loops(struct client_loop *w, unsigned n, double *ret_s, struct vx_err *err)
{
	uint64_t t0 = clock_mono_ns();
	unsigned started = 0;
	int rc = 0;

	while (started < n &&
		pthread_create(&w[started].thread, NULL, loop_thread, &w[started]) == 0)
		started++;
	for (unsigned i = 0; i < started; i++) {
		pthread_join(w[i].thread, NULL);
		if (w[i].rc && rc == 0) {
			rc = w[i].rc;
			*err = w[i].err;
		}
	}
	*ret_s = (double)(clock_mono_ns() - t0) / 1e9;
	return started < n ? -EAGAIN : rc;
}

static int measure_batches(struct loads *l, struct engine *library, struct daemon *d,
	const struct set *s, unsigned rounds, double seconds, struct vx_err *err)
{
	/* The same effort for both: what each finds necessary for the default recall differs a little. */
	unsigned ef = library ? library->ef_default : 0;
	double lib[ROUNDS_MAX], batch[ROUNDS_MAX], cpu[ROUNDS_MAX], took;
	int rc = 0;

	l->batch_size = (unsigned)VX_MIN(s->nq, (size_t)BATCH_QUESTIONS);
	for (unsigned r = 0; r < rounds && rc == 0; r++) {
		struct client_loop w[2] = {{.number = 0}, {.number = 1}};
		for (unsigned i = 0; i < 2; i++)
			w[i] = (struct client_loop){.d = d,
				.s = s,
				.number = i,
				.batch = l->batch_size,
				.ef = ef,
				.search_percent = 100,
				.until_ns = clock_mono_ns() + (uint64_t)(seconds * 1e9)};
		rc = run_loops(w, 2, &took, err);
		batch[r] = (double)(w[0].questions + w[1].questions) / took;
		cpu[r] = (w[0].cpu_s + w[1].cpu_s) / took;
		lib[r] = 0;
		if (rc == 0 && library)
			rc = engine_parallel(library, ef, l->cores, seconds, &lib[r], err);
	}
	if (rc)
		return rc;
	l->batch_qps = median_of(batch, rounds);
	l->batch_client_cpu = median_of(cpu, rounds);
	l->library_qps = median_of(lib, rounds);
	return 0;
}

static int measure_mix(struct loads *l, struct mix *m, const struct daemon *d, const struct set *s,
	double seconds, struct vx_err *err)
{
	unsigned n = VX_MIN(l->cores, THREADS_MAX);
	struct client_loop *w = calloc(n, sizeof *w);
	double *us = calloc((size_t)n * 2 * SAMPLES_MAX, sizeof *us); /* touched as it fills */
	int rc = w && us ? 0 : -ENOMEM;

	for (unsigned i = 0; rc == 0 && i < n; i++)
		w[i] = (struct client_loop){.d = d,
			.s = s,
			.number = i,
			.batch = 1,
			.search_percent = m->search_percent,
			.search_us = us + (size_t)i * SAMPLES_MAX,
			.put_us = us + (size_t)(n + i) * SAMPLES_MAX,
			.until_ns = clock_mono_ns() + (uint64_t)(seconds * 1e9)};
	if (rc == 0)
		rc = run_loops(w, n, &m->seconds, err);
	if (rc == 0) {
		size_t ns = w[0].n_search, np = 0;
		/* The searches lie before all puts, so gathering them overwrites none. */
		for (unsigned i = 1; i < n; i++) {
			memmove(us + ns, w[i].search_us, w[i].n_search * sizeof *us);
			ns += w[i].n_search;
		}
		latency_of(us, ns, &m->search);
		for (unsigned i = 0; i < n; i++) {
			memmove(us + np, w[i].put_us, w[i].n_put * sizeof *us);
			np += w[i].n_put;
		}
		latency_of(us, np, &m->put);
		m->ops_s = (double)(ns + np) / m->seconds;
	}
	free(us);
	free(w);
	return rc;
}

/* --- questions while records come in --------------------------------------------------------- */
static int record_count(struct daemon *d, uint64_t *ret, struct vx_err *err)
{
	const Vecfs__CollectionInfo *info;
	int rc = client_describe(d->c, d->coll, &info, err);

	if (rc == 0)
		*ret = info->count;
	return rc;
}

static int ask_for(const struct daemon *d, const struct set *s, double seconds, struct latency *ret,
	struct vx_err *err)
{
	double *us = calloc(SAMPLES_MAX, sizeof *us), took;
	struct client_loop w = {.d = d,
		.s = s,
		.batch = 1,
		.search_percent = 100,
		.search_us = us,
		.until_ns = clock_mono_ns() + (uint64_t)(seconds * 1e9)};

	int rc = us ? run_loops(&w, 1, &took, err) : -ENOMEM;
	if (rc == 0)
		latency_of(us, w.n_search, ret);
	free(us);
	return rc;
}

static int measure_during(
	struct loads *l, struct daemon *d, const struct set *s, double seconds, struct vx_err *err)
{
	char program[1100], fbin[700];
	char *argv[] = {program, (char *)(uintptr_t) "-q", (char *)(uintptr_t) "--id-prefix",
		(char *)(uintptr_t) "again-", d->coll, (char *)(uintptr_t)s->base_file, NULL};
	uint64_t before = 0, after = 0;
	int status;

	int rc = ask_for(d, s, seconds, &l->idle, err);
	if (rc == 0)
		rc = record_count(d, &before, err);
	if (rc)
		return rc;
	bool own = set_is_rows(s->base_file, NULL);
	if (!own) {
		rc = set_write_fbin(s, fbin, sizeof fbin, err);
		argv[5] = fbin;
	}
	if (rc || !bench_find_program("vec-put", program, sizeof program))
		return rc ? rc : vx_err_set(err, -ENOENT, "vec-put is not there");
	pid_t pid = daemon_run(d, argv);
	uint64_t t0 = clock_mono_ns();
	if (pid < 0)
		return vx_err_set(err, pid, "vec-put: %s", strerror(-pid));
	/* A small base is in before the time is up: then the rest of it is asked of an index that is
	 * still being built, which is part of the same story. */
	rc = ask_for(d, s, seconds, &l->during, err);
	double took = (double)(clock_mono_ns() - t0) / 1e9;
	if (rc == 0)
		rc = record_count(d, &after, err);
	if (waitpid(pid, &status, WNOHANG) == 0) {
		kill(pid, SIGTERM);
		waitpid(pid, &status, 0);
	}
	if (rc == 0)
		l->during_rate = (double)(after - before) / took;
	if (!own)
		(void)unlink(fbin);
	return rc;
}

int loads_measure(struct loads *l, struct engine *const *e, unsigned n, struct daemon *d,
	const struct set *s, unsigned cores, unsigned rounds, double seconds, struct vx_err *err)
{
	struct engine *ways[ENGINES_MAX], *library = NULL;
	unsigned n_ways = 0;

	memset(l, 0, sizeof *l);
	l->cores = cores;
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(e[i]->name, "library") == 0)
			library = e[i];
		if (e[i] == library || e[i]->daemon)
			ways[n_ways++] = e[i];
	}
	cli_progress("one question", 0, 4);
	int rc = measure_ways(l, ways, n_ways, d, s, rounds, err);
	cli_progress("batches", 1, 4);
	if (rc == 0)
		rc = measure_batches(l, library, d, s, rounds, VX_MIN(seconds, 1.0), err);
	for (unsigned i = 0; rc == 0 && i < MIXES; i++) {
		cli_progress("mixes", 2, 4);
		l->mixes[i].search_percent = mix_percent[i];
		rc = measure_mix(l, &l->mixes[i], d, s, seconds, err);
	}
	cli_progress("during ingest", 3, 4);
	if (rc == 0)
		rc = measure_during(l, d, s, seconds, err);
	cli_progress_end();
	return rc;
}
