/* fs_mount.c - a mount point: clearing what a dead daemon left, checking the place, mounting.
 *
 * A supervisor mounts and hands the descriptor on; a daemon by itself does both.
 */
#include "daemon/fs_mount.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

static int run_fusermount(const char *mountpoint)
{
	pid_t pid = fork();
	int st = 0;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mountpoint,
			(char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(st) && WEXITSTATUS(st) == 0 ? 0 : -EPERM;
}

/* What a killed daemon leaves answers ENOTCONN until it is unmounted. */
static int clear_stale(const char *mountpoint, struct vx_err *err)
{
	struct stat st;

	for (int i = 0; i < 8 && stat(mountpoint, &st) < 0; i++) {
		if (errno != ENOTCONN && errno != ECONNABORTED)
			return vx_err_set(err, -errno, "%s: %s", mountpoint, strerror(errno));
		/* It may also go by itself: its daemon has just ended. */
		if (umount2(mountpoint, MNT_DETACH) == 0 || run_fusermount(mountpoint) == 0)
			log_info("fs", "cleared a dead mount at %s", mountpoint);
	}
	if (stat(mountpoint, &st) < 0)
		return vx_err_set(err, -errno,
			errno == ENOTCONN ? "%s holds a dead mount that cannot be unmounted: %s"
					  : "%s: %s",
			mountpoint, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return vx_err_set(err, -ENOTDIR, "%s is not a directory", mountpoint);
	return 0;
}

static bool is_inside(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == 0 || path[n] == '/' || !strcmp(dir, "/"));
}

/* Whether a live vecfs is mounted at 'path' already. */
static bool is_vecfs(const char *path)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	bool found = false;

	while (f && getline(&line, &cap, f) > 0) {
		char where[PATH_MAX];
		const char *type = strstr(line, " - ");
		if (type && sscanf(line, "%*s %*s %*s %*s %4095s", where) == 1 &&
			!strcmp(where, path))
			found = !strncmp(type + 3, "fuse.vecfs ", 11);
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

int mount_check(const char *data_dir, const char *mountpoint, char **ret, struct vx_err *err)
{
	char *data = NULL, *where = NULL;
	int rc = clear_stale(mountpoint, err);

	if (rc)
		return rc;
	data = realpath(data_dir, NULL);
	if (!data && errno == ENOENT) /* it is made later; what it is called has to do */
		data = strdup(data_dir);
	where = realpath(mountpoint, NULL);
	if (!data || !where)
		rc = vx_err_set(
			err, -errno, "%s: %s", data ? mountpoint : data_dir, strerror(errno));
	else if (is_inside(data, where))
		rc = vx_err_set(err, -EINVAL,
			"the data directory %s is inside the mount %s: the daemon would wait for "
			"itself",
			data, where);
	else if (is_inside(where, data))
		rc = vx_err_set(
			err, -EINVAL, "the mount %s is inside the data directory %s", where, data);
	else if (is_vecfs(where))
		rc = vx_err_set(err, -EBUSY, "a vecfs is mounted on %s already", where);
	free(data);
	if (rc == 0)
		*ret = where;
	else
		free(where);
	return rc;
}

/* libfuse prints its complaints on stderr; the log has a form of its own. */
__attribute__((format(printf, 2, 0))) static void fuse_log_line(
	enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[500];

	vsnprintf(line, sizeof line, fmt, ap);
	line[strcspn(line, "\n")] = 0;
	if (level <= FUSE_LOG_ERR)
		log_error("fuse", "%s", line);
	else
		log_debug("fuse", "%s", line);
}

int mount_session_new(const struct mount_opts *o, const struct fuse_lowlevel_ops *ops,
	size_t ops_size, void *userdata, struct fuse_session **ret, struct vx_err *err)
{
	char options[200];
	char *argv[] = {"vecfs", "-o", options, NULL, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(o->debug ? 4 : 3, argv);

	if (o->debug)
		argv[3] = "-d";
	else
		fuse_set_log_func(fuse_log_line);
	snprintf(options, sizeof options, "fsname=vecfs,subtype=vecfs,default_permissions%s",
		o->allow_other ? ",allow_other" : "");
	if (access("/dev/fuse", F_OK) < 0)
		return vx_err_set(err, -ENODEV, "there is no /dev/fuse on this machine");
	struct fuse_session *se = fuse_session_new(&args, ops, ops_size, userdata);
	fuse_opt_free_args(&args); /* libfuse has put a copy of its own into it */
	if (!se)
		return vx_err_set(err, -ENOMEM, "libfuse refused the mount options");
	*ret = se;
	return 0;
}

int mount_session(struct fuse_session *se, const char *where, struct vx_err *err)
{
	if (fuse_session_mount(se, where))
		return vx_err_set(err, -EPERM,
			"cannot mount on %s (permission for /dev/fuse and mount(2), or fusermount3 "
			"and user_allow_other)",
			where);
	int fd = fuse_session_fd(se);
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		int rc = vx_err_set(err, -errno, "/dev/fuse: %s", strerror(errno));
		fuse_session_unmount(se);
		return rc;
	}
	return 0;
}
