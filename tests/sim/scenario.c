/* scenario.c - what happens to a cluster in one seed.
 *
 * A seed draws its own mixture: the size of the cluster, the pace of network and disks, which faults
 * there are and how often.  Clients write all the while; an operator replaces machines, one change at a
 * time; then everything heals and the cluster must take a new value everywhere and have every
 * acknowledged one.
 */
#include "sim_i.h"

#include <stdio.h>
#include <stdlib.h>

enum fault {
	F_CRASH,
	F_KILL,
	F_BREAK,
	F_START,
	F_ISOLATE,
	F_CUT,
	F_SPLIT,
	F_HEAL,
	F_FLIP,
	F_FULL,
	F_ROOM,
	F_PAUSE,
	F_JUMP,
	F_TRANSFER,
	F_BLACKOUT,
	F_N
};

struct scenario {
	struct sim *s;
	unsigned weight[F_N], total;
	unsigned fault_ms; /* mean time between faults */
	unsigned write_permille;
	bool changes; /* the operator is busy */
	bool big;     /* some values are */
	bool joining[SIM_NODES_MAX], leaving[SIM_NODES_MAX];
	struct raft_transfer *transfers[64]; /* libraft's while a leader lives */
	unsigned n_transfers;
};

/* --- the mixture -------------------------------------------------------------------------- */

static struct sim_params draw_params(uint64_t seed, uint64_t *z)
{
	struct sim_params p = {.seed = seed, .store_keeps = true};
	unsigned size = (unsigned)(*z % 8);
	p.n = size == 0 ? 1 : size < 6 ? 3 : 5;
	p.extra = p.n == 5 ? 1 : 2;
	p.groups = *z & 0x100 ? 2 : 1;
	p.trailing = *z & 0x200 ? 4 : 64;
	p.mark_bytes = *z & 0x400 ? 2000 : 40000;
	p.segment_bytes = *z & 0x800 ? 64u << 10 : 256u << 10;
	p.net_min_ms = 1;
	p.net_max_ms = *z & 0x1000 ? 10 : 60;
	p.disk_max_ms = *z & 0x2000 ? 4 : 25;
	p.apply_max_ms = *z & 0x4000 ? 2 : 50;
	p.drop_permille = *z & 0x8000 ? 10 : 80;
	p.dup_permille = *z & 0x10000 ? 10 : 80;
	p.delay_permille = *z & 0x20000 ? 20 : 120;
	p.slow_disk_permille = *z & 0x40000 ? 10 : 100;
	p.timers = *z & 0x80000 ? 3 : 0;
	*z >>= 20;
	return p;
}

/* Each fault is there or not, rare or frequent. */
static void draw_faults(struct scenario *sc, uint64_t z)
{
	static const uint8_t base[F_N] = {[F_CRASH] = 6,
		[F_KILL] = 3,
		[F_BREAK] = 3,
		[F_START] = 12,
		[F_ISOLATE] = 5,
		[F_CUT] = 6,
		[F_SPLIT] = 3,
		[F_HEAL] = 12,
		[F_FLIP] = 3,
		[F_FULL] = 2,
		[F_ROOM] = 3,
		[F_PAUSE] = 3,
		[F_JUMP] = 2,
		[F_TRANSFER] = 4,
		[F_BLACKOUT] = 1};
	for (unsigned i = 0; i < F_N; i++) {
		bool always = i == F_START || i == F_HEAL || i == F_ROOM;
		sc->weight[i] = always || z >> i & 1 ? base[i] : 0;
		sc->total += sc->weight[i];
	}
	sc->fault_ms = z & 0x10000 ? 120 : 500;
	sc->write_permille = z & 0x20000 ? 600 : 150;
	sc->changes = z & 0x40000;
	sc->big = z & 0x80000;
}

/* --- faults ----------------------------------------------------------------------------------- */

static bool is_member(const struct scenario *sc, unsigned i)
{
	const struct sim_node *n = &sc->s->nodes[i];
	return !n->damaged && (!n->absent || sc->joining[i]);
}

static void start_down(struct scenario *sc, unsigned permille)
{
	for (unsigned i = 0; i < sc->s->n; i++) {
		if (is_member(sc, i) && !sc->s->nodes[i].up && sim_chance(sc->s, permille))
			(void)sim_start(sc->s, i);
	}
}

/* Only where a majority of every configuration is left without this machine. */
static bool may_lose(const struct scenario *sc, unsigned i)
{
	const struct sim *s = sc->s;
	if (s->p.n < 3 || !sc->changes || s->nodes[i].absent)
		return false;
	unsigned members = 0;
	for (unsigned k = 0; k < s->n; k++) {
		if (s->nodes[k].damaged || sc->leaving[k] || sc->joining[k])
			return false;
		members += !s->nodes[k].absent;
	}
	return members >= 3;
}

