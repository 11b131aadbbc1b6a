/* fs_node.c - inode numbers and the table of nodes.
 *
 * An inode number, most significant bit first:
 *
 *	1 f ssssssss cccccccccccccccccccccc r{32}	record: f .f32, s shard, c cid, r rowid
 *	0 1 c{32} i{16} k{8}  (from bit 61 down)	fixed file: c cid, i option, k kind
 *	0 0 1 n{61}					node number n of the table
 *	1						the root
 *
 * Record and fixed numbers hold everything, so the kernel's references to them need no bookkeeping and
 * they are the same after a restart.  A record whose numbers do not fit (a cid over 22 bits, a rowid over
 * 32) is shown through a node, found by its file name.  Numbers of nodes are never used twice.
 *
 * A node lives while the kernel refers to it (nlookup), a request or an open file uses it (pins), or it
 * is kept: a staging file nobody has open, or a name of inbox/ that lingers.  Those are in a list by the
 * time they go, and are dropped by the next one that comes or by who looks for a name; no timer runs for
 * them.  fs.lock guards all of it and is never held for long.
 *
 * In a supervised daemon each node has a copy in the carried region, written after each change, from which the
 * next worker makes it anew.  The kernel says only once that it forgets: what a worker had read of that and not
 * noted when it was killed keeps a node until the mount ends.
 */
#include "daemon/fs_i.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

#define INO_RECORD ((uint64_t)1 << 63)
#define INO_F32    ((uint64_t)1 << 62)
#define INO_FIXED  ((uint64_t)1 << 62)
#define INO_NODE   ((uint64_t)1 << 61)

#define LINGER_NS  (LINGER_S * (uint64_t)1000000000)

/* --- numbers ------------------------------------------------------------------------------- */
bool loc_record_fits(const struct loc *l)
{
	return l->cid < 1u << 22 && l->handle >> 48 < 256 &&
	       (l->handle & 0xffffffffffffu) <= UINT32_MAX;
}

uint64_t loc_ino(const struct loc *l)
{
	if (l->node)
		return l->node->ino;
	if (l->kind == K_ROOT)
		return FUSE_ROOT_ID;
	if (l->kind == K_JSON || l->kind == K_F32)
		return INO_RECORD | (l->kind == K_F32 ? INO_F32 : 0) | l->handle >> 48 << 54 |
		       (uint64_t)l->cid << 32 | (uint32_t)l->handle;
	return INO_FIXED | (uint64_t)l->cid << 24 | (uint64_t)(l->idx & 0xffff) << 8 |
	       (uint64_t)l->kind;
}

static struct node **ino_slot(struct tree *t, uint64_t ino)
{
	struct node **p = &t->by_ino[ino & (t->n_slots - 1)];

	while (*p && (*p)->ino != ino)
		p = &(*p)->next_ino;
	return p;
}

int loc_get(struct fs *fs, fuse_ino_t ino, struct loc *ret)
{
	struct loc l = {.kind = K_NONE};

	if (ino == FUSE_ROOT_ID) {
		l.kind = K_ROOT;
	} else if (ino & INO_RECORD) {
		l.kind = ino & INO_F32 ? K_F32 : K_JSON;
		l.cid = (uint32_t)(ino >> 32) & 0x3fffff;
		l.handle = (ino >> 54 & 0xff) << 48 | (uint32_t)ino;
	} else if (ino & INO_FIXED) {
		l.kind = (enum fs_kind)(ino & 0xff);
		l.idx = (uint32_t)(ino >> 8) & 0xffff;
		l.cid = (uint32_t)(ino >> 24);
		if (l.kind <= K_ROOT || l.kind >= K_JSON)
			return -ESTALE;
	} else {
		vx_lock(&fs->lock);
		struct node *n = *ino_slot(&fs->tree, ino);
		if (n)
			n->pins++;
		vx_unlock(&fs->lock);
		if (!n)
			return -ESTALE;
		l.kind = n->kind;
		l.cid = n->cid;
		l.node = n;
	}
	*ret = l;
	return 0;
}

void loc_put(struct fs *fs, struct loc *l)
{
	if (l->node)
		node_unpin(fs, l->node);
	l->node = NULL;
}

