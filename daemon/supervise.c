/* supervise.c - holds what must not die and restarts what may.
 *
 * The supervisor mounts, makes the region of open files (carry.h) and the tools' socket, and starts the
 * worker, which is this program again.  It opens no database, starts no thread and keeps no state but
 * descriptors, so that there is hardly anything in it that could fail.
 *
 * When the worker dies -- a bug, the OOM killer, a broken log -- the mount stays: the kernel holds the
 * requests that were under way, the next worker has them repeated and knows from the region which of them
 * had been done.  To programs the daemon was slow for a moment.
 *
 *	died of a signal, or with a status after it had served		started again
 *	status 0							the end (unmounted by hand, or told to stop)
 *	another status before it served					the end with that status: a damaged
 *									database does not heal by retries
 *	died ATTEMPTS_MAX times in a row before it served, and
 *	none has served for GIVE_UP_MS					the end
 *
 * A worker that dies soon after it began to serve is started later and later, up to DELAY_MAX_MS.
 *
 * SIGHUP replaces the worker by the program that is installed now: the old one stops in order, the new one
 * takes over.  SIGTERM is handed on, and when the worker has stopped the mount is removed.  If the
 * supervisor itself is killed the worker dies with it.
 *
 * Kernels before 6.9 do not repeat requests.  There a death costs the mount: it is removed and made anew,
 * and programs that waited in it see ENOTCONN.
 */
#include "daemon/supervise.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "base/clock.h"
#include "base/log.h"
#include "daemon/carry.h"
#include "daemon/fs_mount.h"
#include "rpc/rpc.h"

#define ENV          "VECFS_WORKER"
#define ATTEMPTS_MAX 10u    /* deaths in a row before it served */
#define GIVE_UP_MS   60000u /* without service, if there ever was one */
#define FREE_DEATHS  3u     /* soon after it served, before the next start waits */
#define SOON_MS      250u   /* what "soon" is */
#define DELAY_MS     10u
#define DELAY_MAX_MS 5000u

enum { EXIT_FAILED_ = 1, EXIT_REFUSED_ = 5 };

struct supervisor {
	const struct supervise_opts *o;
	char *where; /* the mount, resolved */
	struct fuse_session *se;
	int carry_fd, listen_fd, signal_fd;
	ino_t socket_ino;
	/* the worker */
	pid_t pid; /* 0: none runs */
	int control;
	bool serves;  /* the one that runs */
	bool resends; /* the kernel does */
	uint64_t served_ns;
	/* its history */
	bool was_ready; /* some worker was */
	bool stopping, reloading;
	unsigned unborn; /* deaths in a row before it served */
	unsigned soon;   /* deaths in a row soon after */
	unsigned restarts;
	uint64_t died_ns;
	uint64_t left_ns; /* when the last one that served died; 0: none has */
	char why[400];    /* what the worker said of its failure */
};

static void tell_manager(const char *text)
{
#ifdef HAVE_SYSTEMD
	sd_notify(0, text);
#else
	(void)text;
#endif
}

/* --- the worker ---------------------------------------------------------------------------------- */
static void keep_open(int fd)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFD);

	if (flags >= 0)
		(void)fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
}

/* In the child. */
static void become_worker(struct supervisor *s, int control, pid_t parent)
{
	char env[80];
	sigset_t none;
	int fuse = s->se ? fuse_session_fd(s->se) : -1;

	/* Who would restart it, or remove the mount, is gone: the next start finds all in the log. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILED_);
	snprintf(env, sizeof env, "%d,%d,%d,%d", fuse, s->carry_fd, s->listen_fd, control);
	keep_open(fuse);
	keep_open(s->carry_fd);
	keep_open(s->listen_fd);
	keep_open(control);
	setenv(ENV, env, 1);
	unsetenv("NOTIFY_SOCKET"); /* the manager hears of us alone */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(s->o->argv[0], s->o->argv);
	/* The program is being replaced, say: this one still is what it was. */
	execv("/proc/self/exe", s->o->argv);
	dprintf(control, "E%s: %s", s->o->argv[0], strerror(errno));
	_exit(EXIT_FAILED_);
}

static int start_worker(struct supervisor *s, struct vx_err *err)
{
	pid_t self = getpid();
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return vx_err_set(err, -errno, "pipe: %s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0) {
		int rc = vx_err_set(err, -errno, "fork: %s", strerror(errno));
		close(p[0]);
		close(p[1]);
		return rc;
	}
	if (pid == 0) {
		close(p[0]);
		become_worker(s, p[1], self);
	}
	close(p[1]);
	s->pid = pid;
	s->control = p[0];
	s->serves = false;
	s->why[0] = 0;
	return 0;
}

