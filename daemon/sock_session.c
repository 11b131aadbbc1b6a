/* sock_session.c - one connection: read a request, do it, answer.
 *
 * A question is answered on this thread: recv, search, one send.  A put is handed to the database
 * and answered when it has been committed, so that a client with several batches under way
 * overlaps its own work, the log and the apply workers.  Completions come on the database's
 * threads; they only queue the slot and tick an eventfd.  While puts are under way this thread
 * polls the socket and that eventfd; otherwise it looks for the next request for a while (spin.h) and then
 * sleeps in recv(2).
 *
 *	in_flight == 0		recv (blocking)
 *	0 < in_flight < max	poll both
 *	in_flight == max	wait for completions alone: backpressure
 *
 * The end of a session waits for its puts: their slots lie in the session.
 */
#include "daemon/sock_i.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/timeslice.h"
#include "daemon/errlog.h"

#define SCRATCH_KEEP_BYTES (8u << 20)

int session_new(struct sock *sock, int fd, struct session **ret)
{
	struct session *s = calloc(1, sizeof *s);
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (!s)
		return -ENOMEM;
	s->arena = rpc_arena_new();
	s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!s->arena || s->done_fd < 0) {
		int rc = s->arena ? -errno : -ENOMEM;

		rpc_arena_free(s->arena);
		free(s);
		return rc;
	}
	s->sock = sock;
	s->fd = fd;
	s->done_tail = &s->done;
	vx_mutex_init(&s->done_lock, LOCK_QUEUE);
	for (unsigned i = 0; i < SOCK_PUTS_MAX; i++) {
		s->slots[i].s = s;
		s->slots[i].next = s->free;
		s->free = &s->slots[i];
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0) {
		s->pid = cred.pid;
		s->uid = cred.uid;
	}
	rpc_conn_init(&s->conn, fd);
	*ret = s;
	return 0;
}

void session_free(struct session *s)
{
	rpc_conn_release(&s->conn);
	rpc_arena_free(s->arena);
	rpc_rows_release(&s->rows);
	buf_release(&s->distances);
	buf_release(&s->counts);
	buf_release(&s->cut);
	for (size_t i = 0; i < s->n_answers_cap; i++)
		coll_answer_release(&s->answers[i]);
	free(s->answers);
	free(s->queries);
	free(s->rcs);
	snapshot_in_free(s->receiving);
	txn_free(s->txn);
	close(s->done_fd);
	vx_mutex_release(&s->done_lock);
	free(s);
}

bool session_stopping(void *session)
{
	struct session *s = session;

	return atomic_load_explicit(&s->sock->stopping, memory_order_relaxed);
}

bool session_stopping_or_hangup(void *session)
{
	struct session *s = session;
	struct pollfd p = {.fd = s->conn.fd, .events = POLLRDHUP};

	return session_stopping(s) || (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLRDHUP)));
}

/* --- answers ------------------------------------------------------------------- */
void session_answer(struct session *s, uint8_t type, uint32_t id, const ProtobufCMessage *m)
{
	int rc = rpc_conn_queue(&s->conn, type, id, m);

	if (rc)
		session_error(s, "answer", id, rc, NULL);
}

void session_error(
	struct session *s, const char *where, uint32_t id, int rc, const struct vx_err *err)
{
	Vecfs__Error m = VECFS__ERROR__INIT;

	m.code = (char *)(uintptr_t)vx_errno_name(rc);
	m.reason = (char *)(uintptr_t)(rc == -EMSGSIZE && !(err && err->msg[0])
					       ? "the answer is too large: ask for less at once"
					       : vx_err_msg(err, rc));
	atomic_fetch_add_explicit(&s->sock->failed, 1, memory_order_relaxed);
	if (where)
		errlog_add(where, rc, "%s", m.reason);
	/* Without memory for this the client sees the connection end. */
	if (rpc_conn_queue(&s->conn, RPC_ERROR, id, &m.base))
		(void)shutdown(s->conn.fd, SHUT_RDWR);
}

