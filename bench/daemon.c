/* daemon.c - the daemon under measurement: one of our own beside the data, or one that runs.
 *
 * Our own lives in the set's directory, on a socket and a mount of its own, and is started in the
 * foreground so that it dies with us.  Where FUSE is not allowed it runs without a mount and the
 * reason is kept for the table.  Records go in through vec-put itself, as a user's would.
 */
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli_client.h"

#define START_MS_MAX 60000u
#define STOP_MS_MAX  60000u
#define JSONL_MAX    250000u /* rows of the JSON Lines copy of a base */

static void nap_ms(unsigned ms)
{
	struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

/* fork and exec; stdout and stderr go to 'log' when it is not NULL. */
static pid_t start(const char *socket, const char *log, char *const argv[])
{
	fflush(NULL);
	pid_t pid = fork();

	if (pid != 0)
		return pid < 0 ? -errno : pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	setenv("VECFS_SOCKET", socket, 1);
	int null = open("/dev/null", O_RDONLY);
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	int fd = log ? open(log, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
	if (fd >= 0) {
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
	} else {
		dup2(STDERR_FILENO, STDOUT_FILENO); /* our stdout is the report's */
	}
	execv(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

pid_t daemon_run(const struct daemon *d, char *const argv[])
{
	return start(d->socket, NULL, argv);
}

int daemon_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The last line that the daemon logged: why it did not come up. */
static void last_words(const struct daemon *d, char *ret, size_t size)
{
	char line[300];
	FILE *f = fopen(d->log, "re");

	snprintf(ret, size, "it said nothing");
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		if (line[0])
			snprintf(ret, size, "%s", line);
	}
	if (f)
		fclose(f);
}

static int connect_to(struct daemon *d, struct vx_err *err)
{
	const Vecfs__ListAnswer *list;
	Vecfs__ListRequest m = VECFS__LIST_REQUEST__INIT;
	int rc = client_open(&d->place, "vec-bench", &d->c, err);

	if (rc == 0)
		rc = client_call(
			d->c, RPC_LIST, &m.base, &vecfs__list_answer__descriptor, &list, err);
	if (rc) {
		client_close(d->c);
		d->c = NULL;
	}
	return rc;
}

static int launch(struct daemon *d, const char *program, struct vx_err *err)
{
	char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t) "--socket", d->socket,
		d->data, d->mounted ? d->mnt : (char *)(uintptr_t) "--no-mount", NULL};
	char why[300];

	(void)unlink(d->log);
	d->pid = start(d->socket, d->log, argv);
	if (d->pid < 0)
		return vx_err_set(err, d->pid, "vecfsd: %s", strerror(-d->pid));
	for (unsigned ms = 0; ms < START_MS_MAX; ms += 20) {
		int status;

		if (connect_to(d, NULL) == 0)
			return 0;
		if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
			d->pid = 0;
			last_words(d, why, sizeof why);
			return vx_err_set(err, -ECHILD, "vecfsd did not start: %s", why);
		}
		nap_ms(20);
	}
	return vx_err_set(err, -ETIMEDOUT, "vecfsd does not answer");
}

/* A mount (a directory) or a socket of a daemon that somebody else runs. */
static int find_running(struct daemon *d, const char *where, struct vx_err *err)
{
	struct stat st;

	if (stat(where, &st) < 0)
		return vx_err_set(err, -errno, "%s: %s", where, strerror(errno));
	if (S_ISDIR(st.st_mode)) {
		unsetenv("VECFS_SOCKET");
		int rc = client_place_find(where, &d->place, err);
		if (rc)
			return rc;
		snprintf(d->mnt, sizeof d->mnt, "%s", where);
		d->mounted = true;
	} else {
		d->place.socket = strdup(where);
		d->place.how = "--daemon";
		snprintf(d->why_no_mount, sizeof d->why_no_mount, "a socket was named");
	}
	if (!d->place.socket)
		return -ENOMEM;
	snprintf(d->socket, sizeof d->socket, "%s", d->place.socket);
	return connect_to(d, err);
}

