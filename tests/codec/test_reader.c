/* Streams: every format, cut at every place, whole and broken. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec/codec.h"

/* Everything a reader said, as text. */
struct trace {
	struct buf b;
	int stop_at; /* 0: never */
	int seen;
	bool hands_over; /* each piece goes to a reader of its own */
	const char *ids[4];
};

static int on_record(void *ctx, const struct vx_record *rec)
{
	struct trace *t = ctx;

	assert_int_equal(buf_printf(&t->b, "%llu ", (unsigned long long)rec->line), 0);
	assert_int_equal(codec_print_record(&t->b, rec), 0);
	return ++t->seen == t->stop_at ? -ECANCELED : 0;
}

static int on_bad(void *ctx, uint64_t line, const char *raw, size_t n, const struct vx_err *why)
{
	struct trace *t = ctx;

	assert_int_equal(buf_printf(&t->b, "%llu BAD %.*s: %s\n", (unsigned long long)line, (int)n,
				 raw ? raw : "", why->msg),
		0);
	return 0;
}

static const char *row_id(void *ctx, uint64_t row, size_t *ret_len)
{
	struct trace *t = ctx;

	if (row >= 4 || !t->ids[row])
		return NULL;
	*ret_len = strlen(t->ids[row]);
	return t->ids[row];
}

/* A new reader that knows what this one did. */
static struct codec_reader *handed_over(
	struct codec_reader *r, enum codec_format f, const struct codec_opts *o, struct trace *t)
{
	struct bytes_reader rd = {0};
	struct buf state = BUF_INIT;
	struct codec_reader *next;

	assert_int_equal(codec_reader_save(r, &state), 0);
	codec_reader_free(r);
	assert_int_equal(codec_reader_new(f, o, on_record, t, &next), 0);
	rd.p = state.data;
	rd.left = state.len;
	assert_int_equal(codec_reader_load(next, &rd), 0);
	assert_int_equal(rd.left, 0);
	buf_release(&state);
	return next;
}

/* Feeds 'n' bytes in pieces of 'piece'; the outcome is appended to the trace. */
static int read_all(enum codec_format f, const struct codec_opts *o, const void *p, size_t n,
	size_t piece, struct trace *t)
{
	struct codec_reader *r;
	struct vx_err err = VX_ERR_INIT;
	int rc = codec_reader_new(f, o, on_record, t, &r);

	assert_int_equal(rc, 0);
	for (size_t i = 0; i < n && !rc; i += piece) {
		size_t k = VX_MIN(piece, n - i);
		uint8_t *copy = malloc(k);
		assert_non_null(copy);
		memcpy(copy, (const uint8_t *)p + i, k);
		rc = codec_feed(r, copy, k, &err);
		free(copy);
		if (!rc && t->hands_over)
			r = handed_over(r, f, o, t);
	}
	if (!rc)
		rc = codec_finish(r, &err);
	if (rc)
		assert_int_equal(buf_printf(&t->b, "END %s\n", err.msg), 0);
	codec_reader_free(r);
	assert_int_equal(buf_cstr(&t->b), 0);
	return rc;
}

/* Reading gives 'want', however the input is cut, and by whomever the pieces are read. */
static void check(
	enum codec_format f, const struct codec_opts *o, const void *p, size_t n, const char *want)
{
	for (size_t i = 2; i / 2 <= n + 1; i = i < 40 ? i + 1 : i * 2) {
		struct trace t = {.b = BUF_INIT, .hands_over = i & 1};
		size_t piece = i / 2;
		read_all(f, o, p, n, piece, &t);
		if (strcmp((char *)t.b.data, want) != 0)
			fail_msg("pieces of %zu%s:\n%swanted:\n%s", piece,
				t.hands_over ? ", handed over" : "", (char *)t.b.data, want);
		buf_release(&t.b);
	}
}

