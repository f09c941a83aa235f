// SPDX-License-Identifier: Apache-2.0
// Passes when the three-way handshake is completed; the connection is then reset, so that the server's accept queue and
// our TIME_WAIT list stay short. With a full size it passes when the server's kernel has acknowledged full segments of
// empty lines.
#include "shared/check.h"

#include "shared/util.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LOOK_MS 20 // between two looks at what is acknowledged

struct tcp_check {
	struct check base;
	uv_tcp_t socket;
	uv_timer_t timer, look;
	uv_connect_t connect;
	uv_write_t write;
	size_t full_len; // bytes to be acknowledged, 0: none
	char *full;
	int open_handles;
	bool over, explain;
};

static void on_closed(uv_handle_t *handle)
{
	struct tcp_check *check = handle->data;

	if (--check->open_handles)
		return;
	free(check->full);
	free(check);
}

static void close_handles(struct tcp_check *check)
{
	check->over = true;
	uv_close((uv_handle_t *)&check->timer, on_closed);
	if (check->full_len)
		uv_close((uv_handle_t *)&check->look, on_closed);
	if (uv_tcp_close_reset(&check->socket, on_closed))
		uv_close((uv_handle_t *)&check->socket, on_closed);
}

static void finish(struct tcp_check *check, enum check_outcome outcome, const char *why)
{
	char reason[sizeof(check->base.what) + 80];
	check_done_fn done = check->base.done;
	void *ctx = check->base.ctx;

	snprintf(reason, sizeof(reason), "%s: %s", check->base.what, why);
	close_handles(check);
	done(ctx, outcome, reason);
}

static int descriptor(const struct tcp_check *check)
{
	uv_os_fd_t fd = -1;

	uv_fileno((const uv_handle_t *)&check->socket, &fd);
	return fd;
}

// --- full segments ---

static void on_written(uv_write_t *request, int status)
{
	(void)request, (void)status; // what became of it is seen by on_look
}

static void on_look(uv_timer_t *timer)
{
	struct tcp_check *check = timer->data;
	const int fd = descriptor(check);
	int left = -1, error = 0;
	socklen_t len = sizeof(error);

	if (check->over)
		return;
	// a program that closes the connection upon what it got has got it
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && (error == ECONNRESET || error == EPIPE))
		finish(check, CHECK_PASS, "full segments arrived");
	else if (ioctl(fd, SIOCOUTQ, &left) == 0 && left == 0)
		finish(check, CHECK_PASS, "full segments arrived");
}

static void send_full(struct tcp_check *check)
{
	const uv_buf_t buf = { .base = check->full, .len = check->full_len };
	int rc = uv_write(&check->write, (uv_stream_t *)&check->socket, &buf, 1, on_written);

	if (rc)
		finish(check, check_outcome_of(rc), uv_strerror(rc));
	else
		uv_timer_start(&check->look, on_look, 1, LOOK_MS);
}

// --- connecting ---

static void fail(struct tcp_check *check, int status)
{
	static const struct {
		enum check_outcome outcome;
		const char *why;
	} icmp[] = {
		[SOCKPATH_ICMP_PORT] = { CHECK_NO_PORT, "rejected (ICMP port unreachable)" },
		[SOCKPATH_ICMP_PROTOCOL] = { CHECK_NO_PROTOCOL, "rejected (ICMP protocol unreachable)" },
		[SOCKPATH_ICMP_PROHIBITED] = { CHECK_PROHIBITED, "rejected (ICMP: prohibited by a filter)" },
	};
	const enum sockpath_icmp said = check->explain ? sockpath_icmp(descriptor(check)) : SOCKPATH_ICMP_NONE;

	if (said == SOCKPATH_ICMP_NONE || said == SOCKPATH_ICMP_OTHER)
		finish(check, check_outcome_of(status), uv_strerror(status));
	else
		finish(check, icmp[said].outcome, icmp[said].why);
}

static void on_connected(uv_connect_t *request, int status)
{
	struct tcp_check *check = request->data;

	if (check->over)
		return;
	if (status)
		fail(check, status);
	else if (check->full_len)
		send_full(check);
	else
		finish(check, CHECK_PASS, "connected");
}

static void on_timeout(uv_timer_t *timer)
{
	struct tcp_check *check = timer->data;
	char why[80] = "no answer in time";

	if (check->full_len && uv_is_active((uv_handle_t *)&check->look))
		snprintf(why, sizeof(why), "connected, but full segments do not arrive");
	finish(check, CHECK_TIMEOUT, why);
}

static void tcp_cancel(struct check *base)
{
	close_handles(container_of(base, struct tcp_check, base));
}

// --- starting ---

// Two segments, so that the first is full.
static int make_full(struct tcp_check *check, const struct sockpath *path)
{
	if (!path->segment)
		return 0;
	check->full_len = 2 * (size_t)path->segment;
	check->full = malloc(check->full_len);
	if (!check->full)
		return -ENOMEM;
	for (size_t i = 0; i < check->full_len; i++)
		check->full[i] = i % 2 ? '\n' : '\r';
	return 0;
}

static int tcp_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	const struct sockpath path = check_path(target);
	const int family = target->to.addr.family;
	struct sockaddr_storage sa;
	char text[CHECK_TARGET_MAX];
	struct tcp_check *check = calloc(1, sizeof(*check));
	int rc = check ? make_full(check, &path) : -ENOMEM;

	if (!rc)
		rc = uv_tcp_init_ex(env->loop, &check->socket, (unsigned int)family);
	if (rc) {
		free(check);
		return rc;
	}
	snprintf(check->base.what, sizeof(check->base.what), "connect to %s", check_target_format(target, text));
	check->explain = path.explain;
	uv_timer_init(env->loop, &check->timer);
	if (check->full_len)
		uv_timer_init(env->loop, &check->look);
	check->open_handles = check->full_len ? 3 : 2;
	check->timer.data = check->look.data = check->socket.data = check->connect.data = check;
	inet_endpoint_to_sockaddr(&target->to, &sa);
	rc = sockpath_apply(&path, descriptor(check), family);
	// errors of connect(2) itself come through the callback, too (libuv delays them)
	if (!rc)
		rc = uv_tcp_connect(&check->connect, &check->socket, (const struct sockaddr *)&sa, on_connected);
	if (rc) {
		close_handles(check);
		return rc;
	}
	uv_timer_start(&check->timer, on_timeout, (uint64_t)spec->timeout_ms, 0);
	*ret = &check->base;
	return 0;
}

const struct check_type check_tcp = { "tcp", tcp_start, tcp_cancel };
