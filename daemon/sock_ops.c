/* sock_ops.c - requests that write, read records, or manage collections.
 *
 * Each handler unpacks into the session's arena, pins the collection, calls the database, and
 * queues one answer (or several, for records).  A bad request is answered with its reason and the
 * connection goes on; only what makes the stream itself unusable ends it.
 */
#include "daemon/sock_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/errlog.h"

#define ERRLOG_ROWS_MAX 50u /* lines in the error log from one request */

bool op_unpack(struct session *s, const struct rpc_frame *f, const ProtobufCMessageDescriptor *d,
	void *ret_message)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = rpc_unpack(s->arena, d, f, ret_message, &err);

	if (rc)
		session_error(s, rpc_type_name(f->type), f->id, rc, &err);
	return rc == 0;
}

const char *op_where(struct session *s, const struct rpc_frame *f, const char *coll)
{
	size_t n = strlen(coll) + 24;
	char *p = rpc_arena_alloc(s->arena, n);

	if (!p)
		return rpc_type_name(f->type);
	snprintf(p, n, "%s %s", rpc_type_name(f->type), coll);
	return p;
}

struct coll *op_coll(struct session *s, const struct rpc_frame *f, const char *name)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = 0;
	struct coll *c = db_coll(s->sock->db, name, &rc, &err);

	if (!c) {
		if (!err.msg[0] && rc == -ENOENT)
			vx_err_set(&err, rc, "there is no collection '%s'", name);
		session_error(s, op_where(s, f, name), f->id, rc, &err);
	}
	return c;
}

static char *arena_string(struct session *s, const char *p)
{
	size_t n = strlen(p) + 1;
	char *q = rpc_arena_alloc(s->arena, n);

	if (q)
		memcpy(q, p, n);
	return q;
}

int op_recall_check(uint32_t ef, float recall, struct vx_err *err)
{
	if (recall == 0 || recall == VX_RECALL_EXACT)
		return ef && recall > 0
			       ? vx_err_set(err, -EINVAL, "a question has ef or recall, not both")
			       : 0;
	if (!(recall >= VX_RECALL_MIN && recall <= VX_RECALL_MAX + 1e-6f))
		return vx_err_set(err, -EINVAL,
			"recall %g: it is a share from 0.5 to 0.999, or exact", (double)recall);
	return ef ? vx_err_set(err, -EINVAL, "a question has ef or recall, not both") : 0;
}

Vecfs__RowError *op_row_error(struct session *s, uint32_t row, int rc, const struct vx_err *err)
{
	Vecfs__RowError *e = rpc_arena_alloc(s->arena, sizeof *e);
	char *reason = arena_string(s, vx_err_msg(err, rc));

	if (!e || !reason)
		return NULL;
	vecfs__row_error__init(e);
	e->row = row;
	e->code = (char *)(uintptr_t)vx_errno_name(rc);
	e->reason = reason;
	return e;
}

/* --- put ------------------------------------------------------------------------ */
static void add_result(struct batch_result *sum, const struct batch_result *r)
{
	sum->inserted += r->inserted;
	sum->updated += r->updated;
	sum->deleted += r->deleted;
	sum->missing += r->missing;
	sum->conflicts += r->conflicts;
	sum->duplicates += r->duplicates;
	sum->shard = r->shard;
	sum->index = r->index;
}

/* On a thread of the database: must not block. */
static void put_done(void *arg, int status, const struct batch_result *res)
{
	struct put_slot *p = arg;
	struct session *s = p->s;
	uint64_t one = 1;

	p->status = status;
	if (res)
		p->res = *res;
	else
		memset(&p->res, 0, sizeof p->res);
	p->next = NULL;
	vx_lock(&s->done_lock);
	*s->done_tail = p;
	s->done_tail = &p->next;
	/* Within the lock: once it is released the session may collect the slot and end. */
	(void)!write(s->done_fd, &one, sizeof one);
	vx_unlock(&s->done_lock);
}

struct put {
	const Vecfs__PutRequest *m;
	struct batch *b;
	struct batch_result sum;
	Vecfs__RowError **errors;
	size_t n_errors;
};

