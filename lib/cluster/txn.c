/* txn.c - whole files: many batches over many shards that are there all at once or never.
 *
 *	1. plan	    every batch is checked and counted; nothing is sent.  Size, quota and space are looked at.
 *	2. hide	    the batches again, as hidden parts of a transaction; they go through the log like any other.
 *	3. decide   one entry in the lowest of its shards, the deciding one, which has that number in the upper bits
 *		    of the transaction's.  Once it is applied the file is committed.    (point of no return)
 *	4. commit   one entry in each other shard, all at once; each becomes visible there in one view.
 *	5. end	    the deciding shard need not remember who was to be told.
 *
 * What arrives over a socket can be looked at once only: it is checked and counted batch by batch while it is
 * hidden (txn_stream).  Then the deciding shard is known before any record is: the lowest of the collection, which
 * may have no parts.
 *
 * lib/store/txn.c has what each entry does.  Whoever dies on the way leaves parts, or shards that were not told; the
 * settler finds them: at the start, before anybody is served, and now and then.  Shards that were not told are
 * told.  Parts without an owner are dropped, but the deciding shard is asked first, by an ABORT that
 * the shard refuses if it has decided to commit; so there is one decision, whoever asks for it when.
 *
 * An owner is a transaction of this process.  Parts of this process and of owners elsewhere are let alone until they
 * are older than a transaction may be; at a start all parts are without owner, since each group has one voter.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cluster/db_i.h"

#define SETTLE_EVERY_NS    60000000000u
#define SETTLE_PATIENCE_NS 30000000000u /* of the start */
#define ID_MASK            ((UINT64_C(1) << TXN_SHARD_SHIFT) - 1)

enum txn_state { PLANNED, HIDING, COMMITTED, UNKNOWN, DROPPED };

struct txn {
	struct coll *c; /* pinned */
	enum txn_state state;
	uint64_t id; /* 0 while it is planned */
	uint64_t origin, seq;
	uint64_t bytes, max;
	uint64_t began_ns;
	uint32_t count, duplicates;
	uint32_t low; /* the deciding shard */
	uint32_t parts[SHARDS_MAX];
	struct txn *next; /* guarded by db->txn_lock */
};

/* --- entries ------------------------------------------------------------------------------- */

/* Several steps of a transaction on their way. */
struct steps {
	struct vx_mutex lock;
	struct vx_cond cond;
	uint32_t left;
};

static void step_done(struct ticket *t)
{
	struct steps *s = t->arg;

	vx_lock(&s->lock);
	if (--s->left == 0)
		vx_cond_signal(&s->cond);
	vx_unlock(&s->lock);
}

static int encode_step(uint32_t cid, uint64_t txn, const struct txn_step *step, struct buf *out)
{
	struct entry_header h = {
		.format = ENTRY_FORMAT, .kind = ENTRY_TXN, .cid = cid, .map_epoch = 1, .txn = txn};

	int rc = entry_begin(out, &h);
	if (rc == 0)
		rc = txn_step_encode(step, out);
	if (rc == 0)
		entry_finish(out, 0, &h, 0);
	return rc;
}

/* One step in one shard; its ticket has the result. */
static int do_step(struct db *db, uint32_t cid, uint64_t txn, uint32_t shard,
	const struct txn_step *step, struct ticket *t)
{
	struct buf e = BUF_INIT;

	int rc = encode_step(cid, txn, step, &e);
	if (rc) {
		buf_release(&e);
		return rc;
	}
	return propose_wait(db, SHARD_GROUP0 + shard, t, e.data, e.len);
}

static int abort_in(struct db *db, uint32_t cid, uint64_t txn, uint32_t shard)
{
	const struct txn_step step = {.op = TXN_ABORT};
	struct ticket t = {.status = 0};

	return do_step(db, cid, txn, shard, &step, &t);
}

