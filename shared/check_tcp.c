// SPDX-License-Identifier: Apache-2.0
// Passes when the three-way handshake is completed; the connection is then reset, so that the server's accept queue and
// our TIME_WAIT list stay short.
#include "shared/check.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct tcp_check {
	struct check base;
	uv_tcp_t socket;
	uv_timer_t timer;
	uv_connect_t connect;
	int open_handles;
	bool over;
};

static void on_closed(uv_handle_t *handle)
{
	struct tcp_check *check = handle->data;

	if (--check->open_handles == 0)
		free(check);
}

static void close_handles(struct tcp_check *check)
{
	check->over = true;
	uv_close((uv_handle_t *)&check->timer, on_closed);
	if (uv_tcp_close_reset(&check->socket, on_closed))
		uv_close((uv_handle_t *)&check->socket, on_closed);
}

static void finish(struct tcp_check *check, enum check_outcome outcome, const char *why)
{
	char reason[160];
	check_done_fn done = check->base.done;
	void *ctx = check->base.ctx;

	snprintf(reason, sizeof(reason), "%s: %s", check->base.what, why);
	close_handles(check);
	done(ctx, outcome, reason);
}

static void on_connected(uv_connect_t *request, int status)
{
	struct tcp_check *check = request->data;

	if (check->over)
		return;
	finish(check, check_outcome_of(status), status ? uv_strerror(status) : "connected");
}

static void on_timeout(uv_timer_t *timer)
{
	finish(timer->data, CHECK_TIMEOUT, "no answer in time");
}

static void tcp_cancel(struct check *base)
{
	close_handles(container_of(base, struct tcp_check, base));
}

static int tcp_start(
	const struct check_env *env, const struct check_spec *spec, const struct inet_endpoint *to, struct check **ret)
{
	struct sockaddr_storage sa;
	char text[INET_ENDPOINT_MAX];
	struct tcp_check *check = calloc(1, sizeof(*check));

	if (!check)
		return -ENOMEM;
	snprintf(check->base.what, sizeof(check->base.what), "connect to %s", inet_endpoint_format(to, text));
	inet_endpoint_to_sockaddr(to, &sa);
	uv_timer_init(env->loop, &check->timer);
	uv_tcp_init(env->loop, &check->socket);
	check->open_handles = 2;
	check->timer.data = check->socket.data = check->connect.data = check;
	// errors of connect(2) itself come through the callback, too (libuv delays them)
	int rc = uv_tcp_connect(&check->connect, &check->socket, (const struct sockaddr *)&sa, on_connected);
	if (rc) {
		check->over = true;
		uv_close((uv_handle_t *)&check->timer, on_closed);
		uv_close((uv_handle_t *)&check->socket, on_closed);
		return rc;
	}
	uv_timer_start(&check->timer, on_timeout, (uint64_t)spec->timeout_ms, 0);
	*ret = &check->base;
	return 0;
}

const struct check_type check_tcp = { "tcp", tcp_start, tcp_cancel };
