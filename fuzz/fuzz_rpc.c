/* Fuzzes what a peer's bytes reach: the frame parser with the input as it is, and every message
 * with the input as a payload whose frame is right.  Rows and strings that open are walked to
 * their end, every byte of them touched; what unpacks must pack again. */
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

static void touch(const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		sink ^= b[i];
}

static void walk_rows(const Vecfs__Rows *m)
{
	struct rpc_rows_view v;
	struct rpc_rows again = {0};
	struct vx_record rec;
	uint32_t n = 0;

	if (rpc_rows_open(&v, m, NULL))
		return;
	while (rpc_rows_next(&v, &rec)) {
		touch(rec.id, rec.id_len);
		touch(rec.meta, rec.meta_len);
		touch(rec.text, rec.text_len);
		touch(rec.vec, rec.vec ? rec.dim * sizeof(float) : 0);
		if (rpc_rows_add(&again, &rec))
			abort();
		n++;
	}
	if (m && n != m->n)
		abort();
	rpc_rows_release(&again);
}

static void walk_strings(ProtobufCBinaryData bytes, const uint32_t *sizes, size_t n)
{
	struct rpc_strings_view v;
	const char *s;
	size_t len;

	if (rpc_strings_open(&v, bytes, sizes, n, "strings", NULL))
		return;
	while (rpc_strings_next(&v, &s, &len))
		touch(s, len);
}

static const ProtobufCMessageDescriptor *const messages[] = {
	&vecfs__hello__descriptor,
	&vecfs__welcome__descriptor,
	&vecfs__error__descriptor,
	&vecfs__put_request__descriptor,
	&vecfs__delete_request__descriptor,
	&vecfs__write_answer__descriptor,
	&vecfs__get_request__descriptor,
	&vecfs__rows_answer__descriptor,
	&vecfs__query_request__descriptor,
	&vecfs__query_answer__descriptor,
	&vecfs__create_request__descriptor,
	&vecfs__list_answer__descriptor,
	&vecfs__config_request__descriptor,
	&vecfs__index_request__descriptor,
	&vecfs__recall_answer__descriptor,
};

static void walk_message(const ProtobufCMessage *m)
{
	struct buf again = BUF_INIT;

	if (m->descriptor == &vecfs__put_request__descriptor) {
		walk_rows(((const Vecfs__PutRequest *)m)->rows);
	} else if (m->descriptor == &vecfs__rows_answer__descriptor) {
		walk_rows(((const Vecfs__RowsAnswer *)m)->rows);
	} else if (m->descriptor == &vecfs__query_answer__descriptor) {
		walk_rows(((const Vecfs__QueryAnswer *)m)->hits);
	} else if (m->descriptor == &vecfs__get_request__descriptor) {
		const Vecfs__GetRequest *g = (const Vecfs__GetRequest *)m;

		walk_strings(g->ids, g->id_sizes, g->n_id_sizes);
	}
	/* Unpacked is packable; only its size may be over the limit of a frame. */
	if (rpc_frame_append(&again, 1, 1, m) == 0) {
		struct rpc_frame f;
		size_t total;

		if (rpc_frame_parse(again.data, again.len, &f, &total, NULL) != 1 ||
			total != again.len)
			abort();
	}
	buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rpc_arena *arena;
	struct rpc_frame f;
	ProtobufCMessage *m;
	size_t total;

	if (!arena)
		arena = rpc_arena_new();
	if (!arena || size == 0)
		return 0;
	int rc = rpc_frame_parse(data, size, &f, &total, NULL);
	if (rc == 1)
		touch(f.payload, f.len);
	if (rc == 0 && total <= size)
		abort();
	/* The first byte chooses the message, the rest is its payload. */
	f = (struct rpc_frame){.type = RPC_PUT, .payload = data + 1, .len = size - 1};
	if (rpc_unpack(arena, messages[data[0] % VX_ARRAY_SIZE(messages)], &f, &m, NULL) == 0)
		walk_message(m);
	rpc_arena_reset(arena);
	return 0;
}
