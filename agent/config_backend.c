// SPDX-License-Identifier: Apache-2.0
// "backends": what this host serves, and who says whether its program does.
#include "agent/config_parts.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BACKEND(member) \
	.offset = offsetof(struct config_backend, member), .size = sizeof(((struct config_backend *)NULL)->member)

static int parse_check(const json_t *json, void *member, struct err *err)
{
	static const char *const of_directors[] = { "via", "full_size" };
	struct local_check *check = member;
	const char *word = json_string_value(json);

	if (word && (strcmp(word, "listen") == 0 || strcmp(word, "none") == 0)) {
		check->kind = *word == 'l' ? LOCAL_LISTEN : LOCAL_NONE;
		return 0;
	}
	if (!json_is_object(json))
		return err_set(err, -EINVAL, NULL, "found %s, allowed is listen, none, or a check: {type: http, ...}",
			word ? word : field_json_kind(json));
	struct check_user user;
	int rc = field_parse(&check_fields, json, &check->spec, err);

	if (!rc && check->spec.kind == CHECK_AGENT)
		rc = err_set(err, -EINVAL, "type", "found agent: it is for the pulses of a director");
	if (!rc)
		rc = check_complete(&check->spec, err);
	if (!rc)
		rc = check_find_user(check->spec.args.user, &user, err);
	for (size_t i = 0; i < ARRAY_SIZE(of_directors) && !rc; i++)
		if (field_is_set(&check_fields, &check->spec, of_directors[i]))
			rc = err_set(err, -EINVAL, of_directors[i],
				"it is for the pulses of a director: a check of the agent stays on its host");
	check->kind = check->spec.kind == CHECK_NONE ? LOCAL_NONE : LOCAL_CHECK;
	return rc;
}

static bool print_check(const void *member, struct out *out)
{
	const struct local_check *check = member;

	if (check->kind == LOCAL_CHECK)
		field_write(&check_fields, &check->spec, FIELD_ALL, out);
	else
		out_string(out, check->kind == LOCAL_NONE ? "none" : "listen");
	return true;
}

#define WEIGHT(member) \
	.offset = offsetof(struct config_weight, member), .size = sizeof(((struct config_weight *)NULL)->member)

static int parse_from(const json_t *json, void *member, struct err *err)
{
	const char *word = json_string_value(json);

	*(bool *)member = true;
	return word && strcmp(word, "pressure") == 0
		? 0
		: err_set(err, -EINVAL, NULL, "found %s, allowed is pressure", word ? word : field_json_kind(json));
}

static bool print_from(const void *member, struct out *out)
{
	if (*(const bool *)member)
		out_string(out, "pressure");
	return *(const bool *)member;
}

static const struct field weight_rows[] = {
	{ "base", FIELD_UINT, WEIGHT(base), .max = 65535, .def = "100", .help = "when nothing presses" },
	{ "min", FIELD_UINT, WEIGHT(min), .max = 65535, .def = "1", .help = "not below this" },
	{ "from", FIELD_CUSTOM, WEIGHT(by_pressure), .parse = parse_from, .print = print_from, .required = true,
		.help = "pressure" },
};

static const struct field_table weight_fields = {
	.what = "weight",
	.rows = weight_rows,
	.count = ARRAY_SIZE(weight_rows),
	.size = sizeof(struct config_weight),
	.set_offset = -1,
};

static int parse_weight(const json_t *json, void *member, struct err *err)
{
	struct config_weight *weight = member;
	const json_int_t n = json_integer_value(json);

	if (json_is_object(json)) {
		int rc = field_parse(&weight_fields, json, weight, err);

		return rc || weight->min <= weight->base
			? rc
			: err_set(err, -EINVAL, "min", "found %u, allowed is at most base, which is %u", weight->min,
				  weight->base);
	}
	if (!json_is_integer(json) || n < 0 || n > 65535)
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is a number 0 to 65535, or {base: ..., min: ..., from: pressure}",
			json_is_integer(json) ? "a number that is too small or too large" : field_json_kind(json));
	*weight = (struct config_weight) { .base = (uint32_t)n };
	return 0;
}

