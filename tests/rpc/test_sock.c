/* The socket front over a real database: what it answers to clients that follow the protocol, to
 * those that do not, and to noise.  Runs with VECFS_TEST_SHARDS shards. */
#include "rpctest.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/client.h"
#include "cluster/db.h"
#include "daemon/errlog.h"
#include "daemon/sock.h"

struct fixture {
	char *dir, data[300], path[300];
	struct db *db;
	struct sock *sock;
};

static int start(void **state)
{
	const char *shards = getenv("VECFS_TEST_SHARDS");
	struct fixture *x = calloc(1, sizeof *x);
	struct vx_err err = VX_ERR_INIT;

	assert_non_null(x);
	x->dir = rt_dir();
	snprintf(x->data, sizeof x->data, "%s/data", x->dir);
	snprintf(x->path, sizeof x->path, "%s/sock", x->dir);
	struct db_opts o = {.data_dir = x->data,
		.shards = shards ? (uint32_t)atoi(shards) : 1,
		.index_threads = 1,
		.wal_segment_bytes = 16u << 20,
		.create = true};
	if (db_open(&o, &x->db, &err))
		fail_msg("db_open: %s", err.msg);
	if (sock_start(x->db, x->path, &x->sock, &err))
		fail_msg("sock_start: %s", err.msg);
	*state = x;
	return 0;
}

static int stop(void **state)
{
	struct fixture *x = *state;
	char cmd[400];

	sock_stop(x->sock);
	db_close(x->db);
	assert_int_equal(access(x->path, F_OK), -1);
	snprintf(cmd, sizeof cmd, "rm -r '%s'", x->dir);
	assert_int_equal(system(cmd), 0);
	free(x->dir);
	free(x);
	return 0;
}

/* A client of bytes: no library in between. */
static void dial(const struct fixture *x, struct rpc_conn *c)
{
	int fd;

	assert_int_equal(rpc_unix_connect(x->path, &fd), 0);
	rpc_conn_init(c, fd);
}

static void say_hello(struct rpc_conn *c, uint32_t min, uint32_t max)
{
	Vecfs__Hello h = VECFS__HELLO__INIT;

	h.protocol_min = min;
	h.protocol_max = max;
	h.client = (char *)(uintptr_t) "test";
	assert_int_equal(rpc_conn_queue(c, RPC_HELLO, 1, &h.base), 0);
	assert_int_equal(rpc_conn_flush(c), 0);
}

/* The next frame; fails the test when none comes within ten seconds. */
static void hear(struct rpc_conn *c, struct rpc_frame *f)
{
	struct timeval limit = {.tv_sec = 10};

	assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
	assert_int_equal(rpc_conn_recv(c, f, NULL), 1);
}

static void hear_error(struct rpc_conn *c, uint32_t id, const char *code)
{
	struct rpc_frame f;
	Vecfs__Error *e;

	hear(c, &f);
	assert_int_equal(f.type, RPC_ERROR);
	assert_int_equal(f.id, id);
	e = vecfs__error__unpack(NULL, f.len, f.payload);
	assert_non_null(e);
	assert_string_equal(e->code, code);
	assert_true(strlen(e->reason) > 5);
	vecfs__error__free_unpacked(e, NULL);
}

static void hear_end(struct rpc_conn *c)
{
	struct rpc_frame f;
	int rc = rpc_conn_recv(c, &f, NULL);

	assert_true(rc == 0 || rc == -ECONNRESET);
}

static void greeted(const struct fixture *x, struct rpc_conn *c)
{
	struct rpc_frame f;

	dial(x, c);
	say_hello(c, RPC_PROTOCOL, RPC_PROTOCOL);
	hear(c, &f);
	assert_int_equal(f.type, RPC_HELLO | RPC_ANSWER);
	assert_int_equal(f.id, 1);
}

static void make(const struct fixture *x, const char *name)
{
	struct coll_schema s = {.metric = VX_L2};
	struct vx_err err = VX_ERR_INIT;

	if (db_create(x->db, name, &s, &err))
		fail_msg("db_create: %s", err.msg);
}

