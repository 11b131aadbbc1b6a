/* snapshot.c - taking, listing, verifying and removing snapshots.
 *
 * Take:
 *	1. DATA/snapshots/docs/.NAME.new-XXXXXXXX is made.
 *	2. Each slice writes its files into it (lib/store/snap.c), each at one applied index of its own.
 *	3. Every record of it is read back as a restore would read it; a snapshot that could not be restored
 *	   is none.
 *	4. Each file is hashed and synced; the manifest is written and synced, then the directory.
 *	5. rename to NAME (fails where there is one), fsync of the parent.      (point of no return)
 *
 * Remove is the reverse: a rename to a name with a dot, then the files.  What a kill leaves has a name with a dot,
 * which nothing looks at and the next start removes.
 *
 * Slices are taken one after the other: a snapshot of a collection that is spread over shards has an index
 * for each, and a batch over several shards may be in one of them and not in another, as in any scan.
 */
#include "cluster/snapshot.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "cluster/snapshot_i.h"

#define READ_BYTES (1u << 20)
#define TRIES_MAX  16u
#define CHECK_EACH 1024u /* records between two looks at 'stop' */

/* --- paths ----------------------------------------------------------------------------------- */

int snap_path_of(const struct db *db, const char *coll, const char *name, const char *file,
	char ret[SNAP_PATH_MAX])
{
	return path_join(ret, SNAP_PATH_MAX, "%s/" SNAP_DIR "/%s%s%s%s%s", db->dir, coll,
		name ? "/" : "", name ? name : "", file ? "/" : "", file ? file : "");
}

void snap_prefix(uint32_t shard, char ret[MANIFEST_PREFIX])
{
	snprintf(ret, MANIFEST_PREFIX, "s%03u", shard % 1000);
}

static int sync_dir(const char *path, struct vx_err *err)
{
	int rc = disk_real()->ops->sync_dir(disk_real(), path);

	return rc ? vx_err_set(err, rc, "%s: cannot sync", path) : 0;
}

/* Makes a directory whose parent is there, durably. */
static int ensure_dir(const char *parent, const char *path, struct vx_err *err)
{
	if (mkdir(path, 0700) < 0) {
		if (errno != EEXIST)
			return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
		return 0;
	}
	return sync_dir(parent, err);
}

int snap_make_dir(struct db *db, const char *coll, const char *name, char ret[SNAP_PATH_MAX],
	struct vx_err *err)
{
	char top[SNAP_PATH_MAX], parent[SNAP_PATH_MAX], hidden[VX_NAME_MAX + 32];
	uint32_t r = 0;

	int rc = path_join(top, sizeof top, "%s/" SNAP_DIR, db->dir);
	if (rc == 0)
		rc = snap_path_of(db, coll, NULL, NULL, parent);
	if (rc == 0)
		rc = ensure_dir(db->dir, top, err);
	for (unsigned i = 0; rc == 0 && i < TRIES_MAX; i++) {
		/* A removal of the last one takes the parent away. */
		rc = ensure_dir(top, parent, err);
		(void)!getrandom(&r, sizeof r, 0);
		snprintf(hidden, sizeof hidden, ".%s.new-%08x", name, r);
		if (rc == 0)
			rc = snap_path_of(db, coll, hidden, NULL, ret);
		if (rc || mkdir(ret, 0700) == 0)
			return rc;
		if (errno != EEXIST && errno != ENOENT)
			return vx_err_set(err, -errno, "%s: %s", ret, strerror(errno));
	}
	return rc ? rc : vx_err_set(err, -EBUSY, "%s: cannot make a directory", parent);
}

void snap_remove_dir(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	if (rmdir(dir) < 0 && errno != ENOENT)
		log_warn("snapshot", "%s: cannot be removed: %s", dir, strerror(errno));
}

/* --- files ----------------------------------------------------------------------------------- */

int snap_sum(const char *path, snap_stop_fn *stop, void *ctx, uint64_t *ret_size, uint64_t *ret_sum,
	struct vx_err *err)
{
	uint8_t *p = malloc(READ_BYTES);
	struct hash_stream *h = hash_stream_new();
	int fd = p && h ? open(path, O_RDONLY | O_CLOEXEC) : -1, rc = 0;
	uint64_t size = 0;