static void add_result(struct batch_result *sum, const struct ticket *t)
{
	sum->inserted += t->res.inserted;
	sum->updated += t->res.updated;
	sum->deleted += t->res.deleted;
	sum->missing += t->res.missing;
	sum->conflicts += t->res.conflicts;
	sum->shard = t->group - SHARD_GROUP0;
	sum->index = t->index;
}

/* Tells all the others at once.  The first failure; shards without the slice have nothing to commit. */
static int tell_others(struct db *db, uint32_t cid, uint64_t txn,
	const struct txn_participant *others, uint32_t n, struct batch_result *sum)
{
	struct ticket *t = calloc(VX_MAX(n, 1u), sizeof *t);
	struct buf *e = calloc(VX_MAX(n, 1u), sizeof *e);
	struct steps s = {.left = n};
	int rc = t && e ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < n && rc == 0; i++) {
		const struct txn_step step = {.op = TXN_COMMIT, .parts = others[i].parts};
		rc = encode_step(cid, txn, &step, &e[i]);
	}
	if (rc) {
		for (uint32_t i = 0; e && i < n; i++)
			buf_release(&e[i]);
		goto out;
	}
	vx_mutex_init(&s.lock, LOCK_LEAF);
	vx_cond_init(&s.cond);
	for (uint32_t i = 0; i < n; i++) {
		t[i].done = step_done;
		t[i].arg = &s;
		propose(db, SHARD_GROUP0 + others[i].shard, &t[i], e[i].data, e[i].len);
	}
	vx_lock(&s.lock);
	while (s.left)
		vx_cond_wait(&s.cond, &s.lock);
	vx_unlock(&s.lock);
	vx_cond_release(&s.cond);
	vx_mutex_release(&s.lock);
	for (uint32_t i = 0; i < n; i++) {
		if (t[i].status && t[i].status != -ENOENT && rc == 0)
			rc = t[i].status;
		else if (t[i].status == 0 && sum)
			add_result(sum, &t[i]);
	}
	if (rc == 0 && n) {
		const struct txn_step end = {.op = TXN_END};
		struct ticket last = {.status = 0};
		/* If it is not ended now, the settler does so. */
		(void)do_step(db, cid, txn, (uint32_t)(txn >> TXN_SHARD_SHIFT), &end, &last);
	}
out:
	free(e);
	free(t);
	return rc;
}

/* --- transactions of this process ---------------------------------------------------------- */

static void enter(struct txn *t)
{
	struct db *db = t->c->db;

	vx_lock(&db->txn_lock);
	t->next = db->txns;
	db->txns = t;
	vx_unlock(&db->txn_lock);
}

static void leave(struct txn *t)
{
	struct db *db = t->c->db;

	vx_lock(&db->txn_lock);
	for (struct txn **p = &db->txns; *p; p = &(*p)->next) {
		if (*p == t) {
			*p = t->next;
			break;
		}
	}
	vx_unlock(&db->txn_lock);
}

static bool is_ours(struct db *db, uint64_t id)
{
	bool found = false;

	vx_lock(&db->txn_lock);
	for (const struct txn *t = db->txns; t && !found; t = t->next)
		found = t->id == id;
	vx_unlock(&db->txn_lock);
	return found;
}

int txn_new(struct coll *c, struct txn **ret)
{
	struct txn *t = calloc(1, sizeof *t);

	if (!t)
		return -ENOMEM;
	t->low = SHARDS_MAX;
	vx_lock(&c->db->coll_lock);
	t->c = coll_ref(c);
	(void)quota_parse(coll_opt_get(c, CO_INBOX_MAX), &t->max);
	vx_unlock(&c->db->coll_lock);
	*ret = t;
	return 0;
}

void txn_name(struct txn *t, uint64_t origin, uint64_t seq)
{
	t->origin = origin;
	t->seq = seq;
}

static bool too_old(const struct txn *t)
{
	return t->id && clock_mono_ns() - t->began_ns > (uint64_t)TXN_LIFE_S * 1000000000u;
}

