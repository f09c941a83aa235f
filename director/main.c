// SPDX-License-Identifier: Apache-2.0
#include "director/config.h"
#include "director/director.h"
#include "director/model.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <string.h>

static const struct option_row rows[] = {
	{ "config", 'c', "FILE", NULL, "YAML configuration file" },
	{ "check", 0, NULL, NULL, "read and check the configuration, then exit" },
	{ "listen", 'l', "ADDR:PORT", "listen", "where the REST API listens (default 127.0.0.1:4672)" },
	{ "insecure", 0, NULL, "insecure", "allow listening beyond loopback without authentication" },
	{ "store", 0, "FILE", "store", "SQLite file (default /var/lib/brass/director.db)" },
	{ "vip-device", 'i', "DEVICE", "vip_device", "device that gets the VIPs (default brass0, a dummy)" },
	{ "resync", 0, "TIME", "resync", "time between two verifications of the kernel (default 1m)" },
	{ "flush-on-exit", 'f', NULL, "flush_on_exit", "take services and VIPs out of the kernel on a clean stop" },
	{ "take-all", 0, NULL, "take_all", "remove virtual services that others made" },
	{ "log-level", 0, "LEVEL", "log_level", "error, warning, info or debug" },
	{ "store-recover", 0, NULL, NULL, "save what can be read of a damaged store, then exit" },
	{ "help-fields", 0, NULL, NULL, "print the fields of configuration, services and backends" },
	{ "version", 0, NULL, NULL, "print the version" },
	{ "help", 'h', NULL, NULL, "print this" },
};

static const struct option_set options = {
	"brass-director",
	"[OPTIONS]",
	"Balances TCP and UDP services with the kernel's IPVS, driven by a REST API and by agents.",
	rows,
	ARRAY_SIZE(rows),
};

static void help_fields(void)
{
	static const struct {
		const char *title;
		const struct field_table *table;
	} tables[] = { { "Configuration file", &config_fields }, { "ipvs", &settings_fields },
		{ "ipvs.timeouts", &settings_timeout_fields }, { "sync.master, sync.backup", &sync_role_fields },
		{ "Service", &service_fields }, { "Judge", &judge_fields }, { "Quorum", &quorum_fields },
		{ "Zones", &zones_fields }, { "Backend", &backend_fields }, { "Pulse", &check_fields },
		{ "Arguments of a pulse", &check_arg_fields }, { "Backend of an agent", &protocol_backend_fields } };

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		printf("%s## %s\n\n", i ? "\n" : "", tables[i].title);
		field_document(tables[i].table, stdout);
	}
}

int main(int argc, char **argv)
{
	json_t *fields = NULL, *given = NULL;
	char message[CONFILE_MESSAGE_MAX] = "out of memory";
	struct config *config = calloc(1, sizeof(*config));
	struct err err = { 0 };
	int first = 0, code = EXIT_FINE;

	if (options_parse(&options, argc, argv, &fields, &given, &first, &err) ||
		(first < argc && err_set(&err, -1, NULL, "unexpected word %s; see --help", argv[first]))) {
		fprintf(stderr, "brass-director: %s\n", err.text);
		json_decref(fields);
		json_decref(given);
		free(config);
		return EXIT_USAGE;
	}
	const char *path = json_string_value(json_object_get(given, "config"));

	if (json_object_get(given, "help")) {
		options_help(&options);
	} else if (json_object_get(given, "version")) {
		printf("brass-director %s\n", BRASS_VERSION);
	} else if (json_object_get(given, "help-fields")) {
		help_fields();
	} else if (!config || config_read(path, fields, config, message)) {
		fprintf(stderr, "brass-director: %s\n", message);
		code = EXIT_USAGE;
	} else if (json_object_get(given, "check")) {
		printf("%s: fine\n", path ? path : "options");
	} else {
		log_set_level((enum log_level)config->log_level);
		if (json_object_get(given, "store-recover"))
			code = director_recover(config);
		else
			code = director_run(STEAL(config), path, fields);
	}
	if (config)
		config_clear(config);
	free(config);
	json_decref(fields);
	json_decref(given);
	return code;
}
