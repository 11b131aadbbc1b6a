/* Fuzzes the region that outlives a worker.  The input is a list of steps: open files are made, changed and closed, requests
 * begun and done, nodes put and taken away, and the worker dies between any two of them; a model says what the next one must
 * find.  Then bytes of the region are overwritten, as the input says, and another worker opens it: it finds a state whole or
 * says that it is damaged, and touches no memory but the region. */

/* A header that was overwritten says that every slot was used, and each is looked at, its page made: with a million of
 * them that takes a second. */
#define CARRY_REQS    32u
#define CARRY_HANDLES 32u
#define CARRY_NODES   32u
#include "daemon/carry.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILES 6u
#define NODES 6u

static void must(bool ok)
{
	if (!ok)
		abort();
}

struct model_file {
	uint64_t id;
	size_t len;
	uint8_t fill;
};
struct model_node {
	uint32_t slot;
	uint64_t ino, size;
};

static struct carry *c;
static struct model_file files[FILES];
static struct model_node nodes[NODES];
static uint8_t state[4096];

static const uint8_t *fill(uint8_t b, size_t n)
{
	memset(state, b, n);
	return state;
}

static void check_file(const struct model_file *f)
{
	struct buf b = BUF_INIT;

	must(carry_state_get(c, carry_slot_of(f->id), &b) == 0);
	must(b.len == f->len);
	if (b.len)
		must(memcmp(b.data, fill(f->fill, b.len), b.len) == 0);
	buf_release(&b);
}

static int count_file(void *arg, const struct carry_file *f)
{
	size_t *n = arg, i;

	for (i = 0; i < FILES && files[i].id != f->id; i++)
		;
	must(i < FILES && f->ino == 1000 + i && f->flags == i && carry_slot_of(f->id) == f->slot);
	must(carry_file_by(c, f->unique) == f->id);
	++*n;
	return 0;
}

static int count_node(void *arg, uint32_t slot, const struct carry_node *n)
{
	size_t *count = arg, i;

	for (i = 0; i < NODES && !(nodes[i].ino && nodes[i].slot == slot); i++)
		;
	must(i < NODES && n->ino == nodes[i].ino && n->size == nodes[i].size);
	++*count;
	return 0;
}

/* What is there is what the model has, no more and no less. */
static void check_all(void)
{
	size_t n_files = 0, n_nodes = 0, want_files = 0, want_nodes = 0;

	for (size_t i = 0; i < FILES; i++) {
		if (files[i].id)
			check_file(&files[i]);
		want_files += files[i].id != 0;
	}
	for (size_t i = 0; i < NODES; i++)
		want_nodes += nodes[i].ino != 0;
	must(carry_file_each(c, count_file, &n_files) == 0);
	must(carry_node_each(c, count_node, &n_nodes) == 0);
	must(n_files == want_files && n_nodes == want_nodes);
}

/* Nothing is put in order on the way out: a worker that is killed has no time for it. */
static void die(void)
{
	uint64_t epoch = carry_epoch(c);
	uint32_t generation = carry_generation(c);
	int fd = dup(carry_fd(c));

	must(fd >= 0);
	carry_free(c);
	must(carry_open(fd, &c, NULL) == 0);
	must(carry_epoch(c) == epoch && carry_generation(c) == generation + 1);
}

static void change_file(struct model_file *f, uint64_t unique, size_t len, uint8_t b, unsigned how)
{
	struct carry_req *r = carry_req_take(c);
	uint32_t slot = carry_slot_of(f->id);

	must(r != NULL);
	carry_req_begin(r, unique);
	carry_req_intend(r, 7);
	if (how & 1) { /* died before it was decided */
		die();
		r = carry_req_find(c, unique);
		must(r && atomic_load(&r->stage) == CARRY_BEGUN && r->value == 7);
		check_file(f);
	}
	must(carry_state_put(c, slot, fill(b, len), len, r, -5, unique + 1) == 0);
	f->len = len;
	f->fill = b;
	if (how & 2) { /* decided by the request's store; the file's did not come */
		atomic_fetch_sub(&file_at(c, slot)->version, 1);
		die();
		r = carry_req_find(c, unique);
		must(r && atomic_load(&r->stage) == CARRY_DONE && r->status == -5);
		must(r->value == unique + 1);
	}
	carry_req_end(r);
	carry_req_put(c, r);
	must(!carry_req_find(c, unique));
}

