#include "embed/embed.h"

#include <stdlib.h>
#include <string.h>

#include "embed/embed_i.h"

struct embedder {
	/* Immutable but for 'dim', which cmd and url learn from the first answer. */
	uint32_t dim;
	struct cmd *cmd;
	struct url *url;
};

static int hash_options(const char *spec, uint32_t *ret_dim, struct vx_err *err)
{
	char *end;

	*ret_dim = EMBED_DIM_DEFAULT;
	if (!*spec)
		return 0;
	if (strncmp(spec, ":dim=", 5) != 0)
		return vx_err_set(
			err, -EINVAL, "'hash%s' is no embedder: hash or hash:dim=N", spec);
	unsigned long v = strtoul(spec + 5, &end, 10);
	if (spec[5] < '0' || spec[5] > '9' || *end || v < 1 || v > VX_DIM_MAX)
		return vx_err_set(err, -EINVAL, "dim=%.40s is not a dimension from 1 to %u",
			spec + 5, VX_DIM_MAX);
	*ret_dim = (uint32_t)v;
	return 0;
}

int embed_open(const char *spec, struct embedder **ret, struct vx_err *err)
{
	struct embedder *e = calloc(1, sizeof *e);
	int rc;

	if (!e)
		return vx_err_set(err, -ENOMEM, "out of memory");
	if (!strncmp(spec, "hash", 4) && (spec[4] == 0 || spec[4] == ':'))
		rc = hash_options(spec + 4, &e->dim, err);
	else if (!strncmp(spec, "cmd:", 4))
		rc = cmd_open(spec + 4, &e->cmd, err);
	else if (!strncmp(spec, "url:", 4))
		rc = url_open(spec + 4, &e->url, err);
	else
		rc = vx_err_set(err, -EINVAL,
			"'%.80s' is no embedder: hash[:dim=N], cmd:PROGRAM or url:ADDRESS", spec);
	if (rc) {
		free(e);
		return rc;
	}
	*ret = e;
	return 0;
}

void embed_close(struct embedder *e)
{
	if (!e)
		return;
	cmd_close(e->cmd);
	url_close(e->url);
	free(e);
}

uint32_t embed_dim(const struct embedder *e)
{
	return e->dim;
}

int embed_put(struct embed_out *out, size_t i, const float *vec, uint32_t dim, struct vx_err *err)
{
	size_t bytes;

	if (out->dim && dim != out->dim)
		return vx_err_set(err, -EIO,
			"the embedder gave %u numbers for text %zu; before it gave %u", dim, i + 1,
			out->dim);
	if (!out->vecs) {
		if (vx_mul_overflow(out->n, dim, &bytes) ||
			vx_mul_overflow(bytes, sizeof(float), &bytes))
			return vx_err_set(err, -ENOMEM, "out of memory");
		out->vecs = malloc(bytes);
		if (!out->vecs)
			return vx_err_set(err, -ENOMEM, "out of memory");
		out->dim = dim;
	}
	memcpy(out->vecs + i * dim, vec, dim * sizeof(float));
	return 0;
}

static int hash_texts(
	const char *const *texts, const size_t *lens, struct embed_out *out, struct vx_err *err)
{
	size_t bytes;

	if (vx_mul_overflow(out->n, out->dim * sizeof(float), &bytes))
		return vx_err_set(err, -ENOMEM, "out of memory");
	out->vecs = malloc(bytes);
	if (!out->vecs)
		return vx_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < out->n; i++)
		embed_hash(texts[i], lens[i], out->dim, out->vecs + i * out->dim);
	return 0;
}

int embed_texts(struct embedder *e, const char *const *texts, const size_t *lens, size_t n,
	float **ret_vecs, uint32_t *ret_dim, struct vx_err *err)
{
	struct embed_out out = {.dim = e->dim, .n = n};
	int rc;

	if (n == 0)
		return vx_err_set(err, -EINVAL, "there is no text to embed");
	if (e->cmd)
		rc = cmd_texts(e->cmd, texts, lens, n, &out, err);
	else if (e->url)
		rc = url_texts(e->url, texts, lens, n, &out, err);
	else
		rc = hash_texts(texts, lens, &out, err);
	if (rc) {
		free(out.vecs);
		return rc;
	}
	e->dim = out.dim;
	*ret_vecs = out.vecs;
	*ret_dim = out.dim;
	return 0;
}
