// SPDX-License-Identifier: Apache-2.0
// Each type is one row of field_types: how to read, print and describe a member.
#include "shared/field_type.h"

#include "shared/clock.h"
#include "shared/inet.h"
#include "shared/util.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#define QUOTE_MAX 64

const char *field_json_kind(const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "a whole number";
	case JSON_REAL:
		return "a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "nothing";
}

// What was found, short enough for a sentence: the value itself for scalars.
static const char *found(const json_t *json, char buf[QUOTE_MAX + 24])
{
	if (json_is_string(json)) {
		const char *s = json_string_value(json);
		size_t len = strlen(s), cut = len > QUOTE_MAX ? QUOTE_MAX : len;

		while (cut < len && cut > 0 && ((unsigned char)s[cut] & 0xc0) == 0x80)
			cut--; // never in the middle of a UTF-8 sequence
		snprintf(buf, QUOTE_MAX + 24, "\"%.*s\"%s", (int)cut, s, cut < len ? "..." : "");
	} else if (json_is_integer(json)) {
		snprintf(buf, QUOTE_MAX + 24, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
	} else {
		snprintf(buf, QUOTE_MAX + 24, "%s", field_json_kind(json));
	}
	return buf;
}

int field_wrong(const json_t *json, struct err *err, const char *allowed)
{
	char buf[QUOTE_MAX + 24];

	return err_set(err, -EINVAL, NULL, "found %s, allowed is %s", found(json, buf), allowed);
}

bool field_name_ok(const char *name, size_t max)
{
	size_t len = strlen(name);

	if (!len || len > max || !isalnum((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("._-:@", name[i]))
			return false;
	return true;
}

const char *field_choice_name(const struct field_choice *choices, int64_t value)
{
	for (; choices->name; choices++)
		if (choices->value == value)
			return choices->name;
	return NULL;
}

int field_choice_value(const struct field_choice *choices, const char *name, int64_t *ret)
{
	for (; choices->name; choices++) {
		if (strcasecmp(choices->name, name) == 0) { // as GORB does: "TCP" is tcp
			*ret = choices->value;
			return 0;
		}
	}
	return -EINVAL;
}

const char *field_list_choices(const struct field_choice *choices, bool all, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (const struct field_choice *c = choices; c->name; c++) {
		if (!all && field_choice_name(choices, c->value) != c->name)
			continue;
		int m = snprintf(buf + n, size - n, "%s%s", n ? ", " : "", c->name);
		if (m < 0 || (size_t)m >= size - n)
			break;
		n += (size_t)m;
	}
	return buf;
}

// --- one reader and one printer a type ---

static int read_bool(const struct field *row, const json_t *json, void *member, struct err *err)
{
	(void)row;
	if (!json_is_boolean(json))
		return field_wrong(json, err, "true or false");
	*(bool *)member = json_is_true(json);
	return 0;
}

static bool print_bool(const struct field *row, const void *member, struct out *out)
{
	(void)row;
	out_bool(out, *(const bool *)member);
	return true;
}

static int read_uint(const struct field *row, const json_t *json, void *member, struct err *err)
{
	char allowed[80];

	if (!json_is_integer(json) || json_integer_value(json) < row->min || json_integer_value(json) > row->max) {
		snprintf(allowed, sizeof(allowed), "a whole number from %" PRId64 " to %" PRId64, row->min, row->max);
		return field_wrong(json, err, allowed);
	}
	if (row->size == sizeof(uint16_t))
		*(uint16_t *)member = (uint16_t)json_integer_value(json);
	else
		*(uint32_t *)member = (uint32_t)json_integer_value(json);
	return 0;
}

// A number that could not have been given is one that was not.
static bool print_uint(const struct field *row, const void *member, struct out *out)
{
	const uint32_t n = row->size == sizeof(uint16_t) ? *(const uint16_t *)member : *(const uint32_t *)member;

	if (n < row->min)
		return false;
	out_uint(out, n);
	return true;
}

static int read_string(const struct field *row, const json_t *json, void *member, struct err *err)
{
	char allowed[120];

	if (row->type == FIELD_NAME)
		snprintf(allowed, sizeof(allowed),
			"a name of 1 to %zu letters, digits and . _ - : @ that begins with a letter or digit",
			row->size - 1);
	else
		snprintf(allowed, sizeof(allowed), "a string of at most %zu bytes without control characters",
			row->size - 1);
	if (!json_is_string(json))
		return field_wrong(json, err, allowed);
	const char *text = json_string_value(json);
	size_t len = json_string_length(json);
	if (len >= row->size || strlen(text) != len)
		return field_wrong(json, err, allowed);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return err_set(err, -EINVAL, NULL, "found a control character, allowed is %s", allowed);
	if (row->type == FIELD_NAME && !field_name_ok(text, row->size - 1))
		return field_wrong(json, err, allowed);
	memset(member, 0, row->size);
	memcpy(member, text, len);
	return 0;
}

static bool print_string(const struct field *row, const void *member, struct out *out)
{
	(void)row;
	if (!*(const char *)member)
		return false;
	out_string(out, member);
	return true;
}

static int read_addr(const struct field *row, const json_t *json, void *member, struct err *err)
{
	struct inet_addr addr;

	(void)row;
	if (!json_is_string(json) || inet_addr_parse(json_string_value(json), &addr) || !inet_addr_is_unicast(&addr))
		return field_wrong(json, err, "a unicast IPv4 or IPv6 address");
	*(struct inet_addr *)member = addr;
	return 0;
}

static bool print_addr(const struct field *row, const void *member, struct out *out)
{
	char buf[INET_ADDR_MAX];

	(void)row;
	if (!inet_addr_is_set(member))
		return false;
	out_string(out, inet_addr_format(member, buf));
	return true;
}

static int read_endpoint(const struct field *row, const json_t *json, void *member, struct err *err)
{
	struct inet_endpoint ep;

	if (!json_is_string(json) || inet_endpoint_parse(json_string_value(json), row->max ? (int)row->max : -1, &ep) ||
		!ep.port)
		return field_wrong(json, err, "ADDRESS:PORT or [IPV6-ADDRESS]:PORT, with a port from 1 to 65535");
	*(struct inet_endpoint *)member = ep;
	return 0;
}

static bool print_endpoint(const struct field *row, const void *member, struct out *out)
{
	char buf[INET_ENDPOINT_MAX];

	(void)row;
	out_string(out, inet_endpoint_format(member, buf));
	return true;
}

static int read_duration(const struct field *row, const json_t *json, void *member, struct err *err)
{
	char allowed[96], min[CLOCK_DURATION_MAX], max[CLOCK_DURATION_MAX];
	msec_t ms = 0;

	snprintf(allowed, sizeof(allowed), "a time from %s to %s, such as 500ms, 30s or 5m",
		clock_format_duration(row->min, min), clock_format_duration(row->max, max));
	if (!json_is_string(json) || clock_parse_duration(json_string_value(json), &ms) || ms < row->min ||
		ms > row->max)
		return field_wrong(json, err, allowed);
	*(msec_t *)member = ms;
	return 0;
}

static bool print_duration(const struct field *row, const void *member, struct out *out)
{
	char buf[CLOCK_DURATION_MAX];

	(void)row;
	out_string(out, clock_format_duration(*(const msec_t *)member, buf));
	return true;
}

static int read_choice(const struct field *row, const json_t *json, void *member, struct err *err)
{
	char names[ERR_TEXT_MAX / 2], allowed[ERR_TEXT_MAX / 2 + 16];
	int64_t value;

	if (json_is_string(json) && field_choice_value(row->choices, json_string_value(json), &value) == 0) {
		*(int *)member = (int)value;
		return 0;
	}
	snprintf(allowed, sizeof(allowed), "one of %s", field_list_choices(row->choices, false, names, sizeof(names)));
	return field_wrong(json, err, allowed);
}

static bool print_choice(const struct field *row, const void *member, struct out *out)
{
	const char *name = field_choice_name(row->choices, *(const int *)member);

	if (name)
		out_string(out, name);
	return name != NULL;
}

static int read_flags(const struct field *row, const json_t *json, void *member, struct err *err)
{
	char names[ERR_TEXT_MAX / 2], allowed[ERR_TEXT_MAX / 2 + 32];
	uint32_t flags = 0;

	snprintf(allowed, sizeof(allowed), "any of %s, joined by |",
		field_list_choices(row->choices, true, names, sizeof(names)));
	if (!json_is_string(json))
		return field_wrong(json, err, allowed);
	_cleanup_free_ char *copy = strdup(json_string_value(json));
	if (!copy)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	char *rest = copy, *word;
	while ((word = strsep(&rest, "|,"))) {
		int64_t value;

		if (!*word)
			continue;
		if (field_choice_value(row->choices, word, &value))
			return field_wrong(json, err, allowed);
		flags |= (uint32_t)value;
	}
	*(uint32_t *)member = flags;
	return 0;
}

static bool print_flags(const struct field *row, const void *member, struct out *out)
{
	uint32_t flags = *(const uint32_t *)member;
	char text[256] = "";
	size_t n = 0;

	for (const struct field_choice *c = row->choices; c->name; c++) {
		if (!(flags & (uint32_t)c->value) || field_choice_name(row->choices, c->value) != c->name)
			continue;
		int m = snprintf(text + n, sizeof(text) - n, "%s%s", n ? "|" : "", c->name);
		if (m < 0 || (size_t)m >= sizeof(text) - n)
			break;
		n += (size_t)m;
	}
	if (n)
		out_string(out, text);
	return n;
}

static int read_object(const struct field *row, const json_t *json, void *member, struct err *err)
{
	return field_parse(row->sub, json, member, err);
}

static bool print_object(const struct field *row, const void *member, struct out *out)
{
	field_write(row->sub, member, FIELD_ALL, out);
	return true;
}

static int read_custom(const struct field *row, const json_t *json, void *member, struct err *err)
{
	return row->parse(json, member, err);
}

static bool print_custom(const struct field *row, const void *member, struct out *out)
{
	return row->print && row->print(member, out);
}

const struct field_type_row field_types[] = {
	[FIELD_BOOL] = { read_bool, print_bool, "boolean" },
	[FIELD_UINT] = { read_uint, print_uint, "number" },
	[FIELD_STRING] = { read_string, print_string, "string" },
	[FIELD_NAME] = { read_string, print_string, "name" },
	[FIELD_ADDR] = { read_addr, print_addr, "address" },
	[FIELD_ENDPOINT] = { read_endpoint, print_endpoint, "address:port" },
	[FIELD_DURATION] = { read_duration, print_duration, "time" },
	[FIELD_CHOICE] = { read_choice, print_choice, "choice" },
	[FIELD_FLAGS] = { read_flags, print_flags, "flags" },
	[FIELD_OBJECT] = { read_object, print_object, "object" },
	[FIELD_CUSTOM] = { read_custom, print_custom, "" },
};
static_assert(ARRAY_SIZE(field_types) == FIELD_CUSTOM + 1, "a row for every field type");
