/* read.c - records and answers. */
#include "client/client_i.h"

/* Takes the frames of a Get or Scan until the last. */
static int rows_answers(struct client *c, uint8_t type, uint32_t id, client_record_fn *on_record,
	client_missing_fn *on_missing, void *ctx, struct vx_err *err)
{
	for (;;) {
		const Vecfs__RowsAnswer *a;
		struct rpc_rows_view v;
		struct vx_record rec;
		struct rpc_frame f = {0};
		int rc = client_receive_for(c, id, type, &f, err);

		if (rc == 0)
			rc = rpc_unpack(c->arena, &vecfs__rows_answer__descriptor, &f, &a, err);
		if (rc == 0)
			rc = rpc_rows_open(&v, a->rows, err);
		if (rc)
			return rc;
		if (a->n_versions != v.n || a->n_mtimes_ns != v.n)
			return vx_err_set(err, -EPROTO, "records without versions");
		for (uint32_t i = 0; rpc_rows_next(&v, &rec); i++) {
			rc = on_record(ctx, &rec, a->versions[i], a->mtimes_ns[i]);
			if (rc)
				return rc;
		}
		for (size_t i = 0; i < a->n_missing && on_missing; i++) {
			rc = on_missing(ctx, a->missing[i]);
			if (rc)
				return rc;
		}
		if (a->last)
			return 0;
	}
}

int client_get(struct client *c, const char *coll, const struct rpc_strings *ids, unsigned what,
	client_record_fn *on_record, client_missing_fn *on_missing, void *ctx, struct vx_err *err)
{
	Vecfs__GetRequest m = VECFS__GET_REQUEST__INIT;
	uint32_t id;

	m.collection = (char *)(uintptr_t)coll;
	m.ids.data = ids->bytes.data;
	m.ids.len = ids->bytes.len;
	m.id_sizes = (uint32_t *)(void *)ids->sizes.data;
	m.n_id_sizes = ids->n;
	m.what = what;
	int rc = client_queue(c, RPC_GET, &m.base, &id, err);
	if (rc == 0)
		rc = client_flush(c, err);
	if (rc == 0)
		rc = rows_answers(c, RPC_GET, id, on_record, on_missing, ctx, err);
	return rc;
}

int client_scan(struct client *c, const char *coll, unsigned what, client_record_fn *on_record,
	void *ctx, struct vx_err *err)
{
	Vecfs__ScanRequest m = VECFS__SCAN_REQUEST__INIT;
	uint32_t id;

	m.collection = (char *)(uintptr_t)coll;
	m.what = what;
	int rc = client_queue(c, RPC_SCAN, &m.base, &id, err);
	if (rc == 0)
		rc = client_flush(c, err);
	if (rc == 0)
		rc = rows_answers(c, RPC_SCAN, id, on_record, NULL, ctx, err);
	return rc;
}

int client_query(struct client *c, const Vecfs__QueryRequest *q, struct client_answers *ret,
	struct vx_err *err)
{
	const Vecfs__QueryAnswer *a;
	uint64_t sum = 0;
	int rc = client_call(c, RPC_QUERY, &q->base, &vecfs__query_answer__descriptor, &a, err);

	if (rc == 0)
		rc = rpc_rows_open(&ret->hits, a->hits, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < a->n_counts; i++)
		sum += a->counts[i];
	if (a->n_counts != q->n || sum != ret->hits.n ||
		a->distances.len != (uint64_t)ret->hits.n * sizeof(float))
		return vx_err_set(err, -EPROTO, "the columns of an answer do not fit together");
	for (size_t i = 0; i < a->n_errors; i++)
		if (a->errors[i]->row >= q->n)
			return vx_err_set(err, -EPROTO, "an error for a question not asked");
	ret->message = a;
	ret->n = a->n_counts;
	ret->counts = a->counts;
	ret->distances = (const float *)(const void *)a->distances.data;
	return 0;
}

const Vecfs__RowError *client_answer_error(const struct client_answers *a, size_t q)
{
	for (size_t i = 0; i < a->message->n_errors; i++)
		if (a->message->errors[i]->row == q)
			return a->message->errors[i];
	return NULL;
}

uint32_t client_answer_damaged(const struct client_answers *a, size_t q)
{
	for (size_t i = 0; i < a->message->n_damaged; i++)
		if (a->message->damaged[i]->question == q)
			return a->message->damaged[i]->records;
	return 0;
}

bool client_answer_timed_out(const struct client_answers *a, size_t q)
{
	for (size_t i = 0; i < a->message->n_timed_out; i++)
		if (a->message->timed_out[i] == q)
			return true;
	return false;
}
