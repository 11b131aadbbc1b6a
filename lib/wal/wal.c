/* wal.c - staging, flushing and loading.
 *
 * wal_stage appends a record to the pending frame in memory; wal_flush seals it
 * (checksums depend on the segment, which is only known now), pads it to whole
 * blocks, writes it with one write and one fdatasync, and then applies its records
 * to what memory knows of each group.  Before the first byte is written the whole
 * flush is planned: if it needs segments for which there is no room it fails with
 * -ENOSPC and has changed nothing.
 *
 * So that a full log can still be emptied, the end of the last segment is a reserve
 * of three equal units.  Frames with entries leave all three, frames with votes or
 * truncations leave two, the marks and drops of callers leave one, and the last is
 * for the manifests that recycling logs again: without it an idle group's manifest
 * in the oldest segment could keep that segment for ever.
 */
#include "wal/wal_i.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>

#define READ_WINDOW (256u << 10)

static bool is_broken(const struct wal *w)
{
	return atomic_load_explicit(&w->broken, memory_order_relaxed);
}

int wal_break(struct wal *w, int rc)
{
	(void)rc;
	atomic_store_explicit(&w->broken, true, memory_order_relaxed);
	return -EIO;
}

/* --- frames in memory ---------------------------------------------------- */
static int frame_reserve(struct wal_frame *f, size_t n)
{
	size_t need = VX_ALIGN_UP(VX_MAX(f->len, (size_t)WAL_FRAME_HDR) + n, WAL_BLOCK);

	if (need > f->cap) {
		size_t cap = VX_ALIGN_UP(VX_MAX(need, f->cap * 2), WAL_BLOCK);
		uint8_t *p = aligned_alloc(WAL_BLOCK, cap);
		if (!p)
			return -ENOMEM;
		if (f->len)
			memcpy(p, f->data, f->len);
		free(f->data);
		f->data = p;
		f->cap = cap;
	}
	if (!f->len)
		f->len = WAL_FRAME_HDR;
	return 0;
}

static unsigned units_to_leave(uint8_t type)
{
	switch (type) {
	case WAL_ENTRY:
		return 3;
	case WAL_HARDSTATE:
	case WAL_TRUNCATE:
		return 2;
	default:
		return 1;
	}
}

int wal_frame_add(struct wal_frame *f, const struct wal_rec *rec)
{
	size_t size = wal_rec_size(rec->len);
	int rc = frame_reserve(f, size);

	if (rc)
		return rc;
	uint8_t *p = f->data + f->len;
	wal_rhdr_put(p, &(struct wal_rhdr){
				.len = (uint32_t)rec->len,
				.type = rec->type,
				.etype = rec->etype,
				.group = rec->group,
				.index = rec->index,
				.term = rec->term,
				.vote = rec->vote,
			});
	memset(p + size - 8, 0, rec->len ? 8 : 0);
	if (rec->len)
		memcpy(p + WAL_REC_HDR, rec->data, rec->len);
	f->len += size;
	f->n++;
	f->leaves_units = VX_MAX(f->leaves_units, units_to_leave(rec->type));
	return 0;
}

static void frame_clear(struct wal_frame *f)
{
	if (f->cap > WAL_FRAME_KEEP) {
		free(f->data);
		*f = (struct wal_frame){0};
	}
	f->len = 0;
	f->n = 0;
	f->leaves_units = 0;
}

/* --- staging --------------------------------------------------------------- */
int wal_check(struct wal *w, const struct wal_rec *rec)
{
	const struct wal_group *g = wal_group_find(w, rec->group);
	bool exists = g && g->st_exists;
	assert(!g || !g->stopped);
	uint64_t mark = exists ? g->st_mark : 0;

	if (is_broken(w))
		return -EIO;
	if (rec->len > VX_ENTRY_BYTES_MAX ||
		WAL_FRAME_HDR + wal_rec_size(rec->len) > w->segment_size - WAL_HDR_BYTES)
		return -EMSGSIZE;
	if (!exists && rec->type != WAL_DROP && w->n_live >= WAL_GROUPS_MAX)
		return -EUSERS;
	switch (rec->type) {
	case WAL_ENTRY:
		return rec->index == (exists ? g->st_last : 0) + 1 ? 0 : -EINVAL;
	case WAL_TRUNCATE:
		return rec->index > mark ? 0 : -EINVAL;
	case WAL_MARK:
		return rec->index >= mark && rec->index < UINT64_MAX ? 0 : -EINVAL;
	case WAL_RESET:
		return rec->index < UINT64_MAX ? 0 : -EINVAL;
	case WAL_HARDSTATE:
	case WAL_DROP:
		return 0;
	default:
		return -EINVAL;
	}
}