/* What the worker says: "R1" it serves and the kernel repeats requests, "R0" it does not; "E..." why not. */
static int hear(struct supervisor *s)
{
	char buf[sizeof s->why];
	ssize_t n = read(s->control, buf, sizeof buf - 1);

	if (n <= 0) {
		close(s->control);
		s->control = -1;
		return 0;
	}
	buf[n] = 0;
	if (buf[0] == 'E')
		snprintf(s->why, sizeof s->why, "%s", buf + 1);
	if (buf[0] != 'R')
		return 0;
	s->serves = true;
	s->served_ns = clock_mono_ns();
	s->resends = buf[1] == '1';
	s->unborn = 0;
	if (!s->was_ready) {
		s->was_ready = true;
		if (s->se && !s->resends)
			log_warn("supervise",
				"this kernel does not repeat requests (it is older than 6.9): "
				"should "
				"the worker die, programs that wait in the mount see ENOTCONN");
		int rc = s->o->ready(s->o->ctx);
		tell_manager("READY=1");
		return rc;
	}
	s->restarts++;
	log_info("supervise", "worker %ld serves, %.0f ms after the last one", (long)s->pid,
		(double)(s->served_ns - s->died_ns) / 1e6);
	if (s->reloading)
		tell_manager("READY=1");
	s->reloading = false;
	return 0;
}

/* --- the parts ------------------------------------------------------------------------------------- */
static int make_mount(struct supervisor *s, struct vx_err *err)
{
	static const struct fuse_lowlevel_ops no_ops;
	const struct mount_opts mo = {.allow_other = s->o->allow_other};

	int rc = carry_create(&s->carry_fd);
	if (rc)
		return vx_err_set(err, rc, "the region of open files: %s", strerror(-rc));
	rc = mount_session_new(&mo, &no_ops, sizeof no_ops, NULL, &s->se, err);
	if (rc == 0)
		rc = mount_session(s->se, s->where, err);
	return rc;
}

static void remove_mount(struct supervisor *s)
{
	if (s->se) {
		/* Whoever still waits is told now, not when the last descriptor is closed. */
		fuse_session_unmount(s->se);
		fuse_session_destroy(s->se);
	}
	s->se = NULL;
	if (s->carry_fd >= 0)
		close(s->carry_fd);
	s->carry_fd = -1;
}

static int set_up(struct supervisor *s, struct vx_err *err)
{
	struct stat st;
	sigset_t set;
	int rc = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (s->signal_fd < 0)
		return vx_err_set(err, -errno, "signalfd: %s", strerror(errno));
	if (s->o->mount)
		rc = mount_check(s->o->data, s->o->mount, &s->where, err);
	if (rc == 0)
		rc = rpc_unix_listen(s->o->socket, &s->listen_fd, err);
	if (rc == 0 && lstat(s->o->socket, &st) == 0)
		s->socket_ino = st.st_ino;
	if (rc == 0 && s->where)
		rc = make_mount(s, err);
	return rc;
}

static void tear_down(struct supervisor *s)
{
	struct stat st;

	remove_mount(s);
	if (s->listen_fd >= 0) {
		if (lstat(s->o->socket, &st) == 0 && st.st_ino == s->socket_ino)
			(void)unlink(s->o->socket);
		close(s->listen_fd);
	}
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	if (s->control >= 0)
		close(s->control);
	free(s->where);
}

/* --- deaths ------------------------------------------------------------------------------------------ */
static void describe(int st, char *ret, size_t size)
{
	if (WIFSIGNALED(st))
		snprintf(ret, size, "%s", strsignal(WTERMSIG(st)));
	else
		snprintf(ret, size, "status %d", WEXITSTATUS(st));
}

/* How long the next start waits. */
static unsigned delay_of(const struct supervisor *s)
{
	unsigned n = s->unborn ? s->unborn : s->soon > FREE_DEATHS ? s->soon - FREE_DEATHS : 0;

	return n == 0 ? 0 : VX_MIN(DELAY_MS << VX_MIN(n, 10u), DELAY_MAX_MS);
}

/* The worker has ended.  Whether all is over, then with *ret_status; else *ret_delay_ms is what the next
 * start waits. */
static bool is_over(
	struct supervisor *s, int st, int *ret_status, unsigned *ret_delay_ms, struct vx_err *err)
{
	bool in_order = WIFEXITED(st) && WEXITSTATUS(st) == 0;
	char how[64];

	describe(st, how, sizeof how);
	s->died_ns = clock_mono_ns();
	*ret_status = in_order ? 0 : WIFEXITED(st) ? WEXITSTATUS(st) : EXIT_FAILED_;
	*ret_delay_ms = 0;
	if (s->stopping || (in_order && !s->reloading)) {
		if (!in_order)
			vx_err_set(err, -EIO, "the worker ended with %s while it stopped", how);
		return true;
	}
	if (s->reloading && in_order)
		return false;
	if (!s->serves && WIFEXITED(st)) {
		vx_err_set(err, -EIO, "%s", s->why[0] ? s->why : "the worker could not start");
		if (s->was_ready)
			log_error(
				"supervise", "the worker cannot start: %s", vx_err_msg(err, -EIO));
		return true;
	}
	s->unborn = s->serves ? 0 : s->unborn + 1;
	if (s->serves)
		s->left_ns = s->died_ns;
	if (s->serves)
		s->soon = s->died_ns - s->served_ns < SOON_MS * UINT64_C(1000000) ? s->soon + 1 : 0;
	if (s->unborn >= ATTEMPTS_MAX &&
		(!s->left_ns || s->died_ns - s->left_ns >= GIVE_UP_MS * UINT64_C(1000000))) {
		vx_err_set(err, -EIO,
			"the worker died %u times before it served, the last time of %s", s->unborn,
			how);
		return true;
	}
	*ret_delay_ms = delay_of(s);
	log_error("supervise", "worker %ld died (%s)%s; starting another%s", (long)s->pid, how,
		s->se && s->was_ready && s->resends ? ", the mount stays" : "",
		*ret_delay_ms ? " after a pause" : "");
	return false;
}

