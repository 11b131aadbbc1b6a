/* The view of a log (vec-wal) against what was written into it.
 *
 * The rule: what the view shows as sound was written, byte for byte, in its order; what was written and is not shown
 * lies in a place of which damage is told; and a log is told to be damaged if and only if a start refuses it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "fakedisk.h"
#include "faultdisk.h"
#include "model.h"
#include "wal/wal_i.h"
#include "wal/wal_view.h"

#define DIR_NAME    "wal"
#define WRITTEN_MAX 400u
#define DAMAGE_MAX  64u
#define SEGS        3u

static uint64_t seed0;

static int setup(void **state)
{
	const char *s = getenv("SEED");

	(void)state;
	seed0 = s ? strtoull(s, NULL, 0) : 0xface;
	print_message("SEED=%llu\n", (unsigned long long)seed0);
	return 0;
}

static const struct wal_opts small = {.segment_size_bytes = WAL_SEG_MIN + 4 * WAL_BLOCK,
	.spare_segments = 1,
	.node_id = 7,
	.backend = WAL_PWRITE};

/* --- what was written ------------------------------------------------------------------ */
struct written {
	struct model_rec r;
	uint64_t frame;
	uint32_t seg;
};

struct log {
	struct disk *d;
	struct written w[WRITTEN_MAX];
	unsigned n;
	uint64_t frames;
	struct model at[SEGS + 2]; /* as a segment began */
	unsigned segs;
	uint64_t end[SEGS + 2]; /* where its frames end */
};

static void log_init(struct log *l, struct disk *d, const char *dir)
{
	struct model m = {0};
	uint64_t rng = seed0;
	struct wal *w = NULL;

	*l = (struct log){.d = d};
	assert_int_equal(wal_open(d, dir, &small, &w, NULL), 0);
	while (w->n_segs < SEGS || wal_cur(w)->end < WAL_HDR_BYTES + 4 * WAL_BLOCK) {
		unsigned first = l->n;
		/* Four of these fit one frame. */
		size_t max_len = l->frames % 3 ? 200 : 1900;
		struct model before = {0};
		model_copy(&before, &m);
		for (unsigned i = 0; i < 1 + l->frames % 4; i++) {
			struct model_rec r = model_random(&m, &rng, max_len);
			assert_int_equal(model_stage(w, &r), 0);
			model_apply(&m, &r);
			assert_true(l->n + 2 <= WRITTEN_MAX);
			const struct model_group *g = &m.g[r.rec.group - 1];
			if (r.rec.type == WAL_MARK)
				r.rec.vote = g->mark + g->n;
			l->w[l->n++] = (struct written){.r = r, .frame = l->frames + 1};
			if (r.rec.type != WAL_MARK)
				continue;
			/* With it goes what it leaves as it is. */
			r = (struct model_rec){.rec = {.group = r.rec.group,
						       .type = WAL_HARDSTATE,
						       .term = g->term,
						       .vote = g->vote}};
			l->w[l->n++] = (struct written){.r = r, .frame = l->frames + 1};
		}
		assert_int_equal(wal_flush(w), 0);
		assert_int_equal(w->next_number, l->frames + 2);
		l->frames++;
		if (w->n_segs > l->segs) {
			l->segs = (unsigned)w->n_segs;
			model_copy(&l->at[l->segs], &before);
		}
		l->end[l->segs] = wal_cur(w)->end;
		for (unsigned i = first; i < l->n; i++)
			l->w[i].seg = wal_cur(w)->seq;
		model_release(&before);
	}
	assert_int_equal(l->segs, SEGS);
	wal_close(w);
	model_release(&m);
}

static void log_release(struct log *l)
{
	for (unsigned i = 0; i < VX_ARRAY_SIZE(l->at); i++)
		model_release(&l->at[i]);
	fakedisk_free(l->d);
}

static uint8_t *segment_of(struct log *l, uint32_t seq, size_t *ret_size)
{
	char path[64];

	(void)snprintf(path, sizeof path, DIR_NAME "/%010u.wal", seq);
	uint8_t *p = fakedisk_bytes(l->d, path, ret_size);
	assert_non_null(p);
	return p;
}

