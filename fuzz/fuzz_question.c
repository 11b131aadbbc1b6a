/* Fuzzes questions: what is accepted asks exactly one thing, within its bounds, and points into the
 * arena alone (the input is freed before it is looked at). */
#include <stdlib.h>
#include <string.h>

#include "codec/question.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct codec_arena *a = codec_arena_new();
	char *copy = malloc(size ? size : 1);
	struct vx_err err = VX_ERR_INIT;
	struct question q;

	must(a && copy);
	memcpy(copy, data, size);
	(void)question_kind_of(copy, size, (uint32_t)(size / 4));
	int rc = question_parse(a, copy, size, &q, &err);
	free(copy);
	if (rc) {
		must(err.code == rc && err.msg[0] && vx_utf8_valid(err.msg, strlen(err.msg)));
	} else {
		struct buf b = BUF_INIT;
		must(!!q.vec + !!q.id + !!q.text == 1);
		must(q.k <= VX_K_MAX);
		must(!q.vec || (q.dim >= 1 && q.dim <= VX_DIM_MAX));
		must(!q.id || vx_id_check(q.id, q.id_len, NULL) == 0);
		must(!q.text || vx_utf8_valid(q.text, q.text_len));
		struct answer_hit h = {.id = "x", .id_len = 1, .vec = q.vec, .dim = q.dim};
		struct answer an = {
			.name = q.name, .name_len = q.name_len, .hits = &h, .n_hits = 1};
		must(answer_print(&b, ANSWER_JSON, &an) == 0);
		must(codec_json_complete((const char *)b.data, b.len) == 1);
		buf_release(&b);
	}
	codec_arena_free(a);
	return 0;
}
