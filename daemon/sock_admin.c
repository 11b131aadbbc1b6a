/* sock_admin.c - requests about collections as a whole: create, drop, list, statistics,
 * configuration, index, verification. */
#include "daemon/sock_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cluster/fsck.h"
#include "daemon/errlog.h"
#include "store/verify.h"

/* A measurement cannot be interrupted, and a stop of the daemon waits for it. */
#define RECALL_SAMPLES_MAX 10000u

/* A handler returns 0 after it has queued an answer, or an error to be answered. */
typedef int admin_fn(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err);

static int done(struct session *s, const struct rpc_frame *f)
{
	Vecfs__Done d = VECFS__DONE__INIT;

	session_answer(s, f->type | RPC_ANSWER, f->id, &d.base);
	return 0;
}

static int copy_word(char ret[16], const char *s, const char *what, struct vx_err *err)
{
	if (strlen(s) >= 16)
		return vx_err_set(err, -EINVAL, "%s: '%.40s' is not known", what, s);
	strcpy(ret, s);
	return 0;
}

static int admin_create(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err)
{
	const Vecfs__CreateRequest *m = message;
	struct coll_schema schema = {.metric = VX_COSINE};

	(void)c;
	if (m->dim > VX_DIM_MAX)
		return vx_err_set(
			err, -EINVAL, "dimension %u; at most %u is allowed", m->dim, VX_DIM_MAX);
	if (m->metric[0] && vx_metric_parse(m->metric, &schema.metric))
		return vx_err_set(
			err, -EINVAL, "metric: '%.40s' is none of cosine, l2, ip", m->metric);
	schema.dim = m->dim;
	schema.m = m->m;
	schema.ef_construction = m->ef_construction;
	schema.spread = m->spread;
	int rc = copy_word(schema.index, m->index, "index", err);
	if (rc == 0)
		rc = copy_word(schema.quant, m->quant, "quant", err);
	if (rc == 0 && strlen(m->recall) >= sizeof schema.recall)
		rc = vx_err_set(err, -EINVAL, "recall: '%.40s' is too long", m->recall);
	if (rc == 0)
		strcpy(schema.recall, m->recall);
	if (rc == 0)
		rc = db_create(s->sock->db, m->name, &schema, err);
	return rc ? rc : done(s, f);
}

static int admin_drop(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err)
{
	const Vecfs__DropRequest *m = message;

	(void)c;
	int rc = db_drop(s->sock->db, m->name, m->force, err);
	if (rc == -ENOENT && !err->msg[0])
		vx_err_set(err, rc, "there is no collection '%s'", m->name);
	return rc ? rc : done(s, f);
}

/* --- list ------------------------------------------------------------------------- */
struct names {
	struct buf bytes; /* NUL-ended */
	size_t n;
};

static int add_name(void *arg, const char *name, uint32_t cid)
{
	struct names *l = arg;

	(void)cid;
	l->n++;
	return buf_append(&l->bytes, name, strlen(name) + 1);
}

static char *keep(struct session *s, const char *p)
{
	size_t n = strlen(p) + 1;
	char *q = rpc_arena_alloc(s->arena, n);

	return q ? memcpy(q, p, n) : NULL;
}

/* What is known of a collection; of a damaged one only its name and that. */
static Vecfs__CollectionInfo *describe(struct session *s, const char *name)
{
	Vecfs__CollectionInfo *ci = rpc_arena_alloc(s->arena, sizeof *ci);
	struct coll_index_info info;
	struct coll_schema schema;
	int rc = 0;

	if (!ci)
		return NULL;
	vecfs__collection_info__init(ci);
	ci->name = keep(s, name);
	struct coll *c = db_coll(s->sock->db, name, &rc, NULL);
	if (!c) {
		ci->state = keep(s, rc == -ENOENT ? "gone" : "damaged");
		return ci->name && ci->state ? ci : NULL;
	}
	coll_schema(c, &schema);
	ci->cid = coll_cid(c);
	ci->dim = coll_dim(c);
	ci->metric = keep(s, vx_metric_name(coll_metric(c)));
	ci->index = keep(s, schema.index);
	ci->quant = keep(s, schema.quant);
	ci->m = schema.m;
	ci->ef_construction = schema.ef_construction;
	ci->spread = schema.spread;
	ci->count = coll_count(c);
	ci->ctime_ns = coll_ctime_ns(c);
	memset(&info, 0, sizeof info);
	rc = coll_index_info(c, &info);
	ci->tail = info.tail;
	ci->memory_bytes = info.memory_bytes;
	ci->state = keep(s, rc ? "damaged" : info.state ? info.state : "");
	coll_put(c);
	return ci->name && ci->metric && ci->index && ci->quant && ci->state ? ci : NULL;
}

