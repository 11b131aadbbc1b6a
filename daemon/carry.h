/* carry.h - what one worker of a supervised daemon leaves to the next: open files, nodes, answers.
 *
 * The supervisor makes the region, a memfd, and holds it as long as the mount; every worker maps it.  A worker
 * may be killed between any two instructions, so whatever is in here changes by one store or one write of less
 * than a page, at the end of its change:
 *
 *	carry_create(&fd)                       the supervisor
 *	carry_open(fd, &c, &err)                each worker; finishes what the last one had decided
 *	carry_req_begin(c, slot, unique)        a request that changes something
 *	carry_state_put(c, slot, bytes, n, req)     the new state of an open file and, in the same instant,
 *	                                        the answer of the request that made it
 *	carry_req_end(...)                      once the answer was sent
 *
 * Threads: slots (of requests, open files, nodes, contents) belong to whoever the mount's own locks say;
 * taking and giving them back is thread-safe.  Nothing here blocks on anything but memory.
 *
 * The region never leaves the machine: its integers are the processor's own.  A worker of another
 * version finds a layout that is not its own and says -EOPNOTSUPP.
 */
#ifndef VECFS_DAEMON_CARRY_H
#define VECFS_DAEMON_CARRY_H

#include <stdatomic.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/bytes.h"
#include "base/err.h"

/* Slots of each kind.  Who includes carry.c to feed it damage may have fewer: the header can say that all are in use. */
#ifndef CARRY_REQS
#define CARRY_REQS    4096u
#define CARRY_HANDLES 65536u
#define CARRY_NODES   (1u << 20)
#endif
#define CARRY_CONTENTS  8192u
#define CARRY_NONE      UINT32_MAX
#define CARRY_STATE_MAX ((uint64_t)192 << 20) /* bytes of one open file's state */
#define CARRY_INIT_MAX  1024u
#define CARRY_NAME_MAX  896u

struct carry;

VX_MUST_CHECK
int carry_create(int *ret_fd);
/* Takes 'fd'.  -EOPNOTSUPP: another layout; -EUCLEAN: none at all. */
VX_MUST_CHECK
int carry_open(int fd, struct carry **ret, struct vx_err *err);
void carry_free(struct carry *c);

/* A random number that names this mount; never 0. */
uint64_t carry_epoch(const struct carry *c);
/* Never the same number twice in this mount; from 1 on. */
uint64_t carry_serial(struct carry *c);
/* How many workers have opened it, this one counted. */
uint32_t carry_generation(const struct carry *c);

/* The kernel's INIT request, which each further worker hears from us.  NULL: none was answered yet. */
VX_MUST_CHECK
int carry_set_init(struct carry *c, const void *p, size_t n);
const void *carry_init(const struct carry *c, size_t *ret_n);

/* Whether the kernel repeats requests (known since INIT).  Read by the supervisor. */
void carry_set_resends(struct carry *c, bool resends);
bool carry_resends(const struct carry *c);

/* --- progress: how far batches that belong together have landed --------------------------- */
struct carry_sum {
	uint64_t batches; /* the first so many have */
	uint64_t accepted, inserted, updated, duplicates;
	uint64_t index;
	uint32_t shard;
};
struct carry_progress {
	_Atomic uint32_t which; /* of 's' */
	struct carry_sum s[2];
};
void carry_progress_set(struct carry_progress *p, const struct carry_sum *s);
void carry_progress_get(const struct carry_progress *p, struct carry_sum *ret);

/* --- requests ----------------------------------------------------------------------------- */
enum carry_stage {
	CARRY_FRESH = 0, /* nothing of it was done, as far as is known */
	CARRY_BEGUN,     /* what it is to do may have been done */
	CARRY_DONE,      /* it was done; status and value are its answer */
};
struct carry_req {
	_Atomic uint64_t unique; /* 0: free */
	_Atomic uint32_t stage;
	int32_t status; /* 0 or a negative errno */
	uint64_t value;
	uint32_t handle; /* whose state changes with the stage; CARRY_NONE */
	uint64_t version;
	struct carry_progress progress;
};
/* A slot for a thread.  NULL: there are none left. */
struct carry_req *carry_req_take(struct carry *c);
void carry_req_put(struct carry *c, struct carry_req *r);
/* What a worker before this one knew of request 'unique'; NULL: nothing.  The slot is the caller's. */
struct carry_req *carry_req_find(struct carry *c, uint64_t unique);
void carry_req_begin(struct carry_req *r, uint64_t unique);
/* From here on it may have been done. */
void carry_req_intend(struct carry_req *r, uint64_t value);
void carry_req_done(struct carry_req *r, int status, uint64_t value);
/* The answer was sent: it never comes again. */
void carry_req_end(struct carry_req *r);

