// SPDX-License-Identifier: Apache-2.0
#include "director/model.h"

#include "shared/util.h"

#include <errno.h>
#include <linux/ip_vs.h>
#include <stdio.h>
#include <string.h>

#define IPVS_PERSISTENT_DEFAULT_S 300 // ipvsadm's own default
#define IPVS_PERSISTENT_MAX_S 86400

// --- field tables ---

// One bit has one meaning a scheduler; the plain names are printed (ipvsadm(8), --sched-flags).
static const struct field_choice flag_choices[] = {
	{ "flag-1", IP_VS_SVC_F_SCHED1 },
	{ "flag-2", IP_VS_SVC_F_SCHED2 },
	{ "flag-3", IP_VS_SVC_F_SCHED3 },
	{ "sh-fallback", IP_VS_SVC_F_SCHED_SH_FALLBACK },
	{ "sh-port", IP_VS_SVC_F_SCHED_SH_PORT },
	{ "mh-fallback", IP_VS_SVC_F_SCHED1 },
	{ "mh-port", IP_VS_SVC_F_SCHED2 },
	{ NULL, 0 },
};

static int parse_persistent(const json_t *json, void *member, struct err *err)
{
	msec_t ms = 0;

	if (json_is_boolean(json)) {
		*(uint32_t *)member = json_is_true(json) ? IPVS_PERSISTENT_DEFAULT_S : 0;
		return 0;
	}
	if (!json_is_string(json) || clock_parse_duration(json_string_value(json), &ms) || ms % 1000 || ms < 1000 ||
		ms > (msec_t)IPVS_PERSISTENT_MAX_S * 1000)
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is true, false or a time from 1s to 1d in whole seconds",
			json_is_string(json) ? json_string_value(json) : field_json_kind(json));
	*(uint32_t *)member = (uint32_t)(ms / 1000);
	return 0;
}

static bool print_persistent(const void *member, struct out *out)
{
	uint32_t seconds = *(const uint32_t *)member;
	char buf[CLOCK_DURATION_MAX];

	if (seconds == 0 || seconds == IPVS_PERSISTENT_DEFAULT_S)
		out_bool(out, seconds);
	else
		out_string(out, clock_format_duration((msec_t)seconds * 1000, buf));
	return true;
}

static int parse_scheduler(const json_t *json, void *member, struct err *err)
{
	const char *name = json_string_value(json);

	// IP_VS_SCHEDNAME_MAXLEN is 16; whether the kernel has it only the kernel knows
	if (!name || !*name || strlen(name) > 15 ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name))
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is the name of an IPVS scheduler: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, "
			"sed, nq, "
			"fo, ovf, mh, twos",
			name ? name : field_json_kind(json));
	memset(member, 0, 16);
	memcpy(member, name, strlen(name));
	return 0;
}

static bool print_scheduler(const void *member, struct out *out)
{
	out_string(out, member);
	return true;
}

#define SVC(member) \
	.offset = offsetof(struct service_options, member), .size = sizeof(((struct service_options *)NULL)->member)
#define BE(member) \
	.offset = offsetof(struct backend_options, member), .size = sizeof(((struct backend_options *)NULL)->member)

static const struct field service_rows[] = {
	{ "host", FIELD_ADDR, SVC(host), .required = true, .help = "VIP" },
	{ "port", FIELD_UINT, SVC(port), .min = 1, .max = 65535, .required = true,
		.help = "port of the virtual service" },
	{ "protocol", FIELD_CHOICE, SVC(protocol), .choices = transport_choices, .def = "\"tcp\"",
		.help = "transport protocol" },
	{ "method", FIELD_CUSTOM, SVC(scheduler), .parse = parse_scheduler, .print = print_scheduler, .def = "\"wrr\"",
		.help = "scheduler, by the name that the kernel gives it" },
	{ "flags", FIELD_FLAGS, SVC(flags), .choices = flag_choices, .help = "scheduler flags" },
	{ "persistent", FIELD_CUSTOM, SVC(persistent_s), .parse = parse_persistent, .print = print_persistent,
		.def = "false", .help = "a client keeps its real server: true (300s) or a time" },
	{ "ops", FIELD_BOOL, SVC(ops), .def = "false", .help = "one-packet scheduling, for UDP" },
	{ "pulse", FIELD_OBJECT, SVC(pulse), .sub = &check_fields, .def = "{\"type\": \"none\"}",
		.help = "check for backends that agents register" },
};

