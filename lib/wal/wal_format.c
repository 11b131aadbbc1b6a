/* wal_format.c - the bytes of the log: segment headers, frames, records.
 *
 * Every checksum is XXH3 seeded by the segment's nonce and sequence, so that what
 * a recycled file held before never looks valid.  A record also carries the tag
 * of its frame (a hash of the opener's random salt and the frame's number), so
 * that sectors of a torn frame never mix with those of the frame written over it.
 */
#include "wal/wal_i.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>

#include "base/hash.h"

#define FRAME_MAGIC 0x4d524656u /* "VFRM" */
#define REC_MAGIC   0x43455256u /* "VREC" */
#define ROW_STOPPED 1u
static const uint8_t seg_magic[8] = {'V', 'E', 'C', 'F', 'S', 'W', 'A', 'L'};

uint64_t wal_seed(uint64_t nonce, uint32_t seq)
{
	uint8_t b[12];

	put_le64(b, nonce);
	put_le32(b + 8, seq);
	return hash_xxh3(b, sizeof b, 0);
}

uint64_t wal_tag(uint64_t salt, uint64_t number)
{
	uint8_t b[8];

	put_le64(b, number);
	return hash_xxh3(b, sizeof b, salt);
}

void wal_gset_add(struct wal_gset *s, uint32_t group)
{
	unsigned bit = group % WAL_GSET_BITS;

	s->bits[bit / 8] |= (uint8_t)(1u << bit % 8);
}

const struct wal_gset wal_any_group;

void wal_gset_join(struct wal_gset *s, const struct wal_gset *more)
{
	bool any = wal_gset_is_any(s) || wal_gset_is_any(more);

	for (unsigned i = 0; i < WAL_GSET_BYTES; i++)
		s->bits[i] = any ? 0 : s->bits[i] | more->bits[i];
}

bool wal_gset_is_any(const struct wal_gset *s)
{
	return memcmp(s, &wal_any_group, sizeof *s) == 0;
}

bool wal_gset_may_hold(const struct wal_gset *s, uint32_t group)
{
	unsigned bit = group % WAL_GSET_BITS;

	return wal_gset_is_any(s) || (s->bits[bit / 8] & 1u << bit % 8);
}

size_t wal_rec_size(size_t payload)
{
	return WAL_REC_HDR + VX_ALIGN_UP(payload, 8);
}

void wal_rhdr_put(uint8_t *p, const struct wal_rhdr *h)
{
	put_le32(p, REC_MAGIC);
	put_le32(p + 4, h->len);
	p[8] = h->type;
	p[9] = h->etype;
	put_le16(p + 10, 0);
	put_le32(p + 12, h->group);
	put_le64(p + 16, h->index);
	put_le64(p + 24, h->term);
	put_le64(p + 32, h->vote);
	memset(p + 40, 0, 24);
}

void wal_rec_seal(uint8_t *p, uint64_t tag, uint64_t seed)
{
	put_le64(p + 40, tag);
	put_le64(p + 48, hash_xxh3(p + WAL_REC_HDR, get_le32(p + 4), seed));
	put_le64(p + 56, hash_xxh3(p, 56, seed));
}

bool wal_rhdr_get(const uint8_t *p, uint64_t seed, struct wal_rhdr *ret)
{
	if (get_le32(p) != REC_MAGIC || get_le64(p + 56) != hash_xxh3(p, 56, seed))
		return false;
	*ret = (struct wal_rhdr){
		.len = get_le32(p + 4),
		.type = p[8],
		.etype = p[9],
		.group = get_le32(p + 12),
		.index = get_le64(p + 16),
		.term = get_le64(p + 24),
		.vote = get_le64(p + 32),
		.tag = get_le64(p + 40),
		.payload_sum = get_le64(p + 48),
	};
	return ret->type >= WAL_ENTRY && ret->type <= WAL_DROP && ret->len <= VX_ENTRY_BYTES_MAX;
}

bool wal_payload_ok(const struct wal_rhdr *h, const uint8_t *payload, uint64_t seed)
{
	return hash_xxh3(payload, h->len, seed) == h->payload_sum;
}

void wal_fhdr_put(uint8_t *p, const struct wal_fhdr *h, uint64_t seed)
{
	memset(p, 0, WAL_FRAME_HDR);
	put_le32(p, FRAME_MAGIC);
	put_le64(p + 8, h->number);
	put_le64(p + 16, h->tag);
	put_le32(p + 24, h->n_records);
	put_le32(p + 28, h->len);
	memcpy(p + 32, h->groups.bits, WAL_GSET_BYTES);
	memcpy(p + 32 + WAL_GSET_BYTES, h->before.bits, WAL_GSET_BYTES);
	put_le64(p + 56, hash_xxh3(p, 56, seed));
}

bool wal_fhdr_get(const uint8_t *p, uint64_t seed, struct wal_fhdr *ret)
{
	if (get_le32(p) != FRAME_MAGIC || get_le64(p + 56) != hash_xxh3(p, 56, seed))
		return false;
	*ret = (struct wal_fhdr){
		.number = get_le64(p + 8),
		.tag = get_le64(p + 16),
		.n_records = get_le32(p + 24),
		.len = get_le32(p + 28),
	};
	memcpy(ret->groups.bits, p + 32, WAL_GSET_BYTES);
	memcpy(ret->before.bits, p + 32 + WAL_GSET_BYTES, WAL_GSET_BYTES);
	return true;
}

