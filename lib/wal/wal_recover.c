/* wal_recover.c - opening the log.
 *
 * Segments are read oldest first.  The first one's table says where each group
 * stood; the records do the rest through the same wal_group_apply that a flush
 * uses, and every later table is checked against what they gave.  A segment that
 * has a successor was complete before the successor was made, so it must end
 * exactly where the successor's header says.  In the last segment the first frame
 * that is not whole ends the log, unless a valid frame with a higher number lies
 * behind it: then it had been acknowledged, and the open is refused with nothing
 * changed on disk.
 *
 * Only after all is understood is anything written: leftovers of half-made spares
 * go, and the last frame is written again, byte for byte, and synced.  It may have
 * been read from a page cache whose write-back failed; nobody may be told that it
 * is here before it is.
 */
#include "wal/wal_i.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define SUSPECTS_MAX 32u

struct scan {
	struct wal *w;
	struct vx_err *err;
	uint32_t *seqs, *spares, *tmps;
	size_t n_seqs, n_spares, n_tmps;
	uint8_t *img; /* the segment being read */
	size_t img_len, img_cap;
	uint64_t last_number;          /* of the last valid frame */
	uint64_t frame_off, frame_len; /* that frame, in the current segment; len 0: none */
	uint32_t bad[SUSPECTS_MAX];    /* groups of the frame that ended the segment, if known */
	size_t n_bad;
};

/* --- names ------------------------------------------------------------------------- */
static int push_u32(uint32_t **v, size_t *n, uint32_t x)
{
	uint32_t *p = realloc(*v, (*n + 1) * sizeof *p);

	if (!p)
		return -ENOMEM;
	*v = p;
	p[(*n)++] = x;
	return 0;
}

