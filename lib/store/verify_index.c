/* verify_index.c - an index against the slice that it is of: in memory, or its checkpoint on disk.
 *
 * A checkpoint is derived: whatever is wrong with it is made again from the vectors.  It is of an older state
 * than the slice as a rule, and may be of a newer one after a power cut, when the log has the entries between; a start
 * leaves such a one aside.  What must never be is a slot that the index left out although a record lives in
 * it, for no search would find that record; nor a slot that is none, or one alive that was dead when the checkpoint
 * was written.  index_compare finds all three, here as when the daemon loads a checkpoint.
 */
#include "store/verify_i.h"

#include <stdio.h>

#define LINK_STEP    1024u
#define SELF_SAMPLES 64u
#define SELF_EF      256u

static bool is_record(void *ctx, uint32_t slot)
{
	const struct check *c = ctx;

	return slot < c->st.next_slot && c->what[slot] == SLOT_RECORD;
}

/* While it is served a record may have died since, and the index have forgotten it. */
static bool has_died(const struct check *c, uint32_t slot)
{
	struct seg *g = c->live ? slice_seg(c->sl, slot_seg(slot)) : NULL;
	_Atomic uint64_t *dead = g ? atomic_load_explicit(&g->dead, memory_order_acquire) : NULL;

	return dead && atomic_load_explicit(&dead[slot_at(slot)], memory_order_relaxed);
}

/* Stored vectors are asked for: an index of other vectors does not find them where they are. */
static int ask_itself(
	struct check *c, struct index *ix, uint32_t n, uint32_t *ret_asked, uint32_t *ret_missed)
{
	uint32_t asked = 0, missed = 0;

	for (uint32_t i = 0; i < SELF_SAMPLES; i++) {
		uint32_t slot = (uint32_t)((uint64_t)i * n / SELF_SAMPLES), found = 0;
		struct index_hit hit;
		if (!is_record(c, slot) || slot >= c->waiting_from)
			continue;
		const float *vec = slice_slot_vector(c->sl, slot);
		struct index_query q = {.vec = vec,
			.k = 1,
			.ef = SELF_EF,
			.nslots = n,
			.visible = is_record,
			.visible_ctx = c};
		if (!vec)
			continue;
		int rc = index_search(ix, &q, &hit, &found, NULL);
		if (rc)
			return rc;
		const float *got = found ? slice_slot_vector(c->sl, hit.slot) : NULL;
		if (has_died(c, slot))
			continue;
		asked++;
		/* Another slot may hold the same vector. */
		missed += !got ||
			  (hit.slot != slot && memcmp(got, vec, c->schema.dim * sizeof *vec) != 0);
	}
	*ret_asked = asked;
	*ret_missed = missed;
	return 0;
}

/* 'file' NULL: in memory. */
static void bad_index(struct check *c, const char *file, const char *why)
{
	if (file)
		verify_say(c->v, VERIFY_DERIVED, file, VERIFY_NOWHERE, "%s", why);
	else
		verify_say(c->v, VERIFY_DAMAGE, c->gen_dir, VERIFY_NOWHERE, "the index: %s", why);
}

static enum index_slot slot_is(void *ctx, uint32_t slot)
{
	const struct check *c = ctx;

	if (slot >= c->st.next_slot)
		return INDEX_SLOT_EITHER;
	if (c->what[slot] == SLOT_DEAD && !c->live)
		return INDEX_SLOT_DEAD;
	if (c->what[slot] != SLOT_RECORD)
		return INDEX_SLOT_EITHER;
	/* Offline, an entry that the log still has may have killed it. */
	return has_died(c, slot) || (!c->live && c->v->last > c->st.applied) ? INDEX_SLOT_EITHER
									     : INDEX_SLOT_ALIVE;
}

int check_index(struct check *c, struct index *ix, const char *file)
{
	struct vx_err err = VX_ERR_INIT;
	char why[160];
	uint32_t n = (uint32_t)VX_MIN(c->st.next_slot, (uint64_t)index_appended(ix));
	uint32_t asked, missed;

	if (!file && index_appended(ix) < c->st.next_slot &&
		slice_view(c->sl).applied >= c->st.applied) {
		snprintf(why, sizeof why, "it has %u slots of %llu", index_appended(ix),
			(unsigned long long)c->st.next_slot);
		bad_index(c, file, why);
	}
	/* What it has beyond them is of entries that are being applied, or was refused when it was loaded. */
	int rc = index_compare(ix, VX_MAX(n, index_appended(ix)), slot_is, c, &err);
	if (rc == -EUCLEAN)
		bad_index(c, file, vx_err_msg(&err, rc));
	err = (struct vx_err)VX_ERR_INIT;
	rc = index_check(ix, &err);
	if (rc == -EUCLEAN)
		bad_index(c, file, vx_err_msg(&err, rc));
	else if (rc)
		return rc;
	rc = ask_itself(c, ix, n, &asked, &missed);
	if (rc == 0 && asked >= 8 && missed > asked / 2) {
		snprintf(why, sizeof why,
			"of %u stored vectors, %u are not found: it is of other "
			"vectors",
			asked, missed);
		bad_index(c, file, why);
	}
	return rc;
}

/* --- on disk --------------------------------------------------------------------------------- */

