/* db.c - opening, closing and the counters.
 *
 * Order of opening: directory (lock, identity), catalog, shards, log and groups, apply workers, replay
 * (every entry above a group's mark is applied again and found to be there), index workers; then files that the last run left half committed are settled (txn.c).  Closing goes
 * the other way: what was accepted is applied, every group marked, the log closed, stores closed.
 */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/db_i.h"
#include "cluster/fsck.h"
#include "base/clock.h"
#include "base/log.h"

#define READY_TIMEOUT_MS 600000u

static int open_shards(struct db *db, struct vx_err *err)
{
	db->shards = calloc(db->n_shards, sizeof *db->shards);
	db->n_groups = db->n_shards + 1;
	db->groups = calloc(db->n_groups, sizeof *db->groups);
	if (!db->shards || !db->groups)
		return -ENOMEM;
	for (uint32_t g = 0; g < db->n_groups; g++) {
		db->groups[g].group = META_GROUP + g;
		db->groups[g].tail = &db->groups[g].head;
	}
	for (uint32_t s = 0; s < db->n_shards; s++) {
		char path[4096];
		struct shard_ctx *sc = malloc(sizeof *sc);
		int rc = path_join(path, sizeof path, "%s/shard-%03u", db->dir, s);

		if (rc || !sc) {
			free(sc);
			return rc ? rc : -ENOMEM;
		}
		*sc = (struct shard_ctx){.db = db, .shard = s};
		struct shard_opts so = {.disk = disk_real(),
			.index_event = indexer_event,
			.pause = indexer_pause,
			.compact_room = compactor_room,
			.compact_percent = db->opts.compact_percent,
			.ctx = sc};
		db->shard_ctx[s] = sc;
		rc = shard_open(path, s, &so, &db->shards[s], err);
		if (rc)
			return rc;
		db->groups[s + SHARD_GROUP0 - META_GROUP].shard = db->shards[s];
	}
	return 0;
}

/* The next start must not find the directory that this one made. */
static int shard_missing(struct db *db, uint32_t shard, struct vx_err *err)
{
	char path[4096];

	if (path_join(path, sizeof path, "%s/shard-%03u", db->dir, shard) == 0)
		(void)rmdir(path);
	return vx_err_set(err, -EUCLEAN,
		"%s/shard-%03u: missing, although the log says that it was in use; an empty "
		"directory in its place lets the start go on without what it held",
		db->dir, shard);
}

/* Nothing goes without the catalog; any shard may be stopped alone.  'wal' is of 4096 bytes. */
static int log_opts(struct db *db, char *wal, struct repl_opts *ret)
{
	*ret = (struct repl_opts){
		.disk = disk_real(),
		.wal_dir = wal,
		.wal = {.segment_size_bytes = db->opts.wal_segment_bytes,
			.node_id = db->node_id,
			.stop_first = SHARD_GROUP0,
			.n_stop = db->n_shards},
		.node_id = db->node_id,
		.first_group = META_GROUP,
		.n_groups = db->n_groups,
		.mark_interval_ms = db->opts.mark_interval_ms,
	};
	if (db->opts.wal_backend && strcmp(db->opts.wal_backend, "io_uring") == 0)
		ret->wal.backend = WAL_URING;
	else if (db->opts.wal_backend && strcmp(db->opts.wal_backend, "pwrite") == 0)
		ret->wal.backend = WAL_PWRITE;
	return path_join(wal, 4096, "%s/wal", db->dir);
}

