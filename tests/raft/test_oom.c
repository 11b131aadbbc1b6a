/* test_oom.c - memory that runs out at the n-th allocation, for every n.
 *
 * This test is linked with the library whose allocations are counted (tests/wal/oom.h).  The small
 * functions are asked one by one, with libraft's own memory counted too; then a cluster goes through a script of
 * everything that allocates, with libraft's left alone (it leaks, and asserts, where ours must not).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../wal/fakedisk.h"
#include "../wal/oom.h"
#include "base/log.h"
#include "nodes.h"
#include "pump.h"

/* --- libraft's heap --------------------------------------------------------------------- */

static void *heap_malloc(void *data, size_t n)
{
	(void)data;
	return oom_malloc(n);
}

static void heap_free(void *data, void *p)
{
	(void)data;
	free(p);
}

static void *heap_calloc(void *data, size_t n, size_t size)
{
	(void)data;
	return oom_calloc(n, size);
}

static void *heap_realloc(void *data, void *p, size_t n)
{
	(void)data;
	return oom_realloc(p, n);
}

static void *heap_aligned_alloc(void *data, size_t align, size_t n)
{
	(void)data;
	return oom_aligned_alloc(align, n);
}

static void heap_aligned_free(void *data, size_t align, void *p)
{
	(void)data;
	(void)align;
	free(p);
}

static struct raft_heap heap = {.malloc = heap_malloc,
	.free = heap_free,
	.calloc = heap_calloc,
	.realloc = heap_realloc,
	.aligned_alloc = heap_aligned_alloc,
	.aligned_free = heap_aligned_free};

static int heap_set(void **state)
{
	(void)state;
	raft_heap_set(&heap);
	return 0;
}

static int heap_reset(void **state)
{
	(void)state;
	oom_arm(0);
	raft_heap_set_default();
	return 0;
}

/* --- bytes ------------------------------------------------------------------------------ */

static struct raft_configuration three_servers(void)
{
	struct raft_configuration c;
	raft_configuration_init(&c);
	assert_int_equal(raft_configuration_add(&c, 1, "1", RAFT_VOTER), 0);
	assert_int_equal(raft_configuration_add(&c, 2, "host-2:4000", RAFT_STANDBY), 0);
	assert_int_equal(raft_configuration_add(&c, 9, "9", RAFT_SPARE), 0);
	return c;
}

static struct raft_message make_message(unsigned type, struct raft_entry *entries, void *data)
{
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = (unsigned short)type;
	if (type == RAFT_IO_APPEND_ENTRIES) {
		for (unsigned i = 0; i < 3; i++)
			entries[i] = (struct raft_entry){
				.term = 3, .type = RAFT_COMMAND, .buf = {.base = data, .len = 5}};
		m.append_entries.entries = entries;
		m.append_entries.n_entries = 3;
	}
	if (type == RAFT_IO_INSTALL_SNAPSHOT) {
		m.install_snapshot.last_index = 7;
		m.install_snapshot.conf = three_servers();
		m.install_snapshot.data = (struct raft_buffer){.base = data, .len = 16};
	}
	return m;
}

/* A buffer that holds one byte and has room for 'room' more. */
static struct buf with_room(size_t room)
{
	struct buf b = {.data = malloc(1 + room), .len = 1, .cap = 1 + room};
	assert_non_null(b.data);
	b.data[0] = 'x';
	return b;
}

/* However far the encoder gets before the buffer must grow, without memory it fails and leaves the
 * buffer as it was; with memory it succeeds. */
