/* vec-snap.c - snapshots: take, list, rm, verify, restore, send, receive.
 *
 * send and receive carry one snapshot over a pipe.  The stream (docs/format-store.md, "The stream of a snapshot") is
 * a short head and zstd frames around:
 *
 *	M length manifest	what will come
 *	D length bytes		the next piece of the next file
 *	L			the next file is one that the receiver has already
 *	E sum			the end, with a checksum of all before it
 *
 * The daemon verifies each file against the manifest, and nothing is visible before E came and all was right.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "base/hash.h"
#include "cli_client.h"

#define PIECE_BYTES  (512u << 10)
#define MANIFEST_MAX (16u << 20)
#define HEAD_BYTES   16u
#define VERSION      1u

static const char magic[8] = {'V', 'X', 'S', 'N', 'A', 'P', 'S', 'T'};

static bool force, only;
static const char *from, *as_name;
static uint32_t level = 3;

static const struct cli_opt opts[] = {
	{"force", 'f', CLI_FLAG, &force, NULL, 0, 0,
		"restore, receive: replace the collection if it is there"},
	{"from", 0, CLI_STR, &from, "OLD", 0, 0,
		"send: leave out files that snapshot OLD has as well"},
	{"level", 'l', CLI_U32, &level, "N", 1, 19, "send: compress harder or faster (3)"},
	{"name", 'n', CLI_STR, &as_name, "NAME", 0, 0,
		"receive: call the snapshot this, not what it was called"},
	{"only", 'o', CLI_FLAG, &only, NULL, 0, 0, "receive: keep the snapshot, restore nothing"},
};
static const struct cli_tool tool = {
	.name = "vec-snap",
	.args = "VERB [COLLECTION [NAME...]]",
	.about = "Take, list, remove, verify, restore, send and receive snapshots of collections",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON,
	.more = "take COLLECTION [NAME]           take one; without NAME it is the time, printed\n"
		"list [COLLECTION]                name, time, records, bytes\n"
		"rm COLLECTION NAME...            remove\n"
		"verify COLLECTION NAME           compare every file with its checksum; 4 when "
		"damaged\n"
		"restore COLLECTION NAME [AS]     make collection AS of it (default: COLLECTION)\n"
		"send COLLECTION NAME             write it to standard output\n"
		"receive COLLECTION               read one from standard input and restore it",
};

struct job {
	struct client *c;
	struct client_place place;
	const Vecfs__SnapAnswer *a; /* of the last call */
	struct vx_err err;
};

static Vecfs__SnapRequest request(const struct job *j, int op, const char *name)
{
	Vecfs__SnapRequest m = VECFS__SNAP_REQUEST__INIT;

	m.op = (Vecfs__SnapRequest__Op)op;
	m.collection = (char *)(uintptr_t)j->place.name;
	m.name = (char *)(uintptr_t)name;
	return m;
}

static int call(struct job *j, const Vecfs__SnapRequest *m)
{
	return client_call(
		j->c, RPC_SNAP, &m->base, &vecfs__snap_answer__descriptor, &j->a, &j->err);
}

static int fail(struct job *j, int rc)
{
	return cli_fail_at(j->place.name[0] ? j->place.name : "snapshots", rc, &j->err);
}

/* --- small verbs ----------------------------------------------------------------------------- */

static int simple(struct job *j, int op, const char *name, const char *as)
{
	Vecfs__SnapRequest m = request(j, op, name);

	m.as = (char *)(uintptr_t)(as ? as : "");
	m.force = force;
	int rc = call(j, &m);
	return rc ? fail(j, rc) : CLI_DONE;
}

static int take(struct job *j, int argc, char **argv)
{
	char now[32];
	time_t t = time(NULL);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(now, sizeof now, "%Y%m%dT%H%M%SZ", &tm);
	int code = simple(j, VECFS__SNAP_REQUEST__OP__TAKE, argc ? argv[0] : now, NULL);
	if (code == CLI_DONE && argc == 0)
		cli_outf("%s\n", now);
	return code;
}

