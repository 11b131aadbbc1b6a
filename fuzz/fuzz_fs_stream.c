/* Fuzzes how `append` and `delete` take writes: the same bytes, written in one piece and in pieces of the input's choice,
 * commit the same records and end with the same error at the same line.  The writer is a program as most are: after a short write it
 * goes on with the rest, at an error it stops.
 *
 *	byte 0		bit 0: delete; bits 1, 2: the collection's dimension, 0 if it has none yet
 *	byte 1		n, modulo 16
 *	n bytes		lengths of pieces, over and over
 *	then		what is written
 */
#include "fuzz/batch_stub.h"

#define again_name     stub_again_name
#define vec_record_max stub_vec_record_max
#define stream_ops     stub_stream_ops
void again_name(struct fs *fs, struct batch *b);
uint64_t vec_record_max(const struct coll *c);
extern const struct file_ops stream_ops;

#include "daemon/fs_stream.c"

void again_name(struct fs *fs, struct batch *b)
{
	(void)fs;
	(void)b;
}

uint64_t vec_record_max(const struct coll *c)
{
	(void)c;
	return 1u << 20; /* no line of an input is longer */
}

struct outcome {
	int rc;
	uint64_t line;
	struct buf committed;
};

/* One write(2) and what the program does with its result: 0 when all of it is taken. */
static int write_all(struct handle *h, const char *p, size_t n, struct vx_err *err)
{
	while (n) {
		size_t took = n;
		char *copy = malloc(n);
		must(copy != NULL);
		memcpy(copy, p, n);
		int rc = stream_write(h, NULL, copy, n, 0, &took, err);
		free(copy);
		if (rc)
			return rc;
		must(took >= 1 && took <= n);
		p += took;
		n -= took;
	}
	return 0;
}

static void run(enum fs_kind kind, const uint8_t *sizes, size_t n_sizes, const char *p, size_t n,
	struct outcome *ret)
{
	struct stream_handle sh = {.h = {.loc = {.kind = kind}}};
	struct vx_err err = VX_ERR_INIT;

	world.committed = (struct buf)BUF_INIT;
	must(stream_open(&sh.h, NULL, &err) == 0);
	ret->rc = 0;
	for (size_t at = 0, i = 0; at < n && ret->rc == 0; i++) {
		size_t k = n_sizes ? VX_MIN((size_t)sizes[i % n_sizes] + 1, n - at) : n;
		ret->rc = write_all(&sh.h, p + at, k, &err);
		at += k;
	}
	if (ret->rc == 0)
		ret->rc = stream_flush(&sh.h, NULL, &err);
	must(ret->rc == 0 || err.msg[0]);
	ret->line = ret->rc ? sh.h.err_line : sh.line;
	ret->committed = world.committed;
	stream_close(&sh.h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, cut;

	if (size < 2 || size > 16384 || size < 2u + data[1] % 16u)
		return 0;
	size_t n_sizes = data[1] % 16u;
	const char *p = (const char *)data + 2 + n_sizes;
	size_t n = size - 2 - n_sizes;
	enum fs_kind kind = data[0] & 1 ? K_DELETE : K_APPEND;

	world.dim = data[0] >> 1 & 3;
	run(kind, NULL, 0, p, n, &whole);
	run(kind, data + 2, n_sizes, p, n, &cut);
	must(whole.rc == cut.rc);
	must(whole.line == cut.line);
	must(whole.committed.len == cut.committed.len);
	if (whole.committed.len)
		must(memcmp(whole.committed.data, cut.committed.data, cut.committed.len) == 0);
	buf_release(&whole.committed);
	buf_release(&cut.committed);
	return 0;
}
