// SPDX-License-Identifier: Apache-2.0
// Bodies of requests by their field tables: what is taken, and printed as it was given, is taken again and equal; a
// refusal has a sentence; all mistakes of a refused body are found without end. The first byte picks the table.
#include "director/model.h"
#include "director/settings_fields.h"
#include "director/sync.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static const struct field_table *const tables[] = { &service_fields, &backend_fields, &settings_fields, &sync_fields };

static union {
	struct service_options service;
	struct backend_options backend;
	struct settings_wanted settings;
	struct sync_wanted sync;
} first, second;

static void count(void *ctx, const struct err *err)
{
	MUST(*err->text);
	++*(size_t *)ctx;
}

// Rules across fields.
static void check(const struct field_table *table)
{
	static const struct service_options services[] = {
		{ .protocol = 6, .family = AF_INET, .port = 80, .scheduler = "wrr" },
		{ .protocol = 17, .family = AF_INET6, .fwmark = 7, .scheduler = "mh" },
	};
	struct err err = { 0 };

	if (table == &service_fields && model_check_service(&first.service, NULL, &err))
		MUST(*err.text);
	for (size_t i = 0; table == &backend_fields && i < ARRAY_SIZE(services); i++)
		if (model_check_backend(&services[i].core, &first.backend, NULL, &err))
			MUST(*err.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_out_ struct out out = { 0 };
	struct err err = { 0 };
	char names[256];

	if (!size)
		return 0;
	const struct field_table *table = tables[*data % ARRAY_SIZE(tables)];
	json_t *json = json_loadb((const char *)data + 1, size - 1, 0, NULL), *again = NULL;

	if (json && field_parse(table, json, &first, &err)) {
		size_t mistakes = 0;

		MUST(*err.text);
		field_mistakes(table, json, &first, count, &mistakes);
		MUST(mistakes);
	} else if (json) {
		field_write(table, &first, FIELD_GIVEN, &out);
		MUST(!out.failed);
		again = json_loadb(out.text, out.len, 0, NULL);
		MUST(again);
		if (field_parse(table, again, &second, &err)) {
			fprintf(stderr, "printed: %.*s\nrefused: %s: %s\n", (int)out.len, out.text, err.field,
				err.text);
			abort();
		}
		if (field_diff(table, &first, &second, names, sizeof(names))) {
			fprintf(stderr, "printed: %.*s\ndiffers in %s\n", (int)out.len, out.text, names);
			abort();
		}
		check(table);
	}
	json_decref(json);
	json_decref(again);
	return 0;
}
