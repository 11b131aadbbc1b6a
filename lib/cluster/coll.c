/* coll.c - collections: create, drop, options, and making sure their slices exist.
 *
 * Everything goes through the catalog first (the meta group), then to the shards.  A crash in between leaves
 * either a collection whose slices are made at its first write, or slices that no collection owns, which the
 * next start drops (coll_reconcile).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "cluster/catalog.h"

#include <jansson.h>

/* --- talking to the catalog ------------------------------------------------------ */
int cat_entry(const struct buf *payload, void **ret_entry, size_t *ret_len)
{
	struct buf b = BUF_INIT;
	struct entry_header h = {.format = ENTRY_FORMAT, .kind = ENTRY_CATALOG};
	int rc = entry_begin(&b, &h);

	if (rc == 0)
		rc = buf_append(&b, payload->data, payload->len);
	if (rc) {
		buf_release(&b);
		return rc;
	}
	entry_finish(&b, 0, &h, 0);
	*ret_entry = b.data;
	*ret_len = b.len;
	return 0;
}

/* Proposes a payload to the meta group and waits; releases 'payload'. */
static int cat_propose(struct db *db, struct buf *payload, int rc, uint32_t *ret_cid)
{
	struct ticket t = {.status = 0};
	void *entry;
	size_t len;

	if (rc == 0)
		rc = cat_entry(payload, &entry, &len);
	buf_release(payload);
	if (rc)
		return rc;
	rc = propose_wait(db, META_GROUP, &t, entry, len);
	if (rc == 0 && ret_cid)
		*ret_cid = t.cid;
	return rc;
}

/* --- pins ------------------------------------------------------------------------------ */
static struct coll *pin(struct db *db, const char *name, uint32_t cid, int *ret_rc)
{
	struct coll *c;

	vx_lock(&db->coll_lock);
	for (c = db->colls; c; c = c->next)
		if (name ? strcmp(c->name, name) == 0 : c->cid == cid)
			break;
	if (c)
		coll_ref(c);
	vx_unlock(&db->coll_lock);
	*ret_rc = c ? 0 : -ENOENT;
	return c;
}

struct coll *db_coll(struct db *db, const char *name, int *ret_rc, struct vx_err *err)
{
	struct coll *c = pin(db, name, 0, ret_rc);

	if (!c)
		vx_err_set(err, -ENOENT, "no collection '%.80s'", name);
	return c;
}

struct coll *db_coll_by_cid(struct db *db, uint32_t cid, int *ret_rc, struct vx_err *err)
{
	struct coll *c = pin(db, NULL, cid, ret_rc);

	if (!c)
		vx_err_set(err, -ENOENT, "no collection with number %u", cid);
	return c;
}

int db_list(struct db *db, int (*each)(void *arg, const char *name, uint32_t cid), void *arg)
{
	struct coll *c;
	int rc = 0;

	vx_lock(&db->coll_lock);
	c = db->colls ? coll_ref(db->colls) : NULL;
	vx_unlock(&db->coll_lock);
	while (c) {
		if (rc == 0 && !coll_gone(c) && c->name[0] != HIDDEN)
			rc = each(arg, c->name, c->cid);
		/* Walk by name: the list may have changed while 'each' ran. */
		vx_lock(&db->coll_lock);
		struct coll *n = db->colls;
		while (n && strcmp(n->name, c->name) <= 0)
			n = n->next;
		if (n && rc == 0)
			coll_ref(n);
		else
			n = NULL;
		vx_unlock(&db->coll_lock);
		coll_put(c);
		c = n;
	}
	return rc;
}

uint32_t coll_cid(const struct coll *c)
{
	return c->cid;
}

const char *coll_name(const struct coll *c)
{
	return c->name;
}

uint64_t coll_ctime_ns(const struct coll *c)
{
	return c->ctime_ns;
}

bool coll_gone(const struct coll *c)
{
	return atomic_load(&c->gone);
}

