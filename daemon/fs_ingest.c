/* fs_ingest.c - the records of one file on their way into a collection.
 *
 * Bytes go through a codec reader into a batch; a full batch is sent off (fs_flight.c) while the next is
 * gathered, so a file of any size needs the memory of FLIGHT_MAX + 1 batches.  What is wrong with a record is
 * known before it is sent: it is skipped (and kept in failed/), or it ends the file, after the records before
 * it were committed.  What is wrong with a commit shows in a later write or at the end.  A dry run does the
 * checks and commits nothing.
 *
 * However a file ends, its receipt says what of it is in.
 *
 * In a supervised daemon what a file has come to outlives the worker: as it was when the file last *settled* (what
 * was gathered was committed, and the reader's state is all that is left of the bytes), plus the bytes since.
 * The next worker feeds those to a reader again, which cuts the same batches out of them (fs_flight.c).  A
 * file settles when JOURNAL_MAX bytes or BATCHES_MAX batches have come since, and when it is flushed.
 *
 * Finishing may happen more than once: a shell that holds the file open flushes it after each command.
 * Text then goes on with the next line; formats of rows cannot.
 */
#include "daemon/fs_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define XXH_STATIC_LINKING_ONLY /* the layout of a state, to carry one over */
#include <xxhash.h>

#include "base/log.h"

#define LOG_LINES_MAX 10u /* refusals of one file in the error log */
#define JOURNAL_MAX   (8u << 20)
#define BATCHES_MAX   32u

struct ingest {
	struct fs *fs;
	struct coll *c; /* borrowed */
	struct ingest_opts o;
	struct codec_reader *reader; /* NULL: between finish and the next byte */
	struct batch *batch;
	XXH3_state_t *sum;
	uint64_t bytes;
	uint64_t newlines, line_base; /* seen so far; before the reader's first line */
	uint64_t bad_line;
	uint64_t rejected;
	struct flight flight;
	struct buf rejects, errs;
	struct vx_err why; /* of what a callback refused */
	bool finished;
	bool none; /* every record was refused */
	/* As of the last settling, encoded but for what only grows: 'rejects' and 'errs' had these lengths. */
	struct buf settled;
	size_t settled_rejects, settled_errs;
	uint64_t settled_at; /* 'bytes' then */
	uint64_t settled_batches;
};

static int need_reader(struct ingest *in, struct vx_err *err);

/* Sends off what was gathered. */
static int commit(struct ingest *in, struct vx_err *err)
{
	if (batch_count(in->batch) == 0)
		return 0;
	if (!in->o.dry)
		return flight_submit(&in->flight, &in->batch, err);
	int rc = in->o.txn ? txn_plan(in->o.txn, in->batch, err) : 0;
	batch_reset(in->batch);
	return rc;
}

/* --- bad records ------------------------------------------------------------------------------------- */
static int keep_reject(struct ingest *in, uint64_t line, const char *raw, size_t n, int rc,
	const struct vx_err *why)
{
	int rc2 = 0;

	in->rejected++;
	if (in->rejects.len + n + 1 <= KEEP_FILE_MAX && raw) {
		rc2 = buf_append(&in->rejects, raw, n);
		if (rc2 == 0)
			rc2 = buf_append(&in->rejects, "\n", 1);
	}
	if (rc2 == 0 && in->errs.len < KEEP_FILE_MAX)
		rc2 = buf_printf(&in->errs, "%llu: %s: %s\n", (unsigned long long)line,
			vx_errno_name(rc), vx_err_msg(why, rc));
	if (in->o.log_to && in->rejected <= LOG_LINES_MAX)
		fs_log_bad(in->o.log_to, line, rc, why);
	return rc2;
}

static int on_bad(
	void *ctx, uint64_t line, const char *raw, size_t raw_len, const struct vx_err *why)
{
	struct ingest *in = ctx;

	line += in->line_base;
	if (in->o.skip)
		return keep_reject(in, line, raw, raw_len, why->code, why);
	in->bad_line = line;
	in->why = *why;
	return why->code;
}

