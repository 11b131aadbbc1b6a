/* verify.c - meta.db against the segments, slot by slot and record by record.
 *
 * First the database by itself (pages, structure), then the batches that no mark vouches for yet, since they say
 * from which slot on the log would write everything again.  Then the records are walked in the order of their
 * rowids: each must lie in a slot below next_slot that is no other record's and not dead, whose row has the
 * same rowid, id and birth, and whose vector has its checksum.  What is left is dead, or nobody's: an orphan, that a
 * search would find although no record says so.
 *
 * The same code runs on a slice that is being served: one read transaction of SQLite is one view, and slots below
 * its next_slot were written before it and never change.  The connection is one of its own: what another has in its cache
 * says nothing of the file.  A drop renames the files under it, so of a slice that was dropped meanwhile nothing is
 * said at all: findings are kept back until that is known.
 */
#include "store/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "store/claim.h"
#include "store/pagesum.h"
#include "store/read_i.h"
#include "store/verify_i.h"

#define CLAIM_TRIES   5u
#define CLAIM_WAIT_US 2000u

/* --- findings -------------------------------------------------------------------------------- */

static void keep(struct buf *kept, const struct verify_finding *f);

VX_PRINTF(6, 0)
static void say(struct verify *v, enum verify_level level, bool repaired, const char *file,
	uint64_t offset, const char *fmt, va_list ap)
{
	char why[400];
	struct verify_finding f = {
		.level = level, .repaired = repaired, .file = file, .offset = offset, .why = why};

	v->notes += level == VERIFY_NOTE;
	v->derived += level == VERIFY_DERIVED;
	v->damage += level == VERIFY_DAMAGE;
	v->repaired += repaired && level != VERIFY_NOTE;
	if (v->told++ >= VERIFY_TOLD_MAX || !v->found)
		return;
	vsnprintf(why, sizeof why, fmt, ap);
	for (char *p = why; (p = strchr(p, '\n')) != NULL;) /* SQLite tells in several lines */
		*p = ' ';
	if (v->kept)
		keep(v->kept, &f);
	else
		v->found(v->ctx, &f);
}

void verify_say(struct verify *v, enum verify_level level, const char *file, uint64_t offset,
	const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(v, level, false, file, offset, fmt, ap);
	va_end(ap);
}

void verify_repaired(struct verify *v, enum verify_level level, const char *file, uint64_t offset,
	const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(v, level, true, file, offset, fmt, ap);
	va_end(ap);
}

/* --- findings that may turn out to be none ------------------------------------------------------ */

struct kept {
	enum verify_level level;
	bool repaired;
	uint64_t offset;
	char *file, *why;
};

/* Without memory a finding is counted all the same. */
static void keep(struct buf *kept, const struct verify_finding *f)
{
	struct kept k = {.level = f->level,
		.repaired = f->repaired,
		.offset = f->offset,
		.file = strdup(f->file),
		.why = strdup(f->why)};

	if (!k.file || !k.why || buf_append(kept, &k, sizeof k)) {
		free(k.file);
		free(k.why);
	}
}

/* Ends the keeping, and says or forgets what was kept since 'v' was 'was'. */
static void let_go(struct verify *v, const struct verify *was, bool forget)
{
	struct buf kept = *v->kept;
	struct kept *k = (void *)kept.data;

	if (forget)
		*v = *was;
	v->kept = NULL;
	for (size_t i = 0; i < kept.len / sizeof *k; i++) {
		struct verify_finding f = {.level = k[i].level,
			.repaired = k[i].repaired,
			.file = k[i].file,
			.offset = k[i].offset,
			.why = k[i].why};
		if (!forget)
			v->found(v->ctx, &f);
		free(k[i].file);
		free(k[i].why);
	}
	buf_release(&kept);
}

/* --- a database by itself ------------------------------------------------------------------------ */

