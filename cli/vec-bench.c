/* vec-bench.c - measures a running daemon on a data set, the way a user meets it: over the socket.
 *
 *	1. make a collection of its own
 *	2. put the base vectors (durable: every batch is acknowledged after its commit)
 *	3. wait until the index has them all
 *	4. per effort (ef): ask every query alone on one connection for latency and recall, then on
 *	   as many connections as asked for at once for throughput
 *	5. drop the collection
 *
 * Recall is measured against an .ivecs file of true neighbours, or against the daemon's own exact
 * search when there is none.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli_client.h"

#define EFS_MAX           16u
#define THREADS_MAX       64u
#define TRUTH_QUERIES_MAX 200u /* asked exactly when there is no file of truths */

static const char *base_path, *query_path, *truth_path, *metric = "l2", *efs = "", *quant = "";
static const char *name, *format;
static uint32_t k = 10, threads = 1, window, queries_max;
static double seconds = 2;
static bool keep;

static const struct cli_opt opts[] = {
	{"base", 'b', CLI_STR, &base_path, "FILE", 0, 0, "vectors to put"},
	{"query", 0, CLI_STR, &query_path, "FILE", 0, 0, "vectors to ask with"},
	{"truth", 0, CLI_STR, &truth_path, "FILE", 0, 0,
		"true neighbours, .ivecs (default: exact search of 200 queries)"},
	{"format", 'F', CLI_STR, &format, "FORMAT", 0, 0, "of both files (default: by suffix)"},
	{"metric", 'm', CLI_STR, &metric, "METRIC", 0, 0, "l2 (default), cosine or ip"},
	{"quant", 0, CLI_STR, &quant, "KIND", 0, 0, "sq8 (default) or none"},
	{"k", 'k', CLI_U32, &k, "N", 1, 1000, "neighbours per question (default 10)"},
	{"ef", 0, CLI_STR, &efs, "N,...", 0, 0, "efforts to measure (default: the collection's)"},
	{"queries", 'n', CLI_U32, &queries_max, "N", 1, 10000000, "ask at most N of the queries"},
	{"threads", 0, CLI_U32, &threads, "N", 1, THREADS_MAX,
		"connections asking at once for throughput (default 1)"},
	{"seconds", 's', CLI_DOUBLE, &seconds, "S", 0, 0,
		"measure throughput for S seconds (default 2)"},
	{"window", 0, CLI_U32, &window, "N", 1, 16, "batches under way (default 4)"},
	{"name", 0, CLI_STR, &name, "NAME", 0, 0, "of the collection (default bench-PID)"},
	{"keep", 0, CLI_FLAG, &keep, NULL, 0, 0, "do not drop the collection"},
};
static const struct cli_tool tool = {
	.name = "vec-bench",
	.args = "--base FILE --query FILE",
	.about = "Measure ingest, recall, latency and throughput of the running daemon",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON,
};

struct vectors {
	struct buf data; /* float32 */
	uint32_t dim;
	size_t n;
};

struct bench {
	struct client *c;
	struct client_place place;
	const char *coll;
	struct vectors queries;
	struct client_put *put;
	uint64_t base_n, base_bytes;
	uint32_t *truth; /* n_truth x k row numbers */
	size_t n_truth;
	double put_s, index_s;
	struct vx_err err;
};

/* --- reading ---------------------------------------------------------------------------- */
static int on_query(void *ctx, const struct vx_record *rec)
{
	struct bench *b = ctx;

	if (queries_max && b->queries.n >= queries_max)
		return 0;
	if (b->queries.n && rec->dim != b->queries.dim)
		return vx_err_set(&b->err, -EINVAL, "queries of different dimensions");
	b->queries.dim = rec->dim;
	b->queries.n++;
	return buf_append(&b->queries.data, rec->vec, rec->dim * sizeof(float));
}

static int on_base(void *ctx, const struct vx_record *rec)
{
	struct bench *b = ctx;

	b->base_n++;
	b->base_bytes += rec->dim * sizeof(float);
	return client_put_add(b->put, rec, &b->err);
}

