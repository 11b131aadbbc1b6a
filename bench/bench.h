/* bench.h - what the parts of vec-bench share.
 *
 *	set_load()        the user's files become one file of float32, mapped by everyone
 *	set_truth()       exact neighbours, read or computed
 *	engine_*          the systems under measurement: the library and the peers are processes of
 *	                  their own, spoken to over pipes; socket and mount are a daemon's two faces
 *	curve_measure()   recall and time at rising ef, in interleaved rounds
 *	loads_measure()   ingest, batches, mixes, questions while records come in
 *	report_*, plot_*  what is printed, written and drawn
 *
 * vec-bench is a tool: what fails ends the run with a message.  Functions that can fail because of
 * the user's data or of the system return 0 or a negative errno with the reason in 'err'.
 */
#ifndef VECFS_BENCH_BENCH_H
#define VECFS_BENCH_BENCH_H

#include <pthread.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/err.h"
#include "client/client.h"

#define BENCH_K       10u /* recall is recall@10 */
#define ENGINES_MAX   8u
#define POINTS_MAX    32u
#define ROUNDS_MAX    31u
#define LEVELS        4u
#define THREADS_MAX   64u
#define QUERIES_MAX   100000u
#define BENCH_NO_ROW  UINT32_MAX
#define BENCH_RAW_MAX (VX_DIM_MAX * sizeof(float))

extern const double bench_levels[LEVELS]; /* 0.90 0.95 0.99 0.999 */

/* --- data (data.c, truth.c) ---------------------------------------------------------- */
struct set {
	char name[64];
	char base_file[1024], query_file[1024]; /* the user's */
	char dir[512];                          /* base.f32, query.f32, answers, times */
	enum vx_metric metric;
	const char *quant; /* codes of vecfs */
	uint32_t dim;
	size_t n, nq;
	const float *base, *query; /* mapped */
	size_t base_bytes, query_bytes;
	uint32_t *truth;  /* nq x BENCH_K rows */
	float *truth_far; /* nq: distance of the last of them (set_distance) */
	double truth_s;   /* 0: read from a file */
};

/* Reads both files (any format of lib/codec, .zst through zstd(1)) into DIR, which exists; at most
 * 'queries_max' questions (0: all). */
VX_MUST_CHECK
int set_load(struct set *s, const char *base, const char *query, const char *format,
	size_t queries_max, struct vx_err *err);
void set_release(struct set *s);
/* Whether a file's rows have no ids of their own, so that vec-put gives them their numbers. */
bool set_is_rows(const char *file, const char *format);

/* The floats under a header as DIR/base.fbin, for files whose records have ids of their own or are
 * packed. */
VX_MUST_CHECK
int set_write_fbin(const struct set *s, char *ret, size_t size, struct vx_err *err);

/* Smaller is closer: squared L2, 1 - cos, or the negative inner product. */
float set_distance(const struct set *s, size_t query, uint32_t row);

/* Exact neighbours among the first 'n' rows, by all of 'threads' cores: nq x k rows. */
VX_MUST_CHECK
int truth_compute(const struct set *s, size_t n, uint32_t k, unsigned threads, uint32_t *ret);
/* Fills truth and truth_far: from 'file' (.ivecs, may be .zst; verified on a sample), or computed
 * when it is NULL.  'cache' (may be NULL) is a file of truths to read or to leave behind. */
VX_MUST_CHECK
int set_truth(
	struct set *s, const char *file, const char *cache, unsigned threads, struct vx_err *err);
VX_MUST_CHECK
int truth_write(const char *file, const uint32_t *truth, size_t nq, uint32_t k, struct vx_err *err);
/* Of nq x BENCH_K answered rows (BENCH_NO_ROW: none).  An answer as near as the last true
 * neighbour is true, so that ties cost nobody anything; a row counts once. */
double set_recall(const struct set *s, const uint32_t *answers);

/* The nearest few of a stream, for truths. */
struct nearest {
	float d;
	uint32_t row;
};
void nearest_add(struct nearest *a, uint32_t *n, uint32_t k, float d, uint32_t row);

