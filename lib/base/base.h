/* base.h - what every file may use: attributes, sizes, checked arithmetic.
 *
 * No state, no threads, no errors beyond return values.
 */
#ifndef VECFS_BASE_BASE_H
#define VECFS_BASE_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VX_MUST_CHECK                      __attribute__((warn_unused_result))
#define VX_PRINTF(f, a)                    __attribute__((format(printf, f, a)))
#define VX_UNUSED                          __attribute__((unused))
#define VX_LIKELY(x)                       __builtin_expect(!!(x), 1)
#define VX_UNLIKELY(x)                     __builtin_expect(!!(x), 0)
#define VX_ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define VX_MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define VX_MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define VX_ALIGN_UP(n, a)                  (((n) + (a)-1) / (a) * (a))
#define VX_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Limits of the whole system, each checked where the value enters. */
#define VX_ID_MAX          240u       /* bytes of an id, decoded or percent-encoded */
#define VX_NAME_MAX        64u        /* bytes of a collection's name */
#define VX_DIM_MAX         65536u     /* elements of a vector */
#define VX_META_MAX        (1u << 20) /* bytes of a record's meta */
#define VX_TEXT_MAX        (1u << 20) /* bytes of a record's text */
#define VX_K_MAX           100000u    /* neighbours per question */
#define VX_BATCH_BYTES_MAX (1u << 20) /* a batch is closed once it is this long */
#define VX_ENTRY_BYTES_MAX (8u << 20) /* no log entry is ever longer */
#define VX_SLOTS_MAX       (1u << 31) /* slots of a slice */
#define VX_BUCKETS         4096u      /* hash buckets of a collection */

enum vx_metric { VX_COSINE = 0, VX_L2 = 1, VX_IP = 2 };

/* "cosine", "l2", "ip". */
const char *vx_metric_name(enum vx_metric m);

/* Returns 0 or -EINVAL. */
VX_MUST_CHECK
int vx_metric_parse(const char *s, enum vx_metric *ret_m);

/* A recall as users write it: a share from 0.5 to 0.999, or "exact" (VX_RECALL_EXACT).  Where it
 * may be absent, 0 says so.  -EINVAL with the reason. */
#define VX_RECALL_MIN   0.5f
#define VX_RECALL_MAX   0.999f
#define VX_RECALL_EXACT 1.0f
struct vx_err;
int vx_recall_parse(const char *p, size_t n, float *ret, struct vx_err *err);

static inline bool vx_mul_overflow(size_t a, size_t b, size_t *ret)
{
	return __builtin_mul_overflow(a, b, ret);
}

static inline bool vx_add_overflow(size_t a, size_t b, size_t *ret)
{
	return __builtin_add_overflow(a, b, ret);
}

#endif