static int open_groups(struct db *db, struct vx_err *err)
{
	char wal[4096];
	struct repl_opts ro;
	int rc = log_opts(db, wal, &ro);

	if (rc)
		return rc;
	rc = repl_open(&ro, &db_host_ops, db, &db->repl, err);
	if (rc)
		return rc;
	/* What is at or below a mark never comes again: it counts as applied. */
	for (uint32_t g = 0; g < db->n_groups; g++) {
		struct repl_group_status st;
		const char *why = repl_group_stopped(db->repl, META_GROUP + g);

		if (why) {
			rc = shard_stop(db->groups[g].shard, why);
			if (rc)
				return rc;
			log_error("cluster",
				"shard %u is stopped, its log is damaged: %s; see vec-fsck(1), "
				"--accept-loss",
				META_GROUP + g - SHARD_GROUP0, why);
			continue;
		}
		if (repl_group_stat(db->repl, META_GROUP + g, &st))
			continue;
		if (g == 0 && st.mark_index > 0 && catalog_fresh(db))
			return vx_err_set(err, -EUCLEAN,
				"%s/catalog.db: missing or empty, although the log says that it "
				"held the collections",
				db->dir);
		if (db->groups[g].shard && st.mark_index > 0 && shard_fresh(db->groups[g].shard))
			return shard_missing(db, META_GROUP + g - SHARD_GROUP0, err);
		db->groups[g].applied = st.mark_index;
		if (db->groups[g].shard)
			shard_watermark(db->groups[g].shard, st.mark_index);
	}
	rc = applier_start(db);
	if (rc == 0)
		rc = repl_start(db->repl, err);
	if (rc == 0)
		rc = repl_ready(db->repl, READY_TIMEOUT_MS);
	if (rc)
		return rc;
	applier_drain(db);
	/* Whatever slice is not finished now never will be. */
	for (uint32_t g = 0; g < db->n_groups; g++)
		if (db->groups[g].shard && !applier_stalled(db, META_GROUP + g))
			shard_replayed(db->groups[g].shard);
	return 0;
}

static void init_locks(struct db *db)
{
	vx_mutex_init(&db->coll_lock, LOCK_DB);
	vx_cond_init(&db->coll_cond);
	propose_init(db);
	vx_mutex_init(&db->apply_lock, LOCK_QUEUE);
	vx_cond_init(&db->apply_cond);
	vx_cond_init(&db->applied_cond);
	vx_cond_init(&db->stall_cond);
	db->run_tail = &db->run_head;
	vx_mutex_init(&db->index_lock, LOCK_QUEUE);
	vx_cond_init(&db->index_cond);
	vx_cond_init(&db->tail_cond);
	vx_mutex_init(&db->compact_lock, LOCK_QUEUE);
	vx_cond_init(&db->compact_cond);
	vx_mutex_init(&db->space_lock, LOCK_LEAF);
	vx_mutex_init(&db->txn_lock, LOCK_LEAF);
	vx_cond_init(&db->txn_cond);
}

static void release_all(struct db *db, bool save)
{
	txn_stop(db);
	indexer_stop(db);
	compactor_stop(db);
	if (db->repl)
		repl_stop(db->repl);
	applier_stop(db);
	pool_free(db->pool);
	catalog_close(db);
	for (uint32_t s = 0; db->shards && s < db->n_shards; s++)
		if (db->shards[s])
			shard_close(db->shards[s], save);
	for (uint32_t s = 0; s < SHARDS_MAX; s++)
		free(db->shard_ctx[s]);
	home_close(db);
	vx_cond_release(&db->txn_cond);
	vx_mutex_release(&db->txn_lock);
	vx_mutex_release(&db->space_lock);
	vx_cond_release(&db->compact_cond);
	vx_mutex_release(&db->compact_lock);
	vx_cond_release(&db->tail_cond);
	vx_cond_release(&db->index_cond);
	vx_mutex_release(&db->index_lock);
	vx_cond_release(&db->stall_cond);
	vx_cond_release(&db->applied_cond);
	vx_cond_release(&db->apply_cond);
	vx_mutex_release(&db->apply_lock);
	propose_release(db);
	vx_cond_release(&db->coll_cond);
	vx_mutex_release(&db->coll_lock);
	free(db->jobs);
	free(db->groups);
	free(db->shards);
	free(db->dir);
	free(db);
}

static struct db *db_new(const struct db_opts *opts)
{
	struct db *db = calloc(1, sizeof *db);

	if (!db)
		return NULL;
	db->opts = *opts;
	db->lock_fd = -1;
	db->start_ns = clock_mono_ns();
	init_locks(db);
	quota_init(db);
	db->dir = realpath(opts->data_dir, NULL);
	if (!db->dir)
		db->dir = strdup(opts->data_dir);
	do
		random_bytes(&db->origin, sizeof db->origin);
	while (db->origin == 0);
	return db;
}

