/* sim_check.c - what must never be seen.
 *
 * The checkers look at every request to the log, every message that leaves, every role, every entry
 * that is applied and every answer, and compare it with what all nodes have shown so far.
 */
#include "sim_i.h"

#include <stdlib.h>

#include "base/hash.h"

typedef unsigned long long ull;

/* --- state machine safety ------------------------------------------------------------ */

struct sim_slot *sim_slot_at(struct sim *s, unsigned g, uint64_t index)
{
	struct sim_group *k = &s->groups[g];
	if (index >= k->n_slots) {
		size_t n = VX_MAX(2 * k->n_slots, (size_t)index + 1024);
		k->slots = sim_must(realloc(k->slots, n * sizeof *k->slots));
		memset(k->slots + k->n_slots, 0, (n - k->n_slots) * sizeof *k->slots);
		k->n_slots = n;
	}
	return &k->slots[index];
}

static uint64_t chain_on(uint64_t chain, uint64_t index, uint64_t value)
{
	uint64_t h = (chain ^ (value + 1)) * 0x9fb21c651e98df25u + index;
	return h ^ (h >> 29);
}

struct sim_state sim_check_apply(struct sim_replica *r, const struct sim_item *it)
{
	struct sim *s = r->node->s;
	struct sim_slot *k = sim_slot_at(s, r->g, it->index);
	if (k->known && (k->value != it->value || (it->value && k->term != it->term)))
		sim_die(s,
			"node %u applies value %llu (term %llu) at %llu, others value %llu (term "
			"%llu)",
			r->node->number, (ull)it->value, (ull)it->term, (ull)it->index,
			(ull)k->value, (ull)k->term);
	struct sim_state st = {it->index, k->chain};
	if (it->index <= r->now.index)
		return st; /* again: looked at alone */
	if (it->index != r->now.index + 1)
		sim_die(s, "node %u applies %llu, its store is at %llu", r->node->number,
			(ull)it->index, (ull)r->now.index);
	st.chain = chain_on(r->now.chain, it->index, it->value);
	if (k->known && k->chain != st.chain)
		sim_die(s, "node %u has another state than others at %llu", r->node->number,
			(ull)it->index);
	*k = (struct sim_slot){true, it->term, it->value, st.chain};
	s->groups[r->g].top = VX_MAX(s->groups[r->g].top, it->index);
	return st;
}

void sim_check_answer(struct sim_replica *r, const struct sim_item *it)
{
	if (r->now.index < it->index)
		sim_die(r->node->s, "value %llu is answered before it is applied", (ull)it->value);
}

/* --- log matching ----------------------------------------------------------------------- */

static size_t entry_place(const struct sim_group *k, uint64_t index, uint64_t term)
{
	size_t i = (index * 1000003 + term) & (k->cap_entries - 1);
	while (k->entries[i].index && (k->entries[i].index != index || k->entries[i].term != term))
		i = (i + 1) & (k->cap_entries - 1);
	return i;
}

static void grow_entries(struct sim_group *k)
{
	struct sim_group bigger = *k;
	bigger.cap_entries = k->cap_entries ? 2 * k->cap_entries : 1024;
	bigger.entries = sim_must(calloc(bigger.cap_entries, sizeof *bigger.entries));
	for (size_t i = 0; i < k->cap_entries; i++) {
		const struct sim_entry *e = &k->entries[i];
		if (e->index)
			bigger.entries[entry_place(&bigger, e->index, e->term)] = *e;
	}
	free(k->entries);
	*k = bigger;
}

/* Same (index, term): same entry, and same term before it. */
static void check_entry(struct sim_replica *r, const struct wal_rec *rec, uint64_t prev_term)
{
	struct sim *s = r->node->s;
	struct sim_group *k = &s->groups[r->g];
	if (2 * k->n_entries >= k->cap_entries)
		grow_entries(k);
	uint64_t hash = hash_xxh3(rec->data, rec->len, rec->etype);
	struct sim_entry *e = &k->entries[entry_place(k, rec->index, rec->term)];
	if (!e->index) {
		*e = (struct sim_entry){rec->index, rec->term, hash, prev_term};
		k->n_entries++;
		return;
	}
	if (e->hash != hash)
		sim_die(s, "node %u: another entry %llu of term %llu", r->node->number,
			(ull)rec->index, (ull)rec->term);
	if (prev_term && e->prev_term && e->prev_term != prev_term)
		sim_die(s, "node %u: entry %llu of term %llu follows terms %llu and %llu",
			r->node->number, (ull)rec->index, (ull)rec->term, (ull)e->prev_term,
			(ull)prev_term);
	if (!e->prev_term)
		e->prev_term = prev_term;
}

