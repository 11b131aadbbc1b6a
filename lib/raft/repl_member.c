/* repl_member.c - changes of a group's membership, on its leader.
 *
 * The work is libraft's; what may be asked of it, and when, is the guard's (rule 8,
 * repl_guard_may_change).  A change is over when its configuration is committed, when the server
 * that was to vote did not catch up in libraft's number of rounds, or when the leadership ended: then
 * nobody knows, and the next leader's configuration tells.
 */
#include "raft/repl_core_i.h"

#include <assert.h>
#include <stdlib.h>

struct change {
	struct raft_change raft; /* libraft's until its callback */
	struct repl_core_group *g;
	struct repl_change_req *req;
};

static void change_over(struct raft_change *raft, int status)
{
	struct change *c = raft->data;
	struct repl_change_req *req = c->req;
	c->g->change = NULL;
	free(c);
	req->done(req, repl_errno_from_raft(status));
}

static int start_change(struct repl_core_group *g, struct change *c)
{
	const struct repl_change_req *req = c->req;
	char address[REPL_ADDRESS_MAX];
	switch (req->kind) {
	case REPL_ADD:
		repl_address_of(req->id, address);
		return raft_add(&g->raft, &c->raft, req->id, address, change_over);
	case REPL_SPARE:
		return raft_assign(&g->raft, &c->raft, req->id, RAFT_SPARE, change_over);
	case REPL_STANDBY:
		return raft_assign(&g->raft, &c->raft, req->id, RAFT_STANDBY, change_over);
	case REPL_VOTER:
		return raft_assign(&g->raft, &c->raft, req->id, RAFT_VOTER, change_over);
	case REPL_REMOVE:
		return raft_remove(&g->raft, &c->raft, req->id, change_over);
	}
	return RAFT_INVALID;
}

/* libraft 0.15 frees the configuration of a change whose append failed, having adopted it, and keeps
 * progress of as many servers.  That cannot be mended from outside: the group ends, with an empty
 * configuration. */
static void take_back(struct repl_core_group *g, const struct raft_server *before, int rv)
{
	assert(raft_last_index(&g->raft) == g->last_index);
	if (g->raft.configuration.servers == before)
		return;
	raft_configuration_init(&g->raft.configuration);
	repl_core_fatal(g, repl_errno_from_raft(rv), "a change of members cannot be taken back");
}

void repl_core_change(struct repl_core_group *g, struct repl_change_req *req)
{
	int rc = g->closing || g->dead ? -EROFS : repl_guard_may_change(g, req->kind, req->id);
	struct change *c = rc == 0 ? calloc(1, sizeof *c) : NULL;
	if (!c) {
		req->done(req, rc ? rc : -ENOMEM);
		return;
	}
	c->g = g;
	c->req = req;
	c->raft.data = c;
	g->change = c;
	assert(!g->stepping);
	g->stepping = true;
	const struct raft_server *before = g->raft.configuration.servers;
	int rv = start_change(g, c);
	g->stepping = false;
	if (rv != 0) {
		take_back(g, before, rv);
		g->change = NULL;
		free(c);
		req->done(req, repl_errno_from_raft(rv));
	}
	repl_core_step(g);
}

unsigned repl_core_servers(
	const struct repl_core_group *g, struct repl_server *ret, unsigned n, bool *ret_committed)
{
	const struct raft_configuration *c = &g->raft.configuration;
	for (unsigned i = 0; i < c->n && i < n; i++) {
		ret[i].id = c->servers[i].id;
		ret[i].role = c->servers[i].role == RAFT_VOTER     ? REPL_VOTER
			      : c->servers[i].role == RAFT_STANDBY ? REPL_STANDBY
								   : REPL_SPARE;
	}
	*ret_committed = g->raft.configuration_uncommitted_index == 0;
	return c->n;
}