static void split(struct sim *s)
{
	uint64_t side = sim_random(s);
	for (unsigned a = 0; a < s->n; a++) {
		for (unsigned b = 0; b < s->n; b++) {
			if ((side >> a & 1) != (side >> b & 1))
				sim_cut(s, a, b, true);
		}
	}
}

static void transfer_over(struct raft_transfer *t)
{
	(void)t;
}

/* The product never does this; the guard holds all the same (rule 5). */
static void transfer(struct scenario *sc, unsigned i)
{
	struct sim *s = sc->s;
	struct sim_replica *r = &s->nodes[i].r[sim_random(s) % s->p.groups];
	if (!s->nodes[i].up || raft_state(&r->core->raft) != RAFT_LEADER ||
		sc->n_transfers == VX_ARRAY_SIZE(sc->transfers))
		return;
	struct raft_transfer *t = sim_must(calloc(1, sizeof *t));
	sc->transfers[sc->n_transfers++] = t;
	int rv = raft_transfer(&r->core->raft, t, 0, transfer_over);
	sim_trace(s, i, TR_TRANSFER, r->g, t->id, (uint64_t)rv, 0);
	repl_core_step(r->core);
}

static void crash_all(struct scenario *sc)
{
	for (unsigned i = 0; i < sc->s->n; i++)
		sim_crash(sc->s, i);
	start_down(sc, 1000);
}

static void one_fault(struct scenario *sc, enum fault f, unsigned i, unsigned j)
{
	struct sim *s = sc->s;
	bool up = s->nodes[i].up;
	switch (f) {
	case F_CRASH:
		if (up)
			sim_crash(s, i);
		break;
	case F_KILL:
		if (up)
			sim_kill(s, i);
		break;
	case F_BREAK:
		if (up)
			sim_break_log(s, i, 1 + (unsigned)(sim_random(s) % 3));
		break;
	case F_START:
		start_down(sc, 700);
		break;
	case F_ISOLATE:
		sim_isolate(s, i, true);
		break;
	case F_CUT:
		if (i != j)
			sim_cut(s, i, j, true);
		break;
	case F_SPLIT:
		split(s);
		break;
	case F_FLIP:
		if (!may_lose(sc, i))
			break;
		sim_crash(s, i);
		for (unsigned k = 0; k < 8 && !s->nodes[i].damaged; k++)
			(void)sim_flip(s, i);
		break;
	case F_FULL:
		if (!s->nodes[i].absent)
			sim_disk_room(s, i, sim_random(s) % 4096);
		break;
	case F_ROOM:
		sim_disk_room(s, i, UINT64_MAX);
		break;
	case F_PAUSE:
		if (up)
			sim_pause(s, i, sim_between(s, 10, sim_chance(s, 300) ? 5000 : 1500));
		break;
	case F_JUMP:
		sim_jump(s, i, sim_between(s, 10, sim_chance(s, 300) ? 100000 : 3000));
		break;
	case F_TRANSFER:
		for (unsigned k = 0; k < s->n; k++)
			transfer(sc, k);
		break;
	case F_BLACKOUT:
		crash_all(sc);
		break;
	default:
		sim_heal(s);
		break;
	}
}

static void fault(struct scenario *sc)
{
	struct sim *s = sc->s;
	unsigned at = (unsigned)(sim_random(s) % sc->total);
	unsigned i = (unsigned)(sim_random(s) % s->n), j = (unsigned)(sim_random(s) % s->n);
	enum fault f = 0;
	while (at >= sc->weight[f])
		at -= sc->weight[f++];
	one_fault(sc, f, i, j);
}

/* --- clients ------------------------------------------------------------------------------------- */

static void clients(struct scenario *sc)
{
	struct sim *s = sc->s;
	for (unsigned i = 0; i < s->n; i++) {
		for (unsigned g = 0; g < s->p.groups; g++) {
			struct sim_node *n = &s->nodes[i];
			if (!n->up || n->paused_until > s->now ||
				raft_state(&n->r[g].core->raft) != RAFT_LEADER ||
				!sim_chance(s, sc->write_permille))
				continue;
			unsigned k = 1 + (unsigned)(sim_random(s) % 4);
			size_t len = 8 + sim_random(s) % 300;
			if (sc->big && sim_chance(s, 50))
				len += sim_random(s) % 12000;
			sim_propose_to(s, i, g, k, len);
		}
	}
}

/* --- the operator ---------------------------------------------------------------------------------- */

struct asked {
	struct repl_change_req req;
	struct sim *s;
	unsigned node, g;
	bool wrong; /* it must be refused */
};

