/* quota.c - memory.max and quota.max: what a collection, and the node, may hold.
 *
 * Both are asked before a batch is proposed, because a committed entry is never refused.  Deletes always pass, and
 * the compaction that follows them gives back what they freed.
 *
 *	memory.max   anonymous memory: codes, links and tables of the index.  Vectors are read from files, whose
 *	             pages the kernel takes back when it needs them.  The node's own limit, where none is given, is
 *	             four fifths of what the machine or its control group allows.
 *	quota.max    disk: vectors, SQLite, checkpoints.
 *
 * Figures are taken at most every QUOTA_RECHECK_NS; what was let in since is added as an estimate, so that a
 * fast writer overshoots by no more than what is in flight.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cluster/db_i.h"

#define QUOTA_RECHECK_NS  (50u * 1000000u)
#define DU_RECHECK_NS     (2000u * 1000000u)
#define MEMORY_SHARE      80u         /* percent of what the machine has: writers */
#define COMPACTION_SHARE  95u         /* and with the second copy of a compaction */
#define SPARE_BYTES       (32u << 20) /* what is left in any case to the kernel and to files */
#define RECORD_DISK_BYTES 224u        /* beside the entry: slot row, SQLite's row and key */
#define RECORD_MEMORY     32u /* beside code and links: scale, lengths, flags, upper layers */
#define CGROUP_PATH_MAX   512u

/* --- what the machine allows --------------------------------------------------------- */
static uint64_t read_number(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	return n > 0 ? strtoull(text, NULL, 10) : 0; /* "max" is 0: none */
}

/* The least limit of a control group and those above it; 'root' is where their tree is mounted. */
static uint64_t group_limit(const char *root, const char *group, const char *file)
{
	char path[2 * CGROUP_PATH_MAX], at[CGROUP_PATH_MAX];
	uint64_t least = UINT64_MAX;

	snprintf(at, sizeof at, "%s", group);
	for (;;) {
		snprintf(path, sizeof path, "%s%s/%s", root, at, file);
		uint64_t v = read_number(path);
		if (v)
			least = VX_MIN(least, v);
		char *slash = strrchr(at, '/');
		if (!slash)
			return least;
		*slash = 0;
	}
}

static uint64_t cgroup_limit(void)
{
	char line[CGROUP_PATH_MAX];
	uint64_t least = UINT64_MAX;
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
		if (!group)
			continue;
		*group++ = 0;
		uint64_t v = UINT64_MAX;
		if (names[1] == 0) {
			v = group_limit("/sys/fs/cgroup", group, "memory.max");
			v = VX_MIN(v, group_limit("/sys/fs/cgroup/unified", group, "memory.max"));
		} else if (strstr(names + 1, "memory")) {
			v = group_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
		}
		least = VX_MIN(least, v);
	}
	if (f)
		fclose(f);
	return least;
}

static uint64_t machine_memory(void)
{
	uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	return VX_MIN(ram, cgroup_limit());
}

/* --- what is used ----------------------------------------------------------------------- */
/* Anonymous memory of the process. */
static uint64_t anon_bytes(void)
{
	char text[128] = "";
	unsigned long long size, resident = 0, shared = 0;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0 || sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3)
		return 0;
	return (resident - VX_MIN(shared, resident)) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static _Thread_local uint64_t du_sum;

static int du_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)path;
	(void)ftw;
	if (flag == FTW_F)
		du_sum += (uint64_t)st->st_blocks * 512;
	return 0;
}

static uint64_t du(const char *dir)
{
	du_sum = 0;
	(void)nftw(dir, du_one, 32, FTW_PHYS);
	return du_sum;
}

/* --- the question ------------------------------------------------------------------------- */
struct want {
	uint64_t disk, memory;
};

static struct want want_of(const struct coll *c, size_t bytes, uint32_t count)
{
	uint64_t code = VX_ALIGN_UP(coll_dim(c), 64u);

	return (struct want){
		.disk = bytes + (uint64_t)count * RECORD_DISK_BYTES,
		.memory = (uint64_t)count *
			  (code + VX_ALIGN_UP(8u * c->links, 64u) + RECORD_MEMORY),
	};
}

static int refuse(
	struct vx_err *err, const char *whose, const char *name, uint64_t used, uint64_t max)
{
	return vx_err_set(err, -EDQUOT,
		"%s: %s is %llu bytes, and %llu are used; deletes still work", whose, name,
		(unsigned long long)max, (unsigned long long)used);
}