static void jsonl_is_read_however_it_is_cut(void **state)
{
	const struct codec_opts o = {.on_bad = on_bad};
	static const char in[] = "\xef\xbb\xbf{\"id\":\"a\",\"vector\":[1,2]}\r\n\n"
				 "{\"id\":\"b\",\"vector\":[1]}\n"
				 "nonsense\n"
				 "{\"id\":\"c\",\"vector\":[3,4],\"text\":\"t\"}";

	(void)state;
	check(CODEC_JSONL, &o, in, sizeof in - 1,
		"1 {\"id\":\"a\",\"vector\":[1,2]}\n"
		"3 BAD {\"id\":\"b\",\"vector\":[1]}: the vector has 1 number; this collection has "
		"dimension 2\n"
		"4 BAD nonsense: a record is a JSON array or object; this starts with neither [ "
		"nor {\n"
		"5 {\"id\":\"c\",\"vector\":[3,4],\"text\":\"t\"}\n");
}

static void an_unfinished_last_line_ends_the_stream(void **state)
{
	const struct codec_opts o = {.on_bad = on_bad};
	static const char in[] = "{\"id\":\"a\",\"vector\":[1,2]}\n{\"id\":\"b\",\"vec";

	(void)state;
	check(CODEC_JSONL, &o, in, sizeof in - 1,
		"1 {\"id\":\"a\",\"vector\":[1,2]}\n"
		"END line 2 is incomplete: the input ends inside a record\n");
}

static void without_on_bad_the_first_bad_line_ends_the_stream(void **state)
{
	const struct codec_opts o = {0};
	static const char in[] =
		"{\"id\":\"a\",\"vector\":[1,2]}\n[]\n{\"id\":\"c\",\"vector\":[1,2]}\n";

	(void)state;
	check(CODEC_JSONL, &o, in, sizeof in - 1,
		"1 {\"id\":\"a\",\"vector\":[1,2]}\nEND line 2: the vector is empty\n");
}

static void tsv_is_read(void **state)
{
	const struct codec_opts o = {.on_bad = on_bad};
	static const char in[] = "a\t1 2\n"
				 "b\t3,4\t{\"k\": 1}\tline\\nbreak\\ttab \\\\n \\x\r\n"
				 "\t1 2\nx\nc\t1 2\t\tt\nd\t1 2\t{}\tt\tu\ne\t1\t2\t3\n";

	(void)state;
	check(CODEC_TSV, &o, in, sizeof in - 1,
		"1 {\"id\":\"a\",\"vector\":[1,2]}\n"
		"2 {\"id\":\"b\",\"vector\":[3,4],\"meta\":{\"k\":1},\"text\":\"line\\nbreak\\ttab "
		"\\\\n \\\\x\"}\n"
		"3 BAD \t1 2: the record has no id\n"
		"4 BAD x: no tab: a line is ID <tab> NUMBERS\n"
		"5 {\"id\":\"c\",\"vector\":[1,2],\"text\":\"t\"}\n"
		"6 BAD d\t1 2\t{}\tt\tu: more than four columns; a tab inside the text is written "
		"\\t\n"
		"7 BAD e\t1\t2\t3: the third column is meta, a JSON object; all numbers of the "
		"vector are in the second, between commas or spaces\n");
}

static size_t put_f32(uint8_t *p, float v)
{
	uint32_t u;

	memcpy(&u, &v, sizeof u);
	put_le32(p, u);
	return 4;
}

static void fvecs_rows_get_numbers_and_bad_ones_are_told(void **state)
{
	const struct codec_opts o = {.on_bad = on_bad, .first_row = 9, .id_prefix = "r"};
	uint8_t in[64];
	size_t n = 0;

	(void)state;
	for (int row = 0; row < 3; row++) {
		put_le32(in + n, 2);
		n += 4;
		n += put_f32(in + n, (float)row);
		n += put_f32(in + n, row == 1 ? NAN : 0.5f);
	}
	check(CODEC_FVECS, &o, in, n,
		"1 {\"id\":\"r9\",\"vector\":[0,0.5]}\n"
		"2 BAD : the vector has a number that is not finite in float32\n"
		"3 {\"id\":\"r11\",\"vector\":[2,0.5]}\n");
	check(CODEC_FVECS, &o, in, n - 1,
		"1 {\"id\":\"r9\",\"vector\":[0,0.5]}\n"
		"2 BAD : the vector has a number that is not finite in float32\n"
		"END row 3 is cut off: 11 of its 12 bytes are here\n");
	put_le32(in + 12, 3);
	check(CODEC_FVECS, &o, in, n,
		"1 {\"id\":\"r9\",\"vector\":[0,0.5]}\n"
		"END row 2 has dimension 3; the rows before it have 2\n");
	const struct codec_opts dim = {.dim = 5};
	check(CODEC_FVECS, &dim, in, n,
		"END row 1 has dimension 2; this collection has dimension 5\n");
	put_le32(in, 0xffffffffu);
	check(CODEC_FVECS, &o, in, n, "END row 1 has dimension -1; 1 to 65536 are allowed\n");
	check(CODEC_FVECS, &o, in, 0, "");
}

