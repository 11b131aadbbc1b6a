/* fsck.c - the checks of a whole data directory, in the order in which one needs the other.
 *
 *	lock        nobody serves it
 *	node.json   how many shards; whose log
 *	wal/        recovered in memory: marks, and the entries behind them
 *	catalog.db  collections and their places
 *	shard-NNN/  lib/store/verify.h
 *	snapshots/  each file and each record, as a restore would read them
 *
 *
 * Where a part is missing the later ones go on without it: with no log nothing is excused by it, with no catalog
 * no id is out of place.
 *
 * A first start makes lock, node.json, wal/, catalog.db, shards and segments of the log, in this order.  Whatever it had
 * when it was cut off is no damage, and the next start finishes it; what stands before is excused only
 * while nothing that comes later is there.
 */
#include "cluster/fsck.h"

#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "cluster/fsck_i.h"
#include "cluster/snapshot_i.h"
#include "store/claim.h"
#include "store/pagesum.h"
#include "wal/wal.h"

#define COMMAND 1 /* type of an entry: docs/format-raft.md */

/* --- a first start that was cut off ---------------------------------------------------------- */

#define UNFINISHED "an incomplete first start: start the daemon to finish it"

/* No identity yet: nothing but what is made before it.  -1: there is not even that. */
static int unborn(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int any = -1;

	if (!d)
		return 0;
	while (any && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		any = strcmp(e->d_name, "lock") == 0 || strcmp(e->d_name, "node.json.tmp") == 0;
	}
	closedir(d);
	return any;
}

bool node_is_data(const char *dir)
{
	static const char *const names[] = {"node.json", "catalog.db"};
	char path[4096];
	struct stat st;

	for (size_t i = 0; i < VX_ARRAY_SIZE(names); i++) {
		if (path_join(path, sizeof path, "%s/%s", dir, names[i]) == 0 &&
			stat(path, &st) == 0 && S_ISREG(st.st_mode))
			return true;
	}
	/* A name alone is more likely that of a collection than of an empty directory. */
	int is = unborn(dir);
	return is > 0 || (is < 0 && strchr(dir, '/') != NULL);
}

static bool has(const struct node_check *n, const char *name)
{
	char path[4096];

	return path_join(path, sizeof path, "%s/%s", n->db.dir, name) == 0 &&
	       access(path, F_OK) == 0;
}

static int any_segment(void *arg, const char *name)
{
	size_t len = strlen(name);

	(void)arg;
	return len == 14 && strcmp(name + 10, ".wal") == 0;
}

/* The catalog was not finished: shards, segments of the log and marks come after it. */
static bool in_first_start(const struct node_check *n)
{
	char dir[4096];

	return !has(n, "catalog.mark") && !has(n, "shard-000") &&
	       path_join(dir, sizeof dir, "%s/wal", n->db.dir) == 0 &&
	       disk_real()->ops->list(disk_real(), dir, any_segment, NULL) <= 0;
}

/* --- the log, without a change ------------------------------------------------------------------ */

/* The real disk for reading; what is written goes nowhere. */
static int ro_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	(void)d;
	return disk_real()->ops->open(
		disk_real(), oflags & O_CREAT ? "/dev/null" : path, O_RDONLY, mode);
}

static ssize_t ro_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	(void)d, (void)fd, (void)p, (void)off;
	return (ssize_t)n;
}

static int ro_fd(struct disk *d, int fd)
{
	(void)d, (void)fd;
	return 0;
}

static int ro_truncate(struct disk *d, int fd, uint64_t size)
{
	(void)d, (void)fd, (void)size;
	return 0;
}

static int ro_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	(void)d, (void)fd, (void)off, (void)len;
	return 0;
}

static int ro_rename(struct disk *d, const char *from, const char *to)
{
	(void)d, (void)from, (void)to;
	return 0;
}

static int ro_path(struct disk *d, const char *path)
{
	(void)d, (void)path;
	return 0;
}

static int ro_mkdir(struct disk *d, const char *path, mode_t mode)
{
	(void)d, (void)path, (void)mode;
	return -EROFS;
}

