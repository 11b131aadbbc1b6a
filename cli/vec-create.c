/* vec-create.c - makes a collection. */
#include <stdlib.h>
#include <string.h>

#include "cli_client.h"

static const char *metric = "", *index_kind = "", *quant = "", *recall = "";
static uint32_t dim, m, ef_construction, spread;
static bool if_missing;

static const struct cli_opt opts[] = {
	{"metric", 'm', CLI_STR, &metric, "METRIC", 0, 0, "cosine (default), l2 or ip"},
	{"dim", 'd', CLI_U32, &dim, "N", 1, VX_DIM_MAX,
		"numbers per vector (default: as the first record)"},
	{"index", 0, CLI_STR, &index_kind, "KIND", 0, 0, "hnsw (default) or flat"},
	{"quant", 0, CLI_STR, &quant, "KIND", 0, 0, "sq8 (default), sq4, sq1 or none"},
	{"recall", 'r', CLI_STR, &recall, "R", 0, 0,
		"share of the true neighbours to find: 0.5 to 0.999 (default 0.95), or exact"},
	{"m", 0, CLI_U32, &m, "N", 2, 128, "links per node of the graph"},
	{"ef-construction", 0, CLI_U32, &ef_construction, "N", 8, 4096,
		"breadth of the search that places a new node"},
	{"spread", 0, CLI_U32, &spread, "N", 1, 256, "shards to spread it over"},
	{"if-missing", 0, CLI_FLAG, &if_missing, NULL, 0, 0,
		"succeed when it exists with these settings"},
};
static const struct cli_tool tool = {
	.name = "vec-create",
	.args = "NAME",
	.about = "Make a collection of vectors",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
};

/* The first setting asked for that the collection has otherwise; NULL: none. */
static const char *differing(const Vecfs__CollectionInfo *ci)
{
	if (metric[0] && strcmp(metric, ci->metric) != 0)
		return "metric";
	if (index_kind[0] && strcmp(index_kind, ci->index) != 0)
		return "index";
	if (quant[0] && strcmp(quant, ci->quant) != 0)
		return "quant";
	if (dim && ci->dim && dim != ci->dim)
		return "dim";
	if (m && m != ci->m)
		return "m";
	if (ef_construction && ef_construction != ci->ef_construction)
		return "ef-construction";
	return spread && spread != ci->spread ? "spread" : NULL;
}

static int exists(struct client *c, const char *name)
{
	const Vecfs__CollectionInfo *ci;
	struct vx_err err = VX_ERR_INIT;
	int rc = client_describe(c, name, &ci, &err);

	if (rc)
		return cli_fail_at(name, rc, &err);
	const char *what = differing(ci);
	if (what) {
		cli_error("%s exists with another %s (metric %s, dim %u, index %s, quant %s)", name,
			what, ci->metric, ci->dim, ci->index, ci->quant);
		return CLI_REFUSED;
	}
	if (!if_missing) {
		cli_error("%s exists already", name);
		return CLI_REFUSED;
	}
	cli_note("%s exists already", name);
	return CLI_DONE;
}

int main(int argc, char **argv)
{
	Vecfs__CreateRequest req = VECFS__CREATE_REQUEST__INIT;
	struct vx_err err = VX_ERR_INIT;
	struct client_place place;
	const Vecfs__Done *done;
	enum vx_metric parsed;
	float share;
	int first = cli_parse(&tool, argc, argv);
	const char *arg = cli_operand(argc, argv, first, "NAME");

	if (first + 1 < argc)
		cli_usage("one NAME at a time");
	if (metric[0] && vx_metric_parse(metric, &parsed))
		cli_usage("--metric: '%s' is none of cosine, l2, ip", metric);
	if (index_kind[0] && strcmp(index_kind, "hnsw") != 0 && strcmp(index_kind, "flat") != 0)
		cli_usage("--index: '%s' is none of hnsw, flat", index_kind);
	if (quant[0] && strcmp(quant, "sq8") != 0 && strcmp(quant, "sq4") != 0 &&
		strcmp(quant, "sq1") != 0 && strcmp(quant, "none") != 0)
		cli_usage("--quant: '%s' is none of sq8, sq4, sq1, none", quant);
	if (recall[0] && vx_recall_parse(recall, strlen(recall), &share, &err))
		cli_usage("--%s", err.msg);
	struct client *c = cli_connect(arg, &place);

	req.name = place.name;
	req.metric = (char *)(uintptr_t)metric;
	req.index = (char *)(uintptr_t)index_kind;
	req.quant = (char *)(uintptr_t)quant;
	req.recall = (char *)(uintptr_t)recall;
	req.dim = dim;
	req.m = m;
	req.ef_construction = ef_construction;
	req.spread = spread;
	int code = CLI_DONE;
	int rc = client_call(c, RPC_CREATE, &req.base, &vecfs__done__descriptor, &done, &err);
	if (rc == -EEXIST)
		code = exists(c, place.name);
	else if (rc)
		code = cli_fail_at(place.name, rc, &err);
	else
		cli_note("made %s", place.name);
	client_close(c);
	client_place_release(&place);
	return cli_finish(code);
}
