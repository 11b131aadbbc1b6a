/* verify.h - is what a store holds whole, and do its parts say the same.
 *
 *	struct verify v = {.found = print, .ctx = ..., .mark = ..., .last = ...};
 *	shard_verify("DATA/shard-003", 3, &v, &err)     a directory that nobody serves
 *	slice_verify(slice, &v)                         a slice that is being served
 *	shard_verify_names(shard, &v, ...)              the directory of a shard that is being served
 *
 * Both go through the same checks.  Of meta.db every page is read and its structure walked; every row of the
 * segments, every id and every vector is hashed; each record must have its own slot and each slot its
 * record, or be dead: so no id is missing, orphaned or comes back.  The index (offline: its checkpoint) must be
 * whole and say the same of each slot, which index_compare looks at here as at each start of the daemon.
 *
 * A finding has a level:
 *	NOTE	no damage: what a crash leaves and the next start sees to (batches that the log will
 *		write again, an index checkpoint of an older state, the remains of a drop)
 *	DERIVED	wrong, and 'repair' makes it anew from what is right
 *	DAMAGE	data that is nowhere else on this node.  'force' gives up what cannot be read, record by record
 *
 * Offline nothing is written without 'repair', except the -shm file that SQLite makes beside a database.
 * Threads: a 'struct verify' belongs to one; slice_verify runs beside readers, the applier and compaction
 * (only linking waits, while the index is checked).
 */
#ifndef VECFS_STORE_VERIFY_H
#define VECFS_STORE_VERIFY_H

#include "base/base.h"
#include "base/bytes.h"
#include "base/disk.h"
#include "base/err.h"

enum verify_level { VERIFY_NOTE, VERIFY_DERIVED, VERIFY_DAMAGE };

#define VERIFY_NOWHERE UINT64_MAX

struct verify_finding {
	enum verify_level level;
	bool repaired;
	const char *file;
	uint64_t offset; /* in it; VERIFY_NOWHERE: the file as a whole */
	const char *why;
};

struct verify {
	/* The caller's. */
	bool repair; /* offline: what is derived */
	bool force;  /* and records that cannot be read are given up */
	void (*found)(void *ctx, const struct verify_finding *f);
	void *ctx;
	/* The log's entries (mark, last] are there and will be applied again.  last == 0: there is no log that
	 * could repair anything. */
	uint64_t mark, last;
	/* Each may be NULL.  Whether these entries make or drop the slice; whether the catalog has the
	 * collection; whether the id belongs into this shard. */
	bool (*remakes)(void *ctx, uint32_t cid);
	bool (*known)(void *ctx, uint32_t cid);
	bool (*belongs)(void *ctx, uint32_t cid, const char *id, size_t len);

	/* What came of it; added to. */
	uint64_t slices, records, slots, dead;
	uint64_t notes, derived, damage, repaired; /* findings; 'repaired' of those of both kinds */
	uint64_t told;                             /* findings handed to 'found' for this slice */

	struct buf *
		kept; /* verify.c's, while it is not known whether findings count; NULL otherwise */
};

/* Hands over a finding.  Beyond VERIFY_TOLD_MAX of one slice they are only counted. */
#define VERIFY_TOLD_MAX 1000u
void verify_say(struct verify *v, enum verify_level level, const char *file, uint64_t offset,
	const char *fmt, ...) VX_PRINTF(5, 6);
/* The same for what was wrong and is right again. */
void verify_repaired(struct verify *v, enum verify_level level, const char *file, uint64_t offset,
	const char *fmt, ...) VX_PRINTF(5, 6);

/* The pages and the structure of a database (opened through PAGESUM_VFS); 'file' is its path.  Returns 0, also when
 * something was found, -ENOMEM, or -EBUSY while it is served. */
struct sqlite3;
VX_MUST_CHECK
int verify_sqlite(struct sqlite3 *c, const char *file, struct verify *v);

/* All of a shard's directory.  Errors (of the checking itself): -ENOENT, -EIO, -ENOMEM, -ENOSPC. */
VX_MUST_CHECK
int shard_verify(const char *dir, uint32_t shard_id, struct disk *disk, struct verify *v,
	struct vx_err *err);

struct slice;
/* A pinned slice, under one view.  Of one that is dropped meanwhile nothing is said. */
VX_MUST_CHECK
int slice_verify(struct slice *sl, struct verify *v, struct vx_err *err);

/* A shard's directory against the slices that it serves: each has its directory and none is quarantined, those on the
 * roster are there, and what is there besides is not taken for a slice by the next start.  'settle' returns once
 * whatever the applier was at when it was called is done.  v->known as of now.  -EIO, -ENOMEM. */
struct shard;
VX_MUST_CHECK
int shard_verify_names(struct shard *s, struct verify *v, void (*settle)(void *ctx), void *ctx,
	struct vx_err *err);

#endif
