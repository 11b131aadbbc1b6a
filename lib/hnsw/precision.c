/* precision.c - whether half a code is enough to walk on.
 *
 * The heads of the codes are off by a share of a vector's distance from the centre; what a walk needs to
 * tell apart are distances to near neighbours.  In many dimensions the one is a few
 * hundredths of the other.  In few, or where the vectors lie much closer to each other than to
 * their centre, it is not, and whole codes are walked on, at twice the memory traffic.  Which of
 * both it is shows in the distances from some slots to those they are linked to: these are
 * near ones, of every kind that the graph has.
 */
#include <math.h>

#include "hnsw/hnsw_i.h"

#define PRECISION_SLOTS 256u

/* The greatest error that two in three of the distances may have, in parts of them (a standard
 * deviation, told by counting, since a few links between heaps far apart would hide in a mean what happens
 * within them).  A choice: neighbours whose distances differ by less than that may change places on
 * the way, which a pool of several times k forgives; tests/hnsw/test_precision.c holds both sides. */
#define PRECISION_MAX 0.09
/* Inner products differ by less than their size. */
#define PRECISION_MAX_IP 0.02

void hnsw_choose_precision(struct index *ix, struct scratch *sc)
{
	const uint32_t m0 = hnsw_of(ix)->m0, linked = ix_load(&ix->linked);
	const double most = ix->p.metric == VX_IP ? PRECISION_MAX_IP : PRECISION_MAX;
	uint32_t links = 0, beyond = 0;
	float full[HNSW_ROW_MAX];

	if (ix->codes.quant != QUANT_SQ8 || linked < PRECISION_SLOTS)
		return;
	for (uint32_t i = 0; i < PRECISION_SLOTS; i++) {
		uint32_t slot = (uint32_t)((uint64_t)i * linked / PRECISION_SLOTS), n = 0, link;
		const uint32_t *row = base_row(ix, slot);
		while (n < m0 && (link = link_get(row, n)) != 0)
			sc->ids[n++] = link - 1;
		if (!probe_from_slot(&ix->codes, slot, &sc->probe))
			continue;
		probe_distances(&ix->codes, &sc->probe, sc->ids, n, sc->rows, sc->dots, full);
		sc->probe.full = false;
		probe_distances(&ix->codes, &sc->probe, sc->ids, n, sc->rows, sc->dots, sc->dist);
		for (uint32_t j = 0; j < n; j++) {
			double off = (double)sc->dist[j] - (double)full[j];
			beyond += fabs(off) > most * fabs((double)full[j]);
		}
		links += n;
	}
	ix_store(&ix->by_heads, beyond <= links / 3);
}
