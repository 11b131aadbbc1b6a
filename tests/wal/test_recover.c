/* Recovery of the log: crashes, torn writes, damage, failing disks.
 *
 * The rule behind every test here: what a flush acknowledged is there after any crash, in
 * order and byte for byte; of what was not, a first part may be there; damage to what was
 * acknowledged is refused and leaves the files as they are.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../rot/rot.h"
#include "fakedisk.h"
#include "model.h"
#include "base/hash.h"
#include "wal/wal_i.h"

#define DIR_NAME      "wal"
#define FLUSHES_MAX   64
#define PENDING_MAX   512
#define CRASH_CYCLES  600
#define SCRIPT_STEPS  50
#define MODEL_LEN_MAX 3000

static uint64_t seed0;

static int setup(void **state)
{
	const char *s = getenv("SEED");

	(void)state;
	seed0 = s ? strtoull(s, NULL, 0) : 0x5eed;
	print_message("SEED=%llu\n", (unsigned long long)seed0);
	return 0;
}

static const struct wal_opts small = {
	.segment_size_bytes = WAL_SEG_MIN + 4 * WAL_BLOCK, .spare_segments = 1, .node_id = 7};

static struct wal *must_open(struct disk *d)
{
	return log_must_open(d, DIR_NAME, &small);
}

static struct disk *must_disk(struct disk *d)
{
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

/* --- a log with a history -------------------------------------------------------- */
/* models[i] is the state after the i-th flush; flush i lies in segment seq[i] from
 * start[i] to end[i] (without the padding). */
struct history {
	struct disk *d;
	struct model models[FLUSHES_MAX + 1];
	uint32_t seq[FLUSHES_MAX + 1];
	uint64_t start[FLUSHES_MAX + 1], end[FLUSHES_MAX + 1];
	unsigned n;
};

static void history_flush(struct history *h, struct wal *w, uint64_t *rng, unsigned recs)
{
	unsigned i = ++h->n;

	assert_true(i <= FLUSHES_MAX);
	model_copy(&h->models[i], &h->models[i - 1]);
	while (recs--) {
		struct model_rec r = model_random(&h->models[i], rng, 600);
		assert_int_equal(model_stage(w, &r), 0);
		model_apply(&h->models[i], &r);
	}
	size_t staged = wal_staged(w);
	assert_int_equal(wal_flush(w), 0);
	h->seq[i] = wal_cur(w)->seq;
	h->start[i] = wal_cur(w)->end - VX_ALIGN_UP(staged, WAL_BLOCK);
	h->end[i] = h->start[i] + staged;
}

/* Flushes until the log has 'segments' segments, and 'more' times after that. */
static void history_init(struct history *h, unsigned segments, unsigned more, uint64_t seed)
{
	uint64_t rng = seed;

	*h = (struct history){.d = must_disk(fakedisk_new())};
	struct wal *w = must_open(h->d);
	while (w->n_segs < segments)
		history_flush(h, w, &rng, 1 + (unsigned)(model_rng(&rng) % 6));
	for (unsigned i = 0; i < more; i++)
		history_flush(h, w, &rng, 1 + (unsigned)(model_rng(&rng) % 6));
	must_hold(w, &h->models[h->n]);
	wal_close(w);
	assert_int_equal(fakedisk_open_handles(h->d), 0);
}

static void history_release(struct history *h)
{
	for (unsigned i = 0; i <= h->n; i++)
		model_release(&h->models[i]);
	fakedisk_free(h->d);
}

static void seg_path(char *ret, size_t n, uint32_t seq)
{
	(void)snprintf(ret, n, DIR_NAME "/%010u.wal", seq);
}

/* Opens: the flush (1 .. n) up to which the log holds everything, or -EUCLEAN. */
static int recovered_flush(struct history *h)
{
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;
	struct loaded l;
	int rc = wal_open(h->d, DIR_NAME, &small, &w, &err);

	if (rc) {
		assert_null(w);
		assert_int_equal(fakedisk_open_handles(h->d), 0);
		if (rc != -EUCLEAN)
			fail_msg("wal_open: %s", vx_err_msg(&err, rc));
		if (!strstr(err.msg, "suspect"))
			fail_msg("no suspects in: %s", err.msg);
		return rc;
	}
	assert_int_equal(model_load(w, &l, &err), 0);
	int found = -1;
	for (int i = (int)h->n; i >= 0 && found < 0; i--) {
		if (!model_differs(&h->models[i], &l))
			found = i;
	}
	loaded_release(&l);
	wal_close(w);
	if (found < 0)
		fail_msg("recovered what was never acknowledged");
	return found;
}

