/* wal_space.c - segments and spares.
 *
 * A spare is a file of zeros (or an old segment), written and synced, under a
 * name of its own.  It becomes the next segment in this order, each step durable
 * before the next: header, fdatasync, rename, fsync of the directory.  A segment
 * goes back the same way: the manifests it alone holds are logged again, then it
 * is renamed to a spare, then the directory is synced.  Only the oldest segment
 * ever goes, so sequences have no holes and no truncation is forgotten before the
 * entries it truncated.
 */
#include "wal/wal_i.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"

/* Opens for writing, past the page cache where the file system allows. */
int wal_open_rw(struct wal *w, const char *path, int *ret_fd)
{
	int fd = -EINVAL;

	if (w->try_direct)
		fd = w->disk->ops->open(w->disk, path, O_RDWR | O_DIRECT, 0);
	if (fd == -EINVAL || fd == -EOPNOTSUPP) {
		w->try_direct = false;
		fd = w->disk->ops->open(w->disk, path, O_RDWR, 0);
	}
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

/* Forgets a half-made spare. */
void wal_build_drop(struct wal *w)
{
	char path[WAL_PATH_MAX];

	if (w->build_fd < 0)
		return;
	(void)w->disk->ops->close(w->disk, w->build_fd);
	w->build_fd = -1;
	wal_path(w, path, "tmp", w->build_id);
	(void)w->disk->ops->unlink(w->disk, path);
}

/* A full disk is no fault of the log; anything else is. */
static int build_fail(struct wal *w, int rc)
{
	wal_build_drop(w);
	return rc == -ENOSPC || rc == -EDQUOT ? -ENOSPC : wal_break(w, rc);
}

static int build_begin(struct wal *w)
{
	const struct disk_ops *ops = w->disk->ops;
	char path[WAL_PATH_MAX];

	if (!w->zeros) {
		size_t n = (size_t)VX_MIN(w->segment_size, (uint64_t)WAL_SPARE_PIECE);
		w->zeros = aligned_alloc(WAL_BLOCK, VX_ALIGN_UP(n, WAL_BLOCK));
		if (!w->zeros)
			return -ENOMEM;
		memset(w->zeros, 0, n);
	}
	w->build_id = w->next_spare++;
	wal_path(w, path, "tmp", w->build_id);
	int fd = ops->open(w->disk, path, O_RDWR | O_CREAT | O_TRUNC, 0640);
	if (fd < 0)
		return fd == -EDQUOT ? -ENOSPC : fd == -EIO ? wal_break(w, fd) : fd;
	if (w->try_direct) {
		int direct;
		if (wal_open_rw(w, path, &direct) == 0) {
			(void)ops->close(w->disk, fd);
			fd = direct;
		}
	}
	w->build_fd = fd;
	w->build_off = 0;
	/* Only to learn at once that there is no room. */
	int rc = ops->allocate(w->disk, fd, 0, w->segment_size);
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG || rc == -EIO ? build_fail(w, rc) : 0;
}

static int build_end(struct wal *w)
{
	const struct disk_ops *ops = w->disk->ops;
	char from[WAL_PATH_MAX], to[WAL_PATH_MAX];

	wal_path(w, from, "tmp", w->build_id);
	wal_path(w, to, "seg", w->build_id);
	int rc = ops->fdatasync(w->disk, w->build_fd);
	if (rc == 0)
		rc = ops->rename(w->disk, from, to);
	if (rc)
		return build_fail(w, rc);
	(void)ops->close(w->disk, w->build_fd);
	w->build_fd = -1;
	rc = ops->sync_dir(w->disk, w->dir);
	if (rc)
		return wal_break(w, rc);
	w->spares[w->n_spares++] = w->build_id;
	return 0;
}

/* Writes at most 'budget' bytes of a spare, and a whole block at least. */
static int build_step(struct wal *w, uint64_t budget)
{
	int rc = w->build_fd < 0 ? build_begin(w) : 0;

	while (rc == 0 && w->build_off < w->segment_size) {
		size_t n = (size_t)VX_MIN(
			w->segment_size - w->build_off, (uint64_t)WAL_SPARE_PIECE);
		rc = disk_pwrite(w->disk, w->build_fd, w->zeros, n, w->build_off);
		if (rc == -EINVAL && w->try_direct) {
			w->try_direct = false;
			wal_build_drop(w);
			return 0;
		}
		if (rc)
			return build_fail(w, rc);
		w->build_off += n;
		if (n >= budget)
			return 0;
		budget -= n;
	}
	return rc ? rc : build_end(w);
}

int wal_spares_ensure(struct wal *w, unsigned n)
{
	int rc = 0;

	if (n > WAL_SPARES_MAX)
		return -ENOSPC;
	while (w->n_spares < n && rc == 0)
		rc = build_step(w, UINT64_MAX);
	return rc;
}

struct wal_seg *wal_seg_push(struct wal *w)
{
	if (w->n_segs == w->cap_segs) {
		size_t cap = w->cap_segs ? w->cap_segs * 2 : 16;
		struct wal_seg *p = realloc(w->segs, cap * sizeof *p);
		if (!p)
			return NULL;
		w->segs = p;
		w->cap_segs = cap;
	}
	w->segs[w->n_segs] = (struct wal_seg){0};
	return &w->segs[w->n_segs++];
}

/* Turns a spare into the segment after the current one (or the first).  A spare
 * must be there.  After an error the caller breaks the log. */
int wal_next_segment(struct wal *w)
{
	const struct disk_ops *ops = w->disk->ops;
	char from[WAL_PATH_MAX], to[WAL_PATH_MAX];
	struct wal_seg old = w->n_segs ? *wal_cur(w) : (struct wal_seg){0};
	struct wal_shdr h = {
		.node_id = w->node_id,
		.segment_size = w->segment_size,
		.seq = old.seq + 1,
		.prev_last = w->n_segs ? w->next_number - 1 : 0,
		.prev_end = old.end,
		.before = w->last_groups,
	};
	uint32_t spare = w->spares[w->n_spares - 1];
	int fd = -1;

	uint8_t *b = aligned_alloc(WAL_BLOCK, WAL_HDR_BYTES);
	if (!b)
		return -ENOMEM;
	memset(b, 0, WAL_HDR_BYTES);
	random_bytes(&h.nonce, sizeof h.nonce);
	wal_shdr_put(b, &h, w);
	wal_path(w, from, "seg", spare);
	wal_path(w, to, "wal", h.seq);
	int rc = wal_open_rw(w, from, &fd);
	if (rc)
		goto out;
	rc = disk_pwrite(w->disk, fd, b, WAL_HDR_BYTES, 0);
	if (rc == -EINVAL && w->try_direct) {
		w->try_direct = false;
		(void)ops->close(w->disk, fd);
		fd = -1;
		rc = wal_open_rw(w, from, &fd);
		if (rc == 0)
			rc = disk_pwrite(w->disk, fd, b, WAL_HDR_BYTES, 0);
	}
	if (rc == 0)
		rc = ops->fdatasync(w->disk, fd);
	if (rc == 0)
		rc = ops->rename(w->disk, from, to);
	if (rc == 0)
		rc = ops->sync_dir(w->disk, w->dir);
	if (rc)
		goto out;
	struct wal_seg *s = wal_seg_push(w);
	if (!s) {
		rc = -ENOMEM;
		goto out;
	}
	*s = (struct wal_seg){
		.seq = h.seq, .nonce = h.nonce, .size = w->segment_size, .end = WAL_HDR_BYTES};
	w->n_spares--;
	if (w->fd >= 0)
		(void)ops->close(w->disk, w->fd);
	w->fd = fd;
	fd = -1;
out:
	if (fd >= 0)
		(void)ops->close(w->disk, fd);
	free(b);
	return rc;
}

/* --- recycling -------------------------------------------------------------------- */
static bool can_recycle(const struct wal *w)
{
	return w->n_segs > 1 && w->segs[0].seq < wal_oldest_needed(w);
}

/* Logs again every manifest that lies in segment 'seq', in a frame of its own: the
 * caller's pending frame stays pending. */
static int carry_manifests(struct wal *w, uint32_t seq)
{
	struct wal_frame f = {0};
	int rc = 0;

	for (size_t i = 0; i < w->n_groups && rc == 0; i++) {
		const struct wal_group *g = w->groups[i];
		struct wal_rhdr h;
		void *data;
		if (g->manifest.seg != seq)
			continue;
		rc = wal_read_payload(w, g->manifest, &h, &data);
		if (rc)
			break;
		const struct wal_rec mark = {
			.group = g->id,
			.type = WAL_MARK,
			.index = g->mark_index,
			.term = g->mark_term,
			.data = data,
			.len = h.len,
		};
		rc = wal_frame_add_mark(&f, &mark, g->term, g->vote, wal_group_last(g));
		free(data);
	}
	f.leaves_units = 0;
	if (rc == 0)
		rc = wal_frame_flush(w, &f);
	free(f.data);
	return rc;
}

static int recycle(struct wal *w)
{
	const struct disk_ops *ops = w->disk->ops;
	char from[WAL_PATH_MAX], to[WAL_PATH_MAX];
	uint32_t seq = w->segs[0].seq, id = w->next_spare;
	bool keep = w->n_spares < w->want_spares && w->segs[0].size == w->segment_size;
	int rc = carry_manifests(w, seq);

	if (rc)
		return rc;
	wal_path(w, from, "wal", seq);
	wal_path(w, to, "seg", id);
	/* Before it is done: whoever reads the file looks at this afterwards. */
	atomic_store(&w->st_oldest, seq + 1);
	rc = keep ? ops->rename(w->disk, from, to) : ops->unlink(w->disk, from);
	if (rc == -ENOENT && w->segs[0].size == 0)
		rc = 0; /* it was missing when the log was opened */
	if (rc == 0)
		rc = ops->sync_dir(w->disk, w->dir);
	if (rc)
		return wal_break(w, rc);
	if (keep) {
		w->spares[w->n_spares++] = id;
		w->next_spare++;
	}
	memmove(w->segs, w->segs + 1, --w->n_segs * sizeof *w->segs);
	return 0;
}

int wal_upkeep_step(struct wal *w, uint64_t budget_bytes, bool *ret_more)
{
	int rc = 0;

	if (atomic_load_explicit(&w->broken, memory_order_relaxed))
		return -EIO;
	if (can_recycle(w))
		rc = recycle(w);
	else if (w->n_spares < w->want_spares)
		rc = build_step(w, budget_bytes);
	wal_publish(w);
	*ret_more = rc == 0 && (can_recycle(w) || w->n_spares < w->want_spares);
	return rc;
}

int wal_upkeep(struct wal *w)
{
	bool more = true;
	int rc = 0;

	while (rc == 0 && more)
		rc = wal_upkeep_step(w, UINT64_MAX, &more);
	return rc;
}
