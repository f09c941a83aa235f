// SPDX-License-Identifier: Apache-2.0
// What state.c, state_agent.c and state_load.c share and nobody else needs. Floor 3.
#ifndef BRASS_DIRECTOR_STATE_INTERNAL_H
#define BRASS_DIRECTOR_STATE_INTERNAL_H

#include "director/state.h"

// For changes that have no caller to tell (health, leases): the next resync tries again.
void state_reconcile_or_log(struct state *state, const struct service *service);

// Not refused, because the setting may come later; but nothing else would say why no reply arrives.
void state_warn_of_forwarding(const struct backend *backend);

// Out of the model, with its pulse and its stored verdict.
void state_drop_backend(struct state *state, struct backend *backend);

// Puts the backends into this service that agents have reported for it, in the model only.
void state_bind_agents(struct state *state, struct service *service);

// The agent should hear of something.
void state_touch_agent(struct state *state, struct agent *agent);
void state_touch_agents_of(struct state *state, const char *service);

#endif
