/* sock_query.c - questions.
 *
 * One question runs on this thread; many are spread over the cores by coll_search_many.  Questions,
 * answers and the columns of the reply live in the session and are reused, so that a client that
 * asks again and again makes nothing here allocate.
 */
#include "daemon/sock_i.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* realloc to 'n' elements, the new ones zero; NULL leaves the old block as it was. */
static void *grow(void *p, size_t cap, size_t n, size_t size)
{
	char *q = reallocarray(p, n, size);

	if (q)
		memset(q + cap * size, 0, (n - cap) * size);
	return q;
}

/* Room for n questions in the session. */
static int reserve(struct session *s, size_t n)
{
	if (n > s->n_queries_cap) {
		size_t cap = VX_MAX(n, 16u);
		struct coll_query *q = grow(s->queries, s->n_queries_cap, cap, sizeof *q);
		if (q)
			s->queries = q;
		int *rcs = grow(s->rcs, s->n_queries_cap, cap, sizeof *rcs);
		if (rcs)
			s->rcs = rcs;
		if (!q || !rcs)
			return -ENOMEM;
		s->n_queries_cap = cap;
	}
	if (n > s->n_answers_cap) {
		size_t cap = VX_MAX(n, 16u);
		struct coll_answer *a = grow(s->answers, s->n_answers_cap, cap, sizeof *a);
		if (!a)
			return -ENOMEM;
		s->answers = a;
		s->n_answers_cap = cap;
	}
	return 0;
}

static int check(const Vecfs__QueryRequest *m, struct rpc_strings_view *ids, struct vx_err *err)
{
	if (m->n == 0)
		return vx_err_set(err, -EINVAL, "there is no question in the request");
	if (m->n > SOCK_QUERIES_MAX)
		return vx_err_set(err, -EMSGSIZE, "%u questions at once; at most %u are allowed",
			m->n, SOCK_QUERIES_MAX);
	if (m->k > VX_K_MAX)
		return vx_err_set(err, -EINVAL, "k is %u; at most %u is allowed", m->k, VX_K_MAX);
	int rc = op_recall_check(m->ef, m->recall, err);
	if (rc)
		return rc;
	/* One question may always ask for all it is allowed. */
	if (m->n > 1 && (uint64_t)m->n * VX_MAX(m->k, 1u) > SOCK_HITS_MAX)
		return vx_err_set(err, -EMSGSIZE,
			"%u questions for %u answers each: ask for less at once", m->n, m->k);
	if (m->n_id_sizes) {
		if (m->n_id_sizes != m->n || m->vectors.len)
			return vx_err_set(
				err, -EPROTO, "questions are vectors or ids, as many as announced");
		return rpc_strings_open(ids, m->ids, m->id_sizes, m->n_id_sizes, "ids", err);
	}
	if (m->dim == 0 || m->dim > VX_DIM_MAX)
		return vx_err_set(err, -EINVAL, "a question of dimension %u", m->dim);
	if (m->vectors.len != (uint64_t)m->n * m->dim * sizeof(float))
		return vx_err_set(err, -EPROTO,
			"%u questions of dimension %u do not have %zu bytes", m->n, m->dim,
			m->vectors.len);
	return 0;
}

/* Of one question among many only the errno comes back; the rest can be told from here. */
static void explain(const struct coll *c, const Vecfs__QueryRequest *m, int rc, struct vx_err *ret)
{
	if (rc == -ENOENT)
		vx_err_set(ret, rc, "there is no record with this id");
	else if (rc == -ENODATA)
		vx_err_set(ret, rc, "the collection has no records yet");
	else if (rc == -EINVAL && m->dim && m->dim != coll_dim(c))
		vx_err_set(ret, rc, "the question has %u numbers; this collection has dimension %u",
			m->dim, coll_dim(c));
	else if (rc == -EINVAL)
		vx_err_set(ret, rc,
			"the question has a number that is not finite, or is all zeros (metric %s)",
			vx_metric_name(coll_metric(c)));
}

/* The reply under construction: columns of it are made while later questions are still being searched. */
struct reply {
	struct session *s;
	const struct coll *c;
	const Vecfs__QueryRequest *m;
	Vecfs__QueryAnswer a;
	int rc;
};

static int add_failure(struct reply *r, uint32_t i)
{
	struct session *s = r->s;
	struct vx_err why = VX_ERR_INIT;

	explain(r->c, r->m, s->rcs[i], &why);
	if (!r->a.errors)
		r->a.errors = rpc_arena_alloc(s->arena, r->m->n * sizeof *r->a.errors);
	Vecfs__RowError *e = op_row_error(s, i, s->rcs[i], &why);
	if (!r->a.errors || !e)
		return -ENOMEM;
	r->a.errors[r->a.n_errors++] = e;
	return 0;
}

