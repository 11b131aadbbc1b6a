/* seg.c - segment files: 65,536 slots of vectors, slot rows and long ids.
 *
 * docs/format-store.md, "Segments".  The applier writes through pwrite, so that a full disk is an
 * error code and not a signal; everybody reads through one shared mapping of the whole file, whose
 * length is set before anything is mapped.  Nothing here knows about views: callers ask only for
 * slots that were published, or that they wrote themselves.
 *
 * A vector is hashed when it is first touched and then remembered in a bitmap.  Two threads may
 * both hash it; the bit only saves work, so it needs no ordering.
 */
#include "store/store_i.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "base/log.h"

#define SEG_VERSION    1u
#define SEG_HEADER_SUM 4088u
#define SEG_STEP_MIN   (64u << 10)
#define SEG_STEP_MAX   (1u << 20)

static const char seg_magic[8] = {'V', 'E', 'C', 'F', 'S', 'V', 'E', 'C'};

uint64_t seg_file_size(uint32_t dim)
{
	return SEG_OFF_VECS + (uint64_t)SEG_SLOTS * dim * sizeof(float);
}

static void header_encode(uint8_t *p, uint32_t cid, uint32_t generation, uint32_t no, uint32_t dim)
{
	memset(p, 0, SEG_OFF_ROWS);
	memcpy(p, seg_magic, sizeof seg_magic);
	put_le32(p + 8, SEG_VERSION);
	put_le32(p + 12, cid);
	put_le32(p + 16, generation);
	put_le32(p + 20, no);
	put_le32(p + 24, dim);
	put_le32(p + 28, SEG_SLOTS);
	put_le32(p + 32, SEG_ROW_SIZE);
	put_le32(p + 36, SEG_CELL_SIZE);
	put_le64(p + 40, SEG_OFF_ROWS);
	put_le64(p + 48, SEG_OFF_CELLS);
	put_le64(p + 56, SEG_OFF_VECS);
	put_le64(p + 64, seg_file_size(dim));
	put_le64(p + SEG_HEADER_SUM, hash_xxh3(p, SEG_HEADER_SUM, 0));
}

static void seg_name(char ret[STORE_PATH_MAX + 32], const char *gen_dir, uint32_t no)
{
	snprintf(ret, STORE_PATH_MAX + 32, "%s/%06u.vec", gen_dir, no);
}

/* An existing file must have exactly the header that we would write. */
static int header_check(struct disk *d, int fd, const uint8_t *want, uint64_t size)
{
	uint8_t have[SEG_OFF_ROWS];
	uint64_t have_size;

	int rc = d->ops->size(d, fd, &have_size);
	if (rc)
		return rc;
	if (have_size < size)
		return -EUCLEAN;
	rc = disk_pread(d, fd, have, sizeof have, 0);
	if (rc)
		return rc;
	return memcmp(have, want, sizeof have) == 0 ? 0 : -EUCLEAN;
}

static int header_make(struct disk *d, int fd, const uint8_t *header, uint64_t size)
{
	int rc = d->ops->truncate(d, fd, 0);
	if (rc == 0)
		rc = d->ops->truncate(d, fd, size);
	if (rc == 0)
		rc = disk_pwrite(d, fd, header, SEG_OFF_ROWS, 0);
	return rc;
}

int seg_open(struct disk *d, const char *gen_dir, uint32_t cid, uint32_t generation, uint32_t no,
	uint32_t dim, bool fresh, struct seg **ret, struct vx_err *err)
{
	char path[STORE_PATH_MAX + 32];
	uint8_t header[SEG_OFF_ROWS];
	uint64_t size = seg_file_size(dim);

	seg_name(path, gen_dir, no);
	header_encode(header, cid, generation, no, dim);
	struct seg *g = calloc(1, sizeof *g);
	if (!g)
		return vx_err_set(err, -ENOMEM, "no memory for a segment");
	*g = (struct seg){.no = no, .cid = cid, .dim = dim, .map_len = size, .fd = -1};
	int fd = d->ops->open(d, path, O_RDWR | (fresh ? O_CREAT : 0), 0644);
	if (fd < 0) {
		free(g);
		return vx_err_set(err, fd == -ENOENT ? -EUCLEAN : fd, "%s: cannot open", path);
	}
	int rc = fresh ? header_make(d, fd, header, size) : header_check(d, fd, header, size);
	if (rc) {
		vx_err_set(err, rc, "%s: %s", path,
			rc == -EUCLEAN ? "damaged header or short file" : "cannot read or write");
		goto out_close;
	}
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED) {
		rc = vx_err_set(err, -errno, "%s: cannot map", path);
		goto out_close;
	}
	g->map = map;
	if (fresh)
		g->fd = fd;
	else
		(void)d->ops->close(d, fd);
	*ret = g;
	return 0;

