/* powerdisk.c - a disk whose power can be cut.
 *
 *	powerdisk DIR SIZE_MIB		serves DIR/disk and DIR/ctl until DIR is unmounted
 *
 * DIR/disk is a file to put a loop device on.  What is written to it stays in a volatile cache, in the
 * order of the writes, until a flush (fsync of the file, which is what a flush of the loop device
 * becomes); only then is it on the platter.  A cut keeps, of the writes in the cache, all, none,
 * whole ones or single sectors as a seed decides, and from that instant on every request fails with
 * EIO, as those of a dead device do, until power comes back.
 *
 * DIR/ctl takes one command per write:
 *
 *	cut write N	at the N-th write from now; that write is in the cache and is never answered
 *	cut flush N	at the N-th flush from now, which does nothing
 *	cut now
 *	on		power comes back: what survived is what is there
 *	seed N		of the next cuts
 *	hold TEXT	the next write with these bytes in it is not done, nor answered, until
 *	let go
 *	fail TEXT	writes with these bytes in them fail with EIO, until
 *	fail
 *
 * and reads as one line: "on|off WRITES FLUSHES CACHED KEPT LOST HELD", where KEPT and LOST count the
 * sectors of the cache that the last cut kept and lost, and HELD is 1 while a write is held.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SECTOR       512u
#define INO_DISK     2u
#define INO_CTL      3u
#define ATTR_SECONDS 100.0

/* One write in the cache. */
struct cached {
	struct cached *next;
	uint64_t off;
	size_t len;
	uint8_t data[];
};

static uint8_t *platter, *seen; /* what survives any cut; what is read */
static uint64_t size_bytes;
static struct cached *first, **last = &first;
static unsigned long n_writes, n_flushes, n_cached, n_kept, n_lost;
static unsigned long cut_at_write, cut_at_flush; /* 0: never */
static int off;
static char hold_text[64], fail_text[64]; /* "": none */
static struct cached *held;
static fuse_req_t held_req;
static uint64_t rng = 1;

static uint64_t draw(void)
{
	uint64_t z = rng += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* --- the disk --------------------------------------------------------------------- */
/* Zeros over what was never written cost no memory. */
static int all_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void put(uint8_t *image, uint64_t at, const uint8_t *p, size_t n)
{
	if (!all_zero(p, n) || !all_zero(image + at, n))
		memcpy(image + at, p, n);
}

static void flush(void)
{
	while (first) {
		struct cached *c = first;
		put(platter, c->off, c->data, c->len);
		first = c->next;
		free(c);
	}
	last = &first;
	n_cached = 0;
}

/* A disk writes its cache in any order: each write, or each sector of it, got there or did not.
 * They are gone through in order, so that of two that overlap either may be the one that is left. */
static void cut(void)
{
	unsigned how = (unsigned)(draw() %
				  5); /* 0 nothing, 1 all, 2 writes, 3 sectors, 4 a first part */
	unsigned long part = how == 4 && n_cached ? draw() % n_cached : 0, i = 0;

	n_kept = n_lost = 0;
	for (struct cached *c = first, *next; c; c = next, i++) {
		int whole = how == 1 || (how == 2 && draw() % 2) || (how == 4 && i < part);
		/* The write at the border is torn. */
		int torn = how == 3 || (how == 4 && i == part);
		for (size_t at = 0; at < c->len; at += SECTOR) {
			size_t n = c->len - at < SECTOR ? c->len - at : SECTOR;
			if (whole || (torn && draw() % 2)) {
				put(platter, c->off + at, c->data + at, n);
				n_kept++;
			} else {
				n_lost++;
			}
		}
		next = c->next;
	}
	off = 1;
	cut_at_write = cut_at_flush = 0;
}

static void power_on(void)
{
	/* Where they may differ is where the cache was written to. */
	while (first) {
		struct cached *c = first;
		put(seen, c->off, platter + c->off, c->len);
		first = c->next;
		free(c);
	}
	last = &first;
	n_cached = 0;
	off = 0;
}

/* --- requests ------------------------------------------------------------------------ */
static void stat_of(struct stat *s, fuse_ino_t ino)
{
	memset(s, 0, sizeof *s);
	s->st_ino = ino;
	s->st_nlink = 1;
	s->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0600;
	if (ino == INO_DISK)
		s->st_size = (off_t)size_bytes;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.attr_timeout = ATTR_SECONDS, .entry_timeout = ATTR_SECONDS};

	(void)parent;
	e.ino = strcmp(name, "disk") == 0 ? INO_DISK : strcmp(name, "ctl") == 0 ? INO_CTL : 0;
	if (!e.ino) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	stat_of(&e.attr, e.ino);
	fuse_reply_entry(req, &e);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat s;

	(void)fi;
	stat_of(&s, ino);
	fuse_reply_attr(req, &s, ATTR_SECONDS);
}

