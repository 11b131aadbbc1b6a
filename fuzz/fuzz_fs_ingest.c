/* Fuzzes how a file in `inbox/` takes writes, in a daemon whose worker may die: the same bytes, in one piece and in pieces, settled
 * and taken over by a new worker wherever the input says so, commit the same records in the same order and leave the same failed/,
 * the same receipt and the same error.  A batch that is cut again out of the journal is the batch that it was.
 *
 *	byte 0		the format
 *	byte 1		bit 0: bad records are skipped; bits 1, 2: the collection's dimension
 *	byte 2		n, modulo 16
 *	n bytes		each a piece: bits 0-5 its length, less one; bit 6: settle after it; bit 7: the worker dies after it
 *	then		what is written
 */
#define flight_init    stub_flight_init
#define flight_release stub_flight_release
#define flight_names   stub_flight_names
#define flight_submit  stub_flight_submit
#define flight_failed  stub_flight_failed
#define flight_wait    stub_flight_wait
#define flight_sum     stub_flight_sum
#define flight_commit  stub_flight_commit
#define keep_write     stub_keep_write
#define keep_unlink    stub_keep_unlink
#define fs_log_bad     stub_fs_log_bad
#define carry_epoch    stub_carry_epoch
#define txn_plan       stub_txn_plan
#include "fuzz/batch_stub.h"

#include "daemon/fs_ingest.c"

#define PATHS_MAX 3u

/* Batches by number, and what is under done/ and failed/. */
static struct buf batch_sums;
static struct buf kept[PATHS_MAX]; /* receipt, rejects, reasons */
static struct carry_progress progress;

void flight_init(struct flight *f, struct coll *c)
{
	f->c = c;
	f->next = 0;
}

void flight_release(struct flight *f)
{
	(void)f;
}

void flight_names(
	struct flight *f, uint64_t origin, uint64_t unique, uint64_t next, struct carry_progress *p)
{
	f->origin = origin;
	f->unique = unique;
	f->next = next;
	f->progress = p;
}

int flight_submit(struct flight *f, struct batch **b, struct vx_err *err)
{
	uint64_t number = f->next++, sum = sum_of((*b)->sums, (*b)->n * sizeof(*b)->sums[0], 7);
	struct batch_result res;

	if (number < batch_sums.len / 8) { /* it landed before the worker died */
		must(memcmp(batch_sums.data + number * 8, &sum, 8) == 0);
		batch_reset(*b);
		return 0;
	}
	must(number == batch_sums.len / 8);
	must(buf_append(&batch_sums, &sum, 8) == 0);
	return batch_commit(*b, &res, err);
}

int flight_failed(struct flight *f, struct vx_err *err)
{
	(void)f;
	(void)err;
	return 0;
}

int flight_wait(struct flight *f, struct vx_err *err)
{
	(void)f;
	(void)err;
	return 0;
}

void flight_sum(struct flight *f, struct flight_sum *ret)
{
	(void)f;
	memset(ret, 0, sizeof *ret);
	ret->accepted = world.committed.len / 8;
}

int flight_commit(struct flight *f, struct vx_err *err)
{
	(void)f;
	(void)err;
	abort();
}

static struct buf *place_of(enum keep_area a, const char *name)
{
	size_t n = strlen(name);

	if (a == KEEP_DONE)
		return &kept[0];
	return &kept[n > 4 && strcmp(name + n - 4, ".err") == 0 ? 2 : 1];
}

int keep_write(
	struct fs *fs, enum keep_area a, uint32_t cid, const char *name, const void *p, size_t n)
{
	struct buf *b = place_of(a, name);

	(void)fs;
	(void)cid;
	b->len = 0;
	return buf_append(b, p, n);
}

int keep_unlink(struct fs *fs, enum keep_area a, uint32_t cid, const char *name)
{
	(void)fs;
	(void)cid;
	place_of(a, name)->len = 0;
	return 0;
}

void fs_log_bad(struct handle *h, uint64_t line, int rc, const struct vx_err *err)
{
	(void)h;
	(void)line;
	(void)rc;
	(void)err;
}

uint64_t carry_epoch(const struct carry *c)
{
	(void)c;
	return 99;
}

int txn_plan(struct txn *t, const struct batch *b, struct vx_err *err)
{
	(void)t;
	(void)b;
	(void)err;
	abort();
}

