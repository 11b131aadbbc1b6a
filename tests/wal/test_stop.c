/* test_stop.c - what damage may and may not do to one group, case by case.
 *
 * Each test writes a history by hand, loses one flush of it or more, and says what the next open must think of each
 * group: what is lost may have been anything.  Group 1 is vital.  Groups 5 and 101 share a bit in the sets that frames keep.
 *
 * It is long because all cases stand on one lab, a few lines each; what happens by chance is test_damage.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "fakedisk.h"
#include "model.h"
#include "faultdisk.h"
#include "wal/wal_i.h"

#define DIR_NAME    "wal"
#define FLUSHES_MAX 64u
#define VITAL       1u
#define TWIN        101u /* of 5 */

static const struct wal_opts small = {
	.segment_size_bytes = WAL_SEG_MIN + 4 * WAL_BLOCK,
	.node_id = 7,
	.stop_first = VITAL + 1,
	.n_stop = 120,
};

struct lab {
	struct disk *d;
	struct wal *w;
	uint32_t seq[FLUSHES_MAX + 1];
	uint64_t start[FLUSHES_MAX + 1];
	size_t len[FLUSHES_MAX + 1];
	unsigned n;
};

static struct wal *must_open(struct disk *d)
{
	return log_must_open(d, DIR_NAME, &small);
}

static void put(struct lab *l, uint32_t group, uint8_t type, uint64_t index, uint64_t term)
{
	bool data = type == WAL_ENTRY || type == WAL_MARK || type == WAL_RESET;
	struct wal_rec rec = {.group = group,
		.type = type,
		.index = index,
		.term = term,
		.vote = type == WAL_HARDSTATE ? term + 1 : 0,
		.data = data ? &rec.term : NULL,
		.len = data ? sizeof rec.term : 0};

	assert_int_equal(wal_stage(l->w, &rec), 0);
}

/* The number of the flush. */
static unsigned flush(struct lab *l)
{
	unsigned i = ++l->n;

	assert_true(i <= FLUSHES_MAX);
	l->len[i] = wal_staged(l->w);
	assert_int_equal(wal_flush(l->w), 0);
	l->seq[i] = wal_cur(l->w)->seq;
	l->start[i] = wal_cur(l->w)->end - VX_ALIGN_UP(l->len[i], WAL_BLOCK);
	return i;
}

static unsigned put1(struct lab *l, uint32_t group, uint8_t type, uint64_t index, uint64_t term)
{
	put(l, group, type, index, term);
	return flush(l);
}

static void reopen(struct lab *l)
{
	wal_close(l->w);
	l->w = must_open(l->d);
}

/* With the vital group, of which nothing else is asked. */
static struct lab begin(void)
{
	struct lab l = {.d = fakedisk_new()};

	assert_non_null(l.d);
	l.w = must_open(l.d);
	put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
	return l;
}

static void end(struct lab *l)
{
	wal_close(l->w);
	fakedisk_free(l->d);
}

/* A history of group 'g': term 1, entries 1 to 'n'. */
static void entries(struct lab *l, uint32_t g, uint64_t n)
{
	put(l, g, WAL_HARDSTATE, 0, 1);
	for (uint64_t i = 1; i <= n; i++)
		put(l, g, WAL_ENTRY, i, 1);
	flush(l);
}

/* Flushes of the vital group until the next segment has begun. */
static void next_segment(struct lab *l)
{
	uint32_t seq = wal_cur(l->w)->seq;

	while (wal_cur(l->w)->seq == seq)
		put1(l, VITAL, WAL_HARDSTATE, 0, 1);
}

static uint8_t *file(struct disk *d, uint32_t seq, const char *suffix, size_t *ret_size)
{
	char path[64];

	(void)snprintf(path, sizeof path, DIR_NAME "/%010u.%s", seq, suffix);
	return fakedisk_bytes(d, path, ret_size);
}

static void lose(struct lab *l, unsigned i)
{
	size_t size;
	uint8_t *p = file(l->d, l->seq[i], "wal", &size);

	assert_non_null(p);
	memset(p + l->start[i], 0, WAL_BLOCK);
}

/* The data of the last record of a flush, which has some. */
static void hurt(struct lab *l, unsigned i)
{
	size_t size;
	uint8_t *p = file(l->d, l->seq[i], "wal", &size);

	assert_non_null(p);
	p[l->start[i] + l->len[i] - 1] ^= 1;
}

static bool is_stopped(struct lab *l, uint32_t g)
{
	struct wal_group_state st;
	int rc = wal_group_load(l->w, g, &st, NULL);

	assert_int_equal(rc, wal_stopped(l->w, g) ? -EUCLEAN : 0);
	if (rc == 0)
		wal_group_state_release(&st);
	return rc != 0;
}

static void must_be(struct lab *l, uint32_t g, uint64_t term, uint64_t mark, uint64_t last)
{
	struct wal_group_state st;

	if (wal_stopped(l->w, g))
		fail_msg("group %u is stopped: %s", g, wal_stopped(l->w, g));
	assert_int_equal(wal_group_load(l->w, g, &st, NULL), 0);
	assert_int_equal(st.term, term);
	assert_int_equal(st.mark_index, mark);
	assert_int_equal(mark + st.n_entries, last);
	wal_group_state_release(&st);
}