int wal_frame_add_mark(struct wal_frame *f, const struct wal_rec *mark, uint64_t term,
	uint64_t vote, uint64_t last)
{
	const struct wal_rec state = {
		.group = mark->group, .type = WAL_HARDSTATE, .term = term, .vote = vote};
	struct wal_rec told = *mark;
	unsigned units = VX_MAX(f->leaves_units, units_to_leave(WAL_MARK));
	int rc = frame_reserve(f, wal_rec_size(mark->len) + wal_rec_size(0));

	told.vote = VX_MAX(mark->index, last);
	if (rc == 0)
		rc = wal_frame_add(f, &told);
	if (rc == 0)
		rc = wal_frame_add(f, &state);
	f->leaves_units = units;
	return rc;
}

int wal_stage(struct wal *w, const struct wal_rec *rec)
{
	int rc = wal_check(w, rec);

	assert(rc != -EINVAL || rec->type != WAL_ENTRY);
	if (rc)
		return rc;
	struct wal_group *g = wal_group_get(w, rec->group);
	if (!g)
		return -ENOMEM;
	/* Applying after the write must not fail for want of memory. */
	if (rec->type == WAL_ENTRY) {
		rc = wal_group_reserve(g, g->st_entries + 1);
		if (rc)
			return rc;
	}
	rc = rec->type == WAL_MARK
		     ? wal_frame_add_mark(&w->pend, rec, g->st_term, g->st_vote, g->st_last)
		     : wal_frame_add(&w->pend, rec);
	if (rc)
		return rc;
	bool existed = g->st_exists;
	g->st_exists = rec->type != WAL_DROP;
	if (existed != g->st_exists)
		w->n_live += g->st_exists ? 1u : -1u;
	switch (rec->type) {
	case WAL_ENTRY:
		g->st_last = rec->index;
		g->st_entries++;
		break;
	case WAL_TRUNCATE:
		if (rec->index <= g->st_last)
			g->st_last = rec->index - 1;
		break;
	case WAL_HARDSTATE:
		g->st_term = rec->term;
		g->st_vote = rec->vote;
		break;
	case WAL_MARK:
		g->st_mark = rec->index;
		g->st_last = VX_MAX(g->st_last, rec->index);
		break;
	case WAL_RESET:
		g->st_mark = g->st_last = rec->index;
		break;
	case WAL_DROP:
		g->st_term = g->st_vote = g->st_mark = g->st_last = 0;
		break;
	default:
		break;
	}
	return 0;
}

void wal_discard(struct wal *w)
{
	frame_clear(&w->pend);
	wal_group_unstage(w);
}

size_t wal_staged(const struct wal *w)
{
	return w->pend.n ? w->pend.len : 0;
}

/* --- flushing ----------------------------------------------------------------- */
/* Where the frame that begins with the record at 'start' ends: a quarter of a
 * segment, or one record if that is longer. */
static size_t frame_cut(
	const struct wal *w, const struct wal_frame *f, size_t start, uint32_t *ret_n)
{
	size_t max = (w->segment_size - WAL_HDR_BYTES) / 4, end = start;
	uint32_t n = 0;

	while (end < f->len) {
		size_t size = wal_rec_size(get_le32(f->data + end + 4));
		if (n && WAL_FRAME_HDR + end - start + size > max)
			break;
		end += size;
		n++;
	}
	*ret_n = n;
	return end;
}

/* Counts the segments the frames need beyond the current one. */
static unsigned plan(struct wal *w, const struct wal_frame *f, uint64_t *ret_left)
{
	uint64_t off = wal_cur(w)->end, size = wal_cur(w)->size;
	unsigned segs = 0;
	uint32_t n;

	for (size_t at = WAL_FRAME_HDR, end; at < f->len; at = end) {
		end = frame_cut(w, f, at, &n);
		uint64_t need = VX_ALIGN_UP(WAL_FRAME_HDR + end - at, WAL_BLOCK);
		if (off + need > size) {
			segs++;
			off = WAL_HDR_BYTES;
			size = w->segment_size;
		}
		off += need;
	}
	*ret_left = size - off;
	return segs;
}