static int list(struct job *j, int argc, char **argv)
{
	Vecfs__SnapRequest m = request(j, VECFS__SNAP_REQUEST__OP__LIST, "");

	(void)argc;
	(void)argv;
	int rc = call(j, &m);
	if (rc)
		return fail(j, rc);
	for (size_t i = 0; i < j->a->n_snapshots; i++) {
		const Vecfs__SnapInfo *s = j->a->snapshots[i];
		char when[40] = "damaged";
		time_t t = (time_t)(s->time_ns / 1000000000u);
		struct tm tm;
		gmtime_r(&t, &tm);
		if (s->files)
			strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
		if (cli.json)
			cli_outf("{\"collection\":\"%s\",\"name\":\"%s\",\"time\":\"%s\","
				 "\"records\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n",
				s->collection, s->name, when, s->records, s->bytes);
		else
			cli_outf("%s\t%s\t%s\t%" PRIu64 "\t%" PRIu64 "\n", s->collection, s->name,
				when, s->records, s->bytes);
	}
	return j->a->n_snapshots ? CLI_DONE : CLI_NOTHING;
}

static int rm(struct job *j, int argc, char **argv)
{
	int code = CLI_DONE;

	for (int i = 0; i < argc; i++)
		code = cli_worse(code, simple(j, VECFS__SNAP_REQUEST__OP__REMOVE, argv[i], NULL));
	return code;
}

static int verify(struct job *j, int argc, char **argv)
{
	(void)argc;
	return simple(j, VECFS__SNAP_REQUEST__OP__VERIFY, argv[0], NULL);
}

static int restore(struct job *j, int argc, char **argv)
{
	return simple(
		j, VECFS__SNAP_REQUEST__OP__RESTORE, argv[0], argc > 1 ? argv[1] : j->place.name);
}

/* --- send ------------------------------------------------------------------------------------ */

struct sender {
	struct job *j;
	const char *name;
	ZSTD_CCtx *z;
	struct hash_stream *sum;
	uint8_t *out;
	size_t out_cap;
	uint64_t done, total;
};

static void put(struct sender *s, const void *p, size_t n, bool end)
{
	ZSTD_inBuffer in = {p, n, 0};
	size_t left;

	do {
		ZSTD_outBuffer out = {s->out, s->out_cap, 0};
		left = ZSTD_compressStream2(s->z, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left)) {
			cli_error("zstd: %s", ZSTD_getErrorName(left));
			exit(CLI_REFUSED);
		}
		cli_out(s->out, out.pos);
	} while (end ? left != 0 : in.pos < in.size);
}

static void put_summed(struct sender *s, const void *p, size_t n)
{
	hash_stream_add(s->sum, p, n);
	put(s, p, n, false);
}

static void put_piece(struct sender *s, char kind, const void *p, size_t n)
{
	uint8_t head[5] = {(uint8_t)kind};

	put_le32(head + 1, (uint32_t)n);
	put_summed(s, head, sizeof head);
	put_summed(s, p, n);
}

/* The file as pieces, or as one (the manifest). */
static int send_file(struct sender *s, const char *file, uint64_t size, bool manifest)
{
	Vecfs__SnapRequest m = request(s->j, VECFS__SNAP_REQUEST__OP__READ, s->name);
	struct buf all = BUF_INIT;
	int rc = 0;

	m.file = (char *)(uintptr_t)file;
	m.size = PIECE_BYTES;
	while (rc == 0 && m.offset < size) {
		rc = call(s->j, &m);
		if (rc == 0 && (s->j->a->data.len == 0 || s->j->a->data.len > size - m.offset))
			rc = vx_err_set(&s->j->err, -EUCLEAN,
				"%s is not as long as the manifest says", file);
		if (rc)
			break;
		if (manifest)
			rc = buf_append(&all, s->j->a->data.data, s->j->a->data.len);
		else
			put_piece(s, 'D', s->j->a->data.data, s->j->a->data.len);
		m.offset += s->j->a->data.len;
		s->done += s->j->a->data.len;
		cli_progress("sent", s->done, s->total);
	}
	if (manifest && rc == 0)
		put_piece(s, 'M', all.data, all.len);
	buf_release(&all);
	return rc;
}

struct file {
	char name[64];
	uint64_t size, sum;
};