static int admin_list(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err)
{
	const Vecfs__ListRequest *m = message;
	Vecfs__ListAnswer a = VECFS__LIST_ANSWER__INIT;
	struct names l = {.n = 0};

	(void)err;
	/* The names first: collections are not pinned from within the listing. */
	int rc = c ? add_name(&l, m->collection, 0) : db_list(s->sock->db, add_name, &l);
	if (rc == 0) {
		const char *p = (const char *)l.bytes.data;

		a.collections = rpc_arena_alloc(s->arena, (l.n + 1) * sizeof *a.collections);
		rc = a.collections ? 0 : -ENOMEM;
		for (size_t i = 0; i < l.n && rc == 0; i++, p += strlen(p) + 1) {
			Vecfs__CollectionInfo *ci = describe(s, p);

			if (!ci)
				rc = -ENOMEM;
			else if (strcmp(ci->state, "gone") != 0)
				a.collections[a.n_collections++] = ci;
		}
	}
	buf_release(&l.bytes);
	if (rc == 0)
		session_answer(s, f->type | RPC_ANSWER, f->id, &a.base);
	return rc;
}

/* --- statistics, configuration -------------------------------------------------------- */
static int sock_lines(struct session *s, struct buf *out)
{
	struct sock_stats st;

	sock_stat(s->sock, &st);
	return buf_printf(out,
		"socket_sessions %u\nsocket_accepted %llu\nsocket_refused %llu\n"
		"socket_requests %llu\nsocket_failed %llu\nerrors_logged %llu\n",
		st.sessions, (unsigned long long)st.accepted, (unsigned long long)st.refused,
		(unsigned long long)st.requests, (unsigned long long)st.failed,
		(unsigned long long)errlog_count());
}

static int admin_stat(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err)
{
	Vecfs__StatAnswer a = VECFS__STAT_ANSWER__INIT;
	struct buf b = BUF_INIT;

	(void)message;
	(void)err;
	int rc = c ? coll_stats(c, &b) : db_stats(s->sock->db, &b);
	if (rc == 0 && !c)
		rc = sock_lines(s, &b);
	if (rc == 0) {
		a.text.data = b.data;
		a.text.len = b.len;
		session_answer(s, f->type | RPC_ANSWER, f->id, &a.base);
	}
	buf_release(&b);
	return rc;
}

static int admin_config(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err)
{
	const Vecfs__ConfigRequest *m = message;
	Vecfs__ConfigAnswer a = VECFS__CONFIG_ANSWER__INIT;
	struct buf b = BUF_INIT;
	int rc = 0;

	if (m->set)
		rc = coll_config_set(c, m->key, m->value, err);
	if (rc == 0)
		rc = coll_config_get(c, m->key, &b);
	if (rc == 0)
		rc = buf_cstr(&b);
	if (rc == -ENOENT && !err->msg[0])
		vx_err_set(err, rc, "there is no option '%.60s'", m->key);
	if (rc == 0) {
		a.value = (char *)b.data;
		/* Some values are rendered with the newline of a file. */
		a.value[strcspn(a.value, "\n")] = 0;
		session_answer(s, f->type | RPC_ANSWER, f->id, &a.base);
	}
	buf_release(&b);
	return rc;
}

