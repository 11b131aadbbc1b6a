/* Properties of the store, against a model in memory.
 *
 * Long because what is asked of a store as a whole stands here; compaction, transactions, rot and threads
 * have files of their own. */
#include "store/pagesum.h"
#include "fixture.h"

#include <sqlite3.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void apply_random(struct fix *f, uint32_t max)
{
	uint8_t expect[64], got[64];
	struct apply_result res;
	uint32_t n;

	struct logged *l = fix_random_entry(f, max, expect, &n);
	assert_int_equal(fix_apply(f, l, &res, got), 0);
	assert_int_equal(res.status, 0);
	assert_false(res.repeat);
	assert_memory_equal(expect, got, n);
	assert_int_equal(res.inserted + res.updated + res.deleted + res.missing + res.conflicts, n);
}

static void step_index(struct fix *f)
{
	int rc;
	struct slice *sl = shard_slice_get(f->s, CID, &rc, NULL);
	assert_non_null(sl);
	assert_true(slice_index_step(sl, 16) >= 0);
	assert_int_equal(slice_index_save(sl, 8, NULL), 0);
	slice_put(sl);
}

static void compact(struct fix *f)
{
	int rc;
	struct slice *sl = shard_slice_get(f->s, CID, &rc, NULL);
	assert_non_null(sl);
	assert_int_equal(slice_compact(sl, NULL), 0);
	slice_put(sl);
}

/* Whatever is applied, reopened, replayed, compacted or marked: readers see what the model has. */
static void store_agrees_with_the_model(void **state)
{
	(void)state;
	struct fix f;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	for (int i = 0; i < 1500; i++) {
		apply_random(&f, 12);
		switch (fix_rnd(&f) % 40) {
		case 0:
			fix_close(&f, fix_rnd(&f) % 2);
			fix_open(&f);
			break;
		case 1:
			fix_close(&f, fix_rnd(&f) % 2);
			fix_open(&f);
			fix_replay(&f);
			break;
		case 2:
			fix_mark(&f);
			break;
		case 3:
			step_index(&f);
			break;
		case 6:
			compact(&f);
			break;
		case 4:
		case 5:
			fix_compare(&f);
			break;
		}
	}
	fix_compare(&f);
	fix_release(&f);
}

/* An entry that comes twice is applied once and answered alike. */
static void store_repeat_is_applied_once(void **state)
{
	(void)state;
	struct fix f;
	struct apply_result a, b;
	uint8_t expect[64];
	uint32_t n;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	for (int i = 0; i < 50; i++) {
		struct logged l = *fix_random_entry(&f, 20, expect, &n);
		assert_int_equal(fix_apply(&f, &l, &a, NULL), 0);
		l.index++;
		assert_int_equal(fix_apply(&f, &l, &b, NULL), 0);
		assert_true(b.repeat);
		assert_int_equal(a.inserted, b.inserted);
		assert_int_equal(a.updated, b.updated);
		assert_int_equal(a.deleted, b.deleted);
		assert_int_equal(a.missing, b.missing);
		assert_int_equal(a.conflicts, b.conflicts);
	}
	fix_compare(&f);
	fix_release(&f);
}

/* A scan gives the view it began with while its rows are replaced and deleted. */
static void store_scan_sees_one_view(void **state)
{
	(void)state;
	struct fix f;
	int rc;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 20; i++)
			apply_random(&f, 12);
		struct slice *sl = shard_slice_get(f.s, CID, &rc, NULL);
		assert_non_null(sl);
		struct slice_scan *sc;
		const struct slice_rec *p;
		struct model_rec before[N_IDS];
		uint32_t live = 0, seen = 0;
		uint64_t after = 0;
		memcpy(before, f.m, sizeof before);
		for (uint32_t i = 0; i < N_IDS; i++)
			live += before[i].exists;
		assert_int_equal(slice_scan_open(sl, SLICE_META | SLICE_VEC, &sc), 0);
		/* Nothing is loaded yet: all of it must come from what is kept aside. */
		for (int i = 0; i < 30; i++)
			apply_random(&f, 12);
		while ((rc = slice_scan_next(sc, after, &p, NULL)) == 0) {
			char id[VX_ID_MAX];
			uint32_t i = 0;
			after = p->rowid;
			while (i < N_IDS && (fix_id(i, id) != p->rec.id_len ||
						    memcmp(id, p->rec.id, p->rec.id_len) != 0))
				i++;
			assert_true(i < N_IDS);
			assert_true(before[i].exists);
			assert_int_equal(p->version, before[i].version);
			assert_memory_equal(p->rec.vec, before[i].vec, sizeof before[i].vec);
			assert_memory_equal(p->rec.meta, before[i].meta, p->rec.meta_len);
			seen++;
			if (fix_rnd(&f) % 4 == 0)
				apply_random(&f, 12);
		}
		assert_int_equal(rc, -ENOENT);
		assert_int_equal(seen, live);
		slice_scan_close(sc);
		slice_put(sl);
	}
	fix_compare(&f);
	fix_release(&f);
}

