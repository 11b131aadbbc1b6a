/* timeslice.h - how long a thread may keep a core that others wait for.
 *
 * While records are put and indexed every core is busy, and the kernel lets a thread that has a core keep it
 * for some milliseconds although another one was woken: a question that takes 50 us would wait for that.  A
 * thread with a short slice is asked to leave sooner, and one that wakes with a shorter slice than the running
 * one takes its place at once.  So everything here has a short slice and what answers questions the shortest.  What
 * moves much at a time (requests of some size, applying, indexing, the program that sends a file) has one that is
 * longer than everybody's, so that whoever wakes, the asking program as well, takes its place.
 *
 * That holds while the one that wakes has had less than its share of the core.  An asker that asks without a
 * pause has had more, and would wait until the kernel looks again, at a tick.  So its share is made
 * large, where the daemon may do that (it needs CAP_SYS_NICE), and those of the index workers small.
 *
 * Linux 6.12 and later; elsewhere nothing changes.
 */
#ifndef VECFS_BASE_TIMESLICE_H
#define VECFS_BASE_TIMESLICE_H

#include <stdbool.h>
#include <stddef.h>

#define TIMESLICE_ALL_US  300u /* set before there are threads: they inherit it */
#define TIMESLICE_ASK_US  100u /* the kernel's least */
#define TIMESLICE_BULK_US 50000u

/* A request of so many bytes is bulk. */
#define TIMESLICE_BULK_BYTES (64u << 10)

/* Of the calling thread and the threads that it will start. */
void timeslice_set(unsigned us);

/* For a thread that serves requests of all sizes: before one of 'bytes'.  *bulk is the thread's own, false at
 * first, when TIMESLICE_ASK_US was set. */
void timeslice_for(bool *bulk, size_t bytes);

#endif
