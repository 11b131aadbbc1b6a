/* repl_install.c - a snapshot of another node, from the message to the store.
 *
 * libraft sends a snapshot as one buffer, ours being a small manifest; the files that it names are
 * brought by the host.  The order is what makes it safe to be cut short anywhere:
 *
 *	1. InstallSnapshot arrives and is kept back here.
 *	2. host->fetch, in the background: the files are brought beside the store, verified, made
 *	   durable.  Until here nothing of ours has changed.
 *	3. The message goes to libraft, if the guard still lets it, and libraft writes it by
 *	   snapshot_put: a RESET record in the log.  Point of no return.
 *	4. host->restore: the store becomes what was fetched.
 *
 * A crash after 3 and before 4 is found at the next start, when the host is asked to recover: the
 * log says index i, the store is older, what was fetched is not.  While a fetch is under way further
 * snapshots are dropped (the leader sends them again), everything else goes on.
 */
#include "raft/repl_core_i.h"

#include <stdlib.h>

#include "base/log.h"

struct repl_fetch {
	struct repl_core_group *g;
	struct raft_io_async_work work;
	struct raft_message m; /* ours: libraft has not seen it */
};

static int fetch_work(struct raft_io_async_work *work)
{
	struct repl_fetch *f = work->data;
	struct repl_core_group *g = f->g;
	const struct raft_install_snapshot *is = &f->m.install_snapshot;
	const uint8_t *p = is->data.base;
	return g->env->host_ops->fetch(g->env->host, g->opts.group, f->m.server_id, is->last_index,
		p + REPL_BLOB_HEAD_BYTES, is->data.len - REPL_BLOB_HEAD_BYTES);
}

static void fetched(struct raft_io_async_work *work, int status)
{
	struct repl_fetch *f = work->data;
	struct repl_core_group *g = f->g;
	struct raft_message m = f->m;
	char address[REPL_ADDRESS_MAX];
	g->fetch = NULL;
	free(f);
	if (status != 0 || g->closing || g->dead || repl_guard_receive(g, &m) != REPL_PASS) {
		if (status != 0 && !g->closing && !g->dead && status != -EAGAIN &&
			status != -EHOSTUNREACH)
			log_warn("raft", "group %u: a snapshot of node %llu was not fetched: %s",
				g->opts.group, m.server_id, vx_errno_name(status));
		repl_msg_release(&m);
		return;
	}
	repl_address_of(m.server_id, address);
	m.server_address = address;
	g->recv_cb(&g->io, &m); /* takes the snapshot */
}

bool repl_install_begin(struct repl_core_group *g, struct raft_message *m)
{
	const struct raft_install_snapshot *is = &m->install_snapshot;
	if (is->data.len < REPL_BLOB_HEAD_BYTES || get_le64(is->data.base) != is->last_index) {
		repl_msg_release(m);
		return true;
	}
	/* What libraft answers at once needs no files. */
	if (!g->env->host_ops->fetch || is->term < g->raft.current_term ||
		is->last_index <= g->mark_index ||
		repl_core_term_of(g, is->last_index) == is->last_term)
		return false;
	struct repl_fetch *f = g->fetch ? NULL : calloc(1, sizeof *f);
	if (!f) {
		repl_msg_release(m);
		return true;
	}
	f->g = g;
	f->m = *m;
	f->m.server_address = NULL;
	f->work.data = f;
	f->work.work = fetch_work;
	g->fetch = f;
	if (g->io.async_work(&g->io, &f->work, fetched) != 0) {
		g->fetch = NULL;
		free(f);
		repl_msg_release(m);
	}
	return true;
}

int repl_install_recover(struct repl_core_group *g)
{
	struct repl_manifest m;
	if (g->mark_index == 0 || !g->env->host_ops->recover)
		return 0;
	int rc = repl_manifest_decode(g->mark_record.data, g->mark_record.len, &m);
	if (rc != 0)
		return rc;
	const uint8_t *p = m.host;
	raft_configuration_close(&m.conf);
	if (m.host_len < REPL_BLOB_HEAD_BYTES)
		return -EUCLEAN;
	return g->env->host_ops->recover(g->env->host, g->opts.group, g->mark_index,
		p + REPL_BLOB_HEAD_BYTES, m.host_len - REPL_BLOB_HEAD_BYTES);
}
