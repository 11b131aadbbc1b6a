/* vec-fsck.c - verify a data directory that nobody serves, or a collection that is being served; repair what is derived.
 *
 * One finding per line on standard output.  "note" is what a crash leaves and the next start sees to; "derived" can
 * be made again from what is right; "damage" is data that this node has nowhere else. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli_client.h"
#include "cluster/db.h"
#include "cluster/fsck.h"
#include "store/verify.h"

#define FSCK_REPAIRED 1 /* nothing is wrong any more; not an error of the tool */

static bool repair, force, stat_only;
static const char *accept_loss;

static const struct cli_opt opts[] = {
	{"repair", 'r', CLI_FLAG, &repair, NULL, 0, 0,
		"make again what is derived: counts, rosters, headers, ids, index checkpoints"},
	{"force", 'f', CLI_FLAG, &force, NULL, 0, 0,
		"with -r: give up records that cannot be read, and slots that are nobody's"},
	{"accept-loss", 0, CLI_STR, &accept_loss, "WHAT", 0, 0,
		"put shard number WHAT, or the catalog, back in service without what its damaged "
		"log had"},
	{"stat", 's', CLI_FLAG, &stat_only, NULL, 0, 0, "say how much was looked at"},
};
static const struct cli_tool tool = {
	.name = "vec-fsck",
	.args = "DATA|COLLECTION...",
	.about = "Verify a data directory, or a collection while it is served",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON,
	.more = "Exit status: 0 nothing wrong, 1 all that was wrong is repaired, 4 damage is "
		"left,\n"
		"75 a daemon serves the directory.",
};

/* --- a data directory ---------------------------------------------------------------------- */

static void out_string(const char *s)
{
	cli_out("\"", 1);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			cli_outf("\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			cli_outf("\\u%04x", (unsigned)*s);
		else
			cli_out(s, 1);
	}
	cli_out("\"", 1);
}

static void found(void *ctx, const struct verify_finding *f)
{
	static const char *const names[] = {"note", "derived", "damage"};
	const char *level = f->repaired ? "repaired" : names[f->level];

	(void)ctx;
	if (f->level == VERIFY_NOTE && !cli.verbose && !cli.json)
		return;
	if (cli.json) {
		cli_outf("{\"level\":\"%s\",\"file\":", level);
		out_string(f->file);
		if (f->offset != VERIFY_NOWHERE)
			cli_outf(",\"offset\":%" PRIu64, f->offset);
		cli_outf(",\"reason\":");
		out_string(f->why);
		cli_outf("}\n");
	} else if (f->offset != VERIFY_NOWHERE) {
		cli_outf("%s %s:%" PRIu64 ": %s\n", level, f->file, f->offset, f->why);
	} else {
		cli_outf("%s %s: %s\n", level, f->file, f->why);
	}
}

static void summary(const struct verify *v)
{
	if (cli.json)
		cli_outf("{\"slices\":%" PRIu64 ",\"records\":%" PRIu64 ",\"slots\":%" PRIu64
			 ",\"dead\":%" PRIu64 ",\"notes\":%" PRIu64 ",\"derived\":%" PRIu64
			 ",\"damage\":%" PRIu64 ",\"repaired\":%" PRIu64 "}\n",
			v->slices, v->records, v->slots, v->dead, v->notes, v->derived, v->damage,
			v->repaired);
	else
		cli_outf("slices %" PRIu64 "\nrecords %" PRIu64 "\nslots %" PRIu64 "\ndead %" PRIu64
			 "\nnotes %" PRIu64 "\nderived %" PRIu64 "\ndamage %" PRIu64
			 "\nrepaired %" PRIu64 "\n",
			v->slices, v->records, v->slots, v->dead, v->notes, v->derived, v->damage,
			v->repaired);
}

static int offline(const char *dir)
{
	struct verify v = {.repair = repair, .force = force, .found = found};
	struct vx_err err = VX_ERR_INIT;
	int rc = node_verify(dir, &v, &err);

	if (rc)
		return cli_fail(rc, &err);
	if (stat_only)
		summary(&v);
	if (v.derived + v.damage > v.repaired)
		return CLI_BAD_DATA;
	return v.repaired ? FSCK_REPAIRED : CLI_DONE;
}

static int accept_it(const char *dir)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = db_accept_loss(dir, accept_loss, &err);

	if (rc)
		return cli_fail(rc, &err);
	cli_outf("%s: %s%s: in service again, as its store is\n", dir,
		strcmp(accept_loss, "catalog") == 0 ? "" : "shard ", accept_loss);
	return CLI_DONE;
}

/* --- a collection ---------------------------------------------------------------------------- */

static int online(const char *coll)
{
	Vecfs__IndexRequest req = VECFS__INDEX_REQUEST__INIT;
	const Vecfs__IndexAnswer *a;
	struct client_place place;
	struct vx_err err = VX_ERR_INIT;
	int code = CLI_DONE;

	if (repair)
		cli_usage("%s: only a data directory that nobody serves can be repaired", coll);
	struct client *c = cli_connect(coll, &place);
	req.collection = place.name;
	req.op = VECFS__INDEX_REQUEST__OP__CHECK;
	int rc = client_call(c, RPC_INDEX, &req.base, &vecfs__index_answer__descriptor, &a, &err);
	if (rc) {
		code = cli_fail_at(coll, rc, &err);
	} else {
		for (size_t i = 0; i < a->n_findings; i++) {
			if (cli.json) {
				cli_outf("{\"level\":\"damage\",\"reason\":");
				out_string(a->findings[i]);
				cli_outf("}\n");
			} else {
				cli_outf("damage %s\n", a->findings[i]);
			}
		}
		if (stat_only)
			cli_outf(cli.json ? "{\"records\":%" PRIu64 ",\"damage\":%" PRIu64 "}\n"
					  : "records %" PRIu64 "\ndamage %" PRIu64 "\n",
				a->records, a->damage);
		code = a->damage ? CLI_BAD_DATA : CLI_DONE;
	}
	client_close(c);
	client_place_release(&place);
	return code;
}

int main(int argc, char **argv)
{
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;

	(void)cli_operand(argc, argv, first, "DATA or COLLECTION");
	if (force && !repair)
		cli_usage("--force goes with --repair");
	if (accept_loss && (repair || first + 1 != argc))
		cli_usage("--accept-loss goes with one data directory, and without --repair");
	/* Whatever the library would log is a finding. */
	if (!getenv("VECFS_LOG"))
		(void)!log_configure("off");
	for (int i = first; i < argc; i++) {
		int one = accept_loss ? accept_it(argv[i]) : node_is_data(argv[i]) ? offline(argv[i]) : online(argv[i]);
		code = cli_worse(code, one);
	}
	return cli_finish(code);
}
