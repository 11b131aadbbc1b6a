/* The log as its callers see it: what is flushed comes back, segments come and go, limits
 * answer, a full disk is no error of the log. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fakedisk.h"
#include "model.h"
#include "wal/wal_i.h"

static uint64_t seed0;

static int setup(void **state)
{
	const char *s = getenv("SEED");

	(void)state;
	seed0 = s ? strtoull(s, NULL, 0) : 0xbeef;
	print_message("SEED=%llu\n", (unsigned long long)seed0);
	return 0;
}

static const struct wal_opts small = {
	.segment_size_bytes = WAL_SEG_MIN + 8 * WAL_BLOCK, .spare_segments = 1, .node_id = 1};

static struct wal *must_open(struct disk *d)
{
	return log_must_open(d, "wal", &small);
}

static struct disk *must_disk(void)
{
	struct disk *d = fakedisk_new();

	assert_non_null(d);
	return d;
}

static void must_hold(struct wal *w, const struct model *m)
{
	struct vx_err err = VX_ERR_INIT;
	struct loaded l;
	int rc = model_load(w, &l, &err);

	if (rc)
		fail_msg("wal_group_load: %s", vx_err_msg(&err, rc));
	const char *why = model_differs(m, &l);
	if (why)
		fail_msg("the log differs from the model: %s", why);
	loaded_release(&l);
}

static void must_stage(struct wal *w, const struct wal_rec *r)
{
	int rc = wal_stage(w, r);

	if (rc)
		fail_msg("wal_stage: %s", strerror(-rc));
}

static int count_group(void *arg, uint32_t group)
{
	uint64_t *sum = arg;

	*sum += group;
	return 0;
}

/* --- what goes in comes out --------------------------------------------------------- */
static void every_record_type_round_trips(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = must_open(d);
	struct vx_err err = VX_ERR_INIT;
	struct wal_group_state st;
	const struct wal_rec script[] = {
		{.group = 9, .type = WAL_HARDSTATE, .term = 4, .vote = 77},
		{.group = 9,
			.type = WAL_ENTRY,
			.etype = 3,
			.index = 1,
			.term = 1,
			.data = "conf",
			.len = 4},
		{.group = 9,
			.type = WAL_ENTRY,
			.etype = 1,
			.index = 2,
			.term = 2,
			.data = "",
			.len = 0},
		{.group = 9,
			.type = WAL_ENTRY,
			.etype = 1,
			.index = 3,
			.term = 2,
			.data = "gone",
			.len = 4},
		{.group = 9, .type = WAL_TRUNCATE, .index = 3},
		{.group = 9,
			.type = WAL_ENTRY,
			.etype = 2,
			.index = 3,
			.term = 4,
			.data = "kept",
			.len = 4},
		{.group = 9, .type = WAL_MARK, .index = 1, .term = 1, .data = "manifest", .len = 8},
		{.group = 10, .type = WAL_ENTRY, .index = 1, .term = 1, .data = "x", .len = 1},
		{.group = 10, .type = WAL_RESET, .index = 500, .term = 6, .data = "new", .len = 3},
		{.group = 10, .type = WAL_ENTRY, .index = 501, .term = 6, .data = "y", .len = 1},
		{.group = 0, .type = WAL_ENTRY, .index = 1, .term = 1, .data = "z", .len = 1},
		{.group = 0, .type = WAL_DROP},
		{.group = UINT32_MAX, .type = WAL_MARK, .index = 0, .term = 0},
	};

	for (size_t i = 0; i < VX_ARRAY_SIZE(script); i++)
		must_stage(w, &script[i]);
	assert_int_equal(wal_flush(w), 0);
	assert_int_equal(wal_staged(w), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(wal_group_load(w, 9, &st, &err), 0);
		assert_true(st.exists);
		assert_int_equal(st.term, 4);
		assert_int_equal(st.vote, 77);
		assert_int_equal(st.mark_index, 1);
		assert_int_equal(st.mark_term, 1);
		assert_int_equal(st.manifest_len, 8);
		assert_memory_equal(st.manifest, "manifest", 8);
		assert_int_equal(st.n_entries, 2);
		assert_int_equal(st.entries[0].index, 2);
		assert_int_equal(st.entries[0].len, 0);
		assert_int_equal(st.entries[1].index, 3);
		assert_int_equal(st.entries[1].term, 4);
		assert_int_equal(st.entries[1].etype, 2);
		assert_memory_equal(st.entries[1].data, "kept", 4);
		wal_group_state_release(&st);

		assert_int_equal(wal_group_load(w, 10, &st, &err), 0);
		assert_int_equal(st.mark_index, 500);
		assert_int_equal(st.mark_term, 6);
		assert_memory_equal(st.manifest, "new", 3);
		assert_int_equal(st.n_entries, 1);
		assert_int_equal(st.entries[0].index, 501);
		wal_group_state_release(&st);

		assert_int_equal(wal_group_load(w, 0, &st, &err), 0);
		assert_false(st.exists);
		assert_int_equal(wal_group_load(w, 11, &st, &err), 0);
		assert_false(st.exists);
		uint64_t sum = 0;
		assert_int_equal(wal_groups(w, count_group, &sum), 0);
		assert_int_equal(sum, 9 + 10 + (uint64_t)UINT32_MAX);
		wal_close(w);
		w = must_open(d);
	}
	wal_close(w);
	fakedisk_free(d);
}