static void log_row(
	struct put *p, const char *where, uint32_t row, int rc, const struct vx_err *err)
{
	if (p->n_errors >= ERRLOG_ROWS_MAX)
		return;
	if (p->m->source[0] && row < p->m->n_lines) {
		char place[256];

		snprintf(place, sizeof place, "%.200s:%llu", p->m->source,
			(unsigned long long)p->m->lines[row]);
		errlog_add(place, rc, "%s", vx_err_msg(err, rc));
	} else {
		errlog_add(where, rc, "row %u: %s", row, vx_err_msg(err, rc));
	}
}

/* Where the put is a part of a transaction, its batch becomes one. */
static int hide(struct session *s, struct put *p, struct vx_err *err)
{
	if (!p->m->txn)
		return 0;
	int rc = txn_grow(s->txn, p->b, err);
	if (rc == 0)
		batch_hide(p->b, s->txn);
	return rc;
}

/* Commits what was gathered, or hides it, and waits. */
static int commit_now(struct session *s, struct put *p, struct vx_err *err)
{
	struct batch_result part = {0};
	size_t rows = batch_count(p->b);

	int rc = hide(s, p, err);
	if (rc == 0)
		rc = batch_commit(p->b, &part, err);
	if (rc)
		return rc;
	add_result(&p->sum, &part);
	if (p->m->txn)
		txn_part_done(s, 0, rows);
	return 0;
}

/* Gathers the rows into the batch; commits what would make it over-full. */
static int put_rows(struct session *s, struct put *p, struct rpc_rows_view *v, const char *where,
	struct vx_err *err)
{
	struct vx_record rec;

	while (rpc_rows_next(v, &rec)) {
		struct vx_err why = VX_ERR_INIT;
		uint32_t row = (uint32_t)rec.line - 1;
		int rc = p->m->insert ? batch_insert(p->b, &rec, &why)
				      : batch_put(p->b, &rec, &why);

		if (rc == -ENOMEM)
			return rc;
		if (rc) {
			log_row(p, where, row, rc, &why);
			if (!p->errors)
				p->errors = rpc_arena_alloc(s->arena, v->n * sizeof *p->errors);
			Vecfs__RowError *e = op_row_error(s, row, rc, &why);
			if (!p->errors || !e)
				return vx_err_set(err, -ENOMEM, "no memory for the errors");
			p->errors[p->n_errors++] = e;
		} else if (batch_full(p->b) && v->next < v->n) {
			rc = commit_now(s, p, err);
			if (rc)
				return rc;
		}
	}
	return 0;
}

/* What the sender refused itself: its place in the error log is here. */
static void log_rejected(const Vecfs__PutRequest *m, const char *where)
{
	for (size_t i = 0; i < m->n_rejected; i++) {
		const Vecfs__Rejected *r = m->rejected[i];
		char place[256];
		int rc = rpc_errno_parse(r->code);

		/* Line 0 is what ended the file; it comes last and is never left out. */
		if (i >= ERRLOG_ROWS_MAX && (r->line || i + 1 < m->n_rejected))
			continue;
		int n = snprintf(place, sizeof place, "%.200s", m->source[0] ? m->source : where);
		if (r->line)
			snprintf(place + n, sizeof place - (size_t)n, ":%llu",
				(unsigned long long)r->line);
		errlog_add(place, rc, "%.500s", r->reason);
	}
}

