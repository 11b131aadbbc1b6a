/* restore.c - a snapshot becomes a collection.
 *
 * The files of a snapshot are not put in the place of a slice's.  What a shard holds is what its log made, on every
 * replica alike, and replay, the mark and a follower that joins count on it; files that came by another way would be
 * there on one replica and not on the others.  So a restore writes records, as any writer does:
 *
 *	1. The whole snapshot is verified: manifest, checksum of every file.
 *	2. A collection with the manifest's options is created under a hidden name (".restore-...").
 *	3. All records are put into it through the log; row and vector of each are verified on the way.
 *	4. Counts are compared: everything is in, durable and searchable.
 *	5. One entry of the catalog gives the collection the name asked for, and drops the one that had it.
 *	   (point of no return)
 *
 * What fails before step 5 drops the hidden collection; what is killed leaves it to the next start.  The number of
 * shards may be another one than where the snapshot comes from.  Versions and times of records are those of the
 * restore.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "cluster/catalog.h"
#include "cluster/snapshot_i.h"

struct load {
	struct batch *b;
	uint64_t put;
};

static int load_flush(struct load *l, struct vx_err *err)
{
	struct batch_result res = {.inserted = 0};
	size_t n = batch_count(l->b);

	if (n == 0)
		return 0;
	int rc = batch_commit(l->b, &res, err);
	if (rc == 0 && res.inserted != n)
		rc = vx_err_set(err, -EUCLEAN, "the snapshot has an id twice");
	return rc;
}

static int load_record(void *arg, const struct vx_record *rec, struct vx_err *err)
{
	struct load *l = arg;

	int rc = batch_put(l->b, rec, err);
	if (rc)
		return rc;
	l->put++;
	return batch_full(l->b) ? load_flush(l, err) : 0;
}

static int load_all(struct coll *c, const char *dir, const struct manifest *m, snap_stop_fn *stop,
	void *ctx, struct vx_err *err)
{
	struct load l = {.b = NULL};

	int rc = batch_new(c, &l.b);
	for (size_t i = 0; rc == 0 && i < m->n_slices; i++)
		rc = snap_check_slice(dir, &m->slices[i], stop, ctx, load_record, &l, err);
	if (rc == 0)
		rc = load_flush(&l, err);
	batch_free(l.b);
	if (rc == 0 && (l.put != manifest_records(m) || coll_count(c) != l.put))
		rc = vx_err_set(err, -EIO, "%llu records of %llu are there after all was written",
			(unsigned long long)coll_count(c), (unsigned long long)manifest_records(m));
	return rc;
}

/* The options as pairs of the catalog.  Those that this version does not know are not there any more, and
 * one that cannot be says so. */
static int option_pairs(const struct manifest *m, struct buf *pairs, uint16_t *ret_n,
	uint32_t *ret_spread, struct vx_err *err)
{
	int rc = 0;

	*ret_n = 0;
	*ret_spread = 1;
	for (size_t i = 0; i < m->n_options && rc == 0; i++) {
		const struct manifest_option *o = &m->options[i];
		int which = coll_opt_find(o->key);
		if (which < 0) {
			log_warn("snapshot", "option %s is not known here; left out", o->key);
			continue;
		}
		rc = coll_option_check((enum coll_opt)which, o->value, err);
		if (rc == 0)
			rc = cat_put_pair(pairs, o->key, o->value);
		if (rc == 0 && which == CO_SPREAD)
			*ret_spread = (uint32_t)VX_MAX(atoi(o->value), 1);
		(*ret_n)++;
	}
	return rc;
}

static struct coll *make_hidden(
	struct db *db, const struct manifest *m, int *ret_rc, struct vx_err *err)
{
	struct buf pairs = BUF_INIT;
	char name[VX_NAME_MAX + 1];
	uint64_t r = 0;
	uint16_t n;
	uint32_t spread;

	(void)!getrandom(&r, sizeof r, 0);
	snprintf(name, sizeof name, "%crestore-%016llx", HIDDEN, (unsigned long long)r);
	int rc = option_pairs(m, &pairs, &n, &spread, err);
	if (rc == 0) {
		rc = coll_create_raw(db, name, spread, &pairs, n, err);
		if (rc && err && !err->msg[0])
			vx_err_set(err, rc, "the collection was not created: %s", strerror(-rc));
	}
	buf_release(&pairs);
	*ret_rc = rc;
	return rc ? NULL : db_coll(db, name, ret_rc, err);
}

static int restore(struct db *db, const char *dir, const struct manifest *m, const char *as,
	bool force, snap_stop_fn *stop, void *ctx, struct vx_err *err)
{
	int rc = 0;
	struct coll *c = make_hidden(db, m, &rc, err);

	if (!c)
		return rc;
	rc = load_all(c, dir, m, stop, ctx, err);
	if (rc == 0)
		rc = coll_reveal(c, as, force, err);
	/* Lost leadership: it may have got its name after all, and is not dropped under it. */
	if (rc && rc != -ETIMEDOUT) {
		struct vx_err why = VX_ERR_INIT;
		int rc2 = db_drop(db, coll_name(c), true, &why);
		if (rc2)
			log_warn("snapshot", "%s is left for the next start to drop: %s",
				coll_name(c), vx_err_msg(&why, rc2));
	}
	coll_put(c);
	return rc;
}

int snapshot_restore(struct db *db, const char *coll, const char *name, const char *as, bool force,
	snap_stop_fn *stop, void *ctx, struct vx_err *err)
{
	struct manifest m;
	char dir[SNAP_PATH_MAX];
	int rc = vx_name_check(as, err);

	if (rc)
		return rc;
	struct coll *there = force ? NULL : db_coll(db, as, &rc, NULL);
	if (there) {
		coll_put(there);
		return vx_err_set(err, -EEXIST, "collection '%s' exists; --force replaces it", as);
	}
	rc = snapshot_verify(db, coll, name, stop, ctx, err);
	if (rc == 0)
		rc = snap_load(db, coll, name, &m, err);
	if (rc)
		return rc;
	rc = snap_path_of(db, coll, name, NULL, dir);
	if (rc == 0)
		rc = restore(db, dir, &m, as, force, stop, ctx, err);
	if (rc == 0)
		log_info("snapshot", "%s of %s restored as %s: %llu records", name, coll, as,
			(unsigned long long)manifest_records(&m));
	manifest_release(&m);
	return rc;
}
