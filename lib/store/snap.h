/* snap.h - the files of one slice in a snapshot: writing them, and reading records back.
 *
 *	slice_snap(sl, dir, "s003", &info, &err)	DATA/snapshots/docs/.NAME.new-...
 *	    s003.meta.db	SQLite, as it was after the entry info.applied
 *	    s003.000000.vec ...	the segments of the generation, the last one cut at the last slot
 *
 *	snap_reader_open(dir, "s003", &r, &err)
 *	while (snap_reader_next(r, &rec, &err) == 0) ...
 *	snap_reader_close(r)
 *
 * A snapshot is read on its own: nothing here looks at the shard that it came from.  Full segments are
 * never written again, so they are hard links where the file system allows it.
 *
 * Threads: slice_snap by anyone, beside everything else, with the slice pinned; a reader has one owner.
 */
#ifndef VECFS_STORE_SNAP_H
#define VECFS_STORE_SNAP_H

#include "store/store.h"

struct snap_slice {
	uint64_t applied; /* of the last entry of this slice that is in it */
	uint64_t count;   /* records */
	uint64_t slots;
	uint32_t generation;
	uint32_t dim, cid;
};

/* Bytes of disk that slice_snap may take (links cost nothing). */
uint64_t slice_snap_need(struct slice *sl);

/* Writes the slice's files into an existing directory; nothing is synced.  The state is that after one
 * entry, whatever is applied meanwhile.  -EAGAIN: entries of the log are still repairing it; -ENOENT: dropped
 * meanwhile; -ENOSPC, -EIO, -EUCLEAN.  What was written is left for the caller to remove. */
VX_MUST_CHECK
int slice_snap(struct slice *sl, const char *dir, const char *prefix, struct snap_slice *ret,
	struct vx_err *err);

struct snap_reader;
/* -EUCLEAN: these are no files of a slice, or damaged ones. */
VX_MUST_CHECK
int snap_reader_open(
	const char *dir, const char *prefix, struct snap_reader **ret, struct vx_err *err);
void snap_reader_stat(const struct snap_reader *r, struct snap_slice *ret);
/* The next record, borrowed until the next call, with all its parts; its row and its vector are verified.
 * -ENOENT at the end, when all that the slice counts have come; -EUCLEAN. */
VX_MUST_CHECK
int snap_reader_next(struct snap_reader *r, struct vx_record *ret, struct vx_err *err);
void snap_reader_close(struct snap_reader *r);

#endif