/* --- the protocol -------------------------------------------------------------------- */
static void sock_wants_a_hello_first(void **state)
{
	Vecfs__ListRequest m = VECFS__LIST_REQUEST__INIT;
	struct rpc_conn c;

	dial(*state, &c);
	assert_int_equal(rpc_conn_queue(&c, RPC_LIST, 9, &m.base), 0);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_error(&c, 9, "EPROTO");
	hear_end(&c);
	rpc_conn_release(&c);
}

static void sock_refuses_a_protocol_it_does_not_speak(void **state)
{
	struct rpc_conn c;

	dial(*state, &c);
	say_hello(&c, RPC_PROTOCOL + 1, RPC_PROTOCOL + 5);
	hear_error(&c, 1, "EPROTONOSUPPORT");
	hear_end(&c);
	rpc_conn_release(&c);
	/* One that speaks more than we do gets ours. */
	dial(*state, &c);
	say_hello(&c, RPC_PROTOCOL, RPC_PROTOCOL + 5);
	struct rpc_frame f;
	hear(&c, &f);
	Vecfs__Welcome *w = vecfs__welcome__unpack(NULL, f.len, f.payload);
	assert_non_null(w);
	assert_int_equal(w->protocol, RPC_PROTOCOL);
	vecfs__welcome__free_unpacked(w, NULL);
	rpc_conn_release(&c);
}

/* What a newer client may ask is refused by name; the connection is still good. */
static void sock_unknown_request_is_refused_alone(void **state)
{
	Vecfs__ListRequest m = VECFS__LIST_REQUEST__INIT;
	struct rpc_conn c;
	struct rpc_frame f;

	greeted(*state, &c);
	assert_int_equal(rpc_frame_append_raw(&c.out, 99, 5, "abc", 3), 0);
	assert_int_equal(rpc_conn_queue(&c, RPC_LIST, 6, &m.base), 0);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_error(&c, 5, "EOPNOTSUPP");
	hear(&c, &f);
	assert_int_equal(f.type, RPC_LIST | RPC_ANSWER);
	assert_int_equal(f.id, 6);
	rpc_conn_release(&c);
}

/* Noise after a sound start ends the connection with a reason. */
static void sock_noise_ends_the_connection(void **state)
{
	struct rpc_conn c;

	greeted(*state, &c);
	assert_int_equal(buf_append(&c.out, "this is no frame at all.", 24), 0);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_error(&c, 0, "EBADMSG");
	hear_end(&c);
	rpc_conn_release(&c);
}

/* Requests whose numbers contradict each other are refused, one by one. */
static void sock_contradictions_are_refused(void **state)
{
	Vecfs__PutRequest put = VECFS__PUT_REQUEST__INIT;
	Vecfs__QueryRequest q = VECFS__QUERY_REQUEST__INIT;
	Vecfs__Rows rows = VECFS__ROWS__INIT;
	uint8_t bytes[64] = {0};
	uint32_t sizes[2] = {1, 70};
	struct rpc_conn c;

	make(*state, "docs");
	greeted(*state, &c);
	rows.n = 2;
	rows.dim = 4;
	rows.vectors = (ProtobufCBinaryData){32, bytes};
	rows.ids = (ProtobufCBinaryData){2, bytes};
	rows.id_sizes = sizes;
	rows.n_id_sizes = 2;
	put.collection = (char *)(uintptr_t) "docs";
	put.rows = &rows;
	assert_int_equal(rpc_conn_queue(&c, RPC_PUT, 2, &put.base), 0);
	q.collection = put.collection;
	q.n = 3;
	q.dim = 4;
	q.vectors = (ProtobufCBinaryData){32, bytes};
	assert_int_equal(rpc_conn_queue(&c, RPC_QUERY, 3, &q.base), 0);
	q.n = 0;
	assert_int_equal(rpc_conn_queue(&c, RPC_QUERY, 4, &q.base), 0);
	q.n = 2;
	q.k = VX_K_MAX + 1;
	assert_int_equal(rpc_conn_queue(&c, RPC_QUERY, 5, &q.base), 0);
	q.k = 10;
	q.n = 5000000;
	assert_int_equal(rpc_conn_queue(&c, RPC_QUERY, 6, &q.base), 0);
	q.collection = (char *)(uintptr_t) "none";
	q.n = 2;
	assert_int_equal(rpc_conn_queue(&c, RPC_QUERY, 7, &q.base), 0);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_error(&c, 2, "EPROTO");
	hear_error(&c, 3, "EPROTO");
	hear_error(&c, 4, "EINVAL");
	hear_error(&c, 5, "EINVAL");
	hear_error(&c, 6, "EMSGSIZE");
	hear_error(&c, 7, "ENOENT");
	rpc_conn_release(&c);
}

