// SPDX-License-Identifier: Apache-2.0
// What a new configuration means beside the one that runs. Pure. Floor 5.
#ifndef BRASS_AGENT_RELOAD_H
#define BRASS_AGENT_RELOAD_H

#include "agent/client.h"
#include "agent/config.h"

// May it take the old one's place while the agent runs? 0, or -EINVAL with the field that may not change. What the file
// leaves to a default that may have changed since (the host's name) stays as it is.
int reload_check(const struct config *old, struct config *next, struct err *err);
// Puts what drains into next: backends of the old one that it no longer has. 0 or -ENOMEM.
int reload_keep_leaving(const struct config *old, struct config *next);
// The one of a list that this configuration names, and NULL for one that is new.
struct client *reload_find(const struct client_list *clients, const char *url);

#endif
