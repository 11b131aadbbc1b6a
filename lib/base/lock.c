#include "base/lock.h"

#include <assert.h>
#include <time.h>

#ifdef VX_DEBUG
/* Ranks this thread holds, in order of locking. */
#define HELD_MAX 16
static _Thread_local int held[HELD_MAX];
static _Thread_local int n_held;

static void rank_push(int rank)
{
	assert(n_held < HELD_MAX);
	for (int i = 0; i < n_held; i++)
		assert(held[i] < rank && "lock order");
	held[n_held++] = rank;
}

static void rank_pop(int rank)
{
	for (int i = n_held - 1; i >= 0; i--) {
		if (held[i] == rank) {
			for (n_held--; i < n_held; i++)
				held[i] = held[i + 1];
			return;
		}
	}
	assert(!"unlocked what was not locked");
}
#else
static inline void rank_push(int rank)
{
	(void)rank;
}
static inline void rank_pop(int rank)
{
	(void)rank;
}
#endif

void vx_mutex_init(struct vx_mutex *m, enum lock_rank rank)
{
	pthread_mutex_init(&m->m, NULL);
	m->rank = rank;
}

void vx_mutex_release(struct vx_mutex *m)
{
	pthread_mutex_destroy(&m->m);
}

void vx_lock(struct vx_mutex *m) VX_NO_TSA
{
	rank_push(m->rank);
	pthread_mutex_lock(&m->m);
}

bool vx_trylock(struct vx_mutex *m) VX_NO_TSA
{
	if (pthread_mutex_trylock(&m->m))
		return false;
	rank_push(m->rank);
	return true;
}

void vx_unlock(struct vx_mutex *m) VX_NO_TSA
{
	/* Before the unlock: whoever gets the mutex next may end its life. */
	rank_pop(m->rank);
	pthread_mutex_unlock(&m->m);
}

void vx_cond_init(struct vx_cond *c)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&c->c, &a);
	pthread_condattr_destroy(&a);
}

void vx_cond_release(struct vx_cond *c)
{
	pthread_cond_destroy(&c->c);
}

void vx_cond_wait(struct vx_cond *c, struct vx_mutex *m)
{
	pthread_cond_wait(&c->c, &m->m);
}

int vx_cond_wait_until(struct vx_cond *c, struct vx_mutex *m, uint64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / 1000000000u),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};
	return -pthread_cond_timedwait(&c->c, &m->m, &ts);
}

void vx_cond_signal(struct vx_cond *c)
{
	pthread_cond_signal(&c->c);
}

void vx_cond_broadcast(struct vx_cond *c)
{
	pthread_cond_broadcast(&c->c);
}
