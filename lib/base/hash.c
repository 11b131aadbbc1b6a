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

/* XXH3's state, under a name of ours. */
static XXH3_state_t *state(const struct hash_stream *h)
{
	return (XXH3_state_t *)(uintptr_t)h;
}

struct hash_stream *hash_stream_new(void)
{
	XXH3_state_t *s = XXH3_createState();

	if (s)
		(void)XXH3_64bits_reset(s);
	return (struct hash_stream *)s;
}

void hash_stream_free(struct hash_stream *h)
{
	(void)XXH3_freeState(state(h));
}

void hash_stream_add(struct hash_stream *h, const void *p, size_t n)
{
	(void)XXH3_64bits_update(state(h), p, n);
}

uint64_t hash_stream_sum(const struct hash_stream *h)
{
	return XXH3_64bits_digest(state(h));
}

void hash_stream_reset(struct hash_stream *h)
{
	(void)XXH3_64bits_reset(state(h));
}
