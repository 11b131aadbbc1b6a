/* pagesum.h - a checksum in every page of our SQLite files.
 *
 * SQLite as Debian builds it believes what it reads: a flipped bit in a record's row is an answer like any
 * other.  This VFS, a thin layer over SQLite's own, keeps an XXH3 of each page, seeded with the page's
 * place, in the last 8 of its 4,096 bytes, which SQLite leaves alone when asked to (pagesum_reserve).  It is
 * made when a page is written to the database file and verified when it is read from there; a wrong one
 * is SQLITE_CORRUPT.  Frames of the -wal file have checksums of SQLite's own, verified when a file is
 * opened; what is cut off there is noticed by claim.h.
 *
 * Every file has them: nothing in a file can say that it has not.  One that was made without this VFS is refused as
 * damaged.  docs/format-store.md has the bytes.
 */
#ifndef VECFS_STORE_PAGESUM_H
#define VECFS_STORE_PAGESUM_H

#include <sqlite3.h>

#include "base/base.h"

#define PAGESUM_VFS "vecfs-pagesum"

/* Before the first sqlite3_open_v2 with PAGESUM_VFS.  Thread-safe.  An SQLite code. */
VX_MUST_CHECK
int pagesum_register(void);

/* Asks for checksums in a database that has no page yet; no change to one that has. */
VX_MUST_CHECK
int pagesum_reserve(sqlite3 *c);

/* The pages that this thread found damaged since it last forgot them: offsets in their file, the first
 * PAGESUM_BAD_MAX of them.  For verify.c. */
#define PAGESUM_BAD_MAX 64u
unsigned pagesum_bad(const uint64_t **ret_at);
void pagesum_bad_forget(void);

#endif
