/* cli.c - options, messages, exit codes.
 *
 * The option table of a tool and the common options become one getopt_long call.  Messages go to
 * stderr as "PROG: REASON", one write each, so that parallel runs (xargs -P) do not mix lines;
 * the progress bar is taken away before a message and comes back with the next step.
 */
#include "cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

#define OPTS_MAX 48

struct cli_state cli = {.prog = "vec"};

static bool bar_drawn;
static uint64_t bar_last_ns;

/* Exactly one row of this table decides what a script sees. */
int cli_exit_code(int rc)
{
	switch (rc < 0 ? -rc : rc) {
	case 0:
		return CLI_DONE;
	case ENODATA:
		return CLI_NOTHING;
	case EINVAL:
	case EUCLEAN:
	case EMSGSIZE:
	case ENAMETOOLONG:
	case EILSEQ:
	case EBADMSG:
	case EISDIR:
		return CLI_BAD_DATA;
	case EAGAIN:
	case EBUSY:
	case ETIMEDOUT:
	case ESTALE:
	case EHOSTUNREACH:
	case EINTR:
	case ENOBUFS:
	case EMFILE:
	case ENFILE:
	case ECONNRESET: /* the daemon went away; its next start has all it acknowledged */
	case EPIPE:
		return CLI_TRY_LATER;
	default:
		return CLI_REFUSED;
	}
}

int cli_worse(int a, int b)
{
	return a == CLI_DONE || (a == CLI_NOTHING && b != CLI_DONE) || (a == CLI_REJECTED && b > a)
		       ? b
		       : a;
}

bool cli_color(int fd)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fd) && !(no && no[0]) && !(term && strcmp(term, "dumb") == 0);
}

/* --- messages ----------------------------------------------------------------------- */
static void say(const char *color, const char *where, const char *fmt, va_list ap) VX_PRINTF(3, 0);
static void say(const char *color, const char *where, const char *fmt, va_list ap)
{
	char line[1400];
	bool colored = color && cli_color(STDERR_FILENO);

	cli_progress_end();
	int n = snprintf(line, sizeof line, "%s%s:%s %s", colored ? color : "", cli.prog,
		colored ? "\033[0m" : "", where);
	if (n < 0 || (size_t)n > sizeof line - 2)
		n = (int)sizeof line - 2;
	int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	if (m > 0)
		n = (size_t)(n + m) < sizeof line - 1 ? n + m : (int)sizeof line - 2;
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, (size_t)n);
}

void cli_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("\033[1;31m", "", fmt, ap);
	va_end(ap);
}

void cli_error_at(const char *file, uint64_t line, const char *fmt, ...)
{
	char where[300];
	va_list ap;

	if (cli.quiet)
		return;
	if (strcmp(file, "-") == 0)
		file = "stdin";
	if (line)
		snprintf(where, sizeof where, "%.250s:%" PRIu64 ": ", file, line);
	else
		snprintf(where, sizeof where, "%.250s: ", file);
	va_start(ap, fmt);
	say("\033[1;31m", where, fmt, ap);
	va_end(ap);
}

void cli_note(const char *fmt, ...)
{
	va_list ap;

	if (!cli.verbose)
		return;
	va_start(ap, fmt);
	say(NULL, "", fmt, ap);
	va_end(ap);
}

int cli_fail(int rc, const struct vx_err *err)
{
	cli_error("%s", vx_err_msg(err, rc));
	return cli_exit_code(rc);
}

int cli_fail_at(const char *where, int rc, const struct vx_err *err)
{
	cli_error("%s: %s", strcmp(where, "-") == 0 ? "stdin" : where, vx_err_msg(err, rc));
	return cli_exit_code(rc);
}