/* Damaged payloads in sound frames: each gets exactly one answer, and the daemon lives. */
static void sock_survives_damaged_payloads(void **state)
{
	static const uint8_t types[] = {RPC_PUT, RPC_DELETE, RPC_GET, RPC_QUERY, RPC_CREATE,
		RPC_LIST, RPC_STAT, RPC_CONFIG, RPC_INDEX};
	Vecfs__PutRequest put = VECFS__PUT_REQUEST__INIT;
	struct rpc_rows r = {0};
	uint64_t seed = rt_seed();
	float vec[4] = {1, 2, 3, 4};
	struct vx_record rec = {.id = "a",
		.id_len = 1,
		.vec = vec,
		.dim = 4,
		.meta = "{}",
		.meta_len = 2,
		.text = "t",
		.text_len = 1};
	uint8_t good[512], bad[512];
	Vecfs__Rows rows;
	struct rpc_conn c;
	struct rpc_frame f;

	make(*state, "docs");
	for (int i = 0; i < 3; i++)
		assert_int_equal(rpc_rows_add(&r, &rec), 0);
	rpc_rows_message(&r, &rows);
	put.collection = (char *)(uintptr_t) "docs";
	put.rows = &rows;
	size_t n = protobuf_c_message_pack(&put.base, good);
	greeted(*state, &c);
	for (uint32_t i = 0; i < 3000; i++) {
		uint8_t type = types[rt_random(&seed) % VX_ARRAY_SIZE(types)];
		size_t len = rt_random(&seed) % 4 ? n : rt_random(&seed) % n;

		memcpy(bad, good, n);
		for (uint64_t k = rt_random(&seed) % 4; k > 0 && len; k--)
			bad[rt_random(&seed) % len] = (uint8_t)rt_random(&seed);
		assert_int_equal(rpc_frame_append_raw(&c.out, type, i + 2, bad, len), 0);
		assert_int_equal(rpc_conn_flush(&c), 0);
		hear(&c, &f);
		assert_int_equal(f.id, i + 2);
		assert_true(f.type == RPC_ERROR || f.type == (type | RPC_ANSWER));
	}
	rpc_conn_release(&c);
	rpc_rows_release(&r);
}

/* --- puts ------------------------------------------------------------------------------- */
static void queue_part(
	struct rpc_conn *c, uint32_t id, const char *rec_id, float x, uint64_t txn, bool insert)
{
	Vecfs__PutRequest put = VECFS__PUT_REQUEST__INIT;
	struct rpc_rows r = {0};
	float vec[2] = {x, 1};
	struct vx_record rec = {.id = rec_id, .id_len = strlen(rec_id), .vec = vec, .dim = 2};
	Vecfs__Rows rows;

	assert_int_equal(rpc_rows_add(&r, &rec), 0);
	rpc_rows_message(&r, &rows);
	put.collection = (char *)(uintptr_t) "docs";
	put.rows = &rows;
	put.txn = txn;
	put.insert = insert;
	assert_int_equal(rpc_conn_queue(c, RPC_PUT, id, &put.base), 0);
	rpc_rows_release(&r);
}

static void queue_put(struct rpc_conn *c, uint32_t id, const char *rec_id, float x)
{
	queue_part(c, id, rec_id, x, 0, false);
}

/* Far more puts than may be under way, sent without reading: each is answered once, and of writes
 * to one id the last holds. */
static void sock_pipelined_puts_keep_their_order(void **state)
{
	struct fixture *x = *state;
	struct vx_err err = VX_ERR_INIT;
	bool seen[302] = {false};
	struct coll_rec rec = {0};
	struct rpc_conn c;
	struct rpc_frame f;
	int rc;

	make(x, "docs");
	greeted(x, &c);
	for (uint32_t i = 0; i < 300; i++)
		queue_put(&c, i + 2, "same", (float)i);
	assert_int_equal(rpc_conn_flush(&c), 0);
	for (uint32_t i = 0; i < 300; i++) {
		hear(&c, &f);
		assert_int_equal(f.type, RPC_PUT | RPC_ANSWER);
		assert_in_range(f.id, 2, 301);
		assert_false(seen[f.id]);
		seen[f.id] = true;
	}
	struct coll *coll = db_coll(x->db, "docs", &rc, &err);
	assert_non_null(coll);
	assert_int_equal(coll_get(coll, "same", 4, COLL_VEC, &rec, &err), 0);
	assert_true(rec.rec.vec[0] == 299);
	assert_int_equal(coll_count(coll), 1);
	coll_rec_release(&rec);
	coll_put(coll);
	rpc_conn_release(&c);
}

