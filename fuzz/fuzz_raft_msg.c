/* Fuzzes the decoders of Raft messages and of a mark's manifest: with the input as it is, and with head and
 * checksum put right, so that the bodies are reached.  A message that decodes encodes again to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "raft/repl_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void try_message(const uint8_t *p, size_t n)
{
	struct repl_msg_head head, head2;
	struct raft_message m, m2;
	struct buf b = BUF_INIT, b2 = BUF_INIT;

	if (repl_msg_decode(p, n, &head, &m))
		return;
	must(repl_msg_encode(&head, &m, &b) == 0);
	must(repl_msg_decode(b.data, b.len, &head2, &m2) == 0);
	must(repl_msg_encode(&head2, &m2, &b2) == 0);
	must(b.len == b2.len && memcmp(b.data, b2.data, b.len) == 0);
	repl_msg_release(&m);
	repl_msg_release(&m2);
	buf_release(&b);
	buf_release(&b2);
}

static void try_manifest(const uint8_t *p, size_t n)
{
	struct repl_manifest m;
	struct buf b = BUF_INIT;

	if (repl_manifest_decode(p, n, &m))
		return;
	must(repl_manifest_encode(&m, &b) == 0);
	raft_configuration_close(&m.conf);
	buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t magic_msg[] = "VRM1", magic_man[] = "VRK1";

	if (size < 8 || size > (1u << 20))
		return 0;
	uint8_t *p = malloc(size + 8);
	must(p != NULL);
	memcpy(p, data, size);
	try_message(p, size);
	try_manifest(p, size);
	memcpy(p, magic_msg, 4);
	p[4] = 1;
	p[6] = p[7] = 0;
	if (size >= 16)
		memset(p + 12, 0, 4);
	put_le64(p + size, hash_xxh3(p, size, 0));
	try_message(p, size + 8);
	memcpy(p, magic_man, 4);
	put_le64(p + size, hash_xxh3(p, size, 0));
	try_manifest(p, size + 8);
	free(p);
	return 0;
}
