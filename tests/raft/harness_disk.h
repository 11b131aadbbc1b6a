/* harness_disk.h - the disk of a simulated node. */
#ifndef VECFS_TESTS_RAFT_HARNESS_DISK_H
#define VECFS_TESTS_RAFT_HARNESS_DISK_H

#include "base/disk.h"

struct disk *harness_disk_new(void); /* with an empty directory "wal" */
void harness_disk_free(struct disk *d);

/* From now on writes may be lost or torn, as 'seed' decides, until the next crash. */
void harness_disk_tear(struct disk *d, uint64_t seed);

/* Power goes: what was not synced survives in part, as 'seed' decides. */
void harness_disk_crash(struct disk *d, uint64_t seed);

#endif
