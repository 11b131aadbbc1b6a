/* fakedisk.c - a disk in memory that loses power, fails and fills up.
 *
 * A file has two contents: what a reader sees, and what survives.  A write marks the sectors
 * it touches; fdatasync copies the marked ones.  Changes of the directory are kept in a list
 * until sync_dir; a crash applies those of them that the seed picks, in order, to the names
 * that survived the last one.
 */
#include "fakedisk.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR      FAKEDISK_SECTOR
#define FILES_MAX   256u
#define HANDLES_MAX 64u
#define CHANGES_MAX 256u
#define NAME_BYTES  128u

struct file {
	unsigned refs; /* names, changes and handles */
	uint8_t *data, *synced;
	uint8_t *dirty; /* by sector */
	size_t size, synced_size, cap;
	bool size_dirty;
};

struct name {
	char name[NAME_BYTES];
	struct file *file;
};

struct names {
	struct name v[FILES_MAX];
	unsigned n;
};

enum change_kind { CHANGE_CREATE, CHANGE_RENAME, CHANGE_UNLINK };

struct change {
	enum change_kind kind;
	char from[NAME_BYTES], to[NAME_BYTES];
	struct file *file; /* CREATE */
};

struct fakedisk {
	struct disk d; /* first */
	struct names live, durable;
	struct change changes[CHANGES_MAX];
	unsigned n_changes;
	struct file *handle[HANDLES_MAX];
	uint64_t rng, calls;
	_Atomic uint64_t limit; /* set while writers write */
	uint64_t fail_at;       /* value of 'calls' at which to fail; 0: never */
	int fail_err;
};

static struct fakedisk *fd_of(struct disk *d)
{
	return (struct fakedisk *)d;
}

static uint64_t draw(struct fakedisk *k)
{
	uint64_t z = k->rng += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Counts a changing call; true when it is the one to fail. */
static bool fails(struct fakedisk *k)
{
	return ++k->calls == k->fail_at;
}

/* --- files and names ------------------------------------------------------- */
static void unref(struct file *f)
{
	if (!f || --f->refs > 0)
		return;
	free(f->data);
	free(f->synced);
	free(f->dirty);
	free(f);
}

static struct name *find(struct names *l, const char *name)
{
	for (unsigned i = 0; i < l->n; i++) {
		if (strcmp(l->v[i].name, name) == 0)
			return &l->v[i];
	}
	return NULL;
}

static int names_add(struct names *l, const char *name, struct file *f)
{
	if (l->n == FILES_MAX || strlen(name) >= NAME_BYTES)
		return -ENOSPC;
	strcpy(l->v[l->n].name, name);
	l->v[l->n++].file = f;
	f->refs++;
	return 0;
}

static void names_remove(struct names *l, const char *name)
{
	struct name *n = find(l, name);

	if (!n)
		return;
	unref(n->file);
	*n = l->v[--l->n];
}

static void names_rename(struct names *l, const char *from, const char *to)
{
	if (!find(l, from))
		return;
	if (strcmp(from, to) != 0)
		names_remove(l, to);
	strcpy(find(l, from)->name, to);
}

static void names_clear(struct names *l)
{
	while (l->n)
		unref(l->v[--l->n].file);
}

static void names_copy(struct names *to, const struct names *from)
{
	for (unsigned i = 0; i < from->n; i++)
		from->v[i].file->refs++;
	names_clear(to);
	*to = *from;
}

static void changes_drop(struct fakedisk *k)
{
	while (k->n_changes)
		unref(k->changes[--k->n_changes].file);
}

static void note(
	struct fakedisk *k, enum change_kind kind, const char *from, const char *to, struct file *f)
{
	/* The kernel writes back by itself now and then. */
	if (k->n_changes == CHANGES_MAX) {
		names_copy(&k->durable, &k->live);
		changes_drop(k);
	}
	struct change *c = &k->changes[k->n_changes++];
	*c = (struct change){.kind = kind, .file = f};
	strcpy(c->from, from);
	strcpy(c->to, to ? to : "");
	if (f)
		f->refs++;
}

static int grow(struct file *f, size_t size)
{
	if (size <= f->cap)
		return 0;
	size_t cap = VX_ALIGN_UP(VX_MAX(size, 2 * f->cap), SECTOR);
	uint8_t *data = realloc(f->data, cap);
	if (data)
		f->data = data;
	uint8_t *synced = realloc(f->synced, cap);
	if (synced)
		f->synced = synced;
	uint8_t *dirty = realloc(f->dirty, cap / SECTOR);
	if (dirty)
		f->dirty = dirty;
	if (!data || !synced || !dirty)
		return -ENOMEM;
	memset(f->data + f->cap, 0, cap - f->cap);
	memset(f->synced + f->cap, 0, cap - f->cap);
	memset(f->dirty + f->cap / SECTOR, 0, (cap - f->cap) / SECTOR);
	f->cap = cap;
	return 0;
}

/* Space for the file to become 'size' long. */
static int room(struct fakedisk *k, const struct file *f, size_t size)
{
	uint64_t used = 0;

	if (size <= f->size)
		return 0;
	for (unsigned i = 0; i < k->live.n; i++)
		used += k->live.v[i].file->size;
	return used + size - f->size > atomic_load(&k->limit) ? -ENOSPC : 0;
}

static struct file *file_new(void)
{
	return calloc(1, sizeof(struct file));
}

/* --- disk_ops -------------------------------------------------------------- */
static int k_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	struct fakedisk *k = fd_of(d);
	struct name *n = find(&k->live, path);
	unsigned fd = 0;

	(void)mode;
	while (fd < HANDLES_MAX && k->handle[fd])
		fd++;
	if (fd == HANDLES_MAX)
		return -EMFILE;
	if (n && (oflags & O_CREAT) && (oflags & O_EXCL))
		return -EEXIST;
	if (!n) {
		if (!(oflags & O_CREAT))
			return -ENOENT;
		if (fails(k) && k->fail_err)
			return k->fail_err;
		struct file *f = file_new();
		if (!f)
			return -ENOMEM;
		if (strlen(path) >= NAME_BYTES || k->live.n == FILES_MAX) {
			free(f);
			return -ENOSPC;
		}
		note(k, CHANGE_CREATE, path, NULL, f);
		(void)names_add(&k->live, path, f);
		n = find(&k->live, path);
	} else if ((oflags & O_TRUNC) && n->file->size) {
		memset(n->file->data, 0, n->file->size);
		memset(n->file->dirty, 1, n->file->cap / SECTOR);
		n->file->size = 0;
		n->file->size_dirty = true;
	}
	n->file->refs++;
	k->handle[fd] = n->file;
	return (int)fd;
}

