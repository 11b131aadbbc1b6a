/* repl_io.c - libraft's raft_io over a struct repl_env.
 *
 * libraft asks for three kinds of things.  Log writes become records in a request to the
 * shared log; the requests of all groups complete in FIFO order, so a truncation is ordered
 * between the appends around it, and a term or vote before whatever was submitted later.
 * Messages are encoded at once -- libraft reuses entries and addresses as soon as send()
 * returns -- and wait behind the gate while a term or vote that was set before them is not
 * durable yet: otherwise a restart could forget a vote that a candidate has counted.
 * Callbacks of libraft never run inside the call that causes them; they are deferred to
 * the end of the step (repl_core_defer).
 *
 * What can fail: allocation (libraft gets RAFT_NOMEM, where it bears that), and the log (rule 6: the node ends).
 * A full disk never reaches libraft: the env keeps the request until there is room.
 */
#include "raft/repl_core_i.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

enum io_kind { IO_APPEND, IO_TRUNCATE, IO_HARDSTATE, IO_MARK, IO_INSTALL };

/* One request to the log, with what to do when it is durable. */
struct io_op {
	struct repl_log_op op;
	struct repl_core_group *g;
	enum io_kind kind;
	uint64_t last_term; /* IO_APPEND: of its last entry */
	uint64_t hs_number; /* IO_HARDSTATE */
	union {
		struct raft_io_append *append;
		struct raft_io_snapshot_put *put;
	} req;
	void *bufs;          /* IO_INSTALL: libraft's array of one buffer */
	struct buf manifest; /* IO_MARK, IO_INSTALL: data of the record */
	struct wal_rec recs[];
};

static struct repl_core_group *group_of(struct raft_io *io)
{
	return io->impl;
}

static struct io_op *op_new(struct repl_core_group *g, enum io_kind kind, unsigned n)
{
	_Static_assert(sizeof(size_t) >= 8, "the product cannot overflow");
	struct io_op *o = calloc(1, sizeof *o + (size_t)n * sizeof o->recs[0]);
	if (!o)
		return NULL;
	o->g = g;
	o->kind = kind;
	o->op.req.recs = o->recs;
	o->op.req.n = n;
	/* A vote or a truncation that a full disk holds up must not come after what was said later;
	 * marks may overtake, since they make the room. */
	o->op.req.in_order = kind != IO_MARK;
	for (unsigned i = 0; i < n; i++)
		o->recs[i].group = g->opts.group;
	return o;
}

static void op_submit(struct io_op *o)
{
	struct repl_core_group *g = o->g;
	g->ops++;
	if (o->kind == IO_APPEND || o->kind == IO_INSTALL)
		g->pending++;
	g->env->ops->log_submit(g->env, &o->op);
}

/* --- completion -------------------------------------------------------------------- */

static void mark_durable(struct repl_core_group *g, struct io_op *o)
{
	buf_release(&g->mark_record);
	g->mark_record = o->manifest;
	o->manifest = (struct buf)BUF_INIT;
	g->mark_index = o->recs[0].index;
	g->mark_term = o->recs[0].term;
}

/* libraft 0.15 forgets to free the array (16 bytes) of an install that did not succeed, and all of one that did
 * not even begin.  Freeing it here would be a second time under a library that does not forget. */
static void tolerate_lost(const void *p)
{
#if defined(__SANITIZE_ADDRESS__)
	__lsan_ignore_object(p);
#else
	(void)p;
#endif
}

/* Tells libraft that the request is over.  A group that is closing or dead hears "canceled". */
static void op_report(struct repl_core_group *g, struct io_op *o, int status)
{
	int rv = status == 0 ? 0 : RAFT_CANCELED;
	switch (o->kind) {
	case IO_APPEND:
		if (rv == 0)
			repl_guard_note_durable(g, o->last_term);
		/* A closed libraft only frees what belongs to the request, provided that it hears of
		 * success; of a failure it makes a truncation, which its own log may not bear. */
		o->req.append->cb(o->req.append, g->closing ? 0 : rv);
		break;
	case IO_HARDSTATE:
		if (rv != 0)
			break; /* the gate stays shut */
		g->hs_durable = o->hs_number;
		repl_io_open_gate(g);
		break;
	case IO_INSTALL:
		g->installing = false;
		if (rv == 0)
			mark_durable(g, o);
		tolerate_lost(o->bufs); /* the host may yet refuse to restore it */
		o->req.put->cb(o->req.put, rv);
		/* libraft has taken the snapshot's configuration, but still waits for what it knew
		 * before to be committed. */
		if (rv == 0 && !g->closing && !repl_guard_put_configuration_right(g))
			repl_core_fatal(g, -ENOMEM, "no memory for a configuration");
		break;
	case IO_MARK:
		if (rv == 0)
			mark_durable(g, o);
		o->req.put->cb(o->req.put, rv);
		if (rv == 0) {
			repl_span_trim(g, g->mark_index);
			repl_conf_trim(g, g->mark_index);
		}
		break;
	case IO_TRUNCATE:
		break;
	}
}

