/* common.c - see common.h. */
#include "tests/simd/common.h"

#include <sys/mman.h>
#include <unistd.h>

static const char *const names[TABLES_MAX] = {
	"scalar", "neon", "sse4", "avx2", "avx512-vnni", "avx512"};
static const size_t long_lengths[] = {
	96, 100, 128, 200, 256, 300, 384, 512, 768, 784, 960, 1024, 1536, 3072, 4095, 4096};
static uint64_t rng;

const struct simd_kernels *table_at(size_t i)
{
	return i < TABLES_MAX ? simd_by_name(names[i]) : NULL;
}

size_t length_at(size_t i)
{
	return i <= SHORT_MAX ? i : long_lengths[i - SHORT_MAX - 1];
}

uint64_t next_random(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

float random_float(void)
{
	return (float)((double)(next_random() >> 11) * 0x1p-52 - 1.0);
}

int fixture_setup(void **state)
{
	const char *seed = getenv("SEED");
	struct fixture *f = calloc(1, sizeof *f);
	size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = VX_ALIGN_UP(AREA_BYTES, page);

	assert_true(f != NULL);
	rng = seed ? strtoull(seed, NULL, 0) : 20240611;
	print_message("SEED=%llu\n", (unsigned long long)rng);
	f->map_bytes = bytes + page;
	for (int i = 0; i < 3; i++) {
		f->map[i] = mmap(NULL, f->map_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(f->map[i] != MAP_FAILED);
		f->end[i] = f->map[i] + bytes;
		assert_int_equal(mprotect(f->end[i], page, PROT_NONE), 0);
	}
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 3; i++)
		munmap(f->map[i], f->map_bytes);
	free(f);
	return 0;
}

float *place_floats(struct fixture *f, int a, size_t n, size_t shift)
{
	return (float *)(void *)f->end[a] - n - shift;
}

uint16_t *place_halves(struct fixture *f, int a, size_t n, size_t shift)
{
	return (uint16_t *)(void *)f->end[a] - n - shift;
}

uint8_t *place_bytes(struct fixture *f, int a, size_t n, size_t shift)
{
	return f->end[a] - n - shift;
}

struct truth true_l2(const float *a, const float *b, size_t n)
{
	struct truth t = {0, 0};

	for (size_t i = 0; i < n; i++) {
		/* The kernels subtract in float: that rounding is part of each term. */
		double d = (double)(a[i] - b[i]);
		t.sum += d * d;
	}
	t.magnitude = t.sum;
	return t;
}

struct truth true_dot(const float *a, const float *b, size_t n)
{
	struct truth t = {0, 0};

	for (size_t i = 0; i < n; i++) {
		t.sum += (double)a[i] * b[i];
		t.magnitude += fabs((double)a[i] * b[i]);
	}
	return t;
}

void check_sum(const char *what, const struct simd_kernels *k, size_t n, float got, struct truth t)
{
	double bound = ((double)n + 2) * (0x1p-24 * t.magnitude + 0x1p-126);

	if (!(fabs((double)got - t.sum) <= bound))
		fail_msg("%s %s n=%zu: %.9g, want %.9g +- %.3g", k->name, what, n, (double)got,
			t.sum, bound);
}

void fill_floats(float *v, size_t n, int kind)
{
	static const float extremes[] = {0.0f, -0.0f, 1e17f, -1e17f, 1e-30f, 1e-45f, 1.0f};

	for (size_t j = 0; j < n; j++) {
		if (kind == 2)
			v[j] = extremes[next_random() % 7];
		else if (kind == 1)
			v[j] = random_float() * (next_random() % 5 == 0 ? 1e6f : 1e-6f);
		else
			v[j] = random_float();
	}
}

void fill_u8(uint8_t *v, size_t n, int kind)
{
	for (size_t j = 0; j < n; j++) {
		uint64_t r = next_random() >> 13;
		v[j] = kind == 0   ? (uint8_t)r
		       : kind == 1 ? 255
		       : kind == 2 ? 0
				   : (uint8_t)(255 * (r & 1));
	}
}

void fill_i8(int8_t *v, size_t n, int kind)
{
	for (size_t j = 0; j < n; j++) {
		uint64_t r = next_random() >> 13;
		v[j] = kind == 0   ? (int8_t)(r & 0xff)
		       : kind == 1 ? 127
		       : kind == 2 ? -128
				   : (r & 1 ? 127 : -128);
	}
}
