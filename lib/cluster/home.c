/* home.c - the data directory: one owner, an identity, and room.
 *
 * DATA/lock is held with flock(2) for the life of the daemon.  DATA/node.json is written once.  A
 * ballast file is given back to the file system when it runs nearly full, so that deletes (which need a
 * little room themselves) go on when writes are refused.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "cluster/db_i.h"

#define NODE_FORMAT      1
#define BALLAST_BYTES    (8u << 20)
#define SPACE_RESERVE    (24u << 20) /* puts stop here: log, vectors, SQLite under way */
#define SPACE_CRITICAL   (4u << 20)  /* deletes stop here, after the ballast is gone */
#define LOCK_WAIT_NS     1000000000u
#define SPACE_RECHECK_NS (50u * 1000000u)

int path_join(char *out, size_t cap, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(out, cap, fmt, ap);
	va_end(ap);
	return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

static int make_dir(const char *path, struct vx_err *err)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return vx_err_set(err, -errno, "%s: cannot be made: %s", path, strerror(errno));
	return 0;
}

/* A new directory is on disk once the one that holds its name is. */
static int sync_parent(const char *dir)
{
	char path[4096];
	int rc = path_join(path, sizeof path, "%s", dir);

	if (rc)
		return rc;
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		path[--n] = 0;
	char *end = strrchr(path, '/');
	if (end)
		end[end == path] = 0;
	return disk_real()->ops->sync_dir(disk_real(), end ? path : ".");
}

