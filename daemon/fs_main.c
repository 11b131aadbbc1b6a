/* fs_main.c - the session: mounting, the threads that serve, unmounting.
 *
 * The workers wait in one epoll set over the stop descriptor and /dev/fuse, which is armed for one shot: a
 * request wakes one worker, and that worker arms it again before it serves what it has read.  It reads
 * requests until there are none, then waits.  A worker that takes a request while nobody else is idle starts
 * another one, up to fs_opts.threads: writers wait for the log inside their request, so there must be as
 * many workers as writers to commit together.
 *
 * A worker that has served a question looks for the next one for a while before it sleeps (spin.h).  And
 * while the requests in a row are one asker's, the device stays unarmed: nobody else is woken for a request
 * that this worker takes anyway.  What may last (an exact scan, many questions) arms it first, so a request
 * of somebody else waits for one short search at most.
 *
 * Stopping: the stop descriptor becomes readable; each worker serves what is queued, then ends; the last
 * one out makes done_fd readable.  Unmounting by hand ends the session the same way.
 */
#include "daemon/fs_i.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/spin.h"
#include "base/timeslice.h"

#define WORKERS_DEFAULT 64u
#define WORKERS_START   2u
#define IDLE_MS         5000
#define SOLO_MIN        4u         /* requests in a row that make one asker of whoever asks */
#define SCRATCH_KEEP    (1u << 20) /* a worker's scratch is freed when it grew past this */

struct worker {
	struct worker *next; /* fs.lock */
	struct fs *fs;
	pthread_t thread;
	struct fuse_buf buf; /* libfuse's, reused */
	struct buf scratch;
	bool expects_more;
	bool bulk;         /* see timeslice_for */
	bool holds_device; /* /dev/fuse wakes nobody until this worker lets it go */
	uint64_t asker;    /* the handle whose questions this worker has been serving */
	unsigned in_a_row; /* how many of its requests */
	struct spin spin;  /* looking for more of them */
};

static __thread struct worker *me;

struct buf *fs_scratch(void)
{
	me->scratch.len = 0;
	return &me->scratch;
}

void fs_expect_more(void)
{
	me->expects_more = true;
}

/* From here on a request wakes a sleeping worker. */
static void let_go(struct worker *w)
{
	struct epoll_event dev = {.events = EPOLLIN | EPOLLONESHOT};

	if (!w->holds_device)
		return;
	w->holds_device = false;
	(void)epoll_ctl(w->fs->epfd, EPOLL_CTL_MOD, fuse_session_fd(w->fs->se), &dev);
}

/* From here on it does not.  Two workers may believe that they hold it: each lets go before it does anything
 * that lasts, so it is never held for long. */
static void hold(struct worker *w)
{
	struct epoll_event dev = {.events = EPOLLONESHOT};

	if (w->holds_device)
		return;
	w->holds_device = true;
	(void)epoll_ctl(w->fs->epfd, EPOLL_CTL_MOD, fuse_session_fd(w->fs->se), &dev);
}

void fs_takes_long(void)
{
	let_go(me);
}

/* Whether the request that was received goes on with the questions on one descriptor. */
static bool goes_on(struct worker *w)
{
	struct {
		struct fuse_in_header h;
		uint64_t fh; /* the body of a READ and of a WRITE begins with it */
	} r;

	if ((w->buf.flags & FUSE_BUF_IS_FD) || w->buf.size < sizeof r)
		return false;
	memcpy(&r, w->buf.mem, sizeof r);
	if (r.h.opcode != FUSE_READ && r.h.opcode != FUSE_WRITE)
		return false;
	w->in_a_row = r.fh == w->asker ? w->in_a_row + 1 : 0;
	w->asker = r.fh;
	return w->in_a_row >= SOLO_MIN;
}

static int worker_start(struct fs *fs);

/* More requests may be waiting than idle workers: one more, unless there are enough. */
static void maybe_grow(struct fs *fs)
{
	if (atomic_load_explicit(&fs->idle, memory_order_relaxed) == 0 &&
		!atomic_load_explicit(&fs->stopping, memory_order_relaxed)) {
		int rc = worker_start(fs);
		if (rc && rc != -EAGAIN)
			log_warn("fs", "no further thread: %s", strerror(-rc));
	}
}