/* Vectors that never reached the disk come back from the log. */
static void store_torn_vectors_are_repaired(void **state)
{
	(void)state;
	for (int round = 0; round < 12; round++) {
		struct fix f;
		char path[512];
		uint64_t slots_at_mark;
		int rc;

		fix_init(&f, NULL);
		assert_int_equal(fix_create(&f, CID), 0);
		for (int i = 0; i < 30; i++)
			apply_random(&f, 12);
		if (round % 3 != 2)
			fix_mark(&f);
		struct slice *sl = shard_slice_get(f.s, CID, &rc, NULL);
		struct slice_stats st;
		slice_stat(sl, &st);
		slots_at_mark = round % 3 != 2 ? st.nslots : 0;
		slice_put(sl);
		for (int i = 0; i < 30; i++)
			apply_random(&f, 12);
		fix_close(&f, round % 2);
		fix_path(&f, "c-17/g-0001/000000.vec", path);
		if (round % 3 == 2 && round % 2) {
			assert_int_equal(truncate(path, (off_t)(fix_rnd(&f) % 6000)), 0);
		} else {
			int fd = open(path, O_RDWR);
			uint64_t row = 4096 + slots_at_mark * 64;
			uint64_t vec = 20975616 + slots_at_mark * DIM * 4;
			char junk[40];
			memset(junk, (int)fix_rnd(&f), sizeof junk);
			assert_int_equal(pwrite(fd, junk, 40, (off_t)vec), 40);
			assert_int_equal(pwrite(fd, junk, 40, (off_t)(vec + 200)), 40);
			assert_int_equal(pwrite(fd, junk, 40, (off_t)(row + 128)), 40);
			close(fd);
		}
		fix_open(&f);
		/* Until then nothing is answered from what is missing. */
		sl = shard_slice_get(f.s, CID, &rc, NULL);
		assert_non_null(sl);
		float q[DIM] = {0};
		struct slice_hit hit;
		uint32_t n;
		struct index_query iq = {.vec = q, .k = 1};
		assert_int_equal(slice_search(sl, &iq, &hit, &n, NULL), -EAGAIN);
		slice_put(sl);
		fix_replay(&f);
		fix_compare(&f);
		for (int i = 0; i < 10; i++)
			apply_random(&f, 12);
		fix_compare(&f);
		fix_release(&f);
	}
}

/* A flipped byte in a vector is an error for its record and never a wrong answer. */
static void store_flipped_byte_is_found(void **state)
{
	(void)state;
	struct fix f;
	char path[512], id[VX_ID_MAX];
	int rc;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, i, (float)i), NULL, NULL), 0);
	fix_mark(&f);
	/* A transaction after the mark lets go of the batches, so that nothing is compared. */
	assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 20, 20), NULL, NULL), 0);
	fix_mark(&f);
	for (uint32_t i = 0; i < 20; i++) {
		fix_close(&f, false);
		fix_path(&f, "c-17/g-0001/000000.vec", path);
		int fd = open(path, O_RDWR);
		off_t at = 20975616 + (off_t)(i * DIM * 4 + fix_rnd(&f) % (DIM * 4));
		uint8_t b;
		assert_int_equal(pread(fd, &b, 1, at), 1);
		b ^= (uint8_t)(1 + fix_rnd(&f) % 255);
		assert_int_equal(pwrite(fd, &b, 1, at), 1);
		close(fd);
		fix_open(&f);
		struct slice *sl = shard_slice_get(f.s, CID, &rc, NULL);
		assert_non_null(sl);
		struct slice_rec r = {.mem = BUF_INIT};
		size_t len = fix_id(i, id);
		assert_int_equal(slice_get(sl, id, len, SLICE_VEC, &r, NULL), -EUCLEAN);
		assert_int_equal(slice_get(sl, id, len, SLICE_META, &r, NULL), 0);
		slice_rec_release(&r);
		struct slice_hit hits[32];
		uint32_t n;
		struct index_query iq = {.vec = f.m[i].vec, .k = 32, .exact = true};
		assert_int_equal(slice_search(sl, &iq, hits, &n, NULL), 0);
		assert_int_equal(n, 20 - i);
		for (uint32_t k = 0; k < n; k++)
			assert_true(hits[k].slot > i);
		slice_put(sl);
	}
	fix_release(&f);
}

