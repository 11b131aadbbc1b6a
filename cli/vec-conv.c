/* vec-conv.c - records from one format to another.
 *
 * Everything streams but --sample, which keeps N records (algorithm R of Vitter, "Random sampling with a
 * reservoir", 1985) and writes them in the order of the input.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_client.h"

static const char *from, *to, *output, *id_prefix, *ids_file;
static uint64_t head, sample, seed = 1;
static bool normalize, write_ids;

static const struct cli_opt opts[] = {
	{"from", 'f', CLI_STR, &from, "FORMAT", 0, 0,
		"of the input: jsonl tsv npy fvecs bvecs fbin; default: by suffix or content"},
	{"to", 't', CLI_STR, &to, "FORMAT", 0, 0,
		"of the output; default: by suffix of -o, else jsonl"},
	{"output", 'o', CLI_STR, &output, "FILE", 0, 0, "write to FILE; default: standard output"},
	{"head", 'n', CLI_U64, &head, "N", 1, UINT64_MAX, "only the first N records"},
	{"sample", 's', CLI_U64, &sample, "N", 1, 100000000, "N records by chance, in their order"},
	{"seed", 0, CLI_U64, &seed, "N", 0, UINT64_MAX, "of the chance (1)"},
	{"normalize", 0, CLI_FLAG, &normalize, NULL, 0, 0, "scale each vector to length 1"},
	{"ids", 0, CLI_FLAG, &write_ids, NULL, 0, 0,
		"row formats: write the ids to OUTPUT.ids, one per line"},
	{"id-prefix", 0, CLI_STR, &id_prefix, "STRING", 0, 0,
		"row formats: ids are STRING and the row number"},
	{"ids-from", 0, CLI_STR, &ids_file, "FILE", 0, 0,
		"row formats: read the ids from FILE; default: INPUT.ids where it is there"},
};
static const struct cli_tool tool = {
	.name = "vec-conv",
	.args = "[FILE...]",
	.about = "Convert records between formats",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
};

/* A record of its own, kept by the sample. */
struct kept {
	uint64_t at;
	struct buf bytes; /* vector, id, meta, text */
	struct vx_record rec;
};

struct conv {
	struct codec_writer *w;
	struct codec_reader *r;
	enum codec_format out_format;
	bool failed_out; /* an error of the output, not of the input */
	FILE *ids_out, *ids_in;
	char *id_line;
	size_t id_cap;
	const char *file;
	float *scaled;
	size_t scaled_cap;
	uint64_t next_row, seen, written, rejected, bytes_before, bytes_all;
	uint32_t dim;
	struct kept *kept;
	size_t n_kept;
	uint64_t rng;
	struct vx_err err;
};

