/* fs_tree.c - the shape of the tree: kinds of files, lookup, attributes. */
#include "daemon/fs_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

const struct kind_info fs_kinds[N_KINDS] = {
	[K_ROOT] = {NULL, K_NONE, true, 0, NULL},
	[K_DOT] = {".vecfs", K_ROOT, true, 0, NULL},
	[K_VERSION] = {"version", K_DOT, false, 0444, &text_ops},
	[K_CPU] = {"cpu", K_DOT, false, 0444, &text_ops},
	[K_NODE_STATS] = {"stats", K_DOT, false, 0444, &text_ops},
	[K_ERROR_LOG] = {"error_log", K_DOT, false, 0666, &text_ops},
	[K_SOCKET] = {"socket", K_DOT, false, 0444, &text_ops},
	[K_NODE_CONFIG] = {"config", K_DOT, true, 0, NULL},
	[K_NODE_OPTION] = {NULL, K_NODE_CONFIG, false, 0666, &text_ops},
	[K_COLL] = {NULL, K_ROOT, true, 0, NULL},
	[K_SCHEMA] = {"schema.json", K_COLL, false, 0666, &text_ops},
	[K_CONFIG] = {"config", K_COLL, true, 0, NULL},
	[K_OPTION] = {NULL, K_CONFIG, false, 0666, &text_ops},
	[K_STATS] = {"stats", K_COLL, false, 0444, &text_ops},
	[K_VEC] = {"vec", K_COLL, true, 0, NULL},
	[K_INBOX] = {"inbox", K_COLL, true, 0, NULL},
	[K_DONE] = {"done", K_COLL, true, 0, NULL},
	[K_FAILED] = {"failed", K_COLL, true, 0, NULL},
	[K_QDIR] = {"q", K_COLL, true, 0, NULL},
	[K_NEARDIR] = {"near", K_COLL, true, 0, NULL},
	[K_IDS] = {"ids", K_COLL, false, 0444, &scan_ops},
	[K_EXPORT] = {"export.jsonl", K_COLL, false, 0444, &scan_ops},
	[K_INDEX] = {"index", K_COLL, true, 0, NULL},
	[K_INDEX_STATE] = {"state", K_INDEX, false, 0444, &text_ops},
	[K_INDEX_PROGRESS] = {"progress", K_INDEX, false, 0444, &text_ops},
	[K_INDEX_CTL] = {"ctl", K_INDEX, false, 0666, &text_ops},
	[K_JSON] = {NULL, K_VEC, false, 0666, &record_ops},
	[K_F32] = {NULL, K_VEC, false, 0666, &record_ops},
	[K_APPEND] = {"append", K_COLL, false, 0222, &stream_ops},
	[K_DELETE] = {"delete", K_COLL, false, 0222, &stream_ops},
	[K_QUERY] = {"query", K_COLL, false, 0666, &query_ops},
	[K_NEW] = {NULL, K_VEC, false, 0666, &record_ops},
	[K_STAGED] = {NULL, K_VEC, false, 0666, &staged_ops},
	[K_IN] = {NULL, K_INBOX, false, 0666, &inbox_ops},
	[K_RECEIPT] = {NULL, K_DONE, false, 0444, &kept_ops},
	[K_REJECT] = {NULL, K_FAILED, false, 0444, &kept_ops},
	[K_QUESTION] = {NULL, K_QDIR, false, 0666, &question_ops},
	[K_NEAR] = {NULL, K_NEARDIR, false, 0444, &near_ops},
	[K_SNAPS] = {"snapshots", K_COLL, true, 0, NULL},
	[K_SNAP] = {NULL, K_SNAPS, true, 0, NULL},
	[K_SNAP_FILE] = {NULL, K_SNAP, false, 0444, &snap_ops},
};

int fs_coll(struct fs *fs, uint32_t cid, struct coll **ret, struct vx_err *err)
{
	int rc = 0;
	struct coll *c = db_coll_by_cid(fs->db, cid, &rc, err);

	if (!c)
		return rc == -ENOENT ? -ESTALE : rc;
	*ret = c;
	return 0;
}

/* --- names ----------------------------------------------------------------------------------- */
static int lookup_record(
	struct fs *fs, uint32_t cid, const char *name, struct loc *ret, struct vx_err *err)
{
	char id[3 * VX_ID_MAX + 1];
	struct coll_rec rec = {0};
	struct coll *c = NULL;
	size_t len;

