/* rpc.h - frames and messages: what vecfs speaks over a socket.
 *
 * A frame is a 16-byte header, a protobuf payload (proto/vecfs.proto) and its checksum;
 * docs/format-wire.md has the bytes.  Four parts:
 *
 *	frame	encode and parse frames in memory: a pure function of bytes
 *	arena	the memory a message is unpacked into, reused from request to request
 *	rows	records to and from the packed columns of 'Rows'
 *	conn	a stream socket: blocking, buffered, one write per flush
 *
 * Threads: one owner per object.
 * Errors: -EBADMSG bytes that are no frame (or a wrong checksum), -EMSGSIZE a frame over the
 * limit, -EPROTO a well-formed frame with a payload that makes no sense; after -EBADMSG and
 * -EMSGSIZE the stream has no next frame and must be closed.
 */
#ifndef VECFS_RPC_RPC_H
#define VECFS_RPC_RPC_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/record.h"
#include "vecfs.pb-c.h"

#define RPC_PROTOCOL      1u /* the version this library speaks */
#define RPC_HEADER_BYTES  16u
#define RPC_TRAILER_BYTES 8u
#define RPC_PAYLOAD_MAX   (64u << 20)
#define RPC_ARENA_MAX     (256u << 20) /* memory one unpacked message may take */
/* An answer that comes in pieces is cut near this size. */
#define RPC_CHUNK_BYTES (512u << 10)

enum rpc_type {
	RPC_HELLO = 1,
	RPC_PUT = 2,
	RPC_DELETE = 3,
	RPC_GET = 4,
	RPC_SCAN = 5,
	RPC_QUERY = 6,
	RPC_CREATE = 7,
	RPC_DROP = 8,
	RPC_LIST = 9,
	RPC_STAT = 10,
	RPC_CONFIG = 11,
	RPC_INDEX = 12,
	RPC_RECALL = 13,
	RPC_SNAP = 14,
	RPC_TXN = 15,
	RPC_VERIFY = 16,
	RPC_ANSWER = 0x80, /* the bit that makes a request's type its answer's */
	RPC_ERROR = 0xff,
};

/* "put", for logs; "?" for an unknown type. */
const char *rpc_type_name(uint8_t type);

/* --- frames -------------------------------------------------------------------- */
struct rpc_frame {
	uint8_t type;
	uint32_t id;            /* of the request; an answer repeats it */
	const uint8_t *payload; /* borrowed */
	size_t len;
};

/* Parses the frame at the start of 'p'.  1: *ret is whole, *ret_total bytes long; 0: more is
 * needed, *ret_total of it in all if that is known by now, else RPC_HEADER_BYTES; or -EBADMSG,
 * -EMSGSIZE.  Nothing is allocated. */
VX_MUST_CHECK
int rpc_frame_parse(
	const uint8_t *p, size_t n, struct rpc_frame *ret, size_t *ret_total, struct vx_err *err);

/* Appends a frame around a packed message.  -EMSGSIZE, -ENOMEM: 'out' is as it was. */
VX_MUST_CHECK
int rpc_frame_append(struct buf *out, uint8_t type, uint32_t id, const ProtobufCMessage *m);

/* Appends a frame around bytes: for tests and for whoever has a payload already. */
VX_MUST_CHECK
int rpc_frame_append_raw(struct buf *out, uint8_t type, uint32_t id, const void *p, size_t n);

/* A negative errno by its name ("EINVAL"); -EPROTO for a name this system does not know. */
int rpc_errno_parse(const char *name);

/* --- arena ------------------------------------------------------------------------ */
struct rpc_arena;
struct rpc_arena *rpc_arena_new(void); /* NULL: no memory */
void rpc_arena_free(struct rpc_arena *a);
/* Everything taken from it is gone; the largest chunk is kept for the next message. */
void rpc_arena_reset(struct rpc_arena *a);
/* 16-aligned; NULL: no memory, or over RPC_ARENA_MAX. */
void *rpc_arena_alloc(struct rpc_arena *a, size_t n);

/* Unpacks a payload into the arena; lives until its reset.  -EPROTO. */
VX_MUST_CHECK
int rpc_unpack(struct rpc_arena *a, const ProtobufCMessageDescriptor *d, const struct rpc_frame *f,
	void *ret_message, struct vx_err *err);

/* --- rows ---------------------------------------------------------------------------- */
/* Concatenated strings under construction, or (as a view) in a message. */
struct rpc_strings {
	struct buf bytes;
	struct buf sizes; /* uint32_t, native */
	uint32_t n;
};
VX_MUST_CHECK
int rpc_strings_add(struct rpc_strings *s, const char *p, size_t n);
void rpc_strings_reset(struct rpc_strings *s);
void rpc_strings_release(struct rpc_strings *s);

