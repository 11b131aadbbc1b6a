/* sock.c - the listener: accepts, bounds, and ends the sessions.
 *
 * One thread accepts; every connection gets a thread of its own (sock_session.c), because a
 * request blocks in the database anyway and a thread that sleeps in recv(2) answers a question
 * sooner than anything that has to be told first.  Sessions are detached; 'sessions' under 'lock'
 * lists them, so that the stop can shut their descriptors and wait until the list is empty.
 *
 * Lock order: sock.lock (LOCK_SESSION) is held for list work only.
 */
#include "daemon/sock_i.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/errlog.h"
#include "base/timeslice.h"

#define STOP_NS        (5ull * 1000000000)
#define STACK_BYTES    (512u << 10)
#define FD_SHORTAGE_MS 200

/* One Error frame for a connection that is not taken. */
static void refuse(struct sock *s, int fd, int rc, const char *reason)
{
	Vecfs__Error m = VECFS__ERROR__INIT;
	struct buf b = BUF_INIT;

	m.code = (char *)(uintptr_t)vx_errno_name(rc);
	m.reason = (char *)(uintptr_t)reason;
	if (rpc_frame_append(&b, RPC_ERROR, 0, &m.base) == 0)
		(void)!send(fd, b.data, b.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	buf_release(&b);
	close(fd);
	atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
	errlog_add("socket", rc, "%s", reason);
}

static void session_unlist(struct session *ses)
{
	struct sock *s = ses->sock;

	vx_lock(&s->lock);
	*ses->prev = ses->next;
	if (ses->next)
		ses->next->prev = ses->prev;
	/* From here on sock_stop no longer looks at our descriptor. */
	vx_unlock(&s->lock);
	session_free(ses);
	vx_lock(&s->lock);
	s->n_sessions--;
	vx_cond_broadcast(&s->gone);
	vx_unlock(&s->lock);
}

static void *session_thread(void *arg)
{
	struct session *ses = arg;

	timeslice_set(TIMESLICE_ASK_US);
	session_run(ses);
	session_unlist(ses);
	return NULL;
}

static int start_thread(struct session *ses)
{
	pthread_attr_t attr;
	pthread_t t;
	int rc = pthread_attr_init(&attr);

	if (rc)
		return -rc;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* The sanitizers' frames are large; theirs is the default size. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(VX_DEBUG)
	pthread_attr_setstacksize(&attr, STACK_BYTES);
#endif
	rc = pthread_create(&t, &attr, session_thread, ses);
	pthread_attr_destroy(&attr);
	return -rc;
}

static void take(struct sock *s, int fd)
{
	struct session *ses;

	vx_lock(&s->lock);
	bool full = s->n_sessions >= SOCK_SESSIONS_MAX;
	vx_unlock(&s->lock);
	if (full) {
		refuse(s, fd, -EAGAIN, "256 tools are connected already; try again later");
		return;
	}
	int rc = session_new(s, fd, &ses);
	if (rc) {
		refuse(s, fd, rc, "no memory for another connection");
		return;
	}
	vx_lock(&s->lock);
	ses->next = s->sessions;
	ses->prev = &s->sessions;
	if (ses->next)
		ses->next->prev = &ses->next;
	s->sessions = ses;
	s->n_sessions++;
	vx_unlock(&s->lock);
	/* Counted before it can answer: who has had an answer finds itself in the statistics. */
	atomic_fetch_add_explicit(&s->accepted, 1, memory_order_relaxed);
	rc = start_thread(ses);
	if (rc) {
		int copy = dup(fd);

		atomic_fetch_sub_explicit(&s->accepted, 1, memory_order_relaxed);
		session_unlist(ses);
		if (copy >= 0)
			refuse(s, copy, -EAGAIN, "no thread for another connection");
		return;
	}
}

static void *accept_thread(void *arg)
{
	struct sock *s = arg;

	for (;;) {
		struct pollfd p[2] = {{s->stop_fd, POLLIN, 0}, {s->listen_fd, POLLIN, 0}};

		if (poll(p, 2, -1) < 0 && errno != EINTR) {
			log_error("socket", "poll: %s", strerror(errno));
			return NULL;
		}
		if (p[0].revents)
			return NULL;
		if (!p[1].revents)
			continue;
		int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			take(s, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			   errno == ENOMEM) {
			/* The connection stays in the backlog until a descriptor is free again. */
			log_warn("socket", "accept: %s", strerror(errno));
			(void)poll(p, 1, FD_SHORTAGE_MS);
		}
	}
}

static void remember_name(struct sock *s)
{
	struct stat st;

	if (lstat(s->path, &st) == 0) {
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
}

static void remove_name(struct sock *s)
{
	struct stat st;

	if (s->ino && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		(void)unlink(s->path);
}

/* /run/vecfs does not exist before the first daemon of a boot. */
void sock_make_parent(const char *path)
{
	char *dir = strdup(path), *slash = dir ? strrchr(dir, '/') : NULL;

	if (slash && slash != dir) {
		*slash = 0;
		(void)mkdir(dir, 0755);
	}
	free(dir);
}

int sock_default_path(struct buf *ret)
{
	return rpc_default_socket(ret);
}

int sock_start(struct db *db, const char *path, struct sock **ret, struct vx_err *err)
{
	return sock_start_on(db, -1, path, ret, err);
}

int sock_start_on(
	struct db *db, int listen_fd, const char *path, struct sock **ret, struct vx_err *err)
{
	struct buf place = BUF_INIT;
	struct sock *s = calloc(1, sizeof *s);
	int rc;

	if (!s)
		return -ENOMEM;
	s->db = db;
	s->listen_fd = -1;
	s->stop_fd = -1;
	vx_mutex_init(&s->lock, LOCK_SESSION);
	vx_cond_init(&s->gone);
	if (!path) {
		rc = rpc_default_socket(&place);
		if (rc) {
			vx_err_set(err, rc, "there is no default place for the socket");
			goto out;
		}
		path = (const char *)place.data;
	}
	s->path = strdup(path);
	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (!s->path || s->stop_fd < 0) {
		rc = s->path ? -errno : -ENOMEM;
		goto out;
	}
	if (listen_fd < 0) {
		sock_make_parent(path);
		rc = rpc_unix_listen(path, &s->listen_fd, err);
		if (rc)
			goto out;
		remember_name(s);
	} else {
		s->listen_fd = listen_fd;
	}
	rc = -pthread_create(&s->thread, NULL, accept_thread, s);
	if (rc) {
		remove_name(s);
		if (listen_fd >= 0)
			s->listen_fd = -1; /* still the caller's */
		goto out;
	}
	log_info("socket", "listening on %s", s->path);
	*ret = s;
out:
	buf_release(&place);
	if (rc) {
		if (s->listen_fd >= 0)
			close(s->listen_fd);
		if (s->stop_fd >= 0)
			close(s->stop_fd);
		vx_cond_release(&s->gone);
		vx_mutex_release(&s->lock);
		free(s->path);
		free(s);
	}
	return rc;
}

static void shut_all(struct sock *s, int how)
{
	for (struct session *ses = s->sessions; ses; ses = ses->next)
		(void)shutdown(ses->fd, how);
}

void sock_stop(struct sock *s)
{
	uint64_t one = 1;

	if (!s)
		return;
	atomic_store_explicit(&s->stopping, true, memory_order_relaxed);
	(void)!write(s->stop_fd, &one, sizeof one);
	pthread_join(s->thread, NULL);
	remove_name(s);
	close(s->listen_fd);

	/* An end of input lets a session answer what it has read and leave. */
	uint64_t deadline = clock_mono_ns() + STOP_NS;
	vx_lock(&s->lock);
	shut_all(s, SHUT_RD);
	while (s->n_sessions && vx_cond_wait_until(&s->gone, &s->lock, deadline) == 0)
		;
	shut_all(s, SHUT_RDWR);
	while (s->n_sessions)
		vx_cond_wait(&s->gone, &s->lock);
	vx_unlock(&s->lock);
	close(s->stop_fd);
	vx_cond_release(&s->gone);
	vx_mutex_release(&s->lock);
	free(s->path);
	free(s);
}

const char *sock_path(const struct sock *s)
{
	return s->path;
}

void sock_stat(struct sock *s, struct sock_stats *ret)
{
	ret->accepted = atomic_load_explicit(&s->accepted, memory_order_relaxed);
	ret->refused = atomic_load_explicit(&s->refused, memory_order_relaxed);
	ret->requests = atomic_load_explicit(&s->requests, memory_order_relaxed);
	ret->failed = atomic_load_explicit(&s->failed, memory_order_relaxed);
	vx_lock(&s->lock);
	ret->sessions = s->n_sessions;
	vx_unlock(&s->lock);
}
