// SPDX-License-Identifier: Apache-2.0
// The daemon: configuration and directors' answers become a spec, the host is made like it, what is true is reported.
// Floor 5.
#ifndef BRASS_AGENT_AGENT_H
#define BRASS_AGENT_AGENT_H

#include "agent/config.h"

// Runs until SIGTERM or SIGINT, drains, leaves, gives the host back as it was. Returns an exit code.
int agent_run(const struct config *config);

#endif
