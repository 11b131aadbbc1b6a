/* wal_i.h - the inside of the log; for lib/wal alone.  Format: docs/format-wal.md. */
#ifndef VECFS_WAL_WAL_I_H
#define VECFS_WAL_WAL_I_H

#include <stdatomic.h>

#include "wal/wal.h"

#define WAL_BLOCK         4096u
#define WAL_VERSION       1u
#define WAL_HDR_FIXED     128u /* fixed part of a segment header */
#define WAL_ROW           64u  /* one row of the group table */
#define WAL_HDR_BYTES     VX_ALIGN_UP(WAL_HDR_FIXED + WAL_GROUPS_MAX * WAL_ROW, WAL_BLOCK)
#define WAL_FRAME_HDR     64u
#define WAL_REC_HDR       64u
#define WAL_SEG_DEFAULT   (64ull << 20)
#define WAL_SEG_MAX       (1ull << 30) /* offsets fit 32 bits */
#define WAL_SEG_MIN       (WAL_HDR_BYTES + 4ull * WAL_BLOCK)
#define WAL_PATH_MAX      4096
#define WAL_SPARES_MAX    64u
#define WAL_GROUP_BUCKETS 1024u
#define WAL_SPARE_PIECE   (1u << 20)
#define WAL_RESERVE_UNIT  (512ull << 10)
#define WAL_FRAME_KEEP    (4u << 20) /* a frame buffer longer than this is given back */
#define WAL_GSET_BITS     96u
#define WAL_GSET_BYTES    (WAL_GSET_BITS / 8)
#define WAL_WHY_MAX       256

/* Where a record lies.  seg 0: nowhere. */
struct wal_pos {
	uint32_t seg;
	uint32_t off;
};

/* A record header as decoded; 'data' is not part of it. */
struct wal_rhdr {
	uint32_t len;
	uint8_t type, etype;
	uint32_t group;
	uint64_t index, term, vote, tag;
	uint64_t payload_sum;
};

/* Groups, more than one of which may share a bit.  Without a bit it may be any: nobody noted it. */
struct wal_gset {
	uint8_t bits[WAL_GSET_BYTES];
};
extern const struct wal_gset wal_any_group;

struct wal_fhdr {
	uint64_t number, tag;
	uint32_t n_records;
	uint32_t len;                   /* header and records, without the padding */
	struct wal_gset groups, before; /* of this frame's records, of the frame before */
};

struct wal_shdr {
	uint64_t node_id, nonce, segment_size;
	uint32_t seq, n_groups;
	uint64_t prev_last;     /* number of the last frame before this segment; 0: none */
	uint64_t prev_end;      /* where the previous segment ends; 0: no previous */
	struct wal_gset before; /* of the last frame before this segment */
};

/* A place in the log that is not what it should be. */
struct wal_place {
	uint32_t seq;
	uint64_t off;
	const char *why; /* static; NULL: no place */
};

/* Recovery: what a damaged place leaves unknown of a group; see wal_doubt.c. */
struct wal_doubt {
	bool hard;              /* its term and vote */
	bool adrift;            /* its last index, and so every entry up to there */
	bool unmarked;          /* its mark */
	bool stuck;             /* nothing that follows is of use */
	uint64_t upto;          /* its entries up to this index, those above the mark */
	struct wal_place place; /* the first that concerns it and that nothing has settled */
	uint32_t keep;          /* with a place: the oldest segment with entries that it had then */
	bool dropped;           /* after all that may have been its beginning */
	uint32_t in_table;      /* the last segment whose table has it */
	uint64_t high_term, high_index; /* the highest that were seen of it, believed or not */
};

/* One group.  Entries first_gap..: 'pos' covers base + 1 .. base + n; outside of
 * recovery base == mark_index. */
struct wal_group {
	uint32_t id;
	struct wal_group *chain;
	/* As of the last flush. */
	bool exists;
	uint64_t term, vote, mark_index, mark_term;
	uint64_t base;
	struct wal_pos *pos;
	size_t head, n, cap;
	struct wal_pos manifest;          /* the MARK or RESET record that holds it */
	uint32_t manifest_seq;            /* recovery: what the first table promised; 0: nothing */
	uint64_t turns_given, turns_done; /* wal_writer.c */
	/* Not NULL: damage concerns the group, and this is what a person should know.  Then n is 0, and term, mark_index
	 * and base are no more than the highest that were ever seen. */
	char *stopped;
	bool stop_file; /* the verdict is on disk; otherwise a table alone says so */
	struct wal_doubt doubt;
	/* As of the last wal_stage. */
	bool st_exists;
	uint64_t st_term, st_vote, st_mark, st_last;
	size_t st_entries; /* upper bound of slots the frame will add */
};

