/* claim.h - what a SQLite file is known to hold, kept beside it.
 *
 * SQLite ends a damaged -wal file at the first bad frame and goes on with what was before it, as it must
 * after a crash.  Behind a mark nothing may be missing any more: the mark leaves the applied index that it
 * has just synced in a small file, and whoever opens the database finds it damaged when it has less.
 *
 * The claim is written after what it claims is on disk, and is not synced itself: whenever it
 * gets there it is true.  One that is missing, torn or damaged claims nothing.
 */
#ifndef VECFS_STORE_CLAIM_H
#define VECFS_STORE_CLAIM_H

#include "base/disk.h"

VX_MUST_CHECK
int claim_write(struct disk *d, const char *path, uint64_t applied);

/* -ENOENT; -ENODATA: short or empty, as a power cut may leave it; -EUCLEAN: damaged. */
VX_MUST_CHECK
int claim_load(struct disk *d, const char *path, uint64_t *ret);

/* 0: nothing is claimed. */
uint64_t claim_read(struct disk *d, const char *path);

#endif
