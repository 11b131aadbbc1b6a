/* The HTTP embedder against a small server in a thread, which follows a script of answers. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "embed/embed.h"

enum reply {
	REPLY_VECTORS, /* in reverse order, with index */
	REPLY_429,     /* Retry-After: 1 */
	REPLY_503,     /* no Retry-After */
	REPLY_401,
	REPLY_400,
	REPLY_GARBAGE,
	REPLY_FEWER,
	REPLY_CLOSE, /* no answer at all */
	REPLY_SAME_INDEX,
};

struct server {
	int fd;
	uint16_t port;
	pthread_t thread;
	const enum reply *script;
	size_t n_script;
	/* Written by the thread; read after server_stop. */
	size_t requests;
	char authorization[128], model[64];
};

/* Reads one request; returns its body in 'buf', or NULL. */
static char *read_request(struct server *s, int c, char *buf, size_t cap)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = read(c, buf + n, cap - n - 1);
		if (got <= 0)
			return NULL;
		n += (size_t)got;
		buf[n] = 0;
		char *body = strstr(buf, "\r\n\r\n");
		if (!body)
			continue;
		body += 4;
		char *len = strcasestr(buf, "Content-Length:");
		char *auth = strcasestr(buf, "Authorization:");
		if (auth && auth < body)
			snprintf(s->authorization, sizeof s->authorization, "%.*s",
				(int)strcspn(auth, "\r"), auth);
		if (strcasestr(buf, "Expect: 100-continue") && n == (size_t)(body - buf))
			(void)!write(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		if (len && (size_t)(buf + n - body) >= strtoul(len + 15, NULL, 10))
			return body;
	}
}

static void answer(int c, const char *status, const char *extra, const char *body)
{
	char head[512];
	int n = snprintf(head, sizeof head,
		"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n"
		"Connection: close\r\n\r\n",
		status, extra, strlen(body));

	(void)!write(c, head, (size_t)n);
	(void)!write(c, body, strlen(body));
}

/* Vector of a text: its length and its first byte. */
static void answer_vectors(struct server *s, int c, const char *body, enum reply how)
{
	json_t *j = json_loads(body, 0, NULL), *in = json_object_get(j, "input");
	json_t *data = json_array();
	size_t n = json_array_size(in);

	snprintf(s->model, sizeof s->model, "%s", json_string_value(json_object_get(j, "model")));
	for (size_t i = n; i-- > (how == REPLY_FEWER ? 1u : 0u);) {
		const char *t = json_string_value(json_array_get(in, i));
		json_array_append_new(data,
			json_pack("{s:i,s:[f,f]}", "index", how == REPLY_SAME_INDEX ? 0 : (int)i,
				"embedding", (double)strlen(t), (double)t[0]));
	}
	json_t *out = json_pack("{s:o}", "data", data);
	char *text = json_dumps(out, 0);
	answer(c, "200 OK", "", text);
	free(text);
	json_decref(out);
	json_decref(j);
}

static void serve(struct server *s, int c)
{
	static char buf[1 << 20];
	char *body = read_request(s, c, buf, sizeof buf);

	if (!body)
		return;
	enum reply r = s->requests < s->n_script ? s->script[s->requests] : REPLY_VECTORS;
	s->requests++;
	switch (r) {
	case REPLY_429:
		answer(c, "429 Too Many Requests", "Retry-After: 1\r\n",
			"{\"error\":{\"message\":\"slow down\"}}");
		break;
	case REPLY_503:
		answer(c, "503 Service Unavailable", "", "busy");
		break;
	case REPLY_401:
		answer(c, "401 Unauthorized", "", "{\"error\":{\"message\":\"bad key\"}}");
		break;
	case REPLY_400:
		answer(c, "400 Bad Request", "", "{\"error\":{\"message\":\"no such model\"}}");
		break;
	case REPLY_GARBAGE:
		answer(c, "200 OK", "", "<html>");
		break;
	case REPLY_CLOSE:
		break;
	default:
		answer_vectors(s, c, body, r);
	}
}

static void *server_main(void *arg)
{
	struct server *s = arg;

	for (;;) {
		int c = accept(s->fd, NULL, NULL);
		if (c < 0)
			return NULL;
		serve(s, c);
		close(c);
	}
}

static void server_start(struct server *s, const enum reply *script, size_t n)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;

	*s = (struct server){.script = script, .n_script = n};
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(s->fd >= 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(s->fd, 16), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_stop(struct server *s)
{
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->fd);
}

/* Embeds 'n' texts "a", "bb", "ccc", ... */
static int ask(struct server *s, const char *options, size_t n, float **ret, uint32_t *ret_dim,
	struct vx_err *err)
{
	char spec[256], *texts[8];
	size_t lens[8];
	struct embedder *e;