	int is = fs_record_name(name, id, &len, err);
	if (is < 0)
		return is;
	if (is == 0) {
		struct node *n = node_find(fs, K_STAGED, cid, name);
		if (!n)
			return -ENOENT;
		*ret = (struct loc){.kind = K_STAGED, .cid = cid, .node = n};
		return 0;
	}
	int rc = fs_coll(fs, cid, &c, err);
	if (rc)
		return rc;
	rc = coll_lookup(c, id, len, &rec);
	coll_put(c);
	if (rc == 0) {
		*ret = (struct loc){
			.kind = is == 1 ? K_JSON : K_F32, .cid = cid, .handle = rec.handle};
		coll_rec_release(&rec);
		if (loc_record_fits(ret))
			return 0;
		ret->kind = K_NEW;
		return node_new(fs,
			&(struct node_spec){
				.kind = K_NEW, .cid = cid, .name = name, .by_name = true},
			&ret->node);
	}
	if (rc != -ENOENT)
		return rc;
	struct node *n = node_find(fs, K_NEW, cid, name);
	if (!n)
		return -ENOENT;
	if (n->opens) {
		*ret = (struct loc){.kind = K_NEW, .cid = cid, .node = n};
		return 0;
	}
	node_unpin(fs, n);
	return -ENOENT;
}

static int lookup_near(
	struct fs *fs, uint32_t cid, const char *name, struct loc *ret, struct vx_err *err)
{
	struct ask_opts o = {0};
	char id[3 * VX_ID_MAX + 1];
	struct coll_rec rec = {0};
	struct coll *c = NULL;
	size_t stem = strlen(name), len;

	if (stem > 1024)
		return vx_err_set(err, -ENAMETOOLONG, "no id is that long");
	int rc = fs_coll(fs, cid, &c, err);
	if (rc)
		return rc;
	/* A comma may belong to the id: the longest name that is a record's counts. */
	for (;;) {
		rc = stem > VX_ID_MAX ? -ENOENT : vx_id_decode(name, stem, id, &len);
		if (rc == 0)
			rc = vx_id_check(id, len, NULL) ? -ENOENT : coll_lookup(c, id, len, &rec);
		if (rc == 0)
			coll_rec_release(&rec);
		if (rc != -ENOENT && rc != -EINVAL)
			break;
		rc = ask_strip_opt(name, &stem, &o, err);
		if (rc <= 0) {
			rc = rc ? rc : -ENOENT;
			break;
		}
	}
	coll_put(c);
	if (rc)
		return rc;
	struct node *n;
	rc = node_new(fs,
		&(struct node_spec){.kind = K_NEAR,
			.cid = cid,
			.name = name,
			.by_name = true,
			.ask = o,
			.stem_len = stem},
		&n);
	if (rc)
		return rc;
	*ret = (struct loc){.kind = K_NEAR, .cid = cid, .node = n};
	return 0;
}

/* done/NAME, failed/NAME and q/NAME[.suffix]: what is on disk, or a question that is being written. */
static int lookup_kept(
	struct fs *fs, const struct loc *dir, const char *name, struct loc *ret, struct vx_err *err)
{
	enum fs_kind kind = dir->kind == K_DONE     ? K_RECEIPT
			    : dir->kind == K_FAILED ? K_REJECT
						    : K_QUESTION;
	char stem[256];
	size_t len = strlen(name);
	struct stat st;
	struct ask_opts o = {0};

	if (len > 255)
		return vx_err_set(err, -ENAMETOOLONG, "a name has at most 255 bytes");
	memcpy(stem, name, len + 1);
	if (kind == K_QUESTION) {
		o.format = answer_format_of(name, &len);
		stem[len] = 0;
	}
	int rc = keep_stat(fs, keep_of(kind), dir->cid, stem, &st);
	struct node *n = NULL;
	if (rc == -ENOENT) {
		n = node_find(fs, kind, dir->cid, name);
		if (!n)
			return -ENOENT;
		if (!n->opens) {
			node_unpin(fs, n);
			return -ENOENT;
		}
	} else if (rc) {
		return rc;
	} else {
		rc = node_new(fs,
			&(struct node_spec){.kind = kind,
				.cid = dir->cid,
				.name = name,
				.by_name = true,
				.ask = o,
				.stem_len = len},
			&n);
		if (rc)
			return rc;
	}
	*ret = (struct loc){.kind = kind, .cid = dir->cid, .node = n};
	return 0;
}

static int lookup_root(struct fs *fs, const char *name, struct loc *ret, struct vx_err *err)
{
	int rc = -ENOENT;

	if (strlen(name) > VX_NAME_MAX || vx_name_check(name, NULL))
		return -ENOENT;
	struct coll *c = db_coll(fs->db, name, &rc, err);
	if (!c)
		return rc;
	*ret = (struct loc){.kind = K_COLL, .cid = coll_cid(c)};
	coll_put(c);
	return 0;
}

