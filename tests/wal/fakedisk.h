/* fakedisk.h - a disk in memory that loses power, fails and fills up.
 *
 * What a test can ask of it beyond 'struct disk_ops': a crash, after which each unsynced
 * 512-byte sector and each unsynced change of the directory is there or not, as a seed
 * decides; an error at the n-th changing call; a limit on bytes; and a look at, or a hand on,
 * the bytes of a file.  Paths are plain strings; directories exist without being made.
 */
#ifndef VECFS_TESTS_WAL_FAKEDISK_H
#define VECFS_TESTS_WAL_FAKEDISK_H

#include "base/disk.h"

#define FAKEDISK_SECTOR 512u

struct disk *fakedisk_new(void); /* NULL: no memory */
void fakedisk_free(struct disk *d);

/* What is seen now, on a disk of its own, all of it synced. */
struct disk *fakedisk_clone(const struct disk *d);

/* Power goes: handles are gone, unsynced sectors, sizes and names survive as 'seed' decides. */
void fakedisk_crash(struct disk *d, uint64_t seed);

/* The n-th changing call from now (1: the next) fails with 'err' (negative), once; a failed
 * write may have written some of its bytes, and what a failed sync leaves behind can be read
 * but is lost in a crash, and a second sync does not help.  err 0: that call, if it is a
 * write, is short. n 0: never. */
void fakedisk_fail_after(struct disk *d, uint64_t n, int err);

/* Changing calls so far (open with O_CREAT of a new file, pwrite, fdatasync, truncate,
 * allocate, rename, unlink, sync_dir). */
uint64_t fakedisk_calls(const struct disk *d);

/* -ENOSPC where the files together would grow beyond 'bytes'. */
void fakedisk_limit(struct disk *d, uint64_t bytes);

/* Bytes of all files, as they are seen. */
uint64_t fakedisk_used(const struct disk *d);

/* The bytes of a file as they are seen; a change through the pointer is at once durable only
 * after fakedisk_put.  NULL: no such file.  Valid until the next call. */
uint8_t *fakedisk_bytes(struct disk *d, const char *path, size_t *ret_size);

/* Makes a file of these bytes, synced.  0 or -ENOMEM. */
int fakedisk_put(struct disk *d, const char *path, const void *p, size_t n);

/* The same names with the same bytes? */
bool fakedisk_same(const struct disk *a, const struct disk *b);

unsigned fakedisk_open_handles(const struct disk *d);

#endif
