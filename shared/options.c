// SPDX-License-Identifier: Apache-2.0
#include "shared/options.h"

#include "shared/confile.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define OPTIONS_MAX 40

const struct field_choice options_log_levels[] = {
	{ "error", LOG_LEVEL_ERROR },
	{ "warning", LOG_LEVEL_WARNING },
	{ "info", LOG_LEVEL_INFO },
	{ "debug", LOG_LEVEL_DEBUG },
	{ NULL, 0 },
};

static json_t *argument_value(const struct option_row *row, const char *text)
{
	if (!row->arg)
		return json_true();
	return row->field ? confile_scalar(text, strlen(text)) : json_string(text);
}

// Sets key; a second value makes a list of both.
static int store(json_t *object, const char *key, json_t *value)
{
	json_t *old = json_object_get(object, key);

	if (!old || json_is_true(old))
		return json_object_set_new(object, key, value);
	if (json_is_array(old))
		return json_array_append_new(old, value);
	return json_object_set_new(object, key, json_pack("[Oo]", old, value));
}

int options_parse(const struct option_set *set, int argc, char **argv, json_t **ret_fields, json_t **ret_given,
	int *ret_first, struct err *err)
{
	struct option longs[OPTIONS_MAX + 1] = { 0 };
	char shorts[2 * OPTIONS_MAX + 3] = "+:";
	size_t n = strlen(shorts);
	json_t *fields = json_object(), *given = json_object();
	int rc = 0, c;

	if (set->count > OPTIONS_MAX)
		return err_set(err, -E2BIG, NULL, "too many options in the table");
	for (size_t i = 0; i < set->count; i++) {
		const struct option_row *row = &set->rows[i];

		longs[i] =
			(struct option) { row->name, row->arg ? required_argument : no_argument, NULL, 256 + (int)i };
		if (row->letter) {
			shorts[n++] = row->letter;
			if (row->arg)
				shorts[n++] = ':';
		}
	}
	shorts[n] = '\0';
	opterr = 0;
	optind = 0; // GNU: start again, options end at the first other word
	while (!rc && (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = NULL;

		for (size_t i = 0; i < set->count; i++)
			if (c == 256 + (int)i || (c < 256 && c == set->rows[i].letter))
				row = &set->rows[i];
		if (c == ':')
			rc = err_set(err, -EINVAL, NULL, "option %s needs an argument; see --help", argv[optind - 1]);
		else if (!row)
			rc = err_set(err, -EINVAL, NULL, "unknown option %s; see --help", argv[optind - 1]);
		else if (store(row->field ? fields : given, row->field ? row->field : row->name,
				 argument_value(row, optarg)) != 0)
			rc = err_set(err, -EINVAL, row->name, "the argument is not valid UTF-8");
	}
	if (rc) {
		json_decref(fields);
		json_decref(given);
		return rc;
	}
	*ret_fields = fields;
	*ret_given = given;
	*ret_first = optind;
	return 0;
}

void options_help(const struct option_set *set)
{
	printf("Usage: %s %s\n%s\n\nOptions:\n", set->program, set->usage, set->summary);
	for (size_t i = 0; i < set->count; i++) {
		const struct option_row *row = &set->rows[i];
		char left[64], letter[8] = "    ";

		if (row->letter)
			snprintf(letter, sizeof(letter), "-%c, ", row->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s", letter, row->name, row->arg ? " " : "",
			row->arg ? row->arg : "");
		printf("  %-30s %s\n", left, row->help);
	}
}
