/* roster.c - the slices that a shard has, in a file of their cids.
 *
 * A collection without records has no slices, so a slice that is not there says "empty".  It must not say so
 * when its directory was removed by hand or lost by the file system.  The mark writes the cids of all
 * slices into DIR/slices whenever one was made or dropped since; a start looks for each of them.
 *
 * An old roster does no harm: a slice made since is made again by the log, one dropped since belongs to
 * no collection, and is dropped again by whoever compares with the catalog.  So a full disk may
 * keep it from being written.
 */
#include "store/store_i.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"

#define ROSTER_MAGIC     0x53525856u /* "VXRS" */
#define ROSTER_VERSION   1u
#define ROSTER_HEAD      16u /* magic, version, count, reserved */
#define ROSTER_BYTES_MAX (64u << 20)

int roster_write(struct shard *s)
{
	struct buf b = BUF_INIT;
	uint32_t n = 0;

	int rc = buf_put_le32(&b, ROSTER_MAGIC);
	if (rc == 0)
		rc = buf_put_le32(&b, ROSTER_VERSION);
	if (rc == 0)
		rc = buf_put_le64(&b, 0);
	vx_lock(&s->mu);
	for (unsigned i = 0; i < SHARD_HASH && rc == 0; i++) {
		for (struct slice *sl = s->hash[i]; sl && rc == 0; sl = sl->hash_next, n++)
			rc = buf_put_le32(&b, sl->cid);
	}
	vx_unlock(&s->mu);
	if (rc == 0) {
		put_le32(b.data + 8, n);
		rc = buf_put_le64(&b, hash_xxh3(b.data, b.len, s->id));
	}
	if (rc == 0)
		rc = disk_write_file(s->disk, s->dir, SHARD_ROSTER, b.data, b.len);
	buf_release(&b);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		log_debug("store", "shard %u: no room for the list of its slices", s->id);
		rc = 0;
	}
	return rc;
}

static int load(struct shard *s, struct buf *ret)
{
	char path[STORE_PATH_MAX];
	uint64_t size = 0;
	struct disk *d = s->disk;

	int rc = store_path(path, s->dir, SHARD_ROSTER);
	if (rc)
		return rc;
	int fd = d->ops->open(d, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	rc = d->ops->size(d, fd, &size);
	if (rc == 0 && (size < ROSTER_HEAD + 8 || size > ROSTER_BYTES_MAX))
		rc = -EUCLEAN;
	if (rc == 0)
		rc = buf_reserve(ret, (size_t)size);
	if (rc == 0)
		rc = disk_pread(d, fd, ret->data, (size_t)size, 0);
	if (rc == 0)
		ret->len = (size_t)size;
	(void)d->ops->close(d, fd);
	return rc;
}

static bool valid(const struct shard *s, const struct buf *b)
{
	return get_le32(b->data) == ROSTER_MAGIC && get_le32(b->data + 4) == ROSTER_VERSION &&
	       b->len == ROSTER_HEAD + (uint64_t)get_le32(b->data + 8) * 4 + 8 &&
	       get_le64(b->data + b->len - 8) == hash_xxh3(b->data, b->len - 8, s->id);
}

int roster_peek(struct shard *s, int (*each)(struct shard *s, uint32_t cid))
{
	struct buf b = BUF_INIT;

	int rc = load(s, &b);
	if (rc == 0 && !valid(s, &b))
		rc = -EUCLEAN;
	for (uint32_t i = 0; rc == 0 && i < get_le32(b.data + 8); i++)
		rc = each(s, get_le32(b.data + ROSTER_HEAD + 4 * (size_t)i));
	buf_release(&b);
	return rc;
}

int roster_read(struct shard *s, int (*each)(struct shard *s, uint32_t cid))
{
	int rc = roster_peek(s, each);

	/* It is a second opinion: without it the directories are believed. */
	if (rc == -EUCLEAN)
		log_warn("store", "%s/" SHARD_ROSTER ": damaged; made anew at the next mark",
			s->dir);
	return rc == -ENOMEM ? rc : 0;
}
