/* test_rot.c - every byte of a slice's files, flipped one at a time.
 *
 * A slice is closed; then one byte changes, the shard is opened, the log above the mark comes again, and
 * all that a reader can ask is asked and compared with the model: each record whole by id, by rowid and in a scan,
 * the listing, the counts, questions, and entries that were applied once come again.  Each answer is the right
 * one or an error (or, from a search, without a record whose vector is damaged): never a wrong value, never
 * "not there", never a crash.  The other slice of the shard is not touched by any of it.
 *
 * What SQLite has in its log is not read from meta.db, so that file is looked at where it is alone.
 *
 * rot.h has the variables that say how many flips there are.
 */
#include "fixture.h"
#include "../rot/rot.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "store/pagesum.h"

#define OTHER       18u
#define FILES_MAX   16u
#define ENTRIES_MAX 256u
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

/* Where the slice's rows are. */
enum form {
	SETTLED, /* all of it is marked and in meta.db */
	MIXED,   /* the last entries are in SQLite's log, one of them above the mark */
	YOUNG, /* SQLite's log was never copied back, so the marked transactions are in it alone */
};

/* What a flip may do beyond "right or an error". */
enum rule {
	ANYTHING,
	SOMETHING,    /* some flip is noticed, or the test looks at nothing */
	NOTHING,      /* the file is a second opinion: damaged, it says nothing */
	INDEX_REFUSED /* the index is made anew */
};

struct rot {
	struct fix f;
	struct apply_result first[ENTRIES_MAX]; /* of each entry of f.log that has a name */
	struct image img[FILES_MAX];
	size_t n;
	uint32_t nslots, tail; /* as the last search left them */
	unsigned flips, noticed;
};

/* --- a history ------------------------------------------------------------------------- */
static void apply_some(struct rot *r, unsigned entries)
{
	uint8_t expect[64];
	uint32_t n;

	while (entries--) {
		size_t at = r->f.n_log;
		assert_true(at < ENTRIES_MAX);
		assert_int_equal(fix_apply(&r->f, fix_random_entry(&r->f, 10, expect, &n),
					 &r->first[at], NULL),
			0);
	}
}

