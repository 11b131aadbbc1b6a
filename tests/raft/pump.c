/* pump.c - see pump.h. */
#include "pump.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "wal/wal_i.h"

void *pump_must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- the host ------------------------------------------------------------------- */

static void advance(struct host *h, struct store *s, uint64_t index)
{
	if (index != s->applied + 1)
		h->bad++;
	s->applied = index;
}

static void host_apply(
	void *arg, uint32_t group, uint64_t index, uint64_t term, const void *data, size_t len)
{
	struct host *h = arg;
	struct store *s = &h->store[group - FIRST];
	vx_lock(&h->lock);
	advance(h, s, index);
	if (term == 0 || len < 8)
		h->bad++;
	if (h->keep_values) {
		if (s->n == s->cap) {
			s->cap = s->cap ? 2 * s->cap : 256;
			s->values = pump_must(realloc(s->values, s->cap * sizeof *s->values));
		}
		s->values[s->n++] = get_le64(data);
	}
	vx_unlock(&h->lock);
}

static void host_watermark(void *arg, uint32_t group, uint64_t index)
{
	struct host *h = arg;
	vx_lock(&h->lock);
	advance(h, &h->store[group - FIRST], index);
	h->store[group - FIRST].watermarks++;
	vx_unlock(&h->lock);
}

static void host_role(void *arg, uint32_t group, bool is_leader, uint64_t term)
{
	(void)arg;
	(void)group;
	(void)is_leader;
	(void)term;
}

void pump_store_path(const struct host *h, uint32_t group, char *ret, size_t n)
{
	snprintf(ret, n, "%s/store-%u", h->dir, group);
}

/* File: index, number of values, values. */
static int store_save(struct host *h, uint32_t group, uint64_t index)
{
	struct store *s = &h->store[group - FIRST];
	struct buf b = BUF_INIT;
	char name[32];
	snprintf(name, sizeof name, "store-%u", group);
	vx_lock(&h->lock);
	int rc = s->applied < index ? -EAGAIN : buf_put_le64(&b, s->applied);
	if (rc == 0)
		rc = buf_put_le64(&b, s->n);
	for (size_t i = 0; rc == 0 && i < s->n; i++)
		rc = buf_put_le64(&b, s->values[i]);
	vx_unlock(&h->lock);
	if (rc == 0)
		rc = disk_write_file(disk_real(), h->dir, name, b.data, b.len);
	buf_release(&b);
	return rc;
}

static int host_mark(void *arg, uint32_t group, uint64_t index, struct buf *manifest)
{
	struct host *h = arg;
	vx_lock(&h->lock);
	while (h->hold_marks)
		vx_cond_wait(&h->cond, &h->lock);
	int rc = h->mark_status;
	vx_unlock(&h->lock);
	if (rc == 0 && h->keep_values)
		rc = store_save(h, group, index);
	if (rc == 0)
		rc = buf_put_le64(manifest, index);
	vx_lock(&h->lock);
	if (rc == 0)
		h->marks++;
	vx_unlock(&h->lock);
	return rc;
}

static int host_restore(void *arg, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	struct host *h = arg;
	(void)group;
	(void)index;
	(void)manifest;
	(void)len;
	h->bad++; /* own marks never get here */
	return 0;
}

const struct repl_host_ops pump_host_ops = {
	.apply = host_apply,
	.watermark = host_watermark,
	.role = host_role,
	.mark = host_mark,
	.restore = host_restore,
};

void pump_host_init(struct host *h, const char *dir)
{
	memset(h, 0, sizeof *h);
	snprintf(h->dir, sizeof h->dir, "%s", dir);
	vx_mutex_init(&h->lock, LOCK_SHARD);
	vx_cond_init(&h->cond);
	h->ack_fd = -1;
	h->keep_values = true;
}

void pump_host_release(struct host *h)
{
	for (unsigned i = 0; i < GROUPS_MAX; i++)
		free(h->store[i].values);
	vx_cond_release(&h->cond);
	vx_mutex_release(&h->lock);
}

/* --- set-up ----------------------------------------------------------------------- */

void pump_make_dir(char *ret, size_t n)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(ret, n, "%s/vecfs-raft-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(ret));
	char wal[240];
	snprintf(wal, sizeof wal, "%s/wal", ret);
	assert_int_equal(disk_real()->ops->mkdir(disk_real(), wal, 0700), 0);
}

void pump_remove_tree(const char *dir)
{
	DIR *d = opendir(dir);
	char path[600];
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		if (unlink(path) != 0)
			pump_remove_tree(path);
	}
	closedir(d);
	rmdir(dir);
}

struct repl_opts pump_opts(char *wal_dir, size_t n, const char *dir, unsigned groups)
{
	snprintf(wal_dir, n, "%s/wal", dir);
	return (struct repl_opts){
		.disk = disk_real(),
		.wal_dir = wal_dir,
		.wal = {.segment_size_bytes = 4u << 20, .node_id = 5},
		.node_id = 5,
		.first_group = FIRST,
		.n_groups = groups,
		.mark_bytes = 1u << 20,
		.mark_interval_ms = 300,
	};
}

