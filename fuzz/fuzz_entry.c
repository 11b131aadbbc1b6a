/* Fuzzes the entry reader twice: with the input as the whole entry, and with the input as the
 * payload of an entry whose checksums are right, so that the record decoder is reached.  What
 * decodes must encode again to the very same bytes. */
#include <stdlib.h>
#include <string.h>

#include "store/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void walk(const uint8_t *p, size_t n)
{
	struct entry_reader r;
	struct entry_rec e;
	struct buf again = BUF_INIT;
	int rc;

	if (entry_open(&r, p, n))
		return;
	if (r.h.kind == ENTRY_SLICE_CREATE) {
		struct slice_schema s;
		(void)!slice_schema_decode(r.payload, r.payload_len, &s);
	}
	must(entry_begin(&again, &r.h) == 0);
	while ((rc = entry_next(&r, &e)) == 1)
		must(entry_add(&again, &e) == 0);
	if (rc == 0 && r.h.kind == ENTRY_DATA) {
		entry_finish(&again, 0, &r.h, r.h.count);
		must(again.len == n);
		must(memcmp(again.data + ENTRY_HEADER_SIZE, p + ENTRY_HEADER_SIZE,
			     n - ENTRY_HEADER_SIZE) == 0);
	}
	buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > (1u << 20))
		return 0;
	uint8_t *copy = malloc(size);
	must(copy != NULL);
	memcpy(copy, data, size);
	walk(copy, size);
	free(copy);

	struct buf b = BUF_INIT;
	struct entry_header h = {.kind = (uint8_t)(ENTRY_DATA + data[0] % 4)};
	must(entry_begin(&b, &h) == 0);
	must(buf_append(&b, data + 2, size - 2) == 0);
	entry_finish(&b, 0, &h, data[1]);
	walk(b.data, b.len);
	buf_release(&b);
	return 0;
}
