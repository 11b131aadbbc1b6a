/* fs_ask.c - questions to answers: what query, near/ and q/ have in common.
 *
 * A raw vector is one search whose answer is printed into a buffer that is kept, so that a question on a
 * held descriptor allocates nothing.  Questions in JSON Lines are gathered into rounds, each spread over
 * the cores, and answered in order.
 */
#include "daemon/fs_i.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/errlog.h"
#include "embed/embed.h"

#define ROUND_MAX    512u /* questions searched at once */
#define SHORT_K_MAX  256u
#define SHORT_EF_MAX 512u

/* One question of a round, with what its answer's printing needs. */
struct asked {
	struct coll_query q;
	enum answer_format format;
	uint64_t number;
	char *name;
	size_t name_len;
	float *vec; /* owned */
	char *id;   /* owned */
};

struct round {
	struct ask *a;
	struct coll *c;
	fuse_req_t req;
	uint32_t n, cap;
	uint32_t printed; /* answers of this run that are in the output */
	int print_rc;
	struct vx_err *err;
	/* 'cap' of each */
	uint64_t *lines;
	struct asked *asked;
	struct coll_query *qs;
	struct coll_answer *answers;
	int *rcs;
};

int ask_init(struct ask *a, const struct ask_opts *o)
{
	memset(a, 0, sizeof *a);
	a->o = *o;
	a->arena = codec_arena_new();
	return a->arena ? 0 : -ENOMEM;
}

void ask_release(struct ask *a)
{
	buf_release(&a->out);
	buf_release(&a->vec);
	coll_answer_release(&a->ans);
	codec_arena_free(a->arena);
}

/* --- printing ------------------------------------------------------------------------------------------ */
static int print_answer(struct ask *a, const struct coll_answer *ans, enum answer_format format,
	const char *name, size_t name_len, uint64_t number)
{
	struct answer_hit few[64], *hits = few;
	struct answer out = {.name = name,
		.name_len = name_len,
		.number = number,
		.n_hits = ans->n_hits,
		.k_asked = ans->k,
		.timed_out = ans->timed_out,
		.damaged = ans->damaged};

	if (ans->n_hits > VX_ARRAY_SIZE(few)) {
		hits = calloc(ans->n_hits, sizeof *hits);
		if (!hits)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < ans->n_hits; i++) {
		const struct coll_hit *h = &ans->hits[i];
		hits[i] = (struct answer_hit){.id = h->rec.id,
			.id_len = h->rec.id_len,
			.distance = h->distance,
			.vec = h->rec.vec,
			.dim = h->rec.dim,
			.meta = h->rec.meta,
			.meta_len = h->rec.meta_len,
			.text = h->rec.text,
			.text_len = h->rec.text_len};
	}
	out.hits = hits;
	int rc = answer_print(&a->out, format ? format : ANSWER_TSV, &out);
	if (hits != few)
		free(hits);
	return rc;
}

/* TSV and ids have no room to say it. */
static void note_damage(const struct coll *c, const struct coll_answer *ans)
{
	if (ans->damaged)
		errlog_add(coll_name(c), EIO,
			"an answer lacks %u record%s that may belong to it: not readable",
			ans->damaged, ans->damaged == 1 ? "" : "s");
}

static int too_long(struct ask *a, struct vx_err *err)
{
	if (a->out.len <= ASK_BYTES_MAX)
		return 0;
	return vx_err_set(err, -EMSGSIZE,
		"the answers have more than %u bytes: read between questions", ASK_BYTES_MAX);
}

/* --- one question -------------------------------------------------------------------------------------- */
static void apply_opts(const struct ask_opts *o, fuse_req_t req, struct coll_query *q)
{
	if (!q->k)
		q->k = o->k;
	/* What the question says wins over what the file's name says. */
	if (!q->ef && q->recall == 0) {
		q->ef = o->ef;
		q->recall = o->recall;
	}
	q->exact = q->exact || o->exact;
	q->stop = req ? fs_interrupted : NULL;
	q->stop_ctx = req;
}

