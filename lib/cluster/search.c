/* search.c - questions: check, scatter over the slices, merge, fetch what was asked for.
 *
 * A single question runs on the caller's thread (waking another costs more than a search).  Many
 * questions are spread over a pool in which the caller takes part.
 */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/timeslice.h"
#include "cluster/db_i.h"
#include "query/merge.h"

/* Per-thread scratch, kept between questions so that none is allocated per search. */
struct scratch {
	struct slice_hit *hits; /* n_lists x k */
	float *dist;
	struct merge_hit *merged;
	size_t cap_hits, cap_merged;
};
static _Thread_local struct scratch scratch;
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_free(void *p)
{
	struct scratch *s = p;

	free(s->hits);
	free(s->dist);
	free(s->merged);
	memset(s, 0, sizeof *s);
}

static void scratch_make_key(void)
{
	pthread_key_create(&scratch_key, scratch_free);
}

static int scratch_reserve(struct scratch *s, size_t hits, size_t merged)
{
	if (hits > s->cap_hits) {
		struct slice_hit *h = realloc(s->hits, hits * sizeof *h);
		if (!h)
			return -ENOMEM;
		s->hits = h;
		float *d = realloc(s->dist, hits * sizeof *d);
		if (!d)
			return -ENOMEM;
		s->dist = d;
		s->cap_hits = hits;
	}
	if (merged > s->cap_merged) {
		struct merge_hit *m = realloc(s->merged, merged * sizeof *m);
		if (!m)
			return -ENOMEM;
		s->merged = m;
		s->cap_merged = merged;
	}
	pthread_once(&scratch_once, scratch_make_key);
	pthread_setspecific(scratch_key, s);
	return 0;
}

/* The slices of a collection, pinned, with a view of each: for one question or a few in a row, which then do
 * not meet other threads at locks each time. */
struct readers {
	struct slice_reader of[SHARDS_MAX];
	uint32_t shards[SHARDS_MAX];
	uint32_t n;
};

static void readers_close(struct readers *r)
{
	for (uint32_t i = 0; i < r->n; i++) {
		slice_read_end(&r->of[i]);
		slice_put(r->of[i].sl);
	}
}

static int readers_open(struct coll *c, struct readers *ret, struct vx_err *err)
{
	int rc = 0;

	ret->n = 0;
	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++) {
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, err);

		if (!sl)
			continue; /* nothing there yet, or an error */
		rc = slice_read_begin(sl, &ret->of[ret->n], err);
		if (rc)
			slice_put(sl);
		else
			ret->shards[ret->n++] = c->places[i].shard;
	}
	if (rc)
		readers_close(ret);
	return rc;
}

/* The caller's stop and the deadline, as the index polls them. */
struct stopper {
	const struct coll_query *q;
	bool timed_out;
};

static bool should_stop(void *ctx)
{
	struct stopper *s = ctx;

	if (s->q->deadline_ns && clock_mono_ns() >= s->q->deadline_ns) {
		s->timed_out = true;
		return true;
	}
	return s->q->stop && s->q->stop(s->q->stop_ctx);
}

static int check_query(struct coll *c, const struct coll_query *q, uint32_t dim, struct vx_err *err)
{
	if (dim == 0)
		return vx_err_set(err, -ENODATA, "collection '%s' has no records yet", c->name);
	if (q->k > VX_K_MAX)
		return vx_err_set(err, -EINVAL, "k is %u; at most %u are allowed", q->k, VX_K_MAX);
	if (q->id)
		return 0;
	if (!q->vec || q->dim == 0)
		return vx_err_set(err, -EINVAL, "the question is empty");
	if (q->dim != dim)
		return vx_err_set(err, -EINVAL,
			"the question has %u number%s; this collection has dimension %u", q->dim,
			q->dim == 1 ? "" : "s", dim);
	switch (vec_check(q->vec, dim)) {
	case VEC_NONFINITE:
		return vx_err_set(err, -EINVAL, "the question has a NaN or an infinity");
	case VEC_ZERO:
		if (coll_metric(c) == VX_COSINE)
			return vx_err_set(err, -EINVAL,
				"the question is all zeros, which has no direction (metric "
				"cosine)");
		break;
	case VEC_OK:
		break;
	}
	return 0;
}

