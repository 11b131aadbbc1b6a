/* vec-wal.c - show the log of a data directory, whatever state it is in. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "store/entry.h"
#include "wal/wal_view.h"

#define DUMP_MAX 4096 /* of a path */

static bool stat_only, records_only;
static uint32_t group = UINT32_MAX;
static uint64_t from, to = UINT64_MAX;

static const struct cli_opt opts[] = {
	{"group", 'g', CLI_U32, &group, "N", 0, UINT32_MAX - 1,
		"this group alone: 1 is the catalog, 2 + s is shard s"},
	{"from", 0, CLI_U64, &from, "INDEX", 0, UINT64_MAX, "entries and marks from INDEX on"},
	{"to", 0, CLI_U64, &to, "INDEX", 0, UINT64_MAX, "up to INDEX"},
	{"records", 'r', CLI_FLAG, &records_only, NULL, 0, 0,
		"records and damage alone, without segments, tables and frames"},
	{"stat", 's', CLI_FLAG, &stat_only, NULL, 0, 0, "a summary alone"},
};
static const struct cli_tool tool = {
	.name = "vec-wal",
	.args = "DATA",
	.about = "Show the log of a data directory",
	.opts = opts,
	.n_opts = VX_ARRAY_SIZE(opts),
	.common = CLI_JSON,
	.more = "Reads only, also beside a daemon: what it writes meanwhile may look torn.\n"
		"Exit status: 0 the log is whole, 4 a part of it is damaged.",
};

struct sum {
	uint64_t segments, size_bytes, frames, records, bytes, entries, data_records, marks,
		damaged, torn;
};

static struct sum sum;

/* --- names ------------------------------------------------------------------------------------ */
static const char *type_name(uint8_t type)
{
	static const char *const names[] = {
		"?", "entry", "truncate", "hardstate", "mark", "reset", "drop"};

	return type < VX_ARRAY_SIZE(names) ? names[type] : "?";
}

static const char *entry_name(uint8_t etype)
{
	static const char *const names[] = {"?", "command", "barrier", "configuration"};

	return etype < VX_ARRAY_SIZE(names) ? names[etype] : "?";
}

static const char *kind_name(uint8_t kind)
{
	static const char *const names[] = {"?", "data", "create", "drop", "catalog"};

	return kind < VX_ARRAY_SIZE(names) ? names[kind] : "?";
}

static bool wanted(uint32_t g)
{
	return group == UINT32_MAX || g == group;
}

/* --- what is shown ------------------------------------------------------------------------------ */
static int on_segment(void *ctx, const struct wal_view_segment *s)
{
	(void)ctx;
	sum.segments++;
	sum.size_bytes += s->size_bytes;
	if (stat_only || records_only)
		return 0;
	cli_outf(cli.json ? "{\"segment\":\"%s\",\"bytes\":%" PRIu64
			    ",\"valid\":%s,\"node\":%" PRIu64
			    ",\"groups\":%u,\"after_frame\":%" PRIu64 "}\n"
			  : "segment %s bytes=%" PRIu64 " valid=%s node=%" PRIu64
			    " groups=%u after_frame=%" PRIu64 "\n",
		s->file, s->size_bytes, s->valid ? "true" : "false", s->node_id, s->n_groups,
		s->prev_last);
	return 0;
}

static int on_row(void *ctx, const struct wal_view_row *r)
{
	(void)ctx;
	if (stat_only || records_only || !wanted(r->group))
		return 0;
	cli_outf(cli.json ? "{\"group\":%u,\"term\":%" PRIu64 ",\"vote\":%" PRIu64
			    ",\"mark\":%" PRIu64 ",\"mark_term\":%" PRIu64 ",\"last\":%" PRIu64
			    "%s}\n"
			  : "  group %u term=%" PRIu64 " vote=%" PRIu64 " mark=%" PRIu64
			    " mark_term=%" PRIu64 " last=%" PRIu64 "%s\n",
		r->group, r->term, r->vote, r->mark_index, r->mark_term, r->last,
		!r->stopped ? ""
		: cli.json  ? ",\"stopped\":true"
			    : " stopped");
	return 0;
}

static int on_frame(void *ctx, const struct wal_view_frame *f)
{
	(void)ctx;
	sum.frames++;
	sum.bytes += f->len;
	if (stat_only || records_only)
		return 0;
	cli_outf(cli.json ? "{\"frame\":%" PRIu64 ",\"file\":\"%s\",\"offset\":%" PRIu64
			    ",\"bytes\":%u,\"records\":%u}\n"
			  : " frame %" PRIu64 " %s:%" PRIu64 " bytes=%u records=%u\n",
		f->number, f->file, f->offset, f->len, f->n_records);
	return 0;
}

/* What an entry holds: "kind=data cid=1 records=20", or what is wrong with it. */
static void describe(const struct wal_view_record *r, struct entry_reader *e, int *ret_rc)
{
	*ret_rc = -ENODATA;
	if (r->type == WAL_ENTRY && r->etype == 1 && r->payload_ok)
		*ret_rc = entry_open(e, r->data, r->len);
}

