/* oom.c - see oom.h. */
#include "oom.h"

#include <raft.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t calls, at;

void oom_arm(uint64_t n)
{
	atomic_store(&at, 0);
	atomic_store(&calls, 0);
	atomic_store(&at, n);
}

uint64_t oom_calls(void)
{
	return atomic_load(&calls);
}

bool oom_fired(void)
{
	uint64_t n = atomic_load(&at);

	return n && atomic_load(&calls) >= n;
}

static bool out(void)
{
	uint64_t n = atomic_fetch_add(&calls, 1) + 1;

	return n == atomic_load(&at);
}

void *oom_malloc(size_t n)
{
	return out() ? NULL : malloc(n);
}

void *oom_calloc(size_t n, size_t size)
{
	return out() ? NULL : calloc(n, size);
}

void *oom_realloc(void *p, size_t n)
{
	return out() ? NULL : realloc(p, n);
}

void *oom_aligned_alloc(size_t align, size_t n)
{
	return out() ? NULL : aligned_alloc(align, n);
}

void *oom_reallocarray(void *p, size_t n, size_t size)
{
	return out() ? NULL : reallocarray(p, n, size);
}

void *oom_raft_malloc(size_t n)
{
	return out() ? NULL : raft_malloc(n);
}

void *oom_raft_calloc(size_t n, size_t size)
{
	return out() ? NULL : raft_calloc(n, size);
}

void *oom_raft_realloc(void *p, size_t n)
{
	return out() ? NULL : raft_realloc(p, n);
}

void oom_free(void *p)
{
	free(p);
}

char *oom_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = oom_malloc(n);

	return p ? memcpy(p, s, n) : NULL;
}

char *oom_strndup(const char *s, size_t max)
{
	return out() ? NULL : strndup(s, max);
}

int oom_asprintf(char **ret, const char *fmt, ...)
{
	va_list ap;

	if (out())
		return -1;
	va_start(ap, fmt);
	int n = vasprintf(ret, fmt, ap);
	va_end(ap);
	return n;
}
