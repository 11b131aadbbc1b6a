/* rpctest.h - what the tests of rpc and client share: a seeded generator, a scratch directory, a
 * server made of a function. */
#ifndef VECFS_TESTS_RPC_RPCTEST_H
#define VECFS_TESTS_RPC_RPCTEST_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rpc/rpc.h"

/* The seed from SEED= or the clock; printed once. */
uint64_t rt_seed(void);
uint64_t rt_random(uint64_t *state);

/* A directory under $TMPDIR or /tmp; rt_dir_remove takes it away with its files. */
char *rt_dir(void);
void rt_dir_remove(char *dir);

/* Accepts one connection on dir/sock and serves it with 'fn' on a thread of its own. */
struct rt_server {
	char path[300];
	int listen_fd;
	pthread_t thread;
	void (*fn)(struct rpc_conn *c, void *ctx);
	void *ctx;
};
void rt_server_start(
	struct rt_server *s, const char *dir, void (*fn)(struct rpc_conn *c, void *ctx), void *ctx);
void rt_server_join(struct rt_server *s);

/* Takes the hello and answers it. */
void rt_welcome(struct rpc_conn *c);

#endif
