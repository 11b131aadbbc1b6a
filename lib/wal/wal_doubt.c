/* wal_doubt.c - which groups a damaged place of the log concerns.
 *
 * A frame that was flushed and cannot be read any more may have held any record of the groups that its header, or the
 * header of the frame behind it, names (all groups, where nobody can say).  Each of them is in doubt from there on:
 *
 *	hard     its term and vote, until a later HARDSTATE or a table says them again;
 *	adrift   where its log ends, until a later ENTRY, MARK or a table says it.  What came before may have been
 *	         replaced by what was lost, so it is not used: 'upto';
 *	unmarked its mark, until a later one, or a table.
 *
 * A mark settles what lies below it, because the store has it, and is logged with a HARDSTATE and the last index; RESET settles everything but term and vote, DROP all.  A group that is
 * still in doubt at the end of the log, or lacks entries, or the manifest of its mark, is stopped: it does not take
 * part, nothing of it is written, and the records that later opens find of it are only looked at for the highest term and
 * index, which whoever accepts the loss must go beyond (wal_lift).  A payload that is damaged below a whole header is in doubt itself.
 *
 * A group that is not in doubt loses nothing: its records are applied as ever.
 */
#include "wal/wal_i.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void doubt(struct wal_group *g, struct wal_place place)
{
	if (g->doubt.place.why)
		return;
	g->doubt.place = place;
	g->doubt.keep = g->n ? g->pos[g->head].seg : place.seq;
}

static bool in_doubt(const struct wal_group *g)
{
	const struct wal_doubt *d = &g->doubt;

	return d->stuck || d->hard || d->adrift || d->unmarked || d->upto > g->mark_index ||
	       g->base > g->mark_index || g->manifest_seq;
}

/* Whoever accepts a loss goes beyond what was seen, whether it was believed or not. */
static void see(struct wal_doubt *d, uint64_t term, uint64_t index)
{
	if (term <= INT64_MAX)
		d->high_term = VX_MAX(d->high_term, term);
	if (index <= INT64_MAX)
		d->high_index = VX_MAX(d->high_index, index);
}

static void set_adrift(struct wal_group *g, struct wal_place place)
{
	doubt(g, place);
	g->doubt.hard = g->doubt.adrift = g->doubt.unmarked = true;
}

static void stick(struct wal_group *g, struct wal_place place)
{
	doubt(g, place);
	g->doubt.stuck = true;
}

void wal_doubt_lost(
	struct wal *w, struct wal_losses *l, const struct wal_gset *set, struct wal_place place)
{
	struct wal_gset known = wal_any_group;
	struct wal_gset rest;

	if (!l->first.why)
		l->first = place;
	for (size_t i = 0; i < w->n_groups; i++) {
		struct wal_group *g = w->groups[i];
		if (!wal_gset_may_hold(set, g->id))
			continue;
		g->doubt.dropped = false;
		if (!g->exists)
			continue;
		wal_gset_add(&known, g->id);
		if (!g->stopped)
			set_adrift(g, place);
	}
	/* Somebody must have begun there where nobody who is known has the bit; and somebody who shares
	 * the bit of one who is known may have. */
	for (unsigned i = 0; i < WAL_GSET_BYTES; i++)
		rest.bits[i] = set->bits[i] & (uint8_t)~known.bits[i];
	l->strange |= wal_gset_is_any(set) || !wal_gset_is_any(&rest);
	if (l->births.why) {
		wal_gset_join(&l->born, set);
	} else {
		l->born = *set;
		l->births = place;
	}
}

bool wal_doubt_born(const struct wal_losses *l, const struct wal_group *g)
{
	return l->births.why && !g->exists && !g->doubt.dropped &&
	       wal_gset_may_hold(&l->born, g->id);
}

/* Somebody says, for the first time behind a loss, that the group's log goes up to 'last'; what was known of it is cut or
 * left behind. */
static void regain(struct wal_group *g, uint64_t last)
{
	if (last < g->mark_index)
		return; /* wal_group_apply says what is wrong */
	if (last < g->base || last > wal_group_last(g)) {
		g->base = last;
		g->head = g->n = 0;
	} else {
		g->n = (size_t)(last - g->base);
	}
	g->doubt.adrift = false;
	g->doubt.upto = last;
}

