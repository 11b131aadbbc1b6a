/* entry.c - the bytes of a log entry.
 *
 * docs/format-store.md, "Entries", has the byte tables.  An entry is a header of 96 bytes with a
 * checksum of its own and a payload with another, so that a reader can trust the lengths before it
 * looks at what they measure.  Every record takes a multiple of 8 bytes and the vector comes first
 * after the fixed part: in an entry whose address is a multiple of 8 every vector is aligned, and
 * apply uses it where it lies.
 *
 * The checksums prove that the bytes are the ones that were written, not that who wrote them was
 * right; entry_next() therefore still bounds every length, and padding must be zero so that one
 * record has one encoding.
 */
#include "store/entry.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"

#define ENTRY_MAGIC 0x4e455856u /* "VXEN" */

/* Offsets in the header. */
enum {
	H_MAGIC = 0,
	H_FORMAT = 4,
	H_KIND = 6,
	H_CID = 8,
	H_SCHEMA_EPOCH = 12,
	H_MAP_EPOCH = 16,
	H_COUNT = 20,
	H_TIME = 24,
	H_ORIGIN = 32,
	H_SEQ = 40,
	H_TXN = 48,
	H_PART = 56,
	H_PAYLOAD_LEN = 60,
	H_PAYLOAD_SUM = 64,
	H_RESERVED = 72,
	H_SUM = 88,
};

/* Offsets in a record, and in a field of it. */
enum {
	R_OP = 0,
	R_FLAGS = 1,
	R_ID_LEN = 2,
	R_FIELDS = 3,
	R_SIZE = 4,
	R_META_LEN = 8,
	R_TEXT_LEN = 12,
	R_IF_VERSION = 16,
	R_FIXED = 24,

	F_NUMBER = 0,
	F_TYPE = 2,
	F_DIM = 4,
	F_FIXED = 8,
};

enum { FLAG_IF_VERSION = 1, FLAG_META = 2, FLAG_TEXT = 4, FLAGS_ALL = 7 };
enum { ELEM_F32 = 1 };

static uint64_t header_sum(const uint8_t *p)
{
	return hash_xxh3(p, H_SUM, ENTRY_MAGIC);
}

int entry_begin(struct buf *b, const struct entry_header *h)
{
	assert(h->kind >= ENTRY_DATA && h->kind <= ENTRY_TXN);
	int rc = buf_reserve(b, ENTRY_HEADER_SIZE);
	if (rc)
		return rc;
	memset(b->data + b->len, 0, ENTRY_HEADER_SIZE);
	b->len += ENTRY_HEADER_SIZE;
	return 0;
}

static size_t padded(size_t n)
{
	return VX_ALIGN_UP(n, (size_t)8);
}

size_t entry_rec_size(const struct entry_rec *r)
{
	size_t n = R_FIXED;

	if (r->op != REC_DELETE)
		n += F_FIXED + padded((size_t)r->rec.dim * sizeof(float)) + r->rec.meta_len +
		     r->rec.text_len;
	return padded(n + r->rec.id_len);
}

int entry_add(struct buf *b, const struct entry_rec *r)
{
	const struct vx_record *rec = &r->rec;
	bool stores = r->op != REC_DELETE;

	assert(r->op >= REC_UPSERT && r->op <= REC_DELETE);
	assert(rec->id_len >= 1 && rec->id_len <= VX_ID_MAX);
	assert(!stores || (rec->dim >= 1 && rec->dim <= VX_DIM_MAX));
	if (stores && (rec->meta_len > VX_META_MAX || rec->text_len > VX_TEXT_MAX))
		return -EMSGSIZE;

	size_t size = entry_rec_size(r);
	int rc = buf_reserve(b, size);
	if (rc)
		return rc;
	uint8_t *p = b->data + b->len;
	memset(p, 0, R_FIXED);
	p[R_OP] = r->op;
	p[R_ID_LEN] = (uint8_t)rec->id_len;
	put_le32(p + R_SIZE, (uint32_t)size);
	if (r->has_if_version) {
		p[R_FLAGS] |= FLAG_IF_VERSION;
		put_le64(p + R_IF_VERSION, r->if_version);
	}
	uint8_t *q = p + R_FIXED;
	if (stores) {
		size_t bytes = (size_t)rec->dim * sizeof(float);
		p[R_FIELDS] = 1;
		put_le16(q + F_NUMBER, 0);
		q[F_TYPE] = ELEM_F32;
		q[F_TYPE + 1] = 0;
		put_le32(q + F_DIM, rec->dim);
		q += F_FIXED;
		memcpy(q, rec->vec, bytes);
		memset(q + bytes, 0, padded(bytes) - bytes);
		q += padded(bytes);
	}
	memcpy(q, rec->id, rec->id_len);
	q += rec->id_len;
	if (stores && rec->meta) {
		p[R_FLAGS] |= FLAG_META;
		put_le32(p + R_META_LEN, (uint32_t)rec->meta_len);
		memcpy(q, rec->meta, rec->meta_len);
		q += rec->meta_len;
	}
	if (stores && rec->text) {
		p[R_FLAGS] |= FLAG_TEXT;
		put_le32(p + R_TEXT_LEN, (uint32_t)rec->text_len);
		memcpy(q, rec->text, rec->text_len);
		q += rec->text_len;
	}
	memset(q, 0, (size_t)(p + size - q));
	b->len += size;
	return 0;
}