	if (fd < 0)
		rc = p && h ? vx_err_set(err, errno == ENOENT ? -EUCLEAN : -errno, "%s: %s", path,
				      strerror(errno))
			    : -ENOMEM;
	while (rc == 0) {
		ssize_t n = read(fd, p, READ_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = vx_err_set(err, -errno, "%s: cannot read", path);
		else if (stop && stop(ctx))
			rc = -EINTR;
		if (n <= 0 || rc)
			break;
		hash_stream_add(h, p, (size_t)n);
		size += (uint64_t)n;
	}
	if (rc == 0) {
		*ret_size = size;
		*ret_sum = hash_stream_sum(h);
	}
	if (fd >= 0)
		close(fd);
	hash_stream_free(h);
	free(p);
	return rc;
}

int snap_sync(const char *path, struct vx_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return vx_err_set(err, -errno, "%s: cannot open", path);
	int rc = fsync(fd) < 0 ? vx_err_set(err, -errno, "%s: cannot sync", path) : 0;
	close(fd);
	return rc;
}

int snap_publish(struct db *db, const char *dir, const char *coll, const char *name,
	const void *manifest, size_t len, struct vx_err *err)
{
	char parent[SNAP_PATH_MAX], path[SNAP_PATH_MAX];

	int rc = disk_write_file(disk_real(), dir, MANIFEST_NAME, manifest, len);
	if (rc)
		return vx_err_set(err, rc, "%s: cannot write the manifest", dir);
	rc = sync_dir(dir, err);
	if (rc == 0)
		rc = snap_path_of(db, coll, NULL, NULL, parent);
	if (rc == 0)
		rc = snap_path_of(db, coll, name, NULL, path);
	if (rc)
		return rc;
	/* A directory with files in it is never replaced. */
	if (rename(dir, path) < 0) {
		rc = errno == ENOTEMPTY || errno == EEXIST ? -EEXIST : -errno;
		return vx_err_set(err, rc,
			rc == -EEXIST ? "snapshot '%s' of '%s' exists already"
				      : "snapshot '%s' of '%s' cannot get its name",
			name, coll);
	}
	return sync_dir(parent, err);
}

/* --- manifests ------------------------------------------------------------------------------- */

static int read_whole(int fd, struct buf *out)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > (off_t)MANIFEST_BYTES_MAX)
		return -EUCLEAN;
	int rc = buf_reserve(out, (size_t)st.st_size);
	if (rc == 0)
		rc = disk_pread(disk_real(), fd, out->data, (size_t)st.st_size, 0);
	if (rc == 0)
		out->len = (size_t)st.st_size;
	return rc;
}

int snap_load(
	struct db *db, const char *coll, const char *name, struct manifest *ret, struct vx_err *err)
{
	struct buf b = BUF_INIT;

	int dir = snapshot_open(db, coll, name, NULL);
	if (dir < 0)
		return vx_err_set(err, dir, "there is no snapshot '%s' of '%s'", name, coll);
	close(dir);
	int fd = snapshot_open(db, coll, name, MANIFEST_NAME);
	if (fd < 0)
		return vx_err_set(err, fd == -ENOENT ? -EUCLEAN : fd,
			"snapshot '%s' of '%s': the manifest cannot be read", name, coll);
	int rc = read_whole(fd, &b);
	close(fd);
	if (rc == 0)
		rc = manifest_parse(b.data, b.len, ret, err);
	buf_release(&b);
	if (rc)
		vx_err_prefix(err, "snapshot '%s' of '%s'", name, coll);
	return rc;
}

/* --- taking ---------------------------------------------------------------------------------- */

int snap_check_slice(const char *dir, const struct manifest_slice *s, snap_stop_fn *stop, void *ctx,
	int (*each)(void *arg, const struct vx_record *rec, struct vx_err *err), void *arg,
	struct vx_err *err)
{
	char prefix[MANIFEST_PREFIX];
	struct snap_reader *r;
	struct snap_slice info;
	struct vx_record rec;

	snap_prefix(s->shard, prefix);
	int rc = snap_reader_open(dir, prefix, &r, err);
	if (rc)
		return rc;
	snap_reader_stat(r, &info);
	if (info.applied != s->info.applied || info.count != s->info.count ||
		info.slots != s->info.slots || info.dim != s->info.dim || info.cid != s->info.cid)
		rc = vx_err_set(err, -EUCLEAN, "%s: not what the manifest says", prefix);
	while (rc == 0 && (rc = snap_reader_next(r, &rec, err)) == 0) {
		if (rec.line % CHECK_EACH == 0 && stop && stop(ctx))
			rc = -EINTR;
		else if (each)
			rc = each(arg, &rec, err);
		/* Only the reader's own end is the end. */
		if (rc == -ENOENT)
			rc = -EIO;
	}
	snap_reader_close(r);
	return rc == -ENOENT ? 0 : rc;
}

