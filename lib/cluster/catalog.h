/* catalog.h - payloads of the catalog's entries (docs/format-catalog.md).  Private to lib/cluster.
 *
 *	byte 0      enum catalog_op
 *	CREATE      name (u8 length, bytes); u16 options, each key (u8, bytes) and value (u16, bytes);
 *	            u16 placements, each first (u16), last (u16), shard (u32)
 *	DROP        u32 cid
 *	SET_DIM     u32 cid, u32 dimension: compare-and-set from 0; seals the collection
 *	SET_OPTION  u32 cid, key, value
 *	RENAME      u32 cid, name, u8 replace: a collection of that name is dropped if 1, else EEXIST
 */
#ifndef VECFS_CLUSTER_CATALOG_H
#define VECFS_CLUSTER_CATALOG_H

#include "base/bytes.h"
#include "cluster/db_i.h"

VX_MUST_CHECK
int cat_put_pair(struct buf *b, const char *key, const char *value);
VX_MUST_CHECK
int cat_put_name(struct buf *b, const char *name);
/* Wraps a payload into a finished entry of the meta group; *ret_entry is malloc'd. */
VX_MUST_CHECK
int cat_entry(const struct buf *payload, void **ret_entry, size_t *ret_len);

#endif
