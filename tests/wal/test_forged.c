/* Logs whose checksums are right and whose contents are not, made byte by byte from docs/format-wal.md.
 *
 * The rule: a log that its own rules exclude is refused with the reason, with nothing changed on disk; a view of it
 * ends and tells of it, where it is not about the groups; and what is not excluded opens.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "fakedisk.h"
#include "wal/wal_i.h"
#include "wal/wal_view.h"

#define DIR_NAME "wal"
#define SEGS     3u
#define SIZE     (WAL_SEG_MIN + 4ull * WAL_BLOCK)
#define SALT     99u

static const struct wal_opts small = {
	.segment_size_bytes = SIZE, .spare_segments = 1, .node_id = 7};

/* --- writing by hand -------------------------------------------------------------------- */
struct forged {
	uint8_t seg[SEGS][SIZE];
	uint64_t end[SEGS], number;
	uint64_t frame[SEGS][4]; /* offsets */
	unsigned n_frames[SEGS];
};

static uint64_t seed_of(const uint8_t *p)
{
	return wal_seed(get_le64(p + 24), get_le32(p + 40));
}

static void seal_header(uint8_t *p)
{
	size_t rows = (size_t)VX_MIN(get_le32(p + 44), WAL_GROUPS_MAX) * WAL_ROW;

	put_le64(p + 120, hash_xxh3(p + WAL_HDR_FIXED, rows, hash_xxh3(p, 120, 0)));
}

static void put_row(uint8_t *p, const struct wal_row *r)
{
	uint8_t *q = p + WAL_HDR_FIXED + (size_t)get_le32(p + 44) * WAL_ROW;

	put_le32(q, r->group);
	put_le32(q + 4, r->manifest_seq);
	put_le64(q + 8, r->term);
	put_le64(q + 16, r->vote);
	put_le64(q + 24, r->mark_index);
	put_le64(q + 32, r->mark_term);
	put_le64(q + 40, r->mark_index + 1);
	put_le64(q + 48, r->last);
	put_le32(p + 44, get_le32(p + 44) + 1);
}

static void begin(struct forged *l, unsigned i, const struct wal_row *rows, unsigned n)
{
	uint8_t *p = l->seg[i];

	memcpy(p, "VECFSWAL", 8);
	put_le32(p + 8, WAL_VERSION);
	put_le32(p + 12, WAL_HDR_BYTES);
	put_le64(p + 16, small.node_id);
	put_le64(p + 24, 1000 + i);
	put_le64(p + 32, SIZE);
	put_le32(p + 40, i + 1);
	put_le64(p + 48, l->number);
	put_le64(p + 56, i ? l->end[i - 1] : 0);
	while (n--)
		put_row(p, rows++);
	seal_header(p);
	l->end[i] = WAL_HDR_BYTES;
}

static void frame(struct forged *l, unsigned i, const struct wal_rec *recs, unsigned n)
{
	uint8_t *p = l->seg[i] + l->end[i];
	uint64_t tag = wal_tag(SALT, ++l->number), seed = seed_of(l->seg[i]);
	size_t at = WAL_FRAME_HDR;

	l->frame[i][l->n_frames[i]++] = l->end[i];
	for (unsigned k = 0; k < n; k++) {
		wal_rhdr_put(p + at, &(struct wal_rhdr){.len = (uint32_t)recs[k].len,
					     .type = recs[k].type,
					     .etype = recs[k].etype,
					     .group = recs[k].group,
					     .index = recs[k].index,
					     .term = recs[k].term,
					     .vote = recs[k].vote});
		if (recs[k].len)
			memcpy(p + at + WAL_REC_HDR, recs[k].data, recs[k].len);
		wal_rec_seal(p + at, tag, seed);
		at += wal_rec_size(recs[k].len);
	}
	wal_fhdr_put(p,
		&(struct wal_fhdr){
			.number = l->number, .tag = tag, .n_records = n, .len = (uint32_t)at},
		seed);
	l->end[i] += VX_ALIGN_UP(at, WAL_BLOCK);
	assert_true(l->end[i] <= SIZE);
}

/* Three segments that a writer could have made; the first may be missing, as after recycling. */
static struct forged *sound(void)
{
	struct forged *l = calloc(1, sizeof *l);