/* --- what a mark syncs ----------------------------------------------------------------- */

/* A disk that notes what was made and not synced since. */
struct note_disk {
	struct disk base;
	char fd_path[256][256];
	char unsynced[64][256];  /* files with writes, directories with new names */
	int fail_sync, fail_dir; /* the next sync fails with this */
};
static struct disk_ops note_ops;

static void note_add(struct note_disk *d, const char *path)
{
	unsigned free_at = 64;

	for (unsigned i = 0; i < 64; i++) {
		if (strcmp(d->unsynced[i], path) == 0)
			return;
		if (!d->unsynced[i][0] && free_at == 64)
			free_at = i;
	}
	assert_true(free_at < 64);
	snprintf(d->unsynced[free_at], sizeof d->unsynced[0], "%s", path);
}

static void note_parent(struct note_disk *d, const char *path)
{
	char dir[256];

	snprintf(dir, sizeof dir, "%s", path);
	*strrchr(dir, '/') = 0;
	note_add(d, dir);
}

static void note_del(struct note_disk *d, const char *path)
{
	for (unsigned i = 0; i < 64; i++)
		if (strcmp(d->unsynced[i], path) == 0)
			d->unsynced[i][0] = 0;
}

static int n_open(struct disk *b, const char *path, int oflags, mode_t mode)
{
	struct note_disk *d = VX_CONTAINER_OF(b, struct note_disk, base);
	bool fresh = (oflags & O_CREAT) && access(path, F_OK) != 0;

	int fd = disk_real()->ops->open(disk_real(), path, oflags, mode);
	if (fd >= 0) {
		assert_true(fd < 256);
		snprintf(d->fd_path[fd], sizeof d->fd_path[0], "%s", path);
		if (fresh)
			note_parent(d, path);
	}
	return fd;
}

static ssize_t n_pwrite(struct disk *b, int fd, const void *p, size_t n, uint64_t off)
{
	struct note_disk *d = VX_CONTAINER_OF(b, struct note_disk, base);

	note_add(d, d->fd_path[fd]);
	return disk_real()->ops->pwrite(disk_real(), fd, p, n, off);
}

static int n_mkdir(struct disk *b, const char *path, mode_t mode)
{
	int rc = disk_real()->ops->mkdir(disk_real(), path, mode);

	if (rc == 0)
		note_parent(VX_CONTAINER_OF(b, struct note_disk, base), path);
	return rc;
}

static int n_fdatasync(struct disk *b, int fd)
{
	struct note_disk *d = VX_CONTAINER_OF(b, struct note_disk, base);
	int rc = d->fail_sync;

	d->fail_sync = 0;
	/* As the kernel does it: what could not be written is clean from now on. */
	note_del(d, d->fd_path[fd]);
	return rc ? rc : disk_real()->ops->fdatasync(disk_real(), fd);
}

static int n_sync_dir(struct disk *b, const char *path)
{
	struct note_disk *d = VX_CONTAINER_OF(b, struct note_disk, base);
	int rc = d->fail_dir;

	d->fail_dir = 0;
	note_del(d, path);
	return rc ? rc : disk_real()->ops->sync_dir(disk_real(), path);
}

static void note_disk_init(struct note_disk *d)
{
	note_ops = *disk_real()->ops;
	note_ops.open = n_open;
	note_ops.pwrite = n_pwrite;
	note_ops.mkdir = n_mkdir;
	note_ops.fdatasync = n_fdatasync;
	note_ops.sync_dir = n_sync_dir;
	memset(d, 0, sizeof *d);
	d->base.ops = &note_ops;
}

static void assert_all_synced(const struct note_disk *d)
{
	for (unsigned i = 0; i < 64; i++)
		if (d->unsynced[i][0])
			fail_msg("%s is not synced", d->unsynced[i]);
}

/* From the directory of the shard itself down to the bytes of the vectors. */
static void store_mark_syncs_files_and_all_new_names(void **state)
{
	(void)state;
	static struct note_disk d;
	struct fix f;

	note_disk_init(&d);
	fix_init(&f, &d.base);
	fix_mark(&f);
	assert_all_synced(&d);
	assert_int_equal(fix_create(&f, CID), 0);
	assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 1, 1), NULL, NULL), 0);
	fix_mark(&f);
	assert_all_synced(&d);
	assert_int_equal(fix_create(&f, 18), 0);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(
			fix_apply(&f, fix_upsert(&f, i % 2 ? 18 : CID, i, 2), NULL, NULL), 0);
	fix_mark(&f);
	assert_all_synced(&d);
	fix_release(&f);
}