/* --- term and vote ------------------------------------------------------------------------- */
/* A RESET says nothing of them: what was lost before it may have been a vote. */
static void a_reset_does_not_bring_back_a_vote(void **state)
{
	(void)state;
	for (unsigned again = 0; again < 2; again++) {
		struct lab l = begin();
		entries(&l, 2, 3);
		unsigned i = put1(&l, 2, WAL_HARDSTATE, 0, 6);
		put1(&l, 2, WAL_RESET, 10, 5);
		if (again)
			put1(&l, 2, WAL_HARDSTATE, 0, 7);
		lose(&l, i);
		reopen(&l);
		assert_int_equal(is_stopped(&l, 2), !again);
		if (again)
			must_be(&l, 2, 7, 10, 10);
		end(&l);
	}
}

/* A mark of the time when they came alone and did not say where the log ends. */
static void old_mark(struct lab *l, uint32_t group, uint64_t index, uint64_t term)
{
	put(l, group, WAL_ENTRY, index, term);
	assert_int_equal(wal_frame_add(&l->w->pend, &(struct wal_rec){.group = group,
							    .type = WAL_MARK,
							    .index = index,
							    .term = term,
							    .data = "m",
							    .len = 1}),
		0);
	flush(l);
}

/* Entries and a mark that comes alone do not settle a vote; a table does, and so does what is logged with a mark. */
static void a_table_or_a_mark_brings_back_a_vote(void **state)
{
	(void)state;
	enum { NEITHER, TABLE, WITH_MARK, ALL };
	for (unsigned by = NEITHER; by < ALL; by++) {
		struct lab l = begin();
		entries(&l, 2, 3);
		unsigned i = put1(&l, 2, WAL_HARDSTATE, 0, 6);
		if (by == WITH_MARK) {
			put1(&l, 2, WAL_ENTRY, 4, 6);
			put1(&l, 2, WAL_MARK, 4, 6);
		} else {
			old_mark(&l, 2, 4, 6);
		}
		if (by == TABLE)
			next_segment(&l);
		lose(&l, i);
		reopen(&l);
		assert_int_equal(is_stopped(&l, 2), by == NEITHER);
		if (by != NEITHER)
			must_be(&l, 2, 6, 4, 4);
		end(&l);
	}
}

/* --- entries ------------------------------------------------------------------------------ */
/* What was read behind a loss is there also when the segments before it have been recycled. */
static void what_goes_on_does_so_after_recycling(void **state)
{
	(void)state;
	for (unsigned marked = 0; marked < 2; marked++) {
		struct lab l = begin();
		entries(&l, 2, 4);
		next_segment(&l);
		unsigned i = put1(&l, 2, WAL_HARDSTATE, 0, 6);
		put1(&l, 2, WAL_ENTRY, 5, 6);
		put1(&l, 2, WAL_ENTRY, 6, 6);
		if (marked)
			put1(&l, 2, WAL_MARK, 3, 1);
		next_segment(&l);
		put1(&l, 2, WAL_MARK, 5, 6);
		lose(&l, i);
		for (unsigned k = 0; k < 3; k++) {
			reopen(&l);
			must_be(&l, 2, 6, 5, 6);
			assert_int_equal(l.w->segs[0].seq, k ? 2 : 1);
			assert_int_equal(wal_upkeep(l.w), 0);
		}
		end(&l);
	}
}

/* Whatever may have replaced entries that were truncated since: a mark where the log ends now settles it. */
static void what_was_truncated_after_a_loss_is_not_asked_for(void **state)
{
	(void)state;
	for (unsigned by = 0; by < 3; by++) {
		struct lab l = begin();
		entries(&l, 2, 8);
		unsigned i = put1(&l, 2, WAL_ENTRY, 9, 1);
		put1(&l, 2, WAL_ENTRY, 10, 1);
		if (by == 1)
			i = put1(&l, 2, WAL_TRUNCATE, 6, 0);
		else
			put1(&l, 2, WAL_TRUNCATE, 6, 0);
		put1(&l, 2, WAL_ENTRY, 6, 2);
		if (by < 2)
			put1(&l, 2, WAL_MARK, 6, 2);
		put1(&l, 2, WAL_ENTRY, 7, 3);
		lose(&l, i);
		reopen(&l);
		if (by < 2)
			must_be(&l, 2, 1, 6, 7);
		else
			assert_true(is_stopped(&l, 2));
		end(&l);
	}
}

/* --- births ---------------------------------------------------------------------------------- */
/* That a group is known explains its bit, but does not exclude that its twin began in what is lost. */
static void a_group_may_be_born_under_the_bit_of_another(void **state)
{
	(void)state;
	for (unsigned later = 0; later < 2; later++) {
		struct lab l = begin();
		entries(&l, 5, 2);
		put(&l, TWIN, WAL_HARDSTATE, 0, 1);
		put(&l, TWIN, WAL_ENTRY, 1, 1);
		unsigned i = flush(&l);
		if (later)
			put1(&l, TWIN, WAL_HARDSTATE, 0, 2);
		put1(&l, VITAL, WAL_HARDSTATE, 0, 2);
		lose(&l, i);
		reopen(&l);
		assert_true(is_stopped(&l, TWIN));
		assert_true(is_stopped(&l, 5));
		assert_false(is_stopped(&l, 2));
		end(&l);
	}
}

