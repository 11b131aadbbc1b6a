/* frame.c - the frame: header, payload, checksum.
 *
 *	 0  2  magic 'V' 'X'
 *	 2  1  frame format, 1
 *	 3  1  type
 *	 4  4  request id
 *	 8  4  payload length n, at most 64 MiB
 *	12  4  low half of XXH3 of bytes 0..11
 *	16  n  payload
 *	16+n 8 XXH3 of the payload, seeded with bytes 0..7
 *
 * A frame is valid if and only if magic, format and both checksums fit and n is within the limit.
 * The header has a checksum of its own so that a damaged length is found before anything is
 * allocated or waited for; the seed ties a payload to its type and request.
 */
#include "rpc/rpc.h"

#include <string.h>

#include "base/hash.h"

#define FRAME_FORMAT 1u

static const char *const type_names[] = {
	[RPC_HELLO] = "hello",
	[RPC_PUT] = "put",
	[RPC_DELETE] = "delete",
	[RPC_GET] = "get",
	[RPC_SCAN] = "scan",
	[RPC_QUERY] = "query",
	[RPC_CREATE] = "create",
	[RPC_DROP] = "drop",
	[RPC_LIST] = "list",
	[RPC_STAT] = "stat",
	[RPC_CONFIG] = "config",
	[RPC_INDEX] = "index",
	[RPC_RECALL] = "recall",
	[RPC_SNAP] = "snapshot",
	[RPC_TXN] = "transaction",
	[RPC_VERIFY] = "verify",
};

const char *rpc_type_name(uint8_t type)
{
	uint8_t base = type & (uint8_t)~RPC_ANSWER;

	if (type == RPC_ERROR)
		return "error";
	return base < VX_ARRAY_SIZE(type_names) && type_names[base] ? type_names[base] : "?";
}

static void header_encode(uint8_t *h, uint8_t type, uint32_t id, uint32_t len)
{
	h[0] = 'V';
	h[1] = 'X';
	h[2] = FRAME_FORMAT;
	h[3] = type;
	put_le32(h + 4, id);
	put_le32(h + 8, len);
	put_le32(h + 12, (uint32_t)hash_xxh3(h, 12, 0));
}

int rpc_frame_parse(
	const uint8_t *p, size_t n, struct rpc_frame *ret, size_t *ret_total, struct vx_err *err)
{
	if (n < RPC_HEADER_BYTES) {
		/* Garbage is told apart from a slow sender as early as possible. */
		if ((n > 0 && p[0] != 'V') || (n > 1 && p[1] != 'X'))
			return vx_err_set(err, -EBADMSG, "these bytes are no vecfs frame");
		*ret_total = RPC_HEADER_BYTES;
		return 0;
	}
	if (p[0] != 'V' || p[1] != 'X')
		return vx_err_set(err, -EBADMSG, "these bytes are no vecfs frame");
	if (get_le32(p + 12) != (uint32_t)hash_xxh3(p, 12, 0))
		return vx_err_set(err, -EBADMSG, "the header of a frame has a wrong checksum");
	if (p[2] != FRAME_FORMAT)
		return vx_err_set(err, -EBADMSG, "unknown frame format %u", p[2]);
	size_t len = get_le32(p + 8);
	if (len > RPC_PAYLOAD_MAX)
		return vx_err_set(err, -EMSGSIZE, "a frame of %zu bytes; at most %u are allowed",
			len, RPC_PAYLOAD_MAX);
	*ret_total = RPC_HEADER_BYTES + len + RPC_TRAILER_BYTES;
	if (n < *ret_total)
		return 0;
	const uint8_t *payload = p + RPC_HEADER_BYTES;
	if (get_le64(payload + len) != hash_xxh3(payload, len, get_le64(p)))
		return vx_err_set(err, -EBADMSG, "the payload of a frame has a wrong checksum");
	ret->type = p[3];
	ret->id = get_le32(p + 4);
	ret->payload = payload;
	ret->len = len;
	return 1;
}

/* Header and room for the rest; the caller fills the payload. */
static int frame_begin(struct buf *out, uint8_t type, uint32_t id, size_t len)
{
	if (len > RPC_PAYLOAD_MAX)
		return -EMSGSIZE;
	int rc = buf_reserve(out, RPC_HEADER_BYTES + len + RPC_TRAILER_BYTES);
	if (rc == 0)
		header_encode(out->data + out->len, type, id, (uint32_t)len);
	return rc;
}

static void frame_end(struct buf *out, size_t len)
{
	uint8_t *h = out->data + out->len, *payload = h + RPC_HEADER_BYTES;

	put_le64(payload + len, hash_xxh3(payload, len, get_le64(h)));
	out->len += RPC_HEADER_BYTES + len + RPC_TRAILER_BYTES;
}

int rpc_frame_append(struct buf *out, uint8_t type, uint32_t id, const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	int rc = frame_begin(out, type, id, len);

	if (rc == 0) {
		protobuf_c_message_pack(m, out->data + out->len + RPC_HEADER_BYTES);
		frame_end(out, len);
	}
	return rc;
}

int rpc_frame_append_raw(struct buf *out, uint8_t type, uint32_t id, const void *p, size_t n)
{
	int rc = frame_begin(out, type, id, n);

	if (rc == 0) {
		if (n)
			memcpy(out->data + out->len + RPC_HEADER_BYTES, p, n);
		frame_end(out, n);
	}
	return rc;
}

/* Numbers differ between systems, names do not; errors are rare enough for a linear search. */
int rpc_errno_parse(const char *name)
{
	for (int e = 1; e < 256; e++) {
		const char *s = strerrorname_np(e);

		if (s && strcmp(s, name) == 0)
			return -e;
	}
	return -EPROTO;
}
