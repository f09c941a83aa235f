// SPDX-License-Identifier: Apache-2.0
// One direction: answers and events change what is wanted or what is there; the host is reconciled; what came of it is
// reported when it differs from what was said last. Stopping is the same with a spec that has become empty, after the
// connections are gone.
#include "agent/agent.h"

#include "agent/client.h"
#include "agent/control.h"
#include "agent/host.h"
#include "agent/monitor.h"
#include "agent/remember.h"
#include "agent/sockets.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define DRAIN_LOOK_MS 100
#define QUIET_LOOKS 3 // in a row without an open connection

// RUNNING -(signal)-> DRAINING -(no connections, or time over, or second signal)-> LEAVING -(all said)-> stopped
enum phase { PHASE_RUNNING, PHASE_DRAINING, PHASE_LEAVING };

// What came of one service at one director. Parallel to spec.services.
struct outcome {
	const struct client *client;
	char problem[PROTOCOL_REASON_MAX + 1];
};

struct agent {
	const struct config *config;
	uv_loop_t loop;
	struct http_client *http;
	struct host host;
	struct monitor *monitor;
	struct control *control;
	struct client *clients;
	size_t client_count;
	char boot[PROTOCOL_BOOT_MAX + 1];
	struct inet_addr address; // RIP; not set: not known yet
	struct spec spec;
	struct outcome *outcomes;
	enum phase phase;
	msec_t drain_end_ms;
	int quiet_looks;
	uv_timer_t drain_timer;
	uv_signal_t terminate, interrupt;
	size_t gone; // clients that have left
	bool host_is_open;
};

static void look(void *ctx);

// --- spec: configuration and answers ---

static const struct protocol_service *answered_service(const struct client *client, const char *name)
{
	for (size_t i = 0; client->has_answer && i < client->answer.count; i++)
		if (strcmp(client->answer.services[i].service, name) == 0)
			return &client->answer.services[i];
	return NULL;
}

static void add_service(struct agent *a, const struct client *client, const struct config_backend *backend)
{
	const struct protocol_service *answer = answered_service(client, backend->service);
	const struct config *config = a->config;

	if (!answer || !answer->known || !inet_addr_is_set(&answer->host))
		return;
	struct spec_service *service = &a->spec.services[a->spec.count];

	*service = (struct spec_service) {
		.vip = answer->host,
		.protocol = answer->protocol,
		.port = backend->port ? backend->port : answer->port,
		.method = backend->method,
	};
	memcpy(service->name, backend->service, sizeof(service->name));
	const struct inet_addr *gateway = inet_addr_is_set(&config->gateway) ? &config->gateway : &client->peer;
	if (gateway->family == answer->host.family && !inet_addr_is_loopback(gateway))
		service->gateway = *gateway;
	a->outcomes[a->spec.count] = (struct outcome) { .client = client };
	a->spec.count++;
}

static void build_spec(struct agent *a)
{
	a->spec.count = 0;
	a->spec.address = a->address;
	a->spec.table = a->config->nat_table;
	a->spec.priority = a->config->nat_priority;
	if (a->phase == PHASE_LEAVING || !inet_addr_is_set(&a->address))
		return;
	for (size_t c = 0; c < a->client_count; c++)
		for (size_t b = 0; b < a->config->backends.count; b++)
			add_service(a, &a->clients[c], &a->config->backends.items[b]);
}

static int outcome_index(const struct agent *a, const struct client *client, const char *service)
{
	for (size_t i = 0; i < a->spec.count; i++)
		if (a->outcomes[i].client == client && strcmp(a->spec.services[i].name, service) == 0)
			return (int)i;
	return -1;
}

static enum protocol_state state_of(
	const struct agent *a, const struct client *client, const char *service, const char **ret_reason)
{
	int i = outcome_index(a, client, service);

	*ret_reason = "";
	if (a->phase != PHASE_RUNNING) {
		*ret_reason = "the agent stops";
		return PROTOCOL_DRAIN;
	}
	if (i < 0)
		return PROTOCOL_SETUP;
	*ret_reason = a->outcomes[i].problem;
	return *a->outcomes[i].problem ? PROTOCOL_DOWN : PROTOCOL_UP;
}

