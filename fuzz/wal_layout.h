/* wal_layout.h - segments of a log out of an input, for the targets that read one.
 *
 *	byte 0		1: set the checksums right
 *	then pieces	length (2 bytes, little-endian; bit 15: a segment begins), bytes
 *
 * A segment's first piece is its header, each further one starts at the next block.
 */
#ifndef VECFS_FUZZ_WAL_LAYOUT_H
#define VECFS_FUZZ_WAL_LAYOUT_H

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
		if (len > room - at - WAL_REC_HDR) { /* all is right of it but its length */
			put_le64(p + at + 40, tag);
			put_le64(p + at + 56, hash_xxh3(p + at, 56, seed));
			break;
		}
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

#endif