static void bvecs_and_fbin_are_read(void **state)
{
	const struct codec_opts o = {0};
	static const uint8_t bvecs[] = {3, 0, 0, 0, 0, 128, 255, 3, 0, 0, 0, 1, 2, 3};
	uint8_t fbin[8 + 16 + 1];

	(void)state;
	check(CODEC_BVECS, &o, bvecs, sizeof bvecs,
		"1 {\"id\":\"0\",\"vector\":[0,128,255]}\n2 {\"id\":\"1\",\"vector\":[1,2,3]}\n");
	put_le32(fbin, 2);
	put_le32(fbin + 4, 2);
	for (size_t i = 0; i < 4; i++)
		put_f32(fbin + 8 + 4 * i, (float)i);
	check(CODEC_FBIN, &o, fbin, 24,
		"1 {\"id\":\"0\",\"vector\":[0,1]}\n2 {\"id\":\"1\",\"vector\":[2,3]}\n");
	check(CODEC_FBIN, &o, fbin, 25,
		"1 {\"id\":\"0\",\"vector\":[0,1]}\n2 {\"id\":\"1\",\"vector\":[2,3]}\n"
		"END the header promises 2 rows, but more bytes follow\n");
	check(CODEC_FBIN, &o, fbin, 16,
		"1 {\"id\":\"0\",\"vector\":[0,1]}\n"
		"END the header promises 2 rows; the input ends after 1\n");
	check(CODEC_FBIN, &o, fbin, 5, "END the fbin header is cut off after 5 bytes\n");
}

static void ids_of_rows_may_come_from_elsewhere(void **state)
{
	const struct codec_opts o = {.row_id = row_id, .on_bad = on_bad};
	static const uint8_t in[] = {1, 0, 0, 0, 7, 1, 0, 0, 0, 8, 1, 0, 0, 0, 9};
	struct trace t = {.b = BUF_INIT, .ids = {"x", "a\tb"}};

	(void)state;
	assert_int_equal(read_all(CODEC_BVECS, &o, in, sizeof in, 4, &t), -EINVAL);
	assert_string_equal((char *)t.b.data,
		"1 {\"id\":\"x\",\"vector\":[7]}\n"
		"2 BAD : the id has a control character (0x09 at byte 1)\n"
		"END there is no id for row 3\n");
	buf_release(&t.b);
}

static size_t make_npy(uint8_t *p, int major, const char *dict, const void *data, size_t n)
{
	size_t len = strlen(dict), fixed = major == 1 ? 10 : 12;

	memcpy(p, "\x93NUMPY", 6);
	p[6] = (uint8_t)major;
	p[7] = 0;
	if (major == 1)
		put_le16(p + 8, (uint16_t)len);
	else
		put_le32(p + 8, (uint32_t)len);
	memcpy(p + fixed, dict, len);
	memcpy(p + fixed + len, data, n);
	return fixed + len + n;
}

