/* search.c - searching a view, and the index in the background.
 *
 * The index is made at first need: from its checkpoint when that belongs to this generation and
 * agrees with the slice slot by slot, and from the segments for the rest.  A checkpoint with a slot that the slice
 * has not, without one that lives, or with one alive that was dead when it was written is discarded: all slots are
 * in the tail then, where every search finds them, until they are linked again.  Whoever comes first makes the
 * index, the others wait.  Its view callback reads segments only.
 */
#include "store/store_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#define MAKE_CHUNK        4096u
#define HITS_STACK        256u
#define LOADED_INFO_BYTES (1 << 20)

const float *slice_slot_vector(struct slice *sl, uint32_t slot)
{
	struct seg *g = slice_seg(sl, slot_seg(slot));
	return g ? seg_vector(g, slot_at(slot)) : NULL;
}

int slice_slot_id(struct slice *sl, uint32_t slot, const char **ret_id, size_t *ret_len)
{
	struct slot_row row;
	struct seg *g = slice_seg(sl, slot_seg(slot));

	if (!g || seg_row(g, slot_at(slot), &row))
		return -EUCLEAN;
	*ret_id = row.id;
	*ret_len = row.id_len;
	return 0;
}

static const float *host_vector(void *ctx, uint32_t slot)
{
	return slice_slot_vector(ctx, slot);
}

/* The entry that killed a slot, 0: it lives. */
static uint64_t killed_by(const struct slice *sl, uint32_t slot)
{
	struct seg *g = slice_seg(sl, slot_seg(slot));
	_Atomic uint64_t *dead = g ? atomic_load_explicit(&g->dead, memory_order_acquire) : NULL;

	return dead ? atomic_load_explicit(&dead[slot_at(slot)], memory_order_relaxed) : 0;
}

static bool host_dead(void *ctx, uint32_t slot, uint64_t applied)
{
	uint64_t by = killed_by(ctx, slot);

	return by && by <= applied;
}

static bool host_pause(void *ctx)
{
	struct slice *sl = ctx;

	return sl->shard->pause && sl->shard->pause(sl->shard->ctx);
}

/* --- making the index --------------------------------------------------------------------- */

int slice_fresh_index(struct slice *sl, struct index **ret, struct vx_err *err)
{
	const struct slice_schema *sc = &sl->schema;
	struct index_params p = {
		.kind = sc->index[0] ? sc->index : NULL,
		.quant = sc->quant[0] ? sc->quant : NULL,
		.metric = sc->metric,
		.dim = sc->dim,
		.m = sc->m,
		.ef_construction = sc->ef_construction,
		.seed = sl->cid,
	};
	struct index_host host = {
		.vector = host_vector, .pause = host_pause, .dead = host_dead, .ctx = sl};

	int rc = index_new(&p, &host, ret);
	if (rc == -EINVAL)
		rc = -EUCLEAN;
	return rc ? vx_err_set(err, rc, "no index of kind \"%s\", \"%s\"", sc->index, sc->quant)
		  : 0;
}

struct agree {
	const struct slice *sl;
	uint64_t applied; /* what was dead then is known to be so; 0: nothing is */
};

static enum index_slot slot_is(void *ctx, uint32_t slot)
{
	const struct agree *a = ctx;
	uint64_t by = killed_by(a->sl, slot);

	return by == 0 ? INDEX_SLOT_ALIVE : by <= a->applied ? INDEX_SLOT_DEAD : INDEX_SLOT_EITHER;
}

/* What was loaded has the slots of this slice, and each as it should be. */
static int agrees(struct slice *sl, const struct view *v, const struct index *ix,
	const struct index_tag *tag, struct vx_err *err)
{
	struct agree a = {.sl = sl, .applied = tag->dead_known ? tag->applied : 0};

	if (tag->generation != v->generation)
		return vx_err_set(err, -EUCLEAN, "it is of generation %llu, not %u",
			(unsigned long long)tag->generation, v->generation);
	if (tag->applied > v->applied)
		return vx_err_set(err, -EUCLEAN, "it is of entry %llu, the slice of %llu",
			(unsigned long long)tag->applied, (unsigned long long)v->applied);
	return index_compare(ix, v->nslots, slot_is, &a, err);
}

/* Every byte of it was verified; what is left of 'nslots' comes out of the segments. */
static void log_loaded(
	struct slice *sl, struct index *ix, const char *path, uint64_t ns, uint32_t nslots)
{
	struct stat st;
	double bytes = stat(path, &st) == 0 ? (double)st.st_size : 0;

