/* Compaction: whatever is written, fails or is killed meanwhile, readers see what the model has. */
#include "fixture.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

/* --- a disk that fails, or ends the process, at its n-th call --------------------------------- */
static struct {
	int calls, at;
	int error; /* 0: SIGKILL */
} trap;

static int spring(void)
{
	if (!trap.at || ++trap.calls != trap.at)
		return 0;
	if (!trap.error)
		kill(getpid(), SIGKILL);
	return trap.error;
}

static int t_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->open(disk_real(), path, oflags, mode);
}

static ssize_t t_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->pwrite(disk_real(), fd, p, n, off);
}

static int t_fdatasync(struct disk *d, int fd)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->fdatasync(disk_real(), fd);
}

static int t_truncate(struct disk *d, int fd, uint64_t size)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->truncate(disk_real(), fd, size);
}

static int t_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->allocate(disk_real(), fd, off, len);
}

static int t_rename(struct disk *d, const char *from, const char *to)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->rename(disk_real(), from, to);
}

static int t_unlink(struct disk *d, const char *path)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->unlink(disk_real(), path);
}

static int t_mkdir(struct disk *d, const char *path, mode_t mode)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->mkdir(disk_real(), path, mode);
}

static int t_sync_dir(struct disk *d, const char *path)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->sync_dir(disk_real(), path);
}

static int t_list(
	struct disk *d, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
	(void)d;
	int rc = spring();
	return rc ? rc : disk_real()->ops->list(disk_real(), path, each, arg);
}

static struct disk *trap_disk(void)
{
	static struct disk_ops ops;
	static struct disk d = {.ops = &ops};

	ops = *disk_real()->ops;
	ops.open = t_open;
	ops.pwrite = t_pwrite;
	ops.fdatasync = t_fdatasync;
	ops.truncate = t_truncate;
	ops.allocate = t_allocate;
	ops.rename = t_rename;
	ops.unlink = t_unlink;
	ops.mkdir = t_mkdir;
	ops.sync_dir = t_sync_dir;
	ops.list = t_list;
	memset(&trap, 0, sizeof trap);
	return &d;
}

/* --- what happens between the steps ------------------------------------------------------------ */
static struct {
	struct fix *f;
	void (*run)(struct fix *f);
	int calls, at; /* at: at this call alone; 0: at each */
} meanwhile;

static bool on_pause(void *ctx)
{
	(void)ctx;
	meanwhile.calls++;
	if (meanwhile.run && (!meanwhile.at || meanwhile.calls == meanwhile.at)) {
		void (*run)(struct fix *) = meanwhile.run;
		meanwhile.run = NULL; /* what is applied may link, and that pauses, too */
		run(meanwhile.f);
		meanwhile.run = run;
	}
	return false;
}

static void apply_random(struct fix *f, uint32_t max)
{
	uint8_t expect[64], got[64];
	struct apply_result res;
	uint32_t n;
	struct logged *l = fix_random_entry(f, max, expect, &n);

	assert_int_equal(fix_apply(f, l, &res, got), 0);
	assert_int_equal(res.status, 0);
	assert_memory_equal(expect, got, n);
}

static void open_paused(struct fix *f)
{
	struct shard_opts o = {.disk = f->disk, .pause = on_pause};
	struct vx_err err = VX_ERR_INIT;
	char path[512];

	snprintf(path, sizeof path, "%s/shard", f->dir);
	if (shard_open(path, 3, &o, &f->s, &err))
		fail_msg("shard_open: %s", err.msg);
	shard_watermark(f->s, f->mark);
	meanwhile.f = f;
	meanwhile.run = NULL;
	meanwhile.at = meanwhile.calls = 0;
}

static void start(struct fix *f, struct disk *d)
{
	fix_init(f, d);
	fix_close(f, false);
	open_paused(f);
	assert_int_equal(fix_create(f, CID), 0);
}

static struct slice *pin(struct fix *f)
{
	int rc;
	struct slice *sl = shard_slice_get(f->s, CID, &rc, NULL);

