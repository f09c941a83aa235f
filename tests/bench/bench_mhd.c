// SPDX-License-Identifier: Apache-2.0
// bench-mhd PORT BYTES: libmicrohttpd on a libuv loop as brass-director drives it (external epoll, one connection
// memory limit), and nothing above it: every request is answered by the same BYTES. What the API adds is the rest.
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static struct MHD_Daemon *mhd;
static struct MHD_Response *answer;
static uv_timer_t timeout;

static void on_readable(uv_poll_t *poll, int status, int events)
{
	(void)poll, (void)status, (void)events;
	MHD_run(mhd);
}

static void on_timeout(uv_timer_t *timer)
{
	(void)timer;
	MHD_run(mhd);
}

static void before_sleep(uv_prepare_t *prepare)
{
	MHD_UNSIGNED_LONG_LONG ms;

	(void)prepare;
	if (MHD_get_timeout(mhd, &ms) == MHD_YES)
		uv_timer_start(&timeout, on_timeout, ms, 0);
	else
		uv_timer_stop(&timeout);
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
	const char *version, const char *data, size_t *size, void **ctx)
{
	static char seen;

	(void)cls, (void)url, (void)method, (void)version, (void)data;
	if (!*ctx) { // the header
		*ctx = &seen;
		return MHD_YES;
	}
	if (*size) { // a piece of the body
		*size = 0;
		return MHD_YES;
	}
	return MHD_queue_response(connection, MHD_HTTP_OK, answer);
}

int main(int argc, char **argv)
{
	int port = argc == 3 ? atoi(argv[1]) : 0, bytes = argc == 3 ? atoi(argv[2]) : 0;
	struct sockaddr_in sa = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	uv_prepare_t prepare;
	uv_poll_t poll;

	if (port < 1 || port > 65535 || bytes < 1) {
		fprintf(stderr, "usage: bench-mhd PORT BYTES\n");
		return 2;
	}
	char *body = malloc((size_t)bytes);
	if (!body)
		return 1;
	memset(body, 'x', (size_t)bytes);
	answer = MHD_create_response_from_buffer((size_t)bytes, body, MHD_RESPMEM_MUST_FREE);
	MHD_add_response_header(answer, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_access, NULL,
		MHD_OPTION_SOCK_ADDR, &sa, MHD_OPTION_CONNECTION_LIMIT, 1000u, MHD_OPTION_CONNECTION_TIMEOUT, 75u,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384, MHD_OPTION_END);
	if (!mhd) {
		fprintf(stderr, "bench-mhd: cannot listen on port %d\n", port);
		return 1;
	}
	uv_loop_t *loop = uv_default_loop();
	uv_timer_init(loop, &timeout);
	uv_prepare_init(loop, &prepare);
	uv_prepare_start(&prepare, before_sleep);
	uv_poll_init(loop, &poll, MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
	uv_poll_start(&poll, UV_READABLE, on_readable);
	return uv_run(loop, UV_RUN_DEFAULT);
}
