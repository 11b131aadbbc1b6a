/* posix.c - what the calls of POSIX do on the mount, errno by errno.
 *
 *	posix COLLECTION		a fresh, empty collection, by its absolute path
 *
 * In the manner of pjdfstest: each check makes what it needs, calls, and compares the result and errno with
 * what vecfs(7) says.  Prints "ok NAME" or "not ok NAME" with the line and what came instead; status 1 when
 * anything was not as documented.  What the kernel decides before asking the daemon is checked as well where
 * programs rely on it, so that an upgrade of either shows here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static int failures;       /* of the check that runs */
static char text_of_a[64]; /* what vec/a.json reads as */

static void not_so(int line, const char *what, long got, int got_errno)
{
	printf("# line %d: %s: %ld, %s\n", line, what, got,
		got < 0 ? strerror(got_errno) : "no error");
	failures++;
}

/* A call that must work; its value.  Evaluates 'e' once. */
#define OK(e) must_work(__LINE__, #e, (long)(e))
/* A call that must fail with this errno. */
#define FAILS(want, e) must_fail(__LINE__, #e " as " #want, (errno = 0, (long)(e)), (want))
#define IS(want, e)    must_be(__LINE__, #e, (long)(e), (long)(want))

static long must_work(int line, const char *what, long rc)
{
	if (rc < 0)
		not_so(line, what, rc, errno);
	return rc;
}

static void must_fail(int line, const char *what, long rc, int want)
{
	if (rc >= 0 || errno != want)
		not_so(line, what, rc, errno);
}

static void must_be(int line, const char *what, long got, long want)
{
	if (got != want)
		printf("# line %d: %s: %ld, expected %ld\n", line, what, got, want), failures++;
}

static int put_flags(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | flags, 0644);

	if (fd < 0)
		return -1;
	size_t n = strlen(text);
	int rc = write(fd, text, n) == (ssize_t)n ? 0 : -1;
	int e = errno;
	if (close(fd) < 0 && rc == 0)
		return -1;
	errno = e;
	return rc;
}

static int put(const char *path, const char *text)
{
	return put_flags(path, text, O_CREAT | O_TRUNC);
}

/* The whole file into 'ret'; its length or -1. */
static long get(const char *path, char *ret, size_t size)
{
	int fd = open(path, O_RDONLY);
	long n = fd < 0 ? -1 : read(fd, ret, size - 1);

	if (fd >= 0)
		close(fd);
	if (n >= 0)
		ret[n] = 0;
	return n;
}

static bool reads(const char *path, const char *want)
{
	char buf[4096];

	return get(path, buf, sizeof buf) >= 0 && !strcmp(buf, want);
}

