/* embed.h - text to vectors.
 *
 *	embed_open("hash:dim=256", &e, &err)         built in, offline, deterministic
 *	embed_open("cmd:PROGRAM ARGS", ...)          coprocess: text line in, JSON vector line out
 *	embed_open("url:https://HOST/v1/embeddings;model=NAME;key-file=PATH", ...)   OpenAI-compatible
 *	embed_texts(e, texts, lens, n, vecs, &err)
 *
 * The hash embedder sums signed hashes of words, word pairs and character n-grams with weights that
 * fall for common words (a built-in table stands in for idf, log(1 + count) for tf) and normalises to
 * unit length.  Its output for a text and dimension never changes: it is part of the format.
 *
 * Threads: one owner per embedder.
 */
#ifndef VECFS_EMBED_EMBED_H
#define VECFS_EMBED_EMBED_H

#include "base/base.h"
#include "base/err.h"

#define EMBED_DIM_DEFAULT 384u

struct embedder;

/* A URL's further options: ";batch=N" ";timeout=SECONDS" ";retry-ms=N" (first delay).
 * 'spec' "hash", "hash:dim=N", "cmd:...", "url:...".  The key of a URL comes from key-file or from
 * the environment variable VECFS_EMBED_KEY (then OPENAI_API_KEY); never from the spec. */
VX_MUST_CHECK
int embed_open(const char *spec, struct embedder **ret, struct vx_err *err);
void embed_close(struct embedder *e);

/* Dimension; 0 while unknown (cmd and url: until the first answer). */
uint32_t embed_dim(const struct embedder *e);

/* Embeds 'n' texts (UTF-8, borrowed).  *ret_vecs: malloc'd, n x dim; the caller frees.
 * -EINVAL, -EIO (program died, bad answer), -EAGAIN (endpoint still failing after retries),
 * -EACCES (endpoint refused the key). */
VX_MUST_CHECK
int embed_texts(struct embedder *e, const char *const *texts, const size_t *lens, size_t n,
	float **ret_vecs, uint32_t *ret_dim, struct vx_err *err);

/* The hash embedder alone, without allocation: 'ret' has 'dim' floats. */
void embed_hash(const char *text, size_t len, uint32_t dim, float *ret);

#endif
