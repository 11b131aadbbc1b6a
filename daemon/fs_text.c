/* fs_text.c - small text files: rendered when opened, some of them settable.
 *
 * A write of a setting is one whole value, applied inside the write so that 'echo 64 > ef_search' fails
 * where a shell looks.  schema.json is applied when its JSON closes.
 */
#include "daemon/fs_i.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/errlog.h"
#include "simd/simd.h"

#define VALUE_MAX  4096u /* of an option */
#define SCHEMA_MAX (1u << 16)

struct text_handle {
	struct handle h;
	struct buf text; /* what reads see */
	struct buf in;   /* schema.json: what was written so far */
	uint64_t end;    /* of the last write */
};

/* --- options by number ------------------------------------------------------------------------------- */
struct pick {
	const char *name; /* wanted, or NULL to take number 'n' */
	uint32_t i, n;
	bool found;
	char *ret;
	size_t size;
};

static int pick_option(void *arg, const char *name)
{
	struct pick *p = arg;

	p->found = p->name ? !strcmp(name, p->name) : p->i == p->n;
	if (p->found && p->ret)
		snprintf(p->ret, p->size, "%s", name);
	if (!p->found)
		p->i++;
	return p->found;
}

int text_each_option(
	struct fs *fs, enum fs_kind dir, int (*each)(void *arg, const char *name), void *arg)
{
	int rc = 0;

	if (dir == K_NODE_CONFIG)
		return fs->o.config_each ? fs->o.config_each(fs->o.config_ctx, each, arg) : 0;
	for (size_t i = 0; i < n_coll_options && !rc; i++)
		rc = each(arg, coll_options[i].name);
	return rc;
}

int text_lookup_option(struct fs *fs, const struct loc *dir, const char *name, uint32_t *ret_idx)
{
	struct pick p = {.name = name};

	text_each_option(fs, dir->kind, pick_option, &p);
	if (!p.found)
		return -ENOENT;
	*ret_idx = p.i;
	return 0;
}

const char *text_option_name(struct fs *fs, const struct loc *l, char *ret, size_t size)
{
	struct pick p = {.n = l->idx, .ret = ret, .size = size};

	snprintf(ret, size, "?");
	text_each_option(fs, fs_kinds[l->kind].parent, pick_option, &p);
	return ret;
}

/* --- rendering ------------------------------------------------------------------------------------------ */
static int render_cpu(struct buf *out)
{
	char line[300];
	int rc;
	FILE *f = fopen("/proc/cpuinfo", "re");

	rc = buf_printf(
		out, "simd %s\ncores %ld\n", simd_active()->name, sysconf(_SC_NPROCESSORS_ONLN));
	while (f && !rc && fgets(line, sizeof line, f)) {
		const char *colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) || !colon)
			continue;
		rc = buf_printf(out, "model %s", colon + 2);
		break;
	}
	if (f)
		fclose(f);
	return rc;
}

static int render_node_stats(struct fs *fs, struct buf *out)
{
	int rc = db_stats(fs->db, out);

	vx_lock(&fs->lock);
	size_t nodes = fs->tree.n_nodes;
	unsigned workers = fs->n_workers;
	vx_unlock(&fs->lock);
	if (rc)
		return rc;
	return buf_printf(out,
		"fuse_threads %u\nfuse_nodes %zu\nstaged_files %u\nstaged_bytes "
		"%llu\n"
		"spooled_bytes %llu\nrefusals %llu\n",
		workers, nodes, atomic_load(&fs->stage_count),
		(unsigned long long)atomic_load(&fs->stage_bytes),
		(unsigned long long)atomic_load(&fs->spool_bytes),
		(unsigned long long)errlog_count());
}

