// SPDX-License-Identifier: Apache-2.0
#include "director/cli/text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#define INVALID UINT32_MAX

// One character of UTF-8 (RFC 3629) from at most len > 0 bytes. Returns its length; what is invalid is one byte long.
static size_t next_char(const char *text, size_t len, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = (const unsigned char *)text;
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf8 ? 4 : 0;
	uint32_t c;

	*ret = INVALID;
	if (n == 0 || n > len)
		return 1;
	c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 1;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 1;
	*ret = c;
	return n;
}

static bool is_printable(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} refused[] = {
		{ 0x00, 0x1f },
		{ 0x7f, 0x9f }, // control characters
		{ 0x61c, 0x61c },
		{ 0x200e, 0x200f },
		{ 0x202a, 0x202e },
		{ 0x2066, 0x2069 }, // direction
		{ 0x2028, 0x2029 }, // line and paragraph separators
		{ INVALID, INVALID },
	};

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (c >= refused[i].first && c <= refused[i].last)
			return false;
	return true;
}

char *text_clean(const char *text)
{
	size_t len = strlen(text), to = 0, n;
	char *copy = malloc(len + 1);

	if (!copy)
		return NULL;
	for (size_t from = 0; from < len; from += n) {
		uint32_t c;

		n = next_char(text + from, len - from, &c);
		if (is_printable(c)) {
			memcpy(copy + to, text + from, n);
			to += n;
		} else {
			copy[to++] = '?';
		}
	}
	copy[to] = '\0';
	return copy;
}

size_t text_width(const char *text)
{
	size_t width = 0;

	for (const char *p = text; *p; p++)
		if (((unsigned char)*p & 0xc0) != 0x80)
			width++;
	return width;
}

void text_write_json(FILE *out, const char *json, size_t len)
{
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		uint32_t c;

		n = next_char(json + i, len - i, &c);
		if (c == '\r') // only between tokens, where it is white space
			putc(' ', out);
		else if (c == '\n' || c == '\t' || is_printable(c))
			fwrite(json + i, 1, n, out);
		else
			fprintf(out, "\\u%04" PRIx32, c == INVALID ? (uint32_t)0xfffd : c);
	}
	if (len == 0 || json[len - 1] != '\n')
		putc('\n', out);
}

const char *text_amount(uint64_t n, char buf[TEXT_AMOUNT_MAX])
{
	static const char units[] = "KMGTPE";
	uint64_t tenth = 100; // of the unit

	if (n < 1000) {
		snprintf(buf, TEXT_AMOUNT_MAX, "%" PRIu64, n);
		return buf;
	}
	for (size_t i = 0;; i++, tenth *= 1000) {
		uint64_t tenths = n / tenth + (n % tenth >= tenth / 2);

		// 999.96K is 1.0M
		if (tenths >= 10000 && units[i + 1])
			continue;
		snprintf(buf, TEXT_AMOUNT_MAX, "%" PRIu64 ".%" PRIu64 "%c", tenths / 10, tenths % 10, units[i]);
		return buf;
	}
}
