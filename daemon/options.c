/* options.c - the table, and the three ways into it: arguments, file, mount. */
#include "daemon/options.h"

#include <assert.h>
#include <getopt.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/lock.h"

const struct opt_def vecfsd_options[] = {
	{"config", 'c', OPT_STRING, "", 0, 0, NULL, "FILE", false, true,
		"read options from FILE (default /etc/vecfs.conf when it exists)"},
	{"daemonize", 'd', OPT_BOOL, "no", 0, 0, NULL, NULL, false, true,
		"go to the background once ready"},
	{"supervise", 0, OPT_BOOL, "auto", 0, 0, NULL, NULL, false, false,
		"hold the mount in a process of its own and restart the daemon should it die "
		"(default with -d and under systemd)"},
	{"no-mount", 0, OPT_BOOL, "no", 0, 0, NULL, NULL, false, false,
		"serve the socket alone; MOUNT is not given"},
	{"socket", 's', OPT_STRING, "", 0, 0, NULL, "PATH", false, false,
		"socket for the tools (default VECFS_SOCKET, /run/vecfs/vecfs.sock or "
		"XDG_RUNTIME_DIR)"},
	{"shards", 0, OPT_INT, "1", 1, 256, NULL, "N", false, false,
		"Raft groups of a new data directory"},
	{"index-threads", 0, OPT_INT, "0", 0, 256, NULL, "N", false, false,
		"threads that build the index; 0: one per core"},
	{"fuse-threads", 0, OPT_INT, "0", 0, 64, NULL, "N", false, false,
		"threads that serve the mount; 0: chosen from the cores"},
	{"tail-max", 0, OPT_INT, "8192", 64, 100000000, NULL, "N", false, false,
		"records not indexed yet before writers wait"},
	{"compact-percent", 0, OPT_INT, "25", 1, 101, NULL, "N", false, false,
		"share of dead slots at which a collection is compacted; 101: never"},
	{"memory-max", 0, OPT_SIZE, "0", 0, INT64_MAX, NULL, "SIZE", true, false,
		"memory at which writes are refused; 0: four fifths of the machine's"},
	{"quota-max", 0, OPT_SIZE, "0", 0, INT64_MAX, NULL, "SIZE", true, false,
		"disk at which writes are refused; 0: until it is full"},
	{"wal-backend", 0, OPT_STRING, "auto", 0, 0, "auto|io_uring|pwrite", "NAME", false, false,
		"how the log is written"},
	{"wal-segment-size", 0, OPT_SIZE, "64M", 16 << 20, (int64_t)1 << 30, NULL, "SIZE", false,
		false, "bytes per log segment"},
	{"mark-interval", 0, OPT_INT, "30000", 20, 3600000, NULL, "MS", false, false,
		"milliseconds after which what is applied is made durable by itself"},
	{"allow-other", 0, OPT_BOOL, "yes", 0, 0, NULL, NULL, false, false,
		"let other users see the mount"},
	{"pid-file", 0, OPT_STRING, "", 0, 0, NULL, "FILE", false, false,
		"write the process id to FILE once ready"},
	{"log-file", 0, OPT_STRING, "", 0, 0, NULL, "FILE", false, false,
		"append messages to FILE (with -d they are lost otherwise)"},
	{"log", 'l', OPT_STRING, "info", 0, 0, NULL, "LEVEL", true, false,
		"error, warn, info or debug; MODULE=LEVEL for one module"},
};
const size_t n_vecfsd_options = VX_ARRAY_SIZE(vecfsd_options);

struct options {
	struct vx_mutex lock; /* guards 'value' once threads run */
	char *value[VX_ARRAY_SIZE(vecfsd_options)];
	bool given[VX_ARRAY_SIZE(vecfsd_options)]; /* on the command line */
};

struct options *options_new(void)
{
	struct options *o = calloc(1, sizeof *o);

	if (!o)
		return NULL;
	vx_mutex_init(&o->lock, LOCK_LEAF);
	for (size_t i = 0; i < n_vecfsd_options; i++) {
		o->value[i] = strdup(vecfsd_options[i].def);
		if (!o->value[i]) {
			options_free(o);
			return NULL;
		}
	}
	return o;
}

void options_free(struct options *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < n_vecfsd_options; i++)
		free(o->value[i]);
	vx_mutex_release(&o->lock);
	free(o);
}

static int find(const char *name)
{
	for (size_t i = 0; i < n_vecfsd_options; i++)
		if (strcmp(vecfsd_options[i].name, name) == 0)
			return (int)i;
	return -ENOENT;
}