/* --- the table ------------------------------------------------------------------------------- */
int tree_init(struct tree *t)
{
	t->n_slots = 1024;
	t->by_ino = calloc(t->n_slots, sizeof *t->by_ino);
	t->by_key = calloc(t->n_slots, sizeof *t->by_key);
	t->next_ino = 1;
	return t->by_ino && t->by_key ? 0 : -ENOMEM;
}

/* Copies what the next worker needs.  fs.lock is held, or nobody else knows the node. */
static void carry_locked(struct tree *t, const struct node *n)
{
	struct carry_node c;
	bool on_disk = false;

	if (n->carried == CARRY_NONE)
		return;
	memset(&c, 0, sizeof c);
	c.ino = n->ino;
	c.nlookup = n->nlookup;
	c.size = atomic_load(&n->size);
	c.mtime_ns = atomic_load(&n->mtime_ns);
	c.touched_ns = n->touched_ns;
	c.gone_ns = n->gone_ns;
	c.kind = (uint32_t)n->kind;
	c.cid = n->cid;
	c.mode = atomic_load(&n->mode);
	c.k = n->ask.k;
	c.ef = n->ask.ef;
	c.recall = n->ask.recall;
	c.exact = n->ask.exact;
	c.format = (uint8_t)n->ask.format;
	c.stem_len = (uint32_t)n->stem_len;
	c.by_name = n->by_name;
	c.keep = n->keep;
	c.content = n->content ? content_slot(n->content, &on_disk) : CARRY_NONE;
	c.on_disk = on_disk;
	memcpy(c.name, n->name, strlen(n->name) + 1);
	carry_node_put(t->carry, n->carried, &c);
}

void node_carry(struct fs *fs, struct node *n)
{
	if (n->carried == CARRY_NONE)
		return;
	vx_lock(&fs->lock);
	carry_locked(&fs->tree, n);
	vx_unlock(&fs->lock);
}

static uint64_t key_hash(enum fs_kind kind, uint32_t cid, const char *name)
{
	return hash_xxh3(name, strlen(name), (uint64_t)cid << 8 | (uint64_t)kind);
}

static struct node **key_slot(struct tree *t, enum fs_kind kind, uint32_t cid, const char *name)
{
	struct node **p = &t->by_key[key_hash(kind, cid, name) & (t->n_slots - 1)];

	while (*p && ((*p)->kind != kind || (*p)->cid != cid || strcmp((*p)->name, name)))
		p = &(*p)->next_key;
	return p;
}

/* Doubles both tables; without memory they stay as they are, only slower. */
static void tree_grow(struct tree *t)
{
	size_t n = t->n_slots * 2;
	struct node **ino = calloc(n, sizeof *ino), **key = calloc(n, sizeof *key);

	if (!ino || !key) {
		free(ino);
		free(key);
		return;
	}
	for (size_t i = 0; i < t->n_slots; i++) {
		struct node *nd, *next;
		for (nd = t->by_ino[i]; nd; nd = next) {
			next = nd->next_ino;
			nd->next_ino = ino[nd->ino & (n - 1)];
			ino[nd->ino & (n - 1)] = nd;
		}
		for (nd = t->by_key[i]; nd; nd = next) {
			next = nd->next_key;
			size_t s = key_hash(nd->kind, nd->cid, nd->name) & (n - 1);
			nd->next_key = key[s];
			key[s] = nd;
		}
	}
	free(t->by_ino);
	free(t->by_key);
	t->by_ino = ino;
	t->by_key = key;
	t->n_slots = n;
}

static void node_free(struct fs *fs, struct node *n)
{
	if (n->carried != CARRY_NONE && !fs->keeps)
		carry_node_free(fs->carry, n->carried);
	content_free(fs, n->content);
	free(n->name);
	free(n);
}

void tree_release(struct fs *fs)
{
	struct tree *t = &fs->tree;

	for (size_t i = 0; t->by_ino && i < t->n_slots; i++) {
		for (struct node *n = t->by_ino[i], *next; n; n = next) {
			next = n->next_ino;
			node_free(fs, n);
		}
	}
	free(t->by_ino);
	free(t->by_key);
	*t = (struct tree){0};
}

