/* fs_query.c - query, near/ID and q/NAME.
 *
 * query: the question is answered inside the write that completes it, so its errors are the write's; the
 * answer waits in a buffer.  A raw vector is checked inside the write and answered right after it, or by the
 * read, if nobody else is asking: the asker is woken meanwhile (fs_main.c).
 *
 * A program that writes and reads on one descriptor has moved its file offset by writing: answers are
 * therefore counted from the end of the last write.  A program that reads from before that (pread at 0,
 * lseek to 0) counts from the answer's start.  Which of the two it is shows in the first read after a
 * question.
 */
#include "daemon/fs_i.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define CROWD_NS 5000000u /* so long after another asker nobody is alone */

/* --- query --------------------------------------------------------------------------------------------- */
struct query_handle {
	struct handle h;
	struct ask ask;
	struct buf pending; /* the start of a question */
	bool raw;           /* 'pending' is one vector, checked, not answered yet */
	bool asked;         /* there is an answer, perhaps empty */
	bool reading;       /* some of it was read: the next write starts anew */
	bool absolute;      /* reads count from the answer's start */
	uint64_t base;      /* end of the last write */
};

static int query_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct query_handle *qh = (struct query_handle *)h;

	(void)req;
	(void)err;
	return ask_init(&qh->ask, &h->loc.node->ask);
}

static void query_reset(struct query_handle *qh)
{
	qh->ask.out.len = 0;
	qh->ask.number = 0;
	qh->asked = qh->reading = qh->absolute = false;
}

static int query_failed(struct query_handle *qh, int rc)
{
	qh->pending.len = 0;
	qh->raw = false;
	query_reset(qh);
	return rc;
}

static int query_ask(struct query_handle *qh, fuse_req_t req, struct vx_err *err)
{
	struct handle *h = &qh->h;
	const char *p = (const char *)qh->pending.data;

	if (qh->raw)
		return ask_raw(&qh->ask, h->c, p, coll_dim(h->c), req, err);
	return ask_text(&qh->ask, h->c, p, qh->pending.len, req, &h->err_line, err);
}

static void query_answered(struct query_handle *qh)
{
	qh->pending.len = 0;
	qh->raw = false;
	qh->asked = true;
}

static int query_finish(struct query_handle *qh, fuse_req_t req, struct vx_err *err)
{
	int rc = query_ask(qh, req, err);

	if (rc)
		return query_failed(qh, rc);
	query_answered(qh);
	return 0;
}

/* What fails is asked once more by the read, which has somebody to tell. */
static void query_settle(struct handle *h)
{
	struct query_handle *qh = (struct query_handle *)h;
	struct vx_err err = VX_ERR_INIT;
	size_t had = qh->ask.out.len;
	uint64_t number = qh->ask.number;

	if (!qh->raw)
		return;
	fs_takes_long();
	if (query_ask(qh, NULL, &err)) {
		qh->ask.out.len = had;
		qh->ask.number = number;
		return;
	}
	query_answered(qh);
}

/* Where several ask no core is idle, and a second worker for a question costs more than it saves. */
static bool asks_alone(struct handle *h)
{
	struct fs *fs = h->fs;
	uintptr_t me = (uintptr_t)h;

	if (atomic_load_explicit(&fs->asker, memory_order_relaxed) != me) {
		atomic_store_explicit(&fs->asker, me, memory_order_relaxed);
		atomic_store_explicit(&fs->crowded_ns, clock_mono_ns(), memory_order_relaxed);
		return false;
	}
	return clock_mono_ns() - atomic_load_explicit(&fs->crowded_ns, memory_order_relaxed) >
	       CROWD_NS;
}

static int query_write_raw(
	struct query_handle *qh, fuse_req_t req, const char *p, size_t n, struct vx_err *err)
{
	struct handle *h = &qh->h;
	bool later = asks_alone(h) && !ask_lasts(&qh->ask);
	int rc = ask_check(&qh->ask, h->c, p, n, &h->err_line, err);

	if (rc == 0)
		rc = buf_append(&qh->pending, p, n);
	if (rc)
		return query_failed(qh, rc);
	qh->raw = true;
	h->owes = later;
	return later ? 0 : query_finish(qh, req, err);
}