/* --- what is seen ------------------------------------------------------------------------ */
struct seen {
	const struct log *l;
	unsigned next;    /* in l->w: all before it was shown or is missing */
	unsigned missing; /* sound records that were not shown */
	unsigned shown, rotten, segments, invalid, rows;
	uint32_t seq;
	uint64_t frame, off;
	struct {
		uint32_t seq;
		uint64_t offset;
		const char *why;
		bool torn;
	} damage[DAMAGE_MAX];
	unsigned n_damage, torn;
	unsigned calls, stop_at; /* the stop_at-th call ends the view */
};

static int called(struct seen *v)
{
	return ++v->calls == v->stop_at ? 4711 : 0;
}

static int on_segment(void *ctx, const struct wal_view_segment *s)
{
	struct seen *v = ctx;
	char name[32];

	(void)snprintf(name, sizeof name, "%010u.wal", s->seq);
	assert_string_equal(s->file, name);
	assert_true(s->seq > v->seq);
	v->seq = s->seq;
	v->segments++;
	v->invalid += !s->valid;
	v->off = 0;
	if (s->valid) {
		assert_int_equal(s->node_id, 7);
		assert_int_equal(s->segment_bytes, small.segment_size_bytes);
		assert_int_equal(s->prev_end, s->seq > 1 ? v->l->end[s->seq - 1] : 0);
	} else {
		assert_int_equal(s->nonce | s->node_id | s->segment_bytes | s->n_groups, 0);
	}
	v->rows = 0;
	return called(v);
}

/* A table says how its group stood when the segment was begun. */
static int on_row(void *ctx, const struct wal_view_row *r)
{
	struct seen *v = ctx;

	assert_in_range(r->group, 1, MODEL_GROUPS);
	const struct model_group *g = &v->l->at[v->seq].g[r->group - 1];
	assert_true(g->exists);
	assert_int_equal(r->term, g->term);
	assert_int_equal(r->vote, g->vote);
	assert_int_equal(r->mark_index, g->mark);
	assert_int_equal(r->mark_term, g->mark_term);
	assert_int_equal(r->first, g->mark + 1);
	assert_int_equal(r->last, g->mark + g->n);
	v->rows++;
	return called(v);
}

static int on_frame(void *ctx, const struct wal_view_frame *f)
{
	struct seen *v = ctx;

	assert_true(f->number > v->frame);
	assert_true(f->offset > v->off);
	v->frame = f->number;
	v->off = f->offset;
	return called(v);
}

static bool same(const struct wal_view_record *r, const struct written *w, bool payload)
{
	const struct wal_rec *x = &w->r.rec;
	uint8_t data[8192];

	if (r->frame != w->frame || r->group != x->group || r->type != x->type ||
		r->etype != x->etype || r->index != x->index || r->term != x->term ||
		r->vote != x->vote || r->len != x->len)
		return false;
	assert_true(x->len <= sizeof data);
	model_fill(data, x->len, w->r.seed);
	return !payload || x->len == 0 || memcmp(data, r->data, x->len) == 0;
}

static int on_record(void *ctx, const struct wal_view_record *r)
{
	struct seen *v = ctx;
	const struct log *l = v->l;

	assert_int_equal(r->frame, v->frame);
	assert_true(r->offset > v->off);
	v->off = r->offset;
	while (v->next < l->n && !same(r, &l->w[v->next], r->payload_ok)) {
		v->next++;
		v->missing++;
	}
	if (v->next == l->n)
		fail_msg("%s: offset %llu: a record that was never written", r->file,
			(unsigned long long)r->offset);
	assert_int_equal(l->w[v->next].seg, v->seq);
	v->next++;
	v->shown += r->payload_ok;
	v->rotten += !r->payload_ok;
	return called(v);
}

static int on_damage(void *ctx, const struct wal_view_damage *d)
{
	struct seen *v = ctx;

	assert_true(v->n_damage < DAMAGE_MAX);
	v->damage[v->n_damage].seq = (uint32_t)strtoul(d->file, NULL, 10);
	v->damage[v->n_damage].offset = d->offset;
	v->damage[v->n_damage].why = d->why;
	v->damage[v->n_damage++].torn = d->torn;
	v->torn += d->torn;
	return called(v);
}

static const struct wal_view_ops all_ops = {.segment = on_segment,
	.row = on_row,
	.frame = on_frame,
	.record = on_record,
	.damage = on_damage};

