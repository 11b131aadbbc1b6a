#include "base/unsynced.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096u
#define DEPTH_MAX  4u

static int note_path(char path[PATH_BYTES], const char *dir)
{
	int n = snprintf(path, PATH_BYTES, "%s/" UNSYNCED_NAME, dir);

	return n < 0 || (unsigned)n >= PATH_BYTES ? -ENAMETOOLONG : 0;
}

void unsynced_note(const char *dir)
{
	char path[PATH_BYTES];

	if (note_path(path, dir))
		return;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd >= 0)
		close(fd);
}

/* What is dirty is written first, or it would stay. */
static void forget_file(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return;
	(void)!fdatasync(fd);
	(void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

/* Takes 'fd'. */
static int forget_dir(int fd, bool deep, unsigned depth)
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		rc = -errno;
		close(fd);
		return rc;
	}
	while (rc == 0 && (errno = 0, e = readdir(d)) != NULL) {
		struct stat st;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode)) {
			forget_file(dirfd(d), e->d_name);
		} else if (S_ISDIR(st.st_mode) && deep && depth < DEPTH_MAX) {
			int sub = openat(dirfd(d), e->d_name,
				O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
			rc = sub < 0 ? -errno : forget_dir(sub, deep, depth + 1);
		}
	}
	if (rc == 0 && errno)
		rc = -errno;
	closedir(d);
	return rc;
}

int unsynced_settle(const char *dir, bool deep, bool *ret_noted)
{
	char path[PATH_BYTES];
	int rc = note_path(path, dir);

	*ret_noted = false;
	if (rc)
		return rc;
	if (access(path, F_OK) < 0)
		return 0;
	*ret_noted = true;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 ? -errno : forget_dir(fd, deep, 0);
	if (rc == 0 && unlink(path) < 0)
		rc = -errno;
	return rc;
}