_Noreturn void cli_usage(const char *fmt, ...)
{
	char msg[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	cli_error("%s (try '%s --help')", msg, cli.prog);
	exit(CLI_USAGE);
}

/* --- progress ------------------------------------------------------------------------ */
void cli_progress(const char *what, uint64_t done, uint64_t total)
{
	static int wanted = -1;
	char line[256], bar[31];
	struct winsize ws;

	if (wanted < 0)
		wanted = isatty(STDERR_FILENO) && !cli.quiet && !cli.verbose;
	if (!wanted)
		return;
	uint64_t now = clock_mono_ns();
	if (bar_drawn && now - bar_last_ns < 100000000ull)
		return;
	bar_last_ns = now;
	bar_drawn = true;
	int width = ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0 ? ws.ws_col : 80;
	int n;
	if (total) {
		double part = done < total ? (double)done / (double)total : 1;
		size_t full = (size_t)(part * (sizeof bar - 1));
		memset(bar, ' ', sizeof bar - 1);
		memset(bar, '#', full);
		bar[sizeof bar - 1] = 0;
		n = snprintf(line, sizeof line, "%s [%s] %3.0f%%", what, bar, part * 100);
	} else {
		n = snprintf(line, sizeof line, "%s %" PRIu64, what, done);
	}
	if (n > width - 1)
		n = width - 1;
	fprintf(stderr, "\r%.*s\033[K", n, line);
	fflush(stderr);
}

void cli_progress_end(void)
{
	if (!bar_drawn)
		return;
	bar_drawn = false;
	fputs("\r\033[K", stderr);
	fflush(stderr);
}

/* --- options --------------------------------------------------------------------------- */
static bool opt_json, opt_tsv, opt_ids, opt_nul, opt_quiet, opt_verbose, opt_help, opt_version;

static const struct {
	unsigned common; /* 0: every tool has it */
	struct cli_opt opt;
} common_opts[] = {
	{CLI_JSON, {"json", 'j', CLI_FLAG, &opt_json, NULL, 0, 0, "print JSON Lines"}},
	{CLI_TSV, {"tsv", 't', CLI_FLAG, &opt_tsv, NULL, 0, 0, "print tab-separated values"}},
	{CLI_IDS, {"ids", 'i', CLI_FLAG, &opt_ids, NULL, 0, 0, "print ids only, one per line"}},
	{CLI_NUL, {"null", '0', CLI_FLAG, &opt_nul, NULL, 0, 0, "items end in NUL, not newline"}},
	{0, {"quiet", 'q', CLI_FLAG, &opt_quiet, NULL, 0, 0,
		    "no progress, no per-record messages"}},
	{0, {"verbose", 'v', CLI_FLAG, &opt_verbose, NULL, 0, 0, "say what is done, on stderr"}},
	{0, {"help", 'h', CLI_FLAG, &opt_help, NULL, 0, 0, "print this help"}},
	{0, {"version", 'V', CLI_FLAG, &opt_version, NULL, 0, 0, "print the version"}},
};

static void print_opt(const struct cli_opt *o)
{
	char left[64];
	int n = 0;

	if (o->letter)
		n += snprintf(left, sizeof left, "-%c%s", o->letter, o->name ? ", " : "");
	else
		n += snprintf(left, sizeof left, "    ");
	if (o->name)
		n += snprintf(left + n, sizeof left - (size_t)n, "--%s", o->name);
	if (o->arg)
		snprintf(left + n, sizeof left - (size_t)n, "%c%s", o->name ? '=' : ' ', o->arg);
	printf("  %-26s  %s\n", left, o->help);
}

static _Noreturn void print_help(const struct cli_tool *tool)
{
	printf("usage: %s [OPTION...] %s\n%s.\n\n", tool->name, tool->args, tool->about);
	for (size_t i = 0; i < tool->n_opts; i++)
		print_opt(&tool->opts[i]);
	for (size_t i = 0; i < VX_ARRAY_SIZE(common_opts); i++)
		if (!common_opts[i].common || (common_opts[i].common & tool->common))
			print_opt(&common_opts[i].opt);
	if (tool->more)
		printf("\n%s\n", tool->more);
	printf("\nExit status: 0 done, 1 nothing found, 2 usage, 3 some records rejected, 4 bad "
	       "data,\n"
	       "5 refused, 75 try again later.\n");
	exit(fflush(stdout) == 0 ? CLI_DONE : CLI_REFUSED);
}

static void show_name(const struct cli_opt *o, char *ret, size_t n)
{
	if (o->name)
		snprintf(ret, n, "--%s", o->name);
	else
		snprintf(ret, n, "-%c", o->letter);
}

static void take(const struct cli_opt *o, const char *arg)
{
	char name[40], *end;

	show_name(o, name, sizeof name);
	switch (o->type) {
	case CLI_FLAG:
		*(bool *)o->to = true;
		return;
	case CLI_NOFLAG:
		*(bool *)o->to = false;
		return;
	case CLI_STR:
		*(const char **)o->to = arg;
		return;
	case CLI_DOUBLE:
		errno = 0;
		*(double *)o->to = strtod(arg, &end);
		if (errno || end == arg || *end)
			cli_usage("%s: '%s' is not a number", name, arg);
		return;
	case CLI_U32:
	case CLI_U64:
		break;
	}
	errno = 0;
	unsigned long long v = strtoull(arg, &end, 10);
	if (end == arg || *end || arg[0] < '0' || arg[0] > '9')
		cli_usage("%s: '%s' is not a number", name, arg);
	if (errno || v < o->min || v > o->max)
		cli_usage("%s: %s is not within %" PRIu64 "..%" PRIu64, name, arg, o->min, o->max);
	if (o->type == CLI_U32)
		*(uint32_t *)o->to = (uint32_t)v;
	else
		*(uint64_t *)o->to = v;
}

int cli_parse(const struct cli_tool *tool, int argc, char **argv)
{
	const struct cli_opt *all[OPTS_MAX];
	struct option longs[OPTS_MAX + 1];
	char shorts[2 * OPTS_MAX + 2];
	size_t n = 0, n_longs = 0, n_shorts = 0;

	cli.prog = tool->name;
	for (size_t i = 0; i < tool->n_opts && n < OPTS_MAX; i++)
		all[n++] = &tool->opts[i];
	for (size_t i = 0; i < VX_ARRAY_SIZE(common_opts) && n < OPTS_MAX; i++)
		if (!common_opts[i].common || (common_opts[i].common & tool->common))
			all[n++] = &common_opts[i].opt;

	shorts[n_shorts++] = ':';
	for (size_t i = 0; i < n; i++) {
		bool has_arg = all[i]->type != CLI_FLAG && all[i]->type != CLI_NOFLAG;

		if (all[i]->letter) {
			shorts[n_shorts++] = all[i]->letter;
			if (has_arg)
				shorts[n_shorts++] = ':';
		}
		if (all[i]->name)
			longs[n_longs++] = (struct option){all[i]->name,
				has_arg ? required_argument : no_argument, NULL, 256 + (int)i};
	}
	shorts[n_shorts] = 0;
	longs[n_longs] = (struct option){NULL, 0, NULL, 0};

	int c;
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct cli_opt *o = NULL;

		if (c == ':')
			cli_usage("option '%s' needs a value", argv[optind - 1]);
		if (c == '?') {
			if (optopt && optopt < 256)
				cli_usage("unknown option '-%c'", optopt);
			cli_usage("unknown option '%s'", argv[optind - 1]);
		}
		for (size_t i = 0; i < n && !o; i++)
			if (c == 256 + (int)i || (c < 256 && all[i]->letter == c))
				o = all[i];
		take(o, optarg);
		/* Of -j, -t and -i the last one holds. */
		if (o->to == &opt_json)
			opt_tsv = opt_ids = false;
		else if (o->to == &opt_tsv)
			opt_json = opt_ids = false;
		else if (o->to == &opt_ids)
			opt_json = opt_tsv = false;
	}
	if (opt_help)
		print_help(tool);
	if (opt_version) {
		printf("%s (vecfs) %s\n", tool->name, VECFS_VERSION);
		exit(fflush(stdout) == 0 ? CLI_DONE : CLI_REFUSED);
	}
	cli.json = opt_json;
	cli.tsv = opt_tsv;
	cli.ids = opt_ids;
	cli.nul = opt_nul;
	cli.quiet = opt_quiet;
	cli.verbose = opt_verbose && !opt_quiet;
	/* A reader that goes away ends us silently, whatever the parent made of SIGPIPE. */
	signal(SIGPIPE, SIG_DFL);
	return optind;
}