int node_new(struct fs *fs, const struct node_spec *spec, struct node **ret)
{
	struct node *n = calloc(1, sizeof *n);

	if (!n || !(n->name = strdup(spec->name))) {
		free(n);
		return -ENOMEM;
	}
	n->kind = spec->kind;
	n->cid = spec->cid;
	n->stem_len = spec->stem_len ? spec->stem_len : strlen(spec->name);
	n->ask = spec->ask;
	n->pins = 1;
	n->by_name = spec->by_name;
	n->keep = spec->keep;
	n->touched_ns = clock_mono_ns();
	n->mtime_ns = clock_real_ns();
	n->content = spec->content;
	n->carried = fs->carry && strlen(spec->name) <= CARRY_NAME_MAX ? carry_node_take(fs->carry)
								       : CARRY_NONE;

	vx_lock(&fs->lock);
	struct tree *t = &fs->tree;
	if (spec->by_name) {
		/* Two lookups of one name may race to this place: the first one's node counts. */
		struct node *other = *key_slot(t, spec->kind, spec->cid, spec->name);
		if (other) {
			other->pins++;
			vx_unlock(&fs->lock);
			n->content = NULL;
			node_free(fs, n);
			content_free(fs, spec->content);
			*ret = other;
			return 0;
		}
	}
	if (t->n_nodes >= t->n_slots)
		tree_grow(t);
	n->ino = INO_NODE | (t->carry ? carry_serial(t->carry) : t->next_ino++);
	*ino_slot(t, n->ino) = n;
	if (spec->by_name)
		*key_slot(t, spec->kind, spec->cid, spec->name) = n;
	t->n_nodes++;
	carry_locked(t, n);
	vx_unlock(&fs->lock);
	*ret = n;
	return 0;
}

/* Takes 'n' out of the list of those that linger. */
static void revive_locked(struct tree *t, struct node *n)
{
	if (!n->gone_ns)
		return;
	*(n->prev_gone ? &n->prev_gone->next_gone : &t->gone_first) = n->next_gone;
	*(n->next_gone ? &n->next_gone->prev_gone : &t->gone_last) = n->prev_gone;
	n->prev_gone = n->next_gone = NULL;
	n->gone_ns = 0;
	n->keep = false;
	t->n_gone--;
}

static void linger_locked(struct tree *t, struct node *n, uint64_t until_ns)
{
	revive_locked(t, n);
	n->gone_ns = until_ns;
	n->keep = true;
	n->prev_gone = t->gone_last;
	*(t->gone_last ? &t->gone_last->next_gone : &t->gone_first) = n;
	t->gone_last = n;
	t->n_gone++;
}

/* Takes 'n' out of the table of names. */
static void unname_locked(struct tree *t, struct node *n)
{
	revive_locked(t, n);
	if (!n->by_name)
		return;
	struct node **p = key_slot(t, n->kind, n->cid, n->name);
	assert(*p == n);
	*p = n->next_key;
	n->next_key = NULL;
	n->by_name = false;
}

/* Removes 'n' when nothing refers to it; the caller frees it outside the lock. */
static bool collect_locked(struct tree *t, struct node *n)
{
	if (n->nlookup || n->pins || n->keep)
		return false;
	unname_locked(t, n);
	struct node **p = ino_slot(t, n->ino);
	assert(*p == n);
	*p = n->next_ino;
	t->n_nodes--;
	return true;
}

/* Drops what has lingered long enough, and the oldest beyond LINGER_MAX; returns a chain for free_dead. */
static struct node *expire_locked(struct tree *t, uint64_t now)
{
	struct node *dead = NULL, *n;

	for (size_t left = t->n_gone; left && (n = t->gone_first); left--) {
		if (n->gone_ns > now && t->n_gone <= LINGER_MAX)
			break;
		if (n->opens) { /* by a shell that flushed it: it may go on */
			linger_locked(t, n, now + LINGER_NS);
			continue;
		}
		unname_locked(t, n);
		if (collect_locked(t, n)) {
			n->next_ino = dead;
			dead = n;
		}
	}
	return dead;
}

static void free_dead(struct fs *fs, struct node *dead)
{
	for (struct node *next; dead; dead = next) {
		next = dead->next_ino;
		node_free(fs, dead);
	}
}