/* --- truncation -------------------------------------------------------------------- */
/* A log cut at any byte holds the flushes that are whole, and can be written again. */
static void truncation_leaves_the_whole_flushes(void **state)
{
	(void)state;
	struct history h;
	char path[64];

	history_init(&h, 1, 5, seed0);
	seg_path(path, sizeof path, 1);
	size_t size;
	uint8_t *p = fakedisk_bytes(h.d, path, &size);
	assert_non_null(p);
	uint8_t *all = malloc(size);
	assert_non_null(all);
	memcpy(all, p, size);
	for (size_t cut = 0; cut <= size; cut++) {
		/* The header, and zeros behind the last flush, need not be cut everywhere. */
		if ((cut < WAL_HDR_BYTES - 64 || cut > h.end[h.n] + 128) && cut % 509)
			continue;
		int want = -EUCLEAN;
		if (cut >= WAL_HDR_BYTES) {
			want = 0;
			while (want < (int)h.n && h.end[want + 1] <= cut)
				want++;
		}
		assert_int_equal(fakedisk_put(h.d, path, all, cut), 0);
		struct disk *before = must_disk(fakedisk_clone(h.d));
		int got = recovered_flush(&h);
		if (want >= 0) {
			/* Some flushes may have changed nothing. */
			struct wal *w = must_open(h.d);
			must_hold(w, &h.models[want]);
			struct model m = {0};
			model_copy(&m, &h.models[want]);
			uint64_t rng = cut;
			struct model_rec r = model_random(&m, &rng, 600);
			assert_int_equal(model_stage(w, &r), 0);
			model_apply(&m, &r);
			assert_int_equal(wal_flush(w), 0);
			wal_close(w);
			fakedisk_crash(h.d, cut);
			w = must_open(h.d);
			must_hold(w, &m);
			wal_close(w);
			model_release(&m);
		} else {
			assert_int_equal(got, want);
			assert_true(fakedisk_same(before, h.d));
		}
		fakedisk_free(before);
	}
	free(all);
	history_release(&h);
}

/* --- damage -------------------------------------------------------------------------- */
static bool worth_a_flip(const struct history *h, uint32_t seq, size_t off, unsigned rows)
{
	if (rot_all() || off < WAL_HDR_FIXED + rows * WAL_ROW || off % 211 == 0)
		return true;
	for (unsigned i = 1; i <= h->n; i++) {
		if (h->seq[i] == seq && off >= h->start[i] && off < h->end[i] + 16)
			return true;
	}
	return false;
}

/* Any byte of any segment that changes is noticed, or was of no meaning; the one exception is
 * the last flush of all, which looks like one that was torn. */
static void flipped_bytes_are_noticed(void **state)
{
	(void)state;
	struct history h;
	char path[64];
	unsigned flips = 0, refused = 0, lost_last = 0;

	history_init(&h, 3, 2, seed0 + 1);
	struct disk *before = must_disk(fakedisk_clone(h.d));
	for (uint32_t seq = 1; seq <= 3; seq++) {
		size_t size;
		seg_path(path, sizeof path, seq);
		uint8_t *p = fakedisk_bytes(h.d, path, &size);
		assert_non_null(p);
		for (size_t off = 0; off < size; off++) {
			if (!worth_a_flip(&h, seq, off, MODEL_GROUPS + 1) || !rot_mine(off))
				continue;
			flips++;
			uint8_t bit = (uint8_t)(1u << (off * 7 + seq) % 8);
			p[off] ^= bit;
			int got = recovered_flush(&h);
			refused += got == -EUCLEAN;
			if (got >= 0 && got < (int)h.n) {
				assert_int_equal(seq, h.seq[h.n]);
				assert_true(off >= h.start[h.n]);
				assert_true(off < h.end[h.n]);
				lost_last++;
			}
			p = fakedisk_bytes(h.d, path, &size);
			p[off] ^= bit;
			if (off % 97 == 0 && !fakedisk_same(before, h.d))
				fail_msg("%s: a flip at %zu changed the files", path, off);
		}
		assert_true(fakedisk_same(before, h.d));
	}
	print_message("log: %u flips, %u refused, %u in the last flush of all took it away, the "
		      "rest without effect\n",
		flips, refused, lost_last);
	assert_true(getenv("ROT_PART") || refused > 1000);
	assert_true(getenv("ROT_PART") || lost_last > (h.end[h.n] - h.start[h.n]) / 2);
	assert_int_equal(recovered_flush(&h), h.n);
	fakedisk_free(before);
	history_release(&h);
}

