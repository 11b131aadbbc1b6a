/* report.c - the table, the JSON and the last line. */
#include "bench.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "simd/simd.h"

#define MB 1e6

const struct engine *results_engine(const struct results *r, const char *name)
{
	for (unsigned i = 0; i < r->n_engines; i++) {
		if (strcmp(r->engines[i]->name, name) == 0)
			return r->engines[i];
	}
	return NULL;
}

uint64_t engine_bytes(const struct engine *e)
{
	return VX_MAX(e->rss_bytes, e->index_bytes);
}

static bool is_process(const struct engine *e)
{
	return !e->daemon;
}

static void print_level(const struct engine *e, const struct engine *base, double level)
{
	double s = curve_at(e, level), b = base ? curve_at(base, level) : 0;

	if (s <= 0)
		cli_outf(" %9s %6s", "-", "");
	else if (b <= 0 || e == base)
		cli_outf(" %9.0f %6s", 1 / s, "");
	else
		cli_outf(" %9.0f %5.2fx", 1 / s, b / s);
}

static void print_engines(const struct results *r)
{
	const struct engine *base = results_engine(r, "hnswlib");

	cli_outf("\n%-8s %8s %6s %8s %7s %6s | %4s %6s %8s |", "system", "build s", "", "CPU s",
		"MB", "", "ef", "recall", "QPS");
	for (unsigned l = 0; l < LEVELS; l++)
		cli_outf("  QPS @%-5.3g%5s", bench_levels[l], "");
	cli_outf("  best\n");
	for (unsigned i = 0; i < r->n_engines; i++) {
		const struct engine *e = r->engines[i];
		const struct point *d = &e->points[0], *best = curve_best(e);
		char x[3][16] = {"", "", ""};

		if (base && e != base && is_process(e)) {
			snprintf(x[0], sizeof x[0], "%.2fx", e->build_s / base->build_s);
			snprintf(x[2], sizeof x[2], "%.2fx", e->build_cpu_s / base->build_cpu_s);
			snprintf(x[1], sizeof x[1], "%.2fx",
				(double)engine_bytes(e) / (double)engine_bytes(base));
		}
		cli_outf("%-8s", e->name);
		if (is_process(e))
			cli_outf(" %8.2f %6s %8.2f %6s %7.1f %6s", e->build_s, x[0], e->build_cpu_s,
				x[2], (double)engine_bytes(e) / MB, x[1]);
		else
			cli_outf(" %8.2f %6s %8s %6s %7.1f %6s", e->build_s, "", "", "",
				(double)e->index_bytes / MB, "");
		if (e->ef_default)
			cli_outf(" | %4u", e->ef_default);
		else
			cli_outf(" | %4s", "auto");
		cli_outf(" %6.4f %8.0f |", d->recall, 1 / d->median);
		for (unsigned l = 0; l < LEVELS; l++)
			print_level(e, base, bench_levels[l]);
		if (best)
			cli_outf("  %.4f at ef %u, %.0f QPS", best->recall, best->ef,
				1 / best->median);
		cli_outf("\n");
	}
	cli_outf("(x: ratio to hnswlib, M 16, efConstruction 200. MB: anonymous memory the process "
		 "grew "
		 "by; the\n library's is index and codes, the full vectors stay in mapped files; a "
		 "daemon's is what its index says.\n build of socket and mount: vec-put, durable, "
		 "until "
		 "the index is ready)\n");
}

static void print_latency(const char *name, const struct latency *l)
{
	if (l->there)
		cli_outf("%-24s %9.1f %9.1f %9.1f\n", name, l->p50, l->p95, l->p99);
}

