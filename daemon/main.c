/* main.c - vecfsd: options, going to the background, starting the parts, stopping them.
 *
 * Supervised (the default with -d and under systemd) this program is two processes: the supervisor, which
 * holds the mount (supervise.h), and the worker, which is started by it with the same options written
 * out, and does everything else.  What is said below of a daemon is true of the worker; pid file, log file and
 * readiness are the supervisor's.
 *
 * With -d a launcher forks before any thread exists and stays until the daemon says through a pipe that
 * it is ready (exit status 0) or has failed (its status), so that "vecfsd -d ... && echo ok" tells the
 * truth.  Under systemd readiness goes through sd_notify.  SIGTERM and SIGINT stop it in order: the
 * mount first, then the socket, then the database; SIGHUP replaces the worker, and is ignored without one.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "base/log.h"
#include "cluster/db.h"
#include "daemon/fs.h"
#include "daemon/options.h"
#include "daemon/sock.h"
#include "daemon/supervise.h"
#include "base/timeslice.h"

#define CONFIG_DEFAULT "/etc/vecfs.conf"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 5 };

struct daemon {
	struct options *o;
	char *data, *mount; /* absolute; mount NULL with --no-mount */
	char *pid_file;     /* absolute, because the daemon leaves its directory; NULL: none */
	struct buf socket;
	struct db *db;
	struct sock *sock;
	struct fs *fs;
	int ready_fd; /* to the launcher, or -1 */
	int signal_fd;
	bool is_worker; /* of a supervisor, which handed over: */
	struct worker_fds handed;
};

/* Where the one who started us reads: stderr, kept aside once that has become the log. */
static int user_fd = STDERR_FILENO;

static int fail(const struct daemon *d, int code, const struct vx_err *err, int rc)
{
	if (d->is_worker) /* whoever started the supervisor hears it from there */
		worker_failed(&d->handed, vx_err_msg(err, rc));
	else
		dprintf(user_fd, "vecfsd: %s\n", vx_err_msg(err, rc));
	return code;
}

/* Absolute form of a path that may not exist yet, or may be a dead mount. */
static char *absolute(const char *path)
{
	char *real = realpath(path, NULL), *cwd, *out = NULL;

	if (real)
		return real;
	if (path[0] == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&out, "%s/%s", cwd, path) < 0)
		out = NULL;
	free(cwd);
	return out;
}

/* A path below a vecfs is no place for a data directory: making it would make a collection there.  The
 * nearest directory that exists tells; a dead mount is somebody else's to report. */
static int check_not_in_vecfs(const char *path, struct vx_err *err)
{
	char *dir = strdup(path), *line = NULL;
	size_t cap = 0;
	struct stat st;
	int rc = 0;

	if (!dir)
		return -ENOMEM;
	while (stat(dir, &st) < 0 && strrchr(dir, '/') > dir)
		*strrchr(dir, '/') = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (rc == 0 && f && getline(&line, &cap, f) > 0) {
		const char *type = strstr(line, " - ");
		unsigned maj, min;

		if (type && strncmp(type + 3, "fuse.vecfs ", 11) == 0 &&
			sscanf(line, "%*s %*s %u:%u", &maj, &min) == 2 &&
			makedev(maj, min) == st.st_dev)
			rc = vx_err_set(err, -EINVAL,
				"the data directory %s is inside a vecfs mount", path);
	}
	if (f)
		fclose(f);
	free(line);
	free(dir);
	return rc;
}

/* --- what the mount shows of the options --------------------------------------------- */
static int config_each(void *ctx, int (*each)(void *arg, const char *name), void *arg)
{
	int rc = 0;

	(void)ctx;
	for (size_t i = 0; rc == 0 && i < n_vecfsd_options; i++)
		if (!vecfsd_options[i].command_line_only)
			rc = each(arg, vecfsd_options[i].name);
	return rc;
}

static int config_get(void *ctx, const char *name, struct buf *out)
{
	const struct daemon *d = ctx;

	return options_get_copy(d->o, name, out);
}

static int config_set(void *ctx, const char *name, const char *value, struct vx_err *err)
{
	struct daemon *d = ctx;
	int rc;

	if (strcmp(name, "log") == 0 && log_configure(value))
		return vx_err_set(err, -EINVAL,
			"log: '%s' is not LEVEL or MODULE=LEVEL (error, warn, info, debug)", value);
	rc = options_set_runtime(d->o, name, value, err);
	if (rc == 0 && d->db)
		db_limits(d->db, (uint64_t)options_int(d->o, "memory-max"),
			(uint64_t)options_int(d->o, "quota-max"));
	return rc;
}