int verify_sqlite(struct sqlite3 *c, const char *file, struct verify *v)
{
	sqlite3_stmt *st = NULL;
	const uint64_t *at;

	pagesum_bad_forget();
	int rc = sqlite3_prepare_v2(c, "PRAGMA integrity_check(100)", -1, &st, NULL);
	while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(st, 0);
		if (!text || strcmp(text, "ok") != 0) {
			verify_say(v, VERIFY_DAMAGE, file, VERIFY_NOWHERE, "%s",
				text ? text : "no memory for what is wrong with it");
		}
		rc = SQLITE_OK;
	}
	bool busy = (rc & 0xff) == SQLITE_BUSY;
	if (rc != SQLITE_DONE && rc != SQLITE_NOMEM && !busy)
		verify_say(v, VERIFY_DAMAGE, file, VERIFY_NOWHERE, "cannot be read: %s",
			sqlite3_errmsg(c));
	sqlite3_finalize(st);
	unsigned n = pagesum_bad(&at);
	for (unsigned i = 0; i < n; i++)
		verify_say(v, VERIFY_DAMAGE, file, at[i], "page %llu has a wrong checksum",
			(unsigned long long)at[i] / 4096 + 1);
	return rc == SQLITE_NOMEM ? -ENOMEM : busy ? -EBUSY : 0;
}

/* --- places ----------------------------------------------------------------------------------------- */

uint64_t check_place(const struct check *c, uint32_t slot, enum slot_area area, char *ret_path)
{
	uint64_t at = slot_at(slot);
	char name[32];

	snprintf(name, sizeof name, "%06u.vec", slot_seg(slot));
	if (store_path(ret_path, c->gen_dir, name))
		ret_path[0] = 0;
	switch (area) {
	case AREA_ROW:
		return SEG_OFF_ROWS + at * SEG_ROW_SIZE;
	case AREA_CELL:
		return SEG_OFF_CELLS + at * SEG_CELL_SIZE;
	default:
		return SEG_OFF_VECS + at * c->schema.dim * sizeof(float);
	}
}

/* A statement failed: once said, that is the end of this slice. */
static int db_failed(struct check *c, int rc, const char *what)
{
	struct vx_err err = VX_ERR_INIT;

	if (rc == -ENOMEM || rc == -EBUSY || rc == -EMFILE)
		return rc;
	metadb_err(c->db, rc, &err);
	verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE, "%s: %s", what,
		vx_err_msg(&err, rc));
	return -EUCLEAN;
}

int check_init(struct check *c, struct slice *sl, struct metadb *db, struct verify *v, bool live)
{
	*c = (struct check){.sl = sl, .db = db, .v = v, .live = live, .disk = sl->shard->disk};
	int rc = slice_db_path(sl, c->db_path);
	return rc ? rc : slice_gen_path(sl, c->gen_dir);
}

void check_release(struct check *c)
{
	free(c->what);
	buf_release(&c->give_up);
	buf_release(&c->undead);
	buf_release(&c->orphans);
}

/* --- batches ------------------------------------------------------------------------------------------ */

