/* What one worker leaves to the next, whatever instant it is killed at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/carry.h"

static struct carry *open_copy(int fd)
{
	struct vx_err err = VX_ERR_INIT;
	struct carry *c;

	if (carry_open(dup(fd), &c, &err))
		fail_msg("carry_open: %s", err.msg);
	return c;
}

static uint64_t seed_of(void)
{
	const char *s = getenv("SEED");
	uint64_t seed = s ? strtoull(s, NULL, 0) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;

	printf("SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

/* State number 'n': its number, then bytes that follow from it; some fit inline and some do not. */
static size_t state_of(uint64_t n, uint8_t *ret)
{
	size_t len = 8 + n * 2654435761u % (n % 3 ? 700 : 300000);

	memcpy(ret, &n, 8);
	for (size_t i = 8; i < len; i++)
		ret[i] = (uint8_t)(n + i * 7);
	return len;
}

/* Requests 2, 4, 6, ... each make the next state and say its number. */
static void work(struct carry *c, uint32_t slot, uint64_t from)
{
	struct carry_req *r = carry_req_take(c);
	uint8_t *p = malloc(400000);

	for (uint64_t n = from; r && p; n++) {
		carry_req_begin(r, 2 * n);
		size_t len = state_of(n, p);
		if (carry_state_put(c, slot, p, len, r, 0, n))
			break;
		carry_req_end(r);
	}
	_exit(1);
}

/* Killed anywhere, a state is whole and the last or the next one; and a request that is known as done has made
 * the state that is there. */
static void a_killed_writer_leaves_a_whole_state_that_agrees_with_its_request(void **state)
{
	unsigned seed = (unsigned)seed_of(), found_done = 0;
	struct carry_file f = {.unique = 1, .ino = 5};
	struct buf b = BUF_INIT;
	uint8_t *want = malloc(400000);
	uint64_t id, last = 1;
	int fd;

	(void)state;
	assert_non_null(want);
	assert_int_equal(carry_create(&fd), 0);
	struct carry *c = open_copy(fd);
	assert_int_equal(carry_file_new(c, &f, want, state_of(1, want), &id), 0);
	carry_free(c);
	/* On a slow machine many would be killed before they have done anything: those get longer, and it goes
	 * on until enough was done. */
	unsigned window_us = 3000;
	int k;
	for (k = 0; k < 150 || (last <= 150 && k < 3000); k++) {
		pid_t pid = fork();
		int st;

		assert_true(pid >= 0);
		if (pid == 0)
			work(open_copy(fd), f.slot, last + 1);
		usleep((useconds_t)((unsigned)rand_r(&seed) % window_us));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &st, 0), pid);
		assert_true(WIFSIGNALED(st));
		c = open_copy(fd);
		b.len = 0;
		assert_int_equal(carry_state_get(c, f.slot, &b), 0);
		uint64_t n;
		assert_true(b.len >= 8);
		memcpy(&n, b.data, 8);
		assert_true(n >= last);
		assert_int_equal(b.len, state_of(n, want));
		assert_memory_equal(b.data, want, b.len);
		assert_null(carry_req_find(c, 2 * (n + 2)));
		struct carry_req *r = carry_req_find(c, 2 * (n + 1));
		assert_true(!r || r->stage != CARRY_DONE); /* else the state would be n + 1 */
		r = carry_req_find(c, 2 * n);
		if (r) {
			assert_int_equal(r->stage, CARRY_DONE);
			assert_int_equal(r->value, n);
			found_done++;
			carry_req_end(r);
		}
		r = carry_req_find(c, 2 * (n + 1));
		if (r)
			carry_req_end(r);
		if (n == last && window_us < 100000)
			window_us += 200;
		last = n;
		carry_free(c);
	}
	printf("%u of %d were killed between the state and the answer, at state %llu\n", found_done,
		k, (unsigned long long)last);
	assert_true(last > 150);
	buf_release(&b);
	free(want);
	close(fd);
}

static int count_node(void *arg, uint32_t slot, const struct carry_node *n)
{
	(void)slot;
	*(uint64_t *)arg += n->nlookup;
	return 0;
}