static void op_over(struct repl_core_group *g, struct io_op *o, int status)
{
	g->ops--;
	if (o->kind == IO_APPEND || o->kind == IO_INSTALL)
		g->pending--;
	op_report(g, o, status);
	buf_release(&o->manifest);
	free(o);
}

void repl_core_log_done(struct repl_log_op *op, int status)
{
	struct io_op *o = VX_CONTAINER_OF(op, struct io_op, op);
	struct repl_core_group *g = o->g;
	assert(!g->stepping);
	g->stepping = true;
	if (!g->closing && !g->dead && repl_guard_log_failed(g, status))
		status = -ECANCELED;
	if (g->dead && !g->closing) {
		/* libraft asserts what does not hold for a request that failed. */
		op->next = g->held;
		g->held = op;
	} else {
		op_over(g, o, g->dead ? -ECANCELED : status);
	}
	g->stepping = false;
	repl_core_step(g);
}

void repl_io_release_held(struct repl_core_group *g)
{
	while (g->held) {
		struct repl_log_op *op = g->held;
		g->held = op->next;
		op_over(g, VX_CONTAINER_OF(op, struct io_op, op), -ECANCELED);
	}
}

/* --- messages -------------------------------------------------------------------------- */

struct send_defer {
	struct repl_defer d;
	struct raft_io_send *req;
};

static void send_done(struct repl_core_group *g, struct repl_defer *d)
{
	struct send_defer *s = VX_CONTAINER_OF(d, struct send_defer, d);
	(void)g;
	struct raft_io_send *req = s->req;
	free(s);
	if (req->cb)
		req->cb(req, 0);
}

void repl_io_open_gate(struct repl_core_group *g)
{
	while (g->gated_head && g->gated_head->need <= g->hs_durable) {
		struct repl_gated *m = g->gated_head;
		g->gated_head = m->next;
		if (!g->gated_head)
			g->gated_tail = &g->gated_head;
		if (!g->closing && !g->dead)
			g->env->ops->send(g->env, g->opts.group, m->to, m->address, m->bytes.data,
				m->bytes.len);
		buf_release(&m->bytes);
		free(m);
	}
}

/* Sends 'm' or queues it behind the gate, then with the contents of 'bytes'. */
static void send_or_gate(struct repl_core_group *g, const struct raft_message *m, struct buf *bytes)
{
	const char *address = m->server_address;
	assert(address);
	if (g->hs_submitted == g->hs_durable) {
		g->env->ops->send(
			g->env, g->opts.group, m->server_id, address, bytes->data, bytes->len);
		return;
	}
	size_t len = strlen(address);
	struct repl_gated *q = malloc(sizeof *q + len + 1);
	if (!q)
		return;
	q->need = g->hs_submitted;
	q->to = m->server_id;
	q->bytes = *bytes;
	q->next = NULL;
	memcpy(q->address, address, len + 1);
	*g->gated_tail = q;
	g->gated_tail = &q->next;
	*bytes = (struct buf)BUF_INIT;
}

/* libraft 0.15 frees the entries of a message twice when its answer cannot be sent, so sending does not
 * fail: without memory the message is lost, and for the little that its callback needs we wait. */
static struct send_defer *send_defer_new(struct repl_core_group *g)
{
	for (unsigned tries = 0; tries < REPL_MEMORY_TRIES; tries++) {
		struct send_defer *s = calloc(1, sizeof *s);
		if (s)
			return s;
		usleep(REPL_MEMORY_WAIT_US);
	}
	repl_core_fatal(g, -ENOMEM, "no memory for a message");
	return NULL;
}

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message,
	raft_io_send_cb cb)
{
	struct repl_core_group *g = group_of(io);
	struct buf bytes = BUF_INIT;
	struct raft_message m = *message;
	struct repl_msg_head head = {
		.group = g->opts.group, .from = g->opts.node_id, .to = m.server_id};
	struct send_defer *s = send_defer_new(g);
	if (!s)
		return RAFT_NOMEM;
	if (!g->closing && !g->dead && repl_guard_send(g, &m) == REPL_PASS) {
		if (repl_msg_encode(&head, &m, &bytes) == 0)
			send_or_gate(g, &m, &bytes);
		buf_release(&bytes);
	}
	req->cb = cb;
	s->req = req;
	s->d.run = send_done;
	repl_core_defer(g, &s->d);
	return 0;
}