/* Appends a hit's parts to the answer's memory as offsets (memory may still move). */
static int append_part(struct buf *m, const void *p, size_t n, const char **ret_off)
{
	if (!p)
		return 0;
	*ret_off = (const char *)(uintptr_t)(m->len + 1); /* 0 stays "absent" */
	return buf_append(m, p, n);
}

static int fill_hit(struct slice *sl, const struct slice_hit *sh, uint32_t shard, unsigned with,
	struct coll_answer *a, struct coll_hit *h)
{
	struct slice_rec r = {.rowid = 0};
	const char *off = NULL;
	int rc = 0;

	*h = (struct coll_hit){.distance = sh->distance,
		.handle = (uint64_t)shard << HANDLE_SHARD_SHIFT | sh->rowid};
	if (with & COLL_VEC) { /* first, while the memory is aligned to 4 */
		const float *v = slice_slot_vector(sl, sh->slot);
		size_t pad = VX_ALIGN_UP(a->mem.len, 4) - a->mem.len;

		rc = buf_append(&a->mem, "\0\0\0", pad);
		h->rec.dim = slice_schema(sl)->dim;
		if (rc == 0)
			rc = append_part(&a->mem, v, h->rec.dim * sizeof *v, &off);
		h->rec.vec = (const float *)(const void *)off;
	}
	h->rec.id_len = sh->id_len;
	if (rc == 0)
		rc = append_part(&a->mem, sh->id, sh->id_len, &h->rec.id);
	if (rc == 0 && (with & (COLL_META | COLL_TEXT))) {
		/* Replaced since the view: the hit stands, its text is the newer record's. */
		rc = slice_get_rowid(sl, sh->rowid, with & (COLL_META | COLL_TEXT), &r, NULL);
		if (rc == -ENOENT)
			rc = 0;
		if (rc == 0 && r.rec.meta) {
			h->rec.meta_len = r.rec.meta_len;
			rc = append_part(&a->mem, r.rec.meta, r.rec.meta_len, &h->rec.meta);
		}
		if (rc == 0 && r.rec.text) {
			h->rec.text_len = r.rec.text_len;
			rc = append_part(&a->mem, r.rec.text, r.rec.text_len, &h->rec.text);
		}
		slice_rec_release(&r);
	}
	return rc;
}

static const char *settle(const struct buf *m, const void *off)
{
	return off ? (const char *)m->data + ((uintptr_t)off - 1) : NULL;
}

static int fill_answer(const struct readers *rd, uint32_t k_lists, const struct merge_hit *merged,
	uint32_t n, uint64_t exclude, const struct coll_query *q, uint32_t k, struct coll_answer *a)
{
	a->mem.len = 0;
	a->n_hits = 0;
	if (a->k < k || !a->hits) {
		struct coll_hit *h = realloc(a->hits, (size_t)k * sizeof *h);

		if (!h)
			return -ENOMEM;
		a->hits = h;
	}
	a->k = k;
	for (uint32_t i = 0; i < n && a->n_hits < k; i++) {
		uint32_t l = merged[i].list;
		const struct slice_hit *sh = &scratch.hits[(size_t)l * k_lists + merged[i].index];

		if (exclude == ((uint64_t)rd->shards[l] << HANDLE_SHARD_SHIFT | sh->rowid))
			continue;
		int rc = fill_hit(rd->of[l].sl, sh, rd->shards[l], q->with, a, &a->hits[a->n_hits]);
		if (rc)
			return rc;
		a->n_hits++;
	}
	for (uint32_t i = 0; i < a->n_hits; i++) {
		struct vx_record *r = &a->hits[i].rec;

		r->id = settle(&a->mem, r->id);
		r->meta = settle(&a->mem, r->meta);
		r->text = settle(&a->mem, r->text);
		r->vec = (const float *)(const void *)settle(&a->mem, r->vec);
	}
	return 0;
}

void coll_answer_release(struct coll_answer *a)
{
	free(a->hits);
	buf_release(&a->mem);
	memset(a, 0, sizeof *a);
}

