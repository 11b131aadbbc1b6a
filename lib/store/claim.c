#include "store/claim.h"

#include <fcntl.h>

#include "base/bytes.h"
#include "base/hash.h"

#define CLAIM_MAGIC   0x4c435856u /* "VXCL" */
#define CLAIM_VERSION 1u
#define CLAIM_BYTES   24u

int claim_write(struct disk *d, const char *path, uint64_t applied)
{
	uint8_t b[CLAIM_BYTES];

	put_le32(b, CLAIM_MAGIC);
	put_le32(b + 4, CLAIM_VERSION);
	put_le64(b + 8, applied);
	put_le64(b + 16, hash_xxh3(b, 16, 0));
	int fd = d->ops->open(d, path, O_WRONLY | O_CREAT, 0644);
	if (fd < 0)
		return fd;
	int rc = disk_pwrite(d, fd, b, sizeof b, 0);
	/* Half of it would look like damage; an empty one claims nothing. */
	if (rc)
		(void)d->ops->truncate(d, fd, 0);
	int rc2 = d->ops->close(d, fd);
	return rc ? rc : rc2;
}

int claim_load(struct disk *d, const char *path, uint64_t *ret)
{
	uint8_t b[CLAIM_BYTES], any = 0;

	int fd = d->ops->open(d, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	int rc = disk_pread(d, fd, b, sizeof b, 0);
	(void)d->ops->close(d, fd);
	if (rc)
		return rc == -EUCLEAN ? -ENODATA : rc;
	for (size_t i = 0; i < sizeof b; i++)
		any |= b[i];
	if (!any)
		return -ENODATA;
	if (get_le32(b) != CLAIM_MAGIC || get_le32(b + 4) != CLAIM_VERSION ||
		get_le64(b + 16) != hash_xxh3(b, 16, 0))
		return -EUCLEAN;
	*ret = get_le64(b + 8);
	return 0;
}

uint64_t claim_read(struct disk *d, const char *path)
{
	uint64_t applied = 0;

	return claim_load(d, path, &applied) ? 0 : applied;
}
