// SPDX-License-Identifier: Apache-2.0
// What the directors said last, in RUN_DIR/state.json, so that a start while they are away sets the host up as last
// known. Floor 4.
#ifndef BRASS_AGENT_REMEMBER_H
#define BRASS_AGENT_REMEMBER_H

#include "agent/client.h"

#include <stddef.h>

// Failing to write is logged; it costs nothing now.
void remember_save(const char *run_dir, const struct inet_addr *address, const struct client_list *clients);
// Fills in answers (not fresh) and, when *address is not set, the address. Without a readable file nothing happens.
void remember_load(const char *run_dir, struct inet_addr *address, const struct client_list *clients);
void remember_forget(const char *run_dir);

#endif