/* The kernel tells of pages that it could not write once and then forgets them: a mark that failed to sync
 * cannot be repeated.  The log has the entries. */
static void failed_sync_stays(int rc, bool dir)
{
	static struct note_disk d;
	struct vx_err err = VX_ERR_INIT;
	struct fix f;

	note_disk_init(&d);
	fix_init(&f, &d.base);
	assert_int_equal(fix_create(&f, CID), 0);
	fix_mark(&f);
	assert_int_equal(fix_create(&f, 18), 0);
	assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 1, 1), NULL, NULL), 0);
	if (dir)
		d.fail_dir = rc;
	else
		d.fail_sync = rc;
	assert_int_equal(shard_mark(f.s, shard_applied(f.s), &err), rc);
	assert_int_equal(shard_mark(f.s, shard_applied(f.s), &err), rc);
	assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 2, 1), NULL, NULL), 0);
	assert_int_equal(shard_mark(f.s, shard_applied(f.s), &err), rc);
	fix_compare(&f);
	/* The next start verifies what the log brings again. */
	fix_close(&f, false);
	fix_open(&f);
	fix_replay(&f);
	fix_compare(&f);
	fix_mark(&f);
	fix_release(&f);
}

static void store_failed_sync_is_not_forgotten(void **state)
{
	(void)state;
	failed_sync_stays(-EIO, false);
	failed_sync_stays(-ENOSPC, false);
	failed_sync_stays(-EIO, true);
	failed_sync_stays(-ENOSPC, true);
}

/* The kernel's sync, noted: SQLite's part of a mark does not go through the table of the disk. */
static struct {
	char path[600];
	unsigned n;
} synced_file;

int fdatasync(int fd)
{
	char name[64], path[600];

	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, path, sizeof path - 1);
	path[n > 0 ? n : 0] = 0;
	synced_file.n += strcmp(path, synced_file.path) == 0;
	return fsync(fd);
}

/* The first page of a new meta.db is written without a sync.  A checkpoint that a reader keeps from its end does
 * not sync it either, and SQLite throws away the log of a file that came out of a power cut empty. */
static void store_mark_syncs_a_new_file_beside_readers(void **state)
{
	(void)state;
	uint8_t expect[64];
	sqlite3 *reader;
	struct fix f;
	char path[512];
	uint32_t n;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	fix_path(&f, "c-17/meta.db", path);
	for (int i = 0; i < 30; i++)
		assert_int_equal(
			fix_apply(&f, fix_random_entry(&f, 30, expect, &n), NULL, NULL), 0);
	assert_int_equal(sqlite3_open_v2(path, &reader, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM rec", NULL, NULL, NULL),
		SQLITE_OK);
	for (int i = 0; i < 5; i++)
		assert_int_equal(
			fix_apply(&f, fix_random_entry(&f, 30, expect, &n), NULL, NULL), 0);
	snprintf(synced_file.path, sizeof synced_file.path, "%s", path);
	synced_file.n = 0;
	fix_mark(&f);
	assert_true(synced_file.n > 0);
	synced_file.path[0] = 0;
	sqlite3_close(reader);
	fix_release(&f);
}

static long count_records(const char *path)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;

	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	long n = 0; /* no table yet: all is in the log that was left behind */
	if (sqlite3_prepare_v2(db, "SELECT count(*) FROM rec", -1, &st, NULL) == SQLITE_OK &&
		sqlite3_step(st) == SQLITE_ROW)
		n = (long)sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return n;
}

/* Many slices are marked with one sync, and SQLite's log is copied back before it grows long; nothing of what
 * is below the mark needs the log. */
static void store_mark_of_many_slices_holds(void **state)
{
	(void)state;
	enum { SLICES = 40, PER_ENTRY = 40 };
	char from[512], to[512], cmd[1200];
	struct slice_stats st;
	struct fix f;
	int rc;

	fix_init(&f, NULL);
	for (uint32_t c = 0; c < SLICES; c++)
		assert_int_equal(fix_create(&f, 100 + c), 0);
	for (int round = 0; round < 3; round++) {
		for (uint32_t c = 0; c < SLICES; c++)
			for (uint32_t i = 0; i < (c == 7 ? PER_ENTRY : 2); i++)
				assert_int_equal(
					fix_apply(&f, fix_upsert(&f, 100 + c, i, 1), NULL, NULL),
					0);
		fix_mark(&f);
	}
	/* The busy one has had its log copied back: its file serves alone. */
	fix_path(&f, "c-107/meta.db", from);
	fix_path(&f, "copy.db", to);
	snprintf(cmd, sizeof cmd, "cp '%s' '%s'", from, to);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(count_records(to), PER_ENTRY);
	fix_close(&f, false);
	fix_open(&f);
	fix_replay(&f);
	shard_replayed(f.s);
	for (uint32_t c = 0; c < SLICES; c++) {
		struct slice *sl = shard_slice_get(f.s, 100 + c, &rc, NULL);

		assert_non_null(sl);
		slice_stat(sl, &st);
		assert_int_equal(st.count, c == 7 ? PER_ENTRY : 2);
		slice_put(sl);
	}
	fix_release(&f);
}

