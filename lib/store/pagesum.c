/* pagesum.c - the VFS that keeps and verifies a checksum per page.
 *
 * Only the database file is wrapped; journals, -wal and -shm go straight to SQLite's own VFS.  Every
 * file that is opened through it has checksums, from its first page on: nothing in the file says so, since whatever said it
 * could be damaged, and with it the checks be off.  SQLite looks at the header alone before it reads
 * pages; what that look made it believe of the file -- another length of pages, no reserved bytes -- is believed no longer than until
 * it reads one, for a read of any other length is refused.
 *
 * A page is copied before its checksum is put in: SQLite's own image of it, from which the frames of
 * the -wal file and their checksums are made, is not ours to change.
 */
#include "store/pagesum.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/hash.h"

#define PAGE_BYTES 4096
#define SUM_BYTES  8
#define SUM_AT     (PAGE_BYTES - SUM_BYTES)
#define HEAD_BYTES 100
#define RESERVED   20 /* byte of the header */

struct file {
	sqlite3_file base;
	const char *name; /* SQLite's */
			  /* The real file follows, aligned. */
};

#define FILE_BYTES VX_ALIGN_UP(sizeof(struct file), 16)

/* What verify.c asks for; nothing here depends on it. */
static _Thread_local uint64_t bad_at[PAGESUM_BAD_MAX];
static _Thread_local unsigned n_bad;

unsigned pagesum_bad(const uint64_t **ret_at)
{
	*ret_at = bad_at;
	return n_bad;
}

void pagesum_bad_forget(void)
{
	n_bad = 0;
}

static int note_bad(sqlite3_int64 at)
{
	for (unsigned i = 0; i < n_bad; i++) {
		if (bad_at[i] == (uint64_t)at)
			return SQLITE_CORRUPT;
	}
	if (n_bad < PAGESUM_BAD_MAX)
		bad_at[n_bad++] = (uint64_t)at;
	return SQLITE_CORRUPT;
}

static sqlite3_vfs *real_vfs;
static sqlite3_vfs our_vfs;

static sqlite3_file *real(sqlite3_file *f)
{
	return (sqlite3_file *)(void *)((uint8_t *)f + FILE_BYTES);
}

static uint64_t page_sum(const uint8_t *p, sqlite3_int64 at)
{
	return hash_xxh3(p, SUM_AT, (uint64_t)at);
}

static bool is_header(const uint8_t *p)
{
	return memcmp(p, "SQLite format 3", 16) == 0;
}

/* A file that was made and never written to. */
static bool is_empty(sqlite3_file *file)
{
	sqlite3_int64 size = 0;

	return real(file)->pMethods->xFileSize(real(file), &size) == SQLITE_OK && size == 0;
}

static bool is_page(int n, sqlite3_int64 at)
{
	return n == PAGE_BYTES && at % PAGE_BYTES == 0;
}

static int file_close(sqlite3_file *f)
{
	return real(f)->pMethods->xClose(real(f));
}

static int file_read(sqlite3_file *file, void *buf, int n, sqlite3_int64 at)
{
	int rc = real(file)->pMethods->xRead(real(file), buf, n, at);
	const uint8_t *p = buf;

	if ((rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ) || at + n <= HEAD_BYTES)
		return rc;
	/* A page that the file should have and is too short for. */
	if (rc == SQLITE_IOERR_SHORT_READ)
		return is_empty(file) ? rc : note_bad(at);
	if (!is_page(n, at))
		return note_bad(0); /* where the length of pages stands */
	return get_le64(p + SUM_AT) == page_sum(p, at) ? rc : note_bad(at);
}

static int file_write(sqlite3_file *file, const void *buf, int n, sqlite3_int64 at)
{
	uint8_t page[PAGE_BYTES];
	const uint8_t *p = buf;

	/* Made without pagesum_reserve, its pages have no place for a sum. */
	if (!is_page(n, at) || (at == 0 && is_header(p) && p[RESERVED] != SUM_BYTES))
		return SQLITE_IOERR_WRITE;
	memcpy(page, p, SUM_AT);
	put_le64(page + SUM_AT, page_sum(page, at));
	return real(file)->pMethods->xWrite(real(file), page, n, at);
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	return real(f)->pMethods->xTruncate(real(f), size);
}

static int file_sync(sqlite3_file *f, int flags)
{
	return real(f)->pMethods->xSync(real(f), flags);
}