/* splitmix64 */
static uint64_t next_random(struct conv *c)
{
	uint64_t z = c->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static int on_bad(void *ctx, uint64_t line, const char *raw, size_t n, const struct vx_err *why)
{
	struct conv *c = ctx;

	(void)raw;
	(void)n;
	cli_error_at(c->file, line, "%s", vx_err_msg(why, why->code));
	c->rejected++;
	return 0;
}

/* 1 and c->scaled, or 0 when the vector has no direction. */
static int scale(struct conv *c, const struct vx_record *rec)
{
	double sum = 0;

	if (rec->dim > c->scaled_cap) {
		float *v = realloc(c->scaled, rec->dim * sizeof *v);
		if (!v)
			return vx_err_set(&c->err, -ENOMEM, "out of memory");
		c->scaled = v;
		c->scaled_cap = rec->dim;
	}
	for (uint32_t i = 0; i < rec->dim; i++)
		sum += (double)rec->vec[i] * rec->vec[i];
	if (sum == 0)
		return 0;
	double s = 1 / sqrt(sum);
	for (uint32_t i = 0; i < rec->dim; i++)
		c->scaled[i] = (float)(rec->vec[i] * s);
	return 1;
}

static int write_record(struct conv *c, const struct vx_record *rec)
{
	struct vx_record r = *rec;
	struct vx_err why = VX_ERR_INIT;

	if (normalize) {
		int rc = scale(c, rec);
		if (rc < 0)
			return rc;
		if (rc == 0) {
			vx_err_set(&why, -EINVAL, "a vector of zeros cannot be scaled to length 1");
			return on_bad(c, rec->line, NULL, 0, &why);
		}
		r.vec = c->scaled;
	}
	int rc = codec_write(c->w, &r, &why);
	if (rc == -EINVAL)
		return on_bad(c, rec->line, NULL, 0, &why);
	if (rc) {
		c->failed_out = true;
		return vx_err_set(&c->err, rc, "%s", why.msg);
	}
	if (c->ids_out && (fwrite(rec->id, 1, rec->id_len, c->ids_out) != rec->id_len ||
				  fputc('\n', c->ids_out) == EOF)) {
		c->failed_out = true;
		return vx_err_set(&c->err, -errno, "cannot write the ids: %s", strerror(errno));
	}
	c->written++;
	return 0;
}

/* Copies what a borrowed record points to. */
static int keep(struct kept *k, const struct vx_record *rec, uint64_t at)
{
	struct buf *b = &k->bytes;
	size_t vec_size = rec->dim * sizeof(float);

	b->len = 0;
	int rc = buf_append(b, rec->vec, vec_size);
	if (!rc)
		rc = buf_append(b, rec->id, rec->id_len);
	if (!rc)
		rc = buf_append(b, rec->meta, rec->meta_len);
	if (!rc)
		rc = buf_append(b, rec->text, rec->text_len);
	if (rc)
		return rc;
	const char *p = (const char *)b->data + vec_size;
	k->rec = *rec;
	k->rec.vec = (const float *)(const void *)b->data;
	k->rec.id = p;
	k->rec.meta = rec->meta ? p + rec->id_len : NULL;
	k->rec.text = rec->text ? p + rec->id_len + rec->meta_len : NULL;
	k->at = at;
	return 0;
}

static int take_sample(struct conv *c, const struct vx_record *rec)
{
	uint64_t at = c->seen++, i = at;

	if (at >= sample) {
		i = next_random(c) % (at + 1);
		if (i >= sample)
			return 0;
	} else {
		/* Grown as records come: a sample larger than the input costs nothing. */
		if ((at & (at - 1)) == 0) {
			struct kept *k = realloc(c->kept, (at ? at * 2 : 1) * sizeof *k);
			if (!k)
				return vx_err_set(&c->err, -ENOMEM, "out of memory");
			c->kept = k;
		}
		c->kept[i] = (struct kept){0};
		c->n_kept++;
	}
	if (keep(&c->kept[i], rec, at))
		return vx_err_set(&c->err, -ENOMEM, "out of memory");
	return 0;
}

static int on_record(void *ctx, const struct vx_record *rec)
{
	struct conv *c = ctx;

	if (sample)
		return take_sample(c, rec);
	if (head && c->written == head)
		return -ECANCELED;
	return write_record(c, rec);
}

static const char *next_id(void *ctx, uint64_t row, size_t *ret_len)
{
	struct conv *c = ctx;
	ssize_t n = getline(&c->id_line, &c->id_cap, c->ids_in);

	(void)row;
	while (n > 0 && (c->id_line[n - 1] == '\n' || c->id_line[n - 1] == '\r'))
		n--;
	*ret_len = n > 0 ? (size_t)n : 0;
	return n < 0 ? NULL : c->id_line;
}

/* --ids-from, else FILE.ids where there is one. */
static int open_ids(struct conv *c, enum codec_format f)
{
	char *name = NULL;

	if (ids_file) {
		if (c->ids_in || !codec_format_is_rows(f))
			return 0; /* one list for all FILEs */
		c->ids_in = fopen(ids_file, "re");
		return c->ids_in ? 0
				 : vx_err_set(&c->err, -errno, "%s: %s", ids_file, strerror(errno));
	}
	if (!codec_format_is_rows(f) || !strcmp(c->file, "-") || id_prefix)
		return 0;
	if (asprintf(&name, "%s.ids", c->file) < 0)
		return vx_err_set(&c->err, -ENOMEM, "out of memory");
	c->ids_in = fopen(name, "re");
	free(name);
	return 0;
}

static int convert_source(struct conv *c, struct cli_source *s)
{
	const uint8_t *p;
	ssize_t n = 1;
	int rc = open_ids(c, s->format);

	if (rc)
		return rc;
	struct codec_opts o = {
		.dim = c->dim,
		.first_row = c->next_row,
		.id_prefix = id_prefix,
		.dim_of = "the first one",
		.row_id = c->ids_in ? next_id : NULL,
		.on_bad = on_bad,
		.id_optional = codec_format_is_rows(c->out_format) && !write_ids,
	};
	rc = codec_reader_new(s->format, &o, on_record, c, &c->r);
	if (rc)
		return vx_err_set(&c->err, rc, "out of memory");
	while (!rc && (n = cli_source_read(s, &p, &c->err)) > 0) {
		rc = codec_feed(c->r, p, (size_t)n, &c->err);
		cli_progress("converting", c->bytes_before + s->done_bytes, c->bytes_all);
	}
	if (!rc)
		rc = n < 0 ? (int)n : codec_finish(c->r, &c->err);
	if (codec_format_is_rows(s->format))
		c->next_row += codec_count(c->r);
	codec_reader_free(c->r);
	if (c->ids_in && !ids_file) {
		fclose(c->ids_in);
		c->ids_in = NULL;
	}
	return rc;
}

static int convert_file(struct conv *c, const char *file)
{
	struct cli_source s;

	c->file = file;
	c->err = (struct vx_err)VX_ERR_INIT;
	int rc = cli_source_open(&s, file, from, &c->err);
	if (rc) {
		cli_error_at(file, 0, "%s", vx_err_msg(&c->err, rc));
		return CLI_BAD_DATA;
	}
	if (s.format != CODEC_NONE)
		rc = convert_source(c, &s);
	c->bytes_before += s.done_bytes;
	cli_source_close(&s);
	if (rc == -ECANCELED)
		return CLI_DONE; /* --head: enough */
	if (c->failed_out)
		return cli_fail_at(output ? output : "output", rc, &c->err);
	return rc ? cli_fail_at(strcmp(file, "-") ? file : "stdin", rc, &c->err) : CLI_DONE;
}

static int by_place(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

static int write_sample(struct conv *c)
{
	int rc = 0;

	if (c->n_kept)
		qsort(c->kept, c->n_kept, sizeof *c->kept, by_place);
	for (size_t i = 0; i < c->n_kept && !rc && !(head && c->written == head); i++)
		rc = write_record(c, &c->kept[i].rec);
	return rc ? cli_fail_at(output ? output : "output", rc, &c->err) : CLI_DONE;
}

static int open_output(struct conv *c, int *ret_fd)
{
	enum codec_format f = CODEC_JSONL;
	char *name;

	if (to)
		(void)!codec_format_parse(to, &f); /* checked before */
	else if (output && codec_format_of(output))
		f = codec_format_of(output);
	c->out_format = f;
	*ret_fd = STDOUT_FILENO;
	if (write_ids && (!output || !codec_format_is_rows(f)))
		cli_usage("--ids goes with -o FILE of a row format (npy fvecs bvecs fbin)");
	if (output) {
		*ret_fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (*ret_fd < 0)
			return vx_err_set(&c->err, -errno, "%s: %s", output, strerror(errno));
	}
	if (write_ids) {
		if (asprintf(&name, "%s.ids", output) < 0)
			return vx_err_set(&c->err, -ENOMEM, "out of memory");
		c->ids_out = fopen(name, "we");
		if (!c->ids_out)
			vx_err_set(&c->err, -errno, "%s: %s", name, strerror(errno));
		free(name);
		if (!c->ids_out)
			return c->err.code;
	}
	int rc = codec_writer_new(f, *ret_fd, 0, &c->w);
	if (rc == -ESPIPE)
		cli_usage("%s has its number of rows in front and cannot go to a pipe: use -o FILE",
			codec_format_name(f));
	return rc ? vx_err_set(&c->err, rc, "%s", strerror(-rc)) : 0;
}

static int finish_output(struct conv *c, int fd, int code)
{
	int rc = codec_writer_finish(c->w, &c->err);

	if (!rc && c->ids_out && fflush(c->ids_out))
		rc = vx_err_set(&c->err, -errno, "cannot write the ids: %s", strerror(errno));
	if (!rc && output && close(fd))
		rc = vx_err_set(&c->err, -errno, "%s", strerror(errno));
	if (rc)
		code = cli_worse(code, cli_fail_at(output ? output : "output", rc, &c->err));
	return code;
}

static void release(struct conv *c)
{
	for (size_t i = 0; i < c->n_kept; i++)
		buf_release(&c->kept[i].bytes);
	free(c->kept);
	free(c->scaled);
	free(c->id_line);
	if (c->ids_in)
		fclose(c->ids_in);
	if (c->ids_out)
		fclose(c->ids_out);
	codec_writer_free(c->w);
}

int main(int argc, char **argv)
{
	char *std_in[] = {(char *)(uintptr_t) "-"};
	struct conv c = {0};
	int first = cli_parse(&tool, argc, argv), n = argc - first, fd, code = CLI_DONE;
	char **files = n ? argv + first : std_in;

	cli_check_format("-f", from);
	cli_check_format("-t", to);
	c.rng = seed;
	int rc = open_output(&c, &fd);
	if (rc)
		return cli_finish(cli_fail(rc, &c.err));
	for (int i = 0; i < n; i++) {
		int in;
		if (strcmp(files[i], "-") != 0 && cli_open(files[i], &in, NULL) == 0) {
			c.bytes_all += cli_size(in);
			cli_close(in);
		}
	}
	for (int i = 0; i < VX_MAX(n, 1) && code == CLI_DONE; i++) {
		if (head && !sample && c.written == head)
			break;
		code = convert_file(&c, files[i]);
	}
	if (sample && code == CLI_DONE)
		code = write_sample(&c);
	code = finish_output(&c, fd, code);
	if (code == CLI_DONE && c.rejected)
		code = CLI_REJECTED;
	cli_progress_end();
	cli_note("%" PRIu64 " written, %" PRIu64 " rejected", c.written, c.rejected);
	release(&c);
	return cli_finish(code);
}