static int render_progress(struct coll *c, struct buf *out)
{
	struct coll_index_info ii;
	int rc = coll_index_info(c, &ii);

	if (rc)
		return rc;
	uint64_t live = ii.slots;
	double percent = live ? 100.0 * (double)(live - VX_MIN(ii.tail, live)) / (double)live
			      : 100.0;
	return buf_printf(out,
		"kind %s\nquant %s\nrecords %llu\nslots %llu\ndead %llu\ntail %llu\n"
		"percent %.1f\nmemory_bytes %llu\ndisk_bytes %llu\ncompact_done %llu\n"
		"compact_total %llu\ncompactions %llu\nreclaimed_bytes %llu\n",
		ii.kind, ii.quant, (unsigned long long)ii.records, (unsigned long long)ii.slots,
		(unsigned long long)ii.dead, (unsigned long long)ii.tail, percent,
		(unsigned long long)ii.memory_bytes, (unsigned long long)ii.disk_bytes,
		(unsigned long long)ii.compact_done, (unsigned long long)ii.compact_total,
		(unsigned long long)ii.compactions, (unsigned long long)ii.reclaimed_bytes);
}

static int render_state(struct coll *c, struct buf *out)
{
	struct coll_index_info ii;
	int rc = coll_index_info(c, &ii);

	return rc ? rc : buf_printf(out, "%s\n", ii.state);
}

static int render_option(struct fs *fs, struct coll *c, const struct loc *l, struct buf *out)
{
	char name[64];
	size_t before = out->len;
	int rc;

	text_option_name(fs, l, name, sizeof name);
	if (l->kind == K_OPTION)
		rc = coll_config_get(c, name, out);
	else
		rc = fs->o.config_get ? fs->o.config_get(fs->o.config_ctx, name, out) : -ENOENT;
	/* A setting that is not set is an empty file. */
	return rc || out->len == before ? rc : buf_append(out, "\n", 1);
}

static int render(struct fs *fs, struct coll *c, const struct loc *l, struct buf *out)
{
	switch (l->kind) {
	case K_VERSION:
		return buf_printf(out, "vecfs %s\n", VECFS_VERSION);
	case K_CPU:
		return render_cpu(out);
	case K_NODE_STATS:
		return render_node_stats(fs, out);
	case K_ERROR_LOG:
		return errlog_render(out);
	case K_SOCKET:
		return fs->socket ? buf_printf(out, "%s\n", fs->socket) : 0;
	case K_NODE_OPTION:
	case K_OPTION:
		return render_option(fs, c, l, out);
	case K_SCHEMA:
		return coll_schema_json(c, out);
	case K_STATS:
		return coll_stats(c, out);
	case K_INDEX_STATE:
		return render_state(c, out);
	case K_INDEX_PROGRESS:
		return render_progress(c, out);
	case K_INDEX_CTL:
		return buf_printf(out, "compact\n"); /* what may be written */
	default:
		return -EINVAL;
	}
}

static int text_stat(struct fs *fs, struct coll *c, const struct loc *l, struct stat *ret)
{
	struct buf *b = fs_scratch();
	int rc = render(fs, c, l, b);

	if (rc == 0)
		ret->st_size = (off_t)b->len;
	return rc;
}

/* --- an open file ----------------------------------------------------------------------------------------- */
static int text_open(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct text_handle *t = (struct text_handle *)h;

	(void)req;
	(void)err;
	if (h->loc.kind == K_ERROR_LOG && (h->flags & O_TRUNC))
		errlog_clear();
	if ((h->flags & O_ACCMODE) == O_WRONLY)
		return 0;
	return render(h->fs, h->c, &h->loc, &t->text);
}

static int text_read(struct handle *h, fuse_req_t req, size_t size, uint64_t off, struct slice *ret,
	struct vx_err *err)
{
	struct text_handle *t = (struct text_handle *)h;

	(void)req;
	(void)err;
	*ret = slice_of(t->text.data, t->text.len, size, off);
	return 0;
}

static int set_option(struct handle *h, const char *p, size_t n, struct vx_err *err)
{
	char name[64], value[VALUE_MAX + 1];

	while (n && (p[n - 1] == '\n' || p[n - 1] == '\r' || p[n - 1] == ' '))
		n--;
	if (n > VALUE_MAX)
		return vx_err_set(err, -EMSGSIZE, "a value has at most %u bytes", VALUE_MAX);
	if (memchr(p, 0, n) || memchr(p, '\n', n))
		return vx_err_set(err, -EINVAL, "a value is one line of text");
	memcpy(value, p, n);
	value[n] = 0;
	text_option_name(h->fs, &h->loc, name, sizeof name);
	if (h->loc.kind == K_OPTION)
		return coll_config_set(h->c, name, value, err);
	if (!h->fs->o.config_set)
		return vx_err_set(err, -EPERM, "this option is fixed while the daemon runs");
	return h->fs->o.config_set(h->fs->o.config_ctx, name, value, err);
}

