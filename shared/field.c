// SPDX-License-Identifier: Apache-2.0
// Each type is one row of `types` below: how to read, print and describe a member. Everything else is generic.
#include "shared/field.h"

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

static int wrong(const json_t *json, struct err *err, const char *allowed)
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

// "dr, ipip, nat": every value once, by its first spelling, or with all its spellings
static const char *list_choices(const struct field_choice *choices, bool all, char *buf, size_t size)
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
		return wrong(json, err, "true or false");
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
		return wrong(json, err, allowed);
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
		return wrong(json, err, allowed);
	const char *text = json_string_value(json);
	size_t len = json_string_length(json);
	if (len >= row->size || strlen(text) != len)
		return wrong(json, err, allowed);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return err_set(err, -EINVAL, NULL, "found a control character, allowed is %s", allowed);
	if (row->type == FIELD_NAME && !field_name_ok(text, row->size - 1))
		return wrong(json, err, allowed);
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
		return wrong(json, err, "a unicast IPv4 or IPv6 address");
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
		return wrong(json, err, "ADDRESS:PORT or [IPV6-ADDRESS]:PORT, with a port from 1 to 65535");
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
		return wrong(json, err, allowed);
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
	snprintf(allowed, sizeof(allowed), "one of %s", list_choices(row->choices, false, names, sizeof(names)));
	return wrong(json, err, allowed);
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
		list_choices(row->choices, true, names, sizeof(names)));
	if (!json_is_string(json))
		return wrong(json, err, allowed);
	_cleanup_free_ char *copy = strdup(json_string_value(json));
	if (!copy)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	char *rest = copy, *word;
	while ((word = strsep(&rest, "|,"))) {
		int64_t value;

		if (!*word)
			continue;
		if (field_choice_value(row->choices, word, &value))
			return wrong(json, err, allowed);
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

static const struct {
	int (*read)(const struct field *row, const json_t *json, void *member, struct err *err);
	bool (*print)(const struct field *row, const void *member, struct out *out);
	const char *name;
} types[] = {
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
static_assert(ARRAY_SIZE(types) == FIELD_CUSTOM + 1, "a row for every field type");

// --- generic part ---

int field_read_value(const struct field *row, const json_t *json, void *member, struct err *err)
{
	return types[row->type].read(row, json, member, err);
}

static uint64_t *set_bits(const struct field_table *table, void *obj)
{
	return table->set_offset < 0 ? NULL : (uint64_t *)(void *)((char *)obj + table->set_offset);
}

static int read_row(const struct field *row, const json_t *json, void *obj, struct err *err)
{
	int rc = types[row->type].read(row, json, (char *)obj + row->offset, err);

	if (rc)
		err_prefix(err, row->name);
	return rc;
}

static int read_default(const struct field *row, void *obj, struct err *err)
{
	json_t *def = json_loads(row->def, JSON_DECODE_ANY, NULL);
	int rc = def ? read_row(row, def, obj, err) : -EINVAL;

	json_decref(def);
	assert(rc == 0); // a default that its own row refuses is a bug in the table
	return rc;
}

static const struct field *find_row(const struct field_table *table, const char *name)
{
	for (size_t i = 0; i < table->count; i++)
		if (strcmp(table->rows[i].name, name) == 0)
			return &table->rows[i];
	return NULL;
}

static int unknown_field(const struct field_table *table, const char *name, struct err *err)
{
	char known[ERR_TEXT_MAX - 120] = "";
	size_t n = 0;

	for (size_t i = 0; i < table->count; i++) {
		if (table->rows[i].hidden)
			continue;
		int m = snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", table->rows[i].name);
		if (m < 0 || (size_t)m >= sizeof(known) - n)
			break;
		n += (size_t)m;
	}
	char field[QUOTE_MAX + 1];

	snprintf(field, sizeof(field), "%s", name);
	return err_set(err, -EINVAL, field, "unknown field of a %s, allowed are %s", table->what, known);
}

static int read_fields(const struct field_table *table, const json_t *json, void *obj, bool whole, struct err *err);

static int patch_row(const struct field *row, const json_t *json, void *obj, struct err *err)
{
	int rc = read_fields(row->sub, json, (char *)obj + row->offset, false, err);

	if (rc)
		err_prefix(err, row->name);
	return rc;
}

// The row's own bit; an old spelling stands for the row whose member it writes into.
static uint64_t bits_of(const struct field_table *table, const struct field *row)
{
	uint64_t bits = UINT64_C(1) << (row - table->rows);

	for (size_t i = 0; row->hidden && i < table->count; i++) {
		const struct field *r = &table->rows[i];

		if (!r->hidden && row->offset >= r->offset && row->offset < r->offset + r->size)
			bits |= UINT64_C(1) << i;
	}
	return bits;
}

// Back to the default, as if it had not been given.
static int reset_row(const struct field_table *table, const struct field *row, void *obj, struct err *err)
{
	char *member = (char *)obj + row->offset;

	if (row->required)
		return err_set(err, -EINVAL, row->name, "found null; a %s needs it", table->what);
	memset(member, 0, row->size);
	if (table->defaults)
		memcpy(member, (const char *)table->defaults + row->offset, row->size);
	else if (row->def)
		return read_default(row, obj, err);
	return 0;
}

static int read_one(const struct field_table *table, const struct field *row, const json_t *value, void *obj,
	bool whole, struct err *err)
{
	uint64_t *set = set_bits(table, obj);
	const uint64_t bit = bits_of(table, row);

	if (!whole && json_is_null(value)) {
		if (set)
			*set &= ~bit;
		return reset_row(table, row, obj, err);
	}
	if (set)
		*set |= bit;
	return row->type == FIELD_OBJECT && !whole ? patch_row(row, value, obj, err) : read_row(row, value, obj, err);
}

// whole: an object inside is read as a new one, with its defaults; otherwise it is patched as well.
static int read_fields(const struct field_table *table, const json_t *json, void *obj, bool whole, struct err *err)
{
	const char *key;
	json_t *value;

	assert(table->count <= 64);
	if (!json_is_object(json))
		return wrong(json, err, "an object");
	// jansson's iterator wants a non-const pointer but only reads
	json_object_foreach ((json_t *)(uintptr_t)json, key, value) {
		const struct field *row = find_row(table, key);
		int rc = row ? read_one(table, row, value, obj, whole, err) : unknown_field(table, key, err);

		if (rc)
			return rc;
	}
	return 0;
}

int field_patch(const struct field_table *table, const json_t *json, void *obj, struct err *err)
{
	return read_fields(table, json, obj, false, err);
}

static int fill_defaults(const struct field_table *table, void *obj, struct err *err)
{
	if (table->defaults) {
		memcpy(obj, table->defaults, table->size);
		return 0;
	}
	memset(obj, 0, table->size);
	for (size_t i = 0; i < table->count; i++) {
		int rc = table->rows[i].def ? read_default(&table->rows[i], obj, err) : 0;

		if (rc)
			return rc;
	}
	return 0;
}

static int check_missing(const struct field_table *table, const struct field *row, const json_t *json, struct err *err)
{
	if (!row->required || json_object_get(json, row->name))
		return 0;
	return err_set(err, -EINVAL, row->name, "missing; a %s needs it", table->what);
}

int field_parse(const struct field_table *table, const json_t *json, void *obj, struct err *err)
{
	int rc = fill_defaults(table, obj, err);

	if (!rc)
		rc = read_fields(table, json, obj, true, err);
	for (size_t i = 0; i < table->count && !rc; i++)
		rc = check_missing(table, &table->rows[i], json, err);
	return rc;
}

void field_mistakes(const struct field_table *table, const json_t *json, void *obj,
	void (*each)(void *ctx, const struct err *err), void *ctx)
{
	const char *key;
	json_t *value;
	struct err err;

	if (!json_is_object(json)) {
		err = (struct err) { 0 };
		wrong(json, &err, "an object");
		each(ctx, &err);
		return;
	}
	fill_defaults(table, obj, NULL);
	json_object_foreach ((json_t *)(uintptr_t)json, key, value) {
		const struct field *row = find_row(table, key);

		err = (struct err) { 0 };
		if (row ? read_one(table, row, value, obj, true, &err) : unknown_field(table, key, &err))
			each(ctx, &err);
	}
	for (size_t i = 0; i < table->count; i++) {
		err = (struct err) { 0 };
		if (check_missing(table, &table->rows[i], json, &err))
			each(ctx, &err);
	}
}

// Writes ": value" of a row after its key, or nothing at all.
static void write_row(const struct field *row, const void *obj, enum field_which which, struct out *out)
{
	const struct out_mark mark = out_mark(out);
	const char *member = (const char *)obj + row->offset;

	out_key(out, row->name);
	if (row->type == FIELD_OBJECT)
		field_write(row->sub, member, which, out);
	else if (!types[row->type].print(row, member, out))
		out_rewind(out, mark);
}

void field_write_members(const struct field_table *table, const void *obj, enum field_which which, struct out *out)
{
	const uint64_t *set = which == FIELD_ALL || table->set_offset < 0
		? NULL
		: (const uint64_t *)(const void *)((const char *)obj + table->set_offset);

	for (size_t i = 0; i < table->count; i++)
		if (!table->rows[i].hidden && (!set || *set >> i & 1))
			write_row(&table->rows[i], obj, which, out);
}

void field_write(const struct field_table *table, const void *obj, enum field_which which, struct out *out)
{
	out_open(out, '{');
	field_write_members(table, obj, which, out);
	out_close(out, '{');
}

json_t *field_print(const struct field_table *table, const void *obj)
{
	_cleanup_out_ struct out out = { 0 };

	field_write(table, obj, FIELD_ALL, &out);
	return out.failed ? NULL : json_loadb(out.text, out.len, 0, NULL);
}

// Do both print alike? What is equal byte for byte need not be printed.
static bool same_value(const struct field *row, const char *a, const char *b, struct out *left, struct out *right)
{
	if (row->size && memcmp(a, b, row->size) == 0)
		return true;
	left->len = right->len = 0;
	bool has = types[row->type].print(row, a, left);

	if (has != types[row->type].print(row, b, right))
		return false;
	return !has || (left->len == right->len && memcmp(left->text, right->text, left->len) == 0);
}

int field_diff(const struct field_table *table, const void *a, const void *b, char *buf, size_t size)
{
	_cleanup_out_ struct out left = { 0 };
	_cleanup_out_ struct out right = { 0 };
	size_t n = 0;
	int count = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < table->count; i++) {
		const struct field *row = &table->rows[i];

		if (row->hidden ||
			same_value(row, (const char *)a + row->offset, (const char *)b + row->offset, &left, &right))
			continue;
		count++;
		int m = snprintf(buf + n, size - n, "%s%s", n ? ", " : "", row->name);
		if (m > 0 && (size_t)m < size - n)
			n += (size_t)m;
	}
	return count;
}

bool field_is_set(const struct field_table *table, const void *obj, const char *name)
{
	const struct field *row = find_row(table, name);

	assert(row && table->set_offset >= 0);
	const uint64_t *set = (const uint64_t *)(const void *)((const char *)obj + table->set_offset);
	return *set >> (row - table->rows) & 1;
}

void field_document(const struct field_table *table, FILE *out)
{
	fprintf(out, "| field | type | default | meaning |\n|---|---|---|---|\n");
	for (size_t i = 0; i < table->count; i++) {
		const struct field *row = &table->rows[i];
		char names[512];

		if (row->hidden)
			continue;
		fprintf(out, "| `%s` | %s", row->name, types[row->type].name);
		if (row->type == FIELD_UINT)
			fprintf(out, " %" PRId64 "..%" PRId64, row->min, row->max);
		if (row->choices)
			fprintf(out, " (%s)",
				list_choices(row->choices, row->type != FIELD_CHOICE, names, sizeof(names)));
		if (row->def)
			fprintf(out, " | `%s` | ", row->def);
		else
			fprintf(out, " | %s | ", row->required ? "required" : "");
		fprintf(out, "%s%s%s%s |\n", row->help ? row->help : "", row->unit ? " (" : "",
			row->unit ? row->unit : "", row->unit ? ")" : "");
	}
}

void field_set(const struct field_table *table, void *obj, const char *name)
{
	const struct field *row = find_row(table, name);

	assert(row && table->set_offset >= 0);
	*set_bits(table, obj) |= UINT64_C(1) << (row - table->rows);
}
