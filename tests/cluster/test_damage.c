/* test_damage.c - what cannot be read is never taken for empty: nothing is dropped because of it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "dbtest.h"
#include "../rot/rot.h"

#define DIM 8

static void path_of(char *out, size_t cap, const char *dir, const char *name)
{
	assert_true((size_t)snprintf(out, cap, "%s/%s", dir, name) < cap);
}

static int try_open(const char *dir, struct db **ret)
{
	struct db_opts o = {.data_dir = dir, .wal_segment_bytes = 16u << 20};
	struct vx_err err = VX_ERR_INIT;

	*ret = NULL;
	return db_open(&o, ret, &err);
}

/* A database with one collection of 20 records in shard 0, closed. */
static char *make_one(void)
{
	char *dir = dt_mkdir();
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_create(db, "docs", DIM, VX_L2, 1);
	struct vx_err err = VX_ERR_INIT;

	for (uint64_t i = 1; i <= 20; i++)
		assert_ok(dt_put(c, i, 1, DIM, &err));
	coll_put(c);
	db_close(db);
	return dir;
}

static int count_one(void *arg, const char *name, uint32_t cid)
{
	(void)name;
	(void)cid;
	++*(unsigned *)arg;
	return 0;
}

/* Any page of the catalog may be damaged: either the start is refused or all collections are there. */
static void a_damaged_catalog_loses_no_collection(void **state)
{
	enum { N = 150, PAGE = 4096 };
	char *dir = dt_mkdir(), path[512], name[128];
	uint8_t good[PAGE], junk[PAGE];
	struct vx_err err = VX_ERR_INIT;
	unsigned refused = 0;
	struct db *db = dt_open(dir, 1);
	struct stat st;

	(void)state;
	memset(junk, 0x5a, sizeof junk);
	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof name, "c%03u-%050d", i, 0);
		struct coll *c = dt_create(db, name, DIM, VX_L2, 1);
		if (i % 10 == 0)
			assert_ok(dt_put(c, i + 1, 1, DIM, &err));
		coll_put(c);
	}
	db_close(db);
	path_of(path, sizeof path, dir, "catalog.db");
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size >= 8 * PAGE);
	for (off_t at = PAGE; at < st.st_size; at += PAGE) {
		unsigned n = 0;
		int fd = open(path, O_RDWR);

		assert_int_equal(pread(fd, good, PAGE, at), PAGE);
		assert_int_equal(pwrite(fd, junk, PAGE, at), PAGE);
		close(fd);
		int rc = try_open(dir, &db);
		if (rc == 0) {
			(void)db_list(db, count_one, &n);
			db_close(db);
			assert_int_equal(n, N);
		}
		refused += rc == -EUCLEAN;
		fd = open(path, O_RDWR);
		assert_int_equal(pwrite(fd, good, PAGE, at), PAGE);
		close(fd);
	}
	assert_true(refused > 0);
	db = dt_open(dir, 1);
	for (unsigned i = 0; i < N; i += 10) {
		snprintf(name, sizeof name, "c%03u-%050d", i, 0);
		struct coll *c = dt_coll(db, name);
		assert_int_equal(dt_version(c, i + 1, DIM), 1);
		coll_put(c);
	}
	db_close(db);
	dt_rm(dir);
}

/* Slices that no collection owns are dropped at the start; a lost catalog owns none. */
static void a_lost_catalog_drops_nothing(void **state)
{
	char *dir = make_one(), path[512];
	struct stat st;
	struct db *db;

	(void)state;
	path_of(path, sizeof path, dir, "catalog.db");
	assert_int_equal(unlink(path), 0);
	int rc = try_open(dir, &db);
	if (rc == 0)
		db_close(db);
	assert_int_equal(rc, -EUCLEAN);
	path_of(path, sizeof path, dir, "shard-000/c-1/meta.db");
	assert_int_equal(stat(path, &st), 0);
	dt_rm(dir);
}

