/* vec-embed.c - texts in, records with vectors out.
 *
 * Texts are cut out of the input (lines, paragraphs, or JSON Lines), gathered into batches and given to
 * the embedder; records come out in the order of the input.  While the input pauses, as it does behind
 * tail -f, what was read is embedded and written at once.
 */
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cli.h"
#include "codec/codec.h"
#include "embed/embed.h"

#define LINE_MAX_BYTES (16u << 20)
#define BATCH_BYTES    (4u << 20)

static uint32_t dim, batch = 64, timeout_s = 60;
static const char *command, *url, *model, *key_file, *spec, *format = "auto", *field = "text";

static const struct cli_opt opts[] = {
	{"format", 'F', CLI_STR, &format, "FORMAT", 0, 0,
		"text (a line each), jsonl or paragraphs; default: jsonl if it starts with {"},
	{"field", 0, CLI_STR, &field, "NAME", 0, 0, "jsonl: the member that holds the text (text)"},
	{"dim", 'd', CLI_U32, &dim, "N", 1, VX_DIM_MAX, "dimension (384)"},
	{"cmd", 'c', CLI_STR, &command, "PROGRAM", 0, 0,
		"embed by PROGRAM: a line of text in, a line with a JSON vector out"},
	{"url", 'u', CLI_STR, &url, "URL", 0, 0, "embed by an OpenAI-compatible HTTP endpoint"},
	{"model", 'm', CLI_STR, &model, "NAME", 0, 0, "the model to ask the endpoint for"},
	{"key-file", 0, CLI_STR, &key_file, "FILE", 0, 0,
		"the endpoint's key (else VECFS_EMBED_KEY, OPENAI_API_KEY)"},
	{"timeout", 0, CLI_U32, &timeout_s, "SECONDS", 1, 3600, "of one request (60)"},
	{"batch", 'b', CLI_U32, &batch, "N", 1, 2048, "texts per request (64)"},
	{"embedder", 0, CLI_STR, &spec, "SPEC", 0, 0, "hash[:dim=N], cmd:PROGRAM or url:URL[;...]"},
};
static const struct cli_tool tool = {
	.name = "vec-embed",
	.args = "[FILE...]",
	.about = "Turn texts into records with vectors",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
};

enum text_format { TEXT_AUTO, TEXT_LINES, TEXT_JSONL, TEXT_PARAGRAPHS };

/* One record that waits for its vector; offsets into 'bytes'. */
struct item {
	size_t id, id_len, text, text_len, meta, meta_len;
};

struct run {
	struct embedder *e;
	struct codec_arena *arena;
	/* The batch. */
	struct item *items;
	const char **texts;
	size_t *lens;
	size_t n;
	struct buf bytes, out;
	/* The FILE at hand. */
	const char *file;
	enum text_format format;
	uint64_t line, para_line;
	struct buf para;
	/* All FILEs. */
	uint64_t done, rejected, fed_bytes, all_bytes;
	struct vx_err err;
};

static void reject(struct run *r, uint64_t line, const char *why)
{
	cli_error_at(r->file, line, "%s", why);
	r->rejected++;
}

/* --- out ------------------------------------------------------------------------ */
static int flush_batch(struct run *r)
{
	uint32_t got = 0;
	float *vecs = NULL;
	const char *b = (const char *)r->bytes.data;

	if (r->n == 0)
		return 0;
	for (size_t i = 0; i < r->n; i++) {
		r->texts[i] = b + r->items[i].text;
		r->lens[i] = r->items[i].text_len;
	}
	int rc = embed_texts(r->e, r->texts, r->lens, r->n, &vecs, &got, &r->err);
	if (rc)
		return rc;
	if (dim && got != dim)
		rc = vx_err_set(&r->err, -EINVAL,
			"the embedder gives %u numbers, not the %u of --dim", got, dim);
	for (size_t i = 0; !rc && i < r->n; i++) {
		const struct item *t = &r->items[i];
		struct vx_record rec = {
			.id = b + t->id,
			.id_len = t->id_len,
			.vec = vecs + i * got,
			.dim = got,
			.meta = t->meta_len ? b + t->meta : NULL,
			.meta_len = t->meta_len,
			.text = b + t->text,
			.text_len = t->text_len,
		};
		r->out.len = 0;
		rc = codec_print_record(&r->out, &rec);
		if (!rc)
			cli_out(r->out.data, r->out.len);
	}
	free(vecs);
	r->done += rc ? 0 : r->n;
	r->n = 0;
	r->bytes.len = 0;
	return rc;
}

static int keep(struct run *r, const char *p, size_t n, size_t *ret_at)
{
	*ret_at = r->bytes.len;
	return buf_append(&r->bytes, p, n);
}