/* The escapes of vecfs-jsonl(5). */
static int put_tsv_text(struct buf *out, const char *p, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < n && !rc; i++) {
		const char *esc = p[i] == '\t'   ? "\\t"
				  : p[i] == '\n' ? "\\n"
				  : p[i] == '\r' ? "\\r"
				  : p[i] == '\\' ? "\\\\"
						 : NULL;
		rc = esc ? buf_append(out, esc, 2) : buf_append(out, p + i, 1);
	}
	return rc;
}

/* The text of a record that was well formed but does not fit the collection. */
static int print_reject(struct ingest *in, const struct vx_record *rec, struct buf *out)
{
	if (in->o.format == CODEC_JSONL) {
		int rc = codec_print_record(out, rec);
		if (rc == 0 && out->len)
			out->len--; /* its newline */
		return rc;
	}
	if (in->o.format != CODEC_TSV)
		return 0;
	int rc = buf_append(out, rec->id, rec->id_len);
	if (!rc)
		rc = buf_append(out, "\t", 1);
	size_t at = out->len;
	if (!rc)
		rc = codec_print_vector(out, rec->vec, rec->dim);
	if (!rc && out->len > at + 1) {
		memmove(out->data + at, out->data + at + 1, out->len - at - 2);
		out->len -= 2;
	}
	if (!rc && (rec->meta || rec->text))
		rc = buf_printf(out, "\t%.*s", (int)rec->meta_len, rec->meta ? rec->meta : "");
	if (!rc && rec->text)
		rc = buf_append(out, "\t", 1);
	if (!rc && rec->text)
		rc = put_tsv_text(out, rec->text, rec->text_len);
	return rc;
}

static int on_record(void *ctx, const struct vx_record *rec)
{
	struct ingest *in = ctx;
	struct vx_err why = VX_ERR_INIT;
	int rc = batch_put(in->batch, rec, &why);

	if (rc == 0)
		return batch_full(in->batch) ? commit(in, &in->why) : 0;
	if (rc == -ENOMEM)
		return rc;
	if (!in->o.skip) {
		in->bad_line = rec->line + in->line_base;
		in->why = why;
		return rc;
	}
	struct buf raw = BUF_INIT;
	int rc2 = print_reject(in, rec, &raw);
	if (rc2 == 0)
		rc2 = keep_reject(in, rec->line + in->line_base, raw.len ? (char *)raw.data : NULL,
			raw.len, rc, &why);
	buf_release(&raw);
	return rc2;
}

/* --- carrying over ------------------------------------------------------------------------------------- */
/* Remembers the state as one that another worker can start from.  Nothing is gathered or in flight. */
static int settle_point(struct ingest *in)
{
	struct buf *b = &in->settled;

	b->len = 0;
	in->settled_at = in->bytes;
	in->settled_batches = in->flight.next;
	in->settled_rejects = in->rejects.len;
	in->settled_errs = in->errs.len;
	if (!in->o.progress)
		return 0;
	int rc = buf_put_le64(b, in->bytes);
	if (rc == 0)
		rc = buf_put_le64(b, in->newlines);
	if (rc == 0)
		rc = buf_put_le64(b, in->line_base);
	if (rc == 0)
		rc = buf_put_le64(b, in->bad_line);
	if (rc == 0)
		rc = buf_put_le64(b, in->rejected);
	if (rc == 0)
		rc = buf_put_le64(b, in->flight.next);
	if (rc == 0)
		rc = buf_put_u8(b, (uint8_t)(in->o.skip | in->finished << 1 | in->none << 2 |
					     (in->reader != NULL) << 3));
	if (rc == 0)
		rc = put_blob(b, in->sum, sizeof *in->sum);
	return rc || !in->reader ? rc : codec_reader_save(in->reader, b);
}

int ingest_settle(struct ingest *in, bool now, struct vx_err *err)
{
	if (!in->o.progress || (!now && in->bytes - in->settled_at < JOURNAL_MAX &&
				       in->flight.next - in->settled_batches < BATCHES_MAX))
		return 0;
	int rc = commit(in, err);
	if (rc == 0)
		rc = flight_wait(&in->flight, err);
	return rc ? rc : settle_point(in);
}

