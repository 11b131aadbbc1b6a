/* Fuzzes configuration: the daemon's command line and its file, and the options of collections.  The first byte chooses.
 * Whatever comes, every option has a value that it would take by itself, and numbers are within their bounds; what is refused
 * is refused with words; a file changes nothing that the command line said.  A size ends in a digit or in its unit. */
#include "daemon/options.c"

#include <ctype.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cluster/db_i.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_all(struct options *o)
{
	struct vx_err err = VX_ERR_INIT;

	for (size_t i = 0; i < n_vecfsd_options; i++) {
		const struct opt_def *d = &vecfsd_options[i];
		struct buf b = BUF_INIT;
		int64_t n = 0;

		must(options_get_copy(o, d->name, &b) == 0);
		must(b.len == strlen(o->value[i]));
		buf_release(&b);
		if (strcmp(o->value[i], d->def) == 0)
			continue;
		must(check(d, o->value[i], &err) == 0);
		if (d->type != OPT_INT && d->type != OPT_SIZE)
			continue;
		must(parse_number(o->value[i], d->type == OPT_SIZE, &n));
		must(n >= d->min && n <= d->max);
		must(options_int(o, d->name) == n);
	}
}

static void from_file(struct options *o, const char *p, size_t n)
{
	static int fd = -1;
	struct vx_err err = VX_ERR_INIT;
	char path[64], *before[VX_ARRAY_SIZE(vecfsd_options)];

	if (fd < 0)
		fd = memfd_create("conf", 0);
	must(fd >= 0);
	must(ftruncate(fd, 0) == 0);
	must(pwrite(fd, p, n, 0) == (ssize_t)n);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	for (size_t i = 0; i < n_vecfsd_options; i++)
		must((before[i] = strdup(o->value[i])) != NULL);
	int rc = options_parse_file(o, path, &err);
	must(rc <= 0);
	must(rc == 0 || (err.code == rc && strncmp(err.msg, path, strlen(path)) == 0));
	for (size_t i = 0; i < n_vecfsd_options; i++) {
		if (o->given[i] || vecfsd_options[i].command_line_only)
			must(strcmp(before[i], o->value[i]) == 0);
		free(before[i]);
	}
	check_all(o);
}

/* Arguments are cut at line ends; the file is what follows a NUL. */
static void command_line(char *p, size_t n)
{
	struct options *o = options_new();
	struct vx_err err = VX_ERR_INIT;
	char *argv[66] = {(char *)(uintptr_t) "vecfsd"};
	const char *args[2] = {NULL, NULL};
	int argc = 1, n_args = -1;
	bool stop;
	size_t len = strnlen(p, n);

	must(o != NULL);
	for (char *at = p, *save; argc < 65; at = NULL) {
		char *word = strtok_r(at, "\n", &save);
		if (!word)
			break;
		argv[argc++] = word;
	}
	optind = 0;
	int rc = options_parse_args(o, argc, argv, args, 2, &n_args, &stop, &err);
	must(rc <= 0);
	if (rc)
		must(err.code == rc && err.msg[0]);
	else if (!stop)
		must(n_args >= 0 && n_args <= 2 && (n_args < 1 || args[0]) &&
			(n_args < 2 || args[1]));
	check_all(o);
	if (rc == 0 && !stop && len < n)
		from_file(o, p + len + 1, n - len - 1);
	options_free(o);
}

static void runtime(char *p, size_t n)
{
	struct options *o = options_new();
	struct vx_err err = VX_ERR_INIT;
	char *value = memchr(p, '=', n);

	must(o != NULL);
	if (value) {
		*value++ = 0;
		int i = find(p), rc = options_set_runtime(o, p, value, &err);
		must(rc == 0 || (err.code == rc && err.msg[0]));
		must(rc != 0 || (i >= 0 && vecfsd_options[i].runtime &&
					strcmp(options_get(o, p), value) == 0));
	}
	check_all(o);
	options_free(o);
}

static void collection(unsigned which, const char *value)
{
	struct vx_err err = VX_ERR_INIT;
	enum coll_opt co = (enum coll_opt)(which % CO_N);
	const struct coll_option *d = &coll_options[co];
	uint64_t bytes;
	float recall;
	size_t n = strlen(value);

	must(coll_opt_find(d->name) == (int)co);
	must(coll_option_check(co, d->def, NULL) == 0);
	int rc = coll_option_check(co, value, &err);
	if (rc) {
		must(err.code == rc && err.msg[0]);
		return;
	}
	must(n <= CONFIG_VALUE_MAX && !strpbrk(value, "\n\r"));
	if (d->min) {
		long long v = atoll(value);
		must(v >= atoll(d->min) && v <= atoll(d->max));
	}
	if (co == CO_RECALL) {
		must(vx_recall_parse(value, n, &recall, NULL) == 0);
		must(recall >= 0.5f && recall <= 1.0f);
	}
	if (n && (co == CO_MEMORY_MAX || co == CO_QUOTA_MAX || co == CO_INBOX_MAX)) {
		must(isdigit((unsigned char)value[n - 1]) || strchr("KMGTkmgt", value[n - 1]));
		must(quota_parse(value, &bytes) && bytes <= INT64_MAX);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool quiet;

	if (!quiet) /* --help prints */
		must(freopen("/dev/null", "w", stdout) != NULL);
	quiet = true;
	if (size < 2 || size > 8192)
		return 0;
	char *p = malloc(size);
	must(p != NULL);
	memcpy(p, data + 1, size - 1);
	p[size - 1] = 0;
	switch (data[0] % 4) {
	case 0:
		command_line(p, size - 1);
		break;
	case 1: {
		struct options *o = options_new();
		must(o != NULL);
		from_file(o, p, size - 1);
		options_free(o);
		break;
	}
	case 2:
		runtime(p, size - 1);
		break;
	default:
		collection((uint8_t)p[0], p + 1);
	}
	free(p);
	return 0;
}