void sim_check_log_op(struct sim_replica *r, const struct repl_log_op *op)
{
	struct sim *s = r->node->s;
	uint64_t prev_term = 0;
	for (unsigned i = 0; i < op->req.n; i++) {
		const struct wal_rec *rec = &op->req.recs[i];
		if (rec->type == WAL_MARK && rec->index > r->durable.index)
			sim_die(s, "node %u marks %llu, its store is durable up to %llu",
				r->node->number, (ull)rec->index, (ull)r->durable.index);
		if (rec->type == WAL_RESET && rec->index > r->staged.index)
			sim_die(s,
				"node %u discards its log for snapshot %llu, of which it has %llu",
				r->node->number, (ull)rec->index, (ull)r->staged.index);
		if (rec->type == WAL_TRUNCATE && rec->index <= r->now.index)
			sim_die(s, "node %u truncates at %llu what it has applied up to %llu",
				r->node->number, (ull)rec->index, (ull)r->now.index);
		if (rec->type != WAL_ENTRY)
			continue;
		/* Until its term is durable nothing leaves, and a sole voter that dies may take
		 * the same term again. */
		if (r->core->hs_submitted != r->core->hs_durable)
			return;
		if (i == 0)
			prev_term = repl_core_term_of(r->core, rec->index - 1);
		check_entry(r, rec, prev_term);
		prev_term = rec->term;
	}
}

/* --- elections ------------------------------------------------------------------------------ */

/* Committed in this node's term or before. */
void sim_check_commit(struct sim_replica *r, uint64_t index)
{
	uint64_t term = r->core->raft.current_term;
	uint64_t *top = &r->node->s->groups[r->g].top_in_term[term < SIM_TERMS_MAX ? term : 0];
	*top = VX_MAX(*top, index);
}

void sim_check_role(struct sim_replica *r, bool is_leader, uint64_t term)
{
	struct sim *s = r->node->s;
	struct sim_group *k = &s->groups[r->g];
	sim_trace(s, r->node->number, TR_ROLE, r->g, is_leader, term, 0);
	if (!is_leader)
		return;
	if (term >= SIM_TERMS_MAX)
		sim_die(s, "term %llu: elections without end", (ull)term);
	if (k->leader_of[term] && k->leader_of[term] != r->node->id)
		sim_die(s, "two leaders in term %llu: ids %llu and %llu", (ull)term,
			(ull)k->leader_of[term], (ull)r->node->id);
	if (!k->leader_of[term])
		s->t.leaders++;
	k->leader_of[term] = r->node->id;
	/* What was committed in earlier terms; an election may come to its end when a later term
	 * has committed already. */
	for (uint64_t t = 1; t < term; t++) {
		if (r->core->last_index < k->top_in_term[t])
			sim_die(s,
				"node %u leads term %llu with entries up to %llu, but %llu were "
				"committed in term %llu",
				r->node->number, (ull)term, (ull)r->core->last_index,
				(ull)k->top_in_term[t], (ull)t);
	}
}

/* One vote per node and term; and it is durable before anybody hears of it. */
static void check_vote(struct sim_replica *r, uint64_t term, uint64_t candidate)
{
	struct sim *s = r->node->s;
	struct sim_group *k = &s->groups[r->g];
	const struct wal_group *w = wal_group_find(r->node->wal, SIM_GROUP + r->g);
	if (!w || w->term < term || (w->term == term && w->vote != candidate))
		sim_die(s, "node %u: its vote for %llu in term %llu leaves before it is durable",
			r->node->number, (ull)candidate, (ull)term);
	for (size_t i = 0; i < k->n_votes; i++) {
		const struct sim_vote *v = &k->votes[i];
		if (v->voter == r->node->id && v->term == term && v->candidate != candidate)
			sim_die(s, "node %u votes for %llu and %llu in term %llu", r->node->number,
				(ull)v->candidate, (ull)candidate, (ull)term);
	}
	if (k->n_votes == k->cap_votes) {
		k->cap_votes = k->cap_votes ? 2 * k->cap_votes : 256;
		k->votes = sim_must(realloc(k->votes, k->cap_votes * sizeof *k->votes));
	}
	k->votes[k->n_votes++] = (struct sim_vote){r->node->id, term, candidate};
}

/* --- what leaves a node ----------------------------------------------------------------------- */

#define BODY 32u /* docs/format-raft.md */

