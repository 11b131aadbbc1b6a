/* sim_trace.c - every event as four numbers: hashed always, printed when asked.
 *
 * The hash is what makes "the same seed is the same run" a test.  Nothing that depends on addresses,
 * on real time or on bytes that libraft leaves undefined goes into it.
 */
#include "sim_i.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const form[TR_N] = {
	[TR_START] = "starts as id %" PRIu64 ", term %" PRIu64 ", mark %" PRIu64 ", last %" PRIu64,
	[TR_REFUSED] = "does not start: its log is refused (%" PRIu64 ")",
	[TR_CRASH] = "loses power",
	[TR_KILL] = "is killed",
	[TR_WIPE] = "is wiped and will be id %" PRIu64,
	[TR_FATAL] = "group %" PRIu64 ": must not go on, errno %" PRIu64,
	[TR_SEND] = "sends to %" PRIu64 " (group, type %" PRIx64 "): %" PRIu64 " %" PRIu64,
	[TR_LOSE] = "loses a message to %" PRIu64 " of type %" PRIu64,
	[TR_DELIVER] = "hears from %" PRIu64 " (group, type %" PRIx64 "): %" PRIu64 " %" PRIu64,
	[TR_FLUSH] = "flushes: %" PRIu64 " requests, %" PRIu64 " records, status %" PRIu64
		     ", log ends at %" PRIu64,
	[TR_FULL] = "has no room for its log: %" PRIu64,
	[TR_APPLY] = "group %" PRIu64 ": applies %" PRIu64 " (term %" PRIu64 "): value %" PRIu64,
	[TR_WATERMARK] = "group %" PRIu64 ": passes %" PRIu64,
	[TR_ANSWER] = "group %" PRIu64 ": answers value %" PRIu64 " at %" PRIu64,
	[TR_PROPOSE] = "group %" PRIu64 ": is asked to store %" PRIu64 " to %" PRIu64,
	[TR_FAIL] = "value %" PRIu64 " fails, errno %" PRIu64,
	[TR_ROLE] = "group %" PRIu64 ": leader %" PRIu64 " in term %" PRIu64,
	[TR_MARK] = "group %" PRIu64 ": store marked at %" PRIu64 ", errno %" PRIu64,
	[TR_FETCH] = "group %" PRIu64 ": fetches snapshot %" PRIu64 " of id %" PRIu64
		     ", errno %" PRIu64,
	[TR_RESTORE] = "group %" PRIu64 ": installs %" PRIu64 ", store at %" PRIu64,
	[TR_RECOVER] = "group %" PRIu64 ": store at %" PRIu64 " for mark %" PRIu64
		       ", fetched %" PRIu64,
	[TR_CUT] = "link to %" PRIu64 ": cut %" PRIu64,
	[TR_HEAL] = "all links heal",
	[TR_BREAK] = "disk will fail at call %" PRIu64,
	[TR_ROOM] = "disk has %" PRIu64 " bytes left",
	[TR_FLIP] = "bit %" PRIu64 " of byte %" PRIu64 " of segment %" PRIu64
		    " flips; refused %" PRIu64,
	[TR_PAUSE] = "stands still for %" PRIu64 " ms",
	[TR_JUMP] = "clock jumps by %" PRIu64 " ms",
	[TR_CHANGE] = "group %" PRIu64 ": asked for change %" PRIu64 " of id %" PRIu64,
	[TR_CHANGED] = "group %" PRIu64 ": change %" PRIu64 " of id %" PRIu64 ", errno %" PRIu64,
	[TR_TRANSFER] = "group %" PRIu64 ": transfers leadership to id %" PRIu64 ", %" PRIu64,
};

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9fb21c651e98df25u;
	return h ^ (h >> 32);
}

void sim_trace(struct sim *s, unsigned node, enum sim_trace_kind kind, uint64_t a, uint64_t b,
	uint64_t c, uint64_t d)
{
	uint64_t h = mix(s->hash, s->now * 64 + node * 1048576 + kind);
	s->hash = mix(mix(mix(mix(h, a), b), c), d);
	if (!s->p.trace)
		return;
	printf("%8" PRIu64 " ms  node %u ", s->now, node);
/* The formats are the table's above, each for the first of the four numbers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	printf(form[kind], a, b, c, d);
#pragma GCC diagnostic pop
	putchar('\n');
}