static void raft_encoding_without_memory_changes_nothing(void **state)
{
	(void)state;
	uint8_t data[16] = "0123456789abcdef";
	struct raft_entry entries[3];
	const struct repl_msg_head head = {.group = 7, .from = 11, .to = 12};
	for (unsigned type = RAFT_IO_APPEND_ENTRIES; type <= RAFT_IO_TIMEOUT_NOW + 1; type++) {
		struct raft_message m = make_message(type, entries, data);
		struct repl_manifest mf = {
			.conf = m.install_snapshot.conf, .host = data, .host_len = 9};
		bool manifest = type > RAFT_IO_TIMEOUT_NOW;
		if (manifest)
			mf.conf = three_servers();
		unsigned failed = 0;
		for (size_t room = 0; room < 512; room++) {
			struct buf b = with_room(room);
			oom_arm(1);
			int rc = manifest ? repl_manifest_encode(&mf, &b)
					  : repl_msg_encode(&head, &m, &b);
			bool fired = oom_fired();
			oom_arm(0);
			assert_int_equal(rc, fired ? -ENOMEM : 0);
			if (fired)
				assert_int_equal(b.len, 1);
			failed += fired;
			assert_int_equal(b.data[0], 'x');
			buf_release(&b);
		}
		assert_true(failed > 16 && failed < 500);
		if (type == RAFT_IO_INSTALL_SNAPSHOT)
			raft_configuration_close(&m.install_snapshot.conf);
		if (manifest)
			raft_configuration_close(&mf.conf);
	}
}

/* Decoding either succeeds or fails with -ENOMEM, and loses nothing (ASan counts). */
static void raft_decoding_without_memory_fails(void **state)
{
	(void)state;
	uint8_t data[16] = "0123456789abcdef";
	struct raft_entry entries[3];
	const struct repl_msg_head head = {.group = 7, .from = 11, .to = 12};
	const unsigned types[] = {RAFT_IO_APPEND_ENTRIES, RAFT_IO_INSTALL_SNAPSHOT};
	for (unsigned t = 0; t < VX_ARRAY_SIZE(types); t++) {
		struct raft_message m = make_message(types[t], entries, data), d;
		struct repl_msg_head h;
		struct buf b = BUF_INIT;
		assert_int_equal(repl_msg_encode(&head, &m, &b), 0);
		unsigned at = 1;
		for (bool fired = true; fired; at++) {
			oom_arm(at);
			int rc = repl_msg_decode(b.data, b.len, &h, &d);
			fired = oom_fired();
			oom_arm(0);
			assert_int_equal(rc, fired ? -ENOMEM : 0);
			if (rc == 0)
				repl_msg_release(&d);
		}
		assert_true(at > 2);
		if (types[t] == RAFT_IO_INSTALL_SNAPSHOT)
			raft_configuration_close(&m.install_snapshot.conf);
		buf_release(&b);
	}
	struct repl_manifest mf = {.conf = three_servers(), .host = data, .host_len = 9}, d;
	struct buf b = BUF_INIT;
	assert_int_equal(repl_manifest_encode(&mf, &b), 0);
	for (unsigned at = 1;; at++) {
		oom_arm(at);
		int rc = repl_manifest_decode(b.data, b.len, &d);
		bool fired = oom_fired();
		oom_arm(0);
		assert_int_equal(rc, fired ? -ENOMEM : 0);
		if (!fired)
			break;
	}
	raft_configuration_close(&d.conf);
	raft_configuration_close(&mf.conf);
	buf_release(&b);
}

/* --- a new group ------------------------------------------------------------------------ */

/* Bootstrap either stages both records or says why not. */
static void raft_bootstrap_without_memory_fails(void **state)
{
	(void)state;
	const uint64_t ids[] = {1, 2, 3};
	struct wal_opts wo = {.segment_size_bytes = 1u << 18, .backend = WAL_PWRITE, .node_id = 1};
	struct disk *d = fakedisk_new();
	struct vx_err err = VX_ERR_INIT;
	struct wal *w;
	unsigned at = 1;
	assert_non_null(d);
	assert_int_equal(wal_open(d, "wal", &wo, &w, &err), 0);
	/* A group of its own each time: what a failed attempt staged goes nowhere. */
	for (bool fired = true; fired; at++) {
		oom_arm(at);
		int rc = repl_core_bootstrap(w, at, ids, VX_ARRAY_SIZE(ids));
		fired = oom_fired();
		oom_arm(0);
		assert_int_equal(rc, fired ? -ENOMEM : 0);
		if (fired)
			wal_discard(w);
	}
	assert_true(at > 3);
	wal_close(w);
	fakedisk_free(d);
}

/* --- a cluster --------------------------------------------------------------------------- */

static bool up(const struct nodes *c, unsigned i)
{
	return c->node[i].core && c->node[i].fatal_status == 0;
}