static void npy_arrays_are_read(void **state)
{
	static const uint8_t f2[] = {0x00, 0x3c, 0x00, 0xc0, 0x66, 0x2e, 0x01, 0x00};
	static const uint8_t u1[] = {1, 2, 3, 4};
	static const uint8_t f8[] = {0, 0, 0, 0, 0, 0, 0xf8, 0x3f};
	const struct codec_opts o = {.on_bad = on_bad};
	uint8_t in[512];
	size_t n;

	(void)state;
	n = make_npy(in, 1, "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }      \n",
		f2, 8);
	check(CODEC_NPY, &o, in, n,
		"1 {\"id\":\"0\",\"vector\":[1,-2]}\n2 "
		"{\"id\":\"1\",\"vector\":[0.099975586,5.9604645e-8]}"
		"\n");
	n = make_npy(
		in, 2, "{\"shape\": (4,), \"descr\": \"|u1\", \"fortran_order\": True}", u1, 4);
	check(CODEC_NPY, &o, in, n, "1 {\"id\":\"0\",\"vector\":[1,2,3,4]}\n");
	n = make_npy(in, 3, "{'descr':'<f8','fortran_order':False,'shape':(1,1)}\n", f8, 8);
	check(CODEC_NPY, &o, in, n, "1 {\"id\":\"0\",\"vector\":[1.5]}\n");
	n = make_npy(in, 1, "{'descr':'<f4','fortran_order':False,'shape':(0,3)}\n", f8, 0);
	check(CODEC_NPY, &o, in, n, "");
}

static void npy_headers_that_do_not_fit_are_refused(void **state)
{
	static const struct {
		const char *dict, *reason;
	} cases[] = {
		{"{'descr': '>f4', 'fortran_order': False, 'shape': (1, 1), }", "'>f4'"},
		{"{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1), }", "'<i8'"},
		{"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
			"plain numbers"},
		{"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", "Fortran"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 2), }",
			"two dimensions"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "single number"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 70000), }", "70000"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 0), }", "1 to"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 1), }",
			"numbers"},
		{"{'descr': '<f4', 'fortran_order': False, }", "lacks shape"},
		{"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1, 1), }", "malformed"},
		{"{'descr': '<f4', 'descr': '<f4', }", "surprising"},
		{"{'descr': '<f4'", "not closed"},
		{"{'descr': '<f4", "plain numbers"},
		{"[]", "dictionary"},
	};
	uint8_t in[512];

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(cases); i++) {
		struct trace t = {.b = BUF_INIT};
		size_t n = make_npy(in, 1, cases[i].dict, "", 0);
		assert_int_equal(read_all(CODEC_NPY, NULL, in, n, n, &t), -EINVAL);
		if (!strstr((char *)t.b.data, cases[i].reason))
			fail_msg("%s: %s", cases[i].dict, (char *)t.b.data);
		buf_release(&t.b);
	}
}

static void an_endless_line_is_refused(void **state)
{
	struct codec_reader *r;
	struct vx_err err = VX_ERR_INIT;
	struct trace t = {.b = BUF_INIT};
	size_t piece = 1u << 20;
	char *x = malloc(piece);
	int rc = 0;

	(void)state;
	assert_non_null(x);
	memset(x, '1', piece);
	assert_int_equal(codec_reader_new(CODEC_JSONL, NULL, on_record, &t, &r), 0);
	for (int i = 0; i < 20 && !rc; i++)
		rc = codec_feed(r, x, piece, &err);
	assert_int_equal(rc, -EMSGSIZE);
	assert_int_equal(codec_feed(r, "\n", 1, &err), -EMSGSIZE);
	assert_int_equal(codec_finish(r, &err), -EMSGSIZE);
	codec_reader_free(r);
	free(x);
}

static void a_callback_can_stop_the_feed(void **state)
{
	static const char in[] = "[1]\n[2]\n[3]\n";
	const struct codec_opts o = {.id_optional = true};
	struct trace t = {.b = BUF_INIT, .stop_at = 2};

	(void)state;
	assert_int_equal(read_all(CODEC_JSONL, &o, in, sizeof in - 1, 100, &t), -ECANCELED);
	assert_int_equal(t.seen, 2);
	buf_release(&t.b);
}

