/* arena.c - memory for one message at a time.
 *
 * protobuf-c allocates for every string, array and submessage.  Here these are bumps of a pointer:
 * a message is unpacked, used, and the whole arena is reset.  The first chunk stays, so that a
 * connection in its stride does not allocate at all.
 */
#include "rpc/rpc.h"

#include <stdlib.h>

#define CHUNK_BYTES (64u << 10)
#define KEEP_BYTES  (8u << 20) /* a larger chunk is not kept over a reset */
#define ALIGN       16u

struct chunk {
	struct chunk *next; /* older */
	size_t size, used;
	_Alignas(ALIGN) uint8_t data[];
};

struct rpc_arena {
	struct chunk *top;
	size_t total; /* bytes in all chunks */
	ProtobufCAllocator pb;
};

static void *pb_alloc(void *ctx, size_t n)
{
	return rpc_arena_alloc(ctx, n);
}

static void pb_free(void *ctx, void *p)
{
	(void)ctx;
	(void)p;
}

struct rpc_arena *rpc_arena_new(void)
{
	struct rpc_arena *a = calloc(1, sizeof *a);

	if (a)
		a->pb = (ProtobufCAllocator){pb_alloc, pb_free, a};
	return a;
}

void rpc_arena_free(struct rpc_arena *a)
{
	if (!a)
		return;
	for (struct chunk *c = a->top, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	free(a);
}

void rpc_arena_reset(struct rpc_arena *a)
{
	struct chunk *keep = NULL;

	for (struct chunk *c = a->top, *next; c; c = next) {
		next = c->next;
		if (c->size <= KEEP_BYTES && (!keep || c->size > keep->size)) {
			free(keep);
			keep = c;
		} else {
			free(c);
		}
	}
	if (keep) {
		keep->next = NULL;
		keep->used = 0;
	}
	a->top = keep;
	a->total = keep ? keep->size : 0;
}

void *rpc_arena_alloc(struct rpc_arena *a, size_t n)
{
	struct chunk *c = a->top;

	if (n > RPC_ARENA_MAX)
		return NULL;
	n = VX_ALIGN_UP(VX_MAX(n, 1u), ALIGN);
	if (!c || c->size - c->used < n) {
		size_t size = VX_MAX(n, c ? VX_MIN(c->size * 2, KEEP_BYTES) : CHUNK_BYTES);

		if (a->total + size > RPC_ARENA_MAX)
			return NULL;
		c = aligned_alloc(ALIGN, VX_ALIGN_UP(sizeof *c + size, ALIGN));
		if (!c)
			return NULL;
		c->size = size;
		c->used = 0;
		c->next = a->top;
		a->top = c;
		a->total += size;
	}
	void *p = c->data + c->used;
	c->used += n;
	return p;
}

int rpc_unpack(struct rpc_arena *a, const ProtobufCMessageDescriptor *d, const struct rpc_frame *f,
	void *ret_message, struct vx_err *err)
{
	ProtobufCMessage *m = protobuf_c_message_unpack(d, &a->pb, f->len, f->payload);

	if (!m)
		return vx_err_set(err, -EPROTO, "the payload of a '%s' frame is not a valid %s",
			rpc_type_name(f->type), d->short_name);
	*(ProtobufCMessage **)ret_message = m;
	return 0;
}
