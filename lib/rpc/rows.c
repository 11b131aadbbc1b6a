/* rows.c - records as packed columns.
 *
 * The writer appends each part of a record to its column; the reader checks once that all columns
 * have n entries that add up, and then walks them with plain pointers.  A column that nobody
 * filled is left out of the message.  Vectors are copied as they lie in memory: the wire is
 * little-endian, and so is every machine this is built for.
 */
#include "rpc/rpc.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vectors are copied as they are");

/* --- strings -------------------------------------------------------------------- */
int rpc_strings_add(struct rpc_strings *s, const char *p, size_t n)
{
	uint32_t size = (uint32_t)n;

	if (n > RPC_PAYLOAD_MAX)
		return -EMSGSIZE;
	int rc = buf_reserve(&s->sizes, sizeof size);
	if (rc == 0 && n)
		rc = buf_append(&s->bytes, p, n);
	if (rc == 0)
		rc = buf_append(&s->sizes, &size, sizeof size);
	if (rc == 0)
		s->n++;
	return rc;
}

void rpc_strings_reset(struct rpc_strings *s)
{
	s->bytes.len = 0;
	s->sizes.len = 0;
	s->n = 0;
}

void rpc_strings_release(struct rpc_strings *s)
{
	buf_release(&s->bytes);
	buf_release(&s->sizes);
	s->n = 0;
}

/* Takes back what was added after the first 'n'. */
static void strings_cut(struct rpc_strings *s, uint32_t n, size_t bytes)
{
	s->n = n;
	s->sizes.len = n * sizeof(uint32_t);
	s->bytes.len = bytes;
}

int rpc_strings_open(struct rpc_strings_view *v, ProtobufCBinaryData bytes, const uint32_t *sizes,
	size_t n_sizes, const char *what, struct vx_err *err)
{
	size_t sum = 0;

	for (size_t i = 0; i < n_sizes; i++) {
		sum += sizes[i]; /* at most 2^26 sizes of 2^32: no overflow */
		if (sum > bytes.len)
			break;
	}
	if (sum != bytes.len)
		return vx_err_set(err, -EPROTO, "the sizes of the %s do not add up", what);
	*v = (struct rpc_strings_view){.p = bytes.data, .sizes = sizes, .n = n_sizes};
	return 0;
}

bool rpc_strings_next(struct rpc_strings_view *v, const char **ret, size_t *ret_len)
{
	if (v->next == v->n)
		return false;
	size_t n = v->sizes[v->next++];
	*ret = n ? (const char *)v->p : NULL;
	*ret_len = n;
	if (n)
		v->p += n;
	return true;
}

/* --- writing rows ----------------------------------------------------------------- */
int rpc_rows_add(struct rpc_rows *r, const struct vx_record *rec)
{
	size_t vec_bytes = rec->vec ? (size_t)rec->dim * sizeof(float) : 0;
	size_t was_vec = r->vectors.len, was_id = r->ids.bytes.len;
	size_t was_meta = r->metas.bytes.len, was_text = r->texts.bytes.len;

	if (r->n && r->dim != (rec->vec ? rec->dim : 0))
		return -EINVAL;
	int rc = vec_bytes ? buf_append(&r->vectors, rec->vec, vec_bytes) : 0;
	if (rc == 0)
		rc = rpc_strings_add(&r->ids, rec->id, rec->id_len);
	if (rc == 0)
		rc = rpc_strings_add(&r->metas, rec->meta, rec->meta_len);
	if (rc == 0)
		rc = rpc_strings_add(&r->texts, rec->text, rec->text_len);
	if (rc) {
		r->vectors.len = was_vec;
		strings_cut(&r->ids, r->n, was_id);
		strings_cut(&r->metas, r->n, was_meta);
		strings_cut(&r->texts, r->n, was_text);
		return rc;
	}
	r->dim = rec->vec ? rec->dim : 0;
	r->n++;
	return 0;
}

size_t rpc_rows_bytes(const struct rpc_rows *r)
{
	return r->vectors.len + r->ids.bytes.len + r->metas.bytes.len + r->texts.bytes.len +
	       12 * (size_t)r->n;
}

