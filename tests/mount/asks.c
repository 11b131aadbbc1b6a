/* asks.c - raw questions on held descriptors, in every order of calls, each answer known beforehand.
 *
 *	asks COLLECTION RECORDS ROUNDS	SEED=n in the environment; the seed is printed
 *
 * Record i of the collection, 'i', lies at (i, 0, 0): the nearest one to (i + .25, 0, 0) is i.  A question is
 * answered partly after its write has returned, so reads, closes, further writes and refused ones come at any
 * time here, also from a second thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIM = 3, MANY = 5, PATH = 512 };

static char path[PATH];
static uint32_t records;
static uint64_t rng, seed;

static _Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "SEED=%llu: ", (unsigned long long)seed);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (%s)\n", strerror(errno));
	exit(1);
}

static uint32_t rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 20) % n;
}

static int open_query(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		fail("%s", path);
	return fd;
}

/* Writes a question and appends its answer to 'want'. */
static void ask(int fd, off_t at, char *want)
{
	uint32_t i = rnd(records);
	float q[DIM] = {(float)i + .25f};
	ssize_t n = at < 0 ? write(fd, q, sizeof q) : pwrite(fd, q, sizeof q, at);

	if (n != (ssize_t)sizeof q)
		fail("write: %zd", n);
	sprintf(want + strlen(want), "%u\n", i);
}

static void ask_nonsense(int fd)
{
	float q[DIM] = {NAN};

	if (pwrite(fd, q, sizeof q, 0) != -1 || errno != EINVAL)
		fail("a question that is not finite was not refused");
}

static void expect(int fd, off_t at, size_t piece, const char *want)
{
	char got[MANY * 12];
	size_t len = 0;

	for (;;) {
		size_t room = piece < sizeof got - len ? piece : sizeof got - len;
		ssize_t n = at < 0 ? read(fd, got + len, room)
				   : pread(fd, got + len, room, at + (off_t)len);
		if (n < 0)
			fail("read");
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len != strlen(want) || memcmp(got, want, len) != 0)
		fail("asked for %s, answered %.*s", want, (int)len, got);
}

struct reader {
	int fd;
	const char *want;
};

static void *read_beside(void *arg)
{
	struct reader *r = arg;

	expect(r->fd, 0, 4096, r->want);
	return NULL;
}

static void step(int *fd)
{
	char want[MANY * 12] = "";
	struct reader r = {*fd, want};
	pthread_t t;

	switch (rnd(8)) {
	case 0: /* as a shell does */
		ask(*fd, -1, want);
		expect(*fd, -1, 4096, want);
		break;
	case 1: /* many before any is read */
		for (uint32_t n = 1 + rnd(MANY); n; n--)
			ask(*fd, 0, want);
		expect(*fd, 0, 4096, want);
		break;
	case 2: /* nobody reads the first */
		ask(*fd, 0, want);
		close(*fd);
		*fd = open_query();
		break;
	case 3: /* a refused one takes back what was asked before it */
		ask(*fd, 0, want);
		ask_nonsense(*fd);
		if (pread(*fd, want, 1, 0) != -1 || errno != ENODATA)
			fail("an answer after a refused question");
		break;
	case 4: /* read by somebody else */
		ask(*fd, 0, want);
		if (pthread_create(&t, NULL, read_beside, &r))
			fail("no thread");
		pthread_join(t, NULL);
		break;
	case 5: /* in pieces, twice */
		ask(*fd, 0, want);
		expect(*fd, 0, 1, want);
		expect(*fd, 0, 4096, want);
		break;
	case 6: /* whoever closes a copy waits for the answer */
		ask(*fd, 0, want);
		close(dup(*fd));
		expect(*fd, 0, 4096, want);
		break;
	default: /* without a pause */
		for (uint32_t n = rnd(200); n; n--) {
			*want = 0;
			ask(*fd, 0, want);
			expect(*fd, 0, 4096, want);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	snprintf(path, sizeof path, "%s/query.ids,k=1", argv[1]);
	records = (uint32_t)atoi(argv[2]);
	seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : (uint64_t)getpid();
	printf("SEED=%llu\n", (unsigned long long)seed);
	rng = seed * 2654435761u + 88172645463325252u;
	int fd = open_query();
	for (int i = atoi(argv[3]); i > 0; i--)
		step(&fd);
	close(fd);
	return 0;
}
