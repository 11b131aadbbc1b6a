/* sock.h - the socket front: the tools' way in.
 *
 *	sock_start(db, "/run/vecfs/vecfs.sock", &s, &err)
 *	...
 *	sock_stop(s)
 *
 * Listens on a unix socket (mode 0600) and serves the protocol of docs/format-wire.md, one thread
 * per connection, at most SOCK_SESSIONS_MAX of them.  Refusals are answered with an errno and a
 * reason, and leave a line in the error log.
 *
 * Threads: start and stop by the owner; the sessions' threads are the front's own.
 */
#ifndef VECFS_DAEMON_SOCK_H
#define VECFS_DAEMON_SOCK_H

#include "base/base.h"
#include "base/bytes.h"
#include "base/err.h"

#define SOCK_SESSIONS_MAX 256u

struct db;
struct sock;

/* Where the socket lies unless somebody says otherwise, and where the tools look: rpc_default_socket(). */
VX_MUST_CHECK
int sock_default_path(struct buf *ret);

/* Makes the last directory of 'path'. */
void sock_make_parent(const char *path);

/* 'db' is borrowed until sock_stop.  'path' NULL: rpc_default_socket().  A missing last directory of 'path' is made (0755).  A stale
 * socket is replaced.  -EADDRINUSE: a live daemon has it; -EEXIST: a file that is no socket. */
VX_MUST_CHECK
int sock_start(struct db *db, const char *path, struct sock **ret, struct vx_err *err);
/* The same on a socket that listens already at 'path'; takes the descriptor on 0.  The name stays when
 * it is stopped. */
VX_MUST_CHECK
int sock_start_on(
	struct db *db, int listen_fd, const char *path, struct sock **ret, struct vx_err *err);

/* No new connections; requests that were read are answered; then every connection is closed and the
 * socket's name removed.  A peer that does not take its answers is cut off after 5 s.  NULL is
 * fine. */
void sock_stop(struct sock *s);

struct sock_stats {
	unsigned sessions;          /* open now */
	uint64_t accepted, refused; /* connections */
	uint64_t requests, failed;  /* requests answered, those with an error among them */
};
const char *sock_path(const struct sock *s);
void sock_stat(struct sock *s, struct sock_stats *ret);

#endif