static int check_batches(struct check *c)
{
	char path[STORE_PATH_MAX];
	sqlite3_stmt *st;
	int rc = metadb_get(c->db, ST_BATCH_ALL, &st);

	if (rc)
		return db_failed(c, rc, "batches");
	c->waiting_from = c->st.next_slot;
	while ((rc = metadb_step(c->db, st)) == 1) {
		uint64_t idx = (uint64_t)sqlite3_column_int64(st, 0);
		uint64_t first = (uint64_t)sqlite3_column_int64(st, 1);
		uint64_t n = (uint64_t)sqlite3_column_int64(st, 2);

		if (idx > c->st.applied || n == 0 || n > SEG_SLOTS || first >= c->st.next_slot ||
			first + n > c->st.next_slot) {
			verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
				"the batch of entry %llu, slots %llu to %llu, makes no sense",
				(unsigned long long)idx, (unsigned long long)first,
				(unsigned long long)(first + n - 1));
			continue;
		}
		bool in_log = c->v->last && idx > c->v->mark && idx <= c->v->last;
		if (in_log)
			c->waiting_from = VX_MIN(c->waiting_from, first);
		if (slice_batch_check(c->sl, (uint32_t)first, (uint32_t)n,
			    (uint64_t)sqlite3_column_int64(st, 3)) == 0)
			continue;
		if (in_log) {
			c->waiting++;
			continue;
		}
		/* It proves nothing any more; which of its slots is damaged is found below. */
		uint64_t at = check_place(c, (uint32_t)first, AREA_ROW, path);
		verify_say(c->v, VERIFY_NOTE, path, at,
			"slots %llu to %llu are not what entry %llu wrote, and the log has it no "
			"more",
			(unsigned long long)first, (unsigned long long)(first + n - 1),
			(unsigned long long)idx);
	}
	sqlite3_reset(st);
	return rc ? db_failed(c, rc, "batches") : 0;
}

/* --- slots -------------------------------------------------------------------------------------------- */

struct owner {
	uint64_t rowid, born;
	const void *id;
	size_t id_len;
};

static void unreadable(struct check *c, const struct owner *o, uint32_t slot)
{
	struct gone g = {.rowid = o->rowid, .slot = slot};

	c->unreadable++;
	/* Without memory it stays as it is. */
	if (c->v->force)
		(void)!buf_append(&c->give_up, &g, sizeof g);
}

/* The row is right but for the cell with its long id, which the record has as well. */
static bool cell_alone(struct seg *g, uint32_t slot, const struct owner *o)
{
	const uint8_t *p = seg_row_bytes(g, slot_at(slot));

	return get_le32(p + 60) == (uint32_t)hash_xxh3(p, 60, (uint64_t)g->cid << 32 | slot) &&
	       p[20] == o->id_len && o->id_len > SEG_ID_INLINE &&
	       get_le64(p + 21) == hash_xxh3(o->id, o->id_len, slot);
}

static void repair_cell(struct check *c, struct seg *g, uint32_t slot, const struct owner *o)
{
	char path[STORE_PATH_MAX];
	uint64_t at = check_place(c, slot, AREA_CELL, path);
	int rc = -EROFS;

	if (c->v->repair && !c->live) {
		rc = seg_writable(c->disk, c->gen_dir, g);
		if (rc == 0)
			rc = seg_write_cell(c->disk, g, slot_at(slot), o->id, o->id_len);
		if (rc == 0)
			rc = c->disk->ops->fdatasync(c->disk, g->fd);
	}
	if (rc)
		verify_say(c->v, VERIFY_DERIVED, path, at,
			"slot %u: the id is damaged; the record has it", slot);
	else
		verify_repaired(c->v, VERIFY_DERIVED, path, at,
			"slot %u: the id was damaged; written again from the record", slot);
}

