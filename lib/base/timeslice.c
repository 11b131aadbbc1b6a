/* timeslice.c - sched_setattr(2), which the C library has no call for. */
#include "base/timeslice.h"

#include <limits.h>
#include <stdatomic.h>
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

#define RESET_ON_FORK 1u /* of flags: what an asker starts is no asker */
#define ASK_NICER     10

static bool set(struct attr *a, unsigned us, int nice)
{
	a->size = sizeof *a;
	a->nice = nice;
	a->flags = us == TIMESLICE_ASK_US ? RESET_ON_FORK : 0;
	a->runtime_ns = us * 1000u;
	a->deadline_ns = a->period_ns = 0;
	return syscall(SYS_sched_setattr, 0, a, 0) == 0;
}

void timeslice_set(unsigned us)
{
	/* A service manager may have chosen another policy or nice value: they stay. */
	static _Atomic int given = INT_MIN;
	struct attr a = {.size = sizeof a};
	int none = INT_MIN;

	if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) || a.policy != 0)
		return;
	atomic_compare_exchange_strong(&given, &none, a.nice);
	int before = atomic_load(&given) - ASK_NICER;
	if (us == TIMESLICE_ASK_US && set(&a, us, before))
		return;
	(void)set(&a, us, a.nice == before ? before + ASK_NICER : a.nice);
}

void timeslice_for(bool *bulk, size_t bytes)
{
	bool is = bytes >= TIMESLICE_BULK_BYTES;

	if (is != *bulk)
		timeslice_set(is ? TIMESLICE_BULK_US : TIMESLICE_ASK_US);
	*bulk = is;
}
