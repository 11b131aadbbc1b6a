/* data.c - a user's files as one array of float32 each.
 *
 * Both files go through the readers of lib/codec into base.f32 and query.f32 in the set's directory, which are
 * then mapped.  So every process under measurement shares one copy, which costs none of them any
 * memory of its own, and ten million vectors need no more of it than the page cache gives.
 */
#include "bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli_client.h"

struct reading {
	FILE *out;
	const char *file;
	uint32_t dim;
	size_t n, max;
	struct vx_err err;
};

static bool ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n > m && strcmp(s + n - m, suffix) == 0;
}

static int on_record(void *ctx, const struct vx_record *rec)
{
	struct reading *r = ctx;

	if (r->max && r->n >= r->max)
		return -ECANCELED;
	if (rec->dim == 0 || !rec->vec)
		return vx_err_set(&r->err, -EINVAL, "a record without a vector");
	if (r->n && rec->dim != r->dim)
		return vx_err_set(
			&r->err, -EINVAL, "vectors of %u and of %u dimensions", r->dim, rec->dim);
	if (r->n >= VX_SLOTS_MAX)
		return vx_err_set(&r->err, -EFBIG, "too many vectors");
	r->dim = rec->dim;
	r->n++;
	if (fwrite(rec->vec, sizeof(float), rec->dim, r->out) != rec->dim)
		return vx_err_set(&r->err, -errno, "temporary file: %s", strerror(errno));
	return 0;
}

/* FILE.zst: "zstd -dc FILE.zst" whose output is read under the name of its descriptor. */
static int unpack(const char *file, pid_t *ret_pid, int *ret_fd, struct vx_err *err)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return vx_err_set(err, -errno, "pipe: %s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		return vx_err_set(err, -errno, "fork: %s", strerror(errno));
	if (pid == 0) {
		dup2(p[1], STDOUT_FILENO);
		execlp("zstd", "zstd", "-dcq", "--", file, (char *)NULL);
		_exit(127);
	}
	close(p[1]);
	*ret_pid = pid;
	*ret_fd = p[0];
	return 0;
}

