/* Which daemon and which collection an argument means. */
#include "rpctest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/client.h"

static void check(const char *arg, const char *name)
{
	struct client_place p;
	struct vx_err err = VX_ERR_INIT;

	assert_int_equal(client_place_find(arg, &p, &err), 0);
	assert_string_equal(p.name, name);
	assert_string_equal(p.socket, "/run/somewhere.sock");
	assert_string_equal(p.how, "VECFS_SOCKET");
	client_place_release(&p);
}

/* VECFS_SOCKET decides where; the name is the argument or the end of the path. */
static void place_from_the_environment(void **state)
{
	(void)state;
	setenv("VECFS_SOCKET", "/run/somewhere.sock", 1);
	check("docs", "docs");
	check("a.b-c_d", "a.b-c_d");
	check("/tmp/docs", "docs");
	check("/tmp/docs/", "docs");
	check(NULL, "");
}

static void place_refuses_what_is_no_name(void **state)
{
	static const char *const bad[] = {"", "-x", ".hidden", "a b", "a\nb",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	struct client_place p;
	struct vx_err err = VX_ERR_INIT;

	(void)state;
	setenv("VECFS_SOCKET", "/run/somewhere.sock", 1);
	for (size_t i = 0; i < VX_ARRAY_SIZE(bad); i++)
		assert_int_equal(client_place_find(bad[i], &p, &err), -EINVAL);
}

/* Without any hint a path that lies in no mount is a mistake, told as such. */
static void place_path_outside_a_mount_is_refused(void **state)
{
	struct client_place p;
	struct vx_err err = VX_ERR_INIT;

	(void)state;
	unsetenv("VECFS_SOCKET");
	assert_int_equal(client_place_find("/tmp/docs", &p, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "does not lie in a vecfs mount"));
}

/* A directory that only looks like a mount does not lead to its socket. */
static void place_ignores_a_fake_mount(void **state)
{
	char *dir = rt_dir(), path[400], cwd[4000];
	struct vx_err err = VX_ERR_INIT;
	struct client_place p;

	(void)state;
	unsetenv("VECFS_SOCKET");
	snprintf(path, sizeof path, "mkdir %s/.vecfs && echo /evil > %s/.vecfs/socket", dir, dir);
	assert_int_equal(system(path), 0);
	assert_non_null(getcwd(cwd, sizeof cwd));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(client_place_find("docs", &p, &err), 0);
	assert_string_not_equal(p.socket, "/evil");
	assert_int_equal(chdir(cwd), 0);
	client_place_release(&p);
	snprintf(path, sizeof path, "rm -r %s", dir);
	assert_int_equal(system(path), 0);
	free(dir);
}

/* The default place follows XDG_RUNTIME_DIR, except for root. */
static void place_default(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	setenv("XDG_RUNTIME_DIR", "/run/user/77", 1);
	assert_int_equal(rpc_default_socket(&b), 0);
	assert_string_equal((char *)b.data,
		geteuid() == 0 ? "/run/vecfs/vecfs.sock" : "/run/user/77/vecfs.sock");
	buf_release(&b);
}

/* Nobody there: the message says where it looked, why there, and what to do. */
static void connecting_to_nobody_says_what_to_do(void **state)
{
	struct client_place p = {
		.socket = (char *)(uintptr_t) "/nonexistent/vecfs.sock", .how = "VECFS_SOCKET"};
	struct vx_err err = VX_ERR_INIT;
	struct client *c;

	(void)state;
	assert_int_equal(client_open(&p, "test", &c, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nonexistent/vecfs.sock"));
	assert_non_null(strstr(err.msg, "VECFS_SOCKET"));
	assert_non_null(strstr(err.msg, "vecfsd"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(place_from_the_environment),
		cmocka_unit_test(place_refuses_what_is_no_name),
		cmocka_unit_test(place_path_outside_a_mount_is_refused),
		cmocka_unit_test(place_ignores_a_fake_mount),
		cmocka_unit_test(place_default),
		cmocka_unit_test(connecting_to_nobody_says_what_to_do),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
