/* test_rot.c - every byte of a slice's files, flipped one at a time.
 *
 * A slice with a mark in the middle of its history is closed; then one byte changes, the shard is opened,
 * the log above the mark comes again, and all that a reader can ask is asked.  Each answer is the right
 * one or an error (or, from a search, without a record whose vector is damaged): never a wrong value, never
 * "not there", never a crash.  The other slice of the shard is not touched by any of it.
 *
 * ROT_ALL=1 flips every byte, otherwise a sample that SEED decides.
 */
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OTHER       18u
#define FILES_MAX   16u
#define SAMPLE      250u /* flips per file without ROT_ALL */

#define VEC_VECTORS 20975616u

/* A file as it was: its content, with holes as zeros, in runs. */
struct image {
	char path[600];
	size_t size;
	size_t n_runs;
	struct run {
		size_t at, len;
		uint8_t *p;
	} runs[64];
};

struct rot {
	struct fix f;
	struct image img[FILES_MAX];
	size_t n;
	unsigned flips, noticed;
};

/* --- a history ------------------------------------------------------------------------- */
static void apply_some(struct fix *f, unsigned entries)
{
	uint8_t expect[64];
	uint32_t n;

	while (entries--)
		assert_int_equal(fix_apply(f, fix_random_entry(f, 10, expect, &n), NULL, NULL), 0);
}

static void link_and_save(struct fix *f)
{
	struct vx_err err = VX_ERR_INIT;
	int rc;
	struct slice *sl = shard_slice_get(f->s, CID, &rc, NULL);
	struct slice_hit hits[1];
	struct index_query iq = {.vec = f->m[0].vec, .k = 1};
	uint32_t n;

	assert_non_null(sl);
	assert_int_equal(slice_search(sl, &iq, hits, &n, NULL), 0);
	while ((rc = slice_index_step(sl, 1000)) > 0)
		;
	assert_int_equal(rc, 0);
	assert_int_equal(slice_index_save(sl, 0, &err), 0);
	slice_put(sl);
}

/* --- files ---------------------------------------------------------------------------------- */
static void image_take(struct rot *r, const char *name)
{
	struct image *m = &r->img[r->n];
	struct stat st;

	fix_path(&r->f, name, m->path);
	int fd = open(m->path, O_RDONLY);
	if (fd < 0)
		return;
	assert_int_equal(fstat(fd, &st), 0);
	m->size = (size_t)st.st_size;
	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
		off_t end = lseek(fd, at, SEEK_HOLE);
		struct run *u = &m->runs[m->n_runs++];
		assert_true(m->n_runs <= VX_ARRAY_SIZE(m->runs));
		*u = (struct run){.at = (size_t)at, .len = (size_t)(end - at)};
		u->p = malloc(u->len);
		assert_non_null(u->p);
		assert_int_equal(pread(fd, u->p, u->len, at), u->len);
		at = end;
	}
	close(fd);
	r->n++;
}

static void image_restore(const struct image *m)
{
	int fd = open(m->path, O_RDWR | O_CREAT, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)m->size), 0);
	for (size_t i = 0; i < m->n_runs; i++)
		assert_int_equal(pwrite(fd, m->runs[i].p, m->runs[i].len, (off_t)m->runs[i].at),
			m->runs[i].len);
	close(fd);
}

/* 'young': SQLite's log is short and was never copied back, so the marked transactions are in it alone. */
static void rot_init(struct rot *r, bool young)
{
	memset(r, 0, sizeof *r);
	fix_init(&r->f, NULL);
	assert_int_equal(fix_create(&r->f, CID), 0);
	assert_int_equal(fix_create(&r->f, OTHER), 0);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(fix_apply(&r->f, fix_upsert(&r->f, OTHER, i, 1), NULL, NULL), 0);
	/* Else enough for an index with codes and a graph. */
	apply_some(&r->f, young ? 3 : 140);
	fix_mark(&r->f);
	link_and_save(&r->f);
	apply_some(&r->f, young ? 3 : 20);
	fix_mark(&r->f);
	apply_some(&r->f, young ? 2 : 6);
	fix_compare(&r->f);
	fix_close(&r->f, false);
	static const char *const files[] = {"c-17/meta.db", "c-17/meta.db-wal", "c-17/mark",
		"slices", "c-17/g-0001/000000.vec", "c-17/g-0001/graph.ckpt"};
	for (size_t i = 0; i < VX_ARRAY_SIZE(files); i++)
		image_take(r, files[i]);
	assert_int_equal(r->n, VX_ARRAY_SIZE(files));
}