/* Adds a text to the batch.  'id' NULL: the hash of the text. */
static int add_text(struct run *r, uint64_t line, const char *id, size_t id_len, const char *meta,
	size_t meta_len, const char *text, size_t n)
{
	struct item *t = &r->items[r->n];
	char hex[17];

	if (n > VX_TEXT_MAX) {
		reject(r, line, "the text is longer than 1 MiB");
		return 0;
	}
	if (!vx_utf8_valid(text, n) || memchr(text, 0, n)) {
		reject(r, line, "the text is not valid UTF-8");
		return 0;
	}
	if (!id) {
		snprintf(hex, sizeof hex, "%016" PRIx64, hash_xxh3(text, n, 0));
		id = hex;
		id_len = 16;
	}
	t->id_len = id_len;
	t->text_len = n;
	t->meta_len = meta_len;
	int rc = keep(r, id, id_len, &t->id);
	if (!rc)
		rc = keep(r, text, n, &t->text);
	if (!rc)
		rc = keep(r, meta, meta_len, &t->meta);
	if (rc)
		return vx_err_set(&r->err, rc, "out of memory");
	r->n++;
	return r->n == batch || r->bytes.len >= BATCH_BYTES ? flush_batch(r) : 0;
}

/* --- in ------------------------------------------------------------------------- */
/* The text under --field, which is not one of a record's own members. */
static int add_field(struct run *r, const struct vx_record *rec, const char *p, size_t n)
{
	json_t *j = json_loadb(p, n, 0, NULL);
	json_t *v = json_object_get(j, field);
	int rc = 0;

	if (!json_is_string(v))
		reject(r, r->line, "the record has no text under the name that --field gives");
	else if (json_string_length(v))
		rc = add_text(r, r->line, rec->id, rec->id_len, rec->meta, rec->meta_len,
			json_string_value(v), json_string_length(v));
	json_decref(j);
	return rc;
}

static int add_json(struct run *r, const char *p, size_t n)
{
	const struct codec_opts o = {.want_any_object = true, .id_optional = true};
	struct vx_err why = VX_ERR_INIT;
	struct vx_record rec;
	int rc = codec_parse_record(r->arena, p, n, &o, &rec, &why);

	if (rc == -ENOMEM)
		return vx_err_set(&r->err, rc, "%s", why.msg);
	if (rc) {
		reject(r, r->line, why.msg);
		return 0;
	}
	if (strcmp(field, "text") != 0)
		return add_field(r, &rec, p, n);
	if (!rec.text) {
		reject(r, r->line, "the record has no text");
		return 0;
	}
	if (rec.text_len == 0)
		return 0;
	return add_text(
		r, r->line, rec.id, rec.id_len, rec.meta, rec.meta_len, rec.text, rec.text_len);
}

static int end_paragraph(struct run *r)
{
	int rc = 0;

	if (r->para.len)
		rc = add_text(
			r, r->para_line, NULL, 0, NULL, 0, (const char *)r->para.data, r->para.len);
	r->para.len = 0;
	return rc;
}

static bool is_blank(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r' && p[i] != '\f' && p[i] != '\v')
			return false;
	}
	return true;
}

