// SPDX-License-Identifier: Apache-2.0
// HTTP requests on the event loop: libcurl's multi interface driven by libuv. Floor 1.
//
// Any number of requests at once; nothing blocks (DNS runs in libcurl's own threaded resolver). The answer is valid
// only during the callback. A cancelled request's callback is never called.
#ifndef BRASS_SHARED_HTTP_CLIENT_H
#define BRASS_SHARED_HTTP_CLIENT_H

#include "shared/clock.h"
#include "shared/err.h"
#include "shared/inet.h"
#include "shared/sockpath.h"
#include "shared/util.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct http_client;
struct http_call;

// Files are PEM; "": the system's authorities, no certificate, the key beside the certificate.
struct http_tls {
	bool verify;
	const char *name; // asked for and verified; "": the address
	const char *ca, *cert, *key;
};

struct http_request {
	const char *method; // "GET", "PUT", ...
	const char *url;    // NULL: of the next two, and of tls
	struct inet_endpoint at;
	const char *path_and_query;
	const char *body; // NULL: none
	size_t body_len;
	const char *content_type;   // NULL: JSON
	const char *host_header;    // NULL: from the URL
	const char *headers;        // more of them, each "Name: value" with a newline behind it; NULL: none
	msec_t connect_timeout_ms;  // 0: timeout_ms alone
	msec_t timeout_ms;          // for the whole exchange
	size_t answer_max;          // bytes of body kept; more is an error unless cut_answer
	bool cut_answer;            // a longer body is cut, and the rest is not waited for
	bool http2;                 // http: from the first byte; https: if the other side agrees
	const struct http_tls *tls; // NULL: as libcurl has it
	bool fresh_connection;      // neither reuse a connection nor keep it (health checks)
	struct sockpath path;       // of its socket, which is then a fresh one; the address in the URL must be numeric
};

struct http_answer {
	// 0, or -errno: -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH, -EMSGSIZE; -EPROTO: what came is not what should;
	// -EKEYREJECTED: the certificate; -EIO
	int error;
	const char *text; // sentence for the error
	long status;      // 0 without an answer
	int version;      // of HTTP: 1 (1.0 and 1.1), 2; 0: another
	const char *body; // zero-terminated
	size_t len;
	struct inet_addr local, peer; // of the connection; not set when there was none
	msec_t date_ms;               // the other side's clock (its Date, in whole seconds since 1970); 0: not told
	int64_t expires_s;            // of the other side's certificate, seconds since 1970; 0: not told (see tls)
	void *call;                   // for http_answer_header
};

// A header of the answer, or a trailer; ret is "" when there is none.
void http_answer_header(const struct http_answer *answer, const char *name, char *ret, size_t size);

typedef void (*http_done_fn)(void *ctx, const struct http_answer *answer);

int http_client_new(uv_loop_t *loop, struct http_client **ret, struct err *err);

// Starts a request; the strings are copied. Returns 0 or -errno.
int http_client_start(struct http_client *client, const struct http_request *request, http_done_fn done, void *ctx,
	struct http_call **ret, struct err *err);

// Ends a request without its callback. NULL is allowed. Not from inside its own callback.
void http_call_cancel(struct http_call *call);

// Cancels everything and closes its handles on the loop; the memory goes when the loop has run once more.
void http_client_free(struct http_client *client);

#endif