void entry_finish(struct buf *b, size_t start, const struct entry_header *h, uint32_t count)
{
	assert(b->len >= start + ENTRY_HEADER_SIZE);
	uint8_t *p = b->data + start;
	size_t payload = b->len - start - ENTRY_HEADER_SIZE;
	assert(payload <= UINT32_MAX);

	put_le32(p + H_MAGIC, ENTRY_MAGIC);
	put_le16(p + H_FORMAT, ENTRY_FORMAT);
	p[H_KIND] = h->kind;
	put_le32(p + H_CID, h->cid);
	put_le32(p + H_SCHEMA_EPOCH, h->schema_epoch);
	put_le32(p + H_MAP_EPOCH, h->map_epoch);
	put_le32(p + H_COUNT, count);
	put_le64(p + H_TIME, h->time_ns);
	put_le64(p + H_ORIGIN, h->origin);
	put_le64(p + H_SEQ, h->seq);
	put_le64(p + H_TXN, h->txn);
	put_le32(p + H_PART, h->part);
	put_le32(p + H_PAYLOAD_LEN, (uint32_t)payload);
	put_le64(p + H_PAYLOAD_SUM, hash_xxh3(p + ENTRY_HEADER_SIZE, payload, 0));
	put_le64(p + H_SUM, header_sum(p));
}

void entry_stamp(void *entry, uint64_t time_ns, uint64_t origin, uint64_t seq)
{
	uint8_t *p = entry;

	assert(get_le32(p + H_MAGIC) == ENTRY_MAGIC);
	put_le64(p + H_TIME, time_ns);
	put_le64(p + H_ORIGIN, origin);
	put_le64(p + H_SEQ, seq);
	put_le64(p + H_SUM, header_sum(p));
}

int entry_open(struct entry_reader *r, const void *p, size_t n)
{
	const uint8_t *b = p;

	if (n < ENTRY_HEADER_SIZE || get_le32(b + H_MAGIC) != ENTRY_MAGIC)
		return -EUCLEAN;
	/* The place of the header's checksum is the one thing all formats share. */
	if (get_le64(b + H_SUM) != header_sum(b))
		return -EUCLEAN;
	if (get_le16(b + H_FORMAT) > ENTRY_FORMAT)
		return -EOPNOTSUPP;

	struct entry_reader e = {
		.h =
			{
				.format = get_le16(b + H_FORMAT),
				.kind = b[H_KIND],
				.cid = get_le32(b + H_CID),
				.schema_epoch = get_le32(b + H_SCHEMA_EPOCH),
				.map_epoch = get_le32(b + H_MAP_EPOCH),
				.time_ns = get_le64(b + H_TIME),
				.origin = get_le64(b + H_ORIGIN),
				.seq = get_le64(b + H_SEQ),
				.txn = get_le64(b + H_TXN),
				.part = get_le32(b + H_PART),
				.count = get_le32(b + H_COUNT),
			},
		.payload = b + ENTRY_HEADER_SIZE,
		.payload_len = get_le32(b + H_PAYLOAD_LEN),
	};
	if (e.h.format != ENTRY_FORMAT || e.h.kind < ENTRY_DATA || e.h.kind > ENTRY_TXN)
		return -EUCLEAN;
	if (e.payload_len != n - ENTRY_HEADER_SIZE)
		return -EUCLEAN;
	if (get_le64(b + H_PAYLOAD_SUM) != hash_xxh3(e.payload, e.payload_len, 0))
		return -EUCLEAN;
	/* No record is shorter than its fixed part and one padded id. */
	if (e.h.kind == ENTRY_DATA && e.h.count > e.payload_len / (R_FIXED + 8))
		return -EUCLEAN;
	e.left = e.h.kind == ENTRY_DATA ? e.h.count : 0;
	e.rd = (struct bytes_reader){.p = e.payload, .left = e.payload_len};
	*r = e;
	return 0;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= p[i];
	return any == 0;
}

