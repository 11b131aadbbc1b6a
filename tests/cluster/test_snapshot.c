/* test_snapshot.c - a snapshot holds what was there at the index that it records, and nothing less than that counts.
 *
 * SEED chooses what the writers do; SNAP_ROUNDS and SNAP_KILLS make the long form. */
#include "dbtest.h"
#include "../rot/rot.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/manifest.h"
#include "cluster/snapshot.h"

#define DIM     5u
#define KEYS    400u
#define WRITERS 3u
#define OPS_MAX 200000u

static unsigned env_or(const char *name, unsigned def)
{
	const char *s = getenv(name);

	return s ? (unsigned)atoi(s) : def;
}

static uint64_t next_rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* --- writers --------------------------------------------------------------------------------- */

struct op {
	uint32_t shard, key;
	uint64_t index;
	uint64_t version; /* 0: deleted */
};

struct writers {
	struct coll *c;
	atomic_bool stop;
	pthread_mutex_t lock;
	struct op *ops; /* what was acknowledged */
	size_t n;
	_Atomic uint64_t version;
	uint64_t seed;
	_Atomic unsigned number;
};

/* One record per batch, so that each has an index of its own. */
static void *write_some(void *arg)
{
	struct writers *w = arg;
	unsigned me = atomic_fetch_add(&w->number, 1);
	uint64_t rng = w->seed * 2654435761u + me + 1;
	struct batch *b;

	assert_ok(batch_new(w->c, &b));
	while (!atomic_load(&w->stop)) {
		/* Keys of a writer are its own: which of two is later is then known from its log alone. */
		uint32_t key = (uint32_t)(next_rnd(&rng) % KEYS) * WRITERS + me;
		struct op o = {.key = key};
		struct batch_result res;
		float v[DIM];
		char id[64], meta[48];
		int n = snprintf(id, sizeof id,
			key % 7 ? "r%u" : "a-name-that-is-longer-than-a-slot-row-%020u", key);
		if (next_rnd(&rng) % 3 == 0) {
			assert_ok(batch_delete(b, id, (size_t)n, NULL));
		} else {
			o.version = atomic_fetch_add(&w->version, 1) + 1;
			dt_vec(key, o.version, DIM, v);
			snprintf(meta, sizeof meta, "{\"v\":%llu}", (unsigned long long)o.version);
			struct vx_record r = {.id = id,
				.id_len = (size_t)n,
				.vec = v,
				.dim = DIM,
				.meta = meta,
				.meta_len = strlen(meta)};
			assert_ok(batch_put(b, &r, NULL));
		}
		assert_ok(batch_commit(b, &res, NULL));
		o.shard = res.shard;
		o.index = res.index;
		pthread_mutex_lock(&w->lock);
		assert_true(w->n < OPS_MAX);
		w->ops[w->n++] = o;
		pthread_mutex_unlock(&w->lock);
	}
	batch_free(b);
	return NULL;
}

/* --- comparing ------------------------------------------------------------------------------- */

struct state {
	uint64_t version[KEYS * WRITERS]; /* 0: absent */
	uint64_t count;
};

static void at_index(const struct writers *w, uint32_t shard, uint64_t index, struct state *ret)
{
	uint64_t last[KEYS * WRITERS] = {0};

	for (size_t i = 0; i < w->n; i++) {
		const struct op *o = &w->ops[i];
		if (o->shard != shard || o->index > index || o->index < last[o->key])
			continue;
		last[o->key] = o->index;
		ret->count += (o->version != 0) - (ret->version[o->key] != 0);
		ret->version[o->key] = o->version;
	}
}

static uint32_t key_of(const struct vx_record *r)
{
	char id[80] = {0};

	memcpy(id, r->id, VX_MIN(r->id_len, sizeof id - 1));
	const char *digits = id[0] == 'r' ? id + 1 : strrchr(id, '-') + 1;
	return (uint32_t)strtoul(digits, NULL, 10);
}

static void check_record(const struct state *s, const struct vx_record *r)
{
	uint32_t key = key_of(r);
	char meta[48];
	float v[DIM];

	assert_true(key < KEYS * WRITERS);
	if (!s->version[key])
		fail_msg("key %u was deleted and is back", key);
	dt_vec(key, s->version[key], DIM, v);
	assert_memory_equal(v, r->vec, sizeof v);
	snprintf(meta, sizeof meta, "{\"v\":%llu}", (unsigned long long)s->version[key]);
	assert_int_equal(r->meta_len, strlen(meta));
	assert_memory_equal(r->meta, meta, r->meta_len);
}

