/* place.c - from what the user typed to a socket and a collection.
 *
 * The root of a vecfs mount is found by walking up from a path until a directory of FUSE's type
 * offers .vecfs/socket, which holds the socket's path.  The type is checked so that a directory
 * somebody else prepared elsewhere does not lead a tool astray.
 */
#include "client/client.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FUSE_MAGIC 0x65735546

/* The first line of DIR/.vecfs/socket when DIR lies in a FUSE mount. */
static char *socket_of(const char *dir)
{
	char path[PATH_MAX + 32], line[PATH_MAX + 1];
	struct statfs fs;

	if (statfs(dir, &fs) < 0 || fs.f_type != FUSE_MAGIC)
		return NULL;
	snprintf(path, sizeof path, "%s/.vecfs/socket", strcmp(dir, "/") == 0 ? "" : dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	ssize_t n = read(fd, line, sizeof line - 1);
	close(fd);
	if (n <= 0)
		return NULL;
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	return line[0] == '/' ? strdup(line) : NULL;
}

/* Walks up from 'path', an absolute one without links.  Returns the socket (malloc'd) and the
 * length of the root's path. */
static char *mount_of(const char *path, size_t *ret_root_len)
{
	char dir[PATH_MAX];

	if (snprintf(dir, sizeof dir, "%s", path) >= (int)sizeof dir)
		return NULL;
	for (;;) {
		char *sock = socket_of(dir[0] ? dir : "/");

		if (sock) {
			*ret_root_len = strlen(dir);
			return sock;
		}
		char *slash = strrchr(dir, '/');
		if (!slash || !dir[0])
			return NULL;
		*slash = 0;
	}
}

/* realpath, also for a last component that does not exist yet. */
static char *real_path(const char *arg)
{
	char *p = realpath(arg, NULL);

	if (p || errno != ENOENT)
		return p;
	char *copy = strdup(arg);
	if (!copy)
		return NULL;
	size_t n = strlen(copy);
	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = 0;
	char *slash = strrchr(copy, '/');
	const char *base = slash ? slash + 1 : copy;
	char *dir = slash == copy ? strdup("/") : realpath(slash ? (*slash = 0, copy) : ".", NULL);
	if (dir && asprintf(&p, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, base) < 0)
		p = NULL;
	free(dir);
	free(copy);
	return p;
}

static int take_name(struct client_place *ret, const char *name, struct vx_err *err)
{
	int rc = vx_name_check(name, err);

	if (rc == 0)
		snprintf(ret->name, sizeof ret->name, "%s", name);
	return rc;
}

/* Name from a path; its mount's socket, if it lies in one. */
static int from_path(
	struct client_place *ret, const char *arg, char **ret_socket, struct vx_err *err)
{
	char *path = real_path(arg), *sock = NULL;
	size_t root_len = 0;
	int rc;

	if (!path)
		return vx_err_set(err, -errno, "%s: %s", arg, strerror(errno));
	sock = mount_of(path, &root_len);
	if (sock) {
		const char *rest = path + root_len;

		rest += strspn(rest, "/");
		rc = strchr(rest, '/') ? vx_err_set(err, -EINVAL,
						 "%s is not a collection but lies in one", arg)
		     : *rest           ? take_name(ret, rest, err)
				       : 0;
	} else {
		const char *base = strrchr(path, '/');

		rc = take_name(ret, base ? base + 1 : path, err);
		/* A path that leads nowhere is a mistake unless the socket is known otherwise. */
		if (rc == 0 && !getenv("VECFS_SOCKET"))
			rc = vx_err_set(err, -ENOENT, "%s does not lie in a vecfs mount", arg);
	}
	free(path);
	if (rc)
		free(sock);
	else
		*ret_socket = sock;
	return rc;
}

static int default_place(struct client_place *ret, struct vx_err *err)
{
	struct buf b = BUF_INIT;
	int rc = rpc_default_socket(&b);

	/* One's own daemon first, then the machine's. */
	if (rc ||
		(access((const char *)b.data, F_OK) < 0 && access(RPC_SYSTEM_SOCKET, F_OK) == 0)) {
		buf_release(&b);
		ret->socket = strdup(RPC_SYSTEM_SOCKET);
	} else {
		ret->socket = (char *)b.data;
	}
	ret->how = "the default place";
	return ret->socket ? 0 : vx_err_set(err, -ENOMEM, "no memory");
}

int client_place_find(const char *arg, struct client_place *ret, struct vx_err *err)
{
	const char *env = getenv("VECFS_SOCKET");
	char *sock = NULL;
	int rc = 0;

	memset(ret, 0, sizeof *ret);
	if (arg && (strchr(arg, '/') || strcmp(arg, ".") == 0 || strcmp(arg, "..") == 0))
		rc = from_path(ret, arg, &sock, err);
	else if (arg)
		rc = take_name(ret, arg, err);
	if (rc)
		return rc;
	if (env && env[0]) {
		free(sock);
		ret->socket = strdup(env);
		ret->how = "VECFS_SOCKET";
		return ret->socket ? 0 : -ENOMEM;
	}
	if (!sock) {
		char *cwd = getcwd(NULL, 0);
		size_t len;

		sock = cwd ? mount_of(cwd, &len) : NULL;
		free(cwd);
	}
	if (!sock)
		return default_place(ret, err);
	ret->socket = sock;
	ret->how = "the mount";
	return 0;
}

void client_place_release(struct client_place *p)
{
	free(p->socket);
	p->socket = NULL;
}