/* A damaged flush with another one behind it is refused, by name, with nothing changed, unless all of
 * it is below later marks. */
static void damage_before_a_later_flush_is_refused(void **state)
{
	(void)state;
	struct history h;
	char path[64];

	unsigned needless = 0;

	history_init(&h, 3, 3, seed0 + 2);
	for (unsigned i = 1; i < h.n; i++) {
		size_t size, len = (size_t)(h.end[i] - h.start[i]);
		uint8_t save[65536];
		assert_true(len <= sizeof save);
		seg_path(path, sizeof path, h.seq[i]);
		uint8_t *p = fakedisk_bytes(h.d, path, &size);
		assert_non_null(p);
		memcpy(save, p + h.start[i], len);
		memset(p + h.start[i], 0, len);
		struct disk *before = must_disk(fakedisk_clone(h.d));
		int got = recovered_flush(&h);
		needless += got >= 0;
		if (got >= 0)
			assert_int_equal(got, h.n);
		else
			assert_true(fakedisk_same(before, h.d));
		fakedisk_free(before);
		p = fakedisk_bytes(h.d, path, &size);
		memcpy(p + h.start[i], save, len);
	}
	print_message("%u of %u flushes were needed by nobody\n", needless, h.n - 1);
	assert_true(needless > 0 && needless < h.n / 2);
	assert_int_equal(recovered_flush(&h), h.n);
	history_release(&h);
}

/* A bad payload names its segment, its offset and its group; a lost segment is a hole. */
static void damage_names_the_suspects(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct wal *w = must_open(d);
	struct vx_err err = VX_ERR_INIT;
	uint8_t data[256];

	memset(data, 'x', sizeof data);
	for (uint32_t g = 41; g <= 43; g++) {
		struct wal_rec r = {.group = g,
			.type = WAL_ENTRY,
			.index = 1,
			.term = 1,
			.data = data,
			.len = sizeof data};
		assert_int_equal(wal_stage(w, &r), 0);
		assert_int_equal(wal_flush(w), 0);
	}
	wal_close(w);
	size_t size;
	uint8_t *p = fakedisk_bytes(d, DIR_NAME "/0000000001.wal", &size);
	p[WAL_HDR_BYTES + WAL_BLOCK + WAL_FRAME_HDR + WAL_REC_HDR + 9] ^= 4;
	assert_int_equal(wal_open(d, DIR_NAME, &small, &w, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "0000000001.wal: offset 41024"));
	assert_non_null(strstr(err.msg, "suspect: 42"));
	assert_null(strstr(err.msg, "43"));
	fakedisk_free(d);

	struct history h;
	history_init(&h, 3, 1, seed0 + 3);
	assert_int_equal(h.d->ops->unlink(h.d, DIR_NAME "/0000000002.wal"), 0);
	assert_int_equal(recovered_flush(&h), -EUCLEAN);
	history_release(&h);
	history_init(&h, 3, 1, seed0 + 3);
	assert_int_equal(h.d->ops->unlink(h.d, DIR_NAME "/0000000001.wal"), 0);
	assert_int_equal(recovered_flush(&h), -EUCLEAN);
	history_release(&h);
}

