/* wal_recover.c - opening the log.
 *
 * Segments are read oldest first.  The first one's table says where each group
 * stood; the records do the rest through the same wal_group_apply that a flush
 * uses, and every later table is checked against what they gave.  A segment that
 * has a successor was complete before the successor was made, so it must end
 * exactly where the successor's header says.  In the last segment the first frame
 * that is not whole ends the log, unless a valid frame with a higher number lies
 * behind it: then it had been acknowledged.
 *
 * Damage is skipped, and wal_doubt.c says which groups it concerns.  These are stopped, or
 * the open is refused with nothing changed on disk; nobody else is held up.
 *
 * Only after all is understood is anything written: verdicts and evidence (wal_stop.c);
 * leftovers of half-made spares go, and the last frame is written again, byte for byte, and synced.  It may have
 * been read from a page cache whose write-back failed; nobody may be told that it
 * is here before it is.
 */
#include "wal/wal_i.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

#define HOLE_MAX     1000u /* segments that are missing in a row */
#define READ_WAITS   3u    /* per open, for blocks that cannot be read */
#define READ_WAIT_MS 100u  /* the first time, then twice as long each time */

struct scan {
	struct wal *w;
	struct vx_err *err;
	uint32_t *seqs, *spares, *tmps;
	size_t n_seqs, n_spares, n_tmps;
	uint8_t *img; /* the segment being read */
	size_t img_len, img_cap;
	uint64_t last_number;          /* of the last valid frame */
	uint64_t frame_off, frame_len; /* that frame, in the current segment; len 0: none */
	bool number_known;             /* and the segment before was read to its end */
	bool table_seen;
	uint64_t unreadable; /* offset of the last block that the disk did not give; 0: none */
	unsigned waits;      /* how often the disk was given time */
	struct wal_losses losses;
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
	return wal_stop_read(s->w, name);
}

static int cmp_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* --- what ends the open --------------------------------------------------------------- */
/* Without a list (a header is unreadable) nobody knows whose records are gone. */
static int refused(struct scan *s, struct wal_place at)
{
	return vx_err_set(s->err, -EUCLEAN, "%010u.wal: offset %llu: %s; suspect: all groups",
		at.seq, (unsigned long long)at.off, at.why);
}

/* --- one frame --------------------------------------------------------------------- */
enum verdict { FRAME_OK, FRAME_NONE, FRAME_BAD, FRAME_HURT };

/* Checks the frame at 'off'.  HURT: some payloads are bad, and nothing else. */
static enum verdict frame_check(
	struct scan *s, uint64_t off, uint64_t limit, uint64_t seed, struct wal_fhdr *ret)
{
	const uint8_t *p = s->img + off;
	uint64_t at = WAL_FRAME_HDR;
	struct wal_rhdr h;
	bool hurt = false;

	if (off + WAL_FRAME_HDR > limit || !wal_fhdr_get(p, seed, ret))
		return FRAME_NONE;
	if (ret->number != s->last_number + 1 || ret->len < WAL_FRAME_HDR ||
		ret->len > limit - off || ret->n_records == 0)
		return FRAME_BAD;
	for (uint32_t i = 0; i < ret->n_records; i++) {
		if (at + WAL_REC_HDR > ret->len || !wal_rhdr_get(p + at, seed, &h) ||
			h.tag != ret->tag || wal_rec_size(h.len) > ret->len - at)
			return FRAME_BAD;
		hurt |= !wal_payload_ok(&h, p + at + WAL_REC_HDR, seed);
		at += wal_rec_size(h.len);
	}
	return at != ret->len ? FRAME_BAD : hurt ? FRAME_HURT : FRAME_OK;
}

static int frame_apply(struct scan *s, const struct wal_seg *seg, uint64_t off,
	const struct wal_fhdr *f, uint64_t seed)
{
	const uint8_t *p = s->img + off;
	struct wal_gset groups = {{0}};
	struct wal_rhdr h;
	int rc = 0;

	for (uint64_t at = WAL_FRAME_HDR; at < f->len && rc == 0; at += wal_rec_size(h.len)) {
		if (!wal_rhdr_get(p + at, seed, &h))
			return -EUCLEAN;
		wal_gset_add(&groups, h.group);
		rc = wal_doubt_apply(s->w, &s->losses, &h,
			(struct wal_pos){seg->seq, (uint32_t)(off + at)},
			wal_payload_ok(&h, p + at + WAL_REC_HDR, seed));
	}
	s->last_number = f->number;
	s->w->last_groups = groups;
	return rc ? vx_err_set(s->err, rc, "out of memory") : 0;
}