static int rebuild(struct check *c, const char *path, struct vx_err *err)
{
	struct index *ix;
	int rc = c->disk->ops->unlink(c->disk, path);

	if (rc && rc != -ENOENT)
		return vx_err_set(err, rc, "%s: cannot be removed", path);
	/* What is small is quicker made than loaded. */
	if (c->st.next_slot < SAVE_ON_CLOSE_SLOTS)
		return 0;
	rc = slice_fresh_index(c->sl, &ix, err);
	if (rc)
		return rc;
	rc = slice_index_append(c->sl, ix, 0, (uint32_t)c->st.next_slot);
	for (uint32_t slot = 0; slot < c->st.next_slot && rc == 0; slot++) {
		if (c->what[slot] != SLOT_RECORD)
			index_forget(ix, slot);
	}
	while (rc == 0 && (rc = index_link(ix, LINK_STEP)) > 0)
		rc = 0;
	if (rc == 0)
		rc = slice_save_now(c->sl, ix, err);
	index_free(ix);
	return rc;
}

/* Which slots died after the checkpoint's entry: it need not know of them. */
static int note_dying(struct check *c, const struct index_tag *tag)
{
	sqlite3_stmt *st;
	int rc = metadb_get(c->db, ST_DEAD_ALL, &st);

	while (rc == 0 && (rc = metadb_step(c->db, st)) == 1) {
		int64_t slot = sqlite3_column_int64(st, 0);
		uint64_t idx = (uint64_t)sqlite3_column_int64(st, 1);
		if (slot >= 0 && (uint64_t)slot < c->st.next_slot && c->what[slot] == SLOT_DEAD &&
			(!tag->dead_known || idx > tag->applied))
			c->what[slot] = SLOT_DYING;
		rc = 0;
	}
	sqlite3_reset(st);
	return rc;
}

/* Loads it; *ret NULL: it says nothing of this state, or is not there. */
static int load(struct check *c, const char *path, struct index **ret)
{
	struct vx_err err = VX_ERR_INIT;
	struct index_tag tag = {.generation = 0};
	struct index *ix;

	*ret = NULL;
	int rc = slice_fresh_index(c->sl, &ix, &err);
	if (rc) {
		verify_say(c->v, VERIFY_DAMAGE, c->db_path, VERIFY_NOWHERE, "%s",
			vx_err_msg(&err, rc));
		return rc == -ENOMEM ? rc : 0;
	}
	rc = index_load(ix, c->disk, path, &tag, &err);
	if (rc == 0 && tag.generation == c->st.generation && tag.applied <= c->st.applied &&
		index_appended(ix) <= c->st.next_slot) {
		rc = note_dying(c, &tag);
		*ret = rc ? NULL : ix;
		if (rc)
			index_free(ix);
		return rc == -ENOMEM ? rc : 0; /* else it was said of meta.db */
	}
	index_free(ix);
	if (rc == -ENOMEM)
		return rc;
	if (rc == -ENOENT && c->st.next_slot >= SAVE_ON_CLOSE_SLOTS)
		verify_say(c->v, VERIFY_NOTE, path, VERIFY_NOWHERE,
			"there is none: the index is made when it is needed");
	else if (rc == -ESTALE)
		verify_say(c->v, VERIFY_NOTE, path, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
	else if (rc == 0 && tag.generation == c->st.generation && c->v->last >= tag.applied)
		verify_say(c->v, VERIFY_NOTE, path, VERIFY_NOWHERE,
			"it is of entry %llu, the slice of %llu: left aside by a start",
			(unsigned long long)tag.applied, (unsigned long long)c->st.applied);
	else if (rc == 0)
		verify_say(c->v, VERIFY_DERIVED, path, VERIFY_NOWHERE,
			"it is of generation %llu and entry %llu, the slice of %llu and %llu",
			(unsigned long long)tag.generation, (unsigned long long)tag.applied,
			(unsigned long long)c->st.generation, (unsigned long long)c->st.applied);
	else if (rc != -ENOENT)
		verify_say(c->v, VERIFY_DERIVED, path, VERIFY_NOWHERE, "%s", vx_err_msg(&err, rc));
	return 0;
}

int check_checkpoint(struct check *c)
{
	struct vx_err err = VX_ERR_INIT;
	char path[STORE_PATH_MAX];
	uint64_t before = c->v->derived;
	struct index *ix;

	int rc = store_path(path, c->gen_dir, SLICE_CHECKPOINT);
	if (rc == 0)
		rc = load(c, path, &ix);
	if (rc)
		return rc;
	bool none = !ix;
	if (ix)
		rc = check_index(c, ix, path);
	index_free(ix);
	/* Vectors that the log is yet to write would be missing from it. */
	uint64_t wrong = c->v->derived - before;
	if (rc || !c->v->repair || c->waiting || c->unreadable ||
		(wrong == 0 && (!none || c->st.next_slot < SAVE_ON_CLOSE_SLOTS)))
		return rc;
	rc = rebuild(c, path, &err);
	if (rc) {
		verify_say(c->v, VERIFY_NOTE, path, VERIFY_NOWHERE, "not made again: %s",
			vx_err_msg(&err, rc));
		return rc == -ENOMEM ? rc : 0;
	}
	c->v->repaired += wrong;
	if (wrong == 0)
		verify_repaired(c->v, VERIFY_DERIVED, path, VERIFY_NOWHERE, "made again");
	else
		verify_say(c->v, VERIFY_NOTE, path, VERIFY_NOWHERE, "made again");
	return 0;
}
