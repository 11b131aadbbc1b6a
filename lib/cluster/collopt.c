/* collopt.c - the options of a collection: one table, one checker. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/db_i.h"

/* In the order of enum coll_opt. */
const struct coll_option coll_options[] = {
	[CO_DIM] = {"dim", "0", "0", "65536", true,
		"numbers per vector; 0: fixed by the first record"},
	[CO_METRIC] = {"metric", "cosine", NULL, NULL, true, "cosine, l2 or ip"},
	[CO_INDEX] = {"index", "hnsw", NULL, NULL, true, "hnsw or flat"},
	[CO_QUANT] = {"quant", "sq8", NULL, NULL, true,
		"codes the index works on, reranked exactly: sq8 (8 bits), sq4, sq1 or none"},
	[CO_M] = {"m", "16", "2", "128", true, "links per node and layer"},
	[CO_EF_CONSTRUCTION] = {"ef_construction", "200", "8", "4096", true,
		"breadth of the search that places a new node"},
	[CO_SPREAD] = {"spread", "1", "1", "256", true, "shards the collection is spread over"},
	[CO_EF_SEARCH] = {"ef_search", "0", "0", "100000", false,
		"breadth of a search; 0: what the recall needs"},
	[CO_RECALL] = {"recall", "0.95", NULL, NULL, false,
		"share of the true neighbours to find: 0.5 to 0.999, or exact"},
	[CO_K] = {"k", "10", "1", "100000", false, "neighbours when the question does not say"},
	[CO_ON_ERROR] = {"on_error", "skip", NULL, NULL, false,
		"a bad record in inbox/: skip it, or abort the file"},
	[CO_EMBEDDER] = {"embedder", "hash", NULL, NULL, false,
		"what turns a question's text into a vector: hash, cmd:PROGRAM or url:URL"},
	[CO_MEMORY_MAX] = {"memory.max", "0", NULL, NULL, false,
		"memory its index may take, as 512M; 0: no limit"},
	[CO_QUOTA_MAX] = {"quota.max", "0", NULL, NULL, false,
		"disk it may take, as 20G; 0: no limit"},
	[CO_INBOX_MAX] = {"inbox.max", "1G", NULL, NULL, false,
		"bytes of a file that is renamed in inbox/ and so committed as a whole; 0: no "
		"limit"},
};
const size_t n_coll_options = VX_ARRAY_SIZE(coll_options);
_Static_assert(VX_ARRAY_SIZE(coll_options) == CO_N, "the table follows enum coll_opt");

int coll_opt_find(const char *name)
{
	for (size_t i = 0; i < n_coll_options; i++)
		if (strcmp(coll_options[i].name, name) == 0)
			return (int)i;
	return -ENOENT;
}

static bool one_of(const char *v, const char *a, const char *b)
{
	return strcmp(v, a) == 0 || strcmp(v, b) == 0;
}

int coll_option_check(enum coll_opt o, const char *value, struct vx_err *err)
{
	const struct coll_option *d = &coll_options[o];
	enum vx_metric m;
	float recall;
	uint64_t size;

	if (strlen(value) > CONFIG_VALUE_MAX || strpbrk(value, "\n\r"))
		return vx_err_set(
			err, -EINVAL, "%s: the value is too long or has a line break", d->name);
	if (d->min) {
		char *end;

		errno = 0;
		long long v = strtoll(value, &end, 10);
		if (end == value || *end || errno)
			return vx_err_set(err, -EINVAL, "%s: '%s' is not a number", d->name, value);
		if (v < atoll(d->min) || v > atoll(d->max))
			return vx_err_set(err, -EINVAL, "%s: %s is not within %s to %s", d->name,
				value, d->min, d->max);
		return 0;
	}
	switch (o) {
	case CO_RECALL:
		return vx_recall_parse(value, strlen(value), &recall, err);
	case CO_MEMORY_MAX:
	case CO_QUOTA_MAX:
	case CO_INBOX_MAX:
		if (!quota_parse(value, &size))
			return vx_err_set(
				err, -EINVAL, "%s: '%s' is not a size like 512M", d->name, value);
		break;
	case CO_METRIC:
		if (vx_metric_parse(value, &m))
			return vx_err_set(
				err, -EINVAL, "metric: '%s' is none of cosine, l2, ip", value);
		break;
	case CO_INDEX:
		if (!one_of(value, "hnsw", "flat"))
			return vx_err_set(err, -EINVAL, "index: '%s' is none of hnsw, flat", value);
		break;
	case CO_QUANT:
		if (!one_of(value, "sq8", "none") && !one_of(value, "sq4", "sq1"))
			return vx_err_set(
				err, -EINVAL, "quant: '%s' is none of sq8, sq4, sq1, none", value);
		break;
	case CO_ON_ERROR:
		if (!one_of(value, "skip", "abort"))
			return vx_err_set(
				err, -EINVAL, "on_error: '%s' is none of skip, abort", value);
		break;
	case CO_EMBEDDER:
		if (strcmp(value, "hash") != 0 && strncmp(value, "hash:", 5) != 0 &&
			strncmp(value, "cmd:", 4) != 0 && strncmp(value, "url:", 4) != 0)
			return vx_err_set(err, -EINVAL,
				"embedder: '%s' is none of hash, cmd:PROGRAM, url:URL", value);
		break;
	default:
		break;
	}
	return 0;
}

const char *coll_opt_get(struct coll *c, enum coll_opt o)
{
	return c->opt[o] ? c->opt[o] : coll_options[o].def;
}
