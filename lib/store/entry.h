/* entry.h - what a log entry holds: header and records (docs/format.md, "Entries").
 *
 * Built by the router in memory that goes to Raft as it is, decoded by apply.
 * Writers and readers are plain cursors without state of their own; everything
 * read is bounded and checksummed.
 */
#ifndef VECFS_STORE_ENTRY_H
#define VECFS_STORE_ENTRY_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/record.h"

#define ENTRY_FORMAT      1u
#define ENTRY_HEADER_SIZE 96u

enum entry_kind {
	ENTRY_DATA = 1,         /* records of one slice */
	ENTRY_SLICE_CREATE = 2, /* payload: an encoded slice_schema */
	ENTRY_SLICE_DROP = 3,   /* no payload */
	ENTRY_CATALOG = 4,      /* meta group: payload is the catalog's own (lib/cluster) */
	ENTRY_TXN = 5,          /* a step of a transaction of one slice: struct txn_step */
};

struct entry_header {
	uint16_t format;
	uint8_t kind;
	uint32_t cid; /* collection */
	uint32_t schema_epoch;
	uint32_t map_epoch;   /* of the placement the router used */
	uint64_t time_ns;     /* leader's CLOCK_REALTIME, monotone per shard: becomes mtime */
	uint64_t origin, seq; /* who sent it; a repeated pair is applied once (0,0: not checked) */
	uint64_t txn;   /* whole-file transaction; 0 none.  Its upper 8 bits: the deciding shard */
	uint32_t part;  /* DATA: 1, 2, ... of the transaction in this shard */
	uint32_t count; /* records */
};

enum rec_op {
	REC_UPSERT = 1,
	REC_INSERT = 2, /* refused when the id exists */
	REC_DELETE = 3,
};

struct entry_rec {
	uint8_t op;
	bool has_if_version;
	uint64_t if_version;  /* the born index the record must have; 0: must not exist */
	struct vx_record rec; /* delete: id alone.  One field, number 0, float32 */
};

/* --- building ------------------------------------------------------------------ */
/* Starts an entry at b->len (reserves the header). */
VX_MUST_CHECK
int entry_begin(struct buf *b, const struct entry_header *h);
VX_MUST_CHECK
int entry_add(struct buf *b, const struct entry_rec *r);
/* Bytes entry_add would take. */
size_t entry_rec_size(const struct entry_rec *r);
/* Fills in count, payload length, checksums.  'start' is b->len before entry_begin. */
void entry_finish(struct buf *b, size_t start, const struct entry_header *h, uint32_t count);
/* Sets time, origin and sequence of a finished entry (the router does so when it proposes). */
void entry_stamp(void *entry, uint64_t time_ns, uint64_t origin, uint64_t seq);

/* --- reading ------------------------------------------------------------------- */
struct entry_reader {
	struct entry_header h;
	const uint8_t *payload; /* for kinds other than DATA */
	size_t payload_len;
	struct bytes_reader rd;
	uint32_t left;
};
/* Verifies format and both checksums.  'p' is borrowed while the reader lives.
 * -EUCLEAN, or -EOPNOTSUPP for a newer format. */
VX_MUST_CHECK
int entry_open(struct entry_reader *r, const void *p, size_t n);
/* 1 and a record, 0 at the end, -EUCLEAN.  Vectors are aligned to 4 inside an entry whose
 * address is aligned to 8. */
VX_MUST_CHECK
int entry_next(struct entry_reader *r, struct entry_rec *ret);

/* --- transactions ----------------------------------------------------------------- */
#define TXN_SHARD_SHIFT      56
#define TXN_PARTICIPANTS_MAX 256u

enum txn_op {
	TXN_DECIDE = 1, /* deciding shard: commit if all its parts are there, else abort */
	TXN_ABORT = 2,  /* any shard: drop the parts, unless it is committed */
	TXN_COMMIT = 3, /* the others: what was decided */
	TXN_END = 4,    /* deciding shard: the others have all committed */
};
struct txn_participant {
	uint32_t shard, parts;
};
struct txn_step {
	uint8_t op;
	uint32_t parts; /* DECIDE, COMMIT: how many there are in this shard */
	uint32_t n;     /* DECIDE: the other shards */
	struct txn_participant others[TXN_PARTICIPANTS_MAX];
};
/* Appends the payload. */
VX_MUST_CHECK
int txn_step_encode(const struct txn_step *s, struct buf *out);
VX_MUST_CHECK
int txn_step_decode(const void *p, size_t n, struct txn_step *ret);

/* --- schema of a slice ------------------------------------------------------------ */
struct slice_schema {
	uint32_t cid;
	uint32_t epoch;
	uint32_t dim;
	uint8_t metric; /* enum vx_metric */
	char index[16]; /* "hnsw", "flat" */
	char quant[16]; /* "sq8", "sq4", "sq1", "none" */
	uint32_t m, ef_construction;
};
VX_MUST_CHECK
int slice_schema_encode(const struct slice_schema *s, struct buf *out);
VX_MUST_CHECK
int slice_schema_decode(const void *p, size_t n, struct slice_schema *ret);

#endif
