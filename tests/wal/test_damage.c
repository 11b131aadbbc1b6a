/* test_damage.c - damage in the middle of the log stops the groups that it concerns, and nobody else.
 *
 * A log with a history is damaged in many places.  Whatever an open says then, each group that is not stopped holds exactly
 * what was acknowledged, and where one flush alone is hurt, none is stopped that had nothing in it.  Group 1 is vital: where
 * it is concerned the open is refused.  A group that is stopped stays so, however the log goes on, until the loss is
 * accepted; the evidence stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "fakedisk.h"
#include "model.h"
#include "wal/wal_i.h"

#define DIR_NAME    "log"
#define FLUSHES_MAX 400u
#define SEED        UINT64_C(0x5eed)
#define VITAL       1u

static const struct wal_opts small = {
	.segment_size_bytes = WAL_SEG_MIN + 8 * WAL_BLOCK,
	.node_id = 7,
	.stop_first = VITAL + 1,
	.n_stop = MODEL_GROUPS - 1,
};

struct history {
	struct disk *d;
	struct model end;
	uint32_t seq[FLUSHES_MAX + 1];
	uint64_t start[FLUSHES_MAX + 1];
	size_t len[FLUSHES_MAX + 1];
	unsigned groups[FLUSHES_MAX + 1]; /* bit g: it has records of group g */
	unsigned n;
	uint64_t rng;
	bool old_marks; /* some of them */
};

static struct wal *must_open(struct disk *d)
{
	return log_must_open(d, DIR_NAME, &small);
}

static void stage(struct history *h, struct wal *w, const struct model_rec *r)
{
	size_t at = VX_MAX(wal_staged(w), (size_t)WAL_FRAME_HDR);

	assert_int_equal(model_stage(w, r), 0);
	if (r->rec.type != WAL_MARK || !h->old_marks || model_rng(&h->rng) % 2)
		return;
	/* Those of older logs came alone and did not say where the group ends. */
	memset(w->pend.data + at + 32, 0, 8);
	w->pend.len -= WAL_REC_HDR;
	w->pend.n--;
}

/* One flush of records of 'one' group (0: of any). */
static void flush(struct history *h, struct wal *w, unsigned recs, uint32_t one)
{
	unsigned i = ++h->n;

	assert_true(i <= FLUSHES_MAX);
	while (recs > 0) {
		struct model_rec r = model_random(&h->end, &h->rng, 600);
		if ((one && r.rec.group != one) || wal_stopped(w, r.rec.group))
			continue;
		/* No index is marked twice, or with the same manifest only. */
		if (r.rec.type == WAL_MARK && r.rec.index == h->end.g[r.rec.group - 1].mark)
			continue;
		stage(h, w, &r);
		model_apply(&h->end, &r);
		h->groups[i] |= 1u << r.rec.group;
		recs--;
	}
	h->len[i] = wal_staged(w);
	assert_int_equal(wal_flush(w), 0);
	h->seq[i] = wal_cur(w)->seq;
	h->start[i] = wal_cur(w)->end - VX_ALIGN_UP(h->len[i], WAL_BLOCK);
}

static void history_init(struct history *h, unsigned segments, uint64_t seed)
{
	*h = (struct history){.d = fakedisk_new(), .rng = seed, .old_marks = seed % 2};
	assert_non_null(h->d);
	struct wal *w = must_open(h->d);
	while (w->n_segs < segments)
		flush(h, w, 1 + (unsigned)(model_rng(&h->rng) % 4), 0);
	flush(h, w, 1, 0);
	flush(h, w, 1, 0);
	wal_close(w);
}

static void history_release(struct history *h)
{
	model_release(&h->end);
	fakedisk_free(h->d);
}

static uint8_t *segment(struct disk *d, uint32_t seq, const char *suffix, size_t *ret_size)
{
	char path[64];

	(void)snprintf(path, sizeof path, DIR_NAME "/%010u.%s", seq, suffix);
	return fakedisk_bytes(d, path, ret_size);
}