static int give_up(struct vx_err *err)
{
	return vx_err_set(
		err, -ECANCELED, "it took longer than %u seconds and was given up", TXN_LIFE_S);
}

int txn_plan(struct txn *t, const struct batch *b, struct vx_err *err)
{
	t->count += (uint32_t)batch_count(b);
	t->bytes += batch_bytes(b);
	t->low = VX_MIN(t->low, batch_low_shard(b));
	if (t->max && t->bytes > t->max)
		return vx_err_set(err, -EFBIG,
			"what is committed as a whole may have %llu bytes (inbox.max); what "
			"streams in, by cp or a plain vec-put, has no such limit",
			(unsigned long long)t->max);
	return 0;
}

static void start_hiding(struct txn *t)
{
	random_bytes(&t->id, sizeof t->id);
	t->id = (t->id & ID_MASK) | 1 | (uint64_t)t->low << TXN_SHARD_SHIFT;
	t->began_ns = clock_mono_ns();
	t->state = HIDING;
	enter(t);
}

int txn_begin(struct txn *t, struct vx_err *err)
{
	struct db *db = t->c->db;

	/* The parts, and then the records that they become. */
	int rc = home_space_check(db, 2 * t->bytes, false, err);
	if (rc == 0)
		rc = quota_check(t->c, t->bytes, t->count, err);
	if (rc == 0)
		start_hiding(t);
	return rc;
}

int txn_stream(struct coll *c, struct txn **ret)
{
	int rc = txn_new(c, ret);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < c->n_places; i++)
		(*ret)->low = VX_MIN((*ret)->low, c->places[i].shard);
	start_hiding(*ret);
	return 0;
}

int txn_grow(struct txn *t, const struct batch *b, struct vx_err *err)
{
	if (too_old(t))
		return give_up(err);
	int rc = txn_plan(t, b, err);
	/* The next part, and the records that all of them become. */
	if (rc == 0)
		rc = home_space_check(t->c->db, t->bytes + batch_bytes(b), false, err);
	return rc ? rc : quota_look(t->c, t->bytes, t->count, err);
}

uint64_t txn_id(const struct txn *t)
{
	return t->id;
}

uint32_t txn_next_part(struct txn *t, uint32_t shard, uint64_t *ret_id)
{
	*ret_id = t->id;
	return ++t->parts[shard];
}

void txn_count_duplicates(struct txn *t, uint32_t n)
{
	t->duplicates += n;
}

static void drop(struct txn *t)
{
	for (uint32_t s = 0; s < SHARDS_MAX; s++) {
		if (t->parts[s] == 0)
			continue;
		int rc = abort_in(t->c->db, t->c->cid, t->id, s);
		if (rc && rc != -ENOENT && rc != -EALREADY)
			log_warn("cluster",
				"%s: parts of a file that was refused stay for a while: %s",
				t->c->name, strerror(-rc));
	}
	t->state = DROPPED;
}

void txn_free(struct txn *t)
{
	if (!t)
		return;
	if (t->state == HIDING)
		drop(t);
	if (t->id)
		leave(t);
	coll_put(t->c);
	free(t);
}

static int refused(struct txn *t, int rc, struct vx_err *err)
{
	switch (rc) {
	case -ECANCELED:
		return give_up(err);
	case -ETIMEDOUT:
		return vx_err_set(err, rc, "it is not known whether the file was committed");
	case -ENOENT:
		return vx_err_set(err, rc, "collection '%s' was dropped", t->c->name);
	case -EUCLEAN:
		return vx_err_set(err, rc, "the collection is damaged; see the daemon's log");
	default:
		return vx_err_set(err, rc, "%s", strerror(-rc));
	}
}