/* The answer is gone with the next call. */
static int fetch_files(struct job *j, const char *name, struct file **ret, size_t *ret_n)
{
	Vecfs__SnapRequest m = request(j, VECFS__SNAP_REQUEST__OP__FILES, name);

	int rc = call(j, &m);
	if (rc)
		return rc;
	struct file *f = calloc(j->a->n_files + 1, sizeof *f);
	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < j->a->n_files; i++) {
		snprintf(f[i].name, sizeof f[i].name, "%s", j->a->files[i]->name);
		f[i].size = j->a->files[i]->size;
		f[i].sum = j->a->files[i]->sum;
	}
	*ret_n = j->a->n_files;
	*ret = f;
	return 0;
}

static bool has(const struct file *list, size_t n, const struct file *f)
{
	for (size_t i = 1; i < n; i++) /* 0 is the manifest */
		if (list[i].size == f->size && list[i].sum == f->sum)
			return true;
	return false;
}

static int send_all(
	struct sender *s, const struct file *f, size_t n, const struct file *old, size_t n_old)
{
	uint8_t head[HEAD_BYTES] = {0}, tail[9] = {'E'};

	memcpy(head, magic, sizeof magic);
	put_le32(head + 8, VERSION);
	cli_out(head, sizeof head);
	for (size_t i = 0; i < n; i++)
		s->total += has(old, n_old, &f[i]) ? 0 : f[i].size;
	int rc = send_file(s, f[0].name, f[0].size, true);
	for (size_t i = 1; i < n && rc == 0; i++) {
		if (has(old, n_old, &f[i]))
			put_summed(s, "L", 1);
		else
			rc = send_file(s, f[i].name, f[i].size, false);
	}
	if (rc)
		return rc;
	put_le64(tail + 1, hash_stream_sum(s->sum));
	put(s, tail, sizeof tail, true);
	return 0;
}

static int send_verb(struct job *j, int argc, char **argv)
{
	struct sender s = {.j = j, .name = argv[0], .out_cap = ZSTD_CStreamOutSize()};
	struct file *f = NULL, *old = NULL;
	size_t n = 0, n_old = 0;
	int rc = 0;

	(void)argc;
	if (isatty(STDOUT_FILENO))
		cli_usage("the stream is binary; send it to a file or a pipe");
	s.z = ZSTD_createCCtx();
	s.sum = hash_stream_new();
	s.out = malloc(s.out_cap);
	if (!s.z || !s.sum || !s.out)
		rc = -ENOMEM;
	if (rc == 0) {
		(void)ZSTD_CCtx_setParameter(s.z, ZSTD_c_compressionLevel, (int)level);
		(void)ZSTD_CCtx_setParameter(s.z, ZSTD_c_checksumFlag, 1);
		rc = fetch_files(j, argv[0], &f, &n);
	}
	if (rc == 0 && from)
		rc = fetch_files(j, from, &old, &n_old);
	if (rc == 0)
		rc = send_all(&s, f, n, old, n_old);
	free(f);
	free(old);
	free(s.out);
	hash_stream_free(s.sum);
	ZSTD_freeCCtx(s.z);
	return rc ? fail(j, rc) : CLI_DONE;
}

/* --- receive --------------------------------------------------------------------------------- */

struct receiver {
	struct job *j;
	ZSTD_DCtx *z;
	struct hash_stream *sum;
	uint8_t *in;
	size_t in_cap, in_len, in_at;
	bool end_of_frame, end; /* of the input */
	struct buf piece;
	char name[VX_NAME_MAX + 1];
	uint64_t done, total;
};

static int damaged(struct receiver *r, const char *why)
{
	return vx_err_set(&r->j->err, -EUCLEAN, "the stream %s; nothing was changed", why);
}

/* Fills the input buffer when it is empty. */
static int fill(struct receiver *r)
{
	if (r->in_at < r->in_len || r->end)
		return 0;
	ssize_t n = cli_read(STDIN_FILENO, r->in, r->in_cap);
	if (n < 0)
		return vx_err_set(&r->j->err, (int)n, "standard input: %s", strerror((int)-n));
	r->in_at = 0;
	r->in_len = (size_t)n;
	r->end = n == 0;
	return 0;
}

