/* manifest.c - printing and parsing manifests.  The order of lines is fixed, so there is one text for one
 * manifest and every byte of it is under the checksum or compared with what it must be. */
#include "cluster/manifest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/record.h"

#define FIRST_LINE "vecfs-snapshot "
#define VERSION    1u

void manifest_release(struct manifest *m)
{
	for (size_t i = 0; i < m->n_options; i++)
		free(m->options[i].value);
	free(m->options);
	free(m->slices);
	free(m->files);
	*m = (struct manifest){.cid = 0};
}

/* Room for one more; a power of two is kept. */
static void *more(void *p, size_t n, size_t size)
{
	return n & (n - 1) ? p : realloc(p, (n ? 2 * n : 1) * size);
}

int manifest_add_option(struct manifest *m, const char *key, const char *value)
{
	struct manifest_option o;

	if ((unsigned)snprintf(o.key, sizeof o.key, "%s", key) >= sizeof o.key)
		return -EINVAL;
	struct manifest_option *p = more(m->options, m->n_options, sizeof *p);
	if (!p)
		return -ENOMEM;
	m->options = p;
	o.value = strdup(value);
	if (!o.value)
		return -ENOMEM;
	p[m->n_options++] = o;
	return 0;
}

int manifest_add_slice(struct manifest *m, uint32_t shard, const struct snap_slice *info)
{
	struct manifest_slice *p = more(m->slices, m->n_slices, sizeof *p);

	if (!p)
		return -ENOMEM;
	m->slices = p;
	p[m->n_slices++] = (struct manifest_slice){.shard = shard, .info = *info};
	return 0;
}

int manifest_add_file(struct manifest *m, const char *name, uint64_t size, uint64_t sum)
{
	struct manifest_file *p = more(m->files, m->n_files, sizeof *p);

	if (!p)
		return -ENOMEM;
	m->files = p;
	struct manifest_file *f = &p[m->n_files];
	f->size = size;
	f->sum = sum;
	if ((unsigned)snprintf(f->name, sizeof f->name, "%s", name) >= sizeof f->name)
		return -ENAMETOOLONG;
	m->n_files++;
	return 0;
}

const struct manifest_file *manifest_find(const struct manifest *m, const char *name)
{
	for (size_t i = 0; i < m->n_files; i++)
		if (strcmp(m->files[i].name, name) == 0)
			return &m->files[i];
	return NULL;
}

uint64_t manifest_records(const struct manifest *m)
{
	uint64_t n = 0;

	for (size_t i = 0; i < m->n_slices; i++)
		n += m->slices[i].info.count;
	return n;
}

uint64_t manifest_bytes(const struct manifest *m)
{
	uint64_t n = 0;

	for (size_t i = 0; i < m->n_files; i++)
		n += m->files[i].size;
	return n;
}

int manifest_print(const struct manifest *m, struct buf *out)
{
	size_t start = out->len;

	int rc = buf_printf(out, FIRST_LINE "%u\nname %s\ncollection %s\ncid %u\ntime %llu\n",
		VERSION, m->name, m->coll, m->cid, (unsigned long long)m->time_ns);
	for (size_t i = 0; i < m->n_options && rc == 0; i++)
		rc = buf_printf(out, "option %s %s\n", m->options[i].key, m->options[i].value);
	for (size_t i = 0; i < m->n_slices && rc == 0; i++) {
		const struct snap_slice *s = &m->slices[i].info;
		rc = buf_printf(out,
			"slice shard=%u applied=%llu records=%llu slots=%llu generation=%u "
			"dim=%u\n",
			m->slices[i].shard, (unsigned long long)s->applied,
			(unsigned long long)s->count, (unsigned long long)s->slots, s->generation,
			s->dim);
	}
	for (size_t i = 0; i < m->n_files && rc == 0; i++)
		rc = buf_printf(out, "file %s %llu %016llx\n", m->files[i].name,
			(unsigned long long)m->files[i].size, (unsigned long long)m->files[i].sum);
	if (rc == 0)
		rc = buf_printf(out, "sum %016llx\n",
			(unsigned long long)hash_xxh3(out->data + start, out->len - start, 0));
	return rc;
}

/* --- parsing --------------------------------------------------------------------------------- */

struct text {
	const char *p, *end;
};

/* Takes 'word' off the front. */
static bool take(struct text *t, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0)
		return false;
	t->p += n;
	return true;
}

/* Takes a number: no sign, no leading zeros, no more than 'max'. */
static bool number(struct text *t, uint64_t max, uint64_t *ret)
{
	const char *from = t->p;
	uint64_t v = 0;

	for (; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++) {
		uint64_t d = (uint64_t)(*t->p - '0');
		if (v > (max - d) / 10)
			return false;
		v = v * 10 + d;
	}
	*ret = v;
	return t->p > from && (*from != '0' || t->p == from + 1);
}

static bool field(struct text *t, const char *word, uint64_t max, uint64_t *ret)
{
	return take(t, word) && number(t, max, ret);
}