static void ro_disk(struct disk_ops *ops)
{
	*ops = *disk_real()->ops;
	ops->open = ro_open;
	ops->pwrite = ro_pwrite;
	ops->fdatasync = ro_fd;
	ops->truncate = ro_truncate;
	ops->allocate = ro_allocate;
	ops->rename = ro_rename;
	ops->unlink = ro_path;
	ops->mkdir = ro_mkdir;
	ops->sync_dir = ro_path;
}

/* Entries must be what the store can apply. */
static int check_entry(struct node_check *n, const char *dir, struct group_log *g, uint32_t group,
	const struct wal_entry *e)
{
	struct entry_reader r;
	struct entry_rec rec;

	g->last = e->index;
	if (e->etype != COMMAND)
		return 0;
	/* Aligned as apply has it: malloc'd by the log. */
	int rc = entry_open(&r, e->data, e->len);
	while (rc == 0 && r.h.kind == ENTRY_DATA && (rc = entry_next(&r, &rec)) == 1)
		rc = 0;
	if (rc < 0)
		verify_say(n->v, VERIFY_DAMAGE, dir, VERIFY_NOWHERE, "group %u, entry %llu: %s",
			group, (unsigned long long)e->index,
			rc == -EOPNOTSUPP ? "its format is not known" : "it cannot be decoded");
	else if (group >= SHARD_GROUP0 &&
		 (r.h.kind == ENTRY_SLICE_CREATE || r.h.kind == ENTRY_SLICE_DROP))
		return buf_put_le32(&g->remakes, r.h.cid);
	return 0;
}

