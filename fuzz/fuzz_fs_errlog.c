/* Fuzzes the error log: whatever a path or a reason holds, one refusal is one line, without control
 * characters, and the ring never shows more than its bound.  Each input begins with an empty log; some overfill it. */
#include "daemon/errlog.c"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf b = BUF_INIT;
	char where[3000], why[3000];
	size_t half = size / 2, n_lines = 0;

	if (size > 4000)
		return 0;
	memcpy(where, data, half);
	where[half] = 0;
	memcpy(why, data + half, size - half);
	why[size - half] = 0;
	errlog_clear();
	size_t n_adds = size % 509 == 1 ? ERRLOG_LINES + 3 : 1 + size % 3;
	for (size_t i = 0; i < n_adds; i++)
		errlog_add(where, (int)(size % 140) - 70, "%s", why);
	if (errlog_render(&b))
		abort();
	for (size_t i = 0; i < b.len; i++) {
		n_lines += b.data[i] == '\n';
		if (b.data[i] != '\n' && (b.data[i] < 0x20 || b.data[i] == 0x7f))
			abort();
	}
	if (n_lines != VX_MIN(n_adds, (size_t)ERRLOG_LINES))
		abort();
	buf_release(&b);
	return 0;
}
