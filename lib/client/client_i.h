/* client_i.h - what the files of lib/client share. */
#ifndef VECFS_CLIENT_CLIENT_I_H
#define VECFS_CLIENT_CLIENT_I_H

#include "client/client.h"

struct client {
	struct rpc_conn conn;
	struct rpc_arena *arena; /* of the last answer */
	uint32_t next_id;
	uint32_t hello_id;
	char *socket, tool[64]; /* for another connection */
	bool welcomed;          /* the answer to hello came */
};

/* Another connection in the place of one that was lost, to the same daemon or to the one after it. */
VX_MUST_CHECK
int client_reopen(struct client *c, struct vx_err *err);
/* Queues a request; its id. */
VX_MUST_CHECK
int client_queue(struct client *c, uint8_t type, const ProtobufCMessage *m, uint32_t *ret_id,
	struct vx_err *err);
/* Sends what is queued.  When the daemon has closed the connection with a reason, that is it. */
VX_MUST_CHECK
int client_flush(struct client *c, struct vx_err *err);
/* The next answer: 0 with *ret; an Error frame is returned as its errno with *ret_id set.  With
 * 'wait' false -EAGAIN when there is none yet.  Resets the arena. */
VX_MUST_CHECK
int client_receive(
	struct client *c, bool wait, struct rpc_frame *ret, uint32_t *ret_id, struct vx_err *err);
/* As client_receive, for the answer to request 'id' of type 'type'. */
VX_MUST_CHECK
int client_receive_for(
	struct client *c, uint32_t id, uint8_t type, struct rpc_frame *ret, struct vx_err *err);

#endif