static int read_file(struct bench *b, const char *file, codec_record_fn *on_record)
{
	struct codec_opts o = {.id_optional = true};
	struct codec_reader *r = NULL;
	struct cli_source src;
	const uint8_t *bytes;
	ssize_t n = 1;

	int rc = cli_source_open(&src, file, format, &b->err);
	if (rc)
		return rc;
	rc = src.format == CODEC_NONE ? vx_err_set(&b->err, -EINVAL, "it is empty")
				      : codec_reader_new(src.format, &o, on_record, b, &r);
	while (rc == 0 && (n = cli_source_read(&src, &bytes, &b->err)) > 0) {
		rc = codec_feed(r, bytes, (size_t)n, &b->err);
		cli_progress(file, src.done_bytes, src.size_bytes);
	}
	if (rc == 0)
		rc = n < 0 ? (int)n : codec_finish(r, &b->err);
	codec_reader_free(r);
	cli_source_close(&src);
	return rc;
}

/* Rows of int32: a count, then that many numbers. */
static int read_truth(struct bench *b)
{
	struct buf f = BUF_INIT;
	int fd, rc = cli_open(truth_path, &fd, &b->err);
	size_t at = 0, rows = 0;

	if (rc)
		return rc;
	rc = cli_read_at_least(fd, &f, SIZE_MAX);
	cli_close(fd);
	b->truth = rc ? NULL : calloc(b->queries.n, k * sizeof *b->truth);
	if (rc == 0 && !b->truth)
		rc = -ENOMEM;
	while (rc == 0 && rows < b->queries.n && f.len - at >= 4) {
		uint32_t n = get_le32(f.data + at);

		if (n < k || n > VX_K_MAX || (f.len - at - 4) / 4 < n) {
			rc = vx_err_set(&b->err, -EINVAL,
				"row %zu has not %u neighbours, or the file is cut", rows, k);
			break;
		}
		for (uint32_t i = 0; i < k; i++)
			b->truth[rows * k + i] = get_le32(f.data + at + 4 + 4 * i);
		at += 4 + 4 * (size_t)n;
		rows++;
	}
	b->n_truth = rows;
	buf_release(&f);
	return rc;
}

/* --- asking -------------------------------------------------------------------------------- */
static int ask_one(struct client *c, const struct bench *b, size_t i, uint32_t ef, bool exact,
	struct client_answers *ret, struct vx_err *err)
{
	Vecfs__QueryRequest m = VECFS__QUERY_REQUEST__INIT;

	m.collection = (char *)(uintptr_t)b->coll;
	m.n = 1;
	m.k = k;
	m.ef = ef;
	m.exact = exact;
	m.dim = b->queries.dim;
	m.vectors.len = (size_t)b->queries.dim * sizeof(float);
	m.vectors.data = b->queries.data.data + i * m.vectors.len;
	return client_query(c, &m, ret, err);
}

/* The row number that an id is. */
static uint32_t row_of(const struct vx_record *rec)
{
	uint64_t v = 0;

	for (size_t i = 0; i < rec->id_len && v <= UINT32_MAX; i++)
		v = v * 10 + (uint64_t)(rec->id[i] - '0');
	return (uint32_t)v;
}

static int exact_truth(struct bench *b)
{
	size_t n = VX_MIN(b->queries.n, (size_t)TRUTH_QUERIES_MAX);
	struct client_answers a;
	struct vx_record rec;

	b->truth = calloc(n, k * sizeof *b->truth);
	if (!b->truth)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int rc = ask_one(b->c, b, i, 0, true, &a, &b->err);
		if (rc)
			return rc;
		memset(b->truth + i * k, 0xff, k * sizeof *b->truth);
		for (uint32_t h = 0; h < k && rpc_rows_next(&a.hits, &rec); h++)
			b->truth[i * k + h] = row_of(&rec);
		cli_progress("exact search", i, n);
	}
	b->n_truth = n;
	return 0;
}

static uint32_t count_true(const struct bench *b, size_t i, struct client_answers *a)
{
	struct vx_record rec;
	uint32_t found = 0;

	while (rpc_rows_next(&a->hits, &rec)) {
		uint32_t row = row_of(&rec);

		for (uint32_t t = 0; t < k; t++)
			found += b->truth[i * k + t] == row;
	}
	return found;
}