static int add_damaged(struct reply *r, uint32_t i, uint32_t records)
{
	struct session *s = r->s;
	Vecfs__Damaged *d = rpc_arena_alloc(s->arena, sizeof *d);

	if (!r->a.damaged)
		r->a.damaged = rpc_arena_alloc(s->arena, r->m->n * sizeof *r->a.damaged);
	if (!r->a.damaged || !d)
		return -ENOMEM;
	vecfs__damaged__init(d);
	d->question = i;
	d->records = records;
	r->a.damaged[r->a.n_damaged++] = d;
	return 0;
}

static int add_answer(struct reply *r, uint32_t i)
{
	struct session *s = r->s;
	const struct coll_answer *ans = &s->answers[i];
	uint32_t n = s->rcs[i] ? 0 : ans->n_hits;
	int rc = buf_append(&s->counts, &n, sizeof n);

	if (rc || s->rcs[i])
		return rc ? rc : add_failure(r, i);
	r->a.k = ans->k;
	if (ans->timed_out)
		rc = buf_append(&s->cut, &i, sizeof i);
	if (rc == 0 && ans->damaged)
		rc = add_damaged(r, i, ans->damaged);
	for (uint32_t h = 0; h < n && rc == 0; h++) {
		struct vx_record rec = ans->hits[h].rec;

		if (!(r->m->with & COLL_VEC))
			rec.vec = NULL, rec.dim = 0;
		rc = buf_append(&s->distances, &ans->hits[h].distance, sizeof(float));
		if (rc == 0)
			rc = rpc_rows_add(&s->rows, &rec);
	}
	return rc;
}

/* Question i was answered, as were all before it. */
static void on_answer(void *ctx, size_t i)
{
	struct reply *r = ctx;

	if (r->rc == 0)
		r->rc = add_answer(r, (uint32_t)i);
}

static int ask(struct reply *r, struct coll *c, struct rpc_strings_view *ids, struct vx_err *err)
{
	struct session *s = r->s;
	const Vecfs__QueryRequest *m = r->m;
	uint64_t deadline = m->timeout_ms ? clock_mono_ns() + (uint64_t)m->timeout_ms * 1000000 : 0;

	for (uint32_t i = 0; i < m->n; i++) {
		struct coll_query *q = &s->queries[i];

		*q = (struct coll_query){
			.k = m->k,
			.ef = m->ef,
			.recall = m->recall,
			.exact = m->exact,
			.with = m->with & COLL_ALL,
			.deadline_ns = deadline,
			.stop = session_stopping,
			.stop_ctx = s,
		};
		if (m->n_id_sizes) {
			rpc_strings_next(ids, &q->id, &q->id_len);
			if (!q->id)
				q->id = "";
		} else {
			q->vec = (const float *)(const void *)m->vectors.data + (size_t)i * m->dim;
			q->dim = m->dim;
		}
	}
	s->counts.len = s->cut.len = s->distances.len = 0;
	rpc_rows_reset(&s->rows);
	if (m->n == 1) {
		s->rcs[0] = coll_search(c, s->queries, s->answers, err);
		if (s->rcs[0]) /* alone, its failure is the request's */
			return s->rcs[0];
		on_answer(r, 0);
		return r->rc;
	}
	int rc = coll_search_each(c, s->queries, m->n, s->answers, s->rcs, on_answer, r);
	return rc ? rc : r->rc;
}

int op_query(struct session *s, const struct rpc_frame *f)
{
	struct reply r = {.s = s, .a = VECFS__QUERY_ANSWER__INIT};
	Vecfs__QueryAnswer *a = &r.a;
	struct rpc_strings_view ids = {0};
	struct vx_err err = VX_ERR_INIT;
	const Vecfs__QueryRequest *m;
	Vecfs__Rows rows;

	if (!op_unpack(s, f, &vecfs__query_request__descriptor, &m))
		return 0;
	int rc = check(m, &ids, &err);
	if (rc) {
		session_error(s, op_where(s, f, m->collection), f->id, rc, &err);
		return 0;
	}
	struct coll *c = op_coll(s, f, m->collection);
	if (!c)
		return 0;
	rc = reserve(s, m->n);
	r.c = c;
	r.m = m;
	if (rc == 0)
		rc = ask(&r, c, &ids, &err);
	if (rc) {
		session_error(s, op_where(s, f, m->collection), f->id, rc, &err);
	} else {
		rpc_rows_message(&s->rows, &rows);
		a->hits = &rows;
		a->counts = (uint32_t *)(void *)s->counts.data;
		a->n_counts = m->n;
		a->distances.data = s->distances.data;
		a->distances.len = s->distances.len;
		a->timed_out = (uint32_t *)(void *)s->cut.data;
		a->n_timed_out = s->cut.len / sizeof(uint32_t);
		session_answer(s, RPC_QUERY | RPC_ANSWER, f->id, &a->base);
	}
	coll_put(c);
	return 0;
}
