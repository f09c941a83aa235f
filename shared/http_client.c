// SPDX-License-Identifier: Apache-2.0
// libcurl says which descriptors it wants watched and when it wants to be woken (curl_multi_socket_action(3)); each
// descriptor gets one uv_poll_t, the time one uv_timer_t.
#include "shared/http_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#define LATE_MS 1               // see on_deadline
#define AUTHORITIES_S 60L       // that a file of them is kept once it was read
#define CONNECT_MS_MAX 86400000 // libcurl's own limit of 300 s is none of ours

struct http_client {
	uv_loop_t *loop;
	CURLM *multi;
	uv_timer_t timer;
	struct http_call *calls; // all running ones
	bool closing;
};

struct http_call {
	struct http_call *next, **link; // in client->calls
	uv_timer_t deadline;            // the call goes when it is closed
	msec_t timeout_ms;
	bool late;
	struct http_client *client;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	http_done_fn done;
	void *ctx;
	size_t answer_max;
	bool cut_answer, overflow, cut;
	char *body;
	size_t len, room;
	char error[CURL_ERROR_SIZE];
	struct sockpath path;
	int no_socket; // why there was none, as -errno
};

struct watch {
	uv_poll_t poll;
	struct http_client *client;
	curl_socket_t fd;
};

static void call_closed(uv_handle_t *handle)
{
	struct http_call *call = handle->data;

	free(call->body);
	free(call);
}

static void call_free(struct http_call *call)
{
	if (call->easy) {
		curl_multi_remove_handle(call->client->multi, call->easy);
		curl_easy_cleanup(call->easy);
	}
	curl_slist_free_all(call->headers);
	curl_slist_free_all(call->connect_to);
	if (call->link) {
		*call->link = call->next;
		if (call->next)
			call->next->link = call->link;
	}
	uv_close((uv_handle_t *)&call->deadline, call_closed);
}

static int error_of(CURLcode code, long os_error)
{
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return os_error ? -(int)os_error : -ECONNREFUSED;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_PEER_FAILED_VERIFICATION:
		return -EKEYREJECTED;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CLIENTCERT: // the other side wants one
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL: // HTTP/0.9
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
	case CURLE_PARTIAL_FILE:
		return -EPROTO;
	default:
		return -EIO;
	}
}

static void read_address(CURL *easy, CURLINFO what, struct inet_addr *ret)
{
	char *text = NULL;

	if (curl_easy_getinfo(easy, what, &text) == CURLE_OK && text && *text)
		inet_addr_parse(text, ret);
}

