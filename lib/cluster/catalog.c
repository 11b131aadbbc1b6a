/* catalog.c - the meta group's state machine: names, options, placements.
 *
 * catalog.db (SQLite) is the durable form, the list of 'struct coll' in memory the one that is read.
 * An entry is applied in one transaction that also advances the applied index, so replay after a crash
 * skips what is there already; only then is the list changed.  What is decided here is decided from the
 * database and the entry alone, hence equal on every replica.
 */
#include "cluster/catalog.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unsynced.h"
#include "store/claim.h"
#include "store/pagesum.h"

#define CATALOG_FORMAT 1
#define CATALOG_CLAIM  "catalog.mark" /* what catalog.db had at the last mark: claim.h */
#define BUSY_MS        10000
#define SEALED         "sealed" /* row of 'opt': the collection has had records */

struct catalog {
	sqlite3 *sq;
	uint64_t applied; /* meta worker only, after open */
	bool fresh;       /* made by this open */
	int sync_failed;  /* marks only: why none can be vouched for any more; 0: none */
};

static const char schema_sql[] =
	"CREATE TABLE IF NOT EXISTS state(key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS coll(cid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" ctime_ns INTEGER NOT NULL, epoch INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS opt(cid INTEGER, key TEXT, value TEXT NOT NULL,"
	" PRIMARY KEY(cid, key)) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS place(cid INTEGER, first INTEGER, last INTEGER NOT NULL,"
	" shard INTEGER NOT NULL, PRIMARY KEY(cid, first)) WITHOUT ROWID;";

static int map_sqlite(int rc)
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
	case SQLITE_BUSY: /* longer than BUSY_MS: an applier tries again */
		return -EAGAIN;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_IOERR:
		return rc == SQLITE_IOERR_NOMEM || rc == SQLITE_IOERR_SHMMAP ? -ENOMEM : -EIO;
	default:
		return -EIO;
	}
}

/* True on a row.  An error is not the end of the rows: what could not be read must not look as if it
 * had never been, since slices that no collection owns are dropped. */
static bool next_row(sqlite3_stmt *st, int *ret_rc)
{
	int rc = sqlite3_step(st);

	*ret_rc = map_sqlite(rc);
	return rc == SQLITE_ROW;
}

/* Runs one statement with up to three integers and two texts bound in that order: "i" and "s" in 'fmt'. */
static int run(sqlite3 *sq, const char *sql, const char *fmt, ...)
{
	sqlite3_stmt *st;
	va_list ap;
	int rc = sqlite3_prepare_v2(sq, sql, -1, &st, NULL);

	if (rc)
		return map_sqlite(rc);
	va_start(ap, fmt);
	/* What is not bound would be NULL. */
	for (int i = 1; *fmt && rc == SQLITE_OK; fmt++, i++) {
		if (*fmt == 'i')
			rc = sqlite3_bind_int64(st, i, va_arg(ap, sqlite3_int64));
		else
			rc = sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
	}
	va_end(ap);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	int rc2 = sqlite3_finalize(st);
	return map_sqlite(rc == SQLITE_DONE || rc == SQLITE_ROW ? rc2 : rc);
}

static int get_state(sqlite3 *sq, const char *key, uint64_t def, uint64_t *ret)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(sq, "SELECT value FROM state WHERE key=?", -1, &st, NULL);

	if (rc)
		return map_sqlite(rc);
	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*ret = (uint64_t)sqlite3_column_int64(st, 0);
	else if (rc == SQLITE_DONE)
		*ret = def;
	sqlite3_finalize(st);
	return map_sqlite(rc);
}

static int set_state(sqlite3 *sq, const char *key, uint64_t v)
{
	return run(sq, "INSERT OR REPLACE INTO state VALUES(?,?)", "si", key, (sqlite3_int64)v);
}

