/* embed_i.h - the three sources of vectors behind embed.h. */
#ifndef VECFS_EMBED_EMBED_I_H
#define VECFS_EMBED_EMBED_I_H

#include "base/bytes.h"
#include "embed/embed.h"

/* Fills 'ret' (n x dim floats, already allocated when 'dim' is known; see embed_alloc). */
struct embed_out {
	float *vecs; /* malloc'd at the first vector */
	uint32_t dim;
	size_t n;
};

/* Puts vector 'i'; the first one fixes the dimension when 'out->dim' is 0. */
VX_MUST_CHECK
int embed_put(struct embed_out *out, size_t i, const float *vec, uint32_t dim, struct vx_err *err);

/* --- words.c -------------------------------------------------------------------- */
/* Folds plural and verb endings of a lower-case word in place; returns the new length. */
size_t word_stem(char *w, size_t n);
/* How much a word tells: near 0 for "the", 1 for words that are not in the table. */
float word_weight(const char *w, size_t n);

/* --- cmd.c ------------------------------------------------------------------------ */
struct cmd;
VX_MUST_CHECK
int cmd_open(const char *command, struct cmd **ret, struct vx_err *err);
void cmd_close(struct cmd *c);
VX_MUST_CHECK
int cmd_texts(struct cmd *c, const char *const *texts, const size_t *lens, size_t n,
	struct embed_out *out, struct vx_err *err);

/* --- url.c -------------------------------------------------------------------------- */
struct url;
VX_MUST_CHECK
int url_open(const char *spec, struct url **ret, struct vx_err *err);
void url_close(struct url *u);
VX_MUST_CHECK
int url_texts(struct url *u, const char *const *texts, const size_t *lens, size_t n,
	struct embed_out *out, struct vx_err *err);

#endif