static int file_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	return real(f)->pMethods->xFileSize(real(f), ret);
}

static int file_lock(sqlite3_file *f, int level)
{
	return real(f)->pMethods->xLock(real(f), level);
}

static int file_unlock(sqlite3_file *f, int level)
{
	return real(f)->pMethods->xUnlock(real(f), level);
}

static int file_check_lock(sqlite3_file *f, int *ret)
{
	return real(f)->pMethods->xCheckReservedLock(real(f), ret);
}

static int file_control(sqlite3_file *f, int op, void *arg)
{
	return real(f)->pMethods->xFileControl(real(f), op, arg);
}

static int file_sector(sqlite3_file *f)
{
	return real(f)->pMethods->xSectorSize(real(f));
}

static int file_traits(sqlite3_file *f)
{
	return real(f)->pMethods->xDeviceCharacteristics(real(f));
}

/* SQLite, where it cannot make a file, tries to read it: the errno that is left says that there is none.  So
 * the system is asked again, by making a file beside it: 0 when that can be done after all. */
static int why_not(const char *name, const char *suffix)
{
	char path[4096];

	int n = snprintf(path, sizeof path, "%s%s.try", name, suffix);
	if (n < 0 || (size_t)n >= sizeof path)
		return ENAMETOOLONG;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	(void)close(fd);
	(void)unlink(path);
	return 0;
}

static int file_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret)
{
	const char *name = ((struct file *)f)->name;
	int rc = real(f)->pMethods->xShmMap(real(f), page, size, extend, ret);

	if ((rc & 0xff) != SQLITE_CANTOPEN || !name)
		return rc;
	int why = why_not(name, "-shm");
	if (why == 0)
		return real(f)->pMethods->xShmMap(real(f), page, size, extend, ret);
	errno = why;
	return rc;
}

static int file_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
	return real(f)->pMethods->xShmLock(real(f), at, n, flags);
}

static void file_shm_barrier(sqlite3_file *f)
{
	real(f)->pMethods->xShmBarrier(real(f));
}

static int file_shm_unmap(sqlite3_file *f, int remove)
{
	return real(f)->pMethods->xShmUnmap(real(f), remove);
}

/* Version 2: a mapping of the file would go past us. */
static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_unlock,
	.xCheckReservedLock = file_check_lock,
	.xFileControl = file_control,
	.xSectorSize = file_sector,
	.xDeviceCharacteristics = file_traits,
	.xShmMap = file_shm_map,
	.xShmLock = file_shm_lock,
	.xShmBarrier = file_shm_barrier,
	.xShmUnmap = file_shm_unmap,
};

static int open_real(const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
	int rc = real_vfs->xOpen(real_vfs, name, file, flags, ret_flags);

	if ((rc & 0xff) != SQLITE_CANTOPEN || !name || !(flags & SQLITE_OPEN_CREATE))
		return rc;
	int why = why_not(name, "");
	if (why == 0)
		return real_vfs->xOpen(real_vfs, name, file, flags, ret_flags);
	errno = why; /* which sqlite3_system_errno gets */
	return rc;
}

static int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
	struct file *f = (struct file *)file;

	(void)v;
	if (!(flags & SQLITE_OPEN_MAIN_DB))
		return open_real(name, file, flags, ret_flags);
	*f = (struct file){.name = name};
	int rc = open_real(name, real(file), flags, ret_flags);
	if (rc == SQLITE_OK)
		f->base.pMethods = &methods;
	return rc;
}

static int register_rc;

static void register_once(void)
{
	register_rc = sqlite3_initialize();
	real_vfs = register_rc ? NULL : sqlite3_vfs_find(NULL);
	if (!real_vfs) {
		register_rc = register_rc ? register_rc : SQLITE_ERROR;
		return;
	}
	/* All else is its own, told by its own data. */
	our_vfs = *real_vfs;
	our_vfs.zName = PAGESUM_VFS;
	our_vfs.pNext = NULL;
	our_vfs.szOsFile = (int)FILE_BYTES + real_vfs->szOsFile;
	our_vfs.xOpen = vfs_open;
	register_rc = sqlite3_vfs_register(&our_vfs, 0);
}

int pagesum_register(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, register_once);
	return register_rc;
}

int pagesum_reserve(sqlite3 *c)
{
	int n = SUM_BYTES;

	return sqlite3_file_control(c, "main", SQLITE_FCNTL_RESERVE_BYTES, &n);
}
