// SPDX-License-Identifier: Apache-2.0
// One request inside of the HTTP server, for http_server.c (libmicrohttpd, turns), http_route.c and http_answer.c.
// Floor 4.
#ifndef BRASS_DIRECTOR_HTTP_INTERNAL_H
#define BRASS_DIRECTOR_HTTP_INTERNAL_H

#include "director/http_server.h"

#include <microhttpd.h>

struct listener {
	struct http_server *server;
	struct MHD_Daemon *mhd;
	uv_poll_t readable;
};

struct http_server {
	uv_loop_t *loop;
	struct http_server_options options;
	struct listener *listeners;
	size_t count;
	uv_timer_t timeout;
	// MHD looks at resumed connections, and at answers of a turn, in its next run, for which nothing need be
	// readable; MHD_get_timeout does not know of them
	bool resumed;
	uv_prepare_t prepare;
	size_t open_handles;
	bool closing;
	struct request *deferred; // a list, in order of arrival
	size_t deferred_count;
};

struct stream {
	struct http_stream stream;
	struct request *request;
	struct out out;
	size_t taken; // bytes of out that are sent
	bool over;
};

// One request, from its first line to its last byte.
struct request {
	struct http_exchange exchange; // first: the handler's view
	struct listener *listener;
	struct MHD_Connection *connection;
	char *body;
	size_t room;
	char path[1024];   // decoded, for exchange.path
	char pieces[1024]; // the same, cut into segments
	size_t body_max;
	bool too_large, handled, held, suspended;
	bool deferred;
	struct request *prev, *next; // in server->deferred
	unsigned int status;         // 0: no answer yet
	struct stream *stream;       // the answer, when it is one
	char *answer;
	size_t answer_len;
	const char *content_type; // lives for ever
	const char *allow;
};

static inline struct request *request_of(struct http_exchange *exchange)
{
	return (struct request *)(void *)exchange; // its first member
}

// Cuts the path and finds the handler; without one the answer is there at once. -- http_route.c
void request_route(struct request *request, const char *url);
// {"error": text} -- http_answer.c
void request_answer_text(struct request *request, unsigned int status, const char *text);
// It does not wait for the end of the turn any more. -- http_server.c
void request_undefer(struct request *request);
void request_free_stream(void *stream); // NULL is allowed
// Gives the answer to libmicrohttpd.
enum MHD_Result request_queue_answer(struct request *request);

#endif
