// SPDX-License-Identifier: Apache-2.0
#include "shared/out.h"

#include "shared/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void out_free(struct out *out)
{
	free(out->text);
	*out = (struct out) { .indented = out->indented };
}

// Room for n more bytes and the final zero.
static bool reserve(struct out *out, size_t n)
{
	size_t need = out->len + n + 1;

	if (out->failed)
		return false;
	if (need <= out->room)
		return true;
	size_t room = out->room ? 2 * out->room : 512;

	if (room < need)
		room = need;
	char *text = realloc(out->text, room);
	if (!text) {
		out->failed = true;
		return false;
	}
	out->text = text;
	out->room = room;
	return true;
}

void out_bytes(struct out *out, const char *bytes, size_t len)
{
	if (!reserve(out, len))
		return;
	memcpy(out->text + out->len, bytes, len);
	out->len += len;
	out->text[out->len] = '\0';
}

void out_text(struct out *out, const char *text)
{
	out_bytes(out, text, strlen(text));
}

void out_format(struct out *out, const char *fmt, ...)
{
	char buf[256];
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(buf, sizeof(buf), fmt, args);
	va_end(args);
	if (n < 0)
		return;
	if ((size_t)n < sizeof(buf)) {
		out_bytes(out, buf, (size_t)n);
		return;
	}
	if (!reserve(out, (size_t)n))
		return;
	va_start(args, fmt);
	vsnprintf(out->text + out->len, (size_t)n + 1, fmt, args);
	va_end(args);
	out->len += (size_t)n;
}

void out_digits(struct out *out, uint64_t n)
{
	char buf[20], *p = buf + sizeof(buf);

	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	out_bytes(out, p, (size_t)(buf + sizeof(buf) - p));
}

static void new_line(struct out *out)
{
	static const char spaces[] = "\n                                ";
	size_t n = 2 * (size_t)out->depth;

	if (out->indented)
		out_bytes(out, spaces, 1 + (n < sizeof(spaces) - 2 ? n : sizeof(spaces) - 2));
}

// What stands between two values of one list.
static void between(struct out *out)
{
	if (out->comma)
		out_bytes(out, ",", 1);
	if (out->depth)
		new_line(out);
	out->comma = true;
}

// A value: after a key there is neither comma nor line.
static void before_value(struct out *out)
{
	if (!out->keyed)
		between(out);
	out->keyed = false;
}

void out_open(struct out *out, char bracket)
{
	before_value(out);
	out_bytes(out, &bracket, 1);
	out->depth++;
	out->comma = false;
}

void out_close(struct out *out, char bracket)
{
	const char end = bracket == '{' ? '}' : ']';

	out->depth--;
	if (out->comma)
		new_line(out);
	out_bytes(out, &end, 1);
	out->comma = true;
}

static bool is_plain(char c)
{
	return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

// As far as nothing is to be escaped (RFC 8259 section 7), and all is UTF-8.
static size_t plain_length(const char *text)
{
	uint32_t c = 0;
	size_t n = 0;

	for (;;) {
		while (is_plain(text[n]))
			n++;
		if ((unsigned char)text[n] < 0x80)
			return n;
		const size_t len = utf8_next(text + n, 4, &c);
		if (c == UTF8_INVALID)
			return n;
		n += len;
	}
}

static void quoted(struct out *out, const char *text)
{
	out_bytes(out, "\"", 1);
	for (;;) {
		size_t n = plain_length(text);

		out_bytes(out, text, n);
		text += n;
		if (!*text)
			break;
		if (*text == '"' || *text == '\\') {
			const char escaped[2] = { '\\', *text };

			out_bytes(out, escaped, 2);
		} else if ((unsigned char)*text >= 0x80) {
			out_text(out, "\\ufffd"); // it stands for what is no character
		} else {
			out_format(out, "\\u%04x", (unsigned int)(unsigned char)*text);
		}
		text++;
	}
	out_bytes(out, "\"", 1);
}

void out_key(struct out *out, const char *name)
{
	between(out);
	quoted(out, name);
	out_bytes(out, ": ", out->indented ? 2 : 1);
	out->keyed = true;
}

void out_string(struct out *out, const char *text)
{
	before_value(out);
	quoted(out, text);
}

void out_uint(struct out *out, uint64_t n)
{
	before_value(out);
	out_digits(out, n);
}

void out_int(struct out *out, int64_t n)
{
	before_value(out);
	if (n < 0)
		out_bytes(out, "-", 1);
	out_digits(out, n < 0 ? -(uint64_t)n : (uint64_t)n);
}

void out_real(struct out *out, double n)
{
	char buf[40];

	before_value(out);
	// none of our numbers is infinite; JSON could not say it
	snprintf(buf, sizeof(buf), "%.15g", n);
	out_text(out, buf);
	if (!strpbrk(buf, ".e"))
		out_text(out, ".0");
}

void out_bool(struct out *out, bool value)
{
	before_value(out);
	out_text(out, value ? "true" : "false");
}

void out_raw(struct out *out, const char *json)
{
	before_value(out);
	out_text(out, json);
}

struct out_mark out_mark(const struct out *out)
{
	return (struct out_mark) { out->len, out->comma };
}

void out_rewind(struct out *out, struct out_mark mark)
{
	out->len = mark.len;
	out->comma = mark.comma;
	out->keyed = false;
	if (out->text)
		out->text[out->len] = '\0';
}

char *out_steal(struct out *out, size_t *ret_len)
{
	char *text = out->failed ? NULL : out->text;

	if (out->failed)
		free(out->text);
	if (ret_len)
		*ret_len = out->len;
	*out = (struct out) { .indented = out->indented };
	return text;
}
