/* verify_names.c - the directory of a shard that is being served, name by name, against the table of its slices.
 *
 * A drop renames a slice's directory and takes the slice out of the table under one hold of the shard's lock, so whoever looks at
 * both under that lock sees both or neither.  A create makes the directory first: what is on disk alone is
 * looked at again once the applier is done with what it was at.
 *
 * A slice that the catalog does not know is as a rule one that is being dropped, as names go first; the next start
 * mends a drop that failed, so it is a note.  A directory that neither the table nor the catalog knows was made by somebody else.
 */
#include "store/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unsynced.h"
#include "store/verify_i.h"

struct names {
	struct verify *v;
	const char *dir;
	struct buf cids; /* 4 each: directories of slices, then of those the strangers */
};

static void say_stranger(struct verify *v, const char *dir, const char *name)
{
	char path[STORE_PATH_MAX];

	if (store_path(path, dir, name) == 0)
		verify_say(v, VERIFY_NOTE, path, VERIFY_NOWHERE, "does not belong here");
}

static int each_name(void *arg, const char *name)
{
	static const char *const ours[] = {SHARD_ROSTER, SHARD_ROSTER ".tmp", UNSYNCED_NAME};
	struct names *n = arg;
	uint32_t cid;
	int what = slice_name_parse(name, &cid);

	if (what == 1)
		return buf_put_le32(&n->cids, cid);
	for (size_t i = 0; i < VX_ARRAY_SIZE(ours) && !what; i++)
		what = strcmp(name, ours[i]) == 0;
	if (!what)
		say_stranger(n->v, n->dir, name);
	return 0;
}

static bool cid_path(const struct shard *s, uint32_t cid, char *ret)
{
	char name[32];

	snprintf(name, sizeof name, "c-%u", cid);
	return store_path(ret, s->dir, name) == 0;
}

/* On disk, and not in the table. */
static bool is_stranger(struct shard *s, uint32_t cid)
{
	char path[STORE_PATH_MAX];

	if (!cid_path(s, cid, path))
		return false;
	vx_lock(&s->mu);
	bool is = !shard_find(s, cid) && access(path, F_OK) == 0;
	vx_unlock(&s->mu);
	return is;
}

static bool known(const struct verify *v, uint32_t cid)
{
	return !v->known || v->known(v->ctx, cid);
}

static void check_strangers(struct shard *s, struct names *n, void (*settle)(void *ctx), void *ctx)
{
	size_t left = 0;

	for (size_t i = 0; i < n->cids.len; i += 4) {
		uint32_t cid = get_le32(n->cids.data + i);
		if (!is_stranger(s, cid))
			continue;
		put_le32(n->cids.data + left, cid);
		left += 4;
	}
	if (left)
		settle(ctx);
	for (size_t i = 0; i < left; i += 4) {
		uint32_t cid = get_le32(n->cids.data + i);
		char path[STORE_PATH_MAX];
		/* Of a collection that there is, it may be in the making again. */
		if (is_stranger(s, cid) && !known(n->v, cid) && cid_path(s, cid, path))
			verify_say(n->v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
				"is no slice of this shard, and the catalog has no such "
				"collection");
	}
}

/* One slice of the table, as it is now. */
static void check_one(struct shard *s, struct verify *v, uint32_t cid)
{
	char path[STORE_PATH_MAX], why[sizeof((struct slice *)0)->bad_msg] = "";
	int gone = 0;

	if (!cid_path(s, cid, path))
		return;
	vx_lock(&s->mu);
	struct slice *sl = shard_find(s, cid);
	bool bad = sl && sl->bad;
	if (bad)
		snprintf(why, sizeof why, "%s", sl->bad_msg);
	if (sl && !sl->incomplete && access(path, F_OK) < 0)
		gone = errno;
	vx_unlock(&s->mu);
	if (!sl)
		return;
	v->told = 0;
	if (gone)
		verify_say(v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "%s",
			gone == ENOENT ? "is missing" : strerror(gone));
	else if (bad)
		verify_say(v, VERIFY_DAMAGE, path, VERIFY_NOWHERE, "quarantined: %s", why);
	if (!known(v, cid))
		verify_say(v, VERIFY_NOTE, path, VERIFY_NOWHERE,
			"the catalog has no such collection: being dropped, or dropped by the "
			"next start");
}

static int add_cid(void *arg, uint32_t cid)
{
	return buf_put_le32(arg, cid);
}

/* --- the roster -------------------------------------------------------------------------------- */

struct roster_look {
	struct shard like; /* dir, disk and id of the one that is served */
	struct buf cids;
};

static int on_roster(struct shard *like, uint32_t cid)
{
	struct roster_look *l = VX_CONTAINER_OF(like, struct roster_look, like);

	return buf_put_le32(&l->cids, cid);
}

/* It is replaced as a whole, so it is one that was right, if an old one.  Names go from the catalog first: what the
 * catalog still has after the table was looked at was not dropped when it was. */
static int check_roster(struct shard *s, struct verify *v)
{
	struct roster_look *l = calloc(1, sizeof *l);
	char path[STORE_PATH_MAX];

	if (!l)
		return -ENOMEM;
	l->like.dir = s->dir;
	l->like.disk = s->disk;
	l->like.id = s->id;
	int rc = roster_peek(&l->like, on_roster);
	v->told = 0;
	if (rc == -EUCLEAN && store_path(path, s->dir, SHARD_ROSTER) == 0)
		verify_say(v, VERIFY_DERIVED, path, 0, "is damaged");
	for (size_t i = 0; rc == 0 && i < l->cids.len; i += 4) {
		uint32_t cid = get_le32(l->cids.data + i);
		vx_lock(&s->mu);
		bool there = shard_find(s, cid) != NULL;
		vx_unlock(&s->mu);
		if (!there && known(v, cid) && cid_path(s, cid, path))
			verify_say(v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
				"is missing, although the roster has it");
	}
	buf_release(&l->cids);
	free(l);
	return rc == -ENOMEM ? rc : 0;
}

int shard_verify_names(
	struct shard *s, struct verify *v, void (*settle)(void *ctx), void *ctx, struct vx_err *err)
{
	struct names n = {.v = v, .dir = s->dir};
	struct buf table = BUF_INIT;

	v->told = 0;
	int rc = s->disk->ops->list(s->disk, s->dir, each_name, &n);
	if (rc == -ENOENT) {
		verify_say(v, VERIFY_DAMAGE, s->dir, VERIFY_NOWHERE, "is missing");
		rc = 0;
		goto out;
	}
	if (rc == 0)
		check_strangers(s, &n, settle, ctx);
	if (rc == 0)
		rc = shard_slices(s, add_cid, &table);
	for (size_t i = 0; rc == 0 && i < table.len; i += 4)
		check_one(s, v, get_le32(table.data + i));
	if (rc == 0)
		rc = check_roster(s, v);
out:
	buf_release(&table);
	buf_release(&n.cids);
	return rc ? vx_err_set(err, rc, "%s: %s", s->dir, strerror(-rc)) : 0;
}