static int start_own(struct daemon *d, const struct set *s, bool want_mount, struct vx_err *err)
{
	char program[1100];

	if (!bench_find_program("vecfsd", program, sizeof program))
		return vx_err_set(err, -ENOENT, "vecfsd is not beside vec-bench nor in PATH");
	snprintf(d->dir, sizeof d->dir, "%s/daemon", s->dir);
	snprintf(d->data, sizeof d->data, "%s/data", d->dir);
	snprintf(d->mnt, sizeof d->mnt, "%s/mnt", d->dir);
	snprintf(d->socket, sizeof d->socket, "%s/sock", d->dir);
	snprintf(d->log, sizeof d->log, "%s/log", d->dir);
	if (mkdir(d->dir, 0700) < 0 || mkdir(d->mnt, 0700) < 0)
		return vx_err_set(err, -errno, "%s: %s", d->dir, strerror(errno));
	d->place.socket = strdup(d->socket);
	d->place.how = "its own";
	if (!d->place.socket)
		return -ENOMEM;
	d->mounted = want_mount && access("/dev/fuse", R_OK | W_OK) == 0;
	if (want_mount && !d->mounted)
		snprintf(d->why_no_mount, sizeof d->why_no_mount, "/dev/fuse: %s", strerror(errno));
	int rc = launch(d, program, err);
	if (rc == -ECHILD && d->mounted) {
		snprintf(d->why_no_mount, sizeof d->why_no_mount, "%.299s", vx_err_msg(err, rc));
		d->mounted = false;
		rc = launch(d, program, err);
	}
	return rc;
}

int daemon_start(struct daemon *d, const struct set *s, const char *place, bool want_mount,
	struct vx_err *err)
{
	memset(d, 0, sizeof *d);
	snprintf(d->coll, sizeof d->coll, "bench-%d", (int)getpid());
	int rc = place ? find_running(d, place, err) : start_own(d, s, want_mount, err);
	if (rc)
		return rc;
	d->mounted = d->mounted && want_mount;
	snprintf(d->query_ids, sizeof d->query_ids, "%s/%s/query.ids", d->mnt, d->coll);
	return 0;
}

static int create(struct daemon *d, const char *coll, const struct set *s, struct vx_err *err)
{
	Vecfs__CreateRequest m = VECFS__CREATE_REQUEST__INIT;
	const Vecfs__Done *done;

	m.name = (char *)(uintptr_t)coll;
	m.metric = (char *)(uintptr_t)vx_metric_name(s->metric);
	m.quant = (char *)(uintptr_t)s->quant;
	return client_call(d->c, RPC_CREATE, &m.base, &vecfs__done__descriptor, &done, err);
}

static void drop(struct daemon *d, const char *coll)
{
	Vecfs__DropRequest m = VECFS__DROP_REQUEST__INIT;
	struct vx_err err = VX_ERR_INIT;
	const Vecfs__Done *done;

	m.name = (char *)(uintptr_t)coll;
	m.force = true;
	int rc = client_call(d->c, RPC_DROP, &m.base, &vecfs__done__descriptor, &done, &err);
	if (rc)
		cli_error("drop %s: %s", coll, vx_err_msg(&err, rc));
}

static int index_wait(struct daemon *d, const char *coll, uint64_t *ret_bytes, struct vx_err *err)
{
	Vecfs__IndexRequest m = VECFS__INDEX_REQUEST__INIT;
	const Vecfs__IndexAnswer *a;

	m.collection = (char *)(uintptr_t)coll;
	m.op = VECFS__INDEX_REQUEST__OP__WAIT;
	int rc = client_call(d->c, RPC_INDEX, &m.base, &vecfs__index_answer__descriptor, &a, err);
	if (rc == 0 && ret_bytes)
		*ret_bytes = a->memory_bytes;
	return rc;
}

static void read_memory(struct daemon *d)
{
	char path[64], line[256];
	unsigned long long kb;

	if (d->pid <= 0)
		return;
	snprintf(path, sizeof path, "/proc/%d/status", (int)d->pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "VmRSS: %llu kB", &kb) == 1)
			d->rss = kb << 10;
		else if (sscanf(line, "RssAnon: %llu kB", &kb) == 1)
			d->rss_anon = kb << 10;
		else if (sscanf(line, "RssFile: %llu kB", &kb) == 1)
			d->rss_file = kb << 10;
		else if (sscanf(line, "VmHWM: %llu kB", &kb) == 1)
			d->rss_peak = kb << 10;
	}
	if (f)
		fclose(f);
}

