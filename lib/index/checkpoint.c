/* checkpoint.c - an index in a file (docs/format-index.md, "Index checkpoint").
 *
 *	offset
 *	0	header, 128 bytes
 *	128	payload in blocks of 262,144 bytes (the last one shorter), each followed by
 *		8 bytes: XXH3 of the block, seeded with salt + block number
 *
 * Header:
 *	0	8	magic "VECFSIDX"
 *	8	4	version, 4
 *	12	4	length of the header, 128
 *	16	8	salt, random per file
 *	24	8	payload bytes
 *	32	8	tag: generation
 *	40	8	tag: applied index
 *	48	8	seed of the levels
 *	56	4	dimension
 *	60	4	metric
 *	64	4	quantiser: 0 none, 1 sq8, 2 sq4, 3 sq1
 *	68	8	kind, zero padded
 *	76	4	m
 *	80	4	ef_construction
 *	84	4	slots appended
 *	88	4	slots linked
 *	92	4	slots dead: as many as have that flag
 *	96	4	components of a code
 *	100	4	bytes of a slot's link row
 *	104	4	1: the codes have their centre; 0: there are none yet, the rows are zero
 *	108	4	1: walks measure with heads alone
 *	112	4	1: every slot that was dead at the tag has that flag; 0: of those that died last some may not
 *	116	4	zero
 *	120	8	XXH3 of the 120 bytes before, seed 0
 *
 * Payload: the centre (dim float32; nothing for "none"); heads of all slots; with "sq8" tails of all slots; of each slot scale
 * and the head's squared length (u16 each, or one float32), then with "sq8" of each the whole squared length
 * (u16), then of each one byte of flags; then the kind's part.  A file is valid if and only if the header's checksum and
 * length fit, every block's checksum fits, the payload is consumed to its last byte, each slot that is said to be linked or
 * passed over has one of these flags and no other has, and the kind finds each linked one in its structure.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/hash.h"
#include "index/index_i.h"

#define CKPT_HEADER  128u
#define CKPT_BLOCK   262144u
#define CKPT_SUM     8u
#define CKPT_VERSION 4u
#define AUX_BATCH    512u /* divides the slots of a chunk */
#define CKPT_WORDS   1024u

static const char magic[8] = {'V', 'E', 'C', 'F', 'S', 'I', 'D', 'X'};

struct ckpt_writer {
	struct disk *disk;
	int fd;
	uint64_t salt, block, payload, off;
	size_t fill;
	uint8_t *buf; /* a block and its checksum */
};

struct ckpt_reader {
	struct disk *disk;
	int fd;
	uint64_t salt, block, left, off; /* left: payload bytes not yet in buf */
	size_t at, fill;
	uint8_t *buf;
};

/* --- writing -------------------------------------------------------------- */
static int flush_block(struct ckpt_writer *w)
{
	if (w->fill == 0)
		return 0;
	put_le64(w->buf + w->fill, hash_xxh3(w->buf, w->fill, w->salt + w->block));
	int rc = disk_pwrite(w->disk, w->fd, w->buf, w->fill + CKPT_SUM, w->off);
	if (rc < 0)
		return rc;
	w->off += w->fill + CKPT_SUM;
	w->block++;
	w->fill = 0;
	return 0;
}

