/* fsx.c - random operations on vec/, each compared with a model.
 *
 *	fsx COLLECTION OPS [STATE]	SEED=n in the environment; the seed is printed
 *
 * In the manner of fsx: one process, a dozen records and a few private staging files; whole writes in random
 * pieces, half ones, edits at random places, truncations, renames with and without NOREPLACE, unlinks,
 * listings, and readers that stay open while the record changes.  The model knows what each file must hold, how
 * long it is, and which errno a call must give; what is read is compared byte by byte.  Every operation is kept
 * in a ring that is printed when something differs, so that a failure can be followed.
 *
 * With STATE the model's records are read from that file if it is there, all of them are compared, and it is
 * written at the end: so the daemon can be killed between two runs.  Staging files and readers end with a run.
 *
 * Numbers are quarters, which print alike everywhere; text is letters.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DIM = 4, RECORDS = 12, STAGES = 3, READERS = 4, TEXT = 200, FILE_MAX = 1024, RING = 24 };

struct record {
	bool there;
	float vec[DIM];
	int meta; /* -1: none */
	char text[TEXT + 1];
};

struct stage {
	bool there, whole; /* 'whole': it is what 'rec' says */
	size_t len;
	char bytes[FILE_MAX];
	struct record rec;
};

struct reader {
	int fd; /* 0: none */
	size_t len;
	char want[FILE_MAX];
};

static struct record records[RECORDS];
static struct stage stages[STAGES];
static struct reader readers[READERS];
static uint64_t seed, rng, op_number;
static char ring[RING][200];
static bool spread; /* over shards: records are not renamed, mv copies */

