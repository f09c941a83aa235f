// SPDX-License-Identifier: Apache-2.0
// Passes when the answer has the expected status. Redirects are not followed: a redirect is an answer like any other.
#include "shared/check.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_KEPT 1024 // bytes; the body is not looked at

struct http_check {
	struct check base;
	struct http_call *call;
	uint32_t expect;
};

static void on_answer(void *ctx, const struct http_answer *answer)
{
	struct http_check *check = ctx;
	enum check_outcome outcome = check_outcome_of(answer->error);
	char reason[400];

	if (answer->error) {
		snprintf(reason, sizeof(reason), "%s: %s", check->base.what, answer->text);
	} else {
		if (answer->status != (long)check->expect)
			outcome = CHECK_WRONG;
		snprintf(reason, sizeof(reason), "%s: status %ld, expected %u", check->base.what, answer->status,
			check->expect);
	}
	check->base.done(check->base.ctx, outcome, reason);
	free(check);
}

static void http_cancel(struct check *base)
{
	struct http_check *check = container_of(base, struct http_check, base);

	http_call_cancel(check->call);
	free(check);
}

// A header that makes the request longer than two packets, so that one of them is full. 0 or -ENOMEM.
static int make_fill(uint32_t full_size, char **ret)
{
	static const char name[] = "X-Brass-Fill: ";
	const size_t most = 7168, len = 2 * (size_t)full_size < most ? 2 * (size_t)full_size : most;
	char *fill = malloc(sizeof(name) + len);

	if (!fill)
		return -ENOMEM;
	memcpy(fill, name, sizeof(name) - 1);
	memset(fill + sizeof(name) - 1, 'x', len);
	fill[sizeof(name) - 1 + len] = '\0';
	*ret = fill;
	return 0;
}

static int http_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	char url[INET_ENDPOINT_MAX + sizeof(spec->args.path) + 16], text[INET_ENDPOINT_MAX], place[CHECK_TARGET_MAX];
	_cleanup_free_ char *fill = NULL;
	struct http_check *check = calloc(1, sizeof(*check));

	if (!check || (target->full_size && make_fill(target->full_size, &fill))) {
		free(check);
		return -ENOMEM;
	}
	inet_endpoint_format(&target->to, text);
	snprintf(check->base.what, sizeof(check->base.what), "%s from %s", spec->args.method,
		check_target_format(target, place));
	snprintf(url, sizeof(url), "http://%s%s%s", text, spec->args.path[0] == '/' ? "" : "/", spec->args.path);
	check->expect = spec->args.expect;
	const struct http_request request = {
		.method = spec->args.method,
		.url = url,
		.host_header = spec->args.host[0] ? spec->args.host : NULL,
		.connect_timeout_ms = spec->timeout_ms,
		.timeout_ms = spec->timeout_ms,
		.answer_max = BODY_KEPT,
		.cut_answer = true,
		.fresh_connection = true,
		.header = fill,
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
