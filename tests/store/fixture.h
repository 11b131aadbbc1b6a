/* fixture.h - a shard in a temporary directory, a log of entries, and a model of one slice. */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "store/store.h"

#define DIM   7u
#define CID   17u
#define N_IDS 60u

struct logged {
	uint64_t index;
	struct buf data;
};

struct model_rec {
	bool exists;
	uint64_t version;
	uint64_t mtime_ns; /* of fix_random_entry and fix_upsert */
	float vec[DIM];
	char meta[32];
	char text[40]; /* "": none */
};

struct fix {
	char dir[256];
	struct disk *disk;
	struct shard *s;
	struct logged *log;
	size_t n_log;
	uint64_t mark; /* entries at or below are not replayed */
	uint64_t seq;
	struct model_rec m[N_IDS];
	uint64_t rng;
};

uint64_t fix_rnd(struct fix *f);
void fix_init(struct fix *f, struct disk *disk);
void fix_release(struct fix *f);
void fix_open(struct fix *f);
void fix_close(struct fix *f, bool save);
/* Applies everything above the mark again. */
void fix_replay(struct fix *f);
/* An entry of kind CREATE or DROP, applied. */
int fix_create(struct fix *f, uint32_t cid);
int fix_drop(struct fix *f, uint32_t cid);
/* The id of number i: some are short, some longer than a slot row holds. */
size_t fix_id(uint32_t i, char *ret);
/* Makes the next entry of up to 'max' random records (not applied) and puts what they do into the
 * model; 'expect' gets the result of each. */
struct logged *fix_random_entry(struct fix *f, uint32_t max, uint8_t *expect, uint32_t *ret_n);
/* One upsert of id number 'i' with vector elements all 'x'. */
struct logged *fix_upsert(struct fix *f, uint32_t cid, uint32_t i, float x);
struct logged *fix_delete(struct fix *f, uint32_t cid, uint32_t i);
int fix_apply(struct fix *f, const struct logged *l, struct apply_result *res, uint8_t *recs);
void fix_mark(struct fix *f);
/* Everything a reader can ask agrees with the model. */
void fix_compare(struct fix *f);
void fix_path(const struct fix *f, const char *name, char *ret);

/* A disk that fails the n-th write-like call with an error (once), 0: never. */
struct fault_disk {
	struct disk base;
	int calls, fail_at, error;
};
void fault_disk_init(struct fault_disk *d);

#endif