struct wal_seg {
	uint32_t seq;
	uint64_t nonce;
	uint64_t size; /* of the file */
	uint64_t end;  /* where frames end */
};

struct wal_frame {
	uint8_t *data; /* WAL_BLOCK aligned; the first WAL_FRAME_HDR bytes are the header's */
	size_t len, cap;
	unsigned n;
	unsigned leaves_units; /* of the reserve, that it may not use; see wal.c */
};

/* Recovery: what was lost so far, for groups that come to exist behind it. */
struct wal_losses {
	struct wal_place first;  /* of all */
	struct wal_place births; /* the first one that may have been the beginning of a group */
	struct wal_gset born;    /* which; may_hold */
	bool strange;            /* and no group that is known explains all of them */
};

struct wal {
	/* Immutable. */
	struct disk *disk;
	char *dir;
	uint64_t segment_size, node_id, salt;
	unsigned want_spares;
	bool may_uring, must_uring, try_direct;
	uint32_t stop_first, n_stop; /* groups that may be stopped alone */
	/* Owner thread. */
	struct wal_group **groups;
	size_t n_groups, cap_groups;
	struct wal_group *buckets[WAL_GROUP_BUCKETS];
	unsigned n_live;      /* staged view */
	struct wal_seg *segs; /* oldest first; the last is current */
	size_t n_segs, cap_segs;
	int fd; /* of the current segment; -1 */
	uint64_t next_number;
	struct wal_gset last_groups; /* of the last frame */
	char damage[WAL_WHY_MAX];    /* immutable after open; empty: none */
	struct wal_frame pend, scratch;
	uint32_t spares[WAL_SPARES_MAX]; /* names of ready ones */
	unsigned n_spares;
	uint32_t next_spare;
	int build_fd; /* a spare under way; -1 */
	uint32_t build_id;
	uint64_t build_off;
	uint8_t *zeros; /* WAL_SPARE_PIECE, or a segment where that is shorter */
	void *ring;
	/* Any thread reads (relaxed: each is a number by itself). */
	atomic_bool broken;
	atomic_int backend; /* enum wal_backend */
	_Atomic uint64_t st_segments, st_spares, st_size, st_flushes, st_records, st_written,
		st_pinned, st_torn;
	_Atomic uint32_t st_pin_group;
	/* Segment and end of the last flush, one number so that they go together: seq << 32 | end.  Release, so that
	 * whoever has it (acquire) finds that flush in the file. */
	_Atomic uint64_t st_at;
	/* Segments from this one on keep their names and bytes.  Raised before one gives them up (sequentially
	 * consistent: who reads a lower number afterwards has read the segment as it was). */
	_Atomic uint32_t st_oldest;
};

/* --- wal_format.c ----------------------------------------------------------- */
uint64_t wal_seed(uint64_t nonce, uint32_t seq);
uint64_t wal_tag(uint64_t salt, uint64_t number);
size_t wal_rec_size(size_t payload);
void wal_rhdr_put(uint8_t *p, const struct wal_rhdr *h);
void wal_rec_seal(uint8_t *p, uint64_t tag, uint64_t seed);
bool wal_rhdr_get(const uint8_t *p, uint64_t seed, struct wal_rhdr *ret);
bool wal_payload_ok(const struct wal_rhdr *h, const uint8_t *payload, uint64_t seed);
void wal_fhdr_put(uint8_t *p, const struct wal_fhdr *h, uint64_t seed);
bool wal_fhdr_get(const uint8_t *p, uint64_t seed, struct wal_fhdr *ret);
/* 'p' is WAL_HDR_BYTES, zeroed. */
void wal_shdr_put(uint8_t *p, const struct wal_shdr *h, struct wal *w);
/* -EUCLEAN or -EOPNOTSUPP with the reason. */
int wal_shdr_get(const uint8_t *p, struct wal_shdr *ret, const char **ret_why);
struct wal_row {
	uint32_t group, manifest_seq;
	uint64_t term, vote, mark_index, mark_term, first, last;
	bool stopped;
};
void wal_gset_add(struct wal_gset *s, uint32_t group);
void wal_gset_join(struct wal_gset *s, const struct wal_gset *more);
bool wal_gset_is_any(const struct wal_gset *s);
bool wal_gset_may_hold(const struct wal_gset *s, uint32_t group);
void wal_row_get(const uint8_t *hdr, unsigned i, struct wal_row *ret);
/* kind: "wal" (a segment), "seg" (a ready spare), "tmp" (one being made), "damaged" (a copy of a segment).  wal_open has
 * made sure that it fits, with four bytes more. */