static int unpack_end(const char *file, pid_t pid, bool whole, struct vx_err *err)
{
	int status = 0;

	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	if (!whole || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return vx_err_set(err, -ENOENT, "%s: zstd(1) is needed to read it", file);
	return vx_err_set(err, -EINVAL, "%s: zstd cannot unpack it", file);
}

/* The format by -F or by the name under .zst; NULL: let the bytes say. */
static const char *format_for(const char *file, const char *format)
{
	char name[1024];

	if (format || !ends_with(file, ".zst"))
		return format;
	snprintf(name, sizeof name, "%.*s", (int)strlen(file) - 4, file);
	enum codec_format f = codec_format_of(name);
	return f == CODEC_NONE ? NULL : codec_format_name(f);
}

bool set_is_rows(const char *file, const char *format)
{
	enum codec_format f = CODEC_NONE;

	if (ends_with(file, ".zst"))
		return false;
	if (format && codec_format_parse(format, &f))
		return false;
	return codec_format_is_rows(f == CODEC_NONE ? codec_format_of(file) : f);
}

static int read_source(struct reading *r, const char *path, const char *format)
{
	struct codec_opts o = {.id_optional = true};
	struct codec_reader *reader = NULL;
	struct cli_source src;
	const uint8_t *bytes;
	ssize_t n = 1;

	int rc = cli_source_open(&src, path, format, &r->err);
	if (rc)
		return rc;
	rc = src.format == CODEC_NONE ? vx_err_set(&r->err, -EINVAL, "it is empty")
				      : codec_reader_new(src.format, &o, on_record, r, &reader);
	while (rc == 0 && (n = cli_source_read(&src, &bytes, &r->err)) > 0) {
		rc = codec_feed(reader, bytes, (size_t)n, &r->err);
		cli_progress(r->file, src.done_bytes, src.size_bytes);
	}
	if (rc == 0)
		rc = n < 0 ? (int)n : codec_finish(reader, &r->err);
	codec_reader_free(reader);
	cli_source_close(&src);
	return rc;
}

/* The vectors of FILE as float32 in OUT. */
static int convert(const char *file, const char *format, const char *out, size_t max,
	uint32_t *ret_dim, size_t *ret_n, struct vx_err *err)
{
	struct reading r = {.file = file, .max = max, .out = fopen(out, "we")};
	bool packed = ends_with(file, ".zst");
	char path[64];
	pid_t pid = 0;
	int fd = -1, rc = 0;

	if (!r.out)
		return vx_err_set(err, -errno, "%s: %s", out, strerror(errno));
	if (packed) {
		rc = access(file, R_OK) ? -errno : unpack(file, &pid, &fd, &r.err);
		snprintf(path, sizeof path, "/dev/fd/%d", fd);
	}
	if (rc == 0)
		rc = read_source(&r, packed ? path : file, format_for(file, format));
	bool whole = rc == 0;
	if (rc == -ECANCELED && r.n == max)
		rc = 0;
	if (packed && pid > 0) {
		close(fd);
		int rc2 = unpack_end(file, pid, whole, &r.err);
		/* What the packer has to say explains why the reader met a cut stream. */
		rc = rc2 ? rc2 : rc;
	}
	if (fclose(r.out) != 0 && rc == 0)
		rc = vx_err_set(&r.err, -errno, "temporary file: %s", strerror(errno));
	if (rc == 0 && r.n == 0)
		rc = vx_err_set(&r.err, -EINVAL, "there are no vectors in it");
	if (rc)
		return vx_err_set(err, rc, "%s: %s", file, vx_err_msg(&r.err, rc));
	*ret_dim = r.dim;
	*ret_n = r.n;
	return 0;
}

static int map(const char *path, size_t bytes, const float **ret, struct vx_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	int rc = p == MAP_FAILED ? -errno : 0;

	if (fd >= 0)
		close(fd);
	if (rc)
		return vx_err_set(err, rc, "%s: %s", path, strerror(-rc));
	*ret = p;
	return 0;
}

int set_load(struct set *s, const char *base, const char *query, const char *format,
	size_t queries_max, struct vx_err *err)
{
	char path[600];
	uint32_t qdim = 0;

	if (!queries_max || queries_max > QUERIES_MAX)
		queries_max = QUERIES_MAX;
	snprintf(s->base_file, sizeof s->base_file, "%s", base);
	snprintf(s->query_file, sizeof s->query_file, "%s", query);
	snprintf(path, sizeof path, "%s/query.f32", s->dir);
	int rc = convert(query, format, path, queries_max, &qdim, &s->nq, err);
	s->query_bytes = s->nq * qdim * sizeof(float);
	if (rc == 0)
		rc = map(path, s->query_bytes, &s->query, err);
	snprintf(path, sizeof path, "%s/base.f32", s->dir);
	if (rc == 0)
		rc = convert(base, format, path, 0, &s->dim, &s->n, err);
	s->base_bytes = s->n * s->dim * sizeof(float);
	if (rc == 0)
		rc = map(path, s->base_bytes, &s->base, err);
	cli_progress_end();
	if (rc)
		return rc;
	if (qdim != s->dim)
		return vx_err_set(err, -EINVAL,
			"the base has %u dimensions and the queries have %u", s->dim, qdim);
	if (s->n < BENCH_K)
		return vx_err_set(err, -EINVAL, "%s: recall@%u needs at least %u vectors", base,
			BENCH_K, BENCH_K);
	return 0;
}

int set_write_fbin(const struct set *s, char *ret, size_t size, struct vx_err *err)
{
	uint8_t head[8];

	snprintf(ret, size, "%s/base.fbin", s->dir);
	FILE *f = fopen(ret, "we");
	if (!f)
		return vx_err_set(err, -errno, "%s: %s", ret, strerror(errno));
	put_le32(head, (uint32_t)s->n);
	put_le32(head + 4, s->dim);
	bool good = fwrite(head, 1, sizeof head, f) == sizeof head &&
		    fwrite(s->base, sizeof(float), s->n * s->dim, f) == s->n * s->dim;
	if (fclose(f) != 0 || !good)
		return vx_err_set(err, -EIO, "%s: it cannot be written", ret);
	return 0;
}

void set_release(struct set *s)
{
	if (s->base)
		munmap((void *)(uintptr_t)s->base, s->base_bytes);
	if (s->query)
		munmap((void *)(uintptr_t)s->query, s->query_bytes);
	free(s->truth);
	free(s->truth_far);
	memset(s, 0, sizeof *s);
}
