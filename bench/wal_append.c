/* wal_append.c - what a durable append costs: one record, one write, one fdatasync.
 *
 *	bench-wal DIR [ROUNDS]
 *
 * io_uring and pwrite take turns, and so do 4 KiB and 64 KiB, round by round, so that what else
 * the machine does falls on all alike.  Prints per size and back end the median of the rounds'
 * medians, the p99 over everything, and in how many rounds io_uring was the quicker.  DIR is made
 * and removed; it should be on the disk that the question is about.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "wal/wal.h"

#define APPENDS    400u
#define ROUNDS_MAX 1000u
#define SIZES      2u
#define BACKENDS   2u

/* A frame of one record: these payloads make it 4 KiB and 64 KiB on disk. */
static const size_t payload[SIZES] = {4096 - 128, 65536 - 128};
static const enum wal_backend backend[BACKENDS] = {WAL_URING, WAL_PWRITE};
static const char *const names[BACKENDS] = {"io_uring", "pwrite"};

static uint64_t all[SIZES][BACKENDS][ROUNDS_MAX * APPENDS];
static uint64_t median[SIZES][BACKENDS][ROUNDS_MAX];

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void die(const char *what, int rc, const struct vx_err *err)
{
	fprintf(stderr, "bench-wal: %s: %s\n", what, vx_err_msg(err, rc));
	exit(1);
}

/* Fills one round's times; the log is opened before and marked after, out of the clock. */
static void run(const char *dir, unsigned s, unsigned b, unsigned round)
{
	static uint8_t data[65536];
	struct wal_opts o = {.backend = backend[b], .node_id = 1, .spare_segments = 2};
	struct vx_err err = VX_ERR_INIT;
	struct wal_group_state st;
	uint64_t *t = &all[s][b][round * APPENDS];
	struct wal *w;

	int rc = wal_open(disk_real(), dir, &o, &w, &err);
	if (rc)
		die(names[b], rc, &err);
	rc = wal_group_load(w, 1, &st, &err);
	if (rc)
		die("load", rc, &err);
	uint64_t index = st.mark_index;
	wal_group_state_release(&st);
	rc = wal_upkeep(w);
	for (unsigned i = 0; i < APPENDS && rc == 0; i++) {
		struct wal_rec r = {.group = 1,
			.type = WAL_ENTRY,
			.index = index + 1,
			.term = 1,
			.data = data,
			.len = payload[s]};
		memset(data, (int)i, payload[s]);
		uint64_t from = clock_mono_ns();
		rc = wal_stage(w, &r);
		if (rc == 0)
			rc = wal_flush(w);
		t[i] = clock_mono_ns() - from;
		index++;
	}
	struct wal_rec mark = {.group = 1, .type = WAL_MARK, .index = index, .term = 1};
	if (rc == 0)
		rc = wal_stage(w, &mark);
	if (rc == 0)
		rc = wal_flush(w);
	if (rc == 0)
		rc = wal_upkeep(w);
	if (rc)
		die("append", rc, NULL);
	wal_close(w);
	uint64_t sorted[APPENDS];
	memcpy(sorted, t, sizeof sorted);
	qsort(sorted, APPENDS, sizeof *sorted, cmp_u64);
	median[s][b][round] = sorted[APPENDS / 2];
}

static int unlink_each(void *arg, const char *name)
{
	char path[4096];

	(void)snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
	return unlink(path);
}

static void report(unsigned rounds)
{
	for (unsigned s = 0; s < SIZES; s++) {
		unsigned quicker = 0;
		for (unsigned i = 0; i < rounds; i++)
			quicker += median[s][0][i] < median[s][1][i];
		for (unsigned b = 0; b < BACKENDS; b++) {
			size_t n = (size_t)rounds * APPENDS, mid = rounds / 2, high = n * 99 / 100;
			qsort(median[s][b], rounds, sizeof **median[s], cmp_u64);
			qsort(all[s][b], n, sizeof **all[s], cmp_u64);
			printf("%2zu KiB %-8s  p50 %6.1f us  p99 %7.1f us\n",
				(payload[s] + 128) / 1024, names[b],
				(double)median[s][b][mid] / 1e3, (double)all[s][b][high] / 1e3);
		}
		printf("       io_uring quicker in %u of %u rounds\n", quicker, rounds);
	}
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 15;

	if (argc < 2 || argc > 3 || rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench-wal DIR [ROUNDS]\n");
		return 2;
	}
	if (mkdir(argv[1], 0700) != 0)
		die(argv[1], -errno, NULL);
	for (unsigned i = 0; i < rounds; i++) {
		for (unsigned s = 0; s < SIZES; s++) {
			/* Each goes first in every other round. */
			for (unsigned b = 0; b < BACKENDS; b++)
				run(argv[1], s, (b + i) % BACKENDS, i);
		}
	}
	report(rounds);
	int rc = disk_real()->ops->list(disk_real(), argv[1], unlink_each, argv[1]);
	if (rc || rmdir(argv[1]) != 0)
		die(argv[1], rc ? rc : -errno, NULL);
	return 0;
}