static void print_daemon(const struct results *r)
{
	const struct daemon *d = r->daemon;
	double n = (double)r->set->n;

	cli_outf("\ningest, durable, until the index is ready\n");
	cli_outf("%-24s %9.2f s %9.0f records/s", "vec-put", d->ready_s, n / d->ready_s);
	if (d->bare_s > 0)
		cli_outf("  %.2fx the bare build", d->ready_s / d->bare_s);
	cli_outf("  (acknowledged after %.2f s)\n", d->put_s);
	if (d->jsonl_n) {
		cli_outf("%-24s %9.2f s %9.0f records/s", "vec-put, JSON Lines", d->jsonl_ready_s,
			(double)d->jsonl_n / d->jsonl_ready_s);
		if (d->bare_s > 0 && d->jsonl_n == r->set->n)
			cli_outf("  %.2fx the bare build", d->jsonl_ready_s / d->bare_s);
		cli_outf("  (%zu records)\n", d->jsonl_n);
	}
	if (d->rss)
		cli_outf("%-24s anonymous %.1f MB, mapped files %.1f MB, peak %.1f MB; its index "
			 "%.1f "
			 "MB\n",
			"daemon after it", (double)d->rss_anon / MB, (double)d->rss_file / MB,
			(double)d->rss_peak / MB, (double)d->index_bytes / MB);
	if (d->why_no_mount[0])
		cli_outf("mount left out: %s\n", d->why_no_mount);
}

static void print_loads(const struct loads *l)
{
	cli_outf("\n%-24s %9s %9s %9s  (us, default settings)\n", "one question", "p50", "p95",
		"p99");
	for (unsigned i = 0; i < l->n_ways; i++)
		print_latency(l->ways[i].name, &l->ways[i].l);
	cli_outf("\nbatches of %u over the socket: %.0f QPS", l->batch_size, l->batch_qps);
	if (l->library_qps > 0)
		cli_outf(", the library on %u cores %.0f: %.2fx", l->cores, l->library_qps,
			l->batch_qps / l->library_qps);
	cli_outf(" (client's own CPU: %.2f cores)\n", l->batch_client_cpu);
	cli_outf("\n%-24s %9s %9s %9s  (us, %u connections)\n", "mixed load", "p50", "p95", "p99",
		l->cores);
	for (unsigned i = 0; i < MIXES; i++) {
		const struct mix *m = &l->mixes[i];
		char name[48];
		snprintf(name, sizeof name, "%u/%u searches", m->search_percent,
			100 - m->search_percent);
		print_latency(name, &m->search);
		print_latency("      puts, durable", &m->put);
		cli_outf("      %.0f operations/s\n", m->ops_s);
	}
	cli_outf("\n%-24s %9s %9s %9s  (us, one connection)\n", "questions beside ingest", "p50",
		"p95", "p99");
	print_latency("idle", &l->idle);
	print_latency("vec-put at full speed", &l->during);
	if (l->idle.there && l->during.there)
		cli_outf("p99 %.2fx idle, while %.0f records/s came in\n",
			l->during.p99 / l->idle.p99, l->during_rate);
}

static void print_growth(const struct growth *g)
{
	if (!g->n)
		return;
	cli_outf("\n%-10s %-8s %9s %9s %11s %9s %13s %8s\n", "growth: N", "system", "build s", "MB",
		"us at .95", "QPS .95", "distances .95", "recall");
	for (unsigned i = 0; i < g->n; i++) {
		for (unsigned j = 0; j < g->at[i].n_engines; j++) {
			double s = g->at[i].e[j].at95_s;
			cli_outf("%-10zu %-8s %9.2f %9.1f", g->at[i].rows, g->at[i].e[j].name,
				g->at[i].e[j].build_s, (double)g->at[i].e[j].bytes / MB);
			if (s > 0)
				cli_outf(" %11.1f %9.0f", s * 1e6, 1 / s);
			else
				cli_outf(" %11s %9s", "-", "-");
			if (g->at[i].e[j].at95_distances > 0)
				cli_outf(" %13.0f", g->at[i].e[j].at95_distances);
			else
				cli_outf(" %13s", "-");
			cli_outf(" %8.4f\n", g->at[i].e[j].recall_default);
		}
	}
}

void report_table(const struct results *r)
{
	const struct set *s = r->set;

	cli_outf("%s: %zu x %u, %s, %zu questions, %.0f MB as float32; kernels %s\n", s->name, s->n,
		s->dim, vx_metric_name(s->metric), s->nq, (double)s->base_bytes / MB,
		simd_active()->name);
	cli_outf("%u rounds, %u build threads; library and peers: one thread on core %u; ",
		r->rounds, r->threads, r->pinned_core);
	if (s->truth_s > 0)
		cli_outf("exact neighbours computed in %.1f s\n", s->truth_s);
	else
		cli_outf("exact neighbours from a file, a sample verified\n");
	print_engines(r);
	if (r->daemon)
		print_daemon(r);
	if (r->have_loads)
		print_loads(&r->loads);
	print_growth(&r->growth);
	cli_flush();
}