/* Starts who is down; without memory the next try succeeds. */
static void start_all(struct nodes *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		for (unsigned k = 0; k < 3 && !c->node[i].core; k++) {
			int rc = nodes_start(c, i);
			assert_true(rc == 0 || rc == -ENOMEM);
		}
		assert_non_null(c->node[i].core);
	}
}

static void propose_many(struct nodes *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int leader = nodes_leader(c);
		if (leader < 0 || !up(c, (unsigned)leader))
			leader = (int)nodes_elect(c);
		nodes_propose(c, (unsigned)leader, 400);
		nodes_run(c, 50);
	}
}

/* What may fail without memory, and how often it is tried. */
static void change(struct nodes *c, enum repl_change_kind kind, uint64_t id)
{
	int rc = -ENOMEM;
	for (unsigned k = 0; k < 5 && rc != 0 && rc != -EEXIST && rc != -ENOENT; k++) {
		start_all(c);
		rc = nodes_change(c, nodes_elect(c), kind, id);
	}
}

/* Another candidate asks for a vote of this term, which is refused. */
static void ask_again(struct nodes *c)
{
	unsigned leader = nodes_elect(c), other = (leader + 1) % 3;
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = RAFT_IO_REQUEST_VOTE;
	m.request_vote.term = c->node[leader].core->raft.current_term;
	m.request_vote.candidate_id = other + 1;
	nodes_inject(c, other, leader, &m);
}

/* Elections, entries, marks, members that come and go, a node that is behind by a mark,
 * a log with leftovers, restarts. */
static void script(struct nodes *c)
{
	start_all(c);
	propose_many(c, 3);
	ask_again(c);
	repl_core_mark_aside(c->node[nodes_elect(c)].core);
	nodes_run(c, 100);
	start_all(c);
	change(c, REPL_ADD, 4);
	change(c, REPL_STANDBY, 4);
	unsigned leader = nodes_elect(c), behind = leader == 2 ? 1 : 2;
	c->cut[behind] = true;
	propose_many(c, 12);
	for (unsigned k = 0; k < 3; k++) {
		start_all(c);
		if (nodes_mark(c, nodes_elect(c)) == 0)
			break;
	}
	start_all(c);
	leader = nodes_elect(c);
	c->cut[behind] = false;
	nodes_run(c, 4000);
	/* Leftovers: the leader is alone with an entry and a change. */
	start_all(c);
	leader = nodes_elect(c);
	c->cut[leader] = true;
	nodes_propose(c, leader, 64);
	nodes_run(c, 5000);
	c->cut[leader] = false;
	nodes_run(c, 2000);
	start_all(c);
	change(c, REPL_VOTER, 4);
	propose_many(c, 3);
	change(c, REPL_REMOVE, 4);
	leader = nodes_elect(c);
	nodes_stop(c, (leader + 1) % 3);
	start_all(c);
	nodes_run(c, 500);
}

/* Whatever allocation fails: nobody dies of it but by the guard's word, what was acknowledged stands,
 * and the cluster goes on. */
static void raft_cluster_survives_the_end_of_memory(void **state)
{
	(void)state;
	uint64_t at = 1;
	for (bool fired = true; fired; at++) {
		struct nodes *c = nodes_new(4, 3, 1500);
		oom_arm(at);
		script(c);
		fired = oom_fired();
		oom_arm(0);
		nodes_check(c);
		nodes_free(c);
	}
	print_message("%llu allocations\n", (unsigned long long)at - 2);
	assert_true(at > 100);
}

/* --- a sole voter, and its libraft ------------------------------------------------------------ */

static void add_terms(struct wal_group_state *st)
{
	st->entries = realloc(st->entries, 21 * sizeof *st->entries);
	assert_non_null(st->entries);
	for (unsigned i = 1; i <= 20; i++) {
		st->entries[st->n_entries++] = (struct wal_entry){.index = i + 1,
			.term = i + 1,
			.etype = RAFT_BARRIER,
			.data = calloc(1, 8),
			.len = 8};
	}
	st->term = 30;
}

