/* vec-recall.c - measures how many of the true neighbours a search finds. */
#include <stdlib.h>
#include <string.h>

#include "cli_client.h"

static uint32_t k = 10, samples = 100, ef;
static double at_least;
static const char *recall;

static const struct cli_opt opts[] = {
	{"k", 'k', CLI_U32, &k, "N", 1, VX_K_MAX, "neighbours per question (default 10)"},
	{"samples", 'n', CLI_U32, &samples, "N", 1, 10000,
		"stored records taken as questions (default 100)"},
	{"ef", 0, CLI_U32, &ef, "N", 1, 100000, "breadth of the search (default: by the recall)"},
	{"recall", 'r', CLI_STR, &recall, "R", 0, 0,
		"ask with this promise: 0.5 to 0.999, or exact (default: the collection's)"},
	{"at-least", 0, CLI_DOUBLE, &at_least, "RECALL", 0, 0,
		"end with 1 when the recall is lower"},
};
static const struct cli_tool tool = {
	.name = "vec-recall",
	.args = "COLLECTION",
	.about = "Measure the recall of a collection's index against exact search",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON | CLI_TSV,
};

int main(int argc, char **argv)
{
	Vecfs__RecallRequest req = VECFS__RECALL_REQUEST__INIT;
	const Vecfs__RecallAnswer *a;
	struct vx_err err = VX_ERR_INIT;
	struct client_place place;
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;
	const char *arg = cli_operand(argc, argv, first, "COLLECTION");

	if (first + 1 < argc)
		cli_usage("one COLLECTION at a time");
	if (recall && ef)
		cli_usage(
			"--ef and --recall: one says how hard to search, the other what to reach");
	if (recall && vx_recall_parse(recall, strlen(recall), &req.recall, &err))
		cli_usage("--%s", err.msg);
	struct client *c = cli_connect(arg, &place);
	req.collection = place.name;
	req.k = k;
	req.samples = samples;
	req.ef = ef;
	int rc = client_call(c, RPC_RECALL, &req.base, &vecfs__recall_answer__descriptor, &a, &err);
	if (rc) {
		code = cli_fail_at(place.name, rc, &err);
	} else {
		char sep = cli.tsv ? '\t' : ' ';

		if (cli.json)
			cli_outf("{\"recall\":%.4f,\"promised\":%.4g,\"ef\":%u,\"k\":%u,"
				 "\"samples\":%u,\"p50_us\":%.1f,"
				 "\"p99_us\":%.1f,\"exact_p50_us\":%.1f}\n",
				a->recall, (double)a->promised, a->ef, a->k, a->samples, a->p50_us,
				a->p99_us, a->exact_p50_us);
		else
			cli_outf("recall%c%.4f\npromised%c%.4g\nef%c%u\nk%c%u\nsamples%c%u\np50_us%"
				 "c%.1f\n"
				 "p99_us%c%.1f\nexact_p50_us%c%.1f\n",
				sep, a->recall, sep, (double)a->promised, sep, a->ef, sep, a->k,
				sep, a->samples, sep, a->p50_us, sep, a->p99_us, sep,
				a->exact_p50_us);
		if (a->recall < at_least)
			code = CLI_NOTHING;
	}
	client_close(c);
	client_place_release(&place);
	return cli_finish(code);
}
