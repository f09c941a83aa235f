// SPDX-License-Identifier: Apache-2.0
// The fields of a check, and which of them go with which kind.
#include "shared/check.h"

#include "shared/check_text.h"
#include "shared/field_type.h"
#include "shared/util.h"

#include <arpa/nameser.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct field_choice kind_choices[] = {
	{ "none", CHECK_NONE },
	{ "tcp", CHECK_TCP },
	{ "http", CHECK_HTTP },
	{ "https", CHECK_HTTPS },
	{ "udp", CHECK_UDP },
	{ "dns", CHECK_DNS },
	{ "grpc", CHECK_GRPC },
	{ "exec", CHECK_EXEC },
	{ "agent", CHECK_AGENT },
	{ "all", CHECK_ALL },
	{ "any", CHECK_ANY },
	{ NULL, 0 },
};

const struct field_choice check_via_choices[] = {
	{ "auto", CHECK_VIA_AUTO },
	{ "rip", CHECK_VIA_RIP },
	{ "vip", CHECK_VIA_VIP },
	{ NULL, 0 },
};

static const struct field_choice record_choices[] = {
	{ "A", ns_t_a },
	{ "AAAA", ns_t_aaaa },
	{ "CNAME", ns_t_cname },
	{ "MX", ns_t_mx },
	{ "NS", ns_t_ns },
	{ "PTR", ns_t_ptr },
	{ "SOA", ns_t_soa },
	{ "SRV", ns_t_srv },
	{ "TXT", ns_t_txt },
	{ NULL, 0 },
};

#define ARG(member) .offset = offsetof(struct check_args, member), .size = sizeof(((struct check_args *)NULL)->member)
#define SPEC(member) .offset = offsetof(struct check_spec, member), .size = sizeof(((struct check_spec *)NULL)->member)

const char *check_kind_name(int kind)
{
	return field_choice_name(kind_choices, kind);
}

// --- fields of a form of their own ---

// GORB's clients send "" for what they do not set.
static int parse_path(const json_t *json, void *member, struct err *err)
{
	const struct field row = { .type = FIELD_STRING, ARG(path) };
	int rc = field_read_value(&row, json, member, err);

	if (!rc && !*(const char *)member)
		memcpy(member, "/", 2);
	return rc;
}

static bool print_text(const void *member, struct out *out)
{
	const char *text = member;

	if (*text)
		out_string(out, text);
	return *text;
}

// A text or a number as text; NULL: it is neither.
static const char *word_of(const json_t *json, char buf[24])
{
	if (!json_is_integer(json))
		return json_string_value(json);
	snprintf(buf, 24, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
	return buf;
}

// A text with any characters but zero: lines have their ends. YAML reads 220 as a number.
static int parse_text(const json_t *json, void *member, struct err *err)
{
	char number[24];
	const char *text = word_of(json, number);

	if (!text || strlen(text) >= CHECK_TEXT_MAX)
		return err_set(err, -EINVAL, NULL, "found %s, allowed is a text of at most %d bytes",
			text ? "a longer one" : field_json_kind(json), CHECK_TEXT_MAX - 1);
	memset(member, 0, CHECK_TEXT_MAX);
	memcpy(member, text, strlen(text));
	return 0;
}

#define EXPECT_MAX sizeof(((struct check_args *)NULL)->expect)

// 200, "200-299", [200, "300-399"].
static int parse_expect(const json_t *json, void *member, struct err *err)
{
	const size_t count = json_is_array(json) ? json_array_size(json) : 1;
	char text[EXPECT_MAX] = "", number[24];
	size_t len = 0;

	for (size_t i = 0; i < count; i++) {
		const json_t *item = json_is_array(json) ? json_array_get(json, i) : json;
		const char *word = word_of(item, number);
		int n = snprintf(text + len, sizeof(text) - len, "%s%s", i ? "," : "", word ? word : "");

		if (n < 0 || (size_t)n >= sizeof(text) - len)
			return err_set(err, -EINVAL, NULL, "is too long, allowed are %zu bytes in all", EXPECT_MAX - 1);
		len += (size_t)n;
	}
	if (check_text_status_ok(text))
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed are statuses from 100 to 599 and ranges of them, such as 200, \"200-299\" "
			"or "
			"[200, \"300-399\"]",
			*text ? text : field_json_kind(json));
	memset(member, 0, EXPECT_MAX);
	memcpy(member, text, len);
	return 0;
}

// One status is a number, as GORB has it.
static bool print_expect(const void *member, struct out *out)
{
	const char *text = member;

	if (text[strspn(text, "0123456789")])
		out_string(out, text);
	else
		out_uint(out, strtoul(text, NULL, 10));
	return true;
}