static int check_coll(struct coll *c, const struct want *w, bool keep, struct vx_err *err)
{
	uint64_t memory = atomic_load_explicit(&c->memory_max, memory_order_relaxed);
	uint64_t quota = atomic_load_explicit(&c->quota_max, memory_order_relaxed);
	struct db *db = c->db;
	struct coll_index_info info;
	char whose[VX_NAME_MAX + 16];

	if (!memory && !quota)
		return 0;
	uint64_t now = clock_mono_ns();
	vx_lock(&db->space_lock);
	bool stale = !c->used_ns || now - c->used_ns > QUOTA_RECHECK_NS;
	vx_unlock(&db->space_lock);
	if (stale && coll_index_info(c, &info) == 0) {
		vx_lock(&db->space_lock);
		c->used_ns = now;
		c->used_disk = info.disk_bytes;
		c->used_memory = info.memory_bytes;
		vx_unlock(&db->space_lock);
	}
	vx_lock(&db->space_lock);
	struct want after = {c->used_disk + w->disk, c->used_memory + w->memory};
	bool over_memory = memory && after.memory > memory,
	     over_quota = quota && after.disk > quota;
	uint64_t used_memory = c->used_memory, used_disk = c->used_disk;
	if (keep && !over_memory && !over_quota) {
		c->used_disk = after.disk;
		c->used_memory = after.memory;
	}
	vx_unlock(&db->space_lock);
	snprintf(whose, sizeof whose, "collection '%s'", c->name);
	if (over_memory)
		return refuse(err, whose, "memory.max", used_memory, memory);
	return over_quota ? refuse(err, whose, "quota.max", used_disk, quota) : 0;
}

/* A share of what the machine has, such that something is left where that is little. */
static uint64_t share_of(const struct db *db, unsigned percent)
{
	uint64_t all = db->machine_memory, share = all / 100 * percent;

	return VX_MIN(share, all > 2 * SPARE_BYTES ? all - SPARE_BYTES : all / 2);
}

static int check_node(struct db *db, const struct want *w, bool keep, struct vx_err *err)
{
	uint64_t memory = atomic_load_explicit(&db->memory_max, memory_order_relaxed);
	uint64_t quota = atomic_load_explicit(&db->quota_max, memory_order_relaxed);
	uint64_t now = clock_mono_ns();

	if (!memory)
		memory = share_of(db, MEMORY_SHARE);
	vx_lock(&db->space_lock);
	if (!db->memory_ns || now - db->memory_ns > QUOTA_RECHECK_NS) {
		db->memory_ns = now;
		db->used_memory = anon_bytes();
	}
	bool stale = quota && (!db->quota_ns || now - db->quota_ns > DU_RECHECK_NS);
	if (stale)
		db->quota_ns = now;
	vx_unlock(&db->space_lock);
	uint64_t disk = stale ? du(db->dir) : 0;
	vx_lock(&db->space_lock);
	if (stale)
		db->used_disk = disk;
	struct want after = {db->used_disk + w->disk, db->used_memory + w->memory};
	bool over_memory = after.memory > memory, over_quota = quota && after.disk > quota;
	uint64_t used_memory = db->used_memory, used_disk = db->used_disk;
	if (keep && !over_memory && !over_quota) {
		db->used_disk = after.disk;
		db->used_memory = after.memory;
	}
	vx_unlock(&db->space_lock);
	if (over_memory)
		return refuse(err, "this node", "memory-max", used_memory, memory);
	return over_quota ? refuse(err, "this node", "quota-max", used_disk, quota) : 0;
}

int quota_check(struct coll *c, size_t bytes, uint32_t count, struct vx_err *err)
{
	const struct want w = want_of(c, bytes, count);

	int rc = check_coll(c, &w, true, err);
	return rc ? rc : check_node(c->db, &w, true, err);
}

int quota_look(struct coll *c, size_t bytes, uint32_t count, struct vx_err *err)
{
	const struct want w = want_of(c, bytes, count);

	int rc = check_coll(c, &w, false, err);
	return rc ? rc : check_node(c->db, &w, false, err);
}

int quota_compaction(struct db *db, uint64_t memory)
{
	return anon_bytes() + memory > share_of(db, COMPACTION_SHARE) ? -ENOMEM : 0;
}

void quota_init(struct db *db)
{
	db->machine_memory = machine_memory();
	db_limits(db, db->opts.memory_max, db->opts.quota_max);
}

void db_limits(struct db *db, uint64_t memory_max, uint64_t quota_max)
{
	atomic_store_explicit(&db->memory_max, memory_max, memory_order_relaxed);
	atomic_store_explicit(&db->quota_max, quota_max, memory_order_relaxed);
}

/* "512M"; empty and "0": none. */
bool quota_parse(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	char *end;

	errno = 0;
	if (*text && (*text < '0' || *text > '9'))
		return false;
	unsigned long long v = *text ? strtoull(text, &end, 10) : 0;
	if (!*text) {
		*ret = 0;
		return true;
	}
	/* A blank without its bit is the NUL that ends 'units'. */
	const char *u = *end && *end != ' ' ? strchr(units, *end & ~0x20) : NULL;
	unsigned shift = u ? 10 * (unsigned)(u - units + 1) : 0;
	if (errno || (*end && (!u || end[1])) || v >> (63 - shift))
		return false;
	*ret = v << shift;
	return true;
}