static struct seen view(const struct log *l)
{
	struct seen v = {.l = l};
	struct vx_err err = VX_ERR_INIT;
	int rc = wal_view(l->d, DIR_NAME, &all_ops, &v, &err);

	if (rc)
		fail_msg("wal_view: %s", vx_err_msg(&err, rc));
	assert_int_equal(fakedisk_open_handles(l->d), 0);
	v.missing += l->n - v.next;
	v.next = l->n;
	assert_int_equal(v.shown + v.rotten + v.missing, l->n);
	return v;
}

/* A start is on a copy: it changes what is cut off. */
static int start(const struct log *l)
{
	struct disk *d = fakedisk_clone(l->d);
	struct wal *w = NULL;

	assert_non_null(d);
	int rc = wal_open(d, DIR_NAME, &small, &w, NULL);
	wal_close(w);
	fakedisk_free(d);
	return rc;
}

/* What a start refuses is told. */
static void agrees_with_a_start(const struct seen *v)
{
	int rc = start(v->l);
	bool damaged = v->n_damage > v->torn;

	assert_true(v->torn <= 1);
	/* What is below later marks is damage that stops nobody; test_damage.c has what is left then. */
	if (rc != 0 && !damaged)
		fail_msg("a start says %d, the view tells of %u places: %s", rc, v->n_damage,
			v->n_damage ? v->damage[0].why : "");
}

static bool tells(const struct seen *v, uint32_t seq, uint64_t offset, const char *why)
{
	for (unsigned i = 0; i < v->n_damage; i++) {
		if (v->damage[i].seq == seq && v->damage[i].offset == offset &&
			strstr(v->damage[i].why, why))
			return true;
	}
	return false;
}

/* --- a sound log ----------------------------------------------------------------------- */
static void a_sound_log_is_shown_whole(void **state)
{
	(void)state;
	struct log l;

	log_init(&l, fakedisk_new(), DIR_NAME);
	struct seen v = view(&l);
	assert_int_equal(v.n_damage, 0);
	assert_int_equal(v.shown, l.n);
	assert_int_equal(v.segments, SEGS);
	assert_int_equal(v.frame, l.frames);
	unsigned groups = 0;
	for (unsigned i = 0; i < MODEL_GROUPS; i++)
		groups += l.at[SEGS].g[i].exists;
	assert_int_equal(v.rows, groups);
	agrees_with_a_start(&v);

	/* Names that are not those of segments are nothing. */
	static const char *const names[] = {"0000000000.wal", "4294967295.wal", "9999999999.wal",
		"0000000002.wal~", "0000000002.seg", "000000002.wal", "x000000002.wal", "notes"};
	for (unsigned i = 0; i < VX_ARRAY_SIZE(names); i++) {
		char path[64];
		(void)snprintf(path, sizeof path, DIR_NAME "/%s", names[i]);
		assert_int_equal(fakedisk_put(l.d, path, "x", 1), 0);
	}
	v = view(&l);
	assert_int_equal(v.n_damage, 0);
	assert_int_equal(v.shown, l.n);
	log_release(&l);
}

/* The view ends with what the caller's function returns, whichever call it was; nothing is called after it. */
static void the_callers_error_ends_the_view(void **state)
{
	(void)state;
	struct log l;
	size_t size;

	log_init(&l, fakedisk_new(), DIR_NAME);
	/* Of each kind of call there is one at least: all kinds of damage. */
	uint8_t *p = segment_of(&l, 1, &size);
	p[WAL_HDR_BYTES + WAL_FRAME_HDR + WAL_REC_HDR] ^= 1; /* a payload */
	p = segment_of(&l, 2, &size);
	p[WAL_HDR_BYTES] ^= 1;        /* a frame */
	p[l.end[2] - WAL_BLOCK] ^= 1; /* the last one */
	p = segment_of(&l, 3, &size);
	p[WAL_HDR_BYTES + WAL_FRAME_HDR] ^= 1; /* a record */
	p[l.end[3] - WAL_BLOCK + WAL_FRAME_HDR] ^= 1;
	struct seen whole = view(&l);
	assert_true(whole.n_damage > 4);
	for (unsigned i = 1; i <= whole.calls; i++) {
		struct seen v = {.l = &l, .stop_at = i};
		assert_int_equal(wal_view(l.d, DIR_NAME, &all_ops, &v, NULL), 4711);
		assert_int_equal(v.calls, i);
		assert_int_equal(fakedisk_open_handles(l.d), 0);
	}
	/* That a segment is missing is said of no file that is there. */
	assert_int_equal(l.d->ops->unlink(l.d, DIR_NAME "/0000000002.wal"), 0);
	const struct wal_view_ops ops = {.damage = on_damage};
	whole = (struct seen){.l = &l};
	assert_int_equal(wal_view(l.d, DIR_NAME, &ops, &whole, NULL), 0);
	for (unsigned i = 1; i <= whole.calls; i++) {
		struct seen v = {.l = &l, .stop_at = i};
		assert_int_equal(wal_view(l.d, DIR_NAME, &ops, &v, NULL), 4711);
		assert_int_equal(v.n_damage, i);
	}
	log_release(&l);
}

