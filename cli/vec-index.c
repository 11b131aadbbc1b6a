/* vec-index.c - the graph of a collection: wait for it, look at it, check, save and compact it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli_client.h"

#define STEP_MS 500u /* one answer of the daemon per step of the progress bar */

static double timeout_s;

static const struct cli_opt opts[] = {
	{"timeout", 0, CLI_DOUBLE, &timeout_s, "SECONDS", 0, 0,
		"wait, compact: give up after this long, with status 75"},
};
static const struct cli_tool tool = {
	.name = "vec-index",
	.args = "wait|status|check|save|compact COLLECTION",
	.about = "Wait for, show, check, save or compact the index of a collection",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON,
	.more = "wait    return once every record is in the index and nothing is compacted\n"
		"status  print its counters\n"
		"check   verify records, vectors and links against each other; 4 when damaged\n"
		"save    write a checkpoint now\n"
		"compact give back what deleted and replaced records hold, and wait for it",
};

static int call(struct client *c, const char *coll, int op, uint32_t timeout_ms,
	const Vecfs__IndexAnswer **ret, struct vx_err *err)
{
	Vecfs__IndexRequest req = VECFS__INDEX_REQUEST__INIT;

	req.collection = (char *)(uintptr_t)coll;
	req.op = (Vecfs__IndexRequest__Op)op;
	req.timeout_ms = timeout_ms;
	return client_call(c, RPC_INDEX, &req.base, &vecfs__index_answer__descriptor, ret, err);
}

static int wait_for(struct client *c, const char *coll)
{
	const Vecfs__IndexAnswer *a;
	struct vx_err err = VX_ERR_INIT;
	uint64_t start = clock_mono_ns(), first_tail = 0;

	for (;;) {
		double left = timeout_s - (double)(clock_mono_ns() - start) / 1e9;
		uint32_t ms = STEP_MS;

		if (timeout_s > 0 && left < STEP_MS / 1e3)
			ms = left > 0.001 ? (uint32_t)(left * 1e3) : 1;
		int rc = call(c, coll, VECFS__INDEX_REQUEST__OP__WAIT, ms, &a, &err);
		if (rc)
			return cli_fail_at(coll, rc, &err);
		if (a->done)
			return CLI_DONE;
		if (timeout_s > 0 && left <= STEP_MS / 1e3) {
			if (a->tail)
				cli_error("%s: %" PRIu64 " records are not indexed yet", coll,
					a->tail);
			else
				cli_error("%s: it is being compacted", coll);
			return CLI_TRY_LATER;
		}
		if (a->tail == 0 && a->compact_total) {
			cli_progress("compacting", a->compact_done, a->compact_total);
			continue;
		}
		first_tail = VX_MAX(first_tail, a->tail);
		cli_progress("indexing", first_tail - a->tail, first_tail);
	}
}

static int compact(struct client *c, const char *coll)
{
	const Vecfs__IndexAnswer *a;
	struct vx_err err = VX_ERR_INIT;

	int rc = call(c, coll, VECFS__INDEX_REQUEST__OP__COMPACT, 0, &a, &err);
	if (rc)
		return cli_fail_at(coll, rc, &err);
	int code = wait_for(c, coll);
	if (code != CLI_DONE)
		return code;
	rc = call(c, coll, VECFS__INDEX_REQUEST__OP__STATUS, 0, &a, &err);
	if (rc)
		return cli_fail_at(coll, rc, &err);
	if (a->compact_error && *a->compact_error) {
		cli_error("%s: %s", coll, a->compact_error);
		return CLI_REFUSED;
	}
	return CLI_DONE;
}