uint32_t coll_dim(const struct coll *c)
{
	return atomic_load_explicit(&c->dim, memory_order_acquire);
}

enum vx_metric coll_metric(const struct coll *c)
{
	return (enum vx_metric)atomic_load_explicit(&c->metric, memory_order_relaxed);
}

uint32_t coll_shard_of(const struct coll *c, const char *id, size_t len)
{
	uint32_t bucket;

	if (c->n_places == 1)
		return c->places[0].shard;
	bucket = hash_bucket(id, len);
	for (uint32_t i = 0; i < c->n_places; i++)
		if (bucket <= c->places[i].last)
			return c->places[i].shard;
	return c->places[c->n_places - 1].shard;
}

/* --- create ----------------------------------------------------------------------------- */
/* Where the buckets of a new collection go: 'spread' equal ranges on consecutive shards, starting at the
 * shard that has the fewest ranges now; stopped ones get none. */
static int put_placements(struct db *db, struct buf *b, uint32_t spread, struct vx_err *err)
{
	uint32_t load[SHARDS_MAX] = {0}, live[SHARDS_MAX], n = 0, best = 0;
	int rc;

	vx_lock(&db->coll_lock);
	for (struct coll *c = db->colls; c; c = c->next)
		for (uint32_t i = 0; i < c->n_places; i++)
			load[c->places[i].shard]++;
	vx_unlock(&db->coll_lock);
	for (uint32_t s = 0; s < db->n_shards; s++)
		if (!shard_stopped(db->shards[s]))
			live[n++] = s;
	if (n == 0)
		return vx_err_set(
			err, -EUCLEAN, "every shard is stopped: %s", shard_stopped(db->shards[0]));
	for (uint32_t i = 1; i < n; i++)
		if (load[live[i]] < load[live[best]])
			best = i;
	if (spread > n)
		spread = n;
	rc = buf_put_le16(b, (uint16_t)spread);
	for (uint32_t i = 0; rc == 0 && i < spread; i++) {
		rc = buf_put_le16(b, (uint16_t)(VX_BUCKETS * i / spread));
		if (rc == 0)
			rc = buf_put_le16(b, (uint16_t)(VX_BUCKETS * (i + 1) / spread - 1));
		if (rc == 0)
			rc = buf_put_le32(b, live[(best + i) % n]);
	}
	return rc;
}

/* Collects the options that differ from their defaults, checked. */
static int schema_pairs(
	const struct coll_schema *s, struct buf *pairs, uint16_t *ret_n, struct vx_err *err)
{
	char num[CO_N][16];
	const char *v[CO_N] = {NULL};
	const struct {
		enum coll_opt o;
		uint32_t n;
	} nums[] = {{CO_DIM, s->dim}, {CO_M, s->m}, {CO_EF_CONSTRUCTION, s->ef_construction},
		{CO_SPREAD, s->spread}};

	for (size_t i = 0; i < VX_ARRAY_SIZE(nums); i++) {
		snprintf(num[nums[i].o], sizeof num[0], "%u", nums[i].n);
		if (nums[i].n)
			v[nums[i].o] = num[nums[i].o];
	}
	v[CO_METRIC] = vx_metric_name(s->metric);
	v[CO_INDEX] = s->index[0] ? s->index : NULL;
	v[CO_QUANT] = s->quant[0] ? s->quant : NULL;
	v[CO_RECALL] = s->recall[0] ? s->recall : NULL;
	*ret_n = 0;
	for (int o = 0; o < CO_N; o++) {
		if (!v[o])
			continue;
		int rc = coll_option_check((enum coll_opt)o, v[o], err);
		if (rc == 0)
			rc = cat_put_pair(pairs, coll_options[o].name, v[o]);
		if (rc)
			return rc;
		(*ret_n)++;
	}
	return 0;
}

