/* put.c - the stream of batches.
 *
 * Records gather in a batch; a full batch is sent, and up to 'window' of them are under way, so
 * that reading the next records, the network, the log and the apply workers work at the same time.
 * A batch stays here until it is acknowledged: a record that was refused is reported with its
 * contents.
 *
 *	add -> the open slot -> send -> under way -> acknowledged -> free again
 *
 * With 'atomic' the batches are hidden parts of a transaction, acknowledged when they are in the log, and one
 * request at the end commits them.  When the connection is lost between that and its answer, another one asks
 * how it ended.
 *
 * The first failure of a whole batch is kept and returned by every later call; records of batches
 * that were acknowledged before stay in.
 */
#include "client/client_i.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_DEFAULT      4u
#define WINDOW_MAX          16u /* the daemon's own bound per connection */
#define BATCH_BYTES_DEFAULT (768u << 10)
#define ROW_OVERHEAD        32u /* per record, in the entry the daemon makes of the batch */
#define REJECTS_MAX         100u

struct slot {
	bool under_way;
	uint32_t id;
	struct rpc_rows rows;
	struct buf lines; /* uint64_t per row */
	char *source;
};

struct reject {
	uint64_t line;
	int rc;
	char *reason;
};

struct client_put {
	struct client *c;
	char *coll;
	struct client_put_opts opts;
	char *source;
	struct slot slots[WINDOW_MAX];
	struct slot *open; /* taking records; NULL: none */
	unsigned under_way;
	struct reject rejects[REJECTS_MAX]; /* go with the next batch */
	size_t n_rejects;
	struct client_put_sum sum;
	struct vx_err failed; /* code 0: none */
	uint64_t txn; /* batches are hidden parts of it; 0: they count when they are acknowledged */
};

static int begin_txn(struct client_put *p, struct vx_err *err);

