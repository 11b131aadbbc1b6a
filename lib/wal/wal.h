/* wal.h - the node's shared write-ahead log.
 *
 * One log per node holds the entries, terms, votes and marks of all its Raft
 * groups.  The core is a step function: wal_stage() encodes records into a
 * pending frame in memory, wal_flush() makes the frame durable with one write
 * and one fdatasync.  A thin pump (wal_writer.h) runs it on a thread of its own;
 * a simulator runs it on virtual time over a fake disk.
 *
 *	wal_open(disk_real(), "DATA/wal", &opts, &w, &err)
 *	wal_group_load(w, 1, &state)            what survived, for raft_io.load
 *	wal_stage(w, &rec) ... wal_flush(w)     durable
 *	wal_close(w)
 *
 * Format: docs/format-wal.md.  Files: wal.c (stage, flush, load), wal_format.c (bytes),
 * wal_group.c (what is known of a group), wal_recover.c (open and scan), wal_doubt.c (which
 * groups damage concerns), wal_stop.c (verdicts and evidence),
 * wal_space.c (segments and spares), wal_sync.c (io_uring and pwrite back ends),
 * wal_writer.c (thread).
 *
 * Threads: one thread owns a 'struct wal' after wal_open (the log writer, or the
 * simulator).  wal_stat() alone may be called by anyone.
 * Errors: after a failed write or fdatasync the log is BROKEN: every later call
 * returns -EIO and nothing is ever retried.
 */
#ifndef VECFS_WAL_WAL_H
#define VECFS_WAL_WAL_H

#include "base/base.h"
#include "base/bytes.h"
#include "base/disk.h"
#include "base/err.h"

#define WAL_GROUPS_MAX 512u

enum wal_type {
	WAL_ENTRY = 1,     /* a Raft entry: index, term, etype, data */
	WAL_TRUNCATE = 2,  /* entries from 'index' on are gone */
	WAL_HARDSTATE = 3, /* term, vote */
	/* Entries up to 'index' (term 'term') are in the store; data: manifest.  The log notes with it where the group
	 * ends, and its term and vote. */
	WAL_MARK = 4,
	WAL_RESET = 5, /* as MARK, and the whole log of the group is discarded (install) */
	WAL_DROP = 6,  /* the group left this node */
};

struct wal_rec {
	uint32_t group;
	uint8_t type;  /* enum wal_type */
	uint8_t etype; /* ENTRY: libraft's entry type */
	uint64_t index;
	uint64_t term;
	uint64_t vote;    /* HARDSTATE; not the caller's in MARK */
	const void *data; /* ENTRY, MARK, RESET; borrowed */
	size_t len;       /* at most VX_ENTRY_BYTES_MAX */
};

enum wal_backend { WAL_AUTO = 0, WAL_URING = 1, WAL_PWRITE = 2 };

struct wal_opts {
	uint64_t segment_size_bytes; /* 0: 64 MiB; tests use small ones */
	unsigned spare_segments;     /* prefilled segments kept ready; 0: 1 */
	enum wal_backend backend;    /* AUTO: io_uring, or pwrite where it is refused */
	uint64_t node_id;            /* stamped into segments; a foreign segment is refused */
	/* Groups first..first+n-1 may be stopped alone when damage concerns them.  Where it
	 * concerns another, or n is 0, the open is refused. */
	uint32_t stop_first, n_stop;
};

struct wal;

/* Opens or creates the log in 'dir' (which exists).  A torn tail of the last
 * segment is cut off.  Damage before a later flush stops the groups that it may
 * concern, if 'opts' lets it (wal_stopped); first, copies of the segments with what is
 * left of them are made, and the verdict is written.  Otherwise it is -EUCLEAN with the
 * segment, offset and suspect groups in 'err', and nothing is changed on disk.  What lies
 * below later marks concerns nobody, and is logged.
 * -ENOSPC: no room for the first segment.  -ENAMETOOLONG: of 'dir' and the names in it. */
VX_MUST_CHECK
int wal_open(struct disk *disk, const char *dir, const struct wal_opts *opts, struct wal **ret,
	struct vx_err *err);

/* Drops what is staged but not flushed.  NULL is fine. */
void wal_close(struct wal *w);

