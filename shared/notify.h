// SPDX-License-Identifier: Apache-2.0
// What the service manager is told of this process: the protocol of sd_notify(3), and its watchdog. Floor 1.
//
// Datagrams to the socket in NOTIFY_SOCKET (a path, or an abstract name behind "@"). Without that variable every call
// does nothing. Both variables are taken out of the environment: programs that we start are not to speak for us. The
// watchdog is fed by a timer of the loop, every half of WATCHDOG_USEC: a loop that hangs is found out.
#ifndef BRASS_SHARED_NOTIFY_H
#define BRASS_SHARED_NOTIFY_H

#include "shared/clock.h"
#include "shared/err.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#define NOTIFY_STATUS_MAX 256

struct notify {
	int fd; // -1: nobody is to be told
	struct sockaddr_un address;
	socklen_t len;
	uv_timer_t watchdog;
	char status[NOTIFY_STATUS_MAX]; // the last one that was sent
};

// Always leaves a usable object, which notify_close ends. -errno with a sentence: there is a socket to speak to, and it
// cannot be; the daemon can go on without.
int notify_open(struct notify *notify, uv_loop_t *loop, struct err *err);
void notify_close(struct notify *notify); // the timer closes with the loop

// The service has started; also: what notify_reloading began is over.
void notify_ready(struct notify *notify);
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify);
// One line of what it does now, for `systemctl status`. Sent only when it is another one.
void notify_status(struct notify *notify, const char *status);
// Starting, or stopping, takes longer than the unit says: the next word comes within time_ms.
void notify_extend(const struct notify *notify, msec_t time_ms);

#endif