int client_put_begin(struct client *c, const char *coll, const struct client_put_opts *opts,
	struct client_put **ret, struct vx_err *err)
{
	struct client_put *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	p->c = c;
	p->opts = *opts;
	p->coll = strdup(coll);
	if (!p->opts.window)
		p->opts.window = WINDOW_DEFAULT;
	p->opts.window = VX_MIN(p->opts.window, WINDOW_MAX);
	if (!p->opts.batch_bytes)
		p->opts.batch_bytes = BATCH_BYTES_DEFAULT;
	int rc = p->coll ? 0 : -ENOMEM;
	if (rc == 0 && opts->atomic)
		rc = begin_txn(p, err);
	if (rc) {
		free(p->coll);
		free(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static void drop_rejects(struct client_put *p)
{
	for (size_t i = 0; i < p->n_rejects; i++)
		free(p->rejects[i].reason);
	p->n_rejects = 0;
}

void client_put_end(struct client_put *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < WINDOW_MAX; i++) {
		rpc_rows_release(&p->slots[i].rows);
		buf_release(&p->slots[i].lines);
		free(p->slots[i].source);
	}
	drop_rejects(p);
	free(p->source);
	free(p->coll);
	free(p);
}

const struct client_put_sum *client_put_sum(const struct client_put *p)
{
	return &p->sum;
}

/* --- acknowledgements ------------------------------------------------------------ */
static struct slot *slot_of(struct client_put *p, uint32_t id)
{
	for (unsigned i = 0; i < p->opts.window; i++)
		if (p->slots[i].under_way && p->slots[i].id == id)
			return &p->slots[i];
	return NULL;
}

static void slot_done(struct client_put *p, struct slot *s)
{
	s->under_way = false;
	p->under_way--;
	rpc_rows_reset(&s->rows);
	s->lines.len = 0;
	free(s->source);
	s->source = NULL;
}

/* Record 'row' of a batch, from the batch's columns. */
static bool record_of(const struct slot *s, uint32_t row, struct vx_record *ret)
{
	struct rpc_rows_view v;
	Vecfs__Rows m;

	rpc_rows_message(&s->rows, &m);
	if (row >= s->rows.n || rpc_rows_open(&v, &m, NULL))
		return false;
	while (rpc_rows_next(&v, ret))
		if (ret->line == (uint64_t)row + 1) {
			memcpy(&ret->line, s->lines.data + row * sizeof(uint64_t),
				sizeof(uint64_t));
			return true;
		}
	return false;
}

static void add_answer(struct client_put *p, const Vecfs__WriteAnswer *a)
{
	p->sum.inserted += a->inserted;
	p->sum.updated += a->updated;
	p->sum.conflicts += a->conflicts;
	p->sum.duplicates += a->duplicates;
	p->sum.index = VX_MAX(p->sum.index, a->index);
}

static int acknowledge(
	struct client_put *p, struct slot *s, const struct rpc_frame *f, struct vx_err *err)
{
	const Vecfs__WriteAnswer *a;
	int rc = rpc_unpack(p->c->arena, &vecfs__write_answer__descriptor, f, &a, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < a->n_errors; i++) {
		struct vx_record rec;

		if (!record_of(s, a->errors[i]->row, &rec))
			return vx_err_set(err, -EPROTO, "an error for a row that was not sent");
		if (p->opts.on_bad)
			p->opts.on_bad(p->opts.ctx, s->source, &rec,
				rpc_errno_parse(a->errors[i]->code), a->errors[i]->reason);
	}
	if (!p->txn) /* else nothing of it is in yet */
		add_answer(p, a);
	p->sum.refused += a->n_errors;
	p->sum.rows += s->rows.n;
	slot_done(p, s);
	return 0;
}

static int fail(struct client_put *p, int rc, const struct vx_err *why, struct vx_err *err)
{
	if (!p->failed.code)
		vx_err_set(&p->failed, rc, "%s", vx_err_msg(why, rc));
	return vx_err_set(err, p->failed.code, "%s", p->failed.msg);
}

/* Takes one answer.  -EAGAIN: none yet (only without 'wait').  The failure of one batch does not
 * keep the others from being counted. */
static int take_answer(struct client_put *p, bool wait, struct vx_err *err)
{
	struct vx_err why = VX_ERR_INIT;
	struct rpc_frame f = {0};
	uint32_t id = 0;
	int rc = client_receive(p->c, wait, &f, &id, &why);

	if (rc == -EAGAIN && !wait && f.type != RPC_ERROR)
		return rc;
	struct slot *s = id ? slot_of(p, id) : NULL;
	if (rc && f.type == RPC_ERROR && s) {
		slot_done(p, s);
		return fail(p, rc, &why, err);
	}
	if (rc == 0 && (f.type != (RPC_PUT | RPC_ANSWER) || !s))
		rc = vx_err_set(&why, -EPROTO, "an answer to no put that is under way");
	if (rc == 0)
		rc = acknowledge(p, s, &f, &why);
	if (rc) {
		/* The stream is of no more use: nothing is under way that could still be heard of. */
		for (unsigned i = 0; i < p->opts.window; i++)
			if (p->slots[i].under_way)
				slot_done(p, &p->slots[i]);
		return fail(p, rc, &why, err);
	}
	return 0;
}

/* --- sending ------------------------------------------------------------------------- */
static int send_batch(struct client_put *p, struct vx_err *err)
{
	Vecfs__PutRequest m = VECFS__PUT_REQUEST__INIT;
	Vecfs__Rejected bad[REJECTS_MAX], *bads[REJECTS_MAX];
	struct vx_err why = VX_ERR_INIT;
	struct slot *s = p->open;
	Vecfs__Rows rows;

	rpc_rows_message(&s->rows, &rows);
	m.collection = p->coll;
	m.rows = &rows;
	m.insert = p->opts.insert;
	m.txn = p->txn;
	m.source = s->source ? s->source : (char *)(uintptr_t) "";
	m.lines = (uint64_t *)(void *)s->lines.data;
	m.n_lines = s->rows.n;
	for (size_t i = 0; i < p->n_rejects; i++) {
		vecfs__rejected__init(&bad[i]);
		bad[i].line = p->rejects[i].line;
		bad[i].code = (char *)(uintptr_t)vx_errno_name(p->rejects[i].rc);
		bad[i].reason = p->rejects[i].reason;
		bads[i] = &bad[i];
	}
	m.rejected = bads;
	m.n_rejected = p->n_rejects;
	int rc = client_queue(p->c, RPC_PUT, &m.base, &s->id, &why);
	if (rc == 0) {
		s->under_way = true;
		p->under_way++;
		p->open = NULL;
		rc = client_flush(p->c, &why);
	}
	drop_rejects(p);
	return rc ? fail(p, rc, &why, err) : 0;
}

/* An open slot, waiting for an acknowledgement if need be. */
static int open_slot(struct client_put *p, struct vx_err *err)
{
	int rc = 0;

	while (p->under_way && rc == 0)
		rc = take_answer(p, p->under_way == p->opts.window, err);
	if (rc && rc != -EAGAIN)
		return rc;
	if (p->failed.code)
		return vx_err_set(err, p->failed.code, "%s", p->failed.msg);
	for (unsigned i = 0; i < p->opts.window && !p->open; i++)
		if (!p->slots[i].under_way)
			p->open = &p->slots[i];
	if (p->source) {
		p->open->source = strdup(p->source);
		if (!p->open->source)
			return -ENOMEM;
	}
	return 0;
}

int client_put_add(struct client_put *p, const struct vx_record *rec, struct vx_err *err)
{
	int rc;

	if (p->failed.code)
		return vx_err_set(err, p->failed.code, "%s", p->failed.msg);
	/* A batch has one dimension; whether another one is right is the daemon's to say. */
	if (p->open && p->open->rows.n && p->open->rows.dim != rec->dim) {
		rc = send_batch(p, err);
		if (rc)
			return rc;
	}
	if (!p->open) {
		rc = open_slot(p, err);
		if (rc)
			return rc;
	}
	struct slot *s = p->open;
	rc = buf_append(&s->lines, &rec->line, sizeof rec->line);
	if (rc == 0)
		rc = rpc_rows_add(&s->rows, rec);
	if (rc) {
		s->lines.len = s->rows.n * sizeof(uint64_t);
		return vx_err_set(err, rc, "no memory for the batch");
	}
	if (rpc_rows_bytes(&s->rows) + (size_t)s->rows.n * ROW_OVERHEAD >= p->opts.batch_bytes ||
		(p->opts.batch_rows && s->rows.n >= p->opts.batch_rows))
		return send_batch(p, err);
	return 0;
}

/* Sends what has gathered.  Rejects alone are worth a request, too: the error log shall have them,
 * with the source they were found in. */
static int send_rest(struct client_put *p, struct vx_err *err)
{
	int rc = 0;

	if (p->failed.code)
		return 0; /* is reported by those who wait for the answers */
	if (!p->open && p->n_rejects)
		rc = open_slot(p, err);
	if (rc == 0 && p->open && (p->open->rows.n || p->n_rejects))
		rc = send_batch(p, err);
	return rc;
}

int client_put_source(struct client_put *p, const char *source, struct vx_err *err)
{
	int rc = send_rest(p, err);

	free(p->source);
	p->source = NULL;
	if (rc)
		return rc;
	if (p->open) { /* empty: it has taken the name of the file before */
		free(p->open->source);
		p->open->source = source ? strdup(source) : NULL;
	}
	p->source = source ? strdup(source) : NULL;
	return source && !p->source ? -ENOMEM : 0;
}

void client_put_reject(struct client_put *p, uint64_t line, int rc, const char *reason)
{
	if (p->n_rejects == REJECTS_MAX) {
		if (line)
			return;
		free(p->rejects[--p->n_rejects].reason);
	}
	struct reject *r = &p->rejects[p->n_rejects];
	r->line = line;
	r->rc = rc;
	r->reason = strdup(reason);
	if (r->reason)
		p->n_rejects++;
}

int client_put_flush(struct client_put *p, struct vx_err *err)
{
	int rc = send_rest(p, err);

	while (p->under_way) {
		struct vx_err why = VX_ERR_INIT;

		(void)!take_answer(p, true, &why);
	}
	if (p->failed.code)
		return vx_err_set(err, p->failed.code, "%s", p->failed.msg);
	return rc;
}

/* --- transactions --------------------------------------------------------------------- */

static int call_txn(struct client_put *p, Vecfs__TxnRequest__Op op, const Vecfs__TxnAnswer **ret,
	struct vx_err *err)
{
	Vecfs__TxnRequest m = VECFS__TXN_REQUEST__INIT;

	m.op = op;
	m.collection = p->coll;
	m.txn = p->txn;
	return client_call(p->c, RPC_TXN, &m.base, &vecfs__txn_answer__descriptor, ret, err);
}

static int begin_txn(struct client_put *p, struct vx_err *err)
{
	const Vecfs__TxnAnswer *a;

	int rc = call_txn(p, VECFS__TXN_REQUEST__OP__BEGIN, &a, err);
	if (rc == -EOPNOTSUPP)
		return vx_err_set(
			err, rc, "this daemon is too old to commit several batches at once");
	if (rc == 0 && a->txn == 0)
		rc = vx_err_set(err, -EPROTO, "a transaction without an id");
	if (rc == 0)
		p->txn = a->txn;
	return rc;
}

/* The answer to the commit did not come. */
static int ask(struct client_put *p, struct vx_err *err)
{
	const Vecfs__TxnAnswer *a;
	struct vx_err why = VX_ERR_INIT;

	int rc = client_reopen(p->c, &why);
	if (rc == 0)
		rc = call_txn(p, VECFS__TXN_REQUEST__OP__ASK, &a, &why);
	if (rc)
		return vx_err_set(err, -ETIMEDOUT,
			"the connection was lost during the commit and its outcome is not known "
			"(%s); all of it is in, or nothing",
			vx_err_msg(&why, rc));
	if (!a->committed)
		return vx_err_set(
			err, -ECONNRESET, "the connection was lost before the commit was decided");
	p->sum.asked = true;
	return 0;
}

int client_put_commit(struct client_put *p, struct vx_err *err)
{
	Vecfs__TxnRequest m = VECFS__TXN_REQUEST__INIT;
	const Vecfs__TxnAnswer *a;
	struct rpc_frame f = {0};
	uint32_t id = 0;

	int rc = client_put_flush(p, err);
	if (rc)
		return rc;
	m.op = VECFS__TXN_REQUEST__OP__COMMIT;
	m.collection = p->coll;
	m.txn = p->txn;
	m.rows = p->sum.rows - p->sum.refused;
	rc = client_queue(p->c, RPC_TXN, &m.base, &id, err);
	if (rc)
		return rc;
	rc = client_flush(p->c, err);
	if (rc == 0)
		rc = client_receive_for(p->c, id, RPC_TXN, &f, err);
	if (rc == 0)
		rc = rpc_unpack(p->c->arena, &vecfs__txn_answer__descriptor, &f, &a, err);
	bool refused = rc && f.type == RPC_ERROR && f.id == id && rc != -ETIMEDOUT;
	if (rc && !refused)
		rc = ask(p, err);
	else if (rc == 0 && a->written)
		add_answer(p, a->written);
	p->txn = 0;
	return rc;
}

void client_put_drop(struct client_put *p)
{
	const Vecfs__TxnAnswer *a;
	struct vx_err why = VX_ERR_INIT;

	/* A connection that does not work any more drops it by its end. */
	if (p->txn) {
		(void)!client_put_flush(p, &why);
		(void)!call_txn(p, VECFS__TXN_REQUEST__OP__DROP, &a, &why);
	}
	p->txn = 0;
}

uint64_t client_put_txn(const struct client_put *p)
{
	return p->txn;
}