/* The one vector a record of this format holds. */
static int read_field(struct bytes_reader *rd, struct vx_record *rec)
{
	const uint8_t *f = rd_bytes(rd, F_FIXED);
	if (!f || get_le16(f + F_NUMBER) != 0 || f[F_TYPE] != ELEM_F32 || f[F_TYPE + 1] != 0)
		return -EUCLEAN;
	uint32_t dim = get_le32(f + F_DIM);
	if (dim < 1 || dim > VX_DIM_MAX)
		return -EUCLEAN;
	size_t bytes = (size_t)dim * sizeof(float);
	const uint8_t *v = rd_bytes(rd, padded(bytes));
	if (!v || !is_zero(v + bytes, padded(bytes) - bytes))
		return -EUCLEAN;
	rec->vec = (const float *)(const void *)v;
	rec->dim = dim;
	return 0;
}

int entry_next(struct entry_reader *r, struct entry_rec *ret)
{
	struct entry_rec e = {.op = 0};

	if (r->left == 0)
		return r->rd.left == 0 ? 0 : -EUCLEAN;
	if (r->rd.left < R_FIXED)
		return -EUCLEAN;
	const uint8_t *p = r->rd.p;
	size_t size = get_le32(p + R_SIZE);
	if (size % 8 || size < R_FIXED + 8 || size > r->rd.left)
		return -EUCLEAN;
	struct bytes_reader rd = {.p = p + R_FIXED, .left = size - R_FIXED};
	unsigned flags = p[R_FLAGS];
	uint32_t meta_len = get_le32(p + R_META_LEN), text_len = get_le32(p + R_TEXT_LEN);

	e.op = p[R_OP];
	e.rec.id_len = p[R_ID_LEN];
	e.has_if_version = flags & FLAG_IF_VERSION;
	e.if_version = get_le64(p + R_IF_VERSION);
	if (e.op < REC_UPSERT || e.op > REC_DELETE || (flags & ~(unsigned)FLAGS_ALL))
		return -EUCLEAN;
	if (e.rec.id_len < 1 || e.rec.id_len > VX_ID_MAX)
		return -EUCLEAN;
	if (p[R_FIELDS] != (e.op == REC_DELETE ? 0 : 1) || (!e.has_if_version && e.if_version))
		return -EUCLEAN;
	if (e.op == REC_DELETE && (flags & (FLAG_META | FLAG_TEXT)))
		return -EUCLEAN;
	if (meta_len > VX_META_MAX || text_len > VX_TEXT_MAX)
		return -EUCLEAN;
	if ((!(flags & FLAG_META) && meta_len) || (!(flags & FLAG_TEXT) && text_len))
		return -EUCLEAN;
	if (e.op != REC_DELETE) {
		int rc = read_field(&rd, &e.rec);
		if (rc)
			return rc;
	}
	e.rec.id = rd_bytes(&rd, e.rec.id_len);
	if (flags & FLAG_META) {
		e.rec.meta = rd_bytes(&rd, meta_len);
		e.rec.meta_len = meta_len;
	}
	if (flags & FLAG_TEXT) {
		e.rec.text = rd_bytes(&rd, text_len);
		e.rec.text_len = text_len;
	}
	if (rd.bad || rd.left >= 8 || !is_zero(rd.p, rd.left))
		return -EUCLEAN;
	r->rd.p += size;
	r->rd.left -= size;
	r->left--;
	*ret = e;
	return 1;
}

/* --- transactions -------------------------------------------------------------- */

enum { T_OP = 0, T_PARTS = 4, T_COUNT = 8, T_FIXED = 16, T_OTHER = 8 };

