/* The table of nodes, alone: no mount, no database. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Compiled in: its neighbours are the mount itself. */
#include "daemon/fs_node.c"

/* What fs_node.c calls of its neighbours: staging files are not part of these tests. */
void content_free(struct fs *fs, struct content *ct)
{
	(void)fs;
	assert_null(ct);
}

uint32_t content_slot(const struct content *ct, bool *ret_on_disk)
{
	(void)ct;
	*ret_on_disk = false;
	return CARRY_NONE;
}

int content_restore(struct fs *fs, uint32_t slot, bool on_disk, uint64_t size, struct content **ret)
{
	(void)fs;
	(void)slot;
	(void)on_disk;
	(void)size;
	(void)ret;
	return -EUCLEAN;
}

static struct fs *fs_new(void)
{
	struct fs *fs = calloc(1, sizeof *fs);

	assert_non_null(fs);
	vx_mutex_init(&fs->lock, LOCK_LEAF);
	assert_int_equal(tree_init(&fs->tree), 0);
	return fs;
}

static void fs_free(struct fs *fs)
{
	tree_release(fs);
	vx_mutex_release(&fs->lock);
	free(fs);
}

static struct node *make(
	struct fs *fs, enum fs_kind kind, const char *name, bool by_name, bool keep)
{
	struct node *n = NULL;

	assert_int_equal(node_new(fs,
				 &(struct node_spec){.kind = kind,
					 .cid = 7,
					 .name = name,
					 .by_name = by_name,
					 .keep = keep},
				 &n),
		0);
	return n;
}

/* Numbers of records and fixed files say what they stand for, and need no table. */
static void inode_numbers_hold_everything(void **state)
{
	struct fs *fs = fs_new();
	const struct loc locs[] = {
		{.kind = K_ROOT},
		{.kind = K_DOT},
		{.kind = K_COLL, .cid = UINT32_MAX},
		{.kind = K_OPTION, .cid = 3, .idx = 65535},
		{.kind = K_JSON, .cid = 1, .handle = 1},
		{.kind = K_JSON, .cid = (1u << 22) - 1, .handle = (uint64_t)255 << 48 | UINT32_MAX},
		{.kind = K_F32, .cid = 9, .handle = (uint64_t)3 << 48 | 5},
	};

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(locs); i++) {
		struct loc l;
		assert_int_equal(loc_get(fs, loc_ino(&locs[i]), &l), 0);
		assert_int_equal(l.kind, locs[i].kind);
		assert_int_equal(l.cid, locs[i].cid);
		assert_int_equal(l.idx, locs[i].idx);
		assert_int_equal(l.handle, locs[i].handle);
		assert_null(l.node);
		for (size_t j = 0; j < i; j++)
			assert_true(loc_ino(&locs[i]) != loc_ino(&locs[j]));
	}
	struct loc big = {.kind = K_JSON, .cid = 1u << 22, .handle = 1};
	assert_false(loc_record_fits(&big));
	big = (struct loc){.kind = K_JSON, .cid = 1, .handle = (uint64_t)UINT32_MAX + 1};
	assert_false(loc_record_fits(&big));
	fs_free(fs);
}

/* A node lives as long as the kernel, a request or the name needs it, and no longer. */
static void node_lives_while_referred_to(void **state)
{
	struct fs *fs = fs_new();
	struct node *n = make(fs, K_NEAR, "a", true, false);
	struct loc l = {.kind = K_NEAR, .cid = 7, .node = n}, again;
	uint64_t ino = n->ino;

	(void)state;
	loc_ref(fs, &l);
	loc_ref(fs, &l);
	loc_put(fs, &l);
	assert_int_equal(fs->tree.n_nodes, 1);
	loc_forget(fs, ino, 1);
	assert_int_equal(loc_get(fs, ino, &again), 0);
	loc_forget(fs, ino, 1);
	assert_int_equal(fs->tree.n_nodes, 1); /* pinned by 'again' */
	loc_put(fs, &again);
	assert_int_equal(fs->tree.n_nodes, 0);
	assert_int_equal(loc_get(fs, ino, &again), -ESTALE);
	assert_null(node_find(fs, K_NEAR, 7, "a"));
	fs_free(fs);
}

