// SPDX-License-Identifier: Apache-2.0
// Passes when the three-way handshake is completed; the connection is then reset, so that the server's accept queue and
// our TIME_WAIT list stay short. With a full size it passes when the server's kernel has acknowledged full segments of
// empty lines; with `answer`, when that is among the first bytes of the answer.
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
	size_t send_len, wanted_len, len;
	bool full; // `send` is for its size
	char send[CHECK_TEXT_MAX], wanted[CHECK_TEXT_MAX];
	char *filler; // sent instead, owned
	char answer[ANSWER_KEPT];
};

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
	if (check->talk)
		free(check->talk->filler);
	free(check->talk);
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

static void finish_wrong(struct tcp_check *check, enum check_outcome outcome, const char *when)
{
	const struct talk *talk = check->talk;
	char said[64], expected[64], why[220];

	check_text_quote(talk->wanted, talk->wanted_len, expected, sizeof(expected));
	if (talk->len)
		snprintf(why, sizeof(why), "answered \"%s\", expected \"%s\"",
			check_text_quote(talk->answer, talk->len, said, sizeof(said)), expected);
	else
		snprintf(why, sizeof(why), "connected, but no answer%s, expected \"%s\"", when, expected);
	finish(check, talk->len ? CHECK_WRONG : outcome, why);
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

	(void)buf;
	if (check->over || n == 0)
		return;
	if (n > 0)
		talk->len += (size_t)n;
	if (n > 0 && memmem(talk->answer, talk->len, talk->wanted, talk->wanted_len))
		finish(check, CHECK_PASS, "answered as expected");
	else if (n < 0)
		finish_wrong(check, CHECK_WRONG, " before it closed the connection");
	else if (talk->len == ANSWER_KEPT)
		finish_wrong(check, CHECK_WRONG, "");
}

static void on_written(uv_write_t *request, int status)
{
	(void)request, (void)status; // what became of it is seen by on_look and on_answer
}

static void begin_talk(struct tcp_check *check)
{
	struct talk *talk = check->talk;
	const uv_buf_t buf = { .base = talk->full ? talk->filler : talk->send, .len = talk->send_len };
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
		finish_wrong(check, CHECK_TIMEOUT, " in time");
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
	talk->filler = malloc(talk->send_len);
	if (!talk->filler)
		return -ENOMEM;
	for (size_t i = 0; i < talk->send_len; i++)
		talk->filler[i] = i % 2 ? '\n' : '\r';
	return 0;
}

static int make_talk(struct tcp_check *check, const struct check_args *args, uint32_t segment)
{
	struct talk *talk;
	int rc;

	if (!segment && !*args->answer)
		return 0;
	talk = check->talk = calloc(1, sizeof(*talk));
	if (!talk)
		return -ENOMEM;
	if (segment)
		return make_filler(talk, segment);
	rc = check_text_bytes(args->send, talk->send, &talk->send_len);
	return rc ? rc : check_text_bytes(args->answer, talk->wanted, &talk->wanted_len);
}

static int tcp_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	const struct sockpath path = check_path(target);
	const int family = target->to.addr.family;
	struct sockaddr_storage sa;
	char text[CHECK_TARGET_MAX];
	struct tcp_check *check = calloc(1, sizeof(*check));
	int rc = check ? make_talk(check, &spec->args, path.segment) : -ENOMEM;

	if (!rc)
		rc = uv_tcp_init_ex(env->loop, &check->socket, (unsigned int)family);
	if (rc) {
		if (check && check->talk)
			free(check->talk->filler);
		if (check)
			free(check->talk);
		free(check);
		return rc;
	}
	snprintf(check->base.what, sizeof(check->base.what), "connect to %s", check_target_format(target, text));
	check->explain = path.explain;
	uv_timer_init(env->loop, &check->timer);
	if (check->talk)
		uv_timer_init(env->loop, &check->look);
	check->open_handles = check->talk ? 3 : 2;
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

const struct check_type check_tcp = { "tcp", tcp_start, tcp_cancel };
