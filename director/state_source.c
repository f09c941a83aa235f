// SPDX-License-Identifier: Apache-2.0
// What our tunnel packets to an agent's host come from: the agent takes them from nobody else. It is the address that
// this kernel would choose now (net/netfilter/ipvs/ip_vs_xmit.c, __ip_vs_get_out_rt), and no fact of the store.
#include "director/state_internal.h"

#include "shared/clock.h"
#include "shared/log.h"

static bool has_tunnel(const struct agent *agent)
{
	for (size_t i = 0; i < agent->report.count; i++)
		if (forward_is_tunnel(agent->report.backends[i].method))
			return true;
	return false;
}

void state_look_at_source(struct state *state, struct agent *agent)
{
	struct inet_addr source = { 0 };

	// without a route there is nothing to send: what we said last stands
	if (has_tunnel(agent) && path_source(state->path, &agent->address, clock_now_ms(), &source, NULL))
		return;
	if (inet_addr_cmp(&source, &agent->source) == 0)
		return;
	agent->source = source;
	state_touch_agent(state, agent);
}

void state_paths_changed(struct state *state)
{
	for (struct agent *agent = state->model.agents; agent; agent = agent->hh.next)
		state_look_at_source(state, agent);
}