/* Both begin there, and the open is killed between their verdicts: neither is forgotten. */
static void twins_are_both_stopped_whenever_the_open_is_killed(void **state)
{
	(void)state;
	struct lab l = begin();
	unsigned runs = 0;
	bool over = false;
	put(&l, 5, WAL_HARDSTATE, 0, 1);
	put(&l, 5, WAL_ENTRY, 1, 1);
	put(&l, TWIN, WAL_HARDSTATE, 0, 1);
	put(&l, TWIN, WAL_ENTRY, 1, 1);
	unsigned i = flush(&l);
	put1(&l, VITAL, WAL_HARDSTATE, 0, 2);
	lose(&l, i);
	for (unsigned at = 1; !over; at++) {
		struct lab k = {.d = fakedisk_clone(l.d)};
		assert_non_null(k.d);
		uint64_t calls = fakedisk_calls(k.d);
		fakedisk_fail_after(k.d, at, -EIO);
		over = wal_open(k.d, DIR_NAME, &small, &k.w, NULL) == 0;
		over &= fakedisk_calls(k.d) - calls < at;
		wal_close(k.w);
		fakedisk_fail_after(k.d, 0, 0);
		fakedisk_crash(k.d, at);
		k.w = must_open(k.d);
		assert_true(is_stopped(&k, 5));
		assert_true(is_stopped(&k, TWIN));
		assert_false(is_stopped(&k, 2));
		end(&k);
		runs++;
	}
	assert_true(runs > 8);
	end(&l);
}

/* What was lost is followed by the end of its group: nobody cares what it was. */
static void a_dropped_group_is_not_stopped(void **state)
{
	(void)state;
	for (unsigned again = 0; again < 3; again++) {
		struct lab l = begin();
		entries(&l, 2, 3);
		unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
		put1(&l, 2, WAL_DROP, 0, 0);
		if (again)
			entries(&l, 2, 2);
		if (again == 2) {
			/* And a second loss counts for itself. */
			put1(&l, 2, WAL_DROP, 0, 0);
			put1(&l, 2, WAL_HARDSTATE, 0, 1);
			lose(&l, i + 4);
		}
		put1(&l, VITAL, WAL_HARDSTATE, 0, 2);
		lose(&l, i);
		reopen(&l);
		assert_int_equal(is_stopped(&l, 2), again == 2);
		if (again < 2)
			must_be(&l, 2, again, 0, again ? 2 : 0);
		end(&l);
	}
}

/* Where the vital group itself may have begun, nothing goes on. */
static void nothing_goes_on_without_a_vital_group(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	struct lab l = {.d = fakedisk_new()};
	assert_non_null(l.d);
	l.w = must_open(l.d);
	entries(&l, 2, 1);
	unsigned i = put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
	put1(&l, 2, WAL_ENTRY, 2, 1);
	lose(&l, i);
	wal_close(l.w);
	l.w = NULL;
	struct disk *was = fakedisk_clone(l.d);
	assert_int_equal(wal_open(l.d, DIR_NAME, &small, &l.w, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "suspect: all"));
	assert_true(fakedisk_same(was, l.d));
	fakedisk_free(was);
	end(&l);
}

/* --- acceptance -------------------------------------------------------------------------------- */
static void accept(struct lab *l, uint32_t g, uint64_t *ret_term, uint64_t *ret_index)
{
	assert_int_equal(wal_lift(l->w, g, ret_term, ret_index), 0);
	put(l, g, WAL_RESET, *ret_index + 10, *ret_term + 1);
	put(l, g, WAL_HARDSTATE, 0, *ret_term + 1);
	flush(l);
	assert_int_equal(wal_forget(l->w, g), 0);
}

/* Opened again and again, in this segment and the next, it is what it was accepted as. */
static void accepted_for_good(struct lab *l, uint32_t g)
{
	uint64_t term, index;

	assert_true(is_stopped(l, g));
	assert_int_equal(wal_forget(l->w, g), -EBUSY);
	accept(l, g, &term, &index);
	must_be(l, g, term + 1, index + 10, index + 10);
	put1(l, g, WAL_ENTRY, index + 11, term + 1);
	for (unsigned k = 0; k < 3; k++) {
		reopen(l);
		must_be(l, g, term + 1, index + 10, index + 11 + k);
		put1(l, g, WAL_ENTRY, index + 12 + k, term + 1);
		if (k == 1)
			next_segment(l);
	}
}