static void rot_release(struct rot *r)
{
	for (size_t i = 0; i < r->n; i++) {
		for (size_t k = 0; k < r->img[i].n_runs; k++)
			free(r->img[i].runs[k].p);
	}
	fix_release(&r->f);
}

/* --- questions ------------------------------------------------------------------------------ */
static int find_model(const struct fix *f, const char *id, size_t len)
{
	char want[VX_ID_MAX];

	for (uint32_t i = 0; i < N_IDS; i++) {
		if (fix_id(i, want) == len && memcmp(id, want, len) == 0)
			return f->m[i].exists ? (int)i : -1;
	}
	return -1;
}

static void must_be(const struct fix *f, const struct slice_rec *s)
{
	int i = find_model(f, s->rec.id, s->rec.id_len);

	assert_true(i >= 0);
	const struct model_rec *m = &f->m[i];
	assert_int_equal(s->version, m->version);
	assert_memory_equal(s->rec.vec, m->vec, sizeof m->vec);
	assert_int_equal(s->rec.meta_len, strlen(m->meta));
	assert_memory_equal(s->rec.meta ? s->rec.meta : "", m->meta, s->rec.meta_len);
}

static bool ask_by_id(struct fix *f, struct slice *sl)
{
	bool whole = true;

	for (uint32_t i = 0; i < N_IDS; i++) {
		struct slice_rec s = {.mem = BUF_INIT};
		char id[VX_ID_MAX];
		size_t len = fix_id(i, id);
		int rc = slice_get(sl, id, len, SLICE_META | SLICE_VEC, &s, NULL);
		if (rc == 0)
			must_be(f, &s);
		else if (rc == -EUCLEAN)
			whole = false;
		else if (rc != -ENOENT || f->m[i].exists)
			fail_msg("record %u: %s", i, strerror(-rc));
		slice_rec_release(&s);
	}
	return whole;
}

static bool ask_for_all(struct fix *f, struct slice *sl, uint32_t live)
{
	struct slice_scan *sc;
	const struct slice_rec *p;
	struct vx_err err = VX_ERR_INIT;
	uint64_t after = 0;
	uint32_t n = 0;
	int rc;

	assert_int_equal(slice_scan_open(sl, SLICE_META | SLICE_VEC, &sc), 0);
	while ((rc = slice_scan_next(sc, after, &p, &err)) == 0) {
		assert_true(p->rowid > after);
		after = p->rowid;
		must_be(f, p);
		n++;
	}
	uint64_t damaged = slice_scan_damaged(sc, &err);
	slice_scan_close(sc);
	if (rc == -EUCLEAN)
		return false;
	assert_int_equal(rc, -ENOENT);
	assert_int_equal(n + damaged, live);
	if (damaged)
		assert_non_null(strstr(err.msg, "damaged"));
	return damaged == 0;
}

/* Every hit is a record at its true distance, nearest first, and none is missing but those with damaged
 * vectors. */
static bool ask_nearest(struct fix *f, struct slice *sl, uint32_t live, bool exact)
{
	struct slice_hit hits[N_IDS + 5];
	float q[DIM];
	uint32_t n;

	for (uint32_t d = 0; d < DIM; d++)
		q[d] = (float)(fix_rnd(f) % 2000) / 100 - 10;
	struct index_query iq = {.vec = q, .k = exact ? N_IDS + 5 : 10, .exact = exact};
	int rc = slice_search(sl, &iq, hits, &n, NULL);
	if (rc == -EUCLEAN)
		return false;
	assert_int_equal(rc, 0);
	for (uint32_t k = 0; k < n; k++) {
		const char *id;
		size_t len;
		float d2 = 0;
		if (slice_slot_id(sl, hits[k].slot, &id, &len))
			return false;
		int i = find_model(f, id, len);
		assert_true(i >= 0);
		for (uint32_t d = 0; d < DIM; d++)
			d2 += (q[d] - f->m[i].vec[d]) * (q[d] - f->m[i].vec[d]);
		assert_true(fabsf(sqrtf(d2) - hits[k].distance) < 1e-3f);
		assert_true(k == 0 || hits[k].distance >= hits[k - 1].distance);
	}
	return n == VX_MIN(iq.k, live);
}

/* The neighbour of a damaged slice. */
static void ask_other(struct fix *f)
{
	int rc;
	struct slice *sl = shard_slice_get(f->s, OTHER, &rc, NULL);
	struct slice_stats st;

	assert_non_null(sl);
	slice_stat(sl, &st);
	assert_int_equal(st.count, 10);
	slice_put(sl);
}

