/* options.h - the daemon's options: one table for the command line, the config file, --help, the
 * dump under .vecfs/config and the check against the man page.
 *
 * Precedence: command line over config file over default.  Values are kept as text and checked when
 * set.  Threads: filled by one thread before others start; options_set_runtime and options_get_copy
 * afterwards by anyone.
 */
#ifndef VECFS_DAEMON_OPTIONS_H
#define VECFS_DAEMON_OPTIONS_H

#include "base/base.h"
#include "base/bytes.h"
#include "base/err.h"

enum opt_type { OPT_BOOL, OPT_INT, OPT_SIZE, OPT_STRING };

struct opt_def {
	const char *name;
	char letter; /* 0: none */
	enum opt_type type;
	const char *def;     /* "" : not set */
	int64_t min, max;    /* OPT_INT, OPT_SIZE */
	const char *choices; /* OPT_STRING: "a|b|c", NULL: anything */
	const char *arg;     /* name of the argument in --help */
	bool runtime;        /* may change while the daemon runs */
	bool command_line_only;
	const char *help;
};
extern const struct opt_def vecfsd_options[];
extern const size_t n_vecfsd_options;

struct options;

struct options *options_new(void);
void options_free(struct options *o);

/* -ENOENT unknown, -EINVAL bad value, reason in 'err'. */
VX_MUST_CHECK
int options_set(struct options *o, const char *name, const char *value, struct vx_err *err);
/* The same while running: -EPERM unless the option may change. */
VX_MUST_CHECK
int options_set_runtime(struct options *o, const char *name, const char *value, struct vx_err *err);

/* Parses argv; positionals are left in 'ret_args' (at most 'max').  -EINVAL with the reason.  --help
 * and --version set *ret_stop after printing. */
VX_MUST_CHECK
int options_parse_args(struct options *o, int argc, char **argv, const char **ret_args, int max,
	int *ret_n, bool *ret_stop, struct vx_err *err);
/* An INI file (vecfs.conf): only options not given on the command line are set.
 * Errors name file and line. */
VX_MUST_CHECK
int options_parse_file(struct options *o, const char *path, struct vx_err *err);

/* Text of an option; valid until it is set again.  Asserts that it exists. */
const char *options_get(const struct options *o, const char *name);
bool options_bool(const struct options *o, const char *name);   /* neither yes nor no: false */
int64_t options_int(const struct options *o, const char *name); /* sizes in bytes */

/* Thread-safe copy of one value into 'out'; -ENOENT. */
VX_MUST_CHECK
int options_get_copy(const struct options *o, const char *name, struct buf *out);

#endif
