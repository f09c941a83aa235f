// SPDX-License-Identifier: Apache-2.0
#include "director/lease.h"

bool lease_renew(struct agent *agent, msec_t now_ms, msec_t reap_after_ms)
{
	bool was_lost = agent->lost;

	agent->lost = false;
	agent->deadline_ms = now_ms + agent->ttl_ms;
	agent->reap_ms = agent->deadline_ms + reap_after_ms;
	return was_lost;
}

void lease_expire(struct model *model, msec_t now_ms, void (*lost)(void *ctx, struct agent *agent),
	void (*reap)(void *ctx, struct agent *agent), void *ctx)
{
	struct agent *agent, *next;

	HASH_ITER (hh, model->agents, agent, next) {
		if (agent->lost && now_ms >= agent->reap_ms) {
			reap(ctx, agent);
		} else if (!agent->lost && now_ms >= agent->deadline_ms) {
			agent->lost = true;
			lost(ctx, agent);
		}
	}
}

void lease_stretch(struct model *model, msec_t by_ms)
{
	for (struct agent *agent = model->agents; agent; agent = agent->hh.next) {
		agent->deadline_ms += by_ms;
		agent->reap_ms += by_ms;
	}
}

msec_t lease_next(const struct model *model)
{
	msec_t next = -1;

	for (const struct agent *agent = model->agents; agent; agent = agent->hh.next) {
		msec_t due = agent->lost ? agent->reap_ms : agent->deadline_ms;

		if (next < 0 || due < next)
			next = due;
	}
	return next;
}
