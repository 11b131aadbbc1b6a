#include "cli_client.h"

#include <stdlib.h>
#include <string.h>

#define READ_BYTES (256u << 10)
/* Two rows of most dimensions: what tells fvecs from bvecs. */
#define SNIFF_BYTES (32u << 10)

struct client *cli_connect_node(const char *arg, struct client_place *ret)
{
	struct vx_err err = VX_ERR_INIT;
	struct client *c;
	int rc = client_place_find(arg, ret, &err);

	if (rc == -EINVAL)
		cli_usage("%s", vx_err_msg(&err, rc));
	if (rc)
		exit(cli_fail(rc, &err));
	rc = client_open(ret, cli.prog, &c, &err);
	if (rc) {
		client_place_release(ret);
		exit(cli_fail(rc, &err));
	}
	return c;
}

struct client *cli_connect(const char *arg, struct client_place *ret)
{
	struct client *c = cli_connect_node(arg, ret);

	if (!ret->name[0]) {
		client_close(c);
		client_place_release(ret);
		cli_usage("%s is a mount; name a collection in it", arg);
	}
	return c;
}

const char *cli_operand(int argc, char **argv, int at, const char *what)
{
	if (at >= argc)
		cli_usage("the %s is missing", what);
	return argv[at];
}

unsigned cli_parse_with(const char *s)
{
	static const struct {
		const char *name;
		unsigned bit;
	} parts[] = {{"meta", CLIENT_META}, {"text", CLIENT_TEXT}, {"vector", CLIENT_VEC}};
	unsigned what = 0;

	for (size_t n; *s; s += n + (s[n] == ',')) {
		size_t i = 0;

		n = strcspn(s, ",");
		while (i < VX_ARRAY_SIZE(parts) &&
			(strlen(parts[i].name) != n || memcmp(parts[i].name, s, n) != 0))
			i++;
		if (i == VX_ARRAY_SIZE(parts))
			cli_usage("--with: '%.*s' is none of meta, vector, text", (int)n, s);
		what |= parts[i].bit;
	}
	return what;
}

/* --- input files -------------------------------------------------------------------- */
void cli_check_format(const char *option, const char *format)
{
	enum codec_format f;

	if (format && codec_format_parse(format, &f))
		cli_usage(
			"%s: '%s' is none of jsonl, tsv, fvecs, bvecs, fbin, npy", option, format);
}

/* Text is told by what the first read brought: a coprocess may send one line and wait.  Binary rows
 * need a longer look. */
static int sniff(struct cli_source *s, struct vx_err *err)
{
	bool text = true, blank = true;
	int rc = cli_read_at_least(s->fd, &s->head, 1);

	for (size_t i = 0; i < s->head.len && i < 8; i++)
		text = text && s->head.data[i] &&
		       (s->head.data[i] >= 0x20 || strchr("\t\n\r", s->head.data[i]));
	if (rc == 0 && !text)
		rc = cli_read_at_least(s->fd, &s->head, SNIFF_BYTES);
	if (rc)
		return vx_err_set(err, rc, "%s", strerror(-rc));
	if (s->head.len == 0)
		return 0;
	s->format = codec_format_sniff(s->head.data, s->head.len);
	for (size_t i = 0; i < s->head.len && blank; i++)
		blank = s->head.data[i] && strchr(" \t\n\r", s->head.data[i]);
	if (s->format == CODEC_NONE && blank)
		s->format = CODEC_JSONL;
	if (s->format == CODEC_NONE)
		return vx_err_set(err, -EINVAL, "its format cannot be told; say it with -F");
	return 0;
}

int cli_source_open(struct cli_source *s, const char *file, const char *format, struct vx_err *err)
{
	memset(s, 0, sizeof *s);
	s->file = file;
	int rc = cli_open(file, &s->fd, err);
	if (rc)
		return rc;
	s->size_bytes = cli_size(s->fd);
	if (format)
		rc = codec_format_parse(format, &s->format);
	else if (strcmp(file, "-") != 0)
		s->format = codec_format_of(file);
	if (rc == 0 && s->format == CODEC_NONE)
		rc = sniff(s, err);
	if (rc)
		cli_source_close(s);
	return rc;
}

void cli_source_close(struct cli_source *s)
{
	cli_close(s->fd);
	buf_release(&s->head);
}

ssize_t cli_source_read(struct cli_source *s, const uint8_t **ret, struct vx_err *err)
{
	/* What was read ahead, then the buffer serves for the rest. */
	if (s->done_bytes == 0 && s->head.len) {
		*ret = s->head.data;
		s->done_bytes = s->head.len;
		return (ssize_t)s->head.len;
	}
	s->head.len = 0;
	int rc = buf_reserve(&s->head, READ_BYTES);
	if (rc)
		return rc;
	ssize_t n = cli_read(s->fd, s->head.data, READ_BYTES);
	if (n < 0)
		return vx_err_set(err, (int)n, "%s", strerror((int)-n));
	*ret = s->head.data;
	s->done_bytes += (uint64_t)n;
	return n;
}

/* --- records -------------------------------------------------------------------------- */
int cli_print_record(const struct vx_record *rec)
{
	static struct buf line = BUF_INIT;

	if (cli.ids) {
		cli_out(rec->id, rec->id_len);
		cli_out_end();
		return 0;
	}
	line.len = 0;
	int rc = codec_print_record(&line, rec);
	if (rc)
		return rc;
	/* The canonical line ends in a newline already. */
	cli_out(line.data, cli.nul ? line.len - 1 : line.len);
	if (cli.nul)
		cli_out_end();
	return 0;
}
