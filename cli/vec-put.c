/* vec-put.c - puts records into a collection.
 *
 * FILEs are read one after the other and parsed as they come; records go out in batches with
 * several under way (lib/client), so parsing, the socket and the commits overlap.  Status 0 says
 * that every record was committed.
 *
 * With --atomic the batches of all FILEs are hidden parts of one transaction, which is committed at the end or
 * dropped; nothing below cares but put_all.
 *
 * A record can be refused in two places: here, when it cannot be parsed, or by the daemon, when it
 * does not fit the collection.  Both are reported as FILE:LINE: reason and counted alike; both
 * reach the daemon's error log.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/timeslice.h"
#include "cli_client.h"

static const char *format, *on_error, *rejects_path, *id_prefix, *metric = "";
static uint32_t batch_rows, window;
static bool atomic, insert, receipt, create = true;

static const struct cli_opt opts[] = {
	{"format", 'F', CLI_STR, &format, "FORMAT", 0, 0,
		"jsonl, tsv, fvecs, bvecs, fbin or npy (default: by suffix or contents)"},
	{"batch", 'b', CLI_U32, &batch_rows, "N", 1, 1000000,
		"records per batch (default: what makes 768 KiB)"},
	{"window", 0, CLI_U32, &window, "N", 1, 16, "batches under way (default 4)"},
	{"atomic", 0, CLI_FLAG, &atomic, NULL, 0, 0,
		"commit the records of all FILEs at once, or none"},
	{"insert", 0, CLI_FLAG, &insert, NULL, 0, 0, "refuse records whose id exists"},
	{"on-error", 0, CLI_STR, &on_error, "skip|abort", 0, 0,
		"a bad record: skip it and go on (default), or stop (with --atomic)"},
	{"receipt", 0, CLI_FLAG, &receipt, NULL, 0, 0,
		"print one JSON line per FILE, or per transaction"},
	{"rejects", 0, CLI_STR, &rejects_path, "FILE", 0, 0, "write the refused records to FILE"},
	{"id-prefix", 0, CLI_STR, &id_prefix, "TEXT", 0, 0,
		"put TEXT before the row numbers of fvecs, bvecs, fbin, npy"},
	{"metric", 0, CLI_STR, &metric, "METRIC", 0, 0,
		"of the collection, when it has to be made: cosine, l2 or ip"},
	{"no-create", 0, CLI_NOFLAG, &create, NULL, 0, 0, "fail when there is no such collection"},
};
static const struct cli_tool tool = {
	.name = "vec-put",
	.args = "COLLECTION [FILE...]",
	.about = "Put records from FILEs (or standard input) into a collection",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
};

struct put {
	struct client *c;
	const char *coll;
	struct client_put *stream;
	bool abort;
	bool stop; /* under 'abort': a record was refused */
	FILE *rejects;
	uint32_t dim;      /* of the collection; 0: not fixed yet */
	uint64_t next_row; /* of row formats: counted on across FILEs */

	/* The FILE in hand. */
	struct cli_source src;
	const char *file;
	uint64_t rejected;
	XXH3_state_t *hash; /* with --receipt */
	FILE *ids;          /* FILE.ids */
	char *id_line;
	size_t id_cap;
	bool ids_failed;

	/* All FILEs. */
	uint64_t rejected_all;
	uint64_t bytes_before, bytes_all; /* for the bar */
	struct vx_err err;
};

/* --- refused records ------------------------------------------------------------------ */
static void write_reject(struct put *p, const void *text, size_t n)
{
	if (!p->rejects)
		return;
	if (fwrite(text, 1, n, p->rejects) != n || fputc('\n', p->rejects) == EOF) {
		cli_error("%s: %s", rejects_path, strerror(errno));
		exit(CLI_REFUSED);
	}
}

static void count_reject(struct put *p)
{
	p->rejected++;
	p->rejected_all++;
	if (p->abort)
		p->stop = true;
}

/* Could not be parsed. */
static int on_bad_line(
	void *ctx, uint64_t line, const char *raw, size_t raw_len, const struct vx_err *why)
{
	struct put *p = ctx;

	cli_error_at(p->file, line, "%s", vx_err_msg(why, why->code));
	client_put_reject(p->stream, line, why->code, vx_err_msg(why, why->code));
	if (raw)
		write_reject(p, raw, raw_len);
	count_reject(p);
	return p->abort ? -ECANCELED : 0;
}

