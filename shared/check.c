// SPDX-License-Identifier: Apache-2.0
#include "shared/check.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct field_choice kind_choices[] = {
	{ "none", CHECK_NONE },
	{ "tcp", CHECK_TCP },
	{ "http", CHECK_HTTP },
	{ "exec", CHECK_EXEC },
	{ NULL, 0 },
};

const struct field_choice check_via_choices[] = {
	{ "auto", CHECK_VIA_AUTO },
	{ "rip", CHECK_VIA_RIP },
	{ "vip", CHECK_VIA_VIP },
	{ NULL, 0 },
};

static const struct check_type *const types[] = {
	[CHECK_TCP] = &check_tcp,
	[CHECK_HTTP] = &check_http,
	[CHECK_EXEC] = &check_exec,
};

#define ARG(member) .offset = offsetof(struct check_args, member), .size = sizeof(((struct check_args *)NULL)->member)
#define SPEC(member) .offset = offsetof(struct check_spec, member), .size = sizeof(((struct check_spec *)NULL)->member)

// GORB's clients send "" for what they do not set.
static int parse_path(const json_t *json, void *member, struct err *err)
{
	const struct field row = { .type = FIELD_STRING, ARG(path) };
	int rc = field_read_value(&row, json, member, err);

	if (!rc && !*(const char *)member)
		memcpy(member, "/", 2);
	return rc;
}

static bool print_path(const void *member, struct out *out)
{
	out_string(out, member);
	return true;
}

static const struct field arg_rows[] = {
	{ "method", FIELD_NAME, ARG(method), .def = "\"GET\"", .help = "HTTP method" },
	{ "port", FIELD_UINT, ARG(port), .max = 65535, .def = "0", .help = "0: the backend's own" },
	{ "path", FIELD_CUSTOM, ARG(path), .parse = parse_path, .print = print_path, .def = "\"/\"",
		.help = "HTTP path" },
	{ "host", FIELD_STRING, ARG(host), .help = "HTTP Host header; default: the address" },
	{ "expect", FIELD_UINT, ARG(expect), .min = 100, .max = 599, .def = "200", .help = "HTTP status that passes" },
	{ "command", FIELD_CUSTOM, ARG(command), .parse = check_parse_command, .print = check_print_command,
		.help = "exec: the program and its arguments" },
	{ "user", FIELD_NAME, ARG(user), .help = "exec: who runs it" },
};

static const struct check_args arg_defaults = CHECK_ARGS_DEFAULTS;

static const struct field_table arg_fields = {
	.what = "pulse's args",
	.rows = arg_rows,
	.count = ARRAY_SIZE(arg_rows),
	.size = sizeof(struct check_args),
	.set_offset = -1,
	.defaults = &arg_defaults,
};

static const struct field spec_rows[] = {
	{ "type", FIELD_CHOICE, SPEC(kind), .choices = kind_choices, .def = "\"tcp\"", .help = "kind of check" },
	{ "interval", FIELD_DURATION, SPEC(interval_ms), .min = 100, .max = 86400000, .def = "\"1m\"",
		.help = "time between two checks" },
	{ "timeout", FIELD_DURATION, SPEC(timeout_ms), .min = 50, .max = 3600000, .def = "\"5s\"",
		.help = "no answer after this is a failure" },
	{ "args", FIELD_OBJECT, SPEC(args), .sub = &arg_fields, .def = "{}",
		.help = "method, port, path, host, expect; exec (agents only): command, user" },
	{ "via", FIELD_CHOICE, SPEC(via), .choices = check_via_choices, .def = "\"auto\"",
		.help = "way of its packets: rip to the real server's own address, vip as traffic goes; auto: vip for "
			"dr and tunnels" },
	{ "full_size", FIELD_BOOL, SPEC(full_size), .def = "false",
		.help = "with vip: it passes only when a packet gets through that is as large as the path should "
			"carry" },
	{ "path", FIELD_CUSTOM, SPEC(args.path), .parse = parse_path, .hidden = true },
};

static const struct check_spec spec_defaults = { CHECK_SPEC_DEFAULTS, .kind = CHECK_TCP };

const struct field_table check_fields = {
	.what = "pulse",
	.rows = spec_rows,
	.count = ARRAY_SIZE(spec_rows),
	.size = sizeof(struct check_spec),
	.set_offset = offsetof(struct check_spec, set),
	.defaults = &spec_defaults,
};

const char *check_target_format(const struct check_target *target, char buf[CHECK_TARGET_MAX])
{
	char real[INET_ENDPOINT_MAX], vip[INET_ADDR_MAX];

	if (!inet_addr_is_set(&target->real.addr))
		return inet_endpoint_format(&target->to, buf);
	snprintf(buf, CHECK_TARGET_MAX, "%s via VIP %s", inet_endpoint_format(&target->real, real),
		inet_addr_format(&target->to.addr, vip));
	return buf;
}

struct sockpath check_path(const struct check_target *target)
{
	// TCP's own options are part of the segment (net/ipv4/tcp_output.c, tcp_sync_mss)
	const uint32_t headers = target->to.addr.family == AF_INET6 ? 40 + 20 : 20 + 20, largest = 32767;
	struct sockpath path = target->path;

	if (target->full_size > headers + 88)
		path.segment = target->full_size - headers < largest ? target->full_size - headers : largest;
	return path;
}

int check_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *given,
	check_done_fn done, void *ctx, struct check **ret)
{
	struct check_target target = *given;
	struct check *check = NULL;

	if (spec->kind == CHECK_NONE)
		return -EINVAL;
	if (spec->args.port)
		target.to.port = target.real.port = (uint16_t)spec->args.port;
	int rc = types[spec->kind]->start(env, spec, &target, &check);
	if (rc)
		return rc;
	check->type = types[spec->kind];
	check->done = done;
	check->ctx = ctx;
	*ret = check;
	return 0;
}

int check_complete(const struct check_spec *spec, struct err *err)
{
	const bool is_exec = spec->kind == CHECK_EXEC;

	if (is_exec && !*spec->args.command)
		return err_set(err, -EINVAL, "args.command", "missing; a check of type exec needs it");
	if (!is_exec && (*spec->args.command || *spec->args.user))
		return err_set(err, -EINVAL, *spec->args.command ? "args.command" : "args.user",
			"found with type %s; only exec has one", field_choice_name(kind_choices, spec->kind));
	return 0;
}

void check_cancel(struct check *check)
{
	if (check)
		check->type->cancel(check);
}

enum check_outcome check_outcome_of(int error)
{
	switch (error) {
	case 0:
		return CHECK_PASS;
	case -ECONNREFUSED:
	case -ECONNRESET:
		return CHECK_REFUSED;
	case -ETIMEDOUT:
		return CHECK_TIMEOUT;
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -EHOSTDOWN:
		return CHECK_UNREACHABLE;
	default:
		return CHECK_BROKEN;
	}
}

const char *check_outcome_name(enum check_outcome outcome)
{
	static const char *const names[] = {
		[CHECK_PASS] = "answers",
		[CHECK_REFUSED] = "refused",
		[CHECK_TIMEOUT] = "no answer",
		[CHECK_UNREACHABLE] = "unreachable",
		[CHECK_NO_PORT] = "ICMP port unreachable",
		[CHECK_NO_PROTOCOL] = "ICMP protocol unreachable",
		[CHECK_PROHIBITED] = "ICMP prohibited",
		[CHECK_WRONG] = "wrong answer",
		[CHECK_BROKEN] = "cannot be checked",
	};

	return names[outcome];
}
