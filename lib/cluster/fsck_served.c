/* fsck_served.c - the checks of fsck.c beside the daemon that serves the directory.
 *
 * Each part is looked at where it cannot change, or under a view of its own:
 *
 *	node.json	written once
 *	catalog.db	one read transaction on a connection of its own
 *	wal/		what was flushed: wal_view_served
 *	shard-NNN/	the names: store/verify_names.c; each slice under one view: store/verify.c
 *	snapshots/	never written again; one that fails and is not there any more was removed
 *	the rest	names that nobody here gives are a note: nothing reads them
 *
 * What is found is what the next start would find, or find missing.  Nothing that is being written, dropped, compacted,
 * given back or removed while it is looked at may become a finding: who is in doubt looks again once it is over.
 */
#include "cluster/fsck.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unsynced.h"
#include "cluster/fsck_i.h"
#include "cluster/snapshot_i.h"
#include "store/pagesum.h"
#include "wal/wal_view.h"

#define BUSY_MS 10000

struct served {
	struct node_check n; /* db: dir, node_id, n_shards as node.json has them */
	struct db *db;       /* the node itself */
	fsck_stop_fn *stop;
	void *stop_ctx;
	struct coll *coll; /* of the slice under way; NULL: none */
};

static void pass_on(void *ctx, const struct verify_finding *f)
{
	struct served *s = ctx;

	if (s->n.found)
		s->n.found(s->n.ctx, f);
}

static int stopped(const struct served *s)
{
	return s->stop && s->stop(s->stop_ctx) ? -EINTR : 0;
}

/* --- identity ---------------------------------------------------------------------------------- */

