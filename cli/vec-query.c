/* vec-query.c - asks a collection for nearest neighbours.
 *
 * Questions come from --text, --near, or FILEs in any format; lines of JSON may be questions
 * ({"vector"|"id"|"text", "k", ...}), plain vectors, or whole records, of which the vector is asked
 * for and the id names the answer.  Whatever one read brought in is asked together, spread over the
 * daemon's cores, and answered before the next read: so a file goes fast, and a coprocess that
 * sends one line gets its answer at once.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli_client.h"
#include "codec/question.h"
#include "embed/embed.h"

#define GROUP_MAX      256u       /* questions per request */
#define GROUP_HITS_MAX (1u << 20) /* answers per request: questions times k */
#define LINE_BYTES_MAX (16u << 20)

static const char *format, *text, *near, *with = "", *embedder;
static uint32_t k, ef, timeout_ms;
static const char *recall_text;
static float recall;
static bool exact;

static const struct cli_opt opts[] = {
	{"k", 'k', CLI_U32, &k, "N", 1, VX_K_MAX, "neighbours per question (default 10)"},
	{"format", 'F', CLI_STR, &format, "FORMAT", 0, 0,
		"of FILE: jsonl, tsv, fvecs, bvecs, fbin or npy"},
	{"text", 0, CLI_STR, &text, "TEXT", 0, 0, "ask with TEXT, by the collection's embedder"},
	{"near", 0, CLI_STR, &near, "ID", 0, 0, "neighbours of a stored record, itself left out"},
	{"ef", 0, CLI_U32, &ef, "N", 1, 100000, "breadth of the search"},
	{"recall", 'r', CLI_STR, &recall_text, "R", 0, 0,
		"share of the true neighbours to find: 0.5 to 0.999, or exact"},
	{"exact", 0, CLI_FLAG, &exact, NULL, 0, 0, "compare with every record"},
	{"with", 'w', CLI_STR, &with, "PARTS", 0, 0, "of meta,vector,text, in JSON answers"},
	{"timeout", 0, CLI_U32, &timeout_ms, "MS", 1, 86400000,
		"answer with what is found by then"},
	{"embedder", 0, CLI_STR, &embedder, "SPEC", 0, 0,
		"for texts, instead of the collection's: hash, cmd:PROGRAM or url:URL"},
};
static const struct cli_tool tool = {
	.name = "vec-query",
	.args = "COLLECTION [FILE...]",
	.about = "Find the records nearest to the vectors in FILEs (or standard input)",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON | CLI_TSV | CLI_IDS | CLI_NUL,
	.more = "Answers are lines of query, rank, id and distance, separated by tabs.",
};

/* Questions that go in one request: of one kind, asked alike. */
struct group {
	bool by_id;
	uint32_t dim, k, ef, timeout_ms;
	float recall;
	bool exact;
	unsigned with;
	enum answer_format format;
	uint32_t n;
	struct buf vectors;
	struct rpc_strings ids;
	struct rpc_strings names;    /* "": the number */
	uint64_t numbers[GROUP_MAX]; /* 0-based, over all FILEs */
	uint64_t lines[GROUP_MAX];
};

struct query {
	struct client *c;
	const char *coll;
	enum answer_format out_format;
	unsigned with;
	struct group g;
	struct embedder *embedder;
	struct codec_arena *arena;
	const char *file;
	uint64_t asked, answered, failed, hits;
	uint64_t next_row;
	int code; /* of the first question that failed for a reason of its own */
	struct buf out;
	struct answer_hit *hit_buf;
	size_t hit_cap;
	struct vx_err err;
};

/* --- asking ------------------------------------------------------------------------------ */
static void question_failed(struct query *q, uint64_t line, int rc, const char *reason)
{
	cli_error_at(q->file, line, "%s", reason);
	q->failed++;
	if (q->code == CLI_DONE)
		q->code = rc == -ENOENT || rc == -ENODATA ? CLI_NOTHING : cli_exit_code(rc);
}