/* Reopened after every flush, over many segments, the log says what it was told. */
static void reopen_after_every_flush_agrees(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct model m = {0};
	uint64_t rng = seed0;
	uint32_t last_seq = 0;

	for (int i = 0; i < 400; i++) {
		struct wal *w = must_open(d);
		must_hold(w, &m);
		for (unsigned n = 1 + (unsigned)(model_rng(&rng) % 5); n; n--) {
			struct model_rec r = model_random(&m, &rng, 900);
			assert_int_equal(model_stage(w, &r), 0);
			model_apply(&m, &r);
		}
		assert_int_equal(wal_flush(w), 0);
		if (i % 7 == 0)
			assert_int_equal(wal_upkeep(w), 0);
		must_hold(w, &m);
		last_seq = wal_cur(w)->seq;
		wal_close(w);
		assert_int_equal(fakedisk_open_handles(d), 0);
	}
	assert_true(last_seq > 10);
	model_release(&m);
	fakedisk_free(d);
}

/* What is staged but not flushed is not there; what is discarded has never been. */
static void staged_records_are_nothing_yet(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = must_open(d);
	struct model m = {0}, ahead = {0};
	uint64_t rng = seed0;

	for (int i = 0; i < 200; i++) {
		model_copy(&ahead, &m);
		for (int n = 0; n < 4; n++) {
			struct model_rec r = model_random(&ahead, &rng, 200);
			assert_int_equal(model_stage(w, &r), 0);
			model_apply(&ahead, &r);
		}
		must_hold(w, &m);
		if (model_rng(&rng) % 2) {
			wal_discard(w);
			assert_int_equal(wal_staged(w), 0);
		} else {
			assert_int_equal(wal_flush(w), 0);
			model_copy(&m, &ahead);
		}
		assert_int_equal(wal_upkeep(w), 0);
	}
	wal_close(w);
	w = must_open(d);
	must_hold(w, &m);
	wal_close(w);
	model_release(&m);
	model_release(&ahead);
	fakedisk_free(d);
}

/* A flush much longer than a segment, and a record nearly as long as one. */
static void long_flushes_span_segments(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = must_open(d);
	struct model m = {0};
	size_t room = small.segment_size_bytes - WAL_HDR_BYTES;
	size_t longest = room - WAL_FRAME_HDR - WAL_REC_HDR;

	for (unsigned i = 1; i <= 300; i++) {
		struct model_rec r = {.rec = {.group = 1 + i % 3,
					      .type = WAL_ENTRY,
					      .index = m.g[i % 3].n + 1,
					      .term = 1,
					      .len = i % 50 ? 700 : longest},
			.seed = i};
		assert_int_equal(model_stage(w, &r), 0);
		model_apply(&m, &r);
	}
	assert_int_equal(wal_flush(w), 0);
	assert_true(w->n_segs > 8);
	must_hold(w, &m);
	struct wal_rec big = {.group = 1, .type = WAL_MARK, .index = 1, .len = longest + 1};
	assert_int_equal(wal_stage(w, &big), -EMSGSIZE);
	big.len = VX_ENTRY_BYTES_MAX + (size_t)1;
	assert_int_equal(wal_check(w, &big), -EMSGSIZE);
	wal_close(w);
	fakedisk_crash(d, seed0);
	w = must_open(d);
	must_hold(w, &m);
	wal_close(w);
	model_release(&m);
	fakedisk_free(d);
}

