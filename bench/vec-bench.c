/* vec-bench.c - measures vecfs on a user's own vectors, beside hnswlib and faiss if asked to.
 *
 *	1. read base and queries; know the exact neighbours, from a file or by exact search
 *	2. build: the library and the peers, each in its own process; a private daemon takes the base
 *	   through vec-put
 *	3. recall and time at rising ef, all systems in interleaved rounds (curve.c)
 *	4. one question every way, batches, mixes, questions beside ingest (loads.c)
 *	5. the same at smaller sizes, with --growth
 *	6. table, JSON, plots
 *
 * Two processes: this one makes the temporary directory, starts the other, which does all that, and
 * waits.  However that ends, by itself or by a signal, the daemon has stopped and nothing is left behind
 * when this one ends: it inherits the orphans (PR_SET_CHILD_SUBREAPER) and outlives them.
 *
 * --make writes a set instead (make.c).
 */
#include "bench.h"

#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli_client.h"
#include "index/codes.h"

#define GROWTH_FROM   10000u
#define GROWTH_ROUNDS 3u
#define JSONL_BYTES   (512u << 20) /* of float32: larger bases are not written out as text */

static const char *base_path, *query_path, *truth_path, *metric = "l2", *quant = "sq8", *format,
							*only, *daemon_at;
static const char *json_path, *plots_dir, *set_name, *cache_dir;
static const char *make_out, *query_out, *truth_out, *kind = "sift";
static uint32_t rounds = 5, threads, queries_max, make_dim;
static uint64_t make_n, seed = 1;
static double seconds = 3;
static bool peers, growth, loads = true, jsonl = true;

static const struct cli_opt opts[] = {
	{"base", 'b', CLI_STR, &base_path, "FILE", 0, 0, "vectors to search in"},
	{"query", 0, CLI_STR, &query_path, "FILE", 0, 0, "vectors to ask with"},
	{"truth", 0, CLI_STR, &truth_path, "FILE", 0, 0,
		"true neighbours, .ivecs (default: computed by exact search)"},
	{"format", 'F', CLI_STR, &format, "FORMAT", 0, 0, "of both files (default: by suffix)"},
	{"metric", 'm', CLI_STR, &metric, "METRIC", 0, 0, "l2 (default), cosine or ip"},
	{"quant", 0, CLI_STR, &quant, "KIND", 0, 0, "of vecfs: sq8 (default), sq4, sq1 or none"},
	{"queries", 'n', CLI_U32, &queries_max, "N", 1, QUERIES_MAX,
		"ask at most N of the queries"},
	{"name", 0, CLI_STR, &set_name, "NAME", 0, 0, "of the set, in tables and file names"},
	{"peers", 'p', CLI_FLAG, &peers, NULL, 0, 0, "measure hnswlib and faiss beside it"},
	{"only", 0, CLI_STR, &only, "SYSTEM,...", 0, 0,
		"of library, socket, mount, hnswlib, faiss"},
	{"daemon", 0, CLI_STR, &daemon_at, "PATH", 0, 0,
		"a running daemon, by its mount or its socket (default: one of its own)"},
	{"rounds", 'r', CLI_U32, &rounds, "N", 1, ROUNDS_MAX, "interleaved rounds (default 5)"},
	{"threads", 0, CLI_U32, &threads, "N", 1, THREADS_MAX,
		"that build, and connections of mixes (default: cores)"},
	{"seconds", 's', CLI_DOUBLE, &seconds, "S", 0, 0, "per mix and load (default 3)"},
	{"no-loads", 0, CLI_NOFLAG, &loads, NULL, 0, 0, "leave out latencies, batches and mixes"},
	{"no-jsonl", 0, CLI_NOFLAG, &jsonl, NULL, 0, 0, "leave out the ingest of JSON Lines"},
	{"growth", 0, CLI_FLAG, &growth, NULL, 0, 0,
		"measure library and hnswlib at 10,000 vectors and up, too"},
	{"json", 'j', CLI_STR, &json_path, "FILE", 0, 0, "write everything to FILE"},
	{"plots", 0, CLI_STR, &plots_dir, "DIR", 0, 0, "draw the curves into DIR (gnuplot)"},
	{"cache", 0, CLI_STR, &cache_dir, "DIR", 0, 0, "keep computed neighbours in DIR"},
	{"make", 0, CLI_U64, &make_n, "N", 1, VX_SLOTS_MAX, "write a set of N vectors instead"},
	{"kind", 0, CLI_STR, &kind, "KIND", 0, 0, "of the set: sift (default), embed, mnist"},
	{"dim", 0, CLI_U32, &make_dim, "D", 1, 65536, "of the set (default: the kind's)"},
	{"seed", 0, CLI_U64, &seed, "S", 0, UINT64_MAX, "of the set (default 1)"},
	{"output", 'o', CLI_STR, &make_out, "FILE", 0, 0, "the set: .bvecs, .fvecs, .fbin or .npy"},
	{"query-out", 0, CLI_STR, &query_out, "FILE", 0, 0, "its queries (--queries, 1000)"},
	{"truth-out", 0, CLI_STR, &truth_out, "FILE", 0, 0, "their true neighbours, .ivecs"},
};
static const struct cli_tool tool = {
	.name = "vec-bench",
	.args = "--base FILE --query FILE | --make N -o FILE --query-out FILE",
	.about = "Measure recall, speed, memory and ingest of vecfs on your own vectors",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
};