static int print_answer(struct query *q, const struct group *g, struct client_answers *a, size_t i,
	const char *name, size_t name_len, size_t at)
{
	uint32_t n = a->counts[i];
	struct vx_record rec;

	if (n > q->hit_cap) {
		void *p = reallocarray(q->hit_buf, n, sizeof *q->hit_buf);
		if (!p)
			return -ENOMEM;
		q->hit_buf = p;
		q->hit_cap = n;
	}
	for (uint32_t h = 0; h < n && rpc_rows_next(&a->hits, &rec); h++) {
		q->hit_buf[h] = (struct answer_hit){
			.id = rec.id,
			.id_len = rec.id_len,
			.distance = a->distances[at + h],
			.vec = rec.vec,
			.dim = rec.dim,
			.meta = rec.meta,
			.meta_len = rec.meta_len,
			.text = rec.text,
			.text_len = rec.text_len,
		};
		if (g->format == ANSWER_IDS && cli.nul) {
			cli_out(rec.id, rec.id_len);
			cli_out_end();
		}
	}
	if (g->format == ANSWER_IDS && cli.nul)
		return 0;
	struct answer ans = {
		.name = name,
		.name_len = name_len,
		.number = g->numbers[i],
		.hits = q->hit_buf,
		.n_hits = n,
		.k_asked = a->message->k,
		.timed_out = client_answer_timed_out(a, i),
		.damaged = client_answer_damaged(a, i),
	};
	q->out.len = 0;
	int rc = answer_print(&q->out, g->format, &ans);
	if (rc == 0)
		cli_out(q->out.data, q->out.len);
	return rc;
}

static int print_answers(struct query *q, struct group *g, struct client_answers *a)
{
	struct rpc_strings_view names = {.p = g->names.bytes.data,
		.sizes = (const uint32_t *)(const void *)g->names.sizes.data,
		.n = g->n};
	const char *name;
	size_t name_len, at = 0;

	for (size_t i = 0; i < a->n; i++) {
		const Vecfs__RowError *e = client_answer_error(a, i);

		rpc_strings_next(&names, &name, &name_len);
		if (e) {
			question_failed(q, g->lines[i], rpc_errno_parse(e->code), e->reason);
			continue;
		}
		int rc = print_answer(q, g, a, i, name, name_len, at);
		if (rc)
			return rc;
		at += a->counts[i];
		q->answered++;
		q->hits += a->counts[i];
		if (client_answer_timed_out(a, i))
			cli_error_at(q->file, g->lines[i],
				"the time was over before the search was complete");
		uint32_t damaged = client_answer_damaged(a, i);
		if (damaged)
			cli_error_at(q->file, g->lines[i],
				"%u record%s that may belong to the answer cannot be read; see "
				"vec-fsck",
				damaged, damaged == 1 ? "" : "s");
		if (a->counts[i] < a->message->k)
			cli_note("question %" PRIu64 ": %u of %u answers", g->numbers[i],
				a->counts[i], a->message->k);
	}
	return 0;
}

/* Tells "no such record" from "no such collection". */
static bool collection_exists(struct query *q)
{
	const Vecfs__CollectionInfo *ci;

	return client_describe(q->c, q->coll, &ci, NULL) == 0;
}

/* Sends the group, prints its answers, empties it. */
static int ask(struct query *q)
{
	Vecfs__QueryRequest m = VECFS__QUERY_REQUEST__INIT;
	struct vx_err err = VX_ERR_INIT;
	struct client_answers a;
	struct group *g = &q->g;

	if (!g->n)
		return 0;
	m.collection = (char *)(uintptr_t)q->coll;
	m.n = g->n;
	m.k = g->k;
	m.ef = g->ef;
	m.recall = g->recall;
	m.exact = g->exact;
	m.timeout_ms = g->timeout_ms;
	m.with = g->with;
	if (g->by_id) {
		m.ids.data = g->ids.bytes.data;
		m.ids.len = g->ids.bytes.len;
		m.id_sizes = (uint32_t *)(void *)g->ids.sizes.data;
		m.n_id_sizes = g->n;
	} else {
		m.dim = g->dim;
		m.vectors.data = g->vectors.data;
		m.vectors.len = g->vectors.len;
	}
	int rc = client_query(q->c, &m, &a, &err);
	if (rc == 0) {
		rc = print_answers(q, g, &a);
	} else if (g->n == 1 &&
		   (rc == -EINVAL || rc == -ENODATA || (rc == -ENOENT && collection_exists(q)))) {
		/* The question's own fault: the next one may be better. */
		question_failed(q, g->lines[0], rc, vx_err_msg(&err, rc));
		rc = 0;
	} else {
		q->err = err;
	}
	g->n = 0;
	g->vectors.len = 0;
	rpc_strings_reset(&g->ids);
	rpc_strings_reset(&g->names);
	return rc;
}