static int take_slice(struct coll *c, uint32_t shard, const char *dir, struct manifest *m,
	snap_stop_fn *stop, void *ctx, struct vx_err *err)
{
	char prefix[MANIFEST_PREFIX];
	struct snap_slice info;
	int rc = 0;
	struct slice *sl = coll_slice(c, shard, &rc, err);

	if (!sl)
		return rc; /* 0: no record ever got there */
	snap_prefix(shard, prefix);
	rc = home_space_check(c->db, (size_t)slice_snap_need(sl) / 4, false, err);
	if (rc == 0)
		rc = slice_snap(sl, dir, prefix, &info, err);
	slice_put(sl);
	if (rc == 0)
		rc = manifest_add_slice(m, shard, &info);
	if (rc)
		return rc;
	return snap_check_slice(dir, &m->slices[m->n_slices - 1], stop, ctx, NULL, NULL, err);
}

static int by_name(const void *a, const void *b)
{
	const struct manifest_file *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int by_shard(const void *a, const void *b)
{
	const struct manifest_slice *x = a, *y = b;

	return (x->shard > y->shard) - (x->shard < y->shard);
}

/* Hashes and syncs what the slices wrote. */
static int seal_files(
	const char *dir, struct manifest *m, snap_stop_fn *stop, void *ctx, struct vx_err *err)
{
	char path[SNAP_PATH_MAX];
	DIR *d = opendir(dir);
	struct dirent *e;
	int rc = d ? 0 : -errno;

	while (rc == 0 && (e = readdir(d))) {
		uint64_t size = 0, sum = 0;
		if (e->d_name[0] == '.')
			continue;
		rc = path_join(path, sizeof path, "%s/%s", dir, e->d_name);
		if (rc == 0)
			rc = snap_sum(path, stop, ctx, &size, &sum, err);
		if (rc == 0)
			rc = snap_sync(path, err);
		if (rc == 0)
			rc = manifest_add_file(m, e->d_name, size, sum);
	}
	if (d)
		closedir(d);
	if (rc == 0 && m->n_files)
		qsort(m->files, m->n_files, sizeof *m->files, by_name);
	return rc;
}

/* Options that differ from their defaults. */
static int copy_options(struct coll *c, struct manifest *m)
{
	int rc = 0;

	vx_lock(&c->db->coll_lock);
	for (int o = 0; o < CO_N && rc == 0; o++)
		if (c->opt[o] && c->opt[o][0])
			rc = manifest_add_option(m, coll_options[o].name, c->opt[o]);
	vx_unlock(&c->db->coll_lock);
	return rc;
}

static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Fills the directory and the manifest. */
static int take_all(struct coll *c, const char *dir, struct manifest *m, snap_stop_fn *stop,
	void *ctx, struct vx_err *err)
{
	int rc = copy_options(c, m);

	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++) {
		bool seen = false;
		for (uint32_t j = 0; j < i; j++)
			seen |= c->places[j].shard == c->places[i].shard;
		if (!seen)
			rc = take_slice(c, c->places[i].shard, dir, m, stop, ctx, err);
	}
	if (rc == 0 && m->n_slices)
		qsort(m->slices, m->n_slices, sizeof *m->slices, by_shard);
	return rc ? rc : seal_files(dir, m, stop, ctx, err);
}

int snapshot_take(
	struct coll *c, const char *name, snap_stop_fn *stop, void *ctx, struct vx_err *err)
{
	struct manifest m = {.cid = c->cid, .time_ns = wall_ns()};
	struct buf text = BUF_INIT;
	char dir[SNAP_PATH_MAX];

	int rc = vx_name_check(name, err);
	if (rc)
		return rc;
	int fd = snapshot_open(c->db, c->name, name, NULL);
	if (fd >= 0) {
		close(fd);
		return vx_err_set(
			err, -EEXIST, "snapshot '%s' of '%s' exists already", name, c->name);
	}
	rc = snap_make_dir(c->db, c->name, name, dir, err);
	if (rc)
		return rc;
	snprintf(m.name, sizeof m.name, "%s", name);
	snprintf(m.coll, sizeof m.coll, "%s", c->name);
	rc = take_all(c, dir, &m, stop, ctx, err);
	if (rc == 0)
		rc = manifest_print(&m, &text);
	if (rc == 0)
		rc = snap_publish(c->db, dir, c->name, name, text.data, text.len, err);
	if (rc)
		snap_remove_dir(dir);
	else
		log_info("snapshot", "%s of %s: %llu records, %llu MiB", name, c->name,
			(unsigned long long)manifest_records(&m),
			(unsigned long long)(manifest_bytes(&m) >> 20));
	buf_release(&text);
	manifest_release(&m);
	return rc;
}