struct run {
	struct set set;
	struct engine engines[ENGINES_MAX];
	struct daemon daemon;
	struct results r;
	struct vx_err err;
};

/* --- which systems -------------------------------------------------------------------------- */
static bool listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; p && *p;) {
		size_t len = strcspn(p, ",");
		if (len == n && memcmp(p, name, n) == 0)
			return true;
		p += len + (p[len] == ',');
	}
	return false;
}

static bool wanted(const char *name)
{
	bool peer = strcmp(name, "hnswlib") == 0 || strcmp(name, "faiss") == 0;

	return only ? listed(only, name) : !peer || peers;
}

static void check_only(void)
{
	char word[16];

	for (const char *p = only; p && *p;) {
		size_t len = strcspn(p, ",");
		snprintf(word, sizeof word, "%.*s", (int)VX_MIN(len, sizeof word - 1), p);
		if (!listed("library,socket,mount,hnswlib,faiss", word))
			cli_usage("--only: '%s' is none of library, socket, mount, hnswlib, faiss",
				word);
		p += len + (p[len] == ',');
	}
}

static int no_peers(struct vx_err *err, const char *what)
{
	return vx_err_set(err, -ENOENT,
		"%s; it is built beside vec-bench where the headers are: install g++, "
		"libhnswlib-dev "
		"and libfaiss-dev ('scripts/deps.sh bench' in the source tree does) and run make",
		what);
}

/* Which peers this vec-bench-peers has; in 'ret' as "hnswlib,faiss". */
static int list_peers(char *ret, size_t size, struct vx_err *err)
{
	char program[1100], cmd[1200], line[64];
	size_t n = 0;

	ret[0] = 0;
	if (!bench_find_program("vec-bench-peers", program, sizeof program))
		return no_peers(err, "vec-bench-peers is not there");
	setenv("VECFS_BENCH_FILE", program, 1);
	snprintf(cmd, sizeof cmd, "exec \"$VECFS_BENCH_FILE\" list");
	FILE *f = popen(cmd, "re");
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		n += (size_t)snprintf(ret + n, size - n, "%s%s", n ? "," : "", line);
	}
	if (f)
		pclose(f);
	return ret[0] ? 0 : no_peers(err, "vec-bench-peers was built without hnswlib and faiss");
}

/* Its builds take a multiple of hnswlib's; beyond this nobody waits for them unasked. */
#define FAISS_MAX 500000u

