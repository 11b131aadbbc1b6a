/* codec.h - records in and out of bytes: jsonl, tsv, npy, fvecs, bvecs, fbin.
 *
 * Reading is a push parser: bytes go in as they arrive, in pieces of any size,
 * complete records come out by callback, in order.
 *
 *	codec_reader_new(CODEC_JSONL, &opts, on_record, ctx, &r)
 *	codec_feed(r, p, n, &err) ...          any number of times
 *	codec_finish(r, &err)                  an incomplete tail is an error
 *	codec_reader_free(r)
 *
 * Records are borrowed by the callback for the duration of the call.  Errors of one record
 * (broken JSON line, NaN, ...) go to opts.on_bad with the line or row number; when it returns 0
 * the reader skips that record and goes on, any other value ends the feed with that value.
 * Errors of the stream (bad header, a row of another dimension in a row format, over-long line)
 * end it and are returned.  Limits: VX_* in base.h.
 *
 * Threads: one owner per reader.
 */
#ifndef VECFS_CODEC_CODEC_H
#define VECFS_CODEC_CODEC_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/record.h"

enum codec_format {
	CODEC_NONE = 0,
	CODEC_JSONL, /* one JSON object or array per line */
	CODEC_TSV, /* id <TAB> numbers separated by spaces or commas [<TAB> meta JSON [<TAB> text]] */
	CODEC_FVECS, /* int32 dim, dim float32; repeated */
	CODEC_BVECS, /* int32 dim, dim uint8 */
	CODEC_FBIN,  /* uint32 n, uint32 dim, n x dim float32 */
	CODEC_NPY, /* NumPy 1.0-3.0: 2-d (or 1-d: one row), C order, '<f4', '<f2' ('|u1', '<f8' too) */
};

/* "jsonl", "tsv", ...; -EINVAL. */
VX_MUST_CHECK
int codec_format_parse(const char *name, enum codec_format *ret);
const char *codec_format_name(enum codec_format f);
/* By suffix of a file name (".json" and ".ndjson" are jsonl too); CODEC_NONE when unknown. */
enum codec_format codec_format_of(const char *file_name);
/* By the first bytes (at least 16 if the stream has them), for stdin without -F. */
enum codec_format codec_format_sniff(const void *p, size_t n);
/* Whether rows carry no id of their own (fvecs, bvecs, fbin, npy). */
bool codec_format_is_rows(enum codec_format f);

struct codec_opts {
	uint32_t dim;       /* expected dimension; 0: the first record's */
	const char *dim_of; /* whose dimension that is, for messages; NULL: "this collection" */
	/* A record may lack "vector" and have keys of any other name, which are skipped
	 * (vec-embed, vec-get input). */
	bool want_any_object;
	bool id_optional;      /* jsonl, tsv: a record without id comes with id NULL */
	uint64_t first_row;    /* row formats: id of the first row (counted on across files) */
	const char *id_prefix; /* row formats: put before the row number; NULL: none */
	/* Row formats: ids from elsewhere (FILE.ids); returns the id of row 'row' (0-based within
	 * this stream) or NULL when there are none left (an error).  NULL: row numbers. */
	const char *(*row_id)(void *ctx, uint64_t row, size_t *ret_len);
	/* A bad record: 'raw' is its text (jsonl, tsv), for rejects files; may be NULL. */
	int (*on_bad)(void *ctx, uint64_t line, const char *raw, size_t raw_len,
		const struct vx_err *why);
};

struct codec_reader;
typedef int codec_record_fn(void *ctx, const struct vx_record *rec);

VX_MUST_CHECK
int codec_reader_new(enum codec_format f, const struct codec_opts *opts, codec_record_fn *on_record,
	void *ctx, struct codec_reader **ret);
void codec_reader_free(struct codec_reader *r);

/* Returns 0, a stream error, or what a callback returned. */
VX_MUST_CHECK
int codec_feed(struct codec_reader *r, const void *p, size_t n, struct vx_err *err);
VX_MUST_CHECK
int codec_finish(struct codec_reader *r, struct vx_err *err);
/* Bytes held that do not make a complete record yet. */
size_t codec_pending(const struct codec_reader *r);
/* Records (row formats: rows) delivered or found bad so far. */
uint64_t codec_count(const struct codec_reader *r);

