/* The ring of refusals. */
#include "daemon/errlog.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/lock.h"

#define LINE_MAX_BYTES 1024u

static struct vx_mutex lock = {.m = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_LEAF};
static char *lines[ERRLOG_LINES]; /* guarded by lock; a ring, 'added' counts what went in */
static uint64_t added;            /* guarded by lock */
static uint64_t first;            /* guarded by lock; lines before it were cleared */

/* UTF-8 passes; what could end the line or drive a terminal does not. */
static void clean(char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
	}
}

void errlog_add(const char *where, int code, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	uint64_t now = clock_real_ns();
	time_t s = (time_t)(now / 1000000000u);
	struct tm tm;
	va_list ap;

	gmtime_r(&s, &tm);
	size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
	int w = snprintf(line + n, sizeof line - n,
		".%03uZ %s %s: ", (unsigned)(now / 1000000u % 1000u), vx_errno_name(code), where);
	n = VX_MIN(n + (size_t)VX_MAX(w, 0), sizeof line - 2);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof line - n, fmt, ap);
	va_end(ap);
	clean(line);

	char *copy = strdup(line);
	if (!copy)
		return;
	vx_lock(&lock);
	char **place = &lines[added++ % ERRLOG_LINES];
	char *old = *place;
	*place = copy;
	vx_unlock(&lock);
	free(old);
}

int errlog_render(struct buf *out)
{
	int rc = 0;

	vx_lock(&lock);
	uint64_t i = added > ERRLOG_LINES ? added - ERRLOG_LINES : 0;
	for (i = VX_MAX(i, first); i < added && !rc; i++)
		rc = buf_printf(out, "%s\n", lines[i % ERRLOG_LINES]);
	vx_unlock(&lock);
	return rc;
}

void errlog_clear(void)
{
	vx_lock(&lock);
	for (size_t i = 0; i < ERRLOG_LINES; i++) {
		free(lines[i]);
		lines[i] = NULL;
	}
	first = added;
	vx_unlock(&lock);
}

uint64_t errlog_count(void)
{
	vx_lock(&lock);
	uint64_t n = added;
	vx_unlock(&lock);
	return n;
}
