/* bytes.h - little-endian fields and a growable byte buffer.
 *
 * Every format on disk and on the wire is read and written through these;
 * nothing casts a struct.  A 'struct buf' is owned by one thread at a time.
 */
#ifndef VECFS_BASE_BYTES_H
#define VECFS_BASE_BYTES_H

#include <string.h>

#include "base/base.h"

/* --- little-endian, unaligned ------------------------------------------- */
static inline uint16_t get_le16(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] | (unsigned)b[1] << 8);
}
static inline uint32_t get_le32(const void *p)
{
	const uint8_t *b = p;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t get_le64(const void *p)
{
	const uint8_t *b = p;
	return (uint64_t)get_le32(b) | (uint64_t)get_le32(b + 4) << 32;
}
static inline void put_le16(void *p, uint16_t v)
{
	uint8_t *b = p;
	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
}
static inline void put_le32(void *p, uint32_t v)
{
	put_le16(p, (uint16_t)v);
	put_le16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}
static inline void put_le64(void *p, uint64_t v)
{
	put_le32(p, (uint32_t)v);
	put_le32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

/* --- growable buffer ------------------------------------------------------ */
struct buf {
	uint8_t *data; /* malloc'd; NULL while cap == 0 */
	size_t len;
	size_t cap;
};

#define BUF_INIT                                                                                   \
	{                                                                                          \
		.data = NULL, .len = 0, .cap = 0                                                   \
	}

void buf_release(struct buf *b);

/* The slow part of buf_reserve: n does not fit. */
VX_MUST_CHECK
int buf_grow(struct buf *b, size_t n);

/* Makes room for 'n' more bytes after 'len'.  -ENOMEM leaves the buffer as it was. */
VX_MUST_CHECK
static inline int buf_reserve(struct buf *b, size_t n)
{
	return VX_LIKELY(n <= b->cap - b->len) ? 0 : buf_grow(b, n);
}

VX_MUST_CHECK
static inline int buf_append(struct buf *b, const void *p, size_t n)
{
	int rc = buf_reserve(b, n);
	if (rc)
		return rc;
	if (n)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	return 0;
}

VX_MUST_CHECK
int buf_printf(struct buf *b, const char *fmt, ...) VX_PRINTF(2, 3);

/* Drops the first 'n' bytes (n <= len). */
void buf_consume(struct buf *b, size_t n);

/* Appends a NUL that 'len' does not count, so that data reads as a C string. */
VX_MUST_CHECK
int buf_cstr(struct buf *b);

VX_MUST_CHECK
static inline int buf_put_u8(struct buf *b, uint8_t v)
{
	return buf_append(b, &v, 1);
}
VX_MUST_CHECK
static inline int buf_put_le16(struct buf *b, uint16_t v)
{
	uint8_t t[2];
	put_le16(t, v);
	return buf_append(b, t, sizeof t);
}
VX_MUST_CHECK
static inline int buf_put_le32(struct buf *b, uint32_t v)
{
	uint8_t t[4];
	put_le32(t, v);
	return buf_append(b, t, sizeof t);
}
VX_MUST_CHECK
static inline int buf_put_le64(struct buf *b, uint64_t v)
{
	uint8_t t[8];
	put_le64(t, v);
	return buf_append(b, t, sizeof t);
}

/* --- bounded reader --------------------------------------------------------- */
/* Reads fields in order; past the end every getter returns 0 and 'bad' stays set. */
struct bytes_reader {
	const uint8_t *p;
	size_t left;
	bool bad;
};

static inline const void *rd_bytes(struct bytes_reader *r, size_t n)
{
	if (r->bad || n > r->left) {
		r->bad = true;
		return NULL;
	}
	const uint8_t *p = r->p;
	r->p += n;
	r->left -= n;
	return p;
}
static inline uint8_t rd_u8(struct bytes_reader *r)
{
	const uint8_t *p = rd_bytes(r, 1);
	return p ? *p : 0;
}
static inline uint16_t rd_le16(struct bytes_reader *r)
{
	const void *p = rd_bytes(r, 2);
	return p ? get_le16(p) : 0;
}
static inline uint32_t rd_le32(struct bytes_reader *r)
{
	const void *p = rd_bytes(r, 4);
	return p ? get_le32(p) : 0;
}
static inline uint64_t rd_le64(struct bytes_reader *r)
{
	const void *p = rd_bytes(r, 8);
	return p ? get_le64(p) : 0;
}

#endif
