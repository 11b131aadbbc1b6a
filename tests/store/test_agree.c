/* test_agree.c - an index checkpoint must say of each slot what the slice says.
 *
 * A checkpoint is forged so that all its checksums and counts are right, and one slot of it is not: one that does
 * not exist, a living one that is left out (in each of the ways in which it can be), a dead one that
 * lives.  A start discards it, vec-fsck's core calls it derived, and what is asked gets the answers of an
 * exact scan.  The same file without the forgery is taken, or the test would show nothing.
 */
#include "fixture.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "store/verify.h"

#define CKPT     "c-17/g-0001/graph.ckpt"
#define HEAD     128u
#define BLOCK    262144u
#define WIDTH    64u /* DIM, rounded up */
#define RECALL   173u
#define LINKED   0x20u
#define SKIPPED  0x40u
#define DEAD     0x80u
#define EF_WALKS 40u /* few enough for the graph to be walked rather than scanned */

/* --- a checkpoint, taken apart (docs/format-index.md; sq8) ----------------------------------- */
struct ckpt {
	uint8_t head[HEAD];
	uint8_t *p;
	size_t len;
	uint32_t n, linked, m;
	uint32_t entry; /* slot of the entry point */
	uint8_t *flags;
	uint8_t *audited; /* a word */
	uint8_t *rows;    /* of layer 0 */
};

static void ckpt_read(const struct fix *f, struct ckpt *c)
{
	char path[512];
	struct stat st;

	memset(c, 0, sizeof *c);
	fix_path(f, CKPT, path);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(read(fd, c->head, HEAD), HEAD);
	c->p = malloc((size_t)st.st_size);
	for (size_t left = get_le64(c->head + 24); left;) {
		size_t n = VX_MIN(left, (size_t)BLOCK);
		uint8_t sum[8];
		assert_int_equal(read(fd, c->p + c->len, n), n);
		assert_int_equal(read(fd, sum, sizeof sum), sizeof sum);
		c->len += n;
		left -= n;
	}
	close(fd);
	c->n = get_le32(c->head + 84);
	c->linked = get_le32(c->head + 88);
	c->m = get_le32(c->head + 76);
	c->flags = c->p + DIM * 4 + (size_t)c->n * (WIDTH + 4 + 2);
	c->audited = c->flags + c->n + 8;
	uint32_t entry = get_le32(c->flags + c->n), nupper = get_le32(c->flags + c->n + 4);
	c->rows = c->flags + c->n + 12 + RECALL * 4;
	for (uint32_t u = 1; u <= nupper; u++) {
		if (u == entry)
			c->entry = get_le32(c->rows);
		c->rows += 8 + (size_t)get_le32(c->rows + 4) * c->m * 4;
	}
	assert_ptr_equal(c->rows + (size_t)c->linked * c->m * 8, c->p + c->len);
}

