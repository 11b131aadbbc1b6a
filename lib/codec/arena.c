#include "codec/codec_i.h"

#include <stdlib.h>

struct codec_arena *codec_arena_new(void)
{
	return calloc(1, sizeof(struct codec_arena));
}

void codec_arena_free(struct codec_arena *a)
{
	if (!a)
		return;
	free(a->vec);
	buf_release(&a->id);
	buf_release(&a->meta);
	buf_release(&a->text);
	buf_release(&a->key);
	buf_release(&a->name);
	free(a);
}

int arena_vec_reserve(struct codec_arena *a, size_t n)
{
	if (n <= a->vec_cap)
		return 0;
	size_t cap = a->vec_cap ? a->vec_cap : 256, bytes;
	while (cap < n) {
		if (vx_mul_overflow(cap, 2, &cap))
			return -ENOMEM;
	}
	if (vx_mul_overflow(cap, sizeof(float), &bytes))
		return -ENOMEM;
	float *v = realloc(a->vec, bytes);
	if (!v)
		return -ENOMEM;
	a->vec = v;
	a->vec_cap = cap;
	return 0;
}
