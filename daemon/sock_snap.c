/* sock_snap.c - requests about snapshots.
 *
 * A snapshot on its way in belongs to its connection: the client sends the manifest, then the files in pieces, one
 * request each, and the end.  What is not ended when the connection closes is removed with the session.
 */
#include "daemon/sock_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/disk.h"

/* 0 after 'a' was filled, or an error to be answered. */
typedef int snap_fn(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err);

static char *keep(struct session *s, const char *p)
{
	size_t n = strlen(p) + 1;
	char *q = rpc_arena_alloc(s->arena, n);

	return q ? memcpy(q, p, n) : NULL;
}

static int snap_take(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	int rc = 0;
	struct coll *c = db_coll(s->sock->db, m->collection, &rc, err);

	(void)a;
	if (!c)
		return rc;
	rc = snapshot_take(c, m->name, session_stopping_or_hangup, s, err);
	coll_put(c);
	return rc;
}

/* --- lists ----------------------------------------------------------------------------------- */

/* Pointers gathered in a growing buffer, the things themselves in the arena. */
struct gather {
	struct session *s;
	struct buf list;
};

static int add_snapshot(void *arg, const struct snap_info *i)
{
	struct gather *g = arg;
	Vecfs__SnapInfo *p = rpc_arena_alloc(g->s->arena, sizeof *p);

	if (!p)
		return -ENOMEM;
	vecfs__snap_info__init(p);
	p->collection = keep(g->s, i->coll);
	p->name = keep(g->s, i->name);
	p->time_ns = i->time_ns;
	p->records = i->records;
	p->bytes = i->bytes;
	p->files = i->files;
	return p->collection && p->name ? buf_append(&g->list, &p, sizeof(void *)) : -ENOMEM;
}

static int add_file(void *arg, const struct snap_entry *e)
{
	struct gather *g = arg;
	Vecfs__SnapFile *p = rpc_arena_alloc(g->s->arena, sizeof *p);

	if (!p)
		return -ENOMEM;
	vecfs__snap_file__init(p);
	p->name = keep(g->s, e->name);
	p->size = e->size;
	p->sum = e->sum;
	return p->name ? buf_append(&g->list, &p, sizeof(void *)) : -ENOMEM;
}

/* The list into the arena: *ret is what a message wants. */
static int gathered(struct gather *g, int rc, size_t *ret_n, void *ret)
{
	void *p = rc == 0 ? rpc_arena_alloc(g->s->arena, VX_MAX(g->list.len, sizeof(void *)))
			  : NULL;

	if (rc == 0 && !p)
		rc = -ENOMEM;
	if (rc == 0 && g->list.len)
		memcpy(p, g->list.data, g->list.len);
	if (rc == 0) {
		*ret_n = g->list.len / sizeof(void *);
		*(void **)ret = p;
	}
	buf_release(&g->list);
	return rc;
}

static int snap_list(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	struct gather g = {.s = s};

	(void)err;
	int rc = snapshot_list(
		s->sock->db, m->collection[0] ? m->collection : NULL, add_snapshot, &g);
	return gathered(&g, rc, &a->n_snapshots, &a->snapshots);
}

static int snap_files(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	struct gather g = {.s = s};

	int rc = snapshot_files(s->sock->db, m->collection, m->name, add_file, &g, err);
	return gathered(&g, rc, &a->n_files, &a->files);
}

/* --- whole ones ------------------------------------------------------------------------------ */

static int snap_remove(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	(void)a;
	return snapshot_remove(s->sock->db, m->collection, m->name, err);
}

static int snap_restore(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	(void)a;
	return snapshot_restore(s->sock->db, m->collection, m->name, m->as, m->force,
		session_stopping_or_hangup, s, err);
}

static int snap_verify(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	(void)a;
	return snapshot_verify(
		s->sock->db, m->collection, m->name, session_stopping_or_hangup, s, err);
}

