/* wal_stop.c - the verdict that stops a group, and the evidence.
 *
 * Once a group is stopped the log goes on without it, and the segments that hold what is left of its entries are
 * recycled like any other.  So before anything else is written, copies of them are made, NNNNNNNNNN.damaged, and then a
 * file stopped-NNNNNNNNNN for the group, with the reason for a person to read.  A file of that name is the verdict: however
 * the log looks later, its group stays stopped until wal_forget() takes the file away.  Should it be lost, the tables
 * of later segments say so too.
 *
 * A segment that differs from the copy that there is of it gets another one, NNNNNNNNNN.damaged-2 and so on.  Copies are left to the operator, who removes them when they are of no more use.
 */
#include "wal/wal_i.h"

#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 32
#define PIECE          (256u << 10)
#define COPIES_MAX     99u /* of one segment */

static void stop_name(char ret[NAME_MAX_BYTES], uint32_t group)
{
	snprintf(ret, NAME_MAX_BYTES, "stopped-%010u", group);
}

/* wal_open has made sure that it fits. */
static void stop_path(const struct wal *w, uint32_t group, char ret[WAL_PATH_MAX])
{
	char name[NAME_MAX_BYTES];

	stop_name(name, group);
	int n = snprintf(ret, WAL_PATH_MAX, "%s/%s", w->dir, name);
	assert(n > 0 && n < WAL_PATH_MAX);
}

