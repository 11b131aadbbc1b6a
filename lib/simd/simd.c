/* simd.c - which kernels this CPU runs.
 *
 * The tables stand in rising order; the active one is the highest that the CPU has and that
 * VECFS_SIMD allows.  NEON stands apart: on ARM it is the floor, on x86 it is
 * chosen only by its name.
 */
#include "simd/simd.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "simd/simd_i.h"

struct variant {
	const struct simd_kernels *k;
	bool (*present)(void);
	bool by_name_only;
};

static bool has_always(void)
{
	return true;
}

#if defined(__x86_64__)
static bool has_sse4(void)
{
	return __builtin_cpu_supports("sse4.1");
}

/* The compilers' probe has no word for the conversion of halves: leaf 1, ecx, bit 29. */
static bool has_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512_vnni(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512(void)
{
	return has_avx512_vnni() && __builtin_cpu_supports("avx512vpopcntdq");
}

static const struct variant variants[] = {
	{&simd_scalar, has_always, false},
	{&simd_neon, has_always, true},
	{&simd_sse4, has_sse4, false},
	{&simd_avx2, has_avx2, false},
	{&simd_avx512_vnni, has_avx512_vnni, false},
	{&simd_avx512, has_avx512, false},
};
#elif defined(__aarch64__)
static const struct variant variants[] = {
	{&simd_scalar, has_always, false},
	{&simd_neon, has_always, false},
};
#else
static const struct variant variants[] = {
	{&simd_scalar, has_always, false},
	{&simd_neon, has_always, true},
};
#endif

const struct simd_kernels *simd_by_name(const char *name)
{
	for (size_t i = 0; i < VX_ARRAY_SIZE(variants); i++) {
		if (strcmp(variants[i].k->name, name) == 0)
			return variants[i].present() ? variants[i].k : NULL;
	}
	return NULL;
}

const struct simd_kernels *simd_best(const char *ceiling)
{
	size_t top = VX_ARRAY_SIZE(variants) - 1;

	for (size_t i = 0; ceiling && i < VX_ARRAY_SIZE(variants); i++) {
		if (strcmp(variants[i].k->name, ceiling) != 0)
			continue;
		if (variants[i].by_name_only)
			return variants[i].k;
		top = i;
	}
	while (top > 0 && (variants[top].by_name_only || !variants[top].present()))
		top--;
	return variants[top].k;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct simd_kernels *active;

static void choose(void)
{
	active = simd_best(getenv("VECFS_SIMD"));
}

const struct simd_kernels *simd_active(void)
{
	pthread_once(&once, choose);
	return active;
}
