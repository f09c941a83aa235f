// SPDX-License-Identifier: Apache-2.0
// A look has two rounds: the small probes side by side, then the full-size one where small packets got through. If that
// fails and the kernel has learnt a smaller MTU from it, clients learn it the same way, and it is tried once more.
#include "director/diagnose.h"

#include "director/fault.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define OTHER_PORT 1 // hardly anything listens there (tcpmux)
#define READY_MS 5   // between two looks whether the path is ready

struct diagnose {
	struct state *state;
	uv_timer_t tick;
	struct trouble *waiting; // for their turn
	struct trouble *running;
	struct trouble *known; // down, by the time of the next look
	unsigned int running_count;
};

enum stage { STAGE_WAITING, STAGE_PATH, STAGE_SMALL, STAGE_FULL, STAGE_KNOWN };

// One probe of a look.
struct look {
	struct trouble *trouble;
	struct check *check; // running; NULL: it is not
	int outcome;
};

struct trouble {
	struct trouble *prev, *next; // in the list of its stage
	struct diagnose *d;
	struct backend *backend;
	enum stage stage;
	bool down; // it is kept, and looked at again
	bool again;
	struct probe_path *path; // counted; NULL: none
	struct look looks[FAULT_PROBES];
	uint32_t full_size;
	struct diagnose_wait *waits;
	msec_t began_ms, due_ms;
	// what was found last
	msec_t at_ms; // 0: nothing yet
	enum fault fault;
	int outcomes[FAULT_PROBES];
	uint32_t packet;
	char *text;
};

static void on_tick(uv_timer_t *timer);

int diagnose_new(uv_loop_t *loop, struct state *state, struct diagnose **ret, struct err *err)
{
	struct diagnose *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	d->state = state;
	uv_timer_init(loop, &d->tick);
	d->tick.data = d;
	*ret = d;
	return 0;
}

static void closed(uv_handle_t *handle)
{
	free(handle->data);
}

void diagnose_free(struct diagnose *d)
{
	if (d)
		uv_close((uv_handle_t *)&d->tick, closed);
}

// --- lists ---

static struct trouble **list_of(struct diagnose *d, enum stage stage)
{
	return stage == STAGE_WAITING ? &d->waiting : stage == STAGE_KNOWN ? &d->known : &d->running;
}

static void leave_list(struct trouble *t)
{
	DL_DELETE(*list_of(t->d, t->stage), t);
	t->d->running_count -= t->stage != STAGE_WAITING && t->stage != STAGE_KNOWN;
}

static void enter(struct trouble *t, enum stage stage)
{
	t->stage = stage;
	DL_APPEND(*list_of(t->d, stage), t);
	t->d->running_count += stage != STAGE_WAITING && stage != STAGE_KNOWN;
}

static void wake(struct diagnose *d, msec_t in_ms)
{
	if (!uv_is_active((uv_handle_t *)&d->tick) || uv_timer_get_due_in(&d->tick) > (uint64_t)in_ms)
		uv_timer_start(&d->tick, on_tick, (uint64_t)in_ms, 0);
}

static void end_looks(struct trouble *t)
{
	for (int p = 0; p < FAULT_PROBES; p++)
		check_cancel(STEAL(t->looks[p].check));
	state_path_put(t->d->state, STEAL(t->path));
}

static void answer(struct trouble *t, struct backend *backend)
{
	while (t->waits) {
		struct diagnose_wait *wait = t->waits;

		DL_DELETE(t->waits, wait);
		wait->trouble = NULL;
		wait->done(wait->ctx, backend);
	}
}

static void forget(struct trouble *t)
{
	end_looks(t);
	leave_list(t);
	t->backend->trouble = NULL;
	free(t->text);
	free(t);
}

// --- the end of a look ---

static enum fault_agent agent_word(const struct backend *backend)
{
	if (!backend->agent)
		return FAULT_AGENT_NONE;
	if (backend->agent->lost)
		return FAULT_AGENT_LOST;
	return backend->agent_state == PROTOCOL_UP ? FAULT_AGENT_UP : FAULT_AGENT_BAD;
}