/* Groups that are stopped, as bits; all others hold what they must. */
static unsigned others_hold(struct wal *w, const struct model *m)
{
	struct loaded l = {0};
	struct model rest = {0};
	unsigned stopped = 0;

	model_copy(&rest, m);
	for (uint32_t g = 1; g <= MODEL_GROUPS; g++) {
		struct vx_err err = VX_ERR_INIT;
		int rc = wal_group_load(w, g, &l.g[g - 1], &err);
		if (!wal_stopped(w, g)) {
			assert_int_equal(rc, 0);
			continue;
		}
		assert_int_equal(rc, -EUCLEAN);
		assert_string_equal(err.msg, wal_stopped(w, g));
		stopped |= 1u << g;
		free(rest.g[g - 1].e);
		rest.g[g - 1] = (struct model_group){0};
	}
	const char *why = model_differs(&rest, &l);
	if (why)
		fail_msg("a group that was not stopped differs: %s", why);
	loaded_release(&l);
	model_release(&rest);
	assert_false(stopped & 1u << VITAL);
	return stopped;
}

/* Opens a copy of the log.  -EUCLEAN and nothing changed, or the groups that are stopped. */
static int opened(struct history *h)
{
	struct disk *d = fakedisk_clone(h->d);
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;
	int rc;

	assert_non_null(d);
	rc = wal_open(d, DIR_NAME, &small, &w, &err);
	if (rc == -EUCLEAN) {
		assert_non_null(strstr(err.msg, "suspect"));
		assert_true(fakedisk_same(h->d, d));
	} else if (rc) {
		fail_msg("wal_open: %s", vx_err_msg(&err, rc));
	} else {
		rc = (int)others_hold(w, &h->end);
		wal_close(w);
		/* The verdict is the same the next time. */
		w = must_open(d);
		assert_int_equal(others_hold(w, &h->end), rc);
		wal_close(w);
	}
	fakedisk_free(d);
	return rc;
}

/* The log goes on and is recycled: nobody else is stopped later for what is known already. */
static void goes_on(struct history *h)
{
	struct history later = {.d = fakedisk_clone(h->d), .rng = h->rng};
	unsigned stopped;

	assert_non_null(later.d);
	model_copy(&later.end, &h->end);
	struct wal *w = must_open(later.d);
	stopped = others_hold(w, &later.end);
	for (unsigned k = 0; k < 12; k++) {
		flush(&later, w, 3, 0);
		assert_int_equal(wal_upkeep(w), 0);
		if (k % 3)
			continue;
		wal_close(w);
		w = must_open(later.d);
		assert_int_equal(others_hold(w, &later.end), stopped);
	}
	wal_close(w);
	history_release(&later);
}

enum kind { ZEROS, FRAME_HEADER, RECORD_HEADER, PAYLOAD, KINDS };

static void hurt(const struct history *h, uint8_t *p, unsigned i, enum kind kind, uint64_t r)
{
	uint8_t *f = p + h->start[i];
	size_t at = WAL_FRAME_HDR;
	unsigned n = (unsigned)r % get_le32(f + 24);

	for (; n > 0; n--)
		at += wal_rec_size(get_le32(f + at + 4));
	if (kind == ZEROS)
		memset(f, 0, h->len[i]);
	else if (kind == FRAME_HEADER)
		f[r % WAL_FRAME_HDR] ^= 1;
	else if (kind == RECORD_HEADER || get_le32(f + at + 4) == 0)
		f[at + r % WAL_REC_HDR] ^= 1;
	else
		f[at + WAL_REC_HDR + r % get_le32(f + at + 4)] ^= 1;
}

/* --- one flush ------------------------------------------------------------------------------ */
static void one_hurt_flush_stops_none_but_its_own(void **state)
{
	(void)state;
	unsigned stops = 0, harmless = 0, refusals = 0, tries = 0;

	for (uint64_t seed = SEED; seed < SEED + 8; seed++) {
		struct history h;
		history_init(&h, 4, seed);
		for (unsigned i = 1; i < h.n; i++) {
			for (unsigned kind = 0; kind < KINDS; kind++) {
				size_t size;
				uint8_t save[WAL_SEG_MIN];
				uint8_t *p = segment(h.d, h.seq[i], "wal", &size);
				memcpy(save, p + h.start[i], h.len[i]);
				hurt(&h, p, i, (enum kind)kind, model_rng(&h.rng));
				int got = opened(&h);
				tries++;
				if (got == -EUCLEAN)
					assert_true(h.groups[i] & 1u << VITAL);
				else
					assert_int_equal((unsigned)got & ~h.groups[i], 0);
				refusals += got == -EUCLEAN;
				stops += got > 0;
				harmless += got == 0;
				memcpy(p + h.start[i], save, h.len[i]);
			}
		}
		assert_int_equal(opened(&h), 0);
		history_release(&h);
	}
	print_message("%u places: %u stopped groups, %u concerned nobody, %u refused\n", tries,
		stops, harmless, refusals);
	assert_true(stops > tries / 3 && harmless > 0 && refusals > 0);
}