/* --- parts ------------------------------------------------------------------------------- */
static int start_parts(struct daemon *d, struct vx_err *err)
{
	struct db_opts dbo = {
		.data_dir = d->data,
		.shards = (uint32_t)options_int(d->o, "shards"),
		.index_threads = (uint32_t)options_int(d->o, "index-threads"),
		.wal_segment_bytes = (uint64_t)options_int(d->o, "wal-segment-size"),
		.tail_max = (uint32_t)options_int(d->o, "tail-max"),
		.mark_interval_ms = (uint32_t)options_int(d->o, "mark-interval"),
		.compact_percent = (uint32_t)options_int(d->o, "compact-percent"),
		.memory_max = (uint64_t)options_int(d->o, "memory-max"),
		.quota_max = (uint64_t)options_int(d->o, "quota-max"),
		.wal_backend = options_get(d->o, "wal-backend"),
		.create = true,
	};
	int rc = check_not_in_vecfs(d->data, err);

	timeslice_set(TIMESLICE_ALL_US);
	if (rc == 0)
		rc = db_open(&dbo, &d->db, err);
	if (rc)
		return rc;
	rc = sock_start_on(d->db, d->is_worker ? d->handed.listen : -1,
		(const char *)d->socket.data, &d->sock, err);
	if (rc || !d->mount)
		return rc;
	struct fs_opts fo = {
		.threads = (unsigned)options_int(d->o, "fuse-threads"),
		.uid = getuid(),
		.gid = getgid(),
		.allow_other = options_bool(d->o, "allow-other"),
		.socket = (const char *)d->socket.data,
		.config_each = config_each,
		.config_get = config_get,
		.config_set = config_set,
		.config_ctx = d,
		.handed = d->is_worker,
		.fuse_fd = d->handed.fuse,
		.carry_fd = d->handed.carry,
	};
	return fs_start(d->db, d->mount, &fo, &d->fs, err);
}

/* The mount goes first: no new requests from there; then the tools; what both accepted is committed by
 * the time the database closes.  Requests that wait for room on a full disk would hold up the end. */
static void stop_parts(struct daemon *d, bool goes_on)
{
	db_give_up(d->db);
	fs_stop(d->fs, goes_on);
	sock_stop(d->sock);
	db_close(d->db);
}

static int write_pid_file(const char *path, struct vx_err *err)
{
	if (!path)
		return 0;
	FILE *f = fopen(path, "we");
	if (!f)
		return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	fprintf(f, "%ld\n", (long)getpid());
	if (fclose(f))
		return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

/* Tells the launcher how the start went. */
static void report(struct daemon *d, unsigned char status)
{
	if (d->ready_fd < 0)
		return;
	(void)!write(d->ready_fd, &status, 1);
	close(d->ready_fd);
	d->ready_fd = -1;
}

static int open_log(const struct options *o, bool background, struct vx_err *err)
{
	const char *path = options_get(o, "log-file");
	int fd;

	if (path[0]) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (fd < 0)
			return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	} else if (background) {
		fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	} else {
		return 0;
	}
	if (fd >= 0) {
		user_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
		dup2(fd, STDERR_FILENO);
		close(fd);
	}
	return 0;
}

/* Ready: says so, and lets go of what holds a terminal, a directory or a pipe. */
static void announce(struct daemon *d, const char *what)
{
	bool background = d->ready_fd >= 0;

	if (chdir("/") < 0) /* keeps no file system busy */
		log_warn("main", "cannot change to /: %s", strerror(errno));
	log_info("main", "%s: %s%s%s, socket %s", what, d->data, d->mount ? " at " : "",
		d->mount ? d->mount : "", (const char *)d->socket.data);
	report(d, EXIT_OK);
	if (user_fd != STDERR_FILENO)
		close(user_fd);
	user_fd = STDERR_FILENO;
	if (background) { /* nothing holds the terminal or a pipe any more */
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		if (null >= 0) {
			dup2(null, STDIN_FILENO);
			dup2(null, STDOUT_FILENO);
			close(null);
		}
	}
}

/* Waits for a reason to stop; true: somebody else takes over from here. */
static bool wait_for_end(struct daemon *d)
{
	for (;;) {
		struct pollfd p[2] = {{.fd = d->signal_fd, .events = POLLIN},
			{.fd = d->fs ? fs_done_fd(d->fs) : -1, .events = POLLIN}};
		struct signalfd_siginfo si;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents) {
			log_info("main", "%s was unmounted: stopping", d->mount);
			return false;
		}
		if (p[0].revents && read(d->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
			log_info("main", "%s: stopping", strsignal((int)si.ssi_signo));
			return si.ssi_signo == SIGHUP;
		}
	}
}