void sim_check_send(struct sim_replica *r, const uint8_t *p, size_t n)
{
	const struct wal_group *w = wal_group_find(r->node->wal, SIM_GROUP + r->g);
	const uint8_t *b = p + BODY;
	uint64_t last = w ? wal_group_last(w) : 0;
	if (n < BODY + 8 + 8)
		sim_die(r->node->s, "node %u sends %zu bytes", r->node->number, n);
	switch (p[5]) {
	case RAFT_IO_APPEND_ENTRIES_RESULT:
		if (get_le64(b + 8) == 0 && get_le64(b + 16) > last)
			sim_die(r->node->s,
				"node %u acknowledges %llu, its log is durable up to %llu",
				r->node->number, (ull)get_le64(b + 16), (ull)last);
		break;
	case RAFT_IO_REQUEST_VOTE:
		if (b[33] == 0)
			check_vote(r, get_le64(b), get_le64(b + 8));
		break;
	case RAFT_IO_REQUEST_VOTE_RESULT:
		if (b[8] == 1 && b[9] != raft_tribool_true)
			check_vote(r, get_le64(b), get_le64(p + 24));
		break;
	default:
		break;
	}
}

/* --- at the end -------------------------------------------------------------------------------------- */

static bool is_member(const struct sim_node *n)
{
	return !n->absent && !n->damaged;
}

void sim_check_acked(struct sim *s)
{
	uint8_t *in = sim_must(calloc(s->next_value + 1, 1));
	for (unsigned g = 0; g < s->p.groups; g++) {
		for (uint64_t i = 1; i <= s->groups[g].top; i++) {
			uint64_t v = s->groups[g].slots[i].value;
			if (v && (v >= s->next_value || in[v]++))
				sim_die(s, "value %llu was applied twice", (ull)v);
		}
	}
	for (uint64_t v = 1; v < s->next_value; v++) {
		if (s->fate[v] == SIM_ACKED && !in[v])
			sim_die(s, "value %llu was acknowledged and is lost", (ull)v);
		if (s->fate[v] == SIM_REFUSED && in[v])
			sim_die(s, "value %llu was refused and is there", (ull)v);
	}
	free(in);
}

/* Entries that are the same have the same before them. */
static void compare_logs(struct sim *s, unsigned a, const struct wal_group_state *x, unsigned b,
	const struct wal_group_state *y)
{
	size_t j = 0;
	bool apart = false;
	for (size_t i = 0; i < x->n_entries; i++) {
		const struct wal_entry *e = &x->entries[i];
		while (j < y->n_entries && y->entries[j].index < e->index)
			j++;
		if (j == y->n_entries)
			return;
		const struct wal_entry *f = &y->entries[j];
		if (f->index != e->index)
			continue;
		bool same = e->term == f->term && e->len == f->len &&
			    memcmp(e->data, f->data, e->len) == 0;
		if (same && apart)
			sim_die(s, "logs of %u and %u differ below %llu", a, b, (ull)e->index);
		apart = !same;
	}
}

void sim_check_logs(struct sim *s)
{
	struct wal_group_state st[SIM_NODES_MAX][SIM_GROUPS_MAX];
	memset(st, 0, sizeof st);
	for (unsigned i = 0; i < s->n; i++) {
		struct sim_node *n = &s->nodes[i];
		struct wal_opts wo = sim_wal_opts(s, n);
		struct vx_err err = VX_ERR_INIT;
		sim_crash(s, i);
		if (!is_member(n))
			continue;
		if (wal_open(n->disk, "wal", &wo, &n->wal, &err) != 0)
			sim_die(s, "node %u: log is unreadable at the end: %s", i, err.msg);
		for (unsigned g = 0; g < s->p.groups; g++) {
			if (wal_group_load(n->wal, SIM_GROUP + g, &st[i][g], &err) != 0)
				sim_die(s, "node %u: log does not load at the end: %s", i, err.msg);
		}
		wal_close(n->wal);
		n->wal = NULL;
	}
	for (unsigned g = 0; g < s->p.groups; g++) {
		for (unsigned a = 0; a < s->n; a++) {
			for (unsigned b = a + 1; b < s->n; b++)
				compare_logs(s, a, &st[a][g], b, &st[b][g]);
		}
	}
	for (unsigned i = 0; i < s->n * SIM_GROUPS_MAX; i++)
		wal_group_state_release(&st[i / SIM_GROUPS_MAX][i % SIM_GROUPS_MAX]);
}

void sim_check_clear(struct sim *s)
{
	for (unsigned g = 0; g < SIM_GROUPS_MAX; g++) {
		free(s->groups[g].slots);
		free(s->groups[g].entries);
		free(s->groups[g].votes);
	}
}
