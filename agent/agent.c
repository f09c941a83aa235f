// SPDX-License-Identifier: Apache-2.0
// One direction: answers and events change what is wanted or what is there; the host is reconciled; what came of it is
// reported when it differs from what was said last. Stopping is the same with a spec that has become empty, after the
// connections are gone.
#include "agent/agent_internal.h"
#include "agent/remember.h"
#include "agent/summary.h"
#include "shared/footprint.h"
#include "shared/log.h"
#include "shared/loop.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>

#define LEAVE_MS 30000      // longest time for what comes after a drain: the directors' answers, the host given back
#define STOP_MS 5000        // that a stop waits for what is to be closed
#define REST_AFTER_MS 10000 // without a change of the host: memory is given back

// --- what directors are told ---

static json_t *make_report(void *ctx, struct client *client)
{
	struct agent *a = ctx;

	// the address of an earlier run may be another host's by now
	if (!inet_addr_is_set(&a->config->address) && !a->address_from)
		return NULL;
	return services_report(&a->services, client, a->boot, a->phase != PHASE_RUNNING);
}

// To the service manager, when it differs from what was said last.
static void say_summary(struct agent *a)
{
	char text[SUMMARY_MAX], drain[DRAIN_TEXT_MAX];

	if (a->notify.fd < 0)
		return;
	switch (a->phase) {
	case PHASE_RUNNING:
		summary(&a->services, a->trouble, text);
		break;
	case PHASE_DRAINING:
		snprintf(text, sizeof(text), "draining: %s", drain_describe(&a->drain, drain));
		break;
	case PHASE_LEAVING:
		snprintf(text, sizeof(text), "leaving, giving the host back");
		break;
	}
	notify_status(&a->notify, text);
}

// Who looks at this agent sees it: those who watch, and the service manager.
void agent_show_changes(struct agent *a)
{
	control_changed(a->control);
	say_summary(a);
}

// Hears of a change: the next request of each client carries it, and who watches sees it. A client compares with what
// it sent last.
static void push_changes(struct agent *a)
{
	agent_show_changes(a);
	for (size_t c = 0; c < a->clients.count; c++)
		client_push_if_changed(a->clients.items[c]);
}

// --- the host ---

static bool anything_is_known(const struct agent *a)
{
	if (!a->config->backends.count)
		return true;
	for (size_t c = 0; c < a->clients.count; c++)
		if (a->clients.items[c]->has_answer)
			return inet_addr_is_set(&a->address);
	return false;
}

// The host first; when it is right, the program.
static void judge(struct agent *a, const char *host_error)
{
	struct services *s = &a->services;

	for (size_t i = 0; i < s->spec.count; i++) {
		char *problem = s->outcomes[i].problem;
		const size_t size = sizeof(s->outcomes[i].problem);
		const struct local_item item = services_item(s, i);

		if (host_error)
			snprintf(problem, size, "%.250s", host_error);
		else
			host_problem(&a->host, &s->spec, &s->spec.services[i], problem, size);
		if (*problem)
			continue;
		const char *local = local_problem(a->local, &item);
		snprintf(problem, size, "%s", local ? local : SERVICES_NOT_CHECKED);
	}
	services_log_statics(s);
	push_changes(a);
}

static void on_local_changed(void *ctx)
{
	struct agent *a = ctx;

	if (a->phase == PHASE_RUNNING && !a->host_failed)
		judge(a, NULL);
}

static void on_load_changed(void *ctx)
{
	struct agent *a = ctx;

	a->services.load_share = load_share(a->load);
	push_changes(a);
}

bool agent_depends_on_load(const struct config *config)
{
	for (size_t i = 0; i < config->backends.count; i++)
		if (config->backends.items[i].weight.by_pressure)
			return true;
	return false;
}

// Programs are asked for when the host is ready for them: before, they cannot have the VIP.
static void want_local(struct agent *a)
{
	const struct services *s = &a->services;
	_cleanup_free_ struct local_item *items = calloc(s->spec.count + 1, sizeof(*items));

	for (size_t i = 0; items && i < s->spec.count; i++)
		items[i] = services_item(s, i);
	if (!items || local_want(a->local, items, s->spec.count))
		log_error("out of memory: the programs here are not checked");
}