enum { SEGMENTS, ROWS, FRAMES, RECORDS, DAMAGES, KINDS };

static int count(void *ctx, unsigned kind)
{
	unsigned *n = ctx;

	n[kind]++;
	return 0;
}

static int count_segment(void *ctx, const struct wal_view_segment *s)
{
	(void)s;
	return count(ctx, SEGMENTS);
}

static int count_row(void *ctx, const struct wal_view_row *r)
{
	(void)r;
	return count(ctx, ROWS);
}

static int count_frame(void *ctx, const struct wal_view_frame *f)
{
	(void)f;
	return count(ctx, FRAMES);
}

static int count_record(void *ctx, const struct wal_view_record *r)
{
	(void)r;
	return count(ctx, RECORDS);
}

static int count_damage(void *ctx, const struct wal_view_damage *d)
{
	(void)d;
	return count(ctx, DAMAGES);
}

/* Each function may be missing, and the others are called as often as with it. */
static void each_function_may_be_missing(void **state)
{
	(void)state;
	struct log l;
	size_t size;
	unsigned whole[KINDS] = {0};

	log_init(&l, fakedisk_new(), DIR_NAME);
	uint8_t *p = segment_of(&l, 2, &size);
	p[WAL_HDR_BYTES + WAL_FRAME_HDR] ^= 1;
	for (unsigned missing = 0; missing < 32; missing++) {
		unsigned n[KINDS] = {0};
		const struct wal_view_ops ops = {
			.segment = missing & 1 ? NULL : count_segment,
			.row = missing & 2 ? NULL : count_row,
			.frame = missing & 4 ? NULL : count_frame,
			.record = missing & 8 ? NULL : count_record,
			.damage = missing & 16 ? NULL : count_damage,
		};
		assert_int_equal(wal_view(l.d, DIR_NAME, &ops, n, NULL), 0);
		if (missing == 0)
			memcpy(whole, n, sizeof whole);
		for (unsigned i = 0; i < KINDS; i++) {
			assert_true(whole[i] > 0);
			assert_int_equal(n[i], missing >> i & 1 ? 0 : whole[i]);
		}
	}
	log_release(&l);
}

/* --- damage ---------------------------------------------------------------------------- */
/* One bit, anywhere: nothing false is shown; what is missing is told of; only what lies in the same frame is missing,
 * or behind a header; a start agrees. */
static void a_flipped_bit_hides_no_more_than_its_frame(void **state)
{
	(void)state;
	struct log l;
	unsigned flips = 0, told = 0;

	log_init(&l, fakedisk_new(), DIR_NAME);
	for (uint32_t seq = 1; seq <= SEGS; seq++) {
		size_t size;
		uint8_t *p = segment_of(&l, seq, &size);
		for (size_t off = 0; off < l.end[seq]; off += off % WAL_BLOCK < 200 ? 3 : 61) {
			/* Only the used part of the table means something. */
			if (off > WAL_HDR_FIXED + MODEL_GROUPS * WAL_ROW && off < WAL_HDR_BYTES)
				off = WAL_HDR_BYTES;
			uint8_t bit = (uint8_t)(1u << (off * 5 + seq) % 8);
			p[off] ^= bit;
			struct seen v = view(&l);
			agrees_with_a_start(&v);
			p = segment_of(&l, seq, &size);
			p[off] ^= bit;
			flips++;
			told += v.n_damage > 0;
			assert_true(v.rotten <= 1);
			if (off < WAL_HDR_BYTES)
				assert_true(v.invalid == (v.n_damage > 0));
			else
				assert_int_equal(v.invalid, 0);
			/* The header of the last frame of all is as if it had never been. */
			if (v.missing && seq < SEGS)
				assert_true(v.n_damage > 0);
			if (v.missing && off >= WAL_HDR_BYTES)
				assert_true(v.missing < 5);
		}
	}
	assert_int_equal(view(&l).n_damage, 0);
	print_message("%u flips, %u told of\n", flips, told);
	assert_true(told > flips / 3);
	log_release(&l);
}