/* --- the last line --------------------------------------------------------------------------- */
static void ratio_at(
	const struct engine *e, const struct engine *base, double level, char *ret, size_t size)
{
	double s = curve_at(e, level), b = curve_at(base, level);

	if (b <= 0) {
		const struct point *best = curve_best(base);
		b = best ? best->median : 0;
		cli_outf("hnswlib does not reach recall %.3g; its best, %.4f, stands for it\n",
			level, best ? best->recall : 0.0);
	}
	if (s <= 0 || b <= 0)
		snprintf(ret, size, "-");
	else
		snprintf(ret, size, "%.2f", b / s);
}

bool report_last_line(const struct results *r)
{
	const struct engine *e = results_engine(r, "library");
	const struct engine *base = results_engine(r, "hnswlib");
	char at[3][16];

	if (!e || !base)
		return false;
	cli_outf("\n");
	for (unsigned l = 0; l < 3; l++)
		ratio_at(e, base, bench_levels[l], at[l], sizeof at[l]);
	cli_outf("by CPU time:");
	for (unsigned l = 0; l < 3; l++) {
		double s = curve_cpu_at(e, bench_levels[l]),
		       b = curve_cpu_at(base, bench_levels[l]);
		if (s > 0 && b > 0)
			cli_outf(" r%.2f=%.2f", bench_levels[l], b / s);
	}
	cli_outf(" build=%.2f\n", e->build_cpu_s / base->build_cpu_s);
	cli_outf("vs hnswlib: r0.90=%s r0.95=%s r0.99=%s build=%.2f ram=%.2f\n", at[0], at[1],
		at[2], e->build_s / base->build_s,
		(double)engine_bytes(e) / (double)VX_MAX(engine_bytes(base), (uint64_t)1));
	cli_flush();
	return true;
}

/* --- JSON ------------------------------------------------------------------------------------- */
static json_t *latency_json(const struct latency *l)
{
	if (!l->there)
		return json_null();
	return json_pack("{s:f,s:f,s:f,s:f,s:I}", "p50_us", l->p50, "p95_us", l->p95, "p99_us",
		l->p99, "mean_us", l->mean, "count", (json_int_t)l->count);
}

static json_t *engine_json(const struct engine *e, const struct engine *base)
{
	json_t *points = json_array(), *levels = json_object();

	for (unsigned i = 0; i < e->npoints; i++) {
		const struct point *p = &e->points[i];
		json_array_append_new(
			points, json_pack("{s:i,s:f,s:f,s:f,s:f,s:i}", "ef", (int)p->ef, "recall",
					p->recall, "qps", 1 / p->median, "us", p->median * 1e6,
					"cpu_us", p->cpu_median * 1e6, "rounds", (int)p->rounds));
	}
	for (unsigned l = 0; l < LEVELS; l++) {
		double s = curve_at(e, bench_levels[l]),
		       b = base ? curve_at(base, bench_levels[l]) : 0;
		char name[16];
		snprintf(name, sizeof name, "%.3f", bench_levels[l]);
		json_object_set_new(levels, name,
			s <= 0 ? json_null()
			       : json_pack("{s:f,s:f,s:o}", "qps", 1 / s, "us", s * 1e6,
					 "vs_hnswlib", b > 0 ? json_real(b / s) : json_null()));
	}
	return json_pack("{s:s,s:f,s:f,s:i,s:I,s:I,s:i,s:o,s:o}", "name", e->name, "build_s",
		e->build_s, "build_cpu_s", e->build_cpu_s, "build_threads", (int)e->build_threads,
		"rss_growth_bytes", (json_int_t)e->rss_bytes, "index_bytes",
		(json_int_t)e->index_bytes, "ef_default", (int)e->ef_default, "points", points,
		"at_recall", levels);
}

