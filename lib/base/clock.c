#include "base/clock.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static uint64_t read_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	return read_clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_real_ns(void)
{
	return read_clock_ns(CLOCK_REALTIME);
}

void random_bytes(void *p, size_t n)
{
	uint8_t *b = p;

	while (n > 0) {
		ssize_t got = getrandom(b, n, 0);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			abort(); /* no Linux we run on lacks getrandom(2) */
		}
		b += got;
		n -= (size_t)got;
	}
}