/* --- the steps --------------------------------------------------------------------------------- */
static int build_processes(struct run *run)
{
	static const char *const names[] = {"library", "hnswlib", "faiss"};
	char have[64] = "";
	int rc = 0;

	if (wanted("hnswlib") || wanted("faiss"))
		rc = list_peers(have, sizeof have, &run->err);
	for (size_t i = 0; rc == 0 && i < VX_ARRAY_SIZE(names); i++) {
		struct engine *e = &run->engines[run->r.n_engines];

		if (!wanted(names[i]))
			continue;
		if (i > 0 && !listed(have, names[i])) {
			cli_error("%s is left out: vec-bench-peers was built without it", names[i]);
			continue;
		}
		if (!only && strcmp(names[i], "faiss") == 0 && run->set.n > FAISS_MAX) {
			cli_error("faiss is left out: building takes it long above %u vectors; "
				  "name it "
				  "by --only",
				FAISS_MAX);
			continue;
		}
		cli_progress(names[i], run->r.n_engines, 0);
		run->r.engines[run->r.n_engines++] = e;
		rc = engine_spawn(e, names[i], &run->set, &run->err);
		if (rc == 0)
			rc = engine_build(e, run->set.n, threads, &run->err);
	}
	return rc;
}

/* The library once more: what ingest is compared with was then measured on either side of it. */
static int build_again(struct run *run)
{
	for (unsigned i = 0; i < run->r.n_engines; i++) {
		struct engine *e = &run->engines[i], first = *e;
		if (strcmp(e->name, "library") != 0)
			continue;
		int rc = engine_build(e, run->set.n, threads, &run->err);
		run->daemon.bare_s = (first.build_s + e->build_s) / 2;
		e->build_s = first.build_s;
		e->build_cpu_s = first.build_cpu_s;
		return rc;
	}
	return 0;
}

static int start_daemon(struct run *run)
{
	struct daemon *d = &run->daemon;
	int rc = daemon_start(d, &run->set, daemon_at, wanted("mount"), &run->err);

	if (rc)
		return rc;
	run->r.daemon = d;
	cli_progress("ingest", 0, 0);
	rc = daemon_ingest(d, &run->set, format, &run->err);
	if (rc == 0 && jsonl && run->set.base_bytes <= JSONL_BYTES)
		rc = daemon_ingest_jsonl(d, &run->set, &run->err);
	if (rc == 0)
		rc = build_again(run);
	if (rc == 0 && wanted("socket")) {
		struct engine *e = &run->engines[run->r.n_engines];
		run->r.engines[run->r.n_engines++] = e;
		engine_socket_init(e, d, &run->set);
	}
	if (rc == 0 && d->mounted) {
		struct engine *e = &run->engines[run->r.n_engines];
		rc = engine_mount_init(e, d, &run->set, &run->err);
		run->r.engines[run->r.n_engines++] = e;
	}
	return rc;
}

/* One size of --growth, on copies of the engines, so that the figures of the whole set stay. */
static int grow_at(struct run *run, size_t n, struct growth_point *g)
{
	struct engine copies[ENGINES_MAX], *list[ENGINES_MAX];
	struct set s = run->set;
	int rc = 0;

	s.n = n;
	s.truth = NULL;
	s.truth_far = NULL;
	g->rows = n;
	g->n_engines = 0;
	if (n < run->set.n)
		rc = set_truth(&s, NULL, NULL, threads, &run->err);
	for (unsigned i = 0; i < run->r.n_engines && rc == 0; i++) {
		const char *name = run->r.engines[i]->name;
		struct engine *e = &copies[g->n_engines];
		if (strcmp(name, "library") != 0 && strcmp(name, "hnswlib") != 0)
			continue;
		*e = *run->r.engines[i];
		list[g->n_engines++] = e;
		if (n == run->set.n)
			continue;
		e->set = &s;
		rc = engine_build(e, n, threads, &run->err);
	}
	if (rc == 0 && n < run->set.n)
		rc = curve_measure(list, g->n_engines, VX_MIN(rounds, GROWTH_ROUNDS), &run->err);
	for (unsigned i = 0; i < g->n_engines && rc == 0; i++) {
		g->e[i].name = list[i]->name;
		g->e[i].build_s = list[i]->build_s;
		g->e[i].at95_s = curve_at(list[i], 0.95);
		g->e[i].at95_distances = curve_distances_at(list[i], 0.95);
		g->e[i].recall_default = list[i]->points[0].recall;
		g->e[i].default_s = list[i]->points[0].median;
		g->e[i].bytes = engine_bytes(list[i]);
	}
	free(s.truth);
	free(s.truth_far);
	return rc;
}

