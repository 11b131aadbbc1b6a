/* conn.c - frames over a stream socket.
 *
 * Reading takes as much as the kernel has in one call, so that small frames cost one system call
 * together and a large one is read straight into place.  Writing gathers frames until the flush:
 * one write per answer.  fill() and drain() are the only functions that touch the descriptor.
 */
#include "rpc/rpc.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (64u << 10)
#define KEEP_BYTES (4u << 20) /* larger buffers go back once they are empty */
/* How much of the peer's answers may pile up while it does not take our requests. */
#define BACKLOG_MAX (2u * RPC_PAYLOAD_MAX)

void rpc_conn_init(struct rpc_conn *c, int fd)
{
	memset(c, 0, sizeof *c);
	c->fd = fd;
}

void rpc_conn_release(struct rpc_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	buf_release(&c->in);
	buf_release(&c->out);
	c->in_start = 0;
}

static int wait_for(int fd, short events, short *ret)
{
	struct pollfd p = {.fd = fd, .events = events};

	while (poll(&p, 1, -1) < 0)
		if (errno != EINTR)
			return -errno;
	*ret = p.revents;
	return 0;
}

/* Reads once, at most what fits behind 'want' more bytes.  Bytes read, 0 at the end. */
static ssize_t fill(struct rpc_conn *c, size_t want, int flags)
{
	if (c->in_start == c->in.len) {
		c->in_start = c->in.len = 0;
		if (c->in.cap > KEEP_BYTES && want < KEEP_BYTES)
			buf_release(&c->in);
	} else if (c->in_start && c->in.cap - c->in.len < VX_MAX(want, READ_BYTES)) {
		buf_consume(&c->in, c->in_start);
		c->in_start = 0;
	}
	int rc = buf_reserve(&c->in, VX_MAX(want, READ_BYTES));
	if (rc)
		return rc;
	for (;;) {
		ssize_t n = recv(c->fd, c->in.data + c->in.len, c->in.cap - c->in.len, flags);

		if (n >= 0) {
			c->in.len += (size_t)n;
			return n;
		}
		if (errno != EINTR)
			return -errno;
	}
}

/* Sends once. */
static ssize_t drain(struct rpc_conn *c, size_t from, int flags)
{
	for (;;) {
		ssize_t n = send(
			c->fd, c->out.data + from, c->out.len - from, flags | MSG_NOSIGNAL);

		if (n >= 0)
			return n;
		if (errno != EINTR)
			return -errno;
	}
}

int rpc_conn_queue(struct rpc_conn *c, uint8_t type, uint32_t id, const ProtobufCMessage *m)
{
	return rpc_frame_append(&c->out, type, id, m);
}

int rpc_conn_flush(struct rpc_conn *c)
{
	size_t done = 0;
	bool ended = false; /* the peer sends no more; it may still be reading */
	int rc = 0;

	while (done < c->out.len && rc == 0) {
		ssize_t n = drain(c, done, MSG_DONTWAIT);
		short ready = 0;

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (n < 0 && n != -EAGAIN && n != -EWOULDBLOCK) {
			rc = (int)n;
			break;
		}
		bool room = !ended && c->in.len - c->in_start < BACKLOG_MAX;
		rc = wait_for(c->fd, (short)(POLLOUT | (room ? POLLIN : 0)), &ready);
		if (rc == 0 && room && (ready & POLLIN)) {
			n = fill(c, 0, MSG_DONTWAIT);
			ended = n == 0;
			if (n < 0 && n != -EAGAIN)
				rc = (int)n;
		}
	}
	c->out.len = 0;
	if (c->out.cap > KEEP_BYTES)
		buf_release(&c->out);
	return rc;
}

static int receive(struct rpc_conn *c, struct rpc_frame *ret, int flags, struct vx_err *err)
{
	for (;;) {
		size_t have = c->in.len - c->in_start, total = 0;
		int rc = rpc_frame_parse(
			have ? c->in.data + c->in_start : NULL, have, ret, &total, err);

		if (rc == 1)
			c->in_start += total;
		if (rc)
			return rc;
		ssize_t n = fill(c, total - have, flags);
		if (n == 0 && have == 0)
			return 0;
		if (n == 0)
			return vx_err_set(err, -ECONNRESET, "the connection ended within a frame");
		if (n == -EAGAIN)
			return (int)n; /* asked for; no reason to give */
		if (n < 0)
			return vx_err_set(
				err, (int)n, "the connection failed: %s", strerror((int)-n));
	}
}

int rpc_conn_recv(struct rpc_conn *c, struct rpc_frame *ret, struct vx_err *err)
{
	return receive(c, ret, 0, err);
}

int rpc_conn_try_recv(struct rpc_conn *c, struct rpc_frame *ret, struct vx_err *err)
{
	return receive(c, ret, MSG_DONTWAIT, err);
}
