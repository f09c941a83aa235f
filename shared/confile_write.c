// SPDX-License-Identifier: Apache-2.0
// JSON values as YAML that people would have written: blocks outside, one line inside, quotes where they are needed.
#include "shared/confile.h"

#include <string.h>

void confile_write_string(const char *text, struct out *out)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/@-";
	size_t len = strlen(text);
	json_t *as = NULL;

	// begins like a word, has nothing that YAML gives a meaning, and would not be read as a number or a boolean
	if (len && strspn(text, plain) == len && strspn(text, "/@-.") == 0)
		as = confile_scalar(text, len);
	if (json_is_string(as)) {
		out_text(out, text);
	} else {
		struct out quoted = { 0 };

		out_string(&quoted, text);
		if (quoted.failed)
			out->failed = true;
		else
			out_text(out, quoted.text);
		out_free(&quoted);
	}
	json_decref(as);
}

static void write_scalar(const json_t *value, struct out *out)
{
	char buf[40];

	switch (json_typeof(value)) {
	case JSON_STRING:
		confile_write_string(json_string_value(value), out);
		return;
	case JSON_INTEGER:
		out_format(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return;
	case JSON_REAL:
		snprintf(buf, sizeof(buf), "%.17g", json_real_value(value));
		out_text(out, buf);
		if (!strpbrk(buf, ".e"))
			out_text(out, ".0");
		return;
	case JSON_TRUE:
	case JSON_FALSE:
		out_text(out, json_is_true(value) ? "true" : "false");
		return;
	case JSON_NULL:
		out_text(out, "null");
		return;
	case JSON_OBJECT:
	case JSON_ARRAY:
		return;
	}
}

static void write_flow(const json_t *value, struct out *out)
{
	const char *key, *separator = "";
	json_t *item;
	size_t i;

	if (json_is_object(value)) {
		out_text(out, "{");
		json_object_foreach ((json_t *)(uintptr_t)value, key, item) {
			out_text(out, separator);
			confile_write_string(key, out);
			out_text(out, ": ");
			write_flow(item, out);
			separator = ", ";
		}
		out_text(out, "}");
	} else if (json_is_array(value)) {
		out_text(out, "[");
		json_array_foreach (value, i, item) {
			out_text(out, separator);
			write_flow(item, out);
			separator = ", ";
		}
		out_text(out, "]");
	} else {
		write_scalar(value, out);
	}
}

void confile_write(const json_t *value, int blocks, int indent, struct out *out)
{
	const char *key;
	json_t *item;
	size_t i;

	if (blocks > 0 && json_is_object(value) && json_object_size(value)) {
		json_object_foreach ((json_t *)(uintptr_t)value, key, item) {
			out_format(out, "\n%*s", indent, "");
			confile_write_string(key, out);
			out_text(out, ":");
			confile_write(item, blocks - 1, indent + 2, out);
		}
	} else if (blocks > 0 && json_is_array(value) && json_array_size(value)) {
		json_array_foreach (value, i, item) {
			out_format(out, "\n%*s-", indent, "");
			confile_write(item, blocks - 1, indent + 2, out);
		}
	} else {
		out_text(out, " ");
		write_flow(value, out);
	}
}
