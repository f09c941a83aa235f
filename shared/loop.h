// SPDX-License-Identifier: Apache-2.0
// What libuv leaves to those who use it. Floor 1.
#ifndef BRASS_SHARED_LOOP_H
#define BRASS_SHARED_LOOP_H

#include "shared/clock.h"

#include <stdbool.h>
#include <uv.h>

// Runs the loop until every handle on it is closed. False: one still was not when the time was over (a program that
// nothing can end, say), and the loop is no more use.
bool loop_finish(uv_loop_t *loop, msec_t patience_ms);

// First in a callback of uv_poll on a netlink socket of events. Events that were lost are an error of the socket
// (ENOBUFS), and after an error libuv has stopped to poll (uv__poll_io in its src/unix/poll.c).
static inline void loop_poll_on(uv_poll_t *poll, int status, uv_poll_cb callback)
{
	if (status < 0)
		uv_poll_start(poll, UV_READABLE, callback);
}

#endif