	if (bytes < LOADED_INFO_BYTES) /* thousands of small collections have nothing to say */
		return;
	log_info("store",
		"collection %u: index checkpoint loaded: %.0f bytes in %.1f ms, %.2f GB/s, %u of "
		"%u slots",
		sl->cid, bytes, (double)ns / 1e6, bytes / (double)VX_MAX(ns, 1u),
		index_appended(ix), nslots);
}

/* A fresh index, or one with what the checkpoint has. */
static int load_index(
	struct slice *sl, const struct view *v, struct index **ret, struct vx_err *err)
{
	struct vx_err why = VX_ERR_INIT;
	struct index_tag tag;
	char path[STORE_PATH_MAX];

	int rc = slice_fresh_index(sl, ret, err);
	if (rc)
		return rc;
	rc = store_path(path, sl->gen_dir, SLICE_CHECKPOINT);
	uint64_t began = clock_mono_ns();
	if (rc == 0)
		rc = index_load(*ret, sl->shard->disk, path, &tag, &why);
	bool loaded = rc == 0;
	uint64_t took = clock_mono_ns() - began;
	if (loaded)
		rc = agrees(sl, v, *ret, &tag, &why);
	if (rc == 0) {
		log_loaded(sl, *ret, path, took, v->nslots);
		return 0;
	}
	if (rc == -ENOMEM) {
		index_free(*ret);
		return vx_err_set(err, rc, "no memory for the index");
	}
	if (rc != -ENOENT)
		log_warn("store", "collection %u: index checkpoint discarded: %s", sl->cid,
			vx_err_msg(&why, rc));
	if (!loaded)
		return 0; /* still fresh */
	index_free(*ret);
	return slice_fresh_index(sl, ret, err);
}

int slice_index_append(struct slice *sl, struct index *ix, uint32_t from, uint32_t to)
{
	float *zero = NULL;
	int rc = 0;

	while (from < to && rc == 0) {
		uint32_t n = 0,
			 room = VX_MIN(VX_MIN(to - from, MAKE_CHUNK), SEG_SLOTS - slot_at(from));
		const float *first = slice_slot_vector(sl, from);
		if (first) {
			for (n = 1; n < room && slice_slot_vector(sl, from + n);)
				n++;
			rc = index_append(ix, from, n, first);
		} else {
			n = 1;
			if (!zero && !(zero = calloc(sl->schema.dim, sizeof *zero)))
				return -ENOMEM;
			rc = index_append(ix, from, 1, zero);
		}
		from += n;
	}
	free(zero);
	return rc;
}

static void forget_dead(struct slice *sl, struct index *ix, uint32_t nslots)
{
	for (uint32_t first = 0; first < nslots; first += SEG_SLOTS) {
		struct seg *g = slice_seg(sl, slot_seg(first));
		_Atomic uint64_t *dead = g ? atomic_load_explicit(&g->dead, memory_order_acquire)
					   : NULL;
		for (uint32_t i = 0; dead && i < SEG_SLOTS && first + i < nslots; i++) {
			if (atomic_load_explicit(&dead[i], memory_order_relaxed))
				index_forget(ix, first + i);
		}
	}
}

static int make_index(struct slice *sl, struct index **ret, struct vx_err *err)
{
	struct view v = slice_view(sl);
	struct index *ix;

	int rc = load_index(sl, &v, &ix, err);
	if (rc)
		return rc;
	sl->saved_linked = index_linked(ix);
	sl->saved_appended = index_appended(ix);
	rc = slice_index_append(sl, ix, index_appended(ix), v.nslots);
	if (rc) {
		index_free(ix);
		return vx_err_set(err, rc, "cannot fill the index");
	}
	forget_dead(sl, ix, v.nslots);
	*ret = ix;
	return 0;
}

/* The applier is held off, and nobody searches. */
static int differs_now(struct slice *sl, struct index *ix, struct vx_err *err)
{
	struct view v = slice_view(sl);
	struct agree a = {.sl = sl, .applied = v.applied};
	uint32_t n = index_appended(ix);

	/* No search is left that could want them. */
	sl->forget_next.len = sl->forget_soon.len = 0;
	forget_dead(sl, ix, v.nslots);
	if (n < v.nslots)
		return vx_err_set(err, -EUCLEAN, "it has %u slots of %u", n, v.nslots);
	/* An entry that was not committed may have left slots, which the next one takes. */
	return index_compare(ix, n, slot_is, &a, err);
}