static bool parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < VX_ARRAY_SIZE(yes); i++) {
		if (strcasecmp(s, yes[i]) == 0 || strcasecmp(s, no[i]) == 0) {
			*ret = strcasecmp(s, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

/* Digits with an optional K, M or G (powers of 1,024) for sizes. */
static bool parse_number(const char *s, bool size, int64_t *ret)
{
	char *end;

	errno = 0;
	long long v = strtoll(s, &end, 10);
	if (end == s || errno)
		return false;
	int64_t n = v;
	if (size && *end) {
		const char *units = "KMG", *u = strchr(units, *end);
		if (!u || end[1])
			return false;
		for (const char *p = units; p <= u; p++)
			if (__builtin_mul_overflow(n, 1024, &n))
				return false;
		end++;
	}
	*ret = n;
	return *end == 0;
}

static bool in_choices(const char *choices, const char *v)
{
	size_t n = strlen(v);

	for (const char *p = choices; p; p = strchr(p, '|')) {
		if (*p == '|')
			p++;
		if (strncmp(p, v, n) == 0 && (p[n] == '|' || p[n] == 0))
			return true;
	}
	return false;
}

static int check(const struct opt_def *d, const char *value, struct vx_err *err)
{
	bool b;
	int64_t n;

	switch (d->type) {
	case OPT_BOOL:
		if (!parse_bool(value, &b))
			return vx_err_set(
				err, -EINVAL, "%s: '%s' is neither yes nor no", d->name, value);
		break;
	case OPT_INT:
	case OPT_SIZE:
		if (!parse_number(value, d->type == OPT_SIZE, &n))
			return vx_err_set(err, -EINVAL, "%s: '%s' is not a %s", d->name, value,
				d->type == OPT_SIZE ? "size" : "number");
		if (n < d->min || n > d->max)
			return vx_err_set(err, -EINVAL, "%s: %s is not within %lld to %lld",
				d->name, value, (long long)d->min, (long long)d->max);
		break;
	case OPT_STRING:
		if (d->choices && !in_choices(d->choices, value))
			return vx_err_set(
				err, -EINVAL, "%s: '%s' is none of %s", d->name, value, d->choices);
		break;
	}
	return 0;
}

int options_set(struct options *o, const char *name, const char *value, struct vx_err *err)
{
	int i = find(name);

	if (i < 0)
		return vx_err_set(err, -ENOENT, "unknown option '%s'", name);
	int rc = check(&vecfsd_options[i], value, err);
	if (rc)
		return rc;
	char *copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	vx_lock(&o->lock);
	char *old = o->value[i];
	o->value[i] = copy;
	vx_unlock(&o->lock);
	free(old);
	return 0;
}

int options_set_runtime(struct options *o, const char *name, const char *value, struct vx_err *err)
{
	int i = find(name);

	if (i < 0)
		return vx_err_set(err, -ENOENT, "unknown option '%s'", name);
	if (!vecfsd_options[i].runtime)
		return vx_err_set(err, -EPERM, "%s cannot change while the daemon runs", name);
	return options_set(o, name, value, err);
}

static void print_help(void)
{
	printf("usage: vecfsd [options] DATA MOUNT\n"
	       "       vecfsd [options] --no-mount DATA\n"
	       "Serve the vector collections in directory DATA as a file system at MOUNT.\n\n");
	for (size_t i = 0; i < n_vecfsd_options; i++) {
		const struct opt_def *d = &vecfsd_options[i];
		char left[64];

		int n = d->letter ? snprintf(left, sizeof left, "-%c, --%s", d->letter, d->name)
				  : snprintf(left, sizeof left, "    --%s", d->name);
		if (d->arg)
			snprintf(left + n, sizeof left - (size_t)n, " %s", d->arg);
		printf("  %-28s %s", left, d->help);
		if (d->def[0] && d->type != OPT_BOOL)
			printf(" [%s]", d->def);
		putchar('\n');
	}
	printf("  -h, --help                   this text\n"
	       "  -V, --version                version\n\n"
	       "Exit status: 0 stopped as asked (with -d: ready), 1 failed, 2 usage,\n"
	       "5 refused (another daemon has DATA).  See vecfsd(8).\n");
}

int options_parse_args(struct options *o, int argc, char **argv, const char **ret_args, int max,
	int *ret_n, bool *ret_stop, struct vx_err *err)
{
	struct option longs[VX_ARRAY_SIZE(vecfsd_options) + 3];
	char shorts[2 * VX_ARRAY_SIZE(vecfsd_options) + 4] = ":hV";
	size_t ns = 3;

	memset(longs, 0, sizeof longs);
	for (size_t i = 0; i < n_vecfsd_options; i++) {
		const struct opt_def *d = &vecfsd_options[i];
		/* Booleans take an optional =no, so that a file's "yes" can be undone. */
		int has = d->type == OPT_BOOL ? optional_argument : required_argument;

		longs[i] = (struct option){d->name, has, NULL, 1000 + (int)i};
		if (d->letter) {
			shorts[ns++] = d->letter;
			if (d->type != OPT_BOOL)
				shorts[ns++] = ':';
		}
	}
	longs[n_vecfsd_options] = (struct option){"help", no_argument, NULL, 'h'};
	longs[n_vecfsd_options + 1] = (struct option){"version", no_argument, NULL, 'V'};
	*ret_stop = false;
	opterr = 0;
	for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
		int i = c - 1000;

		if (c == 'h' || c == 'V') {
			if (c == 'h')
				print_help();
			else
				printf("vecfsd %s\n", VECFS_VERSION);
			*ret_stop = true;
			return 0;
		}
		if (c == '?' || c == ':')
			return vx_err_set(err, -EINVAL,
				c == ':' ? "%s needs a value" : "unknown option %s",
				argv[optind - 1]);
		if (c < 1000) {
			for (i = 0; vecfsd_options[i].letter != c; i++)
				;
		}
		int rc = options_set(o, vecfsd_options[i].name, optarg ? optarg : "yes", err);
		if (rc)
			return rc;
		o->given[i] = true;
	}
	int n = argc - optind;
	if (n > max)
		return vx_err_set(err, -EINVAL, "too many arguments: %s", argv[optind + max]);
	for (int i = 0; i < n; i++)
		ret_args[i] = argv[optind + i];
	*ret_n = n;
	return 0;
}

struct file_ctx {
	struct options *o;
	struct vx_err *err;
	const char *path;
	int rc;
};

/* inih calls this per "name = value"; 0 stops it at that line (INI_STOP_ON_FIRST_ERROR is a matter
 * of how the library was built, so the first failure is remembered here). */
static int on_pair(void *user, const char *section, const char *name, const char *value)
{
	struct file_ctx *f = user;

	if (f->rc)
		return 0;
	if (section[0] && strcmp(section, "vecfsd") != 0) {
		f->rc = vx_err_set(f->err, -EINVAL, "unknown section [%s]", section);
		return 0;
	}
	int i = find(name);
	if (i >= 0 && vecfsd_options[i].command_line_only)
		f->rc = vx_err_set(f->err, -EINVAL, "'%s' belongs on the command line", name);
	else if (i < 0 || !f->o->given[i])
		f->rc = options_set(f->o, name, value, f->err);
	return f->rc == 0;
}

int options_parse_file(struct options *o, const char *path, struct vx_err *err)
{
	struct file_ctx f = {.o = o, .err = err, .path = path};
	int line = ini_parse(path, on_pair, &f);

	if (line < 0)
		return vx_err_set(err, errno ? -errno : -EIO, "%s: cannot be read", path);
	if (line > 0) {
		if (!f.rc)
			f.rc = vx_err_set(err, -EINVAL, "not of the form name = value");
		vx_err_prefix(err, "%s:%d", path, line);
	}
	return f.rc;
}

const char *options_get(const struct options *o, const char *name)
{
	int i = find(name);

	assert(i >= 0);
	return o->value[i];
}

bool options_bool(const struct options *o, const char *name)
{
	bool b = false;

	(void)parse_bool(options_get(o, name), &b);
	return b;
}

int64_t options_int(const struct options *o, const char *name)
{
	struct vx_mutex *lock = (struct vx_mutex *)(uintptr_t)&o->lock;
	int64_t n = 0;

	vx_lock(lock);
	(void)parse_number(options_get(o, name), true, &n);
	vx_unlock(lock);
	return n;
}

int options_get_copy(const struct options *o, const char *name, struct buf *out)
{
	struct options *w = (struct options *)(uintptr_t)o; /* the lock is not part of the value */
	int i = find(name);

	if (i < 0)
		return i;
	vx_lock(&w->lock);
	int rc = buf_append(out, o->value[i], strlen(o->value[i]));
	vx_unlock(&w->lock);
	return rc;
}
