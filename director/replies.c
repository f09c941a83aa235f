// SPDX-License-Identifier: Apache-2.0
#include "director/replies.h"

#include "shared/clock.h"
#include "shared/ifaddr.h"
#include "shared/iflink.h"
#include "shared/log.h"
#include "shared/netsock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <uthash.h>

enum setting { ACCEPT_LOCAL, RP_FILTER, SETTINGS };

static const struct {
	const char *name;
	int key;
	int32_t value;
} settings[SETTINGS] = {
	[ACCEPT_LOCAL] = { "accept_local", IPV4_DEVCONF_ACCEPT_LOCAL, 1 },
	[RP_FILTER] = { "rp_filter", IPV4_DEVCONF_RP_FILTER, 2 },
};

// A device that answers come in by.
struct device {
	UT_hash_handle hh;
	int ifindex; // key
	char name[IFNAMSIZ];
	int32_t conf[SETTINGS]; // its own, as last read
	bool set[SETTINGS];     // by us
	int32_t was[SETTINGS];  // before
	bool heard4, heard6;    // an answer from a VIP came in
};

struct replies {
	struct path *path;
	bool may_set;
	bool (*is_vip)(void *ctx, const struct inet_addr *addr);
	void *ctx;
	struct netsock *requests;
	struct device *devices;
	bool fresh;       // conf of the devices, and what follows, was read
	uint32_t changes; // of path, when it was
	int32_t all[SETTINGS];
	struct ifaddress *addresses;
	size_t address_count;
};

int replies_new(struct path *path, bool may_set, bool (*is_vip)(void *ctx, const struct inet_addr *addr), void *ctx,
	struct replies **ret, struct err *err)
{
	struct replies *replies = calloc(1, sizeof(*replies));
	int rc = replies ? netsock_open(NETLINK_ROUTE, &replies->requests, err)
			 : err_set(err, -ENOMEM, NULL, "out of memory");

	if (rc) {
		free(replies);
		return rc;
	}
	replies->path = path;
	replies->may_set = may_set;
	replies->is_vip = is_vip;
	replies->ctx = ctx;
	*ret = replies;
	return 0;
}

void replies_free(struct replies *replies)
{
	struct device *device, *next;

	if (!replies)
		return;
	HASH_ITER (hh, replies->devices, device, next) {
		HASH_DEL(replies->devices, device);
		free(device);
	}
	netsock_free(replies->requests);
	free(replies->addresses);
	free(replies);
}

// --- what is ---

static int32_t read_all(const char *name)
{
	char path[80], text[16] = "";

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/all/%s", name);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? atoi(text) : 0;
}

static int refresh(struct replies *replies, struct err *err)
{
	_cleanup_free_ struct iflink *links = NULL;
	size_t count = 0;

	if (replies->fresh && replies->changes == path_changes(replies->path))
		return 0;
	int rc = iflink_dump(replies->requests, &links, &count, err);
	if (rc)
		return rc;
	free(replies->addresses);
	replies->addresses = NULL;
	replies->address_count = 0;
	rc = ifaddr_dump(replies->requests, &replies->addresses, &replies->address_count, err);
	if (rc)
		return rc;
	for (int s = 0; s < SETTINGS; s++)
		replies->all[s] = read_all(settings[s].name);
	for (struct device *d = replies->devices, *next; d; d = next) {
		const struct iflink *link = NULL;

		next = d->hh.next;
		for (size_t i = 0; i < count && !link; i++)
			if (links[i].index == d->ifindex)
				link = &links[i];
		if (!link) { // with what was set there
			HASH_DEL(replies->devices, d);
			free(d);
			continue;
		}
		memcpy(d->name, link->name, sizeof(d->name));
		for (int s = 0; s < SETTINGS; s++)
			d->conf[s] = link->conf[settings[s].key];
	}
	replies->fresh = true;
	replies->changes = path_changes(replies->path);
	return 0;
}

static int find_device(struct replies *replies, int ifindex, struct device **ret, struct err *err)
{
	struct device *device = NULL;

	HASH_FIND_INT(replies->devices, &ifindex, device);
	if (!device) {
		device = calloc(1, sizeof(*device));
		if (!device)
			return err_set(err, -ENOMEM, NULL, "out of memory");
		device->ifindex = ifindex;
		HASH_ADD_INT(replies->devices, ifindex, device);
		replies->fresh = false;
	}
	int rc = refresh(replies, err);
	HASH_FIND_INT(replies->devices, &ifindex, device);
	if (!rc && !device)
		rc = err_set(err, -ENODEV, NULL, "the route's device is gone");
	*ret = device;
	return rc;
}

// Has this host the address, on this device or on another?
enum holder { NOBODY, THIS_DEVICE, ANOTHER_DEVICE };

static enum holder holder_of(const struct replies *replies, const struct inet_addr *addr, int ifindex)
{
	enum holder holder = NOBODY;

	for (size_t i = 0; i < replies->address_count; i++) {
		if (inet_addr_cmp(&replies->addresses[i].prefix.addr, addr) != 0)
			continue;
		if (replies->addresses[i].ifindex == ifindex)
			return THIS_DEVICE;
		holder = ANOTHER_DEVICE;
	}
	return holder;
}