/* Adds a question with a vector or an id to the group, asking first what does not fit with it. */
static int add(struct query *q, const struct question *qu, uint64_t line)
{
	struct group *g = &q->g, want = {
					 .by_id = qu->id != NULL,
					 .dim = qu->id ? 0 : qu->dim,
					 .k = k ? k : qu->k,
					 .ef = ef || recall > 0 ? ef : qu->ef,
					 .recall = ef || recall > 0 ? recall : qu->recall,
					 .timeout_ms = timeout_ms ? timeout_ms : qu->timeout_ms,
					 .exact = exact || qu->exact > 0,
					 .with = q->with,
					 .format = q->out_format != ANSWER_DEFAULT ? q->out_format
						   : qu->format != ANSWER_DEFAULT  ? qu->format
										   : ANSWER_TSV,
				 };
	int rc = 0;

	if (qu->with & WITH_META)
		want.with |= CLIENT_META;
	if (qu->with & WITH_TEXT)
		want.with |= CLIENT_TEXT;
	if (qu->with & WITH_VECTOR)
		want.with |= CLIENT_VEC;
	/* Only JSON has room for them. */
	if (want.format == ANSWER_TSV || want.format == ANSWER_IDS)
		want.with = 0;
	if (g->n && (g->by_id != want.by_id || g->dim != want.dim || g->k != want.k ||
			    g->ef != want.ef || g->recall != want.recall ||
			    g->timeout_ms != want.timeout_ms || g->exact != want.exact ||
			    g->with != want.with || g->format != want.format || g->n == GROUP_MAX ||
			    (uint64_t)(g->n + 1) * VX_MAX(g->k, 10u) > GROUP_HITS_MAX))
		rc = ask(q);
	if (rc)
		return rc;
	if (!g->n) {
		g->by_id = want.by_id;
		g->dim = want.dim;
		g->k = want.k;
		g->ef = want.ef;
		g->recall = want.recall;
		g->timeout_ms = want.timeout_ms;
		g->exact = want.exact;
		g->with = want.with;
		g->format = want.format;
	}
	rc = qu->id ? rpc_strings_add(&g->ids, qu->id, qu->id_len)
		    : buf_append(&g->vectors, qu->vec, (size_t)qu->dim * sizeof(float));
	if (rc == 0)
		rc = rpc_strings_add(&g->names, qu->name, qu->name_len);
	if (rc)
		return rc;
	g->numbers[g->n] = q->asked++;
	g->lines[g->n++] = line;
	return 0;
}

/* --- texts --------------------------------------------------------------------------------- */
/* Opens the embedder that the collection names. */
static int open_embedder(struct query *q, struct vx_err *err)
{
	Vecfs__ConfigRequest m = VECFS__CONFIG_REQUEST__INIT;
	const Vecfs__ConfigAnswer *a;
	const Vecfs__CollectionInfo *ci;
	char spec[1024];

	if (q->embedder)
		return 0;
	snprintf(spec, sizeof spec, "%s", embedder ? embedder : "");
	if (!embedder) {
		m.collection = (char *)(uintptr_t)q->coll;
		m.key = (char *)(uintptr_t) "embedder";
		int rc = client_call(
			q->c, RPC_CONFIG, &m.base, &vecfs__config_answer__descriptor, &a, err);
		if (rc)
			return rc;
		snprintf(spec, sizeof spec, "%s", a->value[0] ? a->value : "hash");
	}
	if (strcmp(spec, "hash") == 0) {
		int rc = client_describe(q->c, q->coll, &ci, err);
		if (rc)
			return rc;
		if (!ci->dim)
			return vx_err_set(err, -ENODATA, "the collection has no records yet");
		snprintf(spec, sizeof spec, "hash:dim=%u", ci->dim);
	}
	return embed_open(spec, &q->embedder, err);
}

static int add_text(struct query *q, struct question *qu, uint64_t line)
{
	struct vx_err err = VX_ERR_INIT;
	float *vecs = NULL;
	uint32_t dim = 0;
	int rc = open_embedder(q, &err);

	if (rc == 0)
		rc = embed_texts(q->embedder, &qu->text, &qu->text_len, 1, &vecs, &dim, &err);
	if (rc) {
		question_failed(q, line, rc, vx_err_msg(&err, rc));
		q->asked++;
		return 0;
	}
	qu->vec = vecs;
	qu->dim = dim;
	qu->text = NULL;
	rc = add(q, qu, line);
	free(vecs);
	return rc;
}

