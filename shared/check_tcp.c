// SPDX-License-Identifier: Apache-2.0
// Passes when the three-way handshake is completed; the connection is then reset, so that the server's accept queue and
// our TIME_WAIT list stay short. With a full size it passes when the server's kernel has acknowledged full segments of
// empty lines; with `answer`, when that is among the first bytes of the answer. HTTP of which the status alone counts
// is talk, too: libcurl takes three times the system calls for it.
#include "shared/check.h"

#include "shared/check_text.h"
#include "shared/util.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LOOK_MS 20       // between two looks at what is acknowledged
#define ANSWER_KEPT 4096 // bytes that are looked at
#define LATE_MS 1        // see on_timeout

// What is said once the connection is there; most checks say nothing.
struct talk {
	// The outcome of what has come, with words; -EAGAIN: more must come. when: there is no more, and why ("in
	// time"); NULL: there may be
	int (*judge)(const struct talk *talk, const char *when, char *why, size_t size);
	bool full;   // what is sent is for its size, and nothing is read
	bool closed; // by the other side
	size_t send_len, wanted_len, len;
	char *request;               // owned
	char wanted[CHECK_TEXT_MAX]; // text: bytes; HTTP: statuses
	char answer[ANSWER_KEPT];
};

static void talk_free(struct talk *talk)
{
	if (talk)
		free(talk->request);
	free(talk);
}

struct tcp_check {
	struct check base;
	uv_tcp_t socket;
	uv_timer_t timer;
	uv_connect_t connect;
	uv_write_t write;
	uv_timer_t look;   // open while there is talk
	struct talk *talk; // NULL: nothing is said
	int open_handles;
	bool over, explain, connected, late;
};

static void on_closed(uv_handle_t *handle)
{
	struct tcp_check *check = handle->data;

	if (--check->open_handles)
		return;
	talk_free(check->talk);
	free(check);
}

static void close_handles(struct tcp_check *check)
{
	check->over = true;
	uv_close((uv_handle_t *)&check->timer, on_closed);
	if (check->talk)
		uv_close((uv_handle_t *)&check->look, on_closed);
	if (uv_tcp_close_reset(&check->socket, on_closed))
		uv_close((uv_handle_t *)&check->socket, on_closed);
}

static void finish(struct tcp_check *check, enum check_outcome outcome, const char *why)
{
	char reason[sizeof(check->base.what) + 240];
	check_done_fn done = check->base.done;
	void *ctx = check->base.ctx;

	snprintf(reason, sizeof(reason), "%s: %s", check->base.what, why);
	close_handles(check);
	done(ctx, &(struct check_result) { outcome, reason, 0 });
}

static int descriptor(const struct tcp_check *check)
{
	uv_os_fd_t fd = -1;

	uv_fileno((const uv_handle_t *)&check->socket, &fd);
	return fd;
}

// --- full segments ---

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

// --- an answer ---

static int judge_text(const struct talk *talk, const char *when, char *why, size_t size)
{
	char said[64], expected[64];

	if (memmem(talk->answer, talk->len, talk->wanted, talk->wanted_len)) {
		snprintf(why, size, "answered as expected");
		return CHECK_PASS;
	}
	if (!when && talk->len < ANSWER_KEPT)
		return -EAGAIN;
	check_text_quote(talk->wanted, talk->wanted_len, expected, sizeof(expected));
	if (talk->len)
		snprintf(why, size, "answered \"%s\", expected \"%s\"",
			check_text_quote(talk->answer, talk->len, said, sizeof(said)), expected);
	else
		snprintf(why, size, "connected, but no answer %s, expected \"%s\"", when, expected);
	return CHECK_WRONG;
}

// The status, when all headers are there; answers before it (100 Continue, 103) are stepped over.
static int judge_http(const struct talk *talk, const char *when, char *why, size_t size)
{
	long status;
	// time that is over makes no answer of half of one: a program that hangs while it writes does not serve
	const bool ended = talk->closed || talk->len == ANSWER_KEPT;
	const int rc = check_text_http_status(talk->answer, talk->len, ended, &status);
	char said[64];

	if (rc == -EAGAIN && !when)
		return rc;
	if (!talk->len)
		snprintf(why, size, "connected, but no answer %s", when);
	else if (rc == -EAGAIN)
		snprintf(why, size, "answered \"%s\", but not all of the headers %s",
			check_text_quote(talk->answer, strcspn(talk->answer, "\r\n"), said, sizeof(said)), when);
	else if (rc)
		snprintf(why, size, "answered \"%s\", which is no HTTP",
			check_text_quote(talk->answer, talk->len, said, sizeof(said)));
	else
		snprintf(why, size, "status %ld, expected %s", status, talk->wanted);
	return !rc && check_text_has_status(talk->wanted, status) ? CHECK_PASS : CHECK_WRONG;
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct tcp_check *check = handle->data;
	struct talk *talk = check->talk;

	(void)suggested;
	*buf = uv_buf_init(talk->answer + talk->len, (unsigned int)(ANSWER_KEPT - talk->len));
}