/* The highest of what is seen of a stopped group; 0 changes nothing. */
static void take_note(struct wal_group *g, uint64_t term, uint64_t index, uint64_t mark)
{
	if (term <= INT64_MAX)
		g->term = VX_MAX(g->term, term);
	if (mark <= INT64_MAX)
		g->mark_index = VX_MAX(g->mark_index, mark);
	if (index <= INT64_MAX)
		g->base = VX_MAX(g->base, index);
	g->base = VX_MAX(g->base, g->mark_index);
}

static bool is_beginning(const struct wal_rhdr *h)
{
	return h->type == WAL_RESET || h->type == WAL_DROP;
}

/* True if the record is taken as the group's new beginning. */
static bool look_at(struct wal_group *g, const struct wal_rhdr *h, struct wal_place place)
{
	bool mark = h->type == WAL_MARK || h->type == WAL_RESET;

	if (is_beginning(h) && !g->stop_file) {
		free(g->stopped);
		g->stopped = NULL;
		doubt(g, place);
		g->doubt.hard = true;
		return true;
	}
	take_note(g, h->term, h->type == WAL_ENTRY ? h->index : 0, mark ? h->index : 0);
	if (h->type == WAL_MARK)
		take_note(g, 0, h->vote, 0);
	return false;
}

/* The record was applied: what it says again. */
static void settle(struct wal_group *g, const struct wal_rhdr *h)
{
	struct wal_doubt *d = &g->doubt;
	uint8_t type = h->type;

	/* What is above is gone, whatever it was. */
	if (type == WAL_TRUNCATE)
		d->upto = VX_MIN(d->upto, h->index - 1);
	if (type == WAL_HARDSTATE)
		d->hard = false;
	if (type == WAL_MARK)
		d->unmarked = false;
	if (type == WAL_RESET) {
		d->hard |= d->stuck;
		d->stuck = d->adrift = d->unmarked = false;
		d->upto = 0;
	}
	if (type == WAL_DROP)
		d->dropped = true;
	else if (!in_doubt(g))
		d->place.why = NULL;
}

int wal_doubt_apply(struct wal *w, struct wal_losses *l, const struct wal_rhdr *h,
	struct wal_pos at, bool payload_ok)
{
	struct wal_place place = {at.seg, at.off, "its term and vote are not known"};
	struct wal_group *g = wal_group_get(w, h->group);

	if (!g)
		return -ENOMEM;
	if (g->stopped && !look_at(g, h, place))
		return 0;
	see(&g->doubt, h->term, h->type == WAL_TRUNCATE ? 0 : h->index);
	if (h->type == WAL_MARK)
		see(&g->doubt, 0, h->vote);
	if (g->doubt.stuck && !is_beginning(h))
		return 0;
	if (wal_doubt_born(l, g))
		set_adrift(g, l->births);
	if (g->doubt.adrift && h->type == WAL_ENTRY && h->index)
		regain(g, h->index - 1);
	else if (g->doubt.adrift && h->type == WAL_MARK && h->vote)
		regain(g, h->vote);
	int rc = wal_group_apply(w, h, at);
	if (rc == -EUCLEAN) {
		g->exists = true;
		place.why = "record does not follow";
		stick(g, place);
		if (!l->first.why)
			l->first = place;
		return 0;
	}
	if (rc)
		return rc;
	settle(g, h);
	if (payload_ok)
		return 0;
	place.why = "a flushed record is damaged";
	doubt(g, place);
	if (!l->first.why)
		l->first = place;
	if (h->type == WAL_ENTRY) {
		g->doubt.upto = VX_MAX(g->doubt.upto, h->index);
	} else if (h->type == WAL_MARK || h->type == WAL_RESET) {
		g->manifest = (struct wal_pos){0, 0};
		g->manifest_seq = at.seg;
	}
	return 0;
}

/* --- tables ------------------------------------------------------------------------- */
static void adopt(struct wal_group *g, const struct wal_row *r)
{
	g->exists = true;
	g->term = r->term;
	g->vote = r->vote;
	g->doubt.hard = g->doubt.unmarked = false;
	if (r->mark_index != g->mark_index || r->mark_term != g->mark_term) {
		g->manifest = (struct wal_pos){0, 0};
		g->manifest_seq = r->manifest_seq;
	}
	g->mark_index = r->mark_index;
	g->mark_term = r->mark_term;
	if (g->doubt.adrift) {
		g->doubt.adrift = false;
		g->doubt.upto = r->last;
	}
	if (wal_group_last(g) != r->last) {
		g->base = r->last;
		g->head = g->n = 0;
	} else if (g->base < r->mark_index) {
		size_t k = (size_t)(r->mark_index - g->base);
		g->head += k;
		g->n -= k;
		g->base = r->mark_index;
	}
}

