/* Properties of the entry format. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/entry.h"

static uint64_t rng;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static int setup(void **state)
{
	(void)state;
	const char *s = getenv("SEED");
	rng = s ? strtoull(s, NULL, 0) : 0x9e3779b97f4a7c15u;
	if (!rng)
		rng = 1;
	print_message("SEED=%llu\n", (unsigned long long)rng);
	return 0;
}

#define N_RECS 50
struct sample {
	struct entry_rec r[N_RECS];
	char id[N_RECS][VX_ID_MAX];
	float vec[N_RECS][16];
	char meta[N_RECS][64], text[N_RECS][64];
};

static void make_sample(struct sample *s)
{
	memset(s, 0, sizeof *s);
	for (int i = 0; i < N_RECS; i++) {
		struct entry_rec *r = &s->r[i];
		r->op = (uint8_t)(1 + rnd() % 3);
		r->rec.id_len = 1 + rnd() % VX_ID_MAX;
		memset(s->id[i], 'a' + i % 26, r->rec.id_len);
		r->rec.id = s->id[i];
		if (rnd() % 2) {
			r->has_if_version = true;
			r->if_version = rnd();
		}
		if (r->op == REC_DELETE)
			continue;
		r->rec.dim = 1 + (uint32_t)(rnd() % 16);
		for (uint32_t d = 0; d < r->rec.dim; d++)
			s->vec[i][d] = (float)(rnd() % 1000) / 7;
		r->rec.vec = s->vec[i];
		if (rnd() % 2) {
			r->rec.meta = s->meta[i];
			r->rec.meta_len = (size_t)snprintf(
				s->meta[i], 64, "{\"n\":%u}", (unsigned)rnd());
		}
		if (rnd() % 2) {
			r->rec.text = s->text[i];
			r->rec.text_len = rnd() % 60; /* an empty text is not an absent one */
		}
	}
}

static struct entry_header header(void)
{
	return (struct entry_header){.kind = ENTRY_DATA,
		.cid = 17,
		.schema_epoch = 2,
		.map_epoch = 3,
		.time_ns = 4,
		.origin = 5,
		.seq = 6,
		.txn = 7,
		.part = 8};
}

static void build(struct buf *b, const struct sample *s)
{
	struct entry_header h = header();
	assert_int_equal(entry_begin(b, &h), 0);
	for (int i = 0; i < N_RECS; i++) {
		size_t before = b->len;
		assert_int_equal(entry_add(b, &s->r[i]), 0);
		assert_int_equal(b->len - before, entry_rec_size(&s->r[i]));
	}
	entry_finish(b, 0, &h, N_RECS);
}

/* What is built is what is read, field for field, and vectors are aligned. */
static void entry_reads_back_what_was_built(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		static struct sample s;
		struct buf b = BUF_INIT;
		struct entry_reader r;
		struct entry_rec e;

		make_sample(&s);
		build(&b, &s);
		entry_stamp(b.data, 44, 55, 66);
		assert_int_equal(entry_open(&r, b.data, b.len), 0);
		assert_int_equal(r.h.cid, 17);
		assert_int_equal(r.h.schema_epoch, 2);
		assert_int_equal(r.h.map_epoch, 3);
		assert_int_equal(r.h.time_ns, 44);
		assert_int_equal(r.h.origin, 55);
		assert_int_equal(r.h.seq, 66);
		assert_int_equal(r.h.txn, 7);
		assert_int_equal(r.h.part, 8);
		assert_int_equal(r.h.count, N_RECS);
		for (int i = 0; i < N_RECS; i++) {
			const struct vx_record *w = &s.r[i].rec;
			assert_int_equal(entry_next(&r, &e), 1);
			assert_int_equal(e.op, s.r[i].op);
			assert_int_equal(e.has_if_version, s.r[i].has_if_version);
			assert_true(e.if_version == s.r[i].if_version);
			assert_int_equal(e.rec.id_len, w->id_len);
			assert_memory_equal(e.rec.id, w->id, w->id_len);
			assert_int_equal(e.rec.dim, w->dim);
			assert_int_equal((uintptr_t)e.rec.vec % sizeof(float), 0);
			if (w->dim)
				assert_memory_equal(e.rec.vec, w->vec, w->dim * sizeof(float));
			assert_int_equal(e.rec.meta_len, w->meta_len);
			assert_int_equal(e.rec.meta != NULL, w->meta != NULL);
			if (w->meta_len)
				assert_memory_equal(e.rec.meta, w->meta, w->meta_len);
			assert_int_equal(e.rec.text_len, w->text_len);
			assert_int_equal(e.rec.text != NULL, w->text != NULL);
			if (w->text_len)
				assert_memory_equal(e.rec.text, w->text, w->text_len);
		}
		assert_int_equal(entry_next(&r, &e), 0);
		buf_release(&b);
	}
}

