/* model.c - the log's meaning, written down a second time and as simply as can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t model_rng(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void model_fill(uint8_t *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		if (i % 8 == 0)
			seed = seed * 6364136223846793005u + 1442695040888963407u;
		p[i] = (uint8_t)(seed >> (i % 8 * 8));
	}
}

void model_release(struct model *m)
{
	for (unsigned i = 0; i < MODEL_GROUPS; i++)
		free(m->g[i].e);
	*m = (struct model){0};
}

static void *grow(void *p, size_t bytes)
{
	p = realloc(p, bytes);
	if (!p)
		abort();
	return p;
}

void model_copy(struct model *to, const struct model *from)
{
	for (unsigned i = 0; i < MODEL_GROUPS; i++) {
		struct model_group *t = &to->g[i];
		const struct model_group *f = &from->g[i];
		struct model_entry *e = t->e;
		size_t cap = t->cap;
		if (cap < f->n) {
			cap = f->n * 2;
			e = grow(e, cap * sizeof *e);
		}
		if (f->n)
			memcpy(e, f->e, f->n * sizeof *e);
		*t = *f;
		t->e = e;
		t->cap = cap;
	}
}

static void drop_upto(struct model_group *g, uint64_t index)
{
	uint64_t k = index - g->mark;

	if (k >= g->n) {
		g->n = 0;
	} else {
		g->n -= (size_t)k;
		memmove(g->e, g->e + k, g->n * sizeof *g->e);
	}
	g->mark = index;
}

void model_apply(struct model *m, const struct model_rec *r)
{
	struct model_group *g = &m->g[r->rec.group - 1];
	const struct wal_rec *rec = &r->rec;

	g->exists = true;
	switch (rec->type) {
	case WAL_ENTRY:
		if (g->n == g->cap) {
			g->cap = g->cap ? 2 * g->cap : 32;
			g->e = grow(g->e, g->cap * sizeof *g->e);
		}
		g->e[g->n++] = (struct model_entry){
			.term = rec->term, .seed = r->seed, .len = rec->len, .etype = rec->etype};
		break;
	case WAL_TRUNCATE:
		if (rec->index <= g->mark + g->n)
			g->n = (size_t)(rec->index - 1 - g->mark);
		break;
	case WAL_HARDSTATE:
		g->term = rec->term;
		g->vote = rec->vote;
		break;
	case WAL_RESET:
		g->n = 0;
		g->mark = rec->index;
		/* fall through */
	case WAL_MARK:
		if (rec->type == WAL_MARK)
			drop_upto(g, rec->index);
		g->mark_term = rec->term;
		g->manifest_seed = r->seed;
		g->manifest_len = rec->len;
		break;
	case WAL_DROP:
		free(g->e);
		*g = (struct model_group){0};
		break;
	}
}

int model_stage(struct wal *w, const struct model_rec *r)
{
	struct wal_rec rec = r->rec;
	uint8_t *p = grow(NULL, rec.len + 1);

	model_fill(p, rec.len, r->seed);
	rec.data = p;
	int rc = wal_stage(w, &rec);
	free(p);
	return rc;
}

struct model_rec model_random(const struct model *m, uint64_t *rng, size_t max_len)
{
	uint32_t id = 1 + (uint32_t)(model_rng(rng) % MODEL_GROUPS);
	const struct model_group *g = &m->g[id - 1];
	uint64_t dice = model_rng(rng) % 100, last = g->mark + g->n;
	struct model_rec r = {.rec = {.group = id}, .seed = model_rng(rng)};
	struct wal_rec *rec = &r.rec;

	rec->term = 1 + model_rng(rng) % 50;
	if (dice < 70) {
		rec->type = WAL_ENTRY;
		rec->index = last + 1;
		rec->etype = (uint8_t)(1 + model_rng(rng) % 3);
		rec->len = (size_t)(model_rng(rng) % (max_len + 1));
	} else if (dice < 76) {
		rec->type = WAL_TRUNCATE;
		rec->index = g->mark + 1 + model_rng(rng) % (g->n + 2);
	} else if (dice < 86) {
		rec->type = WAL_HARDSTATE;
		rec->vote = model_rng(rng) % 4;
	} else if (dice < 97) {
		rec->type = WAL_MARK;
		/* Often all of it, so that segments come free; sometimes past the end. */
		rec->index = dice < 92 ? last : g->mark + model_rng(rng) % (g->n + 3);
		rec->len = (size_t)(model_rng(rng) % 200);
	} else if (dice < 99) {
		rec->type = WAL_RESET;
		rec->index = model_rng(rng) % 1000;
		rec->len = (size_t)(model_rng(rng) % 200);
	} else {
		rec->type = WAL_DROP;
	}
	return r;
}

int model_load(struct wal *w, struct loaded *ret, struct vx_err *err)
{
	*ret = (struct loaded){0};
	for (unsigned i = 0; i < MODEL_GROUPS; i++) {
		int rc = wal_group_load(w, i + 1, &ret->g[i], err);
		if (rc) {
			loaded_release(ret);
			return rc;
		}
	}
	return 0;
}

void loaded_release(struct loaded *l)
{
	for (unsigned i = 0; i < MODEL_GROUPS; i++)
		wal_group_state_release(&l->g[i]);
}

static bool data_is(const void *p, size_t n, uint64_t seed, size_t len)
{
	if (n != len)
		return false;
	uint8_t *want = grow(NULL, len + 1);
	model_fill(want, len, seed);
	bool same = len == 0 || memcmp(p, want, len) == 0;
	free(want);
	return same;
}

static const char *group_differs(const struct model_group *g, const struct wal_group_state *s)
{
	if (g->exists != s->exists)
		return "existence";
	if (g->term != s->term)
		return "term";
	if (g->vote != s->vote)
		return "vote";
	if (g->mark != s->mark_index)
		return "mark";
	if (g->mark_term != s->mark_term)
		return "term of the mark";
	if (g->n != s->n_entries)
		return "number of entries";
	if (!data_is(s->manifest, s->manifest_len, g->manifest_seed, g->manifest_len))
		return "manifest";
	for (size_t i = 0; i < g->n; i++) {
		const struct wal_entry *e = &s->entries[i];
		if (e->index != g->mark + 1 + i)
			return "index of an entry";
		if (e->term != g->e[i].term || e->etype != g->e[i].etype)
			return "header of an entry";
		if (!data_is(e->data, e->len, g->e[i].seed, g->e[i].len))
			return "data of an entry";
	}
	return NULL;
}

const char *model_differs(const struct model *m, const struct loaded *l)
{
	static char why[64];

	for (unsigned i = 0; i < MODEL_GROUPS; i++) {
		const char *s = group_differs(&m->g[i], &l->g[i]);
		if (s) {
			(void)snprintf(why, sizeof why, "group %u: %s", i + 1, s);
			return why;
		}
	}
	return NULL;
}

struct wal *log_must_open(struct disk *d, const char *dir, const struct wal_opts *o)
{
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;
	int rc = wal_open(d, dir, o, &w, &err);

	if (rc)
		fail_msg("wal_open: %s", vx_err_msg(&err, rc));
	return w;
}