	assert_non_null(sl);
	return sl;
}

static int compact(struct fix *f)
{
	struct vx_err err = VX_ERR_INIT;
	struct slice *sl = pin(f);

	int rc = slice_compact(sl, &err);
	slice_put(sl);
	return rc;
}

static uint32_t live(const struct fix *f)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < N_IDS; i++)
		n += f->m[i].exists;
	return n;
}

/* Names in the slice's directory that a quiet slice of this generation must not have. */
static void check_files(struct fix *f, uint32_t generation)
{
	char dir[512], want[32];
	struct dirent *e;

	fix_path(f, "c-17", dir);
	snprintf(want, sizeof want, "g-%04u", generation);
	DIR *d = opendir(dir);
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		if (strcmp(e->d_name, "mark") == 0)
			continue; /* what the last mark synced */
		if (strncmp(e->d_name, "meta.db", 7) == 0)
			assert_int_equal(generation, 1);
		else
			assert_string_equal(e->d_name, want);
	}
	closedir(d);
}

static void check_index(struct fix *f)
{
	struct vx_err err = VX_ERR_INIT;
	struct slice *sl = pin(f);

	if (slice_index_check(sl, &err))
		fail_msg("index: %s", err.msg);
	slice_put(sl);
}

/* A compaction leaves what is alive, once, whatever was written while it ran; it survives reopening, replaying and
 * marking, and is followed by others. */
static void write_some(struct fix *f)
{
	apply_random(f, 12);
	if (fix_rnd(f) % 4 == 0)
		fix_mark(f);
}

static void compaction_keeps_every_record(void **state)
{
	(void)state;
	struct fix f;
	uint32_t generation = 1;

	start(&f, NULL);
	for (int i = 0; i < 60; i++) {
		for (int j = 0; j < 30; j++)
			apply_random(&f, 12);
		if (fix_rnd(&f) % 3 == 0)
			meanwhile.run = write_some;
		assert_int_equal(compact(&f), 0);
		meanwhile.run = NULL;
		fix_compare(&f);
		check_index(&f);
		generation++;
		check_files(&f, generation);
		struct slice *sl = pin(&f);
		struct slice_stats st;
		slice_stat(sl, &st);
		assert_int_equal(st.generation, generation);
		slice_put(sl);
		switch (fix_rnd(&f) % 4) {
		case 0:
			fix_mark(&f);
			break;
		case 1:
			fix_close(&f, fix_rnd(&f) % 2);
			open_paused(&f);
			fix_compare(&f);
			break;
		case 2:
			fix_close(&f, fix_rnd(&f) % 2);
			open_paused(&f);
			fix_replay(&f);
			fix_compare(&f);
			break;
		}
	}
	/* With nothing written meanwhile no dead slot is left. */
	assert_int_equal(compact(&f), 0);
	struct slice *sl = pin(&f);
	struct slice_stats st;
	slice_stat(sl, &st);
	assert_int_equal(st.nslots, live(&f));
	assert_int_equal(st.dead_slots, 0);
	slice_put(sl);
	fix_compare(&f);
	fix_release(&f);
}

/* A write that comes between any two steps is neither lost nor doubled. */
static void compaction_carries_a_write_at_every_step(void **state)
{
	(void)state;
	struct fix f;
	int at = 1;

	start(&f, NULL);
	for (int j = 0; j < 60; j++)
		apply_random(&f, 12);
	for (;; at++) {
		meanwhile.run = write_some;
		meanwhile.at = at;
		meanwhile.calls = 0;
		assert_int_equal(compact(&f), 0);
		meanwhile.run = NULL;
		fix_compare(&f);
		if (meanwhile.calls < at)
			break;
	}
	assert_true(at > 3);
	fix_release(&f);
}

