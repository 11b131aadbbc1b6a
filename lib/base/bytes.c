#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf)BUF_INIT;
}

int buf_grow(struct buf *b, size_t n)
{
	size_t need;

	if (vx_add_overflow(b->len, n, &need))
		return -ENOMEM;
	size_t cap = b->cap ? b->cap : 256;
	while (cap < need) {
		if (vx_mul_overflow(cap, 2, &cap))
			return -ENOMEM;
	}
	uint8_t *p = realloc(b->data, cap);
	if (!p)
		return -ENOMEM;
	b->data = p;
	b->cap = cap;
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	for (size_t room = 128;;) {
		int rc = buf_reserve(b, room);
		if (rc)
			return rc;
		va_start(ap, fmt);
		int n = vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, ap);
		va_end(ap);
		if (n < 0)
			return -EINVAL;
		if ((size_t)n < b->cap - b->len) {
			b->len += (size_t)n;
			return 0;
		}
		room = (size_t)n + 1;
	}
}

void buf_consume(struct buf *b, size_t n)
{
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

int buf_cstr(struct buf *b)
{
	int rc = buf_reserve(b, 1);
	if (rc)
		return rc;
	b->data[b->len] = 0;
	return 0;
}
