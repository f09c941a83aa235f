// SPDX-License-Identifier: Apache-2.0
// Field tables: one const row a field, from which JSON and YAML are read, printed, compared, checked and documented.
// Floor 0.
//
// A row names a member of a plain struct by its offset. Reading fills the struct from a JSON object; every mistake
// comes back as one sentence with the field's path. "Not set" is explicit: a table may name a uint64_t member of its
// struct whose bit i says that row i was given (a default does not set it).
//
// Member types by row type:
//   FIELD_BOOL bool · FIELD_UINT uint32_t, or uint16_t when size is 2 · FIELD_STRING char[size] · FIELD_NAME char[size]
//   FIELD_ADDR struct inet_addr · FIELD_ENDPOINT struct inet_endpoint · FIELD_DURATION msec_t · FIELD_CHOICE int
//   FIELD_FLAGS uint32_t · FIELD_OBJECT the struct of `sub` · FIELD_CUSTOM whatever parse and print agree on
// Strings are UTF-8 without control characters; a FIELD_NAME is also letters, digits and ". _ - : @" only.
#ifndef BRASS_SHARED_FIELD_H
#define BRASS_SHARED_FIELD_H

#include "shared/err.h"
#include "shared/out.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum field_type {
	FIELD_BOOL,
	FIELD_UINT,
	FIELD_STRING,
	FIELD_NAME,
	FIELD_ADDR,
	FIELD_ENDPOINT, // "addr:port"; the port may be left out when max gives a default port
	FIELD_DURATION, // "500ms" .. "1d"; min and max in milliseconds
	FIELD_CHOICE,
	FIELD_FLAGS, // choices joined by "|" or ","
	FIELD_OBJECT,
	FIELD_CUSTOM,
};

// One spelling of a value. The first row of a value is how it is printed; later rows of the same value are aliases.
// A table of choices ends with a NULL name.
struct field_choice {
	const char *name;
	int64_t value;
};

struct field_table;

struct field {
	const char *name;
	enum field_type type;
	size_t offset, size;
	int64_t min, max;
	bool required;
	bool hidden;      // read, but neither printed nor documented (an old spelling)
	bool quiet;       // not printed where it is the table's default
	const char *def;  // default as JSON text, NULL when there is none
	const char *unit; // for the documentation: "ms", "bytes"; NULL when the type says it
	const char *help; // one line
	const struct field_choice *choices;
	const struct field_table *sub;
	int (*parse)(const json_t *json, void *member, struct err *err);
	// writes the value; false: there is none, leave the field out
	bool (*print)(const void *member, struct out *out);
};

struct field_table {
	const char *what; // "service", for "unknown field of a service"
	const struct field *rows;
	size_t count;
	size_t size;          // of the struct
	ptrdiff_t set_offset; // of the uint64_t with the bits of what was given; -1 when the struct has none
	// the struct as its rows' defaults make it, so that they need not be read each time; NULL: they are read
	const void *defaults;
};

// Reads a whole object: obj is zeroed, defaults filled in, then the given fields read; a missing required field is an
// error. On error obj is undefined and err says why. Returns 0 or -EINVAL.
int field_parse(const struct field_table *table, const json_t *json, void *obj, struct err *err);

// Reads only the fields given, over what obj holds; so for objects inside. null puts a field back to its default (RFC
// 7396). On error obj may be half changed: patch a copy.
int field_patch(const struct field_table *table, const json_t *json, void *obj, struct err *err);

// Every mistake of an object and not only the first, in the order of its fields. obj is scratch space for the struct.
void field_mistakes(const struct field_table *table, const json_t *json, void *obj,
	void (*each)(void *ctx, const struct err *err), void *ctx);

// Writes the object: all fields (those that are not set, hidden or empty strings are left out), or only those that were
// given. The value of FIELD_GIVEN read again makes an equal object.
enum field_which { FIELD_ALL, FIELD_GIVEN };
void field_write(const struct field_table *table, const void *obj, enum field_which which, struct out *out);
// The same without the braces around it, to write more fields beside.
void field_write_members(const struct field_table *table, const void *obj, enum field_which which, struct out *out);
// All fields as a value of jansson. New reference, NULL without memory.
json_t *field_print(const struct field_table *table, const void *obj);

// Writes the names of the fields in which a and b differ into buf, comma separated. Returns how many differ.
int field_diff(const struct field_table *table, const void *a, const void *b, char *buf, size_t size);

// Reads one value as a row of a table-driven type would, for FIELD_CUSTOM rows that only print differently.
int field_read_value(const struct field *row, const json_t *json, void *member, struct err *err);

// Was this row given (bit set)? By name; asserts that the row exists.
bool field_is_set(const struct field_table *table, const void *obj, const char *name);
// As if it had been given with the value that it has.
void field_set(const struct field_table *table, void *obj, const char *name);

// Prints the table as lines of a Markdown table: field, type, default, meaning.
void field_document(const struct field_table *table, FILE *out);

// Name of a choice, NULL when value has none; and the reverse, -EINVAL when unknown.
const char *field_choice_name(const struct field_choice *choices, int64_t value);
int field_choice_value(const struct field_choice *choices, const char *name, int64_t *ret);

// A name that may stand in a path: 1..max bytes of letters, digits and ". _ - : @", beginning with a letter or digit.
bool field_name_ok(const char *name, size_t max);

// What a JSON value is called in messages: "a string", "an object".
const char *field_json_kind(const json_t *json);

#endif