/* The row and the vector of a slot that a record is said to be in. */
static void check_slot(struct check *c, uint32_t slot, const struct owner *o)
{
	struct seg *g = slice_seg(c->sl, slot_seg(slot));
	char path[STORE_PATH_MAX];
	struct slot_row row = {.rowid = 0};
	uint64_t at;

	if (!g) { /* that was said of the whole segment */
		if (slot >= c->waiting_from)
			c->waiting++;
		else
			unreadable(c, o, slot);
		return;
	}
	bool bad = seg_row(g, slot_at(slot), &row) != 0;
	if (bad && slot < c->waiting_from && cell_alone(g, slot, o)) {
		repair_cell(c, g, slot, o);
		row = (struct slot_row){.rowid = o->rowid,
			.born = o->born,
			.vec_sum = get_le32(seg_row_bytes(g, slot_at(slot)) + 16),
			.id_len = (uint8_t)o->id_len,
			.id = o->id};
		bad = false;
	}
	const void *vec = g->map + SEG_OFF_VECS + (size_t)slot_at(slot) * g->dim * sizeof(float);
	bool differs = !bad &&
		       (row.rowid != o->rowid || row.born != o->born || row.id_len != o->id_len ||
			       memcmp(row.id, o->id, o->id_len) != 0);
	bool vec_bad = !bad && row.vec_sum != vec_sum(vec, g->dim, slot);
	if (!bad && !differs && !vec_bad)
		return;
	if (slot >= c->waiting_from) {
		c->waiting++;
		return;
	}
	unreadable(c, o, slot);
	at = check_place(c, slot, vec_bad && !differs ? AREA_VECTOR : AREA_ROW, path);
	if (bad)
		verify_say(c->v, VERIFY_DAMAGE, path, at,
			"slot %u, of '%.*s': the row has a wrong checksum", slot,
			(int)VX_MIN(o->id_len, 80u), (const char *)o->id);
	else if (differs)
		verify_say(c->v, VERIFY_DAMAGE, path, at,
			"slot %u is of record %llu '%.*s', written by entry %llu; meta.db has "
			"record "
			"%llu '%.*s', written by entry %llu, in it",
			slot, (unsigned long long)row.rowid, (int)VX_MIN(row.id_len, 80u), row.id,
			(unsigned long long)row.born, (unsigned long long)o->rowid,
			(int)VX_MIN(o->id_len, 80u), (const char *)o->id,
			(unsigned long long)o->born);
	else
		verify_say(c->v, VERIFY_DAMAGE, path, at,
			"slot %u, of '%.*s': the vector has a wrong checksum", slot,
			(int)VX_MIN(o->id_len, 80u), (const char *)o->id);
}

static int check_dead(struct check *c)
{
	sqlite3_stmt *st;
	int rc = metadb_get(c->db, ST_DEAD_ALL, &st);

	if (rc)
		return db_failed(c, rc, "dead slots");
	while ((rc = metadb_step(c->db, st)) == 1) {
		int64_t slot = sqlite3_column_int64(st, 0);
		uint64_t idx = (uint64_t)sqlite3_column_int64(st, 1);
		if (slot < 0 || (uint64_t)slot >= c->st.next_slot || idx == 0 ||
			idx > c->st.applied) {
			verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
				"dead slot %lld, by entry %llu, makes no sense", (long long)slot,
				(unsigned long long)idx);
			continue;
		}
		c->what[slot] = SLOT_DEAD;
		c->v->dead++;
	}
	sqlite3_reset(st);
	return rc ? db_failed(c, rc, "dead slots") : 0;
}

static void check_rec(struct check *c, const struct owner *o, int64_t slot)
{
	int show = (int)VX_MIN(o->id_len, 80u);
	const char *id = o->id;

	c->max_rowid = VX_MAX(c->max_rowid, o->rowid);
	if (o->id_len < 1 || o->id_len > VX_ID_MAX || o->born > c->st.applied || slot < 0 ||
		(uint64_t)slot >= c->st.next_slot) {
		verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"record %llu '%.*s', slot %lld, written by entry %llu, makes no sense",
			(unsigned long long)o->rowid, show, id, (long long)slot,
			(unsigned long long)o->born);
		return;
	}
	if (c->v->belongs && !c->v->belongs(c->v->ctx, c->sl->cid, o->id, o->id_len))
		verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"record %llu '%.*s' belongs into another shard",
			(unsigned long long)o->rowid, show, id);
	if (c->what[slot] == SLOT_RECORD) {
		verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"record %llu '%.*s' is in slot %lld, which is another record's",
			(unsigned long long)o->rowid, show, id, (long long)slot);
		return;
	}
	if (c->what[slot] == SLOT_DEAD) {
		uint32_t n = (uint32_t)slot;
		if (c->v->force)
			(void)!buf_put_le32(&c->undead, n);
		else
			verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
				"record %llu '%.*s' is missing from searches: its slot %lld is "
				"dead",
				(unsigned long long)o->rowid, show, id, (long long)slot);
	}
	c->what[slot] = SLOT_RECORD;
	check_slot(c, (uint32_t)slot, o);
}

