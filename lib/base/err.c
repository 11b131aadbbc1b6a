#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *vx_metric_name(enum vx_metric m)
{
	static const char *const names[] = {"cosine", "l2", "ip"};
	return (unsigned)m < VX_ARRAY_SIZE(names) ? names[m] : "?";
}

int vx_metric_parse(const char *s, enum vx_metric *ret_m)
{
	for (int m = VX_COSINE; m <= VX_IP; m++) {
		if (strcmp(s, vx_metric_name((enum vx_metric)m)) == 0) {
			*ret_m = (enum vx_metric)m;
			return 0;
		}
	}
	return -EINVAL;
}

int vx_err_set(struct vx_err *err, int code, const char *fmt, ...)
{
	if (err) {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof err->msg, fmt, ap);
		va_end(ap);
		err->code = code;
	}
	return code;
}

void vx_err_prefix(struct vx_err *err, const char *fmt, ...)
{
	char old[sizeof err->msg];
	va_list ap;

	if (!err)
		return;
	memcpy(old, err->msg, sizeof old);
	va_start(ap, fmt);
	int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof err->msg - 3)
		return;
	snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %.*s",
		(int)(sizeof err->msg - (size_t)n - 3), old);
}

const char *vx_err_msg(const struct vx_err *err, int code)
{
	if (err && err->msg[0])
		return err->msg;
	if (err && err->code && !code)
		code = err->code;
	return strerror(code < 0 ? -code : code);
}

const char *vx_errno_name(int code)
{
	const char *s = strerrorname_np(code < 0 ? -code : code);
	return s ? s : "E?";
}