static json_t *daemon_json(const struct daemon *d, size_t n)
{
	return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:s}", "bare_build_s",
		d->bare_s, "put_s", d->put_s, "ready_s", d->ready_s, "records_per_s",
		(double)n / d->ready_s, "jsonl_put_s", d->jsonl_put_s, "jsonl_ready_s",
		d->jsonl_ready_s, "jsonl_records", (json_int_t)d->jsonl_n, "rss_bytes",
		(json_int_t)d->rss, "rss_anon_bytes", (json_int_t)d->rss_anon, "rss_file_bytes",
		(json_int_t)d->rss_file, "rss_peak_bytes", (json_int_t)d->rss_peak, "index_bytes",
		(json_int_t)d->index_bytes, "no_mount", d->why_no_mount);
}

static json_t *loads_json(const struct loads *l)
{
	json_t *ways = json_object(), *mixes = json_array();

	for (unsigned i = 0; i < l->n_ways; i++)
		json_object_set_new(ways, l->ways[i].name, latency_json(&l->ways[i].l));
	for (unsigned i = 0; i < MIXES; i++)
		json_array_append_new(mixes,
			json_pack("{s:i,s:f,s:o,s:o}", "search_percent",
				(int)l->mixes[i].search_percent, "operations_per_s",
				l->mixes[i].ops_s, "search", latency_json(&l->mixes[i].search),
				"put", latency_json(&l->mixes[i].put)));
	return json_pack("{s:o,s:{s:i,s:f,s:f,s:f,s:i},s:o,s:{s:o,s:o,s:f}}", "one_question", ways,
		"batches", "questions", (int)l->batch_size, "qps", l->batch_qps, "library_qps",
		l->library_qps, "client_cpu_cores", l->batch_client_cpu, "cores", (int)l->cores,
		"mixes", mixes, "during_ingest", "idle", latency_json(&l->idle), "ingest",
		latency_json(&l->during), "records_per_s", l->during_rate);
}

static json_t *growth_json(const struct growth *g)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < g->n; i++) {
		for (unsigned j = 0; j < g->at[i].n_engines; j++)
			json_array_append_new(
				a, json_pack("{s:I,s:s,s:f,s:f,s:f,s:f,s:f,s:I}", "rows",
					   (json_int_t)g->at[i].rows, "name", g->at[i].e[j].name,
					   "build_s", g->at[i].e[j].build_s, "us_at_0.95",
					   g->at[i].e[j].at95_s * 1e6, "distances_at_0.95",
					   g->at[i].e[j].at95_distances, "recall_default",
					   g->at[i].e[j].recall_default, "us_default",
					   g->at[i].e[j].default_s * 1e6, "bytes",
					   (json_int_t)g->at[i].e[j].bytes));
	}
	return a;
}

int report_json(const struct results *r, const char *file, struct vx_err *err)
{
	const struct engine *base = results_engine(r, "hnswlib");
	const struct set *s = r->set;
	json_t *systems = json_array();

	for (unsigned i = 0; i < r->n_engines; i++)
		json_array_append_new(systems, engine_json(r->engines[i], base));
	json_t *root = json_pack("{s:s,s:s,s:s,s:s,s:I,s:i,s:I,s:i,s:i,s:s,s:f,s:o}", "version",
		VECFS_VERSION, "base", s->base_file, "query", s->query_file, "metric",
		vx_metric_name(s->metric), "records", (json_int_t)s->n, "dim", (int)s->dim,
		"questions", (json_int_t)s->nq, "rounds", (int)r->rounds, "threads",
		(int)r->threads, "kernels", simd_active()->name, "truth_s", s->truth_s, "systems",
		systems);
	if (root && r->daemon)
		json_object_set_new(root, "daemon", daemon_json(r->daemon, s->n));
	if (root && r->have_loads)
		json_object_set_new(root, "loads", loads_json(&r->loads));
	if (root && r->growth.n)
		json_object_set_new(root, "growth", growth_json(&r->growth));
	int rc = root ? json_dump_file(root, file, JSON_INDENT(1) | JSON_REAL_PRECISION(7)) : -1;
	json_decref(root);
	return rc ? vx_err_set(err, -EIO, "%s: it cannot be written", file) : 0;
}