static bool parse_u32(const char *s, const char *suffix, uint32_t *ret)
{
	uint64_t v = 0;

	for (int i = 0; i < 10; i++) {
		if (!isdigit((unsigned char)s[i]))
			return false;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	*ret = (uint32_t)v;
	return v > 0 && v < UINT32_MAX && strcmp(s + 10, suffix) == 0;
}

static int each_name(void *arg, const char *name)
{
	struct scan *s = arg;
	uint32_t n;

	if (parse_u32(name, ".wal", &n))
		return push_u32(&s->seqs, &s->n_seqs, n);
	if (strncmp(name, "spare-", 6) == 0) {
		if (parse_u32(name + 6, ".seg", &n))
			return push_u32(&s->spares, &s->n_spares, n);
		if (parse_u32(name + 6, ".tmp", &n))
			return push_u32(&s->tmps, &s->n_tmps, n);
	}
	return 0;
}

static int cmp_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* --- damage ------------------------------------------------------------------------ */
/* Without a list (a header is unreadable) nobody knows whose records are gone. */
static int damaged(struct scan *s, uint32_t seq, uint64_t off, const char *why,
	const uint32_t *groups, size_t n)
{
	char list[300] = "all groups";
	size_t len = 0;

	for (size_t i = 0; i < n && len < sizeof list - 12; i++)
		len += (size_t)snprintf(list + len, sizeof list - len, i ? " %u" : "%u", groups[i]);
	return vx_err_set(s->err, -EUCLEAN, "%010u.wal: offset %llu: %s; suspect: %s", seq,
		(unsigned long long)off, why, list);
}

/* --- one frame --------------------------------------------------------------------- */
enum verdict { FRAME_OK, FRAME_NONE, FRAME_BAD };

/* Checks the frame at 'off'.  When only payloads are bad, s->bad lists their groups. */
static enum verdict frame_check(
	struct scan *s, uint64_t off, uint64_t limit, uint64_t seed, struct wal_fhdr *ret)
{
	const uint8_t *p = s->img + off;
	uint64_t at = WAL_FRAME_HDR;
	struct wal_rhdr h;
	uint32_t bad[SUSPECTS_MAX];
	size_t n_bad = 0;

	s->n_bad = 0;
	if (off + WAL_FRAME_HDR > limit || !wal_fhdr_get(p, seed, ret))
		return FRAME_NONE;
	if (ret->number != s->last_number + 1 || ret->len < WAL_FRAME_HDR ||
		ret->len > limit - off || ret->n_records == 0)
		return FRAME_BAD;
	for (uint32_t i = 0; i < ret->n_records; i++) {
		if (at + WAL_REC_HDR > ret->len || !wal_rhdr_get(p + at, seed, &h) ||
			h.tag != ret->tag || wal_rec_size(h.len) > ret->len - at)
			return FRAME_BAD;
		if (!wal_payload_ok(&h, p + at + WAL_REC_HDR, seed) && n_bad < SUSPECTS_MAX)
			bad[n_bad++] = h.group;
		at += wal_rec_size(h.len);
	}
	if (at != ret->len)
		return FRAME_BAD;
	memcpy(s->bad, bad, n_bad * sizeof *bad);
	s->n_bad = n_bad;
	return n_bad ? FRAME_BAD : FRAME_OK;
}

static int frame_apply(struct scan *s, const struct wal_seg *seg, uint64_t off,
	const struct wal_fhdr *f, uint64_t seed)
{
	const uint8_t *p = s->img + off;
	struct wal_rhdr h;

	for (uint64_t at = WAL_FRAME_HDR; at < f->len; at += wal_rec_size(h.len)) {
		if (!wal_rhdr_get(p + at, seed, &h))
			return -EUCLEAN;
		int rc = wal_group_apply(
			s->w, &h, (struct wal_pos){seg->seq, (uint32_t)(off + at)});
		if (rc == -EUCLEAN)
			return damaged(
				s, seg->seq, off + at, "record does not follow", &h.group, 1);
		if (rc)
			return vx_err_set(s->err, rc, "out of memory");
	}
	return 0;
}

/* --- one segment ------------------------------------------------------------------- */
static int read_image(struct scan *s, const char *path, uint32_t seq)
{
	struct disk *d = s->w->disk;
	uint64_t size = 0;
	int fd = d->ops->open(d, path, O_RDONLY, 0);

	if (fd < 0)
		return vx_err_set(s->err, fd, "%s: %s", path, strerror(-fd));
	int rc = d->ops->size(d, fd, &size);
	size = VX_MIN(size, (uint64_t)WAL_SEG_MAX);
	if (rc == 0 && size > s->img_cap) {
		free(s->img);
		s->img_cap = 0;
		s->img = malloc((size_t)size);
		if (s->img)
			s->img_cap = (size_t)size;
		else
			rc = -ENOMEM;
	}
	if (rc == 0 && size)
		rc = disk_pread(d, fd, s->img, (size_t)size, 0);
	(void)d->ops->close(d, fd);
	if (rc)
		return vx_err_set(s->err, rc, "%s: %s", path, strerror(-rc));
	s->img_len = (size_t)size;
	if (size < WAL_HDR_BYTES)
		return damaged(s, seq, 0, "shorter than its header", NULL, 0);
	return 0;
}

/* The table of the first segment is where the groups begin. */
static int table_load(struct scan *s, const struct wal_shdr *h)
{
	for (unsigned i = 0; i < h->n_groups; i++) {
		struct wal_row r;
		wal_row_get(s->img, i, &r);
		struct wal_group *g = wal_group_get(s->w, r.group);
		if (!g)
			return vx_err_set(s->err, -ENOMEM, "out of memory");
		if (g->exists || r.last < r.mark_index || r.last == UINT64_MAX)
			return damaged(s, h->seq, 0, "impossible group table", &r.group, 1);
		g->exists = true;
		g->term = r.term;
		g->vote = r.vote;
		g->mark_index = r.mark_index;
		g->mark_term = r.mark_term;
		g->base = r.last;
		g->manifest_seq = r.manifest_seq;
	}
	return 0;
}

/* Every later table must say what the records said. */
static int table_compare(struct scan *s, const struct wal_shdr *h)
{
	size_t n = 0;

	for (size_t i = 0; i < s->w->n_groups; i++)
		n += s->w->groups[i]->exists;
	if (n != h->n_groups)
		return damaged(s, h->seq, 0, "group table does not follow", NULL, 0);
	for (unsigned i = 0; i < h->n_groups; i++) {
		struct wal_row r;
		wal_row_get(s->img, i, &r);
		const struct wal_group *g = wal_group_find(s->w, r.group);
		if (!g || !g->exists || g->term != r.term || g->vote != r.vote ||
			g->mark_index != r.mark_index || g->mark_term != r.mark_term ||
			wal_group_last(g) != r.last)
			return damaged(s, h->seq, 0, "group table does not follow", &r.group, 1);
	}
	return 0;
}

static int header_check(struct scan *s, uint32_t seq, struct wal_shdr *h)
{
	const char *why;
	int rc = wal_shdr_get(s->img, h, &why);

	if (rc == -EOPNOTSUPP)
		return vx_err_set(s->err, rc, "%010u.wal: %s", seq, why);
	if (rc)
		return damaged(s, seq, 0, why, NULL, 0);
	if (h->seq != seq)
		return damaged(s, seq, 0, "header of another segment", NULL, 0);
	if (h->node_id != s->w->node_id)
		return vx_err_set(s->err, -EINVAL, "%010u.wal: belongs to node %llu, not to %llu",
			seq, (unsigned long long)h->node_id, (unsigned long long)s->w->node_id);
	return 0;
}

static int scan_segment(struct scan *s, size_t i, struct wal_shdr *h)
{
	char path[WAL_PATH_MAX];
	uint32_t seq = s->seqs[i];
	struct wal_fhdr f;

	wal_path(s->w, path, "wal", seq);
	int rc = read_image(s, path, seq);
	if (rc == 0)
		rc = header_check(s, seq, h);
	if (rc)
		return rc;
	if (i > 0) {
		const struct wal_seg *prev = wal_cur(s->w);
		if (h->prev_end != prev->end || h->prev_last != s->last_number)
			return damaged(s, prev->seq, prev->end, "a flushed frame is damaged",
				s->bad, s->n_bad);
	}
	rc = i == 0 ? table_load(s, h) : table_compare(s, h);
	if (rc)
		return rc;
	if (i == 0)
		s->last_number = h->prev_last;
	struct wal_seg *seg = wal_seg_push(s->w);
	if (!seg)
		return vx_err_set(s->err, -ENOMEM, "out of memory");
	*seg = (struct wal_seg){.seq = seq, .nonce = h->nonce, .size = h->segment_size};
	uint64_t seed = wal_seed(h->nonce, seq), off = WAL_HDR_BYTES;
	uint64_t limit = VX_MIN((uint64_t)s->img_len, h->segment_size);
	enum verdict v;
	s->frame_len = 0;
	while ((v = frame_check(s, off, limit, seed, &f)) == FRAME_OK) {
		rc = frame_apply(s, seg, off, &f, seed);
		if (rc)
			return rc;
		s->last_number = f.number;
		s->frame_off = off;
		s->frame_len = VX_ALIGN_UP(f.len, WAL_BLOCK);
		off += s->frame_len;
		/* A file cut short may lack the padding of its last frame. */
		if (off > limit)
			break;
	}
	seg->end = off;
	/* Whether this is the true end is for the next header to say: the remains of a torn
	 * frame may lie here, cut off before the next segment was begun. */
	if (i + 1 < s->n_seqs)
		return 0;
	/* Only the very next frame, in its very place, can have been torn. */
	for (uint64_t p = off; p + WAL_FRAME_HDR <= limit; p += WAL_BLOCK) {
		if (wal_fhdr_get(s->img + p, seed, &f) && f.number > s->last_number + (p == off))
			return damaged(
				s, seq, off, "damaged before a later flush", s->bad, s->n_bad);
	}
	if (v == FRAME_BAD)
		atomic_fetch_add_explicit(&s->w->st_torn, 1, memory_order_relaxed);
	return 0;
}

/* No group may want what was recycled, and the next table must hold them all. */
static int groups_check(struct scan *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->w->n_groups; i++) {
		const struct wal_group *g = s->w->groups[i];
		if (!g->exists)
			continue;
		if (++n > WAL_GROUPS_MAX)
			return vx_err_set(s->err, -EUCLEAN, "more than %u groups; suspect: %u",
				WAL_GROUPS_MAX, g->id);
		if (g->base > g->mark_index)
			return vx_err_set(s->err, -EUCLEAN,
				"group %u: entries %llu to %llu are missing; suspect: %u", g->id,
				(unsigned long long)g->mark_index + 1, (unsigned long long)g->base,
				g->id);
		if (g->manifest_seq)
			return vx_err_set(s->err, -EUCLEAN,
				"group %u: the manifest of its mark is missing; suspect: %u", g->id,
				g->id);
	}
	return 0;
}

