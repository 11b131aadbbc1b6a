/* gen.c - generations of a slice on disk.
 *
 *	c-17/meta.db, c-17/g-0001/        as "create slice" made it
 *	c-17/g-0002/meta.db, *.vec        what a compaction made of it
 *	c-17/g-0003.new/                  a compaction under way
 *
 * A generation is valid if and only if its directory has its final name; the highest one is the
 * slice.  It gets that name by one rename, after everything in it has been synced, so a crash leaves the old
 * generation or the new one, and what is left over of the other is removed at the start.
 */
#include "store/store_i.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#define GEN_NEW ".new"

int slice_gen_path(const struct slice *sl, char *ret)
{
	char name[32];

	snprintf(name, sizeof name, "g-%04u%s", sl->generation, sl->building ? GEN_NEW : "");
	return store_path(ret, sl->dir, name);
}

int slice_db_path(const struct slice *sl, char *ret)
{
	char dir[STORE_PATH_MAX];

	if (sl->generation == 1)
		return store_path(ret, sl->dir, "meta.db");
	int rc = slice_gen_path(sl, dir);
	return rc ? rc : store_path(ret, dir, "meta.db");
}

/* "g-0004" -> 4; 0: anything else. */
static uint32_t parse_gen(const char *name)
{
	char want[32];

	if (strncmp(name, "g-", 2) != 0)
		return 0;
	unsigned long gen = strtoul(name + 2, NULL, 10);
	if (gen < 1 || gen > GENERATION_MAX)
		return 0;
	snprintf(want, sizeof want, "g-%04lu", gen);
	return strcmp(name, want) == 0 ? (uint32_t)gen : 0;
}

struct found {
	uint32_t highest;
	bool txn;
	struct buf other; /* names, each with its 0 */
};

static int find_one(void *arg, const char *name)
{
	struct found *f = arg;
	uint32_t gen = parse_gen(name);

	f->highest = VX_MAX(f->highest, gen);
	f->txn |= strcmp(name, TXN_MARKER) == 0;
	return buf_append(&f->other, name, strlen(name) + 1);
}

static bool is_left_over(const char *name, uint32_t current)
{
	if (strncmp(name, "g-", 2) == 0)
		return parse_gen(name) != current;
	return current > 1 && strncmp(name, "meta.db", strlen("meta.db")) == 0;
}

int gen_find(struct slice *sl)
{
	struct shard *s = sl->shard;
	struct found f = {.other = BUF_INIT};
	char path[STORE_PATH_MAX];

	int rc = s->disk->ops->list(s->disk, sl->dir, find_one, &f);
	if (rc == 0) {
		sl->generation = VX_MAX(f.highest, 1u);
		atomic_store_explicit(&sl->txn_marker, f.txn, memory_order_relaxed);
		const char *p = (const char *)f.other.data, *end = p + f.other.len;
		for (; p && p < end; p += strlen(p) + 1) {
			if (!is_left_over(p, sl->generation) || store_path(path, sl->dir, p))
				continue;
			log_info("store", "%s: left over by a compaction, removed", path);
			if (s->disk->ops->unlink(s->disk, path))
				store_remove_tree(s, path);
		}
	}
	buf_release(&f.other);
	return rc;
}

int gen_peek(struct slice *sl)
{
	struct found f = {.other = BUF_INIT};
	struct disk *d = sl->shard->disk;

	int rc = d->ops->list(d, sl->dir, find_one, &f);
	if (rc == 0)
		sl->generation = VX_MAX(f.highest, 1u);
	buf_release(&f.other);
	return rc;
}

void gen_remove(struct slice *sl)
{
	static const char *const files[] = {"meta.db", "meta.db-wal", "meta.db-shm"};
	char path[STORE_PATH_MAX];

	for (size_t i = 0; i < VX_ARRAY_SIZE(files) && sl->generation == 1; i++) {
		if (store_path(path, sl->dir, files[i]) == 0)
			(void)sl->shard->disk->ops->unlink(sl->shard->disk, path);
	}
	if (slice_gen_path(sl, path) == 0)
		store_remove_tree(sl->shard, path);
}
