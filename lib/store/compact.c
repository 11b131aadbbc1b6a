/* compact.c - a new generation of a slice: what is dead is left out, the rest stands in a good order.
 *
 *	1. Take a view; from then on the applier notes what it kills.
 *	2. Number the living slots anew (index_order), copy vectors and rows, records, codes and links into
 *	   g-NNNN.new, at leisure and beside everything else.  Rowids stay.
 *	3. Carry over what was applied meanwhile, in rounds that become short.
 *	4. Sync.  Hold the applier off; carry over the last of it; sync that.
 *	5. rename g-NNNN.new -> g-NNNN, sync the directory.                (point of no return)
 *	6. The new 'struct slice' takes the old one's place in the table; the applier goes on with it.
 *
 * The new generation is a 'struct slice' of its own, with its own meta.db, so whoever holds the old one
 * reads on in a world that nobody writes to any more, and SQLite's space comes back with the vectors'.
 * The last pin of the old one removes its files.  Nothing waits for the mark with that: the new
 * generation was durable, up to an index that is not below the mark, before it got its name.
 *
 * A failure before step 5 removes g-NNNN.new, and the slice is as it was; so does a start that finds it.
 */
#include "store/compact_i.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

#define DEAD_MIN        1024u /* fewer dead slots are not worth the files */
#define EMPTY_MIN       64u   /* unless no record is left */
#define RETRY_NS        30000000000u
#define ROUNDS_MAX      8u
#define ROUND_SLOTS     2048u /* a delta that may be carried while writers wait */
#define PART_SLOTS      256u  /* what carrying a part of a transaction costs */
#define LINK_STEP       256u
#define BUILD_CACHE_KIB 8192u
/* Links that are carried over get a little worse each time: one generation in so many makes its own, and so does
 * one that was asked for.  tests/cluster/test_churn measures what is left of it. */
#define ANEW_EVERY 2u

/* --- when -------------------------------------------------------------------------------- */

bool slice_compact_due(struct slice *sl)
{
	uint32_t dead = atomic_load_explicit(&sl->dead_slots, memory_order_relaxed);
	struct view v = slice_view(sl);

	bool many = (uint64_t)dead * 100 >= (uint64_t)v.nslots * sl->shard->compact_percent &&
		    (dead >= DEAD_MIN || (v.count == 0 && dead >= EMPTY_MIN));
	many |= sl->shard->compact_percent <= 100 &&
		atomic_load_explicit(&sl->free_due, memory_order_relaxed);
	vx_lock(&sl->mu);
	bool due = !sl->replaced && !sl->compacting &&
		   (sl->compact_asked ||
			   (many && (!sl->compact_rc || clock_mono_ns() >= sl->compact_retry_ns)));
	vx_unlock(&sl->mu);
	return due;
}

static uint64_t live_share(const struct slice *sl, uint64_t of, uint32_t nslots)
{
	uint32_t dead = atomic_load_explicit(&sl->dead_slots, memory_order_relaxed);

	return nslots ? of / nslots * (nslots - VX_MIN(dead, nslots)) : 0;
}

uint64_t slice_compact_need(struct slice *sl)
{
	uint32_t dead = atomic_load_explicit(&sl->dead_slots, memory_order_relaxed);
	struct view v = slice_view(sl);

	if (dead < DEAD_MIN ||
		(uint64_t)dead * 200 < (uint64_t)v.nslots * sl->shard->compact_percent)
		return 0;
	return live_share(sl, slice_disk_bytes(sl), v.nslots);
}

void slice_compact_ask(struct slice *sl)
{
	vx_lock(&sl->mu);
	sl->compact_asked = true;
	vx_unlock(&sl->mu);
}

int slice_compact_failed(struct slice *sl, struct vx_err *err)
{
	vx_lock(&sl->mu);
	int rc = sl->compact_rc;
	if (rc)
		vx_err_set(err, rc, "%s", sl->compact_msg);
	vx_unlock(&sl->mu);
	return rc;
}

void compact_note_kills(struct slice *sl, const struct kill *k, size_t n)
{
	if (n && buf_append(&sl->kill_log, k, n * sizeof *k))
		sl->kills_lost = true;
}

/* Tells how long a step took. */
static void step_done(const struct compaction *c, const char *what, uint64_t *since)
{
	uint64_t now = clock_mono_ns();

	log_debug("store", "collection %u: compaction: %s, %.1f ms", c->o->cid, what,
		(double)(now - *since) / 1e6);
	*since = now;
}

