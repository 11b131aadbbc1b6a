/* carry.c - the region that outlives a worker.
 *
 *	0		header: layout, epoch, counters, the kernel's INIT
 *	REQS_AT		requests that are being served, 256 bytes each
 *	FILES_AT	open files, 2 KiB each
 *	NODES_AT	nodes, 1 KiB each; written and read, not mapped
 *	CONTENTS_AT	bytes of staging files, 64 MiB each
 *	LARGE_AT	states that do not fit their file's 2 KiB: three areas per file
 *
 * It is sparse: terabytes of addresses, and memory for what is in use.
 *
 * Three ways to change something so that a SIGKILL finds it old or new and nothing else.
 *
 *	One store.  A file is there when its id is; a request when its number is.
 *	Two copies and one store.  A state is written into the copy that does not count, then its version grows
 *	by one, which says that the other one counts.
 *	One write(2) within a page, which the kernel finishes once it has begun: nodes.
 *
 * A request that changes an open file decides both with one store: it names the file and the version the
 * file will have, then its stage becomes DONE, then the file's version follows.  A worker that finds a
 * request DONE whose file is one version behind moves it on (settle()).  So a request that comes again
 * is either known with its answer, and the file has changed, or not, and the file has not.
 *
 * States carry a checksum.  Which slots are free is not in the region: it follows from those in use.
 */
#include "daemon/carry.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"

#define MAGIC       0x7972726163636576u /* "veccarry" */
#define VERSION     1u

#define REQS_AT     65536u
#define FILES_AT    (REQS_AT + CARRY_REQS * 256u)
#define MAPPED      (FILES_AT + CARRY_HANDLES * 2048u)
#define NODES_AT    ((uint64_t)1 << 30)
#define NODE_SIZE   1024u
#define NODES_READ  4u /* at a time: a page, so that what cannot be read costs no other's names */
#define CONTENTS_AT ((uint64_t)1 << 34)
#define LARGE_AT    ((uint64_t)1 << 40)
#define LARGE_SIZE  ((uint64_t)256 << 20)
#define LARGE_KEEP  65536u /* of a closed file's large areas, for the next one */
#define REGION_SIZE (LARGE_AT + CARRY_HANDLES * 3 * LARGE_SIZE)
#define INLINE_MAX  840u

struct header {
	uint64_t magic;
	uint32_t version, req_size, file_size, node_size;
	uint64_t epoch;
	_Atomic uint64_t serial;
	_Atomic uint32_t generation, resends;
	_Atomic uint32_t files_top, nodes_top, reqs_top; /* no slot at or past it was ever used */
	_Atomic uint32_t init_len;
	uint8_t init[CARRY_INIT_MAX];
};

struct state {
	uint64_t len, sum;
	uint8_t bytes[INLINE_MAX]; /* longer ones are in a large area */
};

struct file {
	_Atomic uint64_t id; /* 0: free */
	uint64_t unique, ino;
	uint32_t flags, dir;
	_Atomic uint64_t version; /* state[version & 1] counts */
	uint64_t large[3];        /* bytes of its large areas that were ever used */
	struct carry_progress progress;
	struct state state[2];
};

_Static_assert(CARRY_HANDLES <= 65536 && (CARRY_HANDLES & (CARRY_HANDLES - 1)) == 0,
	"a slot is the low bits of an id");
_Static_assert(sizeof(struct header) <= REQS_AT, "the header fits");
_Static_assert(sizeof(struct carry_req) <= 256, "a request fits");
_Static_assert(sizeof(struct file) <= 2048, "an open file fits");
_Static_assert(sizeof(struct carry_node) + 8 <= NODE_SIZE, "a node fits");

struct free_list { /* slots that were given back, the last one first */
	uint32_t *slots;
	uint32_t n, cap;
};

struct carry {
	int fd;
	uint8_t *map;
	struct header *h;
	struct vx_mutex lock;
	/* guarded by lock */
	struct free_list files, nodes, reqs;
	uint32_t contents_top;
	uint8_t content_used[CARRY_CONTENTS / 8];
};