/* --- index ---------------------------------------------------------------------------- */
static int admin_index(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err)
{
	const Vecfs__IndexRequest *m = message;
	Vecfs__IndexAnswer a = VECFS__INDEX_ANSWER__INIT;
	struct coll_index_info info;
	int rc = 0;

	switch (m->op) {
	case VECFS__INDEX_REQUEST__OP__STATUS:
		break;
	case VECFS__INDEX_REQUEST__OP__WAIT:
		rc = coll_index_wait(c,
			m->timeout_ms ? clock_mono_ns() + (uint64_t)m->timeout_ms * 1000000 : 0,
			session_stopping_or_hangup, s);
		a.done = rc == 0;
		if (rc == -ETIMEDOUT)
			rc = 0;
		break;
	case VECFS__INDEX_REQUEST__OP__SAVE:
		rc = coll_index_save(c, err);
		break;
	case VECFS__INDEX_REQUEST__OP__COMPACT:
		rc = coll_compact(c, err);
		break;
	default:
		rc = vx_err_set(
			err, -EOPNOTSUPP, "index operation %d is not known here", (int)m->op);
	}
	memset(&info, 0, sizeof info);
	if (rc == 0)
		rc = coll_index_info(c, &info);
	if (rc)
		return rc;
	a.records = info.records;
	a.slots = info.slots;
	a.dead = info.dead;
	a.tail = info.tail;
	a.memory_bytes = info.memory_bytes;
	a.kind = (char *)(uintptr_t)(info.kind ? info.kind : "");
	a.quant = (char *)(uintptr_t)(info.quant ? info.quant : "");
	a.state = (char *)(uintptr_t)(info.state ? info.state : "");
	a.disk_bytes = info.disk_bytes;
	a.compactions = info.compactions;
	a.reclaimed_bytes = info.reclaimed_bytes;
	a.compact_done = info.compact_done;
	a.compact_total = info.compact_total;
	a.compact_error = info.compact_error;
	session_answer(s, f->type | RPC_ANSWER, f->id, &a.base);
	return 0;
}

static int admin_recall(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err)
{
	const Vecfs__RecallRequest *m = message;
	Vecfs__RecallAnswer a = VECFS__RECALL_ANSWER__INIT;
	struct coll_recall r = {0};

	if (m->k > VX_K_MAX || m->samples > RECALL_SAMPLES_MAX)
		return vx_err_set(err, -EINVAL, "at most k %u and %u samples are allowed", VX_K_MAX,
			RECALL_SAMPLES_MAX);
	int rc = op_recall_check(m->ef, m->recall, err);
	if (rc == 0)
		rc = coll_recall(c, m->k ? m->k : 10, m->samples ? m->samples : 100, m->ef,
			m->recall, &r, err);
	if (rc)
		return rc;
	a.k = r.k;
	a.samples = r.samples;
	a.recall = r.recall;
	a.p50_us = r.p50_us;
	a.p99_us = r.p99_us;
	a.exact_p50_us = r.exact_p50_us;
	a.promised = r.promised;
	a.ef = r.ef;
	session_answer(s, f->type | RPC_ANSWER, f->id, &a.base);
	return 0;
}

/* --- verification ------------------------------------------------------------------------ */
#define LISTED_MAX 1000u /* notes, and as many of the others; bounds the answer */

struct listing {
	struct session *s;
	Vecfs__VerifyFinding *list[2 * LISTED_MAX];
	size_t n, notes;
};

/* Without memory a finding is counted all the same. */
static void list_finding(void *ctx, const struct verify_finding *f)
{
	struct listing *l = ctx;
	bool note = f->level == VERIFY_NOTE;

	if ((note ? l->notes : l->n - l->notes) >= LISTED_MAX)
		return;
	Vecfs__VerifyFinding *m = rpc_arena_alloc(l->s->arena, sizeof *m);
	if (!m)
		return;
	vecfs__verify_finding__init(m);
	m->level = (Vecfs__VerifyFinding__Level)f->level;
	m->file = keep(l->s, f->file);
	m->reason = keep(l->s, f->why);
	m->at = f->offset != VERIFY_NOWHERE;
	m->offset = m->at ? f->offset : 0;
	if (!m->file || !m->reason)
		return;
	l->notes += note;
	l->list[l->n++] = m;
}

static int admin_verify(struct session *s, const struct rpc_frame *f, const void *message,
	struct coll *c, struct vx_err *err)
{
	const Vecfs__VerifyRequest *m = message;
	Vecfs__VerifyAnswer a = VECFS__VERIFY_ANSWER__INIT;
	struct listing *l = rpc_arena_alloc(s->arena, sizeof *l);
	struct verify v = {.found = list_finding, .ctx = l};