int db_open(const struct db_opts *opts, struct db **ret, struct vx_err *err)
{
	struct db *db = db_new(opts);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (!db)
		return -ENOMEM;
	int rc = db->dir ? home_open(db, err) : -ENOMEM;
	if (rc == 0)
		rc = catalog_open(db, err);
	if (rc == 0)
		rc = open_shards(db, err);
	if (rc == 0)
		rc = open_groups(db, err);
	if (rc == 0 && cores > 1)
		db->pool = pool_new((unsigned)cores - 1);
	if (rc == 0)
		rc = indexer_start(db);
	if (rc == 0)
		rc = compactor_start(db);
	if (rc == 0)
		rc = txn_start(db);
	if (rc) {
		if (err && !err->msg[0])
			vx_err_set(err, rc, "%s: %s", opts->data_dir, strerror(-rc));
		release_all(db, false);
		return rc;
	}
	coll_reconcile(db);
	snapshots_sweep(db);
	log_info("cluster", "%s open: %u shard%s, ready after %.0f ms", db->dir, db->n_shards,
		db->n_shards == 1 ? "" : "s", (double)(clock_mono_ns() - db->start_ns) / 1e6);
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	inflight_drain(db);
	db_give_up(db);
	applier_drain(db);
	for (uint32_t g = 0; g < db->n_groups; g++) {
		int rc = repl_mark(db->repl, META_GROUP + g);

		if (rc && rc != -EAGAIN &&
			rc != -EUCLEAN) /* the next start replays what the mark would have saved */
			log_warn("cluster", "group %u was not marked at the end: %s",
				META_GROUP + g, strerror(-rc));
	}
	release_all(db, true);
}

/* --- accepting a loss ------------------------------------------------------------------ */
struct highest {
	struct shard *shard;
	uint64_t applied;
};

static int note_applied(void *arg, uint32_t cid)
{
	struct highest *h = arg;
	struct vx_err err = VX_ERR_INIT;
	struct slice_stats st;
	int rc;
	struct slice *sl = shard_slice_get(h->shard, cid, &rc, &err);

	if (!sl) {
		log_warn("cluster", "collection %u: %s", cid, vx_err_msg(&err, rc));
		return 0;
	}
	slice_stat(sl, &st);
	h->applied = VX_MAX(h->applied, st.applied);
	slice_put(sl);
	return 0;
}

static int sync_all(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || syncfs(fd) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return rc;
}

static int accept_loss(struct db *db, uint32_t group, struct vx_err *err)
{
	char wal[4096];
	struct repl_opts ro;
	struct highest h = {.applied = catalog_applied(db)};
	int rc = log_opts(db, wal, &ro);

	if (rc)
		return rc;
	if (group == META_GROUP) {
		ro.wal.stop_first = META_GROUP;
		ro.wal.n_stop = db->n_groups;
	} else {
		h = (struct highest){.shard = db->shards[group - SHARD_GROUP0]};
		rc = shard_slices(h.shard, note_applied, &h);
	}
	/* The new beginning of its log says that all of it is on disk. */
	if (rc == 0)
		rc = sync_all(db->dir);
	return rc ? rc : repl_accept_loss(&ro, group, h.applied, err);
}

int node_accept_loss(const char *dir, const char *what, struct vx_err *err)
{
	struct db_opts opts = {.data_dir = dir};
	char *end;
	unsigned long shard = strtoul(what, &end, 10);
	bool meta = strcmp(what, "catalog") == 0;

	if (!meta && (*end || end == what || what[0] == '-'))
		return vx_err_set(err, -EINVAL,
			"'%.40s' is neither the number of a shard nor 'catalog'", what);
	struct db *db = db_new(&opts);
	if (!db)
		return -ENOMEM;
	int rc = db->dir ? home_open_existing(db, err) : -ENOMEM;
	if (rc == 0 && !meta && shard >= db->n_shards)
		rc = vx_err_set(err, -EINVAL, "%s has %u shards, from 0; there is no shard %lu",
			dir, db->n_shards, shard);
	if (rc == 0)
		rc = catalog_open(db, err);
	if (rc == 0)
		rc = open_shards(db, err);
	if (rc == 0)
		rc = accept_loss(db, meta ? META_GROUP : SHARD_GROUP0 + (uint32_t)shard, err);
	if (rc && err && !err->msg[0])
		vx_err_set(err, rc, "%s: %s", dir, strerror(-rc));
	release_all(db, false);
	return rc;
}