/* One name, one node; other kinds and collections do not see it. */
static void a_name_finds_its_node(void **state)
{
	struct fs *fs = fs_new();
	struct node *n = make(fs, K_STAGED, ".x", true, true);
	struct node *same = make(fs, K_STAGED, ".x", true, true);

	(void)state;
	assert_ptr_equal(n, same);
	assert_null(node_find(fs, K_IN, 7, ".x"));
	assert_null(node_find(fs, K_STAGED, 8, ".x"));
	assert_int_equal(node_rename(fs, n, ".y"), 0);
	assert_null(node_find(fs, K_STAGED, 7, ".x"));
	struct node *y = node_find(fs, K_STAGED, 7, ".y");
	assert_ptr_equal(y, n);
	node_unlink(fs, n);
	assert_null(node_find(fs, K_STAGED, 7, ".y"));
	node_unpin(fs, n);
	node_unpin(fs, same);
	assert_int_equal(fs->tree.n_nodes, 1);
	node_unpin(fs, y);
	assert_int_equal(fs->tree.n_nodes, 0);
	fs_free(fs);
}

/* Kept nodes go when they are old and closed. */
static void sweeping_spares_the_open_and_the_young(void **state)
{
	struct fs *fs = fs_new();
	struct node *open = make(fs, K_STAGED, ".open", true, true);
	struct node *closed = make(fs, K_STAGED, ".closed", true, true);

	(void)state;
	node_open(fs, open);
	node_unpin(fs, closed);
	node_sweep(fs, K_STAGED, 0, 1);
	assert_int_equal(fs->tree.n_nodes, 2);
	node_sweep(fs, K_IN, 0, UINT64_MAX);
	assert_int_equal(fs->tree.n_nodes, 2);
	node_sweep(fs, K_STAGED, 0, UINT64_MAX);
	assert_int_equal(fs->tree.n_nodes, 1);
	assert_int_equal(node_close(fs, open), 0);
	node_sweep(fs, K_NONE, 7, UINT64_MAX);
	node_unpin(fs, open);
	assert_int_equal(fs->tree.n_nodes, 0);
	fs_free(fs);
}

struct hammer {
	struct fs *fs;
	unsigned seed;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;

	for (int i = 0; i < 4000; i++) {
		char name[16];
		snprintf(name, sizeof name, "n%u", (unsigned)rand_r(&h->seed) % 3000);
		struct node *n = make(h->fs, K_NEAR, name, rand_r(&h->seed) % 4 != 0, false);
		struct loc l = {.kind = K_NEAR, .cid = 7, .node = n}, m;
		uint64_t ino = n->ino;
		loc_ref(h->fs, &l);
		if (loc_get(h->fs, ino, &m) == 0)
			loc_put(h->fs, &m);
		loc_put(h->fs, &l);
		struct node *f = node_find(h->fs, K_NEAR, 7, name);
		if (f)
			node_unpin(h->fs, f);
		loc_forget(h->fs, ino, 1);
	}
	return NULL;
}

/* Lookups, forgets and growth at once; afterwards nothing is left. */
static void nodes_from_many_threads(void **state)
{
	struct fs *fs = fs_new();
	struct hammer h[4];
	pthread_t t[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		h[i] = (struct hammer){fs, i + 1};
		assert_int_equal(pthread_create(&t[i], NULL, hammer, &h[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(fs->tree.n_nodes, 0);
	fs_free(fs);
}

/* Thousands of nodes: the tables grow, and every one is still found. */
static void tables_grow(void **state)
{
	struct fs *fs = fs_new();
	static struct node *all[5000];
	char name[16];

	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "n%d", i);
		all[i] = make(fs, K_NEAR, name, true, false);
	}
	assert_true(fs->tree.n_slots >= 4096);
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "n%d", i);
		struct node *f = node_find(fs, K_NEAR, 7, name);
		assert_ptr_equal(f, all[i]);
		node_unpin(fs, f);
	}
	for (int i = 0; i < 5000; i++)
		node_unpin(fs, all[i]);
	assert_int_equal(fs->tree.n_nodes, 0);
	fs_free(fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inode_numbers_hold_everything),
		cmocka_unit_test(node_lives_while_referred_to),
		cmocka_unit_test(a_name_finds_its_node),
		cmocka_unit_test(sweeping_spares_the_open_and_the_young),
		cmocka_unit_test(nodes_from_many_threads),
		cmocka_unit_test(tables_grow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