/* --- the list in memory ------------------------------------------------------------------ */
/* Copies the options that searches and writers read on every call into plain numbers. */
static void refresh(struct coll *c)
{
	enum vx_metric m = VX_COSINE;
	const char *r = coll_opt_get(c, CO_RECALL);
	float recall = 0; /* the default */
	uint64_t size = 0;

	(void)!vx_metric_parse(coll_opt_get(c, CO_METRIC), &m);
	atomic_store_explicit(&c->metric, m, memory_order_relaxed);
	atomic_store_explicit(
		&c->ef_search, (uint32_t)atoi(coll_opt_get(c, CO_EF_SEARCH)), memory_order_relaxed);
	(void)!vx_recall_parse(r, strlen(r), &recall, NULL);
	atomic_store_explicit(&c->recall, recall, memory_order_relaxed);
	atomic_store_explicit(
		&c->k_default, (uint32_t)atoi(coll_opt_get(c, CO_K)), memory_order_relaxed);
	atomic_store_explicit(
		&c->links, (uint32_t)atoi(coll_opt_get(c, CO_M)), memory_order_relaxed);
	(void)quota_parse(coll_opt_get(c, CO_MEMORY_MAX), &size);
	atomic_store_explicit(&c->memory_max, size, memory_order_relaxed);
	size = 0;
	(void)quota_parse(coll_opt_get(c, CO_QUOTA_MAX), &size);
	atomic_store_explicit(&c->quota_max, size, memory_order_relaxed);
	/* Last, with release: whoever sees the dimension sees the metric it was fixed with. */
	atomic_store_explicit(
		&c->dim, (uint32_t)atoi(coll_opt_get(c, CO_DIM)), memory_order_release);
}

static void coll_free(struct coll *c)
{
	for (int i = 0; i < CO_N; i++)
		free(c->opt[i]);
	free(c->places);
	free(c);
}

struct coll *coll_ref(struct coll *c)
{
	c->refs++;
	return c;
}

void coll_put(struct coll *c)
{
	if (!c)
		return;
	struct db *db = c->db;
	vx_lock(&db->coll_lock);
	bool last = --c->refs == 0;
	vx_unlock(&db->coll_lock);
	if (last)
		coll_free(c);
}

static void list_add(struct db *db, struct coll *c)
{
	struct coll **p = &db->colls;

	vx_lock(&db->coll_lock);
	while (*p && strcmp((*p)->name, c->name) < 0)
		p = &(*p)->next;
	c->next = *p;
	*p = c;
	c->refs = 1;
	vx_unlock(&db->coll_lock);
	atomic_fetch_add(&db->catalog_version, 1);
}

static struct coll *list_find(struct db *db, uint32_t cid)
{
	struct coll *c;

	vx_lock(&db->coll_lock);
	for (c = db->colls; c && c->cid != cid; c = c->next)
		;
	if (c)
		coll_ref(c);
	vx_unlock(&db->coll_lock);
	return c;
}

/* Takes one struct out of the list; the collection goes on under another one. */
static void list_unlink(struct db *db, struct coll *c)
{
	bool there = false;

	vx_lock(&db->coll_lock);
	for (struct coll **p = &db->colls; *p && !there; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			there = true;
			break;
		}
	}
	vx_unlock(&db->coll_lock);
	if (there)
		coll_put(c);
	atomic_fetch_add(&db->catalog_version, 1);
}

static void list_remove(struct db *db, uint32_t cid)
{
	struct coll *c = NULL;

	vx_lock(&db->coll_lock);
	for (struct coll **p = &db->colls; *p; p = &(*p)->next) {
		if ((*p)->cid == cid) {
			c = *p;
			*p = c->next;
			break;
		}
	}
	if (c)
		atomic_store(&c->gone, true);
	vx_unlock(&db->coll_lock);
	coll_put(c);
	atomic_fetch_add(&db->catalog_version, 1);
}