static void damage_slice(const char *dir, bool lost)
{
	static const char *const files[] = {"meta.db", "meta.db-wal", "meta.db-shm"};
	char path[512], name[64], junk[4096];

	memset(junk, 0x5a, sizeof junk);
	for (unsigned i = 0; i < VX_ARRAY_SIZE(files); i++) {
		snprintf(name, sizeof name, "shard-000/c-1/%s", files[i]);
		path_of(path, sizeof path, dir, name);
		if (i || lost) {
			(void)unlink(path);
		} else {
			int fd = open(path, O_RDWR);
			assert_int_equal(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
			close(fd);
		}
	}
}

static void check_not_empty(bool lost)
{
	char *dir = make_one();
	struct vx_err err = VX_ERR_INIT;
	struct coll_rec r = {.handle = 0};

	damage_slice(dir, lost);
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_coll(db, "docs");
	assert_int_equal(coll_get(c, "r1", 2, COLL_ALL, &r, &err), -EUCLEAN);
	assert_int_equal(dt_put(c, 1, 2, DIM, &err), -EUCLEAN);
	assert_int_equal(db_drop(db, "docs", false, &err), -EUCLEAN);
	assert_false(coll_gone(c));
	/* It is still the operator's to drop. */
	assert_ok(db_drop(db, "docs", true, &err));
	assert_true(coll_gone(c));
	coll_rec_release(&r);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

static void a_damaged_collection_is_not_an_empty_one(void **state)
{
	(void)state;
	check_not_empty(false);
}

static void a_collection_that_lost_its_file_is_not_an_empty_one(void **state)
{
	(void)state;
	check_not_empty(true);
}

/* --- what was removed by hand ---------------------------------------------------------- */
static void must_run(const char *before, const char *dir, const char *after)
{
	char cmd[1200];

	assert_true((size_t)snprintf(cmd, sizeof cmd, "%s%s%s", before, dir, after) < sizeof cmd);
	assert_int_equal(system(cmd), 0);
}

static void a_slice_whose_directory_is_gone_is_not_an_empty_one(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct coll_rec r = {.handle = 0};
	struct coll_scan *sc = NULL;
	char *dir = make_one();
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_create(db, "other", DIM, VX_L2, 1);

	(void)state;
	assert_ok(dt_put(c, 1, 1, DIM, &err));
	coll_put(c);
	db_close(db);
	must_run("rm -r '", dir, "/shard-000/c-1'");
	db = dt_open(dir, 1);
	c = dt_coll(db, "docs");
	assert_int_equal(coll_get(c, "r1", 2, COLL_ALL, &r, &err), -EUCLEAN);
	assert_int_equal(dt_put(c, 1, 2, DIM, &err), -EUCLEAN);
	assert_int_equal(coll_scan_open(c, COLL_ALL, &sc, &err), -EUCLEAN);
	assert_int_equal(db_drop(db, "docs", false, &err), -EUCLEAN);
	coll_put(c);
	c = dt_coll(db, "other");
	assert_int_equal(dt_version(c, 1, DIM), 1);
	assert_ok(dt_put(c, 2, 1, DIM, &err));
	coll_put(c);
	/* The operator may let go of it, and the name is free again, also after a start. */
	assert_ok(db_drop(db, "docs", true, &err));
	c = dt_create(db, "docs", DIM, VX_L2, 1);
	assert_ok(dt_put(c, 7, 1, DIM, &err));
	coll_put(c);
	db_close(db);
	db = dt_open(dir, 1);
	c = dt_coll(db, "docs");
	assert_int_equal(dt_version(c, 7, DIM), 1);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

static void a_shard_whose_directory_is_gone_is_missed(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	char *dir = make_one();
	struct db *db;

	(void)state;
	must_run("rm -r '", dir, "/shard-000'");
	/* And by the next start as well. */
	for (int i = 0; i < 2; i++) {
		struct db_opts o = {.data_dir = dir, .wal_segment_bytes = 16u << 20};
		assert_int_equal(db_open(&o, &db, &err), -EUCLEAN);
		assert_non_null(strstr(err.msg, "shard-000"));
	}
	must_run("mkdir '", dir, "/shard-000'");
	db = dt_open(dir, 1);
	db_close(db);
	dt_rm(dir);
}

/* What cannot be removed does not keep a collection from being dropped. */
static void remains_of_a_drop_are_in_nobodys_way(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	char *dir = make_one();
	struct db *db = dt_open(dir, 1);

	(void)state;
	must_run("mkdir -p '", dir, "/shard-000/c-1.dropped/in/the/way/of/all'");
	assert_ok(db_drop(db, "docs", true, &err));
	db_close(db);
	must_run("[ ! -e '", dir, "/shard-000/c-1' ]");
	db = dt_open(dir, 1);
	db_close(db);
	dt_rm(dir);
}

/* --- damaged vectors ------------------------------------------------------------------------- */
/* A scan brings all records but the damaged one, and then says so. */
static void a_scan_tells_of_what_it_leaves_out(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	const struct coll_rec *r;
	struct coll_scan *sc;
	char *dir = make_one(), path[512];
	unsigned n = 0;
	int rc;

	(void)state;
	path_of(path, sizeof path, dir, "shard-000/c-1/g-0001/000000.vec");
	int fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "junk", 4, 20975616 + 4 * DIM * 4), 4);
	close(fd);
	struct db *db = dt_open(dir, 1);
	struct coll *c = dt_coll(db, "docs");
	assert_ok(coll_scan_open(c, COLL_ALL, &sc, &err));
	while ((rc = coll_scan_next(sc, &r, &err)) == 0) {
		assert_int_not_equal(dt_key(&r->rec), 5);
		n++;
	}
	assert_int_equal(rc, -EUCLEAN);
	assert_int_equal(n, 19);
	assert_non_null(strstr(err.msg, "1 record was left out"));
	assert_non_null(strstr(err.msg, "\"r5\""));
	coll_scan_close(sc);
	/* Ids alone are not damaged. */
	assert_ok(coll_scan_open(c, 0, &sc, &err));
	for (n = 0; (rc = coll_scan_next(sc, &r, &err)) == 0; n++)
		;
	assert_int_equal(rc, -ENOENT);
	assert_int_equal(n, 20);
	coll_scan_close(sc);
	coll_put(c);
	db_close(db);
	dt_rm(dir);
}

/* --- flips -------------------------------------------------------------------------------------- */
struct image {
	char path[512];
	uint8_t *p;
	size_t n;
};

static void image_take(struct image *m, const char *dir, const char *name)
{
	struct stat st;

	path_of(m->path, sizeof m->path, dir, name);
	int fd = open(m->path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	m->n = (size_t)st.st_size;
	m->p = malloc(m->n + 1);
	assert_non_null(m->p);
	assert_int_equal(read(fd, m->p, m->n), m->n);
	close(fd);
}

/* With one byte changed, unless 'at' is behind the end. */
static void image_put(const struct image *m, size_t at, uint8_t flip)
{
	int fd = open(m->path, O_WRONLY | O_TRUNC | O_CREAT, 0644);

	assert_true(fd >= 0);
	if (at < m->n)
		m->p[at] ^= flip;
	assert_int_equal(write(fd, m->p, m->n), m->n);
	if (at < m->n)
		m->p[at] ^= flip;
	close(fd);
}

/* Every byte of the identity: the start is refused, or the node is the same one. */
static void a_flip_in_the_identity_is_noticed_or_harmless(void **state)
{
	char *dir = make_one();
	unsigned refused = 0;
	struct image m;
	struct db *db;

	(void)state;
	image_take(&m, dir, "node.json");
	for (size_t at = 0; at < m.n; at++) {
		for (unsigned bit = 0; bit < 8; bit += 3) {
			if (!rot_mine(at))
				continue;
			image_put(&m, at, (uint8_t)(1u << bit));
			int rc = try_open(dir, &db);
			if (rc == 0) {
				assert_int_equal(db_shards(db), 1);
				struct coll *c = dt_coll(db, "docs");
				assert_int_equal(dt_version(c, 3, DIM), 1);
				coll_put(c);
				db_close(db);
			}
			refused += rc != 0;
		}
	}
	assert_true(getenv("ROT_PART") || refused > m.n);
	image_put(&m, m.n, 0);
	db = dt_open(dir, 1);
	db_close(db);
	free(m.p);
	dt_rm(dir);
}

/* --- the catalog ------------------------------------------------------------------------------- */
static const char *const catalog_files[] = {"catalog.db", "catalog.db-wal", "catalog.mark"};
#define N_CATALOG VX_ARRAY_SIZE(catalog_files)

static const struct db_opts small_log = {.wal_segment_bytes = 1u << 20};

struct description {
	struct db *db;
	struct buf text;
};

static int describe_one(void *arg, const char *name, uint32_t cid)
{
	struct description *d = arg;
	const struct coll_rec *p;
	struct coll_scan *sc;
	int rc;

	struct coll *c = db_coll_by_cid(d->db, cid, &rc, NULL);
	if (!c)
		return buf_printf(&d->text, "%s %u: error %d\n", name, cid, rc);
	rc = buf_printf(&d->text, "%s %u %s %llu\n", name, cid, coll_name(c),
		(unsigned long long)coll_ctime_ns(c));
	if (rc == 0)
		rc = coll_schema_json(c, &d->text);
	for (size_t i = 0; i < n_coll_options && rc == 0; i++) {
		rc = buf_printf(&d->text, "%s ", coll_options[i].name);
		int rc2 = rc ? rc : coll_config_get(c, coll_options[i].name, &d->text);
		rc = rc2 ? buf_printf(&d->text, "error %d\n", rc2) : buf_printf(&d->text, "\n");
	}
	if (rc == 0)
		rc = coll_scan_open(c, COLL_ALL, &sc, NULL);
	while (rc == 0 && (rc = coll_scan_next(sc, &p, NULL)) == 0)
		rc = buf_printf(&d->text, "%.*s %llu %llu %.*s %llx\n", (int)p->rec.id_len,
			p->rec.id, (unsigned long long)p->version, (unsigned long long)p->mtime_ns,
			(int)p->rec.meta_len, p->rec.meta_len ? p->rec.meta : "",
			(unsigned long long)hash_xxh3(p->rec.vec, p->rec.dim * sizeof(float), 0));
	if (rc == -ENOENT)
		coll_scan_close(sc);
	coll_put(c);
	return rc == -ENOENT ? 0 : rc;
}

/* All that a catalog decides: names, numbers, schemas, options, and what is found under each name. */
static int describe(struct db *db, struct buf *ret)
{
	struct description d = {.db = db, .text = BUF_INIT};
	int rc = db_list(db, describe_one, &d);

	*ret = d.text;
	return rc;
}

/* Opens in a child that is killed before a mark: a log whose mark had moved would not go with a catalog that is put
 * back.  False: all is as 'want' says. */
static bool catalog_refused(const char *dir, const struct buf *want, const char *file, size_t at)
{
	struct db_opts o = small_log;
	int status = 0;

	o.data_dir = dir;
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct vx_err err = VX_ERR_INIT;
		struct buf have = BUF_INIT;
		struct db *db;
		int rc = db_open(&o, &db, &err);
		if (rc)
			_exit(rc == -EUCLEAN && strstr(err.msg, "catalog.db") ? 1 : 2);
		rc = describe(db, &have);
		if (rc || have.len != want->len || memcmp(have.data, want->data, have.len) != 0) {
			fprintf(stderr, "byte %zu of %s: error %d; it was:\n%.*s\nand is:\n%.*s\n",
				at, file, rc, (int)want->len, (char *)want->data, (int)have.len,
				(char *)have.data);
			_exit(3);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_in_range(WEXITSTATUS(status), 0, 1);
	return WEXITSTATUS(status) == 1;
}

/* A database of three collections, one of them in the log alone; killed, or closed: SQLite's log is gone then. */
static char *make_catalog(bool killed)
{
	struct db_opts o = small_log;
	struct vx_err err = VX_ERR_INIT;
	char *dir = dt_mkdir(), mark[512];
	int status = 0;
	struct stat st;
	struct db *db;

	o.data_dir = dir;
	o.create = true;
	o.shards = 1;
	o.mark_interval_ms = 20;
	path_of(mark, sizeof mark, dir, "catalog.mark");
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (db_open(&o, &db, &err))
			_exit(1);
		struct coll *c = dt_create(db, "docs", DIM, VX_L2, 1);
		for (uint64_t i = 1; i <= 20; i++)
			if (dt_put(c, i, 1, DIM, &err))
				_exit(1);
		if (coll_config_set(c, "recall", "0.9", &err))
			_exit(1);
		coll_put(c);
		coll_put(dt_create(db, "marked", DIM, VX_COSINE, 1));
		/* It is made, then written. */
		while (stat(mark, &st) < 0 || st.st_size == 0)
			usleep(10000);
		coll_put(dt_create(db, "later", DIM, VX_L2, 1));
		if (killed)
			kill(getpid(), SIGKILL);
		db_close(db);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(killed ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return dir;
}

/* Bytes of the catalog and of SQLite's log of it: the start is refused with the name of the file, or all that
 * was there is there. */
static void flip_catalog(bool killed)
{
	enum { RENEW = 200 }; /* starts, after which the log is put back as it was */
	char *dir = make_catalog(killed), path[512], shm[512], wal[512], cmd[2048];
	struct image m[N_CATALOG] = {{.n = 0}};
	struct db_opts o = small_log;
	struct vx_err err = VX_ERR_INIT;
	struct buf want = BUF_INIT;
	unsigned flips = 0, refused = 0;
	uint64_t rnd = dt_seed() | 1;
	struct db *db;

	for (size_t i = 0; i < N_CATALOG; i++) {
		path_of(path, sizeof path, dir, catalog_files[i]);
		if (access(path, F_OK) == 0)
			image_take(&m[i], dir, catalog_files[i]);
		assert_true(m[i].n > 0 || i == 1);
	}
	assert_true(killed == (m[1].n > 0));
	path_of(shm, sizeof shm, dir, "catalog.db-shm");
	path_of(wal, sizeof wal, dir, "catalog.db-wal");
	snprintf(cmd, sizeof cmd, "cp -a '%s/wal' '%s/wal.kept'", dir, dir);
	assert_int_equal(system(cmd), 0);
	snprintf(cmd, sizeof cmd, "rm -r '%s/wal' && cp -a '%s/wal.kept' '%s/wal'", dir, dir, dir);
	/* In a child, as below: nothing may go on here. */
	int fd[2];
	assert_int_equal(pipe(fd), 0);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		o.data_dir = dir;
		_exit(db_open(&o, &db, &err) || describe(db, &want) ||
			write(fd[1], want.data, want.len) != (ssize_t)want.len);
	}
	close(fd[1]);
	assert_int_equal(buf_reserve(&want, 65536), 0);
	for (ssize_t n; (n = read(fd[0], want.data + want.len, 65536 - want.len)) > 0;)
		want.len += (size_t)n;
	close(fd[0]);
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(want.len > 500);
	for (size_t i = 0; i < N_CATALOG; i++) {
		size_t step = rot_all() ? 1 : m[i].n / 60 + 1;
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		for (size_t at = (size_t)(rnd >> 33) % step; at < m[i].n; at += step) {
			if (!rot_mine(at / step))
				continue;
			for (size_t k = 0; k < N_CATALOG; k++) {
				if (m[k].n)
					image_put(&m[k], k == i ? at : m[k].n,
						(uint8_t)(1u << at % 8));
			}
			(void)unlink(shm);
			if (!m[1].n)
				(void)unlink(wal);
			if (flips++ % RENEW == 0)
				assert_int_equal(system(cmd), 0);
			bool no = catalog_refused(dir, &want, catalog_files[i], at);
			if (no && i == 2)
				fail_msg("byte %zu of the claim: believed", at);
			refused += no;
		}
	}
	print_message("catalog, %s: %u flips in %zu bytes, %u refused, the rest without effect\n",
		killed ? "killed" : "closed", flips, m[0].n + m[1].n + m[2].n, refused);
	assert_true(refused > 0);
	for (size_t i = 0; i < N_CATALOG; i++) {
		if (m[i].n)
			image_put(&m[i], m[i].n, 0);
		free(m[i].p);
	}
	(void)unlink(shm);
	o.data_dir = dir;
	assert_ok(db_open(&o, &db, &err));
	struct coll *c = dt_coll(db, "docs");
	assert_ok(dt_put(c, 3, 2, DIM, &err));
	coll_put(c);
	db_close(db);
	buf_release(&want);
	dt_rm(dir);
}

__attribute__((unused)) static void a_flip_in_the_catalog_is_noticed_or_harmless(void **state)
{
	(void)state;
	flip_catalog(true);
}

__attribute__((unused)) static void a_flip_in_a_closed_catalog_is_noticed_or_harmless(void **state)
{
	(void)state;
	flip_catalog(false);
}

/* Byte 20 says how many bytes of a page SQLite leaves alone, bytes 16 and 17 how long a page is: none of them takes the
 * checksums away, whatever else of the first page has changed. */
__attribute__((unused)) static void a_catalog_that_says_it_has_no_sums_is_refused(void **state)
{
	(void)state;
	static const uint8_t heads[][2] = {{20, 8}, {20, 9}, {16, 0x30}, {16, 0x18}, {18, 3}};
	char *dir = make_catalog(false), shm[512], wal[512];
	const struct buf nothing = BUF_INIT;
	struct image m = {.n = 0};
	uint64_t rnd = dt_seed() | 1;

	image_take(&m, dir, "catalog.db");
	path_of(shm, sizeof shm, dir, "catalog.db-shm");
	path_of(wal, sizeof wal, dir, "catalog.db-wal");
	assert_true(m.n > 2 * 4096);
	for (unsigned i = 0; i < 100; i++) {
		const uint8_t *h = heads[i % VX_ARRAY_SIZE(heads)];
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		size_t at = (size_t)(rnd >> 33) % (i % 2 ? 4096 : m.n);
		if (at == h[0])
			continue;
		m.p[h[0]] ^= h[1];
		image_put(&m, at, (uint8_t)(1u << i % 8));
		m.p[h[0]] ^= h[1];
		(void)unlink(shm);
		(void)unlink(wal);
		if (!catalog_refused(dir, &nothing, "catalog.db", at))
			fail_msg("byte %zu is believed once byte %u is another", at, h[0]);
	}
	free(m.p);
	dt_rm(dir);
}

/* Entries up to the mark are in no log any more.  No flipped byte shows that: what is there is whole. */
__attribute__((unused)) static void a_catalog_older_than_its_mark_is_refused(void **state)
{
	(void)state;
	char *dir = make_catalog(false);
	struct image old = {.n = 0}, before = {.n = 0}, now = {.n = 0};
	struct db_opts o = small_log;
	struct vx_err err = VX_ERR_INIT;
	struct db *db;

	image_take(&old, dir, "catalog.db");
	image_take(&before, dir, "catalog.mark");
	o.data_dir = dir;
	o.mark_interval_ms = 20;
	assert_int_equal(db_open(&o, &db, &err), 0);
	coll_put(dt_create(db, "newest", DIM, VX_L2, 1));
	do {
		usleep(10000);
		free(now.p);
		image_take(&now, dir, "catalog.mark");
	} while (now.n == before.n && memcmp(now.p, before.p, now.n) == 0);
	db_close(db);
	image_put(&old, old.n, 0);
	assert_int_equal(db_open(&o, &db, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "catalog.db: has lost entries"));
	free(old.p);
	free(before.p);
	free(now.p);
	dt_rm(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_damaged_catalog_loses_no_collection),
		cmocka_unit_test(a_lost_catalog_drops_nothing),
		cmocka_unit_test(a_damaged_collection_is_not_an_empty_one),
		cmocka_unit_test(a_collection_that_lost_its_file_is_not_an_empty_one),
		cmocka_unit_test(a_slice_whose_directory_is_gone_is_not_an_empty_one),
		cmocka_unit_test(a_shard_whose_directory_is_gone_is_missed),
		cmocka_unit_test(remains_of_a_drop_are_in_nobodys_way),
		cmocka_unit_test(a_scan_tells_of_what_it_leaves_out),
		cmocka_unit_test(a_flip_in_the_identity_is_noticed_or_harmless),
#ifndef __SANITIZE_THREAD__ /* which knows no threads of a child whose parent had some */
		cmocka_unit_test(a_catalog_older_than_its_mark_is_refused),
		cmocka_unit_test(a_flip_in_the_catalog_is_noticed_or_harmless),
		cmocka_unit_test(a_flip_in_a_closed_catalog_is_noticed_or_harmless),
		cmocka_unit_test(a_catalog_that_says_it_has_no_sums_is_refused),
#endif
	};

	/* Each flip is logged, and rightly. */
	if (!getenv("VECFS_LOG"))
		(void)!log_configure("off");
	cmocka_set_test_filter(getenv("ROT_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