uint64_t ingest_unsettled(const struct ingest *in)
{
	return in->bytes - in->settled_at;
}

int ingest_save(struct ingest *in, struct buf *out)
{
	int rc = buf_put_le64(out, ingest_unsettled(in));

	if (rc == 0)
		rc = put_blob(out, in->rejects.data, in->settled_rejects);
	if (rc == 0)
		rc = put_blob(out, in->errs.data, in->settled_errs);
	return rc ? rc : buf_append(out, in->settled.data, in->settled.len);
}

static int load_settled(struct ingest *in, struct bytes_reader *rd, struct vx_err *err)
{
	struct buf sum = BUF_INIT;
	uint64_t bytes = rd_le64(rd);

	in->bytes = bytes;
	in->newlines = rd_le64(rd);
	in->line_base = rd_le64(rd);
	in->bad_line = rd_le64(rd);
	in->rejected = rd_le64(rd);
	in->flight.next = rd_le64(rd);
	uint8_t flags = rd_u8(rd);
	in->o.skip = flags & 1;
	in->none = flags & 4;
	int rc = get_blob(rd, &sum);
	if (rc == 0 && sum.len != sizeof *in->sum)
		rc = -EUCLEAN;
	if (rc == 0) { /* its secret lies where the library lies in this process */
		const unsigned char *secret = in->sum->extSecret;
		memcpy(in->sum, sum.data, sizeof *in->sum);
		in->sum->extSecret = secret;
	}
	buf_release(&sum);
	if (rc == 0 && flags & 8) {
		uint64_t line_base = in->line_base;
		in->finished = false;
		rc = need_reader(in, err);
		in->line_base = line_base;
		if (rc == 0)
			rc = codec_reader_load(in->reader, rd);
	}
	in->finished = flags & 2;
	return rc;
}

int ingest_load(
	struct ingest *in, struct bytes_reader *rd, const struct buf *journal, struct vx_err *err)
{
	(void)rd_le64(rd);
	int rc = get_blob(rd, &in->rejects);
	if (rc == 0)
		rc = get_blob(rd, &in->errs);
	if (rc == 0)
		rc = load_settled(in, rd, err);
	if (rc == 0)
		rc = settle_point(in);
	if (rc == 0 && journal->len)
		rc = ingest_feed(in, journal->data, journal->len, err);
	return rc;
}

/* --- the stream ---------------------------------------------------------------------------------------- */
int ingest_new(struct fs *fs, struct coll *c, const struct ingest_opts *o, struct ingest **ret,
	struct vx_err *err)
{
	struct ingest *in = calloc(1, sizeof *in);
	int rc = in ? batch_new(c, &in->batch) : -ENOMEM;

	if (in)
		flight_init(&in->flight, c);
	if (in && !o->dry)
		in->flight.txn = o->txn;
	if (rc == 0) {
		in->fs = fs;
		in->c = c;
		in->o = *o;
		in->sum = XXH3_createState();
		if (!in->sum || XXH3_64bits_reset(in->sum) != XXH_OK)
			rc = -ENOMEM;
	}
	if (rc == 0 && o->progress && !o->dry)
		flight_names(&in->flight, carry_epoch(fs->carry), o->unique, 0, o->progress);
	if (rc == 0)
		rc = settle_point(in);
	if (rc) {
		ingest_free(in);
		return vx_err_set(err, rc, "no memory");
	}
	*ret = in;
	return 0;
}

void ingest_free(struct ingest *in)
{
	if (!in)
		return;
	flight_release(&in->flight);
	codec_reader_free(in->reader);
	batch_free(in->batch);
	XXH3_freeState(in->sum);
	buf_release(&in->rejects);
	buf_release(&in->errs);
	buf_release(&in->settled);
	free(in);
}

static int need_reader(struct ingest *in, struct vx_err *err)
{
	struct codec_opts opts = {.dim = coll_dim(in->c), .on_bad = on_bad};

	if (in->reader)
		return 0;
	if (in->finished && codec_format_is_rows(in->o.format))
		return vx_err_set(
			err, -EINVAL, "the file was closed already; rows cannot be added to it");
	in->line_base = in->newlines;
	return codec_reader_new(in->o.format, &opts, on_record, in, &in->reader);
}