/* A file cut short anywhere shows what is in it. */
static void a_file_cut_short_is_shown_to_its_end(void **state)
{
	(void)state;
	struct log l;

	log_init(&l, fakedisk_new(), DIR_NAME);
	for (uint32_t seq = 1; seq <= SEGS; seq++) {
		char path[64];
		size_t size;
		uint8_t *p = segment_of(&l, seq, &size), *all = malloc(size);
		assert_non_null(all);
		memcpy(all, p, size);
		(void)snprintf(path, sizeof path, DIR_NAME "/%010u.wal", seq);
		unsigned least = UINT32_MAX;
		for (size_t cut = size; cut > 0; cut -= VX_MIN(cut, (size_t)509)) {
			assert_int_equal(fakedisk_put(l.d, path, all, cut), 0);
			struct seen v = view(&l);
			agrees_with_a_start(&v);
			assert_true(v.shown <= least);
			least = v.shown;
			if (cut < WAL_HDR_BYTES)
				assert_true(tells(&v, seq, 0, "shorter than its header"));
		}
		assert_int_equal(fakedisk_put(l.d, path, "", 0), 0);
		struct seen v = view(&l);
		assert_true(tells(&v, seq, 0, "shorter than its header"));
		assert_int_equal(fakedisk_put(l.d, path, all, size), 0);
		free(all);
	}
	log_release(&l);
}

/* A segment that is gone is told by its name; those before and behind are shown whole. */
static void a_missing_segment_is_named(void **state)
{
	(void)state;
	for (uint32_t seq = 1; seq <= SEGS; seq++) {
		struct log l;
		char path[64];
		unsigned gone = 0;
		log_init(&l, fakedisk_new(), DIR_NAME);
		for (unsigned i = 0; i < l.n; i++)
			gone += l.w[i].seg == seq;
		(void)snprintf(path, sizeof path, DIR_NAME "/%010u.wal", seq);
		assert_int_equal(l.d->ops->unlink(l.d, path), 0);
		struct seen v = view(&l);
		assert_int_equal(v.missing, gone);
		/* No one can tell that the first or the last is gone. */
		assert_int_equal(v.n_damage, seq == 2);
		if (seq == 2)
			assert_true(tells(&v, 2, 0, "is missing"));
		log_release(&l);
	}
}

