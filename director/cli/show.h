// SPDX-License-Identifier: Apache-2.0
// The commands: which question each asks the REST API, and how the answer is shown.
//
// Answers are shown with what they hold: a field that is missing or of another type is "-", never an error, so that the
// command works with directors that are older or newer than itself. Objects are sorted by name ("web-2" before
// "web-10").
#ifndef BRASS_CLI_SHOW_H
#define BRASS_CLI_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// What a command does with a file, or instead of printing tables.
enum command_kind {
	COMMAND_SHOW,
	COMMAND_APPLY,  // sends the file
	COMMAND_IMPORT, // adds what the file (ipvsadm -S) has to the document that is there
	COMMAND_EXPORT, // prints the answer as it is
	COMMAND_PAIR,   // the second argument names something in the first
	COMMAND_EVENTS, // a list, or with --follow what happens
};

struct command {
	const char *name;
	const char *argument; // what the help calls it, in brackets when it may be left out; NULL: none
	const char *more;     // a second one
	const char *method;   // the question: METHOD /resource[/ARGUMENT][?query]
	const char *resource;
	const char *query; // or NULL; one that ends with = gets the second argument
	enum command_kind kind;
	// argument is NULL when it was not given. Returns 0 or -ENOMEM.
	int (*show)(const json_t *answer, const char *argument, FILE *out);
	const char *help; // one line
};

// One event as a line.
void show_event(const json_t *event, FILE *out);

extern const struct command commands[];
extern const size_t command_count;

bool command_needs_argument(const struct command *command);

#endif