/* Also where what follows the loss contradicts what came before it: the RESET is behind all that. */
static void an_accepted_loss_stays_accepted(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 4; kind++) {
		struct lab l = begin();
		entries(&l, 2, 3);
		unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
		if (kind == 1) {
			put1(&l, 2, WAL_MARK, 4, 1);
			i = put1(&l, 2, WAL_DROP, 0, 0);
			entries(&l, 2, 1);
		}
		if (kind == 3)
			put1(&l, 2, WAL_ENTRY, 5, 1);
		put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
		if (kind == 2 || kind == 3)
			hurt(&l, i);
		else
			lose(&l, i);
		reopen(&l);
		if (kind == 3) {
			/* The record that renews the group is the first of a segment. */
			uint32_t seq = wal_cur(l.w)->seq;
			while (wal_cur(l.w)->size - wal_cur(l.w)->end >= WAL_BLOCK)
				put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
			assert_int_equal(wal_cur(l.w)->seq, seq);
		}
		accepted_for_good(&l, 2);
		end(&l);
	}
}

/* Whatever was seen of the group, believed or not, is below where it goes on: also if this very open stops it. */
static void it_goes_on_beyond_all_that_was_seen(void **state)
{
	(void)state;
	for (unsigned twice = 0; twice < 2; twice++) {
		struct lab l = begin();
		uint64_t term, index;
		entries(&l, 2, 20);
		unsigned i = put1(&l, 2, WAL_HARDSTATE, 0, 9);
		put1(&l, 2, WAL_ENTRY, 21, 9);
		put1(&l, 2, WAL_TRUNCATE, 5, 0);
		put1(&l, 2, WAL_ENTRY, 5, 8);
		lose(&l, i);
		reopen(&l);
		if (twice)
			reopen(&l);
		assert_true(is_stopped(&l, 2));
		assert_int_equal(wal_lift(l.w, 2, &term, &index), 0);
		assert_true(term >= 9);
		assert_true(index >= 21);
		end(&l);
	}
}

/* Also what a mark alone tells of, behind records that do not follow. */
static void it_goes_on_beyond_what_a_mark_told(void **state)
{
	(void)state;
	for (unsigned twice = 0; twice < 2; twice++) {
		struct lab l = begin();
		uint64_t term, index;
		entries(&l, 2, 20);
		put1(&l, 2, WAL_MARK, 20, 1);
		put(&l, 2, WAL_RESET, 5, 1);
		put(&l, 2, WAL_ENTRY, 6, 2);
		unsigned i = flush(&l);
		put1(&l, 2, WAL_ENTRY, 7, 2);
		for (uint64_t k = 8; k <= 30; k++)
			put(&l, 2, WAL_ENTRY, k, 2);
		unsigned j = flush(&l);
		put1(&l, 2, WAL_MARK, 7, 2);
		lose(&l, i);
		lose(&l, j);
		reopen(&l);
		if (twice)
			reopen(&l);
		assert_true(is_stopped(&l, 2));
		assert_int_equal(wal_lift(l.w, 2, &term, &index), 0);
		assert_int_equal(index, 30);
		end(&l);
	}
}

/* A verdict that another caller's options led to does not let a group that is vital here be missing. */
static void a_vital_group_with_a_verdict_is_refused(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	struct wal_opts all = small;
	struct lab l = begin();
	unsigned i = put1(&l, VITAL, WAL_HARDSTATE, 0, 5);
	entries(&l, 2, 3);
	lose(&l, i);
	wal_close(l.w);
	all.stop_first = VITAL;
	assert_int_equal(wal_open(l.d, DIR_NAME, &all, &l.w, NULL), 0);
	assert_true(is_stopped(&l, VITAL));
	assert_false(is_stopped(&l, 2));
	put1(&l, 2, WAL_ENTRY, 4, 1);
	wal_close(l.w);
	l.w = NULL;
	struct disk *was = fakedisk_clone(l.d);
	assert_int_equal(wal_open(l.d, DIR_NAME, &small, &l.w, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "suspect: 1"));
	assert_true(fakedisk_same(was, l.d));
	fakedisk_free(was);
	/* Accepted, all goes on. */
	uint64_t term, index;
	assert_int_equal(wal_open(l.d, DIR_NAME, &all, &l.w, NULL), 0);
	accept(&l, VITAL, &term, &index);
	reopen(&l);
	must_be(&l, VITAL, term + 1, index + 10, index + 10);
	must_be(&l, 2, 1, 0, 4);
	end(&l);
}

/* --- manifests ------------------------------------------------------------------------------ */
/* A mark that a table says again is not the one before it because it has its index. */
static void a_lost_manifest_is_not_taken_for_an_older_one(void **state)
{
	(void)state;
	for (unsigned later = 0; later < 2; later++) {
		struct lab l = begin();
		entries(&l, 2, 3);
		put1(&l, 2, WAL_MARK, 3, 1);
		unsigned i = put1(&l, 2, WAL_RESET, 3, 2);
		next_segment(&l);
		if (later)
			put1(&l, 2, WAL_MARK, 3, 2);
		lose(&l, i);
		reopen(&l);
		assert_int_equal(is_stopped(&l, 2), !later);
		end(&l);
	}
}