static bool header_ok(const char *name, const char *value)
{
	const size_t token = strspn(name,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"); // RFC 9110, 5.6.2

	if (!*name || name[token] || !value)
		return false;
	for (const char *c = value; *c; c++)
		if (iscntrl((unsigned char)*c))
			return false;
	return true;
}

static int parse_headers(const json_t *json, void *member, struct err *err)
{
	char text[sizeof(((struct check_args *)NULL)->headers)] = "";
	const char *name;
	json_t *value;
	size_t len = 0;

	if (!json_is_object(json))
		return err_set(err, -EINVAL, NULL, "found %s, allowed is an object: {\"Name\": \"value\"}",
			field_json_kind(json));
	json_object_foreach ((json_t *)(uintptr_t)json, name, value) {
		if (!header_ok(name, json_string_value(value)))
			return err_set(err, -EINVAL, NULL,
				"found \"%.40s\", allowed are names of HTTP headers, and texts without control "
				"characters",
				name);
		if (strcasecmp(name, "host") == 0)
			return err_set(err, -EINVAL, NULL, "found Host among the headers; args.host has it");
		int n = snprintf(text + len, sizeof(text) - len, "%s: %s\n", name, json_string_value(value));

		if (n < 0 || (size_t)n >= sizeof(text) - len)
			return err_set(
				err, -EINVAL, NULL, "are too long, allowed are %zu bytes in all", sizeof(text) - 1);
		len += (size_t)n;
	}
	memset(member, 0, sizeof(text));
	memcpy(member, text, len);
	return 0;
}

static bool print_headers(const void *member, struct out *out)
{
	char name[sizeof(((struct check_args *)NULL)->headers)];

	out_open(out, '{');
	for (const char *line = member; *line; line = strchr(line, '\n') + 1) {
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(line, ":"), line);
		out_key(out, name);
		line += strlen(name) + 2;
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(line, "\n"), line);
		out_string(out, name);
	}
	out_close(out, '{');
	return true;
}

static int parse_pattern(const json_t *json, bool regex, struct check_body *body, struct err *err)
{
	const struct field row = { .type = FIELD_STRING, .size = sizeof(body->pattern) };
	char text[sizeof(body->pattern)] = "";
	int rc = field_read_value(&row, json, text, err);

	if (rc)
		return rc;
	if (*text && *body->pattern && body->regex != regex)
		return err_set(err, -EINVAL, NULL, "found together with %s, allowed is one of them",
			regex ? "body" : "body_regex");
	if (*text || body->regex == regex)
		*body = (struct check_body) { .regex = *text && regex };
	if (*text)
		memcpy(body->pattern, text, strlen(text));
	return 0;
}

static int parse_body(const json_t *json, void *member, struct err *err)
{
	return parse_pattern(json, false, member, err);
}

static int parse_body_regex(const json_t *json, void *member, struct err *err)
{
	return parse_pattern(json, true, member, err);
}

static bool print_body(const void *member, struct out *out)
{
	const struct check_body *body = member;

	return !body->regex && print_text(body->pattern, out);
}

static bool print_body_regex(const void *member, struct out *out)
{
	const struct check_body *body = member;

	return body->regex && print_text(body->pattern, out);
}

// YAML reads 2 and 1.1 as numbers.
static int parse_version(const json_t *json, void *member, struct err *err)
{
	const char *text = json_string_value(json);
	const double number = json_number_value(json);

	if (text ? strcmp(text, "2") == 0 : number > 1.99 && number < 2.01)
		*(int *)member = 2;
	else if (text ? strcmp(text, "1.1") == 0 : number > 1.09 && number < 1.11)
		*(int *)member = 1;
	else
		return err_set(err, -EINVAL, NULL, "found %s, allowed are \"1.1\" and \"2\"",
			text ? text : field_json_kind(json));
	return 0;
}

static bool print_version(const void *member, struct out *out)
{
	out_string(out, *(const int *)member == 2 ? "2" : "1.1");
	return true;
}

// --- several ---

static int complete_part(const struct check_spec *part, struct err *err)
{
	if (part->kind == CHECK_NONE || part->kind == CHECK_ALL || part->kind == CHECK_ANY)
		return err_set(err, -EINVAL, "type",
			"found %s inside of another check, allowed are the kinds that look",
			check_kind_name(part->kind));
	if (field_is_set(&check_fields, part, "interval"))
		return err_set(err, -EINVAL, "interval", "it is of the whole check");
	if (part->full_size)
		return err_set(err, -EINVAL, "full_size", "it is for checks that are no part of others");
	return check_complete(part, err);
}

// Kept as JSON text, with nothing but what was given: a struct does not hold others of its kind.
static int parse_parts(const json_t *json, void *member, struct err *err)
{
	const size_t room = sizeof(((struct check_args *)NULL)->parts), count = json_array_size(json);
	_cleanup_out_ struct out out = { 0 };

	if (count < 1 || count > CHECK_PARTS_MAX)
		return err_set(err, -EINVAL, NULL, "found %s, allowed is a list of 1 to %d checks",
			json_is_array(json) ? "another number of them" : field_json_kind(json), CHECK_PARTS_MAX);
	out_open(&out, '[');
	for (size_t i = 0; i < count; i++) {
		struct check_spec part;
		char index[24];
		int rc = field_parse(&check_fields, json_array_get(json, i), &part, err);

		if (!rc)
			rc = complete_part(&part, err);
		if (rc) {
			snprintf(index, sizeof(index), "%zu", i);
			err_prefix(err, index);
			return rc;
		}
		field_write(&check_fields, &part, FIELD_GIVEN, &out);
	}
	out_close(&out, '[');
	if (out.failed || out.len >= room)
		return err_set(err, -EINVAL, NULL, "are too long, allowed are %zu bytes of JSON", room - 1);
	memset(member, 0, room);
	memcpy(member, out.text, out.len);
	return 0;
}