const struct field_table service_fields = {
	.what = "service",
	.rows = service_rows,
	.count = ARRAY_SIZE(service_rows),
	.size = sizeof(struct service_options),
	.set_offset = offsetof(struct service_options, set),
};

static const struct field backend_rows[] = {
	{ "host", FIELD_ADDR, BE(host), .required = true, .help = "RIP" },
	{ "port", FIELD_UINT, BE(port), .min = 1, .max = 65535,
		.help = "port of the real server; default: the service's (dr and ipip cannot change it)" },
	{ "weight", FIELD_UINT, BE(weight), .min = 0, .max = 65535, .def = "100", .help = "share of new connections" },
	{ "method", FIELD_CHOICE, BE(method), .choices = forward_method_choices, .def = "\"nat\"",
		.help = "forwarding method; tunnel is another word for ipip" },
	{ "pulse", FIELD_OBJECT, BE(pulse), .sub = &check_fields, .def = "{}", .help = "health check" },
};

const struct field_table backend_fields = {
	.what = "backend",
	.rows = backend_rows,
	.count = ARRAY_SIZE(backend_rows),
	.size = sizeof(struct backend_options),
	.set_offset = offsetof(struct backend_options, set),
};

// --- validation across fields ---

int model_check_service(const struct service_options *options, struct err *err)
{
	if (options->ops && options->protocol != IPPROTO_UDP)
		return err_set(err, -EINVAL, "ops", "one-packet scheduling is for udp services only");
	if (inet_addr_is_loopback(&options->host))
		return err_set(err, -EINVAL, "host", "a loopback address is never seen by clients");
	return 0;
}

static int check_pair(const struct service_options *service, const struct backend_options *options, struct err *err)
{
	bool rewrites_port = options->method == FORWARD_NAT;

	if (!rewrites_port && options->port != service->port)
		return err_set(err, -EINVAL, "port",
			"found %u, allowed is the service's port %u: method %s does not rewrite ports", options->port,
			service->port, field_choice_name(forward_method_choices, options->method));
	if (options->method != FORWARD_IPIP && options->host.family != service->host.family)
		return err_set(err, -EINVAL, "host",
			"found an %s address for an %s service; another family needs method ipip",
			options->host.family == AF_INET6 ? "IPv6" : "IPv4",
			service->host.family == AF_INET6 ? "IPv6" : "IPv4");
	if (options->method == FORWARD_NAT && service->ops)
		return err_set(err, -EINVAL, "method",
			"found nat, allowed are dr and ipip: in one-packet mode replies of nat backends are lost");
	if (inet_addr_cmp(&options->host, &service->host) == 0 && options->method == FORWARD_IPIP)
		return err_set(err, -EINVAL, "host", "the VIP itself cannot be a backend of method ipip");
	return 0;
}

int model_check_backend(const struct service *service, struct backend_options *options, struct err *err)
{
	if (!options->port)
		options->port = service->options.port;
	return check_pair(&service->options, options, err);
}

int model_check_service_change(const struct service *service, const struct service_options *options, struct err *err)
{
	static const char *const fixed[] = { "host", "port", "protocol" };
	const struct service_options *old = &service->options;
	const bool changed[] = { inet_addr_cmp(&options->host, &old->host) != 0, options->port != old->port,
		options->protocol != old->protocol };

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		if (changed[i])
			return err_set(err, -EINVAL, fixed[i],
				"cannot be changed: it is the service's identity in the kernel; make a new service");
	for (const struct backend *b = service->backends; b; b = b->hh.next) {
		int rc = check_pair(options, &b->options, err);

		if (rc) {
			err_context(err, "backend %s would not fit: ", b->name);
			return rc;
		}
	}
	return model_check_service(options, err);
}