	assert_non_null(l);
	begin(l, 0, NULL, 0);
	frame(l, 0,
		(struct wal_rec[]){
			{.group = 1, .type = WAL_HARDSTATE, .term = 1, .vote = 2},
			{.group = 2,
				.type = WAL_MARK,
				.index = 5,
				.term = 1,
				.data = "m",
				.len = 1},
			{.group = 3, .type = WAL_HARDSTATE, .term = 1},
			{.group = 4, .type = WAL_HARDSTATE, .term = 1},
			{.group = 1,
				.type = WAL_ENTRY,
				.index = 1,
				.term = 1,
				.data = "abc",
				.len = 3},
		},
		5);
	frame(l, 0,
		(struct wal_rec[]){{.group = 1,
					   .type = WAL_ENTRY,
					   .index = 2,
					   .term = 1,
					   .data = "d",
					   .len = 1},
			{.group = 4, .type = WAL_DROP}},
		2);
	frame(l, 0,
		(struct wal_rec[]){
			{.group = 1, .type = WAL_TRUNCATE, .index = 2}, {.group = 1,
										.type = WAL_ENTRY,
										.index = 2,
										.term = 1,
										.data = "e",
										.len = 1}},
		2);
	struct wal_row rows[3] = {{.group = 1, .term = 1, .vote = 2, .last = 2},
		{.group = 2, .manifest_seq = 1, .mark_index = 5, .mark_term = 1, .last = 5},
		{.group = 3, .term = 1}};
	begin(l, 1, rows, 3);
	frame(l, 1,
		(struct wal_rec[]){{.group = 1,
					   .type = WAL_ENTRY,
					   .index = 3,
					   .term = 1,
					   .data = "f",
					   .len = 1},
			{.group = 1, .type = WAL_MARK, .index = 2, .term = 1},
			{.group = 2,
				.type = WAL_MARK,
				.index = 5,
				.term = 1,
				.data = "m",
				.len = 1}},
		3);
	rows[0].mark_index = 2;
	rows[0].mark_term = 1;
	rows[0].last = 3;
	rows[1].manifest_seq = 2;
	begin(l, 2, rows, 3);
	frame(l, 2, (struct wal_rec[]){{.group = 1, .type = WAL_ENTRY, .index = 4, .term = 1}}, 1);
	frame(l, 2, (struct wal_rec[]){{.group = 1, .type = WAL_HARDSTATE, .term = 2}}, 1);
	return l;
}

static struct disk *lay_out(const struct forged *l, unsigned first, unsigned n)
{
	struct disk *d = fakedisk_new();

	assert_non_null(d);
	for (unsigned i = first; i < first + n; i++) {
		char path[64];
		(void)snprintf(path, sizeof path, DIR_NAME "/%010u.wal", i + 1);
		assert_int_equal(fakedisk_put(d, path, l->seg[i], SIZE), 0);
	}
	return d;
}

/* --- what is said of it ------------------------------------------------------------------ */
struct told {
	unsigned damage, torn;
	char why[512];
};

static int on_damage(void *ctx, const struct wal_view_damage *d)
{
	struct told *t = ctx;
	size_t len = strlen(t->why);

	t->damage += !d->torn;
	t->torn += d->torn;
	(void)snprintf(t->why + len, sizeof t->why - len, "%s; ", d->why);
	return 0;
}

static struct told view(struct disk *d)
{
	const struct wal_view_ops ops = {.damage = on_damage};
	struct told t = {0};

	assert_int_equal(wal_view(d, DIR_NAME, &ops, &t, NULL), 0);
	assert_int_equal(fakedisk_open_handles(d), 0);
	return t;
}

static void refused(struct disk *d, int rc, const char *why, const char *what)
{
	struct disk *before = fakedisk_clone(d);
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;
	int got = wal_open(d, DIR_NAME, &small, &w, &err);

	assert_non_null(before);
	if (got != rc || (rc && !strstr(err.msg, why)))
		fail_msg("%s: %d: %s", what, got, got ? err.msg : "");
	if (rc == -EUCLEAN)
		assert_non_null(strstr(err.msg, "suspect"));
	if (rc)
		assert_true(fakedisk_same(before, d));
	wal_close(w);
	assert_int_equal(fakedisk_open_handles(d), 0);
	fakedisk_free(before);
}

