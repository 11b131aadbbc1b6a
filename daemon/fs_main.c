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
 * A lone asker's raw vector is searched for after the reply to its write.  To wake the asker on a core that has
 * gone to sleep takes as long as the search does, and so both are done at once: the asker's read comes while the
 * search goes on, is taken by another worker, on the asker's core, and waits for the file's lock without
 * sleeping.  Neither core is idle at any time, so nobody has to be woken from there.
 *
 * Stopping: the stop descriptor becomes readable; each worker serves what is queued, then ends; the last
 * one out makes done_fd readable.  Unmounting by hand ends the session the same way.
 */
#include "daemon/fs_i.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/fs_mount.h"
#include "daemon/spin.h"
#include "base/timeslice.h"

/* Newer than the headers of some systems. */
#define HAS_RESEND_BIT 39 /* FUSE_HAS_RESEND */
#define NOTIFY_RESEND  7  /* FUSE_NOTIFY_RESEND */
#ifndef FUSE_INIT_EXT
#define FUSE_INIT_EXT (1u << 30)
#endif

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

void fs_expect_nothing(void)
{
	me->expects_more = false;
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

/* Answers the request in w->buf. */
static void process(struct worker *w)
{
	struct fs *fs = w->fs;

	maybe_grow(fs);
	timeslice_for(&w->bulk, w->buf.size);
	again_begin(fs, w->buf.mem, w->buf.size);
	fuse_session_process_buf(fs->se, &w->buf);
	again_end(fs);
	if (w->expects_more)
		spin_served(&w->spin);
	w->expects_more = false;
	if (w->scratch.cap > SCRATCH_KEEP)
		buf_release(&w->scratch);
}

/* Whoever takes over is not up before it has looked for the kernel's greeting; what it found instead may
 * last, and is nobody's to wait for. */
static void serve_first(struct worker *w)
{
	struct fs *fs = w->fs;

	vx_lock(&fs->lock);
	w->buf = fs->first;
	memset(&fs->first, 0, sizeof fs->first);
	vx_unlock(&fs->lock);
	if (w->buf.mem)
		process(w);
}

static void serve(struct worker *w)
{
	struct fs *fs = w->fs;

	serve_first(w);
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
		process(w);
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
	again_leave(w->fs);
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

/* --- the session --------------------------------------------------------------------------------- */
static int check_places(struct fs *fs, const char *mountpoint, struct vx_err *err)
{
	int rc = 0;

	if (!fs->carry)
		rc = mount_check(db_data_dir(fs->db), mountpoint, &fs->mountpoint, err);
	else if (!(fs->mountpoint = strdup(
			   mountpoint))) /* it was checked; looking would wait for us */
		rc = -ENOMEM;
	if (rc)
		return rc;
	fs->data_fd = open(db_data_dir(fs->db), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fs->data_fd < 0)
		rc = vx_err_set(err, -errno, "%s: %s", db_data_dir(fs->db), strerror(errno));
	return rc;
}

static int mount_fs(struct fs *fs, struct vx_err *err)
{
	const struct mount_opts mo = {.allow_other = fs->o.allow_other, .debug = fs->o.debug};
	char handed[32];
	int rc = mount_session_new(&mo, &fs_ll_ops, sizeof fs_ll_ops, fs, &fs->se, err);

	if (rc)
		return rc;
	snprintf(handed, sizeof handed, "/dev/fd/%d", fs->o.fuse_fd);
	return mount_session(fs->se, fs->carry ? handed : fs->mountpoint, err);
}

/* The kernel greets once.  A further worker's session hears the greeting from us, under a number that nobody
 * waits for. */
static void greet(struct fs *fs)
{
	uint8_t copy[CARRY_INIT_MAX];
	struct fuse_in_header h;
	size_t n;
	const void *p = carry_init(fs->carry, &n);
	struct fuse_buf b = {.size = n, .mem = copy};

	if (!p || n < sizeof h)
		return;
	memcpy(copy, p, n);
	memcpy(&h, copy, sizeof h);
	h.unique = UINT64_MAX - 15;
	memcpy(copy, &h, sizeof h);
	fuse_session_process_buf(fs->se, &b);
}

static bool says_resend(const void *init, size_t n)
{
	struct fuse_init_in in;

	if (n < sizeof(struct fuse_in_header) + sizeof in)
		return false;
	memcpy(&in, (const uint8_t *)init + sizeof(struct fuse_in_header), sizeof in);
	return in.flags & FUSE_INIT_EXT && in.flags2 & 1u << (HAS_RESEND_BIT - 32);
}

/* What was read and not answered comes again. */
static int ask_for_resend(struct fs *fs, struct vx_err *err)
{
	struct fuse_out_header h = {.len = sizeof h, .error = NOTIFY_RESEND, .unique = 0};

	if (write(fuse_session_fd(fs->se), &h, sizeof h) != (ssize_t)sizeof h)
		return vx_err_set(err, -errno,
			"the kernel does not repeat what the last worker left: %s",
			strerror(errno));
	return 0;
}

/* Until the session is initialised one thread reads.  The kernel's own greeting comes first, or again if nobody
 * answered it; if none comes, a worker before us did. */
static int initialise(struct fs *fs, struct vx_err *err)
{
	struct fuse_buf b = {.mem = NULL};
	struct fuse_in_header h = {.opcode = 0};
	size_t n_init;
	int rc = 0, n;

	if (carry_generation(fs->carry) > 1)
		rc = ask_for_resend(fs, err);
	if (rc)
		return rc;
	do {
		struct pollfd p = {fuse_session_fd(fs->se), POLLIN, 0};

		if (!carry_init(fs->carry, &n_init))
			(void)poll(&p, 1, -1);
		n = fuse_session_receive_buf(fs->se, &b);
	} while (n == -EINTR || (n == -EAGAIN && !carry_init(fs->carry, &n_init)));
	if (n > 0 && (size_t)n >= sizeof h)
		memcpy(&h, b.mem, sizeof h);
	if (h.opcode == FUSE_INIT)
		rc = carry_set_init(fs->carry, b.mem, (size_t)n);
	else
		greet(fs);
	if (rc == 0 && n > 0 && h.opcode != FUSE_INIT) {
		fs->first = b;
		b.mem = NULL;
	} else if (rc == 0 && n > 0) {
		struct worker w = {.fs = fs};
		me = &w;
		again_begin(fs, b.mem, (size_t)n);
		fuse_session_process_buf(fs->se, &b);
		again_end(fs);
		again_leave(fs);
		me = NULL;
		buf_release(&w.scratch);
	}
	free(b.mem);
	if (n <= 0 && n != -EAGAIN) /* unmounted meanwhile: the threads find that out, too */
		log_warn("fs", "the mount is gone: %s", strerror(-n));
	const void *init = carry_init(fs->carry, &n_init);
	fs->resends = init && says_resend(init, n_init);
	return rc;
}

/* The region of open files, and what is in it. */
static int take_handed(struct fs *fs, struct vx_err *err)
{
	int rc = carry_open(fs->o.carry_fd, &fs->carry, err);

	fs->tree.carry = fs->carry;
	return rc;
}

bool fs_resends(const struct fs *fs)
{
	return fs->resends;
}

static void fs_free(struct fs *fs)
{
	fs->keeps = fs->carry != NULL;
	if (fs->se)
		fuse_session_destroy(fs->se);
	fs_close_handles(fs);
	free(fs->first.mem); /* it comes again */
	tree_release(fs);
	carry_free(fs->carry);
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
	rc = fs->o.handed ? take_handed(fs, err) : 0;
	if (rc == 0)
		rc = check_places(fs, mountpoint, err);
	if (rc == 0) {
		keep_prune(fs);
		if (!fs->carry || carry_generation(fs->carry) == 1)
			content_clear(fs);
		rc = mount_fs(fs, err);
	}
	if (rc == 0 && fs->carry)
		rc = fs_take_over(fs, err);
	if (rc == 0 && fs->carry)
		rc = initialise(fs, err);
	if (rc) {
		fs_free(fs);
		return rc;
	}
	rc = make_epoll(fs);
	for (unsigned i = 0; i < WORKERS_START && !rc; i++)
		rc = worker_start(fs);
	if (rc) {
		fs_stop(fs, true);
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

void fs_stop(struct fs *fs, bool goes_on)
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
	if (!fs->carry)
		fuse_session_unmount(fs->se);
	else if (!goes_on)
		content_clear(fs);
	fs_free(fs);
}
