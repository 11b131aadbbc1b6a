#include "base/record.h"

#include <string.h>

#include "base/bytes.h"

bool vx_utf8_valid(const char *s, size_t n)
{
	const uint8_t *p = (const uint8_t *)s, *end = p + n;

	while (p < end) {
		if (*p < 0x80) {
			p++;
			continue;
		}
		size_t more;
		uint32_t c, min;
		if (*p >= 0xc2 && *p <= 0xdf) {
			more = 1, c = *p & 0x1fu, min = 0x80;
		} else if (*p >= 0xe0 && *p <= 0xef) {
			more = 2, c = *p & 0x0fu, min = 0x800;
		} else if (*p >= 0xf0 && *p <= 0xf4) {
			more = 3, c = *p & 0x07u, min = 0x10000;
		} else {
			return false;
		}
		if ((size_t)(end - p) <= more)
			return false;
		for (size_t i = 1; i <= more; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (p[i] & 0x3fu);
		}
		if (c < min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
		p += more + 1;
	}
	return true;
}

static bool needs_escape(uint8_t c, size_t pos)
{
	return c == '/' || c == '%' || (c == '.' && pos == 0);
}

int vx_id_check(const char *id, size_t len, struct vx_err *err)
{
	size_t encoded = 0;

	if (len == 0)
		return vx_err_set(err, -EINVAL, "the id is empty");
	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)id[i];
		if (c < 0x20 || c == 0x7f)
			return vx_err_set(err, -EINVAL,
				"the id has a control character (0x%02x at byte %zu)", c, i);
		encoded += needs_escape(c, i) ? 3 : 1;
	}
	if (encoded > VX_ID_MAX)
		return vx_err_set(err, -ENAMETOOLONG,
			"the id has %zu bytes once encoded; at most %u are allowed", encoded,
			VX_ID_MAX);
	if (!vx_utf8_valid(id, len))
		return vx_err_set(err, -EINVAL, "the id is not valid UTF-8");
	return 0;
}

int vx_name_check(const char *name, struct vx_err *err)
{
	static const char first[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	static const char rest[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t n = strlen(name);

	if (n == 0 || n > VX_NAME_MAX || !strchr(first, name[0]) || strspn(name, rest) != n)
		return vx_err_set(err, -EINVAL,
			"'%.80s' is no collection name: 1 to %u letters, digits, '_', '.' or '-', "
			"starting with a letter or digit",
			name, VX_NAME_MAX);
	return 0;
}

size_t vx_id_encode(const char *id, size_t len, char *ret)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)id[i];
		if (needs_escape(c, i)) {
			ret[n++] = '%';
			ret[n++] = hex[c >> 4];
			ret[n++] = hex[c & 15];
		} else {
			ret[n++] = (char)c;
		}
	}
	ret[n] = 0;
	return n;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int vx_id_decode(const char *name, size_t len, char *ret, size_t *ret_len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (name[i] != '%') {
			ret[n++] = name[i];
			continue;
		}
		if (len - i < 3)
			return -EINVAL;
		int hi = hex_digit(name[i + 1]), lo = hex_digit(name[i + 2]);
		if (hi < 0 || lo < 0)
			return -EINVAL;
		ret[n++] = (char)(hi << 4 | lo);
		i += 2;
	}
	ret[n] = 0;
	*ret_len = n;
	return 0;
}
