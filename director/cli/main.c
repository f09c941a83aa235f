// SPDX-License-Identifier: Apache-2.0
// brass: the operator's command. It asks the director's REST API one question and shows the answer; brass(8).
#include "director/cli/request.h"
#include "director/cli/show.h"
#include "director/cli/text.h"
#include "shared/err.h"
#include "shared/options.h"
#include "shared/util.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#define DIRECTOR_DEFAULT "http://127.0.0.1:4672"
#define DIRECTOR_VARIABLE "BRASS_DIRECTOR"

DEFINE_CLEANUP(json_t *, json_decref)

static const struct option_row option_rows[] = {
	{ "director", 'd', "URL", NULL, "director to ask; default: $" DIRECTOR_VARIABLE " or " DIRECTOR_DEFAULT },
	{ "json", 0, NULL, NULL, "print the API's answer as it is" },
	{ "version", 0, NULL, NULL, "print the version" },
	{ "help", 'h', NULL, NULL, "print this" },
};

static const struct option_set options = {
	.program = "brass",
	.usage = "[OPTIONS] COMMAND [ARGUMENT]",
	.summary = "Shows what a Brass director does.",
	.rows = option_rows,
	.count = ARRAY_SIZE(option_rows),
};

struct words {
	const char *word[2]; // command, its argument; NULL when not given
	size_t count;
};

static int fail(const struct err *err, int exit_code)
{
	char line[ERR_LINE_MAX];
	_cleanup_free_ char *clean = text_clean(err_line(err, line, sizeof(line)));

	fprintf(stderr, "brass: %s\n", clean ? clean : "out of memory");
	return exit_code;
}

// Options may stand before, between and after the words.
static int parse(int argc, char **argv, json_t *given, struct words *ret, struct err *err)
{
	struct words words = { 0 };

	for (int at = 0, first; at < argc; at += first) {
		_cleanup_(json_decref_cleanup) json_t *fields = NULL;
		_cleanup_(json_decref_cleanup) json_t *more = NULL;
		const char *name;
		json_t *value;
		int rc = options_parse(&options, argc - at, argv + at, &fields, &more, &first, err);

		if (rc)
			return rc;
		json_object_foreach (more, name, value) {
			if (json_is_array(value) || json_is_string(json_object_get(given, name)))
				return err_set(err, -EINVAL, NULL, "--%s is given twice", name);
			if (json_object_set(given, name, value) != 0)
				return err_set(err, -ENOMEM, NULL, "out of memory");
		}
		if (at + first >= argc)
			break;
		if (words.count == ARRAY_SIZE(words.word))
			return err_set(err, -EINVAL, NULL, "too many words: \"%s\"; see --help", argv[at + first]);
		words.word[words.count++] = argv[at + first];
	}
	*ret = words;
	return 0;
}

static int find_command(const struct words *words, const struct command **ret, struct err *err)
{
	const struct command *command = NULL;

	if (words->count == 0)
		return err_set(err, -EINVAL, NULL, "no command given; see --help");
	for (size_t i = 0; i < command_count; i++)
		if (strcmp(commands[i].name, words->word[0]) == 0)
			command = &commands[i];
	if (!command)
		return err_set(err, -EINVAL, NULL, "unknown command \"%s\"; see --help", words->word[0]);
	if (!command->argument && words->count > 1)
		return err_set(err, -EINVAL, NULL, "\"%s\" takes no argument; see --help", command->name);
	if (command_needs_argument(command) && words->count == 1)
		return err_set(err, -EINVAL, NULL, "\"%s\" needs %s; see --help", command->name, command->argument);
	if (words->count > 1 && !*words->word[1])
		return err_set(err, -EINVAL, NULL, "the argument of \"%s\" is empty", command->name);
	*ret = command;
	return 0;
}

// *ret belongs to given or the environment.
static int find_director(const json_t *given, const char **ret, struct err *err)
{
	const char *option = json_string_value(json_object_get(given, "director"));
	const char *variable = getenv(DIRECTOR_VARIABLE);

	*ret = option ? option : variable && *variable ? variable : DIRECTOR_DEFAULT;
	if (!**ret)
		return err_set(err, -EINVAL, NULL, "--director is empty");
	return 0;
}

static int run(const struct command *command, const char *director, const char *argument, bool json, struct err *err)
{
	_cleanup_(answer_free_cleanup) struct answer *answer = NULL;
	int rc = request_get(director, command->resource, argument, command->query, &answer, err);

	if (rc)
		return rc;
	if (json)
		text_write_json(stdout, answer->body, answer->len);
	else if ((rc = command->show(answer->json, argument, stdout)) != 0)
		return err_set(err, rc, NULL, "out of memory");
	if (fflush(stdout) != 0 || ferror(stdout))
		return err_set(err, -EIO, NULL, "cannot write: %s", strerror(errno));
	return 0;
}

static void help(void)
{
	options_help(&options);
	printf("\nCommands:\n");
	for (size_t i = 0; i < command_count; i++) {
		char left[40];

		snprintf(left, sizeof(left), "%s %s", commands[i].name,
			commands[i].argument ? commands[i].argument : "");
		printf("  %-20s %s\n", left, commands[i].help);
	}
}

int main(int argc, char **argv)
{
	_cleanup_(json_decref_cleanup) json_t *given = json_object();
	const struct command *command = NULL;
	struct err err = { 0 };
	struct words words = { 0 };
	const char *director = NULL;
	int rc;

	if (parse(argc, argv, given, &words, &err) != 0)
		return fail(&err, EXIT_USAGE);
	if (json_object_get(given, "help")) {
		help();
		return EXIT_FINE;
	}
	if (json_object_get(given, "version")) {
		puts("brass " BRASS_VERSION);
		return EXIT_FINE;
	}
	if (find_command(&words, &command, &err) != 0 || find_director(given, &director, &err) != 0)
		return fail(&err, EXIT_USAGE);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		err_set(&err, -EIO, NULL, "cannot start libcurl");
		return fail(&err, EXIT_FAILED);
	}
	rc = run(command, director, words.word[1], json_object_get(given, "json"), &err);
	curl_global_cleanup();
	return rc ? fail(&err, EXIT_FAILED) : EXIT_FINE;
}
