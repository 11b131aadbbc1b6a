/* engine.c - a system under measurement as a process of its own.
 *
 * Each engine is alone in its process, so that the growth of that process is its memory.  It is
 * told what to do by lines on its standard input and answers each with one line:
 *
 *	load DIR N NQ DIM METRIC     ok                   maps DIR/base.f32, query.f32, answers, times
 *	build N THREADS              ok WALL CPU RSS OWN EF   seconds, bytes grown, bytes by its own
 *	                                                  account (0: it has none), default ef
 *	search EF EACH               ok WALL CPU          all questions by one thread pinned to the last
 *	                                                  core; rows to 'answers'; EACH 1: times, too
 *	parallel EF THREADS SECONDS  ok QPS
 *	quit
 *
 * or "error REASON".  The library is a fork of this program (engine_library.c); the peers are vec-bench-peers
 * (peers.cc), because they are C++ and may not be there.
 */
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048u

bool bench_find_program(const char *name, char *ret, size_t size)
{
	static const char *const places[] = {"", "../libexec/vecfs/", "../sbin/"};
	char self[1024];
	const char *path = getenv("PATH");
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n > 0) {
		self[n] = 0;
		char *slash = strrchr(self, '/');
		slash[1] = 0;
		for (size_t i = 0; i < VX_ARRAY_SIZE(places); i++) {
			if (snprintf(ret, size, "%s%s%s", self, places[i], name) < (int)size &&
				access(ret, X_OK) == 0)
				return true;
		}
	}
	while (path && *path) {
		size_t len = strcspn(path, ":");
		if (len && snprintf(ret, size, "%.*s/%s", (int)len, path, name) < (int)size &&
			access(ret, X_OK) == 0)
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

/* One command, one answer; what follows "ok " is left in 'line'. */
static int ask(struct engine *e, char *line, struct vx_err *err, const char *fmt, ...)
	VX_PRINTF(4, 5);
static int ask(struct engine *e, char *line, struct vx_err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(e->to, fmt, ap);
	va_end(ap);
	fputc('\n', e->to);
	if (fflush(e->to) != 0 || !fgets(line, LINE_MAX_BYTES, e->from))
		return vx_err_set(err, -EPIPE, "%s: its process ended", e->name);
	line[strcspn(line, "\n")] = 0;
	if (strncmp(line, "error ", 6) == 0)
		return vx_err_set(err, -EREMOTEIO, "%s: %s", e->name, line + 6);
	if (strncmp(line, "ok", 2) != 0)
		return vx_err_set(err, -EPROTO, "%s: answered '%s'", e->name, line);
	memmove(line, line + 2, strlen(line + 2) + 1);
	return 0;
}

static int bad_answer(const struct engine *e, const char *line, struct vx_err *err)
{
	return vx_err_set(err, -EPROTO, "%s: answered 'ok%s'", e->name, line);
}

static int process_search(
	struct engine *e, unsigned ef, double *us, double *ret_s, struct vx_err *err)
{
	char line[LINE_MAX_BYTES];
	int rc = ask(e, line, err, "search %u %d", ef, us != NULL);

	if (rc)
		return rc;
	e->search_distances = 0; /* peers do not say */
	if (sscanf(line, "%lf %lf %lf", ret_s, &e->search_cpu_s, &e->search_distances) < 2)
		return bad_answer(e, line, err);
	if (us)
		memcpy(us, e->times, e->set->nq * sizeof *us);
	return 0;
}

static void unmap(struct engine *e)
{
	if (e->answers)
		munmap(e->answers, e->set->nq * BENCH_K * sizeof *e->answers);
	if (e->times)
		munmap(e->times, e->set->nq * sizeof *e->times);
	e->answers = NULL;
	e->times = NULL;
}

static void process_close(struct engine *e)
{
	if (e->to)
		fclose(e->to);
	if (e->from)
		fclose(e->from);
	if (e->pid > 0) {
		kill(e->pid, SIGKILL);
		waitpid(e->pid, NULL, 0);
	}
	unmap(e);
}

static const struct engine_ops process_ops = {.search = process_search, .close = process_close};

/* A file of the set's directory that both sides map. */
static void *shared_file(
	const struct set *s, const char *engine, const char *what, size_t bytes, struct vx_err *err)
{
	char path[700];

	snprintf(path, sizeof path, "%s/%s.%s", s->dir, engine, what);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	void *p = MAP_FAILED;
	if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return p == MAP_FAILED ? NULL : p;
}

/* In the child: the pipes become its standard streams; it dies with us. */
static _Noreturn void child(const char *name, const char *peers, int in, int out)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (peers) {
		dup2(in, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		/* OpenMP's threads wait by spinning, which on a machine that others use too eats
		 * the very cores that they wait for. */
		setenv("OMP_WAIT_POLICY", "passive", 0);
		execl(peers, peers, name, (char *)NULL);
		dprintf(STDOUT_FILENO, "error %s: %s\n", peers, strerror(errno));
		_exit(127);
	}
	FILE *fi = fdopen(in, "r"), *fo = fdopen(out, "w");
	_exit(fi && fo ? engine_library_main(fi, fo) : 1);
}

int engine_spawn(struct engine *e, const char *name, struct set *s, struct vx_err *err)
{
	char peers[1100], line[LINE_MAX_BYTES];
	bool peer = strcmp(name, "library") != 0;
	int to[2], from[2];

	e->name = name;
	e->ops = &process_ops;
	e->set = s;
	if (peer && !bench_find_program("vec-bench-peers", peers, sizeof peers))
		return vx_err_set(err, -ENOENT, "vec-bench-peers is not there");
	e->answers = shared_file(s, name, "answers", s->nq * BENCH_K * sizeof *e->answers, err);
	e->times = shared_file(s, name, "times", s->nq * sizeof *e->times, err);
	if (!e->answers || !e->times)
		return -EIO;
	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		return vx_err_set(err, -errno, "pipe: %s", strerror(errno));
	fflush(NULL);
	e->pid = fork();
	if (e->pid < 0)
		return vx_err_set(err, -errno, "fork: %s", strerror(errno));
	if (e->pid == 0) {
		close(to[1]);
		close(from[0]);
		child(name, peer ? peers : NULL, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	e->to = fdopen(to[1], "w");
	e->from = fdopen(from[0], "r");
	if (!e->to || !e->from)
		return vx_err_set(err, -ENOMEM, "fdopen: %s", strerror(errno));
	return ask(e, line, err, "load %s %zu %zu %u %s %s", s->dir, s->n, s->nq, s->dim,
		vx_metric_name(s->metric), s->quant);
}

int engine_build(struct engine *e, size_t n, unsigned threads, struct vx_err *err)
{
	char line[LINE_MAX_BYTES];
	unsigned long long rss, own;
	int rc = ask(e, line, err, "build %zu %u", n, threads);

	if (rc)
		return rc;
	if (sscanf(line, "%lf %lf %llu %llu %u", &e->build_s, &e->build_cpu_s, &rss, &own,
		    &e->ef_default) != 5)
		return bad_answer(e, line, err);
	e->build_threads = threads;
	e->rss_bytes = rss;
	e->index_bytes = own;
	e->npoints = 0;
	return 0;
}

int engine_parallel(struct engine *e, unsigned ef, unsigned threads, double seconds,
	double *ret_qps, struct vx_err *err)
{
	char line[LINE_MAX_BYTES];
	int rc = ask(e, line, err, "parallel %u %u %.3f", ef, threads, seconds);

	if (rc)
		return rc;
	return sscanf(line, "%lf", ret_qps) == 1 ? 0 : bad_answer(e, line, err);
}

void engine_close(struct engine *e)
{
	if (e->ops)
		e->ops->close(e);
	memset(e, 0, sizeof *e);
}