int txn_commit(struct txn *t, struct batch_result *ret, struct vx_err *err)
{
	struct db *db = t->c->db;
	struct txn_step step = {.op = TXN_DECIDE};
	struct ticket ticket = {.origin = t->origin, .seq = t->seq};
	struct batch_result sum = {.duplicates = t->duplicates};

	if (t->count == 0) {
		t->state = COMMITTED;
		*ret = sum;
		return 0;
	}
	if (too_old(t))
		return give_up(err);
	step.parts = t->parts[t->low];
	for (uint32_t s = t->low + 1; s < SHARDS_MAX; s++) {
		if (t->parts[s])
			step.others[step.n++] = (struct txn_participant){s, t->parts[s]};
	}
	int rc = do_step(db, t->c->cid, t->id, t->low, &step, &ticket);
	if (rc) {
		t->state = rc == -ETIMEDOUT ? UNKNOWN : HIDING;
		return refused(t, rc, err);
	}
	add_result(&sum, &ticket);
	/* The same request was decided before, as another transaction, and that one is settled: ours is not wanted. */
	if (ticket.res.repeat) {
		drop(t);
	} else {
		t->state = COMMITTED;
		rc = tell_others(db, t->c->cid, t->id, step.others, step.n, &sum);
	}
	atomic_fetch_add_explicit(&db->n_writes, 1, memory_order_relaxed);
	if (rc)
		return refused(t, rc, err);
	sum.updated -= VX_MIN(sum.updated, sum.duplicates);
	*ret = sum;
	return 0;
}

/* --- asking for an outcome ------------------------------------------------------------------ */

static bool has_place(const struct coll *c, uint32_t shard)
{
	for (uint32_t i = 0; i < c->n_places; i++)
		if (c->places[i].shard == shard)
			return true;
	return false;
}

/* Who committed it may be about to tell the other shards, or gone; told twice they do it once. */
static int tell_rest(struct coll *c, uint64_t id, uint32_t decider)
{
	struct buf list = BUF_INIT;
	int rc = 0;
	struct slice *sl = shard_slice_get(c->db->shards[decider], c->cid, &rc, NULL);

	if (!sl)
		return rc;
	rc = slice_txns(sl, &list, NULL);
	slice_put(sl);
	const struct slice_txn *t = (const void *)list.data;
	for (size_t i = 0; rc == 0 && i < list.len / sizeof *t; i++)
		if (t[i].txn == id && t[i].committed)
			rc = tell_others(c->db, c->cid, id, t[i].others, t[i].n_others, NULL);
	buf_release(&list);
	return rc;
}

int txn_ask(struct coll *c, uint64_t id, bool *ret_committed, struct vx_err *err)
{
	uint32_t decider = (uint32_t)(id >> TXN_SHARD_SHIFT);

	if (id == 0 || !has_place(c, decider))
		return vx_err_set(err, -EINVAL, "collection '%s' has no such transaction", c->name);
	int rc = abort_in(c->db, c->cid, id, decider);
	if (rc == 0 || rc == -ENOENT) {
		*ret_committed = false;
		return 0;
	}
	if (rc == -EALREADY)
		rc = tell_rest(c, id, decider);
	if (rc)
		return vx_err_set(err, rc, "the outcome cannot be told: %s", strerror(-rc));
	*ret_committed = true;
	return 0;
}

/* --- settling ------------------------------------------------------------------------------ */

static bool stopping(struct db *db)
{
	vx_lock(&db->txn_lock);
	bool stop = db->txn_stop;
	vx_unlock(&db->txn_lock);
	return stop;
}

static void settle_hidden(struct db *db, uint32_t shard, uint32_t cid, uint64_t txn)
{
	uint32_t decider = (uint32_t)(txn >> TXN_SHARD_SHIFT);
	int rc = 0;

	if (decider >= db->n_shards) {
		log_error("cluster", "shard %u, slice c-%u: transaction %016llx has no shard %u",
			shard, cid, (unsigned long long)txn, decider);
		return;
	}
	rc = abort_in(db, cid, txn, decider);
	if (decider != shard && (rc == 0 || rc == -ENOENT))
		rc = abort_in(db, cid, txn, shard);
	if (rc == 0)
		log_info("cluster",
			"shard %u, slice c-%u: parts of a file that was not committed were dropped",
			shard, cid);
	else if (rc != -EALREADY && rc != -ENOENT)
		log_warn("cluster", "shard %u, slice c-%u: transaction %016llx is not settled: %s",
			shard, cid, (unsigned long long)txn, strerror(-rc));
}