static int check_recs(struct check *c, uint64_t *ret_n)
{
	sqlite3_stmt *st;
	uint64_t n = 0;
	int rc = metadb_get(c->db, ST_VERIFY_REC, &st);

	if (rc)
		return db_failed(c, rc, "records");
	while ((rc = metadb_step(c->db, st)) == 1) {
		struct owner o = {
			.rowid = (uint64_t)sqlite3_column_int64(st, 0),
			.born = (uint64_t)sqlite3_column_int64(st, 3),
			.id = sqlite3_column_blob(st, 1),
			.id_len = (size_t)sqlite3_column_bytes(st, 1),
		};
		check_rec(c, &o, sqlite3_column_int64(st, 2));
		n++;
	}
	sqlite3_reset(st);
	c->v->records += n;
	*ret_n = n;
	return rc ? db_failed(c, rc, "records") : 0;
}

/* Slots that no record is in. */
static void check_rest(struct check *c)
{
	for (uint32_t slot = 0; slot < c->st.next_slot; slot++) {
		struct seg *g = slice_seg(c->sl, slot_seg(slot));
		char path[STORE_PATH_MAX];
		struct slot_row row = {.rowid = 0};

		if (c->what[slot] == SLOT_RECORD)
			continue;
		bool bad = !g || seg_row(g, slot_at(slot), &row) != 0;
		if (c->what[slot] == SLOT_NOTHING && c->v->force) {
			(void)!buf_put_le32(&c->orphans, slot);
		} else if (c->what[slot] == SLOT_NOTHING) {
			uint64_t at = check_place(c, slot, AREA_ROW, path);
			verify_say(c->v, VERIFY_DAMAGE, path, at,
				"slot %u holds '%.*s', which is neither a record nor dead: "
				"searches "
				"would bring it back",
				slot, bad ? 1 : (int)VX_MIN(row.id_len, 80u), bad ? "?" : row.id);
			continue;
		}
		if (!g || slot >= c->waiting_from)
			continue;
		const void *vec = g->map + SEG_OFF_VECS +
				  (size_t)slot_at(slot) * g->dim * sizeof(float);
		if (bad || row.vec_sum != vec_sum(vec, g->dim, slot)) {
			uint64_t at = check_place(c, slot, bad ? AREA_ROW : AREA_VECTOR, path);
			verify_say(c->v, VERIFY_NOTE, path, at,
				"slot %u, which is dead, has a wrong checksum", slot);
		}
	}
}

/* --- what state says ------------------------------------------------------------------------------------ */

static void wrong_number(struct check *c, const char *what, uint64_t have, uint64_t should)
{
	if (c->v->repair && !c->live)
		verify_repaired(c->v, VERIFY_DERIVED, c->db_path, VERIFY_NOWHERE,
			"state: %s was %llu and is %llu now", what, (unsigned long long)have,
			(unsigned long long)should);
	else
		verify_say(c->v, VERIFY_DERIVED, c->db_path, VERIFY_NOWHERE,
			"state: %s is %llu, but should be %llu", what, (unsigned long long)have,
			(unsigned long long)should);
}

