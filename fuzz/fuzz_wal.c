/* Fuzzes the opening of a log.  The input is a list of pieces of segments, laid out on a disk in
 * memory; half of the inputs get their checksums set right, so that what lies behind them is
 * reached.  A log that opens must load, take another record, and say the same when opened
 * again; one that does not must leave every file as it was.
 *
 *	byte 0		1: set the checksums right
 *	then pieces	length (2 bytes, little-endian; bit 15: a segment begins), bytes
 *
 * A segment's first piece is its header, each further one starts at the next block. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/wal/fakedisk.h"
#include "wal/wal_i.h"

#define SEGMENT      (WAL_SEG_MIN + 8ull * WAL_BLOCK)
#define SEGMENTS_MAX 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* The fields stay what they are, but magic, tags and sums become those of a writer. */
static void fix_header(uint8_t *p)
{
	memcpy(p, "VECFSWAL", 8);
	uint32_t n = get_le32(p + 44);
	if (n <= WAL_GROUPS_MAX)
		put_le64(p + 120,
			hash_xxh3(p + WAL_HDR_FIXED, (size_t)n * WAL_ROW, hash_xxh3(p, 120, 0)));
}

static void fix_frame(uint8_t *p, size_t room, uint64_t seed)
{
	uint32_t n = get_le32(p + 24);
	uint64_t tag = get_le64(p + 16);
	size_t at = WAL_FRAME_HDR;

	memcpy(p, "VFRM", 4);
	put_le64(p + 56, hash_xxh3(p, 56, seed));
	for (; n && at + WAL_REC_HDR <= room; n--) {
		uint32_t len = get_le32(p + at + 4);
		memcpy(p + at, "VREC", 4);
		if (len > room - at - WAL_REC_HDR)
			break;
		wal_rec_seal(p + at, tag, seed);
		at += wal_rec_size(len);
	}
}

static void put_segment(struct disk *d, const uint8_t *img, uint32_t seq)
{
	char path[64];

	(void)snprintf(path, sizeof path, "wal/%010u.wal", seq);
	must(fakedisk_put(d, path, img, SEGMENT) == 0);
}

static void lay_out(struct disk *d, const uint8_t *data, size_t size)
{
	static uint8_t img[SEGMENT];
	bool fix = data[0] & 1;
	uint32_t seq = 0;
	uint64_t off = SEGMENT, seed = 0;

	for (size_t at = 1; at + 2 <= size;) {
		uint16_t head = get_le16(data + at);
		size_t len = VX_MIN((size_t)(head & 0x7fff), size - at - 2);
		const uint8_t *p = data + at + 2;
		at += 2 + len;
		if (head & 0x8000) {
			if (seq)
				put_segment(d, img, seq);
			if (seq++ == SEGMENTS_MAX)
				return;
			memset(img, 0, sizeof img);
			memcpy(img, p, VX_MIN(len, (size_t)WAL_HDR_BYTES));
			if (fix)
				fix_header(img);
			seed = wal_seed(get_le64(img + 24), get_le32(img + 40));
			off = WAL_HDR_BYTES;
		} else if (off + WAL_FRAME_HDR <= SEGMENT) {
			len = VX_MIN(len, (size_t)(SEGMENT - off));
			memcpy(img + off, p, len);
			if (fix)
				fix_frame(img + off, (size_t)(SEGMENT - off), seed);
			off = VX_ALIGN_UP(off + VX_MAX(len, 1u), WAL_BLOCK);
		}
	}
	if (seq)
		put_segment(d, img, seq);
}

struct sum {
	struct wal *w;
	uint64_t sum;
};

/* Everything the log says of a group goes into one number. */
static int sum_group(void *arg, uint32_t group)
{
	struct sum *s = arg;
	struct wal_group_state st;

	must(wal_group_load(s->w, group, &st, NULL) == 0);
	must(st.exists);
	const uint64_t fixed[] = {
		group, st.term, st.vote, st.mark_index, st.mark_term, st.n_entries};
	uint64_t sum = hash_xxh3(fixed, sizeof fixed, 0);
	sum = hash_xxh3(st.manifest, st.manifest_len, sum);
	for (size_t i = 0; i < st.n_entries; i++) {
		const struct wal_entry *e = &st.entries[i];
		const uint64_t head[] = {e->index, e->term, e->etype};
		must(e->index == st.mark_index + 1 + i);
		sum = hash_xxh3(e->data, e->len, hash_xxh3(head, sizeof head, sum));
	}
	wal_group_state_release(&st);
	s->sum += sum;
	return 0;
}

static uint64_t sum_of(struct wal *w)
{
	struct sum s = {.w = w};

	must(wal_groups(w, sum_group, &s) == 0);
	return s.sum;
}

static void use(struct disk *d, struct wal *w, const struct wal_opts *o)
{
	struct wal_rec vote = {.group = 77, .type = WAL_HARDSTATE, .term = 5, .vote = 6};
	uint64_t before = sum_of(w);

	wal_close(w);
	fakedisk_crash(d, before);
	must(wal_open(d, "wal", o, &w, NULL) == 0);
	must(sum_of(w) == before);
	int rc = wal_stage(w, &vote);
	must(rc == 0 || rc == -EUSERS);
	must(wal_flush(w) == 0);
	must(wal_upkeep(w) == 0);
	uint64_t after = sum_of(w);
	wal_close(w);
	must(wal_open(d, "wal", o, &w, NULL) == 0);
	must(sum_of(w) == after);
	wal_close(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wal_opts o = {.segment_size_bytes = SEGMENT, .node_id = 1};
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;

	if (size < 1 || size > 256u << 10)
		return 0;
	struct disk *d = fakedisk_new();
	must(d != NULL);
	lay_out(d, data, size);
	struct disk *before = fakedisk_clone(d);
	must(before != NULL);
	/* A header may say that its segment is a GiB long; a short file is then filled up. */
	fakedisk_limit(d, 32 * SEGMENT);
	int rc = wal_open(d, "wal", &o, &w, &err);
	if (rc == 0) {
		use(d, w, &o);
	} else {
		must(w == NULL);
		must(err.msg[0] != '\0');
		must(rc == -ENOSPC || fakedisk_same(before, d));
	}
	must(fakedisk_open_handles(d) == 0);
	fakedisk_free(before);
	fakedisk_free(d);
	return 0;
}
