/* wal_writer.h - the log writer: a thread around 'struct wal' (group commit).
 *
 * Anyone submits requests; the thread takes all that wait, stages them, flushes
 * once, and calls their callbacks in submission order on its own thread.  So one
 * fdatasync serves whatever gathered while the one before was under way.
 */
#ifndef VECFS_WAL_WAL_WRITER_H
#define VECFS_WAL_WAL_WRITER_H

#include "wal/wal.h"

struct wal_req {
	const struct wal_rec *recs; /* borrowed with their data until 'done' */
	unsigned n;
	/* The request must not be overtaken by later ones of its group (that of recs[0]) that say so
	 * too: once one was refused with -ENOSPC, those behind it are as well, until it has been submitted
	 * again -- the same request, and the others in the order of their answers. */
	bool in_order;
	uint64_t turn; /* the writer's, 0 at first */
	/* Called once, on the writer's thread, in FIFO order; status 0 = durable.
	 * Must not block.  The request may be freed or resubmitted inside. */
	void (*done)(struct wal_req *req, int status);
	struct wal_req *next; /* the writer's */
};

struct wal_writer;

/* Takes 'w' (closed by wal_writer_stop). */
VX_MUST_CHECK
int wal_writer_start(struct wal *w, struct wal_writer **ret);

/* Flushes what was submitted, joins the thread, closes the log. */
void wal_writer_stop(struct wal_writer *ww);

/* Thread-safe; never blocks. */
void wal_writer_submit(struct wal_writer *ww, struct wal_req *req);

/* The writer's work without its thread, for a caller who owns 'w' and time: stages what 'list' holds,
 * flushes, answers in order; after -ENOSPC request by request.  'refused' is false at first and then
 * belongs to the log. */
void wal_writer_run(struct wal *w, bool *refused, struct wal_req *list);

/* Thread-safe snapshot of the log's statistics, and of the group pinning most. */
void wal_writer_stat(struct wal_writer *ww, struct wal_stats *ret, uint32_t *ret_pin_group);

#endif
