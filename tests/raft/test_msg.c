/* test_msg.c - messages and manifests as bytes: round trip, damage, garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "raft/repl_core_i.h"

static const struct repl_msg_head head = {.group = 7, .from = 11, .to = 12};

static uint64_t seed_of_run(void)
{
	const char *s = getenv("SEED");
	uint64_t seed = s && *s ? strtoull(s, NULL, 10) : clock_mono_ns();
	print_message("SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static uint64_t next_random(uint64_t *s)
{
	uint64_t z = *s += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static struct raft_configuration three_servers(void)
{
	struct raft_configuration c;
	raft_configuration_init(&c);
	assert_int_equal(raft_configuration_add(&c, 1, "1", RAFT_VOTER), 0);
	assert_int_equal(raft_configuration_add(&c, 2, "host-2:4000", RAFT_STANDBY), 0);
	assert_int_equal(raft_configuration_add(&c, 9, "9", RAFT_SPARE), 0);
	return c;
}

static void assert_same_conf(const struct raft_configuration *a, const struct raft_configuration *b)
{
	assert_int_equal(a->n, b->n);
	for (unsigned i = 0; i < a->n; i++) {
		assert_int_equal(a->servers[i].id, b->servers[i].id);
		assert_int_equal(a->servers[i].role, b->servers[i].role);
		assert_string_equal(a->servers[i].address, b->servers[i].address);
	}
}

static struct raft_message make_message(unsigned type, struct raft_entry *entries, uint8_t *data)
{
	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = (unsigned short)type;
	switch (type) {
	case RAFT_IO_APPEND_ENTRIES:
		entries[0] = (struct raft_entry){
			.term = 3, .type = RAFT_COMMAND, .buf = {.base = data, .len = 5}};
		entries[1] = (struct raft_entry){
			.term = 3, .type = RAFT_BARRIER, .buf = {.base = data, .len = 8}};
		entries[2] = (struct raft_entry){
			.term = 4, .type = RAFT_COMMAND, .buf = {.base = data, .len = 0}};
		m.append_entries = (struct raft_append_entries){.term = 4,
			.prev_log_index = 10,
			.prev_log_term = 2,
			.leader_commit = 9,
			.entries = entries,
			.n_entries = 3};
		break;
	case RAFT_IO_APPEND_ENTRIES_RESULT:
		m.append_entries_result = (struct raft_append_entries_result){
			.term = 5, .rejected = 6, .last_log_index = 7};
		break;
	case RAFT_IO_REQUEST_VOTE:
		m.request_vote = (struct raft_request_vote){.term = 8,
			.candidate_id = 11,
			.last_log_index = 100,
			.last_log_term = 7,
			.disrupt_leader = true,
			.pre_vote = false};
		break;
	case RAFT_IO_REQUEST_VOTE_RESULT:
		m.request_vote_result = (struct raft_request_vote_result){
			.term = 8, .vote_granted = true, .pre_vote = raft_tribool_true};
		break;
	case RAFT_IO_INSTALL_SNAPSHOT:
		m.install_snapshot = (struct raft_install_snapshot){.term = 9,
			.last_index = 1000,
			.last_term = 8,
			.conf = three_servers(),
			.conf_index = 1,
			.data = {.base = data, .len = 16}};
		break;
	case RAFT_IO_TIMEOUT_NOW:
		m.timeout_now = (struct raft_timeout_now){
			.term = 9, .last_log_index = 1000, .last_log_term = 8};
		break;
	}
	return m;
}

static void drop_conf(unsigned type, struct raft_message *m)
{
	if (type == RAFT_IO_INSTALL_SNAPSHOT)
		raft_configuration_close(&m->install_snapshot.conf);
}

static void assert_same_entries(
	const struct raft_append_entries *a, const struct raft_append_entries *b)
{
	assert_int_equal(a->prev_log_index, b->prev_log_index);
	assert_int_equal(a->prev_log_term, b->prev_log_term);
	assert_int_equal(a->leader_commit, b->leader_commit);
	assert_int_equal(a->n_entries, b->n_entries);
	for (unsigned i = 0; i < a->n_entries; i++) {
		assert_int_equal(a->entries[i].term, b->entries[i].term);
		assert_int_equal(a->entries[i].type, b->entries[i].type);
		assert_int_equal(a->entries[i].buf.len, b->entries[i].buf.len);
		assert_memory_equal(
			a->entries[i].buf.base, b->entries[i].buf.base, a->entries[i].buf.len);
		assert_ptr_equal(b->entries[i].batch, b->entries[0].batch);
	}
}

/* Every type survives encoding and decoding, field by field. */
static void raft_message_round_trip(void **state)
{
	(void)state;
	uint8_t data[16] = "0123456789abcdef";
	for (unsigned type = RAFT_IO_APPEND_ENTRIES; type <= RAFT_IO_TIMEOUT_NOW; type++) {
		struct raft_entry entries[3];
		struct raft_message m = make_message(type, entries, data), d;
		struct repl_msg_head h;
		struct buf b = BUF_INIT, again = BUF_INIT;
		assert_int_equal(repl_msg_encode(&head, &m, &b), 0);
		assert_int_equal(repl_msg_decode(b.data, b.len, &h, &d), 0);
		assert_int_equal(h.group, head.group);
		assert_int_equal(h.from, head.from);
		assert_int_equal(h.to, head.to);
		assert_int_equal(d.type, type);
		assert_int_equal(d.server_id, head.from);
		if (type == RAFT_IO_APPEND_ENTRIES)
			assert_same_entries(&m.append_entries, &d.append_entries);
		if (type == RAFT_IO_INSTALL_SNAPSHOT) {
			assert_same_conf(&m.install_snapshot.conf, &d.install_snapshot.conf);
			assert_int_equal(d.install_snapshot.data.len, 16);
			assert_memory_equal(d.install_snapshot.data.base, data, 16);
		}
		/* The rest by encoding once more: equal bytes, equal fields. */
		assert_int_equal(repl_msg_encode(&head, &d, &again), 0);
		assert_int_equal(b.len, again.len);
		assert_memory_equal(b.data, again.data, b.len);
		repl_msg_release(&d);
		drop_conf(type, &m);
		buf_release(&b);
		buf_release(&again);
	}
}

