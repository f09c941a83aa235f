// SPDX-License-Identifier: Apache-2.0
// The agent in one line, for `systemctl status`. Floor 5.
//
//   3 services up, 1 down: web: no program listens on tcp 10.0.0.100:80; 2 of 2 directors
#ifndef BRASS_AGENT_SUMMARY_H
#define BRASS_AGENT_SUMMARY_H

#include "agent/services.h"

#include <stddef.h>

#define SUMMARY_MAX 256

// note: what else is to be known ("reload refused: ..."), comes first; "" when there is nothing. Returns buf.
const char *summary(const struct services *services, const char *note, char buf[SUMMARY_MAX]);

#endif
