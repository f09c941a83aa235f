// SPDX-License-Identifier: Apache-2.0
// One direction: answers and events change what is wanted or what is there; the host is reconciled; what came of it is
// reported when it differs from what was said last. Stopping is the same with a spec that has become empty, after the
// connections are gone.
#include "agent/agent.h"

#include "agent/client.h"
#include "agent/control.h"
#include "agent/host.h"
#include "agent/load.h"
#include "agent/local.h"
#include "agent/lockdown.h"
#include "agent/monitor.h"
#include "agent/remember.h"
#include "agent/services.h"
#include "agent/sockets.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>

#define DRAIN_LOOK_MS 100
#define QUIET_LOOKS 3   // in a row without an open connection, here and at the directors
#define SILENT_LOOKS 20 // in a row without one here, whatever directors count

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
	struct services services;
	enum phase phase;
	msec_t drain_end_ms;
	int quiet_looks, silent_looks;
	uv_timer_t drain_timer;
	uv_signal_t terminate, interrupt;
	size_t gone; // clients that have left
	bool host_is_open;
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

// Hears of a change: the next request of each client carries it. A client compares with what it sent last.
static void push_changes(struct agent *a)
{
	for (size_t c = 0; c < a->client_count; c++)
		client_push_if_changed(&a->clients[c]);
}

// --- the host ---

static bool anything_is_known(const struct agent *a)
{
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
		snprintf(problem, size, "%s", local ? local : "not checked yet");
	}
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

static void look(void *ctx)
{
	struct agent *a = ctx;
	struct services *s = &a->services;
	struct err err = { 0 };

	if (a->phase == PHASE_LEAVING)
		return;
	if (services_build(s, &a->address)) {
		log_error("out of memory: the host stays as it is");
		return;
	}
	// while nothing is known, what an earlier run set up stays
	int rc = anything_is_known(a) ? host_reconcile(&a->host, &s->spec, &err) : 0;
	monitor_watch_main(a->monitor, a->host.follows_main);
	if (a->host.nft)
		monitor_watch_nft(a->monitor);
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
	if (changed)
		log_info("address %s: it routes to director %s", inet_addr_format(&a->address, text), client->url);
	return changed;
}

static void on_answered(void *ctx, struct client *client)
{
	struct agent *a = ctx;
	bool moved = take_address(a, client);

	if (!moved && (!client->has_answer || services_are_current(&a->services, client)))
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

// This host's own connections of all services. *ret_known: it has the program of each (TCP) service, so that it knows
// them all; with one in another network namespace, or gone, it does not.
static size_t open_sockets(const struct agent *a, bool *ret_known)
{
	const struct spec *spec = &a->services.spec;
	struct inet_endpoint *local = calloc(spec->count + 1, sizeof(*local));
	struct sockets sockets = { 0 };
	size_t count = 0;

	*ret_known = false;
	for (size_t i = 0; local && i < spec->count; i++) {
		const struct spec_service *s = &spec->services[i];

		if (s->protocol == IPPROTO_TCP)
			local[count++] =
				(struct inet_endpoint) { s->method == FORWARD_NAT ? a->address : s->vip, s->port };
	}
	// when they cannot be read the directors' numbers have to do
	if (count && sockets_count(local, count, &sockets, NULL) == 0)
		*ret_known = count == spec->count && sockets.listening == count;
	free(local);
	return sockets.open;
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
	bool all_quiet, known;
	size_t at_directors = open_at_directors(a, &all_quiet), here = open_sockets(a, &known);
	msec_t left = a->drain_end_ms - clock_now_ms();

	a->quiet_looks = all_quiet && !at_directors && !here ? a->quiet_looks + 1 : 0;
	// A director takes a handshake that its client gave up for an open connection, for a minute; in dr and ipip it
	// also never sees the server's FIN. Where the program listens here, its sockets are the truth.
	a->silent_looks = all_quiet && known && !here ? a->silent_looks + 1 : 0;
	if (a->quiet_looks >= QUIET_LOOKS) {
		leave(a, "no connection is open");
	} else if (a->silent_looks >= SILENT_LOOKS) {
		log_info("drain: %zu connections at the directors are stale: this host has none", at_directors);
		leave(a, "no connection is open here");
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

// Whose tunnel packets are taken. NULL: there is no tunnel.
static json_t *lockdown_status(struct agent *a)
{
	char text[PROTOCOL_REASON_MAX];
	uint64_t dropped;
	bool tunnels = false;

	for (size_t i = 0; i < a->services.spec.count; i++)
		tunnels |= forward_is_tunnel(a->services.spec.services[i].method);
	if (!tunnels)
		return NULL;
	lockdown_text(&a->services.spec, a->host.seen.links, a->host.seen.link_count, text, sizeof(text));
	json_t *json = json_pack("{s:s}", "state", text);

	if (json && a->host.seen.nft.is_there && nft_read_dropped(a->host.nft, &dropped, NULL) == 0)
		json_object_set_new(json, "dropped", json_integer((json_int_t)dropped));
	return json;
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
			json_array_append_new(services,
				services_status(&a->services, &a->clients[c], &a->config->backends.items[b],
					a->phase != PHASE_RUNNING));
	}
	for (size_t i = 0; i < a->host.journal.list.count; i++) {
		char command[RESOURCE_COMMAND_MAX];

		json_array_append_new(
			resources, json_string(resource_command(&a->host.journal.list.items[i], true, command)));
	}
	for (size_t i = 0; i < a->host.left.count; i++)
		if (*a->host.left.ops[i].why)
			json_array_append_new(problems, json_string(a->host.left.ops[i].why));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:o*}", "version", BRASS_VERSION, "node",
		a->config->node, "address", inet_addr_is_set(&a->address) ? inet_addr_format(&a->address, address) : "",
		"boot", a->boot, "state", phases[a->phase], "directors", directors, "services", services, "resources",
		resources, "problems", problems, "repairs", (json_int_t)a->host.repairs, "lockdown",
		lockdown_status(a));
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
	a->clients = calloc(config->directors.count, sizeof(*a->clients));
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
		rc = control_new(&a->loop, config->run_dir, make_status, a, &a->control, err);
	if (!rc)
		rc = monitor_new(&a->loop, config->check_interval_ms, look, a, &a->monitor, err);
	if (!rc)
		rc = http_client_new(&a->loop, &a->http, err);
	if (!rc)
		rc = local_new(&a->loop, a->http, on_local_changed, a, &a->local, err);
	if (!rc && depends_on_load(config))
		rc = load_new(&a->loop, on_load_changed, a, &a->load, err);
	if (!rc && start_clients(a))
		rc = err_set(err, -ENOMEM, NULL, "out of memory");
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

	a->services.spec.count = 0;
	int rc = host_reconcile(&a->host, &a->services.spec, &err);
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

static bool may_change_network(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	return syscall(SYS_capget, &head, sets) == 0 && sets[0].effective & 1u << CAP_NET_ADMIN;
}

int agent_run(const struct config *config)
{
	struct agent a = { .config = config, .address = config->address };
	struct err err = { 0 };
	int code = EXIT_FINE;

	signal(SIGPIPE, SIG_IGN);
	init_handles(&a);
	int rc = may_change_network()
		? open_all(&a, &err)
		: err_set(&err, -EPERM, NULL,
			  "no permission to change the network: run as root, or with CAP_NET_ADMIN");
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
