#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t fix_rnd(struct fix *f)
{
	f->rng ^= f->rng << 13;
	f->rng ^= f->rng >> 7;
	f->rng ^= f->rng << 17;
	return f->rng;
}

void fix_init(struct fix *f, struct disk *disk)
{
	const char *seed = getenv("SEED"), *tmp = getenv("TMPDIR");

	memset(f, 0, sizeof *f);
	f->rng = seed ? strtoull(seed, NULL, 0) : (uint64_t)getpid() * 0x9e3779b97f4a7c15u;
	if (!f->rng)
		f->rng = 1;
	print_message("SEED=%llu\n", (unsigned long long)f->rng);
	snprintf(f->dir, sizeof f->dir, "%s/vecfs-store-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	f->disk = disk ? disk : disk_real();
	fix_open(f);
}

void fix_release(struct fix *f)
{
	char cmd[512];

	if (f->s)
		fix_close(f, false);
	for (size_t i = 0; i < f->n_log; i++)
		buf_release(&f->log[i].data);
	free(f->log);
	snprintf(cmd, sizeof cmd, "rm -rf '%s'", f->dir);
	assert_int_equal(system(cmd), 0);
}

void fix_path(const struct fix *f, const char *name, char *ret)
{
	snprintf(ret, 512, "%s/shard/%s", f->dir, name);
}

void fix_open(struct fix *f)
{
	struct shard_opts o = {.disk = f->disk};
	struct vx_err err = VX_ERR_INIT;
	char path[512];

	snprintf(path, sizeof path, "%s/shard", f->dir);
	if (shard_open(path, 3, &o, &f->s, &err))
		fail_msg("shard_open: %s", err.msg);
	shard_watermark(f->s, f->mark);
}

void fix_close(struct fix *f, bool save)
{
	shard_close(f->s, save);
	f->s = NULL;
}

static struct logged *log_add(struct fix *f)
{
	f->log = realloc(f->log, (f->n_log + 1) * sizeof *f->log);
	assert_non_null(f->log);
	struct logged *l = &f->log[f->n_log++];
	*l = (struct logged){.index = f->n_log * 3, .data = BUF_INIT};
	return l;
}

int fix_apply(struct fix *f, const struct logged *l, struct apply_result *res, uint8_t *recs)
{
	struct apply_req q = {
		.index = l->index, .data = l->data.data, .len = l->data.len, .rec_results = recs};
	struct vx_err err = VX_ERR_INIT;
	size_t done;

	int rc = shard_apply(f->s, &q, 1, &done, &err);
	if (rc)
		print_message("apply: %s\n", err.msg);
	assert_int_equal(done, rc == 0);
	if (res)
		*res = q.result;
	return rc;
}

void fix_replay(struct fix *f)
{
	struct apply_req *q = calloc(f->n_log + 1, sizeof *q);
	struct vx_err err = VX_ERR_INIT;
	size_t n = 0, done;

	for (size_t i = 0; i < f->n_log; i++) {
		if (f->log[i].index > f->mark)
			q[n++] = (struct apply_req){.index = f->log[i].index,
				.data = f->log[i].data.data,
				.len = f->log[i].data.len};
	}
	int rc = shard_apply(f->s, q, n, &done, &err);
	if (rc)
		fail_msg("replay: %s", err.msg);
	assert_int_equal(done, n);
	free(q);
}

static int simple(struct fix *f, uint8_t kind, uint32_t cid)
{
	struct slice_schema sc = {
		.cid = cid, .dim = DIM, .metric = VX_L2, .index = "hnsw", .quant = "sq8"};
	struct entry_header h = {.kind = kind, .cid = cid};
	struct apply_result res;
	struct logged *l = log_add(f);

	assert_int_equal(entry_begin(&l->data, &h), 0);
	if (kind == ENTRY_SLICE_CREATE)
		assert_int_equal(slice_schema_encode(&sc, &l->data), 0);
	entry_finish(&l->data, 0, &h, 0);
	int rc = fix_apply(f, l, &res, NULL);
	return rc ? rc : res.status;
}

int fix_create(struct fix *f, uint32_t cid)
{
	return simple(f, ENTRY_SLICE_CREATE, cid);
}

int fix_drop(struct fix *f, uint32_t cid)
{
	return simple(f, ENTRY_SLICE_DROP, cid);
}

size_t fix_id(uint32_t i, char *ret)
{
	int n = snprintf(ret, VX_ID_MAX, "%u", i);
	if (i % 5 == 0)
		n = snprintf(ret, VX_ID_MAX, "long/%0*u", (int)(i % 3) * 80 + 36, i);
	return (size_t)n;
}

static enum rec_result model_apply(
	struct fix *f, const struct entry_rec *e, uint32_t i, const struct model_rec *new)
{
	struct model_rec *m = &f->m[i];
	bool is_new = !m->exists;

	if (e->has_if_version && e->op == REC_INSERT && e->if_version == 0 && m->exists)
		return REC_EXISTS;
	if (e->has_if_version && e->if_version != (m->exists ? m->version : 0))
		return REC_CONFLICT;
	if (e->op == REC_DELETE) {
		if (is_new)
			return REC_MISSING;
		m->exists = false;
		return REC_DELETED;
	}
	if (e->op == REC_INSERT && m->exists)
		return REC_EXISTS;
	*m = *new;
	return is_new ? REC_INSERTED : REC_UPDATED;
}

/* One in four has none. */
static void random_text(struct fix *f, struct model_rec *m)
{
	size_t n = fix_rnd(f) % 4 ? 1 + fix_rnd(f) % (sizeof m->text - 1) : 0;

	for (size_t i = 0; i < n; i++)
		m->text[i] = (char)('a' + fix_rnd(f) % 26);
}

struct logged *fix_random_entry(struct fix *f, uint32_t max, uint8_t *expect, uint32_t *ret_n)
{
	struct entry_header h = {.kind = ENTRY_DATA,
		.cid = CID,
		.time_ns = 1000 + f->seq,
		.origin = 9,
		.seq = ++f->seq};
	uint32_t n = 1 + (uint32_t)(fix_rnd(f) % max);
	struct logged *l = log_add(f);

	assert_int_equal(entry_begin(&l->data, &h), 0);
	for (uint32_t k = 0; k < n; k++) {
		char id[VX_ID_MAX];
		struct model_rec new = {.exists = true, .version = l->index, .mtime_ns = h.time_ns};
		uint32_t i = (uint32_t)(fix_rnd(f) % N_IDS);
		struct entry_rec e = {.op = REC_UPSERT};

		switch (fix_rnd(f) % 8) {
		case 0:
			e.op = REC_INSERT;
			break;
		case 1:
		case 2:
			e.op = REC_DELETE;
			break;
		}
		if (fix_rnd(f) % 5 == 0) {
			e.has_if_version = true;
			e.if_version = fix_rnd(f) % 3 ? f->m[i].version * f->m[i].exists : 1;
		}
		e.rec.id = id;
		e.rec.id_len = fix_id(i, id);
		if (e.op != REC_DELETE) {
			for (uint32_t d = 0; d < DIM; d++)
				new.vec[d] = (float)(fix_rnd(f) % 2000) / 100 - 10;
			e.rec.vec = new.vec;
			e.rec.dim = DIM;
			snprintf(new.meta, sizeof new.meta, "{\"n\":%u}",
				(unsigned)(fix_rnd(f) % 99999));
			e.rec.meta = new.meta;
			e.rec.meta_len = strlen(new.meta);
			random_text(f, &new);
			e.rec.text = new.text[0] ? new.text : NULL;
			e.rec.text_len = strlen(new.text);
		}
		assert_int_equal(entry_add(&l->data, &e), 0);
		expect[k] = (uint8_t)model_apply(f, &e, i, &new);
	}
	entry_finish(&l->data, 0, &h, n);
	*ret_n = n;
	return l;
}

struct logged *fix_upsert(struct fix *f, uint32_t cid, uint32_t i, float x)
{
	struct entry_header h = {
		.kind = ENTRY_DATA, .cid = cid, .time_ns = 5, .origin = 8, .seq = ++f->seq};
	char id[VX_ID_MAX];
	float vec[DIM];
	struct entry_rec e = {.op = REC_UPSERT};
	struct logged *l = log_add(f);

	for (uint32_t d = 0; d < DIM; d++)
		vec[d] = x;
	e.rec = (struct vx_record){.id = id, .id_len = fix_id(i, id), .vec = vec, .dim = DIM};
	assert_int_equal(entry_begin(&l->data, &h), 0);
	assert_int_equal(entry_add(&l->data, &e), 0);
	entry_finish(&l->data, 0, &h, 1);
	if (cid == CID && i < N_IDS) {
		f->m[i] = (struct model_rec){
			.exists = true, .version = l->index, .mtime_ns = h.time_ns};
		memcpy(f->m[i].vec, vec, sizeof vec);
	}
	return l;
}

struct logged *fix_delete(struct fix *f, uint32_t cid, uint32_t i)
{
	struct entry_header h = {
		.kind = ENTRY_DATA, .cid = cid, .time_ns = 5, .origin = 8, .seq = ++f->seq};
	char id[VX_ID_MAX];
	struct entry_rec e = {.op = REC_DELETE};
	struct logged *l = log_add(f);

	e.rec = (struct vx_record){.id = id, .id_len = fix_id(i, id)};
	assert_int_equal(entry_begin(&l->data, &h), 0);
	assert_int_equal(entry_add(&l->data, &e), 0);
	entry_finish(&l->data, 0, &h, 1);
	if (cid == CID && i < N_IDS)
		f->m[i].exists = false;
	return l;
}

void fix_mark(struct fix *f)
{
	struct vx_err err = VX_ERR_INIT;
	uint64_t to = shard_applied(f->s);

	if (shard_mark(f->s, to, &err))
		fail_msg("mark: %s", err.msg);
	f->mark = to;
}

static void compare_rec(const struct model_rec *m, uint32_t i, const struct slice_rec *r)
{
	char id[VX_ID_MAX];
	size_t len = fix_id(i, id);

	assert_true(m->exists);
	assert_int_equal(r->version, m->version);
	assert_int_equal(r->rec.id_len, len);
	assert_memory_equal(r->rec.id, id, len);
	assert_memory_equal(r->rec.vec, m->vec, sizeof m->vec);
	assert_int_equal(r->rec.meta_len, strlen(m->meta));
	assert_memory_equal(r->rec.meta ? r->rec.meta : "", m->meta, r->rec.meta_len);
	assert_int_equal(r->rec.text_len, strlen(m->text));
	assert_memory_equal(r->rec.text ? r->rec.text : "", m->text, r->rec.text_len);
}

static void compare_search(struct fix *f, struct slice *sl, uint32_t live)
{
	struct slice_hit hits[N_IDS + 5];
	float best[N_IDS];
	uint32_t n, want = 0;
	float q[DIM];

	for (uint32_t d = 0; d < DIM; d++)
		q[d] = (float)(fix_rnd(f) % 2000) / 100 - 10;
	struct index_query iq = {.vec = q, .k = N_IDS + 5, .exact = fix_rnd(f) % 2};
	assert_int_equal(slice_search(sl, &iq, hits, &n, NULL), 0);
	assert_int_equal(n, live);
	for (uint32_t i = 0; i < N_IDS; i++) {
		float d2 = 0;
		if (!f->m[i].exists)
			continue;
		for (uint32_t d = 0; d < DIM; d++)
			d2 += (q[d] - f->m[i].vec[d]) * (q[d] - f->m[i].vec[d]);
		best[want++] = sqrtf(d2);
	}
	for (uint32_t i = 0; i < n; i++) {
		const char *id;
		size_t len;
		float near = INFINITY;
		assert_int_equal(slice_slot_id(sl, hits[i].slot, &id, &len), 0);
		struct slice_rec r = {.mem = BUF_INIT};
		assert_int_equal(slice_get_rowid(sl, hits[i].rowid, 0, &r, NULL), 0);
		assert_int_equal(r.slot, hits[i].slot);
		assert_int_equal(r.rec.id_len, len);
		assert_memory_equal(r.rec.id, id, len);
		slice_rec_release(&r);
		for (uint32_t j = 0; j < want; j++)
			near = fminf(near, fabsf(best[j] - hits[i].distance));
		assert_true(near < 1e-3f);
		assert_true(i == 0 || hits[i].distance >= hits[i - 1].distance);
	}
}

void fix_compare(struct fix *f)
{
	struct slice_scan *sc;
	const struct slice_rec *p;
	uint32_t live = 0, seen = 0;
	uint64_t after = 0;
	int rc;

	struct slice *sl = shard_slice_get(f->s, CID, &rc, NULL);
	assert_non_null(sl);
	for (uint32_t i = 0; i < N_IDS; i++) {
		struct slice_rec r = {.mem = BUF_INIT};
		struct slice_rec_stat st;
		char id[VX_ID_MAX];
		size_t len = fix_id(i, id);
		rc = slice_get(sl, id, len, SLICE_META | SLICE_TEXT | SLICE_VEC, &r, NULL);
		assert_int_equal(rc, f->m[i].exists ? 0 : -ENOENT);
		assert_int_equal(slice_stat_rec(sl, id, len, &st), rc);
		if (rc == 0) {
			compare_rec(&f->m[i], i, &r);
			assert_int_equal(st.version, r.version);
			live++;
		}
		slice_rec_release(&r);
	}
	assert_int_equal(slice_scan_open(sl, SLICE_META | SLICE_TEXT | SLICE_VEC, &sc), 0);
	while ((rc = slice_scan_next(sc, after, &p, NULL)) == 0) {
		uint32_t i;
		char id[VX_ID_MAX];
		assert_true(p->rowid > after);
		after = p->rowid;
		for (i = 0; i < N_IDS; i++) {
			if (fix_id(i, id) == p->rec.id_len &&
				memcmp(id, p->rec.id, p->rec.id_len) == 0)
				break;
		}
		assert_true(i < N_IDS);
		compare_rec(&f->m[i], i, p);
		seen++;
	}
	assert_int_equal(rc, -ENOENT);
	assert_int_equal(seen, live);
	slice_scan_close(sc);

	struct slice_stats st;
	slice_stat(sl, &st);
	assert_int_equal(st.count, live);
	assert_int_equal(st.nslots - st.dead_slots, live);
	compare_search(f, sl, live);
	slice_put(sl);
}

/* --- a disk that fails ------------------------------------------------------------------------ */

static int strike(struct disk *d)
{
	struct fault_disk *f = VX_CONTAINER_OF(d, struct fault_disk, base);
	return ++f->calls == f->fail_at ? f->error : 0;
}

static ssize_t f_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	int rc = strike(d);
	if (rc && n > 1) /* some of it got through */
		(void)!disk_real()->ops->pwrite(disk_real(), fd, p, n / 2, off);
	return rc ? rc : disk_real()->ops->pwrite(disk_real(), fd, p, n, off);
}

static int f_truncate(struct disk *d, int fd, uint64_t size)
{
	int rc = strike(d);
	return rc ? rc : disk_real()->ops->truncate(disk_real(), fd, size);
}

static int f_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	int rc = strike(d);
	return rc ? rc : disk_real()->ops->allocate(disk_real(), fd, off, len);
}

static int f_mkdir(struct disk *d, const char *path, mode_t mode)
{
	int rc = strike(d);
	return rc ? rc : disk_real()->ops->mkdir(disk_real(), path, mode);
}

static struct disk_ops fault_ops;

void fault_disk_init(struct fault_disk *d)
{
	fault_ops = *disk_real()->ops;
	fault_ops.pwrite = f_pwrite;
	fault_ops.truncate = f_truncate;
	fault_ops.allocate = f_allocate;
	fault_ops.mkdir = f_mkdir;
	*d = (struct fault_disk){.base = {.ops = &fault_ops}, .error = -ENOSPC};
}