static int k_close(struct disk *d, int fd)
{
	struct fakedisk *k = fd_of(d);

	if (fd < 0 || fd >= (int)HANDLES_MAX || !k->handle[fd])
		return -EBADF;
	unref(k->handle[fd]);
	k->handle[fd] = NULL;
	return 0;
}

static ssize_t k_pread(struct disk *d, int fd, void *p, size_t n, uint64_t off)
{
	struct file *f = fd_of(d)->handle[fd];

	if (off >= f->size)
		return 0;
	n = VX_MIN(n, f->size - (size_t)off);
	memcpy(p, f->data + off, n);
	return (ssize_t)n;
}

static ssize_t k_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	struct fakedisk *k = fd_of(d);
	struct file *f = k->handle[fd];
	ssize_t result = (ssize_t)n;

	if (fails(k)) {
		/* Any first part of it may have got there. */
		n = k->fail_err && n ? draw(k) % n : n / 2;
		result = k->fail_err ? k->fail_err : (ssize_t)n;
	}
	if (n == 0)
		return result;
	int rc = room(k, f, (size_t)off + n);
	if (rc == 0)
		rc = grow(f, (size_t)off + n);
	if (rc)
		return rc;
	memcpy(f->data + off, p, n);
	memset(f->dirty + off / SECTOR, 1, (size_t)((off + n - 1) / SECTOR - off / SECTOR + 1));
	if (off + n > f->size) {
		f->size = (size_t)off + n;
		f->size_dirty = true;
	}
	return result;
}

/* A sector whose write-back failed stays visible and is no longer dirty: nothing will ever
 * write it, unless it is written anew. */
static int k_fdatasync(struct disk *d, int fd)
{
	struct fakedisk *k = fd_of(d);
	struct file *f = k->handle[fd];
	bool bad = fails(k) && k->fail_err;

	for (size_t s = 0; s < f->cap / SECTOR; s++) {
		if (f->dirty[s] && (!bad || draw(k) % 2))
			memcpy(f->synced + s * SECTOR, f->data + s * SECTOR, SECTOR);
		f->dirty[s] = 0;
	}
	if (!bad || draw(k) % 2)
		f->synced_size = f->size;
	f->size_dirty = false;
	return bad ? k->fail_err : 0;
}

