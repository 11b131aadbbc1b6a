/* simulate.c - runs many seeds, in as many processes as asked for.
 *
 *	SEED=first SEEDS=n JOBS=j TRACE=1 simulate
 *
 * A finding ends its process, so that the parent knows the seed, starts another and goes on; after
 * STOP findings (10) it stops.  TRACE=1 prints every event, and is meant for one seed.  Status 0: nothing
 * found, 1: something.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "sim.h"

#define JOBS_MAX         64u
#define SEED_CPU_SECONDS 20 /* a seed that takes longer hangs */

struct shared {
	_Atomic uint64_t next;
	_Atomic bool stop;
	struct worker {
		_Atomic uint64_t seed;
		uint64_t done;
		struct sim_totals t;
	} w[JOBS_MAX];
};

static uint64_t number(const char *name, uint64_t dflt)
{
	const char *v = getenv(name);
	return v && *v ? strtoull(v, NULL, 10) : dflt;
}

static void work(struct shared *sh, struct worker *w, uint64_t end, bool trace)
{
	struct itimerval limit = {.it_value = {.tv_sec = SEED_CPU_SECONDS}};
	for (;;) {
		uint64_t seed = atomic_fetch_add(&sh->next, 1);
		if (seed >= end || atomic_load(&sh->stop))
			return;
		atomic_store(&w->seed, seed);
		setitimer(ITIMER_PROF, &limit, NULL);
		sim_scenario(seed, trace, false, &w->t);
		w->done++;
	}
}

static pid_t start(struct shared *sh, unsigned i, uint64_t end, bool trace)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	work(sh, &sh->w[i], end, trace);
	fflush(stdout);
	exit(0); /* not _exit(): what was covered is written there */
}

static double seconds(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void report(
	const struct shared *sh, unsigned jobs, uint64_t first, double took, unsigned found)
{
	struct sim_totals t = {0};
	uint64_t done = 0;
	for (unsigned i = 0; i < jobs; i++) {
		const uint64_t *from = (const uint64_t *)&sh->w[i].t;
		uint64_t *to = (uint64_t *)&t;
		for (size_t k = 0; k < sizeof t / sizeof *to; k++)
			to[k] += from[k];
		done += sh->w[i].done;
	}
	printf("seeds from %" PRIu64 ": %" PRIu64 " in %.1f s, %.1f seeds per second\n", first,
		done, took, (double)done / (took > 0 ? took : 1));
	printf("  acknowledged %" PRIu64 ", failed or unknown %" PRIu64 ", messages %" PRIu64
	       ", leaders %" PRIu64 "\n",
		t.acked, t.failed, t.messages, t.leaders);
	printf("  power cuts %" PRIu64 ", kills %" PRIu64 ", disk errors %" PRIu64
	       ", full disks %" PRIu64 ", flipped bits %" PRIu64 " (%" PRIu64
	       " refused), pauses %" PRIu64 ", clock jumps %" PRIu64 "\n",
		t.crashes, t.kills, t.breaks, t.fulls, t.flips, t.refused, t.pauses, t.jumps);
	printf("  marks %" PRIu64 ", installs %" PRIu64 ", membership changes %" PRIu64
	       ", trace hash %016" PRIx64 "\n",
		t.marks, t.installs, t.changes, t.hash);
	printf("findings: %u\n", found);
}

int main(void)
{
	uint64_t first = number("SEED", 1), end = first + number("SEEDS", 100);
	unsigned jobs = (unsigned)number("JOBS", 1), stop = (unsigned)number("STOP", 10), found = 0;
	bool trace = number("TRACE", 0) != 0;
	pid_t pids[JOBS_MAX];
	jobs = jobs < 1 || trace ? 1 : jobs > JOBS_MAX ? JOBS_MAX : jobs;
	struct shared *sh = mmap(
		NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		return 2;
	if (!getenv("VECFS_LOG") && log_configure("error") != 0)
		return 2;
	atomic_init(&sh->next, first);
	double began = seconds();
	for (unsigned i = 0; i < jobs; i++)
		pids[i] = start(sh, i, end, trace);
	for (unsigned live = jobs; live > 0;) {
		int status;
		unsigned i = 0;
		pid_t pid = wait(&status);
		while (i < jobs && pids[i] != pid)
			i++;
		if (i == jobs)
			return 2;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
			live--;
			continue;
		}
		uint64_t seed = atomic_load(&sh->w[i].seed);
		if (WIFSIGNALED(status))
			printf("seed %" PRIu64 ": signal %d\n", seed, WTERMSIG(status));
		printf("seed %" PRIu64 " found something; again: make check-sim SEED=%" PRIu64
		       " SEEDS=1 TRACE=1\n",
			seed, seed);
		if (++found >= stop)
			atomic_store(&sh->stop, true);
		pids[i] = start(sh, i, end, trace);
	}
	report(sh, jobs, first, seconds() - began, found);
	return found ? 1 : 0;
}