/* A header that is another segment's, or lies about what came before it. */
static void each_place_is_told(void **state)
{
	(void)state;
	struct log l;
	size_t size;

	log_init(&l, fakedisk_new(), DIR_NAME);
	/* The payload of the first record that has one. */
	unsigned i = 0;
	while (l.w[i].r.rec.len == 0 || (i && l.w[i - 1].frame == l.w[i].frame))
		i++;
	uint8_t *p = segment_of(&l, l.w[i].seg, &size);
	uint64_t seed = wal_seed(get_le64(p + 24), l.w[i].seg), off = WAL_HDR_BYTES;
	struct wal_fhdr f;
	while (wal_fhdr_get(p + off, seed, &f) && f.number != l.w[i].frame)
		off += VX_ALIGN_UP(f.len, WAL_BLOCK);
	p[off + WAL_FRAME_HDR + WAL_REC_HDR] ^= 1;
	struct seen v = view(&l);
	assert_int_equal(v.n_damage, 1);
	assert_int_equal(v.rotten, 1);
	assert_int_equal(v.missing, 0);
	assert_true(tells(&v, l.w[i].seg, off + WAL_FRAME_HDR + WAL_REC_HDR, "wrong checksum"));
	p[off + WAL_FRAME_HDR + WAL_REC_HDR] ^= 1;

	/* The last frame of all, of which nobody was told. */
	p = segment_of(&l, SEGS, &size);
	seed = wal_seed(get_le64(p + 24), SEGS);
	uint64_t last = l.end[SEGS] - WAL_BLOCK;
	while (!wal_fhdr_get(p + last, seed, &f))
		last -= WAL_BLOCK;
	p[last + WAL_FRAME_HDR] ^= 1;
	v = view(&l);
	assert_int_equal(v.n_damage, 1);
	assert_int_equal(v.torn, 1);
	assert_true(tells(&v, SEGS, last, "torn"));
	agrees_with_a_start(&v);
	p = segment_of(&l, SEGS, &size);
	p[last + WAL_FRAME_HDR] ^= 1;

	/* The last frame of a segment that has a successor was flushed. */
	p = segment_of(&l, 2, &size);
	seed = wal_seed(get_le64(p + 24), 2);
	last = l.end[2] - WAL_BLOCK;
	while (!wal_fhdr_get(p + last, seed, &f))
		last -= WAL_BLOCK;
	p[last] ^= 1;
	v = view(&l);
	assert_int_equal(v.n_damage, 1);
	assert_true(tells(&v, 2, last, "the next segment says that flushed frames follow"));
	p[last] ^= 1;

	/* Two segments that were exchanged. */
	uint8_t *q = segment_of(&l, 1, &size), *copy = malloc(size);
	assert_non_null(copy);
	memcpy(copy, q, size);
	memcpy(q, p, size);
	memcpy(p, copy, size);
	v = view(&l);
	assert_int_equal(v.n_damage, 2);
	assert_true(tells(&v, 1, 0, "header of another segment"));
	assert_true(tells(&v, 2, 0, "header of another segment"));
	agrees_with_a_start(&v);
	free(copy);
	log_release(&l);
}

/* --- files that cannot be read ----------------------------------------------------------- */
/* A read that fails ends its file there, as a bad sector does; that no file can be opened, or no memory be
 * had, is an error with the file's name. */
static void a_read_that_fails_is_damage_or_an_error(void **state)
{
	(void)state;
	struct log l;
	struct vx_err err = VX_ERR_INIT;

	log_init(&l, fakedisk_new(), DIR_NAME);
	struct disk *top = faultdisk(l.d);
	for (unsigned n = 1; n <= SEGS; n++) {
		struct seen v = {.l = &l};
		char name[32];
		(void)snprintf(name, sizeof name, "%010u.wal", n);
		faultdisk_arm(FAULT_PREAD, n, -EIO);
		assert_int_equal(wal_view(top, DIR_NAME, &all_ops, &v, NULL), 0);
		assert_true(tells(&v, n, 0, "cannot be read from here on"));
		assert_true(tells(&v, n, 0, "shorter than its header"));

		/* Half of it in one call, or a signal, is no damage. */
		v = (struct seen){.l = &l};
		faultdisk_arm(FAULT_PREAD, n, 0);
		assert_int_equal(wal_view(top, DIR_NAME, &all_ops, &v, NULL), 0);
		assert_int_equal(v.n_damage, 0);
		v = (struct seen){.l = &l};
		faultdisk_arm(FAULT_PREAD, n, -EINTR);
		assert_int_equal(wal_view(top, DIR_NAME, &all_ops, &v, NULL), 0);
		assert_int_equal(v.n_damage, 0);

		v = (struct seen){.l = &l};
		faultdisk_arm(FAULT_OPEN, n, -EACCES);
		assert_int_equal(wal_view(top, DIR_NAME, &all_ops, &v, &err), -EACCES);
		assert_non_null(strstr(err.msg, name));
		v = (struct seen){.l = &l};
		faultdisk_arm(FAULT_SIZE, n, -EIO);
		assert_int_equal(wal_view(top, DIR_NAME, &all_ops, &v, &err), -EIO);
		assert_non_null(strstr(err.msg, name));
		assert_int_equal(fakedisk_open_handles(l.d), 0);
		/* And the caller may end it at such damage too. */
		v = (struct seen){.l = &l, .stop_at = 1};
		struct wal_view_ops ops = {.damage = on_damage};
		faultdisk_arm(FAULT_PREAD, n, -EIO);
		assert_int_equal(wal_view(top, DIR_NAME, &ops, &v, NULL), 4711);
	}
	struct seen v = {.l = &l};
	faultdisk_arm(FAULT_LIST, 1, -EIO);
	assert_int_equal(wal_view(top, DIR_NAME, &all_ops, &v, &err), -EIO);
	assert_int_equal(v.calls, 0);
	/* A path that no file name fits behind. */
	static char dir[WAL_PATH_MAX];
	memset(dir, 'd', sizeof dir - 10);
	assert_int_equal(wal_view(top, dir, &all_ops, &v, &err), -ENAMETOOLONG);
	assert_int_equal(v.calls, 0);
	log_release(&l);
}

