/* remap.c - an index over some of another one's slots, in new numbers: a new generation.
 *
 * Codes are made anew from the vectors: that costs little beside copying those, and the
 * centre is that of what is there now, not of what came first long ago.  The structure is the kind's
 * business; one that cannot be carried over is built again by linking.
 */
#include <stdlib.h>

#include "index/index_i.h"

#define PAUSE_EVERY 1024u

int index_order(struct index *ix, uint32_t nslots, const uint8_t *keep, uint32_t *order,
	uint32_t *ret_n, uint32_t *ret_linked)
{
	uint32_t linked = VX_MIN(ix_load(&ix->linked), nslots), n = 0;

	if (ix->ops->order && ix->ops->remap && linked > 0) {
		int rc = ix->ops->order(ix, linked, keep, order, &n);
		if (rc < 0)
			return rc;
	} else {
		linked = 0;
	}
	*ret_linked = n;
	uint8_t *done = NULL;
	if (n > 0) {
		done = calloc(linked, 1);
		if (!done)
			return -ENOMEM;
		for (uint32_t i = 0; i < n; i++)
			done[order[i]] = 1;
	}
	for (uint32_t s = 0; s < nslots; s++) {
		if (keep[s] && !(done && s < linked && done[s]))
			order[n++] = s;
	}
	free(done);
	*ret_n = n;
	return 0;
}

/* Learns the centre from vectors that are spread over all. */
static int learn(struct index *to, uint32_t n)
{
	const float *v[CODES_TRAIN];

	for (uint32_t i = 0; i < CODES_TRAIN; i++)
		v[i] = to->host.vector(to->host.ctx, (uint32_t)((uint64_t)i * n / CODES_TRAIN));
	codes_train(&to->codes, v, CODES_TRAIN);
	return 0;
}

static int encode(struct index *from, struct index *to, uint32_t n)
{
	struct codes *c = &to->codes;
	struct scratch *sc = scratch_get(c, 0, 0);
	int rc = sc ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < n && rc == 0; i++) {
		if (i % PAUSE_EVERY == 0 && ix_pause(from))
			rc = -EINTR;
		const float *v = to->host.vector(to->host.ctx, i);
		/* What cannot be read gets some code: reranking leaves it out. */
		codes_encode(c, i, v ? v : c->centre, sc->probe.qf);
	}
	scratch_put(sc);
	return rc;
}

int index_remap(struct index *from, struct index *to, const uint32_t *order, uint32_t n,
	uint32_t linked, uint32_t nslots)
{
	if (ix_load(&to->appended) != 0 || n > VX_SLOTS_MAX || linked > n)
		return -EINVAL;
	int rc = codes_reserve(&to->codes, n);
	if (rc)
		return rc;
	if (!ix_load(&to->trained) && n < CODES_TRAIN) {
		ix_store(&to->appended, n);
		return 0;
	}
	codes_expect(&to->codes, n);
	if (!ix_load(&to->trained))
		rc = learn(to, n);
	if (rc == 0)
		rc = encode(from, to, n);
	if (rc)
		return rc;
	uint32_t *inv = calloc(VX_MAX(nslots, 1u), sizeof *inv);
	if (!inv)
		return -ENOMEM;
	for (uint32_t i = 0; i < linked; i++)
		inv[order[i]] = i + 1;
	ix_store(&to->by_heads, ix_load(&from->by_heads));
	ix_store(&to->trained, 1);
	ix_store(&to->appended, n);
	codes_settle(&to->codes, 0, n);
	if (linked > 0) {
		rc = to->ops->remap(from, to, order, linked, inv, nslots);
		ix_store(&to->next, linked);
		ix_store(&to->linked, linked);
		codes_settle_extra(&to->codes, 0, linked);
	}
	free(inv);
	return rc;
}
