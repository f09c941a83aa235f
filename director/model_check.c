// SPDX-License-Identifier: Apache-2.0
// What the field tables cannot say: fields that must suit each other, and what the kernel could not carry out.
#include "director/model.h"

#include "shared/util.h"

#include <errno.h>
#include <string.h>

static const char *family_name(int family)
{
	return family == AF_INET6 ? "IPv6" : "IPv4";
}

static int check_place(struct service_options *options, struct err *err)
{
	const bool has_host = inet_addr_is_set(&options->host);
	const bool has_port = options->port || field_is_set(&service_fields, options, "port");

	if (options->fwmark) {
		const char *extra = has_host                                 ? "host"
			: options->port                                      ? "port"
			: field_is_set(&service_fields, options, "protocol") ? "protocol"
									     : NULL;

		return extra
			? err_set(err, -EINVAL, extra,
				  "a service by firewall mark has none: the rules that set the mark say which packets "
				  "they are")
			: 0;
	}
	if (!has_host || !has_port)
		return err_set(err, -EINVAL, has_host ? "port" : "host", "missing; a service needs it (or fwmark)");
	if (field_is_set(&service_fields, options, "family") && options->family != options->host.family)
		return err_set(err, -EINVAL, "family", "found %s for an %s address; it is for firewall marks",
			options->family == AF_INET6 ? "ipv6" : "ipv4", family_name(options->host.family));
	options->family = options->host.family;
	if (inet_addr_is_loopback(&options->host))
		return err_set(err, -EINVAL, "host", "a loopback address is never seen by clients");
	return 0;
}

// Whoever reaches the API would run programs here, as this daemon's user: only those that its own file lets them.
static int check_pulse(const struct check_spec *pulse, const struct check_folders *folders, struct err *err)
{
	int rc = check_complete(pulse, err);

	if (!rc)
		rc = check_may_exec(pulse, folders, err) ? -EINVAL : 0;
	if (rc)
		err_prefix(err, "pulse");
	return rc;
}

static int check_pool(const struct pool_options *pool, struct err *err)
{
	if (pool->quorum.down > pool->quorum.up)
		return err_set(err, -EINVAL, "quorum.down", "found %u, allowed is at most quorum.up, which is %u",
			pool->quorum.down, pool->quorum.up);
	if (field_is_set(&zones_fields, &pool->zones, "spill") && !pool->zones.prefer.count)
		return err_set(err, -EINVAL, "zones.prefer", "missing; zones need at least one that is preferred");
	return 0;
}

int model_check_service(struct service_options *options, const struct check_folders *folders, struct err *err)
{
	int rc = check_place(options, err);

	if (!rc)
		rc = check_pulse(&options->pulse, folders, err);
	if (!rc)
		rc = check_pool(&options->pool, err);
	if (rc)
		return rc;
	if (!options->fwmark && !options->port && !options->persistent_s)
		return err_set(err, -EINVAL, "port",
			"found 0 (all ports), which needs persistent: the kernel schedules such a service by client");
	if (options->ops && options->protocol != IPPROTO_UDP)
		return err_set(err, -EINVAL, "ops", "one-packet scheduling is for udp services only");
	if (options->prefix && !options->persistent_s)
		return err_set(err, -EINVAL, "netmask", "it needs persistent: it says which clients persist together");
	if (options->prefix > 32 && options->family == AF_INET)
		return err_set(
			err, -EINVAL, "netmask", "found %u, allowed is 1 to 32 for an IPv4 service", options->prefix);
	if (*options->engine && !options->persistent_s)
		return err_set(err, -EINVAL, "pe", "it needs persistent: it says what persists");
	if (*options->engine && !options->fwmark && options->protocol != IPPROTO_UDP)
		return err_set(
			err, -EINVAL, "pe", "persistence engines read udp only (net/netfilter/ipvs/ip_vs_pe_sip.c)");
	return 0;
}

int model_check_fits(const struct service_core *service, const struct backend_core *options, struct err *err)
{
	const char *method = field_choice_name(forward_method_choices, options->method);

	if (options->method != FORWARD_NAT && options->port != service->port)
		return err_set(err, -EINVAL, "port",
			"found %u, allowed is the service's port %u: method %s does not rewrite ports", options->port,
			service->port, method);
	if (!forward_is_tunnel(options->method) && options->host.family != service->family)
		return err_set(err, -EINVAL, "host",
			"found an %s address for an %s service; another family needs a tunnel: ipip, gue or gre",
			family_name(options->host.family), family_name(service->family));
	if (options->method == FORWARD_NAT && service->ops)
		return err_set(err, -EINVAL, "method",
			"found nat, allowed are dr and tunnels: in one-packet mode replies of nat backends are lost");
	if (inet_addr_cmp(&options->host, &service->host) == 0 && forward_is_tunnel(options->method))
		return err_set(err, -EINVAL, "host", "the VIP itself cannot be a backend of method %s", method);
	if (options->lower > options->upper)
		return err_set(err, -EINVAL, "lower", "found %u, allowed is at most upper, which is %u", options->lower,
			options->upper);
	return tunnel_check(options->method, &options->tunnel, err);
}

int model_check_backend(const struct service_core *service, struct backend_options *options,
	const struct check_folders *folders, struct err *err)
{
	if (!options->port && service->port && field_is_set(&backend_fields, options, "port"))
		return err_set(err, -EINVAL, "port", "found 0, allowed is 1 to 65535, or nothing for the service's %u",
			service->port);
	if (!options->port)
		options->port = service->port;
	int rc = check_pulse(&options->pulse, folders, err);

	return rc ? rc : model_check_fits(service, &options->core, err);
}

int model_check_service_fits(const struct service *service, const struct service_options *options, struct err *err)
{
	for (const struct backend *b = service->backends; b; b = b->next) {
		int rc = model_check_fits(&options->core, &b->options, err);

		if (rc) {
			err_context(err, "backend %s would not fit: ", b->name);
			return rc;
		}
	}
	return 0;
}

const char *model_moved_service(const struct service *service, const struct service_options *options)
{
	const struct service_core *old = &service->options;

	if (inet_addr_cmp(&options->host, &old->host) != 0)
		return "host";
	if (options->port != old->port)
		return "port";
	if (options->fwmark != old->fwmark)
		return "fwmark";
	if (options->family != old->family)
		return "family";
	return options->protocol != old->protocol ? "protocol" : NULL;
}

const char *model_moved_backend(const struct backend *backend, const struct backend_options *options)
{
	if (inet_addr_cmp(&options->host, &backend->options.host) != 0)
		return "host";
	return options->port != backend->options.port ? "port" : NULL;
}
