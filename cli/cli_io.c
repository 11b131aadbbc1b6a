/* cli_io.c - what the tools read and write.
 *
 * Output is gathered and written in large pieces; a tool that answers a waiting reader calls
 * cli_flush.  Write errors end the program here, because a tool whose output is lost has nothing
 * left to do, and a full disk must not look like success.
 */
#include "cli.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUT_CHUNK      (64u << 10)
#define IN_CHUNK       (64u << 10)
#define ITEM_BYTES_MAX (1u << 20)

static struct buf out = BUF_INIT;

static _Noreturn void out_failed(int rc)
{
	cli_error("standard output: %s", strerror(-rc));
	exit(CLI_REFUSED);
}

void cli_flush(void)
{
	size_t done = 0;

	while (done < out.len) {
		ssize_t n = write(STDOUT_FILENO, out.data + done, out.len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			out_failed(-errno);
		done += (size_t)n;
	}
	out.len = 0;
}

void cli_out(const void *p, size_t n)
{
	int rc = buf_append(&out, p, n);

	if (rc < 0)
		out_failed(rc);
	if (out.len >= OUT_CHUNK)
		cli_flush();
}

void cli_outf(const char *fmt, ...)
{
	char small[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(small, sizeof small, fmt, ap);
	va_end(ap);
	if (n < 0)
		out_failed(-EIO);
	if ((size_t)n < sizeof small) {
		cli_out(small, (size_t)n);
		return;
	}
	char *big = malloc((size_t)n + 1);
	if (!big)
		out_failed(-ENOMEM);
	va_start(ap, fmt);
	vsnprintf(big, (size_t)n + 1, fmt, ap);
	va_end(ap);
	cli_out(big, (size_t)n);
	free(big);
}

void cli_out_end(void)
{
	cli_out(cli.nul ? "\0" : "\n", 1);
}

int cli_finish(int code)
{
	cli_progress_end();
	cli_flush();
	buf_release(&out);
	/* What the kernel noticed late (a full disk behind a network file system). */
	if (close(STDOUT_FILENO) < 0 && errno != EBADF)
		out_failed(-errno);
	return code;
}

int cli_open(const char *file, int *ret_fd, struct vx_err *err)
{
	struct stat st;

	if (strcmp(file, "-") == 0) {
		*ret_fd = STDIN_FILENO;
		return 0;
	}
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vx_err_set(err, -errno, "%s", strerror(errno));
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		close(fd);
		return vx_err_set(err, -EISDIR, "is a directory");
	}
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	*ret_fd = fd;
	return 0;
}

void cli_close(int fd)
{
	if (fd > STDIN_FILENO)
		close(fd);
}

ssize_t cli_read(int fd, void *p, size_t n)
{
	for (;;) {
		ssize_t got = read(fd, p, n);

		if (got >= 0)
			return got;
		if (errno != EINTR)
			return -errno;
	}
}

int cli_read_at_least(int fd, struct buf *b, size_t n)
{
	while (b->len < n) {
		int rc = buf_reserve(b, IN_CHUNK);

		if (rc < 0)
			return rc;
		ssize_t got = cli_read(fd, b->data + b->len, IN_CHUNK);
		if (got <= 0)
			return (int)got;
		b->len += (size_t)got;
	}
	return 0;
}

uint64_t cli_size(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

int cli_each_item(char **args, int n_args,
	int (*each)(void *ctx, const char *p, size_t n, uint64_t line), void *ctx,
	struct vx_err *err)
{
	struct buf b = BUF_INIT;
	uint64_t line = 0;
	size_t start = 0;
	char end = cli.nul ? 0 : '\n';
	int rc = 0;

	for (int i = 0; i < n_args && rc == 0; i++)
		rc = each(ctx, args[i], strlen(args[i]), 0);
	if (n_args)
		return rc;
	for (bool eof = false; !eof && rc == 0;) {
		size_t seen = b.len;

		if ((rc = buf_reserve(&b, IN_CHUNK)) < 0)
			break;
		ssize_t got = cli_read(STDIN_FILENO, b.data + b.len, IN_CHUNK);
		if (got < 0) {
			rc = vx_err_set(err, (int)got, "stdin: %s", strerror((int)-got));
			break;
		}
		b.len += (size_t)got;
		eof = got == 0;
		for (size_t i = seen; rc == 0 && i < b.len + (eof ? 1 : 0); i++) {
			if (i < b.len && b.data[i] != (uint8_t)end)
				continue;
			size_t n = i - start;
			/* Lines made on another system end in CR LF. */
			if (!cli.nul && n && b.data[i - 1] == '\r')
				n--;
			line++;
			if (n)
				rc = each(ctx, (const char *)b.data + start, n, line);
			start = i + 1;
		}
		if (!eof && rc == 0) {
			buf_consume(&b, start);
			start = 0;
			if (b.len > ITEM_BYTES_MAX)
				rc = vx_err_set(err, -EMSGSIZE,
					"stdin: line %llu is longer than %u bytes",
					(unsigned long long)line + 1, ITEM_BYTES_MAX);
		}
	}
	buf_release(&b);
	return rc;
}