static void load_manifest(const char *dir, const char *coll, const char *name, struct manifest *m)
{
	char path[512], *text = malloc(1 << 20);
	struct vx_err err = VX_ERR_INIT;

	snprintf(path, sizeof path, "%s/snapshots/%s/%s/manifest", dir, coll, name);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(text, 1, 1 << 20, f);
	fclose(f);
	if (manifest_parse(text, n, m, &err))
		fail_msg("%s", err.msg);
	free(text);
}

/* The files hold exactly what the log of acknowledgements says for each shard's index. */
static void check_files(
	const char *dir, const struct writers *w, const char *name, struct state *ret_all)
{
	struct manifest m;
	char path[512], prefix[8];
	struct vx_err err = VX_ERR_INIT;

	snprintf(path, sizeof path, "%s/snapshots/docs/%s", dir, name);
	load_manifest(dir, "docs", name, &m);
	memset(ret_all, 0, sizeof *ret_all);
	for (size_t i = 0; i < m.n_slices; i++) {
		struct state *s = calloc(1, sizeof *s);
		struct snap_reader *r;
		struct vx_record rec;
		uint64_t n = 0;
		int rc;

		at_index(w, m.slices[i].shard, m.slices[i].info.applied, s);
		snprintf(prefix, sizeof prefix, "s%03u", m.slices[i].shard);
		assert_ok(snap_reader_open(path, prefix, &r, &err));
		while ((rc = snap_reader_next(r, &rec, &err)) == 0) {
			check_record(s, &rec);
			n++;
		}
		assert_int_equal(rc, -ENOENT);
		snap_reader_close(r);
		assert_int_equal(n, s->count);
		assert_int_equal(n, m.slices[i].info.count);
		for (uint32_t k = 0; k < KEYS * WRITERS; k++)
			if (s->version[k])
				ret_all->version[k] = s->version[k];
		ret_all->count += n;
		free(s);
	}
	manifest_release(&m);
}

static void check_coll(struct db *db, const char *name, const struct state *s)
{
	struct coll *c = dt_coll(db, name);
	struct coll_scan *sc;
	const struct coll_rec *r;
	uint64_t n = 0;
	int rc;

	assert_ok(coll_scan_open(c, COLL_ALL, &sc, NULL));
	while ((rc = coll_scan_next(sc, &r, NULL)) == 0) {
		check_record(s, &r->rec);
		n++;
	}
	assert_int_equal(rc, -ENOENT);
	coll_scan_close(sc);
	assert_int_equal(n, s->count);
	assert_int_equal(coll_count(c), n);
	coll_put(c);
}

/* Writers put, overwrite and delete, compactions run, snapshots are taken: each has, shard by shard, the records of
 * the index it records, and restores to exactly those; deleted ids do not come back. */
static void snapshot_under_load_is_the_state_at_its_index(void **state)
{
	const unsigned rounds = env_or("SNAP_ROUNDS", 6);
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, dt_shards());
	struct writers w = {.lock = PTHREAD_MUTEX_INITIALIZER, .seed = dt_seed()};
	pthread_t t[WRITERS];
	struct vx_err err = VX_ERR_INIT;
	struct state *all = calloc(1, sizeof *all);
	char name[32];

	(void)state;
	w.ops = calloc(OPS_MAX, sizeof *w.ops);
	w.c = dt_create(db, "docs", DIM, VX_L2, dt_shards());
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_some, &w), 0);
	for (unsigned i = 0; i < rounds; i++) {
		usleep(100000);
		if (i % 2)
			assert_ok(coll_compact(w.c, NULL));
		snprintf(name, sizeof name, "s%u", i);
		if (snapshot_take(w.c, name, NULL, NULL, &err))
			fail_msg("%s", err.msg);
	}
	atomic_store(&w.stop, true);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < rounds; i++) {
		snprintf(name, sizeof name, "s%u", i);
		check_files(dir, &w, name, all);
		assert_ok(snapshot_verify(db, "docs", name, NULL, NULL, &err));
		/* The first makes the collection, the others replace it. */
		if (snapshot_restore(db, "docs", name, "copy", i > 0, NULL, NULL, &err))
			fail_msg("%s", err.msg);
		check_coll(db, "copy", all);
	}
	print_message("%zu writes, %u snapshots\n", w.n, rounds);
	coll_put(w.c);
	/* A start later it is all the same. */
	db_close(db);
	db = dt_open(dir, dt_shards());
	check_coll(db, "copy", all);
	assert_ok(snapshot_restore(db, "docs", "s0", "docs", true, NULL, NULL, &err));
	check_files(dir, &w, "s0", all);
	check_coll(db, "docs", all);
	db_close(db);
	free(w.ops);
	free(all);
	dt_rm(dir);
}

/* --- damage ---------------------------------------------------------------------------------- */

static void fill(struct db *db, const char *name, uint32_t n)
{
	struct coll *c = dt_create(db, name, DIM, VX_L2, dt_shards());

	for (uint32_t i = 1; i <= n; i++)
		assert_ok(dt_put(c, i, i, DIM, NULL));
	coll_put(c);
}

