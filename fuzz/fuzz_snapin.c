/* Fuzzes the receiving end of a snapshot: files come in pieces of the input's choice, some damaged, some too long, some missing.
 * What is published is what the manifest says, byte for byte, and is published exactly when all of it came whole and in
 * order; else nothing is.
 *
 *	byte 0		files: 1 to 3
 *	a byte each	its length, times 61
 *	then pieces	a byte each: bits 0-5 the length, times 97; bits 6, 7: 0, 1 of the file under way; 2 one byte of it
 *			damaged; 3 as long as it says, whatever is left of the file; 0xff: the file is said to be here already
 */
#define snapshot_open    stub_snapshot_open
#define snapshot_names   stub_snapshot_names
#define home_space_check stub_home_space_check
#define snap_make_dir    stub_snap_make_dir
#define snap_remove_dir  stub_snap_remove_dir
#define snap_publish     stub_snap_publish
#define snap_check_slice stub_snap_check_slice
#define snap_load        stub_snap_load
#define snap_path_of     stub_snap_path_of
#define snap_sum         stub_snap_sum
#define snap_sync        stub_snap_sync
#include "cluster/snapin.c"

#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILES_MAX 3u
#define BYTES_MAX (255u * 61u)

static char dir[64];
static struct manifest m;
static uint8_t bytes[FILES_MAX][BYTES_MAX];
static bool published;

static void must(bool ok)
{
	if (!ok)
		abort();
}

int snapshot_open(struct db *db, const char *coll, const char *name, const char *file)
{
	(void)db;
	(void)coll;
	(void)name;
	(void)file;
	return -ENOENT;
}

int snapshot_names(struct db *db, const char *coll, struct buf *ret)
{
	(void)db;
	(void)coll;
	(void)ret;
	return 0;
}

int home_space_check(struct db *db, size_t need, bool frees, struct vx_err *err)
{
	(void)db;
	(void)need;
	(void)frees;
	(void)err;
	return 0;
}

int snap_make_dir(struct db *db, const char *coll, const char *name, char ret[SNAP_PATH_MAX],
	struct vx_err *err)
{
	(void)db;
	(void)coll;
	(void)name;
	(void)err;
	must(mkdir(dir, 0700) == 0);
	(void)snprintf(ret, SNAP_PATH_MAX, "%s", dir);
	return 0;
}

void snap_remove_dir(const char *path)
{
	char file[128];

	for (size_t i = 0; i < FILES_MAX; i++) {
		(void)snprintf(file, sizeof file, "%s/s000.00000%zu.vec", path, i);
		(void)unlink(file);
	}
	must(rmdir(path) == 0);
}

int snap_publish(struct db *db, const char *path, const char *coll, const char *name,
	const void *manifest, size_t len, struct vx_err *err)
{
	static uint8_t got[BYTES_MAX + 1];
	char file[128];

	(void)db;
	(void)coll;
	(void)name;
	(void)manifest;
	(void)len;
	(void)err;
	for (size_t i = 0; i < m.n_files; i++) {
		(void)snprintf(file, sizeof file, "%s/%s", path, m.files[i].name);
		int fd = open(file, O_RDONLY | O_CLOEXEC);
		must(fd >= 0);
		must(read(fd, got, sizeof got) == (ssize_t)m.files[i].size);
		must(memcmp(got, bytes[i], (size_t)m.files[i].size) == 0);
		close(fd);
	}
	published = true;
	return 0;
}

int snap_check_slice(const char *path, const struct manifest_slice *s, snap_stop_fn *stop,
	void *ctx, int (*each)(void *arg, const struct vx_record *rec, struct vx_err *err),
	void *arg, struct vx_err *err)
{
	(void)path;
	(void)s;
	(void)stop;
	(void)ctx;
	(void)each;
	(void)arg;
	(void)err;
	return 0;
}

int snap_load(
	struct db *db, const char *coll, const char *name, struct manifest *ret, struct vx_err *err)
{
	(void)db;
	(void)coll;
	(void)name;
	(void)ret;
	(void)err;
	return -ENOENT;
}

