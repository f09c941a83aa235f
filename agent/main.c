// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"
#include "agent/config.h"
#include "agent/control.h"
#include "agent/doctor.h"
#include "agent/status.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_FILE "/etc/brass/agent.yaml"

static const struct option_row rows[] = {
	{ "config", 'c', "FILE", NULL, "YAML configuration file (default " DEFAULT_FILE ")" },
	{ "check", 0, NULL, NULL, "read and check the configuration, then exit" },
	{ "client", 0, "ADDRESS", NULL, "doctor: a client whose traffic does not arrive (default: anywhere)" },
	{ "verbose", 'v', NULL, NULL, "doctor: show what is fine, too" },
	{ "json", 0, NULL, NULL, "print JSON (words that print)" },
	{ "run-dir", 0, "DIR", "run_dir", "journal, last known state, control socket (default /run/brass)" },
	{ "log-level", 0, "LEVEL", "log_level", "error, warning, info or debug" },
	{ "help-fields", 0, NULL, NULL, "print the fields of the configuration file" },
	{ "version", 0, NULL, NULL, "print the version" },
	{ "help", 'h', NULL, NULL, "print this" },
};

static const struct option_set options = {
	"brass-agent",
	"[OPTIONS] [WORD]",
	"Makes this host a real server: VIPs without ARP, tunnels, return routes, registration, drain.\n"
	"Without a word it runs until SIGTERM.",
	rows,
	ARRAY_SIZE(rows),
};

static void help_fields(void)
{
	printf("## Configuration file\n\n");
	field_document(&config_fields, stdout);
	printf("\n## Backend\n\n");
	field_document(&config_backend_fields, stdout);
}

// What a word works with.
struct call {
	const struct config *config;
	const json_t *given;  // options that are no fields of the configuration
	const char *argument; // NULL: none
};

static int status(const struct call *call)
{
	struct err err = { 0 };
	json_t *json = NULL;

	if (control_ask(call->config->run_dir, &json, &err)) {
		fprintf(stderr, "brass-agent: %s\n", err.text);
		return EXIT_FAILED;
	}
	if (json_object_get(call->given, "json")) {
		json_dumpf(json, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		status_print(json);
	}
	json_decref(json);
	return EXIT_FINE;
}

static int examine(const struct call *call)
{
	const struct doctor_options how = {
		.service = call->argument,
		.client = json_string_value(json_object_get(call->given, "client")),
		.json = json_object_get(call->given, "json") != NULL,
		.verbose = json_object_get(call->given, "verbose") != NULL,
	};

	return doctor(call->config, &how);
}

static const struct word {
	const char *name, *argument; // NULL: takes none; else it is optional
	const char *help;
	int (*run)(const struct call *call); // returns an exit code
} words[] = {
	{ "status", NULL, "what the running agent does", status },
	{ "doctor", "SERVICE", "what is wrong on this host, and the command that mends it; changes nothing", examine },
};

static const struct word *find_word(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	return NULL;
}

static void help(void)
{
	options_help(&options);
	printf("\nWords:\n");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s%s%s%s", words[i].name, words[i].argument ? " [" : "",
			words[i].argument ? words[i].argument : "", words[i].argument ? "]" : "");
		printf("  %-30s %s\n", left, words[i].help);
	}
}

// The command line as it was given. Words and options may be mixed.
struct line {
	json_t *fields, *given;
	const struct word *word; // NULL: run
	const char *argument;
};

static int take_word(struct line *line, const char *text, struct err *err)
{
	if (!line->word)
		line->word = find_word(text);
	else if (line->word->argument && !line->argument)
		line->argument = text;
	else
		return err_set(err, -EINVAL, NULL, "unexpected word %s; see --help", text);
	return line->word ? 0 : err_set(err, -EINVAL, NULL, "unknown word %s; see --help", text);
}

static int parse(int argc, char **argv, struct line *line, struct err *err)
{
	*line = (struct line) { .fields = json_object(), .given = json_object() };
	for (int at = 0; at < argc;) {
		json_t *fields = NULL, *given = NULL;
		int next = 0;
		int rc = options_parse(&options, argc - at, argv + at, &fields, &given, &next, err);

		if (rc)
			return rc;
		json_object_update(line->fields, fields);
		json_object_update(line->given, given);
		json_decref(fields);
		json_decref(given);
		at += next;
		if (at < argc && (rc = take_word(line, argv[at], err)))
			return rc;
	}
	return 0;
}

int main(int argc, char **argv)
{
	char message[CONFILE_MESSAGE_MAX];
	struct config config = { 0 };
	struct err err = { 0 };
	struct line line;
	int code = EXIT_FINE;

	if (parse(argc, argv, &line, &err)) {
		fprintf(stderr, "brass-agent: %s\n", err.text);
		json_decref(line.fields);
		json_decref(line.given);
		return EXIT_USAGE;
	}
	const char *path = json_string_value(json_object_get(line.given, "config"));

	if (!path)
		path = DEFAULT_FILE;
	if (json_object_get(line.given, "help")) {
		help();
	} else if (json_object_get(line.given, "version")) {
		printf("brass-agent %s\n", BRASS_VERSION);
	} else if (json_object_get(line.given, "help-fields")) {
		help_fields();
	} else if (config_read(path, line.fields, &config, message)) {
		fprintf(stderr, "brass-agent: %s\n", message);
		code = EXIT_USAGE;
	} else if (json_object_get(line.given, "check")) {
		printf("%s: fine\n", path);
	} else if (line.word) {
		code = line.word->run(&(const struct call) { &config, line.given, line.argument });
	} else {
		log_set_level((enum log_level)config.log_level);
		code = agent_run(&config);
	}
	config_clear(&config);
	json_decref(line.fields);
	json_decref(line.given);
	return code;
}
