/* pump.h - a host for tests of the real pump: it keeps what it applied as a list of values per group; its
 * "store" is a file per group, written by mark, so that a killed process can be compared with what it had
 * acknowledged.
 */
#ifndef TESTS_RAFT_PUMP_H
#define TESTS_RAFT_PUMP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/lock.h"
#include "raft/repl.h"

#define GROUPS_MAX 5u
#define FIRST      3u

struct store {
	uint64_t applied;
	uint64_t *values; /* by order of application */
	size_t n, cap;
	unsigned watermarks;
};

struct host {
	char dir[200];
	struct vx_mutex lock;
	struct vx_cond cond;
	struct store store[GROUPS_MAX];
	unsigned marks, bad;
	int mark_status; /* what mark answers */
	bool hold_marks; /* mark blocks */
	int ack_fd;      /* -1, or where committed values are told */
	bool keep_values;
};

struct count {
	struct host *h;
	unsigned committed, failed;
	int status;
};

struct item {
	struct repl_proposal p;
	struct count *count;
	uint64_t value;
};

/* A thread that proposes. */
struct writer {
	struct repl *r;
	struct count count;
	unsigned number, groups;
};

/* The real disk, except that no file grows while 'full'. */
struct small_disk {
	struct disk d; /* first */
	struct disk_ops ops;
	atomic_bool full;
};

extern const struct repl_host_ops pump_host_ops;

/* Ends the test where there is no memory. */
void *pump_must(void *p);
/* The file that a mark of the group writes. */
void pump_store_path(const struct host *h, uint32_t group, char *ret, size_t n);
void pump_host_init(struct host *h, const char *dir);
void pump_host_release(struct host *h);
/* A new directory with an empty wal/ in it. */
void pump_make_dir(char *ret, size_t n);
void pump_remove_tree(const char *dir);
/* 'wal_dir' is borrowed by what is returned. */
struct repl_opts pump_opts(char *wal_dir, size_t n, const char *dir, unsigned groups);
/* Returns once every group has a leader. */
struct repl *pump_start(struct host *h, const struct repl_opts *o);
/* The two ends of a proposal; they free its item. */
void pump_committed(struct repl_proposal *p);
void pump_failed(struct repl_proposal *p, int status);
void pump_propose(struct repl *r, struct count *c, uint32_t group, uint64_t value, size_t len);
/* Returns once 'n' proposals have ended. */
void pump_await(struct count *c, unsigned n);
struct count pump_counted(struct count *c);
void small_disk_init(struct small_disk *s);
/* Damages the log, which nobody has open: an entry of 'group', the last one, is lost, and nothing else. */
void pump_lose(const struct repl_opts *o, uint32_t group);

#endif