/* With every checksum made anew. */
static void ckpt_write(const struct fix *f, struct ckpt *c)
{
	char path[512];
	uint64_t salt = get_le64(c->head + 16);

	fix_path(f, CKPT, path);
	int fd = open(path, O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	put_le64(c->head + 120, hash_xxh3(c->head, 120, 0));
	assert_int_equal(write(fd, c->head, HEAD), HEAD);
	for (size_t at = 0, i = 0; at < c->len; at += BLOCK, i++) {
		size_t n = VX_MIN(c->len - at, (size_t)BLOCK);
		uint8_t sum[8];
		put_le64(sum, hash_xxh3(c->p + at, n, salt + i));
		assert_int_equal(write(fd, c->p + at, n), n);
		assert_int_equal(write(fd, sum, sizeof sum), sizeof sum);
	}
	close(fd);
	free(c->p);
}

static uint8_t *row_of(const struct ckpt *c, uint32_t slot)
{
	return c->rows + (size_t)slot * c->m * 8;
}

static void dead_more(struct ckpt *c, int by)
{
	put_le32(c->head + 92, get_le32(c->head + 92) + (uint32_t)by);
}

/* Takes a slot out of every row of layer 0; its own stays. */
static void cut_links_to(struct ckpt *c, uint32_t slot)
{
	for (uint32_t s = 0; s < c->linked; s++) {
		uint8_t *row = row_of(c, s);
		uint32_t to = 0;
		for (uint32_t i = 0; i < 2 * c->m; i++) {
			uint32_t link = get_le32(row + 4 * (size_t)i);
			put_le32(row + 4 * (size_t)i, 0);
			if (link && link != slot + 1)
				put_le32(row + 4 * (size_t)to++, link);
		}
	}
}

/* --- a slice ------------------------------------------------------------------------------------ */
static void apply_some(struct fix *f, unsigned entries)
{
	uint8_t expect[64];
	uint32_t n;

	while (entries--)
		assert_int_equal(fix_apply(f, fix_random_entry(f, 10, expect, &n), NULL, NULL), 0);
}

static struct slice *get(struct fix *f)
{
	int rc;
	struct slice *sl = shard_slice_get(f->s, CID, &rc, NULL);

	assert_non_null(sl);
	return sl;
}

static void link_and_save(struct fix *f)
{
	struct slice *sl = get(f);
	int rc;

	while ((rc = slice_index_step(sl, 1000)) > 0)
		;
	assert_int_equal(rc, 0);
	assert_int_equal(slice_index_save(sl, 0, NULL), 0);
	slice_put(sl);
}

static void setup(struct fix *f)
{
	fix_init(f, NULL);
	assert_int_equal(fix_create(f, CID), 0);
	/* Some die before they are linked, some after. */
	apply_some(f, 200);
	link_and_save(f);
	apply_some(f, 50);
	/* The last entry before the checkpoint kills: the index has not been told of that yet. */
	for (uint32_t i = 0; i < N_IDS; i++) {
		if (f->m[i].exists) {
			assert_int_equal(fix_apply(f, fix_delete(f, CID, i), NULL, NULL), 0);
			break;
		}
	}
	link_and_save(f);
}

static void reopen(struct fix *f)
{
	fix_open(f);
	fix_replay(f);
	shard_replayed(f->s);
}

/* A living slot, or a dead one, that the graph has, but not where it begins. */
static uint32_t pick(struct fix *f, const struct ckpt *c, bool alive)
{
	for (;;) {
		uint32_t s = (uint32_t)(fix_rnd(f) % c->linked);
		if (s != c->entry && (c->flags[s] & LINKED) && !(c->flags[s] & DEAD) == alive)
			return s;
	}
}

/* How many of k answers are those of an exact scan. */
static uint32_t as_exact(struct slice *sl, const float *q, uint32_t k)
{
	struct slice_hit a[N_IDS], b[N_IDS];
	struct index_query iq = {.vec = q, .k = k, .ef = EF_WALKS};
	uint32_t n, m, same = 0;

	assert_int_equal(slice_search(sl, &iq, a, &n, NULL), 0);
	iq.exact = true;
	assert_int_equal(slice_search(sl, &iq, b, &m, NULL), 0);
	assert_int_equal(n, m);
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t j = 0; j < n; j++)
			same += a[i].slot == b[j].slot;
	return same;
}

/* Each record is its own neighbour, answers are those of an exact scan, with the recall that is promised, and all of
 * them those of the model; true: the checkpoint was taken. */
static bool ask(struct fix *f)
{
	struct slice *sl = get(f);
	struct slice_stats st;
	uint32_t same = 0, asked = 0, own = 0, live = 0;
	float q[DIM];

	for (uint32_t i = 0; i < N_IDS; i++) {
		live += f->m[i].exists;
		own += f->m[i].exists && as_exact(sl, f->m[i].vec, 1) == 1;
	}
	slice_stat(sl, &st);
	assert_true(st.index_loaded);
	bool taken = st.index.linked > 0;
	/* A graph of dead slots for the most part is not sure of each. */
	assert_true(taken ? own >= live * 9 / 10 : own == live);
	for (uint32_t i = 0; i < 20 && !taken; i++) {
		for (uint32_t d = 0; d < DIM; d++)
			q[d] = (float)(fix_rnd(f) % 2000) / 100 - 10;
		same += as_exact(sl, q, 10);
		asked += 10;
	}
	assert_true(same >= asked * 95 / 100);
	slice_put(sl);
	fix_compare(f);
	return taken;
}

static uint64_t fsck(struct fix *f, bool repair)
{
	struct vx_err err = VX_ERR_INIT;
	struct verify v = {.repair = repair};
	char dir[512];

	snprintf(dir, sizeof dir, "%s/shard", f->dir);
	assert_int_equal(shard_verify(dir, 3, disk_real(), &v, &err), 0);
	assert_int_equal(v.damage, 0);
	assert_int_equal(v.repaired, repair ? v.derived : 0);
	return v.derived;
}

/* The forged checkpoint lies there and nobody serves the shard. */
static void expect_refused(struct fix *f)
{
	assert_int_equal(fsck(f, false), 1);
	reopen(f);
	assert_false(ask(f));
	/* It is linked again, and what is saved then is taken. */
	link_and_save(f);
	fix_close(f, false);
	assert_int_equal(fsck(f, false), 0);
	reopen(f);
	assert_true(ask(f));
	fix_close(f, false);
}