/* --- one segment ------------------------------------------------------------------- */
/* Block by block, those that are 'missing' yet; the ones that the disk does not give back stay so, are zeros, and noted.
 * 1: there are some. */
static int read_each(struct scan *s, int fd, size_t size, bool *missing)
{
	struct disk *d = s->w->disk;
	int any = 0;

	s->unreadable = 0;
	for (size_t off = 0; off < size; off += WAL_BLOCK) {
		size_t n = VX_MIN((size_t)WAL_BLOCK, size - off);
		if (!missing[off / WAL_BLOCK])
			continue;
		int rc = disk_pread(d, fd, s->img + off, n, off);
		if (rc && rc != -EIO)
			return rc;
		missing[off / WAL_BLOCK] = rc != 0;
		if (rc) {
			memset(s->img + off, 0, n);
			s->unreadable = off;
			any = 1;
		}
	}
	return any;
}

/* A verdict lasts, so a disk that is only slow to come back (a path, a bus reset) is given some time. */
static int read_blocks(struct scan *s, int fd, size_t size)
{
	int rc = disk_pread(s->w->disk, fd, s->img, size, 0);

	if (rc != -EIO)
		return rc;
	size_t n = size / WAL_BLOCK + 1;
	bool *missing = malloc(n * sizeof *missing);
	if (!missing)
		return -ENOMEM;
	memset(missing, true, n * sizeof *missing);
	rc = read_each(s, fd, size, missing);
	while (rc == 1 && s->waits < READ_WAITS) {
		unsigned ms = READ_WAIT_MS << s->waits++;
		nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
		rc = read_each(s, fd, size, missing);
	}
	free(missing);
	return rc == 1 ? 0 : rc;
}

static int read_image(struct scan *s, const char *path)
{
	struct disk *d = s->w->disk;
	uint64_t size = 0;
	int fd = d->ops->open(d, path, O_RDONLY, 0);

	s->unreadable = 0; /* of the segment before */
	s->img_len = 0;
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
		rc = read_blocks(s, fd, (size_t)size);
	(void)d->ops->close(d, fd);
	if (rc)
		return vx_err_set(s->err, rc, "%s: %s", path, strerror(-rc));
	s->img_len = (size_t)size;
	return 0;
}

/* -EUCLEAN with what is wrong in 'ret_why', or another error with its text. */
static int header_check(
	struct scan *s, uint32_t seq, const uint8_t *p, struct wal_shdr *h, const char **ret_why)
{
	int rc = wal_shdr_get(p, h, ret_why);

	if (rc == -EOPNOTSUPP)
		return vx_err_set(s->err, rc, "%010u.wal: %s", seq, *ret_why);
	if (rc)
		return rc;
	*ret_why = "header of another segment";
	if (h->seq != seq)
		return -EUCLEAN;
	if (h->node_id != s->w->node_id)
		return vx_err_set(s->err, -EINVAL, "%010u.wal: belongs to node %llu, not to %llu",
			seq, (unsigned long long)h->node_id, (unsigned long long)s->w->node_id);
	return 0;
}

/* The header of the segment behind the one being read.  *ret_ok false: there is none to be read. */
static int next_header(struct scan *s, size_t i, struct wal_shdr *ret, bool *ret_ok)
{
	struct disk *d = s->w->disk;
	char path[WAL_PATH_MAX];
	const char *why;

	*ret_ok = false;
	if (i + 1 == s->n_seqs || s->seqs[i + 1] != s->seqs[i] + 1)
		return 0;
	uint8_t *p = malloc(WAL_HDR_BYTES);
	if (!p)
		return vx_err_set(s->err, -ENOMEM, "out of memory");
	wal_path(s->w, path, "wal", s->seqs[i + 1]);
	int fd = d->ops->open(d, path, O_RDONLY, 0);
	if (fd >= 0 && disk_pread(d, fd, p, WAL_HDR_BYTES, 0) == 0)
		*ret_ok = wal_shdr_get(p, ret, &why) == 0 && ret->seq == s->seqs[i + 1];
	free(p);
	if (fd >= 0)
		(void)d->ops->close(d, fd);
	return 0;
}