int coll_create_raw(struct db *db, const char *name, uint32_t spread, const struct buf *pairs,
	uint16_t n_pairs, struct vx_err *err)
{
	struct buf b = BUF_INIT;
	uint32_t cid;

	int rc = home_space_check(db, 4096, false, err);
	if (rc == 0)
		rc = buf_put_u8(&b, CAT_CREATE);
	if (rc == 0)
		rc = cat_put_name(&b, name);
	if (rc == 0)
		rc = buf_put_le16(&b, n_pairs);
	if (rc == 0)
		rc = buf_append(&b, pairs->data, pairs->len);
	if (rc == 0)
		rc = put_placements(db, &b, spread ? spread : 1, err);
	return cat_propose(db, &b, rc, &cid);
}

int db_create(struct db *db, const char *name, const struct coll_schema *schema, struct vx_err *err)
{
	static const struct coll_schema defaults = {.metric = VX_COSINE};
	struct buf pairs = BUF_INIT;
	uint16_t n;

	if (!schema)
		schema = &defaults;
	int rc = vx_name_check(name, err);
	if (rc == 0)
		rc = schema_pairs(schema, &pairs, &n, err);
	if (rc == 0)
		rc = coll_create_raw(db, name, schema->spread, &pairs, n, err);
	buf_release(&pairs);
	if (rc == -EEXIST)
		return vx_err_set(err, rc, "collection '%s' exists already", name);
	if (rc && (!err || !err->msg[0]))
		return vx_err_set(
			err, rc, "collection '%s' was not created: %s", name, strerror(-rc));
	return rc;
}

/* --- drop ---------------------------------------------------------------------------------- */
static int drop_slice(struct db *db, uint32_t shard, uint32_t cid)
{
	struct buf b = BUF_INIT;
	struct entry_header h = {.format = ENTRY_FORMAT, .kind = ENTRY_SLICE_DROP, .cid = cid};
	struct ticket t = {.status = 0};
	int rc = entry_begin(&b, &h);

	if (rc) {
		buf_release(&b);
		return rc;
	}
	entry_finish(&b, 0, &h, 0);
	rc = propose_wait(db, SHARD_GROUP0 + shard, &t, b.data, b.len);
	return rc == -ENOENT ? 0 : rc;
}

/* Shuts writers out and waits for those under way. */
static int drop_begin(struct coll *c, struct vx_err *err)
{
	struct db *db = c->db;

	vx_lock(&db->coll_lock);
	int rc = c->dropping ? -EBUSY : 0;
	c->dropping = true;
	while (rc == 0 && c->writers > 0)
		vx_cond_wait(&db->coll_cond, &db->coll_lock);
	vx_unlock(&db->coll_lock);
	return rc ? vx_err_set(err, rc, "collection '%s' is being dropped already", c->name) : 0;
}

/* 'rc': how it went.  Once the name is gone, a failure is mended at the next start. */
static void drop_end(struct coll *c, int rc)
{
	struct db *db = c->db;

	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++)
		(void)drop_slice(db, c->places[i].shard, c->cid);
	if (rc) {
		vx_lock(&db->coll_lock);
		c->dropping = false;
		vx_cond_broadcast(&db->coll_cond);
		vx_unlock(&db->coll_lock);
	}
}

int coll_reveal(struct coll *c, const char *name, bool replace, struct vx_err *err)
{
	struct db *db = c->db;
	struct buf b = BUF_INIT;
	int rc = 0;
	struct coll *old = replace ? db_coll(db, name, &rc, NULL) : NULL;

	rc = old ? drop_begin(old, err) : 0;
	if (rc) {
		coll_put(old);
		return rc;
	}
	rc = buf_put_u8(&b, CAT_RENAME);
	if (rc == 0)
		rc = buf_put_le32(&b, c->cid);
	if (rc == 0)
		rc = cat_put_name(&b, name);
	/* One that came since we looked is not ours to drop. */
	if (rc == 0)
		rc = buf_put_u8(&b, old != NULL);
	rc = cat_propose(db, &b, rc, NULL);
	if (rc)
		vx_err_set(err, rc,
			rc == -EEXIST ? "collection '%s' exists already"
				      : "collection '%s' was not put in place",
			name);
	if (old)
		drop_end(old, rc);
	coll_put(old);
	return rc;
}