/* How a question is answered: its own ef or recall, else the collection's. */
static void set_effort(const struct coll *c, const struct coll_query *q, struct index_query *iq)
{
	float recall = q->recall;

	iq->ef = q->ef;
	if (iq->ef == 0 && recall == 0)
		iq->ef = atomic_load_explicit(&c->ef_search, memory_order_relaxed);
	if (iq->ef == 0 && recall == 0)
		recall = atomic_load_explicit(&c->recall, memory_order_relaxed);
	iq->exact = q->exact || (iq->ef == 0 && recall >= VX_RECALL_EXACT);
	iq->recall = recall;
}

/* A slot that is to be searched for as if it were not there. */
struct absent {
	uint32_t shard, slot;
};

/* Searches every slice for k_list neighbours, then merges the lists into 'a'. */
static int scatter(struct coll *c, const struct readers *rd, const struct coll_query *q,
	const float *vec, uint32_t k, uint64_t exclude, const struct absent *absent,
	struct coll_answer *a, struct vx_err *err)
{
	uint32_t counts[SHARDS_MAX], heads[SHARDS_MAX], n;
	const float *dist[SHARDS_MAX];
	uint32_t k_list = exclude != UINT64_MAX ? k + 1 : k;
	struct stopper stop = {.q = q};
	struct index_query iq = {
		.vec = vec,
		.k = k_list,
		.stop = q->stop || q->deadline_ns ? should_stop : NULL,
		.stop_ctx = &stop,
	};
	int rc = scratch_reserve(&scratch, (size_t)rd->n * k_list, k_list);

	a->damaged = 0;
	set_effort(c, q, &iq);
	for (n = 0; rc == 0 && n < rd->n; n++) {
		struct slice_hit *hits = scratch.hits + (size_t)n * k_list;
		float *d = scratch.dist + (size_t)n * k_list;
		struct index_search_stat st = {0};

		counts[n] = 0;
		iq.skip = absent && absent->shard == rd->shards[n] ? absent->slot + 1 : 0;
		rc = slice_read_search(&rd->of[n], &iq, hits, &counts[n], &st);
		a->damaged += st.damaged;
		for (uint32_t j = 0; rc == 0 && j < counts[n]; j++)
			d[j] = hits[j].distance;
		dist[n] = d;
		if (rc == -EINTR && stop.timed_out) {
			rc = 0;
			counts[n] = 0;
		}
	}
	a->timed_out = stop.timed_out;
	if (rc == 0) {
		uint32_t got = merge_topk(dist, counts, n, k_list, heads, scratch.merged);

		rc = fill_answer(rd, k_list, scratch.merged, got, exclude, q, k, a);
	}
	if (rc == 0 && stop.timed_out && a->n_hits == 0)
		rc = vx_err_set(err, -ETIMEDOUT, "the question was not answered in time");
	return rc;
}

static uint32_t answers_wanted(const struct coll *c, const struct coll_query *q)
{
	return q->k ? q->k : atomic_load_explicit(&c->k_default, memory_order_relaxed);
}

/* A question by the id of a stored record, which is left out of the answer. */
static int search_near(struct coll *c, const struct readers *rd, const struct coll_query *q,
	struct coll_answer *ret, struct vx_err *err)
{
	struct coll_rec near = {.handle = 0};
	int rc = coll_get(c, q->id, q->id_len, COLL_VEC, &near, err);

	if (rc == -ENOENT)
		vx_err_set(err, rc, "no record '%.*s' in '%s'", (int)VX_MIN(q->id_len, 240u), q->id,
			c->name);
	if (rc == 0)
		rc = scatter(
			c, rd, q, near.rec.vec, answers_wanted(c, q), near.handle, NULL, ret, err);
	coll_rec_release(&near);
	return rc;
}

static int search(struct coll *c, const struct readers *rd, const struct coll_query *q,
	struct coll_answer *ret, struct vx_err *err)
{
	if (q->id)
		return search_near(c, rd, q, ret, err);
	return scatter(c, rd, q, q->vec, answers_wanted(c, q), UINT64_MAX, NULL, ret, err);
}

int coll_search(
	struct coll *c, const struct coll_query *q, struct coll_answer *ret, struct vx_err *err)
{
	struct readers rd;
	int rc = check_query(c, q, coll_dim(c), err);

	if (rc)
		return rc;
	atomic_fetch_add_explicit(&c->db->n_searches, 1, memory_order_relaxed);
	rc = readers_open(c, &rd, err);
	if (rc)
		return rc;
	rc = search(c, &rd, q, ret, err);
	readers_close(&rd);
	return rc;
}

