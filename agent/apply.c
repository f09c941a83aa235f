// SPDX-License-Identifier: Apache-2.0
#include "agent/apply.h"

#include "shared/util.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

static int device_index(const struct resource *r, struct err *err)
{
	int index = (int)if_nametoindex(r->dev);

	return index ? index : err_set(err, -ENODEV, NULL, "there is no device %s", r->dev);
}

static const char *module_of(const char *kind)
{
	static const struct {
		const char *kind, *module;
	} others[] = { { "ip6tnl", "ip6_tunnel" }, { "gre", "ip_gre" }, { "ip6gre", "ip6_gre" } };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strcmp(others[i].kind, kind) == 0)
			return others[i].module;
	return kind;
}

static int add_device(struct netsock *ns, const struct resource *r, struct err *err)
{
	const struct iflink_tunnel tunnel = { .kind = r->device_kind, .local = r->addr, .checksum = r->value };

	return strcmp(r->device_kind, "dummy") == 0 ? iflink_add_dummy(ns, r->dev, err)
						    : iflink_add_tunnel(ns, r->dev, &tunnel, err);
}

static int make_device(struct netsock *ns, const struct resource *r, const struct observed *observed, struct err *err)
{
	struct resource found;
	int rc = observe_resource(observed, r, &found) == PRESENCE_DOWN ? 0 : add_device(ns, r, err);

	if (rc == -EOPNOTSUPP)
		return err_set(err, rc, NULL, "the kernel has no %s devices: load them with \"modprobe %s\"",
			r->device_kind, module_of(r->device_kind));
	if (rc)
		return rc;
	int index = device_index(r, err);

	return index < 0 ? index : iflink_set_up(ns, index, err);
}

// A device of that name that is something else by now stays.
static int remove_device(struct netsock *ns, const struct resource *r, const struct observed *observed, struct err *err)
{
	const struct iflink *link = iflink_find(observed->links, observed->link_count, r->dev);
	struct resource found;
	enum presence presence = observe_resource(observed, r, &found);

	return presence == PRESENCE_THERE || presence == PRESENCE_DOWN ? iflink_delete(ns, link->index, err) : 0;
}

static int change_fou(const struct resource *r, bool add, struct err *err)
{
	int rc = add ? fou_add(&r->addr, r->sport, err) : fou_del(&r->addr, r->sport, err);

	if (rc == -EOPNOTSUPP && add)
		return err_set(err, rc, NULL, "the kernel has no fou: load it with \"modprobe fou\"");
	if (rc == -EADDRINUSE)
		return err_set(err, rc, NULL, "a program listens on UDP port %u", r->sport);
	return !add && (rc == -ENOENT || rc == -EINVAL || rc == -EOPNOTSUPP) ? 0 : rc;
}

// Read again, since it may have changed while the rest was done.
static int change_mirror(struct netsock *ns, const struct resource *r, bool add, struct err *err)
{
	struct route_mirror mirror = { 0 };
	int rc = route_mirror_read(ns, r->addr.family, r->table, add ? (uint32_t)r->value : 0, &mirror, err);

	if (!rc)
		rc = route_mirror_apply(ns, &mirror, err);
	route_mirror_clear(&mirror);
	return rc;
}

static int set_conf(struct netsock *ns, const struct resource *r, int32_t value, struct err *err)
{
	int index = device_index(r, err);

	return index < 0 ? index : iflink_set_conf(ns, index, r->conf, value, err);
}

// Gives back the original, unless someone has set another value since, or the device is gone.
static int restore_conf(struct netsock *ns, const struct resource *r, const struct observed *observed, struct err *err)
{
	const struct iflink *link = iflink_find(observed->links, observed->link_count, r->dev);

	if (!link || link->conf[r->conf] != r->value)
		return 0;
	return set_conf(ns, r, r->original, err);
}