/* As vec-fsck does, of one collection. */
static int check(struct client *c, const char *coll)
{
	Vecfs__VerifyRequest req = VECFS__VERIFY_REQUEST__INIT;
	const Vecfs__VerifyAnswer *a;
	struct vx_err err = VX_ERR_INIT;

	req.collection = (char *)(uintptr_t)coll;
	int rc = client_call(c, RPC_VERIFY, &req.base, &vecfs__verify_answer__descriptor, &a, &err);
	if (rc)
		return cli_fail_at(coll, rc, &err);
	for (size_t i = 0; i < a->n_findings; i++) {
		const Vecfs__VerifyFinding *f = a->findings[i];
		if (f->level == VECFS__VERIFY_FINDING__LEVEL__NOTE)
			continue;
		if (f->at)
			cli_error("%s: %s:%" PRIu64 ": %s", coll, f->file, f->offset, f->reason);
		else
			cli_error("%s: %s: %s", coll, f->file, f->reason);
	}
	return a->damage + a->derived ? CLI_BAD_DATA : CLI_DONE;
}

static int other(struct client *c, const char *coll, int op)
{
	const Vecfs__IndexAnswer *a;
	struct vx_err err = VX_ERR_INIT;
	int rc = call(c, coll, op, 0, &a, &err);

	if (rc)
		return cli_fail_at(coll, rc, &err);
	if (op != VECFS__INDEX_REQUEST__OP__STATUS)
		return CLI_DONE;
	if (cli.json)
		cli_outf("{\"state\":\"%s\",\"kind\":\"%s\",\"quant\":\"%s\",\"records\":%" PRIu64
			 ",\"slots\":%" PRIu64 ",\"dead\":%" PRIu64 ",\"tail\":%" PRIu64
			 ",\"memory_bytes\":%" PRIu64 ",\"disk_bytes\":%" PRIu64
			 ",\"compactions\":%" PRIu64 ",\"reclaimed_bytes\":%" PRIu64 "}\n",
			a->state, a->kind, a->quant, a->records, a->slots, a->dead, a->tail,
			a->memory_bytes, a->disk_bytes, a->compactions, a->reclaimed_bytes);
	else
		cli_outf("state %s\nkind %s\nquant %s\nrecords %" PRIu64 "\nslots %" PRIu64
			 "\ndead %" PRIu64 "\ntail %" PRIu64 "\nmemory_bytes %" PRIu64
			 "\ndisk_bytes %" PRIu64 "\ncompactions %" PRIu64
			 "\nreclaimed_bytes %" PRIu64 "\n",
			a->state, a->kind, a->quant, a->records, a->slots, a->dead, a->tail,
			a->memory_bytes, a->disk_bytes, a->compactions, a->reclaimed_bytes);
	return CLI_DONE;
}

#define OP_CHECK -1 /* no operation of the index's: VerifyRequest */

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int op;
	} verbs[] = {
		{"wait", VECFS__INDEX_REQUEST__OP__WAIT},
		{"status", VECFS__INDEX_REQUEST__OP__STATUS},
		{"check", OP_CHECK},
		{"save", VECFS__INDEX_REQUEST__OP__SAVE},
		{"compact", VECFS__INDEX_REQUEST__OP__COMPACT},
	};
	struct client_place place;
	int first = cli_parse(&tool, argc, argv);
	const char *verb = cli_operand(
		argc, argv, first, "verb (wait, status, check, save, compact)");
	size_t i = 0;

	while (i < VX_ARRAY_SIZE(verbs) && strcmp(verbs[i].name, verb) != 0)
		i++;
	if (i == VX_ARRAY_SIZE(verbs))
		cli_usage("'%s' is none of wait, status, check, save, compact", verb);
	const char *arg = cli_operand(argc, argv, first + 1, "COLLECTION");
	if (first + 2 < argc)
		cli_usage("one COLLECTION at a time");
	struct client *c = cli_connect(arg, &place);
	int op = verbs[i].op;
	int code = op == VECFS__INDEX_REQUEST__OP__WAIT      ? wait_for(c, place.name)
		   : op == VECFS__INDEX_REQUEST__OP__COMPACT ? compact(c, place.name)
		   : op == OP_CHECK                          ? check(c, place.name)
							     : other(c, place.name, op);
	client_close(c);
	client_place_release(&place);
	return cli_finish(code);
}