/* --- many at once --------------------------------------------------------------------------- */
/* A pool of helpers: jobs are offered to whoever is idle, the oldest first; the caller works too, so a busy
 * pool only means less help. */
struct pool_job {
	struct pool_job *after; /* guarded by pool->lock */
	bool offered;           /* likewise: is in the list */
	struct coll *c;
	const struct coll_query *qs;
	struct coll_answer *answers;
	int *rcs;
	size_t n, chunk; /* questions; as many are taken at a time */
	atomic_size_t next;
	unsigned helpers; /* guarded by pool->lock */
};

struct pool {
	struct vx_mutex lock;
	struct vx_cond work, idle;
	struct pool_job *jobs; /* guarded by lock: what is offered */
	bool stop;
	unsigned n;
	pthread_t threads[];
};

#define UNANSWERED INT_MIN

/* Questions taken at a time: fewer where there are few, so that all threads have some. */
#define CHUNK_MAX    8u
#define CHUNKS_LEAST 16u

/* Answers the next questions that nobody has taken; false when there are none. */
static bool run_some(struct pool_job *j)
{
	size_t from = atomic_fetch_add_explicit(&j->next, j->chunk, memory_order_relaxed);
	struct readers rd;

	if (from >= j->n)
		return false;
	size_t to = VX_MIN(from + j->chunk, j->n);
	int open = readers_open(j->c, &rd, NULL);

	atomic_fetch_add_explicit(&j->c->db->n_searches, to - from, memory_order_relaxed);
	for (size_t i = from; i < to; i++) {
		const struct coll_query *q = &j->qs[i];
		int rc = check_query(j->c, q, coll_dim(j->c), NULL);

		if (rc == 0)
			rc = open;
		if (rc == 0)
			rc = search(j->c, &rd, q, &j->answers[i], NULL);
		/* Partner: hand_out; the answer comes before the word that it is there. */
		__atomic_store_n(&j->rcs[i], rc, __ATOMIC_RELEASE);
	}
	if (open == 0)
		readers_close(&rd);
	return true;
}

static void run_job(struct pool_job *j)
{
	while (run_some(j))
		;
}

/* Gives the caller the answers that are there, in order; returns how many it has had by now. */
static size_t hand_out(struct pool_job *j, size_t given, coll_answered_fn *each, void *ctx)
{
	while (given < j->n && __atomic_load_n(&j->rcs[given], __ATOMIC_ACQUIRE) != UNANSWERED)
		each(ctx, given++);
	return given;
}

static void offer(struct pool *p, struct pool_job *j)
{
	struct pool_job **at = &p->jobs;

	vx_lock(&p->lock);
	while (*at)
		at = &(*at)->after;
	*at = j;
	j->offered = true;
	vx_cond_broadcast(&p->work);
	vx_unlock(&p->lock);
}

static void withdraw(struct pool *p, struct pool_job *j) VX_REQUIRES(p->lock);
static void withdraw(struct pool *p, struct pool_job *j)
{
	struct pool_job **at = &p->jobs;

	if (!j->offered)
		return;
	while (*at != j)
		at = &(*at)->after;
	*at = j->after;
	j->offered = false;
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;

	timeslice_set(TIMESLICE_BULK_US);
	vx_lock(&p->lock);
	for (;;) {
		while (!p->jobs && !p->stop)
			vx_cond_wait(&p->work, &p->lock);
		if (p->stop)
			break;
		struct pool_job *j = p->jobs;

		j->helpers++;
		vx_unlock(&p->lock);
		run_job(j);
		vx_lock(&p->lock);
		withdraw(p, j);
		if (--j->helpers == 0)
			vx_cond_broadcast(&p->idle);
	}
	vx_unlock(&p->lock);
	return NULL;
}

struct pool *pool_new(unsigned threads)
{
	struct pool *p = calloc(1, sizeof *p + threads * sizeof p->threads[0]);