static void on_answer(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct tcp_check *check = stream->data;
	struct talk *talk = check->talk;
	char why[220];
	int rc;

	(void)buf;
	if (check->over || n == 0)
		return;
	if (n > 0)
		talk->len += (size_t)n;
	talk->closed = n < 0;
	rc = talk->judge(talk, n < 0 ? "before it closed the connection" : NULL, why, sizeof(why));
	if (rc >= 0)
		finish(check, (enum check_outcome)rc, why);
}

static void on_written(uv_write_t *request, int status)
{
	(void)request, (void)status; // what became of it is seen by on_look and on_answer
}

static void begin_talk(struct tcp_check *check)
{
	struct talk *talk = check->talk;
	const uv_buf_t buf = { .base = talk->request, .len = talk->send_len };
	int rc = talk->send_len ? uv_write(&check->write, (uv_stream_t *)&check->socket, &buf, 1, on_written) : 0;

	if (!rc && talk->full)
		rc = uv_timer_start(&check->look, on_look, 1, LOOK_MS);
	else if (!rc)
		rc = uv_read_start((uv_stream_t *)&check->socket, on_room, on_answer);
	if (rc)
		finish(check, check_outcome_of(rc), uv_strerror(rc));
}

// --- connecting ---

static void on_connected(uv_connect_t *request, int status)
{
	struct tcp_check *check = request->data;
	enum check_outcome outcome = check_outcome_of(status);
	const char *why = status ? uv_strerror(status) : "connected";

	if (check->over)
		return;
	check->connected = !status;
	if (status && check->explain)
		check_explain(descriptor(check), &outcome, &why);
	if (status || !check->talk)
		finish(check, outcome, why);
	else
		begin_talk(check);
}

static void end_talk(struct tcp_check *check)
{
	char why[220];
	const int rc = check->talk->judge(check->talk, "in time", why, sizeof(why));

	finish(check, check->talk->len ? (enum check_outcome)rc : CHECK_TIMEOUT, why);
}

// A loop that was held up sees its timers before its sockets: what came in meanwhile is looked at first.
static void on_timeout(uv_timer_t *timer)
{
	struct tcp_check *check = timer->data;

	if (!check->late) {
		check->late = true;
		uv_timer_start(timer, on_timeout, LATE_MS, 0);
		return;
	}
	if (!check->connected)
		finish(check, CHECK_TIMEOUT, "no answer in time");
	else if (check->talk->full)
		finish(check, CHECK_TIMEOUT, "connected, but full segments do not arrive");
	else
		end_talk(check);
}

static void tcp_cancel(struct check *base)
{
	close_handles(container_of(base, struct tcp_check, base));
}

// --- starting ---

// Two segments, so that the first is full.
static int make_filler(struct talk *talk, uint32_t segment)
{
	talk->full = true;
	talk->send_len = 2 * (size_t)segment;
	talk->request = malloc(talk->send_len);
	if (!talk->request)
		return -ENOMEM;
	for (size_t i = 0; i < talk->send_len; i++)
		talk->request[i] = i % 2 ? '\n' : '\r';
	return 0;
}

static int make_text(struct talk *talk, const struct check_args *args)
{
	int rc = check_text_bytes(args->answer, talk->wanted, &talk->wanted_len);

	talk->judge = judge_text;
	talk->request = malloc(CHECK_TEXT_MAX);
	if (!talk->request)
		return -ENOMEM;
	return rc ? rc : check_text_bytes(args->send, talk->request, &talk->send_len);
}

// talk is taken over, also on an error.
static int start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct talk *talk, const char *does, struct check **ret)
{
	const struct sockpath path = check_path(target);
	const int family = target->to.addr.family;
	struct sockaddr_storage sa;
	char text[CHECK_TARGET_MAX];
	struct tcp_check *check = calloc(1, sizeof(*check));
	int rc = check ? uv_tcp_init_ex(env->loop, &check->socket, (unsigned int)family) : -ENOMEM;

	if (rc) {
		talk_free(talk);
		free(check);
		return rc;
	}
	snprintf(check->base.what, sizeof(check->base.what), "%s %s", does, check_target_format(target, text));
	check->base.type = &check_tcp;
	check->talk = talk;
	check->explain = path.explain;
	uv_timer_init(env->loop, &check->timer);
	if (talk)
		uv_timer_init(env->loop, &check->look);
	check->open_handles = talk ? 3 : 2;
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

static int tcp_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	const uint32_t segment = check_path(target).segment;
	struct talk *talk = NULL;

	if (segment || *spec->args.answer) {
		talk = calloc(1, sizeof(*talk));
		int rc = !talk ? -ENOMEM : segment ? make_filler(talk, segment) : make_text(talk, &spec->args);

		if (rc) {
			talk_free(talk);
			return rc;
		}
	}
	return start(env, spec, target, talk, "connect to", ret);
}

int check_tcp_http(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	char *request, size_t len, struct check **ret)
{
	struct talk *talk = calloc(1, sizeof(*talk));
	char does[sizeof(spec->args.method) + 8];

	if (!talk) {
		free(request);
		return -ENOMEM;
	}
	talk->judge = judge_http;
	talk->request = request;
	talk->send_len = len;
	snprintf(talk->wanted, sizeof(talk->wanted), "%s", spec->args.expect);
	snprintf(does, sizeof(does), "%s from", spec->args.method);
	return start(env, spec, target, talk, does, ret);
}

const struct check_type check_tcp = { "tcp", tcp_start, tcp_cancel };