static bool print_parts(const void *member, struct out *out)
{
	const char *text = member;

	if (*text)
		out_raw(out, text);
	return *text;
}

int check_parts(const struct check_args *args, struct check_spec ret[CHECK_PARTS_MAX])
{
	json_t *json = json_loads(args->parts, 0, NULL);
	int count = 0, rc = json ? 0 : -EINVAL;

	for (; !rc && count < (int)json_array_size(json) && count < CHECK_PARTS_MAX; count++)
		rc = field_parse(&check_fields, json_array_get(json, (size_t)count), &ret[count], NULL);
	json_decref(json);
	return rc ? rc : count;
}

// --- the tables ---

static const struct field arg_rows[] = {
	{ "method", FIELD_NAME, ARG(method), .def = "\"GET\"", .help = "http, https: method" },
	{ "port", FIELD_UINT, ARG(port), .max = 65535, .def = "0", .help = "0: the backend's own" },
	{ "path", FIELD_CUSTOM, ARG(path), .parse = parse_path, .print = print_text, .def = "\"/\"",
		.help = "http, https: path" },
	{ "host", FIELD_STRING, ARG(host), .help = "http, https: Host header; default: sni, or the address" },
	{ "expect", FIELD_CUSTOM, ARG(expect), .parse = parse_expect, .print = print_expect, .def = "200",
		.help = "http, https: status that passes, or several: 200, \"200-299\", [200, \"300-399\"]" },
	{ "send", FIELD_CUSTOM, ARG(send), .quiet = true, .parse = parse_text, .print = print_text,
		.help = "tcp, udp: text that is sent; \"hex:0d0a\" for bytes, also in answer" },
	{ "answer", FIELD_CUSTOM, ARG(answer), .quiet = true, .parse = parse_text, .print = print_text,
		.help = "tcp, udp: text that the answer has in it; dns: one of the answers, such as an address" },
	{ "headers", FIELD_CUSTOM, ARG(headers), .quiet = true, .parse = parse_headers, .print = print_headers,
		.def = "{}", .help = "http, https: more headers of the request, {\"Name\": \"value\"}" },
	{ "body", FIELD_CUSTOM, ARG(body), .quiet = true, .parse = parse_body, .print = print_body,
		.help = "http, https: text that the first 64 KiB of the answer have in them" },
	{ "body_regex", FIELD_CUSTOM, ARG(body), .quiet = true, .parse = parse_body_regex, .print = print_body_regex,
		.help = "the same as a regular expression of Perl's (pcre2pattern(3))" },
	{ "http_version", FIELD_CUSTOM, ARG(http_version), .quiet = true, .parse = parse_version,
		.print = print_version, .def = "\"1.1\"",
		.help = "http, https: 1.1 or 2; http speaks 2 from the first byte, https agrees on it or fails" },
	{ "tls", FIELD_BOOL, ARG(tls), .quiet = true, .def = "false", .help = "grpc: over TLS" },
	{ "verify", FIELD_BOOL, ARG(verify), .quiet = true, .def = "true",
		.help = "TLS: the certificate must be valid, and for the name of sni" },
	{ "ca", FIELD_STRING, ARG(ca), .quiet = true,
		.help = "TLS: PEM file of the authorities that are trusted; default: the system's" },
	{ "cert", FIELD_STRING, ARG(cert), .quiet = true, .help = "TLS: PEM file of the client's certificate" },
	{ "key", FIELD_STRING, ARG(key), .quiet = true, .help = "TLS: PEM file of its key; default: in cert" },
	{ "sni", FIELD_NAME, ARG(sni), .quiet = true, .help = "TLS: name of the server; default: the address" },
	{ "name", FIELD_STRING, ARG(name), .quiet = true,
		.help = "dns: name that is asked for; grpc: service, default: the server as a whole" },
	{ "record", FIELD_CHOICE, ARG(record), .quiet = true, .choices = record_choices, .def = "\"A\"",
		.help = "dns: type that is asked for" },
	{ "command", FIELD_CUSTOM, ARG(command), .quiet = true, .parse = check_parse_command,
		.print = check_print_command, .help = "exec: the program and its arguments" },
	{ "user", FIELD_NAME, ARG(user), .quiet = true, .help = "exec: who runs it" },
	{ "checks", FIELD_CUSTOM, ARG(parts), .quiet = true, .parse = parse_parts, .print = print_parts,
		.help = "all, any: the checks, such as [{\"type\": \"tcp\"}, {\"type\": \"http\", \"args\": {...}}]" },
};

static const struct check_args arg_defaults = CHECK_ARGS_DEFAULTS;

const struct field_table check_arg_fields = {
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
	{ "args", FIELD_OBJECT, SPEC(args), .sub = &check_arg_fields, .def = "{}",
		.help = "what the kind needs to know" },
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