/* --- one field ---------------------------------------------------------------------------- */
enum part { HDR, ROW, FRM, REC };
struct change {
	const char *what;
	enum part part;
	uint8_t seg, frame, rec; /* rec: of the frame, or the row */
	uint8_t field, width;
	uint64_t value;
	int rc; /* of a start; 0: it is no damage */
	const char *why;
	/* The view: what it tells beside what it must; "": nothing but a torn end; NULL: whatever. */
	const char *view_why;
	uint8_t first, n; /* segments that are there; 0: all */
};

#define PREV  "a flushed frame is damaged"
#define LATER "damaged before a later flush"
#define TABLE "group table does not follow"
#define ORDER "record does not follow"
#define LOST  "no record with a right checksum"
#define NONE  "no frame with a right checksum"
#define MORE  "the next segment says"
#define BAD   -EUCLEAN

static const struct change changes[] = {
	{"magic", HDR, 1, 0, 0, 0, 1, 'W', BAD, "no segment magic", "no segment magic", 0, 0},
	{"version", HDR, 1, 0, 0, 8, 4, 2, -EOPNOTSUPP, "unknown version", "unknown version", 0, 0},
	{"header length", HDR, 0, 0, 0, 12, 4, 4096, 0, "", "header size", 0, 0},
	{"node", HDR, 0, 0, 0, 16, 8, 8, -EINVAL, "belongs to node 8", "", 0, 0},
	/* What only the first segment has is needed by nobody. */
	{"small", HDR, 0, 0, 0, 32, 8, WAL_SEG_MIN - 4096, 0, "", "segment size", 0, 0},
	{"big", HDR, 0, 0, 0, 32, 8, WAL_SEG_MAX + 4096, 0, "", "segment size", 0, 0},
	{"odd", HDR, 0, 0, 0, 32, 8, SIZE + 1, 0, "", "segment size", 0, 0},
	{"number", HDR, 2, 0, 0, 40, 4, 9, BAD, "another segment", "another segment", 0, 0},
	{"rows", HDR, 1, 0, 0, 44, 4, 513, BAD, "header size", "header size", 0, 0},
	{"fewer rows", HDR, 1, 0, 0, 44, 4, 2, BAD, TABLE, "", 0, 0},
	{"more rows", HDR, 1, 0, 0, 44, 4, 4, BAD, TABLE, "", 0, 0},
	{"last frame", HDR, 1, 0, 0, 48, 8, 1ull << 63, BAD, "frame number", "frame number", 0, 0},
	{"more frames before", HDR, 1, 0, 0, 48, 8, 4, BAD, PREV, MORE, 0, 0},
	/* No frame is missing by the number alone: whose fault it is the view does not tell. */
	{"fewer frames before", HDR, 1, 0, 0, 48, 8, 2, BAD, PREV, "", 0, 0},
	{"frames at the start", HDR, 0, 0, 0, 48, 8, 2, 0, "", NULL, 0, 0},
	{"longer before", HDR, 1, 0, 0, 56, 8, SIZE, BAD, PREV, MORE, 0, 0},
	{"shorter before", HDR, 1, 0, 0, 56, 8, WAL_HDR_BYTES, BAD, PREV, "", 0, 0},
	{"short segment", HDR, 2, 0, 0, 32, 8, WAL_SEG_MIN, 0, "", "", 0, 0},

	{"unknown group", ROW, 1, 0, 0, 0, 4, 77, BAD, TABLE, "", 0, 0},
	{"dropped group", ROW, 1, 0, 2, 0, 4, 4, BAD, TABLE, "", 0, 0},
	{"term", ROW, 1, 0, 0, 8, 8, 9, BAD, TABLE, "", 0, 0},
	{"vote", ROW, 1, 0, 0, 16, 8, 9, BAD, TABLE, "", 0, 0},
	{"mark", ROW, 1, 0, 1, 24, 8, 4, BAD, TABLE, "", 0, 0},
	{"term of the mark", ROW, 1, 0, 1, 32, 8, 4, BAD, TABLE, "", 0, 0},
	{"last", ROW, 1, 0, 0, 48, 8, 3, BAD, TABLE, "", 0, 0},
	{"manifest elsewhere", ROW, 1, 0, 1, 4, 4, 0, 0, "", "", 0, 0},
	/* In the first table there is. */
	{"twice the same", ROW, 1, 0, 1, 0, 4, 1, BAD, "impossible group table", "", 1, 2},
	{"mark beyond", ROW, 1, 0, 0, 24, 8, 100, BAD, "impossible group table", "", 1, 2},
	{"endless", ROW, 1, 0, 0, 48, 8, UINT64_MAX, BAD, "impossible group table", "", 1, 2},
	{"entries", ROW, 1, 0, 2, 48, 8, 4, BAD, "entries 1 to 4 are missing", "", 1, 1},
	{"manifest", ROW, 1, 0, 2, 4, 4, 1, BAD, "the manifest of its mark is missing", "", 1, 2},

	{"out of turn", FRM, 1, 0, 0, 8, 8, 9, BAD, PREV, "frames before this one", 0, 0},
	{"long ago", FRM, 1, 0, 0, 8, 8, 1, BAD, PREV, MORE, 0, 0},
	{"another tag", FRM, 1, 0, 0, 16, 8, 5, BAD, PREV, LOST, 0, 0},
	{"no records", FRM, 1, 0, 0, 24, 4, 0, BAD, PREV, MORE, 0, 0},
	{"one record less", FRM, 1, 0, 0, 24, 4, 2, BAD, PREV, LOST, 0, 0},
	{"one record more", FRM, 1, 0, 0, 24, 4, 4, BAD, PREV, LOST, 0, 0},
	{"short", FRM, 1, 0, 0, 28, 4, 63, BAD, PREV, MORE, 0, 0},
	{"shorter than a record", FRM, 1, 0, 0, 28, 4, 128 + 8, BAD, PREV, LOST, 0, 0},
	{"long", FRM, 1, 0, 0, 28, 4, SIZE, BAD, PREV, MORE, 0, 0},
	{"no records before a frame", FRM, 2, 0, 0, 24, 4, 0, BAD, LATER, NONE, 0, 0},
	{"short before a frame", FRM, 0, 1, 0, 28, 4, 8, 0, "", NONE, 0, 0},
	{"less before a frame", FRM, 2, 0, 0, 24, 4, 2, BAD, LATER, LOST, 0, 0},
	/* The last frame of all is torn, whatever is wrong with it, but for its number. */
	{"torn: records", FRM, 2, 1, 0, 24, 4, 7, 0, "", "", 0, 0},
	{"torn: no records", FRM, 2, 1, 0, 24, 4, 0, 0, "", "", 0, 0},
	{"torn: length", FRM, 2, 1, 0, 28, 4, 100, 0, "", "", 0, 0},
	{"torn: number", FRM, 2, 1, 0, 8, 8, 7, BAD, LATER, "frames before this one", 0, 0},
	{"torn: old number", FRM, 2, 1, 0, 8, 8, 3, 0, "", "", 0, 0},

	{"no type", REC, 1, 0, 0, 8, 1, 0, BAD, PREV, LOST, 0, 0},
	{"unknown type", REC, 1, 0, 0, 8, 1, WAL_DROP + 1, BAD, PREV, LOST, 0, 0},
	{"longer than any", REC, 1, 0, 0, 4, 4, VX_ENTRY_BYTES_MAX + 1, BAD, PREV, LOST, 0, 0},
	{"longer than its frame", REC, 1, 0, 2, 4, 4, 4000, BAD, PREV, LOST, 0, 0},
	{"no magic", REC, 1, 0, 1, 0, 4, 0, BAD, PREV, LOST, 0, 0},
	{"tag of another", REC, 1, 0, 1, 40, 8, 1, BAD, PREV, LOST, 0, 0},
	{"payload", REC, 1, 0, 0, 48, 8, 1, BAD, "a flushed record is damaged", "wrong checksum", 0,
		0},
	{"gap", REC, 1, 0, 0, 16, 8, 9, BAD, ORDER, "", 0, 0},
	{"entry again", REC, 2, 0, 0, 16, 8, 3, BAD, ORDER, "", 0, 0},
	{"truncation at the mark", REC, 0, 2, 0, 16, 8, 0, BAD, ORDER, "", 0, 0},
	{"mark that goes back", REC, 1, 0, 2, 16, 8, 4, BAD, ORDER, "", 0, 0},
	{"endless mark", REC, 1, 0, 1, 16, 8, UINT64_MAX, BAD, ORDER, "", 0, 0},
	{"mark below its end", REC, 1, 0, 1, 32, 8, 3, 0, "", "", 0, 0},
	{"mark with a lower end", REC, 1, 0, 1, 32, 8, 2, BAD, ORDER, "", 0, 0},
	{"mark with a higher end", REC, 1, 0, 1, 32, 8, 4, BAD, ORDER, "", 0, 0},
	{"mark beyond its end", REC, 0, 0, 1, 32, 8, 4, BAD, ORDER, "", 0, 0},
	{"mark with an endless end", REC, 1, 0, 1, 32, 8, UINT64_MAX, BAD, ORDER, "", 0, 0},
	{"truncation beyond", REC, 0, 2, 0, 16, 8, 5, BAD, ORDER, "", 0, 0},
};

