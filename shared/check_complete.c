// SPDX-License-Identifier: Apache-2.0
// What the table of a check cannot say: which arguments go with which kind, and what they must look like there.
#include "shared/check.h"

#include "shared/check_regex.h"
#include "shared/check_text.h"
#include "shared/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define K(kind) (1u << CHECK_##kind)
#define K_WEB (K(HTTP) | K(HTTPS))
#define K_TLS (K(HTTPS) | K(GRPC))
#define K_GROUP (K(ALL) | K(ANY))
#define K_ANY_KIND ((1u << CHECK_KINDS) - 1)

// In the order of check_arg_fields. GORB's own go with any kind: its clients send them all.
static const struct {
	const char *arg;
	unsigned int kinds;
} goes_with[] = {
	{ "method", K_ANY_KIND },
	{ "port", K_ANY_KIND },
	{ "path", K_ANY_KIND },
	{ "host", K_ANY_KIND },
	{ "expect", K_ANY_KIND },
	{ "send", K(TCP) | K(UDP) },
	{ "answer", K(TCP) | K(UDP) | K(DNS) },
	{ "headers", K_WEB },
	{ "body", K_WEB },
	{ "body_regex", K_WEB },
	{ "http_version", K_WEB },
	{ "tls", K(GRPC) },
	{ "verify", K_TLS },
	{ "ca", K_TLS },
	{ "cert", K_TLS },
	{ "key", K_TLS },
	{ "sni", K_TLS },
	{ "name", K(DNS) | K(GRPC) },
	{ "record", K(DNS) },
	{ "command", K(EXEC) },
	{ "user", K(EXEC) },
	{ "checks", K_GROUP },
};

static void list_kinds(unsigned int kinds, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (int kind = 0; kind < CHECK_KINDS; kind++)
		if (kinds >> kind & 1 && n < size)
			n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? ", " : "", check_kind_name(kind));
}

static int check_suits(const struct check_spec *spec, struct err *err)
{
	const struct check_args *const defaults = check_arg_fields.defaults;

	assert(ARRAY_SIZE(goes_with) == check_arg_fields.count);
	for (size_t i = 0; i < ARRAY_SIZE(goes_with); i++) {
		const struct field *row = &check_arg_fields.rows[i];
		const size_t at = row->offset;
		char path[40], kinds[80];

		assert(strcmp(row->name, goes_with[i].arg) == 0);
		if (goes_with[i].kinds >> spec->kind & 1 ||
			memcmp((const char *)&spec->args + at, (const char *)defaults + at, row->size) == 0)
			continue;
		snprintf(path, sizeof(path), "args.%s", goes_with[i].arg);
		list_kinds(goes_with[i].kinds, kinds, sizeof(kinds));
		return err_set(
			err, -EINVAL, path, "found with type %s; it is for %s", check_kind_name(spec->kind), kinds);
	}
	return 0;
}

static int check_regex(const struct check_body *body, struct err *err)
{
	return body->regex ? check_regex_valid(body->pattern, err) : 0;
}

static int check_exchange(const struct check_spec *spec, struct err *err)
{
	static const char *const fields[] = { "args.send", "args.answer" };
	const char *const texts[] = { spec->args.send, spec->args.answer };
	char bytes[CHECK_TEXT_MAX];
	size_t len;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (check_text_bytes(texts[i], bytes, &len))
			return err_set(err, -EINVAL, fields[i],
				"found \"%.80s\", allowed after hex: are pairs of hexadecimal digits", texts[i]);
	if (spec->kind == CHECK_TCP && *spec->args.send && !*spec->args.answer)
		return err_set(err, -EINVAL, "args.answer", "missing; without it nobody would look at the answer");
	return 0;
}

static int check_files(const struct check_args *args, struct err *err)
{
	const struct {
		const char *field, *path;
	} files[] = { { "args.ca", args->ca }, { "args.cert", args->cert }, { "args.key", args->key } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (*files[i].path && *files[i].path != '/')
			return err_set(err, -EINVAL, files[i].field, "found \"%.80s\", allowed is an absolute path",
				files[i].path);
	return *args->key && !*args->cert ? err_set(err, -EINVAL, "args.cert", "missing; args.key is of it") : 0;
}

static int check_path_of(const struct check_spec *spec, struct err *err)
{
	const unsigned int own = K(EXEC) | K(AGENT), filled = K(TCP) | K_WEB | K(NONE);

	if (spec->via == CHECK_VIA_VIP && own >> spec->kind & 1)
		return err_set(err, -EINVAL, "via", "found vip with type %s: it sends no packets of ours",
			check_kind_name(spec->kind));
	if (spec->full_size && !(filled >> spec->kind & 1))
		return err_set(err, -EINVAL, "full_size", "found with type %s; it is for tcp, http, https",
			check_kind_name(spec->kind));
	if (spec->full_size && *spec->args.answer)
		return err_set(err, -EINVAL, "full_size", "found with args.answer, allowed is one of them");
	return 0;
}

int check_complete(const struct check_spec *spec, struct err *err)
{
	const struct check_args *args = &spec->args;
	int rc = check_suits(spec, err);

	if (!rc)
		rc = check_path_of(spec, err);
	if (rc)
		return rc;
	switch ((enum check_kind)spec->kind) {
	case CHECK_TCP:
	case CHECK_UDP:
		return check_exchange(spec, err);
	case CHECK_HTTPS:
		rc = check_files(args, err);
		return rc ? rc : check_regex(&args->body, err);
	case CHECK_HTTP:
		return check_regex(&args->body, err);
	case CHECK_GRPC:
		return check_files(args, err);
	case CHECK_DNS:
		return *args->name ? check_text_dns_name(args->name, err)
				   : err_set(err, -EINVAL, "args.name", "missing; a check of type dns needs it");
	case CHECK_EXEC:
		return *args->command ? 0
				      : err_set(err, -EINVAL, "args.command", "missing; a check of type exec needs it");
	case CHECK_ALL:
	case CHECK_ANY:
		return *args->parts ? 0
				    : err_set(err, -EINVAL, "args.checks", "missing; a check of type %s needs it",
					      check_kind_name(spec->kind));
	case CHECK_NONE:
	case CHECK_AGENT:
	case CHECK_KINDS:
		break;
	}
	return 0;
}

bool check_speaks_tcp(int kind, bool otherwise)
{
	const unsigned int tcp = K(TCP) | K_WEB | K(GRPC), udp = K(UDP) | K(DNS);

	return tcp >> kind & 1 || (otherwise && !(udp >> kind & 1));
}