static json_t *make_report(void *ctx, struct client *client)
{
	struct agent *a = ctx;
	const struct config *config = a->config;

	if (!inet_addr_is_set(&a->address))
		return NULL;
	struct protocol_report report = {
		.address = a->address,
		.ttl_ms = config->ttl_ms,
		.count = config->backends.count,
		.backends = calloc(config->backends.count + 1, sizeof(*report.backends)),
	};
	memcpy(report.boot, a->boot, sizeof(report.boot));
	for (size_t b = 0; report.backends && b < report.count; b++) {
		const struct config_backend *from = &config->backends.items[b];
		struct protocol_backend *to = &report.backends[b];
		const char *reason;
		int i = outcome_index(a, client, from->service);

		memcpy(to->service, from->service, sizeof(to->service));
		to->port = from->port;
		to->method = from->method;
		to->weight = from->weight;
		to->state = state_of(a, client, from->service, &reason);
		if (i >= 0)
			to->vip = a->spec.services[i].vip;
		snprintf(to->reason, sizeof(to->reason), "%s", reason);
	}
	json_t *json = report.backends ? protocol_report_to_json(&report) : NULL;

	protocol_report_clear(&report);
	return json;
}

// Hears of a change: the next request of each client carries it. A client compares with what it sent last.
static void push_changes(struct agent *a)
{
	for (size_t c = 0; c < a->client_count; c++)
		client_push_if_changed(&a->clients[c]);
}

// --- the host ---

static void look(void *ctx)
{
	struct agent *a = ctx;
	struct err err = { 0 };

	build_spec(a);
	// without an address nothing is known: what an earlier run set up stays until we know better
	int rc = inet_addr_is_set(&a->address) ? host_reconcile(&a->host, &a->spec, &err) : 0;
	for (size_t i = 0; i < a->spec.count; i++) {
		struct outcome *outcome = &a->outcomes[i];

		if (rc)
			snprintf(outcome->problem, sizeof(outcome->problem), "%.250s", err.text);
		else
			host_problem(
				&a->host, &a->spec, &a->spec.services[i], outcome->problem, sizeof(outcome->problem));
	}
	if (rc)
		log_error("cannot set up the host: %s; tried again at the next event or check", err.text);
	push_changes(a);
}

static bool same_wishes(const struct agent *a, const struct client *client)
{
	for (size_t b = 0; b < a->config->backends.count; b++) {
		const char *name = a->config->backends.items[b].service;
		const struct protocol_service *answer = answered_service(client, name);
		int i = outcome_index(a, client, name);

		if ((i >= 0) != (answer && answer->known && inet_addr_is_set(&answer->host)))
			return false;
		if (i >= 0 &&
			(inet_addr_cmp(&a->spec.services[i].vip, &answer->host) ||
				a->spec.services[i].protocol != answer->protocol ||
				(!a->config->backends.items[b].port && a->spec.services[i].port != answer->port)))
			return false;
	}
	return true;
}

static void on_answered(void *ctx, struct client *client)
{
	struct agent *a = ctx;

	if (!inet_addr_is_set(&a->address) && inet_addr_is_set(&client->local)) {
		char text[INET_ADDR_MAX];

		a->address = client->local;
		log_info("address %s: it routes to director %s", inet_addr_format(&a->address, text), client->url);
	}
	if (!client->has_answer || same_wishes(a, client))
		return;
	look(a);
	remember_save(a->config->run_dir, &a->address, a->clients, a->client_count);
}

static void on_failed(void *ctx, struct client *client)
{
	(void)ctx, (void)client; // it says so itself; the host stays as last known
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
	uv_timer_stop(&a->drain_timer);
	a->phase = PHASE_LEAVING;
	for (size_t c = 0; c < a->client_count; c++)
		client_leave(&a->clients[c], a->boot);
}