static int change_vip(struct netsock *ns, const struct resource *r, bool add, struct err *err)
{
	const struct inet_prefix prefix = { r->addr, (uint8_t)(inet_addr_len(r->addr.family) * 8) };
	int index = (int)if_nametoindex(r->dev);

	if (add)
		return index ? ifaddr_add(ns, index, &prefix, err) : device_index(r, err);
	int rc = index ? ifaddr_del(ns, index, &prefix, err) : 0;

	return rc == -EADDRNOTAVAIL ? 0 : rc;
}

static int change_route(struct netsock *ns, const struct resource *r, bool add, struct err *err)
{
	struct route_default route = { .gateway = r->addr, .table = r->table };
	struct route_way way;
	int rc = route_lookup(ns, &r->addr, &way, err);

	if (rc)
		return add ? rc : 0; // the way is gone, and with it the route
	route.ifindex = way.ifindex;
	rc = add ? route_add_default(ns, &route, err) : route_del_default(ns, &route, err);
	return !add && (rc == -ESRCH || rc == -ENOENT) ? 0 : rc;
}

static int change_rule(struct netsock *ns, const struct resource *r, bool add, struct err *err)
{
	const struct route_rule rule = resource_rule(r);
	int rc = add ? route_add_rule(ns, &rule, err) : route_del_rule(ns, &rule, err);

	return !add && (rc == -ENOENT || rc == -ESRCH) ? 0 : rc;
}

static int run_op(struct netsock *ns, const struct plan_op *op, const struct observed *observed, struct err *err)
{
	const struct resource *r = &op->resource;
	bool add = op->verb != PLAN_REMOVE;

	switch (r->kind) {
	case RESOURCE_FOU:
		return change_fou(r, add, err);
	case RESOURCE_DEVICE:
		return add ? make_device(ns, r, observed, err) : remove_device(ns, r, observed, err);
	case RESOURCE_MIRROR:
		return change_mirror(ns, r, add, err);
	case RESOURCE_CONF:
		return add ? set_conf(ns, r, r->value, err) : restore_conf(ns, r, observed, err);
	case RESOURCE_VIP:
		return change_vip(ns, r, add, err);
	case RESOURCE_ROUTE:
		return change_route(ns, r, add, err);
	case RESOURCE_RULE:
		return change_rule(ns, r, add, err);
	}
	return -EINVAL;
}

static bool keeps_arp_quiet(const struct resource *r)
{
	return r->kind == RESOURCE_CONF && (r->conf == IPV4_DEVCONF_ARP_IGNORE || r->conf == IPV4_DEVCONF_ARP_ANNOUNCE);
}

size_t apply_plan(struct netsock *ns, struct plan *plan, const struct observed *observed)
{
	bool would_answer_arp = false;
	size_t failed = 0;

	for (size_t i = 0; i < plan->count; i++) {
		struct plan_op *op = &plan->ops[i];
		const struct resource *r = &op->resource;
		struct err err = { 0 };

		if (op->verb == PLAN_CONFLICT) {
			would_answer_arp |= keeps_arp_quiet(r);
			continue;
		}
		if (would_answer_arp && op->verb != PLAN_REMOVE && r->kind == RESOURCE_VIP && r->addr.family == AF_INET)
			op->error =
				err_set(&err, -EPROTO, NULL, "not added, because this host would answer ARP for it");
		else
			op->error = run_op(ns, op, observed, &err);
		if (op->error == -ENODEV && r->kind == RESOURCE_CONF)
			op->error = 0; // unplugged in the meantime: nobody there to answer ARP
		if (!op->error)
			continue;
		char command[RESOURCE_COMMAND_MAX];

		snprintf(op->why, sizeof(op->why), "%.80s: %.70s",
			resource_command(r, op->verb != PLAN_REMOVE, command), err.text);
		if (op->verb != PLAN_REMOVE)
			would_answer_arp |= keeps_arp_quiet(r);
		failed++;
	}
	return failed;
}
