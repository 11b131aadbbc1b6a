/* A checkpoint gives back the index it was taken from, or it is refused. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "fixture.h"

static struct points p;
static char dir[512], path[600];

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	test_seed(99);
	points_init(&p, 3000, 48, 50);
	snprintf(dir, sizeof dir, "%s/vecfs-ckpt-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/graph.ckpt", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	rmdir(dir);
	points_release(&p);
	return 0;
}

static const struct index_tag tag = {.generation = 4, .applied = 123456789012u};

static void save(struct index *ix)
{
	struct vx_err err = VX_ERR_INIT;

	if (index_save(ix, disk_real(), path, tag, &err) < 0)
		fail_msg("%s", err.msg);
}

static void check_same_answers(struct index *a, struct index *b)
{
	struct index_hit x[10], y[10];
	uint32_t n, m;

	assert_int_equal(index_appended(a), index_appended(b));
	assert_int_equal(index_linked(a), index_linked(b));
	for (uint32_t i = 0; i < p.nquery; i++) {
		struct index_query q = {
			.vec = p.query + (size_t)i * p.dim, .k = 10, .ef = 20, .nslots = p.n};
		assert_int_equal(index_search(a, &q, x, &n, NULL), 0);
		assert_int_equal(index_search(b, &q, y, &m, NULL), 0);
		assert_int_equal(n, m);
		assert_memory_equal(x, y, n * sizeof *x);
	}
}

static void change_header(size_t at, uint32_t value)
{
	uint8_t h[128];
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, h, sizeof h, 0), sizeof h);
	put_le32(h + at, value);
	put_le64(h + 120, hash_xxh3(h, 120, 0));
	assert_int_equal(pwrite(fd, h, sizeof h, 0), sizeof h);
	close(fd);
}

static void expect_refused(void)
{
	struct vx_err err = VX_ERR_INIT;
	struct index_tag got;
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);

	assert_int_equal(index_load(ix, disk_real(), path, &got, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "does not fit its header"));
	assert_int_equal(index_appended(ix), 0);
	/* Still fresh: it takes vectors as if nothing had been tried. */
	points_append(&p, ix, 0, 600);
	assert_int_equal(index_appended(ix), 600);
	index_free(ix);
}

/* Too few slots for codes: they come back without, and the centre is learned when there are enough. */
static void index_without_a_centre_comes_back_without(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct index_tag got;

	(void)state;
	struct index *a = points_index(&p, VX_L2, NULL, NULL);
	struct index *b = points_index(&p, VX_L2, NULL, NULL);
	points_append(&p, a, 0, 300);
	save(a);
	assert_int_equal(index_load(b, disk_real(), path, &got, &err), 0);
	check_same_answers(a, b);
	points_append(&p, a, 300, 2000);
	points_append(&p, b, 300, 2000);
	points_link(a, 1);
	points_link(b, 1);
	check_same_answers(a, b);
	index_free(b);
	/* What cannot be: many slots and no centre, and flags that are none. */
	save(a);
	change_header(104, 0);
	expect_refused();
	save(a);
	change_header(104, 2);
	expect_refused();
	save(a);
	change_header(108, 7);
	expect_refused();
	index_free(a);
}

static void loaded_index_answers_like_the_saved_one(void **state)
{
	static const char *const kinds[] = {"hnsw", "flat"}, *const quants[] = {
								     "sq8", "none", "sq4", "sq1"};

	(void)state;
	for (int i = 0; i < 24; i++) {
		enum vx_metric metric = (enum vx_metric)(i % 3);
		struct index_tag got;
		struct vx_err err = VX_ERR_INIT;
		struct index_stats sa, sb;
		struct index *a = points_index(&p, metric, kinds[i / 12], quants[i / 3 % 4]);
		struct index *b = points_index(&p, metric, kinds[i / 12], quants[i / 3 % 4]);
		points_append(&p, a, 0, 2500);
		for (uint32_t s = 0; s < 2500; s += 7)
			index_forget(a, s);
		assert_int_equal(index_link(a, 2000), 2000); /* and a tail */
		save(a);
		assert_int_equal(index_load(b, disk_real(), path, &got, &err), 0);
		assert_int_equal(got.generation, tag.generation);
		assert_true(got.applied == tag.applied);
		check_same_answers(a, b);
		index_stat(a, &sa);
		index_stat(b, &sb);
		assert_int_equal(sa.dead, sb.dead);
		assert_int_equal(sa.max_level, sb.max_level);
		assert_int_equal(sa.ef_default, sb.ef_default);
		/* It goes on where the other stood. */
		points_append(&p, b, 2500, p.n);
		points_link(b, 2);
		assert_int_equal(index_check(b, &err), 0);
		assert_true(points_recall(&p, b, metric, 10, 100, NULL, NULL) > 0.8);
		index_free(a);
		index_free(b);
	}
}

static uint8_t *read_file(size_t *ret_n)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	assert_int_equal(fstat(fd, &st), 0);
	uint8_t *b = malloc((size_t)st.st_size + 1);
	*ret_n = (size_t)st.st_size;
	assert_int_equal(read(fd, b, *ret_n), st.st_size);
	close(fd);
	return b;
}

static void write_file(const uint8_t *b, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, b, n), (ssize_t)n);
	close(fd);
}

static int try_load(struct index *ix)
{
	struct index_tag got = {.generation = 77};
	struct vx_err err = VX_ERR_INIT;
	int rc = index_load(ix, disk_real(), path, &got, &err);

	if (rc < 0) {
		assert_int_equal(got.generation, 77);
		assert_int_equal(err.code, rc);
		assert_true(strlen(err.msg) > 0);
		assert_int_equal(index_appended(ix), 0);
	}
	return rc;
}

