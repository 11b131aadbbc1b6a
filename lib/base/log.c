#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"

/* Levels: one default, a few by module.  Written under 'conf_lock', read without:
 * a line logged at the old level during a change is harmless, so relaxed is enough
 * for 'default_level'; 'n_rules' is released after the rule it counts. */
#define RULES_MAX 16
static struct {
	char module[16];
	atomic_int level;
} rules[RULES_MAX];
static atomic_int n_rules;
static atomic_int default_level = -1;
static pthread_mutex_t conf_lock = PTHREAD_MUTEX_INITIALIZER;

static int parse_level(const char *s, size_t n)
{
	static const struct {
		const char *name;
		int level;
	} names[] = {{"off", 0}, {"error", LOG_LV_ERROR}, {"warn", LOG_LV_WARN},
		{"info", LOG_LV_INFO}, {"debug", LOG_LV_DEBUG}};

	for (size_t i = 0; i < VX_ARRAY_SIZE(names); i++)
		if (strlen(names[i].name) == n && memcmp(names[i].name, s, n) == 0)
			return names[i].level;
	return -1;
}

static void set_rule(const char *mod, size_t n, int level)
{
	int have = atomic_load_explicit(&n_rules, memory_order_relaxed);

	for (int i = 0; i < have; i++) {
		if (strlen(rules[i].module) == n && memcmp(rules[i].module, mod, n) == 0) {
			atomic_store_explicit(&rules[i].level, level, memory_order_relaxed);
			return;
		}
	}
	if (have == RULES_MAX)
		return;
	memcpy(rules[have].module, mod, n);
	rules[have].module[n] = 0;
	atomic_store_explicit(&rules[have].level, level, memory_order_relaxed);
	atomic_store_explicit(&n_rules, have + 1, memory_order_release);
}

/* Two passes: the first only checks, so that a bad spec changes nothing. */
int log_configure(const char *spec)
{
	for (int pass = 0; pass < 2; pass++) {
		for (const char *s = spec; *s;) {
			size_t n = strcspn(s, ",");
			const char *eq = memchr(s, '=', n);
			const char *lv = eq ? eq + 1 : s;
			int level = parse_level(lv, (size_t)(s + n - lv));

			if (level < 0 || (eq && (eq == s || eq - s >= 16)))
				return -EINVAL;
			if (pass == 1) {
				pthread_mutex_lock(&conf_lock);
				if (eq)
					set_rule(s, (size_t)(eq - s), level);
				else
					atomic_store_explicit(
						&default_level, level, memory_order_relaxed);
				pthread_mutex_unlock(&conf_lock);
			}
			s += n;
			if (*s == ',')
				s++;
		}
	}
	return 0;
}

bool log_enabled(enum log_level lv, const char *module)
{
	int def = atomic_load_explicit(&default_level, memory_order_relaxed);

	if (VX_UNLIKELY(def < 0)) {
		int expect = -1;
		const char *env = getenv("VECFS_LOG");

		atomic_compare_exchange_strong(&default_level, &expect, LOG_LV_INFO);
		if (env)
			(void)!log_configure(env);
		def = atomic_load_explicit(&default_level, memory_order_relaxed);
	}
	int n = atomic_load_explicit(&n_rules, memory_order_acquire);
	for (int i = 0; i < n; i++)
		if (strcmp(rules[i].module, module) == 0)
			return (int)lv <=
			       atomic_load_explicit(&rules[i].level, memory_order_relaxed);
	return (int)lv <= def;
}

void log_msg(enum log_level lv, const char *module, const char *fmt, ...)
{
	static atomic_int journal = -1;
	char line[1200];
	int n = 0;
	va_list ap;

	if (!log_enabled(lv, module))
		return;
	if (atomic_load_explicit(&journal, memory_order_relaxed) < 0)
		atomic_store_explicit(
			&journal, getenv("JOURNAL_STREAM") != NULL, memory_order_relaxed);
	if (atomic_load_explicit(&journal, memory_order_relaxed))
		n = snprintf(line, sizeof line, "<%d>", (int)lv);
	n += snprintf(line + n, sizeof line - (size_t)n, "vecfs %s: %s", module,
		lv == LOG_LV_ERROR  ? "error: "
		: lv == LOG_LV_WARN ? "warning: "
				    : "");
	va_start(ap, fmt);
	int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m > 0)
		n = (size_t)(n + m) < sizeof line - 1 ? n + m : (int)sizeof line - 2;
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, (size_t)n);
}