/* An unfinished slice waits for its entry; when the log has none it is a damaged one. */
static void store_unfinished_slice_is_damage_after_the_replay(void **state)
{
	(void)state;
	static const char *const files[] = {"meta.db", "meta.db-wal", "meta.db-shm"};
	struct vx_err err = VX_ERR_INIT;
	struct apply_result res;
	char path[512], name[64];
	struct fix f;
	int rc = 0;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 1, 1), NULL, NULL), 0);
	for (int marked = 0; marked < 2; marked++) {
		if (marked)
			fix_mark(&f);
		fix_close(&f, false);
		for (int i = 0; i < 3; i++) {
			snprintf(name, sizeof name, "c-%u/%s", CID, files[i]);
			fix_path(&f, name, path);
			(void)unlink(path);
		}
		fix_open(&f);
		fix_replay(&f);
		shard_replayed(f.s);
		if (!marked) {
			fix_compare(&f);
			continue;
		}
		assert_null(shard_slice_get(f.s, CID, &rc, &err));
		assert_int_equal(rc, -EUCLEAN);
		assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 2, 1), &res, NULL), 0);
		assert_int_equal(res.status, -EUCLEAN);
	}
	fix_release(&f);
}

/* The log that makes a slice has all that ever was in it: what a power cut left of its file does not matter. */
static void store_a_torn_slice_is_made_again(void **state)
{
	(void)state;
	/* Of meta.db: its length, and a range that is zeros. */
	static const struct {
		off_t size, from;
		size_t n;
	} torn[] = {{4096, 512, 3584}, {512, 0, 0}, {100, 0, 0}, {8192, 4096, 4096}, {8192, 0, 512},
		{8192, 100, 1}, {12288, 3584, 1024}, {0, 0, 0}};
	static const uint8_t zeros[4096];
	unsigned pages = 1;

	/* Then each page alone. */
	for (unsigned i = 0; i < VX_ARRAY_SIZE(torn) + pages; i++) {
		for (int log = 0; log < 2; log++) {
			struct fix f;
			char path[512];

			fix_init(&f, NULL);
			assert_int_equal(fix_create(&f, 18), 0);
			fix_mark(&f);
			assert_int_equal(fix_create(&f, CID), 0);
			for (uint32_t k = 0; k < 20; k++)
				assert_int_equal(
					fix_apply(&f, fix_upsert(&f, CID, k, 1), NULL, NULL), 0);
			fix_close(&f, false);
			char name[64];
			snprintf(name, sizeof name, "c-%u/meta.db-wal", CID);
			fix_path(&f, name, path);
			if (log)
				(void)unlink(path);
			path[strlen(path) - strlen("-wal")] = 0;
			struct stat meta;
			assert_int_equal(stat(path, &meta), 0);
			pages = (unsigned)(meta.st_size / 4096);
			int fd = open(path, O_RDWR);
			assert_true(fd >= 0);
			if (i < VX_ARRAY_SIZE(torn)) {
				assert_int_equal(ftruncate(fd, torn[i].size), 0);
				assert_int_equal(
					pwrite(fd, zeros, torn[i].n, torn[i].from), torn[i].n);
			} else {
				off_t at = 4096 * (off_t)(i - VX_ARRAY_SIZE(torn));
				assert_int_equal(pwrite(fd, zeros, 4096, at), 4096);
			}
			close(fd);
			fix_open(&f);
			fix_replay(&f);
			shard_replayed(f.s);
			fix_compare(&f);
			fix_mark(&f);
			fix_release(&f);
		}
	}
}