static int query_write(struct handle *h, fuse_req_t req, const char *p, size_t n, uint64_t off,
	size_t *ret_n, struct vx_err *err)
{
	struct query_handle *qh = (struct query_handle *)h;
	uint32_t dim = coll_dim(h->c);
	int rc = qh->raw ? query_finish(qh, req, err) : 0;

	(void)ret_n;
	fs_expect_more();
	if (rc)
		return rc;
	if (qh->reading)
		query_reset(qh);
	qh->base = off + n;
	if (!qh->pending.len && ask_is_raw(p, n, dim))
		return query_write_raw(qh, req, p, n, err);
	if (qh->pending.len + n > ASK_BYTES_MAX)
		return query_failed(
			qh, vx_err_set(err, -EMSGSIZE, "questions have at most %u bytes together",
				    ASK_BYTES_MAX));
	rc = buf_append(&qh->pending, p, n);
	if (rc)
		return rc;
	rc = ask_complete((const char *)qh->pending.data, qh->pending.len, 0);
	if (rc < 0)
		return query_failed(qh,
			vx_err_set(err, -EINVAL,
				"a question is %u bytes of raw float32 (dimension %u), numbers, "
				"a JSON array or an object; this has %zu bytes of something else",
				dim * 4, dim, qh->pending.len));
	return rc ? query_finish(qh, req, err) : 0;
}

static bool blank(const struct buf *b)
{
	for (size_t i = 0; i < b->len; i++) {
		if (!strchr(" \t\r\n", b->data[i]) || !b->data[i])
			return false;
	}
	return true;
}

static int query_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off,
	struct slice *ret, struct vx_err *err)
{
	struct query_handle *qh = (struct query_handle *)h;
	int rc;

	fs_expect_more();
	h->changed = !qh->reading || qh->pending.len;
	if (qh->raw || (qh->pending.len && !blank(&qh->pending))) {
		rc = query_finish(qh, req, err);
		if (rc)
			return rc;
	}
	qh->pending.len = 0;
	if (!qh->asked)
		return vx_err_set(err, -ENODATA, "nothing was asked on this descriptor yet");
	if (!qh->reading)
		qh->absolute = off < qh->base;
	qh->reading = true;
	uint64_t pos = qh->absolute ? off : off - VX_MIN(qh->base, off);
	*ret = slice_of(qh->ask.out.data, qh->ask.out.len, size, pos);
	return 0;
}

/* The shell flushes before and after each redirection: whatever is whole is answered, half is refused. */
static int query_flush(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct query_handle *qh = (struct query_handle *)h;

	if (!qh->raw && (!qh->pending.len || blank(&qh->pending))) {
		qh->pending.len = 0;
		return 0;
	}
	return query_finish(qh, req, err);
}

static int query_truncate(struct handle *h, uint64_t size, struct vx_err *err)
{
	struct query_handle *qh = (struct query_handle *)h;

	if (size)
		return vx_err_set(err, -EINVAL, "query has no length");
	qh->pending.len = 0;
	qh->raw = false;
	query_reset(qh);
	return 0;
}

enum { Q_ASKED = 1, Q_READING = 2, Q_ABSOLUTE = 4, Q_RAW = 8 };

static int query_save(struct handle *h, struct buf *out)
{
	const struct query_handle *qh = (const struct query_handle *)h;
	int rc = buf_put_u8(
		out, (uint8_t)((qh->asked ? Q_ASKED : 0) | (qh->reading ? Q_READING : 0) |
			       (qh->absolute ? Q_ABSOLUTE : 0) | (qh->raw ? Q_RAW : 0)));

	if (rc == 0)
		rc = buf_put_le64(out, qh->base);
	if (rc == 0)
		rc = buf_put_le64(out, qh->ask.number);
	if (rc == 0)
		rc = put_blob(out, qh->pending.data, qh->pending.len);
	return rc ? rc : put_blob(out, qh->ask.out.data, qh->ask.out.len);
}

static int query_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	struct query_handle *qh = (struct query_handle *)h;
	int rc = query_open(h, NULL, err);

	uint8_t flags = rd_u8(rd);
	qh->asked = flags & Q_ASKED;
	qh->reading = flags & Q_READING;
	qh->absolute = flags & Q_ABSOLUTE;
	qh->raw = flags & Q_RAW;
	qh->base = rd_le64(rd);
	qh->ask.number = rd_le64(rd);
	if (rc == 0)
		rc = get_blob(rd, &qh->pending);
	if (rc == 0 && qh->raw && qh->pending.len != coll_dim(h->c) * sizeof(float))
		rc = -EUCLEAN;
	return rc ? rc : get_blob(rd, &qh->ask.out);
}

static void query_close(struct handle *h)
{
	struct query_handle *qh = (struct query_handle *)h;

	ask_release(&qh->ask);
	buf_release(&qh->pending);
}

const struct file_ops query_ops = {
	.handle_size = sizeof(struct query_handle),
	.open = query_open,
	.read = query_read,
	.write = query_write,
	.settle = query_settle,
	.flush = query_flush,
	.truncate = query_truncate,
	.close = query_close,
	.save = query_save,
	.load = query_load,
};