/* A new log with one flush, of the vital group. */
static struct wal *open_with_vital(struct disk *d)
{
	struct wal *w = must_open(d);
	assert_int_equal(
		wal_stage(w, &(struct wal_rec){.group = VITAL, .type = WAL_HARDSTATE, .term = 1}),
		0);
	assert_int_equal(wal_flush(w), 0);
	return w;
}

/* --- what can have been in it ---------------------------------------------------------------- */
/* Flushes 'sound', then 'gone', then 'after', each in one frame and as they are (marks of older logs came alone), and
 * wipes out 'gone': is group 2 stopped? */
static bool stopped_by(const struct wal_rec *sound, unsigned n_sound, const struct wal_rec *gone,
	unsigned n_gone, const struct wal_rec *after, unsigned n_after)
{
	const struct wal_rec *part[] = {sound, gone, after};
	const unsigned n[] = {n_sound, n_gone, n_after};
	struct disk *d = fakedisk_new();
	uint64_t at = 0;
	size_t size;

	assert_non_null(d);
	struct wal *w = open_with_vital(d);
	for (unsigned p = 0; p < 3; p++) {
		if (p == 1)
			at = wal_cur(w)->end;
		for (unsigned i = 0; i < n[p]; i++)
			assert_int_equal(wal_frame_add(&w->pend, &part[p][i]), 0);
		assert_int_equal(wal_flush(w), 0);
	}
	wal_close(w);
	memset(segment(d, 1, "wal", &size) + at, 0, WAL_BLOCK);
	w = must_open(d);
	bool stopped = wal_stopped(w, 2) != NULL;
	wal_close(w);
	fakedisk_free(d);
	return stopped;
}

/* Each leaves the log as if nothing were missing. */
static void what_may_have_been_replaced_is_not_believed(void **state)
{
	(void)state;
	const struct wal_rec sound[] = {
		{.group = 2, .type = WAL_HARDSTATE, .term = 1},
		{.group = 2, .type = WAL_ENTRY, .index = 1, .term = 1, .data = "a", .len = 1},
		{.group = 2, .type = WAL_ENTRY, .index = 2, .term = 1, .data = "b", .len = 1},
		{.group = 2, .type = WAL_MARK, .index = 1, .term = 1, .data = "m", .len = 1},
	};
	/* The same number of entries, other ones. */
	const struct wal_rec other[] = {
		{.group = 2, .type = WAL_HARDSTATE, .term = 2},
		{.group = 2, .type = WAL_TRUNCATE, .index = 2},
		{.group = 2, .type = WAL_ENTRY, .index = 2, .term = 2, .data = "c", .len = 1},
	};
	const struct wal_rec below[] = {
		{.group = 2, .type = WAL_HARDSTATE, .term = 2},
		{.group = 2, .type = WAL_ENTRY, .index = 3, .term = 2, .data = "d", .len = 1},
		{.group = 2, .type = WAL_MARK, .index = 1, .term = 1, .data = "m", .len = 1},
	};
	struct wal_rec above[3] = {below[0], below[1], below[2]};

	assert_true(stopped_by(sound, 4, other, 3, below, 3));
	above[2].index = 2;
	assert_false(stopped_by(sound, 4, other, 3, above, 3));
	/* A mark that says where the log ends does not say what is below. */
	struct wal_rec told[] = {
		{.group = 2,
			.type = WAL_MARK,
			.index = 1,
			.term = 1,
			.vote = 2,
			.data = "m",
			.len = 1},
		{.group = 2, .type = WAL_HARDSTATE, .term = 2},
	};
	assert_true(stopped_by(sound, 4, other, 3, told, 2));
	told[0].index = 2;
	assert_false(stopped_by(sound, 4, other, 3, told, 2));
	/* A vote. */
	const struct wal_rec vote[] = {{.group = 2, .type = WAL_HARDSTATE, .term = 1, .vote = 7}};
	assert_true(stopped_by(sound, 4, vote, 1, &above[1], 2));
	assert_false(stopped_by(sound, 4, vote, 1, above, 3));
	/* Another mark at the same place. */
	const struct wal_rec idle[] = {{.group = 2, .type = WAL_HARDSTATE, .term = 1},
		{.group = 2, .type = WAL_MARK, .index = 5, .term = 1, .data = "m", .len = 1}};
	const struct wal_rec again[] = {
		{.group = 2, .type = WAL_MARK, .index = 5, .term = 1, .data = "n", .len = 1}};
	const struct wal_rec next[] = {{.group = 2, .type = WAL_HARDSTATE, .term = 2},
		{.group = 2, .type = WAL_ENTRY, .index = 6, .term = 2}};
	assert_true(stopped_by(idle, 2, again, 1, next, 2));
}

