/* floor.c - a file system that does nothing, to measure what a question through any mount costs at least.
 *
 * One file: what is written to it is thrown away, what is read is the same few bytes.  A process of its own
 * serves it with libfuse's plain loop; write and read of the caller cross the kernel as those of
 * query.ids do, and nothing else happens.
 */
#define FUSE_USE_VERSION 314
#include "bench.h"

#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_INO  2u
#define ANSWER    "0123456789abcdef\n0123456789abcdef\n0123456789abcdef\n"
#define ATTR_SECS 100.0

static void stat_of(struct stat *s, fuse_ino_t ino)
{
	memset(s, 0, sizeof *s);
	s->st_ino = ino;
	s->st_nlink = 1;
	s->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0600;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {
		.ino = FILE_INO, .attr_timeout = ATTR_SECS, .entry_timeout = ATTR_SECS};

	(void)parent;
	if (strcmp(name, "ask") != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	stat_of(&e.attr, FILE_INO);
	fuse_reply_entry(req, &e);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat s;

	(void)fi;
	stat_of(&s, ino);
	fuse_reply_attr(req, &s, ATTR_SECS);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *p, size_t n, off_t at,
	struct fuse_file_info *fi)
{
	(void)ino;
	(void)p;
	(void)at;
	(void)fi;
	fuse_reply_write(req, n);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t n, off_t at, struct fuse_file_info *fi)
{
	(void)ino;
	(void)at;
	(void)fi;
	fuse_reply_buf(req, ANSWER, VX_MIN(n, sizeof ANSWER - 1));
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = on_lookup,
	.getattr = on_getattr,
	.open = on_open,
	.write = on_write,
	.read = on_read,
};

static _Noreturn void serve(const char *dir, int ready_fd)
{
	char name[] = "floor", *argv[] = {name, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_session *s = fuse_session_new(&args, &ops, sizeof ops, NULL);

	if (!s || fuse_session_mount(s, dir) || write(ready_fd, "y", 1) != 1)
		_exit(1);
	close(ready_fd);
	(void)fuse_session_loop(s);
	_exit(0);
}

int floor_open(struct floor *f, struct vx_err *err)
{
	const char *tmp = getenv("TMPDIR");
	char path[sizeof f->dir + 8], y;
	int ready[2];

	*f = (struct floor){.fd = -1, .pid = -1};
	snprintf(f->dir, sizeof f->dir, "%s/vecfs-floor-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(f->dir) || pipe2(ready, O_CLOEXEC) < 0)
		return vx_err_set(err, -errno, "%s: %s", f->dir, strerror(errno));
	f->pid = fork();
	if (f->pid == 0)
		serve(f->dir, ready[1]);
	close(ready[1]);
	bool up = f->pid > 0 && read(ready[0], &y, 1) == 1;
	close(ready[0]);
	snprintf(path, sizeof path, "%s/ask", f->dir);
	f->fd = up ? open(path, O_RDWR | O_CLOEXEC) : -1;
	return f->fd >= 0 ? 0 : vx_err_set(err, -EIO, "%s: cannot be mounted", f->dir);
}

void floor_close(struct floor *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->pid > 0) {
		kill(f->pid, SIGKILL);
		(void)waitpid(f->pid, NULL, 0);
	}
	(void)umount2(f->dir, MNT_DETACH);
	(void)rmdir(f->dir);
}

int floor_ask(struct floor *f, const struct set *s, double *us, struct vx_err *err)
{
	size_t n = s->dim * sizeof(float);
	char answer[256];

	for (size_t i = 0; i < s->nq; i++) {
		uint64_t t = clock_mono_ns();
		if (pwrite(f->fd, s->query + i * s->dim, n, 0) != (ssize_t)n ||
			pread(f->fd, answer, sizeof answer, 0) <= 0)
			return vx_err_set(err, -errno, "%s: %s", f->dir, strerror(errno));
		us[i] = (double)(clock_mono_ns() - t) / 1e3;
	}
	return 0;
}