static int k_truncate(struct disk *d, int fd, uint64_t size)
{
	struct fakedisk *k = fd_of(d);
	struct file *f = k->handle[fd];

	if (fails(k) && k->fail_err)
		return k->fail_err;
	int rc = room(k, f, (size_t)size);
	if (rc == 0)
		rc = grow(f, (size_t)size);
	if (rc)
		return rc;
	if (size < f->size) {
		memset(f->data + size, 0, f->size - (size_t)size);
		memset(f->dirty + size / SECTOR, 1,
			(f->size - 1) / SECTOR - (size_t)size / SECTOR + 1);
	}
	f->size = (size_t)size;
	f->size_dirty = true;
	return 0;
}

static int k_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	struct fakedisk *k = fd_of(d);
	struct file *f = k->handle[fd];

	if (fails(k) && k->fail_err)
		return k->fail_err;
	int rc = room(k, f, (size_t)(off + len));
	if (rc == 0)
		rc = grow(f, (size_t)(off + len));
	if (rc)
		return rc;
	f->size = VX_MAX(f->size, (size_t)(off + len));
	f->size_dirty = true;
	return 0;
}

static int k_size(struct disk *d, int fd, uint64_t *ret_size)
{
	*ret_size = fd_of(d)->handle[fd]->size;
	return 0;
}

static int k_unlink(struct disk *d, const char *path)
{
	struct fakedisk *k = fd_of(d);

	if (!find(&k->live, path))
		return -ENOENT;
	if (fails(k) && k->fail_err)
		return k->fail_err;
	note(k, CHANGE_UNLINK, path, NULL, NULL);
	names_remove(&k->live, path);
	return 0;
}

static int k_rename(struct disk *d, const char *from, const char *to)
{
	struct fakedisk *k = fd_of(d);

	if (!find(&k->live, from))
		return -ENOENT;
	if (strlen(to) >= NAME_BYTES)
		return -ENAMETOOLONG;
	if (fails(k) && k->fail_err)
		return k->fail_err;
	note(k, CHANGE_RENAME, from, to, NULL);
	names_rename(&k->live, from, to);
	return 0;
}

static int k_mkdir(struct disk *d, const char *path, mode_t mode)
{
	(void)d;
	(void)path;
	(void)mode;
	return 0;
}

static int k_sync_dir(struct disk *d, const char *path)
{
	struct fakedisk *k = fd_of(d);

	(void)path;
	if (fails(k) && k->fail_err)
		return k->fail_err;
	names_copy(&k->durable, &k->live);
	changes_drop(k);
	return 0;
}

static int k_list(
	struct disk *d, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
	struct fakedisk *k = fd_of(d);
	size_t len = strlen(path);
	int rc = 0;

	for (unsigned i = 0; i < k->live.n && rc == 0; i++) {
		const char *name = k->live.v[i].name;
		if (strncmp(name, path, len) == 0 && name[len] == '/')
			rc = each(arg, name + len + 1);
	}
	return rc;
}

static const struct disk_ops fakedisk_ops = {
	.open = k_open,
	.close = k_close,
	.pread = k_pread,
	.pwrite = k_pwrite,
	.fdatasync = k_fdatasync,
	.truncate = k_truncate,
	.allocate = k_allocate,
	.size = k_size,
	.rename = k_rename,
	.unlink = k_unlink,
	.mkdir = k_mkdir,
	.sync_dir = k_sync_dir,
	.list = k_list,
};

/* --- what tests ask -------------------------------------------------------- */
struct disk *fakedisk_new(void)
{
	struct fakedisk *k = calloc(1, sizeof *k);

	if (!k)
		return NULL;
	k->d.ops = &fakedisk_ops;
	atomic_init(&k->limit, UINT64_MAX);
	return &k->d;
}

static void drop_handles(struct fakedisk *k)
{
	for (unsigned i = 0; i < HANDLES_MAX; i++) {
		unref(k->handle[i]);
		k->handle[i] = NULL;
	}
}

void fakedisk_free(struct disk *d)
{
	if (!d)
		return;
	struct fakedisk *k = fd_of(d);
	drop_handles(k);
	changes_drop(k);
	names_clear(&k->live);
	names_clear(&k->durable);
	free(k);
}

struct disk *fakedisk_clone(const struct disk *d)
{
	const struct fakedisk *k = (const struct fakedisk *)d;
	struct disk *copy = fakedisk_new();

	for (unsigned i = 0; copy && i < k->live.n; i++) {
		const struct file *f = k->live.v[i].file;
		if (fakedisk_put(copy, k->live.v[i].name, f->data, f->size)) {
			fakedisk_free(copy);
			return NULL;
		}
	}
	return copy;
}

