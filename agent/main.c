// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"
#include "agent/config.h"
#include "agent/control.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <string.h>

#define DEFAULT_FILE "/etc/brass/agent.yaml"

static const struct option_row rows[] = {
	{ "config", 'c', "FILE", NULL, "YAML configuration file (default " DEFAULT_FILE ")" },
	{ "check", 0, NULL, NULL, "read and check the configuration, then exit" },
	{ "json", 0, NULL, NULL, "status: print JSON" },
	{ "run-dir", 0, "DIR", "run_dir", "journal, last known state, control socket (default /run/brass)" },
	{ "log-level", 0, "LEVEL", "log_level", "error, warning, info or debug" },
	{ "help-fields", 0, NULL, NULL, "print the fields of the configuration file" },
	{ "version", 0, NULL, NULL, "print the version" },
	{ "help", 'h', NULL, NULL, "print this" },
};

static const struct option_set options = {
	"brass-agent",
	"[OPTIONS] [status [--json]]",
	"Makes this host a real server: VIPs without ARP, tunnels, return routes, registration, drain.\n"
	"With the word status it asks the running agent what it does.",
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

static int status(const struct config *config, bool as_json)
{
	struct err err = { 0 };
	json_t *json = NULL;

	if (control_ask(config->run_dir, &json, &err)) {
		fprintf(stderr, "brass-agent: %s\n", err.text);
		return EXIT_FAILED;
	}
	if (as_json) {
		json_dumpf(json, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		control_print(json);
	}
	json_decref(json);
	return EXIT_FINE;
}

// The words and options of the command line; options may stand on both sides of the word.
static int parse(int argc, char **argv, json_t **ret_fields, json_t **ret_given, const char **ret_word, struct err *err)
{
	json_t *more_fields = NULL, *more_given = NULL;
	int first = 0, second = 0;
	int rc = options_parse(&options, argc, argv, ret_fields, ret_given, &first, err);

	if (rc || first >= argc)
		return rc;
	*ret_word = argv[first];
	rc = options_parse(&options, argc - first, argv + first, &more_fields, &more_given, &second, err);
	if (rc)
		return rc;
	json_object_update(*ret_fields, more_fields);
	json_object_update(*ret_given, more_given);
	json_decref(more_fields);
	json_decref(more_given);
	if (strcmp(*ret_word, "status") != 0 || second < argc - first)
		return err_set(err, -1, NULL, "unexpected word %s; see --help",
			strcmp(*ret_word, "status") != 0 ? *ret_word : argv[first + second]);
	return 0;
}

int main(int argc, char **argv)
{
	json_t *fields = NULL, *given = NULL;
	char message[CONFILE_MESSAGE_MAX];
	struct config config = { 0 };
	const char *word = NULL;
	struct err err = { 0 };
	int code = EXIT_FINE;

	if (parse(argc, argv, &fields, &given, &word, &err)) {
		fprintf(stderr, "brass-agent: %s\n", err.text);
		json_decref(fields);
		json_decref(given);
		return EXIT_USAGE;
	}
	const char *path = json_string_value(json_object_get(given, "config"));

	if (!path)
		path = DEFAULT_FILE;
	if (json_object_get(given, "help")) {
		options_help(&options);
	} else if (json_object_get(given, "version")) {
		printf("brass-agent %s\n", BRASS_VERSION);
	} else if (json_object_get(given, "help-fields")) {
		help_fields();
	} else if (config_read(path, fields, &config, message)) {
		fprintf(stderr, "brass-agent: %s\n", message);
		code = EXIT_USAGE;
	} else if (json_object_get(given, "check")) {
		printf("%s: fine\n", path);
	} else if (word) {
		code = status(&config, json_object_get(given, "json") != NULL);
	} else {
		log_set_level((enum log_level)config.log_level);
		code = agent_run(&config);
	}
	config_clear(&config);
	json_decref(fields);
	json_decref(given);
	return code;
}
