// SPDX-License-Identifier: Apache-2.0
// The fields of services and backends: how each is read, printed, defaulted and documented.
#include "director/model.h"

#include "shared/util.h"

#include <errno.h>
#include <linux/ip_vs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IPVS_PERSISTENT_DEFAULT_S 300 // ipvsadm's own default
#define IPVS_PERSISTENT_MAX_S 86400
#define SHARE_MAX 1000000

// One bit has one meaning a scheduler (ipvsadm(8), --sched-flags); sh and mh mean the same by the first two.
static const struct field_choice flag_choices[] = {
	{ "flag-1", IP_VS_SVC_F_SCHED1 },
	{ "flag-2", IP_VS_SVC_F_SCHED2 },
	{ "flag-3", IP_VS_SVC_F_SCHED3 },
	{ "sh-fallback", IP_VS_SVC_F_SCHED_SH_FALLBACK },
	{ "sh-port", IP_VS_SVC_F_SCHED_SH_PORT },
	{ "mh-fallback", IP_VS_SVC_F_SCHED1 },
	{ "mh-port", IP_VS_SVC_F_SCHED2 },
	{ "none", 0 },
	{ NULL, 0 },
};

uint32_t model_flags(const struct service_core *options)
{
	bool has_fallback = strcmp(options->scheduler, "mh") == 0 || strcmp(options->scheduler, "sh") == 0;

	if (options->flags != MODEL_FLAGS_OF_SCHEDULER)
		return options->flags;
	return has_fallback ? IP_VS_SVC_F_SCHED1 : 0;
}

static int parse_flags(const json_t *json, void *member, struct err *err)
{
	static const struct field row = {
		.name = "flags", .type = FIELD_FLAGS, .size = sizeof(uint32_t), .choices = flag_choices
	};

	if (json_is_string(json) && strcmp(json_string_value(json), "default") == 0) {
		*(uint32_t *)member = MODEL_FLAGS_OF_SCHEDULER;
		return 0;
	}
	return field_read_value(&row, json, member, err);
}

static bool print_flags(const void *member, struct out *out)
{
	const struct service_options *options = container_of(member, struct service_options, flags);
	const char *words[] = { "flag-1", "flag-2", "flag-3" };
	uint32_t flags = model_flags(&options->core);
	char text[64] = "";

	if (strcmp(options->scheduler, "sh") == 0)
		words[0] = "sh-fallback", words[1] = "sh-port";
	else if (strcmp(options->scheduler, "mh") == 0)
		words[0] = "mh-fallback", words[1] = "mh-port";
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t n = strlen(text);

		if (flags & (uint32_t)(IP_VS_SVC_F_SCHED1 << i))
			snprintf(text + n, sizeof(text) - n, "%s%s", n ? "|" : "", words[i]);
	}
	if (!options->flags)
		snprintf(text, sizeof(text), "none");
	if (*text)
		out_string(out, text);
	return *text;
}

static int parse_persistent(const json_t *json, void *member, struct err *err)
{
	msec_t ms = 0;

	if (json_is_boolean(json)) {
		*(uint32_t *)member = json_is_true(json) ? IPVS_PERSISTENT_DEFAULT_S : 0;
		return 0;
	}
	if (!json_is_string(json) || clock_parse_duration(json_string_value(json), &ms) || ms % 1000 || ms < 1000 ||
		ms > (msec_t)IPVS_PERSISTENT_MAX_S * 1000)
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is true, false or a time from 1s to 1d in whole seconds",
			json_is_string(json) ? json_string_value(json) : field_json_kind(json));
	*(uint32_t *)member = (uint32_t)(ms / 1000);
	return 0;
}

static bool print_persistent(const void *member, struct out *out)
{
	uint32_t seconds = *(const uint32_t *)member;
	char buf[CLOCK_DURATION_MAX];

	if (seconds == 0 || seconds == IPVS_PERSISTENT_DEFAULT_S)
		out_bool(out, seconds);
	else
		out_string(out, clock_format_duration((msec_t)seconds * 1000, buf));
	return true;
}

