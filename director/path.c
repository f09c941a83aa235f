// SPDX-License-Identifier: Apache-2.0
#include "director/path.h"

#include "shared/iflink.h"
#include "shared/loop.h"
#include "shared/netsock.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <uthash.h>

#define KNOWN_MAX 8192u  // addresses; one more, and we begin anew
#define MAX_AGE_MS 10000 // of what is known
#define TELL_PAUSE_MS 20

struct known {
	UT_hash_handle hh;
	struct inet_addr addr; // key
	struct route_way way;  // mtu 0: there is none
	msec_t read_ms;
};

struct path {
	struct netsock *requests, *events;
	uv_poll_t readable;
	uv_timer_t tell;
	int open_handles;
	msec_t next_tell_ms; // not before
	void (*changed)(void *ctx);
	void *ctx;
	struct known *known;
	struct iflink *links; // NULL: not known
	size_t link_count;
	uint32_t changes;
};

static void forget_all(struct path *path)
{
	struct known *known, *next;

	HASH_ITER (hh, path->known, known, next) {
		HASH_DEL(path->known, known);
		free(known);
	}
	free(path->links);
	path->links = NULL;
	path->link_count = 0;
	path->changes++;
}

static void on_tell(uv_timer_t *timer)
{
	struct path *path = timer->data;
	msec_t begun = clock_now_ms();

	path->changed(path->ctx);
	path->next_tell_ms = clock_now_ms() + TELL_PAUSE_MS + 20 * (clock_now_ms() - begun);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct path *path = poll->data;

	(void)events;
	loop_poll_on(poll, status, on_readable);
	// whatever it was: what we know may be wrong now
	netsock_receive(path->events, NULL, NULL);
	forget_all(path);
	if (uv_is_active((uv_handle_t *)&path->tell))
		return;
	const msec_t wait = path->next_tell_ms - clock_now_ms();

	uv_update_time(poll->loop);
	uv_timer_start(&path->tell, on_tell, wait > 0 ? (uint64_t)wait : 0, 0);
}

int path_new(uv_loop_t *loop, void (*changed)(void *ctx), void *ctx, struct path **ret, struct err *err)
{
	static const int groups[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE,
		RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE, 0 };
	struct path *path = calloc(1, sizeof(*path));
	int rc =
		path ? netsock_open(NETLINK_ROUTE, &path->requests, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	if (!rc)
		rc = netsock_subscribe(NETLINK_ROUTE, groups, &path->events, err);
	if (rc) {
		if (path)
			netsock_free(path->requests);
		free(path);
		return rc;
	}
	uv_poll_init(loop, &path->readable, netsock_fd(path->events));
	uv_timer_init(loop, &path->tell);
	path->readable.data = path->tell.data = path;
	path->open_handles = 2;
	path->changed = changed;
	path->ctx = ctx;
	uv_poll_start(&path->readable, UV_READABLE, on_readable);
	*ret = path;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct path *path = handle->data;

	if (--path->open_handles)
		return;
	netsock_free(path->events);
	free(path);
}

void path_free(struct path *path)
{
	if (!path)
		return;
	forget_all(path);
	netsock_free(path->requests);
	uv_close((uv_handle_t *)&path->readable, on_closed);
	uv_close((uv_handle_t *)&path->tell, on_closed);
}

static int device_mtu(struct path *path, int ifindex, uint32_t *ret, struct err *err)
{
	int rc = path->links ? 0 : iflink_dump(path->requests, &path->links, &path->link_count, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < path->link_count; i++) {
		if (path->links[i].index == ifindex) {
			*ret = path->links[i].mtu;
			return 0;
		}
	}
	return err_set(err, -ENODEV, NULL, "the route's device is gone");
}

int path_way(struct path *path, const struct inet_addr *to, msec_t now_ms, struct route_way *ret, struct err *err)
{
	struct known *known = NULL;
	struct route_way way = { 0 };

	HASH_FIND(hh, path->known, to, sizeof(*to), known);
	if (known && now_ms - known->read_ms < MAX_AGE_MS) {
		*ret = known->way;
		return known->way.mtu ? 0 : err_set(err, -ENETUNREACH, NULL, "there is no route");
	}
	int rc = route_lookup(path->requests, to, &way, err);
	if (!rc && !way.mtu)
		rc = device_mtu(path, way.ifindex, &way.mtu, err);
	if (rc)
		way = (struct route_way) { 0 };
	if (!known && HASH_COUNT(path->known) >= KNOWN_MAX)
		forget_all(path);
	if (!known && (known = calloc(1, sizeof(*known)))) {
		known->addr = *to;
		HASH_ADD(hh, path->known, addr, sizeof(known->addr), known);
	}
	if (known) {
		known->way = way;
		known->read_ms = now_ms;
	}
	if (!rc)
		*ret = way;
	return rc;
}

int path_mtu(struct path *path, const struct inet_addr *to, msec_t now_ms, uint32_t *ret, struct err *err)
{
	struct route_way way;
	int rc = path_way(path, to, now_ms, &way, err);

	if (!rc)
		*ret = way.mtu;
	return rc;
}

int path_source(struct path *path, const struct inet_addr *to, msec_t now_ms, struct inet_addr *ret, struct err *err)
{
	struct route_way way;
	int rc = path_way(path, to, now_ms, &way, err);

	if (!rc && !inet_addr_is_set(&way.source))
		rc = -ENETUNREACH;
	if (!rc)
		*ret = way.source;
	return rc;
}

void path_forget(struct path *path, const struct inet_addr *to)
{
	struct known *known = NULL;

	HASH_FIND(hh, path->known, to, sizeof(*to), known);
	if (!known)
		return;
	HASH_DEL(path->known, known);
	free(known);
}

uint32_t path_changes(const struct path *path)
{
	return path->changes;
}