/* An entry that makes a slice which stood already has not all of it: the slice is damaged, and nothing of it is thrown away. */
static void store_a_marked_slice_is_not_made_again(void **state)
{
	(void)state;
	struct fix f;
	struct vx_err err = VX_ERR_INIT;
	char path[512];
	uint8_t before[4096], after[4096], junk[4096];
	int rc = 0;

	memset(junk, 0x5a, sizeof junk);
	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	for (uint32_t k = 0; k < 20; k++)
		assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, k, 1), NULL, NULL), 0);
	fix_mark(&f);
	assert_int_equal(fix_create(&f, CID), 0);
	fix_close(&f, false);
	char name[64];
	snprintf(name, sizeof name, "c-%u/meta.db", CID);
	fix_path(&f, name, path);
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
	assert_int_equal(pread(fd, before, sizeof before, 8192), sizeof before);
	close(fd);
	/* SQLite's log would heal the page. */
	char wal[540];
	snprintf(wal, sizeof wal, "%s-wal", path);
	assert_int_equal(truncate(wal, 0), 0);
	fix_open(&f);
	fix_replay(&f);
	shard_replayed(f.s);
	assert_null(shard_slice_get(f.s, CID, &rc, &err));
	assert_int_equal(rc, -EUCLEAN);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, after, sizeof after, 8192), sizeof after);
	close(fd);
	assert_memory_equal(before, after, sizeof after);
	fix_release(&f);
}

/* A damaged slice answers EUCLEAN; its neighbour never notices. */
static void store_damage_stays_in_its_slice(void **state)
{
	(void)state;
	static const char *const files[] = {"c-18/meta.db", "c-18/g-0001/000000.vec"};
	for (int k = 0; k < 2; k++) {
		struct fix f;
		struct vx_err err = VX_ERR_INIT;
		char path[512];
		struct apply_result res;
		int rc;

		fix_init(&f, NULL);
		assert_int_equal(fix_create(&f, CID), 0);
		assert_int_equal(fix_create(&f, 18), 0);
		for (uint32_t i = 0; i < 20; i++) {
			assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, i, 1), NULL, NULL), 0);
			assert_int_equal(fix_apply(&f, fix_upsert(&f, 18, i, 1), NULL, NULL), 0);
		}
		fix_mark(&f);
		assert_int_equal(fix_apply(&f, fix_upsert(&f, 18, 3, 1), NULL, NULL), 0);
		fix_mark(&f);
		fix_close(&f, false);
		fix_path(&f, files[k], path);
		int fd = open(path, O_RDWR);
		assert_true(fd >= 0);
		char junk[4096];
		memset(junk, 0x5a, sizeof junk);
		assert_int_equal(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
		close(fd);
		if (k == 0) {
			/* SQLite's log would heal the page. */
			fix_path(&f, "c-18/meta.db-wal", path);
			assert_int_equal(truncate(path, 0), 0);
		}
		fix_open(&f);
		assert_null(shard_slice_get(f.s, 18, &rc, &err));
		assert_int_equal(rc, -EUCLEAN);
		assert_true(strlen(err.msg) > 0);
		assert_int_equal(fix_apply(&f, fix_upsert(&f, 18, 4, 1), &res, NULL), 0);
		assert_int_equal(res.status, -EUCLEAN);
		assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 4, 2), &res, NULL), 0);
		assert_int_equal(res.status, 0);
		fix_compare(&f);
		fix_mark(&f);
		fix_release(&f);
	}
}

/* A full disk, whichever call meets it, leaves nothing behind that a retry does not put right. */
static void store_full_disk_can_be_retried(void **state)
{
	(void)state;
	bool hit = true;

	for (int at = 1; hit; at++) {
		struct fault_disk d;
		struct fix f;
		uint8_t expect[64];
		uint32_t n;

		fault_disk_init(&d);
		fix_init(&f, &d.base);
		d.calls = 0;
		d.fail_at = at;
		f.rng = 12345;
		int rc = fix_create(&f, CID);
		if (rc) {
			assert_int_equal(rc, -ENOSPC);
			assert_int_equal(fix_apply(&f, &f.log[f.n_log - 1], NULL, NULL), 0);
		}
		for (int i = 0; i < 12; i++) {
			struct logged l = *fix_random_entry(&f, 30, expect, &n);
			struct apply_result res = {.status = 0};
			rc = fix_apply(&f, &l, &res, NULL);
			if (rc) {
				assert_int_equal(rc, -ENOSPC);
				assert_true(shard_applied(f.s) < l.index);
				assert_int_equal(fix_apply(&f, &l, &res, NULL), 0);
				assert_false(res.repeat);
			}
			assert_int_equal(res.status, 0);
		}
		hit = d.calls >= at;
		d.fail_at = 0;
		fix_compare(&f);
		fix_close(&f, false);
		fix_open(&f);
		fix_compare(&f);
		fix_release(&f);
		assert_true(at < 500);
	}
}