static uint64_t count_newlines(const char *p, size_t n)
{
	uint64_t c = 0;

	for (const char *end = p + n; (p = memchr(p, '\n', (size_t)(end - p))); p++)
		c++;
	return c;
}

/* What the reader refuses as a whole (a torn line, a row of another dimension) does not come with its
 * place: it is the line or row after those that are done.  'newlines' were seen before it. */
static void find_bad_line(struct ingest *in, uint64_t newlines)
{
	bool header = in->o.format == CODEC_NPY || in->o.format == CODEC_FBIN;
	uint64_t rows = codec_count(in->reader);

	if (in->why.code || in->bad_line)
		return;
	if (!codec_format_is_rows(in->o.format))
		in->bad_line = newlines + 1;
	else if (rows || !header) /* else it may be the header */
		in->bad_line = rows + 1;
}

static int ingest_failed(struct ingest *in, int rc, uint64_t newlines, struct vx_err *err)
{
	if (rc != -ENOMEM)
		find_bad_line(in, newlines);
	if (in->why.code && err)
		*err = in->why;
	return rc;
}

int ingest_feed(struct ingest *in, const void *p, size_t n, struct vx_err *err)
{
	int rc = flight_failed(&in->flight, err);

	if (rc == 0)
		rc = need_reader(in, err);
	if (rc)
		return rc;
	in->bytes += n;
	if (!in->o.dry)
		XXH3_64bits_update(in->sum, p, n);
	uint64_t before = in->newlines;
	if (!codec_format_is_rows(in->o.format))
		in->newlines += count_newlines(p, n);
	rc = codec_feed(in->reader, p, n, err);
	/* What gathers is committed later, by a close that shells do not look at: a full disk is said now. */
	if (rc == 0 && !in->o.dry && batch_count(in->batch))
		rc = batch_check(in->batch, err);
	return rc ? ingest_failed(in, rc, before, err) : 0;
}

