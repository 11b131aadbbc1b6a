/* vec-drop.c - removes collections. */
#include <stdlib.h>

#include "cli_client.h"

static bool force, if_exists;

static const struct cli_opt opts[] = {
	{"force", 'f', CLI_FLAG, &force, NULL, 0, 0, "also when it has records"},
	{"if-exists", 0, CLI_FLAG, &if_exists, NULL, 0, 0, "succeed when there is none"},
};
static const struct cli_tool tool = {
	.name = "vec-drop",
	.args = "NAME...",
	.about = "Remove collections",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
};

static int drop(const char *arg)
{
	Vecfs__DropRequest req = VECFS__DROP_REQUEST__INIT;
	struct vx_err err = VX_ERR_INIT;
	struct client_place place;
	const Vecfs__Done *done;
	struct client *c = cli_connect(arg, &place);
	int code = CLI_DONE;

	req.name = place.name;
	req.force = force;
	int rc = client_call(c, RPC_DROP, &req.base, &vecfs__done__descriptor, &done, &err);
	if (rc == -ENOTEMPTY)
		vx_err_set(&err, rc, "it has records; --force drops them too");
	if (rc == -ENOENT && if_exists)
		cli_note("there is no %s", place.name);
	else if (rc)
		code = cli_fail_at(place.name, rc, &err);
	else
		cli_note("dropped %s", place.name);
	client_close(c);
	client_place_release(&place);
	return code;
}

int main(int argc, char **argv)
{
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;

	cli_operand(argc, argv, first, "NAME");
	for (int i = first; i < argc; i++)
		code = cli_worse(code, drop(argv[i]));
	return cli_finish(code);
}