	if (!p)
		return NULL;
	vx_mutex_init(&p->lock, LOCK_QUEUE);
	vx_cond_init(&p->work);
	vx_cond_init(&p->idle);
	for (; p->n < threads; p->n++) {
		if (pthread_create(&p->threads[p->n], NULL, pool_thread, p))
			break; /* fewer helpers: slower, not wrong */
		pthread_setname_np(p->threads[p->n], "vecfs-search");
	}
	return p;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	vx_lock(&p->lock);
	p->stop = true;
	vx_cond_broadcast(&p->work);
	vx_unlock(&p->lock);
	for (unsigned i = 0; i < p->n; i++)
		pthread_join(p->threads[i], NULL);
	vx_cond_release(&p->work);
	vx_cond_release(&p->idle);
	vx_mutex_release(&p->lock);
	free(p);
}

int coll_search_each(struct coll *c, const struct coll_query *qs, size_t n,
	struct coll_answer *answers, int *ret_rcs, coll_answered_fn *each, void *ctx)
{
	struct pool *p = c->db->pool;
	struct pool_job j = {.c = c,
		.qs = qs,
		.answers = answers,
		.rcs = ret_rcs,
		.n = n,
		.chunk = VX_MAX(VX_MIN(n / CHUNKS_LEAST, (size_t)CHUNK_MAX), (size_t)1)};
	size_t given = 0;

	for (size_t i = 0; i < n; i++)
		ret_rcs[i] = UNANSWERED;
	atomic_init(&j.next, 0);
	if (n > 1 && p && p->n > 0)
		offer(p, &j);
	while (run_some(&j)) {
		if (each)
			given = hand_out(&j, given, each, ctx);
	}
	if (p) {
		vx_lock(&p->lock);
		withdraw(p, &j);
		while (j.helpers > 0)
			vx_cond_wait(&p->idle, &p->lock);
		vx_unlock(&p->lock);
	}
	if (each)
		given = hand_out(&j, given, each, ctx);
	return 0;
}

int coll_search_many(struct coll *c, const struct coll_query *qs, size_t n,
	struct coll_answer *answers, int *ret_rcs, struct vx_err *err)
{
	(void)err;
	return coll_search_each(c, qs, n, answers, ret_rcs, NULL, NULL);
}

#define FIND_K  16u
#define FIND_EF 128u

/* --- recall ------------------------------------------------------------------------------------ */
struct pick {
	uint64_t handle;
};

static int on_pick(void *arg, uint64_t handle, uint64_t mtime_ns, const char *id, size_t len)
{
	struct pick *p = arg;

	(void)mtime_ns;
	(void)id;
	(void)len;
	p->handle = handle;
	return 1;
}

/* A stored record at a random place: one at or after a random rowid of a random slice. */
static int pick_record(struct coll *c, struct coll_rec *ret)
{
	for (int tries = 0; tries < 16; tries++) {
		uint32_t r[2];
		struct slice_stats st;
		struct pick p = {.handle = 0};
		int rc;

		random_bytes(r, sizeof r);
		uint32_t shard = c->places[r[0] % c->n_places].shard;
		struct slice *sl = coll_slice(c, shard, &rc, NULL);
		if (!sl)
			continue;
		slice_stat(sl, &st);
		slice_put(sl);
		if (st.nslots == 0)
			continue;
		uint64_t cursor = (uint64_t)shard << HANDLE_SHARD_SHIFT | r[1] % st.nslots;
		(void)!coll_list(c, cursor, 1, on_pick, &p);
		if (p.handle && coll_get_handle(c, p.handle, COLL_VEC, ret, NULL) == 0)
			return 0;
	}
	return -ENODATA;
}

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* A cosine distance is 1 - dot in float32: near 0 it is right to a few steps of 2^-24. */
#define COSINE_NOISE 0x1p-22f

/* Answers within the exact k-th distance count as found: ties are not misses, nor is what rounding
 * alone tells apart. */
static uint32_t count_found(
	const struct coll_answer *got, const struct coll_answer *exact, enum vx_metric metric)
{
	uint32_t found = 0;

	if (exact->n_hits == 0)
		return 0;
	float worst = exact->hits[exact->n_hits - 1].distance;
	worst += fabsf(worst) * 1e-6f + (metric == VX_COSINE ? COSINE_NOISE : 0);
	for (uint32_t i = 0; i < got->n_hits; i++)
		found += got->hits[i].distance <= worst;
	return VX_MIN(found, exact->n_hits);
}

