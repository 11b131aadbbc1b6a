/* Fuzzes the manifest of a snapshot: the input as it is, and the input with its first line and its checksum put right.
 * There is one text for one manifest, so what parses prints again to the same bytes; and no name in it leads out of the
 * snapshot's directory. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/record.h"
#include "cluster/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void try(const void *p, size_t n)
{
	struct vx_err err = VX_ERR_INIT;
	struct buf again = BUF_INIT;
	struct manifest m;
	int rc = manifest_parse(p, n, &m, &err);

	if (rc) {
		must(rc == -EUCLEAN || rc == -EOPNOTSUPP);
		must(err.code == rc && err.msg[0]);
		return;
	}
	must(vx_name_check(m.name, NULL) == 0);
	must(vx_name_check(m.coll, NULL) == 0);
	for (size_t i = 0; i < m.n_files; i++) {
		must(!strchr(m.files[i].name, '/') && m.files[i].name[0] != '.');
		must(manifest_find(&m, m.files[i].name) == &m.files[i]);
	}
	for (size_t i = 0; i < m.n_slices; i++)
		must(m.slices[i].info.cid == m.cid &&
			m.slices[i].info.count <= m.slices[i].info.slots);
	(void)manifest_records(&m);
	(void)manifest_bytes(&m);
	must(manifest_print(&m, &again) == 0);
	must(again.len == n && memcmp(again.data, p, n) == 0);
	buf_release(&again);
	manifest_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf b = BUF_INIT;

	if (size > 65536)
		return 0;
	/* An exact copy, so that a byte too far is seen. */
	char *copy = calloc(1, size ? size : 1);
	must(copy != NULL);
	if (size)
		memcpy(copy, data, size);
	try(copy, size);
	free(copy);
	/* A seed's own first and last lines go. */
	if (size > 17 && memcmp(data, "vecfs-snapshot 1\n", 17) == 0) {
		data += 17;
		size -= 17;
	}
	if (size >= 21 && memcmp(data + size - 21, "sum ", 4) == 0)
		size -= 21;
	must(buf_append(&b, "vecfs-snapshot 1\n", 17) == 0);
	must(buf_append(&b, data, size) == 0);
	must(buf_printf(&b, "sum %016llx\n", (unsigned long long)hash_xxh3(b.data, b.len, 0)) == 0);
	try(b.data, b.len);
	buf_release(&b);
	return 0;
}