// Hosts send an ICMP message a second or so, and say nothing to the rest: what another probe, or the pulse, was told
// meanwhile goes for the one that heard nothing.
static void recall_rejection(struct trouble *t)
{
	const struct probe *probe = t->backend->path ? health_probe(t->backend) : NULL;
	struct look *vip = &t->looks[FAULT_VIP];
	const int other = t->looks[FAULT_VIP_OTHER].outcome;
	enum check_outcome said;

	if (vip->outcome != CHECK_TIMEOUT)
		return;
	if (other == CHECK_NO_PORT || other == CHECK_NO_PROTOCOL)
		vip->outcome = other;
	else if (probe && probe_was_rejected(probe, clock_now_ms() - t->began_ms, &said))
		vip->outcome = (int)said;
}

static void conclude(struct trouble *t)
{
	struct diagnose *d = t->d;
	const struct backend *backend = t->backend;
	const struct check_spec *pulse = model_pulse(backend);
	struct fault_seen seen = {
		.method = backend->options.method,
		.tunnel = backend->options.tunnel,
		.agent = agent_word(backend),
		.check_fails = pulse && model_verdict(backend) == JUDGE_DOWN,
		.vip = backend->service->options.host,
		.rip = backend->options.host,
		.port = pulse && pulse->args.port ? (uint16_t)pulse->args.port : backend->options.port,
		.full_size = t->full_size,
		.agent_reason = backend->agent_reason ? backend->agent_reason : "",
		.check_reason = model_verdict(backend) == JUDGE_DOWN ? backend->health->reason : "",
	};
	char text[FAULT_TEXT_MAX];

	recall_rejection(t);
	for (int p = 0; p < FAULT_PROBES; p++)
		seen.outcome[p] = t->outcomes[p] = t->looks[p].outcome;
	// where TCP is not what is served, a reset says that the host is there, and that is all that can be asked
	const bool asks_tcp =
		check_speaks_tcp(pulse ? pulse->kind : CHECK_NONE, backend->service->options.protocol == IPPROTO_TCP);
	for (int p = 0; p < FAULT_PROBES && !asks_tcp; p++)
		if (seen.outcome[p] == CHECK_REFUSED)
			seen.outcome[p] = CHECK_PASS;
	t->fault = fault_find(&seen, text);
	t->packet = t->full_size;
	t->at_ms = clock_now_ms();
	if (t->down && strcmp(t->text ? t->text : "", text) != 0)
		log_warning("%s/%s: diagnosis: %s", backend->service->name, backend->name, text);
	free(t->text);
	t->text = strdup(text);
	end_looks(t);
	leave_list(t);
	enter(t, STAGE_KNOWN);
	t->due_ms = t->at_ms + DIAGNOSE_AGAIN_MS;
	answer(t, t->backend);
	if (!t->down)
		forget(t);
	wake(d, d->waiting ? 0 : DIAGNOSE_AGAIN_MS);
}

// --- probes ---

static void next_round(struct trouble *t);

static void on_result(void *ctx, const struct check_result *result)
{
	struct look *look = ctx;

	look->check = NULL;
	look->outcome = (int)result->outcome;
	for (int p = 0; p < FAULT_PROBES; p++)
		if (look->trouble->looks[p].check)
			return;
	next_round(look->trouble);
}

// Failing to start is a result as well; the round goes on with the others.
static void start(struct trouble *t, enum fault_probe p, const struct check_target *target)
{
	const struct check_spec spec = { .kind = CHECK_TCP, .timeout_ms = DIAGNOSE_TIMEOUT_MS };
	const struct check_env *env = health_env(t->d->state->health);
	struct look *look = &t->looks[p];
	int rc = check_start(env, &spec, target, on_result, look, &look->check);

	if (rc)
		look->outcome = (int)check_outcome_of(rc);
}