/* --- recycling ------------------------------------------------------------------------ */
static void write_entries(struct wal *w, uint32_t group, uint64_t *next, unsigned n, bool mark)
{
	uint8_t data[600];

	memset(data, (int)group, sizeof data);
	while (n--) {
		must_stage(w, &(struct wal_rec){.group = group,
				      .type = WAL_ENTRY,
				      .index = (*next)++,
				      .term = 3,
				      .data = data,
				      .len = sizeof data});
		assert_int_equal(wal_flush(w), 0);
	}
	if (mark) {
		must_stage(w,
			&(struct wal_rec){
				.group = group, .type = WAL_MARK, .index = *next - 1, .term = 3});
		assert_int_equal(wal_flush(w), 0);
	}
}

/* Groups that never write again keep term, vote, mark and manifest while the segments that
 * held them are used again and again by another. */
static void idle_groups_survive_recycling(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = must_open(d);
	uint64_t next = 1;

	for (uint32_t g = 1; g <= 40; g++) {
		char manifest[32];
		int len = snprintf(manifest, sizeof manifest, "manifest of %u", g);
		must_stage(w, &(struct wal_rec){
				      .group = g, .type = WAL_HARDSTATE, .term = g, .vote = g + 1});
		if (g % 2)
			must_stage(w, &(struct wal_rec){.group = g,
					      .type = WAL_MARK,
					      .index = g * 10,
					      .term = g,
					      .data = manifest,
					      .len = (size_t)len});
	}
	assert_int_equal(wal_flush(w), 0);
	for (int round = 0; round < 60; round++) {
		write_entries(w, 99, &next, 12, true);
		assert_int_equal(wal_upkeep(w), 0);
		struct wal_stats st;
		wal_stat(w, &st);
		assert_true(st.segments <= 3);
		if (round % 10 == 9) {
			wal_close(w);
			fakedisk_crash(d, (uint64_t)round);
			w = must_open(d);
		}
	}
	assert_true(w->segs[0].seq > 20);
	for (uint32_t g = 1; g <= 40; g++) {
		struct wal_group_state st;
		char manifest[32];
		(void)snprintf(manifest, sizeof manifest, "manifest of %u", g);
		assert_int_equal(wal_group_load(w, g, &st, NULL), 0);
		assert_true(st.exists);
		assert_int_equal(st.term, g);
		assert_int_equal(st.vote, g + 1);
		assert_int_equal(st.mark_index, g % 2 ? g * 10 : 0);
		assert_int_equal(st.manifest_len, g % 2 ? strlen(manifest) : 0);
		if (g % 2)
			assert_memory_equal(st.manifest, manifest, st.manifest_len);
		wal_group_state_release(&st);
	}
	wal_close(w);
	fakedisk_free(d);
}

/* A group that is never marked holds the log back, and wal_pinned says so. */
static void the_group_that_pins_most_is_named(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = must_open(d);
	uint64_t a = 1, b = 1;
	uint32_t group = 0;
	struct wal_stats st;

	assert_int_equal(wal_pinned(w, &group), 0);
	write_entries(w, 5, &a, 1, false);
	for (int i = 0; i < 5; i++) {
		write_entries(w, 6, &b, 10, true);
		assert_int_equal(wal_upkeep(w), 0);
	}
	assert_int_equal(w->segs[0].seq, 1);
	uint64_t pinned = wal_pinned(w, &group);
	assert_int_equal(group, 5);
	assert_true(pinned >= 51 * WAL_BLOCK);
	wal_stat(w, &st);
	assert_int_equal(st.pin_group, 5);
	assert_int_equal(st.pinned_bytes, pinned);
	write_entries(w, 5, &a, 0, true);
	assert_int_equal(wal_upkeep(w), 0);
	assert_int_equal(wal_pinned(w, &group), 0);
	assert_int_equal(w->n_segs, 1);
	wal_close(w);
	fakedisk_free(d);
}

/* Upkeep in small pieces ends, and leaves what one big piece leaves. */
static void upkeep_in_pieces_ends(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal_opts o = small;
	struct wal_stats st;
	uint64_t next = 1;
	bool more = true;
	unsigned steps = 0;

	o.spare_segments = 3;
	struct wal *w = log_must_open(d, "wal", &o);
	write_entries(w, 1, &next, 30, true);
	for (; more; steps++)
		assert_int_equal(wal_upkeep_step(w, WAL_BLOCK, &more), 0);
	wal_stat(w, &st);
	assert_int_equal(st.spares, 3);
	assert_int_equal(st.segments, 1);
	assert_int_equal(st.size_bytes, 4 * o.segment_size_bytes);
	assert_true(steps >= 3);
	wal_close(w);
	w = log_must_open(d, "wal", &o);
	wal_stat(w, &st);
	assert_int_equal(st.spares, 3);
	wal_close(w);
	fakedisk_free(d);
}

