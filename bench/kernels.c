/* kernels.c - what one distance costs, beside what this machine could do.
 *
 *	bench-kernels [--json] [--mib=1024] [--rounds=7] [--tables=avx512,avx2,...]
 *
 * For each kernel, dimension and table of kernels:
 *
 *	one     one-to-one, rows in the first-level cache
 *	many    rows anywhere, 24 per call, in the first-level cache
 *	serial  one-to-one, random rows of --mib MiB, the next address known only when the last
 *	        distance is
 *	ahead   rows anywhere, 24 per call, random rows of --mib MiB
 *
 * in ns per distance, the median of --rounds rounds that go through all of them in turn.  "floor" is
 * the least time the machine needs: for the multiply-adds at the peak rate measured here in
 * registers (the widest vectors of this CPU), and for the row's bytes at the measured read
 * bandwidth of one thread.  Then blocks (many to many, as a share of that peak), rotations and
 * encoding.  One thread, pinned to the processor it starts on.
 */
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "simd/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum kind { L2_F32, DOT_F32, L2_F16, U8I8, U4I8, HAMMING, U1U4, KINDS };
enum mode { ONE, MANY, SERIAL, AHEAD, MODES };

static const char *const kind_names[KINDS] = {
	"l2_f32", "dot_f32", "l2_f16", "dot_u8i8", "dot_u4i8", "hamming", "dot_u1u4"};
static const char *const mode_names[MODES] = {"one", "many", "serial", "ahead"};
static const size_t dims[] = {128, 768};
#define DIMS       2u
#define DIM_MAX    768u
#define TABLES_MAX 6u
#define ROUNDS_MAX 31
#define PER_CALL   24u
#define HOT_BYTES  16384u
#define COLD_ROWS  3072u

/* All measured values, by name: the tables and the JSON are printed from these. */
struct cell {
	char name[40];
	size_t dim;
	const char *table, *mode, *unit;
	double v[ROUNDS_MAX];
	int n;
};

static struct bench {
	uint8_t *big, *hot;
	size_t big_bytes;
	const struct simd_kernels *tables[TABLES_MAX];
	size_t ntables;
	struct cell *cells;
	size_t ncells, room;
	double read_gbs, fma_gflops, vnni_gops, chase_ns; /* limits */
	uint64_t rng;
	volatile size_t zero;
	volatile double sink;
} b;

static uint64_t next_random(void)
{
	b.rng ^= b.rng << 13;
	b.rng ^= b.rng >> 7;
	b.rng ^= b.rng << 17;
	return b.rng;
}

static double now_ns(void)
{
	return (double)clock_mono_ns();
}

/* --- results ---------------------------------------------------------------------- */
static struct cell *cell(
	const char *name, size_t dim, const char *table, const char *mode, const char *unit)
{
	for (size_t i = 0; i < b.ncells; i++) {
		struct cell *c = &b.cells[i];
		if (c->dim == dim && c->table == table && strcmp(c->name, name) == 0 &&
			strcmp(c->mode, mode) == 0)
			return c;
	}
	if (b.ncells == b.room) {
		b.room = b.room ? 2 * b.room : 256;
		b.cells = realloc(b.cells, b.room * sizeof *b.cells);
		if (!b.cells) {
			fprintf(stderr, "bench-kernels: out of memory\n");
			exit(1);
		}
	}
	struct cell *c = &b.cells[b.ncells++];
	*c = (struct cell){.dim = dim, .table = table, .mode = mode, .unit = unit};
	snprintf(c->name, sizeof c->name, "%s", name);
	return c;
}

static void record(struct cell *c, double v)
{
	if (c->n < ROUNDS_MAX)
		c->v[c->n++] = v;
}

static int by_value(const void *x, const void *y)
{
	double a = *(const double *)x, c = *(const double *)y;

	return (a > c) - (a < c);
}

static double median(struct cell *c)
{
	qsort(c->v, (size_t)c->n, sizeof *c->v, by_value);
	return c->n ? c->v[c->n / 2] : NAN;
}