/* Reads one collection from the database into the list. */
static int load_coll(struct db *db, uint32_t cid)
{
	sqlite3 *sq = db->catalog->sq;
	sqlite3_stmt *st = NULL;
	struct coll *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	c->db = db;
	c->cid = cid;
	int rc = map_sqlite(sqlite3_prepare_v2(
		sq, "SELECT name, ctime_ns, epoch FROM coll WHERE cid=?", -1, &st, NULL));
	if (rc)
		goto out;
	sqlite3_bind_int64(st, 1, cid);
	rc = sqlite3_step(st);
	if (rc != SQLITE_ROW) {
		rc = rc == SQLITE_DONE ? -EUCLEAN : map_sqlite(rc);
		goto out;
	}
	rc = 0;
	snprintf(c->name, sizeof c->name, "%s", (const char *)sqlite3_column_text(st, 0));
	c->ctime_ns = (uint64_t)sqlite3_column_int64(st, 1);
	atomic_init(&c->epoch, (uint32_t)sqlite3_column_int64(st, 2));
	sqlite3_finalize(st);
	st = NULL;
	rc = map_sqlite(
		sqlite3_prepare_v2(sq, "SELECT key, value FROM opt WHERE cid=?", -1, &st, NULL));
	if (rc)
		goto out;
	sqlite3_bind_int64(st, 1, cid);
	while (next_row(st, &rc)) {
		int o = coll_opt_find((const char *)sqlite3_column_text(st, 0));

		if (strcmp((const char *)sqlite3_column_text(st, 0), SEALED) == 0)
			atomic_store(&c->sealed, true);
		if (o < 0)
			continue;
		c->opt[o] = strdup((const char *)sqlite3_column_text(st, 1));
		if (!c->opt[o]) {
			rc = -ENOMEM;
			goto out;
		}
	}
	sqlite3_finalize(st);
	st = NULL;
	if (rc)
		goto out;
	rc = map_sqlite(sqlite3_prepare_v2(sq,
		"SELECT first, last, shard FROM place WHERE cid=? ORDER BY first", -1, &st, NULL));
	if (rc)
		goto out;
	sqlite3_bind_int64(st, 1, cid);
	while (next_row(st, &rc)) {
		struct placement *p = realloc(c->places, (c->n_places + 1) * sizeof *p);

		if (!p) {
			rc = -ENOMEM;
			goto out;
		}
		c->places = p;
		p[c->n_places].first = (uint16_t)sqlite3_column_int(st, 0);
		p[c->n_places].last = (uint16_t)sqlite3_column_int(st, 1);
		p[c->n_places].shard = (uint32_t)sqlite3_column_int(st, 2);
		if (p[c->n_places].shard >= db->n_shards) {
			rc = -EUCLEAN;
			goto out;
		}
		c->n_places++;
	}
	if (rc == 0 && c->n_places == 0)
		rc = -EUCLEAN;
out:
	sqlite3_finalize(st);
	if (rc) {
		coll_free(c);
		return rc;
	}
	refresh(c);
	list_add(db, c);
	return 0;
}

/* --- opening --------------------------------------------------------------------------------- */
/* The log has let go of what the mark found here. */
static int check_claim(struct db *db, const char *path, struct vx_err *err)
{
	char mark[4096];
	int rc = path_join(mark, sizeof mark, "%s/" CATALOG_CLAIM, db->dir);

	if (rc)
		return rc;
	uint64_t claimed = claim_read(disk_real(), mark);
	if (db->catalog->applied >= claimed)
		return 0;
	return vx_err_set(err, -EUCLEAN,
		"%s: has lost entries %llu to %llu: the file, or its -wal file, is damaged or "
		"missing",
		path, (unsigned long long)db->catalog->applied + 1, (unsigned long long)claimed);
}