/* Whether others should not wait for this one. */
static bool lasts(const struct coll_query *q)
{
	return q->exact || q->recall >= VX_RECALL_EXACT || q->k > SHORT_K_MAX ||
	       q->ef > SHORT_EF_MAX;
}

bool ask_lasts(const struct ask *a)
{
	struct coll_query q = {.k = 0};

	apply_opts(&a->o, NULL, &q);
	return lasts(&q);
}

static int ask_one(
	struct ask *a, struct coll *c, struct coll_query *q, fuse_req_t req, struct vx_err *err)
{
	apply_opts(&a->o, req, q);
	if (lasts(q))
		fs_takes_long();
	int rc = coll_search(c, q, &a->ans, err);
	if (rc == 0) {
		note_damage(c, &a->ans);
		rc = print_answer(a, &a->ans, a->o.format, NULL, 0, a->number++);
	}
	return rc ? rc : too_long(a, err);
}

int ask_raw(struct ask *a, struct coll *c, const void *p, uint32_t dim, fuse_req_t req,
	struct vx_err *err)
{
	a->vec.len = 0;
	int rc = buf_append(&a->vec, p, (size_t)dim * sizeof(float));
	if (rc)
		return rc;
	struct coll_query q = {.vec = (const float *)(const void *)a->vec.data, .dim = dim};
	return ask_one(a, c, &q, req, err);
}

int ask_id(struct ask *a, struct coll *c, const char *id, size_t len, fuse_req_t req,
	struct vx_err *err)
{
	struct coll_query q = {.id = id, .id_len = len};

	return ask_one(a, c, &q, req, err);
}

/* --- questions in words ---------------------------------------------------------------------------------- */
/* Only what needs neither a process nor the network runs inside the daemon. */
static int embed_question(struct coll *c, const struct question *qn, float **ret, uint32_t *ret_dim,
	struct vx_err *err)
{
	struct buf spec = BUF_INIT;
	uint32_t dim = coll_dim(c);
	int rc = coll_config_get(c, "embedder", &spec);

	if (rc == 0)
		rc = buf_cstr(&spec);
	if (rc == 0) {
		const char *s = (const char *)spec.data;
		if (strncmp(s, "hash", 4) || (s[4] && s[4] != ':'))
			rc = vx_err_set(err, -EOPNOTSUPP,
				"the embedder of this collection is a program or a URL, which the "
				"mount "
				"does not run: use vec-query --text");
	}
	buf_release(&spec);
	if (rc == 0 && dim == 0)
		rc = vx_err_set(err, -ENODATA, "the collection has no records yet");
	if (rc)
		return rc;
	float *v = malloc(dim * sizeof *v);
	if (!v)
		return -ENOMEM;
	embed_hash(qn->text, qn->text_len, dim, v);
	*ret = v;
	*ret_dim = dim;
	return 0;
}

static char *copy_bytes(const void *p, size_t n)
{
	char *c = malloc(n + 1);

	if (c)
		memcpy(c, p, n);
	return c;
}

static unsigned with_of(unsigned w)
{
	return (w & WITH_META ? COLL_META : 0) | (w & WITH_VECTOR ? COLL_VEC : 0) |
	       (w & WITH_TEXT ? COLL_TEXT : 0);
}

/* Fills round place 'd' from a parsed question, whose memory is about to be reused. */
static int take_question(
	struct round *r, struct asked *d, const struct question *qn, struct vx_err *err)
{
	memset(d, 0, sizeof *d);
	d->q.k = qn->k;
	d->q.ef = qn->ef;
	d->q.recall = qn->recall;
	d->q.exact = qn->exact == 1;
	d->q.with = with_of(qn->with);
	if (qn->timeout_ms)
		d->q.deadline_ns = clock_mono_ns() + (uint64_t)qn->timeout_ms * 1000000u;
	d->format = qn->format ? qn->format : r->a->o.format;
	d->number = r->a->number++;
	if (qn->name) {
		d->name_len = qn->name_len;
		if (!(d->name = copy_bytes(qn->name, qn->name_len)))
			return -ENOMEM;
	}
	apply_opts(&r->a->o, r->req, &d->q);
	if (qn->exact == 0)
		d->q.exact = false;
	if (qn->id) {
		d->q.id_len = qn->id_len;
		d->q.id = d->id = copy_bytes(qn->id, qn->id_len);
		return d->id ? 0 : -ENOMEM;
	}
	if (qn->text) {
		int rc = embed_question(r->c, qn, &d->vec, &d->q.dim, err);
		d->q.vec = d->vec;
		return rc;
	}
	d->q.dim = qn->dim;
	d->q.vec = d->vec = (float *)(void *)copy_bytes(qn->vec, (size_t)qn->dim * sizeof(float));
	return d->vec ? 0 : -ENOMEM;
}