/* SQLite's own files on a full disk: the n-th of their writes fails, once. */
struct full_file_kind {
	sqlite3_io_methods methods; /* what SQLite sees */
	const sqlite3_io_methods *real;
};
static struct full_file_kind
	full_kinds[8]; /* files with locks have other methods than those without */
static sqlite3_vfs full_vfs, *real_vfs;
static int full_calls, full_at;

static int full_write(sqlite3_file *file, const void *p, int n, sqlite3_int64 off)
{
	const struct full_file_kind *k = (const void *)((const char *)file->pMethods -
							offsetof(struct full_file_kind, methods));

	if (++full_calls == full_at) {
		if (n > 1) /* some of it got through */
			(void)k->real->xWrite(file, p, n / 2, off);
		return SQLITE_FULL;
	}
	return k->real->xWrite(file, p, n, off);
}

static int full_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
	struct full_file_kind *k = full_kinds;

	(void)vfs;
	int rc = real_vfs->xOpen(real_vfs, name, file, flags, out);
	if (rc || !file->pMethods)
		return rc;
	while (k->real && k->real != file->pMethods)
		k++;
	if (!k->real) {
		k->real = file->pMethods;
		k->methods = *k->real;
		k->methods.xWrite = full_write;
	}
	file->pMethods = &k->methods;
	return rc;
}

/* The same for SQLite's files: the transaction is rolled back and the retry succeeds. */
static void store_full_disk_under_sqlite_can_be_retried(void **state)
{
	(void)state;
	bool hit = true;
	int failed = 0;

	/* Under the name that the store asks for: the newest of a name is the one that is found. */
	assert_int_equal(pagesum_register(), SQLITE_OK);
	real_vfs = sqlite3_vfs_find(PAGESUM_VFS);
	full_vfs = *real_vfs;
	full_vfs.xOpen = full_open;
	assert_int_equal(sqlite3_vfs_register(&full_vfs, 1), SQLITE_OK);
	for (int at = 1; hit; at++) {
		struct fix f;
		uint8_t expect[64];
		uint32_t n;

		fix_init(&f, NULL);
		f.rng = 4321;
		full_calls = 0;
		full_at = at;
		int rc = fix_create(&f, CID);
		if (rc) {
			assert_int_equal(rc, -ENOSPC);
			failed++;
			assert_int_equal(fix_apply(&f, &f.log[f.n_log - 1], NULL, NULL), 0);
		}
		for (int i = 0; i < 8; i++) {
			struct logged l = *fix_random_entry(&f, 30, expect, &n);
			struct apply_result res = {.status = 0};
			rc = fix_apply(&f, &l, &res, NULL);
			if (rc) {
				assert_int_equal(rc, -ENOSPC);
				failed++;
				assert_int_equal(fix_apply(&f, &l, &res, NULL), 0);
				assert_false(res.repeat);
			}
			assert_int_equal(res.status, 0);
		}
		hit = full_calls >= at;
		full_at = 0;
		fix_compare(&f);
		fix_close(&f, false);
		fix_open(&f);
		fix_replay(&f);
		fix_compare(&f);
		fix_release(&f);
		assert_true(at < 2000);
	}
	sqlite3_vfs_unregister(&full_vfs);
	assert_true(failed > 0);
}

/* A dropped slice is gone, for readers that hold it when they let go; another cid is untouched. */
static void store_drop_waits_for_readers(void **state)
{
	(void)state;
	struct fix f;
	struct apply_result res;
	char path[512], gone[512];
	int rc;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	assert_int_equal(fix_create(&f, CID), 0); /* a repeat changes nothing */
	assert_int_equal(fix_create(&f, 18), 0);
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, i, 1), NULL, NULL), 0);
		assert_int_equal(fix_apply(&f, fix_upsert(&f, 18, i, 1), NULL, NULL), 0);
	}
	fix_path(&f, "c-18", path);
	fix_path(&f, "c-18.dropped", gone);
	struct slice *sl = shard_slice_get(f.s, 18, &rc, NULL);
	assert_non_null(sl);
	assert_int_equal(fix_drop(&f, 18), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(gone, F_OK), 0);
	assert_null(shard_slice_get(f.s, 18, &rc, NULL));
	assert_int_equal(rc, -ENOENT);
	assert_non_null(slice_slot_vector(sl, 3));
	slice_put(sl);
	assert_int_equal(access(gone, F_OK), -1);
	assert_int_equal(fix_apply(&f, fix_upsert(&f, 18, 1, 1), &res, NULL), 0);
	assert_int_equal(res.status, -ENOENT);
	assert_int_equal(fix_drop(&f, 18), 0);
	/* The log makes and drops it again after a restart. */
	fix_close(&f, false);
	fix_open(&f);
	fix_replay(&f);
	assert_int_equal(access(path, F_OK), -1);
	assert_null(shard_slice_get(f.s, 18, &rc, NULL));
	fix_compare(&f);
	fix_release(&f);
}