/* Exactly 'n' bytes of the body. */
static int get(struct receiver *r, void *p, size_t n, bool summed)
{
	ZSTD_outBuffer out = {p, n, 0};

	while (out.pos < n) {
		int rc = fill(r);
		if (rc)
			return rc;
		ZSTD_inBuffer in = {r->in, r->in_len, r->in_at};
		size_t before = out.pos;
		size_t left = ZSTD_decompressStream(r->z, &out, &in);
		if (ZSTD_isError(left))
			return damaged(r, "is damaged");
		r->in_at = in.pos;
		r->end_of_frame = left == 0;
		if (r->end && out.pos == before)
			return damaged(r, "is cut short");
	}
	if (summed)
		hash_stream_add(r->sum, p, n);
	return 0;
}

/* After E: the frame ends and nothing follows. */
static int expect_end(struct receiver *r)
{
	uint8_t byte;

	while (!r->end_of_frame) {
		ZSTD_outBuffer out = {&byte, 1, 0};
		int rc = fill(r);
		if (rc)
			return rc;
		ZSTD_inBuffer in = {r->in, r->in_len, r->in_at};
		size_t left = ZSTD_decompressStream(r->z, &out, &in);
		if (ZSTD_isError(left) || out.pos)
			return damaged(r, "is damaged at its end");
		r->in_at = in.pos;
		r->end_of_frame = left == 0;
		if (r->end && left)
			return damaged(r, "is cut short");
	}
	int rc = fill(r);
	if (rc == 0 && r->in_at < r->in_len)
		rc = damaged(r, "goes on after its end");
	return rc;
}

static int get_head(struct receiver *r)
{
	uint8_t head[HEAD_BYTES];
	size_t have = 0;

	while (have < sizeof head) {
		ssize_t n = cli_read(STDIN_FILENO, head + have, sizeof head - have);
		if (n <= 0)
			return damaged(r, have ? "is cut short" : "is empty");
		have += (size_t)n;
	}
	if (memcmp(head, magic, sizeof magic) != 0)
		return damaged(r, "is no snapshot");
	if (get_le32(head + 8) != VERSION)
		return vx_err_set(&r->j->err, -EOPNOTSUPP,
			"the stream is of version %u; this program knows %u", get_le32(head + 8),
			VERSION);
	return get_le32(head + 12) ? damaged(r, "is damaged") : 0;
}

static int get_piece(struct receiver *r, size_t max)
{
	uint8_t len[4];

	int rc = get(r, len, sizeof len, true);
	if (rc)
		return rc;
	size_t n = get_le32(len);
	if (n == 0 || n > max)
		return damaged(r, "is damaged");
	r->piece.len = 0;
	rc = buf_reserve(&r->piece, n);
	if (rc == 0)
		rc = get(r, r->piece.data, n, true);
	if (rc == 0)
		r->piece.len = n;
	return rc;
}

static int tell(struct receiver *r, int op)
{
	Vecfs__SnapRequest m = request(r->j, op, as_name ? as_name : "");

	m.data.data = r->piece.data;
	m.data.len = r->piece.len;
	return call(r->j, &m);
}

static int begin(struct receiver *r)
{
	uint8_t kind;

	int rc = get(r, &kind, 1, true);
	if (rc == 0 && kind != 'M')
		rc = damaged(r, "is damaged");
	if (rc == 0)
		rc = get_piece(r, MANIFEST_MAX);
	if (rc == 0)
		rc = tell(r, VECFS__SNAP_REQUEST__OP__BEGIN);
	if (rc == 0 && r->j->a->n_snapshots != 1)
		rc = vx_err_set(&r->j->err, -EPROTO, "the daemon did not say what it receives");
	if (rc == 0) {
		snprintf(r->name, sizeof r->name, "%s", r->j->a->snapshots[0]->name);
		r->total = r->j->a->snapshots[0]->bytes;
	}
	return rc;
}

