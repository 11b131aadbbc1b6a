/* Frames and rows as functions of bytes. */
#include "rpctest.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static void make_frame(struct buf *b, uint64_t *seed, size_t n)
{
	uint8_t *p = malloc(n + 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)rt_random(seed);
	assert_int_equal(rpc_frame_append_raw(b, RPC_QUERY, 77, p, n), 0);
	free(p);
}

/* What was appended comes back, frame after frame, whatever the lengths. */
static void frame_round_trip(void **state)
{
	uint64_t seed = rt_seed();
	struct buf b = BUF_INIT;
	size_t lens[20], at = 0;

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(lens); i++) {
		lens[i] = rt_random(&seed) % 3000;
		make_frame(&b, &seed, lens[i]);
	}
	for (size_t i = 0; i < VX_ARRAY_SIZE(lens); i++) {
		struct rpc_frame f;
		size_t total;

		assert_int_equal(rpc_frame_parse(b.data + at, b.len - at, &f, &total, NULL), 1);
		assert_int_equal(f.type, RPC_QUERY);
		assert_int_equal(f.id, 77);
		assert_int_equal(f.len, lens[i]);
		assert_int_equal(total, lens[i] + RPC_HEADER_BYTES + RPC_TRAILER_BYTES);
		at += total;
	}
	assert_int_equal(at, b.len);
	buf_release(&b);
}

/* Every proper prefix of a frame asks for more, never for less than there is, and names the whole
 * length as soon as the header is there. */
static void frame_prefix_asks_for_more(void **state)
{
	uint64_t seed = rt_seed();
	struct buf b = BUF_INIT;
	struct rpc_frame f;
	size_t total;

	(void)state;
	make_frame(&b, &seed, 200);
	for (size_t n = 0; n < b.len; n++) {
		assert_int_equal(rpc_frame_parse(b.data, n, &f, &total, NULL), 0);
		assert_true(total > n);
		assert_int_equal(total, n < RPC_HEADER_BYTES ? RPC_HEADER_BYTES : b.len);
	}
	buf_release(&b);
}

/* No single damaged byte passes, wherever it lies. */
static void frame_damage_is_found(void **state)
{
	uint64_t seed = rt_seed();
	struct buf b = BUF_INIT;
	struct rpc_frame f;
	size_t total;

	(void)state;
	make_frame(&b, &seed, 100);
	for (size_t i = 0; i < b.len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			b.data[i] ^= (uint8_t)(1 << bit);
			assert_int_equal(
				rpc_frame_parse(b.data, b.len, &f, &total, NULL), -EBADMSG);
			b.data[i] ^= (uint8_t)(1 << bit);
		}
	}
	buf_release(&b);
}

/* A length over the limit is refused by the header alone, even with a right checksum. */
static void frame_oversize_is_refused(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct rpc_frame f;
	uint8_t h[RPC_HEADER_BYTES] = {'V', 'X', 1, RPC_PUT};
	size_t total;

	(void)state;
	put_le32(h + 8, RPC_PAYLOAD_MAX + 1);
	put_le32(h + 12, (uint32_t)hash_xxh3(h, 12, 0));
	assert_int_equal(rpc_frame_parse(h, sizeof h, &f, &total, &err), -EMSGSIZE);
	put_le32(h + 8, RPC_PAYLOAD_MAX);
	put_le32(h + 12, (uint32_t)hash_xxh3(h, 12, 0));
	assert_int_equal(rpc_frame_parse(h, sizeof h, &f, &total, &err), 0);
}

/* Bytes that are no frame are told apart at the first byte. */
static void frame_garbage_is_refused(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\n\r\n";
	struct rpc_frame f;
	size_t total;

	(void)state;
	for (size_t n = 1; n < sizeof http; n++)
		assert_int_equal(
			rpc_frame_parse((const uint8_t *)http, n, &f, &total, NULL), -EBADMSG);
}

/* Errnos travel by name. */
static void errno_names_round_trip(void **state)
{
	(void)state;
	for (int e = 1; e < 134; e++) {
		if (strcmp(vx_errno_name(e), "E?") == 0)
			continue;
		assert_int_equal(rpc_errno_parse(vx_errno_name(-e)), -e);
	}
	assert_int_equal(rpc_errno_parse("ENOTANERRNO"), -EPROTO);
	assert_int_equal(rpc_errno_parse(""), -EPROTO);
}

/* --- rows ---------------------------------------------------------------------------- */
struct model {
	char id[16], meta[40], text[40];
	size_t id_len, meta_len, text_len;
	float vec[7];
};