static int snap_read(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	size_t n = VX_MIN(m->size, RPC_CHUNK_BYTES);
	uint8_t *p = rpc_arena_alloc(s->arena, VX_MAX(n, (size_t)1));

	if (!p)
		return -ENOMEM;
	int fd = snapshot_open(s->sock->db, m->collection, m->name, m->file);
	if (fd < 0)
		return vx_err_set(err, fd, "snapshot '%.64s' of '%.64s' has no file '%.64s'",
			m->name, m->collection, m->file);
	size_t have = 0;
	int rc = 0;
	while (have < n && rc == 0) {
		ssize_t got = pread(fd, p + have, n - have, (off_t)(m->offset + have));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			rc = vx_err_set(err, -errno, "%.64s: cannot read", m->file);
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	close(fd);
	a->data.data = p;
	a->data.len = have;
	return rc;
}

/* --- receiving ------------------------------------------------------------------------------- */

static void end_receiving(struct session *s)
{
	snapshot_in_free(s->receiving);
	s->receiving = NULL;
}

static int snap_begin(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	struct snap_info info;
	struct gather g = {.s = s};

	if (s->receiving)
		return vx_err_set(err, -EBUSY, "another snapshot is coming in on this connection");
	int rc = snapshot_in_begin(s->sock->db, m->collection, m->name[0] ? m->name : NULL,
		m->data.data, m->data.len, &s->receiving, err);
	if (rc)
		return rc;
	snapshot_in_info(s->receiving, &info);
	rc = add_snapshot(&g, &info);
	return gathered(&g, rc, &a->n_snapshots, &a->snapshots);
}

static int snap_piece(
	struct session *s, const Vecfs__SnapRequest *m, Vecfs__SnapAnswer *a, struct vx_err *err)
{
	(void)a;
	if (!s->receiving)
		return vx_err_set(err, -EPROTO, "no snapshot is coming in");
	int rc = m->op == VECFS__SNAP_REQUEST__OP__WRITE
			 ? snapshot_in_write(s->receiving, m->data.data, m->data.len, err)
		 : m->op == VECFS__SNAP_REQUEST__OP__LINK ? snapshot_in_link(s->receiving, err)
							  : snapshot_in_finish(s->receiving, err);
	if (rc || m->op == VECFS__SNAP_REQUEST__OP__END)
		end_receiving(s);
	return rc;
}

int op_snap(struct session *s, const struct rpc_frame *f)
{
	static snap_fn *const ops[] = {
		[VECFS__SNAP_REQUEST__OP__TAKE] = snap_take,
		[VECFS__SNAP_REQUEST__OP__LIST] = snap_list,
		[VECFS__SNAP_REQUEST__OP__REMOVE] = snap_remove,
		[VECFS__SNAP_REQUEST__OP__RESTORE] = snap_restore,
		[VECFS__SNAP_REQUEST__OP__VERIFY] = snap_verify,
		[VECFS__SNAP_REQUEST__OP__FILES] = snap_files,
		[VECFS__SNAP_REQUEST__OP__READ] = snap_read,
		[VECFS__SNAP_REQUEST__OP__BEGIN] = snap_begin,
		[VECFS__SNAP_REQUEST__OP__WRITE] = snap_piece,
		[VECFS__SNAP_REQUEST__OP__LINK] = snap_piece,
		[VECFS__SNAP_REQUEST__OP__END] = snap_piece,
	};
	Vecfs__SnapAnswer a = VECFS__SNAP_ANSWER__INIT;
	const Vecfs__SnapRequest *m;
	struct vx_err err = VX_ERR_INIT;

	if (!op_unpack(s, f, &vecfs__snap_request__descriptor, &m))
		return 0;
	int rc = (unsigned)m->op < VX_ARRAY_SIZE(ops)
			 ? ops[m->op](s, m, &a, &err)
			 : vx_err_set(&err, -EOPNOTSUPP, "snapshot operation %d is not known here",
				   (int)m->op);
	if (rc)
		session_error(s, op_where(s, f, m->collection), f->id, rc, &err);
	else
		session_answer(s, f->type | RPC_ANSWER, f->id, &a.base);
	return 0;
}