/* --- helpers --------------------------------------------------------------------------------------------- */
static uint32_t rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 20) % n);
}

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
	va_list ap;
	char *s = ring[op_number % RING];
	int n = snprintf(s, sizeof ring[0], "%llu ", (unsigned long long)op_number);

	op_number++;
	va_start(ap, fmt);
	vsnprintf(s + n, sizeof ring[0] - (size_t)n, fmt, ap);
	va_end(ap);
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *fmt, ...)
{
	va_list ap;

	for (uint64_t i = op_number > RING ? op_number - RING : 0; i < op_number; i++)
		fprintf(stderr, "  %s\n", ring[i % RING]);
	fprintf(stderr, "SEED=%llu: ", (unsigned long long)seed);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

/* 'want' is 0 for success. */
static void expect(const char *what, long rc, int want)
{
	int e = rc < 0 ? errno : 0;

	if (e != want)
		fail("%s: %s, expected %s", what, e ? strerror(e) : "done",
			want ? strerror(want) : "done");
}

static void name_of(char *ret, unsigned i, const char *suffix)
{
	sprintf(ret, "vec/r%u%s", i, suffix);
}

static void stage_name(char *ret, unsigned i)
{
	sprintf(ret, i % 2 ? "vec/.s%u" : "vec/s%u.part", i);
}

/* The kernel tells of a last close in its own time. */
static void wait_gone(const char *path)
{
	for (int i = 0; i < 1000; i++) {
		if (access(path, F_OK) < 0)
			return;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	fail("%s is still there", path);
}

static void random_record(struct record *r)
{
	size_t n = rnd(3) ? rnd(TEXT + 1) : 0;

	*r = (struct record){.there = true, .meta = rnd(2) ? -1 : (int)rnd(100)};
	for (int i = 0; i < DIM; i++)
		r->vec[i] = ((float)rnd(800) - 400) / 4;
	r->vec[0] = (float)(1 + rnd(400)) / 4; /* not zero */
	for (size_t i = 0; i < n; i++)
		r->text[i] = (char)('a' + rnd(26));
}

/* What the file reads as; its length. */
static size_t render(const struct record *r, unsigned i, char *ret)
{
	char *p = ret;

	p += sprintf(p, "{\"id\":\"r%u\",\"vector\":[", i);
	for (int k = 0; k < DIM; k++)
		p += sprintf(p, "%s%g", k ? "," : "", (double)r->vec[k]);
	p += sprintf(p, "]");
	if (r->meta >= 0)
		p += sprintf(p, ",\"meta\":{\"k\":%d}", r->meta);
	if (r->text[0])
		p += sprintf(p, ",\"text\":\"%s\"", r->text);
	p += sprintf(p, "}\n");
	return (size_t)(p - ret);
}

/* The same record as a program might write it. */
static size_t compose(const struct record *r, char *ret)
{
	char *p = ret;
	bool bare = r->meta < 0 && !r->text[0] && rnd(2);

	p += sprintf(p, "%s%s", rnd(4) ? "" : " \n", bare ? "" : "{");
	if (!bare && r->text[0] && rnd(2)) /* the order does not matter */
		p += sprintf(p, "\"text\":\"%s\",", r->text);
	else if (!bare && r->text[0])
		p += sprintf(p, "\"text\" : \"%s\" ,", r->text);
	if (!bare && r->meta >= 0)
		p += sprintf(p, "\"meta\":{\"k\":%d},", r->meta);
	p += sprintf(p, "%s[", bare ? "" : "\"vector\":");
	for (int k = 0; k < DIM; k++)
		p += sprintf(p, "%s%.4f", k ? ", " : "", (double)r->vec[k]);
	p += sprintf(p, "]%s%s", bare ? "" : "}", rnd(3) ? "" : "\n");
	return (size_t)(p - ret);
}

/* In pieces; the errno that some piece gave, 0 when none. */
static int write_pieces(int fd, const char *p, size_t n)
{
	while (n) {
		size_t k = rnd(4) ? 1 + rnd((uint32_t)n) : n;
		ssize_t w = write(fd, p, k);
		if (w < 0)
			return errno;
		if (w != (ssize_t)k)
			fail("a write of %zu bytes wrote %zd", k, w);
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static void compare(int fd, const char *name, const char *want, size_t len, size_t off)
{
	char buf[FILE_MAX + 64];
	size_t n = 1 + rnd(FILE_MAX), have = off < len ? len - off : 0;
	ssize_t r = pread(fd, buf, n, (off_t)off);

	if (r < 0 || (size_t)r != (n < have ? n : have))
		fail("%s: %zd bytes at %zu, it has %zu: %s", name, r, off, len,
			r < 0 ? strerror(errno) : "");
	if (r > 0 && memcmp(buf, want + off, (size_t)r) != 0)
		fail("%s at %zu: '%.*s', expected '%.*s'", name, off, (int)r, buf, (int)r,
			want + off);
}

static int open_or_fail(const char *path, int flags)
{
	int fd = open(path, flags, 0644);

	if (fd < 0)
		fail("open %s: %s", path, strerror(errno));
	return fd;
}

/* --- looking --------------------------------------------------------------------------------------------- */
static void check_record(unsigned i)
{
	char path[64], f32[64], want[FILE_MAX];
	struct stat st;

	name_of(path, i, ".json");
	name_of(f32, i, ".f32");
	if (!records[i].there) {
		int fd = open(path, O_RDONLY);
		expect("reading what is not there", fd, ENOENT);
		wait_gone(path);
		return;
	}
	size_t n = render(&records[i], i, want);
	expect("stat", stat(path, &st), 0);
	if ((size_t)st.st_size != n)
		fail("%s has size %lld, expected %zu", path, (long long)st.st_size, n);
	int fd = open_or_fail(path, O_RDONLY);
	compare(fd, path, want, n, 0);
	compare(fd, path, want, n, rnd((uint32_t)n + 10));
	close(fd);
	expect("stat", stat(f32, &st), 0);
	if (st.st_size != DIM * 4)
		fail("%s has size %lld", f32, (long long)st.st_size);
	fd = open_or_fail(f32, O_RDONLY);
	compare(fd, f32, (const char *)records[i].vec, DIM * 4, rnd(DIM * 4));
	close(fd);
}

static void check_list(void)
{
	unsigned seen[RECORDS] = {0};
	DIR *d = opendir("vec");
	struct dirent *e;

	if (!d)
		fail("opendir: %s", strerror(errno));
	while ((e = readdir(d))) {
		unsigned i;
		if (e->d_name[0] == '.' && (!e->d_name[1] || !strcmp(e->d_name, "..")))
			continue;
		if (sscanf(e->d_name, "r%u.json", &i) != 1 || i >= RECORDS)
			fail("the listing has '%s'", e->d_name);
		seen[i]++;
	}
	closedir(d);
	for (unsigned i = 0; i < RECORDS; i++) {
		if (seen[i] != records[i].there)
			fail("r%u is listed %u times, and is %sthere", i, seen[i],
				records[i].there ? "" : "not ");
	}
}

static void check_reader(struct reader *r)
{
	compare(r->fd, "an open reader", r->want, r->len, rnd((uint32_t)r->len + 5));
}

static void op_reader(unsigned i)
{
	struct reader *r = &readers[rnd(READERS)];
	char path[64];

	if (r->fd) {
		note("look at an open reader");
		check_reader(r);
		if (rnd(2)) {
			expect("close", close(r->fd), 0);
			r->fd = 0;
		}
	} else if (records[i].there) {
		note("keep r%u open", i);
		name_of(path, i, ".json");
		r->len = render(&records[i], i, r->want);
		r->fd = open_or_fail(path, O_RDONLY);
	}
}

/* --- whole records ----------------------------------------------------------------------------------------- */
static void op_put(unsigned i)
{
	char path[64], text[FILE_MAX];
	struct record r;

	random_record(&r);
	size_t n = compose(&r, text);
	name_of(path, i, ".json");
	bool excl = rnd(8) == 0;
	note("put r%u, %zu bytes%s", i, n, excl ? ", O_EXCL" : "");
	if (!records[i].there)
		wait_gone(path);
	int fd = open(path, O_WRONLY | O_CREAT | (excl ? O_EXCL : O_TRUNC), 0644);
	if (excl && records[i].there) {
		expect("O_EXCL", fd, EEXIST);
		return;
	}
	expect("open", fd, 0);
	int e = write_pieces(fd, text, n);
	if (e)
		fail("write: %s", strerror(e));
	if (rnd(2)) { /* acknowledged, closed or not */
		records[i] = r;
		check_record(i);
	}
	expect("close", close(fd), 0);
	records[i] = r;
}

static void op_put_f32(unsigned i)
{
	char path[64];
	struct record r;

	random_record(&r);
	r.meta = -1;
	r.text[0] = 0;
	name_of(path, i, ".f32");
	note("put r%u.f32", i);
	int fd = open_or_fail(path, O_WRONLY | O_CREAT | O_TRUNC);
	int e = write_pieces(fd, (const char *)r.vec, sizeof r.vec);
	if (e)
		fail("write: %s", strerror(e));
	expect("close", close(fd), 0);
	records[i] = r;
}

/* Two records by one descriptor, the second over the first in one write. */
static void op_put_twice(unsigned i)
{
	char path[64], text[2 * FILE_MAX];
	struct record r;

	name_of(path, i, ".json");
	random_record(&r);
	size_t n = compose(&r, text);
	note("put r%u twice", i);
	int fd = open_or_fail(path, O_WRONLY | O_CREAT | O_TRUNC);
	int e = write_pieces(fd, text, n);
	if (e)
		fail("write: %s", strerror(e));
	records[i] = r;
	check_record(i);
	random_record(&r);
	size_t n2 = compose(&r, text);
	for (; n2 < n; n2++)
		text[n2] = ' ';
	ssize_t w = pwrite(fd, text, n2, 0);
	expect("pwrite over it", w, 0);
	records[i] = r;
	check_record(i);
	expect("close", close(fd), 0);
}

static void op_half(unsigned i)
{
	char path[64], text[FILE_MAX];
	struct record r;

	random_record(&r);
	size_t n = compose(&r, text);
	/* What remains is more than white space and less than a record. */
	size_t first = strspn(text, " \n"), end = n;
	while (text[end - 1] == '\n')
		end--;
	size_t cut = first + 1 + rnd((uint32_t)(end - first - 1));
	name_of(path, i, ".json");
	note("half of r%u: %zu of %zu bytes", i, cut, n);
	int fd = open_or_fail(path, O_WRONLY | O_CREAT | O_TRUNC);
	int e = write_pieces(fd, text, cut);
	if (e)
		fail("write of half a record: %s", strerror(e));
	check_list();
	expect("close of half a record", close(fd), EINVAL);
}

static void op_bad(unsigned i)
{
	static const char *const bad[] = {"[1,2,3]", "[1,2,3,4,5]", "[0,0,0,0]", "[1,2,NaN,4]",
		"x\n", "{\"vector\":[1,2,3,4]}}", "[1,2,3,4][1,2,3,4]",
		"{\"vector\":[1,2,3,4],\"no\":1}", "[1,2,3,1e99]", "{}"};
	const char *text = bad[rnd(sizeof bad / sizeof bad[0])];
	char path[64];

	name_of(path, i, ".json");
	note("bad r%u: %s", i, text);
	int fd = open_or_fail(path, O_WRONLY | O_CREAT | O_TRUNC);
	ssize_t w = write(fd, text, strlen(text));
	expect("a bad record", w, EINVAL);
	expect("close", close(fd), 0); /* it was said */
	if (!records[i].there)
		wait_gone(path);
}

/* --- edits ---------------------------------------------------------------------------------------------------- */
static void op_edit(unsigned i)
{
	char path[64], buf[FILE_MAX];
	struct record r = records[i];

	name_of(path, i, ".json");
	if (!r.there) {
		note("edit r%u, which is not there", i);
		expect("open", open(path, O_RDWR), ENOENT);
		return;
	}
	size_t n = render(&r, i, buf), tail = strlen(r.text);
	size_t at = tail ? (size_t)(strstr(buf, "\"text\":\"") - buf) + 8 : 0;
	int fd = open_or_fail(path, O_RDWR), want = 0;
	unsigned how = rnd(tail ? 6 : 3);
	note("edit r%u, way %u", i, how);
	switch (how) {
	case 0: /* broken, and mended or not */
		expect("pwrite", pwrite(fd, "?", 1, 0), 0);
		buf[0] = '?';
		compare(fd, path, buf, n, 0);
		want = EINVAL;
		if (rnd(2)) {
			expect("pwrite", pwrite(fd, "{", 1, 0), 0);
			want = 0;
		}
		break;
	case 1: /* cut, and left so or written on */
	{
		size_t cut = rnd((uint32_t)n - 2);
		expect("ftruncate", ftruncate(fd, (off_t)cut), 0);
		compare(fd, path, buf, cut, rnd((uint32_t)cut + 1));
		want = cut ? EINVAL : 0; /* cut to nothing is what '>' does */
		if (rnd(2)) {
			ssize_t w = pwrite(fd, buf + cut, n - cut, (off_t)cut);
			expect("pwrite", w, 0);
			want = 0;
		}
		break;
	}
	case 2: /* beyond the end */
		expect("ftruncate", ftruncate(fd, (off_t)n + 1 + rnd(100)), EINVAL);
		expect("a gap", pwrite(fd, "x", 1, (off_t)n + 1 + rnd(100)), EINVAL);
		break;
	default: /* letters of the text */
		for (unsigned k = 1 + rnd(4); k; k--) {
			size_t from = rnd((uint32_t)tail), len = 1 + rnd((uint32_t)(tail - from));
			for (size_t x = 0; x < len; x++)
				r.text[from + x] = (char)('A' + rnd(26));
			memcpy(buf + at, r.text, tail);
			ssize_t w = pwrite(fd, r.text + from, len, (off_t)(at + from));
			expect("pwrite", w, 0);
			compare(fd, path, buf, n, rnd((uint32_t)n));
		}
	}
	if (rnd(2)) {
		expect("fsync of an edit", fsync(fd), want);
		if (want == 0)
			records[i] = r;
		check_record(i);
		want = 0;
	} else if (want == 0) {
		check_record(i); /* nobody sees an edit before it is closed */
	}
	expect("close of an edit", close(fd), want);
	if (want == 0 && how > 2)
		records[i] = r;
}

/* One number of the vector; the rest of the record goes, as the file is all of it. */
static void op_edit_f32(unsigned i)
{
	char path[64];
	struct record *r = &records[i];

	if (!r->there)
		return;
	note("edit r%u.f32", i);
	name_of(path, i, ".f32");
	int fd = open_or_fail(path, O_RDWR), k = (int)rnd(DIM);
	float f = (float)(1 + rnd(400)) / 4;
	expect("pwrite", pwrite(fd, &f, sizeof f, (off_t)k * 4), 0);
	check_record(i);
	expect("close", close(fd), 0);
	r->vec[k] = f;
	r->meta = -1;
	r->text[0] = 0;
}

/* --- names ------------------------------------------------------------------------------------------------------ */
static void op_unlink(unsigned i)
{
	char path[64];

	name_of(path, i, rnd(3) ? ".json" : ".f32");
	note("unlink %s", path);
	if (!records[i].there)
		wait_gone(path);
	expect("unlink", unlink(path), records[i].there ? 0 : ENOENT);
	records[i].there = false;
}

static void op_rename(unsigned i, unsigned j)
{
	char from[64], to[64];
	unsigned flags = rnd(3) ? 0 : RENAME_NOREPLACE;

	name_of(from, i, ".json");
	name_of(to, j, ".json");
	note("rename r%u to r%u, flags %u", i, j, flags);
	if (!records[i].there)
		wait_gone(from);
	if (!records[j].there)
		wait_gone(to);
	int want = !records[i].there                       ? ENOENT
		   : flags && (records[j].there || i == j) ? EEXIST
		   : spread && i != j                      ? EXDEV
							   : 0;
	expect("rename", renameat2(AT_FDCWD, from, AT_FDCWD, to, flags), want);
	if (want == 0 && i != j) {
		records[j] = records[i];
		records[i].there = false;
	}
}

/* --- staging files ------------------------------------------------------------------------------------------------ */
static void stage_write(struct stage *s, int fd)
{
	char p[64];
	size_t n = 1 + rnd(sizeof p - 1), off = s->whole ? 0 : rnd(FILE_MAX - 64);

	/* What was a record is one no more. */
	memset(p, 'a' + (int)rnd(26), n);
	p[0] = '#';
	note("staging: pwrite %zu at %zu of %zu", n, off, s->len);
	ssize_t w = pwrite(fd, p, n, (off_t)off);
	expect("pwrite", w, 0);
	if (off > s->len)
		memset(s->bytes + s->len, 0, off - s->len);
	memcpy(s->bytes + off, p, n);
	s->len = off + n > s->len ? off + n : s->len;
	s->whole = false;
}

static void stage_whole(struct stage *s, int fd)
{
	random_record(&s->rec);
	s->len = compose(&s->rec, s->bytes);
	note("staging: a whole record of %zu bytes", s->len);
	expect("ftruncate", ftruncate(fd, 0), 0);
	expect("lseek", lseek(fd, 0, SEEK_SET), 0);
	int e = write_pieces(fd, s->bytes, s->len);
	if (e)
		fail("write: %s", strerror(e));
	s->whole = true;
}

static void op_stage(unsigned k)
{
	struct stage *s = &stages[k];
	struct stat st;
	char path[64];

	stage_name(path, k);
	int fd = open(path, O_RDWR | (rnd(2) ? O_CREAT : 0), 0644);
	if (fd < 0 && errno == ENOENT && !s->there)
		return;
	expect("open", fd, 0);
	if (!s->there)
		*s = (struct stage){.there = true};
	for (unsigned n = rnd(4); n; n--) {
		size_t cut = rnd((uint32_t)s->len + 1);
		switch (rnd(4)) {
		case 0:
			stage_whole(s, fd);
			break;
		case 1:
			if (s->whole)
				cut = s->len / 2;
			note("staging: cut to %zu of %zu", cut, s->len);
			expect("ftruncate", ftruncate(fd, (off_t)cut), 0);
			s->len = cut;
			s->whole = false;
			break;
		default:
			stage_write(s, fd);
		}
	}
	expect("fstat", fstat(fd, &st), 0);
	if ((size_t)st.st_size != s->len)
		fail("%s has size %lld, expected %zu", path, (long long)st.st_size, s->len);
	compare(fd, path, s->bytes, s->len, rnd((uint32_t)s->len + 1));
	expect("close", close(fd), 0);
}

static void op_stage_name(unsigned k, unsigned i)
{
	struct stage *s = &stages[k];
	unsigned other = rnd(STAGES), flags = rnd(3) ? 0 : RENAME_NOREPLACE;
	char from[64], to[64];
	int want = 0;

	stage_name(from, k);
	switch (rnd(3)) {
	case 0:
		note("staging: unlink %s", from);
		expect("unlink", unlink(from), s->there ? 0 : ENOENT);
		s->there = false;
		return;
	case 1:
		stage_name(to, other);
		note("staging: %s to %s, flags %u", from, to, flags);
		want = !s->there                                      ? ENOENT
		       : flags && (stages[other].there || other == k) ? EEXIST
								      : 0;
		expect("rename", renameat2(AT_FDCWD, from, AT_FDCWD, to, flags), want);
		if (want == 0 && other != k) {
			stages[other] = *s;
			s->there = false;
		}
		return;
	default:
		name_of(to, i, ".json");
		note("staging: %s to r%u, flags %u, %s", from, i, flags,
			s->whole ? "a record" : "no record");
		if (!records[i].there)
			wait_gone(to);
		want = !s->there                   ? ENOENT
		       : flags && records[i].there ? EEXIST
		       : !s->whole                 ? EBADMSG
						   : 0;
		expect("rename", renameat2(AT_FDCWD, from, AT_FDCWD, to, flags), want);
		if (want == 0) {
			records[i] = s->rec;
			s->there = false;
		}
	}
}

/* --- the run ------------------------------------------------------------------------------------------------------- */
static void step(void)
{
	unsigned i = rnd(RECORDS), j = rnd(RECORDS), k = rnd(STAGES);

	switch (rnd(20)) {
	case 0:
	case 1:
	case 2:
	case 3:
		op_put(i);
		break;
	case 4:
		if (rnd(2))
			op_put_f32(i);
		else
			op_put_twice(i);
		break;
	case 5:
		op_half(i);
		break;
	case 6:
		op_bad(i);
		break;
	case 7:
	case 8:
	case 9:
		op_edit(i);
		break;
	case 10:
		op_edit_f32(i);
		break;
	case 11:
		op_unlink(i);
		break;
	case 12:
	case 13:
		op_rename(i, j);
		break;
	case 14:
		op_reader(i);
		break;
	case 15:
	case 16:
		op_stage(k);
		break;
	case 17:
		op_stage_name(k, i);
		break;
	case 18:
		check_list();
		break;
	default:
		check_record(j);
	}
	check_record(i);
}

static void state_load(const char *path)
{
	FILE *f = path ? fopen(path, "rb") : NULL;

	if (!f)
		return;
	if (fread(records, sizeof records, 1, f) != 1)
		fail("%s: cut short", path);
	fclose(f);
	note("loaded");
	for (unsigned i = 0; i < RECORDS; i++)
		check_record(i);
	check_list();
}

static void state_save(const char *path)
{
	FILE *f = path ? fopen(path, "wb") : NULL;

	if (f && (fwrite(records, sizeof records, 1, f) != 1 || fclose(f) != 0))
		fail("%s: %s", path, strerror(errno));
}

/* Whether records of this collection can be renamed at all. */
static void find_out(void)
{
	struct record r;

	random_record(&r);
	records[0] = r;
	int fd = open_or_fail("vec/r0.json", O_WRONLY | O_CREAT | O_TRUNC);
	char text[FILE_MAX];
	int e = write_pieces(fd, text, compose(&r, text));
	if (e)
		fail("the first write: %s", strerror(e));
	expect("close", close(fd), 0);
	spread = rename("vec/r0.json", "vec/r1.json") < 0 && errno == EXDEV;
	if (!spread) {
		records[1] = r;
		records[0].there = false;
	}
	check_record(0);
	check_record(1);
}

int main(int argc, char **argv)
{
	const char *s = getenv("SEED");

	if (argc < 3 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: fsx COLLECTION OPS [STATE]\n");
		return 2;
	}
	uint64_t ops = strtoull(argv[2], NULL, 10);
	seed = s && *s ? strtoull(s, NULL, 10) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
	printf("SEED=%llu, %llu operations\n", (unsigned long long)seed, (unsigned long long)ops);
	fflush(stdout);
	rng = seed * 0x9e3779b97f4a7c15u + 1;
	rnd(2);
	state_load(argc > 3 ? argv[3] : NULL);
	find_out();
	for (uint64_t i = 0; i < ops; i++)
		step();
	for (unsigned i = 0; i < READERS; i++) {
		if (readers[i].fd)
			check_reader(&readers[i]);
	}
	for (unsigned k = 0; k < STAGES; k++) {
		char path[64];
		stage_name(path, k);
		if (stages[k].there)
			expect("unlink", unlink(path), 0);
	}
	for (unsigned i = 0; i < RECORDS; i++)
		check_record(i);
	check_list();
	state_save(argc > 3 ? argv[3] : NULL);
	return 0;
}
