/* wal_view.h - a look at a log that nobody writes, damaged or not.
 *
 *	wal_view(disk_real(), "DATA/wal", &ops, ctx, &err)
 *
 * Reads every segment and calls back for each header, row of its table, frame, record and every place that is not
 * what it should be, in the order of the files.  Unlike wal_open it goes on behind damage, at the next block in which
 * a frame of the segment's own begins, so all that can be read is shown.  Nothing is changed on disk, and
 * nothing of the log is believed before its checksum: a header's own, then a record's, then its payload's.
 *
 * Whether what ends the last segment is a torn flush or damage is told as wal_open tells it; the groups themselves
 * (gaps, marks that go back) are not followed here.
 *
 * Beside the daemon that writes the log, wal_view_served looks at what cannot change any more: all of each older segment, and of
 * the current one what was flushed when it began.  A segment that is given back meanwhile is left out.
 */
#ifndef VECFS_WAL_WAL_VIEW_H
#define VECFS_WAL_WAL_VIEW_H

#include "base/disk.h"
#include "base/err.h"
#include "wal/wal.h"

struct wal_view_segment {
	const char *file; /* name in the directory */
	uint32_t seq;
	uint64_t size_bytes; /* of the file */
	bool valid;          /* the header is; else the rest is zero */
	uint64_t node_id, nonce, segment_bytes, prev_last, prev_end;
	uint32_t n_groups;
};
struct wal_view_row {
	uint32_t group;
	uint64_t term, vote, mark_index, mark_term, first, last;
	bool stopped; /* damage concerned it before this segment was begun */
};
struct wal_view_frame {
	const char *file;
	uint64_t offset, number;
	uint32_t len, n_records;
};
struct wal_view_record {
	const char *file;
	uint64_t offset; /* of the record's header */
	uint64_t frame;  /* number */
	uint32_t group;
	uint8_t type, etype;
	uint64_t index, term, vote;
	const void *data; /* the payload, 8-aligned; borrowed during the call */
	uint32_t len;
	bool payload_ok;
};
struct wal_view_damage {
	const char *file;
	uint64_t offset;
	const char *why;
	bool torn; /* the end of the last segment: nobody was told of this flush, a start cuts it off */
};

/* Each may be NULL; a result other than 0 ends the view with it. */
struct wal_view_ops {
	int (*segment)(void *ctx, const struct wal_view_segment *s);
	int (*row)(void *ctx, const struct wal_view_row *r);
	int (*frame)(void *ctx, const struct wal_view_frame *f);
	int (*record)(void *ctx, const struct wal_view_record *r);
	int (*damage)(void *ctx, const struct wal_view_damage *d);
};

/* What the writer of the log says of it: wal_stat, from any thread. */
typedef void wal_view_stat(void *ctx, struct wal_stats *ret);

/* 0 also for a damaged log.  -ENOENT: there is no such directory, -ENODATA: it has no segment; -EIO, -ENOMEM. */
VX_MUST_CHECK
int wal_view(struct disk *disk, const char *dir, const struct wal_view_ops *ops, void *ctx,
	struct vx_err *err);

/* The same of a log that is being written.  Nothing in it is torn: all of it was flushed. */
VX_MUST_CHECK
int wal_view_served(struct disk *disk, const char *dir, const struct wal_view_ops *ops,
	wal_view_stat *stat, void *ctx, struct vx_err *err);

#endif
