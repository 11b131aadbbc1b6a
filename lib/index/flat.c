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

static int flat_remap(struct index *ix, const uint32_t *new_slot, uint32_t n)
{
	(void)ix;
	(void)new_slot;
	(void)n;
	return 0; /* nothing here names a slot */
}

const struct index_ops flat_ops = {
	.name = "flat",
	.init = flat_init,
	.release = flat_release,
	.insert = flat_insert,
	.remap = flat_remap,
};
