/* snapin.c - a snapshot that comes from elsewhere, file by file.
 *
 * It is written under a name that nothing looks at.  Every file's length and checksum must be the manifest's
 * once it is whole; then it is synced.  At the end all files are read back as a restore reads them, and the directory
 * gets its name (snap_publish).
 *
 * A file that the sender knows us to have is linked from any snapshot of the collection, after its
 * checksum has been verified where it lies: an incremental snapshot never rests on a damaged one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "cluster/snapshot_i.h"

struct snap_in {
	struct db *db;
	char coll[VX_NAME_MAX + 1], name[VX_NAME_MAX + 1];
	char dir[SNAP_PATH_MAX];
	struct manifest m;
	struct buf text; /* of the manifest */
	size_t next;     /* file under way */
	int fd;          /* of it; -1: not begun */
	uint64_t have;   /* bytes of it */
	struct hash_stream *sum;
	bool done;
};

void snapshot_in_free(struct snap_in *in)
{
	if (!in)
		return;
	if (in->fd >= 0)
		close(in->fd);
	if (in->dir[0] && !in->done)
		snap_remove_dir(in->dir);
	hash_stream_free(in->sum);
	manifest_release(&in->m);
	buf_release(&in->text);
	free(in);
}

void snapshot_in_info(const struct snap_in *in, struct snap_info *ret)
{
	*ret = (struct snap_info){
		.coll = in->coll,
		.name = in->name,
		.time_ns = in->m.time_ns,
		.records = manifest_records(&in->m),
		.bytes = manifest_bytes(&in->m),
		.files = in->m.n_files,
	};
}

static int check_absent(const struct snap_in *in, struct vx_err *err)
{
	int fd = snapshot_open(in->db, in->coll, in->name, NULL);

	if (fd < 0)
		return 0;
	close(fd);
	return vx_err_set(err, -EEXIST, "snapshot '%s' of '%s' exists already", in->name, in->coll);
}

int snapshot_in_begin(struct db *db, const char *coll, const char *name, const void *manifest,
	size_t len, struct snap_in **ret, struct vx_err *err)
{
	int rc = vx_name_check(coll, err);

	if (rc == 0 && name)
		rc = vx_name_check(name, err);
	if (rc)
		return rc;
	struct snap_in *in = calloc(1, sizeof *in);
	if (!in)
		return -ENOMEM;
	in->db = db;
	in->fd = -1;
	snprintf(in->coll, sizeof in->coll, "%s", coll);
	in->sum = hash_stream_new();
	rc = in->sum ? manifest_parse(manifest, len, &in->m, err) : -ENOMEM;
	if (rc == 0) {
		snprintf(in->name, sizeof in->name, "%s", name ? name : in->m.name);
		rc = check_absent(in, err);
	}
	if (rc == 0)
		rc = buf_append(&in->text, manifest, len);
	if (rc == 0)
		rc = home_space_check(db, (size_t)manifest_bytes(&in->m) / 4, false, err);
	if (rc == 0)
		rc = snap_make_dir(db, coll, in->name, in->dir, err);
	if (rc) {
		snapshot_in_free(in);
		return rc;
	}
	*ret = in;
	return 0;
}

static const struct manifest_file *current(const struct snap_in *in)
{
	return in->next < in->m.n_files ? &in->m.files[in->next] : NULL;
}

static int begin_file(struct snap_in *in, const struct manifest_file *f, struct vx_err *err)
{
	char path[SNAP_PATH_MAX];

	int rc = path_join(path, sizeof path, "%s/%s", in->dir, f->name);
	if (rc)
		return rc;
	in->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (in->fd < 0)
		return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	hash_stream_reset(in->sum);
	in->have = 0;
	return 0;
}

static int end_file(struct snap_in *in, const struct manifest_file *f, struct vx_err *err)
{
	if (hash_stream_sum(in->sum) != f->sum)
		return vx_err_set(err, -EUCLEAN, "%s came damaged: its checksum is wrong", f->name);
	int rc = ftruncate(in->fd, (off_t)f->size) < 0 || fsync(in->fd) < 0 ? -errno : 0;
	if (close(in->fd) < 0 && rc == 0)
		rc = -errno;
	in->fd = -1;
	in->next++;
	return rc ? vx_err_set(err, rc, "%s: cannot write", f->name) : 0;
}