/* --- what stays ------------------------------------------------------------------------------------------- */
static void time_text(char *ret, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(ret, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static int print_error(struct ingest *in, int rc_file, const struct vx_err *why, struct buf *out)
{
	char text[600];
	int rc = 0;

	snprintf(text, sizeof text, "%s: %s", vx_errno_name(rc_file), vx_err_msg(why, rc_file));
	if (in->bad_line)
		rc = buf_printf(out, ",\"line\":%llu", (unsigned long long)in->bad_line);
	if (!rc)
		rc = buf_append(out, ",\"error\":", 9);
	return rc ? rc : codec_print_string(out, text, strlen(text));
}

/* 'rc_file' and 'why': what ended the file, 0 when it is whole. */
static int write_receipt(struct ingest *in, int rc_file, const struct vx_err *why)
{
	struct buf out = BUF_INIT;
	char name[300], when[40];
	struct flight_sum sum;

	flight_sum(&in->flight, &sum);
	time_text(when, sizeof when);
	int rc = buf_printf(&out, "{\"file\":");
	if (!rc)
		rc = codec_print_string(&out, in->o.name, strlen(in->o.name));
	if (!rc)
		rc = buf_printf(&out,
			",\"accepted\":%llu,\"inserted\":%llu,\"updated\":%llu,\"rejected\":%llu,"
			"\"duplicates\":%llu,\"shard\":%u,\"index\":%llu,\"bytes\":%llu,"
			"\"xxh3\":\"%016llx\",\"time\":\"%s\"",
			(unsigned long long)sum.accepted, (unsigned long long)sum.inserted,
			(unsigned long long)sum.updated, (unsigned long long)in->rejected,
			(unsigned long long)sum.duplicates, sum.shard,
			(unsigned long long)sum.index, (unsigned long long)in->bytes,
			(unsigned long long)XXH3_64bits_digest(in->sum), when);
	if (!rc && rc_file)
		rc = print_error(in, rc_file, why, &out);
	if (!rc)
		rc = buf_append(&out, "}\n", 2);
	snprintf(name, sizeof name, "%s.json", in->o.name);
	if (!rc)
		rc = keep_write(in->fs, KEEP_DONE, coll_cid(in->c), name, out.data, out.len);
	buf_release(&out);
	return rc;
}

/* failed/NAME and failed/NAME.err; what an earlier try of the same name left is taken away. */
static int write_rejects(struct ingest *in)
{
	uint32_t cid = coll_cid(in->c);
	char name[300];
	int rc = 0;

	snprintf(name, sizeof name, "%s.err", in->o.name);
	if (in->rejects.len)
		rc = keep_write(
			in->fs, KEEP_FAILED, cid, in->o.name, in->rejects.data, in->rejects.len);
	else
		rc = keep_unlink(in->fs, KEEP_FAILED, cid, in->o.name);
	if (rc && rc != -ENOENT)
		return rc;
	if (in->errs.len)
		return keep_write(in->fs, KEEP_FAILED, cid, name, in->errs.data, in->errs.len);
	rc = keep_unlink(in->fs, KEEP_FAILED, cid, name);
	return rc == -ENOENT ? 0 : rc;
}

/* failed/ and done/ of a file; the records are committed whatever happens to the notes about them. */
static void keep_notes(struct ingest *in, int rc_file, const struct vx_err *why)
{
	int rc = write_rejects(in);

	if (rc == 0)
		rc = write_receipt(in, rc_file, why);
	if (rc)
		log_warn("fs", "no receipt for %s: %s", in->o.name, vx_err_msg(NULL, rc));
}

static bool took_none(struct ingest *in)
{
	struct flight_sum sum;

	flight_sum(&in->flight, &sum);
	return in->rejected && sum.accepted == 0;
}

int ingest_finish(struct ingest *in, struct vx_err *err)
{
	int rc = 0;

	if (in->reader) {
		rc = codec_finish(in->reader, err);
		if (rc)
			return ingest_failed(in, rc, in->newlines, err);
		codec_reader_free(in->reader);
		in->reader = NULL;
		in->finished = true;
	}
	rc = commit(in, err);
	if (rc == 0)
		rc = flight_wait(&in->flight, err);
	if (rc == 0 && in->o.txn && !in->o.dry)
		rc = flight_commit(&in->flight, err);
	if (rc || in->o.dry)
		return rc;
	in->none = took_none(in);
	if (in->none)
		rc = vx_err_set(err, -EINVAL,
			"none of %llu record%s was accepted; failed/%s.err has the reasons",
			(unsigned long long)in->rejected, in->rejected == 1 ? "" : "s", in->o.name);
	keep_notes(in, rc, err);
	return rc;
}

bool ingest_none(const struct ingest *in)
{
	return in->none;
}

void ingest_abort(struct ingest *in, int rc, const struct vx_err *why)
{
	struct vx_err ignored = VX_ERR_INIT;

	/* The records before what was refused stay, unless it is all or nothing. */
	int rc2 = rc == -ENOMEM || in->o.txn ? 0 : commit(in, &ignored);
	if (rc2 == 0)
		rc2 = flight_wait(&in->flight, &ignored);
	else
		(void)!flight_wait(&in->flight, NULL);
	if (rc2 && rc2 != rc)
		log_warn("fs", "%s: %s", in->o.name, vx_err_msg(&ignored, rc2));
	if (buf_printf(&in->errs, "%llu: %s: %s\n", (unsigned long long)in->bad_line,
		    vx_errno_name(rc), vx_err_msg(why, rc)))
		log_warn("fs", "%s: no memory for failed/", in->o.name);
	if (!in->o.txn)
		keep_notes(in, rc, why);
	else if (write_rejects(in)) /* nothing of it is in: there is no receipt */
		log_warn("fs", "%s: no note in failed/", in->o.name);
}

uint64_t ingest_bytes(const struct ingest *in)
{
	return in->bytes;
}

uint64_t ingest_bad_line(const struct ingest *in)
{
	return in->bad_line;
}
