/* read.c - records by id and handle, scans, directory pages. */
#include <stdlib.h>
#include <string.h>

#include "cluster/db_i.h"

_Static_assert(COLL_META == SLICE_META && COLL_TEXT == SLICE_TEXT && COLL_VEC == SLICE_VEC,
	"passed through to the store");

struct slice *coll_slice(struct coll *c, uint32_t shard, int *ret_rc, struct vx_err *err)
{
	struct slice *sl = shard_slice_get(c->db->shards[shard], c->cid, ret_rc, err);

	if (!sl && *ret_rc == -ENOENT)
		*ret_rc = 0;
	return sl;
}

int coll_why_damaged(struct coll *c, struct vx_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < c->n_places && rc == 0; i++)
		slice_put(coll_slice(c, c->places[i].shard, &rc, err));
	return rc;
}

static uint64_t make_handle(uint32_t shard, uint64_t rowid)
{
	return (uint64_t)shard << HANDLE_SHARD_SHIFT | rowid;
}

void coll_rec_release(struct coll_rec *r)
{
	buf_release(&r->mem);
}

/* Moves a record of the store into the caller's memory (the vector may lie in a mapping that goes
 * with the pin). */
static int take(struct coll_rec *ret, uint32_t shard, const struct slice_rec *s)
{
	const struct vx_record *f = &s->rec;
	size_t vec_bytes = f->vec ? (size_t)f->dim * sizeof(float) : 0;
	struct buf *m = &ret->mem;

	m->len = 0;
	int rc = buf_reserve(m, vec_bytes + f->id_len + f->meta_len + f->text_len + 3);
	if (rc)
		return rc;
	ret->handle = make_handle(shard, s->rowid);
	ret->version = s->version;
	ret->mtime_ns = s->mtime_ns;
	ret->rec = *f;
	uint8_t *p = m->data;
	if (vec_bytes) {
		memcpy(p, f->vec, vec_bytes);
		ret->rec.vec = (const float *)(const void *)p;
		p += vec_bytes;
	}
	memcpy(p, f->id, f->id_len);
	ret->rec.id = (char *)p;
	p += f->id_len;
	if (f->meta) {
		memcpy(p, f->meta, f->meta_len);
		ret->rec.meta = (char *)p;
		p += f->meta_len;
	}
	if (f->text) {
		memcpy(p, f->text, f->text_len);
		ret->rec.text = (char *)p;
		p += f->text_len;
	}
	m->len = (size_t)(p - m->data);
	return 0;
}

int coll_get(struct coll *c, const char *id, size_t len, unsigned what, struct coll_rec *ret,
	struct vx_err *err)
{
	uint32_t shard = coll_shard_of(c, id, len);
	struct slice_rec s = {.rowid = 0};
	int rc;
	struct slice *sl = coll_slice(c, shard, &rc, err);

	atomic_fetch_add_explicit(&c->db->n_gets, 1, memory_order_relaxed);
	if (!sl)
		return rc ? rc : -ENOENT;
	rc = slice_get(sl, id, len, what, &s, err);
	if (rc == 0)
		rc = take(ret, shard, &s);
	slice_rec_release(&s);
	slice_put(sl);
	return rc;
}

int coll_get_handle(
	struct coll *c, uint64_t handle, unsigned what, struct coll_rec *ret, struct vx_err *err)
{
	uint32_t shard = (uint32_t)(handle >> HANDLE_SHARD_SHIFT);
	struct slice_rec s = {.rowid = 0};
	int rc;

	if (shard >= c->db->n_shards)
		return -ENOENT;
	struct slice *sl = coll_slice(c, shard, &rc, err);
	if (!sl)
		return rc ? rc : -ENOENT;
	rc = slice_get_rowid(sl, handle & HANDLE_ROWID_MASK, what, &s, err);
	if (rc == 0)
		rc = take(ret, shard, &s);
	slice_rec_release(&s);
	slice_put(sl);
	return rc;
}

int coll_lookup(struct coll *c, const char *id, size_t len, struct coll_rec *ret)
{
	uint32_t shard = coll_shard_of(c, id, len);
	struct slice_rec_stat st;
	int rc;
	struct slice *sl = coll_slice(c, shard, &rc, NULL);

	if (!sl)
		return rc ? rc : -ENOENT;
	rc = slice_stat_rec(sl, id, len, &st);
	slice_put(sl);
	if (rc)
		return rc;
	ret->handle = make_handle(shard, st.rowid);
	ret->version = st.version;
	ret->mtime_ns = st.mtime_ns;
	return 0;
}

/* --- scans: the slices one after another, all pinned and opened at the start so that the whole is one
 * snapshot per shard. */
