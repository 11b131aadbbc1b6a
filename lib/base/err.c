#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

int vx_recall_parse(const char *p, size_t n, float *ret, struct vx_err *err)
{
	char s[32], *end;
	size_t numeric = 0;

	if (n == 5 && memcmp(p, "exact", 5) == 0) {
		*ret = VX_RECALL_EXACT;
		return 0;
	}
	int shown = (int)VX_MIN(n, (size_t)20);
	while (numeric < n && p[numeric] && strchr("0123456789.eE+-", p[numeric]))
		numeric++;
	if (n == 0 || n >= sizeof s || numeric < n)
		return vx_err_set(err, -EINVAL,
			"recall: '%.*s' is neither a number from 0.5 to 0.999 nor exact", shown, p);
	memcpy(s, p, n);
	s[n] = 0;
	double v = strtod(s, &end);
	if (*end)
		return vx_err_set(err, -EINVAL,
			"recall: '%s' is neither a number from 0.5 to 0.999 nor exact", s);
	if (!(v >= 0.5))
		return vx_err_set(err, -EINVAL,
			"recall: %s is less than 0.5, the least that can be asked for", s);
	if (v > 1)
		return vx_err_set(err, -EINVAL,
			"recall: %s is more than all: it is a share, at most 0.999, or exact", s);
	if (v > (double)VX_RECALL_MAX + 1e-9)
		return vx_err_set(err, -EINVAL,
			"recall: %s is above 0.999: only a comparison with every record keeps "
			"that, "
			"which is called exact",
			s);
	*ret = (float)v;
	return 0;
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
