/* repl_accept.c - a stopped group begins anew, because somebody accepts what it lost.
 *
 * The log gets a RESET: a mark that vouches for the store as it is, and a configuration of this node alone.  Its
 * index is beyond any that the group may have had, so that no entry it lost and no answer to one is ever taken for a new one;
 * its term is too.  The verdict goes last: a crash on the way leaves the group stopped, to be accepted again.
 */
#include "raft/repl.h"

#include <inttypes.h>

#include <raft.h>

#include "raft/repl_core_i.h"

/* What was lost may have gone beyond what is left: no log of a group is as long as this, or has as many terms. */
#define LEAP UINT64_C(1000000)

static int stage(struct wal *w, uint32_t group, uint64_t node_id, uint64_t index, uint64_t term)
{
	struct raft_buffer blob = {NULL, 0};
	struct repl_manifest m = {.conf_index = index};
	struct buf b = BUF_INIT;
	char address[REPL_ADDRESS_MAX];

	repl_address_of(node_id, address);
	raft_configuration_init(&m.conf);
	int rc = repl_errno_from_raft(
		raft_configuration_add(&m.conf, node_id, address, RAFT_VOTER));
	if (rc == 0)
		rc = repl_blob_make(index, term, NULL, 0, &blob);
	m.host = blob.base;
	m.host_len = blob.len;
	if (rc == 0)
		rc = repl_manifest_encode(&m, &b);
	if (rc == 0)
		rc = wal_stage(w, &(struct wal_rec){.group = group,
					  .type = WAL_RESET,
					  .index = index,
					  .term = term,
					  .data = b.data,
					  .len = b.len});
	if (rc == 0)
		rc = wal_stage(
			w, &(struct wal_rec){.group = group, .type = WAL_HARDSTATE, .term = term});
	raft_configuration_close(&m.conf);
	raft_free(blob.base);
	buf_release(&b);
	return rc;
}

int repl_accept_loss(
	const struct repl_opts *opts, uint32_t group, uint64_t applied, struct vx_err *err)
{
	struct wal *w = NULL;
	uint64_t term = 0, index = 0;
	int rc = wal_open(opts->disk, opts->wal_dir, &opts->wal, &w, err);

	if (rc)
		return rc;
	rc = wal_lift(w, group, &term, &index);
	if (rc)
		vx_err_set(err, rc, "group %u is not stopped: it has lost nothing", group);
	index = VX_MAX(index, applied);
	if (rc == 0 && (index >= INT64_MAX - LEAP || term >= INT64_MAX - LEAP))
		rc = vx_err_set(err, -EUCLEAN,
			"group %u: an index of %" PRIu64 " or a term of %" PRIu64 " cannot be",
			group, index, term);
	if (rc == 0)
		rc = stage(w, group, opts->node_id, index + LEAP, term + LEAP);
	if (rc == 0)
		rc = wal_flush(w);
	if (rc == 0)
		rc = wal_forget(w, group);
	wal_close(w);
	if (rc && err && !err->msg[0])
		vx_err_set(err, rc, "%s: group %u: %s", opts->wal_dir, group, strerror(-rc));
	return rc;
}
