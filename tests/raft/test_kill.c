/* test_kill.c - the real pump is killed, and what it acknowledged is there when it starts again.
 *
 * A program of its own: it forks, and nothing of libuv may have run in it before.
 */
#include "pump.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

/* --- kill ------------------------------------------------------------------------------------- */

struct killed {
	const char *dir;
	unsigned groups;
	int ack_fd;
	uint64_t first_value;
};

static void *write_for_ever(void *arg)
{
	struct writer *w = arg;
	for (unsigned i = 0;; i++) {
		if (i >= 20)
			pump_await(&w->count, i - 19);
		/* The value names its group: value % groups. */
		uint64_t value = ((uint64_t)w->number + 2 * i) * w->groups + i % w->groups;
		pump_propose(w->r, &w->count, FIRST + i % w->groups, value, 8 + i * 37 % 20000);
	}
	return NULL;
}

static bool load_store(struct host *h, uint32_t group)
{
	char path[300];
	struct store *s = &h->store[group - FIRST];
	pump_store_path(h, group, path, sizeof path);
	FILE *f = fopen(path, "re");
	if (!f)
		return true;
	uint64_t head[2];
	bool ok = fread(head, 8, 2, f) == 2;
	if (ok) {
		s->n = s->cap = head[1];
		s->values = pump_must(calloc(s->cap + 1, 8));
		ok = fread(s->values, 8, s->n, f) == s->n;
	}
	fclose(f);
	return ok;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Child: writes until it is killed.  What its store held is loaded first; entries between
 * that and the mark are applied again and must not be doubled, so the store is cut back to
 * the mark by the index it was saved with. */
static void child_write(const struct killed *k)
{
	struct host h;
	char wal_dir[200];
	struct writer w[2];
	pthread_t t[2];
	pump_host_init(&h, k->dir);
	h.ack_fd = k->ack_fd;
	for (unsigned g = 0; g < k->groups; g++) {
		if (!load_store(&h, FIRST + g))
			_exit(4);
	}
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, k->dir, k->groups);
	o.mark_bytes = 256u << 10;
	struct repl *r = pump_start(&h, &o);
	for (unsigned i = 0; i < 2; i++) {
		w[i] = (struct writer){
			.r = r, .count = {.h = &h}, .number = i, .groups = k->groups};
		w[i].number = (unsigned)k->first_value + i;
		if (pthread_create(&t[i], NULL, write_for_ever, &w[i]) != 0)
			_exit(5);
	}
	pthread_join(t[0], NULL);
}

/* Child: reads store and log again; every acknowledged value must be in one of them. */
static int child_verify(const struct killed *k, const uint64_t *acked, size_t n_acked)
{
	struct host h;
	char wal_dir[200];
	pump_host_init(&h, k->dir);
	for (unsigned g = 0; g < k->groups; g++) {
		if (!load_store(&h, FIRST + g))
			return 4;
	}
	struct repl_opts o = pump_opts(wal_dir, sizeof wal_dir, k->dir, k->groups);
	struct repl *r = pump_start(&h, &o);
	repl_stop(r);
	if (h.bad)
		return 6;
	for (unsigned g = 0; g < k->groups; g++)
		qsort(h.store[g].values, h.store[g].n, 8, compare);
	for (size_t i = 0; i < n_acked; i++) {
		struct store *s = &h.store[acked[i] % k->groups];
		if (!bsearch(&acked[i], s->values, s->n, 8, compare)) {
			fprintf(stderr, "value %llu was acknowledged and is lost\n",
				(unsigned long long)acked[i]);
			return 7;
		}
	}
	pump_host_release(&h);
	return 0;
}

static void kill_and_reopen(unsigned groups, unsigned rounds)
{
	char dir[128];
	const char *env = getenv("SEED");
	unsigned seed = env && *env ? (unsigned)strtoul(env, NULL, 10) : (unsigned)clock_mono_ns();
	uint64_t *acked = NULL;
	size_t n = 0, cap = 0;
	print_message("SEED=%u\n", seed);
	pump_make_dir(dir, sizeof dir);
	for (unsigned round = 0; round < rounds; round++) {
		int fd[2], status;
		assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
		struct killed k = {dir, groups, fd[1], (uint64_t)round * 100000000u};
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(fd[0]);
			child_write(&k);
			_exit(9);
		}
		close(fd[1]);
		/* From the first acknowledgement on the child has a random time to live. */
		uint64_t deadline = 0, v;
		while (read(fd[0], &v, 8) == 8) {
			if (n == cap) {
				cap = cap ? 2 * cap : 1024;
				acked = pump_must(realloc(acked, cap * 8));
			}
			acked[n++] = v;
			uint64_t now = clock_mono_ns();
			if (deadline == 0)
				deadline = now + (rand_r(&seed) % 150) * 1000000ull;
			if (now >= deadline)
				kill(pid, SIGKILL);
		}
		close(fd[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			fail_msg("writer ended by itself: %d", status);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			_exit(child_verify(&k, acked, n));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	print_message("%zu acknowledged in %u lives\n", n, rounds);
	assert_true(n > rounds);
	free(acked);
	pump_remove_tree(dir);
}

static void repl_acknowledged_survives_kill_one_group(void **state)
{
	(void)state;
	kill_and_reopen(1, 12);
}

static void repl_acknowledged_survives_kill_five_groups(void **state)
{
	(void)state;
	kill_and_reopen(5, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repl_acknowledged_survives_kill_one_group),
		cmocka_unit_test(repl_acknowledged_survives_kill_five_groups),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