static int check_group(struct node_check *n, const char *dir, struct wal *w, uint32_t group)
{
	struct wal_group_state st;
	struct vx_err err = VX_ERR_INIT;
	struct group_log *g = &n->groups[group - META_GROUP];
	const char *why = wal_stopped(w, group);

	if (why) {
		verify_say(n->v, VERIFY_DAMAGE, dir, VERIFY_NOWHERE,
			"shard %u is out of service from the next start on: %s",
			group - SHARD_GROUP0, why);
		return 0;
	}
	int rc = wal_group_load(w, group, &st, &err);

	if (rc == -ENOMEM)
		return rc;
	if (rc) {
		verify_say(n->v, VERIFY_DAMAGE, dir, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
		return 0;
	}
	g->exists = st.exists;
	g->mark = g->last = st.mark_index;
	if (st.manifest_len && (st.manifest_len < 12 || memcmp(st.manifest, "VRK1", 4) != 0 ||
				       get_le64((uint8_t *)st.manifest + st.manifest_len - 8) !=
					       hash_xxh3(st.manifest, st.manifest_len - 8, 0)))
		verify_say(n->v, VERIFY_DAMAGE, dir, VERIFY_NOWHERE,
			"group %u: the manifest of its mark is damaged", group);
	for (size_t i = 0; i < st.n_entries && rc == 0; i++)
		rc = check_entry(n, dir, g, group, &st.entries[i]);
	wal_group_state_release(&st);
	return rc;
}

static int check_log(struct node_check *n)
{
	struct disk_ops ops;
	struct disk ro = {.ops = &ops};
	struct wal_opts o = {
		.node_id = n->db.node_id, .stop_first = SHARD_GROUP0, .n_stop = n->db.n_shards};
	struct vx_err err = VX_ERR_INIT;
	struct wal_stats ws;
	struct wal *w = NULL;
	char dir[4096], mark[4096];
	int rc = path_join(dir, sizeof dir, "%s/wal", n->db.dir);

	if (rc == 0)
		rc = path_join(mark, sizeof mark, "%s/catalog.mark", n->db.dir);
	if (rc)
		return rc;
	ro_disk(&ops);
	rc = ro.ops->list(&ro, dir, any_segment, NULL);
	if (rc <= 0) {
		/* The first start makes it after the catalog, and no mark comes before it. */
		bool used = access(mark, F_OK) == 0;
		bool first = rc == -ENOENT && !has(n, "catalog.db") && in_first_start(n);
		verify_say(n->v, used || (rc < 0 && !first) ? VERIFY_DAMAGE : VERIFY_NOTE, dir,
			VERIFY_NOWHERE, "%s",
			first    ? UNFINISHED
			: rc < 0 ? strerror(-rc)
				 : "has no segment");
		return 0;
	}
	rc = wal_open(&ro, dir, &o, &w, &err);
	if (rc == -ENOMEM)
		return rc;
	if (rc) {
		verify_say(n->v, VERIFY_DAMAGE, dir, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
		return 0;
	}
	n->log_known = true;
	wal_stat(w, &ws);
	if (ws.torn_frames)
		verify_say(n->v, VERIFY_NOTE, dir, VERIFY_NOWHERE,
			"the last flush was torn; nobody was told of it, and the next start cuts "
			"it off");
	bool stopped = false;
	for (uint32_t g = META_GROUP; g < META_GROUP + n->n_groups; g++)
		stopped |= wal_stopped(w, g) != NULL;
	if (wal_damage(w) && !stopped)
		verify_say(n->v, VERIFY_NOTE, dir, VERIFY_NOWHERE,
			"%s; nothing is lost: what was there is in the stores", wal_damage(w));
	for (uint32_t g = META_GROUP; g < META_GROUP + n->n_groups && rc == 0; g++)
		rc = check_group(n, dir, w, g);
	wal_close(w);
	return rc;
}

/* --- the catalog ----------------------------------------------------------------------------------- */

static int each_row(struct node_check *n, sqlite3 *sq, const char *path, const char *sql,
	int (*each)(struct node_check *n, const char *path, sqlite3_stmt *st))
{
	sqlite3_stmt *st = NULL;
	int rc = 0, sc = sqlite3_prepare_v2(sq, sql, -1, &st, NULL);

	while (sc == SQLITE_OK && rc == 0 && (sc = sqlite3_step(st)) == SQLITE_ROW) {
		rc = each(n, path, st);
		sc = SQLITE_OK;
	}
	if (rc == 0 && (sc == SQLITE_NOMEM || (sc & 0xff) == SQLITE_BUSY)) {
		rc = sc == SQLITE_NOMEM ? -ENOMEM : -EBUSY;
	} else if (rc == 0 && sc != SQLITE_DONE) {
		verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s", sqlite3_errmsg(sq));
		rc = -EUCLEAN;
	}
	sqlite3_finalize(st);
	return rc;
}

static int on_coll(struct node_check *n, const char *path, sqlite3_stmt *st)
{
	const char *name = (const char *)sqlite3_column_text(st, 1);

	/* A restore under way, or what a kill left of one. */
	if (sqlite3_column_int64(st, 0) < 1 || !name ||
		vx_name_check(name + (name[0] == HIDDEN), NULL))
		verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
			"collection %lld, '%.80s', makes no sense",
			(long long)sqlite3_column_int64(st, 0), name ? name : "");
	if (sqlite3_column_int64(st, 0) >= sqlite3_column_int64(st, 2))
		verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
			"collection %lld is beyond next_cid, %lld: its number would be given again",
			(long long)sqlite3_column_int64(st, 0),
			(long long)sqlite3_column_int64(st, 2));
	/* first > last: known, and nowhere yet. */
	struct place p = {.cid = (uint32_t)sqlite3_column_int64(st, 0), .first = 1};
	return buf_append(&n->places, &p, sizeof p);
}

static int on_place(struct node_check *n, const char *path, sqlite3_stmt *st)
{
	int64_t v[4];

	for (int i = 0; i < 4; i++)
		v[i] = sqlite3_column_int64(st, i);
	if (v[1] < 0 || v[2] < v[1] || v[2] >= (int64_t)VX_BUCKETS || v[3] < 0 ||
		(n->db.n_shards && v[3] >= (int64_t)n->db.n_shards)) {
		verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
			"collection %lld: buckets %lld to %lld in shard %lld make no sense",
			(long long)v[0], (long long)v[1], (long long)v[2], (long long)v[3]);
		return 0;
	}
	struct place p = {.cid = (uint32_t)v[0],
		.first = (uint32_t)v[1],
		.last = (uint32_t)v[2],
		.shard = (uint32_t)v[3]};
	return buf_append(&n->places, &p, sizeof p);
}