int op_put(struct session *s, const struct rpc_frame *f)
{
	struct vx_err err = VX_ERR_INIT;
	struct rpc_rows_view v;
	struct put p = {0};
	struct coll *c;

	if (!op_unpack(s, f, &vecfs__put_request__descriptor, &p.m))
		return 0;
	const char *where = op_where(s, f, p.m->collection);
	log_rejected(p.m, where);
	int rc = rpc_rows_open(&v, p.m->rows, &err);
	if (rc) {
		session_error(s, where, f->id, rc, &err);
		return 0;
	}
	c = op_coll(s, f, p.m->collection);
	if (!c)
		return 0;
	rc = p.m->txn ? txn_admit(s, p.m, c, &err) : 0;
	if (rc == 0)
		rc = batch_new(c, &p.b);
	if (rc == 0)
		rc = put_rows(s, &p, &v, where, &err);
	if (rc == 0 && batch_count(p.b) && p.n_errors == 0 && s->free) {
		/* The usual case: answered by put_done, on the session's next turn. */
		struct put_slot *slot = s->free, *rest = slot->next;

		slot->id = f->id;
		slot->sum = p.sum;
		slot->hidden = p.m->txn ? (uint32_t)batch_count(p.b) : 0;
		rc = hide(s, &p, &err);
		if (rc == 0)
			rc = batch_submit(p.b, put_done, slot, &err);
		if (rc == 0) {
			s->free = rest;
			s->in_flight++;
			coll_put(c);
			return 0;
		}
	} else if (rc == 0 && batch_count(p.b)) {
		/* With errors to report, which lie in this request's memory. */
		rc = commit_now(s, &p, &err);
	}
	if (rc && p.m->txn)
		txn_part_done(s, rc, 0);
	if (rc)
		session_error(s, where, f->id, rc, &err);
	else
		session_write_answer(s, f->type, f->id, &p.sum, p.errors, p.n_errors);
	batch_free(p.b);
	coll_put(c);
	return 0;
}

int op_delete(struct session *s, const struct rpc_frame *f)
{
	struct batch_result sum = {0}, part = {0};
	struct vx_err err = VX_ERR_INIT;
	struct rpc_strings_view ids;
	const Vecfs__DeleteRequest *m;
	struct batch *b = NULL;
	const char *id;
	size_t len;

	if (!op_unpack(s, f, &vecfs__delete_request__descriptor, &m))
		return 0;
	const char *where = op_where(s, f, m->collection);
	int rc = rpc_strings_open(&ids, m->ids, m->id_sizes, m->n_id_sizes, "ids", &err);
	if (rc) {
		session_error(s, where, f->id, rc, &err);
		return 0;
	}
	Vecfs__RowError **errors = NULL;
	size_t n_errors = 0;
	struct coll *c = op_coll(s, f, m->collection);
	if (!c)
		return 0;
	rc = batch_new(c, &b);
	while (rc == 0 && rpc_strings_next(&ids, &id, &len)) {
		struct vx_err why = VX_ERR_INIT;
		int bad = batch_delete(b, id ? id : "", len, &why);

		if (bad == -ENOMEM) {
			rc = bad;
		} else if (bad) {
			if (!errors)
				errors = rpc_arena_alloc(s->arena, ids.n * sizeof *errors);
			Vecfs__RowError *e = op_row_error(s, (uint32_t)ids.next - 1, bad, &why);
			if (errors && e)
				errors[n_errors++] = e;
			else
				rc = -ENOMEM;
		} else if (batch_full(b)) {
			rc = batch_commit(b, &part, &err);
			if (rc == 0)
				add_result(&sum, &part);
		}
	}
	if (rc == 0 && batch_count(b)) {
		rc = batch_commit(b, &part, &err);
		if (rc == 0)
			add_result(&sum, &part);
	}
	if (rc)
		session_error(s, where, f->id, rc, &err);
	else
		session_write_answer(s, f->type, f->id, &sum, errors, n_errors);
	batch_free(b);
	coll_put(c);
	return 0;
}

/* --- records ----------------------------------------------------------------------- */
/* Answers under construction: rows in the session, numbers beside them. */
struct chunk {
	struct session *s;
	const struct rpc_frame *f;
	struct buf versions, mtimes, missing; /* native arrays */
};

static void chunk_release(struct chunk *ch)
{
	buf_release(&ch->versions);
	buf_release(&ch->mtimes);
	buf_release(&ch->missing);
	rpc_rows_reset(&ch->s->rows);
}

/* Queues what has gathered; flushes unless it is the last. */
static int chunk_send(struct chunk *ch, bool last)
{
	Vecfs__RowsAnswer a = VECFS__ROWS_ANSWER__INIT;
	Vecfs__Rows rows;

	rpc_rows_message(&ch->s->rows, &rows);
	a.rows = &rows;
	a.versions = (uint64_t *)(void *)ch->versions.data;
	a.n_versions = ch->versions.len / sizeof(uint64_t);
	a.mtimes_ns = (uint64_t *)(void *)ch->mtimes.data;
	a.n_mtimes_ns = ch->mtimes.len / sizeof(uint64_t);
	a.missing = (uint32_t *)(void *)ch->missing.data;
	a.n_missing = ch->missing.len / sizeof(uint32_t);
	a.last = last;
	session_answer(ch->s, ch->f->type | RPC_ANSWER, ch->f->id, &a.base);
	rpc_rows_reset(&ch->s->rows);
	ch->versions.len = ch->mtimes.len = ch->missing.len = 0;
	return last ? 0 : rpc_conn_flush(&ch->s->conn);
}