/* --- input ------------------------------------------------------------------------------------ */
/* A row, or a line with a name and numbers. */
static int on_record(void *ctx, const struct vx_record *rec)
{
	struct query *q = ctx;
	struct question qu = {.vec = rec->vec,
		.dim = rec->dim,
		.exact = -1,
		.name = rec->id,
		.name_len = rec->id_len};

	return add(q, &qu, rec->line);
}

static int on_bad(
	void *ctx, uint64_t line, const char *raw, size_t raw_len, const struct vx_err *why)
{
	struct query *q = ctx;

	(void)raw;
	(void)raw_len;
	question_failed(q, line, why->code, vx_err_msg(why, why->code));
	q->asked++;
	return 0;
}

/* A line of JSON, TSV or bare numbers. */
static int on_line(struct query *q, const char *p, size_t n, uint64_t line)
{
	const struct codec_opts record = {.id_optional = true};
	struct vx_err err = VX_ERR_INIT;
	struct question qu = {.exact = -1};
	struct vx_record rec;

	size_t blank = 0;
	while (blank < n && strchr(" \t\r", p[blank]) && p[blank])
		blank++;
	if (blank == n)
		return 0;
	/* TSV: the name, then the numbers; without a tab just numbers. */
	const char *tab = p[blank] != '{' && p[blank] != '[' ? memchr(p, '\t', n) : NULL;
	if (tab) {
		size_t name_len = (size_t)(tab - p);
		const char *numbers = tab + 1;
		const char *end = memchr(numbers, '\t', n - name_len - 1);

		rec = (struct vx_record){.id = p, .id_len = name_len, .line = line};
		int bad = codec_parse_vector(q->arena, numbers,
			(size_t)((end ? end : p + n) - numbers), &rec.vec, &rec.dim, &err);
		if (bad)
			return on_bad(q, line, p, n, &err);
		return on_record(q, &rec);
	}
	/* A record, as vec-embed or vec-scan print it, is asked for by its vector. */
	if (p[blank] == '{' && codec_parse_record(q->arena, p, n, &record, &rec, NULL) == 0 &&
		rec.vec) {
		rec.line = line;
		return on_record(q, &rec);
	}
	int rc = question_parse(q->arena, p, n, &qu, &err);
	if (rc == -ENOMEM)
		return rc;
	if (rc) {
		question_failed(q, line, rc, vx_err_msg(&err, rc));
		q->asked++;
		return 0;
	}
	return qu.text ? add_text(q, &qu, line) : add(q, &qu, line);
}

static int read_lines(struct query *q, struct cli_source *src)
{
	struct buf b = BUF_INIT;
	const uint8_t *bytes;
	uint64_t line = 0;
	ssize_t n;
	int rc = 0;

	do {
		n = cli_source_read(src, &bytes, &q->err);
		if (n > 0)
			rc = buf_append(&b, bytes, (size_t)n);
		size_t start = 0;
		while (rc == 0 && n >= 0 && start < b.len) {
			const char *p = (const char *)b.data + start;
			const char *nl = memchr(p, '\n', b.len - start);

			if (!nl && n > 0)
				break;
			size_t len = nl ? (size_t)(nl - p) : b.len - start;
			rc = on_line(q, p, len, ++line);
			start += len + (nl ? 1 : 0);
		}
		buf_consume(&b, start);
		if (rc == 0 && b.len > LINE_BYTES_MAX)
			rc = vx_err_set(
				&q->err, -EMSGSIZE, "line %" PRIu64 " is too long", line + 1);
		if (rc == 0)
			rc = ask(q);
		cli_flush();
	} while (rc == 0 && n > 0);
	buf_release(&b);
	return rc ? rc : (int)n;
}

