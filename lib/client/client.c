/* client.c - connection, calls.
 *
 * The hello goes out together with the first request: a tool that asks one question pays one round
 * trip.  Its answer is taken care of when it comes by in client_receive.
 */
#include "client/client_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int queue_hello(struct client *c, struct vx_err *err)
{
	Vecfs__Hello m = VECFS__HELLO__INIT;
	char name[80];
	char *features[] = {(char *)(uintptr_t) "source"};

	snprintf(name, sizeof name, "%.50s %s", c->tool, VECFS_VERSION);
	m.protocol_min = m.protocol_max = RPC_PROTOCOL;
	m.features = features;
	m.n_features = VX_ARRAY_SIZE(features);
	m.client = name;
	return client_queue(c, RPC_HELLO, &m.base, &c->hello_id, err);
}

static int not_there(const struct client_place *p, int rc, struct vx_err *err)
{
	switch (rc) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -ENOTDIR:
		return vx_err_set(err, rc,
			"no daemon answers at %s (%s): start one with 'vecfsd DATA MOUNT', or set "
			"VECFS_SOCKET to its socket",
			p->socket, p->how);
	case -EACCES:
	case -EPERM:
		return vx_err_set(err, rc,
			"%s (%s): permission denied: the daemon belongs to another user", p->socket,
			p->how);
	default:
		return vx_err_set(err, rc, "%s (%s): %s", p->socket, p->how, strerror(-rc));
	}
}

int client_open(
	const struct client_place *place, const char *tool, struct client **ret, struct vx_err *err)
{
	struct client *c = calloc(1, sizeof *c);
	int fd;

	if (!c)
		return -ENOMEM;
	c->arena = rpc_arena_new();
	c->conn.fd = -1;
	c->next_id = 1;
	snprintf(c->tool, sizeof c->tool, "%s", tool);
	c->socket = strdup(place->socket);
	int rc = c->arena && c->socket ? rpc_unix_connect(place->socket, &fd) : -ENOMEM;
	if (rc) {
		not_there(place, rc, err);
	} else {
		rpc_conn_init(&c->conn, fd);
		rc = queue_hello(c, err);
	}
	if (rc) {
		client_close(c);
		return rc;
	}
	*ret = c;
	return 0;
}

void client_close(struct client *c)
{
	if (!c)
		return;
	rpc_conn_release(&c->conn);
	rpc_arena_free(c->arena);
	free(c->socket);
	free(c);
}

int client_reopen(struct client *c, struct vx_err *err)
{
	int fd, rc = rpc_unix_connect(c->socket, &fd);

	if (rc)
		return vx_err_set(err, rc, "no daemon answers at %s", c->socket);
	rpc_conn_release(&c->conn);
	rpc_conn_init(&c->conn, fd);
	c->welcomed = false;
	return queue_hello(c, err);
}

int client_queue(struct client *c, uint8_t type, const ProtobufCMessage *m, uint32_t *ret_id,
	struct vx_err *err)
{
	int rc = rpc_conn_queue(&c->conn, type, c->next_id, m);

	if (rc == -EMSGSIZE)
		vx_err_set(err, rc, "the request is larger than %u bytes", RPC_PAYLOAD_MAX);
	if (rc == 0)
		*ret_id = c->next_id++;
	return rc;
}

/* An Error frame as errno and reason. */
static int error_of(struct client *c, const struct rpc_frame *f, struct vx_err *err)
{
	const Vecfs__Error *m;
	int rc = rpc_unpack(c->arena, &vecfs__error__descriptor, f, &m, err);

	if (rc)
		return rc;
	rc = rpc_errno_parse(m->code);
	return vx_err_set(err, rc, "%s", m->reason[0] ? m->reason : strerror(-rc));
}

int client_receive(
	struct client *c, bool wait, struct rpc_frame *ret, uint32_t *ret_id, struct vx_err *err)
{
	const Vecfs__Welcome *w;

	for (;;) {
		int rc = wait ? rpc_conn_recv(&c->conn, ret, err)
			      : rpc_conn_try_recv(&c->conn, ret, err);

		if (rc == 0)
			return vx_err_set(err, -ECONNRESET,
				"the daemon closed the connection: it stopped, or was stopped");
		if (rc < 0)
			return rc;
		rpc_arena_reset(c->arena);
		*ret_id = ret->id;
		if (ret->type == RPC_ERROR)
			return error_of(c, ret, err);
		if (ret->type != (RPC_HELLO | RPC_ANSWER))
			return 0;
		rc = rpc_unpack(c->arena, &vecfs__welcome__descriptor, ret, &w, err);
		if (rc)
			return rc;
		if (w->protocol != RPC_PROTOCOL)
			return vx_err_set(err, -EPROTONOSUPPORT,
				"the daemon chose protocol %u, which was not offered", w->protocol);
		c->welcomed = true;
	}
}

int client_flush(struct client *c, struct vx_err *err)
{
	uint32_t id;
	int rc = rpc_conn_flush(&c->conn);

	if (rc == 0)
		return 0;
	/* Its last words say more than the failed send. */
	vx_err_set(err, rc, "the connection to the daemon failed: %s", strerror(-rc));
	for (;;) {
		struct vx_err why = VX_ERR_INIT;
		struct rpc_frame f = {0};
		int got = client_receive(c, false, &f, &id, &why);

		if (got == 0)
			continue;
		return f.type == RPC_ERROR ? vx_err_set(err, got, "%s", why.msg) : rc;
	}
}

int client_receive_for(
	struct client *c, uint32_t id, uint8_t type, struct rpc_frame *ret, struct vx_err *err)
{
	for (;;) {
		uint32_t got = 0;
		int rc = client_receive(c, true, ret, &got, err);

		if (rc)
			return rc;
		/* The rest of something that was given up. */
		if (got != id)
			continue;
		if (ret->type != (type | RPC_ANSWER))
			return vx_err_set(err, -EPROTO, "a '%s' was answered with type 0x%02x",
				rpc_type_name(type), ret->type);
		return 0;
	}
}

int client_call(struct client *c, uint8_t type, const ProtobufCMessage *request,
	const ProtobufCMessageDescriptor *answer, void *ret_answer, struct vx_err *err)
{
	struct rpc_frame f = {0};
	uint32_t id;
	int rc = client_queue(c, type, request, &id, err);

	if (rc == 0)
		rc = client_flush(c, err);
	if (rc == 0)
		rc = client_receive_for(c, id, type, &f, err);
	if (rc == 0)
		rc = rpc_unpack(c->arena, answer, &f, ret_answer, err);
	return rc;
}

int client_describe(
	struct client *c, const char *coll, const Vecfs__CollectionInfo **ret, struct vx_err *err)
{
	Vecfs__ListRequest m = VECFS__LIST_REQUEST__INIT;
	const Vecfs__ListAnswer *a;

	m.collection = (char *)(uintptr_t)coll;
	m.probe = true;
	int rc = client_call(c, RPC_LIST, &m.base, &vecfs__list_answer__descriptor, &a, err);
	if (rc)
		return rc;
	if (a->n_collections != 1)
		return vx_err_set(err, -ENOENT, "there is no collection '%s'", coll);
	*ret = a->collections[0];
	return 0;
}
