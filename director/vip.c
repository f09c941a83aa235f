// SPDX-License-Identifier: Apache-2.0
#include "director/vip.h"

#include "director/announce.h"
#include "shared/ifaddr.h"
#include "shared/iflink.h"
#include "shared/log.h"
#include "shared/netsock.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

static const uint64_t announce_delays_ms[] = { 0, 1000, 3000 };

struct held {
	UT_hash_handle hh;
	struct inet_addr addr; // key
	unsigned int services;
	bool owned;
};

// An address that is still to be announced. Lives until its timer is closed.
struct announcement {
	struct announcement *next, **link;
	struct vip *vip;
	uv_timer_t timer;
	struct inet_addr addr;
	size_t step;
};

struct vip {
	uv_loop_t *loop;
	struct netsock *sock; // NULL: "none"
	int ifindex;
	bool is_dummy;
	char device[IFNAMSIZ];
	struct held *held;
	struct announcement *announcements;
};

static int find_device(struct vip *vip, struct iflink **ret_links, size_t *ret_count, struct err *err)
{
	int rc = iflink_dump(vip->sock, ret_links, ret_count, err);
	const struct iflink *link = rc ? NULL : iflink_find(*ret_links, *ret_count, vip->device);

	vip->ifindex = link ? link->index : 0;
	vip->is_dummy = link && strcmp(link->kind, "dummy") == 0;
	return rc;
}

// Finds the device, makes it when there is none, sets it up.
static int prepare_device(struct vip *vip, struct err *err)
{
	struct iflink *links = NULL;
	size_t count = 0;
	int rc = find_device(vip, &links, &count, err);

	free(links);
	if (!rc && !vip->ifindex) {
		rc = iflink_add_dummy(vip->sock, vip->device, err);
		if (rc == -EOPNOTSUPP)
			err_set(err, rc, NULL, "the kernel has no dummy devices: load them with \"modprobe dummy\"");
		if (rc) {
			err_prefix(err, "vip_device");
			err_context(err, "cannot make device %s: ", vip->device);
			return rc;
		}
		log_info("device %s: made as a dummy", vip->device);
		links = NULL;
		rc = find_device(vip, &links, &count, err);
		free(links);
	}
	if (!rc && !vip->ifindex)
		rc = err_set(err, -ENODEV, "vip_device", "device %s vanished", vip->device);
	if (!rc)
		rc = iflink_set_up(vip->sock, vip->ifindex, err);
	return rc;
}

int vip_new(uv_loop_t *loop, const char *device, struct vip **ret, struct err *err)
{
	_cleanup_(vip_free_cleanup) struct vip *vip = calloc(1, sizeof(*vip));

	if (!vip)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	vip->loop = loop;
	if (strcmp(device, "none") != 0) {
		snprintf(vip->device, sizeof(vip->device), "%s", device);
		int rc = netsock_open(NETLINK_ROUTE, &vip->sock, err);
		if (!rc)
			rc = prepare_device(vip, err);
		if (rc)
			return rc;
	}
	*ret = STEAL(vip);
	return 0;
}

static void announcement_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void announcement_end(struct announcement *a)
{
	*a->link = a->next;
	if (a->next)
		a->next->link = a->link;
	uv_close((uv_handle_t *)&a->timer, announcement_closed);
}

static void on_announce(uv_timer_t *timer)
{
	struct announcement *a = timer->data;
	_cleanup_free_ struct iflink *links = NULL;
	char text[INET_ADDR_MAX];
	struct err err = { 0 };
	size_t count = 0;
	int rc = iflink_dump(a->vip->sock, &links, &count, &err);

	if (!rc)
		rc = announce_send(links, count, &a->addr, &err);
	if (rc < 0)
		log_warning("VIP %s: %s", inet_addr_format(&a->addr, text), err.text);
	else
		log_debug("VIP %s: announced from %d devices", inet_addr_format(&a->addr, text), rc);
	if (++a->step == ARRAY_SIZE(announce_delays_ms))
		announcement_end(a);
	else
		uv_timer_start(timer, on_announce, announce_delays_ms[a->step] - announce_delays_ms[a->step - 1], 0);
}

static void announce_soon(struct vip *vip, const struct inet_addr *addr)
{
	struct announcement *a = calloc(1, sizeof(*a));

	if (!a)
		return; // neighbours learn it when they ask
	a->vip = vip;
	a->addr = *addr;
	a->next = vip->announcements;
	a->link = &vip->announcements;
	if (a->next)
		a->next->link = &a->next;
	vip->announcements = a;
	uv_timer_init(vip->loop, &a->timer);
	a->timer.data = a;
	uv_timer_start(&a->timer, on_announce, announce_delays_ms[0], 0);
}