int catalog_open(struct db *db, struct vx_err *err)
{
	char path[4096];
	sqlite3_stmt *st = NULL;
	uint64_t format = 0;
	struct catalog *cat = calloc(1, sizeof *cat);
	int rc = path_join(path, sizeof path, "%s/catalog.db", db->dir);

	if (rc || !cat) {
		free(cat);
		return rc ? rc : -ENOMEM;
	}
	db->catalog = cat;
	bool unsynced;
	rc = unsynced_settle(db->dir, false, &unsynced);
	if (unsynced)
		log_warn("cluster",
			"%s could not be synced by the last daemon: read from disk anew", path);
	if (rc == 0)
		rc = map_sqlite(pagesum_register());
	if (rc == 0)
		rc = map_sqlite(sqlite3_open_v2(path, &cat->sq,
			SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
			PAGESUM_VFS));
	if (rc == 0) {
		(void)sqlite3_extended_result_codes(cat->sq, 1); /* of map_sqlite */
		/* A mark holds the writer's lock while it copies SQLite's log back. */
		sqlite3_busy_timeout(cat->sq, BUSY_MS);
	}
	if (rc == 0)
		rc = map_sqlite(pagesum_reserve(cat->sq));
	if (rc == 0)
		rc = map_sqlite(sqlite3_exec(cat->sq,
			"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
			"PRAGMA wal_autocheckpoint=0;",
			NULL, NULL, NULL));
	if (rc == 0)
		rc = map_sqlite(sqlite3_exec(cat->sq, schema_sql, NULL, NULL, NULL));
	if (rc == 0)
		rc = get_state(cat->sq, "format", 0, &format);
	cat->fresh = rc == 0 && format == 0;
	if (rc == 0 && !cat->fresh && format != CATALOG_FORMAT)
		return vx_err_set(err, -EOPNOTSUPP, "%s: format %llu; this vecfsd knows %d", path,
			(unsigned long long)format, CATALOG_FORMAT);
	if (rc == 0)
		rc = set_state(cat->sq, "format", CATALOG_FORMAT);
	if (rc == 0)
		rc = get_state(cat->sq, "applied", 0, &cat->applied);
	if (rc == 0 && (rc = check_claim(db, path, err)) != 0)
		return rc;
	if (rc == 0)
		rc = map_sqlite(sqlite3_prepare_v2(cat->sq, "SELECT cid FROM coll", -1, &st, NULL));
	while (rc == 0 && next_row(st, &rc))
		rc = load_coll(db, (uint32_t)sqlite3_column_int64(st, 0));
	sqlite3_finalize(st);
	if (rc)
		return vx_err_set(err, rc, "%s: %s", path,
			cat->sq && sqlite3_errcode(cat->sq) ? sqlite3_errmsg(cat->sq)
							    : strerror(-rc));
	return 0;
}

void catalog_close(struct db *db)
{
	if (!db->catalog)
		return;
	while (db->colls)
		list_remove(db, db->colls->cid);
	sqlite3_close(db->catalog->sq);
	free(db->catalog);
	db->catalog = NULL;
}

uint64_t catalog_applied(const struct db *db)
{
	return db->catalog->applied;
}

bool catalog_fresh(const struct db *db)
{
	return db->catalog->fresh;
}

/* Claims all that is in the file now, synced once more: some of it may have come since it was copied back. */
static int claim(struct db *db, sqlite3 *sq)
{
	struct disk *d = disk_real();
	char path[4096];
	uint64_t applied = 0;
	int rc = get_state(sq, "applied", 0, &applied);

	if (rc == 0)
		rc = path_join(path, sizeof path, "%s/catalog.db-wal", db->dir);
	if (rc)
		return rc;
	int fd = d->ops->open(d, path, O_RDWR, 0);
	if (fd >= 0) {
		/* Whatever it is, pages may be lost: no second try proves anything. */
		rc = d->ops->fdatasync(d, fd) ? -EIO : 0;
		(void)d->ops->close(d, fd);
	}
	if (rc == 0)
		rc = path_join(path, sizeof path, "%s/" CATALOG_CLAIM, db->dir);
	if (rc == 0) /* nothing depends on it but the notice of damage */
		(void)!claim_write(d, path, applied);
	return rc;
}