/* Wipes out the first flush of group 2; a mark follows.  What the log says of the group then. */
static void marked_after_a_loss(
	const struct wal_rec *gone, unsigned n_gone, bool held_back, struct wal_group_state *ret)
{
	const struct wal_rec mark = {
		.group = 2, .type = WAL_MARK, .index = 1, .term = 4, .data = "m", .len = 1};
	struct disk *d = fakedisk_new();
	size_t size;

	assert_non_null(d);
	struct wal *w = open_with_vital(d);
	uint64_t at = wal_cur(w)->end;
	for (unsigned i = 0; i < n_gone; i++)
		assert_int_equal(wal_stage(w, &gone[i]), 0);
	assert_int_equal(wal_flush(w), 0);
	if (held_back) {
		/* Never written: the mark must not speak of it. */
		assert_int_equal(
			wal_stage(w,
				&(struct wal_rec){
					.group = 2, .type = WAL_HARDSTATE, .term = 9, .vote = 9}),
			0);
		wal_discard(w);
	}
	assert_int_equal(wal_stage(w, &mark), 0);
	assert_int_equal(wal_flush(w), 0);
	wal_close(w);
	memset(segment(d, 1, "wal", &size) + at, 0, WAL_BLOCK);
	w = must_open(d);
	assert_null(wal_stopped(w, 2));
	assert_int_equal(wal_group_load(w, 2, ret, NULL), 0);
	wal_close(w);
	fakedisk_free(d);
}

/* The store has what lies below a mark, and the mark says term and vote. */
static void what_was_lost_below_a_mark_concerns_nobody(void **state)
{
	(void)state;
	const struct wal_rec gone[] = {
		{.group = 2, .type = WAL_HARDSTATE, .term = 3},
		{.group = 2, .type = WAL_HARDSTATE, .term = 4, .vote = 7},
		{.group = 2, .type = WAL_ENTRY, .index = 1, .term = 4, .data = "a", .len = 1},
	};

	for (unsigned held_back = 0; held_back < 2; held_back++) {
		for (unsigned first = 0; first < 2; first++) {
			struct wal_group_state st = {0};
			marked_after_a_loss(gone + first, 3 - first, held_back, &st);
			assert_int_equal(st.mark_index, 1);
			assert_int_equal(st.n_entries, 0);
			assert_int_equal(st.term, 4);
			assert_int_equal(st.vote, 7);
			wal_group_state_release(&st);
		}
	}
}

/* --- many ----------------------------------------------------------------------------------- */
/* A block anywhere, several of them, a whole header, a whole segment. */
static void whoever_goes_on_has_lost_nothing(void **state)
{
	(void)state;
	unsigned stops = 0, harmless = 0, refusals = 0;

	for (uint64_t seed = SEED; seed < SEED + 400; seed++) {
		struct history h;
		history_init(&h, 3 + (unsigned)(seed % 3), seed);
		/* The last flush of all is not told from a torn one: not that. */
		unsigned places = 1 + (unsigned)(model_rng(&h.rng) % 3);
		for (unsigned k = 0; k < places; k++) {
			unsigned i = 1 + (unsigned)(model_rng(&h.rng) % (h.n - 1));
			size_t size;
			uint8_t *p = segment(h.d, h.seq[i], "wal", &size);
			uint64_t what = model_rng(&h.rng) % 8;
			if (!p || h.start[i] + h.len[i] > size)
				continue;
			if (what == 0 && h.seq[i] != h.seq[h.n])
				memset(p, 0, WAL_BLOCK);
			else if (what == 1 && h.seq[i] != h.seq[h.n]) {
				char path[64];
				(void)snprintf(path, sizeof path, DIR_NAME "/%010u.wal", h.seq[i]);
				assert_int_equal(h.d->ops->unlink(h.d, path), 0);
			} else if (what == 2 && h.seq[i] != h.seq[h.n]) {
				/* The file ends early. */
				uint8_t *rest = malloc(h.start[i] + h.len[i] / 2);
				assert_non_null(rest);
				memcpy(rest, p, h.start[i] + h.len[i] / 2);
				char path[64];
				(void)snprintf(path, sizeof path, DIR_NAME "/%010u.wal", h.seq[i]);
				assert_int_equal(
					fakedisk_put(h.d, path, rest, h.start[i] + h.len[i] / 2),
					0);
				free(rest);
			} else
				memset(p + h.start[i] + model_rng(&h.rng) % h.len[i] / 512 * 512,
					0xa5, 512);
		}
		int got = opened(&h);
		refusals += got == -EUCLEAN;
		stops += got > 0;
		harmless += got == 0;
		if (got >= 0)
			goes_on(&h);
		history_release(&h);
	}
	print_message(
		"%u stopped groups, %u concerned nobody, %u refused\n", stops, harmless, refusals);
	assert_true(stops > 20 && harmless > 20 && refusals > 20);
}

