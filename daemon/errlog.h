/* errlog.h - the last refusals and their reasons: what .vecfs/error_log shows.
 *
 * A ring of the last ERRLOG_LINES lines "time errno-name where: reason", shared by the mount and the
 * sockets.  'where' is what the user touched: a path in the mount, with ":line" for a record of a file,
 * or the name of a tool's request.
 *
 * Threads: thread-safe, no lock is held that anybody else could wait for.
 */
#ifndef VECFS_DAEMON_ERRLOG_H
#define VECFS_DAEMON_ERRLOG_H

#include "base/base.h"
#include "base/bytes.h"

#define ERRLOG_LINES 1000u

/* 'code' is an errno of either sign.  Control characters in the text are shown as '?': one call is one
 * line.  Never fails: without memory the line is lost. */
void errlog_add(const char *where, int code, const char *fmt, ...) VX_PRINTF(3, 4);

/* Appends the lines, oldest first. */
VX_MUST_CHECK
int errlog_render(struct buf *out);

void errlog_clear(void);

/* Lines ever added: a counter for stats. */
uint64_t errlog_count(void);

#endif
