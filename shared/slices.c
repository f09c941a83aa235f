// SPDX-License-Identifier: Apache-2.0
#include "shared/slices.h"

#include <string.h>

#define DEPTH_MAX 64

static void skip_space(struct slices *s)
{
	while (s->at < s->end && strchr(" \t\r\n", *s->at) && *s->at)
		s->at++;
}

static bool skip_char(struct slices *s, char c)
{
	skip_space(s);
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

static bool skip_string(struct slices *s)
{
	if (!skip_char(s, '"'))
		return false;
	for (; s->at < s->end; s->at++) {
		if (*s->at == '"') {
			s->at++;
			return true;
		}
		if (*s->at == '\\')
			s->at++;
	}
	return false;
}

// Over one value, whatever it is. Brackets must fit together.
static bool skip_value(struct slices *s)
{
	char open[DEPTH_MAX];
	size_t depth = 0;

	skip_space(s);
	for (const char *begin = s->at; s->at < s->end; s->at++) {
		const char c = *s->at;

		if (c == '"') {
			if (!skip_string(s))
				return false;
			s->at--;
		} else if (c == '{' || c == '[') {
			if (depth == DEPTH_MAX)
				return false;
			open[depth++] = c;
		} else if (c == '}' || c == ']') {
			if (!depth)
				return s->at > begin;
			if (open[--depth] != (c == '}' ? '{' : '['))
				return false;
		} else if (c == ',' && !depth) {
			return s->at > begin;
		} else if (!depth) {
			continue; // a number or a word
		}
		if (!depth) {
			s->at++;
			return true;
		}
	}
	return false;
}

bool slices_next(struct slices *slices, struct slice *ret_key, struct slice *ret_value)
{
	struct slices s = *slices;

	if (s.begun && !skip_char(&s, ','))
		return false;
	s.begun = true;
	skip_space(&s);
	ret_key->text = s.at;
	if (!skip_string(&s))
		return false;
	ret_key->len = (size_t)(s.at - ret_key->text);
	if (!skip_char(&s, ':'))
		return false;
	skip_space(&s);
	ret_value->text = s.at;
	if (!skip_value(&s))
		return false;
	ret_value->len = (size_t)(s.at - ret_value->text);
	*slices = s;
	return true;
}

// Does the object end where its members do?
static bool ends(struct slices *s)
{
	return skip_char(s, '}');
}

bool slices_open(const char *text, size_t len, const char *key, struct slices *ret)
{
	struct slices outer = { text, text + len, false }, inner;
	struct slice name, value;

	if (!skip_char(&outer, '{') || !slices_next(&outer, &name, &value) || !ends(&outer))
		return false;
	skip_space(&outer);
	if (outer.at != outer.end || name.len != strlen(key) + 2 || memcmp(name.text + 1, key, name.len - 2) != 0)
		return false;
	inner = (struct slices) { value.text, value.text + value.len, false };
	if (!skip_char(&inner, '{'))
		return false;
	*ret = inner;
	// once over all of it: the caller shall not find out in the middle
	while (slices_next(&inner, &name, &value))
		;
	return ends(&inner) && inner.at == inner.end;
}
