/* Fuzzes the view of a log that may be damaged (vec-wal), over the inputs of fuzz_wal.  The view ends, changes nothing and closes
 * what it opened; offsets lie in their files, frames of a segment come in the order of their numbers, and a payload may be
 * read to its last byte.  Of a log that opens without a word, the view tells no damage beyond the torn flush at its end. */
#include "fuzz/wal_layout.h"
#include "wal/wal_view.h"

struct seen {
	uint64_t size, number, damaged, records, frames;
	uint8_t sink;
};

static int on_segment(void *ctx, const struct wal_view_segment *s)
{
	struct seen *v = ctx;

	must(s->size_bytes <= SEGMENT);
	must(s->valid || (s->n_groups == 0 && s->nonce == 0));
	v->size = s->size_bytes;
	v->number = 0;
	return 0;
}

static int on_row(void *ctx, const struct wal_view_row *r)
{
	(void)ctx;
	(void)r;
	return 0;
}

static int on_frame(void *ctx, const struct wal_view_frame *f)
{
	struct seen *v = ctx;

	must(f->offset % WAL_BLOCK == 0);
	must(f->offset >= WAL_HDR_BYTES && f->offset + f->len <= v->size);
	must(f->number > v->number);
	v->number = f->number;
	v->frames++;
	return 0;
}

static int on_record(void *ctx, const struct wal_view_record *r)
{
	struct seen *v = ctx;
	const uint8_t *p = r->data;

	must(r->frame == v->number);
	must(r->offset + WAL_REC_HDR + r->len <= v->size);
	must((uintptr_t)p % 8 == 0);
	for (uint32_t i = 0; i < r->len; i += 512)
		v->sink ^= p[i];
	v->sink ^= r->len ? p[r->len - 1] : 0;
	v->records++;
	return 0;
}

static int on_damage(void *ctx, const struct wal_view_damage *d)
{
	struct seen *v = ctx;

	must(d->file[0] && d->why[0]);
	v->damaged += !d->torn;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct wal_view_ops ops = {.segment = on_segment,
		.row = on_row,
		.frame = on_frame,
		.record = on_record,
		.damage = on_damage};
	struct wal_opts o = {.segment_size_bytes = SEGMENT, .node_id = 1};
	struct vx_err err = VX_ERR_INIT;
	struct seen v = {0};
	struct wal *w = NULL;

	if (size < 1 || size > 256u << 10)
		return 0;
	struct disk *d = fakedisk_new();
	must(d != NULL);
	lay_out(d, data, size);
	uint64_t calls = fakedisk_calls(d);
	int rc = wal_view(d, "wal", &ops, &v, &err);
	must(rc == 0 || (rc == -ENODATA && v.frames == 0));
	must(fakedisk_calls(d) == calls);
	must(fakedisk_open_handles(d) == 0);
	/* Half of the work is the opening; it is worth it where the view saw a log. */
	if (rc == 0 && v.damaged) {
		fakedisk_limit(d, 32 * SEGMENT);
		rc = wal_open(d, "wal", &o, &w, &err);
		must(rc != 0 || wal_damage(w) != NULL);
		if (rc == 0)
			wal_close(w);
	}
	fakedisk_free(d);
	return 0;
}