static bool hex16(struct text *t, uint64_t *ret)
{
	uint64_t v = 0;

	if (t->end - t->p < 16)
		return false;
	for (int i = 0; i < 16; i++, t->p++) {
		char c = *t->p;
		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret = v;
	return true;
}

/* Up to 'stop', which is taken off as well; 1..max bytes without control characters. */
static bool word(struct text *t, char stop, char *ret, size_t max)
{
	size_t n = 0;

	for (; t->p < t->end && *t->p != stop; t->p++) {
		if ((unsigned char)*t->p < ' ' || n == max)
			return false;
		ret[n++] = *t->p;
	}
	ret[n] = 0;
	return n > 0 && t->p++ < t->end;
}

static bool name_line(struct text *t, const char *key, char ret[VX_NAME_MAX + 1])
{
	return take(t, key) && word(t, '\n', ret, VX_NAME_MAX) && vx_name_check(ret, NULL) == 0;
}

static bool number_line(struct text *t, const char *key, uint64_t max, uint64_t *ret)
{
	return field(t, key, max, ret) && take(t, "\n");
}

/* "s003.meta.db", "s003.000000.vec": nothing that could be a path. */
static bool file_name_ok(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if (!(s[i] == '.' || (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'z')))
			return false;
	return n > 4 && s[0] == 's' && s[1] >= '0' && s[1] <= '9';
}

static int parse_slice(struct text *t, struct manifest *m)
{
	uint64_t shard, applied, count, slots, gen, dim;

	if (!field(t, "shard=", UINT16_MAX, &shard) ||
		!field(t, " applied=", INT64_MAX, &applied) ||
		!field(t, " records=", VX_SLOTS_MAX, &count) ||
		!field(t, " slots=", VX_SLOTS_MAX, &slots) ||
		!field(t, " generation=", UINT32_MAX, &gen) ||
		!field(t, " dim=", VX_DIM_MAX, &dim) || !take(t, "\n") || count > slots)
		return -EUCLEAN;
	for (size_t i = 0; i < m->n_slices; i++)
		if (m->slices[i].shard >= shard)
			return -EUCLEAN;
	const struct snap_slice s = {
		.applied = applied,
		.count = count,
		.slots = slots,
		.generation = (uint32_t)gen,
		.dim = (uint32_t)dim,
		.cid = m->cid,
	};
	return manifest_add_slice(m, (uint32_t)shard, &s);
}

static int parse_file(struct text *t, struct manifest *m)
{
	char name[MANIFEST_FILE_MAX + 1];
	uint64_t size, sum;

	if (!word(t, ' ', name, MANIFEST_FILE_MAX) || !file_name_ok(name) ||
		!number(t, INT64_MAX, &size) || !take(t, " ") || !hex16(t, &sum) || !take(t, "\n"))
		return -EUCLEAN;
	/* In order, so that none comes twice. */
	if (m->n_files && strcmp(m->files[m->n_files - 1].name, name) >= 0)
		return -EUCLEAN;
	return manifest_add_file(m, name, size, sum);
}

static int parse_option(struct text *t, struct manifest *m)
{
	char key[64], value[4096];

	if (!word(t, ' ', key, sizeof key - 1) || !word(t, '\n', value, sizeof value - 1))
		return -EUCLEAN;
	return manifest_add_option(m, key, value);
}

static int parse(struct text *t, struct manifest *m)
{
	uint64_t cid;
	int rc = 0;

	if (!name_line(t, "name ", m->name) || !name_line(t, "collection ", m->coll) ||
		!number_line(t, "cid ", UINT32_MAX, &cid) ||
		!number_line(t, "time ", UINT64_MAX, &m->time_ns))
		return -EUCLEAN;
	m->cid = (uint32_t)cid;
	while (rc == 0 && take(t, "option "))
		rc = parse_option(t, m);
	while (rc == 0 && take(t, "slice "))
		rc = parse_slice(t, m);
	while (rc == 0 && take(t, "file "))
		rc = parse_file(t, m);
	if (rc == 0 && t->p != t->end)
		rc = -EUCLEAN;
	return rc;
}

int manifest_parse(const void *p, size_t n, struct manifest *ret, struct vx_err *err)
{
	static const size_t last = sizeof "sum 0123456789abcdef\n" - 1;
	struct text t = {.p = p, .end = (const char *)p + n};
	struct manifest m = {.cid = 0};
	uint64_t version, sum = 0;

	if (n > MANIFEST_BYTES_MAX || !take(&t, FIRST_LINE) || !number(&t, UINT32_MAX, &version) ||
		!take(&t, "\n"))
		return vx_err_set(err, -EUCLEAN, "this is no manifest of a snapshot");
	if (version != VERSION)
		return vx_err_set(err, -EOPNOTSUPP,
			"the snapshot is of version %llu; this vecfsd knows %u",
			(unsigned long long)version, VERSION);
	bool whole = (size_t)(t.end - t.p) >= last;
	struct text end = {.p = t.end - (whole ? last : 0), .end = t.end};
	if (!whole || !take(&end, "sum ") || !hex16(&end, &sum) || *end.p != '\n' ||
		sum != hash_xxh3(p, n - last, 0))
		return vx_err_set(err, -EUCLEAN, "the manifest is damaged or cut short");
	t.end -= last;
	int rc = parse(&t, &m);
	if (rc) {
		manifest_release(&m);
		return vx_err_set(err, rc, "the manifest %s",
			rc == -EUCLEAN ? "does not say what a manifest says"
				       : "does not fit in memory");
	}
	*ret = m;
	return 0;
}