static void step(uint8_t op, uint8_t arg, uint64_t unique)
{
	struct model_file *f = &files[arg % FILES];
	struct model_node *n = &nodes[arg % NODES];
	size_t len = op & 64 ? 700 + (size_t)arg * 8 : arg;

	switch (op % 6) {
	case 0: {
		struct carry_file in = {
			.unique = unique, .ino = 1000 + arg % FILES, .flags = arg % FILES};
		if (f->id)
			carry_file_free(c, f->id);
		must(carry_file_new(c, &in, fill(op, len), len, &f->id) == 0);
		f->len = len;
		f->fill = op;
		break;
	}
	case 1:
		if (f->id)
			change_file(f, unique, len, op, op >> 4);
		break;
	case 2:
		if (f->id)
			carry_file_free(c, f->id);
		f->id = 0;
		break;
	case 3: {
		struct carry_node cn = {
			.ino = unique, .size = len, .content = CARRY_NONE, .name = "n"};
		if (!n->ino)
			n->slot = carry_node_take(c);
		must(n->slot != CARRY_NONE);
		carry_node_put(c, n->slot, &cn);
		n->ino = unique;
		n->size = len;
		break;
	}
	case 4:
		if (n->ino)
			carry_node_free(c, n->slot);
		n->ino = 0;
		break;
	default:
		die();
		check_all();
	}
}

static int touch_file(void *arg, const struct carry_file *f)
{
	struct buf b = BUF_INIT;

	(void)arg;
	must(f->slot < CARRY_HANDLES);
	int rc = carry_state_get(c, f->slot, &b);
	must(rc == 0 || rc == -EUCLEAN || rc == -ENOMEM);
	must(rc == 0 || b.len == 0);
	buf_release(&b);
	(void)carry_file_by(c, f->unique);
	return 0;
}

static int touch_node(void *arg, uint32_t slot, const struct carry_node *n)
{
	(void)arg;
	must(slot < CARRY_NODES);
	must(strlen(n->name) <= CARRY_NAME_MAX);
	return 0;
}

/* A request that says it was done, of an open file that may not exist. */
static void false_request(const uint8_t *p)
{
	struct carry_req *r = req_at(c, p[1] & 3u);

	atomic_store(&c->h->reqs_top, VX_MAX(atomic_load(&c->h->reqs_top), (p[1] & 3u) + 1));
	atomic_store(&r->unique, 3);
	atomic_store(&r->stage, CARRY_DONE);
	r->handle = (uint32_t)p[2] << 8 * (p[3] & 3u);
	r->version = p[3] >> 2;
}

/* Four bytes each: where (header, requests, files, nodes), how far in, what; 0xff: false_request. */
static void damage(const uint8_t *p, size_t n)
{
	static const uint64_t base[] = {0, REQS_AT, FILES_AT, NODES_AT};
	int fd = dup(carry_fd(c));
	size_t len;

	must(fd >= 0);
	for (; n >= 4; p += 4, n -= 4) {
		if (p[0] == 0xff) {
			false_request(p);
			continue;
		}
		uint64_t at = base[p[0] & 3] + (uint64_t)(p[0] >> 2) * 64 +
			      (p[1] | (p[2] & 7u) << 8);
		must(pwrite(fd, p + 3, 1, (off_t)at) == 1);
	}
	carry_free(c);
	c = NULL;
	int rc = carry_open(fd, &c, NULL);
	must(rc == 0 || rc == -EUCLEAN || rc == -EOPNOTSUPP);
	if (rc)
		return;
	(void)carry_init(c, &len);
	must(carry_file_each(c, touch_file, NULL) == 0);
	must(carry_node_each(c, touch_node, NULL) == 0);
	struct carry_req *r = carry_req_find(c, 3);
	must(!r || atomic_load(&r->unique) == 3);
	carry_free(c);
	c = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool quiet;
	int fd;

	if (!quiet)
		must(log_configure("off") == 0);
	quiet = true;
	if (size < 1 || size > 4096)
		return 0;
	size_t n_steps = VX_MIN((size_t)data[0] % 10, (size - 1) / 2);
	memset(files, 0, sizeof files);
	memset(nodes, 0, sizeof nodes);
	must(carry_create(&fd) == 0);
	must(carry_open(fd, &c, NULL) == 0);
	for (size_t i = 0; i < n_steps; i++)
		step(data[1 + 2 * i], data[2 + 2 * i], 3 + i);
	check_all();
	damage(data + 1 + 2 * n_steps, size - 1 - 2 * n_steps);
	return 0;
}