// 24, "24", "/24" or "255.255.255.0": the length of a prefix.
static int parse_prefix(const json_t *json, void *member, struct err *err)
{
	const char *text = json_string_value(json);
	struct inet_prefix prefix;
	struct inet_addr mask;
	char with_addr[80];
	json_int_t len = json_is_integer(json) ? json_integer_value(json) : 0;

	if (text && inet_addr_parse(text, &mask) == 0 && mask.family == AF_INET) {
		uint32_t bits = (uint32_t)mask.bytes[0] << 24 | (uint32_t)mask.bytes[1] << 16 |
			(uint32_t)mask.bytes[2] << 8 | mask.bytes[3];

		while (len < 32 && bits & UINT32_C(1) << (31 - len))
			len++;
		if (len < 32 && bits << len)
			len = 0; // with holes
	} else if (text) {
		snprintf(with_addr, sizeof(with_addr), "::/%.60s", *text == '/' ? text + 1 : text);
		if (inet_prefix_parse(with_addr, &prefix) == 0 && strchr("0123456789", with_addr[3]))
			len = prefix.len;
	}
	if (len < 1 || len > 128)
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is a prefix length (1 to 32, for IPv6 to 128) or an IPv4 mask without holes",
			text ? text : field_json_kind(json));
	*(uint32_t *)member = (uint32_t)len;
	return 0;
}

static bool print_prefix(const void *member, struct out *out)
{
	uint32_t len = *(const uint32_t *)member;

	if (len)
		out_uint(out, len);
	return len;
}

static int parse_scheduler(const json_t *json, void *member, struct err *err)
{
	const char *name = json_string_value(json);

	// IP_VS_SCHEDNAME_MAXLEN is 16; whether the kernel has it only the kernel knows
	if (!name || !*name || strlen(name) > 15 ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name))
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is the name of an IPVS scheduler: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, "
			"sed, nq, fo, ovf, mh, twos",
			name ? name : field_json_kind(json));
	memset(member, 0, 16);
	memcpy(member, name, strlen(name));
	return 0;
}

static bool print_scheduler(const void *member, struct out *out)
{
	out_string(out, member);
	return true;
}

// By name, so that what is equal prints alike: JSON objects have no order.
static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int parse_shares(const json_t *json, struct split_options *split, struct err *err)
{
	uint64_t sum = 0;
	const char *name;
	json_t *value;

	if (!json_is_object(json) || !json_object_size(json) || json_object_size(json) > MODEL_SHARES_MAX)
		return err_set(err, -EINVAL, "shares", "found %s, allowed is an object of 1 to %d numbers",
			json ? field_json_kind(json) : "nothing", MODEL_SHARES_MAX);
	json_object_foreach ((json_t *)(uintptr_t)json, name, value) {
		struct split_share *share = &split->shares[split->count++];
		int rc = labels_check(name, err);

		if (!rc &&
			(!json_is_integer(value) || json_integer_value(value) < 0 ||
				json_integer_value(value) > SHARE_MAX))
			rc = err_set(err, -EINVAL, NULL, "found %s, allowed is a whole number from 0 to %d",
				json_is_integer(value) ? "another number" : field_json_kind(value), SHARE_MAX);
		if (rc) {
			err_prefix(err, name);
			err_prefix(err, "shares");
			return rc;
		}
		snprintf(share->value, sizeof(share->value), "%s", name);
		share->share = (uint32_t)json_integer_value(value);
		sum += share->share;
	}
	if (!sum)
		return err_set(err, -EINVAL, "shares", "all shares are 0, allowed is at least one above");
	static_assert(offsetof(struct split_share, value) == 0, "by_name");
	qsort(split->shares, split->count, sizeof(split->shares[0]), by_name);
	return 0;
}