/* Blocks of zeros become holes. */
static int write_file(struct snap_in *in, const uint8_t *p, size_t n)
{
	static const uint8_t zero[4096];
	int rc = 0;

	for (size_t at = 0; at < n && rc == 0;) {
		size_t m = VX_MIN(n - at, sizeof zero);
		if (memcmp(p + at, zero, m) != 0)
			rc = disk_pwrite(disk_real(), in->fd, p + at, m, in->have + at);
		at += m;
	}
	return rc;
}

int snapshot_in_write(struct snap_in *in, const void *p, size_t n, struct vx_err *err)
{
	const struct manifest_file *f = current(in);

	if (!f)
		return vx_err_set(err, -EUCLEAN, "more came than the manifest says");
	int rc = in->fd < 0 ? begin_file(in, f, err) : 0;
	if (rc)
		return rc;
	if (n > f->size - in->have)
		return vx_err_set(err, -EUCLEAN, "%s is longer than the manifest says", f->name);
	rc = write_file(in, p, n);
	if (rc)
		return vx_err_set(err, rc, "%s: %s", f->name, strerror(-rc));
	hash_stream_add(in->sum, p, n);
	in->have += n;
	return in->have == f->size ? end_file(in, f, err) : 0;
}

/* --- links ----------------------------------------------------------------------------------- */

/* Links the file from one snapshot, if it has it: 1, 0, or an error. */
static int link_from(
	struct snap_in *in, const char *from, const struct manifest_file *f, struct vx_err *err)
{
	char path[SNAP_PATH_MAX], to[SNAP_PATH_MAX];
	struct manifest m;
	uint64_t size = 0, sum = 0;

	if (snap_load(in->db, in->coll, from, &m, NULL))
		return 0;
	const struct manifest_file *same = NULL;
	for (size_t i = 0; i < m.n_files && !same; i++)
		if (m.files[i].size == f->size && m.files[i].sum == f->sum)
			same = &m.files[i];
	int rc = same ? snap_path_of(in->db, in->coll, from, same->name, path) : 0;
	bool found = same && rc == 0;
	manifest_release(&m);
	if (!found)
		return rc;
	if (snap_sum(path, NULL, NULL, &size, &sum, NULL) || size != f->size || sum != f->sum)
		return 0; /* damaged there */
	rc = path_join(to, sizeof to, "%s/%s", in->dir, f->name);
	if (rc == 0 && link(path, to) < 0)
		rc = vx_err_set(err, -errno, "%s: cannot link: %s", path, strerror(errno));
	if (rc == 0)
		rc = snap_sync(to, err);
	return rc ? rc : 1;
}

int snapshot_in_link(struct snap_in *in, struct vx_err *err)
{
	const struct manifest_file *f = current(in);
	struct buf names = BUF_INIT;
	int found = 0;

	if (!f || in->fd >= 0)
		return vx_err_set(err, -EUCLEAN, "a file is missing in the stream");
	int rc = snapshot_names(in->db, in->coll, &names);
	for (size_t at = 0; rc == 0 && !found && at < names.len;) {
		const char *name = (const char *)names.data + at;
		at += strlen(name) + 1;
		found = link_from(in, name, f, err);
		rc = VX_MIN(found, 0);
	}
	buf_release(&names);
	if (rc)
		return rc;
	if (!found)
		return vx_err_set(err, -ENOENT,
			"%s is not in the stream, and no snapshot of '%s' here has it whole: send "
			"the snapshot it builds on first, or send all of it",
			f->name, in->coll);
	in->next++;
	return 0;
}

int snapshot_in_finish(struct snap_in *in, struct vx_err *err)
{
	int rc = 0;

	/* Empty files have no bytes to begin them. */
	while (rc == 0 && in->fd < 0 && current(in) && current(in)->size == 0)
		rc = snapshot_in_write(in, "", 0, err);
	if (rc == 0 && (current(in) || in->fd >= 0))
		rc = vx_err_set(err, -EUCLEAN, "the stream ends before all files have come");
	for (size_t i = 0; rc == 0 && i < in->m.n_slices; i++)
		rc = snap_check_slice(in->dir, &in->m.slices[i], NULL, NULL, NULL, NULL, err);
	if (rc == 0)
		rc = snap_publish(
			in->db, in->dir, in->coll, in->name, in->text.data, in->text.len, err);
	in->done = rc == 0;
	return rc;
}