/* --- near/ID ----------------------------------------------------------------------------------------------- */
struct near_handle {
	struct handle h;
	struct ask ask; /* its answer does not change after open */
};

static int near_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct near_handle *nh = (struct near_handle *)h;
	const struct node *nd = h->loc.node;
	char id[3 * VX_ID_MAX + 1];
	size_t len;
	int rc = ask_init(&nh->ask, &nd->ask);

	if (rc == 0)
		rc = vx_id_decode(nd->name, nd->stem_len, id, &len);
	if (rc == 0)
		rc = ask_id(&nh->ask, h->c, id, len, req, err);
	if (rc)
		return rc;
	atomic_store(&h->loc.node->size, nh->ask.out.len);
	atomic_store(&h->loc.node->mtime_ns, clock_real_ns());
	return 0;
}

static int near_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off, struct slice *ret,
	struct vx_err *err)
{
	struct near_handle *nh = (struct near_handle *)h;

	(void)req;
	(void)err;
	*ret = slice_of(nh->ask.out.data, nh->ask.out.len, size, off);
	return 0;
}

static int near_save(struct handle *h, struct buf *out)
{
	const struct ask *a = &((struct near_handle *)h)->ask;

	return put_blob(out, a->out.data, a->out.len);
}

static int near_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	struct ask *a = &((struct near_handle *)h)->ask;
	int rc = ask_init(a, &h->loc.node->ask);

	(void)err;
	return rc ? rc : get_blob(rd, &a->out);
}

static void near_close(struct handle *h)
{
	ask_release(&((struct near_handle *)h)->ask);
}

/* The length of an answer is known while it is open. */
static int answer_stat(struct fs *fs, struct coll *c, const struct loc *l, struct stat *ret)
{
	(void)c;
	vx_lock(&fs->lock);
	bool open = l->node->opens > 0;
	vx_unlock(&fs->lock);
	if (!open)
		ret->st_size = 0;
	return 0;
}

const struct file_ops near_ops = {
	.handle_size = sizeof(struct near_handle),
	.open = near_open,
	.read = near_read,
	.close = near_close,
	.save = near_save,
	.load = near_load,
	.stat = answer_stat,
};

/* --- q/NAME --------------------------------------------------------------------------------------------------- */
struct question_handle {
	struct handle h;
	char stem[256];
	struct ask ask;
	struct buf in; /* the question as it is written */
	bool dirty;    /* 'in' is not saved */
	bool answered; /* 'ask.out' has the answer of this open */
};

