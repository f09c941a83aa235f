// SPDX-License-Identifier: Apache-2.0
#include "agent/config_parts.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>

#define STATIC(member) \
	.offset = offsetof(struct config_static, member), .size = sizeof(((struct config_static *)NULL)->member)

static const struct field static_rows[] = {
	{ "host", FIELD_ADDR, STATIC(host), .required = true, .help = "VIP" },
	{ "port", FIELD_UINT, STATIC(port), .min = 1, .max = 65535,
		.help = "of the program here, which is looked for then; nat needs it" },
	{ "protocol", FIELD_CHOICE, STATIC(protocol), .choices = transport_choices, .def = "\"tcp\"",
		.help = "transport protocol" },
	{ "method", FIELD_CHOICE, STATIC(method), .choices = forward_method_choices, .def = "\"dr\"",
		.help = "how packets come from the balancer" },
	{ "tunnel", FIELD_OBJECT, STATIC(tunnel), .sub = &tunnel_fields, .def = "{}",
		.help = "how gue and gre wrap; gue's port is 6080 unless given" },
	{ "device", FIELD_CUSTOM, STATIC(device), .parse = config_parse_device, .print = config_print_device,
		.help = "dr: a dummy device of the agent's for the VIP; default: lo" },
	{ "gateway", FIELD_ADDR, STATIC(gateway),
		.help = "nat: the balancer, where replies go; default: the gateway above" },
};

const struct field_table config_static_fields = {
	.what = "static",
	.rows = static_rows,
	.count = ARRAY_SIZE(static_rows),
	.size = sizeof(struct config_static),
	.set_offset = offsetof(struct config_static, set),
};

static int parse_static(const json_t *json, struct config_static *item, struct err *err)
{
	int rc = field_parse(&config_static_fields, json, item, err);

	if (!rc)
		rc = config_check_method(item->method, &item->tunnel, item->device, err);
	if (!rc && item->method == FORWARD_NAT && !item->port)
		rc = err_set(err, -EINVAL, "port",
			"nat needs it: the replies of this port go back through the balancer, and no others");
	if (!rc && inet_addr_is_set(&item->gateway) && item->method != FORWARD_NAT)
		rc = err_set(err, -EINVAL, "gateway", "found with method %s; only nat has one: others answer directly",
			field_choice_name(forward_method_choices, item->method));
	return rc;
}

int config_parse_statics(const json_t *json, void *member, struct err *err)
{
	struct config_statics *statics = member;
	const size_t count = json_array_size(json);

	if (!json_is_array(json) || count > PROTOCOL_BACKENDS_MAX)
		return err_set(err, -EINVAL, NULL, "found %s, allowed is a list of up to %d objects",
			json_is_array(json) ? "a longer list" : field_json_kind(json), PROTOCOL_BACKENDS_MAX);
	free(statics->items);
	statics->count = 0;
	statics->items = calloc(count + 1, sizeof(*statics->items));
	if (!statics->items)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	for (size_t i = 0; i < count; i++) {
		int rc = parse_static(json_array_get(json, i), &statics->items[i], err);

		if (rc) {
			char place[16];

			snprintf(place, sizeof(place), "[%zu]", i);
			err_prefix(err, place);
			return rc;
		}
		statics->count++;
	}
	return 0;
}