void slice_index_settle(struct slice *sl)
{
	struct vx_err why = VX_ERR_INIT;
	int rc = 0;

	vx_lock(&sl->mu);
	sl->swapping = true;
	while (sl->run_active)
		vx_cond_wait(&sl->cond, &sl->mu);
	struct index *ix = sl->index_phase == INDEX_READY ? sl->index : NULL;
	vx_unlock(&sl->mu);
	if (ix)
		rc = differs_now(sl, ix, &why);
	vx_lock(&sl->mu);
	if (rc) {
		sl->index = NULL;
		sl->index_phase = INDEX_NONE;
		sl->saved_linked = sl->saved_appended = 0;
	}
	sl->swapping = false;
	vx_cond_broadcast(&sl->cond);
	vx_unlock(&sl->mu);
	if (rc == 0)
		return;
	log_error("store", "collection %u: the index is not of its records, and is made anew: %s",
		sl->cid, vx_err_msg(&why, rc));
	index_free(ix);
}

int slice_index_ready(struct slice *sl, struct index **ret, struct vx_err *err)
{
	bool made = false, tail = false; /* made here, and not all of it is linked */
	int rc = 0;

	vx_lock(&sl->mu);
	for (;;) {
		if (VX_LIKELY(sl->index_phase == INDEX_READY)) {
			*ret = sl->index;
			break;
		}
		if (sl->index_phase == INDEX_MAKING) {
			vx_cond_wait(&sl->cond, &sl->mu);
			continue;
		}
		vx_lock(&sl->view_mu);
		bool repairing = sl->repairing;
		vx_unlock(&sl->view_mu);
		if (repairing) {
			rc = vx_err_set(err, -EAGAIN, "vectors are being recovered from the log");
			break;
		}
		struct index *ix = NULL;
		sl->index_phase = INDEX_MAKING;
		vx_unlock(&sl->mu);
		rc = make_index(sl, &ix, err);
		vx_lock(&sl->mu);
		sl->index = rc ? NULL : ix;
		sl->index_phase = rc ? INDEX_NONE : INDEX_READY;
		vx_cond_broadcast(&sl->cond);
		if (rc)
			break;
		made = true;
		tail = index_linked(ix) < index_appended(ix);
	}
	vx_unlock(&sl->mu);
	if (made && (tail || slice_compact_due(sl)) && sl->shard->index_event)
		sl->shard->index_event(sl->shard->ctx, sl->cid);
	return rc;
}

/* --- searching -------------------------------------------------------------------------------- */

struct seen {
	struct slice *sl;
	uint64_t applied;
	bool any_dead;
	bool (*visible)(void *ctx, uint32_t slot);
	void *ctx;
};

static bool slot_visible(void *ctx, uint32_t slot)
{
	const struct seen *s = ctx;

	if (s->any_dead) {
		struct seg *g = slice_seg(s->sl, slot_seg(slot));
		_Atomic uint64_t *dead = g ? atomic_load_explicit(&g->dead, memory_order_acquire)
					   : NULL;
		uint64_t at = dead ? atomic_load_explicit(
					     &dead[slot_at(slot)], memory_order_relaxed)
				   : 0;
		if (at && at <= s->applied)
			return false;
	}
	return !s->visible || s->visible(s->ctx, slot);
}

int slice_read_begin(struct slice *sl, struct slice_reader *ret, struct vx_err *err)
{
	int rc = slice_index_ready(sl, &ret->ix, err);

	if (rc)
		return rc;
	ret->sl = sl;
	/* Slots that this view sees stay known to the index until the epoch has passed. */
	vx_lock(&sl->view_mu);
	ret->applied = sl->view.applied;
	ret->nslots = sl->view.nslots;
	ret->epoch = sl->epoch & 1;
	sl->searching[ret->epoch]++;
	vx_unlock(&sl->view_mu);
	ret->any_dead = atomic_load_explicit(&sl->dead_slots, memory_order_relaxed) > 0;
	return 0;
}

void slice_read_end(struct slice_reader *r)
{
	vx_lock(&r->sl->view_mu);
	r->sl->searching[r->epoch]--;
	vx_unlock(&r->sl->view_mu);
}

int slice_read_search(const struct slice_reader *r, const struct index_query *q,
	struct slice_hit *hits, uint32_t *ret_n, struct index_search_stat *stat)
{
	struct slice *sl = r->sl;
	struct index_hit few[HITS_STACK];
	struct index_hit *found = few;
	uint32_t n = 0, out = 0;
	struct index_query mine = *q;
	struct index_search_stat st = {0};
	struct seen seen = {
		.sl = sl,
		.applied = r->applied,
		.any_dead = r->any_dead,
		.visible = q->visible,
		.ctx = q->visible_ctx,
	};

