// SPDX-License-Identifier: Apache-2.0
// What ipvsadm printed: what is taken has the form of a document, under names that the API takes; what is not has a
// reason. Whether the values make sense is the director's to say.
#include "director/cli/import.h"
#include "shared/field.h"
#include "shared/protocol.h"
#include "shared/util.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void refused(void *ctx, size_t line, const char *why)
{
	(void)ctx;
	MUST(line && *why);
}

static void check(const char *name, json_t *service)
{
	const json_t *backends = json_object_get(service, "backends");
	const char *key;
	json_t *json;

	if (!field_name_ok(name, PROTOCOL_NAME_MAX))
		fprintf(stderr, "name %s\n", name);
	MUST(field_name_ok(name, PROTOCOL_NAME_MAX) && json_is_object(service) &&
		(!backends || json_is_object(backends)));
	json_object_foreach ((json_t *)(uintptr_t)backends, key, json)
		MUST(field_name_ok(key, PROTOCOL_NAME_MAX) && json_is_object(json) && json_object_get(json, "host"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	json_t *services = json_object(), *service;
	const char *name;

	MUST(import_table(text, services, refused, NULL) >= 0);
	json_object_foreach (services, name, service)
		check(name, service);
	json_decref(services);
	return 0;
}
