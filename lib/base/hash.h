/* hash.h - xxHash under the names this project uses. */
#ifndef VECFS_BASE_HASH_H
#define VECFS_BASE_HASH_H

#include "base/base.h"

/* XXH3 64-bit with a seed: every checksum on disk and on the wire. */
uint64_t hash_xxh3(const void *p, size_t n, uint64_t seed);

/* The same of what comes in pieces, seed 0. */
struct hash_stream;
struct hash_stream *hash_stream_new(void); /* NULL: no memory */
void hash_stream_free(struct hash_stream *h);
void hash_stream_add(struct hash_stream *h, const void *p, size_t n);
/* Of all so far; more may follow. */
uint64_t hash_stream_sum(const struct hash_stream *h);
void hash_stream_reset(struct hash_stream *h);

/* The bucket (0..VX_BUCKETS-1) of an id: XXH64(id, seed 0) mod 4096. */
uint32_t hash_bucket(const void *id, size_t n);

/* XXH64(id, 0): in-memory tables. */
uint64_t hash_id(const void *id, size_t n);

#endif