/* vec-put of FILE, then the index: both from the same moment on. */
static int put(struct daemon *d, const char *coll, const char *file, const char *format,
	double *ret_put_s, double *ret_ready_s, uint64_t *ret_bytes, struct vx_err *err)
{
	char program[1100];
	char *argv[8] = {program, (char *)(uintptr_t) "-q", (char *)(uintptr_t) "-F",
		(char *)(uintptr_t)format, (char *)(uintptr_t)coll, (char *)(uintptr_t)file, NULL};

	if (!format) {
		argv[2] = argv[4];
		argv[3] = argv[5];
		argv[4] = NULL;
	}
	if (!bench_find_program("vec-put", program, sizeof program))
		return vx_err_set(err, -ENOENT, "vec-put is not beside vec-bench nor in PATH");
	uint64_t t0 = clock_mono_ns();
	pid_t pid = daemon_run(d, argv);
	int status = pid < 0 ? -1 : daemon_wait(pid);
	*ret_put_s = (double)(clock_mono_ns() - t0) / 1e9;
	if (status != 0)
		return vx_err_set(err, -EIO, "vec-put %s ended with status %d", file, status);
	int rc = index_wait(d, coll, ret_bytes, err);
	*ret_ready_s = (double)(clock_mono_ns() - t0) / 1e9;
	return rc;
}

int daemon_ingest(struct daemon *d, const struct set *s, const char *format, struct vx_err *err)
{
	char copy[700];
	const char *file = s->base_file;

	int rc = create(d, d->coll, s, err);
	if (rc)
		return rc;
	bool own = set_is_rows(file, format);
	if (!own) {
		rc = set_write_fbin(s, copy, sizeof copy, err);
		file = copy;
		format = "fbin";
	}
	if (rc == 0)
		rc = put(d, d->coll, file, format, &d->put_s, &d->ready_s, &d->index_bytes, err);
	if (!own)
		(void)unlink(copy);
	read_memory(d);
	return rc;
}

int daemon_ingest_jsonl(struct daemon *d, const struct set *s, struct vx_err *err)
{
	char path[700], name[VX_NAME_MAX + 1], id[16];
	struct codec_writer *w;
	int rc = 0;

	snprintf(path, sizeof path, "%s/base.jsonl", s->dir);
	snprintf(name, sizeof name, "bench-%d-jsonl", (int)getpid());
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = codec_writer_new(CODEC_JSONL, fd, 0, &w);
	d->jsonl_n = VX_MIN(s->n, (size_t)JSONL_MAX);
	for (size_t i = 0; rc == 0 && i < d->jsonl_n; i++) {
		struct vx_record r = {.id = id,
			.id_len = (size_t)snprintf(id, sizeof id, "%zu", i),
			.vec = s->base + i * s->dim,
			.dim = s->dim};
		rc = codec_write(w, &r, err);
	}
	if (rc == 0)
		rc = codec_writer_finish(w, err);
	codec_writer_free(w);
	close(fd);
	if (rc == 0)
		rc = create(d, name, s, err);
	if (rc == 0) {
		rc = put(d, name, path, NULL, &d->jsonl_put_s, &d->jsonl_ready_s, NULL, err);
		drop(d, name);
	}
	(void)unlink(path);
	return rc;
}

void daemon_stop(struct daemon *d, bool keep)
{
	int status;

	if (d->c && d->pid == 0 && !keep)
		drop(d, d->coll);
	client_close(d->c);
	d->c = NULL;
	client_place_release(&d->place);
	if (d->pid > 0) {
		kill(d->pid, SIGTERM);
		for (unsigned ms = 0; ms < STOP_MS_MAX; ms += 20) {
			if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
				d->pid = 0;
				break;
			}
			nap_ms(20);
		}
		if (d->pid > 0) {
			kill(d->pid, SIGKILL);
			waitpid(d->pid, &status, 0);
			d->pid = 0;
			(void)umount2(d->mnt, MNT_DETACH);
		}
	}
}