static bool paused(const struct compaction *c)
{
	return c->o->shard->pause && c->o->shard->pause(c->o->shard->ctx);
}

/* --- the new slice ----------------------------------------------------------------------- */

static int set_gen_dir(struct slice *n, struct vx_err *err)
{
	char path[STORE_PATH_MAX];

	int rc = slice_gen_path(n, path);
	if (rc)
		return vx_err_set(err, rc, "the path is too long");
	free(n->gen_dir);
	n->gen_dir = strdup(path);
	return n->gen_dir ? 0 : vx_err_set(err, -ENOMEM, "no memory");
}

/* An empty generation beside the old one. */
static int make_new(struct compaction *c)
{
	struct slice *o = c->o, *n = slice_new(o->shard, o->cid);
	struct buf schema = BUF_INIT;
	char path[STORE_PATH_MAX];

	if (!n)
		return vx_err_set(c->err, -ENOMEM, "no memory for a slice");
	c->n = n;
	n->schema = o->schema;
	n->generation = o->generation + 1;
	n->building = true;
	n->st = (struct metadb_state){
		.generation = n->generation, .next_rowid = 1, .next_recent = 1};
	if (n->generation > GENERATION_MAX)
		return vx_err_set(c->err, -EOVERFLOW, "the slice has had too many generations");
	int rc = set_gen_dir(n, c->err);
	if (rc)
		return rc;
	store_remove_tree(o->shard, n->gen_dir);
	rc = o->shard->disk->ops->mkdir(o->shard->disk, n->gen_dir, 0755);
	if (rc)
		return vx_err_set(c->err, rc, "%s: cannot make the directory", n->gen_dir);
	rc = slice_schema_encode(&n->schema, &schema);
	if (rc == 0)
		rc = slice_db_path(n, path);
	if (rc == 0)
		rc = metadb_create(path, n->cid, schema.data, schema.len, &n->st, c->err);
	if (rc == 0)
		rc = metadb_open(&n->wdb, path, BUILD_CACHE_KIB, c->err);
	/* Nothing of it counts before it was synced as a whole. */
	if (rc == 0 && sqlite3_exec(n->wdb.c, "PRAGMA synchronous=OFF", NULL, NULL, NULL))
		rc = vx_err_set(c->err, -EIO, "meta.db: %s", sqlite3_errmsg(n->wdb.c));
	if (rc == 0)
		rc = slice_fresh_index(n, &n->index, c->err);
	buf_release(&schema);
	return rc;
}

/* What is left of a failed attempt. */
static void drop_new(struct compaction *c)
{
	struct slice *n = c->n;

	if (!n)
		return;
	slice_close(n);
	gen_remove(n);
	slice_free(n);
	c->n = NULL;
}

/* --- the copy ------------------------------------------------------------------------------ */

/* A view, and everything that is killed after it is noted. */
static struct view start_noting(struct slice *o)
{
	vx_lock(&o->view_mu);
	o->log_kills = true;
	o->kills_lost = false;
	o->kill_log.len = 0;
	struct view v = o->view;
	vx_unlock(&o->view_mu);
	return v;
}

static void stop_noting(struct slice *o)
{
	vx_lock(&o->view_mu);
	o->log_kills = false;
	buf_release(&o->kill_log);
	vx_unlock(&o->view_mu);
}

/* keep[slot]: it is alive in the view. */
static uint8_t *alive(struct slice *o, const struct view *v)
{
	uint8_t *keep = calloc(VX_MAX(v->nslots, 1u), 1);

	for (uint32_t s = 0; keep && s < v->nslots; s++) {
		struct seg *g = slice_seg(o, slot_seg(s));
		_Atomic uint64_t *dead = g ? atomic_load_explicit(&g->dead, memory_order_acquire)
					   : NULL;
		uint64_t at = dead ? atomic_load_explicit(&dead[slot_at(s)], memory_order_relaxed)
				   : 0;
		keep[s] = at == 0 || at > v->applied;
	}
	return keep;
}

static int enough_room(struct compaction *c, const struct view *v)
{
	struct shard *s = c->o->shard;
	struct index_stats st;

	index_stat(c->from, &st);
	uint64_t disk = live_share(c->o, slice_disk_bytes(c->o), v->nslots);
	/* Maps of slots beside the index. */
	uint64_t memory = live_share(c->o, st.memory_bytes, v->nslots) + 16 * (uint64_t)v->nslots;

	int rc = s->compact_room ? s->compact_room(s->ctx, disk, memory) : 0;
	return rc ? vx_err_set(c->err, rc,
			    "no room for a compaction: %llu MiB of disk, %llu of memory",
			    (unsigned long long)(disk >> 20), (unsigned long long)(memory >> 20))
		  : 0;
}

