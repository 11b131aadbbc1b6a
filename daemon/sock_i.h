/* sock_i.h - what the files of the socket front share: a connection and its requests. */
#ifndef VECFS_DAEMON_SOCK_I_H
#define VECFS_DAEMON_SOCK_I_H

#include <stdatomic.h>
#include <sys/types.h>

#include "base/lock.h"
#include "cluster/db.h"
#include "cluster/snapshot.h"
#include "daemon/sock.h"
#include "daemon/spin.h"
#include "rpc/rpc.h"

#define SOCK_PUTS_MAX    16u        /* batches of one connection being committed */
#define SOCK_QUERIES_MAX 65536u     /* questions in one request */
#define SOCK_HITS_MAX    (4u << 20) /* answers of one request: questions times k */

struct sock {
	struct db *db; /* immutable */
	char *path;
	int listen_fd, stop_fd;
	dev_t dev; /* of the socket's name: only our own is removed at the end */
	ino_t ino;
	pthread_t thread; /* accepts */

	_Atomic bool stopping; /* relaxed: a hint for long requests */
	_Atomic uint64_t accepted, refused, requests, failed; /* relaxed counters */

	struct vx_mutex lock;     /* LOCK_SESSION */
	struct vx_cond gone;      /* a session ended */
	struct session *sessions; /* guarded by lock */
	unsigned n_sessions;      /* guarded by lock */
};

/* A put that db has and will report on another thread. */
struct put_slot {
	struct session *s;
	struct put_slot *next; /* in 'free' or 'done' */
	uint32_t id;
	uint32_t hidden;         /* records in it that are a part of the session's transaction */
	struct batch_result sum; /* of the parts committed before this one */
	int status;
	struct batch_result res;
};

struct session {
	struct sock *sock;
	struct session *next, **prev; /* sock->lock */
	int fd;                       /* conn's; for shutdown(2) under sock->lock */

	/* The session's thread only. */
	struct rpc_conn conn;
	struct rpc_arena *arena; /* of the request in hand */
	struct spin spin;        /* looking for the next question */
	bool greeted;
	bool bulk; /* see timeslice_for */
	char client[64];
	pid_t pid;
	uid_t uid;
	struct put_slot slots[SOCK_PUTS_MAX], *free;
	unsigned in_flight;
	struct rpc_rows rows;              /* answers under construction */
	struct buf distances, counts, cut; /* the same, of queries */
	struct coll_query *queries;
	struct coll_answer *answers;
	int *rcs;
	struct snap_in *receiving; /* a snapshot that is coming in; NULL: none */
	struct txn *txn;           /* what its puts are parts of; NULL: none is open */
	uint32_t txn_cid;
	uint64_t txn_rows; /* hidden in it so far */
	int txn_rc;        /* why it cannot be committed any more */
	size_t n_queries_cap, n_answers_cap;

	/* Between db's threads and the session's. */
	struct vx_mutex done_lock;          /* LOCK_QUEUE */
	struct put_slot *done, **done_tail; /* guarded by done_lock; in order of completion */
	int done_fd;                        /* eventfd: something is in 'done' */
};

/* sock_session.c: serves a connection until it ends. */
int session_new(struct sock *sock, int fd, struct session **ret);
void session_free(struct session *s);
void session_run(struct session *s);
/* Waits for the puts under way and answers them. */
void session_drain(struct session *s);

/* Answers.  The frame is queued; the session's loop flushes.  'where' NULL: no line in the error log. */
void session_answer(struct session *s, uint8_t type, uint32_t id, const ProtobufCMessage *m);
void session_error(
	struct session *s, const char *where, uint32_t id, int rc, const struct vx_err *err);
void session_write_message(const struct batch_result *res, Vecfs__WriteAnswer *ret);
void session_write_answer(struct session *s, uint8_t type, uint32_t id,
	const struct batch_result *res, Vecfs__RowError **errors, size_t n_errors);

/* sock_ops.c, sock_query.c: one request each.  They answer; a negative value ends the connection. */
int op_put(struct session *s, const struct rpc_frame *f);
int op_delete(struct session *s, const struct rpc_frame *f);
int op_get(struct session *s, const struct rpc_frame *f);
int op_scan(struct session *s, const struct rpc_frame *f);
int op_query(struct session *s, const struct rpc_frame *f);
int op_admin(struct session *s, const struct rpc_frame *f);
int op_snap(struct session *s, const struct rpc_frame *f);
int op_txn(struct session *s, const struct rpc_frame *f);

/* sock_txn.c: whether a put may be a part of the transaction that it names. */
VX_MUST_CHECK
int txn_admit(struct session *s, const Vecfs__PutRequest *m, struct coll *c, struct vx_err *err);
/* What became of a part: 'rows' are hidden, or 'rc' says why they are not. */
void txn_part_done(struct session *s, int rc, uint64_t rows);

/* Unpacks the request into the arena; answers with an error and returns false otherwise. */
bool op_unpack(struct session *s, const struct rpc_frame *f, const ProtobufCMessageDescriptor *d,
	void *ret_message);
/* Pins a collection; answers and returns NULL when there is none. */
struct coll *op_coll(struct session *s, const struct rpc_frame *f, const char *name);
/* "put docs": where, for the error log. */
const char *op_where(struct session *s, const struct rpc_frame *f, const char *coll);
/* An error in the arena; NULL without memory. */
/* Whether a request's ef and recall can be. */
int op_recall_check(uint32_t ef, float recall, struct vx_err *err);
Vecfs__RowError *op_row_error(struct session *s, uint32_t row, int rc, const struct vx_err *err);

/* For coll_query.stop and coll_index_wait: the daemon stops, or (_or_hangup) the peer has gone. */
bool session_stopping(void *session);
bool session_stopping_or_hangup(void *session);

#endif
