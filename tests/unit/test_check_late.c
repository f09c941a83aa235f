// SPDX-License-Identifier: Apache-2.0
// A loop that was held up (by a large request, say) sees its timers before its sockets. An answer that came in time is
// an answer all the same.
#include "shared/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMEOUT_MS 60
#define HELD_UP_US 150000

struct run {
	uv_loop_t loop;
	struct http_client *http;
	int calls;
	enum check_outcome outcome;
	char reason[512];
};

static void on_done(void *ctx, const struct check_result *result)
{
	struct run *run = ctx;

	run->calls++;
	run->outcome = result->outcome;
	snprintf(run->reason, sizeof(run->reason), "%s", result->reason);
}

static int open_server(int type, struct inet_endpoint *ret)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, type, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	*ret = (struct inet_endpoint) { .port = ntohs(sa.sin_port) };
	inet_addr_parse("127.0.0.1", &ret->addr);
	return fd;
}

// Waits for one question, answers it, and says so in the pipe.
static pid_t answer_once(int server, int type, const char *text, int say)
{
	pid_t pid = fork();
	char buf[2000];

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL); // also when an assertion ends the test
	if (type == SOCK_STREAM) {
		int fd = accept(server, NULL, NULL);

		if (read(fd, buf, sizeof(buf)) <= 0 || write(fd, text, strlen(text)) < 0)
			_exit(1);
	} else {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);

		if (recvfrom(server, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len) < 0 ||
			sendto(server, text, strlen(text), 0, (struct sockaddr *)&from, len) < 0)
			_exit(1);
	}
	if (write(say, "x", 1) != 1)
		_exit(1);
	pause(); // closing would be news as well
	_exit(0);
}

// Starts the check, lets the answer come, and sees to its loop only when its time is over.
static void ends_as(enum check_outcome outcome, int kind, const char *args, int type, const char *text, struct run *ret)
{
	struct run run = { 0 };
	struct check_spec spec;
	struct check_target target = { 0 };
	struct check *check;
	struct err err = { 0 };
	int server = open_server(type, &target.to), ends[2];
	json_t *json = json_pack("{s:s, s:o}", "type", check_kind_name(kind), "args", json_loads(args, 0, NULL));
	char byte;

	assert_int_equal(field_parse(&check_fields, json, &spec, &err), 0);
	json_decref(json);
	spec.timeout_ms = TIMEOUT_MS;
	uv_loop_init(&run.loop);
	assert_int_equal(http_client_new(&run.loop, &run.http, &err), 0);
	assert_int_equal(pipe(ends), 0);
	pid_t pid = text ? answer_once(server, type, text, ends[1]) : 0;
	const struct check_env env = { .loop = &run.loop, .http = run.http };

	assert_int_equal(check_start(&env, &spec, &target, on_done, &run, &check), 0);
	for (int i = 0; i < 2 && kind == CHECK_HTTP; i++)
		uv_run(&run.loop, UV_RUN_NOWAIT); // connected, and asked
	if (text)
		assert_int_equal(read(ends[0], &byte, 1), 1);
	usleep(HELD_UP_US);
	for (int i = 0; i < 200 && !run.calls; i++) {
		uv_run(&run.loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
	if (run.outcome != outcome || run.calls != 1)
		fail_msg("%s: %s", check_kind_name(kind), run.reason);
	http_client_free(run.http);
	uv_run(&run.loop, UV_RUN_DEFAULT);
	uv_loop_close(&run.loop);
	if (pid) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(server);
	close(ends[0]);
	close(ends[1]);
	*ret = run;
}

static void held_up(int kind, const char *args, int type, const char *text)
{
	struct run run;

	ends_as(CHECK_PASS, kind, args, type, text, &run);
}

static void test_tcp(void **state)
{
	(void)state;
	held_up(CHECK_TCP, "{}", SOCK_STREAM, NULL);
}

static void test_udp(void **state)
{
	(void)state;
	held_up(CHECK_UDP, "{\"send\": \"a\", \"answer\": \"b\"}", SOCK_DGRAM, "b");
}

static void test_http(void **state)
{
	(void)state;
	held_up(CHECK_HTTP, "{}", SOCK_STREAM, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	// by libcurl
	held_up(CHECK_HTTP, "{\"body\": \"ok\"}", SOCK_STREAM, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

// Half of an answer is none, though its status is there.
static void test_half_an_answer(void **state)
{
	struct run run;

	(void)state;
	ends_as(CHECK_WRONG, CHECK_HTTP, "{}", SOCK_STREAM, "HTTP/1.1 200 OK\r\nServer: a\r\n", &run);
	assert_non_null(strstr(run.reason, ": answered \"HTTP/1.1 200 OK\", but not all of the headers in time"));
}

// One part of `any` passes, and the others are ended in the middle of what they do.
static void test_any(void **state)
{
	(void)state;
	held_up(CHECK_ANY,
		"{\"checks\": [{\"type\": \"tcp\"}, {\"type\": \"http\"}, {\"type\": \"tcp\", \"args\": {\"answer\": "
		"\"x\"}}, {\"type\": \"http\", \"args\": {\"body\": \"x\"}}]}",
		SOCK_STREAM, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_udp),
		cmocka_unit_test(test_http),
		cmocka_unit_test(test_half_an_answer),
		cmocka_unit_test(test_any),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
