/* vec-ls.c - lists collections. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli_client.h"

static bool long_form;

static const struct cli_opt opts[] = {
	{"long", 'l', CLI_FLAG, &long_form, NULL, 0, 0,
		"name, records, dim, metric, index, state, unindexed, memory; with a heading"},
};
static const struct cli_tool tool = {
	.name = "vec-ls",
	.args = "[COLLECTION...]",
	.about = "List collections",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON | CLI_TSV | CLI_IDS | CLI_NUL,
};

static void print(const Vecfs__CollectionInfo *ci)
{
	if (cli.json) {
		cli_outf("{\"name\":\"%s\",\"count\":%" PRIu64
			 ",\"dim\":%u,\"metric\":\"%s\",\"index\":\"%s\",\"quant\":\"%s\",\"m\":%u,"
			 "\"ef_construction\":%u,\"spread\":%u,\"state\":\"%s\",\"tail\":%" PRIu64
			 ",\"memory_bytes\":%" PRIu64 ",\"created\":%" PRIu64 ".%09u}",
			ci->name, ci->count, ci->dim, ci->metric, ci->index, ci->quant, ci->m,
			ci->ef_construction, ci->spread, ci->state, ci->tail, ci->memory_bytes,
			ci->ctime_ns / 1000000000, (unsigned)(ci->ctime_ns % 1000000000));
	} else if (long_form || cli.tsv) {
		cli_outf("%s\t%" PRIu64 "\t%u\t%s\t%s\t%s\t%" PRIu64 "\t%" PRIu64, ci->name,
			ci->count, ci->dim, ci->metric, ci->index, ci->state, ci->tail,
			ci->memory_bytes);
	} else {
		cli_outf("%s", ci->name);
	}
	cli_out_end();
}

static int list(const char *arg)
{
	Vecfs__ListRequest req = VECFS__LIST_REQUEST__INIT;
	const Vecfs__ListAnswer *ans;
	struct vx_err err = VX_ERR_INIT;
	struct client_place place;
	struct client *c = cli_connect_node(arg, &place);
	int code = CLI_DONE;

	req.collection = place.name;
	int rc = client_call(c, RPC_LIST, &req.base, &vecfs__list_answer__descriptor, &ans, &err);
	if (rc)
		code = cli_fail_at(arg ? place.name : "list", rc, &err);
	else
		for (size_t i = 0; i < ans->n_collections; i++)
			print(ans->collections[i]);
	client_close(c);
	client_place_release(&place);
	return code;
}

int main(int argc, char **argv)
{
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;

	if (cli.ids)
		long_form = false;
	if (long_form && !cli.json && !cli.tsv)
		cli_outf("name\trecords\tdim\tmetric\tindex\tstate\tunindexed\tmemory\n");
	if (first == argc)
		code = list(NULL);
	for (int i = first; i < argc; i++)
		code = cli_worse(code, list(argv[i]));
	return cli_finish(code);
}
