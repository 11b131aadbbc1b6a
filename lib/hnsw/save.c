/* save.c - the graph's part of a checkpoint (docs/format-index.md, "Index checkpoint").
 *
 *	entry + 1, upper nodes, audited					3 words
 *	the last measurement of the recall: struct recall_measure, all zero before the first
 *	per upper node: slot, height, height rows of m links
 *	per slot below 'nslots': a row of 2m links
 *
 * Links are stored as in memory: number + 1, 0 for none.  What is read is checked against
 * the counts, so that not even a well-checksummed file can lead outside the arrays.
 */
#include "hnsw/hnsw_i.h"

#define ROWS_BATCH 64u

int hnsw_save(struct index *ix, struct ckpt_writer *w, uint32_t nslots)
{
	const struct hnsw *h = hnsw_of(ix);
	const uint32_t head[3] = {h->entry, h->nupper, h->audited};
	struct recall_measure m;
	int rc = ckpt_put_words(w, head, VX_ARRAY_SIZE(head));

	recall_get(&hnsw_of(ix)->recall, &m);
	if (rc == 0)
		rc = ckpt_put_words(w, (const uint32_t *)&m, RECALL_WORDS);

	for (uint32_t u = 0; u < h->nupper && rc == 0; u++) {
		const struct upper *n = upper_at(h, u);
		const uint32_t id[2] = {n->slot, n->level};
		rc = ckpt_put_words(w, id, 2);
		if (rc == 0)
			rc = ckpt_put_words(w, n->links, (size_t)n->level * h->m);
	}
	for (uint32_t s = 0; s < nslots && rc == 0; s++)
		rc = ckpt_put_words(w, base_row(ix, s), h->m0);
	return rc;
}

static int bad(struct vx_err *err, const char *what)
{
	return vx_err_set(err, -EUCLEAN, "checkpoint: %s is out of range", what);
}

/* Whether links are below 'bound' and nothing follows the end.  Without branches, for the vectoriser: all rows of a
 * checkpoint pass here before the first answer. */
static bool row_fits(const uint32_t *row, uint32_t cap, uint32_t bound)
{
	uint32_t wrong = row[0] > bound;

	for (uint32_t i = 1; i < cap; i++)
		wrong |= (uint32_t)(row[i] > bound) |
			 ((uint32_t)(row[i] != 0) & (uint32_t)(row[i - 1] == 0));
	return wrong == 0;
}

static int load_upper(struct index *ix, struct ckpt_reader *r, uint32_t count, uint32_t nslots,
	struct vx_err *err)
{
	struct hnsw *h = hnsw_of(ix);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t id[2], u;
		int rc = ckpt_get_words(r, id, 2);
		if (rc < 0)
			return rc;
		if (id[0] >= nslots || id[1] < 1 || id[1] > HNSW_LEVEL_MAX)
			return bad(err, "an upper node");
		struct upper *n = upper_new(h, id[0], id[1], &u);
		if (!n)
			return -ENOMEM;
		rc = ckpt_get_words(r, n->links, (size_t)n->level * h->m);
		if (rc < 0)
			return rc;
		for (uint32_t l = 1; l <= n->level; l++) {
			if (!row_fits(upper_row(h, n, l), h->m, count))
				return bad(err, "an upper link");
		}
	}
	/* A link on layer l must lead to a node that has that layer. */
	for (uint32_t u = 0; u < count; u++) {
		struct upper *n = upper_at(h, u);
		for (uint32_t i = 0; i < n->level * h->m; i++) {
			uint32_t link = n->links[i];
			if (link && upper_at(h, link - 1)->level < i / h->m + 1)
				return bad(err, "an upper link's layer");
		}
	}
	return 0;
}

int hnsw_load(struct index *ix, struct ckpt_reader *r, uint32_t nslots, struct vx_err *err)
{
	struct hnsw *h = hnsw_of(ix);
	struct recall_measure m;
	uint32_t head[3];
	int rc = ckpt_get_words(r, head, VX_ARRAY_SIZE(head));

	if (rc == 0)
		rc = ckpt_get_words(r, (uint32_t *)&m, RECALL_WORDS);

	if (rc < 0)
		return rc;
	if (head[0] > head[1] || head[1] > 2 * (uint64_t)nslots || (nslots > 0) < (head[0] > 0))
		return bad(err, "the entry point");
	if (head[2] > nslots || !recall_valid(&m, nslots))
		return bad(err, "a count");
	rc = load_upper(ix, r, head[1], nslots, err);
	for (uint32_t s = 0; s < nslots && rc == 0; s++) {
		uint32_t *row = base_row(ix, s);
		rc = ckpt_get_words(r, row, h->m0);
		if (rc == 0 && !row_fits(row, h->m0, nslots))
			rc = bad(err, "a link");
	}
	if (rc < 0)
		return rc;
	h->audited = head[2];
	hnsw_measured(h, &m);
	ix_store(&h->entry, head[0]);
	return 0;
}