// This host's own open connections of all services.
static size_t open_sockets(const struct agent *a)
{
	struct inet_endpoint *local = calloc(a->spec.count + 1, sizeof(*local));
	size_t count = 0;

	for (size_t i = 0; local && i < a->spec.count; i++) {
		const struct spec_service *s = &a->spec.services[i];

		local[i] = (struct inet_endpoint) { s->method == FORWARD_NAT ? a->address : s->vip, s->port };
	}
	if (local && a->spec.count && sockets_count(local, a->spec.count, &count, NULL))
		count = 0; // the directors' numbers have to do
	free(local);
	return count;
}

// What the reachable directors still count, and whether each of them has stopped sending new connections.
static size_t open_at_directors(const struct agent *a, bool *ret_all_quiet)
{
	size_t open = 0;

	*ret_all_quiet = true;
	for (size_t c = 0; c < a->client_count; c++) {
		const struct client *client = &a->clients[c];

		if (client->state != CLIENT_REGISTERED)
			continue;
		for (size_t i = 0; i < client->answer.count; i++) {
			open += client->answer.services[i].active;
			if (client->answer.services[i].effective_weight)
				*ret_all_quiet = false;
		}
	}
	return open;
}

static void on_drain_look(uv_timer_t *timer)
{
	struct agent *a = timer->data;
	bool all_quiet;
	size_t at_directors = open_at_directors(a, &all_quiet), here = open_sockets(a);
	msec_t left = a->drain_end_ms - clock_now_ms();

	a->quiet_looks = all_quiet && !at_directors && !here ? a->quiet_looks + 1 : 0;
	if (a->quiet_looks >= QUIET_LOOKS) {
		leave(a, "no connection is open");
	} else if (left <= 0) {
		log_warning("drain: %zu connections at the directors and %zu here are cut off", at_directors, here);
		leave(a, "the drain time is over");
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
	a->drain_end_ms = clock_now_ms() + a->config->drain_ms;
	for (size_t c = 0; c < a->client_count; c++)
		client_poll(&a->clients[c]);
	uv_timer_start(&a->drain_timer, on_drain_look, DRAIN_LOOK_MS, DRAIN_LOOK_MS);
}

// --- status ---

static json_t *director_status(const struct client *client)
{
	msec_t now = clock_now_ms();
	char since[CLOCK_DURATION_MAX], retry[CLOCK_DURATION_MAX];

	json_t *json = json_pack("{s:s, s:s, s:s}", "url", client->url, "state",
		field_choice_name(client_state_choices, client->state), "since",
		clock_format_duration((now - client->state_since_ms) / 1000 * 1000, since));
	if (json && *client->error) {
		json_object_set_new(json, "error", json_string(client->error));
		json_object_set_new(json, "retry_in",
			json_string(clock_format_duration(client->retry_ms > now ? client->retry_ms - now : 0, retry)));
	}
	return json;
}

static json_t *service_status(const struct agent *a, const struct client *client, const struct config_backend *backend)
{
	const struct protocol_service *answer = answered_service(client, backend->service);
	int i = outcome_index(a, client, backend->service);
	char vip[INET_ADDR_MAX] = "";
	const char *reason;
	enum protocol_state state = state_of(a, client, backend->service, &reason);

	if (i >= 0)
		inet_addr_format(&a->spec.services[i].vip, vip);
	if (i < 0 && state == PROTOCOL_SETUP)
		reason = !answer         ? "the director has not said what it is"
			: *answer->error ? answer->error
					 : "not known yet";
	else if (answer && *answer->error && !*reason)
		reason = answer->error;
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:i}", "service", backend->service,
		"director", client->url, "state", field_choice_name(protocol_state_choices, state), "reason", reason,
		"vip", vip, "method", field_choice_name(forward_method_choices, backend->method), "device",
		i >= 0 ? desired_device(&a->spec, &a->spec.services[i]) : "", "status",
		answer && client->fresh ? answer->status : "unknown", "fresh", client->fresh, "effective_weight",
		answer && client->fresh ? (int)answer->effective_weight : 0, "active",
		answer && client->fresh ? (int)answer->active : 0);
}

