/* spin.c - how long to look for the next request. */
#include "daemon/spin.h"

#include <sched.h>

#include "base/clock.h"

#define SPIN_SHORT_NS                                                                              \
	10000u              /* always: a program that reads what it has asked is as quick as that */
#define SPIN_LONG_NS 60000u /* for programs that have been coming back within GAP_NS */
#define GAP_NS       80000u /* of it some is the waking of a thread that had gone to sleep */
#define GAP_MAX_NS   1000000u

void spin_served(struct spin *s)
{
	s->since_ns = clock_mono_ns();
}

void spin_came(struct spin *s)
{
	if (!s->since_ns)
		return;
	uint64_t gap = clock_mono_ns() - s->since_ns;

	if (gap > GAP_MAX_NS)
		gap = GAP_MAX_NS;
	s->gap_ns = (3 * s->gap_ns + gap) / 4;
	s->since_ns = 0;
}

bool spin_more(struct spin *s)
{
	uint64_t most = s->gap_ns < GAP_NS ? SPIN_LONG_NS : SPIN_SHORT_NS;

	if (!s->since_ns || clock_mono_ns() - s->since_ns >= most)
		return false;
	sched_yield();
	return true;
}
