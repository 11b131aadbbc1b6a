/* verify_i.h - what the files of the checking core share. */
#ifndef VECFS_STORE_VERIFY_I_H
#define VECFS_STORE_VERIFY_I_H

#include "store/store_i.h"
#include "store/verify.h"

/* What is in a slot; SLOT_DYING: dead now, and maybe not yet when the checkpoint was written. */
enum { SLOT_NOTHING, SLOT_RECORD, SLOT_DEAD, SLOT_DYING };

/* One slice under the glass. */
#define CHECK_CACHE_KIB 4096u

struct check {
	struct slice *sl;
	struct metadb *db; /* its connection, in a transaction while the slice is served */
	struct verify *v;
	struct disk *disk;
	bool live; /* it is being served: nothing is changed */
	struct slice_schema schema;
	struct metadb_state st;
	char db_path[STORE_PATH_MAX], gen_dir[STORE_PATH_MAX];

	uint8_t *what;         /* per slot */
	uint64_t waiting_from; /* slots from here on are written again by the log */
	uint64_t waiting;      /* of them, those that need it */
	uint64_t max_rowid;
	uint64_t unreadable; /* findings that concern vectors or rows of records */
	struct buf give_up;  /* struct gone: records that cannot be read */
	struct buf undead;   /* slots (4 each): dead, and a record's */
	struct buf orphans;  /* slots: neither */
};

struct gone {
	uint64_t rowid;
	uint32_t slot;
};

/* verify.c: tables against segments.  0, -ENOMEM, or -EUCLEAN: meta.db cannot be read on, and that was said. */
VX_MUST_CHECK
int check_init(struct check *c, struct slice *sl, struct metadb *db, struct verify *v, bool live);
void check_release(struct check *c);
VX_MUST_CHECK
int check_tables(struct check *c);
/* "g-0001/000000.vec" and where in it a slot's row, cell or vector lies. */
enum slot_area { AREA_ROW, AREA_CELL, AREA_VECTOR };
uint64_t check_place(const struct check *c, uint32_t slot, enum slot_area area, char *ret_path);

/* verify_index.c: the checkpoint against the slice. */
VX_MUST_CHECK
int check_checkpoint(struct check *c);
/* An index in memory against 'what'. */
VX_MUST_CHECK
int check_index(struct check *c, struct index *ix, const char *file);

#endif