static void change(struct forged *l, const struct change *c)
{
	uint8_t *seg = l->seg[c->seg], *p = seg;
	uint64_t seed = seed_of(seg);

	if (c->part == ROW)
		p += WAL_HDR_FIXED + (size_t)c->rec * WAL_ROW;
	if (c->part == FRM || c->part == REC)
		p += l->frame[c->seg][c->frame];
	if (c->part == REC) {
		p += WAL_FRAME_HDR;
		for (unsigned i = 0; i < c->rec; i++)
			p += wal_rec_size(get_le32(p + 4));
	}
	for (unsigned i = 0; i < c->width; i++)
		p[c->field + i] = (uint8_t)(c->value >> 8 * i);
	if (c->part == HDR || c->part == ROW)
		seal_header(seg);
	else
		put_le64(p + 56, hash_xxh3(p, 56, seed));
}

static void a_sound_log_opens(void **state)
{
	(void)state;
	for (unsigned first = 0; first < 2; first++) {
		struct forged *l = sound();
		struct disk *d = lay_out(l, first, SEGS - first);
		struct wal_group_state st;
		struct wal *w = NULL;
		struct told t = view(d);
		assert_int_equal(t.damage + t.torn, 0);
		assert_int_equal(wal_open(d, DIR_NAME, &small, &w, NULL), 0);
		assert_int_equal(wal_group_load(w, 1, &st, NULL), 0);
		assert_int_equal(st.n_entries, 2);
		assert_int_equal(st.term, 2);
		wal_group_state_release(&st);
		wal_close(w);
		fakedisk_free(d);
		free(l);
	}
}

