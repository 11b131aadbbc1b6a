/* sim_fault.c - faults that a test or a scenario orders, and views of the cluster. */
#include "sim_i.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- network and time ----------------------------------------------------------------- */

void sim_cut(struct sim *s, unsigned from, unsigned to, bool cut)
{
	sim_trace(s, from, TR_CUT, s->nodes[to].id, cut, 0, 0);
	s->cut[from][to] = cut;
}

void sim_isolate(struct sim *s, unsigned node, bool cut)
{
	for (unsigned i = 0; i < s->n; i++) {
		if (i == node)
			continue;
		sim_cut(s, i, node, cut);
		sim_cut(s, node, i, cut);
	}
}

void sim_heal(struct sim *s)
{
	sim_trace(s, 0, TR_HEAL, 0, 0, 0, 0);
	memset(s->cut, 0, sizeof s->cut);
}

void sim_latency(struct sim *s, unsigned from, unsigned to, uint64_t ms)
{
	s->latency[from][to] = ms;
}

void sim_pause(struct sim *s, unsigned node, uint64_t ms)
{
	sim_trace(s, node, TR_PAUSE, ms, 0, 0, 0);
	s->nodes[node].paused_until = s->now + ms;
	s->t.pauses++;
}

void sim_jump(struct sim *s, unsigned node, uint64_t ms)
{
	sim_trace(s, node, TR_JUMP, ms, 0, 0, 0);
	s->nodes[node].jumped_ms += ms;
	s->t.jumps++;
}

/* --- disks ------------------------------------------------------------------------------ */

void sim_disk_latency(struct sim *s, unsigned node, uint64_t ms)
{
	s->nodes[node].disk_ms = ms;
}

void sim_break_log(struct sim *s, unsigned node, unsigned n)
{
	sim_trace(s, node, TR_BREAK, n, 0, 0, 0);
	s->nodes[node].break_at = n;
	s->t.breaks++;
}

void sim_disk_room(struct sim *s, unsigned node, uint64_t bytes)
{
	struct disk *d = s->nodes[node].disk;
	sim_trace(s, node, TR_ROOM, bytes, 0, 0, 0);
	fakedisk_limit(d, bytes == UINT64_MAX ? bytes : fakedisk_used(d) + bytes);
}

/* What a start would read; 'st' is to be released in any case. */
static int read_log(struct sim *s, const struct sim_node *n, struct wal_group_state *st)
{
	struct wal_opts wo = sim_wal_opts(s, n);
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;
	struct disk *d = sim_must(fakedisk_clone(n->disk));
	int rc = wal_open(d, "wal", &wo, &w, &err);
	for (unsigned g = 0; g < s->p.groups && rc == 0; g++)
		rc = wal_group_load(w, SIM_GROUP + g, &st[g], &err);
	wal_close(w);
	fakedisk_free(d);
	return rc;
}

static bool same_log(const struct wal_group_state *a, const struct wal_group_state *b)
{
	if (a->exists != b->exists || a->term != b->term || a->vote != b->vote ||
		a->mark_index != b->mark_index || a->mark_term != b->mark_term ||
		a->n_entries != b->n_entries || a->manifest_len != b->manifest_len)
		return false;
	if (a->manifest_len && memcmp(a->manifest, b->manifest, a->manifest_len) != 0)
		return false;
	for (size_t i = 0; i < a->n_entries; i++) {
		const struct wal_entry *x = &a->entries[i], *y = &b->entries[i];
		if (x->index != y->index || x->term != y->term || x->etype != y->etype ||
			x->len != y->len || memcmp(x->data, y->data, x->len) != 0)
			return false;
	}
	return true;
}

static int count_segment(void *arg, const char *name)
{
	uint64_t *range = arg; /* lowest, highest */
	uint64_t seq = strtoull(name, NULL, 10);
	if (!strstr(name, ".wal"))
		return 0;
	range[0] = VX_MIN(range[0], seq);
	range[1] = VX_MAX(range[1], seq);
	return 0;
}

