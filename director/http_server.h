// SPDX-License-Identifier: Apache-2.0
// The REST server: libmicrohttpd in external-epoll mode on the event loop, a route table above it. Floor 4.
//
// A handler gets the whole request (body bounded) and answers it with http_answer, at once or later: one that is held
// (http_hold) stays suspended, without using the loop, until http_answer or until the client goes, which on_gone tells.
// One that is deferred (http_defer) is answered at the end of this turn of the loop, together with all others that came
// in it. Large answers are streamed (http_answer_stream), piece by piece between other requests.
#ifndef BRASS_DIRECTOR_HTTP_SERVER_H
#define BRASS_DIRECTOR_HTTP_SERVER_H

#include "shared/clock.h"
#include "shared/err.h"
#include "shared/inet.h"
#include "shared/out.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define HTTP_SEGMENTS_MAX 4
#define HTTP_PIECE (4u << 10) // bytes of a streamed answer at a time, about
#define HTTP_CONNECTIONS_MAX 20000u
#define HTTP_IDLE_TIMEOUT_S 75u

struct http_server;
struct http_exchange;
typedef void (*http_handler)(void *ctx, struct http_exchange *exchange);

struct http_exchange {
	const char *method;
	const char *path; // decoded
	// path cut at its slashes, decoded: "service", "web", "web-1"
	const char *segments[HTTP_SEGMENTS_MAX];
	size_t segment_count;
	const char *body; // zero-terminated
	size_t body_len;
	struct inet_addr peer;
	// of a held exchange: set by the handler
	void *hold_ctx;
	void (*on_gone)(void *hold_ctx); // the client went away, or the server closes
	http_handler handler;            // of its route
	// of a deferred exchange: answers it, as the turn ended (code and err are the turn's)
	void (*finish)(void *ctx, struct http_exchange *exchange, int code, const struct err *err);
	void *data; // the handler's, for its finish; freed with free(3)
};

// Routes: method and pattern ("/service/*/*", a star is one segment). First match wins; a path that matches with
// another method only is answered 405 with Allow.
struct http_route {
	const char *method, *pattern;
	http_handler handler;
	bool large; // its body may have large_body_max bytes
};

struct http_server_options {
	const struct inet_endpoint *listen;
	size_t listen_count;
	size_t body_max, large_body_max; // bytes
	const struct http_route *routes;
	size_t route_count;
	void *ctx; // for handlers
	// before requests are looked at
	void (*begin_turn)(void *ctx);
	// may a GET be answered now, or must it wait for the end of the turn, since there are changes that may yet be
	// taken back?
	bool (*must_wait)(void *ctx);
	// the end of a turn in which exchanges were deferred: it answers all of them
	void (*end_of_turn)(void *ctx, struct http_exchange *const *deferred, size_t count);
};

// Starts to listen. -EADDRINUSE, -EACCES, -EADDRNOTAVAIL with a sentence.
int http_server_new(
	uv_loop_t *loop, const struct http_server_options *options, struct http_server **ret, struct err *err);
// Closes connections and handles; the memory goes when the loop has run once more.
void http_server_free(struct http_server *server);

// The value of ?name=, NULL when absent; valid as long as the exchange.
const char *http_query(const struct http_exchange *exchange, const char *name);

// The value of a header, NULL when absent; valid as long as the exchange.
const char *http_header(const struct http_exchange *exchange, const char *name);

// Answers. json may be NULL (empty body); its reference is taken over.
void http_answer(struct http_exchange *exchange, unsigned int status, json_t *json);
// A JSON value as it stands in out, which is left empty.
void http_answer_out(struct http_exchange *exchange, unsigned int status, struct out *out);
// The same with another kind of content; text (malloc'ed) is taken over.
void http_answer_text(
	struct http_exchange *exchange, unsigned int status, const char *content_type, char *text, size_t len);
// {"error": ..., "field": ...}
void http_answer_error(struct http_exchange *exchange, unsigned int status, const struct err *err);

// Answers 200 with a body that is made while it is sent: next appends the next piece (HTTP_PIECE or more) and returns
// whether there is more; free is called once, at the end or when the client goes. A live stream may have nothing to say
// for now: then it rests, without using the loop, until http_wake.
struct http_stream {
	const char *content_type;
	bool (*next)(void *stream_ctx, struct out *out);
	void (*free)(void *stream_ctx);
	void *ctx;
	bool live;
};
void http_answer_stream(struct http_exchange *exchange, const struct http_stream *stream);
// Asks a live stream again; until its free is called.
void http_wake(struct http_exchange *exchange);

// The answer waits for the end of the turn.
void http_defer(struct http_exchange *exchange,
	void (*finish)(void *ctx, struct http_exchange *exchange, int code, const struct err *err));

// Ends the turn now: all that was deferred before this exchange is answered.
void http_end_turn(struct http_exchange *exchange);

// Suspends: the handler may return without an answer.
void http_hold(struct http_exchange *exchange, void (*on_gone)(void *hold_ctx), void *hold_ctx);

#endif