struct outcome {
	int rc;
	uint64_t bad_line;
	struct buf committed, kept[PATHS_MAX];
};

static struct fs fs;
static const struct ingest_opts *opts;

/* The worker dies, and another one takes over: the state as it was carried, and the bytes since. */
static struct ingest *take_over(struct ingest *in, const uint8_t *p, size_t done)
{
	struct buf state = BUF_INIT, journal = BUF_INIT;
	struct bytes_reader rd = {0};
	struct vx_err err = VX_ERR_INIT;
	struct ingest *next;
	size_t since = (size_t)ingest_unsettled(in);

	must(since <= done && ingest_bytes(in) == done);
	must(ingest_save(in, &state) == 0);
	must(buf_append(&journal, p + done - since, since) == 0);
	ingest_free(in);
	rd.p = state.data;
	rd.left = state.len;
	must(ingest_new(&fs, NULL, opts, &next, &err) == 0);
	must(ingest_load(next, &rd, &journal, &err) == 0);
	must(!rd.bad && rd.left == 0);
	must(ingest_bytes(next) == done);
	buf_release(&state);
	buf_release(&journal);
	return next;
}

static void run(
	const uint8_t *steps, size_t n_steps, const uint8_t *p, size_t n, struct outcome *ret)
{
	struct vx_err err = VX_ERR_INIT;
	struct ingest *in;
	int rc = 0;

	world.committed = (struct buf)BUF_INIT;
	batch_sums.len = 0;
	for (size_t i = 0; i < PATHS_MAX; i++)
		kept[i] = (struct buf)BUF_INIT;
	memset(&progress, 0, sizeof progress);
	must(ingest_new(&fs, NULL, opts, &in, &err) == 0);
	for (size_t at = 0, i = 0; at < n && rc == 0; i++) {
		uint8_t step = n_steps ? steps[i % n_steps] : 0;
		size_t k = n_steps ? VX_MIN((size_t)(step & 63) + 1, n - at) : n;
		uint8_t *copy = malloc(k);

		must(copy != NULL);
		memcpy(copy, p + at, k);
		rc = ingest_feed(in, copy, k, &err);
		free(copy);
		at += k;
		if (rc == 0)
			must(ingest_settle(in, step & 64, &err) == 0);
		if (rc == 0 && step & 128)
			in = take_over(in, p, at);
	}
	if (rc == 0)
		rc = ingest_finish(in, &err);
	must(rc == 0 || err.msg[0]);
	if (rc && !ingest_none(in))
		ingest_abort(in, rc, &err);
	ret->rc = rc;
	ret->bad_line = ingest_bad_line(in);
	ret->committed = world.committed;
	for (size_t i = 0; i < PATHS_MAX; i++)
		ret->kept[i] = kept[i];
	/* The receipt of a file that ended early counts the bytes of its last piece. */
	uint8_t *end = rc && !ingest_none(in)
			       ? memmem(ret->kept[0].data, ret->kept[0].len, "\"bytes\"", 7)
			       : memmem(ret->kept[0].data, ret->kept[0].len, "\"time\"", 6);
	must(end != NULL);
	ret->kept[0].len = (size_t)(end - ret->kept[0].data);
	ingest_free(in);
}

static void same(struct buf *a, struct buf *b)
{
	must(a->len == b->len);
	if (a->len)
		must(memcmp(a->data, b->data, a->len) == 0);
	buf_release(a);
	buf_release(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, cut;

	if (size < 3 || size > 16384 || size < 3u + data[2] % 16u)
		return 0;
	size_t n_steps = data[2] % 16u;
	const uint8_t *p = data + 3 + n_steps;
	size_t n = size - 3 - n_steps;
	const struct ingest_opts o = {
		.format = (enum codec_format)(CODEC_JSONL + data[0] % 6),
		.name = "f",
		.skip = data[1] & 1,
		.unique = 4,
		.progress = &progress,
	};

	opts = &o;
	world.dim = data[1] >> 1 & 3;
	run(NULL, 0, p, n, &whole);
	run(data + 3, n_steps, p, n, &cut);
	must(whole.rc == cut.rc);
	must(whole.bad_line == cut.bad_line);
	same(&whole.committed, &cut.committed);
	for (size_t i = 0; i < PATHS_MAX; i++)
		same(&whole.kept[i], &cut.kept[i]);
	return 0;
}