static int write_frame(struct wal *w, struct wal_frame *f, size_t at, size_t end, uint32_t n)
{
	struct wal_seg *s = wal_cur(w);
	size_t len = WAL_FRAME_HDR + end - at, padded = VX_ALIGN_UP(len, WAL_BLOCK);
	uint64_t seed = wal_seed(s->nonce, s->seq), tag = wal_tag(w->salt, w->next_number);
	struct wal_rhdr h;
	uint8_t *b = f->data;

	if (at != WAL_FRAME_HDR || end != f->len) {
		w->scratch.len = 0;
		if (frame_reserve(&w->scratch, end - at))
			return wal_break(w, -ENOMEM);
		b = w->scratch.data;
		memcpy(b + WAL_FRAME_HDR, f->data + at, end - at);
	}
	struct wal_fhdr fh = {
		.number = w->next_number,
		.tag = tag,
		.n_records = n,
		.len = (uint32_t)len,
		.before = w->last_groups,
	};
	for (size_t p = WAL_FRAME_HDR; p < len; p += wal_rec_size(get_le32(b + p + 4))) {
		wal_rec_seal(b + p, tag, seed);
		wal_gset_add(&fh.groups, get_le32(b + p + 12));
	}
	wal_fhdr_put(b, &fh, seed);
	memset(b + len, 0, padded - len);
	int rc = wal_sync_write(w, b, padded, s->end);
	if (rc)
		return wal_break(w, rc);
	for (size_t p = WAL_FRAME_HDR; p < len; p += wal_rec_size(h.len)) {
		if (!wal_rhdr_get(b + p, seed, &h) ||
			wal_group_apply(w, &h, (struct wal_pos){s->seq, (uint32_t)(s->end + p)}))
			return wal_break(w, -ENOMEM);
	}
	s->end += padded;
	w->next_number++;
	w->last_groups = fh.groups;
	atomic_fetch_add_explicit(&w->st_flushes, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->st_records, n, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->st_written, padded, memory_order_relaxed);
	return 0;
}

int wal_frame_flush(struct wal *w, struct wal_frame *f)
{
	uint64_t left, unit = VX_MIN((w->segment_size - WAL_HDR_BYTES) / 16, WAL_RESERVE_UNIT);
	uint32_t n;

	if (is_broken(w))
		return -EIO;
	if (!f->n)
		return 0;
	unsigned segs = plan(w, f, &left);
	bool short_of = left < VX_ALIGN_UP(unit, WAL_BLOCK) * f->leaves_units;
	int rc = wal_spares_ensure(w, segs + short_of);
	if (rc)
		return rc;
	for (size_t at = WAL_FRAME_HDR, end; at < f->len; at = end) {
		end = frame_cut(w, f, at, &n);
		struct wal_seg *s = wal_cur(w);
		if (s->end + VX_ALIGN_UP(WAL_FRAME_HDR + end - at, WAL_BLOCK) > s->size) {
			rc = wal_next_segment(w);
			if (rc)
				return wal_break(w, rc);
		}
		rc = write_frame(w, f, at, end, n);
		if (rc)
			return rc;
	}
	frame_clear(f);
	if (w->scratch.cap > WAL_FRAME_KEEP)
		frame_clear(&w->scratch);
	return 0;
}

int wal_flush(struct wal *w)
{
	bool any = w->pend.n > 0;
	int rc = wal_frame_flush(w, &w->pend);

	if (rc == 0 && any) {
		wal_group_unstage(w);
		wal_publish(w);
	}
	return rc;
}

/* --- reading back ------------------------------------------------------------- */
struct wal_seg *wal_seg_find(struct wal *w, uint32_t seq)
{
	if (seq < w->segs[0].seq || seq - w->segs[0].seq >= w->n_segs)
		return NULL;
	return &w->segs[seq - w->segs[0].seq];
}

struct reader {
	uint32_t seg;
	int fd;
	uint8_t *buf;
	size_t cap, len;
	uint64_t off;
};

