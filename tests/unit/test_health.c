// SPDX-License-Identifier: Apache-2.0
#include "director/health.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct judge_rules rules = { JUDGE_DEFAULTS };

static bool record(struct backend_health *h, bool passed, const char *reason, msec_t now_ms)
{
	return health_record(h, &rules, 1000, passed, reason, now_ms);
}

static void test_ring(void **state)
{
	struct backend_health h = { 0 };

	(void)state;
	assert_true(health_ratio(&h) == 1.0);
	assert_true(record(&h, true, "ok", 10)); // unknown -> up
	assert_int_equal(h.judge.since_ms, 10);
	assert_true(record(&h, false, "refused", 20));
	assert_int_equal(h.judge.verdict, JUDGE_DOWN);
	assert_string_equal(h.reason, "refused");
	assert_int_equal(h.judge.since_ms, 20);
	assert_false(record(&h, false, "still", 30));
	assert_string_equal(h.reason, "still");
	assert_int_equal(h.judge.since_ms, 20);
	assert_true(record(&h, true, "ok", 40));
	assert_string_equal(h.reason, "still"); // why it was down
	assert_true(health_ratio(&h) == 0.5);
	// the first four leave the ring after 100 more
	for (int i = 0; i < MODEL_HEALTH_RING - 1; i++)
		record(&h, true, "ok", 50);
	assert_int_equal(h.filled, MODEL_HEALTH_RING);
	assert_int_equal(h.passed, MODEL_HEALTH_RING);
	record(&h, false, "x", 60);
	assert_true(health_ratio(&h) == 0.99);
}

// --- pulses ---

struct run {
	uv_loop_t loop;
	struct health *health;
	struct model model;
	struct backend *backend;
	int asked, changed;
	enum check_outcome says, then; // the first time, and from then on
};

static int spawned; // programs that there was no process for

// A host that has no more processes.
int uv_spawn(uv_loop_t *loop, uv_process_t *process, const uv_process_options_t *options)
{
	int (*const real)(uv_loop_t *, uv_process_t *, const uv_process_options_t *) =
		(int (*)(uv_loop_t *, uv_process_t *, const uv_process_options_t *))dlsym(RTLD_NEXT, "uv_spawn");
	uv_process_options_t none = *options;

	none.file = "/no/such/program"; // the handle must be made all the same
	real(loop, process, &none);
	spawned++;
	return UV_EAGAIN;
}

static enum check_outcome answer(void *ctx, const struct inet_endpoint *real, const char **ret_why)
{
	struct run *run = ctx;
	const enum check_outcome says = run->asked++ ? run->then : run->says;

	(void)real;
	*ret_why = says == CHECK_BROKEN ? "no descriptors" : "so it is";
	return says;
}

static int aim(
	void *ctx, const struct inet_endpoint *to, struct probe_path *path, bool straight, struct check_target *ret)
{
	(void)ctx, (void)path, (void)straight;
	*ret = (struct check_target) { .to = *to };
	return 0;
}

static void changed(void *ctx, struct backend *backend, const char *why)
{
	struct run *run = ctx;

	(void)backend, (void)why;
	run->changed++;
}

static void recorded(void *ctx, struct backend *backend)
{
	(void)ctx, (void)backend;
}

// A backend whose check waits for nothing but health_watch.
static struct run *prepare(const char *pulse)
{
	struct run *run = calloc(1, sizeof(*run));
	const struct health_hooks hooks = {
		.ask_agent = answer,
		.changed = changed,
		.recorded = recorded,
		.ctx = run,
		.probe = { .aim = aim, .ctx = run },
	};
	struct service_options service = *(const struct service_options *)service_fields.defaults;
	struct backend_options options = *(const struct backend_options *)backend_fields.defaults;
	json_t *json = json_loads(pulse, 0, NULL);