/* A flush whose place was taken by the one after it is missed, and not called torn. */
static void frame_out_of_its_turn_is_refused(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct wal *w = must_open(d);
	struct vx_err err = VX_ERR_INIT;
	size_t size;

	for (uint32_t g = 1; g <= 2; g++) {
		struct wal_rec r = {.group = g, .type = WAL_HARDSTATE, .term = 1};
		assert_int_equal(wal_stage(w, &r), 0);
		assert_int_equal(wal_flush(w), 0);
	}
	wal_close(w);
	uint8_t *p = fakedisk_bytes(d, DIR_NAME "/0000000001.wal", &size);
	p += WAL_HDR_BYTES;
	memcpy(p, p + WAL_BLOCK, WAL_BLOCK);
	memset(p + WAL_BLOCK, 0, WAL_BLOCK);
	struct disk *before = must_disk(fakedisk_clone(d));
	assert_int_equal(wal_open(d, DIR_NAME, &small, &w, &err), -EUCLEAN);
	assert_true(fakedisk_same(before, d));
	fakedisk_free(before);
	fakedisk_free(d);
}

/* A segment of another node, or of a later format, is refused and is not called damage. */
static void foreign_segments_are_refused(void **state)
{
	(void)state;
	struct history h;
	struct vx_err err = VX_ERR_INIT;
	struct wal_opts other = small;
	struct wal *w = NULL;

	history_init(&h, 1, 2, seed0);
	struct disk *before = must_disk(fakedisk_clone(h.d));
	other.node_id = 8;
	assert_int_equal(wal_open(h.d, DIR_NAME, &other, &w, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "belongs to node 7"));
	assert_true(fakedisk_same(before, h.d));
	fakedisk_free(before);

	size_t size;
	uint8_t *p = fakedisk_bytes(h.d, DIR_NAME "/0000000001.wal", &size);
	put_le32(p + 8, 2);
	size_t rows = (size_t)get_le32(p + 44) * WAL_ROW;
	put_le64(p + 120, hash_xxh3(p + WAL_HDR_FIXED, rows, hash_xxh3(p, 120, 0)));
	before = must_disk(fakedisk_clone(h.d));
	assert_int_equal(wal_open(h.d, DIR_NAME, &small, &w, &err), -EOPNOTSUPP);
	assert_true(fakedisk_same(before, h.d));
	fakedisk_free(before);
	history_release(&h);
}

/* --- torn writes ---------------------------------------------------------------------- */
/* Whatever subset of the sectors of the last flush got to the disk: all of it is there, or
 * none of it, and the log can go on. */
static void torn_flush_is_whole_or_absent(struct history *h, struct disk *old, const char *path)
{
	unsigned n = 0, whole = 0;
	size_t sectors[20], size, old_size;
	uint8_t *p = fakedisk_bytes(h->d, path, &size);
	uint8_t *q = fakedisk_bytes(old, path, &old_size);

	assert_non_null(p);
	assert_non_null(q);
	assert_int_equal(size, old_size);
	uint8_t *fresh = malloc(size);
	assert_non_null(fresh);
	memcpy(fresh, p, size);
	for (size_t s = 0; s < size; s += FAKEDISK_SECTOR) {
		if (memcmp(p + s, q + s, FAKEDISK_SECTOR) != 0) {
			assert_true(n < VX_ARRAY_SIZE(sectors));
			sectors[n++] = s;
		}
	}
	assert_in_range(n, 5, 12);
	for (uint32_t mask = 0; mask < 1u << n; mask++) {
		p = fakedisk_bytes(h->d, path, &size);
		for (unsigned i = 0; i < n; i++)
			memcpy(p + sectors[i], (mask >> i & 1 ? fresh : q) + sectors[i],
				FAKEDISK_SECTOR);
		int got = recovered_flush(h);
		if (got != (int)h->n && got != (int)h->n - 1)
			fail_msg("mask %x: recovered %d of %u", mask, got, h->n);
		whole += got == (int)h->n;
	}
	/* All sectors but those of the padding are needed; those are equal in both. */
	assert_in_range(whole, 1, 8);
	assert_int_equal(recovered_flush(h), h->n);
	free(fresh);
}

/* Flushes 'n' entries of 'len' bytes, the first shorter by a frame header. */
static void last_flush_of(struct history *h, size_t len, unsigned n, uint64_t rng)
{
	unsigned i = ++h->n;
	struct wal *w = must_open(h->d);

	model_copy(&h->models[i], &h->models[i - 1]);
	for (unsigned k = 0; k < n; k++) {
		const struct model_group *g = &h->models[i].g[2];
		struct model_rec r = {.seed = model_rng(&rng)};
		r.rec = (struct wal_rec){.group = 3,
			.type = WAL_ENTRY,
			.index = g->mark + g->n + 1,
			.term = 9,
			.len = k ? len : len - WAL_FRAME_HDR};
		assert_int_equal(model_stage(w, &r), 0);
		model_apply(&h->models[i], &r);
	}
	assert_int_equal(wal_flush(w), 0);
	wal_close(w);
}

