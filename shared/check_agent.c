// SPDX-License-Identifier: Apache-2.0
// What the real server's agent last reported. Nothing is sent: the agent speaks up by itself.
#include "shared/check.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct agent_check {
	struct check base;
	uv_timer_t timer;
	const struct check_env *env;
	struct inet_endpoint real;
};

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_turn(uv_timer_t *timer)
{
	struct agent_check *check = timer->data;
	char reason[sizeof(check->base.what) + 320];
	const char *why = "";
	const enum check_outcome outcome = check->env->ask_agent(check->env->ctx, &check->real, &why);

	snprintf(reason, sizeof(reason), "%s: %.300s", check->base.what, why);
	uv_close((uv_handle_t *)timer, on_closed);
	check->base.done(check->base.ctx, &(struct check_result) { outcome, reason, 0 });
}

static void agent_cancel(struct check *base)
{
	uv_close((uv_handle_t *)&container_of(base, struct agent_check, base)->timer, on_closed);
}

static int agent_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	struct agent_check *check = env->ask_agent ? calloc(1, sizeof(*check)) : NULL;
	char text[INET_ADDR_MAX];

	(void)spec;
	if (!check)
		return env->ask_agent ? -ENOMEM : -EOPNOTSUPP;
	check->env = env;
	check->real = *check_target_real(target);
	snprintf(check->base.what, sizeof(check->base.what), "agent of %s", inet_addr_format(&check->real.addr, text));
	uv_timer_init(env->loop, &check->timer);
	check->timer.data = check;
	uv_timer_start(&check->timer, on_turn, 0, 0); // never from inside of the call
	*ret = &check->base;
	return 0;
}

const struct check_type check_agent = { "agent", agent_start, agent_cancel };
