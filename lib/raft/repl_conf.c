/* repl_conf.c - the configurations that stand in the log (rule 17 of the guard).
 *
 * The configuration of a group is the last one in its log, committed or not; what is truncated takes
 * its configuration with it.  libraft 0.15 gets this wrong: after a restart it takes the last one
 * for committed, so that truncating it changes nothing; where the one before it has left the memory it
 * dereferences NULL; and of two that are not known to be committed it goes back over both.  So the
 * core keeps a list of its own, from the entries as they are loaded, appended and truncated, and
 * puts libraft right after each.
 *
 * The list begins with the configuration of the mark (or is empty, on a node that has heard nothing
 * yet) and ascends.
 */
#include "raft/repl_core_i.h"

#include <stdlib.h>

struct repl_conf {
	uint64_t index;
	struct raft_configuration conf;
};

/* libraft's encoding of an entry: version 1 (1 byte), count (8), and per server id (8), address with
 * its NUL, role (1); then padding. */
static int decode(const void *p, size_t n, struct raft_configuration *ret)
{
	struct bytes_reader r = {.p = p, .left = n};
	struct raft_configuration c;
	uint8_t version = rd_u8(&r);
	uint64_t count = rd_le64(&r);
	if (r.bad || version != 1 || count > REPL_VOTERS_MAX)
		return -EUCLEAN;
	raft_configuration_init(&c);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t id = rd_le64(&r);
		const char *address = (const char *)r.p;
		const uint8_t *nul = r.bad ? NULL : memchr(r.p, 0, r.left);
		if (!nul)
			goto out_bad;
		(void)rd_bytes(&r, (size_t)(nul - (const uint8_t *)r.p) + 1);
		uint8_t role = rd_u8(&r);
		if (r.bad || role > RAFT_SPARE)
			goto out_bad;
		int rv = raft_configuration_add(&c, id, address, role);
		if (rv == RAFT_NOMEM) {
			raft_configuration_close(&c);
			return -ENOMEM;
		}
		if (rv != 0)
			goto out_bad;
	}
	*ret = c;
	return 0;
out_bad:
	raft_configuration_close(&c);
	return -EUCLEAN;
}

void repl_conf_clear_padding(void *p, size_t n)
{
	struct bytes_reader r = {.p = p, .left = n};
	(void)rd_u8(&r);
	for (uint64_t left = rd_le64(&r); left > 0 && !r.bad; left--) {
		(void)rd_le64(&r);
		const uint8_t *nul = r.bad ? NULL : memchr(r.p, 0, r.left);
		if (!nul)
			return; /* no configuration */
		(void)rd_bytes(&r, (size_t)(nul - (const uint8_t *)r.p) + 1);
		(void)rd_u8(&r);
	}
	if (!r.bad)
		memset((uint8_t *)p + (n - r.left), 0, r.left);
}

static int copy(const struct raft_configuration *from, struct raft_configuration *to)
{
	raft_configuration_init(to);
	for (unsigned i = 0; i < from->n; i++) {
		const struct raft_server *s = &from->servers[i];
		int rv = raft_configuration_add(to, s->id, s->address, s->role);
		if (rv != 0) {
			raft_configuration_close(to);
			return -ENOMEM;
		}
	}
	return 0;
}

/* Takes 'conf' on success. */
static int push(struct repl_core_group *g, uint64_t index, struct raft_configuration *conf)
{
	if (g->n_confs == g->cap_confs) {
		size_t cap = g->cap_confs ? 2 * g->cap_confs : 4;
		struct repl_conf *p = realloc(g->confs, cap * sizeof *p);
		if (!p)
			return -ENOMEM;
		g->confs = p;
		g->cap_confs = cap;
	}
	g->confs[g->n_confs++] = (struct repl_conf){index, *conf};
	return 0;
}

int repl_conf_entry(struct repl_core_group *g, uint64_t index, const void *p, size_t n)
{
	struct raft_configuration conf;
	int rc = decode(p, n, &conf);
	if (rc != 0)
		return rc;
	rc = push(g, index, &conf);
	if (rc != 0)
		raft_configuration_close(&conf);
	return rc;
}

int repl_conf_base(struct repl_core_group *g, uint64_t index, const struct raft_configuration *base)
{
	struct raft_configuration conf;
	int rc = copy(base, &conf);
	if (rc != 0)
		return rc;
	struct raft_configuration *spare = &conf;
	size_t n = g->n_confs;
	rc = push(g, index, spare);
	if (rc != 0) {
		raft_configuration_close(&conf);
		return rc;
	}
	for (size_t i = 0; i < n; i++)
		raft_configuration_close(&g->confs[i].conf);
	g->confs[0] = g->confs[n];
	g->n_confs = 1;
	return 0;
}

void repl_conf_truncate(struct repl_core_group *g, uint64_t index)
{
	while (g->n_confs > 0 && g->confs[g->n_confs - 1].index >= index) {
		raft_configuration_close(&g->confs[--g->n_confs].conf);
		g->conf_wrong = true;
	}
}

void repl_conf_trim(struct repl_core_group *g, uint64_t index)
{
	size_t drop = 0;
	while (drop + 1 < g->n_confs && g->confs[drop + 1].index <= index)
		raft_configuration_close(&g->confs[drop++].conf);
	if (drop == 0)
		return;
	g->n_confs -= drop;
	memmove(g->confs, g->confs + drop, g->n_confs * sizeof *g->confs);
}

int repl_conf_put_right(struct repl_core_group *g)
{
	struct raft *r = &g->raft;
	struct raft_configuration conf;
	g->conf_wrong = false;
	if (g->n_confs == 0)
		return 0;
	const struct repl_conf *last = &g->confs[g->n_confs - 1];
	int rc = copy(&last->conf, &conf);
	if (rc != 0)
		return rc;
	raft_configuration_close(&r->configuration);
	r->configuration = conf;
	uint64_t known = raft_last_applied(r);
	r->configuration_uncommitted_index = last->index > known ? last->index : 0;
	size_t i = g->n_confs;
	while (i > 1 && g->confs[i - 1].index > known)
		i--;
	r->configuration_index = g->confs[i - 1].index > known ? 0 : g->confs[i - 1].index;
	return 0;
}

void repl_conf_release(struct repl_core_group *g)
{
	for (size_t i = 0; i < g->n_confs; i++)
		raft_configuration_close(&g->confs[i].conf);
	free(g->confs);
}