/* A worker that is not needed for a while gives its buffer back: there may be many, a megabyte each. */
static void sleep_until_request(struct worker *w, struct epoll_event *ev)
{
	if (epoll_wait(w->fs->epfd, ev, 1, IDLE_MS) != 0)
		return;
	free(w->buf.mem);
	memset(&w->buf, 0, sizeof w->buf); /* libfuse makes another */
	buf_release(&w->scratch);
	epoll_wait(w->fs->epfd, ev, 1, -1);
}

static void serve(struct worker *w)
{
	struct fs *fs = w->fs;

	while (!fuse_session_exited(fs->se)) {
		int n = fuse_session_receive_buf(fs->se, &w->buf);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN) {
			if (atomic_load_explicit(&fs->stopping, memory_order_acquire))
				break;
			struct epoll_event ev;
			atomic_fetch_add_explicit(&fs->idle, 1, memory_order_relaxed);
			if (!spin_more(&w->spin)) {
				let_go(w);
				sleep_until_request(w, &ev);
				w->holds_device = true; /* or somebody who will arm it for all */
			}
			atomic_fetch_sub_explicit(&fs->idle, 1, memory_order_relaxed);
			continue;
		}
		if (n <= 0)
			break; /* unmounted, or the device is broken */
		spin_came(&w->spin);
		if (goes_on(w))
			hold(w);
		else
			let_go(w);
		maybe_grow(fs);
		timeslice_for(&w->bulk, (size_t)n);
		fuse_session_process_buf(fs->se, &w->buf);
		if (w->expects_more)
			spin_served(&w->spin);
		w->expects_more = false;
		if (w->scratch.cap > SCRATCH_KEEP)
			buf_release(&w->scratch);
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	uint64_t one = 1;

	pthread_setname_np(pthread_self(), "vecfs-fuse");
	timeslice_set(TIMESLICE_ASK_US);
	me = w;
	serve(w);
	/* Whatever ended it for one ends it for all. */
	fuse_session_exit(w->fs->se);
	atomic_store_explicit(&w->fs->stopping, true, memory_order_release);
	if (write(w->fs->stop_fd, &one, sizeof one) < 0 ||
		write(w->fs->done_fd, &one, sizeof one) < 0)
		log_warn("fs", "eventfd: %s", strerror(errno));
	return NULL;
}

/* All workers wait in one set: the one that slept last is the first to wake, its caches are warm. */
static int make_epoll(struct fs *fs)
{
	struct epoll_event dev = {.events = EPOLLIN | EPOLLONESHOT};
	struct epoll_event stop = {.events = EPOLLIN};

	fs->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (fs->epfd < 0 || epoll_ctl(fs->epfd, EPOLL_CTL_ADD, fuse_session_fd(fs->se), &dev) < 0 ||
		epoll_ctl(fs->epfd, EPOLL_CTL_ADD, fs->stop_fd, &stop) < 0)
		return -errno;
	return 0;
}

static void worker_free(struct worker *w)
{
	free(w->buf.mem);
	buf_release(&w->scratch);
	free(w);
}

/* -EAGAIN: there are enough. */
static int worker_start(struct fs *fs)
{
	vx_lock(&fs->lock);
	bool room = fs->n_workers < fs->max_workers;
	if (room)
		fs->n_workers++;
	vx_unlock(&fs->lock);
	if (!room)
		return -EAGAIN;

	struct worker *w = calloc(1, sizeof *w);
	int rc = -ENOMEM;
	if (w) {
		w->fs = fs;
		/* Listed before it runs: fs_stop joins what is listed, after growing has ended. */
		vx_lock(&fs->lock);
		rc = atomic_load(&fs->stopping) ? -EAGAIN
						: -pthread_create(&w->thread, NULL, worker_main, w);
		if (rc == 0) {
			w->next = fs->workers;
			fs->workers = w;
		}
		vx_unlock(&fs->lock);
	}
	if (rc < 0) {
		if (w)
			worker_free(w);
		vx_lock(&fs->lock);
		fs->n_workers--;
		vx_unlock(&fs->lock);
	}
	return rc;
}

