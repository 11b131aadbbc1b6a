/* test_fsck.c - the verification of a node beside whatever it is doing.
 *
 * Planted damage of each kind is found, with its file; and beside writers, deletes, compactions, snapshots, restores, collections
 * that come and go, and marks with small segments of the log, nothing is ever found.
 *
 *	FSCK_SECONDS=N	how long the second takes (8)
 */
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cluster/db_i.h"
#include "cluster/fsck.h"
#include "cluster/snapshot.h"
#include "dbtest.h"
#include "store/claim.h"
#include "store/pagesum.h"
#include "store/store_i.h"

#define DIM       8
#define TEXT      3000u
#define FOUND_MAX 4096u

/* --- what is found ------------------------------------------------------------------------- */
struct findings {
	struct verify v;
	char text[FOUND_MAX]; /* "level file: why", a line each; notes too */
};

static void note_found(void *ctx, const struct verify_finding *f)
{
	static const char *const names[] = {"note", "derived", "damage"};
	struct findings *l = ctx;
	size_t n = strlen(l->text);

	snprintf(l->text + n, sizeof l->text - n, "%s %s:%lld: %s\n", names[f->level], f->file,
		(long long)f->offset, f->why);
}

static void look(struct db *db, struct findings *ret)
{
	struct vx_err err = VX_ERR_INIT;

	memset(ret, 0, sizeof *ret);
	ret->v.found = note_found;
	ret->v.ctx = ret;
	int rc = node_verify_served(db, &ret->v, NULL, NULL, &err);
	if (rc)
		fail_msg("the verification: %s", vx_err_msg(&err, rc));
}

static void nothing_wrong(struct db *db)
{
	struct findings l;

	look(db, &l);
	if (l.v.damage || l.v.derived || l.text[0])
		fail_msg("found: %s", l.text);
}

/* Damage of this file, and none of another. */
static void must_find(struct db *db, const char *file, const char *why)
{
	struct findings l;

	look(db, &l);
	if (!strstr(l.text, file) || !strstr(l.text, why) || l.v.damage == 0)
		fail_msg("%s, '%s', is not among %s", file, why, l.text);
	for (const char *p = l.text; *p; p = strchr(p, '\n') + 1) {
		const char *at = strstr(p, file);
		if (!at || at > strchr(p, '\n'))
			fail_msg("besides %s: %s", file, l.text);
	}
}

/* --- files ------------------------------------------------------------------------------------ */
static void path_of(char *out, const char *dir, const char *name)
{
	assert_true((size_t)snprintf(out, 512, "%s/%s", dir, name) < 512);
}

