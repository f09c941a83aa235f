// SPDX-License-Identifier: Apache-2.0
// The end of an event loop. Floor 1.
#ifndef BRASS_SHARED_LOOP_H
#define BRASS_SHARED_LOOP_H

#include "shared/clock.h"

#include <stdbool.h>
#include <uv.h>

// Runs the loop until every handle on it is closed. False: one still was not when the time was over (a program that
// nothing can end, say), and the loop is no more use.
bool loop_finish(uv_loop_t *loop, msec_t patience_ms);

#endif
