/* fsck_i.h - what the check of a directory and that of a node that serves it share.  Private to this directory. */
#ifndef VECFS_CLUSTER_FSCK_I_H
#define VECFS_CLUSTER_FSCK_I_H

#include <sqlite3.h>

#include "cluster/db_i.h"
#include "store/verify.h"

/* What the log has of a group. */
struct group_log {
	bool exists;
	uint64_t mark, last;
	struct buf remakes; /* cids (4 each) of slices made or dropped by entries behind the mark */
};

struct place {
	uint32_t cid, first, last, shard;
};

struct node_check {
	struct db db; /* dir, node_id, n_shards */
	struct verify *v;
	void *ctx; /* the caller's */
	void (*found)(void *ctx, const struct verify_finding *f);
	struct vx_err *err;
	bool log_known, catalog_known;
	uint64_t catalog_claim;
	struct group_log *groups;
	uint32_t n_groups;
	struct buf places; /* struct place */
	uint32_t shard;    /* being verified */
};

/* Of n->db.dir/catalog.mark; before the catalog is looked at. */
VX_MUST_CHECK
int fsck_catalog_claim(struct node_check *n);
/* Every row of the catalog, whose pages were looked at already; fills n->places.  -EUCLEAN: said. */
VX_MUST_CHECK
int fsck_catalog_rows(struct node_check *n, sqlite3 *sq, const char *path);

#endif