/* The kernel tells of a last close in its own time: waits until the name is gone. */
static bool goes(const char *path)
{
	for (int i = 0; i < 500 && access(path, F_OK) == 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	return access(path, F_OK) < 0;
}

static void fill_name(char *ret, size_t n, const char *suffix)
{
	memcpy(ret, "vec/", 4);
	memset(ret + 4, 'n', n);
	strcpy(ret + 4 + n, suffix);
}

/* --- opening ----------------------------------------------------------------------------------------- */
static void open_flags(void)
{
	char c;
	int fd;

	FAILS(ENOENT, open("vec/none.json", O_RDONLY));
	FAILS(ENOENT, open("vec/none.json", O_WRONLY | O_TRUNC));
	FAILS(EEXIST, open("vec/a.json", O_WRONLY | O_CREAT | O_EXCL, 0644));
	OK(put_flags("vec/excl.json", "[7,8,9]", O_CREAT | O_EXCL));
	FAILS(EEXIST, put_flags("vec/excl.json", "[7,8,9]", O_CREAT | O_EXCL));
	OK(unlink("vec/excl.json"));
	fd = (int)OK(open("vec/a.json", O_RDONLY));
	FAILS(EBADF, write(fd, "x", 1));
	close(fd);
	fd = (int)OK(open("vec/a.json", O_WRONLY));
	FAILS(EBADF, read(fd, &c, 1));
	close(fd);
	FAILS(EISDIR, open("vec", O_WRONLY));
	FAILS(EISDIR, open("vec", O_RDWR | O_CREAT, 0644));
	FAILS(ENOTDIR, open("vec/a.json", O_RDONLY | O_DIRECTORY));
	FAILS(ENOTDIR, open("vec/a.json/b", O_RDONLY));
	FAILS(EOPNOTSUPP, open("vec", O_TMPFILE | O_RDWR, 0600));
	FAILS(EACCES, open("stats", O_WRONLY));
	FAILS(EACCES, open("append", O_RDONLY));
	FAILS(EPERM, open("nothing", O_WRONLY | O_CREAT, 0644));
	FAILS(ENOENT, open("config/none", O_RDONLY));
	close((int)OK(open("vec/a.json", O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME)));
	close((int)OK(open("vec/a.json", O_RDONLY | O_SYNC | O_DIRECT)));
	close((int)OK(open("vec/a.json", O_PATH)));
	IS(true, reads("vec/a.json", text_of_a));
}

static void a_file_that_was_never_written_is_none(void)
{
	int fd = (int)OK(open("vec/empty.json", O_WRONLY | O_CREAT, 0644));

	OK(access("vec/empty.json", F_OK)); /* while it is open */
	OK(close(fd));
	IS(true, goes("vec/empty.json"));
}

static void truncation_keeps_the_record_until_the_next_is_whole(void)
{
	int fd = (int)OK(open("vec/a.json", O_WRONLY | O_TRUNC));

	IS(true, reads("vec/a.json", text_of_a));
	IS(3, write(fd, "[1,", 3));
	IS(true, reads("vec/a.json", text_of_a));
	FAILS(EINVAL, close(fd));
	IS(true, reads("vec/a.json", text_of_a));
	OK(truncate("vec/a.json", 0)); /* what '>' does, by name: nothing yet */
	FAILS(EINVAL, truncate("vec/a.json", 5));
	FAILS(EINVAL, truncate("vec/a.json", -1));
	FAILS(EISDIR, truncate("vec", 0));
	FAILS(EACCES, truncate("stats", 0));
	fd = (int)OK(open("vec/a.json", O_RDWR));
	FAILS(EINVAL, ftruncate(fd, 10000));
	OK(close(fd));
	IS(true, reads("vec/a.json", text_of_a));
}

static void appending_goes_to_the_end(void)
{
	char buf[64];
	int fd = (int)OK(open("vec/.log", O_RDWR | O_CREAT | O_APPEND, 0644));

	IS(3, write(fd, "abc", 3));
	OK(lseek(fd, 0, SEEK_SET));
	IS(3, write(fd, "def", 3));
	IS(6, pread(fd, buf, sizeof buf, 0));
	IS(0, memcmp(buf, "abcdef", 6));
	close(fd);
	OK(unlink("vec/.log"));
	FAILS(EINVAL, put_flags("vec/a.json", "[1,2,3]", O_APPEND));
	OK(put_flags("vec/a.json", " \n", O_APPEND)); /* white space may follow a record */
	IS(true, reads("vec/a.json", text_of_a));
}

/* --- reading and writing ----------------------------------------------------------------------------------- */
static void seeking_and_reading_at_places(void)
{
	char buf[128];
	long n = (long)strlen(text_of_a);
	int fd = (int)OK(open("vec/a.json", O_RDONLY));

	IS(n, lseek(fd, 0, SEEK_END));
	IS(0, read(fd, buf, sizeof buf));
	IS(n - 4, lseek(fd, -4, SEEK_END));
	IS(4, read(fd, buf, sizeof buf));
	IS(0, memcmp(buf, text_of_a + n - 4, 4));
	FAILS(EINVAL, lseek(fd, -1, SEEK_SET));
	FAILS(EINVAL, pread(fd, buf, 1, -1));
	IS(5, pread(fd, buf, 5, 3));
	IS(0, memcmp(buf, text_of_a + 3, 5));
	IS(0, pread(fd, buf, 5, n));
	IS(0, pread(fd, buf, 5, (off_t)1 << 40));
	IS(0, lseek(fd, 0, SEEK_DATA));
	IS(n, lseek(fd, 0, SEEK_HOLE));
	for (long i = 0; i < n; i++) {
		IS(1, pread(fd, buf, 1, i));
		IS(text_of_a[i], buf[0]);
	}
	close(fd);
}

static void writing_at_places(void)
{
	int fd = (int)OK(open("vec/w.json", O_RDWR | O_CREAT, 0644));

	FAILS(EINVAL, pwrite(fd, "[1,2,3]", 7, 100)); /* a gap */
	OK(close(fd));
	OK(put("vec/w.json", "{\"vector\":[1,2,3],\"text\":\"abc\"}"));
	fd = (int)OK(open("vec/w.json", O_RDWR));
	char buf[128];
	long n = OK(read(fd, buf, sizeof buf - 1));
	buf[n] = 0;
	IS(2, pwrite(fd, "XY", 2, strstr(buf, "abc") - buf));
	IS(true, reads("vec/w.json", "{\"id\":\"w\",\"vector\":[1,2,3],\"text\":\"abc\"}\n"));
	OK(fsync(fd)); /* an edit is committed by close or fsync */
	IS(true, reads("vec/w.json", "{\"id\":\"w\",\"vector\":[1,2,3],\"text\":\"XYc\"}\n"));
	IS(1, pwrite(fd, "?", 1, 0));
	FAILS(EINVAL, fsync(fd));
	OK(close(fd)); /* it was said once */
	IS(true, reads("vec/w.json", "{\"id\":\"w\",\"vector\":[1,2,3],\"text\":\"XYc\"}\n"));
	OK(unlink("vec/w.json"));
}

static void every_descriptor_of_half_a_record_may_be_closed(void)
{
	int fd = (int)OK(open("vec/h.json", O_WRONLY | O_CREAT, 0644)), fd2 = dup(fd);

	IS(4, write(fd, "[1,2", 4));
	FAILS(EINVAL, close(fd2)); /* each close asks, and the first is told */
	OK(close(fd));
	IS(true, goes("vec/h.json"));
}

static void an_open_file_is_what_it_was(void)
{
	char buf[64];
	struct stat st;
	int fd, fd2;

	OK(put("vec/o.json", "[1,2,3]"));
	fd = (int)OK(open("vec/o.json", O_RDONLY));
	fd2 = (int)OK(open("vec/o.json", O_RDONLY));
	OK(put("vec/o.json", "[4,5,6]"));
	IS(28, pread(fd, buf, sizeof buf, 0));
	IS(0, memcmp(buf, "{\"id\":\"o\",\"vector\":[1,2,3]}\n", 28));
	OK(unlink("vec/o.json"));
	IS(28, pread(fd2, buf, sizeof buf, 0));
	FAILS(ESTALE, fstat(fd, &st)); /* the record is gone, and its size with it */
	OK(close(fd));
	OK(close(fd2));
	FAILS(ENOENT, stat("vec/o.json", &st));
	/* An edit that was begun before the removal counts as the later of the two. */
	OK(put("vec/o.json", "[1,2,3]"));
	fd = (int)OK(open("vec/o.json", O_RDWR));
	OK(unlink("vec/o.json"));
	IS(1, pwrite(fd, "9", 1, (off_t)strlen("{\"id\":\"o\",\"vector\":[")));
	OK(close(fd));
	IS(true, reads("vec/o.json", "{\"id\":\"o\",\"vector\":[9,2,3]}\n"));
	OK(unlink("vec/o.json"));
}

static void copying_inside_the_kernel(void)
{
	char buf[64];
	int in = (int)OK(open("vec/a.json", O_RDONLY)), out[2];
	long n = (long)strlen(text_of_a);

	OK(pipe(out));
	IS(n, sendfile(out[1], in, NULL, 4096));
	IS(n, read(out[0], buf, sizeof buf));
	IS(0, memcmp(buf, text_of_a, (size_t)n));
	OK(lseek(in, 0, SEEK_SET));
	IS(n, splice(in, NULL, out[1], NULL, 4096, 0));
	IS(n, read(out[0], buf, sizeof buf));
	close(out[0]);
	close(out[1]);
	void *p = mmap(NULL, (size_t)n, PROT_READ, MAP_PRIVATE, in, 0);
	if (p == MAP_FAILED) {
		not_so(__LINE__, "private mmap", -1, errno);
	} else {
		IS(0, memcmp(p, text_of_a, (size_t)n));
		munmap(p, (size_t)n);
	}
	close(in);
	int fd = (int)OK(open("vec/a.json", O_RDWR));
	p = mmap(NULL, (size_t)n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	IS(true, p == MAP_FAILED);
	IS(ENODEV, errno);
	FAILS(EOPNOTSUPP, fallocate(fd, 0, 0, 4096));
	OK(flock(fd, LOCK_EX | LOCK_NB));
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	IS(1, poll(&pfd, 1, 0));
	OK(close(fd));
}

/* --- names ---------------------------------------------------------------------------------------------------- */
static void renaming(void)
{
	OK(put("vec/r1.json", "[1,2,3]"));
	OK(put("vec/r2.json", "[4,5,6]"));
	FAILS(EEXIST,
		renameat2(AT_FDCWD, "vec/r1.json", AT_FDCWD, "vec/r2.json", RENAME_NOREPLACE));
	FAILS(EINVAL, renameat2(AT_FDCWD, "vec/r1.json", AT_FDCWD, "vec/r2.json", RENAME_EXCHANGE));
	FAILS(ENOENT, rename("vec/none.json", "vec/r3.json"));
	OK(rename("vec/r1.json", "vec/r1.json"));
	int rc = rename("vec/r1.json", "vec/r2.json");
	if (rc < 0 && errno == EXDEV) { /* spread over shards: mv copies */
		OK(unlink("vec/r1.json"));
		OK(put("vec/r2.json", "[1,2,3]"));
	} else {
		OK(rc);
	}
	FAILS(ENOENT, access("vec/r1.json", F_OK));
	IS(true, reads("vec/r2.json", "{\"id\":\"r2\",\"vector\":[1,2,3]}\n"));
	FAILS(EXDEV, rename("vec/r2.json", "vec/r2.f32"));
	FAILS(EPERM, rename("vec/r2.json", "vec/r2.bak"));
	FAILS(EXDEV, rename("vec/r2.json", "inbox/r2.jsonl"));
	FAILS(EISDIR, rename("vec/r2.json", "config"));
	FAILS(ENOTDIR, rename("config", "vec/r2.json"));
	FAILS(EPERM, rename("stats", "stats2"));
	FAILS(EPERM, rename("vec", "vec2"));
	FAILS(EINVAL, rename("vec", "vec/sub"));
	OK(put("vec/.s1", "[1,2,"));
	OK(rename("vec/.s1", "vec/.s2"));
	FAILS(EBADMSG, rename("vec/.s2", "vec/r2.json"));
	OK(access("vec/.s2", F_OK));
	FAILS(ENOENT, access("vec/.s1", F_OK));
	OK(put("vec/.s2", "[7,8,9]"));
	FAILS(EEXIST, renameat2(AT_FDCWD, "vec/.s2", AT_FDCWD, "vec/r2.json", RENAME_NOREPLACE));
	OK(rename("vec/.s2", "vec/r2.json"));
	IS(true, reads("vec/r2.json", "{\"id\":\"r2\",\"vector\":[7,8,9]}\n"));
	OK(unlink("vec/r2.json"));
}

static void renaming_questions(void)
{
	OK(put("q/one", "[1,2,3]"));
	OK(put("q/two", "[3,2,1]"));
	FAILS(EEXIST, renameat2(AT_FDCWD, "q/one", AT_FDCWD, "q/two", RENAME_NOREPLACE));
	OK(rename("q/one", "q/three"));
	FAILS(ENOENT, access("q/one", F_OK));
	OK(access("q/three.ids", F_OK));
	OK(rename("q/three.json", "q/two.json")); /* a suffix is a form of the answer */
	FAILS(ENOENT, access("q/three", F_OK));
	OK(rename("q/two", "q/two.ids")); /* the same question */
	OK(access("q/two", F_OK));
	FAILS(ENOENT, rename("q/none", "q/two"));
	FAILS(EBADMSG, rename("q/two", "q/.hidden"));
	FAILS(EXDEV, rename("q/two", "vec/two.json"));
	OK(unlink("q/two"));
}

static void links_and_special_files_are_refused(void)
{
	char buf[8];

	FAILS(EPERM, link("vec/a.json", "vec/l.json"));
	FAILS(EPERM, symlink("a.json", "vec/l.json"));
	FAILS(EPERM, mkfifo("vec/p", 0600));
	FAILS(EINVAL, readlink("vec/a.json", buf, sizeof buf));
	FAILS(EOPNOTSUPP, setxattr("vec/a.json", "user.x", "1", 1, 0));
	FAILS(EOPNOTSUPP, getxattr("vec/a.json", "user.x", buf, sizeof buf));
}

static void unlinking(void)
{
	FAILS(ENOENT, unlink("vec/none.json"));
	FAILS(EISDIR, unlink("vec"));
	FAILS(EPERM, unlink("stats"));
	FAILS(EPERM, unlink("config/k"));
	FAILS(ENOTDIR, rmdir("vec/a.json"));
	OK(put("vec/u.json", "[1,2,3]"));
	OK(unlink("vec/u.f32")); /* another form of the same record */
	FAILS(ENOENT, access("vec/u.json", F_OK));
	FAILS(ENOENT, unlink("vec/u.json"));
}

static void directories(void)
{
	FAILS(EPERM, mkdir("sub", 0755));
	FAILS(EPERM, mkdir("vec/sub", 0755));
	FAILS(EPERM, rmdir("vec"));
	FAILS(EINVAL, rmdir("."));
	FAILS(ENOTEMPTY, rmdir("vec/.."));
	FAILS(ENOENT, rmdir("../no-such-collection"));
	FAILS(EEXIST, mkdir("../.vecfs", 0755));
	FAILS(EINVAL, mkdir("../a b", 0755));
	FAILS(EINVAL, mkdir("../.hidden", 0755));
	OK(mkdir("../posix-dir/", 0700));
	FAILS(EEXIST, mkdir("../posix-dir", 0700));
	OK(put("../posix-dir/vec/x.json", "[1]"));
	FAILS(ENOTEMPTY, rmdir("../posix-dir"));
	FAILS(EPERM, rename("../posix-dir", "../posix-dir2"));
	OK(unlink("../posix-dir/vec/x.json"));
	int fd = (int)OK(open("../posix-dir/append", O_WRONLY));
	OK(rmdir("../posix-dir/"));
	FAILS(ENOENT, access("../posix-dir", F_OK));
	const char *line = "{\"id\":\"x\",\"vector\":[1]}\n";
	FAILS(ESTALE, write(fd, line, strlen(line)));
	close(fd);
}

static void names_and_paths(void)
{
	char path[5000], deep[8200] = "";
	struct stat st;
	struct statvfs sv;

	FAILS(ENOENT, open("", O_RDONLY));
	OK(stat("vec/../vec/./a.json", &st));
	OK(stat("vec/", &st));
	FAILS(ENOTDIR, stat("vec/a.json/", &st));
	FAILS(ENOTDIR, unlink("vec/a.json/"));
	FAILS(ENOTDIR, rename("vec/a.json/", "vec/b.json"));
	FAILS(EISDIR, open("vec/b.json/", O_WRONLY | O_CREAT, 0644));
	fill_name(path, 240, ".json"); /* the longest id */
	OK(put(path, "[1,2,3]"));
	OK(unlink(path));
	fill_name(path, 241, ".json");
	FAILS(ENAMETOOLONG, open(path, O_WRONLY | O_CREAT, 0644));
	FAILS(ENAMETOOLONG, stat(path, &st));
	fill_name(path, 300, ".json");
	FAILS(ENAMETOOLONG, open(path, O_WRONLY | O_CREAT, 0644));
	FAILS(ENAMETOOLONG, stat(path, &st));
	fill_name(path, 1100, "");
	FAILS(ENAMETOOLONG, stat(path, &st));
	FAILS(ENAMETOOLONG, open(path, O_WRONLY | O_CREAT, 0644));
	for (int i = 0; i < 2000; i++)
		memcpy(deep + 2 * i, "./", 3);
	strcat(deep,
		"vec/a.json/./././././././././././././././././././././././././././././././././././"
		"./."
		"/./././././././././././././././././././././././././././././././././././././././."
		"/././././././././././././././././././././././././././././././");
	FAILS(ENAMETOOLONG, stat(deep, &st));
	OK(statvfs("vec", &sv));
	IS(255, sv.f_namemax);
	FAILS(EINVAL, open("vec/%zz.json", O_WRONLY | O_CREAT, 0644));
	FAILS(EINVAL, open("vec/a\nb.json", O_WRONLY | O_CREAT, 0644));
	FAILS(EINVAL, open("vec/\xff\xfe.json", O_WRONLY | O_CREAT, 0644));
}

/* --- attributes -------------------------------------------------------------------------------------------------- */
static void attributes(void)
{
	struct stat st, st2;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	OK(stat("vec/a.json", &st));
	IS(true, S_ISREG(st.st_mode));
	IS((long)strlen(text_of_a), st.st_size);
	IS(1, st.st_nlink);
	IS((st.st_size + 511) / 512, st.st_blocks);
	IS(true, st.st_mtim.tv_sec > now.tv_sec - 60 && st.st_mtim.tv_sec <= now.tv_sec);
	int fd = (int)OK(open("vec/a.json", O_RDONLY));
	OK(fstat(fd, &st2));
	IS(true, st.st_ino == st2.st_ino && st.st_dev == st2.st_dev && st.st_size == st2.st_size);
	close(fd);
	OK(stat("vec", &st2));
	IS(true, S_ISDIR(st2.st_mode));
	IS(true, st2.st_ino != st.st_ino);
	OK(stat("vec/a.f32", &st2));
	IS(12, st2.st_size);
	OK(put("vec/t.json", "[1,2,3]"));
	OK(stat("vec/t.json", &st));
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	OK(put("vec/t.json", "{\"vector\":[1,2,3],\"text\":\"longer\"}"));
	OK(stat("vec/t.json", &st2));
	IS(true, st2.st_size > st.st_size);
	IS(true, st2.st_mtim.tv_sec > st.st_mtim.tv_sec ||
			 (st2.st_mtim.tv_sec == st.st_mtim.tv_sec &&
				 st2.st_mtim.tv_nsec > st.st_mtim.tv_nsec));
	OK(unlink("vec/t.json"));
}

/* Of records they are accepted and mean nothing, so that cp -p and tar work; fixed where nothing copies. */
static void modes_owners_and_times(void)
{
	const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct stat st, st2;

	OK(stat("vec/a.json", &st));
	OK(chmod("vec/a.json", 0600));
	OK(chown("vec/a.json", 12345, 12345));
	OK(utimensat(AT_FDCWD, "vec/a.json", old, 0));
	OK(stat("vec/a.json", &st2));
	IS(true, st.st_mode == st2.st_mode && st.st_uid == st2.st_uid && st.st_gid == st2.st_gid);
	IS(st.st_mtim.tv_sec, st2.st_mtim.tv_sec);
	OK(stat("stats", &st));
	OK(chmod("stats", st.st_mode & 07777));
	FAILS(EPERM, chmod("stats", 0600));
	FAILS(EPERM, chown("stats", 12345, (gid_t)-1));
	FAILS(EPERM, chmod("vec", 0700));
	FAILS(EPERM, chmod(".", 0700));
	FAILS(EACCES, access("vec/a.json", X_OK));
	OK(put("vec/.mode", "x"));
	OK(chmod("vec/.mode", 0640));
	OK(stat("vec/.mode", &st));
	IS(0640, st.st_mode & 07777);
	OK(utimensat(AT_FDCWD, "vec/.mode", old, 0));
	OK(stat("vec/.mode", &st));
	IS(1000, st.st_mtim.tv_sec);
	OK(unlink("vec/.mode"));
}

/* --- listings ----------------------------------------------------------------------------------------------------- */
enum { LISTED = 400 };

/* Others write, replace and delete while 'one pass' is read: 0 or the number of what was wrong. */
static int pass(DIR *d, const char *places_of)
{
	unsigned char seen[LISTED] = {0};
	int wrong = 0;
	struct dirent *e;

	(void)places_of;
	while ((e = readdir(d))) {
		int i;
		if (sscanf(e->d_name, "s%d.json", &i) != 1)
			continue;
		if (i < 0 || i >= LISTED || seen[i]++ || e->d_type != DT_REG)
			wrong++;
	}
	for (int i = 0; i < LISTED; i++)
		wrong += seen[i] != 1;
	return wrong;
}

static void others_write(void)
{
	char path[64];

	for (unsigned i = 0;; i++) {
		snprintf(path, sizeof path, "vec/other%u.json", i % 50);
		if (put(path, "[3,2,1]") < 0)
			_exit(1);
		snprintf(path, sizeof path, "vec/other%u.json", (i + 25) % 50);
		unlink(path);
	}
}

static void listings_stay_right_while_others_write(void)
{
	char path[64], names[20][256];
	long places[20];
	int status;

	for (int i = 0; i < LISTED; i++) {
		snprintf(path, sizeof path, "vec/s%d.json", i);
		OK(put(path, "[1,2,3]"));
	}
	fflush(stdout);
	pid_t other = (pid_t)OK(fork());
	if (other == 0)
		others_write();
	DIR *d = opendir("vec");
	if (!d) {
		not_so(__LINE__, "opendir", -1, errno);
		return;
	}
	for (int i = 0; i < 5; i++) {
		IS(0, pass(d, NULL));
		rewinddir(d);
	}
	/* Places stay what they are: the entry after each, whatever was written meanwhile. */
	struct dirent *e;
	int n = 0, at = 0;
	do {
		long place = telldir(d);
		e = readdir(d);
		if (e && e->d_name[0] == 's' && at++ % 20 == 0 && n < 20) {
			places[n] = place;
			snprintf(names[n++], sizeof names[0], "%s", e->d_name);
		}
	} while (e);
	IS(20, n);
	for (int i = n - 1; i >= 0; i--) {
		seekdir(d, places[i]);
		/* Others' names may stand between. */
		do
			e = readdir(d);
		while (e && e->d_name[0] != 's');
		if (!e || strcmp(e->d_name, names[i]) != 0) {
			printf("# place %d: %s, expected %s\n", i, e ? e->d_name : "the end",
				names[i]);
			failures++;
		}
	}
	closedir(d);
	IS(0, kill(other, 9));
	OK(waitpid(other, &status, 0));
	IS(true, WIFSIGNALED(status));
	OK(fsync((int)OK(open("vec", O_RDONLY | O_DIRECTORY))));
}

static void a_directory_begins_with_the_dots(void)
{
	static const char *const dirs[] = {".", "vec", "inbox", "q", "done", "config", ".."};

	for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
		DIR *d = opendir(dirs[i]);
		struct dirent *e = d ? readdir(d) : NULL;
		IS(true, e && !strcmp(e->d_name, ".") && e->d_type == DT_DIR);
		e = d ? readdir(d) : NULL;
		IS(true, e && !strcmp(e->d_name, "..") && e->d_type == DT_DIR);
		if (d)
			closedir(d);
	}
	IS(true, !opendir("vec/a.json") && errno == ENOTDIR);
}

static const struct {
	const char *name;
	void (*run)(void);
} checks[] = {
#define CHECK(f)                                                                                   \
	{                                                                                          \
#f, f                                                                              \
	}
	CHECK(open_flags),
	CHECK(a_file_that_was_never_written_is_none),
	CHECK(truncation_keeps_the_record_until_the_next_is_whole),
	CHECK(appending_goes_to_the_end),
	CHECK(seeking_and_reading_at_places),
	CHECK(writing_at_places),
	CHECK(every_descriptor_of_half_a_record_may_be_closed),
	CHECK(an_open_file_is_what_it_was),
	CHECK(copying_inside_the_kernel),
	CHECK(renaming),
	CHECK(renaming_questions),
	CHECK(links_and_special_files_are_refused),
	CHECK(unlinking),
	CHECK(directories),
	CHECK(names_and_paths),
	CHECK(attributes),
	CHECK(modes_owners_and_times),
	CHECK(a_directory_begins_with_the_dots),
	CHECK(listings_stay_right_while_others_write),
};

int main(int argc, char **argv)
{
	int bad = 0;

	if (argc != 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: posix COLLECTION\n");
		return 2;
	}
	if (put("vec/a.json", "[1, 2, 3]") < 0 ||
		get("vec/a.json", text_of_a, sizeof text_of_a) <= 0) {
		perror("posix: vec/a.json");
		return 2;
	}
	for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
		failures = 0;
		checks[i].run();
		printf("%s %s\n", failures ? "not ok" : "ok", checks[i].name);
		bad += failures != 0;
	}
	return bad ? 1 : 0;
}
