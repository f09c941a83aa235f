// SPDX-License-Identifier: Apache-2.0
// One direction: answers and events change what is wanted or what is there; the host is reconciled; what came of it is
// reported when it differs from what was said last. Stopping is the same with a spec that has become empty, after the
// connections are gone.
#include "agent/agent.h"

#include "agent/client.h"
#include "agent/control.h"
#include "agent/drain_control.h"
#include "agent/host.h"
#include "agent/load.h"
#include "agent/local.h"
#include "agent/monitor.h"
#include "agent/remember.h"
#include "agent/services.h"
#include "agent/status.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

// RUNNING -(signal)-> DRAINING -(no connections, or time over, or second signal)-> LEAVING -(all said)-> stopped
enum phase { PHASE_RUNNING, PHASE_DRAINING, PHASE_LEAVING };

struct agent {
	const struct config *config;
	uv_loop_t loop;
	struct http_client *http;
	struct host host;
	struct monitor *monitor;
	struct control *control;
	struct local *local;
	struct load *load; // NULL: no weight depends on it
	bool host_failed;  // the last look ended with an error
	struct client *clients;
	size_t client_count;
	char boot[PROTOCOL_BOOT_MAX + 1];
	struct inet_addr address;          // RIP; not set: not known yet
	const struct client *address_from; // whose connection showed it; NULL: configured, or of an earlier run
	bool address_by_route;             // or the default route did
	struct services services;
	enum phase phase;
	struct drain_control drains;
	struct drain drain; // of the stop
	uv_timer_t drain_timer;
	uv_signal_t terminate, interrupt;
	size_t gone; // clients that have left
	bool host_is_open, drains_are_open;
};

// --- what directors are told ---

static json_t *make_report(void *ctx, struct client *client)
{
	struct agent *a = ctx;

	// the address of an earlier run may be another host's by now
	if (!inet_addr_is_set(&a->config->address) && !a->address_from)
		return NULL;
	return services_report(&a->services, client, a->boot, a->phase != PHASE_RUNNING);
}

// Hears of a change: the next request of each client carries it, and who watches sees it. A client compares with what
// it sent last.
static void push_changes(struct agent *a)
{
	control_changed(a->control);
	for (size_t c = 0; c < a->client_count; c++)
		client_push_if_changed(&a->clients[c]);
}

// --- the host ---