/* Where the next frame behind 'off' begins whose number is higher; 'limit': nowhere. */
static uint64_t next_frame(
	struct scan *s, uint64_t off, uint64_t limit, uint64_t seed, struct wal_fhdr *ret)
{
	for (; off + WAL_FRAME_HDR <= limit; off += WAL_BLOCK)
		if (wal_fhdr_get(s->img + off, seed, ret) && ret->number > s->last_number)
			return off;
	return limit;
}

/* Frames up to that with number 'upto' cannot be read; 'before' tells of the last of them. */
static void lost(struct scan *s, const struct wal_seg *seg, uint64_t off, uint64_t upto,
	const struct wal_gset *before, const char *why)
{
	struct wal_place at = {seg->seq, off, why};

	wal_doubt_lost(s->w, &s->losses, upto == s->last_number + 1 ? before : &wal_any_group, at);
	s->last_number = upto;
	s->w->last_groups = *before;
}

/* At 'off' no whole frame begins.  Moves *off behind what is lost; false: the log, or the segment, ends there. */
static bool skip(struct scan *s, const struct wal_seg *seg, uint64_t *off, uint64_t limit,
	uint64_t seed, const struct wal_shdr *next, enum verdict v, const struct wal_fhdr *bad)
{
	static const char damaged_tail[] = "a flushed frame is damaged";
	static const char damaged_before[] = "damaged before a later flush";
	const char *why = next ? damaged_tail : damaged_before;
	uint64_t end = next ? VX_MIN(next->prev_end, limit) : limit, at;
	bool own = v == FRAME_BAD && bad->number == s->last_number + 1 &&
		   bad->len >= WAL_FRAME_HDR && bad->len <= end - *off;
	struct wal_fhdr f = {.number = 0};

	/* Only the very next frame, in its very place, can have been torn. */
	if (next && (s->last_number >= next->prev_last || *off >= next->prev_end))
		return false;
	at = next_frame(s, *off, VX_MIN(*off + WAL_BLOCK, end), seed, &f);
	if (at == *off && at < end && f.number > s->last_number + 1) {
		lost(s, seg, at, f.number - 1, &f.before, why);
		return true;
	}
	at = next_frame(s, *off + WAL_BLOCK, end, seed, &f);
	if (at == end && !next)
		return false;
	if (own && (at == end || f.number > bad->number)) {
		lost(s, seg, *off, bad->number, &bad->groups, why);
		*off += VX_ALIGN_UP((uint64_t)bad->len, WAL_BLOCK);
	} else if (at < end) {
		lost(s, seg, *off, f.number - 1, &f.before, why);
		*off = at;
	} else {
		lost(s, seg, *off, next->prev_last, &next->before, why);
		*off = next->prev_end;
	}
	return true;
}

static int scan_frames(struct scan *s, struct wal_seg *seg, const struct wal_shdr *h,
	const struct wal_shdr *next, bool last)
{
	uint64_t seed = wal_seed(h->nonce, h->seq), off = WAL_HDR_BYTES;
	uint64_t limit = VX_MIN((uint64_t)s->img_len, h->segment_size);
	struct wal_fhdr f = {.number = 0};
	enum verdict v;

	s->frame_len = 0;
	/* A file cut short may lack the padding of its last frame. */
	for (;;) {
		v = off > limit ? FRAME_NONE : frame_check(s, off, limit, seed, &f);
		/* A hurt frame may be a torn one. */
		if (v == FRAME_OK ||
			(v == FRAME_HURT &&
				(next ? off < next->prev_end && f.number <= next->prev_last
				      : next_frame(s, off + WAL_BLOCK, limit, seed,
						&(struct wal_fhdr){0}) < limit))) {
			int rc = frame_apply(s, seg, off, &f, seed);
			if (rc)
				return rc;
			s->frame_off = off;
			s->frame_len = v == FRAME_OK ? VX_ALIGN_UP(f.len, WAL_BLOCK) : 0;
			off += VX_ALIGN_UP((uint64_t)f.len, WAL_BLOCK);
			continue;
		}
		if (!skip(s, seg, &off, limit, seed, next, v, &f))
			break;
	}
	seg->end = off;
	/* What ends the last segment was torn, and nobody heard of it -- if it was seen. */
	if (last && s->unreadable >= off)
		return vx_err_set(s->err, -EIO, "%010u.wal: offset %llu: cannot be read", seg->seq,
			(unsigned long long)s->unreadable);
	if (last && (v == FRAME_BAD || v == FRAME_HURT))
		atomic_fetch_add_explicit(&s->w->st_torn, 1, memory_order_relaxed);
	return 0;
}

