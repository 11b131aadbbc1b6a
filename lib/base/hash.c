#include "base/hash.h"

#include <xxhash.h>

uint64_t hash_xxh3(const void *p, size_t n, uint64_t seed)
{
	return XXH3_64bits_withSeed(p, n, seed);
}

uint64_t hash_id(const void *id, size_t n)
{
	return XXH64(id, n, 0);
}

uint32_t hash_bucket(const void *id, size_t n)
{
	return (uint32_t)(hash_id(id, n) % VX_BUCKETS);
}
