/* codec_i.h - what the files of lib/codec share. */
#ifndef VECFS_CODEC_CODEC_I_H
#define VECFS_CODEC_CODEC_I_H

#include "codec/codec.h"
#include "codec/question.h"

/* The longest line of a text format: a full vector, meta and text with room for escapes. */
#define CODEC_LINE_MAX       (16u << 20)
#define CODEC_JSON_DEPTH_MAX 512u
#define CODEC_NPY_HEADER_MAX 65536u

/* --- number.c --------------------------------------------------------------- */
enum number_result {
	NUMBER_OK = 0,
	NUMBER_SYNTAX,   /* no number here */
	NUMBER_INFINITE, /* a number, but not finite in float32 */
	NUMBER_NOMEM,
};
/* Scans one number at 'p'.  'loose' accepts what people type ("+1", ".5", "5.") besides JSON's
 * grammar.  The value is (float)strtod() of the same text, to the bit.  *ret_next is set unless
 * the result is NUMBER_SYNTAX. */
enum number_result number_scan(
	const char *p, const char *end, bool loose, const char **ret_next, float *ret);
/* A decimal without sign, fraction or exponent; -EINVAL, -ERANGE over 'max'. */
VX_MUST_CHECK
int number_uint(const char *p, size_t n, uint64_t max, uint64_t *ret);

/* --- json.c ------------------------------------------------------------------- */
enum json_kind { JK_OBJECT, JK_ARRAY, JK_STRING, JK_NUMBER, JK_TRUE, JK_FALSE, JK_NULL };

/* One value as a slice of its text.  Strings, numbers and literals are checked when the slice is
 * cut; objects and arrays only for their extent (jscan_validate does the rest). */
struct json_value {
	enum json_kind kind;
	const char *p; /* with quotes or brackets */
	size_t n;
	bool has_escapes; /* strings */
};

static inline const char *jscan_ws(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

/* The position of a complaint, for "at byte 17". */
struct json_scan {
	const char *start, *p, *end;
	struct vx_err *err;
};

/* Cuts the value at s->p.  'lazy_array' leaves an array uncut (n = 1, s->p at its '[') because the
 * caller scans its elements itself. */
VX_MUST_CHECK
int jscan_cut(struct json_scan *s, bool lazy_array, struct json_value *ret);
/* "not valid JSON at byte N: ..." */
int jscan_bad(struct json_scan *s, const char *what);
/* Whole-value check by jansson: grammar, UTF-8, duplicate keys, depth. */
VX_MUST_CHECK
int jscan_validate(const struct json_value *v, const char *name, struct vx_err *err);
/* Appends the text of a string value, unescaped. */
VX_MUST_CHECK
int jscan_string(const struct json_value *v, const char *name, struct buf *out, struct vx_err *err);
/* Appends the value without the white space between its tokens. */
VX_MUST_CHECK
int jscan_compact(const struct json_value *v, struct buf *out);

/* Calls 'each' for every member of the object at s->p; 'each' takes the value with jscan_cut (or a
 * scan of its own) and leaves s->p behind it.  Then requires the end of the text. */
typedef int json_member_fn(void *ctx, struct json_scan *s, const char *key, size_t key_len);
VX_MUST_CHECK
int jscan_object(struct json_scan *s, struct buf *key_scratch, json_member_fn *each, void *ctx);
/* White space to the end. */
VX_MUST_CHECK
int jscan_end(struct json_scan *s);

/* --- arena.c ------------------------------------------------------------------- */
struct codec_arena {
	float *vec;
	size_t vec_cap;
	struct buf id, meta, text, key, name;
};
VX_MUST_CHECK
int arena_vec_reserve(struct codec_arena *a, size_t n);

/* --- parse.c ------------------------------------------------------------------- */
/* The array at s->p into the arena. */
VX_MUST_CHECK
int parse_array(struct codec_arena *a, struct json_scan *s, uint32_t *ret_dim);
/* An array or a base64 string at s->p, or null (dim 0). */
VX_MUST_CHECK
int parse_vector_value(struct codec_arena *a, struct json_scan *s, uint32_t *ret_dim);
/* A string or an integer as text. */
VX_MUST_CHECK
int parse_id_value(struct json_scan *s, const char *name, struct buf *out);
VX_MUST_CHECK
int parse_check_dim(uint32_t dim, const struct codec_opts *opts, struct vx_err *err);
static inline const char *dim_of(const struct codec_opts *opts)
{
	return opts->dim_of ? opts->dim_of : "this collection";
}
VX_MUST_CHECK
int parse_tsv_line(struct codec_arena *a, const char *p, size_t n, const struct codec_opts *opts,
	struct vx_record *ret, struct vx_err *err);

/* --- npy.c ---------------------------------------------------------------------- */
enum element { ELEMENT_F32, ELEMENT_F16, ELEMENT_F64, ELEMENT_U8, ELEMENT_I8 };
#define NPY_HEADER_SIZE 128u /* what we write */

/* Size of magic, version and header text: 0 when 'n' bytes do not tell yet, -EINVAL. */
VX_MUST_CHECK
int npy_header_size(const uint8_t *p, size_t n, size_t *ret_size, struct vx_err *err);
VX_MUST_CHECK
int npy_header_parse(const uint8_t *p, size_t n, enum element *ret_el, uint64_t *ret_rows,
	uint32_t *ret_dim, struct vx_err *err);
void npy_header_print(uint8_t ret[NPY_HEADER_SIZE], uint64_t rows, uint32_t dim);

/* --- rows.c ----------------------------------------------------------------------- */
/* 'n' elements at 'p' (any alignment) as floats; returns whether all are finite. */
bool rows_decode(enum element el, const uint8_t *p, uint32_t n, float *ret);
size_t element_size(enum element el);
VX_MUST_CHECK
int rows_feed(struct codec_reader *r, const uint8_t *p, size_t n, struct vx_err *err);
VX_MUST_CHECK
int rows_finish(struct codec_reader *r, struct vx_err *err);

/* --- reader.c ----------------------------------------------------------------------- */
struct codec_reader {
	/* Immutable. */
	enum codec_format format;
	codec_record_fn *on_record;
	void *ctx;

	struct codec_opts opts; /* 'dim' is filled in by the first record */
	struct codec_arena *arena;
	struct buf pending; /* a line or row that is not complete yet */
	uint64_t count;     /* records delivered or bad */
	uint64_t line;      /* lines seen so far (text) */
	int failed;         /* what ended the stream */

	/* Row formats. */
	bool header_done;
	enum element element;
	uint64_t rows;    /* promised by the header; UINT64_MAX: none is */
	uint32_t row_dim; /* 0 until known */
};

/* Hands a bad record on; without on_bad the stream ends with it. */
VX_MUST_CHECK
int reader_bad(struct codec_reader *r, uint64_t line, const char *raw, size_t raw_len, int rc,
	struct vx_err *err);

#endif