static void one_field_that_cannot_be_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(changes); i++) {
		const struct change *c = &changes[i];
		struct forged *l = sound();
		change(l, c);
		struct disk *d = lay_out(l, c->first, c->n ? c->n : SEGS);
		struct told t = view(d);
		if (c->view_why && *c->view_why == '\0' && t.damage)
			fail_msg("%s: the view says %s", c->what, t.why);
		if (c->view_why && !strstr(t.why, c->view_why))
			fail_msg("%s: the view says only %s", c->what, t.why);
		refused(d, c->rc, c->why, c->what);
		fakedisk_free(d);
		free(l);
	}
}

/* --- more than one field ------------------------------------------------------------------ */
static void resets_may_not_be_endless(void **state)
{
	(void)state;
	struct forged *l = sound();
	change(l, &(struct change){
			  .part = REC, .seg = 2, .field = 8, .width = 1, .value = WAL_RESET});
	change(l, &(struct change){
			  .part = REC, .seg = 2, .field = 16, .width = 8, .value = UINT64_MAX});
	struct disk *d = lay_out(l, 0, SEGS);
	refused(d, -EUCLEAN, ORDER, "reset");
	fakedisk_free(d);
	free(l);
}

/* A frame that is not whole and not the next one is no torn flush: others were before it. */
static void a_broken_frame_out_of_turn_is_not_called_torn(void **state)
{
	(void)state;
	struct forged *l = sound();
	change(l, &(struct change){.part = REC, .seg = 2, .frame = 1, .field = 40, .width = 8});
	struct disk *d = lay_out(l, 0, SEGS);
	struct told t = view(d);
	assert_int_equal(t.torn, 1);
	assert_int_equal(t.damage, 0);
	fakedisk_free(d);
	change(l, &(struct change){
			  .part = FRM, .seg = 2, .frame = 1, .field = 8, .width = 8, .value = 9});
	d = lay_out(l, 0, SEGS);
	t = view(d);
	assert_int_equal(t.torn, 0);
	assert_non_null(strstr(t.why, "frames before this one"));
	assert_non_null(strstr(t.why, LOST));
	refused(d, -EUCLEAN, LATER, "out of turn");
	fakedisk_free(d);
	free(l);
}

