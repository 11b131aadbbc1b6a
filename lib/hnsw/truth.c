/* truth.c - questions for a measurement, and their true neighbours.
 *
 * The questions are stored records, each asked for as if it were not there (index_query.skip):
 * the walk neither returns nor passes it.  Merely leaving a record out of its own answer would be no test at
 * all, as its own links lead to everything that is sought (recall .96 instead of .80).  What remains
 * of it are links that others gave up for it: so it is a little harder to answer than a
 * new question, which errs on the safe side.
 *
 * The largest inner products are the same few long vectors for most questions, and all links lead
 * to them: what a filter leaves lies off the well-trodden paths.  So under that metric every third question is
 * asked among one slot in eight.
 *
 * Truth: the codes are scanned in blocks, each block once for all questions while it lies in the cache; the
 * best by code, several times k of them, get their exact distances.  Whether a slot farther away by code may yet belong to
 * the nearest follows from the errors of the codes that were just seen; a question for which
 * it may is asked again on full vectors.  When most are like that (coarse codes), only a few questions are
 * kept, lest those remain that the codes find easy.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hnsw/measure_i.h"

#define TRUTH_BLOCK CODES_BLOCK
#define TRUTH_PIECE                                                                                \
	32u /* questions asked of a block, or slots of all unsure ones, between pauses */
#define TRUTH_SIGMAS  4.0
#define TRUTH_UNSURE  8u  /* one in so many may be asked again ... */
#define TRUTH_FEW     48u /* ... or this many are kept */
#define HUNDRED_EVERY 16u /* of so many questions a pair is for 100 neighbours, too */
#define HUNDRED_PAIR  2u

/* How many candidates by whole code are looked at. */
static uint32_t kept_max(const struct codes *c, uint32_t k)
{
	return c->width == 0 ? k : VX_MAX(4 * k + 60, pool_min(c, k));
}

/* How many by what is scanned first. */
static uint32_t first_max(const struct codes *c, uint32_t k, bool heads)
{
	return kept_max(c, k) * (heads ? 2 : 1);
}

void sample_release(struct sample *s)
{
	free(s->q);
	free(s->kept);
	free(s->codes);
}

/* Marks the slots that have upper rows: a walk starts from such and would lead past 'skip'. */
static uint8_t *upper_slots(const struct index *ix, uint32_t linked)
{
	const struct hnsw *h = hnsw_of(ix);
	uint8_t *is_upper = calloc((size_t)linked / 8 + 1, 1);
	uint32_t n = ix_load(&h->nupper);

	for (uint32_t u = 0; is_upper && u < n; u++) {
		uint32_t slot = upper_at(h, u)->slot;
		if (slot < linked)
			is_upper[slot / 8] |= (uint8_t)(1u << slot % 8);
	}
	return is_upper;
}

/* The i-th point of a sequence of which every prefix is spread evenly over [from, to). */
static uint32_t spread(uint32_t i, uint32_t from, uint32_t to)
{
	uint32_t golden = (i + 1) * 0x9e3779b1u;

	return from + (uint32_t)((uint64_t)golden * (to - from) >> 32);
}

int sample_init(struct sample *s, struct index *ix, uint32_t n, uint32_t recent)
{
	const struct codes *c = &ix->codes;
	const bool heads = c->tail > 0 && ix_load(&ix->by_heads);
	uint32_t cap10 = first_max(c, 10, heads), cap100 = first_max(c, 100, heads);
	uint32_t hundreds = (n + HUNDRED_EVERY - 1) / HUNDRED_EVERY * HUNDRED_PAIR;

	memset(s, 0, sizeof *s);
	s->linked = ix_load(&ix->linked);
	s->heads = heads;
	s->q = calloc(n, sizeof *s->q);
	s->kept = calloc(2 * ((size_t)n * cap10 + (size_t)hundreds * cap100), sizeof *s->kept);
	s->codes = aligned_alloc(64, (size_t)n * VX_MAX(c->width, 64u));
	uint8_t *is_upper = upper_slots(ix, s->linked);
	float *tmp = malloc(codes_tmp_floats(c) * sizeof *tmp);
	if (!s->q || !s->kept || !s->codes || !is_upper || !tmp) {
		sample_release(s);
		free(is_upper);
		free(tmp);
		return -ENOMEM;
	}
	struct cand *kept = s->kept;
	for (uint32_t i = 0; i < 2 * n && s->n < n; i++) {
		struct question *q = &s->q[s->n];
		q->slot = spread(i, recent && i % 2 ? recent : 0, s->linked);
		uint8_t flags = codes_flags_get(c, q->slot);
		if ((flags & CODES_DEAD) || !(flags & CODES_LINKED) ||
			(is_upper[q->slot / 8] >> q->slot % 8 & 1))
			continue;
		q->vec = c->host.vector(c->host.ctx, q->slot);
		q->probe.q8 = s->codes + (size_t)s->n * c->width;
		q->probe.qf = tmp;
		if (!q->vec || !probe_from_slot(c, q->slot, &q->probe))
			continue;
		q->thin = ix->p.metric == VX_IP && s->n % 3 == 2;
		q->k = !q->thin && s->n % HUNDRED_EVERY < HUNDRED_PAIR ? 100 : 10;
		q->cap = q->k == 100 ? cap100 : cap10;
		q->kept = kept;
		kept += 2 * (size_t)q->cap;
		s->n++;
	}
	free(is_upper);
	free(tmp);
	return 0;
}