static void torn_last_flush_is_dropped(void **state)
{
	(void)state;
	struct history h;

	history_init(&h, 1, 2, seed0 + 5);
	struct disk *old = must_disk(fakedisk_clone(h.d));
	last_flush_of(&h, 4800, 1, seed0);
	torn_flush_is_whole_or_absent(&h, old, DIR_NAME "/0000000001.wal");
	fakedisk_free(old);
	history_release(&h);
}

/* The remains of a torn flush lie where the next one is written, and that one is torn too. */
static void torn_flush_over_a_torn_flush_is_dropped(void **state)
{
	(void)state;
	struct history h;
	size_t size;

	history_init(&h, 1, 2, seed0 + 6);
	struct disk *old = must_disk(fakedisk_clone(h.d));
	uint64_t at = VX_ALIGN_UP(h.end[h.n], WAL_BLOCK);
	last_flush_of(&h, 5000, 1, seed0 + 1);
	/* Torn: its last sector is lost, so the next open cuts it off. */
	uint8_t *p = fakedisk_bytes(h.d, DIR_NAME "/0000000001.wal", &size);
	memset(p + (at + 5000) / FAKEDISK_SECTOR * FAKEDISK_SECTOR, 0, FAKEDISK_SECTOR);
	h.n--;
	fakedisk_free(old);
	assert_int_equal(recovered_flush(&h), h.n);
	old = must_disk(fakedisk_clone(h.d));
	last_flush_of(&h, 4700, 1, seed0 + 2);
	torn_flush_is_whole_or_absent(&h, old, DIR_NAME "/0000000001.wal");
	fakedisk_free(old);
	history_release(&h);
}

/* Both flushes have records of a sector each, in the same places, so that a sector of the first
 * would complete the second, were it not for the frame's tag. */
static void sectors_of_two_torn_flushes_do_not_mix(void **state)
{
	(void)state;
	struct history h;
	size_t size, len = FAKEDISK_SECTOR - WAL_REC_HDR;

	history_init(&h, 1, 2, seed0 + 8);
	uint64_t at = VX_ALIGN_UP(h.end[h.n], WAL_BLOCK);
	last_flush_of(&h, len, 9, seed0 + 1);
	uint8_t *p = fakedisk_bytes(h.d, DIR_NAME "/0000000001.wal", &size);
	p[at + 8 * FAKEDISK_SECTOR] ^= 1;
	h.n--;
	assert_int_equal(recovered_flush(&h), h.n);
	struct disk *old = must_disk(fakedisk_clone(h.d));
	last_flush_of(&h, len, 9, seed0 + 2);
	torn_flush_is_whole_or_absent(&h, old, DIR_NAME "/0000000001.wal");
	fakedisk_free(old);
	history_release(&h);
}

/* No frame that a recycled file held in an earlier life is valid in the next one. */
static void recycled_frames_are_never_valid(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct wal *w = must_open(d);
	unsigned old_frames = 0;

	for (uint64_t index = 1; index <= 100; index++) {
		struct model_rec r = {.rec = {.group = 1, .index = index, .term = 1}};
		r.rec.type = WAL_ENTRY;
		assert_int_equal(model_stage(w, &r), 0);
		r.rec.type = WAL_MARK;
		assert_int_equal(model_stage(w, &r), 0);
		assert_int_equal(wal_flush(w), 0);
		assert_int_equal(wal_upkeep(w), 0);
		const struct wal_seg *s = wal_cur(w);
		char path[64];
		size_t size;
		seg_path(path, sizeof path, s->seq);
		const uint8_t *p = fakedisk_bytes(d, path, &size);
		assert_non_null(p);
		for (uint64_t off = s->end; off < size; off += WAL_BLOCK) {
			struct wal_fhdr f;
			old_frames += memcmp(p + off, "VFRM", 4) == 0;
			assert_false(wal_fhdr_get(p + off, wal_seed(s->nonce, s->seq), &f));
		}
	}
	assert_true(old_frames > 20);
	wal_close(w);
	fakedisk_free(d);
}