/* 10,000, 31,623, 100,000 ... and all. */
static int grow(struct run *run)
{
	struct growth *g = &run->r.growth;
	double n = GROWTH_FROM;
	int rc = 0;

	for (; rc == 0 && g->n + 1 < GROWTH_MAX && n < 0.8 * (double)run->set.n; n *= 3.16227766)
		rc = grow_at(run, (size_t)(n + 0.5), &g->at[g->n++]);
	if (rc == 0)
		rc = grow_at(run, run->set.n, &g->at[g->n++]);
	return rc;
}

/* The name in tables: the file's, without its directory, suffixes and ".base". */
static void name_set(struct set *s)
{
	static const char *const tails[] = {
		".zst", ".bvecs", ".fvecs", ".fbin", ".npy", ".jsonl", ".tsv", ".base"};
	const char *slash = strrchr(base_path, '/');

	snprintf(s->name, sizeof s->name, "%s",
		set_name ? set_name
		: slash  ? slash + 1
			 : base_path);
	for (size_t i = 0; !set_name && i < VX_ARRAY_SIZE(tails); i++) {
		size_t n = strlen(s->name), m = strlen(tails[i]);
		if (n > m && strcmp(s->name + n - m, tails[i]) == 0)
			s->name[n - m] = 0;
	}
	for (char *p = s->name; *p; p++) {
		if (*p == '/' || *p == '\'' || *p == '"' || *p == '\\')
			*p = '_';
	}
}

static int measure(struct run *run)
{
	struct set *s = &run->set;
	char cache[1200];

	int rc = set_load(s, base_path, query_path, format, queries_max, &run->err);
	if (rc)
		return rc;
	if (cache_dir)
		snprintf(cache, sizeof cache, "%s/%s-%zu-%zu-%s.ivecs", cache_dir, s->name, s->n,
			s->nq, vx_metric_name(s->metric));
	cli_progress("exact search", 0, 0);
	rc = set_truth(s, truth_path, cache_dir ? cache : NULL, threads, &run->err);
	if (rc == 0)
		rc = build_processes(run);
	if (rc == 0 && (wanted("socket") || wanted("mount")))
		rc = start_daemon(run);
	if (rc == 0)
		rc = curve_measure(run->r.engines, run->r.n_engines, rounds, &run->err);
	if (rc == 0 && loads && run->r.daemon) {
		run->r.have_loads = true;
		rc = loads_measure(&run->r.loads, run->r.engines, run->r.n_engines, &run->daemon, s,
			threads, rounds, seconds, &run->err);
	}
	if (rc == 0 && growth)
		rc = grow(run);
	cli_progress_end();
	if (rc)
		return rc;
	report_table(&run->r);
	if (json_path)
		rc = report_json(&run->r, json_path, &run->err);
	if (rc == 0 && plots_dir)
		rc = plot_all(&run->r, plots_dir, &run->err);
	if (rc == 0)
		report_last_line(&run->r);
	return rc;
}