/* --- making it ready to append ------------------------------------------------------ */
static int tidy(struct scan *s)
{
	struct wal *w = s->w;
	const struct disk_ops *ops = w->disk->ops;
	char path[WAL_PATH_MAX];
	int rc = 0;

	for (size_t i = 0; i < s->n_tmps && rc == 0; i++) {
		wal_path(w, path, "tmp", s->tmps[i]);
		rc = ops->unlink(w->disk, path);
		w->next_spare = VX_MAX(w->next_spare, s->tmps[i] + 1);
	}
	for (size_t i = 0; i < s->n_spares && rc == 0; i++) {
		uint64_t size = 0;
		wal_path(w, path, "seg", s->spares[i]);
		int fd = ops->open(w->disk, path, O_RDONLY, 0);
		if (fd < 0)
			return fd;
		rc = ops->size(w->disk, fd, &size);
		(void)ops->close(w->disk, fd);
		w->next_spare = VX_MAX(w->next_spare, s->spares[i] + 1);
		if (rc == 0 && size == w->segment_size && w->n_spares < WAL_SPARES_MAX)
			w->spares[w->n_spares++] = s->spares[i];
		else if (rc == 0)
			rc = ops->unlink(w->disk, path);
	}
	/* A rename that was seen need not have been durable. */
	return rc ? rc : ops->sync_dir(w->disk, w->dir);
}

