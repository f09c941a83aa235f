// SPDX-License-Identifier: Apache-2.0
// All that can fail comes first and changes nothing; then everything is swapped at once. What stayed the same is not
// touched: connections to directors, verdicts of checks, what is on the host. What is gone is drained before it goes.
#include "agent/agent_internal.h"
#include "agent/reload.h"
#include "agent/remember.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// What a reload needs that is not there yet.
struct change {
	struct config *config;
	struct http_client *http;
	struct load *load;
	struct client_list clients, fresh; // as they shall be; those of them that are new
	size_t wanted;                     // the first so many are in the file
};

static void forget(struct change *change)
{
	for (size_t c = 0; c < change->fresh.count; c++)
		client_free(change->fresh.items[c]);
	http_client_free(change->http);
	load_free(change->load);
	if (change->config)
		config_clear(change->config);
	free(change->config);
}

static int add_client(struct change *change, struct client *client, struct err *err)
{
	if (change->clients.count == CLIENT_LIST_MAX)
		return err_set(err, -EBUSY, "directors", "%d are still being left: try again when that is done",
			CLIENT_LIST_MAX);
	change->clients.items[change->clients.count++] = client;
	return 0;
}

// In the order of the file; those that it no longer has come last.
static int choose_clients(struct agent *a, struct change *change, struct err *err)
{
	const struct config_directors *directors = &change->config->directors;
	int rc = 0;

	for (size_t d = 0; d < directors->count && !rc; d++) {
		struct client *client = reload_find(&a->clients, directors->urls[d]);

		if (reload_find(&change->clients, directors->urls[d]))
			continue; // named twice
		// one that has said goodbye cannot be taken back, but known anew
		if (client && client->state != CLIENT_LEAVING && client->state != CLIENT_GONE) {
			rc = add_client(change, client, err);
			continue;
		}
		if (agent_new_client(a, change->config, a->http ? a->http : change->http, directors->urls[d], &client))
			return err_set(err, -ENOMEM, NULL, "out of memory");
		change->fresh.items[change->fresh.count++] = client;
		rc = add_client(change, client, err);
	}
	change->wanted = change->clients.count;
	for (size_t c = 0; c < a->clients.count && !rc; c++) {
		struct client *client = a->clients.items[c];

		if (reload_find(&change->clients, client->url) != client)
			rc = add_client(change, client, err);
	}
	return rc;
}

static int prepare(struct agent *a, struct change *change, struct err *err)
{
	char message[CONFILE_MESSAGE_MAX];

	if (a->phase != PHASE_RUNNING)
		return err_set(err, -EBUSY, NULL, "the agent is stopping");
	change->config = calloc(1, sizeof(*change->config));
	if (!change->config)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	if (config_read(a->file, a->options, change->config, message))
		return err_set(err, -EINVAL, NULL, "%s", message);
	int rc = reload_check(a->config, change->config, err);
	if (!rc && !a->http && change->config->directors.count)
		rc = http_client_new(&a->loop, &change->http, err);
	if (!rc && !a->load && agent_depends_on_load(change->config))
		rc = agent_new_load(a, &change->load, err);
	if (!rc)
		rc = choose_clients(a, change, err);
	if (!rc &&
		(reload_keep_leaving(a->config, change->config) ||
			retire_reserve(&a->retire, a->clients.count + change->config->backends.count) ||
			services_reconfigure(&a->services, change->config)))
		rc = err_set(err, -ENOMEM, NULL, "out of memory");
	return rc;
}

// New connections end where the file has changed its mind, and go on where it has changed it back.
static void retire(struct agent *a, size_t wanted)
{
	const struct config *config = a->config;

	for (size_t c = 0; c < a->clients.count; c++) {
		struct client *client = a->clients.items[c];

		client->retiring = c >= wanted;
		client->ttl_ms = config->ttl_ms;
		if (!client->retiring)
			retire_forget(&a->retire, client, "");
		else if (client->state != CLIENT_LEAVING && client->state != CLIENT_GONE)
			retire_client(&a->retire, client, config->drain_ms);
	}
	for (size_t b = 0; b < config->backends.count; b++) {
		const struct config_backend *backend = &config->backends.items[b];

		if (backend->leaving)
			retire_service(&a->retire, backend->service, config->drain_ms);
		else
			retire_forget(&a->retire, NULL, backend->service);
	}
}

static void take_load(struct agent *a, struct change *change)
{
	if (change->load)
		a->load = STEAL(change->load);
	if (!agent_depends_on_load(a->config)) {
		load_free(a->load);
		a->load = NULL;
	}
	a->services.load_share = load_share(a->load);
}

static void take_over(struct agent *a, struct change *change)
{
	struct config *old = a->config;

	a->config = STEAL(change->config);
	a->drains.config = a->config;
	log_set_level((enum log_level)a->config->log_level);
	monitor_set_interval(a->monitor, a->config->check_interval_ms);
	if (change->http) {
		a->http = STEAL(change->http);
		local_use_http(a->local, a->http);
	}
	take_load(a, change);
	a->clients = change->clients;
	// without one in the file it is learnt from a connection, as at the start
	if (inet_addr_is_set(&a->config->address)) {
		a->address = a->config->address;
		a->address_by_route = false;
	}
	if (inet_addr_is_set(&a->config->address) || inet_addr_is_set(&old->address))
		a->address_from = NULL;
	retire(a, change->wanted);
	config_clear(old);
	free(old);
	agent_look(a);
	for (size_t c = 0; c < change->fresh.count; c++)
		client_start(change->fresh.items[c]);
	remember_save(a->config->run_dir, &a->address, &a->clients);
}

int agent_reload(struct agent *a, struct err *err)
{
	struct change change = { 0 };
	struct err why = { 0 };
	char line[ERR_LINE_MAX];

	notify_reloading(&a->notify);
	int rc = prepare(a, &change, &why);
	if (rc) {
		forget(&change);
		err_line(&why, line, sizeof(line));
		log_error("reload: %s; all stays as it was", line);
		snprintf(a->trouble, sizeof(a->trouble), "reload refused: %.140s", line);
		err_set(err, rc, NULL, "%s", line);
	} else {
		a->trouble[0] = '\0';
		take_over(a, &change);
		log_info("reload: %s: read again: %zu backends, %zu directors, %zu static", a->file,
			a->config->backends.count, a->config->directors.count, a->config->statics.count);
	}
	agent_show_changes(a);
	notify_ready(&a->notify);
	return rc;
}

void agent_on_retired(void *ctx, const struct retire_item *item)
{
	struct agent *a = ctx;
	struct config_backends *backends = &a->config->backends;
	size_t kept = 0;

	if (item->client) {
		client_leave(item->client, a->boot);
		return;
	}
	for (size_t b = 0; b < backends->count; b++)
		if (!backends->items[b].leaving || strcmp(backends->items[b].service, item->drain.service) != 0)
			backends->items[kept++] = backends->items[b];
	backends->count = kept;
	agent_look(a);
}

void agent_on_hangup(uv_signal_t *handle, int signal)
{
	struct err err = { 0 };

	(void)signal;
	agent_reload(handle->data, &err); // it has been logged
}