/* The second process: everything but cleaning up. */
static int work(const char *dir, enum vx_metric m)
{
	struct run *run = calloc(1, sizeof *run);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (!run)
		return cli_fail(-ENOMEM, NULL);
	if (!threads)
		threads = (uint32_t)VX_MIN(VX_MAX(cores, 1L), (long)THREADS_MAX);
	run->set.metric = m;
	run->set.quant = quant;
	snprintf(run->set.dir, sizeof run->set.dir, "%s", dir);
	name_set(&run->set);
	run->r.set = &run->set;
	run->r.rounds = rounds;
	run->r.threads = threads;
	run->r.pinned_core = (unsigned)(cores - 1);
	int rc = measure(run);
	int code = rc ? cli_fail(rc, &run->err) : CLI_DONE;
	for (unsigned i = 0; i < run->r.n_engines; i++)
		engine_close(&run->engines[i]);
	daemon_stop(&run->daemon, false);
	set_release(&run->set);
	free(run);
	return cli_finish(code);
}

/* --- the first process --------------------------------------------------------------------------- */
static volatile sig_atomic_t worker;

static void on_signal(int sig)
{
	(void)sig;
	if (worker > 0)
		kill((pid_t)worker, SIGTERM);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

static void make_temp_dir(char *dir, size_t size)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, size, "%s/vecfs-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(dir)) {
		cli_error("%s: %s", dir, strerror(errno));
		exit(CLI_REFUSED);
	}
	if (strpbrk(dir, " \t\n")) {
		(void)rmdir(dir);
		cli_error("TMPDIR has white space in it: %s", dir);
		exit(CLI_REFUSED);
	}
}

static int guard(enum vx_metric m)
{
	struct sigaction sa = {.sa_handler = on_signal};
	char dir[500], mnt[560];
	int status, code = CLI_REFUSED;
	pid_t pid;

	make_temp_dir(dir, sizeof dir);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN); /* a closed terminal or 'head' must not leave files behind */
	pid_t first = fork();
	if (first == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		signal(SIGPIPE, SIG_DFL);
		exit(work(dir, m));
	}
	worker = first;
	/* Until the last of them has gone: the daemon stops in order when its starter dies. */
	while ((pid = wait(&status)) > 0 || errno == EINTR) {
		if (pid != first)
			continue;
		worker = 0;
		if (WIFEXITED(status))
			code = WEXITSTATUS(status);
		else
			cli_error("stopped by signal %d", WTERMSIG(status));
	}
	snprintf(mnt, sizeof mnt, "%s/daemon/mnt", dir);
	(void)umount2(mnt, MNT_DETACH);
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return code;
}

static int make(void)
{
	struct vx_err err = VX_ERR_INIT;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct make_opts o = {.n = make_n,
		.queries = queries_max ? queries_max : 1000,
		.dim = make_dim,
		.kind = kind,
		.seed = seed,
		.base = make_out,
		.query = query_out,
		.truth = truth_out,
		.threads = threads ? threads : (unsigned)VX_MIN(VX_MAX(cores, 1L), 64L)};

	if (!make_out || !query_out)
		cli_usage("--make needs -o and --query-out");
	int rc = make_set(&o, &err);
	return cli_finish(rc ? cli_fail(rc, &err) : CLI_DONE);
}

int main(int argc, char **argv)
{
	enum vx_metric m;
	int first = cli_parse(&tool, argc, argv);

	if (first < argc)
		cli_usage("unexpected '%s'", argv[first]);
	if (make_n)
		return make();
	if (!base_path || !query_path)
		cli_usage("--base and --query are needed");
	if (vx_metric_parse(metric, &m))
		cli_usage("--metric: '%s' is none of cosine, l2, ip", metric);
	if (quant_find(quant) < 0)
		cli_usage("--quant: '%s' is none of sq8, sq4, sq1, none", quant);
	if (!(seconds > 0) || seconds > 3600)
		cli_usage("--seconds: more than 0 and at most 3600");
	cli_check_format("-F", format);
	check_only();
	return guard(m);
}