out_close:
	(void)d->ops->close(d, fd);
	free(g);
	return rc;
}

int seg_header_repair(struct disk *d, const char *gen_dir, uint32_t cid, uint32_t generation,
	uint32_t no, uint32_t dim)
{
	char path[STORE_PATH_MAX + 32];
	uint8_t header[SEG_OFF_ROWS];
	uint64_t size;

	seg_name(path, gen_dir, no);
	header_encode(header, cid, generation, no, dim);
	int fd = d->ops->open(d, path, O_RDWR, 0);
	if (fd < 0)
		return fd;
	int rc = d->ops->size(d, fd, &size);
	if (rc == 0 && size < seg_file_size(dim))
		rc = -EUCLEAN;
	if (rc == 0)
		rc = disk_pwrite(d, fd, header, sizeof header, 0);
	if (rc == 0)
		rc = d->ops->fdatasync(d, fd);
	(void)d->ops->close(d, fd);
	return rc;
}

void seg_close(struct disk *d, struct seg *g)
{
	if (!g)
		return;
	seg_unwritable(d, g);
	munmap((void *)(uintptr_t)g->map, g->map_len);
	void *dead = atomic_load_explicit(&g->dead, memory_order_relaxed);
	if (dead)
		munmap(dead, SEG_SLOTS * sizeof(uint64_t));
	free(g);
}

int seg_writable(struct disk *d, const char *gen_dir, struct seg *g)
{
	char path[STORE_PATH_MAX + 32];

	if (g->fd >= 0)
		return 0;
	seg_name(path, gen_dir, g->no);
	int fd = d->ops->open(d, path, O_RDWR, 0);
	if (fd < 0)
		return fd;
	g->fd = fd;
	return 0;
}

void seg_unwritable(struct disk *d, struct seg *g)
{
	if (g->fd >= 0)
		(void)d->ops->close(d, g->fd);
	g->fd = -1;
}

/* Allocates up to 'need' bytes of an area that starts at 'off', in steps that grow with it.  On a
 * nearly full disk exactly what is needed is tried before giving up. */
static int area_grow(
	struct disk *d, int fd, uint64_t off, uint64_t *end, uint64_t need, uint64_t area)
{
	if (need <= *end)
		return 0;
	uint64_t step = VX_MIN(VX_MAX(*end, (uint64_t)SEG_STEP_MIN), (uint64_t)SEG_STEP_MAX);
	uint64_t to = VX_MIN(VX_ALIGN_UP(need, step), area);
	int rc = d->ops->allocate(d, fd, off + *end, to - *end);
	if (rc == -ENOSPC && to > need) {
		to = need;
		rc = d->ops->allocate(d, fd, off + *end, to - *end);
	}
	if (rc == -EOPNOTSUPP || rc == -EINVAL)
		rc = 0; /* the file system cannot; pwrite reports a full disk as well */
	if (rc == 0)
		*end = to;
	return rc;
}

int seg_write(struct disk *d, struct seg *g, uint32_t at, uint32_t n, const float *vecs,
	const uint8_t *rows)
{
	uint64_t vsize = (uint64_t)g->dim * sizeof(float);

	assert(g->fd >= 0);
	assert(at + n <= SEG_SLOTS);
	int rc = area_grow(
		d, g->fd, SEG_OFF_VECS, &g->vecs_end, (at + n) * vsize, SEG_SLOTS * vsize);
	if (rc == 0)
		rc = area_grow(d, g->fd, SEG_OFF_ROWS, &g->rows_end,
			(uint64_t)(at + n) * SEG_ROW_SIZE, (uint64_t)SEG_SLOTS * SEG_ROW_SIZE);
	if (rc == 0)
		rc = disk_pwrite(d, g->fd, vecs, n * vsize, SEG_OFF_VECS + at * vsize);
	if (rc == 0)
		rc = disk_pwrite(d, g->fd, rows, (size_t)n * SEG_ROW_SIZE,
			SEG_OFF_ROWS + (uint64_t)at * SEG_ROW_SIZE);
	return rc;
}