/* Without loading it. */
static int try_check(void)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = index_file_check(disk_real(), path, &err);

	assert_int_equal(err.code, rc);
	assert_true(rc == 0 || strlen(err.msg) > 0);
	return rc;
}

static void make_small_checkpoint(enum vx_metric metric, const char *quant)
{
	struct index *ix = points_index(&p, metric, NULL, quant);

	points_append(&p, ix, 0, 60);
	points_link(ix, 1);
	save(ix);
	index_free(ix);
}

static void flip_every_byte(enum vx_metric metric, const char *quant)
{
	size_t n;

	make_small_checkpoint(metric, quant);
	uint8_t *b = read_file(&n);
	struct index *ix = points_index(&p, metric, NULL, quant);
	int fd = open(path, O_WRONLY);
	for (size_t i = 0; i < n; i++) {
		uint8_t x = b[i] ^ (uint8_t)(1u << (i % 8));
		assert_int_equal(pwrite(fd, &x, 1, (off_t)i), 1);
		int rc = try_load(ix);
		if (rc != -EUCLEAN)
			fail_msg("byte %zu of %zu: %d", i, n, rc);
		assert_int_equal(try_check(), -EUCLEAN);
		assert_int_equal(pwrite(fd, &b[i], 1, (off_t)i), 1);
	}
	close(fd);
	/* And the index is still fresh: undamaged bytes load. */
	assert_int_equal(try_load(ix), 0);
	assert_int_equal(try_check(), 0);
	assert_int_equal(index_linked(ix), 60);
	index_free(ix);
	free(b);
}

static void every_flipped_byte_is_noticed(void **state)
{
	(void)state;
	flip_every_byte(VX_L2, "sq8");
	/* Inner products need no centre: so few slots have codes. */
	flip_every_byte(VX_IP, "sq8");
	flip_every_byte(VX_IP, "sq4");
	flip_every_byte(VX_IP, "sq1");
}

static void every_other_length_is_noticed(void **state)
{
	size_t n;

	(void)state;
	make_small_checkpoint(VX_L2, NULL);
	uint8_t *b = read_file(&n);
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);
	for (size_t i = 0; i < n; i += i < 300 ? 1 : 97) {
		write_file(b, i);
		assert_int_equal(try_load(ix), -EUCLEAN);
		assert_int_equal(try_check(), -EUCLEAN);
	}
	b[n] = 0;
	write_file(b, n + 1);
	assert_int_equal(try_load(ix), -EUCLEAN);
	assert_int_equal(try_check(), -EUCLEAN);
	index_free(ix);
	free(b);
}

static void other_parameters_are_stale(void **state)
{
	struct index_host host = points_host(&p);
	const struct index_params good = {.metric = VX_L2, .dim = p.dim, .seed = 7};
	struct index_params q[9];

	(void)state;
	make_small_checkpoint(VX_L2, NULL);
	for (int i = 0; i < 9; i++)
		q[i] = good;
	q[0].metric = VX_IP;
	q[1].dim = 49;
	q[2].seed = 8;
	q[3].m = 12;
	q[4].ef_construction = 100;
	q[5].quant = "none";
	q[6].kind = "flat";
	q[7].quant = "sq4";
	q[8].quant = "sq1";
	for (int i = 0; i < 9; i++) {
		struct index *ix;
		assert_int_equal(index_new(&q[i], &host, &ix), 0);
		assert_int_equal(try_load(ix), -ESTALE);
		index_free(ix);
	}
}

static void missing_file_and_used_index_are_refused(void **state)
{
	(void)state;
	unlink(path);
	struct index *ix = points_index(&p, VX_L2, NULL, NULL);
	assert_int_equal(try_load(ix), -ENOENT);
	assert_int_equal(try_check(), -ENOENT);
	make_small_checkpoint(VX_L2, NULL);
	points_append(&p, ix, 0, 10);
	struct index_tag got;
	assert_int_equal(index_load(ix, disk_real(), path, &got, NULL), -EINVAL);
	index_free(ix);
}

static void *saver(void *arg)
{
	for (int i = 0; i < 5; i++)
		save(arg);
	return NULL;
}

/* A checkpoint taken in the midst of linking is whole. */
static void checkpoint_during_linking_is_whole(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct index_tag got;
	pthread_t t;

	(void)state;
	struct index *ix = points_index(&p, VX_COSINE, NULL, NULL);
	points_append(&p, ix, 0, p.n);
	pthread_create(&t, NULL, saver, ix);
	points_link(ix, 2);
	pthread_join(t, NULL);
	struct index *b = points_index(&p, VX_COSINE, NULL, NULL);
	assert_int_equal(index_load(b, disk_real(), path, &got, &err), 0);
	points_link(b, 1);
	assert_int_equal(index_check(b, &err), 0);
	assert_true(points_recall(&p, b, VX_COSINE, 10, 0, NULL, NULL) > 0.95);
	index_free(b);
	index_free(ix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loaded_index_answers_like_the_saved_one),
		cmocka_unit_test(index_without_a_centre_comes_back_without),
		cmocka_unit_test(every_flipped_byte_is_noticed),
		cmocka_unit_test(every_other_length_is_noticed),
		cmocka_unit_test(other_parameters_are_stale),
		cmocka_unit_test(missing_file_and_used_index_are_refused),
		cmocka_unit_test(checkpoint_during_linking_is_whole),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