static msec_t read_date(CURL *easy)
{
	struct curl_header *header;

	if (curl_easy_header(easy, "Date", 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return 0;
	time_t date = curl_getdate(header->value, NULL);
	return date < 0 ? 0 : (msec_t)date * 1000;
}

static int read_version(CURL *easy)
{
	long version = 0;

	curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version);
	return version == CURL_HTTP_VERSION_1_0 || version == CURL_HTTP_VERSION_1_1 ? 1
		: version == CURL_HTTP_VERSION_2_0                                  ? 2
										    : 0;
}

// Of the first certificate, which is the other side's own.
static int64_t read_expiry(CURL *easy)
{
	static const char name[] = "Expire date:";
	struct curl_certinfo *chain = NULL;

	if (curl_easy_getinfo(easy, CURLINFO_CERTINFO, &chain) || !chain || chain->num_of_certs < 1)
		return 0;
	for (const struct curl_slist *item = chain->certinfo[0]; item; item = item->next)
		if (strncmp(item->data, name, sizeof(name) - 1) == 0) {
			time_t date = curl_getdate(item->data + sizeof(name) - 1, NULL);

			return date < 0 ? 0 : (int64_t)date;
		}
	return 0;
}

void http_answer_header(const struct http_answer *answer, const char *name, char *ret, size_t size)
{
	const struct http_call *call = answer->call;
	struct curl_header *header;

	ret[0] = '\0';
	// gRPC answers with an error have their trailers among the headers
	if (curl_easy_header(call->easy, name, 0, CURLH_TRAILER | CURLH_HEADER, -1, &header) == CURLHE_OK)
		snprintf(ret, size, "%s", header->value);
}

static void say_timeout(struct http_call *call, CURLcode *ret)
{
	curl_off_t connected_us = 0;

	curl_easy_getinfo(call->easy, CURLINFO_CONNECT_TIME_T, &connected_us);
	snprintf(call->error, sizeof(call->error), "%s timed out after %lld milliseconds",
		connected_us ? "connected, but the answer" : "connection", (long long)call->timeout_ms);
	*ret = CURLE_OPERATION_TIMEDOUT;
}

// timed_out: at the deadline, whatever libcurl says.
static void finish(struct http_call *call, CURLcode code, bool timed_out)
{
	struct http_answer answer = { .body = call->body ? call->body : "", .len = call->len, .call = call };
	long os_error = 0;

	if (call->cut)
		code = CURLE_OK;
	if (timed_out)
		say_timeout(call, &code);

	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &answer.status);
	curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &os_error);
	read_address(call->easy, CURLINFO_LOCAL_IP, &answer.local);
	read_address(call->easy, CURLINFO_PRIMARY_IP, &answer.peer);
	answer.date_ms = read_date(call->easy);
	answer.version = read_version(call->easy);
	answer.expires_s = read_expiry(call->easy);
	if (call->overflow) {
		answer.error = -EMSGSIZE;
		answer.text = "the answer is too large";
	} else if (call->no_socket) { // libcurl would call it a connection that failed
		answer.error = call->no_socket;
		answer.text = strerror(-call->no_socket);
	} else if (code != CURLE_OK) {
		answer.error = error_of(code, os_error);
		answer.text = *call->error ? call->error : curl_easy_strerror(code);
	}
	// out of the list first: the callback may start or cancel others, or free the client
	http_done_fn done = call->done;
	void *ctx = call->ctx;

	curl_multi_remove_handle(call->client->multi, call->easy);
	if (call->next)
		call->next->link = call->link;
	*call->link = call->next;
	call->link = NULL;
	done(ctx, &answer);
	curl_easy_cleanup(call->easy);
	call->easy = NULL;
	call_free(call);
}

static void collect(struct http_client *client)
{
	CURLMsg *message;
	int left;

	while (!client->closing && (message = curl_multi_info_read(client->multi, &left))) {
		struct http_call *call = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
		finish(call, message->data.result, false);
	}
}

// A loop that was held up sees its timers before its sockets: what came in meanwhile is looked at first. (libcurl's own
// limit of time would not wait for that.)
static void on_deadline(uv_timer_t *timer)
{
	struct http_call *call = timer->data;

	if (call->late) {
		finish(call, CURLE_OPERATION_TIMEDOUT, true);
		return;
	}
	call->late = true;
	uv_timer_start(timer, on_deadline, LATE_MS, 0);
}

static void on_timer(uv_timer_t *timer)
{
	struct http_client *client = timer->data;
	int running;

	curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(client);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	struct http_client *client = watch->client;
	int flags = 0, running;

	if (status < 0)
		flags = CURL_CSELECT_ERR;
	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	curl_multi_socket_action(client->multi, watch->fd, flags, &running);
	collect(client);
}

static int set_timer(CURLM *multi, long ms, void *ctx)
{
	struct http_client *client = ctx;

	(void)multi;
	if (ms < 0 || client->closing) {
		uv_timer_stop(&client->timer);
		return 0;
	}
	uv_timer_start(&client->timer, on_timer, (uint64_t)ms, 0);
	return 0;
}

static void watch_free(uv_handle_t *handle)
{
	free(handle->data);
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
	struct http_client *client = ctx;
	struct watch *watch = socket_ctx;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (watch) {
			curl_multi_assign(client->multi, fd, NULL);
			uv_poll_stop(&watch->poll);
			uv_close((uv_handle_t *)&watch->poll, watch_free);
		}
		return 0;
	}
	if (!watch) {
		watch = calloc(1, sizeof(*watch));
		if (!watch || uv_poll_init_socket(client->loop, &watch->poll, fd)) {
			free(watch);
			return -1;
		}
		watch->client = client;
		watch->fd = fd;
		watch->poll.data = watch;
		curl_multi_assign(client->multi, fd, watch);
	}
	int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);

	uv_poll_start(&watch->poll, events, on_poll);
	return 0;
}