static int copy_slots(struct compaction *c, const uint32_t *order, uint32_t n)
{
	int rc = 0;

	for (uint32_t i = 0; i < n && rc == 0; i++) {
		if (i % 1024 == 0) {
			if (paused(c))
				return -EINTR;
			atomic_store_explicit(&c->o->compact_done, i, memory_order_relaxed);
		}
		rc = carry_slot(c, order[i]);
	}
	return rc ? rc : carry_flush(c);
}

static int link_tail(struct compaction *c)
{
	int n;

	do
		n = paused(c) ? -EINTR : index_link(c->n->index, LINK_STEP);
	while (n > 0);
	return n;
}

/* Slots in their old order, all of them to be linked. */
static void plain_order(const uint8_t *keep, uint32_t nslots, uint32_t *order, uint32_t *ret_n)
{
	uint32_t n = 0;

	for (uint32_t s = 0; s < nslots; s++) {
		if (keep[s])
			order[n++] = s;
	}
	*ret_n = n;
}

/* Everything of the first view. */
static int copy_all(struct compaction *c, const struct view *v)
{
	uint8_t *keep = alive(c->o, v);
	uint32_t *order = malloc(VX_MAX(v->nslots, 1u) * sizeof *order), n = 0, linked = 0;
	int rc = keep && order ? 0
			       : vx_err_set(c->err, -ENOMEM, "no memory for %u slots", v->nslots);

	uint64_t t = clock_mono_ns();
	if (rc == 0 && c->anew)
		plain_order(keep, v->nslots, order, &n);
	else if (rc == 0)
		rc = index_order(c->from, v->nslots, keep, order, &n, &linked);
	step_done(c, "ordered", &t);
	atomic_store_explicit(&c->o->compact_total, n, memory_order_relaxed);
	if (rc == 0)
		rc = copy_slots(c, order, n);
	step_done(c, "vectors copied", &t);
	c->old_slots = v->nslots;
	c->applied = v->applied;
	if (rc == 0)
		rc = carry_records(c);
	step_done(c, "records copied", &t);
	if (rc == 0)
		rc = index_remap(c->from, c->n->index, order, n, linked, v->nslots);
	step_done(c, "links carried", &t);
	if (rc == 0)
		rc = link_tail(c);
	step_done(c, "tail linked, recall measured", &t);
	free(keep);
	free(order);
	return rc;
}

/* One round of what was applied since; returns how many slots and kills that were. */
static int catch_up(struct compaction *c, uint32_t *ret_n)
{
	struct slice *o = c->o;
	struct buf kills;

	vx_lock(&o->view_mu);
	struct view v = o->view;
	kills = o->kill_log;
	o->kill_log = (struct buf)BUF_INIT;
	bool lost = o->kills_lost;
	vx_unlock(&o->view_mu);
	size_t n = kills.len / sizeof(struct kill);
	*ret_n = v.nslots - c->old_slots + (uint32_t)n;
	int rc = lost ? vx_err_set(c->err, -ENOMEM, "no memory for what was written meanwhile")
		      : carry_delta(c, &v, (const void *)kills.data, n);
	buf_release(&kills);
	uint32_t parts = 0;
	if (rc == 0)
		rc = carry_txns(c, &parts);
	*ret_n += parts * PART_SLOTS;
	return rc;
}

/* --- making it durable ------------------------------------------------------------------------ */

static int sync_file(struct compaction *c, const char *dir, const char *name)
{
	struct disk *d = c->o->shard->disk;
	char path[STORE_PATH_MAX];

	int rc = store_path(path, dir, name);
	if (rc)
		return rc;
	int fd = d->ops->open(d, path, O_RDWR, 0);
	if (fd < 0)
		return fd == -ENOENT ? 0 : vx_err_set(c->err, fd, "%s: cannot open", path);
	rc = d->ops->fdatasync(d, fd);
	(void)d->ops->close(d, fd);
	return rc ? vx_err_set(c->err, rc, "%s: cannot sync", path) : 0;
}

/* Segments that were written since the last time, then SQLite's files. */
static int sync_new(struct compaction *c)
{
	uint64_t slots = c->n->st.next_slot;
	char name[32];
	int rc = 0;

	for (uint32_t no = c->synced; rc == 0 && (uint64_t)no << SEG_SHIFT < slots; no++) {
		snprintf(name, sizeof name, "%06u.vec", no);
		rc = sync_file(c, c->n->gen_dir, name);
		if (rc == 0 && (uint64_t)(no + 1) << SEG_SHIFT <= slots)
			c->synced = no + 1;
	}
	if (rc == 0)
		rc = sync_file(c, c->n->gen_dir, "meta.db");
	if (rc == 0)
		rc = sync_file(c, c->n->gen_dir, "meta.db-wal");
	return rc;
}

