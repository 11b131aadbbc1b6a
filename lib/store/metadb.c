/* metadb.c - meta.db: connections, statements, and SQLite's errors as ours.
 *
 * Every SQL text of the store is in the table below.  A connection belongs to one thread at a time
 * (NOMUTEX) and prepares a statement when it is first asked for it.  The log of SQLite is never
 * synced or copied back by a commit: the mark does both.
 */
#include "store/store_i.h"
#include "store/pagesum.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static const char create_sql[] =
	"CREATE TABLE state(one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER, cid INTEGER,"
	" schema BLOB, generation INTEGER, applied INTEGER, next_slot INTEGER, next_rowid INTEGER,"
	" next_recent INTEGER, count INTEGER);"
	"CREATE TABLE rec(rowid INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, slot INTEGER NOT "
	"NULL,"
	" born INTEGER NOT NULL, mtime INTEGER NOT NULL, meta TEXT, text TEXT);"
	"CREATE TABLE dead(slot INTEGER PRIMARY KEY, idx INTEGER NOT NULL);"
	"CREATE TABLE batches(idx INTEGER, first_slot INTEGER, n INTEGER, xxh3 INTEGER,"
	" first_ord INTEGER, first_rowid INTEGER, map BLOB, PRIMARY KEY(idx, first_slot))"
	" WITHOUT ROWID;"
	"CREATE TABLE recent(n INTEGER PRIMARY KEY, origin INTEGER, seq INTEGER, idx INTEGER,"
	" inserted INTEGER, updated INTEGER, deleted INTEGER, missing INTEGER, conflicts INTEGER,"
	" UNIQUE(origin, seq));"
	"CREATE TABLE hist(rowid INTEGER, born INTEGER, died INTEGER, slot INTEGER, mtime INTEGER,"
	" id BLOB, meta TEXT, text TEXT, PRIMARY KEY(rowid, born)) WITHOUT ROWID;";