static void round_clear(struct round *r)
{
	for (uint32_t i = 0; i < r->n; i++) {
		free(r->asked[i].name);
		free(r->asked[i].vec);
		free(r->asked[i].id);
	}
	r->n = 0;
}

static int round_new(struct ask *a, struct coll *c, fuse_req_t req, uint32_t cap, struct round *ret)
{
	*ret = (struct round){
		.a = a,
		.c = c,
		.req = req,
		.cap = cap,
		.lines = calloc(cap, sizeof *ret->lines),
		.asked = calloc(cap, sizeof *ret->asked),
		.qs = calloc(cap, sizeof *ret->qs),
		.answers = calloc(cap, sizeof *ret->answers),
		.rcs = calloc(cap, sizeof *ret->rcs),
	};
	return ret->lines && ret->asked && ret->qs && ret->answers && ret->rcs ? 0 : -ENOMEM;
}

static void round_release(struct round *r)
{
	round_clear(r);
	for (uint32_t i = 0; r->answers && i < r->cap; i++)
		coll_answer_release(&r->answers[i]);
	free(r->lines);
	free(r->asked);
	free(r->qs);
	free(r->answers);
	free(r->rcs);
}

static int round_print(struct round *r, uint32_t i)
{
	const struct asked *d = &r->asked[i];

	note_damage(r->c, &r->answers[i]);
	int rc = print_answer(r->a, &r->answers[i], d->format, d->name, d->name_len, d->number);

	return rc ? rc : too_long(r->a, r->err);
}

/* Question i was answered, as were all before it: printed while later ones are still being searched, up to
 * the first that failed. */
static void on_answered(void *ctx, size_t i)
{
	struct round *r = ctx;

	if (r->print_rc || r->rcs[i] || r->printed != i)
		return;
	r->print_rc = round_print(r, (uint32_t)i);
	if (r->print_rc == 0)
		r->printed++;
}

static int round_run(struct round *r, uint64_t *ret_line, struct vx_err *err)
{
	int rc = 0;

	if (r->n == 0)
		return 0;
	for (uint32_t i = 0; i < r->n; i++)
		r->qs[i] = r->asked[i].q;
	if (r->n > 1 || lasts(&r->qs[0]))
		fs_takes_long();
	r->printed = 0;
	r->print_rc = 0;
	r->err = err;
	if (r->n == 1) {
		rc = r->rcs[0] = coll_search(r->c, &r->qs[0], &r->answers[0], err);
		on_answered(r, 0);
	} else {
		rc = coll_search_each(r->c, r->qs, r->n, r->answers, r->rcs, on_answered, r);
	}
	if (rc == 0)
		rc = r->print_rc;
	/* Not printed and no error: a question failed.  Of its reason only the errno is known: ask it again. */
	while (rc == 0 && r->printed < r->n) {
		uint32_t i = r->printed;

		*ret_line = r->lines[i];
		rc = r->rcs[i];
		if (rc)
			rc = coll_search(r->c, &r->qs[i], &r->answers[i], err);
		if (rc == 0)
			rc = round_print(r, i);
		if (rc == 0) {
			*ret_line = 0;
			r->printed++;
		}
	}
	if (rc && r->n == 1)
		*ret_line = r->lines[0];
	round_clear(r);
	return rc;
}

