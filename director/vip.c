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
	bool owned, present;
	bool listed; // in vip->changed
	struct held *next_changed;
};

// Addresses that came at one time and are still to be announced. Lives until its timer is closed.
struct announcement {
	struct announcement *next, **link;
	struct vip *vip;
	uv_timer_t timer;
	struct inet_addr *addrs;
	size_t count, room;
	size_t step;
};

struct vip {
	uv_loop_t *loop;
	struct netsock *sock; // NULL: "none"
	int ifindex;          // 0: the device is away
	bool seen, is_dummy;  // when it was last there
	char device[IFNAMSIZ];
	struct held *held, *changed;
	struct announcement *announcements;
	struct announcement *gathering; // what this settle adds
};

static int find_device(struct vip *vip, struct iflink **ret_links, size_t *ret_count, struct err *err)
{
	int rc = iflink_dump(vip->sock, ret_links, ret_count, err);
	const struct iflink *link = rc ? NULL : iflink_find(*ret_links, *ret_count, vip->device);

	vip->ifindex = link ? link->index : 0;
	vip->seen |= link != NULL;
	if (link)
		vip->is_dummy = strcmp(link->kind, "dummy") == 0;
	return rc;
}

// Finds the device, makes it when there never was one, or a dummy, sets it up.
static int prepare_device(struct vip *vip, struct err *err)
{
	struct iflink *links = NULL;
	size_t count = 0;
	int rc = find_device(vip, &links, &count, err);

	free(links);
	// somebody is about to make it again (ifdown and ifup), and could not in the place of our dummy
	if (!rc && !vip->ifindex && vip->seen && !vip->is_dummy)
		return err_set(
			err, -ENODEV, "vip_device", "device %s is gone; it was no dummy, and is not made", vip->device);
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
		rc = iflink_set_up(vip->sock, vip->ifindex, NULL, err);
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

static struct held *find(const struct vip *vip, const struct inet_addr *addr)
{
	struct held *held = NULL;

	HASH_FIND(hh, vip->held, addr, sizeof(*addr), held);
	return held;
}

static void announcement_closed(uv_handle_t *handle)
{
	struct announcement *a = handle->data;

	free(a->addrs);
	free(a);
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

	for (size_t i = 0; i < a->count && rc >= 0; i++) {
		const struct held *held = find(a->vip, &a->addrs[i]);

		if (held && held->services)
			rc = announce_send(links, count, &a->addrs[i], &err);
		if (rc < 0)
			log_warning("VIP %s: %s", inet_addr_format(&a->addrs[i], text), err.text);
	}
	if (++a->step == ARRAY_SIZE(announce_delays_ms))
		announcement_end(a);
	else
		uv_timer_start(timer, on_announce, announce_delays_ms[a->step] - announce_delays_ms[a->step - 1], 0);
}

// Without memory neighbours learn it when they ask.
static void announce_soon(struct vip *vip, const struct inet_addr *addr)
{
	struct announcement *a = vip->gathering;

	if (!a) {
		a = calloc(1, sizeof(*a));
		if (!a)
			return;
		a->vip = vip;
		a->next = vip->announcements;
		a->link = &vip->announcements;
		if (a->next)
			a->next->link = &a->next;
		vip->announcements = vip->gathering = a;
		uv_timer_init(vip->loop, &a->timer);
		a->timer.data = a;
		uv_timer_start(&a->timer, on_announce, announce_delays_ms[0], 0);
	}
	if (a->count == a->room) {
		size_t room = a->room ? 2 * a->room : 4;
		struct inet_addr *addrs = reallocarray(a->addrs, room, sizeof(*addrs));

		if (!addrs)
			return;
		a->addrs = addrs;
		a->room = room;
	}
	a->addrs[a->count++] = *addr;
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

static void list_changed(struct vip *vip, struct held *held)
{
	if (held->listed)
		return;
	held->listed = true;
	held->next_changed = vip->changed;
	vip->changed = held;
}

int vip_want(struct vip *vip, const struct inet_addr *addr)
{
	struct held *held = find(vip, addr);

	if (!held) {
		held = calloc(1, sizeof(*held));
		if (!held)
			return -ENOMEM;
		held->addr = *addr;
		HASH_ADD(hh, vip->held, addr, sizeof(held->addr), held);
	}
	held->services++;
	list_changed(vip, held);
	return 0;
}

void vip_unwant(struct vip *vip, const struct inet_addr *addr)
{
	struct held *held = find(vip, addr);

	if (!held || !held->services)
		return;
	held->services--;
	list_changed(vip, held);
}

bool vip_is_managed(const struct vip *vip)
{
	return vip->sock;
}

void vip_unwant_all(struct vip *vip)
{
	for (struct held *held = vip->held; held; held = held->hh.next) {
		held->services = 0;
		list_changed(vip, held);
	}
}

bool vip_is_wanted(const struct vip *vip, const struct inet_addr *addr)
{
	const struct held *held = find(vip, addr);

	return held && held->services;
}

void vip_was_owned(struct vip *vip, const struct inet_addr *addr)
{
	struct held *held = find(vip, addr);

	if (held && vip->sock)
		held->owned = true;
}

int vip_settle(struct vip *vip, void (*foreign)(void *ctx, const struct inet_addr *addr), void *ctx, struct err *err)
{
	int rc = 0;

	vip->gathering = NULL;
	for (struct held *held = vip->changed; held && !rc; held = held->next_changed) {
		bool added = false;

		if (!held->services || held->present)
			continue;
		rc = add_address(vip, &held->addr, &added, err);
		if (rc)
			break;
		held->present = true;
		if (added)
			announce_soon(vip, &held->addr);
		if (vip->sock && added)
			held->owned = true;
		if (vip->sock && !held->owned)
			foreign(ctx, &held->addr);
	}
	return rc;
}

int vip_release(struct vip *vip, void (*gone)(void *ctx, const struct inet_addr *addr), void *ctx, struct err *err)
{
	struct held *held = STEAL(vip->changed);
	int rc = 0;

	for (struct held *next; held; held = next) {
		next = held->next_changed;
		held->listed = false;
		if (held->services) {
			if (!held->present)
				list_changed(vip, held);
			continue;
		}
		const struct inet_addr addr = held->addr;
		const bool owned = held->owned && held->present;

		HASH_DEL(vip->held, held);
		free(held);
		int failed = owned ? vip_remove_stale(vip, &addr, err) : 0;
		if (failed)
			rc = failed; // the next start tries again
		else
			gone(ctx, &addr);
	}
	return rc;
}

int vip_remove_stale(struct vip *vip, const struct inet_addr *addr, struct err *err)
{
	const struct inet_prefix prefix = whole(addr);

	if (!vip->sock || find(vip, addr))
		return 0;
	int rc = ifaddr_del(vip->sock, vip->ifindex, &prefix, err);

	return rc == -EADDRNOTAVAIL ? 0 : rc;
}

int vip_verify(struct vip *vip, struct err *err)
{
	int added_count = 0;

	if (!vip->sock)
		return 0;
	int rc = prepare_device(vip, err);
	if (rc)
		return rc;
	vip->gathering = NULL;
	for (struct held *held = vip->held; held; held = held->hh.next) {
		char text[INET_ADDR_MAX];
		bool added = false;

		if (!held->present)
			continue;
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
