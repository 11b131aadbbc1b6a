/* The stream of puts against servers that behave in every way a daemon may. */
#include "rpctest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <unistd.h>

#include "client/client.h"

#define ROWS  2000u
#define BATCH 10u

struct server {
	unsigned window;    /* batches held back before the first is answered */
	unsigned most_held; /* seen */
	bool last_first;    /* answer the youngest first */
	unsigned fail_at;   /* this batch is refused as a whole; 0: none */
	unsigned drop_at;   /* the connection ends at this batch; 0: none */
	unsigned batches;
	uint64_t rows;
};

static void answer(struct rpc_conn *c, uint32_t id, uint32_t rows)
{
	Vecfs__WriteAnswer a = VECFS__WRITE_ANSWER__INIT;

	a.inserted = rows;
	a.index = id;
	if (rpc_conn_queue(c, RPC_PUT | RPC_ANSWER, id, &a.base) || rpc_conn_flush(c))
		abort();
}

/* Whether the client has anything more to say within 50 ms. */
static bool more_comes(struct rpc_conn *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};

	return c->in.len > c->in_start || poll(&p, 1, 50) == 1;
}

static void serve(struct rpc_conn *c, void *ctx)
{
	struct rpc_arena *a = rpc_arena_new();
	struct server *s = ctx;
	struct {
		uint32_t id, rows;
	} held[64];
	unsigned n = 0;
	struct rpc_frame f;

	rt_welcome(c);
	for (;;) {
		if (n == 0 || (n < 64 && more_comes(c))) {
			const Vecfs__PutRequest *m;

			if (rpc_conn_recv(c, &f, NULL) != 1)
				break;
			if (rpc_unpack(a, &vecfs__put_request__descriptor, &f, &m, NULL))
				abort();
			s->batches++;
			if (s->batches == s->drop_at)
				break;
			if (s->batches == s->fail_at) {
				Vecfs__Error e = VECFS__ERROR__INIT;

				e.code = (char *)(uintptr_t) "ENOSPC";
				e.reason = (char *)(uintptr_t) "the disk is full";
				if (rpc_conn_queue(c, RPC_ERROR, f.id, &e.base) ||
					rpc_conn_flush(c))
					abort();
			} else {
				held[n].id = f.id;
				held[n++].rows = m->rows->n;
				s->rows += m->rows->n;
			}
			rpc_arena_reset(a);
			if (n > s->most_held)
				s->most_held = n;
			continue;
		}
		unsigned which = s->last_first ? n - 1 : 0;
		answer(c, held[which].id, held[which].rows);
		memmove(held + which, held + which + 1, (n - which - 1) * sizeof held[0]);
		n--;
	}
	rpc_arena_free(a);
}

struct fixture {
	char *dir;
	struct rt_server server;
	struct client_place place;
	struct client *client;
	struct client_put *put;
};

static void begin(struct fixture *x, struct server *s, const struct client_put_opts *o)
{
	struct vx_err err = VX_ERR_INIT;

	x->dir = rt_dir();
	rt_server_start(&x->server, x->dir, serve, s);
	x->place = (struct client_place){.socket = x->server.path, .how = "the test"};
	assert_int_equal(client_open(&x->place, "test", &x->client, &err), 0);
	assert_int_equal(client_put_begin(x->client, "docs", o, &x->put, &err), 0);
}

static void end(struct fixture *x)
{
	client_put_end(x->put);
	client_close(x->client);
	rt_server_join(&x->server);
	rt_dir_remove(x->dir);
}

static int add_rows(struct fixture *x, unsigned n, struct vx_err *err)
{
	float vec[4] = {1, 2, 3, 4};
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++) {
		char id[16];
		struct vx_record rec = {.id = id, .vec = vec, .dim = 4, .line = i + 1};

		rec.id_len = (size_t)snprintf(id, sizeof id, "%u", i);
		rc = client_put_add(x->put, &rec, err);
	}
	return rc;
}