const struct check_spec *model_pulse(const struct backend *backend)
{
	return backend->agent ? &backend->service->options.pulse : &backend->options.pulse;
}

// --- lookup and life cycle ---

static struct service_key key_of(const struct service_options *options)
{
	struct service_key key;

	memset(&key, 0, sizeof(key)); // the hash sees padding
	key.vip.addr = options->host;
	key.vip.port = options->port;
	key.protocol = options->protocol;
	return key;
}

struct service *model_service(const struct model *model, const char *name)
{
	struct service *service = NULL;

	HASH_FIND_STR(model->services, name, service);
	return service;
}

struct service *model_service_by_key(const struct model *model, const struct service_options *options)
{
	const struct service_key key = key_of(options);
	struct service *service = NULL;

	HASH_FIND(hh_key, model->by_key, &key, sizeof(key), service);
	return service;
}

struct backend *model_backend(const struct service *service, const char *name)
{
	struct backend *backend = NULL;

	HASH_FIND_STR(service->backends, name, backend);
	return backend;
}

struct backend *model_backend_at(const struct service *service, const struct inet_addr *host, uint16_t port)
{
	for (struct backend *b = service->backends; b; b = b->hh.next)
		if (b->options.port == port && inet_addr_cmp(&b->options.host, host) == 0)
			return b;
	return NULL;
}

struct agent *model_agent(const struct model *model, const char *node)
{
	struct agent *agent = NULL;

	HASH_FIND_STR(model->agents, node, agent);
	return agent;
}

struct service *model_add_service(struct model *model, const char *name, const struct service_options *options)
{
	struct service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	snprintf(service->name, sizeof(service->name), "%s", name);
	service->options = *options;
	service->key = key_of(options);
	HASH_ADD_STR(model->services, name, service);
	HASH_ADD(hh_key, model->by_key, key, sizeof(service->key), service);
	return service;
}

struct backend *model_add_backend(
	struct service *service, const char *name, const struct backend_options *options, struct agent *agent)
{
	struct backend *backend = calloc(1, sizeof(*backend));

	if (!backend)
		return NULL;
	snprintf(backend->name, sizeof(backend->name), "%s", name);
	backend->service = service;
	backend->options = *options;
	backend->agent = agent;
	if (agent) {
		backend->agent_next = agent->backends;
		agent->backends = backend;
	}
	HASH_ADD_STR(service->backends, name, backend);
	return backend;
}

struct agent *model_add_agent(struct model *model, const char *node)
{
	struct agent *agent = calloc(1, sizeof(*agent));

	if (!agent)
		return NULL;
	snprintf(agent->node, sizeof(agent->node), "%s", node);
	HASH_ADD_STR(model->agents, node, agent);
	return agent;
}

void model_set_service(struct service *service, const struct service_options *options)
{
	service->options = *options;
}

void model_remove_backend(struct backend *backend)
{
	if (backend->agent) {
		struct backend **link = &backend->agent->backends;

		while (*link != backend)
			link = &(*link)->agent_next;
		*link = backend->agent_next;
	}
	HASH_DEL(backend->service->backends, backend);
	free(backend);
}

void model_remove_service(struct model *model, struct service *service)
{
	while (service->backends)
		model_remove_backend(service->backends);
	HASH_DEL(model->services, service);
	HASH_DELETE(hh_key, model->by_key, service);
	free(service);
}

void model_remove_agent(struct model *model, struct agent *agent)
{
	HASH_DEL(model->agents, agent);
	protocol_report_clear(&agent->report);
	free(agent);
}

void model_clear(struct model *model)
{
	while (model->services)
		model_remove_service(model, model->services);
	while (model->agents)
		model_remove_agent(model, model->agents);
}