/* Whatever fails before the rename leaves the slice as it was, and nothing behind; a compaction after it works. */
static void compaction_failing_at_every_step_changes_nothing(void **state)
{
	(void)state;
	static const int errors[] = {-EIO, -ENOSPC};
	struct fix f;
	int failed = 0;

	start(&f, trap_disk());
	for (int j = 0; j < 100; j++)
		apply_random(&f, 12);
	for (size_t e = 0; e < VX_ARRAY_SIZE(errors); e++) {
		for (int at = 1;; at++) {
			apply_random(&f, 12);
			trap.calls = 0;
			trap.error = errors[e];
			trap.at = at;
			int rc = compact(&f);
			bool sprung = trap.calls >= at;
			trap.at = 0;
			fix_compare(&f);
			apply_random(&f, 12);
			failed += rc != 0;
			fix_close(&f, false);
			open_paused(&f);
			fix_compare(&f);
			if (!sprung)
				break;
			assert_true(rc == 0 || rc == errors[e]);
		}
		assert_int_equal(compact(&f), 0);
		fix_compare(&f);
	}
	assert_true(failed > 10);
	fix_release(&f);
}

/* Killed at any step, the next start finds the old generation or the new one. */
static void compaction_killed_at_every_step_is_old_or_new(void **state)
{
	(void)state;
	struct fix f;
	uint32_t was = 1, kept = 0;

	start(&f, trap_disk());
	for (int j = 0; j < 100; j++)
		apply_random(&f, 12);
	for (int at = 1;; at++) {
		int status;

		apply_random(&f, 12);
		if (at % 5 == 0)
			fix_mark(&f);
		fix_close(&f, at % 2);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			open_paused(&f);
			trap.calls = 0;
			trap.error = 0;
			trap.at = at;
			_exit(compact(&f) == 0 ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
		open_paused(&f);
		struct slice *sl = pin(&f);
		struct slice_stats st;
		slice_stat(sl, &st);
		slice_put(sl);
		assert_true(st.generation == was || st.generation == was + 1);
		kept += st.generation == was;
		was = st.generation;
		check_files(&f, was);
		fix_compare(&f);
		fix_replay(&f);
		fix_compare(&f);
		check_index(&f);
		if (!WIFSIGNALED(status))
			break;
	}
	assert_true(kept > 10);
	fix_release(&f);
}

/* Who holds the slice goes on reading what it held, vectors and records alike; with the last of them it goes. */
static void compaction_leaves_readers_their_generation(void **state)
{
	(void)state;
	struct model_rec before[N_IDS];
	struct slice_rec r = {.mem = BUF_INIT};
	struct slice_scan *sc;
	const struct slice_rec *p;
	char path[512], id[VX_ID_MAX];
	uint64_t after = 0;
	uint32_t n = 0;
	struct fix f;

	start(&f, NULL);
	for (int j = 0; j < 100; j++)
		apply_random(&f, 12);
	memcpy(before, f.m, sizeof before);
	uint32_t had = live(&f);
	struct slice *old = pin(&f);
	assert_int_equal(slice_scan_open(old, SLICE_VEC, &sc), 0);
	assert_int_equal(slice_scan_next(sc, after, &p, NULL), 0);
	assert_int_equal(compact(&f), 0);
	for (int j = 0; j < 100; j++)
		apply_random(&f, 12);
	fix_path(&f, "c-17/g-0001/000000.vec", path);
	assert_int_equal(access(path, F_OK), 0);
	for (uint32_t i = 0; i < N_IDS; i++) {
		size_t len = fix_id(i, id);
		int rc = slice_get(old, id, len, SLICE_VEC, &r, NULL);
		assert_int_equal(rc, before[i].exists ? 0 : -ENOENT);
		if (rc == 0)
			assert_memory_equal(r.rec.vec, before[i].vec, sizeof before[i].vec);
		slice_rec_release(&r);
	}
	while (slice_scan_next(sc, after, &p, NULL) == 0) {
		after = p->rowid;
		n++;
	}
	assert_int_equal(n, had);
	slice_scan_close(sc);
	fix_compare(&f);
	slice_put(old);
	assert_int_equal(access(path, F_OK), -1);
	check_files(&f, 2);
	fix_compare(&f);
	fix_release(&f);
}

static void drop_it(struct fix *f)
{
	static bool done;

	if (!done)
		assert_int_equal(fix_drop(f, CID), 0);
	done = true;
}

/* A collection that is dropped while it is compacted stays dropped. */
static void compaction_gives_way_to_a_drop(void **state)
{
	(void)state;
	char path[512];
	struct fix f;
	int rc;

	start(&f, NULL);
	for (int j = 0; j < 100; j++)
		apply_random(&f, 12);
	meanwhile.run = drop_it;
	assert_int_not_equal(compact(&f), 0);
	meanwhile.run = NULL;
	assert_null(shard_slice_get(f.s, CID, &rc, NULL));
	assert_int_equal(rc, -ENOENT);
	fix_path(&f, "c-17", path);
	assert_int_equal(access(path, F_OK), -1);
	fix_path(&f, "c-17.dropped", path);
	assert_int_equal(access(path, F_OK), -1);
	fix_release(&f);
}

/* Deleting everything makes a compaction due by itself, and gives everything back. */
static void compaction_of_nothing_frees_everything(void **state)
{
	(void)state;
	struct slice_stats full, empty;
	struct fix f;

	start(&f, NULL);
	for (uint32_t i = 0; i < 3000; i++)
		assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, i, (float)i), NULL, NULL), 0);
	struct slice *sl = pin(&f);
	assert_false(slice_compact_due(sl));
	slice_stat(sl, &full);
	slice_put(sl);
	for (uint32_t i = 0; i < 3000; i++)
		assert_int_equal(fix_apply(&f, fix_delete(&f, CID, i), NULL, NULL), 0);
	sl = pin(&f);
	assert_true(slice_compact_due(sl));
	assert_int_equal(slice_compact(sl, NULL), 0);
	slice_put(sl);
	sl = pin(&f);
	slice_stat(sl, &empty);
	assert_false(slice_compact_due(sl));
	slice_put(sl);
	assert_int_equal(empty.nslots, 0);
	/* What is left are names of the entries applied lately, which repeats are told by. */
	assert_true(empty.disk_bytes < full.disk_bytes / 2);
	assert_true(empty.memory_bytes < full.memory_bytes);
	assert_true(empty.reclaimed_bytes > 0);
	fix_compare(&f);
	assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 5, 1), NULL, NULL), 0);
	fix_compare(&f);
	fix_release(&f);
}