/* Refused by the daemon. */
static void on_refused(
	void *ctx, const char *source, const struct vx_record *rec, int rc, const char *reason)
{
	struct put *p = ctx;
	struct buf b = BUF_INIT;

	(void)rc;
	cli_error_at(source ? source : p->file, rec->line, "%s", reason);
	if (p->rejects && codec_print_record(&b, rec) == 0)
		write_reject(p, b.data, b.len - 1);
	buf_release(&b);
	count_reject(p);
}

/* --- records ----------------------------------------------------------------------------- */
static int on_record(void *ctx, const struct vx_record *rec)
{
	struct put *p = ctx;

	if (p->stop)
		return -ECANCELED;
	return client_put_add(p->stream, rec, &p->err);
}

/* The id of a row from FILE.ids; rows are asked for in order. */
static const char *next_id(void *ctx, uint64_t row, size_t *ret_len)
{
	struct put *p = ctx;

	(void)row;
	ssize_t n = getline(&p->id_line, &p->id_cap, p->ids);
	if (n <= 0) {
		p->ids_failed = true;
		return NULL;
	}
	while (n > 0 && (p->id_line[n - 1] == '\n' || p->id_line[n - 1] == '\r'))
		n--;
	*ret_len = (size_t)n;
	return p->id_line;
}

static void open_ids(struct put *p)
{
	char *name;

	p->ids = NULL;
	p->ids_failed = false;
	if (!codec_format_is_rows(p->src.format) || strcmp(p->file, "-") == 0)
		return;
	if (asprintf(&name, "%s.ids", p->file) < 0)
		return;
	p->ids = fopen(name, "re");
	if (p->ids)
		cli_note("%s: ids from %s", p->file, name);
	free(name);
}

/* Parses the source to its end. */
static int feed(struct put *p)
{
	struct codec_opts o = {
		.dim = p->dim,
		.first_row = p->next_row,
		.id_prefix = id_prefix,
		.row_id = p->ids ? next_id : NULL,
		.on_bad = on_bad_line,
	};
	struct codec_reader *r;
	const uint8_t *bytes;
	ssize_t n = 1;

	int rc = codec_reader_new(p->src.format, &o, on_record, p, &r);
	if (rc)
		return rc;
	while (rc == 0 && (n = cli_source_read(&p->src, &bytes, &p->err)) > 0) {
		if (p->hash)
			XXH3_64bits_update(p->hash, bytes, (size_t)n);
		rc = codec_feed(r, bytes, (size_t)n, &p->err);
		if (p->bytes_all)
			cli_progress(p->coll, p->bytes_before + p->src.done_bytes, p->bytes_all);
		else
			cli_progress("records", codec_count(r), 0);
	}
	if (rc == 0)
		rc = n < 0 ? (int)n : codec_finish(r, &p->err);
	if (rc == 0 && p->stop)
		rc = -ECANCELED;
	if (codec_format_is_rows(p->src.format))
		p->next_row += codec_count(r);
	codec_reader_free(r);
	return rc;
}

/* --- files ---------------------------------------------------------------------------------- */
static void print_receipt(struct put *p, const struct client_put_sum *before, uint64_t start_ns)
{
	const struct client_put_sum *s = client_put_sum(p->stream);
	uint64_t conflicts = s->conflicts - before->conflicts;
	struct buf b = BUF_INIT;

	if (codec_print_string(&b, p->file, strlen(p->file)))
		return;
	cli_outf("{\"file\":%.*s,\"accepted\":%" PRIu64 ",\"inserted\":%" PRIu64
		 ",\"updated\":%" PRIu64 ",\"rejected\":%" PRIu64 ",\"duplicates\":%" PRIu64
		 ",\"index\":%" PRIu64 ",\"xxh3\":\"%016" PRIx64 "\",\"seconds\":%.3f}\n",
		(int)b.len, (const char *)b.data,
		s->rows - before->rows - (s->refused - before->refused) - conflicts,
		s->inserted - before->inserted, s->updated - before->updated,
		p->rejected + conflicts, s->duplicates - before->duplicates, s->index,
		(uint64_t)XXH3_64bits_digest(p->hash), (double)(clock_mono_ns() - start_ns) / 1e9);
	cli_flush();
	buf_release(&b);
}

