/* vec-stat.c - counters of a collection or of the node. */
#include <stdlib.h>
#include <string.h>

#include "cli_client.h"

static const struct cli_tool tool = {
	.name = "vec-stat",
	.args = "[COLLECTION]",
	.about = "Print the counters of a collection, or of the node",
	.common = CLI_JSON | CLI_TSV,
};

/* Whether the value may stand in JSON without quotes. */
static bool is_number(const char *s)
{
	char *end;
	size_t digits = strspn(s + (s[0] == '-'), "0123456789");

	if (digits == 0 || strspn(s, "-0123456789.eE+") != strlen(s) ||
		(digits > 1 && s[s[0] == '-'] == '0'))
		return false;
	(void)strtod(s, &end);
	return *end == 0 && s[strlen(s) - 1] != '.';
}

static void print_string(const char *s)
{
	struct buf b = BUF_INIT;

	if (codec_print_string(&b, s, strlen(s)) == 0)
		cli_out(b.data, b.len);
	buf_release(&b);
}

/* "key value" lines as one object, as TSV, or as they are. */
static void print(char *text)
{
	bool any = false;

	if (cli.json)
		cli_outf("{");
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char *space = strchr(line, ' ');
		const char *value = space ? space + 1 : "";

		if (space)
			*space = 0;
		if (cli.json) {
			cli_outf(any ? "," : "");
			print_string(line);
			cli_outf(":");
			if (is_number(value))
				cli_outf("%s", value);
			else
				print_string(value);
		} else {
			cli_outf("%s%c%s\n", line, cli.tsv ? '\t' : ' ', value);
		}
		any = true;
	}
	if (cli.json)
		cli_outf("}\n");
}

int main(int argc, char **argv)
{
	Vecfs__StatRequest req = VECFS__STAT_REQUEST__INIT;
	const Vecfs__StatAnswer *ans;
	struct vx_err err = VX_ERR_INIT;
	struct client_place place;
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;

	if (first + 1 < argc)
		cli_usage("one COLLECTION at a time");
	struct client *c = cli_connect_node(first < argc ? argv[first] : NULL, &place);
	req.collection = place.name;
	int rc = client_call(c, RPC_STAT, &req.base, &vecfs__stat_answer__descriptor, &ans, &err);
	char *text = rc ? NULL : strndup((const char *)ans->text.data, ans->text.len);
	if (rc)
		code = cli_fail(rc, &err);
	else if (text)
		print(text);
	free(text);
	client_close(c);
	client_place_release(&place);
	return cli_finish(code);
}
