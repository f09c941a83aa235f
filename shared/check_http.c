// SPDX-License-Identifier: Apache-2.0
// Passes when the answer has one of the expected statuses, and in its body what is looked for. Redirects are not
// followed: a redirect is an answer like any other. libcurl does it, but for what is so plain that a line is enough.
#include "shared/check.h"

#include "shared/check_regex.h"
#include "shared/check_text.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_READ 65536 // bytes; longer answers are not waited for

struct http_check {
	struct check base;
	struct http_call *call;
	char expect[sizeof(((struct check_args *)NULL)->expect)];
	struct check_body body;
	int version; // that must have been spoken; 0: any
};

// 1: it is there, 0: it is not, or -errno.
static int find_in_body(const struct check_body *wanted, const struct http_answer *answer)
{
	if (wanted->regex)
		return check_regex_find(wanted->pattern, answer->body, answer->len);
	return memmem(answer->body, answer->len, wanted->pattern, strlen(wanted->pattern)) != NULL;
}

static enum check_outcome judge(
	const struct http_check *check, const struct http_answer *answer, char *why, size_t size)
{
	char said[64];

	if (answer->error) {
		check_text_quote(answer->text, strlen(answer->text), why, size); // it may quote a certificate
		return check_outcome_of(answer->error);
	}
	if (!check_text_has_status(check->expect, answer->status)) {
		snprintf(why, size, "status %ld, expected %s", answer->status, check->expect);
		return CHECK_WRONG;
	}
	if (check->version && answer->version != check->version) {
		snprintf(
			why, size, "answered in HTTP/%s, expected 2", answer->version == 1 ? "1.1" : "another version");
		return CHECK_WRONG;
	}
	const int found = *check->body.pattern ? find_in_body(&check->body, answer) : 1;
	if (found == 0) {
		snprintf(why, size, "status %ld, body \"%s\"%s, expected \"%.80s\" in it", answer->status,
			check_text_quote(answer->body, answer->len, said, sizeof(said)),
			answer->len >= sizeof(said) ? "..." : "", check->body.pattern);
		return CHECK_WRONG;
	}
	if (found < 0) {
		snprintf(why, size, "status %ld, \"%.80s\" in the body: %s", answer->status, check->body.pattern,
			found == -ETIME ? "looking for it takes too long" : strerror(-found));
		return found == -ETIME ? CHECK_WRONG : CHECK_BROKEN;
	}
	snprintf(why, size, "status %ld, expected %s", answer->status, check->expect);
	return CHECK_PASS;
}

static void on_answer(void *ctx, const struct http_answer *answer)
{
	struct http_check *check = ctx;
	char reason[sizeof(check->base.what) + 320], why[300];
	const enum check_outcome outcome = judge(check, answer, why, sizeof(why));

	snprintf(reason, sizeof(reason), "%s: %s", check->base.what, why);
	check->base.done(check->base.ctx, &(struct check_result) { outcome, reason, answer->expires_s });
	free(check);
}

static void http_cancel(struct check *base)
{
	struct http_check *check = container_of(base, struct http_check, base);

	http_call_cancel(check->call);
	free(check);
}

// The headers with one more, which makes the request longer than two packets, so that one of them is full. 0 or
// -ENOMEM.
static int make_headers(const char *headers, uint32_t full_size, char **ret)
{
	static const char name[] = "X-Brass-Fill: ";
	const size_t most = 7168, len = 2 * (size_t)full_size < most ? 2 * (size_t)full_size : most;
	char *text = malloc(strlen(headers) + sizeof(name) + len + 1);

	if (!text)
		return -ENOMEM;
	char *end = stpcpy(text, headers);
	if (full_size) {
		end = stpcpy(end, name);
		memset(end, 'x', len);
		memcpy(end + len, "\n", 2);
	}
	*ret = text;
	return 0;
}

// Does the status alone count, and can the request be written as it stands? Then libcurl is not needed.
static bool is_plain(const struct check_spec *spec)
{
	if (spec->kind != CHECK_HTTP || spec->args.http_version != 1 || *spec->args.body.pattern)
		return false;
	// libcurl puts these in the place of its own
	for (const char *line = spec->args.headers; *line; line += strcspn(line, "\n") + 1)
		if (strncasecmp(line, "user-agent:", 11) == 0 || strncasecmp(line, "accept:", 7) == 0 ||
			strncasecmp(line, "connection:", 11) == 0 || strncmp(line + strcspn(line, ":"), ": \n", 3) == 0)
			return false;
	for (const char *c = spec->args.path; *c; c++)
		if (*c <= ' ' || *c > '~' || *c == '#')
			return false;
	return true;
}

// As libcurl has it: no port that goes without saying.
static void write_host(const struct check_args *args, const struct inet_endpoint *to, struct out *out)
{
	char text[INET_ENDPOINT_MAX];

	if (*args->host) {
		out_text(out, args->host);
		return;
	}
	inet_endpoint_format(to, text);
	if (to->port == 80)
		*strrchr(text, ':') = '\0';
	out_text(out, text);
}

static int start_plain(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	const char *headers, struct check **ret)
{
	const struct check_args *args = &spec->args;
	struct out out = { 0 };
	size_t len;

	out_format(&out, "%s %s%s HTTP/1.1\r\nHost: ", args->method, *args->path == '/' ? "" : "/", args->path);
	write_host(args, &target->to, &out);
	out_text(&out, "\r\nUser-Agent: brass\r\nAccept: */*\r\nConnection: close\r\n");
	for (const char *line = headers; *line; line += strcspn(line, "\n") + 1) {
		out_bytes(&out, line, strcspn(line, "\n"));
		out_text(&out, "\r\n");
	}
	out_text(&out, "\r\n");
	char *request = out_steal(&out, &len);

	return request ? check_tcp_http(env, spec, target, request, len, ret) : -ENOMEM;
}

static int http_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	const struct check_args *args = &spec->args;
	const bool tls = spec->kind == CHECK_HTTPS;
	char place[CHECK_TARGET_MAX];
	_cleanup_free_ char *headers = NULL;

	if (make_headers(args->headers, target->full_size, &headers))
		return -ENOMEM;
	if (is_plain(spec))
		return start_plain(env, spec, target, headers, ret);
	struct http_check *check = calloc(1, sizeof(*check));
	if (!check)
		return -ENOMEM;
	snprintf(check->base.what, sizeof(check->base.what), "%s from %s", args->method,
		check_target_format(target, place));
	memcpy(check->expect, args->expect, sizeof(check->expect));
	check->body = args->body;
	check->version = args->http_version == 2 ? 2 : 0;
	const struct http_request request = {
		.method = args->method,
		.path_and_query = args->path,
		.at = target->to,
		.host_header = args->host[0] ? args->host : NULL,
		.timeout_ms = spec->timeout_ms,
		.answer_max = BODY_READ,
		.cut_answer = true,
		.fresh_connection = true,
		.headers = headers,
		.http2 = args->http_version == 2,
		.tls = tls ? &(struct http_tls) { args->verify, args->sni, args->ca, args->cert, args->key } : NULL,
		.path = check_path(target),
	};
	int rc = http_client_start(env->http, &request, on_answer, check, &check->call, NULL);
	if (rc) {
		free(check);
		return rc;
	}
	*ret = &check->base;
	return 0;
}

const struct check_type check_http = { "http", http_start, http_cancel };