struct coll_scan {
	struct coll *c;
	uint32_t n, at;
	uint64_t after;
	uint64_t damaged; /* records passed over */
	struct vx_err damage;
	struct coll_rec rec;
	struct {
		uint32_t shard;
		struct slice *sl;
		struct slice_scan *sc;
	} part[];
};

int coll_scan_open(struct coll *c, unsigned what, struct coll_scan **ret, struct vx_err *err)
{
	struct coll_scan *s = calloc(1, sizeof *s + c->n_places * sizeof s->part[0]);
	int rc = 0;

	if (!s)
		return -ENOMEM;
	vx_lock(&c->db->coll_lock);
	s->c = coll_ref(c);
	vx_unlock(&c->db->coll_lock);
	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++) {
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, err);

		if (!sl)
			continue;
		rc = slice_scan_open(sl, what, &s->part[s->n].sc);
		if (rc) {
			slice_put(sl);
			break;
		}
		s->part[s->n].shard = c->places[i].shard;
		s->part[s->n++].sl = sl;
	}
	if (rc) {
		coll_scan_close(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void coll_scan_seek(struct coll_scan *s, uint64_t handle)
{
	uint32_t shard = (uint32_t)(handle >> HANDLE_SHARD_SHIFT);

	s->at = 0;
	s->after = 0;
	if (handle == 0)
		return;
	while (s->at < s->n && s->part[s->at].shard != shard)
		s->at++;
	s->after = handle & HANDLE_ROWID_MASK;
}

int coll_scan_next(struct coll_scan *s, const struct coll_rec **ret, struct vx_err *err)
{
	while (s->at < s->n) {
		const struct slice_rec *r;
		int rc = slice_scan_next(s->part[s->at].sc, s->after, &r, err);

		if (rc == -ENOENT) {
			struct vx_err first = VX_ERR_INIT;
			uint64_t damaged = slice_scan_damaged(s->part[s->at].sc, &first);

			if (damaged && !s->damaged)
				s->damage = first;
			s->damaged += damaged;
			s->at++;
			s->after = 0;
			continue;
		}
		if (rc)
			return rc;
		s->after = r->rowid;
		s->rec.handle = make_handle(s->part[s->at].shard, r->rowid);
		s->rec.version = r->version;
		s->rec.mtime_ns = r->mtime_ns;
		s->rec.rec = r->rec;
		*ret = &s->rec;
		return 0;
	}
	if (!s->damaged)
		return -ENOENT;
	return vx_err_set(err, -EUCLEAN, "%llu record%s left out: %s",
		(unsigned long long)s->damaged, s->damaged == 1 ? " was" : "s were", s->damage.msg);
}

void coll_scan_close(struct coll_scan *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->n; i++) {
		slice_scan_close(s->part[i].sc);
		slice_put(s->part[i].sl);
	}
	coll_put(s->c);
	free(s);
}

/* --- directory pages --------------------------------------------------------------------- */
struct page {
	uint32_t shard;
	uint32_t left;
	int stopped;
	int (*each)(void *arg, uint64_t handle, uint64_t mtime_ns, const char *id, size_t len);
	void *arg;
};

static int on_listed(void *arg, uint64_t rowid, uint64_t mtime_ns, const char *id, size_t len)
{
	struct page *p = arg;

	p->left--;
	p->stopped = p->each(p->arg, make_handle(p->shard, rowid), mtime_ns, id, len);
	return p->stopped;
}

/* Placements are ordered by bucket, cursors by shard: shards are visited in ascending order. */
int coll_list(struct coll *c, uint64_t cursor, uint32_t max,
	int (*each)(void *arg, uint64_t handle, uint64_t mtime_ns, const char *id, size_t len),
	void *arg)
{
	struct page p = {.left = max, .each = each, .arg = arg};
	uint32_t from = (uint32_t)(cursor >> HANDLE_SHARD_SHIFT);
	uint64_t after = cursor & HANDLE_ROWID_MASK;

	for (uint32_t s = from; s < c->db->n_shards && p.left > 0 && !p.stopped; s++, after = 0) {
		bool ours = false;
		int rc;

		for (uint32_t i = 0; i < c->n_places; i++)
			ours |= c->places[i].shard == s;
		if (!ours)
			continue;
		struct slice *sl = coll_slice(c, s, &rc, NULL);
		if (!sl && rc == 0)
			continue;
		if (!sl)
			return rc;
		p.shard = s;
		rc = slice_list(sl, after, p.left, on_listed, &p);
		slice_put(sl);
		if (rc < 0 && !p.stopped)
			return rc;
	}
	return p.stopped;
}
