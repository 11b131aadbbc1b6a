/* record.h - a record as it travels between codecs, the router and the store.
 *
 * All pointers are borrowed: whoever fills a record says how long they live.
 * Strings are not NUL-terminated; NULL with length 0 means "absent".
 */
#ifndef VECFS_BASE_RECORD_H
#define VECFS_BASE_RECORD_H

#include "base/err.h"

struct vx_record {
	const char *id; /* UTF-8, 1..VX_ID_MAX bytes */
	size_t id_len;
	const float *vec; /* dim values; aligned to 4 */
	uint32_t dim;
	const char *meta; /* a JSON object, compact */
	size_t meta_len;
	const char *text; /* UTF-8 */
	size_t text_len;
	uint64_t line; /* where it came from, 1-based: line or row; 0 unknown */
};

/* 0, or -EINVAL/-ENAMETOOLONG with the reason: empty, over VX_ID_MAX bytes once
 * percent-encoded, not UTF-8, or with control characters. */
VX_MUST_CHECK
int vx_id_check(const char *id, size_t len, struct vx_err *err);

/* 0, or -EINVAL: [A-Za-z0-9][A-Za-z0-9_.-]{0,63}. */
VX_MUST_CHECK
int vx_name_check(const char *name, struct vx_err *err);

/* Whether 'n' bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool vx_utf8_valid(const char *s, size_t n);

/* File-name form of an id: '/', '%' and a leading '.' become %XX.  'ret' holds at
 * least 3 * VX_ID_MAX + 1 bytes; returns the length, NUL added. */
size_t vx_id_encode(const char *id, size_t len, char *ret);

/* The reverse; -EINVAL when a '%' is not followed by two hex digits.  'ret' holds at
 * least strlen(name) + 1 bytes. */
VX_MUST_CHECK
int vx_id_decode(const char *name, size_t len, char *ret, size_t *ret_len);

#endif