static void on_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set, struct fuse_file_info *fi)
{
	(void)attr;
	(void)set;
	on_getattr(req, ino, fi);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t n, off_t at, struct fuse_file_info *fi)
{
	char line[160];
	uint64_t from = (uint64_t)at;

	(void)fi;
	if (ino == INO_CTL) {
		int len = snprintf(line, sizeof line, "%s %lu %lu %lu %lu %lu %d\n",
			off ? "off" : "on", n_writes, n_flushes, n_cached, n_kept, n_lost,
			held != NULL);
		size_t have = (size_t)len > from ? (size_t)len - from : 0;
		fuse_reply_buf(req, line + (have ? from : 0), have < n ? have : n);
		return;
	}
	if (off) {
		fuse_reply_err(req, EIO);
		return;
	}
	if (from >= size_bytes)
		n = 0;
	else if (n > size_bytes - from)
		n = size_bytes - from;
	fuse_reply_buf(req, (const char *)seen + from, n);
}

static void take(struct cached *c)
{
	*last = c;
	last = &c->next;
	n_cached++;
	put(seen, c->off, c->data, c->len);
}

static void let_go(void)
{
	struct cached *c = held;

	hold_text[0] = 0;
	held = NULL;
	if (!c)
		return;
	size_t n = c->len;
	if (off) {
		free(c);
		fuse_reply_err(held_req, EIO);
		return;
	}
	take(c);
	fuse_reply_write(held_req, n);
}

static int command(const char *p, size_t n)
{
	char line[80], what[16];
	unsigned long count;

	if (n >= sizeof line)
		return EINVAL;
	memcpy(line, p, n);
	line[n] = 0;
	if (strncmp(line, "cut now", 7) == 0) {
		if (!off)
			cut();
	} else if (strncmp(line, "on", 2) == 0) {
		power_on();
	} else if (sscanf(line, "cut %15s %lu", what, &count) == 2 && count > 0) {
		if (strcmp(what, "write") == 0)
			cut_at_write = n_writes + count;
		else if (strcmp(what, "flush") == 0)
			cut_at_flush = n_flushes + count;
		else
			return EINVAL;
	} else if (sscanf(line, "seed %lu", &count) == 1) {
		rng = count;
	} else if (strncmp(line, "hold ", 5) == 0 && strlen(line + 5) < sizeof hold_text) {
		strcpy(hold_text, line + 5);
	} else if (strcmp(line, "fail") == 0) {
		fail_text[0] = 0;
	} else if (strncmp(line, "fail ", 5) == 0 && strlen(line + 5) < sizeof fail_text) {
		strcpy(fail_text, line + 5);
	} else if (strncmp(line, "let go", 6) == 0) {
		let_go();
	} else {
		return EINVAL;
	}
	return 0;
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *p, size_t n, off_t at,
	struct fuse_file_info *fi)
{
	(void)fi;
	if (ino == INO_CTL) {
		int rc = command(p, n);
		if (rc)
			fuse_reply_err(req, rc);
		else
			fuse_reply_write(req, n);
		return;
	}
	if (off || (uint64_t)at + n > size_bytes) {
		fuse_reply_err(req, off ? EIO : ENOSPC);
		return;
	}
	if (fail_text[0] && memmem(p, n, fail_text, strlen(fail_text))) {
		fuse_reply_err(req, EIO);
		return;
	}
	struct cached *c = malloc(sizeof *c + n);
	if (!c) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*c = (struct cached){.off = (uint64_t)at, .len = n};
	memcpy(c->data, p, n);
	if (hold_text[0] && !held && memmem(p, n, hold_text, strlen(hold_text))) {
		held = c;
		held_req = req;
		return;
	}
	take(c);
	if (++n_writes == cut_at_write) {
		cut();
		fuse_reply_err(req, EIO);
		return;
	}
	fuse_reply_write(req, n);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	(void)fi;
	if (ino == INO_DISK && !off && ++n_flushes == cut_at_flush)
		cut();
	if (ino == INO_DISK && !off)
		flush();
	fuse_reply_err(req, ino == INO_DISK && off ? EIO : 0);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = on_lookup,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.open = on_open,
	.read = on_read,
	.write = on_write,
	.fsync = on_fsync,
};

static uint8_t *image(void)
{
	void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int main(int argc, char **argv)
{
	char *fuse_argv[] = {argv[0], NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, fuse_argv);
	int rc = 1;

	size_bytes = argc == 3 ? strtoull(argv[2], NULL, 10) << 20 : 0;
	if (size_bytes == 0) {
		fprintf(stderr, "usage: powerdisk DIR SIZE_MIB\n");
		return 2;
	}
	platter = image();
	seen = image();
	if (!platter || !seen) {
		perror("powerdisk");
		return 1;
	}
	struct fuse_session *s = fuse_session_new(&args, &ops, sizeof ops, NULL);
	if (!s)
		return 1;
	if (fuse_session_mount(s, argv[1]) == 0) {
		printf("ready\n");
		fflush(stdout);
		rc = fuse_session_loop(s) < 0;
		fuse_session_unmount(s);
	}
	fuse_session_destroy(s);
	return rc;
}
