// SPDX-License-Identifier: Apache-2.0
#include "agent/apply.h"

#include "shared/util.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

// What operations work with.
struct applying {
	struct netsock *ns, *nft;
	const struct observed *seen;
	bool devices_changed; // since it was seen
};

// As it was seen; as it is now, once an operation has made or removed a device.
static int device_index(const struct applying *a, const struct resource *r, struct err *err)
{
	const struct iflink *link =
		a->devices_changed ? NULL : iflink_find(a->seen->links, a->seen->link_count, r->dev);

	return link ? link->index : iflink_index(a->ns, r->dev, err);
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

static int add_device(const struct applying *a, const struct resource *r, struct err *err)
{
	const struct iflink_tunnel tunnel = { .kind = r->device_kind, .local = r->addr, .checksum = r->value };

	return strcmp(r->device_kind, "dummy") == 0 ? iflink_add_dummy(a->ns, r->dev, err)
						    : iflink_add_tunnel(a->ns, r->dev, &tunnel, err);
}

static int make_device(const struct applying *a, const struct resource *r, struct err *err)
{
	struct resource found;
	int rc = observe_resource(a->seen, r, &found) == PRESENCE_DOWN ? 0 : add_device(a, r, err);

	if (rc == -EOPNOTSUPP)
		return err_set(err, rc, NULL, "the kernel has no %s devices: load them with \"modprobe %s\"",
			r->device_kind, module_of(r->device_kind));
	if (rc)
		return rc;
	int index = device_index(a, r, err);

	return index < 0 ? index : iflink_set_up(a->ns, index, "made by brass-agent", err);
}

// A device of that name that is something else by now stays.
static int remove_device(const struct applying *a, const struct resource *r, struct err *err)
{
	const struct iflink *link = iflink_find(a->seen->links, a->seen->link_count, r->dev);
	struct resource found;
	enum presence presence = observe_resource(a->seen, r, &found);

	return presence == PRESENCE_THERE || presence == PRESENCE_DOWN ? iflink_delete(a->ns, link->index, err) : 0;
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
static int change_mirror(const struct applying *a, const struct resource *r, bool add, struct err *err)
{
	struct route_mirror mirror = { 0 };
	int rc = route_mirror_read(a->ns, r->addr.family, r->table, add ? (uint32_t)r->value : 0, &mirror, err);

	if (!rc)
		rc = route_mirror_apply(a->ns, &mirror, err);
	route_mirror_clear(&mirror);
	return rc;
}

// Not a device, so not for netlink (iflink.h).
static int set_all(const struct resource *r, int32_t value, struct err *err)
{
	const char *name = resource_conf_name(r->conf);
	char path[80], text[16];

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/all/%s", name);
	const int len = snprintf(text, sizeof(text), "%d\n", value);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, (size_t)len) == len)
		return 0;
	return err_set(err, -errno, NULL, "%s%s", strerror(errno),
		errno == EROFS || errno == EACCES ? " (the unit's ProtectKernelTunables=)" : "");
}

static int set_conf(const struct applying *a, const struct resource *r, int32_t value, struct err *err)
{
	if (resource_is_all(r))
		return set_all(r, value, err);
	int index = device_index(a, r, err);

	return index < 0 ? index : iflink_set_conf(a->ns, index, r->conf, value, err);
}

// Gives back the original, unless someone has set another value since, or the device is gone.
static int restore_conf(const struct applying *a, const struct resource *r, struct err *err)
{
	const struct iflink *link = iflink_find(a->seen->links, a->seen->link_count, r->dev);

	if (resource_is_all(r) ? a->seen->all[r->conf] != r->value : !link || link->conf[r->conf] != r->value)
		return 0;
	return set_conf(a, r, r->original, err);
}

static int change_vip(const struct applying *a, const struct resource *r, bool add, struct err *err)
{
	const struct inet_prefix prefix = { r->addr, (uint8_t)(inet_addr_len(r->addr.family) * 8) };
	int index = device_index(a, r, add ? err : NULL);

	if (index < 0)
		return add ? index : 0;
	int rc = add ? ifaddr_add(a->ns, index, &prefix, err) : ifaddr_del(a->ns, index, &prefix, err);

	return !add && (rc == -EADDRNOTAVAIL || rc == -ENODEV) ? 0 : rc;
}

