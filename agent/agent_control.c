// SPDX-License-Identifier: Apache-2.0
// What is asked over the control socket.
#include "agent/agent_internal.h"
#include "agent/status.h"

static json_t *look_status(void *ctx, const json_t *request, bool *ret_more)
{
	static const char *const phases[] = { "running", "draining", "leaving" };
	const struct agent *a = ctx;
	const struct status_of of = {
		.services = &a->services,
		.host = &a->host,
		.boot = a->boot,
		.phase = phases[a->phase],
		.stopping = a->phase == PHASE_RUNNING ? NULL : &a->drain,
	};

	*ret_more = json_is_true(json_object_get(request, "watch"));
	return status_make(&of);
}

static int begin_drain(void *ctx, const json_t *request, struct err *err)
{
	struct agent *a = ctx;

	return drain_control_drain(&a->drains, request, err);
}

static int begin_undrain(void *ctx, const json_t *request, struct err *err)
{
	struct agent *a = ctx;

	return drain_control_undrain(&a->drains, request, err);
}

static json_t *look_drain(void *ctx, const json_t *request, bool *ret_more)
{
	const struct agent *a = ctx;

	return drain_control_progress(&a->drains, request, ret_more);
}

static int begin_reload(void *ctx, const json_t *request, struct err *err)
{
	(void)request;
	return agent_reload(ctx, err);
}

static json_t *look_reload(void *ctx, const json_t *request, bool *ret_more)
{
	(void)ctx, (void)request;
	*ret_more = false;
	return json_pack("{s:s}", "state", "reloaded");
}

const struct control_word agent_control_words[] = {
	{ "status", NULL, look_status, status_same },
	{ "drain", begin_drain, look_drain, NULL },
	{ "undrain", begin_undrain, look_drain, NULL },
	{ "reload", begin_reload, look_reload, NULL },
	{ NULL, NULL, NULL, NULL },
};
