/* question.h - questions and answers as text, for the mount and the tools alike.
 *
 * A question is a vector as text or raw float32, or a JSON object
 * {"vector"|"id"|"text", "k", "ef"|"recall", "exact", "with":["meta","vector","text"], "timeout_ms",
 *  "format":"tsv|json|jsonl|ids", "query": its own id}.
 * Keys that belong to later versions ("filter", "consistency") are -EOPNOTSUPP by name,
 * unknown keys -EINVAL by name.
 */
#ifndef VECFS_CODEC_QUESTION_H
#define VECFS_CODEC_QUESTION_H

#include "codec/codec.h"

enum answer_format { ANSWER_DEFAULT = 0, ANSWER_TSV, ANSWER_JSON, ANSWER_JSONL, ANSWER_IDS };
#define WITH_META   1u
#define WITH_VECTOR 2u
#define WITH_TEXT   4u

struct question {
	/* Exactly one of vec, id, text. */
	const float *vec;
	uint32_t dim;
	const char *id; /* neighbours of a stored record, itself left out */
	size_t id_len;
	const char *text;
	size_t text_len;
	const char
		*name; /* the question's own id for the answer's first column; NULL: its number */
	size_t name_len;
	uint32_t k;    /* 0: not said */
	uint32_t ef;   /* 0: not said */
	float recall;  /* as vx_recall_parse gives it; 0: not said */
	int exact;     /* -1 not said */
	unsigned with; /* WITH_* */
	enum answer_format format;
	uint32_t timeout_ms; /* 0: not said */
};

/* Parses one question of text (array, bare numbers, or object).  Pointers lie in 'arena'. */
VX_MUST_CHECK
int question_parse(
	struct codec_arena *a, const char *p, size_t n, struct question *ret, struct vx_err *err);

/* How a written buffer is to be read: QUESTION_RAW when 'n' is exactly dim * 4 and the bytes are not
 * text ('dim' 0: never), QUESTION_TEXT one question, QUESTION_LINES JSON Lines, one per line. */
enum question_kind { QUESTION_RAW, QUESTION_TEXT, QUESTION_LINES };
enum question_kind question_kind_of(const void *p, size_t n, uint32_t dim);

/* --- answers --------------------------------------------------------------------- */
struct answer_hit {
	const char *id;
	size_t id_len;
	float distance;
	const float *vec; /* with vector */
	uint32_t dim;
	const char *meta, *text; /* with meta, text */
	size_t meta_len, text_len;
};
struct answer {
	const char *name; /* NULL: print 'number' */
	size_t name_len;
	uint64_t number; /* 0-based */
	const struct answer_hit *hits;
	size_t n_hits;
	uint32_t k_asked; /* fewer hits than this is flagged in JSON ("fewer":true) */
	bool timed_out;   /* flagged */
	uint32_t
		damaged; /* records left out because they cannot be read; flagged in JSON ("damaged":n) */
};

/* Appends one answer: TSV "query rank id distance" lines (rank from 1), ids one per line, JSONL one
 * object per hit {"query","rank","id","distance"[,"vector","meta","text"]}, JSON one object per
 * question {"query","hits":[...]}.  Ids in TSV and ids have no control characters by construction. */
VX_MUST_CHECK
int answer_print(struct buf *out, enum answer_format f, const struct answer *a);

/* ".json" ".jsonl" ".tsv" ".ids" -> format; ANSWER_DEFAULT when the name has none of them. */
enum answer_format answer_format_of(const char *file_name, size_t *ret_stem_len);

#endif