static size_t take_body(char *data, size_t size, size_t n, void *ctx)
{
	struct http_call *call = ctx;
	size_t len = size * n, take = len;

	if (call->len + take > call->answer_max) {
		take = call->answer_max - call->len;
		call->overflow = !call->cut_answer;
		call->cut = call->cut_answer;
		if (call->overflow)
			return 0;
	}
	if (call->len + take + 1 > call->room) {
		size_t room = 2 * call->room > call->len + take + 1 ? 2 * call->room : call->len + take + 1;
		char *body = realloc(call->body, room);

		if (!body)
			return 0;
		call->body = body;
		call->room = room;
	}
	memcpy(call->body + call->len, data, take);
	call->len += take;
	call->body[call->len] = '\0';
	return take;
}

int http_client_new(uv_loop_t *loop, struct http_client **ret, struct err *err)
{
	struct http_client *client = calloc(1, sizeof(*client));

	if (!client || curl_global_init(CURL_GLOBAL_DEFAULT) || !(client->multi = curl_multi_init())) {
		free(client);
		return err_set(err, -ENOMEM, NULL, "cannot start the HTTP client");
	}
	client->loop = loop;
	uv_timer_init(loop, &client->timer);
	client->timer.data = client;
	curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
	curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
	curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
	*ret = client;
	return 0;
}

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *at)
{
	struct http_call *call = ctx;
	const int fd = socket(at->family, at->socktype | SOCK_CLOEXEC, at->protocol);

	(void)purpose;
	call->no_socket = fd < 0 ? -errno : 0;
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static int set_path(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
	const struct http_call *call = ctx;
	int family = AF_INET;
	socklen_t len = sizeof(family);

	(void)purpose;
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
	return sockpath_apply(&call->path, fd, family) ? CURL_SOCKOPT_ERROR : CURL_SOCKOPT_OK;
}

// One file, and no folder beside it: libcurl would trust what is in either, and it keeps what it has read (all of the
// system's authorities are 20 ms of CPU) only where there is no folder.
static void set_authorities(CURL *easy, const char *file)
{
	const curl_version_info_data *built = curl_version_info(CURLVERSION_NOW);

	if (*file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, file);
	if (*file || built->cainfo)
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, AUTHORITIES_S);
}

static void set_tls(CURL *easy, const struct http_tls *tls)
{
	curl_easy_setopt(easy, CURLOPT_CERTINFO, 1L);
	if (!tls->verify) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	set_authorities(easy, tls->ca);
	if (*tls->cert) {
		curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert);
		curl_easy_setopt(easy, CURLOPT_SSLKEY, *tls->key ? tls->key : tls->cert);
	}
}

// With a name in the URL it is asked for and verified, and the connection goes to the address all the same.
static int set_url(struct http_call *call, const struct http_request *request)
{
	const char *name = request->tls && *request->tls->name ? request->tls->name : NULL;
	char at[INET_ENDPOINT_MAX], to[INET_ENDPOINT_MAX + 4], url[1024];
	int n;

	if (request->url)
		return curl_easy_setopt(call->easy, CURLOPT_URL, request->url) == CURLE_OK ? 0 : -ENOMEM;
	inet_endpoint_format(&request->at, at);
	const char *slash = *request->path_and_query == '/' ? "" : "/";
	if (name)
		n = snprintf(
			url, sizeof(url), "https://%s:%u%s%s", name, request->at.port, slash, request->path_and_query);
	else
		n = snprintf(url, sizeof(url), "%s://%s%s%s", request->tls ? "https" : "http", at, slash,
			request->path_and_query);
	if (n < 0 || (size_t)n >= sizeof(url))
		return -ENAMETOOLONG;
	if (name) {
		snprintf(to, sizeof(to), "::%s", at);
		call->connect_to = curl_slist_append(NULL, to);
		curl_easy_setopt(call->easy, CURLOPT_CONNECT_TO, call->connect_to);
	}
	return curl_easy_setopt(call->easy, CURLOPT_URL, url) == CURLE_OK ? 0 : -ENOMEM;
}