static int check_state(struct check *c, uint64_t n)
{
	sqlite3_stmt *st;
	struct metadb_state *s = &c->st;
	int rc = metadb_get(c->db, ST_VERIFY_RECENT, &st);

	if (rc == 0 && (rc = metadb_step(c->db, st)) != 1)
		rc = rc ? rc : -EUCLEAN;
	if (rc < 0)
		return db_failed(c, rc, "recent entries");
	uint64_t last_n = (uint64_t)sqlite3_column_int64(st, 0);
	uint64_t last_idx = (uint64_t)sqlite3_column_int64(st, 1);
	sqlite3_reset(st);
	if (last_idx > s->applied)
		verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"entry %llu is among the recent ones, but only %llu are applied",
			(unsigned long long)last_idx, (unsigned long long)s->applied);
	if (s->count != n) {
		wrong_number(c, "count", s->count, n);
		s->count = n;
	}
	if (s->next_rowid <= c->max_rowid) {
		wrong_number(c, "next_rowid", s->next_rowid, c->max_rowid + 1);
		s->next_rowid = c->max_rowid + 1;
	}
	if (s->next_recent <= last_n) {
		wrong_number(c, "next_recent", s->next_recent, last_n + 1);
		s->next_recent = last_n + 1;
	}
	return 0;
}

int check_tables(struct check *c)
{
	uint64_t n = 0;

	c->what = calloc(VX_MAX(c->st.next_slot, 1u), 1);
	if (!c->what)
		return -ENOMEM;
	int rc = verify_sqlite(c->db->c, c->db_path, c->v);
	if (rc == 0)
		rc = check_batches(c);
	if (rc == 0)
		rc = check_dead(c);
	if (rc == 0)
		rc = check_recs(c, &n);
	if (rc)
		return rc;
	check_rest(c);
	c->v->slots += c->st.next_slot;
	if (c->waiting)
		verify_say(c->v, VERIFY_NOTE, c->gen_dir, VERIFY_NOWHERE,
			"from slot %llu on, vectors did not reach the disk; the log has them",
			(unsigned long long)c->waiting_from);
	return check_state(c, n);
}

/* --- a slice that is being served ------------------------------------------------------------------------- */

/* What memory says of dead slots, against the tables.  The marks only ever come. */
static void check_marks(struct check *c)
{
	for (uint32_t slot = 0; slot < c->st.next_slot; slot++) {
		struct seg *g = slice_seg(c->sl, slot_seg(slot));
		_Atomic uint64_t *dead = g ? atomic_load_explicit(&g->dead, memory_order_acquire)
					   : NULL;
		uint64_t by = dead ? atomic_load_explicit(
					     &dead[slot_at(slot)], memory_order_relaxed)
				   : 0;
		if (c->what[slot] == SLOT_RECORD && by && by <= c->st.applied)
			verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
				"slot %u is a record's, and dead in memory by entry %llu", slot,
				(unsigned long long)by);
		/* The marks of an entry come after its COMMIT, before its view. */
		if (c->what[slot] == SLOT_DEAD && !by && slice_view(c->sl).applied >= c->st.applied)
			verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
				"slot %u is dead, and alive in memory", slot);
	}
}

/* A slice reads its segments through mappings: one whose name is gone, or leads to another file, is missed by the next start
 * alone. */
static void check_files(struct check *c)
{
	char path[STORE_PATH_MAX];
	struct stat st;

	for (uint64_t first = 0; first < c->st.next_slot; first += SEG_SLOTS) {
		(void)check_place(c, (uint32_t)first, AREA_ROW, path);
		if (stat(path, &st) < 0)
			verify_say(c->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s",
				errno == ENOENT ? "is missing" : strerror(errno));
		else if ((uint64_t)st.st_size < seg_file_size(c->schema.dim))
			verify_say(c->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
				"is shorter than a segment");
	}
}

/* Its writer may be at it: a claim that is damaged is looked at again. */
static int load_claim(struct check *c, uint64_t *ret)
{
	char path[STORE_PATH_MAX];
	int rc = store_path(path, c->sl->dir, SLICE_CLAIM), bad = -EUCLEAN;

	for (unsigned n = 0; rc == 0 && bad == -EUCLEAN && n < CLAIM_TRIES; n++) {
		if (n > 0)
			usleep(CLAIM_WAIT_US);
		bad = claim_load(c->disk, path, ret);
	}
	if (rc == 0 && bad == -EUCLEAN)
		verify_say(c->v, VERIFY_DERIVED, path, 0, "is damaged, and claims nothing");
	return rc;
}