/* Of all FILEs in one transaction.  What an id's record was before is not known where the answer was lost. */
static void print_txn_receipt(struct put *p, char **files, int n, uint64_t txn, uint64_t start_ns)
{
	const struct client_put_sum *s = client_put_sum(p->stream);
	struct buf b = BUF_INIT;
	int rc = 0;

	for (int i = 0; i < n && rc == 0; i++) {
		rc = buf_append(&b, ",", i > 0);
		if (rc == 0)
			rc = codec_print_string(&b, files[i], strlen(files[i]));
	}
	if (rc == 0) {
		cli_outf("{\"files\":[%.*s],\"transaction\":\"%016" PRIx64
			 "\",\"accepted\":%" PRIu64,
			(int)b.len, (const char *)b.data, txn, s->rows - s->refused);
		if (!s->asked)
			cli_outf(",\"inserted\":%" PRIu64 ",\"updated\":%" PRIu64
				 ",\"duplicates\":%" PRIu64 ",\"index\":%" PRIu64,
				s->inserted, s->updated, s->duplicates, s->index);
		cli_outf(",\"rejected\":%" PRIu64 ",\"xxh3\":\"%016" PRIx64
			 "\",\"seconds\":%.3f}\n",
			p->rejected_all, (uint64_t)XXH3_64bits_digest(p->hash),
			(double)(clock_mono_ns() - start_ns) / 1e9);
		cli_flush();
	}
	buf_release(&b);
}

/* The error of a FILE as an exit code, with its message. */
static int file_failed(struct put *p, int rc)
{
	if (rc == -ECANCELED && p->stop)
		return CLI_BAD_DATA; /* --on-error abort: the record was reported */
	if (p->ids_failed) {
		client_put_reject(
			p->stream, 0, -EINVAL, "its .ids has fewer lines than it has rows");
		cli_error("%s.ids has fewer lines than %s has rows", p->file, p->file);
		return CLI_BAD_DATA;
	}
	/* Where it was the stream that failed, this is not sent: the daemon has said so itself. */
	client_put_reject(p->stream, 0, rc, vx_err_msg(&p->err, rc));
	return cli_fail_at(p->file, rc, &p->err);
}

static int put_file(struct put *p, const char *file)
{
	struct client_put_sum before = *client_put_sum(p->stream);
	uint64_t start = clock_mono_ns();

	p->file = file;
	p->rejected = 0;
	p->err = (struct vx_err)VX_ERR_INIT;
	int rc = cli_source_open(&p->src, file, format, &p->err);
	if (rc) {
		cli_error(
			"%s: %s", strcmp(file, "-") == 0 ? "stdin" : file, vx_err_msg(&p->err, rc));
		return CLI_BAD_DATA;
	}
	if (p->hash && !atomic) /* else of all FILEs together */
		XXH3_64bits_reset(p->hash);
	rc = client_put_source(p->stream, strcmp(file, "-") == 0 ? "stdin" : file, &p->err);
	if (rc == 0 && p->src.format != CODEC_NONE) {
		open_ids(p);
		rc = feed(p);
		if (p->ids)
			fclose(p->ids);
	}
	p->bytes_before += p->src.done_bytes;
	cli_source_close(&p->src);
	int code = rc ? file_failed(p, rc) : CLI_DONE;
	if (receipt && !atomic) {
		/* A receipt speaks of what is committed. */
		int flushed = client_put_flush(p->stream, &p->err);

		if (flushed && rc == 0)
			code = file_failed(p, flushed);
		print_receipt(p, &before, start);
	}
	return code;
}

/* --- setting up -------------------------------------------------------------------------------- */
/* Learns the dimension; makes the collection when there is none. */
static int prepare(struct put *p)
{
	Vecfs__CreateRequest req = VECFS__CREATE_REQUEST__INIT;
	const Vecfs__CollectionInfo *ci;
	const Vecfs__Done *done;
	struct vx_err err = VX_ERR_INIT;

	int rc = client_describe(p->c, p->coll, &ci, &err);
	if (rc == -ENOENT && create) {
		req.name = (char *)(uintptr_t)p->coll;
		req.metric = (char *)(uintptr_t)metric;
		rc = client_call(
			p->c, RPC_CREATE, &req.base, &vecfs__done__descriptor, &done, &err);
		if (rc == 0)
			cli_note("made %s", p->coll);
		/* Somebody else was faster: fine. */
		if (rc == 0 || rc == -EEXIST)
			rc = client_describe(p->c, p->coll, &ci, &err);
	}
	if (rc)
		return cli_fail_at(p->coll, rc, &err);
	p->dim = ci->dim;
	return CLI_DONE;
}

static uint64_t size_of_all(char **files, int n)
{
	uint64_t sum = 0;

	for (int i = 0; i < n; i++) {
		int fd;

		if (strcmp(files[i], "-") == 0 || cli_open(files[i], &fd, NULL))
			return 0;
		sum += cli_size(fd);
		cli_close(fd);
	}
	return sum;
}