void rpc_rows_reset(struct rpc_rows *r)
{
	r->n = r->dim = 0;
	r->vectors.len = 0;
	rpc_strings_reset(&r->ids);
	rpc_strings_reset(&r->metas);
	rpc_strings_reset(&r->texts);
}

void rpc_rows_release(struct rpc_rows *r)
{
	buf_release(&r->vectors);
	rpc_strings_release(&r->ids);
	rpc_strings_release(&r->metas);
	rpc_strings_release(&r->texts);
	r->n = r->dim = 0;
}

static void column(const struct rpc_strings *s, bool always, ProtobufCBinaryData *ret_bytes,
	size_t *ret_n, uint32_t **ret_sizes)
{
	if (!always && s->bytes.len == 0)
		return;
	ret_bytes->data = s->bytes.data;
	ret_bytes->len = s->bytes.len;
	*ret_sizes = (uint32_t *)(void *)s->sizes.data;
	*ret_n = s->n;
}

void rpc_rows_message(const struct rpc_rows *r, Vecfs__Rows *ret)
{
	vecfs__rows__init(ret);
	ret->n = r->n;
	ret->dim = r->dim;
	ret->vectors.data = r->vectors.data;
	ret->vectors.len = r->vectors.len;
	column(&r->ids, true, &ret->ids, &ret->n_id_sizes, &ret->id_sizes);
	column(&r->metas, false, &ret->metas, &ret->n_meta_sizes, &ret->meta_sizes);
	column(&r->texts, false, &ret->texts, &ret->n_text_sizes, &ret->text_sizes);
}

/* --- reading rows ------------------------------------------------------------------- */
int rpc_rows_open(struct rpc_rows_view *v, const Vecfs__Rows *m, struct vx_err *err)
{
	memset(v, 0, sizeof *v);
	if (!m)
		return 0;
	if (m->element != VECFS__ELEMENT__F32)
		return vx_err_set(err, -EOPNOTSUPP, "element type %d of vectors is not known here",
			(int)m->element);
	if (m->dim > VX_DIM_MAX)
		return vx_err_set(
			err, -EINVAL, "dimension %u; at most %u is allowed", m->dim, VX_DIM_MAX);
	if (m->vectors.len != (uint64_t)m->n * m->dim * sizeof(float))
		return vx_err_set(err, -EPROTO, "%u rows of dimension %u do not have %zu bytes",
			m->n, m->dim, m->vectors.len);
	if (m->n_id_sizes != m->n || (m->n_meta_sizes && m->n_meta_sizes != m->n) ||
		(m->n_text_sizes && m->n_text_sizes != m->n))
		return vx_err_set(
			err, -EPROTO, "the columns of %u rows are not equally long", m->n);
	int rc = rpc_strings_open(&v->ids, m->ids, m->id_sizes, m->n_id_sizes, "ids", err);
	if (rc == 0)
		rc = rpc_strings_open(
			&v->metas, m->metas, m->meta_sizes, m->n_meta_sizes, "metas", err);
	if (rc == 0)
		rc = rpc_strings_open(
			&v->texts, m->texts, m->text_sizes, m->n_text_sizes, "texts", err);
	if (rc)
		return rc;
	v->n = m->n;
	v->dim = m->dim;
	/* Unpacked into an arena: 16-aligned. */
	v->vectors = m->dim ? (const float *)(const void *)m->vectors.data : NULL;
	return 0;
}

bool rpc_rows_next(struct rpc_rows_view *v, struct vx_record *ret)
{
	if (v->next == v->n)
		return false;
	memset(ret, 0, sizeof *ret);
	if (v->vectors) {
		ret->vec = v->vectors + (size_t)v->next * v->dim;
		ret->dim = v->dim;
	}
	rpc_strings_next(&v->ids, &ret->id, &ret->id_len);
	rpc_strings_next(&v->metas, &ret->meta, &ret->meta_len);
	rpc_strings_next(&v->texts, &ret->text, &ret->text_len);
	ret->line = ++v->next;
	return true;
}
