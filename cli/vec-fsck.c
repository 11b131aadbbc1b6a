/* vec-fsck.c - verify a data directory, or a collection; repair what is derived.
 *
 * A directory that a daemon serves is verified by that daemon, as is a collection, or all behind a mount.
 *
 * One finding per line on standard output.  "note" is what a crash leaves and the next start sees to; "derived" can
 * be made again from what is right; "damage" is data that this node has nowhere else. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli_client.h"
#include "cluster/fsck.h"
#include "store/verify.h"

#define LOCK_WAIT_MS  1000u
#define LOCK_POLL_MS  50u
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
	.args = "DATA|MOUNT|COLLECTION...",
	.about = "Verify a data directory, served or not, or a collection",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON,
	.more = "Exit status: 0 nothing wrong, 1 all that was wrong is repaired, 4 damage is "
		"left,\n"
		"75 a daemon serves the directory and cannot be asked, or --repair was given.",
};

/* --- findings ------------------------------------------------------------------------------- */

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

static int verdict(const struct verify *v)
{
	if (stat_only)
		summary(v);
	if (v->derived + v->damage > v->repaired)
		return CLI_BAD_DATA;
	return v->repaired ? FSCK_REPAIRED : CLI_DONE;
}

static int accept_it(const char *dir)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = node_accept_loss(dir, accept_loss, &err);

	if (rc)
		return cli_fail(rc, &err);
	cli_outf("%s: %s%s: in service again, as its store is\n", dir,
		strcmp(accept_loss, "catalog") == 0 ? "" : "shard ", accept_loss);
	return CLI_DONE;
}

/* --- what is served -------------------------------------------------------------------------- */

static void show_answer(const Vecfs__VerifyAnswer *a, struct verify *ret)
{
	for (size_t i = 0; i < a->n_findings; i++) {
		const Vecfs__VerifyFinding *m = a->findings[i];
		struct verify_finding f = {
			.level = (enum verify_level)VX_MIN(m->level, (unsigned)VERIFY_DAMAGE),
			.file = m->file,
			.offset = m->at ? m->offset : VERIFY_NOWHERE,
			.why = m->reason};
		found(NULL, &f);
	}
	*ret = (struct verify){.slices = a->slices,
		.records = a->records,
		.slots = a->slots,
		.dead = a->dead,
		.notes = a->notes,
		.derived = a->derived,
		.damage = a->damage};
}

/* 'dir': it has to be the daemon's; NULL: whichever it is. */
static int ask(
	struct client *c, const char *coll, const char *dir, struct verify *ret, struct vx_err *err)
{
	Vecfs__VerifyRequest req = VECFS__VERIFY_REQUEST__INIT;
	const Vecfs__VerifyAnswer *a;

	req.collection = (char *)(uintptr_t)coll;
	if (dir)
		req.dir = (char *)(uintptr_t)dir;
	int rc = client_call(c, RPC_VERIFY, &req.base, &vecfs__verify_answer__descriptor, &a, err);
	if (rc == 0)
		show_answer(a, ret);
	return rc;
}

/* A collection, or all behind a mount. */
static int online(const char *name)
{
	struct client_place place;
	struct vx_err err = VX_ERR_INIT;
	struct verify v;

	if (repair)
		cli_usage("%s: only a data directory that nobody serves can be repaired", name);
	struct client *c = cli_connect_node(name, &place);
	int rc = ask(c, place.name, NULL, &v, &err);
	client_close(c);
	client_place_release(&place);
	return rc ? cli_fail_at(name, rc, &err) : verdict(&v);
}

/* DATA, by the daemon that serves it. */
static int ask_its_daemon(const char *dir, struct verify *ret, struct vx_err *err)
{
	struct client_place place;
	struct client *c = NULL;
	char *path = realpath(dir, NULL);
	int rc = path ? client_place_find(NULL, &place, err) : -errno;

	if (rc == 0) {
		rc = client_open(&place, cli.prog, &c, err);
		if (rc == 0)
			rc = ask(c, "", path, ret, err);
		client_close(c);
		client_place_release(&place);
	}
	free(path);
	return rc;
}

/* --- a data directory ------------------------------------------------------------------------ */

/* By its daemon, if there is one.  One that was killed a moment ago may still be on its way out, and has the lock until
 * then. */
static int directory(const char *dir)
{
	struct verify v = {.repair = repair, .force = force, .found = found};
	struct vx_err err = VX_ERR_INIT, why = VX_ERR_INIT;
	int rc = node_verify(dir, &v, &err), rc2 = 0;

	for (unsigned waited = 0; rc == -EBUSY && waited < LOCK_WAIT_MS; waited += LOCK_POLL_MS) {
		rc2 = repair ? -ECONNREFUSED : ask_its_daemon(dir, &v, &why);
		if (rc2 != -ENOENT && rc2 != -ECONNREFUSED && rc2 != -EACCES && rc2 != -EXDEV)
			return rc2 ? cli_fail(rc2, &why) : verdict(&v);
		usleep(LOCK_POLL_MS * 1000);
		rc = node_verify(dir, &v, &err);
	}
	if (rc == -EBUSY && !repair) {
		cli_error("%s, which cannot be asked: %s", vx_err_msg(&err, rc),
			vx_err_msg(&why, rc2));
		return cli_exit_code(rc);
	}
	return rc ? cli_fail(rc, &err) : verdict(&v);
}

int main(int argc, char **argv)
{
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;

	(void)cli_operand(argc, argv, first, "DATA, MOUNT or COLLECTION");
	if (force && !repair)
		cli_usage("--force goes with --repair");
	if (accept_loss && (repair || first + 1 != argc))
		cli_usage("--accept-loss goes with one data directory, and without --repair");
	/* Whatever the library would log is a finding. */
	if (!getenv("VECFS_LOG"))
		(void)!log_configure("off");
	for (int i = first; i < argc; i++) {
		int one = accept_loss             ? accept_it(argv[i])
			  : node_is_data(argv[i]) ? directory(argv[i])
						  : online(argv[i]);
		code = cli_worse(code, one);
	}
	return cli_finish(code);
}
