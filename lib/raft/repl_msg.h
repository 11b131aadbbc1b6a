/* repl_msg.h - Raft messages and the manifest of a mark, as bytes.
 *
 * Formats: docs/format-raft.md.  Decoding trusts nothing: every count is checked
 * against what is left before anything is allocated, and a checksum covers all.
 */
#ifndef VECFS_RAFT_REPL_MSG_H
#define VECFS_RAFT_REPL_MSG_H

#include <raft.h>

#include "base/bytes.h"
#include "base/err.h"

#define REPL_MSG_ENTRIES_MAX 65536u
#define REPL_MSG_BYTES_MAX   (512u << 20)

struct repl_msg_head {
	uint32_t group;
	uint64_t from, to;
};

/* Appends the message to 'b'.  'm->server_id' and 'm->server_address' are not encoded.
 * -ENOMEM, -EMSGSIZE, -EINVAL (unknown type). */
VX_MUST_CHECK
int repl_msg_encode(const struct repl_msg_head *head, const struct raft_message *m, struct buf *b);

/* The reverse.  Entries come as one raft_malloc'd batch, snapshots and configurations as
 * libraft wants to take them over; 'server_id' is set to 'from', the address to NULL.
 * -EUCLEAN: not a message; -ENOMEM.  On success free with repl_msg_release, unless
 * libraft took it. */
VX_MUST_CHECK
int repl_msg_decode(
	const void *p, size_t n, struct repl_msg_head *ret_head, struct raft_message *ret);
void repl_msg_release(struct raft_message *m);

/* What a MARK or RESET record carries. */
struct repl_manifest {
	uint64_t conf_index;
	struct raft_configuration conf;
	const void *host; /* the host's manifest */
	size_t host_len;
};

VX_MUST_CHECK
int repl_manifest_encode(const struct repl_manifest *m, struct buf *b);

/* 'host' points into 'p'; the configuration is the caller's to close.
 * -EUCLEAN, -ENOMEM. */
VX_MUST_CHECK
int repl_manifest_decode(const void *p, size_t n, struct repl_manifest *ret);

#endif
