// SPDX-License-Identifier: Apache-2.0
// One datagram, and what comes back. udp: passes with an answer that has the expected text in it. When no text is
// expected any answer will do, and so does silence: only an ICMP message that nobody listens, or a host that cannot be
// reached, is a failure. dns: passes with the expected record.
#include "shared/check.h"

#include "shared/check_text.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX 4096
#define ANSWERS_AT_ONCE 64 // so that a flood of them holds nothing up
#define LATE_MS 1          // a loop that was held up sees its timers before its sockets

struct udp_check {
	struct check base;
	uv_poll_t poll;
	uv_timer_t timer;
	int fd, open_handles;
	bool explain, is_dns, late;
	uint16_t id; // dns: of the query
	int record;
	bool heard;
	char last[200];              // what was wrong with the last answer
	char wanted[CHECK_TEXT_MAX]; // dns: as text; udp: bytes
	size_t wanted_len;
};

static void on_closed(uv_handle_t *handle)
{
	struct udp_check *check = handle->data;

	if (--check->open_handles == 0)
		free(check);
}

static void close_handles(struct udp_check *check)
{
	uv_poll_stop(&check->poll);
	close(check->fd);
	uv_close((uv_handle_t *)&check->poll, on_closed);
	uv_close((uv_handle_t *)&check->timer, on_closed);
}

static void finish(struct udp_check *check, enum check_outcome outcome, const char *why)
{
	char reason[sizeof(check->base.what) + 240];
	check_done_fn done = check->base.done;
	void *ctx = check->base.ctx;

	snprintf(reason, sizeof(reason), "%s: %s", check->base.what, why);
	close_handles(check);
	done(ctx, &(struct check_result) { outcome, reason, 0 });
}

// An answer that is not the expected one is remembered; the right one may still come.
static bool is_expected(struct udp_check *check, const char *answer, size_t len)
{
	char said[64], wanted[64];

	if (check->is_dns) {
		int rc = check_text_dns_answer((const unsigned char *)answer, len, check->id, check->record,
			check->wanted, check->last, sizeof(check->last));

		check->heard |= rc == 0;
		return rc > 0;
	}
	check->heard = true;
	if (memmem(answer, len, check->wanted, check->wanted_len))
		return true;
	snprintf(check->last, sizeof(check->last), "answered \"%s\", expected \"%s\"",
		check_text_quote(answer, len, said, sizeof(said)),
		check_text_quote(check->wanted, check->wanted_len, wanted, sizeof(wanted)));
	return false;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct udp_check *check = poll->data;
	enum check_outcome outcome;
	char answer[ANSWER_MAX];
	const char *why;
	ssize_t n = 0;

	(void)status, (void)events;
	for (int i = 0; i < ANSWERS_AT_ONCE; i++) {
		n = recv(check->fd, answer, sizeof(answer), MSG_DONTWAIT);
		if (n < 0 && errno != EINTR)
			break;
		if (n >= 0 && is_expected(check, answer, (size_t)n)) {
			finish(check, CHECK_PASS, "answered");
			return;
		}
		// one record is asked for once: another answer is the answer
		if (n >= 0 && check->is_dns && check->heard) {
			finish(check, CHECK_WRONG, check->last);
			return;
		}
	}
	if (n >= 0 || errno == EAGAIN || errno == EINTR)
		return; // or the poll says so again
	why = strerror(errno);
	outcome = check_outcome_of(-errno);
	if (check->explain)
		check_explain(check->fd, &outcome, &why);
	finish(check, outcome, outcome == CHECK_REFUSED ? "nobody listens (ICMP port unreachable)" : why);
}

static void on_timeout(uv_timer_t *timer)
{
	struct udp_check *check = timer->data;

	if (!check->late) {
		check->late = true;
		uv_timer_start(timer, on_timeout, LATE_MS, 0);
	} else if (check->heard) {
		finish(check, CHECK_WRONG, check->last);
	} else if (!check->is_dns && !check->wanted_len) {
		finish(check, CHECK_PASS, "silent, and nothing said that nobody listens");
	} else {
		finish(check, CHECK_TIMEOUT, "no answer in time");
	}
}

static void udp_cancel(struct check *base)
{
	close_handles(container_of(base, struct udp_check, base));
}

static int open_socket(const struct check_target *target)
{
	const int family = target->to.addr.family;
	struct sockpath path = target->path;
	struct sockaddr_storage sa;
	const socklen_t len = inet_endpoint_to_sockaddr(&target->to, &sa);
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -errno;
	path.segment = 0; // of TCP
	rc = sockpath_apply(&path, fd, family);
	if (!rc && connect(fd, (const struct sockaddr *)&sa, len))
		rc = -errno;
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

static int start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct udp_check *check, const void *datagram, size_t len)
{
	check->fd = open_socket(target);
	if (check->fd < 0)
		return check->fd;
	check->explain = target->path.explain;
	int rc = uv_poll_init(env->loop, &check->poll, check->fd);
	if (rc) {
		close(check->fd);
		return rc;
	}
	uv_timer_init(env->loop, &check->timer);
	check->open_handles = 2;
	check->poll.data = check->timer.data = check;
	uv_poll_start(&check->poll, UV_READABLE, on_readable);
	uv_timer_start(&check->timer, on_timeout, (uint64_t)spec->timeout_ms, 0);
	if (send(check->fd, datagram, len, 0) >= 0)
		return 0;
	rc = -errno;
	close_handles(check);
	return rc;
}

// What was wrong before there were handles is freed here, later by them.
static int start_or_free(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct udp_check *check, const void *datagram, size_t len, struct check **ret)
{
	int rc = start(env, spec, target, check, datagram, len);

	if (rc && !check->open_handles)
		free(check);
	if (!rc)
		*ret = &check->base;
	return rc;
}

static int udp_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	struct udp_check *check = calloc(1, sizeof(*check));
	char datagram[CHECK_TEXT_MAX], text[CHECK_TARGET_MAX];
	size_t len;

	if (!check)
		return -ENOMEM;
	if (check_text_bytes(spec->args.send, datagram, &len) ||
		check_text_bytes(spec->args.answer, check->wanted, &check->wanted_len)) {
		free(check);
		return -EINVAL;
	}
	snprintf(check->base.what, sizeof(check->base.what), "ask %s", check_target_format(target, text));
	return start_or_free(env, spec, target, check, datagram, len, ret);
}

static int dns_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	struct udp_check *check = calloc(1, sizeof(*check));
	unsigned char query[CHECK_DNS_QUERY_MAX];
	char text[CHECK_TARGET_MAX];

	if (!check)
		return -ENOMEM;
	check->is_dns = true;
	check->record = spec->args.record;
	memcpy(check->wanted, spec->args.answer, sizeof(check->wanted));
	if (getrandom(&check->id, sizeof(check->id), GRND_NONBLOCK) != sizeof(check->id))
		check->id = (uint16_t)clock_now_ms();
	int len = check_text_dns_query(spec->args.name, check->record, check->id, query);

	if (len < 0) {
		free(check);
		return len;
	}
	snprintf(check->base.what, sizeof(check->base.what), "ask %s", check_target_format(target, text));
	return start_or_free(env, spec, target, check, query, (size_t)len, ret);
}

const struct check_type check_udp = { "udp", udp_start, udp_cancel };
const struct check_type check_dns = { "dns", dns_start, udp_cancel };
