/* unix.c - unix sockets by path.
 *
 * Two daemons may start at once with the same path, and a killed one leaves its socket behind.  So
 * the steps "does anybody answer there?", unlink, bind and listen are taken under an flock of the
 * directory: whoever comes second finds a socket that answers.
 *
 * An address holds 107 bytes of path.  A longer path is reached as /proc/self/fd/N/NAME through a
 * descriptor of its directory.
 */
#include "rpc/rpc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

int rpc_default_socket(struct buf *ret)
{
	const char *dir = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME");
	char run[40];
	int rc;

	ret->len = 0;
	snprintf(run, sizeof run, "/run/user/%u", (unsigned)geteuid());
	if (geteuid() == 0)
		rc = buf_printf(ret, "%s", RPC_SYSTEM_SOCKET);
	else if (dir && dir[0] == '/')
		rc = buf_printf(ret, "%s/vecfs.sock", dir);
	else if (access(run, X_OK) == 0)
		rc = buf_printf(ret, "%s/vecfs.sock", run);
	else if (home && home[0] == '/')
		rc = buf_printf(ret, "%s/.vecfs.sock", home);
	else
		return -ENOENT;
	return rc ? rc : buf_cstr(ret);
}

/* Opens the directory of 'path'; *ret_name is the rest. */
static int open_dir(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");

	if (!dir)
		return -ENOMEM;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : fd;
	free(dir);
	*ret_name = slash ? slash + 1 : path;
	return rc;
}

static int address(const char *path, int dir_fd, const char *name, struct sockaddr_un *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->sun_family = AF_UNIX;
	int n = strlen(path) < sizeof ret->sun_path
			? snprintf(ret->sun_path, sizeof ret->sun_path, "%s", path)
			: snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s",
				  dir_fd, name);
	return n > 0 && (size_t)n < sizeof ret->sun_path ? 0 : -ENAMETOOLONG;
}

static int connect_to(const struct sockaddr_un *a, int *ret_fd)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	while (connect(fd, (const struct sockaddr *)a, sizeof *a) < 0) {
		int rc = -errno;

		if (rc == -EINTR)
			continue;
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

int rpc_unix_connect(const char *path, int *ret_fd)
{
	struct sockaddr_un a;
	const char *name;
	int dir_fd = -1, rc = 0;

	if (strlen(path) >= sizeof a.sun_path) {
		dir_fd = open_dir(path, &name);
		if (dir_fd < 0)
			return dir_fd;
	} else {
		name = path;
	}
	rc = address(path, dir_fd, name, &a);
	if (rc == 0)
		rc = connect_to(&a, ret_fd);
	if (dir_fd >= 0)
		close(dir_fd);
	return rc;
}

/* Clears the way: 0 when 'name' does not exist (any more). */
static int clear_stale(int dir_fd, const char *name, const struct sockaddr_un *a, const char *path,
	struct vx_err *err)
{
	struct stat st;
	int fd;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return vx_err_set(err, -EEXIST, "%s exists and is no socket", path);
	int rc = connect_to(a, &fd);
	if (rc == 0) {
		close(fd);
		return vx_err_set(err, -EADDRINUSE, "another daemon serves %s", path);
	}
	if (rc != -ECONNREFUSED)
		return vx_err_set(err, rc, "%s: %s", path, strerror(-rc));
	return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int rpc_unix_listen(const char *path, int *ret_fd, struct vx_err *err)
{
	struct sockaddr_un a;
	const char *name;
	int fd = -1;
	int dir_fd = open_dir(path, &name);

	if (dir_fd < 0)
		return vx_err_set(err, dir_fd, "directory of %s: %s", path, strerror(-dir_fd));
	int rc = address(path, dir_fd, name, &a);
	if (rc) {
		vx_err_set(err, rc, "%s: the name of the socket is too long", path);
		goto out;
	}
	while (flock(dir_fd, LOCK_EX) < 0) {
		if (errno != EINTR) {
			rc = vx_err_set(err, -errno, "lock of the directory of %s: %s", path,
				strerror(errno));
			goto out;
		}
	}
	rc = clear_stale(dir_fd, name, &a, path, err);
	if (rc)
		goto out;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The mode is set before bind(2) gives the socket its name: nobody else gets in between. */
	if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
		fchmodat(dir_fd, name, 0600, 0) < 0 || listen(fd, BACKLOG) < 0)
		rc = vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
out:
	close(dir_fd); /* and with it the lock */
	if (rc) {
		if (fd >= 0)
			close(fd);
		if (err && !err->msg[0])
			vx_err_set(err, rc, "%s: %s", path, strerror(-rc));
		return rc;
	}
	*ret_fd = fd;
	return 0;
}