struct node *node_find(struct fs *fs, enum fs_kind kind, uint32_t cid, const char *name)
{
	struct node *dead = NULL;

	vx_lock(&fs->lock);
	if (kind == K_IN)
		dead = expire_locked(&fs->tree, clock_mono_ns());
	struct node *n = *key_slot(&fs->tree, kind, cid, name);
	if (n)
		n->pins++;
	vx_unlock(&fs->lock);
	free_dead(fs, dead);
	return n;
}

void node_linger(struct fs *fs, struct node *n)
{
	struct node *dead = NULL;
	uint64_t now = clock_mono_ns();

	vx_lock(&fs->lock);
	if (n->by_name) {
		linger_locked(&fs->tree, n, now + LINGER_NS);
		carry_locked(&fs->tree, n);
		dead = expire_locked(&fs->tree, now);
	}
	vx_unlock(&fs->lock);
	free_dead(fs, dead);
}

void node_revive(struct fs *fs, struct node *n)
{
	vx_lock(&fs->lock);
	if (n->gone_ns) {
		revive_locked(&fs->tree, n);
		carry_locked(&fs->tree, n);
	}
	vx_unlock(&fs->lock);
}

bool node_lingers(struct fs *fs, struct node *n)
{
	vx_lock(&fs->lock);
	bool is = n->gone_ns != 0;
	vx_unlock(&fs->lock);
	return is;
}

void node_pin(struct fs *fs, struct node *n)
{
	vx_lock(&fs->lock);
	n->pins++;
	vx_unlock(&fs->lock);
}

void node_unpin(struct fs *fs, struct node *n)
{
	vx_lock(&fs->lock);
	assert(n->pins > 0);
	n->pins--;
	bool dead = collect_locked(&fs->tree, n);
	vx_unlock(&fs->lock);
	if (dead)
		node_free(fs, n);
}

void node_open(struct fs *fs, struct node *n)
{
	vx_lock(&fs->lock);
	n->opens++;
	vx_unlock(&fs->lock);
}

uint32_t node_close(struct fs *fs, struct node *n)
{
	vx_lock(&fs->lock);
	assert(n->opens > 0);
	uint32_t left = --n->opens;
	n->touched_ns = clock_mono_ns();
	vx_unlock(&fs->lock);
	return left;
}

void node_unlink(struct fs *fs, struct node *n)
{
	vx_lock(&fs->lock);
	unname_locked(&fs->tree, n);
	n->keep = false;
	carry_locked(&fs->tree, n);
	vx_unlock(&fs->lock);
}

int node_rename(struct fs *fs, struct node *n, const char *name)
{
	char *copy = strdup(name);

	if (!copy)
		return -ENOMEM;
	struct node *old = node_find(fs, n->kind, n->cid, name);
	if (old) {
		node_unlink(fs, old);
		node_unpin(fs, old);
	}
	vx_lock(&fs->lock);
	struct tree *t = &fs->tree;
	bool named = n->by_name;
	unname_locked(t, n);
	char *was = n->name;
	n->name = copy;
	struct node **p = key_slot(t, n->kind, n->cid, name);
	if (named && !*p) {
		n->by_name = true;
		*p = n;
	}
	carry_locked(t, n);
	vx_unlock(&fs->lock);
	free(was);
	return 0;
}

/* Nodes without a kernel reference stay only for their pins: every loc that is replied with counts one. */
void loc_ref(struct fs *fs, const struct loc *l)
{
	if (!l->node)
		return;
	vx_lock(&fs->lock);
	l->node->nlookup++;
	carry_locked(&fs->tree, l->node);
	vx_unlock(&fs->lock);
}

void loc_forget(struct fs *fs, fuse_ino_t ino, uint64_t n)
{
	struct node *dead = NULL;

	if (!(ino & INO_NODE) || ino & (INO_RECORD | INO_FIXED))
		return;
	vx_lock(&fs->lock);
	struct node *nd = *ino_slot(&fs->tree, ino);
	if (nd) {
		nd->nlookup -= VX_MIN(n, nd->nlookup);
		if (collect_locked(&fs->tree, nd))
			dead = nd;
		else
			carry_locked(&fs->tree, nd);
	}
	vx_unlock(&fs->lock);
	if (dead)
		node_free(fs, dead);
}