/* A log of many terms opens and starts, or says -ENOMEM and does so the next time. */
static void raft_start_without_memory_may_be_repeated(void **state)
{
	(void)state;
	uint64_t at = 1;
	for (bool fired = true; fired; at++) {
		struct nodes *c = nodes_new(1, 1, 0);
		add_terms(&c->node[0].log);
		oom_arm(at);
		int rc = nodes_start(c, 0);
		fired = oom_fired();
		oom_arm(0);
		assert_true(rc == 0 || (fired && rc == -ENOMEM));
		nodes_check(c);
		nodes_free(c);
	}
	assert_true(at > 30);
}

/* Opening alone, with libraft's own memory counted: done, or -ENOMEM with the state still the caller's. */
static void raft_open_without_memory_fails(void **state)
{
	(void)state;
	struct nodes *c = nodes_new(3, 3, 0);
	struct wal_group_state *st = &c->node[0].log;
	struct repl_core_opts o = {.group = NODES_GROUP, .node_id = 1};
	struct vx_err err = VX_ERR_INIT;
	struct repl_manifest m = {
		.conf_index = 1, .conf = three_servers(), .host = st, .host_len = 16};
	struct buf b = BUF_INIT;
	add_terms(st);
	assert_int_equal(repl_manifest_encode(&m, &b), 0);
	raft_configuration_close(&m.conf);
	for (unsigned marked = 0; marked < 2; marked++) {
		st->mark_index = st->mark_term = marked ? 2 : 0;
		st->manifest = marked ? b.data : NULL;
		st->manifest_len = marked ? b.len : 0;
		uint64_t at = 1;
		for (bool fired = true; fired; at++) {
			struct repl_core_group *g = NULL;
			size_t n = st->n_entries;
			oom_arm(at);
			int rc = repl_core_open(&c->node[0].env, &o, st, &g, &err);
			fired = oom_fired();
			oom_arm(0);
			assert_int_equal(rc, fired ? -ENOMEM : 0);
			if (rc == 0) { /* it took the state, so it is given back */
				*st = g->loaded;
				memset(&g->loaded, 0, sizeof g->loaded);
				repl_core_free(g);
			}
			assert_int_equal(st->n_entries, n);
		}
		assert_true(at > 5);
	}
	nodes_free(c); /* with the manifest */
}

/* --- the pump ------------------------------------------------------------------------------------ */

static void pump_apply(
	void *host, uint32_t group, uint64_t index, uint64_t term, const void *data, size_t len)
{
	(void)host;
	(void)group;
	(void)index;
	(void)term;
	(void)data;
	(void)len;
}

static void pump_watermark(void *host, uint32_t group, uint64_t index)
{
	(void)host;
	(void)group;
	(void)index;
}

static int pump_mark(void *host, uint32_t group, uint64_t index, struct buf *manifest)
{
	(void)host;
	(void)group;
	(void)index;
	(void)manifest;
	return 0;
}

static int pump_restore(
	void *host, uint32_t group, uint64_t index, const void *manifest, size_t len)
{
	(void)host;
	(void)group;
	(void)index;
	(void)manifest;
	(void)len;
	return -EIO;
}

static const struct repl_host_ops pump_ops = {.apply = pump_apply,
	.watermark = pump_watermark,
	.mark = pump_mark,
	.restore = pump_restore};

/* Opening two new groups: done, or -ENOMEM and nothing is lost (ASan counts); then with memory it is done. */
static void repl_open_without_memory_fails(void **state)
{
	(void)state;
	struct vx_err err = VX_ERR_INIT;
	uint64_t at = 1;
	for (bool fired = true; fired; at++) {
		struct disk *d = fakedisk_new();
		assert_non_null(d);
		struct repl_opts o = {
			.disk = d,
			.wal_dir = "wal",
			.wal = {.segment_size_bytes = 1u << 18,
				.backend = WAL_PWRITE,
				.node_id = 5},
			.node_id = 5,
			.first_group = 3,
			.n_groups = 2,
		};
		struct repl *r = NULL;
		oom_arm(at);
		int rc = repl_open(&o, &pump_ops, NULL, &r, &err);
		fired = oom_fired();
		oom_arm(0);
		assert_true(rc == 0 || (fired && rc == -ENOMEM));
		repl_stop(rc == 0 ? r : NULL);
		assert_int_equal(repl_open(&o, &pump_ops, NULL, &r, &err), 0);
		repl_stop(r);
		fakedisk_free(d);
	}
	assert_true(at > 20);
}