static void on_changed(struct repl_change_req *req, int status)
{
	struct asked *a = VX_CONTAINER_OF(req, struct asked, req);
	sim_trace(a->s, a->node, TR_CHANGED, a->g, req->kind, req->id, (uint64_t)-status);
	if (a->wrong && status == 0)
		sim_die(a->s, "node %u: change %u of id %llu was made and must not be", a->node,
			(unsigned)req->kind, (unsigned long long)req->id);
	if (status == 0)
		a->s->t.changes++;
	free(a);
}

static void ask(struct sim *s, unsigned node, unsigned g, enum repl_change_kind kind, uint64_t id,
	bool wrong)
{
	struct asked *a = sim_must(calloc(1, sizeof *a));
	*a = (struct asked){.req = {.kind = kind, .id = id, .done = on_changed},
		.s = s,
		.node = node,
		.g = g,
		.wrong = wrong};
	sim_trace(s, node, TR_CHANGE, g, kind, id, 0);
	repl_core_change(s->nodes[node].r[g].core, &a->req);
}

/* Changes that rule 8 forbids: the leader's own, a spare's to voter, anything before the leader has
 * committed an entry of its term. */
static void ask_wrong(struct scenario *sc)
{
	struct sim *s = sc->s;
	struct repl_server sv[REPL_VOTERS_MAX];
	bool committed;
	for (unsigned i = 0; i < s->n * s->p.groups; i++) {
		struct sim_node *n = &s->nodes[i / s->p.groups];
		unsigned g = i % s->p.groups;
		struct repl_core_group *core = n->r[g].core;
		if (!n->up || raft_state(&core->raft) != RAFT_LEADER || !sim_chance(s, 300))
			continue;
		unsigned count = repl_core_servers(core, sv, VX_ARRAY_SIZE(sv), &committed);
		const struct repl_server *k = &sv[sim_random(s) % count];
		if (k->id == n->id)
			ask(s, n->number, g, sim_chance(s, 500) ? REPL_REMOVE : REPL_STANDBY, k->id,
				true);
		else if (k->role == REPL_SPARE)
			ask(s, n->number, g, REPL_VOTER, k->id, true);
		else if (!core->ready)
			ask(s, n->number, g, REPL_ADD, 1000 + s->now, true);
	}
}

/* The ready leader of a group that knows everything that was ever applied; -1: none. */
static int knowing_leader(struct sim *s, unsigned g)
{
	for (unsigned i = 0; i < s->n; i++) {
		const struct sim_node *n = &s->nodes[i];
		if (n->up && !n->doomed && n->paused_until <= s->now &&
			repl_core_is_ready(n->r[g].core) && n->r[g].posted >= s->groups[g].top)
			return (int)i;
	}
	return -1;
}

static const struct repl_server *find_server(const struct repl_server *sv, unsigned n, uint64_t id)
{
	for (unsigned i = 0; i < n; i++) {
		if (sv[i].id == id)
			return &sv[i];
	}
	return NULL;
}

/* One step towards what is wanted of a machine in a group.  True: it is there. */
static bool steer(struct scenario *sc, unsigned g, unsigned i)
{
	struct sim *s = sc->s;
	struct repl_server sv[REPL_VOTERS_MAX];
	bool committed;
	int l = knowing_leader(s, g);
	if (l < 0)
		return false;
	const struct sim_node *n = &s->nodes[i];
	unsigned count = repl_core_servers(
		s->nodes[l].r[g].core, sv, VX_ARRAY_SIZE(sv), &committed);
	const struct repl_server *me = find_server(sv, count, n->id);
	if (!committed)
		return false;
	if (n->damaged || sc->leaving[i]) {
		if (me && (unsigned)l != i)
			ask(s, (unsigned)l, g, REPL_REMOVE, n->id, false);
		return !me;
	}
	if (!me)
		ask(s, (unsigned)l, g, REPL_ADD, n->id, false);
	else if (me->role == REPL_SPARE)
		ask(s, (unsigned)l, g, REPL_STANDBY, n->id, false);
	else if (me->role == REPL_STANDBY)
		ask(s, (unsigned)l, g, sim_chance(s, 200) ? REPL_SPARE : REPL_VOTER, n->id, false);
	return me && me->role == REPL_VOTER;
}

