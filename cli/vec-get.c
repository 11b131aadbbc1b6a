/* vec-get.c - records by id. */
#include <stdlib.h>
#include <string.h>

#include "cli_client.h"

#define IDS_PER_REQUEST 256u

static const char *with = "meta,vector,text";

static const struct cli_opt opts[] = {
	{"with", 'w', CLI_STR, &with, "PARTS", 0, 0, "of meta,vector,text (default: all three)"},
};
static const struct cli_tool tool = {
	.name = "vec-get",
	.args = "COLLECTION [ID...]",
	.about = "Print records by id (from the command line or standard input) as JSON Lines",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON | CLI_IDS | CLI_NUL,
};

struct get {
	struct client *c;
	const char *coll;
	unsigned what;
	struct rpc_strings ids;
	uint64_t found, missing;
	struct vx_err err;
};

static int on_record(void *ctx, const struct vx_record *rec, uint64_t version, uint64_t mtime_ns)
{
	struct get *g = ctx;

	(void)version;
	(void)mtime_ns;
	g->found++;
	return cli_print_record(rec);
}

static int on_missing(void *ctx, uint32_t number)
{
	struct get *g = ctx;
	const uint32_t *sizes = (const uint32_t *)(const void *)g->ids.sizes.data;
	size_t at = 0;

	if (number >= g->ids.n)
		return -EPROTO;
	for (uint32_t i = 0; i < number; i++)
		at += sizes[i];
	g->missing++;
	if (!cli.quiet)
		cli_error("%s: there is no record '%.*s'", g->coll, (int)sizes[number],
			(const char *)g->ids.bytes.data + at);
	return 0;
}

static int ask(struct get *g)
{
	int rc = g->ids.n ? client_get(g->c, g->coll, &g->ids, g->what, on_record, on_missing, g,
				    &g->err)
			  : 0;

	rpc_strings_reset(&g->ids);
	return rc;
}

static int on_id(void *ctx, const char *p, size_t n, uint64_t line)
{
	struct get *g = ctx;
	int rc = rpc_strings_add(&g->ids, p, n);

	(void)line;
	if (rc == 0 && g->ids.n >= IDS_PER_REQUEST)
		rc = ask(g);
	return rc;
}

int main(int argc, char **argv)
{
	struct client_place place;
	struct get g = {0};
	int first = cli_parse(&tool, argc, argv);
	const char *arg = cli_operand(argc, argv, first, "COLLECTION");

	g.what = cli.ids ? 0 : cli_parse_with(with);
	g.c = cli_connect(arg, &place);
	g.coll = place.name;
	int rc = cli_each_item(argv + first + 1, argc - first - 1, on_id, &g, &g.err);
	if (rc == 0)
		rc = ask(&g);
	int code = rc ? cli_fail(rc, &g.err) : g.found ? CLI_DONE : CLI_NOTHING;
	rpc_strings_release(&g.ids);
	client_close(g.c);
	client_place_release(&place);
	return cli_finish(code);
}