// For VIPs that no director tells of. Until a director's connection shows the address, it is that of the default route.
static void find_address(struct agent *a)
{
	const struct inet_addr before = a->address;
	char text[INET_ADDR_MAX];

	if (!a->config->statics.count || (inet_addr_is_set(&a->address) && !a->address_by_route))
		return;
	if (host_address(&a->host, &a->address))
		return; // as it was: the route may come back
	a->address_by_route = true;
	if (inet_addr_cmp(&before, &a->address))
		log_info("address %s: it routes to the default gateway", inet_addr_format(&a->address, text));
}

static void on_rest(uv_timer_t *timer)
{
	(void)timer;
	footprint_shrink();
}

void agent_look(struct agent *a)
{
	struct services *s = &a->services;
	struct err err = { 0 };

	if (a->phase == PHASE_LEAVING)
		return;
	find_address(a);
	if (services_build(s, &a->address)) {
		log_error("out of memory: the host stays as it is");
		return;
	}
	// while nothing is known, what an earlier run set up stays
	a->host.keeps_all = !anything_is_known(a);
	int rc = host_reconcile(&a->host, &s->spec, &err);
	monitor_watch_main(a->monitor, a->host.follows_main);
	monitor_wake_in(a->monitor, a->host.look_again_ms);
	if (a->host.nft)
		monitor_watch_nft(a->monitor);
	a->host_failed = rc;
	if (a->operations != a->host.operations)
		uv_timer_start(&a->rest_timer, on_rest, REST_AFTER_MS, 0);
	a->operations = a->host.operations;
	if (rc)
		log_error("cannot set up the host: %s; tried again at the next event or check", err.text);
	want_local(a);
	judge(a, rc ? err.text : NULL);
}

static void look(void *ctx)
{
	agent_look(ctx);
}

// Without a configured address it is the one that the connection to the first director to answer came from, and it
// follows that connection.
static bool take_address(struct agent *a, const struct client *client)
{
	char text[INET_ADDR_MAX];

	if (inet_addr_is_set(&a->config->address) || !inet_addr_is_set(&client->local) ||
		(a->address_from && a->address_from != client))
		return false;
	bool changed = inet_addr_cmp(&a->address, &client->local) != 0;

	a->address = client->local;
	a->address_from = client;
	a->address_by_route = false;
	if (changed)
		log_info("address %s: it routes to director %s", inet_addr_format(&a->address, text), client->url);
	return changed;
}

static void on_answered(void *ctx, struct client *client)
{
	struct agent *a = ctx;
	bool moved = take_address(a, client);

	agent_show_changes(a);
	if (!moved && (!client->has_answer || services_are_current(&a->services, client)))
		return;
	agent_look(a);
	remember_save(a->config->run_dir, &a->address, &a->clients);
}

static void on_failed(void *ctx, struct client *client)
{
	(void)client; // it says so itself; the host stays as last known
	agent_show_changes(ctx);
}

// --- stopping ---

static void stop_now(struct agent *a)
{
	uv_stop(&a->loop);
}

void agent_drop_client(struct agent *a, struct client *client)
{
	size_t c = 0;

	while (a->clients.items[c] != client)
		c++;
	for (a->clients.count--; c < a->clients.count; c++)
		a->clients.items[c] = a->clients.items[c + 1];
	client_free(client);
	if (a->address_from == client) {
		a->address_from = NULL;
		for (c = 0; c < a->clients.count && !a->address_from; c++)
			take_address(a, a->clients.items[c]);
	}
	agent_look(a);
}

static void on_gone(void *ctx, struct client *client)
{
	struct agent *a = ctx;

	if (a->phase != PHASE_LEAVING)
		agent_drop_client(a, client);
	else if (++a->gone == a->clients.count)
		stop_now(a);
}

