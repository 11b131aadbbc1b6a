/* fs_again.c - requests that come again, and what a worker finds of the one before it.
 *
 * The kernel repeats every request that was read and not answered when the worker died.  What was being
 * done then may have been done or not, so each request that changes something is written down (carry.h):
 *
 *	again_known	it was done: its answer is sent, nothing is done
 *	again_begun	it may have been done: what is missing now, we have removed ourselves
 *	again_name	its batches have names made of the mount, the request and a number; a batch that was
 *			applied before is not applied again, whatever came after it
 *	again_done	it is done; an open file's new state is carried over in the same instant
 *
 * Requests that change nothing are simply served again.
 *
 * Open files are known to the kernel by a number that says where their state is, nodes by their inode number.
 * A worker that takes over makes both anew before it serves.
 *
 * Without a supervisor none of this happens: an open file's number is its address.
 */
#include "daemon/fs_i.h"

#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#ifndef FUSE_UNIQUE_RESEND
#define FUSE_UNIQUE_RESEND ((uint64_t)1 << 63)
#endif

/* The request that this thread serves. */
static __thread struct {
	uint64_t unique; /* 0: none, or nobody would repeat it */
	bool resent;
	bool found;            /* 'req' is of a worker before us */
	struct carry_req *req; /* NULL: not written down */
	struct carry_req *own; /* this thread's, for any request */
	uint64_t parts;
	struct buf state;
} now;

/* --- a request --------------------------------------------------------------------------------- */
void again_begin(struct fs *fs, const void *request, size_t n)
{
	struct fuse_in_header h;

	now.unique = 0;
	if (!fs->carry || n < sizeof h)
		return;
	memcpy(&h, request, sizeof h);
	now.unique = h.unique & ~FUSE_UNIQUE_RESEND;
	now.resent = (h.unique & FUSE_UNIQUE_RESEND) != 0;
	now.parts = 0;
}

void again_end(struct fs *fs)
{
	if (!now.req)
		return;
	carry_req_end(now.req);
	if (now.req != now.own && !now.own)
		now.own = now.req;
	else if (now.req != now.own)
		carry_req_put(fs->carry, now.req);
	now.req = NULL;
	now.found = false;
	if (now.state.cap > 1u << 20)
		buf_release(&now.state);
}

void again_leave(struct fs *fs)
{
	if (fs->carry && now.own)
		carry_req_put(fs->carry, now.own);
	now.own = NULL;
	buf_release(&now.state);
}

/* Writes the request down, or finds it written down. */
static struct carry_req *write_down(struct fs *fs)
{
	if (!fs->carry || !now.unique || now.req)
		return now.req;
	if (now.resent)
		now.req = carry_req_find(fs->carry, now.unique);
	now.found = now.req != NULL;
	if (now.found)
		return now.req;
	if (!now.own)
		now.own = carry_req_take(fs->carry);
	if (now.own)
		carry_req_begin(now.own, now.unique);
	return now.req = now.own;
}

bool again_known(struct fs *fs, int *ret_status, uint64_t *ret_value)
{
	if (!now.resent || !fs->carry)
		return false;
	struct carry_req *r = write_down(fs);
	if (!r || !now.found || atomic_load(&r->stage) != CARRY_DONE)
		return false;
	*ret_status = r->status;
	*ret_value = r->value;
	return true;
}

bool again_begun(struct fs *fs, uint64_t *ret_value)
{
	if (!now.resent || !fs->carry)
		return false;
	struct carry_req *r = write_down(fs);
	if (!r || !now.found || atomic_load(&r->stage) != CARRY_BEGUN)
		return false;
	if (ret_value)
		*ret_value = r->value;
	return true;
}

void again_intend(struct fs *fs, uint64_t value)
{
	struct carry_req *r = write_down(fs);

	if (r)
		carry_req_intend(r, value);
}

void again_done(struct fs *fs, int status, uint64_t value)
{
	struct carry_req *r = write_down(fs);

	if (r)
		carry_req_done(r, status, value);
}

void again_name(struct fs *fs, struct batch *b)
{
	if (fs->carry && now.unique && now.parts < 1u << AGAIN_PARTS_BITS)
		batch_name(b, carry_epoch(fs->carry), again_number(now.unique, now.parts++));
}

uint64_t again_unique(struct fs *fs)
{
	return fs->carry ? now.unique : 0;
}

struct carry_progress *again_progress(struct fs *fs)
{
	struct carry_req *r = write_down(fs);

	return r ? &r->progress : NULL;
}

/* --- open files ------------------------------------------------------------------------------------ */
static int encode(struct handle *h)
{
	now.state.len = 0;
	return h->ops->save ? h->ops->save(h, &now.state) : 0;
}

int handle_carry_new(struct handle *h, uint64_t ino)
{
	struct fs *fs = h->fs;
	struct carry_file f = {
		.unique = now.unique, .ino = ino, .flags = (uint32_t)h->flags, .dir = false};

	if (!fs->carry)
		return 0;
	h->unique = now.unique;
	int rc = encode(h);
	if (rc == 0)
		rc = carry_file_new(fs->carry, &f, now.state.data, now.state.len, &h->id);
	if (rc)
		return rc;
	h->slot = f.slot;
	fs->open_files[f.slot] = h;
	return 0;
}

