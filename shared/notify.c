// SPDX-License-Identifier: Apache-2.0
// A status line or a sign of life that does not fit into the manager's queue is not waited for; a change of state is,
// for a second at most.
#include "shared/notify.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static bool send_text(const struct notify *notify, const char *text, int flags)
{
	if (notify->fd < 0)
		return false;
	if (sendto(notify->fd, text, strlen(text), flags | MSG_NOSIGNAL, (const struct sockaddr *)&notify->address,
		    notify->len) >= 0)
		return true;
	log_debug("cannot tell the service manager \"%.40s\": %s", text, strerror(errno));
	return false;
}

static void send_state(const struct notify *notify, const char *text)
{
	if (notify->fd >= 0 && !send_text(notify, text, 0))
		log_error("cannot tell the service manager \"%.40s\": %s", text, strerror(errno));
}

static void on_watchdog(uv_timer_t *timer)
{
	send_text(timer->data, "WATCHDOG=1", MSG_DONTWAIT);
}

static unsigned long long number_of(const char *name)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : 0;
}

// The time within which a sign of life is wanted from this process, 0: none is.
static uint64_t watchdog_us(void)
{
	const unsigned long long pid = number_of("WATCHDOG_PID");

	return getenv("WATCHDOG_PID") && pid != (unsigned long long)getpid() ? 0 : number_of("WATCHDOG_USEC");
}

static int set_address(struct notify *notify, const char *name, struct err *err)
{
	const size_t len = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || !name[1] || len >= sizeof(notify->address.sun_path))
		return err_set(err, -EINVAL, NULL,
			"NOTIFY_SOCKET: found \"%.120s\", allowed is an absolute path, or a name behind @, of up to "
			"%zu bytes",
			name, sizeof(notify->address.sun_path) - 1);
	notify->address.sun_family = AF_UNIX;
	memcpy(notify->address.sun_path, name, len);
	if (name[0] == '@')
		notify->address.sun_path[0] = '\0';
	// the name of an abstract socket has no end but the length
	notify->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
	return 0;
}

int notify_open(struct notify *notify, uv_loop_t *loop, struct err *err)
{
	static const char *const taken[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" };
	const struct timeval limit = { .tv_sec = 1 };
	const char *name = getenv("NOTIFY_SOCKET");
	const uint64_t watchdog_ms = watchdog_us() / 1000;
	int rc = 0;

	*notify = (struct notify) { .fd = -1 };
	uv_timer_init(loop, &notify->watchdog);
	notify->watchdog.data = notify;
	if (name)
		rc = set_address(notify, name, err);
	if (name && !rc) {
		notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (notify->fd < 0)
			rc = err_set(err, -errno, NULL, "NOTIFY_SOCKET: no socket: %s", strerror(errno));
	}
	if (notify->fd >= 0) {
		setsockopt(notify->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		if (watchdog_ms > 1)
			uv_timer_start(&notify->watchdog, on_watchdog, watchdog_ms / 2, watchdog_ms / 2);
	}
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
		unsetenv(taken[i]);
	return rc;
}

void notify_close(struct notify *notify)
{
	uv_close((uv_handle_t *)&notify->watchdog, NULL);
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

void notify_ready(struct notify *notify)
{
	send_state(notify, "READY=1");
}

void notify_reloading(struct notify *notify)
{
	struct timespec now;
	char text[64];

	// Type=notify-reload tells by it the reload that it asked for from one before it: to the microsecond
	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
		(long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	send_state(notify, text);
}

void notify_stopping(struct notify *notify)
{
	send_state(notify, "STOPPING=1");
}

void notify_status(struct notify *notify, const char *status)
{
	char text[NOTIFY_STATUS_MAX + 8];

	if (strncmp(status, notify->status, sizeof(notify->status) - 1) == 0)
		return;
	snprintf(text, sizeof(text), "STATUS=%.*s", NOTIFY_STATUS_MAX - 1, status);
	// a second line would be another message, and what is not UTF-8 (a character that was cut, say) is not taken
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = *c == '\n' ? ' ' : '?';
	if (send_text(notify, text, MSG_DONTWAIT))
		snprintf(notify->status, sizeof(notify->status), "%s", status);
}

void notify_extend(const struct notify *notify, msec_t time_ms)
{
	char text[64];

	snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%lld", (long long)time_ms * 1000);
	send_text(notify, text, MSG_DONTWAIT);
}