static int lookup_stream(
	struct fs *fs, const struct loc *dir, const char *name, struct loc *ret, struct vx_err *err)
{
	struct ask_opts o = {0};
	enum fs_kind kind;

	if (!strcmp(name, "append")) {
		kind = K_APPEND;
	} else if (!strcmp(name, "delete")) {
		kind = K_DELETE;
	} else {
		int rc = query_parse_name(name, &o, err);
		if (rc)
			return rc;
		kind = K_QUERY;
	}
	/* A node of its own at each lookup: the kernel would serialise the writers of one inode. */
	struct node *n;
	int rc = node_new(
		fs, &(struct node_spec){.kind = kind, .cid = dir->cid, .name = name, .ask = o}, &n);
	if (rc)
		return rc;
	*ret = (struct loc){.kind = kind, .cid = dir->cid, .node = n};
	return 0;
}

int fs_lookup(
	struct fs *fs, const struct loc *dir, const char *name, struct loc *ret, struct vx_err *err)
{
	/* As statfs says; near/ takes an id and options behind it. */
	if (dir->kind != K_NEARDIR && strlen(name) > 255)
		return vx_err_set(err, -ENAMETOOLONG, "a name has at most 255 bytes");
	/* Fixed names first; they cannot be collections (".vecfs") or ids (other directories). */
	for (int k = K_DOT; k < K_JSON; k++) {
		const struct kind_info *ki = &fs_kinds[k];
		if (ki->parent == dir->kind && ki->name && !strcmp(ki->name, name)) {
			*ret = (struct loc){.kind = (enum fs_kind)k, .cid = dir->cid};
			return 0;
		}
	}
	switch (dir->kind) {
	case K_ROOT:
		return lookup_root(fs, name, ret, err);
	case K_COLL:
		return lookup_stream(fs, dir, name, ret, err);
	case K_CONFIG:
	case K_NODE_CONFIG: {
		struct loc l = {
			.kind = dir->kind == K_CONFIG ? K_OPTION : K_NODE_OPTION, .cid = dir->cid};
		int rc = text_lookup_option(fs, dir, name, &l.idx);
		if (rc == 0)
			*ret = l;
		return rc;
	}
	case K_VEC:
		return lookup_record(fs, dir->cid, name, ret, err);
	case K_INBOX: {
		struct node *n = node_find(fs, K_IN, dir->cid, name);
		if (!n)
			return -ENOENT;
		/* What streams is gone soon after its last close, whatever the kernel still holds. */
		if (!n->content && !n->opens && !node_lingers(fs, n)) {
			node_unpin(fs, n);
			return -ENOENT;
		}
		*ret = (struct loc){.kind = K_IN, .cid = dir->cid, .node = n};
		return 0;
	}
	case K_DONE:
	case K_FAILED:
	case K_QDIR:
		return lookup_kept(fs, dir, name, ret, err);
	case K_SNAPS:
	case K_SNAP:
		return snap_lookup(fs, dir, name, ret);
	case K_NEARDIR:
		return lookup_near(fs, dir->cid, name, ret, err);
	default:
		return -ENOENT;
	}
}

/* --- attributes ------------------------------------------------------------------------------ */
/* The directories of a collection exist as long as it does, and its own lookup is always asked. */
double fs_entry_timeout(const struct loc *l)
{
	return l->kind == K_DOT || (fs_kinds[l->kind].dir && l->kind != K_COLL && l->kind != K_SNAP)
		       ? 60.0
		       : 0.0;
}

/* The size of a record costs its rendering.  The kernel asks for the name each time, so what stat by name says
 * is fresh; only the same program's next question a moment later, and fstat, may be answered from memory. */
double fs_attr_timeout(const struct loc *l)
{
	return l->kind == K_JSON || l->kind == K_F32 ? 0.01 : 0.0;
}

static void set_time(struct stat *st, uint64_t ns)
{
	st->st_mtim.tv_sec = (time_t)(ns / 1000000000u);
	st->st_mtim.tv_nsec = (long)(ns % 1000000000u);
	st->st_atim = st->st_ctim = st->st_mtim;
}