static void set_body(CURL *easy, const struct http_request *request)
{
	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	if (request->body) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)request->body_len);
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body);
	}
}

static void set_options(struct http_call *call, const struct http_request *request)
{
	const msec_t connect_ms = request->connect_timeout_ms ? request->connect_timeout_ms : CONNECT_MS_MAX;
	const long two = request->tls ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
	CURL *easy = call->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	// or an end of the request would wait, and the loop with it, until name servers that are silent have been given
	// up
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "brass");
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, request->http2 ? two : (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
	set_body(easy, request);
	if (request->tls)
		set_tls(easy, request->tls);
	if (!sockpath_is_plain(&request->path)) {
		call->path = request->path;
		curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, set_path);
		curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, call);
	}
	if (request->fresh_connection || !sockpath_is_plain(&request->path)) {
		// addresses are remembered as well, and all that is remembered is looked through after each request
		curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
		curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	}
}

static void add_header(struct http_call *call, const char *name, const char *value)
{
	char line[300];

	snprintf(line, sizeof(line), "%s: %s", name, value);
	call->headers = curl_slist_append(call->headers, line);
}

// 0 or -ENOMEM.
static int set_headers(struct http_call *call, const struct http_request *request)
{
	if (request->body) {
		add_header(call, "Content-Type", request->content_type ? request->content_type : "application/json");
		call->headers = curl_slist_append(call->headers, "Expect:");
	}
	if (request->host_header)
		add_header(call, "Host", request->host_header);
	for (const char *line = request->headers; line && *line; line += strcspn(line, "\n") + 1) {
		_cleanup_free_ char *one = strndup(line, strcspn(line, "\n"));

		if (!one)
			return -ENOMEM;
		call->headers = curl_slist_append(call->headers, one);
	}
	return curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK ? 0 : -ENOMEM;
}

int http_client_start(struct http_client *client, const struct http_request *request, http_done_fn done, void *ctx,
	struct http_call **ret, struct err *err)
{
	struct http_call *call = calloc(1, sizeof(*call));

	if (!call)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	call->client = client;
	call->done = done;
	call->ctx = ctx;
	call->answer_max = request->answer_max;
	call->cut_answer = request->cut_answer;
	call->timeout_ms = request->timeout_ms;
	uv_timer_init(client->loop, &call->deadline);
	call->deadline.data = call;
	call->easy = curl_easy_init();
	int rc = call->easy ? set_url(call, request) : -ENOMEM;
	if (!rc) {
		set_options(call, request);
		rc = set_headers(call, request);
	}
	if (rc) {
		call_free(call);
		return err_set(err, rc, NULL, rc == -ENOMEM ? "out of memory" : "the URL is too long");
	}
	call->link = &client->calls;
	call->next = client->calls;
	if (call->next)
		call->next->link = &call->next;
	client->calls = call;
	CURLMcode code = curl_multi_add_handle(client->multi, call->easy);
	if (code != CURLM_OK) {
		call_free(call);
		return err_set(err, -EIO, NULL, "%s", curl_multi_strerror(code));
	}
	uv_timer_start(&call->deadline, on_deadline, (uint64_t)request->timeout_ms, 0);
	*ret = call;
	return 0;
}

void http_call_cancel(struct http_call *call)
{
	if (call)
		call_free(call);
}

static void client_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void http_client_free(struct http_client *client)
{
	if (!client)
		return;
	client->closing = true;
	while (client->calls)
		call_free(client->calls);
	curl_multi_cleanup(client->multi);
	uv_close((uv_handle_t *)&client->timer, client_closed);
	curl_global_cleanup();
}