static int load(struct question_handle *qh, struct buf *out)
{
	int fd = keep_open(qh->h.fs, KEEP_Q, qh->h.loc.cid, qh->stem);
	int rc = fd < 0 ? fd : buf_reserve(out, Q_BYTES_MAX);

	while (rc == 0 && out->len < Q_BYTES_MAX) {
		ssize_t n = read(fd, out->data + out->len, Q_BYTES_MAX - out->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = -errno;
		if (n <= 0)
			break;
		out->len += (size_t)n;
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

static int answer(struct question_handle *qh, fuse_req_t req, struct vx_err *err)
{
	struct handle *h = &qh->h;
	struct buf q = BUF_INIT;
	uint32_t dim = coll_dim(h->c);
	int rc = load(qh, &q);

	qh->ask.out.len = 0;
	qh->ask.number = 0;
	if (rc == -ENOENT || (rc == 0 && q.len == 0))
		rc = vx_err_set(err, -ENODATA, "this question was not written yet");
	else if (rc == 0 && ask_is_raw((const char *)q.data, q.len, dim))
		rc = ask_raw(&qh->ask, h->c, q.data, dim, req, err);
	else if (rc == 0)
		rc = ask_text(&qh->ask, h->c, (const char *)q.data, q.len, req, &h->err_line, err);
	buf_release(&q);
	if (rc)
		return rc;
	qh->answered = true;
	atomic_store(&h->loc.node->size, qh->ask.out.len);
	return 0;
}

static int question_start(struct question_handle *qh)
{
	const struct node *nd = qh->h.loc.node;

	memcpy(qh->stem, nd->name, nd->stem_len);
	qh->stem[nd->stem_len] = 0;
	return ask_init(&qh->ask, &nd->ask);
}

static int question_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct question_handle *qh = (struct question_handle *)h;
	int rc = question_start(qh);

	if (rc)
		return rc;
	if ((h->flags & O_ACCMODE) == O_RDONLY && !(h->flags & O_CREAT))
		return answer(qh, req, err);
	return 0;
}

static int question_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off,
	struct slice *ret, struct vx_err *err)
{
	struct question_handle *qh = (struct question_handle *)h;
	h->changed = !qh->answered;
	int rc = qh->answered ? 0 : answer(qh, req, err);

	if (rc)
		return rc;
	*ret = slice_of(qh->ask.out.data, qh->ask.out.len, size, off);
	return 0;
}

static int question_store(struct question_handle *qh, struct vx_err *err)
{
	struct handle *h = &qh->h;
	int rc = ask_check(
		&qh->ask, h->c, (const char *)qh->in.data, qh->in.len, &h->err_line, err);

	if (rc == 0)
		rc = keep_write(h->fs, KEEP_Q, h->loc.cid, qh->stem, qh->in.data, qh->in.len);
	qh->dirty = false;
	qh->answered = false;
	if (rc)
		qh->in.len = 0;
	else
		atomic_store(&h->loc.node->mtime_ns, clock_real_ns());
	return rc;
}

static int question_write(struct handle *h, fuse_req_t req, const char *p, size_t n, uint64_t off,
	size_t *ret_n, struct vx_err *err)
{
	struct question_handle *qh = (struct question_handle *)h;
	int rc;

	(void)req;
	(void)ret_n;
	if (off == 0)
		qh->in.len = 0; /* a new question */
	if (qh->in.len + n > Q_BYTES_MAX) {
		qh->in.len = 0;
		return vx_err_set(
			err, -EMSGSIZE, "a named question has at most %u bytes", Q_BYTES_MAX);
	}
	rc = buf_append(&qh->in, p, n);
	if (rc)
		return rc;
	qh->dirty = true;
	rc = ask_complete((const char *)qh->in.data, qh->in.len, coll_dim(h->c));
	if (rc < 0) {
		qh->in.len = 0;
		qh->dirty = false;
		return vx_err_set(err, -EINVAL,
			"a question is raw float32 of the collection's dimension, numbers, a JSON "
			"array "
			"or an object");
	}
	return rc ? question_store(qh, err) : 0;
}

static int question_flush(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct question_handle *qh = (struct question_handle *)h;

	(void)req;
	return qh->dirty ? question_store(qh, err) : 0;
}

static int question_truncate(struct handle *h, uint64_t size, struct vx_err *err)
{
	struct question_handle *qh = (struct question_handle *)h;

	if (size)
		return vx_err_set(err, -EINVAL, "a question cannot be cut");
	qh->in.len = 0;
	qh->dirty = false;
	return 0;
}

static int question_save(struct handle *h, struct buf *out)
{
	const struct question_handle *qh = (const struct question_handle *)h;
	int rc = buf_put_u8(out, (uint8_t)(qh->dirty | qh->answered << 1));

	if (rc == 0)
		rc = put_blob(out, qh->in.data, qh->in.len);
	return rc ? rc : put_blob(out, qh->ask.out.data, qh->ask.out.len);
}

static int question_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	struct question_handle *qh = (struct question_handle *)h;
	int rc = question_start(qh);
	uint8_t flags = rd_u8(rd);

	(void)err;
	qh->dirty = flags & 1;
	qh->answered = flags & 2;
	if (rc == 0)
		rc = get_blob(rd, &qh->in);
	return rc ? rc : get_blob(rd, &qh->ask.out);
}

static void question_close(struct handle *h)
{
	struct question_handle *qh = (struct question_handle *)h;

	ask_release(&qh->ask);
	buf_release(&qh->in);
}

int question_check_name(
	const char *name, size_t *ret_len, enum answer_format *ret_format, struct vx_err *err)
{
	if (strlen(name) > Q_NAME_MAX)
		return vx_err_set(
			err, -ENAMETOOLONG, "a question's name has at most %u bytes", Q_NAME_MAX);
	*ret_format = answer_format_of(name, ret_len);
	if (!*ret_len || name[0] == '.')
		return vx_err_set(err, -EINVAL, "a question's name does not start with '.'");
	return 0;
}

int question_rename(struct fs *fs, const struct loc *dir, const char *from, const char *to,
	bool noreplace, struct vx_err *err)
{
	char stem[256], stem2[256];
	size_t len = strlen(from), len2;
	enum answer_format format;
	int rc = len > 255 ? -ENAMETOOLONG : question_check_name(to, &len2, &format, err);

	if (rc)
		return rc;
	answer_format_of(from, &len);
	memcpy(stem, from, len);
	stem[len] = 0;
	memcpy(stem2, to, len2);
	stem2[len2] = 0;
	again_intend(fs, 0);
	return keep_rename(fs, KEEP_Q, dir->cid, stem, stem2, noreplace);
}

const struct file_ops question_ops = {
	.handle_size = sizeof(struct question_handle),
	.open = question_open,
	.read = question_read,
	.write = question_write,
	.flush = question_flush,
	.truncate = question_truncate,
	.close = question_close,
	.save = question_save,
	.load = question_load,
	.stat = answer_stat,
};
