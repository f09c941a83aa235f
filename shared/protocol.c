// SPDX-License-Identifier: Apache-2.0
// Both messages are a head read by a field table and a map of named items, each read by a field table.
#include "shared/protocol.h"

#include "shared/util.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

const struct field_choice transport_choices[] = {
	{ "tcp", IPPROTO_TCP },
	{ "udp", IPPROTO_UDP },
	{ "sctp", IPPROTO_SCTP },
	{ NULL, 0 },
};

const struct field_choice protocol_state_choices[] = {
	{ "setup", PROTOCOL_SETUP },
	{ "up", PROTOCOL_UP },
	{ "down", PROTOCOL_DOWN },
	{ "drain", PROTOCOL_DRAIN },
	{ NULL, 0 },
};

#define MEMBER(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)

static const struct field backend_rows[] = {
	{ "port", FIELD_UINT, MEMBER(struct protocol_backend, port), .min = 0, .max = 65535, .def = "0",
		.help = "port of the real server; 0: the service's own" },
	{ "method", FIELD_CHOICE, MEMBER(struct protocol_backend, method), .choices = forward_method_choices,
		.def = "\"dr\"", .help = "forwarding method" },
	{ "tunnel", FIELD_OBJECT, MEMBER(struct protocol_backend, tunnel), .sub = &tunnel_fields, .def = "{}",
		.help = "how gue and gre wrap" },
	{ "weight", FIELD_UINT, MEMBER(struct protocol_backend, weight), .min = 0, .max = 65535, .def = "100",
		.help = "share of new connections" },
	{ "state", FIELD_CHOICE, MEMBER(struct protocol_backend, state), .choices = protocol_state_choices,
		.def = "\"setup\"", .help = "only up gets connections" },
	{ "vip", FIELD_ADDR, MEMBER(struct protocol_backend, vip),
		.help = "the VIP that the host has; up counts only when it is the service's" },
	{ "reason", FIELD_STRING, MEMBER(struct protocol_backend, reason), .help = "why it is not up" },
	{ "labels", FIELD_CUSTOM, MEMBER(struct protocol_backend, labels), .parse = labels_parse_new,
		.print = labels_print_new, .help = "what it is, for a split or zones" },
};

const struct field_table protocol_backend_fields = {
	.what = "backend of an agent",
	.rows = backend_rows,
	.count = ARRAY_SIZE(backend_rows),
	.size = sizeof(struct protocol_backend),
	.set_offset = offsetof(struct protocol_backend, set),
};

static int ignore(const json_t *json, void *member, struct err *err)
{
	(void)json, (void)member, (void)err;
	return 0;
}

static const struct field report_rows[] = {
	{ "address", FIELD_ADDR, MEMBER(struct protocol_report, address), .required = true,
		.help = "the real server's own address" },
	{ "boot", FIELD_NAME, MEMBER(struct protocol_report, boot), .required = true,
		.help = "one id for each start of the agent" },
	{ "ttl", FIELD_DURATION, MEMBER(struct protocol_report, ttl_ms), .min = PROTOCOL_TTL_MIN_MS,
		.max = PROTOCOL_TTL_MAX_MS, .def = "\"10s\"", .help = "the lease: silence longer than this is a loss" },
	{ "backends", FIELD_CUSTOM, .parse = ignore, .required = true, .help = "by service name" },
};

static const struct field_table report_fields = {
	.what = "registration",
	.rows = report_rows,
	.count = ARRAY_SIZE(report_rows),
	.size = sizeof(struct protocol_report),
	.set_offset = offsetof(struct protocol_report, set),
};

static const struct field service_rows[] = {
	{ "known", FIELD_BOOL, MEMBER(struct protocol_service, known), .required = true },
	{ "of", FIELD_NAME, MEMBER(struct protocol_service, of) },
	{ "host", FIELD_ADDR, MEMBER(struct protocol_service, host) },
	{ "port", FIELD_UINT, MEMBER(struct protocol_service, port), .min = 0, .max = 65535 },
	{ "protocol", FIELD_CHOICE, MEMBER(struct protocol_service, protocol), .choices = transport_choices },
	{ "method", FIELD_CHOICE, MEMBER(struct protocol_service, method), .choices = forward_method_choices },
	{ "effective_weight", FIELD_UINT, MEMBER(struct protocol_service, effective_weight), .max = 65535 },
	{ "status", FIELD_NAME, MEMBER(struct protocol_service, status) },
	{ "active", FIELD_UINT, MEMBER(struct protocol_service, active), .max = UINT32_MAX },
	{ "inactive", FIELD_UINT, MEMBER(struct protocol_service, inactive), .max = UINT32_MAX },
	{ "error", FIELD_STRING, MEMBER(struct protocol_service, error) },
};

static const struct field_table service_fields = {
	.what = "service in an answer",
	.rows = service_rows,
	.count = ARRAY_SIZE(service_rows),
	.size = sizeof(struct protocol_service),
	.set_offset = offsetof(struct protocol_service, set),
};