/* --- limits ----------------------------------------------------------------------------- */
static void bad_records_are_refused(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = must_open(d);
	uint64_t next = 1;

	write_entries(w, 1, &next, 5, true);
	struct wal_rec r = {.group = 1, .type = WAL_MARK, .index = 4};
	assert_int_equal(wal_stage(w, &r), -EINVAL);
	r = (struct wal_rec){.group = 1, .type = WAL_TRUNCATE, .index = 5};
	assert_int_equal(wal_stage(w, &r), -EINVAL);
	r = (struct wal_rec){.group = 1, .type = WAL_ENTRY, .index = 8};
	assert_int_equal(wal_check(w, &r), -EINVAL);
	r.index = 6;
	assert_int_equal(wal_check(w, &r), 0);
	r.type = 0;
	assert_int_equal(wal_stage(w, &r), -EINVAL);
	r.type = WAL_DROP + 1;
	assert_int_equal(wal_stage(w, &r), -EINVAL);
	assert_int_equal(wal_staged(w), 0);
	wal_close(w);
	fakedisk_free(d);
}

static void too_many_groups_are_refused(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = must_open(d);
	struct wal_rec r = {.type = WAL_HARDSTATE, .term = 1};

	for (r.group = 1; r.group <= WAL_GROUPS_MAX; r.group++)
		must_stage(w, &r);
	assert_int_equal(wal_stage(w, &r), -EUSERS);
	assert_int_equal(wal_flush(w), 0);
	assert_int_equal(wal_stage(w, &r), -EUSERS);
	must_stage(w, &(struct wal_rec){.group = 3, .type = WAL_DROP});
	must_stage(w, &r);
	assert_int_equal(wal_flush(w), 0);
	/* The whole table fits a header. */
	uint64_t next = 1;
	must_stage(w, &(struct wal_rec){.group = 4, .type = WAL_DROP});
	write_entries(w, 99999, &next, 30, true);
	assert_int_equal(wal_upkeep(w), 0);
	assert_true(w->segs[0].seq > 1);
	wal_close(w);
	w = must_open(d);
	uint64_t sum = 0, want = 99999 + (WAL_GROUPS_MAX + 1);
	assert_int_equal(wal_groups(w, count_group, &sum), 0);
	for (uint64_t g = 1; g <= WAL_GROUPS_MAX; g++)
		want += g == 3 || g == 4 ? 0 : g;
	assert_int_equal(sum, want);
	wal_close(w);
	fakedisk_free(d);
}

static void bad_options_are_refused(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = NULL;
	struct wal_opts o = small;

	o.segment_size_bytes = WAL_SEG_MIN - WAL_BLOCK;
	assert_int_equal(wal_open(d, "wal", &o, &w, NULL), -EINVAL);
	o.segment_size_bytes = WAL_SEG_MIN + 1;
	assert_int_equal(wal_open(d, "wal", &o, &w, NULL), -EINVAL);
	o.segment_size_bytes = (uint64_t)WAL_SEG_MAX + WAL_BLOCK;
	assert_int_equal(wal_open(d, "wal", &o, &w, NULL), -EINVAL);
	o = small;
	o.spare_segments = WAL_SPARES_MAX;
	assert_int_equal(wal_open(d, "wal", &o, &w, NULL), -EINVAL);
	assert_null(w);
	wal_close(NULL);
	fakedisk_free(d);
}

/* Another segment size takes effect with the next segment; the old ones stay readable. */
static void segment_size_may_change(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal *w = must_open(d);
	struct wal_opts o = small;
	uint64_t next = 1;

	write_entries(w, 1, &next, 30, false);
	assert_int_equal(wal_upkeep(w), 0);
	wal_close(w);
	o.segment_size_bytes *= 2;
	for (int i = 0; i < 2; i++) {
		w = log_must_open(d, "wal", &o);
		write_entries(w, 1, &next, 40, false);
		wal_close(w);
		o.segment_size_bytes = WAL_SEG_MIN;
	}
	w = must_open(d);
	struct wal_group_state st;
	assert_int_equal(wal_group_load(w, 1, &st, NULL), 0);
	assert_int_equal(st.n_entries, 110);
	wal_group_state_release(&st);
	wal_close(w);
	fakedisk_free(d);
}