/* --- looking --------------------------------------------------------------------------------- */

int snapshot_open(struct db *db, const char *coll, const char *name, const char *file)
{
	char path[SNAP_PATH_MAX];

	if (vx_name_check(coll, NULL) || vx_name_check(name, NULL) ||
		(file && vx_name_check(file, NULL)))
		return -ENOENT;
	int rc = snap_path_of(db, coll, name, file, path);
	if (rc)
		return rc;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (file ? 0 : O_DIRECTORY));
	return fd < 0 ? (errno == ENOTDIR || errno == ELOOP ? -ENOENT : -errno) : fd;
}

static int compare_names(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

/* Names in 'path' that are good ones, sorted, NUL-ended one after another; nothing where there is no such
 * directory. */
static int list_names(const char *path, struct buf *out)
{
	const char **names = NULL;
	size_t n = 0;
	DIR *d = opendir(path);
	struct dirent *e;
	struct buf raw = BUF_INIT;
	int rc = d || errno == ENOENT || errno == ENOTDIR ? 0 : -errno;

	while (d && rc == 0 && (e = readdir(d))) {
		if (vx_name_check(e->d_name, NULL))
			continue;
		rc = buf_append(&raw, e->d_name, strlen(e->d_name) + 1);
		n++;
	}
	if (d)
		closedir(d);
	if (rc == 0 && n && !(names = calloc(n, sizeof *names)))
		rc = -ENOMEM;
	const char *p = (const char *)raw.data;
	for (size_t i = 0; rc == 0 && i < n; i++, p += strlen(p) + 1)
		names[i] = p;
	if (rc == 0 && n)
		qsort(names, n, sizeof *names, compare_names);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = buf_append(out, names[i], strlen(names[i]) + 1);
	free(names);
	buf_release(&raw);
	return rc;
}

int snapshot_names(struct db *db, const char *coll, struct buf *out)
{
	char path[SNAP_PATH_MAX];

	int rc = vx_name_check(coll, NULL) ? -ENOENT : snap_path_of(db, coll, NULL, NULL, path);
	return rc ? rc : list_names(path, out);
}

static int list_coll(struct db *db, const char *coll,
	int (*each)(void *arg, const struct snap_info *s), void *arg)
{
	struct buf names = BUF_INIT;

	int rc = snapshot_names(db, coll, &names);
	for (size_t at = 0; rc == 0 && at < names.len;) {
		const char *name = (const char *)names.data + at;
		struct snap_info s = {.coll = coll, .name = name};
		struct manifest m = {.cid = 0};
		at += strlen(name) + 1;
		int bad = snap_load(db, coll, name, &m, NULL);
		if (bad == -ENOENT)
			continue;
		/* A damaged one is listed with nothing in it. */
		if (bad == 0) {
			s.time_ns = m.time_ns;
			s.records = manifest_records(&m);
			s.bytes = manifest_bytes(&m);
			s.files = m.n_files;
			manifest_release(&m);
		}
		rc = each(arg, &s);
	}
	buf_release(&names);
	return rc;
}

int snapshot_list(struct db *db, const char *coll,
	int (*each)(void *arg, const struct snap_info *s), void *arg)
{
	struct buf colls = BUF_INIT;
	char path[SNAP_PATH_MAX];

	if (coll)
		return list_coll(db, coll, each, arg);
	int rc = path_join(path, sizeof path, "%s/" SNAP_DIR, db->dir);
	if (rc == 0)
		rc = list_names(path, &colls);
	for (size_t at = 0; rc == 0 && at < colls.len;) {
		const char *p = (const char *)colls.data + at;
		at += strlen(p) + 1;
		rc = list_coll(db, p, each, arg);
	}
	buf_release(&colls);
	return rc;
}

int snapshot_files(struct db *db, const char *coll, const char *name,
	int (*each)(void *arg, const struct snap_entry *f), void *arg, struct vx_err *err)
{
	struct manifest m;
	struct stat st;

	int rc = snap_load(db, coll, name, &m, err);
	if (rc)
		return rc;
	int fd = snapshot_open(db, coll, name, MANIFEST_NAME);
	rc = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	struct snap_entry e = {.name = MANIFEST_NAME, .size = rc ? 0 : (uint64_t)st.st_size};
	if (rc == 0)
		rc = each(arg, &e);
	for (size_t i = 0; rc == 0 && i < m.n_files; i++) {
		e = (struct snap_entry){m.files[i].name, m.files[i].size, m.files[i].sum};
		rc = each(arg, &e);
	}
	manifest_release(&m);
	return rc;
}

static int verify_files(struct db *db, const char *coll, const char *name, const struct manifest *m,
	snap_stop_fn *stop, void *ctx, struct vx_err *err)
{
	char path[SNAP_PATH_MAX];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < m->n_files; i++) {
		const struct manifest_file *f = &m->files[i];
		uint64_t size = 0, sum = 0;
		rc = snap_path_of(db, coll, name, f->name, path);
		if (rc == 0)
			rc = snap_sum(path, stop, ctx, &size, &sum, err);
		if (rc == 0 && (size != f->size || sum != f->sum))
			rc = vx_err_set(err, -EUCLEAN,
				"snapshot '%s' of '%s': %s is damaged: its %s is not that of the "
				"manifest",
				name, coll, f->name, size != f->size ? "length" : "checksum");
	}
	return rc;
}