/* The checksum covers the fixed part before it, then the rows seeded by that sum. */
static uint64_t shdr_sum(const uint8_t *p, unsigned n_groups)
{
	return hash_xxh3(p + WAL_HDR_FIXED, (size_t)n_groups * WAL_ROW, hash_xxh3(p, 120, 0));
}

void wal_shdr_put(uint8_t *p, const struct wal_shdr *h, struct wal *w)
{
	unsigned n = 0;

	for (size_t i = 0; i < w->n_groups; i++) {
		const struct wal_group *g = w->groups[i];
		if (!g->exists)
			continue;
		assert(n < WAL_GROUPS_MAX);
		uint8_t *r = p + WAL_HDR_FIXED + (size_t)n++ * WAL_ROW;
		put_le32(r, g->id);
		put_le32(r + 4, g->manifest.seg);
		put_le64(r + 8, g->term);
		put_le64(r + 16, g->vote);
		put_le64(r + 24, g->mark_index);
		put_le64(r + 32, g->mark_term);
		put_le64(r + 40, g->mark_index + 1);
		put_le64(r + 48, wal_group_last(g));
		put_le64(r + 56, g->stopped ? ROW_STOPPED : 0);
	}
	memcpy(p, seg_magic, sizeof seg_magic);
	put_le32(p + 8, WAL_VERSION);
	put_le32(p + 12, WAL_HDR_BYTES);
	put_le64(p + 16, h->node_id);
	put_le64(p + 24, h->nonce);
	put_le64(p + 32, h->segment_size);
	put_le32(p + 40, h->seq);
	put_le32(p + 44, n);
	put_le64(p + 48, h->prev_last);
	put_le64(p + 56, h->prev_end);
	memcpy(p + 64, h->before.bits, WAL_GSET_BYTES);
	put_le64(p + 120, shdr_sum(p, n));
}

int wal_shdr_get(const uint8_t *p, struct wal_shdr *ret, const char **ret_why)
{
	*ret_why = "no segment magic";
	if (memcmp(p, seg_magic, sizeof seg_magic) != 0)
		return -EUCLEAN;
	*ret_why = "impossible header size";
	if (get_le32(p + 12) != WAL_HDR_BYTES || get_le32(p + 44) > WAL_GROUPS_MAX)
		return -EUCLEAN;
	/* Before the version: a damaged version is damage, not another version. */
	*ret_why = "wrong header checksum";
	if (get_le64(p + 120) != shdr_sum(p, get_le32(p + 44)))
		return -EUCLEAN;
	*ret_why = "unknown version";
	if (get_le32(p + 8) != WAL_VERSION)
		return -EOPNOTSUPP;
	*ret = (struct wal_shdr){
		.node_id = get_le64(p + 16),
		.nonce = get_le64(p + 24),
		.segment_size = get_le64(p + 32),
		.seq = get_le32(p + 40),
		.n_groups = get_le32(p + 44),
		.prev_last = get_le64(p + 48),
		.prev_end = get_le64(p + 56),
	};
	memcpy(ret->before.bits, p + 64, WAL_GSET_BYTES);
	*ret_why = "impossible segment size";
	if (ret->segment_size < WAL_SEG_MIN || ret->segment_size > WAL_SEG_MAX ||
		ret->segment_size % WAL_BLOCK)
		return -EUCLEAN;
	*ret_why = "impossible frame number";
	if (ret->prev_last > INT64_MAX)
		return -EUCLEAN;
	return 0;
}

void wal_row_get(const uint8_t *hdr, unsigned i, struct wal_row *ret)
{
	const uint8_t *r = hdr + WAL_HDR_FIXED + (size_t)i * WAL_ROW;

	*ret = (struct wal_row){
		.group = get_le32(r),
		.manifest_seq = get_le32(r + 4),
		.term = get_le64(r + 8),
		.vote = get_le64(r + 16),
		.mark_index = get_le64(r + 24),
		.mark_term = get_le64(r + 32),
		.first = get_le64(r + 40),
		.last = get_le64(r + 48),
		.stopped = get_le64(r + 56) & ROW_STOPPED,
	};
}

bool wal_is_name(const char *name)
{
	bool spare = strncmp(name, "spare-", 6) == 0, stopped = strncmp(name, "stopped-", 8) == 0;
	const char *number = name + (spare ? 6 : stopped ? 8 : 0), *end = number + 10;

	if (strspn(number, "0123456789") != 10)
		return false;
	if (spare)
		return strcmp(end, ".seg") == 0 || strcmp(end, ".tmp") == 0;
	if (stopped)
		return *end == 0 || strcmp(end, ".tmp") == 0;
	if (strncmp(end, ".damaged", 8) != 0)
		return strcmp(end, ".wal") == 0;
	end += 8;
	if (*end == '-' && isdigit((unsigned char)end[1]))
		end += 1 + strspn(end + 1, "0123456789");
	return *end == 0 || strcmp(end, ".tmp") == 0;
}

void wal_path(const struct wal *w, char *ret, const char *kind, uint32_t n)
{
	int len;

	if (strcmp(kind, "wal") == 0)
		len = snprintf(ret, WAL_PATH_MAX, "%s/%010u.wal", w->dir, n);
	else if (strcmp(kind, "damaged") == 0)
		len = snprintf(ret, WAL_PATH_MAX, "%s/%010u.damaged", w->dir, n);
	else
		len = snprintf(ret, WAL_PATH_MAX, "%s/spare-%010u.%s", w->dir, n, kind);
	assert((unsigned)len < WAL_PATH_MAX);
}
