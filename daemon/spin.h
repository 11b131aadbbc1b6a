/* spin.h - looking for the next request instead of sleeping.
 *
 * A program that asks in a loop sends its next question within microseconds of the answer, and a thread
 * that sleeps meanwhile is woken for tens of them.  So who has answered a question looks again for a
 * while, yielding the core each time: to the program itself where both share one.  How long is learnt
 * from how long the program took before: looking for a whole pause in vain costs a core, and the program
 * the warmth of its own.
 *
 *	spin_served(&s)              a question was answered
 *	while (nothing came && spin_more(&s))
 *		look again
 *	spin_came(&s)                the next request is here
 *
 * One owner.  Zero-initialised.
 */
#ifndef VECFS_DAEMON_SPIN_H
#define VECFS_DAEMON_SPIN_H

#include <stdbool.h>
#include <stdint.h>

struct spin {
	uint64_t since_ns; /* when it was served; 0: nothing to expect */
	uint64_t gap_ns;   /* between answer and next request, a moving mean */
};

void spin_served(struct spin *s);
void spin_came(struct spin *s);
/* Yields and returns true as long as it may pay to look again. */
bool spin_more(struct spin *s);

#endif