/* --- engines (engine.c, engine_library.c, engine_daemon.c) ----------------------------- */
struct point {
	unsigned ef; /* 0: the default */
	double recall;
	unsigned rounds;
	double s[ROUNDS_MAX];               /* seconds per question, one per round */
	double median;                      /* of those */
	double cpu[ROUNDS_MAX], cpu_median; /* the asking thread's own time; library and peers */
	double distances;                   /* between codes, per question; library, 0: unknown */
};

struct engine;
struct engine_ops {
	/* Asks all questions once; fills the engine's answers.  'us' (may be NULL): nq times. */
	int (*search)(struct engine *e, unsigned ef, double *us, double *ret_s, struct vx_err *err);
	void (*close)(struct engine *e);
};

struct engine {
	const char *name;
	const struct engine_ops *ops;
	struct set *set;
	struct daemon *daemon; /* socket and mount */

	/* a process */
	pid_t pid;
	FILE *to, *from;

	uint32_t *answers;       /* nq x BENCH_K */
	double *times;           /* nq microseconds */
	double search_cpu_s;     /* of the last search; 0: unknown */
	double search_distances; /* per question of the last search; 0: unknown */

	double build_s, build_cpu_s;
	uint64_t rss_bytes, index_bytes; /* growth of anonymous memory; what it says itself */
	unsigned ef_default, build_threads;
	char note[100];

	unsigned npoints;
	struct point points[POINTS_MAX]; /* [0] is the default */
	int fd;                          /* mount: the held question */
};

/* Starts the process of 'name' ("library", "hnswlib", "faiss") and shows it the set. */
VX_MUST_CHECK
int engine_spawn(struct engine *e, const char *name, struct set *s, struct vx_err *err);
/* Builds over the first 'n' rows (again: drops what was built before). */
VX_MUST_CHECK
int engine_build(struct engine *e, size_t n, unsigned threads, struct vx_err *err);
VX_MUST_CHECK
int engine_parallel(struct engine *e, unsigned ef, unsigned threads, double seconds,
	double *ret_qps, struct vx_err *err);
void engine_close(struct engine *e);
/* The child's side of "library": answers commands until the pipe ends. */
int engine_library_main(FILE *in, FILE *out);

/* The program 'name' beside this one, or in ../libexec/vecfs, ../sbin or PATH; false: not there. */
bool bench_find_program(const char *name, char *ret, size_t size);

/* A daemon of our own in the set's directory, or one that runs ('place': a mount or a socket). */
struct daemon {
	char dir[600], data[640], mnt[640], socket[640], log[640];
	pid_t pid; /* 0: not ours */
	bool mounted;
	char why_no_mount[300];
	char coll[VX_NAME_MAX + 1];
	struct client_place place;
	struct client *c;
	char query_ids[800];

	double put_s, ready_s; /* vec-put; from its start until the index was ready */
	double jsonl_put_s, jsonl_ready_s;
	double bare_s; /* the library's build: mean of one before and one after; 0: none */
	size_t jsonl_n;
	uint64_t rss, rss_anon, rss_file, rss_peak, index_bytes;
};
VX_MUST_CHECK
int daemon_start(struct daemon *d, const struct set *s, const char *place, bool want_mount,
	struct vx_err *err);
/* Puts the base by vec-put and waits for the index; fills the times and the memory. */
VX_MUST_CHECK
int daemon_ingest(struct daemon *d, const struct set *s, const char *format, struct vx_err *err);
VX_MUST_CHECK
int daemon_ingest_jsonl(struct daemon *d, const struct set *s, struct vx_err *err);
void daemon_stop(struct daemon *d, bool keep);
VX_MUST_CHECK
int daemon_set_ef(struct daemon *d, unsigned ef, struct vx_err *err);
void engine_socket_init(struct engine *e, struct daemon *d, struct set *s);
VX_MUST_CHECK
int engine_mount_init(struct engine *e, struct daemon *d, struct set *s, struct vx_err *err);
/* One question over the socket. */
VX_MUST_CHECK
int daemon_ask(struct client *c, const struct daemon *d, const struct set *s, size_t first,
	uint32_t count, unsigned ef, struct client_answers *ret, struct vx_err *err);
/* "vec-put ..." with the daemon's socket, started; its pid, or a negative errno. */
pid_t daemon_run(const struct daemon *d, char *const argv[]);
int daemon_wait(pid_t pid); /* its exit status, or -1 */

