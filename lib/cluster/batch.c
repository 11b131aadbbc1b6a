/* batch.c - writing: records are checked, encoded by shard, proposed, and answered once applied.
 *
 * A batch is encoded as it is filled: one entry per shard of the collection, in the memory that goes to
 * Raft.  The steps of one write stand in ARCHITECTURE.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "cluster/db_i.h"

struct part { /* what goes to one shard */
	uint32_t shard;
	uint32_t count;
	struct buf entry;
};

struct batch {
	struct coll *c; /* pinned */
	uint32_t dim;   /* of its records; 0: none yet */
	uint32_t count, duplicates;
	bool deletes_only;
	uint64_t origin, seq; /* what its owner calls it; 0: nothing */
	struct txn *txn;      /* a hidden part of it; NULL: seen when it is applied */
	struct part *parts;
	uint32_t n_parts;
	/* Open addressing over hash_id of the ids put so far: counts duplicates.  0 is "empty". */
	uint64_t *seen;
	uint32_t seen_cap;
	uint32_t n_seen;
};

int batch_new(struct coll *c, struct batch **ret)
{
	struct batch *b = calloc(1, sizeof *b);

	if (!b)
		return -ENOMEM;
	b->parts = calloc(c->n_places, sizeof *b->parts);
	if (!b->parts) {
		free(b);
		return -ENOMEM;
	}
	b->n_parts = c->n_places;
	for (uint32_t i = 0; i < b->n_parts; i++)
		b->parts[i].shard = c->places[i].shard;
	b->deletes_only = true;
	vx_lock(&c->db->coll_lock);
	b->c = coll_ref(c);
	vx_unlock(&c->db->coll_lock);
	*ret = b;
	return 0;
}

void batch_reset(struct batch *b)
{
	for (uint32_t i = 0; i < b->n_parts; i++) {
		b->parts[i].entry.len = 0;
		b->parts[i].count = 0;
	}
	b->count = b->duplicates = b->n_seen = b->dim = 0;
	b->origin = b->seq = 0;
	b->txn = NULL;
	b->deletes_only = true;
	if (b->seen)
		memset(b->seen, 0, b->seen_cap * sizeof *b->seen);
}

void batch_free(struct batch *b)
{
	if (!b)
		return;
	for (uint32_t i = 0; i < b->n_parts; i++)
		buf_release(&b->parts[i].entry);
	coll_put(b->c);
	free(b->parts);
	free(b->seen);
	free(b);
}

void batch_name(struct batch *b, uint64_t origin, uint64_t seq)
{
	b->origin = origin;
	b->seq = seq;
}

void batch_hide(struct batch *b, struct txn *t)
{
	b->txn = t;
}

uint32_t batch_low_shard(const struct batch *b)
{
	uint32_t low = SHARDS_MAX;

	for (uint32_t i = 0; i < b->n_parts; i++)
		if (b->parts[i].count)
			low = VX_MIN(low, b->parts[i].shard);
	return low;
}

size_t batch_count(const struct batch *b)
{
	return b->count;
}

size_t batch_bytes(const struct batch *b)
{
	size_t n = 0;

	for (uint32_t i = 0; i < b->n_parts; i++)
		n += b->parts[i].entry.len;
	return n;
}

bool batch_full(const struct batch *b)
{
	return batch_bytes(b) >= VX_BATCH_BYTES_MAX;
}

static void seen_insert(uint64_t *tab, uint32_t cap, uint64_t h, bool *ret_new)
{
	uint32_t i = (uint32_t)h & (cap - 1);

	while (tab[i] && tab[i] != h)
		i = (i + 1) & (cap - 1);
	*ret_new = tab[i] == 0;
	tab[i] = h;
}

/* Counts an id that came before in this batch. */
static int note_id(struct batch *b, const char *id, size_t len)
{
	uint64_t h = hash_id(id, len) | 1; /* never 0 */
	bool is_new;

	if (2 * (b->n_seen + 1) > b->seen_cap) {
		uint32_t cap = b->seen_cap ? 2 * b->seen_cap : 64;
		uint64_t *tab = calloc(cap, sizeof *tab);

		if (!tab)
			return -ENOMEM;
		for (uint32_t i = 0; i < b->seen_cap; i++)
			if (b->seen[i])
				seen_insert(tab, cap, b->seen[i], &is_new);
		free(b->seen);
		b->seen = tab;
		b->seen_cap = cap;
	}
	seen_insert(b->seen, b->seen_cap, h, &is_new);
	if (is_new)
		b->n_seen++;
	else
		b->duplicates++;
	return 0;
}