/* All of SQLite's log goes into meta.db. */
static void copy_back(struct fix *f)
{
	char path[512];
	sqlite3 *c;
	int log = -1;

	fix_path(f, "c-17/meta.db", path);
	assert_int_equal(pagesum_register(), SQLITE_OK);
	assert_int_equal(sqlite3_open_v2(path, &c, SQLITE_OPEN_READWRITE, PAGESUM_VFS), SQLITE_OK);
	/* It learns of the log by reading. */
	assert_int_equal(sqlite3_exec(c, "SELECT * FROM state", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_wal_checkpoint_v2(c, NULL, SQLITE_CHECKPOINT_TRUNCATE, &log, NULL),
		SQLITE_OK);
	assert_int_equal(log, 0);
	assert_int_equal(sqlite3_close(c), SQLITE_OK);
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

static uint32_t slots_of(struct fix *f)
{
	struct slice_stats st;
	struct slice *sl = shard_slice_get(f->s, CID, NULL, NULL);

	assert_non_null(sl);
	slice_stat(sl, &st);
	slice_put(sl);
	return st.nslots;
}

/* After 'entries' of random size, and as many more as 'slots' take. */
static void rot_init(struct rot *r, enum form form, unsigned entries, uint32_t slots)
{
	memset(r, 0, sizeof *r);
	fix_init(&r->f, NULL);
	assert_int_equal(fix_create(&r->f, CID), 0);
	assert_int_equal(fix_create(&r->f, OTHER), 0);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(fix_apply(&r->f, fix_upsert(&r->f, OTHER, i, 1), NULL, NULL), 0);
	assert_int_equal(fix_apply(&r->f, fix_upsert(&r->f, CID, 0, 1), NULL, NULL), 0);
	apply_some(r, entries);
	while (slots_of(&r->f) < slots)
		apply_some(r, 1);
	fix_mark(&r->f);
	link_and_save(&r->f);
	if (form != YOUNG)
		copy_back(&r->f);
	if (form != SETTLED) {
		apply_some(r, 1);
		fix_mark(&r->f);
		apply_some(r, 1);
	}
	fix_compare(&r->f);
	fix_close(&r->f, false);
	static const char *const files[] = {"c-17/meta.db", "c-17/meta.db-wal", "c-17/mark",
		"slices", "c-17/g-0001/000000.vec", "c-17/g-0001/graph.ckpt"};
	for (size_t i = 0; i < VX_ARRAY_SIZE(files); i++)
		image_take(r, files[i]);
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
	assert_int_equal(s->mtime_ns, m->mtime_ns);
	assert_int_equal(s->rec.dim, DIM);
	assert_memory_equal(s->rec.vec, m->vec, sizeof m->vec);
	assert_int_equal(s->rec.meta_len, strlen(m->meta));
	assert_memory_equal(s->rec.meta ? s->rec.meta : "", m->meta, s->rec.meta_len);
	assert_int_equal(s->rec.text_len, strlen(m->text));
	assert_memory_equal(s->rec.text ? s->rec.text : "", m->text, s->rec.text_len);
}

/* 'lost' gets the records that cannot be read. */
static bool ask_by_id(struct fix *f, struct slice *sl, bool lost[N_IDS])
{
	bool whole = true;

	for (uint32_t i = 0; i < N_IDS; i++) {
		struct slice_rec s = {.mem = BUF_INIT};
		struct slice_rec_stat st;
		char id[VX_ID_MAX];
		size_t len = fix_id(i, id);
		int rc = slice_get(sl, id, len, SLICE_META | SLICE_TEXT | SLICE_VEC, &s, NULL);
		lost[i] = rc == -EUCLEAN;
		if (rc == 0)
			must_be(f, &s);
		else if (rc != -EUCLEAN && (rc != -ENOENT || f->m[i].exists))
			fail_msg("record %u: %s", i, strerror(-rc));
		int rc2 = slice_stat_rec(sl, id, len, &st);
		if (rc2 == 0) {
			assert_true(f->m[i].exists);
			assert_int_equal(st.version, f->m[i].version);
			assert_int_equal(st.mtime_ns, f->m[i].mtime_ns);
			assert_true(rc != 0 || st.rowid == s.rowid);
		} else if (rc2 != -EUCLEAN && (rc2 != -ENOENT || f->m[i].exists)) {
			fail_msg("stat of record %u: %s", i, strerror(-rc2));
		}
		whole &= rc != -EUCLEAN && rc2 != -EUCLEAN;
		slice_rec_release(&s);
	}
	return whole;
}

struct listing {
	struct fix *f;
	uint64_t after;
	uint32_t n;
};

static int list_one(void *arg, uint64_t rowid, uint64_t mtime_ns, const char *id, size_t len)
{
	struct listing *l = arg;
	int i = find_model(l->f, id, len);

	assert_true(i >= 0);
	assert_int_equal(mtime_ns, l->f->m[i].mtime_ns);
	assert_true(rowid > l->after);
	l->after = rowid;
	l->n++;
	return 0;
}

static bool ask_for_names(struct fix *f, struct slice *sl, uint32_t live)
{
	struct listing l = {.f = f};
	int rc = slice_list(sl, 0, UINT32_MAX, list_one, &l);

	if (rc == -EUCLEAN)
		return false;
	assert_int_equal(rc, 0);
	assert_int_equal(l.n, live);
	return true;
}

static bool ask_for_all(struct fix *f, struct slice *sl, uint32_t live)
{
	struct slice_scan *sc;
	const struct slice_rec *p;
	struct vx_err err = VX_ERR_INIT;
	uint64_t after = 0;
	bool seen[N_IDS] = {false};
	uint32_t n = 0;
	int rc;

	assert_int_equal(slice_scan_open(sl, SLICE_META | SLICE_TEXT | SLICE_VEC, &sc), 0);
	while ((rc = slice_scan_next(sc, after, &p, &err)) == 0) {
		assert_true(p->rowid > after);
		after = p->rowid;
		must_be(f, p);
		int i = find_model(f, p->rec.id, p->rec.id_len);
		assert_false(seen[i]);
		seen[i] = true;
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

static float true_distance(const struct fix *f, uint32_t i, const float *q)
{
	float d2 = 0;

	for (uint32_t d = 0; d < DIM; d++)
		d2 += (q[d] - f->m[i].vec[d]) * (q[d] - f->m[i].vec[d]);
	return sqrtf(d2);
}

/* A hit says whose it is, and its row says the same. */
static uint32_t hit_is(struct fix *f, struct slice *sl, const struct slice_hit *h, bool *ret_whole)
{
	struct slice_rec s = {.mem = BUF_INIT};
	int i = find_model(f, h->id, h->id_len);

	assert_true(i >= 0);
	int rc = slice_get_rowid(sl, h->rowid, 0, &s, NULL);
	if (rc == 0) {
		assert_int_equal(s.slot, h->slot);
		assert_int_equal(s.version, f->m[i].version);
		assert_int_equal(s.rec.id_len, h->id_len);
		assert_memory_equal(s.rec.id, h->id, h->id_len);
	} else if (rc == -EUCLEAN) {
		*ret_whole = false;
	} else {
		fail_msg("record %d by its number: %s", i, strerror(-rc));
	}
	slice_rec_release(&s);
	return (uint32_t)i;
}

/* The nearest records at their true distances, each once, nearest first; none is missing but those that cannot be
 * read.  (In so few records an approximate search misses none.) */
static bool ask_nearest(struct fix *f, struct slice *sl, const bool lost[N_IDS], bool exact)
{
	struct slice_hit hits[N_IDS + 5];
	bool seen[N_IDS] = {false}, whole = true;
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
		uint32_t i = hit_is(f, sl, &hits[k], &whole);
		assert_false(seen[i]);
		seen[i] = true;
		assert_true(fabsf(true_distance(f, i, q) - hits[k].distance) < 1e-3f);
		assert_true(k == 0 || hits[k].distance >= hits[k - 1].distance);
	}
	for (uint32_t i = 0; i < N_IDS; i++) {
		if (!f->m[i].exists || seen[i])
			continue;
		if (n == iq.k && true_distance(f, i, q) > hits[n - 1].distance - 1e-3f)
			continue;
		if (!lost[i])
			fail_msg("record %u is not found", i);
		whole = false;
	}
	return whole;
}

/* What was applied once is known, and not applied again. */
static bool ask_again(struct rot *r, struct slice *sl, uint32_t live)
{
	struct apply_req q[ENTRIES_MAX];
	struct vx_err err = VX_ERR_INIT;
	struct slice_stats st;
	size_t of[ENTRIES_MAX], n = 0, done;
	bool whole = true;

	for (size_t i = 0; i < r->f.n_log; i++) {
		if (r->first[i].inserted + r->first[i].updated + r->first[i].deleted == 0)
			continue;
		of[n] = i;
		q[n] = (struct apply_req){.index = r->f.n_log * 3 + 1 + n,
			.data = r->f.log[i].data.data,
			.len = r->f.log[i].data.len};
		n++;
	}
	int rc = shard_apply(r->f.s, q, n, &done, &err);
	if (rc)
		fail_msg("entries that come again: %s", vx_err_msg(&err, rc));
	for (size_t k = 0; k < n; k++) {
		const struct apply_result *a = &q[k].result, *b = &r->first[of[k]];
		if (a->status == -EUCLEAN) {
			whole = false;
			continue;
		}
		assert_int_equal(a->status, 0);
		assert_true(a->repeat);
		assert_int_equal(a->inserted, b->inserted);
		assert_int_equal(a->updated, b->updated);
		assert_int_equal(a->deleted, b->deleted);
		assert_int_equal(a->missing, b->missing);
		assert_int_equal(a->conflicts, b->conflicts);
	}
	slice_stat(sl, &st);
	assert_int_equal(st.count, live);
	return whole;
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
static bool ask_everything(struct rot *r)
{
	struct fix *f = &r->f;
	struct vx_err err = VX_ERR_INIT;
	struct slice_stats st;
	bool lost[N_IDS];
	uint32_t live = 0;
	int rc;

	ask_other(f);
	r->nslots = r->tail = 0;
	struct slice *sl = shard_slice_get(f->s, CID, &rc, &err);
	if (!sl) {
		if (rc != -EUCLEAN)
			fail_msg("the slice: %s", vx_err_msg(&err, rc));
		assert_true(err.msg[0]);
		assert_null(shard_slice_get(f->s, CID, &rc, &err));
		assert_int_equal(rc, -EUCLEAN);
		assert_non_null(strstr(err.msg, "quarantined"));
		return false;
	}
	for (uint32_t i = 0; i < N_IDS; i++)
		live += f->m[i].exists;
	slice_stat(sl, &st);
	assert_int_equal(st.count, live);
	assert_int_equal(st.nslots - st.dead_slots, live);
	bool whole = ask_by_id(f, sl, lost);
	whole &= ask_for_names(f, sl, live);
	whole &= ask_for_all(f, sl, live);
	whole &= ask_nearest(f, sl, lost, true);
	whole &= ask_nearest(f, sl, lost, false);
	slice_stat(sl, &st);
	r->nslots = st.nslots;
	r->tail = st.tail;
	whole &= ask_again(r, sl, live);
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

static int one_of_ours(void *arg, uint32_t cid)
{
	(void)arg;
	if (cid != CID && cid != CID + 1)
		fail_msg("slice %u is missed, which never was", cid);
	return 0;
}

static bool look(struct rot *r)
{
	fix_open(&r->f);
	fix_replay(&r->f);
	shard_replayed(r->f.s);
	assert_int_equal(shard_slices(r->f.s, one_of_ours, NULL), 0);
	bool whole = ask_everything(r);
	fix_close(&r->f, false);
	return whole;
}

static void restore(struct rot *r)
{
	char shm[512];

	for (size_t i = 0; i < r->n; i++)
		image_restore(&r->img[i]);
	fix_path(&r->f, "c-17/meta.db-shm", shm);
	(void)unlink(shm);
}

static void one_flip(struct rot *r, struct image *m, size_t at, uint8_t was, enum rule rule)
{
	restore(r);
	write_byte(m->path, at, (uint8_t)(was ^ (1u << fix_rnd(&r->f) % 8)));
	bool whole = look(r);
	r->flips++;
	r->noticed += !whole;
	if (rule == NOTHING && !whole)
		fail_msg("byte %zu of %s: believed", at, m->path);
	if (rule == INDEX_REFUSED && (!whole || r->tail != r->nslots))
		fail_msg("byte %zu of %s: %u of %u slots are taken from it", at, m->path,
			r->nslots - r->tail, r->nslots);
}

static bool reserved(const struct image *m, size_t at)
{
	/* What lies between the areas of a segment is the same as what lies behind its last slot. */
	return strstr(m->path, ".vec") && at >= VEC_VECTORS + 2048 * DIM * sizeof(float);
}

/* The file whose path ends so. */
static struct image *image_named(struct rot *r, const char *name)
{
	for (size_t i = 0; i < r->n; i++) {
		const char *end = strstr(r->img[i].path, name);
		if (end && strcmp(end, name) == 0)
			return &r->img[i];
	}
	fail_msg("no file %s", name);
	return NULL;
}

static void flip_file(const char *name, enum form form, unsigned entries, enum rule rule)
{
	static struct rot r;
	struct image *m = NULL;

	/* With fewer there is no graph, and nothing is taken from a checkpoint. */
	rot_init(&r, form, entries, rule == INDEX_REFUSED ? 600 : 0);
	m = image_named(&r, name);
	/* Without a flip all is well. */
	restore(&r);
	assert_true(look(&r));
	assert_true(rule != INDEX_REFUSED || r.tail < r.nslots);
	size_t bytes = 0, seen = 0;
	for (size_t i = 0; i < m->n_runs; i++)
		bytes += m->runs[i].len;
	size_t stride = rot_all() ? 1 : bytes / SAMPLE + 1, next = fix_rnd(&r.f) % stride;
	for (size_t i = 0; i < m->n_runs; i++) {
		for (size_t k = 0; k < m->runs[i].len; k++, seen++) {
			if (seen < next || reserved(m, m->runs[i].at + k))
				continue;
			next = seen + stride;
			if (rot_mine(seen / stride))
				one_flip(&r, m, m->runs[i].at + k, m->runs[i].p[k], rule);
		}
	}
	print_message("%s: %u flips in %zu bytes, %u noticed, the rest without effect\n", name,
		r.flips, bytes, r.noticed);
	assert_true(rule != SOMETHING || r.noticed > 0);
	rot_release(&r);
}

static void rot_in_meta_db(void **state)
{
	(void)state;
	flip_file("meta.db", SETTLED, 60, SOMETHING);
}

/* Byte 20 says that pages have checksums.  One flip of it hides another one, if it is believed. */
static void rot_in_meta_db_that_says_it_has_no_sums(void **state)
{
	(void)state;
	static struct rot r;
	struct image *m = NULL;

	rot_init(&r, SETTLED, 60, 0);
	m = image_named(&r, "meta.db");
	assert_int_equal(m->runs[0].at, 0);
	for (unsigned n = 0; n < SAMPLE; n++) {
		size_t run = fix_rnd(&r.f) % m->n_runs, k = fix_rnd(&r.f) % m->runs[run].len;
		if (m->runs[run].at + k == 20)
			continue;
		restore(&r);
		write_byte(m->path, 20, m->runs[0].p[20] ^ 8);
		write_byte(m->path, m->runs[run].at + k,
			(uint8_t)(m->runs[run].p[k] ^ (1u << fix_rnd(&r.f) % 8)));
		if (look(&r))
			fail_msg("byte %zu: two flips were not noticed", m->runs[run].at + k);
	}
	rot_release(&r);
}

/* Whatever becomes of page 1, it does not keep a flip elsewhere from being noticed.  Bytes that say what the file is, each
 * to each value that could make it another kind of file: no name, another length of a page, other reserved bytes, the sum itself;
 * all that there is room for in one page; and all of it zeros. */
static void rot_in_all_of_the_first_page(void **state)
{
	(void)state;
	static struct rot r;
	struct image *m = NULL;
	static const size_t heads[] = {0, 15, 16, 17, 18, 19, 20, 21, 24, 95, 99, 4088, 4095};

	rot_init(&r, SETTLED, 60, 0);
	m = image_named(&r, "meta.db");
	assert_int_equal(m->runs[0].at, 0);
	for (unsigned n = 0; n < SAMPLE; n++) {
		uint8_t page[4096];
		size_t k = 4096 + fix_rnd(&r.f) % (m->runs[0].len - 4096);

		memcpy(page, m->runs[0].p, sizeof page);
		/* Always without the byte that says that there are sums. */
		page[20] = (uint8_t)(n % 4 ? 0 : fix_rnd(&r.f));
		if (page[20] == 8)
			continue;
		for (unsigned i = fix_rnd(&r.f) % 6; i > 0; i--)
			page[heads[fix_rnd(&r.f) % VX_ARRAY_SIZE(heads)]] ^=
				(uint8_t)(1u << fix_rnd(&r.f) % 8);
		for (unsigned i = fix_rnd(&r.f) % 20; i > 0; i--)
			page[100 + fix_rnd(&r.f) % 3988] = (uint8_t)fix_rnd(&r.f);
		if (n % 5 == 0)
			page[16] = (uint8_t)(n % 2 ? 0x20 : 0x08);
		if (page[20] == 8)
			continue;
		restore(&r);
		int fd = open(m->path, O_WRONLY);
		assert_true(fd >= 0);
		assert_int_equal(pwrite(fd, page, sizeof page, 0), sizeof page);
		close(fd);
		write_byte(m->path, k, (uint8_t)(m->runs[0].p[k] ^ (1u << fix_rnd(&r.f) % 8)));
		if (look(&r))
			fail_msg("byte %zu is believed beside another first page", k);
	}
	rot_release(&r);
}

/* Page 1 as it is in SQLite's log is right, so SQLite goes on; the pages of the file are verified all the same. */
static void rot_in_the_first_page_below_its_log(void **state)
{
	(void)state;
	static struct rot r;
	struct image *m = NULL;
	unsigned noticed = 0;

	rot_init(&r, MIXED, 60, 0);
	m = image_named(&r, "meta.db");
	for (unsigned n = 0; n < SAMPLE; n++) {
		static const size_t at[] = {0, 5, 16, 17, 20};
		size_t head = at[n % VX_ARRAY_SIZE(at)];
		size_t k = 4096 + fix_rnd(&r.f) % (m->runs[0].len - 4096);
		uint8_t bit = (uint8_t)(1u << fix_rnd(&r.f) % 8);

		/* The flip alone. */
		restore(&r);
		write_byte(m->path, k, (uint8_t)(m->runs[0].p[k] ^ bit));
		bool whole = look(&r);
		noticed += !whole;
		restore(&r);
		write_byte(m->path, k, (uint8_t)(m->runs[0].p[k] ^ bit));
		write_byte(m->path, head, (uint8_t)(m->runs[0].p[head] ^ (head == 20 ? 8 : bit)));
		if (!whole && look(&r))
			fail_msg("byte %zu is believed once byte %zu is another", k, head);
	}
	print_message("meta.db below its log: %u of %u flips noticed\n", noticed, SAMPLE);
	assert_true(noticed > 0);
	rot_release(&r);
}

static void rot_in_meta_db_below_its_log(void **state)
{
	(void)state;
	flip_file("meta.db", MIXED, 60, SOMETHING);
}

static void rot_in_meta_db_wal(void **state)
{
	(void)state;
	flip_file("meta.db-wal", MIXED, 60, SOMETHING);
}

static void rot_in_what_the_log_of_sqlite_has_alone(void **state)
{
	(void)state;
	flip_file("meta.db-wal", YOUNG, 1, SOMETHING);
}

static void rot_in_the_claim(void **state)
{
	(void)state;
	flip_file("mark", YOUNG, 3, NOTHING);
}

static void rot_in_the_roster(void **state)
{
	(void)state;
	flip_file("slices", YOUNG, 3, NOTHING);
}

static void rot_in_a_segment(void **state)
{
	(void)state;
	flip_file("000000.vec", SETTLED, 60, SOMETHING);
}

static void rot_in_a_segment_above_the_mark(void **state)
{
	(void)state;
	flip_file("000000.vec", MIXED, 5, SOMETHING);
}

/* Enough entries for codes and a graph. */
static void rot_in_a_checkpoint(void **state)
{
	(void)state;
	flip_file("graph.ckpt", SETTLED, 160, INDEX_REFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rot_in_meta_db),
		cmocka_unit_test(rot_in_meta_db_that_says_it_has_no_sums),
		cmocka_unit_test(rot_in_all_of_the_first_page),
		cmocka_unit_test(rot_in_the_first_page_below_its_log),
		cmocka_unit_test(rot_in_meta_db_below_its_log),
		cmocka_unit_test(rot_in_meta_db_wal),
		cmocka_unit_test(rot_in_what_the_log_of_sqlite_has_alone),
		cmocka_unit_test(rot_in_the_claim),
		cmocka_unit_test(rot_in_the_roster),
		cmocka_unit_test(rot_in_a_segment),
		cmocka_unit_test(rot_in_a_segment_above_the_mark),
		cmocka_unit_test(rot_in_a_checkpoint),
	};

	/* Each flip is logged, and rightly. */
	if (!getenv("VECFS_LOG"))
		(void)!log_configure("off");
	cmocka_set_test_filter(getenv("ROT_TEST"));
	return cmocka_run_group_tests_name("rot", tests, NULL, NULL);
}