/* Unreadable or empty, it is a verdict all the same. */
static void read_why(struct wal *w, uint32_t group, char why[WAL_WHY_MAX])
{
	struct disk *d = w->disk;
	char path[WAL_PATH_MAX];
	ssize_t n = 0;

	stop_path(w, group, path);
	int fd = d->ops->open(d, path, O_RDONLY, 0);
	if (fd >= 0) {
		n = d->ops->pread(d, fd, why, WAL_WHY_MAX - 1, 0);
		(void)d->ops->close(d, fd);
	}
	why[n > 0 ? n : 0] = 0;
	why[strcspn(why, "\n")] = 0;
	for (char *p = why; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
	if (!why[0])
		snprintf(why, WAL_WHY_MAX, "the file that says why cannot be read");
}

int wal_stop_read(struct wal *w, const char *name)
{
	char why[WAL_WHY_MAX], want[NAME_MAX_BYTES];
	uint64_t group;

	if (strncmp(name, "stopped-", 8) != 0 || !isdigit((unsigned char)name[8]))
		return 0;
	group = strtoull(name + 8, NULL, 10);
	stop_name(want, (uint32_t)group);
	if (group > UINT32_MAX || strcmp(name, want) != 0)
		return 0;
	struct wal_group *g = wal_group_get(w, (uint32_t)group);
	if (!g)
		return -ENOMEM;
	read_why(w, g->id, why);
	return wal_doubt_stop(g, why, true);
}

/* What cannot be read is zeros. */
static void read_piece(struct wal *w, int fd, uint8_t *piece, size_t n, uint64_t off)
{
	if (disk_pread(w->disk, fd, piece, n, off) == 0)
		return;
	for (size_t at = 0; at < n; at += WAL_BLOCK) {
		size_t k = VX_MIN((size_t)WAL_BLOCK, n - at);
		if (disk_pread(w->disk, fd, piece + at, k, off + at) != 0)
			memset(piece + at, 0, k);
	}
}

/* Does the file 'path' hold what segment 'in' does?  'piece' has room for two. */
static int compare(
	struct wal *w, int in, uint64_t size, const char *path, uint8_t *piece, bool *ret_same)
{
	const struct disk_ops *ops = w->disk->ops;
	uint64_t have = 0;
	int fd = ops->open(w->disk, path, O_RDONLY, 0);

	if (fd < 0)
		return fd;
	int rc = ops->size(w->disk, fd, &have);
	*ret_same = rc == 0 && have == size;
	for (uint64_t off = 0; off < size && *ret_same; off += PIECE) {
		size_t n = (size_t)VX_MIN(size - off, (uint64_t)PIECE);
		read_piece(w, in, piece, n, off);
		read_piece(w, fd, piece + PIECE, n, off);
		*ret_same = memcmp(piece, piece + PIECE, n) == 0;
	}
	(void)ops->close(w->disk, fd);
	return rc;
}

/* The name of the copy.  One that is there is never written over: it may have what is gone from the segment by now.
 * *ret_same: it is there, and the same. */
static int copy_name(struct wal *w, int in, uint64_t size, uint32_t seq, uint8_t *piece,
	char ret[WAL_PATH_MAX], bool *ret_same)
{
	wal_path(w, ret, "damaged", seq);
	size_t len = strlen(ret);

	*ret_same = false;
	for (unsigned i = 2; i <= COPIES_MAX + 1; i++) {
		int rc = compare(w, in, size, ret, piece, ret_same);
		if (rc || *ret_same)
			return rc == -ENOENT ? 0 : rc;
		snprintf(ret + len, WAL_PATH_MAX - len, "-%u", i);
	}
	return -EEXIST;
}

static int copy(struct wal *w, uint32_t seq, uint8_t *piece)
{
	const struct disk_ops *ops = w->disk->ops;
	char from[WAL_PATH_MAX], tmp[WAL_PATH_MAX + 8], to[WAL_PATH_MAX];
	uint64_t size = 0;
	int out = -1, rc;
	bool same = false;

	wal_path(w, from, "wal", seq);
	wal_path(w, to, "damaged", seq);
	snprintf(tmp, sizeof tmp, "%s.tmp", to);
	int in = ops->open(w->disk, from, O_RDONLY, 0);
	if (in < 0)
		return in == -ENOENT ? 0 : in;
	rc = ops->size(w->disk, in, &size);
	if (rc == 0)
		rc = copy_name(w, in, size, seq, piece, to, &same);
	if (rc == 0 && !same) {
		out = ops->open(w->disk, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0640);
		rc = out < 0 ? out : 0;
	}
	for (uint64_t off = 0; off < size && rc == 0 && !same; off += PIECE) {
		size_t n = (size_t)VX_MIN(size - off, (uint64_t)PIECE);
		read_piece(w, in, piece, n, off);
		rc = disk_pwrite(w->disk, out, piece, n, off);
	}
	if (rc == 0 && !same)
		rc = ops->fdatasync(w->disk, out);
	if (out >= 0)
		(void)ops->close(w->disk, out);
	(void)ops->close(w->disk, in);
	if (rc == 0 && !same)
		rc = ops->rename(w->disk, tmp, to);
	if (rc && out >= 0)
		(void)ops->unlink(w->disk, tmp);
	return rc;
}

int wal_stop_write(struct wal *w, uint32_t from, uint32_t to, struct vx_err *err)
{
	char text[WAL_WHY_MAX + 128], name[NAME_MAX_BYTES];
	uint8_t *piece = malloc(2 * PIECE);
	int rc = piece ? 0 : -ENOMEM;

	for (uint32_t seq = from; seq <= to && rc == 0; seq++)
		rc = copy(w, seq, piece);
	free(piece);
	if (rc == 0)
		rc = w->disk->ops->sync_dir(w->disk, w->dir);
	if (rc)
		return vx_err_set(err, rc,
			"%s: damaged, and what is left cannot be copied before groups are stopped: "
			"%s",
			w->dir, strerror(-rc));
	for (size_t i = 0; i < w->n_groups && rc == 0; i++) {
		struct wal_group *g = w->groups[i];
		if (!g->stopped || g->stop_file)
			continue;
		int n = snprintf(text, sizeof text,
			"%s\nsegments %u to %u were copied (.damaged)\n", g->stopped, from, to);
		stop_name(name, g->id);
		rc = disk_write_file(w->disk, w->dir, name, text, (size_t)n);
		g->stop_file = rc == 0;
	}
	return rc ? vx_err_set(err, rc, "%s: a group cannot be stopped: %s", w->dir, strerror(-rc))
		  : 0;
}

const char *wal_stopped(const struct wal *w, uint32_t group)
{
	const struct wal_group *g = wal_group_find(w, group);

	return g ? g->stopped : NULL;
}

int wal_lift(struct wal *w, uint32_t group, uint64_t *ret_term, uint64_t *ret_index)
{
	struct wal_group *g = wal_group_find(w, group);

	if (!g || !g->stopped)
		return -ENOENT;
	free(g->stopped);
	g->stopped = NULL;
	*ret_term = g->term;
	*ret_index = g->base;
	/* The mark is where the log begins, or a table would tell of entries that nobody has. */
	g->mark_index = g->base;
	g->doubt = (struct wal_doubt){.in_table = 0};
	wal_group_unstage(w);
	return 0;
}

int wal_forget(struct wal *w, uint32_t group)
{
	struct wal_group *g = wal_group_find(w, group);
	char path[WAL_PATH_MAX];

	if (!g || g->stopped)
		return -EBUSY;
	stop_path(w, group, path);
	int rc = w->disk->ops->unlink(w->disk, path);
	if (rc == 0 || rc == -ENOENT)
		rc = w->disk->ops->sync_dir(w->disk, w->dir);
	g->stop_file &= rc != 0;
	return rc;
}