static struct carry_req *req_at(const struct carry *c, uint32_t i)
{
	return (void *)(c->map + REQS_AT + (size_t)i * 256);
}

static struct file *file_at(const struct carry *c, uint32_t slot)
{
	return (void *)(c->map + FILES_AT + (size_t)slot * 2048);
}

static off_t large_at(uint32_t slot, unsigned area)
{
	return (off_t)(LARGE_AT + ((uint64_t)slot * 3 + area) * LARGE_SIZE);
}

/* --- bytes -------------------------------------------------------------------------------------- */
static int put_bytes(const struct carry *c, const void *p, size_t n, off_t off)
{
	const uint8_t *b = p;

	while (n) {
		ssize_t w = pwrite(c->fd, b, n, off);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w < 0 ? -errno : -EIO;
		b += w;
		off += w;
		n -= (size_t)w;
	}
	return 0;
}

static int get_bytes(const struct carry *c, void *p, size_t n, off_t off)
{
	uint8_t *b = p;

	while (n) {
		ssize_t r = pread(c->fd, b, n, off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EUCLEAN;
		b += r;
		off += r;
		n -= (size_t)r;
	}
	return 0;
}

static void punch(const struct carry *c, off_t off, uint64_t n)
{
	(void)!fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, (off_t)n);
}

/* --- free slots ----------------------------------------------------------------------------------- */
static void list_push(struct free_list *l, uint32_t slot)
{
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? l->cap * 2 : 64;
		uint32_t *more = realloc(l->slots, cap * sizeof *more);
		if (!more)
			return; /* the slot is lost until the next worker counts again */
		l->slots = more;
		l->cap = cap;
	}
	l->slots[l->n++] = slot;
}

/* A slot that was given back, or the next one of 'top'. */
static uint32_t list_pop(struct free_list *l, _Atomic uint32_t *top, uint32_t max)
{
	if (l->n)
		return l->slots[--l->n];
	uint32_t t = atomic_load_explicit(top, memory_order_relaxed);
	if (t >= max)
		return CARRY_NONE;
	/* release: before the slot is used it counts as one that may be. */
	atomic_store_explicit(top, t + 1, memory_order_release);
	return t;
}

