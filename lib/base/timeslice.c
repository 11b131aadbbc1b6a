/* timeslice.c - sched_setattr(2), which the C library has no call for. */
#include "base/timeslice.h"

#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct sched_attr as it began; it takes later ones' fields for 0. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

void timeslice_set(unsigned us)
{
	struct attr a = {.size = sizeof a};

	/* A service manager may have chosen another policy or nice value: they stay. */
	if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) || a.policy != 0)
		return;
	a.size = sizeof a;
	a.runtime_ns = us * 1000u;
	a.deadline_ns = a.period_ns = 0;
	(void)!syscall(SYS_sched_setattr, 0, &a, 0);
}
