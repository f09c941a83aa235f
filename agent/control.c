// SPDX-License-Identifier: Apache-2.0
#include "agent/control.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX (16u << 20)
#define ASK_TIMEOUT_S 5

struct control {
	uv_pipe_t pipe;
	json_t *(*status)(void *ctx);
	void *ctx;
	char path[108];
};

// One answered connection.
struct visitor {
	uv_pipe_t pipe;
	uv_write_t write;
	char *text;
};

static void visitor_closed(uv_handle_t *handle)
{
	struct visitor *visitor = handle->data;

	free(visitor->text);
	free(visitor);
}

static void visitor_end(struct visitor *visitor)
{
	if (!uv_is_closing((uv_handle_t *)&visitor->pipe))
		uv_close((uv_handle_t *)&visitor->pipe, visitor_closed);
}

static void on_written(uv_write_t *write, int status)
{
	(void)status;
	visitor_end(write->data);
}

static void on_visitor(uv_stream_t *server, int status)
{
	struct control *control = server->data;
	struct visitor *visitor = status < 0 ? NULL : calloc(1, sizeof(*visitor));

	if (!visitor)
		return;
	uv_pipe_init(server->loop, &visitor->pipe, 0);
	visitor->pipe.data = visitor->write.data = visitor;
	if (uv_accept(server, (uv_stream_t *)&visitor->pipe)) {
		visitor_end(visitor);
		return;
	}
	json_t *json = control->status(control->ctx);
	visitor->text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	json_decref(json);
	const uv_buf_t buf = uv_buf_init(visitor->text, visitor->text ? (unsigned int)strlen(visitor->text) : 0);
	if (!visitor->text || uv_write(&visitor->write, (uv_stream_t *)&visitor->pipe, &buf, 1, on_written))
		visitor_end(visitor);
}

static int connect_to(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const struct timeval limit = { .tv_sec = ASK_TIMEOUT_S };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa))) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static void control_closed(uv_handle_t *handle)
{
	free(handle->data);
}

int control_new(uv_loop_t *loop, const char *run_dir, json_t *(*status)(void *ctx), void *ctx, struct control **ret,
	struct err *err)
{
	struct control *control = calloc(1, sizeof(*control));

	if (!control)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	control->status = status;
	control->ctx = ctx;
	snprintf(control->path, sizeof(control->path), "%s/agent.sock", run_dir);
	int fd = connect_to(control->path);
	if (fd >= 0) {
		close(fd);
		err_set(err, -EADDRINUSE, NULL, "another brass-agent is running: it answers on %s", control->path);
		free(control);
		return -EADDRINUSE;
	}
	unlink(control->path); // left by one that was killed
	uv_pipe_init(loop, &control->pipe, 0);
	control->pipe.data = control;
	mode_t old = umask(0177);
	int rc = uv_pipe_bind(&control->pipe, control->path);
	umask(old);
	if (!rc)
		rc = uv_listen((uv_stream_t *)&control->pipe, 16, on_visitor);
	if (rc) {
		err_set(err, rc, NULL, "cannot listen on %s: %s", control->path, strerror(-rc));
		uv_close((uv_handle_t *)&control->pipe, control_closed);
		return rc;
	}
	*ret = control;
	return 0;
}

void control_free(struct control *control)
{
	if (!control)
		return;
	unlink(control->path);
	uv_close((uv_handle_t *)&control->pipe, control_closed);
}

int control_ask(const char *run_dir, json_t **ret, struct err *err)
{
	char path[108];
	size_t len = 0, room = 4096;
	_cleanup_free_ char *text = malloc(room);

	snprintf(path, sizeof(path), "%s/agent.sock", run_dir);
	_cleanup_close_ int fd = connect_to(path);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return err_set(err, fd, NULL, "no brass-agent is running here: nobody answers on %s", path);
	if (fd < 0)
		return err_set(err, fd, NULL, "cannot ask the agent on %s: %s", path, strerror(-fd));
	while (text && len < ANSWER_MAX) {
		ssize_t n = read(fd, text + len, room - len);

		if (n < 0)
			return err_set(err, -errno, NULL, "no answer on %s: %s", path, strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
		if (len == room) {
			char *more = realloc(text, 2 * room);

			if (!more)
				return err_set(err, -ENOMEM, NULL, "out of memory");
			text = more;
			room *= 2;
		}
	}
	json_t *json = text ? json_loadb(text, len, 0, NULL) : NULL;
	if (!json)
		return err_set(err, -EPROTO, NULL, "the agent's answer on %s makes no sense", path);
	*ret = json;
	return 0;
}

static const char *word(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static int number(const json_t *json, const char *key)
{
	return (int)json_integer_value(json_object_get(json, key));
}

static void print_service(const json_t *service)
{
	const char *device = word(service, "device"), *status = word(service, "status"), *vip = word(service, "vip");

	printf("  %-15s %-5s  %s%s%s%s%s", word(service, "service"), word(service, "state"), word(service, "method"),
		*vip ? ", " : "", vip, *device ? " on " : "", device);
	if (strcmp(status, "unknown") != 0)
		printf("; director: %s, weight %d, %d connections", status, number(service, "effective_weight"),
			number(service, "active"));
	if (*word(service, "reason"))
		printf("\n  %-15s        %s", "", word(service, "reason"));
	putchar('\n');
}

// A director and what it and this host make of each service.
static void print_director(const json_t *director, const json_t *services)
{
	const char *url = word(director, "url");
	size_t i;
	json_t *item;

	printf("director  %s: %s for %s", url, word(director, "state"), word(director, "since"));
	if (*word(director, "error"))
		printf("; %s; next attempt in %s", word(director, "error"), word(director, "retry_in"));
	putchar('\n');
	json_array_foreach ((json_t *)(uintptr_t)services, i, item)
		if (strcmp(word(item, "director"), url) == 0)
			print_service(item);
}

void control_print(const json_t *status)
{
	const json_t *services = json_object_get(status, "services"), *lockdown = json_object_get(status, "lockdown");
	size_t i;
	json_t *item;

	printf("node      %s, address %s, %s\n", word(status, "node"),
		*word(status, "address") ? word(status, "address") : "not known yet", word(status, "state"));
	json_array_foreach (json_object_get(status, "directors"), i, item)
		print_director(item, services);
	if (lockdown) {
		printf("lockdown  %s", word(lockdown, "state"));
		if (json_object_get(lockdown, "dropped"))
			printf("; %" JSON_INTEGER_FORMAT " packets dropped",
				json_integer_value(json_object_get(lockdown, "dropped")));
		putchar('\n');
	}
	json_array_foreach (json_object_get(status, "resources"), i, item)
		printf("set up    %s\n", json_string_value(item));
	json_array_foreach (json_object_get(status, "problems"), i, item)
		printf("problem   %s\n", json_string_value(item));
	printf("repairs   %d\n", number(status, "repairs"));
}