/* Damage to the very last frame cannot be told from a torn write, so it is not asked for. */
bool sim_flip(struct sim *s, unsigned node)
{
	struct sim_node *n = &s->nodes[node];
	struct wal_group_state before[SIM_GROUPS_MAX] = {0}, after[SIM_GROUPS_MAX] = {0};
	uint64_t range[2] = {UINT64_MAX, 0};
	char path[64];
	size_t size;
	if (n->up || n->last_frame_seg == 0)
		return false;
	(void)n->disk->ops->list(n->disk, "wal", count_segment, range);
	if (range[0] > n->last_frame_seg || range[1] < n->last_frame_seg)
		return false;
	uint64_t seq = sim_between(s, range[0], n->last_frame_seg);
	snprintf(path, sizeof path, "wal/%010u.wal", (unsigned)seq);
	uint8_t *p = fakedisk_bytes(n->disk, path, &size);
	if (!p || size == 0)
		return false;
	if (seq == n->last_frame_seg)
		size = (size_t)VX_MIN((uint64_t)size, n->last_frame_off);
	int rc = read_log(s, n, before);
	if (rc != 0)
		sim_die(s, "node %u: log unreadable before a flip: %s", node, vx_errno_name(rc));
	size_t at = (size_t)(sim_random(s) % size);
	unsigned bit = (unsigned)(sim_random(s) % 8);
	uint8_t *all = sim_must(fakedisk_bytes(n->disk, path, &size));
	all[at] ^= (uint8_t)(1u << bit);
	if (fakedisk_put(n->disk, path, all, size) != 0)
		abort();
	rc = read_log(s, n, after);
	sim_trace(s, node, TR_FLIP, bit, at, seq, (uint64_t)-rc);
	s->t.flips++;
	for (unsigned g = 0; g < s->p.groups && rc == 0; g++) {
		if (!same_log(&before[g], &after[g]))
			sim_die(s,
				"node %u: bit %u of byte %zu of segment %" PRIu64
				" flipped and the log says something else",
				node, bit, at, seq);
	}
	if (rc != 0) {
		n->damaged = true;
		s->t.refused++;
	}
	for (unsigned g = 0; g < SIM_GROUPS_MAX; g++) {
		wal_group_state_release(&before[g]);
		wal_group_state_release(&after[g]);
	}
	return true;
}

/* --- views -------------------------------------------------------------------------------- */

uint64_t sim_now(const struct sim *s)
{
	return s->now;
}

uint64_t sim_hash(const struct sim *s)
{
	return s->hash;
}

struct repl_core_group *sim_core(struct sim *s, unsigned node)
{
	return s->nodes[node].r[0].core;
}

struct raft *sim_raft(struct sim *s, unsigned node)
{
	return &sim_core(s, node)->raft;
}

int sim_leader(struct sim *s)
{
	int best = -1;
	uint64_t best_term = 0;
	for (unsigned i = 0; i < s->n; i++) {
		struct sim_node *n = &s->nodes[i];
		if (!n->up || n->doomed || !repl_core_is_ready(n->r[0].core))
			continue;
		if (n->r[0].core->raft.current_term > best_term) {
			best_term = n->r[0].core->raft.current_term;
			best = (int)i;
		}
	}
	return best;
}

void sim_favour(struct sim *s, unsigned node)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct raft *r = s->nodes[i].up ? sim_raft(s, i) : NULL;
		if (!r)
			continue;
		unsigned ms = i == node ? 1000 : 1000000;
		if (r->state == RAFT_FOLLOWER) {
			r->follower_state.randomized_election_timeout = ms;
			if (i != node)
				r->follower_state.current_leader.id = 0;
		} else if (r->state == RAFT_CANDIDATE) {
			r->candidate_state.randomized_election_timeout = ms;
		}
	}
}

static bool is_leader(struct sim *s, void *arg)
{
	unsigned node = *(unsigned *)arg;
	return s->nodes[node].up && raft_state(sim_raft(s, node)) == RAFT_LEADER;
}

bool sim_elect(struct sim *s, unsigned node, uint64_t ms)
{
	for (uint64_t end = s->now + ms; s->now < end;) {
		sim_favour(s, node);
		if (sim_run_until(s, is_leader, &node, 20))
			return true;
	}
	return false;
}

uint64_t sim_propose_many(struct sim *s, unsigned node, unsigned n, size_t len)
{
	return sim_propose_to(s, node, 0, n, len);
}

uint64_t sim_propose(struct sim *s, unsigned node, size_t len)
{
	return sim_propose_to(s, node, 0, 1, len);
}

bool sim_acked(const struct sim *s, uint64_t value)
{
	return s->fate[value] == SIM_ACKED;
}

bool sim_failed(const struct sim *s, uint64_t value)
{
	return s->fate[value] == SIM_FAILED || s->fate[value] == SIM_REFUSED;
}

unsigned sim_n_acked(const struct sim *s)
{
	return (unsigned)s->t.acked;
}

uint64_t sim_applied(const struct sim *s, unsigned node)
{
	return s->nodes[node].r[0].now.index;
}

unsigned sim_installs(const struct sim *s)
{
	return (unsigned)s->t.installs;
}

unsigned sim_marks(const struct sim *s)
{
	return (unsigned)s->t.marks;
}

unsigned sim_received(const struct sim *s, unsigned node, unsigned type)
{
	return s->nodes[node].received[type & 7];
}

void sim_inject(struct sim *s, unsigned from, unsigned to, const struct raft_message *m)
{
	struct repl_msg_head head = {
		.group = SIM_GROUP, .from = s->nodes[from].id, .to = s->nodes[to].id};
	struct buf b = BUF_INIT;
	if (repl_msg_encode(&head, m, &b) != 0)
		abort();
	repl_core_deliver(sim_core(s, to), head.from, b.data, b.len);
	buf_release(&b);
}

void sim_tap(struct sim *s,
	void (*tap)(void *arg, unsigned from, unsigned to, const struct raft_message *m), void *arg)
{
	s->tap = tap;
	s->tap_arg = arg;
}
