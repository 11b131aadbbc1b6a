/* repl_msg.c - Raft messages and manifests as bytes.
 *
 * A message is a fixed head, a body by type, and a checksum of all that precedes it:
 *
 *	offset	size	field
 *	0	4	magic "VRM1"
 *	4	1	version, 1
 *	5	1	type, as libraft numbers them
 *	6	2	zero
 *	8	4	group
 *	12	4	zero
 *	16	8	from
 *	24	8	to
 *	32	...	body
 *	end-8	8	XXH3 of everything before, seed 0
 *
 * A message is valid if and only if it is at least head and checksum long, the checksum
 * matches, magic, version and type are known, and the body ends exactly where the
 * checksum begins.  The checksum is verified first, so that what follows guards against
 * mistakes and malice, not against noise.  docs/format-raft.md lists the bodies.
 */
#include "raft/repl_core_i.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define MSG_MAGIC            0x314d5256u /* "VRM1" */
#define MANIFEST_MAGIC       0x314b5256u /* "VRK1" */
#define MSG_VERSION          1u
#define MSG_HEAD_BYTES       32u
#define MSG_SUM_BYTES        8u
#define MSG_APPEND_BYTES     36u /* of an AppendEntries before its entries */
#define MSG_ENTRY_HEAD_BYTES 16u
#define CONF_SERVER_MIN      11u /* id, role, address length */

/* --- configurations ------------------------------------------------------------ */

static int conf_encode(const struct raft_configuration *c, struct buf *b)
{
	int rc = buf_put_le32(b, c->n);
	for (unsigned i = 0; rc == 0 && i < c->n; i++) {
		const struct raft_server *s = &c->servers[i];
		size_t len = strlen(s->address);
		if (len > UINT16_MAX)
			return -EMSGSIZE;
		rc = buf_put_le64(b, s->id);
		if (rc == 0)
			rc = buf_put_u8(b, (uint8_t)s->role);
		if (rc == 0)
			rc = buf_put_le16(b, (uint16_t)len);
		if (rc == 0)
			rc = buf_append(b, s->address, len);
	}
	return rc;
}

static int conf_decode(struct bytes_reader *r, struct raft_configuration *ret)
{
	struct raft_configuration c;
	raft_configuration_init(&c);
	int rc = 0;
	uint32_t n = rd_le32(r);
	if (r->bad || n > REPL_VOTERS_MAX || n > r->left / CONF_SERVER_MIN)
		return -EUCLEAN;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t id = rd_le64(r);
		uint8_t role = rd_u8(r);
		uint16_t len = rd_le16(r);
		const char *addr = rd_bytes(r, len);
		if (!addr || memchr(addr, 0, len)) {
			rc = -EUCLEAN;
			goto out;
		}
		char *s = strndup(addr, len);
		if (!s) {
			rc = -ENOMEM;
			goto out;
		}
		rc = raft_configuration_add(&c, id, s, role);
		free(s);
		if (rc != 0) { /* zero or double ids, unknown roles */
			rc = rc == RAFT_NOMEM ? -ENOMEM : -EUCLEAN;
			goto out;
		}
	}
	*ret = c;
	return 0;
out:
	raft_configuration_close(&c);
	return rc;
}

/* --- bodies: encode ---------------------------------------------------------------- */

static int put_append_entries(const struct raft_append_entries *ae, struct buf *b)
{
	size_t total = MSG_APPEND_BYTES;
	if (ae->n_entries > REPL_MSG_ENTRIES_MAX)
		return -EMSGSIZE;
	for (unsigned i = 0; i < ae->n_entries; i++) {
		total += MSG_ENTRY_HEAD_BYTES;
		if (total > REPL_MSG_BYTES_MAX ||
			ae->entries[i].buf.len > REPL_MSG_BYTES_MAX - total)
			return -EMSGSIZE;
		total += ae->entries[i].buf.len;
	}
	int rc = buf_reserve(b, total + MSG_SUM_BYTES);
	if (rc != 0)
		return rc;
	uint8_t *p = b->data + b->len;
	put_le64(p, ae->term);
	put_le64(p + 8, ae->prev_log_index);
	put_le64(p + 16, ae->prev_log_term);
	put_le64(p + 24, ae->leader_commit);
	put_le32(p + 32, ae->n_entries);
	p += MSG_APPEND_BYTES;
	for (unsigned i = 0; i < ae->n_entries; i++) {
		const struct raft_entry *e = &ae->entries[i];
		put_le64(p, e->term);
		put_le32(p + 8, e->type);
		put_le32(p + 12, (uint32_t)e->buf.len);
		p += MSG_ENTRY_HEAD_BYTES;
		if (e->buf.len > 0)
			memcpy(p, e->buf.base, e->buf.len);
		p += e->buf.len;
	}
	b->len += total;
	return 0;
}

