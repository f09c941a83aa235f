// SPDX-License-Identifier: Apache-2.0
#include "director/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// 0, -ENAMETOOLONG, or -ENOENT.
static int cut_path(struct request *request, const char *url)
{
	struct http_exchange *exchange = &request->exchange;
	size_t len = strlen(url);

	if (len >= sizeof(request->path))
		return -ENAMETOOLONG;
	memcpy(request->path, url, len + 1);
	memcpy(request->pieces, url, len + 1);
	exchange->path = request->path;
	char *rest = request->pieces, *piece;
	while ((piece = strsep(&rest, "/"))) {
		if (!*piece)
			continue;
		if (exchange->segment_count == HTTP_SEGMENTS_MAX)
			return -ENOENT;
		exchange->segments[exchange->segment_count++] = piece;
	}
	return 0;
}

static bool matches(const struct http_exchange *exchange, const char *pattern)
{
	for (size_t i = 0; i < exchange->segment_count; i++) {
		if (*pattern++ != '/') // it ends before the path does
			return false;
		size_t len = strcspn(pattern, "/");

		if (*pattern != '*' &&
			(strncmp(pattern, exchange->segments[i], len) != 0 || exchange->segments[i][len]))
			return false;
		pattern += len;
	}
	return !*pattern;
}

static void add_allowed(char *allow, size_t size, const char *method)
{
	size_t n = strlen(allow);

	snprintf(allow + n, size - n, "%s%s", n ? ", " : "", method);
}

static void wrong_method(struct request *request, const char *allow)
{
	struct err err = { 0 };

	err_set(&err, 0, NULL, "method %.16s is not allowed here, allowed are %s", request->exchange.method, allow);
	http_answer_error(&request->exchange, MHD_HTTP_METHOD_NOT_ALLOWED, &err);
	// the header wants a text that lives as long as the response is being made
	request->allow = strdup(allow);
}

static void find_handler(struct request *request)
{
	const struct http_server_options *options = &request->listener->server->options;
	struct http_exchange *exchange = &request->exchange;
	char allow[64] = "";

	request->body_max = options->body_max;
	for (size_t i = 0; i < options->route_count; i++) {
		const struct http_route *r = &options->routes[i];

		if (!matches(exchange, r->pattern))
			continue;
		if (strcmp(r->method, exchange->method) == 0 ||
			(strcmp(exchange->method, "HEAD") == 0 && strcmp(r->method, "GET") == 0)) {
			exchange->handler = r->handler;
			if (r->large)
				request->body_max = options->large_body_max;
			return;
		}
		add_allowed(allow, sizeof(allow), r->method);
	}
	if (*allow)
		wrong_method(request, allow);
	else
		request_answer_text(request, MHD_HTTP_NOT_FOUND,
			"there is nothing at this path; see GET /service, /agent, /status");
}

void request_route(struct request *request, const char *url)
{
	int rc = cut_path(request, url);

	if (rc == -ENAMETOOLONG)
		request_answer_text(request, MHD_HTTP_URI_TOO_LONG, "the path is too long");
	else if (rc)
		request_answer_text(request, MHD_HTTP_NOT_FOUND, "there is nothing at this path");
	else
		find_handler(request);
}