static void copy_addr(struct inet_addr *to, const struct inet_addr *from)
{
	memset(to, 0, sizeof(*to)); // the hash sees padding
	to->family = from->family;
	memcpy(to->bytes, from->bytes, sizeof(to->bytes));
}

static struct held *find(struct vip *vip, const struct inet_addr *addr)
{
	struct inet_addr key;
	struct held *held = NULL;

	copy_addr(&key, addr);
	HASH_FIND(hh, vip->held, &key, sizeof(key), held);
	return held;
}

static struct inet_prefix whole(const struct inet_addr *addr)
{
	return (struct inet_prefix) { *addr, (uint8_t)(inet_addr_len(addr->family) * 8) };
}

// *ret_added: it was not there.
static int add_address(struct vip *vip, const struct inet_addr *addr, bool *ret_added, struct err *err)
{
	const struct inet_prefix prefix = whole(addr);
	char text[INET_ADDR_MAX];

	*ret_added = false;
	if (!vip->sock)
		return 0;
	int rc = ifaddr_add(vip->sock, vip->ifindex, &prefix, err);
	if (rc == -ENODEV) {
		// the device was deleted behind our back: make it again
		rc = prepare_device(vip, err);
		if (!rc)
			rc = ifaddr_add(vip->sock, vip->ifindex, &prefix, err);
	}
	if (rc == -EEXIST)
		return 0;
	if (rc)
		err_context(err, "cannot add VIP %s to %s: ", inet_addr_format(addr, text), vip->device);
	else
		*ret_added = true;
	if (*ret_added && addr->family == AF_INET6 && vip->is_dummy)
		log_warning("VIP %s: is on the dummy device %s, where no neighbour finds it: route it here, or set "
			    "vip_device to "
			    "the device of its segment",
			inet_addr_format(addr, text), vip->device);
	return rc;
}

int vip_hold(struct vip *vip, const struct inet_addr *addr, bool owned_before, bool *ret_owned, struct err *err)
{
	struct held *held = find(vip, addr);
	bool added = false;

	if (!held) {
		int rc = add_address(vip, addr, &added, err);
		if (rc)
			return rc;
		held = calloc(1, sizeof(*held));
		if (!held)
			return err_set(err, -ENOMEM, NULL, "out of memory");
		copy_addr(&held->addr, addr);
		held->owned = vip->sock && (added || owned_before);
		HASH_ADD(hh, vip->held, addr, sizeof(held->addr), held);
		if (added)
			announce_soon(vip, addr);
	}
	held->services++;
	*ret_owned = held->owned;
	return 0;
}

int vip_remove_stale(struct vip *vip, const struct inet_addr *addr, struct err *err)
{
	const struct inet_prefix prefix = whole(addr);

	if (!vip->sock || find(vip, addr))
		return 0;
	int rc = ifaddr_del(vip->sock, vip->ifindex, &prefix, err);

	return rc == -EADDRNOTAVAIL ? 0 : rc;
}

int vip_drop(struct vip *vip, const struct inet_addr *addr, bool *ret_gone, struct err *err)
{
	struct held *held = find(vip, addr);

	*ret_gone = true;
	if (!held)
		return 0;
	if (--held->services) {
		*ret_gone = false;
		return 0;
	}
	bool owned = held->owned;

	HASH_DEL(vip->held, held);
	free(held);
	for (struct announcement *a = vip->announcements, *next; a; a = next) {
		next = a->next;
		if (inet_addr_cmp(&a->addr, addr) == 0)
			announcement_end(a);
	}
	return owned ? vip_remove_stale(vip, addr, err) : 0;
}

int vip_verify(struct vip *vip, struct err *err)
{
	int added_count = 0;

	if (!vip->sock)
		return 0;
	int rc = prepare_device(vip, err);
	if (rc)
		return rc;
	for (struct held *held = vip->held; held; held = held->hh.next) {
		char text[INET_ADDR_MAX];
		bool added = false;

		rc = add_address(vip, &held->addr, &added, err);
		if (rc)
			return rc;
		if (!added)
			continue;
		log_warning("VIP %s: was gone from %s, put back", inet_addr_format(&held->addr, text), vip->device);
		announce_soon(vip, &held->addr);
		added_count++;
	}
	return added_count;
}

void vip_free(struct vip *vip)
{
	if (!vip)
		return;
	while (vip->announcements)
		announcement_end(vip->announcements);
	while (vip->held) {
		struct held *held = vip->held;

		HASH_DEL(vip->held, held);
		free(held);
	}
	netsock_free(vip->sock);
	free(vip);
}