static int put_words(struct buf *b, const uint64_t *w, unsigned n)
{
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = buf_put_le64(b, w[i]);
	return rc;
}

static int put_install(const struct raft_install_snapshot *is, struct buf *b)
{
	if (is->data.len > REPL_MSG_BYTES_MAX)
		return -EMSGSIZE;
	uint64_t w[] = {is->term, is->last_index, is->last_term, is->conf_index};
	int rc = put_words(b, w, VX_ARRAY_SIZE(w));
	if (rc == 0)
		rc = conf_encode(&is->conf, b);
	if (rc == 0)
		rc = buf_put_le32(b, (uint32_t)is->data.len);
	if (rc == 0)
		rc = buf_append(b, is->data.base, is->data.len);
	return rc;
}

static int put_body(const struct raft_message *m, struct buf *b)
{
	int rc;
	switch (m->type) {
	case RAFT_IO_APPEND_ENTRIES:
		return put_append_entries(&m->append_entries, b);
	case RAFT_IO_APPEND_ENTRIES_RESULT: {
		const struct raft_append_entries_result *r = &m->append_entries_result;
		uint64_t w[] = {r->term, r->rejected, r->last_log_index};
		return put_words(b, w, VX_ARRAY_SIZE(w));
	}
	case RAFT_IO_REQUEST_VOTE: {
		const struct raft_request_vote *r = &m->request_vote;
		uint64_t w[] = {r->term, r->candidate_id, r->last_log_index, r->last_log_term};
		rc = put_words(b, w, VX_ARRAY_SIZE(w));
		if (rc == 0)
			rc = buf_put_u8(b, r->disrupt_leader);
		return rc == 0 ? buf_put_u8(b, r->pre_vote) : rc;
	}
	case RAFT_IO_REQUEST_VOTE_RESULT: {
		const struct raft_request_vote_result *r = &m->request_vote_result;
		rc = buf_put_le64(b, r->term);
		if (rc == 0)
			rc = buf_put_u8(b, r->vote_granted);
		return rc == 0 ? buf_put_u8(b, (uint8_t)r->pre_vote) : rc;
	}
	case RAFT_IO_INSTALL_SNAPSHOT:
		return put_install(&m->install_snapshot, b);
	case RAFT_IO_TIMEOUT_NOW: {
		const struct raft_timeout_now *r = &m->timeout_now;
		uint64_t w[] = {r->term, r->last_log_index, r->last_log_term};
		return put_words(b, w, VX_ARRAY_SIZE(w));
	}
	default:
		return -EINVAL;
	}
}

int repl_msg_encode(const struct repl_msg_head *head, const struct raft_message *m, struct buf *b)
{
	uint8_t h[MSG_HEAD_BYTES] = {0};
	size_t start = b->len;
	put_le32(h, MSG_MAGIC);
	h[4] = MSG_VERSION;
	h[5] = (uint8_t)m->type;
	put_le32(h + 8, head->group);
	put_le64(h + 16, head->from);
	put_le64(h + 24, head->to);
	int rc = buf_append(b, h, sizeof h);
	if (rc == 0)
		rc = put_body(m, b);
	if (rc == 0)
		rc = buf_put_le64(b, hash_xxh3(b->data + start, b->len - start, 0));
	if (rc != 0)
		b->len = start;
	return rc;
}

/* --- bodies: decode ------------------------------------------------------------------ */

