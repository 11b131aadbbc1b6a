/* timeslice.h - how long a thread may keep a core that others wait for.
 *
 * While records are put and indexed every core is busy, and the kernel lets a thread that has a core keep it
 * for some milliseconds although another one was woken: a question that takes 50 us would wait for that.  A
 * thread with a short slice is asked to leave sooner, and one that wakes with a shorter slice than the running
 * one takes its place at once.  So everything here has a short slice and what answers questions the shortest.  What
 * works in the background has one that is longer than everybody's, so that whoever wakes, the asking
 * program as well, takes its place; shares of the cores are as before (nice decides those).
 *
 * Linux 6.12 and later; elsewhere nothing changes.
 */
#ifndef VECFS_BASE_TIMESLICE_H
#define VECFS_BASE_TIMESLICE_H

#define TIMESLICE_ALL_US        300u /* set before there are threads: they inherit it */
#define TIMESLICE_ASK_US        100u /* the kernel's least */
#define TIMESLICE_BACKGROUND_US 50000u

/* Of the calling thread and the threads that it will start. */
void timeslice_set(unsigned us);

#endif