/* A client that goes away with puts under way harms nobody. */
static void sock_client_may_leave_with_puts_under_way(void **state)
{
	struct rpc_conn c;
	struct rpc_frame f;

	make(*state, "docs");
	for (int round = 0; round < 20; round++) {
		greeted(*state, &c);
		for (uint32_t i = 0; i < 40; i++)
			queue_put(&c, i + 2, "same", (float)i);
		assert_int_equal(rpc_conn_flush(&c), 0);
		rpc_conn_release(&c);
	}
	greeted(*state, &c);
	queue_put(&c, 2, "same", 1);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear(&c, &f);
	assert_int_equal(f.type, RPC_PUT | RPC_ANSWER);
	rpc_conn_release(&c);
}

/* --- transactions ---------------------------------------------------------------------------- */
static void queue_txn(
	struct rpc_conn *c, uint32_t id, Vecfs__TxnRequest__Op op, uint64_t txn, uint64_t rows)
{
	Vecfs__TxnRequest m = VECFS__TXN_REQUEST__INIT;

	m.op = op;
	m.collection = (char *)(uintptr_t) "docs";
	m.txn = txn;
	m.rows = rows;
	assert_int_equal(rpc_conn_queue(c, RPC_TXN, id, &m.base), 0);
}

#define OP(x) VECFS__TXN_REQUEST__OP__##x

/* The answer to a request about a transaction, which must come next. */
static uint64_t hear_txn(struct rpc_conn *c, uint32_t id, bool committed, uint32_t inserted)
{
	struct rpc_frame f;

	hear(c, &f);
	assert_int_equal(f.type, RPC_TXN | RPC_ANSWER);
	assert_int_equal(f.id, id);
	Vecfs__TxnAnswer *a = vecfs__txn_answer__unpack(NULL, f.len, f.payload);
	assert_non_null(a);
	uint64_t txn = a->txn;
	assert_int_equal(a->committed, committed);
	if (a->written)
		assert_int_equal(a->written->inserted, inserted);
	vecfs__txn_answer__free_unpacked(a, NULL);
	return txn;
}

static uint64_t begin_txn(struct rpc_conn *c)
{
	queue_txn(c, 2, OP(BEGIN), 0, 0);
	assert_int_equal(rpc_conn_flush(c), 0);
	uint64_t txn = hear_txn(c, 2, false, 0);
	assert_true(txn != 0);
	return txn;
}

static void queue_parts(struct rpc_conn *c, uint64_t txn, uint32_t n)
{
	char rec_id[32];

	for (uint32_t i = 0; i < n; i++) {
		snprintf(rec_id, sizeof rec_id, "r%u", i);
		queue_part(c, 100 + i, rec_id, (float)i, txn, false);
	}
}

static void hear_puts(struct rpc_conn *c, uint32_t n)
{
	struct rpc_frame f;

	for (uint32_t i = 0; i < n; i++) {
		hear(c, &f);
		assert_int_equal(f.type, RPC_PUT | RPC_ANSWER);
	}
}

static uint64_t records(const struct fixture *x)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = 0;
	struct coll *coll = db_coll(x->db, "docs", &rc, &err);

	assert_non_null(coll);
	uint64_t n = coll_count(coll);
	coll_put(coll);
	return n;
}

/* A collection over all shards, so that a transaction has others to tell. */
static void make_spread(const struct fixture *x)
{
	struct coll_schema s = {.metric = VX_L2, .spread = db_shards(x->db)};
	struct vx_err err = VX_ERR_INIT;

	if (db_create(x->db, "docs", &s, &err))
		fail_msg("db_create: %s", err.msg);
}