/* --- evidence ---------------------------------------------------------------------------------- */
/* What a group had before the damage, and what the open itself cuts off, is kept too. */
static void evidence_reaches_back_to_what_was_there(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 3; kind++) {
		struct lab l = begin();
		size_t size;
		entries(&l, 2, 10);
		next_segment(&l);
		put(&l, 2, WAL_ENTRY, 11, 1);
		put(&l, 2, WAL_ENTRY, 12, 1);
		unsigned i = flush(&l);
		assert_int_equal(l.seq[i], 2);
		if (kind == 0)
			put1(&l, 2, WAL_ENTRY, 13, 1);
		next_segment(&l);
		put1(&l, 2, WAL_ENTRY, kind == 0 ? 14 : 13, 1);
		if (kind == 2)
			hurt(&l, i);
		else
			lose(&l, i);
		reopen(&l);
		assert_true(is_stopped(&l, 2));
		for (uint32_t seq = 1; seq <= 3; seq++)
			assert_non_null(file(l.d, seq, "damaged", &size));
		end(&l);
	}
}

static bool same_file(struct disk *a, struct disk *b, const char *x, const char *y)
{
	size_t n, m;
	const uint8_t *p = fakedisk_bytes(a, x, &n), *q = fakedisk_bytes(b, y, &m);

	assert_non_null(p);
	assert_non_null(q);
	return n == m && memcmp(p, q, n) == 0;
}

/* Damage that comes later does not reach the copies that were made before it. */
static void evidence_is_not_written_over(void **state)
{
	(void)state;
	static const char seg[] = DIR_NAME "/0000000001.wal",
			  one[] = DIR_NAME "/0000000001.damaged",
			  two[] = DIR_NAME "/0000000001.damaged-2",
			  three[] = DIR_NAME "/0000000001.damaged-3";
	struct lab l = begin();
	size_t size;
	entries(&l, 2, 3);
	unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
	put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
	unsigned k = put1(&l, 3, WAL_ENTRY, 1, 1);
	put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
	lose(&l, i);
	struct disk *was = fakedisk_clone(l.d);
	reopen(&l);
	assert_true(is_stopped(&l, 2));
	assert_true(same_file(was, l.d, seg, one));
	/* What is left of group 2 is hurt as well. */
	hurt(&l, i - 1);
	lose(&l, k);
	struct disk *worse = fakedisk_clone(l.d);
	reopen(&l);
	assert_true(is_stopped(&l, 2));
	assert_true(is_stopped(&l, 3));
	assert_true(same_file(was, l.d, seg, one));
	assert_true(same_file(worse, l.d, seg, two));
	/* The same once more is not kept twice. */
	assert_int_equal(l.d->ops->unlink(l.d, DIR_NAME "/stopped-0000000003"), 0);
	reopen(&l);
	assert_true(is_stopped(&l, 3));
	assert_true(same_file(was, l.d, seg, one));
	assert_true(same_file(worse, l.d, seg, two));
	assert_null(fakedisk_bytes(l.d, three, &size));
	fakedisk_free(was);
	fakedisk_free(worse);
	end(&l);
}

/* The reason is the damage that matters, not one that marks have settled since. */
static void the_reason_is_not_a_settled_one(void **state)
{
	(void)state;
	char where[32];
	struct lab l = begin();
	entries(&l, 2, 3);
	unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
	put1(&l, 2, WAL_ENTRY, 5, 1);
	put1(&l, 2, WAL_MARK, 5, 1);
	put1(&l, 2, WAL_HARDSTATE, 0, 1);
	unsigned k = put1(&l, 2, WAL_ENTRY, 6, 1);
	put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
	lose(&l, i);
	reopen(&l);
	must_be(&l, 2, 1, 5, 6);
	lose(&l, k);
	reopen(&l);
	assert_true(is_stopped(&l, 2));
	(void)snprintf(where, sizeof where, "offset %u:", (unsigned)l.start[k]);
	assert_non_null(strstr(wal_stopped(l.w, 2), where));
	end(&l);
}

/* --- files cut short --------------------------------------------------------------------------- */
/* Wherever the last segment ends, nothing behind its end is looked at. */
static void a_file_that_ends_inside_a_block_is_read_up_to_there(void **state)
{
	(void)state;
	static uint8_t all[WAL_SEG_MIN + 4 * WAL_BLOCK];
	struct lab l = begin();
	size_t size;
	entries(&l, 2, 3);
	uint8_t *p = file(l.d, 1, "wal", &size);
	assert_int_equal(size, sizeof all);
	memcpy(all, p, size);
	for (size_t cut = 1; cut < WAL_BLOCK; cut += cut < 80 ? 1 : 500) {
		struct lab k = {.d = fakedisk_new()};
		assert_non_null(k.d);
		assert_int_equal(fakedisk_put(k.d, DIR_NAME "/0000000001.wal", all,
					 WAL_HDR_BYTES + 2 * WAL_BLOCK + cut),
			0);
		k.w = must_open(k.d);
		must_be(&k, 2, 1, 0, 3);
		end(&k);
	}
	end(&l);
}

/* --- disks that fail --------------------------------------------------------------------------- */
/* A block that cannot be read is as good as lost: it stops whom it concerns, and the copy has zeros there.  At the
 * end of the log nobody can say whether anything was there. */
