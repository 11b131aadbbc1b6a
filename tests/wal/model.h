/* model.h - what a log should hold, kept in plain memory.
 *
 * A test stages the same records into the log and into a list; a crash must leave the state
 * of everything acknowledged, or that plus a first part of what was not.
 */
#ifndef VECFS_TESTS_WAL_MODEL_H
#define VECFS_TESTS_WAL_MODEL_H

#include "wal/wal.h"

#define MODEL_GROUPS 8u /* ids 1 .. MODEL_GROUPS */

/* The data of a record is made from its seed, so that the model need not keep it. */
struct model_rec {
	struct wal_rec rec; /* data: NULL */
	uint64_t seed;
};

struct model_entry {
	uint64_t term, seed;
	size_t len;
	uint8_t etype;
};

struct model_group {
	bool exists;
	uint64_t term, vote, mark, mark_term, manifest_seed;
	size_t manifest_len;
	struct model_entry *e; /* mark + 1 .. mark + n */
	size_t n, cap;
};

struct model {
	struct model_group g[MODEL_GROUPS];
};

void model_release(struct model *m);
void model_copy(struct model *to, const struct model *from);
void model_apply(struct model *m, const struct model_rec *r);

/* The bytes that 'seed' stands for. */
void model_fill(uint8_t *p, size_t n, uint64_t seed);

/* Stages the record with its data. */
int model_stage(struct wal *w, const struct model_rec *r);

/* A record that may follow in the state 'm'; payloads of at most 'max_len'. */
struct model_rec model_random(const struct model *m, uint64_t *rng, size_t max_len);

/* What the log holds, once loaded, to be compared many times. */
struct loaded {
	struct wal_group_state g[MODEL_GROUPS];
};
int model_load(struct wal *w, struct loaded *ret, struct vx_err *err);
void loaded_release(struct loaded *l);

/* NULL, or how they differ (a static string). */
const char *model_differs(const struct model *m, const struct loaded *l);

uint64_t model_rng(uint64_t *state);

/* Opens the log in 'dir', or fails the test with the reason. */
struct wal *log_must_open(struct disk *d, const char *dir, const struct wal_opts *o);

#endif
