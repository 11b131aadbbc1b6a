/* Connections over socket pairs, and the names of sockets. */
#include "rpctest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void pair(struct rpc_conn *a, struct rpc_conn *b)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	rpc_conn_init(a, fds[0]);
	rpc_conn_init(b, fds[1]);
}

/* Frames of all sizes arrive in order and whole, read by a slower peer. */
static void *reader(void *arg)
{
	struct rpc_conn *c = arg;
	struct rpc_frame f;
	size_t n = 0;

	while (rpc_conn_recv(c, &f, NULL) == 1) {
		if (f.id != n || (f.len && f.payload[f.len - 1] != (uint8_t)n))
			return (void *)"a frame is not what was sent";
		n++;
	}
	return n == 300 ? NULL : (void *)"frames are missing";
}

static void conn_keeps_frames_whole_and_in_order(void **state)
{
	uint64_t seed = rt_seed();
	uint8_t *payload = calloc(1, 300000);
	struct rpc_conn a, b;
	pthread_t t;
	void *complaint;

	(void)state;
	assert_non_null(payload);
	pair(&a, &b);
	assert_int_equal(pthread_create(&t, NULL, reader, &b), 0);
	for (uint32_t i = 0; i < 300; i++) {
		size_t n = i % 10 ? rt_random(&seed) % 200 : rt_random(&seed) % 300000;

		memset(payload, (int)(uint8_t)i, n);
		assert_int_equal(rpc_frame_append_raw(&a.out, RPC_PUT, i, payload, n), 0);
		if (i % 3)
			assert_int_equal(rpc_conn_flush(&a), 0);
	}
	assert_int_equal(rpc_conn_flush(&a), 0);
	shutdown(a.fd, SHUT_WR);
	assert_int_equal(pthread_join(t, &complaint), 0);
	assert_null(complaint);
	rpc_conn_release(&a);
	rpc_conn_release(&b);
	free(payload);
}

/* Two peers that both send far more than the kernel buffers do not wait for each other. */
static void *sender(void *arg)
{
	struct rpc_conn *c = arg;
	uint8_t *p = calloc(1, 8u << 20);
	struct rpc_frame f;
	void *ret = NULL;

	if (!p || rpc_frame_append_raw(&c->out, RPC_PUT, 1, p, 8u << 20) || rpc_conn_flush(c) ||
		rpc_conn_recv(c, &f, NULL) != 1 || f.len != 8u << 20)
		ret = (void *)"a large frame did not get through";
	free(p);
	return ret;
}

static void conn_two_senders_do_not_block_each_other(void **state)
{
	struct rpc_conn a, b;
	pthread_t t;
	void *complaint;

	(void)state;
	pair(&a, &b);
	assert_int_equal(pthread_create(&t, NULL, sender, &a), 0);
	assert_null(sender(&b));
	assert_int_equal(pthread_join(t, &complaint), 0);
	assert_null(complaint);
	rpc_conn_release(&a);
	rpc_conn_release(&b);
}

/* A peer that has said all it has to say is still answered. */
static void *listener(void *arg)
{
	struct rpc_conn *c = arg;
	struct rpc_frame f;

	shutdown(c->fd, SHUT_WR);
	return rpc_conn_recv(c, &f, NULL) == 1 && f.len == 8u << 20 ? NULL : (void *)"cut short";
}

static void conn_half_closed_peer_gets_everything(void **state)
{
	uint8_t *p = calloc(1, 8u << 20);
	struct rpc_conn a, b;
	pthread_t t;
	void *complaint;

	(void)state;
	assert_non_null(p);
	pair(&a, &b);
	assert_int_equal(rpc_frame_append_raw(&a.out, RPC_PUT, 1, p, 8u << 20), 0);
	assert_int_equal(pthread_create(&t, NULL, listener, &b), 0);
	assert_int_equal(rpc_conn_flush(&a), 0);
	assert_int_equal(pthread_join(t, &complaint), 0);
	assert_null(complaint);
	rpc_conn_release(&a);
	rpc_conn_release(&b);
	free(p);
}