/* --- open files --------------------------------------------------------------------------- */
struct carry_file {
	uint64_t id;     /* 0: the slot is free */
	uint64_t unique; /* the request that opened it */
	uint64_t ino;
	uint32_t flags; /* of open(2) */
	bool dir;
	uint32_t slot;
};
/* A slot with a state; the id (for the kernel) says where it is.  -ENFILE. */
VX_MUST_CHECK
int carry_file_new(
	struct carry *c, struct carry_file *f, const void *state, size_t n, uint64_t *ret_id);
/* Nothing when it was freed before. */
void carry_file_free(struct carry *c, uint64_t id);
static inline uint32_t carry_slot_of(uint64_t id)
{
	return (uint32_t)id & (CARRY_HANDLES - 1);
}
/* Calls 'each' for every open file that was carried over. */
int carry_file_each(struct carry *c, int (*each)(void *arg, const struct carry_file *f), void *arg);
/* The open file that request 'unique' made; 0: none. */
uint64_t carry_file_by(struct carry *c, uint64_t unique);
/* Replaces its state.  With 'r' the request is done in the same instant (status, value).
 * -EFBIG: it is too much to carry; -ENOSPC. */
VX_MUST_CHECK
int carry_state_put(struct carry *c, uint32_t slot, const void *p, size_t n, struct carry_req *r,
	int status, uint64_t value);
/* Its state could not be carried: the next worker does not take it over, rather than with an old one. */
void carry_file_lose(struct carry *c, uint32_t slot);
/* Appends the state to 'out'.  -EUCLEAN: damaged. */
VX_MUST_CHECK
int carry_state_get(struct carry *c, uint32_t slot, struct buf *out);
struct carry_progress *carry_file_progress(struct carry *c, uint32_t slot);
/* Bytes beside the state: written at 'off', and what was there at or past the length that the state names
 * means nothing. */
VX_MUST_CHECK
int carry_journal_put(struct carry *c, uint32_t slot, const void *p, size_t n, uint64_t off);
VX_MUST_CHECK
int carry_journal_get(struct carry *c, uint32_t slot, size_t n, struct buf *out);

/* --- nodes ---------------------------------------------------------------------------------- */
struct carry_node {
	uint64_t ino; /* 0: the slot is free */
	uint64_t nlookup, size, mtime_ns, touched_ns, gone_ns;
	uint32_t kind, cid, mode, k, ef;
	float recall;
	uint32_t stem_len;
	uint32_t content; /* CARRY_NONE: none */
	uint8_t exact, format, by_name, keep, on_disk;
	char name[CARRY_NAME_MAX + 1];
};
/* CARRY_NONE: there is none left. */
uint32_t carry_node_take(struct carry *c);
void carry_node_put(struct carry *c, uint32_t slot, const struct carry_node *n);
void carry_node_free(struct carry *c, uint32_t slot);
int carry_node_each(struct carry *c,
	int (*each)(void *arg, uint32_t slot, const struct carry_node *n), void *arg);

/* --- contents: bytes of staging files, at carry_content_off() of carry_fd() ------------------- */
uint32_t carry_content_take(struct carry *c); /* CARRY_NONE */
/* It was carried over: in use. */
void carry_content_claim(struct carry *c, uint32_t slot);
void carry_content_free(struct carry *c, uint32_t slot);
int carry_fd(const struct carry *c);
off_t carry_content_off(uint32_t slot);
#define CARRY_CONTENT_MAX ((uint64_t)64 << 20)

#endif