	if (!l)
		return -ENOMEM;
	if (m->dir[0] && !node_serves(s->sock->db, m->dir))
		return vx_err_set(err, -EXDEV, "this daemon serves %s, not %.200s",
			db_data_dir(s->sock->db), m->dir);
	*l = (struct listing){.s = s};
	int rc = c ? coll_verify(c, &v, err)
		   : node_verify_served(s->sock->db, &v, session_stopping_or_hangup, s, err);
	if (rc)
		return rc;
	a.findings = l->list;
	a.n_findings = l->n;
	a.slices = v.slices;
	a.records = v.records;
	a.slots = v.slots;
	a.dead = v.dead;
	a.notes = v.notes;
	a.derived = v.derived;
	a.damage = v.damage;
	session_answer(s, f->type | RPC_ANSWER, f->id, &a.base);
	return 0;
}

/* --- which is which ---------------------------------------------------------------------- */
enum pin {
	PIN_NO,       /* the name is of a collection to be made or dropped */
	PIN_OPTIONAL, /* "" means none */
	PIN_YES,
};

static const struct {
	uint8_t type;
	const ProtobufCMessageDescriptor *descriptor;
	admin_fn *fn;
	size_t name_offset; /* of the collection's name in the message */
	enum pin pin;
} table[] = {
	{RPC_CREATE, &vecfs__create_request__descriptor, admin_create,
		offsetof(Vecfs__CreateRequest, name), PIN_NO},
	{RPC_DROP, &vecfs__drop_request__descriptor, admin_drop, offsetof(Vecfs__DropRequest, name),
		PIN_NO},
	{RPC_LIST, &vecfs__list_request__descriptor, admin_list,
		offsetof(Vecfs__ListRequest, collection), PIN_OPTIONAL},
	{RPC_STAT, &vecfs__stat_request__descriptor, admin_stat,
		offsetof(Vecfs__StatRequest, collection), PIN_OPTIONAL},
	{RPC_CONFIG, &vecfs__config_request__descriptor, admin_config,
		offsetof(Vecfs__ConfigRequest, collection), PIN_YES},
	{RPC_INDEX, &vecfs__index_request__descriptor, admin_index,
		offsetof(Vecfs__IndexRequest, collection), PIN_YES},
	{RPC_RECALL, &vecfs__recall_request__descriptor, admin_recall,
		offsetof(Vecfs__RecallRequest, collection), PIN_YES},
	{RPC_VERIFY, &vecfs__verify_request__descriptor, admin_verify,
		offsetof(Vecfs__VerifyRequest, collection), PIN_OPTIONAL},
};

/* Asking whether there is one is no mistake: not a line of the error log. */
static struct coll *list_coll(
	struct session *s, const struct rpc_frame *f, const Vecfs__ListRequest *m)
{
	struct vx_err err = VX_ERR_INIT;
	int rc = 0;

	if (!m->probe)
		return op_coll(s, f, m->collection);
	struct coll *c = db_coll(s->sock->db, m->collection, &rc, &err);
	if (!c && rc == -ENOENT) {
		if (!err.msg[0])
			vx_err_set(&err, rc, "there is no collection '%s'", m->collection);
		session_error(s, NULL, f->id, rc, &err);
	} else if (!c) {
		session_error(s, op_where(s, f, m->collection), f->id, rc, &err);
	}
	return c;
}

int op_admin(struct session *s, const struct rpc_frame *f)
{
	struct vx_err err = VX_ERR_INIT;
	struct coll *c = NULL;
	size_t i = 0;
	void *m;

	while (table[i].type != f->type)
		i++;
	if (!op_unpack(s, f, table[i].descriptor, &m))
		return 0;
	const char *name = *(char *const *)(const void *)((const char *)m + table[i].name_offset);
	if (table[i].pin == PIN_YES || (table[i].pin == PIN_OPTIONAL && name[0])) {
		c = f->type == RPC_LIST ? list_coll(s, f, m) : op_coll(s, f, name);
		if (!c)
			return 0;
	}
	int rc = table[i].fn(s, f, m, c, &err);
	if (rc)
		session_error(s, op_where(s, f, name), f->id, rc, &err);
	if (c)
		coll_put(c);
	return 0;
}