/* A torn flush at the end of a segment whose successor was begun is no damage. */
static void torn_remains_before_the_next_segment_are_harmless(void **state)
{
	(void)state;
	struct history h;
	size_t size;

	history_init(&h, 1, 1, seed0 + 7);
	uint64_t at = VX_ALIGN_UP(h.end[h.n], WAL_BLOCK);
	last_flush_of(&h, 3000, 1, 1);
	uint8_t *p = fakedisk_bytes(h.d, DIR_NAME "/0000000001.wal", &size);
	p[at + 1000] ^= 1;
	h.n--;
	/* Nothing fits any more before the end of the segment but after the cut. */
	uint64_t room = small.segment_size_bytes - at;
	last_flush_of(&h, (size_t)room, 1, 2);
	assert_non_null(fakedisk_bytes(h.d, DIR_NAME "/0000000002.wal", &size));
	assert_int_equal(recovered_flush(&h), h.n);
	history_release(&h);
}

/* --- scripts on a failing disk --------------------------------------------------------- */
struct run {
	struct model acked;
	struct model_rec pending[PENDING_MAX];
	unsigned n_pending;
	bool failed;
};

/* Stages, flushes and recycles; returns at the first error of the log, which must be -EIO
 * and must stay. */
static void run_steps(struct run *r, struct wal *w, uint64_t *rng, unsigned steps)
{
	struct model m = {0};
	bool more;

	model_copy(&m, &r->acked);
	r->n_pending = 0;
	r->failed = false;
	for (unsigned s = 0; s < steps && !r->failed; s++) {
		unsigned recs = 1 + (unsigned)(model_rng(rng) % 8);
		size_t max_len = model_rng(rng) % 4 ? 300 : MODEL_LEN_MAX;
		for (unsigned i = 0; i < recs && r->n_pending < PENDING_MAX; i++) {
			struct model_rec x = model_random(&m, rng, max_len);
			assert_int_equal(model_stage(w, &x), 0);
			model_apply(&m, &x);
			r->pending[r->n_pending++] = x;
		}
		int rc = 0;
		if (model_rng(rng) % 8)
			rc = wal_flush(w);
		if (rc == 0 && wal_staged(w) == 0) {
			model_copy(&r->acked, &m);
			r->n_pending = 0;
		}
		if (rc == 0 && model_rng(rng) % 3 == 0)
			rc = wal_upkeep_step(w, 1u << (12 + model_rng(rng) % 8), &more);
		if (rc) {
			struct wal_stats st;
			assert_int_equal(rc, -EIO);
			assert_int_equal(wal_flush(w), -EIO);
			assert_int_equal(wal_upkeep(w), -EIO);
			wal_stat(w, &st);
			assert_true(st.broken);
			r->failed = true;
		}
	}
	model_release(&m);
}

/* Everything acknowledged is there, and a first part of the rest; becomes the new truth. */
static void accept_prefix(struct run *r, struct wal *w)
{
	struct vx_err err = VX_ERR_INIT;
	struct loaded l;
	int rc = model_load(w, &l, &err);

	if (rc)
		fail_msg("wal_group_load: %s", vx_err_msg(&err, rc));
	const char *why = model_differs(&r->acked, &l);
	for (unsigned i = 0; i < r->n_pending && why; i++) {
		model_apply(&r->acked, &r->pending[i]);
		why = model_differs(&r->acked, &l);
	}
	if (why)
		fail_msg("neither what was acknowledged nor a first part of the rest: %s", why);
	loaded_release(&l);
	r->n_pending = 0;
}