/* Nothing before the commit, which may be sent behind the puts without waiting for them, and all after it. */
static void sock_transaction_is_nothing_or_all(void **state)
{
	struct fixture *x = *state;
	struct rpc_conn c;

	make_spread(x);
	greeted(x, &c);
	uint64_t txn = begin_txn(&c);
	queue_parts(&c, txn, 60);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_puts(&c, 60);
	assert_int_equal(records(x), 0);
	queue_txn(&c, 3, OP(DROP), txn, 0);
	assert_int_equal(rpc_conn_flush(&c), 0);
	(void)hear_txn(&c, 3, false, 0);
	txn = begin_txn(&c);
	queue_parts(&c, txn, 60);
	queue_txn(&c, 3, OP(COMMIT), txn, 60);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_puts(&c, 60);
	(void)hear_txn(&c, 3, true, 60);
	assert_int_equal(records(x), 60);
	/* One that holds nothing is committed, too; and plain puts work beside one. */
	txn = begin_txn(&c);
	queue_put(&c, 4, "plain", 1);
	queue_txn(&c, 3, OP(COMMIT), txn, 0);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_puts(&c, 1);
	(void)hear_txn(&c, 3, true, 0);
	assert_int_equal(records(x), 61);
	rpc_conn_release(&c);
}

/* What does not fit is refused with its reason, and a transaction that lost a part is not committed. */
static void sock_transaction_refusals(void **state)
{
	struct fixture *x = *state;
	struct vx_err err = VX_ERR_INIT;
	struct rpc_conn c;
	int rc = 0;

	make_spread(x);
	greeted(x, &c);
	queue_part(&c, 3, "a", 1, 12345, false); /* none is open */
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_error(&c, 3, "EINVAL");
	uint64_t txn = begin_txn(&c);
	queue_txn(&c, 3, OP(BEGIN), 0, 0);
	queue_part(&c, 4, "a", 1, txn ^ 2, false);
	queue_txn(&c, 5, OP(COMMIT), txn ^ 2, 1);
	queue_txn(&c, 6, OP(ASK), UINT64_C(200) << 56 | 1, 0);
	queue_txn(&c, 7, 77, txn, 0);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_error(&c, 3, "EBUSY");
	hear_error(&c, 4, "EINVAL");
	hear_error(&c, 5, "EINVAL");
	hear_error(&c, 6, "EINVAL");
	hear_error(&c, 7, "EOPNOTSUPP");
	queue_txn(&c, 8, OP(DROP), txn, 0);
	assert_int_equal(rpc_conn_flush(&c), 0);
	(void)hear_txn(&c, 8, false, 0);

	/* An insert; and with it the transaction is lost. */
	txn = begin_txn(&c);
	queue_parts(&c, txn, 3);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_puts(&c, 3);
	queue_part(&c, 4, "a", 1, txn, true);
	queue_txn(&c, 5, OP(COMMIT), txn, 3);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_error(&c, 4, "EINVAL");
	hear_error(&c, 5, "EINVAL");

	/* Another count than the client's. */
	txn = begin_txn(&c);
	queue_parts(&c, txn, 3);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_puts(&c, 3);
	queue_txn(&c, 5, OP(COMMIT), txn, 4);
	assert_int_equal(rpc_conn_flush(&c), 0);
	hear_error(&c, 5, "EPROTO");

	/* The limit. */
	struct coll *coll = db_coll(x->db, "docs", &rc, &err);
	assert_non_null(coll);
	assert_int_equal(coll_config_set(coll, "inbox.max", "1K", &err), 0);
	coll_put(coll);
	txn = begin_txn(&c);
	for (uint32_t i = 0; i < 8; i++) {
		char rec_id[200];

		snprintf(rec_id, sizeof rec_id, "%0150u", i);
		queue_part(&c, 10 + i, rec_id, 1, txn, false);
	}
	queue_txn(&c, 5, OP(COMMIT), txn, 8);
	assert_int_equal(rpc_conn_flush(&c), 0);
	unsigned refused = 0;
	for (uint32_t i = 0; i < 9; i++) {
		struct rpc_frame f;

		hear(&c, &f);
		refused += f.type == RPC_ERROR;
	}
	assert_in_range(refused, 3, 6); /* the limit, what came after it, and the commit */
	assert_int_equal(records(x), 0);
	rpc_conn_release(&c);
}