// An address of this family that the host has for itself: on the device, or else on any.
static bool own_address(const struct replies *replies, int family, int ifindex, struct inet_addr *ret)
{
	const struct ifaddress *found = NULL;

	for (size_t i = 0; i < replies->address_count; i++) {
		const struct ifaddress *a = &replies->addresses[i];

		if (a->prefix.addr.family != family || a->scope != RT_SCOPE_UNIVERSE ||
			replies->is_vip(replies->ctx, &a->prefix.addr))
			continue;
		if (!found || (a->ifindex == ifindex && found->ifindex != ifindex))
			found = a;
	}
	if (found)
		*ret = found->prefix.addr;
	return found;
}

// --- what shall be ---

static int set(struct replies *replies, struct device *device, enum setting s, struct err *err)
{
	const int32_t was = device->conf[s];
	struct err why = { 0 };

	int rc = replies->may_set
		? iflink_set_conf(replies->requests, device->ifindex, settings[s].key, settings[s].value, &why)
		: -EACCES;
	if (rc)
		return err_set(err, rc, NULL,
			"the answers would be dropped on %s%s%s: sysctl -w net/ipv4/conf/%s/%s=%d", device->name,
			*why.text ? ", and that cannot be changed: " : "", why.text, device->name, settings[s].name,
			settings[s].value);
	if (device->set[s])
		log_warning("%s: %s was %d, put back to %d for checks along the path", device->name, settings[s].name,
			was, settings[s].value);
	else
		log_info("%s: %s set from %d to %d for checks along the path", device->name, settings[s].name, was,
			settings[s].value);
	if (!device->set[s])
		device->was[s] = was;
	device->set[s] = true;
	device->conf[s] = settings[s].value;
	return 0;
}

static int32_t effective(const struct replies *replies, const struct device *device, enum setting s)
{
	return device->conf[s] > replies->all[s] ? device->conf[s] : replies->all[s];
}

static bool is_missing(const struct replies *replies, const struct device *device, enum setting s)
{
	return s == ACCEPT_LOCAL ? effective(replies, device, s) == 0 : effective(replies, device, s) == 1;
}

static int allow(struct replies *replies, struct device *device, const struct inet_addr *vip, struct err *err)
{
	const bool accept = is_missing(replies, device, ACCEPT_LOCAL), loosen = is_missing(replies, device, RP_FILTER);
	const enum holder holder = accept || loosen ? holder_of(replies, vip, device->ifindex) : NOBODY;
	int rc = accept && holder != NOBODY ? set(replies, device, ACCEPT_LOCAL, err) : 0;

	return !rc && loosen && holder == ANOTHER_DEVICE ? set(replies, device, RP_FILTER, err) : rc;
}

int replies_prepare(struct replies *replies, const struct inet_addr *vip, const struct inet_addr *rip,
	struct inet_addr *ret_source, int *ret_ifindex, struct err *err)
{
	struct device *device = NULL;
	struct route_way way;
	int rc = path_way(replies->path, rip, clock_now_ms(), &way, err);

	if (!rc)
		rc = find_device(replies, way.ifindex, &device, err);
	if (rc)
		return rc;
	if (way.source.family != vip->family || replies->is_vip(replies->ctx, &way.source)) {
		if (!own_address(replies, vip->family, way.ifindex, &way.source))
			return err_set(err, -EADDRNOTAVAIL, NULL,
				"this host has no %s address of its own that checks could come from",
				vip->family == AF_INET6 ? "IPv6" : "IPv4");
	}
	rc = vip->family == AF_INET ? allow(replies, device, vip, err) : 0;
	if (rc)
		return rc;
	*ret_source = way.source;
	*ret_ifindex = way.ifindex;
	return 0;
}

bool replies_was_heard(const struct replies *replies, int ifindex, int family)
{
	const struct device *device;

	HASH_FIND_INT(replies->devices, &ifindex, device);
	return device && (family == AF_INET6 ? device->heard6 : device->heard4);
}

void replies_heard(struct replies *replies, int ifindex, int family)
{
	struct device *device;

	HASH_FIND_INT(replies->devices, &ifindex, device);
	if (device && family == AF_INET6)
		device->heard6 = true;
	else if (device)
		device->heard4 = true;
}

void replies_verify(struct replies *replies)
{
	struct err err = { 0 };

	// lost settings are put back at once; why it cannot be done is heard by the next check
	replies->fresh = false;
	if (!replies->devices || refresh(replies, &err))
		return;
	for (struct device *d = replies->devices; d; d = d->hh.next)
		for (enum setting s = 0; s < SETTINGS; s++)
			if (d->set[s] && is_missing(replies, d, s))
				set(replies, d, s, &err);
}

void replies_restore(struct replies *replies)
{
	struct err err = { 0 };

	replies->fresh = false;
	if (!replies->devices || refresh(replies, &err))
		return;
	for (struct device *d = replies->devices; d; d = d->hh.next) {
		for (int s = 0; s < SETTINGS; s++) {
			if (!d->set[s] || d->conf[s] != settings[s].value)
				continue;
			if (iflink_set_conf(replies->requests, d->ifindex, settings[s].key, d->was[s], &err))
				log_warning("%s: %s cannot be put back to %d: %s", d->name, settings[s].name, d->was[s],
					err.text);
			d->set[s] = false;
		}
	}
}

void replies_write(const struct replies *replies, struct out *out)
{
	out_open(out, '{');
	for (const struct device *d = replies->devices; d; d = d->hh.next) {
		if (!*d->name)
			continue;
		out_key(out, d->name);
		out_open(out, '{');
		for (int s = 0; s < SETTINGS; s++) {
			if (!d->set[s])
				continue;
			out_key(out, settings[s].name);
			out_int(out, d->conf[s]);
		}
		out_close(out, '{');
	}
	out_close(out, '{');
}
