/* Fuzzes what the mount decides from names and from the first bytes of a question, before anything is
 * looked up: the functions of fs_names.c, compiled in.  The first byte chooses the dimension. */
#include "daemon/fs_names.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* A name as the kernel gives it: no NUL, no slash, not empty. */
static void names(const char *s)
{
	char id[3 * VX_ID_MAX + 1], again[3 * VX_ID_MAX + 1];
	struct ask_opts o = {0};
	size_t len, n = strlen(s);

	int is = fs_record_name(s, id, &len, NULL);
	if (is > 0) {
		must(len >= 1);
		must(len <= VX_ID_MAX);
		/* What was decoded encodes to a name that decodes to the same. */
		size_t m = vx_id_encode(id, len, again);
		char twice[3 * VX_ID_MAX + 1];
		size_t len2;
		must(vx_id_decode(again, m, twice, &len2) == 0);
		must(len2 == len);
		must(memcmp(twice, id, len) == 0);
	}
	for (int i = 0; i < 100; i++) {
		size_t before = n;
		int rc = ask_strip_opt(s, &n, &o, NULL);
		must(n <= before);
		must((rc > 0) == (n < before));
		if (rc <= 0)
			break;
	}
	must(o.k <= VX_K_MAX);
	if (query_parse_name(s, &o, NULL) == 0)
		must(strncmp(s, "query", 5) == 0);
	if (inbox_check_name(s, NULL) == 0)
		must(codec_format_of(s) != CODEC_NONE);
	(void)inbox_stages(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 70000)
		return 0;
	uint32_t dim = data[0];
	/* Exact copies, so that a byte too far is seen. */
	char *p = malloc(size), *s = malloc(size);
	must(p != NULL);
	must(s != NULL);
	memcpy(p, data + 1, size - 1);
	int rc = ask_complete(p, size - 1, dim);
	must(rc == 0 || rc == 1 || rc == -EINVAL);
	if (ask_is_raw(p, size - 1, dim))
		must(rc == 1);
	memcpy(s, data + 1, size - 1);
	s[size - 1] = 0;
	if (s[0] && !strchr(s, '/'))
		names(s);
	free(p);
	free(s);
	return 0;
}