static struct part *part_of(struct batch *b, const char *id, size_t len)
{
	if (b->n_parts == 1)
		return &b->parts[0];
	uint32_t shard = coll_shard_of(b->c, id, len);
	for (uint32_t i = 0; i < b->n_parts; i++)
		if (b->parts[i].shard == shard)
			return &b->parts[i];
	return &b->parts[0];
}

static int add(struct batch *b, const struct entry_rec *er, struct vx_err *err)
{
	struct part *p = part_of(b, er->rec.id, er->rec.id_len);
	struct entry_header h = {.format = ENTRY_FORMAT, .kind = ENTRY_DATA, .cid = b->c->cid};
	size_t size = entry_rec_size(er);
	int rc = 0;

	if (ENTRY_HEADER_SIZE + p->entry.len + size > VX_ENTRY_BYTES_MAX)
		return vx_err_set(err, -EMSGSIZE, "the record makes a batch of more than %u bytes",
			VX_ENTRY_BYTES_MAX);
	/* One reservation for the whole batch as a rule: growing by doubling would copy it many times. */
	if (p->entry.cap == 0 && b->count > 0)
		rc = buf_reserve(&p->entry, VX_BATCH_BYTES_MAX + 65536);
	if (rc == 0 && p->entry.len == 0)
		rc = entry_begin(&p->entry, &h);
	size_t before = p->entry.len;
	if (rc == 0)
		rc = entry_add(&p->entry, er);
	if (rc == 0 && er->op != REC_DELETE)
		rc = note_id(b, er->rec.id, er->rec.id_len);
	if (rc) {
		p->entry.len = before;
		return rc;
	}
	p->count++;
	b->count++;
	return 0;
}

static int check_record(struct batch *b, const struct vx_record *rec, struct vx_err *err)
{
	uint32_t dim = coll_dim(b->c);
	int rc = vx_id_check(rec->id, rec->id_len, err);

	if (rc)
		return rc;
	if (dim == 0)
		dim = b->dim;
	if (rec->dim == 0)
		return vx_err_set(err, -EINVAL, "the vector is empty");
	if (rec->dim > VX_DIM_MAX)
		return vx_err_set(err, -EINVAL, "the vector has %u numbers; at most %u are allowed",
			rec->dim, VX_DIM_MAX);
	if (dim && rec->dim != dim)
		return vx_err_set(err, -EINVAL,
			"the vector has %u number%s; this collection has dimension %u", rec->dim,
			rec->dim == 1 ? "" : "s", dim);
	switch (vec_check(rec->vec, rec->dim)) {
	case VEC_NONFINITE:
		return vx_err_set(err, -EINVAL, "the vector has a NaN or an infinity");
	case VEC_ZERO:
		if (coll_metric(b->c) == VX_COSINE)
			return vx_err_set(err, -EINVAL,
				"the vector is all zeros, which has no direction (metric cosine)");
		break;
	case VEC_OK:
		break;
	}
	if (rec->meta_len > VX_META_MAX || rec->text_len > VX_TEXT_MAX)
		return vx_err_set(err, -EMSGSIZE, "the %s has %zu bytes; at most %u are allowed",
			rec->meta_len > VX_META_MAX ? "meta" : "text",
			rec->meta_len > VX_META_MAX ? rec->meta_len : rec->text_len, VX_META_MAX);
	if (rec->text_len && !vx_utf8_valid(rec->text, rec->text_len))
		return vx_err_set(err, -EINVAL, "the text is not valid UTF-8");
	return 0;
}

static int put(struct batch *b, const struct vx_record *rec, uint8_t op, struct vx_err *err)
{
	struct entry_rec er = {.op = op, .rec = *rec};
	int rc = check_record(b, rec, err);

	if (rc == 0)
		rc = add(b, &er, err);
	if (rc == 0) {
		b->dim = rec->dim;
		b->deletes_only = false;
	}
	return rc;
}