/* --- and then ------------------------------------------------------------------------------- */
/* A log in which only group 'g' lost something. */
static void stop_one(struct history *h, uint32_t g, uint8_t **ret_copy, size_t *ret_size)
{
	history_init(h, 3, SEED + g);
	struct wal *w = must_open(h->d);
	/* Behind it an entry, which no mark covers. */
	while (h->end.g[g - 1].n == 0 || (h->groups[h->n] != 1u << g))
		flush(h, w, 3, g);
	unsigned i = h->n;
	flush(h, w, 2, 0);
	wal_close(w);
	uint8_t *p = segment(h->d, h->seq[i], "wal", ret_size);
	memset(p + h->start[i], 0, WAL_BLOCK);
	*ret_copy = malloc(*ret_size);
	assert_non_null(*ret_copy);
	memcpy(*ret_copy, p, *ret_size);
	h->seq[0] = h->seq[i];
}

static void a_stopped_group_stays_stopped_and_its_evidence_stays(void **state)
{
	(void)state;
	unsigned told = 0;

	for (uint32_t g = 2; g <= MODEL_GROUPS; g++) {
		struct history h;
		uint8_t *copy;
		size_t size, n;
		stop_one(&h, g, &copy, &n);
		struct wal *w = must_open(h.d);
		unsigned stopped = others_hold(w, &h.end);
		if (stopped != 1u << g) {
			/* What follows settled it, or was of others as well. */
			wal_close(w);
			free(copy);
			history_release(&h);
			continue;
		}
		told++;
		char why[WAL_WHY_MAX];
		(void)snprintf(why, sizeof why, "%s", wal_stopped(w, g));
		uint32_t first = w->segs[0].seq;
		/* The log goes on, and is recycled beyond all that it was. */
		for (unsigned k = 0; w->segs[0].seq <= h.seq[0] + 2; k++) {
			flush(&h, w, 3, 0);
			assert_int_equal(wal_upkeep(w), 0);
			if (k % 8 == 0) {
				wal_close(w);
				w = must_open(h.d);
				assert_int_equal(others_hold(w, &h.end), stopped);
				assert_string_equal(wal_stopped(w, g), why);
			}
			h.n = h.n > FLUSHES_MAX - 2 ? 1 : h.n;
		}
		assert_true(w->segs[0].seq > first);
		uint8_t *p = segment(h.d, h.seq[0], "damaged", &size);
		assert_non_null(p);
		assert_int_equal(size, n);
		assert_memory_equal(p, copy, n);

		/* Without the file the log still knows. */
		char path[64];
		(void)snprintf(path, sizeof path, DIR_NAME "/stopped-%010u", g);
		assert_non_null(fakedisk_bytes(h.d, path, &size));
		assert_int_equal(h.d->ops->unlink(h.d, path), 0);
		wal_close(w);
		w = must_open(h.d);
		assert_int_equal(others_hold(w, &h.end), stopped);
		assert_non_null(strstr(wal_stopped(w, g), "stopped before"));
		assert_non_null(fakedisk_bytes(h.d, path, &size));

		/* Lifted, it begins anew, beyond all that was ever seen of it. */
		uint64_t term, index;
		uint64_t had = h.end.g[g - 1].mark + h.end.g[g - 1].n;
		assert_int_equal(wal_lift(w, VITAL, &term, &index), -ENOENT);
		assert_int_equal(wal_lift(w, g, &term, &index), 0);
		assert_true(index + 3 >= had); /* the lost flush had three records */
		assert_null(wal_stopped(w, g));
		struct model_rec r[2] = {{.rec = {.group = g,
						  .type = WAL_RESET,
						  .index = index + 10,
						  .term = term + 1},
						 .seed = 5},
			{.rec = {.group = g, .type = WAL_HARDSTATE, .term = term + 1}, .seed = 5}};
		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(model_stage(w, &r[k]), 0);
			model_apply(&h.end, &r[k]);
		}
		assert_int_equal(wal_flush(w), 0);
		wal_close(w);
		/* Not yet forgotten: to be done again. */
		w = must_open(h.d);
		assert_non_null(wal_stopped(w, g));
		assert_int_equal(wal_lift(w, g, &term, &index), 0);
		assert_true(index >= r[0].rec.index);
		for (unsigned k = 0; k < 2; k++) {
			r[k].rec.index = k ? 0 : index + 1;
			r[k].rec.term = term + 1;
			assert_int_equal(model_stage(w, &r[k]), 0);
			model_apply(&h.end, &r[k]);
		}
		assert_int_equal(wal_flush(w), 0);
		assert_int_equal(wal_forget(w, g), 0);
		assert_null(fakedisk_bytes(h.d, path, &size));
		for (unsigned k = 0; k < 40; k++) {
			h.n = 1;
			flush(&h, w, 3, 0);
			assert_int_equal(wal_upkeep(w), 0);
			wal_close(w);
			w = must_open(h.d);
			assert_int_equal(others_hold(w, &h.end), 0);
		}
		wal_close(w);
		free(copy);
		history_release(&h);
	}
	assert_true(told >= 3);
}

