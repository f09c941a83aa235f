// SPDX-License-Identifier: Apache-2.0
// Files of the agent: its configuration, as YAML, and its journal.
#include "agent/config.h"
#include "agent/resource.h"
#include "shared/confile.h"
#include "tests/fuzz/fuzz.h"

static void configuration(const json_t *json)
{
	struct config config = { 0 };
	struct err err = { 0 };

	if (field_parse(&config_fields, json, &config, &err))
		MUST(*err.text);
	config_clear(&config);
}

static void journal(const json_t *json)
{
	struct resource first, second;
	char command[RESOURCE_COMMAND_MAX];

	if (resource_from_json(json, &first))
		return;
	MUST(resource_command(&first, true, command) && resource_command(&first, false, command));
	json_t *written = resource_to_json(&first);
	MUST(written && resource_from_json(written, &second) == 0);
	MUST(resource_same(&first, &second) && first.original == second.original);
	json_decref(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(confile_free_cleanup) struct confile *file = NULL;

	if (confile_parse("fuzz.yaml", (const char *)data, size, &file, NULL) == 0) {
		configuration(file->root);
		journal(file->root);
	}
	return 0;
}