static void a_block_that_cannot_be_read_is_lost(void **state)
{
	(void)state;
	for (unsigned last = 0; last < 2; last++) {
		struct lab l = begin();
		char name[32];
		size_t size, n;
		struct wal *w = NULL;
		struct vx_err err = VX_ERR_INIT;
		entries(&l, 2, 3);
		unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
		unsigned k = put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
		if (!last)
			next_segment(&l);
		struct disk *d = faultdisk(l.d);
		(void)snprintf(name, sizeof name, "%010u.wal", l.seq[i]);
		wal_close(l.w);
		l.w = NULL;
		if (last) {
			faultdisk_bad(name, l.start[k] + WAL_BLOCK - 1);
			assert_int_equal(wal_open(d, DIR_NAME, &small, &w, &err), -EIO);
			assert_non_null(strstr(err.msg, "cannot be read"));
			/* Without its header nobody knows what a segment had, or where the log ends. */
			faultdisk_bad(name, 0);
			assert_int_equal(wal_open(d, DIR_NAME, &small, &w, &err), -EUCLEAN);
		}
		faultdisk_bad(name, l.start[i] + 8);
		assert_int_equal(wal_open(d, DIR_NAME, &small, &w, &err), 0);
		wal_close(w);
		faultdisk_bad(NULL, 0);
		l.w = must_open(l.d);
		assert_true(is_stopped(&l, 2));
		must_be(&l, VITAL, 1, 0, 0);
		uint8_t *p = file(l.d, l.seq[i], "damaged", &size);
		uint8_t *q = file(l.d, l.seq[i], "wal", &n);
		assert_non_null(p);
		assert_int_equal(size, n);
		for (size_t at = 0; at < size; at++) {
			bool bad = at >= l.start[i] && at < l.start[i] + WAL_BLOCK;
			assert_int_equal(p[at], bad ? 0 : q[at]);
		}
		end(&l);
	}
}

/* A disk that comes back while the open waits has lost nothing; one that comes back later has been found wanting. */
static void a_disk_is_given_time(void **state)
{
	(void)state;
	for (unsigned fails = 1; fails <= 5; fails++) {
		struct lab l = begin();
		char name[32];
		entries(&l, 2, 3);
		unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
		put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
		next_segment(&l);
		struct disk *d = faultdisk(l.d);
		(void)snprintf(name, sizeof name, "%010u.wal", l.seq[i]);
		wal_close(l.w);
		faultdisk_bad(name, l.start[i] + 8);
		faultdisk_heals(fails);
		l.w = NULL;
		assert_int_equal(wal_open(d, DIR_NAME, &small, &l.w, NULL), 0);
		/* As one, block by block, and after three waits. */
		assert_int_equal(is_stopped(&l, 2), fails == 5);
		if (fails < 5)
			must_be(&l, 2, 1, 0, 4);
		wal_close(l.w);
		faultdisk_bad(NULL, 0);
		l.w = must_open(l.d);
		assert_int_equal(is_stopped(&l, 2), fails == 5);
		end(&l);
	}
}

/* Nor is a block asked for again that it gave back once. */
static void a_block_that_was_read_is_not_lost_again(void **state)
{
	(void)state;
	struct lab l = begin();
	size_t size;
	entries(&l, 2, 3);
	unsigned j = l.n, i = put1(&l, 2, WAL_ENTRY, 4, 1);
	next_segment(&l);
	assert_int_equal(l.seq[i], 1);
	assert_non_null(file(l.d, 1, "wal", &size));
	struct disk *d = faultdisk(l.d);
	wal_close(l.w);
	/* The one comes back when the other one is gone. */
	faultdisk_bad("0000000001.wal", l.start[i] + 8);
	faultdisk_heals(4);
	faultdisk_arm(FAULT_PREAD,
		(unsigned)(1 + 3 * (size / WAL_BLOCK) + l.start[j] / WAL_BLOCK + 1), -EIO);
	l.w = NULL;
	assert_int_equal(wal_open(d, DIR_NAME, &small, &l.w, NULL), 0);
	must_be(&l, 2, 1, 0, 4);
	wal_close(l.w);
	l.w = must_open(l.d);
	end(&l);
}

/* Whatever call fails once, reading ones too, while an open stops a group or finds it stopped: the next open says the same. */
static void a_failing_call_changes_no_verdict(void **state)
{
	(void)state;
	static const int errs[] = {-EIO, -EACCES};
	struct lab l = begin();
	unsigned runs = 0, refused = 0;
	entries(&l, 2, 3);
	next_segment(&l);
	unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
	next_segment(&l);
	put1(&l, 3, WAL_ENTRY, 1, 1);
	lose(&l, i);
	for (unsigned judged = 0; judged < 2; judged++) {
		if (judged)
			reopen(&l);
		for (unsigned op = 0; op < FAULT_OPS * VX_ARRAY_SIZE(errs); op++) {
			bool fired = true;
			for (unsigned n = 1; fired; n++) {
				struct lab k = {.d = fakedisk_clone(l.d)};
				struct vx_err err = VX_ERR_INIT;
				assert_non_null(k.d);
				struct disk *d = faultdisk(k.d);
				faultdisk_arm((enum fault_op)(op / VX_ARRAY_SIZE(errs)), n,
					errs[op % VX_ARRAY_SIZE(errs)]);
				int rc = wal_open(d, DIR_NAME, &small, &k.w, &err);
				fired = faultdisk_fired();
				faultdisk_arm(FAULT_OPS, 0, 0);
				assert_true(rc == 0 || fired);
				assert_int_equal(rc != 0, err.msg[0] != 0);
				wal_close(k.w);
				assert_int_equal(fakedisk_open_handles(k.d), 0);
				k.w = must_open(k.d);
				assert_true(is_stopped(&k, 2));
				must_be(&k, 3, 0, 0, 1);
				must_be(&k, VITAL, 1, 0, 0);
				end(&k);
				runs++;
				refused += rc != 0;
			}
		}
	}
	print_message("%u runs, %u refused\n", runs, refused);
	assert_true(refused > 20 && refused < runs);
	end(&l);
}