/* --- the log ---------------------------------------------------------------------------- */

static int hardstate(struct repl_core_group *g, uint64_t term, uint64_t vote)
{
	struct io_op *o = op_new(g, IO_HARDSTATE, 1);
	if (!o)
		return RAFT_NOMEM;
	o->recs[0].type = WAL_HARDSTATE;
	o->recs[0].term = term;
	o->recs[0].vote = vote;
	o->hs_number = ++g->hs_submitted;
	op_submit(o);
	return 0;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
	struct repl_core_group *g = group_of(io);
	int rv = hardstate(g, term, 0);
	if (rv == 0)
		g->hs_term = term;
	return rv;
}

/* A candidate sets term and vote before libraft's own current_term follows. */
static int io_set_vote(struct raft_io *io, raft_id id)
{
	struct repl_core_group *g = group_of(io);
	return hardstate(g, g->hs_term, id);
}

/* What libraft does not set in an entry of its own is what was in memory: not for the disk, nor for other nodes. */
static void clear_unset(const struct raft_entry *e)
{
	if (e->type == RAFT_BARRIER && e->buf.len > 0)
		memset(e->buf.base, 0, e->buf.len);
	else if (e->type == RAFT_CHANGE)
		repl_conf_clear_padding(e->buf.base, e->buf.len);
}

static int io_append(struct raft_io *io, struct raft_io_append *req,
	const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
	struct repl_core_group *g = group_of(io);
	uint64_t first = g->last_index + 1;
	struct io_op *o = op_new(g, IO_APPEND, n);
	if (!o)
		return RAFT_NOMEM;
	for (unsigned i = 0; i < n; i++) {
		struct wal_rec *r = &o->recs[i];
		clear_unset(&entries[i]);
		r->type = WAL_ENTRY;
		r->etype = (uint8_t)entries[i].type;
		r->index = first + i;
		r->term = entries[i].term;
		r->data = entries[i].buf.base;
		r->len = entries[i].buf.len;
		if (repl_span_append(g, r->index, r->term) != 0 ||
			(r->etype == RAFT_CHANGE &&
				repl_conf_entry(g, r->index, r->data, r->len) != 0)) {
			repl_span_truncate(g, first);
			repl_conf_truncate(g, first);
			free(o);
			return RAFT_NOMEM;
		}
	}
	g->last_index += n;
	g->guard.ae_appended = true;
	o->last_term = entries[n - 1].term;
	repl_guard_note_own_append(g, entries[n - 1].term);
	req->cb = cb;
	o->req.append = req;
	op_submit(o);
	return 0;
}

static int io_truncate(struct raft_io *io, raft_index index)
{
	struct repl_core_group *g = group_of(io);
	struct io_op *o = op_new(g, IO_TRUNCATE, 1);
	if (!o)
		return RAFT_NOMEM;
	o->recs[0].type = WAL_TRUNCATE;
	o->recs[0].index = index;
	g->last_index = index - 1;
	repl_span_truncate(g, index);
	repl_conf_truncate(g, index);
	op_submit(o);
	return 0;
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
	const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
	struct repl_core_group *g = group_of(io);
	bool install = trailing == 0; /* libraft: replace everything */
	if (g->closing || g->dead || snapshot->n_bufs != 1)
		return RAFT_CANCELED;

	struct io_op *o = op_new(g, install ? IO_INSTALL : IO_MARK, 1);
	struct repl_manifest m = {
		.conf_index = snapshot->configuration_index,
		.conf = snapshot->configuration,
		.host = snapshot->bufs[0].base,
		.host_len = snapshot->bufs[0].len,
	};
	int rc = o ? repl_manifest_encode(&m, &o->manifest) : -ENOMEM;
	if (rc == 0 && install)
		rc = repl_conf_base(g, m.conf_index, &m.conf);
	if (rc != 0) {
		if (install) {
			tolerate_lost(m.host);
			tolerate_lost(m.conf.servers);
		}
		if (o)
			buf_release(&o->manifest);
		free(o);
		return repl_errno_to_raft(rc);
	}
	o->recs[0].type = install ? WAL_RESET : WAL_MARK;
	o->recs[0].index = snapshot->index;
	o->recs[0].term = snapshot->term;
	o->recs[0].data = o->manifest.data;
	o->recs[0].len = o->manifest.len;
	req->cb = cb;
	o->req.put = req;
	if (install) {
		o->bufs = snapshot->bufs;
		g->installing = true;
		g->last_index = snapshot->index;
		repl_span_reset(g, snapshot->index, snapshot->term);
	}
	op_submit(o);
	return 0;
}