/* Killed anywhere while it stops a group, the next open ends the same way. */
static void killed_while_stopping(void **state)
{
	(void)state;
	struct history h;
	uint8_t *copy;
	size_t n;
	unsigned stopped = 0, runs = 0;

	for (uint32_t g = 2; g <= MODEL_GROUPS && !stopped; g++) {
		stop_one(&h, g, &copy, &n);
		free(copy);
		int got = opened(&h);
		if (got == 1 << g)
			stopped = (unsigned)got;
		else
			history_release(&h);
	}
	assert_true(stopped != 0);
	for (unsigned at = 1;; at++) {
		struct disk *d = fakedisk_clone(h.d);
		struct wal *w = NULL;
		struct vx_err err = VX_ERR_INIT;
		assert_non_null(d);
		uint64_t calls = fakedisk_calls(d);
		fakedisk_fail_after(d, at, -EIO);
		int rc = wal_open(d, DIR_NAME, &small, &w, &err);
		calls = fakedisk_calls(d) - calls;
		if (rc == 0)
			wal_close(w);
		bool over = rc == 0 && calls < at;
		fakedisk_fail_after(d, 0, 0);
		fakedisk_crash(d, at);
		w = must_open(d);
		assert_int_equal(others_hold(w, &h.end), stopped);
		wal_close(w);
		fakedisk_free(d);
		runs++;
		if (over)
			break;
	}
	print_message("%u runs\n", runs);
	assert_true(runs > 8);
	history_release(&h);
}

/* No room for the evidence: the start is refused and nothing is lost; once there is, it goes on. */
static void evidence_needs_room(void **state)
{
	(void)state;
	unsigned tried = 0;

	for (uint32_t g = 2; g <= MODEL_GROUPS && !tried; g++) {
		struct history h;
		uint8_t *copy;
		size_t n;
		stop_one(&h, g, &copy, &n);
		free(copy);
		if (opened(&h) == 1 << g) {
			struct wal *w = NULL;
			struct vx_err err = VX_ERR_INIT;
			fakedisk_limit(h.d, fakedisk_used(h.d) + WAL_BLOCK);
			assert_int_equal(wal_open(h.d, DIR_NAME, &small, &w, &err), -ENOSPC);
			assert_non_null(strstr(err.msg, "cannot be copied"));
			fakedisk_limit(h.d, UINT64_MAX);
			w = must_open(h.d);
			assert_int_equal(others_hold(w, &h.end), 1u << g);
			wal_close(w);
			tried++;
		}
		history_release(&h);
	}
	assert_true(tried > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_hurt_flush_stops_none_but_its_own),
		cmocka_unit_test(what_may_have_been_replaced_is_not_believed),
		cmocka_unit_test(what_was_lost_below_a_mark_concerns_nobody),
		cmocka_unit_test(whoever_goes_on_has_lost_nothing),
		cmocka_unit_test(a_stopped_group_stays_stopped_and_its_evidence_stays),
		cmocka_unit_test(killed_while_stopping),
		cmocka_unit_test(evidence_needs_room),
	};

	cmocka_set_test_filter(getenv("ROT_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