/* Exactly 'window' batches are under way while the server answers nothing; all are counted. */
static void put_fills_its_window_and_no_more(void **state)
{
	(void)state;
	for (unsigned window = 1; window <= 5; window += 2) {
		struct client_put_opts o = {.window = window, .batch_rows = BATCH};
		struct vx_err err = VX_ERR_INIT;
		struct server s = {0};
		struct fixture x;

		begin(&x, &s, &o);
		assert_int_equal(add_rows(&x, 100, &err), 0);
		assert_int_equal(client_put_flush(x.put, &err), 0);
		assert_int_equal(client_put_sum(x.put)->inserted, 100);
		assert_int_equal(client_put_sum(x.put)->rows, 100);
		end(&x);
		assert_int_equal(s.most_held, window);
	}
}

/* Answers in any order are taken for what they are. */
static void put_takes_answers_out_of_order(void **state)
{
	struct client_put_opts o = {.window = 4, .batch_rows = BATCH};
	struct server s = {.last_first = true};
	struct vx_err err = VX_ERR_INIT;
	struct fixture x;

	(void)state;
	begin(&x, &s, &o);
	assert_int_equal(add_rows(&x, 95, &err), 0);
	assert_int_equal(client_put_flush(x.put, &err), 0);
	assert_int_equal(client_put_sum(x.put)->inserted, 95);
	end(&x);
	assert_int_equal(s.batches, 10);
}

/* The failure of one batch is the stream's, with its reason; the others are still counted. */
static void put_reports_a_failed_batch(void **state)
{
	struct client_put_opts o = {.window = 4, .batch_rows = BATCH};
	struct server s = {.fail_at = 3};
	struct vx_err err = VX_ERR_INIT;
	struct fixture x;

	(void)state;
	begin(&x, &s, &o);
	int rc = add_rows(&x, ROWS, &err);
	assert_true(rc == 0 || rc == -ENOSPC);
	err = (struct vx_err)VX_ERR_INIT;
	assert_int_equal(client_put_flush(x.put, &err), -ENOSPC);
	assert_string_equal(err.msg, "the disk is full");
	uint64_t counted = client_put_sum(x.put)->inserted;
	end(&x);
	assert_int_equal(counted, s.rows);
}

/* A daemon that goes away is an error of the flush, never silence. */
static void put_reports_a_lost_connection(void **state)
{
	struct client_put_opts o = {.window = 4, .batch_rows = BATCH};
	struct server s = {.drop_at = 5};
	struct vx_err err = VX_ERR_INIT;
	struct fixture x;

	(void)state;
	begin(&x, &s, &o);
	(void)!add_rows(&x, ROWS, &err);
	int rc = client_put_flush(x.put, &err);
	assert_true(rc == -ECONNRESET || rc == -EPIPE);
	end(&x);
}

/* --- refused records ----------------------------------------------------------------- */
struct refusals {
	unsigned n;
	uint64_t lines[64];
	char ids[64][16];
	char sources[64][16];
};

static void on_bad(
	void *ctx, const char *source, const struct vx_record *rec, int rc, const char *reason)
{
	struct refusals *r = ctx;

	assert_int_equal(rc, -EINVAL);
	assert_string_equal(reason, "every seventh");
	assert_int_equal(rec->dim, 4);
	r->lines[r->n] = rec->line;
	snprintf(r->sources[r->n], sizeof r->sources[0], "%s", source);
	snprintf(r->ids[r->n++], sizeof r->ids[0], "%.*s", (int)rec->id_len, rec->id);
}

/* Refuses every record whose line is a multiple of seven, as the request says it. */
static void refuse_sevenths(struct rpc_conn *c, void *ctx)
{
	struct rpc_arena *a = rpc_arena_new();
	struct rpc_frame f;

	(void)ctx;
	rt_welcome(c);
	while (rpc_conn_recv(c, &f, NULL) == 1) {
		Vecfs__WriteAnswer ans = VECFS__WRITE_ANSWER__INIT;
		Vecfs__RowError errors[64], *ptrs[64];
		const Vecfs__PutRequest *m;

		if (rpc_unpack(a, &vecfs__put_request__descriptor, &f, &m, NULL))
			abort();
		for (uint32_t i = 0; i < m->rows->n; i++) {
			if (m->lines[i] % 7)
				continue;
			vecfs__row_error__init(&errors[ans.n_errors]);
			errors[ans.n_errors].row = i;
			errors[ans.n_errors].code = (char *)(uintptr_t) "EINVAL";
			errors[ans.n_errors].reason = (char *)(uintptr_t) "every seventh";
			ptrs[ans.n_errors] = &errors[ans.n_errors];
			ans.n_errors++;
		}
		ans.errors = ptrs;
		ans.inserted = m->rows->n - (uint32_t)ans.n_errors;
		if (rpc_conn_queue(c, RPC_PUT | RPC_ANSWER, f.id, &ans.base) || rpc_conn_flush(c))
			abort();
		rpc_arena_reset(a);
	}
	rpc_arena_free(a);
}