static bool print_weight(const void *member, struct out *out)
{
	const struct config_weight *weight = member;

	if (weight->by_pressure)
		field_write(&weight_fields, weight, FIELD_ALL, out);
	else
		out_uint(out, weight->base);
	return true;
}

static const struct field backend_rows[] = {
	{ "port", FIELD_UINT, BACKEND(port), .min = 1, .max = 65535,
		.help = "port of the program here; default: the service's (dr and ipip cannot change it)" },
	{ "method", FIELD_CHOICE, BACKEND(method), .choices = forward_method_choices, .def = "\"dr\"",
		.help = "forwarding method; tunnel is another word for ipip" },
	{ "tunnel", FIELD_OBJECT, BACKEND(tunnel), .sub = &tunnel_fields, .def = "{}",
		.help = "how gue and gre wrap; gue's port is 6080 unless given" },
	{ "device", FIELD_CUSTOM, BACKEND(device), .parse = config_parse_device, .print = config_print_device,
		.help = "dr: a dummy device of the agent's for the VIP; default: lo" },
	{ "check", FIELD_CUSTOM, BACKEND(check), .parse = parse_check, .print = print_check, .def = "\"listen\"",
		.help = "who says that the program serves: listen (a socket is there), none, or a check from here "
			"(type, interval, timeout, args)" },
	{ "weight", FIELD_CUSTOM, BACKEND(weight), .parse = parse_weight, .print = print_weight, .def = "100",
		.help = "share of new connections, 0 to 65535; or {base: 100, min: 20, from: pressure}: less of it "
			"while "
			"this host is short of CPU, or its listen queues are full" },
	{ "labels", FIELD_CUSTOM, BACKEND(labels), .parse = labels_parse, .print = labels_print,
		.help = "what it is, for the service's split or zones; beside those of the whole host" },
};

const struct field_table config_backend_fields = {
	.what = "backend",
	.rows = backend_rows,
	.count = ARRAY_SIZE(backend_rows),
	.size = sizeof(struct config_backend),
	.set_offset = offsetof(struct config_backend, set),
};

static int by_service(const void *a, const void *b)
{
	return strcmp(((const struct config_backend *)a)->service, ((const struct config_backend *)b)->service);
}

int config_parse_backends(const json_t *json, void *member, struct err *err)
{
	struct config_backends *backends = member;
	const char *name;
	json_t *value;

	if (!json_is_object(json) || json_object_size(json) > PROTOCOL_BACKENDS_MAX)
		return err_set(err, -EINVAL, NULL, "found %s, allowed are up to %d objects by service name",
			field_json_kind(json), PROTOCOL_BACKENDS_MAX);
	free(backends->items);
	backends->count = 0;
	backends->items = calloc(json_object_size(json) + 1, sizeof(*backends->items));
	if (!backends->items)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	json_object_foreach ((json_t *)(uintptr_t)json, name, value) {
		struct config_backend *backend = &backends->items[backends->count];
		json_t *empty = json_object();
		// "web:" with nothing behind it means: all defaults
		int rc = field_name_ok(name, PROTOCOL_NAME_MAX)
			? field_parse(&config_backend_fields, json_is_null(value) ? empty : value, backend, err)
			: err_set(err, -EINVAL, NULL, "is no name of a service");

		json_decref(empty);
		if (!rc)
			rc = config_check_method(backend->method, &backend->tunnel, backend->device, err);
		if (rc) {
			err_prefix(err, name);
			return rc;
		}
		snprintf(backend->service, sizeof(backend->service), "%s", name);
		backends->count++;
	}
	sort_items(backends->items, backends->count, sizeof(*backends->items), by_service);
	return 0;
}