static json_t *make_status(void *ctx)
{
	static const char *const phases[] = { "running", "draining", "leaving" };
	struct agent *a = ctx;
	char address[INET_ADDR_MAX];
	json_t *directors = json_array(), *services = json_array(), *resources = json_array(), *problems = json_array();

	for (size_t c = 0; c < a->client_count; c++) {
		json_array_append_new(directors, director_status(&a->clients[c]));
		for (size_t b = 0; b < a->config->backends.count; b++)
			json_array_append_new(
				services, service_status(a, &a->clients[c], &a->config->backends.items[b]));
	}
	for (size_t i = 0; i < a->host.journal.list.count; i++) {
		char command[RESOURCE_COMMAND_MAX];

		json_array_append_new(
			resources, json_string(resource_command(&a->host.journal.list.items[i], true, command)));
	}
	for (size_t i = 0; i < a->host.left.count; i++)
		if (*a->host.left.ops[i].why)
			json_array_append_new(problems, json_string(a->host.left.ops[i].why));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:I}", "version", BRASS_VERSION, "node",
		a->config->node, "address", inet_addr_is_set(&a->address) ? inet_addr_format(&a->address, address) : "",
		"boot", a->boot, "state", phases[a->phase], "directors", directors, "services", services, "resources",
		resources, "problems", problems, "repairs", (json_int_t)a->host.repairs);
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
	size_t pairs = config->directors.count * config->backends.count + 1;

	a->clients = calloc(config->directors.count, sizeof(*a->clients));
	a->spec.services = calloc(pairs, sizeof(*a->spec.services));
	a->outcomes = calloc(pairs, sizeof(*a->outcomes));
	if (!a->clients || !a->spec.services || !a->outcomes)
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
		rc = control_new(&a->loop, config->run_dir, make_status, a, &a->control, err);
	if (!rc)
		rc = monitor_new(&a->loop, config->check_interval_ms, look, a, &a->monitor, err);
	if (!rc)
		rc = http_client_new(&a->loop, &a->http, err);
	if (!rc && start_clients(a))
		rc = err_set(err, -ENOMEM, NULL, "out of memory");
	return rc;
}

static void close_all(struct agent *a)
{
	for (size_t c = 0; c < a->client_count; c++)
		client_close(&a->clients[c]);
	http_client_free(a->http);
	monitor_free(a->monitor);
	control_free(a->control);
	if (a->host_is_open)
		host_close(&a->host);
	uv_handle_t *const own[] = { (uv_handle_t *)&a->drain_timer, (uv_handle_t *)&a->terminate,
		(uv_handle_t *)&a->interrupt };
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		uv_close(own[i], NULL);
	uv_run(&a->loop, UV_RUN_DEFAULT); // until every handle is closed
	uv_loop_close(&a->loop);
	free(a->clients);
	free(a->spec.services);
	free(a->outcomes);
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

	a->spec.count = 0;
	int rc = host_reconcile(&a->host, &a->spec, &err);
	if (rc || a->host.journal.list.count) {
		log_error("the host could not be given back as it was: %s; see %s",
			rc                           ? err.text
				: a->host.left.count ? a->host.left.ops[0].why
						     : "?",
			a->host.journal.path);
		return EXIT_FAILED;
	}
	unlink(a->host.journal.path);
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
	int rc = geteuid() ? err_set(&err, -EPERM, NULL, "no permission to change the network: run as root")
			   : open_all(&a, &err);
	if (rc) {
		char line[ERR_LINE_MAX];

		log_error("%s", err_line(&err, line, sizeof(line)));
		code = rc == -EPERM || rc == -EACCES ? EXIT_PERMISSION : EXIT_FAILED;
	} else {
		log_info("brass-agent %s: node %s, %zu backends, %zu directors", BRASS_VERSION, config->node,
			config->backends.count, config->directors.count);
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