/* A killed process loses nothing that was acknowledged. */
static void store_survives_kill(void **state)
{
	(void)state;
	struct fix f;
	uint8_t expect[64];
	uint32_t n;

	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	_Atomic uint64_t *acked = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(acked, MAP_FAILED);
	for (int round = 0; round < 25; round++) {
		size_t from = f.n_log;
		fix_close(&f, false);
		/* Entries of this round; the child applies as many as it lives to. */
		struct model_rec at[41][N_IDS];
		memcpy(at[0], f.m, sizeof f.m);
		for (int i = 0; i < 40; i++) {
			(void)fix_random_entry(&f, 12, expect, &n);
			memcpy(at[i + 1], f.m, sizeof f.m);
		}
		*acked = 0;
		unsigned wait_us = (unsigned)(fix_rnd(&f) % 8000);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			fix_open(&f);
			for (int i = 0; i < 40; i++) {
				if (fix_apply(&f, &f.log[from + (size_t)i], NULL, NULL))
					_exit(1);
				*acked = (uint64_t)i + 1;
				if (i % 13 == 12)
					fix_mark(&f);
			}
			for (;;)
				pause();
		}
		usleep(wait_us);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		fix_open(&f);
		/* What was acknowledged is there before the log has said a word. */
		uint64_t applied = 0;
		struct slice_stats st;
		int rc;
		struct slice *sl = shard_slice_get(f.s, CID, &rc, NULL);
		assert_non_null(sl);
		slice_stat(sl, &st);
		slice_put(sl);
		for (int i = 0; i < 40; i++)
			applied += st.applied >= f.log[from + (size_t)i].index;
		assert_true(applied >= *acked);
		memcpy(f.m, at[applied], sizeof f.m);
		fix_compare(&f);
		memcpy(f.m, at[40], sizeof f.m);
		fix_replay(&f);
		fix_compare(&f);
		if (fix_rnd(&f) % 3 == 0)
			fix_mark(&f);
	}
	munmap((void *)acked, 4096);
	fix_release(&f);
}

/* Ids too long for a slot row are written on both sides of a segment's border by one entry. */
static void store_long_ids_cross_a_segment_border(void **state)
{
	struct fix f;
	struct slice_stats st;
	uint8_t expect[600];
	uint32_t n;

	(void)state;
	fix_init(&f, disk_real());
	assert_int_equal(fix_create(&f, CID), 0);
	do {
		struct apply_result res;
		struct logged *l = fix_random_entry(&f, 600, expect, &n);
		assert_int_equal(fix_apply(&f, l, &res, NULL), 0);
		struct slice *sl = shard_slice_get(f.s, CID, NULL, NULL);
		assert_non_null(sl);
		slice_stat(sl, &st);
		slice_put(sl);
	} while (st.nslots < 65536 + 100);
	fix_compare(&f);
	fix_close(&f, false);
	fix_open(&f);
	fix_compare(&f);
	fix_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(store_agrees_with_the_model),
		cmocka_unit_test(store_repeat_is_applied_once),
		cmocka_unit_test(store_scan_sees_one_view),
		cmocka_unit_test(store_torn_vectors_are_repaired),
		cmocka_unit_test(store_flipped_byte_is_found),
		cmocka_unit_test(store_mark_syncs_files_and_all_new_names),
		cmocka_unit_test(store_failed_sync_is_not_forgotten),
		cmocka_unit_test(store_mark_syncs_a_new_file_beside_readers),
		cmocka_unit_test(store_mark_of_many_slices_holds),
		cmocka_unit_test(store_unfinished_slice_is_damage_after_the_replay),
		cmocka_unit_test(store_a_torn_slice_is_made_again),
		cmocka_unit_test(store_a_marked_slice_is_not_made_again),
		cmocka_unit_test(store_damage_stays_in_its_slice),
		cmocka_unit_test(store_full_disk_can_be_retried),
		cmocka_unit_test(store_full_disk_under_sqlite_can_be_retried),
		cmocka_unit_test(store_drop_waits_for_readers),
		cmocka_unit_test(store_long_ids_cross_a_segment_border),
		cmocka_unit_test(store_survives_kill),
	};
	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