/* The slot of a record: it is its own nearest neighbour, unless others are its equals. */
static int find_slot(const struct readers *rd, const struct coll_rec *rec, struct absent *ret)
{
	struct slice_hit hits[FIND_K];
	uint32_t n = 0, at = 0;

	ret->shard = (uint32_t)(rec->handle >> HANDLE_SHARD_SHIFT);
	while (at < rd->n && rd->shards[at] != ret->shard)
		at++;
	if (at == rd->n)
		return -ENOENT;
	struct index_query iq = {.vec = rec->rec.vec, .k = FIND_K, .ef = FIND_EF};
	int rc = slice_read_search(&rd->of[at], &iq, hits, &n, NULL);
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		if (hits[i].rowid == (rec->handle & ((1ull << HANDLE_SHARD_SHIFT) - 1))) {
			ret->slot = hits[i].slot;
			return 0;
		}
	}
	return -ENOENT;
}

/* What the questions are promised, and the breadth that this comes to. */
static void describe_effort(struct coll *c, const struct coll_query *q, struct coll_recall *ret)
{
	struct index_query iq = {.ef = 0};
	int rc;

	set_effort(c, q, &iq);
	ret->ef = iq.ef;
	ret->promised = iq.exact         ? VX_RECALL_EXACT
			: iq.ef          ? 0
			: iq.recall == 0 ? INDEX_RECALL_DEFAULT
					 : iq.recall;
	for (uint32_t i = 0; i < c->n_places && iq.ef == 0 && !iq.exact; i++) {
		struct index_recall r;
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, NULL);
		if (!sl)
			continue;
		if (slice_index_recall(sl, iq.recall, q->k, &r))
			ret->ef = VX_MAX(ret->ef, r.ef);
		slice_put(sl);
	}
}

int coll_recall(struct coll *c, uint32_t k, uint32_t samples, uint32_t ef, float recall,
	struct coll_recall *ret, struct vx_err *err)
{
	struct coll_answer got = {.k = 0}, exact = {.k = 0};
	struct coll_rec rec = {.handle = 0};
	uint64_t found = 0, wanted = 0;
	double *us = calloc(2 * (size_t)VX_MAX(samples, 1u), sizeof *us);
	uint32_t n = 0, lost = 0;
	int rc = us ? 0 : -ENOMEM;

	while (rc == 0 && n < samples && lost < samples + FIND_K) {
		struct readers rd;
		struct absent self;

		rc = pick_record(c, &rec);
		if (rc == 0)
			rc = readers_open(c, &rd, err);
		if (rc)
			break;
		if (find_slot(&rd, &rec, &self)) {
			readers_close(&rd);
			lost++; /* replaced meanwhile, or one of many equals */
			continue;
		}
		struct coll_query q = {
			.vec = rec.rec.vec, .dim = rec.rec.dim, .k = k, .ef = ef, .recall = recall};
		uint64_t t0 = clock_mono_ns();
		rc = scatter(c, &rd, &q, q.vec, k, UINT64_MAX, &self, &got, err);
		uint64_t t1 = clock_mono_ns();
		q.exact = true;
		if (rc == 0)
			rc = scatter(c, &rd, &q, q.vec, k, UINT64_MAX, &self, &exact, err);
		readers_close(&rd);
		us[n] = (double)(t1 - t0) / 1e3;
		us[samples + n] = (double)(clock_mono_ns() - t1) / 1e3;
		found += count_found(&got, &exact, coll_metric(c));
		wanted += exact.n_hits;
		n++;
	}
	if (rc == -ENODATA)
		vx_err_set(err, rc, "collection '%s' has no records to measure on", c->name);
	if (rc == 0 && n == 0)
		rc = vx_err_set(err, -ENODATA,
			"collection '%s': no record can be told from its equals", c->name);
	if (rc == 0) {
		const struct coll_query q = {.k = k, .ef = ef, .recall = recall};

		qsort(us, n, sizeof *us, cmp_double);
		qsort(us + samples, n, sizeof *us, cmp_double);
		ret->k = k;
		ret->samples = n;
		ret->recall = wanted ? (double)found / (double)wanted : 1.0;
		ret->p50_us = us[n / 2];
		ret->p99_us = us[(size_t)n * 99 / 100];
		ret->exact_p50_us = us[samples + n / 2];
		describe_effort(c, &q, ret);
	}
	coll_answer_release(&got);
	coll_answer_release(&exact);
	coll_rec_release(&rec);
	free(us);
	return rc;
}
