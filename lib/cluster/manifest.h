/* manifest.h - the file that says what a snapshot is: docs/format-store.md, "Snapshots".
 *
 * Text, a fact per line, and a checksum of all of it in the last one.  Parsing trusts nothing: names of
 * files cannot leave the directory, every count is that of lines that are there.
 */
#ifndef VECFS_CLUSTER_MANIFEST_H
#define VECFS_CLUSTER_MANIFEST_H

#include "base/bytes.h"
#include "base/err.h"
#include "store/snap.h"

#define MANIFEST_NAME      "manifest"
#define MANIFEST_BYTES_MAX (16u << 20)
#define MANIFEST_FILE_MAX  31u /* bytes of a file's name */
#define MANIFEST_PREFIX    8u  /* bytes that hold "s003" */

struct manifest_file {
	char name[MANIFEST_FILE_MAX + 1];
	uint64_t size, sum; /* XXH3 of its bytes, seed 0 */
};
struct manifest_slice {
	uint32_t shard;
	struct snap_slice info; /* cid: the manifest's */
};
struct manifest_option {
	char key[64];
	char *value;
};
struct manifest {
	char name[VX_NAME_MAX + 1], coll[VX_NAME_MAX + 1];
	uint32_t cid;
	uint64_t time_ns;
	struct manifest_option *options;
	size_t n_options;
	struct manifest_slice *slices;
	size_t n_slices;
	struct manifest_file *files;
	size_t n_files;
};

/* Zero-initialised by the owner. */
void manifest_release(struct manifest *m);
VX_MUST_CHECK
int manifest_add_option(struct manifest *m, const char *key, const char *value);
VX_MUST_CHECK
int manifest_add_slice(struct manifest *m, uint32_t shard, const struct snap_slice *info);
VX_MUST_CHECK
int manifest_add_file(struct manifest *m, const char *name, uint64_t size, uint64_t sum);
VX_MUST_CHECK
int manifest_print(const struct manifest *m, struct buf *out);
/* -EUCLEAN: damaged, or no manifest; -EOPNOTSUPP: a later version.  *ret is to be released on 0 alone. */
VX_MUST_CHECK
int manifest_parse(const void *p, size_t n, struct manifest *ret, struct vx_err *err);
/* NULL: it has no file of this name. */
const struct manifest_file *manifest_find(const struct manifest *m, const char *name);
uint64_t manifest_records(const struct manifest *m);
uint64_t manifest_bytes(const struct manifest *m);

#endif