/* First pass: the entries must fill the body exactly; returns their bytes of data. */
static int measure_entries(struct bytes_reader r, uint32_t n, size_t *ret_total)
{
	size_t total = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t term = rd_le64(&r);
		uint32_t type = rd_le32(&r);
		uint32_t len = rd_le32(&r);
		if (!rd_bytes(&r, len) || term == 0)
			return -EUCLEAN;
		if (type != RAFT_COMMAND && type != RAFT_BARRIER && type != RAFT_CHANGE)
			return -EUCLEAN;
		total += VX_ALIGN_UP((size_t)len, 8u);
	}
	if (r.left != 0)
		return -EUCLEAN;
	*ret_total = total;
	return 0;
}

static int get_append_entries(struct bytes_reader *r, struct raft_append_entries *ae)
{
	ae->term = rd_le64(r);
	ae->prev_log_index = rd_le64(r);
	ae->prev_log_term = rd_le64(r);
	ae->leader_commit = rd_le64(r);
	uint32_t n = rd_le32(r);
	ae->entries = NULL;
	ae->n_entries = 0;
	if (r->bad || n > REPL_MSG_ENTRIES_MAX || n > r->left / MSG_ENTRY_HEAD_BYTES)
		return -EUCLEAN;
	if (ae->prev_log_index > UINT64_MAX - n)
		return -EUCLEAN;
	size_t total;
	int rc = measure_entries(*r, n, &total);
	if (rc != 0 || n == 0)
		return rc;

	/* One batch for all, which libraft frees through the first entry's pointer. */
	struct raft_entry *entries = raft_malloc(n * sizeof *entries);
	uint8_t *batch = raft_malloc(total ? total : 8);
	if (!entries || !batch) {
		raft_free(entries);
		raft_free(batch);
		return -ENOMEM;
	}
	uint8_t *at = batch;
	for (uint32_t i = 0; i < n; i++) {
		struct raft_entry *e = &entries[i];
		e->term = rd_le64(r);
		e->type = (unsigned short)rd_le32(r);
		e->buf.len = rd_le32(r);
		e->buf.base = at;
		e->batch = batch;
		memcpy(at, rd_bytes(r, e->buf.len), e->buf.len);
		at += VX_ALIGN_UP(e->buf.len, 8u);
	}
	ae->entries = entries;
	ae->n_entries = n;
	return 0;
}

static int get_install(struct bytes_reader *r, struct raft_install_snapshot *is)
{
	is->term = rd_le64(r);
	is->last_index = rd_le64(r);
	is->last_term = rd_le64(r);
	is->conf_index = rd_le64(r);
	int rc = conf_decode(r, &is->conf);
	if (rc != 0)
		return rc;
	is->data.len = rd_le32(r);
	const void *data = rd_bytes(r, is->data.len);
	if (!data || r->left != 0 || is->last_index == 0) {
		raft_configuration_close(&is->conf);
		return -EUCLEAN;
	}
	is->data.base = raft_malloc(is->data.len ? is->data.len : 1);
	if (!is->data.base) {
		raft_configuration_close(&is->conf);
		return -ENOMEM;
	}
	memcpy(is->data.base, data, is->data.len);
	return 0;
}

static bool get_bool(struct bytes_reader *r)
{
	uint8_t v = rd_u8(r);
	if (v > 1)
		r->bad = true;
	return v == 1;
}

static int get_body(struct bytes_reader *r, struct raft_message *m)
{
	switch (m->type) {
	case RAFT_IO_APPEND_ENTRIES:
		return get_append_entries(r, &m->append_entries);
	case RAFT_IO_APPEND_ENTRIES_RESULT:
		m->append_entries_result.term = rd_le64(r);
		m->append_entries_result.rejected = rd_le64(r);
		m->append_entries_result.last_log_index = rd_le64(r);
		break;
	case RAFT_IO_REQUEST_VOTE:
		m->request_vote.term = rd_le64(r);
		m->request_vote.candidate_id = rd_le64(r);
		m->request_vote.last_log_index = rd_le64(r);
		m->request_vote.last_log_term = rd_le64(r);
		m->request_vote.disrupt_leader = get_bool(r);
		m->request_vote.pre_vote = get_bool(r);
		break;
	case RAFT_IO_REQUEST_VOTE_RESULT: {
		m->request_vote_result.term = rd_le64(r);
		m->request_vote_result.vote_granted = get_bool(r);
		uint8_t pre = rd_u8(r);
		if (pre > raft_tribool_false)
			return -EUCLEAN;
		m->request_vote_result.pre_vote = (raft_tribool)pre;
		break;
	}
	case RAFT_IO_INSTALL_SNAPSHOT:
		return get_install(r, &m->install_snapshot);
	case RAFT_IO_TIMEOUT_NOW:
		m->timeout_now.term = rd_le64(r);
		m->timeout_now.last_log_index = rd_le64(r);
		m->timeout_now.last_log_term = rd_le64(r);
		break;
	default:
		return -EUCLEAN;
	}
	return r->bad || r->left != 0 ? -EUCLEAN : 0;
}