/* What a kernel that does not repeat requests makes of a death. */
static int mount_again(struct supervisor *s, struct vx_err *err)
{
	if (!s->se || s->resends || !s->was_ready)
		return 0;
	log_warn("supervise", "%s is mounted anew: programs that waited in it see ENOTCONN",
		s->where);
	remove_mount(s);
	return make_mount(s, err);
}

/* --- the loop ------------------------------------------------------------------------------------------ */
static void on_signal(struct supervisor *s)
{
	struct signalfd_siginfo si;

	if (read(s->signal_fd, &si, sizeof si) != (ssize_t)sizeof si)
		return;
	if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT) {
		if (!s->stopping)
			log_info("supervise", "%s: stopping", strsignal((int)si.ssi_signo));
		s->stopping = true;
		tell_manager("STOPPING=1");
		if (s->pid)
			kill(s->pid, SIGTERM);
	} else if (si.ssi_signo == SIGHUP && s->pid && s->serves && !s->stopping) {
		log_info("supervise", "replacing worker %ld", (long)s->pid);
		s->reloading = true;
		kill(s->pid, SIGHUP);
	}
}

static int run(struct supervisor *s, struct vx_err *err)
{
	int status = 0;
	uint64_t start_at = 0; /* when no worker runs */

	for (;;) {
		struct pollfd p[2] = {{s->signal_fd, POLLIN, 0}, {s->control, POLLIN, 0}};
		uint64_t now = clock_mono_ns();
		int wait_ms = -1, st;

		if (!s->pid && s->stopping)
			return 0;
		if (!s->pid && now >= start_at) {
			int rc = start_worker(s, err);
			if (rc && !s->was_ready)
				return EXIT_FAILED_;
			if (rc) { /* no memory for a process: later there may be */
				log_error("supervise", "%s", vx_err_msg(err, rc));
				start_at = now + DELAY_MAX_MS * UINT64_C(1000000);
			}
			continue;
		}
		if (!s->pid)
			wait_ms = (int)((start_at - now) / 1000000u) + 1;
		if (poll(p, 2, wait_ms) < 0)
			continue;
		if (s->control >= 0 && p[1].revents && hear(s)) {
			s->stopping = true;
			kill(s->pid, SIGTERM);
			status = EXIT_FAILED_;
		}
		if (p[0].revents)
			on_signal(s);
		if (!s->pid || waitpid(s->pid, &st, WNOHANG) != s->pid)
			continue;
		while (s->control >= 0) /* its last words */
			(void)hear(s);
		unsigned delay_ms;
		int last;
		bool over = is_over(s, st, &last, &delay_ms, err);
		s->pid = 0;
		if (over)
			return status ? status : last;
		if (mount_again(s, err))
			return EXIT_FAILED_;
		start_at = clock_mono_ns() + delay_ms * UINT64_C(1000000);
	}
}

int supervise(const struct supervise_opts *o, struct vx_err *err)
{
	struct supervisor s = {
		.o = o, .carry_fd = -1, .listen_fd = -1, .signal_fd = -1, .control = -1};
	int rc = set_up(&s, err);
	int status = rc == 0                             ? run(&s, err)
		     : rc == -EBUSY || rc == -EADDRINUSE ? EXIT_REFUSED_
							 : EXIT_FAILED_;

	tear_down(&s);
	if (s.restarts)
		log_info("supervise", "%u workers were started after the first", s.restarts);
	return status;
}

/* --- in the worker -------------------------------------------------------------------------------------- */
bool worker_handed(struct worker_fds *ret)
{
	const char *env = getenv(ENV);
	struct worker_fds w;

	if (!env || sscanf(env, "%d,%d,%d,%d", &w.fuse, &w.carry, &w.listen, &w.control) != 4)
		return false;
	const int fds[] = {w.fuse, w.carry, w.listen, w.control};
	for (size_t i = 0; i < VX_ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0 && fcntl(fds[i], F_SETFD, FD_CLOEXEC) < 0)
			return false; /* of somebody else's making */
	unsetenv(ENV);
	*ret = w;
	return true;
}

void worker_ready(const struct worker_fds *w, bool resends)
{
	if (write(w->control, resends ? "R1" : "R0", 2) < 0)
		log_warn("main", "the supervisor does not listen: %s", strerror(errno));
}

void worker_failed(const struct worker_fds *w, const char *why)
{
	dprintf(w->control, "E%s", why);
}
