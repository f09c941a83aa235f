// SPDX-License-Identifier: Apache-2.0
// libmicrohttpd shows one epoll descriptor; when it is readable MHD_run does what there is to do. A prepare handle arms
// MHD's own time-out before the loop sleeps. An answer to a held exchange resumes its connection, and MHD then calls
// the access handler once more, which finds the answer ready.
#include "director/http_internal.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

#define CONNECTION_MEMORY 16384 // bytes; bounds the header

void request_undefer(struct request *request)
{
	struct http_server *server = request->listener->server;

	if (!request->deferred)
		return;
	request->deferred = false;
	DL_DELETE(server->deferred, request);
	server->deferred_count--;
}

// All that was deferred is answered. MHD does not run meanwhile, so that every exchange is still there.
static void end_turn(struct http_server *server)
{
	size_t count = server->deferred_count, n = 0;
	_cleanup_free_ struct http_exchange **exchanges = calloc(count, sizeof(struct http_exchange *));
	struct http_exchange *one;

	if (!exchanges) { // one by one, then
		one = &server->deferred->exchange;
		request_undefer(server->deferred);
		server->options.end_of_turn(server->options.ctx, &one, 1);
		return;
	}
	while (server->deferred) {
		exchanges[n++] = &server->deferred->exchange;
		request_undefer(server->deferred);
	}
	server->options.end_of_turn(server->options.ctx, exchanges, n);
}

static void end_turns(struct http_server *server)
{
	while (server->deferred)
		end_turn(server);
}

void http_end_turn(struct http_exchange *exchange)
{
	end_turns(request_of(exchange)->listener->server);
}

static void run(struct listener *listener)
{
	struct http_server *server = listener->server;

	server->options.begin_turn(server->options.ctx);
	MHD_run(listener->mhd);
	if (!server->deferred)
		return;
	end_turns(server);
	// a deferred request stays ready: MHD asks for its answer in the next run
	MHD_run(listener->mhd);
	if (!server->deferred)
		return;
	// what came meanwhile is answered by the run after that, and timers and signals come first: where several
	// clients write without a pause, there is something new each time
	end_turns(server);
	server->resumed = true;
}

static void run_all(struct http_server *server)
{
	server->resumed = false;
	for (size_t i = 0; i < server->count; i++)
		run(&server->listeners[i]);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events;
	run(poll->data);
}

static void on_timeout(uv_timer_t *timer)
{
	run_all(timer->data);
}

static void before_sleep(uv_prepare_t *prepare)
{
	struct http_server *server = prepare->data;
	uint64_t soonest = server->resumed ? 0 : UINT64_MAX;

	for (size_t i = 0; i < server->count; i++) {
		MHD_UNSIGNED_LONG_LONG ms;

		if (MHD_get_timeout(server->listeners[i].mhd, &ms) == MHD_YES && ms < soonest)
			soonest = ms;
	}
	if (soonest == UINT64_MAX)
		uv_timer_stop(&server->timeout);
	else
		uv_timer_start(&server->timeout, on_timeout, soonest, 0);
}
// --- what handlers may ask for ---

void http_wake(struct http_exchange *exchange)
{
	struct request *request = request_of(exchange);
	struct http_server *server = request->listener->server;

	if (!request->suspended)
		return;
	request->suspended = false;
	MHD_resume_connection(request->connection);
	server->resumed = true; // before the loop sleeps the timer is set: set here it would be served without end
}

void http_defer(struct http_exchange *exchange,
	void (*finish)(void *ctx, struct http_exchange *exchange, int code, const struct err *err))
{
	struct request *request = request_of(exchange);
	struct http_server *server = request->listener->server;

	exchange->finish = finish;
	if (request->deferred)
		return;
	request->deferred = true;
	DL_APPEND(server->deferred, request);
	server->deferred_count++;
}

void http_hold(struct http_exchange *exchange, void (*on_gone)(void *hold_ctx), void *hold_ctx)
{
	struct request *request = request_of(exchange);

	exchange->on_gone = on_gone;
	exchange->hold_ctx = hold_ctx;
	request->held = true;
	request_undefer(request);
}

