/* client.h - talking to a daemon: what the tools are built on.
 *
 *	client_place_find("/mnt/vec/docs", &place, &err)	where the daemon is, which collection
 *	client_open(&place, "vec-put", &c, &err)
 *	client_call(c, RPC_LIST, &req.base, &vecfs__list_answer__descriptor, &ans, &err)
 *	client_close(c); client_place_release(&place)
 *
 * Requests and answers are the messages of proto/vecfs.proto.  An answer lives in the client until
 * the next call.  Puts are a stream of batches with several under way (client_put_*); records come
 * back through callbacks.
 *
 * Threads: one owner per client; several clients side by side are fine.
 * Errors: those the daemon answered, by errno and reason; -ECONNRESET and -EPIPE when it went away
 * (the outcome of a write is then unknown; repeating it is safe); -EPROTO, -EBADMSG for answers
 * that make no sense.  After those the client is of no more use.
 */
#ifndef VECFS_CLIENT_CLIENT_H
#define VECFS_CLIENT_CLIENT_H

#include "base/record.h"
#include "rpc/rpc.h"

/* --- where ---------------------------------------------------------------------- */
struct client_place {
	char *socket;               /* malloc'd */
	const char *how;            /* "VECFS_SOCKET", "the mount", "the default place" */
	char name[VX_NAME_MAX + 1]; /* the collection; "": none was asked for, or the whole mount */
};

/* The daemon: $VECFS_SOCKET, else the one that serves the mount in which the path 'arg' (or, for a
 * bare name, the working directory) lies, else the default place.  The collection: 'arg' itself, or
 * for a path (it has a '/', or is "." or "..") its part below the mount.  NULL: no collection.
 * -EINVAL: no name of a collection. */
VX_MUST_CHECK
int client_place_find(const char *arg, struct client_place *ret, struct vx_err *err);
void client_place_release(struct client_place *p);

/* --- connection -------------------------------------------------------------------- */
struct client;

/* 'tool' is for the daemon's log.  -ENOENT, -ECONNREFUSED, -EACCES: the reason says where it
 * looked and what to do. */
VX_MUST_CHECK
int client_open(const struct client_place *place, const char *tool, struct client **ret,
	struct vx_err *err);
void client_close(struct client *c);

/* One request, one answer of the given type; *ret_answer is borrowed until the next call. */
VX_MUST_CHECK
int client_call(struct client *c, uint8_t type, const ProtobufCMessage *request,
	const ProtobufCMessageDescriptor *answer, void *ret_answer, struct vx_err *err);

/* What is known of one collection.  -ENOENT, which leaves no line in the daemon's error log. */
VX_MUST_CHECK
int client_describe(
	struct client *c, const char *coll, const Vecfs__CollectionInfo **ret, struct vx_err *err);

/* --- putting --------------------------------------------------------------------------- */
struct client_put_opts {
	bool insert;         /* refuse ids that exist */
	bool atomic;         /* all is committed at once, by client_put_commit; not with 'insert' */
	unsigned window;     /* batches under way; 0: 4 */
	uint32_t batch_rows; /* 0: bounded by bytes alone */
	size_t batch_bytes;  /* 0: 768 KiB */
	/* A record that the daemon refused; borrowed during the call.  May be NULL. */
	void (*on_bad)(void *ctx, const char *source, const struct vx_record *rec, int rc,
		const char *reason);
	void *ctx;
};

/* Sums over what was acknowledged; they only grow. */
struct client_put_sum {
	uint64_t inserted, updated, conflicts, duplicates;
	uint64_t refused; /* by the daemon, one by one */
	uint64_t rows;    /* in acknowledged batches */
	uint64_t index;   /* highest log index of a commit */
	bool asked;       /* atomic: committed, but the counts were lost with the connection */
};

struct client_put;

/* With 'atomic' the collection has to be there. */
VX_MUST_CHECK
int client_put_begin(struct client *c, const char *coll, const struct client_put_opts *opts,
	struct client_put **ret, struct vx_err *err);
/* The file the next records come from (copied; NULL: none).  Closes the batch under construction. */
VX_MUST_CHECK
int client_put_source(struct client_put *p, const char *source, struct vx_err *err);
/* Copies the record.  May send, and wait while the window is full; so it reports failures of
 * earlier batches.  rec->line goes along for messages. */
VX_MUST_CHECK
int client_put_add(struct client_put *p, const struct vx_record *rec, struct vx_err *err);
/* A record that the caller refused itself: a line for the daemon's error log, which goes out with the
 * source it was found in.  At most a hundred per batch are kept.  Line 0: what ended the source as a
 * whole, which is always kept. */
void client_put_reject(struct client_put *p, uint64_t line, int rc, const char *reason);
/* Sends what is left and waits: everything added is committed on 0; with 'atomic' it is only there, hidden. */
VX_MUST_CHECK
int client_put_flush(struct client_put *p, struct vx_err *err);
/* Commits what was added with 'atomic'.  0: all of it is in.  -ETIMEDOUT: it is not known whether it is, the
 * connection was lost and no daemon could be asked; any other error: nothing is in.  Once per stream. */
VX_MUST_CHECK
int client_put_commit(struct client_put *p, struct vx_err *err);
/* Gives up what was added with 'atomic'; its space is free again when this returns. */
void client_put_drop(struct client_put *p);
uint64_t client_put_txn(const struct client_put *p); /* 0: none is open */
const struct client_put_sum *client_put_sum(const struct client_put *p);
/* Frees; what was not flushed may or may not be in. */
void client_put_end(struct client_put *p);

/* --- reading ------------------------------------------------------------------------------ */
/* Borrowed during the call; non-zero stops, is returned, and ends the connection's use if
 * answers were still to come. */
typedef int client_record_fn(
	void *ctx, const struct vx_record *rec, uint64_t version, uint64_t mtime_ns);
typedef int client_missing_fn(void *ctx, uint32_t number);

/* Bits of 'what': as in db.h. */
#define CLIENT_META 1u
#define CLIENT_TEXT 2u
#define CLIENT_VEC  4u

/* Records by id, in the order asked; the numbers of those that are not there. */
VX_MUST_CHECK
int client_get(struct client *c, const char *coll, const struct rpc_strings *ids, unsigned what,
	client_record_fn *on_record, client_missing_fn *on_missing, void *ctx, struct vx_err *err);

/* All records, of one moment. */
VX_MUST_CHECK
int client_scan(struct client *c, const char *coll, unsigned what, client_record_fn *on_record,
	void *ctx, struct vx_err *err);

/* --- asking --------------------------------------------------------------------------------- */
/* Checked answers: question q has counts[q] hits, which rpc_rows_next gives one after the other;
 * the distance of hit h is distances[h].  Borrowed until the next call. */
struct client_answers {
	const Vecfs__QueryAnswer *message;
	size_t n;
	const uint32_t *counts;
	const float *distances;
	struct rpc_rows_view hits;
};
VX_MUST_CHECK
int client_query(struct client *c, const Vecfs__QueryRequest *q, struct client_answers *ret,
	struct vx_err *err);
/* The error of question 'q', NULL when it was answered. */
const Vecfs__RowError *client_answer_error(const struct client_answers *a, size_t q);
bool client_answer_timed_out(const struct client_answers *a, size_t q);
/* Records that may belong to the answer of question 'q' and cannot be read. */
uint32_t client_answer_damaged(const struct client_answers *a, size_t q);

#endif