int snap_path_of(const struct db *db, const char *coll, const char *name, const char *file,
	char ret[SNAP_PATH_MAX])
{
	(void)db;
	(void)coll;
	(void)name;
	(void)file;
	(void)ret;
	abort();
}

int snap_sum(const char *path, snap_stop_fn *stop, void *ctx, uint64_t *ret_size, uint64_t *ret_sum,
	struct vx_err *err)
{
	(void)path;
	(void)stop;
	(void)ctx;
	(void)ret_size;
	(void)ret_sum;
	(void)err;
	abort();
}

int snap_sync(const char *path, struct vx_err *err)
{
	(void)path;
	(void)err;
	abort();
}

/* Blocks of zeros in the middle of each, which become holes. */
static void make_files(const uint8_t *sizes, size_t n)
{
	char name[MANIFEST_FILE_MAX + 1];

	for (size_t i = 0; i < n; i++) {
		size_t len = (size_t)sizes[i] * 61;
		for (size_t j = 0; j < len; j++)
			bytes[i][j] = j / 4096 == 1 ? 0 : (uint8_t)(1 + i * 7 + j % 251);
		(void)snprintf(name, sizeof name, "s000.00000%zu.vec", i);
		must(manifest_add_file(&m, name, len, hash_xxh3(bytes[i], len, 0)) == 0);
	}
}

/* Feeds the pieces: 1 all of it came, 0 some did not, -1 a piece was refused. */
static int feed(struct snap_in *in, const uint8_t *p, size_t n)
{
	struct vx_err err = VX_ERR_INIT;
	size_t at = 0, have = 0;
	bool flipped = false;

	for (; n; p++, n--) {
		size_t len = (size_t)(*p & 63) * 97, left = 0;
		bool good = at < m.n_files;

		if (*p == 0xff) {
			must(snapshot_in_link(in, &err) < 0); /* no snapshot is here */
			must(err.msg[0]);
			return -1;
		}
		if (good)
			left = (size_t)m.files[at].size - have;
		if (*p >> 6 != 3)
			len = VX_MIN(len, left);
		uint8_t *piece = calloc(1, len ? len : 1);
		must(piece != NULL);
		if (good && len)
			memcpy(piece, bytes[at] + have, VX_MIN(len, left));
		if (*p >> 6 == 2 && len)
			piece[len / 2] ^= 1;
		flipped |= *p >> 6 == 2 && len;
		have += len;
		good &= len <= left && !(len == left && flipped);
		int rc = snapshot_in_write(in, piece, len, &err);
		free(piece);
		must((rc == 0) == good);
		if (rc) {
			must(rc == -EUCLEAN && err.msg[0]);
			return -1;
		}
		if (len == left) {
			at++;
			have = 0;
		}
	}
	while (at < m.n_files && have == 0 && m.files[at].size == 0)
		at++;
	return at == m.n_files;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vx_err err = VX_ERR_INIT;
	struct buf text = BUF_INIT;
	struct snap_in *in;

	if (size < 4 || size > 1024)
		return 0;
	if (!dir[0])
		(void)snprintf(dir, sizeof dir, "/dev/shm/vecfs-fuzz-snapin-%ld", (long)getpid());
	size_t n = 1 + data[0] % FILES_MAX;
	m = (struct manifest){.name = "one", .coll = "docs", .cid = 3};
	make_files(data + 1, n);
	published = false;
	must(manifest_print(&m, &text) == 0);
	must(snapshot_in_begin(NULL, "docs", NULL, text.data, text.len, &in, &err) == 0);
	int came = feed(in, data + 1 + n, size - 1 - n);
	if (came >= 0) /* who was refused something does not ask for more */
		must((snapshot_in_finish(in, &err) == 0) == (came == 1));
	must(published == (came == 1));
	if (published)
		snap_remove_dir(dir);
	must(published == in->done);
	snapshot_in_free(in);
	buf_release(&text);
	manifest_release(&m);
	return 0;
}