static void expect_taken(struct fix *f)
{
	assert_int_equal(fsck(f, false), 0);
	reopen(f);
	assert_true(ask(f));
	fix_close(f, false);
}

/* Runs 'forge' on the checkpoint of a slice; true: it must be refused. */
static void with_forged(bool (*forge)(struct fix *f, struct ckpt *c))
{
	struct fix f;
	struct ckpt c;

	setup(&f);
	fix_close(&f, false);
	ckpt_read(&f, &c);
	assert_int_equal(get_le32(c.head + 112), 1);
	bool refused = forge(&f, &c);
	ckpt_write(&f, &c);
	if (refused)
		expect_refused(&f);
	else
		expect_taken(&f);
	fix_release(&f);
}

static bool nothing(struct fix *f, struct ckpt *c)
{
	(void)f, (void)c;
	return false;
}

static void a_checkpoint_that_agrees_is_taken(void **state)
{
	(void)state;
	with_forged(nothing);
}

static bool said_to_be_dead(struct fix *f, struct ckpt *c)
{
	c->flags[pick(f, c, true)] |= DEAD;
	dead_more(c, 1);
	return true;
}

static void a_living_slot_that_is_said_to_be_dead_is_missed(void **state)
{
	(void)state;
	with_forged(said_to_be_dead);
}

static bool passed_over(struct fix *f, struct ckpt *c)
{
	uint32_t s = pick(f, c, true);

	c->flags[s] = (uint8_t)((c->flags[s] & ~LINKED) | SKIPPED);
	cut_links_to(c, s);
	memset(row_of(c, s), 0, (size_t)c->m * 8);
	return true;
}

static void a_living_slot_that_was_passed_over_is_missed(void **state)
{
	(void)state;
	with_forged(passed_over);
}

static bool nowhere(struct fix *f, struct ckpt *c)
{
	uint32_t s = pick(f, c, true);

	c->flags[s] &= (uint8_t)~LINKED;
	cut_links_to(c, s);
	memset(row_of(c, s), 0, (size_t)c->m * 8);
	return true;
}

static void a_living_slot_neither_in_the_graph_nor_in_the_tail_is_missed(void **state)
{
	(void)state;
	with_forged(nowhere);
}

static bool in_the_tail(struct fix *f, struct ckpt *c)
{
	put_le32(c->head + 88, c->linked - 1);
	c->len -= (size_t)c->m * 8;
	put_le64(c->head + 24, c->len);
	put_le32(c->audited, VX_MIN(get_le32(c->audited), c->linked - 1));
	cut_links_to(c, c->linked - 1);
	(void)f;
	return true;
}

static void a_slot_of_the_tail_that_counts_as_linked_is_refused(void **state)
{
	(void)state;
	with_forged(in_the_tail);
}

static bool unreachable(struct fix *f, struct ckpt *c)
{
	assert_int_equal(get_le32(c->audited), c->linked);
	cut_links_to(c, pick(f, c, true));
	return true;
}

static void a_living_slot_that_no_link_leads_to_is_missed(void **state)
{
	(void)state;
	with_forged(unreachable);
}

/* A graph that does not say that every slot can be reached is made so. */
static bool unaudited(struct fix *f, struct ckpt *c)
{
	cut_links_to(c, pick(f, c, true));
	put_le32(c->audited, 0);
	return false;
}

static void a_slot_that_no_link_leads_to_yet_is_tied(void **state)
{
	(void)state;
	with_forged(unaudited);
}

static bool said_to_live(struct fix *f, struct ckpt *c)
{
	c->flags[pick(f, c, false)] &= (uint8_t)~DEAD;
	dead_more(c, -1);
	return true;
}

static void a_dead_slot_that_is_said_to_live_is_noticed(void **state)
{
	(void)state;
	with_forged(said_to_live);
}

/* Files of older versions lack what died last: no reason to do without them. */
static bool said_to_live_by_an_old_version(struct fix *f, struct ckpt *c)
{
	c->flags[pick(f, c, false)] &= (uint8_t)~DEAD;
	put_le32(c->head + 112, 0);
	return false;
}

static void a_dead_slot_of_an_old_checkpoint_is_told_to_it(void **state)
{
	(void)state;
	with_forged(said_to_live_by_an_old_version);
}

static bool another_count(struct fix *f, struct ckpt *c)
{
	dead_more(c, 3);
	(void)f;
	return true;
}