bool sample_visible(void *ctx, uint32_t slot)
{
	(void)ctx;
	return (slot * 0x9e3779b1u >> 16 & 7) == 0;
}

/* --- truth ---------------------------------------------------------------- */
/* Gathers what is nearer than the bound, and cuts it back when the room is full: cheaper than keeping it
 * sorted, as much more comes than stays. */
static void keep(struct topk *t, struct cand x)
{
	if (t->n == t->cap)
		topk_shrink(t);
	if (x.d < t->bound)
		t->a[t->n++] = x;
}

/* Most blocks have nothing near to offer: a loop without branches finds that out. */
static bool any_below(const float *d, uint32_t n, float bound)
{
	uint32_t below = 0;

	for (uint32_t i = 0; i < n; i++)
		below |= d[i] < bound;
	return below;
}

static int scan_blocks(struct sample *s, const struct index *ix, struct scratch *sc)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct question *q = &s->q[i];
		q->near = (struct topk){
			.a = q->kept, .want = q->cap, .cap = 2 * q->cap, .bound = INFINITY};
		q->probe.full = !s->heads;
	}
	for (uint32_t at = 0; at < s->linked;) {
		struct code_block block;
		uint32_t m = 0;
		for (; at < s->linked && m < TRUTH_BLOCK; at++) {
			uint8_t flags = codes_flags_get(&ix->codes, at);
			if ((flags & CODES_LINKED) && !(flags & CODES_DEAD))
				sc->ids[m++] = at;
		}
		if (s->heads)
			codes_block(&ix->codes, sc->ids, m, &block);
		for (uint32_t i = 0; i < s->n; i++) {
			struct question *q = &s->q[i];
			if (i % TRUTH_PIECE == 0 && ix_pause(ix))
				return -EINTR;
			if (s->heads)
				probe_block(&ix->codes, &q->probe, &block, sc->dots, sc->dist);
			else
				probe_distances(&ix->codes, &q->probe, sc->ids, m, sc->rows,
					sc->dots, sc->dist);
			if (!any_below(sc->dist, m, q->near.bound))
				continue;
			for (uint32_t j = 0; j < m; j++) {
				uint32_t slot = sc->ids[j];
				if (!(sc->dist[j] < q->near.bound) || slot == q->slot ||
					(q->thin && !sample_visible(NULL, slot)))
					continue;
				keep(&q->near, (struct cand){.d = sc->dist[j], .slot = slot});
			}
		}
	}
	return 0;
}

static float length_of(const struct index *ix, const float *v)
{
	const struct codes *c = &ix->codes;

	return c->metric == VX_COSINE ? sqrtf(c->k->dot_f32(v, v, c->dim)) : 0;
}

static int cand_cmp(const void *x, const void *y)
{
	const struct cand *a = x, *b = y;

	return cand_less(a, b) ? -1 : cand_less(b, a);
}

/* How far codes are off, exact - code. */
struct off {
	double sum, squares;
	uint32_t n;
};

static void off_add(struct off *o, double off)
{
	if (off - off != 0)
		return; /* not finite */
	o->sum += off;
	o->squares += off * off;
	o->n++;
}

/* Whether what lies at 'last' by code, or beyond, can hardly be nearer than 'bound'. */
static bool off_beyond(const struct off *o, double last, double bound)
{
	double mean = o->sum / o->n, sd = sqrt(VX_MAX(o->squares / o->n - mean * mean, 0.0));

	return last + mean - TRUTH_SIGMAS * sd >= bound;
}

/* Sorts what the scan has gathered; after heads, measures it with whole codes and keeps the best.
 * *ret_cut: the distance by head beyond which others were left out, INFINITY: none were. */
static void refine(struct question *q, const struct index *ix, struct scratch *sc, bool heads,
	struct off *head, float *ret_cut)
{
	const uint32_t want = kept_max(&ix->codes, q->k);

