/* supervise.h - the process above the daemon: it holds the mount, so that the daemon may die.
 *
 *	supervise(&opts, &err)		returns the exit status, when everything has ended
 *
 * and in the worker that it starts:
 *
 *	worker_handed(&w)		what was handed over; false: nobody supervises us
 *	worker_ready(&w, resends)	requests are served
 *	worker_failed(&w, "why")	before it ends with a status: no use trying again
 *
 * Threads: none; call it before any is started.
 */
#ifndef VECFS_DAEMON_SUPERVISE_H
#define VECFS_DAEMON_SUPERVISE_H

#include "base/base.h"
#include "base/err.h"

struct supervise_opts {
	char **argv;       /* of the worker, its absolute path first; NULL-ended */
	const char *data;  /* absolute */
	const char *mount; /* absolute; NULL: the socket alone */
	const char *socket;
	bool allow_other;
	int (*ready)(
		void *ctx); /* called once, when the first worker serves; not 0: stop with it */
	void *ctx;
};

/* The signals SIGTERM, SIGINT, SIGHUP and SIGCHLD are blocked by the caller.  'err' has the reason when the
 * status is not 0. */
int supervise(const struct supervise_opts *o, struct vx_err *err);

struct worker_fds {
	int fuse, carry; /* -1: no mount */
	int listen;      /* the tools' socket */
	int control;     /* a pipe to the supervisor */
};
bool worker_handed(struct worker_fds *ret);
void worker_ready(const struct worker_fds *w, bool resends);
void worker_failed(const struct worker_fds *w, const char *why);

#endif