/* --- the machine's limits ------------------------------------------------------------ */
#if defined(__x86_64__)
/* Sixteen independent chains: enough for two units of five cycles' latency. */
#define CHAINS_12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define CHAINS_16(X) CHAINS_12(X) X(12) X(13) X(14) X(15)

__attribute__((target("avx512f"))) static double peak_fma_512(size_t n)
{
	__m512 x = _mm512_set1_ps(0.5f);
#define START(k) __m512 a##k = _mm512_set1_ps(k);
#define STEP(k)  a##k = _mm512_fmadd_ps(a##k, x, x);
#define SUM(k)   b.sink += (double)_mm512_reduce_add_ps(a##k);
	CHAINS_16(START)
	double t = now_ns();
	for (size_t i = 0; i < n; i++) {
		CHAINS_16(STEP)
		__asm__ volatile("" : "+v"(a0));
	}
	t = now_ns() - t;
	CHAINS_16(SUM)
#undef START
#undef STEP
#undef SUM
	return (double)n * 16 * 32 / t;
}

__attribute__((target("avx2,fma"))) static double peak_fma_256(size_t n)
{
	__m256 x = _mm256_set1_ps(0.5f);
#define START(k) __m256 a##k = _mm256_set1_ps(k);
#define STEP(k)  a##k = _mm256_fmadd_ps(a##k, x, x);
#define SUM(k)   b.sink += (double)_mm_cvtss_f32(_mm256_castps256_ps128(a##k));
	CHAINS_12(START)
	double t = now_ns();
	for (size_t i = 0; i < n; i++) {
		CHAINS_12(STEP)
		__asm__ volatile("" : "+x"(a0));
	}
	t = now_ns() - t;
	CHAINS_12(SUM)
#undef START
#undef STEP
#undef SUM
	return (double)n * 12 * 16 / t;
}

__attribute__((target("avx512f,avx512vnni"))) static double peak_vnni(size_t n)
{
	__m512i x = _mm512_set1_epi32(0x01020304);
#define START(k) __m512i a##k = _mm512_set1_epi32(k);
#define STEP(k)  a##k = _mm512_dpbusd_epi32(a##k, x, x);
#define SUM(k)   b.sink += _mm512_reduce_add_epi32(a##k);
	CHAINS_16(START)
	double t = now_ns();
	for (size_t i = 0; i < n; i++) {
		CHAINS_16(STEP)
		__asm__ volatile("" : "+v"(a0));
	}
	t = now_ns() - t;
	CHAINS_16(SUM)
#undef START
#undef STEP
#undef SUM
	return (double)n * 16 * 128 / t;
}
#endif

static double read_bandwidth(void)
{
	typedef uint64_t v2 __attribute__((vector_size(16)));
	const v2 *p = (const v2 *)(const void *)b.big;
	v2 s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
	size_t n = VX_MIN(b.big_bytes, (size_t)256 << 20) / sizeof *p;
	double t = now_ns();

	for (size_t i = 0; i + 4 <= n; i += 4) {
		s0 ^= p[i];
		s1 ^= p[i + 1];
		s2 ^= p[i + 2];
		s3 ^= p[i + 3];
	}
	t = now_ns() - t;
	s0 ^= s1 ^ s2 ^ s3;
	b.sink += (double)(s0[0] ^ s0[1]);
	return (double)n * sizeof *p / t;
}

/* A random line, whose address depends on the one before. */
static double chase(void)
{
	size_t lines = b.big_bytes / 64, n = 20000, at = 0;
	double t = now_ns();

	for (size_t i = 0; i < n; i++) {
		at = (at * 6364136223846793005u + 1442695040888963407u + i +
			(b.big[(at >> 20) % lines * 64] & b.zero));
	}
	t = now_ns() - t;
	b.sink += (double)at;
	return t / (double)n;
}

