/* courtesy.c - background work makes room for questions.
 *
 * On a machine whose cores are all busy with records that come in, a question waits for a core three times:
 * until its thread is woken, while it is searched, and until its asker is woken with the answer.  The kernel
 * does not help enough: a thread that has a core keeps it for its time slice, whose end is noticed at the next tick
 * (4 ms at 250 Hz), and an asker in another session is weighed against the daemon as a whole, with
 * its index workers.  So those who work in the background look by themselves, every 0.1 ms or so,
 * and sleep while a question is being searched and a moment longer, for its answer to arrive.
 *
 * Each of them sleeps at most as long as it has worked since it last did: so under a steady load of
 * questions half of the work goes on, the tails shrink and the writers that wait for that get on.
 */
#include "base/clock.h"
#include "cluster/db_i.h"

#include <sys/prctl.h>
#include <time.h>

#define ARRIVES_NS 60000u  /* from the search's end until the asker has its answer */
#define NAP_NS     30000u  /* how often is looked whether that is over */
#define MOST_NS    400000u /* in a row; what has not been used by then is forgotten */

void courtesy_begin(struct courtesy *c)
{
	atomic_fetch_add_explicit(&c->asking, 1, memory_order_relaxed);
}

void courtesy_end(struct courtesy *c)
{
	atomic_store_explicit(&c->answered_ns, clock_mono_ns(), memory_order_relaxed);
	atomic_fetch_sub_explicit(&c->asking, 1, memory_order_relaxed);
}

/* Whether a question is on its way. */
static bool wanted(const struct courtesy *c, uint64_t now)
{
	if (atomic_load_explicit(&c->asking, memory_order_relaxed) > 0)
		return true;
	uint64_t answered = atomic_load_explicit(&c->answered_ns, memory_order_relaxed);

	return answered && now < answered + ARRIVES_NS;
}

/* The kernel may let a sleep last 50 us longer than was asked for, to save wake-ups: as long as two naps. */
static void nap(void)
{
	static _Thread_local bool sharp;
	const struct timespec t = {.tv_nsec = NAP_NS};

	if (!sharp)
		(void)prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
	sharp = true;
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

bool courtesy_pause(void *ctx)
{
	static _Thread_local uint64_t rested_ns; /* when this thread last did */
	struct shard_ctx *sc = ctx;
	struct courtesy *c = &sc->db->courtesy;
	uint64_t began = clock_mono_ns(), now = began;
	const uint64_t most = VX_MIN(began - rested_ns, (uint64_t)MOST_NS);

	while (wanted(c, now) && now - began < most &&
		!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
		nap();
		now = clock_mono_ns();
	}
	if (now != began)
		rested_ns = now;
	return atomic_load_explicit(&c->stop, memory_order_relaxed);
}