void handle_carry_free(struct handle *h)
{
	struct fs *fs = h->fs;

	if (!h->id || fs->keeps)
		return;
	fs->open_files[h->slot] = NULL;
	carry_file_free(fs->carry, h->id);
}

static void not_carried(struct handle *h, int rc)
{
	if (!h->uncarried)
		log_warn("fs", "an open file is too much to carry over should the daemon die: %s",
			strerror(-rc));
	h->uncarried = true;
	carry_file_lose(h->fs->carry, h->slot);
}

void handle_done(struct handle *h, int status, uint64_t value)
{
	struct fs *fs = h->fs;

	h->changed = false;
	if (!h->id)
		return;
	if (h->loc.node) /* first: a size is said again by whoever does it again */
		node_carry(fs, h->loc.node);
	struct carry_req *r = write_down(fs);
	int rc = encode(h);
	if (rc == 0)
		rc = carry_state_put(
			fs->carry, h->slot, now.state.data, now.state.len, r, status, value);
	if (rc)
		not_carried(h, rc);
}

void handle_changed(struct handle *h)
{
	if (!h->changed || !h->id) {
		h->changed = false;
		return;
	}
	h->changed = false;
	int rc = encode(h);
	if (rc == 0)
		rc = carry_state_put(
			h->fs->carry, h->slot, now.state.data, now.state.len, NULL, 0, 0);
	if (rc)
		not_carried(h, rc);
}

struct handle *handle_of(struct fs *fs, uint64_t fh)
{
	if (!fs->carry)
		return (struct handle *)(uintptr_t)fh;
	struct handle *h = fs->open_files[carry_slot_of(fh)];
	return h && h->id == fh ? h : NULL;
}

uint64_t handle_fh(const struct handle *h)
{
	return h->id ? h->id : (uintptr_t)h;
}

/* The file that this very request opened, in a worker before us. */
struct handle *handle_again(struct fs *fs)
{
	if (!fs->carry || !now.resent)
		return NULL;
	uint64_t id = carry_file_by(fs->carry, now.unique);
	return id ? handle_of(fs, id) : NULL;
}

struct dir *dir_again(struct fs *fs)
{
	if (!fs->carry || !now.resent)
		return NULL;
	uint64_t id = carry_file_by(fs->carry, now.unique);
	return id ? fs->open_dirs[carry_slot_of(id)] : NULL;
}

int dir_carry_new(
	struct fs *fs, struct dir *d, uint64_t ino, const struct buf *names, uint64_t *ret_id)
{
	struct carry_file f = {.unique = now.unique, .ino = ino, .dir = true};
	int rc = carry_file_new(fs->carry, &f, names->data, names->len, ret_id);

	if (rc == 0)
		fs->open_dirs[f.slot] = d;
	return rc;
}

/* --- taking over ----------------------------------------------------------------------------------- */
struct takeover {
	struct fs *fs;
	struct buf state;
	size_t files, lost, nodes;
};

static int take_file(void *arg, const struct carry_file *f)
{
	struct takeover *t = arg;
	struct vx_err err = VX_ERR_INIT;

	t->state.len = 0;
	int rc = carry_state_get(t->fs->carry, f->slot, &t->state);
	struct bytes_reader rd = {t->state.data, t->state.len, false};
	if (rc == 0 && f->dir) {
		struct dir *d;
		rc = dir_restore(t->fs, f, &rd, &d);
		if (rc == 0)
			t->fs->open_dirs[f->slot] = d;
	} else if (rc == 0) {
		struct handle *h;
		rc = handle_restore(t->fs, f, &rd, &h, &err);
		if (rc == 0)
			t->fs->open_files[f->slot] = h;
	}
	t->files++;
	if (rc == 0)
		return 0;
	t->lost++;
	log_error("fs", "an open %s (inode %llx) could not be taken over: %s",
		f->dir ? "directory" : "file", (unsigned long long)f->ino, vx_err_msg(&err, rc));
	return 0;
}

static int take_node(void *arg, uint32_t slot, const struct carry_node *n)
{
	struct takeover *t = arg;
	int rc = node_restore(t->fs, slot, n);

	if (rc)
		log_error("fs", "%s: the name could not be taken over: %s", n->name, strerror(-rc));
	t->nodes++;
	return 0;
}

int fs_take_over(struct fs *fs, struct vx_err *err)
{
	struct takeover t = {.fs = fs, .state = BUF_INIT};

	fs->open_files = calloc(CARRY_HANDLES, sizeof *fs->open_files);
	fs->open_dirs = calloc(CARRY_HANDLES, sizeof *fs->open_dirs);
	if (!fs->open_files || !fs->open_dirs)
		return vx_err_set(err, -ENOMEM, "no memory for open files");
	carry_node_each(fs->carry, take_node, &t);
	carry_file_each(fs->carry, take_file, &t);
	node_sweep_unused(fs);
	buf_release(&t.state);
	if (carry_generation(fs->carry) > 1)
		log_info("fs", "took over %zu open files and %zu names", t.files, t.nodes);
	return 0;
}
