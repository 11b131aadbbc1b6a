/* verify_shard.c - a shard's directory that nobody serves: every slice in it, opened without changing anything.
 *
 * Opening a slice to serve it makes missing segments anew and removes what a crash left; here the same
 * parts are opened one by one and each failure is a finding.  What the log will do at the next start decides how
 * bad a thing is: a slice without a finished meta.db is damage, unless the log has the entry that makes it.
 *
 * Repairs of meta.db are one transaction at the end, synced.  The point of no return is its COMMIT; until then
 * segments got nothing but headers and ids, which are the same bytes however often they are written.
 */
#include "store/verify.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/pagesum.h"
#include "store/verify_i.h"

struct shard_check {
	struct shard stub; /* what the parts of a slice ask of their shard */
	struct verify *v;
	struct buf cids;
	unsigned left_over;
};

/* --- repairs of meta.db ------------------------------------------------------------------------ */

static int bind_run(struct check *c, enum metadb_stmt which, int64_t a, int64_t b)
{
	sqlite3_stmt *st;
	int rc = metadb_get(c->db, which, &st);

	if (rc)
		return rc;
	sqlite3_bind_int64(st, 1, a);
	if (sqlite3_bind_parameter_count(st) > 1)
		sqlite3_bind_int64(st, 2, b);
	rc = metadb_step(c->db, st);
	sqlite3_reset(st);
	return rc < 0 ? rc : 0;
}

static int write_state(struct check *c)
{
	sqlite3_stmt *st;
	int rc = metadb_get(c->db, ST_STATE_SET, &st);

	if (rc)
		return rc;
	sqlite3_bind_int64(st, 1, (int64_t)c->st.applied);
	sqlite3_bind_int64(st, 2, (int64_t)c->st.next_slot);
	sqlite3_bind_int64(st, 3, (int64_t)c->st.next_rowid);
	sqlite3_bind_int64(st, 4, (int64_t)c->st.next_recent);
	sqlite3_bind_int64(st, 5, (int64_t)c->st.count);
	return metadb_run(c->db, ST_STATE_SET);
}

/* Records that cannot be read, orphans, and marks of death on the living: what --force decides. */
static int apply_force(struct check *c)
{
	int rc = 0;

	for (size_t i = 0; i < c->give_up.len && rc == 0; i += sizeof(struct gone)) {
		struct gone g;
		memcpy(&g, c->give_up.data + i, sizeof g);
		rc = bind_run(c, ST_REC_DELETE, (int64_t)g.rowid, 0);
		if (rc == 0)
			rc = bind_run(c, ST_DEAD_ADD, g.slot, (int64_t)c->st.applied);
		if (rc == 0)
			c->st.count--;
	}
	for (size_t i = 0; i < c->orphans.len && rc == 0; i += 4)
		rc = bind_run(
			c, ST_DEAD_ADD, get_le32(c->orphans.data + i), (int64_t)c->st.applied);
	for (size_t i = 0; i < c->undead.len && rc == 0; i += 4)
		rc = bind_run(c, ST_VERIFY_UNDEAD, get_le32(c->undead.data + i), 0);
	return rc;
}

static void say_force(struct check *c)
{
	uint64_t n = c->give_up.len / sizeof(struct gone);

	/* Each was said when it was found; now they are no more. */
	c->v->repaired += n;
	if (n)
		verify_say(c->v, VERIFY_NOTE, c->db_path, VERIFY_NOWHERE,
			"%llu records that could not be read are given up", (unsigned long long)n);
	if (c->orphans.len)
		verify_repaired(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"%llu slots that were neither a record nor dead are dead now",
			(unsigned long long)c->orphans.len / 4);
	if (c->undead.len)
		verify_repaired(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"%llu slots of records are not dead any more",
			(unsigned long long)c->undead.len / 4);
}