static void leave(struct agent *a, const char *why)
{
	if (a->phase == PHASE_LEAVING)
		return;
	log_info("drain: over: %s", why);
	uv_timer_stop(&a->drain_timer);
	a->phase = PHASE_LEAVING;
	agent_show_changes(a);
	for (size_t c = 0; c < a->clients.count; c++)
		client_leave(a->clients.items[c], a->boot);
	if (!a->clients.count)
		stop_now(a);
}

static void on_drain_look(uv_timer_t *timer)
{
	struct agent *a = timer->data;
	const struct drain_count *count = &a->drain.count;

	drain_look(&a->drain, &a->services.spec, &a->clients, true);
	agent_show_changes(a);
	switch (a->drain.state) {
	case DRAIN_WAITING:
		return;
	case DRAIN_QUIET:
		leave(a, "no connection is open");
		return;
	case DRAIN_STALE:
		log_info("drain: %zu connections at the directors are stale: this host has none", count->at_directors);
		leave(a, "no connection is open here");
		return;
	case DRAIN_LATE:
		log_warning("drain: %zu connections at the directors and %zu here are cut off", count->at_directors,
			count->here);
		leave(a, "the drain time is over");
		return;
	}
}

static void on_stop_signal(uv_signal_t *handle, int signal)
{
	struct agent *a = handle->data;
	char limit[CLOCK_DURATION_MAX];

	if (a->phase == PHASE_DRAINING) {
		leave(a, "a second signal came");
		return;
	}
	if (a->phase == PHASE_LEAVING) {
		stop_now(a);
		return;
	}
	log_info("%s: draining for at most %s", strsignal(signal), clock_format_duration(a->config->drain_ms, limit));
	a->phase = PHASE_DRAINING;
	a->drain = drain_begin("", a->config->drain_ms);
	notify_stopping(&a->notify);
	notify_extend(&a->notify, a->config->drain_ms + LEAVE_MS);
	drain_control_pause(&a->drains);
	retire_pause(&a->retire);
	for (size_t c = 0; c < a->clients.count; c++) {
		client_poll(a->clients.items[c], true);
		client_tell(a->clients.items[c]);
	}
	push_changes(a);
	uv_timer_start(&a->drain_timer, on_drain_look, DRAIN_LOOK_MS, DRAIN_LOOK_MS);
}

static void on_drains_changed(void *ctx)
{
	push_changes(ctx);
}

// --- life ---

