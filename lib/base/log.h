/* log.h - module-tagged log lines on stderr.
 *
 * Thread-safe: one write(2) per line.  Under systemd (JOURNAL_STREAM) lines get
 * a "<N>" priority.  The level comes from VECFS_LOG ("info", or "warn,wal=debug")
 * and can be changed at run time.
 */
#ifndef VECFS_BASE_LOG_H
#define VECFS_BASE_LOG_H

#include "base/base.h"

enum log_level { LOG_LV_ERROR = 3, LOG_LV_WARN = 4, LOG_LV_INFO = 6, LOG_LV_DEBUG = 7 };

void log_msg(enum log_level lv, const char *module, const char *fmt, ...) VX_PRINTF(3, 4);

/* Whether a line of this level and module would be written. */
bool log_enabled(enum log_level lv, const char *module);

/* "LEVEL[,MODULE=LEVEL...]", also "off"; -EINVAL leaves the levels as they were. */
VX_MUST_CHECK
int log_configure(const char *spec);

#define log_error(mod, ...) log_msg(LOG_LV_ERROR, mod, __VA_ARGS__)
#define log_warn(mod, ...)  log_msg(LOG_LV_WARN, mod, __VA_ARGS__)
#define log_info(mod, ...)  log_msg(LOG_LV_INFO, mod, __VA_ARGS__)
#define log_debug(mod, ...)                                                                        \
	do {                                                                                       \
		if (log_enabled(LOG_LV_DEBUG, mod))                                                \
			log_msg(LOG_LV_DEBUG, mod, __VA_ARGS__);                                   \
	} while (0)

#endif