static int rewrite(struct scan *s, uint64_t off, uint64_t len)
{
	struct wal *w = s->w;
	uint64_t have = VX_MIN(len, s->img_len - off);
	uint8_t *b = aligned_alloc(WAL_BLOCK, (size_t)len);

	if (!b)
		return -ENOMEM;
	memset(b, 0, (size_t)len);
	memcpy(b, s->img + off, (size_t)have);
	int rc = disk_pwrite(w->disk, w->fd, b, (size_t)len, off);
	free(b);
	return rc;
}

static int make_ready(struct scan *s)
{
	struct wal *w = s->w;
	struct wal_seg *cur = wal_cur(w);
	char path[WAL_PATH_MAX];
	uint64_t off = s->frame_len ? s->frame_off : 0;
	uint64_t len = s->frame_len ? s->frame_len : WAL_HDR_BYTES;

	wal_path(w, path, "wal", cur->seq);
	int rc = wal_open_rw(w, path, &w->fd);
	if (rc == 0)
		rc = rewrite(s, off, len);
	if (rc == -EINVAL && w->try_direct) {
		w->try_direct = false;
		(void)w->disk->ops->close(w->disk, w->fd);
		w->fd = -1;
		rc = wal_open_rw(w, path, &w->fd);
		if (rc == 0)
			rc = rewrite(s, off, len);
	}
	if (rc)
		return rc;
	/* A file cut short gets its zeros back: only written blocks are appended to. */
	if (s->img_len < cur->size) {
		uint64_t from = VX_MIN(cur->end, cur->size);
		uint8_t *z = aligned_alloc(WAL_BLOCK, WAL_BLOCK);
		if (!z)
			return -ENOMEM;
		memset(z, 0, WAL_BLOCK);
		for (; rc == 0 && from < cur->size; from += WAL_BLOCK)
			rc = disk_pwrite(w->disk, w->fd, z, WAL_BLOCK, from);
		free(z);
		if (rc)
			return rc;
	}
	return w->disk->ops->fdatasync(w->disk, w->fd);
}

/* A process that was killed may have left a direct write under way: io_uring lets go of a ring without
 * waiting for its disk.  It would land on what is appended here after the end of the log was found
 * without it.  File systems wait for all direct writes to a file before they allocate space in it, so
 * space that it has already is asked for; one that knows no such call has no direct writes either. */