static void settle_slice(struct db *db, uint32_t shard, uint32_t cid, bool all)
{
	const uint64_t life = (uint64_t)TXN_LIFE_S * 1000000000u;
	struct buf list = BUF_INIT;
	int rc;
	struct slice *sl = shard_slice_get(db->shards[shard], cid, &rc, NULL);

	if (!sl)
		return;
	rc = slice_txns(sl, &list, NULL);
	slice_put(sl);
	const struct slice_txn *t = (const void *)list.data;
	for (size_t i = 0; rc == 0 && i < list.len / sizeof *t && !stopping(db); i++) {
		bool old = t[i].time_ns + life < clock_real_ns();
		if (is_ours(db, t[i].txn) && (t[i].committed || !old))
			continue;
		if (t[i].committed) {
			rc = tell_others(db, cid, t[i].txn, t[i].others, t[i].n_others, NULL);
			if (rc == 0)
				log_info("cluster",
					"slice c-%u: a file that was committed is in all its "
					"shards",
					cid);
		} else if (all || old) {
			settle_hidden(db, shard, cid, t[i].txn);
		}
	}
	if (rc)
		log_warn("cluster", "shard %u, slice c-%u: transactions are not settled: %s", shard,
			cid, strerror(-rc));
	buf_release(&list);
}

/* Commits come first, so that no shard is asked about parts which are about to be committed. */
static void settle(struct db *db, bool all)
{
	struct buf cids = BUF_INIT;

	for (uint32_t s = 0; s < db->n_shards && !stopping(db); s++) {
		if (shard_txn_slices(db->shards[s], &cids))
			break;
		for (size_t i = 0; i < cids.len; i += 4)
			settle_slice(db, s, get_le32(cids.data + i), all);
	}
	buf_release(&cids);
}

static void *settler(void *arg)
{
	struct db *db = arg;

	settle(db, true);
	vx_lock(&db->txn_lock);
	db->txn_settled = true;
	vx_cond_broadcast(&db->txn_cond);
	while (!db->txn_stop) {
		uint64_t until = clock_mono_ns() + SETTLE_EVERY_NS;
		(void)vx_cond_wait_until(&db->txn_cond, &db->txn_lock, until);
		if (db->txn_stop || clock_mono_ns() < until)
			continue;
		vx_unlock(&db->txn_lock);
		settle(db, false);
		vx_lock(&db->txn_lock);
	}
	vx_unlock(&db->txn_lock);
	return NULL;
}

int txn_start(struct db *db)
{
	uint64_t until = clock_mono_ns() + SETTLE_PATIENCE_NS;
	int rc = pthread_create(&db->txn_thread, NULL, settler, db);

	if (rc)
		return -rc;
	db->txn_running = true;
	pthread_setname_np(db->txn_thread, "vecfs-settle");
	/* A shard without room may keep it waiting: then the others are served meanwhile. */
	vx_lock(&db->txn_lock);
	while (!db->txn_settled && clock_mono_ns() < until)
		(void)vx_cond_wait_until(&db->txn_cond, &db->txn_lock, until);
	vx_unlock(&db->txn_lock);
	return 0;
}

void txn_stop(struct db *db)
{
	vx_lock(&db->txn_lock);
	db->txn_stop = true;
	vx_cond_broadcast(&db->txn_cond);
	vx_unlock(&db->txn_lock);
	if (db->txn_running)
		pthread_join(db->txn_thread, NULL);
	db->txn_running = false;
}