/* Makes 'n' bytes at 'at', in the segment 's', readable at *ret; a window is read ahead. */
static int reader_get(struct wal *w, struct reader *r, const struct wal_seg *s, struct wal_pos at,
	size_t n, const uint8_t **ret)
{
	char path[WAL_PATH_MAX];
	int rc;

	if (at.off + (uint64_t)n > s->end)
		return -EUCLEAN;
	if (r->seg != at.seg) {
		if (r->fd >= 0)
			(void)w->disk->ops->close(w->disk, r->fd);
		r->fd = -1;
		r->seg = 0;
		r->len = 0;
		wal_path(w, path, "wal", at.seg);
		r->fd = w->disk->ops->open(w->disk, path, O_RDONLY, 0);
		if (r->fd < 0)
			return r->fd;
		r->seg = at.seg;
	}
	if (at.off < r->off || at.off + n > r->off + r->len) {
		size_t want = (size_t)VX_MIN(VX_MAX(n, (size_t)READ_WINDOW), s->end - at.off);
		if (want > r->cap) {
			uint8_t *p = realloc(r->buf, want);
			if (!p)
				return -ENOMEM;
			r->buf = p;
			r->cap = want;
		}
		r->len = 0;
		rc = disk_pread(w->disk, r->fd, r->buf, want, at.off);
		/* The file of a damaged segment may end before the segment does. */
		if (rc == -EUCLEAN && want > n) {
			want = n;
			rc = disk_pread(w->disk, r->fd, r->buf, want, at.off);
		}
		if (rc)
			return rc;
		r->off = at.off;
		r->len = want;
	}
	*ret = r->buf + (at.off - r->off);
	return 0;
}

static void reader_release(struct wal *w, struct reader *r)
{
	if (r->fd >= 0)
		(void)w->disk->ops->close(w->disk, r->fd);
	free(r->buf);
}

/* Reads and verifies one record; *ret_data is malloc'd (never NULL). */
static int read_rec(
	struct wal *w, struct reader *r, struct wal_pos at, struct wal_rhdr *ret_h, void **ret_data)
{
	const struct wal_seg *s = wal_seg_find(w, at.seg);
	const uint8_t *p;

	if (!s)
		return -EUCLEAN;
	uint64_t seed = wal_seed(s->nonce, s->seq);
	int rc = reader_get(w, r, s, at, WAL_REC_HDR, &p);
	if (rc)
		return rc;
	if (!wal_rhdr_get(p, seed, ret_h))
		return -EUCLEAN;
	rc = reader_get(w, r, s, at, WAL_REC_HDR + ret_h->len, &p);
	if (rc)
		return rc;
	if (!wal_payload_ok(ret_h, p + WAL_REC_HDR, seed))
		return -EUCLEAN;
	void *data = malloc(VX_MAX(ret_h->len, 1u));
	if (!data)
		return -ENOMEM;
	memcpy(data, p + WAL_REC_HDR, ret_h->len);
	*ret_data = data;
	return 0;
}

int wal_read_payload(struct wal *w, struct wal_pos at, struct wal_rhdr *ret_h, void **ret_data)
{
	struct reader r = {.fd = -1};
	int rc = read_rec(w, &r, at, ret_h, ret_data);

	reader_release(w, &r);
	return rc;
}

int wal_group_load(struct wal *w, uint32_t group, struct wal_group_state *ret, struct vx_err *err)
{
	const struct wal_group *g = wal_group_find(w, group);
	struct wal_group_state st = {0};
	struct reader r = {.fd = -1};
	struct wal_pos at = {0, 0};
	struct wal_rhdr h;
	int rc = 0;

	if (is_broken(w))
		return vx_err_set(err, -EIO, "the log is broken");
	if (g && g->stopped)
		return vx_err_set(err, -EUCLEAN, "%s", g->stopped);
	if (!g || !g->exists) {
		*ret = st;
		return 0;
	}
	st.exists = true;
	st.term = g->term;
	st.vote = g->vote;
	st.mark_index = g->mark_index;
	st.mark_term = g->mark_term;
	if (g->manifest.seg) {
		at = g->manifest;
		rc = read_rec(w, &r, at, &h, &st.manifest);
		if (rc)
			goto out;
		st.manifest_len = h.len;
	}
	if (g->n) {
		st.entries = calloc(g->n, sizeof *st.entries);
		rc = st.entries ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < g->n && rc == 0; i++) {
		struct wal_entry *e = &st.entries[i];
		at = g->pos[g->head + i];
		rc = read_rec(w, &r, at, &h, &e->data);
		if (rc)
			break;
		e->index = h.index;
		e->term = h.term;
		e->etype = h.etype;
		e->len = h.len;
		st.n_entries++;
		if (h.type != WAL_ENTRY || h.group != group || h.index != g->base + 1 + i)
			rc = -EUCLEAN;
	}
out:
	reader_release(w, &r);
	if (rc) {
		wal_group_state_release(&st);
		return vx_err_set(err, rc, "%s/%010u.wal: offset %u: record of group %u: %s",
			w->dir, at.seg, at.off, group,
			rc == -EUCLEAN ? "damaged since the log was opened" : strerror(-rc));
	}
	*ret = st;
	return 0;
}

