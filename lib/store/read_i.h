/* read_i.h - what read.c and scan.c share. */
#ifndef VECFS_STORE_READ_I_H
#define VECFS_STORE_READ_I_H

#include "store/store_i.h"

/* A record read into a buffer that may still move. */
struct rec_place {
	uint64_t rowid, version, mtime_ns;
	uint32_t slot;
	bool has_meta, has_text;
	size_t at, id_len, meta_len, text_len;
};

/* Takes a read connection, opening one or waiting when all are out. */
VX_MUST_CHECK
int reader_take(struct slice *sl, struct metadb **ret, struct vx_err *err);
void reader_give(struct slice *sl, struct metadb *db);
/* Keeps the reason; a damaged meta.db quarantines the slice.  Returns 'rc'. */
int reader_fail(struct slice *sl, struct metadb *db, int rc, struct vx_err *err);
VX_MUST_CHECK
int rec_append(struct buf *mem, sqlite3_stmt *st, int col, size_t *ret_len, bool *ret_present);
VX_MUST_CHECK
int rec_read(sqlite3_stmt *st, unsigned what, struct buf *mem, struct rec_place *ret);
/* Turns a place into a record over 'mem'.  -EUCLEAN: its vector is damaged. */
VX_MUST_CHECK
int rec_settle(struct slice *sl, unsigned what, const struct rec_place *p, const uint8_t *mem,
	struct slice_rec *ret, struct vx_err *err);

#endif