/* --- load ----------------------------------------------------------------------------------- */

static void snapshot_free(struct raft_snapshot *s)
{
	if (!s)
		return;
	raft_configuration_close(&s->configuration);
	if (s->bufs)
		raft_free(s->bufs[0].base);
	raft_free(s->bufs);
	raft_free(s);
}

/* The mark as libraft wants a snapshot. */
static int snapshot_from_mark(struct repl_core_group *g, struct raft_snapshot **ret)
{
	struct repl_manifest m;
	int rc = repl_manifest_decode(g->mark_record.data, g->mark_record.len, &m);
	if (rc != 0)
		return repl_errno_to_raft(rc);
	struct raft_snapshot *s = raft_calloc(1, sizeof *s);
	if (!s) {
		raft_configuration_close(&m.conf);
		return RAFT_NOMEM;
	}
	s->index = g->mark_index;
	s->term = g->mark_term;
	s->configuration = m.conf;
	s->configuration_index = m.conf_index;
	s->bufs = raft_calloc(1, sizeof *s->bufs);
	if (s->bufs) {
		s->n_bufs = 1;
		s->bufs[0].len = m.host_len;
		s->bufs[0].base = raft_malloc(m.host_len ? m.host_len : 1);
	}
	if (!s->bufs || !s->bufs[0].base) {
		snapshot_free(s);
		return RAFT_NOMEM;
	}
	memcpy(s->bufs[0].base, m.host, m.host_len);
	*ret = s;
	return 0;
}

/* Copies the entries above the mark, each in memory of its own so that a later mark can
 * free them one by one.  Those below it are not handed over: libraft would take their
 * configurations for uncommitted ones. */
static int load_entries(struct repl_core_group *g, struct raft_entry **ret, size_t *ret_n)
{
	struct wal_group_state *st = &g->loaded;
	size_t skip = 0;
	while (skip < st->n_entries && st->entries[skip].index <= g->mark_index)
		skip++;
	size_t n = st->n_entries - skip;
	*ret = NULL;
	*ret_n = 0;
	if (n == 0)
		return 0;
	struct raft_entry *e = raft_calloc(n, sizeof *e);
	if (!e)
		return RAFT_NOMEM;
	for (size_t i = 0; i < n; i++) {
		struct wal_entry *w = &st->entries[skip + i];
		e[i].term = w->term;
		e[i].type = w->etype;
		e[i].buf.len = w->len;
		e[i].buf.base = raft_malloc(w->len ? w->len : 1);
		if (!e[i].buf.base) {
			while (i-- > 0)
				raft_free(e[i].buf.base);
			raft_free(e);
			return RAFT_NOMEM;
		}
		if (w->len > 0)
			memcpy(e[i].buf.base, w->data, w->len);
		free(w->data); /* one copy at a time */
		w->data = NULL;
		w->len = 0;
	}
	*ret = e;
	*ret_n = n;
	return 0;
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for,
	struct raft_snapshot **snapshot, raft_index *start_index, struct raft_entry *entries[],
	size_t *n_entries)
{
	struct repl_core_group *g = group_of(io);
	struct raft_snapshot *s = NULL;
	int rv = 0;
	if (g->mark_index > 0)
		rv = snapshot_from_mark(g, &s);
	if (rv == 0)
		rv = load_entries(g, entries, n_entries);
	if (rv != 0) {
		snapshot_free(s);
		return rv;
	}
	*snapshot = s;
	*start_index = g->mark_index + 1;
	*term = g->hs_term = g->loaded.term;
	*voted_for = g->loaded.vote;
	return 0;
}

struct get_defer {
	struct repl_defer d;
	struct raft_io_snapshot_get *req;
	struct raft_snapshot *snapshot;
};