/* --- files ------------------------------------------------------------------------------------- */
/* A verdict counts by its name, whatever is in it; other names do not. */
static void what_the_log_makes_is_its_own(void **state)
{
	(void)state;
	static const char *const ours[] = {"0000000001.wal", "spare-0000000002.seg",
		"spare-0000000002.tmp", "stopped-0000000003", "stopped-0000000003.tmp",
		"0000000001.damaged", "0000000001.damaged.tmp", "0000000001.damaged-2"};
	static const char *const others[] = {"", "1.wal", "0000000001.wal.old", "00000000012.wal",
		"spare-0000000002", "stopped-3", "stopped-0000000003.old", "0000000001.damaged-",
		"0000000001.damaged2", "notes"};

	for (size_t i = 0; i < VX_ARRAY_SIZE(ours); i++)
		assert_true(wal_is_name(ours[i]));
	for (size_t i = 0; i < VX_ARRAY_SIZE(others); i++)
		assert_false(wal_is_name(others[i]));
}

static void a_verdict_is_a_name(void **state)
{
	(void)state;
	static const struct {
		const char *name, *text, *why;
	} v[] = {
		{"stopped-0000000002", "", "cannot be read"},
		{"stopped-0000000002", "one\nand more\n", "one"},
		{"stopped-0000000002", "a\tb\xff", "a?b?"},
		{"stopped-", "x", NULL},
		{"stopped-2", "x", NULL},
		{"stopped-x", "x", NULL},
		{"stopped-0000000002.tmp", "x", NULL},
		{"stopped-00000000002", "x", NULL},
		{"stopped-99999999999", "x", NULL},
		{"stopped-99999999999999999999999", "x", NULL},
	};
	for (unsigned i = 0; i < VX_ARRAY_SIZE(v); i++) {
		struct lab l = begin();
		char path[64];
		uint64_t term, index;
		entries(&l, 2, 3);
		(void)snprintf(path, sizeof path, DIR_NAME "/%s", v[i].name);
		assert_int_equal(fakedisk_put(l.d, path, v[i].text, strlen(v[i].text)), 0);
		reopen(&l);
		assert_int_equal(is_stopped(&l, 2), v[i].why != NULL);
		if (v[i].why) {
			assert_non_null(strstr(wal_stopped(l.w, 2), v[i].why));
			assert_int_equal(wal_lift(l.w, 2, &term, &index), 0);
			assert_int_equal(term, 1);
			assert_int_equal(index, 3);
		} else {
			assert_int_equal(wal_lift(l.w, 2, &term, &index), -ENOENT);
		}
		assert_int_equal(wal_lift(l.w, 77, &term, &index), -ENOENT);
		assert_int_equal(wal_forget(l.w, 77), -EBUSY);
		/* That the file is gone by now is as good. */
		assert_int_equal(l.d->ops->unlink(l.d, path), 0);
		assert_int_equal(wal_forget(l.w, 2), 0);
		end(&l);
	}
}

/* It outlives the log itself. */
static void a_verdict_outlives_the_log(void **state)
{
	(void)state;
	for (uint32_t g = VITAL; g <= 2; g++) {
		struct vx_err err = VX_ERR_INIT;
		struct lab l = {.d = fakedisk_new()};
		char path[64];
		assert_non_null(l.d);
		(void)snprintf(path, sizeof path, DIR_NAME "/stopped-%010u", g);
		assert_int_equal(fakedisk_put(l.d, path, "x", 1), 0);
		if (g == VITAL) {
			assert_int_equal(wal_open(l.d, DIR_NAME, &small, &l.w, &err), -EUCLEAN);
			assert_non_null(strstr(err.msg, "suspect: 1"));
			assert_int_equal(fakedisk_used(l.d), 1);
		} else {
			l.w = must_open(l.d);
			assert_true(is_stopped(&l, g));
			put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
			reopen(&l);
			assert_true(is_stopped(&l, g));
		}
		end(&l);
	}
}