/* --atomic: the end of the transaction.  'code': of what went before. */
static int decide(struct put *p, char **files, int n, int code, uint64_t start_ns)
{
	uint64_t txn = client_put_txn(p->stream);
	bool failed = code != CLI_DONE;
	int rc = client_put_flush(
		p->stream, &p->err); /* what the daemon refuses is known after it */

	if (rc && !failed)
		code = cli_fail_at(p->coll, rc, &p->err);
	else if (p->stop && !failed)
		code = CLI_BAD_DATA;
	if (code == CLI_DONE) {
		rc = client_put_commit(p->stream, &p->err);
		if (rc)
			code = cli_fail_at(p->coll, rc, &p->err);
		if (rc == -ETIMEDOUT)
			return code;
	} else {
		client_put_drop(p->stream);
	}
	if (code != CLI_DONE)
		cli_error("%s: nothing was committed", p->coll);
	else if (receipt)
		print_txn_receipt(p, files, n, txn, start_ns);
	return code;
}

static int put_all(struct put *p, char **files, int n)
{
	char *std_in[] = {(char *)(uintptr_t) "-"};
	uint64_t start = clock_mono_ns();
	int code = CLI_DONE;

	if (n == 0) {
		files = std_in;
		n = 1;
	} else {
		p->bytes_all = size_of_all(files, n);
	}
	for (int i = 0; i < n; i++) {
		code = cli_worse(code, put_file(p, files[i]));
		/* One unreadable FILE does not keep the others out; a failed stream does. */
		if (p->stop || (code != CLI_DONE && (p->abort || atomic)) || code == CLI_REFUSED ||
			code == CLI_TRY_LATER)
			break;
	}
	if (atomic)
		return decide(p, files, n, code, start);
	int rc = client_put_flush(p->stream, &p->err);
	if (rc && code != CLI_REFUSED && code != CLI_TRY_LATER)
		code = cli_worse(cli_fail_at(p->coll, rc, &p->err), code);
	return code;
}

int main(int argc, char **argv)
{
	struct client_place place;
	struct put p = {0};
	enum vx_metric m;
	int first = cli_parse(&tool, argc, argv);
	const char *arg = cli_operand(argc, argv, first, "COLLECTION");

	cli_check_format("-F", format);
	if (atomic && insert)
		cli_usage("--insert: whether an id exists shows after --atomic has committed");
	if (!on_error)
		on_error = atomic ? "abort" : "skip";
	if (strcmp(on_error, "skip") != 0 && strcmp(on_error, "abort") != 0)
		cli_usage("--on-error: '%s' is neither skip nor abort", on_error);
	if (metric[0] && vx_metric_parse(metric, &m))
		cli_usage("--metric: '%s' is none of cosine, l2, ip", metric);
	timeslice_set(TIMESLICE_BULK_US); /* whoever asks meanwhile goes first */
	p.abort = strcmp(on_error, "abort") == 0;
	p.c = cli_connect(arg, &place);
	p.coll = place.name;
	if (rejects_path) {
		p.rejects = fopen(rejects_path, "we");
		if (!p.rejects) {
			cli_error("%s: %s", rejects_path, strerror(errno));
			return CLI_REFUSED;
		}
	}
	if (receipt)
		p.hash = XXH3_createState();
	if (p.hash)
		XXH3_64bits_reset(p.hash);
	int code = prepare(&p);
	if (code == CLI_DONE) {
		struct client_put_opts o = {
			.insert = insert,
			.atomic = atomic,
			.window = window,
			.batch_rows = batch_rows,
			.on_bad = on_refused,
			.ctx = &p,
		};
		int rc = client_put_begin(p.c, p.coll, &o, &p.stream, &p.err);
		code = rc ? cli_fail_at(p.coll, rc, &p.err)
			  : put_all(&p, argv + first + 1, argc - first - 1);
	}
	if (p.stream) {
		const struct client_put_sum *s = client_put_sum(p.stream);

		if (s->conflicts)
			cli_error("%s: %" PRIu64 " records were not inserted: their ids exist",
				p.coll, s->conflicts);
		if (p.rejected_all || s->conflicts)
			code = cli_worse(code, p.abort ? CLI_BAD_DATA : CLI_REJECTED);
		cli_note("%s: %" PRIu64 " inserted, %" PRIu64 " updated, %" PRIu64
			 " rejected, %" PRIu64 " duplicates",
			p.coll, s->inserted, s->updated, p.rejected_all + s->conflicts,
			s->duplicates);
	}
	client_put_end(p.stream);
	if (p.rejects && fclose(p.rejects) != 0) {
		cli_error("%s: %s", rejects_path, strerror(errno));
		code = CLI_REFUSED;
	}
	XXH3_freeState(p.hash);
	free(p.id_line);
	client_close(p.c);
	client_place_release(&place);
	return cli_finish(code);
}