struct figures {
	double recall, p50_us, p95_us, p99_us, qps;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static int latency(struct bench *b, uint32_t ef, struct figures *ret)
{
	size_t n = b->queries.n;
	double *us = calloc(n, sizeof *us);
	struct client_answers a;
	uint64_t found = 0;
	int rc = us ? 0 : -ENOMEM;

	/* Once around without the clock: caches as in a service that runs. */
	for (size_t i = 0; i < VX_MIN(n, (size_t)100) && rc == 0; i++)
		rc = ask_one(b->c, b, i, ef, false, &a, &b->err);
	for (size_t i = 0; i < n && rc == 0; i++) {
		uint64_t t = clock_mono_ns();

		rc = ask_one(b->c, b, i, ef, false, &a, &b->err);
		us[i] = (double)(clock_mono_ns() - t) / 1e3;
		if (rc == 0 && i < b->n_truth)
			found += count_true(b, i, &a);
		cli_progress("latency", i, n);
	}
	if (rc == 0) {
		qsort(us, n, sizeof *us, by_value);
		ret->p50_us = us[n / 2];
		ret->p95_us = us[n * 95 / 100];
		ret->p99_us = us[n * 99 / 100];
		ret->recall = b->n_truth ? (double)found / ((double)b->n_truth * k) : 0;
	}
	free(us);
	return rc;
}

struct worker {
	pthread_t thread;
	const struct bench *b;
	uint32_t ef;
	size_t from;
	uint64_t until_ns, done;
	int rc;
	struct vx_err err;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct client_answers a;
	struct client *c = NULL;

