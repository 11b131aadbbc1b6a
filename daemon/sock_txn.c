/* sock_txn.c - requests about transactions: many puts of one connection that are there all at once or never.
 *
 * A transaction belongs to its connection, which has one at a time: BEGIN gives it an id, puts that name the id become
 * hidden parts (sock_ops.c), COMMIT decides.  All of it is what a rename in inbox/ does, in lib/cluster/txn.c.  What
 * is not committed when the connection ends is dropped with the session; what is not dropped because the daemon was
 * killed is settled by its next start.
 *
 * One thing goes by id alone: a client that lost its connection between COMMIT and the answer asks on another one
 * how it ended.  The deciding shard answers that for good, whatever the connection before is still about to do.
 */
#include "daemon/sock_i.h"

/* 0 after 'a' was filled, or an error to be answered. */
typedef int txn_fn(struct session *s, const Vecfs__TxnRequest *m, struct coll *c,
	Vecfs__TxnAnswer *a, struct vx_err *err);

static void end(struct session *s)
{
	txn_free(s->txn);
	s->txn = NULL;
}

static int is_open(struct session *s, uint64_t id, const struct coll *c, struct vx_err *err)
{
	if (!s->txn || txn_id(s->txn) != id || s->txn_cid != coll_cid(c))
		return vx_err_set(err, -EINVAL,
			"no such transaction is open in this collection on this connection");
	return 0;
}

int txn_admit(struct session *s, const Vecfs__PutRequest *m, struct coll *c, struct vx_err *err)
{
	int rc = is_open(s, m->txn, c, err);

	if (rc == 0 && m->insert)
		rc = vx_err_set(err, -EINVAL,
			"whether an id exists shows after a transaction was decided: its puts "
			"cannot be inserts");
	if (rc == 0 && s->txn_rc)
		rc = vx_err_set(err, s->txn_rc, "an earlier part of the transaction was refused");
	return rc;
}

void txn_part_done(struct session *s, int rc, uint64_t rows)
{
	if (rc == 0)
		s->txn_rows += rows;
	else if (!s->txn_rc)
		s->txn_rc = rc;
}

static int begin(struct session *s, const Vecfs__TxnRequest *m, struct coll *c, Vecfs__TxnAnswer *a,
	struct vx_err *err)
{
	(void)m;
	if (s->txn)
		return vx_err_set(err, -EBUSY, "another transaction is open on this connection");
	int rc = txn_stream(c, &s->txn);
	if (rc)
		return rc;
	s->txn_cid = coll_cid(c);
	s->txn_rows = 0;
	s->txn_rc = 0;
	a->txn = txn_id(s->txn);
	return 0;
}

static int commit(struct session *s, const Vecfs__TxnRequest *m, struct coll *c,
	Vecfs__TxnAnswer *a, struct vx_err *err)
{
	struct batch_result res;

	int rc = is_open(s, m->txn, c, err);
	if (rc)
		return rc;
	session_drain(s);
	if (s->txn_rc)
		rc = vx_err_set(err, s->txn_rc, "a part of the transaction was refused");
	else if (s->txn_rows != m->rows)
		rc = vx_err_set(err, -EPROTO,
			"the client counts %llu records in the transaction, the daemon %llu",
			(unsigned long long)m->rows, (unsigned long long)s->txn_rows);
	else
		rc = txn_commit(s->txn, &res, err);
	end(s);
	if (rc)
		return rc;
	a->committed = true;
	a->written = rpc_arena_alloc(s->arena, sizeof *a->written);
	if (!a->written) /* what the client hears then makes it ask */
		return vx_err_set(err, -ETIMEDOUT, "no memory for the answer");
	session_write_message(&res, a->written);
	return 0;
}

static int drop(struct session *s, const Vecfs__TxnRequest *m, struct coll *c, Vecfs__TxnAnswer *a,
	struct vx_err *err)
{
	(void)a;
	int rc = is_open(s, m->txn, c, err);
	if (rc)
		return rc;
	session_drain(s);
	end(s);
	return 0;
}

static int ask(struct session *s, const Vecfs__TxnRequest *m, struct coll *c, Vecfs__TxnAnswer *a,
	struct vx_err *err)
{
	bool committed;

	(void)s;
	int rc = txn_ask(c, m->txn, &committed, err);
	if (rc == 0)
		a->committed = committed;
	return rc;
}

int op_txn(struct session *s, const struct rpc_frame *f)
{
	static txn_fn *const ops[] = {
		[VECFS__TXN_REQUEST__OP__BEGIN] = begin,
		[VECFS__TXN_REQUEST__OP__COMMIT] = commit,
		[VECFS__TXN_REQUEST__OP__DROP] = drop,
		[VECFS__TXN_REQUEST__OP__ASK] = ask,
	};
	Vecfs__TxnAnswer a = VECFS__TXN_ANSWER__INIT;
	const Vecfs__TxnRequest *m;
	struct vx_err err = VX_ERR_INIT;

	if (!op_unpack(s, f, &vecfs__txn_request__descriptor, &m))
		return 0;
	struct coll *c = op_coll(s, f, m->collection);
	if (!c)
		return 0;
	a.txn = m->txn;
	int rc = (unsigned)m->op < VX_ARRAY_SIZE(ops)
			 ? ops[m->op](s, m, c, &a, &err)
			 : vx_err_set(&err, -EOPNOTSUPP,
				   "transaction operation %d is not known here", (int)m->op);
	coll_put(c);
	if (rc)
		session_error(s, op_where(s, f, m->collection), f->id, rc, &err);
	else
		session_answer(s, f->type | RPC_ANSWER, f->id, &a.base);
	return 0;
}