/* What survives becomes what is seen. */
static void settle(struct fakedisk *k, struct file *f)
{
	unsigned keep = (unsigned)(draw(k) % 4); /* none, all, or some of the sectors */
	size_t longest = VX_MAX(f->synced_size, f->size);

	for (size_t s = 0; s < f->cap / SECTOR; s++) {
		if (f->dirty[s] && (keep == 1 || (keep > 1 && draw(k) % 2)))
			memcpy(f->synced + s * SECTOR, f->data + s * SECTOR, SECTOR);
		f->dirty[s] = 0;
	}
	if (f->size_dirty && draw(k) % 2)
		f->synced_size = f->size;
	f->size_dirty = false;
	f->size = f->synced_size;
	if (f->cap) {
		if (longest > f->size)
			memset(f->synced + f->size, 0, longest - f->size);
		memcpy(f->data, f->synced, f->cap);
	}
}

void fakedisk_crash(struct disk *d, uint64_t seed)
{
	struct fakedisk *k = fd_of(d);

	k->rng = seed;
	k->fail_at = 0;
	drop_handles(k);
	unsigned keep = (unsigned)(draw(k) % 4);
	for (unsigned i = 0; i < k->n_changes; i++) {
		const struct change *c = &k->changes[i];
		if (keep == 0 || (keep > 1 && draw(k) % 2))
			continue;
		if (c->kind == CHANGE_CREATE && !find(&k->durable, c->from))
			(void)names_add(&k->durable, c->from, c->file);
		else if (c->kind == CHANGE_RENAME)
			names_rename(&k->durable, c->from, c->to);
		else if (c->kind == CHANGE_UNLINK)
			names_remove(&k->durable, c->from);
	}
	names_copy(&k->live, &k->durable);
	changes_drop(k);
	for (unsigned i = 0; i < k->live.n; i++)
		settle(k, k->live.v[i].file);
}

void fakedisk_fail_after(struct disk *d, uint64_t n, int err)
{
	struct fakedisk *k = fd_of(d);

	k->fail_at = n ? k->calls + n : 0;
	k->fail_err = err;
	k->rng += n;
}

uint64_t fakedisk_calls(const struct disk *d)
{
	return ((const struct fakedisk *)d)->calls;
}

void fakedisk_limit(struct disk *d, uint64_t bytes)
{
	atomic_store(&fd_of(d)->limit, bytes);
}

uint64_t fakedisk_used(const struct disk *d)
{
	const struct fakedisk *k = (const struct fakedisk *)d;
	uint64_t used = 0;

	for (unsigned i = 0; i < k->live.n; i++)
		used += k->live.v[i].file->size;
	return used;
}

uint8_t *fakedisk_bytes(struct disk *d, const char *path, size_t *ret_size)
{
	struct name *n = find(&fd_of(d)->live, path);

	if (!n)
		return NULL;
	*ret_size = n->file->size;
	return n->file->data;
}

int fakedisk_put(struct disk *d, const char *path, const void *p, size_t n)
{
	struct fakedisk *k = fd_of(d);
	struct file *f = file_new();

	if (!f)
		return -ENOMEM;
	f->refs = 1;
	int rc = grow(f, n);
	if (rc == 0 && n) {
		memcpy(f->data, p, n);
		memcpy(f->synced, p, n);
	}
	f->size = f->synced_size = n;
	names_remove(&k->live, path);
	names_remove(&k->durable, path);
	if (rc == 0)
		rc = names_add(&k->live, path, f);
	if (rc == 0)
		rc = names_add(&k->durable, path, f);
	unref(f);
	return rc;
}

bool fakedisk_same(const struct disk *a, const struct disk *b)
{
	const struct fakedisk *x = (const struct fakedisk *)a;
	struct fakedisk *y = (struct fakedisk *)b;

	if (x->live.n != y->live.n)
		return false;
	for (unsigned i = 0; i < x->live.n; i++) {
		const struct name *n = &x->live.v[i], *m = find(&y->live, n->name);
		if (!m || m->file->size != n->file->size ||
			(n->file->size && memcmp(m->file->data, n->file->data, n->file->size) != 0))
			return false;
	}
	return true;
}

unsigned fakedisk_open_handles(const struct disk *d)
{
	const struct fakedisk *k = (const struct fakedisk *)d;
	unsigned n = 0;

	for (unsigned i = 0; i < HANDLES_MAX; i++)
		n += k->handle[i] != NULL;
	return n;
}