/* Calls 'each' for every line that is not blank. */
static int each_line(const char *p, size_t n, uint64_t *ret_line,
	int (*each)(void *arg, const char *line, size_t len, uint64_t number), void *arg)
{
	uint64_t number = 0;
	int rc = 0;

	while (n && !rc) {
		const char *nl = memchr(p, '\n', n);
		size_t len = nl ? (size_t)(nl - p) : n, step = nl ? len + 1 : len;
		number++;
		size_t i = 0;
		while (i < len && (p[i] == ' ' || p[i] == '\t' || p[i] == '\r'))
			i++;
		if (i < len) {
			rc = each(arg, p, len, number);
			if (rc && !*ret_line)
				*ret_line = number;
		}
		p += step;
		n -= step;
	}
	return rc;
}

/* What no search would take, said where the question is written.  Unknown ids may come later. */
static int check_vec(const struct coll *c, const float *v, uint32_t dim, struct vx_err *err)
{
	bool any = false;

	if (coll_dim(c) && dim != coll_dim(c))
		return vx_err_set(err, -EINVAL,
			"the question has dimension %u; this collection has dimension %u", dim,
			coll_dim(c));
	for (uint32_t i = 0; i < dim; i++) {
		if (!isfinite(v[i]))
			return vx_err_set(err, -EINVAL,
				"the question has a number that is not finite in float32");
		any = any || v[i] != 0;
	}
	/* Without records the metric may still change. */
	if (!any && coll_dim(c) && coll_metric(c) == VX_COSINE)
		return vx_err_set(err, -EINVAL,
			"the question is all zeros, which has no direction (metric cosine)");
	return 0;
}

struct line_ctx {
	struct round *r;          /* NULL: only check */
	const struct coll *check; /* then: against this */
	struct ask *a;
	struct vx_err *err;
	uint64_t *ret_line;
};

static int ask_line(void *arg, const char *p, size_t n, uint64_t number)
{
	struct line_ctx *lc = arg;
	struct round *r = lc->r;
	struct question qn;

	int rc = question_parse(lc->a->arena, p, n, &qn, lc->err);
	if (rc)
		return rc;
	if (!r)
		return qn.vec ? check_vec(lc->check, qn.vec, qn.dim, lc->err) : 0;
	rc = take_question(r, &r->asked[r->n], &qn, lc->err);
	r->lines[r->n++] = number;
	if (rc == 0 && r->n == r->cap)
		rc = round_run(r, lc->ret_line, lc->err);
	return rc;
}

/* Runs or checks every question of the text. */
static int each_question(struct line_ctx *lc, const char *p, size_t n)
{
	if (question_kind_of(p, n, 0) == QUESTION_LINES)
		return each_line(p, n, lc->ret_line, ask_line, lc);
	return ask_line(lc, p, n, 0);
}

/* How many questions a text may have at most, up to what a round takes. */
static uint32_t lines_in(const char *p, size_t n)
{
	uint32_t lines = 1;

	for (const char *nl; lines < ROUND_MAX && (nl = memchr(p, '\n', n)) != NULL; lines++) {
		n -= (size_t)(nl - p) + 1;
		p = nl + 1;
		if (n == 0)
			break;
	}
	return lines;
}

int ask_text(struct ask *a, struct coll *c, const char *p, size_t n, fuse_req_t req,
	uint64_t *ret_line, struct vx_err *err)
{
	struct round r;
	struct line_ctx lc = {.r = &r, .a = a, .err = err, .ret_line = ret_line};
	int rc = round_new(a, c, req, lines_in(p, n), &r);

	if (rc == 0)
		rc = each_question(&lc, p, n);
	if (rc == 0)
		rc = round_run(&r, ret_line, err);
	round_release(&r);
	return rc;
}

int ask_check(struct ask *a, const struct coll *c, const char *p, size_t n, uint64_t *ret_line,
	struct vx_err *err)
{
	struct line_ctx lc = {.check = c, .a = a, .err = err, .ret_line = ret_line};

	if (!ask_is_raw(p, n, coll_dim(c)))
		return each_question(&lc, p, n);
	a->vec.len = 0; /* aligned */
	int rc = buf_append(&a->vec, p, n);
	return rc ? rc : check_vec(c, (const float *)(const void *)a->vec.data, coll_dim(c), err);
}