	mine.nslots = r->nslots;
	if (seen.any_dead) {
		mine.visible = slot_visible;
		mine.visible_ctx = &seen;
	}
	if (q->k > HITS_STACK)
		found = malloc((size_t)q->k * sizeof *found);
	int rc = found ? index_search(r->ix, &mine, found, &n, &st) : -ENOMEM;
	/* The rows of hits lie anywhere: all are on their way before the first is looked at. */
	for (uint32_t i = 0; i < n && rc == 0; i++) {
		struct seg *g = slice_seg(sl, slot_seg(found[i].slot));
		if (g)
			__builtin_prefetch(seg_row_bytes(g, slot_at(found[i].slot)), 0, 3);
	}
	for (uint32_t i = 0; i < n && rc == 0; i++) {
		struct slot_row row;
		struct seg *g = slice_seg(sl, slot_seg(found[i].slot));
		if (!g || seg_row(g, slot_at(found[i].slot), &row)) {
			st.damaged++; /* nobody can say whose it is; logged */
			continue;
		}
		hits[out++] = (struct slice_hit){.distance = found[i].distance,
			.slot = found[i].slot,
			.rowid = row.rowid,
			.id = row.id,
			.id_len = row.id_len};
	}
	if (found != few)
		free(found);
	if (rc == 0)
		*ret_n = out;
	if (stat)
		*stat = st;
	return rc;
}

int slice_search(struct slice *sl, const struct index_query *q, struct slice_hit *hits,
	uint32_t *ret_n, struct index_search_stat *stat)
{
	struct slice_reader r;
	int rc = slice_read_begin(sl, &r, NULL);

	if (rc)
		return rc;
	rc = slice_read_search(&r, q, hits, ret_n, stat);
	slice_read_end(&r);
	return rc;
}

/* --- in the background ------------------------------------------------------------------------ */

int slice_index_step(struct slice *sl, uint32_t max)
{
	struct index *ix;

	int rc = slice_index_ready(sl, &ix, NULL);
	if (rc)
		return rc;
	int n = index_link(ix, max);
	if (n > 0 && index_linked(ix) == index_appended(ix) && sl->shard->index_event)
		sl->shard->index_event(sl->shard->ctx, sl->cid);
	return n;
}

int slice_save_now(struct slice *sl, struct index *ix, struct vx_err *err)
{
	char tmp[STORE_PATH_MAX], path[STORE_PATH_MAX];
	struct disk *d = sl->shard->disk;

	/* The tag comes first: what is appended meanwhile only makes the file know more, and a
	 * file that knows more slots than the slice at the next start is discarded. */
	struct view v = slice_view(sl);
	struct index_tag tag = {.generation = v.generation, .applied = v.applied};
	uint32_t linked = index_linked(ix), appended = index_appended(ix);

	int rc = store_path(tmp, sl->gen_dir, SLICE_CHECKPOINT ".tmp");
	if (rc == 0)
		rc = store_path(path, sl->gen_dir, SLICE_CHECKPOINT);
	if (rc)
		return vx_err_set(err, rc, "the path is too long");
	rc = index_save(ix, d, tmp, tag, err);
	if (rc == 0) {
		rc = d->ops->rename(d, tmp, path);
		if (rc == 0)
			rc = d->ops->sync_dir(d, sl->gen_dir);
		if (rc)
			vx_err_set(err, rc, "%s: cannot put in place", path);
	}
	if (rc) {
		(void)d->ops->unlink(d, tmp);
		return rc;
	}
	vx_lock(&sl->mu);
	sl->saved_linked = linked;
	sl->saved_appended = appended;
	vx_unlock(&sl->mu);
	return 0;
}

int slice_index_save(struct slice *sl, uint32_t min_slots, struct vx_err *err)
{
	vx_lock(&sl->mu);
	struct index *ix = sl->index_phase == INDEX_READY && !sl->saving ? sl->index : NULL;
	bool changed = ix && index_linked(ix) - sl->saved_linked > min_slots;
	if (changed)
		sl->saving = true;
	vx_unlock(&sl->mu);
	if (!changed)
		return 0;
	int rc = slice_save_now(sl, ix, err);
	vx_lock(&sl->mu);
	sl->saving = false;
	vx_unlock(&sl->mu);
	return rc;
}

int slice_index_check(struct slice *sl, struct vx_err *err)
{
	struct index *ix;

	int rc = slice_index_ready(sl, &ix, err);
	return rc ? rc : index_check(ix, err);
}

bool slice_index_recall(struct slice *sl, float recall, uint32_t k, struct index_recall *ret)
{
	vx_lock(&sl->mu);
	struct index *ix = sl->index_phase == INDEX_READY ? sl->index : NULL;
	vx_unlock(&sl->mu);
	if (ix)
		index_recall(ix, recall, k, ret);
	return ix != NULL;
}
