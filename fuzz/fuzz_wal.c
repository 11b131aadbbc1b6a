/* Fuzzes the opening of a log.  The input is segments in pieces (fuzz/wal_layout.h), on a disk in memory; half of the
 * inputs get their checksums set right, so that what lies behind them is reached.  A log that opens must load, take
 * another record, and say the same when opened again; one that does not must leave every file as it was.  Inputs of odd
 * length are opened by somebody who can do without most groups: those that damage concerns stay stopped. */
#include "fuzz/wal_layout.h"

struct sum {
	struct wal *w;
	uint64_t sum;
};

/* Everything the log says of a group goes into one number. */
static int sum_group(void *arg, uint32_t group)
{
	struct sum *s = arg;
	struct wal_group_state st;
	const char *why = wal_stopped(s->w, group);

	if (why) {
		must(wal_group_load(s->w, group, &st, NULL) == -EUCLEAN);
		s->sum += hash_xxh3(why, strlen(why), group);
		return 0;
	}
	must(wal_group_load(s->w, group, &st, NULL) == 0);
	must(st.exists);
	const uint64_t fixed[] = {
		group, st.term, st.vote, st.mark_index, st.mark_term, st.n_entries};
	uint64_t sum = hash_xxh3(fixed, sizeof fixed, 0);
	sum = hash_xxh3(st.manifest, st.manifest_len, sum);
	for (size_t i = 0; i < st.n_entries; i++) {
		const struct wal_entry *e = &st.entries[i];
		const uint64_t head[] = {e->index, e->term, e->etype};
		must(e->index == st.mark_index + 1 + i);
		sum = hash_xxh3(e->data, e->len, hash_xxh3(head, sizeof head, sum));
	}
	wal_group_state_release(&st);
	s->sum += sum;
	return 0;
}

static uint64_t sum_of(struct wal *w)
{
	struct sum s = {.w = w};

	must(wal_groups(w, sum_group, &s) == 0);
	return s.sum;
}

static void use(struct disk *d, struct wal *w, const struct wal_opts *o)
{
	struct wal_rec vote = {.group = 77, .type = WAL_HARDSTATE, .term = 5, .vote = 6};
	uint64_t before = sum_of(w);

	wal_close(w);
	fakedisk_crash(d, before);
	must(wal_open(d, "wal", o, &w, NULL) == 0);
	must(sum_of(w) == before);
	int rc = wal_stopped(w, vote.group) ? 0 : wal_stage(w, &vote);
	must(rc == 0 || rc == -EUSERS);
	must(wal_flush(w) == 0);
	/* What a header says of its segment's length may have filled the disk. */
	rc = wal_upkeep(w);
	must(rc == 0 || rc == -ENOSPC);
	uint64_t after = sum_of(w);
	wal_close(w);
	must(wal_open(d, "wal", o, &w, NULL) == 0);
	must(sum_of(w) == after);
	wal_close(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wal_opts o = {.segment_size_bytes = SEGMENT,
		.node_id = 1,
		.stop_first = 2,
		.n_stop = size % 2 ? 100 : 0};
	struct vx_err err = VX_ERR_INIT;
	struct wal *w = NULL;

	if (size < 1 || size > 256u << 10)
		return 0;
	struct disk *d = fakedisk_new();
	must(d != NULL);
	lay_out(d, data, size);
	struct disk *before = fakedisk_clone(d);
	must(before != NULL);
	/* A header may say that its segment is a GiB long; a short file is then filled up. */
	fakedisk_limit(d, 32 * SEGMENT);
	int rc = wal_open(d, "wal", &o, &w, &err);
	if (rc == 0) {
		use(d, w, &o);
	} else {
		must(w == NULL);
		must(err.msg[0] != '\0');
		must(rc == -ENOSPC || fakedisk_same(before, d));
	}
	must(fakedisk_open_handles(d) == 0);
	fakedisk_free(before);
	fakedisk_free(d);
	return 0;
}