/* Writers are shut out first and those under way waited for, so that "empty" stays true until the catalog
 * has forgotten the name: nothing acknowledged is dropped unasked. */
int db_drop(struct db *db, const char *name, bool force, struct vx_err *err)
{
	struct buf b = BUF_INIT;
	int rc;
	struct coll *c = db_coll(db, name, &rc, err);

	if (!c)
		return rc;
	rc = drop_begin(c, err);
	if (rc) {
		coll_put(c);
		return rc;
	}
	struct coll_index_info info = {.records = 0};
	if (!force)
		rc = coll_index_info(c, &info);
	uint64_t count = info.records;
	if (rc) { /* what cannot be read is not empty */
		vx_err_set(err, rc,
			"collection '%s' cannot be read, so it may have records; use vec-drop "
			"--force",
			name);
	} else if (count > 0) {
		rc = vx_err_set(err, -ENOTEMPTY,
			"collection '%s' has %llu records; remove them first, or use vec-drop "
			"--force",
			name, (unsigned long long)count);
	} else {
		rc = buf_put_u8(&b, CAT_DROP);
		if (rc == 0)
			rc = buf_put_le32(&b, c->cid);
		rc = cat_propose(db, &b, rc, NULL);
	}
	drop_end(c, rc);
	coll_put(c);
	return rc;
}

struct orphans {
	struct db *db;
	uint32_t *cids;
	size_t n;
};

static int note_orphan(void *arg, uint32_t cid)
{
	struct orphans *o = arg;
	int rc;
	struct coll *c = pin(o->db, NULL, cid, &rc);

	if (c) {
		coll_put(c);
		return 0;
	}
	uint32_t *p = realloc(o->cids, (o->n + 1) * sizeof *p);
	if (!p)
		return -ENOMEM;
	o->cids = p;
	o->cids[o->n++] = cid;
	return 0;
}

/* The name of some hidden collection. */
static bool find_hidden(struct db *db, char ret[VX_NAME_MAX + 1])
{
	bool found = false;

	vx_lock(&db->coll_lock);
	for (struct coll *c = db->colls; c && !found; c = c->next) {
		found = c->name[0] == HIDDEN;
		if (found)
			snprintf(ret, VX_NAME_MAX + 1, "%s", c->name);
	}
	vx_unlock(&db->coll_lock);
	return found;
}

void coll_reconcile(struct db *db)
{
	char name[VX_NAME_MAX + 1];

	/* Without room the catalog may not know yet of collections that the log has. */
	if (applier_stalled(db, META_GROUP))
		return;
	while (find_hidden(db, name)) {
		struct vx_err err = VX_ERR_INIT;
		int rc = db_drop(db, name, true, &err);

		log_info("cluster", "%s: a restore that was interrupted, dropped%s%s", name,
			rc ? ": " : "", rc ? vx_err_msg(&err, rc) : "");
		if (rc)
			break;
	}
	for (uint32_t s = 0; s < db->n_shards; s++) {
		struct orphans o = {.db = db};

		(void)!shard_slices(db->shards[s], note_orphan, &o);
		for (size_t i = 0; i < o.n; i++) {
			log_info("cluster",
				"shard %u: dropping slice c-%u, whose collection is gone", s,
				o.cids[i]);
			(void)drop_slice(db, s, o.cids[i]);
		}
		free(o.cids);
	}
}