static int count_file(void *arg, const struct carry_file *f)
{
	(void)f;
	++*(unsigned *)arg;
	return 0;
}

/* What was taken is there for the next one, what was given back is not, and its place is used again. */
static void slots_are_found_again_and_used_again(void **state)
{
	struct carry_node n = {.ino = 9, .nlookup = 3, .name = "x"};
	struct carry_file f = {.unique = 8, .ino = 7, .flags = 2};
	struct carry_sum sum = {.batches = 4, .accepted = 1000}, got;
	uint64_t ids[5], refs = 0;
	unsigned files = 0;
	int fd;

	(void)state;
	assert_int_equal(carry_create(&fd), 0);
	struct carry *c = open_copy(fd);
	for (unsigned i = 0; i < 5; i++) {
		f.unique = 8 + i;
		assert_int_equal(carry_file_new(c, &f, "abc", 3, &ids[i]), 0);
		carry_node_put(c, carry_node_take(c), &n);
	}
	carry_progress_set(carry_file_progress(c, carry_slot_of(ids[3])), &sum);
	carry_file_free(c, ids[1]);
	carry_file_free(c, ids[1]); /* a release that comes again */
	carry_node_free(c, 2);
	assert_int_equal(carry_journal_put(c, carry_slot_of(ids[3]), "journal", 7, 0), 0);
	uint64_t epoch = carry_epoch(c), serial = carry_serial(c);
	carry_free(c);

	c = open_copy(fd);
	assert_int_equal(carry_generation(c), 2);
	assert_true(carry_epoch(c) == epoch && epoch != 0);
	assert_true(carry_serial(c) > serial);
	carry_file_each(c, count_file, &files);
	assert_int_equal(files, 4);
	carry_node_each(c, count_node, &refs);
	assert_int_equal(refs, 4 * 3);
	assert_true(carry_file_by(c, 10) == ids[2]);
	assert_true(carry_file_by(c, 9) == 0);
	carry_progress_get(carry_file_progress(c, carry_slot_of(ids[3])), &got);
	assert_memory_equal(&got, &sum, sizeof sum);
	struct buf b = BUF_INIT;
	assert_int_equal(carry_journal_get(c, carry_slot_of(ids[3]), 7, &b), 0);
	assert_memory_equal(b.data, "journal", 7);
	uint64_t id;
	assert_int_equal(carry_file_new(c, &f, "", 0, &id), 0);
	assert_int_equal(carry_slot_of(id), carry_slot_of(ids[1]));
	assert_true(id != ids[1]);
	assert_int_equal(carry_node_take(c), 2);
	buf_release(&b);
	carry_free(c);
	close(fd);
}

/* A region of another layout, or bytes that changed, are not taken for ours. */
static void what_is_not_ours_is_refused(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct carry_file f = {.unique = 1, .ino = 5};
	struct buf b = BUF_INIT;
	uint64_t id;
	struct carry *c;
	int fd;

	(void)state;
	assert_int_equal(carry_create(&fd), 0);
	c = open_copy(fd);
	char big[5000];
	memset(big, 'x', sizeof big);
	assert_int_equal(carry_file_new(c, &f, big, sizeof big, &id), 0);
	/* The state lies in a large area: the last bytes of it change. */
	off_t at = lseek(fd, (off_t)1 << 40, SEEK_DATA);
	assert_true(at >= (off_t)1 << 40);
	assert_int_equal(pwrite(fd, "y", 1, at + 4999), 1);
	assert_int_equal(carry_state_get(c, f.slot, &b), -EUCLEAN);
	carry_free(c);
	uint32_t version = 99;
	assert_int_equal(pwrite(fd, &version, 4, 8), 4);
	assert_int_equal(carry_open(dup(fd), &c, &err), -EOPNOTSUPP);
	assert_int_equal(pwrite(fd, "no", 2, 0), 2);
	assert_int_equal(carry_open(dup(fd), &c, &err), -EUCLEAN);
	buf_release(&b);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_killed_writer_leaves_a_whole_state_that_agrees_with_its_request),
		cmocka_unit_test(slots_are_found_again_and_used_again),
		cmocka_unit_test(what_is_not_ours_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