static int index_ctl(struct coll *c, const char *p, size_t n, struct vx_err *err)
{
	while (n && (p[n - 1] == '\n' || p[n - 1] == '\r' || p[n - 1] == ' '))
		n--;
	if (n == strlen("compact") && memcmp(p, "compact", n) == 0)
		return coll_compact(c, err);
	return vx_err_set(err, -EINVAL, "'%.*s' is none of compact", (int)VX_MIN(n, 40u), p);
}

static int set_schema(
	struct text_handle *t, const char *p, size_t n, uint64_t off, struct vx_err *err)
{
	if (off != t->in.len) {
		t->in.len = 0;
		if (off)
			return vx_err_set(err, -EINVAL, "the schema is written from its start");
	}
	if (t->in.len + n > SCHEMA_MAX)
		return vx_err_set(err, -EMSGSIZE, "a schema has at most %u bytes", SCHEMA_MAX);
	int rc = buf_append(&t->in, p, n);
	if (rc)
		return rc;
	int done = codec_json_complete((const char *)t->in.data, t->in.len);
	if (done == 0)
		return 0;
	rc = done < 0 ? vx_err_set(err, -EINVAL, "the schema is not one JSON object")
		      : coll_schema_set_json(t->h.c, (const char *)t->in.data, t->in.len, err);
	t->in.len = 0;
	return rc;
}

static int text_write(struct handle *h, fuse_req_t req, const char *p, size_t n, uint64_t off,
	size_t *ret_n, struct vx_err *err)
{
	(void)req;
	(void)ret_n;
	((struct text_handle *)h)->end = off + n;
	if (h->loc.kind == K_SCHEMA)
		return set_schema((struct text_handle *)h, p, n, off, err);
	if (h->loc.kind == K_INDEX_CTL)
		return index_ctl(h->c, p, n, err);
	if (h->loc.kind == K_ERROR_LOG)
		return vx_err_set(err, -EPERM, "the error log can only be truncated");
	return set_option(h, p, n, err);
}

static int text_flush(struct handle *h, fuse_req_t req, struct vx_err *err)
{
	struct text_handle *t = (struct text_handle *)h;

	(void)req;
	if (t->in.len == 0)
		return 0;
	t->in.len = 0;
	return vx_err_set(err, -EINVAL, "the schema ends within its JSON");
}

/* Who writes in place, as rsync --inplace does, cuts the file behind what he has written. */
static int text_truncate(struct handle *h, uint64_t size, struct vx_err *err)
{
	if (size && size == ((struct text_handle *)h)->end)
		return 0;
	if (h->loc.kind == K_ERROR_LOG && size == 0)
		errlog_clear();
	return size == 0 ? 0 : vx_err_set(err, -EINVAL, "this file cannot be cut");
}

static int text_save(struct handle *h, struct buf *out)
{
	const struct text_handle *t = (const struct text_handle *)h;
	int rc = put_blob(out, t->text.data, t->text.len);

	if (rc == 0)
		rc = put_blob(out, t->in.data, t->in.len);
	return rc ? rc : buf_put_le64(out, t->end);
}

static int text_load(struct handle *h, struct bytes_reader *rd, struct vx_err *err)
{
	struct text_handle *t = (struct text_handle *)h;
	int rc = get_blob(rd, &t->text);

	(void)err;
	if (rc == 0)
		rc = get_blob(rd, &t->in);
	t->end = rc == 0 && rd->left >= 8 ? rd_le64(rd) : 0;
	return rc;
}

static void text_close(struct handle *h)
{
	struct text_handle *t = (struct text_handle *)h;

	buf_release(&t->text);
	buf_release(&t->in);
}

const struct file_ops text_ops = {
	.handle_size = sizeof(struct text_handle),
	.open = text_open,
	.read = text_read,
	.write = text_write,
	.flush = text_flush,
	.truncate = text_truncate,
	.close = text_close,
	.save = text_save,
	.load = text_load,
	.stat = text_stat,
};
