/* Fuzzes the push parsers of all formats: the first byte names the format, the second the size of
 * the pieces.  However the stream is cut, what comes out must be the same as from one piece. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

struct seen {
	uint64_t hash, records, bad;
};

static void mix(struct seen *s, const void *p, size_t n)
{
	if (n)
		s->hash = hash_xxh3(p, n, s->hash);
}

static int on_record(void *ctx, const struct vx_record *r)
{
	struct seen *s = ctx;

	s->records++;
	must(r->dim >= 1 && r->dim <= VX_DIM_MAX && r->id && r->line);
	must(vx_id_check(r->id, r->id_len, NULL) == 0);
	for (uint32_t i = 0; i < r->dim; i++)
		must(r->vec[i] - r->vec[i] == 0); /* finite */
	mix(s, r->id, r->id_len);
	mix(s, r->vec, r->dim * sizeof(float));
	mix(s, r->meta, r->meta_len);
	mix(s, r->text, r->text_len);
	return 0;
}

static int on_bad(void *ctx, uint64_t line, const char *raw, size_t n, const struct vx_err *why)
{
	struct seen *s = ctx;

	s->bad++;
	must(line && why->msg[0]);
	mix(s, raw, n);
	return 0;
}

static struct seen run(enum codec_format f, const uint8_t *p, size_t n, size_t piece)
{
	const struct codec_opts o = {.on_bad = on_bad};
	struct seen s = {0};
	struct codec_reader *r;
	struct vx_err err = VX_ERR_INIT;
	int rc = codec_reader_new(f, &o, on_record, &s, &r);

	must(rc == 0);
	for (size_t i = 0; i < n && !rc; i += piece) {
		size_t k = VX_MIN(piece, n - i);
		uint8_t *copy = malloc(k);
		must(copy != NULL);
		memcpy(copy, p + i, k);
		rc = codec_feed(r, copy, k, &err);
		free(copy);
	}
	if (!rc)
		rc = codec_finish(r, &err);
	must(rc == 0 || err.msg[0]);
	must(codec_count(r) == s.records + s.bad);
	codec_reader_free(r);
	s.hash ^= (uint64_t)-rc;
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	enum codec_format f = (enum codec_format)(CODEC_JSONL + data[0] % 6);
	size_t piece = (size_t)data[1] % 40 + 1;
	struct seen whole = run(f, data + 2, size - 2, size);
	struct seen cut = run(f, data + 2, size - 2, piece);

	must(whole.hash == cut.hash && whole.records == cut.records && whole.bad == cut.bad);
	(void)codec_format_sniff(data + 2, size - 2);
	return 0;
}
