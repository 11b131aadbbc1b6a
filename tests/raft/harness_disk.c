/* harness_disk.c - a disk in memory that can lose power.
 *
 * A file has two contents: what a reader sees, and what has been synced.  A write marks the
 * 512-byte sectors it touches; fdatasync makes the file's sectors durable; a crash keeps of
 * the unsynced sectors those that the seed picks, each as a whole, and forgets renames, creations
 * and removals whose directory was not synced.  (The harness's log lives in one directory,
 * so there is one list of names.)
 */
#include "harness_disk.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR      512u
#define FILES_MAX   256u
#define HANDLES_MAX 64u
#define NAME_BYTES  128u

struct hfile {
	unsigned refs; /* names (live and durable) and handles */
	uint8_t *data, *synced;
	uint8_t *dirty; /* by sector */
	size_t size, synced_size, cap;
};

struct hname {
	char name[NAME_BYTES];
	struct hfile *file;
};

struct hdisk {
	struct disk d; /* first */
	struct hname live[FILES_MAX], durable[FILES_MAX];
	unsigned n_live, n_durable;
	struct hfile *handle[HANDLES_MAX];
	bool torn;
	uint64_t rng;
};

static struct hdisk *hd(struct disk *d)
{
	return (struct hdisk *)d;
}

static uint64_t draw(struct hdisk *h)
{
	uint64_t z = h->rng += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	return z ^ (z >> 31);
}

static void unref(struct hfile *f)
{
	if (--f->refs > 0)
		return;
	free(f->data);
	free(f->synced);
	free(f->dirty);
	free(f);
}

static struct hname *find(struct hname *list, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	}
	return NULL;
}

static int grow(struct hfile *f, size_t size)
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

static int h_open(struct disk *d, const char *path, int oflags, mode_t mode)
{
	struct hdisk *h = hd(d);
	struct hname *n = find(h->live, h->n_live, path);
	unsigned fd = 0;
	(void)mode;
	while (fd < HANDLES_MAX && h->handle[fd])
		fd++;
	if (fd == HANDLES_MAX)
		return -EMFILE;
	if (n && (oflags & O_CREAT) && (oflags & O_EXCL))
		return -EEXIST;
	if (!n && !(oflags & O_CREAT))
		return -ENOENT;
	if (!n) {
		if (h->n_live == FILES_MAX || strlen(path) >= NAME_BYTES)
			return -ENOSPC;
		struct hfile *f = calloc(1, sizeof *f);
		if (!f)
			return -ENOMEM;
		f->refs = 1;
		n = &h->live[h->n_live++];
		strcpy(n->name, path);
		n->file = f;
	}
	if (oflags & O_TRUNC)
		n->file->size = 0;
	n->file->refs++;
	h->handle[fd] = n->file;
	return (int)fd;
}

static int h_close(struct disk *d, int fd)
{
	struct hdisk *h = hd(d);
	unref(h->handle[fd]);
	h->handle[fd] = NULL;
	return 0;
}

static ssize_t h_pread(struct disk *d, int fd, void *p, size_t n, uint64_t off)
{
	struct hfile *f = hd(d)->handle[fd];
	if (off >= f->size)
		return 0;
	n = VX_MIN(n, f->size - (size_t)off);
	memcpy(p, f->data + off, n);
	return (ssize_t)n;
}

static ssize_t h_pwrite(struct disk *d, int fd, const void *p, size_t n, uint64_t off)
{
	struct hfile *f = hd(d)->handle[fd];
	if (n == 0)
		return 0;
	if (grow(f, off + n) != 0)
		return -ENOSPC;
	memcpy(f->data + off, p, n);
	memset(f->dirty + off / SECTOR, 1, (off + n - 1) / SECTOR - off / SECTOR + 1);
	f->size = VX_MAX(f->size, off + n);
	return (ssize_t)n;
}

static int h_fdatasync(struct disk *d, int fd)
{
	struct hdisk *h = hd(d);
	struct hfile *f = h->handle[fd];
	if (h->torn)
		return 0; /* power is about to go */
	for (size_t s = 0; s < f->cap / SECTOR; s++) {
		if (f->dirty[s])
			memcpy(f->synced + s * SECTOR, f->data + s * SECTOR, SECTOR);
		f->dirty[s] = 0;
	}
	f->synced_size = f->size;
	return 0;
}

static int h_truncate(struct disk *d, int fd, uint64_t size)
{
	struct hfile *f = hd(d)->handle[fd];
	if (grow(f, size) != 0)
		return -ENOSPC;
	if (size < f->size) {
		memset(f->data + size, 0, f->size - size);
		memset(f->dirty + size / SECTOR, 1, (f->size - 1) / SECTOR - size / SECTOR + 1);
	}
	f->size = size;
	return 0;
}