static int chunk_add(struct chunk *ch, const struct coll_rec *r)
{
	int rc = buf_append(&ch->versions, &r->version, sizeof r->version);

	if (rc == 0)
		rc = buf_append(&ch->mtimes, &r->mtime_ns, sizeof r->mtime_ns);
	if (rc == 0)
		rc = rpc_rows_add(&ch->s->rows, &r->rec);
	return rc;
}

int op_get(struct session *s, const struct rpc_frame *f)
{
	struct chunk ch = {.s = s, .f = f};
	struct vx_err err = VX_ERR_INIT;
	struct rpc_strings_view ids;
	const Vecfs__GetRequest *m;
	struct coll_rec rec;
	const char *id;
	size_t len;
	int gone = 0;

	if (!op_unpack(s, f, &vecfs__get_request__descriptor, &m))
		return 0;
	const char *where = op_where(s, f, m->collection);
	int rc = rpc_strings_open(&ids, m->ids, m->id_sizes, m->n_id_sizes, "ids", &err);
	if (rc) {
		session_error(s, where, f->id, rc, &err);
		return 0;
	}
	struct coll *c = op_coll(s, f, m->collection);
	if (!c)
		return 0;
	while (rc == 0 && gone == 0 && rpc_strings_next(&ids, &id, &len)) {
		uint32_t n = (uint32_t)ids.next - 1;

		memset(&rec, 0, sizeof rec);
		rc = coll_get(c, id ? id : "", len, m->what & COLL_ALL, &rec, &err);
		/* An id that cannot exist does not. */
		if (rc == -ENOENT || rc == -EINVAL || rc == -ENAMETOOLONG) {
			rc = buf_append(&ch.missing, &n, sizeof n);
			continue;
		}
		if (rc == 0) {
			rc = chunk_add(&ch, &rec);
			coll_rec_release(&rec);
		}
		if (rc == 0 && rpc_rows_bytes(&s->rows) >= RPC_CHUNK_BYTES)
			gone = chunk_send(&ch, false);
	}
	if (rc)
		session_error(s, where, f->id, rc, &err);
	else if (gone == 0)
		chunk_send(&ch, true);
	chunk_release(&ch);
	coll_put(c);
	return gone;
}

int op_scan(struct session *s, const struct rpc_frame *f)
{
	struct chunk ch = {.s = s, .f = f};
	struct vx_err err = VX_ERR_INIT;
	const Vecfs__ScanRequest *m;
	const struct coll_rec *rec;
	struct coll_scan *sc = NULL;
	int gone = 0;

	if (!op_unpack(s, f, &vecfs__scan_request__descriptor, &m))
		return 0;
	struct coll *c = op_coll(s, f, m->collection);
	if (!c)
		return 0;
	int rc = coll_scan_open(c, m->what & COLL_ALL, &sc, &err);
	while (rc == 0 && gone == 0 && !session_stopping(s)) {
		rc = coll_scan_next(sc, &rec, &err);
		if (rc == 0)
			rc = chunk_add(&ch, rec);
		if (rc == 0 && rpc_rows_bytes(&s->rows) >= RPC_CHUNK_BYTES)
			gone = chunk_send(&ch, false);
	}
	/* All that can be read goes out before the word that some could not. */
	if (rc == -EUCLEAN && sc && gone == 0)
		gone = chunk_send(&ch, false);
	if (rc == -ENOENT && sc) {
		chunk_send(&ch, true);
	} else if (gone == 0) {
		if (rc == 0)
			rc = vx_err_set(&err, -ESTALE, "the daemon is stopping");
		session_error(s, op_where(s, f, m->collection), f->id, rc, &err);
	}
	if (sc)
		coll_scan_close(sc);
	chunk_release(&ch);
	coll_put(c);
	return gone;
}