const char *db_data_dir(const struct db *db)
{
	return db->dir;
}

uint32_t db_shards(const struct db *db)
{
	return db->n_shards;
}

uint64_t db_catalog_version(const struct db *db)
{
	return atomic_load(&db->catalog_version);
}

/* --- counters ------------------------------------------------------------------------- */
struct totals {
	struct db *db;
	uint64_t collections, records, tail, memory;
};

static int add_totals(void *arg, const char *name, uint32_t cid)
{
	struct totals *t = arg;
	struct coll_index_info info;
	int rc;
	struct coll *c = db_coll_by_cid(t->db, cid, &rc, NULL);

	(void)name;
	t->collections++;
	if (c && coll_index_info(c, &info) == 0) {
		t->records += info.records;
		t->tail += info.tail;
		t->memory += info.memory_bytes;
	}
	coll_put(c);
	return 0;
}

static uint64_t rss_bytes(const char *key)
{
	char line[128];
	unsigned long long kib = 0;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, key, strlen(key)) == 0)
			kib = strtoull(line + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return kib << 10;
}

int db_stats(struct db *db, struct buf *out)
{
	struct totals t = {.db = db};
	struct wal_stats w;
	int rc;

	(void)db_list(db, add_totals, &t);
	repl_wal_stat(db->repl, &w);
	rc = buf_printf(out,
		"version %s\nuptime_s %llu\nnode %llu\nshards %u\ncollections %llu\nrecords %llu\n"
		"tail %llu\nindex_bytes %llu\nrss_bytes %llu\nrss_anon_bytes %llu\nrss_file_bytes "
		"%llu\n"
		"searches %llu\ngets %llu\nbatches %llu\n"
		"wal_backend %s\nwal_segments %llu\nwal_bytes %llu\nwal_flushes %llu\n"
		"wal_records %llu\nwal_written_bytes %llu\nwal_pinned_bytes %llu\n",
		VECFS_VERSION, (unsigned long long)((clock_mono_ns() - db->start_ns) / 1000000000u),
		(unsigned long long)db->node_id, db->n_shards, (unsigned long long)t.collections,
		(unsigned long long)t.records, (unsigned long long)t.tail,
		(unsigned long long)t.memory, (unsigned long long)rss_bytes("VmRSS:"),
		(unsigned long long)rss_bytes("RssAnon:"),
		(unsigned long long)rss_bytes("RssFile:"),
		(unsigned long long)atomic_load(&db->n_searches),
		(unsigned long long)atomic_load(&db->n_gets),
		(unsigned long long)atomic_load(&db->n_writes), w.backend ? w.backend : "none",
		(unsigned long long)w.segments, (unsigned long long)w.size_bytes,
		(unsigned long long)w.flushes, (unsigned long long)w.records,
		(unsigned long long)w.written_bytes, (unsigned long long)w.pinned_bytes);
	for (uint32_t g = 0; rc == 0 && g < db->n_groups; g++) {
		struct repl_group_status st;

		if (repl_group_stat(db->repl, META_GROUP + g, &st))
			continue;
		if (repl_group_stopped(db->repl, META_GROUP + g)) {
			rc = buf_printf(out, "group_%u role=stopped\n", META_GROUP + g);
			continue;
		}
		rc = buf_printf(out,
			"group_%u role=%s term=%llu last=%llu commit=%llu applied=%llu mark=%llu\n",
			META_GROUP + g, st.is_leader ? "leader" : "follower",
			(unsigned long long)st.term, (unsigned long long)st.last_index,
			(unsigned long long)st.commit_index, (unsigned long long)st.applied_index,
			(unsigned long long)st.mark_index);
	}
	return rc;
}