/* --- slices ------------------------------------------------------------------------------- */
static int create_slice(struct coll *c, uint32_t shard)
{
	struct buf b = BUF_INIT;
	struct entry_header h = {.format = ENTRY_FORMAT, .kind = ENTRY_SLICE_CREATE, .cid = c->cid};
	struct slice_schema s = {.cid = c->cid, .dim = coll_dim(c), .metric = coll_metric(c)};
	struct ticket t = {.status = 0};

	vx_lock(&c->db->coll_lock);
	snprintf(s.index, sizeof s.index, "%s", coll_opt_get(c, CO_INDEX));
	snprintf(s.quant, sizeof s.quant, "%s", coll_opt_get(c, CO_QUANT));
	s.m = (uint32_t)atoi(coll_opt_get(c, CO_M));
	s.ef_construction = (uint32_t)atoi(coll_opt_get(c, CO_EF_CONSTRUCTION));
	vx_unlock(&c->db->coll_lock);
	s.epoch = h.schema_epoch = atomic_load(&c->epoch);
	int rc = entry_begin(&b, &h);
	if (rc == 0)
		rc = slice_schema_encode(&s, &b);
	if (rc) {
		buf_release(&b);
		return rc;
	}
	entry_finish(&b, 0, &h, 0);
	return propose_wait(c->db, SHARD_GROUP0 + shard, &t, b.data, b.len);
}

int coll_ensure_slices(struct coll *c, struct vx_err *err)
{
	struct db *db = c->db;
	int rc = 0;

	vx_lock(&db->coll_lock);
	while (c->creating_slices && !c->slices_ready)
		vx_cond_wait(&db->coll_cond, &db->coll_lock);
	bool mine = !c->slices_ready;
	if (mine)
		c->creating_slices = true;
	vx_unlock(&db->coll_lock);
	if (!mine)
		return 0;
	for (uint32_t i = 0; rc == 0 && i < c->n_places; i++) {
		struct slice *sl = shard_slice_get(
			db->shards[c->places[i].shard], c->cid, &rc, err);

		if (sl)
			slice_put(sl);
		else if (rc == -ENOENT)
			rc = create_slice(c, c->places[i].shard);
	}
	vx_lock(&db->coll_lock);
	c->slices_ready = rc == 0;
	c->creating_slices = false;
	vx_cond_broadcast(&db->coll_cond);
	vx_unlock(&db->coll_lock);
	if (rc && (!err || !err->msg[0]))
		vx_err_set(err, rc, "collection '%s': its storage could not be made: %s", c->name,
			strerror(-rc));
	return rc;
}

int coll_fix_dim(struct coll *c, uint32_t dim, struct vx_err *err)
{
	struct buf b = BUF_INIT;
	int rc;

	if (!atomic_load_explicit(&c->sealed, memory_order_acquire)) {
		rc = buf_put_u8(&b, CAT_SET_DIM);
		if (rc == 0)
			rc = buf_put_le32(&b, c->cid);
		if (rc == 0)
			rc = buf_put_le32(&b, dim);
		rc = cat_propose(c->db, &b, rc, NULL);
		if (rc && rc != -ESTALE)
			return vx_err_set(err, rc, "the dimension of '%s' could not be fixed: %s",
				c->name, strerror(-rc));
	}
	if (coll_dim(c) != dim)
		return vx_err_set(err, -EINVAL,
			"the vector has %u numbers; this collection has dimension %u", dim,
			coll_dim(c));
	return 0;
}

/* --- options --------------------------------------------------------------------------------- */
int coll_config_get(struct coll *c, const char *key, struct buf *out)
{
	int o = coll_opt_find(key);

	if (o < 0)
		return o;
	vx_lock(&c->db->coll_lock);
	const char *v = coll_opt_get(c, (enum coll_opt)o);
	int rc = buf_append(out, v, strlen(v));
	vx_unlock(&c->db->coll_lock);
	return rc;
}

int coll_config_set(struct coll *c, const char *key, const char *value, struct vx_err *err)
{
	struct buf b = BUF_INIT;
	int o = coll_opt_find(key);

	if (o < 0)
		return vx_err_set(err, -EINVAL, "unknown option '%.64s'", key);
	if (o == CO_SPREAD)
		return vx_err_set(err, -EPERM, "spread is fixed when the collection is created");
	int rc = coll_option_check((enum coll_opt)o, value, err);
	if (rc)
		return rc;
	rc = buf_put_u8(&b, CAT_SET_OPTION);
	if (rc == 0)
		rc = buf_put_le32(&b, c->cid);
	if (rc == 0)
		rc = cat_put_pair(&b, key, value);
	rc = cat_propose(c->db, &b, rc, NULL);
	if (rc == -EPERM)
		return vx_err_set(err, rc, "%s is fixed: the collection has had records", key);
	if (rc)
		return vx_err_set(err, rc, "%s was not set: %s", key, strerror(-rc));
	return 0;
}