int ckpt_put(struct ckpt_writer *w, const void *p, size_t n)
{
	const uint8_t *b = p;

	w->payload += n;
	while (n > 0) {
		size_t m = VX_MIN(n, CKPT_BLOCK - w->fill);
		memcpy(w->buf + w->fill, b, m);
		w->fill += m;
		b += m;
		n -= m;
		if (w->fill == CKPT_BLOCK) {
			int rc = flush_block(w);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

int ckpt_put_words(struct ckpt_writer *w, const uint32_t *v, size_t n)
{
	uint8_t tmp[CKPT_WORDS * 4];

	while (n > 0) {
		size_t m = VX_MIN(n, CKPT_WORDS);
		for (size_t i = 0; i < m; i++)
			put_le32(tmp + 4 * i, __atomic_load_n(v + i, __ATOMIC_RELAXED));
		int rc = ckpt_put(w, tmp, 4 * m);
		if (rc < 0)
			return rc;
		v += m;
		n -= m;
	}
	return 0;
}

static void make_header(const struct index *ix, const struct ckpt_writer *w, struct index_tag tag,
	uint32_t n, uint32_t dead, uint8_t *h)
{
	memset(h, 0, CKPT_HEADER);
	memcpy(h, magic, sizeof magic);
	put_le32(h + 8, CKPT_VERSION);
	put_le32(h + 12, CKPT_HEADER);
	put_le64(h + 16, w->salt);
	put_le64(h + 24, w->payload);
	put_le64(h + 32, tag.generation);
	put_le64(h + 40, tag.applied);
	put_le64(h + 48, ix->p.seed);
	put_le32(h + 56, ix->p.dim);
	put_le32(h + 60, (uint32_t)ix->p.metric);
	put_le32(h + 64, (uint32_t)ix->codes.quant);
	strncpy((char *)h + 68, ix->p.kind, 8);
	put_le32(h + 76, ix->p.m);
	put_le32(h + 80, ix->p.ef_construction);
	put_le32(h + 84, n);
	put_le32(h + 88, ix_load(&ix->linked));
	put_le32(h + 104, ix_load(&ix->trained));
	put_le32(h + 108, ix_load(&ix->by_heads));
	put_le32(h + 92, dead);
	put_le32(h + 96, ix->codes.width);
	put_le32(h + 100, ix->codes.extra);
	put_le32(h + 112, ix->host.dead != NULL);
	put_le64(h + 120, hash_xxh3(h, 120, 0));
}

/* The index is told of a death some entries later, when no search wants the slot any more: a file has all
 * that were dead at its tag, so that whoever reads it can tell. */
static uint8_t flags_at(const struct index *ix, uint32_t slot, struct index_tag tag)
{
	uint8_t f = codes_flags_get(&ix->codes, slot);

	if (ix->host.dead && ix->host.dead(ix->host.ctx, slot, tag.applied))
		f |= CODES_DEAD;
	return f;
}

static int put_flags(const struct index *ix, struct ckpt_writer *w, uint32_t n,
	struct index_tag tag, uint32_t *ret_dead)
{
	uint32_t dead = 0;
	int rc = 0;

	for (uint32_t s = 0; s < n && rc == 0; s++) {
		uint8_t f = flags_at(ix, s, tag);
		dead += (f & CODES_DEAD) != 0;
		rc = ckpt_put(w, &f, 1);
	}
	*ret_dead = dead;
	return rc;
}

static int put_codes(const struct index *ix, struct ckpt_writer *w, uint32_t n)
{
	const struct codes *c = &ix->codes;
	int rc = 0;

	if (c->width > 0) {
		uint32_t v[AUX_BATCH];
		for (uint32_t i = 0; i < c->dim && rc == 0; i += AUX_BATCH) {
			uint32_t m = VX_MIN(c->dim - i, AUX_BATCH);
			memcpy(v, c->centre + i, 4 * (size_t)m);
			rc = ckpt_put_words(w, v, m);
		}
	}
	for (uint32_t s = 0; s < n && rc == 0; s += CODES_CHUNK_SLOTS)
		rc = ckpt_put(
			w, codes_head(c, s), (size_t)VX_MIN(n - s, CODES_CHUNK_SLOTS) * c->half);
	for (uint32_t s = 0; s < n && rc == 0; s += CODES_CHUNK_SLOTS)
		rc = ckpt_put(
			w, codes_tail(c, s), (size_t)VX_MIN(n - s, CODES_CHUNK_SLOTS) * c->tail);
	for (uint32_t s = 0; s < n && rc == 0; s += AUX_BATCH) {
		uint32_t v[AUX_BATCH], m = VX_MIN(n - s, AUX_BATCH);
		memcpy(v, codes_aux(c, s), 4 * (size_t)m);
		rc = ckpt_put_words(w, v, m);
	}
	for (uint32_t s = 0; s < n && rc == 0 && c->norm > 0; s += AUX_BATCH) {
		uint8_t v[2 * AUX_BATCH];
		uint32_t m = VX_MIN(n - s, AUX_BATCH);
		for (uint32_t i = 0; i < m; i++)
			put_le16(v + 2 * i, *codes_norm(c, s + i));
		rc = ckpt_put(w, v, 2 * (size_t)m);
	}
	return rc;
}

static int write_all(struct index *ix, struct ckpt_writer *w, struct index_tag tag)
{
	uint8_t head[CKPT_HEADER];
	uint32_t dead = 0;

	/* At rest: every slot that a linker took is linked, and none is being linked. */
	pthread_rwlock_wrlock(&ix->link_gate);
	uint32_t n = ix_load(&ix->appended);
	int rc = put_codes(ix, w, n);
	if (rc == 0)
		rc = put_flags(ix, w, n, tag, &dead);
	if (rc == 0 && ix->ops->save)
		rc = ix->ops->save(ix, w, ix_load(&ix->linked));
	if (rc == 0)
		rc = flush_block(w);
	make_header(ix, w, tag, n, dead, head);
	pthread_rwlock_unlock(&ix->link_gate);

	if (rc == 0)
		rc = disk_pwrite(w->disk, w->fd, head, sizeof head, 0);
	if (rc == 0)
		rc = w->disk->ops->fdatasync(w->disk, w->fd);
	return rc;
}

int index_save(struct index *ix, struct disk *disk, const char *path, struct index_tag tag,
	struct vx_err *err)
{
	struct ckpt_writer w = {.disk = disk, .off = CKPT_HEADER};

	w.buf = malloc(CKPT_BLOCK + CKPT_SUM);
	if (!w.buf)
		return vx_err_set(err, -ENOMEM, "%s: no memory for a checkpoint", path);
	random_bytes(&w.salt, sizeof w.salt);
	int rc = w.fd = disk->ops->open(disk, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (rc >= 0) {
		rc = write_all(ix, &w, tag);
		int rc2 = disk->ops->close(disk, w.fd);
		rc = rc < 0 ? rc : rc2;
		if (rc < 0)
			(void)disk->ops->unlink(disk, path);
	}
	free(w.buf);
	if (rc < 0)
		return vx_err_set(
			err, rc, "%s: cannot write a checkpoint: %s", path, strerror(-rc));
	return 0;
}

/* --- reading -------------------------------------------------------------- */
static int next_block(struct ckpt_reader *r)
{
	size_t n = VX_MIN(r->left, (uint64_t)CKPT_BLOCK);

	if (n == 0)
		return -EUCLEAN;
	int rc = disk_pread(r->disk, r->fd, r->buf, n + CKPT_SUM, r->off);
	if (rc < 0)
		return rc;
	if (get_le64(r->buf + n) != hash_xxh3(r->buf, n, r->salt + r->block))
		return -EUCLEAN;
	r->off += n + CKPT_SUM;
	r->left -= n;
	r->block++;
	r->at = 0;
	r->fill = n;
	return 0;
}

int ckpt_get(struct ckpt_reader *r, void *p, size_t n)
{
	uint8_t *b = p;

	while (n > 0) {
		if (r->at == r->fill) {
			int rc = next_block(r);
			if (rc < 0)
				return rc;
		}
		size_t m = VX_MIN(n, r->fill - r->at);
		memcpy(b, r->buf + r->at, m);
		r->at += m;
		b += m;
		n -= m;
	}
	return 0;
}

int ckpt_get_words(struct ckpt_reader *r, uint32_t *v, size_t n)
{
	int rc = ckpt_get(r, v, n * sizeof *v);

	for (size_t i = 0; i < n && rc == 0; i++)
		v[i] = get_le32(&v[i]);
	return rc;
}

static int get_head(
	struct ckpt_reader *r, uint8_t ret[CKPT_HEADER], uint64_t *ret_size, struct vx_err *err)
{
	int rc = r->disk->ops->size(r->disk, r->fd, ret_size);

	if (rc < 0)
		return rc;
	if (*ret_size < CKPT_HEADER)
		return vx_err_set(err, -EUCLEAN, "shorter than its header");
	return disk_pread(r->disk, r->fd, ret, CKPT_HEADER, 0);
}

/* What a header says by itself. */
static int check_header(struct ckpt_reader *r, uint64_t size, const uint8_t *h, struct vx_err *err)
{
	uint64_t payload = get_le64(h + 24);
	uint64_t blocks = payload / CKPT_BLOCK + (payload % CKPT_BLOCK != 0);

	if (memcmp(h, magic, sizeof magic) != 0 || get_le64(h + 120) != hash_xxh3(h, 120, 0))
		return vx_err_set(err, -EUCLEAN, "damaged header");
	if (get_le32(h + 8) != CKPT_VERSION || get_le32(h + 12) != CKPT_HEADER)
		return vx_err_set(err, -ESTALE, "version %u", get_le32(h + 8));
	if (payload > size || size != CKPT_HEADER + payload + blocks * CKPT_SUM)
		return vx_err_set(err, -EUCLEAN, "its length does not fit its header");
	r->salt = get_le64(h + 16);
	r->left = payload;
	return 0;
}

/* Compares the header with the index; fills the counts. */
static int read_header(struct index *ix, struct ckpt_reader *r, uint64_t size, const uint8_t *h,
	struct index_tag *ret_tag, uint32_t ret_count[6], struct vx_err *err)
{
	char kind[9] = {0};
	int rc = check_header(r, size, h, err);

	if (rc)
		return rc;
	memcpy(kind, h + 68, 8);
	if (strcmp(kind, ix->p.kind) != 0 || get_le64(h + 48) != ix->p.seed ||
		get_le32(h + 56) != ix->p.dim || get_le32(h + 60) != (uint32_t)ix->p.metric ||
		get_le32(h + 64) != (uint32_t)ix->codes.quant || get_le32(h + 76) != ix->p.m ||
		get_le32(h + 80) != ix->p.ef_construction || get_le32(h + 96) != ix->codes.width ||
		get_le32(h + 100) != ix->codes.extra)
		return vx_err_set(err, -ESTALE, "other parameters");
	for (int i = 0; i < 3; i++)
		ret_count[i] = get_le32(h + 84 + 4 * i);
	ret_count[3] = get_le32(h + 104);
	ret_count[4] = get_le32(h + 108);
	ret_count[5] = get_le32(h + 112);
	uint64_t slot_bytes = codes_slot_bytes(&ix->codes);
	if (r->left / slot_bytes < ret_count[0] || ret_count[1] > ret_count[0] ||
		ret_count[0] > VX_SLOTS_MAX || ret_count[3] > 1 || ret_count[4] > 1 ||
		ret_count[5] > 1 ||
		(ret_count[3] == 0 && (ret_count[0] >= CODES_TRAIN || ret_count[1] > 0)))
		return vx_err_set(err, -EUCLEAN, "its length does not fit its header");
	*ret_tag = (struct index_tag){.generation = get_le64(h + 32), .applied = get_le64(h + 40)};
	return 0;
}

static int get_codes(struct index *ix, struct ckpt_reader *r, uint32_t n)
{
	struct codes *c = &ix->codes;
	int rc = codes_reserve(c, n);

	if (rc == 0)
		codes_expect(c, n);

	for (uint32_t i = 0; c->width > 0 && i < c->dim && rc == 0; i += AUX_BATCH) {
		uint32_t v[AUX_BATCH], m = VX_MIN(c->dim - i, AUX_BATCH);
		rc = ckpt_get_words(r, v, m);
		if (rc == 0)
			memcpy(c->centre + i, v, 4 * (size_t)m);
	}
	for (uint32_t s = 0; s < n && rc == 0; s += CODES_CHUNK_SLOTS) {
		uint32_t m = VX_MIN(n - s, CODES_CHUNK_SLOTS);
		rc = ckpt_get(r, codes_head(c, s), (size_t)m * c->half);
	}
	for (uint32_t s = 0; s < n && rc == 0; s += CODES_CHUNK_SLOTS) {
		uint32_t m = VX_MIN(n - s, CODES_CHUNK_SLOTS);
		rc = ckpt_get(r, codes_tail(c, s), (size_t)m * c->tail);
	}
	for (uint32_t s = 0; s < n && rc == 0; s += AUX_BATCH) {
		uint32_t v[AUX_BATCH], m = VX_MIN(n - s, AUX_BATCH);
		rc = ckpt_get_words(r, v, m);
		if (rc == 0)
			memcpy(codes_aux(c, s), v, 4 * (size_t)m);
	}
	for (uint32_t s = 0; s < n && rc == 0 && c->norm > 0; s += AUX_BATCH) {
		uint8_t v[2 * AUX_BATCH];
		uint32_t m = VX_MIN(n - s, AUX_BATCH);
		rc = ckpt_get(r, v, 2 * (size_t)m);
		for (uint32_t i = 0; i < m && rc == 0; i++)
			*codes_norm(c, s + i) = get_le16(v + 2 * i);
	}
	for (uint32_t s = 0; s < n && rc == 0; s += CODES_CHUNK_SLOTS) {
		uint32_t m = VX_MIN(n - s, CODES_CHUNK_SLOTS);
		rc = ckpt_get(r, codes_flags(c, s), m);
	}
	return rc;
}

/* A slot is in the structure, or passed over, or in the tail: one that is nowhere would be missing.  Counts the dead
 * ones. */
static int check_flags(
	const struct index *ix, uint32_t n, uint32_t linked, uint32_t *ret_dead, struct vx_err *err)
{
	uint32_t dead = 0;

	for (uint32_t s = 0; s < n; s++) {
		uint8_t f = *codes_flags(&ix->codes, s), in = f & (CODES_LINKED | CODES_SKIPPED);
		dead += (f & CODES_DEAD) != 0;
		if (s < linked ? in == 0 || in == (CODES_LINKED | CODES_SKIPPED) : in != 0)
			return vx_err_set(err, -EUCLEAN, "slot %u, of %u and %u linked, %s", s, n,
				linked, in == 0 ? "is nowhere" : "is in two places");
	}
	*ret_dead = dead;
	return 0;
}

static int read_all(
	struct index *ix, struct ckpt_reader *r, struct index_tag *ret_tag, struct vx_err *err)
{
	uint8_t head[CKPT_HEADER];
	uint32_t count[6], dead = 0;
	uint64_t size;
	struct index_tag tag;
	int rc = get_head(r, head, &size, err);

	if (rc == 0)
		rc = read_header(ix, r, size, head, &tag, count, err);
	if (rc == 0)
		rc = get_codes(ix, r, count[0]);
	if (rc == 0)
		rc = check_flags(ix, count[0], count[1], &dead, err);
	if (rc == 0 && count[5] && dead != count[2])
		rc = vx_err_set(err, -EUCLEAN, "%u slots are dead, not %u", dead, count[2]);
	if (rc == 0 && ix->ops->load)
		rc = ix->ops->load(ix, r, count[1], err);
	if (rc == 0 && (r->left != 0 || r->at != r->fill))
		rc = -EUCLEAN;
	if (rc < 0)
		return rc;
	__atomic_store_n(&ix->dead, dead, __ATOMIC_RELAXED);
	ix_store(&ix->by_heads, count[4]);
	ix_store(&ix->trained, count[3]);
	ix_store(&ix->next, count[1]);
	ix_store(&ix->linked, count[1]);
	ix_store(&ix->appended, count[0]);
	codes_settle(&ix->codes, 0, count[0]);
	codes_settle_extra(&ix->codes, 0, count[1]);
	rc = ix->ops->loaded ? ix->ops->loaded(ix, err) : 0;
	if (rc < 0)
		return rc;
	tag.dead_known = count[5];
	*ret_tag = tag;
	return 0;
}

/* As index_new left it. */
static void start_over(struct index *ix)
{
	__atomic_store_n(&ix->dead, 0, __ATOMIC_RELAXED);
	ix_store(&ix->by_heads, 0);
	ix_store(&ix->trained, codes_need_no_centre(&ix->codes));
	ix_store(&ix->next, 0);
	ix_store(&ix->linked, 0);
	ix_store(&ix->appended, 0);
	if (ix->codes.width > 0)
		memset(ix->codes.centre, 0, ix->codes.dim * sizeof *ix->codes.centre);
	codes_drop(&ix->codes);
	if (ix->ops->reset)
		ix->ops->reset(ix);
}

int index_load(struct index *ix, struct disk *disk, const char *path, struct index_tag *ret_tag,
	struct vx_err *err)
{
	struct ckpt_reader r = {.disk = disk, .off = CKPT_HEADER};

	if (ix_load(&ix->appended) != 0)
		return vx_err_set(err, -EINVAL, "%s: the index is not fresh", path);
	r.buf = malloc(CKPT_BLOCK + CKPT_SUM);
	if (!r.buf)
		return vx_err_set(err, -ENOMEM, "%s: no memory to read it", path);
	if (err)
		*err = (struct vx_err)VX_ERR_INIT;
	int rc = r.fd = disk->ops->open(disk, path, O_RDONLY, 0);
	if (rc >= 0) {
		pthread_rwlock_wrlock(&ix->link_gate);
		rc = read_all(ix, &r, ret_tag, err);
		if (rc < 0)
			start_over(ix);
		pthread_rwlock_unlock(&ix->link_gate);
		(void)disk->ops->close(disk, r.fd);
	}
	free(r.buf);
	if (rc < 0 && (!err || err->code == 0))
		vx_err_set(err, rc, "%s", rc == -EUCLEAN ? "a block is damaged" : strerror(-rc));
	if (rc < 0)
		vx_err_prefix(err, "%s", path);
	return rc;
}

static int check_file(struct ckpt_reader *r, struct vx_err *err)
{
	uint8_t head[CKPT_HEADER];
	uint64_t size;
	int rc = get_head(r, head, &size, err);

	if (rc == 0)
		rc = check_header(r, size, head, err);
	while (rc == 0 && r->left > 0)
		rc = next_block(r);
	return rc;
}

int index_file_check(struct disk *disk, const char *path, struct vx_err *err)
{
	struct ckpt_reader r = {.disk = disk, .off = CKPT_HEADER};

	r.buf = malloc(CKPT_BLOCK + CKPT_SUM);
	if (!r.buf)
		return vx_err_set(err, -ENOMEM, "no memory to read it");
	if (err)
		*err = (struct vx_err)VX_ERR_INIT;
	int rc = r.fd = disk->ops->open(disk, path, O_RDONLY, 0);
	if (rc >= 0) {
		rc = check_file(&r, err);
		(void)disk->ops->close(disk, r.fd);
	}
	free(r.buf);
	if (rc == -EUCLEAN && (!err || err->code == 0))
		vx_err_set(
			err, rc, "the block at offset %llu is damaged", (unsigned long long)r.off);
	else if (rc < 0 && (!err || err->code == 0))
		vx_err_set(err, rc, "%s", strerror(-rc));
	return rc;
}