static int parse_split(const json_t *json, void *member, struct err *err)
{
	struct split_options *split = member;
	const char *key, *label = json_string_value(json_object_get(json, "label"));
	json_t *value;

	*split->label = '\0';
	split->count = 0;
	if (!json_is_object(json))
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is {\"label\": NAME, \"shares\": {VALUE: SHARE, ...}}",
			field_json_kind(json));
	json_object_foreach ((json_t *)(uintptr_t)json, key, value)
		if (strcmp(key, "label") != 0 && strcmp(key, "shares") != 0)
			return err_set(err, -EINVAL, key, "unknown field of a split, allowed are label, shares");
	if (!label)
		return err_set(err, -EINVAL, "label", "missing; a split needs the name of a label");
	if (labels_check(label, err)) {
		err_prefix(err, "label");
		return -EINVAL;
	}
	snprintf(split->label, sizeof(split->label), "%s", label);
	return parse_shares(json_object_get(json, "shares"), split, err);
}

static bool print_split(const void *member, struct out *out)
{
	const struct split_options *split = member;

	if (!*split->label)
		return false;
	out_open(out, '{');
	out_key(out, "label");
	out_string(out, split->label);
	out_key(out, "shares");
	out_open(out, '{');
	for (uint32_t i = 0; i < split->count; i++) {
		out_key(out, split->shares[i].value);
		out_uint(out, split->shares[i].share);
	}
	out_close(out, '{');
	out_close(out, '{');
	return true;
}

#define MEMBER(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)
#define SVC(member) MEMBER(struct service_options, member)
#define BE(member) MEMBER(struct backend_options, member)

// Whoever reaches the API may change services, but not run programs as root.
static int refuse_program(const json_t *json, void *member, struct err *err)
{
	(void)json, (void)member;
	return err_set(err, -EINVAL, NULL,
		"programs are not taken here: name them in the director's configuration file, beside \"services\"");
}

static const struct field_choice family_choices[] = { { "ipv4", AF_INET }, { "ipv6", AF_INET6 }, { NULL, 0 } };

static const struct field service_rows[] = {
	{ "host", FIELD_ADDR, SVC(host), .help = "VIP; required unless fwmark is given" },
	{ "port", FIELD_UINT, SVC(port), .max = 65535,
		.help = "port of the virtual service; 0: all ports (needs persistent); required unless fwmark is "
			"given" },
	{ "protocol", FIELD_CHOICE, SVC(protocol), .choices = transport_choices, .def = "\"tcp\"",
		.help = "transport protocol" },
	{ "fwmark", FIELD_UINT, SVC(fwmark), .min = 1, .max = UINT32_MAX,
		.help = "firewall mark that packets of the service carry, instead of host, port and protocol" },
	{ "family", FIELD_CHOICE, SVC(family), .choices = family_choices, .def = "\"ipv4\"",
		.help = "address family of a service by firewall mark" },
	{ "method", FIELD_CUSTOM, SVC(scheduler), .parse = parse_scheduler, .print = print_scheduler, .def = "\"wrr\"",
		.help = "scheduler, by the name that the kernel gives it" },
	{ "flags", FIELD_CUSTOM, SVC(flags), .parse = parse_flags, .print = print_flags, .choices = flag_choices,
		.def = "\"default\"",
		.help = "scheduler flags, joined by \\|, or none; by default mh and sh have their fallback: clients of "
			"a "
			"real server that is down go to the others" },
	{ "persistent", FIELD_CUSTOM, SVC(persistent_s), .parse = parse_persistent, .print = print_persistent,
		.def = "false", .help = "a client keeps its real server: true (300s) or a time" },
	{ "netmask", FIELD_CUSTOM, SVC(prefix), .parse = parse_prefix, .print = print_prefix,
		.help = "clients of one prefix keep the same real server: a length, or an IPv4 mask (needs "
			"persistent)" },
	{ "pe", FIELD_NAME, SVC(engine),
		.help = "persistence engine: sip keeps the messages of one Call-ID together (needs persistent, udp)" },
	{ "ops", FIELD_BOOL, SVC(ops), .def = "false", .help = "one-packet scheduling, for UDP" },
	{ "split", FIELD_CUSTOM, SVC(split), .parse = parse_split, .print = print_split,
		.help = "shares of new connections by the value of a label of the backends" },
	{ "pulse", FIELD_OBJECT, SVC(pulse), .sub = &check_fields, .def = "{\"type\": \"none\"}",
		.help = "check for backends that agents register" },
	{ "judge", FIELD_OBJECT, SVC(judge), .sub = &judge_fields, .def = "{}",
		.help = "how the results of pulses become a verdict, for all backends" },
	{ "quorum", FIELD_OBJECT, SVC(pool.quorum), .sub = &quorum_fields, .def = "{}",
		.help = "how many backends must be up for the service to be of use" },
	{ "sorry", FIELD_CUSTOM, SVC(pool.sorry), .parse = model_parse_names, .print = model_print_names,
		.help = "names of backends that serve only while the quorum (without one: 1) is lost, and then alone" },
	{ "panic", FIELD_UINT, SVC(pool.panic), .max = 100, .def = "0", .unit = "percent",
		.help = "when the backends that are up have less than this part of the weight, those that are down are "
			"used, too; 0: never" },
	{ "zones", FIELD_OBJECT, SVC(pool.zones), .sub = &zones_fields, .def = "{}",
		.help = "backends whose label zone is preferred are used alone, as long as there are enough" },
	{ "on_quorum_up", FIELD_CUSTOM, .hidden = true, .parse = refuse_program },
	{ "on_quorum_down", FIELD_CUSTOM, .hidden = true, .parse = refuse_program },
	{ "slow_start", FIELD_CUSTOM, SVC(slow_start_ms), .parse = model_parse_slow_start,
		.print = model_print_slow_start, .def = "\"0s\"",
		.help = "a time: a backend that comes up gets its weight little by little over it; 0s: at once; "
			"accumulated: its weight is always that part which its last 100 checks passed" },
};

