/* index.c - the index: codes, tail, answers; the structure behind a table.
 *
 * A search asks the kind for candidates among the linked slots, scans the tail on codes into the
 * same pool, and reranks the best of the pool with full vectors: those distances are
 * the answer's.  'linked' is read once at the start and cuts the two parts: what the structure may
 * hold beyond it is not taken from there, so no slot is found twice or missed.
 * If the kind finds fewer than k, everything linked is scanned: k visible slots are
 * returned whenever they exist.
 */
#include "index/index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/index_i.h"

#define LINK_BATCH 64u

static const struct index_ops *const kinds[] = {&hnsw_ops, &flat_ops};

static const struct index_ops *find_kind(const char *name)
{
	for (size_t i = 0; i < VX_ARRAY_SIZE(kinds); i++) {
		if (!name || strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	}
	return NULL;
}

static int check_params(const struct index_params *p)
{
	if (p->dim == 0 || p->dim > VX_DIM_MAX || (unsigned)p->metric > VX_IP)
		return -EINVAL;
	if (p->m > INDEX_M_MAX || (p->m > 0 && p->m < INDEX_M_MIN))
		return -EINVAL;
	if (p->ef_construction > INDEX_EF_MAX)
		return -EINVAL;
	if (quant_find(p->quant) < 0)
		return -EINVAL;
	return find_kind(p->kind) ? 0 : -EINVAL;
}

static void init_gate(pthread_rwlock_t *gate)
{
	pthread_rwlockattr_t a;

	/* A checkpoint must not wait for ever behind linkers that overlap each other. */
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(gate, &a);
	pthread_rwlockattr_destroy(&a);
}

int index_new(const struct index_params *p, const struct index_host *host, struct index **ret)
{
	uint32_t extra = 0;
	int rc = check_params(p);

	if (rc < 0)
		return rc;
	struct index *ix = calloc(1, sizeof *ix);
	if (!ix)
		return -ENOMEM;
	ix->p = *p;
	ix->ops = find_kind(p->kind);
	ix->p.kind = ix->ops->name;
	const enum quant quant = (enum quant)quant_find(p->quant);
	ix->p.quant = quant_name(quant);
	ix->p.m = p->m ? p->m : 16;
	ix->p.ef_construction = p->ef_construction ? p->ef_construction : 200;
	ix->host = *host;
	vx_mutex_init(&ix->advance, LOCK_INDEX);
	init_gate(&ix->link_gate);

	rc = ix->ops->init(ix, &extra);
	if (rc == 0)
		rc = codes_init(&ix->codes, &ix->p, quant, extra, host);
	if (rc < 0) {
		index_free(ix);
		return rc;
	}
	ix->trained = codes_need_no_centre(&ix->codes);
	*ret = ix;
	return 0;
}

void index_free(struct index *ix)
{
	if (!ix)
		return;
	ix->ops->release(ix);
	codes_release(&ix->codes);
	pthread_rwlock_destroy(&ix->link_gate);
	vx_mutex_release(&ix->advance);
	free(ix);
}

/* The slots before 'first' that have no codes yet, and the new ones: learns from them all and encodes
 * them. */
static int train(struct index *ix, uint32_t first, uint32_t n, const float *vecs, float *tmp)
{
	struct codes *c = &ix->codes;
	const float **v = malloc(((size_t)first + n) * sizeof *v), *zero = c->centre;

	if (!v)
		return -ENOMEM;
	for (uint32_t i = 0; i < first; i++)
		v[i] = c->host.vector(c->host.ctx, i);
	for (uint32_t i = 0; i < n; i++)
		v[first + i] = vecs + (size_t)i * c->dim;
	codes_train(c, v, first + n);
	/* What cannot be read any more gets some code: reranking leaves it out. */
	for (uint32_t i = 0; i < first + n; i++)
		codes_encode(c, i, v[i] ? v[i] : zero, tmp);
	free(v);
	return 0;
}

int index_append(struct index *ix, uint32_t first, uint32_t n, const float *vecs)
{
	struct codes *c = &ix->codes;

	if (first != ix_load(&ix->appended) || n > VX_SLOTS_MAX - first)
		return -EINVAL;
	struct scratch *sc = scratch_get(c, 0, 0);
	if (!sc)
		return -ENOMEM;
	int rc = codes_reserve(c, first + n);
	bool trained = ix_load(&ix->trained);
	if (rc == 0 && !trained && first + n >= CODES_TRAIN) {
		rc = train(ix, first, n, vecs, sc->probe.qf);
		/* Partner: index_search, which reads it before 'appended'. */
		if (rc == 0)
			ix_store(&ix->trained, 1);
	}
	if (rc == 0) {
		for (uint32_t i = 0; i < n && trained; i++)
			codes_encode(c, first + i, vecs + (size_t)i * c->dim, sc->probe.qf);
		/* Partner: every ix_load of 'appended'; a slot below it has its code. */
		ix_store(&ix->appended, first + n);
		codes_settle(c, first, first + n);
	}
	scratch_put(sc);
	return rc;
}

void index_forget(struct index *ix, uint32_t slot)
{
	if (slot >= ix_load(&ix->appended))
		return;
	uint8_t old = __atomic_fetch_or(
		codes_flags(&ix->codes, slot), CODES_DEAD, __ATOMIC_RELEASE);
	if (old & CODES_DEAD)
		return;
	__atomic_fetch_add(&ix->dead, 1, __ATOMIC_RELAXED);
	if (ix->ops->remove)
		ix->ops->remove(ix, slot);
}

bool index_forgotten(const struct index *ix, uint32_t slot)
{
	return slot < ix_load(&ix->appended) && (codes_flags_get(&ix->codes, slot) & CODES_DEAD);
}

/* --- against the slots that it is of --------------------------------------------- */
struct differs {
	uint32_t n, first;
};

static void differ(struct differs *d, uint32_t slot)
{
	if (d->n++ == 0)
		d->first = slot;
}

/* Whether a living slot cannot be found. */
static bool left_out(const struct index *ix, uint32_t slot, uint8_t flags)
{
	if (flags & CODES_DEAD)
		return true;
	/* What could not be read when it was to be linked is in no answer either. */
	return (flags & CODES_SKIPPED) && ix->host.vector(ix->host.ctx, slot) != NULL;
}

int index_compare(const struct index *ix, uint32_t nslots,
	enum index_slot (*slot)(void *ctx, uint32_t slot), void *ctx, struct vx_err *err)
{
	uint32_t appended = ix_load(&ix->appended);
	struct differs missing = {0}, back = {0};

	for (uint32_t s = 0; s < appended && s < nslots; s++) {
		uint8_t f = codes_flags_get(&ix->codes, s);
		enum index_slot is = slot(ctx, s);
		if (is == INDEX_SLOT_ALIVE && (f & (CODES_DEAD | CODES_SKIPPED)) &&
			left_out(ix, s, f) && slot(ctx, s) == INDEX_SLOT_ALIVE)
			differ(&missing, s);
		if (is == INDEX_SLOT_DEAD && !(f & CODES_DEAD))
			differ(&back, s);
	}
	if (appended > nslots)
		return vx_err_set(err, -EUCLEAN, "it has %u slots that do not exist, from %u on",
			appended - nslots, nslots);
	if (missing.n)
		return vx_err_set(err, -EUCLEAN, "%u records are left out, the first in slot %u",
			missing.n, missing.first);
	if (back.n)
		return vx_err_set(err, -EUCLEAN, "%u dead slots are alive, the first is %u", back.n,
			back.first);
	return 0;
}

/* --- linking -------------------------------------------------------------- */
/* Takes up to 'max' slots of the tail below 'bound'; returns their number. */
static uint32_t take_slots(struct index *ix, uint32_t max, uint32_t bound, uint32_t *ret_first)
{
	uint32_t next = ix_load(&ix->next);

	if (!ix_load(&ix->trained))
		return 0;
	for (;;) {
		uint32_t end = VX_MIN(ix_load(&ix->appended), bound);
		uint32_t n = end > next ? VX_MIN(end - next, max) : 0;
		if (n == 0)
			return 0;
		if (__atomic_compare_exchange_n(&ix->next, &next, next + n, false, __ATOMIC_ACQ_REL,
			    __ATOMIC_ACQUIRE)) {
			*ret_first = next;
			return n;
		}
	}
}

/* Moves 'linked' over the slots that are done, whoever did them. */
static void advance(struct index *ix)
{
	vx_lock(&ix->advance);
	uint32_t from = ix->linked, to = from, end = ix_load(&ix->next);
	while (to < end && (codes_flags_get(&ix->codes, to) & (CODES_LINKED | CODES_SKIPPED)))
		to++;
	if (to > from) {
		codes_settle_extra(&ix->codes, from, to);
		/* Partner: index_search; a slot below it is found through the structure. */
		ix_store(&ix->linked, to);
	}
	vx_unlock(&ix->advance);
}

int index_link(struct index *ix, uint32_t max)
{
	uint32_t done = 0;
	bool stop = false;

	while (done < max && !stop) {
		uint32_t first, n = 0;
		struct scratch *sc = scratch_get(
			&ix->codes, ix_load(&ix->appended), 8 * ix->p.ef_construction);
		if (!sc)
			return done ? (int)done : -ENOMEM;
		pthread_rwlock_rdlock(&ix->link_gate);
		n = take_slots(ix, VX_MIN(max - done, LINK_BATCH), sc->nslots, &first);
		for (uint32_t i = 0; i < n; i++) {
			bool linked = ix->ops->insert(ix, sc, first + i);
			/* Release: the slot's links come before the flag that says they exist. */
			codes_flags_or(
				&ix->codes, first + i, linked ? CODES_LINKED : CODES_SKIPPED);
			/* What was taken is done, or it would keep all after it in the tail. */
			stop = ix_pause(ix) || stop;
		}
		if (n > 0)
			advance(ix);
		bool idle = ix_load(&ix->linked) == ix_load(&ix->appended);
		if (n > 0 && ix->ops->settle)
			ix->ops->settle(ix, sc, idle);
		pthread_rwlock_unlock(&ix->link_gate);
		if (ix->ops->measure && !stop)
			ix->ops->measure(ix, sc, idle);
		scratch_put(sc);
		if (n == 0)
			break;
		done += n;
	}
	return (int)VX_MIN(done, (uint32_t)INT32_MAX);
}

uint32_t index_appended(const struct index *ix)
{
	return ix_load(&ix->appended);
}

/* Without codes there is nothing to link, and the exact scan is the structure. */
uint32_t index_linked(const struct index *ix)
{
	return ix_load(&ix->trained) ? ix_load(&ix->linked) : ix_load(&ix->appended);
}

/* --- search --------------------------------------------------------------- */
static int hit_cmp(const void *pa, const void *pb)
{
	const struct index_hit *a = pa, *b = pb;

	if (a->distance != b->distance)
		return a->distance < b->distance ? -1 : 1;
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static void sort_hits(struct index_hit *h, uint32_t n)
{
	if (n > 64) {
		qsort(h, n, sizeof *h, hit_cmp);
		return;
	}
	for (uint32_t i = 1; i < n; i++) {
		struct index_hit x = h[i];
		uint32_t j = i;
		for (; j > 0 && hit_cmp(&x, &h[j - 1]) < 0; j--)
			h[j] = h[j - 1];
		h[j] = x;
	}
}

#define RERANK_AHEAD 4u

/* A slot's full vector, on its way into the cache. */
static const float *fetch_vector(const struct codes *c, uint32_t slot)
{
	const float *v = c->host.vector(c->host.ctx, slot);

	for (uint32_t i = 0; v && i < c->dim; i += 16)
		__builtin_prefetch(v + i, 0, 3);
	return v;
}

/* What reranking has learned of the codes' error, exact - code. */
struct code_error {
	uint32_t n;
	double sum, squares;
};

#define RERANK_THOROUGH 16u /* an ef of so many k wants the last neighbour, too */
#define RERANK_MIN      8u  /* samples before the error is believed */
#define RERANK_SURE     32u /* to be sure of it */
#define RERANK_SIGMAS   3.0
#define COARSE_SIGMAS   4.0 /* 'thorough' with coarse codes, whose pools are long */

/* Whether a candidate with this code distance can hardly be nearer than 'worst'. */
static bool hopeless(const struct code_error *e, float d, float worst, double sigmas, bool sure)
{
	double mean = e->sum / e->n, var = e->squares / e->n - mean * mean;

	if (sure) {
		/* Those in front are there because most of their codes err to one side. */
		var += mean * mean;
		mean = VX_MIN(mean, 0.0);
	}
	return (double)d + mean - sigmas * sqrt(VX_MAX(var, 0.0)) > (double)worst;
}

static void learn(struct code_error *e, double off)
{
	e->n++;
	if (off - off != 0)
		return; /* not finite */
	e->sum += off;
	e->squares += off * off;
}

/* The distance of the k-th nearest, where that is known. */
static float kth(const struct topk *t, uint32_t k)
{
	return t->want <= TOPK_SORTED_MAX && t->n >= k ? t->a[k - 1].d : INFINITY;
}

#define REFINE_BATCH 8u

/* The pool was measured with heads: measures the best of it with whole codes and sorts them, with the same
 * rule of when to stop.  Half a code is read for each where reranking reads a vector.  Returns
 * what the pool holds then. */
static uint32_t refine(struct index *ix, const struct index_query *q, struct scratch *sc,
	uint32_t n, bool thorough)
{
	const uint32_t want = rerank_max(q->k), least = VX_MAX(q->k, RERANK_MIN);
	struct code_error err = {0};
	uint32_t done = 0;
	struct topk t;

	n = VX_MIN(n, 2 * want);
	topk_init(&t, sc->work, 0, want);
	sc->probe.full = true;
	for (uint32_t i = 0; i < VX_MIN(n, want); i++)
		codes_prefetch_tail(&ix->codes, sc->pool[i].slot);
	while (done < n) {
		uint32_t m = VX_MIN(REFINE_BATCH, n - done);
		if (!thorough && done >= least &&
			hopeless(&err, sc->pool[done].d, kth(&t, q->k), RERANK_SIGMAS, false))
			break;
		for (uint32_t i = 0; i < m; i++)
			sc->ids[i] = sc->pool[done + i].slot;
		probe_distances(&ix->codes, &sc->probe, sc->ids, m, sc->rows, sc->dots, sc->dist);
		for (uint32_t i = 0; i < m; i++) {
			learn(&err, (double)sc->dist[i] - sc->pool[done + i].d);
			topk_add(&t, (struct cand){.d = sc->dist[i], .slot = sc->ids[i]});
		}
		done += m;
	}
	n = topk_finish(&t);
	__builtin_memcpy(sc->pool, sc->work, n * sizeof *sc->pool);
	return n;
}

struct rerank_run {
	bool sure;  /* asked for: nothing that was measured stands behind this pool */
	bool early; /* the rest of the pool was hopeless */
};

/* Gives the best of the pool their exact distances, into hits, nearest first.  The pool is
 * sorted by code distance, and the first k show how far that is off: once the next one would
 * have to be off by more than three standard deviations to belong to the answer, none after it
 * does, or one in a few thousand: 'thorough' goes on.  With coarse codes that rule alone ends it. */
static uint32_t rerank(struct index *ix, const struct index_query *q, struct scratch *sc,
	uint32_t n, bool thorough, struct index_hit *hits, struct rerank_run *run,
	struct index_search_stat *st)
{
	const struct codes *c = &ix->codes;
	const bool coarse = codes_coarse(c), give_up = coarse || !thorough;
	const uint32_t max = coarse ? n : rerank_max(q->k);
	const uint32_t least = VX_MAX(q->k, run->sure ? RERANK_SURE : RERANK_MIN);
	const double sigmas = thorough ? COARSE_SIGMAS : RERANK_SIGMAS;
	const float *ahead[RERANK_AHEAD];
	struct code_error err = {0};
	float qnorm = 0;
	struct topk t;

	if (c->metric == VX_COSINE)
		qnorm = sqrtf(c->k->dot_f32(q->vec, q->vec, c->dim));
	topk_init(&t, sc->work, 0, q->k);
	st->damaged = 0;
	for (uint32_t i = 0; i < VX_MIN(n, RERANK_AHEAD); i++)
		ahead[i] = fetch_vector(c, sc->pool[i].slot);
	for (uint32_t i = 0; i < n && err.n < max; i++) {
		const float *v = ahead[i % RERANK_AHEAD];
		float code = sc->pool[i].d;
		if (give_up && err.n >= least && hopeless(&err, code, t.bound, sigmas, run->sure)) {
			run->early = true;
			break;
		}
		if (i + RERANK_AHEAD < n)
			ahead[i % RERANK_AHEAD] = fetch_vector(c, sc->pool[i + RERANK_AHEAD].slot);
		if (!v) {
			st->damaged++;
			continue;
		}
		float d = exact_distance(c, q->vec, qnorm, v);
		learn(&err, (double)d - code);
		topk_add(&t, (struct cand){.d = d, .slot = sc->pool[i].slot});
	}
	st->reranked += err.n;
	uint32_t kept = topk_finish(&t);
	for (uint32_t i = 0; i < kept; i++)
		hits[i] = (struct index_hit){.slot = sc->work[i].slot, .distance = sc->work[i].d};
	return kept;
}

/* One pass: walk and scan for a pool of 'want', and rerank.  *ret_short: what was scanned may have
 * had more that belongs to the answer, with codes as coarse as they have shown to be. */
static int search_pool(struct index *ix, const struct index_query *q, struct scratch *sc,
	uint32_t ef, uint32_t limit, uint32_t want, bool thorough, struct index_hit *hits,
	uint32_t *ret_n, bool *ret_short, struct index_search_stat *st)
{
	struct rerank_run run = {.sure = st->ef == 0 && codes_coarse(&ix->codes)};
	bool complete = true, heads = false;
	uint32_t n = 0, scanned = q->nslots - limit, unreadable = 0;
	int rc = 0;

	probe_from_vec(&ix->codes, q->vec, &sc->probe);
	sc->probe.unreadable = &unreadable;
	if (limit > 0) {
		sc->probe.full = !ix_load(&ix->by_heads);
		sc->keep = pool_keep(&ix->codes, ef);
		rc = ix->ops->search(ix, q, sc, limit, ef, &n, &complete, st);
		sc->keep = 0;
		heads = !sc->probe.full;
		n = VX_MIN(n, want);
	}
	if (rc == 0 && n < q->k && !complete) {
		n = 0;
		rc = scan_codes(ix, q, sc, 0, limit, want, &n, st);
		scanned = q->nslots;
	}
	uint32_t walked = scanned < q->nslots ? n : 0;
	if (rc == 0)
		rc = scan_codes(ix, q, sc, limit, q->nslots, want, &n, st);
	sc->probe.unreadable = NULL;
	if (rc < 0)
		return rc;
	bool full = n == want && scanned > want - walked;
	if (heads)
		n = refine(ix, q, sc, n, thorough);
	*ret_n = rerank(ix, q, sc, n, thorough, hits, &run, st);
	st->damaged = VX_MAX(st->damaged, unreadable); /* what is infinitely far is in no pool */
	*ret_short = full && !run.early;
	/* Others may stand in for what cannot be read: they are worth the long way. */
	return st->damaged && *ret_n < q->k ? scan_exact(ix, q, sc, hits, ret_n, st) : 0;
}

#define LONGER_POOL 8u

static int search_codes(struct index *ix, const struct index_query *q, struct scratch *sc,
	uint32_t ef, bool scan, struct index_hit *hits, uint32_t *ret_n,
	struct index_search_stat *st)
{
	uint32_t limit = VX_MIN(ix_load(&ix->linked), q->nslots);
	uint32_t want = VX_MAX(VX_MAX(ef, pool_min(&ix->codes, q->k)), pool_keep(&ix->codes, ef));
	bool thorough = scan || ef / RERANK_THOROUGH >= q->k, is_short;

	if (scan || !ix->ops->search || index_ef_scans(ef, limit))
		limit = 0;
	/* No measurement stands behind what is scanned. */
	thorough |= limit == 0 && codes_coarse(&ix->codes);
	st->ef = limit > 0 ? ef : 0;
	for (;;) {
		int rc = search_pool(
			ix, q, sc, ef, limit, want, thorough, hits, ret_n, &is_short, st);
		if (rc < 0 || !is_short || !codes_coarse(&ix->codes))
			return rc;
		/* By then most vectors would be looked at, and in no order. */
		if (want > q->nslots / LONGER_POOL)
			return scan_exact(ix, q, sc, hits, ret_n, st);
		want *= LONGER_POOL;
	}
}

/* Whether a filter leaves less than three in four.  Only where the kind tells these questions apart. */
static bool is_filtered(const struct index *ix, const struct index_query *q)
{
	return q->visible && ix->p.metric == VX_IP &&
	       ix_visible_sample(ix, q, q->nslots) < IX_SAMPLES * 3 / 4;
}

/* How a question is to be answered: its ef when it has one, else by its recall. */
static struct recall_plan plan_of(const struct index *ix, const struct index_query *q)
{
	struct recall_plan p = {.ef = q->ef ? q->ef : rerank_max(q->k), .exact = q->exact};
	float recall = q->recall > 0 ? q->recall : INDEX_RECALL_DEFAULT;

	if (!q->exact && q->ef == 0 && ix->ops->plan)
		ix->ops->plan(ix, (double)recall, q->k, is_filtered(ix, q), &p);
	p.ef = VX_MIN(VX_MAX(p.ef, q->k), VX_MAX(q->nslots, 1u));
	return p;
}

int index_search(struct index *ix, const struct index_query *query, struct index_hit *hits,
	uint32_t *ret_n, struct index_search_stat *stat)
{
	struct index_search_stat local = {0};
	struct index_query q = *query;
	bool trained = ix_load(&ix->trained);
	uint32_t n = 0, appended = ix_load(&ix->appended);

	q.nslots = VX_MIN(q.nslots, appended);
	q.k = VX_MIN(q.k, q.nslots);
	const struct recall_plan plan = plan_of(ix, &q);
	if (stat)
		*stat = local;
	if (q.k == 0) {
		*ret_n = 0;
		return 0;
	}
	struct scratch *sc = scratch_get(
		&ix->codes, appended, VX_MAX(plan.ef, topk_room(pool_min(&ix->codes, q.k))));
	if (!sc)
		return -ENOMEM;
	int rc = plan.exact || !trained
			 ? scan_exact(ix, &q, sc, hits, &n, &local)
			 : search_codes(ix, &q, sc, plan.ef, plan.scan, hits, &n, &local);
	scratch_put(sc);
	if (rc < 0)
		return rc;
	/* Ties are ordered by slot in the pool already; the root keeps the order. */
	if (ix->p.metric == VX_L2) {
		for (uint32_t i = 0; i < n; i++)
			hits[i].distance = sqrtf(hits[i].distance);
	}
	sort_hits(hits, n);
	if (stat)
		*stat = local;
	*ret_n = n;
	return 0;
}

/* --- upkeep --------------------------------------------------------------- */
int index_check(struct index *ix, struct vx_err *err)
{
	pthread_rwlock_wrlock(&ix->link_gate);
	int rc = 0;
	if (ix->ops->check)
		rc = ix->ops->check(ix, err);
	pthread_rwlock_unlock(&ix->link_gate);
	return rc;
}

void index_stat(const struct index *ix, struct index_stats *ret)
{
	const struct codes *c = &ix->codes;

	memset(ret, 0, sizeof *ret);
	ret->appended = ix_load(&ix->appended);
	ret->linked = index_linked(ix);
	ret->dead = ix_load(&ix->dead);
	ret->code_bytes = (uint64_t)ret->appended * codes_slot_bytes(c);
	ret->link_bytes = (uint64_t)ret->linked * c->extra;
	ret->kind = ix->p.kind;
	ret->quant = ix->p.quant;
	ret->simd = c->k->name;
	if (ix->ops->stat)
		ix->ops->stat(ix, ret);
	ret->memory_bytes = ret->code_bytes + ret->link_bytes + sizeof *ix;
}

void index_recall(const struct index *ix, float recall, uint32_t k, struct index_recall *ret)
{
	struct index_query q = {.k = k, .recall = recall, .nslots = ix_load(&ix->appended)};
	struct recall_measure m = {.linked = 0};
	const struct recall_plan p = plan_of(ix, &q);

	if (ix->ops->recall)
		ix->ops->recall(ix, &m);
	const uint32_t n = m.curve[RECALL_10].n;
	const double asked = 10.0 * n;
	bool scan = p.scan || p.exact || index_ef_scans(p.ef, ix_load(&ix->linked));
	*ret = (struct index_recall){.ef = scan ? 0 : p.ef,
		.scan = scan && !p.exact,
		.exact = p.exact,
		.codes = n ? 1 - m.code_misses / asked : NAN,
		.reranked = n ? 1 - m.rerank_misses / asked : NAN,
		.samples = n,
		.measured_slots = m.linked};
	ret->measured = p.exact ? 1 : scan ? ret->reranked : recall_measured(&m, p.ef);
}