static int read_rows(struct query *q, struct cli_source *src)
{
	struct codec_opts o = {.first_row = q->next_row, .id_optional = true, .on_bad = on_bad};
	struct codec_reader *r;
	const uint8_t *bytes;
	ssize_t n = 1;

	int rc = codec_reader_new(src->format, &o, on_record, q, &r);
	if (rc)
		return rc;
	while (rc == 0 && (n = cli_source_read(src, &bytes, &q->err)) > 0) {
		rc = codec_feed(r, bytes, (size_t)n, &q->err);
		if (rc == 0)
			rc = ask(q);
		cli_flush();
	}
	if (rc == 0)
		rc = n < 0 ? (int)n : codec_finish(r, &q->err);
	if (rc == 0)
		rc = ask(q);
	if (codec_format_is_rows(src->format))
		q->next_row += codec_count(r);
	codec_reader_free(r);
	return rc;
}

static int query_file(struct query *q, const char *file)
{
	struct cli_source src;

	q->file = file;
	int rc = cli_source_open(&src, file, format, &q->err);
	if (rc) {
		cli_error(
			"%s: %s", strcmp(file, "-") == 0 ? "stdin" : file, vx_err_msg(&q->err, rc));
		return CLI_BAD_DATA;
	}
	if (src.format == CODEC_JSONL || src.format == CODEC_TSV)
		rc = read_lines(q, &src);
	else if (src.format != CODEC_NONE)
		rc = read_rows(q, &src);
	cli_source_close(&src);
	return rc ? cli_fail_at(file, rc, &q->err) : CLI_DONE;
}

/* --- the whole ----------------------------------------------------------------------------------- */
static int query_args(struct query *q)
{
	struct question qu = {.exact = -1};
	int rc;

	q->file = text ? "--text" : "--near";
	if (text) {
		qu.text = text;
		qu.text_len = strlen(text);
		if (!vx_utf8_valid(text, qu.text_len))
			cli_usage("--text: not valid UTF-8");
		rc = qu.text_len ? add_text(q, &qu, 0) : -EINVAL;
		if (rc == -EINVAL)
			cli_usage("--text: the text is empty");
	} else {
		qu.id = near;
		qu.id_len = strlen(near);
		rc = add(q, &qu, 0);
	}
	if (rc == 0)
		rc = ask(q);
	return rc ? cli_fail_at(q->coll, rc, &q->err) : CLI_DONE;
}

static int result(const struct query *q, int code)
{
	if (code != CLI_DONE)
		return code;
	if (q->failed)
		return q->answered ? CLI_REJECTED : q->code;
	if (!q->asked) {
		cli_error("there is no question in the input");
		return CLI_BAD_DATA;
	}
	return q->hits ? CLI_DONE : CLI_NOTHING;
}

int main(int argc, char **argv)
{
	struct client_place place;
	struct query q = {0};
	int first = cli_parse(&tool, argc, argv), code = CLI_DONE;
	const char *arg = cli_operand(argc, argv, first, "COLLECTION");

	cli_check_format("-F", format);
	q.with = cli_parse_with(with);
	if (text && near)
		cli_usage("--text and --near are two questions");
	if (recall_text && ef)
		cli_usage(
			"--ef and --recall: one says how hard to search, the other what to reach");
	if (recall_text && vx_recall_parse(recall_text, strlen(recall_text), &recall, &q.err))
		cli_usage("--%s", q.err.msg);
	if (exact && recall > 0 && recall < VX_RECALL_EXACT)
		cli_usage("--exact finds all: --recall %s would be less", recall_text);
	if ((text || near) && first + 1 < argc)
		cli_usage("%s is the question; no FILE then", text ? "--text" : "--near");
	q.out_format = cli.json  ? ANSWER_JSONL
		       : cli.ids ? ANSWER_IDS
		       : cli.tsv ? ANSWER_TSV
		       : q.with  ? ANSWER_JSONL
				 : ANSWER_DEFAULT;
	q.arena = codec_arena_new();
	q.c = cli_connect(arg, &place);
	q.coll = place.name;
	if (text || near)
		code = query_args(&q);
	else if (first + 1 == argc)
		code = query_file(&q, "-");
	for (int i = first + 1; i < argc && (code == CLI_DONE || code == CLI_BAD_DATA); i++)
		code = cli_worse(code, query_file(&q, argv[i]));
	code = result(&q, code);
	embed_close(q.embedder);
	codec_arena_free(q.arena);
	buf_release(&q.out);
	buf_release(&q.g.vectors);
	rpc_strings_release(&q.g.ids);
	rpc_strings_release(&q.g.names);
	free(q.hit_buf);
	client_close(q.c);
	client_place_release(&place);
	return cli_finish(code);
}