/* Power fails again and again, at any call; nothing acknowledged is ever lost. */
static void random_crashes_lose_nothing(void **state)
{
	(void)state;
	struct disk *d = must_disk(fakedisk_new());
	struct run *r = calloc(1, sizeof *r);
	uint64_t rng = seed0, flushes = 0, torn = 0, recycled = 0;
	struct vx_err err = VX_ERR_INIT;

	assert_non_null(r);
	for (unsigned cycle = 0; cycle < CRASH_CYCLES; cycle++) {
		struct wal_stats st;
		struct wal *w = NULL;
		/* One start in four dies while it recovers. */
		if (model_rng(&rng) % 4 == 0)
			fakedisk_fail_after(d, 1 + model_rng(&rng) % 12, -EIO);
		int rc = wal_open(d, DIR_NAME, &small, &w, &err);
		if (rc == -EIO) {
			fakedisk_crash(d, model_rng(&rng));
			rc = wal_open(d, DIR_NAME, &small, &w, &err);
		}
		if (rc)
			fail_msg("cycle %u: %s", cycle, vx_err_msg(&err, rc));
		fakedisk_fail_after(d, 0, 0);
		accept_prefix(r, w);
		fakedisk_fail_after(d, 1 + model_rng(&rng) % 80, -EIO);
		run_steps(r, w, &rng, (unsigned)(model_rng(&rng) % 30));
		wal_stat(w, &st);
		flushes += st.flushes;
		torn += st.torn_frames;
		recycled = w->segs[0].seq;
		wal_close(w);
		/* Not every death is one of the machine. */
		if (model_rng(&rng) % 5)
			fakedisk_crash(d, model_rng(&rng));
		fakedisk_fail_after(d, 0, 0);
	}
	/* Or the test would have tested nothing. */
	assert_true(flushes > 1000);
	assert_true(torn > 20);
	assert_true(recycled > 20);
	model_release(&r->acked);
	free(r);
	fakedisk_free(d);
}

/* The n-th changing call fails, for every n: nothing is acknowledged after it, and a new start
 * has everything that was.  What a start without a crash has read stays through a crash. */
static void fail_every_call(int err)
{
	struct run *r = calloc(1, sizeof *r);
	bool done = false;
	unsigned n;

	assert_non_null(r);
	for (n = 1; !done; n++) {
		for (unsigned power = 0; power < 2; power++) {
			struct disk *d = must_disk(fakedisk_new());
			uint64_t rng = seed0 + 99;
			struct wal *w = NULL;
			fakedisk_fail_after(d, n, err);
			int rc = wal_open(d, DIR_NAME, &small, &w, NULL);
			if (rc)
				assert_int_equal(rc, -EIO);
			else
				run_steps(r, w, &rng, SCRIPT_STEPS);
			done = fakedisk_calls(d) < n;
			wal_close(w);
			assert_int_equal(fakedisk_open_handles(d), 0);
			fakedisk_fail_after(d, 0, 0);
			if (power)
				fakedisk_crash(d, n);
			w = must_open(d);
			accept_prefix(r, w);
			/* On top of what a start has found, even of a name that is not durable. */
			run_steps(r, w, &rng, n % 3);
			wal_close(w);
			fakedisk_crash(d, n + 1);
			w = must_open(d);
			must_hold(w, &r->acked);
			run_steps(r, w, &rng, 3);
			assert_false(r->failed);
			wal_close(w);
			model_release(&r->acked);
			fakedisk_free(d);
		}
	}
	assert_true(n > 100);
	free(r);
}

static void nothing_is_acknowledged_after_an_error(void **state)
{
	(void)state;
	fail_every_call(-EIO);
}

static void short_writes_are_never_acknowledged(void **state)
{
	(void)state;
	fail_every_call(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(truncation_leaves_the_whole_flushes),
		cmocka_unit_test(flipped_bytes_are_noticed),
		cmocka_unit_test(damage_before_a_later_flush_is_refused),
		cmocka_unit_test(damage_names_the_suspects),
		cmocka_unit_test(frame_out_of_its_turn_is_refused),
		cmocka_unit_test(foreign_segments_are_refused),
		cmocka_unit_test(torn_last_flush_is_dropped),
		cmocka_unit_test(torn_flush_over_a_torn_flush_is_dropped),
		cmocka_unit_test(sectors_of_two_torn_flushes_do_not_mix),
		cmocka_unit_test(recycled_frames_are_never_valid),
		cmocka_unit_test(torn_remains_before_the_next_segment_are_harmless),
		cmocka_unit_test(random_crashes_lose_nothing),
		cmocka_unit_test(nothing_is_acknowledged_after_an_error),
		cmocka_unit_test(short_writes_are_never_acknowledged),
	};

	cmocka_set_test_filter(getenv("ROT_TEST"));
	return cmocka_run_group_tests(tests, setup, NULL);
}