static bool anything_is_known(const struct agent *a)
{
	if (!a->config->backends.count)
		return true;
	for (size_t c = 0; c < a->client_count; c++)
		if (a->clients[c].has_answer)
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

static bool depends_on_load(const struct config *config)
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

static void look(void *ctx)
{
	struct agent *a = ctx;
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
	a->host_failed = rc;
	if (rc)
		log_error("cannot set up the host: %s; tried again at the next event or check", err.text);
	want_local(a);
	judge(a, rc ? err.text : NULL);
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

	control_changed(a->control);
	if (!moved && (!client->has_answer || services_are_current(&a->services, client)))
		return;
	look(a);
	remember_save(a->config->run_dir, &a->address, a->clients, a->client_count);
}

static void on_failed(void *ctx, struct client *client)
{
	const struct agent *a = ctx;

	(void)client; // it says so itself; the host stays as last known
	control_changed(a->control);
}

// --- stopping ---

static void stop_now(struct agent *a)
{
	uv_stop(&a->loop);
}

static void on_gone(void *ctx, struct client *client)
{
	struct agent *a = ctx;

	(void)client;
	if (++a->gone == a->client_count)
		stop_now(a);
}

static void leave(struct agent *a, const char *why)
{
	if (a->phase == PHASE_LEAVING)
		return;
	log_info("drain: over: %s", why);
	control_changed(a->control);
	uv_timer_stop(&a->drain_timer);
	a->phase = PHASE_LEAVING;
	for (size_t c = 0; c < a->client_count; c++)
		client_leave(&a->clients[c], a->boot);
	if (!a->client_count)
		stop_now(a);
}

static void on_drain_look(uv_timer_t *timer)
{
	struct agent *a = timer->data;
	const struct drain_count *count = &a->drain.count;

	drain_look(&a->drain, &a->services.spec, a->clients, a->client_count, true);
	control_changed(a->control);
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
	drain_control_pause(&a->drains);
	for (size_t c = 0; c < a->client_count; c++)
		client_poll(&a->clients[c], true);
	push_changes(a);
	uv_timer_start(&a->drain_timer, on_drain_look, DRAIN_LOOK_MS, DRAIN_LOOK_MS);
}

// --- what is asked over the control socket ---

static json_t *look_status(void *ctx, const json_t *request, bool *ret_more)
{
	static const char *const phases[] = { "running", "draining", "leaving" };
	const struct agent *a = ctx;
	const struct status_of of = {
		.services = &a->services,
		.host = &a->host,
		.boot = a->boot,
		.phase = phases[a->phase],
		.stopping = a->phase == PHASE_RUNNING ? NULL : &a->drain,
	};

	*ret_more = json_is_true(json_object_get(request, "watch"));
	return status_make(&of);
}

static int begin_drain(void *ctx, const json_t *request, struct err *err)
{
	struct agent *a = ctx;

	return drain_control_drain(&a->drains, request, err);
}

static int begin_undrain(void *ctx, const json_t *request, struct err *err)
{
	struct agent *a = ctx;

	return drain_control_undrain(&a->drains, request, err);
}

static json_t *look_drain(void *ctx, const json_t *request, bool *ret_more)
{
	const struct agent *a = ctx;

	return drain_control_progress(&a->drains, request, ret_more);
}

static const struct control_word control_words[] = {
	{ "status", NULL, look_status, status_same },
	{ "drain", begin_drain, look_drain, NULL },
	{ "undrain", begin_undrain, look_drain, NULL },
	{ NULL, NULL, NULL, NULL },
};

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

static int start_clients(struct agent *a)
{
	const struct config *config = a->config;
	const struct client_events events = { make_report, on_answered, on_failed, on_gone, a };
	a->clients = calloc(config->directors.count + 1, sizeof(*a->clients));
	if (!a->clients || services_init(&a->services, config, a->clients, config->directors.count))
		return -ENOMEM;
	for (; a->client_count < config->directors.count; a->client_count++) {
		int rc = client_init(&a->clients[a->client_count], &a->loop, a->http,
			config->directors.urls[a->client_count], config->node, config->ttl_ms, &events);

		if (rc)
			return rc;
	}
	return 0;
}

static int open_all(struct agent *a, struct err *err)
{
	const struct config *config = a->config;
	int rc = make_boot_id(a->boot);

	if (!rc)
		rc = host_open(config->run_dir, &a->host, err);
	a->host_is_open = !rc;
	if (!rc)
		rc = control_new(&a->loop, config->run_dir, control_words, a, &a->control, err);
	if (!rc)
		rc = monitor_new(&a->loop, config->check_interval_ms, look, a, &a->monitor, err);
	if (!rc && config->directors.count)
		rc = http_client_new(&a->loop, &a->http, err);
	if (!rc)
		rc = local_new(&a->loop, a->http, on_local_changed, a, &a->local, err);
	if (!rc && depends_on_load(config))
		rc = load_new(&a->loop, on_load_changed, a, &a->load, err);
	if (!rc && start_clients(a))
		rc = err_set(err, -ENOMEM, NULL, "out of memory");
	if (rc)
		return rc;
	a->drains_are_open = true;
	rc = drain_control_open(&a->drains, &a->loop, config, &a->services, a->clients, on_drains_changed, a, err);
	a->services.drains = &a->drains.drains;
	return rc;
}

static void close_all(struct agent *a)
{
	for (size_t c = 0; c < a->client_count; c++)
		client_close(&a->clients[c]);
	local_free(a->local);
	load_free(a->load);
	http_client_free(a->http);
	monitor_free(a->monitor);
	control_free(a->control);
	if (a->drains_are_open)
		drain_control_close(&a->drains);
	if (a->host_is_open)
		host_close(&a->host);
	uv_handle_t *const own[] = { (uv_handle_t *)&a->drain_timer, (uv_handle_t *)&a->terminate,
		(uv_handle_t *)&a->interrupt };
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		uv_close(own[i], NULL);
	uv_run(&a->loop, UV_RUN_DEFAULT); // until every handle is closed
	uv_loop_close(&a->loop);
	services_clear(&a->services);
	free(a->clients);
}

static void init_handles(struct agent *a)
{
	uv_loop_init(&a->loop);
	uv_timer_init(&a->loop, &a->drain_timer);
	uv_signal_init(&a->loop, &a->terminate);
	uv_signal_init(&a->loop, &a->interrupt);
	a->drain_timer.data = a->terminate.data = a->interrupt.data = a;
	uv_signal_start(&a->terminate, on_stop_signal, SIGTERM);
	uv_signal_start(&a->interrupt, on_stop_signal, SIGINT);
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

int agent_run(const struct config *config)
{
	struct agent a = { .config = config, .address = config->address };
	struct err err = { 0 };
	int code = EXIT_FINE;

	signal(SIGPIPE, SIG_IGN);
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
		remember_load(config->run_dir, &a.address, a.clients, a.client_count);
		look(&a);
		for (size_t c = 0; c < a.client_count; c++)
			client_start(&a.clients[c]);
		uv_run(&a.loop, UV_RUN_DEFAULT);
		code = undo(&a);
	}
	close_all(&a);
	return code;
}
