// SPDX-License-Identifier: Apache-2.0
// What this host cannot do says nothing of the real server.
#include "shared/check.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct run {
	uv_loop_t loop;
	struct http_client *http;
	struct check_target target;
	int server;
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

// A server that takes connections and says nothing.
static int set_up(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	struct run *run = calloc(1, sizeof(*run));

	run->server = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(run->server, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(run->server, 5), 0);
	assert_int_equal(getsockname(run->server, (struct sockaddr *)&sa, &len), 0);
	run->target.to.port = ntohs(sa.sin_port);
	inet_addr_parse("127.0.0.1", &run->target.to.addr);
	uv_loop_init(&run->loop);
	assert_int_equal(http_client_new(&run->loop, &run->http, NULL), 0);
	uv_run(&run->loop, UV_RUN_NOWAIT);
	*state = run;
	return 0;
}

static int tear_down(void **state)
{
	struct run *run = *state;

	http_client_free(run->http);
	uv_run(&run->loop, UV_RUN_DEFAULT);
	uv_loop_close(&run->loop);
	close(run->server);
	free(run);
	return 0;
}

static void ask(struct run *run, const char *text)
{
	const struct check_env env = { .loop = &run->loop, .http = run->http };
	json_t *json = json_loads(text, 0, NULL);
	struct check_spec spec;
	struct check *check;

	run->calls = 0;
	assert_int_equal(field_parse(&check_fields, json, &spec, NULL), 0);
	json_decref(json);
	int rc = check_start(&env, &spec, &run->target, on_done, run, &check);

	if (rc) {
		run->outcome = check_outcome_of_start(spec.kind, rc);
		snprintf(run->reason, sizeof(run->reason), "%s", strerror(-rc));
		return;
	}
	while (!run->calls)
		uv_run(&run->loop, UV_RUN_ONCE);
}

static void test_files(void **state)
{
	ask(*state, "{\"type\": \"https\", \"timeout\": \"30s\", \"args\": {\"ca\": \"/dev/null\"}}");
	assert_int_equal(((struct run *)*state)->outcome, CHECK_BROKEN);
	ask(*state,
		"{\"type\": \"https\", \"timeout\": \"30s\", \"args\": {\"verify\": false, \"cert\": \"/dev/null\"}}");
	assert_int_equal(((struct run *)*state)->outcome, CHECK_BROKEN);
}

// As many as there are now, and no more.
static void take_descriptors(struct rlimit *ret_before)
{
	DIR *dir = opendir("/proc/self/fd");
	struct rlimit limit;
	struct dirent *entry;
	rlim_t last = 0;

	while ((entry = readdir(dir)))
		if (atoi(entry->d_name) != dirfd(dir) && (rlim_t)atoi(entry->d_name) > last)
			last = (rlim_t)atoi(entry->d_name);
	closedir(dir);
	getrlimit(RLIMIT_NOFILE, ret_before);
	limit = *ret_before;
	limit.rlim_cur = last + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (dup(0) >= 0) // between those that are open
		;
}

static void test_no_descriptors(void **state)
{
	static const char *const checks[] = { "{\"type\": \"tcp\"}", "{\"type\": \"udp\"}", "{\"type\": \"http\"}",
		"{\"type\": \"http\", \"args\": {\"body\": \"ok\"}}", "{\"type\": \"grpc\"}",
		"{\"type\": \"exec\", \"args\": {\"command\": [\"/bin/true\"]}}",
		"{\"type\": \"all\", \"args\": {\"checks\": [{\"type\": \"tcp\"}, {\"type\": \"grpc\"}]}}" };
	struct run *run = *state;
	struct rlimit before;

	take_descriptors(&before);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		ask(run, checks[i]);
		if (run->outcome != CHECK_BROKEN || !strstr(run->reason, "Too many open files"))
			fail_msg("%s: %s: %s", checks[i], check_outcome_name(run->outcome), run->reason);
	}
	setrlimit(RLIMIT_NOFILE, &before);
}

// The network's word is none of this host's.
static void test_the_network_said_no(void **state)
{
	static const int errors[] = { EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENOPROTOOPT, EACCES };

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		assert_int_equal(check_outcome_of_start(CHECK_TCP, -errors[i]), CHECK_UNREACHABLE);
		assert_int_equal(check_outcome_of_start(CHECK_EXEC, -errors[i]), CHECK_BROKEN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_descriptors, set_up, tear_down),
		cmocka_unit_test(test_the_network_said_no),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