/* Every single flipped bit and every cut is found when the entry is opened. */
static void entry_damage_is_found(void **state)
{
	(void)state;
	static struct sample s;
	struct buf b = BUF_INIT;
	struct entry_reader r;

	make_sample(&s);
	build(&b, &s);
	for (size_t i = 0; i < b.len; i++) {
		uint8_t bit = (uint8_t)(1u << rnd() % 8);
		b.data[i] ^= bit;
		assert_int_equal(entry_open(&r, b.data, b.len), -EUCLEAN);
		b.data[i] ^= bit;
	}
	for (size_t n = 0; n < b.len; n++)
		assert_int_equal(entry_open(&r, b.data, n), -EUCLEAN);
	assert_int_equal(entry_open(&r, b.data, b.len), 0);
	buf_release(&b);
}

/* A payload with good checksums and wrong contents is refused without reading past it. */
static void entry_nonsense_is_refused(void **state)
{
	(void)state;
	static struct sample s;
	int refused = 0;

	for (int round = 0; round < 3000; round++) {
		struct buf b = BUF_INIT;
		struct entry_reader r;
		struct entry_rec e;
		struct entry_header h = header();

		if (round % 100 == 0)
			make_sample(&s);
		build(&b, &s);
		b.data[ENTRY_HEADER_SIZE + rnd() % (b.len - ENTRY_HEADER_SIZE)] ^=
			(uint8_t)(1 + rnd() % 255);
		entry_finish(&b, 0, &h, N_RECS);
		/* An exact copy on the heap lets the sanitizer see every byte read beyond. */
		uint8_t *copy = malloc(b.len);
		assert_non_null(copy);
		memcpy(copy, b.data, b.len);
		int rc = entry_open(&r, copy, b.len);
		while (rc == 0 && (rc = entry_next(&r, &e)) == 1)
			rc = 0;
		refused += rc == -EUCLEAN;
		free(copy);
		buf_release(&b);
	}
	assert_true(refused > 0);
}

/* An entry of a later format is told apart from a damaged one. */
static void entry_newer_format_is_not_damage(void **state)
{
	(void)state;
	struct buf b = BUF_INIT;
	struct entry_header h = header();
	struct entry_reader r;

	h.kind = ENTRY_SLICE_DROP;
	assert_int_equal(entry_begin(&b, &h), 0);
	entry_finish(&b, 0, &h, 0);
	assert_int_equal(entry_open(&r, b.data, b.len), 0);
	b.data[4] = 2;
	entry_stamp(b.data, 1, 1, 1);
	assert_int_equal(entry_open(&r, b.data, b.len), -EOPNOTSUPP);
	buf_release(&b);
}

/* A schema survives its encoding; damage is found. */
static void entry_schema_round_trip(void **state)
{
	(void)state;
	struct slice_schema s = {.cid = 9,
		.epoch = 3,
		.dim = 768,
		.metric = VX_L2,
		.index = "hnsw",
		.quant = "sq8",
		.m = 24,
		.ef_construction = 300};
	struct slice_schema t;
	struct buf b = BUF_INIT;

	assert_int_equal(slice_schema_encode(&s, &b), 0);
	assert_int_equal(slice_schema_decode(b.data, b.len, &t), 0);
	assert_int_equal(t.cid, 9);
	assert_int_equal(t.epoch, 3);
	assert_int_equal(t.dim, 768);
	assert_int_equal(t.metric, VX_L2);
	assert_string_equal(t.index, "hnsw");
	assert_string_equal(t.quant, "sq8");
	assert_int_equal(t.m, 24);
	assert_int_equal(t.ef_construction, 300);
	for (size_t i = 0; i < b.len; i++) {
		b.data[i] ^= 0x10;
		assert_int_not_equal(slice_schema_decode(b.data, b.len, &t), 0);
		b.data[i] ^= 0x10;
	}
	assert_int_equal(slice_schema_decode(b.data, b.len - 1, &t), -EUCLEAN);
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entry_reads_back_what_was_built),
		cmocka_unit_test(entry_damage_is_found),
		cmocka_unit_test(entry_nonsense_is_refused),
		cmocka_unit_test(entry_newer_format_is_not_damage),
		cmocka_unit_test(entry_schema_round_trip),
	};
	return cmocka_run_group_tests_name("entry", tests, setup, NULL);
}