/* What survived of one group.  Free with wal_group_state_release. */
struct wal_entry {
	uint64_t index;
	uint64_t term;
	uint8_t etype;
	void *data; /* malloc'd, 'len' bytes */
	size_t len;
};
struct wal_group_state {
	bool exists; /* false: the group has never been written */
	uint64_t term;
	uint64_t vote;
	uint64_t mark_index; /* 0: none */
	uint64_t mark_term;
	void *manifest; /* data of the last MARK or RESET; malloc'd */
	size_t manifest_len;
	struct wal_entry *entries; /* contiguous; first is at most mark_index + 1 */
	size_t n_entries;
};
VX_MUST_CHECK
int wal_group_load(struct wal *w, uint32_t group, struct wal_group_state *ret, struct vx_err *err);
void wal_group_state_release(struct wal_group_state *st);

/* Why 'group' is stopped: valid until it is lifted.  NULL: it is not.  A stopped group is
 * loaded with -EUCLEAN, and nothing may be staged of it. */
const char *wal_stopped(const struct wal *w, uint32_t group);

/* Whether a file of that name in the log's directory is the log's: docs/format-wal.md, "Files". */
bool wal_is_name(const char *name);

/* The first damaged place that the open found, whether it concerned a group or nobody; NULL: none.  As text of at most 255
 * bytes, of the log's. */
const char *wal_damage(const struct wal *w);

/* For whoever accepts the loss: 'group' may be written again.  A RESET must come first, beyond
 * the highest index that was ever seen of it, and a HARDSTATE beyond the highest term.  Once they
 * are flushed, wal_forget takes the verdict away; until then the next open finds it stopped.
 * -ENOENT: it is not stopped. */
VX_MUST_CHECK
int wal_lift(struct wal *w, uint32_t group, uint64_t *ret_term, uint64_t *ret_index);
VX_MUST_CHECK
int wal_forget(struct wal *w, uint32_t group);

/* Calls 'each' with every group the log knows. */
int wal_groups(struct wal *w, int (*each)(void *arg, uint32_t group), void *arg);

/* Encodes 'rec' into the pending frame (data is copied).  Nothing is durable yet.
 * ENTRY indexes must be contiguous per group (asserted: last + 1).
 * Errors: -EMSGSIZE, -ENOMEM, -EIO (broken), -EINVAL (a mark that goes back, a
 * truncation at or below the mark), -EUSERS (more than WAL_GROUPS_MAX groups).
 * A frame grows to any length; the caller flushes. */
VX_MUST_CHECK
int wal_stage(struct wal *w, const struct wal_rec *rec);

/* What wal_stage would answer, without staging; -EINVAL also for an ENTRY that is
 * not contiguous (where wal_stage asserts). */
VX_MUST_CHECK
int wal_check(struct wal *w, const struct wal_rec *rec);

/* Forgets what is staged, as if it had never been: after -ENOSPC from wal_flush. */
void wal_discard(struct wal *w);

/* Bytes staged. */
size_t wal_staged(const struct wal *w);

/* Makes all staged records durable: one write, one fdatasync; no-op when nothing
 * is staged.  May first switch to the next prefilled segment.
 * Errors: -ENOSPC (no spare segment could be made: nothing was written, the frame
 * stays staged, a later flush may succeed), -EIO (broken). */
VX_MUST_CHECK
int wal_flush(struct wal *w);

/* Recycles segments that no group needs any more and prepares spares.  Slow (it
 * writes whole segments), so the pump calls it between flushes or on idle. */
VX_MUST_CHECK
int wal_upkeep(struct wal *w);

/* One bounded piece of wal_upkeep: recycles one segment, or writes at most
 * 'budget_bytes' of a spare.  'ret_more' says whether work is left. */
VX_MUST_CHECK
int wal_upkeep_step(struct wal *w, uint64_t budget_bytes, bool *ret_more);

/* The group that pins the most bytes of log, for marking by force.  Returns the
 * bytes pinned, 0 when none. */
uint64_t wal_pinned(struct wal *w, uint32_t *ret_group);

struct wal_stats {
	uint64_t segments, spares, size_bytes; /* on disk */
	uint64_t flushes, records, written_bytes;
	uint64_t pinned_bytes; /* since the oldest mark */
	uint64_t torn_frames;  /* frames cut at open */
	const char *backend;   /* "io_uring", "pwrite" */
	uint32_t pin_group;    /* the group that pins most */
	/* Segments oldest..current are in their files; all below 'end_bytes' of the current one is flushed. */
	uint32_t oldest, current;
	uint64_t end_bytes;
	bool broken;
};
void wal_stat(const struct wal *w, struct wal_stats *ret);

#endif