/* However many payloads of a flush are bad, some of the groups are named, and none twice over the message's end. */
static void many_suspects_are_named_as_far_as_there_is_room(void **state)
{
	(void)state;
	struct forged *l = calloc(1, sizeof *l);
	struct vx_err err = VX_ERR_INIT;
	struct wal_rec recs[50];
	struct wal *w = NULL;

	assert_non_null(l);
	begin(l, 0, NULL, 0);
	for (unsigned i = 0; i < VX_ARRAY_SIZE(recs); i++)
		recs[i] = (struct wal_rec){.group = 4000000000u + i,
			.type = WAL_ENTRY,
			.index = 1,
			.data = "xy",
			.len = 2};
	frame(l, 0, recs, VX_ARRAY_SIZE(recs));
	frame(l, 0, (struct wal_rec[]){{.group = 1, .type = WAL_HARDSTATE, .term = 2}}, 1);
	for (unsigned i = 0; i < VX_ARRAY_SIZE(recs); i++)
		l->seg[0][WAL_HDR_BYTES + WAL_FRAME_HDR + i * wal_rec_size(2) + WAL_REC_HDR] ^= 1;
	struct disk *d = lay_out(l, 0, 1);
	assert_int_equal(view(d).damage, VX_ARRAY_SIZE(recs));
	assert_int_equal(wal_open(d, DIR_NAME, &small, &w, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "suspect: 4000000000 4000000001 "));
	assert_null(strstr(err.msg, "4000000049"));
	fakedisk_free(d);
	free(l);
}

/* A log with more groups than a table has rows could not go on: it is refused rather than made one that will not open. */
static void more_groups_than_a_table_holds_are_refused(void **state)
{
	(void)state;
	for (unsigned more = 0; more < 2; more++) {
		struct forged *l = calloc(1, sizeof *l);
		struct wal_row rows[WAL_GROUPS_MAX - 1];
		struct wal_rec recs[2];
		assert_non_null(l);
		for (uint32_t i = 0; i < VX_ARRAY_SIZE(rows); i++)
			rows[i] = (struct wal_row){.group = 10 + i};
		for (uint32_t i = 0; i < VX_ARRAY_SIZE(recs); i++)
			recs[i] = (struct wal_rec){
				.group = 1 + i, .type = WAL_HARDSTATE, .term = 1};
		begin(l, 0, rows, VX_ARRAY_SIZE(rows));
		frame(l, 0, recs, 1 + more);
		struct disk *d = lay_out(l, 0, 1);
		refused(d, more ? -EUCLEAN : 0, "more than 512 groups", "groups");
		fakedisk_free(d);
		free(l);
	}
}

/* Entries that a table only counts, and that a truncation took away again, are missed by nobody. */
static void truncated_entries_may_lie_in_what_was_recycled(void **state)
{
	(void)state;
	struct forged *l = calloc(1, sizeof *l);
	struct wal_group_state st;
	struct wal *w = NULL;

	assert_non_null(l);
	begin(l, 0, (struct wal_row[]){{.group = 1, .last = 6}}, 1);
	frame(l, 0,
		(struct wal_rec[]){{.group = 1, .type = WAL_TRUNCATE, .index = 8},
			{.group = 1, .type = WAL_TRUNCATE, .index = 1},
			{.group = 1, .type = WAL_ENTRY, .index = 1, .term = 3}},
		3);
	struct disk *d = lay_out(l, 0, 1);
	assert_int_equal(wal_open(d, DIR_NAME, &small, &w, NULL), 0);
	assert_int_equal(wal_group_load(w, 1, &st, NULL), 0);
	assert_int_equal(st.n_entries, 1);
	assert_int_equal(st.entries[0].term, 3);
	wal_group_state_release(&st);
	wal_close(w);
	fakedisk_free(d);
	free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sound_log_opens),
		cmocka_unit_test(one_field_that_cannot_be_is_refused),
		cmocka_unit_test(resets_may_not_be_endless),
		cmocka_unit_test(a_broken_frame_out_of_turn_is_not_called_torn),
		cmocka_unit_test(many_suspects_are_named_as_far_as_there_is_room),
		cmocka_unit_test(more_groups_than_a_table_holds_are_refused),
		cmocka_unit_test(truncated_entries_may_lie_in_what_was_recycled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