int fs_attr(struct fs *fs, const struct loc *l, struct stat *ret)
{
	const struct kind_info *ki = &fs_kinds[l->kind];
	struct stat st = {0};
	struct coll *c = NULL;
	int rc = 0;

	if (l->cid) {
		rc = fs_coll(fs, l->cid, &c, NULL);
		if (rc)
			return rc;
	}
	st.st_ino = loc_ino(l);
	st.st_uid = fs->o.uid;
	st.st_gid = fs->o.gid;
	st.st_blksize = 4096;
	set_time(&st, c ? coll_ctime_ns(c) : (uint64_t)fs->started * 1000000000u);
	if (ki->dir) {
		st.st_mode = S_IFDIR | fs->o.dir_mode;
		st.st_nlink = 2;
	} else {
		st.st_mode = S_IFREG | (fs->o.file_mode & ki->mode);
		st.st_nlink = 1;
		if (l->node) {
			uint32_t mode = atomic_load_explicit(&l->node->mode, memory_order_relaxed);
			if (mode)
				st.st_mode = S_IFREG | (mode & 0777);
			st.st_size = (off_t)atomic_load_explicit(
				&l->node->size, memory_order_relaxed);
			set_time(&st,
				atomic_load_explicit(&l->node->mtime_ns, memory_order_relaxed));
		}
		if (ki->ops && ki->ops->stat)
			rc = ki->ops->stat(fs, c, l, &st);
		st.st_blocks = (st.st_size + 511) / 512;
	}
	if (c)
		coll_put(c);
	if (rc == 0)
		*ret = st;
	return rc;
}

/* --- for messages ------------------------------------------------------------------------------ */
static void path_snapshot(
	struct fs *fs, const char *coll, const struct node *n, char *ret, size_t size)
{
	vx_lock(&fs->lock);
	snprintf(ret, size, "%s/%s/%s", coll, fs_kinds[K_SNAPS].name, n->name);
	vx_unlock(&fs->lock);
}

static void path_dir(struct fs *fs, const struct loc *l, char *ret, size_t size)
{
	const char *coll = "?";
	struct coll *c = NULL;
	int rc;

	if (l->kind == K_ROOT) {
		snprintf(ret, size, "%s", "");
		return;
	}
	if (l->cid && (c = db_coll_by_cid(fs->db, l->cid, &rc, NULL)))
		coll = coll_name(c);
	if (l->kind == K_COLL)
		snprintf(ret, size, "%s", coll);
	else if (l->kind == K_SNAP && l->node)
		path_snapshot(fs, coll, l->node, ret, size);
	else if (l->kind == K_SNAP) /* the node of a file has the name of the snapshot too */
		snprintf(ret, size, "%s/%s", coll, fs_kinds[K_SNAPS].name);
	else if (l->kind == K_DOT)
		snprintf(ret, size, ".vecfs");
	else if (l->cid)
		snprintf(ret, size, "%s/%s", coll, fs_kinds[l->kind].name);
	else
		snprintf(ret, size, ".vecfs/%s", fs_kinds[l->kind].name);
	if (c)
		coll_put(c);
}

static size_t base_name(struct fs *fs, const struct loc *l, char *ret, size_t size)
{
	const struct kind_info *ki = &fs_kinds[l->kind];

	if (l->node) {
		vx_lock(&fs->lock);
		snprintf(ret, size, "%s", l->node->name);
		vx_unlock(&fs->lock);
	} else if (ki->name) {
		snprintf(ret, size, "%s", ki->name);
	} else if (l->kind == K_OPTION || l->kind == K_NODE_OPTION) {
		text_option_name(fs, l, ret, size);
	} else if (l->kind == K_JSON || l->kind == K_F32) {
		struct coll *c = NULL;
		struct coll_rec rec = {0};
		char enc[3 * VX_ID_MAX + 1] = "?";
		if (fs_coll(fs, l->cid, &c, NULL) == 0) {
			if (coll_get_handle(c, l->handle, 0, &rec, NULL) == 0 &&
				rec.rec.id_len <= VX_ID_MAX)
				vx_id_encode(rec.rec.id, rec.rec.id_len, enc);
			coll_rec_release(&rec);
			coll_put(c);
		}
		snprintf(ret, size, "%s%s", enc, l->kind == K_JSON ? ".json" : ".f32");
	} else {
		snprintf(ret, size, "?");
	}
	return strlen(ret);
}

void fs_path(struct fs *fs, const struct loc *l, const char *name, char *ret, size_t size)
{
	struct loc dir = *l;
	char base[800];

	if (name) { /* of a child, or of the file itself where the caller knows it */
		snprintf(base, sizeof base, "%s", name);
		if (!fs_kinds[l->kind].dir)
			dir.kind = fs_kinds[l->kind].parent;
		if (l->kind != K_SNAP)
			dir.node = NULL;
	} else if (fs_kinds[l->kind].dir) {
		path_dir(fs, l, ret, size);
		return;
	} else {
		base_name(fs, l, base, sizeof base);
		dir.kind = fs_kinds[l->kind].parent;
		dir.node = NULL;
	}
	path_dir(fs, &dir, ret, size);
	size_t n = strlen(ret);
	snprintf(ret + n, size - n, "%s%s", n ? "/" : "", base);
}