static int check_identity(struct served *s)
{
	struct vx_err err = VX_ERR_INIT;
	char path[4096];
	struct stat st, held;

	int rc = path_join(path, sizeof path, "%s/node.json", s->n.db.dir);
	if (rc)
		return rc;
	rc = stat(path, &st) < 0 ? vx_err_set(&err, -EUCLEAN, "is missing")
				 : home_read_identity(&s->n.db, path, &err);
	if (rc == -ENOMEM)
		return rc;
	if (rc == 0 && (s->n.db.node_id != s->db->node_id || s->n.db.n_shards != s->db->n_shards))
		rc = vx_err_set(&err, -EUCLEAN, "is another node's than the one that is served");
	if (rc)
		verify_say(s->n.v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
	rc = path_join(path, sizeof path, "%s/lock", s->n.db.dir);
	if (rc == 0 && (stat(path, &st) < 0 || fstat(s->db->lock_fd, &held) < 0 ||
			       st.st_ino != held.st_ino || st.st_dev != held.st_dev))
		verify_say(s->n.v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
			"is not the file that the daemon holds: it keeps no second one out");
	return rc;
}

/* --- the log ----------------------------------------------------------------------------------- */

static void log_stat(void *ctx, struct wal_stats *ret)
{
	const struct served *s = ctx;

	repl_wal_stat(s->db->repl, ret);
}

static int on_log_damage(void *ctx, const struct wal_view_damage *d)
{
	struct served *s = ctx;
	char path[4096];
	int rc = path_join(path, sizeof path, "%s/wal/%s", s->n.db.dir, d->file);

	if (rc == 0)
		verify_say(s->n.v, VERIFY_DAMAGE, path, d->offset, "%s", d->why);
	return rc;
}

static int on_log_segment(void *ctx, const struct wal_view_segment *g)
{
	struct served *s = ctx;
	char path[4096];
	int rc = path_join(path, sizeof path, "%s/wal/%s", s->n.db.dir, g->file);

	if (rc == 0 && g->valid && g->node_id != s->db->node_id)
		verify_say(s->n.v, VERIFY_DAMAGE, path, 0, "is a segment of another node");
	return rc ? rc : stopped(s);
}

static int check_log(struct served *s)
{
	static const struct wal_view_ops ops = {.segment = on_log_segment, .damage = on_log_damage};
	struct vx_err err = VX_ERR_INIT;
	char dir[4096];
	int rc = path_join(dir, sizeof dir, "%s/wal", s->n.db.dir);

	s->n.v->told = 0;
	if (rc == 0)
		rc = wal_view_served(disk_real(), dir, &ops, log_stat, s, &err);
	if (rc == -ENOENT || rc == -EIO) {
		verify_say(s->n.v, VERIFY_DAMAGE, dir, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
		rc = 0;
	}
	return rc;
}

/* --- the catalog --------------------------------------------------------------------------------- */

static int check_catalog(struct served *s)
{
	char path[4096];
	struct stat st;
	sqlite3 *sq = NULL;
	int rc = path_join(path, sizeof path, "%s/catalog.db", s->n.db.dir);

	s->n.v->told = 0;
	/* Before the transaction: a mark may claim more at any time. */
	if (rc == 0)
		rc = fsck_catalog_claim(&s->n);
	if (rc)
		return rc;
	if (stat(path, &st) < 0) {
		verify_say(s->n.v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s",
			errno == ENOENT ? "is missing" : strerror(errno));
		return 0;
	}
	int sc = sqlite3_open_v2(
		path, &sq, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, PAGESUM_VFS);
	if (sc == SQLITE_OK) {
		sqlite3_db_config(sq, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		sqlite3_busy_timeout(sq, BUSY_MS);
		sc = sqlite3_exec(sq, "BEGIN", NULL, NULL, NULL);
	}
	if (sc == SQLITE_NOMEM)
		rc = -ENOMEM;
	else if (sc)
		verify_say(s->n.v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s", sqlite3_errmsg(sq));
	else
		rc = verify_sqlite(sq, path, s->n.v);
	if (rc == 0 && sc == SQLITE_OK)
		rc = fsck_catalog_rows(&s->n, sq, path);
	sqlite3_close(sq);
	return rc == -EUCLEAN ? 0 : rc; /* said */
}

/* --- shards ------------------------------------------------------------------------------------------ */

/* The list in memory is the catalog as of now. */
static bool known(void *ctx, uint32_t cid)
{
	const struct served *s = ctx;
	int rc;
	struct coll *c = db_coll_by_cid(s->db, cid, &rc, NULL);

	coll_put(c);
	return c != NULL;
}

static bool belongs(void *ctx, uint32_t cid, const char *id, size_t len)
{
	const struct served *s = ctx;

	return !s->coll || s->coll->cid != cid ||
	       s->db->shards[coll_shard_of(s->coll, id, len)] == s->db->shards[s->n.shard];
}

static void settle(void *ctx)
{
	struct served *s = ctx;

	applier_pass(s->db, SHARD_GROUP0 + s->n.shard);
}

static int add_cid(void *arg, uint32_t cid)
{
	return buf_put_le32(arg, cid);
}

static int check_slice(struct served *s, uint32_t cid)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = 0, rc2;
	struct slice *sl = shard_slice_get(s->db->shards[s->n.shard], cid, &rc, &err);

	/* Gone meanwhile; quarantined, which is said of the names. */
	if (!sl)
		return rc == -ENOENT || rc == -EUCLEAN || rc == -EIO
			       ? 0
			       : vx_err_set(s->n.err, rc, "%s", vx_err_msg(&err, rc));
	s->coll = db_coll_by_cid(s->db, cid, &rc2, NULL);
	rc = slice_verify(sl, s->n.v, s->n.err);
	coll_put(s->coll);
	s->coll = NULL;
	slice_put(sl);
	return rc;
}

static int check_shard(struct served *s)
{
	struct shard *sh = s->db->shards[s->n.shard];
	struct buf cids = BUF_INIT;

	if (shard_stopped(sh)) {
		char wal[4096];
		int rc = path_join(wal, sizeof wal, "%s/wal", s->n.db.dir);
		if (rc == 0)
			verify_say(s->n.v, VERIFY_DAMAGE, wal, VERIFY_NOWHERE,
				"shard %u is out of service: %s", s->n.shard, shard_stopped(sh));
		return rc;
	}
	int rc = shard_slices(sh, add_cid, &cids);

	/* Opening them first: what cannot be opened is quarantined. */
	for (size_t i = 0; rc == 0 && i < cids.len; i += 4) {
		rc = stopped(s);
		if (rc == 0)
			rc = check_slice(s, get_le32(cids.data + i));
	}
	buf_release(&cids);
	return rc ? rc : shard_verify_names(sh, s->n.v, settle, s, s->n.err);
}

/* All slices of a collection are made before its first record is written. */
static bool has_slices(const struct coll *c)
{
	vx_lock(&c->db->coll_lock);
	bool has = c->slices_ready && !c->dropping && !coll_gone(c);
	vx_unlock(&c->db->coll_lock);
	return has;
}

static int check_placement(struct served *s, const struct coll *c, uint32_t shard)
{
	char path[4096];
	int rc = 0;

	if (!has_slices(c))
		return 0;
	struct slice *sl = shard_slice_get(s->db->shards[shard], c->cid, &rc, NULL);
	slice_put(sl);
	if (sl || rc != -ENOENT || !has_slices(c))
		return 0;
	rc = path_join(path, sizeof path, "%s/shard-%03u/c-%u", s->n.db.dir, shard, c->cid);
	if (rc == 0)
		verify_say(s->n.v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
			"collection '%s' has its buckets here, and no slice", c->name);
	return rc;
}

static int check_placements(struct served *s)
{
	struct buf cids = BUF_INIT;
	int rc = 0, none;

	vx_lock(&s->db->coll_lock);
	for (struct coll *c = s->db->colls; c && rc == 0; c = c->next)
		rc = buf_put_le32(&cids, c->cid);
	vx_unlock(&s->db->coll_lock);
	s->n.v->told = 0;
	for (size_t i = 0; rc == 0 && i < cids.len; i += 4) {
		struct coll *c = db_coll_by_cid(s->db, get_le32(cids.data + i), &none, NULL);
		for (uint32_t k = 0; c && rc == 0 && k < c->n_places; k++)
			rc = check_placement(s, c, c->places[k].shard);
		coll_put(c);
	}
	buf_release(&cids);
	return rc;
}

/* --- snapshots --------------------------------------------------------------------------------------- */

static int on_snapshot(void *arg, const struct snap_info *i)
{
	struct served *s = arg;
	struct vx_err err = VX_ERR_INIT;
	char path[SNAP_PATH_MAX];
	struct stat was, now;

	int rc = snap_path_of(s->db, i->coll, i->name, NULL, path);
	/* Held open, its number is no other directory's. */
	int fd = rc ? rc : snapshot_open(s->db, i->coll, i->name, NULL);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	rc = snapshot_verify(s->db, i->coll, i->name, s->stop, s->stop_ctx, &err);
	bool same = rc && fstat(fd, &was) == 0 && stat(path, &now) == 0 &&
		    was.st_ino == now.st_ino && was.st_dev == now.st_dev;
	close(fd);
	if (rc == -ENOMEM || rc == -EINTR || rc == -EMFILE || rc == -EBUSY)
		return rc;
	s->n.v->told = 0;
	if (same)
		verify_say(s->n.v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
	return 0;
}

/* --- names ------------------------------------------------------------------------------------------ */

static bool is_shard(const struct served *s, const char *name)
{
	char want[24];
	unsigned shard;

	if (sscanf(name, "shard-%u", &shard) != 1 || shard >= s->db->n_shards)
		return false;
	snprintf(want, sizeof want, "shard-%03u", shard);
	return strcmp(name, want) == 0;
}

static bool is_ours(const struct served *s, const char *name)
{
	static const char *const names[] = {"lock", "node.json", "wal", "catalog.db",
		"catalog.db-wal", "catalog.db-shm", "catalog.db-journal", "catalog.mark", "ballast",
		"q", "done", "failed", SNAP_DIR, UNSYNCED_NAME, "lost+found"};

	for (size_t i = 0; i < VX_ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return is_shard(s, name);
}

static int check_names(struct served *s, const char *sub)
{
	char dir[4096], path[4096];
	int rc = path_join(dir, sizeof dir, "%s%s", s->n.db.dir, sub);
	struct dirent *e;

	if (rc)
		return rc;
	DIR *d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : -errno; /* said */
	while (rc == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			(sub[0] ? wal_is_name(e->d_name) : is_ours(s, e->d_name)))
			continue;
		rc = path_join(path, sizeof path, "%s/%s", dir, e->d_name);
		if (rc == 0)
			verify_say(
				s->n.v, VERIFY_NOTE, path, VERIFY_NOWHERE, "does not belong here");
	}
	closedir(d);
	return rc;
}

/* --- all of it --------------------------------------------------------------------------------------- */

static int check_all(struct served *s)
{
	int rc = check_identity(s);

	if (rc == 0)
		rc = check_log(s);
	s->n.db.n_shards = s->db->n_shards; /* whatever node.json says now */
	if (rc == 0)
		rc = check_catalog(s);
	for (s->n.shard = 0; s->n.shard < s->db->n_shards && rc == 0; s->n.shard++)
		rc = check_shard(s);
	if (rc == 0)
		rc = check_placements(s);
	if (rc == 0)
		rc = snapshot_list(s->db, NULL, on_snapshot, s);
	s->n.v->told = 0;
	if (rc == 0)
		rc = check_names(s, "");
	return rc ? rc : check_names(s, "/wal");
}

int node_verify_served(
	struct db *db, struct verify *v, fsck_stop_fn *stop, void *stop_ctx, struct vx_err *err)
{
	struct served *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->db = db;
	s->stop = stop;
	s->stop_ctx = stop_ctx;
	s->n.db.dir = db->dir;
	s->n.v = v;
	s->n.err = err;
	s->n.found = v->found;
	s->n.ctx = v->ctx;
	v->found = pass_on;
	v->ctx = s;
	v->known = known;
	v->belongs = belongs;
	int rc = check_all(s);
	v->found = s->n.found;
	v->ctx = s->n.ctx;
	v->known = NULL;
	v->belongs = NULL;
	buf_release(&s->n.places);
	free(s);
	if (rc && err && !err->msg[0])
		vx_err_set(err, rc, "%s: %s", db->dir,
			rc == -EINTR ? "the verification was cut off" : strerror(-rc));
	return rc;
}

bool node_serves(struct db *db, const char *dir)
{
	struct stat a, b;

	return stat(db->dir, &a) == 0 && stat(dir, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}