/* An operator who never takes copies away is asked to, before anything else is given up. */
static void too_many_copies_are_refused(void **state)
{
	(void)state;
	struct lab l = begin();
	struct vx_err err = VX_ERR_INIT;
	char path[64] = DIR_NAME "/0000000001.damaged";
	size_t len = strlen(path);
	entries(&l, 2, 3);
	unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
	put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
	lose(&l, i);
	for (unsigned n = 2; n <= 100; n++) {
		assert_int_equal(fakedisk_put(l.d, path, "x", 1), 0);
		(void)snprintf(path + len, sizeof path - len, "-%u", n);
	}
	wal_close(l.w);
	l.w = NULL;
	assert_int_equal(wal_open(l.d, DIR_NAME, &small, &l.w, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "cannot be copied"));
	assert_int_equal(l.d->ops->unlink(l.d, DIR_NAME "/0000000001.damaged-50"), 0);
	l.w = must_open(l.d);
	assert_true(is_stopped(&l, 2));
	end(&l);
}

/* A flush that stands in the place of the next one, and is hurt in its own: who was in the next one is not known. */
static void a_flush_in_the_place_of_another_is_a_loss(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	struct lab l = begin();
	size_t size;
	entries(&l, 2, 3);
	unsigned i = put1(&l, 2, WAL_ENTRY, 4, 1);
	put1(&l, 3, WAL_ENTRY, 1, 1);
	put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
	uint8_t *p = file(l.d, 1, "wal", &size);
	memcpy(p + l.start[i + 1], p + l.start[i], WAL_BLOCK);
	p[l.start[i] + WAL_FRAME_HDR] ^= 1;
	wal_close(l.w);
	l.w = NULL;
	assert_int_equal(wal_open(l.d, DIR_NAME, &small, &l.w, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "suspect"));
	end(&l);
}

/* Segments that are missing are a loss of anything; a number far off is no log of ours. */
static void a_hole_is_a_loss(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	struct lab l = begin();
	size_t size;
	entries(&l, 2, 3);
	next_segment(&l);
	next_segment(&l);
	put1(&l, 2, WAL_MARK, 3, 1);
	wal_close(l.w);
	l.w = NULL;
	assert_int_equal(l.d->ops->unlink(l.d, DIR_NAME "/0000000002.wal"), 0);
	/* The table behind it says that nothing of group 2 was in it but what is marked by now. */
	l.w = must_open(l.d);
	must_be(&l, 2, 1, 3, 3);
	wal_close(l.w);
	l.w = NULL;
	uint8_t *p = file(l.d, 3, "wal", &size);
	assert_int_equal(fakedisk_put(l.d, DIR_NAME "/0000002000.wal", p, size), 0);
	assert_int_equal(wal_open(l.d, DIR_NAME, &small, &l.w, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "is missing"));
	end(&l);
}

/* The data of a vote have no meaning, and so their damage has none. */
static void data_that_mean_nothing_stop_nobody(void **state)
{
	(void)state;
	struct lab l = begin();
	struct wal_rec vote = {.group = 2,
		.type = WAL_HARDSTATE,
		.term = 4,
		.vote = 2,
		.data = "12345678",
		.len = 8};
	entries(&l, 2, 3);
	assert_int_equal(wal_stage(l.w, &vote), 0);
	unsigned i = flush(&l);
	put1(&l, VITAL, WAL_HARDSTATE, 0, 1);
	hurt(&l, i);
	reopen(&l);
	must_be(&l, 2, 4, 0, 3);
	end(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reset_does_not_bring_back_a_vote),
		cmocka_unit_test(a_table_or_a_mark_brings_back_a_vote),
		cmocka_unit_test(what_goes_on_does_so_after_recycling),
		cmocka_unit_test(what_was_truncated_after_a_loss_is_not_asked_for),
		cmocka_unit_test(a_group_may_be_born_under_the_bit_of_another),
		cmocka_unit_test(twins_are_both_stopped_whenever_the_open_is_killed),
		cmocka_unit_test(a_dropped_group_is_not_stopped),
		cmocka_unit_test(nothing_goes_on_without_a_vital_group),
		cmocka_unit_test(an_accepted_loss_stays_accepted),
		cmocka_unit_test(it_goes_on_beyond_all_that_was_seen),
		cmocka_unit_test(it_goes_on_beyond_what_a_mark_told),
		cmocka_unit_test(a_vital_group_with_a_verdict_is_refused),
		cmocka_unit_test(a_lost_manifest_is_not_taken_for_an_older_one),
		cmocka_unit_test(evidence_reaches_back_to_what_was_there),
		cmocka_unit_test(evidence_is_not_written_over),
		cmocka_unit_test(the_reason_is_not_a_settled_one),
		cmocka_unit_test(a_file_that_ends_inside_a_block_is_read_up_to_there),
		cmocka_unit_test(a_block_that_cannot_be_read_is_lost),
		cmocka_unit_test(a_disk_is_given_time),
		cmocka_unit_test(a_block_that_was_read_is_not_lost_again),
		cmocka_unit_test(a_failing_call_changes_no_verdict),
		cmocka_unit_test(what_the_log_makes_is_its_own),
		cmocka_unit_test(a_verdict_is_a_name),
		cmocka_unit_test(a_verdict_outlives_the_log),
		cmocka_unit_test(too_many_copies_are_refused),
		cmocka_unit_test(a_flush_in_the_place_of_another_is_a_loss),
		cmocka_unit_test(a_hole_is_a_loss),
		cmocka_unit_test(data_that_mean_nothing_stop_nobody),
	};

	(void)!log_configure("off");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
