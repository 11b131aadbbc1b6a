#include "rpctest.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

uint64_t rt_seed(void)
{
	const char *env = getenv("SEED");
	uint64_t seed = env ? strtoull(env, NULL, 10) : clock_mono_ns();

	print_message("SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

/* splitmix64 */
uint64_t rt_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

char *rt_dir(void)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = NULL;

	assert_true(asprintf(&dir, "%s/rpctest-XXXXXX", tmp ? tmp : "/tmp") > 0);
	assert_non_null(mkdtemp(dir));
	return dir;
}

void rt_dir_remove(char *dir)
{
	DIR *d = opendir(dir);
	char path[600];

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.' && (!e->d_name[1] || e->d_name[1] == '.'))
			continue;
		snprintf(path, sizeof path, "%.300s/%.255s", dir, e->d_name);
		assert_int_equal(remove(path), 0);
	}
	closedir(d);
	assert_int_equal(rmdir(dir), 0);
	free(dir);
}

static void *serve(void *arg)
{
	struct rt_server *s = arg;
	struct rpc_conn c;
	int fd = accept(s->listen_fd, NULL, NULL);

	if (fd < 0)
		abort();
	rpc_conn_init(&c, fd);
	s->fn(&c, s->ctx);
	rpc_conn_release(&c);
	return NULL;
}

void rt_server_start(
	struct rt_server *s, const char *dir, void (*fn)(struct rpc_conn *c, void *ctx), void *ctx)
{
	struct vx_err err = VX_ERR_INIT;

	snprintf(s->path, sizeof s->path, "%s/sock", dir);
	s->fn = fn;
	s->ctx = ctx;
	assert_int_equal(rpc_unix_listen(s->path, &s->listen_fd, &err), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

void rt_server_join(struct rt_server *s)
{
	assert_int_equal(pthread_join(s->thread, NULL), 0);
	close(s->listen_fd);
}

void rt_welcome(struct rpc_conn *c)
{
	Vecfs__Welcome w = VECFS__WELCOME__INIT;
	struct rpc_frame f;

	if (rpc_conn_recv(c, &f, NULL) != 1 || f.type != RPC_HELLO)
		abort();
	w.protocol = RPC_PROTOCOL;
	if (rpc_conn_queue(c, RPC_HELLO | RPC_ANSWER, f.id, &w.base) || rpc_conn_flush(c))
		abort();
}
