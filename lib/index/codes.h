/* codes.h - what an index keeps for each slot, and the distances between such codes.
 *
 * "sq8": a vector (normalised first under cosine) is centred, rotated by a seeded random rotation, so
 * that no component dominates, and each component becomes round(x / scale) in -127..127 with a
 * scale of the vector's own, stored plus 128 as an unsigned byte.  The bytes are kept in two halves, as
 * rows of 4-bit codes (simd.h): the *head* has everybody's upper nibbles, the *tail* the lower ones.
 * The head alone is a code of 4 bits: a walk reads only that, half the memory, and the best of
 * what it finds are measured again with both halves.  The distance of two codes needs an integer
 * dot product for each half that is read:
 *
 *	l2:     |x|^2 + |y|^2 - 2 sx sy (cx . cy)
 *	cosine: half of that (both have length 1)
 *	ip:     - sx sy (cx . cy)
 *
 * where |x| is the length of the *decoded* vector: the error then shrinks with the distance of x
 * and y.  For the head, |x1|^2 - |x1 - x|^2 stands for |x|^2, x1 being what the head
 * alone decodes to: that makes the distance right on average.
 *
 * "sq4" keeps heads alone, "sq1" one bit for each component (codes_coarse.c).  With these, what
 * stands on the left side of a distance is made from the host's vector where it can be read.
 * "none" keeps no row; distances come from the host's vectors.
 *
 * The centre is the mean of the first CODES_TRAIN vectors (zero under ip, where it would not cancel).
 * Nothing is encoded before there are as many.
 *
 * Slots lie in chunks of 65,536.  A chunk is one mapping that never moves: heads, the
 * kind's rows ("extra": links), tails, aux and flags.  Untouched pages cost nothing, and
 * ranges that have filled up are turned into huge pages.
 *
 * Threads: codes_append and codes_drop by one thread at a time; everything else by any
 * thread, for slots below a count that was published with release order.
 */
#ifndef VECFS_INDEX_CODES_H
#define VECFS_INDEX_CODES_H

#include "base/base.h"
#include "index/index.h"
#include "simd/simd.h"

#define CODES_CHUNK_SLOTS 65536u
#define CODES_CHUNKS_MAX  (VX_SLOTS_MAX / CODES_CHUNK_SLOTS)

/* Slots before the centre is learned. */
#define CODES_TRAIN 512u

enum quant { QUANT_NONE, QUANT_SQ8, QUANT_SQ4, QUANT_SQ1, QUANTS }; /* numbers of the format */

const char *quant_name(enum quant q);
/* NULL is the default.  -EINVAL: there is none of that name. */
int quant_find(const char *name);

/* What a distance needs beside the dot products.  Squared lengths are in units of
 * scale^2 * width / 4, so that a slot costs six bytes and little of the cache. */
struct code_aux {
	uint16_t scale; /* upper half of a float32 */
	uint16_t head;  /* squared length for the head alone (or the bits) */
};                      /* "none" under cosine: a float32, 1 / length */

struct codes {
	/* immutable */
	enum vx_metric metric;
	enum quant quant;
	uint32_t dim;
	uint32_t width;    /* components of a code: dim rounded up to 64; 0 for "none" */
	uint32_t half;     /* bytes of a head */
	uint32_t tail;     /* and of a tail: as many with "sq8", else 0 */
	uint32_t norm;     /* bytes of a norm: 2 with "sq8", else 0 */
	uint32_t extra;    /* bytes per slot of the kind, a multiple of 64 */
	uint64_t rot_seed; /* of the rotation */
	float *signs;      /* 2 * width, +1 or -1 */
	size_t extra_off, tail_off, aux_off, norm_off, flags_off, chunk_bytes;
	const struct simd_kernels *k;
	struct index_host host;

	float *centre; /* dim; zero until codes_train */

	/* grows: entries are written before the slots in them are published */
	uint8_t **dir; /* CODES_CHUNKS_MAX entries, mapped lazily */
	uint32_t nchunks;
};

VX_MUST_CHECK
int codes_init(struct codes *c, const struct index_params *p, enum quant quant, uint32_t extra,
	const struct index_host *host);
void codes_release(struct codes *c);

/* Makes room for slots below 'n'.  -ENOMEM. */
VX_MUST_CHECK
int codes_reserve(struct codes *c, uint32_t n);

/* Forgets every slot. */
void codes_drop(struct codes *c);

/* Learns the centre from n x dim floats, before the first codes_encode.  No lock: nobody reads codes
 * yet. */
void codes_train(struct codes *c, const float *const *vecs, uint32_t n);

/* Encodes one vector into a reserved slot.  'tmp' has codes_tmp_floats() floats. */
void codes_encode(struct codes *c, uint32_t slot, const float *vec, float *tmp);

static inline size_t codes_tmp_floats(const struct codes *c)
{
	return VX_MAX(c->width, c->dim);
}

/* Asks for huge pages under the whole 2 MiB ranges that slots from..to-1 completed.
 * codes_settle: rows, aux and flags; codes_settle_extra: the kind's rows. */
void codes_settle(struct codes *c, uint32_t from, uint32_t to);
void codes_settle_extra(struct codes *c, uint32_t from, uint32_t to);

/* Asks for huge pages before slots 0..n-1 are all written in one go. */
void codes_expect(struct codes *c, uint32_t n);

static inline uint8_t *codes_chunk(const struct codes *c, uint32_t slot)
{
	return c->dir[slot / CODES_CHUNK_SLOTS];
}

static inline uint8_t *codes_head(const struct codes *c, uint32_t slot)
{
	return codes_chunk(c, slot) + (size_t)(slot % CODES_CHUNK_SLOTS) * c->half;
}

