// SPDX-License-Identifier: Apache-2.0
// The daemon: configuration and directors' answers become a spec, the host is made like it, what is true is reported.
// Floor 5.
#ifndef BRASS_AGENT_AGENT_H
#define BRASS_AGENT_AGENT_H

#include "agent/config.h"

// Runs until SIGTERM or SIGINT, drains, leaves, gives the host back as it was. On SIGHUP the file at path is read
// again, with the options laid over it, and taken over as a whole or not at all. config (on the heap) is taken over.
// Returns an exit code.
int agent_run(struct config *config, const char *path, const json_t *options);

#endif