static int add_line(struct run *r, const char *p, size_t n)
{
	int rc = 0;

	r->line++;
	if (r->line == 1 && n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3)) {
		p += 3;
		n -= 3;
	}
	while (n && (p[n - 1] == '\r' || p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	if (is_blank(p, n))
		return r->format == TEXT_PARAGRAPHS ? end_paragraph(r) : 0;
	while (*p == ' ' || *p == '\t') {
		p++;
		n--;
	}
	if (r->format == TEXT_AUTO)
		r->format = *p == '{' ? TEXT_JSONL : TEXT_LINES;
	if (r->format == TEXT_JSONL)
		return add_json(r, p, n);
	if (r->format == TEXT_LINES)
		return add_text(r, r->line, NULL, 0, NULL, 0, p, n);
	if (r->para.len == 0)
		r->para_line = r->line;
	else
		rc = buf_put_u8(&r->para, '\n');
	if (!rc)
		rc = buf_append(&r->para, p, n);
	if (!rc && r->para.len > LINE_MAX_BYTES)
		return vx_err_set(
			&r->err, -EMSGSIZE, "a paragraph is longer than %u bytes", LINE_MAX_BYTES);
	return rc ? vx_err_set(&r->err, rc, "out of memory") : 0;
}

/* Takes the whole lines of 'b' and leaves the rest. */
static int take_lines(struct run *r, struct buf *b)
{
	size_t at = 0;
	const char *nl;
	int rc = 0;

	while (!rc && at < b->len && (nl = memchr(b->data + at, '\n', b->len - at)) != NULL) {
		const char *p = (const char *)b->data + at;
		rc = add_line(r, p, (size_t)(nl - p));
		at += (size_t)(nl - p) + 1;
	}
	buf_consume(b, at);
	if (!rc && b->len > LINE_MAX_BYTES)
		rc = vx_err_set(&r->err, -EMSGSIZE, "line %" PRIu64 " is longer than %u bytes",
			r->line + 1, LINE_MAX_BYTES);
	return rc;
}

/* Whether a read would have to wait. */
static bool would_wait(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 0;
}

static int read_all(struct run *r, int fd)
{
	struct buf b = BUF_INIT;
	int rc = 0;

	while (!rc) {
		if (would_wait(fd)) {
			rc = flush_batch(r);
			cli_flush();
			if (rc)
				break;
		}
		rc = buf_reserve(&b, 64u << 10);
		if (rc) {
			vx_err_set(&r->err, rc, "out of memory");
			break;
		}
		ssize_t n = cli_read(fd, b.data + b.len, b.cap - b.len);
		if (n < 0) {
			rc = vx_err_set(&r->err, (int)n, "cannot read: %s", strerror((int)-n));
			break;
		}
		if (n == 0) {
			if (b.len)
				rc = add_line(r, (const char *)b.data, b.len);
			if (!rc)
				rc = end_paragraph(r);
			break;
		}
		b.len += (size_t)n;
		r->fed_bytes += (size_t)n;
		rc = take_lines(r, &b);
		cli_progress("embedding", r->fed_bytes, r->all_bytes);
	}
	buf_release(&b);
	return rc;
}

/* --- setting up ------------------------------------------------------------------- */
static enum text_format parse_format(void)
{
	static const char *const names[] = {"auto", "text", "jsonl", "paragraphs"};

	for (size_t i = 0; i < VX_ARRAY_SIZE(names); i++) {
		if (!strcmp(format, names[i]))
			return (enum text_format)i;
	}
	cli_usage("'%s' is no format: text, jsonl or paragraphs", format);
}

/* The embedder that the options describe. */
static int open_embedder(struct run *r)
{
	struct buf b = BUF_INIT;
	int rc;

	if (!!command + !!url + !!spec > 1)
		cli_usage("--cmd, --url and --embedder exclude each other");
	if (!url && (model || key_file))
		cli_usage("--model and --key-file go with --url");
	if (command)
		rc = buf_printf(&b, "cmd:%s", command);
	else if (url)
		rc = buf_printf(&b, "url:%s;batch=%u;timeout=%u", url, batch, timeout_s);
	else if (spec)
		rc = buf_printf(&b, "%s", spec);
	else
		rc = buf_printf(&b, "hash:dim=%u", dim ? dim : EMBED_DIM_DEFAULT);
	if (!rc && model)
		rc = buf_printf(&b, ";model=%s", model);
	if (!rc && key_file)
		rc = buf_printf(&b, ";key-file=%s", key_file);
	if (!rc)
		rc = buf_cstr(&b);
	if (!rc)
		rc = embed_open((const char *)b.data, &r->e, &r->err);
	buf_release(&b);
	return rc;
}

static int embed_file(struct run *r, const char *file, enum text_format f)
{
	int fd;

	r->file = file;
	r->format = f;
	r->line = 0;
	int rc = cli_open(file, &fd, &r->err);
	if (rc)
		return cli_fail(rc, &r->err);
	rc = read_all(r, fd);
	if (!rc)
		rc = flush_batch(r);
	cli_close(fd);
	return rc ? cli_fail_at(strcmp(file, "-") ? file : "stdin", rc, &r->err) : CLI_DONE;
}

int main(int argc, char **argv)
{
	struct run r = {0};
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;
	enum text_format f = parse_format();

	r.arena = codec_arena_new();
	r.items = calloc(batch, sizeof *r.items);
	r.texts = calloc(batch, sizeof *r.texts);
	r.lens = calloc(batch, sizeof *r.lens);
	int rc = r.arena && r.items && r.texts && r.lens ? open_embedder(&r) : -ENOMEM;
	if (rc)
		code = rc == -EINVAL ? (cli_fail(rc, &r.err), CLI_USAGE) : cli_fail(rc, &r.err);
	for (int i = first; i < argc && code == CLI_DONE; i++) {
		int fd;
		if (strcmp(argv[i], "-") != 0 && cli_open(argv[i], &fd, NULL) == 0) {
			r.all_bytes += cli_size(fd);
			cli_close(fd);
		}
	}
	if (code == CLI_DONE && first == argc)
		code = embed_file(&r, "-", f);
	for (int i = first; i < argc && (code == CLI_DONE || code == CLI_BAD_DATA); i++)
		code = cli_worse(code, embed_file(&r, argv[i], f));
	if (code == CLI_DONE && r.rejected)
		code = CLI_REJECTED;
	cli_progress_end();
	cli_note("%" PRIu64 " embedded, %" PRIu64 " rejected", r.done, r.rejected);
	embed_close(r.e);
	codec_arena_free(r.arena);
	buf_release(&r.bytes);
	buf_release(&r.out);
	buf_release(&r.para);
	free(r.items);
	free(r.texts);
	free(r.lens);
	return cli_finish(code);
}