/* A client that goes away leaves nothing, and asked for later its transaction was not committed. */
static void sock_transaction_ends_with_its_connection(void **state)
{
	struct fixture *x = *state;
	struct rpc_conn c, other;

	make_spread(x);
	greeted(x, &other);
	for (int round = 0; round < 20; round++) {
		greeted(x, &c);
		uint64_t txn = begin_txn(&c);
		queue_parts(&c, txn, 40);
		assert_int_equal(rpc_conn_flush(&c), 0);
		rpc_conn_release(&c);
		queue_txn(&other, 3, OP(ASK), txn, 0);
		assert_int_equal(rpc_conn_flush(&other), 0);
		(void)hear_txn(&other, 3, false, 0);
		assert_int_equal(records(x), 0);
	}
	rpc_conn_release(&other);
}

/* Whoever lost the answer to a commit asks on another connection, and what it hears stays so. */
static void sock_lost_commit_is_asked_for(void **state)
{
	struct fixture *x = *state;
	struct rpc_conn c, other;
	unsigned committed = 0;

	make_spread(x);
	greeted(x, &other);
	for (unsigned round = 0; round < 60; round++) {
		struct rpc_frame f;

		greeted(x, &c);
		uint64_t txn = begin_txn(&c);
		char rec_id[32];
		for (uint32_t i = 0; i < 20; i++) {
			snprintf(rec_id, sizeof rec_id, "%u-%u", round, i);
			queue_part(&c, 100 + i, rec_id, (float)i, txn, false);
		}
		assert_int_equal(rpc_conn_flush(&c), 0);
		hear_puts(&c, 20);
		queue_txn(&c, 3, OP(COMMIT), txn, 20);
		assert_int_equal(rpc_conn_flush(&c), 0);
		(void)shutdown(c.fd, SHUT_RD);
		if (round % 3)
			usleep(round * 40);
		queue_txn(&other, 4, OP(ASK), txn, 0);
		assert_int_equal(rpc_conn_flush(&other), 0);
		hear(&other, &f);
		assert_int_equal(f.type, RPC_TXN | RPC_ANSWER);
		Vecfs__TxnAnswer *a = vecfs__txn_answer__unpack(NULL, f.len, f.payload);
		assert_non_null(a);
		committed += a->committed;
		vecfs__txn_answer__free_unpacked(a, NULL);
		assert_int_equal(records(x), 20 * committed);
		rpc_conn_release(&c);
	}
	print_message("%u of 60 commits were decided before they were asked for\n", committed);
	sock_stop(x->sock); /* every session has ended */
	struct vx_err err = VX_ERR_INIT;
	assert_int_equal(sock_start(x->db, x->path, &x->sock, &err), 0);
	assert_int_equal(records(x), 20 * committed);
	rpc_conn_release(&other);
}

/* --- clients at once -------------------------------------------------------------------------- */
#define CLIENTS 8

struct worker {
	pthread_t thread;
	struct client_place place;
	int number;
	const char *complaint;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct client_put_opts o = {.batch_rows = 5};
	struct vx_err err = VX_ERR_INIT;
	struct client_put *put;
	struct client *c;

	if (client_open(&w->place, "test", &c, &err) || client_put_begin(c, "docs", &o, &put, &err))
		return NULL;
	for (int i = 0; i < 100; i++) {
		float vec[2] = {(float)w->number, (float)i};
		char id[32];
		struct vx_record rec = {.id = id, .vec = vec, .dim = 2};

		rec.id_len = (size_t)snprintf(id, sizeof id, "%d-%d", w->number, i);
		if (client_put_add(put, &rec, &err))
			w->complaint = "add failed";
		if (i % 20 != 19)
			continue;
		/* What is flushed is found at once, among the others' writes. */
		Vecfs__QueryRequest q = VECFS__QUERY_REQUEST__INIT;
		struct client_answers a;
		struct vx_record hit;

		if (client_put_flush(put, &err))
			w->complaint = "flush failed";
		q.collection = (char *)(uintptr_t) "docs";
		q.n = 1;
		q.dim = 2;
		q.k = 1;
		q.exact = true;
		q.vectors = (ProtobufCBinaryData){sizeof vec, (uint8_t *)vec};
		if (client_query(c, &q, &a, &err) || !rpc_rows_next(&a.hits, &hit) ||
			hit.id_len != rec.id_len || memcmp(hit.id, id, hit.id_len) != 0)
			w->complaint = "an acknowledged record is not found";
	}
	client_put_end(put);
	client_close(c);
	return w;
}