/* What a reader knows after what it was fed: appended to 'out', and put into a reader that is new and of the
 * same format and options, which then goes on where the other one was.  Integers are the machine's own: for
 * another process, not for a disk.  -EUCLEAN: not what codec_reader_save wrote. */
VX_MUST_CHECK
int codec_reader_save(const struct codec_reader *r, struct buf *out);
VX_MUST_CHECK
int codec_reader_load(struct codec_reader *r, struct bytes_reader *rd);

/* --- one record of text ----------------------------------------------------- */
/* Whether 'p' is one JSON value (RFC 8259, at most 512 brackets deep), a beginning of one, or neither:
 * 1 complete, with white space alone behind it; 0 more is needed; -EINVAL no continuation makes it a
 * value, from the first byte on that rules it out (parse the text to have it said in words).  A number
 * that nothing follows may always go on, so "12" is 0 and "12\n" is 1: who knows that the text has
 * ended, or takes objects and arrays alone, looks at the first byte.  Vectors typed as bare numbers
 * ("1 2 3") are no JSON; ask before.  One pass, no allocation: safe to call after each write. */
int codec_json_complete(const char *p, size_t n);

/* Parses one record: a JSON array (the vector; id absent) or an object {"id","vector","meta","text"};
 * "vector" is an array of numbers or a string of base64 little-endian float32.  NaN and infinities
 * are -EINVAL; unknown keys are -EINVAL naming the key.  'arena' owns what 'ret' points to until
 * the next use.  Null stands for an absent member; an integer id is kept as its digits; meta is kept
 * as written but for white space.  'opts' NULL: any dimension, and the id may be absent. */
struct codec_arena; /* reusable scratch */
struct codec_arena *codec_arena_new(void);
void codec_arena_free(struct codec_arena *a);
VX_MUST_CHECK
int codec_parse_record(struct codec_arena *a, const char *p, size_t n,
	const struct codec_opts *opts, struct vx_record *ret, struct vx_err *err);

/* Numbers separated by white space and/or commas, optional surrounding [ ]: a vector as people type
 * it.  Into the arena. */
VX_MUST_CHECK
int codec_parse_vector(struct codec_arena *a, const char *p, size_t n, const float **ret_vec,
	uint32_t *ret_dim, struct vx_err *err);

/* --- writing ------------------------------------------------------------------ */
/* Shortest decimal that reads back as the same float32 (through double, too): "0.1", "3", "1e-7".
 * At most 24 bytes, no NUL; returns the length. */
size_t codec_print_float(char *ret, float v);

/* The canonical rendering of a record: {"id":"a","vector":[0.1,0.2],"meta":{...},"text":"..."} and a
 * newline; absent parts are left out.  Appends to 'out'. */
VX_MUST_CHECK
int codec_print_record(struct buf *out, const struct vx_record *rec);
/* Just [0.1,0.2] without newline. */
VX_MUST_CHECK
int codec_print_vector(struct buf *out, const float *vec, uint32_t dim);
/* A JSON string with quotes and escapes. */
VX_MUST_CHECK
int codec_print_string(struct buf *out, const char *s, size_t n);

/* Streams of whole files (vec-conv, vec-scan): the header of fbin and npy needs the count, so they
 * are written with a place-holder and fixed at the end on a seekable output (-ESPIPE otherwise, unless
 * 'count' is given). */
struct codec_writer;
VX_MUST_CHECK
int codec_writer_new(enum codec_format f, int fd, uint64_t count, struct codec_writer **ret);
VX_MUST_CHECK
int codec_write(struct codec_writer *w, const struct vx_record *rec, struct vx_err *err);
VX_MUST_CHECK
int codec_writer_finish(struct codec_writer *w, struct vx_err *err); /* flushes; then free */
void codec_writer_free(struct codec_writer *w);

#endif
