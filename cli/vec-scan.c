/* vec-scan.c - prints a whole collection. */
#include <stdlib.h>

#include "cli_client.h"

static const char *with = "meta,vector,text";

static const struct cli_opt opts[] = {
	{"with", 'w', CLI_STR, &with, "PARTS", 0, 0, "of meta,vector,text (default: all three)"},
};
static const struct cli_tool tool = {
	.name = "vec-scan",
	.args = "COLLECTION",
	.about = "Print every record of a collection, as it is at one moment, as JSON Lines",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON | CLI_IDS | CLI_NUL,
};

static uint64_t seen, total;

static int on_record(void *ctx, const struct vx_record *rec, uint64_t version, uint64_t mtime_ns)
{
	(void)ctx;
	(void)version;
	(void)mtime_ns;
	if (++seen % 1024 == 0)
		cli_progress("records", seen, total);
	return cli_print_record(rec);
}

int main(int argc, char **argv)
{
	const Vecfs__CollectionInfo *ci;
	struct vx_err err = VX_ERR_INIT;
	struct client_place place;
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;
	const char *arg = cli_operand(argc, argv, first, "COLLECTION");
	unsigned what = cli.ids ? 0 : cli_parse_with(with);

	if (first + 1 < argc)
		cli_usage("one COLLECTION at a time");
	struct client *c = cli_connect(arg, &place);
	int rc = client_describe(c, place.name, &ci, &err);
	if (rc == 0)
		total = ci->count;
	/* Where there is none, it is this request that leaves a line in the error log. */
	if (rc == 0 || rc == -ENOENT)
		rc = client_scan(c, place.name, what, on_record, NULL, &err);
	if (rc)
		code = cli_fail_at(place.name, rc, &err);
	client_close(c);
	client_place_release(&place);
	return cli_finish(code);
}