static void measure_limits(void)
{
	double best[4] = {0, 0, 0, 1e9};

	for (int i = 0; i < 5; i++) {
		best[0] = fmax(best[0], read_bandwidth());
		best[3] = fmin(best[3], chase());
#if defined(__x86_64__)
		if (simd_by_name("avx512-vnni")) {
			best[1] = fmax(best[1], peak_fma_512(300000));
			best[2] = fmax(best[2], peak_vnni(300000));
		} else if (simd_by_name("avx2")) {
			best[1] = fmax(best[1], peak_fma_256(300000));
		}
#endif
	}
	b.read_gbs = best[0];
	b.fma_gflops = best[1];
	b.vnni_gops = best[2];
	b.chase_ns = best[3];
}

/* --- one distance ---------------------------------------------------------------------- */
static size_t row_bytes(enum kind kind, size_t dim)
{
	switch (kind) {
	case L2_F32:
	case DOT_F32:
		return dim * 4;
	case L2_F16:
		return dim * 2;
	case U8I8:
		return dim;
	case U4I8:
		return SIMD_U4_BYTES(dim);
	default:
		return SIMD_U1_BYTES(dim);
	}
}

/* Kernels in one loop each, so that nothing but the call stands between two distances. */
#define DISTANCE(kind, rtype, out, fn, call)                                                       \
	case kind * 4 + ONE:                                                                       \
		for (size_t i = 0; i < count; i++) {                                               \
			const rtype *row = rows[i];                                                \
			sum += (double)(call);                                                     \
		}                                                                                  \
		break;                                                                             \
	case kind * 4 + SERIAL:                                                                    \
		for (size_t i = 0; i < count; i++) {                                               \
			const rtype *row = (const void *)((const uint8_t *)rows[i] + dep);         \
			double d = (double)(call);                                                 \
			sum += d;                                                                  \
			dep = (size_t)(int64_t)d & zero;                                           \
		}                                                                                  \
		break;                                                                             \
	case kind * 4 + MANY:                                                                      \
		for (size_t i = 0; i + PER_CALL <= count; i += PER_CALL)                           \
			k->fn##_many(q, dim, (const rtype *const *)rows + i, PER_CALL, out);       \
		break;

static double run(const struct simd_kernels *k, enum kind kind, enum mode mode, const void *q,
	size_t dim, const void *const *rows, size_t count)
{
	float f[PER_CALL];
	int32_t n[PER_CALL];
	double sum = 0;
	size_t dep = 0, zero = b.zero;
	double t = now_ns();

	if (kind == HAMMING || kind == U1U4)
		dim = SIMD_U1_BYTES(dim);
	switch (kind * 4 + (mode == AHEAD ? MANY : mode)) {
		DISTANCE(L2_F32, float, f, l2_f32, k->l2_f32(q, row, dim))
		DISTANCE(DOT_F32, float, f, dot_f32, k->dot_f32(q, row, dim))
		DISTANCE(L2_F16, uint16_t, f, l2_f16, k->l2_f16(q, row, dim))
		DISTANCE(U8I8, uint8_t, n, dot_u8i8, k->dot_u8i8(row, q, dim))
		DISTANCE(U4I8, uint8_t, n, dot_u4i8, k->dot_u4i8(row, q, dim))
		DISTANCE(HAMMING, uint8_t, n, hamming, k->hamming(row, q, dim))
		DISTANCE(U1U4, uint8_t, n, dot_u1u4, k->dot_u1u4(row, q, dim))
	}
	t = now_ns() - t;
	b.sink += sum;
	return t / (double)count;
}

