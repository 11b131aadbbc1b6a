/* lock.h - mutexes that know their rank.
 *
 * One lock order for the whole program, lowest rank first; a debug build
 * (VX_DEBUG) asserts that a thread only ever locks upwards.  The ranks stand
 * here, in one list, because the order is one fact.  No lock is held across
 * fuse_reply_*, fsync, a callback or a wait for another queue.
 */
#ifndef VECFS_BASE_LOCK_H
#define VECFS_BASE_LOCK_H

#include <pthread.h>

#include "base/base.h"

/* clang -Wthread-safety reads these; gcc ignores them. */
#if defined(__clang__)
#define VX_CAPABILITY(x) __attribute__((capability(x)))
#define VX_GUARDED_VAR   __attribute__((guarded_var))
#define VX_ACQUIRES(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define VX_RELEASES(...) __attribute__((release_capability(__VA_ARGS__)))
#define VX_TRIES(...)    __attribute__((try_acquire_capability(__VA_ARGS__)))
#define VX_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define VX_NO_TSA        __attribute__((no_thread_safety_analysis))
#else
#define VX_CAPABILITY(x)
#define VX_GUARDED_VAR
#define VX_ACQUIRES(...)
#define VX_RELEASES(...)
#define VX_TRIES(...)
#define VX_REQUIRES(...)
#define VX_NO_TSA
#endif

/* The lock order: a thread that holds rank r may take only ranks > r. */
enum lock_rank {
	LOCK_FRONT = 10,      /* daemon: mount tree, handles, error log */
	LOCK_SESSION = 20,    /* daemon: socket sessions */
	LOCK_DB = 30,         /* cluster: collection table */
	LOCK_CATALOG = 40,    /* cluster: catalog cache */
	LOCK_ROUTER = 50,     /* cluster: waiting writers */
	LOCK_SHARD = 60,      /* store: table of slices */
	LOCK_SLICE = 70,      /* store: writer side of a slice */
	LOCK_SLICE_READ = 80, /* store: pool of read connections */
	LOCK_INDEX = 90,      /* index: growth, checkpoint against insert */
	LOCK_NODE = 100,      /* index: one node's links */
	LOCK_QUEUE = 110,     /* any queue between threads; nothing is locked inside */
	LOCK_LEAF = 120,      /* statistics, pools */
	LOCK_SLOTS = 130,     /* daemon: free slots of the carried region */
};

struct VX_CAPABILITY("mutex") vx_mutex {
	pthread_mutex_t m;
	int rank;
};

void vx_mutex_init(struct vx_mutex *m, enum lock_rank rank);
void vx_mutex_release(struct vx_mutex *m);
void vx_lock(struct vx_mutex *m) VX_ACQUIRES(m);
/* False: somebody else has it. */
VX_MUST_CHECK
bool vx_trylock(struct vx_mutex *m) VX_TRIES(true, m);
void vx_unlock(struct vx_mutex *m) VX_RELEASES(m);

struct vx_cond {
	pthread_cond_t c; /* on CLOCK_MONOTONIC */
};

void vx_cond_init(struct vx_cond *c);
void vx_cond_release(struct vx_cond *c);
void vx_cond_wait(struct vx_cond *c, struct vx_mutex *m) VX_REQUIRES(m);
/* Returns 0, or -ETIMEDOUT once 'deadline_ns' (clock_mono_ns) has passed. */
int vx_cond_wait_until(struct vx_cond *c, struct vx_mutex *m, uint64_t deadline_ns) VX_REQUIRES(m);
void vx_cond_signal(struct vx_cond *c);
void vx_cond_broadcast(struct vx_cond *c);

#endif