/* A damaged record ends the attempt: the evidence stays, and so does every other record. */
static void compaction_does_not_hide_damage(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	struct fix f;
	char path[512];

	start(&f, NULL);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, i, (float)i), NULL, NULL), 0);
	fix_mark(&f);
	fix_close(&f, false);
	fix_path(&f, "c-17/g-0001/000000.vec", path);
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	assert_int_equal(fseek(file, 4096 + 65536 * (64 + 256) + 7 * DIM * 4 + 2, SEEK_SET), 0);
	assert_int_equal(fputc(0x55, file), 0x55);
	fclose(file);
	open_paused(&f);
	shard_replayed(f.s);
	struct slice *sl = pin(&f);
	assert_int_equal(slice_compact(sl, &err), -EUCLEAN);
	assert_int_equal(slice_compact_failed(sl, NULL), -EUCLEAN);
	slice_put(sl);
	check_files(&f, 1);
	assert_int_equal(fix_apply(&f, fix_upsert(&f, CID, 7, 7), NULL, NULL), 0);
	assert_int_equal(compact(&f), 0);
	fix_compare(&f);
	fix_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compaction_keeps_every_record),
		cmocka_unit_test(compaction_carries_a_write_at_every_step),
		cmocka_unit_test(compaction_failing_at_every_step_changes_nothing),
		cmocka_unit_test(compaction_killed_at_every_step_is_old_or_new),
		cmocka_unit_test(compaction_leaves_readers_their_generation),
		cmocka_unit_test(compaction_gives_way_to_a_drop),
		cmocka_unit_test(compaction_of_nothing_frees_everything),
		cmocka_unit_test(compaction_does_not_hide_damage),
	};
	return cmocka_run_group_tests_name("compaction", tests, NULL, NULL);
}
