/* measure - what the store costs: measure DIM N DIR.  No test; prints figures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/store.h"

#define PER_ENTRY_BYTES (1u << 20)

static double ms_since(uint64_t t0)
{
	return (double)(clock_mono_ns() - t0) / 1e6;
}

static void die(const char *what, const struct vx_err *err)
{
	fprintf(stderr, "%s: %s\n", what, err->msg);
	exit(1);
}

static void apply(struct shard *s, uint64_t index, struct buf *b)
{
	struct vx_err err = VX_ERR_INIT;
	struct apply_req q = {.index = index, .data = b->data, .len = b->len};
	size_t done;
	if (shard_apply(s, &q, 1, &done, &err) || q.result.status)
		die("apply", &err);
}

int main(int argc, char **argv)
{
	struct vx_err err = VX_ERR_INIT;
	struct shard_opts o = {.disk = disk_real()};
	struct shard *s;
	uint64_t index = 1, t0, apply_ns = 0;
	int rc;

	if (argc != 4) {
		fprintf(stderr, "usage: measure DIM N DIR\n");
		return 2;
	}
	uint32_t dim = (uint32_t)atoi(argv[1]), n = (uint32_t)atoi(argv[2]);
	struct slice_schema sc = {.cid = 1, .dim = dim, .metric = VX_L2};
	struct entry_header h = {.kind = ENTRY_SLICE_CREATE, .cid = 1};
	struct buf b = BUF_INIT;
	float *v = malloc(dim * sizeof *v);

	if (!v || shard_open(argv[3], 1, &o, &s, &err))
		die("open", &err);
	if (entry_begin(&b, &h) || slice_schema_encode(&sc, &b))
		return 1;
	entry_finish(&b, 0, &h, 0);
	apply(s, index++, &b);
	h.kind = ENTRY_DATA;
	srandom(1);
	for (uint32_t i = 0; i < n;) {
		uint32_t k = 0;
		b.len = 0;
		h.origin = 1;
		h.seq = index;
		if (entry_begin(&b, &h))
			return 1;
		for (; i < n && b.len < PER_ENTRY_BYTES; i++, k++) {
			char id[24];
			struct entry_rec r = {.op = REC_UPSERT};
			for (uint32_t d = 0; d < dim; d++)
				v[d] = (float)(random() & 0xffff) / 65536;
			r.rec = (struct vx_record){.id = id,
				.id_len = (size_t)snprintf(id, sizeof id, "%u", i),
				.vec = v,
				.dim = dim};
			if (entry_add(&b, &r))
				return 1;
		}
		entry_finish(&b, 0, &h, k);
		t0 = clock_mono_ns();
		apply(s, index++, &b);
		apply_ns += clock_mono_ns() - t0;
	}
	printf("apply: %.0f records/s (dim %u, %u records)\n", n / ((double)apply_ns / 1e9), dim,
		n);
	t0 = clock_mono_ns();
	if (shard_mark(s, shard_applied(s), &err))
		die("mark", &err);
	printf("mark: %.1f ms\n", ms_since(t0));

	struct slice *sl = shard_slice_get(s, 1, &rc, &err);
	const uint32_t reps = 100000;
	t0 = clock_mono_ns();
	for (uint32_t i = 0; i < reps; i++) {
		struct slice_rec r = {.mem = BUF_INIT};
		char id[24];
		size_t len = (size_t)snprintf(id, sizeof id, "%u", (uint32_t)random() % n);
		if (slice_get(sl, id, len, SLICE_META | SLICE_VEC, &r, &err))
			die("get", &err);
		slice_rec_release(&r);
	}
	printf("get: %.2f us\n", ms_since(t0) * 1000 / reps);
	size_t sum = 0;
	t0 = clock_mono_ns();
	for (uint32_t i = 0; i < reps * 10; i++) {
		const char *id;
		size_t len;
		if (slice_slot_id(sl, (uint32_t)random() % n, &id, &len))
			return 1;
		sum += len;
	}
	printf("slot_id: %.0f ns (%zu)\n", ms_since(t0) * 1e6 / reps / 10, sum);
	slice_put(sl);
	shard_close(s, false);

	for (int with = 0; with < 2; with++) {
		t0 = clock_mono_ns();
		if (shard_open(argv[3], 1, &o, &s, &err))
			die("open", &err);
		sl = shard_slice_get(s, 1, &rc, &err);
		double opened = ms_since(t0);
		struct slice_hit hit[10];
		uint32_t found;
		struct index_query q = {.vec = v, .k = 1};
		if (with == 0)
			q.exact = true;
		if (slice_search(sl, &q, hit, &found, NULL))
			return 1;
		printf("open %s checkpoint: %.1f ms, to first answer %.1f ms\n",
			with ? "with" : "without", opened, ms_since(t0));
		if (!with) {
			uint64_t t1 = clock_mono_ns();
			int k;
			while ((k = slice_index_step(sl, 1024)) > 0)
				;
			printf("linked in %.1f s (1 thread)\n", ms_since(t1) / 1000);
		}
		slice_put(sl);
		shard_close(s, !with);
	}
	buf_release(&b);
	free(v);
	return 0;
}