/* Of three groups the second has lost something. */
static struct repl_opts damaged_log(void)
{
	struct repl *r;
	struct repl_opts o = {
		.disk = pump_must(fakedisk_new()),
		.wal_dir = "wal",
		.wal = {.segment_size_bytes = 1u << 18,
			.backend = WAL_PWRITE,
			.node_id = 5,
			.stop_first = FIRST,
			.n_stop = 3},
		.node_id = 5,
		.first_group = FIRST,
		.n_groups = 3,
	};
	assert_int_equal(repl_open(&o, &pump_ops, NULL, &r, NULL), 0);
	repl_stop(r);
	pump_lose(&o, FIRST + 1);
	return o;
}

static void one_is_stopped(const struct repl_opts *o, bool yes)
{
	struct repl *r;
	assert_int_equal(repl_open(o, &pump_ops, NULL, &r, NULL), 0);
	assert_null(repl_group_stopped(r, FIRST));
	assert_int_equal(repl_group_stopped(r, FIRST + 1) != NULL, yes);
	assert_null(repl_group_stopped(r, FIRST + 2));
	repl_stop(r);
}

/* Opening with a stopped group, and accepting its loss: done, or refused, and with memory it is done. */
static void repl_stopped_group_without_memory_stays_stopped(void **state)
{
	(void)state;
	struct repl_opts fresh = damaged_log();
	uint64_t opens = 1, accepts = 1;
	for (bool fired = true; fired; opens++) {
		struct repl_opts o = fresh;
		struct repl *r = NULL;
		o.disk = pump_must(fakedisk_clone(fresh.disk));
		oom_arm(opens);
		int rc = repl_open(&o, &pump_ops, NULL, &r, NULL);
		fired = oom_fired();
		oom_arm(0);
		assert_int_equal(rc, fired ? -ENOMEM : 0);
		repl_stop(rc == 0 ? r : NULL);
		one_is_stopped(&o, true);
		fakedisk_free(o.disk);
	}
	for (bool fired = true; fired; accepts++) {
		struct repl_opts o = fresh;
		struct vx_err err = VX_ERR_INIT;
		o.disk = pump_must(fakedisk_clone(fresh.disk));
		oom_arm(accepts);
		int rc = repl_accept_loss(&o, FIRST + 1, 1, &err);
		fired = oom_fired();
		oom_arm(0);
		assert_true(rc == 0 || (fired && (rc == -ENOMEM || rc == -EIO)));
		assert_int_equal(rc != 0, err.msg[0] != 0);
		one_is_stopped(&o, rc != 0);
		assert_int_equal(repl_accept_loss(&o, FIRST + 1, 1, NULL), rc == 0 ? -ENOENT : 0);
		one_is_stopped(&o, false);
		fakedisk_free(o.disk);
	}
	print_message("%llu allocations of an open, %llu of an acceptance\n",
		(unsigned long long)opens - 1, (unsigned long long)accepts - 1);
	assert_true(opens > 20 && accepts > 15);
	fakedisk_free(fresh.disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			raft_encoding_without_memory_changes_nothing, heap_set, heap_reset),
		cmocka_unit_test_setup_teardown(
			raft_decoding_without_memory_fails, heap_set, heap_reset),
		cmocka_unit_test_setup_teardown(
			raft_bootstrap_without_memory_fails, heap_set, heap_reset),
		cmocka_unit_test(raft_cluster_survives_the_end_of_memory),
		cmocka_unit_test(raft_start_without_memory_may_be_repeated),
		cmocka_unit_test_setup_teardown(
			raft_open_without_memory_fails, heap_set, heap_reset),
		cmocka_unit_test(repl_open_without_memory_fails),
		cmocka_unit_test_setup_teardown(
			repl_stopped_group_without_memory_stays_stopped, heap_set, heap_reset),
	};
	(void)!log_configure("off");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