void coll_schema(const struct coll *c, struct coll_schema *ret)
{
	struct coll *w = (struct coll *)(uintptr_t)c; /* the lock is not part of the value */

	memset(ret, 0, sizeof *ret);
	vx_lock(&c->db->coll_lock);
	ret->dim = coll_dim(c);
	ret->metric = coll_metric(c);
	snprintf(ret->index, sizeof ret->index, "%s", coll_opt_get(w, CO_INDEX));
	snprintf(ret->quant, sizeof ret->quant, "%s", coll_opt_get(w, CO_QUANT));
	ret->m = (uint32_t)atoi(coll_opt_get(w, CO_M));
	ret->ef_construction = (uint32_t)atoi(coll_opt_get(w, CO_EF_CONSTRUCTION));
	ret->spread = c->n_places;
	vx_unlock(&c->db->coll_lock);
}

int coll_schema_json(const struct coll *c, struct buf *out)
{
	struct coll_schema s;

	coll_schema(c, &s);
	return buf_printf(out,
		"{\"dim\":%u,\"metric\":\"%s\",\"element\":\"float32\",\"index\":\"%s\","
		"\"quant\":\"%s\",\"m\":%u,\"ef_construction\":%u,\"spread\":%u}\n",
		s.dim, vx_metric_name(s.metric), s.index, s.quant, s.m, s.ef_construction,
		s.spread);
}

/* One key of schema.json, as the option's text; false when the value is of a wrong kind. */
static bool json_text(json_t *v, char *out, size_t cap)
{
	if (json_is_integer(v))
		return snprintf(out, cap, "%lld", (long long)json_integer_value(v)) > 0;
	if (json_is_string(v))
		return (size_t)snprintf(out, cap, "%s", json_string_value(v)) < cap;
	return false;
}

int coll_schema_set_json(struct coll *c, const char *p, size_t n, struct vx_err *err)
{
	json_error_t je;
	json_t *j = json_loadb(p, n, JSON_REJECT_DUPLICATES, &je), *v;
	char text[CONFIG_VALUE_MAX + 1];
	const char *key;
	int rc = 0;

	if (!json_is_object(j)) {
		json_decref(j);
		return vx_err_set(
			err, -EINVAL, "schema.json: %s", j ? "not a JSON object" : je.text);
	}
	/* All keys are checked before the first one is set. */
	for (int pass = 0; rc == 0 && pass < 2; pass++) {
		json_object_foreach(j, key, v)
		{
			int o = coll_opt_find(key);
			struct buf now = BUF_INIT;

			if (strcmp(key, "element") == 0) {
				if (!json_is_string(v) ||
					strcmp(json_string_value(v), "float32") != 0)
					rc = vx_err_set(err, -EINVAL,
						"schema.json: element can only be \"float32\"");
			} else if (o < 0) {
				rc = vx_err_set(
					err, -EINVAL, "schema.json: unknown key '%.64s'", key);
			} else if (!json_text(v, text, sizeof text)) {
				rc = vx_err_set(err, -EINVAL,
					"schema.json: '%s' is neither a string nor an integer",
					key);
			} else if (pass == 0) {
				rc = coll_option_check((enum coll_opt)o, text, err);
			} else {
				rc = coll_config_get(c, key, &now);
				if (rc == 0)
					rc = buf_cstr(&now);
				if (rc == 0 && strcmp((char *)now.data, text) != 0)
					rc = coll_config_set(c, key, text, err);
			}
			buf_release(&now);
			if (rc)
				break;
		}
	}
	json_decref(j);
	return rc;
}