int snapshot_verify(struct db *db, const char *coll, const char *name, snap_stop_fn *stop,
	void *ctx, struct vx_err *err)
{
	struct manifest m;
	char dir[SNAP_PATH_MAX];

	int rc = snap_load(db, coll, name, &m, err);
	if (rc)
		return rc;
	rc = verify_files(db, coll, name, &m, stop, ctx, err);
	if (rc == 0)
		rc = snap_path_of(db, coll, name, NULL, dir);
	for (size_t i = 0; rc == 0 && i < m.n_slices; i++)
		rc = snap_check_slice(dir, &m.slices[i], stop, ctx, NULL, NULL, err);
	manifest_release(&m);
	return rc;
}

/* --- removing -------------------------------------------------------------------------------- */

int snapshot_remove(struct db *db, const char *coll, const char *name, struct vx_err *err)
{
	char path[SNAP_PATH_MAX], gone[SNAP_PATH_MAX], parent[SNAP_PATH_MAX];
	uint32_t r = 0;

	int fd = snapshot_open(db, coll, name, NULL);
	if (fd < 0)
		return vx_err_set(err, fd, "there is no snapshot '%s' of '%s'", name, coll);
	close(fd);
	(void)!getrandom(&r, sizeof r, 0);
	int rc = snap_path_of(db, coll, name, NULL, path);
	if (rc == 0)
		rc = snap_path_of(db, coll, NULL, NULL, parent);
	if (rc == 0)
		rc = path_join(gone, sizeof gone, "%s/.%s.gone-%08x", parent, name, r);
	if (rc == 0 && rename(path, gone) < 0)
		rc = vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (rc == 0)
		rc = sync_dir(parent, err);
	if (rc)
		return rc;
	snap_remove_dir(gone);
	(void)rmdir(parent); /* the last one; fails where there are others */
	return 0;
}

/* Removes what starts with a dot. */
static void sweep(const char *parent)
{
	char path[SNAP_PATH_MAX];
	DIR *d = opendir(parent);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] != '.' || strcmp(e->d_name, ".") == 0 ||
			strcmp(e->d_name, "..") == 0 ||
			path_join(path, sizeof path, "%s/%s", parent, e->d_name))
			continue;
		log_info("snapshot", "%s: left over, removed", path);
		snap_remove_dir(path);
	}
	if (d)
		closedir(d);
	(void)rmdir(parent);
}

void snapshots_sweep(struct db *db)
{
	char path[SNAP_PATH_MAX];
	struct buf colls = BUF_INIT;

	int rc = path_join(path, sizeof path, "%s/" SNAP_DIR, db->dir);
	if (rc == 0)
		rc = list_names(path, &colls);
	for (size_t at = 0; rc == 0 && at < colls.len;) {
		const char *p = (const char *)colls.data + at;
		at += strlen(p) + 1;
		if (snap_path_of(db, p, NULL, NULL, path) == 0)
			sweep(path);
	}
	buf_release(&colls);
}