static int repair_db(struct check *c, const struct metadb_state *was, struct vx_err *err)
{
	bool forced = c->give_up.len || c->orphans.len || c->undead.len;

	if (!c->v->repair || (!forced && memcmp(was, &c->st, sizeof *was) == 0))
		return 0;
	sqlite3_exec(c->db->c, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
	int rc = metadb_run(c->db, ST_BEGIN);
	if (rc == 0)
		rc = apply_force(c);
	if (rc == 0)
		rc = write_state(c);
	/* The mark vouches for them, and they vouch for what was given up. */
	if (rc == 0 && c->v->last)
		rc = bind_run(c, ST_BATCH_PRUNE, (int64_t)c->v->mark, 0);
	if (rc == 0)
		rc = metadb_run(c->db, ST_COMMIT);
	if (rc == 0 && sqlite3_wal_checkpoint_v2(
			       c->db->c, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
		rc = metadb_errno(c->db->c, sqlite3_extended_errcode(c->db->c));
	if (rc) {
		metadb_err(c->db, rc, err);
		(void)!metadb_run(c->db, ST_ROLLBACK);
		vx_err_prefix(err, "%s", c->db_path);
		return rc;
	}
	say_force(c);
	/* Index and tables part where records were given up. */
	for (size_t i = 0; i < c->give_up.len; i += sizeof(struct gone)) {
		struct gone g;
		memcpy(&g, c->give_up.data + i, sizeof g);
		c->what[g.slot] = SLOT_DEAD;
	}
	for (size_t i = 0; i < c->orphans.len; i += 4)
		c->what[get_le32(c->orphans.data + i)] = SLOT_DEAD;
	c->unreadable -= VX_MIN(c->unreadable, c->give_up.len / sizeof(struct gone));
	return 0;
}

/* --- segments ------------------------------------------------------------------------------------ */

static int segment_failed(struct check *c, uint32_t no, int rc, const struct vx_err *err)
{
	char path[STORE_PATH_MAX];
	struct vx_err again = VX_ERR_INIT;
	struct seg *g;
	uint64_t first = (uint64_t)no << SEG_SHIFT;
	uint32_t gen = (uint32_t)c->st.generation;

	(void)check_place(c, (uint32_t)first, AREA_ROW, path);
	if (rc == -ENOMEM)
		return rc;
	if (first >= c->waiting_from) {
		verify_say(c->v, VERIFY_NOTE, path, VERIFY_NOWHERE,
			"%s; the log has all that is in it", vx_err_msg(err, rc));
		return 0;
	}
	/* All that a header says is known. */
	bool header = rc == -EUCLEAN && access(path, F_OK) == 0;
	struct stat st;
	if (header && stat(path, &st) == 0 && (uint64_t)st.st_size < seg_file_size(c->schema.dim))
		header = false;
	if (header && c->v->repair) {
		rc = seg_header_repair(c->disk, c->gen_dir, c->sl->cid, gen, no, c->schema.dim);
		if (rc == 0)
			rc = slice_seg_add(c->sl, no, false, &g, &again);
		if (rc == 0) {
			verify_repaired(c->v, VERIFY_DERIVED, path, 0,
				"the header was damaged, and is written again");
			return 0;
		}
	}
	verify_say(c->v, header ? VERIFY_DERIVED : VERIFY_DAMAGE, path, 0, "%s",
		header ? "the header is damaged" : vx_err_msg(err, rc));
	/* To see what is in it all the same. */
	return 0;
}

/* From which slot on the log would write: check_tables finds it again, but segments are opened before. */
static int peek_waiting(struct check *c)
{
	sqlite3_stmt *st;
	int rc = metadb_get(c->db, ST_BATCH_ALL, &st);

	c->waiting_from = c->st.next_slot;
	while (rc == 0 && (rc = metadb_step(c->db, st)) == 1) {
		uint64_t idx = (uint64_t)sqlite3_column_int64(st, 0);
		if (c->v->last && idx > c->v->mark && idx <= c->v->last)
			c->waiting_from = VX_MIN(
				c->waiting_from, (uint64_t)sqlite3_column_int64(st, 1));
		rc = 0;
	}
	if (st)
		sqlite3_reset(st);
	return rc;
}

static int open_segments(struct check *c)
{
	struct seg *g;
	int rc = peek_waiting(c);

	if (rc) /* check_tables says what is wrong */
		return rc == -ENOMEM ? rc : 0;
	for (uint64_t first = 0; first < c->st.next_slot; first += SEG_SLOTS) {
		struct vx_err err = VX_ERR_INIT;
		uint32_t no = slot_seg(first);
		rc = slice_seg_add(c->sl, no, false, &g, &err);
		if (rc && (rc = segment_failed(c, no, rc, &err)) != 0)
			return rc;
	}
	return 0;
}

/* --- a slice ---------------------------------------------------------------------------------------- */

static int sync_one(struct disk *d, const char *path)
{
	int fd = d->ops->open(d, path, O_RDWR, 0);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	int rc = d->ops->fdatasync(d, fd);
	(void)d->ops->close(d, fd);
	return rc;
}

/* What meta.db has is claimed once it is on disk, as the mark does. */
static int claim_again(struct check *c, const char *path)
{
	char wal[STORE_PATH_MAX + 8];

	snprintf(wal, sizeof wal, "%s-wal", c->db_path);
	int rc = sync_one(c->disk, c->db_path);
	if (rc == 0)
		rc = sync_one(c->disk, wal);
	return rc ? rc : claim_write(c->disk, path, c->st.applied);
}

static int check_claim(struct check *c)
{
	char path[STORE_PATH_MAX];
	uint64_t claimed = 0;
	int rc = store_path(path, c->sl->dir, SLICE_CLAIM);

	if (rc)
		return rc;
	rc = claim_load(c->disk, path, &claimed);
	if (rc == 0 && claimed > c->st.applied) {
		verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"has lost entries %llu to %llu: its -wal file is damaged or gone",
			(unsigned long long)c->st.applied + 1, (unsigned long long)claimed);
		return -EUCLEAN;
	}
	if (rc == -EUCLEAN && c->v->repair && claim_again(c, path) == 0)
		verify_repaired(c->v, VERIFY_DERIVED, path, 0, "was damaged; written again");
	else if (rc == -EUCLEAN)
		verify_say(c->v, VERIFY_DERIVED, path, 0, "is damaged, and claims nothing");
	return 0;
}

/* Opens meta.db.  -EUCLEAN: there is nothing to go on with, and that was said. */
static int open_db(struct check *c, struct vx_err *err)
{
	struct verify *v = c->v;
	struct slice *sl = c->sl;
	struct stat st;
	/* One that a mark has claimed is not as new as the entry that the log still has. */
	bool remade = v->remakes && v->remakes(v->ctx, sl->cid) && slice_claim(sl) == 0;
	int rc = stat(c->db_path, &st) < 0 ? -ENODATA : 0;

	if (rc == 0)
		rc = metadb_open(c->db, c->db_path, CHECK_CACHE_KIB, err);
	if (rc == 0)
		rc = metadb_load_state(c->db, sl->cid, &c->schema, &c->st, err);
	if (rc == 0 && remade)
		rc = metadb_check(c->db, err);
	if (rc == -EUCLEAN || rc == -EIO || rc == -ENODATA) {
		if (c->db->c && rc != -ENODATA) {
			if (!remade)
				(void)!verify_sqlite(c->db->c, c->db_path, v);
			metadb_close(c->db);
		}
		if (remade)
			verify_say(v, VERIFY_NOTE, c->db_path, VERIFY_NOWHERE,
				"was never finished; the log makes the slice again");
		else
			verify_say(v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE, "%s",
				rc == -ENODATA ? "is missing or empty" : vx_err_msg(err, rc));
		return -EUCLEAN;
	}
	if (rc == 0 && c->st.generation != sl->generation) {
		verify_say(v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE,
			"is of generation %llu, not %u", (unsigned long long)c->st.generation,
			sl->generation);
		return -EUCLEAN;
	}
	if (rc == 0) {
		/* As slice_open leaves it for what works on a slice. */
		sl->schema = c->schema;
		sl->st = c->st;
		sl->view = (struct view){.generation = (uint32_t)c->st.generation,
			.nslots = (uint32_t)c->st.next_slot,
			.applied = c->st.applied};
		sl->gen_dir = strdup(c->gen_dir);
		rc = sl->gen_dir ? check_claim(c) : -ENOMEM;
	}
	return rc;
}

static int check_slice(struct shard_check *s, struct slice *sl, struct vx_err *err)
{
	struct verify *v = s->v;
	struct metadb_state was;
	struct check *c = malloc(sizeof *c);
	int rc = c ? check_init(c, sl, &sl->wdb, v, false) : -ENOMEM;

	v->told = 0;
	v->slices++;
	if (rc == 0)
		rc = open_db(c, err);
	if (rc)
		goto out;
	if (v->known && !v->known(v->ctx, sl->cid))
		verify_say(v, VERIFY_NOTE, sl->dir, VERIFY_NOWHERE,
			"the catalog has no such collection: dropped by the next start");
	was = c->st;
	rc = open_segments(c);
	if (rc == 0)
		rc = check_tables(c);
	if (rc == 0)
		rc = repair_db(c, &was, err);
	if (rc == 0)
		rc = check_checkpoint(c);
out:
	if (c)
		check_release(c);
	free(c);
	slice_close(sl);
	if (rc == -EUCLEAN) /* said */
		return 0;
	return rc && err && !err->msg[0] ? vx_err_set(err, rc, "%s: %s", sl->dir, strerror(-rc))
					 : rc;
}

/* --- the shard ---------------------------------------------------------------------------------------- */

static int each_name(void *arg, const char *name)
{
	struct shard_check *s = arg;
	uint32_t cid;
	int what = slice_name_parse(name, &cid);

	s->left_over += what == 2;
	return what == 1 ? buf_put_le32(&s->cids, cid) : 0;
}

static int on_roster(struct shard *stub, uint32_t cid)
{
	struct shard_check *s = VX_CONTAINER_OF(stub, struct shard_check, stub);
	struct verify *v = s->v;
	char name[32], path[STORE_PATH_MAX];

	if (shard_find(stub, cid) || (v->known && !v->known(v->ctx, cid)) ||
		(v->remakes && v->remakes(v->ctx, cid)))
		return 0;
	snprintf(name, sizeof name, "c-%u", cid);
	if (store_path(path, stub->dir, name) == 0)
		verify_say(v, VERIFY_DAMAGE, path, VERIFY_NOWHERE,
			"is missing, although the roster has it");
	return 0;
}

static int check_roster(struct shard_check *s)
{
	char path[STORE_PATH_MAX];
	int rc = store_path(path, s->stub.dir, SHARD_ROSTER);

	if (rc == 0)
		rc = roster_peek(&s->stub, on_roster);
	if (rc == -EUCLEAN && s->v->repair && roster_write(&s->stub) == 0)
		verify_repaired(s->v, VERIFY_DERIVED, path, 0, "was damaged; written again");
	else if (rc == -EUCLEAN)
		verify_say(s->v, VERIFY_DERIVED, path, 0, "is damaged");
	return rc == -ENOMEM ? rc : 0;
}

static int stub_init(struct shard *s, const char *dir, uint32_t id, struct disk *disk)
{
	s->dir = strdup(dir);
	s->disk = disk;
	s->id = id;
	s->cache_kib = CHECK_CACHE_KIB;
	s->sync_fd = -1;
	TAILQ_INIT(&s->lru);
	vx_mutex_init(&s->mu, LOCK_SHARD);
	vx_cond_init(&s->cond);
	return s->dir ? 0 : -ENOMEM;
}

static void stub_release(struct shard *s)
{
	for (unsigned i = 0; i < SHARD_HASH; i++) {
		while (s->hash[i]) {
			struct slice *sl = s->hash[i];
			s->hash[i] = sl->hash_next;
			slice_free(sl);
		}
	}
	vx_mutex_release(&s->mu);
	vx_cond_release(&s->cond);
	free(s->dir);
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = get_le32(a), y = get_le32(b);

	return (x > y) - (x < y);
}

int shard_verify(
	const char *dir, uint32_t shard_id, struct disk *disk, struct verify *v, struct vx_err *err)
{
	struct shard_check *s = calloc(1, sizeof *s);

	if (!s)
		return vx_err_set(err, -ENOMEM, "no memory");
	s->v = v;
	int rc = stub_init(&s->stub, dir, shard_id, disk);
	if (rc == 0)
		rc = disk->ops->list(disk, dir, each_name, s);
	if (rc)
		vx_err_set(err, rc, "%s: %s", dir, strerror(-rc));
	if (rc == 0 && s->cids.len)
		qsort(s->cids.data, s->cids.len / 4, 4, by_number);
	for (size_t i = 0; i < s->cids.len && rc == 0; i += 4) {
		struct slice *sl = slice_new(&s->stub, get_le32(s->cids.data + i));
		rc = sl ? gen_peek(sl) : -ENOMEM;
		if (rc && sl)
			slice_free(sl);
		if (rc)
			break;
		sl->hash_next = s->stub.hash[sl->cid % SHARD_HASH];
		s->stub.hash[sl->cid % SHARD_HASH] = sl;
	}
	for (size_t i = 0; i < s->cids.len && rc == 0; i += 4)
		rc = check_slice(s, shard_find(&s->stub, get_le32(s->cids.data + i)), err);
	v->told = 0;
	if (rc == 0)
		rc = check_roster(s);
	if (rc == 0 && s->left_over)
		verify_say(v, VERIFY_NOTE, dir, VERIFY_NOWHERE,
			"%u dropped slices are left for the next start to remove", s->left_over);
	if (rc && err && !err->msg[0])
		vx_err_set(err, rc, "%s: %s", dir, strerror(-rc));
	stub_release(&s->stub);
	buf_release(&s->cids);
	free(s);
	return rc;
}