struct rpc_strings_view {
	const uint8_t *p;
	const uint32_t *sizes;
	size_t n, next;
};
/* Checks that the sizes add up to the bytes.  -EPROTO. */
VX_MUST_CHECK
int rpc_strings_open(struct rpc_strings_view *v, ProtobufCBinaryData bytes, const uint32_t *sizes,
	size_t n_sizes, const char *what, struct vx_err *err);
/* The next one; false at the end. */
bool rpc_strings_next(struct rpc_strings_view *v, const char **ret, size_t *ret_len);

/* Rows under construction.  Zero-initialised by the owner. */
struct rpc_rows {
	uint32_t n, dim;
	struct buf vectors;
	struct rpc_strings ids, metas, texts;
};
/* Copies.  All rows with a vector have the same dimension (-EINVAL otherwise).  On failure the
 * rows are as they were. */
VX_MUST_CHECK
int rpc_rows_add(struct rpc_rows *r, const struct vx_record *rec);
size_t rpc_rows_bytes(const struct rpc_rows *r);
void rpc_rows_reset(struct rpc_rows *r);
void rpc_rows_release(struct rpc_rows *r);
/* Fills a message that borrows from 'r'. */
void rpc_rows_message(const struct rpc_rows *r, Vecfs__Rows *ret);

/* Rows of a message, checked as a whole (-EPROTO) before the first is given out. */
struct rpc_rows_view {
	uint32_t n, dim, next;
	const float *vectors; /* NULL: none */
	struct rpc_strings_view ids, metas, texts;
};
VX_MUST_CHECK
int rpc_rows_open(struct rpc_rows_view *v, const Vecfs__Rows *m, struct vx_err *err);
/* The next record, borrowed from the message; false at the end.  rec.line is its number from 1. */
bool rpc_rows_next(struct rpc_rows_view *v, struct vx_record *ret);

/* --- connections ------------------------------------------------------------------------ */
/* A stream socket.  All reading and writing of the descriptor happens in two functions of
 * conn.c: the place where another carrier (TLS) comes in. */
struct rpc_conn {
	int fd;
	struct buf in; /* bytes received; in.data[in_start..in.len) not given out yet */
	size_t in_start;
	struct buf out; /* frames to send */
};
void rpc_conn_init(struct rpc_conn *c, int fd); /* takes fd */
void rpc_conn_release(struct rpc_conn *c);      /* closes it */

/* Queues a frame.  Nothing is sent before rpc_conn_flush. */
VX_MUST_CHECK
int rpc_conn_queue(struct rpc_conn *c, uint8_t type, uint32_t id, const ProtobufCMessage *m);

/* Sends all that is queued.  While the peer does not take it, what the peer sends meanwhile is
 * read into 'in', so that two peers that both send cannot block each other.
 * -EPIPE, -ECONNRESET: the peer is gone. */
VX_MUST_CHECK
int rpc_conn_flush(struct rpc_conn *c);

/* The next frame, waiting for it: 1, 0 at an end between frames, or -ECONNRESET for an end within
 * one, -EBADMSG, -EMSGSIZE.  The payload is borrowed until the next call. */
VX_MUST_CHECK
int rpc_conn_recv(struct rpc_conn *c, struct rpc_frame *ret, struct vx_err *err);

/* As rpc_conn_recv, with what is buffered and what the kernel has: -EAGAIN when that is not a
 * whole frame. */
VX_MUST_CHECK
int rpc_conn_try_recv(struct rpc_conn *c, struct rpc_frame *ret, struct vx_err *err);

/* --- unix sockets --------------------------------------------------------------------------- */
/* Where the daemon of this user listens unless somebody says otherwise: /run/vecfs/vecfs.sock for
 * root; else vecfs.sock in $XDG_RUNTIME_DIR or /run/user/UID, else $HOME/.vecfs.sock.  -ENOENT: no
 * such place. */
#define RPC_SYSTEM_SOCKET "/run/vecfs/vecfs.sock"
VX_MUST_CHECK
int rpc_default_socket(struct buf *ret);

/* Paths of any length.  -ENOENT, -ECONNREFUSED: nobody serves there; -EACCES. */
VX_MUST_CHECK
int rpc_unix_connect(const char *path, int *ret_fd);

/* Listens on 'path' with mode 0600.  A socket that nobody serves any more is replaced, a file that
 * is no socket never.  -EADDRINUSE: somebody serves it; -EEXIST: no socket. */
VX_MUST_CHECK
int rpc_unix_listen(const char *path, int *ret_fd, struct vx_err *err);

#endif