/* The ranges of a collection are disjoint and leave nothing out: they come in order. */
static void check_cover(struct node_check *n, const char *path)
{
	const struct place *p = (const void *)n->places.data;
	size_t k = n->places.len / sizeof *p;

	for (size_t i = 0; i < k; i++) {
		uint32_t next = 0;
		if (p[i].first <= p[i].last)
			continue;
		for (size_t j = 0; j < k; j++) {
			if (p[j].cid != p[i].cid || p[j].first > p[j].last)
				continue;
			if (p[j].first != next)
				break;
			next = p[j].last + 1;
		}
		if (next != VX_BUCKETS)
			verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
				"collection %u: bucket %u is in no shard or in two", p[i].cid,
				next);
	}
}

static int on_state(struct node_check *n, const char *path, sqlite3_stmt *st)
{
	int64_t format = sqlite3_column_int64(st, 0);
	uint64_t applied = (uint64_t)sqlite3_column_int64(st, 1);

	if (format != 1)
		verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "format %lld is not known",
			(long long)format);
	if (applied < n->catalog_claim)
		verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
			"has lost entries %llu to %llu: the file, or its -wal file, is damaged or "
			"missing",
			(unsigned long long)applied + 1, (unsigned long long)n->catalog_claim);
	return 0;
}

int fsck_catalog_claim(struct node_check *n)
{
	char mark[4096];
	int rc = path_join(mark, sizeof mark, "%s/catalog.mark", n->db.dir);

	if (rc == 0)
		n->catalog_claim = claim_read(disk_real(), mark);
	return rc;
}

int fsck_catalog_rows(struct node_check *n, sqlite3 *sq, const char *path)
{
	int rc = each_row(n, sq, path,
		"SELECT ifnull((SELECT value FROM state WHERE key='format'), 0),"
		" ifnull((SELECT value FROM state WHERE key='applied'), 0)",
		on_state);

	if (rc == 0)
		rc = each_row(n, sq, path,
			"SELECT cid, name, ifnull((SELECT value FROM state WHERE key='next_cid'), "
			"1)"
			" FROM coll",
			on_coll);
	if (rc == 0)
		rc = each_row(n, sq, path,
			"SELECT cid, first, last, shard FROM place ORDER BY cid, first", on_place);
	if (rc == 0) {
		n->catalog_known = true;
		check_cover(n, path);
	}
	return rc;
}

/* The format is written once all tables are there. */
static bool catalog_made(sqlite3 *sq)
{
	sqlite3_stmt *st = NULL;
	bool made = sqlite3_prepare_v2(sq, "SELECT value FROM state WHERE key='format'", -1, &st,
			    NULL) == SQLITE_OK &&
		    sqlite3_step(st) == SQLITE_ROW;

	sqlite3_finalize(st);
	return made;
}

/* Nothing was ever synced of the catalog: a power cut may have left as much of it as a first start that was cut
 * off, and the log has its entries from the first one on. */
static bool never_marked(const struct node_check *n)
{
	if (n->catalog_claim > 0)
		return false;
	return n->log_known ? n->groups[0].mark == 0 : in_first_start(n);
}

