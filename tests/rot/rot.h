/* rot.h - what the tests that flip bytes share: how much of a file is flipped, and by which process.
 *
 *	ROT_ALL=1         every byte, otherwise a sample that SEED decides
 *	ROT_PART=I/N      of the flips every N-th from the I-th on, for N processes with one SEED
 *	ROT_TEST=PATTERN  the tests of that name alone
 */
#ifndef VECFS_TESTS_ROT_H
#define VECFS_TESTS_ROT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static inline bool rot_all(void)
{
	return getenv("ROT_ALL") != NULL;
}

/* Whether the n-th flip is this process's. */
static inline bool rot_mine(size_t n)
{
	unsigned part = 0, parts = 1;
	const char *s = getenv("ROT_PART");

	if (s && (sscanf(s, "%u/%u", &part, &parts) != 2 || parts == 0))
		abort();
	return n % parts == part % parts;
}

#endif