const char *http_query(const struct http_exchange *exchange, const char *name)
{
	const struct request *request = container_of(exchange, struct request, exchange);

	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_header(const struct http_exchange *exchange, const char *name)
{
	const struct request *request = container_of(exchange, struct request, exchange);

	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

static void answer_late(void *ctx, struct http_exchange *exchange, int code, const struct err *err)
{
	(void)code, (void)err;
	exchange->handler(ctx, exchange);
}

static void handle(struct request *request)
{
	const struct http_server_options *options = &request->listener->server->options;
	struct http_exchange *exchange = &request->exchange;
	struct err err = { 0 };

	exchange->body = request->body ? request->body : "";
	if (request->too_large) {
		err_set(&err, 0, NULL, "the body is larger than %zu bytes", request->body_max);
		http_answer_error(exchange, MHD_HTTP_CONTENT_TOO_LARGE, &err);
		return;
	}
	if (*exchange->method != 'P' && *exchange->method != 'D' && options->must_wait(options->ctx))
		http_defer(exchange, answer_late);
	else
		exchange->handler(options->ctx, exchange);
}

// --- libmicrohttpd's side ---

static void read_peer(struct request *request)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct inet_endpoint peer = { 0 };

	if (info && info->client_addr && inet_endpoint_from_sockaddr(info->client_addr, &peer) == 0)
		request->exchange.peer = peer.addr;
}

static enum MHD_Result take_body(struct request *request, const char *data, size_t *size)
{
	struct http_exchange *exchange = &request->exchange;
	size_t need = exchange->body_len + *size + 1;

	if (need > request->body_max + 1) {
		request->too_large = true; // read on and forget, so that the client can read our answer
		*size = 0;
		return MHD_YES;
	}
	if (need > request->room) {
		size_t room = need < 1024 ? 1024 : 2 * need;
		char *body = realloc(request->body, room);

		if (!body)
			return MHD_NO;
		request->body = body;
		request->room = room;
	}
	memcpy(request->body + exchange->body_len, data, *size);
	exchange->body_len += *size;
	request->body[exchange->body_len] = '\0';
	*size = 0;
	return MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
	const char *version, const char *data, size_t *size, void **ctx)
{
	struct listener *listener = cls;
	struct request *request = *ctx;

	(void)version;
	if (!request) {
		request = calloc(1, sizeof(*request));
		if (!request)
			return MHD_NO;
		request->listener = listener;
		request->connection = connection;
		*ctx = request;
		request->exchange.method = method;
		read_peer(request);
		request_route(request, url);
		return MHD_YES;
	}
	if (*size)
		return take_body(request, data, size);
	if (!request->status && !request->held && !request->deferred && !request->handled) {
		request->handled = true;
		handle(request);
	}
	if (request->status)
		return request_queue_answer(request);
	if (request->deferred)
		return MHD_YES; // asked again in the next run
	if (!request->held)
		return MHD_NO; // a handler without an answer: a bug; the connection is closed
	request->suspended = true;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

static int hex(char c)
{
	return c >= '0' && c <= '9'    ? c - '0'
		: c >= 'a' && c <= 'f' ? c - 'a' + 10
		: c >= 'A' && c <= 'F' ? c - 'A' + 10
				       : -1;
}

// Percent-decoding in place. A zero byte stays "%00": decoded it would cut the name and mean another object.
static size_t unescape(void *cls, struct MHD_Connection *connection, char *text)
{
	char *to = text;

	(void)cls, (void)connection;
	for (const char *from = text; *from; from++, to++) {
		int high = *from == '%' ? hex(from[1]) : -1, low = high >= 0 ? hex(from[2]) : -1;

		*to = *from;
		if (low < 0 || (high == 0 && low == 0))
			continue;
		*to = (char)(high << 4 | low);
		from += 2;
	}
	*to = '\0';
	return (size_t)(to - text);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **ctx, enum MHD_RequestTerminationCode why)
{
	struct request *request = *ctx;

	(void)cls, (void)connection, (void)why;
	if (!request)
		return;
	*ctx = NULL;
	request_undefer(request);
	request_free_stream(request->stream);
	if (request->held && !request->status && request->exchange.on_gone)
		request->exchange.on_gone(request->exchange.hold_ctx);
	free(request->exchange.data);
	free(request->body);
	free(request->answer);
	free((char *)(uintptr_t)request->allow);
	free(request);
}

static void on_mhd_log(void *cls, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
static void on_mhd_log(void *cls, const char *fmt, va_list args)
{
	char line[256];

	(void)cls;
	vsnprintf(line, sizeof(line), fmt, args);
	log_debug("http: %s", line);
}

static int listen_on(const struct inet_endpoint *endpoint, struct err *err)
{
	struct sockaddr_storage sa;
	char text[INET_ENDPOINT_MAX];
	socklen_t len = inet_endpoint_to_sockaddr(endpoint, &sa);
	int one = 1, fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (sa.ss_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&sa, len) == 0 && listen(fd, 1024) == 0)
			return fd;
	}
	int rc = -errno;

	if (fd >= 0)
		close(fd);
	return err_set(
		err, rc, "listen", "cannot listen on %s: %s", inet_endpoint_format(endpoint, text), strerror(-rc));
}

static int start_listener(struct http_server *server, const struct inet_endpoint *endpoint, struct err *err)
{
	struct listener *listener = &server->listeners[server->count];
	int fd = listen_on(endpoint, err);

	if (fd < 0)
		return fd;
	listener->server = server;
	listener->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
		on_access, listener, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
		MHD_OPTION_CONNECTION_LIMIT, HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_TIMEOUT_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
	if (!listener->mhd) {
		close(fd);
		return err_set(err, -EIO, "listen", "cannot start the HTTP server");
	}
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(listener->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	uv_poll_init(server->loop, &listener->readable, info->epoll_fd);
	listener->readable.data = listener;
	uv_poll_start(&listener->readable, UV_READABLE, on_readable);
	server->count++;
	return 0;
}

static void handle_closed(uv_handle_t *handle)
{
	struct http_server *server = handle->data;

	if (--server->open_handles)
		return;
	free(server->listeners);
	free(server);
}

static void poll_closed(uv_handle_t *handle)
{
	handle->data = ((struct listener *)handle->data)->server;
	handle_closed(handle);
}

void http_server_free(struct http_server *server)
{
	if (!server || server->closing)
		return;
	server->closing = true;
	uv_prepare_stop(&server->prepare);
	server->open_handles = 2 + server->count;
	for (size_t i = 0; i < server->count; i++) {
		uv_poll_stop(&server->listeners[i].readable);
		uv_close((uv_handle_t *)&server->listeners[i].readable, poll_closed);
		MHD_stop_daemon(server->listeners[i].mhd);
	}
	uv_close((uv_handle_t *)&server->timeout, handle_closed);
	uv_close((uv_handle_t *)&server->prepare, handle_closed);
}

int http_server_new(
	uv_loop_t *loop, const struct http_server_options *options, struct http_server **ret, struct err *err)
{
	struct http_server *server = calloc(1, sizeof(*server));

	if (!server || !(server->listeners = calloc(options->listen_count, sizeof(*server->listeners)))) {
		free(server);
		return err_set(err, -ENOMEM, NULL, "out of memory");
	}
	server->loop = loop;
	server->options = *options;
	uv_timer_init(loop, &server->timeout);
	uv_prepare_init(loop, &server->prepare);
	server->timeout.data = server->prepare.data = server;
	for (size_t i = 0; i < options->listen_count; i++) {
		int rc = start_listener(server, &options->listen[i], err);

		if (rc) {
			http_server_free(server);
			return rc;
		}
	}
	uv_prepare_start(&server->prepare, before_sleep);
	*ret = server;
	return 0;
}