static int serve(struct daemon *d)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = d->is_worker ? 0 : open_log(d->o, d->ready_fd >= 0, &err);

	/* Before a data directory is made for a mount that cannot be.  A dead mount is cleared later. */
	if (rc == 0 && !d->is_worker && d->mount && access(d->mount, F_OK) < 0 && errno != ENOTCONN)
		rc = vx_err_set(&err, -errno, "%s: %s", d->mount, strerror(errno));
	if (rc == 0)
		rc = start_parts(d, &err);
	if (rc == 0 && !d->is_worker)
		rc = write_pid_file(d->pid_file, &err);
	if (rc) {
		int code = fail(d, rc == -EBUSY || rc == -EADDRINUSE ? EXIT_REFUSED : EXIT_FAILED,
			&err, rc);
		stop_parts(d, false);
		report(d, (unsigned char)code);
		return code;
	}
	if (d->is_worker)
		worker_ready(&d->handed, d->fs && fs_resends(d->fs));
#ifdef HAVE_SYSTEMD
	sd_notify(0, "READY=1");
#endif
	announce(d, d->is_worker ? "serving" : "ready");
	bool goes_on = wait_for_end(d);
#ifdef HAVE_SYSTEMD
	sd_notify(0, "STOPPING=1");
#endif
	stop_parts(d, goes_on);
	if (d->pid_file && !d->is_worker)
		unlink(d->pid_file);
	return EXIT_OK;
}

/* --- supervised ---------------------------------------------------------------------------- */
static bool wants_supervisor(const struct daemon *d)
{
	const char *v = options_get(d->o, "supervise");

	if (strcmp(v, "auto") == 0)
		return options_bool(d->o, "daemonize") || getenv("NOTIFY_SOCKET");
	return options_bool(d->o, "supervise");
}

static int on_ready(void *ctx)
{
	struct daemon *d = ctx;
	struct vx_err err = VX_ERR_INIT;
	int rc = write_pid_file(d->pid_file, &err);

	if (rc) {
		report(d, (unsigned char)fail(d, EXIT_FAILED, &err, rc));
		return rc;
	}
	announce(d, "ready, supervised");
	return 0;
}

/* The command line of the worker: every option that it looks at, as it is now; paths absolute. */
static char **worker_argv(struct daemon *d)
{
	static const char *const ours[] = {
		"config", "daemonize", "supervise", "pid-file", "log-file", "socket"};
	char **argv = calloc(n_vecfsd_options + 6, sizeof *argv);
	char self[4096];
	size_t n = 0;

	ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
	if (!argv || len <= 0)
		return NULL;
	self[len] = 0;
	argv[n++] = strdup(self);
	for (size_t i = 0; i < n_vecfsd_options; i++) {
		const char *name = vecfsd_options[i].name, *v = options_get(d->o, name);
		bool skip = v[0] == 0;

		for (size_t k = 0; k < VX_ARRAY_SIZE(ours); k++)
			skip |= strcmp(name, ours[k]) == 0;
		if (!skip && asprintf(&argv[n++], "--%s=%s", name, v) < 0)
			return NULL;
	}
	if (asprintf(&argv[n++], "--socket=%s", (const char *)d->socket.data) < 0)
		return NULL;
	argv[n++] = strdup("--");
	argv[n++] = strdup(d->data);
	if (d->mount)
		argv[n++] = strdup(d->mount);
	return argv;
}

static void argv_free(char **argv)
{
	for (size_t i = 0; argv && argv[i]; i++)
		free(argv[i]);
	free(argv);
}

static int serve_supervised(struct daemon *d)
{
	struct vx_err err = VX_ERR_INIT;
	struct supervise_opts so = {
		.data = d->data,
		.mount = d->mount,
		.socket = (const char *)d->socket.data,
		.allow_other = options_bool(d->o, "allow-other"),
		.ready = on_ready,
		.ctx = d,
	};
	int rc = open_log(d->o, d->ready_fd >= 0, &err);

	if (rc == 0)
		rc = check_not_in_vecfs(d->data, &err);
	if (rc == 0 && !(so.argv = worker_argv(d)))
		rc = -ENOMEM;
	sock_make_parent(so.socket);
	int code = rc ? EXIT_FAILED : supervise(&so, &err);
	argv_free(so.argv);
	if (code) {
		fail(d, code, &err, rc ? rc : -EIO);
		report(d, (unsigned char)code);
	}
	if (d->pid_file && code == 0)
		unlink(d->pid_file);
	return code;
}

/* Every open slice has a few descriptors; the soft limit is for programs that use select(2). */
static void raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = VX_MIN(r.rlim_max, (rlim_t)65536);
		(void)!setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* The launcher: returns in the child with *ret_fd set, exits in the parent. */
