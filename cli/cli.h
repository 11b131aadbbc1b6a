/* cli.h - what every tool shares: options, messages, exit codes, progress, input and output.
 *
 *	static const struct cli_opt opts[] = {
 *		{"batch", 'b', CLI_U32, &batch, "N", 1, 100000, "records per request"},
 *	};
 *	static const struct cli_tool tool = {
 *		.name = "vec-put", .args = "COLLECTION [FILE...]", .about = "put records ...",
 *		.opts = opts, .n_opts = VX_ARRAY_SIZE(opts), .common = CLI_JSON | CLI_NUL,
 *	};
 *	int first = cli_parse(&tool, argc, argv);    argv[first] is the first operand
 *	...
 *	return cli_finish(code);
 *
 * One table per tool drives parsing and --help.  Tools are small programs with one thread, so the
 * state here is the process's.  Functions marked "exits" end the program.
 */
#ifndef VECFS_CLI_CLI_H
#define VECFS_CLI_CLI_H

#include <stdio.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/bytes.h"
#include "base/err.h"

/* --- exit codes -------------------------------------------------------------- */
enum cli_exit {
	CLI_DONE = 0,
	CLI_NOTHING = 1,  /* nothing found */
	CLI_USAGE = 2,    /* the command line is wrong */
	CLI_REJECTED = 3, /* some records were rejected, the others are in */
	CLI_BAD_DATA = 4, /* the input cannot be read as what it should be */
	CLI_REFUSED = 5,  /* the daemon (or the system) said no, or is not there */
	CLI_TRY_LATER = 75,
};

/* The one place where a negative errno becomes an exit code. */
int cli_exit_code(int rc);

/* --- options ------------------------------------------------------------------ */
enum cli_type {
	CLI_FLAG,   /* bool: set to true */
	CLI_NOFLAG, /* bool: set to false */
	CLI_STR,    /* const char * */
	CLI_U32,    /* uint32_t, within min..max */
	CLI_U64,    /* uint64_t, within min..max */
	CLI_DOUBLE, /* double */
};

struct cli_opt {
	const char *name; /* long form, without "--"; NULL: none */
	char letter;      /* short form; 0: none */
	enum cli_type type;
	void *to;
	const char *arg; /* its name in --help; NULL for flags */
	uint64_t min, max;
	const char *help;
};

/* Common options a tool takes beside -q -v -h -V, which all have. */
#define CLI_JSON 1u /* -j, --json */
#define CLI_TSV  2u /* -t, --tsv */
#define CLI_IDS  4u /* -i, --ids */
#define CLI_NUL  8u /* -0, --null */

struct cli_tool {
	const char *name;
	const char *args;  /* "COLLECTION [FILE...]" */
	const char *about; /* one sentence, without full stop */
	const struct cli_opt *opts;
	size_t n_opts;
	unsigned common;
	const char *more; /* printed after the options of --help; NULL: nothing */
};

/* What the common options said; set by cli_parse, constant afterwards. */
struct cli_state {
	const char *prog;
	bool json, tsv, ids, nul; /* the last of -j -t -i wins: at most one is set */
	bool quiet;
	bool verbose;
};
extern struct cli_state cli;

/* Returns the index of the first operand.  Exits after --help and --version (0) and on a wrong
 * command line (2). */
int cli_parse(const struct cli_tool *tool, int argc, char **argv);

/* "vec-put: REASON (try vec-put --help)"; exits with 2. */
_Noreturn void cli_usage(const char *fmt, ...) VX_PRINTF(1, 2);

/* --- messages on stderr ---------------------------------------------------------- */
/* "vec-put: REASON"; also under -q. */
void cli_error(const char *fmt, ...) VX_PRINTF(1, 2);
/* "vec-put: FILE:LINE: REASON"; line 0: without line.  Under -q nothing is printed. */
void cli_error_at(const char *file, uint64_t line, const char *fmt, ...) VX_PRINTF(3, 4);
/* A note under -v only. */
void cli_note(const char *fmt, ...) VX_PRINTF(1, 2);
/* cli_error of the reason; returns cli_exit_code(rc). */
int cli_fail(int rc, const struct vx_err *err);
/* As cli_fail, with the place ("notes", "FILE") before the reason. */
int cli_fail_at(const char *where, int rc, const struct vx_err *err);

/* Whether colours are wanted on this descriptor: a terminal, no NO_COLOR, TERM not dumb. */
bool cli_color(int fd);

/* A progress bar: drawn at most ten times a second, on stderr, when that is a terminal and
 * neither -q nor -v is given.  'total' 0: unknown.  cli_progress_end removes it. */
void cli_progress(const char *what, uint64_t done, uint64_t total);
void cli_progress_end(void);

/* Worse of two exit codes, for a tool that goes on after a failure. */
int cli_worse(int a, int b);

/* --- output ------------------------------------------------------------------------ */
/* Buffered stdout.  A failed write ends the program with 5 and the reason (SIGPIPE ends it silently). */
void cli_out(const void *p, size_t n);
void cli_outf(const char *fmt, ...) VX_PRINTF(1, 2);
/* The end of a line: a NUL under -0, else a newline. */
void cli_out_end(void);
/* Writes out what is buffered now, for readers that wait for it. */
void cli_flush(void);
/* Flushes, ends the progress bar, and returns 'code': "return cli_finish(code);". */
int cli_finish(int code);

/* --- input ------------------------------------------------------------------------- */
/* Opens FILE for reading; "-" is stdin.  -errno with the reason. */
VX_MUST_CHECK
int cli_open(const char *file, int *ret_fd, struct vx_err *err);
void cli_close(int fd); /* leaves stdin open */
/* Reads at most n bytes; 0 at the end; retries on EINTR. */
VX_MUST_CHECK
ssize_t cli_read(int fd, void *p, size_t n);
/* Reads until 'b' holds at least 'n' bytes or the stream ends. */
VX_MUST_CHECK
int cli_read_at_least(int fd, struct buf *b, size_t n);
/* Size of a regular file, 0 for anything else (pipes): the total of a progress bar. */
uint64_t cli_size(int fd);

/* Calls 'each' with the operands, or with the lines (under -0: NUL-ended items) of stdin when
 * there are none.  Empty lines are skipped.  Borrowed during the call; non-zero stops and is
 * returned.  -EMSGSIZE: a line of more than 1 MiB. */
VX_MUST_CHECK
int cli_each_item(char **args, int n_args,
	int (*each)(void *ctx, const char *p, size_t n, uint64_t line), void *ctx,
	struct vx_err *err);

#endif