static void print_json(const struct wal_view_record *r, const struct entry_reader *e, int rc)
{
	cli_outf("{\"type\":\"%s\",\"file\":\"%s\",\"offset\":%" PRIu64 ",\"frame\":%" PRIu64
		 ",\"group\":%u,\"term\":%" PRIu64 ",\"index\":%" PRIu64,
		type_name(r->type), r->file, r->offset, r->frame, r->group, r->term, r->index);
	if (r->type == WAL_HARDSTATE)
		cli_outf(",\"vote\":%" PRIu64, r->vote);
	if (r->type == WAL_MARK && r->vote)
		cli_outf(",\"last\":%" PRIu64, r->vote);
	if (r->type == WAL_ENTRY)
		cli_outf(",\"entry\":\"%s\"", entry_name(r->etype));
	if (rc == 0)
		cli_outf(",\"kind\":\"%s\",\"cid\":%u,\"records\":%u,\"time_ns\":%" PRIu64,
			kind_name(e->h.kind), e->h.cid, e->h.count, e->h.time_ns);
	else if (rc != -ENODATA)
		cli_outf(",\"kind\":null");
	cli_outf(",\"bytes\":%u,\"checksum\":\"%s\"}\n", r->len, r->payload_ok ? "ok" : "wrong");
}

static void print_text(const struct wal_view_record *r, const struct entry_reader *e, int rc)
{
	cli_outf("  %s %s:%" PRIu64 " group=%u term=%" PRIu64 " index=%" PRIu64, type_name(r->type),
		r->file, r->offset, r->group, r->term, r->index);
	if (r->type == WAL_HARDSTATE)
		cli_outf(" vote=%" PRIu64, r->vote);
	if (r->type == WAL_MARK && r->vote)
		cli_outf(" last=%" PRIu64, r->vote);
	if (r->type == WAL_ENTRY)
		cli_outf(" entry=%s", entry_name(r->etype));
	if (rc == 0)
		cli_outf(" kind=%s cid=%u records=%u", kind_name(e->h.kind), e->h.cid, e->h.count);
	else if (rc != -ENODATA)
		cli_outf(" kind=undecodable");
	cli_outf(" bytes=%u checksum=%s\n", r->len, r->payload_ok ? "ok" : "wrong");
}

static int on_record(void *ctx, const struct wal_view_record *r)
{
	struct entry_reader e;
	int rc;

	(void)ctx;
	if (!wanted(r->group))
		return 0;
	if ((from || to != UINT64_MAX) && (r->type == WAL_HARDSTATE || r->type == WAL_DROP ||
						  r->index < from || r->index > to))
		return 0;
	describe(r, &e, &rc);
	sum.records++;
	sum.entries += r->type == WAL_ENTRY;
	sum.marks += r->type == WAL_MARK || r->type == WAL_RESET;
	sum.data_records += rc == 0 ? e.h.count : 0;
	sum.damaged += rc != 0 && rc != -ENODATA;
	if (stat_only)
		return 0;
	if (cli.json)
		print_json(r, &e, rc);
	else
		print_text(r, &e, rc);
	return 0;
}

static int on_damage(void *ctx, const struct wal_view_damage *d)
{
	(void)ctx;
	if (d->torn)
		sum.torn++;
	else
		sum.damaged++;
	if (stat_only && d->torn)
		return 0;
	cli_outf(cli.json ? "{\"%s\":\"%s\",\"offset\":%" PRIu64 ",\"reason\":\"%s\"}\n"
			  : "%s %s:%" PRIu64 ": %s\n",
		d->torn ? "torn" : "damage", d->file, d->offset, d->why);
	return 0;
}

static void print_sum(void)
{
	cli_outf(cli.json ? "{\"segments\":%" PRIu64 ",\"size_bytes\":%" PRIu64
			    ",\"frames\":%" PRIu64 ",\"used_bytes\":%" PRIu64
			    ",\"records\":%" PRIu64 ",\"entries\":%" PRIu64
			    ",\"data_records\":%" PRIu64 ",\"marks\":%" PRIu64 ",\"torn\":%" PRIu64
			    ",\"damaged\":%" PRIu64 "}\n"
			  : "segments %" PRIu64 "\nsize_bytes %" PRIu64 "\nframes %" PRIu64
			    "\nused_bytes %" PRIu64 "\nrecords %" PRIu64 "\nentries %" PRIu64
			    "\ndata_records %" PRIu64 "\nmarks %" PRIu64 "\ntorn %" PRIu64
			    "\ndamaged %" PRIu64 "\n",
		sum.segments, sum.size_bytes, sum.frames, sum.bytes, sum.records, sum.entries,
		sum.data_records, sum.marks, sum.torn, sum.damaged);
}

int main(int argc, char **argv)
{
	static const struct wal_view_ops ops = {.segment = on_segment,
		.row = on_row,
		.frame = on_frame,
		.record = on_record,
		.damage = on_damage};
	struct vx_err err = VX_ERR_INIT;
	char dir[DUMP_MAX];
	int first = cli_parse(&tool, argc, argv);

	if (first >= argc)
		cli_usage("DATA is missing");
	if (first + 1 < argc)
		cli_usage("one DATA at a time");
	int n = snprintf(dir, sizeof dir, "%s/wal", argv[first]);
	if (n < 0 || (size_t)n >= sizeof dir)
		cli_usage("%s: the path is too long", argv[first]);
	int rc = wal_view(disk_real(), dir, &ops, NULL, &err);
	if (rc)
		return cli_finish(cli_fail(rc, &err));
	if (stat_only)
		print_sum();
	return cli_finish(sum.damaged ? CLI_BAD_DATA : CLI_DONE);
}