void wal_group_state_release(struct wal_group_state *st)
{
	for (size_t i = 0; i < st->n_entries; i++)
		free(st->entries[i].data);
	free(st->entries);
	free(st->manifest);
	*st = (struct wal_group_state){0};
}

int wal_groups(struct wal *w, int (*each)(void *arg, uint32_t group), void *arg)
{
	int rc = 0;

	for (size_t i = 0; i < w->n_groups && rc == 0; i++) {
		if (w->groups[i]->exists)
			rc = each(arg, w->groups[i]->id);
	}
	return rc;
}

const char *wal_damage(const struct wal *w)
{
	return w->damage[0] ? w->damage : NULL;
}

/* --- numbers --------------------------------------------------------------------- */
uint64_t wal_pinned(struct wal *w, uint32_t *ret_group)
{
	const struct wal_group *most = NULL;

	for (size_t i = 0; i < w->n_groups; i++) {
		const struct wal_group *g = w->groups[i];
		if (!g->n)
			continue;
		struct wal_pos a = g->pos[g->head], b = most ? most->pos[most->head] : a;
		if (!most || a.seg < b.seg || (a.seg == b.seg && a.off < b.off))
			most = g;
	}
	if (!most)
		return 0;
	struct wal_pos p = most->pos[most->head];
	uint64_t bytes = wal_cur(w)->end;
	for (size_t i = p.seg - w->segs[0].seq; i + 1 < w->n_segs; i++)
		bytes += w->segs[i].size;
	if (ret_group)
		*ret_group = most->id;
	return bytes - p.off;
}

void wal_publish(struct wal *w)
{
	uint32_t group = 0;
	uint64_t size = w->n_spares * w->segment_size;

	for (size_t i = 0; i < w->n_segs; i++)
		size += w->segs[i].size;
	atomic_store_explicit(&w->st_pinned, wal_pinned(w, &group), memory_order_relaxed);
	atomic_store_explicit(&w->st_pin_group, group, memory_order_relaxed);
	atomic_store_explicit(&w->st_segments, w->n_segs, memory_order_relaxed);
	atomic_store_explicit(&w->st_spares, w->n_spares, memory_order_relaxed);
	atomic_store_explicit(&w->st_size, size, memory_order_relaxed);
	atomic_store(&w->st_oldest, w->segs[0].seq);
	atomic_store_explicit(
		&w->st_at, (uint64_t)wal_cur(w)->seq << 32 | wal_cur(w)->end, memory_order_release);
}

void wal_stat(const struct wal *w, struct wal_stats *ret)
{
#define LOAD(f) atomic_load_explicit(&w->f, memory_order_relaxed)
	const uint64_t at = atomic_load_explicit(&w->st_at, memory_order_acquire);

	*ret = (struct wal_stats){
		.segments = LOAD(st_segments),
		.spares = LOAD(st_spares),
		.size_bytes = LOAD(st_size),
		.flushes = LOAD(st_flushes),
		.records = LOAD(st_records),
		.written_bytes = LOAD(st_written),
		.pinned_bytes = LOAD(st_pinned),
		.pin_group = LOAD(st_pin_group),
		.torn_frames = LOAD(st_torn),
		.backend = LOAD(backend) == WAL_URING ? "io_uring" : "pwrite",
		.broken = LOAD(broken),
		.oldest = atomic_load(&w->st_oldest),
		.current = (uint32_t)(at >> 32),
		.end_bytes = (uint32_t)at,
	};
#undef LOAD
}

void wal_close(struct wal *w)
{
	if (!w)
		return;
	wal_sync_release(w);
	wal_build_drop(w);
	if (w->fd >= 0)
		(void)w->disk->ops->close(w->disk, w->fd);
	wal_groups_free(w);
	free(w->segs);
	free(w->pend.data);
	free(w->scratch.data);
	free(w->zeros);
	free(w->dir);
	free(w);
}
