/* complete.c - is this the beginning of a JSON value?
 *
 * A file of the mount is written piece by piece, and only the writes can fail loudly: shells do not
 * look at what close() says.  So text that can never become a record must be refused when it
 * arrives, and text that may become one must wait.  That is a question about prefixes, which no
 * parser of whole texts answers: "{bro" is an error for one as much as "{\"bro" is.
 *
 * The answer needs the grammar of RFC 8259 alone and one bit for each open bracket.  Each piece below
 * takes one token and says DONE with the position behind it, MORE where the text ends before the token
 * does, or -EINVAL where no byte could save it; MORE and -EINVAL are the answer for the text as a whole.
 * What the grammar does not know - which numbers fit, lone surrogates, keys that appear twice - is found
 * when the complete text is parsed.
 */
#include "codec/codec_i.h"

#include <string.h>

#define MORE 0
#define DONE 1

static bool is_digit(const char *p, const char *end)
{
	return p < end && *p >= '0' && *p <= '9';
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* "null" and its like, of which 'p' has a part. */
static int take_literal(const char **pp, const char *end, const char *word)
{
	size_t n = strlen(word), have = (size_t)(end - *pp);

	if (memcmp(*pp, word, VX_MIN(n, have)) != 0)
		return -EINVAL;
	*pp += VX_MIN(n, have);
	return have < n ? MORE : DONE;
}

/* One digit or more; a number at the end of the text may always go on. */
static int take_digits(const char **pp, const char *end)
{
	if (*pp == end)
		return MORE;
	if (!is_digit(*pp, end))
		return -EINVAL;
	while (is_digit(*pp, end))
		++*pp;
	return *pp == end ? MORE : DONE;
}

static int take_number(const char **pp, const char *end)
{
	int rc = DONE;

	if (**pp == '-' && ++*pp == end)
		return MORE;
	if (**pp == '0')
		rc = ++*pp == end ? MORE : DONE;
	else
		rc = take_digits(pp, end);
	if (rc == DONE && **pp == '.') {
		++*pp;
		rc = take_digits(pp, end);
	}
	if (rc == DONE && (**pp == 'e' || **pp == 'E')) {
		++*pp;
		if (*pp < end && (**pp == '+' || **pp == '-'))
			++*pp;
		rc = take_digits(pp, end);
	}
	return rc;
}

static int take_escape(const char **pp, const char *end)
{
	if (++*pp == end)
		return MORE;
	char c = *(*pp)++;
	if (c != 'u')
		return c && strchr("\"\\/bfnrt", c) ? DONE : -EINVAL;
	for (int i = 0; i < 4; i++, ++*pp) {
		if (*pp == end)
			return MORE;
		if (!is_hex(**pp))
			return -EINVAL;
	}
	return DONE;
}

/* One character of two bytes or more.  The second byte has a range of its own where the first alone
 * would admit an overlong form, a surrogate or a code point past the last. */
static int take_utf8(const char **pp, const char *end)
{
	unsigned char first = (unsigned char)*(*pp)++;
	unsigned char low = 0x80, high = 0xbf;
	int rest = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;

	if (first < 0xc2 || first > 0xf4)
		return -EINVAL;
	if (first == 0xe0)
		low = 0xa0;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f;
	for (; rest; rest--, ++*pp) {
		if (*pp == end)
			return MORE;
		unsigned char c = (unsigned char)**pp;
		if (c < low || c > high)
			return -EINVAL;
		low = 0x80;
		high = 0xbf;
	}
	return DONE;
}

static int take_string(const char **pp, const char *end)
{
	int rc;

	for (++*pp; *pp < end;) {
		unsigned char c = (unsigned char)**pp;
		if (c == '"') {
			++*pp;
			return DONE;
		}
		if (c < 0x20)
			return -EINVAL;
		if (c != '\\' && c < 0x80) {
			++*pp;
			continue;
		}
		rc = c == '\\' ? take_escape(pp, end) : take_utf8(pp, end);
		if (rc != DONE)
			return rc;
	}
	return MORE;
}

static int take_scalar(const char **pp, const char *end)
{
	switch (**pp) {
	case '"':
		return take_string(pp, end);
	case 'n':
		return take_literal(pp, end, "null");
	case 't':
		return take_literal(pp, end, "true");
	case 'f':
		return take_literal(pp, end, "false");
	default:
		return take_number(pp, end);
	}
}

/* The brackets that are open: a bit each, set for an object. */
struct nest {
	uint8_t object[CODEC_JSON_DEPTH_MAX / 8];
	size_t depth;
};

static bool in_object(const struct nest *s)
{
	size_t d = s->depth - 1;

	return s->object[d / 8] >> d % 8 & 1;
}

static int push(struct nest *s, bool object)
{
	size_t d = s->depth;
	uint8_t bit = (uint8_t)(1u << d % 8);

	if (d == CODEC_JSON_DEPTH_MAX)
		return -EINVAL;
	s->object[d / 8] = (uint8_t)(object ? s->object[d / 8] | bit : s->object[d / 8] & ~bit);
	s->depth++;
	return DONE;
}

/* What may stand next. */
enum next {
	N_VALUE,
	N_VALUE_OR_END, /* after '[' */
	N_KEY,
	N_KEY_OR_END, /* after '{' */
	N_COLON,
	N_COMMA_OR_END, /* after a value */
};

/* Takes the token at *pp, which is neither white space nor the end of the text. */
static int take_token(const char **pp, const char *end, struct nest *s, enum next *next)
{
	char c = **pp;
	bool may_end = *next == N_VALUE_OR_END || *next == N_KEY_OR_END || *next == N_COMMA_OR_END;

	if (may_end && c == (in_object(s) ? '}' : ']')) {
		++*pp;
		s->depth--;
		*next = N_COMMA_OR_END;
		return DONE;
	}
	switch (*next) {
	case N_COMMA_OR_END:
		++*pp;
		*next = in_object(s) ? N_KEY : N_VALUE;
		return c == ',' ? DONE : -EINVAL;
	case N_COLON:
		++*pp;
		*next = N_VALUE;
		return c == ':' ? DONE : -EINVAL;
	case N_KEY:
	case N_KEY_OR_END:
		*next = N_COLON;
		return c == '"' ? take_string(pp, end) : -EINVAL;
	case N_VALUE:
	case N_VALUE_OR_END:
		break;
	}
	if (c == '{' || c == '[') {
		++*pp;
		*next = c == '{' ? N_KEY_OR_END : N_VALUE_OR_END;
		return push(s, c == '{');
	}
	*next = N_COMMA_OR_END;
	return take_scalar(pp, end);
}

int codec_json_complete(const char *p, size_t n)
{
	struct nest s;
	enum next next = N_VALUE;
	const char *end = p + n;

	s.depth = 0; /* a bit is written before it is read */
	do {
		p = jscan_ws(p, end);
		if (p == end)
			return MORE;
		int rc = take_token(&p, end, &s, &next);
		if (rc != DONE)
			return rc;
	} while (s.depth || next != N_COMMA_OR_END);
	return jscan_ws(p, end) == end ? DONE : -EINVAL;
}