int seg_write_cell(struct disk *d, struct seg *g, uint32_t at, const char *id, size_t len)
{
	assert(g->fd >= 0);
	assert(len <= SEG_CELL_SIZE);
	return disk_pwrite(d, g->fd, id, len, SEG_OFF_CELLS + (uint64_t)at * SEG_CELL_SIZE);
}

_Atomic uint64_t *seg_dead_make(struct seg *g)
{
	_Atomic uint64_t *dead = atomic_load_explicit(&g->dead, memory_order_relaxed);

	if (dead)
		return dead;
	/* Mapped, not allocated: a slice with one dead slot pays for one page. */
	void *p = mmap(NULL, SEG_SLOTS * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	atomic_store_explicit(&g->dead, p, memory_order_release);
	return p;
}

/* --- slots ----------------------------------------------------------------------- */

uint32_t vec_sum(const float *v, uint32_t dim, uint32_t slot)
{
	return (uint32_t)hash_xxh3(v, (size_t)dim * sizeof(float), slot);
}

static uint32_t row_sum(const uint8_t *p, uint32_t cid, uint32_t slot)
{
	return (uint32_t)hash_xxh3(p, 60, (uint64_t)cid << 32 | slot);
}

void slot_row_encode(uint8_t *p, uint32_t cid, uint32_t slot, uint64_t rowid, uint64_t born,
	uint32_t vsum, const char *id, size_t id_len)
{
	put_le64(p, rowid);
	put_le64(p + 8, born);
	put_le32(p + 16, vsum);
	p[20] = (uint8_t)id_len;
	memset(p + 21, 0, SEG_ID_INLINE);
	if (id_len <= SEG_ID_INLINE)
		memcpy(p + 21, id, id_len);
	else
		put_le64(p + 21, hash_xxh3(id, id_len, slot));
	put_le32(p + 60, row_sum(p, cid, slot));
}

const uint8_t *seg_row_bytes(const struct seg *g, uint32_t at)
{
	return g->map + SEG_OFF_ROWS + (size_t)at * SEG_ROW_SIZE;
}

static uint32_t slot_of(const struct seg *g, uint32_t at)
{
	return g->no << SEG_SHIFT | at;
}

static bool first_complaint(struct seg *g)
{
	return !atomic_exchange_explicit(&g->complained, true, memory_order_relaxed);
}

int seg_row(const struct seg *g, uint32_t at, struct slot_row *ret)
{
	const uint8_t *p = seg_row_bytes(g, at);
	uint32_t slot = slot_of(g, at);

	if (get_le32(p + 60) != row_sum(p, g->cid, slot))
		goto bad;
	struct slot_row r = {
		.rowid = get_le64(p),
		.born = get_le64(p + 8),
		.vec_sum = get_le32(p + 16),
		.id_len = p[20],
		.id = (const char *)p + 21,
	};
	if (r.id_len < 1 || r.id_len > VX_ID_MAX)
		goto bad;
	if (r.id_len > SEG_ID_INLINE) {
		r.id = (const char *)g->map + SEG_OFF_CELLS + (size_t)at * SEG_CELL_SIZE;
		if (get_le64(p + 21) != hash_xxh3(r.id, r.id_len, slot))
			goto bad;
	}
	*ret = r;
	return 0;
bad:
	if (first_complaint((struct seg *)(uintptr_t)g))
		log_error("store", "collection %u: the row of slot %u is damaged", g->cid, slot);
	return -EUCLEAN;
}

const float *seg_vector(struct seg *g, uint32_t at)
{
	const void *p = g->map + SEG_OFF_VECS + (size_t)at * g->dim * sizeof(float);
	_Atomic uint64_t *word = &g->verified[at / 64];
	uint64_t bit = (uint64_t)1 << at % 64;

	if (VX_LIKELY(atomic_load_explicit(word, memory_order_relaxed) & bit))
		return p;
	struct slot_row row;
	if (seg_row(g, at, &row))
		return NULL;
	if (row.vec_sum != vec_sum(p, g->dim, slot_of(g, at))) {
		if (first_complaint(g))
			log_error("store", "collection %u: the vector in slot %u is damaged",
				g->cid, slot_of(g, at));
		return NULL;
	}
	atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
	return p;
}