static void measure_distance(const struct simd_kernels *k, enum kind kind, size_t dim)
{
	static const void *rows[COLD_ROWS];
	/* Rows start on a line, as the stores keep them; short ones share it. */
	size_t bytes = row_bytes(kind, dim),
	       pitch = bytes < 64 ? bytes : VX_ALIGN_UP(bytes, (size_t)64);
	size_t hot_rows = VX_MIN(HOT_BYTES / pitch, (size_t)64);
	const uint8_t *q = b.hot;

	for (int mode = 0; mode < MODES; mode++) {
		bool cold = mode == SERIAL || mode == AHEAD;
		size_t count = COLD_ROWS;
		for (size_t i = 0; i < count; i++)
			rows[i] = cold ? b.big + next_random() % (b.big_bytes / pitch) * pitch
				       : b.hot + 4096 + i % hot_rows * pitch;
		if (!cold)
			(void)run(k, kind, (enum mode)mode, q, dim, rows, 96);
		record(cell(kind_names[kind], dim, k->name, mode_names[mode], "ns"),
			run(k, kind, (enum mode)mode, q, dim, rows, count));
	}
}

/* --- blocks, rotations, encoding ---------------------------------------------------------- */
#define BLOCK_NQ   64u
#define BLOCK_ROWS 256u

static void measure_block(const struct simd_kernels *k, size_t dim)
{
	static float ret[BLOCK_NQ * BLOCK_ROWS];
	static int32_t iret[BLOCK_NQ * BLOCK_ROWS];
	static const char *const names[] = {
		"l2_f32_block", "dot_f32_block", "l2_f16_block", "dot_f16_block", "dot_u8i8_block"};
	const struct simd_block s = {.n = dim,
		.nq = BLOCK_NQ,
		.q_stride = dim,
		.nrows = BLOCK_ROWS,
		.row_stride = dim,
		.ret_stride = BLOCK_ROWS};
	const uint8_t *qs = b.big, *rows = b.big + ((size_t)8 << 20);

	for (int t = 0; t < 5; t++) {
		double began = now_ns();
		if (t == 0)
			k->l2_f32_block(&s, (const void *)qs, (const void *)rows, ret);
		else if (t == 1)
			k->dot_f32_block(&s, (const void *)qs, (const void *)rows, ret);
		else if (t == 2)
			k->l2_f16_block(&s, (const void *)qs, (const void *)rows, ret);
		else if (t == 3)
			k->dot_f16_block(&s, (const void *)qs, (const void *)rows, ret);
		else
			k->dot_u8i8_block(&s, (const void *)qs, rows, iret);
		double ns = (now_ns() - began) / (BLOCK_NQ * BLOCK_ROWS);
		b.sink += (double)ret[7] + iret[7];
		record(cell(names[t], dim, k->name, "block", "ns"), ns);
	}
}

/* Repeats 'call' for some ten microseconds and records ns per call. */
#define TIMED(kernel, dim, how, reps, call)                                                        \
	do {                                                                                       \
		call;                                                                              \
		double began_ = now_ns();                                                          \
		for (int r_ = 0; r_ < (reps); r_++) {                                              \
			call;                                                                      \
			__asm__ volatile("" : : : "memory");                                       \
		}                                                                                  \
		record(cell(kernel, dim, k->name, how, "ns"), (now_ns() - began_) / (reps));       \
	} while (0)

static void measure_vectors(const struct simd_kernels *k, size_t dim)
{
	static float x[DIM_MAX], y[DIM_MAX], sign[DIM_MAX];
	static uint16_t h[DIM_MAX];
	static uint8_t codes[DIM_MAX], packed[DIM_MAX];
	size_t pow2 = (size_t)1 << (63 - __builtin_clzll((unsigned long long)dim));
	int32_t sum;

	for (size_t i = 0; i < dim; i++) {
		x[i] = (float)(next_random() % 2001) / 1000.0f - 1.0f;
		sign[i] = next_random() & 1 ? 1.0f : -1.0f;
	}
	memcpy(y, x, sizeof y);
	TIMED("hadamard_f32", pow2, "call", 200, k->hadamard_f32(y, sign, pow2));
	TIMED("quantise_f32", dim, "call", 200,
		b.sink += (double)k->quantise_f32(x, dim, 100.0f, (int8_t *)codes, &sum));
	TIMED("quantise_u4_f32", dim, "call", 200,
		b.sink += (double)k->quantise_u4_f32(x, dim, -1.0f, 7.5f, codes, &sum));
	TIMED("max_abs_f32", dim, "call", 200, b.sink += (double)k->max_abs_f32(x, dim));
	TIMED("pack_u4", dim, "call", 200, k->pack_u4(codes, dim, packed));
	TIMED("pack_signs", dim, "call", 200, k->pack_signs(x, dim, packed, SIMD_U1_BYTES(dim)));
	TIMED("pack_planes", dim, "call", 200,
		k->pack_planes(codes, dim, packed, SIMD_U1_BYTES(dim)));
	TIMED("f32_to_f16", dim, "call", 200, k->f32_to_f16(x, dim, h));
	TIMED("f16_to_f32", dim, "call", 200, k->f16_to_f32(h, dim, y));
}