static int check_catalog(struct node_check *n)
{
	char path[4096];
	struct stat st;
	sqlite3 *sq = NULL;
	int rc = path_join(path, sizeof path, "%s/catalog.db", n->db.dir);

	if (rc == 0)
		rc = fsck_catalog_claim(n);
	if (rc)
		return rc;
	if (stat(path, &st) < 0 || st.st_size == 0) {
		bool used = n->groups && n->groups[0].mark > 0;
		verify_say(n->v, used ? VERIFY_DAMAGE : VERIFY_NOTE, path, VERIFY_NOWHERE,
			"is missing or empty%s",
			used ? ", although the log says that it held the collections" : "");
		return 0;
	}
	if (pagesum_register())
		return -ENOMEM;
	rc = sqlite3_open_v2(path, &sq, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, PAGESUM_VFS);
	if (rc == SQLITE_OK) {
		sqlite3_db_config(sq, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		rc = verify_sqlite(sq, path, n->v);
		if (rc == 0 && never_marked(n) && !catalog_made(sq)) {
			verify_say(n->v, VERIFY_NOTE, path, VERIFY_NOWHERE, "%s",
				n->log_known ? "has no tables; the log has all that was in them"
					     : UNFINISHED);
			goto out;
		}
	} else {
		verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s", sqlite3_errmsg(sq));
		rc = -EUCLEAN;
	}
	if (rc == 0)
		rc = fsck_catalog_rows(n, sq, path);
out:
	sqlite3_close(sq);
	return rc == -EUCLEAN ? 0 : rc; /* said */
}

/* --- shards ------------------------------------------------------------------------------------------ */

/* The store's context is ours; findings go on to the caller's. */
static void pass_on(void *ctx, const struct verify_finding *f)
{
	struct node_check *n = ctx;

	if (n->found)
		n->found(n->ctx, f);
}

static bool remakes(void *ctx, uint32_t cid)
{
	struct node_check *n = ctx;
	const struct buf *b = &n->groups[n->shard + SHARD_GROUP0 - META_GROUP].remakes;

	for (size_t i = 0; i < b->len; i += 4) {
		if (get_le32(b->data + i) == cid)
			return true;
	}
	return false;
}

static bool known(void *ctx, uint32_t cid)
{
	struct node_check *n = ctx;
	const struct place *p = (const void *)n->places.data;

	for (size_t i = 0; i < n->places.len / sizeof *p; i++) {
		if (p[i].cid == cid)
			return true;
	}
	return false;
}

static bool belongs(void *ctx, uint32_t cid, const char *id, size_t len)
{
	struct node_check *n = ctx;
	const struct place *p = (const void *)n->places.data;
	uint32_t bucket = hash_bucket(id, len);
	bool any = false;

	for (size_t i = 0; i < n->places.len / sizeof *p; i++) {
		if (p[i].cid != cid)
			continue;
		any = true;
		if (p[i].first <= bucket && bucket <= p[i].last && p[i].shard == n->shard)
			return true;
	}
	return !any;
}

static int check_shard(struct node_check *n)
{
	struct group_log *g = &n->groups[n->shard + SHARD_GROUP0 - META_GROUP];
	struct verify *v = n->v;
	char path[4096];
	struct stat st;
	int rc = path_join(path, sizeof path, "%s/shard-%03u", n->db.dir, n->shard);

	if (rc)
		return rc;
	if (stat(path, &st) < 0) {
		/* The next start makes one that was never there. */
		if (g->mark > 0)
			verify_say(v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
				"is missing, although the log says that it was in use");
		return 0;
	}
	v->mark = n->log_known ? g->mark : 0;
	v->last = n->log_known ? g->last : 0;
	v->remakes = n->log_known ? remakes : NULL;
	/* The log may have collections that the catalog is to learn of. */
	v->known = n->catalog_known ? known : NULL;
	v->belongs = n->catalog_known ? belongs : NULL;
	return shard_verify(path, n->shard, disk_real(), v, n->err);
}

/* --- snapshots --------------------------------------------------------------------------------------- */

static int on_snapshot(void *arg, const struct snap_info *s)
{
	struct node_check *n = arg;
	struct vx_err err = VX_ERR_INIT;
	char path[SNAP_PATH_MAX];
	int rc = snapshot_verify(&n->db, s->coll, s->name, NULL, NULL, &err);

	if (rc == 0 || rc == -ENOMEM)
		return rc;
	if (snap_path_of(&n->db, s->coll, s->name, NULL, path))
		return -ENAMETOOLONG;
	n->v->told = 0;
	verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
	return 0;
}

/* --- all of it --------------------------------------------------------------------------------------- */

static uint32_t count_shards(const char *dir)
{
	char path[4096];
	struct stat st;
	uint32_t s = 0;

	while (s < SHARDS_MAX && path_join(path, sizeof path, "%s/shard-%03u", dir, s) == 0 &&
		stat(path, &st) == 0)
		s++;
	return s;
}

static int lock_data(const char *dir, int *ret_fd, struct vx_err *err)
{
	char path[4096], pid[32] = "";
	int rc = path_join(path, sizeof path, "%s/lock", dir);

	*ret_fd = -1;
	if (rc)
		return rc;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0; /* a copy, or never served */
	if (fd < 0)
		return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		rc = -errno;
		ssize_t k = pread(fd, pid, sizeof pid - 1, 0);
		pid[k > 0 ? k : 0] = 0;
		pid[strcspn(pid, "\n")] = 0;
		close(fd);
		return rc == -EWOULDBLOCK
			       ? vx_err_set(err, -EBUSY, "%s is served by a vecfsd (pid %s)", dir,
					 pid[0] ? pid : "unknown")
			       : vx_err_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	*ret_fd = fd;
	return 0;
}

static int check_all(struct node_check *n)
{
	struct vx_err err = VX_ERR_INIT;
	char path[4096];
	int rc = path_join(path, sizeof path, "%s/node.json", n->db.dir);

	if (rc)
		return rc;
	if (unborn(n->db.dir)) {
		verify_say(n->v, VERIFY_NOTE, n->db.dir, VERIFY_NOWHERE, "%s", UNFINISHED);
		return 0;
	}
	rc = home_read_identity(&n->db, path, &err);
	if (rc == -ENOMEM)
		return rc;
	if (rc) {
		verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
		n->db.n_shards = count_shards(n->db.dir);
	}
	n->n_groups = n->db.n_shards + 1;
	n->groups = calloc(n->n_groups, sizeof *n->groups);
	if (!n->groups)
		return -ENOMEM;
	/* Whose log it is stands in node.json. */
	if (rc == 0)
		rc = check_log(n);
	else
		rc = 0;
	if (rc == 0)
		rc = check_catalog(n);
	for (n->shard = 0; n->shard < n->db.n_shards && rc == 0; n->shard++)
		rc = check_shard(n);
	return rc ? rc : snapshot_list(&n->db, NULL, on_snapshot, n);
}

int node_verify(const char *dir, struct verify *v, struct vx_err *err)
{
	struct node_check *n;
	struct stat st;
	int lock;

	if (stat(dir, &st) < 0)
		return vx_err_set(err, -errno, "%s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return vx_err_set(err, -ENOTDIR, "%s: not a directory", dir);
	/* Also what is seen where a disk is not mounted: that is not "nothing wrong". */
	if (unborn(dir) < 0)
		return vx_err_set(
			err, -ENOENT, "%s: empty: no data directory, or " UNFINISHED, dir);
	if (!node_is_data(dir))
		return vx_err_set(err, -ENOENT, "%s: no data directory of vecfsd", dir);
	int rc = lock_data(dir, &lock, err);
	if (rc)
		return rc;
	n = calloc(1, sizeof *n);
	if (!n) {
		rc = -ENOMEM;
		goto out;
	}
	n->v = v;
	n->err = err;
	n->found = v->found;
	n->ctx = v->ctx;
	v->found = pass_on;
	v->ctx = n;
	n->db.dir = strdup(dir);
	rc = n->db.dir ? check_all(n) : -ENOMEM;
	v->found = n->found;
	v->ctx = n->ctx;
	for (uint32_t g = 0; n->groups && g < n->n_groups; g++)
		buf_release(&n->groups[g].remakes);
	free(n->groups);
	buf_release(&n->places);
	free(n->db.dir);
	free(n);
out:
	if (rc && err && !err->msg[0])
		vx_err_set(err, rc, "%s: %s", dir, strerror(-rc));
	if (lock >= 0)
		close(lock);
	return rc;
}