static void a_count_of_dead_slots_that_is_not_theirs_is_refused(void **state)
{
	(void)state;
	with_forged(another_count);
}

static void copy_dir(const struct fix *f, const char *from, const char *to)
{
	char cmd[1000];

	snprintf(
		cmd, sizeof cmd, "cd '%s' && rm -rf '%s' && cp -a '%s' '%s'", f->dir, to, from, to);
	assert_int_equal(system(cmd), 0);
}

/* The checkpoint of a later state says that it is of this one. */
static void slots_that_do_not_exist_are_noticed(void **state)
{
	static struct model_rec m[N_IDS];
	struct fix f;
	struct ckpt now, later;

	(void)state;
	setup(&f);
	fix_close(&f, false);
	ckpt_read(&f, &now);
	copy_dir(&f, "shard", "saved");
	memcpy(m, f.m, sizeof m);
	size_t n_log = f.n_log;
	reopen(&f);
	apply_some(&f, 20);
	link_and_save(&f);
	fix_close(&f, false);
	ckpt_read(&f, &later);
	assert_true(later.n > now.n);
	memcpy(f.m, m, sizeof m);
	while (f.n_log > n_log)
		buf_release(&f.log[--f.n_log].data);
	copy_dir(&f, "saved", "shard");
	memcpy(later.head + 40, now.head + 40, 8);
	ckpt_write(&f, &later);
	expect_refused(&f);
	free(now.p);
	fix_release(&f);
}

/* What vec-fsck -r puts in the place of a forged one is taken. */
static void repair_makes_one_that_is_taken(void **state)
{
	struct fix f;
	struct ckpt c;

	(void)state;
	fix_init(&f, NULL);
	assert_int_equal(fix_create(&f, CID), 0);
	apply_some(&f, 500); /* enough for the index to be saved */
	link_and_save(&f);
	fix_close(&f, false);
	ckpt_read(&f, &c);
	assert_true(c.n > 1024);
	assert_true(said_to_be_dead(&f, &c));
	ckpt_write(&f, &c);
	assert_int_equal(fsck(&f, true), 1);
	expect_taken(&f);
	fix_release(&f);
}

/* An index that was made while the log came again is compared once that is over: here it was told of a death
 * that never was. */
static void an_index_of_the_replay_is_compared_after_it(void **state)
{
	struct fix f;

	(void)state;
	setup(&f);
	fix_close(&f, false);
	fix_open(&f);
	fix_replay(&f);
	struct slice *sl = get(&f);
	struct slice_reader r;
	struct slice_hit hit;
	uint32_t n, alive = 0;
	while (!f.m[alive].exists)
		alive++;
	assert_int_equal(slice_read_begin(sl, &r, NULL), 0);
	struct index_query iq = {.vec = f.m[alive].vec, .k = 1, .exact = true};
	assert_int_equal(slice_read_search(&r, &iq, &hit, &n, NULL), 0);
	slice_read_end(&r);
	index_forget(r.ix, hit.slot);
	shard_replayed(f.s);
	struct slice_stats st;
	slice_stat(sl, &st);
	assert_false(st.index_loaded);
	slice_put(sl);
	assert_true(ask(&f)); /* the checkpoint is right */
	/* One that agrees stays. */
	shard_replayed(f.s);
	sl = get(&f);
	slice_stat(sl, &st);
	assert_true(st.index_loaded);
	slice_put(sl);
	fix_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_checkpoint_that_agrees_is_taken),
		cmocka_unit_test(a_living_slot_that_is_said_to_be_dead_is_missed),
		cmocka_unit_test(a_living_slot_that_was_passed_over_is_missed),
		cmocka_unit_test(a_living_slot_neither_in_the_graph_nor_in_the_tail_is_missed),
		cmocka_unit_test(a_slot_of_the_tail_that_counts_as_linked_is_refused),
		cmocka_unit_test(a_living_slot_that_no_link_leads_to_is_missed),
		cmocka_unit_test(a_slot_that_no_link_leads_to_yet_is_tied),
		cmocka_unit_test(a_dead_slot_that_is_said_to_live_is_noticed),
		cmocka_unit_test(a_dead_slot_of_an_old_checkpoint_is_told_to_it),
		cmocka_unit_test(a_count_of_dead_slots_that_is_not_theirs_is_refused),
		cmocka_unit_test(slots_that_do_not_exist_are_noticed),
		cmocka_unit_test(repair_makes_one_that_is_taken),
		cmocka_unit_test(an_index_of_the_replay_is_compared_after_it),
	};

	return cmocka_run_group_tests_name("agree", tests, NULL, NULL);
}