int node_names(struct fs *fs, enum fs_kind kind, uint32_t cid, struct buf *out)
{
	int rc = 0;

	vx_lock(&fs->lock);
	struct tree *t = &fs->tree;
	for (size_t i = 0; i < t->n_slots && !rc; i++) {
		for (struct node *n = t->by_key[i]; n && !rc; n = n->next_key) {
			if (n->kind == kind && n->cid == cid && (n->keep || n->opens) &&
				!n->gone_ns)
				rc = buf_append(out, n->name, strlen(n->name) + 1);
		}
	}
	vx_unlock(&fs->lock);
	return rc;
}

void node_sweep(struct fs *fs, enum fs_kind kind, uint32_t cid, uint64_t before_ns)
{
	struct node *dead = NULL;

	vx_lock(&fs->lock);
	struct tree *t = &fs->tree;
	for (size_t i = 0; i < t->n_slots; i++) {
		for (struct node *n = t->by_ino[i], *next; n; n = next) {
			next = n->next_ino;
			if (!n->keep || n->opens || (cid && n->cid != cid) ||
				(kind && n->kind != kind) || n->touched_ns >= before_ns)
				continue;
			unname_locked(t, n);
			n->keep = false;
			if (collect_locked(t, n)) {
				n->next_ino = dead;
				dead = n;
			} else {
				carry_locked(t, n);
			}
		}
	}
	vx_unlock(&fs->lock);
	free_dead(fs, dead);
}

/* --- taking over ------------------------------------------------------------------------------------- */
int node_restore(struct fs *fs, uint32_t slot, const struct carry_node *c)
{
	struct node *n = calloc(1, sizeof *n);
	int rc = n && (n->name = strdup(c->name)) ? 0 : -ENOMEM;

	if (rc == 0 && (c->kind <= K_F32 || c->kind >= N_KINDS || !(c->ino & INO_NODE)))
		rc = -EUCLEAN;
	if (rc == 0 && c->content != CARRY_NONE)
		rc = content_restore(fs, c->content, c->on_disk, c->size, &n->content);
	if (rc) {
		if (n)
			free(n->name);
		free(n);
		return rc;
	}
	n->ino = c->ino;
	n->nlookup = c->nlookup;
	atomic_store(&n->size, c->size);
	atomic_store(&n->mtime_ns, c->mtime_ns);
	atomic_store(&n->mode, c->mode);
	n->touched_ns = c->touched_ns;
	n->kind = (enum fs_kind)c->kind;
	n->cid = c->cid;
	n->ask = (struct ask_opts){.k = c->k,
		.ef = c->ef,
		.recall = c->recall,
		.exact = c->exact,
		.format = (enum answer_format)c->format};
	n->stem_len = VX_MIN((size_t)c->stem_len, strlen(n->name));
	n->keep = c->keep;
	n->carried = slot;

	vx_lock(&fs->lock);
	struct tree *t = &fs->tree;
	if (t->n_nodes >= t->n_slots)
		tree_grow(t);
	struct node **p = ino_slot(t, n->ino), **k = key_slot(t, n->kind, n->cid, n->name);
	if (*p) {
		vx_unlock(&fs->lock);
		n->carried = CARRY_NONE;
		node_free(fs, n);
		return -EEXIST;
	}
	*p = n;
	t->n_nodes++;
	if (c->by_name && !*k) {
		n->by_name = true;
		*k = n;
	}
	if (c->gone_ns && n->by_name)
		linger_locked(t, n, c->gone_ns);
	vx_unlock(&fs->lock);
	return 0;
}

void node_sweep_unused(struct fs *fs)
{
	struct node *dead = NULL;

	vx_lock(&fs->lock);
	struct tree *t = &fs->tree;
	for (size_t i = 0; i < t->n_slots; i++) {
		for (struct node *n = t->by_ino[i], *next; n; n = next) {
			next = n->next_ino;
			if (collect_locked(t, n)) {
				n->next_ino = dead;
				dead = n;
			}
		}
	}
	vx_unlock(&fs->lock);
	free_dead(fs, dead);
}