void session_write_message(const struct batch_result *res, Vecfs__WriteAnswer *ret)
{
	vecfs__write_answer__init(ret);
	ret->inserted = res->inserted;
	ret->updated = res->updated;
	ret->deleted = res->deleted;
	ret->missing = res->missing;
	ret->conflicts = res->conflicts;
	ret->duplicates = res->duplicates;
	ret->shard = res->shard;
	ret->index = res->index;
}

void session_write_answer(struct session *s, uint8_t type, uint32_t id,
	const struct batch_result *res, Vecfs__RowError **errors, size_t n_errors)
{
	Vecfs__WriteAnswer m;

	session_write_message(res, &m);
	m.errors = errors;
	m.n_errors = n_errors;
	session_answer(s, type | RPC_ANSWER, id, &m.base);
}

/* --- puts under way --------------------------------------------------------------- */
static void answer_slot(struct session *s, struct put_slot *p)
{
	struct batch_result sum = p->sum;

	if (p->hidden)
		txn_part_done(s, p->status, p->hidden);
	if (p->status) {
		session_error(s, "put", p->id, p->status, NULL);
		return;
	}
	sum.inserted += p->res.inserted;
	sum.updated += p->res.updated;
	sum.deleted += p->res.deleted;
	sum.missing += p->res.missing;
	sum.conflicts += p->res.conflicts;
	sum.duplicates += p->res.duplicates;
	sum.shard = p->res.shard;
	sum.index = p->res.index;
	session_write_answer(s, RPC_PUT, p->id, &sum, NULL, 0);
}

/* Answers what is done; waits for at least one when 'wait'. */
static int collect(struct session *s, bool wait)
{
	struct put_slot *list;
	uint64_t ticks;

	while (wait) {
		struct pollfd p = {.fd = s->done_fd, .events = POLLIN};

		if (poll(&p, 1, -1) == 1)
			break;
	}
	(void)!read(s->done_fd, &ticks, sizeof ticks);
	vx_lock(&s->done_lock);
	list = s->done;
	s->done = NULL;
	s->done_tail = &s->done;
	vx_unlock(&s->done_lock);
	if (!list)
		return 0;
	while (list) {
		struct put_slot *p = list;

		list = p->next;
		answer_slot(s, p);
		p->next = s->free;
		s->free = p;
		s->in_flight--;
	}
	return rpc_conn_flush(&s->conn);
}

void session_drain(struct session *s)
{
	while (s->in_flight)
		(void)!collect(s, true);
}

/* The next request: 1, 0 at the end, or -errno.  Answers puts meanwhile. */
static int next_frame(struct session *s, struct rpc_frame *f, struct vx_err *err)
{
	while (s->in_flight) {
		int rc = collect(s, s->in_flight == SOCK_PUTS_MAX);

		if (rc)
			return vx_err_set(err, rc, "the client is gone");
		if (s->in_flight == SOCK_PUTS_MAX)
			continue;
		rc = rpc_conn_try_recv(&s->conn, f, err);
		if (rc != -EAGAIN)
			return rc;
		struct pollfd p[2] = {{s->conn.fd, POLLIN, 0}, {s->done_fd, POLLIN, 0}};
		(void)poll(p, s->in_flight ? 2 : 1, -1);
	}
	/* Who has just had an answer may ask again at once. */
	do {
		int rc = rpc_conn_try_recv(&s->conn, f, err);
		if (rc != -EAGAIN)
			return rc;
	} while (spin_more(&s->spin));
	return rpc_conn_recv(&s->conn, f, err);
}

/* --- requests ------------------------------------------------------------------------- */
static const char *const features[] = {"source"};

