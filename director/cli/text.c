// SPDX-License-Identifier: Apache-2.0
#include "director/cli/text.h"

#include "shared/utf8.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

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
		{ UTF8_INVALID, UTF8_INVALID },
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

		n = utf8_next(text + from, len - from, &c);
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

		n = utf8_next(json + i, len - i, &c);
		if (c == '\r') // only between tokens, where it is white space
			putc(' ', out);
		else if (c == '\n' || c == '\t' || is_printable(c))
			fwrite(json + i, 1, n, out);
		else
			fprintf(out, "\\u%04" PRIx32, c == UTF8_INVALID ? (uint32_t)0xfffd : c);
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