/* --- the switch --------------------------------------------------------------------------------- */

static void hold_applier(struct slice *o)
{
	vx_lock(&o->mu);
	o->swapping = true;
	while (o->run_active)
		vx_cond_wait(&o->cond, &o->mu);
	vx_unlock(&o->mu);
}

static void release_applier(struct slice *o, bool gone)
{
	vx_lock(&o->mu);
	o->swapping = false;
	o->replaced = gone;
	vx_cond_broadcast(&o->cond);
	vx_unlock(&o->mu);
}

/* The last of it, while nothing is applied. */
static int finish_new(struct compaction *c)
{
	struct slice *o = c->o, *n = c->n;
	uint32_t some;

	int rc = o->n_bad_batches ? -EAGAIN : catch_up(c, &some);
	if (rc == 0)
		rc = carry_recent(c);
	if (rc == 0)
		rc = carry_state(c, &o->st);
	if (rc == 0)
		rc = carry_settle(c);
	metadb_close(&n->wdb);
	if (rc == 0)
		rc = sync_new(c);
	if (rc == 0) {
		rc = o->shard->disk->ops->sync_dir(o->shard->disk, n->gen_dir);
		if (rc)
			vx_err_set(c->err, rc, "%s: cannot sync", n->gen_dir);
	}
	n->st = (struct metadb_state){
		.generation = n->generation,
		.applied = o->st.applied,
		.next_slot = n->st.next_slot,
		.next_rowid = o->st.next_rowid,
		.next_recent = o->st.next_recent,
		.count = o->st.count,
	};
	return rc;
}

/* Gives the directory its name.  After 0 the new generation is the slice, whatever follows. */
static int commit_new(struct compaction *c)
{
	struct slice *o = c->o, *n = c->n;
	struct shard *s = o->shard;
	char path[STORE_PATH_MAX];

	vx_lock(&s->mu);
	bool lost = o->dropped || o->bad;
	vx_unlock(&s->mu);
	if (lost)
		return vx_err_set(c->err, -ENOENT, "the collection is gone");
	n->building = false;
	int rc = slice_gen_path(n, path);
	if (rc == 0)
		rc = s->disk->ops->rename(s->disk, n->gen_dir, path);
	if (rc) {
		n->building = true;
		return vx_err_set(c->err, rc, "%s: cannot rename", n->gen_dir);
	}
	/* If that fails either may be there after a power cut; both are good, and there are no marks any
	 * more that could trust in one. */
	(void)!shard_sync_dir(s, o->dir);
	return 0;
}

/* The renamed generation as an open slice; on failure it is opened at the next need. */
static bool open_new(struct compaction *c)
{
	struct slice *o = c->o, *n = c->n;
	struct vx_err err = VX_ERR_INIT;
	char path[STORE_PATH_MAX];

	int rc = set_gen_dir(n, &err);
	if (rc == 0)
		rc = slice_db_path(n, path);
	if (rc == 0)
		rc = metadb_open(&n->wdb, path, n->shard->cache_kib, &err);
	if (rc) {
		log_warn("store", "collection %u: closed after its compaction: %s", n->cid,
			vx_err_msg(&err, rc));
		slice_close(n);
		return false;
	}
	n->view = (struct view){
		.generation = n->generation,
		.nslots = (uint32_t)n->st.next_slot,
		.applied = n->st.applied,
		.next_rowid = n->st.next_rowid,
		.count = n->st.count,
	};
	n->dirty = n->dirty_dir = false;
	n->dirty_lo = UINT32_MAX;
	n->dirty_hi = 0;
	n->index_phase = INDEX_READY;
	atomic_store(&n->txn_tables, atomic_load(&o->txn_tables));
	vx_lock(&o->mu);
	n->compact_asked = o->compact_asked;
	vx_unlock(&o->mu);
	return true;
}

