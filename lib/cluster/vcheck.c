/* vcheck.c - one pass over a vector's bits, compiled so that it is vectorised. */
#include <string.h>

#include "cluster/db_i.h"

enum vec_check vec_check(const float *v, uint32_t n)
{
	uint32_t any = 0, bad = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, v + i, 4);
		bits &= 0x7fffffffu;
		any |= bits;
		bad |= bits >= 0x7f800000u;
	}
	return bad ? VEC_NONFINITE : any ? VEC_OK : VEC_ZERO;
}
