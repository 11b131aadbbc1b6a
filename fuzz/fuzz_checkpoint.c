/* Fuzzes the loader of index checkpoints.  A real checkpoint of a small index is made once; the input says which
 * bytes of its payload to overwrite, the checksums are put right again, and the loader must refuse what makes no
 * sense.  What loads must pass a search without touching memory that is not its own. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "index/index.h"

#define DIM    8u
#define SLOTS  40u
#define HEADER 128u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static float vecs[SLOTS][DIM];
static uint8_t good[1u << 20];
static size_t good_len;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static const float *vector(void *ctx, uint32_t slot)
{
	(void)ctx;
	return vecs[slot];
}

static struct index *fresh(void)
{
	struct index_params p = {.metric = VX_L2, .dim = DIM, .m = 4, .ef_construction = 16};
	struct index_host h = {.vector = vector};
	struct index *ix;

	must(index_new(&p, &h, &ix) == 0);
	return ix;
}

static void make_good(void)
{
	char path[] = "/tmp/vecfs-fuzz-XXXXXX";
	struct index *ix = fresh();
	struct index_tag tag = {.generation = 1, .applied = 7};
	int fd;

	for (uint32_t i = 0; i < SLOTS; i++)
		for (uint32_t j = 0; j < DIM; j++)
			vecs[i][j] = (float)((i * 7 + j * 13) % 29) - 14.0f;
	must(index_append(ix, 0, SLOTS, &vecs[0][0]) == 0);
	while (index_link(ix, SLOTS) > 0)
		;
	fd = mkstemp(path);
	must(fd >= 0);
	close(fd);
	unlink(path);
	must(index_save(ix, disk_real(), path, tag, NULL) == 0);
	fd = open(path, O_RDONLY);
	must(fd >= 0);
	ssize_t n = read(fd, good, sizeof good);
	must(n > (ssize_t)HEADER + 8 && n < (ssize_t)sizeof good);
	good_len = (size_t)n;
	close(fd);
	unlink(path);
	index_free(ix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[sizeof good];
	char path[64];
	struct index_tag tag;
	struct index_hit hits[SLOTS];
	uint32_t n = 0;

	if (good_len == 0)
		make_good();
	memcpy(file, good, good_len);
	/* One block: header, payload, checksum.  Three bytes of input change one byte of it; the counts of slots
	 * in the header (84..95) are fair game as well. */
	for (; size >= 3; data += 3, size -= 3) {
		size_t at = 84 + (size_t)(data[0] | data[1] << 8) % (good_len - 84 - 8);

		if (at < 96 || at >= HEADER)
			file[at] = data[2];
	}
	put_le64(file + 120, hash_xxh3(file, 120, 0));
	put_le64(file + good_len - 8,
		hash_xxh3(file + HEADER, good_len - HEADER - 8, get_le64(file + 16)));
	int fd = memfd_create("checkpoint", 0);
	must(fd >= 0);
	must(write(fd, file, good_len) == (ssize_t)good_len);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	struct index *ix = fresh();
	int rc = index_load(ix, disk_real(), path, &tag, NULL);
	if (rc == 0 && index_appended(ix) <= SLOTS && index_check(ix, NULL) == 0) {
		struct index_query q = {.vec = vecs[3], .k = 5, .nslots = index_appended(ix)};

		must(index_search(ix, &q, hits, &n, NULL) == 0);
	}
	index_free(ix);
	close(fd);
	return 0;
}
