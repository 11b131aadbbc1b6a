/* compact_i.h - what compact.c and carry.c share. */
#ifndef VECFS_STORE_COMPACT_I_H
#define VECFS_STORE_COMPACT_I_H

#include "store/store_i.h"

/* One compaction: 'o' is the slice, 'n' what takes its place. */
struct compaction {
	struct slice *o,
		*n; /* n->wdb, n->st, its segments and n->index are ours until it is published */
	struct index *from; /* o's index */
	bool anew;          /* links are made anew, not carried over */
	struct vx_err *err;
	uint32_t *map; /* old slot -> new one + 1; 0: left out */
	uint32_t map_cap;
	uint32_t old_slots; /* old slots below are dealt with */
	uint64_t applied;   /* as of this entry */
	uint32_t synced;    /* segments of 'n' below are whole and synced */
	/* slots given out in 'n' and not written yet */
	struct buf vecs, rows, longs;
	uint64_t parts_idx; /* parts of transactions up to this index were carried */
	uint32_t staged_from;
};

/* --- carry.c ---------------------------------------------------------------------- */
/* Gives an old slot the next new one.  -EUCLEAN: it is damaged. */
VX_MUST_CHECK
int carry_slot(struct compaction *c, uint32_t old);
/* Writes what was given out. */
VX_MUST_CHECK
int carry_flush(struct compaction *c);
/* The records whose slots were carried. */
VX_MUST_CHECK
int carry_records(struct compaction *c);
/* What was applied since, up to the view 'v'; 'kills' are those of the same span. */
VX_MUST_CHECK
int carry_delta(struct compaction *c, const struct view *v, const struct kill *kills, size_t n);
/* Hidden parts of transactions, and outcomes; *ret_n: how many parts. */
VX_MUST_CHECK
int carry_txns(struct compaction *c, uint32_t *ret_n);
/* The entries applied lately: all of them, replacing what was carried of them before. */
VX_MUST_CHECK
int carry_recent(struct compaction *c);
/* 'n' as of this state. */
VX_MUST_CHECK
int carry_state(struct compaction *c, const struct metadb_state *st);
/* Copies SQLite's log back and empties it. */
VX_MUST_CHECK
int carry_settle(struct compaction *c);

#endif