/* --- the region ------------------------------------------------------------------------------------- */
int carry_create(int *ret_fd)
{
	struct header h = {.magic = MAGIC,
		.version = VERSION,
		.req_size = sizeof(struct carry_req),
		.file_size = sizeof(struct file),
		.node_size = sizeof(struct carry_node)};
	int fd = memfd_create("vecfs-carry", MFD_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	while (rc == 0 && h.epoch == 0)
		if (getrandom(&h.epoch, sizeof h.epoch, 0) != (ssize_t)sizeof h.epoch &&
			errno != EINTR)
			rc = -errno;
	if (rc == 0 && ftruncate(fd, (off_t)REGION_SIZE) < 0)
		rc = -errno;
	if (rc == 0 && pwrite(fd, &h, sizeof h, 0) != (ssize_t)sizeof h)
		rc = errno ? -errno : -EIO;
	if (rc) {
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

/* What a request had decided happens; see the essay. */
static void settle(struct carry *c)
{
	uint32_t n = VX_MIN(atomic_load(&c->h->reqs_top), CARRY_REQS);

	for (uint32_t i = 0; i < n; i++) {
		struct carry_req *r = req_at(c, i);
		if (atomic_load(&r->unique) == 0) {
			list_push(&c->reqs, i);
			continue;
		}
		if (atomic_load(&r->stage) != CARRY_DONE || r->handle >= CARRY_HANDLES)
			continue;
		struct file *f = file_at(c, r->handle);
		if (atomic_load(&f->version) + 1 == r->version)
			atomic_store(&f->version, r->version);
	}
}

static int note_node(void *arg, uint32_t slot, const struct carry_node *n)
{
	struct carry *c = arg;

	if (n->ino == 0)
		list_push(&c->nodes, slot);
	return 0;
}

static int each_node(struct carry *c, bool all,
	int (*each)(void *arg, uint32_t slot, const struct carry_node *n), void *arg);

int carry_open(int fd, struct carry **ret, struct vx_err *err)
{
	struct carry *c = calloc(1, sizeof *c);
	int rc = 0;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	vx_mutex_init(&c->lock, LOCK_SLOTS);
	c->map = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c->map == MAP_FAILED) {
		c->map = NULL;
		rc = vx_err_set(err, -errno, "the region of open files cannot be mapped: %s",
			strerror(errno));
		goto out;
	}
	c->h = (void *)c->map;
	if (c->h->magic != MAGIC)
		rc = vx_err_set(err, -EUCLEAN, "no region of open files");
	else if (c->h->version != VERSION || c->h->req_size != sizeof(struct carry_req) ||
		 c->h->file_size != sizeof(struct file) ||
		 c->h->node_size != sizeof(struct carry_node))
		rc = vx_err_set(err, -EOPNOTSUPP, "the region of open files has another layout");
	if (rc)
		goto out;
	atomic_fetch_add(&c->h->generation, 1);
	settle(c);
	uint32_t top = VX_MIN(atomic_load(&c->h->files_top), CARRY_HANDLES);
	for (uint32_t i = 0; i < top; i++)
		if (atomic_load(&file_at(c, i)->id) == 0)
			list_push(&c->files, i);
	each_node(c, true, note_node, c);
	*ret = c;
	return 0;
out:
	carry_free(c);
	return rc;
}

void carry_free(struct carry *c)
{
	if (!c)
		return;
	if (c->map)
		munmap(c->map, MAPPED);
	close(c->fd);
	vx_mutex_release(&c->lock);
	free(c->files.slots);
	free(c->nodes.slots);
	free(c->reqs.slots);
	free(c);
}

uint64_t carry_epoch(const struct carry *c)
{
	return c->h->epoch;
}

uint64_t carry_serial(struct carry *c)
{
	return atomic_fetch_add(&c->h->serial, 1) + 1;
}

uint32_t carry_generation(const struct carry *c)
{
	return atomic_load(&c->h->generation);
}

int carry_set_init(struct carry *c, const void *p, size_t n)
{
	if (n > CARRY_INIT_MAX)
		return -EMSGSIZE;
	memcpy(c->h->init, p, n);
	atomic_store_explicit(&c->h->init_len, (uint32_t)n, memory_order_release);
	return 0;
}

const void *carry_init(const struct carry *c, size_t *ret_n)
{
	uint32_t n = atomic_load_explicit(&c->h->init_len, memory_order_acquire);

	if (n == 0 || n > CARRY_INIT_MAX)
		return NULL;
	*ret_n = n;
	return c->h->init;
}

void carry_set_resends(struct carry *c, bool resends)
{
	atomic_store(&c->h->resends, resends);
}

bool carry_resends(const struct carry *c)
{
	return atomic_load(&c->h->resends) != 0;
}

/* --- progress ----------------------------------------------------------------------------------------- */
void carry_progress_set(struct carry_progress *p, const struct carry_sum *s)
{
	uint32_t w = 1 - (atomic_load_explicit(&p->which, memory_order_relaxed) & 1);

	p->s[w] = *s;
	atomic_store_explicit(&p->which, w, memory_order_release);
}

void carry_progress_get(const struct carry_progress *p, struct carry_sum *ret)
{
	*ret = p->s[atomic_load_explicit(&p->which, memory_order_acquire) & 1];
}

static const struct carry_sum nothing;

/* --- requests ------------------------------------------------------------------------------------------- */
struct carry_req *carry_req_take(struct carry *c)
{
	vx_lock(&c->lock);
	uint32_t i = list_pop(&c->reqs, &c->h->reqs_top, CARRY_REQS);
	vx_unlock(&c->lock);
	return i == CARRY_NONE ? NULL : req_at(c, i);
}

void carry_req_put(struct carry *c, struct carry_req *r)
{
	assert(atomic_load(&r->unique) == 0);
	vx_lock(&c->lock);
	list_push(&c->reqs, (uint32_t)(((uint8_t *)r - (c->map + REQS_AT)) / 256));
	vx_unlock(&c->lock);
}

struct carry_req *carry_req_find(struct carry *c, uint64_t unique)
{
	uint32_t n = VX_MIN(atomic_load(&c->h->reqs_top), CARRY_REQS);

	for (uint32_t i = 0; i < n; i++)
		if (atomic_load(&req_at(c, i)->unique) == unique)
			return req_at(c, i);
	return NULL;
}

void carry_req_begin(struct carry_req *r, uint64_t unique)
{
	r->status = 0;
	r->value = 0;
	r->handle = CARRY_NONE;
	carry_progress_set(&r->progress, &nothing);
	atomic_store_explicit(&r->stage, CARRY_FRESH, memory_order_relaxed);
	atomic_store_explicit(&r->unique, unique, memory_order_release);
}

void carry_req_intend(struct carry_req *r, uint64_t value)
{
	r->value = value;
	atomic_store_explicit(&r->stage, CARRY_BEGUN, memory_order_release);
}

void carry_req_done(struct carry_req *r, int status, uint64_t value)
{
	r->status = status;
	r->value = value;
	r->handle = CARRY_NONE;
	atomic_store_explicit(&r->stage, CARRY_DONE, memory_order_release);
}

void carry_req_end(struct carry_req *r)
{
	atomic_store_explicit(&r->unique, 0, memory_order_release);
}

/* --- open files --------------------------------------------------------------------------------------------- */
/* Writes the copy of the state that does not count. */
static int write_state(struct carry *c, struct file *f, uint32_t slot, const void *p, size_t n)
{
	unsigned which = (unsigned)(atomic_load_explicit(&f->version, memory_order_relaxed) + 1) &
			 1;
	struct state *s = &f->state[which];

	if (n > CARRY_STATE_MAX)
		return -EFBIG;
	s->len = n;
	s->sum = hash_xxh3(p, n, slot);
	if (n <= INLINE_MAX) {
		if (n)
			memcpy(s->bytes, p, n);
		return 0;
	}
	f->large[which] = VX_MAX(f->large[which], (uint64_t)n);
	return put_bytes(c, p, n, large_at(slot, which));
}

int carry_file_new(
	struct carry *c, struct carry_file *in, const void *state, size_t n, uint64_t *ret_id)
{
	vx_lock(&c->lock);
	uint32_t slot = list_pop(&c->files, &c->h->files_top, CARRY_HANDLES);
	vx_unlock(&c->lock);
	if (slot == CARRY_NONE)
		return -ENFILE;
	struct file *f = file_at(c, slot);
	f->unique = in->unique;
	f->ino = in->ino;
	f->flags = in->flags;
	f->dir = in->dir;
	carry_progress_set(&f->progress, &nothing);
	int rc = write_state(c, f, slot, state, n);
	if (rc) {
		vx_lock(&c->lock);
		list_push(&c->files, slot);
		vx_unlock(&c->lock);
		return rc;
	}
	atomic_fetch_add_explicit(&f->version, 1, memory_order_release);
	in->slot = slot;
	in->id = carry_serial(c) << 16 | slot;
	*ret_id = in->id;
	atomic_store_explicit(&f->id, in->id, memory_order_release);
	return 0;
}

void carry_file_free(struct carry *c, uint64_t id)
{
	uint32_t slot = carry_slot_of(id);
	struct file *f = file_at(c, slot);

	if (atomic_load(&f->id) != id)
		return;
	atomic_store_explicit(&f->id, 0, memory_order_release);
	for (unsigned a = 0; a < 3; a++) {
		if (f->large[a] <= LARGE_KEEP)
			continue;
		punch(c, large_at(slot, a), f->large[a]);
		f->large[a] = 0;
	}
	vx_lock(&c->lock);
	list_push(&c->files, slot);
	vx_unlock(&c->lock);
}

int carry_file_each(struct carry *c, int (*each)(void *arg, const struct carry_file *f), void *arg)
{
	uint32_t top = VX_MIN(atomic_load(&c->h->files_top), CARRY_HANDLES);
	int rc = 0;

	for (uint32_t i = 0; i < top && !rc; i++) {
		const struct file *f = file_at(c, i);
		struct carry_file out = {.id = atomic_load(&f->id),
			.unique = f->unique,
			.ino = f->ino,
			.flags = f->flags,
			.dir = f->dir != 0,
			.slot = i};
		if (out.id)
			rc = each(arg, &out);
	}
	return rc;
}

uint64_t carry_file_by(struct carry *c, uint64_t unique)
{
	uint32_t top = VX_MIN(atomic_load(&c->h->files_top), CARRY_HANDLES);

	for (uint32_t i = 0; i < top; i++) {
		const struct file *f = file_at(c, i);
		uint64_t id = atomic_load(&f->id);
		if (id && f->unique == unique)
			return id;
	}
	return 0;
}

int carry_state_put(struct carry *c, uint32_t slot, const void *p, size_t n, struct carry_req *r,
	int status, uint64_t value)
{
	struct file *f = file_at(c, slot);
	int rc = write_state(c, f, slot, p, n);

	if (rc)
		return rc;
	uint64_t next = atomic_load_explicit(&f->version, memory_order_relaxed) + 1;
	if (r) {
		r->status = status;
		r->value = value;
		r->version = next;
		r->handle = slot;
		atomic_store_explicit(&r->stage, CARRY_DONE, memory_order_release);
	}
	atomic_store_explicit(&f->version, next, memory_order_release);
	return 0;
}

void carry_file_lose(struct carry *c, uint32_t slot)
{
	file_at(c, slot)->ino = 0;
}

int carry_state_get(struct carry *c, uint32_t slot, struct buf *out)
{
	struct file *f = file_at(c, slot);
	unsigned which = (unsigned)atomic_load(&f->version) & 1;
	const struct state *s = &f->state[which];
	size_t at = out->len;
	int rc;

	if (s->len > CARRY_STATE_MAX)
		return -EUCLEAN;
	rc = buf_reserve(out, (size_t)s->len + 1);
	if (rc)
		return rc;
	if (s->len <= INLINE_MAX)
		memcpy(out->data + at, s->bytes, (size_t)s->len);
	else
		rc = get_bytes(c, out->data + at, (size_t)s->len, large_at(slot, which));
	if (rc == 0 && hash_xxh3(out->data + at, (size_t)s->len, slot) != s->sum)
		rc = -EUCLEAN;
	if (rc == 0)
		out->len += (size_t)s->len;
	return rc;
}

struct carry_progress *carry_file_progress(struct carry *c, uint32_t slot)
{
	return &file_at(c, slot)->progress;
}

int carry_journal_put(struct carry *c, uint32_t slot, const void *p, size_t n, uint64_t off)
{
	struct file *f = file_at(c, slot);

	if (off + n > LARGE_SIZE)
		return -EFBIG;
	f->large[2] = VX_MAX(f->large[2], off + n);
	return put_bytes(c, p, n, large_at(slot, 2) + (off_t)off);
}

int carry_journal_get(struct carry *c, uint32_t slot, size_t n, struct buf *out)
{
	int rc = n > LARGE_SIZE ? -EUCLEAN : buf_reserve(out, n + 1);

	if (rc == 0)
		rc = get_bytes(c, out->data + out->len, n, large_at(slot, 2));
	if (rc == 0)
		out->len += n;
	return rc;
}

/* --- nodes ---------------------------------------------------------------------------------------------------- */
struct node_cell {
	uint64_t sum;
	struct carry_node n;
};

uint32_t carry_node_take(struct carry *c)
{
	vx_lock(&c->lock);
	uint32_t slot = list_pop(&c->nodes, &c->h->nodes_top, CARRY_NODES);
	vx_unlock(&c->lock);
	return slot;
}

void carry_node_put(struct carry *c, uint32_t slot, const struct carry_node *n)
{
	struct node_cell cell;

	memset(&cell, 0, sizeof cell);
	cell.n = *n;
	cell.sum = hash_xxh3(&cell.n, sizeof cell.n, slot);
	int rc = put_bytes(c, &cell, sizeof cell, (off_t)(NODES_AT + (uint64_t)slot * NODE_SIZE));
	if (rc)
		log_warn("carry", "a name cannot be carried: %s", strerror(-rc));
}

void carry_node_free(struct carry *c, uint32_t slot)
{
	const struct carry_node none = {.ino = 0};

	carry_node_put(c, slot, &none);
	vx_lock(&c->lock);
	list_push(&c->nodes, slot);
	vx_unlock(&c->lock);
}

/* A cell that was taken and never written is all zeros: free. */
static int each_node(struct carry *c, bool all,
	int (*each)(void *arg, uint32_t slot, const struct carry_node *n), void *arg)
{
	uint32_t top = VX_MIN(atomic_load(&c->h->nodes_top), CARRY_NODES);
	uint8_t page[NODES_READ * NODE_SIZE];
	struct node_cell cell;
	int rc = 0, unread = 0;

	for (uint32_t i = 0; i < top && !rc; i++) {
		uint32_t k = i % NODES_READ;
		if (k == 0)
			unread = get_bytes(
				c, page, sizeof page, (off_t)(NODES_AT + (uint64_t)i * NODE_SIZE));
		if (unread)
			continue;
		memcpy(&cell, page + (size_t)k * NODE_SIZE, sizeof cell);
		if (cell.n.ino && cell.sum != hash_xxh3(&cell.n, sizeof cell.n, i)) {
			log_error("carry", "name %u is damaged; its file is gone", i);
			continue;
		}
		cell.n.name[CARRY_NAME_MAX] = 0;
		if (cell.n.ino || all)
			rc = each(arg, i, &cell.n);
	}
	return rc;
}

int carry_node_each(struct carry *c,
	int (*each)(void *arg, uint32_t slot, const struct carry_node *n), void *arg)
{
	return each_node(c, false, each, arg);
}

/* --- contents ---------------------------------------------------------------------------------------------------- */
uint32_t carry_content_take(struct carry *c)
{
	uint32_t slot = CARRY_NONE;

	vx_lock(&c->lock);
	for (uint32_t i = 0; i < CARRY_CONTENTS && slot == CARRY_NONE; i++) {
		uint32_t k = (c->contents_top + i) % CARRY_CONTENTS;
		if (!(c->content_used[k / 8] >> k % 8 & 1))
			slot = k;
	}
	if (slot != CARRY_NONE) {
		c->content_used[slot / 8] |= (uint8_t)(1u << slot % 8);
		c->contents_top = slot;
	}
	vx_unlock(&c->lock);
	if (slot != CARRY_NONE) /* what a killed worker left there */
		punch(c, carry_content_off(slot), CARRY_CONTENT_MAX);
	return slot;
}

void carry_content_claim(struct carry *c, uint32_t slot)
{
	vx_lock(&c->lock);
	if (slot < CARRY_CONTENTS)
		c->content_used[slot / 8] |= (uint8_t)(1u << slot % 8);
	vx_unlock(&c->lock);
}

void carry_content_free(struct carry *c, uint32_t slot)
{
	punch(c, carry_content_off(slot), CARRY_CONTENT_MAX);
	vx_lock(&c->lock);
	c->content_used[slot / 8] &= (uint8_t) ~(1u << slot % 8);
	vx_unlock(&c->lock);
}

int carry_fd(const struct carry *c)
{
	return c->fd;
}

off_t carry_content_off(uint32_t slot)
{
	return (off_t)(CONTENTS_AT + (uint64_t)slot * CARRY_CONTENT_MAX);
}