static uint16_t port_of(const struct trouble *t, uint16_t own)
{
	const struct check_spec *pulse = model_pulse(t->backend);

	return pulse && pulse->args.port ? (uint16_t)pulse->args.port : own;
}

static void start_rip(struct trouble *t)
{
	const struct backend_core *options = &t->backend->options;
	struct check_target target = {
		.to = { options->host, port_of(t, options->port) },
		.path.explain = true,
	};

	if (!target.to.port)
		return;
	start(t, FAULT_RIP, &target);
	target.to.port = OTHER_PORT;
	start(t, FAULT_RIP_OTHER, &target);
}

// Where probes along the path go now. False: they cannot.
static bool aim(struct trouble *t, bool full_size, struct check_target *ret)
{
	struct inet_endpoint to = model_probe_to(t->backend, true);

	to.port = port_of(t, to.port);
	if (!t->path || state_aim(t->d->state, &to, t->path, false, ret) || !ret->path.mark)
		return false;
	if (!full_size)
		ret->full_size = 0;
	return true;
}

static void start_vip(struct trouble *t)
{
	struct check_target target;

	if (!aim(t, false, &target))
		return;
	start(t, FAULT_VIP, &target);
	// nat leads every port to its own
	target.to.port = OTHER_PORT;
	if (t->backend->options.method != FORWARD_NAT)
		start(t, FAULT_VIP_OTHER, &target);
}

static void start_full(struct trouble *t)
{
	struct check_target target;

	if (!aim(t, true, &target) || !target.full_size)
		return;
	t->full_size = target.full_size;
	start(t, FAULT_FULL, &target);
}

static bool is_running(const struct trouble *t)
{
	for (int p = 0; p < FAULT_PROBES; p++)
		if (t->looks[p].check)
			return true;
	return false;
}

static bool mtu_was_learnt(struct trouble *t)
{
	struct check_target target;

	if (t->again || t->looks[FAULT_FULL].outcome != CHECK_TIMEOUT)
		return false;
	t->again = true;
	path_forget(t->d->state->path, &t->backend->options.host);
	return aim(t, true, &target) && target.full_size < t->full_size;
}

static void next_round(struct trouble *t)
{
	const bool small_done = t->stage == STAGE_SMALL && t->looks[FAULT_VIP].outcome == CHECK_PASS;

	if (small_done || (t->stage == STAGE_FULL && mtu_was_learnt(t))) {
		t->stage = STAGE_FULL; // in the same list
		start_full(t);
	}
	if (!is_running(t))
		conclude(t);
}

static void begin(struct trouble *t)
{
	struct probe_way way;
	const bool wants_path = t->backend->options.method != FORWARD_NAT || t->backend->path;

	leave_list(t);
	enter(t, STAGE_PATH);
	for (int p = 0; p < FAULT_PROBES; p++)
		t->looks[p] = (struct look) { .trouble = t, .outcome = FAULT_NOT_RUN };
	t->began_ms = clock_now_ms();
	t->again = false;
	t->full_size = 0;
	if (wants_path && model_traffic_way(t->backend, port_of(t, 0), &way))
		t->path = state_path_get(t->d->state, &way);
}

static bool is_ready(const struct trouble *t)
{
	return !t->path || t->path->refused || reconcile_owns(t->d->state->reconcile, &t->path->key);
}

// --- turns ---

static void on_tick(uv_timer_t *timer)
{
	struct diagnose *d = timer->data;
	const msec_t now = clock_now_ms();
	msec_t next_ms = -1;

	while (d->known && d->known->due_ms <= now) {
		struct trouble *t = d->known;

		leave_list(t);
		enter(t, STAGE_WAITING);
	}
	if (d->known)
		next_ms = d->known->due_ms - now;
	while (d->waiting && (d->waiting->waits || d->running_count < DIAGNOSE_AT_ONCE))
		begin(d->waiting);
	for (struct trouble *t = d->running, *next; t; t = next) {
		next = t->next;
		if (t->stage == STAGE_PATH && !is_ready(t)) { // the end of a turn puts its mark into the kernel
			next_ms = READY_MS;
			continue;
		}
		if (t->stage != STAGE_PATH)
			continue;
		t->stage = STAGE_SMALL;
		start_rip(t);
		start_vip(t);
		if (!is_running(t))
			next_round(t);
	}
	if (next_ms >= 0)
		wake(d, next_ms);
}