static void get_done(struct repl_core_group *g, struct repl_defer *d)
{
	struct get_defer *q = VX_CONTAINER_OF(d, struct get_defer, d);
	struct get_defer copy = *q;
	(void)g;
	free(q);
	copy.req->cb(copy.req, copy.snapshot, copy.snapshot ? 0 : RAFT_NOTFOUND);
}

static int io_snapshot_get(
	struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
{
	struct repl_core_group *g = group_of(io);
	struct get_defer *q = calloc(1, sizeof *q);
	if (!q)
		return RAFT_NOMEM;
	if (g->mark_index > 0) {
		int rv = snapshot_from_mark(g, &q->snapshot);
		if (rv != 0) {
			free(q);
			return rv;
		}
	}
	req->cb = cb;
	q->req = req;
	q->d.run = get_done;
	repl_core_defer(g, &q->d);
	return 0;
}

/* --- background work ---------------------------------------------------------------------- */

struct io_work {
	struct repl_work w;
	struct repl_core_group *g;
	struct raft_io_async_work *req;
	int status;
};

static void work_run(struct repl_work *w)
{
	struct io_work *iw = VX_CONTAINER_OF(w, struct io_work, w);
	iw->status = iw->req->work(iw->req);
}

void repl_core_work_done(struct repl_work *w)
{
	struct io_work *iw = VX_CONTAINER_OF(w, struct io_work, w);
	struct repl_core_group *g = iw->g;
	struct raft_io_async_work *req = iw->req;
	int status = iw->status;
	free(iw);
	assert(!g->stepping);
	g->works--;
	g->stepping = true;
	req->cb(req, g->dead ? RAFT_CANCELED : status);
	g->stepping = false;
	repl_core_step(g);
}

static int io_async_work(
	struct raft_io *io, struct raft_io_async_work *req, raft_io_async_work_cb cb)
{
	struct repl_core_group *g = group_of(io);
	struct io_work *iw = calloc(1, sizeof *iw);
	if (!iw)
		return RAFT_NOMEM;
	req->cb = cb;
	iw->g = g;
	iw->req = req;
	iw->w.fn = work_run;
	int rc = g->env->ops->work(g->env, &iw->w);
	if (rc != 0) {
		free(iw);
		return repl_errno_to_raft(rc);
	}
	g->works++;
	return 0;
}

/* --- the rest --------------------------------------------------------------------------------- */

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
	(void)io;
	(void)id;
	(void)address;
	return 0;
}

/* The callback comes from repl_core_step, once nothing is under way. */
static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
	group_of(io)->close_io_cb = cb;
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
	struct repl_core_group *g = group_of(io);
	(void)msecs;
	g->tick_cb = tick;
	g->recv_cb = recv;
	return 0;
}

/* Groups are bootstrapped in the log directly (repl_core_bootstrap). */
static int io_bootstrap(struct raft_io *io, const struct raft_configuration *conf)
{
	(void)io;
	(void)conf;
	return RAFT_CANTBOOTSTRAP;
}

static raft_time io_time(struct raft_io *io)
{
	struct repl_core_group *g = group_of(io);
	return g->env->ops->now_ms(g->env);
}

static int io_random(struct raft_io *io, int min, int max)
{
	struct repl_core_group *g = group_of(io);
	if (max <= min)
		return min;
	return min + (int)(g->env->ops->random(g->env) % (uint64_t)(max - min));
}

void repl_io_init(struct repl_core_group *g)
{
	g->gated_tail = &g->gated_head;
	g->defer_tail = &g->defer_head;
	g->io = (struct raft_io){
		.version = 2,
		.impl = g,
		.init = io_init,
		.close = io_close,
		.load = io_load,
		.start = io_start,
		.bootstrap = io_bootstrap,
		.recover = io_bootstrap,
		.set_term = io_set_term,
		.set_vote = io_set_vote,
		.send = io_send,
		.append = io_append,
		.truncate = io_truncate,
		.snapshot_put = io_snapshot_put,
		.snapshot_get = io_snapshot_get,
		.time = io_time,
		.random = io_random,
		.async_work = io_async_work,
	};
}

void repl_io_release(struct repl_core_group *g)
{
	while (g->gated_head) {
		struct repl_gated *m = g->gated_head;
		g->gated_head = m->next;
		buf_release(&m->bytes);
		free(m);
	}
	g->gated_tail = &g->gated_head;
	buf_release(&g->mark_record);
}