static const char *const stmt_sql[ST_MAX] = {
	[ST_BEGIN] = "BEGIN IMMEDIATE",
	[ST_BEGIN_READ] = "BEGIN",
	[ST_COMMIT] = "COMMIT",
	[ST_ROLLBACK] = "ROLLBACK",
	[ST_STATE_GET] = "SELECT format, cid, schema, generation, applied, next_slot, next_rowid,"
			 " next_recent, count FROM state WHERE one = 1",
	[ST_STATE_SET] = "UPDATE state SET applied = ?1, next_slot = ?2, next_rowid = ?3,"
			 " next_recent = ?4, count = ?5 WHERE one = 1",
	[ST_REC_INSERT] = "INSERT INTO rec(rowid, id, slot, born, mtime, meta, text)"
			  " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(id) DO NOTHING",
	[ST_REC_FIND] = "SELECT rowid, slot, born, mtime FROM rec WHERE id = ?1",
	[ST_REC_UPDATE] = "UPDATE rec SET slot = ?2, born = ?3, mtime = ?4, meta = ?5, text = ?6"
			  " WHERE rowid = ?1",
	[ST_REC_DELETE] = "DELETE FROM rec WHERE rowid = ?1",
	[ST_REC_GET] = "SELECT rowid, id, slot, born, mtime, meta, text FROM rec WHERE id = ?1",
	[ST_REC_GET_ROWID] = "SELECT rowid, id, slot, born, mtime, meta, text FROM rec"
			     " WHERE rowid = ?1",
	[ST_REC_LIST] = "SELECT rowid, mtime, id FROM rec WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
	/* Both halves come in the order of their keys, so SQLite merges and never sorts. */
	[ST_REC_SCAN] = "SELECT rowid, id, slot, born, mtime, meta, text FROM rec"
			" WHERE rowid > ?1 AND rowid < ?3 AND born <= ?2"
			" UNION ALL SELECT rowid, id, slot, born, mtime, meta, text FROM hist"
			" WHERE rowid > ?1 AND rowid < ?3 AND born <= ?2 AND died > ?2"
			" ORDER BY 1 LIMIT ?4",
	[ST_DEAD_ADD] = "INSERT INTO dead(slot, idx) VALUES(?1, ?2)",
	[ST_DEAD_ALL] = "SELECT slot, idx FROM dead",
	[ST_BATCH_ADD] =
		"INSERT INTO batches(idx, first_slot, n, xxh3, first_ord, first_rowid, map)"
		" VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[ST_BATCH_FIND] = "SELECT first_slot, n, xxh3, first_ord, first_rowid, map FROM batches"
			  " WHERE idx = ?1 ORDER BY first_slot",
	[ST_BATCH_ALL] = "SELECT idx, first_slot, n, xxh3 FROM batches ORDER BY idx, first_slot",
	[ST_BATCH_PRUNE] = "DELETE FROM batches WHERE idx <= ?1",
	[ST_RECENT_ADD] = "INSERT INTO recent(n, origin, seq, idx, inserted, updated, deleted,"
			  " missing, conflicts) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
	[ST_RECENT_FIND] = "SELECT inserted, updated, deleted, missing, conflicts FROM recent"
			   " WHERE origin = ?1 AND seq = ?2",
	[ST_RECENT_FIND_IDX] = "SELECT inserted, updated, deleted, missing, conflicts FROM recent"
			       " WHERE origin = ?1 AND seq = ?2 AND idx = ?3",
	[ST_RECENT_PRUNE] = "DELETE FROM recent WHERE n <= ?1",
	[ST_CARRY_PAGE] = "SELECT rowid, id, slot, born, mtime, meta, text FROM rec"
			  " WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
	[ST_CARRY_PUT] = "INSERT INTO rec(rowid, id, slot, born, mtime, meta, text)"
			 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(rowid) DO UPDATE SET"
			 " id = excluded.id, slot = excluded.slot, born = excluded.born,"
			 " mtime = excluded.mtime, meta = excluded.meta, text = excluded.text",
	[ST_CARRY_RECENT] = "SELECT n, origin, seq, idx, inserted, updated, deleted, missing,"
			    " conflicts FROM recent ORDER BY n",
	[ST_HIST_ADD] = "INSERT OR IGNORE INTO hist(rowid, born, died, slot, mtime, id, meta, text)"
			" SELECT rowid, born, ?2, slot, mtime, id, meta, text FROM rec"
			" WHERE rowid = ?1",
	[ST_HIST_ANY] = "SELECT 1 FROM hist LIMIT 1",
	[ST_HIST_CLEAR] = "DELETE FROM hist",
	[ST_VERIFY_REC] = "SELECT rowid, id, slot, born FROM rec ORDER BY rowid",
	[ST_VERIFY_RECENT] = "SELECT ifnull(max(n), 0), ifnull(max(idx), 0) FROM recent",
	[ST_VERIFY_UNDEAD] = "DELETE FROM dead WHERE slot = ?1",
	[ST_PART_ADD] = "INSERT OR REPLACE INTO parts(txn, part, idx, time, data)"
			" VALUES(?1, ?2, ?3, ?4, ?5)",
	[ST_PART_COUNT] = "SELECT count(*), max(part) FROM parts WHERE txn = ?1",
	[ST_PART_GET] = "SELECT data FROM parts WHERE txn = ?1 AND part = ?2",
	[ST_PART_DROP] = "DELETE FROM parts WHERE txn = ?1",
	[ST_PART_DROP_ONE] = "DELETE FROM parts WHERE txn = ?1 AND part = ?2",
	[ST_PART_OLD] = "SELECT DISTINCT txn FROM parts WHERE time < ?1",
	[ST_PART_TXNS] = "SELECT txn, min(time), count(*) FROM parts GROUP BY txn",
	[ST_TXN_GET] = "SELECT outcome FROM txns WHERE txn = ?1",
	[ST_TXN_PUT] = "INSERT OR REPLACE INTO txns(txn, outcome, idx, time, pending)"
		       " VALUES(?1, ?2, ?3, ?4, ?5)",
	[ST_TXN_END] = "UPDATE txns SET pending = NULL WHERE txn = ?1",
	[ST_TXN_PENDING] = "SELECT txn, time, pending FROM txns WHERE pending IS NOT NULL",
	[ST_TXN_PRUNE] = "DELETE FROM txns WHERE time < ?1 AND pending IS NULL",
	[ST_TXN_ANY] = "SELECT 1 WHERE EXISTS(SELECT 1 FROM parts)"
		       " OR EXISTS(SELECT 1 FROM txns WHERE pending IS NOT NULL)",
};