int catalog_mark(struct db *db)
{
	/* A connection of its own: the apply worker goes on meanwhile. */
	char path[4096];
	sqlite3 *sq = NULL;
	int rc = path_join(path, sizeof path, "%s/catalog.db", db->dir);

	if (rc || db->catalog->sync_failed)
		return rc ? rc : db->catalog->sync_failed;
	rc = sqlite3_open_v2(path, &sq, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, PAGESUM_VFS);
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(sq, BUSY_MS);
		/* FULL: the database file is synced before the WAL may be reused. */
		rc = sqlite3_exec(sq, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_wal_checkpoint_v2(sq, NULL, SQLITE_CHECKPOINT_FULL, NULL, NULL);
	rc = map_sqlite(rc);
	if (rc == 0)
		rc = claim(db, sq);
	sqlite3_close(sq);
	if (rc == -EIO) { /* the next sync might succeed without having written anything */
		db->catalog->sync_failed = rc;
		unsynced_note(db->dir);
		log_error("cluster",
			"%s: cannot sync: it is not marked again before the next start, its log is "
			"kept",
			path);
	}
	return rc;
}

/* --- applying ------------------------------------------------------------------------------------ */
static int rd_string(struct bytes_reader *r, size_t n, char *out, size_t cap)
{
	const char *p = rd_bytes(r, n);

	if (!p || n >= cap)
		return -EUCLEAN;
	memcpy(out, p, n);
	out[n] = 0;
	return 0;
}

static int rd_pair(struct bytes_reader *r, char key[64], char value[CONFIG_VALUE_MAX + 1])
{
	int rc = rd_string(r, rd_u8(r), key, 64);

	return rc ? rc : rd_string(r, rd_le16(r), value, CONFIG_VALUE_MAX + 1);
}

static int op_create(
	struct db *db, struct bytes_reader *r, uint64_t time_ns, int *ret_status, uint32_t *ret_cid)
{
	sqlite3 *sq = db->catalog->sq;
	char name[VX_NAME_MAX + 1], key[64], value[CONFIG_VALUE_MAX + 1];
	uint64_t cid = 1;
	sqlite3_stmt *st;
	int rc = rd_string(r, rd_u8(r), name, sizeof name);

	if (rc == 0)
		rc = get_state(sq, "next_cid", 1, &cid);
	if (rc == 0)
		rc = map_sqlite(
			sqlite3_prepare_v2(sq, "SELECT 1 FROM coll WHERE name=?", -1, &st, NULL));
	if (rc)
		return rc;
	sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	bool exists = next_row(st, &rc);
	sqlite3_finalize(st);
	if (rc)
		return rc;
	if (exists) {
		*ret_status = -EEXIST;
		return 0;
	}
	rc = set_state(sq, "next_cid", cid + 1);
	if (rc == 0)
		rc = run(sq, "INSERT INTO coll VALUES(?,?,?,1)", "isi", (sqlite3_int64)cid, name,
			(sqlite3_int64)time_ns);
	for (uint16_t n = rd_le16(r); rc == 0 && n > 0; n--) {
		rc = rd_pair(r, key, value);
		if (rc == 0)
			rc = run(sq, "INSERT OR REPLACE INTO opt VALUES(?,?,?)", "iss",
				(sqlite3_int64)cid, key, value);
	}
	for (uint16_t n = rd_le16(r); rc == 0 && n > 0; n--) {
		sqlite3_int64 first = rd_le16(r), last = rd_le16(r), shard = rd_le32(r);

		rc = run(sq, "INSERT INTO place VALUES(?,?,?,?)", "iiii", (sqlite3_int64)cid, first,
			last, shard);
	}
	if (rc == 0 && r->bad)
		rc = -EUCLEAN;
	*ret_cid = (uint32_t)cid;
	return rc;
}

static int forget(sqlite3 *sq, sqlite3_int64 cid)
{
	int rc = run(sq, "DELETE FROM opt WHERE cid=?", "i", cid);

	if (rc == 0)
		rc = run(sq, "DELETE FROM place WHERE cid=?", "i", cid);
	return rc ? rc : run(sq, "DELETE FROM coll WHERE cid=?", "i", cid);
}

static int op_drop(struct db *db, struct bytes_reader *r, int *ret_status, uint32_t *ret_cid)
{
	sqlite3 *sq = db->catalog->sq;
	sqlite3_int64 cid = rd_le32(r);
	int rc = forget(sq, cid);

	if (rc == 0 && sqlite3_changes(sq) == 0)
		*ret_status = -ENOENT;
	else
		*ret_cid = (uint32_t)cid;
	return rc;
}

/* Whoever had the name is dropped in the same transaction: there is no moment without one. */
static int op_rename(struct db *db, struct bytes_reader *r, int *ret_status, uint32_t *ret_cid,
	uint32_t *ret_old)
{
	sqlite3 *sq = db->catalog->sq;
	char name[VX_NAME_MAX + 1];
	sqlite3_int64 cid = rd_le32(r), old = 0;
	sqlite3_stmt *st;

	int rc = rd_string(r, rd_u8(r), name, sizeof name);
	bool replace = rd_u8(r) != 0;
	if (rc || r->bad)
		return -EUCLEAN;
	rc = map_sqlite(sqlite3_prepare_v2(sq, "SELECT cid FROM coll WHERE name=?", -1, &st, NULL));
	if (rc)
		return rc;
	sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	if (next_row(st, &rc))
		old = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	if (rc)
		return rc;
	if (old && (!replace || old == cid)) {
		*ret_status = -EEXIST;
		return 0;
	}
	struct coll *c = list_find(db, (uint32_t)cid);
	coll_put(c);
	if (!c) {
		*ret_status = -ENOENT;
		return 0;
	}
	if (old)
		rc = forget(sq, old);
	if (rc == 0)
		rc = run(sq, "UPDATE coll SET name=?, epoch=epoch+1 WHERE cid=?", "si", name, cid);
	*ret_cid = (uint32_t)cid;
	*ret_old = (uint32_t)old;
	return rc;
}

/* Out of memory there is no way back: what is in the database must be in the list. */
static int load_coll_for_sure(struct db *db, uint32_t cid)
{
	int rc;

	while ((rc = load_coll(db, cid)) == -ENOMEM)
		usleep(100000);
	return rc;
}

/* The new name first: lookups find it from then on. */
static int list_rename(struct db *db, uint32_t cid, uint32_t old)
{
	struct coll *before = list_find(db, cid);

	int rc = load_coll_for_sure(db, cid);
	if (rc == 0 && before)
		list_unlink(db, before);
	coll_put(before);
	if (old)
		list_remove(db, old);
	return rc;
}

/* SET_DIM comes before a collection's first record: it fixes the dimension, if that was open, and seals the
 * collection.  SET_OPTION of a fixed option is refused from then on: slices exist that were made with it. */
static int op_set(struct db *db, struct bytes_reader *r, bool dim_only, int *ret_status,
	uint32_t *ret_cid, char key[64], char value[CONFIG_VALUE_MAX + 1])
{
	sqlite3 *sq = db->catalog->sq;
	uint32_t cid = rd_le32(r);
	int rc = 0;

	if (dim_only) {
		strcpy(key, "dim");
		snprintf(value, CONFIG_VALUE_MAX + 1, "%u", rd_le32(r));
	} else {
		rc = rd_pair(r, key, value);
	}
	if (rc || r->bad)
		return -EUCLEAN;
	struct coll *c = list_find(db, cid);
	if (!c) {
		*ret_status = -ENOENT;
		return 0;
	}
	/* The list equals the database here: this worker alone changes both. */
	int o = coll_opt_find(key);
	vx_lock(&db->coll_lock);
	bool same = o >= 0 && strcmp(coll_opt_get(c, (enum coll_opt)o), value) == 0;
	vx_unlock(&db->coll_lock);
	bool sealed = atomic_load(&c->sealed);
	bool open_dim = atomic_load_explicit(&c->dim, memory_order_relaxed) == 0;

	*ret_cid = cid;
	if (dim_only && !same && !open_dim)
		*ret_status = -ESTALE;
	else if (!dim_only && o >= 0 && coll_options[o].fixed && sealed && !same)
		*ret_status = -EPERM;
	if (*ret_status == 0)
		rc = run(sq, "INSERT OR REPLACE INTO opt VALUES(?,?,?)", "iss", (sqlite3_int64)cid,
			key, value);
	if (rc == 0 && *ret_status == 0 && dim_only)
		rc = run(sq, "INSERT OR REPLACE INTO opt VALUES(?,?,?)", "iss", (sqlite3_int64)cid,
			SEALED, "1");
	if (rc == 0 && *ret_status == 0)
		rc = run(sq, "UPDATE coll SET epoch=epoch+1 WHERE cid=?", "i", (sqlite3_int64)cid);
	coll_put(c);
	return rc;
}

static void list_set(struct db *db, uint32_t cid, const char *key, const char *value, bool seal)
{
	struct coll *c = list_find(db, cid);
	int o = coll_opt_find(key);

	if (c && o >= 0) {
		char *copy = strdup(value);

		vx_lock(&db->coll_lock);
		if (copy) { /* else the old value serves until the next start */
			free(c->opt[o]);
			c->opt[o] = copy;
		}
		refresh(c);
		if (seal) /* after the dimension: whoever sees this one sees that one */
			atomic_store_explicit(&c->sealed, true, memory_order_release);
		vx_unlock(&db->coll_lock);
		atomic_fetch_add_explicit(&c->epoch, 1, memory_order_relaxed);
	}
	coll_put(c);
}

/* A full disk has several codes: SQLite tells some of them as errors of input and output. */
static int apply_errno(const struct catalog *cat, int rc)
{
	int sys = rc == -EIO ? sqlite3_system_errno(cat->sq) : 0;

	return sys == ENOSPC || sys == EDQUOT ? -ENOSPC : rc;
}

int catalog_apply(struct db *db, uint64_t index, const void *entry, size_t len, int *ret_status,
	uint32_t *ret_cid)
{
	struct catalog *cat = db->catalog;
	struct entry_reader e;
	char key[64], value[CONFIG_VALUE_MAX + 1];
	uint32_t old = 0;
	int rc = 0;

	*ret_status = 0;
	*ret_cid = 0;
	if (index <= cat->applied)
		return 0;
	if (entry_open(&e, entry, len) || e.h.kind != ENTRY_CATALOG) {
		log_error("catalog", "index %llu: not a catalog entry; ignored",
			(unsigned long long)index);
		*ret_status = -EUCLEAN;
		return 0;
	}
	struct bytes_reader r = {.p = e.payload, .left = e.payload_len};
	enum catalog_op op = (enum catalog_op)rd_u8(&r);

	rc = map_sqlite(sqlite3_exec(cat->sq, "BEGIN IMMEDIATE", NULL, NULL, NULL));
	if (rc)
		return apply_errno(cat, rc);
	switch (op) {
	case CAT_CREATE:
		rc = op_create(db, &r, e.h.time_ns, ret_status, ret_cid);
		break;
	case CAT_DROP:
		rc = op_drop(db, &r, ret_status, ret_cid);
		break;
	case CAT_SET_DIM:
	case CAT_SET_OPTION:
		rc = op_set(db, &r, op == CAT_SET_DIM, ret_status, ret_cid, key, value);
		break;
	case CAT_RENAME:
		rc = op_rename(db, &r, ret_status, ret_cid, &old);
		break;
	default:
		*ret_status = -EOPNOTSUPP;
	}
	if (rc == -EUCLEAN) { /* an entry that does not parse changes nothing */
		(void)sqlite3_exec(cat->sq, "ROLLBACK", NULL, NULL, NULL);
		*ret_status = rc;
		*ret_cid = 0;
		rc = map_sqlite(sqlite3_exec(cat->sq, "BEGIN IMMEDIATE", NULL, NULL, NULL));
	}
	if (rc == 0)
		rc = set_state(cat->sq, "applied", index);
	if (rc == 0)
		rc = map_sqlite(sqlite3_exec(cat->sq, "COMMIT", NULL, NULL, NULL));
	if (rc) {
		rc = apply_errno(cat, rc);
		(void)sqlite3_exec(cat->sq, "ROLLBACK", NULL, NULL, NULL);
		return rc;
	}
	cat->applied = index;
	if (*ret_status || *ret_cid == 0)
		return 0;
	if (op == CAT_CREATE)
		rc = load_coll_for_sure(db, *ret_cid);
	else if (op == CAT_RENAME)
		rc = list_rename(db, *ret_cid, old);
	else if (op == CAT_DROP)
		list_remove(db, *ret_cid);
	else
		list_set(db, *ret_cid, key, value, op == CAT_SET_DIM);
	return rc;
}

/* --- building entries -------------------------------------------------------------------------------- */
int cat_put_name(struct buf *b, const char *name)
{
	size_t n = strlen(name);
	int rc = buf_put_u8(b, (uint8_t)n);

	return rc ? rc : buf_append(b, name, n);
}

int cat_put_pair(struct buf *b, const char *key, const char *value)
{
	size_t n = strlen(value);
	int rc = cat_put_name(b, key);

	if (rc == 0)
		rc = buf_put_le16(b, (uint16_t)n);
	return rc ? rc : buf_append(b, value, n);
}
