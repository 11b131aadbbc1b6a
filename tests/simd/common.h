/* common.h - what the kernel tests share: the tables, lengths chosen to hurt, memory that ends where
 * the next page cannot be touched, and the bound that simd.h promises for sums of floats. */
#ifndef VECFS_TESTS_SIMD_COMMON_H
#define VECFS_TESTS_SIMD_COMMON_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "simd/simd.h"

/* The i-th table that this CPU can run; NULL past the last one.  The first is scalar. */
const struct simd_kernels *table_at(size_t i);

#define FOR_TABLES(k)                                                                              \
	for (size_t k##_i = 0; k##_i < TABLES_MAX; k##_i++)                                        \
		for (const struct simd_kernels *k = table_at(k##_i); k; k = NULL)
#define TABLES_MAX 6u

/* Every short length, and the usual long ones. */
#define SHORT_MAX  67u
#define LENGTHS    (SHORT_MAX + 1 + 16)
#define LENGTH_MAX 4096u
size_t length_at(size_t i);

/* The largest 'count' that is tried with many rows, and how far operands are moved out of place. */
#define COUNT_MAX    70u
#define MISALIGN_MAX 5u

uint64_t next_random(void);
float random_float(void); /* -1..1 */

/* Three areas of AREA_BYTES, each ending at a page that cannot be touched. */
#define AREA_BYTES 65536u
struct fixture {
	uint8_t *map[3], *end[3];
	size_t map_bytes;
};

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* n elements that end 'shift' elements before the end of area 'a'. */
float *place_floats(struct fixture *f, int a, size_t n, size_t shift);
uint16_t *place_halves(struct fixture *f, int a, size_t n, size_t shift);
uint8_t *place_bytes(struct fixture *f, int a, size_t n, size_t shift);

/* A true sum and the sum of its terms' magnitudes. */
struct truth {
	double sum, magnitude;
};

struct truth true_l2(const float *a, const float *b, size_t n);
struct truth true_dot(const float *a, const float *b, size_t n);

/* Fails unless 'got' keeps the promise for n terms. */
void check_sum(const char *what, const struct simd_kernels *k, size_t n, float got, struct truth t);

/* Floats of a kind: 0 plain, 1 of very different sizes, 2 extremes (denormals, huge, zeros). */
void fill_floats(float *v, size_t n, int kind);
#define FLOAT_KINDS 3

/* Codes of a kind: 0 random, 1..3 extremes. */
void fill_u8(uint8_t *v, size_t n, int kind);
void fill_i8(int8_t *v, size_t n, int kind);
#define CODE_KINDS 4

#endif