/* --- mounting ---------------------------------------------------------------------------------- */
static int run_fusermount(const char *mountpoint)
{
	pid_t pid = fork();
	int st = 0;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mountpoint,
			(char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(st) && WEXITSTATUS(st) == 0 ? 0 : -EPERM;
}

/* What a killed daemon leaves answers ENOTCONN until it is unmounted. */
static int clear_stale(const char *mountpoint, struct vx_err *err)
{
	struct stat st;

	for (int i = 0; i < 8 && stat(mountpoint, &st) < 0; i++) {
		if (errno != ENOTCONN && errno != ECONNABORTED)
			return vx_err_set(err, -errno, "%s: %s", mountpoint, strerror(errno));
		/* It may also go by itself: its daemon has just ended. */
		if (umount2(mountpoint, MNT_DETACH) == 0 || run_fusermount(mountpoint) == 0)
			log_info("fs", "cleared a dead mount at %s", mountpoint);
	}
	if (stat(mountpoint, &st) < 0)
		return vx_err_set(err, -errno,
			errno == ENOTCONN ? "%s holds a dead mount that cannot be unmounted: %s"
					  : "%s: %s",
			mountpoint, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return vx_err_set(err, -ENOTDIR, "%s is not a directory", mountpoint);
	return 0;
}

static bool is_inside(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == 0 || path[n] == '/' || !strcmp(dir, "/"));
}

/* Whether a live vecfs is mounted at 'path' already. */
static bool is_vecfs(const char *path)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	bool found = false;

	while (f && getline(&line, &cap, f) > 0) {
		char where[PATH_MAX];
		const char *type = strstr(line, " - ");
		if (type && sscanf(line, "%*s %*s %*s %*s %4095s", where) == 1 &&
			!strcmp(where, path))
			found = !strncmp(type + 3, "fuse.vecfs ", 11);
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

static int check_places(struct fs *fs, const char *mountpoint, struct vx_err *err)
{
	char *data = NULL;
	int rc = clear_stale(mountpoint, err);

	if (rc)
		return rc;
	data = realpath(db_data_dir(fs->db), NULL);
	fs->mountpoint = realpath(mountpoint, NULL);
	if (!data || !fs->mountpoint)
		rc = vx_err_set(err, -errno, "%s: %s", data ? mountpoint : db_data_dir(fs->db),
			strerror(errno));
	else if (is_inside(data, fs->mountpoint))
		rc = vx_err_set(err, -EINVAL,
			"the data directory %s is inside the mount %s: the daemon would wait for "
			"itself",
			data, fs->mountpoint);
	else if (is_inside(fs->mountpoint, data))
		rc = vx_err_set(err, -EINVAL, "the mount %s is inside the data directory %s",
			fs->mountpoint, data);
	else if (is_vecfs(fs->mountpoint))
		rc = vx_err_set(err, -EBUSY, "a vecfs is mounted on %s already", fs->mountpoint);
	if (rc == 0) {
		fs->data_fd = open(data, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fs->data_fd < 0)
			rc = vx_err_set(err, -errno, "%s: %s", data, strerror(errno));
	}
	free(data);
	return rc;
}

/* libfuse prints its complaints on stderr; the log has a form of its own. */
__attribute__((format(printf, 2, 0))) static void fuse_log_line(
	enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[500];

	vsnprintf(line, sizeof line, fmt, ap);
	line[strcspn(line, "\n")] = 0;
	if (level <= FUSE_LOG_ERR)
		log_error("fuse", "%s", line);
	else
		log_debug("fuse", "%s", line);
}

static int mount_session(struct fs *fs, struct vx_err *err)
{
	char options[200];
	char *argv[] = {"vecfs", "-o", options, NULL, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(fs->o.debug ? 4 : 3, argv);

	if (fs->o.debug)
		argv[3] = "-d";
	else
		fuse_set_log_func(fuse_log_line);
	snprintf(options, sizeof options, "fsname=vecfs,subtype=vecfs,default_permissions%s",
		fs->o.allow_other ? ",allow_other" : "");
	if (access("/dev/fuse", F_OK) < 0)
		return vx_err_set(err, -ENODEV, "there is no /dev/fuse on this machine");
	fs->se = fuse_session_new(&args, &fs_ll_ops, sizeof fs_ll_ops, fs);
	fuse_opt_free_args(&args); /* libfuse has put a copy of its own into it */
	if (!fs->se)
		return vx_err_set(err, -ENOMEM, "libfuse refused the mount options");
	if (fuse_session_mount(fs->se, fs->mountpoint))
		return vx_err_set(err, -EPERM,
			"cannot mount on %s (permission for /dev/fuse and mount(2), or fusermount3 "
			"and user_allow_other)",
			fs->mountpoint);
	int fd = fuse_session_fd(fs->se);
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		int rc = vx_err_set(err, -errno, "/dev/fuse: %s", strerror(errno));
		fuse_session_unmount(fs->se);
		return rc;
	}
	return 0;
}

static void fs_free(struct fs *fs)
{
	if (fs->se)
		fuse_session_destroy(fs->se);
	fs_close_handles(fs);
	tree_release(fs);
	if (fs->data_fd >= 0)
		close(fs->data_fd);
	if (fs->stop_fd >= 0)
		close(fs->stop_fd);
	if (fs->done_fd >= 0)
		close(fs->done_fd);
	if (fs->epfd >= 0)
		close(fs->epfd);
	free(fs->socket);
	free(fs->mountpoint);
	vx_mutex_release(&fs->lock);
	free(fs);
}

int fs_start(struct db *db, const char *mountpoint, const struct fs_opts *opts, struct fs **ret,
	struct vx_err *err)
{
	struct fs *fs = calloc(1, sizeof *fs);
	int rc;

	if (!fs)
		return vx_err_set(err, -ENOMEM, "no memory");
	fs->db = db;
	fs->o = *opts;
	fs->o.dir_mode = opts->dir_mode ? opts->dir_mode : 0755;
	fs->o.file_mode = opts->file_mode ? opts->file_mode : 0644;
	fs->max_workers = VX_MAX(opts->threads ? opts->threads : WORKERS_DEFAULT, WORKERS_START);
	fs->started = time(NULL);
	fs->data_fd = fs->epfd = -1;
	vx_mutex_init(&fs->lock, LOCK_LEAF);
	fs->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fs->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fs->socket = opts->socket ? strdup(opts->socket) : NULL;
	if (fs->stop_fd < 0 || fs->done_fd < 0 || tree_init(&fs->tree) < 0 ||
		(opts->socket && !fs->socket)) {
		fs_free(fs);
		return vx_err_set(err, -ENOMEM, "no memory or no descriptors left");
	}
	rc = check_places(fs, mountpoint, err);
	if (rc == 0) {
		keep_prune(fs);
		rc = mount_session(fs, err);
	}
	if (rc) {
		fs_free(fs);
		return rc;
	}
	rc = make_epoll(fs);
	for (unsigned i = 0; i < WORKERS_START && !rc; i++)
		rc = worker_start(fs);
	if (rc) {
		fs_stop(fs);
		return vx_err_set(err, rc, "cannot start threads");
	}
	*ret = fs;
	return 0;
}

int fs_done_fd(const struct fs *fs)
{
	return fs->done_fd;
}

void fs_loop(struct fs *fs)
{
	struct pollfd p = {.fd = fs->done_fd, .events = POLLIN};

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

void fs_stop(struct fs *fs)
{
	uint64_t one = 1;

	if (!fs)
		return;
	atomic_store(&fs->stopping, true);
	if (write(fs->stop_fd, &one, sizeof one) < 0)
		log_warn("fs", "eventfd: %s", strerror(errno));
	for (;;) {
		vx_lock(&fs->lock);
		struct worker *w = fs->workers;
		if (w)
			fs->workers = w->next;
		vx_unlock(&fs->lock);
		if (!w)
			break;
		pthread_join(w->thread, NULL);
		worker_free(w);
	}
	fuse_session_unmount(fs->se);
	fs_free(fs);
}