static void sock_clients_at_once_see_their_own_writes(void **state)
{
	struct fixture *x = *state;
	struct worker w[CLIENTS];
	void *done;

	make(x, "docs");
	for (int i = 0; i < CLIENTS; i++) {
		w[i] = (struct worker){
			.place = {.socket = x->path, .how = "the test"}, .number = i};
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < CLIENTS; i++) {
		assert_int_equal(pthread_join(w[i].thread, &done), 0);
		assert_ptr_equal(done, &w[i]);
		if (w[i].complaint)
			fail_msg("client %d: %s", i, w[i].complaint);
	}
}

/* --- the listener ------------------------------------------------------------------------- */
static void sock_live_path_is_not_taken(void **state)
{
	struct fixture *x = *state;
	struct vx_err err = VX_ERR_INIT;
	struct sock *second = NULL;
	struct rpc_conn c;

	assert_int_equal(sock_start(x->db, x->path, &second, &err), -EADDRINUSE);
	assert_null(second);
	greeted(x, &c);
	rpc_conn_release(&c);
}

/* A stop does not wait for clients that say nothing. */
static void sock_stop_ends_idle_connections(void **state)
{
	struct fixture *x = *state;
	struct vx_err err = VX_ERR_INIT;
	struct rpc_conn idle, fresh;

	greeted(x, &idle);
	dial(x, &fresh);
	uint64_t before = clock_mono_ns();
	sock_stop(x->sock);
	assert_true(clock_mono_ns() - before < 3000000000ull);
	hear_end(&idle);
	hear_end(&fresh);
	rpc_conn_release(&idle);
	rpc_conn_release(&fresh);
	assert_int_equal(sock_start(x->db, x->path, &x->sock, &err), 0);
}

/* Every refusal leaves a line with its reason; asking what there is does not. */
static void sock_refusals_are_logged(void **state)
{
	struct fixture *x = *state;
	struct client_place place = {.socket = x->path, .how = "the test"};
	const Vecfs__CollectionInfo *ci;
	Vecfs__StatRequest m = VECFS__STAT_REQUEST__INIT;
	const Vecfs__StatAnswer *a;
	struct vx_err err = VX_ERR_INIT;
	struct buf log = BUF_INIT;
	struct client *c;

	errlog_clear();
	assert_int_equal(client_open(&place, "test", &c, &err), 0);
	assert_int_equal(client_describe(c, "none", &ci, &err), -ENOENT);
	assert_int_equal(errlog_render(&log), 0);
	assert_int_equal(log.len, 0);
	m.collection = (char *)(uintptr_t) "none";
	assert_int_equal(
		client_call(c, RPC_STAT, &m.base, &vecfs__stat_answer__descriptor, &a, &err),
		-ENOENT);
	assert_int_equal(errlog_render(&log), 0);
	assert_int_equal(buf_cstr(&log), 0);
	assert_non_null(strstr((char *)log.data, "ENOENT stat none"));
	buf_release(&log);
	client_close(c);
}

#define WITH_SERVER(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVER(sock_wants_a_hello_first),
		WITH_SERVER(sock_refuses_a_protocol_it_does_not_speak),
		WITH_SERVER(sock_unknown_request_is_refused_alone),
		WITH_SERVER(sock_noise_ends_the_connection),
		WITH_SERVER(sock_contradictions_are_refused),
		WITH_SERVER(sock_survives_damaged_payloads),
		WITH_SERVER(sock_pipelined_puts_keep_their_order),
		WITH_SERVER(sock_client_may_leave_with_puts_under_way),
		WITH_SERVER(sock_transaction_is_nothing_or_all),
		WITH_SERVER(sock_transaction_refusals),
		WITH_SERVER(sock_transaction_ends_with_its_connection),
		WITH_SERVER(sock_lost_commit_is_asked_for),
		WITH_SERVER(sock_clients_at_once_see_their_own_writes),
		WITH_SERVER(sock_live_path_is_not_taken),
		WITH_SERVER(sock_stop_ends_idle_connections),
		WITH_SERVER(sock_refusals_are_logged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
