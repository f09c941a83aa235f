// SPDX-License-Identifier: Apache-2.0
#include "agent/doctor.h"

#include "agent/doctor_checks.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// In the order in which they are told: what others rest on comes first.
static const struct {
	const char *name;
	void (*of_host)(struct doctor *d);
	void (*of_service)(struct doctor *d, const struct doctor_case *c);
} checks[] = {
	{ "director", doctor_check_director, NULL },
	{ "lease", doctor_check_lease, NULL },
	{ "address", doctor_check_address, NULL },
	{ "rules", doctor_check_filter_seen, NULL },
	{ "backend", NULL, doctor_check_backend },
	{ "module", NULL, doctor_check_module },
	{ "tunnel", NULL, doctor_check_tunnel },
	{ "arp", NULL, doctor_check_arp },
	{ "vip", NULL, doctor_check_vip },
	{ "duplicate", NULL, doctor_check_duplicate },
	{ "program", NULL, doctor_check_program },
	{ "way in", NULL, doctor_check_way_in },
	{ "way out", NULL, doctor_check_way_out },
	{ "mss", NULL, doctor_check_mss },
	{ "filter", NULL, doctor_check_filter },
	{ "conntrack", NULL, doctor_check_conntrack },
	{ "dnat", NULL, doctor_check_dnat },
};

// Of the host, too, but after all others: they compare with how it was at the start.
static const struct {
	const char *name;
	void (*of_host)(struct doctor *d);
} late_checks[] = {
	{ "offload", doctor_check_offload },
	{ "clock", doctor_check_clock },
};

static void look_at_host(struct doctor *d)
{
	char address[INET_ADDR_MAX];

	doctor_begin(&d->report, "", "host %s, address %s", d->config->node,
		inet_addr_is_set(&d->answers.address) ? inet_addr_format(&d->answers.address, address) : "not known");
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		d->report.check = checks[i].name;
		if (checks[i].of_host)
			checks[i].of_host(d);
	}
}

static void begin_case(struct doctor *d, const struct doctor_case *c)
{
	const struct inet_endpoint vip = { c->service->vip, c->service->port };
	char at[INET_ENDPOINT_MAX], source[CLIENT_URL_MAX + 24] = "static";

	if (c->client)
		snprintf(source, sizeof(source), "as %s %s", c->client->url, c->client->fresh ? "says" : "said last");
	doctor_begin(&d->report, c->service->name, "%s: %s, %s %s%s%s, %s", c->service->name,
		field_choice_name(forward_method_choices, c->service->method),
		field_choice_name(transport_choices, c->service->protocol),
		vip.port ? inet_endpoint_format(&vip, at) : inet_addr_format(&vip.addr, at), *c->device ? " on " : "",
		c->device, source);
}

static bool same_place(const struct spec_service *a, const struct spec_service *b)
{
	return inet_addr_cmp(&a->vip, &b->vip) == 0 && a->port == b->port && a->protocol == b->protocol &&
		(a->method != FORWARD_NAT || inet_addr_cmp(&a->gateway, &b->gateway) == 0);
}

// No director says what it is: there is nothing to look at.
static void look_for_service(struct doctor *d, const struct config_backend *backend, size_t b)
{
	doctor_begin(&d->report, backend->service, "%s: %s", backend->service,
		field_choice_name(forward_method_choices, backend->method));
	d->report.check = "backend";
	for (size_t i = 0; i < d->answers.count; i++) {
		const char *url = d->answers.clients[i].url;

		if (d->answers.directors[i].backends[b].status == 404)
			doctor_say(&d->report, DOCTOR_WRONG, "%s has no service of that name", url);
		else if (d->answers.directors[i].backends[b].status == 200)
			doctor_say(&d->report, DOCTOR_WRONG,
				"the service at %s has no VIP: agents cannot serve firewall marks", url);
		else
			doctor_say(&d->report, DOCTOR_UNSEEN, "%s does not say what it is", url);
	}
}

// Several directors may know it. Where they say the same it is told once, with what differs from one to the other.
// Returns whether any knows it.
static bool look_at_cases(struct doctor *d, const char *name)
{
	const struct spec *spec = &d->services.spec;
	const struct spec_service *before = NULL;

	for (size_t i = 0; i < spec->count; i++) {
		const struct spec_service *service = &spec->services[i];

		if (strcmp(service->name, name) != 0)
			continue;
		const struct doctor_case c = doctor_case(d, i);

		if (!before || !same_place(before, service))
			begin_case(d, &c);
		before = service;
		for (size_t k = 0; k < ARRAY_SIZE(checks); k++) {
			d->report.check = checks[k].name;
			if (checks[k].of_service)
				checks[k].of_service(d, &c);
		}
	}
	return before;
}

// A static service is called by its VIP, as status has it; several ports of it are several services of that name.
static bool is_first_of_its_name(const struct config_statics *statics, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (inet_addr_cmp(&statics->items[k].host, &statics->items[i].host) == 0)
			return false;
	return true;
}

static void look_at_static(struct doctor *d, const char *vip)
{
	if (look_at_cases(d, vip))
		return;
	doctor_begin(&d->report, vip, "%s: static", vip);
	d->report.check = "address";
	doctor_say(&d->report, DOCTOR_UNSEEN, "it cannot be looked at without this host's address");
}

static bool is_configured(const struct config *config, const char *service)
{
	char vip[INET_ADDR_MAX];

	for (size_t i = 0; i < config->backends.count; i++)
		if (strcmp(config->backends.items[i].service, service) == 0)
			return true;
	for (size_t i = 0; i < config->statics.count; i++)
		if (strcmp(inet_addr_format(&config->statics.items[i].host, vip), service) == 0)
			return true;
	return false;
}

static void look(struct doctor *d, const char *service)
{
	const struct config_backends *backends = &d->config->backends;
	const struct config_statics *statics = &d->config->statics;
	char vip[INET_ADDR_MAX];

	look_at_host(d);
	for (size_t b = 0; b < backends->count; b++) {
		const char *name = backends->items[b].service;

		if ((!service || strcmp(name, service) == 0) && !look_at_cases(d, name))
			look_for_service(d, &backends->items[b], b);
	}
	for (size_t i = 0; i < statics->count; i++) {
		inet_addr_format(&statics->items[i].host, vip);
		if ((!service || strcmp(vip, service) == 0) && is_first_of_its_name(statics, i))
			look_at_static(d, vip);
	}
	doctor_return_to_host(&d->report);
	for (size_t i = 0; i < ARRAY_SIZE(late_checks); i++) {
		d->report.check = late_checks[i].name;
		late_checks[i].of_host(d);
	}
}

int doctor_word(const struct words_call *call)
{
	const char *service = call->argument, *client = json_string_value(json_object_get(call->given, "client"));
	struct doctor d;
	struct err err = { 0 };
	int code = 2;

	// what is read may have its own words for the log; here they are findings
	log_set_level(LOG_LEVEL_ERROR);
	if (service && !is_configured(call->config, service)) {
		fprintf(stderr, "brass-agent: %s is no service of the configuration\n", service);
		return code;
	}
	if (doctor_read(call->config, service, client, &d, &err)) {
		fprintf(stderr, "brass-agent: %s\n", err.text);
	} else {
		look(&d, service);
		if (json_object_get(call->given, "json"))
			doctor_print_json(&d.report);
		else
			doctor_print(&d.report, json_object_get(call->given, "verbose") != NULL);
		const enum doctor_status worst = doctor_worst(&d.report);
		code = worst == DOCTOR_WRONG ? 2 : worst == DOCTOR_OK ? 0 : 1;
	}
	doctor_clear(&d);
	return code;
}