static struct trouble *trouble_of(struct diagnose *d, struct backend *backend)
{
	struct trouble *t = backend->trouble;

	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->d = d;
	t->backend = backend;
	backend->trouble = t;
	enter(t, STAGE_WAITING);
	return t;
}

static void look_now(struct trouble *t)
{
	if (t->stage == STAGE_KNOWN) {
		leave_list(t);
		enter(t, STAGE_WAITING);
	}
	wake(t->d, 0);
}

void diagnose_changed(struct diagnose *d, struct backend *backend)
{
	struct trouble *t = model_verdict(backend) == JUDGE_DOWN ? trouble_of(d, backend) : backend->trouble;

	if (!t)
		return;
	t->down = model_verdict(backend) == JUDGE_DOWN;
	if (t->down)
		look_now(t);
	else if (!t->waits)
		forget(t);
}

void diagnose_forget(struct backend *backend)
{
	struct trouble *t = backend->trouble;

	if (!t)
		return;
	answer(t, NULL);
	forget(t);
}

int diagnose_ask(struct diagnose *d, struct backend *backend, struct diagnose_wait *wait,
	void (*done)(void *ctx, struct backend *backend), void *ctx)
{
	struct trouble *t = trouble_of(d, backend);

	if (!t)
		return -ENOMEM;
	*wait = (struct diagnose_wait) { .trouble = t, .done = done, .ctx = ctx };
	DL_APPEND(t->waits, wait);
	look_now(t);
	if (t->stage == STAGE_WAITING) { // people do not queue
		DL_DELETE(d->waiting, t);
		DL_PREPEND(d->waiting, t);
	}
	return 0;
}

void diagnose_leave(struct diagnose_wait *wait)
{
	if (wait->trouble)
		DL_DELETE(wait->trouble->waits, wait);
	wait->trouble = NULL;
}

void diagnose_close(struct diagnose *d)
{
	struct trouble *const lists[] = { d->waiting, d->running, d->known };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		for (struct trouble *t = lists[i]; t; t = t->next)
			answer(t, NULL);
}

bool diagnose_is_known(const struct backend *backend)
{
	const struct trouble *t = backend->trouble;

	return t && t->at_ms;
}

void diagnose_write(const struct backend *backend, struct out *out)
{
	static const char *const names[] = {
		[FAULT_RIP] = "rip",
		[FAULT_RIP_OTHER] = "rip_other_port",
		[FAULT_VIP] = "vip",
		[FAULT_VIP_OTHER] = "vip_other_port",
		[FAULT_FULL] = "vip_full_size",
	};
	const struct trouble *t = backend->trouble;
	char text[CLOCK_DURATION_MAX];

	out_open(out, '{');
	out_key(out, "fault");
	out_string(out, field_choice_name(fault_choices, t->fault));
	out_key(out, "text");
	out_string(out, t->text ? t->text : "");
	out_key(out, "age");
	out_string(out, clock_format_duration((clock_now_ms() - t->at_ms) / 1000 * 1000, text));
	for (int p = 0; p < FAULT_PROBES; p++) {
		if (t->outcomes[p] == FAULT_NOT_RUN)
			continue;
		out_key(out, names[p]);
		out_string(out, check_outcome_name((enum check_outcome)t->outcomes[p]));
	}
	if (t->packet) {
		out_key(out, "full_size");
		out_uint(out, t->packet);
	}
	out_close(out, '{');
}