static int wait_for_strays(struct scan *s)
{
	const struct disk_ops *ops = s->w->disk->ops;
	struct disk *d = s->w->disk;
	char path[WAL_PATH_MAX];
	uint64_t size = 0;

	wal_path(s->w, path, "wal", s->seqs[s->n_seqs - 1]);
	int fd = ops->open(d, path, O_RDWR, 0);
	if (fd < 0)
		return vx_err_set(s->err, fd, "%s: %s", path, strerror(-fd));
	if (ops->size(d, fd, &size) == 0 && size > 0)
		(void)!ops->allocate(d, fd, 0, size);
	(void)ops->close(d, fd);
	return 0;
}

static int open_existing(struct scan *s)
{
	struct wal_shdr h;

	qsort(s->seqs, s->n_seqs, sizeof *s->seqs, cmp_u32);
	int stray = wait_for_strays(s);
	if (stray)
		return stray;
	for (size_t i = 1; i < s->n_seqs; i++) {
		if (s->seqs[i] != s->seqs[i - 1] + 1)
			return vx_err_set(s->err, -EUCLEAN,
				"%010u.wal is missing; suspect: all groups", s->seqs[i - 1] + 1);
	}
	for (size_t i = 0; i < s->n_seqs; i++) {
		int rc = scan_segment(s, i, &h);
		if (rc)
			return rc;
	}
	int rc = groups_check(s);
	if (rc)
		return rc;
	s->w->next_number = s->last_number + 1;
	rc = make_ready(s);
	if (rc == 0)
		rc = tidy(s);
	return rc ? vx_err_set(s->err, rc, "%s: %s", s->w->dir, strerror(-rc)) : 0;
}

static int open_fresh(struct scan *s)
{
	s->w->next_number = 1;
	int rc = tidy(s);
	if (rc == 0)
		rc = wal_spares_ensure(s->w, 1);
	if (rc == 0)
		rc = wal_next_segment(s->w);
	return rc ? vx_err_set(s->err, rc, "%s: cannot make the first segment: %s", s->w->dir,
			    strerror(-rc))
		  : 0;
}

static int wal_new(struct disk *disk, const char *dir, const struct wal_opts *o, struct wal **ret)
{
	uint64_t size = o->segment_size_bytes ? o->segment_size_bytes : WAL_SEG_DEFAULT;

	if (size < WAL_SEG_MIN || size > WAL_SEG_MAX || size % WAL_BLOCK ||
		o->spare_segments > WAL_SPARES_MAX / 2)
		return -EINVAL;
	/* Room for the longest name in it, see wal_path. */
	if (strlen(dir) + sizeof "/spare-4294967295.tmp" > WAL_PATH_MAX)
		return -ENAMETOOLONG;
	struct wal *w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	w->dir = strdup(dir);
	if (!w->dir) {
		free(w);
		return -ENOMEM;
	}
	w->disk = disk;
	w->segment_size = size;
	w->node_id = o->node_id;
	w->want_spares = o->spare_segments ? o->spare_segments : 1;
	w->may_uring = disk == disk_real() && o->backend != WAL_PWRITE;
	w->must_uring = disk == disk_real() && o->backend == WAL_URING;
	w->try_direct = disk == disk_real();
	w->fd = w->build_fd = -1;
	w->next_spare = 1;
	random_bytes(&w->salt, sizeof w->salt);
	*ret = w;
	return 0;
}

int wal_open(struct disk *disk, const char *dir, const struct wal_opts *opts, struct wal **ret,
	struct vx_err *err)
{
	struct scan s = {.err = err};
	struct wal *w = NULL;
	int rc = wal_new(disk, dir, opts, &w);

	if (rc)
		return vx_err_set(err, rc, "%s: %s", dir, strerror(-rc));
	s.w = w;
	rc = wal_sync_probe(w);
	if (rc) {
		rc = vx_err_set(err, rc, "io_uring: %s", strerror(-rc));
		goto out;
	}
	rc = disk->ops->list(disk, dir, each_name, &s);
	if (rc) {
		rc = vx_err_set(err, rc, "%s: %s", dir, strerror(-rc));
		goto out;
	}
	rc = s.n_seqs ? open_existing(&s) : open_fresh(&s);
	if (rc)
		goto out;
	wal_group_unstage(w);
	wal_publish(w);
	*ret = w;
	w = NULL;
out:
	wal_close(w);
	free(s.seqs);
	free(s.spares);
	free(s.tmps);
	free(s.img);
	return rc;
}
