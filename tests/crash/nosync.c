/* nosync.c - a planted bug, to be preloaded: syncs of files whose path has $NOSYNC in it do nothing. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool ignored(int fd)
{
	char name[64], path[4096];
	const char *pattern = getenv("NOSYNC");

	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, path, sizeof path - 1);
	path[n > 0 ? n : 0] = 0;
	return pattern && strstr(path, pattern);
}

static int pass(const char *what, int fd)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, what);

	return next(fd);
}

int fsync(int fd)
{
	return ignored(fd) ? 0 : pass("fsync", fd);
}

int fdatasync(int fd)
{
	return ignored(fd) ? 0 : pass("fdatasync", fd);
}
