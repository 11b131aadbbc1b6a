/* faultdisk.h - a disk one of whose calls fails, reading ones too.
 *
 * It lies on a fakedisk, whose directory "wal" it shows under any path.  It may stand in for disk_real(), so that
 * what the log does on the kernel's disk alone (O_DIRECT) can be tried as well.  There is one at a time.
 */
#ifndef VECFS_TESTS_WAL_FAULTDISK_H
#define VECFS_TESTS_WAL_FAULTDISK_H

#include "base/disk.h"

enum fault_op {
	FAULT_OPEN,
	FAULT_PREAD,
	FAULT_PWRITE,
	FAULT_FDATASYNC,
	FAULT_ALLOCATE,
	FAULT_SIZE,
	FAULT_RENAME,
	FAULT_UNLINK,
	FAULT_SYNC_DIR,
	FAULT_LIST,
	FAULT_OPS,
};

/* What the file system says to O_DIRECT. */
enum fault_direct { DIRECT_WORKS, DIRECT_NO_OPEN, DIRECT_NOT_SUPPORTED, DIRECT_NO_WRITE };

/* Nothing fails yet. */
struct disk *faultdisk(struct disk *under);

/* The n-th call of 'op' from now (1: the next; 0: none) is answered with 'err' (negative), once, and does
 * nothing; err 0: a read or write does half of it. */
void faultdisk_arm(enum fault_op op, unsigned n, int err);
bool faultdisk_fired(void);

/* Until there is another disk, reads of the byte 'off' of the file 'name' fail with -EIO.  NULL: none. */
void faultdisk_bad(const char *name, uint64_t off);
/* After that many such failures it is well again.  0: never; faultdisk_bad says so too. */
void faultdisk_heals(unsigned n);

/* disk_real() becomes the disk; until faultdisk_unreal. */
void faultdisk_real(enum fault_direct direct);
void faultdisk_unreal(void);

/* Writes through handles that were opened with O_DIRECT, all of them checked to be of whole blocks. */
unsigned faultdisk_direct_writes(void);

#endif
