/* wal_sync.c - one durable write: io_uring or pwrite.
 *
 * The ring carries the write linked with an fdatasync.  A short write breaks the
 * link (the fdatasync then answers -ECANCELED), so success is: the write was
 * whole and the fdatasync returned 0.  Anything else is reported as an error,
 * which the caller turns into BROKEN; nothing is retried, because after a failed
 * write-back the kernel may drop the pages and a second fdatasync would lie.
 * A disk that is not the kernel's always goes through its table.
 */
#include "wal/wal_i.h"

#include <liburing.h>
#include <stdlib.h>

#define RING_ENTRIES 4u

/* Decides the back end.  The ring itself is made in the thread that writes. */
int wal_sync_probe(struct wal *w)
{
	struct io_uring r;

	atomic_store_explicit(&w->backend, WAL_PWRITE, memory_order_relaxed);
	if (!w->may_uring)
		return 0;
	int rc = io_uring_queue_init(RING_ENTRIES, &r, 0);
	if (rc < 0)
		return w->must_uring ? rc : 0;
	io_uring_queue_exit(&r);
	atomic_store_explicit(&w->backend, WAL_URING, memory_order_relaxed);
	return 0;
}

static int pwrite_sync(struct wal *w, const void *p, size_t n, uint64_t off)
{
	ssize_t r;

	do
		r = w->disk->ops->pwrite(w->disk, w->fd, p, n, off);
	while (r == -EINTR);
	if (r < 0)
		return (int)r;
	if ((size_t)r != n)
		return -EIO;
	return w->disk->ops->fdatasync(w->disk, w->fd);
}

static int uring_sync(struct wal *w, struct io_uring *ring, const void *p, size_t n, uint64_t off)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int err = 0;

	if (!sqe)
		return -EIO;
	io_uring_prep_write(sqe, w->fd, p, (unsigned)n, off);
	io_uring_sqe_set_data64(sqe, 1);
	sqe->flags |= IOSQE_IO_LINK;
	sqe = io_uring_get_sqe(ring);
	if (!sqe)
		return -EIO;
	io_uring_prep_fsync(sqe, w->fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data64(sqe, 2);
	int rc = io_uring_submit_and_wait(ring, 2);
	if (rc < 0 && rc != -EINTR)
		return rc;
	/* Where memory is short the kernel may take only the first, or none; the rest is never answered. */
	int taken = rc == -EINTR ? 2 : rc;
	if (taken < 2)
		err = -EIO;
	for (int i = 0; i < taken; i++) {
		do
			rc = io_uring_wait_cqe(ring, &cqe);
		while (rc == -EINTR);
		if (rc < 0)
			return rc;
		int res = cqe->res;
		if (io_uring_cqe_get_data64(cqe) == 1) {
			if (res < 0)
				err = res;
			else if ((size_t)res != n)
				err = -EIO;
		} else if (res < 0 && !err) {
			err = res;
		}
		io_uring_cqe_seen(ring, cqe);
	}
	return err;
}

int wal_sync_write(struct wal *w, const void *p, size_t n, uint64_t off)
{
	if (atomic_load_explicit(&w->backend, memory_order_relaxed) == WAL_URING && !w->ring) {
		struct io_uring *ring = malloc(sizeof *ring);
		int rc = ring ? io_uring_queue_init(RING_ENTRIES, ring, 0) : -ENOMEM;
		if (rc < 0) {
			free(ring);
			if (w->must_uring)
				return rc;
			atomic_store_explicit(&w->backend, WAL_PWRITE, memory_order_relaxed);
		} else {
			w->ring = ring;
		}
	}
	return w->ring ? uring_sync(w, w->ring, p, n, off) : pwrite_sync(w, p, n, off);
}

void wal_sync_release(struct wal *w)
{
	if (w->ring)
		io_uring_queue_exit(w->ring);
	free(w->ring);
	w->ring = NULL;
}