/* A refused record is reported with its own line, id and file, whatever batch it was in. */
static void put_reports_refused_records(void **state)
{
	struct refusals r = {0};
	struct client_put_opts o = {.window = 3, .batch_rows = 9, .on_bad = on_bad, .ctx = &r};
	struct vx_err err = VX_ERR_INIT;
	struct fixture x;

	(void)state;
	x.dir = rt_dir();
	rt_server_start(&x.server, x.dir, refuse_sevenths, NULL);
	x.place = (struct client_place){.socket = x.server.path, .how = "the test"};
	assert_int_equal(client_open(&x.place, "test", &x.client, &err), 0);
	assert_int_equal(client_put_begin(x.client, "docs", &o, &x.put, &err), 0);
	assert_int_equal(client_put_source(x.put, "one.jsonl", &err), 0);
	assert_int_equal(add_rows(&x, 50, &err), 0);
	assert_int_equal(client_put_source(x.put, "two.jsonl", &err), 0);
	assert_int_equal(add_rows(&x, 20, &err), 0);
	assert_int_equal(client_put_flush(x.put, &err), 0);
	assert_int_equal(r.n, 7 + 2);
	for (unsigned i = 0; i < r.n; i++) {
		char id[16];

		assert_int_equal(r.lines[i] % 7, 0);
		snprintf(id, sizeof id, "%u", (unsigned)r.lines[i] - 1);
		assert_string_equal(r.ids[i], id);
		assert_string_equal(r.sources[i], i < 7 ? "one.jsonl" : "two.jsonl");
	}
	assert_int_equal(client_put_sum(x.put)->refused, 9);
	assert_int_equal(client_put_sum(x.put)->inserted, 61);
	end(&x);
}

/* A connection that is turned away says why, also to a client that is still sending. */
static void turn_away(struct rpc_conn *c, void *ctx)
{
	Vecfs__Error e = VECFS__ERROR__INIT;

	(void)ctx;
	e.code = (char *)(uintptr_t) "EAGAIN";
	e.reason = (char *)(uintptr_t) "too many";
	if (rpc_conn_queue(c, RPC_ERROR, 0, &e.base) || rpc_conn_flush(c))
		abort();
}

static void refusal_of_a_connection_is_heard(void **state)
{
	struct client_put_opts o = {.window = 4};
	struct vx_err err = VX_ERR_INIT;
	struct fixture x;

	(void)state;
	x.dir = rt_dir();
	rt_server_start(&x.server, x.dir, turn_away, NULL);
	x.place = (struct client_place){.socket = x.server.path, .how = "the test"};
	assert_int_equal(client_open(&x.place, "test", &x.client, &err), 0);
	assert_int_equal(client_put_begin(x.client, "docs", &o, &x.put, &err), 0);
	(void)!add_rows(&x, 60000, &err);
	err = (struct vx_err)VX_ERR_INIT;
	assert_int_equal(client_put_flush(x.put, &err), -EAGAIN);
	assert_string_equal(err.msg, "too many");
	end(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_fills_its_window_and_no_more),
		cmocka_unit_test(put_takes_answers_out_of_order),
		cmocka_unit_test(put_reports_a_failed_batch),
		cmocka_unit_test(put_reports_a_lost_connection),
		cmocka_unit_test(put_reports_refused_records),
		cmocka_unit_test(refusal_of_a_connection_is_heard),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