/* 'claimed' was read before the view began.  A generation that was left meanwhile is behind what the next one claims. */
static void check_claimed(struct check *c, uint64_t claimed)
{
	vx_lock(&c->sl->shard->mu);
	bool current = !c->sl->superseded;
	vx_unlock(&c->sl->shard->mu);
	if (current && claimed > c->st.applied)
		verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"has lost entries %llu to %llu: its -wal file is damaged or gone",
			(unsigned long long)c->st.applied + 1, (unsigned long long)claimed);
}

/* The checkpoint that the next start would load; what is in it was compared with the slice when it was in memory. */
static int check_checkpoint_file(struct check *c)
{
	struct vx_err err = VX_ERR_INIT;
	char path[STORE_PATH_MAX];
	int rc = store_path(path, c->gen_dir, SLICE_CHECKPOINT);

	if (rc == 0)
		rc = index_file_check(c->disk, path, &err);
	if (rc == -EUCLEAN || rc == -EIO)
		verify_say(c->v, VERIFY_DERIVED, path, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
	return rc == -ENOMEM || rc == -EMFILE ? rc : 0;
}

static int check_served(struct check *c, uint64_t claimed, struct vx_err *err)
{
	struct index *ix;
	int rc = metadb_load_state(c->db, c->sl->cid, &c->schema, &c->st, err);

	if (rc == -EUCLEAN || rc == -ENODATA) {
		verify_say(
			c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE, "%s", vx_err_msg(err, rc));
		return 0;
	}
	if (rc == 0)
		check_claimed(c, claimed);
	if (rc == 0)
		rc = check_tables(c);
	if (rc == -EUCLEAN) /* said */
		return 0;
	/* The transaction ends before the index is waited for. */
	int rc2 = metadb_run(c->db, ST_COMMIT);
	if (rc || rc2)
		return rc ? rc : rc2;
	check_files(c);
	if (slice_view(c->sl).applied >= c->st.applied)
		check_marks(c);
	rc = check_checkpoint_file(c);
	if (rc == 0)
		rc = slice_index_ready(c->sl, &ix, err);
	return rc ? rc : check_index(c, ix, NULL);
}

static int check_connected(struct check *c, struct vx_err *err)
{
	uint64_t claimed = 0;
	int rc = load_claim(c, &claimed);

	if (rc)
		return rc;
	rc = metadb_open(c->db, c->db_path, CHECK_CACHE_KIB, err);

	if (rc == -EUCLEAN || rc == -EIO) {
		verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE, "%s",
			access(c->db_path, F_OK) < 0 ? "is missing" : vx_err_msg(err, rc));
		return 0;
	}
	if (rc == 0)
		rc = metadb_run(c->db, ST_BEGIN_READ);
	if (rc == 0)
		rc = check_served(c, claimed, err);
	if (c->db->c && !sqlite3_get_autocommit(c->db->c))
		(void)!metadb_run(c->db, ST_ROLLBACK);
	metadb_close(c->db);
	return rc;
}

int slice_verify(struct slice *sl, struct verify *v, struct vx_err *err)
{
	struct buf kept = BUF_INIT;
	struct metadb db = {.c = NULL};
	struct check c;

	v->told = 0;
	const struct verify was = *v;
	v->kept = &kept;
	v->slices++;
	int rc = check_init(&c, sl, &db, v, true);
	if (rc == 0)
		rc = check_connected(&c, err);
	check_release(&c);
	vx_lock(&sl->shard->mu);
	bool dropped = sl->dropped;
	vx_unlock(&sl->shard->mu);
	let_go(v, &was, dropped);
	if (dropped)
		return 0;
	if (rc && err && !err->msg[0])
		vx_err_set(err, rc, "collection %u cannot be verified", sl->cid);
	return rc;
}