static const struct field answer_rows[] = {
	{ "revision", FIELD_UINT, MEMBER(struct protocol_answer, revision), .max = UINT32_MAX, .required = true },
	{ "ttl", FIELD_DURATION, MEMBER(struct protocol_answer, ttl_ms), .max = PROTOCOL_TTL_MAX_MS, .required = true },
	{ "source", FIELD_ADDR, MEMBER(struct protocol_answer, source) },
	{ "services", FIELD_CUSTOM, .parse = ignore, .required = true },
};

static const struct field_table answer_fields = {
	.what = "director's answer",
	.rows = answer_rows,
	.count = ARRAY_SIZE(answer_rows),
	.size = sizeof(struct protocol_answer),
	.set_offset = offsetof(struct protocol_answer, set),
};

static void clear_backends(struct protocol_backend *backends, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(backends[i].labels);
	free(backends);
}

// Reads {"name": {...}, ...} into a list of structs whose name member stands at name_offset. Sorted by name.
static int items_from_json(const json_t *map, const char *field, const struct field_table *table, size_t name_offset,
	void **ret_items, size_t *ret_count, struct err *err)
{
	const char *name;
	json_t *value;
	size_t n = 0;

	if (!json_is_object(map))
		return err_set(err, -EINVAL, field, "found %s, allowed is an object of objects by service name",
			map ? field_json_kind(map) : "nothing");
	size_t count = json_object_size(map);
	if (count > PROTOCOL_BACKENDS_MAX)
		return err_set(err, -E2BIG, field, "found %zu, allowed are at most %d", count, PROTOCOL_BACKENDS_MAX);
	char *items = calloc(count ? count : 1, table->size);
	if (!items)
		return err_set(err, -ENOMEM, field, "out of memory");
	json_object_foreach ((json_t *)(uintptr_t)map, name, value) {
		char *item = items + n++ * table->size;
		int rc = 0;

		if (!field_name_ok(name, PROTOCOL_NAME_MAX))
			rc = err_set(err, -EINVAL, NULL, "\"%.80s\" is no name of a service", name);
		if (!rc) {
			rc = field_parse(table, value, item, err);
			if (rc)
				err_prefix(err, name);
		}
		if (rc) {
			err_prefix(err, field);
			if (table == &protocol_backend_fields)
				clear_backends((struct protocol_backend *)(void *)items, n);
			else
				free(items);
			return rc;
		}
		snprintf(item + name_offset, PROTOCOL_NAME_MAX + 1, "%s", name);
	}
	*ret_items = items;
	*ret_count = count;
	return 0;
}

static json_t *items_to_json(const struct field_table *table, size_t name_offset, const void *items, size_t count)
{
	json_t *map = json_object();

	for (size_t i = 0; map && i < count; i++) {
		const char *item = (const char *)items + i * table->size;

		json_object_set_new(map, item + name_offset, field_print(table, item));
	}
	return map;
}

static int by_backend_name(const void *a, const void *b)
{
	return strcmp(((const struct protocol_backend *)a)->service, ((const struct protocol_backend *)b)->service);
}

static int by_service_name(const void *a, const void *b)
{
	return strcmp(((const struct protocol_service *)a)->service, ((const struct protocol_service *)b)->service);
}

int protocol_report_from_json(const json_t *json, struct protocol_report *ret, struct err *err)
{
	struct protocol_report report;
	void *items = NULL;
	int rc = field_parse(&report_fields, json, &report, err);

	if (!rc)
		rc = items_from_json(json_object_get(json, "backends"), "backends", &protocol_backend_fields,
			offsetof(struct protocol_backend, service), &items, &report.count, err);
	if (rc)
		return rc;
	report.backends = items;
	sort_items(report.backends, report.count, sizeof(*report.backends), by_backend_name);
	*ret = report;
	return 0;
}

json_t *protocol_report_to_json(const struct protocol_report *report)
{
	json_t *json = field_print(&report_fields, report);

	if (json)
		json_object_set_new(json, "backends",
			items_to_json(&protocol_backend_fields, offsetof(struct protocol_backend, service),
				report->backends, report->count));
	return json;
}

void protocol_report_clear(struct protocol_report *report)
{
	clear_backends(report->backends, report->count);
	*report = (struct protocol_report) { 0 };
}

int protocol_answer_from_json(const json_t *json, struct protocol_answer *ret, struct err *err)
{
	struct protocol_answer answer;
	void *items = NULL;
	int rc = field_parse(&answer_fields, json, &answer, err);

	if (!rc)
		rc = items_from_json(json_object_get(json, "services"), "services", &service_fields,
			offsetof(struct protocol_service, service), &items, &answer.count, err);
	if (rc)
		return rc;
	answer.services = items;
	sort_items(answer.services, answer.count, sizeof(*answer.services), by_service_name);
	*ret = answer;
	return 0;
}

json_t *protocol_answer_to_json(const struct protocol_answer *answer)
{
	json_t *json = field_print(&answer_fields, answer);

	if (json)
		json_object_set_new(json, "services",
			items_to_json(&service_fields, offsetof(struct protocol_service, service), answer->services,
				answer->count));
	return json;
}

void protocol_answer_clear(struct protocol_answer *answer)
{
	free(answer->services);
	*answer = (struct protocol_answer) { 0 };
}