uint64_t coll_count(struct coll *c)
{
	struct coll_index_info info;

	return coll_index_info(c, &info) ? 0 : info.records;
}

/* The weakest slice's figures, which the whole cannot fall below. */
struct recall_sum {
	struct index_recall worst;
	uint64_t samples, slots;
	uint32_t ef;
	bool scan;
};

static void add_recall(struct recall_sum *s, const struct index_recall *r)
{
	const struct index_recall old = s->worst;

	if (s->samples == 0 || r->samples == 0)
		s->worst = s->samples ? old : *r;
	else {
		s->worst.measured = fmin(old.measured, r->measured);
		s->worst.codes = fmin(old.codes, r->codes);
		s->worst.reranked = fmin(old.reranked, r->reranked);
	}
	s->samples += r->samples;
	s->slots += r->measured_slots;
	s->ef = VX_MAX(s->ef, r->ef);
	s->scan |= r->scan || r->exact;
}

/* What is promised, what is done for it, and what of it was measured.  Figures that were not
 * measured yet are left out. */
static int print_recall(const struct coll *c, const struct recall_sum *s, struct buf *out)
{
	const float recall = atomic_load_explicit(&c->recall, memory_order_relaxed);
	const uint32_t ef = atomic_load_explicit(&c->ef_search, memory_order_relaxed);
	int rc;

	if (recall >= VX_RECALL_EXACT)
		rc = buf_printf(out, "recall exact\n");
	else
		rc = buf_printf(out, "recall %.4g\n", (double)recall);
	if (rc == 0 && ef)
		rc = buf_printf(out, "recall_ef %u\nrecall_by ef_search\n", ef);
	else if (rc == 0 && recall < VX_RECALL_EXACT)
		rc = buf_printf(
			out, "recall_ef %u\nrecall_by %s\n", s->ef, s->scan ? "scan" : "graph");
	if (rc || s->samples == 0)
		return rc;
	if (recall < VX_RECALL_EXACT && !ef && !isnan(s->worst.measured))
		rc = buf_printf(out, "recall_measured %.4f\n", s->worst.measured);
	if (rc)
		return rc;
	return buf_printf(out,
		"recall_samples %llu\nrecall_measured_slots %llu\nrecall_codes %.4f\n"
		"recall_reranked %.4f\n",
		(unsigned long long)s->samples, (unsigned long long)s->slots, s->worst.codes,
		s->worst.reranked);
}

int coll_stats(struct coll *c, struct buf *out)
{
	uint64_t disk = 0, applied = 0;
	uint32_t max_level = 0, ef = 0;
	struct recall_sum recall = {.samples = 0};
	struct coll_index_info info;
	int rc = coll_index_info(c, &info);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < c->n_places; i++) {
		struct slice_stats st;
		struct slice *sl = coll_slice(c, c->places[i].shard, &rc, NULL);

		if (!sl)
			continue;
		slice_stat(sl, &st);
		disk += st.disk_bytes;
		applied = VX_MAX(applied, st.applied);
		max_level = VX_MAX(max_level, st.index.max_level);
		ef = VX_MAX(ef, st.index.ef_default);
		struct index_recall r;
		float want = atomic_load_explicit(&c->recall, memory_order_relaxed);
		if (slice_index_recall(sl, want, 10, &r))
			add_recall(&recall, &r);
		slice_put(sl);
	}
	rc = buf_printf(out,
		"name %s\ncid %u\ncount %llu\ndim %u\nmetric %s\nbytes %llu\nmemory_bytes %llu\n"
		"slots %llu\ndead %llu\nlag %llu\nindex %s\nindex_state %s\nquant %s\nef_default "
		"%u\n"
		"max_level %u\nslices %u\napplied %llu\n",
		c->name, c->cid, (unsigned long long)info.records, coll_dim(c),
		vx_metric_name(coll_metric(c)), (unsigned long long)disk,
		(unsigned long long)info.memory_bytes, (unsigned long long)info.slots,
		(unsigned long long)info.dead, (unsigned long long)info.tail, info.kind, info.state,
		info.quant, ef, max_level, c->n_places, (unsigned long long)applied);
	return rc ? rc : print_recall(c, &recall, out);
}
