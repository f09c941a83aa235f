// SPDX-License-Identifier: Apache-2.0
// The agent's local socket, RUN_DIR/agent.sock: whoever connects is told the state as one JSON object. Floor 4.
#ifndef BRASS_AGENT_CONTROL_H
#define BRASS_AGENT_CONTROL_H

#include "shared/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

struct control;

// status makes the answer (new reference). The socket is mode 0600. -EADDRINUSE: another agent is running.
int control_new(uv_loop_t *loop, const char *run_dir, json_t *(*status)(void *ctx), void *ctx, struct control **ret,
	struct err *err);
// Removes the socket; the memory goes when the loop has run once more.
void control_free(struct control *control);

// The other side, for `brass-agent status`: connects and reads. Returns 0 or -errno.
int control_ask(const char *run_dir, json_t **ret, struct err *err);
#endif