/* --- measuring (curve.c, loads.c) -------------------------------------------------------- */
/* All engines at rising ef, in interleaved rounds. */
VX_MUST_CHECK
int curve_measure(struct engine *const *e, unsigned n, unsigned rounds, struct vx_err *err);
/* Seconds per question at a recall, interpolated linearly in ef; 0: not reached. */
double curve_at(const struct engine *e, double recall);
/* The same by the CPU time of the asking thread, which others on the machine disturb less. */
double curve_cpu_at(const struct engine *e, double recall);
/* Distances per question at a recall, interpolated alike; 0: unknown or not reached. */
double curve_distances_at(const struct engine *e, double recall);
/* The point of highest recall. */
const struct point *curve_best(const struct engine *e);
int cmp_double(const void *a, const void *b);

struct latency {
	bool there;
	double p50, p95, p99, mean; /* microseconds */
	size_t count;
};
void latency_of(double *us, size_t n, struct latency *ret);

struct mix {
	unsigned search_percent;
	double seconds, ops_s;
	struct latency search, put;
};
#define MIXES    3u
#define WAYS_MAX 8u

/* --- the least a mount costs (floor.c) ----------------------------------------------------- */
struct floor {
	char dir[600];
	int fd;
	pid_t pid;
};
/* A file system that does nothing.  -EIO without /dev/fuse. */
VX_MUST_CHECK
int floor_open(struct floor *f, struct vx_err *err);
void floor_close(struct floor *f);
/* Writes every question and reads an answer that was there already; us[i] each. */
VX_MUST_CHECK
int floor_ask(struct floor *f, const struct set *s, double *us, struct vx_err *err);

struct loads {
	unsigned n_ways;
	struct {
		char name[48];
		struct latency l;
	} ways[WAYS_MAX];
	unsigned cores;
	double library_qps, batch_qps, batch_client_cpu; /* of the batch run, in cores */
	unsigned batch_size;
	struct mix mixes[MIXES];
	struct latency idle, during;
	double during_rate; /* records per second that came in meanwhile */
};
VX_MUST_CHECK
int loads_measure(struct loads *l, struct engine *const *e, unsigned n, struct daemon *d,
	const struct set *s, unsigned cores, unsigned rounds, double seconds, struct vx_err *err);

/* Sizes at which --growth was measured. */
#define GROWTH_MAX 16u
struct growth {
	unsigned n;
	struct growth_point {
		size_t rows;
		unsigned n_engines;
		struct {
			const char *name;
			double build_s, at95_s, at95_distances, recall_default, default_s;
			uint64_t bytes;
		} e[ENGINES_MAX];
	} at[GROWTH_MAX];
};

/* --- results (report.c, plot.c) ----------------------------------------------------------- */
struct results {
	const struct set *set;
	unsigned rounds, threads, pinned_core;
	unsigned n_engines;
	struct engine *engines[ENGINES_MAX];
	struct daemon *daemon; /* NULL: none was used */
	struct loads loads;
	bool have_loads;
	struct growth growth;
	bool peers;
};
void report_table(const struct results *r);
/* The last line; false: hnswlib was not measured. */
bool report_last_line(const struct results *r);
VX_MUST_CHECK
int report_json(const struct results *r, const char *file, struct vx_err *err);
VX_MUST_CHECK
int plot_all(const struct results *r, const char *dir, struct vx_err *err);
const struct engine *results_engine(const struct results *r, const char *name);
/* Of index and codes, without the full vectors: the larger of what it says and what it grew by. */
uint64_t engine_bytes(const struct engine *e);

/* --- making sets (make.c, make_kinds.c) ----------------------------------------------------- */
struct make_opts {
	size_t n, queries;
	uint32_t dim; /* 0: the kind's */
	const char *kind;
	uint64_t seed;
	const char *base, *query, *truth; /* files; truth may be NULL */
	unsigned threads;
};
VX_MUST_CHECK
int make_set(const struct make_opts *o, struct vx_err *err);

/* splitmix64: one stream per (seed, block), so that a set does not depend on the threads. */
struct rng {
	uint64_t s;
	bool have;
	float spare;
};
static inline uint64_t rng_u64(struct rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}
static inline float rng_unit(struct rng *r) /* [0, 1) */
{
	return (float)(rng_u64(r) >> 40) * 0x1p-24f;
}
float rng_gauss(struct rng *r);

#endif