	assert_int_equal(field_parse(&check_fields, json, &options.pulse, NULL), 0);
	json_decref(json);
	service.fwmark = 1;
	service.judge.set = 1; // or the defaults are meant
	service.judge.fast = true;
	service.judge.fall = 2;
	options.port = 80;
	inet_addr_parse("10.0.0.11", &options.host);
	uv_loop_init(&run->loop);
	assert_int_equal(health_new(&run->loop, &hooks, &run->health, NULL), 0);
	run->backend = model_add_backend(model_add_service(&run->model, "web", &service), "r1", &options, NULL);
	assert_non_null(model_health(run->backend));
	return run;
}

static void finish(struct run *run)
{
	health_forget(run->backend);
	model_clear(&run->model);
	health_free(run->health);
	uv_run(&run->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&run->loop), 0);
	free(run);
}

static void ask_times(struct run *run, int times)
{
	const int enough = run->asked + times;

	while (run->asked < enough)
		uv_run(&run->loop, UV_RUN_ONCE);
	uv_run(&run->loop, UV_RUN_NOWAIT);
}

#define AGENT(interval) "{\"type\": \"agent\", \"interval\": \"" interval "\"}"

// A check that could not be carried out is no result: the verdict stays, whatever it is.
static void test_what_cannot_be_checked(void **state)
{
	struct run *run = prepare(AGENT("100ms"));
	const struct backend_health *health = run->backend->health;

	(void)state;
	run->says = run->then = CHECK_BROKEN;
	assert_int_equal(health_watch(run->health, run->backend), 0);
	ask_times(run, 3);
	assert_int_equal(health->judge.verdict, JUDGE_UNKNOWN);
	assert_string_equal(health_problem(run->backend), "agent of 10.0.0.11: no descriptors");
	run->then = CHECK_PASS;
	ask_times(run, 1);
	assert_int_equal(health->judge.verdict, JUDGE_UP);
	assert_null(health_problem(run->backend));
	run->then = CHECK_BROKEN;
	ask_times(run, 3);
	assert_int_equal(health->judge.verdict, JUDGE_UP);
	assert_int_equal(health->filled, 1);
	run->then = CHECK_WRONG;
	ask_times(run, 2);
	assert_int_equal(health->judge.verdict, JUDGE_DOWN);
	run->then = CHECK_BROKEN;
	ask_times(run, 3);
	assert_int_equal(health->judge.verdict, JUDGE_DOWN);
	assert_string_equal(health->reason, "agent of 10.0.0.11: so it is");
	assert_int_equal(run->changed, 2);
	finish(run);
}

// Run for a while in which an interval of hours does not end.
static void turn(struct run *run)
{
	for (int i = 0; i < 100; i++) {
		uv_run(&run->loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
}

// The second look after a failure is at once; when that cannot be had it is not tried without a pause.
static void test_no_second_look(void **state)
{
	struct run *run = prepare(AGENT("8h"));

	(void)state;
	judge_set(&run->backend->health->judge, JUDGE_UP, 1);
	run->says = CHECK_WRONG;
	run->then = CHECK_BROKEN;
	assert_int_equal(health_watch(run->health, run->backend), 0);
	ask_times(run, 2);
	turn(run);
	assert_int_equal(run->asked, 2);
	assert_int_equal(run->backend->health->judge.verdict, JUDGE_UP);
	finish(run);
}

// EAGAIN of fork(2) is not that of a path that is not ready, for which one would wait a moment.
static void test_no_processes(void **state)
{
	struct run *run =
		prepare("{\"type\": \"exec\", \"interval\": \"8h\", \"args\": {\"command\": [\"/bin/true\"]}}");

	(void)state;
	assert_int_equal(health_watch(run->health, run->backend), 0);
	turn(run);
	assert_int_equal(spawned, 1);
	assert_int_equal(run->backend->health->judge.verdict, JUDGE_UNKNOWN);
	assert_string_equal(health_problem(run->backend), "cannot start the check: Resource temporarily unavailable");
	finish(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ring), cmocka_unit_test(test_what_cannot_be_checked),
		cmocka_unit_test(test_no_second_look), cmocka_unit_test(test_no_processes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