/* An end between frames is an end; an end within one is an error. */
static void conn_end_within_a_frame_is_an_error(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	struct rpc_conn a, b;
	struct rpc_frame f;

	(void)state;
	pair(&a, &b);
	assert_int_equal(rpc_frame_append_raw(&a.out, RPC_PUT, 1, "hello", 5), 0);
	a.out.len -= 3;
	assert_int_equal(rpc_conn_flush(&a), 0);
	assert_int_equal(rpc_conn_try_recv(&b, &f, &err), -EAGAIN);
	shutdown(a.fd, SHUT_WR);
	assert_int_equal(rpc_conn_recv(&b, &f, &err), -ECONNRESET);
	rpc_conn_release(&a);
	rpc_conn_release(&b);

	pair(&a, &b);
	shutdown(a.fd, SHUT_WR);
	assert_int_equal(rpc_conn_recv(&b, &f, &err), 0);
	rpc_conn_release(&a);
	rpc_conn_release(&b);
}

/* Sending to a peer that has gone is an error, not a signal. */
static void conn_peer_gone_is_an_error(void **state)
{
	struct rpc_conn a, b;

	(void)state;
	pair(&a, &b);
	rpc_conn_release(&b);
	assert_int_equal(rpc_frame_append_raw(&a.out, RPC_PUT, 1, "x", 1), 0);
	assert_int_equal(rpc_conn_flush(&a), -EPIPE);
	rpc_conn_release(&a);
}

/* --- names --------------------------------------------------------------------------- */
/* A socket left behind is replaced; a live one and a file that is no socket are not. */
static void unix_only_stale_sockets_are_replaced(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	char *dir = rt_dir(), path[400];
	struct stat st;
	int fd, other;

	(void)state;
	snprintf(path, sizeof path, "%s/sock", dir);
	assert_int_equal(rpc_unix_connect(path, &other), -ENOENT);
	assert_int_equal(rpc_unix_listen(path, &fd, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(rpc_unix_listen(path, &other, &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, "another daemon"));
	close(fd); /* as kill -9 leaves it */
	assert_int_equal(rpc_unix_connect(path, &other), -ECONNREFUSED);
	assert_int_equal(rpc_unix_listen(path, &fd, &err), 0);
	assert_int_equal(rpc_unix_connect(path, &other), 0);
	close(other);
	close(fd);
	assert_int_equal(unlink(path), 0);

	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(rpc_unix_listen(path, &fd, &err), -EEXIST);
	assert_int_equal(stat(path, &st), 0);
	rt_dir_remove(dir);
}

/* Paths longer than an address holds work alike. */
static void unix_long_paths_work(void **state)
{
	struct vx_err err = VX_ERR_INIT;
	char *dir = rt_dir(), deep[700], path[800];
	int fd, other;

	(void)state;
	snprintf(deep, sizeof deep, "%s/%0200d", dir, 7);
	assert_int_equal(mkdir(deep, 0700), 0);
	snprintf(path, sizeof path, "%s/sock", deep);
	assert_int_equal(rpc_unix_listen(path, &fd, &err), 0);
	assert_int_equal(rpc_unix_connect(path, &other), 0);
	close(other);
	close(fd);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(deep), 0);
	rt_dir_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conn_keeps_frames_whole_and_in_order),
		cmocka_unit_test(conn_two_senders_do_not_block_each_other),
		cmocka_unit_test(conn_half_closed_peer_gets_everything),
		cmocka_unit_test(conn_end_within_a_frame_is_an_error),
		cmocka_unit_test(conn_peer_gone_is_an_error),
		cmocka_unit_test(unix_only_stale_sockets_are_replaced),
		cmocka_unit_test(unix_long_paths_work),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
