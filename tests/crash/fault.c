/* fault.c - to be preloaded: the n-th call that changes a file below $FAULT_DIR fails, or is the last.
 *
 *	FAULT_DIR	calls on paths below it, and on descriptors of such files, count
 *	FAULT_STATE	a file of struct state, shared with whoever looks on
 *
 * 'at' 0 counts only.  'what' is an errno for the call to fail with, once (a write fails half done), or
 * -1: the process is killed before the call.  Calls count over all threads of the process, so one n is
 * one place in a script that does one thing at a time.
 */
#undef _FILE_OFFSET_BITS /* both names of a call are defined here */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct state {
	int64_t at;
	int64_t what;
	_Atomic int64_t calls;
	_Atomic int64_t fired;
	char call[32];
	char path[400];
};

static struct state *state;
static const char *dir;
static size_t dir_len;

__attribute__((constructor)) static void init(void)
{
	const char *file = getenv("FAULT_STATE");

	dir = getenv("FAULT_DIR");
	if (!dir || !file)
		return;
	dir_len = strlen(dir);
	int fd = open(file, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	void *p = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		state = p;
}

/* 0: go on.  Else the errno to fail with. */
static int strike(const char *call, const char *path)
{
	if (!state || strncmp(path, dir, dir_len) != 0)
		return 0;
	int64_t n = atomic_fetch_add(&state->calls, 1) + 1;
	if (n != state->at)
		return 0;
	snprintf(state->call, sizeof state->call, "%s", call);
	snprintf(state->path, sizeof state->path, "%s", path + dir_len);
	atomic_store(&state->fired, n);
	if (state->what < 0) {
		kill(getpid(), SIGKILL);
		pause();
	}
	return (int)state->what;
}

static int strike_fd(const char *call, int fd)
{
	char name[64], path[PATH_MAX];

	if (!state)
		return 0;
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, path, sizeof path - 1);
	path[n > 0 ? n : 0] = 0;
	return strike(call, path);
}

#define NEXT(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	int rc = strike_fd("pwrite", fd);

	if (rc && n > 1)
		(void)!NEXT(pwrite)(fd, p, n / 2, at);
	if (rc) {
		errno = rc;
		return -1;
	}
	return NEXT(pwrite)(fd, p, n, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	return pwrite(fd, p, n, at);
}

ssize_t write(int fd, const void *p, size_t n)
{
	int rc = strike_fd("write", fd);

	if (rc) {
		errno = rc;
		return -1;
	}
	return NEXT(write)(fd, p, n);
}

#define BY_FD(name)                                                                                \
	int name(int fd)                                                                           \
	{                                                                                          \
		int rc = strike_fd(#name, fd);                                                     \
		if (rc) {                                                                          \
			errno = rc;                                                                \
			return -1;                                                                 \
		}                                                                                  \
		return NEXT(name)(fd);                                                             \
	}
BY_FD(fsync)
BY_FD(fdatasync)
BY_FD(syncfs)

#define BY_SIZE(name)                                                                              \
	int name(int fd, off_t size)                                                               \
	{                                                                                          \
		int rc = strike_fd(#name, fd);                                                     \
		if (rc) {                                                                          \
			errno = rc;                                                                \
			return -1;                                                                 \
		}                                                                                  \
		return NEXT(name)(fd, size);                                                       \
	}
BY_SIZE(ftruncate)
BY_SIZE(ftruncate64)

int posix_fallocate(int fd, off_t at, off_t n)
{
	int rc = strike_fd("posix_fallocate", fd);

	return rc ? rc : NEXT(posix_fallocate)(fd, at, n);
}

int posix_fallocate64(int fd, off64_t at, off64_t n)
{
	return posix_fallocate(fd, at, n);
}

#define BY_PATH(name)                                                                              \
	int name(const char *path)                                                                 \
	{                                                                                          \
		int rc = strike(#name, path);                                                      \
		if (rc && rc != ENOSPC) { /* for which there is always room */                     \
			errno = rc;                                                                \
			return -1;                                                                 \
		}                                                                                  \
		return NEXT(name)(path);                                                           \
	}
BY_PATH(unlink)
BY_PATH(rmdir)

int mkdir(const char *path, mode_t mode)
{
	int rc = strike("mkdir", path);

	if (rc) {
		errno = rc;
		return -1;
	}
	return NEXT(mkdir)(path, mode);
}

int rename(const char *from, const char *to)
{
	int rc = strike("rename", from);

	if (rc) {
		errno = rc;
		return -1;
	}
	return NEXT(rename)(from, to);
}

/* Opening counts when it may make the file. */
#define OPEN(name)                                                                                 \
	int name(const char *path, int flags, ...)                                                 \
	{                                                                                          \
		mode_t mode = 0;                                                                   \
		if (flags & O_CREAT) {                                                             \
			va_list ap;                                                                \
			va_start(ap, flags);                                                       \
			mode = va_arg(ap, mode_t);                                                 \
			va_end(ap);                                                                \
		}                                                                                  \
		int rc = (flags & O_CREAT) && access(path, F_OK) < 0 ? strike("open", path) : 0;   \
		if (rc) {                                                                          \
			errno = rc;                                                                \
			return -1;                                                                 \
		}                                                                                  \
		return NEXT(name)(path, flags, mode);                                              \
	}
OPEN(open)
OPEN(open64)