int metadb_errno(sqlite3 *c, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_IOERR:
		if (rc == SQLITE_IOERR_NOMEM || rc == SQLITE_IOERR_SHMMAP)
			return -ENOMEM;
		if (c && (sqlite3_system_errno(c) == ENOSPC || sqlite3_system_errno(c) == EDQUOT))
			return -ENOSPC;
		return -EIO;
	case SQLITE_CANTOPEN:
		if (c && (sqlite3_system_errno(c) == EMFILE || sqlite3_system_errno(c) == ENFILE))
			return -EMFILE;
		if (c && sqlite3_system_errno(c) == ENOSPC)
			return -ENOSPC;
		return -EIO;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: /* the statements are ours: the schema is not */
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
		return -EUCLEAN;
	default:
		return -EIO;
	}
}

int metadb_err(struct metadb *db, int rc, struct vx_err *err)
{
	return vx_err_set(err, rc, "meta.db: %s", db->c ? sqlite3_errmsg(db->c) : "cannot open");
}

int metadb_get(struct metadb *db, enum metadb_stmt which, sqlite3_stmt **ret)
{
	*ret = NULL; /* which sqlite3_reset takes, too */
	if (VX_UNLIKELY(!db->st[which])) {
		int rc = sqlite3_prepare_v3(db->c, stmt_sql[which], -1, SQLITE_PREPARE_PERSISTENT,
			&db->st[which], NULL);
		if (rc)
			return metadb_errno(db->c, rc);
	}
	*ret = db->st[which];
	return 0;
}

int metadb_step(struct metadb *db, sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE)
		return 0;
	return metadb_errno(db->c, sqlite3_extended_errcode(db->c));
}

int metadb_run(struct metadb *db, enum metadb_stmt which)
{
	sqlite3_stmt *st = NULL;

	int rc = metadb_get(db, which, &st);
	if (rc)
		return rc;
	rc = metadb_step(db, st);
	sqlite3_reset(st);
	return rc;
}