	if (q->near.n > q->near.want)
		topk_shrink(&q->near);
	q->n = q->near.n;
	*ret_cut = INFINITY;
	if (heads && q->n == q->cap) {
		*ret_cut = 0;
		for (uint32_t i = 0; i < q->n; i++)
			*ret_cut = i ? VX_MAX(*ret_cut, q->kept[i].d) : q->kept[i].d;
	}
	q->probe.full = true;
	for (uint32_t at = 0; heads && at < q->n; at += TRUTH_BLOCK) {
		uint32_t m = VX_MIN(TRUTH_BLOCK, q->n - at);
		for (uint32_t i = 0; i < m; i++)
			sc->ids[i] = q->kept[at + i].slot;
		probe_distances(&ix->codes, &q->probe, sc->ids, m, sc->rows, sc->dots, sc->dist);
		for (uint32_t i = 0; i < m; i++) {
			off_add(head, (double)sc->dist[i] - (double)q->kept[at + i].d);
			q->kept[at + i].d = sc->dist[i];
		}
	}
	q->near.n = q->n;
	q->near.want = q->cap = want;
	topk_shrink(&q->near);
	q->n = q->near.n;
	qsort(q->kept, q->n, sizeof *q->kept, cand_cmp);
}

/* Exact distances of what was kept; says what the codes are worth. */
static void settle_truth(struct question *q, const struct index *ix, struct scratch *sc, bool heads)
{
	const struct codes *c = &ix->codes;
	const uint32_t depth = codes_coarse(c) ? pool_min(c, 10) : rerank_max(10);
	struct off head = {.n = 0}, code = {.n = 0};
	float len = length_of(ix, q->vec), cut;
	struct cand by_code[512];

	refine(q, ix, sc, heads, &head, &cut);
	float last = q->n ? q->kept[q->n - 1].d : 0;
	uint32_t most = VX_MIN(q->n, (uint32_t)VX_ARRAY_SIZE(by_code));
	for (uint32_t i = 0; i < q->n; i++) {
		const float *v = c->host.vector(c->host.ctx, q->kept[i].slot);
		float d = v ? exact_distance(c, q->vec, len, v) : INFINITY;
		off_add(&code, (double)d - (double)q->kept[i].d);
		q->kept[i].d = d;
	}
	memcpy(by_code, q->kept, most * sizeof *by_code);
	qsort(q->kept, q->n, sizeof *q->kept, cand_cmp);
	if (q->n < q->k || code.n == 0)
		return;
	float bound = q->kept[9].d;
	for (uint32_t i = 0; i < most; i++) {
		q->by_codes += i < 10 && by_code[i].d <= bound;
		q->by_rerank += i < depth && by_code[i].d <= bound;
	}
	q->by_codes = VX_MIN(q->by_codes, 10u);
	q->by_rerank = VX_MIN(q->by_rerank, 10u);
	bound = q->kept[q->k - 1].d;
	q->sure = q->n < q->cap || c->width == 0 || off_beyond(&code, last, bound);
	/* What the heads left out is beyond 'cut' by head: so it is by code, but for their error. */
	if (q->sure && isfinite(cut) && head.n > 0)
		q->sure = off_beyond(&head, cut, bound - code.sum / code.n);
}

/* Asks the questions that are not sure on full vectors, each vector read once for all. */
static int ask_exactly(struct sample *s, const struct index *ix)
{
	const struct codes *c = &ix->codes;
	float len[TRUTH_FEW];
	struct question *unsure[TRUTH_FEW];
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n && n < TRUTH_FEW; i++) {
		if (s->q[i].sure)
			continue;
		unsure[n] = &s->q[i];
		unsure[n]->n = 0;
		len[n++] = length_of(ix, s->q[i].vec);
	}
	for (uint32_t at = 0; n > 0 && at < s->linked; at++) {
		if (at % TRUTH_PIECE == 0 && ix_pause(ix))
			return -EINTR;
		uint8_t flags = codes_flags_get(c, at);
		const float *v = (flags & CODES_LINKED) && !(flags & CODES_DEAD)
					 ? c->host.vector(c->host.ctx, at)
					 : NULL;
		for (uint32_t i = 0; v && i < n; i++) {
			struct question *q = unsure[i];
			if (at != q->slot && (!q->thin || sample_visible(NULL, at)))
				cand_insert(q->kept, &q->n, q->k,
					(struct cand){.d = exact_distance(c, q->vec, len[i], v),
						.slot = at});
		}
	}
	return 0;
}

int sample_truth(struct sample *s, struct index *ix, struct scratch *sc)
{
	uint32_t unsure = 0, n = 0;

	int rc = scan_blocks(s, ix, sc);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < s->n; i++) {
		if (ix_pause(ix))
			return -EINTR;
		settle_truth(&s->q[i], ix, sc, s->heads);
		unsure += s->q[i].n >= s->q[i].k && !s->q[i].sure;
	}
	if (unsure > VX_MIN(s->n / TRUTH_UNSURE, TRUTH_FEW))
		s->n = VX_MIN(s->n, TRUTH_FEW);
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->q[i].n >= s->q[i].k)
			s->q[n++] = s->q[i];
	}
	s->n = n;
	return ask_exactly(s, ix);
}

float question_bound(const struct index *ix, const struct question *q, uint32_t k)
{
	float d = q->kept[k - 1].d;

	return ix->p.metric == VX_L2 ? sqrtf(d) : d;
}
