// SPDX-License-Identifier: Apache-2.0
// The other end is a socket of ours, as the service manager's would be.
#include "shared/notify.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct manager {
	char directory[64], name[128];
	int fd;
	uv_loop_t loop;
	struct notify notify;
};

static void listen_at(struct manager *m, const char *name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const size_t len = strlen(name);

	memcpy(sa.sun_path, name, len);
	if (name[0] == '@')
		sa.sun_path[0] = '\0';
	m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(m->fd >= 0);
	assert_int_equal(
		bind(m->fd, (const struct sockaddr *)&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
		0);
	setenv("NOTIFY_SOCKET", name, 1);
}

static int setup(void **state)
{
	static struct manager m;

	m = (struct manager) { .directory = "/tmp/test-notify-XXXXXX", .fd = -1 };
	if (!mkdtemp(m.directory))
		return -1;
	snprintf(m.name, sizeof(m.name), "%s/notify", m.directory);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	uv_loop_init(&m.loop);
	*state = &m;
	return 0;
}

static int teardown(void **state)
{
	struct manager *m = *state;

	notify_close(&m->notify);
	uv_run(&m->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&m->loop), 0);
	if (m->fd >= 0)
		close(m->fd);
	unlink(m->name);
	rmdir(m->directory);
	return 0;
}

// The next datagram; "" when there is none.
static const char *heard(const struct manager *m)
{
	static char text[1024];
	const ssize_t n = recv(m->fd, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static void open_notify(struct manager *m)
{
	struct err err = { 0 };

	assert_int_equal(notify_open(&m->notify, &m->loop, &err), 0);
}

static void test_states(void **state)
{
	struct manager *m = *state;
	struct timespec now;
	long long said;

	listen_at(m, m->name);
	open_notify(m);
	notify_ready(&m->notify);
	assert_string_equal(heard(m), "READY=1");
	clock_gettime(CLOCK_MONOTONIC, &now);
	const long long before = (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	notify_reloading(&m->notify);
	assert_int_equal(sscanf(heard(m), "RELOADING=1\nMONOTONIC_USEC=%lld", &said), 1);
	assert_true(said >= before && said < before + 60000000);
	notify_stopping(&m->notify);
	assert_string_equal(heard(m), "STOPPING=1");
	notify_extend(&m->notify, 12500);
	assert_string_equal(heard(m), "EXTEND_TIMEOUT_USEC=12500000");
	assert_string_equal(heard(m), "");
}

static void test_abstract_socket(void **state)
{
	struct manager *m = *state;
	char name[64];

	snprintf(name, sizeof(name), "@brass-test-notify-%d", (int)getpid());
	listen_at(m, name);
	open_notify(m);
	notify_ready(&m->notify);
	assert_string_equal(heard(m), "READY=1");
}

static void test_status_only_when_it_is_another(void **state)
{
	struct manager *m = *state;
	char longer[2 * NOTIFY_STATUS_MAX];

	listen_at(m, m->name);
	open_notify(m);
	notify_status(&m->notify, "3 services up");
	assert_string_equal(heard(m), "STATUS=3 services up");
	notify_status(&m->notify, "3 services up");
	assert_string_equal(heard(m), "");
	notify_status(&m->notify, "one\nREADY=1 caf\xc3\xa9");
	assert_string_equal(heard(m), "STATUS=one READY=1 caf??");
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	notify_status(&m->notify, longer);
	assert_int_equal(strlen(heard(m)), strlen("STATUS=") + NOTIFY_STATUS_MAX - 1);
	notify_status(&m->notify, longer);
	assert_string_equal(heard(m), "");
}

static void test_a_full_queue_holds_nobody_up(void **state)
{
	struct manager *m = *state;
	char text[32];
	int sent = 0;

	listen_at(m, m->name);
	open_notify(m);
	do {
		snprintf(text, sizeof(text), "status %d", ++sent);
		notify_status(&m->notify, text);
	} while (strcmp(m->notify.status, text) == 0 && sent < 100000);
	assert_true(sent < 100000); // it did get full
	while (*heard(m))
		;
	notify_status(&m->notify, text); // what was not taken is said again
	snprintf(text, sizeof(text), "STATUS=status %d", sent);
	assert_string_equal(heard(m), text);
}

static void stop_loop(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

// How many signs of life come within a time.
static int signs_of_life(struct manager *m, uint64_t time_ms)
{
	uv_timer_t end;
	int count = 0;

	uv_timer_init(&m->loop, &end);
	uv_timer_start(&end, stop_loop, time_ms, 0);
	uv_run(&m->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&end, NULL);
	uv_run(&m->loop, UV_RUN_NOWAIT);
	for (const char *text = heard(m); *text; text = heard(m)) {
		assert_string_equal(text, "WATCHDOG=1");
		count++;
	}
	return count;
}

static void test_watchdog(void **state)
{
	struct manager *m = *state;

	setenv("WATCHDOG_USEC", "100000", 1);
	listen_at(m, m->name);
	open_notify(m);
	const int count = signs_of_life(m, 520);
	assert_true(count >= 2 && count <= 10); // every 50 ms, on a machine that may be busy
}

static void test_the_watchdog_is_for(void **state, const char *pid, bool us)
{
	struct manager *m = *state;

	setenv("WATCHDOG_USEC", "20000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	listen_at(m, m->name);
	open_notify(m);
	assert_int_equal(signs_of_life(m, 200) > 0, us);
}

static void test_watchdog_of_this_process(void **state)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	test_the_watchdog_is_for(state, pid, true);
}

static void test_watchdog_of_another_process(void **state)
{
	test_the_watchdog_is_for(state, "1", false);
}

static void test_nobody_to_tell(void **state)
{
	struct manager *m = *state;

	setenv("WATCHDOG_USEC", "20000", 1);
	open_notify(m);
	assert_int_equal(m->notify.fd, -1);
	notify_ready(&m->notify);
	notify_status(&m->notify, "fine");
	notify_extend(&m->notify, 1);
	assert_false(uv_is_active((uv_handle_t *)&m->notify.watchdog));
}

static void test_children_do_not_speak_for_us(void **state)
{
	struct manager *m = *state;

	setenv("WATCHDOG_USEC", "20000000", 1);
	listen_at(m, m->name);
	open_notify(m);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
}

static void test_a_name_that_is_none(void **state)
{
	struct manager *m = *state;
	struct err err = { 0 };

	setenv("NOTIFY_SOCKET", "run/notify", 1);
	assert_int_equal(notify_open(&m->notify, &m->loop, &err), -EINVAL);
	assert_string_equal(err.text,
		"NOTIFY_SOCKET: found \"run/notify\", allowed is an absolute path, or a name "
		"behind @, of up to 107 bytes");
	notify_ready(&m->notify);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(states),
		TEST(abstract_socket),
		TEST(status_only_when_it_is_another),
		TEST(a_full_queue_holds_nobody_up),
		TEST(watchdog),
		TEST(watchdog_of_this_process),
		TEST(watchdog_of_another_process),
		TEST(nobody_to_tell),
		TEST(children_do_not_speak_for_us),
		TEST(a_name_that_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