static void take(struct db *db, const char *coll, const char *name)
{
	struct coll *c = dt_coll(db, coll);
	struct vx_err err = VX_ERR_INIT;

	if (snapshot_take(c, name, NULL, NULL, &err))
		fail_msg("%s", err.msg);
	coll_put(c);
}

static int no_coll(struct db *db, const char *name)
{
	int rc = 0;
	struct coll *c = db_coll(db, name, &rc, NULL);

	coll_put(c);
	return rc;
}

static int count_all(void *arg, const char *name, uint32_t cid)
{
	(void)name;
	(void)cid;
	++*(unsigned *)arg;
	return 0;
}

static void flip(const char *path, off_t at, uint8_t bits)
{
	uint8_t b;
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= bits;
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

/* Every byte of the manifest, and of the files a sample: refused, with a reason, and nothing is made. */
static void snapshot_flipped_byte_is_refused(void **state)
{
	char *dir = dt_mkdir(), path[512];
	struct db *db = dt_open(dir, dt_shards());
	uint64_t rng = dt_seed() | 1;
	struct manifest m;
	unsigned flips = 0;
	struct vx_err err;

	(void)state;
	fill(db, "docs", 300);
	take(db, "docs", "x");
	load_manifest(dir, "docs", "x", &m);
	snprintf(path, sizeof path, "%s/snapshots/docs/x/manifest", dir);
	int fd = open(path, O_RDONLY);
	off_t size = lseek(fd, 0, SEEK_END);
	close(fd);
	chmod(path, 0600);
	for (off_t i = 0; i < size; i++) {
		uint8_t bits = (uint8_t)(1u << next_rnd(&rng) % 8);
		if (!rot_mine((size_t)i))
			continue;
		flips++;
		flip(path, i, bits);
		err = (struct vx_err)VX_ERR_INIT;
		int rc = snapshot_restore(db, "docs", "x", "copy", false, NULL, NULL, &err);
		if (rc != -EUCLEAN && rc != -EOPNOTSUPP)
			fail_msg("manifest byte %d: %d", (int)i, rc);
		assert_true(err.msg[0]);
		flip(path, i, bits);
	}
	for (size_t i = 0; i < m.n_files * 40; i++) {
		const struct manifest_file *f = &m.files[i % m.n_files];
		snprintf(path, sizeof path, "%s/snapshots/docs/x/%s", dir, f->name);
		chmod(path, 0600);
		off_t at = (off_t)(next_rnd(&rng) % f->size);
		flip(path, at, 4);
		err = (struct vx_err)VX_ERR_INIT;
		assert_int_equal(snapshot_restore(db, "docs", "x", "copy", false, NULL, NULL, &err),
			-EUCLEAN);
		assert_non_null(strstr(err.msg, f->name));
		flip(path, at, 4);
	}
	print_message("manifest: %u flips in %d bytes\n", flips, (int)size);
	assert_int_equal(no_coll(db, "copy"), -ENOENT);
	unsigned n = 0;
	db_list(db, count_all, &n);
	assert_int_equal(n, 1);
	assert_ok(snapshot_restore(db, "docs", "x", "copy", false, NULL, NULL, &err));
	manifest_release(&m);
	db_close(db);
	dt_rm(dir);
}

/* --- kills ----------------------------------------------------------------------------------- */

static int count_snapshot(void *arg, const struct snap_info *s)
{
	assert_true(s->files > 0);
	assert_int_equal(s->records, 200);
	++*(unsigned *)arg;
	return 0;
}

/* Takes, restores and removes until it is killed; what is acknowledged is told through the pipe. */
static _Noreturn void child(const char *dir, int out)
{
	struct db_opts o = {.data_dir = dir};
	struct db *db;
	struct vx_err err = VX_ERR_INIT;
	int rc = 0;

	if (db_open(&o, &db, &err))
		_exit(1);
	struct coll *c = db_coll(db, "docs", &rc, &err);
	(void)!snapshot_remove(db, "docs", "k", NULL);
	(void)!write(out, "r", 1);
	for (;;) {
		if (snapshot_take(c, "k", NULL, NULL, &err))
			_exit(2);
		(void)!write(out, "T", 1);
		if (snapshot_restore(db, "docs", "k", "copy", true, NULL, NULL, &err))
			_exit(3);
		(void)!write(out, "C", 1);
		if (snapshot_remove(db, "docs", "k", &err))
			_exit(4);
		(void)!write(out, "R", 1);
	}
}

/* Killed at any moment: a snapshot is there whole or not at all, a collection likewise, and nothing is left over. */
static void snapshot_killed_leaves_nothing_half(void **state)
{
	const unsigned kills = env_or("SNAP_KILLS", 12);
	char *dir = dt_mkdir(), path[512];
	struct db *db = dt_open(dir, dt_shards());
	uint64_t rng = dt_seed() | 1;
	bool copy = false;

	(void)state;
	fill(db, "docs", 200);
	db_close(db);
	for (unsigned i = 0; i < kills; i++) {
		int p[2], st;
		char last = 0, ch;
		assert_int_equal(pipe(p), 0);
		fflush(NULL);
		pid_t pid = fork();
		if (pid == 0) {
			close(p[0]);
			child(dir, p[1]);
		}
		close(p[1]);
		assert_int_equal(read(p[0], &ch, 1), 1);
		usleep((useconds_t)(next_rnd(&rng) % 150000));
		kill(pid, SIGKILL);
		waitpid(pid, &st, 0);
		if (!WIFSIGNALED(st))
			fail_msg("the child ended with %d", WEXITSTATUS(st));
		while (read(p[0], &ch, 1) == 1) {
			last = ch;
			copy |= ch == 'C';
		}
		close(p[0]);
		db = dt_open(dir, dt_shards());
		unsigned n = 0, colls = 0;
		assert_int_equal(snapshot_list(db, NULL, count_snapshot, &n), 0);
		if (last == 'T')
			assert_int_equal(n, 1);
		if (n)
			assert_ok(snapshot_verify(db, "docs", "k", NULL, NULL, NULL));
		snprintf(path, sizeof path, "%s/snapshots/docs", dir);
		DIR *d = opendir(path);
		for (struct dirent *e; d && (e = readdir(d));)
			if (e->d_name[0] == '.' && strcmp(e->d_name, ".") &&
				strcmp(e->d_name, ".."))
				fail_msg("%s is left over", e->d_name);
		if (d)
			closedir(d);
		db_list(db, count_all, &colls);
		bool there = no_coll(db, "copy") == 0;
		if (copy)
			assert_true(there);
		assert_int_equal(colls, 1 + there);
		if (there) {
			struct coll *c = dt_coll(db, "copy");
			assert_int_equal(coll_count(c), 200);
			coll_put(c);
			copy = true;
		}
		db_close(db);
	}
	dt_rm(dir);
}

/* --- receiving ------------------------------------------------------------------------------- */

static void snapshot_damaged_on_its_way_is_refused(void **state)
{
	char *dir = dt_mkdir(), path[512];
	struct db *db = dt_open(dir, dt_shards());
	struct manifest m;
	struct snap_in *in;
	struct vx_err err = VX_ERR_INIT;
	struct buf text = BUF_INIT;
	uint8_t *p = malloc(64 << 20);

	(void)state;
	fill(db, "docs", 100);
	take(db, "docs", "x");
	load_manifest(dir, "docs", "x", &m);
	assert_ok(manifest_print(&m, &text));
	/* Which file is damaged; n_files: none; above: the last one is missing. */
	for (size_t bad = 0; bad <= m.n_files + 1; bad++) {
		int rc = snapshot_in_begin(db, "there", NULL, text.data, text.len, &in, &err);
		assert_int_equal(rc, 0);
		for (size_t i = 0; rc == 0 && i < m.n_files - (bad > m.n_files); i++) {
			snprintf(path, sizeof path, "%s/snapshots/docs/x/%s", dir, m.files[i].name);
			int fd = open(path, O_RDONLY);
			assert_int_equal(read(fd, p, 64 << 20), m.files[i].size);
			close(fd);
			p[m.files[i].size / 2] ^= i == bad;
			for (uint64_t at = 0; rc == 0 && at < m.files[i].size; at += 100000)
				rc = snapshot_in_write(in, p + at,
					VX_MIN(m.files[i].size - at, (uint64_t)100000), &err);
		}
		if (rc == 0)
			rc = snapshot_in_finish(in, &err);
		assert_int_equal(rc, bad == m.n_files ? 0 : -EUCLEAN);
		snapshot_in_free(in);
		int fd = snapshot_open(db, "there", "x", NULL);
		assert_int_equal(fd >= 0, bad == m.n_files);
		if (fd >= 0)
			close(fd);
		if (bad == m.n_files)
			assert_ok(snapshot_remove(db, "there", "x", &err));
	}
	free(p);
	buf_release(&text);
	manifest_release(&m);
	db_close(db);
	dt_rm(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(snapshot_under_load_is_the_state_at_its_index),
		cmocka_unit_test(snapshot_flipped_byte_is_refused),
		cmocka_unit_test(snapshot_damaged_on_its_way_is_refused),
		cmocka_unit_test(snapshot_killed_leaves_nothing_half),
	};
	cmocka_set_test_filter(getenv("ROT_TEST"));
	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