/* Cut short anywhere, or with any bit turned, no message decodes. */
static void raft_message_damage_is_noticed(void **state)
{
	(void)state;
	uint8_t data[16] = {1, 2, 3};
	for (unsigned type = RAFT_IO_APPEND_ENTRIES; type <= RAFT_IO_TIMEOUT_NOW; type++) {
		struct raft_entry entries[3];
		struct raft_message m = make_message(type, entries, data), d;
		struct repl_msg_head h;
		struct buf b = BUF_INIT;
		assert_int_equal(repl_msg_encode(&head, &m, &b), 0);
		for (size_t n = 0; n < b.len; n++)
			assert_int_equal(repl_msg_decode(b.data, n, &h, &d), -EUCLEAN);
		for (size_t bit = 0; bit < 8 * b.len; bit++) {
			b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
			assert_int_equal(repl_msg_decode(b.data, b.len, &h, &d), -EUCLEAN);
			b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		drop_conf(type, &m);
		buf_release(&b);
	}
}

/* Wrong bytes under a right checksum: whatever decodes encodes to the same bytes again, and
 * nothing is read or allocated beyond what is there (the sanitizers watch). */
static void raft_message_garbage_under_a_valid_checksum(void **state)
{
	(void)state;
	uint64_t s = seed_of_run();
	uint8_t data[16] = {0};
	unsigned good = 0;
	for (unsigned round = 0; round < 60000; round++) {
		unsigned type = 1 + (unsigned)(next_random(&s) % 6);
		struct raft_entry entries[3];
		struct raft_message m = make_message(type, entries, data), d;
		struct repl_msg_head h;
		struct buf b = BUF_INIT, again = BUF_INIT;
		assert_int_equal(repl_msg_encode(&head, &m, &b), 0);
		drop_conf(type, &m);
		size_t body = b.len - 8;
		if (next_random(&s) % 4 == 0)
			body = 32 + next_random(&s) % (body - 31);
		for (unsigned k = 1 + (unsigned)(next_random(&s) % 4); k > 0; k--) {
			static const uint8_t odd[] = {0, 1, 2, 3, 0x7f, 0x80, 0xff};
			b.data[next_random(&s) % body] = odd[next_random(&s) % sizeof odd];
		}
		put_le64(b.data + body, hash_xxh3(b.data, body, 0));
		if (repl_msg_decode(b.data, body + 8, &h, &d) == 0) {
			good++;
			assert_int_equal(repl_msg_encode(&h, &d, &again), 0);
			assert_int_equal(again.len, body + 8);
			assert_memory_equal(again.data, b.data, again.len);
			repl_msg_release(&d);
		}
		buf_release(&b);
		buf_release(&again);
	}
	assert_true(good > 100); /* some changes only touch values */
}

/* A manifest keeps configuration and host bytes; damage is noticed. */
static void raft_manifest_round_trip(void **state)
{
	(void)state;
	struct repl_manifest m = {
		.conf_index = 77, .conf = three_servers(), .host = "store at 5", .host_len = 10};
	struct repl_manifest d;
	struct buf b = BUF_INIT;
	assert_int_equal(repl_manifest_encode(&m, &b), 0);
	assert_int_equal(repl_manifest_decode(b.data, b.len, &d), 0);
	assert_int_equal(d.conf_index, 77);
	assert_int_equal(d.host_len, 10);
	assert_memory_equal(d.host, "store at 5", 10);
	assert_same_conf(&m.conf, &d.conf);
	raft_configuration_close(&d.conf);
	for (size_t n = 0; n < b.len; n++)
		assert_int_equal(repl_manifest_decode(b.data, n, &d), -EUCLEAN);
	for (size_t bit = 0; bit < 8 * b.len; bit++) {
		b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(repl_manifest_decode(b.data, b.len, &d), -EUCLEAN);
		b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	raft_configuration_close(&m.conf);
	buf_release(&b);
}

/* Wrong bytes of a manifest under a right checksum: refused, or as good as it says. */
static void raft_manifest_garbage_under_a_valid_checksum(void **state)
{
	(void)state;
	uint64_t s = seed_of_run();
	struct repl_manifest m = {
		.conf_index = 77, .conf = three_servers(), .host = "store at 5", .host_len = 10};
	struct buf b = BUF_INIT;
	unsigned good = 0, bad = 0;
	assert_int_equal(repl_manifest_encode(&m, &b), 0);
	size_t whole = b.len - 8;
	uint8_t *bytes = malloc(b.len);
	assert_non_null(bytes);
	for (unsigned round = 0; round < 20000; round++) {
		struct repl_manifest d;
		struct buf again = BUF_INIT;
		size_t body = next_random(&s) % 4 ? whole : 20 + next_random(&s) % (whole - 19);
		memcpy(bytes, b.data, body);
		for (unsigned k = (unsigned)(next_random(&s) % 4); k > 0; k--) {
			static const uint8_t odd[] = {0, 1, 2, 3, 0x7f, 0x80, 0xff};
			bytes[next_random(&s) % body] = odd[next_random(&s) % sizeof odd];
		}
		put_le64(bytes + body, hash_xxh3(bytes, body, 0));
		if (repl_manifest_decode(bytes, body + 8, &d) != 0) {
			bad++;
			continue;
		}
		good++;
		assert_int_equal(repl_manifest_encode(&d, &again), 0);
		assert_int_equal(again.len, body + 8);
		assert_memory_equal(again.data, bytes, again.len);
		raft_configuration_close(&d.conf);
		buf_release(&again);
	}
	assert_true(good > 100 && bad > 100);
	free(bytes);
	raft_configuration_close(&m.conf);
	buf_release(&b);
}

/* What is too long to be sent is refused before a byte of it is looked at. */
static void raft_message_lengths_are_bounded(void **state)
{
	(void)state;
	uint8_t data[16] = {0};
	struct raft_entry entries[3];
	struct buf b = BUF_INIT;
	struct raft_message m = make_message(RAFT_IO_APPEND_ENTRIES, entries, data), d;
	struct repl_msg_head h;
	entries[1].buf.len = SIZE_MAX;
	assert_int_equal(repl_msg_encode(&head, &m, &b), -EMSGSIZE);
	entries[1].buf.len = REPL_MSG_BYTES_MAX - 30;
	assert_int_equal(repl_msg_encode(&head, &m, &b), -EMSGSIZE);
	/* Nothing is left for the head of the one after it. */
	entries[1].buf.len = REPL_MSG_BYTES_MAX - 36 - 16 - 5 - 16;
	assert_int_equal(repl_msg_encode(&head, &m, &b), -EMSGSIZE);
	m.append_entries.n_entries = REPL_MSG_ENTRIES_MAX + 1;
	assert_int_equal(repl_msg_encode(&head, &m, &b), -EMSGSIZE);
	assert_int_equal(b.len, 0);

	m = make_message(RAFT_IO_INSTALL_SNAPSHOT, entries, data);
	m.install_snapshot.data.len = (size_t)REPL_MSG_BYTES_MAX + 1;
	assert_int_equal(repl_msg_encode(&head, &m, &b), -EMSGSIZE);
	m.install_snapshot.data.len = 16;
	char *address = malloc(UINT16_MAX + 2);
	assert_non_null(address);
	memset(address, 'a', UINT16_MAX + 1);
	address[UINT16_MAX + 1] = 0;
	assert_int_equal(
		raft_configuration_add(&m.install_snapshot.conf, 12, address, RAFT_SPARE), 0);
	assert_int_equal(repl_msg_encode(&head, &m, &b), -EMSGSIZE);
	struct repl_manifest mf = {.conf = m.install_snapshot.conf, .host = data, .host_len = 16};
	assert_int_equal(repl_manifest_encode(&mf, &b), -EMSGSIZE);
	mf.host_len = VX_ENTRY_BYTES_MAX / 2 + 1;
	assert_int_equal(repl_manifest_encode(&mf, &b), -EMSGSIZE);
	free(address);
	drop_conf(RAFT_IO_INSTALL_SNAPSHOT, &m);
	assert_int_equal(b.len, 0);
	assert_int_equal(repl_msg_decode(data, (size_t)REPL_MSG_BYTES_MAX + 1, &h, &d), -EUCLEAN);
	memset(&m, 0, sizeof m);
	assert_int_equal(repl_msg_encode(&head, &m, &b), -EINVAL);
	buf_release(&b);
}

static int decoded(struct buf *b)
{
	struct repl_msg_head h;
	struct raft_message d;
	put_le64(b->data + b->len - 8, hash_xxh3(b->data, b->len - 8, 0));
	int rc = repl_msg_decode(b->data, b->len, &h, &d);
	if (rc == 0)
		repl_msg_release(&d);
	return rc;
}

/* The edges: no entries, an empty one, an empty snapshot; and indexes that would wrap or mean nothing. */
static void raft_message_edges(void **state)
{
	(void)state;
	uint8_t data[16] = {0};
	struct raft_entry entries[3];
	struct buf b = BUF_INIT;
	struct raft_message m = make_message(RAFT_IO_APPEND_ENTRIES, entries, data);
	m.append_entries.n_entries = 0;
	assert_int_equal(repl_msg_encode(&head, &m, &b), 0);
	assert_int_equal(decoded(&b), 0);
	b.len = 0;
	m.append_entries.n_entries = 1;
	entries[0].buf.len = 0;
	assert_int_equal(repl_msg_encode(&head, &m, &b), 0);
	assert_int_equal(decoded(&b), 0);
	put_le64(b.data + 32 + 8, UINT64_MAX - 1);
	assert_int_equal(decoded(&b), 0);
	put_le64(b.data + 32 + 8, UINT64_MAX);
	assert_int_equal(decoded(&b), -EUCLEAN);
	b.len = 0;
	m = make_message(RAFT_IO_INSTALL_SNAPSHOT, entries, data);
	m.install_snapshot.data.len = 0;
	assert_int_equal(repl_msg_encode(&head, &m, &b), 0);
	assert_int_equal(decoded(&b), 0);
	put_le64(b.data + 32 + 8, 0);
	assert_int_equal(decoded(&b), -EUCLEAN);
	drop_conf(RAFT_IO_INSTALL_SNAPSHOT, &m);
	buf_release(&b);
	m.type = RAFT_IO_TIMEOUT_NOW;
	repl_msg_release(&m); /* nothing of it is owned */
}

/* Every code of libraft's has one of ours, 0 only for success, and ours come back to the same. */
static void raft_errors_are_told_apart(void **state)
{
	(void)state;
	static const struct {
		int raft, ours;
	} known[] = {{0, 0}, {RAFT_NOMEM, -ENOMEM}, {RAFT_NOTLEADER, -EROFS},
		{RAFT_CANTCHANGE, -EROFS}, {RAFT_NOCONNECTION, -EROFS},
		{RAFT_LEADERSHIPLOST, -ETIMEDOUT}, {RAFT_SHUTDOWN, -ETIMEDOUT},
		{RAFT_CANCELED, -ETIMEDOUT}, {RAFT_NOSPACE, -ENOSPC}, {RAFT_BUSY, -EAGAIN},
		{RAFT_CORRUPT, -EUCLEAN}, {RAFT_MALFORMED, -EUCLEAN}, {RAFT_TOOBIG, -EMSGSIZE},
		{RAFT_TOOMANY, -EMSGSIZE}, {RAFT_BADID, -EINVAL}, {RAFT_DUPLICATEID, -EINVAL},
		{RAFT_DUPLICATEADDRESS, -EINVAL}, {RAFT_BADROLE, -EINVAL},
		{RAFT_NAMETOOLONG, -EINVAL}, {RAFT_INVALID, -EINVAL}, {RAFT_CANTBOOTSTRAP, -EINVAL},
		{RAFT_NOTFOUND, -ENOENT}, {RAFT_IOERR, -EIO}, {RAFT_UNAUTHORIZED, -EIO}};
	for (size_t i = 0; i < VX_ARRAY_SIZE(known); i++)
		assert_int_equal(repl_errno_from_raft(known[i].raft), known[i].ours);
	for (int code = 0; code < 100; code++)
		assert_true(code == 0 || repl_errno_from_raft(code) < 0);
	static const int ours[] = {0, -ENOMEM, -ENOSPC, -EAGAIN, -EUCLEAN, -EMSGSIZE, -EIO};
	for (size_t i = 0; i < VX_ARRAY_SIZE(ours); i++)
		assert_int_equal(repl_errno_from_raft(repl_errno_to_raft(ours[i])), ours[i]);
	assert_int_equal(repl_errno_to_raft(-EBADF), RAFT_IOERR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(raft_message_round_trip),
		cmocka_unit_test(raft_message_damage_is_noticed),
		cmocka_unit_test(raft_message_garbage_under_a_valid_checksum),
		cmocka_unit_test(raft_manifest_round_trip),
		cmocka_unit_test(raft_manifest_garbage_under_a_valid_checksum),
		cmocka_unit_test(raft_message_lengths_are_bounded),
		cmocka_unit_test(raft_message_edges),
		cmocka_unit_test(raft_errors_are_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