int batch_put(struct batch *b, const struct vx_record *rec, struct vx_err *err)
{
	return put(b, rec, REC_UPSERT, err);
}

int batch_insert(struct batch *b, const struct vx_record *rec, struct vx_err *err)
{
	return put(b, rec, REC_INSERT, err);
}

int batch_delete(struct batch *b, const char *id, size_t len, struct vx_err *err)
{
	struct entry_rec er = {.op = REC_DELETE, .rec = {.id = id, .id_len = len}};
	int rc = vx_id_check(id, len, err);

	return rc ? rc : add(b, &er, err);
}

/* --- commit ------------------------------------------------------------------------ */
struct op { /* one submitted batch: a ticket per shard */
	struct coll *c;
	struct batch *b;
	atomic_uint left;
	atomic_int status;
	size_t bytes;
	batch_done_fn *done;
	void *arg;
	struct batch_result res; /* guarded by db->coll_lock until 'left' is 0 */
	struct ticket tickets[];
};

static void writer_leave(struct coll *c)
{
	vx_lock(&c->db->coll_lock);
	if (--c->writers == 0)
		vx_cond_broadcast(&c->db->coll_cond);
	vx_unlock(&c->db->coll_lock);
}

/* Apply worker or reactor. */
static void on_ticket(struct ticket *t)
{
	struct op *op = t->arg;
	struct db *db = t->db;

	if (t->status) {
		int none = 0;
		atomic_compare_exchange_strong(&op->status, &none, t->status);
	} else {
		vx_lock(&db->coll_lock);
		op->res.inserted += t->res.inserted;
		op->res.updated += t->res.updated;
		op->res.deleted += t->res.deleted;
		op->res.missing += t->res.missing;
		op->res.conflicts += t->res.conflicts;
		op->res.shard = t->group - SHARD_GROUP0;
		op->res.index = t->index;
		vx_unlock(&db->coll_lock);
	}
	/* acq_rel: the last one sees every result. */
	if (atomic_fetch_sub_explicit(&op->left, 1, memory_order_acq_rel) != 1)
		return;
	struct coll *c = op->c;
	/* The store saw an id that came twice as two records; here it is one, and counted as duplicate. */
	op->res.updated -= VX_MIN(op->res.updated, op->res.duplicates);
	inflight_sub(db, op->bytes);
	atomic_fetch_add_explicit(&db->n_writes, 1, memory_order_relaxed);
	op->done(op->arg, atomic_load(&op->status), &op->res);
	batch_free(op->b);
	free(op);
	writer_leave(c);
	coll_put(c);
}

/* Everything that can still be refused, before anything is proposed. */
static int admit(struct batch *b, struct vx_err *err)
{
	struct coll *c = b->c;
	struct db *db = c->db;
	int rc = 0;

	vx_lock(&db->coll_lock);
	if (coll_gone(c) || c->dropping)
		rc = -ENOENT;
	else
		c->writers++;
	vx_unlock(&db->coll_lock);
	if (rc)
		return vx_err_set(err, rc, "collection '%s' was dropped", c->name);
	rc = home_space_check(db, batch_bytes(b), b->deletes_only, err);
	if (rc == 0 && !b->deletes_only) {
		rc = coll_fix_dim(c, b->dim, err);
		if (rc == 0 && !b->txn) /* the whole file was */
			rc = quota_check(c, batch_bytes(b), b->count, err);
		if (rc == 0)
			indexer_throttle(c);
	}
	if (rc == 0)
		rc = coll_ensure_slices(c, err);
	if (rc)
		writer_leave(c);
	return rc;
}

int batch_check(const struct batch *b, struct vx_err *err)
{
	int rc = home_space_check(b->c->db, batch_bytes(b), b->deletes_only, err);

	return rc || b->deletes_only ? rc : quota_check(b->c, batch_bytes(b), b->count, err);
}

/* Deletes in a collection that never had a record: nothing to log. */
static bool nothing_to_do(const struct batch *b)
{
	return b->count == 0 || (b->deletes_only && !atomic_load(&b->c->sealed));
}

