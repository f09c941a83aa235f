// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"
#include "agent/config.h"
#include "agent/doctor.h"
#include "agent/preview.h"
#include "agent/words.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_FILE "/etc/brass/agent.yaml"

static const struct option_row rows[] = {
	{ "config", 'c', "FILE", NULL, "YAML configuration file (default " DEFAULT_FILE ")" },
	{ "check", 0, NULL, NULL, "read and check the configuration, then exit" },
	{ "json", 0, NULL, NULL, "status, doctor: print JSON" },
	{ "watch", 0, NULL, NULL, "status: print it again when it changes" },
	{ "service", 0, "NAME", NULL, "drain, undrain: this service; default: all" },
	{ "timeout", 0, "TIME", NULL, "drain: wait at most so long (default: drain in the configuration)" },
	{ "no-wait", 0, NULL, NULL, "drain: do not wait" },
	{ "dry-run", 0, NULL, NULL, "the same as the word plan" },
	{ "client", 0, "ADDRESS", NULL, "doctor: a client whose traffic does not arrive (default: anywhere)" },
	{ "verbose", 'v', NULL, NULL, "doctor: show what is fine, too" },
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
	printf("\n## Static\n\n");
	field_document(&config_static_fields, stdout);
}

static const struct word {
	const char *name, *argument; // NULL: takes none; else it is optional
	const char *options[4];      // of its own
	bool bare;                   // needs no configuration but run_dir
	const char *help;
	int (*run)(const struct words_call *call); // returns an exit code
} words[] = {
	{ "status", NULL, { "json", "watch" }, true, "what the running agent does", words_status },
	{ "drain", NULL, { "service", "timeout", "no-wait" }, true,
		"no new connections for all services, or one; waits for the open ones", words_drain },
	{ "undrain", NULL, { "service" }, true, "new connections again", words_undrain },
	{ "reload", NULL, { NULL }, true, "the running agent reads its configuration again", words_reload },
	{ "plan", NULL, { "dry-run" }, false, "what would be done on this host, as commands; changes nothing",
		preview_word },
	{ "doctor", "SERVICE", { "json", "client", "verbose" }, false,
		"what is wrong on this host, and the command that mends it; changes nothing", doctor_word },
	{ "restore", NULL, { NULL }, true, "after a crash: undo what a killed agent has left", words_restore },
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

static bool takes(const struct word *word, const char *option)
{
	for (size_t i = 0; word && i < ARRAY_SIZE(word->options); i++)
		if (word->options[i] && strcmp(word->options[i], option) == 0)
			return true;
	return false;
}

// An option of words stands with one that takes it, and once.
static int check_options(const struct line *line, struct err *err)
{
	const char *name;
	json_t *value;

	json_object_foreach (line->given, name, value) {
		bool of_words = false;

		for (size_t i = 0; i < ARRAY_SIZE(words); i++)
			of_words |= takes(&words[i], name);
		if (of_words && !takes(line->word, name))
			return err_set(err, -EINVAL, NULL, "option --%s has no meaning %s%s; see --help", name,
				line->word ? "with " : "without a word", line->word ? line->word->name : "");
		if (json_is_array(value))
			return err_set(err, -EINVAL, NULL, "option --%s: found %zu values, allowed is one", name,
				json_array_size(value));
	}
	return 0;
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
	if (!line->word && json_object_get(line->given, "dry-run"))
		line->word = find_word("plan");
	return check_options(line, err);
}

// Words that only look for RUN_DIR do without a file when there is none, or when the option says where it is.
static int read_config(const struct line *line, const char *path, struct config *ret, char message[CONFILE_MESSAGE_MAX])
{
	const bool named = json_object_get(line->given, "config");
	const bool bare = line->word && line->word->bare;

	if (bare && !named && (json_object_get(line->fields, "run_dir") || access(path, F_OK)))
		return config_read_bare(line->fields, ret, message);
	return config_read(path, line->fields, ret, message);
}

int main(int argc, char **argv)
{
	char message[CONFILE_MESSAGE_MAX];
	struct config *config = calloc(1, sizeof(*config));
	struct err err = { 0 };
	struct line line;
	int code = EXIT_FINE;

	if (!config || parse(argc, argv, &line, &err)) {
		fprintf(stderr, "brass-agent: %s\n", config ? err.text : "out of memory");
		free(config);
		json_decref(line.fields);
		json_decref(line.given);
		return EXIT_USAGE;
	}
	const char *path = json_string_value(json_object_get(line.given, "config"));

	if (json_object_get(line.given, "help")) {
		help();
	} else if (json_object_get(line.given, "version")) {
		printf("brass-agent %s\n", BRASS_VERSION);
	} else if (json_object_get(line.given, "help-fields")) {
		help_fields();
	} else if (read_config(&line, path ? path : DEFAULT_FILE, config, message)) {
		fprintf(stderr, "brass-agent: %s\n", message);
		code = EXIT_USAGE;
	} else if (json_object_get(line.given, "check")) {
		printf("%s: fine\n", path ? path : DEFAULT_FILE);
	} else if (line.word) {
		code = line.word->run(&(const struct words_call) { config, line.given, line.argument });
	} else {
		log_set_level((enum log_level)config->log_level);
		code = agent_run(STEAL(config), path ? path : DEFAULT_FILE, line.fields);
	}
	if (config)
		config_clear(config);
	free(config);
	json_decref(line.fields);
	json_decref(line.given);
	return code;
}