/* Rows packed, sent as a frame, unpacked: the same records, absent parts absent. */
static void rows_round_trip(void **state)
{
	uint64_t seed = rt_seed();
	struct rpc_arena *a = rpc_arena_new();
	struct rpc_rows r = {0};
	struct model m[50];
	struct buf wire = BUF_INIT;
	Vecfs__PutRequest req = VECFS__PUT_REQUEST__INIT, *got;
	Vecfs__Rows rows;
	struct rpc_rows_view v;
	struct vx_record rec;
	struct rpc_frame f;
	size_t total;

	(void)state;
	memset(m, 0, sizeof m);
	for (size_t i = 0; i < VX_ARRAY_SIZE(m); i++) {
		m[i].id_len = 1 + rt_random(&seed) % 15;
		m[i].meta_len = rt_random(&seed) % 3 ? rt_random(&seed) % 40 : 0;
		m[i].text_len = rt_random(&seed) % 3 ? rt_random(&seed) % 40 : 0;
		memset(m[i].id, 'a' + (int)(i % 26), m[i].id_len);
		memset(m[i].meta, 'm', m[i].meta_len);
		memset(m[i].text, 't', m[i].text_len);
		for (int j = 0; j < 7; j++)
			m[i].vec[j] = (float)rt_random(&seed);
		rec = (struct vx_record){.id = m[i].id,
			.id_len = m[i].id_len,
			.vec = m[i].vec,
			.dim = 7,
			.meta = m[i].meta,
			.meta_len = m[i].meta_len,
			.text = m[i].text,
			.text_len = m[i].text_len};
		assert_int_equal(rpc_rows_add(&r, &rec), 0);
	}
	rpc_rows_message(&r, &rows);
	req.rows = &rows;
	assert_int_equal(rpc_frame_append(&wire, RPC_PUT, 1, &req.base), 0);
	assert_int_equal(rpc_frame_parse(wire.data, wire.len, &f, &total, NULL), 1);
	assert_int_equal(rpc_unpack(a, &vecfs__put_request__descriptor, &f, &got, NULL), 0);
	assert_int_equal(rpc_rows_open(&v, got->rows, NULL), 0);
	for (size_t i = 0; i < VX_ARRAY_SIZE(m); i++) {
		assert_true(rpc_rows_next(&v, &rec));
		assert_int_equal(rec.line, i + 1);
		assert_int_equal(rec.id_len, m[i].id_len);
		assert_memory_equal(rec.id, m[i].id, rec.id_len);
		assert_int_equal(rec.meta_len, m[i].meta_len);
		assert_int_equal(rec.meta == NULL, m[i].meta_len == 0);
		assert_int_equal(rec.text_len, m[i].text_len);
		assert_int_equal(rec.dim, 7);
		assert_memory_equal(rec.vec, m[i].vec, sizeof m[i].vec);
	}
	assert_false(rpc_rows_next(&v, &rec));
	buf_release(&wire);
	rpc_rows_release(&r);
	rpc_arena_free(a);
}

/* Another dimension does not get in, and leaves the rows as they were. */
static void rows_of_two_dimensions_are_refused(void **state)
{
	struct rpc_rows r = {0};
	float vec[4] = {1, 2, 3, 4};
	struct vx_record rec = {.id = "a", .id_len = 1, .vec = vec, .dim = 4};

	(void)state;
	assert_int_equal(rpc_rows_add(&r, &rec), 0);
	size_t bytes = rpc_rows_bytes(&r);
	rec.dim = 3;
	assert_int_equal(rpc_rows_add(&r, &rec), -EINVAL);
	assert_int_equal(rpc_rows_bytes(&r), bytes);
	assert_int_equal(r.n, 1);
	rpc_rows_release(&r);
}

/* Columns that contradict each other never reach whoever walks the rows. */
static void rows_that_do_not_add_up_are_refused(void **state)
{
	uint8_t bytes[64] = {0};
	uint32_t sizes[3] = {2, 2, 2}, huge[3] = {UINT32_MAX, UINT32_MAX, 8};
	Vecfs__Rows good = VECFS__ROWS__INIT, m;
	struct rpc_rows_view v;

	(void)state;
	good.n = 3;
	good.dim = 2;
	good.vectors = (ProtobufCBinaryData){24, bytes};
	good.ids = (ProtobufCBinaryData){6, bytes};
	good.id_sizes = sizes;
	good.n_id_sizes = 3;
	assert_int_equal(rpc_rows_open(&v, &good, NULL), 0);

	m = good, m.n = 4;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EPROTO);
	m = good, m.vectors.len = 20;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EPROTO);
	m = good, m.ids.len = 5;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EPROTO);
	m = good, m.ids.len = 7;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EPROTO);
	m = good, m.id_sizes = huge;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EPROTO);
	m = good, m.n_meta_sizes = 2, m.meta_sizes = sizes;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EPROTO);
	m = good, m.texts.len = 1;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EPROTO);
	m = good, m.dim = VX_DIM_MAX + 1;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EINVAL);
	m = good, m.n = UINT32_MAX, m.dim = VX_DIM_MAX;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EPROTO);
	m = good, m.element = (Vecfs__Element)9;
	assert_int_equal(rpc_rows_open(&v, &m, NULL), -EOPNOTSUPP);
}

/* A small payload that would unpack to more than the arena's bound is refused, not swallowed. */
static void arena_is_bounded(void **state)
{
	struct rpc_arena *a = rpc_arena_new();
	struct buf b = BUF_INIT;
	const Vecfs__WriteAnswer *m;

	(void)state;
	/* 12 million empty RowErrors: 2 bytes each here, more than 40 each in memory. */
	for (size_t i = 0; i < 12000000; i++)
		assert_int_equal(buf_append(&b, "\x4a\x00", 2), 0);
	struct rpc_frame f = {.type = RPC_PUT | RPC_ANSWER, .payload = b.data, .len = b.len};
	assert_int_equal(rpc_unpack(a, &vecfs__write_answer__descriptor, &f, &m, NULL), -EPROTO);
	assert_null(rpc_arena_alloc(a, RPC_ARENA_MAX));
	rpc_arena_reset(a);
	assert_non_null(rpc_arena_alloc(a, 1000));
	buf_release(&b);
	rpc_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_round_trip),
		cmocka_unit_test(frame_prefix_asks_for_more),
		cmocka_unit_test(frame_damage_is_found),
		cmocka_unit_test(frame_oversize_is_refused),
		cmocka_unit_test(frame_garbage_is_refused),
		cmocka_unit_test(errno_names_round_trip),
		cmocka_unit_test(rows_round_trip),
		cmocka_unit_test(rows_of_two_dimensions_are_refused),
		cmocka_unit_test(rows_that_do_not_add_up_are_refused),
		cmocka_unit_test(arena_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