static int lock_dir(struct db *db, struct vx_err *err)
{
	char path[4096];
	int rc = path_join(path, sizeof path, "%s/lock", db->dir);

	if (rc)
		return rc;
	db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (db->lock_fd < 0)
		return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	/* A daemon that was killed a moment ago may still be on its way out. */
	uint64_t deadline = clock_mono_ns() + LOCK_WAIT_NS;
	int got;
	while ((got = flock(db->lock_fd, LOCK_EX | LOCK_NB)) < 0 && errno == EWOULDBLOCK &&
		clock_mono_ns() < deadline)
		usleep(20000);
	if (got < 0) {
		char pid[32] = "";
		ssize_t n = pread(db->lock_fd, pid, sizeof pid - 1, 0);

		pid[n > 0 ? n : 0] = 0;
		pid[strcspn(pid, "\n")] = 0;
		if (errno != EWOULDBLOCK)
			return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
		return vx_err_set(err, -EBUSY, "%s is in use by another vecfsd (pid %s)", db->dir,
			pid[0] ? pid : "unknown");
	}
	if (ftruncate(db->lock_fd, 0) < 0 || dprintf(db->lock_fd, "%ld\n", (long)getpid()) < 0)
		return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

/* Over what is meant, not over how it is written. */
static int identity_sum(struct db *db, const char *cluster, char ret[17])
{
	char text[160];
	int n = snprintf(text, sizeof text, "%d %llu %s %u", NODE_FORMAT,
		(unsigned long long)db->node_id, cluster, db->n_shards);

	if (n < 0 || (size_t)n >= sizeof text)
		return -EUCLEAN;
	snprintf(ret, 17, "%016llx", (unsigned long long)hash_xxh3(text, (size_t)n, 0));
	return 0;
}

static int write_identity(struct db *db, struct vx_err *err)
{
	char text[320], name[17], sum[17];
	uint64_t cluster;

	do {
		random_bytes(&db->node_id, sizeof db->node_id);
		db->node_id >>= 12; /* fits a JSON integer everywhere */
	} while (db->node_id == 0);
	random_bytes(&cluster, sizeof cluster);
	db->n_shards = db->opts.shards ? db->opts.shards : 1;
	if (db->n_shards > SHARDS_MAX)
		return vx_err_set(err, -EINVAL, "at most %u shards", SHARDS_MAX);
	snprintf(name, sizeof name, "%016llx", (unsigned long long)cluster);
	int rc = identity_sum(db, name, sum);
	if (rc)
		return rc;
	int n = snprintf(text, sizeof text,
		"{\"format\": %d, \"node\": %llu, \"cluster\": \"%s\", \"shards\": %u, "
		"\"sum\": \"%s\"}\n",
		NODE_FORMAT, (unsigned long long)db->node_id, name, db->n_shards, sum);
	rc = disk_write_file(disk_real(), db->dir, "node.json", text, (size_t)n);
	if (rc)
		return vx_err_set(
			err, rc, "%s/node.json: cannot be written: %s", db->dir, strerror(-rc));
	return 0;
}

int home_read_identity(struct db *db, const char *path, struct vx_err *err)
{
	json_error_t je;
	json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
	json_int_t format = 0, node = 0, shards = 0;
	const char *cluster = "", *sum = NULL;
	char want[17] = "";

	if (!j)
		return vx_err_set(err, -EUCLEAN, "%s: damaged: %s", path, je.text);
	int bad = json_unpack(j, "{s:I, s:I, s:I, s:s, s?s}", "format", &format, "node", &node,
		"shards", &shards, "cluster", &cluster, "sum", &sum);
	bad = bad || node <= 0 || shards < 1 || shards > SHARDS_MAX;
	db->node_id = bad ? 0 : (uint64_t)node;
	db->n_shards = bad ? 0 : (uint32_t)shards;
	/* The first nodes have none. */
	bool differs = !bad && format == NODE_FORMAT && sum &&
		       (identity_sum(db, cluster, want) || strcmp(want, sum) != 0);
	json_decref(j);
	if (differs)
		return vx_err_set(err, -EUCLEAN, "%s: damaged: its checksum is wrong", path);
	if (bad)
		return vx_err_set(err, -EUCLEAN, "%s: damaged: a field is missing or wrong", path);
	if (format != NODE_FORMAT)
		return vx_err_set(err, -EOPNOTSUPP, "%s: format %lld; this vecfsd knows %d", path,
			(long long)format, NODE_FORMAT);
	return 0;
}

/* A node.json that is missing where shards already stand is damage, not a new directory. */
static bool has_data(struct db *db)
{
	char path[4096];
	struct stat st;

	return path_join(path, sizeof path, "%s/catalog.db", db->dir) == 0 && stat(path, &st) == 0;
}

static void ballast_make(struct db *db)
{
	char path[4096];

	if (path_join(path, sizeof path, "%s/ballast", db->dir))
		return;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (posix_fallocate(fd, 0, BALLAST_BYTES) != 0)
		(void)!ftruncate(fd, 0);
	close(fd);
}

static void ballast_drop(struct db *db)
{
	char path[4096];

	if (path_join(path, sizeof path, "%s/ballast", db->dir) == 0)
		(void)!truncate(path, 0);
}

int home_open(struct db *db, struct vx_err *err)
{
	static const char *const dirs[] = {"wal", "q", "done", "failed"};
	char path[4096];
	struct stat st;

	if (stat(db->dir, &st) < 0) {
		if (errno != ENOENT || !db->opts.create)
			return vx_err_set(err, -errno, "%s: %s", db->dir, strerror(errno));
		int rc = make_dir(db->dir, err);
		if (rc == 0)
			rc = sync_parent(db->dir);
		if (rc)
			return rc;
	} else if (!S_ISDIR(st.st_mode)) {
		return vx_err_set(err, -ENOTDIR, "%s: not a directory", db->dir);
	}
	int rc = lock_dir(db, err);
	if (rc)
		return rc;
	rc = path_join(path, sizeof path, "%s/node.json", db->dir);
	if (rc)
		return rc;
	if (stat(path, &st) == 0)
		rc = home_read_identity(db, path, err);
	else if (has_data(db))
		rc = vx_err_set(
			err, -EUCLEAN, "%s: missing, although %s holds data", path, db->dir);
	else
		rc = write_identity(db, err);
	for (size_t i = 0; rc == 0 && i < VX_ARRAY_SIZE(dirs); i++) {
		rc = path_join(path, sizeof path, "%s/%s", db->dir, dirs[i]);
		if (rc == 0)
			rc = make_dir(path, err);
	}
	if (rc == 0) {
		ballast_make(db);
		rc = disk_real()->ops->sync_dir(disk_real(), db->dir);
	}
	return rc;
}

int home_open_existing(struct db *db, struct vx_err *err)
{
	char path[4096];
	int rc = path_join(path, sizeof path, "%s/node.json", db->dir);

	if (rc)
		return rc;
	if (access(path, F_OK) < 0)
		return vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
	return home_open(db, err);
}

void home_close(struct db *db)
{
	if (db->lock_fd >= 0)
		close(db->lock_fd);
}

/* The file system is asked at most every SPACE_RECHECK_NS; what is under way meanwhile is far below the reserve. */
int home_space_check(struct db *db, size_t bytes, bool is_delete, struct vx_err *err)
{
	uint64_t now = clock_mono_ns();

	vx_lock(&db->space_lock);
	if (now - db->space_checked_ns > SPACE_RECHECK_NS || db->space_low) {
		struct statvfs vfs;

		db->space_checked_ns = now;
		if (statvfs(db->dir, &vfs) == 0) {
			uint64_t room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
			/* Once low, the room that the ballast gave does not count. */
			uint64_t want = SPACE_RESERVE + 4 * (uint64_t)bytes +
					atomic_load_explicit(
						&db->compact_need, memory_order_relaxed) +
					(db->space_low ? BALLAST_BYTES : 0);
			bool low = room < want;

			if (low && !db->space_low) {
				log_warn("node",
					"%s is nearly full (%llu MiB left): writes are "
					"refused, deletes go on",
					db->dir, (unsigned long long)(room >> 20));
				ballast_drop(db);
			} else if (!low && db->space_low) {
				log_info("node", "%s has room again", db->dir);
				ballast_make(db);
			}
			db->space_low = low;
			db->space_critical = room < SPACE_CRITICAL;
		}
	}
	bool refuse = is_delete ? db->space_critical : db->space_low;
	vx_unlock(&db->space_lock);
	if (refuse)
		return vx_err_set(err, -ENOSPC, "no space left on the file system of %s", db->dir);
	return 0;
}

int home_compact_room(struct db *db, uint64_t bytes)
{
	struct statvfs vfs;

	if (statvfs(db->dir, &vfs) != 0)
		return 0; /* the writes will tell */
	uint64_t room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return room < bytes + SPACE_CRITICAL ? -ENOSPC : 0;
}