int batch_submit(struct batch *b, batch_done_fn *done, void *arg, struct vx_err *err)
{
	struct coll *c = b->c;
	struct db *db = c->db;
	uint32_t parts = 0;

	if (nothing_to_do(b)) {
		struct batch_result res = {.missing = b->count};

		done(arg, 0, &res);
		batch_free(b);
		return 0;
	}
	for (uint32_t i = 0; i < b->n_parts; i++)
		parts += b->parts[i].count > 0;
	struct op *op = calloc(1, sizeof *op + parts * sizeof op->tickets[0]);
	if (!op)
		return -ENOMEM;
	int rc = admit(b, err);
	if (rc) {
		free(op);
		return rc;
	}
	vx_lock(&db->coll_lock);
	op->c = coll_ref(c);
	vx_unlock(&db->coll_lock);
	op->b = b;
	op->bytes = batch_bytes(b);
	op->done = done;
	op->arg = arg;
	op->res.duplicates = b->duplicates;
	atomic_init(&op->left, parts);
	inflight_add(db, op->bytes);
	if (b->txn)
		txn_count_duplicates(b->txn, b->duplicates);
	for (uint32_t i = 0, k = 0, n = b->n_parts; k < parts && i < n; i++) {
		struct part *p = &b->parts[i];
		struct entry_header h = {
			.format = ENTRY_FORMAT,
			.kind = ENTRY_DATA,
			.cid = c->cid,
			.schema_epoch = atomic_load(&c->epoch),
			.map_epoch = 1,
		};
		struct buf e = p->entry;

		if (p->count == 0)
			continue;
		if (b->txn)
			h.part = txn_next_part(b->txn, p->shard, &h.txn);
		entry_finish(&e, 0, &h, p->count);
		p->entry = (struct buf)BUF_INIT; /* libraft frees it: its heap is malloc's */
		op->tickets[k].done = on_ticket;
		op->tickets[k].arg = op;
		op->tickets[k].origin = b->origin;
		op->tickets[k].seq = b->seq;
		/* The last ticket may complete, and free 'op' and 'b', before propose returns. */
		propose(db, SHARD_GROUP0 + p->shard, &op->tickets[k++], e.data, e.len);
	}
	return 0;
}

struct sync_commit {
	struct vx_mutex lock;
	struct vx_cond cond;
	bool done;
	int status;
	struct batch_result res;
};

static void sync_done(void *arg, int status, const struct batch_result *res)
{
	struct sync_commit *s = arg;

	vx_lock(&s->lock);
	s->done = true;
	s->status = status;
	s->res = *res;
	vx_cond_signal(&s->cond);
	vx_unlock(&s->lock);
}

static const char *why(int rc)
{
	switch (rc) {
	case -ETIMEDOUT:
		return "leadership was lost while it was being written: its outcome is unknown";
	case -EROFS:
		return "there is no quorum, so nothing can be written now";
	case -ENOENT:
		return "the collection was dropped";
	case -EUCLEAN:
		return "the collection is damaged and stopped; see the daemon's log";
	default:
		return strerror(-rc);
	}
}

int batch_commit(struct batch *b, struct batch_result *ret, struct vx_err *err)
{
	struct sync_commit s = {.done = false};
	struct batch *fresh = NULL;

	int rc = batch_new(b->c, &fresh);
	if (rc)
		return rc;
	vx_mutex_init(&s.lock, LOCK_LEAF);
	vx_cond_init(&s.cond);
	/* The submitted one takes over what was gathered; the caller's is empty from here on. */
	struct batch t = *fresh;
	*fresh = *b;
	*b = t;
	rc = batch_submit(fresh, sync_done, &s, err);
	if (rc == 0) {
		vx_lock(&s.lock);
		while (!s.done)
			vx_cond_wait(&s.cond, &s.lock);
		vx_unlock(&s.lock);
		rc = s.status;
		if (rc)
			vx_err_set(err, rc, "%s", why(rc));
		else if (ret)
			*ret = s.res;
	} else {
		batch_free(fresh);
	}
	vx_cond_release(&s.cond);
	vx_mutex_release(&s.lock);
	return rc;
}
