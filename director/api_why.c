// SPDX-License-Identifier: Apache-2.0
// GET /service/<vs>/<rs>?why=1: held until the backend was looked at.
#include "director/api.h"

#include <stdlib.h>

struct why {
	struct diagnose_wait wait;
	struct api *api;
	struct http_exchange *exchange;
};

static void on_found(void *ctx, struct backend *backend)
{
	static const struct err stopping = { .text = "the director is stopping" };
	struct why *why = ctx;

	if (backend)
		api_answer_backend(why->api, why->exchange, backend, true);
	else if (why->api->closing)
		http_answer_error(why->exchange, 503, &stopping);
	else
		api_not_found(why->api, why->exchange, "backend", why->exchange->segments[2]);
	free(why);
}

static void on_client_gone(void *hold_ctx)
{
	struct why *why = hold_ctx;

	diagnose_leave(&why->wait);
	free(why);
}

void api_answer_why(struct api *api, struct http_exchange *exchange, struct backend *backend)
{
	const struct err err = { .text = "out of memory" };
	struct why *why = calloc(1, sizeof(*why));

	if (why) {
		why->api = api;
		why->exchange = exchange;
	}
	if (!why || diagnose_ask(api->diagnose, backend, &why->wait, on_found, why)) {
		free(why);
		http_answer_error(exchange, 500, &err);
		return;
	}
	http_hold(exchange, on_client_gone, why);
}