int repl_msg_decode(
	const void *p, size_t n, struct repl_msg_head *ret_head, struct raft_message *ret)
{
	const uint8_t *b = p;
	if (n < MSG_HEAD_BYTES + MSG_SUM_BYTES || n > REPL_MSG_BYTES_MAX)
		return -EUCLEAN;
	size_t body_end = n - MSG_SUM_BYTES;
	if (get_le64(b + body_end) != hash_xxh3(b, body_end, 0))
		return -EUCLEAN;
	if (get_le32(b) != MSG_MAGIC || b[4] != MSG_VERSION || get_le16(b + 6) != 0 ||
		get_le32(b + 12) != 0)
		return -EUCLEAN;

	struct raft_message m;
	memset(&m, 0, sizeof m);
	m.type = b[5];
	struct bytes_reader r = {.p = b + MSG_HEAD_BYTES, .left = body_end - MSG_HEAD_BYTES};
	int rc = get_body(&r, &m);
	if (rc != 0)
		return rc;
	ret_head->group = get_le32(b + 8);
	ret_head->from = get_le64(b + 16);
	ret_head->to = get_le64(b + 24);
	m.server_id = ret_head->from;
	*ret = m;
	return 0;
}

void repl_msg_release(struct raft_message *m)
{
	if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.n_entries > 0) {
		raft_free(m->append_entries.entries[0].batch);
		raft_free(m->append_entries.entries);
		m->append_entries.entries = NULL;
		m->append_entries.n_entries = 0;
	} else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
		raft_configuration_close(&m->install_snapshot.conf);
		raft_free(m->install_snapshot.data.base);
		m->install_snapshot.data.base = NULL;
	}
}

/* --- manifests ----------------------------------------------------------------------- */

int repl_manifest_encode(const struct repl_manifest *m, struct buf *b)
{
	size_t start = b->len;
	if (m->host_len > VX_ENTRY_BYTES_MAX / 2)
		return -EMSGSIZE;
	int rc = buf_put_le32(b, MANIFEST_MAGIC);
	if (rc == 0)
		rc = buf_put_le64(b, m->conf_index);
	if (rc == 0)
		rc = conf_encode(&m->conf, b);
	if (rc == 0)
		rc = buf_put_le32(b, (uint32_t)m->host_len);
	if (rc == 0)
		rc = buf_append(b, m->host, m->host_len);
	if (rc == 0)
		rc = buf_put_le64(b, hash_xxh3(b->data + start, b->len - start, 0));
	if (rc != 0)
		b->len = start;
	return rc;
}

int repl_manifest_decode(const void *p, size_t n, struct repl_manifest *ret)
{
	const uint8_t *b = p;
	struct repl_manifest m = {0};
	if (n < MSG_SUM_BYTES + 20 ||
		get_le64(b + n - MSG_SUM_BYTES) != hash_xxh3(b, n - MSG_SUM_BYTES, 0))
		return -EUCLEAN;
	struct bytes_reader r = {.p = b, .left = n - MSG_SUM_BYTES};
	if (rd_le32(&r) != MANIFEST_MAGIC)
		return -EUCLEAN;
	m.conf_index = rd_le64(&r);
	int rc = conf_decode(&r, &m.conf);
	if (rc != 0)
		return rc;
	m.host_len = rd_le32(&r);
	m.host = rd_bytes(&r, m.host_len);
	if (!m.host || r.left != 0) {
		raft_configuration_close(&m.conf);
		return -EUCLEAN;
	}
	*ret = m;
	return 0;
}