static bool agrees(const struct wal_group *g, const struct wal_row *r)
{
	return g->exists && g->term == r->term && g->vote == r->vote &&
	       g->mark_index == r->mark_index && g->mark_term == r->mark_term &&
	       wal_group_last(g) == r->last;
}

static int one_row(struct wal_group *g, const struct wal_losses *l, const struct wal_row *r,
	uint32_t seq, bool first)
{
	struct wal_place place = {seq, 0, "impossible group table"};
	bool twice = g->doubt.in_table == seq;

	g->doubt.in_table = seq;
	if (g->stopped || r->stopped) {
		g->exists = true;
		take_note(g, r->term, r->last, r->mark_index);
		if (!g->stopped)
			return wal_doubt_stop(
				g, "it was stopped before; the file that said why is gone", false);
		return 0;
	}
	see(&g->doubt, r->term, r->last);
	if (twice || r->last < r->mark_index || r->last == UINT64_MAX) {
		g->exists = true;
		stick(g, place);
		return 0;
	}
	if (first) {
		adopt(g, r);
		g->base = r->last;
		g->head = g->n = 0;
		g->manifest_seq = r->manifest_seq;
		return 0;
	}
	place.why = "group table does not follow";
	if (wal_doubt_born(l, g))
		set_adrift(g, l->births);
	if (g->doubt.stuck)
		return 0;
	if ((g->doubt.hard || g->doubt.adrift || g->doubt.unmarked) &&
		r->mark_index >= g->mark_index) {
		adopt(g, r);
	} else if (!agrees(g, r)) {
		g->exists = true;
		stick(g, place);
	}
	if (!in_doubt(g))
		g->doubt.place.why = NULL;
	return 0;
}

int wal_doubt_table(struct wal *w, struct wal_losses *l, const uint8_t *hdr,
	const struct wal_shdr *h, bool first)
{
	struct wal_place place = {h->seq, 0, "group table does not follow"};

	for (unsigned i = 0; i < h->n_groups; i++) {
		struct wal_row r;
		wal_row_get(hdr, i, &r);
		struct wal_group *g = wal_group_get(w, r.group);
		int rc = g ? one_row(g, l, &r, h->seq, first) : -ENOMEM;
		if (rc)
			return rc;
		if (g->doubt.stuck && !l->first.why)
			l->first = g->doubt.place;
	}
	for (size_t i = 0; i < w->n_groups; i++) {
		struct wal_group *g = w->groups[i];
		if (!g->exists || g->doubt.in_table == h->seq || g->stopped || g->doubt.stuck)
			continue;
		if (g->doubt.hard || g->doubt.adrift) {
			/* What was lost was its end. */
			wal_group_apply(w, &(struct wal_rhdr){.group = g->id, .type = WAL_DROP},
				(struct wal_pos){0, 0});
			continue;
		}
		stick(g, place);
		if (!l->first.why)
			l->first = place;
	}
	l->births.why = NULL; /* it names all that there were */
	l->strange = false;
	return 0;
}

/* --- the end ---------------------------------------------------------------------------- */
bool wal_doubt_why(const struct wal_group *g, char ret[WAL_WHY_MAX])
{
	const struct wal_doubt *d = &g->doubt;
	bool missing = g->base > g->mark_index;

	if (!in_doubt(g))
		return false;
	if (d->place.why)
		snprintf(ret, WAL_WHY_MAX, "%010u.wal: offset %" PRIu64 ": %s", d->place.seq,
			d->place.off, d->place.why);
	else if (missing)
		snprintf(ret, WAL_WHY_MAX,
			"group %u: entries %" PRIu64 " to %" PRIu64 " are missing", g->id,
			g->mark_index + 1, g->base);
	else
		snprintf(ret, WAL_WHY_MAX, "group %u: the manifest of its mark is missing", g->id);
	return true;
}

int wal_doubt_stop(struct wal_group *g, const char *why, bool stop_file)
{
	char *text = strdup(why);

	if (!text)
		return -ENOMEM;
	free(g->stopped);
	g->stopped = text;
	g->stop_file = stop_file;
	g->exists = true;
	g->vote = 0;
	g->term = VX_MAX(g->term, g->doubt.high_term);
	g->base = VX_MAX(wal_group_last(g), g->mark_index);
	g->base = VX_MAX(g->base, g->doubt.high_index);
	g->head = g->n = 0;
	g->manifest = (struct wal_pos){0, 0};
	g->manifest_seq = 0;
	return 0;
}