/* Written in any format, read back the same. */
static void what_is_written_reads_back(void **state)
{
	static const float v[3][2] = {{1, 2}, {0, 255}, {7, 3}};
	static const char *const ids[3] = {"0", "1", "2"};

	(void)state;
	for (enum codec_format f = CODEC_JSONL; f <= CODEC_NPY; f++) {
		char path[] = "/tmp/vecfs-codec-XXXXXX", raw[1024];
		struct codec_writer *w;
		struct trace t = {.b = BUF_INIT};
		int fd = mkstemp(path);
		assert_true(fd >= 0);
		unlink(path);
		assert_int_equal(codec_writer_new(f, fd, 0, &w), 0);
		for (int i = 0; i < 3; i++) {
			struct vx_record r = {.id = ids[i], .id_len = 1, .vec = v[i], .dim = 2};
			assert_int_equal(codec_write(w, &r, NULL), 0);
		}
		assert_int_equal(codec_writer_finish(w, NULL), 0);
		codec_writer_free(w);
		ssize_t n = pread(fd, raw, sizeof raw, 0);
		assert_true(n > 0);
		assert_int_equal(read_all(f, NULL, raw, (size_t)n, 7, &t), 0);
		assert_string_equal((char *)t.b.data, "1 {\"id\":\"0\",\"vector\":[1,2]}\n"
						      "2 {\"id\":\"1\",\"vector\":[0,255]}\n"
						      "3 {\"id\":\"2\",\"vector\":[7,3]}\n");
		assert_int_equal(codec_format_sniff(raw, (size_t)n), f);
		buf_release(&t.b);
		close(fd);
	}
}

static void headers_need_a_count_or_a_file(void **state)
{
	struct codec_writer *w;
	const float v[1] = {1};
	struct vx_record r = {.id = "a", .id_len = 1, .vec = v, .dim = 1};
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(codec_writer_new(CODEC_NPY, p[1], 0, &w), -ESPIPE);
	assert_int_equal(codec_writer_new(CODEC_NPY, p[1], 2, &w), 0);
	assert_int_equal(codec_write(w, &r, NULL), 0);
	assert_int_equal(codec_writer_finish(w, NULL), -ESPIPE); /* one of two */
	codec_writer_free(w);
	assert_int_equal(codec_writer_new(CODEC_FBIN, p[1], 1, &w), 0);
	assert_int_equal(codec_write(w, &r, NULL), 0);
	assert_int_equal(codec_writer_finish(w, NULL), 0);
	codec_writer_free(w);
	close(p[0]);
	close(p[1]);
}

static void formats_are_known_by_name(void **state)
{
	enum codec_format f;

	(void)state;
	for (f = CODEC_JSONL; f <= CODEC_NPY; f++) {
		enum codec_format g;
		assert_int_equal(codec_format_parse(codec_format_name(f), &g), 0);
		assert_int_equal(f, g);
	}
	assert_int_equal(codec_format_parse("csv", &f), -EINVAL);
	assert_int_equal(codec_format_of("a/b.c/x.NPY"), CODEC_NPY);
	assert_int_equal(codec_format_of("x.ndjson"), CODEC_JSONL);
	assert_int_equal(codec_format_of("a.npy/x"), CODEC_NONE);
	assert_int_equal(codec_format_of("x"), CODEC_NONE);
	assert_int_equal(codec_format_sniff("", 0), CODEC_NONE);
	assert_int_equal(codec_format_sniff("a\t1 2\n", 6), CODEC_TSV);
	assert_int_equal(codec_format_sniff("  [1]", 5), CODEC_JSONL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jsonl_is_read_however_it_is_cut),
		cmocka_unit_test(an_unfinished_last_line_ends_the_stream),
		cmocka_unit_test(without_on_bad_the_first_bad_line_ends_the_stream),
		cmocka_unit_test(tsv_is_read),
		cmocka_unit_test(fvecs_rows_get_numbers_and_bad_ones_are_told),
		cmocka_unit_test(bvecs_and_fbin_are_read),
		cmocka_unit_test(ids_of_rows_may_come_from_elsewhere),
		cmocka_unit_test(npy_arrays_are_read),
		cmocka_unit_test(npy_headers_that_do_not_fit_are_refused),
		cmocka_unit_test(an_endless_line_is_refused),
		cmocka_unit_test(a_callback_can_stop_the_feed),
		cmocka_unit_test(what_is_written_reads_back),
		cmocka_unit_test(headers_need_a_count_or_a_file),
		cmocka_unit_test(formats_are_known_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