/* --- output -------------------------------------------------------------------------------- */
/* Least ns for the arithmetic of one distance (0: not known). */
static double floor_arith(const char *name, size_t dim)
{
	double rate = strstr(name, "i8") ? b.vnni_gops : strstr(name, "_f") ? b.fma_gflops : 0;

	return rate > 0 ? 2.0 * (double)dim / rate : 0;
}

static void print_distances(void)
{
	printf("\nns per distance (hot: first-level cache; cold: random rows of %zu MiB)\n",
		b.big_bytes >> 20);
	printf("%-10s %5s %-12s %8s %8s %8s | %8s %8s %8s\n", "kernel", "dim", "table", "one",
		"many", "floor", "serial", "ahead", "floor");
	for (int kind = 0; kind < KINDS; kind++) {
		for (size_t d = 0; d < DIMS; d++) {
			for (size_t t = 0; t < b.ntables; t++) {
				double v[MODES];
				for (int m = 0; m < MODES; m++)
					v[m] = median(cell(kind_names[kind], dims[d],
						b.tables[t]->name, mode_names[m], "ns"));
				printf("%-10s %5zu %-12s %8.2f %8.2f %8.2f | %8.1f %8.1f %8.1f\n",
					kind_names[kind], dims[d], b.tables[t]->name, v[ONE],
					v[MANY], floor_arith(kind_names[kind], dims[d]), v[SERIAL],
					v[AHEAD],
					(double)row_bytes((enum kind)kind, dims[d]) / b.read_gbs);
			}
		}
	}
}

static void print_rest(void)
{
	printf("\nns per distance of a block (%u questions, %u rows), share of the peak\n",
		BLOCK_NQ, BLOCK_ROWS);
	for (size_t i = 0; i < b.ncells; i++) {
		struct cell *c = &b.cells[i];
		if (strcmp(c->mode, "block") != 0)
			continue;
		double ns = median(c), least = floor_arith(c->name, c->dim);
		printf("%-16s %5zu %-12s %8.2f", c->name, c->dim, c->table, ns);
		if (least > 0)
			printf(" %6.0f %%", 100 * least / ns);
		putchar('\n');
	}
	printf("\nns per call on one vector (matvec: a dim x dim matrix, with its GB/s)\n");
	for (size_t i = 0; i < b.ncells; i++) {
		struct cell *c = &b.cells[i];
		if (strcmp(c->mode, "call") != 0)
			continue;
		double ns = median(c);
		printf("%-16s %5zu %-12s %8.1f", c->name, c->dim, c->table, ns);
		if (strncmp(c->name, "matvec", 6) == 0)
			printf(" %6.1f GB/s",
				(double)(c->dim * c->dim * (c->name[8] == '3' ? 4 : 2)) / ns);
		putchar('\n');
	}
}

static void print_json(void)
{
	printf("{\"active\":\"%s\",\"read_gb_s\":%.2f,\"fma_gflop_s\":%.1f,\"vnni_gop_s\":%.1f,"
	       "\"chase_ns\":%.1f,\"cells\":[",
		simd_active()->name, b.read_gbs, b.fma_gflops, b.vnni_gops, b.chase_ns);
	for (size_t i = 0; i < b.ncells; i++) {
		struct cell *c = &b.cells[i];
		printf("%s\n{\"kernel\":\"%s\",\"dim\":%zu,\"table\":\"%s\",\"mode\":\"%s\","
		       "\"%s\":%.3f}",
			i ? "," : "", c->name, c->dim, c->table, c->mode, c->unit, median(c));
	}
	printf("\n]}\n");
}