static inline uint8_t *codes_tail(const struct codes *c, uint32_t slot)
{
	return codes_chunk(c, slot) + c->tail_off + (size_t)(slot % CODES_CHUNK_SLOTS) * c->tail;
}

/* Bytes that a slot takes beside its extra row. */
static inline uint32_t codes_slot_bytes(const struct codes *c)
{
	return c->half + c->tail + (uint32_t)sizeof(struct code_aux) + c->norm + 1;
}

/* Slots have their codes from the first one on: nothing is learned before. */
static inline bool codes_need_no_centre(const struct codes *c)
{
	return c->quant == QUANT_NONE || c->metric == VX_IP;
}

/* Whether the answer needs more of a pool reranked than of whole codes'. */
static inline bool codes_coarse(const struct codes *c)
{
	return c->quant >= QUANT_SQ4;
}

static inline uint8_t *codes_extra(const struct codes *c, uint32_t slot)
{
	return codes_chunk(c, slot) + c->extra_off + (size_t)(slot % CODES_CHUNK_SLOTS) * c->extra;
}

static inline struct code_aux *codes_aux(const struct codes *c, uint32_t slot)
{
	return (struct code_aux *)(codes_chunk(c, slot) + c->aux_off) + slot % CODES_CHUNK_SLOTS;
}

/* The squared length of both halves' vector; "sq8" alone. */
static inline uint16_t *codes_norm(const struct codes *c, uint32_t slot)
{
	return (uint16_t *)(codes_chunk(c, slot) + c->norm_off) + slot % CODES_CHUNK_SLOTS;
}

/* Bits of a slot's flag byte; set with atomic_or, read relaxed or with acquire. */
#define CODES_LEVEL_MASK 0x1fu /* the kind's: height of the node */
#define CODES_LINKED     0x20u /* in the structure */
#define CODES_SKIPPED    0x40u /* passed over: dead, or its vector was unreadable */
#define CODES_DEAD       0x80u

static inline uint8_t *codes_flags(const struct codes *c, uint32_t slot)
{
	return codes_chunk(c, slot) + c->flags_off + slot % CODES_CHUNK_SLOTS;
}

static inline uint8_t codes_flags_get(const struct codes *c, uint32_t slot)
{
	return __atomic_load_n(codes_flags(c, slot), __ATOMIC_ACQUIRE);
}

static inline void codes_flags_or(const struct codes *c, uint32_t slot, uint8_t bits)
{
	__atomic_fetch_or(codes_flags(c, slot), bits, __ATOMIC_RELEASE);
}

/* A question, or a stored code, as the left side of distances. */
struct probe {
	int8_t *q8;      /* width; with "sq1" the planes of 4-bit codes */
	float *qf;       /* tmp floats; "none": the question, normalised under cosine */
	const float *vf; /* "none": what to compare with (qf, or a host's vector) */
	float scale, add;
	float unit;  /* what a unit of the slots' squared lengths counts */
	int32_t sum; /* of q8 */
	bool full;   /* measure with both halves; set by those below, cleared by walks */
	bool exact;  /* measure 'vf' with full vectors; 'len': its length under cosine */
	float len;
	uint32_t *
		unreadable; /* "none": counts the vectors met that cannot be read; NULL: nobody asks */
};

/* From a full-precision question.  This and the next two leave 'unreadable' NULL. */
void probe_from_vec(const struct codes *c, const float *vec, struct probe *p);

/* From a stored slot; false when its vector cannot be read ("none", "sq1").  Coarse codes: as
 * probe_from_vec with the host's vector. */
bool probe_from_slot(const struct codes *c, uint32_t slot, struct probe *p);

/* The same for choosing links, which are many: cheap, from the code ("sq4"); or measured with
 * full vectors altogether, because the codes could not tell ("sq1"). */
bool probe_from_code(const struct codes *c, uint32_t slot, struct probe *p);

/* Distances from the probe to 'n' slots.  Unreadable ones get INFINITY.
 * 'rows' and 'dots' are scratch for n entries. */
void probe_distances(const struct codes *c, const struct probe *p, const uint32_t *slots,
	uint32_t n, const uint8_t **rows, int32_t *dots, float *ret);

#define CODES_BLOCK 256u

/* Slots that many probes are to be measured against, by their codes' heads: what does not depend on the
 * probe, looked up once. */
struct code_block {
	uint32_t n;
	const uint8_t *rows[CODES_BLOCK];
	float scale[CODES_BLOCK], norm[CODES_BLOCK];
};

/* n <= CODES_BLOCK; not for "none". */
void codes_block(const struct codes *c, const uint32_t *slots, uint32_t n, struct code_block *ret);

/* What probe_distances gives with p->full false.  'dots' is scratch for b->n entries. */
void probe_block(const struct codes *c, const struct probe *p, const struct code_block *b,
	int32_t *dots, float *ret);

/* Fetches ahead what a distance to the slot by its head needs. */
static inline void codes_prefetch(const struct codes *c, uint32_t slot)
{
	const uint8_t *row = codes_head(c, slot);

	for (uint32_t i = 0; i < c->half; i += 64)
		__builtin_prefetch(row + i, 0, 3);
	__builtin_prefetch(codes_aux(c, slot), 0, 3);
}

static inline void codes_prefetch_tail(const struct codes *c, uint32_t slot)
{
	const uint8_t *row = codes_tail(c, slot);

	for (uint32_t i = 0; i < c->half; i += 64)
		__builtin_prefetch(row + i, 0, 3);
	__builtin_prefetch(codes_norm(c, slot), 0, 3);
}

/* The exact distance between a question and a full vector: the metric's, with L2 *squared*.
 * 'qnorm': length of the question (cosine). */
float exact_distance(const struct codes *c, const float *q, float qnorm, const float *vec);

#endif
