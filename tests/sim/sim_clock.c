/* sim_clock.c - base/clock.h for the simulation.
 *
 * The linker finds these before it looks into the library, so that whatever is linked into the simulator and
 * asks for time or randomness gets virtual time and the seed: nothing can slip by.
 */
#include "base/clock.h"
#include "sim_i.h"

static struct sim *current;

void sim_clock_set(struct sim *s)
{
	current = s;
}

uint64_t clock_mono_ns(void)
{
	return current ? current->now * 1000000u : 0;
}

uint64_t clock_real_ns(void)
{
	return clock_mono_ns();
}

void random_bytes(void *p, size_t n)
{
	uint8_t *b = p;
	for (size_t i = 0; i < n; i++)
		b[i] = current ? (uint8_t)sim_random(current) : 0;
}
