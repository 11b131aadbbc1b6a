/* clock.h - time. */
#ifndef VECFS_BASE_CLOCK_H
#define VECFS_BASE_CLOCK_H

#include "base/base.h"

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC: deadlines, durations */
uint64_t clock_real_ns(void); /* CLOCK_REALTIME: mtime */

/* Fills 'p' from the kernel's generator. */
void random_bytes(void *p, size_t n);

#endif
