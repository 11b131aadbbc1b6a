/* fs_names.c - what file names and the first bytes of a question say, without looking at anything else. */
#include <string.h>

#include "daemon/fs_i.h"

#define NAME_BYTES_MAX 200u /* in inbox/, with what done/ and failed/ add */

/* --- records: vec/ */
/* The last suffix is the representation: "a.b.json" is record "a.b". */
int fs_record_name(const char *name, char *id, size_t *ret_len, struct vx_err *err)
{
	size_t n = strlen(name), stem = 0;
	int is = 0;

	if (name[0] == '.')
		return 0;
	if (n > 5 && !strcmp(name + n - 5, ".json"))
		is = 1, stem = n - 5;
	else if (n > 4 && !strcmp(name + n - 4, ".f32"))
		is = 2, stem = n - 4;
	else
		return 0;
	/* Percent-encoding never makes an id shorter. */
	if (stem > VX_ID_MAX)
		return vx_err_set(err, -ENAMETOOLONG,
			"the id has %zu bytes as a file name; at most %u are allowed", stem,
			VX_ID_MAX);
	if (vx_id_decode(name, stem, id, ret_len) < 0)
		return vx_err_set(err, -EINVAL,
			"a '%%' in a file name is followed by two hexadecimal digits (%%25 is "
			"'%%')");
	int rc = vx_id_check(id, *ret_len, err);
	return rc ? rc : is;
}

/* --- files of records: inbox/ */
static bool ends_in(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && !strcmp(s + n - m, suffix);
}

bool inbox_stages(const char *name)
{
	return name[0] == '.' || ends_in(name, ".tmp") || ends_in(name, ".part") ||
	       ends_in(name, "~");
}

int inbox_check_name(const char *name, struct vx_err *err)
{
	if (strlen(name) > NAME_BYTES_MAX)
		return vx_err_set(err, -ENAMETOOLONG, "a name in inbox/ has at most %u bytes",
			NAME_BYTES_MAX);
	if (codec_format_of(name) == CODEC_NONE)
		return vx_err_set(err, -EINVAL,
			"unknown suffix: .jsonl .json .ndjson .tsv .fvecs .bvecs .fbin .npy say "
			"the format; "
			"a leading '.' or .tmp .part ~ at the end stages");
	return 0;
}

/* --- completeness ----------------------------------------------------------------------------------------- */
/* Few bytes of raw float32 may happen to be printable.  Numbers and separators alone, or what can be JSON,
 * is text; everything else of the right length is a vector. */
bool ask_is_raw(const char *p, size_t n, uint32_t dim)
{
	size_t i = 0;

	if (dim == 0 || n != (size_t)dim * sizeof(float))
		return false;
	if (question_kind_of(p, n, dim) == QUESTION_RAW)
		return true;
	while (i < n && strchr(" \t\r\n", p[i]) && p[i])
		i++;
	if (i < n && (p[i] == '[' || p[i] == '{'))
		return ask_complete(p, n, 0) < 0;
	for (; i < n; i++) {
		if (!p[i] || !strchr("0123456789+-.eE, \t\r\n", p[i]))
			return true;
	}
	return false;
}

int ask_complete(const char *p, size_t n, uint32_t dim)
{
	size_t i = 0, end = n;

	if (ask_is_raw(p, n, dim))
		return 1;
	while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\n' || p[i] == '\r'))
		i++;
	if (i == n)
		return 0;
	if (p[i] != '[' && p[i] != '{') {
		if (!strchr("+-.0123456789", p[i]) || !p[i])
			return -EINVAL;
		return p[n - 1] == '\n'; /* bare numbers end with their line */
	}
	int whole = codec_json_complete(p, n);
	if (whole >= 0)
		return whole;
	/* Several lines: whole when the last one is.  What is wrong in others shows when they are parsed. */
	while (end && (p[end - 1] == '\n' || p[end - 1] == '\r' || p[end - 1] == ' '))
		end--;
	const char *nl = memrchr(p, '\n', end);
	if (!nl)
		return -EINVAL;
	return end < n && p[n - 1] == '\n'
		       ? 1
		       : codec_json_complete(nl + 1, end - (size_t)(nl + 1 - p));
}

/* --- options in names --------------------------------------------------------------------------------------- */
static int parse_u32(const char *s, size_t n, uint32_t max, uint32_t *ret)
{
	uint64_t v = 0;

	if (n == 0 || n > 9)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		v = v * 10 + (uint64_t)(s[i] - '0');
	}
	if (v == 0 || v > max)
		return -EINVAL;
	*ret = (uint32_t)v;
	return 0;
}

static bool option_is(const char *p, size_t n, const char *key)
{
	size_t k = strlen(key);

	return n > k && !memcmp(p, key, k) && p[k] == '=';
}

/* 1: an option, 0: none, negative: a bad value. */
static int parse_option(const char *p, size_t n, struct ask_opts *o, struct vx_err *err)
{
	static const struct {
		const char *name;
		enum answer_format f;
	} formats[] = {{"tsv", ANSWER_TSV}, {"json", ANSWER_JSON}, {"jsonl", ANSWER_JSONL},
		{"ids", ANSWER_IDS}};

	if (option_is(p, n, "k"))
		return parse_u32(p + 2, n - 2, VX_K_MAX, &o->k)
			       ? vx_err_set(
					 err, -EINVAL, "k= takes a number from 1 to %u", VX_K_MAX)
			       : 1;
	if (option_is(p, n, "ef"))
		return parse_u32(p + 3, n - 3, VX_K_MAX, &o->ef)
			       ? vx_err_set(
					 err, -EINVAL, "ef= takes a number from 1 to %u", VX_K_MAX)
			       : 1;
	if (option_is(p, n, "recall")) {
		int rc = vx_recall_parse(p + 7, n - 7, &o->recall, err);
		return rc ? rc : 1;
	}
	if (option_is(p, n, "exact")) {
		o->exact = n == 7 && p[6] == '1';
		return n == 7 && (p[6] == '0' || p[6] == '1')
			       ? 1
			       : vx_err_set(err, -EINVAL, "exact= takes 0 or 1");
	}
	if (!option_is(p, n, "format"))
		return 0;
	for (size_t i = 0; i < VX_ARRAY_SIZE(formats); i++) {
		if (strlen(formats[i].name) == n - 7 && !memcmp(formats[i].name, p + 7, n - 7)) {
			o->format = formats[i].f;
			return 1;
		}
	}
	return vx_err_set(err, -EINVAL, "format= takes tsv, json, jsonl or ids");
}

int ask_strip_opt(const char *name, size_t *len, struct ask_opts *opts, struct vx_err *err)
{
	const char *comma = memrchr(name, ',', *len);

	if (!comma || comma == name)
		return 0;
	int is = parse_option(comma + 1, *len - (size_t)(comma + 1 - name), opts, err);
	if (is > 0)
		*len = (size_t)(comma - name);
	return is;
}

/* --- query */
int query_parse_name(const char *name, struct ask_opts *ret, struct vx_err *err)
{
	struct ask_opts o = {0};
	size_t stem = strlen(name), len;
	int is;

	if (strncmp(name, "query", 5) || stem > 100)
		return -ENOENT;
	do {
		is = ask_strip_opt(name, &stem, &o, err);
		if (is < 0)
			return is;
	} while (is);
	char head[101];
	memcpy(head, name, stem);
	head[stem] = 0;
	enum answer_format f = answer_format_of(head, &len);
	if (len != 5)
		return -ENOENT;
	if (f)
		o.format = f;
	*ret = o;
	return 0;
}