static int h_allocate(struct disk *d, int fd, uint64_t off, uint64_t len)
{
	struct hfile *f = hd(d)->handle[fd];
	if (grow(f, off + len) != 0)
		return -ENOSPC;
	f->size = VX_MAX(f->size, off + len);
	return 0;
}

static int h_size(struct disk *d, int fd, uint64_t *ret_size)
{
	*ret_size = hd(d)->handle[fd]->size;
	return 0;
}

static int h_unlink(struct disk *d, const char *path)
{
	struct hdisk *h = hd(d);
	struct hname *n = find(h->live, h->n_live, path);
	if (!n)
		return -ENOENT;
	unref(n->file);
	*n = h->live[--h->n_live];
	return 0;
}

static int h_rename(struct disk *d, const char *from, const char *to)
{
	struct hdisk *h = hd(d);
	if (!find(h->live, h->n_live, from))
		return -ENOENT;
	if (strlen(to) >= NAME_BYTES)
		return -ENAMETOOLONG;
	if (find(h->live, h->n_live, to))
		(void)h_unlink(d, to);
	strcpy(find(h->live, h->n_live, from)->name, to);
	return 0;
}

static int h_mkdir(struct disk *d, const char *path, mode_t mode)
{
	(void)d;
	(void)path;
	(void)mode;
	return 0;
}

static void copy_names(struct hname *to, unsigned *n_to, const struct hname *from, unsigned n_from)
{
	for (unsigned i = 0; i < n_from; i++)
		from[i].file->refs++;
	for (unsigned i = 0; i < *n_to; i++)
		unref(to[i].file);
	memcpy(to, from, n_from * sizeof *from);
	*n_to = n_from;
}

static int h_sync_dir(struct disk *d, const char *path)
{
	struct hdisk *h = hd(d);
	(void)path;
	if (!h->torn)
		copy_names(h->durable, &h->n_durable, h->live, h->n_live);
	return 0;
}

static int h_list(
	struct disk *d, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
	struct hdisk *h = hd(d);
	size_t len = strlen(path);
	for (unsigned i = 0; i < h->n_live; i++) {
		const char *name = h->live[i].name;
		if (strncmp(name, path, len) != 0 || name[len] != '/')
			continue;
		int rc = each(arg, name + len + 1);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static const struct disk_ops harness_ops = {
	.open = h_open,
	.close = h_close,
	.pread = h_pread,
	.pwrite = h_pwrite,
	.fdatasync = h_fdatasync,
	.truncate = h_truncate,
	.allocate = h_allocate,
	.size = h_size,
	.rename = h_rename,
	.unlink = h_unlink,
	.mkdir = h_mkdir,
	.sync_dir = h_sync_dir,
	.list = h_list,
};

struct disk *harness_disk_new(void)
{
	struct hdisk *h = calloc(1, sizeof *h);
	if (!h)
		return NULL;
	h->d.ops = &harness_ops;
	return &h->d;
}

void harness_disk_free(struct disk *d)
{
	struct hdisk *h = hd(d);
	for (unsigned i = 0; i < HANDLES_MAX; i++) {
		if (h->handle[i])
			unref(h->handle[i]);
	}
	for (unsigned i = 0; i < h->n_live; i++)
		unref(h->live[i].file);
	for (unsigned i = 0; i < h->n_durable; i++)
		unref(h->durable[i].file);
	free(h);
}

void harness_disk_tear(struct disk *d, uint64_t seed)
{
	hd(d)->torn = true;
	hd(d)->rng = seed;
}

/* What the platters hold becomes what is seen. */
static void settle_file(struct hdisk *h, struct hfile *f)
{
	unsigned keep = (unsigned)(draw(h) % 3); /* none, some or all of the unsynced sectors */
	for (size_t s = 0; s < f->cap / SECTOR; s++) {
		if (f->dirty[s] && (keep == 2 || (keep == 1 && draw(h) % 2)))
			memcpy(f->synced + s * SECTOR, f->data + s * SECTOR, SECTOR);
		f->dirty[s] = 0;
	}
	if (keep > 0)
		f->synced_size = VX_MAX(f->synced_size, f->size);
	f->size = f->synced_size;
	if (f->cap > 0)
		memcpy(f->data, f->synced, f->cap);
}

void harness_disk_crash(struct disk *d, uint64_t seed)
{
	struct hdisk *h = hd(d);
	h->rng ^= seed;
	h->torn = false;
	copy_names(h->live, &h->n_live, h->durable, h->n_durable);
	for (unsigned i = 0; i < h->n_live; i++)
		settle_file(h, h->live[i].file);
}
