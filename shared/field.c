// SPDX-License-Identifier: Apache-2.0
// Rows are walked here; what a value is, its type says (field_type.c).
#include "shared/field.h"

#include "shared/field_type.h"
#include "shared/util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define NAME_QUOTED_MAX 64 // of a field that nobody knows

int field_read_value(const struct field *row, const json_t *json, void *member, struct err *err)
{
	return field_types[row->type].read(row, json, member, err);
}

static uint64_t *set_bits(const struct field_table *table, void *obj)
{
	return table->set_offset < 0 ? NULL : (uint64_t *)(void *)((char *)obj + table->set_offset);
}

static int read_row(const struct field *row, const json_t *json, void *obj, struct err *err)
{
	int rc = field_types[row->type].read(row, json, (char *)obj + row->offset, err);

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
	char field[NAME_QUOTED_MAX + 1];

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
		return field_wrong(json, err, "an object");
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
		field_wrong(json, &err, "an object");
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
	else if (!field_types[row->type].print(row, member, out))
		out_rewind(out, mark);
}

static bool is_default(const struct field_table *table, const struct field *row, const void *obj)
{
	return table->defaults &&
		memcmp((const char *)obj + row->offset, (const char *)table->defaults + row->offset, row->size) == 0;
}

void field_write_members(const struct field_table *table, const void *obj, enum field_which which, struct out *out)
{
	const uint64_t *set = which == FIELD_ALL || table->set_offset < 0
		? NULL
		: (const uint64_t *)(const void *)((const char *)obj + table->set_offset);

	for (size_t i = 0; i < table->count; i++) {
		const struct field *row = &table->rows[i];

		if (!row->hidden && (!set || *set >> i & 1) && !(row->quiet && is_default(table, row, obj)))
			write_row(row, obj, which, out);
	}
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
	bool has = field_types[row->type].print(row, a, left);

	if (has != field_types[row->type].print(row, b, right))
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
		fprintf(out, "| `%s` | %s", row->name, field_types[row->type].name);
		if (row->type == FIELD_UINT)
			fprintf(out, " %" PRId64 "..%" PRId64, row->min, row->max);
		if (row->choices)
			fprintf(out, " (%s)",
				field_list_choices(row->choices, row->type != FIELD_CHOICE, names, sizeof(names)));
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
