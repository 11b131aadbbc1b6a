/* cli_client.h - what the tools that talk to a daemon share: connecting, reading input files,
 * printing records. */
#ifndef VECFS_CLI_CLI_CLIENT_H
#define VECFS_CLI_CLI_CLIENT_H

#include "cli.h"
#include "client/client.h"
#include "codec/codec.h"

/* Finds the daemon and the collection 'arg' and connects.  Exits with the reason: 2 when 'arg' is
 * no name of a collection, else what cli_exit_code says. */
struct client *cli_connect(const char *arg, struct client_place *ret);
/* The same, where no collection (NULL, or the path of a mount) means the node: ret->name is "". */
struct client *cli_connect_node(const char *arg, struct client_place *ret);

/* The one operand 'what' of the tool; exits with 2 when it is missing. */
const char *cli_operand(int argc, char **argv, int at, const char *what);

/* "meta,vector,text" to bits of 'what'; exits with 2.  "" is none. */
unsigned cli_parse_with(const char *s);

/* --- input files ------------------------------------------------------------------- */
struct cli_source {
	const char *file; /* as given; "-" is stdin */
	int fd;
	enum codec_format format;
	uint64_t size_bytes; /* 0: unknown */
	uint64_t done_bytes; /* fed so far */
	struct buf head;     /* read ahead to tell the format */
};

/* Opens FILE and tells its format: 'format' (-F) when given, else by suffix, else by its first
 * bytes.  CODEC_NONE with an empty input.  -EINVAL: it cannot be told. */
VX_MUST_CHECK
int cli_source_open(struct cli_source *s, const char *file, const char *format, struct vx_err *err);
void cli_source_close(struct cli_source *s);
/* The next bytes: > 0, 0 at the end, -errno.  Borrowed until the next call. */
VX_MUST_CHECK
ssize_t cli_source_read(struct cli_source *s, const uint8_t **ret, struct vx_err *err);

/* Exits with 2 when 'format' (may be NULL) is no format. */
void cli_check_format(const char *option, const char *format);

/* --- records ------------------------------------------------------------------------- */
/* Prints a record as a JSON line, or its id under -i. */
int cli_print_record(const struct vx_record *rec);

#endif