/* Nothing of a segment can be told whose header, and with it the seed of its checksums, is gone. */
static int scan_lost(struct scan *s, uint32_t seq, const char *why)
{
	struct wal_place at = {seq, 0, why};

	wal_doubt_lost(s->w, &s->losses, &wal_any_group, at);
	s->w->last_groups = wal_any_group;
	s->number_known = false;
	struct wal_seg *seg = wal_seg_push(s->w);
	if (!seg)
		return vx_err_set(s->err, -ENOMEM, "out of memory");
	*seg = (struct wal_seg){.seq = seq, .end = WAL_HDR_BYTES};
	return 0;
}

static int scan_segment(struct scan *s, size_t i)
{
	char path[WAL_PATH_MAX];
	uint32_t seq = s->seqs[i];
	bool last = i + 1 == s->n_seqs;
	const char *why = "shorter than its header";
	struct wal_shdr h, next;
	bool has_next;

	wal_path(s->w, path, "wal", seq);
	int rc = read_image(s, path);
	if (rc)
		return rc;
	rc = s->img_len < WAL_HDR_BYTES ? -EUCLEAN : header_check(s, seq, s->img, &h, &why);
	if (rc == -EUCLEAN)
		return last ? refused(s, (struct wal_place){seq, 0, why}) : scan_lost(s, seq, why);
	if (rc)
		return rc;
	struct wal_seg *prev = s->number_known ? wal_cur(s->w) : NULL;
	why = "a flushed frame is damaged";
	/* What was lost is counted by now: this is no damage, but not this log's header. */
	if (prev && (h.prev_end != prev->end || h.prev_last != s->last_number))
		return refused(s, (struct wal_place){prev->seq, prev->end, why});
	rc = wal_doubt_table(s->w, &s->losses, s->img, &h, !s->table_seen);
	if (rc)
		return vx_err_set(s->err, rc, "out of memory");
	s->table_seen = s->number_known = true;
	s->last_number = h.prev_last;
	struct wal_seg *seg = wal_seg_push(s->w);
	if (!seg)
		return vx_err_set(s->err, -ENOMEM, "out of memory");
	*seg = (struct wal_seg){.seq = seq, .nonce = h.nonce, .size = h.segment_size};
	rc = next_header(s, i, &next, &has_next);
	return rc ? rc : scan_frames(s, seg, &h, has_next ? &next : NULL, last);
}

/* --- the verdict ------------------------------------------------------------------- */
static bool may_stop(const struct wal *w, uint32_t group)
{
	return group >= w->stop_first && group - w->stop_first < w->n_stop;
}

/* A group that may have begun in what is lost is known by nobody: those that the caller will ask for are stopped, and
 * where somebody did begin there, without another one there is nothing to go on with. */
static int births_stop(struct scan *s, bool *ret_nobody)
{
	struct wal *w = s->w;

	*ret_nobody = s->losses.strange;
	for (size_t i = 0; i < w->n_groups && w->n_stop; i++)
		*ret_nobody &= !w->groups[i]->exists || may_stop(w, w->groups[i]->id);
	for (uint32_t i = 0; i < w->n_stop; i++) {
		uint32_t id = w->stop_first + i;
		struct wal_group *g = wal_group_get(w, id);
		if (!g)
			return -ENOMEM;
		if (!wal_doubt_born(&s->losses, g))
			continue;
		g->exists = true;
		g->doubt.stuck = true;
		g->doubt.place = s->losses.births;
		g->doubt.keep = s->losses.births.seq;
	}
	return 0;
}

