/* apply_i.h - what apply.c and txn.c share: one SQLite transaction under way. */
#ifndef VECFS_STORE_APPLY_I_H
#define VECFS_STORE_APPLY_I_H

#include "store/store_i.h"

struct long_id {
	uint32_t slot;
	const char *id;
	size_t len;
};

/* One transaction under way. */
struct run {
	struct shard *s;
	struct slice *sl;
	struct vx_err *err;
	struct index *ix;
	struct metadb_state st; /* becomes the slice's at COMMIT */
	uint32_t first_slot;    /* of the run */
	uint32_t staged_from;   /* slots [staged_from, st.next_slot) are in the buffers */
	struct buf kills;       /* struct kill */
	struct buf longs;       /* struct long_id */
	struct buf placed;      /* this entry: ordinal (4), rowid (8) per slot */
	bool hist;
	/* txn.c: slots from sync_from on are synced before COMMIT, because no entry has their vectors. */
	bool sync_slots, touched_txn;
	uint32_t sync_from;
};

#define PLACED_SIZE 12u

int run_fail(struct run *r, int sqlite_rc);
/* Writes what is staged: segments first, then the index. */
VX_MUST_CHECK
int run_flush(struct run *r);
/* Applies one record and says how it went.  'ord' counts the storing records of the entry. */
VX_MUST_CHECK
int run_record(struct run *r, uint64_t index, uint64_t mtime, const struct entry_rec *e,
	uint32_t ord, enum rec_result *ret);
void count_result(struct apply_result *res, enum rec_result how);

/* --- txn.c ------------------------------------------------------------------------ */
/* A data entry of a transaction: kept aside, seen by nobody. */
VX_MUST_CHECK
int txn_hide(struct run *r, struct apply_req *req, const struct entry_reader *rd);
/* An entry of kind TXN. */
VX_MUST_CHECK
int txn_step(struct run *r, struct apply_req *req, const struct entry_reader *rd);
/* Just before COMMIT, everything is written. */
VX_MUST_CHECK
int txn_before_commit(struct run *r);
/* After it. */
void txn_committed(struct run *r);
/* At the end, whatever became of it. */
void txn_end_run(struct run *r);

#endif