static int launch(int *ret_fd, struct vx_err *err)
{
	int p[2];
	unsigned char status = EXIT_FAILED;

	if (pipe2(p, O_CLOEXEC) < 0)
		return vx_err_set(err, -errno, "pipe: %s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		return vx_err_set(err, -errno, "fork: %s", strerror(errno));
	if (pid > 0) {
		close(p[1]);
		if (read(p[0], &status, 1) != 1) {
			int st;

			status = EXIT_FAILED;
			if (waitpid(pid, &st, 0) == pid && WIFSIGNALED(st))
				fprintf(stderr, "vecfsd: died at start: %s\n",
					strsignal(WTERMSIG(st)));
		}
		_exit(status);
	}
	close(p[0]);
	setsid();
	*ret_fd = p[1];
	return 0;
}

/* Options, paths, and what can be refused before anything starts. */
static int configure(struct daemon *d, int argc, char **argv, bool *ret_stop, struct vx_err *err)
{
	const char *args[2] = {NULL, NULL};
	int n, rc = options_parse_args(d->o, argc, argv, args, 2, &n, ret_stop, err);

	if (rc || *ret_stop)
		return rc;
	const char *conf = options_get(d->o, "config");
	if (d->is_worker) /* our options are the whole of it, our paths are absolute */
		rc = 0;
	else if (conf[0] || access(CONFIG_DEFAULT, R_OK) == 0)
		rc = options_parse_file(d->o, conf[0] ? conf : CONFIG_DEFAULT, err);
	if (rc)
		return rc;
	bool no_mount = options_bool(d->o, "no-mount");
	if (n != (no_mount ? 1 : 2))
		return vx_err_set(err, -EINVAL,
			no_mount ? "with --no-mount there is one argument, DATA"
				 : "two arguments are needed, DATA and MOUNT; see vecfsd --help");
	if (log_configure(options_get(d->o, "log")))
		return vx_err_set(err, -EINVAL, "log: '%s' is not LEVEL or MODULE=LEVEL",
			options_get(d->o, "log"));
	if (getenv("VECFS_LOG") && log_configure(getenv("VECFS_LOG")))
		return vx_err_set(err, -EINVAL, "VECFS_LOG: '%s' is not LEVEL or MODULE=LEVEL",
			getenv("VECFS_LOG"));
	/* A worker that looked at its mount would wait for itself. */
	d->data = d->is_worker ? strdup(args[0]) : absolute(args[0]);
	d->mount = no_mount ? NULL : d->is_worker ? strdup(args[1]) : absolute(args[1]);
	if (!d->data || (!no_mount && !d->mount))
		return -ENOMEM;
	const char *pid_file = options_get(d->o, "pid-file");
	d->pid_file = pid_file[0] ? absolute(pid_file) : NULL;
	if (pid_file[0] && !d->pid_file)
		return -ENOMEM;
	const char *sock = options_get(d->o, "socket"), *env = getenv("VECFS_SOCKET");
	if (!sock[0] && env)
		sock = env; /* where the tools will look */
	char *abs = !sock[0] ? NULL : d->is_worker ? strdup(sock) : absolute(sock);
	rc = abs       ? buf_append(&d->socket, abs, strlen(abs))
	     : sock[0] ? -ENOMEM
		       : sock_default_path(&d->socket);
	free(abs);
	return rc ? rc : buf_cstr(&d->socket);
}

int main(int argc, char **argv)
{
	struct daemon d = {.ready_fd = -1, .signal_fd = -1};
	struct vx_err err = VX_ERR_INIT;
	bool stop = false, supervised = false;
	sigset_t set;
	int code;

	d.is_worker = worker_handed(&d.handed);
	d.o = options_new();
	int rc = d.o ? configure(&d, argc, argv, &stop, &err) : -ENOMEM;
	if (rc) {
		code = fail(&d, EXIT_USAGE, &err, rc);
		goto out;
	}
	if (stop) {
		code = EXIT_OK;
		goto out;
	}
	supervised = !d.is_worker && wants_supervisor(&d);
	if (options_bool(d.o, "daemonize") && !d.is_worker)
		rc = launch(&d.ready_fd, &err);
	/* Blocked before any thread starts, so that every thread inherits it. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (supervised)
		sigaddset(&set, SIGCHLD);
	if (rc == 0 && sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		rc = -errno;
	if (!d.is_worker)
		sigdelset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	if (!supervised) {
		d.signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
		if (rc == 0 && d.signal_fd < 0)
			rc = -errno;
	}
	if (rc) {
		code = fail(&d, EXIT_FAILED, &err, rc);
		report(&d, (unsigned char)code);
		goto out;
	}
	umask(022);
	raise_limits();
	code = supervised ? serve_supervised(&d) : serve(&d);
out:
	if (d.signal_fd >= 0)
		close(d.signal_fd);
	options_free(d.o);
	buf_release(&d.socket);
	free(d.data);
	free(d.mount);
	free(d.pid_file);
	return code;
}
