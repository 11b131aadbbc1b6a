/* oom.h - memory that runs out at the n-th call.
 *
 * A test named test_oom is linked with a copy of the library whose calls of malloc, calloc, realloc, reallocarray,
 * aligned_alloc, strdup, strndup, asprintf and raft_malloc's kind come here (Makefile).  The test's own are not counted, nor is what other
 * libraries allocate, unless the test gives them these functions.  Calls count over all threads.
 */
#ifndef VECFS_TESTS_WAL_OOM_H
#define VECFS_TESTS_WAL_OOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The n-th call from now (1: the next) fails, once; 0: none.  Counting begins anew. */
void oom_arm(uint64_t n);
uint64_t oom_calls(void);
bool oom_fired(void);

void *oom_malloc(size_t n);
void *oom_calloc(size_t n, size_t size);
void *oom_realloc(void *p, size_t n);
void *oom_aligned_alloc(size_t align, size_t n);
void *oom_reallocarray(void *p, size_t n, size_t size);
char *oom_strdup(const char *s);
char *oom_strndup(const char *s, size_t max);
int oom_asprintf(char **ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void *oom_raft_malloc(size_t n);
void *oom_raft_calloc(size_t n, size_t size);
void *oom_raft_realloc(void *p, size_t n);
void oom_free(void *p);

#endif