/* --- real files ------------------------------------------------------------------------- */
static int each_unlink(void *arg, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
	return unlink(path);
}

static void real_files_are_shown_too(void **state)
{
	(void)state;
	char dir[256], none[300];
	const char *tmp = getenv("TMPDIR");
	struct vx_err err = VX_ERR_INIT;
	struct log l;

	(void)snprintf(dir, sizeof dir, "%s/vecfs-view-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(none, sizeof none, "%s/none", dir);
	struct seen v = {.l = &l};
	assert_int_equal(wal_view(disk_real(), none, &all_ops, &v, &err), -ENOENT);
	assert_int_equal(wal_view(disk_real(), dir, &all_ops, &v, &err), -ENODATA);
	assert_non_null(strstr(err.msg, "has no segment"));
	log_init(&l, disk_real(), dir);
	assert_int_equal(wal_view(disk_real(), dir, &all_ops, &v, &err), 0);
	assert_int_equal(v.shown, l.n);
	assert_int_equal(v.n_damage, 0);
	l.d = NULL;
	log_release(&l);
	assert_int_equal(disk_real()->ops->list(disk_real(), dir, each_unlink, dir), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* --- beside its writer ---------------------------------------------------------------------- */
struct served {
	struct wal *w;
	unsigned n_damage, frames;
	uint64_t last; /* frame shown last */
	char file[32];
	const char *why;
	unsigned calls, give_back_at; /* at that question the oldest segments have gone */
	uint64_t mark;
};

static void served_stat(void *ctx, struct wal_stats *ret)
{
	struct served *v = ctx;

	if (++v->calls == v->give_back_at) {
		assert_int_equal(
			wal_stage(v->w,
				&(struct wal_rec){
					.group = 1, .type = WAL_MARK, .index = v->mark, .term = 1}),
			0);
		assert_int_equal(wal_flush(v->w), 0);
		assert_int_equal(wal_upkeep(v->w), 0);
	}
	wal_stat(v->w, ret);
}

static int served_damage(void *ctx, const struct wal_view_damage *d)
{
	struct served *v = ctx;

	assert_false(d->torn);
	(void)snprintf(v->file, sizeof v->file, "%s", d->file);
	v->why = d->why;
	v->n_damage++;
	return 0;
}

static int served_frame(void *ctx, const struct wal_view_frame *f)
{
	struct served *v = ctx;

	assert_true(f->number > v->last);
	v->last = f->number;
	v->frames++;
	return 0;
}

static void served_look(struct disk *d, struct served *v)
{
	static const struct wal_view_ops ops = {.frame = served_frame, .damage = served_damage};

	v->n_damage = v->frames = v->calls = 0;
	v->last = 0;
	assert_int_equal(wal_view_served(d, DIR_NAME, &ops, served_stat, v, NULL), 0);
}

/* A log of 'segs' segments, open; the entries 1..*ret_last of group 1, one a frame. */
static struct wal *served_log(struct disk *d, unsigned segs, uint64_t *ret_last)
{
	static const char data[1500];
	struct wal *w = NULL;
	uint64_t i = 0;

	assert_int_equal(wal_open(d, DIR_NAME, &small, &w, NULL), 0);
	while (w->n_segs < segs || wal_cur(w)->end < WAL_HDR_BYTES + 3 * WAL_BLOCK) {
		struct wal_rec r = {.group = 1,
			.type = WAL_ENTRY,
			.index = ++i,
			.term = 1,
			.data = data,
			.len = sizeof data};
		assert_int_equal(wal_stage(w, &r), 0);
		assert_int_equal(wal_flush(w), 0);
	}
	*ret_last = i;
	return w;
}

/* What lies behind the last flush is nothing, be it what is being written, or whole frames that nobody was told of; any
 * flip of a frame before it is found, also in the segment that is being written. */
static void a_log_that_is_written_is_viewed_up_to_its_flush(void **state)
{
	struct disk *d = fakedisk_new();
	struct served v = {.w = NULL};
	uint64_t last;

	(void)state;
	struct wal *w = v.w = served_log(d, SEGS, &last);
	served_look(d, &v);
	assert_int_equal(v.n_damage, 0);
	assert_int_equal(v.frames, last);
	struct log l = {.d = d};
	size_t size;
	for (uint32_t seq = 1; seq <= SEGS; seq++) {
		uint8_t *p = segment_of(&l, seq, &size);
		uint64_t end = w->segs[seq - 1].end;
		char name[32];

		(void)snprintf(name, sizeof name, "%010u.wal", seq);
		for (uint64_t at = 8; at < end; at += WAL_BLOCK / 4) {
			uint64_t in = at < WAL_HDR_BYTES ? at : at % WAL_BLOCK;
			/* Rows of groups that are not there; padding. */
			if (in >= (at < WAL_HDR_BYTES ? WAL_HDR_FIXED
						      : WAL_FRAME_HDR + WAL_REC_HDR + 1500))
				continue;
			p[at] ^= 1;
			served_look(d, &v);
			assert_true(v.n_damage > 0);
			assert_string_equal(v.file, name);
			p[at] ^= 1;
		}
		if (end < size) {
			/* As another frame, and half of one. */
			memcpy(p + end, p + end - WAL_BLOCK, VX_MIN(size - end, WAL_BLOCK / 2));
			served_look(d, &v);
			assert_int_equal(v.n_damage, 0);
			assert_int_equal(v.frames, last);
		}
	}
	wal_close(w);
	fakedisk_free(d);
}

/* Segments that are given back while they are looked at, at any moment of it, are not missed. */
static void a_segment_that_is_given_back_is_not_missed(void **state)
{
	bool hit = true;

	(void)state;
	for (unsigned at = 1; hit; at++) {
		struct disk *d = fakedisk_new();
		struct served v = {.give_back_at = at};

		v.w = served_log(d, 2 * SEGS, &v.mark);
		served_look(d, &v);
		if (v.n_damage)
			fail_msg("question %u: %s: %s", at, v.file, v.why);
		hit = v.calls >= at;
		assert_true(!hit || v.w->n_segs < 2 * SEGS);
		assert_true(at < 100);
		wal_close(v.w);
		fakedisk_free(d);
	}
}

/* One that is gone although nobody gave it back. */
static void a_segment_that_was_taken_away_is_missed(void **state)
{
	(void)state;
	for (uint32_t seq = 1; seq <= SEGS; seq++) {
		struct disk *d = fakedisk_new();
		struct served v = {.w = NULL};
		char path[64];
		uint64_t last;

		v.w = served_log(d, SEGS, &last);
		(void)snprintf(path, sizeof path, DIR_NAME "/%010u.wal", seq);
		assert_int_equal(d->ops->unlink(d, path), 0);
		served_look(d, &v);
		assert_int_equal(v.n_damage, 1);
		assert_string_equal(v.file, path + strlen(DIR_NAME "/"));
		assert_string_equal(v.why, "is missing");
		wal_close(v.w);
		fakedisk_free(d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sound_log_is_shown_whole),
		cmocka_unit_test(the_callers_error_ends_the_view),
		cmocka_unit_test(each_function_may_be_missing),
		cmocka_unit_test(a_flipped_bit_hides_no_more_than_its_frame),
		cmocka_unit_test(a_file_cut_short_is_shown_to_its_end),
		cmocka_unit_test(a_missing_segment_is_named),
		cmocka_unit_test(each_place_is_told),
		cmocka_unit_test(a_read_that_fails_is_damage_or_an_error),
		cmocka_unit_test(real_files_are_shown_too),
		cmocka_unit_test(a_log_that_is_written_is_viewed_up_to_its_flush),
		cmocka_unit_test(a_segment_that_is_given_back_is_not_missed),
		cmocka_unit_test(a_segment_that_was_taken_away_is_missed),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
