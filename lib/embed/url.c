/* url.c - an embedder behind HTTP: POST {"model": ..., "input": [texts]}, as many services speak it.
 *
 * Texts go out in batches.  429, 5xx and broken connections are retried with a delay that doubles,
 * or the one the server asks for in Retry-After, both bounded; anything else is the caller's error and
 * told with the server's own words.  The key is read from a file or the environment and travels in the
 * Authorization header alone.
 */
#include <curl/curl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "embed/embed_i.h"

#define BATCH_DEFAULT     64u
#define BATCH_MAX         2048u
#define TRIES_MAX         6u
#define RETRY_MS_DEFAULT  500u
#define RETRY_MS_MAX      30000u
#define TIMEOUT_S_DEFAULT 60u
#define RESPONSE_MAX      (256u << 20)
#define KEY_MAX           4096u

struct url {
	char *address, *model;
	uint32_t batch, retry_ms, timeout_s;
	CURL *curl;
	struct curl_slist *headers;
	struct buf body;
	char curl_error[CURL_ERROR_SIZE];
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_begin(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int no_memory(struct vx_err *err)
{
	return vx_err_set(err, -ENOMEM, "out of memory");
}

static int take_uint(const char *v, uint32_t max, uint32_t *ret, struct vx_err *err)
{
	char *end;
	unsigned long n = strtoul(v, &end, 10);

	if (*v < '0' || *v > '9' || *end || n < 1 || n > max)
		return vx_err_set(err, -EINVAL, "'%.40s' is not a number from 1 to %u", v, max);
	*ret = (uint32_t)n;
	return 0;
}

static int set_key(struct url *u, const char *file, struct vx_err *err)
{
	char key[KEY_MAX + 2] = "", header[KEY_MAX + 64];

	if (file) {
		FILE *f = fopen(file, "re");
		if (!f)
			return vx_err_set(err, -errno, "cannot read the key file %s: %s", file,
				strerror(errno));
		size_t n = fread(key, 1, KEY_MAX + 1, f);
		fclose(f);
		key[n] = 0;
	} else {
		const char *env = getenv("VECFS_EMBED_KEY");
		if (!env || !*env)
			env = getenv("OPENAI_API_KEY");
		if (!env || !*env)
			return 0; /* servers of one's own often want none */
		snprintf(key, sizeof key, "%s", env);
	}
	key[strcspn(key, "\r\n")] = 0;
	if (!*key || strlen(key) > KEY_MAX)
		return vx_err_set(
			err, -EINVAL, "the key is empty or longer than %u bytes", KEY_MAX);
	snprintf(header, sizeof header, "Authorization: Bearer %s", key);
	struct curl_slist *l = curl_slist_append(u->headers, header);
	explicit_bzero(key, sizeof key);
	explicit_bzero(header, sizeof header);
	if (!l)
		return no_memory(err);
	u->headers = l;
	return 0;
}

/* ADDRESS[;model=NAME][;key-file=PATH][;batch=N][;timeout=SECONDS][;retry-ms=N] */
static int parse_spec(struct url *u, char *spec, struct vx_err *err)
{
	const char *key_file = NULL;
	char *save, *part = strtok_r(spec, ";", &save);
	int rc = 0;

	if (!part || (strncmp(part, "http://", 7) != 0 && strncmp(part, "https://", 8) != 0))
		return vx_err_set(err, -EINVAL,
			"the embedder's address must start with http:// or "
			"https://");
	u->address = strdup(part);
	if (!u->address)
		return no_memory(err);
	while (!rc && (part = strtok_r(NULL, ";", &save)) != NULL) {
		char *v = strchr(part, '=');
		if (!v)
			return vx_err_set(
				err, -EINVAL, "'%.40s' is no option of an embedder", part);
		*v++ = 0;
		if (!strcmp(part, "model")) {
			free(u->model);
			u->model = strdup(v);
			rc = u->model ? 0 : no_memory(err);
		} else if (!strcmp(part, "key-file")) {
			key_file = v;
		} else if (!strcmp(part, "batch")) {
			rc = take_uint(v, BATCH_MAX, &u->batch, err);
		} else if (!strcmp(part, "timeout")) {
			rc = take_uint(v, 3600, &u->timeout_s, err);
		} else if (!strcmp(part, "retry-ms")) {
			rc = take_uint(v, RETRY_MS_MAX, &u->retry_ms, err);
		} else {
			rc = vx_err_set(err, -EINVAL, "'%.40s' is no option of an embedder", part);
		}
	}
	return rc ? rc : set_key(u, key_file, err);
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
	struct url *u = ctx;

	if (u->body.len + size * n > RESPONSE_MAX || buf_append(&u->body, p, size * n))
		return 0;
	return size * n;
}

int url_open(const char *spec, struct url **ret, struct vx_err *err)
{
	struct url *u = calloc(1, sizeof *u);
	char *copy = strdup(spec);
	int rc;

	if (!u || !copy) {
		free(u);
		free(copy);
		return no_memory(err);
	}
	u->batch = BATCH_DEFAULT;
	u->retry_ms = RETRY_MS_DEFAULT;
	u->timeout_s = TIMEOUT_S_DEFAULT;
	pthread_once(&curl_once, curl_begin);
	u->curl = curl_easy_init();
	u->headers = curl_slist_append(NULL, "Content-Type: application/json");
	rc = u->curl && u->headers ? parse_spec(u, copy, err) : no_memory(err);
	free(copy);
	if (rc) {
		url_close(u);
		return rc;
	}
	curl_easy_setopt(u->curl, CURLOPT_URL, u->address);
	curl_easy_setopt(u->curl, CURLOPT_HTTPHEADER, u->headers);
	curl_easy_setopt(u->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(u->curl, CURLOPT_WRITEDATA, u);
	curl_easy_setopt(u->curl, CURLOPT_ERRORBUFFER, u->curl_error);
	curl_easy_setopt(u->curl, CURLOPT_TIMEOUT, (long)u->timeout_s);
	curl_easy_setopt(u->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(u->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(u->curl, CURLOPT_USERAGENT, "vecfs/" VECFS_VERSION);
	*ret = u;
	return 0;
}

void url_close(struct url *u)
{
	if (!u)
		return;
	curl_easy_cleanup(u->curl);
	curl_slist_free_all(u->headers);
	buf_release(&u->body);
	free(u->address);
	free(u->model);
	free(u);
}

static char *request_body(
	struct url *u, const char *const *texts, const size_t *lens, size_t n, struct vx_err *err)
{
	json_t *j = json_object(), *input = json_array();
	char *text = NULL;

	if (u->model && j)
		json_object_set_new(j, "model", json_string(u->model));
	for (size_t i = 0; i < n && input; i++) {
		json_t *s = json_stringn(texts[i], lens[i]);
		if (!s) {
			vx_err_set(err, -EINVAL, "text %zu is not valid UTF-8", i + 1);
			goto out;
		}
		json_array_append_new(input, s);
	}
	if (j && input && json_object_set(j, "input", input) == 0)
		text = json_dumps(j, JSON_COMPACT);
	if (!text)
		no_memory(err);
out:
	json_decref(input);
	json_decref(j);
	return text;
}

/* The server's reason: {"error":{"message":...}}, {"error":"..."} or the start of the body. */
static int server_error(struct url *u, long status, int code, struct vx_err *err)
{
	const char *msg = NULL;
	json_t *j = json_loadb((const char *)u->body.data, u->body.len, 0, NULL);
	json_t *e = json_object_get(j, "error");

	msg = json_string_value(json_is_object(e) ? json_object_get(e, "message") : e);
	if (msg)
		vx_err_set(err, code, "%s answered %ld: %.300s", u->address, status, msg);
	else
		vx_err_set(err, code, "%s answered %ld: %.*s", u->address, status,
			(int)VX_MIN(u->body.len, (size_t)200),
			u->body.data ? (const char *)u->body.data : "");
	json_decref(j);
	return code;
}

/* One attempt.  -EAGAIN: worth another, after *ret_wait_ms if the server said so. */
static int attempt(struct url *u, uint64_t *ret_wait_ms, struct vx_err *err)
{
	curl_off_t retry_after = 0;
	long status = 0;

	u->body.len = 0;
	u->curl_error[0] = 0;
	CURLcode cc = curl_easy_perform(u->curl);
	if (cc == CURLE_OUT_OF_MEMORY)
		return no_memory(err);
	if (cc == CURLE_URL_MALFORMAT || cc == CURLE_UNSUPPORTED_PROTOCOL ||
		cc == CURLE_PEER_FAILED_VERIFICATION)
		return vx_err_set(err, -EINVAL, "%s: %s", u->address, curl_easy_strerror(cc));
	if (cc)
		return vx_err_set(err, -EAGAIN, "%s: %s", u->address,
			u->curl_error[0] ? u->curl_error : curl_easy_strerror(cc));
	curl_easy_getinfo(u->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status == 429 || status >= 500) {
		curl_easy_getinfo(u->curl, CURLINFO_RETRY_AFTER, &retry_after);
		if (retry_after > 0)
			*ret_wait_ms = (uint64_t)retry_after * 1000;
		return server_error(u, status, -EAGAIN, err);
	}
	if (status == 401 || status == 403)
		return server_error(u, status, -EACCES, err);
	return status == 200 ? 0 : server_error(u, status, -EIO, err);
}

static int with_retries(struct url *u, struct vx_err *err)
{
	uint64_t delay = u->retry_ms;

	for (unsigned try = 1;; try++) {
		uint64_t wait = delay;
		int rc = attempt(u, &wait, err);
		if (rc != -EAGAIN || try == TRIES_MAX)
			return rc;
		wait = VX_MIN(wait, (uint64_t)RETRY_MS_MAX);
		log_debug("embed", "%s; next try in %llu ms", vx_err_msg(err, rc),
			(unsigned long long)wait);
		nanosleep(&(struct timespec){.tv_sec = (time_t)(wait / 1000),
				  .tv_nsec = (long)(wait % 1000) * 1000000},
			NULL);
		delay *= 2;
	}
}

static int take_vector(const json_t *a, size_t i, struct embed_out *out, struct vx_err *err)
{
	size_t dim = json_array_size(a);

	if (dim == 0 || dim > VX_DIM_MAX)
		return vx_err_set(err, -EIO, "the answer has no vector for text %zu", i + 1);
	float *v = malloc(dim * sizeof *v);
	if (!v)
		return no_memory(err);
	int rc = 0;
	for (size_t k = 0; k < dim && !rc; k++) {
		json_t *e = json_array_get(a, k);
		v[k] = (float)json_number_value(e);
		if (!json_is_number(e) || !isfinite(v[k]))
			rc = vx_err_set(err, -EIO,
				"the answer's vector for text %zu has an element "
				"that is no number",
				i + 1);
	}
	if (!rc)
		rc = embed_put(out, i, v, (uint32_t)dim, err);
	free(v);
	return rc;
}

/* data[] may come in any order; "index" says which text an entry belongs to. */
static int take_response(
	struct url *u, size_t first, size_t n, struct embed_out *out, struct vx_err *err)
{
	json_error_t je;
	json_t *j = json_loadb((const char *)u->body.data, u->body.len, 0, &je);
	json_t *data = json_object_get(j, "data");
	bool *seen = calloc(n, 1);
	int rc = 0;

	if (!seen)
		rc = no_memory(err);
	else if (!j)
		rc = vx_err_set(err, -EIO, "%s: the answer is not JSON: %s", u->address, je.text);
	else if (json_array_size(data) != n)
		rc = vx_err_set(err, -EIO, "%s: the answer has %zu vectors for %zu texts",
			u->address, json_array_size(data), n);
	for (size_t i = 0; !rc && i < n; i++) {
		json_t *e = json_array_get(data, i), *index = json_object_get(e, "index");
		json_int_t at = json_is_integer(index) ? json_integer_value(index) : (json_int_t)i;
		if (at < 0 || (uint64_t)at >= n || seen[at]) {
			rc = vx_err_set(err, -EIO, "%s: the answer's index %lld is wrong",
				u->address, (long long)at);
			break;
		}
		seen[at] = true;
		rc = take_vector(json_object_get(e, "embedding"), first + (size_t)at, out, err);
	}
	free(seen);
	json_decref(j);
	return rc;
}

int url_texts(struct url *u, const char *const *texts, const size_t *lens, size_t n,
	struct embed_out *out, struct vx_err *err)
{
	for (size_t first = 0; first < n; first += u->batch) {
		size_t k = VX_MIN(n - first, (size_t)u->batch);
		struct vx_err why = VX_ERR_INIT;
		char *body = request_body(u, texts + first, lens + first, k, &why);
		if (!body)
			return vx_err_set(err, why.code, "%s", why.msg);
		curl_easy_setopt(u->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
		curl_easy_setopt(u->curl, CURLOPT_POSTFIELDS, body);
		int rc = with_retries(u, err);
		free(body);
		if (!rc)
			rc = take_response(u, first, k, out, err);
		if (rc)
			return rc;
	}
	return 0;
}
