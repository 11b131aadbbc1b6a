/* err.h - an error with its reason.
 *
 * Functions return 0 or a negative errno; those whose failure a user has to
 * understand take a 'struct vx_err *' as well and leave one sentence in it.
 * The layer that answers the user shows it; nobody else logs it.  Corruption
 * is -EUCLEAN.  'err' may be NULL everywhere.
 */
#ifndef VECFS_BASE_ERR_H
#define VECFS_BASE_ERR_H

#include "base/base.h"

struct vx_err {
	int code; /* the negative errno */
	char msg[500];
};

#define VX_ERR_INIT                                                                                \
	{                                                                                          \
		.code = 0, .msg = ""                                                               \
	}

/* Stores code and reason; returns 'code' so that "return vx_err_set(...)" reads well. */
int vx_err_set(struct vx_err *err, int code, const char *fmt, ...) VX_PRINTF(3, 4);

/* Puts "PREFIX: " before the reason ("notes.jsonl:12: wrong dimension ..."). */
void vx_err_prefix(struct vx_err *err, const char *fmt, ...) VX_PRINTF(2, 3);

/* The reason, or strerror(-code) when nobody left one. */
const char *vx_err_msg(const struct vx_err *err, int code);

/* "EINVAL" for -EINVAL or EINVAL. */
const char *vx_errno_name(int code);

#endif