static void publish_new(struct compaction *c, bool open)
{
	struct slice *o = c->o, *n = c->n, **p;
	struct shard *s = o->shard;

	vx_lock(&s->mu);
	bool dropped = o->dropped;
	if (!dropped) {
		for (p = &s->hash[o->cid % SHARD_HASH]; *p != o;)
			p = &(*p)->hash_next;
		n->hash_next = o->hash_next;
		*p = n;
		TAILQ_REMOVE(&s->lru, o, lru);
		s->n_open--;
		n->phase = open ? SLICE_OPEN : SLICE_CLOSED;
		if (open) {
			TAILQ_INSERT_HEAD(&s->lru, n, lru);
			s->n_open++;
		}
		atomic_store(&n->txn_marker, atomic_load(&o->txn_marker));
		n->bad = o->bad;
		snprintf(n->bad_msg, sizeof n->bad_msg, "%s", o->bad_msg);
		n->pins++;
		o->heir = n;
		o->superseded = true;
	}
	vx_unlock(&s->mu);
	if (dropped) {
		/* Its files went with the directory. */
		slice_close(n);
		slice_free(n);
	}
	c->n = NULL;
}

static int switch_over(struct compaction *c)
{
	struct slice *o = c->o, *n = c->n;

	hold_applier(o);
	int rc = finish_new(c);
	if (rc == 0)
		rc = commit_new(c);
	if (rc == 0) {
		uint64_t before = slice_disk_bytes(o), reclaimed = 0;
		bool open = open_new(c);
		uint64_t after = open ? slice_disk_bytes(n) : before;
		reclaimed = before > after ? before - after : 0;
		atomic_store(&n->reclaimed_bytes, atomic_load(&o->reclaimed_bytes) + reclaimed);
		atomic_store(&n->compactions, atomic_load(&o->compactions) + 1);
		log_info("store",
			"collection %u: generation %u: %u of %u slots were dead; %llu MiB came "
			"back",
			o->cid, n->generation, o->view.nslots - (uint32_t)n->st.next_slot,
			o->view.nslots, (unsigned long long)(reclaimed >> 20));
		publish_new(c, open);
	}
	release_applier(o, rc == 0);
	return rc;
}

/* --- all of it ------------------------------------------------------------------------------------ */

static int run(struct compaction *c)
{
	struct slice *o = c->o;
	uint32_t some = 0;

	int rc = slice_index_ready(o, &c->from, c->err);
	if (rc)
		return rc;
	struct view v = start_noting(o);
	rc = enough_room(c, &v);
	if (rc == 0)
		rc = make_new(c);
	if (rc == 0)
		rc = copy_all(c, &v);
	for (uint32_t i = 0; i < ROUNDS_MAX && rc == 0; i++) {
		rc = catch_up(c, &some);
		if (rc == 0)
			rc = link_tail(c);
		if (some < ROUND_SLOTS)
			break;
	}
	uint64_t t = clock_mono_ns();
	if (rc == 0)
		rc = carry_settle(c);
	if (rc == 0)
		rc = sync_new(c);
	step_done(c, "synced", &t);
	if (rc == 0 && index_appended(c->n->index) >= SAVE_ON_CLOSE_SLOTS) {
		/* The view that it is saved with must be one that the new generation has. */
		c->n->view = (struct view){.generation = c->n->generation, .applied = c->applied};
		rc = slice_save_now(c->n, c->n->index, c->err);
	}
	step_done(c, "checkpoint written", &t);
	if (rc == 0)
		rc = paused(c) ? -EINTR : switch_over(c);
	step_done(c, "switched over", &t);
	stop_noting(o);
	drop_new(c);
	return rc;
}

int slice_compact(struct slice *sl, struct vx_err *err)
{
	struct vx_err mine = VX_ERR_INIT;
	struct compaction c = {.o = sl, .err = &mine};

	vx_lock(&sl->mu);
	bool busy = sl->compacting || sl->replaced;
	bool asked = sl->compact_asked;
	c.anew = asked || (sl->generation + 1) % ANEW_EVERY == 0;
	if (!busy) {
		sl->compacting = true;
		sl->compact_asked = false;
	}
	vx_unlock(&sl->mu);
	if (busy)
		return -EALREADY;
	int rc = run(&c);
	free(c.map);
	buf_release(&c.vecs);
	buf_release(&c.rows);
	buf_release(&c.longs);
	vx_lock(&sl->mu);
	sl->compacting = false;
	sl->compact_rc = rc == -EINTR ? 0 : rc;
	sl->compact_retry_ns = clock_mono_ns() + RETRY_NS;
	if (rc == -EINTR)
		sl->compact_asked |= asked;
	snprintf(sl->compact_msg, sizeof sl->compact_msg, "%s", vx_err_msg(&mine, rc));
	vx_unlock(&sl->mu);
	if (rc && err)
		*err = mine;
	return rc;
}