/* Which groups the damage concerns, and whether the others can do without them. */
static int judge(struct scan *s)
{
	struct wal *w = s->w;
	char why[WAL_WHY_MAX], text[WAL_WHY_MAX] = "", list[300] = "";
	size_t len = 0;
	unsigned n = 0, n_bad = 0, n_stopped = 0;
	bool refuse = false, nobody = false;
	int rc = s->losses.births.why ? births_stop(s, &nobody) : 0;

	for (size_t i = 0; i < w->n_groups && rc == 0; i++) {
		struct wal_group *g = w->groups[i];
		if (!g->exists)
			continue;
		if (++n > WAL_GROUPS_MAX)
			return vx_err_set(s->err, -EUCLEAN, "more than %u groups; suspect: %u",
				WAL_GROUPS_MAX, g->id);
		n_stopped += g->stopped != NULL;
		/* A verdict of a caller that could do without it does not bind this one. */
		if (g->stopped && !may_stop(w, g->id))
			snprintf(why, sizeof why, "group %u is stopped: %.200s", g->id, g->stopped);
		else if (g->stopped || !wal_doubt_why(g, why))
			continue;
		if (!n_bad++)
			memcpy(text, why, sizeof text);
		if (len < sizeof list - 12)
			len += (size_t)snprintf(
				list + len, sizeof list - len, n_bad > 1 ? " %u" : "%u", g->id);
		refuse |= !may_stop(w, g->id);
	}
	if (rc)
		return vx_err_set(s->err, rc, "out of memory");
	if (nobody)
		return refused(s, s->losses.births);
	if (refuse)
		return vx_err_set(s->err, -EUCLEAN, "%s; suspect: %s", text, list);
	if (s->losses.first.why)
		snprintf(w->damage, sizeof w->damage, "%010u.wal: offset %llu: %s",
			s->losses.first.seq, (unsigned long long)s->losses.first.off,
			s->losses.first.why);
	if (n_bad == 0 && n_stopped == 0 && w->damage[0])
		log_warn("wal", "%s; nothing is lost: what was there is in the stores", w->damage);
	return 0;
}

/* From the oldest segment with something that a stopped group still needed. */
static int stop_groups(struct scan *s)
{
	struct wal *w = s->w;
	uint32_t from = UINT32_MAX, to = wal_cur(w)->seq;
	char why[WAL_WHY_MAX];
	int rc = 0;

	for (size_t i = 0; i < w->n_groups && rc == 0; i++) {
		struct wal_group *g = w->groups[i];
		if (g->stopped && g->stop_file)
			log_error("wal", "group %u stays stopped: %s", g->id, g->stopped);
		if (!g->exists || (g->stopped ? g->stop_file : !wal_doubt_why(g, why)))
			continue;
		from = VX_MIN(from, g->doubt.place.why ? g->doubt.keep
				    : g->n             ? g->pos[g->head].seg
						       : w->segs[0].seq);
		if (!g->stopped)
			rc = wal_doubt_stop(g, why, false);
		if (rc == 0)
			log_error("wal", "group %u is stopped: %s", g->id, g->stopped);
	}
	if (rc)
		return vx_err_set(s->err, rc, "out of memory");
	if (from == UINT32_MAX)
		return 0;
	return wal_stop_write(w, VX_MAX(from, w->segs[0].seq), to, s->err);
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
	qsort(s->seqs, s->n_seqs, sizeof *s->seqs, cmp_u32);
	int rc = wait_for_strays(s);

	for (size_t i = 0; i < s->n_seqs && rc == 0; i++) {
		uint32_t from = i ? s->seqs[i - 1] + 1 : s->seqs[i];
		if (s->seqs[i] - from > HOLE_MAX)
			return refused(s, (struct wal_place){from, 0, "is missing"});
		for (uint32_t q = from; q < s->seqs[i] && rc == 0; q++)
			rc = scan_lost(s, q, "is missing");
		if (rc == 0)
			rc = scan_segment(s, i);
	}
	if (rc == 0)
		rc = judge(s);
	if (rc)
		return rc;
	s->w->next_number = s->last_number + 1;
	rc = stop_groups(s);
	if (rc)
		return rc;
	rc = make_ready(s);
	if (rc == 0)
		rc = tidy(s);
	return rc ? vx_err_set(s->err, rc, "%s: %s", s->w->dir, strerror(-rc)) : 0;
}

static int open_fresh(struct scan *s)
{
	s->w->next_number = 1;
	int rc = judge(s); /* verdicts outlive the log */
	if (rc)
		return rc;
	rc = tidy(s);
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
	if (strlen(dir) + sizeof "/4294967295.damaged-99.tmp" > WAL_PATH_MAX)
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
	w->stop_first = o->stop_first;
	w->n_stop = o->n_stop;
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
