// SPDX-License-Identifier: Apache-2.0
// brass: the operator's command. It asks the director's REST API one question, or sends it a file, and
// shows the answer; brass(8).
#include "director/cli/import.h"
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
	{ "follow", 'f', NULL, NULL, "events: go on with what happens, until it is interrupted" },
	{ "json", 0, NULL, NULL, "print the API's answer as it is" },
	{ "version", 0, NULL, NULL, "print the version" },
	{ "help", 'h', NULL, NULL, "print this" },
};

static const struct option_set options = {
	.program = "brass",
	.usage = "[OPTIONS] COMMAND [ARGUMENT]",
	.summary = "Shows and changes what a Brass director does.",
	.rows = option_rows,
	.count = ARRAY_SIZE(option_rows),
};

struct words {
	const char *word[3]; // command, its arguments; NULL when not given
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
	if (!command->more && words->count > 2)
		return err_set(err, -EINVAL, NULL, "too many words: \"%s\"; see --help", words->word[2]);
	if (command->more && words->count == 2)
		return err_set(err, -EINVAL, NULL, "\"%s\" needs %s; see --help", command->name, command->more);
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

// --- files ---

// The whole file, zero-terminated; "-" is standard input. The caller frees it.
static int read_file(const char *path, char **ret, size_t *ret_len, struct err *err)
{
	FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	size_t len = 0, room = 0, n = 0;
	char *text = NULL;

	if (!in)
		return err_set(err, -errno, NULL, "cannot open %s: %s", path, strerror(errno));
	do {
		if (room - len < 2) {
			room = room ? 2 * room : 65536;
			char *more = realloc(text, room);

			if (!more)
				break;
			text = more;
		}
		n = fread(text + len, 1, room - len - 1, in);
		len += n;
	} while (n);
	int rc = ferror(in) || !text ? err_set(err, -EIO, NULL, "cannot read %s: %s", path, strerror(errno)) : 0;

	if (in != stdin)
		fclose(in);
	if (rc) {
		free(text);
		return rc;
	}
	text[len] = '\0';
	*ret = text;
	*ret_len = len;
	return 0;
}

static void say_refused(void *ctx, size_t line, const char *why)
{
	_cleanup_free_ char *clean = text_clean(why);

	fprintf(stderr, "brass: %s, line %zu: not taken: %s\n", (const char *)ctx, line, clean ? clean : "");
}

// The document that is there, with what the file has.
static int add_to_document(const char *director, const char *path, char **text, size_t *len, struct err *err)
{
	const struct question question = { .method = "GET", .resource = "config" };
	_cleanup_(answer_free_cleanup) struct answer *answer = NULL;
	int rc = request_ask(director, &question, &answer, err);
	int taken = rc
		? rc
		: import_table(*text, json_object_get(answer->json, "services"), say_refused, (void *)(uintptr_t)path);

	if (taken < 0)
		return rc ? rc : err_set(err, taken, NULL, "out of memory");
	if (!taken)
		return err_set(err, -EINVAL, NULL, "%s: no line of it can be taken", path);
	free(*text);
	*text = json_dumps(answer->json, JSON_COMPACT);
	if (!*text)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	*len = strlen(*text);
	return 0;
}

// JSON is YAML, but read faster, and without line numbers.
static const char *type_of(const char *path)
{
	size_t len = strlen(path);

	return len > 5 && strcmp(path + len - 5, ".json") == 0 ? "application/json" : "application/yaml";
}

static void say_mistakes(const struct answer *answer, const char *path)
{
	const json_t *mistakes = answer ? json_object_get(answer->json, "errors") : NULL, *mistake;
	size_t i;

	json_array_foreach (mistakes, i, mistake) {
		const char *field = json_string_value(json_object_get(mistake, "field"));
		const char *text = json_string_value(json_object_get(mistake, "error"));
		const json_t *line = json_object_get(mistake, "line");
		char buf[ERR_LINE_MAX + 40], place[32] = "";

		if (json_is_integer(line))
			snprintf(place, sizeof(place), ", line %d", (int)json_integer_value(line));
		snprintf(buf, sizeof(buf), "%s: %s", field ? field : "", text ? text : "");
		_cleanup_free_ char *clean = text_clean(buf);
		fprintf(stderr, "brass: %s%s: %s\n", path, place, clean ? clean : "");
	}
}

// --- asking ---

static int show(
	const struct command *command, const struct answer *answer, const char *argument, bool json, struct err *err)
{
	int rc = 0;

	if (command->kind == COMMAND_EXPORT)
		fwrite(answer->body, 1, answer->len, stdout);
	else if (json)
		text_write_json(stdout, answer->body, answer->len);
	else
		rc = command->show(answer->json, argument, stdout);
	if (rc)
		return err_set(err, rc, NULL, "out of memory");
	if (fflush(stdout) != 0 || ferror(stdout))
		return err_set(err, -EIO, NULL, "cannot write: %s", strerror(errno));
	return 0;
}

static int run(
	const struct command *command, const char *director, const struct words *words, bool json, struct err *err)
{
	const char *argument = words->word[1];
	const bool has_file = command->kind == COMMAND_APPLY || command->kind == COMMAND_IMPORT;
	_cleanup_(answer_free_cleanup) struct answer *answer = NULL;
	_cleanup_free_ char *body = NULL;
	char query[80] = "", pair[200];
	size_t len = 0;
	int rc = has_file ? read_file(argument, &body, &len, err) : 0;

	if (!rc && command->kind == COMMAND_IMPORT)
		rc = add_to_document(director, argument, &body, &len, err);
	if (rc)
		return rc;
	if (command->kind == COMMAND_PAIR)
		snprintf(pair, sizeof(pair), "%s/%s", argument, words->word[2]);
	const char *more = command->kind != COMMAND_PAIR && words->word[2] ? words->word[2] : "";
	if (command->query)
		snprintf(query, sizeof(query), "%s%.40s", command->query, more);
	const struct question question = {
		.method = command->method,
		.resource = command->resource,
		.name = has_file                        ? NULL
			: command->kind == COMMAND_PAIR ? pair
							: argument,
		.query = *query ? query : NULL,
		.body = body,
		.body_len = len,
		.body_type = command->kind == COMMAND_IMPORT ? "application/json"
			: has_file                           ? type_of(argument)
							     : NULL,
		.accept = command->kind != COMMAND_EXPORT ? NULL
			: json                            ? "application/json"
							  : "application/yaml",
	};
	rc = request_ask(director, &question, &answer, err);
	if (rc)
		say_mistakes(answer, argument ? argument : "");
	return rc ? rc : show(command, answer, command->kind == COMMAND_PAIR ? pair : argument, json, err);
}

static void print_event(void *ctx, const char *text)
{
	const bool *as_json = ctx;
	_cleanup_(json_decref_cleanup) json_t *event = *as_json ? NULL : json_loads(text, 0, NULL);

	if (*as_json)
		puts(text);
	else
		show_event(event, stdout);
	fflush(stdout);
}

// A director that goes away comes back: it is asked again, for what has happened since.
static int follow(const char *director, bool as_json, struct err *err)
{
	bool was_there = false;
	uint64_t id = 0;
	int rc;

	do {
		char line[ERR_LINE_MAX];

		rc = request_follow(director, &id, print_event, &as_json, err);
		was_there |= rc == -EPIPE;
		if (ferror(stdout) || !was_there)
			return rc;
		fprintf(stderr, "brass: %s; asking again\n", err_line(err, line, sizeof(line)));
		*err = (struct err) { 0 };
		sleep(1);
	} while (true);
}

static void help(void)
{
	options_help(&options);
	printf("\nCommands:\n");
	for (size_t i = 0; i < command_count; i++) {
		char left[60];

		snprintf(left, sizeof(left), "%s %s %s", commands[i].name,
			commands[i].argument ? commands[i].argument : "", commands[i].more ? commands[i].more : "");
		printf("  %-32s %s\n", left, commands[i].help);
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
	const bool follows = json_object_get(given, "follow");
	if (follows && command->kind != COMMAND_EVENTS) {
		err_set(&err, -EINVAL, NULL, "--follow is for events; see --help");
		return fail(&err, EXIT_USAGE);
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		err_set(&err, -EIO, NULL, "cannot start libcurl");
		return fail(&err, EXIT_FAILED);
	}
	const bool as_json = json_object_get(given, "json");
	rc = follows ? follow(director, as_json, &err) : run(command, director, &words, as_json, &err);
	curl_global_cleanup();
	return rc ? fail(&err, EXIT_FAILED) : EXIT_FINE;
}