/* --- a full disk -------------------------------------------------------------------------- */
/* No room: the frame stays staged, the log stays whole, marks still go, and they make room. */
static void full_disk_is_survived(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct model m = {0}, ahead = {0};
	unsigned full = 0;

	fakedisk_limit(d, 4 * small.segment_size_bytes + 100);
	struct wal *w = must_open(d);
	for (unsigned i = 0; i < 1500; i++) {
		unsigned g = i % 4;
		struct model_rec r = {.rec = {.group = g + 1,
					      .type = WAL_ENTRY,
					      .index = m.g[g].mark + m.g[g].n + 1,
					      .term = 1,
					      .len = 900},
			.seed = i};
		model_copy(&ahead, &m);
		assert_int_equal(model_stage(w, &r), 0);
		model_apply(&ahead, &r);
		size_t staged = wal_staged(w);
		int rc = wal_flush(w);
		if (rc == 0) {
			model_copy(&m, &ahead);
			continue;
		}
		full++;
		assert_int_equal(rc, -ENOSPC);
		assert_int_equal(wal_staged(w), staged);
		assert_int_equal(wal_flush(w), -ENOSPC);
		must_hold(w, &m);
		if (full % 3 == 0) {
			/* The frame is still good once there is room. */
			fakedisk_limit(d, UINT64_MAX);
			assert_int_equal(wal_flush(w), 0);
			model_copy(&m, &ahead);
			must_hold(w, &m);
		} else {
			wal_discard(w);
		}
		if (full % 5 == 0) {
			wal_close(w);
			fakedisk_crash(d, i);
			w = must_open(d);
			must_hold(w, &m);
		}
		for (g = 0; g < 4; g++) {
			r.rec = (struct wal_rec){.group = g + 1,
				.type = WAL_MARK,
				.index = m.g[g].mark + m.g[g].n,
				.len = 100};
			assert_int_equal(model_stage(w, &r), 0);
			model_apply(&m, &r);
			r.rec = (struct wal_rec){
				.group = g + 1, .type = WAL_HARDSTATE, .term = i, .vote = g};
			assert_int_equal(model_stage(w, &r), 0);
			model_apply(&m, &r);
		}
		assert_int_equal(wal_flush(w), 0);
		rc = wal_upkeep(w);
		assert_true(rc == 0 || rc == -ENOSPC);
		assert_int_equal(w->n_segs, 1);
		fakedisk_limit(d, 4 * small.segment_size_bytes + 100);
		must_hold(w, &m);
	}
	assert_true(full > 10);
	wal_close(w);
	fakedisk_crash(d, 1);
	w = must_open(d);
	must_hold(w, &m);
	wal_close(w);
	model_release(&m);
	model_release(&ahead);
	fakedisk_free(d);
}

/* The disk is full of entries, then of votes; marks still go, and recycling can log again the
 * manifest of an idle group that lies in the oldest segment. */
static void votes_and_entries_leave_room_for_marks(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct wal_rec vote = {.group = 2, .type = WAL_HARDSTATE, .term = 1};
	struct wal_rec idle = {.group = 1, .type = WAL_MARK, .index = 5, .data = "idle", .len = 4};
	uint64_t next = 1;

	fakedisk_limit(d, 4 * small.segment_size_bytes + 100);
	struct wal *w = must_open(d);
	must_stage(w, &idle);
	assert_int_equal(wal_flush(w), 0);
	int rc = 0;
	while (rc == 0) {
		must_stage(w,
			&(struct wal_rec){.group = 2, .type = WAL_ENTRY, .index = next, .term = 1});
		rc = wal_flush(w);
		next += rc == 0;
	}
	assert_int_equal(rc, -ENOSPC);
	wal_discard(w);
	unsigned votes = 0;
	for (rc = 0; rc == 0; votes += rc == 0) {
		vote.vote = votes + 1;
		must_stage(w, &vote);
		rc = wal_flush(w);
	}
	assert_int_equal(rc, -ENOSPC);
	assert_true(votes > 0);
	wal_discard(w);
	must_stage(w, &(struct wal_rec){.group = 2, .type = WAL_MARK, .index = next - 1});
	assert_int_equal(wal_flush(w), 0);
	rc = wal_upkeep(w);
	assert_true(rc == 0 || rc == -ENOSPC);
	assert_int_equal(w->n_segs, 1);
	write_entries(w, 2, &next, 5, true);
	wal_close(w);
	w = must_open(d);
	struct wal_group_state st;
	assert_int_equal(wal_group_load(w, 1, &st, NULL), 0);
	assert_int_equal(st.mark_index, 5);
	assert_memory_equal(st.manifest, "idle", 4);
	wal_group_state_release(&st);
	assert_int_equal(wal_group_load(w, 2, &st, NULL), 0);
	assert_int_equal(st.vote, votes);
	assert_int_equal(st.mark_index, next - 1);
	wal_group_state_release(&st);
	wal_close(w);
	fakedisk_free(d);
}