static const struct service_options service_defaults = {
	.protocol = IPPROTO_TCP,
	.family = AF_INET,
	.scheduler = "wrr",
	.flags = MODEL_FLAGS_OF_SCHEDULER,
	.pulse = { CHECK_SPEC_DEFAULTS, .set = 1, .kind = CHECK_NONE },
	.judge = { JUDGE_DEFAULTS },
	.pool = { .zones = { ZONES_DEFAULTS } },
};

const struct field_table service_fields = {
	.what = "service",
	.rows = service_rows,
	.count = ARRAY_SIZE(service_rows),
	.size = sizeof(struct service_options),
	.set_offset = offsetof(struct service_options, set),
	.defaults = &service_defaults,
};

static const struct field backend_rows[] = {
	{ "host", FIELD_ADDR, BE(host), .required = true, .help = "RIP" },
	{ "port", FIELD_UINT, BE(port), .max = 65535,
		.help = "port of the real server; default: the service's (only nat can change it)" },
	{ "weight", FIELD_UINT, BE(weight), .max = 65535, .def = "100", .help = "share of new connections" },
	{ "method", FIELD_CHOICE, BE(method), .choices = forward_method_choices, .def = "\"nat\"",
		.help = "forwarding method; tunnel is another word for ipip" },
	{ "tunnel", FIELD_OBJECT, BE(tunnel), .sub = &tunnel_fields, .def = "{}", .help = "how gue and gre wrap" },
	{ "upper", FIELD_UINT, BE(upper), .max = UINT32_MAX, .def = "0",
		.help = "no new connections from this many on; 0: no limit" },
	{ "lower", FIELD_UINT, BE(lower), .max = UINT32_MAX, .def = "0",
		.help = "new ones again below this many; 0: three quarters of upper" },
	{ "labels", FIELD_CUSTOM, BE(labels), .parse = labels_parse, .print = labels_print,
		.help = "what the backend is, for a split or zones: {\"version\": \"b\", \"zone\": \"a\"}" },
	{ "pulse", FIELD_OBJECT, BE(pulse), .sub = &check_fields, .def = "{}", .help = "health check" },
};

static const struct backend_options backend_defaults = {
	.weight = 100,
	.method = FORWARD_NAT,
	.pulse = { CHECK_SPEC_DEFAULTS, .kind = CHECK_TCP },
};

const struct field_table backend_fields = {
	.what = "backend",
	.rows = backend_rows,
	.count = ARRAY_SIZE(backend_rows),
	.size = sizeof(struct backend_options),
	.set_offset = offsetof(struct backend_options, set),
	.defaults = &backend_defaults,
};