	w->rc = client_open(&w->b->place, "vec-bench", &c, &w->err);
	for (size_t i = w->from; w->rc == 0 && clock_mono_ns() < w->until_ns; i++) {
		w->rc = ask_one(c, w->b, i % w->b->queries.n, w->ef, false, &a, &w->err);
		w->done++;
	}
	client_close(c);
	return NULL;
}

static int throughput(struct bench *b, uint32_t ef, struct figures *ret)
{
	struct worker *ws = calloc(threads, sizeof *ws);
	uint64_t start = clock_mono_ns(), done = 0;
	int rc = ws ? 0 : -ENOMEM;
	uint32_t started = 0;

	for (; rc == 0 && started < threads; started++) {
		ws[started] = (struct worker){.b = b,
			.ef = ef,
			.from = started * b->queries.n / threads,
			.until_ns = start + (uint64_t)(seconds * 1e9)};
		rc = -pthread_create(&ws[started].thread, NULL, work, &ws[started]);
		if (rc)
			break;
	}
	for (uint32_t i = 0; i < started; i++) {
		pthread_join(ws[i].thread, NULL);
		done += ws[i].done;
		if (ws[i].rc && rc == 0) {
			rc = ws[i].rc;
			b->err = ws[i].err;
		}
	}
	ret->qps = (double)done / ((double)(clock_mono_ns() - start) / 1e9);
	free(ws);
	return rc;
}

/* --- the steps ------------------------------------------------------------------------------- */
static int make(struct bench *b)
{
	Vecfs__CreateRequest m = VECFS__CREATE_REQUEST__INIT;
	const Vecfs__Done *done;

	m.name = (char *)(uintptr_t)b->coll;
	m.metric = (char *)(uintptr_t)metric;
	m.quant = (char *)(uintptr_t)quant;
	return client_call(b->c, RPC_CREATE, &m.base, &vecfs__done__descriptor, &done, &b->err);
}

static void drop(struct bench *b)
{
	Vecfs__DropRequest m = VECFS__DROP_REQUEST__INIT;
	struct vx_err err = VX_ERR_INIT;
	const Vecfs__Done *done;

	m.name = (char *)(uintptr_t)b->coll;
	m.force = true;
	int rc = client_call(b->c, RPC_DROP, &m.base, &vecfs__done__descriptor, &done, &err);
	if (rc)
		cli_error("drop %s: %s", b->coll, vx_err_msg(&err, rc));
}

static int ingest(struct bench *b)
{
	struct client_put_opts o = {.window = window};
	uint64_t start = clock_mono_ns();
	int rc = client_put_begin(b->c, b->coll, &o, &b->put, &b->err);

	if (rc == 0)
		rc = read_file(b, base_path, on_base);
	if (rc == 0)
		rc = client_put_flush(b->put, &b->err);
	if (rc == 0 && client_put_sum(b->put)->refused)
		rc = vx_err_set(&b->err, -EINVAL, "%" PRIu64 " vectors were refused",
			client_put_sum(b->put)->refused);
	client_put_end(b->put);
	b->put_s = (double)(clock_mono_ns() - start) / 1e9;
	return rc;
}

static int index_wait(struct bench *b, const Vecfs__IndexAnswer **ret)
{
	Vecfs__IndexRequest m = VECFS__INDEX_REQUEST__INIT;
	uint64_t start = clock_mono_ns();

	m.collection = (char *)(uintptr_t)b->coll;
	m.op = VECFS__INDEX_REQUEST__OP__WAIT;
	int rc = client_call(
		b->c, RPC_INDEX, &m.base, &vecfs__index_answer__descriptor, ret, &b->err);
	b->index_s = (double)(clock_mono_ns() - start) / 1e9;
	return rc;
}

static void print_ingest(const struct bench *b, uint64_t memory)
{
	double mib = (double)b->base_bytes / (1 << 20);

	if (cli.json)
		cli_outf("{\"records\":%" PRIu64
			 ",\"dim\":%u,\"metric\":\"%s\",\"put_seconds\":%.3f,"
			 "\"put_per_second\":%.0f,\"index_wait_seconds\":%.3f,\"index_memory_"
			 "bytes\":%" PRIu64 "}\n",
			b->base_n, b->queries.dim, metric, b->put_s, (double)b->base_n / b->put_s,
			b->index_s, memory);
	else
		cli_outf("records %" PRIu64 " x %u %s (%.0f MiB)\n"
			 "put     %.2f s, %.0f records/s, durable\n"
			 "index   ready %.2f s later, %.0f MiB of memory\n\n"
			 "      ef  recall@%-4u p50 us   p95 us   p99 us    QPS on %u\n",
			b->base_n, b->queries.dim, metric, mib, b->put_s,
			(double)b->base_n / b->put_s, b->index_s, (double)memory / (1 << 20), k,
			threads);
	cli_flush();
}

static void print_figures(uint32_t ef, const struct figures *f)
{
	char ef_text[16] = "default";

	if (ef)
		snprintf(ef_text, sizeof ef_text, "%u", ef);
	if (cli.json)
		cli_outf("{\"ef\":%u,\"k\":%u,\"recall\":%.4f,\"p50_us\":%.1f,\"p95_us\":%.1f,"
			 "\"p99_us\":%.1f,\"threads\":%u,\"qps\":%.0f}\n",
			ef, k, f->recall, f->p50_us, f->p95_us, f->p99_us, threads, f->qps);
	else
		cli_outf("%8s  %9.4f %8.1f %8.1f %8.1f %11.0f\n", ef_text, f->recall, f->p50_us,
			f->p95_us, f->p99_us, f->qps);
	cli_flush();
}

static int measure(struct bench *b)
{
	const Vecfs__IndexAnswer *info;
	uint32_t list[EFS_MAX] = {0};
	size_t n = 0;

	for (char *p = (char *)(uintptr_t)efs; *p && n < EFS_MAX; p += *p == ',') {
		list[n++] = (uint32_t)strtoul(p, &p, 10);
		if ((*p && *p != ',') || list[n - 1] == 0)
			cli_usage("--ef: '%s' is no list of numbers", efs);
	}
	int rc = read_file(b, query_path, on_query);
	if (rc == 0 && !b->queries.n)
		rc = vx_err_set(&b->err, -EINVAL, "there are no queries in %s", query_path);
	if (rc == 0 && truth_path)
		rc = read_truth(b);
	if (rc)
		return rc;
	rc = make(b);
	if (rc)
		return rc;
	rc = ingest(b);
	if (rc == 0)
		rc = index_wait(b, &info);
	if (rc == 0)
		print_ingest(b, info->memory_bytes);
	if (rc == 0 && !truth_path)
		rc = exact_truth(b);
	for (size_t i = 0; i < VX_MAX(n, (size_t)1) && rc == 0; i++) {
		struct figures f = {0};

		rc = latency(b, list[i], &f);
		if (rc == 0)
			rc = throughput(b, list[i], &f);
		if (rc == 0)
			print_figures(list[i], &f);
	}
	if (!keep)
		drop(b);
	return rc;
}

int main(int argc, char **argv)
{
	struct bench b = {0};
	char own[32];
	enum vx_metric m;
	int first = cli_parse(&tool, argc, argv);

	if (first < argc)
		cli_usage("unexpected '%s'", argv[first]);
	if (!base_path || !query_path)
		cli_usage("--base and --query are needed");
	if (vx_metric_parse(metric, &m))
		cli_usage("--metric: '%s' is none of cosine, l2, ip", metric);
	cli_check_format("-F", format);
	snprintf(own, sizeof own, "bench-%d", (int)getpid());
	b.c = cli_connect(name ? name : own, &b.place);
	b.coll = b.place.name;
	int rc = measure(&b);
	int code = rc ? cli_fail(rc, &b.err) : CLI_DONE;
	free(b.truth);
	buf_release(&b.queries.data);
	client_close(b.c);
	client_place_release(&b.place);
	return cli_finish(code);
}