	snprintf(spec, sizeof spec, "url:http://127.0.0.1:%u/v1/embeddings;model=m1;retry-ms=1%s",
		s->port, options);
	assert_int_equal(embed_open(spec, &e, err), 0);
	for (size_t i = 0; i < n; i++) {
		texts[i] = malloc(16);
		assert_non_null(texts[i]);
		memset(texts[i], (int)('a' + i), i + 1);
		lens[i] = i + 1;
	}
	int rc = embed_texts(e, (const char *const *)texts, lens, n, ret, ret_dim, err);
	for (size_t i = 0; i < n; i++)
		free(texts[i]);
	embed_close(e);
	return rc;
}

static void vectors_are_put_by_index_in_batches(void **state)
{
	struct server s;
	float *v;
	uint32_t dim;

	(void)state;
	setenv("VECFS_EMBED_KEY", "sesame", 1);
	server_start(&s, NULL, 0);
	assert_int_equal(ask(&s, ";batch=2", 5, &v, &dim, NULL), 0);
	server_stop(&s);
	unsetenv("VECFS_EMBED_KEY");
	assert_int_equal(dim, 2);
	for (size_t i = 0; i < 5; i++) {
		assert_true(v[2 * i] == (float)(i + 1));
		assert_true(v[2 * i + 1] == (float)('a' + i));
	}
	free(v);
	assert_int_equal(s.requests, 3);
	assert_string_equal(s.model, "m1");
	assert_string_equal(s.authorization, "Authorization: Bearer sesame");
}

static void the_key_comes_from_a_file(void **state)
{
	char path[] = "/tmp/vecfs-key-XXXXXX", options[64];
	struct server s;
	float *v;
	uint32_t dim;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "from-file\n", 10), 10);
	close(fd);
	server_start(&s, NULL, 0);
	snprintf(options, sizeof options, ";key-file=%s", path);
	assert_int_equal(ask(&s, options, 1, &v, &dim, NULL), 0);
	server_stop(&s);
	unlink(path);
	free(v);
	assert_string_equal(s.authorization, "Authorization: Bearer from-file");
}

static void overload_is_retried(void **state)
{
	static const enum reply script[] = {REPLY_503, REPLY_CLOSE, REPLY_429};
	struct server s;
	float *v;
	uint32_t dim;
	uint64_t t0 = clock_mono_ns();

	(void)state;
	server_start(&s, script, 3);
	assert_int_equal(ask(&s, "", 2, &v, &dim, NULL), 0);
	server_stop(&s);
	free(v);
	assert_true(s.requests >= 4);
	assert_true(clock_mono_ns() - t0 >= 1000000000u); /* Retry-After was honoured */
}

static void failures_have_their_errno_and_reason(void **state)
{
	static const struct {
		enum reply reply;
		int rc;
		const char *reason;
	} cases[] = {
		{REPLY_401, -EACCES, "bad key"},
		{REPLY_400, -EIO, "no such model"},
		{REPLY_GARBAGE, -EIO, "not JSON"},
		{REPLY_FEWER, -EIO, "1 vectors for 2 texts"},
		{REPLY_SAME_INDEX, -EIO, "index"},
		{REPLY_503, -EAGAIN, "503"},
	};

	(void)state;
	for (size_t i = 0; i < VX_ARRAY_SIZE(cases); i++) {
		enum reply script[16];
		struct vx_err err = VX_ERR_INIT;
		struct server s;
		float *v;
		uint32_t dim;

		for (size_t k = 0; k < VX_ARRAY_SIZE(script); k++)
			script[k] = cases[i].reply;
		server_start(&s, script, VX_ARRAY_SIZE(script));
		int rc = ask(&s, "", 2, &v, &dim, &err);
		server_stop(&s);
		if (rc != cases[i].rc || !strstr(err.msg, cases[i].reason))
			fail_msg("case %zu: %d %s", i, rc, err.msg);
		assert_int_equal(s.requests, rc == -EAGAIN ? 6 : 1);
	}
}

static void a_dead_endpoint_is_try_again(void **state)
{
	struct server s;
	struct vx_err err = VX_ERR_INIT;
	float *v;
	uint32_t dim;

	(void)state;
	server_start(&s, NULL, 0);
	server_stop(&s);
	assert_int_equal(ask(&s, "", 1, &v, &dim, &err), -EAGAIN);
	assert_true(err.msg[0] != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors_are_put_by_index_in_batches),
		cmocka_unit_test(the_key_comes_from_a_file),
		cmocka_unit_test(overload_is_retried),
		cmocka_unit_test(failures_have_their_errno_and_reason),
		cmocka_unit_test(a_dead_endpoint_is_try_again),
	};

	unsetenv("VECFS_EMBED_KEY");
	unsetenv("OPENAI_API_KEY");
	unsetenv("http_proxy");
	setenv("no_proxy", "127.0.0.1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