/* --- main ------------------------------------------------------------------------------------ */
static int make_memory(size_t mib)
{
	b.big_bytes = mib << 20;
	b.big = mmap(NULL, b.big_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	b.hot = aligned_alloc(4096, 4096 + HOT_BYTES);
	if (b.big == MAP_FAILED || !b.hot) {
		fprintf(stderr, "bench-kernels: no %zu MiB of memory: try --mib\n", mib);
		return 1;
	}
	(void)madvise(b.big, b.big_bytes, MADV_HUGEPAGE);
	/* Bytes that are ordinary numbers as floats, as halves and as codes alike. */
	for (size_t i = 0; i < b.big_bytes; i += 8) {
		uint64_t r = (next_random() & 0x03ff03ff03ff03ffu) | 0x3c003c003c003c00u;
		memcpy(b.big + i, &r, sizeof r);
	}
	memcpy(b.hot, b.big, 4096 + HOT_BYTES);
	return 0;
}

static int choose_tables(char *list)
{
	static const char *const all[TABLES_MAX] = {
		"avx512", "avx512-vnni", "avx2", "sse4", "neon", "scalar"};

	for (size_t i = 0; !list && i < TABLES_MAX; i++) {
		const struct simd_kernels *k = simd_by_name(all[i]);
		if (k)
			b.tables[b.ntables++] = k;
	}
	for (char *save, *name = list ? strtok_r(list, ",", &save) : NULL; name;
		name = strtok_r(NULL, ",", &save)) {
		const struct simd_kernels *k = simd_by_name(name);
		if (!k || b.ntables == TABLES_MAX) {
			fprintf(stderr, "bench-kernels: no table '%s' on this CPU\n", name);
			return 2;
		}
		b.tables[b.ntables++] = k;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
		{"mib", required_argument, NULL, 'm'}, {"rounds", required_argument, NULL, 'r'},
		{"tables", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
	bool json = false;
	size_t mib = 1024;
	int rounds = 7, rc;
	char *list = NULL;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'j')
			json = true;
		else if (c == 'm')
			mib = strtoul(optarg, NULL, 10);
		else if (c == 'r')
			rounds = atoi(optarg);
		else if (c == 't')
			list = optarg;
		else
			return 2;
	}
	if (mib < 16 || mib > (size_t)1 << 20 || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "bench-kernels: --mib from 16, --rounds 1..%d\n", ROUNDS_MAX);
		return 2;
	}
	b.rng = 88172645463325252u;
	rc = choose_tables(list);
	if (rc == 0)
		rc = make_memory(mib);
	if (rc != 0)
		return rc;

	cpu_set_t cpu;
	CPU_ZERO(&cpu);
	CPU_SET((size_t)VX_MAX(sched_getcpu(), 0), &cpu);
	(void)sched_setaffinity(0, sizeof cpu, &cpu);

	measure_limits();
	for (int r = 0; r < rounds; r++) {
		for (size_t d = 0; d < DIMS; d++) {
			for (size_t t = 0; t < b.ntables; t++) {
				for (int kind = 0; kind < KINDS; kind++)
					measure_distance(b.tables[t], (enum kind)kind, dims[d]);
				measure_block(b.tables[t], dims[d]);
				measure_vectors(b.tables[t], dims[d]);
			}
		}
	}
	if (json) {
		print_json();
		return 0;
	}
	printf("active table: %s\nlimits of this machine, one thread: read %.1f GB/s, random line "
	       "%.0f ns, f32 FMA %.0f GFLOP/s, int8 %.0f GOP/s\n",
		simd_active()->name, b.read_gbs, b.chase_ns, b.fma_gflops, b.vnni_gops);
	print_distances();
	print_rest();
	return 0;
}