static int change_route(const struct applying *a, const struct resource *r, bool add, struct err *err)
{
	struct route_default route = { .gateway = r->addr, .table = r->table };
	struct route_way way;
	int rc = route_lookup(a->ns, &r->addr, &way, err);

	if (rc)
		return add ? rc : 0; // the way is gone, and with it the route
	route.ifindex = way.ifindex;
	rc = add ? route_add_default(a->ns, &route, err) : route_del_default(a->ns, &route, err);
	return !add && (rc == -ESRCH || rc == -ENOENT) ? 0 : rc;
}

static int change_rule(const struct applying *a, const struct resource *r, bool add, struct err *err)
{
	const struct route_rule rule = resource_rule(r);
	int rc = add ? route_add_rule(a->ns, &rule, err) : route_del_rule(a->ns, &rule, err);

	return !add && (rc == -ENOENT || rc == -ESRCH) ? 0 : rc;
}

static int change_table(const struct applying *a, bool add, struct err *err)
{
	if (!a->nft) // another kernel than the one it was made in
		return add ? err_set(err, -EOPNOTSUPP, NULL, "this kernel has no nftables") : 0;
	return add ? nft_add_table(a->nft, &a->seen->nft, err) : nft_delete_table(a->nft, err);
}

// What is not there any more has no number.
static int change_nft_rule(const struct applying *a, const struct resource *r, bool add, struct err *err)
{
	const struct nft_rule rule = resource_nft_rule(r);

	if (!a->nft)
		return add ? err_set(err, -EOPNOTSUPP, NULL, "this kernel has no nftables") : 0;
	if (add)
		return nft_add_rule(a->nft, &rule, err);
	return r->original ? nft_delete_rule(a->nft, &rule, (uint64_t)r->original, err) : 0;
}

static int run_op(const struct applying *a, const struct plan_op *op, struct err *err)
{
	const struct resource *r = &op->resource;
	bool add = op->verb != PLAN_REMOVE;

	switch (r->kind) {
	case RESOURCE_TABLE:
		return change_table(a, add, err);
	case RESOURCE_ALLOW:
	case RESOURCE_LOCK:
		return change_nft_rule(a, r, add, err);
	case RESOURCE_FOU:
		return change_fou(r, add, err);
	case RESOURCE_DEVICE:
		return add ? make_device(a, r, err) : remove_device(a, r, err);
	case RESOURCE_MIRROR:
		return change_mirror(a, r, add, err);
	case RESOURCE_CONF:
		return add ? set_conf(a, r, r->value, err) : restore_conf(a, r, err);
	case RESOURCE_VIP:
		return change_vip(a, r, add, err);
	case RESOURCE_ROUTE:
		return change_route(a, r, add, err);
	case RESOURCE_RULE:
		return change_rule(a, r, add, err);
	}
	return -EINVAL;
}

static bool keeps_tunnels_shut(const struct resource *r)
{
	return r->kind == RESOURCE_TABLE || r->kind == RESOURCE_LOCK;
}

size_t apply_plan(struct netsock *ns, struct netsock *nft, struct plan *plan, const struct observed *observed)
{
	struct applying a = { .ns = ns, .nft = nft, .seen = observed };
	bool would_answer_arp = false, would_be_open = false;
	size_t failed = 0;

	for (size_t i = 0; i < plan->count; i++) {
		struct plan_op *op = &plan->ops[i];
		const struct resource *r = &op->resource;
		struct err err = { 0 };

		if (op->verb == PLAN_CONFLICT) {
			would_answer_arp |= resource_keeps_arp_quiet(r);
			continue;
		}
		if (would_answer_arp && op->verb != PLAN_REMOVE && r->kind == RESOURCE_VIP && r->addr.family == AF_INET)
			op->error =
				err_set(&err, -EPROTO, NULL, "not added, because this host would answer ARP for it");
		else if (would_be_open && op->verb != PLAN_REMOVE && resource_waits_for_lock(r))
			op->error = err_set(&err, -EPROTO, NULL, "not added, because anybody could send into it");
		else
			op->error = run_op(&a, op, &err);
		a.devices_changed |= r->kind == RESOURCE_DEVICE;
		if (op->error == -ENODEV && r->kind == RESOURCE_CONF &&
			iflink_find(observed->links, observed->link_count, r->dev))
			op->error = 0; // unplugged in the meantime: nobody there to answer ARP
		if (!op->error)
			continue;
		char command[RESOURCE_COMMAND_MAX];

		snprintf(op->why, sizeof(op->why), "%.80s: %.70s",
			resource_command(r, op->verb != PLAN_REMOVE, command), err.text);
		if (op->verb != PLAN_REMOVE)
			would_answer_arp |= resource_keeps_arp_quiet(r), would_be_open |= keeps_tunnels_shut(r);
		failed++;
	}
	return failed;
}