static int metadb_connect(struct metadb *db, const char *path, int flags, struct vx_err *err)
{
	*db = (struct metadb){.c = NULL};
	int rc = pagesum_register();
	if (rc)
		return vx_err_set(err, -ENOMEM, "SQLite cannot be set up: %s", sqlite3_errstr(rc));
	rc = sqlite3_open_v2(path, &db->c, flags | SQLITE_OPEN_NOMUTEX, PAGESUM_VFS);
	if (rc) {
		rc = metadb_err(db, metadb_errno(db->c, sqlite3_extended_errcode(db->c)), err);
		metadb_close(db);
		return rc;
	}
	sqlite3_extended_result_codes(db->c, 1);
	/* Statements are persistent and take no lookaside; what is left is small. */
	sqlite3_db_config(db->c, SQLITE_DBCONFIG_LOOKASIDE, NULL, 128, 64);
	sqlite3_db_config(db->c, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_db_config(db->c, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_busy_timeout(db->c, BUSY_TIMEOUT_MS);
	sqlite3_wal_autocheckpoint(db->c, 0);
	return 0;
}

static int metadb_exec(struct metadb *db, const char *sql, struct vx_err *err)
{
	int rc = sqlite3_exec(db->c, sql, NULL, NULL, NULL);
	return rc ? metadb_err(db, metadb_errno(db->c, sqlite3_extended_errcode(db->c)), err) : 0;
}

int metadb_open(struct metadb *db, const char *path, unsigned cache_kib, struct vx_err *err)
{
	char sql[256];

	int rc = metadb_connect(db, path, SQLITE_OPEN_READWRITE, err);
	if (rc)
		return rc;
	snprintf(sql, sizeof sql,
		"PRAGMA synchronous=NORMAL; PRAGMA cache_size=-%u; PRAGMA temp_store=MEMORY;"
		"PRAGMA mmap_size=0; PRAGMA cell_size_check=ON;",
		cache_kib);
	rc = metadb_exec(db, sql, err);
	if (rc)
		metadb_close(db);
	return rc;
}

uint64_t metadb_wal_bytes(struct metadb *db)
{
	sqlite3_file *f = NULL;
	sqlite3_int64 n = 0;

	if (sqlite3_file_control(db->c, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f) || !f ||
		!f->pMethods || f->pMethods->xFileSize(f, &n))
		return 0;
	return (uint64_t)n;
}

int metadb_open_copy(struct metadb *db, const char *path, unsigned cache_kib, struct vx_err *err)
{
	char sql[128];

	int rc = metadb_connect(db, path, SQLITE_OPEN_READONLY, err);
	if (rc)
		return rc;
	snprintf(sql, sizeof sql,
		"PRAGMA cache_size=-%u; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;"
		"PRAGMA cell_size_check=ON;",
		cache_kib);
	rc = metadb_exec(db, sql, err);
	if (rc)
		metadb_close(db);
	return rc;
}

/* All pages in one step: one read transaction of 'from', and no restarts because of its writer. */
static int copy_pages(struct metadb *to, struct metadb *from, struct vx_err *err)
{
	sqlite3_backup *b = sqlite3_backup_init(to->c, "main", from->c, "main");
	if (!b)
		return metadb_err(to, metadb_errno(to->c, sqlite3_extended_errcode(to->c)), err);
	int step = sqlite3_backup_step(b, -1);
	int rc = sqlite3_backup_finish(b);
	if (step == SQLITE_DONE && rc == SQLITE_OK)
		return 0;
	rc = metadb_errno(to->c, step == SQLITE_DONE ? rc : step);
	return vx_err_set(err, rc ? rc : -EIO, "meta.db: cannot be copied: %s",
		sqlite3_errstr(step == SQLITE_DONE ? rc : step));
}

int metadb_copy(struct metadb *from, const char *to, struct vx_err *err)
{
	struct metadb db;

	int rc = metadb_connect(&db, to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
	if (rc)
		return rc;
	rc = metadb_exec(&db, "PRAGMA page_size=4096; PRAGMA synchronous=OFF;", err);
	if (rc == 0 && pagesum_reserve(db.c))
		rc = vx_err_set(err, -EIO, "meta.db: no room for checksums");
	/* The file must be known for one with checksums before its first page is copied. */
	if (rc == 0)
		rc = metadb_exec(&db, "CREATE TABLE first(a)", err);
	if (rc == 0)
		rc = copy_pages(&db, from, err);
	metadb_close(&db);
	if (rc)
		return rc;
	rc = metadb_connect(&db, to, SQLITE_OPEN_READWRITE, err);
	if (rc)
		return rc;
	rc = metadb_exec(&db,
		"PRAGMA synchronous=OFF; PRAGMA journal_mode=DELETE;"
		"BEGIN; DELETE FROM batches; DELETE FROM recent; DELETE FROM hist; COMMIT;",
		err);
	metadb_close(&db);
	return rc;
}

void metadb_close(struct metadb *db)
{
	for (int i = 0; i < ST_MAX; i++)
		sqlite3_finalize(db->st[i]);
	if (db->c) {
		int rc = sqlite3_close(db->c);
		assert(rc == SQLITE_OK);
		(void)rc;
	}
	*db = (struct metadb){.c = NULL};
}

/* Makes the file with its tables and first state, all in one transaction behind the switch to WAL.
 * Nothing is synced: until the mark the log can make the slice again. */
int metadb_create(const char *path, uint32_t cid, const void *schema, size_t schema_len,
	const struct metadb_state *st, struct vx_err *err)
{
	struct metadb db;
	sqlite3_stmt *ins = NULL;

	int rc = metadb_connect(&db, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
	if (rc)
		return rc;
	rc = metadb_exec(&db, "PRAGMA page_size=4096; PRAGMA synchronous=OFF;", err);
	if (rc == 0 && pagesum_reserve(db.c))
		rc = vx_err_set(err, -EIO, "meta.db: no room for checksums");
	if (rc == 0)
		rc = metadb_exec(&db, "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE;", err);
	if (rc == 0)
		rc = metadb_exec(&db, create_sql, err);
	if (rc)
		goto out;
	rc = sqlite3_prepare_v2(db.c,
		"INSERT INTO state VALUES(1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", -1, &ins, NULL);
	if (rc == 0) {
		sqlite3_bind_int64(ins, 1, STORE_FORMAT);
		sqlite3_bind_int64(ins, 2, cid);
		sqlite3_bind_blob(ins, 3, schema, (int)schema_len, SQLITE_STATIC);
		sqlite3_bind_int64(ins, 4, (int64_t)st->generation);
		sqlite3_bind_int64(ins, 5, (int64_t)st->applied);
		sqlite3_bind_int64(ins, 6, (int64_t)st->next_slot);
		sqlite3_bind_int64(ins, 7, (int64_t)st->next_rowid);
		sqlite3_bind_int64(ins, 8, (int64_t)st->next_recent);
		sqlite3_bind_int64(ins, 9, (int64_t)st->count);
		rc = sqlite3_step(ins);
		rc = rc == SQLITE_DONE ? 0 : rc;
	}
	if (rc)
		rc = metadb_err(&db, metadb_errno(db.c, sqlite3_extended_errcode(db.c)), err);
	sqlite3_finalize(ins);
	if (rc == 0)
		rc = metadb_exec(&db, "COMMIT", err);
out:
	metadb_close(&db);
	return rc;
}

int metadb_check(struct metadb *db, struct vx_err *err)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->c, "PRAGMA integrity_check(1)", -1, &st, NULL);

	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(st, 0);
		rc = 0;
		if (text && strcmp(text, "ok") != 0)
			rc = vx_err_set(err, -EUCLEAN, "meta.db: %s", text);
	} else {
		rc = metadb_err(db, metadb_errno(db->c, sqlite3_extended_errcode(db->c)), err);
	}
	sqlite3_finalize(st);
	return rc;
}

int metadb_applied(struct metadb *db, uint64_t *ret, struct vx_err *err)
{
	sqlite3_stmt *st;

	int rc = metadb_get(db, ST_STATE_GET, &st);
	if (rc)
		return metadb_err(db, rc, err);
	rc = metadb_step(db, st);
	uint64_t applied = rc == 1 ? (uint64_t)sqlite3_column_int64(st, 4) : 0;
	sqlite3_reset(st);
	if (rc < 0)
		return metadb_err(db, rc, err);
	*ret = applied;
	return 0;
}

int metadb_load_state(struct metadb *db, uint32_t cid, struct slice_schema *ret_schema,
	struct metadb_state *ret, struct vx_err *err)
{
	sqlite3_stmt *st;

	int rc = sqlite3_prepare_v2(
		db->c, "SELECT 1 FROM sqlite_master WHERE name = 'state'", -1, &st, NULL);
	if (rc)
		return metadb_err(db, metadb_errno(db->c, sqlite3_extended_errcode(db->c)), err);
	rc = metadb_step(db, st);
	if (rc < 0)
		metadb_err(db, rc, err);
	sqlite3_finalize(st);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return vx_err_set(err, -ENODATA, "meta.db: was never finished");

	rc = metadb_get(db, ST_STATE_GET, &st);
	if (rc)
		return metadb_err(db, rc, err);
	rc = metadb_step(db, st);
	if (rc < 0) {
		metadb_err(db, rc, err);
		goto out;
	}
	if (rc == 0) {
		rc = vx_err_set(err, -ENODATA, "meta.db: was never finished");
		goto out;
	}
	int64_t format = sqlite3_column_int64(st, 0);
	if (format != STORE_FORMAT) {
		rc = vx_err_set(
			err, -EUCLEAN, "meta.db: format %lld is not known", (long long)format);
		goto out;
	}
	rc = slice_schema_decode(
		sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2), ret_schema);
	if (rc == 0 && cid == 0)
		cid = ret_schema->cid;
	if (rc || ret_schema->cid != cid || sqlite3_column_int64(st, 1) != cid) {
		rc = vx_err_set(err, -EUCLEAN, "meta.db: the schema is damaged or another's");
		goto out;
	}
	*ret = (struct metadb_state){
		.generation = (uint64_t)sqlite3_column_int64(st, 3),
		.applied = (uint64_t)sqlite3_column_int64(st, 4),
		.next_slot = (uint64_t)sqlite3_column_int64(st, 5),
		.next_rowid = (uint64_t)sqlite3_column_int64(st, 6),
		.next_recent = (uint64_t)sqlite3_column_int64(st, 7),
		.count = (uint64_t)sqlite3_column_int64(st, 8),
	};
	if (ret->generation < 1 || ret->generation > GENERATION_MAX ||
		ret->next_slot > VX_SLOTS_MAX || ret->count > ret->next_slot)
		rc = vx_err_set(err, -EUCLEAN, "meta.db: the state makes no sense");
out:
	sqlite3_reset(st);
	return rc;
}