static int hello(struct session *s, const struct rpc_frame *f)
{
	Vecfs__Welcome w = VECFS__WELCOME__INIT;
	char *have[VX_ARRAY_SIZE(features)];
	const Vecfs__Hello *m;
	struct vx_err err = VX_ERR_INIT;

	if (f->type != RPC_HELLO) {
		vx_err_set(&err, -EPROTO, "the first frame must be a hello, not '%s'",
			rpc_type_name(f->type));
		session_error(s, "hello", f->id, -EPROTO, &err);
		return -EPROTO;
	}
	if (!op_unpack(s, f, &vecfs__hello__descriptor, &m))
		return -EPROTO;
	if (m->protocol_min > RPC_PROTOCOL || m->protocol_max < RPC_PROTOCOL) {
		vx_err_set(&err, -EPROTONOSUPPORT,
			"this daemon speaks protocol %u, the client %u to %u", RPC_PROTOCOL,
			m->protocol_min, m->protocol_max);
		session_error(s, "hello", f->id, -EPROTONOSUPPORT, &err);
		return -EPROTONOSUPPORT;
	}
	for (size_t i = 0; i < VX_ARRAY_SIZE(features); i++)
		for (size_t j = 0; j < m->n_features; j++)
			if (strcmp(features[i], m->features[j]) == 0) {
				have[w.n_features++] = (char *)(uintptr_t)features[i];
				break;
			}
	w.features = have;
	w.protocol = RPC_PROTOCOL;
	w.server = (char *)(uintptr_t) "vecfsd " VECFS_VERSION;
	w.shards = db_shards(s->sock->db);
	snprintf(s->client, sizeof s->client, "%.60s", m->client);
	s->greeted = true;
	log_debug("socket", "connected: %s, pid %d, uid %u", s->client, (int)s->pid,
		(unsigned)s->uid);
	session_answer(s, RPC_HELLO | RPC_ANSWER, f->id, &w.base);
	return 0;
}

static int serve(struct session *s, const struct rpc_frame *f)
{
	struct vx_err err = VX_ERR_INIT;

	atomic_fetch_add_explicit(&s->sock->requests, 1, memory_order_relaxed);
	timeslice_for(&s->bulk, f->len);
	if (!s->greeted)
		return hello(s, f);
	switch (f->type) {
	case RPC_PUT:
		return op_put(s, f);
	case RPC_DELETE:
		return op_delete(s, f);
	case RPC_GET:
		return op_get(s, f);
	case RPC_SCAN:
		return op_scan(s, f);
	case RPC_QUERY:
		return op_query(s, f);
	case RPC_CREATE:
	case RPC_DROP:
	case RPC_LIST:
	case RPC_STAT:
	case RPC_CONFIG:
	case RPC_INDEX:
	case RPC_RECALL:
	case RPC_VERIFY:
		return op_admin(s, f);
	case RPC_SNAP:
		return op_snap(s, f);
	case RPC_TXN:
		return op_txn(s, f);
	default:
		/* A newer client: the connection itself is sound. */
		vx_err_set(&err, -EOPNOTSUPP, "request type %u is not known here", f->type);
		session_error(s, "socket", f->id, -EOPNOTSUPP, &err);
		return 0;
	}
}

/* What one large request needed is not kept for the life of the connection. */
static void trim(struct session *s)
{
	if (rpc_rows_bytes(&s->rows) > SCRATCH_KEEP_BYTES)
		rpc_rows_release(&s->rows);
	if (s->distances.cap > SCRATCH_KEEP_BYTES)
		buf_release(&s->distances);
	if (s->n_answers_cap > 1024) {
		for (size_t i = 0; i < s->n_answers_cap; i++)
			coll_answer_release(&s->answers[i]);
		free(s->answers);
		s->answers = NULL;
		s->n_answers_cap = 0;
	}
}

void session_run(struct session *s)
{
	struct vx_err err = VX_ERR_INIT;
	struct rpc_frame f;
	int rc;

	for (;;) {
		rc = next_frame(s, &f, &err);
		if (rc <= 0)
			break;
		spin_came(&s->spin);
		rc = serve(s, &f);
		if (rpc_conn_flush(&s->conn) || rc)
			break;
		if (f.type == RPC_QUERY || f.type == RPC_GET)
			spin_served(&s->spin);
		rpc_arena_reset(s->arena);
		trim(s);
	}
	if (rc == -EBADMSG || rc == -EMSGSIZE) {
		session_error(s, "socket", 0, rc, &err);
		(void)!rpc_conn_flush(&s->conn);
	} else if (rc < 0) {
		log_debug(
			"socket", "%s (pid %d): %s", s->client, (int)s->pid, vx_err_msg(&err, rc));
	}
	session_drain(s);
}