/* A machine that is out of every group can be wiped; one that votes in all has joined. */
static void operate(struct scenario *sc, bool healing)
{
	struct sim *s = sc->s;
	unsigned busy = 0, members = 0;
	for (unsigned i = 0; i < s->n; i++) {
		struct sim_node *n = &s->nodes[i];
		bool there = true;
		members += !n->absent && !n->damaged;
		if (!n->damaged && !sc->leaving[i] && !sc->joining[i])
			continue;
		busy++;
		for (unsigned g = 0; g < s->p.groups; g++)
			there &= steer(sc, g, i);
		if (!there)
			continue;
		if (sc->joining[i]) {
			sc->joining[i] = n->absent = false;
		} else {
			sim_wipe(s, i);
			sc->leaving[i] = false;
		}
	}
	if (busy || healing || !sim_chance(s, 300))
		return;
	unsigned i = (unsigned)(sim_random(s) % s->n);
	if (s->nodes[i].absent) {
		sc->joining[i] = true;
		(void)sim_start(s, i);
	} else if (members > VX_MAX(2u, s->p.n - 1)) {
		sc->leaving[i] = true;
	}
}

/* --- the end ------------------------------------------------------------------------------------------ */

struct goal {
	struct scenario *sc;
	unsigned g;
	uint64_t value;
};

static bool has_leader(struct sim *s, void *arg)
{
	const struct goal *g = arg;
	return knowing_leader(s, g->g) >= 0;
}

/* The value is acknowledged, and everybody who is to have it has all there is. */
static bool everywhere(struct sim *s, void *arg)
{
	const struct goal *goal = arg;
	struct repl_server sv[REPL_VOTERS_MAX];
	bool committed;
	int l = knowing_leader(s, goal->g);
	if (!sim_acked(s, goal->value) || l < 0)
		return false;
	unsigned n = repl_core_servers(
		s->nodes[l].r[goal->g].core, sv, VX_ARRAY_SIZE(sv), &committed);
	for (unsigned i = 0; i < n; i++) {
		const struct sim_node *k = sim_node_of_id(s, sv[i].id);
		if (sv[i].role == REPL_SPARE || !k || k->damaged)
			continue;
		if (!k->up || k->r[goal->g].now.index < s->groups[goal->g].top)
			return false;
	}
	return true;
}

static void settle_group(struct scenario *sc, unsigned g)
{
	struct sim *s = sc->s;
	struct goal goal = {sc, g, 0};
	for (unsigned attempt = 0; attempt < 30; attempt++) {
		/* A log that was to break may do so only now. */
		start_down(sc, 1000);
		operate(sc, true);
		if (!sim_run_until(s, has_leader, &goal, 20000))
			continue;
		goal.value = sim_propose_to(s, (unsigned)knowing_leader(s, g), g, 1, 16);
		if (sim_run_until(s, everywhere, &goal, 15000))
			return;
	}
	sim_die(s, "group %u makes no progress after healing", g);
}

static void settle(struct scenario *sc)
{
	struct sim *s = sc->s;
	sim_heal(s);
	s->p.drop_permille = VX_MIN(s->p.drop_permille, 20u);
	s->p.timers = 0;
	for (unsigned i = 0; i < s->n; i++) {
		sim_disk_room(s, i, UINT64_MAX);
		s->nodes[i].paused_until = 0;
		s->nodes[i].break_at = 0;
	}
	for (unsigned g = 0; g < s->p.groups; g++)
		settle_group(sc, g);
}

static void add_totals(struct sim_totals *t, const struct sim *s)
{
	const uint64_t *from = (const uint64_t *)&s->t;
	uint64_t *to = (uint64_t *)t;
	for (size_t i = 0; i < sizeof *t / sizeof *to; i++)
		to[i] += from[i];
	t->hash += s->hash;
}

void sim_scenario(uint64_t seed, bool trace, bool abort_on_finding, struct sim_totals *t)
{
	uint64_t z = (seed + 1) * 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z ^= z >> 27;
	struct sim_params p = draw_params(seed, &z);
	struct scenario sc = {0};
	draw_faults(&sc, z);
	p.trace = trace;
	p.abort = abort_on_finding;
	struct sim *s = sc.s = sim_new(&p);
	uint64_t end = 6000 + sim_random(s) % 6000, next_fault = 300, next_operation = 1500;
	while (s->now < end) {
		clients(&sc);
		if (s->now >= next_fault) {
			fault(&sc);
			next_fault = s->now + 10 + sim_random(s) % (2 * sc.fault_ms);
		}
		if (sc.changes && s->now >= next_operation) {
			operate(&sc, false);
			ask_wrong(&sc);
			next_operation = s->now + 50 + sim_random(s) % 200;
		}
		sim_run(s, 2 + sim_random(s) % 30);
	}
	settle(&sc);
	sim_check_acked(s);
	sim_check_logs(s);
	add_totals(t, s);
	sim_free(s);
	for (unsigned i = 0; i < sc.n_transfers; i++)
		free(sc.transfers[i]);
}
