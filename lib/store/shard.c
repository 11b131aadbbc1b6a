/* shard.c - the slices of a shard: finding, pinning, opening lazily, closing by LRU, making, dropping.
 *
 * A 'struct slice' is in the table from the moment its directory is known until it is dropped; what
 * is costly (SQLite, mappings, index) exists only while it is open.  Opening and closing happen
 * outside the lock, guarded by the phase: whoever finds a slice in OPENING or CLOSING waits.  A
 * pinned slice is never closed.
 *
 * A drop takes the slice out of the table and renames its directory, so that neither a crash nor a
 * newcomer finds it; the last pin unlinks it.
 */
#include "store/store_i.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unsynced.h"

#define DROPPED     ".dropped"
#define DROPPED_MAX 1000u /* remains of one slice that cannot be removed */

int store_path(char *ret, const char *dir, const char *name)
{
	int n = snprintf(ret, STORE_PATH_MAX, "%s/%s", dir, name);
	return n < 0 || (unsigned)n >= STORE_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* --- directories --------------------------------------------------------------------- */

struct remove_arg {
	struct shard *s;
	const char *dir;
	int depth;
};

static int remove_one(void *arg, const char *name)
{
	struct remove_arg *a = arg;
	char path[STORE_PATH_MAX];

	if (store_path(path, a->dir, name))
		return 0;
	if (unlink(path) == 0 || (errno != EISDIR && errno != EPERM) || a->depth > 2)
		return 0;
	struct remove_arg sub = {.s = a->s, .dir = path, .depth = a->depth + 1};
	(void)a->s->disk->ops->list(a->s->disk, path, remove_one, &sub);
	(void)rmdir(path);
	return 0;
}

void store_remove_tree(struct shard *s, const char *dir)
{
	struct remove_arg a = {.s = s, .dir = dir};

	/* A directory that loses names while it is listed may skip some: list until it is gone. */
	for (int i = 0; i < 16; i++) {
		if (s->disk->ops->list(s->disk, dir, remove_one, &a) || rmdir(dir) == 0)
			return;
	}
	log_warn("store", "%s: cannot be removed", dir);
}

int slice_name_parse(const char *name, uint32_t *ret_cid)
{
	char want[32];
	char *end;

	if (strncmp(name, "c-", 2) != 0 || name[2] < '0' || name[2] > '9')
		return 0;
	unsigned long cid = strtoul(name + 2, &end, 10);
	if (cid > UINT32_MAX)
		return 0;
	snprintf(want, sizeof want, "c-%lu", cid);
	if (strncmp(name, want, strlen(want)) != 0)
		return 0;
	*ret_cid = (uint32_t)cid;
	return *end == 0 ? 1 : strncmp(end, DROPPED, strlen(DROPPED)) == 0 ? 2 : 0;
}

/* --- the table ------------------------------------------------------------------------ */

struct slice *shard_find(struct shard *s, uint32_t cid)
{
	struct slice *sl = s->hash[cid % SHARD_HASH];

	while (sl && sl->cid != cid)
		sl = sl->hash_next;
	return sl;
}

struct slice *slice_new(struct shard *s, uint32_t cid)
{
	char name[32], path[STORE_PATH_MAX];

	snprintf(name, sizeof name, "c-%u", cid);
	struct slice *sl = calloc(1, sizeof *sl);
	if (!sl || store_path(path, s->dir, name) || !(sl->dir = strdup(path))) {
		free(sl);
		return NULL;
	}
	sl->shard = s;
	sl->cid = cid;
	sl->generation = 1;
	sl->dirty_lo = UINT32_MAX;
	vx_mutex_init(&sl->mu, LOCK_SLICE);
	vx_cond_init(&sl->cond);
	vx_mutex_init(&sl->read_mu, LOCK_SLICE_READ);
	vx_cond_init(&sl->read_cond);
	vx_mutex_init(&sl->view_mu, LOCK_LEAF);
	return sl;
}

void slice_free(struct slice *sl)
{
	vx_mutex_release(&sl->mu);
	vx_cond_release(&sl->cond);
	vx_mutex_release(&sl->read_mu);
	vx_cond_release(&sl->read_cond);
	vx_mutex_release(&sl->view_mu);
	buf_release(&sl->kill_log);
	free(sl->dir);
	free(sl->gone);
	free(sl);
}

static void table_add(struct shard *s, struct slice *sl)
{
	sl->hash_next = s->hash[sl->cid % SHARD_HASH];
	s->hash[sl->cid % SHARD_HASH] = sl;
}

static void table_remove(struct shard *s, struct slice *sl)
{
	struct slice **p = &s->hash[sl->cid % SHARD_HASH];

	while (*p != sl)
		p = &(*p)->hash_next;
	*p = sl->hash_next;
}

static void set_bad(struct slice *sl, int rc, const char *why)
{
	sl->bad = rc;
	snprintf(sl->bad_msg, sizeof sl->bad_msg, "%s", why);
	log_error("store", "collection %u is quarantined: %s", sl->cid, why);
}

static int found_one(void *arg, const char *name)
{
	struct shard *s = arg;
	char path[STORE_PATH_MAX];
	uint32_t cid;

	int what = slice_name_parse(name, &cid);
	if (what == 2 && store_path(path, s->dir, name) == 0)
		store_remove_tree(s, path);
	if (what != 1)
		return 0;
	struct slice *sl = slice_new(s, cid);
	if (!sl)
		return -ENOMEM;
	table_add(s, sl);
	int rc = gen_find(sl);
	if (rc)
		set_bad(sl, -EIO, "its directory cannot be listed");
	return 0;
}

/* On the roster: without its directory the slice is lost, unless the log makes or drops it again. */
static int missed_one(struct shard *s, uint32_t cid)
{
	if (shard_find(s, cid))
		return 0;
	struct slice *sl = slice_new(s, cid);
	if (!sl)
		return -ENOMEM;
	table_add(s, sl);
	return 0;
}

int shard_open(const char *dir, uint32_t shard_id, const struct shard_opts *opts,
	struct shard **ret, struct vx_err *err)
{
	/* SQLite's own counters take a lock at every allocation; ignored if it runs already. */
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	(void)sqlite3_initialize();

	if (strlen(dir) > STORE_PATH_MAX - 128)
		return vx_err_set(err, -ENAMETOOLONG, "%s: the path is too long", dir);
	struct shard *s = calloc(1, sizeof *s);
	if (!s || !(s->dir = strdup(dir))) {
		free(s);
		return vx_err_set(err, -ENOMEM, "no memory for a shard");
	}
	s->disk = opts->disk ? opts->disk : disk_real();
	s->id = shard_id;
	s->open_max = opts->open_slices_max ? opts->open_slices_max : OPEN_SLICES_MAX;
	s->cache_kib = opts->sqlite_cache_kib ? opts->sqlite_cache_kib : SQLITE_CACHE_KIB;
	s->index_event = opts->index_event;
	s->pause = opts->pause;
	s->ctx = opts->ctx;
	s->compact_percent = opts->compact_percent ? opts->compact_percent : COMPACT_PERCENT;
	s->compact_room = opts->compact_room;
	s->sync_fd = -1;
	TAILQ_INIT(&s->lru);
	vx_mutex_init(&s->mu, LOCK_SHARD);
	vx_cond_init(&s->cond);
	int rc = s->disk->ops->mkdir(s->disk, dir, 0755);
	s->fresh = rc == 0;
	s->dirty_dir = true;    /* the roster may be older than the last create */
	s->dirty_parent = true; /* made by us, or just before a crash: one sync will do */
	bool unsynced = false;
	if (rc == 0 || rc == -EEXIST)
		rc = unsynced_settle(dir, true, &unsynced);
	if (unsynced)
		log_warn("store",
			"%s: files could not be synced by the last daemon: read from disk anew",
			dir);
	if (rc == 0)
		rc = s->disk->ops->list(s->disk, dir, found_one, s);
	if (rc == 0)
		rc = roster_read(s, missed_one);
	if (rc) {
		shard_close(s, false);
		return vx_err_set(err, rc, "%s: cannot open the shard", dir);
	}
	s->sync_fd = shard_sync_fd(s);
	*ret = s;
	return 0;
}

/* Called without locks on a slice in phase CLOSING. */
static void close_slice(struct slice *sl, bool save)
{
	struct vx_err err = VX_ERR_INIT;

	vx_lock(&sl->mu);
	struct index *ix = sl->index_phase == INDEX_READY ? sl->index : NULL;
	uint32_t before = sl->saved_linked;
	vx_unlock(&sl->mu);
	if (save && ix && index_appended(ix) >= SAVE_ON_CLOSE_SLOTS && index_linked(ix) != before) {
		int rc = slice_save_now(sl, ix, &err);
		if (rc)
			log_warn("store", "collection %u: no index checkpoint: %s", sl->cid,
				vx_err_msg(&err, rc));
	}
	slice_close(sl);
}

void shard_close(struct shard *s, bool save)
{
	if (!s)
		return;
	for (unsigned i = 0; i < SHARD_HASH; i++) {
		while (s->hash[i]) {
			struct slice *sl = s->hash[i];
			assert(sl->pins == 0);
			if (sl->phase == SLICE_OPEN)
				close_slice(sl, save);
			s->hash[i] = sl->hash_next;
			slice_free(sl);
		}
	}
	if (s->sync_fd >= 0)
		close(s->sync_fd);
	buf_release(&s->stage_vecs);
	buf_release(&s->stage_rows);
	vx_mutex_release(&s->mu);
	vx_cond_release(&s->cond);
	free(s->stopped);
	free(s->dir);
	free(s);
}

int shard_stop(struct shard *s, const char *why)
{
	s->stopped = strdup(why);
	return s->stopped ? 0 : -ENOMEM;
}

const char *shard_stopped(const struct shard *s)
{
	return s->stopped;
}

int shard_slices(struct shard *s, int (*each)(void *arg, uint32_t cid), void *arg)
{
	struct buf cids = BUF_INIT;
	int rc = 0;

	if (s->stopped)
		return 0;
	vx_lock(&s->mu);
	for (unsigned i = 0; i < SHARD_HASH && rc == 0; i++) {
		for (struct slice *sl = s->hash[i]; sl && rc == 0; sl = sl->hash_next)
			rc = buf_put_le32(&cids, sl->cid);
	}
	vx_unlock(&s->mu);
	for (size_t i = 0; i < cids.len && rc == 0; i += 4)
		rc = each(arg, get_le32(cids.data + i));
	buf_release(&cids);
	return rc;
}

/* --- pins ----------------------------------------------------------------------------- */

/* Closes what was not used lately.  Called under s->mu; drops it meanwhile. */
static void evict(struct shard *s) VX_REQUIRES(s->mu);
static void evict(struct shard *s)
{
	while (s->n_open > s->open_max) {
		struct slice *sl = TAILQ_LAST(&s->lru, slice_lru);
		while (sl && sl->pins)
			sl = TAILQ_PREV(sl, slice_lru, lru);
		if (!sl)
			return;
		TAILQ_REMOVE(&s->lru, sl, lru);
		sl->phase = SLICE_CLOSING;
		s->n_open--;
		vx_unlock(&s->mu);
		close_slice(sl, true);
		vx_lock(&s->mu);
		sl->phase = SLICE_CLOSED;
		vx_cond_broadcast(&s->cond);
	}
}

bool shard_fresh(const struct shard *s)
{
	return s->fresh;
}

static int settle_index(void *arg, uint32_t cid)
{
	struct shard *s = arg;

	vx_lock(&s->mu);
	struct slice *sl = shard_find(s, cid);
	if (sl && sl->phase == SLICE_OPEN)
		sl->pins++;
	else
		sl = NULL;
	vx_unlock(&s->mu);
	if (sl)
		slice_index_settle(sl);
	slice_put(sl);
	return 0;
}

/* The log has made again whatever was to be made: what is unfinished now is damaged. */
void shard_replayed(struct shard *s)
{
	vx_lock(&s->mu);
	s->replayed = true;
	for (unsigned i = 0; i < SHARD_HASH; i++) {
		for (struct slice *sl = s->hash[i]; sl; sl = sl->hash_next) {
			if (sl->phase == SLICE_OPEN)
				slice_beyond_repair(sl);
			if (sl->incomplete) {
				sl->incomplete = false;
				set_bad(sl, -EUCLEAN, "meta.db is missing or empty");
			}
		}
	}
	vx_unlock(&s->mu);
	(void)!shard_slices(s, settle_index, s);
}

void slice_quarantine(struct slice *sl, int rc, const char *why)
{
	vx_lock(&sl->shard->mu);
	if (!sl->bad)
		set_bad(sl, rc, why);
	vx_unlock(&sl->shard->mu);
}

/* Opens 'sl' (phase OPENING, pinned once by us).  Called under s->mu; drops it meanwhile. */
static int open_pinned(struct shard *s, struct slice *sl, struct vx_err *err) VX_REQUIRES(s->mu);
static int open_pinned(struct shard *s, struct slice *sl, struct vx_err *err)
{
	struct vx_err mine = VX_ERR_INIT;

	vx_unlock(&s->mu);
	int rc = slice_open(sl, &mine);
	vx_lock(&s->mu);
	if (rc == 0) {
		sl->phase = SLICE_OPEN;
		s->n_open++;
		TAILQ_INSERT_HEAD(&s->lru, sl, lru);
		if (s->replayed)
			slice_beyond_repair(sl);
	} else {
		sl->phase = SLICE_CLOSED;
		if (rc == -ENODATA && s->replayed) {
			rc = vx_err_set(&mine, -EUCLEAN, "meta.db is missing or empty");
			set_bad(sl, rc, mine.msg);
		} else if (rc == -ENODATA) {
			sl->incomplete = true;
			rc = vx_err_set(
				&mine, -ENOENT, "collection %u was never finished", sl->cid);
		} else if (rc == -EUCLEAN) {
			set_bad(sl, rc, vx_err_msg(&mine, rc));
		}
		if (err)
			*err = mine;
	}
	vx_cond_broadcast(&s->cond);
	evict(s);
	return rc;
}

struct slice *slice_pin(struct shard *s, uint32_t cid, int *ret_rc, struct vx_err *err)
{
	int rc = 0;
	struct slice *sl;

	if (s->stopped) {
		*ret_rc = vx_err_set(err, -EUCLEAN, "shard %u is stopped, its log is damaged: %s",
			s->id, s->stopped);
		return NULL;
	}
	vx_lock(&s->mu);
	for (;;) {
		sl = shard_find(s, cid);
		if (!sl || sl->incomplete) {
			rc = vx_err_set(err, -ENOENT, "no collection %u in this shard", cid);
			sl = NULL;
			break;
		}
		if (sl->bad) {
			rc = vx_err_set(err, sl->bad, "quarantined: %s", sl->bad_msg);
			sl = NULL;
			break;
		}
		if (sl->phase == SLICE_OPEN) {
			sl->pins++;
			if (TAILQ_FIRST(&s->lru) != sl) {
				TAILQ_REMOVE(&s->lru, sl, lru);
				TAILQ_INSERT_HEAD(&s->lru, sl, lru);
			}
			break;
		}
		if (sl->phase != SLICE_CLOSED) {
			vx_cond_wait(&s->cond, &s->mu);
			continue;
		}
		sl->phase = SLICE_OPENING;
		sl->pins++;
		rc = open_pinned(s, sl, err);
		if (rc) {
			vx_unlock(&s->mu);
			slice_put(sl);
			vx_lock(&s->mu);
			sl = NULL;
		}
		break;
	}
	vx_unlock(&s->mu);
	*ret_rc = rc;
	return sl;
}

struct slice *shard_slice_get(struct shard *s, uint32_t cid, int *ret_rc, struct vx_err *err)
{
	int rc = 0;

	struct slice *sl = slice_pin(s, cid, &rc, err);
	if (ret_rc)
		*ret_rc = rc;
	return sl;
}

/* The last pin of a dropped or superseded slice ends it. */
static void destroy(struct slice *sl)
{
	struct slice *heir = sl->heir;

	if (sl->phase == SLICE_OPEN)
		slice_close(sl);
	if (sl->superseded)
		gen_remove(sl);
	else if (sl->gone)
		store_remove_tree(sl->shard, sl->gone);
	slice_free(sl);
	slice_put(heir);
}

void slice_put(struct slice *sl)
{
	if (!sl)
		return;
	struct shard *s = sl->shard;

	vx_lock(&s->mu);
	assert(sl->pins > 0);
	bool last = --sl->pins == 0 && (sl->dropped || sl->superseded);
	if (!last && sl->pins == 0 && s->n_open > s->open_max)
		evict(s);
	vx_unlock(&s->mu);
	if (last)
		destroy(sl);
}

const struct slice_schema *slice_schema(const struct slice *sl)
{
	return &sl->schema;
}

/* --- making and dropping ------------------------------------------------------------------ */

static int make_dirs(struct shard *s, const char *dir, struct vx_err *err)
{
	char gen[STORE_PATH_MAX];

	int rc = s->disk->ops->mkdir(s->disk, dir, 0755);
	if (rc == 0)
		rc = store_path(gen, dir, "g-0001");
	if (rc == 0)
		rc = s->disk->ops->mkdir(s->disk, gen, 0755);
	return rc ? vx_err_set(err, rc, "%s: cannot make the directory", dir) : 0;
}

/* Closes the slice; the last pin is the caller's, and goes. */
static void unload(struct slice *sl)
{
	struct shard *s = sl->shard;

	vx_lock(&s->mu);
	assert(sl->pins == 1 && sl->phase == SLICE_OPEN);
	sl->pins = 0;
	TAILQ_REMOVE(&s->lru, sl, lru);
	sl->phase = SLICE_CLOSING;
	s->n_open--;
	vx_unlock(&s->mu);
	close_slice(sl, false);
	vx_lock(&s->mu);
	sl->phase = SLICE_CLOSED;
	vx_cond_broadcast(&s->cond);
	vx_unlock(&s->mu);
}

/* Is the entry 'index', which makes the slice, older than all that is in it?  One that a mark had claimed before stood already. */
static bool begins_with(const struct slice *sl, uint64_t index)
{
	uint64_t claimed = slice_claim(sl);

	return claimed == 0 || claimed >= index;
}

int shard_create_slice(struct shard *s, const struct slice_schema *sc, const void *blob,
	size_t blob_len, uint64_t index, struct vx_err *err)
{
	char path[STORE_PATH_MAX];
	struct metadb_state st = {
		.generation = 1, .applied = index, .next_rowid = 1, .next_recent = 1};
	int rc = 0;

	/* A replay: opening tells whether the slice was ever finished. */
	struct slice *sl = slice_pin(s, sc->cid, &rc, err);
	if (sl && !s->replayed && begins_with(sl, index) &&
		metadb_check(&sl->wdb, err) == -EUCLEAN) {
		slice_quarantine(sl, -EUCLEAN, vx_err_msg(err, -EUCLEAN));
		unload(sl);
		sl = NULL;
		rc = -EUCLEAN;
	}
	if (sl) {
		slice_set_dirty(sl, UINT32_MAX, 0);
		vx_lock(&sl->view_mu);
		sl->dirty_dir = true;
		vx_unlock(&sl->view_mu);
		slice_put(sl);
		vx_lock(&s->mu);
		s->dirty_dir = true;
		vx_unlock(&s->mu);
		return 0;
	}
	vx_lock(&s->mu);
	sl = shard_find(s, sc->cid);
	bool known = sl != NULL;
	/* The log that is being replayed has all that ever was in it, so that it does not matter what a power cut
	 * has left of a file that was never synced. */
	if (rc == -EUCLEAN && known && !s->replayed && begins_with(sl, index)) {
		log_info("store", "collection %u: made again from the log: %s", sc->cid,
			sl->bad_msg);
		sl->bad = 0;
		rc = -ENOENT;
	}
	vx_unlock(&s->mu);
	if (rc != -ENOENT)
		return rc;
	if (!known && !(sl = slice_new(s, sc->cid)))
		return vx_err_set(err, -ENOMEM, "no memory for a slice");
	store_remove_tree(s, sl->dir);
	rc = make_dirs(s, sl->dir, err);
	if (rc == 0)
		rc = store_path(path, sl->dir, "meta.db");
	if (rc == 0)
		rc = metadb_create(path, sc->cid, blob, blob_len, &st, err);
	if (rc) {
		store_remove_tree(s, sl->dir);
		if (!known)
			slice_free(sl);
		return rc;
	}
	sl->dirty = sl->dirty_dir = true;
	vx_lock(&s->mu);
	sl->generation = 1;
	sl->incomplete = false;
	s->dirty_dir = true;
	if (!known)
		table_add(s, sl);
	vx_unlock(&s->mu);
	return 0;
}

/* Renames the directory out of the way; *ret: to what, NULL if there was none.  What an earlier drop could not
 * remove (a file made immutable, say) may have the name already: that is no reason not to drop. */
static int put_aside(struct shard *s, const char *dir, char **ret)
{
	char gone[STORE_PATH_MAX];
	int rc = -EEXIST;

	for (unsigned i = 0; i < DROPPED_MAX && (rc == -EEXIST || rc == -ENOTEMPTY); i++) {
		int n = i ? snprintf(gone, sizeof gone, "%s" DROPPED "-%u", dir, i)
			  : snprintf(gone, sizeof gone, "%s" DROPPED, dir);
		if ((unsigned)n >= sizeof gone)
			return -ENAMETOOLONG;
		/* An empty directory there would be replaced; a file would not. */
		rc = s->disk->ops->rename(s->disk, dir, gone);
		if (rc == -ENOTDIR)
			rc = -EEXIST;
	}
	*ret = NULL;
	if (rc == -ENOENT)
		return 0;
	if (rc == 0 && !(*ret = strdup(gone)))
		log_warn("store", "%s is left for the next start to remove", gone);
	return rc;
}

int shard_drop_slice(struct shard *s, uint32_t cid, struct vx_err *err)
{
	vx_lock(&s->mu);
	struct slice *sl = shard_find(s, cid);
	while (sl && (sl->phase == SLICE_OPENING || sl->phase == SLICE_CLOSING)) {
		vx_cond_wait(&s->cond, &s->mu);
		sl = shard_find(s, cid);
	}
	if (!sl) {
		vx_unlock(&s->mu);
		return 0;
	}
	char *gone = NULL;
	int rc = put_aside(s, sl->dir, &gone);
	if (rc) {
		vx_unlock(&s->mu);
		return vx_err_set(err, rc, "%s: cannot rename", sl->dir);
	}
	table_remove(s, sl);
	sl->gone = gone;
	sl->dropped = true;
	s->dirty_dir = true;
	if (sl->phase == SLICE_OPEN) {
		TAILQ_REMOVE(&s->lru, sl, lru);
		s->n_open--;
	}
	bool last = sl->pins == 0;
	vx_unlock(&s->mu);
	if (last)
		destroy(sl);
	return 0;
}