static void flip(const char *path, off_t at)
{
	uint8_t b;
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= 16;
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

static struct db *open_with(const char *dir, uint32_t shards, uint32_t mark_ms, uint64_t segment)
{
	struct db_opts o = {.data_dir = dir,
		.create = true,
		.shards = shards,
		.wal_segment_bytes = segment,
		.mark_interval_ms = mark_ms};
	struct vx_err err = VX_ERR_INIT;
	struct db *db = NULL;
	int rc = db_open(&o, &db, &err);

	if (rc)
		fail_msg("db_open: %s", vx_err_msg(&err, rc));
	return db;
}

static struct db *open_small(const char *dir, uint32_t shards, uint32_t mark_ms)
{
	return open_with(dir, shards, mark_ms, 256u << 10);
}

/* A record that is long enough to fill the log. */
static int put_long(struct coll *c, uint64_t key, uint64_t version)
{
	static const char text[TEXT] = {[0 ... TEXT - 1] = 'x'};
	struct vx_err err = VX_ERR_INIT;
	struct batch *b = NULL;
	float vec[DIM];
	char id[32];

	dt_vec(key, version, DIM, vec);
	struct vx_record r = {.id = id,
		.id_len = (size_t)snprintf(id, sizeof id, "r%llu", (unsigned long long)key),
		.vec = vec,
		.dim = DIM,
		.text = text,
		.text_len = sizeof text};
	int rc = batch_new(c, &b);
	if (rc == 0)
		rc = batch_put(b, &r, &err);
	if (rc == 0)
		rc = batch_commit(b, NULL, &err);
	batch_free(b);
	return rc;
}

/* --- planted damage --------------------------------------------------------------------------- */
struct planted {
	char *dir;
	struct db *db;
	struct coll *c;
};

/* Some segments of log, which no mark lets go of. */
static void planted_init(struct planted *p)
{
	p->dir = dt_mkdir();
	p->db = open_small(p->dir, 2, 3600 * 1000);
	p->c = dt_create(p->db, "docs", DIM, VX_L2, 2);
	for (uint64_t i = 1; i <= 250; i++)
		assert_ok(put_long(p->c, i, 1));
	nothing_wrong(p->db);
}

static void planted_release(struct planted *p)
{
	coll_put(p->c);
	db_close(p->db);
	dt_rm(p->dir);
}

static void a_flip_in_the_log_is_found(void **state)
{
	struct planted p;
	char path[512];
	struct stat st;
	uint32_t seq = 1;

	(void)state;
	planted_init(&p);
	for (;; seq++) {
		char name[64];
		snprintf(name, sizeof name, "wal/%010u.wal", seq);
		path_of(path, p.dir, name);
		if (stat(path, &st) < 0)
			break;
		/* Its header, its first frame. */
		flip(path, 40);
		must_find(p.db, name, "header");
		flip(path, 40);
		flip(path, 36864 + 70);
		must_find(p.db, name, "");
		flip(path, 36864 + 70);
	}
	assert_true(seq > 3);
	/* Behind the last flush anything may be. */
	snprintf(path, sizeof path, "%s/wal/%010u.wal", p.dir, seq - 1);
	flip(path, (256 << 10) - 100);
	nothing_wrong(p.db);
	/* One that is gone. */
	char away[600];
	snprintf(path, sizeof path, "%s/wal/%010u.wal", p.dir, 2);
	snprintf(away, sizeof away, "%s.away", p.dir);
	assert_int_equal(rename(path, away), 0);
	must_find(p.db, "0000000002.wal", "is missing");
	assert_int_equal(rename(away, path), 0);
	snprintf(path, sizeof path, "%s/wal/%010u.wal", p.dir, 1);
	assert_int_equal(rename(path, away), 0);
	must_find(p.db, "0000000001.wal", "is missing");
	assert_int_equal(rename(away, path), 0);
	nothing_wrong(p.db);
	planted_release(&p);
}

static void a_flip_in_the_catalog_is_found(void **state)
{
	char *dir = dt_mkdir(), path[512], name[80];
	struct db *db = open_small(dir, 1, 3600 * 1000);
	unsigned found = 0, pages = 0;
	struct stat st;

	(void)state;
	for (unsigned i = 0; i < 150; i++) {
		snprintf(name, sizeof name, "c%03u-%050d", i, 0);
		coll_put(dt_create(db, name, DIM, VX_L2, 1));
	}
	db_close(db);
	db = open_small(dir, 1, 3600 * 1000);
	path_of(path, dir, "catalog.db");
	assert_int_equal(stat(path, &st), 0);
	for (off_t at = 0; at < st.st_size; at += 4096, pages++) {
		struct findings l;

		flip(path, at + 1000);
		look(db, &l);
		found += l.v.damage > 0;
		assert_true(l.v.damage == 0 || strstr(l.text, "catalog.db:"));
		flip(path, at + 1000);
	}
	/* The start wrote one page, and its newest version is in SQLite's log. */
	print_message("catalog.db: %u pages, %u flips found\n", pages, found);
	assert_true(pages > 8);
	assert_true(found + 1 >= pages);
	nothing_wrong(db);
	char away[600];
	snprintf(away, sizeof away, "%s.away", dir);
	assert_int_equal(rename(path, away), 0);
	must_find(db, "catalog.db", "is missing");
	assert_int_equal(rename(away, path), 0);
	db_close(db);
	dt_rm(dir);
}

static void a_changed_identity_is_found(void **state)
{
	struct planted p;
	char path[512], away[600];

	(void)state;
	planted_init(&p);
	path_of(path, p.dir, "node.json");
	flip(path, 24);
	must_find(p.db, "node.json", "damaged");
	flip(path, 24);
	snprintf(away, sizeof away, "%s.away", p.dir);
	assert_int_equal(rename(path, away), 0);
	must_find(p.db, "node.json", "missing");
	assert_int_equal(rename(away, path), 0);
	path_of(path, p.dir, "lock");
	assert_int_equal(unlink(path), 0);
	close(open(path, O_CREAT | O_WRONLY, 0644));
	must_find(p.db, "lock", "no second one");
	planted_release(&p);
}

static void a_flip_in_a_snapshot_is_found(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct planted p;
	char path[512];

	(void)state;
	planted_init(&p);
	assert_ok(snapshot_take(p.c, "good", NULL, NULL, &err));
	assert_ok(snapshot_take(p.c, "bad", NULL, NULL, &err));
	nothing_wrong(p.db);
	path_of(path, p.dir, "snapshots/docs/bad/s001.000000.vec");
	flip(path, 20975616 + 40);
	must_find(p.db, "snapshots/docs/bad", "s001.000000.vec is damaged");
	flip(path, 20975616 + 40);
	path_of(path, p.dir, "snapshots/docs/bad/manifest");
	flip(path, 100);
	must_find(p.db, "snapshots/docs/bad", "snapshot 'bad' of 'docs'");
	flip(path, 100);
	path_of(path, p.dir, "snapshots/docs/bad/s000.meta.db");
	assert_int_equal(unlink(path), 0);
	must_find(p.db, "snapshots/docs/bad", "s000.meta.db");
	assert_ok(snapshot_remove(p.db, "docs", "bad", &err));
	nothing_wrong(p.db);
	planted_release(&p);
}

static void a_slice_that_is_nobodys_is_found(void **state)
{
	struct planted p;
	char path[512];

	(void)state;
	planted_init(&p);
	path_of(path, p.dir, "shard-001/c-77");
	assert_int_equal(mkdir(path, 0755), 0);
	must_find(p.db, "shard-001/c-77", "no slice of this shard");
	assert_int_equal(rmdir(path), 0);
	nothing_wrong(p.db);
	planted_release(&p);
}

static void a_slice_that_is_gone_is_found(void **state)
{
	struct planted p;
	char path[512], away[600];

	(void)state;
	planted_init(&p);
	snprintf(away, sizeof away, "%s.away", p.dir);
	path_of(path, p.dir, "shard-001/c-1/g-0001/000000.vec");
	assert_int_equal(rename(path, away), 0);
	must_find(p.db, "shard-001/c-1/g-0001/000000.vec", "is missing");
	assert_int_equal(rename(away, path), 0);
	path_of(path, p.dir, "shard-001/c-1");
	assert_int_equal(rename(path, away), 0);
	must_find(p.db, "shard-001/c-1", "is missing");
	assert_int_equal(rename(away, path), 0);
	path_of(path, p.dir, "shard-000");
	assert_int_equal(rename(path, away), 0);
	must_find(p.db, "shard-000", "is missing");
	assert_int_equal(rename(away, path), 0);
	nothing_wrong(p.db);
	planted_release(&p);
}

/* All of SQLite's log goes into the file. */
static void copy_back(const char *path)
{
	sqlite3 *c;

	assert_int_equal(pagesum_register(), SQLITE_OK);
	assert_int_equal(sqlite3_open_v2(path, &c, SQLITE_OPEN_READWRITE, PAGESUM_VFS), SQLITE_OK);
	assert_int_equal(sqlite3_exec(c, "SELECT * FROM state", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_wal_checkpoint_v2(c, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_close(c), SQLITE_OK);
}

/* A page that the daemon has read already, and would not read again. */
static void a_flip_in_a_page_that_was_read_is_found(void **state)
{
	struct planted p;
	struct stat st;
	char path[512];
	unsigned found = 0, pages = 0;

	(void)state;
	planted_init(&p);
	coll_put(p.c);
	db_close(p.db);
	path_of(path, p.dir, "shard-000/c-1/meta.db");
	copy_back(path);
	p.db = open_small(p.dir, 2, 3600 * 1000);
	p.c = dt_coll(p.db, "docs");
	for (uint64_t i = 1; i <= 250; i++) {
		struct coll_rec r = {.handle = 0};
		struct vx_err err = VX_ERR_INIT;
		char id[32];
		size_t len = (size_t)snprintf(id, sizeof id, "r%llu", (unsigned long long)i);
		assert_ok(coll_get(p.c, id, len, COLL_ALL, &r, &err));
		coll_rec_release(&r);
	}
	nothing_wrong(p.db);
	assert_int_equal(stat(path, &st), 0);
	for (off_t at = 4096; at < st.st_size; at += 8 * 4096, pages++) {
		struct findings l;

		flip(path, at + 1000);
		look(p.db, &l);
		found += strstr(l.text, "shard-000/c-1/meta.db:") != NULL;
		flip(path, at + 1000);
	}
	print_message("meta.db: %u pages, %u flips found\n", pages, found);
	assert_true(pages > 4);
	assert_true(found + 2 >= pages);
	planted_release(&p);
}

/* As must_find, of what would be made anew. */
static void must_find_derived(struct db *db, const char *file, const char *why)
{
	struct findings l;

	look(db, &l);
	if (!strstr(l.text, file) || !strstr(l.text, why) || l.v.derived != 1 || l.v.damage)
		fail_msg("%s, '%s', is not all of %s", file, why, l.text);
}

/* What a mark claimed and the tables do not have, before the next start finds it. */
static void a_claim_that_is_not_met_is_found(void **state)
{
	struct planted p;
	char path[512];

	(void)state;
	planted_init(&p);
	path_of(path, p.dir, "shard-001/c-1/mark");
	assert_int_equal(claim_write(disk_real(), path, 1), 0);
	nothing_wrong(p.db);
	assert_int_equal(claim_write(disk_real(), path, 1000000), 0);
	must_find(p.db, "shard-001/c-1/meta.db", "to 1000000");
	for (off_t at = 0; at < 24; at += 5) {
		flip(path, at);
		must_find_derived(p.db, "shard-001/c-1/mark", "claims nothing");
		flip(path, at);
	}
	/* As a power cut leaves it. */
	assert_int_equal(truncate(path, 10), 0);
	nothing_wrong(p.db);
	planted_release(&p);
}

/* The claim is the slice's, the tables are a generation's: who still reads the one before is behind, and nothing is lost. */
static void a_generation_that_was_left_is_no_damage(void **state)
{
	struct planted p;
	struct vx_err err = VX_ERR_INIT;
	struct findings l = {.v = {.found = note_found}};
	int rc = 0;

	(void)state;
	planted_init(&p);
	struct shard *sh = p.db->shards[0];
	struct slice *old = shard_slice_get(sh, p.c->cid, &rc, &err);
	assert_non_null(old);
	uint32_t was = slice_view(old).generation;
	assert_ok(coll_compact(p.c, &err));
	assert_ok(coll_index_wait(p.c, clock_mono_ns() + 30000000000u, NULL, NULL));
	for (uint64_t i = 1; i <= 20; i++)
		assert_ok(put_long(p.c, i, 2));
	struct slice *now = shard_slice_get(sh, p.c->cid, &rc, &err);
	assert_non_null(now);
	assert_int_equal(slice_view(now).generation, was + 1);
	/* As a mark of the new one leaves it. */
	char path[512];
	path_of(path, p.dir, "shard-000/c-1/mark");
	assert_int_equal(claim_write(disk_real(), path, slice_view(now).applied), 0);
	assert_true(slice_view(now).applied > slice_view(old).applied);
	l.v.ctx = &l;
	assert_ok(slice_verify(old, &l.v, &err));
	if (l.text[0])
		fail_msg("found: %s", l.text);
	slice_put(now);
	slice_put(old);
	nothing_wrong(p.db);
	planted_release(&p);
}

/* The checkpoint that the next start would load. */
static void a_flip_in_a_checkpoint_is_found(void **state)
{
	struct planted p;
	struct stat st;
	char path[512];

	(void)state;
	planted_init(&p);
	for (uint64_t i = 251; i <= 2600; i++)
		assert_ok(put_long(p.c, i, 1));
	coll_put(p.c);
	db_close(p.db);
	p.db = open_small(p.dir, 2, 3600 * 1000);
	p.c = dt_coll(p.db, "docs");
	path_of(path, p.dir, "shard-000/c-1/graph.ckpt");
	if (stat(path, &st) < 0)
		path_of(path, p.dir, "shard-000/c-1/g-0001/graph.ckpt");
	assert_int_equal(stat(path, &st), 0);
	nothing_wrong(p.db);
	for (off_t at = 0; at < st.st_size; at += 1 + st.st_size / 7) {
		flip(path, at);
		must_find_derived(p.db, "graph.ckpt", "damaged");
		flip(path, at);
	}
	assert_int_equal(truncate(path, st.st_size - 1), 0);
	must_find_derived(p.db, "graph.ckpt", "length");
	planted_release(&p);
}

static void what_does_not_belong_is_a_note(void **state)
{
	static const char *const names[] = {
		"stray", "shard-007", "wal/stray.wal", "shard-000/stray"};
	struct planted p;
	struct findings l;
	char path[512];

	(void)state;
	planted_init(&p);
	for (size_t i = 0; i < VX_ARRAY_SIZE(names); i++) {
		path_of(path, p.dir, names[i]);
		close(open(path, O_CREAT | O_WRONLY, 0644));
	}
	look(p.db, &l);
	assert_int_equal(l.v.damage + l.v.derived, 0);
	assert_int_equal(l.v.notes, VX_ARRAY_SIZE(names));
	for (size_t i = 0; i < VX_ARRAY_SIZE(names); i++)
		assert_non_null(strstr(l.text, names[i]));
	planted_release(&p);
}

/* A restore makes its collection under a hidden name, and a kill leaves that. */
static void what_a_restore_leaves_is_no_damage(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct planted p;
	struct findings l = {.v = {.found = note_found, .ctx = &l}};

	(void)state;
	planted_init(&p);
	assert_ok(coll_create_raw(
		p.db, ".restore-0123456789abcdef", 2, &(struct buf)BUF_INIT, 0, &err));
	nothing_wrong(p.db);
	coll_put(p.c);
	db_close(p.db);
	assert_ok(node_verify(p.dir, &l.v, &err));
	if (l.v.damage || l.v.derived)
		fail_msg("found: %s", l.text);
	p.db = open_small(p.dir, 2, 3600 * 1000);
	p.c = dt_coll(p.db, "docs");
	planted_release(&p);
}

/* --- beside everything --------------------------------------------------------------------------- */
struct load {
	struct db *db;
	struct coll *c;
	atomic_bool stop;
	atomic_uint writes, snapshots, restores, collections;
};

static void must(struct load *l, const char *what, int rc, const struct vx_err *err)
{
	(void)l;
	if (rc)
		fail_msg("%s: %s", what, vx_err_msg(err, rc));
}

static void *write_and_delete(void *arg)
{
	struct load *l = arg;
	struct vx_err err = VX_ERR_INIT;
	uint64_t base = atomic_fetch_add(&l->writes, 1) * 1000;

	for (uint64_t v = 1; !atomic_load(&l->stop); v++) {
		uint64_t key = base + v * 7 % 300;
		err = (struct vx_err)VX_ERR_INIT;
		must(l, "put", put_long(l->c, key, v), &err);
		if (v % 3 == 0) {
			int rc = dt_del(l->c, base + v * 11 % 300, &err);
			must(l, "delete", rc == -ENOENT ? 0 : rc, &err);
		}
		atomic_fetch_add(&l->writes, 1);
	}
	return NULL;
}

static void *compact(void *arg)
{
	struct load *l = arg;

	while (!atomic_load(&l->stop)) {
		struct vx_err err = VX_ERR_INIT;
		must(l, "compact", coll_compact(l->c, &err), &err);
		(void)!coll_index_wait(l->c, clock_mono_ns() + 300000000u, NULL, NULL);
	}
	return NULL;
}

static void *take_and_restore(void *arg)
{
	struct load *l = arg;
	char name[32];

	for (unsigned i = 0; !atomic_load(&l->stop); i++) {
		struct vx_err err = VX_ERR_INIT;
		snprintf(name, sizeof name, "s%u", i % 3);
		int rc = snapshot_take(l->c, name, NULL, NULL, &err);
		must(l, "snapshot", rc == -EEXIST ? 0 : rc, &err);
		if (i % 4 == 1) {
			err = (struct vx_err)VX_ERR_INIT;
			rc = snapshot_restore(l->db, "docs", name, "copy", true, NULL, NULL, &err);
			must(l, "restore", rc, &err);
			atomic_fetch_add(&l->restores, 1);
		}
		snprintf(name, sizeof name, "s%u", (i + 1) % 3);
		rc = snapshot_remove(l->db, "docs", name, &err);
		must(l, "remove", rc == -ENOENT ? 0 : rc, &err);
		atomic_fetch_add(&l->snapshots, 1);
	}
	return NULL;
}

static void *come_and_go(void *arg)
{
	struct load *l = arg;
	char name[32];

	for (unsigned i = 0; !atomic_load(&l->stop); i++) {
		struct coll_schema s = {.dim = DIM, .metric = VX_L2, .spread = 1 + i % 3};
		struct vx_err err = VX_ERR_INIT;
		int rc = 0;

		snprintf(name, sizeof name, "n%u", i % 5);
		must(l, "create", db_create(l->db, name, &s, &err), &err);
		struct coll *c = db_coll(l->db, name, &rc, &err);
		must(l, "pin", rc, &err);
		for (uint64_t k = 1; k <= 3 + i % 20; k++)
			must(l, "put", put_long(c, k, 1), &err);
		coll_put(c);
		must(l, "drop", db_drop(l->db, name, true, &err), &err);
		atomic_fetch_add(&l->collections, 1);
	}
	return NULL;
}

static uint64_t stat_of(struct db *db, const char *key)
{
	struct buf b = BUF_INIT;

	assert_ok(db_stats(db, &b));
	assert_ok(buf_cstr(&b));
	const char *p = strstr((const char *)b.data, key);
	uint64_t v = p ? strtoull(p + strlen(key), NULL, 10) : 0;
	buf_release(&b);
	return v;
}

static void beside_everything_nothing_is_found(void **state)
{
	static void *(*const jobs[])(void *) = {
		write_and_delete, write_and_delete, compact, take_and_restore, come_and_go};
	const char *s = getenv("FSCK_SECONDS");
	const uint64_t span = (s ? strtoull(s, NULL, 10) : 8) * UINT64_C(1000000000);
	pthread_t threads[VX_ARRAY_SIZE(jobs)];
	char *dir = dt_mkdir();
	struct load l = {.db = open_with(dir, 4, 20, 2u << 20)}; /* entries of a restore fit */
	unsigned looks = 0;
	uint64_t records = 0, notes = 0, end = clock_mono_ns() + span;

	(void)state;
	l.c = dt_create(l.db, "docs", DIM, VX_L2, 4);
	for (size_t i = 0; i < VX_ARRAY_SIZE(jobs); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, jobs[i], &l), 0);
	while (clock_mono_ns() < end) {
		struct findings f;

		look(l.db, &f);
		if (f.v.damage || f.v.derived || strstr(f.text, "belong"))
			fail_msg("look %u found: %s", looks, f.text);
		records += f.v.records;
		notes += f.v.notes;
		looks++;
	}
	atomic_store(&l.stop, true);
	for (size_t i = 0; i < VX_ARRAY_SIZE(jobs); i++)
		pthread_join(threads[i], NULL);
	struct coll_index_info info = {.records = 0};
	assert_ok(coll_index_info(l.c, &info));
	print_message("%u looks at %llu records beside %u writes, %llu compactions, %u snapshots, "
		      "%u restores, %u collections; %llu MiB of log, %llu of it left; %llu notes\n",
		looks, (unsigned long long)records, atomic_load(&l.writes),
		(unsigned long long)info.compactions, atomic_load(&l.snapshots),
		atomic_load(&l.restores), atomic_load(&l.collections),
		(unsigned long long)stat_of(l.db, "wal_written_bytes ") >> 20,
		(unsigned long long)stat_of(l.db, "wal_bytes ") >> 20, (unsigned long long)notes);
	nothing_wrong(l.db);
	coll_put(l.c);
	db_close(l.db);
	dt_rm(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flip_in_the_log_is_found),
		cmocka_unit_test(a_flip_in_the_catalog_is_found),
		cmocka_unit_test(a_changed_identity_is_found),
		cmocka_unit_test(a_flip_in_a_snapshot_is_found),
		cmocka_unit_test(a_slice_that_is_nobodys_is_found),
		cmocka_unit_test(a_slice_that_is_gone_is_found),
		cmocka_unit_test(a_flip_in_a_page_that_was_read_is_found),
		cmocka_unit_test(a_claim_that_is_not_met_is_found),
		cmocka_unit_test(a_generation_that_was_left_is_no_damage),
		cmocka_unit_test(a_flip_in_a_checkpoint_is_found),
		cmocka_unit_test(what_does_not_belong_is_a_note),
		cmocka_unit_test(what_a_restore_leaves_is_no_damage),
		cmocka_unit_test(beside_everything_nothing_is_found),
	};

	/* What is planted is logged, and rightly. */
	if (!getenv("VECFS_LOG"))
		(void)!log_configure("off");
	cmocka_set_test_filter(getenv("FSCK_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