/* True when all of it was answered, and rightly. */
static bool ask_everything(struct fix *f)
{
	struct vx_err err = VX_ERR_INIT;
	uint32_t live = 0;
	int rc;

	ask_other(f);
	struct slice *sl = shard_slice_get(f->s, CID, &rc, &err);
	if (!sl) {
		if (rc != -EUCLEAN)
			fail_msg("the slice: %s", vx_err_msg(&err, rc));
		assert_non_null(strstr(err.msg, "quarantined"));
		return false;
	}
	for (uint32_t i = 0; i < N_IDS; i++)
		live += f->m[i].exists;
	bool whole = ask_by_id(f, sl);
	whole &= ask_for_all(f, sl, live);
	whole &= ask_nearest(f, sl, live, true);
	whole &= ask_nearest(f, sl, live, false);
	slice_put(sl);
	return whole;
}

/* --- flips ------------------------------------------------------------------------------------- */
static void write_byte(const char *path, size_t at, uint8_t b)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
	close(fd);
}

static void one_flip(struct rot *r, struct image *m, size_t at, uint8_t was)
{
	char shm[512];
	uint8_t b = (uint8_t)(was ^ (1u << fix_rnd(&r->f) % 8));

	for (size_t i = 0; i < r->n; i++)
		image_restore(&r->img[i]);
	fix_path(&r->f, "c-17/meta.db-shm", shm);
	(void)unlink(shm);
	write_byte(m->path, at, b);
	fix_open(&r->f);
	fix_replay(&r->f);
	shard_replayed(r->f.s);
	bool whole = ask_everything(&r->f);
	r->flips++;
	r->noticed += !whole;
	fix_close(&r->f, false);
}

static bool reserved(const struct image *m, size_t at)
{
	/* What lies between the areas of a segment is the same as what lies behind its last slot. */
	return strstr(m->path, ".vec") && at >= VEC_VECTORS + 2048 * DIM * sizeof(float);
}

static void flip_file(const char *name, bool young, bool must_notice)
{
	static struct rot r;
	bool all = getenv("ROT_ALL") != NULL;
	struct image *m = NULL;

	rot_init(&r, young);
	for (size_t i = 0; i < r.n; i++) {
		if (strstr(r.img[i].path, name) &&
			strlen(strstr(r.img[i].path, name)) == strlen(name))
			m = &r.img[i];
	}
	assert_non_null(m);
	size_t bytes = 0, seen = 0;
	for (size_t i = 0; i < m->n_runs; i++)
		bytes += m->runs[i].len;
	size_t stride = all ? 1 : bytes / SAMPLE + 1, next = fix_rnd(&r.f) % stride;
	for (size_t i = 0; i < m->n_runs; i++) {
		for (size_t k = 0; k < m->runs[i].len; k++, seen++) {
			if (seen < next || reserved(m, m->runs[i].at + k))
				continue;
			next = seen + stride;
			one_flip(&r, m, m->runs[i].at + k, m->runs[i].p[k]);
		}
	}
	print_message("%s: %u flips in %zu bytes, %u noticed, the rest without effect\n", name,
		r.flips, bytes, r.noticed);
	assert_true(!must_notice || r.noticed > 0);
	/* And without a flip all is well. */
	for (size_t i = 0; i < r.n; i++)
		image_restore(&r.img[i]);
	fix_open(&r.f);
	fix_replay(&r.f);
	shard_replayed(r.f.s);
	assert_true(ask_everything(&r.f));
	fix_compare(&r.f);
	rot_release(&r);
}

static void rot_in_meta_db(void **state)
{
	(void)state;
	flip_file("meta.db", false, true);
}

static void rot_in_meta_db_wal(void **state)
{
	(void)state;
	flip_file("meta.db-wal", false, false);
}

static void rot_in_what_the_log_of_sqlite_has_alone(void **state)
{
	(void)state;
	flip_file("meta.db-wal", true, true);
}

static void rot_in_the_claim(void **state)
{
	(void)state;
	flip_file("mark", true, false);
}

static void rot_in_the_roster(void **state)
{
	(void)state;
	flip_file("slices", true, false);
}

static void rot_in_a_segment(void **state)
{
	(void)state;
	flip_file("000000.vec", false, true);
}

static void rot_in_a_checkpoint(void **state)
{
	(void)state;
	flip_file("graph.ckpt", false, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rot_in_meta_db),
		cmocka_unit_test(rot_in_meta_db_wal),
		cmocka_unit_test(rot_in_what_the_log_of_sqlite_has_alone),
		cmocka_unit_test(rot_in_the_claim),
		cmocka_unit_test(rot_in_the_roster),
		cmocka_unit_test(rot_in_a_segment),
		cmocka_unit_test(rot_in_a_checkpoint),
	};

	return cmocka_run_group_tests_name("rot", tests, NULL, NULL);
}