int txn_step_encode(const struct txn_step *s, struct buf *out)
{
	assert(s->op >= TXN_DECIDE && s->op <= TXN_END);
	assert(s->n <= TXN_PARTICIPANTS_MAX);
	size_t size = T_FIXED + (size_t)s->n * T_OTHER;
	int rc = buf_reserve(out, size);
	if (rc)
		return rc;
	uint8_t *p = out->data + out->len;
	memset(p, 0, T_FIXED);
	p[T_OP] = s->op;
	put_le32(p + T_PARTS, s->parts);
	put_le32(p + T_COUNT, s->n);
	for (uint32_t i = 0; i < s->n; i++) {
		put_le32(p + T_FIXED + (size_t)i * T_OTHER, s->others[i].shard);
		put_le32(p + T_FIXED + (size_t)i * T_OTHER + 4, s->others[i].parts);
	}
	out->len += size;
	return 0;
}

int txn_step_decode(const void *buf, size_t n, struct txn_step *ret)
{
	const uint8_t *p = buf;

	if (n < T_FIXED || !is_zero(p + 1, T_PARTS - 1) || !is_zero(p + 12, T_FIXED - 12))
		return -EUCLEAN;
	uint32_t others = get_le32(p + T_COUNT);
	if (p[T_OP] < TXN_DECIDE || p[T_OP] > TXN_END || others > TXN_PARTICIPANTS_MAX ||
		n != T_FIXED + (size_t)others * T_OTHER || (others && p[T_OP] != TXN_DECIDE))
		return -EUCLEAN;
	ret->op = p[T_OP];
	ret->parts = get_le32(p + T_PARTS);
	ret->n = others;
	for (uint32_t i = 0; i < others; i++) {
		ret->others[i].shard = get_le32(p + T_FIXED + (size_t)i * T_OTHER);
		ret->others[i].parts = get_le32(p + T_FIXED + (size_t)i * T_OTHER + 4);
	}
	return 0;
}

/* --- schema ------------------------------------------------------------------- */

#define SCHEMA_MAGIC  0x43535856u /* "VXSC" */
#define SCHEMA_FORMAT 1u
#define SCHEMA_SIZE   72u

int slice_schema_encode(const struct slice_schema *s, struct buf *out)
{
	int rc = buf_reserve(out, SCHEMA_SIZE);
	if (rc)
		return rc;
	uint8_t *p = out->data + out->len;
	memset(p, 0, SCHEMA_SIZE);
	put_le32(p, SCHEMA_MAGIC);
	put_le16(p + 4, SCHEMA_FORMAT);
	p[6] = s->metric;
	put_le32(p + 8, s->cid);
	put_le32(p + 12, s->epoch);
	put_le32(p + 16, s->dim);
	put_le32(p + 20, s->m);
	put_le32(p + 24, s->ef_construction);
	memcpy(p + 32, s->index, strnlen(s->index, sizeof s->index - 1));
	memcpy(p + 48, s->quant, strnlen(s->quant, sizeof s->quant - 1));
	put_le64(p + 64, hash_xxh3(p, 64, SCHEMA_MAGIC));
	out->len += SCHEMA_SIZE;
	return 0;
}

int slice_schema_decode(const void *buf, size_t n, struct slice_schema *ret)
{
	const uint8_t *p = buf;

	if (n != SCHEMA_SIZE || get_le32(p) != SCHEMA_MAGIC)
		return -EUCLEAN;
	if (get_le64(p + 64) != hash_xxh3(p, 64, SCHEMA_MAGIC))
		return -EUCLEAN;
	if (get_le16(p + 4) > SCHEMA_FORMAT)
		return -EOPNOTSUPP;
	struct slice_schema s = {
		.cid = get_le32(p + 8),
		.epoch = get_le32(p + 12),
		.dim = get_le32(p + 16),
		.metric = p[6],
		.m = get_le32(p + 20),
		.ef_construction = get_le32(p + 24),
	};
	memcpy(s.index, p + 32, sizeof s.index);
	memcpy(s.quant, p + 48, sizeof s.quant);
	if (get_le16(p + 4) != SCHEMA_FORMAT || s.dim < 1 || s.dim > VX_DIM_MAX)
		return -EUCLEAN;
	if (s.metric > VX_IP || s.index[sizeof s.index - 1] || s.quant[sizeof s.quant - 1])
		return -EUCLEAN;
	*ret = s;
	return 0;
}
