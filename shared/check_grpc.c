// SPDX-License-Identifier: Apache-2.0
// gRPC's own health protocol, version 1 (grpc/health/v1/health.proto): passes when the service is SERVING. The two
// messages are a few bytes each, written and read by check_text; the rest is HTTP/2 by libcurl.
#include "shared/check.h"

#include "shared/check_text.h"
#include "shared/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRPC_UNIMPLEMENTED "12"
#define GRPC_NOT_FOUND "5"

struct grpc_check {
	struct check base;
	struct http_call *call;
	char service[sizeof(((struct check_args *)NULL)->name)];
};

static enum check_outcome judge(
	const struct grpc_check *check, const struct http_answer *answer, char *why, size_t size)
{
	static const char *const words[] = { "UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN" };
	char code[8] = "", message[120] = "", said[140], quoted[140];

	if (answer->error) {
		check_text_quote(answer->text, strlen(answer->text), why, size);
		return check_outcome_of(answer->error);
	}
	http_answer_header(answer, "grpc-status", code, sizeof(code));
	http_answer_header(answer, "grpc-message", message, sizeof(message));
	if (answer->status != 200) {
		snprintf(why, size, "status %ld, expected 200", answer->status);
		return CHECK_WRONG;
	}
	if (strcmp(code, GRPC_UNIMPLEMENTED) == 0) {
		snprintf(why, size, "the server has no health service (grpc.health.v1.Health)");
		return CHECK_WRONG;
	}
	if (strcmp(code, GRPC_NOT_FOUND) == 0) {
		snprintf(why, size, "the server does not know service \"%.100s\"", check->service);
		return CHECK_WRONG;
	}
	if (strcmp(code, "0") != 0) {
		snprintf(said, sizeof(said), "%s%s%s", *code ? code : "is missing", *message ? ": " : "", message);
		snprintf(why, size, "gRPC status %s", check_text_quote(said, strlen(said), quoted, sizeof(quoted)));
		return CHECK_WRONG;
	}
	int status = check_text_grpc_status((const unsigned char *)answer->body, answer->len);
	snprintf(why, size, "%s, expected SERVING", status < 0 ? "the answer cannot be read" : words[status]);
	return status == 1 ? CHECK_PASS : CHECK_WRONG;
}

static void on_answer(void *ctx, const struct http_answer *answer)
{
	struct grpc_check *check = ctx;
	char reason[sizeof(check->base.what) + 320], why[300];
	const enum check_outcome outcome = judge(check, answer, why, sizeof(why));

	snprintf(reason, sizeof(reason), "%s: %s", check->base.what, why);
	check->base.done(check->base.ctx, &(struct check_result) { outcome, reason, answer->expires_s });
	free(check);
}

static void grpc_cancel(struct check *base)
{
	struct grpc_check *check = container_of(base, struct grpc_check, base);

	http_call_cancel(check->call);
	free(check);
}

static int grpc_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	const struct check_args *args = &spec->args;
	unsigned char body[CHECK_GRPC_REQUEST_MAX];
	char place[CHECK_TARGET_MAX];
	struct grpc_check *check = calloc(1, sizeof(*check));

	if (!check)
		return -ENOMEM;
	snprintf(check->base.what, sizeof(check->base.what), "gRPC health of %s", check_target_format(target, place));
	memcpy(check->service, args->name, sizeof(check->service));
	const struct http_request request = {
		.method = "POST",
		.path_and_query = "/grpc.health.v1.Health/Check",
		.at = target->to,
		.host_header = args->host[0] ? args->host : NULL,
		.body = (const char *)body,
		.body_len = check_text_grpc_request(args->name, body),
		.content_type = "application/grpc",
		.headers = "TE: trailers\n",
		.timeout_ms = spec->timeout_ms,
		.answer_max = 4096,
		.cut_answer = true,
		.fresh_connection = true,
		.http2 = true,
		.tls = args->tls ? &(struct http_tls) { args->verify, args->sni, args->ca, args->cert, args->key }
				 : NULL,
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

const struct check_type check_grpc = { "grpc", grpc_start, grpc_cancel };