/* No room for even the first segment: an error, nothing left behind, and a later try works. */
static void no_room_for_the_first_segment_is_reported(void **state)
{
	(void)state;
	struct disk *d = must_disk();
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;

	fakedisk_limit(d, small.segment_size_bytes / 2);
	assert_int_equal(wal_open(d, "wal", &small, &w, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, "first segment"));
	assert_int_equal(fakedisk_open_handles(d), 0);
	fakedisk_limit(d, small.segment_size_bytes);
	w = must_open(d);
	wal_close(w);
	fakedisk_free(d);
}

/* --- the kernel's disk ---------------------------------------------------------------------- */
static void real_dir(char *ret, size_t n)
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(ret, n, "%s/vecfs-wal-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(ret));
}

static int unlink_each(void *arg, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
	return unlink(path);
}

static void real_dir_remove(char *dir)
{
	assert_int_equal(disk_real()->ops->list(disk_real(), dir, unlink_each, dir), 0);
	assert_int_equal(rmdir(dir), 0);
}

static bool uring_works(void)
{
	char dir[256];
	struct wal_opts o = small;
	struct wal *w = NULL;

	o.backend = WAL_URING;
	real_dir(dir, sizeof dir);
	int rc = wal_open(disk_real(), dir, &o, &w, NULL);
	wal_close(w);
	real_dir_remove(dir);
	return rc == 0;
}

/* Both back ends, turn by turn, on real files, with segments that come and go. */
static void real_files_agree_under(enum wal_backend a, enum wal_backend b)
{
	char dir[256];
	struct model m = {0};
	uint64_t rng = seed0;
	struct wal_opts o = small;
	struct wal_stats st;

	real_dir(dir, sizeof dir);
	for (int round = 0; round < 6; round++) {
		o.backend = round % 2 ? b : a;
		struct wal *w = log_must_open(disk_real(), dir, &o);
		wal_stat(w, &st);
		assert_string_equal(st.backend, o.backend == WAL_URING ? "io_uring" : "pwrite");
		must_hold(w, &m);
		for (int i = 0; i < 60; i++) {
			struct model_rec r = model_random(&m, &rng, 3000);
			assert_int_equal(model_stage(w, &r), 0);
			model_apply(&m, &r);
			if (i % 3 == 0)
				assert_int_equal(wal_flush(w), 0);
			if (i % 10 == 0)
				assert_int_equal(wal_upkeep(w), 0);
		}
		assert_int_equal(wal_flush(w), 0);
		must_hold(w, &m);
		wal_close(w);
	}
	model_release(&m);
	real_dir_remove(dir);
}

static void real_files_with_pwrite(void **state)
{
	(void)state;
	real_files_agree_under(WAL_PWRITE, WAL_PWRITE);
}

static void real_files_with_io_uring(void **state)
{
	(void)state;
	if (!uring_works()) {
		print_message("skipped: the kernel refuses io_uring here\n");
		skip();
	}
	real_files_agree_under(WAL_URING, WAL_PWRITE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record_type_round_trips),
		cmocka_unit_test(reopen_after_every_flush_agrees),
		cmocka_unit_test(staged_records_are_nothing_yet),
		cmocka_unit_test(long_flushes_span_segments),
		cmocka_unit_test(idle_groups_survive_recycling),
		cmocka_unit_test(the_group_that_pins_most_is_named),
		cmocka_unit_test(upkeep_in_pieces_ends),
		cmocka_unit_test(bad_records_are_refused),
		cmocka_unit_test(too_many_groups_are_refused),
		cmocka_unit_test(bad_options_are_refused),
		cmocka_unit_test(segment_size_may_change),
		cmocka_unit_test(full_disk_is_survived),
		cmocka_unit_test(votes_and_entries_leave_room_for_marks),
		cmocka_unit_test(no_room_for_the_first_segment_is_reported),
		cmocka_unit_test(real_files_with_pwrite),
		cmocka_unit_test(real_files_with_io_uring),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
