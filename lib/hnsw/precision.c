/* precision.c - whether half a code is enough to walk on.
 *
 * The heads of the codes are off by a share of a vector's distance from the centre; what a walk needs to
 * tell apart are distances to near neighbours.  In many dimensions the one is a few
 * hundredths of the other.  In few, or where the vectors lie much closer to each other than to
 * their centre, it is not, and whole codes are walked on, at twice the memory traffic.  Which of
 * both it is shows in the distances from some slots to those they are linked to: these are
 * near ones, of every kind that the graph has.
 */
#include "hnsw/hnsw_i.h"

#define PRECISION_SLOTS 256u

/* The greatest error for which walks on heads find as many as walks on whole codes do, in parts of a
 * distance (root mean squares).  Measured: sift .04, images .02, sentences .01. */
#define PRECISION_MAX 0.09
/* Inner products differ by less than their size. */
#define PRECISION_MAX_IP 0.02

void hnsw_choose_precision(struct index *ix, struct scratch *sc)
{
	const uint32_t m0 = hnsw_of(ix)->m0, linked = ix_load(&ix->linked);
	double errors = 0, squares = 0;
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
			errors += off * off;
			squares += (double)full[j] * (double)full[j];
		}
	}
	double most = ix->p.metric == VX_IP ? PRECISION_MAX_IP : PRECISION_MAX;
	ix_store(&ix->by_heads, errors <= most * most * squares);
}
