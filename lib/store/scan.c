/* scan.c - all records of one view, whatever is written meanwhile.
 *
 * While a scan is open the applier keeps replaced and deleted rows in 'hist'; a page is the merge
 * of what is left of the view in 'rec' with what 'hist' kept of it.  Opening waits for a
 * transaction that began before the applier knew of any scan (one transaction at most), since that
 * one keeps nothing.
 */
#include "store/read_i.h"

#include <stdlib.h>

struct slice_scan {
	struct slice *sl;
	unsigned what;
	struct view view;
	/* the page: rows with rowid > 'base', ascending */
	struct buf places, mem;
	uint64_t base;
	uint32_t n, next;
	bool loaded, last;
	struct slice_rec rec;
	/* Records whose vectors are damaged: passed over, and told of at the end. */
	uint64_t damaged;
	struct vx_err damage; /* of the first */
};

int slice_scan_open(struct slice *sl, unsigned what, struct slice_scan **ret)
{
	struct slice_scan *sc = calloc(1, sizeof *sc);
	if (!sc)
		return -ENOMEM;
	sc->sl = sl;
	sc->what = what;
	vx_lock(&sl->mu);
	sl->scans++;
	while (sl->run_active && !sl->run_hist)
		vx_cond_wait(&sl->cond, &sl->mu);
	sc->view = slice_view(sl);
	vx_unlock(&sl->mu);
	*ret = sc;
	return 0;
}

void slice_scan_close(struct slice_scan *sc)
{
	if (!sc)
		return;
	vx_lock(&sc->sl->mu);
	sc->sl->scans--;
	vx_unlock(&sc->sl->mu);
	buf_release(&sc->places);
	buf_release(&sc->mem);
	free(sc);
}

static int load(struct slice_scan *sc, uint64_t after, struct vx_err *err)
{
	struct slice *sl = sc->sl;
	struct rec_place place;
	sqlite3_stmt *st;
	struct metadb *db;

	sc->places.len = sc->mem.len = 0;
	sc->loaded = false;
	int rc = reader_take(sl, &db, err);
	if (rc)
		return rc;
	rc = metadb_get(db, ST_REC_SCAN, &st);
	if (rc) {
		reader_fail(sl, db, rc, err);
		goto out;
	}
	sqlite3_bind_int64(st, 1, (int64_t)after);
	sqlite3_bind_int64(st, 2, (int64_t)sc->view.applied);
	sqlite3_bind_int64(st, 3, (int64_t)sc->view.next_rowid);
	sqlite3_bind_int64(st, 4, SCAN_PAGE_ROWS);
	sc->n = 0;
	while ((rc = metadb_step(db, st)) == 1) {
		rc = rec_read(st, sc->what, &sc->mem, &place);
		if (rc == 0)
			rc = buf_append(&sc->places, &place, sizeof place);
		if (rc)
			break;
		sc->n++;
		if (sc->mem.len >= SCAN_PAGE_BYTES)
			break;
	}
	sqlite3_reset(st);
	if (rc == -ENOMEM)
		vx_err_set(err, rc, "no memory for a page of records");
	else if (rc < 0)
		reader_fail(sl, db, rc, err);
	if (rc < 0)
		goto out;
	sc->last = rc == 0 && sc->n < SCAN_PAGE_ROWS;
	sc->base = after;
	sc->next = 0;
	sc->loaded = true;
	rc = 0;
out:
	reader_give(sl, db);
	return rc;
}

uint64_t slice_scan_damaged(const struct slice_scan *sc, struct vx_err *ret_first)
{
	if (sc->damaged)
		*ret_first = sc->damage;
	return sc->damaged;
}

int slice_scan_next(
	struct slice_scan *sc, uint64_t after, const struct slice_rec **ret, struct vx_err *err)
{
	if (!sc->loaded || after < sc->base) {
		int rc = load(sc, after, err);
		if (rc)
			return rc;
	}
	for (;;) {
		const struct rec_place *p = (const void *)sc->places.data;
		if (sc->next && p[sc->next - 1].rowid > after)
			sc->next = 0; /* back inside the page */
		while (sc->next < sc->n && p[sc->next].rowid <= after)
			sc->next++;
		if (sc->next < sc->n) {
			p = &p[sc->next++];
			struct vx_err mine = VX_ERR_INIT;
			int rc = rec_settle(sc->sl, sc->what, p, sc->mem.data, &sc->rec, &mine);
			if (rc == -EUCLEAN) {
				if (sc->damaged++ == 0)
					sc->damage = mine;
				after = p->rowid;
				continue;
			}
			if (rc) {
				if (err)
					*err = mine;
				return rc;
			}
			*ret = &sc->rec;
			return 0;
		}
		if (sc->last)
			return -ENOENT;
		int rc = load(sc, after, err);
		if (rc)
			return rc;
	}
}
