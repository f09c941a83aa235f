// SPDX-License-Identifier: Apache-2.0
// Command-line options from a table; what they say becomes a JSON object that is laid over the configuration file's, so
// that options and files are checked by the same field tables. Floor 1.
#ifndef BRASS_SHARED_OPTIONS_H
#define BRASS_SHARED_OPTIONS_H

#include "shared/err.h"
#include "shared/field.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

// Exit codes of all our programs.
enum exit_code { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_PERMISSION = 3, EXIT_KERNEL = 4, EXIT_STORE = 5 };

struct option_row {
	const char *name; // long name, without dashes
	char letter;      // short name or 0
	const char *arg;  // what the argument is called in the help; NULL: no argument
	const char
		*field;   // configuration field that it sets; NULL: it is only reported in ret_given under its own name
	const char *help; // one line
};

struct option_set {
	const char *program, *usage, *summary; // "brass-director", "[OPTIONS]", one line
	const struct option_row *rows;
	size_t count;
};

// Parses argv. *ret_fields: object of configuration fields (arguments read as plain YAML scalars, options without
// argument as true, an option given twice as a list). *ret_given: object of the other options by name. *ret_first:
// index of the first word that is no option. All new references. Returns 0 or -EINVAL with a sentence.
int options_parse(const struct option_set *set, int argc, char **argv, json_t **ret_fields, json_t **ret_given,
	int *ret_first, struct err *err);

// Values of log_level and --log-level: enum log_level.
extern const struct field_choice options_log_levels[];

// Prints --help.
void options_help(const struct option_set *set);

#endif