void wal_path(const struct wal *w, char *ret, const char *kind, uint32_t n);

/* --- wal_group.c -------------------------------------------------------------- */
struct wal_group *wal_group_find(const struct wal *w, uint32_t id);
struct wal_group *wal_group_get(struct wal *w, uint32_t id); /* NULL: no memory */
int wal_group_reserve(struct wal_group *g, size_t n);
/* Changes the group as the durable record says.  -EUCLEAN: it cannot follow. */
int wal_group_apply(struct wal *w, const struct wal_rhdr *h, struct wal_pos at);
void wal_group_unstage(struct wal *w);
static inline uint64_t wal_group_last(const struct wal_group *g)
{
	return g->base + g->n;
}
uint32_t wal_oldest_needed(const struct wal *w); /* UINT32_MAX: none */
void wal_groups_free(struct wal *w);

/* --- wal_doubt.c ------------------------------------------------------------------ */
/* A frame, or more, is lost: any of the groups that 'set' may hold can have been in it. */
void wal_doubt_lost(
	struct wal *w, struct wal_losses *l, const struct wal_gset *set, struct wal_place place);
/* A record whose header is whole, in order; as wal_group_apply, but what cannot follow stops its group alone. */
VX_MUST_CHECK
int wal_doubt_apply(struct wal *w, struct wal_losses *l, const struct wal_rhdr *h,
	struct wal_pos at, bool payload_ok);
/* The table of a segment: of the first that can be read, or compared with what the records gave. */
VX_MUST_CHECK
int wal_doubt_table(struct wal *w, struct wal_losses *l, const uint8_t *hdr,
	const struct wal_shdr *h, bool first);
/* Not one of the groups that exist, but it may have begun in what is lost. */
bool wal_doubt_born(const struct wal_losses *l, const struct wal_group *g);
/* At the end: what is left unknown of an existing group, as text; false: nothing. */
bool wal_doubt_why(const struct wal_group *g, char ret[WAL_WHY_MAX]);
/* From now on the group is stopped.  -ENOMEM. */
VX_MUST_CHECK
int wal_doubt_stop(struct wal_group *g, const char *why, bool stop_file);

/* --- wal_stop.c ------------------------------------------------------------------- */
/* A name in the directory of the log: a verdict of an earlier open is taken into account. */
VX_MUST_CHECK
int wal_stop_read(struct wal *w, const char *name);
/* Keeps copies of segments [from, to], then writes the verdict of every group that is stopped without one. */
VX_MUST_CHECK
int wal_stop_write(struct wal *w, uint32_t from, uint32_t to, struct vx_err *err);

/* --- wal.c -------------------------------------------------------------------- */
int wal_frame_add(struct wal_frame *f, const struct wal_rec *rec);
/* A mark, with the group's last index, then its term and vote once more: whatever is lost before it, nothing is unknown
 * of the group behind it.  It takes no more of the reserve than a mark alone.  -ENOMEM: nothing was added. */
int wal_frame_add_mark(struct wal_frame *f, const struct wal_rec *mark, uint64_t term,
	uint64_t vote, uint64_t last);
int wal_frame_flush(struct wal *w, struct wal_frame *f);
struct wal_seg *wal_seg_find(struct wal *w, uint32_t seq);
struct wal_seg *wal_seg_push(struct wal *w);
static inline struct wal_seg *wal_cur(struct wal *w)
{
	return &w->segs[w->n_segs - 1];
}
int wal_read_payload(struct wal *w, struct wal_pos at, struct wal_rhdr *ret_h, void **ret_data);
int wal_break(struct wal *w, int rc);
void wal_publish(struct wal *w);

/* --- wal_space.c -------------------------------------------------------------- */
int wal_spares_ensure(struct wal *w, unsigned n);
int wal_next_segment(struct wal *w);
int wal_open_rw(struct wal *w, const char *path, int *ret_fd);
void wal_build_drop(struct wal *w);

/* --- wal_sync.c --------------------------------------------------------------- */
int wal_sync_probe(struct wal *w);
int wal_sync_write(struct wal *w, const void *p, size_t n, uint64_t off);
void wal_sync_release(struct wal *w);

#endif
