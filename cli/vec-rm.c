/* vec-rm.c - removes records by id. */
#include <inttypes.h>
#include <stdlib.h>

#include "cli_client.h"

#define IDS_PER_REQUEST 4096u

static const struct cli_tool tool = {
	.name = "vec-rm",
	.args = "COLLECTION [ID...]",
	.about = "Remove records by id (from the command line or standard input)",
	.common = CLI_NUL,
};

struct rm {
	struct client *c;
	const char *coll;
	struct rpc_strings ids;
	uint64_t given, deleted, missing, bad;
	struct vx_err err;
};

static int ask(struct rm *r)
{
	Vecfs__DeleteRequest req = VECFS__DELETE_REQUEST__INIT;
	const Vecfs__WriteAnswer *a;

	if (!r->ids.n)
		return 0;
	req.collection = (char *)(uintptr_t)r->coll;
	req.ids.data = r->ids.bytes.data;
	req.ids.len = r->ids.bytes.len;
	req.id_sizes = (uint32_t *)(void *)r->ids.sizes.data;
	req.n_id_sizes = r->ids.n;
	int rc = client_call(
		r->c, RPC_DELETE, &req.base, &vecfs__write_answer__descriptor, &a, &r->err);
	if (rc)
		return rc;
	r->deleted += a->deleted;
	r->missing += a->missing;
	r->bad += a->n_errors;
	for (size_t i = 0; i < a->n_errors && !cli.quiet; i++)
		cli_error("%s: id %" PRIu64 ": %s", r->coll,
			r->given - r->ids.n + a->errors[i]->row + 1, a->errors[i]->reason);
	if (r->given > 1) /* the id of a single one is needed for the message */
		rpc_strings_reset(&r->ids);
	return 0;
}

/* The answer counts them; a single one can be named. */
static void say_missing(const struct rm *r)
{
	if (!r->missing || cli.quiet)
		return;
	if (r->given == 1)
		cli_error("%s: there is no record '%.*s'", r->coll, (int)r->ids.bytes.len,
			(const char *)r->ids.bytes.data);
	else
		cli_error("%s: %" PRIu64 " of %" PRIu64 " ids were not there", r->coll, r->missing,
			r->given);
}

static int on_id(void *ctx, const char *p, size_t n, uint64_t line)
{
	struct rm *r = ctx;
	int rc = rpc_strings_add(&r->ids, p, n);

	(void)line;
	r->given++;
	if (rc == 0 && r->ids.n >= IDS_PER_REQUEST)
		rc = ask(r);
	return rc;
}

int main(int argc, char **argv)
{
	struct client_place place;
	struct rm r = {0};
	int first = cli_parse(&tool, argc, argv);
	const char *arg = cli_operand(argc, argv, first, "COLLECTION");

	r.c = cli_connect(arg, &place);
	r.coll = place.name;
	int rc = cli_each_item(argv + first + 1, argc - first - 1, on_id, &r, &r.err);
	if (rc == 0)
		rc = ask(&r);
	if (rc == 0)
		say_missing(&r);
	cli_note("%s: %" PRIu64 " removed, %" PRIu64 " were not there", r.coll, r.deleted,
		r.missing);
	int code = rc                          ? cli_fail(rc, &r.err)
		   : r.bad                     ? CLI_REJECTED
		   : r.given && r.deleted == 0 ? CLI_NOTHING
					       : CLI_DONE;
	rpc_strings_release(&r.ids);
	client_close(r.c);
	client_place_release(&place);
	return cli_finish(code);
}