struct repl *pump_start(struct host *h, const struct repl_opts *o)
{
	struct repl *r;
	struct vx_err err = VX_ERR_INIT;
	int rc = repl_open(o, &pump_host_ops, h, &r, &err);
	if (rc != 0)
		fail_msg("open: %s", vx_err_msg(&err, rc));
	/* What the store holds is there before the first apply. */
	for (unsigned i = 0; i < o->n_groups; i++) {
		struct repl_group_status st;
		assert_int_equal(repl_group_stat(r, FIRST + i, &st), 0);
		h->store[i].applied = st.mark_index;
	}
	rc = repl_start(r, &err);
	if (rc != 0)
		fail_msg("start: %s", vx_err_msg(&err, rc));
	assert_int_equal(repl_ready(r, 20000), 0);
	return r;
}

/* --- proposals ------------------------------------------------------------------------ */

void pump_committed(struct repl_proposal *p)
{
	struct item *it = VX_CONTAINER_OF(p, struct item, p);
	struct host *h = it->count->h;
	if (h->ack_fd >= 0 && write(h->ack_fd, &it->value, 8) != 8)
		_exit(3);
	vx_lock(&h->lock);
	it->count->committed++;
	vx_cond_broadcast(&h->cond);
	vx_unlock(&h->lock);
	free(it);
}

void pump_failed(struct repl_proposal *p, int status)
{
	struct item *it = VX_CONTAINER_OF(p, struct item, p);
	struct host *h = it->count->h;
	vx_lock(&h->lock);
	it->count->failed++;
	it->count->status = status;
	vx_cond_broadcast(&h->cond);
	vx_unlock(&h->lock);
	free(it);
}

void pump_propose(struct repl *r, struct count *c, uint32_t group, uint64_t value, size_t len)
{
	struct item *it = pump_must(calloc(1, sizeof *it));
	it->count = c;
	it->value = value;
	it->p.data = pump_must(repl_alloc(len ? len : 8));
	memset(it->p.data, (int)value, len);
	if (len >= 8)
		put_le64(it->p.data, value);
	it->p.len = len;
	it->p.committed = pump_committed;
	it->p.failed = pump_failed;
	int rc = repl_propose(r, group, &it->p);
	if (rc != 0)
		pump_failed(&it->p, rc);
}

void pump_await(struct count *c, unsigned n)
{
	vx_lock(&c->h->lock);
	while (c->committed + c->failed < n)
		vx_cond_wait(&c->h->cond, &c->h->lock);
	vx_unlock(&c->h->lock);
}

struct count pump_counted(struct count *c)
{
	vx_lock(&c->h->lock);
	struct count copy = *c;
	vx_unlock(&c->h->lock);
	return copy;
}

/* --- disks ------------------------------------------------------------------------------ */

static ssize_t small_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	struct small_disk *s = (struct small_disk *)d;
	uint64_t size = 0;
	if (atomic_load(&s->full) && d->ops->size(d, fd, &size) == 0 && off + n > size)
		return -ENOSPC;
	return disk_real()->ops->pwrite(disk_real(), fd, p, n, off);
}

static int small_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	struct small_disk *s = (struct small_disk *)d;
	if (atomic_load(&s->full))
		return -ENOSPC;
	return disk_real()->ops->allocate(disk_real(), fd, off, len);
}

static int small_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	struct small_disk *s = (struct small_disk *)d;
	if (atomic_load(&s->full) && (oflags & O_CREAT))
		return -ENOSPC;
	return disk_real()->ops->open(disk_real(), path, oflags, mode);
}

void small_disk_init(struct small_disk *s)
{
	*s = (struct small_disk){.ops = *disk_real()->ops};
	s->d.ops = &s->ops;
	s->ops.pwrite = small_pwrite;
	s->ops.allocate = small_allocate;
	s->ops.open = small_open;
}

/* As the groups are: an entry more of one, and then a vote of another, which it has given already. */
static uint64_t stage_more(struct wal *w, uint32_t group, uint32_t other)
{
	struct wal_group_state st;
	uint64_t at;
	assert_int_equal(wal_group_load(w, group, &st, NULL), 0);
	uint64_t last = st.n_entries ? st.entries[st.n_entries - 1].index : st.mark_index;
	struct wal_rec entry = {.group = group,
		.type = WAL_ENTRY,
		.etype = 1,
		.index = last + 1,
		.term = st.term,
		.data = "12345678",
		.len = 8};
	assert_int_equal(wal_stage(w, &entry), 0);
	assert_int_equal(wal_flush(w), 0);
	at = wal_cur(w)->end - WAL_BLOCK;
	wal_group_state_release(&st);
	assert_int_equal(wal_group_load(w, other, &st, NULL), 0);
	struct wal_rec vote = {
		.group = other, .type = WAL_HARDSTATE, .term = st.term, .vote = st.vote};
	wal_group_state_release(&st);
	assert_int_equal(wal_stage(w, &vote), 0);
	assert_int_equal(wal_flush(w), 0);
	return at;
}

void pump_lose(const struct repl_opts *o, uint32_t group)
{
	static const uint8_t zeros[WAL_BLOCK];
	char path[WAL_PATH_MAX];
	struct wal *w;
	assert_int_equal(wal_open(o->disk, o->wal_dir, &o->wal, &w, NULL), 0);
	uint64_t at = stage_more(w, group, group == FIRST ? FIRST + 1 : FIRST);
	wal_path(w, path, "wal", wal_cur(w)->seq);
	wal_close(w);
	int fd = o->disk->ops->open(o->disk, path, O_RDWR, 0);
	assert_true(fd >= 0);
	assert_int_equal(disk_pwrite(o->disk, fd, zeros, sizeof zeros, at), 0);
	assert_int_equal(o->disk->ops->fdatasync(o->disk, fd), 0);
	assert_int_equal(o->disk->ops->close(o->disk, fd), 0);
}