static int finish(struct receiver *r)
{
	uint8_t want[8];
	uint64_t sum;

	/* The sum is of all before E. */
	int rc = get(r, want, sizeof want, false);
	if (rc)
		return rc;
	sum = hash_stream_sum(r->sum);
	if (get_le64(want) != sum)
		return damaged(r, "is damaged: its checksum is wrong");
	rc = expect_end(r);
	r->piece.len = 0;
	return rc ? rc : tell(r, VECFS__SNAP_REQUEST__OP__END);
}

static int receive_all(struct receiver *r)
{
	int rc = get_head(r);

	if (rc == 0)
		rc = begin(r);
	while (rc == 0) {
		uint8_t kind;
		rc = get(r, &kind, 1, false);
		if (rc)
			break;
		if (kind == 'E')
			return finish(r);
		hash_stream_add(r->sum, &kind, 1);
		r->piece.len = 0;
		if (kind == 'D') {
			rc = get_piece(r, PIECE_BYTES);
			r->done += r->piece.len;
			if (rc == 0)
				rc = tell(r, VECFS__SNAP_REQUEST__OP__WRITE);
		} else if (kind == 'L') {
			rc = tell(r, VECFS__SNAP_REQUEST__OP__LINK);
		} else {
			rc = damaged(r, "is damaged");
		}
		cli_progress("received", r->done, r->total);
	}
	return rc;
}

static int receive(struct job *j, int argc, char **argv)
{
	struct receiver r = {.j = j, .in_cap = ZSTD_DStreamInSize()};
	const Vecfs__CollectionInfo *ci;
	int rc = 0;

	(void)argc;
	(void)argv;
	/* Better now than after an hour. */
	if (!only && !force && client_describe(j->c, j->place.name, &ci, &j->err) == 0) {
		cli_error("%s: the collection exists; --force replaces it, --only keeps the "
			  "snapshot and leaves it alone",
			j->place.name);
		return CLI_REFUSED;
	}
	j->err = (struct vx_err)VX_ERR_INIT;
	r.z = ZSTD_createDCtx();
	r.sum = hash_stream_new();
	r.in = malloc(r.in_cap);
	rc = r.z && r.sum && r.in ? receive_all(&r) : -ENOMEM;
	free(r.in);
	hash_stream_free(r.sum);
	ZSTD_freeDCtx(r.z);
	buf_release(&r.piece);
	if (rc)
		return fail(j, rc);
	return only ? CLI_DONE : simple(j, VECFS__SNAP_REQUEST__OP__RESTORE, r.name, j->place.name);
}

/* --- verbs ----------------------------------------------------------------------------------- */

static const struct verb {
	const char *name;
	int (*run)(struct job *j, int argc, char **argv);
	int min, max; /* operands after COLLECTION */
	bool all;     /* COLLECTION may be left out */
} verbs[] = {
	{"take", take, 0, 1, false},
	{"list", list, 0, 0, true},
	{"rm", rm, 1, 1 << 20, false},
	{"verify", verify, 1, 1, false},
	{"restore", restore, 1, 2, false},
	{"send", send_verb, 1, 1, false},
	{"receive", receive, 0, 0, false},
};

int main(int argc, char **argv)
{
	struct job j = {.err = VX_ERR_INIT};
	int first = cli_parse(&tool, argc, argv);
	const char *name = cli_operand(
		argc, argv, first, "VERB (take, list, rm, verify, restore, send, receive)");
	const struct verb *v = NULL;

	for (size_t i = 0; i < VX_ARRAY_SIZE(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			v = &verbs[i];
	if (!v)
		cli_usage("'%s' is none of take, list, rm, verify, restore, send, receive", name);
	const char *coll = v->all && first + 1 >= argc
				   ? NULL
				   : cli_operand(argc, argv, first + 1, "COLLECTION");
	int at = VX_MIN(first + 2, argc), n = argc - at;
	if (n < v->min)
		cli_usage("%s needs the NAME of a snapshot", name);
	if (n > v->max)
		cli_usage("too many operands for %s", name);
	j.c = coll ? cli_connect(coll, &j.place) : cli_connect_node(NULL, &j.place);
	int code = v->run(&j, n, argv + at);
	client_close(j.c);
	client_place_release(&j.place);
	return cli_finish(code);
}
