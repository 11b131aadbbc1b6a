/* engine_daemon.c - vecfs as a program meets it: over the socket, and through the mount.
 *
 * The socket: one connection, one question per request, raw vectors in, ids out.  The mount: one
 * descriptor of query.ids is held open, each question is one write of raw float32 and one read of
 * ids; ef goes through config/ef_search, because a raw question has no place for it.  The
 * collection's ids are row numbers.
 */
#include "bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define ANSWER_BYTES 4096u

static uint32_t row_of(const char *id, size_t len)
{
	uint64_t v = 0;

	if (len == 0 || len > 10)
		return BENCH_NO_ROW;
	for (size_t i = 0; i < len; i++) {
		if (id[i] < '0' || id[i] > '9')
			return BENCH_NO_ROW;
		v = v * 10 + (uint64_t)(id[i] - '0');
	}
	return v < BENCH_NO_ROW ? (uint32_t)v : BENCH_NO_ROW;
}

int daemon_ask(struct client *c, const struct daemon *d, const struct set *s, size_t first,
	uint32_t count, unsigned ef, struct client_answers *ret, struct vx_err *err)
{
	Vecfs__QueryRequest m = VECFS__QUERY_REQUEST__INIT;

	m.collection = (char *)(uintptr_t)d->coll;
	m.n = count;
	m.k = BENCH_K;
	m.ef = ef;
	m.dim = s->dim;
	m.vectors.len = (size_t)count * s->dim * sizeof(float);
	m.vectors.data = (uint8_t *)(uintptr_t)(s->query + first * s->dim);
	return client_query(c, &m, ret, err);
}

/* Ends an answer of 'n' rows, and the time that it took since *t. */
static void close_answer(uint32_t *rows, uint32_t n, double *us, size_t i, uint64_t *t)
{
	while (n < BENCH_K)
		rows[n++] = BENCH_NO_ROW;
	if (us) {
		uint64_t now = clock_mono_ns();
		us[i] = (double)(now - *t) / 1e3;
		*t = now;
	}
}

static int socket_search(
	struct engine *e, unsigned ef, double *us, double *ret_s, struct vx_err *err)
{
	struct client_answers a;
	struct vx_record rec;
	uint64_t t0 = clock_mono_ns(), t = t0;

	for (size_t i = 0; i < e->set->nq; i++) {
		uint32_t j = 0, *rows = e->answers + i * BENCH_K;
		int rc = daemon_ask(e->daemon->c, e->daemon, e->set, i, 1, ef, &a, err);
		if (rc)
			return rc;
		while (j < BENCH_K && rpc_rows_next(&a.hits, &rec))
			rows[j++] = row_of(rec.id, rec.id_len);
		close_answer(rows, j, us, i, &t);
	}
	*ret_s = (double)(clock_mono_ns() - t0) / 1e9;
	return 0;
}

static void socket_close(struct engine *e)
{
	free(e->answers);
}

static const struct engine_ops socket_ops = {.search = socket_search, .close = socket_close};

void engine_socket_init(struct engine *e, struct daemon *d, struct set *s)
{
	*e = (struct engine){.name = "socket", .ops = &socket_ops, .set = s, .daemon = d, .fd = -1};
	e->answers = calloc(s->nq, BENCH_K * sizeof *e->answers);
	e->build_s = d->ready_s;
	e->index_bytes = d->index_bytes;
	e->rss_bytes = d->rss_anon;
}

int daemon_set_ef(struct daemon *d, unsigned ef, struct vx_err *err)
{
	char path[800], text[16];

	snprintf(path, sizeof path, "%s/%s/config/ef_search", d->mnt, d->coll);
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int n = snprintf(text, sizeof text, "%u\n", ef);
	if (fd < 0 || write(fd, text, (size_t)n) != n) {
		int rc = -errno;
		if (fd >= 0)
			close(fd);
		return vx_err_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	return close(fd) == 0 ? 0 : vx_err_set(err, -errno, "%s: %s", path, strerror(errno));
}

static int mount_search(
	struct engine *e, unsigned ef, double *us, double *ret_s, struct vx_err *err)
{
	size_t bytes = e->set->dim * sizeof(float);
	char answer[ANSWER_BYTES];

	int rc = daemon_set_ef(e->daemon, ef, err);
	if (rc)
		return rc;
	uint64_t t0 = clock_mono_ns(), t = t0;
	for (size_t i = 0; i < e->set->nq; i++) {
		uint32_t j = 0, *rows = e->answers + i * BENCH_K;
		ssize_t w = write(e->fd, e->set->query + i * e->set->dim, bytes);
		ssize_t got = w == (ssize_t)bytes ? read(e->fd, answer, sizeof answer) : -1;
		if (got < 0)
			return vx_err_set(
				err, -errno, "%s: %s", e->daemon->query_ids, strerror(errno));
		for (char *p = answer, *end = answer + got; p < end && j < BENCH_K;) {
			char *nl = memchr(p, '\n', (size_t)(end - p));
			if (!nl)
				break;
			rows[j++] = row_of(p, (size_t)(nl - p));
			p = nl + 1;
		}
		close_answer(rows, j, us, i, &t);
	}
	*ret_s = (double)(clock_mono_ns() - t0) / 1e9;
	return 0;
}

static void mount_close(struct engine *e)
{
	if (e->fd >= 0)
		close(e->fd);
	free(e->answers);
}

static const struct engine_ops mount_ops = {.search = mount_search, .close = mount_close};

int engine_mount_init(struct engine *e, struct daemon *d, struct set *s, struct vx_err *err)
{
	engine_socket_init(e, d, s);
	e->name = "mount";
	e->ops = &mount_ops;
	e->fd = open(d->query_ids, O_RDWR | O_CLOEXEC);
	if (e->fd < 0)
		return vx_err_set(err, -errno, "%s: %s", d->query_ids, strerror(errno));
	return 0;
}