static int make_boot_id(char boot[PROTOCOL_BOOT_MAX + 1])
{
	uint8_t bytes[8];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(boot + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

int agent_new_client(
	struct agent *a, const struct config *config, struct http_client *http, const char *url, struct client **ret)
{
	const struct client_events events = { make_report, on_answered, on_failed, on_gone, a };

	return client_new(&a->loop, http, url, config->node, config->ttl_ms, &events, ret);
}

static int make_clients(struct agent *a)
{
	const struct config_directors *directors = &a->config->directors;
	int rc = services_init(&a->services, a->config, &a->clients);

	for (size_t c = 0; c < directors->count && !rc; c++) {
		rc = agent_new_client(a, a->config, a->http, directors->urls[c], &a->clients.items[c]);
		a->clients.count += !rc;
	}
	return rc;
}

int agent_new_load(struct agent *a, struct load **ret, struct err *err)
{
	return load_new(&a->loop, on_load_changed, a, ret, err);
}

static int open_all(struct agent *a, struct err *err)
{
	const struct config *config = a->config;
	int rc = make_boot_id(a->boot);

	if (!rc)
		rc = host_open(config->run_dir, &a->host, err);
	a->host_is_open = !rc;
	if (!rc)
		rc = control_new(&a->loop, config->run_dir, agent_control_words, a, &a->control, err);
	if (!rc)
		rc = monitor_new(&a->loop, config->check_interval_ms, &a->host.evidence, look, a, &a->monitor, err);
	if (!rc && config->directors.count)
		rc = http_client_new(&a->loop, &a->http, err);
	if (!rc)
		rc = local_new(&a->loop, a->http, on_local_changed, a, &a->local, err);
	if (!rc && agent_depends_on_load(config))
		rc = agent_new_load(a, &a->load, err);
	if (!rc && make_clients(a))
		rc = err_set(err, -ENOMEM, NULL, "out of memory");
	if (rc)
		return rc;
	a->drains_are_open = true;
	rc = drain_control_open(&a->drains, &a->loop, config, &a->services, on_drains_changed, a, err);
	a->services.drains = &a->drains.drains;
	return rc;
}

static void close_all(struct agent *a)
{
	for (size_t c = 0; c < a->clients.count; c++)
		client_free(a->clients.items[c]);
	retire_close(&a->retire);
	local_free(a->local);
	load_free(a->load);
	http_client_free(a->http);
	monitor_free(a->monitor);
	control_free(a->control);
	if (a->drains_are_open)
		drain_control_close(&a->drains);
	if (a->host_is_open)
		host_close(&a->host);
	uv_handle_t *const own[] = { (uv_handle_t *)&a->drain_timer, (uv_handle_t *)&a->rest_timer,
		(uv_handle_t *)&a->terminate, (uv_handle_t *)&a->interrupt, (uv_handle_t *)&a->hangup };
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		uv_close(own[i], NULL);
	notify_close(&a->notify);
	if (!loop_finish(&a->loop, STOP_MS))
		log_warning("stopping without a program that was ended and runs on");
	services_clear(&a->services);
}

static void init_handles(struct agent *a)
{
	struct err err = { 0 };

	uv_loop_init(&a->loop);
	if (notify_open(&a->notify, &a->loop, &err))
		log_warning("%s; the service manager is not told of this process", err.text);
	uv_timer_init(&a->loop, &a->drain_timer);
	uv_timer_init(&a->loop, &a->rest_timer);
	uv_signal_init(&a->loop, &a->terminate);
	uv_signal_init(&a->loop, &a->interrupt);
	uv_signal_init(&a->loop, &a->hangup);
	retire_init(&a->retire, &a->loop, &a->services, agent_on_retired, a);
	a->drain_timer.data = a->terminate.data = a->interrupt.data = a->hangup.data = a;
	uv_signal_start(&a->terminate, on_stop_signal, SIGTERM);
	uv_signal_start(&a->interrupt, on_stop_signal, SIGINT);
	uv_signal_start(&a->hangup, agent_on_hangup, SIGHUP);
}

// The host is given back as it was found; the files that say what is ours go with it.
static int undo(struct agent *a)
{
	struct err err = { 0 };

	if (host_give_back(&a->host, &err)) {
		log_error("%s", err.text);
		return EXIT_FAILED;
	}
	remember_forget(a->config->run_dir);
	log_info("the host is as it was found");
	return EXIT_FINE;
}

int agent_run(struct config *config, const char *path, const json_t *options)
{
	struct agent a = { .config = config, .file = path, .options = options, .address = config->address };
	struct err err = { 0 };
	int code = EXIT_FINE;

	signal(SIGPIPE, SIG_IGN);
	// programs that we start (checks) inherit no capabilities of the unit's
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	init_handles(&a);
	int rc = host_may_change(&err);

	if (!rc)
		rc = open_all(&a, &err);
	if (rc) {
		char line[ERR_LINE_MAX];

		log_error("%s", err_line(&err, line, sizeof(line)));
		code = rc == -EPERM || rc == -EACCES ? EXIT_PERMISSION : EXIT_FAILED;
	} else {
		log_info("brass-agent %s: node %s, %zu backends, %zu directors, %zu static", BRASS_VERSION,
			config->node, config->backends.count, config->directors.count, config->statics.count);
		remember_load(config->run_dir, &a.address, &a.clients);
		uv_timer_start(&a.rest_timer, on_rest, REST_AFTER_MS, 0);
		agent_look(&a);
		for (size_t c = 0; c < a.clients.count; c++)
			client_start(a.clients.items[c]);
		// nobody has answered yet: what waits for this one at boot must not wait for a director
		notify_ready(&a.notify);
		uv_run(&a.loop, UV_RUN_DEFAULT);
		code = undo(&a);
	}
	close_all(&a);
	config_clear(a.config);
	free(a.config);
	return code;
}
