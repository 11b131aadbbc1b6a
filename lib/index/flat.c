/* flat.c - the kind without a structure: every search scans the codes and reranks. */
#include "index/index_i.h"

static int flat_init(struct index *ix, uint32_t *ret_extra)
{
	(void)ix;
	*ret_extra = 0;
	return 0;
}

static void flat_release(struct index *ix)
{
	(void)ix;
}

static bool flat_insert(struct index *ix, struct scratch *sc, uint32_t slot)
{
	(void)sc;
	return !(codes_flags_get(&ix->codes, slot) & CODES_DEAD);
}

static int flat_remap(struct index *from, struct index *to, const uint32_t *order, uint32_t n,
	const uint32_t *inv, uint32_t n_inv)
{
	(void)from;
	(void)order;
	(void)inv;
	(void)n_inv;
	for (uint32_t s = 0; s < n; s++)
		codes_flags_or(&to->codes, s, CODES_LINKED);
	return 0;
}

/* In the order of age: that is as good as any. */
static int flat_order(
	struct index *ix, uint32_t linked, const uint8_t *keep, uint32_t *order, uint32_t *ret_n)
{
	uint32_t n = 0;

	for (uint32_t s = 0; s < linked; s++) {
		if (keep[s] && (codes_flags_get(&ix->codes, s) & CODES_LINKED))
			order[n++] = s;
	}
	*ret_n = n;
	return 0;
}

const struct index_ops flat_ops = {
	.name = "flat",
	.init = flat_init,
	.release = flat_release,
	.insert = flat_insert,
	.order = flat_order,
	.remap = flat_remap,
};
